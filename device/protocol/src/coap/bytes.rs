use core::fmt;

/// At most `N` bytes, held by value: a token, an OSCORE ID, a Partial IV.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortBytes<const N: usize> {
    // The bytes past the length are always zero, so comparing the whole array compares the contents.
    bytes: [u8; N],
    length: u8,
}

impl<const N: usize> ShortBytes<N> {
    /// No bytes.
    pub const EMPTY: Self = Self { bytes: [0; N], length: 0 };

    /// A copy of `bytes`; `None` if there are more than `N`.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut this = Self::EMPTY;
        this.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        this.length = u8::try_from(bytes.len()).ok()?;
        Some(this)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        usize::from(self.length)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl<const N: usize> Default for ShortBytes<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> From<u8> for ShortBytes<N> {
    /// Exactly one byte.
    fn from(byte: u8) -> Self {
        Self::new(&[byte]).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Debug for ShortBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("h'")?;
        for byte in self.as_slice() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("'")
    }
}
