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
use commissioner::{
    progress::short,
    registry::{self, Conflict, Place, Registry},
    report_scanner::{Report, ReportScanner, Sighting},
    text,
    text_file::TextFile,
};
use serde::Serialize;

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
};
use crate::log_time::LogTime;
use crate::output::complain;

/// Bytes of a log that are in memory at a time.
const PIECE: usize = 64 * 1024;

const HELP: &str = "\
Text and captured serial lines alike, also in UTF-16, from any line on, or compressed by gzip; colours, timestamps, noise and
folded lines do not matter. A compressed log that is cut or damaged is read as far as it goes, and that is told. What a log says is
recorded as `reported`: anybody could have written it. Devices were seen when the log's timestamps say so, or else when the log
was written to for the last time. Exit code 3 if there is no report in it.";

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
            let opened = if path.as_os_str() == "-" { TextFile::stdin() } else { TextFile::open(path) };
            let read = match opened {
                Ok(file) => log.read(file).await,
                Err(error) => Err(log.unreadable(&error)),
            };
            total.add(&log.summary);
            failures.extend(read.and_then(|()| log.verdict()).err());
        }
        context.output.json(&serde_json::json!({ "summary": &total }));
        context.output.text(&total);
        match failures.first().map(CommandError::exit) {
            None => Ok(()),
            Some(_) if !several => failures.pop().map_or(Ok(()), Err),
            Some(first) => {
                let message = "not all logs could be taken as they are; see to these";
                Err(CommandError::new(first, message).with_candidates(failures.iter().map(CommandError::to_string)))
            }
        }
    }
}

/// One log. What is said of it has its name.
struct Log<'a> {
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
    fn new(path: &Path, several: bool, context: &'a Context, registry: &'a Registry) -> Self {
        let name = match path.to_str() {
            Some("-") => "standard input".to_owned(),
            _ => path.display().to_string(),
        };
        let prefix = if several { format!("{name}, ") } else { String::new() };
        let (summary, conflicts) = (Summary::default(), BTreeSet::new());
        Self { name, prefix, context, registry, summary, conflicts, held: None }
    }

    async fn read(&mut self, mut log: TextFile) -> Result<(), CommandError> {
        let (mut scanner, mut time) = (ReportScanner::new(), LogTime::in_local_zone());
        let mut piece = vec![0; PIECE];
        loop {
            let read = match log.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // What is there was read, and is worth as much as without that.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let warning = format!("{} was not read to its end: {error}", self.name);
                    self.context.output.json(&serde_json::json!({ "warning": &warning }));
                    complain(warning);
                    0
                }
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
            self.summary.lines = scanner.lines();
            if read == 0 {
                break;
            }
        }
        if let Some(sighting) = scanner.finish() {
            self.take(sighting, &time).await?;
        }
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

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use cbor_schemas::report;
    use flate2::{Compression, write::GzEncoder};
    use serde_json::Value;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        cmd::init,
        output::{Output, tests::Shared},
        testing,
    };
    use commissioner::clock::Clock;

    /// A state directory, logs, and what is said of them.
    struct Desk {
        context: Context,
        said: Shared,
        scratch: TempDir,
    }

    impl Desk {
        async fn new(json: bool) -> Self {
            let (scratch, said) = (tempfile::tempdir().unwrap(), Shared::default());
            let output = Output::new(json, Box::new(said.clone()));
            let context = Context::on_desk(scratch.path(), output, Clock::manual(testing::NOON));
            init::initialise(&context.state_path().unwrap(), context.clock.clone()).await.unwrap();
            Self { context, said, scratch }
        }

        fn write(&self, name: &str, log: &[u8]) -> PathBuf {
            let path = self.scratch.path().join(name);
            fs::write(&path, log).unwrap();
            path
        }

        /// What is said, and how it ends.
        async fn collect(&self, files: &[&PathBuf]) -> (Vec<Value>, Result<(), CommandError>) {
            self.said.0.lock().unwrap().clear();
            let files = files.iter().map(|file| (*file).clone()).collect();
            let ended = Args { files }.run(&self.context).await;
            let said = String::from_utf8(self.said.0.lock().unwrap().clone()).unwrap();
            (said.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), ended)
        }
    }

    fn log(name: &str) -> String {
        let mut report = String::new();
        report::write(&testing::info(&testing::id(name), &testing::key()), &mut report).unwrap();
        format!("boot\n{report}\n{}", "more\n".repeat(1_000))
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// Half a log is a log, and what is missing is said.
    #[tokio::test]
    async fn what_is_there_of_a_cut_or_padded_log_is_collected_and_that_is_told() {
        let desk = Desk::new(true).await;
        let (cut, padded) = (gzip(&log("cut")), [gzip(&log("padded")), vec![0; 512]].concat());
        for (log, words) in [(&cut[..cut.len() - 9], "cut off"), (&padded, "something else")] {
            let file = desk.write("log.gz", log);
            let (said, ended) = desk.collect(&[&file]).await;
            ended.unwrap();
            let summary = &said.last().unwrap()["summary"];
            assert_eq!((&summary["reports"], &summary["recorded"]), (&1.into(), &1.into()), "{said:?}");
            assert!(summary["lines"].as_u64().unwrap() > 500, "{summary}");
            let warning = said.iter().find_map(|line| line["warning"].as_str()).unwrap();
            assert!(warning.contains(words) && warning.contains("log.gz"), "{warning}");
        }
        // What has nothing in it is no log.
        let nothing = desk.write("nothing.gz", &cut[..12]);
        let (said, ended) = desk.collect(&[&nothing]).await;
        assert_eq!(ended.unwrap_err().exit(), ExitCode::NoDevice);
        assert!(said.iter().any(|line| line["warning"].as_str().is_some_and(|it| it.contains("cut off"))), "{said:?}");
    }

    #[tokio::test]
    async fn of_several_logs_each_complaint_names_its_own_once() {
        let desk = Desk::new(true).await;
        let (good, empty) = (desk.write("good", log("a").as_bytes()), desk.write("empty", b"boot\n"));
        let (contrary, missing) = (desk.write("contrary", log("a").as_bytes()), desk.scratch.path().join("missing"));
        let (said, ended) = desk.collect(&[&good, &empty, &contrary, &missing]).await;
        let ended = ended.unwrap_err();
        assert_eq!(ended.exit(), ExitCode::NoDevice, "the first one counts");
        let told = ended.to_string();
        let lines: Vec<_> = told.lines().skip(1).collect();
        assert_eq!(lines.len(), 3, "{told}");
        for (line, path) in lines.iter().zip([&empty, &contrary, &missing]) {
            let path = path.display().to_string();
            assert_eq!(line.matches(&path).count(), 1, "{line}");
        }
        assert!(lines[1].contains("contrary, line 2: "), "{told}");
        assert_eq!(said.last().unwrap()["summary"]["reports"], 2);
        // One alone says it, too.
        for (file, words) in [(&empty, "empty has no report"), (&missing, "cannot read"), (&contrary, "line 2: ")] {
            let told = desk.collect(&[file]).await.1.unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        }
    }
}
