//! Bare bytes in one of two halves of a range.
//!
//! No map is needed here. A half is erased and written as a whole, and counts only once a commit record names it with its
//! digest, so the half that is in force is never touched.

use core::ops::Range;

use embedded_storage::nor_flash::{NorFlash, NorFlashError as _};
use sha2::{Digest as _, Sha256};

use super::{
    contents::{Contents, Digest, Side},
    error::{Error, FaultReason},
    layout::{CHUNK, half_pages},
    list::List,
    region::{Region, Scratch},
};

/// A half of the range.
pub(super) struct Half<'f, F> {
    flash: &'f mut F,
    range: Range<u32>,
}

impl<'f, F: NorFlash> Half<'f, F> {
    /// The half `side` of a range that begins at `start`, with room for `bytes`.
    pub(super) fn new(flash: &'f mut F, start: u32, bytes: usize, side: Side) -> Self {
        let len = half_pages::<F>(bytes).saturating_mul(F::ERASE_SIZE as u32);
        let start = match side {
            Side::A => start,
            Side::B => start.saturating_add(len),
        };
        Half { flash, range: start..start.saturating_add(len) }
    }

    /// Writes chunks, one after the other. What was there is gone.
    pub(super) fn write<'k>(&mut self, chunks: impl Iterator<Item = &'k [u8; CHUNK]>) -> Result<(), Error> {
        self.erase()?;
        let places = self.range.clone().step_by(CHUNK);
        places.zip(chunks).try_for_each(|(place, chunk)| self.program(place, chunk))
    }

    /// Writes bytes. What was there is gone.
    pub(super) fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.erase()?;
        let places = self.range.clone().step_by(CHUNK);
        places.zip(bytes.chunks(CHUNK)).try_for_each(|(place, bytes)| {
            let mut chunk = [0xFF; CHUNK];
            chunk.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            let programmed = self.program(place, &chunk);
            zeroize::Zeroize::zeroize(&mut chunk);
            programmed
        })
    }

    /// The bytes that were written, if they are those that `contents` describes.
    pub(super) fn fetch<'b>(
        &mut self,
        contents: &Contents,
        scratch: &'b mut Scratch,
    ) -> Result<Option<&'b [u8]>, Error> {
        let len = usize::from(contents.len);
        let Some(buffer) = scratch.bytes_mut().get_mut(..len.next_multiple_of(CHUNK)) else { return Ok(None) };
        self.flash.read(self.range.start, buffer).map_err(|error| Error::Flash(error.kind()))?;
        Ok(buffer.get(..len).filter(|bytes| contents.describes(bytes)))
    }

    /// Whether `x` is among the keys of `list`.
    ///
    /// # Errors
    /// [`FaultReason::List`] if they are not what the record names: a revoked key must not get lost.
    pub(super) fn contains(&mut self, list: &List, x: Option<&[u8; 32]>) -> Result<bool, Error> {
        let (mut hash, mut found, mut key) = (Sha256::new(), false, [0; 32]);
        for place in self.range.clone().step_by(CHUNK).take(list.count.into()) {
            self.flash.read(place, &mut key).map_err(|error| Error::Flash(error.kind()))?;
            hash.update(key);
            found |= x == Some(&key);
        }
        match list.digest == Digest::from(hash.finalize()) {
            true => Ok(found),
            false => Err(Error::Fault(FaultReason::List)),
        }
    }

    /// Erases all of it, and looks whether that worked.
    pub(super) fn wipe(self) -> Result<(), Error> {
        Region::new(self.flash, self.range).wipe()
    }

    fn erase(&mut self) -> Result<(), Error> {
        self.flash.erase(self.range.start, self.range.end).map_err(|error| Error::Flash(error.kind()))
    }

    fn program(&mut self, place: u32, chunk: &[u8; CHUNK]) -> Result<(), Error> {
        self.flash.write(place, chunk).map_err(|error| Error::Flash(error.kind()))
    }
}
