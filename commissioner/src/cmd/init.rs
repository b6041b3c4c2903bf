//! `commissioner init`: issuer key, station key, registry.

use std::{fmt, path::Path};

use clap::Args as ClapArgs;
use protocol::key::{PrivateKey, PublicKey};
use serde::Serialize;

use super::Context;
use crate::{
    clock::Clock,
    error::{CommandError, ExitCode},
    keys,
    registry::{self, Registry},
    state_dir::StateDir,
};

/// Make the issuer key, the station key and the registry
#[derive(Debug, ClapArgs)]
pub struct Args {}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let state = initialise(&context.state_path()?, context.clock.clone()).await?;
        context.output.result(&state, &state);
        Ok(())
    }
}

/// A state directory that is complete.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Initialised {
    state_dir: String,
    /// Thumbprint, hex.
    issuer: String,
    /// Thumbprint, hex.
    station: String,
    /// Whether anything had to be made.
    created: bool,
}

impl fmt::Display for Initialised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state_dir, issuer, station, created } = self;
        if *created {
            writeln!(f, "made the state directory {state_dir}")?;
        } else {
            writeln!(f, "{state_dir} is initialised already; nothing was changed")?;
        }
        write!(f, "issuer key  {issuer}\nstation key {station}")
    }
}

/// Makes the state in the directory at `path`, finishes what an interrupted run began, or leaves a complete one alone.
///
/// The order matters: the registry's file comes first, the keys next, and last the entry that gives the registry to the
/// issuer. So a missing piece tells an interrupted `init` from a lost key or a lost registry, which must not be replaced.
pub async fn initialise(path: &Path, clock: Clock) -> Result<Initialised, CommandError> {
    let dir = StateDir::create(path)?;
    let lock = dir.lock()?;
    let describe = |issuer: &PublicKey, station: &PublicKey, created| Initialised {
        state_dir: dir.path().display().to_string(),
        issuer: issuer.thumbprint().to_string(),
        station: station.thumbprint().to_string(),
        created,
    };
    match Registry::open_locked(&dir, &lock, clock.clone(), false).await {
        Ok(registry) => {
            let (issuer, station) = (keys::load(&dir.issuer_key())?, keys::load(&dir.station_key())?);
            if issuer.public() != registry.issuer() {
                let message = "the registry belongs to another issuer key; put the two that belong together back from your backup";
                return Err(CommandError::new(ExitCode::Conflict, message));
            }
            return Ok(describe(issuer.public(), station.public(), false));
        }
        Err(registry::Error::NotInitialised(_)) => {}
        Err(other) => return Err(other.into()),
    }
    if !dir.registry().exists() && (dir.issuer_key().exists() || dir.station_key().exists()) {
        let message = format!(
            "{} has keys but no registry; put the registry back from your backup, or move the keys away to start anew",
            dir.path().display()
        );
        return Err(CommandError::new(ExitCode::Conflict, message));
    }
    Registry::prepare(&dir, &lock).await?;
    let issuer = load_or_create(&dir.issuer_key())?;
    let station = load_or_create(&dir.station_key())?;
    Registry::initialise(&dir, &lock, clock, *issuer.public(), *station.public()).await?;
    Ok(describe(issuer.public(), station.public(), true))
}

fn load_or_create(path: &Path) -> Result<PrivateKey, keys::Error> {
    if path.exists() { keys::load(path) } else { keys::create(path) }
}
