//! The minimal profile on an ATmega1284P.
#![no_std]
#![no_main]

use device_small::{DATAGRAM_LEN, Device, Line};
use firmware_atmega1284p::{answer, report, start, uart};

/// Called by the start-up code of avr-libc.
// SAFETY: there is one `main`.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let (config, eeprom, rng) = start();
    let mut device = Device::start(config, eeprom, rng);
    report(|line| device.report(line));
    let mut line = Line::new();
    let mut out = [0; DATAGRAM_LEN];
    loop {
        let Some(datagram) = line.take(uart::receive()) else { continue };
        answer(device.handle(datagram, &mut out), &out);
    }
}
