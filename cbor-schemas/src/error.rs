use core::fmt;

use crate::SCHEMA_VERSION;

/// Why bytes were refused, or why a value could not be written.
///
/// The text of [`Display`](fmt::Display) says what is wrong, then what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Error {
    /// The input ends inside an item, or there is no input.
    Truncated,
    /// Bytes follow the item.
    TrailingBytes,
    /// These bytes are not CBOR: a reserved head, a stray break, text that is not UTF-8.
    Malformed,
    /// A longer head than needed, an indefinite length, or map keys out of order (RFC 8949 section 4.2.1).
    NotDeterministic,
    /// A map holds the same key twice.
    DuplicateKey,
    /// Items are nested more than [`MAX_DEPTH`](crate::MAX_DEPTH) levels deep.
    TooDeep,
    /// An item of another CBOR type stands where the schema has something else.
    WrongType,
    /// A byte string or an array is not as long as the schema says.
    WrongLength,
    /// A text or a list exceeds what the schema, or the receiving buffer, has room for.
    TooLong,
    /// The type is right, the value is none that the schema knows.
    OutOfRange,
    /// A key is missing that the schema demands.
    MissingKey,
    /// A closed map holds a key that the schema does not know.
    UnknownKey,
    /// A COSE_Sign1 whose protected header is not that of the expected kind of signed object.
    WrongKind,
    /// The writer's buffer is too small.
    NoSpace,
    /// A [`DeviceInfo`](crate::DeviceInfo) of this other schema version.
    Version(u16),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Error::Truncated => "the data is cut off; receive all of it",
            Error::TrailingBytes => "bytes follow the CBOR item; send exactly one item",
            Error::Malformed => "not well-formed CBOR; check the sender",
            Error::NotDeterministic => "not deterministic CBOR; use shortest heads, definite lengths, sorted keys",
            Error::DuplicateKey => "a map holds a key twice; send each key once",
            Error::TooDeep => "nested too deep; send a flatter item",
            Error::WrongType => "an item has the wrong CBOR type; compare with the CDDL",
            Error::WrongLength => "a byte string or array has the wrong length; compare with the CDDL",
            Error::TooLong => "too long; shorten it, or give a larger buffer",
            Error::OutOfRange => "a value is outside its range; compare with the CDDL",
            Error::MissingKey => "a mandatory map key is missing; compare with the CDDL",
            Error::UnknownKey => "unknown key in a closed map; compare with the CDDL",
            Error::WrongKind => "not the expected kind of signed object; look at its typ header",
            Error::NoSpace => "the output does not fit; give a larger buffer",
            Error::Version(found) => {
                return write!(
                    f,
                    "schema version {found}, but only {SCHEMA_VERSION} is known here; update this software"
                );
            }
        };
        f.write_str(text)
    }
}

impl core::error::Error for Error {}
