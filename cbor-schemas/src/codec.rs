//! How every wire type gets its public `decode` and `encode`, and the leaf values that maps are made of.

use minicbor::{Decoder, Encoder};

use crate::{Error, deterministic};

/// Reads one item of input that passed [`deterministic::check`], and writes one.
pub(crate) trait Wire<'b>: Sized {
    fn read(decoder: &mut Decoder<'b>) -> Result<Self, Error>;
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Error>;
}

pub(crate) type Writer<'o> = Encoder<Buffer<'o>>;

pub(crate) fn decode<'b, T: Wire<'b>>(bytes: &'b [u8]) -> Result<T, Error> {
    deterministic::check(bytes)?;
    T::read(&mut Decoder::new(bytes))
}

pub(crate) fn encode<'b, T: Wire<'b>>(value: &T, out: &mut [u8]) -> Result<usize, Error> {
    let mut writer = Encoder::new(Buffer::new(out));
    value.write(&mut writer)?;
    Ok(writer.writer().len)
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

/// The bytes written so far.
pub(crate) struct Buffer<'o> {
    bytes: &'o mut [u8],
    len: usize,
}

impl<'o> Buffer<'o> {
    pub(crate) fn new(bytes: &'o mut [u8]) -> Self {
        Self { bytes, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn written(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn written_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }
}

impl minicbor::encode::Write for Buffer<'_> {
    type Error = Error;

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

impl From<minicbor::encode::Error<Error>> for Error {
    fn from(_: minicbor::encode::Error<Error>) -> Self {
        Error::NoSpace
    }
}

/// Opens an array that must have `len` items.
pub(crate) fn array_of(decoder: &mut Decoder<'_>, len: u64) -> Result<(), Error> {
    if decoder.array()? == Some(len) { Ok(()) } else { Err(Error::WrongLength) }
}

macro_rules! leaf {
    ($($type:ty: $method:ident),+) => {
        $(impl<'b> Wire<'b> for $type {
            fn read(decoder: &mut Decoder<'b>) -> Result<Self, Error> {
                Ok(decoder.$method()?)
            }

            fn write(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
                writer.$method(*self)?;
                Ok(())
            }
        })+
    };
}
leaf!(u8: u8, u16: u16, u32: u32, u64: u64, i64: i64, &'b [u8]: bytes, &'b str: str);

impl<'b, const N: usize> Wire<'b> for [u8; N] {
    fn read(decoder: &mut Decoder<'b>) -> Result<Self, Error> {
        decoder.bytes()?.try_into().map_err(|_| Error::WrongLength)
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        writer.bytes(self)?;
        Ok(())
    }
}

/// Text of at most `MAX` bytes.
#[derive(Clone, Copy)]
pub(crate) struct Text<'b, const MAX: usize>(pub(crate) &'b str);

impl<'b, const MAX: usize> Wire<'b> for Text<'b, MAX> {
    fn read(decoder: &mut Decoder<'b>) -> Result<Self, Error> {
        let text = decoder.str()?;
        if text.len() > MAX { Err(Error::TooLong) } else { Ok(Self(text)) }
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        if self.0.len() > MAX {
            return Err(Error::TooLong);
        }
        self.0.write(writer)
    }
}
