//! A CoAP server for a network of devices: the signed list for anyone, and the token revocation list (RFC 9770) for registered
//! devices, under EDHOC and OSCORE, to be observed (RFC 7641).
//!
//! No I/O and no clock in here: datagrams go in and come out, and `now` is an argument. What is told is a [`Revocations`],
//! which the caller reads from the registry, and reads anew when that has changed.
//!
//! Strangers can make handshakes and contexts, at a bounded rate. They displace each other; a context of a registered
//! device gives way to nothing but another such context.

pub mod revocations;

use coap_message::{MinimalWritableMessage, ReadableMessage};
use coap_numbers::{code, option};
use protocol::coap::{
    Block, BlockSize, BodySlice, EchoKey, Message, MessageMut, NoSpace, Token, is_path, option_refusal, uint_option,
    unsupported_option,
};
use protocol::conversation::Source;
use protocol::conversation::server::sessions::{Handshake, Places, Session, Shares};
use protocol::conversation::server::{self as conversation, Incoming, Party, Reply};
use protocol::edhoc;
use protocol::key::{PrivateKey, PublicKey};
use protocol::oscore::Correlation;
use rand_core::{OsRng, RngCore};

use crate::client::content_format;
use crate::link::MAX_DATAGRAM;
use revocations::Revocations;

/// The resource of the signed list.
pub const LIST: &str = "/list";
/// The resource of the token revocation list, with the name that RFC 9770 uses.
pub const TRL: &str = "/revoke/trl";

/// Resources, with their method and the content format of their answers.
const RESOURCES: [(Resource, &str, u8, u16); 4] = [
    (Resource::Core, "/.well-known/core", code::GET, content_format::LINK_FORMAT),
    (Resource::Edhoc, "/.well-known/edhoc", code::POST, content_format::EDHOC),
    (Resource::List, LIST, code::GET, content_format::CWT),
    (Resource::Trl, TRL, code::GET, content_format::ACE_TRL),
];
const LINKS: &str = "</list>;rt=\"comm.list\";ct=61,</revoke/trl>;rt=\"comm.trl\";ct=262;obs,\
                     </.well-known/edhoc>;rt=\"core.edhoc\"";
/// Critical options that are understood.
const OPTIONS: &[u16] =
    &[option::URI_HOST, option::URI_PORT, option::URI_PATH, option::URI_QUERY, option::ACCEPT, option::BLOCK2];
/// Answers kept for requests that come again.
const ANSWERS: usize = 64;
/// Handshakes that wait for message_3, one per address.
const HANDSHAKES: usize = 256;
/// Contexts of registered devices, and of others.
const SESSIONS: usize = 4096;
const STRANGERS: usize = 64;
/// New handshakes a second, and at once: each is a key generation and two ECDH.
const HANDSHAKES_A_SECOND: u64 = 200;
/// RFC 7252 section 4.8: ACK_TIMEOUT, up to 1.5 times that, and MAX_RETRANSMIT.
const ACK_TIMEOUT_MS: u64 = 2_000;
const MAX_RETRANSMIT: u32 = 4;
/// How long an observer is left without a message at most: a confirmable one shows whether it is still there (RFC 7641
/// section 4.5 asks for one each 24 hours).
const HEARTBEAT_MS: u64 = 12 * 60 * 60 * 1000;

/// The conversations with all peers; what is remembered of them is on the heap.
type Conversations<A> = conversation::Server<
    A,
    Heap<Handshake<A>, HANDSHAKES>,
    Heap<Session<A>, { SESSIONS + STRANGERS }>,
    ANSWERS,
    MAX_DATAGRAM,
>;

/// The server. `A` is the address of a peer.
pub struct Server<A> {
    station: Station,
    conversations: Box<Conversations<A>>,
    /// One for each session at most.
    observers: Vec<Observer<A>>,
    /// Handshakes that may begin, and since when that is so.
    allowance: (u64, u64),
}

