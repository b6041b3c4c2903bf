//! The command line: one file per command, each an argument struct that can `run`. What several commands share has files of its
//! own; a command uses none of another one.

use std::{ffi::OsStr, path::PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, builder::Resettable};
use commissioner::{clock::Clock, state_dir::Protection};

use self::{context::Context, exit::CommandError, secret::Unlock};
use crate::output::Output;
use crate::steps;

// What commands share.
mod commissioning;
mod confirm;
mod context;
mod entry;
mod exchange;
pub mod exit;
mod giving;
mod reach;
mod resource;
mod secret;
mod voucher_output;

// The commands.
pub mod audit;
pub mod backup;
pub mod clock;
pub mod collect;
pub mod commission;
pub mod completions;
pub mod console;
pub mod devices;
pub mod discover;
pub mod distribute;
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
            progress: steps::shown_by(&output),
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
            opened: Default::default(),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_parser_is_sound() {
        Cli::command().debug_assert();
    }
}
