//! What reaches a device.

use std::{cell::RefCell, convert::Infallible};

use cbor_schemas::{Aif, Audience, IssuerId, Kind, Sign1, StationTokenClaims};
use coap_message_implementations::inmemory::{Message, MessageMut};
use device::{
    authz::{Anchor, Verifier},
    lifecycle::Role,
    transport::{LogLine, serial::Serial, serve},
};
use embedded_io_async::{ErrorType, Read, Write};
use protocol::{
    edhoc::{ConnId, Initiator, Responder, Transfer},
    key::PrivateKey,
    oscore::Context,
};

use crate::bench::{SameNumbers, State, TestServer, handle, owner, start, unchanging};

/// `GET /comm`, confirmable, with a Message ID and a token that are not in the seeds.
const GET_COMM: &[u8] = b"\x42\x01\xfe\xdc\xba\x98\xb4comm";

/// A token at an owned device.
pub(crate) fn token(input: &[u8]) {
    let anchors = [Anchor { key: *owner().public(), role: Role::Owner, watermark: Some(1_000) }];
    let server = start_info();
    let verifier = Verifier { anchors: &anchors, device: server.0, own_key: server.1, nonce: [7; 8] };
    assert!(verifier.accept(input, || Ok(())).is_err(), "nobody signed that");
}

fn start_info() -> (cbor_schemas::DeviceId, protocol::key::PublicKey) {
    let server = start(State::Owned);
    (server.device().info().device, *server.device().own_key().expect("the device is whole"))
}

pub(crate) fn token_seeds() -> Vec<Vec<u8>> {
    let claims = StationTokenClaims {
        issuer: IssuerId(owner().public().kid()),
        audience: Audience::Device(start_info().0),
        expires_at: Some(3_000),
        issued_at: 2_000,
        key: PrivateKey::generate(&mut SameNumbers(5)).public().cose_key(),
        scope: Aif::everything(),
        cnonce: Some([7; 8]),
    };
    let (mut payload, mut token) = ([0; StationTokenClaims::MAX_LEN], [0; 1024]);
    let len = claims.encode(&mut payload).expect("it fits");
    let object = Sign1 { kind: Kind::StationToken, payload: &payload[..len], signature: [1; 64] };
    let len = object.encode(&mut token).expect("it fits");
    vec![token[..len].to_vec()]
}

/// Bytes on the serial line of a device. Whatever they were, the next frame is served.
pub(crate) fn serial(input: &[u8]) {
    let server = RefCell::new(start(State::Unowned));
    let before = unchanging(server.borrow().device().info());
    let ping = b"\xc0\xa9\x40\x00\x12\x34\x9c\x91\xc0";
    let mut port = Line { input: [input, &frame(&ping[2..6])].concat(), at: 0, output: Vec::new() };
    let mut link = Serial::new(&mut port, 0_u8);
    let silent = async || std::future::pending::<LogLine>().await;
    let closed = embassy_futures::block_on(serve(&server, &mut link, || 0, silent));
    assert!(closed.is_err(), "the line ends with the input");
    assert!(port.output.windows(4).any(|bytes| bytes == b"\x70\x00\x12\x34"), "the ping is answered by a Reset");
    assert_eq!(unchanging(server.borrow().device().info()), before);
}

pub(crate) fn serial_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = datagram_seeds().iter().map(|seed| frame(&seed[3..])).collect();
    seeds.push(b"\xc0\x0ahello\xc0\xdb\xc0\x45\xdd\xc0".to_vec());
    seeds
}

/// A slipmux configuration frame.
fn frame(datagram: &[u8]) -> Vec<u8> {
    let mut encoder = slipmux::ChunkedEncoder::new(slipmux::FrameType::Configuration, datagram);
    let mut bytes = vec![0; 2 * datagram.len() + 16];
    let len = encoder.encode_chunk(&mut bytes);
    bytes.truncate(len);
    bytes
}

/// Datagrams without security to a device in the state that the first byte chooses. Each has two bytes in front:
/// its sender, and its length.
pub(crate) fn datagrams(input: &[u8]) {
    let Some((state, mut rest)) = input.split_first() else { return };
    let mut server = start([State::Unowned, State::Owned, State::Fault][usize::from(state % 3)]);
    let before = unchanging(server.device().info());
    while let [from, len, more @ ..] = rest {
        let (datagram, behind) = more.split_at(usize::from(*len).min(more.len()));
        rest = behind;
        handle(&mut server, from % 4, datagram);
    }
    assert_eq!(unchanging(server.device().info()), before, "nothing changes without security");
    let answer = handle(&mut server, 9, GET_COMM).expect("the device goes on serving");
    assert_eq!(answer.get(1), Some(&0x45));
}

