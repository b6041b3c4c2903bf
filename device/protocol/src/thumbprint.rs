//! How keys are named: the COSE Key Thumbprint (RFC 9679).

use core::fmt;

use cbor_schemas::Kid;
use sha2::{Digest, Sha256};

/// The SHA-256 thumbprint of a key (RFC 9679); displayed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// The thumbprint of the key with these coordinates, big-endian: the digest of the deterministic
    /// `{1: 2, -1: 1, -2: x, -3: y}`.
    pub fn of(x: &[u8; 32], y: &[u8; 32]) -> Self {
        let hash = Sha256::new()
            .chain_update([0xa4, 0x01, 0x02, 0x20, 0x01, 0x21, 0x58, 0x20])
            .chain_update(x)
            .chain_update([0x22, 0x58, 0x20])
            .chain_update(y);
        Self(hash.finalize().into())
    }

    /// The key identifier that goes with it: its first 8 bytes.
    pub fn kid(&self) -> Kid {
        let [k0, k1, k2, k3, k4, k5, k6, k7, ..] = self.0;
        [k0, k1, k2, k3, k4, k5, k6, k7]
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

/// Bytes in hexadecimal.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
