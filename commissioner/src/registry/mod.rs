//! The registry: devices, their keys and certificates, and what happened to them.
//!
//! Three promises, each in its own file:
//!
//! - [`succession`]: which key of a device counts, and who may change that; [`escrow`] for keys that were made here;
//! - [`journal`]: nothing is signed before the intent is durable, nothing is sent before the signed bytes are;
//! - [`audit`]: every change leaves an entry in a hash chain, in the same transaction.
//!
//! The SQL is one text for SQLite and PostgreSQL, so it keeps to TEXT, BIGINT and BYTEA.

pub mod audit;
pub mod escrow;
mod failure;
pub mod import;
pub mod journal;
pub mod lists;
mod lookup;
mod mine;
mod record;
mod release;
mod room;
mod schema;
pub mod seals;
mod snapshot;
mod sql;
pub mod stations;
pub mod succession;
#[cfg(test)]
pub(crate) mod testing;
pub mod times;
pub mod vouchers;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicI64},
};

use cbor_schemas::{DeviceId, IssuerId};
use protocol::key::PublicKey;
use sqlx::AnyPool;
use tokio::sync::Mutex;

pub use self::{
    audit::{AuditEntry, AuditSummary, Tampering},
    import::Imported,
    journal::{INTENT_LIFETIME, Intent, NewCertificate, REQUEST_LIFETIME, TokenGrant, TokenRequest, Validity},
    lists::List,
    lookup::{Named, Reading},
    record::{
        BadNickname, Certificate, CertificateStatus, CountsBy, Cti, Device, DeviceRecord, DeviceRef, EmptyName,
        FullRecord, Key, KeyStatus, Nickname, Policy, Provenance, Revoked, Slot, StationScope, UnknownWord,
    },
    release::Parting,
    room::Room,
    seals::{Seal, Sealed, Verdict},
    stations::{CertificateRequest, StationToken},
    succession::{Conflict, Observation, Place, Revocation, Succession},
    times::{ClockView, GrantAhead, Granted, HeldAhead, Standing},
    vouchers::{VoucherGrant, VoucherRequest},
};
use self::{
    audit::{Change, Event},
    lookup::{Naming, Nicknames},
    mine::mine,
    schema::{Connected, Purpose},
};
use crate::{
    clock::{Clock, rfc3339},
    keys,
    state_dir::{self, Found, Lock, Protection, REGISTRY, StateDir},
    text,
};

/// The name of the entry in `meta` that says whose registry this is: the issuer's x-coordinate in hex.
const META_ISSUER: &str = "issuer";

/// The registry of one issuer. Cheap to share by reference; commissioners in several processes may have it open at once.
#[derive(Debug)]
pub struct Registry {
    pool: AnyPool,
    clock: Clock,
    clock_ok: bool,
    issuer: PublicKey,
    is_frozen: bool,
    /// Changes that there is room for: see [`Registry::reserve`].
    reserved: Arc<AtomicI64>,
    /// Who of ourselves changes it: so whoever is waited for behind that is another process.
    turn: Arc<Mutex<()>>,
}

/// Closes a registry at the end of a program, of which the database knows nothing else: its threads may be faster than the end
/// or not, and leave an empty `-wal` file then.
#[derive(Debug)]
pub struct Closer(AnyPool);

impl Closer {
    /// Closes it, if it is still open.
    pub async fn close(self) {
        self.0.close().await;
    }
}

/// What a registry is called in an error.
fn name(file: Option<&Path>) -> String {
    file.map_or_else(|| format!("{REGISTRY} in the state directory"), |file| file.display().to_string())
}

fn way_out(file: Option<&Path>) -> String {
    match file {
        Some(file) => state_dir::way_out(file),
        None => format!(
            "Move {REGISTRY}* away from the state directory, and put back your newest backup: `commissioner restore-backup FILE`"
        ),
    }
}

