//! Where the store lives in the flash, and how many pages that takes.

use core::ops::Range;

use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};

use super::{
    contents::MAX_CONTENTS_LEN,
    record::{Mark, Record},
};
use crate::LIST_KEYS;

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

/// What is written at once, in bytes: the words of any flash that is supported divide it.
pub(super) const CHUNK: usize = 32;

/// Bytes of the longest list.
pub(super) const LIST_BYTES: usize = (LIST_KEYS as usize).saturating_mul(CHUNK);

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
pub(super) const fn item_len<F: NorFlash>(len: usize) -> usize {
    let data = len.saturating_add(1).next_multiple_of(word::<F>());
    8_usize.next_multiple_of(word::<F>()).saturating_add(data)
}

pub(super) const fn word<F: NorFlash>() -> usize {
    if F::WRITE_SIZE > F::READ_SIZE { F::WRITE_SIZE } else { F::READ_SIZE }
}

/// Pages of a half with room for so many bytes.
pub(super) const fn half_pages<F: NorFlash>(bytes: usize) -> u32 {
    bytes.div_ceil(F::ERASE_SIZE) as u32
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
