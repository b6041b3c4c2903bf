//! What reaches the commissioner.

use std::{collections::VecDeque, future::pending, net::SocketAddr};

use cbor_schemas::DeviceInfo;
use coap_message_implementations::inmemory::{Message, MessageMut};
use commissioner::{
    client::{Client, Request, Timers},
    link::{Datagram, Datagrams, Io},
    serve::{Server, revocations::Revocations},
    visit::{Account, Visit},
};
use end_to_end::one_process::{Dice, quiet};
use protocol::{
    coap::{Datagram as CoapDatagram, Header, Type},
    edhoc::{self, ConnId, Initiator, Responder, Transfer, parse_error},
    key::PrivateKey,
    oscore::{Context, OptionValue, split_combined_mut},
};

use crate::{
    Seeds,
    bench::{Bench, State, Talks, encoded, next_piece, owner, piece},
    recording::recordings,
};

/// message_2, or an EDHOC error message, to an initiator.
pub(crate) fn initiator(input: &[u8]) -> bool {
    let _ = parse_error(input);
    let (initiator, _) = start_initiator();
    let finished = initiator.finish(input, Transfer::ByValue, |_| Some(*owner().public()));
    assert!(finished.is_err() || message_2() == input, "nobody holds the key for that");
    finished.is_ok()
}

fn start_initiator() -> (Initiator, edhoc::Message) {
    let c_i = ConnId::new(0).expect("a connection identifier");
    Initiator::start(&PrivateKey::generate(&mut Dice(20)), c_i, &mut Dice(21)).expect("it starts")
}

/// The answer of whom the initiator expects.
fn message_2() -> edhoc::Message {
    let c_r = ConnId::new(2).expect("a connection identifier");
    Responder::start(&start_initiator().1, &owner(), c_r, &mut Dice(24)).expect("it answers").1
}

pub(crate) fn initiator_seeds() -> Seeds {
    let others: [&[u8]; 3] = [b"\x01\x65hello", b"\x02\x82\x02\x03", b"\x02\x02"];
    Seeds { accepted: vec![message_2().to_vec()], others: others.map(<[u8]>::to_vec).to_vec() }
}

/// Datagrams to a client that reads `/comm` and then visits the device as a stranger. Each has a byte and its length in
/// front: after an odd one, the Message ID and the token fit. Whatever comes, the client ends.
pub(crate) fn client(mut input: &[u8]) -> bool {
    let mut answers = VecDeque::new();
    while let Some((fits, more)) = input.split_first()
        && let Some((datagram, behind)) = next_piece(more)
    {
        answers.push_back((fits % 2 == 1, datagram.to_vec()));
        input = behind;
    }
    on_paused_clock(async {
        let mut client = Client::new(Box::new(Answers { answers, sent: Vec::new() }), Timers::NETWORK);
        let account = Account::read(&mut client).await;
        if let Ok(account) = &account {
            let visit = Visit::stranger(&mut client, account, &quiet()).await;
            assert!(visit.is_err(), "nobody holds the key for that");
        }
        let _ = client.ping().await;
        account.is_ok()
    })
}

pub(crate) fn client_seeds() -> Seeds {
    let others: [&[u8]; 5] = [
        b"\x64\x45\x00\x00\x01\x02\x03\x04\xc1\x3c\xff\xa0",
        b"\x60\x00\x00\x00",
        b"\x44\x84\x12\x34\x01\x02\x03\x04\xc2\x01\x01\xff\xa1\x20\x61x",
        b"\x64\x45\x00\x00\x01\x02\x03\x04\x44abcd\x81\x3c\xb1\x0c\xff0123456789abcdef",
        b"\x70\x00\x00\x00",
    ];
    let fitting = |answer: &[u8]| [&[1], &piece(answer)[..]].concat();
    let recorded = |recording: &crate::Recording| recording.answers().flat_map(fitting).collect();
    Seeds {
        accepted: recordings().iter().map(recorded).collect(),
        others: others.iter().map(|answer| fitting(answer)).collect(),
    }
}

