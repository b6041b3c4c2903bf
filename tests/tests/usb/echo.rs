//! A device at a USB cable whose server is an echo.

use std::cell::RefCell;

use critical_section as _;
use device::transport::{LogLine, Service};
use device_embassy::usb::{self, Address, Counters, Resources, Setup};
use embassy_time as _;
use embassy_usb_usbip::Driver;

use crate::ID;

/// Sends back what it gets.
struct Echo;

impl Service<Address> for Echo {
    fn handle(&mut self, _from: Address, datagram: &mut [u8], _now: u64, out: &mut [u8]) -> Option<usize> {
        // Not the same bytes: a serial line passes over what comes back as it was sent.
        out.get_mut(..datagram.len())?.iter_mut().zip(&*datagram).for_each(|(out, byte)| *out = !byte);
        Some(datagram.len())
    }
}

pub(crate) fn setup() -> Setup {
    Setup {
        device: ID.parse().expect("a device ID"),
        manufacturer: "tests",
        product: "echo",
        max_power: 100,
        seed: 1,
        counters: Counters::default(),
    }
}

/// Serves it, for ever.
pub(crate) async fn serve<const PACKET: usize>(driver: Driver, setup: &Setup) {
    let mut resources = Resources::new();
    let greeting = || LogLine::try_from("hello").expect("it is short");
    let service = RefCell::new(Echo);
    let log = async || std::future::pending().await;
    let ended = usb::serve::<PACKET, Address, _, _>(driver, setup, &mut resources, &service, || 0, greeting, log).await;
    panic!("the device ended: {:?}", ended.err());
}
