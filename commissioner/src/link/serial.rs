//! Datagrams over a serial line: slipmux (draft-bormann-t2trg-slipmux).
//!
//! Configuration frames carry CoAP and go up. Diagnostic frames are the device's log. Whatever else is on the line,
//! boot messages or noise, is passed over: a frame that does not check out never existed.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use slipmux::{DecodeStatus, Decoder, FrameHandler, FrameType, Slipmux, encode_buffered};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_serial::SerialStream;

use super::diagnostics::MAX_LOG;
use super::fault::Fault;
use super::heard::Heard;
use super::{Datagram, Datagrams, DeviceLog, Error, Io, MAX_DATAGRAM, port};
use crate::text;

/// Bytes of the frame check sequence that ends a configuration frame.
const FCS_LEN: usize = 2;

/// Datagrams that were sent and may still come back, on a line that echoes.
const MOST_ECHOES: usize = 16;

/// Opens a port for ourselves alone, to exchange datagrams.
pub(super) fn open(path: &Path, baud: u32, log: DeviceLog) -> Result<SlipmuxLine<SerialStream>, Error> {
    Ok(SlipmuxLine::new(port::open(path, baud)?, path.display().to_string(), log))
}

/// slipmux over a stream of bytes.
///
/// On some lines, two-wire RS-485 among them, all that is sent comes back to the sender. What comes back is passed over here,
/// once for each time that it was sent, so that nothing above this takes its own words for an answer.
pub(super) struct SlipmuxLine<S> {
    pub(super) stream: S,
    pub(super) port: String,
    log: DeviceLog,
    decoder: Decoder,
    frame: Frame,
    /// Bytes read and not yet decoded: several frames may arrive in one read.
    input: Vec<u8>,
    decoded: usize,
    /// Datagrams that were sent and did not come back, latest last.
    echoes: VecDeque<Vec<u8>>,
    pub(super) heard: Heard,
}

impl<S> SlipmuxLine<S> {
    pub(super) fn new(stream: S, port: String, log: DeviceLog) -> Self {
        Self {
            stream,
            port,
            log,
            decoder: Decoder::new(),
            frame: Frame::default(),
            input: Vec::new(),
            decoded: 0,
            echoes: VecDeque::new(),
            heard: Heard::new(),
        }
    }

    /// The next datagram among the bytes at hand.
    fn decode(&mut self) -> Option<Datagram> {
        while let Some(byte) = self.input.get(self.decoded) {
            self.decoded += 1;
            self.frame.line_bytes += 1;
            match self.decoder.decode(*byte, &mut self.frame) {
                Ok(DecodeStatus::FrameCompleteConfiguration) => match self.frame.datagram() {
                    Some(datagram) if self.is_echo(&datagram.bytes) => {
                        tracing::trace!(port = self.port, "passed over what we had sent");
                    }
                    Some(datagram) => {
                        self.heard.frames += 1;
                        return Some(datagram);
                    }
                    None => tracing::debug!(port = self.port, "dropped a frame of more than {MAX_DATAGRAM} bytes"),
                },
                Ok(DecodeStatus::FrameCompleteDiagnostic) => (self.log)(&self.frame.text()),
                Ok(DecodeStatus::FrameCompleteIp | DecodeStatus::Incomplete) => {}
                Err(error) => {
                    self.heard.frames += u64::from(matches!(error, slipmux::Error::BadFCS));
                    tracing::trace!(port = self.port, ?error, "passed over bytes on the line");
                }
            }
        }
        None
    }

    /// Takes note of what is about to be sent.
    fn expect_echo(&mut self, datagram: &[u8]) {
        if self.echoes.len() == MOST_ECHOES {
            self.echoes.pop_front();
        }
        self.echoes.push_back(datagram.to_vec());
    }

    /// Whether a datagram is one that we sent. What was sent before it will not come any more.
    fn is_echo(&mut self, datagram: &[u8]) -> bool {
        let Some(at) = self.echoes.iter().position(|sent| sent == datagram) else { return false };
        self.echoes.drain(..=at);
        self.heard.own(&frame(datagram));
        true
    }

    fn failed(&self, source: io::Error) -> Error {
        port::failed(&self.port, source)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Datagrams for SlipmuxLine<S> {
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> Io<'a, usize> {
        Box::pin(async move {
            self.expect_echo(datagram);
            let frame = frame(datagram);
            self.stream.write_all(&frame).await.map_err(|error| self.failed(error))?;
            Ok(frame.len())
        })
    }

    fn receive(&mut self) -> Io<'_, Datagram> {
        Box::pin(async move {
            loop {
                if let Some(datagram) = self.decode() {
                    return Ok(datagram);
                }
                self.input.clear();
                self.decoded = 0;
                self.input.reserve(MAX_DATAGRAM);
                let mut room = (&mut self.stream).take(MAX_DATAGRAM as u64);
                match room.read_buf(&mut self.input).await {
                    Ok(0) => return Err(Error::Unplugged { port: self.port.clone() }),
                    Ok(_) => self.heard.push(&self.input),
                    Err(error) => return Err(self.failed(error)),
                }
            }
        })
    }

