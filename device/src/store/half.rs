//! The halves of the image as flash has them: read, checked, erased and programmed chunk by chunk.

use core::ops::Range;

use cbor_schemas::Watermarks;
use embedded_storage::nor_flash::{NorFlash, NorFlashError as _};
use sha2::{Digest as _, Sha256};

use super::{
    chunk::{Chunk, Side},
    contents::{Digest, KeyBytes},
    error::{Error, FaultReason},
    image::{DIGEST, FORMAT, Image, KEY, MAGIC, PART, PARTS, RECORD, Record, TAIL},
    layout::{Layout, tail},
};

/// The flash, and what is known of both halves.
pub(super) struct Halves<F> {
    pub(super) flash: F,
    pub(super) layout: Layout,
    /// The half that what is kept is read from, and that is written last.
    pub(super) solid: Side,
    /// Places for watermarks that are taken, by half.
    pub(super) used: [u32; 2],
    /// Behind the newest watermarks of a half is something that is none, now.
    pub(super) has_remains: bool,
}

/// What the next image takes over from the present one, and what it does not.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    /// `None` keeps it.
    pub(super) key: Option<&'a [u8; 32]>,
    /// In the order of [`Part`](super::contents::Part).
    pub(super) parts: [Next<'a>; 3],
}

/// What becomes of some contents.
#[derive(Clone, Copy)]
pub(super) enum Next<'a> {
    Keep,
    Drop,
    New(&'a [u8]),
}

impl Change<'_> {
    /// All stays as it is.
    pub(super) const NONE: Self = Change { key: None, parts: [Next::Keep; 3] };
}

impl<F: NorFlash> Halves<F> {
    /// Reads the image in a half, with the watermarks behind it. False if it is not whole.
    ///
    /// # Errors
    /// [`FaultReason::UnknownFormat`] if it is whole, and says what this firmware does not know.
    pub(super) fn load(&mut self, side: Side, image: &mut Image, key: &mut KeyBytes) -> Result<bool, Error> {
        let (mut record, mut chunk) = ([0; size_of::<Record>()], Chunk::blank());
        let digest = self.digest(side, Some((&mut record, key)))?;
        self.read(self.place(side, DIGEST), &mut chunk)?;
        let mut is_whole = chunk.0 == digest;
        let newest = self.newest_entry(side, &digest)?;
        // It was appended to what was whole: so the digest, where its programming was cut, need not read right any more.
        is_whole |= newest.is_some();
        if is_whole {
            image.decode(&mut record).ok_or(Error::Fault(FaultReason::UnknownFormat))?;
            image.digest = digest;
            image.snapshot.watermarks = newest.unwrap_or(image.snapshot.watermarks);
        }
        Ok(is_whole)
    }

    /// The newest watermarks behind an image. Counts the places that are taken.
    fn newest_entry(&mut self, side: Side, digest: &Digest) -> Result<Option<Watermarks>, Error> {
        let mut chunk = Chunk::blank();
        *self.used_mut(side) = 0;
        for place in (0..const { tail::<F>() }).rev() {
            self.read(self.place(side, TAIL.saturating_add(place)), &mut chunk)?;
            if chunk.is_blank() {
                continue;
            }
            let used = self.used_mut(side);
            *used = (*used).max(place.saturating_add(1));
            if let Some(watermarks) = Image::read_entry(digest, place, &mut chunk) {
                return Ok(Some(watermarks));
            }
            self.has_remains = true;
        }
        Ok(None)
    }

    /// SHA-256 of an image as it is in flash. Record and key are copied out in the same pass, where they are asked for.
    #[inline(never)]
    pub(super) fn digest(
        &mut self,
        side: Side,
        mut out: Option<(&mut Record, &mut KeyBytes)>,
    ) -> Result<Digest, Error> {
        let (mut hash, mut chunk) = (Sha256::new(), Chunk::blank());
        for at in 0..DIGEST {
            self.read(self.place(side, at), &mut chunk)?;
            hash.update(chunk.0);
            let Some((record, key)) = &mut out else { continue };
            match record.chunks_mut(Chunk::LEN).nth(at as usize) {
                Some(place) => place.copy_from_slice(&chunk.0),
                None if at == KEY => key.0 = chunk.0,
                None => {}
            }
        }
        Ok(hash.finalize().into())
    }

