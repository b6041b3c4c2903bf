//! A device that keeps to the protocol up to one place, and does there whatever a test wants. It serves a pty or a UDP
//! socket of its own, in a thread of its own.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    os::unix::fs::OpenOptionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use cbor_schemas::{
    ClaimPolicy, Condition, DeviceId, DeviceInfo, Features, KeyOrigin, Kind, Limits, Profile, Receipt, Sign1,
    SlotContents, SlotRequest, SlotState, StationTokenClaims, Watermarks,
};
use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use coap_message::{MessageOption, ReadableMessage};
use coap_numbers::{code, option};
use end_to_end::Cable;
use protocol::{
    edhoc::{self, ConnId, Established, Responder},
    key::{PrivateKey, PublicKey},
    oscore::{self, Context, Correlation},
};
use rand_core::OsRng;
use rustix::{
    fs::OFlags,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use sha2::{Digest, Sha256};
use slipmux::{BufferedFrameHandler, Decoder, Slipmux, encode_buffered};

/// The longest datagram that the commissioner looks at, in bytes.
pub(crate) const MAX_DATAGRAM: usize = 2048;

/// What is asked of a device, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Ping,
    /// `GET /comm` without protection.
    Comm,
    Message1,
    /// `POST /authz-info`, once the device is claimed.
    Token,
    /// `GET /comm` under protection.
    Protected,
    /// `PUT /comm/owner`.
    Claim,
    /// Any other protected request.
    Other,
}

/// What it does in place of answering.
#[derive(Clone, Copy)]
pub(crate) enum Lie {
    /// Makes another answer of the true one to this request; under protection, if that is called for.
    Answer(fn(&Packet, Packet) -> Packet),
    /// Sends these datagrams, given the true answer as it would have been sent.
    Datagrams(fn(Packet) -> Vec<Vec<u8>>),
    /// Puts the first of these on the line, then the second again and again, without end and without ever looking at what
    /// comes: bytes on a serial line, datagrams elsewhere.
    Flood(fn() -> [Vec<u8>; 2]),
}

/// A running liar. Its thread ends with the test.
pub(crate) struct Liar {
    /// The link to reach it by.
    pub(crate) link: String,
    over: Arc<AtomicBool>,
}

