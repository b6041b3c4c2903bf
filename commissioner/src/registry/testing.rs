//! A registry in a temporary directory, with a clock that stands still.

use cbor_schemas::{
    ClaimPolicy, Condition, DeviceId, DeviceInfo, Features, KeyOrigin, Limits, Profile, ProofLevel, Receipt, SlotState,
    Watermarks,
};
use protocol::key::{PrivateKey, PublicKey};
use rand_core::OsRng;
use tempfile::TempDir;

use super::{
    Certificate, CertificateStatus, CountsBy, Cti, Device, Error, INTENT_LIFETIME, Intent, Key, KeyStatus,
    NewCertificate, Observation, Place, Provenance, Registry, Revoked, Slot, Succession, draft::Draft,
};
use crate::{clock::Clock, state_dir::StateDir};

/// 2026-11-22T15:24:00Z
pub(crate) const NOON: u64 = 1_795_361_040;

pub(crate) struct Fixture {
    pub(crate) dir: StateDir,
    pub(crate) clock: Clock,
    pub(crate) registry: Registry,
    /// The key of its station.
    pub(crate) station: PublicKey,
    _temp: TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::of_issuer(key()).await
    }

    pub(crate) async fn of_issuer(issuer: PublicKey) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::create(&temp.path().join("state 100%? #1")).unwrap();
        let clock = Clock::manual(NOON);
        let lock = dir.lock().unwrap();
        Registry::prepare(&dir, &lock).await.unwrap();
        let station = key();
        let registry = Registry::initialise(&dir, &lock, clock.clone(), issuer, station).await.unwrap();
        Self { dir, clock, registry, station, _temp: temp }
    }

    /// What a new process sees after this one was killed.
    pub(crate) async fn reopen(&mut self) {
        self.registry = self.open(false).await;
    }

    pub(crate) async fn open(&self, clock_ok: bool) -> Registry {
        Registry::open(&self.dir, self.clock.clone(), clock_ok).await.unwrap()
    }

    pub(crate) async fn device(&self, id: &DeviceId) -> Device {
        self.registry.device_by_id(id).await.unwrap().unwrap()
    }

    pub(crate) async fn status(&self, id: &DeviceId, key: &PublicKey) -> KeyStatus {
        self.device(id).await.key(key).unwrap().status
    }

    pub(crate) async fn certificate_status(&self, id: &DeviceId, cti: Cti) -> CertificateStatus {
        let device = self.device(id).await;
        device.keys.iter().flat_map(|key| &key.certificates).find(|it| it.cti == cti).unwrap().status
    }

    /// EDHOC with a device, somewhere.
    pub(crate) async fn proved(&self, id: &DeviceId, key: &PublicKey) -> Result<Succession, Error> {
        self.registry.observe_key(&seen(id, key, Place::Elsewhere, ProofLevel::Proved)).await
    }

    pub(crate) async fn begin(&self, id: &DeviceId, key: &PublicKey) -> Intent {
        self.registry.begin_issue(&wanted(id, key)).await.unwrap()
    }

    /// A device with an installed certificate.
    pub(crate) async fn commissioned(&self, id: &DeviceId) -> (PublicKey, Cti) {
        let key = key();
        assert_eq!(self.proved(id, &key).await.unwrap(), Succession::Pending);
        let cti = self.certified(id, &key).await;
        (key, cti)
    }

    /// A key that was proved gets its certificate, and is active by that.
    pub(crate) async fn certified(&self, id: &DeviceId, key: &PublicKey) -> Cti {
        let cti = self.begin(id, key).await.cti();
        self.registry.issued(cti, b"signed").await.unwrap();
        assert_eq!(self.registry.installed(cti, Some(&receipt(key))).await.unwrap(), KeyStatus::Active);
        cti
    }

    /// The events in a device's history.
    pub(crate) async fn events(&self, id: &DeviceId) -> Vec<String> {
        self.registry.history(id).await.unwrap().into_iter().map(|entry| entry.event).collect()
    }
}

pub(crate) fn key() -> PublicKey {
    *PrivateKey::generate(&mut OsRng).public()
}

pub(crate) fn id(name: &str) -> DeviceId {
    format!("urn:dev:ops:32473-test-{name}").parse().unwrap()
}

/// What a new device says of itself; without a key, its storage is at fault.
pub(crate) fn info(id: &DeviceId, key: Option<&PublicKey>) -> DeviceInfo<'static> {
    DeviceInfo {
        device: *id,
        credential: key.map(PublicKey::cose_key),
        generation: 1,
        key_origin: KeyOrigin::Generated,
        factory: SlotState::Empty,
        owner: SlotState::Empty,
        claim_policy: ClaimPolicy::Open,
        claim_counter: 0,
        watermarks: Watermarks::default(),
        nonce: [9; 8],
        firmware: "blinky 1.0",
        profile: Profile::Full,
        limits: Limits { datagram: 1100, body: 4096, list_keys: 16 },
        operation_ms: 1,
        condition: if key.is_some() { Condition::Ok } else { Condition::Fault },
        features: Features::NONE,
    }
}

pub(crate) fn seen(id: &DeviceId, key: &PublicKey, place: Place, proof: ProofLevel) -> Observation {
    Observation { device: *id, key: *key, generation: 1, profile: Profile::Full, place, proof }
}

pub(crate) fn wanted(id: &DeviceId, key: &PublicKey) -> NewCertificate {
    let cti = Cti::random(&mut OsRng);
    NewCertificate {
        device: *id,
        key: *key,
        slot: Slot::Owner,
        key_origin: KeyOrigin::Generated,
        cti,
        lifetime: INTENT_LIFETIME,
    }
}

pub(crate) fn receipt(key: &PublicKey) -> Receipt {
    Receipt { device: *key.x(), claim_counter: 1, generation: 1, digest: [7; 32] }
}

/// A key as it may be on record, without certificates.
pub(crate) fn on_record(key: &PublicKey, status: KeyStatus, counts_by: CountsBy) -> Key {
    let is_revoked = status == KeyStatus::Revoked;
    Key {
        x: *key.x(),
        thumbprint: key.thumbprint().to_string(),
        status,
        counts_by,
        mine: false,
        provenance: Provenance::Proved,
        proof: ProofLevel::Proved,
        generation: 1,
        first_seen: NOON,
        last_seen: NOON,
        revoked: is_revoked.then(|| Revoked { at: NOON, reason: "lost".to_owned() }),
        escrowed: false,
        certificates: Vec::new(),
    }
}

impl Key {
    /// The same key with one more certificate.
    pub(crate) fn with(mut self, cti: Cti, slot: Slot, status: CertificateStatus) -> Self {
        self.certificates.push(Certificate {
            cti,
            slot,
            status,
            issued_at: NOON,
            key_origin: KeyOrigin::Generated,
            proof: ProofLevel::Proved,
            object: (status != CertificateStatus::Intended).then(|| b"signed".to_vec()),
            receipt: None,
            transcript: None,
        });
        self
    }
}

/// A device as it may be on record.
pub(crate) fn device_of(id: &DeviceId, keys: Vec<Key>) -> Device {
    let mut device = Draft::new(*id, Profile::Full, NOON, NOON).device;
    device.keys = keys;
    device
}

/// The names of the events in a draft.
pub(super) fn noted(draft: &Draft) -> Vec<String> {
    draft.notes().iter().map(|note| note.event.parts().unwrap().0).collect()
}
