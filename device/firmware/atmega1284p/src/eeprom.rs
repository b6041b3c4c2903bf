//! The EEPROM: the device's cells, then what the programmer puts there.

use core::{convert::Infallible, ops::Range};

use device_small::STORAGE_LEN;
use embedded_storage::{ReadStorage, Storage};

use crate::registers::{EEARH, EEARL, EECR, EEDR, program_eeprom};

/// Where the seed is.
pub(crate) const SEED: u16 = 0x200;
/// Where the device's serial number is.
pub(crate) const SERIAL: u16 = 0x220;
const _: () = assert!(STORAGE_LEN <= SEED as usize, "the cells reach into the seed");

const EERE: u8 = 0;
const EEPE: u8 = 1;
/// Programming modes (EEPM1 and EEPM0).
const ERASE_AND_WRITE: u8 = 0b00 << 4;
const ERASE: u8 = 0b01 << 4;
const WRITE: u8 = 0b10 << 4;

/// The cells of the EEPROM that are the device's.
pub struct Eeprom(());

impl Eeprom {
    pub(crate) fn new() -> Self {
        Self(())
    }

    pub(crate) fn array<const LEN: usize>(&mut self, at: u16) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        for (byte, at) in bytes.iter_mut().zip(at..) {
            *byte = self.get(at);
        }
        bytes
    }

    pub(crate) fn put(&mut self, at: u16, bytes: &[u8]) {
        for (byte, at) in bytes.iter().zip(at..) {
            self.set(at, *byte);
        }
    }

    fn select(&mut self, at: u16) {
        while EECR.has(EEPE) {}
        let [high, low] = at.to_be_bytes();
        EEARH.write(high);
        EEARL.write(low);
    }

    fn get(&mut self, at: u16) -> u8 {
        self.select(at);
        EECR.write(1 << EERE);
        EEDR.read()
    }

    /// Erasing and writing by themselves each take half the time and half the wear; writing alone only clears bits.
    fn set(&mut self, at: u16, byte: u8) {
        let old = self.get(at);
        let mode = match byte {
            same if same == old => return,
            0xff => ERASE,
            fewer if fewer & old == fewer => WRITE,
            _ => ERASE_AND_WRITE,
        };
        EEDR.write(byte);
        program_eeprom(mode);
        while EECR.has(EEPE) {}
    }
}

impl ReadStorage for Eeprom {
    type Error = Infallible;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Infallible> {
        for (byte, at) in bytes.iter_mut().zip(range(offset)) {
            *byte = self.get(at);
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        STORAGE_LEN
    }
}

impl Storage for Eeprom {
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Infallible> {
        for (byte, at) in bytes.iter().zip(range(offset)) {
            self.set(at, *byte);
        }
        Ok(())
    }
}

/// The addresses from `offset` to the end of the cells.
fn range(offset: u32) -> Range<u16> {
    u16::try_from(offset).unwrap_or(STORAGE_LEN as u16)..STORAGE_LEN as u16
}