pub(crate) fn datagram_seeds() -> Vec<Vec<u8>> {
    let own = PrivateKey::generate(&mut SameNumbers(3));
    let c_i = ConnId::new(0).expect("a connection identifier");
    let (_, message_1) = Initiator::start(&own, c_i, &mut SameNumbers(4)).expect("it starts");
    let edhoc = [b"\x44\x02\x00\x02\x01\x02\x03\x04\xbb.well-known\x05edhoc\xff\xf5", &message_1[..]].concat();
    let token = [b"\x41\x02\x00\x03\x09\xbaauthz-info\xff", &token_seeds()[0][..200]].concat();
    let all: [&[u8]; 9] = [
        GET_COMM,
        b"\x40\x00\x00\x01",
        b"\x50\x01\x00\x05\xbb.well-known\x04core",
        b"\x40\x03\x00\x06\xb4comm\x05owner\xff\xa0",
        b"\x40\x02\x00\x07\xb4comm\x05reset",
        b"\x41\x02\x00\x08\x01\x94\x09\x00\x20\xc0\xff01234567890",
        b"\x40\x01\x00\x09\xb4comm\xc1\x22",
        &edhoc,
        &token,
    ];
    let with_head = |state: u8, datagram: &[u8]| [&[state, 0, datagram.len() as u8], datagram].concat();
    (0..3).flat_map(|state| all.map(|datagram| with_head(state, datagram))).collect()
}

/// Code, options and payload of a request of a stranger, under OSCORE, to an owned device.
pub(crate) fn protected(input: &[u8]) {
    let Some((code, tail)) = input.split_first() else { return };
    let mut server = start(State::Owned);
    let before = unchanging(server.device().info());
    let Some(mut context) = stranger(&mut server) else { panic!("a stranger gets a session") };
    let (mut outer_code, mut outer, mut scratch) = (0, [0; 1200], [0; 1200]);
    let mut message = MessageMut::new_in_slice(&mut outer_code, &mut outer);
    let inner = Message::new_from_slice(*code, tail);
    // What cannot be protected is refused on this side already.
    let Ok(_) = context.protect_request(&inner, &mut message, &mut scratch) else { return };
    let len = message.finish().0;
    handle(&mut server, 0, &[&[0x40, outer_code, 0x77, 0x77], &outer[..len]].concat());
    assert_eq!(unchanging(server.device().info()), before, "a stranger changes nothing of an owned device");
    assert!(handle(&mut server, 9, GET_COMM).is_some());
}

pub(crate) fn protected_seeds() -> Vec<Vec<u8>> {
    let put: &[u8] = b"\x03\xb4comm\x05owner\xd1\x03\x0a\xff\xa1\x01\xa0";
    [b"\x01\xb4comm", put, b"\x02\xb4comm\x05rekey", b"\x02\xb4comm\x05reset", b"\x01\xb4comm\x05peers\xc1\x22"]
        .map(<[u8]>::to_vec)
        .to_vec()
}

/// The context of a session that nobody vouches for, message_3 sent alone.
fn stranger(server: &mut TestServer) -> Option<Context> {
    let own = PrivateKey::generate(&mut SameNumbers(6));
    let device = *server.device().own_key()?;
    let (initiator, message_1) = Initiator::start(&own, ConnId::new(0)?, &mut SameNumbers(7)).ok()?;
    let edhoc = |message_id: u8, first: u8, message: &[u8]| {
        [b"\x40\x02\x66", &[message_id][..], b"\xbb.well-known\x05edhoc\xff", &[first], message].concat()
    };
    let answer = handle(server, 0, &edhoc(1, 0xf5, &message_1))?;
    let message_2 = payload(&answer)?;
    let (pending, message_3) = initiator.finish(message_2, Transfer::ByValue, |_| Some(device)).ok()?;
    let answer = handle(server, 0, &edhoc(2, pending.c_r.byte(), &message_3))?;
    pending.confirm(payload(&answer)).ok()
}

fn payload(datagram: &[u8]) -> Option<&[u8]> {
    let marker = datagram.iter().position(|byte| *byte == 0xff)?;
    datagram.get(marker + 1..)
}

/// message_1, and then message_3 to the responder that it started; the first byte is the length of message_1.
pub(crate) fn responder(input: &[u8]) {
    let Some((len, rest)) = input.split_first() else { return };
    let (message_1, message_3) = rest.split_at(usize::from(*len).min(rest.len()));
    let own = PrivateKey::generate(&mut SameNumbers(8));
    let c_r = ConnId::new(1).expect("a connection identifier");
    let Ok((responder, _)) = Responder::start(message_1, &own, c_r, &mut SameNumbers(9)) else { return };
    assert!(responder.finish(message_3, |_| Some(*owner().public()), true).is_err(), "nobody holds the key for that");
}

pub(crate) fn responder_seeds() -> Vec<Vec<u8>> {
    let own = PrivateKey::generate(&mut SameNumbers(10));
    let c_i = ConnId::new(0).expect("a connection identifier");
    let (_, message_1) = Initiator::start(&own, c_i, &mut SameNumbers(11)).expect("it starts");
    let message_3 = [b"\x58\x1a", &[0x5a; 26][..]].concat();
    vec![[&[message_1.len() as u8], &message_1[..], &message_3[..]].concat()]
}

/// A serial line that ends.
struct Line {
    input: Vec<u8>,
    at: usize,
    output: Vec<u8>,
}

impl ErrorType for Line {
    type Error = Infallible;
}

impl Read for Line {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let rest = &self.input[self.at..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Ok(len)
    }
}

impl Write for Line {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