impl Liar {
    /// Starts a device that lies at `stage`.
    pub(crate) fn start(cable: Cable, id: &str, stage: Stage, lie: Lie) -> Self {
        let (line, link) = match cable {
            Cable::Udp => Line::udp(),
            Cable::Pty | Cable::Uart => Line::pty(),
        };
        let over = Arc::<AtomicBool>::default();
        let mut device = Device { line, stage, lie, over: over.clone(), ..Device::new(id) };
        thread::spawn(move || device.serve());
        Liar { link, over }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

struct Device {
    line: Line,
    stage: Stage,
    lie: Lie,
    over: Arc<AtomicBool>,
    id: DeviceId,
    key: PrivateKey,
    waiting: Option<Responder>,
    context: Option<Context>,
    is_claimed: bool,
    /// The station that showed a token, and when that was signed.
    station: Option<(PublicKey, u64)>,
}

impl Device {
    fn new(id: &str) -> Self {
        Device {
            line: Line::Gone,
            stage: Stage::Ping,
            lie: Lie::Answer(|_, truth| truth),
            over: Arc::default(),
            id: id.parse().expect("a device ID"),
            key: PrivateKey::generate(&mut OsRng),
            waiting: None,
            context: None,
            is_claimed: false,
            station: None,
        }
    }

    fn serve(&mut self) {
        while let Some(datagram) = self.line.receive() {
            let request = Packet::from_bytes(&datagram).expect("the commissioner speaks CoAP");
            if request.header.get_type() == MessageType::Confirmable
                && let Some(answers) = self.answer(&request)
            {
                answers.iter().for_each(|answer| self.line.send(answer));
            }
        }
    }

    /// The datagrams that answer a request; none if it is an old one, sent again.
    fn answer(&mut self, request: &Packet) -> Option<Vec<Vec<u8>>> {
        if request.get_option(CoapOption::Oscore).is_some() {
            return self.answer_protected(request);
        }
        let (stage, truth) = match (request.header.code, path(request).as_str()) {
            (MessageClass::Empty, _) => (Stage::Ping, Packet::new()),
            (_, "comm") => (Stage::Comm, response(code::CONTENT, 60, &self.info())),
            (_, ".well-known/edhoc") => (Stage::Message1, self.message_2(&request.payload)),
            (_, "authz-info") => (Stage::Token, self.accept_token(&request.payload)),
            (_, path) => panic!("the commissioner asks for {path}"),
        };
        let mut answer = self.tell(stage, request, truth);
        if request.header.code == MessageClass::Empty && answer.payload.is_empty() {
            answer.header.code = MessageClass::Empty;
        }
        Some(self.datagrams(stage, request, answer))
    }

    fn answer_protected(&mut self, request: &Packet) -> Option<Vec<Vec<u8>>> {
        let mut ciphertext = request.payload.as_slice();
        if request.get_option(CoapOption::Unknown(option::EDHOC)).is_some() {
            let (message_3, rest) = oscore::split_combined(&request.payload).expect("a combined request");
            let station = self.station.map(|(key, _)| key);
            let resolve = |kid: &[u8]| station.filter(|key| key.kid() == kid);
            let finished = self.waiting.take()?.finish(message_3, resolve, false).expect("by value, or the station");
            let Established { context, .. } = finished;
            self.context = Some(context);
            ciphertext = rest;
        }
        let context = self.context.as_mut()?;
        let mut plaintext = vec![0; ciphertext.len()];
        let (inner, correlation) = context.unprotect_request_payload(request, ciphertext, &mut plaintext).ok()?;
        let mut request_inside = Packet::new();
        request_inside.header.code = inner.code().into();
        inner.options().for_each(|option| {
            request_inside.add_option(option.number().into(), option.value().to_vec());
        });
        request_inside.payload = inner.payload().to_vec();
        let inner = request_inside;
        let (stage, truth) = match (u8::from(inner.header.code), path(&inner).as_str()) {
            (code::GET, "comm") => (Stage::Protected, response(code::CONTENT, 60, &self.info())),
            (code::PUT, "comm/owner") => (Stage::Claim, response(code::CHANGED, 60, &self.receipt(&inner.payload))),
            _ => (Stage::Other, response(code::CONTENT, 60, &[0xa0])),
        };
        let answer = self.tell(stage, &inner, truth);
        let answer = self.protect(answer, &correlation);
        Some(self.datagrams(stage, request, answer))
    }

    /// The truth, or what the lie makes of it.
    fn tell(&self, stage: Stage, request: &Packet, truth: Packet) -> Packet {
        match self.lie {
            Lie::Answer(lie) if stage == self.stage => lie(request, truth),
            _ => truth,
        }
    }

    fn datagrams(&mut self, stage: Stage, request: &Packet, mut answer: Packet) -> Vec<Vec<u8>> {
        let is_empty = answer.header.code == MessageClass::Empty;
        answer.header.set_type(if is_empty { MessageType::Reset } else { MessageType::Acknowledgement });
        answer.header.message_id = request.header.message_id;
        if !is_empty {
            answer.set_token(request.get_token().to_vec());
        }
        match self.lie {
            Lie::Datagrams(lie) if stage == self.stage => lie(answer),
            Lie::Flood(flood) if stage == self.stage => {
                let [first, more] = flood();
                let mut goes_on = self.line.put(&first);
                while goes_on && !self.over.load(Ordering::Relaxed) {
                    goes_on = self.line.put(&more);
                }
                Vec::new()
            }
            _ => vec![encode(&answer)],
        }
    }

    fn protect(&mut self, answer: Packet, correlation: &Correlation) -> Packet {
        let mut outer = Packet::new();
        let context = self.context.as_mut().expect("a session");
        context.protect_response(&answer, &mut outer, &mut [0; 4096], correlation).expect("it fits");
        outer
    }

    fn info(&self) -> Vec<u8> {
        let mut info = info(self.id, self.key.public());
        if self.is_claimed {
            info.owner = SlotState::Certified;
            info.claim_counter = 1;
            info.watermarks.owner = self.station.map(|(_, issued_at)| issued_at);
        }
        encoded(|out| info.encode(out))
    }

    fn accept_token(&mut self, token: &[u8]) -> Packet {
        // Of the answer, the host may want another block.
        if let Ok(object) = Sign1::decode_as(Kind::StationToken, token) {
            let claims = StationTokenClaims::decode(object.payload).expect("the claims of a token");
            let key = PublicKey::from_cose(&claims.key).expect("a station's key");
            self.station = Some((key, claims.issued_at));
        }
        response(code::CREATED, 60, b"")
    }

    fn message_2(&mut self, payload: &[u8]) -> Packet {
        // Of message_2, the host may want another block.
        if payload.is_empty() {
            return response(code::CHANGED, 64, b"");
        }
        let (responder, message_2) = respond(payload, &self.key);
        self.waiting = Some(responder);
        response(code::CHANGED, 64, &message_2)
    }

    fn receipt(&mut self, body: &[u8]) -> Vec<u8> {
        // Of the receipt, the host may want another block.
        let Ok(request) = SlotRequest::decode(body) else { return Vec::new() };
        let contents = SlotContents { anchor: request.anchor, certificate: request.certificate };
        let digest = Sha256::digest(encoded(|out| contents.encode(out))).into();
        self.is_claimed = true;
        let receipt = Receipt { device: *self.key.public().x(), claim_counter: 1, generation: 1, digest };
        encoded(|out| receipt.encode(out))
    }
}

/// What a device with this key says that nobody owns.
pub(crate) fn info(id: DeviceId, key: &PublicKey) -> DeviceInfo<'static> {
    DeviceInfo {
        device: id,
        credential: Some(key.cose_key()),
        generation: 1,
        key_origin: KeyOrigin::Generated,
        factory: SlotState::Empty,
        owner: SlotState::Empty,
        claim_policy: ClaimPolicy::Open,
        claim_counter: 0,
        watermarks: Watermarks::default(),
        nonce: [9; 8],
        firmware: "liar 1.0",
        profile: Profile::Full,
        limits: Limits { datagram: 1152, body: 2560, list_keys: 64 },
        operation_ms: 1,
        condition: Condition::Ok,
        features: Features::NONE,
    }
}

/// message_2 by `key` to the message_1 in this payload.
pub(crate) fn respond(payload: &[u8], key: &PrivateKey) -> (Responder, edhoc::Message) {
    let Ok(edhoc::Request::Message1(message_1)) = edhoc::Request::parse(payload) else { panic!("not message_1") };
    Responder::start(message_1, key, ConnId::new(0x27).expect("one byte"), &mut OsRng).expect("a sound message_1")
}

pub(crate) fn response(code: u8, content_format: u8, payload: &[u8]) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = code.into();
    packet.add_option(CoapOption::ContentFormat, vec![content_format]);
    packet.payload = payload.to_vec();
    packet
}

