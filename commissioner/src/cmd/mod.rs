//! The command line: one file per command, each an argument struct that can `run`.

use std::{
    ffi::OsStr,
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use cbor_schemas::DeviceId;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, builder::Resettable};
use protocol::key::PublicKey;
use tokio::time::timeout;

use self::secret::Unlock;
use crate::{
    clock::Clock,
    cmd::exit::CommandError,
    escrow::OpenWith,
    files, hsm,
    issuer::Issuer,
    keys,
    link::{self, Link},
    output::{Output, complain},
    progress::Progress,
    registry::{self, Closer, DeviceRef, EmptyName, Registry},
    state_dir::{MAX_KEY_FILE, Protection, StateDir},
    visit::{InstalledToken, Station},
};

pub mod audit;
pub mod backup;
pub mod clock;
pub mod collect;
pub mod commission;
pub mod completions;
mod confirm;
pub mod console;
pub mod devices;
pub mod discover;
pub mod distribute;
pub mod exit;
pub mod export;
pub mod get;
pub mod identify;
pub mod import;
pub mod init;
pub mod issuer;
pub mod nickname;
pub mod policy;
pub mod put;
pub mod rekey;
pub mod reset;
pub mod restore;
pub mod revoke;
pub mod run;
mod secret;
pub mod serve;
pub mod show;
pub mod station;
pub mod transfer;
pub mod verify;
pub mod voucher;

/// Commission constrained devices over a cable, and keep the list "my devices".
#[derive(Debug, Parser)]
#[command(name = "commissioner", version, after_help = HELP)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const HELP: &str = "\
LINK is serial:PATH[@BAUD] or udp:ADDR[%IF][:PORT]; left out, exactly one device must answer.
DEVICE is an ID, its beginning or its end (24be), the beginning of its distinctive part, the beginning of a key's thumbprint, or a
nickname: four characters at least, but for nicknames, and of one device alone. Upper and lower case are the same.

Exit codes: 0 done; 1 internal; 2 usage; 3 no device, or ambiguous; 4 link failed or timed out;
5 the device refused, or authentication failed; 6 conflict with the registry. `run` passes on the code of its command.";

/// Options that every command has.
#[derive(Debug, Args)]
struct Global {
    /// JSON Lines on standard output, and nothing else there
    #[arg(long, global = true)]
    json: bool,
    /// Where keys and registry are [default: the XDG state directory]
    #[arg(long, global = true, value_name = "DIR", env = "COMMISSIONER_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Use the state directory although modes do not keep others out of it, or although it is not root's
    #[arg(long, global = true)]
    insecure_state_dir: bool,
    #[command(flatten)]
    unlock: Unlock,
    /// Sign although the clock is more than a day ahead of the last signature
    #[arg(long, global = true)]
    clock_ok: bool,
    /// Answer yes where something that cannot be undone is asked for
    #[arg(long, global = true)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the issuer key, the station key and the registry; again, it says so and changes nothing
    Init(init::Args),
    /// List serial ports and USB network links, and which devices answer
    Discover(discover::Args),
    /// Make a device one of "my devices"
    Commission(commission::Args),
    /// List "my devices"
    Devices(devices::Args),
    /// Show everything known about a device: keys, certificates, provenance, history
    Show(show::Args),
    /// Give a device a name for people, or take it away
    Nickname(nickname::Args),
    /// Say what is to happen when a device shows up without its key
    Policy(policy::Args),
    /// Revoke a device's active key
    Revoke(revoke::Args),
    /// Put the signed list of "my devices" on devices
    Distribute(distribute::Args),
    /// Write the list for other programs
    Export(export::Args),
    /// Merge another state directory's export
    Import(import::Args),
    /// Show what happened, verify it, or seal it
    Audit(audit::Args),
    /// Show what time is believed, and what follows; believe a clock again that was ahead
    Clock(clock::Args),
    /// Read report lines from a log or a stream
    Collect(collect::Args),
    /// Run a flash or attach command, and take in the device that it programs
    Run(run::Args),
    /// Show what a device says on its serial line, live
    Console(console::Args),
    /// GET a resource under EDHOC and show its payload as CBOR diagnostic notation
    Get(get::Args),
    /// PUT a resource under EDHOC
    Put(put::Args),
    /// Let a device blink
    Identify(identify::Args),
    /// Let a device make a new key
    Rekey(rekey::Args),
    /// Empty a device's owner slot
    Reset(reset::Args),
    /// Give a device its former key again
    Restore(restore::Args),
    /// Let a new owner claim a device that you made
    Voucher(voucher::Args),
    /// Hand a device on to another owner
    Transfer(transfer::Args),
    /// Check whose product a device is
    Verify(verify::Args),
    /// Manage the stations that may act for this issuer
    Station(station::Args),
    /// Show or export the anchor to publish; sign what stations ask for
    Issuer(issuer::Args),
    /// Serve the signed list and the token revocation list to a network of devices
    Serve(serve::Args),
    /// Write a backup: the keys and the registry, sealed by a passphrase
    Backup(backup::BackupArgs),
    /// Put a backup back
    RestoreBackup(backup::RestoreArgs),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

impl Cli {
    /// What the command line says.
    ///
    /// # Errors
    /// What is wrong with it; or the help that it asks for.
    pub fn from_command_line() -> Result<Self, clap::Error> {
        Self::from_arg_matches(&without_empty_variables(Self::command()).try_get_matches()?)
    }

