//! Each side of the conversation by itself, with a peer that knows the keys and says what it likes.

use coap_message::{MinimalWritableMessage as _, ReadableMessage};
use coap_message_implementations::inmemory::{Message, MessageMut};
use end_to_end::one_process::Dice;
use protocol::{
    coap::{Datagram, Header, NoSpace, Token, Type, Writer, is_path},
    conversation::{
        Source,
        client::{
            Client, Request, Step, Timers, Transaction,
            session::{Handshake, Session},
        },
        server::{self, Incoming, Party, sessions::Shares},
    },
    edhoc::{ConnId, Initiator, Responder, Transfer},
    key::{PrivateKey, PublicKey},
    oscore::{Context, OptionValue, split_combined_mut},
};
use rand_core::RngCore as _;

use crate::{
    Seeds,
    bench::{next_piece, owner, piece},
};

const DATAGRAM: usize = 1152;
/// No time passes, so nothing is sent twice.
const TIMERS: Timers = Timers { ack_timeout: 1, spread: 0, max_retransmit: 0, response: 1 };

/// What stands before each piece: the datagram is as it is.
const RAW: u8 = 0;
/// Message ID and token are those of the request.
const FITTING: u8 = 1;
/// Code, options and payload, under OSCORE.
const PROTECTED: u8 = 2;

/// The pieces of the input, each with a byte and its length in front.
fn pieces(mut input: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut pieces = Vec::new();
    while let Some((kind, more)) = input.split_first()
        && let Some((bytes, behind)) = next_piece(more)
    {
        pieces.push((kind % 3, bytes.to_vec()));
        input = behind;
    }
    pieces
}

fn joined(pieces: &[(u8, &[u8])]) -> Vec<u8> {
    pieces.iter().flat_map(|(kind, bytes)| [&[*kind], &piece(bytes)[..]].concat()).collect()
}

/// A session, and the context of the other end, which waits for message_3.
fn session() -> (Session, Responder) {
    let own = PrivateKey::generate(&mut Dice(40));
    let (handshake, message_1) = Handshake::start(&own, true, &mut Dice(41)).expect("it starts");
    let c_r = ConnId::new(2).expect("a connection identifier");
    let (responder, message_2) = Responder::start(&message_1[1..], &owner(), c_r, &mut Dice(42)).expect("it answers");
    let authenticated = handshake.finish(&message_2, Transfer::ByValue, |_| true).expect("it is the owner");
    (authenticated.session().expect("a session"), responder)
}

/// Answers to two requests in a session: whatever comes, each transaction ends, and what it writes fits its buffer.
pub(crate) fn client(input: &[u8]) -> bool {
    let (mut session, responder) = session();
    let mut peer = Peer { responder: Some(responder), context: None };
    let (mut client, mut rng, mut body) = (Client::<DATAGRAM>::new(TIMERS, 7), Dice(43), [0; 2048]);
    let mut answers = pieces(input).into_iter();
    let mut served = 0;
    for request in [Request::get("/comm"), Request::put("/comm/owner", 60, &[7; 2000])] {
        let mut transaction = Transaction::new(&mut client, Some(&mut session), request, &mut rng, &mut body, u64::MAX);
        while let Step::Send { datagram, .. } = transaction.poll(0) {
            let Some((kind, bytes)) = answers.next() else { break };
            if let Some(mut answer) = peer.answer(datagram, kind, &bytes) {
                transaction.receive(&mut answer, 0);
            }
        }
        if let Ok(response) = transaction.finish() {
            assert!(response.len <= body.len() && session.is_confirmed());
            served += 1;
        }
    }
    served == 2
}

/// The other end, which holds its key.
struct Peer {
    responder: Option<Responder>,
    context: Option<Context>,
}

