//! `commissioner run -- CMD...`: runs what programs a device, and takes in the device that comes out of it.
//!
//! This is the trusted place: whoever runs the command has the device in hand. But an application's log can contain
//! anything, so a run believes in one device with one key. Without a link, the report alone makes that key the device's
//! active one. With a link, the device has to prove the key first, as for `commission --trusted`.

use std::{ffi::OsString, io, os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc, time::Duration};

use cbor_schemas::ProofLevel;
use clap::Args as ClapArgs;
use commissioner::{
    client,
    commission::{other_key, tell},
    discover::{self, Found},
    link::{self, Link},
    progress::{Progress, Step},
    registry::{Observation, Place, Succession},
    report_scanner::Sighting,
    visit,
};
use tokio::{
    signal::unix::{self, SignalKind},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    commissioning::{Done, Role, Work},
    context::Context,
    exit::{CommandError, ExitCode},
};
use crate::steps;
use crate::{
    output::{complain, complain_in_lines},
    program::{self, Program, Signal},
    stop,
};

/// How long after its command ended a signal is taken for the one that ended it.
const ONE_KEYSTROKE: Duration = Duration::from_millis(100);
/// How long a device may take to start, and its port to appear and to be let go of by others.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a board that answered may be lost again, and looked for again: what flashed it may restart it late.
const LOST: u32 = 3;
/// How often it is looked for.
const INTERVAL: Duration = Duration::from_millis(200);

const HELP: &str = "\
The command's output is passed through. A report line in it makes the device's key active, and revokes its older keys.
With --link that waits for the device to prove its key there, and it is commissioned, as by `commission --trusted`:
as soon as it has reported, while the command goes on; or, without a report, when the command has ended.

As cargo's runner, in .cargo/config.toml:
runner = [\"commissioner\", \"run\", \"--link\", \"serial:/dev/ttyACM0\", \"--\", \"probe-rs\", \"run\", \"--chip\", \"rp2040\"]

The exit code is the command's, unless that is 0: then 3 to 6 as everywhere, 6 also if more than one device or key
showed up. 2 if the command cannot be started.";

/// Run a flash or attach command, and take in the device that it programs
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// Where the device will be: commission it there
    #[arg(long, env = "COMMISSIONER_LINK")]
    link: Option<Link>,
    /// Which slot to fill
    #[arg(long = "as", value_enum, default_value_t = Role::Owner)]
    role: Role,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        // All that can be wrong on our side is found out before anything is programmed.
        let progress = steps::beside_a_program(&context.output);
        let work = Work {
            station: Arc::new(context.station().await?),
            place: Place::Trusted,
            accept_new_key: false,
            slot: self.role.into(),
            vouchers: Vec::new().into(),
            seal: None,
            one_device: true,
            progress,
        };
        let mut signals = Signals::listen().map_err(CommandError::internal)?;
        let (mut program, mut reports) = Program::start(&self.command, context.output.is_json())
            .map_err(|error| CommandError::usage(error.to_string()))?;

        let mut run = Run {
            context,
            link: self.link,
            work,
            first: None,
            commissioning: None,
            stopped_by: None,
            alarm: None,
            failure: None,
        };
        let status = loop {
            tokio::select! {
                // A signal that ended the command was there before its end.
                biased;
                signal = signals.next() => {
                    program.signal(signal);
                    run.is_to_stop(signal);
                }
                status = program.wait() => break status.map_err(CommandError::internal)?,
                Some(sighting) = reports.recv() => run.take(sighting).await,
                done = ended(&mut run.commissioning) => run.settle(done).await,
            }
        };
        // Its last words; and those of programs that it left behind, but not against the user's will.
        loop {
            tokio::select! {
                sighting = reports.recv() => match sighting {
                    Some(sighting) => run.take(sighting).await,
                    None => break,
                },
                signal = signals.next() => if run.is_to_stop(signal) { break },
            }
        }
        // The Ctrl-C that ended the command: a terminal sends it to one process after the other.
        if run.commissioning.is_some()
            && let Ok(signal) = timeout(ONE_KEYSTROKE, signals.next()).await
        {
            run.is_to_stop(signal);
        }
        run.after(status.success());
        // The command is gone; what goes on now is ours, and so is a signal.
        while run.commissioning.is_some() {
            tokio::select! {
                done = ended(&mut run.commissioning) => run.settle(done).await,
                signal = signals.next() => run.give_up(signal).await,
            }
        }
        run.end(status)
    }
}

/// One command, and the one device that it may be about.
struct Run<'a> {
    context: &'a Context,
    link: Option<Link>,
    work: Work,
    /// The device that this run is about.
    first: Option<Observation>,
    commissioning: Option<JoinHandle<Ending>>,
    /// The signal that was to stop the command.
    stopped_by: Option<Signal>,
    /// Another device, or another key, showed up.
    alarm: Option<CommandError>,
    failure: Option<CommandError>,
}

