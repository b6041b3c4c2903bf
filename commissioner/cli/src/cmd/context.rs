//! What all commands share: where they say what happened, the state directory, and the keys in it.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use cbor_schemas::DeviceId;
use commissioner::{
    clock::Clock,
    escrow::OpenWith,
    files, hsm,
    issuer::Issuer,
    keys,
    progress::Progress,
    registry::{self, Closer, Registry},
    state_dir::{self, MAX_KEY_FILE, Protection, StateDir},
    station::{InstalledToken, Station},
};
use protocol::key::PublicKey;
use tokio::time::timeout;

use super::{confirm::Word, exit::CommandError, secret::Unlock};
use crate::output::Output;

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
    pub(super) yes: bool,
    /// What unlocks the issuer's key.
    pub(super) unlock: Unlock,
    /// `--insecure-state-dir`.
    pub protection: Protection,
    pub(super) state_dir: Option<PathBuf>,
    /// The registries that were opened.
    pub(super) opened: Mutex<Vec<Closer>>,
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

    /// The registry, or none where `init` was never run: strangers' devices can be asked all the same.
    pub(super) async fn registry_if_any(&self) -> Result<Option<Registry>, CommandError> {
        let dir = match StateDir::open_as(&self.state_path()?, self.protection) {
            Err(state_dir::Error::Missing(_)) => return Ok(None),
            dir => dir?,
        };
        match self.open(&dir).await {
            Err(registry::Error::NotInitialised(_)) => Ok(None),
            registry => Ok(Some(registry?)),
        }
    }

    /// The registry in `dir`. It is closed at the end of the command.
    async fn open(&self, dir: &StateDir) -> Result<Registry, registry::Error> {
        let registry = Registry::open(dir, self.clock.clone(), self.clock_ok).await?;
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(registry.closer());
        Ok(registry)
    }

    /// Closes the registries that were opened, unless somebody who was left behind holds on to one.
    pub(super) async fn close(&self) {
        let opened = std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        let closing = async {
            for closer in opened {
                closer.close().await;
            }
        };
        let _ = timeout(PATIENCE, closing).await;
    }

    /// Who is there to say that something is meant.
    pub(super) fn word(&self) -> Word {
        match io::stdin().is_terminal() && io::stderr().is_terminal() {
            _ if self.yes => Word::Given,
            true => Word::Terminal,
            false => Word::Nobody,
        }
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

    /// Who this commissioner is, with a registry that is open already.
    pub(super) fn station_with(&self, registry: Registry) -> Result<Station, CommandError> {
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

#[cfg(test)]
impl Context {
    /// That of a test, with its state in a scratch directory.
    pub(super) fn on_desk(scratch: &Path, output: Output, clock: Clock) -> Self {
        Self {
            progress: crate::steps::shown_by(&output),
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
