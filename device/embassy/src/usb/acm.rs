//! The serial function: bytes of slipmux in USB's packets.

use core::{cell::Cell, convert::Infallible, fmt::Write as _, ops::Range};

use device::{transport::LogLine, transport::serial::Serial};
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

use super::{counted::Counted, counters::Counters};

/// Whether a program on the host has the port open: it raises DTR then (CDC PSTN 1.2, section 6.3.12), as Linux, Windows
/// and macOS do of themselves.
pub(super) struct Terminal<'d> {
    counters: &'d Counters,
    is_open: Cell<bool>,
    /// Whether the program that has it open is still to be told what was dropped.
    owes_account: Cell<bool>,
    opened: Signal<NoopRawMutex, ()>,
    closed: Signal<NoopRawMutex, ()>,
}

impl<'d> Terminal<'d> {
    pub(super) const fn new(counters: &'d Counters) -> Self {
        Terminal {
            counters,
            is_open: Cell::new(false),
            owes_account: Cell::new(false),
            opened: Signal::new(),
            closed: Signal::new(),
        }
    }

    /// Follows DTR, for ever.
    pub(super) async fn follow(&self, changes: ControlChanged<'_>) {
        loop {
            self.set(changes.dtr());
            changes.control_changed().await;
        }
    }

    /// The next line to be said: `greeting` to a program that has just opened the port, then what was dropped, else one
    /// of the log.
    pub(super) async fn greet_or(
        &self,
        greeting: &impl Fn() -> LogLine,
        next_log_line: &mut impl AsyncFnMut() -> LogLine,
    ) -> LogLine {
        let mut account = LogLine::new();
        // All six at their largest fit.
        if self.owes_account.take() && write!(account, "{}", self.counters).is_ok() && !account.is_empty() {
            return account;
        }
        match select(self.opened.wait(), next_log_line()).await {
            Either::First(()) => {
                self.owes_account.set(true);
                greeting()
            }
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
    terminal: &'t Terminal<'t>,
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
    sender: Sender<'d, Counted<'d, D>>,
    receiver: Receiver<'d, Counted<'d, D>>,
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
        sender: Sender<'d, Counted<'d, D>>,
        receiver: Receiver<'d, Counted<'d, D>>,
        terminal: &'t Terminal<'t>,
    ) -> Self {
        Self::over(Endpoints { sender, receiver }, terminal)
    }
}

impl<'t, P: Packets, const PACKET: usize> AcmLine<'t, P, PACKET> {
    fn over(port: P, terminal: &'t Terminal<'t>) -> Self {
        AcmLine { port, terminal, packet: [0; PACKET], unread: 0..0, was_full: false }
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
        Counters::count(&self.terminal.counters.unread);
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

#[cfg(test)]
mod tests {
    use core::cell::RefCell;
    use std::{collections::VecDeque, future::poll_fn, task::Poll};

    use device::transport::Datagrams as _;
    use embassy_futures::{block_on, join::join};

    use super::*;

    const PACKET: usize = 8;

    /// A host: what it sends, and what it got. [`Gone`] among the packets is the moment when it goes away.
    #[derive(Default)]
    struct Host {
        sends: RefCell<VecDeque<Result<Vec<u8>, Gone>>>,
        got: RefCell<Vec<Vec<u8>>>,
        /// It has the port open, and does not read.
        is_stuck: Cell<bool>,
    }

    impl Packets for &Host {
        async fn read(&mut self, packet: &mut [u8]) -> Result<usize, Gone> {
            let sent = poll_fn(|_| match self.sends.borrow_mut().pop_front() {
                Some(sent) => Poll::Ready(sent),
                None => Poll::Pending,
            })
            .await?;
            packet[..sent.len()].copy_from_slice(&sent);
            Ok(sent.len())
        }

        async fn wait(&mut self) {}

        async fn write(&mut self, packet: &[u8]) -> Result<(), Gone> {
            poll_fn(|_| if self.is_stuck.get() { Poll::Pending } else { Poll::Ready(()) }).await;
            self.got.borrow_mut().push(packet.to_vec());
            Ok(())
        }
    }

    fn line<'t>(host: &'t Host, terminal: &'t Terminal<'t>) -> AcmLine<'t, &'t Host, PACKET> {
        AcmLine::over(host, terminal)
    }

    /// A port that a program has open, if it is to be.
    fn terminal(counters: &Counters, open: bool) -> Terminal<'_> {
        let terminal = Terminal::new(counters);
        terminal.set(open);
        terminal
    }

    /// A frame as [`Serial`] reads it: slipmux of three bytes and their checksum.
    const FRAME: [u8; 9] = [0xc0, 0xa9, 0x40, 0x01, 0x00, 0x00, 0xbc, 0x38, 0xc0];