    /// Whether `--json` was given.
    pub fn json(&self) -> bool {
        self.global.json
    }

    /// Does what the command line asks for.
    pub async fn run(self, output: Output) -> Result<(), CommandError> {
        let context = Context {
            progress: Progress::for_output(&output),
            output,
            clock: Clock::System,
            clock_ok: self.global.clock_ok,
            yes: self.global.yes,
            unlock: self.global.unlock,
            protection: match self.global.insecure_state_dir {
                true => Protection::Waived,
                false => Protection::Required,
            },
            state_dir: self.global.state_dir,
            opened: Mutex::default(),
        };
        let ended = self.command.run(&context).await;
        context.close().await;
        ended
    }
}

impl Command {
    async fn run(self, context: &Context) -> Result<(), CommandError> {
        match self {
            Self::Init(args) => args.run(context).await,
            Self::Discover(args) => args.run(context).await,
            Self::Commission(args) => args.run(context).await,
            Self::Devices(args) => args.run(context).await,
            Self::Show(args) => args.run(context).await,
            Self::Nickname(args) => args.run(context).await,
            Self::Policy(args) => args.run(context).await,
            Self::Revoke(args) => args.run(context).await,
            Self::Distribute(args) => args.run(context).await,
            Self::Export(args) => args.run(context).await,
            Self::Import(args) => args.run(context).await,
            Self::Audit(args) => args.run(context).await,
            Self::Clock(args) => args.run(context).await,
            Self::Collect(args) => args.run(context).await,
            Self::Run(args) => args.run(context).await,
            Self::Console(args) => args.run(context).await,
            Self::Get(args) => args.run(context).await,
            Self::Put(args) => args.run(context).await,
            Self::Identify(args) => args.run(context).await,
            Self::Rekey(args) => args.run(context).await,
            Self::Reset(args) => args.run(context).await,
            Self::Restore(args) => args.run(context).await,
            Self::Voucher(args) => args.run(context).await,
            Self::Transfer(args) => args.run(context).await,
            Self::Verify(args) => args.run(context).await,
            Self::Station(args) => args.run(context).await,
            Self::Issuer(args) => args.run(context).await,
            Self::Serve(args) => args.run(context).await,
            Self::Backup(args) => args.run(context).await,
            Self::RestoreBackup(args) => args.run(context).await,
            Self::Completions(args) => args.run(context),
        }
    }
}

/// A variable of the environment that is set, but empty, is none.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let without = |arg: clap::Arg| if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::Reset) } else { arg };
    command.mut_args(without).mut_subcommands(without_empty_variables)
}

/// How long the end of a command waits for a registry that somebody still holds.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the commands share.
pub struct Context {
    /// Standard output.
    pub output: Output,
    /// The stream of steps.
    pub progress: Progress,
    /// The time of day.
    pub clock: Clock,
    /// `--clock-ok`.
    pub clock_ok: bool,
    /// `--yes`.
    yes: bool,
    /// What unlocks the issuer's key.
    unlock: Unlock,
    /// `--insecure-state-dir`.
    pub protection: Protection,
    state_dir: Option<PathBuf>,
    /// The registries that were opened.
    opened: Mutex<Vec<Closer>>,
}

impl Context {
    /// Where the state directory is or would be.
    pub fn state_path(&self) -> Result<PathBuf, CommandError> {
        match &self.state_dir {
            Some(path) => Ok(path.clone()),
            None => Ok(StateDir::default_path()?),
        }
    }

    /// The state directory; exit code 2 if there is none yet.
    pub fn state_dir(&self) -> Result<StateDir, CommandError> {
        Ok(StateDir::open_as(&self.state_path()?, self.protection)?)
    }

    /// The registry; exit code 2 if there is none yet.
    pub async fn registry(&self) -> Result<Registry, CommandError> {
        Ok(self.open(&self.state_dir()?).await?)
    }

    /// The registry in `dir`. It is closed at the end of the command.
    async fn open(&self, dir: &StateDir) -> Result<Registry, registry::Error> {
        let registry = Registry::open(dir, self.clock.clone(), self.clock_ok).await?;
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(registry.closer());
        Ok(registry)
    }

    /// Closes the registries that were opened, unless somebody who was left behind holds on to one.
    async fn close(&self) {
        let opened = std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        let closing = async {
            for closer in opened {
                closer.close().await;
            }
        };
        let _ = timeout(PATIENCE, closing).await;
    }

    /// The record of a device's current key, with `--json`.
    pub async fn json_record(&self, registry: &Registry, id: &DeviceId) -> Result<(), CommandError> {
        if let Some(device) = registry.device_by_id(id).await?
            && let Some(key) = device.current()
        {
            self.output.json(&device.record(key));
        }
        Ok(())
    }

