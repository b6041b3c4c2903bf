//! Opening a registry, and making one.

use std::{fs, sync::Arc};

use cbor_schemas::IssuerId;
use protocol::key::PublicKey;

use super::{
    change::Change,
    error::Error,
    event::Event,
    handle::Registry,
    rows::{
        Database,
        schema::{self, Connected, Purpose},
    },
};
use crate::{
    clock::Clock,
    keys,
    state_dir::{Found, Lock, Protection, StateDir},
};

/// The name of the entry in `meta` that says whose registry this is: the issuer's x-coordinate in hex.
pub(super) const META_ISSUER: &str = "issuer";

/// Whose registry is in a database; none if it was not given to an issuer yet.
pub(super) async fn issuer_of(database: &Database) -> Result<Option<PublicKey>, Error> {
    let Some(issuer) = database.read().await?.meta(META_ISSUER).await? else { return Ok(None) };
    let mut x = [0; 32];
    hex::decode_to_slice(issuer, &mut x).map_err(|_| Error::Corrupt(META_ISSUER))?;
    PublicKey::from_x(&x).map(Some).map_err(|_| Error::Corrupt(META_ISSUER))
}

impl Registry {
    /// Opens the registry in `dir`, which has to be that of the issuer's key there, and brings its schema up to date. `clock_ok`: the user vouches for a clock that is
    /// more than a day ahead of the last audit entry. Takes the lock only if there is something to wait for, or to do under
    /// it: reading takes neither a lock file nor a file system that can be written to.
    pub async fn open(dir: &StateDir, clock: Clock, clock_ok: bool) -> Result<Self, Error> {
        if let Some(registry) = Self::look(dir, Purpose::Look, clock.clone(), clock_ok).await? {
            return Ok(registry);
        }
        let lock = match dir.found()? {
            Found::Nothing => return Err(Error::NotInitialised(dir.path().to_owned())),
            Found::UnderWay | Found::Registry => dir.lock()?,
        };
        Self::open_locked(dir, &lock, clock, clock_ok).await
    }

    /// As [`Registry::open`], for who holds the lock already.
    pub async fn open_locked(dir: &StateDir, lock: &Lock, clock: Clock, clock_ok: bool) -> Result<Self, Error> {
        let found = Self::look(dir, Purpose::Upgrade(lock), clock, clock_ok).await?;
        found.ok_or_else(|| Error::NotInitialised(dir.path().to_owned()))
    }

    /// The registry, if it is complete, or can be made so under the lock.
    async fn look(dir: &StateDir, purpose: Purpose<'_>, clock: Clock, clock_ok: bool) -> Result<Option<Self>, Error> {
        let found = dir.found()?;
        let len = fs::metadata(dir.registry()).map_or(0, |metadata| metadata.len());
        if found == Found::Nothing || len == 0 {
            return Ok(None);
        }
        let opened = schema::connect(dir, purpose).await.map_err(|error| error.at(&dir.registry()))?;
        let Some(Connected { database, is_frozen }) = opened else { return Ok(None) };
        let issuer = issuer_of(&database).await;
        if !matches!(issuer, Ok(Some(_))) {
            database.close().await;
        }
        let Some(issuer) = issuer? else {
            return match found {
                Found::UnderWay => Ok(None),
                _ => Err(schema::lost(dir, "says no more whose it is").into()),
            };
        };
        // A key that cannot be read is the matter of whoever needs it, and so is who else may read it.
        match keys::issuer_of(dir, Protection::Waived) {
            Ok(key) if key != issuer => {
                let [of, key] = [issuer, key].map(|key| IssuerId(key.kid()));
                return Err(Error::OtherKey { path: dir.registry(), of, key });
            }
            _ => {}
        }
        if found == Found::UnderWay {
            // It was complete but for that. Where it cannot be done, a later run does it.
            let _ = dir.complete();
        }
        Ok(Some(Self { database, clock, clock_ok, issuer, is_frozen, reserved: Arc::default(), turn: Arc::default() }))
    }

    /// Notes that the state is being made, and makes the registry's file and its schema, so that keys made from now on have a
    /// registry to be remembered by.
    pub async fn prepare(dir: &StateDir, lock: &Lock) -> Result<(), Error> {
        dir.begin(lock)?;
        dir.make_registry(lock)?;
        if let Some(connected) = schema::connect(dir, Purpose::Make(lock)).await? {
            connected.database.close().await;
        }
        Ok(())
    }

    /// Gives a prepared registry to `issuer`. From here on the state is complete.
    pub async fn initialise(
        dir: &StateDir,
        lock: &Lock,
        clock: Clock,
        issuer: PublicKey,
        station: PublicKey,
    ) -> Result<Self, Error> {
        let connected = schema::connect(dir, Purpose::Make(lock)).await?;
        let Connected { database, is_frozen } =
            connected.ok_or_else(|| Error::NotInitialised(dir.path().to_owned()))?;
        let registry = Self {
            database,
            clock,
            clock_ok: false,
            issuer,
            is_frozen,
            reserved: Arc::default(),
            turn: Arc::default(),
        };
        let mut change = Change::begin(&registry).await?;
        change.rows.put_meta(META_ISSUER, hex::encode(issuer.x())).await?;
        let event =
            Event::Initialised { issuer: issuer.thumbprint().to_string(), station: station.thumbprint().to_string() };
        change.record(None, &event).await?;
        change.commit().await?;
        dir.complete()?;
        Ok(registry)
    }
}
