//! Client and server of the conversation against each other, over a link that loses, doubles and reorders datagrams, in a time
//! of its own.

use std::{cmp::Reverse, collections::BinaryHeap};

use coap_message::{MinimalWritableMessage, ReadableMessage};
use coap_numbers::{code, option};
use edhoc_oscore::{
    coap::{Assembled, Assembly, Block, BlockSize, BodySlice, EchoKey, Message, MessageMut, NoSpace, is_path},
    conversation::{
        Source,
        client::{
            Client, Error, Observation, Request, Response, Sorted, Step, Timers, Transaction,
            session::{Handshake, Refused, Session, edhoc_message, edhoc_request},
        },
        server::{self, Incoming, Party, Reply, sessions::Shares},
    },
    edhoc::{self, Transfer},
    key::{PrivateKey, PublicKey},
};
use rand_core::{OsRng, RngCore};

const DATAGRAM: usize = 1152;
const BODY: usize = 4096;
/// A message is sent again as often as may be while it is remembered that it came before (EXCHANGE_LIFETIME).
const TIMERS: Timers = Timers { ack_timeout: 300, spread: 150, max_retransmit: 8, response: 60_000 };

/// Random numbers that are the same for the same seed (SplitMix64).
struct Dice(u64);

impl RngCore for Dice {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn fill_bytes(&mut self, dest: &mut [u8]) {
        dest.fill_with(|| self.next_u64() as u8);
    }
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl rand_core::CryptoRng for Dice {}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Address(u8);

impl Source for Address {
    fn is_line(&self) -> bool {
        false
    }
}

/// What is served: one resource that is written and read.
struct Application {
    own: PrivateKey,
    /// Whose kid is known.
    known: Vec<PublicKey>,
    dice: Dice,
    stored: Vec<u8>,
    gathering: Assembly<u32, BODY>,
    /// Bodies that were written.
    writes: u32,
    observers: Vec<Observer>,
}

struct Observer {
    session: u32,
    reply: Reply<Address>,
    sequence: u32,
}

impl Party for Application {
    fn keys(&mut self) -> Option<(&PrivateKey, impl FnOnce() -> PrivateKey)> {
        let Self { own, dice, .. } = self;
        Some((own, || PrivateKey::generate(dice)))
    }
    fn resolve(&mut self, kid: &[u8]) -> Option<PublicKey> {
        self.known.iter().find(|key| key.kid() == kid).copied()
    }
    fn is_known(&self, key: &PublicKey) -> bool {
        self.known.contains(key)
    }
    fn random(&mut self) -> u32 {
        self.dice.next_u32()
    }
}

#[derive(Default)]
struct Answer {
    code: u8,
    format: Option<u16>,
    body: Vec<u8>,
    requested: Option<Block>,
    block_1: Option<Block>,
    observe: Option<u32>,
}

impl Answer {
    fn write(&self, message: &mut MessageMut<'_>) -> Result<(), NoSpace> {
        let slice =
            BodySlice::new(&self.body, self.requested, BlockSize::fitting(256).unwrap()).map_err(|_| NoSpace)?;
        message.set_code(self.code);
        if let Some((_, etag)) = slice.block {
            message.add_option(option::ETAG, &etag).map_err(|_| NoSpace)?;
        }
        if self.observe.is_some() {
            message.add_option(option::OBSERVE, &[]).map_err(|_| NoSpace)?;
        }
        let values = [
            (option::CONTENT_FORMAT, self.format.map(u32::from)),
            (option::BLOCK2, slice.block.map(|(block, _)| block.encode())),
            (option::BLOCK1, self.block_1.map(Block::encode)),
        ];
        for (number, value) in values.into_iter().filter_map(|(number, value)| Some((number, value?))) {
            message.add_option_uint(number, value).map_err(|_| NoSpace)?;
        }
        message.set_payload(slice.payload).map_err(|_| NoSpace)
    }
}

impl Application {
    fn serve(&mut self, request: &Message<'_>, reply: &Reply<Address>) -> Answer {
        if reply.session() == 0 || !is_path("/stored", request) {
            return Answer { code: code::UNAUTHORIZED, ..Answer::default() };
        }
        if request.code() == code::GET {
            let requested = Block::of(request, option::BLOCK2).unwrap();
            let observe = reply.is_observe.then_some(1);
            return Answer { code: code::CONTENT, body: self.stored.clone(), requested, observe, ..Answer::default() };
        }
        match self.gathering.receive(reply.session(), request, BODY, BlockSize::fitting(128).unwrap()) {
            Ok(Assembled::Continue(block)) => {
                Answer { code: code::CONTINUE, block_1: Some(block), ..Answer::default() }
            }
            Ok(Assembled::Complete { body, block }) => {
                self.stored = body.to_vec();
                self.writes += 1;
                Answer { code: code::CHANGED, block_1: block, ..Answer::default() }
            }
            Err(error) => Answer { code: error.code(), ..Answer::default() },
        }
    }
}

type Conversations = server::Fixed<Address, 2, 4, 4, DATAGRAM>;

/// When it arrives, in which order it was sent, whether to the server, and what.
type UnderWay = (u64, u64, bool, Vec<u8>);

/// Client, server, and what is between them.
struct Pair {
    client: Client<DATAGRAM>,
    session: Option<Session>,
    server: Conversations,
    application: Application,
    now: u64,
    dice: Dice,
    faults: Faults,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    sent: u64,
    /// Where the client is.
    from: Address,
}

#[derive(Clone, Copy)]
struct Faults {
    /// Of 100 datagrams.
    lost: u32,
    doubled: u32,
    /// In milliseconds, at the most.
    delay: u64,
}

const NONE: Faults = Faults { lost: 0, doubled: 0, delay: 1 };

impl Pair {
    fn new(faults: Faults, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut server = Conversations::new(Shares { known: 3, strangers: 4 });
        server.seed(dice.next_u32() as u16, EchoKey::new([seed as u8; 16]));
        let application = Application {
            own: PrivateKey::generate(&mut dice),
            known: Vec::new(),
            dice: Dice(seed ^ 0xffff),
            stored: Vec::new(),
            gathering: Assembly::new(),
            writes: 0,
            observers: Vec::new(),
        };
        let client = Client::new(TIMERS, dice.next_u32() as u16);
        let under_way = BinaryHeap::new();
        Self { client, session: None, server, application, now: 0, dice, faults, under_way, sent: 0, from: Address(1) }
    }

