//! The minimal profile on an ATmega1284P with a crystal of 16 MHz: USART0 at 115200 8N1, the key and the certificate in EEPROM.
//!
//! There is no source of randomness on such a chip. Two things are mixed instead, at each start:
//!
//! - a **seed** of 32 bytes in EEPROM, which whoever programs the device puts there, and which is replaced at each start;
//! - the **jitter** of the watchdog's own oscillator against the crystal.
//!
//! With a seed the key is as good as that. Without one, everything rests on the jitter: see `docs/small-targets.md`.
#![no_std]
#![no_main]
#![feature(abi_avr_interrupt, asm_experimental_arch)]

mod curve;
mod eeprom;
mod random;
mod registers;
mod uart;

use core::fmt::Write as _;

use cbor_schemas::{DeviceId, report};
use device_minimal::{Config, DATAGRAM_LEN, Device, Line, line::FrameType};

use crate::{curve::MicroEcc, eeprom::Eeprom};

/// The device ID: the product, and the serial number that the programmer puts into EEPROM behind the seed.
fn device_id(serial: [u8; 8]) -> Option<DeviceId> {
    let mut urn = heapless::String::<{ DeviceId::MAX_TEXT_LEN }>::new();
    urn.write_str("urn:dev:ops:32473-atmega-").ok()?;
    for byte in serial {
        write!(urn, "{byte:02x}").ok()?;
    }
    urn.parse().ok()
}

/// Called by the start-up code of avr-libc.
// SAFETY: there is one `main`.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut eeprom = Eeprom::new();
    let rng = random::start(&mut eeprom);
    uart::start();

    let serial = eeprom.array(eeprom::SERIAL);
    let Some(id) = device_id(serial) else { stop() };
    let config = Config {
        device: id,
        firmware: concat!("atmega ", env!("CARGO_PKG_VERSION")),
        operation_ms: curve::MILLISECONDS,
    };
    let mut device = Device::start(config, eeprom, MicroEcc, rng);

    let mut line = heapless::String::<{ report::MAX_LINE + 1 }>::new();
    if device.report(&mut line).is_ok() && line.push('\n').is_ok() {
        Line::frame(FrameType::Diagnostic, line.as_bytes(), uart::send);
    }
    drop(line);

    let mut receiver = Line::new();
    let mut out = [0; DATAGRAM_LEN];
    loop {
        let Some(datagram) = receiver.take(uart::receive()) else { continue };
        if let Some(answer) = device.handle(datagram, &mut out).and_then(|len| out.get(..len)) {
            Line::frame(FrameType::Configuration, answer, uart::send);
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    stop()
}

fn stop() -> ! {
    loop {
        registers::sleep_until(|| false);
    }
}
