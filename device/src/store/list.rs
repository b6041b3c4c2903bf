//! The device list without its keys, as the image has it.

use cbor_schemas::{DeviceListClaims, ListMode};
use sha2::{Digest as _, Sha256};

use super::{chunk::Side, contents::Digest};
use crate::LIST_KEYS;

/// What the image says of the device list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// Its version.
    pub version: u64,
    /// What its keys mean.
    pub mode: ListMode,
    /// Station tokens issued before this time (Unix seconds) are void.
    pub min_iat: u64,
    /// How many keys it has.
    pub count: u16,
    /// SHA-256 of the keys, one after the other.
    pub digest: Digest,
    /// The half of the list's range that holds them.
    pub(super) side: Side,
}

impl List {
    /// What a signed list comes to on a device; `None` if it has more keys than fit.
    pub fn of(claims: &DeviceListClaims<'_>) -> Option<Self> {
        let count = u16::try_from(claims.keys.len()).ok().filter(|count| *count <= LIST_KEYS)?;
        let mut hash = Sha256::new();
        claims.keys.iter().for_each(|key| hash.update(key));
        let DeviceListClaims { version, mode, min_iat, .. } = *claims;
        Some(List { version, mode, min_iat, count, digest: hash.finalize().into(), side: Side::A })
    }

    /// Whether both say the same, wherever they are stored.
    pub fn says_the_same(&self, other: &List) -> bool {
        List { side: self.side, ..*other } == *self
    }
}
