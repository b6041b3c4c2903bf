//! `commissioner collect [FILE|-]...`: report lines from logs or a stream.
//!
//! What a log says is only claimed: keys are recorded as `reported` and `pending`, and none is revoked for them.

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::Args as ClapArgs;
use serde::Serialize;

use super::{Context, complain};
use crate::{
    error::{CommandError, ExitCode},
    log_time::LogTime,
    progress::short,
    registry::{self, Conflict, Place, Registry},
    report_scanner::{Report, ReportScanner, Sighting},
    text,
    text_file::TextFile,
};

/// Bytes of a log that are in memory at a time.
const PIECE: usize = 64 * 1024;

const HELP: &str = "\
Text and captured serial lines alike, also in UTF-16, or compressed by gzip; colours, timestamps, noise and folded lines do
not matter. What a log says is recorded as `reported`: anybody could have written it. Devices were seen when the log's
timestamps say so, or else when the log was written to for the last time. Exit code 3 if there is no report in it.";

/// Read report lines from logs or a stream
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// The logs; - is standard input
    #[arg(default_value = "-", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Args {
    /// Runs the command. A log that fails does not stop the others; the first one decides the exit code.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let registry = context.registry().await?;
        let several = self.files.len() > 1;
        let (mut total, mut failures) = (Summary::default(), Vec::new());
        for path in &self.files {
            let mut log = Log::new(path, several, context, &registry);
            let read = log.read().await;
            total.add(&log.summary);
            if let Err(error) = read.and_then(|()| log.verdict()) {
                failures.push((log.name, error));
            }
        }
        context.output.json(&serde_json::json!({ "summary": &total }));
        context.output.text(&total);
        let first = match failures.first() {
            None => return Ok(()),
            Some(_) if !several => return failures.pop().map_or(Ok(()), |(_, error)| Err(error)),
            Some((_, first)) => first.exit(),
        };
        let failures = failures.iter().map(|(log, error)| format!("{log}: {error}"));
        Err(CommandError::new(first, "not all logs could be taken as they are; see to these").with_candidates(failures))
    }
}

/// One log.
struct Log<'a> {
    path: &'a Path,
    name: String,
    /// What stands before the number of a line, where there are several logs.
    prefix: String,
    context: &'a Context,
    registry: &'a Registry,
    summary: Summary,
    /// The keys that contradict the registry, and whose they are said to be: a log may say it at every start of a device.
    conflicts: BTreeSet<(String, String)>,
    /// The first of them, until there is another one: then all are said where they occur.
    held: Option<String>,
}

impl<'a> Log<'a> {
    fn new(path: &'a Path, several: bool, context: &'a Context, registry: &'a Registry) -> Self {
        let name = match path.to_str() {
            Some("-") => "standard input".to_owned(),
            _ => path.display().to_string(),
        };
        let prefix = if several { format!("{name}, ") } else { String::new() };
        let (summary, conflicts) = (Summary::default(), BTreeSet::new());
        Self { path, name, prefix, context, registry, summary, conflicts, held: None }
    }

    async fn read(&mut self) -> Result<(), CommandError> {
        let opened = if self.path.as_os_str() == "-" { TextFile::stdin() } else { TextFile::open(self.path) };
        let mut log = opened.map_err(|error| self.unreadable(&error))?;
        let (mut scanner, mut time) = (ReportScanner::new(), LogTime::in_local_zone());
        let mut piece = vec![0; PIECE];
        loop {
            let read = match log.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|error| self.unreadable(&error))?,
            };
            let now = self.registry.now();
            let written = log.written().map_or(now, |written| written.min(now));
            for bytes in piece.get(..read).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
                time.push(bytes, written);
                for sighting in scanner.push(bytes) {
                    self.take(sighting, &time).await?;
                }
                time.end_line(bytes);
            }
            if read == 0 {
                break;
            }
        }
        if let Some(sighting) = scanner.finish() {
            self.take(sighting, &time).await?;
        }
        self.summary.lines = scanner.lines();
        Ok(())
    }

    fn unreadable(&self, error: &io::Error) -> CommandError {
        CommandError::usage(format!("cannot read {}: {error}; name a file that you can read", self.name))
    }

    async fn take(&mut self, Sighting { line, report }: Sighting, time: &LogTime) -> Result<(), CommandError> {
        let report = match report {
            Ok(report) => report,
            Err(problem) => {
                self.summary.malformed += 1;
                complain(format_args!("{}line {line}: the report is not usable: {problem}", self.prefix));
                return Ok(());
            }
        };
        self.summary.reports += 1;
        match self.registry.observe_key_at(&report.seen(Place::Elsewhere), time.now()).await {
            Err(registry::Error::Conflict(conflict)) => {
                self.summary.conflicts += 1;
                self.contradiction(line, &report, &conflict);
                Ok(())
            }
            Err(other) => Err(other.into()),
            Ok(_) => self.recorded(&report).await,
        }
    }

    async fn recorded(&mut self, report: &Report) -> Result<(), CommandError> {
        self.summary.recorded += 1;
        let key = report.key.thumbprint().to_string();
        self.context.output.text(format_args!("{} reports key {}", report.device, short(&key)));
        if let Some(device) = self.registry.device_by_id(&report.device).await?
            && let Some(key) = device.key(&report.key)
        {
            self.context.output.json(&device.record(key));
        }
        Ok(())
    }

    /// Says what contradicts the registry, once. If there is one such thing in the log, that is how the command ends.
    fn contradiction(&mut self, line: u64, report: &Report, conflict: &Conflict) {
        if !self.conflicts.insert((report.device.to_string(), report.key.thumbprint().to_string())) {
            return;
        }
        let said = format!("{}line {line}: {conflict}", self.prefix);
        match (self.conflicts.len(), self.held.take()) {
            (1, _) => self.held = Some(said),
            (_, first) => first.into_iter().chain([said]).for_each(|said| {
                self.context.output.json(&serde_json::json!({ "conflict": &said }));
                complain(said);
            }),
        }
    }

    fn verdict(&mut self) -> Result<(), CommandError> {
        if self.summary.reports == 0 {
            let message = format!(
                "{} has no report line that can be used; a device prints one at its start, so begin the log there",
                self.name
            );
            return Err(CommandError::new(ExitCode::NoDevice, message));
        }
        match (self.held.take(), self.conflicts.len()) {
            (None, 0) => Ok(()),
            (Some(one), _) => Err(CommandError::new(ExitCode::Conflict, one)),
            (None, several) => Err(CommandError::new(
                ExitCode::Conflict,
                format!("{} contradicts the registry in {several} ways, told above; see to each of them", self.name),
            )),
        }
    }
}

/// What was in the logs.
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
}

impl Summary {
    fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.reports += other.reports;
        self.recorded += other.recorded;
        self.conflicts += other.conflicts;
        self.malformed += other.malformed;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lines, reports, recorded, conflicts, malformed } = self;
        let (lines, reports) = (text::count(*lines, "line", "lines"), text::count(*reports, "report", "reports"));
        write!(f, "{lines}, {reports}: {recorded} recorded, {conflicts} in conflict; {malformed} malformed")
    }
}
