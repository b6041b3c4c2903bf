//! The audit trail: what happened, in order, each entry's hash covering the one before.
//!
//! The hash of an entry is SHA-256 over, in this order:
//!
//! | bytes | what |
//! |---|---|
//! | 32 | hash of the entry before; zeros before the first |
//! | 8 | sequence number, from 1, big-endian |
//! | 8 | time, Unix seconds, big-endian |
//! | 4 + n | device ID or nothing, UTF-8, after its length, big-endian |
//! | 4 + n | event, UTF-8, after its length |
//! | 4 + n | payload, the JSON text as stored, after its length |
//!
//! A chain alone proves nothing to whoever can rewrite all of it; it shows every change to a part of it.

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use cbor_schemas::DeviceId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{Any, Row, Transaction, any::AnyRow};
use tokio::{sync::OwnedMutexGuard, time::timeout};

use super::{
    Error, Reading, Registry, import,
    record::{CertificateStatus, Cti, Policy, Slot, StationScope},
    sql,
};
use crate::{
    clock::rfc3339,
    crash::{self, Point},
};

/// How long another writer is waited for without a word. A change takes some milliseconds.
const SILENT_WAIT: Duration = Duration::from_secs(1);
/// Entries read at a time while verifying.
const PAGE: i64 = 1_000;
/// What stands for the hash before the first entry.
pub(super) const BEFORE_FIRST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Counted from 1.
    pub seq: u64,
    /// Unix seconds.
    pub time: u64,
    /// The device it is about; empty if it is about none.
    pub device: String,
    /// What happened, such as `key-revoked`.
    pub event: String,
    /// The particulars, a JSON object.
    pub payload: String,
    /// The hash of the entry before, hex.
    pub previous: String,
    /// The hash of this entry, hex.
    pub hash: String,
    /// It is of a history that was imported.
    #[serde(skip)]
    pub elsewhere: bool,
}

impl AuditEntry {
    /// The entry for `--json`: `seq`, `time`, `event`, and the particulars.
    pub fn as_json(&self) -> Value {
        let mut line = serde_json::Map::new();
        line.insert("seq".to_owned(), self.seq.into());
        line.insert("time".to_owned(), rfc3339(self.time).into());
        line.insert("event".to_owned(), self.event.clone().into());
        if self.elsewhere {
            line.insert("elsewhere".to_owned(), true.into());
        }
        line.extend(self.particulars());
        line.into()
    }

    /// The particulars by name.
    pub fn particulars(&self) -> serde_json::Map<String, Value> {
        serde_json::from_str(&self.payload).unwrap_or_default()
    }

    /// The hash that this entry should have.
    pub(super) fn computed_hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(hex::decode(&self.previous).unwrap_or_default());
        hash.update(self.seq.to_be_bytes());
        hash.update(self.time.to_be_bytes());
        for text in [&self.device, &self.event, &self.payload] {
            hash.update((text.len() as u32).to_be_bytes());
            hash.update(text);
        }
        hex::encode(hash.finalize())
    }

    pub(super) fn from_row(row: &AnyRow) -> Result<Self, Error> {
        Ok(Self {
            seq: sql::unsigned(row, "seq")?,
            time: sql::unsigned(row, "time")?,
            device: row.try_get("device")?,
            event: row.try_get("event")?,
            payload: row.try_get("payload")?,
            previous: row.try_get("previous")?,
            hash: row.try_get("hash")?,
            elsewhere: row.try_get::<i64, _>("elsewhere").is_ok_and(|elsewhere| elsewhere == 1),
        })
    }
}

