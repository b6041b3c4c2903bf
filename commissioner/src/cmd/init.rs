//! `commissioner init`: issuer key, station key, registry.

use std::{fmt, path::Path};

use clap::Args as ClapArgs;
use protocol::key::{PrivateKey, PublicKey};
use serde::Serialize;

use super::Context;
use crate::{
    clock::Clock,
    error::{CommandError, ExitCode},
    keys::{self, Anchor},
    registry::{self, Registry},
    state_dir::{self, StateDir},
};

/// Make the issuer key, the station key and the registry
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Make a station that acts for an issuer whose key is elsewhere: 64 hex digits, as `issuer show` prints them there, or
    /// the file that `issuer export` writes
    #[arg(long, value_name = "KEY")]
    issuer: Option<Anchor>,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let elsewhere = self.issuer.map(|anchor| anchor.0);
        let state = initialise_for(elsewhere, &context.state_path()?, context.clock.clone()).await?;
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
    /// At a station: its key, for `station new` at the issuer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    station_key: Option<String>,
    /// Whether anything had to be made.
    created: bool,
}

impl fmt::Display for Initialised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state_dir, issuer, station, station_key, created } = self;
        if *created {
            writeln!(f, "made the state directory {state_dir}")?;
        } else {
            writeln!(f, "{state_dir} is initialised already; nothing was changed")?;
        }
        write!(f, "issuer key  {issuer}\nstation key {station}")?;
        match station_key {
            Some(key) => write!(f, "\nfor `commissioner station new` where the issuer's key is: {key}"),
            None => Ok(()),
        }
    }
}

/// Makes the state in the directory at `path`, finishes what an interrupted run began, or leaves a complete one alone.
///
/// The order matters: the registry's file comes first, the keys next, and last the entry that gives the registry to the
/// issuer. So a missing piece tells an interrupted `init` from a lost key or a lost registry, which must not be replaced.
pub async fn initialise(path: &Path, clock: Clock) -> Result<Initialised, CommandError> {
    initialise_for(None, path, clock).await
}

/// The same for an issuer whose key is `elsewhere`, if there is such a one.
async fn initialise_for(elsewhere: Option<PublicKey>, path: &Path, clock: Clock) -> Result<Initialised, CommandError> {
    let dir = StateDir::create(path)?;
    let lock = dir.lock()?;
    let describe = |issuer: &PublicKey, station: &PublicKey, created| Initialised {
        state_dir: dir.path().display().to_string(),
        issuer: issuer.thumbprint().to_string(),
        station: station.thumbprint().to_string(),
        station_key: dir.issuer_anchor().exists().then(|| hex::encode(station.x())),
        created,
    };
    match Registry::open_locked(&dir, &lock, clock.clone(), false).await {
        Ok(registry) => {
            let station = keys::load(&dir.station_key())?;
            let issuer = match dir.issuer_anchor().exists() {
                true => Anchor::load(&dir.issuer_anchor()).map_err(CommandError::internal)?.0,
                false => *keys::load(&dir.issuer_key())?.public(),
            };
            if elsewhere.is_some_and(|elsewhere| elsewhere != issuer) {
                let message = "this state directory belongs to another issuer; name another one with --state-dir";
                return Err(CommandError::new(ExitCode::Conflict, message));
            }
            if issuer != *registry.issuer() {
                let message = "the registry belongs to another issuer key; put the two that belong together back from your backup";
                return Err(CommandError::new(ExitCode::Conflict, message));
            }
            return Ok(describe(&issuer, station.public(), false));
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
    let issuer = match elsewhere {
        None => *load_or_create(&dir.issuer_key())?.public(),
        Some(issuer) => {
            let pem = Anchor(issuer).to_pem().ok_or_else(|| CommandError::internal("the key has no PEM form"))?;
            if !dir.issuer_anchor().exists() {
                state_dir::create_private(&dir.issuer_anchor(), pem.as_bytes())?;
            }
            issuer
        }
    };
    let station = load_or_create(&dir.station_key())?;
    Registry::initialise(&dir, &lock, clock, issuer, *station.public()).await?;
    Ok(describe(&issuer, station.public(), true))
}

fn load_or_create(path: &Path) -> Result<PrivateKey, keys::Error> {
    if path.exists() { keys::load(path) } else { keys::create(path) }
}