impl Peer {
    fn answer(&mut self, datagram: &[u8], kind: u8, bytes: &[u8]) -> Option<Vec<u8>> {
        let parsed = Datagram::parse(datagram).ok()?;
        let header = Header { type_: Type::Ack, code: 0x44, ..parsed.header };
        match kind {
            RAW => Some(bytes.to_vec()),
            FITTING => {
                let (code, tail) = bytes.split_first()?;
                Some(datagram_of(&Header { code: *code, ..header }, tail))
            }
            _ => {
                let option = OptionValue::of(&parsed.message()).ok()?;
                let mut payload = parsed.message().payload().to_vec();
                let mut ciphertext = &mut payload[..];
                if let Some(responder) = self.responder.take() {
                    let (message_3, behind) = split_combined_mut(ciphertext)?;
                    self.context = Some(responder.finish(message_3, |_| None, false).ok()?.context);
                    ciphertext = behind;
                }
                let context = self.context.as_mut()?;
                let (_, correlation) = context.open_request(&option, ciphertext).ok()?;
                let (code, tail) = bytes.split_first()?;
                let (mut outer_code, mut outer, mut scratch) = (0, [0; 4096], [0; 4096]);
                let mut message = MessageMut::new_in_slice(&mut outer_code, &mut outer);
                let inner = Message::new_from_slice(*code, tail);
                // What cannot be protected is not sent.
                context.protect_response(&inner, &mut message, &mut scratch, &correlation).ok()?;
                let len = message.finish().0;
                Some(datagram_of(&header, &outer[..len]))
            }
        }
    }
}

fn datagram_of(header: &Header, tail: &[u8]) -> Vec<u8> {
    let mut head = [0; 16];
    let len = Writer::new(&mut head, header).and_then(|writer| writer.finish(0)).expect("a header");
    [&head[..len], tail].concat()
}