    fn has_said_anything(&self) -> bool {
        self.heard.anything()
    }

    fn examine(&mut self) -> Io<'_, Option<Fault>> {
        Box::pin(self.examination())
    }
}

/// A datagram as it is on the line.
fn frame(datagram: &[u8]) -> Vec<u8> {
    encode_buffered(Slipmux::Configuration(datagram.to_vec()))
}

/// The frame being received. It keeps what fits, so that a frame without an end costs nothing.
#[derive(Default)]
struct Frame {
    bytes: Vec<u8>,
    overlong: bool,
    line_bytes: usize,
}

impl Frame {
    fn datagram(&self) -> Option<Datagram> {
        let length = self.bytes.len().checked_sub(FCS_LEN)?;
        let bytes = self.bytes.get(..length)?.to_vec();
        (!self.overlong).then_some(Datagram { bytes, line_bytes: self.line_bytes })
    }

    fn text(&self) -> String {
        text::log(self.bytes.get(..MAX_LOG).unwrap_or(&self.bytes))
    }
}

impl FrameHandler for Frame {
    fn begin_frame(&mut self, _: FrameType) {
        self.bytes.clear();
        self.overlong = false;
        self.line_bytes = 2; // the END before the frame, and its type
    }

    fn write_byte(&mut self, byte: u8) {
        match self.bytes.len() < MAX_DATAGRAM + FCS_LEN {
            true => self.bytes.push(byte),
            false => self.overlong = true,
        }
    }

    fn end_frame(&mut self, _: Option<slipmux::Error>) {}
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use slipmux::Constants;
    use tokio::io::{DuplexStream, duplex};

    use super::super::testing::Pty;
    use super::*;

    /// An empty CON message: `c0 a9 40 01 00 00 bc 38 c0` on the line.
    const DATAGRAM: [u8; 4] = [0x40, 0x01, 0, 0];
    const ON_THE_LINE: [u8; 9] = [0xc0, 0xa9, 0x40, 0x01, 0x00, 0x00, 0xbc, 0x38, 0xc0];

    type Log = Arc<Mutex<Vec<String>>>;

    fn line(capacity: usize) -> (SlipmuxLine<DuplexStream>, DuplexStream, Log) {
        let (ours, theirs) = duplex(capacity);
        let log = Log::default();
        let sink = log.clone();
        let log_line: DeviceLog = Box::new(move |text| sink.lock().unwrap().push(text.to_owned()));
        (SlipmuxLine::new(ours, "test".into(), log_line), theirs, log)
    }

    /// Everything that comes up when `bytes` are on the line and the device then goes away.
    async fn received(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<String>) {
        let (mut line, mut device, log) = line(bytes.len().max(1));
        device.write_all(bytes).await.unwrap();
        drop(device);
        let mut datagrams = Vec::new();
        while let Ok(datagram) = line.receive().await {
            datagrams.push(datagram.bytes);
        }
        let log = log.lock().unwrap().clone();
        (datagrams, log)
    }

    fn diagnostic(text: &str) -> Vec<u8> {
        encode_buffered(Slipmux::Diagnostic(text.to_owned()))
    }