    /// Writes an image to a half, with what is kept from the other one, and reads it back; if that does not work, once more.
    /// Its digest becomes that of `image`. Where it is `expected` to have a certain one, no other image is completed.
    pub(super) fn write(
        &mut self,
        side: Side,
        image: &mut Image,
        change: &Change<'_>,
        expected: Option<&Digest>,
    ) -> Result<(), Error> {
        self.write_once(side, image, change, expected).or_else(|_| self.write_once(side, image, change, expected))
    }

    #[inline(never)]
    fn write_once(
        &mut self,
        side: Side,
        image: &mut Image,
        change: &Change<'_>,
        expected: Option<&Digest>,
    ) -> Result<(), Error> {
        self.erase(self.layout.half(side))?;
        let (mut record, mut chunk) = ([0; size_of::<Record>()], Chunk::blank());
        image.encode(&mut record);
        let mut hash = Sha256::new();
        for at in 0..DIGEST {
            self.next_chunk(at, side.other(), &record, change, &mut chunk)?;
            self.program(self.place(side, at), &chunk)?;
            hash.update(chunk.0);
        }
        image.digest = hash.finalize().into();
        if expected.is_some_and(|expected| *expected != image.digest) {
            return Err(Error::NotDurable);
        }
        chunk.0 = image.digest;
        self.put(self.place(side, DIGEST), &chunk)?;
        if self.digest(side, None)? == image.digest { Ok(()) } else { Err(Error::NotDurable) }
    }

    /// What belongs to the place `at` of the next image.
    fn next_chunk(
        &mut self,
        at: u32,
        source: Side,
        record: &Record,
        change: &Change<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), Error> {
        if at < RECORD {
            chunk.take(record, at);
            return Ok(());
        }
        let (part, at_part) = match (at.checked_sub(PARTS), change.key) {
            (Some(behind), _) => {
                let part = behind.checked_div(PART).and_then(|part| change.parts.get(part as usize));
                (part.copied().unwrap_or(Next::Keep), behind.checked_rem(PART).unwrap_or_default())
            }
            (None, Some(key)) => (Next::New(key), 0),
            (None, None) => (Next::Keep, 0),
        };
        match part {
            Next::Keep => return self.read(self.place(source, at), chunk),
            Next::Drop => chunk.take(&[], 0),
            Next::New(bytes) => chunk.take(bytes, at_part),
        }
        Ok(())
    }

    /// Appends the watermarks of `image` to the halves `sides`, at the next place that is free in all of them, and reads them
    /// back; if that does not work, at the one behind it. `None` if that does not work either, or there is no place.
    #[inline(never)]
    pub(super) fn append(&mut self, image: &Image, sides: &[Side]) -> Option<()> {
        let mut entry = Chunk::blank();
        for _attempt in 0..2 {
            let place = sides.iter().map(|side| *self.used_mut(*side)).max().unwrap_or_default();
            if place >= const { tail::<F>() } {
                return None;
            }
            image.entry(place, &mut entry);
            let appended = sides.iter().try_for_each(|side| {
                *self.used_mut(*side) = place.saturating_add(1);
                self.put(self.place(*side, TAIL.saturating_add(place)), &entry)
            });
            if appended.is_ok() {
                return Some(());
            }
        }
        None
    }

