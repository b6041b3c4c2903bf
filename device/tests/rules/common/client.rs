//! A client in memory: coap-lite's packets, EDHOC as initiator, OSCORE.

use cbor_schemas::{DeviceInfo, ProblemDetails};
use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use coap_message::{MessageOption, ReadableMessage};
use coap_numbers::option;
use protocol::{
    edhoc::{ConnId, IdCred, Initiator, Message, PeerError, Pending, Transfer, parse_error},
    key::{PrivateKey, PublicKey},
    oscore::{self, Context, Correlation},
};

use super::{Address, CABLE, TestDevice};

/// A request before it has a Message ID and a token.
#[derive(Clone)]
pub(crate) struct Request(pub(crate) Packet);

pub(crate) fn get(path: &str) -> Request {
    Request::new(1, path, &[])
}

pub(crate) fn post(path: &str, body: &[u8]) -> Request {
    Request::new(2, path, body)
}

pub(crate) fn put(path: &str, body: &[u8]) -> Request {
    Request::new(3, path, body)
}

impl Request {
    pub(crate) fn new(method: u8, path: &str, body: &[u8]) -> Self {
        let mut packet = Packet::new();
        packet.header.set_type(MessageType::Confirmable);
        packet.header.code = MessageClass::from(method);
        packet.payload = body.to_vec();
        let segments = path.split('/').skip(1);
        segments.fold(Request(packet), |request, segment| request.option(option::URI_PATH, segment.as_bytes()))
    }

    pub(crate) fn option(mut self, number: u16, value: &[u8]) -> Self {
        self.0.add_option(CoapOption::from(number), value.to_vec());
        self
    }

    /// An option whose value is a number: no leading zeros.
    pub(crate) fn uint(self, number: u16, value: u32) -> Self {
        let bytes = value.to_be_bytes();
        self.option(number, &bytes[value.leading_zeros() as usize / 8..])
    }

    pub(crate) fn content_format(self, content_format: u16) -> Self {
        self.uint(option::CONTENT_FORMAT, content_format.into())
    }

    pub(crate) fn accept(self, content_format: u16) -> Self {
        self.uint(option::ACCEPT, content_format.into())
    }

    /// Block1 or Block2: the block's number, whether more follow, and the size of blocks in bytes.
    pub(crate) fn block(self, option: u16, number: u32, more: bool, size: u32) -> Self {
        self.uint(option, number << 4 | u32::from(more) << 3 | (size.ilog2() - 4))
    }