/// What can happen. Keys are named by thumbprint and certificates by `cti`, both in hex.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Event {
    Initialised { issuer: String, station: String },
    KeySeen { key: String, provenance: &'static str },
    KeyRaised { key: String, provenance: &'static str },
    KeySettled { key: String, because: String },
    KeyActive { key: String, because: String },
    KeyPending { key: String, because: String },
    KeyRevoked { key: String, reason: String },
    KeyConflict { key: String, conflict: String },
    SeenTwice { conflict: String },
    RekeyBegun { key: String },
    ResetBegun { key: String },
    PolicySet { policy: Policy },
    InjectionBegun { key: String, successor: String },
    InjectionRefused { key: String },
    RestoreBegun { key: String, instead: String },
    Restored { key: String, instead: Vec<String> },
    Released { key: String },
    CertificateIntended { cti: Cti, key: String, slot: Slot, proof: &'static str },
    CertificateIssued { cti: Cti, sha256: String },
    CertificateInstalled { cti: Cti, receipt: bool },
    CertificateVoid { cti: Cti, reason: String },
    ListIntended { version: u64, mode: &'static str, keys: usize, sha256: String },
    ListSigned { version: u64, sha256: String },
    ListHeld { version: Option<u64> },
    NewerListSeen { version: u64 },
    ImpossibleListSeen { version: u64 },
    NewerListSettled { version: u64 },
    SealIntended {},
    Imported { head: String, entries: u64, added: u64 },
    CertificateImported { cti: Cti, status: CertificateStatus },
    BackupMade {},
    BackupRestored {},
    TokenIntended { station: String, audience: String, scope: Vec<(String, u8)>, expires_at: Option<u64> },
    CertificateRequested { cti: Cti, transcript: String },
    StationIntended { token: String, station: String, scope: StationScope, expires_at: u64 },
    StationSigned { token: String, sha256: String },
    StationRevoked { station: String },
    VoucherIntended { slot: Slot, owner: String, claim_counter: u32, expires_at: Option<u64> },
    Nickname { nickname: String },
    NicknameRemoved { nickname: String },
    ClockSetBack { from: u64, to: u64 },
}

impl Event {
    /// The name of the event, and its particulars as JSON text.
    fn parts(&self) -> Result<(String, String), Error> {
        match serde_json::to_value(self) {
            Ok(Value::Object(object)) => object.into_iter().next().ok_or(Error::Corrupt("event")),
            _ => Err(Error::Corrupt("event")),
        }
        .map(|(name, particulars)| (name, particulars.to_string()))
    }
}

/// A change to the registry: everything in it happens together with its audit entries, or not at all.
pub(super) struct Change {
    pub(super) tx: Transaction<'static, Any>,
    /// The time of the change, Unix seconds: what the clock says, or once something is signed in it, the time that the
    /// signature bears.
    pub(super) now: u64,
    pub(super) clock_ok: bool,
    /// The newest time that a signature bears; 0 before the first one.
    pub(super) believed: u64,
    head: Head,
    /// The list that a device showed and that is unknown here, and the device.
    newer_list: Option<(u64, String)>,
    /// Others of this process wait for it.
    _turn: OwnedMutexGuard<()>,
}

/// The end of the chain.
struct Head {
    seq: u64,
    hash: String,
}

impl Change {
    /// Begins a change. Waits for other writers, and says so: the first statement takes the one row that all of them
    /// write.
    pub(super) async fn begin(registry: &Registry) -> Result<Self, Error> {
        let turn = Arc::clone(&registry.turn).lock_owned().await;
        let mut tx = registry.pool.begin().await?;
        let row = {
            let mut first =
                pin!(sqlx::query("UPDATE audit_head SET seq = seq WHERE id = 1 RETURNING *").fetch_one(&mut *tx));
            match timeout(SILENT_WAIT, &mut first).await {
                Ok(row) => row?,
                Err(_) => {
                    tracing::warn!("another commissioner is changing the registry; waiting until it is done");
                    first.await?
                }
            }
        };
        let head = Head { seq: sql::unsigned(&row, "seq")?, hash: row.try_get("hash")? };
        let believed = sql::unsigned(&row, "believed")?;
        let newer_list = match row.try_get::<Option<String>, _>("newer_list_at")? {
            Some(device) => Some((sql::unsigned(&row, "newer_list")?, device)),
            None => None,
        };
        Ok(Self { tx, now: registry.clock.now(), clock_ok: registry.clock_ok, believed, head, newer_list, _turn: turn })
    }

    /// Whether anything may be signed, as far as lists are concerned.
    ///
    /// # Errors
    /// [`Error::NewerList`].
    pub(super) fn signing_is_open(&self) -> Result<(), Error> {
        match &self.newer_list {
            Some((version, device)) => Err(Error::NewerList { device: device.clone(), version: *version }),
            None => Ok(()),
        }
    }

    /// Adds an entry about `device`.
    pub(super) async fn record(&mut self, device: Option<&DeviceId>, event: &Event) -> Result<(), Error> {
        let (name, payload) = event.parts()?;
        self.append(device, name, payload).await
    }

    /// Adds an entry, unless the last one about this device says the same.
    pub(super) async fn record_once(&mut self, device: &DeviceId, event: &Event) -> Result<(), Error> {
        let (name, payload) = event.parts()?;
        let last = sqlx::query("SELECT event, payload FROM audit WHERE device = $1 ORDER BY seq DESC LIMIT 1")
            .bind(device.as_str())
            .fetch_optional(&mut *self.tx)
            .await?;
        if let Some(last) = last
            && last.try_get::<String, _>("event")? == name
            && last.try_get::<String, _>("payload")? == payload
        {
            return Ok(());
        }
        self.append(Some(device), name, payload).await
    }

    /// The number of the last entry.
    pub(super) fn head_seq(&self) -> u64 {
        self.head.seq
    }

    /// The hash of the last entry.
    pub(super) fn head_hash(&self) -> Result<[u8; 32], Error> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.head.hash, &mut hash).map_err(|_| Error::Corrupt("hash"))?;
        Ok(hash)
    }

    /// From now on nothing is signed, because of a list that `device` holds.
    pub(super) async fn block_signing(&mut self, device: &DeviceId, version: u64) -> Result<(), Error> {
        self.set_newer_list(Some((version, device.to_string()))).await?;
        self.record_once(device, &Event::NewerListSeen { version }).await
    }

    /// What `device` said does not count any more.
    pub(super) async fn unblock_signing(&mut self, device: &DeviceId) -> Result<(), Error> {
        match self.newer_list.take_if(|(_, blocking)| blocking == device.as_str()) {
            Some((version, _)) => {
                self.set_newer_list(None).await?;
                self.record(Some(device), &Event::NewerListSettled { version }).await
            }
            None => Ok(()),
        }
    }

    /// Lists up to version `newest` are known now: what a device holds of them is no riddle any more.
    pub(super) async fn list_is_known(&mut self, newest: u64) -> Result<(), Error> {
        let blocking = self.newer_list.as_ref().map(|(version, _)| *version).filter(|version| *version <= newest);
        let is_known = match blocking {
            Some(version) => self.knows_list(version).await?,
            None => false,
        };
        match self.newer_list.take_if(|_| is_known) {
            Some((version, _)) => {
                self.set_newer_list(None).await?;
                self.record(None, &Event::NewerListSettled { version }).await
            }
            None => Ok(()),
        }
    }

    async fn set_newer_list(&mut self, newer_list: Option<(u64, String)>) -> Result<(), Error> {
        self.newer_list = newer_list;
        let (version, device) = self.newer_list.clone().unzip();
        sqlx::query("UPDATE audit_head SET newer_list = $1, newer_list_at = $2 WHERE id = 1")
            .bind(version.map(sql::signed))
            .bind(device)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Makes the change durable.
    pub(super) async fn commit(self) -> Result<(), Error> {
        crash::at(Point::BeforeCommit);
        self.tx.commit().await?;
        crash::at(Point::AfterCommit);
        Ok(())
    }

    async fn append(&mut self, device: Option<&DeviceId>, event: String, payload: String) -> Result<(), Error> {
        let mut entry = AuditEntry {
            seq: self.head.seq + 1,
            time: self.now,
            device: device.map(|id| id.as_str().to_owned()).unwrap_or_default(),
            event,
            payload,
            previous: self.head.hash.clone(),
            hash: String::new(),
            elsewhere: false,
        };
        entry.hash = entry.computed_hash();
        sqlx::query(
            "INSERT INTO audit (seq, time, device, event, payload, previous, hash) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(sql::signed(entry.seq))
        .bind(sql::signed(entry.time))
        .bind(entry.device)
        .bind(entry.event)
        .bind(entry.payload)
        .bind(entry.previous)
        .bind(entry.hash.clone())
        .execute(&mut *self.tx)
        .await?;
        sqlx::query("UPDATE audit_head SET seq = $1, hash = $2, believed = $3 WHERE id = 1")
            .bind(sql::signed(entry.seq))
            .bind(entry.hash.clone())
            .bind(sql::signed(self.believed))
            .execute(&mut *self.tx)
            .await?;
        self.head.seq = entry.seq;
        self.head.hash = entry.hash;
        Ok(())
    }
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tampering {
    /// It is not there.
    Missing,
    /// Its hash is not that of what it says.
    Changed,
    /// It does not follow the one before: one of the two was changed, or their order.
    Unconnected,
    /// It is beyond the end of the chain, or before its beginning.
    Extra,
}

impl fmt::Display for Tampering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Changed => "was changed",
            Self::Unconnected => "does not follow the one before: one of them was changed, or put in another place",
            Self::Extra => "was added behind the end of the trail, or the end was cut off",
        })
    }
}