/// How commissioning over the link ended.
enum Ending {
    Done(Done, Option<Observation>),
    /// Something else than the device that had reported is at the link.
    Other(Observation),
    Failed(CommandError),
}

impl Run<'_> {
    /// Takes what a line of the output says.
    async fn take(&mut self, Sighting { report, .. }: Sighting) {
        let report = match report {
            Ok(report) => report,
            Err(problem) => return complain(format_args!("a report line is not usable: {problem}")),
        };
        let seen = report.seen(Place::Trusted);
        match &self.first {
            Some(first) if is_same(first, &seen) => return,
            Some(_) => return self.refuse(seen).await,
            None => self.first = Some(seen),
        }
        let thumbprint = report.key.thumbprint().to_string();
        self.work.progress.step(Step::Reported { device: report.device.to_string(), thumbprint });
        match &self.link {
            Some(_) => self.commission(),
            None => self.record(&seen).await,
        }
    }

    /// Takes note of a reported key.
    async fn record(&mut self, seen: &Observation) {
        let registry = &self.work.station.registry;
        let recorded = async {
            let known = registry.device_by_id(&seen.device).await?;
            let succession = registry.observe_key(seen).await?;
            tell(&succession, &seen.key, &self.work.progress);
            if let Some(other_key) = other_key(known.as_ref(), &seen.key, registry.now()) {
                self.work.progress.step(other_key);
            }
            if let Succession::Pending | Succession::Settled { .. } = succession {
                let device = seen.device;
                complain(format_args!(
                    "{device} counts once it has its certificate; `commissioner commission --trusted` gives it one"
                ));
            }
            self.context.json_record(registry, &seen.device).await
        };
        if let Err(error) = recorded.await {
            self.fail(error);
        }
    }

    /// Something does not fit to the device that this run is about. The first time is on record; a log that goes on
    /// like that does not fill the registry.
    async fn refuse(&mut self, seen: Observation) {
        if let (None, Some(first)) = (&self.alarm, &self.first)
            && let Err(alarm) = self.work.station.registry.refuse_second(first, &seen).await
        {
            complain(format_args!("error: {alarm}"));
            self.alarm = Some(CommandError::from(alarm).said_before(""));
        }
    }

    fn fail(&mut self, error: CommandError) {
        complain_in_lines(format_args!("error: {error}"));
        self.failure.get_or_insert(error.said_before(""));
    }

    /// Begins to commission the device at the link, if there is one.
    fn commission(&mut self) {
        if let Some(link) = self.link.clone() {
            self.commissioning = Some(tokio::spawn(commission(link, self.work.clone(), self.first)));
        }
    }

    async fn settle(&mut self, outcome: Ending) {
        self.commissioning = None;
        match outcome {
            Ending::Done(mut done, seen) => {
                self.first = seen.or(self.first);
                if let Some(error) = done.without_list.take() {
                    self.fail(error);
                }
                if !self.context.output.is_json() {
                    return complain(done);
                }
                if let Err(error) = self.context.json_record(&self.work.station.registry, &done.device).await {
                    self.fail(error);
                }
            }
            Ending::Other(seen) => {
                self.refuse(seen).await;
                self.claim().await;
            }
            Ending::Failed(error) => {
                self.fail(error);
                self.claim().await;
            }
        }
    }

    /// Takes note of a report that the device did not live up to: it is no more than any other report.
    async fn claim(&self) {
        let Some(first) = self.first else { return };
        let claim = Observation { place: Place::Elsewhere, ..first };
        if let Err(error) = self.work.station.registry.observe_key(&claim).await {
            complain(error);
        }
    }

    /// Takes note of a signal that was for the command. The second one is for ourselves.
    fn is_to_stop(&mut self, signal: Signal) -> bool {
        let again = self.stopped_by.is_some();
        if signal != Signal::WINCH {
            self.stopped_by.get_or_insert(signal);
        }
        again && signal != Signal::WINCH
    }

    /// The command has ended, and all of its output was looked at.
    fn after(&mut self, success: bool) {
        match (&self.first, &self.link, self.stopped_by) {
            // A command that only flashes says nothing of the device.
            (None, Some(_), None) if success => self.commission(),
            (None, Some(_), Some(signal)) if success => self.stop(signal),
            (None, None, _) if success => complain(
                "the command's output has no report line, so nothing was recorded; give a --link to commission the device",
            ),
            _ => {}
        }
        if self.commissioning.is_some() {
            self.work.progress.working("the command has ended; going on with the device, until Ctrl-C");
        }
    }

    /// A signal when nothing but ourselves is left to end.
    async fn give_up(&mut self, signal: Signal) {
        if signal == Signal::WINCH {
            return;
        }
        if let Some(commissioning) = self.commissioning.take() {
            commissioning.abort();
        }
        self.claim().await;
        self.stop(signal);
    }

    fn stop(&mut self, signal: Signal) {
        let code = u8::try_from(128 + signal.as_raw()).unwrap_or(1);
        let message = "stopped before the device was commissioned; `commissioner commission --trusted` goes on with it";
        self.failure.get_or_insert(CommandError::new(ExitCode::Passed(code), message));
    }

    fn end(self, status: ExitStatus) -> Result<(), CommandError> {
        let problem = self.alarm.or(self.failure);
        if status.success() {
            return problem.map_or(Ok(()), Err);
        }
        let mut message = match (status.code(), status.signal()) {
            (None, Some(signal)) => format!("the command was ended by signal {signal}"),
            _ => format!("the command ended with exit code {}", program::code(status)),
        };
        let ended = message.clone();
        if let Some(problem) = problem {
            message = format!("{message}; besides: {problem}");
        }
        Err(CommandError::new(ExitCode::Passed(program::code(status)), message).said_before(ended))
    }
}