/// Datagrams to `commissioner serve`, each with a byte for the address that it comes from, and its length, in front.
pub(crate) fn server(mut input: &[u8]) -> bool {
    let mut server = Server::new(owner(), Revocations::default());
    let (mut now, mut answered) = (0, false);
    while let Some((from, more)) = input.split_first()
        && let Some((datagram, behind)) = next_piece(more)
    {
        let from = SocketAddr::from(([127, 0, 0, 1], u16::from(*from)));
        for (to, answer) in server.receive(from, datagram, now) {
            assert_eq!(to, from, "nobody else has asked for anything");
            let answer = CoapDatagram::parse(&answer).expect("it is CoAP");
            answered |= answer.header.code >> 5 == 2;
        }
        now += 100;
        assert!(server.poll(now).is_empty() && server.observers() == 0, "nobody is registered");
        input = behind;
    }
    answered
}

pub(crate) fn server_seeds() -> Seeds {
    let datagram = |message: &[u8]| [&[1], &piece(message)[..]].concat();
    let core = datagram(b"\x41\x01\x00\x01t\xbb.well-known\x04core");
    let message_1 = start_initiator().1;
    let edhoc = [b"\x41\x02\x00\x02t\xbb.well-known\x05edhoc\xff\xf5", &message_1[..]].concat();
    let others: [&[u8]; 5] = [
        b"\x40\x00\x00\x07",
        b"\x41\x01\x00\x03t\xb4list",
        b"\x41\x01\x00\x04t\x60\x56revoke\x03trl",
        b"\x41\x05\x00\x05t\x60\x33\x09\x00\x05\xff0123456789abcdef",
        b"\x70\x00\x00\x01",
    ];
    Seeds {
        // Who has not proved its address is not told the resources, which takes more than three times the bytes.
        accepted: vec![datagram(&edhoc), [core.clone(), datagram(&edhoc)].concat()],
        others: others.iter().map(|message| datagram(message)).chain([core]).collect(),
    }
}

/// What a device may answer under OSCORE, where nobody else can meddle: to `GET /comm`, and then to `GET /comm/owner`.
/// Code, options and payload of each answer have their length in front.
pub(crate) fn protected_answers(mut input: &[u8]) -> bool {
    let mut answers = VecDeque::new();
    while let Some((answer, behind)) = next_piece(input) {
        answers.push_back(answer.to_vec());
        input = behind;
    }
    let device = HostileDevice { answers, responder: None, context: None, reply: None };
    on_paused_clock(async {
        let mut client = Client::new(Box::new(device), Timers::NETWORK);
        let account = Account::read(&mut client).await.expect("that is as it should be");
        let Ok(mut visit) = Visit::stranger(&mut client, &account, &quiet()).await else { return false };
        visit.request(&Request::get("/comm/owner")).await.is_ok()
    })
}

pub(crate) fn protected_answer_seeds() -> Seeds {
    let comm = comm();
    let info = &comm[4..];
    let block = |number: u8, more: u8, bytes: &[u8]| {
        [b"\x45\x44etag\x81\x3c\xb1", &[number << 4 | more << 3 | 2][..], b"\xff", bytes].concat()
    };
    let blocks: Vec<_> = info
        .chunks(64)
        .zip(0..)
        .flat_map(|(bytes, number)| piece(&block(number, u8::from((usize::from(number) + 1) * 64 < info.len()), bytes)))
        .collect();
    let view: &[u8] = b"\x45\xc1\x3c\xff\xa1\x00\x02";
    let refusal: &[u8] = b"\x81\xc2\x01\x01\xff\xa1\x20\x61x";
    Seeds {
        accepted: vec![
            [piece(&comm), piece(view)].concat(),
            [piece(&comm), piece(refusal)].concat(),
            [blocks, piece(view)].concat(),
        ],
        others: vec![piece(refusal), piece(view), piece(b"\x01\xb4comm"), piece(&block(3, 1, b"x"))],
    }
}

fn on_paused_clock<T>(job: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(job)
}

/// A link that has its answers ready.
struct Answers {
    answers: VecDeque<(bool, Vec<u8>)>,
    sent: Vec<u8>,
}

