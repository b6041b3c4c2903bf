//! One strict reader and one strict writer for all maps.
//!
//! Both go through the keys in their order on the wire, so a type lists its keys once, in that order, and reads like
//! its CDDL rule.

use crate::{
    Error,
    codec::{Reader, Wire, Writer},
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

pub(crate) struct MapReader<'r, 'b> {
    reader: &'r mut Reader<'b>,
    unknown: Unknown,
    /// Entries whose key has not been looked at.
    left: u64,
    /// A key that has been looked at, while its value has not been read.
    next: Option<&'b [u8]>,
}

impl<'r, 'b> MapReader<'r, 'b> {
    pub(crate) fn new(reader: &'r mut Reader<'b>, unknown: Unknown) -> Self {
        let left = reader.map();
        Self { reader, unknown, left, next: None }
    }

    pub(crate) fn required<T: Wire<'b>>(&mut self, key: i64) -> T {
        self.must_seek(key);
        T::read(self.reader)
    }

    pub(crate) fn optional<T: Wire<'b>>(&mut self, key: i64) -> Option<T> {
        self.seek(key).then(|| T::read(self.reader))
    }

    /// An item of its own inside a byte string.
    pub(crate) fn required_embedded<T: Wire<'b>>(&mut self, key: i64) -> T {
        self.must_seek(key);
        self.reader.embedded()
    }

    /// The same where there may be none.
    pub(crate) fn optional_embedded<T: Wire<'b>>(&mut self, key: i64) -> Option<T> {
        self.seek(key).then(|| self.reader.embedded())
    }

    pub(crate) fn fail(&mut self, error: Error) {
        self.reader.fail(error);
    }

    #[inline(never)]
    pub(crate) fn constant(&mut self, key: i64, value: i64) {
        self.must_seek(key);
        let found = self.reader.skip();
        let mut buffer = [0; MAX_INT_LEN];
        if found == encoded(value, &mut buffer) {
            return;
        }
        self.reader.fail(if is_int(found) { Error::OutOfRange } else { Error::WrongType });
    }

    /// Over what is left. Whether all that was read is right, `decode` tells.
    #[inline(never)]
    pub(crate) fn end(mut self) {
        while let Some(key) = self.peek() {
            self.skip(key);
        }
    }

    #[inline(never)]
    fn must_seek(&mut self, key: i64) {
        if !self.seek(key) {
            self.reader.fail(Error::MissingKey);
        }
    }

    /// Moves to the value of `key`, over unknown keys that sort before it. False if it is not there.
    #[inline(never)]
    fn seek(&mut self, key: i64) -> bool {
        let mut buffer = [0; MAX_INT_LEN];
        let wanted = encoded(key, &mut buffer);
        while let Some(found) = self.peek() {
            if found == wanted {
                self.next = None;
                return true;
            }
            if found > wanted {
                return false;
            }
            self.skip(found);
        }
        false
    }

    /// The next key, if there is one and all is well.
    fn peek(&mut self) -> Option<&'b [u8]> {
        if self.next.is_none() && self.left > 0 {
            self.left = self.left.saturating_sub(1);
            self.next = Some(self.reader.skip());
        }
        self.next.filter(|_| !self.reader.has_failed())
    }

    fn skip(&mut self, key: &[u8]) {
        match self.unknown {
            Unknown::IntSkipped if is_int(key) => {}
            Unknown::AnySkipped => {}
            _ => self.reader.fail(Error::UnknownKey),
        }
        self.next = None;
        self.reader.skip();
    }
}

pub(crate) struct MapWriter<'w, 'o> {
    writer: &'w mut Writer<'o>,
    /// Where the map's head stands.
    head: usize,
    count: u8,
}

impl<'w, 'o> MapWriter<'w, 'o> {
    pub(crate) fn new(writer: &'w mut Writer<'o>) -> Self {
        let head = writer.len();
        writer.map(0);
        Self { writer, head, count: 0 }
    }

    pub(crate) fn entry<'b>(&mut self, key: i64, value: &impl Wire<'b>) {
        self.count = self.count.saturating_add(1);
        self.writer.i64(key);
        value.write(self.writer);
    }

    pub(crate) fn constant(&mut self, key: i64, value: i64) {
        self.count = self.count.saturating_add(1);
        self.writer.i64(key);
        self.writer.i64(value);
    }

    pub(crate) fn optional<'b>(&mut self, key: i64, value: &Option<impl Wire<'b>>) {
        if let Some(value) = value {
            self.entry(key, value);
        }
    }

    /// Puts the number of entries into the head: one byte, because none of our maps has more than 23.
    #[inline(never)]
    pub(crate) fn end(self) {
        match self.writer.byte_mut(self.head) {
            Some(head) if self.count <= MAX_ENTRIES => *head |= self.count,
            _ => self.writer.fail(Error::NoSpace),
        }
    }
}

/// The one encoding of an integer: whole items are compared, which takes less code than to decode them.
fn encoded(value: i64, buffer: &mut [u8; MAX_INT_LEN]) -> &[u8] {
    let mut writer = Writer::new(buffer);
    writer.i64(value);
    let len = writer.len();
    buffer.get(..len).unwrap_or_default()
}

fn is_int(item: &[u8]) -> bool {
    item.first().is_some_and(|first| *first < FIRST_BYTE_STRING)
}

/// The longest encoding of an integer, in bytes.
const MAX_INT_LEN: usize = 9;
const MAX_ENTRIES: u8 = 23;
/// Initial bytes below are those of integers (RFC 8949 section 3.1).
const FIRST_BYTE_STRING: u8 = 0x40;
