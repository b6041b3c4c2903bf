//! Values of the product at `/comm/slots/NAME`: what the owner tells an application, such as the passphrase of a network.
//!
//! A firmware declares each of them once, with what its bytes mean, and reads it by that declaration:
//!
//! ```
//! use commissionable_device::values::{Declared, Octets, Text, Value};
//!
//! /// Never given out again.
//! const PASSPHRASE: Declared<Text> = Declared::new("/comm/slots/wifi-passphrase", 64).secret();
//! /// The first one stays until the device is reset.
//! const SENDER: Declared<Octets<8>> = Declared::new("/comm/slots/sender-id", 8).write_once();
//! /// For `Board::VALUES`.
//! const VALUES: &[Value] = &[PASSPHRASE.value(), SENDER.value()];
//! ```
//!
//! The owner writes them, and reads those that are not secret. They go with their owner: a reset and a transfer erase them.

use core::marker::PhantomData;

use coap_numbers::code;
use minicbor::{Decoder, Encoder, encode::write::Cursor};

use crate::{
    problem::{Problem, Said},
    store::MAX_CONTENTS_LEN,
};

/// What the path of every value begins with.
pub const PREFIX: &str = "/comm/slots/";
/// The longest name, in bytes: a scope can name the path (AIF, at most 32 bytes).
pub const MAX_NAME_LEN: usize = 20;

/// What the bytes of a value mean.
pub trait ValueKind {
    /// What they mean.
    type Is<'v>;

    /// Reads them; `None` if they are no such value, and then they are not accepted either.
    fn read(bytes: &[u8]) -> Option<Self::Is<'_>>;
}

/// UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct Text;

/// So many bytes.
#[derive(Debug, Clone, Copy)]
pub struct Octets<const N: usize>;

/// The declaration of a value: a constant.
#[derive(Debug, Clone, Copy)]
pub struct Declared<K> {
    value: Value,
    kind: PhantomData<fn() -> K>,
}

/// A declaration without its type, for [`Board::VALUES`](crate::device::Board::VALUES).
#[derive(Debug, Clone, Copy)]
pub struct Value {
    /// The absolute path.
    pub path: &'static str,
    /// The largest size in bytes.
    pub max_len: u16,
    /// Only the first value counts, until the device is reset or handed on.
    pub write_once: bool,
    /// It cannot be read, by anybody.
    pub secret: bool,
    is_valid: fn(&[u8]) -> bool,
}

/// The values that a device holds.
#[derive(Debug, Clone, Copy)]
pub struct Values<'v> {
    /// A CBOR map from names to byte strings, which we wrote.
    encoded: &'v [u8],
}

impl ValueKind for Text {
    type Is<'v> = &'v str;

    fn read(bytes: &[u8]) -> Option<&str> {
        core::str::from_utf8(bytes).ok()
    }
}

impl<const N: usize> ValueKind for Octets<N> {
    type Is<'v> = [u8; N];

    fn read(bytes: &[u8]) -> Option<[u8; N]> {
        bytes.try_into().ok()
    }
}

impl<K: ValueKind> Declared<K> {
    /// A value of at most `max_len` bytes at `path`, which is [`PREFIX`] and a name of 1 to [`MAX_NAME_LEN`] bytes. In a
    /// constant, another path does not compile.
    pub const fn new(path: &'static str, max_len: u16) -> Self {
        assert!(is_path(path), "the path of a value is /comm/slots/ and a name of 1 to 20 bytes");
        let is_valid = |bytes: &[u8]| K::read(bytes).is_some();
        Declared { value: Value { path, max_len, write_once: false, secret: false, is_valid }, kind: PhantomData }
    }

    /// The same value, to be written once.
    pub const fn write_once(self) -> Self {
        Declared { value: Value { write_once: true, ..self.value }, ..self }
    }

    /// The same value, not to be read.
    pub const fn secret(self) -> Self {
        Declared { value: Value { secret: true, ..self.value }, ..self }
    }

    /// The declaration without its type.
    pub const fn value(&self) -> Value {
        self.value
    }
}