/// Why the registry did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no registry, or its making was interrupted.
    #[error("there is no registry in {0}; run `commissioner init` first")]
    NotInitialised(PathBuf),
    /// A newer program wrote it.
    #[error(
        "the registry {path} has schema version {version}, written by a newer commissioner; use that one, or a newer"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema's version.
        version: i64,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] state_dir::Error),
    /// The database failed.
    #[error(
        "the registry's database failed: {0}; see to it that the disk has room and works, then repeat the command: it goes on from what is on record"
    )]
    Database(#[source] sqlx::Error),
    /// The registry's file, or what it is on, takes no changes.
    #[error("the registry cannot be written to here: {0}; have the state directory where it can be")]
    ReadOnly(#[source] sqlx::Error),
    /// The database is not whole, which the statement that came upon it may be the first to notice.
    #[error("the registry {} is damaged: {what}. {}", name(file.as_deref()), way_out(file.as_deref()))]
    Damaged {
        /// The file, if it was found while it was opened.
        file: Option<PathBuf>,
        /// What the database said.
        what: String,
    },
    /// The registry, or the issuer's key beside it, is from another state directory.
    #[error(
        "the registry {} belongs to issuer {of}, and the issuer's key beside it is that of issuer {key}; move away whichever is \
         not yours, and put back your newest backup: `commissioner --state-dir {} restore-backup FILE`",
        path.display(), state_dir::parent(path).display()
    )]
    OtherKey {
        /// The registry's file.
        path: PathBuf,
        /// Whose the registry is.
        of: IssuerId,
        /// Whose the key is.
        key: IssuerId,
    },
    /// What was written last is not in the registry's file, and cannot be put there.
    #[error(
        "the registry {0} has newer changes beside it (in its -wal or -journal file), and cannot be written to here; run any \
         command once where it can be, such as `commissioner devices`"
    )]
    Unmerged(PathBuf),
    /// The schema could not be brought up to date.
    #[error("the registry's schema could not be brought up to date: {0}. {advice}", advice = way_out(None))]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// Something is in the database that was never written by this program.
    #[error("the registry holds an impossible value for {0}. {advice}", advice = way_out(None))]
    Corrupt(&'static str),
    /// The audit trail does not hold.
    #[error("audit entry {seq} {what}; compare the registry with your backup")]
    Tampered {
        /// The first entry that does not fit.
        seq: u64,
        /// What is wrong with it.
        what: Tampering,
    },
    /// A history that was imported does not hold.
    #[error("of the imported history that ends with {head}, the entry before entry {before} {what}; import it again")]
    TamperedImport {
        /// The hash of its last entry.
        head: String,
        /// The entry behind the first one that does not fit.
        before: u64,
        /// What is wrong with it.
        what: Tampering,
    },
    /// The audit trail holds, and is not the one that was signed.
    #[error(
        "{by}, signed at {time}, seals an audit trail that is not this one: entries before that time were changed, and the \
         chain was computed anew; compare the registry with your backup"
    )]
    Rewritten {
        /// The list or seal.
        by: String,
        /// When it was signed.
        time: String,
    },
    /// Something that should be a signature of our issuer is none.
    #[error("{0} is no list or seal that this registry's issuer signed; compare the registry with your backup")]
    BadSeal(String),

    /// Nothing goes by this name.
    #[error("no device is called {0}; `commissioner devices --all` lists them")]
    UnknownDevice(String),
    /// More than one device goes by this name.
    #[error("{name} may be one of {}; give more of the ID or thumbprint", candidates.len())]
    Ambiguous {
        /// What the user wrote.
        name: String,
        /// The devices it could be, with their nicknames.
        candidates: Vec<String>,
    },
    /// What was typed tells devices not apart.
    #[error(
        "{name} is too short to name a device; give its ID, its nickname, or at least {} characters of what is distinctive of its ID, \
         or of a thumbprint",
        lookup::LEAST
    )]
    TooShort {
        /// What the user wrote.
        name: String,
        /// The devices it could be, with their nicknames.
        candidates: Vec<String>,
    },
    /// The nickname reads like another device.
    #[error(
        "{nickname} is a part of the ID or of a key of {device}, and would be taken for it; choose another nickname"
    )]
    NicknameMisleads {
        /// The name.
        nickname: String,
        /// Whose it is.
        device: String,
    },
    /// The nickname is another device's.
    #[error("{nickname} is the nickname of {device} already, or reads like it; choose another")]
    NicknameTaken {
        /// The name.
        nickname: String,
        /// Whose it is.
        device: String,
    },

    /// What was seen contradicts what is known.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The clock went back.
    #[error("the clock says {}, and something was signed at {}, which is later; nothing is signed until the clock has caught up. \
        If it is the clock of then that was wrong, `commissioner clock` shows the way back",
        rfc3339(*now), rfc3339(*last))]
    ClockBehind {
        /// What the clock says, Unix seconds.
        now: u64,
        /// The time of the last signature.
        last: u64,
    },
    /// The clock jumped ahead, or nothing was signed for a while.
    #[error("the clock says {}, more than a day after the last signature, or the beginning, at {}; if the clock is right, repeat \
        with --clock-ok, and else see `commissioner clock`",
        rfc3339(*now), rfc3339(*last))]
    ClockAhead {
        /// What the clock says, Unix seconds.
        now: u64,
        /// The time of the last signature; before the first one, of the registry's beginning.
        last: u64,
    },
    /// A device of ours holds a list that this registry does not know.
    #[error(
        "{device} holds a version {version} of the device list that is not in this registry; was it put back from an old \
         backup? Nothing is signed until the newer registry is merged, or, if the device lies, until `commissioner revoke {device}`"
    )]
    NewerList {
        /// The device.
        device: String,
        /// The version.
        version: u64,
    },
    /// A device that we have just claimed says that it holds a list, which it cannot.
    #[error(
        "{device} says that it holds a version {version} of the device list, which is not in this registry; but it was claimed a \
         moment ago, and nobody owned it, so it has none: it does not tell the truth. Find out what it is, and \
         `commissioner revoke {device}`; all others are as they were"
    )]
    ImpossibleList {
        /// The device.
        device: String,
        /// The version.
        version: u64,
    },
    /// A certificate for a key that may not have one.
    #[error("no certificate for key {key}: {reason}")]
    NotIssuable {
        /// The key's thumbprint.
        key: String,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// No station, or several.
    #[error(
        "the keys of {} with a valid token have a thumbprint that begins with {prefix:?}; `commissioner station list` shows them",
        text::count(*found, "station", "stations")
    )]
    NoStation {
        /// What was given.
        prefix: String,
        /// How many there are.
        found: usize,
    },
    /// What was signed elsewhere is not what was asked for here.
    #[error("this cannot be taken: {reason}; nothing was changed")]
    NotRequested {
        /// Why not.
        reason: &'static str,
    },
    /// A voucher for a device that we cannot vouch for.
    #[error("no voucher for {device}: {reason}")]
    NoVoucher {
        /// The device.
        device: DeviceId,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// A key that the registry does not know, or not with this device.
    #[error("key {key} is not in the registry as one of {device}; read the device again")]
    UnknownKey {
        /// The device.
        device: DeviceId,
        /// The key's thumbprint.
        key: String,
    },
    /// A certificate of ours that the registry never wrote down.
    #[error(
        "the registry knows no certificate {0}; was it put back from an old backup? Merge the newer one before anything is signed"
    )]
    UnknownCertificate(Cti),
    /// A step of the journal out of order.
    #[error("certificate {cti} is {status}, so it cannot become {wanted}; commission the device again")]
    OutOfOrder {
        /// The certificate.
        cti: Cti,
        /// How far it got.
        status: CertificateStatus,
        /// What it should have become.
        wanted: CertificateStatus,
    },
    /// An export that cannot be merged.
    #[error("line {line} cannot be imported: {what}; nothing was changed")]
    NotImportable {
        /// The line, from 1.
        line: u64,
        /// Why.
        what: String,
    },
    /// An export of somebody else.
    #[error("this is the export of another issuer ({0}), whose devices are not yours; nothing was changed")]
    OtherRegistry(String),
    /// A policy that needs a copy of the key.
    #[error(
        "no copy of the key of {0} is kept here, so it could not be restored; `commissioner commission --escrow` makes one"
    )]
    NoCopy(String),
    /// The receipt is about another key.
    #[error("the receipt for certificate {0} names another key; the device did not store what it was sent")]
    WrongReceipt(Cti),
}