    #[tokio::test]
    async fn a_datagram_is_framed() {
        let (mut line, mut device, _) = line(64);
        assert_eq!(line.send(&DATAGRAM).await.unwrap(), ON_THE_LINE.len());
        let mut bytes = [0; 9];
        device.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, ON_THE_LINE);
    }

    #[tokio::test]
    async fn a_frame_is_a_datagram_and_its_bytes_on_the_line_are_counted() {
        let (mut line, mut device, _) = line(64);
        device.write_all(b"noise").await.unwrap();
        device.write_all(&ON_THE_LINE).await.unwrap();
        assert_eq!(line.receive().await.unwrap(), Datagram { bytes: DATAGRAM.to_vec(), line_bytes: 9 });
    }

    #[tokio::test]
    async fn frames_that_arrive_together_are_taken_one_by_one_and_logs_are_told_apart() {
        let bytes = [&ON_THE_LINE[..], &diagnostic("hello\n"), &ON_THE_LINE].concat();
        assert_eq!(received(&bytes).await, (vec![DATAGRAM.to_vec(); 2], vec!["hello".to_owned()]));
    }

    #[tokio::test]
    async fn noise_before_between_and_inside_frames_costs_at_most_the_frame_it_hits() {
        let mut hit = ON_THE_LINE.to_vec();
        hit.insert(4, b'!');
        let mut aborted = ON_THE_LINE.to_vec();
        aborted.insert(8, Constants::ESC);
        let bytes = [b"boot: ok\r\n", &ON_THE_LINE[..], b"\x00\xff\xdb", &hit, &aborted, &[0x45, 1, 2], &ON_THE_LINE];
        assert_eq!(received(&bytes.concat()).await.0, vec![DATAGRAM.to_vec(); 2]);
    }

    #[tokio::test]
    async fn a_frame_without_end_is_not_kept_and_the_next_one_is_heard() {
        let mut endless = vec![0xc0, 0xa9];
        endless.resize(200_000, 0x55);
        let bytes = [&endless, &ON_THE_LINE[..]].concat();
        let (mut line, mut device, _) = line(bytes.len());
        device.write_all(&bytes).await.unwrap();
        assert_eq!(line.receive().await.unwrap().bytes, DATAGRAM);
        assert!(line.frame.bytes.capacity() <= 4 * MAX_DATAGRAM);
    }

    #[tokio::test]
    async fn a_datagram_of_the_largest_size_passes_and_a_longer_one_does_not() {
        let frame = |length| encode_buffered(Slipmux::Configuration(vec![7; length]));
        assert_eq!(received(&frame(MAX_DATAGRAM)).await.0, vec![vec![7; MAX_DATAGRAM]]);
        assert!(received(&frame(MAX_DATAGRAM + 1)).await.0.is_empty());
    }

    #[tokio::test]
    async fn a_log_cannot_move_the_cursor_and_a_long_one_is_cut() {
        let colours = "\x1b[1;32mINFO\x1b[0m \x1b]0;title\x07done\r";
        let bytes = [diagnostic("\x07\x1b[2J\u{9b}1m plain\ttext"), diagnostic(colours), diagnostic(&"x".repeat(5000))];
        let (_, log) = received(&bytes.concat()).await;
        assert_eq!(log[0], "\\u{9b}1m plain\ttext");
        assert_eq!(log[1], "INFO done");
        assert_eq!(log[2].len(), MAX_LOG);
    }

    #[tokio::test]
    async fn what_was_sent_and_comes_back_is_passed_over_once_for_each_time() {
        let other = [0x40, 0, 0, 7];
        let (mut line, mut device, _) = line(1024);
        for datagram in [DATAGRAM, other, DATAGRAM] {
            line.send(&datagram).await.unwrap();
        }
        // The first one was lost on its way back.
        let echoes = [frame(&other), frame(&DATAGRAM), frame(&[0x70, 0, 0, 7])].concat();
        device.write_all(&echoes).await.unwrap();
        assert_eq!(line.receive().await.unwrap().bytes, [0x70, 0, 0, 7]);
        // What is said again after that is no echo.
        device.write_all(&ON_THE_LINE).await.unwrap();
        assert_eq!(line.receive().await.unwrap().bytes, DATAGRAM);
    }

    #[tokio::test]
    async fn a_line_without_echo_keeps_few_of_the_datagrams_that_were_sent() {
        let (mut line, mut device, _) = line(64 * 1024);
        for number in 0..100 {
            line.send(&[0x40, 0, 0, number]).await.unwrap();
        }
        assert_eq!(line.echoes.len(), MOST_ECHOES);
        device.write_all(&frame(&[0x40, 0, 0, 1])).await.unwrap();
        assert_eq!(line.receive().await.unwrap().bytes, [0x40, 0, 0, 1]);
    }

    #[tokio::test]
    async fn a_device_that_goes_away_is_noticed_both_ways() {
        let (mut line, device, _) = line(64);
        drop(device);
        assert!(matches!(line.receive().await, Err(Error::Unplugged { .. })));
        assert!(matches!(line.send(&DATAGRAM).await, Err(Error::Unplugged { .. })));
    }

    #[tokio::test]
    async fn a_pty_is_opened_by_one_program_at_a_time_and_again_after_it() {
        let Pty { device: master, path } = Pty::new();
        let open = || open(&path, 115_200, Box::new(|_| ()));

        let mut first = open().unwrap();
        let Err(Error::InUse { holder: Some(holder), .. }) = open() else { panic!("it is in use, and by us") };
        assert!(holder.to_string().ends_with(&format!("(process {})", std::process::id())), "{holder}");
        first.send(&DATAGRAM).await.unwrap();
        let mut bytes = [0; 32];
        assert_eq!(rustix::io::read(&master, &mut bytes).unwrap(), 9);
        drop(first);
        let mut second = open().unwrap();
        drop(master);
        assert!(matches!(second.receive().await, Err(Error::Unplugged { .. })));
    }

    proptest! {
        /// Whatever the line carries, a whole frame after it is heard.
        #[test]
        fn any_noise_is_survived(noise in proptest::collection::vec(any::<u8>(), 0..600)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let bytes = [&noise, &ON_THE_LINE[..]].concat();
            let (datagrams, _) = runtime.block_on(received(&bytes));
            prop_assert_eq!(datagrams.last(), Some(&DATAGRAM.to_vec()));
        }
    }
}
