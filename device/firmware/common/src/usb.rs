//! The device at a USB cable.

use core::cell::RefCell;

use cbor_schemas::report;
use device::transport::LogLine;
use device_embassy::usb::{self, Address, Counters, FULL_SPEED, Resources, Setup};
use embassy_futures::join::join3;
use embassy_usb_driver::Driver;
use embedded_hal::digital::{InputPin, OutputPin};
use embedded_storage::nor_flash::NorFlash;
use rand_core::CryptoRngCore;
use static_cell::StaticCell;

use crate::{Hardware, button, config, console, led, memory, now_ms, start};

/// What a board may draw from the cable, in milliamperes, before it has asked for more: one unit load (USB 2.0, section
/// 7.2.1).
const MAX_POWER: u16 = 100;

/// The commissionable device on a USB cable, as a serial port and as a network interface, for ever.
///
/// `product` is what a host shows of it, at most 31 characters.
pub async fn run_usb<F, R, D, L, N>(hardware: Hardware<F, R, D, L, N>, product: &'static str, firmware: &'static str)
where
    F: NorFlash,
    R: CryptoRngCore,
    D: Driver<'static>,
    L: OutputPin,
    N: InputPin,
{
    static SETUP: StaticCell<Setup> = StaticCell::new();
    static RESOURCES: StaticCell<Resources<'static>> = StaticCell::new();

    let Hardware { device, flash, layout, mut rng, port, led, button, operation_ms } = hardware;
    let seed = rng.next_u64();
    let Some(memory) = memory!(Address) else { return };
    // A layout is a constant of the board, so whoever tries the board sees that it does not fit.
    let Some(server) = start(config(device, firmware, operation_ms), flash, layout, rng, memory) else { return };
    let server = RefCell::new(server);
    let manufacturer = "Commissioning";
    let setup = Setup { device, manufacturer, product, max_power: MAX_POWER, seed, counters: Counters::default() };
    let (Some(setup), Some(resources)) = (SETUP.try_init(setup), RESOURCES.try_init_with(Resources::new)) else {
        return;
    };
    let greeting = || {
        let mut line = LogLine::new();
        // Free whenever a line is said: no datagram is handled meanwhile. A report line always fits.
        if let Ok(server) = server.try_borrow() {
            let _ = report::write(&server.device().info(), &mut line);
        }
        line
    };
    let serving =
        usb::serve::<FULL_SPEED, Address, _, _>(port, setup, resources, &server, now_ms, greeting, console::next_line);
    // A stack that is new has a free port and a free group, which is all that can fail.
    let _ = join3(serving, led::run(led), button::run(button, &server)).await;
}
