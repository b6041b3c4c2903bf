//! The board's button: held down, it shows that somebody is there.

use core::{cell::RefCell, convert::Infallible};

use device::{Board, Memory, Server, transport::Source};
use device_board::button::Button;
use embassy_time::{Duration, Instant, Timer};
use embedded_hal::digital::{ErrorType, InputPin};
use embedded_storage::nor_flash::NorFlash;
use rand_core::CryptoRngCore;

use crate::console;

/// Between two looks at the button: contacts bounce for some milliseconds.
const PERIOD: Duration = Duration::from_millis(50);

/// For a board without a button: nobody is ever there.
#[derive(Debug, Clone, Copy)]
pub struct NoButton;

impl ErrorType for NoButton {
    type Error = Infallible;
}

impl InputPin for NoButton {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(true)
    }
}

/// Tells the device of each long press. A pin that fails is a button that is up.
pub async fn run<A, F, R, B, const CACHE: usize>(
    mut button: impl InputPin,
    server: &RefCell<Server<&'static mut Memory<A, CACHE>, F, R, B>>,
) where
    A: Source,
    F: NorFlash,
    R: CryptoRngCore,
    B: Board,
{
    let mut presses = Button::new();
    loop {
        let is_down = button.is_high().unwrap_or(false);
        // Free whenever this runs: no datagram is handled meanwhile.
        if presses.sample(is_down, Instant::now().as_millis())
            && let Ok(mut server) = server.try_borrow_mut()
        {
            server.device_mut().note_presence(Instant::now().as_millis());
            console::print(&["INFO presence: somebody is here, for 30 seconds"]);
        }
        Timer::after(PERIOD).await;
    }
}
