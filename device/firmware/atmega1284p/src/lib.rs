//! What both images for an ATmega1284P have in common. A crystal of 16 MHz, USART0 at 115200 8N1, the key and the certificate in
//! EEPROM.
//!
//! There is no source of randomness on such a chip. Two things are mixed instead, at each start:
//!
//! - a **seed** of 32 bytes in EEPROM, which whoever programs the device puts there, and which is replaced at each start;
//! - the **jitter** of the watchdog's own oscillator against the crystal.
//!
//! With a seed the key is as good as that. Without one, everything rests on the jitter: see `docs/small-targets.md`.
#![no_std]
#![feature(abi_avr_interrupt, asm_experimental_arch)]

mod eeprom;
mod random;
mod registers;
pub mod uart;

use cbor_schemas::{DeviceId, report};
use device_small::{Config, Line, line::FrameType};

pub use crate::{eeprom::Eeprom, random::Random};

/// One scalar multiplication, in milliseconds: 3.6 s were measured.
const MULTIPLICATION_MS: u32 = 4_000;

/// Starts the board. What it returns is for the device.
pub fn start() -> (Config, Eeprom, Random) {
    let mut eeprom = Eeprom::new();
    let rng = random::start(&mut eeprom);
    uart::start();
    let serial = eeprom.array(eeprom::SERIAL);
    let Some(device) = device_id(serial) else { stop() };
    let firmware = concat!("atmega ", env!("CARGO_PKG_VERSION"));
    (Config { device, firmware, operation_ms: MULTIPLICATION_MS }, eeprom, rng)
}

/// The device ID: the product, and the serial number that the programmer puts into EEPROM behind the seed.
fn device_id(serial: [u8; 8]) -> Option<DeviceId> {
    let mut urn = heapless::String::<{ DeviceId::MAX_TEXT_LEN }>::new();
    urn.push_str("urn:dev:ops:32473-atmega-").ok()?;
    urn.push_str(base16ct::lower::encode_str(&serial, &mut [0; 16]).ok()?).ok()?;
    urn.parse().ok()
}

/// Sends the report line that `write` gives.
pub fn report(write: impl FnOnce(&mut heapless::String<{ report::MAX_LINE + 1 }>) -> Result<(), cbor_schemas::Error>) {
    let mut line = heapless::String::new();
    if write(&mut line).is_ok() && line.push('\n').is_ok() {
        Line::frame(FrameType::Diagnostic, line.as_bytes(), uart::send);
    }
}

/// Sends the first `len` bytes of `out` as a datagram, if there is an answer.
pub fn answer(len: Option<usize>, out: &[u8]) {
    if let Some(answer) = len.and_then(|len| out.get(..len)) {
        Line::frame(FrameType::Configuration, answer, uart::send);
    }
}

/// For ever.
pub fn stop() -> ! {
    loop {
        registers::sleep_until(|| false);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    stop()
}
