//! An LED that shows in the log.

use core::convert::Infallible;

use embedded_hal::digital::{ErrorType, OutputPin};

/// Nothing to see: the log says that it blinks.
#[derive(Debug)]
pub struct NoLed;

impl ErrorType for NoLed {
    type Error = Infallible;
}

impl OutputPin for NoLed {
    fn set_low(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
