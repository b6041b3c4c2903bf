//! The pieces that flash is read and programmed in, and the two halves that they are in.

use zeroize::Zeroize as _;

/// What is read and programmed at once: the words of any flash that is supported divide it. Aligned for drivers that copy
/// whole words, and wiped when it is dropped.
#[repr(align(4))]
#[derive(PartialEq, Eq)]
pub(super) struct Chunk(pub(super) [u8; Chunk::LEN]);

/// One of two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    A = 0,
    B = 1,
}

impl Chunk {
    pub(super) const LEN: usize = 32;

    pub(super) const fn blank() -> Self {
        Chunk([0xFF; Chunk::LEN])
    }

    pub(super) fn is_blank(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0xFF)
    }

    /// Takes the chunk number `at` of `bytes`, blank behind their end.
    pub(super) fn take(&mut self, bytes: &[u8], at: u32) {
        self.0.fill(0xFF);
        let bytes = bytes.chunks(Chunk::LEN).nth(at as usize).unwrap_or_default();
        self.0.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }

    pub(super) fn from_bit(bit: bool) -> Self {
        if bit { Side::B } else { Side::A }
    }
}