    pub(crate) fn non_confirmable(mut self) -> Self {
        self.0.header.set_type(MessageType::NonConfirmable);
        self
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Response(pub(crate) Packet);

impl Response {
    pub(crate) fn parse(datagram: &[u8]) -> Self {
        Response(Packet::from_bytes(datagram).expect("a well-formed response"))
    }

    pub(crate) fn code(&self) -> String {
        self.0.header.get_code()
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    pub(crate) fn option(&self, number: u16) -> Option<&[u8]> {
        self.0.get_first_option(CoapOption::from(number)).map(Vec::as_slice)
    }

    pub(crate) fn uint(&self, number: u16) -> Option<u32> {
        Some(self.option(number)?.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    pub(crate) fn content_format(&self) -> Option<u32> {
        self.uint(option::CONTENT_FORMAT)
    }

    /// This is a success with `code`.
    #[track_caller]
    pub(crate) fn expect(&self, code: &str) -> &Self {
        assert_eq!(self.code(), code, "{:?}", ProblemDetails::decode(self.payload()));
        self
    }

    /// This is a refusal with `code`, and says why in problem details. Returns title and detail.
    #[track_caller]
    pub(crate) fn refused(&self, code: &str) -> (&str, Option<&str>) {
        assert_eq!(self.code(), code, "{:?}", ProblemDetails::decode(self.payload()));
        assert_eq!(self.content_format(), Some(257));
        let ProblemDetails { title, detail } = ProblemDetails::decode(self.payload()).expect("problem details");
        (title.expect("a title"), detail)
    }

    /// This is an EDHOC error message. Returns what it says.
    #[track_caller]
    pub(crate) fn edhoc_error(&self) -> PeerError<'_> {
        assert_eq!((self.code().as_str(), self.content_format()), ("4.00", Some(64)));
        parse_error(self.payload()).expect("an EDHOC error message")
    }
}

/// Somebody with a key.
pub(crate) struct Visitor {
    pub(crate) key: PrivateKey,
    pub(crate) transfer: Transfer,
    pub(crate) from: Address,
}

/// A handshake after message_2, and the lengths of its messages.
pub(crate) struct Begun {
    pub(crate) pending: Pending,
    pub(crate) message_3: Message,
    pub(crate) lengths: [usize; 3],
    from: Address,
}

impl Visitor {
    /// Somebody on the cable with a key that nobody vouches for, and that was never seen before.
    pub(crate) fn stranger(device: &mut TestDevice) -> Self {
        Visitor { key: device.rng.key(), transfer: Transfer::ByValue, from: CABLE }
    }

    /// message_1, and the request that carries it.
    pub(crate) fn message_1(&self, device: &mut TestDevice) -> (Initiator, Request) {
        let c_i = ConnId::new(0x0e).unwrap();
        let (initiator, message_1) = Initiator::start(&self.key, c_i, &mut device.rng).unwrap();
        (initiator, edhoc(&[&[0xf5], &message_1[..]].concat()))
    }

    /// A handshake up to message_2. The device's key is looked up in `/comm`.
    pub(crate) fn begin(&self, device: &mut TestDevice) -> Begun {
        let info = DeviceInfo { ..device.server.device().info() };
        let known = PublicKey::from_cose(&info.credential.expect("a device in order")).unwrap();
        let (initiator, request) = self.message_1(device);
        let answer = device.ask_from(self.from, &request);
        assert_eq!(answer.expect("2.04").content_format(), Some(64));
        let approve = |id_cred: IdCred<'_>| (id_cred == IdCred::Kid(&known.kid())).then_some(known);
        let (pending, message_3) = initiator.finish(answer.payload(), self.transfer, approve).expect("message_2");
        let lengths = [request.0.payload.len() - 1, answer.payload().len(), message_3.len()];
        Begun { pending, message_3, lengths, from: self.from }
    }

    /// A whole handshake, with message_3 alone and message_4.
    pub(crate) fn connect(&self, device: &mut TestDevice) -> Session {
        let begun = self.begin(device);
        let answer = device.ask_from(self.from, &begun.message_3_alone());
        let message_4 = answer.expect("2.04").payload();
        let context = begun.pending.confirm(Some(message_4)).expect("message_4");
        Session { context, from: self.from }
    }
}

impl Begun {
    /// The request of a separate message_3: C_R stands before it.
    pub(crate) fn message_3_alone(&self) -> Request {
        edhoc(&[&[self.pending.c_r.byte()], &self.message_3[..]].concat())
    }

    /// The combined request: message_3 and `request` in one datagram. It is not sent.
    pub(crate) fn combined(self, device: &mut TestDevice, request: &Request) -> (Session, Vec<u8>, Correlation) {
        let mut context = self.pending.confirm(None).unwrap();
        let (mut outer, mut scratch) = (outer(&request.0), [0; 2048]);
        let correlation =
            context.protect_combined_request(&self.message_3, &request.0, &mut outer, &mut scratch).unwrap();
        let datagram = device.datagram(&outer);
        (Session { context, from: self.from }, datagram, correlation)
    }
}

fn edhoc(payload: &[u8]) -> Request {
    post("/.well-known/edhoc", payload).content_format(if payload[0] == 0xf5 { 64 } else { 65 })
}

/// An OSCORE context with a device.
pub(crate) struct Session {
    pub(crate) context: Context,
    pub(crate) from: Address,
}

impl Session {
    /// A request and its response, both protected.
    #[track_caller]
    pub(crate) fn ask(&mut self, device: &mut TestDevice, request: &Request) -> Response {
        let (datagram, correlation) = self.protect(device, request);
        let answer = device.receive(self.from, &datagram).expect("an answer");
        self.open(&answer, &correlation).unwrap_or_else(|error| panic!("{error}: {}", Response::parse(&answer).code()))
    }

    /// A protected request that is refused without protection.
    pub(crate) fn ask_in_vain(&mut self, device: &mut TestDevice, request: &Request) -> Response {
        let (datagram, correlation) = self.protect(device, request);
        let answer = device.receive(self.from, &datagram).expect("an answer");
        assert_eq!(self.open(&answer, &correlation).err(), Some(oscore::Error::NotProtected));
        Response::parse(&answer)
    }

    pub(crate) fn protect(&mut self, device: &mut TestDevice, request: &Request) -> (Vec<u8>, Correlation) {
        let (mut outer, mut scratch) = (outer(&request.0), [0; 2048]);
        let correlation = self.context.protect_request(&request.0, &mut outer, &mut scratch).unwrap();
        (device.datagram(&outer), correlation)
    }

    pub(crate) fn open(&self, answer: &[u8], correlation: &Correlation) -> Result<Response, oscore::Error> {
        let outer = Packet::from_bytes(answer).expect("a well-formed response");
        let mut buffer = [0; 2048];
        let inner = self.context.unprotect_response(&outer, &mut buffer, correlation)?;
        let mut packet = Packet::new();
        packet.header = outer.header.clone();
        packet.header.code = MessageClass::from(inner.code());
        packet.payload = inner.payload().to_vec();
        inner.options().for_each(|option| packet.add_option(option.number().into(), option.value().to_vec()));
        Ok(Response(packet))
    }
}

fn outer(inner: &Packet) -> Packet {
    let mut outer = Packet::new();
    outer.header.set_type(inner.header.get_type());
    outer
}
