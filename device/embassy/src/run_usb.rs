//! From hardware to a device at a USB cable.

use cbor_schemas::report;
use device::{Board, transport::LogLine};
use embassy_futures::select::select3;
use embassy_usb::driver::Driver;
use embedded_hal::digital::InputPin;
use embedded_storage::nor_flash::NorFlash;
use rand_core::CryptoRngCore;
use static_cell::StaticCell;

use crate::{
    button, console,
    run::{SharedServer, now_ms, prepare},
    usb::{self, Address, Counters, FULL_SPEED, Resources, Setup},
};

/// What a board may draw from the cable, in milliamperes, before it has asked for more: one unit load (USB 2.0, section
/// 7.2.1).
const MAX_POWER: u16 = 100;

/// The commissionable device on a USB cable, as a serial port and as a network interface, for ever. It ends the second time.
///
/// `port` is the USB device controller, and `button` as with [`run`](crate::run). `manufacturer` and `product` are what a host shows of it, at most 31 characters each.
pub async fn run_usb<F, R, D, N, B>(
    server: &SharedServer<Address, F, R, B>,
    port: D,
    button: N,
    manufacturer: &'static str,
    product: &'static str,
) where
    F: NorFlash,
    R: CryptoRngCore,
    D: Driver<'static>,
    N: InputPin,
    B: Board,
{
    static SETUP: StaticCell<Setup> = StaticCell::new();
    static RESOURCES: StaticCell<Resources<'static>> = StaticCell::new();

    let (device, seed) = {
        // Free: nothing is served yet.
        let Ok(mut held) = server.try_borrow_mut() else { return };
        (*held.device().id(), held.device_mut().rng().next_u64())
    };
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
        usb::serve::<FULL_SPEED, Address, _, _>(port, setup, resources, server, now_ms, greeting, console::next_line);
    // A stack that is new has a free port and a free group, which is all that can fail.
    let _ = select3(serving, prepare(server), button::run(button, server)).await;
}
