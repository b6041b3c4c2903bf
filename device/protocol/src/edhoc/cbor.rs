//! A reader for the CBOR sequences of EDHOC.
//!
//! EDHOC hashes its messages as they were sent, so there must be one way to write each: anything but the
//! deterministic encoding (RFC 8949 section 4.2.1) is [`Error::Malformed`].

use super::error::Error;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Takes items off the front of a slice.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Succeeds if nothing is left.
    pub(super) fn end(&self) -> Result<(), Error> {
        if self.is_empty() { Ok(()) } else { Err(Error::Malformed) }
    }

    /// What has been read since `earlier`, a clone made before.
    pub(super) fn read_since(&self, earlier: &Self) -> &'a [u8] {
        let length = earlier.rest.len().saturating_sub(self.rest.len());
        earlier.rest.get(..length).unwrap_or_default()
    }

    /// Reads exactly these bytes, if they come next.
    pub(super) fn literal(&mut self, expected: &[u8]) -> Result<(), Error> {
        self.rest = self.rest.strip_prefix(expected).ok_or(Error::Malformed)?;
        Ok(())
    }

    pub(super) fn int(&mut self) -> Result<i64, Error> {
        let (major, argument) = self.head()?;
        let value = i64::try_from(argument).map_err(|_| Error::Malformed)?;
        match major {
            UNSIGNED => Ok(value),
            NEGATIVE => Ok(!value), // -1 - value
            _ => Err(Error::Malformed),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Error> {
        self.string(BYTES)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        core::str::from_utf8(self.string(TEXT)?).map_err(|_| Error::Malformed)
    }

    /// The number of items in the array that begins here.
    pub(super) fn array(&mut self) -> Result<u64, Error> {
        self.expect(ARRAY)
    }

    /// The number of pairs in the map that begins here.
    pub(super) fn map(&mut self) -> Result<u64, Error> {
        self.expect(MAP)
    }

    pub(super) fn next_is_bytes(&self) -> bool {
        self.next_major() == Some(BYTES)
    }

    pub(super) fn next_is_array(&self) -> bool {
        self.next_major() == Some(ARRAY)
    }

    pub(super) fn next_is_map(&self) -> bool {
        self.next_major() == Some(MAP)
    }

    /// A byte string in the short form that RFC 9528 gives connection and key identifiers (section 3.3.2): one byte
    /// that is the encoding of an integer from -24 to 23 stands for itself, any other string is a `bstr`.
    pub(super) fn identifier(&mut self) -> Result<&'a [u8], Error> {
        if let Some((first, rest)) = self.rest.split_at_checked(1)
            && is_small_int(first)
        {
            self.rest = rest;
            return Ok(first);
        }
        let bytes = self.bytes()?;
        if is_small_int(bytes) { Err(Error::Malformed) } else { Ok(bytes) }
    }

    fn next_major(&self) -> Option<u8> {
        self.rest.first().map(|initial| initial >> 5)
    }

    fn string(&mut self, major: u8) -> Result<&'a [u8], Error> {
        let length = usize::try_from(self.expect(major)?).map_err(|_| Error::Malformed)?;
        let (string, rest) = self.rest.split_at_checked(length).ok_or(Error::Malformed)?;
        self.rest = rest;
        Ok(string)
    }

    fn expect(&mut self, major: u8) -> Result<u64, Error> {
        let (found, argument) = self.head()?;
        if found == major { Ok(argument) } else { Err(Error::Malformed) }
    }

    /// Reads an initial byte and its argument (RFC 8949 section 3): major type and value.
    fn head(&mut self) -> Result<(u8, u64), Error> {
        let (&initial, rest) = self.rest.split_first().ok_or(Error::Malformed)?;
        let info = initial & 0x1f;
        let (length, least) = match info {
            0..=23 => (0, 0),
            24 => (1, 24),
            25 => (2, 0x100),
            26 => (4, 0x1_0000),
            27 => (8, 0x1_0000_0000),
            _ => return Err(Error::Malformed), // reserved, or of indefinite length
        };
        let (argument, rest) = rest.split_at_checked(length).ok_or(Error::Malformed)?;
        let value = if length == 0 {
            u64::from(info)
        } else {
            argument.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
        };
        if value < least {
            return Err(Error::Malformed); // a shorter head would have done
        }
        self.rest = rest;
        Ok((initial >> 5, value))
    }
}

/// Whether these bytes are the encoding of an integer from -24 to 23.
pub(super) fn is_small_int(bytes: &[u8]) -> bool {
    matches!(bytes, [0x00..=0x17 | 0x20..=0x37])
}

#[cfg(test)]
mod tests {
    use hexlit::hex;

    use super::*;

    #[test]
    fn integers() {
        for (bytes, value) in [
            (&hex!("00")[..], 0),
            (&hex!("17"), 23),
            (&hex!("1818"), 24),
            (&hex!("190100"), 256),
            (&hex!("20"), -1),
            (&hex!("37"), -24),
            (&hex!("3818"), -25),
            (&hex!("1b7fffffffffffffff"), i64::MAX),
            (&hex!("3b7fffffffffffffff"), i64::MIN),
        ] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.int(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn heads_longer_than_needed_reserved_or_cut_short_are_malformed() {
        for bytes in [
            &hex!("1817")[..],
            &hex!("3800"),
            &hex!("1900ff"),
            &hex!("1a0000ffff"),
            &hex!("1b00000000ffffffff"),
            &hex!("1bffffffffffffffff"),
            &hex!("1c"),
            &hex!("1f"),
            &hex!("18"),
            &hex!("1901"),
            &hex!("40"),
            &[],
        ] {
            assert_eq!(Reader::new(bytes).int(), Err(Error::Malformed), "{bytes:02x?}");
        }
    }

    #[test]
    fn strings() {
        assert_eq!(Reader::new(&hex!("43616263")).bytes(), Ok(&b"abc"[..]));
        assert_eq!(Reader::new(&hex!("43616263")).text(), Err(Error::Malformed));
        assert_eq!(Reader::new(&hex!("63616263")).text(), Ok("abc"));
        assert_eq!(Reader::new(&hex!("61ff")).text(), Err(Error::Malformed));
        assert_eq!(Reader::new(&hex!("436162")).bytes(), Err(Error::Malformed));
        assert_eq!(Reader::new(&hex!("5803616263")).bytes(), Err(Error::Malformed));
        assert_eq!(Reader::new(&hex!("5f4100ff")).bytes(), Err(Error::Malformed));
        assert_eq!(Reader::new(&hex!("5bffffffffffffffff00")).bytes(), Err(Error::Malformed));
    }

    #[test]
    fn identifiers() {
        assert_eq!(Reader::new(&hex!("17")).identifier(), Ok(&hex!("17")[..]));
        assert_eq!(Reader::new(&hex!("37")).identifier(), Ok(&hex!("37")[..]));
        assert_eq!(Reader::new(&hex!("40")).identifier(), Ok(&[][..]));
        assert_eq!(Reader::new(&hex!("4118")).identifier(), Ok(&hex!("18")[..]));
        assert_eq!(Reader::new(&hex!("420001")).identifier(), Ok(&hex!("0001")[..]));
        assert_eq!(Reader::new(&hex!("4117")).identifier(), Err(Error::Malformed));
        assert_eq!(Reader::new(&hex!("1818")).identifier(), Err(Error::Malformed));
        assert_eq!(Reader::new(&[]).identifier(), Err(Error::Malformed));
    }
}
