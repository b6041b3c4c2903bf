//! What the firmware of every board shares. A board file brings a [`Hardware`] and [`run`]s it:
//!
//! - a UART, 115200 8N1, interrupt-driven, as embedded-io-async; or a USB device controller, as embassy-usb-driver
//!   ([`run_usb`]);
//! - NOR flash whose operations block, and where in it the storage begins;
//! - a real source of random numbers, a unique number, an LED, and a button if there is one.
//!
//! All that anybody prints through the [`log`] facade travels as slipmux diagnostic frames on the same serial line, the
//! report line first.
#![no_std]
#![deny(unsafe_code)]
#![deny(clippy::arithmetic_side_effects)]

mod button;
pub mod console;
mod led;
mod panic;
mod usb;

use core::{cell::RefCell, fmt, fmt::Write as _};

use cbor_schemas::{ClaimPolicy, DeviceId, report};
use device::{
    DATAGRAM_LEN,
    device::{Config, Device},
    server::{Memory, Server},
    store::Layout,
    transport::{Link as _, Source, serial::Serial, serve},
};
use embassy_futures::join::join3;
use embassy_time::{Duration, Instant, Timer};
use embedded_hal::digital::{InputPin, OutputPin};
use embedded_io_async::{Read, Write};
use embedded_storage::nor_flash::NorFlash;
use rand_core::CryptoRngCore;

pub use button::NoButton;
pub use led::Led;
pub use usb::run_usb;

/// The Private Enterprise Number in device IDs: 32473 is for documentation (RFC 5612). Whoever ships a product puts the
/// one of their organisation here.
pub const PEN: u32 = 32473;

/// Answers kept for requests that come again. There is one host at the cable, and it waits for each answer.
pub const CACHED_ANSWERS: usize = 1;

/// A buffer for sending that never is too small, in bytes: the longest frame (a datagram, its type and checksum, all of
/// it escaped, between two delimiters) and 64 of the frame before.
pub const SEND_LEN: usize = 2 * (DATAGRAM_LEN + 3) + 2 + 64;

/// What a board brings.
pub struct Hardware<F, R, P, L, N> {
    /// The device ID, made from a unique number by [`device_id`].
    pub device: DeviceId,
    /// NOR flash with words of 4 to 32 bytes.
    pub flash: F,
    /// Where the storage is: see `docs/hardware.md` for what a reflash must not touch.
    pub layout: Layout,
    /// A real source of random numbers.
    pub rng: R,
    /// The UART, or the USB device controller.
    pub port: P,
    /// Blinks when the device is to be identified; on is high.
    pub led: L,
    /// Held down by somebody who is at the device; pressed is high. [`NoButton`] if there is none.
    pub button: N,
    /// Milliseconds that one P-256 operation takes, for the host's patience.
    pub operation_ms: u32,
}

/// The device ID `urn:dev:ops:<PEN>-<product>-<uid>`: `uid` in lower-case hexadecimal. `None` if that is longer than 48
/// characters.
pub fn device_id(product: &str, uid: &[u8]) -> Option<DeviceId> {
    let mut urn = heapless::String::<{ DeviceId::MAX_TEXT_LEN }>::new();
    write!(urn, "urn:dev:ops:{PEN}-{product}-").ok()?;
    for byte in uid {
        write!(urn, "{byte:02x}").ok()?;
    }
    urn.parse().ok()
}

/// What the server remembers, about peers with addresses of type `A`: in a static, since it is too large to be moved
/// about. [`memory`](crate::memory!) makes one.
pub type ServerMemory<A> = Memory<A, CACHED_ANSWERS>;
/// The device behind its CoAP server.
pub type DeviceServer<A, F, R> = Server<&'static mut ServerMemory<A>, F, R, Led>;

/// Who may claim a device of this firmware: whoever comes first, and once a factory was there, whoever has its voucher.
pub const CLAIM_POLICY: ClaimPolicy = ClaimPolicy::Open;
/// Whether whoever holds the button down may empty the owner slot.
pub const RESET_BY_PRESENCE: bool = false;

