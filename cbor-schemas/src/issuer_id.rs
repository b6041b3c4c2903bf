use core::{fmt, str::FromStr};

use crate::{
    Error, Kid,
    codec::{Reader, Wire, Writer, codec},
};

/// An issuer, named by the kid of its signing key: 16 lower-case hexadecimal digits on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerId(pub Kid);

impl IssuerId {
    /// The size of the encoding in bytes.
    pub const MAX_LEN: usize = 17;

    fn to_hex(self) -> [u8; 16] {
        let mut text = [0; 16];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [hex_digit(byte >> 4), hex_digit(byte & 0x0f)];
        }
        text
    }
}

codec!(IssuerId);

impl FromStr for IssuerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits: [u8; 16] = text.as_bytes().try_into().map_err(|_| Error::WrongLength)?;
        let mut kid = Kid::default();
        for (byte, [high, low]) in kid.iter_mut().zip(digits.as_chunks::<2>().0) {
            *byte = hex_value(*high)? << 4 | hex_value(*low)?;
        }
        Ok(Self(kid))
    }
}

impl Wire<'_> for IssuerId {
    fn read(reader: &mut Reader<'_>) -> Self {
        let id = reader.str().parse();
        reader.value(id, Self(Kid::default()))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.str(str::from_utf8(&self.to_hex()).unwrap_or_default());
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.to_hex()).unwrap_or_default())
    }
}

impl fmt::Debug for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuerId({self})")
    }
}

fn hex_digit(value: u8) -> u8 {
    b"0123456789abcdef".get(usize::from(value)).copied().unwrap_or_default()
}

fn hex_value(digit: u8) -> Result<u8, Error> {
    match digit {
        b'0'..=b'9' => Ok(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Ok(digit.wrapping_sub(b'a').wrapping_add(10)),
        _ => Err(Error::OutOfRange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        let id = IssuerId([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        assert_eq!(id.to_string(), "0123456789abcdef");
        assert_eq!("0123456789abcdef".parse(), Ok(id));
    }

    #[test]
    fn other_texts() {
        for (text, error) in [
            ("", Error::WrongLength),
            ("0123456789abcde", Error::WrongLength),
            ("0123456789abcdef0", Error::WrongLength),
            ("0123456789ABCDEF", Error::OutOfRange),
            ("0123456789abcdeg", Error::OutOfRange),
            ("0123456789abcd\u{e4}", Error::OutOfRange),
        ] {
            assert_eq!(text.parse::<IssuerId>(), Err(error), "{text:?}");
        }
    }
}
