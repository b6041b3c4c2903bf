//! What the firmware of every board shares: what it decides as a product, a light at `/led`, and the way to start over
//! after a panic. All else is in [`device_embassy`], for firmware of any product. A board file has a
//! [`Place`], starts the device there with its flash and random numbers, and [`run`]s it on its port, or [`run_usb`]s it.
//!
//! What is printed travels as slipmux diagnostic frames on the serial line, the report line first. With the feature `log` that
//! is also what anybody prints through the facade of that name.
#![no_std]
#![deny(unsafe_code)]
#![deny(clippy::arithmetic_side_effects)]

mod panic;

use cbor_schemas::{ClaimPolicy, DeviceId};
use device::{Config, Decimal};
use device_embassy::led;
#[cfg(feature = "log")]
use device_embassy::logger;
use embassy_futures::select::select;
#[cfg(feature = "usb")]
use embassy_usb_driver::Driver;
use embedded_hal::digital::{InputPin, OutputPin};
use embedded_io_async::{Read, Write};
use embedded_storage::nor_flash::NorFlash;
use rand_core::CryptoRngCore;

#[cfg(feature = "usb")]
pub use device_embassy::usb::Address;
pub use device_embassy::{
    SEND_LEN, SharedServer, button::NoButton, console, led::Led, link_layout, now_ms, prepare, refuse,
};

/// The place of a device whose peers have addresses of type `A`: a static of the board file.
pub type Place<A, F, R> = device_embassy::Place<A, F, R, Led>;

/// The Private Enterprise Number in device IDs: 32473 is for documentation (RFC 5612). Whoever ships a product puts the
/// one of their organisation here.
pub const PEN: u32 = 32473;

/// Who may claim a device of this firmware: whoever comes first, and once a factory was there, whoever has its voucher.
pub const CLAIM_POLICY: ClaimPolicy = ClaimPolicy::Open;
/// Whether whoever holds the button down may empty the owner slot.
pub const RESET_BY_PRESENCE: bool = false;

/// The device ID `urn:dev:ops:<PEN>-<product>-<uid>`: `uid` in lower-case hexadecimal. `None` if that is longer than 48
/// characters.
pub fn device_id(product: &str, uid: &[u8]) -> Option<DeviceId> {
    let mut urn = heapless::String::<{ DeviceId::MAX_TEXT_LEN }>::new();
    for piece in ["urn:dev:ops:", Decimal::new(PEN).as_str(), "-", product, "-"] {
        urn.push_str(piece).ok()?;
    }
    for digit in uid.iter().flat_map(|byte| [byte >> 4, byte & 0xf]) {
        urn.push(char::from_digit(digit.into(), 16)?).ok()?;
    }
    urn.parse().ok()
}

/// What the firmware here decides; the device's key is made on it. `firmware` is its name and version, at most 32 bytes,
/// and `operation_ms` the milliseconds that one P-256 operation takes, for the host's patience.
pub const fn config(device: DeviceId, firmware: &'static str, operation_ms: u32) -> Config {
    let (claim_policy, reset_by_presence) = (CLAIM_POLICY, RESET_BY_PRESENCE);
    Config { device, firmware, claim_policy, reset_by_presence, operation_ms, takes_keys: false }
}

/// The commissionable device on one UART, for ever; on is high for the LED.
// Not an async function, whose future would hold all of it twice.
pub fn run<F, R, P, N>(
    server: &'static SharedServer<(), F, R, Led>,
    port: P,
    button: N,
    led: impl OutputPin,
) -> impl Future
where
    F: NorFlash,
    R: CryptoRngCore,
    P: Read + Write,
    N: InputPin,
{
    #[cfg(feature = "log")]
    start_log();
    select(device_embassy::run(server, port, button), led::run(led))
}

/// The commissionable device on a USB cable, for ever. `product` is what a host shows of it, at most 31 characters.
#[cfg(feature = "usb")]
pub fn run_usb<F, R, D, N>(
    server: &'static SharedServer<Address, F, R, Led>,
    port: D,
    button: N,
    led: impl OutputPin,
    product: &'static str,
) -> impl Future
where
    F: NorFlash,
    R: CryptoRngCore,
    D: Driver<'static>,
    N: InputPin,
{
    #[cfg(feature = "log")]
    start_log();
    select(device_embassy::run_usb(server, port, button, "Commissioning", product), led::run(led))
}

/// Sends what the [`log`] facade is given, levels *info* and above, to the console. Once is enough.
#[cfg(all(feature = "log", target_has_atomic = "ptr"))]
pub fn start_log() {
    logger::start();
}

/// The same, for processors without atomic compare and swap.
#[cfg(all(feature = "log", not(target_has_atomic = "ptr")))]
#[allow(unsafe_code, reason = "the facade has no other way for them")]
pub fn start_log() {
    cortex_m::interrupt::free(|_| {
        // SAFETY: nothing else can run here and set a logger, on one core without interrupts.
        let _ = unsafe { log::set_logger_racy(&logger::LOGGER) };
        // SAFETY: the same.
        unsafe { log::set_max_level_racy(log::LevelFilter::Info) };
    });
}
