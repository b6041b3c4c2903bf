//! The device's own key: made on the device, once, and never leaving it.

use cbor_schemas::KeyOrigin;
use protocol::key::PrivateKey;
use rand_core::CryptoRngCore;

/// A key and where it came from.
pub struct Identity {
    /// The key pair, its public point with an even y.
    pub key: PrivateKey,
    /// Generated here, injected by an owner, or derived from a hardware-unique key.
    pub origin: KeyOrigin,
}

impl Identity {
    /// Makes a new key from `rng`, which must be a real source of randomness.
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        Identity { key: PrivateKey::generate(rng), origin: KeyOrigin::Generated }
    }
}
