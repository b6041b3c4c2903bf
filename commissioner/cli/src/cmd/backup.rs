//! `commissioner backup FILE`, `commissioner restore-backup FILE`: the keys and the registry, sealed by a passphrase.

use std::{io, path::PathBuf};

use clap::Args as ClapArgs;
use commissioner::backup::{self, Copy, Stop};
use commissioner::files;
use tokio::signal::unix::{Signal, SignalKind};
use tokio::task::spawn_blocking;

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
    secret::Passphrase,
};
use crate::stop;

/// Write a backup: the keys and the registry, sealed by a passphrase
#[derive(Debug, ClapArgs)]
pub struct BackupArgs {
    /// Where to; nothing may be there
    file: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
}

/// Put a backup back into a state directory that has nothing yet
#[derive(Debug, ClapArgs)]
pub struct RestoreArgs {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl BackupArgs {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let (dir, registry) = (context.state_dir()?, context.registry().await?);
        if self.file.exists() {
            return Err(CommandError::usage(format!("{} is there already; name another file", self.file.display())));
        }
        let passphrase = self.passphrase.get(true)?;
        let mut interrupts = Interrupts::listen().map_err(CommandError::internal)?;
        context.progress.working("copying the registry, and checking the copy");
        let copy = interrupts.or(Copy::make(dir, &registry, context.clock.clone())).await?;
        // What it keeps in memory is not needed any more, and sealing takes enough.
        registry.close().await;
        context.progress.working("sealing the backup");
        let file = self.file.clone();
        interrupts.or_end(move |stop| copy.seal(&file, passphrase, stop)).await?;
        let record = serde_json::json!({ "file": self.file.display().to_string() });
        context.output.result(&record, format_args!("{} has the keys and the registry", self.file.display()));
        Ok(())
    }
}

impl RestoreArgs {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let (passphrase, path) = (self.passphrase.get(false)?, context.state_path()?);
        let mut interrupts = Interrupts::listen().map_err(CommandError::internal)?;
        context.progress.working("reading the backup, and checking what is in it");
        let (file, protection) = (self.file.clone(), context.protection);
        let unpacking = move |stop| backup::unpack(&file, &path, protection, &passphrase, stop);
        let unpacked = interrupts.or_end(unpacking).await?;
        let restored = interrupts.or(unpacked.place(&self.file, context.clock.clone())).await?;
        let (dir, last) = (restored.dir, commissioner::clock::rfc3339(restored.last));
        let module = context.restored_module(&dir)?;
        let state_dir = dir.path().display().to_string();
        let record = serde_json::json!({ "state_dir": state_dir, "last_entry": last, "unconfirmed_module": module });
        let unconfirmed = module.map(|module| {
            format!(
                ". The issuer's key is behind the PKCS#11 module {module:?}: what needs that key is refused until the module \
                 is confirmed, on a terminal or by --trust-module"
            )
        });
        context.output.result(
            &record,
            format_args!(
                "{state_dir} is as it was at {last}; what happened since then is not in it. If a device holds a newer list, \
                 nothing is signed until that is settled{}",
                unconfirmed.unwrap_or_default()
            ),
        );
        Ok(())
    }
}

/// The signals to end, and a terminal that is closed. Without a handler they would leave what is under way behind.
struct Interrupts {
    stop: stop::Stop,
    hang_up: Signal,
}

impl Interrupts {
    /// From now on the signals do nothing else.
    fn listen() -> io::Result<Self> {
        Ok(Self { stop: stop::Stop::listen()?, hang_up: stop::take(SignalKind::hangup())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            () = self.stop.requested() => {}
            _ = self.hang_up.recv() => {}
        }
    }

    /// Does `work`, or drops it.
    async fn or<T>(&mut self, work: impl Future<Output = Result<T, backup::Error>>) -> Result<T, backup::Error> {
        tokio::select! {
            done = work => done,
            () = self.next() => Err(backup::Error::Stopped),
        }
    }

    /// Does `work`, which ends soon if it is told to.
    async fn or_end<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(Stop) -> Result<T, backup::Error> + Send + 'static,
    ) -> Result<T, CommandError> {
        let stop = Stop::default();
        let mut work = spawn_blocking({
            let stop = stop.clone();
            move || work(stop)
        });
        let done = tokio::select! {
            done = &mut work => done,
            () = self.next() => {
                stop.stop();
                work.await
            }
        };
        Ok(done.map_err(CommandError::internal)??)
    }
}

impl From<backup::Error> for CommandError {
    fn from(error: backup::Error) -> Self {
        use backup::Error;
        let message = error.to_string();
        let exit = match error {
            Error::StateDir(error) => return error.into(),
            Error::Registry(error) => return error.into(),
            Error::Passphrase(_) => ExitCode::Refused,
            Error::InTheWay(_) | Error::Unsound { .. } => ExitCode::Conflict,
            Error::Damaged { .. } => ExitCode::Usage,
            Error::Write(error) => return Self::unwritten(&error, message),
            Error::Io { source, .. } if files::is_misnamed(&source) => ExitCode::Usage,
            Error::Io { .. } | Error::Memory { .. } | Error::Halfway { .. } | Error::Stopped => ExitCode::Internal,
        };
        Self::new(exit, message)
    }
}
