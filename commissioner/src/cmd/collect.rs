//! `commissioner collect [FILE|-]`: report lines from a log or a stream.
//!
//! What a log says is only claimed: keys are recorded as `reported` and `pending`, and none is revoked for them.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::PathBuf,
};

use cbor_schemas::{DeviceInfo, ProofLevel, report};
use clap::Args as ClapArgs;
use protocol::key::PublicKey;
use serde::Serialize;

use super::Context;
use crate::{
    error::{CommandError, ExitCode},
    progress::short,
    registry::{self, Observation, Place, Registry},
};

/// Longest line that is looked at in one piece, in bytes. A report has 361 at most.
const MAX_LINE: u64 = 64 * 1024;
/// Room for a DeviceInfo, with keys that we do not know.
const MAX_INFO: usize = 2 * DeviceInfo::MAX_LEN;

/// Read report lines from a log or a stream
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The log; - is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let registry = context.registry().await?;
        let mut log: Box<dyn BufRead> = if self.file.as_os_str() == "-" {
            Box::new(io::stdin().lock())
        } else {
            Box::new(BufReader::new(File::open(&self.file).map_err(|error| self.unreadable(&error))?))
        };
        let mut summary = Summary::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut piece = log.as_mut().take(MAX_LINE);
            if piece.read_until(b'\n', &mut line).map_err(|error| self.unreadable(&error))? == 0 {
                break;
            }
            summary.lines += 1;
            summary.take(context, &registry, &String::from_utf8_lossy(&line)).await?;
        }
        context.output.json(&serde_json::json!({ "summary": &summary }));
        context.output.text(&summary);
        summary.into_result()
    }

    fn unreadable(&self, error: &io::Error) -> CommandError {
        CommandError::usage(format!("cannot read {}: {error}; name a file that you can read", self.file.display()))
    }
}

/// What was in the log.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Lines read.
    lines: u64,
    /// Lines with a report that could be read.
    reports: u64,
    /// Reports of keys that are known, or new first keys.
    recorded: u64,
    /// Reports that contradict the registry.
    conflicts: u64,
    /// Lines with a report that could not be read.
    malformed: u64,
    #[serde(skip)]
    last_conflict: String,
}

impl Summary {
    async fn take(&mut self, context: &Context, registry: &Registry, line: &str) -> Result<(), CommandError> {
        let mut buffer = [0; MAX_INFO];
        let found = match report::find(line, &mut buffer) {
            None => return Ok(()),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(info)) => observation(&info),
        };
        let seen = match found {
            Ok(seen) => seen,
            Err(problem) => {
                self.malformed += 1;
                complain(&format!("line {}: the report is not usable: {problem}", self.lines));
                return Ok(());
            }
        };
        self.reports += 1;
        let (id, key) = (seen.device, seen.key.thumbprint().to_string());
        match registry.observe_key(&seen).await {
            Err(registry::Error::Conflict(conflict)) => {
                self.conflicts += 1;
                self.last_conflict = conflict.to_string();
                complain(&format!("line {}: {conflict}", self.lines));
            }
            Err(other) => return Err(other.into()),
            Ok(_) => {
                self.recorded += 1;
                context.output.text(format!("{id} reports key {}", short(&key)));
                if let Some(device) = registry.device_by_id(&id).await?
                    && let Some(key) = device.key(&seen.key)
                {
                    context.output.json(&device.record(key));
                }
            }
        }
        Ok(())
    }

    fn into_result(self) -> Result<(), CommandError> {
        match self.conflicts {
            0 => Ok(()),
            1 => Err(CommandError::new(ExitCode::Conflict, self.last_conflict)),
            n => Err(CommandError::new(
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

fn observation(info: &DeviceInfo<'_>) -> Result<Observation, String> {
    let credential = info.credential.ok_or("the device has no key (condition fault); erase it and start it again")?;
    let key = PublicKey::from_cose(&credential).map_err(|error| error.to_string())?;
    Ok(Observation::new(info, key, Place::Elsewhere, ProofLevel::Unproven))
}

fn complain(problem: &str) {
    // Nobody can be told that standard error is gone.
    let _ = writeln!(io::stderr(), "{problem}");
}