/// Whose registry is in a database; none if it was not given to an issuer yet.
async fn issuer_of(pool: &AnyPool) -> Result<Option<PublicKey>, Error> {
    let issuer: Option<(String,)> =
        sqlx::query_as("SELECT value FROM meta WHERE name = $1").bind(META_ISSUER).fetch_optional(pool).await?;
    let Some((issuer,)) = issuer else { return Ok(None) };
    let mut x = [0; 32];
    hex::decode_to_slice(issuer, &mut x).map_err(|_| Error::Corrupt(META_ISSUER))?;
    PublicKey::from_x(&x).map(Some).map_err(|_| Error::Corrupt(META_ISSUER))
}

impl Registry {
    /// The time of day, Unix seconds.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

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
        let Some(Connected { pool, is_frozen }) = opened else { return Ok(None) };
        let issuer = issuer_of(&pool).await;
        if !matches!(issuer, Ok(Some(_))) {
            pool.close().await;
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
        Ok(Some(Self { pool, clock, clock_ok, issuer, is_frozen, reserved: Arc::default(), turn: Arc::default() }))
    }

    /// Notes that the state is being made, and makes the registry's file and its schema, so that keys made from now on have a
    /// registry to be remembered by.
    pub async fn prepare(dir: &StateDir, lock: &Lock) -> Result<(), Error> {
        dir.begin(lock)?;
        dir.make_registry(lock)?;
        if let Some(connected) = schema::connect(dir, Purpose::Make(lock)).await? {
            connected.pool.close().await;
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
        let Connected { pool, is_frozen } = connected.ok_or_else(|| Error::NotInitialised(dir.path().to_owned()))?;
        let registry =
            Self { pool, clock, clock_ok: false, issuer, is_frozen, reserved: Arc::default(), turn: Arc::default() };
        let mut change = Change::begin(&registry).await?;
        sqlx::query("INSERT INTO meta (name, value) VALUES ($1, $2)")
            .bind(META_ISSUER)
            .bind(hex::encode(issuer.x()))
            .execute(&mut *change.tx)
            .await?;
        let event =
            Event::Initialised { issuer: issuer.thumbprint().to_string(), station: station.thumbprint().to_string() };
        change.record(None, &event).await?;
        change.commit().await?;
        dir.complete()?;
        Ok(registry)
    }

    /// Gives back the database, which whoever opens it next may need.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Closes it for whoever has it by then.
    pub fn closer(&self) -> Closer {
        Closer(self.pool.clone())
    }

    /// Whether it is seen as it was when it was opened: where nothing can be written, changes by others are not noticed.
    pub fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// Whose registry this is.
    pub fn issuer(&self) -> &PublicKey {
        &self.issuer
    }

    /// The issuer's ID, as it stands in certificates.
    pub fn issuer_id(&self) -> IssuerId {
        IssuerId(self.issuer.kid())
    }

    /// Gives a device a name for people.
    pub async fn set_nickname(&self, device: &DeviceId, nickname: &Nickname) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let nicknames = Nicknames::load(&mut change.tx).await?;
        if lookup::nickname_is_free(&mut change.tx, &nicknames, device, nickname).await? == Naming::Already {
            return Ok(());
        }
        let changed = sqlx::query("UPDATE devices SET nickname = $1 WHERE device = $2")
            .bind(nickname.as_str())
            .bind(device.as_str())
            .execute(&mut *change.tx)
            .await?;
        if changed.rows_affected() == 0 {
            return Err(Error::UnknownDevice(device.to_string()));
        }
        change.record(Some(device), &Event::Nickname { nickname: nickname.as_str().to_owned() }).await?;
        change.commit().await
    }

