//! The board's LED: it blinks to show which device is meant, and it is the light at `/led`.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use cbor_schemas::Method;
use device::{
    Answer, Board, Decimal, Problem, ProductResource,
    values::{Value, Values},
};
use device_board::led;
use embassy_sync::{blocking_mutex::raw::CriticalSectionRawMutex, signal::Signal};
use embassy_time::{Duration, Timer};
use embedded_hal::digital::OutputPin;

use crate::console;

static WANTED: Signal<CriticalSectionRawMutex, Wanted> = Signal::new();

/// How long the LED lights up.
const HALF_PERIOD: Duration = Duration::from_millis(150);

/// Whether the light is on.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// How often it lights up to be noticed.
static FLASHES: AtomicU8 = AtomicU8::new(0);

/// What the LED is to do.
enum Wanted {
    Blink,
    Light,
}

/// The board's LED.
#[derive(Debug, Clone, Copy)]
pub struct Led;

impl Board for Led {
    const RESOURCES: &'static [ProductResource] = led::RESOURCES;

    const VALUES: &'static [Value] = led::VALUES;

    fn configure(&mut self, values: &Values<'_>) {
        FLASHES.store(led::flashes(values), Ordering::Relaxed);
    }

    fn identify(&mut self) {
        let flashes = FLASHES.load(Ordering::Relaxed);
        let times = Decimal::new(flashes.into());
        console::print(&["INFO identify: the LED blinks ", times.as_str(), " times"]);
        WANTED.signal(Wanted::Blink);
    }

    fn serve(&mut self, _path: &str, method: Method, body: &[u8], answer: &mut Answer) -> Result<(), Problem> {
        let mut is_on = IS_ON.load(Ordering::Relaxed);
        led::serve(&mut is_on, method, body, answer)?;
        if method != Method::Get {
            IS_ON.store(is_on, Ordering::Relaxed);
            WANTED.signal(Wanted::Light);
        }
        Ok(())
    }
}

/// Does what is wanted. A pin that fails is a pin that does not light up.
pub async fn run(mut led: impl OutputPin) {
    loop {
        let _ = led.set_state(IS_ON.load(Ordering::Relaxed).into());
        match WANTED.wait().await {
            Wanted::Light => {}
            Wanted::Blink => {
                for _ in 0..FLASHES.load(Ordering::Relaxed) {
                    let _ = led.set_high();
                    Timer::after(HALF_PERIOD).await;
                    let _ = led.set_low();
                    Timer::after(HALF_PERIOD).await;
                }
            }
        }
    }
}