impl Value {
    /// The last segment of the path.
    pub fn name(&self) -> &'static str {
        self.path.get(PREFIX.len()..).unwrap_or_default()
    }

    /// Bytes that the value takes in storage at the most: two heads, the name, and the value.
    const fn stored_len(&self) -> usize {
        self.path.len().saturating_sub(PREFIX.len()).saturating_add(self.max_len as usize).saturating_add(2 + 3)
    }
}

const fn is_path(path: &str) -> bool {
    let (mut path, mut prefix) = (path.as_bytes(), PREFIX.as_bytes());
    while let ([byte, rest @ ..], [expected, more @ ..]) = (path, prefix) {
        if *byte != *expected {
            return false;
        }
        (path, prefix) = (rest, more);
    }
    prefix.is_empty() && !path.is_empty() && path.len() <= MAX_NAME_LEN
}

/// Whether there is room for all of `values`, however long each of them is.
pub(crate) const fn fit(values: &[Value]) -> bool {
    let (mut len, mut rest) = (2_usize, values);
    while let [value, others @ ..] = rest {
        len = len.saturating_add(value.stored_len());
        rest = others;
    }
    len <= MAX_CONTENTS_LEN
}

impl<'v> Values<'v> {
    /// What storage holds; nothing if it holds nothing.
    pub(crate) const fn stored(encoded: Option<&'v [u8]>) -> Self {
        Values {
            encoded: match encoded {
                Some(encoded) => encoded,
                None => &[],
            },
        }
    }