    fn send(&mut self, to_server: bool, datagram: &[u8]) {
        let copies = match self.dice.next_u32() % 100 {
            roll if roll < self.faults.lost => 0,
            roll if roll < self.faults.lost + self.faults.doubled => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let at = self.now + 1 + self.dice.next_u64() % self.faults.delay;
            self.sent += 1;
            self.under_way.push(Reverse((at, self.sent, to_server, datagram.to_vec())));
        }
    }

    /// The server takes a datagram.
    fn serve(&mut self, datagram: &mut [u8]) {
        let mut out = [0; DATAGRAM];
        let Self { server, application, now, .. } = self;
        let len = match server.receive(self.from, datagram, *now, application, &mut out) {
            Incoming::Request(request, reply) if reply.session() == 0 && is_path("/.well-known/edhoc", &request) => {
                let mut body = [0; 256];
                let (code, len) = server.authenticate(self.from, request.payload(), application, &mut body);
                let answer =
                    Answer { code, format: (len > 0).then_some(64), body: body[..len].to_vec(), ..Answer::default() };
                server.answer(&reply, &mut out, &mut |message| answer.write(message))
            }
            Incoming::Request(request, reply) => {
                let answer = application.serve(&request, &reply);
                let len =
                    server.answer_observing(&reply, answer.observe, &mut out, &mut |message| answer.write(message));
                if answer.observe.is_some() {
                    application.observers.push(Observer { session: reply.session(), reply, sequence: 1 });
                }
                len
            }
            Incoming::Answer(len) => Some(len),
            Incoming::Acknowledged(_) | Incoming::Reset(_) | Incoming::Nothing => None,
        };
        if let Some(len) = len {
            self.send(false, &out[..len]);
        }
    }

