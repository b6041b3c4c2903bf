//! One strict reader and one strict writer for all maps.
//!
//! Both go through the keys in their order on the wire, so a type lists its keys once, in that order, and reads like
//! its CDDL rule.

use minicbor::{Decoder, Encoder};

use crate::{
    Error,
    codec::{Buffer, Wire, Writer},
    deterministic::{item_bytes, skip},
};

/// What happens to keys that the schema does not know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// A closed map.
    Refused,
    /// `* int => any`
    IntSkipped,
    /// `* any => any`
    AnySkipped,
}

pub(crate) struct MapReader<'d, 'b> {
    decoder: &'d mut Decoder<'b>,
    unknown: Unknown,
    /// Entries whose key has not been looked at.
    left: u64,
    /// A key that has been looked at, while its value has not been read.
    next: Option<&'b [u8]>,
}

impl<'d, 'b> MapReader<'d, 'b> {
    pub(crate) fn new(decoder: &'d mut Decoder<'b>, unknown: Unknown) -> Result<Self, Error> {
        let left = decoder.map()?.ok_or(Error::NotDeterministic)?;
        Ok(Self { decoder, unknown, left, next: None })
    }

    pub(crate) fn required<T: Wire<'b>>(&mut self, key: i64) -> Result<T, Error> {
        self.optional(key)?.ok_or(Error::MissingKey)
    }

    pub(crate) fn optional<T: Wire<'b>>(&mut self, key: i64) -> Result<Option<T>, Error> {
        if !self.seek(key)? {
            return Ok(None);
        }
        self.next = None;
        T::read(self.decoder).map(Some)
    }

    pub(crate) fn constant(&mut self, key: i64, value: i64) -> Result<(), Error> {
        if self.required::<i64>(key)? == value { Ok(()) } else { Err(Error::OutOfRange) }
    }

    pub(crate) fn end(mut self) -> Result<(), Error> {
        while let Some(key) = self.peek()? {
            self.skip(key)?;
        }
        Ok(())
    }

    /// Moves to `key`, over unknown keys that sort before it. False if it is not there.
    fn seek(&mut self, key: i64) -> Result<bool, Error> {
        let mut buffer = [0; MAX_KEY_LEN];
        let mut wanted = Encoder::new(Buffer::new(&mut buffer));
        wanted.i64(key)?;
        let wanted = wanted.writer().written();
        while let Some(found) = self.peek()? {
            if found >= wanted {
                return Ok(found == wanted);
            }
            self.skip(found)?;
        }
        Ok(false)
    }

    fn peek(&mut self) -> Result<Option<&'b [u8]>, Error> {
        if self.next.is_none() && self.left > 0 {
            self.left = self.left.saturating_sub(1);
            self.next = Some(item_bytes(self.decoder, skip)?);
        }
        Ok(self.next)
    }

    fn skip(&mut self, key: &[u8]) -> Result<(), Error> {
        let is_int = key.first().is_some_and(|first| *first < FIRST_BYTE_STRING);
        match self.unknown {
            Unknown::IntSkipped if is_int => {}
            Unknown::AnySkipped => {}
            _ => return Err(Error::UnknownKey),
        }
        self.next = None;
        skip(self.decoder)
    }
}

pub(crate) struct MapWriter<'w, 'o> {
    writer: &'w mut Writer<'o>,
    /// Where the map's head stands.
    head: usize,
    count: u8,
}

impl<'w, 'o> MapWriter<'w, 'o> {
    pub(crate) fn new(writer: &'w mut Writer<'o>) -> Result<Self, Error> {
        let head = writer.writer().len();
        writer.map(0)?;
        Ok(Self { writer, head, count: 0 })
    }

    pub(crate) fn entry<'b>(&mut self, key: i64, value: &impl Wire<'b>) -> Result<(), Error> {
        self.count = self.count.saturating_add(1);
        self.writer.i64(key)?;
        value.write(self.writer)
    }

    pub(crate) fn optional<'b>(&mut self, key: i64, value: &Option<impl Wire<'b>>) -> Result<(), Error> {
        value.as_ref().map_or(Ok(()), |value| self.entry(key, value))
    }

    /// Puts the number of entries into the head: one byte, because none of our maps has more than 23.
    pub(crate) fn end(self) -> Result<(), Error> {
        match self.writer.writer_mut().written_mut().get_mut(self.head) {
            Some(head) if self.count <= MAX_ENTRIES => *head |= self.count,
            _ => return Err(Error::NoSpace),
        }
        Ok(())
    }
}

const MAX_KEY_LEN: usize = 9;
const MAX_ENTRIES: u8 = 23;
/// Initial bytes below are those of integers (RFC 8949 section 3.1).
const FIRST_BYTE_STRING: u8 = 0x40;