/// A chain that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSummary {
    /// How many entries there are.
    pub entries: u64,
    /// The hash of the last, hex.
    pub head: String,
}

impl Registry {
    /// What happened to a device, oldest first, here and in the registries that were imported.
    pub async fn history(&self, device: &DeviceId) -> Result<Vec<AuditEntry>, Error> {
        const COLUMNS: &str = "seq, time, device, event, payload, previous, hash";
        let query = format!(
            "SELECT {COLUMNS}, 0 AS elsewhere FROM audit WHERE device = $1 UNION ALL \
             SELECT {COLUMNS}, 1 AS elsewhere FROM imported WHERE device = $1 ORDER BY time, elsewhere DESC, seq"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query)).bind(device.as_str()).fetch_all(&self.pool).await?;
        rows.iter().map(AuditEntry::from_row).collect()
    }

    /// Checks every entry of the audit trail, and that none is missing.
    ///
    /// # Errors
    /// [`Error::Tampered`] with the first entry that does not fit, and how.
    pub async fn verify_audit(&self) -> Result<AuditSummary, Error> {
        // One snapshot of entries and head, so that a writer in between does not look like a forger.
        let mut tx = self.pool.begin().await?;
        let mut summary = AuditSummary { entries: 0, head: BEFORE_FIRST.to_owned() };
        let mut imported = Vec::new();
        loop {
            let rows = sqlx::query("SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2")
                .bind(sql::signed(summary.entries))
                .bind(PAGE)
                .fetch_all(&mut *tx)
                .await?;
            for row in &rows {
                let entry = AuditEntry::from_row(row)?;
                let seq = summary.entries + 1;
                let what = if entry.seq != seq {
                    Some(Tampering::Missing)
                } else if entry.hash != entry.computed_hash() {
                    Some(Tampering::Changed)
                } else if entry.previous != summary.head {
                    Some(Tampering::Unconnected)
                } else {
                    None
                };
                if let Some(what) = what {
                    return Err(Error::Tampered { seq, what });
                }
                if entry.event == "imported"
                    && let Some(Value::String(head)) = entry.particulars().remove("head")
                {
                    imported.push(head);
                }
                summary = AuditSummary { entries: seq, head: entry.hash };
            }
            if rows.is_empty() {
                break;
            }
        }
        let head = sqlx::query("SELECT seq, hash FROM audit_head WHERE id = 1").fetch_one(&mut *tx).await?;
        for (number, head) in imported.iter().enumerate() {
            import::verify(&mut tx, head, &imported[..number]).await?;
        }
        let next = summary.entries + 1;
        let ends_at = sql::unsigned(&head, "seq")?;
        let is_end = ends_at == summary.entries && head.try_get::<String, _>("hash")? == summary.head;
        let before_first = sqlx::query("SELECT seq FROM audit WHERE seq < 1").fetch_optional(&mut *tx).await?;
        match (is_end, before_first) {
            (true, None) => Ok(summary),
            (false, None) if ends_at > summary.entries => Err(Error::Tampered { seq: next, what: Tampering::Missing }),
            _ => Err(Error::Tampered { seq: next, what: Tampering::Extra }),
        }
    }
}

