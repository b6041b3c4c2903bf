//! The serial function: bytes of slipmux in USB's packets.

use core::{cell::Cell, convert::Infallible, ops::Range};

use embassy_futures::{
    select::{Either, select},
    yield_now,
};
use embassy_sync::{blocking_mutex::raw::NoopRawMutex, signal::Signal};
use embassy_usb::{
    class::cdc_acm::{ControlChanged, Receiver, Sender},
    driver::Driver,
};
use embedded_io_async::{ErrorType, Read, Write};

use super::Counters;
use crate::transport::{LogLine, serial::Serial};

/// Whether a program on the host has the port open: it raises DTR then (CDC PSTN 1.2, section 6.3.12), as Linux, Windows
/// and macOS do of themselves.
pub(super) struct Terminal {
    is_open: Cell<bool>,
    opened: Signal<NoopRawMutex, ()>,
    closed: Signal<NoopRawMutex, ()>,
}

impl Terminal {
    pub(super) const fn new() -> Self {
        Terminal { is_open: Cell::new(false), opened: Signal::new(), closed: Signal::new() }
    }

    /// Follows DTR, for ever.
    pub(super) async fn follow(&self, changes: ControlChanged<'_>) {
        loop {
            self.set(changes.dtr());
            changes.control_changed().await;
        }
    }

    /// The next line to be said: `greeting` to a program that has just opened the port, else one of the log.
    pub(super) async fn greet_or(
        &self,
        greeting: &impl Fn() -> LogLine,
        next_log_line: &mut impl AsyncFnMut() -> LogLine,
    ) -> LogLine {
        match select(self.opened.wait(), next_log_line()).await {
            Either::First(()) => greeting(),
            Either::Second(line) => line,
        }
    }

    fn set(&self, open: bool) {
        match (self.is_open.replace(open), open) {
            (false, true) => {
                self.closed.reset();
                self.opened.signal(());
            }
            (true, false) => self.closed.signal(()),
            _ => {}
        }
    }
}

/// The port, as slipmux wants it: it never fails. While the host is away, or has it closed, reading waits and writing
/// drops.
pub(super) struct AcmLine<'t, P, const PACKET: usize> {
    port: P,
    terminal: &'t Terminal,
    counters: &'t Counters,
    packet: [u8; PACKET],
    unread: Range<usize>,
    /// Whether the last packet was full: the host takes it for a part of a longer transfer, and waits for the rest.
    was_full: bool,
}

/// Packets to and from the host; the real one, or one for tests.
pub(super) trait Packets {
    /// Reads one into `packet`, which has room for any. Fails where the host went away.
    async fn read(&mut self, packet: &mut [u8]) -> Result<usize, Gone>;
    /// Waits until the host is there.
    async fn wait(&mut self);
    /// Writes one. Fails where the host went away.
    async fn write(&mut self, packet: &[u8]) -> Result<(), Gone>;
}

/// The host went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// The two directions of the CDC-ACM class.
pub(super) struct Endpoints<'d, D: Driver<'d>> {
    sender: Sender<'d, D>,
    receiver: Receiver<'d, D>,
}

impl<'d, D: Driver<'d>> Packets for Endpoints<'d, D> {
    async fn read(&mut self, packet: &mut [u8]) -> Result<usize, Gone> {
        self.receiver.read_packet(packet).await.map_err(|_| Gone)
    }

    async fn wait(&mut self) {
        self.receiver.wait_connection().await;
    }

    async fn write(&mut self, packet: &[u8]) -> Result<(), Gone> {
        self.sender.write_packet(packet).await.map_err(|_| Gone)
    }
}

impl<'t, 'd, D: Driver<'d>, const PACKET: usize> AcmLine<'t, Endpoints<'d, D>, PACKET> {
    pub(super) fn new(
        sender: Sender<'d, D>,
        receiver: Receiver<'d, D>,
        terminal: &'t Terminal,
        counters: &'t Counters,
    ) -> Self {
        Self::over(Endpoints { sender, receiver }, terminal, counters)
    }
}

impl<'t, P: Packets, const PACKET: usize> AcmLine<'t, P, PACKET> {
    fn over(port: P, terminal: &'t Terminal, counters: &'t Counters) -> Self {
        AcmLine { port, terminal, counters, packet: [0; PACKET], unread: 0..0, was_full: false }
    }

    pub(super) fn into_link<A: Copy>(self, address: A) -> Serial<Self, A> {
        Serial::new(self, address)
    }

    /// Writes a packet, or drops it where nobody reads.
    async fn write_packet(&mut self, packet: &[u8]) {
        self.was_full = false;
        if self.terminal.is_open.get() {
            match select(self.port.write(packet), self.terminal.closed.wait()).await {
                Either::First(Ok(())) => {
                    self.was_full = packet.len() == PACKET;
                    return;
                }
                Either::First(Err(Gone)) | Either::Second(()) => {}
            }
        }
        Counters::count(&self.counters.unread);
    }
}

impl<P, const PACKET: usize> ErrorType for AcmLine<'_, P, PACKET> {
    type Error = Infallible;
}

impl<P: Packets, const PACKET: usize> Read for AcmLine<'_, P, PACKET> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        while self.unread.is_empty() {
            self.port.wait().await;
            match self.port.read(&mut self.packet).await {
                Ok(len) => self.unread = 0..len,
                // Not without a pause: an executor has other things to do.
                Err(Gone) => yield_now().await,
            }
        }
        let unread = self.packet.get(self.unread.clone()).unwrap_or_default();
        let len = unread.len().min(buf.len());
        for (place, byte) in buf.iter_mut().zip(unread) {
            *place = *byte;
        }
        self.unread.start = self.unread.start.saturating_add(len);
        Ok(len)
    }
}

impl<P: Packets, const PACKET: usize> Write for AcmLine<'_, P, PACKET> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, Infallible> {
        let packet = buf.get(..PACKET).unwrap_or(buf);
        self.write_packet(packet).await;
        Ok(packet.len())
    }

    /// Ends the transfer (USB 2.0, section 5.8.3).
    async fn flush(&mut self) -> Result<(), Infallible> {
        if self.was_full {
            self.write_packet(&[]).await;
        }
        Ok(())
    }
}
