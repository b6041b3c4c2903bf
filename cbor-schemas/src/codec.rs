//! How every wire type gets its public `decode` and `encode`, and the leaf values that maps are made of.

use minicbor::{Decoder, Encoder, data::Tag};

use crate::{Error, deterministic};

/// Reads one item, and writes one. What is wrong stays in the reader or the writer; what was read with an error counts for
/// nothing.
pub(crate) trait Wire<'b>: Sized {
    fn read(reader: &mut Reader<'b>) -> Self;
    fn write(&self, writer: &mut Writer<'_>);
}

pub(crate) fn decode<'b, T: Wire<'b>>(bytes: &'b [u8]) -> Result<T, Error> {
    let mut reader = Reader::new(bytes);
    let value = T::read(&mut reader);
    reader.end()?;
    Ok(value)
}

pub(crate) fn encode<'b, T: Wire<'b>>(value: &T, out: &mut [u8]) -> Result<usize, Error> {
    let mut writer = Writer::new(out);
    value.write(&mut writer);
    writer.end()
}

/// Gives a wire type its public `decode` and `encode`.
macro_rules! codec {
    ($name:ident $(<$life:lifetime>)?) => {
        impl $(<$life>)? $name $(<$life>)? {
            /// Reads a value from the whole of `bytes`.
            ///
            /// # Errors
            /// Anything but one deterministically encoded item that the CDDL accepts is refused; see
            /// [`Error`](crate::Error).
            pub fn decode(bytes: & $($life)? [u8]) -> Result<Self, crate::Error> {
                crate::codec::decode(bytes)
            }

            /// Writes the value to the start of `out` and returns the number of bytes written.
            ///
            /// # Errors
            /// [`Error::NoSpace`](crate::Error::NoSpace) if `out` is too small; another one if the value breaks a rule of
            /// the schema. Either way `out` may have been written to.
            pub fn encode(&self, out: &mut [u8]) -> Result<usize, crate::Error> {
                crate::codec::encode(self, out)
            }
        }
    };
}
pub(crate) use codec;

/// A decoder whose first error stays. With an error, numbers are 0 and all else is empty, so that whoever reads on comes to
/// an end; nobody needs to look at each item.
pub(crate) struct Reader<'b> {
    decoder: Decoder<'b>,
    error: Option<Error>,
}

