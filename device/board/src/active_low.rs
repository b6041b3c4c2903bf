use embedded_hal::digital::{ErrorType, InputPin, OutputPin};

/// A pin whose load is on while the pin is low: an LED to the supply, or a button to ground. High is on, or pressed.
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

impl<P: InputPin> InputPin for ActiveLow<P> {
    fn is_high(&mut self) -> Result<bool, P::Error> {
        self.0.is_low()
    }

    fn is_low(&mut self) -> Result<bool, P::Error> {
        self.0.is_high()
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

    impl InputPin for Pin {
        fn is_high(&mut self) -> Result<bool, Infallible> {
            Ok(self.is_high)
        }

        fn is_low(&mut self) -> Result<bool, Infallible> {
            Ok(!self.is_high)
        }
    }

    #[test]
    fn pressed_is_low() {
        for is_high in [false, true] {
            let mut button = ActiveLow(Pin { is_high });
            assert_eq!((button.is_high(), button.is_low()), (Ok(!is_high), Ok(is_high)));
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