impl Datagrams for Answers {
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> Io<'a, usize> {
        self.sent = datagram.to_vec();
        Box::pin(async move { Ok(datagram.len()) })
    }

    fn receive(&mut self) -> Io<'_, Datagram> {
        Box::pin(async move {
            let Some((fits, mut bytes)) = self.answers.pop_front() else { return pending().await };
            if fits {
                // Message ID and token of what was sent last, as far as there is room for them.
                for at in [2, 3, 4, 5, 6, 7] {
                    if let (Some(to), Some(from)) = (bytes.get_mut(at), self.sent.get(at)) {
                        *to = *from;
                    }
                }
            }
            Ok(Datagram { line_bytes: bytes.len(), bytes })
        })
    }
}

/// A certified device that holds its key and goes through the handshake, and then answers whatever it likes.
struct HostileDevice {
    answers: VecDeque<Vec<u8>>,
    responder: Option<Responder>,
    context: Option<Context>,
    reply: Option<Vec<u8>>,
}

impl HostileDevice {
    /// The answer to a datagram of the commissioner, if it is a request.
    fn answer(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = datagram.to_vec();
        let parsed = CoapDatagram::parse(datagram).ok().filter(|parsed| parsed.header.type_ == Type::Con)?;
        let message = parsed.message();
        let header = Header { type_: Type::Ack, code: 0x44, ..parsed.header };
        let payload = bytes.len() - parsed.payload_length();
        let payload = &mut bytes[payload..];
        if let Ok(option) = OptionValue::of(&message) {
            return self.answer_protected(&header, &option, payload);
        }
        match edhoc::Request::parse(payload) {
            Ok(edhoc::Request::Message1(message_1)) => {
                let c_r = ConnId::new(2).expect("a connection identifier");
                let (responder, message_2) = Responder::start(message_1, &owner(), c_r, &mut Dice(30)).ok()?;
                self.responder = Some(responder);
                Some(datagram_of(&header, &[b"\xc1\x40\xff", &message_2[..]].concat()))
            }
            _ => Some(datagram_of(&Header { code: 0x45, ..header }, &comm()[1..])),
        }
    }

    fn answer_protected(&mut self, header: &Header, option: &OptionValue, payload: &mut [u8]) -> Option<Vec<u8>> {
        let ciphertext = match self.responder.take() {
            None => payload,
            Some(responder) => {
                let (message_3, ciphertext) = split_combined_mut(payload)?;
                let established = responder.finish(message_3, |_| None, false).ok()?;
                self.context = Some(established.context);
                ciphertext
            }
        };
        let context = self.context.as_mut()?;
        let (_, correlation) = context.open_request(option, ciphertext).ok()?;
        let answer = self.answers.pop_front()?;
        let (code, tail) = answer.split_first()?;
        let (mut outer_code, mut outer, mut scratch) = (0, [0; 2048], [0; 2048]);
        let mut message = MessageMut::new_in_slice(&mut outer_code, &mut outer);
        let inner = Message::new_from_slice(*code, tail);
        // What cannot be protected is not sent.
        context.protect_response(&inner, &mut message, &mut scratch, &correlation).ok()?;
        let len = message.finish().0;
        Some(datagram_of(header, &outer[..len]))
    }
}

impl Datagrams for HostileDevice {
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> Io<'a, usize> {
        self.reply = self.answer(datagram);
        Box::pin(async move { Ok(datagram.len()) })
    }

    fn receive(&mut self) -> Io<'_, Datagram> {
        Box::pin(async move {
            match self.reply.take() {
                Some(bytes) => Ok(Datagram { line_bytes: bytes.len(), bytes }),
                None => pending().await,
            }
        })
    }
}

/// What that device says of itself: code, options and payload.
fn comm() -> Vec<u8> {
    let info = DeviceInfo { credential: Some(owner().public().cose_key()), ..Bench::start(State::Certified).info() };
    [b"\x45\xc1\x3c\xff", &encoded(|out| info.encode(out))[..]].concat()
}

/// An answer with these options and this payload.
fn datagram_of(header: &Header, tail: &[u8]) -> Vec<u8> {
    let token = header.token.as_slice();
    let [high, low] = header.message_id.to_be_bytes();
    [&[0x60 | token.len() as u8, header.code, high, low], token, tail].concat()
}
