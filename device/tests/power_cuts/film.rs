//! What flash holds while it is being changed, frame by frame, and wherever the power may fail between two frames.

use device::flash::{FlashError, RamFlash};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// The bytes of a flash before the first operation and after each one: writes and erases.
pub(crate) type Film = Vec<Vec<u8>>;

pub(crate) const WORD: usize = 4;
pub(crate) const PAGE: usize = 1024;

/// What is left of the word that was being programmed or erased when the power failed. Words before it are done, words
/// behind it are untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tear {
    /// All of the word is as before.
    Old,
    /// All of the word is done.
    New,
    /// Up to some byte the word is done. Of that byte, every other bit is.
    Half,
    /// Each bit of the word is done or not, at random.
    Random,
}

impl Tear {
    pub(crate) const ALL: [Tear; 4] = [Tear::Old, Tear::New, Tear::Half, Tear::Random];
}

/// Every place where the power can fail and make a difference: each byte that one operation after the other changes,
/// and what the word that it is in may be left as. Bytes that an operation leaves as they are make no difference.
pub(crate) fn cuts<'f>(film: &'f [Vec<u8>], tears: &'f [Tear]) -> impl Iterator<Item = (usize, Tear, Vec<u8>)> + 'f {
    let operations = film.windows(2).map(|frames| (&frames[0], &frames[1]));
    let changes = operations.flat_map(|(before, after)| {
        let mut changed = (0..before.len()).filter(|at| before[*at] != after[*at]);
        let mut last_word = None;
        core::iter::from_fn(move || {
            let at = changed.next()?;
            let word = at / WORD;
            let is_first_in_word = last_word.replace(word) != Some(word);
            Some((before, after, at, is_first_in_word))
        })
    });
    changes.enumerate().flat_map(|(number, (before, after, at, is_first_in_word))| {
        // All of a word and nothing of it are the same for each byte of it.
        let tears = tears.iter().filter(move |tear| is_first_in_word || !matches!(tear, Tear::Old | Tear::New));
        tears.map(move |tear| (number, *tear, torn(before, after, at, *tear, number)))
    })
}

fn torn(before: &[u8], after: &[u8], at: usize, tear: Tear, seed: usize) -> Vec<u8> {
    let word = at - at % WORD;
    let mut image = [&after[..word], &before[word..]].concat();
    for byte in word..word + WORD {
        let done = match tear {
            Tear::Old => 0x00,
            Tear::New => 0xFF,
            Tear::Half if byte < at => 0xFF,
            Tear::Half if byte == at => 0x55,
            Tear::Half => 0x00,
            Tear::Random => noise(seed * WORD + byte),
        };
        image[byte] = (after[byte] & done) | (before[byte] & !done);
    }
    image
}

/// A byte that looks random and is the same in each run (splitmix64).
fn noise(seed: usize) -> u8 {
    let mixed = (seed as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 40) as u8
}

/// Flash that films what is done to it.
pub(crate) struct Filming {
    flash: RamFlash<Vec<u8>, WORD, PAGE>,
    pub(crate) film: Film,
}

impl Filming {
    pub(crate) fn new(image: Vec<u8>) -> Self {
        Filming { film: vec![image.clone()], flash: RamFlash::new(image) }
    }

    fn shoot(&mut self) {
        self.film.push(self.flash.bytes_mut().to_vec());
    }
}

impl ErrorType for Filming {
    type Error = FlashError;
}

impl ReadNorFlash for Filming {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.flash.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.flash.capacity()
    }
}

impl NorFlash for Filming {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.flash.erase(from, to)?;
        self.shoot();
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.flash.write(offset, bytes)?;
        self.shoot();
        Ok(())
    }
}
