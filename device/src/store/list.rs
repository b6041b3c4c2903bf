//! The keys of the device list: bare x-coordinates in flash, in one of two halves of a range of its own.
//!
//! No map is needed here. A half is erased and written as a whole, and counts only once a commit record names it with its
//! digest, so the half that is in force is never touched.

use core::ops::Range;

use cbor_schemas::{DeviceListClaims, ListMode};
use embedded_storage::nor_flash::{NorFlash, NorFlashError as _};
use sha2::{Digest as _, Sha256};

use super::{
    Error, FaultReason,
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

/// A half of the range.
pub(super) struct Half<'f, F> {
    flash: &'f mut F,
    range: Range<u32>,
}

/// Bytes of a key.
const KEY: u32 = 32;

/// Pages of a half.
pub(super) const fn half_pages<F: NorFlash>() -> u32 {
    (LIST_KEYS as u32).saturating_mul(KEY).div_ceil(F::ERASE_SIZE as u32)
}

impl<'f, F: NorFlash> Half<'f, F> {
    /// The half `side` of a range that begins at `start`.
    pub(super) fn new(flash: &'f mut F, start: u32, side: Side) -> Self {
        let len = const { half_pages::<F>().saturating_mul(F::ERASE_SIZE as u32) };
        let start = match side {
            Side::A => start,
            Side::B => start.saturating_add(len),
        };
        Half { flash, range: start..start.saturating_add(len) }
    }

    /// Writes keys. What was there is gone.
    pub(super) fn write<'k>(&mut self, keys: impl Iterator<Item = &'k [u8; 32]>) -> Result<(), Error> {
        self.flash.erase(self.range.start, self.range.end).map_err(|error| Error::Flash(error.kind()))?;
        let places = self.range.clone().step_by(KEY as usize);
        for (place, key) in places.zip(keys) {
            // Whole words: those of any flash that is supported divide 32 bytes.
            self.flash.write(place, key).map_err(|error| Error::Flash(error.kind()))?;
        }
        Ok(())
    }

    /// Whether `x` is among the keys of `list`.
    ///
    /// # Errors
    /// [`FaultReason::List`] if they are not what the record names: a revoked key must not get lost.
    pub(super) fn contains(&mut self, list: &List, x: Option<&[u8; 32]>) -> Result<bool, Error> {
        let (mut hash, mut found, mut key) = (Sha256::new(), false, [0; 32]);
        for place in self.range.clone().step_by(KEY as usize).take(list.count.into()) {
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