    fn used_mut(&mut self, side: Side) -> &mut u32 {
        let [a, b] = &mut self.used;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    /// Whether there is no more than the traces of a first start, where no half has an image.
    pub(super) fn is_barely_begun(&mut self) -> Result<bool, Error> {
        let blank = [Side::A, Side::B].map(|side| self.is_blank(self.layout.half(side)));
        let traces = match blank {
            [Ok(true), Ok(true)] => None,
            [Ok(true), Ok(false)] => Some(Side::B),
            [Ok(false), Ok(true)] => Some(Side::A),
            [Ok(false), Ok(false)] => return Ok(false),
            [Err(error), _] | [_, Err(error)] => return Err(error),
        };
        // Traces are overwritten first, so that the other half stays blank meanwhile.
        self.solid = traces.map_or(Side::B, Side::other);
        let Some(side) = traces else { return self.is_blank(self.layout.list.clone()) };
        let behind = self.place(side, TAIL)..self.layout.half(side).end;
        Ok(self.is_blank(self.layout.list.clone())?
            && self.is_blank(self.place(side, PARTS)..self.place(side, DIGEST))?
            && self.is_blank(behind)?)
    }

    /// What is wrong with storage that has no image, and more than the traces of a first start.
    pub(super) fn flaw(&mut self) -> Result<FaultReason, Error> {
        let mut chunks = [Chunk::blank(), Chunk::blank()];
        for side in [Side::A, Side::B] {
            for (at, chunk) in (0..).zip(&mut chunks) {
                self.read(self.place(side, at), chunk)?;
            }
            let [first, second] = &chunks;
            if first.0.first_chunk() == Some(&MAGIC) && first.0.get(MAGIC.len()) != Some(&FORMAT) {
                return Ok(FaultReason::UnknownFormat);
            }
            // Firmware 0.1: a word of zeros, then an item whose header has a checksum and the length of a key and its name.
            const KEY_ITEM: [u8; 2] = [33, 0];
            let header = const { if F::WRITE_SIZE < 4 { 4 } else { F::WRITE_SIZE } };
            let length = first.0.iter().chain(&second.0).skip(header).skip(4).take(2);
            if first.0.first_chunk() == Some(&[0; 4]) && length.eq(&KEY_ITEM) {
                return Ok(FaultReason::Firmware0_1);
            }
        }
        Ok(FaultReason::NoImage)
    }

    /// Whether every byte is 0xFF.
    pub(super) fn is_blank(&mut self, range: Range<u32>) -> Result<bool, Error> {
        let mut chunk = Chunk::blank();
        for at in range.step_by(Chunk::LEN) {
            self.read(at, &mut chunk)?;
            if !chunk.is_blank() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The address of a chunk in a half.
    pub(super) fn place(&self, side: Side, at: u32) -> u32 {
        let start = match side {
            Side::A => self.layout.half_a.start,
            Side::B => self.layout.half_b.start,
        };
        start.saturating_add(at.saturating_mul(Chunk::LEN as u32))
    }

    #[inline(never)]
    pub(super) fn read(&mut self, at: u32, chunk: &mut Chunk) -> Result<(), Error> {
        self.flash.read(at, &mut chunk.0).map_err(|error| Error::Flash(error.kind()))
    }

    /// Programs a chunk, unless it is blank.
    #[inline(never)]
    pub(super) fn program(&mut self, at: u32, chunk: &Chunk) -> Result<(), Error> {
        const {
            assert!(Chunk::LEN.is_multiple_of(F::WRITE_SIZE), "the words of the flash do not divide 32 bytes");
            assert!(Chunk::LEN.is_multiple_of(F::READ_SIZE), "the words of the flash do not divide 32 bytes");
            assert!(F::ERASE_SIZE.is_multiple_of(Chunk::LEN), "32 bytes do not divide the pages of the flash");
        }
        if chunk.is_blank() {
            return Ok(());
        }
        self.flash.write(at, &chunk.0).map_err(|error| Error::Flash(error.kind()))
    }

    /// Programs a chunk and reads it back.
    fn put(&mut self, at: u32, chunk: &Chunk) -> Result<(), Error> {
        self.program(at, chunk)?;
        let mut found = Chunk::blank();
        self.read(at, &mut found)?;
        if found == *chunk { Ok(()) } else { Err(Error::NotDurable) }
    }

    /// Erases pages, also those that look erased: an erase that was cut short may only look done.
    #[inline(never)]
    pub(super) fn erase(&mut self, pages: Range<u32>) -> Result<(), Error> {
        self.flash.erase(pages.start, pages.end).map_err(|error| Error::Flash(error.kind()))
    }
}
