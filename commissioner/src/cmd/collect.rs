//! `commissioner collect [FILE|-]`: report lines from a log or a stream.
//!
//! What a log says is only claimed: keys are recorded as `reported` and `pending`, and none is revoked for them.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use clap::Args as ClapArgs;
use serde::Serialize;

use super::{Context, complain};
use crate::{
    error::{CommandError, ExitCode},
    progress::short,
    registry::{self, Place, Registry},
    report_scanner::{ReportScanner, Sighting},
};

/// Bytes of a log that are in memory at a time.
const PIECE: usize = 64 * 1024;

const HELP: &str = "\
Text and captured serial lines alike; colours, timestamps and noise do not matter. What a log says is recorded as
`reported`: anybody could have written it. Exit code 3 if there is no report in it.";

/// Read report lines from a log or a stream
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// The log; - is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let registry = context.registry().await?;
        let mut log: Box<dyn Read> = match self.is_stdin() {
            true => Box::new(io::stdin().lock()),
            false => Box::new(File::open(&self.file).map_err(|error| self.unreadable(&error))?),
        };
        let mut summary = Summary::default();
        let mut scanner = ReportScanner::new();
        let mut piece = vec![0; PIECE];
        loop {
            let read = match log.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|error| self.unreadable(&error))?,
            };
            for sighting in scanner.push(&piece[..read]) {
                summary.take(context, &registry, sighting).await?;
            }
            if read == 0 {
                break;
            }
        }
        if let Some(sighting) = scanner.finish() {
            summary.take(context, &registry, sighting).await?;
        }
        summary.lines = scanner.lines();
        context.output.json(&serde_json::json!({ "summary": &summary }));
        context.output.text(&summary);
        summary.into_result(&self.name())
    }

    fn is_stdin(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    fn name(&self) -> String {
        if self.is_stdin() { "standard input".to_owned() } else { self.file.display().to_string() }
    }

    fn unreadable(&self, error: &io::Error) -> CommandError {
        CommandError::usage(format!("cannot read {}: {error}; name a file that you can read", self.name()))
    }
}

/// What was in the log.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Lines read.
    lines: u64,
    /// Reports that could be read.
    reports: u64,
    /// Reports of keys that are known, or new first keys.
    recorded: u64,
    /// Reports that contradict the registry.
    conflicts: u64,
    /// Reports that could not be read.
    malformed: u64,
    #[serde(skip)]
    last_conflict: String,
}

impl Summary {
    async fn take(
        &mut self,
        context: &Context,
        registry: &Registry,
        Sighting { line, report }: Sighting,
    ) -> Result<(), CommandError> {
        let report = match report {
            Ok(report) => report,
            Err(problem) => {
                self.malformed += 1;
                complain(format_args!("line {line}: the report is not usable: {problem}"));
                return Ok(());
            }
        };
        self.reports += 1;
        match registry.observe_key(&report.seen(Place::Elsewhere)).await {
            Err(registry::Error::Conflict(conflict)) => {
                self.conflicts += 1;
                self.last_conflict = conflict.to_string();
                complain(format_args!("line {line}: {conflict}"));
            }
            Err(other) => return Err(other.into()),
            Ok(_) => {
                self.recorded += 1;
                let key = report.key.thumbprint().to_string();
                context.output.text(format_args!("{} reports key {}", report.device, short(&key)));
                if let Some(device) = registry.device_by_id(&report.device).await?
                    && let Some(key) = device.key(&report.key)
                {
                    context.output.json(&device.record(key));
                }
            }
        }
        Ok(())
    }

    fn into_result(self, log: &str) -> Result<(), CommandError> {
        match (self.reports, self.conflicts) {
            (0, _) => Err(CommandError::new(
                ExitCode::NoDevice,
                format!(
                    "{log} has no report line that can be used; a device prints one at its start, so begin the log there"
                ),
            )),
            (_, 0) => Ok(()),
            (_, 1) => Err(CommandError::new(ExitCode::Conflict, self.last_conflict)),
            (_, n) => Err(CommandError::new(
                ExitCode::Conflict,
                format!("{n} reports contradict the registry; the last one: {}", self.last_conflict),
            )),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lines, reports, recorded, conflicts, malformed, .. } = self;
        write!(
            f,
            "{lines} lines, {reports} reports: {recorded} recorded, {conflicts} in conflict; {malformed} malformed"
        )
    }
}