/// Who serves, and what is told.
struct Station {
    own: PrivateKey,
    revocations: Revocations,
    /// The session that gave way to another one just now.
    ended: Option<u32>,
}

impl Party for Station {
    fn keys(&mut self) -> Option<(&PrivateKey, impl FnOnce() -> PrivateKey)> {
        Some((&self.own, || PrivateKey::generate(&mut OsRng)))
    }

    fn resolve(&mut self, kid: &[u8]) -> Option<PublicKey> {
        self.revocations.key_of(kid)
    }

    fn is_known(&self, key: &PublicKey) -> bool {
        self.revocations.is_registered(key)
    }

    fn random(&mut self) -> u32 {
        OsRng.next_u32()
    }

    fn forget(&mut self, session: u32) {
        self.ended = Some(session);
    }
}

/// Places that take memory when they are used.
struct Heap<T, const LIMIT: usize>(Vec<T>);

impl<T, const LIMIT: usize> Places<T> for Heap<T, LIMIT> {
    const NEW: Self = Self(Vec::new());
    const LIMIT: usize = LIMIT;

    fn entries(&self) -> &[T] {
        &self.0
    }

    fn entries_mut(&mut self) -> &mut [T] {
        &mut self.0
    }

    fn add(&mut self, entry: T) {
        if self.0.len() < LIMIT {
            self.0.push(entry);
        }
    }

