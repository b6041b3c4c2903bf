//! `commissioner backup FILE`, `commissioner restore-backup FILE`: the keys and the registry, sealed by a passphrase.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::Context;
use super::secret::Passphrase;
use crate::backup;
use crate::error::{CommandError, ExitCode};
use crate::registry::Registry;

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
        context.progress.working("writing the backup");
        let snapshot = dir.path().join("backing-up");
        let _ = fs::remove_dir_all(&snapshot);
        DirBuilder::new().mode(0o700).create(&snapshot).map_err(CommandError::internal)?;
        let copy = snapshot.join("registry.sqlite");
        let written = match registry.snapshot(&copy).await {
            Ok(()) => backup::write(&dir, &copy, &self.file, passphrase).map_err(CommandError::from),
            Err(error) => Err(error.into()),
        };
        let _ = fs::remove_dir_all(&snapshot);
        written?;
        let record = serde_json::json!({ "file": self.file });
        context.output.result(&record, format_args!("{} has the keys and the registry", self.file.display()));
        Ok(())
    }
}

impl RestoreArgs {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let passphrase = self.passphrase.get(false)?;
        context.progress.working("reading the backup");
        let dir = backup::read(&self.file, &context.state_path()?, passphrase)?;
        let registry = Registry::open(&dir, context.clock.clone(), context.clock_ok).await?;
        let last = registry.restored().await?;
        let state_dir = dir.path().display().to_string();
        let record = serde_json::json!({ "state_dir": state_dir, "last_entry": crate::clock::rfc3339(last) });
        context.output.result(
            &record,
            format_args!(
                "{state_dir} is as it was at {}; what happened since then is not in it. If a device holds a newer list, \
                 nothing is signed until that is settled",
                crate::clock::rfc3339(last)
            ),
        );
        Ok(())
    }
}

impl From<backup::Error> for CommandError {
    fn from(error: backup::Error) -> Self {
        let exit = match error {
            backup::Error::StateDir(error) => return error.into(),
            backup::Error::Passphrase(_) => ExitCode::Refused,
            backup::Error::InTheWay(_) => ExitCode::Conflict,
            backup::Error::Write(_) | backup::Error::Io { .. } | backup::Error::Damaged { .. } => ExitCode::Usage,
        };
        Self::new(exit, error.to_string())
    }
}
