//! The LED that shows which device is meant.

use device::device::Board;
use embassy_sync::{blocking_mutex::raw::CriticalSectionRawMutex, signal::Signal};
use embassy_time::{Duration, Timer};
use embedded_hal::digital::OutputPin;

static WANTED: Signal<CriticalSectionRawMutex, ()> = Signal::new();

/// How often the LED lights up, and for how long.
const FLASHES: u8 = 10;
const HALF_PERIOD: Duration = Duration::from_millis(150);

/// Lets the board's LED blink for three seconds.
#[derive(Debug, Clone, Copy)]
pub struct Identify;

impl Board for Identify {
    fn identify(&mut self) {
        log::info!("identify: the LED blinks");
        WANTED.signal(());
    }
}

/// Blinks whenever that is wanted. A pin that fails is a pin that does not light up.
pub(crate) async fn blink(mut led: impl OutputPin) {
    let _ = led.set_low();
    loop {
        WANTED.wait().await;
        for _ in 0..FLASHES {
            let _ = led.set_high();
            Timer::after(HALF_PERIOD).await;
            let _ = led.set_low();
            Timer::after(HALF_PERIOD).await;
        }
    }
}
