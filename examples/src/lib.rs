//! What the programs that measure have in common.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result};
use commissioner::{
    clock::Clock,
    issuer::Issuer,
    keys::{self, IssuerKey},
    progress::Progress,
    registry::Registry,
    state_dir::StateDir,
    station::Station,
};
use commissioner_cli::cmd::init::initialise;
use tokio::process::{Child, Command};

/// A program of this workspace, from the same build; its standard error is not shown.
pub fn command(name: &str) -> Result<Command> {
    let program = std::env::current_exe()?.with_file_name(name);
    let mut command = Command::new(program);
    command.stderr(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Starts a program of [`command`].
pub fn start(command: &mut Command) -> Result<Child> {
    let name = PathBuf::from(command.as_std().get_program());
    command.spawn().with_context(|| format!("cannot start {}: build it with `cargo build --workspace`", name.display()))
}

/// A new state directory, and the station that works with it.
pub async fn station(path: &Path) -> Result<Station> {
    initialise(path, Clock::System).await?;
    let dir = StateDir::open(path)?;
    Ok(Station {
        registry: Registry::open(&dir, Clock::System, false).await?,
        issuer: Issuer::new(IssuerKey::load(&dir.issuer_key())?),
        key: keys::load(&dir.station_key())?,
        token: None,
    })
}

/// Progress that nobody is shown.
pub fn quiet() -> Progress {
    Progress::unseen()
}