pub(crate) fn encode(packet: &Packet) -> Vec<u8> {
    packet.to_bytes_with_limit(usize::MAX).expect("coap-lite encodes anything")
}

/// What `encode` writes.
pub(crate) fn encoded<E: std::fmt::Debug>(encode: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Vec<u8> {
    let mut out = vec![0; 1024];
    let len = encode(&mut out).expect("it fits");
    out.truncate(len);
    out
}

fn path(packet: &Packet) -> String {
    let segments = packet.get_option(CoapOption::UriPath).into_iter().flatten();
    segments.map(|segment| String::from_utf8_lossy(segment)).collect::<Vec<_>>().join("/")
}

/// The device's end of the cable.
enum Line {
    Udp {
        socket: UdpSocket,
        peer: Option<SocketAddr>,
    },
    Serial {
        device: File,
        /// Without it, the line ends with its first user.
        _user: File,
        decoder: Box<Decoder>,
        frames: BufferedFrameHandler,
    },
    Gone,
}

impl Line {
    fn udp() -> (Self, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let link = format!("udp:{}", socket.local_addr().expect("an address"));
        (Line::Udp { socket, peer: None }, link)
    }

    fn pty() -> (Self, String) {
        let device = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pty");
        grantpt(&device).and_then(|()| unlockpt(&device)).expect("a pty of ours");
        let name = ptsname(&device, Vec::new()).expect("a name").into_string().expect("UTF-8");
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed());
        let user = options.open(&name).expect("the user's end");
        let mut raw = tcgetattr(&user).expect("a terminal");
        raw.make_raw();
        tcsetattr(&user, OptionalActions::Now, &raw).expect("a terminal");
        let (decoder, frames) = (Box::default(), BufferedFrameHandler::new());
        (Line::Serial { device: device.into(), _user: user, decoder, frames }, format!("serial:{name}"))
    }

    /// The next datagram; `None` if the cable is gone.
    fn receive(&mut self) -> Option<Vec<u8>> {
        match self {
            Line::Udp { socket, peer } => {
                let mut buffer = [0; MAX_DATAGRAM];
                let (len, from) = socket.recv_from(&mut buffer).ok()?;
                *peer = Some(from);
                Some(buffer[..len].to_vec())
            }
            Line::Serial { device, decoder, frames, .. } => loop {
                if let Some(frame) = frames.results.pop() {
                    match frame {
                        Ok(Slipmux::Configuration(datagram)) => return Some(datagram),
                        _ => continue,
                    }
                }
                let mut byte = [0];
                device.read_exact(&mut byte).ok()?;
                let _ = decoder.decode(byte[0], frames);
            },
            Line::Gone => None,
        }
    }

    fn send(&mut self, datagram: &[u8]) {
        match self {
            Line::Serial { .. } => self.put(&encode_buffered(Slipmux::Configuration(datagram.to_vec()))),
            _ => self.put(datagram),
        };
    }

    /// Whether the line took it.
    fn put(&mut self, bytes: &[u8]) -> bool {
        match self {
            Line::Udp { socket, peer } => peer.is_some_and(|peer| socket.send_to(bytes, peer).is_ok()),
            Line::Serial { device, .. } => device.write_all(bytes).is_ok(),
            Line::Gone => false,
        }
    }
}
