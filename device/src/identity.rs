//! The device's own key: made on the device, and never leaving it; or derived from a secret of its hardware; or injected by
//! its owner, who then knows it too.

use cbor_schemas::{DeviceId, KeyOrigin, PrivateCoseKey};
use hkdf::Hkdf;
use protocol::key::{KeyError, PrivateKey};
use rand_core::CryptoRngCore;
use sha2::Sha256;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

/// A key and where it came from.
pub(crate) struct Identity {
    /// The key pair, its public point with an even y.
    pub key: PrivateKey,
    /// Generated here, injected by an owner, or derived from a hardware-unique key.
    pub origin: KeyOrigin,
}

/// A secret that the hardware has from its making: unique to the chip, known to nobody, and out of reach of debuggers.
/// Overwritten when dropped.
pub struct HardwareSecret([u8; 32]);

impl Identity {
    /// The key of a device whose flash is blank: derived if the board has a `secret`, so that it is the same one after each
    /// erase; else a new one.
    pub(crate) fn first(secret: Option<HardwareSecret>, device: &DeviceId, rng: &mut impl CryptoRngCore) -> Self {
        match secret.and_then(|secret| secret.derive(device)) {
            Some(key) => Identity { key, origin: KeyOrigin::Derived },
            None => Self::generate(rng),
        }
    }

    /// Makes a new key from `rng`, which must be a real source of randomness.
    pub(crate) fn generate(rng: &mut impl CryptoRngCore) -> Self {
        Identity { key: PrivateKey::generate(rng), origin: KeyOrigin::Generated }
    }

    /// Takes a key that somebody else made. What `key` holds is wiped.
    ///
    /// # Errors
    /// [`KeyError::OutOfRange`]; [`KeyError::NoPair`] if x does not belong to d.
    pub(crate) fn injected(mut key: PrivateCoseKey) -> Result<Self, KeyError> {
        let taken = PrivateKey::from_cose(&key);
        key.d.zeroize();
        taken.map(|key| Identity { key, origin: KeyOrigin::Injected })
    }
}

impl HardwareSecret {
    /// Takes the secret; whoever copied it wipes the copy.
    pub const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// HKDF-SHA-256 (RFC 5869) without salt; info is a label, the device ID and a counter, which is 0 unless that gives no
    /// scalar between 1 and n - 1: once in 2^32 devices.
    fn derive(&self, device: &DeviceId) -> Option<PrivateKey> {
        let hkdf = Hkdf::<Sha256>::new(None, &self.0);
        (0..=u8::MAX).find_map(|counter| {
            let mut scalar = Zeroizing::new([0; 32]);
            let info = [b"commissioning device key 1 ", device.as_str().as_bytes(), &[counter]];
            hkdf.expand_multi_info(&info, &mut *scalar).ok()?;
            PrivateKey::from_bytes(&scalar).ok()
        })
    }
}

impl Drop for HardwareSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for HardwareSecret {}

#[cfg(test)]
mod tests {
    use hexlit::hex;
    use rand_core::OsRng;

    use super::*;

    fn device(name: &str) -> DeviceId {
        format!("urn:dev:ops:32473-lamp-{name}").parse().unwrap()
    }

    /// Computed with another implementation: Python's `cryptography`, HKDF and SECP256R1.
    #[test]
    fn a_derived_key_is_the_documented_one() {
        let identity = Identity::first(Some(HardwareSecret::new([0x5a; 32])), &device("1"), &mut OsRng);
        assert_eq!(identity.origin, KeyOrigin::Derived);
        assert_eq!(
            *identity.key.public().x(),
            hex!("b1b36ce9b21bd98d802a8cb5ea79fb79a381c3de888f6b6d5714c05f450b3908")
        );
    }

    #[test]
    fn a_derived_key_belongs_to_one_secret_and_one_id() {
        let key = |secret, name| {
            let identity = Identity::first(Some(HardwareSecret::new([secret; 32])), &device(name), &mut OsRng);
            *identity.key.public().x()
        };
        assert_eq!(key(1, "1"), key(1, "1"));
        assert_ne!(key(1, "1"), key(2, "1"));
        assert_ne!(key(1, "1"), key(1, "2"));
    }

    #[test]
    fn without_a_secret_each_key_is_a_new_one() {
        let key = || Identity::first(None, &device("1"), &mut OsRng);
        assert_eq!(key().origin, KeyOrigin::Generated);
        assert_ne!(key().key.public().x(), key().key.public().x());
    }

    #[test]
    fn an_injected_key_has_to_be_a_pair() {
        let (one, other) = (PrivateKey::generate(&mut OsRng), PrivateKey::generate(&mut OsRng));
        let pair = |x: &PrivateKey, d: [u8; 32]| Identity::injected(PrivateCoseKey { x: *x.public().x(), d });
        let taken = pair(&one, *one.as_bytes()).unwrap();
        assert_eq!((taken.key.public(), taken.origin), (one.public(), KeyOrigin::Injected));
        assert_eq!(pair(&other, *one.as_bytes()).err(), Some(KeyError::NoPair));
        assert_eq!(pair(&one, [0; 32]).err(), Some(KeyError::OutOfRange));
        assert_eq!(pair(&one, [0xff; 32]).err(), Some(KeyError::OutOfRange));
    }
}
