//! One range of the flash: items in it through sequential-storage, its pages below that.

use core::ops::Range;

use embassy_embedded_hal::adapter::BlockingAsync;
use embassy_futures::block_on;
use embedded_storage::nor_flash::{NorFlash, NorFlashError as _, ReadNorFlash};
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapStorage};
use zeroize::Zeroize as _;

use super::half::half_pages;
use super::list::LIST_BYTES;
use super::record::{Mark, Record};
use super::{Error, FaultReason, MAX_CONTENTS_LEN};

/// Where the store lives in the flash: byte addresses of five disjoint ranges of whole pages.
///
/// How many pages a range needs follows from the size of a page: see [`Layout::smallest`]. More pages mean less wear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The identity key. Erased by a rekey.
    pub keys: Range<u32>,
    /// What the owner put there. Erased by a reset.
    pub owner: Range<u32>,
    /// The state that outlasts both.
    pub state: Range<u32>,
    /// The keys of the device list. Erased by a reset.
    pub list: Range<u32>,
    /// The values of the product. Erased by a reset.
    pub values: Range<u32>,
}

/// What is wrong with a [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// A range does not begin and end at a page boundary.
    NotAligned,
    /// A range has fewer pages than it needs.
    TooSmall,
    /// Two ranges overlap.
    Overlap,
    /// A range ends beyond the end of the flash.
    OutOfBounds,
}

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

type Map<'f, F> = MapStorage<u8, BlockingAsync<&'f mut F>, Cache<Uncached, Uncached, Uncached, u8>>;

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
        Ok(MapStorage::new(BlockingAsync::new(&mut *self.flash), config, Cache::new_uncached()))
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

impl Layout {
    /// The smallest layout, from the byte address `start` on: keys, owner, state, list and values, one after the other.
    ///
    /// With words of 4 bytes: 2 + 4 + 4 + 4 + 2 pages of 1024 bytes, 2 + 2 + 3 + 2 + 2 of 2048, or two for each range of 4096
    /// and above. Smaller pages do not compile.
    pub const fn smallest<F: NorFlash>(start: u32) -> Self {
        let owner = start.saturating_add(KEYS_PAGES.saturating_mul(F::ERASE_SIZE as u32));
        let state = owner.saturating_add(const { owner_pages::<F>() }.saturating_mul(F::ERASE_SIZE as u32));
        let list = state.saturating_add(const { state_pages::<F>() }.saturating_mul(F::ERASE_SIZE as u32));
        let values = list.saturating_add(const { list_pages::<F>() }.saturating_mul(F::ERASE_SIZE as u32));
        let end = values.saturating_add(const { values_pages::<F>() }.saturating_mul(F::ERASE_SIZE as u32));
        Layout { keys: start..owner, owner: owner..state, state: state..list, list: list..values, values: values..end }
    }

    pub(super) fn check<F: NorFlash>(&self, flash: &F) -> Result<(), LayoutError> {
        let needs = [
            (&self.keys, KEYS_PAGES),
            (&self.owner, const { owner_pages::<F>() }),
            (&self.state, const { state_pages::<F>() }),
            (&self.list, const { list_pages::<F>() }),
            (&self.values, const { values_pages::<F>() }),
        ];
        for (range, pages) in needs {
            let page = F::ERASE_SIZE as u32;
            if !range.start.is_multiple_of(page) || !range.end.is_multiple_of(page) {
                return Err(LayoutError::NotAligned);
            }
            if range.end.saturating_sub(range.start) < page.saturating_mul(pages) {
                return Err(LayoutError::TooSmall);
            }
            if usize::try_from(range.end).is_ok_and(|end| end > ReadNorFlash::capacity(flash)) {
                return Err(LayoutError::OutOfBounds);
            }
        }
        let mut ranges = [&self.keys, &self.owner, &self.state, &self.list, &self.values];
        ranges.sort_unstable_by_key(|range| range.start);
        if !ranges.is_sorted_by(|a, b| a.end <= b.start) {
            return Err(LayoutError::Overlap);
        }
        Ok(())
    }
}

const KEYS_PAGES: u32 = 2;

/// Two halves.
const fn list_pages<F: NorFlash>() -> u32 {
    half_pages::<F>(LIST_BYTES).saturating_mul(2)
}

/// Two halves.
const fn values_pages<F: NorFlash>() -> u32 {
    half_pages::<F>(MAX_CONTENTS_LEN).saturating_mul(2)
}

/// Beside the contents: the record and its successor, and an emptied item.
const fn owner_pages<F: NorFlash>() -> u32 {
    pages_for::<F>(item_len::<F>(Record::MAX_LEN).saturating_mul(2).saturating_add(item_len::<F>(0)))
}

/// Beside the contents: the record, the mark and the successor of either, and an emptied item.
const fn state_pages<F: NorFlash>() -> u32 {
    pages_for::<F>(item_len::<F>(Mark::MAX_LEN).saturating_mul(3).saturating_add(item_len::<F>(0)))
}

/// Pages for the old and the new contents of a slot and `small` bytes of other items, in whatever order they come.
///
/// sequential-storage keeps one page empty to move items into, and an item does not cross pages.
const fn pages_for<F: NorFlash>(small: usize) -> u32 {
    let contents = item_len::<F>(MAX_CONTENTS_LEN);
    let room = F::ERASE_SIZE.saturating_sub(word::<F>().saturating_mul(2));
    assert!(contents <= room && small <= room, "the pages of this flash are too small: 1024 bytes is the least");
    if contents.saturating_mul(2).saturating_add(small) <= room {
        2
    } else if contents.saturating_add(small) <= room {
        3
    } else {
        4
    }
}

/// Bytes that an item with `len` bytes of value takes: a header of 8, one byte of name, the value, in whole words.
const fn item_len<F: NorFlash>(len: usize) -> usize {
    let data = len.saturating_add(1).next_multiple_of(word::<F>());
    8_usize.next_multiple_of(word::<F>()).saturating_add(data)
}

const fn word<F: NorFlash>() -> usize {
    if F::WRITE_SIZE > F::READ_SIZE { F::WRITE_SIZE } else { F::READ_SIZE }
}

fn error_from<E: embedded_storage::nor_flash::NorFlashError>(error: sequential_storage::Error<E>) -> Error {
    match error {
        sequential_storage::Error::Storage { value } => Error::Flash(value.kind()),
        sequential_storage::Error::FullStorage => Error::Full,
        _ => Error::Fault(FaultReason::Unreadable),
    }
}

impl core::fmt::Display for LayoutError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            LayoutError::NotAligned => "a storage range is not made of whole pages; align it to the erase size",
            LayoutError::TooSmall => "a storage range has too few pages; see Layout::smallest",
            LayoutError::Overlap => "storage ranges overlap; move them apart",
            LayoutError::OutOfBounds => "a storage range ends beyond the end of the flash; move it or make it smaller",
        })
    }
}

impl core::error::Error for LayoutError {}
