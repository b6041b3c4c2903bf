//! One range of the flash: items in it through sequential-storage, its pages below that.

use core::ops::Range;

use embedded_storage::nor_flash::{NorFlash, NorFlashError as _};
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapStorage};
use zeroize::Zeroize as _;

use super::{
    blocking::{Blocking, block_on},
    contents::MAX_CONTENTS_LEN,
    error::{Error, FaultReason},
    layout::{item_len, word},
};

/// A buffer that every item fits in, and that drivers which copy whole words can use: 672 bytes, aligned to four. Wiped when
/// it is dropped.
#[repr(align(4))]
pub struct Scratch([u8; SCRATCH_LEN]);

/// The largest item: one byte of name and the contents of a slot, rounded up to the largest word.
const SCRATCH_LEN: usize = MAX_CONTENTS_LEN.saturating_add(1).next_multiple_of(MAX_WORD);

/// sequential-storage takes no larger words.
const MAX_WORD: usize = 32;

/// The names of items. A name means the same in every range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Record = 0,
    Mark = 1,
    Key = 2,
    ContentsA = 3,
    ContentsB = 4,
}

/// One range. Every access is a fresh instance of sequential-storage without a cache: what is read is what is there.
pub(super) struct Region<'f, F> {
    flash: &'f mut F,
    range: Range<u32>,
}

type Map<'f, F> = MapStorage<u8, Blocking<&'f mut F>, Cache<Uncached, Uncached, Uncached, u8>>;

impl<'f, F: NorFlash> Region<'f, F> {
    pub(super) fn new(flash: &'f mut F, range: Range<u32>) -> Self {
        const { assert!(F::WRITE_SIZE >= 4, "flash words below 4 bytes can lose a write after two power cuts") };
        const { assert!(word::<F>() <= MAX_WORD, "flash words above 32 bytes are not supported") };
        Region { flash, range }
    }

    /// The newest value of `item` that is whole. May repair pages that a power cut left half done.
    pub(super) fn fetch<'b>(&mut self, item: Item, scratch: &'b mut Scratch) -> Result<Option<&'b [u8]>, Error> {
        block_on(self.map()?.fetch_item(&mut scratch.0, &(item as u8))).map_err(error_from)
    }

    /// Stores `value` as the newest of `item`, and reads it back. Whatever happens, the old or the new value is there.
    pub(super) fn put(&mut self, item: Item, value: &[u8], scratch: &mut Scratch) -> Result<(), Error> {
        block_on(self.map()?.store_item(&mut scratch.0, &(item as u8), &value)).map_err(error_from)?;
        if self.fetch(item, scratch)? == Some(value) { Ok(()) } else { Err(Error::NotDurable) }
    }

    /// Erases every page, also those that look erased: an erase that was cut short may only look done.
    pub(super) fn wipe(&mut self) -> Result<(), Error> {
        self.flash.erase(self.range.start, self.range.end).map_err(|error| Error::Flash(error.kind()))?;
        if self.is_blank_from(0)? { Ok(()) } else { Err(Error::NotDurable) }
    }

    /// Whether every byte is 0xFF, from `offset` bytes into the range on.
    pub(super) fn is_blank_from(&mut self, offset: u32) -> Result<bool, Error> {
        let mut chunk = [0; MAX_WORD];
        let mut address = self.range.start.saturating_add(offset);
        while address < self.range.end {
            let left = usize::try_from(self.range.end.saturating_sub(address)).unwrap_or(MAX_WORD);
            let Some(bytes) = chunk.get_mut(..left.min(MAX_WORD)) else { break };
            self.flash.read(address, bytes).map_err(|error| Error::Flash(error.kind()))?;
            if bytes.iter().any(|byte| *byte != 0xFF) {
                return Ok(false);
            }
            address = address.saturating_add(MAX_WORD as u32);
        }
        Ok(true)
    }

    /// Whether all is blank behind the place of a first item with a value of `len` bytes.
    pub(super) fn holds_at_most_one(&mut self, len: usize) -> Result<bool, Error> {
        self.is_blank_from(word::<F>().saturating_add(item_len::<F>(len)) as u32)
    }

    fn map(&mut self) -> Result<Map<'_, F>, Error> {
        let config = MapConfig::try_new(self.range.clone()).map_err(|_| Error::Fault(FaultReason::Unreadable))?;
        Ok(MapStorage::new(Blocking(&mut *self.flash), config, Cache::new_uncached()))
    }
}

impl Scratch {
    /// A buffer of zeros.
    pub const fn new() -> Self {
        Scratch([0; SCRATCH_LEN])
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Scratch {
    /// It may have held a key or a secret value.
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

fn error_from<E: embedded_storage::nor_flash::NorFlashError>(error: sequential_storage::Error<E>) -> Error {
    match error {
        sequential_storage::Error::Storage { value } => Error::Flash(value.kind()),
        sequential_storage::Error::FullStorage => Error::Full,
        _ => Error::Fault(FaultReason::Unreadable),
    }
}
