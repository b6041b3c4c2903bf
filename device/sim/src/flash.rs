//! NOR flash whose cells are a file, so that they survive a restart of the simulator, or RAM.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use device::store::Layout;
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// Bytes of a page: as of an nRF52840 or RP2040.
const PAGE: usize = 4096;
/// Pages: more than the storage takes, and as many as images of firmware 0.1 have, so that these can be refused by name.
const PAGES: usize = 10;

/// Where the ranges lie.
pub(crate) fn layout() -> Layout {
    Layout::smallest::<SimFlash>(0)
}

/// Opens the file that stands for a memory of `len` bytes; makes it blank, readable by its owner alone, if it does not exist.
pub(crate) fn image(what: &str, path: &Path, len: usize) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match usize::try_from(file.metadata()?.len()) {
        Ok(0) => file.write_all_at(&vec![0xff; len], 0)?,
        Ok(found) if found == len => {}
        _ => {
            let message = format!("{what} has {len} bytes, this file has {}", file.metadata()?.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    file.sync_all()?;
    Ok(file)
}

/// The flash of a simulated device.
pub(crate) enum SimFlash {
    /// Kept in a file; every write and erase is on disk before it returns.
    File(File),
    /// Gone with the process.
    Ram(Vec<u8>),
}

impl SimFlash {
    /// Flash in `file`, which is made blank, readable by its owner alone, if it does not exist.
    pub(crate) fn in_file(path: &Path) -> io::Result<Self> {
        let file = image("a flash image", path, PAGE * PAGES)?;
        Ok(SimFlash::File(file))
    }

    /// Blank flash in RAM.
    pub(crate) fn in_ram() -> Self {
        SimFlash::Ram(vec![0xff; PAGE * PAGES])
    }

    fn overwrite(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        match self {
            SimFlash::File(file) => {
                file.write_all_at(bytes, offset.into())?;
                file.sync_data()?;
            }
            SimFlash::Ram(cells) => cells[offset as usize..][..bytes.len()].copy_from_slice(bytes),
        }
        Ok(())
    }
}

/// Why the simulated flash failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlashError {
    /// The caller broke the rules of NOR flash.
    #[error("flash access out of bounds or not aligned: {0:?}")]
    Access(NorFlashErrorKind),
    /// The file behind it failed.
    #[error("flash file: {0}")]
    File(#[from] io::Error),
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            FlashError::Access(kind) => *kind,
            FlashError::File(_) => NorFlashErrorKind::Other,
        }
    }
}

impl ErrorType for SimFlash {
    type Error = FlashError;
}

impl ReadNorFlash for SimFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        check_read(self, offset, bytes.len()).map_err(FlashError::Access)?;
        match self {
            SimFlash::File(file) => file.read_exact_at(bytes, offset.into())?,
            SimFlash::Ram(cells) => bytes.copy_from_slice(&cells[offset as usize..][..bytes.len()]),
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        PAGE * PAGES
    }
}

impl NorFlash for SimFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        check_erase(self, from, to).map_err(FlashError::Access)?;
        self.overwrite(from, &vec![0xff; (to - from) as usize])
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        check_write(self, offset, bytes.len()).map_err(FlashError::Access)?;
        let mut cells = vec![0; bytes.len()];
        self.read(offset, &mut cells)?;
        // Programming can only clear bits.
        cells.iter_mut().zip(bytes).for_each(|(cell, byte)| *cell &= byte);
        self.overwrite(offset, &cells)
    }
}