    /// Who this commissioner is to devices that are ours.
    pub async fn station(&self) -> Result<Station, CommandError> {
        self.station_with(self.registry().await?)
    }

    /// ... with a registry that is open already.
    fn station_with(&self, registry: Registry) -> Result<Station, CommandError> {
        let (issuer, key, dir) = (self.issuer()?, self.station_key()?, self.state_dir()?);
        let token = match issuer.signs() {
            true => None,
            false => installed_token(&dir)?.and_then(|it| InstalledToken::new(it, registry.issuer(), key.public())),
        };
        Ok(Station { registry, issuer, key, token })
    }

    /// The issuer that signs for this state directory; at a station it signs elsewhere.
    pub fn issuer(&self) -> Result<Issuer, CommandError> {
        let dir = self.state_dir()?;
        if !dir.issuer_anchor().exists() {
            let (path, key) = (dir.issuer_key(), keys::load_as(&dir.issuer_key(), dir.protection())?);
            return Ok(Issuer::new(keys::IssuerKey::new(&key).ok_or(keys::Error::NotAKey(path))?));
        }
        let public = keys::issuer_of(&dir, dir.protection())?;
        let (in_hsm, sealed) = (dir.issuer_in_hsm(), dir.sealed_issuer_key());
        if in_hsm.exists() {
            let place = hsm::Place::read(&in_hsm)?;
            self.unlock.may_load(&dir, &place)?;
            let key = hsm::Key::open(&place, self.unlock.pin(&place)?)?;
            return match *key.public() == public {
                true => Ok(Issuer::new(keys::IssuerKey::in_hsm(key))),
                false => Err(hsm::Error::OtherKey.into()),
            };
        }
        if sealed.exists() {
            let bytes = files::read_own(&sealed, MAX_KEY_FILE).map_err(|error| broken(&sealed, &error))?;
            let opening = OpenWith::Passphrase(self.unlock.passphrase()?);
            let key = opening.open(&bytes, &public)?;
            return keys::IssuerKey::new(&key).map(Issuer::new).ok_or_else(|| broken(&sealed, &"it holds no key"));
        }
        Ok(Issuer::elsewhere(public))
    }

    /// The PKCS#11 module that a backup brought and that the user does not confirm now, if there is one.
    pub fn restored_module(&self, dir: &StateDir) -> Result<Option<PathBuf>, CommandError> {
        if !dir.unconfirmed_module().exists() {
            return Ok(None);
        }
        let place = hsm::Place::read(&dir.issuer_in_hsm())?;
        Ok((!self.unlock.confirms(dir, &place)?).then_some(place.module))
    }

    /// The issuer's public key; that takes neither PIN nor passphrase.
    pub async fn anchor(&self) -> Result<PublicKey, CommandError> {
        Ok(*self.registry().await?.issuer())
    }

    /// The key that this station proves itself with.
    pub fn station_key(&self) -> Result<protocol::key::PrivateKey, CommandError> {
        let dir = self.state_dir()?;
        Ok(keys::load_as(&dir.station_key(), dir.protection())?)
    }
}

/// The token of this station, if it has one.
fn installed_token(dir: &StateDir) -> Result<Option<Vec<u8>>, CommandError> {
    let path = dir.station_token();
    match files::read_own(&path, MAX_KEY_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        token => token.map(Some).map_err(|error| broken(&path, &error)),
    }
}

fn broken(path: &Path, error: &dyn fmt::Display) -> CommandError {
    CommandError::usage(format!("{}: {error}; put it back from your backup", path.display()))
}

/// What `identify`, `rekey` and `reset` act on: a device of the list, or whatever is at the end of a link.
#[derive(Clone, Debug)]
pub enum Target {
    /// DEVICE.
    Device(DeviceRef),
    /// LINK.
    Link(Link),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("serial:") || text.starts_with("udp:") {
            Ok(Self::Link(text.parse()?))
        } else {
            Ok(Self::Device(text.parse()?))
        }
    }
}

/// Why a text names neither a device nor a link.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It looks like a link.
    #[error(transparent)]
    Link(#[from] link::ParseError),
    /// It could only be a device.
    #[error(transparent)]
    Device(#[from] EmptyName),
}

#[cfg(test)]
impl Context {
    /// That of a test, with its state in a scratch directory.
    fn on_desk(scratch: &Path, output: Output, clock: Clock) -> Self {
        Self {
            progress: Progress::for_output(&output),
            output,
            clock,
            clock_ok: false,
            yes: false,
            unlock: Unlock::default(),
            protection: Protection::Required,
            state_dir: Some(scratch.join("state")),
            opened: Mutex::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_parser_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_target_is_a_link_or_a_device() {
        assert!(matches!("serial:/dev/ttyACM0".parse(), Ok(Target::Link(_))));
        assert!(matches!("urn:dev:mac:0024befffe804ff1".parse(), Ok(Target::Device(_))));
        assert!("".parse::<Target>().is_err());
    }
}
