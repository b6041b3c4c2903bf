//! Devices, keys and times for the tests of commands.

use cbor_schemas::{
    ClaimPolicy, Condition, DeviceId, DeviceInfo, Features, KeyOrigin, Limits, Profile, ProofLevel, Receipt, SlotState,
    Watermarks,
};
use commissioner::registry::{Cti, INTENT_LIFETIME, NewCertificate, Observation, Place, Registry, Slot};
use protocol::key::{PrivateKey, PublicKey};
use rand_core::OsRng;

/// 2026-11-22T15:24:00Z
pub(crate) const NOON: u64 = 1_795_361_040;

pub(crate) fn key() -> PublicKey {
    *PrivateKey::generate(&mut OsRng).public()
}

pub(crate) fn id(name: &str) -> DeviceId {
    format!("urn:dev:ops:32473-test-{name}").parse().unwrap()
}

/// What a new device says of itself.
pub(crate) fn info(id: &DeviceId, key: &PublicKey) -> DeviceInfo<'static> {
    DeviceInfo {
        device: *id,
        credential: Some(key.cose_key()),
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
        condition: Condition::Ok,
        features: Features::NONE,
    }
}

/// Makes a device with a new key one of ours, as far as the registry knows.
pub(crate) async fn commission(
    registry: &Registry,
    device: &DeviceId,
) -> Result<PublicKey, commissioner::registry::Error> {
    let key = key();
    let seen = Observation::new(&info(device, &key), key, Place::Trusted, ProofLevel::Proved);
    registry.observe_key(&seen).await?;
    let wanted = NewCertificate {
        device: *device,
        key,
        slot: Slot::Owner,
        key_origin: KeyOrigin::Generated,
        cti: Cti::random(&mut OsRng),
        lifetime: INTENT_LIFETIME,
    };
    let cti = registry.begin_issue(&wanted).await?.cti();
    registry.issued(cti, b"signed").await?;
    let receipt = Receipt { device: *key.x(), claim_counter: 1, generation: 1, digest: [7; 32] };
    registry.installed(cti, Some(&receipt)).await?;
    Ok(key)
}