/// The commissioning that is going on, when it has ended.
async fn ended(commissioning: &mut Option<JoinHandle<Ending>>) -> Ending {
    match commissioning {
        Some(task) => task.await.unwrap_or_else(|error| Ending::Failed(CommandError::internal(error))),
        None => std::future::pending().await,
    }
}

/// Commissions the device at `link`, if it is the one that has reported. A board that is lost on the way is waited for again:
/// what was begun is in the journal.
async fn commission(link: Link, work: Work, reported: Option<Observation>) -> Ending {
    let progress = work.progress.on_link(&link);
    let mut lost = 0;
    loop {
        progress.working("looking for the device");
        let found = match reach(&link, &progress).await {
            Ok(found) => found,
            Err(error) => return Ending::Failed(explain(error)),
        };
        let info = found.account.info();
        let seen = found.account.key().map(|key| Observation::new(&info, *key, Place::Trusted, ProofLevel::Unproven));
        match (reported, seen) {
            (Some(reported), Some(seen)) if !is_same(&reported, &seen) => return Ending::Other(seen),
            _ => {}
        }
        match work.commission(found).await {
            Ok(done) => return Ending::Done(done, seen),
            Err(error) if error.exit() == ExitCode::Link && lost < LOST => {
                lost += 1;
                progress.working(format!("{error}; waiting for it to come back"));
            }
            Err(error) => return Ending::Failed(error),
        }
    }
}

/// The device at a link that may be about to start. What the command started and reads the port itself is waited for as long
/// as it does.
async fn reach(link: &Link, progress: &Progress) -> Result<Found, visit::Error> {
    let mut start = Instant::now();
    let mut holder = None;
    loop {
        let now = link.held_by_ours();
        if let Some(program) = &now {
            start = Instant::now();
            if holder != now {
                progress.working(format!("{program}, which the command started, has the port; waiting for its end"));
            }
        }
        holder = now;
        let found = match holder {
            Some(_) => None,
            None => Some(discover::at(link).await),
        };
        match found {
            None => {}
            Some(Err(visit::Error::Client(error))) if may_pass(&error) && start.elapsed() < PATIENCE => {}
            Some(Err(visit::Error::Client(client::Error::NoAnswer { doubts, .. }))) => {
                return Err(client::Error::NoAnswer { waited: start.elapsed(), doubts }.into());
            }
            Some(found) => return found,
        }
        sleep(INTERVAL).await;
    }
}

/// Whether a device that starts may cause this: its port is not there, or not ours yet, or it does not answer.
fn may_pass(error: &client::Error) -> bool {
    use client::Error;
    match error {
        Error::Link(error) => error.may_pass(),
        Error::NoAnswer { .. } | Error::Reset => true,
        Error::Malformed(_) | Error::Changed | Error::TooLarge | Error::TooSlow => false,
    }
}

fn explain(error: visit::Error) -> CommandError {
    let is_in_use = matches!(error, visit::Error::Client(client::Error::Link(link::Error::InUse { .. })));
    let error = CommandError::from(error);
    match is_in_use {
        true => CommandError::new(
            error.exit(),
            format!(
                "{error}; if it is the command itself that reads this port, run it without --link, then `commissioner commission --trusted`"
            ),
        ),
        false => error,
    }
}

/// Whether two sightings are of one device with one key.
fn is_same(one: &Observation, other: &Observation) -> bool {
    one.device == other.device && one.key.x() == other.key.x()
}

/// The signals that we survive, for the command's sake.
struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
    window: unix::Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: stop::take(SignalKind::interrupt())?,
            terminate: stop::take(SignalKind::terminate())?,
            hangup: stop::take(SignalKind::hangup())?,
            window: stop::take(SignalKind::window_change())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.window.recv() => Signal::WINCH,
        }
    }
}