    /// The value of a declaration; `None` if it was not written, or is no such value for this firmware.
    pub fn get<K: ValueKind>(&self, declared: &Declared<K>) -> Option<K::Is<'v>> {
        K::read(self.bytes(&declared.value)?)
    }

    /// A value as it was written.
    pub(crate) fn bytes(&self, value: &Value) -> Option<&'v [u8]> {
        let mut decoder = Decoder::new(self.encoded);
        for _ in 0..decoder.map().ok()?? {
            let (name, bytes) = (decoder.str().ok()?, decoder.bytes().ok()?);
            if name == value.name() {
                return Some(bytes);
            }
        }
        None
    }

    /// Whether `bytes` may be written as the value of `value`: false if that is what it is already.
    ///
    /// # Errors
    /// 4.13 with the largest size; 4.09 if it was written once; 4.00 if it is no such value.
    pub(crate) fn check(&self, value: &Value, bytes: &[u8]) -> Result<bool, Problem> {
        if bytes.len() > value.max_len.into() {
            const TOO_LONG: &Said = &Said::new(code::REQUEST_ENTITY_TOO_LARGE, "the value is too long").with_size_1();
            return Err(Problem::with_number(TOO_LONG, value.max_len));
        }
        match self.bytes(value) {
            Some(held) if held == bytes => return Ok(false),
            Some(_) if value.write_once => {
                return Err(problem!(
                    code::CONFLICT,
                    "written once",
                    "it stays until the device is reset or handed on"
                ));
            }
            _ => {}
        }
        match (value.is_valid)(bytes) {
            true => Ok(true),
            false => Err(problem!(
                code::BAD_REQUEST,
                "malformed request",
                "the firmware does not take these bytes for this value"
            )),
        }
    }

    /// Writes what storage is to hold: of the values `declared`, those that are there, and `bytes` for the one at `changed`.
    /// Others were an older firmware's. Returns the length; `None` if `out` is too small.
    pub(crate) fn encode_with(
        &self,
        declared: &[Value],
        changed: usize,
        bytes: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let value_at = |(at, value)| Some((value, if at == changed { bytes } else { self.bytes(value)? }));
        let held = declared.iter().enumerate().filter_map(value_at);
        let mut encoder = Encoder::new(Cursor::new(out));
        encoder.map(held.clone().count().try_into().ok()?).ok()?;
        for (value, bytes) in held {
            encoder.str(value.name()).ok()?.bytes(bytes).ok()?;
        }
        Some(encoder.into_writer().position())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Declared<Text> = Declared::new("/comm/slots/name", 10);
    const NUMBER: Declared<Octets<2>> = Declared::new("/comm/slots/number", 2).write_once();
    const VALUES: [Value; 2] = [NAME.value(), NUMBER.value()];

    fn with(values: &Values<'_>, changed: usize, bytes: &[u8]) -> Vec<u8> {
        let mut out = [0; MAX_CONTENTS_LEN];
        let len = values.encode_with(&VALUES, changed, bytes, &mut out).unwrap();
        out[..len].to_vec()
    }

    #[test]
    fn values_are_read_by_their_declarations() {
        let empty = Values::stored(None);
        assert_eq!((empty.get(&NAME), empty.get(&NUMBER)), (None, None));
        let one = with(&empty, 1, &[1, 2]);
        let two = with(&Values::stored(Some(&one)), 0, "Lamp".as_bytes());
        let values = Values::stored(Some(&two));
        assert_eq!((values.get(&NAME), values.get(&NUMBER)), (Some("Lamp"), Some([1, 2])));
        let changed = with(&values, 0, b"");
        let values = Values::stored(Some(&changed));
        assert_eq!((values.get(&NAME), values.get(&NUMBER)), (Some(""), Some([1, 2])));
    }

    #[test]
    fn another_firmware_makes_nothing_else_of_them() {
        const OTHER: Declared<Octets<3>> = Declared::new("/comm/slots/number", 3);
        let one = with(&Values::stored(None), 1, &[1, 2]);
        let values = Values::stored(Some(&one));
        assert_eq!(values.get(&OTHER), None);
        // What is not declared any more goes at the next write.
        let mut out = [0; 100];
        let len = values.encode_with(&VALUES[..1], 0, b"a", &mut out).unwrap();
        let values = Values::stored(Some(&out[..len]));
        assert_eq!((values.get(&NAME), values.get(&NUMBER)), (Some("a"), None));
        for garbage in
            [&[][..], &[0xff], &[0xa1], &[0xa1, 0x61], &[0xbf, 0x61, b'a'], &[0xa1, 0x64, 0xff, 0xff, 0xff, 0xff, 0x40]]
        {
            assert_eq!(Values::stored(Some(garbage)).get(&NAME), None);
        }
    }

    #[test]
    fn paths_of_values() {
        for good in [NAME.value().path, "/comm/slots/x", "/comm/slots/12345678901234567890"] {
            assert!(is_path(good), "{good}");
            assert!(cbor_schemas::Aif::new(&[(good, 1)]).is_ok(), "{good}");
        }
        for bad in ["", "/comm/slots/", "/comm/slot/x", "/comm/slots", "/comm/slots/123456789012345678901"] {
            assert!(!is_path(bad), "{bad}");
        }
        assert_eq!((NAME.value().name(), NUMBER.value().name()), ("name", "number"));
    }

    #[test]
    fn all_that_may_be_declared_fits() {
        const LARGE: Declared<Text> = Declared::new("/comm/slots/12345678901234567890", 300);
        const SMALL: Declared<Text> = Declared::new("/comm/slots/s", 0);
        assert!(fit(&[]) && fit(&VALUES) && fit(&[LARGE.value(), SMALL.value()]));
        assert!(!fit(&[LARGE.value(), LARGE.value()]));
        // The sum is an upper bound, for each of the values at its longest.
        let declared = [LARGE.value(), NAME.value(), NUMBER.value()];
        let mut out = [0; MAX_CONTENTS_LEN];
        let mut encoded = Vec::new();
        for (at, value) in declared.iter().enumerate() {
            let bytes = vec![b'x'; value.max_len.into()];
            let len = Values::stored(Some(&encoded)).encode_with(&declared, at, &bytes, &mut out).unwrap();
            encoded = out[..len].to_vec();
        }
        let sum: usize = declared.iter().map(Value::stored_len).sum();
        assert!(encoded.len() <= sum + 2 && encoded.len() > sum - 8, "{} of {sum}", encoded.len());
    }
}