    #[test]
    fn an_empty_packet_follows_a_full_one() {
        let (host, counters) = (Host::default(), Counters::default());
        let terminal = terminal(&counters, true);
        let mut line = line(&host, &terminal);
        for (len, packets) in
            [(0, vec![]), (1, vec![1]), (7, vec![7]), (8, vec![8, 0]), (9, vec![8, 1]), (16, vec![8, 8, 0])]
        {
            let bytes = vec![7; len];
            block_on(async {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let Ok(written) = line.write(rest).await;
                    rest = &rest[written..];
                }
                let Ok(()) = line.flush().await;
                // Once is enough.
                let Ok(()) = line.flush().await;
            });
            assert_eq!(host.got.take().iter().map(Vec::len).collect::<Vec<_>>(), packets, "{len} bytes");
        }
    }

    #[test]
    fn nothing_waits_for_a_port_that_is_closed() {
        let (host, counters) = (Host::default(), Counters::default());
        let terminal = terminal(&counters, false);
        let mut line = line(&host, &terminal);
        for _ in 0..3 {
            assert_eq!(block_on(line.write(b"nobody reads this")), Ok(PACKET));
        }
        assert!(host.got.borrow().is_empty());
        assert_eq!(counters.unread.get(), 3);
        terminal.set(true);
        let _ = block_on(line.write(b"now"));
        assert_eq!(host.got.take(), [b"now"]);
    }

    #[test]
    fn a_program_that_closes_the_port_ends_the_wait_for_it() {
        let (host, counters) = (Host::default(), Counters::default());
        let terminal = terminal(&counters, true);
        let mut line = line(&host, &terminal);
        host.is_stuck.set(true);
        let (written, ()) = block_on(join(line.write(b"stuck"), async { terminal.set(false) }));
        assert_eq!((written, counters.unread.get()), (Ok(5), 1));
        // Once more, while nothing waited: that is over when it is open again.
        for open in [true, false, true] {
            terminal.set(open);
        }
        let _ = block_on(join(line.write(b"again"), async { host.is_stuck.set(false) }));
        assert_eq!(host.got.take(), [b"again"]);
    }

    /// Whoever opens the port is greeted, each time, and before the log goes on.
    #[test]
    fn whoever_opens_the_port_is_greeted() {
        let counters = Counters::default();
        let terminal = terminal(&counters, false);
        let text = |text: &str| LogLine::try_from(text).unwrap();
        let next = || block_on(terminal.greet_or(&|| text("hello"), &mut async || text("log")));
        assert_eq!(next(), "log");
        terminal.set(true);
        assert_eq!((next(), next()), (text("hello"), text("log")));
        terminal.set(true);
        assert_eq!(next(), "log", "it was open");
        terminal.set(false);
        terminal.set(true);
        counters.unread.set(2);
        counters.long_frames.set(1);
        assert_eq!([next(), next(), next()], ["hello", "dropped: 1 long frames, 2 unread lines", "log"]);
    }

    #[test]
    fn an_account_of_all_that_was_dropped_fits_into_a_line() {
        let most = || Cell::new(u32::MAX);
        let counters = Counters {
            refused_requests: most(),
            malformed_transfers: most(),
            broken_transfers: most(),
            long_frames: most(),
            foreign_frames: most(),
            unread: most(),
        };
        Counters::count(&counters.unread);
        let line = LogLine::try_from(counters.to_string().as_str()).expect("it fits");
        assert_eq!(line.matches("4294967295").count(), 6);
    }

    #[test]
    fn bytes_are_read_as_they_come_and_a_host_that_goes_is_waited_for() {
        let (host, counters) = (Host::default(), Counters::default());
        let terminal = terminal(&counters, true);
        let mut line = line(&host, &terminal);
        host.sends.borrow_mut().extend([Ok(b"abcdefgh".to_vec()), Ok(vec![]), Err(Gone), Err(Gone), Ok(b"i".to_vec())]);
        let mut bytes = Vec::<u8>::new();
        while bytes.len() < 9 {
            let mut some = [0; 3];
            let Ok(read) = block_on(line.read(&mut some));
            assert!(read > 0);
            bytes.extend(&some[..read]);
        }
        assert_eq!(bytes, b"abcdefghi");
    }

    /// A cable that is pulled in the middle of a frame costs that frame, and not the next one.
    #[test]
    fn half_a_frame_is_not_glued_to_the_next_one() {
        for cut in 1..FRAME.len() {
            let (host, counters) = (Host::default(), Counters::default());
            let terminal = terminal(&counters, true);
            let mut packets: Vec<_> = FRAME[..cut].chunks(PACKET).map(|packet| Ok(packet.to_vec())).collect();
            packets.push(Err(Gone));
            packets.extend(FRAME.chunks(PACKET).map(|packet| Ok(packet.to_vec())));
            host.sends.borrow_mut().extend(packets);
            let mut link = line(&host, &terminal).into_link(());
            let (datagram, ()) = block_on(link.receive()).unwrap();
            assert_eq!(*datagram, FRAME[2..6], "after {cut} bytes");
        }
    }
}
