use embedded_hal::digital::{ErrorType, OutputPin};

/// A pin whose load is on while the pin is low: an LED to the supply, for example. High is on.
#[derive(Debug)]
pub struct ActiveLow<P>(pub P);

impl<P: ErrorType> ErrorType for ActiveLow<P> {
    type Error = P::Error;
}

impl<P: OutputPin> OutputPin for ActiveLow<P> {
    fn set_low(&mut self) -> Result<(), P::Error> {
        self.0.set_high()
    }

    fn set_high(&mut self) -> Result<(), P::Error> {
        self.0.set_low()
    }
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;

    use super::*;

    struct Pin {
        is_high: bool,
    }

    impl ErrorType for Pin {
        type Error = Infallible;
    }

    impl OutputPin for Pin {
        fn set_low(&mut self) -> Result<(), Infallible> {
            self.is_high = false;
            Ok(())
        }

        fn set_high(&mut self) -> Result<(), Infallible> {
            self.is_high = true;
            Ok(())
        }
    }

    #[test]
    fn on_is_low() {
        let mut led = ActiveLow(Pin { is_high: true });
        let Ok(()) = led.set_high();
        assert!(!led.0.is_high);
        let Ok(()) = led.set_low();
        assert!(led.0.is_high);
    }
}
