//! Changes to the registry: all of one, or nothing.

use std::{pin::pin, sync::Arc, time::Duration};

use cbor_schemas::DeviceId;
use protocol::key::PublicKey;
use tokio::{sync::OwnedMutexGuard, time::timeout};

use super::{
    conflict::Conflict,
    draft::Draft,
    entry::AuditEntry,
    error::Error,
    event::Event,
    handle::Registry,
    record::{Cti, Device},
    rows::{Head, Rows},
};
use crate::crash::{self, Point};

/// How long another writer is waited for without a word. A change takes some milliseconds.
const SILENT_WAIT: Duration = Duration::from_secs(1);

/// A change to the registry: everything in it happens together with its audit entries, or not at all. All writing goes through
/// one, and from its beginning on nobody else writes: see [`Rows`] for what that asks of a database.
pub(super) struct Change {
    pub(super) rows: Rows,
    /// The time of the change, Unix seconds: what the clock says, or once something is signed in it, the time that the
    /// signature bears.
    pub(super) now: u64,
    pub(super) clock_ok: bool,
    /// The end of the chain. What is said in it of `believed` is written with the next entry.
    pub(super) head: Head,
    /// Others of this process wait for it.
    _turn: OwnedMutexGuard<()>,
}

impl Change {
    /// Begins a change. Waits for other writers, and says so: the first statement takes the one row that all of them
    /// write.
    pub(super) async fn begin(registry: &Registry) -> Result<Self, Error> {
        let turn = Arc::clone(&registry.turn).lock_owned().await;
        let mut rows = registry.database.write().await?;
        let head = {
            let mut first = pin!(rows.lock_head());
            match timeout(SILENT_WAIT, &mut first).await {
                Ok(head) => head?,
                Err(_) => {
                    tracing::warn!("another commissioner is changing the registry; waiting until it is done");
                    first.await?
                }
            }
        };
        Ok(Self { rows, now: registry.clock.now(), clock_ok: registry.clock_ok, head, _turn: turn })
    }

    /// Whether anything may be signed, as far as lists are concerned.
    ///
    /// # Errors
    /// [`Error::NewerList`].
    pub(super) fn signing_is_open(&self) -> Result<(), Error> {
        match &self.head.newer_list {
            Some((version, device)) => Err(Error::NewerList { device: device.clone(), version: *version }),
            None => Ok(()),
        }
    }

    /// The device with this ID, to be changed.
    pub(super) async fn draft(&mut self, device: &DeviceId) -> Result<Option<Draft>, Error> {
        let device = self.rows.device(device).await?;
        Ok(device.map(|device| Draft::of(device, self.now)))
    }

    /// A device to be changed, one of whose keys is this one.
    ///
    /// # Errors
    /// [`Error::UnknownKey`].
    pub(super) async fn draft_with(&mut self, device: &DeviceId, key: &PublicKey) -> Result<Draft, Error> {
        let draft = self.draft(device).await?.filter(|draft| draft.device.key(key).is_some());
        draft.ok_or_else(|| Error::UnknownKey { device: *device, key: key.thumbprint().to_string() })
    }

    /// The device that a certificate is about, to be changed.
    ///
    /// # Errors
    /// [`Error::UnknownCertificate`].
    pub(super) async fn draft_about(&mut self, cti: Cti) -> Result<Draft, Error> {
        let unknown = || Error::UnknownCertificate(cti);
        let device = self.rows.subject(cti).await?.ok_or_else(unknown)?;
        self.draft(&device).await?.ok_or_else(unknown)
    }

    /// Writes what became of a device, and adds what happened to the trail.
    pub(super) async fn save(&mut self, draft: &Draft) -> Result<(), Error> {
        let Device { id, .. } = draft.device;
        if let Some(device) = draft.changed_device() {
            self.rows.put_device(device).await?;
        }
        for (ordinal, key) in draft.changed_keys() {
            self.rows.put_key(&id, ordinal, key).await?;
        }
        for (x, certificate) in draft.changed_certificates() {
            self.rows.put_certificate(x, certificate).await?;
        }
        for note in draft.notes() {
            self.append(Some(&id), &note.event, note.time, note.is_once).await?;
        }
        Ok(())
    }

    /// Ends a change that is about one device, if there is anything to write.
    pub(super) async fn keep(mut self, draft: &Draft) -> Result<(), Error> {
        if draft.is_blank() {
            return Ok(());
        }
        self.save(draft).await?;
        self.commit().await
    }

    /// Ends a change with a conflict: on record, and an error.
    pub(super) async fn refuse<T>(
        mut self,
        device: &DeviceId,
        key: &PublicKey,
        conflict: Conflict,
    ) -> Result<T, Error> {
        let event = Event::KeyConflict { key: key.thumbprint().to_string(), conflict: conflict.to_string() };
        self.record_once(device, &event).await?;
        self.commit().await?;
        Err(conflict.into())
    }

    /// Adds an entry about `device`.
    pub(super) async fn record(&mut self, device: Option<&DeviceId>, event: &Event) -> Result<(), Error> {
        self.append(device, event, self.now, false).await
    }

    /// Adds an entry, unless the last one about this device says the same.
    pub(super) async fn record_once(&mut self, device: &DeviceId, event: &Event) -> Result<(), Error> {
        self.append(Some(device), event, self.now, true).await
    }