/// What the firmware here decides; the device's key is made on it. `firmware` is its name and version, at most 32 bytes.
pub const fn config(device: DeviceId, firmware: &'static str, operation_ms: u32) -> Config {
    let (claim_policy, reset_by_presence) = (CLAIM_POLICY, RESET_BY_PRESENCE);
    Config { device, firmware, claim_policy, reset_by_presence, operation_ms, takes_keys: false }
}

/// Starts the device, and reports it on the console.
///
/// # Errors
/// The layout does not fit the flash.
// Not inlined: what it takes on the stack is given back before the first datagram comes.
#[inline(never)]
pub fn start<A: Source, F: NorFlash, R: CryptoRngCore>(
    config: Config,
    flash: F,
    layout: Layout,
    rng: R,
    memory: &'static mut ServerMemory<A>,
) -> Option<DeviceServer<A, F, R>> {
    console::start();
    let device = Device::start(config, flash, layout, Led, rng).ok()?;
    let info = device.info();
    log::info!(
        "{} {}: {}",
        info.device,
        info.firmware,
        if info.credential.is_some() { "started" } else { "storage fault" }
    );
    console::print(|line| report::write(&info, line).map_err(|_| core::fmt::Error));
    Some(Server::new(device, memory))
}

/// A [`ServerMemory`] for peers with addresses of this type, in a static; `None` the second time.
#[macro_export]
macro_rules! memory {
    ($address:ty) => {{
        // Not inlined: it comes into being on the stack.
        #[inline(never)]
        fn memory() -> Option<&'static mut $crate::ServerMemory<$address>> {
            static MEMORY: static_cell::StaticCell<$crate::ServerMemory<$address>> = static_cell::StaticCell::new();
            MEMORY.try_uninit().map(|place| place.write($crate::ServerMemory::new()))
        }
        memory()
    }};
}

/// The commissionable device on one UART, for ever.
pub async fn run<F, R, P, L, N>(hardware: Hardware<F, R, P, L, N>, firmware: &'static str)
where
    F: NorFlash,
    R: CryptoRngCore,
    P: Read + Write,
    L: OutputPin,
    N: InputPin,
{
    let Hardware { device, flash, layout, rng, port, led, button, operation_ms } = hardware;
    let Some(memory) = memory!(()) else { return };
    // A layout is a constant of the board, so whoever tries the board sees that it does not fit.
    let Some(server) = start(config(device, firmware, operation_ms), flash, layout, rng, memory) else { return };
    let server = RefCell::new(server);
    let mut serial = Serial::new(port, ());
    let serving = async {
        loop {
            // A UART reports noise and lost bytes as errors, and goes on.
            let _ = serve(&server, &mut serial, now_ms, console::next_line).await;
            Timer::after(Duration::from_millis(1)).await;
        }
    };
    join3(serving, led::run(led), button::run(button, &server)).await;
}

/// Says on the console, over and over, why this board must not be a device.
pub async fn refuse<P: Read + Write>(port: P, why: impl fmt::Display) -> ! {
    let mut serial = Serial::new(port, ());
    console::start();
    loop {
        log::error!("not started: {why}");
        let _ = serial.log(&console::next_line().await).await;
        Timer::after(Duration::from_secs(5)).await;
    }
}

/// Gives the linker the ends of a [`Layout`], as `_layout_start` and `_layout_end`: the board's `memory.x` compares them
/// with what it keeps free of the image.
#[macro_export]
macro_rules! link_layout {
    ($layout:expr) => {
        core::arch::global_asm!(
            ".global _layout_start",
            ".global _layout_end",
            ".set _layout_start, {start}",
            ".set _layout_end, {end}",
            start = const $layout.keys.start,
            end = const $layout.values.end,
        );
    };
}

/// Milliseconds since the start.
pub fn now_ms() -> u64 {
    Instant::now().as_millis()
}
