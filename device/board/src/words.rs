use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_write};

/// Flash that programs smaller units, in words of four bytes: what the storage needs to keep what it wrote through two power
/// cuts (`docs/storage.md`).
#[derive(Debug)]
pub struct Words<F>(pub F);

impl<F: ErrorType> ErrorType for Words<F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> ReadNorFlash for Words<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), F::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> NorFlash for Words<F>
where
    F::Error: From<NorFlashErrorKind>,
{
    const WRITE_SIZE: usize = const {
        assert!(4_usize.is_multiple_of(F::WRITE_SIZE), "a word is a number of whole units of the flash");
        4
    };
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), F::Error> {
        self.0.erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), F::Error> {
        check_write(self, offset, bytes.len())?;
        self.0.write(offset, bytes)
    }
}

#[cfg(test)]
mod tests {
    use device::{
        flash::{FlashError, RamFlash},
        store::{Layout, Opened, Store},
    };

    use super::*;

    type Bytes = RamFlash<Vec<u8>, 1, 4096>;

    #[test]
    fn only_whole_words_are_written() {
        let mut flash = Words(Bytes::erased(vec![0; 4096]));
        assert_eq!(Words::<Bytes>::WRITE_SIZE, 4);
        assert_eq!(flash.write(2, &[0; 4]), Err(FlashError::NotAligned));
        assert_eq!(flash.write(4, &[0; 3]), Err(FlashError::NotAligned));
        assert_eq!(flash.0.wear().bytes_written, 0);
        assert_eq!(flash.write(4, &[1, 2, 3, 4]), Ok(()));
        let mut read = [0; 3];
        assert_eq!(flash.read(5, &mut read), Ok(()));
        assert_eq!(read, [2, 3, 4]);
        assert_eq!(flash.erase(0, 4096), Ok(()));
        assert_eq!(flash.0.bytes_mut()[5], 0xFF);
    }

    /// Over the bytes alone this does not compile.
    #[test]
    fn the_storage_takes_it() {
        let layout = Layout::smallest::<Words<Bytes>>(0);
        assert_eq!(layout.values.end, 40 << 10);
        let flash = Words(Bytes::erased(vec![0; 40 << 10]));
        let (mut store, opened) = Store::open(flash, layout.clone()).expect("the layout fits");
        assert!(matches!(opened, Opened::NeedsKey(_)));
        store.provide_key(&[7; 32], cbor_schemas::KeyOrigin::Generated).expect("a first key");
        let (_, opened) = Store::open(store.into_flash(), layout).expect("the layout fits");
        assert!(matches!(opened, Opened::Ready { .. }));
    }
}
