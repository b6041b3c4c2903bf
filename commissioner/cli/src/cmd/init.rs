//! `commissioner init`: issuer key, station key, registry.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use clap::Args as ClapArgs;
use commissioner::{
    clock::{self, Clock},
    escrow::SealTo,
    files::{self, Readers},
    hsm,
    keys::{self, Anchor},
    registry::{self, Registry},
    state_dir::StateDir,
};
use protocol::key::{PrivateKey, PublicKey};
use rand_core::OsRng;
use serde::Serialize;

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
};
use crate::output::complain;

/// Make the issuer key, the station key and the registry
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Make a station that acts for an issuer whose key is elsewhere: 64 hex digits, as `issuer show` prints them there, or
    /// the file that `issuer export` writes
    #[arg(long, value_name = "KEY")]
    issuer: Option<Anchor>,
    /// Have the issuer's key made in an HSM, and used there: the PKCS#11 module, a shared library
    #[arg(long, value_name = "MODULE", conflicts_with_all = ["issuer", "sealed"], requires = "token")]
    pkcs11: Option<PathBuf>,
    /// The label of the HSM's token
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    token: Option<String>,
    /// The label of the key in the token
    #[arg(long, value_name = "LABEL", default_value = "commissioner", requires = "pkcs11")]
    key: String,
    /// Seal the issuer's key by a passphrase, which every command that signs asks for
    #[arg(long, conflicts_with = "issuer")]
    sealed: bool,
}

/// Where the issuer's key is to be.
enum Keep<'c> {
    /// In a file of mode 0600.
    File,
    /// In a file that is sealed.
    Sealed(&'c Context),
    /// In an HSM.
    Hsm(hsm::Place, &'c Context),
    /// At another machine.
    Elsewhere(PublicKey),
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let keep = match (self.issuer, self.pkcs11, self.sealed) {
            (Some(anchor), ..) => Keep::Elsewhere(anchor.0),
            (_, Some(module), _) => {
                Keep::Hsm(hsm::Place { module, token: self.token.unwrap_or_default(), key: self.key }, context)
            }
            (_, _, true) => Keep::Sealed(context),
            _ => Keep::File,
        };
        let dir = StateDir::create_as(&context.state_path()?, context.protection)?;
        let mut state = initialise_as(&keep, &dir, context.clock.clone()).await?;
        if let Some(doubt) = clock::doubt(context.clock.now()) {
            let warning = format!("{doubt}; set it before anything is signed: what is signed bears its time");
            complain(format_args!("warning: {warning}"));
            state.warning = Some(warning);
        }
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
    /// What is wrong with the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

impl fmt::Display for Initialised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state_dir, issuer, station, station_key, created, warning: _ } = self;
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
/// First comes a mark that this is under way, then the registry's file, the keys, and the entry that gives the registry to the
/// issuer; last the mark goes. So a missing piece tells an interrupted `init` from a lost key or a lost registry, which must
/// not be replaced.
pub async fn initialise(path: &Path, clock: Clock) -> Result<Initialised, CommandError> {
    initialise_as(&Keep::File, &StateDir::create(path)?, clock).await
}

/// The same, with the issuer's key where it is to be.
async fn initialise_as(keep: &Keep<'_>, dir: &StateDir, clock: Clock) -> Result<Initialised, CommandError> {
    match Registry::open(dir, clock.clone(), false).await {
        Err(registry::Error::NotInitialised(_)) => {}
        opened => return finished(opened, keep, dir).await,
    }
    let lock = dir.lock()?;
    // Another `init` may have been faster.
    match Registry::open_locked(dir, &lock, clock.clone(), false).await {
        Err(registry::Error::NotInitialised(_)) => {}
        opened => return finished(opened, keep, dir).await,
    }
    Registry::prepare(dir, &lock).await?;
    let issuer = keep.issuer(dir)?;
    let station = load_or_create(dir, &dir.station_key())?;
    Registry::initialise(dir, &lock, clock, issuer, *station.public()).await?.close().await;
    Ok(describe(dir, &issuer, station.public(), true))
}

/// Another `init` was through.
async fn finished(
    opened: Result<Registry, registry::Error>,
    keep: &Keep<'_>,
    dir: &StateDir,
) -> Result<Initialised, CommandError> {
    opened?.close().await;
    complete(keep, dir)
}

/// What there is already, if it is what is asked for.
fn complete(keep: &Keep<'_>, dir: &StateDir) -> Result<Initialised, CommandError> {
    let station = keys::load_as(&dir.station_key(), dir.protection())?;
    let issuer = keys::issuer_of(dir, dir.protection())?;
    if matches!(keep, Keep::Elsewhere(elsewhere) if *elsewhere != issuer) {
        let message = "this state directory belongs to another issuer; name another one with --state-dir";
        return Err(CommandError::new(ExitCode::Conflict, message));
    }
    Ok(describe(dir, &issuer, station.public(), false))
}

fn describe(dir: &StateDir, issuer: &PublicKey, station: &PublicKey, created: bool) -> Initialised {
    Initialised {
        state_dir: dir.path().display().to_string(),
        issuer: issuer.thumbprint().to_string(),
        station: station.thumbprint().to_string(),
        station_key: is_station(dir).then(|| hex::encode(station.x())),
        created,
        warning: None,
    }
}

/// Whether this acts for an issuer whose key is at another machine.
fn is_station(dir: &StateDir) -> bool {
    dir.issuer_anchor().exists() && !dir.issuer_in_hsm().exists() && !dir.sealed_issuer_key().exists()
}

impl Keep<'_> {
    /// Makes the issuer's key, or finds the one that an interrupted run made. The file with the public key is the last one.
    fn issuer(&self, dir: &StateDir) -> Result<PublicKey, CommandError> {
        let issuer = match self {
            Self::File => return Ok(*load_or_create(dir, &dir.issuer_key())?.public()),
            Self::Elsewhere(issuer) => *issuer,
            Self::Hsm(place, context) => {
                let key = hsm::Key::open_or_create(place, context.unlock.pin(place)?)?;
                let place = serde_json::to_vec(place).map_err(CommandError::internal)?;
                files::replace(&dir.issuer_in_hsm(), Readers::Owner, &place)?;
                *key.public()
            }
            Self::Sealed(context) => {
                let (key, seal) =
                    (PrivateKey::generate(&mut OsRng), SealTo::Passphrase(context.unlock.new_passphrase()?));
                files::replace(&dir.sealed_issuer_key(), Readers::Owner, &seal.seal(&key)?)?;
                *key.public()
            }
        };
        let pem = Anchor(issuer).to_pem().ok_or_else(|| CommandError::internal("the key has no PEM form"))?;
        files::replace(&dir.issuer_anchor(), Readers::Owner, pem.as_bytes())?;
        Ok(issuer)
    }
}

fn load_or_create(dir: &StateDir, path: &Path) -> Result<PrivateKey, keys::Error> {
    if path.exists() { keys::load_as(path, dir.protection()) } else { keys::create(path) }
}
