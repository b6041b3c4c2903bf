//! What a commit record says of bytes that are stored elsewhere: their place, length and digest.

use sha2::{Digest as _, Sha256};

use super::error::Error;

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
    /// The item that holds them.
    pub(super) side: Side,
}

/// Contents alternate between two items, so that the old ones last until a record names the new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

impl Contents {
    /// Names `bytes`, of which there have to be 1 to [`MAX_CONTENTS_LEN`].
    pub(super) fn checked(bytes: &[u8], side: Side) -> Result<Self, Error> {
        match u16::try_from(bytes.len()) {
            Ok(len @ 1..) if bytes.len() <= MAX_CONTENTS_LEN => Ok(Contents { digest: digest(bytes), len, side }),
            _ => Err(Error::ContentsLength),
        }
    }

    pub(super) fn describes(&self, bytes: &[u8]) -> bool {
        usize::from(self.len) == bytes.len() && self.digest == digest(bytes)
    }
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}
