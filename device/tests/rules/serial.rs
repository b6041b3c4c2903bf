//! slipmux over a serial line: frames in, frames out, whatever else is on the line.

use std::{
    cell::RefCell,
    collections::VecDeque,
    convert::Infallible,
    future::{pending, poll_fn},
    task::Poll,
};

use device::{
    DATAGRAM_LEN,
    transport::serial::{LineError, Serial},
    transport::{Datagrams, LogLine, serve},
};
use embassy_futures::{block_on, join::join};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};

use crate::common::{Address, CABLE, NETWORK, Response, TestDevice, TestServer, get, post};

const END: u8 = 0xc0;
const ESC: u8 = 0xdb;
const DIAGNOSTIC: u8 = 0x0a;
const CONFIGURATION: u8 = 0xa9;

/// What is on the line for a frame: END, type, contents, the check sequence of a configuration, END.
fn frame(kind: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind], contents].concat();
    if kind == CONFIGURATION {
        bytes.extend((!fcs16(&bytes)).to_le_bytes());
    }
    let escape = |byte: u8| match byte {
        END => vec![ESC, 0xdc],
        ESC => vec![ESC, 0xdd],
        other => vec![other],
    };
    [&[END][..], &bytes.into_iter().flat_map(escape).collect::<Vec<_>>(), &[END]].concat()
}

/// The frames on a line that carries nothing else: type and contents.
fn frames(line: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    for piece in line.split(|byte| *byte == END).filter(|piece| !piece.is_empty()) {
        let (mut bytes, mut rest) = (Vec::new(), piece.iter());
        while let Some(byte) = rest.next() {
            bytes.push(match (*byte, *byte == ESC) {
                (other, false) => other,
                (_, true) if rest.next() == Some(&0xdc) => END,
                (_, true) => ESC,
            });
        }
        if bytes[0] == CONFIGURATION {
            assert_eq!(fcs16(&bytes), 0xf0b8, "the check sequence fits");
            bytes.truncate(bytes.len() - 2);
        }
        frames.push((bytes[0], bytes[1..].to_vec()));
    }
    frames
}

/// RFC 1662 appendix C.2, bit by bit.
fn fcs16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |fcs, byte| {
        (0..8).fold(fcs ^ u16::from(*byte), |fcs, _| if fcs & 1 == 1 { fcs >> 1 ^ 0x8408 } else { fcs >> 1 })
    })
}

/// The device's end of a line: what arrives, in pieces as they arrive, and what was sent. At the end, it is closed.
#[derive(Default)]
struct Port {
    arriving: VecDeque<Vec<u8>>,
    sent: Vec<u8>,
    /// The next piece is there. Between two pieces, others may run.
    is_ready: bool,
}

impl Port {
    fn new(line: &[u8], piece: usize) -> Self {
        Port { arriving: line.chunks(piece).map(<[u8]>::to_vec).collect(), ..Port::default() }
    }
}

impl ErrorType for Port {
    type Error = Infallible;
}