    /// The next datagram for the client, if one comes until then.
    fn next_for_client(&mut self, until: u64) -> Option<Vec<u8>> {
        loop {
            match self.under_way.peek() {
                Some(Reverse((at, ..))) if *at <= until => {}
                _ => {
                    self.now = self.now.max(until);
                    return None;
                }
            }
            let Reverse((at, _, to_server, mut datagram)) = self.under_way.pop().unwrap();
            self.now = self.now.max(at);
            if !to_server {
                return Some(datagram);
            }
            self.serve(&mut datagram);
        }
    }

    /// A transaction from its beginning to its end.
    fn transact(&mut self, is_protected: bool, request: Request<'_>, body: &mut [u8]) -> Result<Response, Error> {
        self.observe(is_protected, request, body).map(|(response, _)| response)
    }

    fn observe(
        &mut self,
        is_protected: bool,
        request: Request<'_>,
        body: &mut [u8],
    ) -> Result<(Response, Option<Observation>), Error> {
        let (mut client, mut session) =
            (std::mem::replace(&mut self.client, Client::new(TIMERS, 0)), self.session.take());
        let mut dice = Dice(self.dice.next_u64());
        let over = session.as_mut().filter(|_| is_protected);
        let mut transaction = Transaction::new(&mut client, over, request, &mut dice, body, u64::MAX);
        loop {
            match transaction.poll(self.now) {
                Step::Send { datagram, .. } => self.send(true, datagram),
                Step::Wait { until } => {
                    if let Some(mut datagram) = self.next_for_client(until) {
                        transaction.receive(&mut datagram, self.now);
                    }
                }
                Step::Done => break,
            }
        }
        let observation = transaction.observation();
        let response = transaction.finish();
        (self.client, self.session) = (client, session);
        Ok((response?, observation))
    }

    /// A handshake with `own`, with message_3 alone or with the first request.
    fn connect(&mut self, own: &PrivateKey, transfer: Transfer, is_alone: bool) -> Result<(), edhoc::Error> {
        let mut body = [0; 512];
        let (handshake, message_1) = Handshake::start(own, true, &mut self.dice).unwrap();
        let response = self.transact(false, edhoc_request(&message_1), &mut body).unwrap();
        let message_2 = edhoc_message(&response, &body).expect("message_2");
        let server = *self.application.own.public();
        let authenticated = handshake.finish(message_2, transfer, |key| *key == server)?;
        self.session = Some(match is_alone {
            false => authenticated.session()?,
            true => {
                let message_3 = authenticated.message_3_alone()?;
                let response = self.transact(false, edhoc_request(&message_3), &mut body).unwrap();
                authenticated.confirm(edhoc_message(&response, &body).expect("message_4"))?
            }
        });
        Ok(())
    }

