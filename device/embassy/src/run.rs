//! From hardware to a device that serves its UART.

use core::{cell::RefCell, future::poll_fn, task::Poll};

use cbor_schemas::report;
use device::{
    Board, Config, DATAGRAM_LEN, Device, Memory, Server,
    store::{FaultReason, Layout},
    transport::serial::Serial,
    transport::{Datagrams as _, LogLine, Service, Source, serve},
};
use embassy_futures::select::select3;
use embassy_time::{Duration, Instant, Timer};
use embedded_hal::digital::InputPin;
use embedded_io_async::{Read, Write};
use embedded_storage::nor_flash::NorFlash;
use rand_core::CryptoRngCore;
use static_cell::StaticCell;

use crate::{button, console};

/// Answers kept for requests that come again. There is one host at the cable, and it waits for each answer.
pub const CACHED_ANSWERS: usize = 1;

/// A buffer for sending that never is too small, in bytes: the longest frame (a datagram, its type and checksum, all of
/// it escaped, between two delimiters) and 64 of the frame before.
pub const SEND_LEN: usize = 2 * (DATAGRAM_LEN + 3) + 2 + 64;

/// What the server remembers, about peers with addresses of type `A`.
pub type ServerMemory<A> = Memory<A, CACHED_ANSWERS>;
/// The device behind its CoAP server.
pub type DeviceServer<A, F, R, B> = Server<&'static mut ServerMemory<A>, F, R, B>;
/// The same, for all that run on one executor.
pub type SharedServer<A, F, R, B> = RefCell<DeviceServer<A, F, R, B>>;

/// The place of a device: a static of the firmware, in which the device is made, opened and served. It is too large to be
/// moved about, and futures hold references to it.
pub struct Place<A: 'static, F: 'static, R: 'static, B: 'static> {
    memory: StaticCell<ServerMemory<A>>,
    server: StaticCell<SharedServer<A, F, R, B>>,
}

impl<A: Source, F: NorFlash, R: CryptoRngCore, B: Board> Place<A, F, R, B> {
    /// A place for one device.
    pub const fn new() -> Self {
        Place { memory: StaticCell::new(), server: StaticCell::new() }
    }

    /// Starts the device, and reports it on the console. `flash` is NOR flash whose operations block; what writes the image
    /// must not touch what is in `layout`. `rng` is a real source of random numbers. `None` where the layout does not fit the
    /// flash, and the second time.
    // Not inlined: what it takes on the stack is given back before the first datagram comes.
    #[inline(never)]
    pub fn start(
        &'static self,
        config: Config,
        board: B,
        flash: F,
        layout: Layout,
        rng: R,
    ) -> Option<&'static SharedServer<A, F, R, B>> {
        let server = self.fill(config, board, flash, layout, rng)?;
        let fault = server.try_borrow_mut().ok()?.open().ok()?;
        report(server.try_borrow().ok()?.device(), fault);
        Some(server)
    }

    /// Not inlined: device and memory come into being on the stack, where the compiler does not see better.
    #[inline(never)]
    fn fill(
        &'static self,
        config: Config,
        board: B,
        flash: F,
        layout: Layout,
        rng: R,
    ) -> Option<&'static SharedServer<A, F, R, B>> {
        let memory = self.memory.try_uninit()?.write(Memory::new());
        let place = self.server.try_uninit()?;
        Some(place.write(RefCell::new(Server::new(Device::new(config, flash, layout, board, rng), memory))))
    }
}

impl<A: Source, F: NorFlash, R: CryptoRngCore, B: Board> Default for Place<A, F, R, B> {
    fn default() -> Self {
        Self::new()
    }
}

#[inline(never)]
fn report<F: NorFlash, R: CryptoRngCore, B: Board>(device: &Device<F, R, B>, fault: Option<FaultReason>) {
    let info = device.info();
    let (level, condition, reason) = match fault {
        None => ("INFO ", ": started", ""),
        Some(reason) => ("ERROR ", ": storage fault: ", reason.as_str()),
    };
    console::print(&[level, info.device.as_str(), " ", info.firmware, condition, reason]);
    let mut line = LogLine::new();
    if report::write(&info, &mut line).is_ok() {
        console::print_line(&line);
    }
}

/// The commissionable device on one UART, for ever. `button` is held down by somebody who is at the device; pressed is high.
/// [`NoButton`](button::NoButton) if there is none.
pub async fn run<F, R, P, N, B>(server: &SharedServer<(), F, R, B>, port: P, button: N)
where
    F: NorFlash,
    R: CryptoRngCore,
    P: Read + Write,
    N: InputPin,
    B: Board,
{
    let mut serial = Serial::new(port, ());
    let serving = async {
        loop {
            // A UART reports noise and lost bytes as errors, and goes on.
            let _ = serve(server, &mut serial, now_ms, console::next_line).await;
            Timer::after(Duration::from_millis(1)).await;
        }
    };
    select3(serving, prepare(server), button::run(button, server)).await;
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
pub async fn refuse<P: Read + Write>(port: P, why: &str) -> ! {
    let mut serial = Serial::new(port, ());
    loop {
        console::print(&["ERROR not started: ", why]);
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
            start = const $layout.half_a.start,
            end = const $layout.list.end,
        );
    };
}

/// Milliseconds since the start.
pub fn now_ms() -> u64 {
    Instant::now().as_millis()
}