impl Read for Port {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        poll_fn(|context| {
            if std::mem::replace(&mut self.is_ready, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        self.is_ready = false;
        let Some(piece) = self.arriving.front_mut() else { return Ok(0) };
        let len = piece.len().min(buffer.len());
        buffer[..len].copy_from_slice(&piece[..len]);
        piece.drain(..len);
        self.arriving.pop_front_if(|piece| piece.is_empty());
        Ok(len)
    }
}

impl Write for Port {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        // As few as a small FIFO takes.
        let len = bytes.len().min(7);
        self.sent.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A port that fails.
struct Broken {
    reads: Result<usize, ErrorKind>,
    writes: Result<usize, ErrorKind>,
}

impl ErrorType for Broken {
    type Error = ErrorKind;
}

impl Read for Broken {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, ErrorKind> {
        self.reads
    }
}

impl Write for Broken {
    async fn write(&mut self, _: &[u8]) -> Result<usize, ErrorKind> {
        self.writes
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// Serves until the line is closed, and gives what was sent.
async fn talk(server: &RefCell<TestServer>, mut port: Port, address: Address, mut log: VecDeque<&str>) -> Vec<u8> {
    let mut serial = Serial::new(&mut port, address);
    let next_log_line = async || match log.pop_front() {
        Some(line) => LogLine::try_from(line).unwrap(),
        None => pending().await,
    };
    assert_eq!(serve(server, &mut serial, || 0, next_log_line).await, Err(LineError::Closed));
    port.sent
}

/// The answers to what is on the line, which arrives in pieces of this many bytes.
fn answers(device: TestDevice, line: &[u8], piece: usize) -> Vec<Response> {
    let server = RefCell::new(device.server);
    let sent = block_on(talk(&server, Port::new(line, piece), CABLE, VecDeque::new()));
    let configuration = |(kind, contents): (u8, Vec<u8>)| {
        assert_eq!(kind, CONFIGURATION);
        Response::parse(&contents)
    };
    frames(&sent).into_iter().map(configuration).collect()
}

#[test]
fn the_frame_of_the_specification() {
    assert_eq!(frame(CONFIGURATION, &[0x40, 1, 0, 0]), [0xc0, 0xa9, 0x40, 0x01, 0, 0, 0xbc, 0x38, 0xc0]);
    assert_eq!(frames(&frame(DIAGNOSTIC, &[END, ESC, 1])), [(DIAGNOSTIC, vec![END, ESC, 1])]);
}

#[test]
fn requests_in_frames_are_answered_in_frames_however_they_arrive() {
    for piece in [1, 2, 7, 64, 100, 4096] {
        let mut device = TestDevice::new();
        let mut line = Vec::new();
        for request in [get("/comm"), get("/.well-known/core"), get("/nothing")] {
            line.extend(frame(CONFIGURATION, &device.datagram(&request.0)));
        }
        let answers = answers(device, &line, piece);
        assert_eq!(answers.iter().map(Response::code).collect::<Vec<_>>(), ["2.05", "2.05", "4.04"]);
    }
}

#[test]
fn a_ping_finds_out_whether_somebody_is_there() {
    let device = TestDevice::new();
    let server = RefCell::new(device.server);
    let ping = frame(CONFIGURATION, &[0x40, 0, 0xc0, 0xdb]);
    let sent = block_on(talk(&server, Port::new(&ping, 64), CABLE, VecDeque::new()));
    assert_eq!(frames(&sent), [(CONFIGURATION, vec![0x70, 0, 0xc0, 0xdb])]);
}

#[test]
fn whatever_else_is_on_the_line_is_ignored() {
    let request = |device: &mut TestDevice| frame(CONFIGURATION, &device.datagram(&get("/comm").0));
    let mut corrupt = frame(CONFIGURATION, &[0x40, 1, 0, 0]);
    corrupt[3] ^= 1;
    let aborted = [&[END, CONFIGURATION, 0x40, 1][..], &[ESC, END]].concat();
    for garbage in [
        &b""[..],
        b"[    0.123456] boot: hello\r\n",
        b"\x00\xff\x00\xff",
        &[END, END, END],
        &[ESC],
        &[ESC, ESC],
        &corrupt,
        &aborted,
        &frame(CONFIGURATION, &[]),        // nothing in it
        &frame(CONFIGURATION, b"no CoAP"), // not CoAP
        &[END, CONFIGURATION, END],        // not even a check sequence
        &[END, CONFIGURATION, 1, END],
        &frame(DIAGNOSTIC, b"a log line"),
        &frame(0x45, &[0; 40]), // IPv4
        &frame(0x60, &[0; 40]), // IPv6
        &frame(0x01, b"unknown type"),
        &[END, CONFIGURATION, 0x40, 1, 0, 0], // cut short: the next frame begins
        &vec![b'x'; 10_000],
    ] {
        for piece in [1, 64] {
            let mut device = TestDevice::new();
            // Without an END of its own, garbage would run into the frame that follows; every frame begins with one.
            let line = [garbage, &request(&mut device), garbage, garbage, &request(&mut device), garbage].concat();
            let answers = answers(device, &line, piece);
            assert_eq!(answers.len(), 2, "{:02x?}", &garbage[..garbage.len().min(40)]);
            assert!(answers.iter().all(|answer| answer.code() == "2.05"));
        }
    }
}

#[test]
fn garbage_inside_a_frame_costs_this_frame_only() {
    let mut device = TestDevice::new();
    let mut hit = frame(CONFIGURATION, &device.datagram(&post("/comm/identify", &[]).0));
    hit.splice(8..8, *b"??");
    let good = frame(CONFIGURATION, &device.datagram(&get("/comm").0));
    let answers = answers(device, &[hit, good].concat(), 64);
    assert_eq!(answers.iter().map(Response::code).collect::<Vec<_>>(), ["2.05"]);
}

#[test]
fn a_frame_may_be_as_long_as_a_datagram_and_no_longer() {
    let mut device = TestDevice::new();
    let mut longest = device.datagram(&get("/nothing").0);
    longest.push(0xff);
    longest.resize(DATAGRAM_LEN, 1);
    let mut longer = device.datagram(&get("/nothing").0);
    longer.push(0xff);
    longer.resize(DATAGRAM_LEN + 1, 1);
    let endless = vec![1; 100_000];
    let good = device.datagram(&get("/comm").0);
    let line: Vec<u8> =
        [&longest, &longer, &endless, &good].into_iter().flat_map(|datagram| frame(CONFIGURATION, datagram)).collect();
    let answers = answers(device, &line, 64);
    assert_eq!(answers.iter().map(Response::code).collect::<Vec<_>>(), ["4.04", "4.13", "2.05"]);
    assert_eq!(answers[1].refused("4.13").0, "the datagram is too long");
    assert_eq!(answers[1].0.header.message_id, Response::parse(&longer).0.header.message_id);
}

#[test]
fn the_log_goes_in_frames_of_its_own_between_answers() {
    let mut device = TestDevice::new();
    let request = frame(CONFIGURATION, &device.datagram(&get("/comm").0));
    let log = VecDeque::from(["first", "second \u{c0}\u{db}"]);
    let server = RefCell::new(device.server);
    let sent = block_on(talk(&server, Port::new(&request, 8), CABLE, log));
    let mut sent = frames(&sent);
    assert_eq!(sent.pop().unwrap().0, CONFIGURATION);
    assert_eq!(sent, [(DIAGNOSTIC, b"first".to_vec()), (DIAGNOSTIC, "second \u{c0}\u{db}".into())]);
}

#[test]
fn a_line_that_is_gone_is_told_from_one_that_fails() {
    let read = |reads| {
        let port = Broken { reads, writes: Ok(1) };
        block_on(Serial::new(port, CABLE).receive()).unwrap_err()
    };
    assert_eq!(read(Ok(0)), LineError::Closed);
    assert_eq!(read(Err(ErrorKind::BrokenPipe)), LineError::Port(ErrorKind::BrokenPipe));
    let write = |writes| {
        let mut serial = Serial::new(Broken { reads: Ok(0), writes }, CABLE);
        let sent = block_on(serial.send(CABLE, b"datagram")).unwrap_err();
        assert_eq!(block_on(serial.log("line")), Err(sent));
        sent
    };
    assert_eq!(write(Ok(0)), LineError::Closed);
    assert_eq!(write(Err(ErrorKind::Other)), LineError::Port(ErrorKind::Other));
}

#[test]
fn two_lines_share_one_device() {
    let mut device = TestDevice::new();
    let identify = frame(CONFIGURATION, &device.datagram(&post("/comm/identify", &[]).0));
    let line = [identify.clone(), identify].concat();
    let (one, two) = (Port::new(&line, 5), Port::new(&line, 11));
    let server = RefCell::new(device.server);
    let log = || VecDeque::from(["hello"]);
    let (one, two) = block_on(join(talk(&server, one, CABLE, log()), talk(&server, two, NETWORK, log())));
    // The same message twice is a duplicate on its own line, and another message on the other.
    for sent in [one, two] {
        let sent = frames(&sent);
        assert_eq!(sent.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [DIAGNOSTIC, CONFIGURATION, CONFIGURATION]);
        assert_eq!(sent[1], sent[2]);
    }
    device.server = server.into_inner();
    assert_eq!(device.blinks(), 2);
}