    fn notify(&mut self) {
        let mut out = [0; DATAGRAM];
        let Some(mut observer) = self.application.observers.pop() else { return };
        observer.sequence += 1;
        let (correlation, token) = (observer.reply.correlation().unwrap(), observer.reply.token());
        let body = self.application.stored.clone();
        let answer = Answer { code: code::CONTENT, body, observe: Some(observer.sequence), ..Answer::default() };
        let sequence = Some(observer.sequence);
        let notified = self
            .server
            .notify(observer.session, &correlation, token, sequence, &mut out, &mut |message| answer.write(message));
        let (_, len) = notified.expect("a session");
        self.send(false, &out[..len]);
        self.application.observers.push(observer);
    }
}

fn body(len: usize, seed: u64) -> Vec<u8> {
    (0..len).map(|at| (at as u64 * 7 + seed) as u8).collect()
}

fn key() -> PrivateKey {
    PrivateKey::generate(&mut OsRng)
}

/// Each way of a handshake, then bodies in blocks in both directions: nothing is lost, and nothing is done twice.
#[test]
fn whatever_the_link_does_each_request_is_served_once_and_answered() {
    for seed in 0..60 {
        let faults = Faults { lost: 15, doubled: 30, delay: [1, 500, 3_000][seed as usize % 3] };
        let mut pair = Pair::new(faults, seed);
        let own = key();
        let transfer = if seed % 2 == 0 { Transfer::ByValue } else { Transfer::ByKid };
        pair.application.known.push(*own.public());
        pair.connect(&own, transfer, seed % 4 < 2).unwrap();
        let mut room = [0; BODY];
        for number in 0..12_u64 {
            let sent = body([0, 1, 90, 700, 2_000, BODY][number as usize % 6], seed + number);
            let response = pair.transact(true, Request::put("/stored", 60, &sent), &mut room).unwrap();
            assert_eq!((response.code, response.len), (code::CHANGED, 0), "seed {seed}");
            assert_eq!(u64::from(pair.application.writes), number + 1, "seed {seed}");
            let response = pair.transact(true, Request::get("/stored"), &mut room).unwrap();
            assert_eq!((response.code, &room[..response.len]), (code::CONTENT, &sent[..]), "seed {seed}");
        }
        assert!(pair.session.as_ref().unwrap().is_confirmed());
    }
}

#[test]
fn without_an_answer_the_client_gives_up_after_its_time() {
    let mut pair = Pair::new(Faults { lost: 100, ..NONE }, 1);
    let timers = Timers { ack_timeout: 1_000, spread: 0, max_retransmit: 4, response: 5_000 };
    pair.client.set_timers(timers);
    assert_eq!(pair.transact(false, Request::get("/stored"), &mut []), Err(Error::NoAnswer));
    assert_eq!(pair.now, 1_000 * 31);
    assert_eq!(pair.sent, 0);
}

/// Loses the first answer: a server that executed the request again would write twice.
#[test]
fn a_lost_answer_is_given_again_and_not_made_again() {
    let mut pair = Pair::new(NONE, 3);
    pair.connect(&key(), Transfer::ByValue, false).unwrap();
    let mut client = std::mem::replace(&mut pair.client, Client::new(TIMERS, 0));
    let mut session = pair.session.take().unwrap();
    let (mut dice, mut room) = (Dice(5), [0; 64]);
    let request = Request::put("/stored", 60, b"once");
    let mut transaction = Transaction::new(&mut client, Some(&mut session), request, &mut dice, &mut room, u64::MAX);
    let mut lost = 0;
    loop {
        match transaction.poll(pair.now) {
            Step::Send { datagram, .. } => pair.send(true, datagram),
            Step::Wait { until } => match pair.next_for_client(until) {
                Some(_) if lost < 3 => lost += 1,
                Some(mut datagram) => drop(transaction.receive(&mut datagram, pair.now)),
                None => {}
            },
            Step::Done => break,
        }
    }
    assert_eq!(transaction.finish().unwrap().code, code::CHANGED);
    assert_eq!((lost, pair.application.writes), (3, 1));
}

#[test]
fn a_refused_credential_and_a_forgotten_session_are_told_apart() {
    let (mut pair, mut room) = (Pair::new(NONE, 4), [0; 512]);
    // Nobody vouches for the kid.
    pair.connect(&key(), Transfer::ByKid, false).unwrap();
    let Err(Error::Unprotected(response)) = pair.transact(true, Request::get("/stored"), &mut room) else {
        panic!("it is refused")
    };
    assert!(matches!(Refused::of_message_3(&response, &room), Refused::Peer(_)));
    // The server restarted.
    pair.connect(&key(), Transfer::ByValue, false).unwrap();
    pair.transact(true, Request::get("/stored"), &mut room).unwrap();
    pair.server.sessions().clear();
    let Err(Error::Unprotected(response)) = pair.transact(true, Request::get("/stored"), &mut room) else {
        panic!("there is no context")
    };
    assert_eq!(response.code, code::UNAUTHORIZED);
    assert_eq!(Refused::of_request(&response, &room), Refused::Unprotected);
    // It has no handshake of ours either: others' took its place.
    pair.connect(&key(), Transfer::ByValue, false).unwrap();
    pair.server.sessions().clear();
    let Err(Error::Unprotected(response)) = pair.transact(true, Request::get("/stored"), &mut room) else {
        panic!("there is no handshake")
    };
    assert_eq!(Refused::of_message_3(&response, &room), Refused::Busy);
}

#[test]
fn a_peer_at_another_address_proves_it_with_an_echo_option() {
    let (mut pair, mut room) = (Pair::new(NONE, 5), [0; 512]);
    pair.connect(&key(), Transfer::ByValue, true).unwrap();
    pair.transact(true, Request::put("/stored", 60, b"here"), &mut room).unwrap();
    pair.from = Address(2);
    let before = pair.sent;
    pair.transact(true, Request::put("/stored", 60, b"there"), &mut room).unwrap();
    assert_eq!((pair.sent - before, pair.application.writes), (4, 2), "asked for an Echo option, and then served");
    let before = pair.sent;
    pair.transact(true, Request::put("/stored", 60, b"there"), &mut room).unwrap();
    assert_eq!(pair.sent - before, 2, "now it is at home there");
}

#[test]
fn an_observer_is_told_in_order_and_acknowledges() {
    let (mut pair, mut room) = (Pair::new(NONE, 6), [0; 512]);
    pair.connect(&key(), Transfer::ByValue, false).unwrap();
    let request = Request { observe: Some(0), ..Request::get("/stored") };
    let (response, observation) = pair.observe(true, request, &mut room).unwrap();
    assert_eq!(response.observe, Some(1));
    let mut observation = observation.expect("an observation");
    let mut told = Vec::new();
    for text in [b"one", b"two"] {
        pair.application.stored = text.to_vec();
        pair.notify();
        told.push(pair.next_for_client(pair.now + 10).expect("a notification"));
    }
    // The newer one comes first, and twice; the older one is of no use then.
    for (at, expected) in [(1, Some(&b"two"[..])), (1, None), (0, None)] {
        let mut datagram = told[at].clone();
        let Pair { client, session, now, .. } = &mut pair;
        let taken = observation.take(client, session.as_mut(), &mut datagram, &mut room, *now).unwrap();
        assert_eq!(taken.map(|response| (response.observe, &room[..response.len])), expected.map(|it| (Some(3), it)));
        let Step::Send { datagram: reply, .. } = client.poll(*now) else { panic!("no acknowledgement") };
        assert_eq!(reply, [0x60, 0, told[at][2], told[at][3]]);
        assert_eq!(client.poll(*now), Step::Done);
    }
}

#[test]
fn a_ping_is_answered_and_pings_before_it_may_be() {
    let mut pair = Pair::new(NONE, 7);
    pair.client.ping(false, &mut Dice(1));
    let ping = |pair: &mut Pair| match pair.client.poll(pair.now) {
        Step::Send { datagram, .. } => datagram.to_vec(),
        step => panic!("{step:?}"),
    };
    let first = ping(&mut pair);
    pair.client.ping(true, &mut Dice(2));
    let second = ping(&mut pair);
    assert_ne!(first[2..], second[2..]);
    let reset = |ping: &[u8]| [0x70, 0, ping[2], ping[3]];
    assert_eq!(pair.client.receive(&[0x70, 0, !second[2], second[3]], 0), Sorted::Nothing);
    assert_eq!(pair.client.receive(&reset(&first), 0), Sorted::Reset);
    assert_eq!(pair.client.receive(&reset(&second), 0), Sorted::Reset);
    // What the peer asks is none of our business, and it is told so.
    assert_eq!(pair.client.receive(&[0x40, 1, 0x12, 0x34], 0), Sorted::Nothing);
    assert!(matches!(pair.client.poll(0), Step::Send { datagram: [0x70, 0, 0x12, 0x34], .. }));
}
