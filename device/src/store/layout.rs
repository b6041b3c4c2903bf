//! Where the store lives in the flash, and how many pages that takes.

use core::ops::Range;

use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};

use super::{
    chunk::{Chunk, Side},
    image::IMAGE_LEN,
};
use crate::{BODY_LEN, LIST_KEYS};

/// Where the store lives in the flash: byte addresses of three disjoint ranges of whole pages.
///
/// How many pages a range needs follows from the size of a page: see [`Layout::smallest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// One half of the image.
    pub half_a: Range<u32>,
    /// The other half, which holds the same.
    pub half_b: Range<u32>,
    /// The keys of the device list. Erased by a reset.
    pub list: Range<u32>,
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

/// Bytes of the longest list.
const LIST_BYTES: usize = (LIST_KEYS as usize).saturating_mul(Chunk::LEN);
/// Bytes of a half of the list: a signed list fits, too, so that later firmware can keep it whole.
pub(super) const LIST_ROOM: usize = BODY_LEN;
const _: () = assert!(LIST_BYTES <= LIST_ROOM && LIST_ROOM.is_multiple_of(Chunk::LEN));

/// Bytes behind an image for the watermarks that follow it: 16 of them at least.
const LEAST_TAIL: usize = 16 * Chunk::LEN;
/// Bytes of a half that are used at the most, however large its pages are.
const MOST_USED: usize = 4096;

impl Layout {
    /// The smallest layout, from the byte address `start` on: the two halves of the image and the list, one after the
    /// other.
    ///
    /// That is 3 + 3 + 6 pages of 1024 bytes, 2 + 2 + 4 of 2048, or 1 + 1 + 2 of 4096 and above.
    pub const fn smallest<F: NorFlash>(start: u32) -> Self {
        let half_b = start.saturating_add(const { pages::<F>(IMAGE_LEN + LEAST_TAIL) });
        let list = half_b.saturating_add(half_b.saturating_sub(start));
        let end = list.saturating_add(const { pages::<F>(LIST_ROOM) }.saturating_mul(2));
        Layout { half_a: start..half_b, half_b: half_b..list, list: list..end }
    }

    pub(super) fn check<F: NorFlash>(&self, flash: &F) -> Result<(), LayoutError> {
        let Layout { half_a, half_b, list } = Layout::smallest::<F>(0);
        let mut ranges = [(&self.half_a, half_a), (&self.half_b, half_b), (&self.list, list)];
        for (range, smallest) in &ranges {
            let page = F::ERASE_SIZE as u32;
            if !range.start.is_multiple_of(page) || !range.end.is_multiple_of(page) {
                return Err(LayoutError::NotAligned);
            }
            if range.end.saturating_sub(range.start) < smallest.end.saturating_sub(smallest.start) {
                return Err(LayoutError::TooSmall);
            }
            if usize::try_from(range.end).is_ok_and(|end| end > ReadNorFlash::capacity(flash)) {
                return Err(LayoutError::OutOfBounds);
            }
        }
        ranges.sort_unstable_by_key(|(range, _)| range.start);
        if !ranges.is_sorted_by(|(a, _), (b, _)| a.end <= b.start) {
            return Err(LayoutError::Overlap);
        }
        Ok(())
    }

    pub(super) fn half(&self, side: Side) -> Range<u32> {
        match side {
            Side::A => self.half_a.clone(),
            Side::B => self.half_b.clone(),
        }
    }

    /// A half of the list, from its beginning as far as it is used.
    pub(super) fn list_half<F: NorFlash>(&self, side: Side) -> Range<u32> {
        let start = match side {
            Side::A => self.list.start,
            Side::B => self.list.start.saturating_add(const { pages::<F>(LIST_ROOM) }),
        };
        start..start.saturating_add(LIST_ROOM as u32)
    }
}

/// Bytes of the pages that it takes to hold so many.
pub(super) const fn pages<F: NorFlash>(bytes: usize) -> u32 {
    bytes.next_multiple_of(F::ERASE_SIZE) as u32
}

/// Places for watermarks behind an image.
pub(super) const fn tail<F: NorFlash>() -> u32 {
    let len = (IMAGE_LEN + LEAST_TAIL).next_multiple_of(F::ERASE_SIZE);
    let used = if len > MOST_USED { MOST_USED } else { len };
    (used.saturating_sub(IMAGE_LEN) / Chunk::LEN) as u32
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
