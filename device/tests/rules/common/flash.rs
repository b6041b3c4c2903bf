use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use device::flash::{FlashError, RamFlash, Wear};
use device::store::Layout;
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// Flash that outlives the device on it, and fails on demand.
#[derive(Clone)]
pub(crate) struct Flash {
    cells: Rc<RefCell<RamFlash<Vec<u8>, 4, 1024>>>,
    driver: Rc<Cell<Driver>>,
}

/// What becomes of writing and erasing. Reading always works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Works,
    /// Every write is an error.
    Refuses,
    /// Every write is reported as done, and is not.
    Forgets,
    /// Some writes are errors, then it works again.
    Fails {
        after: u32,
        times: u32,
    },
}

impl Flash {
    pub(crate) fn erased() -> Self {
        let len = Layout::smallest::<Self>(0).list.end as usize;
        Flash {
            cells: Rc::new(RefCell::new(RamFlash::erased(vec![0; len]))),
            driver: Rc::new(Cell::new(Driver::Works)),
        }
    }

    pub(crate) fn set_driver(&self, driver: Driver) {
        self.driver.set(driver);
    }

    pub(crate) fn driver(&self) -> Driver {
        self.driver.get()
    }

    /// See [`RamFlash::cut_power_after`].
    pub(crate) fn cut_power_after(&self, bytes: u64) {
        self.cells.borrow_mut().cut_power_after(bytes);
    }

    pub(crate) fn restore_power(&self) -> bool {
        self.cells.borrow_mut().restore_power()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.cells.borrow_mut().bytes_mut().to_vec()
    }

    pub(crate) fn overwrite(&self, change: impl FnOnce(&mut [u8])) {
        change(self.cells.borrow_mut().bytes_mut());
    }

    pub(crate) fn wear(&self) -> Wear {
        self.cells.borrow().wear()
    }

    fn driven(
        &self,
        operation: impl FnOnce(&mut RamFlash<Vec<u8>, 4, 1024>) -> Result<(), FlashError>,
    ) -> Result<(), FlashError> {
        match self.driver.get() {
            Driver::Works => operation(&mut self.cells.borrow_mut()),
            Driver::Refuses => Err(FlashError::PowerOff),
            Driver::Forgets => Ok(()),
            Driver::Fails { after: 0, times } => {
                let rest = Driver::Fails { after: 0, times: times - 1 };
                self.driver.set(if times == 1 { Driver::Works } else { rest });
                Err(FlashError::PowerOff)
            }
            Driver::Fails { after, times } => {
                self.driver.set(Driver::Fails { after: after - 1, times });
                operation(&mut self.cells.borrow_mut())
            }
        }
    }
}

impl ErrorType for Flash {
    type Error = FlashError;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.cells.borrow_mut().read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.cells.borrow().capacity()
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 1024;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.driven(|cells| cells.erase(from, to))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.driven(|cells| cells.write(offset, bytes))
    }
}