    /// Takes a device's nickname away. Returns it, if there was one.
    pub async fn remove_nickname(&self, device: &DeviceId) -> Result<Option<String>, Error> {
        let mut change = Change::begin(self).await?;
        let known = lookup::load(&mut change.tx, device).await?;
        let known = known.ok_or_else(|| Error::UnknownDevice(device.to_string()))?;
        let Some(nickname) = known.nickname else { return Ok(None) };
        sqlx::query("UPDATE devices SET nickname = NULL WHERE device = $1")
            .bind(device.as_str())
            .execute(&mut *change.tx)
            .await?;
        change.record(Some(device), &Event::NicknameRemoved { nickname: nickname.clone() }).await?;
        change.commit().await?;
        Ok(Some(nickname))
    }

    /// How many devices of ours, other than this one, hold a list that does not say what is true now; any list, if what is true
    /// `has_changed` a moment ago.
    pub async fn holders_of_older_lists(&self, but: &DeviceId, has_changed: bool) -> Result<u64, Error> {
        let mut reading = self.read().await?;
        let in_force = if has_changed { None } else { reading.list_in_force().await? };
        let row = sqlx::query(concat!(
            "SELECT COUNT(*) AS holders FROM devices WHERE list_version <> $2 AND device <> $1 \
             AND EXISTS (SELECT 1 FROM keys WHERE keys.device = devices.device AND ",
            mine!(),
            ")"
        ))
        .bind(but.as_str())
        // No list has this version.
        .bind(in_force.map_or(-1, sql::signed))
        .fetch_one(&mut *reading.0)
        .await?;
        sql::unsigned(&row, "holders")
    }
}