impl Reading {
    /// The number of the last entry, and its hash.
    pub async fn head(&mut self) -> Result<AuditSummary, Error> {
        let row = sqlx::query("SELECT seq, hash FROM audit_head WHERE id = 1").fetch_one(&mut *self.0).await?;
        Ok(AuditSummary { entries: sql::unsigned(&row, "seq")?, head: row.try_get("hash")? })
    }

    /// Some entries after `after`, in order; none at the end.
    pub async fn entries(&mut self, after: u64) -> Result<Vec<AuditEntry>, Error> {
        let rows = sqlx::query("SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2")
            .bind(sql::signed(after))
            .bind(PAGE)
            .fetch_all(&mut *self.0)
            .await?;
        rows.iter().map(AuditEntry::from_row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::{Fixture, NOON, id};

    #[test]
    fn the_byte_layout_is_the_documented_one() {
        let entry = AuditEntry {
            seq: 2,
            time: NOON,
            device: "urn:dev:ops:32473-test-1".to_owned(),
            event: "nickname".to_owned(),
            payload: r#"{"nickname":"kitchen"}"#.to_owned(),
            previous: "11".repeat(32),
            hash: String::new(),
            elsewhere: false,
        };
        let mut bytes = vec![0x11; 32];
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        bytes.extend((NOON as u32).to_be_bytes());
        for text in ["urn:dev:ops:32473-test-1", "nickname", r#"{"nickname":"kitchen"}"#] {
            bytes.extend([0, 0, 0, text.len() as u8]);
            bytes.extend(text.as_bytes());
        }
        assert_eq!(entry.computed_hash(), hex::encode(Sha256::digest(bytes)));
    }

    /// Whoever waits for itself does not blame another one.
    #[tokio::test]
    async fn another_commissioner_is_another_process() {
        #[derive(Clone, Default)]
        struct Log(Arc<std::sync::Mutex<Vec<u8>>>);
        impl std::io::Write for Log {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (log, fixture) = (Log::default(), Fixture::new().await);
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let said = || String::from_utf8(log.0.lock().unwrap().clone()).unwrap();

        let change = Change::begin(&fixture.registry).await.unwrap();
        assert!(timeout(2 * SILENT_WAIT, Change::begin(&fixture.registry)).await.is_err(), "one after the other");
        assert_eq!(said(), "");
        let other = fixture.open(false).await;
        assert!(timeout(2 * SILENT_WAIT, Change::begin(&other)).await.is_err());
        assert!(said().contains("another commissioner is changing the registry"), "{}", said());
        drop(change);
        Change::begin(&fixture.registry).await.unwrap();
    }

    #[tokio::test]
    async fn every_kind_of_tampering_shows() {
        let tamperings = [
            ("UPDATE audit SET payload = '{}' WHERE seq = 3", 3),
            ("UPDATE audit SET time = time + 1 WHERE seq = 3", 3),
            ("UPDATE audit SET device = '' WHERE seq = 3", 3),
            ("UPDATE audit SET event = 'nothing' WHERE seq = 3", 3),
            ("UPDATE audit SET previous = hash WHERE seq = 3", 3),
            ("UPDATE audit SET hash = previous WHERE seq = 3", 3),
            ("UPDATE audit SET hash = 'no hex' WHERE seq = 3", 3),
            ("UPDATE audit SET seq = 99 WHERE seq = 3", 3),
            ("UPDATE audit SET seq = -3 WHERE seq = 3", 3),
            ("DELETE FROM audit WHERE seq = 1", 1),
            ("DELETE FROM audit WHERE seq = 6", 6),
            ("DELETE FROM audit", 1),
            ("INSERT INTO audit SELECT 7, time, device, event, payload, hash, previous FROM audit WHERE seq = 6", 7),
            ("INSERT INTO audit SELECT 0, time, device, event, payload, previous, hash FROM audit WHERE seq = 6", 7),
            ("UPDATE audit_head SET seq = 5", 7),
            ("UPDATE audit_head SET hash = ''", 7),
        ];
        for (tampering, expected) in tamperings {
            let fixture = Fixture::new().await;
            fixture.commissioned(&id("device")).await;
            assert_eq!(fixture.registry.verify_audit().await.unwrap().entries, 6);
            sqlx::query(tampering).execute(&fixture.registry.pool).await.unwrap();
            match fixture.registry.verify_audit().await {
                Err(Error::Tampered { seq, .. }) => assert_eq!(seq, expected, "{tampering}"),
                other => panic!("{tampering}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn an_entry_forged_with_its_hash_does_not_fit_the_next() {
        let fixture = Fixture::new().await;
        let device = id("device");
        fixture.commissioned(&device).await;
        let mut forged = fixture.registry.history(&device).await.unwrap().swap_remove(1);
        forged.time += 1;
        sqlx::query("UPDATE audit SET time = $1, hash = $2 WHERE seq = $3")
            .bind(sql::signed(forged.time))
            .bind(forged.computed_hash())
            .bind(sql::signed(forged.seq))
            .execute(&fixture.registry.pool)
            .await
            .unwrap();
        let verdict = fixture.registry.verify_audit().await;
        assert!(
            matches!(verdict, Err(Error::Tampered { seq, what: Tampering::Unconnected }) if seq == forged.seq + 1),
            "{verdict:?}"
        );
    }

    #[tokio::test]
    async fn a_change_that_is_not_committed_leaves_nothing() {
        let fixture = Fixture::new().await;
        let before = fixture.registry.verify_audit().await.unwrap();
        let mut change = Change::begin(&fixture.registry).await.unwrap();
        change.record(None, &Event::Nickname { nickname: "nobody".to_owned() }).await.unwrap();
        drop(change);
        assert_eq!(fixture.registry.verify_audit().await.unwrap(), before);
    }

    #[tokio::test]
    async fn long_chains_are_verified_to_their_end() {
        let fixture = Fixture::new().await;
        let mut change = Change::begin(&fixture.registry).await.unwrap();
        for n in 0..PAGE {
            change.record(None, &Event::Nickname { nickname: n.to_string() }).await.unwrap();
        }
        change.commit().await.unwrap();
        assert_eq!(fixture.registry.verify_audit().await.unwrap().entries, 1 + PAGE as u64);
        sqlx::query("UPDATE audit SET payload = '' WHERE seq = 1001").execute(&fixture.registry.pool).await.unwrap();
        assert!(matches!(
            fixture.registry.verify_audit().await,
            Err(Error::Tampered { seq: 1001, what: Tampering::Changed })
        ));
    }

    #[tokio::test]
    async fn entries_read_like_records() {
        let fixture = Fixture::new().await;
        let device = id("device");
        fixture.commissioned(&device).await;
        let history = fixture.registry.history(&device).await.unwrap();
        let first = history.first().unwrap().as_json();
        assert_eq!(first["event"], "key-seen");
        assert_eq!(first["time"], "2026-11-22T15:24:00Z");
        assert_eq!(first["provenance"], "proved");
        assert_eq!(first["seq"], 2);
    }
}