impl<'b> Reader<'b> {
    /// Of input that has to be exactly one deterministic item.
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { decoder: Decoder::new(bytes), error: deterministic::check(bytes).err() }
    }

    /// The error, if there was one.
    pub(crate) fn end(&self) -> Result<(), Error> {
        self.error.map_or(Ok(()), Err)
    }

    #[inline(never)]
    pub(crate) fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// Fails if this did.
    pub(crate) fn must(&mut self, result: Result<(), Error>) {
        self.value(result, ());
    }

    /// The value, or `otherwise` and a failure.
    pub(crate) fn value<T>(&mut self, result: Result<T, Error>, otherwise: T) -> T {
        result.unwrap_or_else(|error| {
            self.fail(error);
            otherwise
        })
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// What `read` reads; nothing after an error, or with one of its own.
    fn item<T: Default>(&mut self, read: impl FnOnce(&mut Decoder<'b>) -> Result<T, Error>) -> T {
        if self.has_failed() {
            return T::default();
        }
        let result = read(&mut self.decoder);
        self.value(result, T::default())
    }

    #[inline(never)]
    pub(crate) fn u64(&mut self, most: u64) -> u64 {
        self.item(|decoder| {
            let value = decoder.u64()?;
            if value > most { Err(Error::OutOfRange) } else { Ok(value) }
        })
    }

    #[inline(never)]
    pub(crate) fn bytes(&mut self) -> &'b [u8] {
        self.item(|decoder| Ok(decoder.bytes()?))
    }

    #[inline(never)]
    pub(crate) fn str(&mut self) -> &'b str {
        self.item(|decoder| Ok(decoder.str()?))
    }

    /// A byte string that must be as long as `out`.
    #[inline(never)]
    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        let bytes = self.bytes();
        match bytes.len() == out.len() {
            true => out.copy_from_slice(bytes),
            false => self.fail(Error::WrongLength),
        }
    }

    /// Opens an array: the number of its items.
    #[inline(never)]
    pub(crate) fn array(&mut self) -> u64 {
        self.item(|decoder| decoder.array()?.ok_or(Error::NotDeterministic))
    }

    /// An array, each of whose items `read` reads.
    pub(crate) fn items(&mut self, mut read: impl FnMut(&mut Self)) {
        let mut left = self.array();
        while left > 0 && !self.has_failed() {
            left = left.saturating_sub(1);
            read(self);
        }
    }

    /// Opens an array that must have `len` items.
    pub(crate) fn array_of(&mut self, len: u64) {
        if self.array() != len {
            self.fail(Error::WrongLength);
        }
    }

    /// Opens a map: the number of its entries.
    #[inline(never)]
    pub(crate) fn map(&mut self) -> u64 {
        self.item(|decoder| decoder.map()?.ok_or(Error::NotDeterministic))
    }

    /// Moves over a tag, which must be this one.
    pub(crate) fn tag(&mut self, tag: Tag) {
        self.item(|decoder| if decoder.tag()? == tag { Ok(()) } else { Err(Error::WrongType) });
    }

    /// Moves over `null`, if it is the next item.
    #[inline(never)]
    pub(crate) fn null(&mut self) -> bool {
        self.item(|decoder| {
            let is_null = decoder.input().get(decoder.position()) == Some(&NULL);
            if is_null {
                decoder.null()?;
            }
            Ok(is_null)
        })
    }

    /// An item of its own inside a byte string.
    pub(crate) fn embedded<T: Wire<'b>>(&mut self) -> T {
        let mut inner = Self::new(self.bytes());
        let value = T::read(&mut inner);
        self.must(inner.end());
        value
    }

    /// Moves over any item, and gives its bytes.
    #[inline(never)]
    pub(crate) fn skip(&mut self) -> &'b [u8] {
        self.item(|decoder| deterministic::item_bytes(decoder, deterministic::skip))
    }

    /// The bytes that `read` moved over.
    pub(crate) fn bytes_of(&mut self, read: impl FnOnce(&mut Self)) -> &'b [u8] {
        let start = self.decoder.position();
        read(self);
        self.decoder.input().get(start..self.decoder.position()).unwrap_or_default()
    }
}

/// An encoder whose first error stays.
pub(crate) struct Writer<'o> {
    encoder: Encoder<Buffer<'o>>,
    error: Option<Error>,
}

impl<'o> Writer<'o> {
    pub(crate) fn new(out: &'o mut [u8]) -> Self {
        Self { encoder: Encoder::new(Buffer { bytes: out, len: 0 }), error: None }
    }

    /// The number of bytes that were written.
    pub(crate) fn end(&self) -> Result<usize, Error> {
        self.error.map_or(Ok(self.len()), Err)
    }

    #[inline(never)]
    pub(crate) fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// Fails if this did.
    pub(crate) fn must(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.fail(error);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.encoder.writer().len
    }

    pub(crate) fn written(&self) -> &[u8] {
        let buffer = self.encoder.writer();
        buffer.bytes.get(..buffer.len).unwrap_or_default()
    }

    /// The byte that was written at `position`.
    pub(crate) fn byte_mut(&mut self, position: usize) -> Option<&mut u8> {
        let buffer = self.encoder.writer_mut();
        buffer.bytes.get_mut(..buffer.len)?.get_mut(position)
    }