    /// The hash of the last entry.
    pub(super) fn head_hash(&self) -> Result<[u8; 32], Error> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.head.hash, &mut hash).map_err(|_| Error::Corrupt("hash"))?;
        Ok(hash)
    }

    /// From now on nothing is signed, because of a list that `device` holds.
    pub(super) async fn block_signing(&mut self, device: &DeviceId, version: u64) -> Result<(), Error> {
        self.head.newer_list = Some((version, device.to_string()));
        self.rows.put_head(&self.head).await?;
        self.record_once(device, &Event::NewerListSeen { version }).await
    }

    /// What `device` said does not count any more.
    pub(super) async fn unblock_signing(&mut self, device: &DeviceId) -> Result<(), Error> {
        match self.head.newer_list.take_if(|(_, blocking)| blocking == device.as_str()) {
            Some((version, _)) => self.record(Some(device), &Event::NewerListSettled { version }).await,
            None => Ok(()),
        }
    }

    /// Lists up to version `newest` are known now: what a device holds of them is no riddle any more.
    pub(super) async fn list_is_known(&mut self, newest: u64) -> Result<(), Error> {
        let Some((version, _)) = self.head.newer_list.clone().filter(|(version, _)| *version <= newest) else {
            return Ok(());
        };
        if !self.rows.has_list(version).await? {
            return Ok(());
        }
        self.head.newer_list = None;
        self.record(None, &Event::NewerListSettled { version }).await
    }

    /// Makes the change durable.
    pub(super) async fn commit(self) -> Result<(), Error> {
        crash::at(Point::BeforeCommit);
        self.rows.commit().await?;
        crash::at(Point::AfterCommit);
        Ok(())
    }

    async fn append(
        &mut self,
        device: Option<&DeviceId>,
        event: &Event,
        time: u64,
        is_once: bool,
    ) -> Result<(), Error> {
        let (event, payload) = event.parts()?;
        if let Some(device) = device.filter(|_| is_once)
            && let Some(last) = self.rows.last_about(device).await?
            && (&last.event, &last.payload) == (&event, &payload)
        {
            return Ok(());
        }
        let mut entry = AuditEntry {
            seq: self.head.seq + 1,
            time,
            device: device.map(|id| id.as_str().to_owned()).unwrap_or_default(),
            event,
            payload,
            previous: self.head.hash.clone(),
            hash: String::new(),
            elsewhere: false,
        };
        entry.hash = entry.computed_hash();
        self.rows.put_entry(&entry).await?;
        (self.head.seq, self.head.hash) = (entry.seq, entry.hash);
        self.rows.put_head(&self.head).await
    }
}

#[cfg(test)]
mod tests {
    use cbor_schemas::{Profile, ProofLevel};

    use super::*;
    use crate::registry::{
        CertificateStatus, CountsBy, Key, KeyStatus, Policy, Provenance, Slot,
        testing::{Fixture, NOON, id, key, on_record},
    };

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

    /// All that a record has is in its rows: when it is new, and when it is changed.
    #[tokio::test]
    async fn what_is_saved_is_what_is_loaded() {
        let fixture = Fixture::new().await;
        let (device, [old, new, other]) = (id("device"), [key(), key(), key()]);
        let mut change = Change::begin(&fixture.registry).await.unwrap();
        let mut draft = Draft::new(device, Profile::Minimal, NOON, NOON);
        draft.device.keys = vec![
            on_record(&old, KeyStatus::Revoked, CountsBy::Word).with(
                Cti([1; 8]),
                Slot::Factory,
                CertificateStatus::Void,
            ),
            on_record(&new, KeyStatus::Active, CountsBy::Certificate)
                .with(Cti([2; 8]), Slot::Owner, CertificateStatus::Installed)
                .with(Cti([3; 8]), Slot::Owner, CertificateStatus::Intended),
        ];
        draft.device.keys[1].mine = true;
        change.save(&draft).await.unwrap();
        let mut again = change.draft(&device).await.unwrap().unwrap();
        assert_eq!(again.device, draft.device);

        let changed = &mut again.device;
        (changed.profile, changed.policy) = (Profile::Full, Policy::Derive);
        (changed.first_seen, changed.last_seen, changed.list_version) = (1, 2, Some(3));
        changed.nickname = Some("kitchen".to_owned());
        changed.keys[1] = Key {
            provenance: Provenance::Programming,
            proof: ProofLevel::Unproven,
            generation: 4,
            first_seen: 5,
            last_seen: 6,
            counts_by: CountsBy::Report,
            ..changed.keys[1].clone()
        };
        let open = &mut changed.keys[1].certificates[1];
        (open.status, open.object) = (CertificateStatus::Issued, Some(b"signed".to_vec()));
        (open.receipt, open.transcript) = (Some(b"receipt".to_vec()), Some([7; 32]));
        changed.keys.push(on_record(&other, KeyStatus::Pending, CountsBy::GivenUp));
        change.save(&again).await.unwrap();
        assert_eq!(change.draft(&device).await.unwrap().unwrap().device, again.device);

        // A key hands over to another one in one change, though one at a time is active.
        let mut handed_over = change.draft(&device).await.unwrap().unwrap();
        handed_over.settle(other.x(), CountsBy::Report, "why").unwrap();
        change.save(&handed_over).await.unwrap();
        let known = change.rows.device(&device).await.unwrap().unwrap();
        assert_eq!(known.active().map(|key| key.x), Some(*other.x()));
    }
}
