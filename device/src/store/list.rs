//! The keys of the device list: bare x-coordinates in flash, in one of two halves of a range of its own.

use cbor_schemas::{DeviceListClaims, ListMode};
use embedded_storage::nor_flash::{NorFlash, NorFlashError as _};
use sha2::{Digest as _, Sha256};

use super::{
    Error, FaultReason,
    half::{CHUNK, Half},
    record::{Digest, Side},
};
use crate::LIST_KEYS;

/// What is known of the device list without its keys.
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
    /// The half that holds them.
    pub(super) side: Side,
}

impl List {
    /// What a signed list comes to on a device; `None` if it has more keys than fit.
    pub fn of(claims: &DeviceListClaims<'_>) -> Option<Self> {
        let count = u16::try_from(claims.keys.len()).ok().filter(|count| *count <= LIST_KEYS)?;
        let digest = claims.keys.iter().fold(Sha256::new(), |hash, key| hash.chain_update(key)).finalize().into();
        let DeviceListClaims { version, mode, min_iat, .. } = *claims;
        Some(List { version, mode, min_iat, count, digest, side: Side::A })
    }

    /// Whether both say the same, wherever they are stored.
    pub fn says_the_same(&self, other: &List) -> bool {
        List { side: self.side, ..*other } == *self
    }

    pub(super) fn on(self, side: Side) -> Self {
        List { side, ..self }
    }
}

/// Bytes of the longest list.
pub(super) const LIST_BYTES: usize = (LIST_KEYS as usize).saturating_mul(CHUNK);

impl<F: NorFlash> Half<'_, F> {
    /// Whether `x` is among the keys of `list`.
    ///
    /// # Errors
    /// [`FaultReason::List`] if they are not what the record names: a revoked key must not get lost.
    pub(super) fn contains(&mut self, list: &List, x: Option<&[u8; 32]>) -> Result<bool, Error> {
        let (mut hash, mut found, mut key) = (Sha256::new(), false, [0; 32]);
        for place in self.range.clone().step_by(CHUNK).take(list.count.into()) {
            self.flash.read(place, &mut key).map_err(|error| Error::Flash(error.kind()))?;
            hash.update(key);
            found |= x == Some(&key);
        }
        match list.digest == Digest::from(hash.finalize()) {
            true => Ok(found),
            false => Err(Error::Fault(FaultReason::List)),
        }
    }
}