    fn item<T>(&mut self, written: impl FnOnce(&mut Encoder<Buffer<'o>>) -> Result<T, Full>) {
        let written = written(&mut self.encoder);
        self.must(written.map(drop).map_err(|_| Error::NoSpace));
    }

    #[inline(never)]
    pub(crate) fn i64(&mut self, value: i64) {
        self.item(|encoder| encoder.i64(value).map(drop));
    }

    #[inline(never)]
    pub(crate) fn u64(&mut self, value: u64) {
        self.item(|encoder| encoder.u64(value).map(drop));
    }

    #[inline(never)]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.item(|encoder| encoder.bytes(bytes).map(drop));
    }

    #[inline(never)]
    pub(crate) fn str(&mut self, text: &str) {
        self.item(|encoder| encoder.str(text).map(drop));
    }

    #[inline(never)]
    pub(crate) fn array(&mut self, len: u64) {
        self.item(|encoder| encoder.array(len).map(drop));
    }

    pub(crate) fn map(&mut self, len: u64) {
        self.item(|encoder| encoder.map(len).map(drop));
    }

    pub(crate) fn tag(&mut self, tag: Tag) {
        self.item(|encoder| encoder.tag(tag).map(drop));
    }

    pub(crate) fn null(&mut self) {
        self.item(|encoder| encoder.null().map(drop));
    }

    /// The head of a byte string.
    pub(crate) fn bytes_len(&mut self, len: u64) {
        self.item(|encoder| encoder.bytes_len(len).map(drop));
    }
}

type Full = minicbor::encode::Error<Error>;

/// `null` on the wire (RFC 8949 section 3.3).
const NULL: u8 = 0xf6;

/// Where an encoder writes.
struct Buffer<'o> {
    bytes: &'o mut [u8],
    len: usize,
}

impl minicbor::encode::Write for Buffer<'_> {
    type Error = Error;

    #[inline(never)]
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let end = self.len.checked_add(bytes.len()).ok_or(Error::NoSpace)?;
        self.bytes.get_mut(self.len..end).ok_or(Error::NoSpace)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}

impl From<minicbor::decode::Error> for Error {
    fn from(error: minicbor::decode::Error) -> Self {
        if error.is_end_of_input() {
            Error::Truncated
        } else if error.is_type_mismatch() {
            Error::WrongType
        } else {
            Error::OutOfRange // what is left of well-formed input is an integer too large for its place
        }
    }
}

macro_rules! leaf {
    ($($type:ty),+) => {
        $(impl<'b> Wire<'b> for $type {
            fn read(reader: &mut Reader<'b>) -> Self {
                // What does not fit was refused.
                reader.u64(Self::MAX.into()) as Self
            }

            fn write(&self, writer: &mut Writer<'_>) {
                writer.u64((*self).into());
            }
        })+
    };
}
leaf!(u8, u16, u32, u64);

impl<'b> Wire<'b> for &'b [u8] {
    fn read(reader: &mut Reader<'b>) -> Self {
        reader.bytes()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(self);
    }
}

impl<'b, const N: usize> Wire<'b> for [u8; N] {
    fn read(reader: &mut Reader<'b>) -> Self {
        let mut bytes = [0; N];
        reader.fill(&mut bytes);
        bytes
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(self);
    }
}

/// The value, or `null`.
impl<'b, T: Wire<'b>> Wire<'b> for Option<T> {
    fn read(reader: &mut Reader<'b>) -> Self {
        if reader.null() { None } else { Some(T::read(reader)) }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Some(value) => value.write(writer),
            None => writer.null(),
        }
    }
}

/// Text of at most `MAX` bytes.
#[derive(Clone, Copy)]
pub(crate) struct Text<'b, const MAX: usize>(pub(crate) &'b str);

impl<'b, const MAX: usize> Wire<'b> for Text<'b, MAX> {
    fn read(reader: &mut Reader<'b>) -> Self {
        let text = reader.str();
        if text.len() > MAX {
            reader.fail(Error::TooLong);
        }
        Self(text)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self.0.len() > MAX {
            true => writer.fail(Error::TooLong),
            false => writer.str(self.0),
        }
    }
}
