//! What an image says of the contents that it holds: their length and digest.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroize as _;

use super::error::{Error, FaultReason};

/// Longest contents of a slot, in bytes.
pub const MAX_CONTENTS_LEN: usize = 640;

/// SHA-256 of some bytes in storage.
pub type Digest = [u8; 32];

/// A slot of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Who made it.
    Factory,
    /// Who owns it.
    Owner,
}

/// What a slot holds, by length and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// SHA-256 of the encoded contents, as a receipt shows it.
    pub digest: Digest,
    /// Length of the encoded contents, in bytes.
    pub len: u16,
}

/// A buffer that all contents fit in, and that drivers which copy whole words can use: 640 bytes, aligned to four. Wiped when
/// it is dropped.
#[repr(align(4))]
pub struct Scratch([u8; MAX_CONTENTS_LEN]);

/// Where in an image some contents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Factory = 0,
    Owner = 1,
    Values = 2,
}

impl Contents {
    /// Describes `bytes`, of which there have to be 1 to [`MAX_CONTENTS_LEN`].
    pub(super) fn of(bytes: &[u8]) -> Result<Self, Error> {
        match u16::try_from(bytes.len()) {
            Ok(len @ 1..) if bytes.len() <= MAX_CONTENTS_LEN => Ok(Contents { digest: digest(bytes), len }),
            _ => Err(Error::ContentsLength),
        }
    }

    pub(super) fn describes(&self, bytes: &[u8]) -> bool {
        usize::from(self.len) == bytes.len() && self.digest == digest(bytes)
    }
}

impl Part {
    pub(super) fn of(slot: Slot) -> Self {
        match slot {
            Slot::Factory => Part::Factory,
            Slot::Owner => Part::Owner,
        }
    }

    pub(super) fn fault(self) -> FaultReason {
        match self {
            Part::Factory => FaultReason::FactoryContents,
            Part::Owner => FaultReason::OwnerContents,
            Part::Values => FaultReason::Values,
        }
    }
}

impl Scratch {
    /// A buffer of zeros.
    pub const fn new() -> Self {
        Scratch([0; MAX_CONTENTS_LEN])
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Scratch {
    /// It may have held a secret value.
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// The bytes of a private key, overwritten when dropped.
pub struct KeyBytes(pub(super) [u8; 32]);

impl KeyBytes {
    /// No key yet.
    pub const fn new() -> Self {
        KeyBytes([0; 32])
    }

    /// The secret scalar, big-endian, as it was given to the store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Default for KeyBytes {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for KeyBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
