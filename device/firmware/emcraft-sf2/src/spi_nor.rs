//! The board's flash chip, a Spansion S25FL128 (16 MiB), as NorFlash: sectors of 64 KiB, pages of 256 bytes.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

use crate::spi::Spi;

const READ: u8 = 0x03;
const WRITE_ENABLE: u8 = 0x06;
const PAGE_PROGRAM: u8 = 0x02;
const SECTOR_ERASE: u8 = 0xD8;
const READ_STATUS: u8 = 0x05;
const BUSY: u8 = 0x01;

const CAPACITY: usize = 16 << 20;
const SECTOR: u32 = 64 << 10;
const PAGE: u32 = 256;

/// The chip.
pub(crate) struct SpiNor {
    spi: Spi,
}

impl SpiNor {
    pub(crate) fn new(spi: Spi) -> Self {
        SpiNor { spi }
    }

    /// Programs or erases, and waits until that is done.
    fn change(&mut self, operation: u8, address: u32, data: &[u8]) {
        self.spi.transfer(&[WRITE_ENABLE], &[], &mut []);
        self.spi.transfer(&command(operation, address), data, &mut []);
        let mut status = [BUSY];
        while status[0] & BUSY != 0 {
            self.spi.transfer(&[READ_STATUS], &[], &mut status);
        }
    }
}

/// An operation and its 24-bit address.
fn command(operation: u8, address: u32) -> [u8; 4] {
    let [_, high, middle, low] = address.to_be_bytes();
    [operation, high, middle, low]
}

impl ErrorType for SpiNor {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for SpiNor {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        // The controller counts frames in 16 bits.
        let mut address = offset;
        for part in bytes.chunks_mut(0x8000) {
            self.spi.transfer(&command(READ, address), &[], part);
            address += part.len() as u32;
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }
}

impl NorFlash for SpiNor {
    const WRITE_SIZE: usize = 1;
    const ERASE_SIZE: usize = SECTOR as usize;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        for sector in (from..to).step_by(SECTOR as usize) {
            self.change(SECTOR_ERASE, sector, &[]);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        let (mut address, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            // Behind the end of a page, programming would go on at its beginning.
            let room = PAGE - address % PAGE;
            let (part, rest) = bytes.split_at(bytes.len().min(room as usize));
            self.change(PAGE_PROGRAM, address, part);
            (address, bytes) = (address + part.len() as u32, rest);
        }
        Ok(())
    }
}
