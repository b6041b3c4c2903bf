//! From hardware to a device that serves its UART.

use core::{
    cell::RefCell,
    fmt::{self, Write as _},
    future::poll_fn,
    task::Poll,
};

use cbor_schemas::report;
use device::{
    Board, Config, DATAGRAM_LEN, Device, Memory, Server,
    store::{Layout, LayoutError},
    transport::serial::Serial,
    transport::{Datagrams as _, Service, Source, serve},
};
use embassy_futures::select::select3;
use embassy_time::{Duration, Instant, Timer};
use embedded_hal::digital::InputPin;
use embedded_io_async::{Read, Write};
use embedded_storage::nor_flash::NorFlash;
use rand_core::CryptoRngCore;

use crate::{button, console};

/// Answers kept for requests that come again. There is one host at the cable, and it waits for each answer.
pub const CACHED_ANSWERS: usize = 1;

/// A buffer for sending that never is too small, in bytes: the longest frame (a datagram, its type and checksum, all of
/// it escaped, between two delimiters) and 64 of the frame before.
pub const SEND_LEN: usize = 2 * (DATAGRAM_LEN + 3) + 2 + 64;

/// What a board brings.
pub struct Hardware<F, R, P, N> {
    /// NOR flash with words of 4 to 32 bytes, whose operations block.
    pub flash: F,
    /// Where in the flash the storage is. What writes the image must not touch it.
    pub layout: Layout,
    /// A real source of random numbers.
    pub rng: R,
    /// The UART, interrupt-driven; or the USB device controller.
    pub port: P,
    /// Held down by somebody who is at the device; pressed is high. [`NoButton`](button::NoButton) if there is none.
    pub button: N,
}

/// What the server remembers, about peers with addresses of type `A`: in a static, since it is too large to be moved
/// about. [`memory`](crate::memory!) makes one.
pub type ServerMemory<A> = Memory<A, CACHED_ANSWERS>;
/// The device behind its CoAP server.
pub type DeviceServer<A, F, R, B> = Server<&'static mut ServerMemory<A>, F, R, B>;

/// Starts the device, and reports it on the console.
///
/// # Errors
/// The layout does not fit the flash.
// Not inlined: what it takes on the stack is given back before the first datagram comes.
#[inline(never)]
pub fn start<A: Source, F: NorFlash, R: CryptoRngCore, B: Board>(
    config: Config,
    board: B,
    flash: F,
    layout: Layout,
    rng: R,
    memory: &'static mut ServerMemory<A>,
) -> Result<DeviceServer<A, F, R, B>, LayoutError> {
    let device = Device::start(config, flash, layout, board, rng)?;
    let info = device.info();
    let condition = if info.credential.is_some() { "started" } else { "storage fault" };
    console::print(|line| write!(line, "INFO {} {}: {condition}", info.device, info.firmware));
    console::print(|line| report::write(&info, line).map_err(|_| fmt::Error));
    Ok(Server::new(device, memory))
}

/// A [`ServerMemory`] for peers with addresses of this type, in a static; `None` the second time.
#[macro_export]
macro_rules! memory {
    ($address:ty) => {{
        // Not inlined: it comes into being on the stack.
        #[inline(never)]
        fn memory() -> Option<&'static mut $crate::ServerMemory<$address>> {
            static MEMORY: $crate::static_cell::StaticCell<$crate::ServerMemory<$address>> =
                $crate::static_cell::StaticCell::new();
            MEMORY.try_uninit().map(|place| place.write($crate::ServerMemory::new()))
        }
        memory()
    }};
}

/// The commissionable device on one UART, for ever. It ends where `layout` does not fit the flash, and the second time.
pub async fn run<F, R, P, N, B>(config: Config, board: B, hardware: Hardware<F, R, P, N>)
where
    F: NorFlash,
    R: CryptoRngCore,
    P: Read + Write,
    N: InputPin,
    B: Board,
{
    let Hardware { flash, layout, rng, port, button } = hardware;
    let Some(memory) = memory!(()) else { return };
    // A layout is a constant of the board, so whoever tries the board sees that it does not fit.
    let Ok(server) = start(config, board, flash, layout, rng, memory) else { return };
    let server = RefCell::new(server);
    let mut serial = Serial::new(port, ());
    let serving = async {
        loop {
            // A UART reports noise and lost bytes as errors, and goes on.
            let _ = serve(&server, &mut serial, now_ms, console::next_line).await;
            Timer::after(Duration::from_millis(1)).await;
        }
    };
    select3(serving, prepare(&server), button::run(button, &server)).await;
}

/// Lets `service` make ahead what the next handshake would have to wait for, whenever nothing comes for a while; for ever.
///
/// It has to be in the task that serves the links: there it is polled after each datagram, and nothing else wakes it.
pub async fn prepare<A, S: Service<A>>(service: &RefCell<S>) {
    loop {
        let wait = poll_fn(|_| {
            let again = service.try_borrow_mut().ok().and_then(|mut service| service.prepare(now_ms()));
            again.map_or(Poll::Pending, Poll::Ready)
        });
        Timer::after(Duration::from_millis(wait.await)).await;
    }
}

/// Says on the console, over and over, why this board must not be a device.
pub async fn refuse<P: Read + Write>(port: P, why: impl fmt::Display) -> ! {
    let mut serial = Serial::new(port, ());
    loop {
        console::print(|line| write!(line, "ERROR not started: {why}"));
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
