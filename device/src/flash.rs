//! A model of NOR flash in memory, for tests, simulators and devices on a host.
//!
//! It keeps the rules that real flash keeps and that storage code gets wrong: programming only turns ones into zeros,
//! only an erase turns a whole page back into ones, addresses and lengths are aligned, and power may go at any byte.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// NOR flash over the bytes `B`, in words of `WORD` and pages of `PAGE` bytes.
///
/// `B` is whatever holds the bytes: `&mut [u8]`, an array, a `Vec<u8>`, a mapped file. Bytes behind the last full page
/// are not used.
#[derive(Clone, Debug)]
pub struct RamFlash<B, const WORD: usize, const PAGE: usize> {
    bytes: B,
    power: Power,
    wear: Wear,
}

/// What was done to a [`RamFlash`] since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wear {
    /// Bytes programmed.
    pub bytes_written: u64,
    /// Pages erased.
    pub pages_erased: u64,
    /// Words programmed that were not erased before. Flash with error correction per word cannot do that.
    pub words_rewritten: u64,
}

/// Why a [`RamFlash`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashError {
    /// Address or length do not fit the word or page size.
    NotAligned,
    /// Address and length lead beyond the last page.
    OutOfBounds,
    /// The power is off: see [`RamFlash::cut_power_after`].
    PowerOff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    Failing { bytes_left: u64 },
    Off,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>, const WORD: usize, const PAGE: usize> RamFlash<B, WORD, PAGE> {
    /// Flash with the contents that `bytes` has.
    pub fn new(bytes: B) -> Self {
        const { assert!(WORD > 0 && PAGE > 0 && PAGE.is_multiple_of(WORD), "a page is a number of whole words") };
        RamFlash { bytes, power: Power::On, wear: Wear::default() }
    }

    /// Flash as it leaves the factory: every byte 0xFF.
    pub fn erased(mut bytes: B) -> Self {
        bytes.as_mut().fill(0xFF);
        Self::new(bytes)
    }

    /// Lets the power fail as soon as `bytes` more bytes have been programmed or erased.
    ///
    /// The operation under way ends there, with [`FlashError::PowerOff`]: earlier bytes are done, of the next one only
    /// every other bit, the rest are as before. Then nothing works until [`restore_power`](Self::restore_power).
    pub fn cut_power_after(&mut self, bytes: u64) {
        self.power = Power::Failing { bytes_left: bytes };
    }

    /// Takes back [`cut_power_after`](Self::cut_power_after). True if the power had failed.
    pub fn restore_power(&mut self) -> bool {
        core::mem::replace(&mut self.power, Power::On) == Power::Off
    }

    /// What was done to this flash so far.
    pub fn wear(&self) -> Wear {
        self.wear
    }

    /// The bytes, to look into the flash or to damage it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut()
    }

    /// Changes one byte by `change` unless the power fails; then only every other bit of it changes.
    fn change(&mut self, address: usize, change: impl FnOnce(u8) -> u8) -> Result<(), FlashError> {
        let byte = self.bytes.as_mut().get_mut(address).ok_or(FlashError::OutOfBounds)?;
        let changed = change(*byte);
        match self.power {
            Power::On => {}
            Power::Off => return Err(FlashError::PowerOff),
            Power::Failing { bytes_left: 0 } => {
                const DONE: u8 = 0x55;
                *byte = (changed & DONE) | (*byte & !DONE);
                self.power = Power::Off;
                return Err(FlashError::PowerOff);
            }
            Power::Failing { ref mut bytes_left } => *bytes_left = bytes_left.saturating_sub(1),
        }
        *byte = changed;
        Ok(())
    }

    fn check_power(&self) -> Result<(), FlashError> {
        if self.power == Power::Off { Err(FlashError::PowerOff) } else { Ok(()) }
    }
}

impl<B, const WORD: usize, const PAGE: usize> ErrorType for RamFlash<B, WORD, PAGE> {
    type Error = FlashError;
}