pub(crate) fn client_seeds() -> Seeds {
    let info: (u8, &[u8]) = (PROTECTED, b"\x45\xc1\x3c\xff\xa1\x00\x02");
    // The first block is taken, and the second is the last one that is asked for: 2.31 with Block1, then 2.04.
    let accepted = joined(&[info, (PROTECTED, b"\x5f\xd1\x0e\x0e"), (PROTECTED, b"\x44\xd1\x0e\x16")]);
    let others: [&[(u8, &[u8])]; 4] = [
        &[(RAW, b"\x60\x00\x00\x08"), info],
        &[(FITTING, b"\x81\xc2\x01\x01\xff\xa1\x20\x61x")],
        &[(PROTECTED, b"\x81\xd8\xefechoecho"), info],
        &[(PROTECTED, b"\x45\x44etag\xd1\x0a\x0a\xff0123456789abcdef"), (PROTECTED, b"\x45\x44etag\xd1\x0a\x12\xffx")],
    ];
    Seeds { accepted: vec![accepted], others: others.map(joined).to_vec() }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Address(u8);

impl Source for Address {
    fn is_line(&self) -> bool {
        self.0 == 0
    }
}

struct Server {
    own: PrivateKey,
    known: PublicKey,
    dice: Dice,
}

impl Party for Server {
    fn keys(&mut self) -> Option<(&PrivateKey, impl FnOnce() -> PrivateKey)> {
        let Self { own, dice, .. } = self;
        Some((own, || PrivateKey::generate(dice)))
    }
    fn resolve(&mut self, kid: &[u8]) -> Option<PublicKey> {
        Some(self.known).filter(|known| known.kid() == kid)
    }
    fn is_known(&self, key: &PublicKey) -> bool {
        *key == self.known
    }
    fn random(&mut self) -> u32 {
        self.dice.next_u32()
    }
}

/// A server that answers every request that gets through with 2.05.
struct Served {
    party: Server,
    conversations: server::Fixed<Address, 2, 2, 2, DATAGRAM>,
}

impl Served {
    /// The server, and the context of a client that it knows.
    fn start() -> (Self, Context) {
        let client = PrivateKey::generate(&mut Dice(50));
        let party = Server { own: owner(), known: *client.public(), dice: Dice(51) };
        let conversations = server::Fixed::new(Shares { known: 1, strangers: 1 });
        let mut this = Self { party, conversations };
        let c_i = ConnId::new(0).expect("a connection identifier");
        let (initiator, message_1) = Initiator::start(&client, c_i, &mut Dice(52)).expect("it starts");
        let message_2 = this.authenticate(0xf5, &message_1);
        let known = initiator.finish(&message_2, Transfer::ByKid, |_| Some(*owner().public()));
        let (pending, message_3) = known.expect("it is the owner");
        this.authenticate(pending.c_r.byte(), &message_3);
        (this, pending.confirm(None).expect("a context"))
    }

    fn authenticate(&mut self, before: u8, message: &[u8]) -> Vec<u8> {
        let (mut out, posted) = ([0; 256], [&[before], message].concat());
        let (code, len) = self.conversations.authenticate(Address(0), &posted, &mut self.party, &mut out);
        assert_eq!(code, 0x44, "it is as it should be");
        out[..len].to_vec()
    }

    /// Whether the answer is a success.
    fn receive(&mut self, from: Address, datagram: &mut [u8]) -> bool {
        let mut out = [0; DATAGRAM];
        let Self { party, conversations } = self;
        let len = match conversations.receive(from, datagram, 0, party, &mut out) {
            Incoming::Request(request, reply) => {
                let mut body = [0; 256];
                let (code, len) = match is_path("/.well-known/edhoc", &request) {
                    true => conversations.authenticate(from, request.payload(), party, &mut body),
                    false => (0x45, 0),
                };
                conversations.answer(&reply, &mut out, &mut |message| {
                    message.set_code(code);
                    message.set_payload(&body[..len]).map_err(|_| NoSpace)
                })
            }
            Incoming::Answer(len) => Some(len),
            Incoming::Acknowledged(_) | Incoming::Reset(_) | Incoming::Nothing => None,
        };
        len.is_some_and(|len| Datagram::parse(&out[..len]).expect("it is CoAP").header.code >> 5 == 2)
    }
}

/// Datagrams to a server from two addresses, and requests under OSCORE from one of them, which has a session that goes on
/// whatever comes.
pub(crate) fn server(input: &[u8]) -> bool {
    let (mut server, mut context) = Served::start();
    let mut is_served = true;
    for (kind, mut bytes) in pieces(input) {
        is_served &= match kind {
            RAW => server.receive(Address(1), &mut bytes),
            FITTING => server.receive(Address(0), &mut bytes),
            _ => protected(&mut context, &bytes).is_some_and(|mut request| server.receive(Address(0), &mut request)),
        };
    }
    let mut request = protected(&mut context, b"\x01").expect("it fits");
    assert!(server.receive(Address(0), &mut request), "the session is over");
    is_served
}

/// A request with this code, options and payload.
fn protected(context: &mut Context, bytes: &[u8]) -> Option<Vec<u8>> {
    let (code, tail) = bytes.split_first()?;
    let (mut outer_code, mut outer, mut scratch) = (0, [0; 4096], [0; 4096]);
    let mut message = MessageMut::new_in_slice(&mut outer_code, &mut outer);
    let inner = Message::new_from_slice(*code, tail);
    context.protect_request(&inner, &mut message, &mut scratch).ok()?;
    let len = message.finish().0;
    let message_id = OptionValue::of(&Message::new_from_slice(outer_code, &outer[..len])).ok()?.partial_iv?.sequence();
    let header = Header { type_: Type::Con, code: outer_code, message_id: message_id as u16, token: Token::EMPTY };
    Some(datagram_of(&header, &outer[..len]))
}

pub(crate) fn server_seeds() -> Seeds {
    let get: (u8, &[u8]) = (PROTECTED, b"\x01\xb4comm");
    let plain: (u8, &[u8]) = (FITTING, b"\x41\x01\x00\x03t\xb4comm");
    let others: [&[(u8, &[u8])]; 4] = [
        &[(RAW, b"\x40\x00\x00\x07"), get],
        &[(RAW, b"\x41\x05\x00\x05t\x60\x33\x09\x00\x05\xff0123456789abcdef")],
        &[(FITTING, b"\x41\x02\x00\x02t\xbb.well-known\x05edhoc\xff\xf5\x03\x02\x58\x20")],
        &[(PROTECTED, b"\x05\x60\x51a\xff")],
    ];
    Seeds { accepted: vec![joined(&[get]), joined(&[get, plain, get])], others: others.map(joined).to_vec() }
}