    fn take(&mut self, at: usize) -> Option<T> {
        (at < self.0.len()).then(|| self.0.remove(at))
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

struct Observer<A> {
    from: A,
    token: Token,
    /// Which session it is in, and whose that is.
    session: u32,
    key: PublicKey,
    correlation: Correlation,
    /// The Observe option's value, 24 bits.
    sequence: u32,
    /// What it was told last.
    told: Option<Vec<u8>>,
    /// When that was.
    told_at: u64,
    /// What it did not acknowledge yet.
    pending: Option<Pending>,
    /// Nothing more is sent after that.
    is_last: bool,
}

struct Pending {
    message_id: u16,
    datagram: Vec<u8>,
    sent: u32,
    timeout: u64,
    due: u64,
}

/// A datagram for a peer.
pub type Outgoing<A> = (A, Vec<u8>);

impl<A: Source> Server<A> {
    /// A server that proves to be `own`, the station.
    pub fn new(own: PrivateKey, revocations: Revocations) -> Self {
        let mut conversations = Box::new(Conversations::new(Shares { known: SESSIONS, strangers: STRANGERS }));
        let mut secret = [0; 16];
        OsRng.fill_bytes(&mut secret);
        conversations.seed(OsRng.next_u32() as u16, EchoKey::new(secret));
        let station = Station { own, revocations, ended: None };
        Self { station, conversations, observers: Vec::new(), allowance: (HANDSHAKES_A_SECOND, 0) }
    }

    /// What is told.
    pub fn revocations(&self) -> &Revocations {
        &self.station.revocations
    }

    /// How many devices observe the token revocation list.
    pub fn observers(&self) -> usize {
        self.observers.len()
    }

    /// Takes a datagram; returns the answer, if there is one. One that is longer than [`MAX_DATAGRAM`] may be cut to any length
    /// beyond that.
    pub fn receive(&mut self, from: A, datagram: &[u8], now: u64) -> Vec<Outgoing<A>> {
        let (mut datagram, mut out) = (datagram.to_vec(), vec![0; MAX_DATAGRAM]);
        let len = match self.conversations.receive(from, &mut datagram, now, &mut self.station, &mut out) {
            Incoming::Request(request, reply) => {
                let answer = self.respond(&request, &reply, now);
                let observe = answer.observe;
                self.conversations.answer_observing(&reply, observe, &mut out, &mut |message| answer.write(message))
            }
            Incoming::Answer(len) => Some(len),
            Incoming::Acknowledged(message_id) => return self.acknowledged(from, message_id, now),
            Incoming::Reset(message_id) => {
                // The peer does not know what the notification is about any more (RFC 7641 section 3.6).
                self.observers.retain(|observer| !observer.awaits(from, message_id));
                None
            }
            Incoming::Nothing => None,
        };
        if let Some(ended) = self.station.ended.take() {
            self.observers.retain(|observer| observer.session != ended);
        }
        let answer = len.and_then(|len| out.get(..len));
        answer.map(|answer| (from, answer.to_vec())).into_iter().collect()
    }

    /// Tells other things from now on. Returns the notifications of those that it makes a difference for.
    pub fn update(&mut self, revocations: Revocations, now: u64) -> Vec<Outgoing<A>> {
        self.station.revocations = revocations;
        self.notify(now)
    }

    /// What is due: notifications that were not acknowledged, and signs of life.
    pub fn poll(&mut self, now: u64) -> Vec<Outgoing<A>> {
        let mut outgoing = Vec::new();
        self.observers.retain_mut(|observer| {
            let Some(pending) = observer.pending.as_mut().filter(|pending| pending.due <= now) else { return true };
            if pending.sent > MAX_RETRANSMIT {
                return false;
            }
            pending.sent += 1;
            pending.timeout *= 2;
            pending.due = now + pending.timeout;
            outgoing.push((observer.from, pending.datagram.clone()));
            true
        });
        for observer in &mut self.observers {
            if observer.pending.is_none() && now >= observer.told_at + HEARTBEAT_MS {
                observer.told = None;
            }
        }
        outgoing.extend(self.notify(now));
        outgoing
    }

    /// When [`Server::poll`] has something to do, in the same milliseconds; none while there is nobody to tell.
    pub fn due(&self) -> Option<u64> {
        let due = |observer: &Observer<A>| {
            observer.pending.as_ref().map_or(observer.told_at + HEARTBEAT_MS, |pending| pending.due)
        };
        self.observers.iter().map(due).min()
    }

    fn acknowledged(&mut self, from: A, message_id: u16, now: u64) -> Vec<Outgoing<A>> {
        self.observers.retain_mut(|observer| {
            let is_it = observer.awaits(from, message_id);
            if is_it {
                observer.pending = None;
            }
            !(is_it && observer.is_last)
        });
        // It may have changed again meanwhile.
        self.notify(now)
    }

    /// Tells each observer what it was not told yet, if it has acknowledged all before.
    fn notify(&mut self, now: u64) -> Vec<Outgoing<A>> {
        let Self { observers, conversations, station, .. } = self;
        let mut outgoing = Vec::new();
        observers.retain_mut(|observer| {
            if observer.pending.is_some() {
                return true;
            }
            let now_true = station.revocations.full_set(&observer.key);
            if now_true.is_some() && now_true == observer.told {
                return conversations.sessions().numbered(observer.session).is_some();
            }
            let datagram = observer.notification(conversations, now_true, now);
            let is_told = datagram.is_some();
            outgoing.extend(datagram.map(|datagram| (observer.from, datagram)));
            is_told
        });
        outgoing
    }

    fn respond(&mut self, request: &Message<'_>, reply: &Reply<A>, now: u64) -> Answer {
        let resource = match Resource::of(request) {
            Ok(resource) => resource,
            Err(refusal) => return refusal,
        };
        let session = self.conversations.sessions().numbered(reply.session());
        let key = session.map(|session| session.peer.key);
        match (resource, key) {
            (Resource::Core, _) => Answer::content(request, content_format::LINK_FORMAT, LINKS.as_bytes()),
            (Resource::List, _) => match &self.station.revocations.list {
                Some(list) => Answer::content(request, content_format::CWT, list),
                None => Answer::problem(code::NOT_FOUND, "no list was signed yet"),
            },
            (Resource::Edhoc, None) => self.edhoc(reply.peer(), request, now),
            (Resource::Edhoc, Some(_)) => Answer::problem(code::FORBIDDEN, "forbidden"),
            (Resource::Trl, None) => Answer::problem(code::UNAUTHORIZED, "not authorized"),
            (Resource::Trl, Some(key)) => self.revoked(request, reply, &key, now),
        }
    }

    /// What is revoked, for whoever proved to hold `key`.
    fn revoked(&mut self, request: &Message<'_>, reply: &Reply<A>, key: &PublicKey, now: u64) -> Answer {
        let Some(full_set) = self.station.revocations.full_set(key) else {
            return Answer::problem(code::FORBIDDEN, "not a registered device");
        };
        let mut answer = Answer::content(request, content_format::ACE_TRL, &full_set);
        let (from, token, session) = (reply.peer(), reply.token(), reply.session());
        // A later block is a request of its own (RFC 7959 section 2.6).
        let is_first = Block::of(request, option::BLOCK2).ok().flatten().is_none_or(|block| block.number() == 0);
        match (uint_option(request, option::OBSERVE).filter(|_| reply.is_observe), reply.correlation()) {
            (Some(0), Some(correlation)) if is_first && answer.code == code::CONTENT => {
                // In place of the one before, and after it in the order of notifications.
                let before = self.observers.iter().position(|observer| observer.session == session);
                let before = before.map_or(0, |at| self.observers.swap_remove(at).sequence);
                self.observers.retain(|observer| !(observer.from == from && observer.token == token));
                let sequence = next_sequence(before);
                answer.observe = Some(sequence);
                self.observers.push(Observer {
                    from,
                    token,
                    session,
                    key: *key,
                    correlation,
                    sequence,
                    told: Some(full_set),
                    told_at: now,
                    pending: None,
                    is_last: false,
                });
            }
            (Some(1), _) => self.observers.retain(|observer| !(observer.from == from && observer.token == token)),
            _ => {}
        }
        answer
    }

    /// `POST /.well-known/edhoc`.
    fn edhoc(&mut self, from: A, request: &Message<'_>, now: u64) -> Answer {
        let begins = matches!(edhoc::Request::parse(request.payload()), Ok(edhoc::Request::Message1(_)));
        if begins && !self.may_begin(now) {
            let refusal = Answer::problem(code::SERVICE_UNAVAILABLE, "too many handshakes");
            return Answer { max_age: Some(1), ..refusal };
        }
        let mut body = vec![0; MAX_DATAGRAM];
        let (code, len) = self.conversations.authenticate(from, request.payload(), &mut self.station, &mut body);
        body.truncate(len);
        Answer { format: (len > 0).then_some(content_format::EDHOC), body, ..Answer::new(code) }
    }

    fn may_begin(&mut self, now: u64) -> bool {
        let (left, since) = &mut self.allowance;
        let earned = now.saturating_sub(*since) * HANDSHAKES_A_SECOND / 1000;
        if earned > 0 {
            (*left, *since) = ((*left + earned).min(HANDSHAKES_A_SECOND), now);
        }
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }
}

impl<A: Source> Observer<A> {
    fn awaits(&self, from: A, message_id: u16) -> bool {
        self.from == from && self.pending.as_ref().is_some_and(|pending| pending.message_id == message_id)
    }

    /// What is true now, as a confirmable notification; `None` is the last word to a device that is registered no more.
    fn notification(
        &mut self,
        conversations: &mut Conversations<A>,
        full_set: Option<Vec<u8>>,
        now: u64,
    ) -> Option<Vec<u8>> {
        self.sequence = next_sequence(self.sequence);
        let answer = match &full_set {
            Some(full_set) => Answer {
                observe: Some(self.sequence),
                ..Answer { format: Some(content_format::ACE_TRL), body: full_set.clone(), ..Answer::new(code::CONTENT) }
            },
            None => Answer::problem(code::FORBIDDEN, "not a registered device"),
        };
        let mut datagram = vec![0; MAX_DATAGRAM];
        let (message_id, len) = conversations.notify(
            self.session,
            &self.correlation,
            self.token,
            answer.observe,
            &mut datagram,
            &mut |out| answer.write(out),
        )?;
        datagram.truncate(len);
        let timeout = ACK_TIMEOUT_MS + u64::from(OsRng.next_u32()) % (ACK_TIMEOUT_MS / 2);
        self.is_last = full_set.is_none();
        (self.told, self.told_at) = (full_set, now);
        self.pending = Some(Pending { message_id, datagram: datagram.clone(), sent: 1, timeout, due: now + timeout });
        Some(datagram)
    }
}

fn next_sequence(sequence: u32) -> u32 {
    (sequence + 1) & 0xff_ffff
}

/// What a request is for.
#[derive(Clone, Copy, PartialEq)]
enum Resource {
    Core,
    Edhoc,
    List,
    Trl,
}

impl Resource {
    /// The resource, if the request may be made of it at all; else what it is answered.
    fn of(request: &Message<'_>) -> Result<Self, Answer> {
        if let Some(unsupported) = unsupported_option(request, OPTIONS) {
            let refusal = option_refusal(unsupported);
            let is_for_proxies = refusal == code::PROXYING_NOT_SUPPORTED;
            return Err(Answer::problem(
                refusal,
                if is_for_proxies { "this is no proxy" } else { "unknown critical option" },
            ));
        }
        let found = RESOURCES.into_iter().find(|(_, path, ..)| is_path(path, request));
        let (resource, _, method, format) = found.ok_or(Answer::problem(code::NOT_FOUND, "no such resource"))?;
        if request.code() != method {
            return Err(Answer::problem(code::METHOD_NOT_ALLOWED, "the resource has no such method"));
        }
        match uint_option(request, option::ACCEPT) {
            Some(accept) if accept != format => {
                Err(Answer::problem(code::NOT_ACCEPTABLE, "not available in this content format"))
            }
            _ => Ok(resource),
        }
    }
}

/// A response before it is a message.
struct Answer {
    code: u8,
    format: Option<u16>,
    body: Vec<u8>,
    /// The block of the body that is asked for.
    block: Option<Block>,
    observe: Option<u32>,
    max_age: Option<u32>,
}

impl Answer {
    fn new(code: u8) -> Self {
        Self { code, format: None, body: Vec::new(), block: None, observe: None, max_age: None }
    }

    /// 2.05 with a body, or the block of it that is asked for.
    fn content(request: &Message<'_>, format: u16, body: &[u8]) -> Self {
        let asked = Block::of(request, option::BLOCK2)
            .and_then(|asked| BodySlice::new(body, asked, BlockSize::MAX).map(|_| asked));
        match asked {
            Ok(block) => Self { format: Some(format), body: body.to_vec(), block, ..Self::new(code::CONTENT) },
            Err(error) => Self::problem(error.code(), "no such block of the response"),
        }
    }

    fn problem(code: u8, title: &str) -> Self {
        let details = cbor_schemas::ProblemDetails { title: Some(title), detail: None };
        let mut body = vec![0; cbor_schemas::ProblemDetails::MAX_LEN];
        let len = details.encode(&mut body).unwrap_or(0);
        body.truncate(len);
        Self { format: (len > 0).then_some(content_format::PROBLEM_DETAILS), body, ..Self::new(code) }
    }

    fn write(&self, message: &mut MessageMut<'_>) -> Result<(), NoSpace> {
        let slice = BodySlice::new(&self.body, self.block, BlockSize::MAX).map_err(|_| NoSpace)?;
        message.set_code(self.code);
        if let Some((_, etag)) = &slice.block {
            message.add_option(option::ETAG, etag).map_err(|_| NoSpace)?;
        }
        if self.observe.is_some() {
            message.add_option(option::OBSERVE, &[]).map_err(|_| NoSpace)?;
        }
        for (number, value) in [
            (option::CONTENT_FORMAT, self.format.map(u32::from)),
            (option::MAX_AGE, self.max_age),
            (option::BLOCK2, slice.block.map(|(block, _)| block.encode())),
        ] {
            if let Some(value) = value {
                message.add_option_uint(number, value).map_err(|_| NoSpace)?;
            }
        }
        message.set_payload(slice.payload).map_err(|_| NoSpace)
    }
}

#[cfg(test)]
mod tests;
