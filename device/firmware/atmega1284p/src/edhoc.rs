//! EDHOC and OSCORE on an ATmega1284P.
#![no_std]
#![no_main]

use device_small::{DATAGRAM_LEN, Line, ProvingDevice};
use firmware_atmega1284p::{answer, report, start, uart};

/// Called by the start-up code of avr-libc.
// SAFETY: there is one `main`.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let (config, eeprom, rng) = start();
    let mut device = ProvingDevice::start(config, eeprom, rng);
    report(|line| device.report(line));
    device.prepare();
    let mut line = Line::new();
    let mut out = [0; DATAGRAM_LEN];
    loop {
        // Nobody has said anything for a while: the time for what the next one would have to wait for.
        let byte = if device.is_unprepared() { uart::receive_soon() } else { Some(uart::receive()) };
        let Some(byte) = byte else {
            device.prepare();
            continue;
        };
        let Some(datagram) = line.take(byte) else { continue };
        answer(device.handle(datagram, &mut out), &out);
    }
}
