//! `commissioner console LINK`: what a device says on its serial line, live.
//!
//! The console has the port for itself. Other commands that want it meanwhile are told who has it.

use std::time::Duration;

use clap::Args as ClapArgs;
use commissioner::{
    link::{self, Diagnostics, Link},
    progress::{Progress, Step},
    registry::{self, Place, Registry},
    report_scanner::{Report, ReportScanner, Sighting},
};
use serde::Serialize;
use tokio::time::sleep;

use super::{context::Context, exit::CommandError};
use crate::output::complain;
use crate::steps;
use crate::stop::Stop;

/// How often a port that went away is looked for.
const INTERVAL: Duration = Duration::from_millis(250);

const HELP: &str = "\
Shown are slipmux diagnostic frames, and plain text. A report line is recorded as `reported`. Ctrl-C ends it.
Other commands cannot use the port meanwhile; they say so.";

/// Show what a device says on its serial line, live
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// The serial line
    link: Link,
    /// When the device goes away, wait until it comes back
    #[arg(long)]
    reconnect: bool,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        // From here on: by the first line that is shown, Ctrl-C has to end well.
        let mut stop = Stop::listen().map_err(CommandError::internal)?;
        let (mut line, mut link) = (self.open()?, self.link.clone());
        let mut console = Console {
            context,
            link: String::new(),
            progress: steps::beside_a_program(&context.output),
            registry: context.registry_if_any().await?,
            scanner: ReportScanner::new(),
            first: None,
        };
        console.begin(&link);
        tokio::select! {
            () = stop.requested() => Ok(()),
            failed = async {
                loop {
                    let gone = console.follow(&mut line).await?;
                    if !self.reconnect {
                        return Err(gone.into());
                    }
                    let name = line.close(&link);
                    complain(format_args!("{link}: the device went away; waiting for it to come back, until Ctrl-C"));
                    (line, link) = reopen(name).await?;
                    console.begin(&link);
                }
            } => failed,
        }
    }

    fn open(&self) -> Result<Diagnostics, CommandError> {
        match Diagnostics::open(&self.link) {
            Some(line) => Ok(line?),
            None => Err(CommandError::usage(format!(
                "{} has no diagnostics, only serial lines do; name one: serial:/dev/ttyACM0, say",
                self.link
            ))),
        }
    }
}

/// Waits for a port to be there again, and to be ours: just after it was made it may be neither.
async fn reopen(link: impl Fn() -> Link) -> Result<(Diagnostics, Link), CommandError> {
    loop {
        let link = link();
        match Diagnostics::open(&link) {
            Some(Ok(line)) => return Ok((line, link)),
            Some(Err(error)) if !error.may_pass() => return Err(error.into()),
            Some(Err(_)) | None => sleep(INTERVAL).await,
        }
    }
}

/// What is said, and what becomes of it.
struct Console<'a> {
    context: &'a Context,
    link: String,
    progress: Progress,
    registry: Option<Registry>,
    scanner: ReportScanner,
    /// A line is of one device: what it reports first is recorded, and no more than that.
    first: Option<Report>,
}

/// One line with `--json`.
#[derive(Serialize)]
struct Line<'a> {
    link: &'a str,
    text: &'a str,
}

impl Console<'_> {
    /// A port was opened. The device there may be another one than before.
    fn begin(&mut self, link: &Link) {
        (self.scanner, self.first) = (ReportScanner::new(), None);
        (self.link, self.progress) = (link.to_string(), self.progress.on_link(link));
        self.progress.step(Step::LinkOpened);
    }

    /// Shows what is said until the line fails.
    ///
    /// # Errors
    /// If the registry fails; returns how the line did.
    async fn follow(&mut self, line: &mut Diagnostics) -> Result<link::Error, CommandError> {
        loop {
            let heard = match line.next().await {
                Ok(heard) => heard,
                Err(error) => {
                    self.show(line.rest());
                    return Ok(error);
                }
            };
            let reports = self.scanner.push(heard.bytes);
            self.show(heard.lines);
            for Sighting { report, .. } in reports {
                match report {
                    Ok(report) => self.record(report).await?,
                    Err(problem) => complain(format_args!("{}: the report is not usable: {problem}", self.link)),
                }
            }
        }
    }

    fn show(&self, lines: impl IntoIterator<Item = String>) {
        for text in lines {
            self.context.output.result(&Line { link: &self.link, text: &text }, &text);
        }
    }

    async fn record(&mut self, report: Report) -> Result<(), CommandError> {
        if self.first.as_ref() == Some(&report) {
            return Ok(());
        }
        if self.first.is_some() {
            complain(format_args!(
                "{}: another device, or another key, is reported now; it was not recorded",
                self.link
            ));
            return Ok(());
        }
        let Some(registry) = &self.registry else { return Ok(()) };
        // Recorded first, then said: a Ctrl-C may come in between.
        let recorded = registry.observe_key(&report.seen(Place::Elsewhere)).await;
        self.progress.step(Step::Reported {
            device: report.device.to_string(),
            thumbprint: report.key.thumbprint().to_string(),
        });
        match recorded {
            Err(registry::Error::Conflict(conflict)) => complain(format_args!("{}: {conflict}", self.link)),
            recorded => drop(recorded?),
        }
        self.first = Some(report);
        Ok(())
    }
}