impl<B: AsRef<[u8]> + AsMut<[u8]>, const WORD: usize, const PAGE: usize> ReadNorFlash for RamFlash<B, WORD, PAGE> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.check_power()?;
        check_read(self, offset, bytes.len())?;
        let stored = self.bytes.as_ref().get(offset as usize..).and_then(|rest| rest.get(..bytes.len()));
        bytes.copy_from_slice(stored.ok_or(FlashError::OutOfBounds)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        let len = self.bytes.as_ref().len();
        len.saturating_sub(len.checked_rem(PAGE).unwrap_or(0))
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>, const WORD: usize, const PAGE: usize> NorFlash for RamFlash<B, WORD, PAGE> {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.check_power()?;
        check_erase(self, from, to)?;
        for page in (from as usize..to as usize).step_by(PAGE) {
            for address in (page..).take(PAGE) {
                self.change(address, |_| 0xFF)?;
            }
            self.wear.pages_erased = self.wear.pages_erased.saturating_add(1);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.check_power()?;
        check_write(self, offset, bytes.len())?;
        for (word, address) in bytes.chunks(WORD).zip((offset as usize..).step_by(WORD)) {
            let before = self.bytes.as_ref().get(address..).and_then(|rest| rest.get(..WORD));
            if before.is_some_and(|word| word.iter().any(|byte| *byte != 0xFF)) {
                self.wear.words_rewritten = self.wear.words_rewritten.saturating_add(1);
            }
            for (byte, address) in word.iter().zip(address..) {
                self.change(address, |stored| stored & byte)?;
                self.wear.bytes_written = self.wear.bytes_written.saturating_add(1);
            }
        }
        Ok(())
    }
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            FlashError::NotAligned => NorFlashErrorKind::NotAligned,
            FlashError::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            FlashError::PowerOff => NorFlashErrorKind::Other,
        }
    }
}

impl From<NorFlashErrorKind> for FlashError {
    fn from(kind: NorFlashErrorKind) -> Self {
        if kind == NorFlashErrorKind::NotAligned { FlashError::NotAligned } else { FlashError::OutOfBounds }
    }
}

impl core::fmt::Display for FlashError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            FlashError::NotAligned => "address or length is not a multiple of the word or page size",
            FlashError::OutOfBounds => "address and length lead beyond the end of the flash",
            FlashError::PowerOff => "the power of the flash is off; restore it first",
        })
    }
}

impl core::error::Error for FlashError {}

#[cfg(test)]
mod tests {
    use super::*;

    type Flash = RamFlash<[u8; 64], 4, 32>;

    fn erased() -> Flash {
        Flash::erased([0; 64])
    }

    #[test]
    fn programming_only_clears_bits_and_erasing_sets_a_page() {
        let mut flash = erased();
        flash.write(0, &[0xF0; 4]).unwrap();
        flash.write(32, &[0x0F; 4]).unwrap();
        assert_eq!(flash.wear().words_rewritten, 0);
        flash.write(0, &[0x3C; 4]).unwrap();
        let mut word = [0; 4];
        flash.read(0, &mut word).unwrap();
        assert_eq!(word, [0x30; 4]);
        flash.erase(0, 32).unwrap();
        assert!(flash.bytes_mut()[..32].iter().all(|byte| *byte == 0xFF));
        assert_eq!(flash.bytes_mut()[32], 0x0F);
        assert_eq!(flash.wear(), Wear { bytes_written: 12, pages_erased: 1, words_rewritten: 1 });
    }

    #[test]
    fn alignment_and_bounds_are_checked() {
        let mut flash = erased();
        assert_eq!(flash.write(2, &[0; 4]), Err(FlashError::NotAligned));
        assert_eq!(flash.write(4, &[0; 3]), Err(FlashError::NotAligned));
        assert_eq!(flash.write(64, &[0; 4]), Err(FlashError::OutOfBounds));
        assert_eq!(flash.erase(0, 16), Err(FlashError::NotAligned));
        assert_eq!(flash.erase(32, 96), Err(FlashError::OutOfBounds));
        assert_eq!(flash.read(60, &mut [0; 8]), Err(FlashError::OutOfBounds));
        assert_eq!(RamFlash::<_, 4, 32>::erased([0; 70]).capacity(), 64);
    }

    #[test]
    fn a_power_cut_tears_the_word_under_way() {
        let mut flash = erased();
        flash.cut_power_after(5);
        assert_eq!(flash.write(0, &[0; 8]), Err(FlashError::PowerOff));
        assert_eq!(flash.write(8, &[0; 4]), Err(FlashError::PowerOff));
        assert_eq!(flash.read(0, &mut [0; 4]), Err(FlashError::PowerOff));
        assert!(flash.restore_power());
        assert_eq!(flash.bytes_mut()[..8], [0, 0, 0, 0, 0, 0xAA, 0xFF, 0xFF]);
        assert_eq!(flash.wear().bytes_written, 5);
    }

    #[test]
    fn a_power_cut_leaves_a_page_half_erased() {
        let mut flash = Flash::new([0; 64]);
        flash.cut_power_after(32 + 3);
        assert_eq!(flash.erase(0, 64), Err(FlashError::PowerOff));
        flash.restore_power();
        assert!(flash.bytes_mut()[..35].iter().all(|byte| *byte == 0xFF));
        assert_eq!(flash.bytes_mut()[35], 0x55);
        assert!(flash.bytes_mut()[36..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn exactly_enough_power_is_enough() {
        let mut flash = erased();
        flash.cut_power_after(4);
        assert_eq!(flash.write(0, &[0; 4]), Ok(()));
        assert!(!flash.restore_power());
    }
}
