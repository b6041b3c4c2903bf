//! Changes to the registry: all of one, or nothing.

use std::{pin::pin, sync::Arc, time::Duration};

use cbor_schemas::DeviceId;
use sqlx::{Any, Row, Transaction};
use tokio::{sync::OwnedMutexGuard, time::timeout};

use super::{entry::AuditEntry, error::Error, event::Event, handle::Registry, rows::columns};
use crate::crash::{self, Point};

/// How long another writer is waited for without a word. A change takes some milliseconds.
const SILENT_WAIT: Duration = Duration::from_secs(1);

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
        let head = Head { seq: columns::unsigned(&row, "seq")?, hash: row.try_get("hash")? };
        let believed = columns::unsigned(&row, "believed")?;
        let newer_list = match row.try_get::<Option<String>, _>("newer_list_at")? {
            Some(device) => Some((columns::unsigned(&row, "newer_list")?, device)),
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
            .bind(version.map(columns::signed))
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
        .bind(columns::signed(entry.seq))
        .bind(columns::signed(entry.time))
        .bind(entry.device)
        .bind(entry.event)
        .bind(entry.payload)
        .bind(entry.previous)
        .bind(entry.hash.clone())
        .execute(&mut *self.tx)
        .await?;
        sqlx::query("UPDATE audit_head SET seq = $1, hash = $2, believed = $3 WHERE id = 1")
            .bind(columns::signed(entry.seq))
            .bind(entry.hash.clone())
            .bind(columns::signed(self.believed))
            .execute(&mut *self.tx)
            .await?;
        self.head.seq = entry.seq;
        self.head.hash = entry.hash;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::Fixture;

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
    async fn a_change_that_is_not_committed_leaves_nothing() {
        let fixture = Fixture::new().await;
        let before = fixture.registry.verify_audit().await.unwrap();
        let mut change = Change::begin(&fixture.registry).await.unwrap();
        change.record(None, &Event::Nickname { nickname: "nobody".to_owned() }).await.unwrap();
        drop(change);
        assert_eq!(fixture.registry.verify_audit().await.unwrap(), before);
    }
}
