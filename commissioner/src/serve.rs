//! A CoAP server for a network of devices: the signed list for anyone, and the token revocation list (RFC 9770) for registered
//! devices, under EDHOC and OSCORE, to be observed (RFC 7641).
//!
//! No I/O and no clock in here: datagrams go in and come out, and `now` is an argument. What is told is a [`Revocations`],
//! which the caller reads from the registry, and reads anew when that has changed.
//!
//! Strangers can make handshakes and contexts, at a bounded rate. They displace each other; a context of a registered
//! device gives way to nothing but another such context.

pub mod revocations;

use std::collections::VecDeque;
use std::hash::Hash;

use coap_lite::{CoapOption, MessageType, Packet};
use coap_numbers::{code, option};
use protocol::coap::{
    Block, BlockSize, BodySlice, Datagram, EchoKey, Endpoint, Exchange, Incoming, Token, Type, amplifies,
    option_refusal, unsupported_option,
};
use protocol::edhoc::{self, ConnId, Established, Responder};
use protocol::key::{PrivateKey, PublicKey};
use protocol::oscore::{self, Context, Correlation, OptionValue, split_combined};
use rand_core::{OsRng, RngCore};

use crate::client::{Code, content_format, uint_option, uint_value};
use crate::link::MAX_DATAGRAM;
use crate::session::to_packet;
use revocations::Revocations;

/// The resource of the signed list.
pub const LIST: &str = "list";
/// The resource of the token revocation list, with the name that RFC 9770 uses.
pub const TRL: [&str; 2] = ["revoke", "trl"];

const EDHOC: [&str; 2] = [".well-known", "edhoc"];
const CORE: [&str; 2] = [".well-known", "core"];
const LINKS: &str = "</list>;rt=\"comm.list\";ct=61,</revoke/trl>;rt=\"comm.trl\";ct=262;obs,\
                     </.well-known/edhoc>;rt=\"core.edhoc\"";
const NO_PROXY: &str = "this is no proxy";
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
/// Contexts that one key has, or that are at one address, where one byte names them. A device that starts anew leaves the
/// last one behind.
const RELATED: usize = 4;
/// New handshakes a second, and at once: each is a key generation and two ECDH.
const HANDSHAKES_A_SECOND: u64 = 200;
/// RFC 7252 section 4.8: ACK_TIMEOUT, up to 1.5 times that, and MAX_RETRANSMIT.
const ACK_TIMEOUT_MS: u64 = 2_000;
const MAX_RETRANSMIT: u32 = 4;
/// How long an observer is left without a message at most: a confirmable one shows whether it is still there (RFC 7641
/// section 4.5 asks for one each 24 hours).
const HEARTBEAT_MS: u64 = 12 * 60 * 60 * 1000;

/// The server. `A` is the address of a peer.
pub struct Server<A> {
    own: PrivateKey,
    revocations: Revocations,
    echo: EchoKey,
    endpoint: Box<Endpoint<A, ANSWERS, MAX_DATAGRAM>>,
    /// Oldest first.
    handshakes: VecDeque<(A, Responder)>,
    /// Least recently used first.
    sessions: Vec<Session<A>>,
    /// One for each session at most.
    observers: Vec<Observer<A>>,
    /// Handshakes that may begin, and since when that is so.
    allowance: (u64, u64),
    next_message_id: u16,
}

struct Session<A> {
    from: A,
    context: Context,
    key: PublicKey,
}

struct Observer<A> {
    from: A,
    token: Token,
    /// Which context it is in.
    recipient: oscore::Id,
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

impl<A: Copy + Eq + Hash> Server<A> {
    /// A server that proves to be `own`, the station.
    pub fn new(own: PrivateKey, revocations: Revocations) -> Self {
        Self {
            own,
            revocations,
            echo: new_echo_key(),
            endpoint: Box::new(Endpoint::new(OsRng.next_u32() as u16)),
            handshakes: VecDeque::new(),
            sessions: Vec::new(),
            observers: Vec::new(),
            allowance: (HANDSHAKES_A_SECOND, 0),
            next_message_id: OsRng.next_u32() as u16,
        }
    }

    /// What is told.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// How many devices observe the token revocation list.
    pub fn observers(&self) -> usize {
        self.observers.len()
    }

    /// Takes a datagram; returns the answer, if there is one. One that is longer than [`MAX_DATAGRAM`] may be cut to any length
    /// beyond that.
    pub fn receive(&mut self, from: A, datagram: &[u8], now: u64) -> Vec<Outgoing<A>> {
        if datagram.len() > MAX_DATAGRAM {
            let too_long = problem(code::REQUEST_ENTITY_TOO_LARGE, "the datagram is too long");
            let exchange = self.endpoint.refuse(from, datagram);
            return exchange.and_then(|it| finished(too_long, &it)).map(|answer| (from, answer)).into_iter().collect();
        }
        if let Ok(Datagram { header, .. }) = Datagram::parse(datagram) {
            match header.type_ {
                Type::Ack => return self.acknowledged(from, header.message_id, now),
                Type::Rst => {
                    // The peer does not know what the notification is about any more (RFC 7641 section 3.6).
                    self.observers.retain(|observer| !observer.awaits(from, header.message_id));
                    return Vec::new();
                }
                Type::Con | Type::Non => {}
            }
        }
        let exchange = match self.endpoint.receive(from, datagram, now) {
            Incoming::Request(exchange, _) => exchange,
            Incoming::Reply(reply) => return vec![(from, reply.to_vec())],
            Incoming::Nothing => return Vec::new(),
        };
        let Ok(request) = Packet::from_bytes(datagram) else { return Vec::new() };
        let answer = self.respond(&exchange, &request, now);
        match self.bounded(answer, &exchange, &request, datagram.len(), now) {
            Some(answer) => {
                self.endpoint.remember(&exchange, &answer);
                vec![(from, answer)]
            }
            None => Vec::new(),
        }
    }

    /// The datagram that answers a request. Where it is not protected, it is not much longer than the request, unless that came
    /// from who gets the answer: else we could be made to flood somebody (RFC 9175 section 2.4). Contexts are found by
    /// address, so a protected one goes where message_2 went.
    fn bounded(
        &self,
        answer: Packet,
        exchange: &Exchange<A>,
        request: &Packet,
        received: usize,
        now: u64,
    ) -> Option<Vec<u8>> {
        let is_proved =
            answer.get_option(CoapOption::Oscore).is_some() || self.echo.proves(request, &exchange.peer, now);
        let code = Code(answer.header.code.into());
        let whole = finished(answer, exchange)?;
        if is_proved || !amplifies(received, whole.len()) {
            return Some(whole);
        }
        let mut challenge = Packet::new();
        challenge.header.code = code::UNAUTHORIZED.into();
        challenge.add_option(CoapOption::from(option::ECHO), self.echo.value(&exchange.peer, now).to_vec());
        let mut bare = Packet::new();
        bare.header.code = code.0.into();
        let is_read = u8::from(request.header.code) == code::GET && code.is_success();
        let instead = [Some(challenge).filter(|_| is_read), Some(bare)].into_iter().flatten();
        instead.filter_map(|answer| finished(answer, exchange)).find(|answer| !amplifies(received, answer.len()))
    }

    /// Tells other things from now on. Returns the notifications of those that it makes a difference for.
    pub fn update(&mut self, revocations: Revocations, now: u64) -> Vec<Outgoing<A>> {
        self.revocations = revocations;
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
        let Self { observers, sessions, revocations, next_message_id, .. } = self;
        let mut outgoing = Vec::new();
        observers.retain_mut(|observer| {
            if observer.pending.is_some() {
                return true;
            }
            let session = sessions.iter_mut().find(|it| it.is(observer.from, observer.recipient));
            let Some(session) = session else { return false };
            let now_true = revocations.full_set(&observer.key);
            if now_true.is_some() && now_true == observer.told {
                return true;
            }
            *next_message_id = next_message_id.wrapping_add(1);
            match observer.notification(session, now_true, *next_message_id, now) {
                Some(datagram) => {
                    outgoing.push((observer.from, datagram));
                    true
                }
                None => false,
            }
        });
        outgoing
    }

    fn respond(&mut self, exchange: &Exchange<A>, request: &Packet, now: u64) -> Packet {
        if request.get_option(CoapOption::Oscore).is_some() {
            return self.respond_protected(exchange, request, now).unwrap_or_else(|problem| problem);
        }
        match Target::of(request) {
            Err(problem) => problem,
            Ok(Target::Edhoc) => self.edhoc(exchange.peer, request, now),
            Ok(Target::Trl) => problem(code::UNAUTHORIZED, "not authorized"),
            Ok(Target::List) => self.list(request),
            Ok(Target::Core) => content(request, content_format::LINK_FORMAT, LINKS.as_bytes()),
        }
    }

    fn list(&self, request: &Packet) -> Packet {
        match &self.revocations.list {
            Some(list) => content(request, content_format::CWT, list),
            None => problem(code::NOT_FOUND, "no list was signed yet"),
        }
    }

    /// Answers under OSCORE. An error is an answer that goes out plain.
    fn respond_protected(&mut self, exchange: &Exchange<A>, request: &Packet, now: u64) -> Result<Packet, Packet> {
        let plain = |error: oscore::Error| match error {
            oscore::Error::Proxy => problem(error.code(), NO_PROXY),
            error => problem(error.code(), "security context not found, or not authentic"),
        };
        let option = OptionValue::of(request).map_err(plain)?;
        let kid = option.kid.ok_or(oscore::Error::BadOption).map_err(plain)?;
        let mut ciphertext = request.payload.as_slice();
        if request.get_option(CoapOption::Unknown(option::EDHOC)).is_some() {
            let Some((message_3, rest)) = split_combined(&request.payload) else {
                let is_error = edhoc::parse_error(&request.payload).is_some();
                return Err(edhoc_error(if is_error { edhoc::Error::Peer } else { edhoc::Error::Malformed }));
            };
            self.finish(exchange.peer, kid, message_3, false).map_err(edhoc_error)?;
            ciphertext = rest;
        }
        let at = self.sessions.iter().position(|session| session.is(exchange.peer, kid));
        let mut session = self.sessions.remove(at.ok_or(oscore::Error::ContextNotFound).map_err(plain)?);
        let mut plaintext = vec![0; ciphertext.len()];
        let opened = session.context.unprotect_request_payload(request, ciphertext, &mut plaintext);
        let answered = opened.map_err(plain).map(|(inner, correlation)| {
            let mut inner = to_packet(&inner);
            // Who took it off outside would not pass on any notification (RFC 8613 section 4.1.3.5).
            if request.get_option(CoapOption::Observe).is_none() {
                inner.clear_option(CoapOption::Observe);
            }
            let answer = self.serve(exchange, &session, &inner, correlation, now);
            let mut outer = Packet::new();
            match session.context.protect_response(&answer, &mut outer, &mut [0; MAX_DATAGRAM], &correlation) {
                Ok(()) => {
                    if u8::from(request.header.code) == code::FETCH {
                        outer.header.code = code::CONTENT.into();
                    }
                    outer
                }
                Err(error) => plain(error),
            }
        });
        // It is the most recently used now.
        self.sessions.push(session);
        answered
    }

    /// Serves a request of whoever proved the session's key.
    fn serve(
        &mut self,
        exchange: &Exchange<A>,
        session: &Session<A>,
        request: &Packet,
        correlation: Correlation,
        now: u64,
    ) -> Packet {
        match Target::of(request) {
            Err(problem) => return problem,
            Ok(Target::List) => return self.list(request),
            Ok(Target::Core) => return content(request, content_format::LINK_FORMAT, LINKS.as_bytes()),
            Ok(Target::Edhoc) => return problem(code::FORBIDDEN, "forbidden"),
            Ok(Target::Trl) => {}
        }
        let Some(full_set) = self.revocations.full_set(&session.key) else {
            return problem(code::FORBIDDEN, "not a registered device");
        };
        let mut answer = content(request, content_format::ACE_TRL, &full_set);
        let token = exchange.request.token;
        // A later block is a request of its own (RFC 7959 section 2.6).
        let is_first = Block::of(request, option::BLOCK2).ok().flatten().is_none_or(|block| block.number() == 0);
        match uint_option(request, option::OBSERVE) {
            Some(0) if is_first && u8::from(answer.header.code) == code::CONTENT => {
                // In place of the one before, and after it in the order of notifications.
                let before = self.observers.iter().position(|it| session.is(it.from, it.recipient));
                let before = before.map_or(0, |at| self.observers.swap_remove(at).sequence);
                self.observers.retain(|observer| !(observer.from == session.from && observer.token == token));
                let sequence = next_sequence(before);
                self.observers.push(Observer {
                    from: session.from,
                    token,
                    recipient: session.context.recipient(),
                    key: session.key,
                    correlation,
                    sequence,
                    told: Some(full_set),
                    told_at: now,
                    pending: None,
                    is_last: false,
                });
                answer.add_option(CoapOption::Observe, uint_value(sequence));
            }
            Some(1) => self.observers.retain(|observer| !(observer.from == session.from && observer.token == token)),
            _ => {}
        }
        answer
    }

    /// `POST /.well-known/edhoc`: message_1, or message_3 alone (RFC 9528 appendix A.2).
    fn edhoc(&mut self, from: A, request: &Packet, now: u64) -> Packet {
        let answered = match edhoc::Request::parse(&request.payload) {
            Ok(edhoc::Request::Message1(message_1)) => {
                if !self.may_begin(now) {
                    let mut answer = problem(code::SERVICE_UNAVAILABLE, "too many handshakes");
                    answer.add_option(CoapOption::MaxAge, uint_value(1));
                    return answer;
                }
                self.begin(from, message_1)
            }
            Ok(edhoc::Request::Message3 { c_r, message_3 }) => {
                self.finish(from, c_r.into(), message_3, true).map(Option::unwrap_or_default)
            }
            Err(error) => Err(error),
        };
        match answered {
            Ok(message) => {
                let mut answer = Packet::new();
                answer.header.code = code::CHANGED.into();
                answer.add_option(CoapOption::ContentFormat, uint_value(content_format::EDHOC.into()));
                answer.payload = message.to_vec();
                answer
            }
            Err(error) => {
                if error == edhoc::Error::Peer {
                    self.handshakes.retain(|(address, _)| *address != from);
                }
                edhoc_error(error)
            }
        }
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

    fn begin(&mut self, from: A, message_1: &[u8]) -> Result<edhoc::Message, edhoc::Error> {
        let c_r = self.unused_conn_id(from).ok_or(edhoc::Error::ConnectionId)?;
        let (responder, message_2) = Responder::start(message_1, &self.own, c_r, &mut OsRng)?;
        self.handshakes.retain(|(address, _)| *address != from);
        if self.handshakes.len() >= HANDSHAKES {
            self.handshakes.pop_front();
        }
        self.handshakes.push_back((from, responder));
        Ok(message_2)
    }

    fn finish(
        &mut self,
        from: A,
        c_r: oscore::Id,
        message_3: &[u8],
        message_4: bool,
    ) -> Result<Option<edhoc::Message>, edhoc::Error> {
        let chosen =
            |(address, responder): &(A, Responder)| *address == from && oscore::Id::from(responder.c_r()) == c_r;
        let at = self.handshakes.iter().position(chosen).ok_or(edhoc::Error::NoHandshake)?;
        let (_, responder) = self.handshakes.remove(at).ok_or(edhoc::Error::NoHandshake)?;
        let Established { peer, context, message_4 } =
            responder.finish(message_3, |kid| self.revocations.key_of(kid), message_4)?;
        self.establish(Session { from, context, key: peer.key });
        Ok(message_4)
    }

    /// Keeps a context. Where there are enough, the least recently used one gives way, and its observation with it; one of
    /// a registered device gives way to none of a stranger.
    fn establish(&mut self, session: Session<A>) {
        let is_registered = self.revocations.is_registered(&session.key);
        let limit = if is_registered { SESSIONS } else { STRANGERS };
        let standing = |it: &&Session<A>| self.revocations.is_registered(&it.key) == is_registered;
        let related = |it: &&Session<A>| it.from == session.from || it.key == session.key;
        let oldest = |enough: usize, those: &dyn Fn(&&Session<A>) -> bool| {
            let mut found =
                self.sessions.iter().filter(standing).filter(those).map(|it| (it.from, it.context.recipient()));
            let oldest = found.next();
            oldest.filter(|_| 1 + found.count() >= enough)
        };
        if let Some((from, recipient)) = oldest(RELATED, &related).or_else(|| oldest(limit, &|_| true)) {
            self.sessions.retain(|it| !it.is(from, recipient));
            self.observers.retain(|it| !(it.from == from && it.recipient == recipient));
        }
        self.sessions.push(session);
    }

    /// A connection identifier that nobody at this address uses, and its successor neither: the responder takes that one if
    /// the peer chose the same. Contexts are found by address and identifier.
    fn unused_conn_id(&self, from: A) -> Option<ConnId> {
        let is_free = |id: ConnId| {
            let waits = self.handshakes.iter().any(|(address, responder)| *address == from && responder.c_r() == id);
            !waits && !self.sessions.iter().any(|session| session.is(from, id.into()))
        };
        let skip = OsRng.next_u32() % u32::from(ConnId::COUNT);
        let candidates = std::iter::successors(ConnId::new(0), |id| Some(id.next()));
        candidates.skip(skip as usize).take(ConnId::COUNT.into()).find(|id| is_free(*id) && is_free(id.next()))
    }
}

impl<A: Copy + Eq> Session<A> {
    fn is(&self, from: A, recipient: oscore::Id) -> bool {
        self.from == from && self.context.recipient() == recipient
    }
}

impl<A: Copy + Eq> Observer<A> {
    fn awaits(&self, from: A, message_id: u16) -> bool {
        self.from == from && self.pending.as_ref().is_some_and(|pending| pending.message_id == message_id)
    }

    /// What is true now, as a confirmable notification; `None` is the last word to a device that is registered no more.
    fn notification(
        &mut self,
        session: &mut Session<A>,
        full_set: Option<Vec<u8>>,
        message_id: u16,
        now: u64,
    ) -> Option<Vec<u8>> {
        self.sequence = next_sequence(self.sequence);
        let inner = match &full_set {
            Some(full_set) => {
                let mut inner = content(&Packet::new(), content_format::ACE_TRL, full_set);
                inner.add_option(CoapOption::Observe, uint_value(self.sequence));
                inner
            }
            None => problem(code::FORBIDDEN, "not a registered device"),
        };
        let mut outer = Packet::new();
        session.context.protect_response(&inner, &mut outer, &mut [0; MAX_DATAGRAM], &self.correlation).ok()?;
        outer.header.code = code::CONTENT.into();
        outer.header.set_type(MessageType::Confirmable);
        outer.header.message_id = message_id;
        outer.set_token(self.token.as_slice().to_vec());
        let datagram = outer.to_bytes().ok()?;
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
enum Target {
    Core,
    Edhoc,
    List,
    Trl,
}

impl Target {
    /// The resource, if the request may be made of it at all; else what it is answered.
    fn of(request: &Packet) -> Result<Self, Packet> {
        if let Some(unsupported) = unsupported_option(request, OPTIONS) {
            let refusal = option_refusal(unsupported);
            let is_for_proxies = refusal == code::PROXYING_NOT_SUPPORTED;
            return Err(problem(refusal, if is_for_proxies { NO_PROXY } else { "unknown critical option" }));
        }
        let path: Vec<&[u8]> = request
            .get_option(CoapOption::UriPath)
            .map(|path| path.iter().map(Vec::as_slice).collect())
            .unwrap_or_default();
        let is = |names: &[&str]| path.iter().copied().eq(names.iter().map(|name| name.as_bytes()));
        let (target, method, format) = match () {
            () if is(&CORE) => (Self::Core, code::GET, content_format::LINK_FORMAT),
            () if is(&EDHOC) => (Self::Edhoc, code::POST, content_format::EDHOC),
            () if is(&[LIST]) => (Self::List, code::GET, content_format::CWT),
            () if is(&TRL) => (Self::Trl, code::GET, content_format::ACE_TRL),
            () => return Err(problem(code::NOT_FOUND, "no such resource")),
        };
        if u8::from(request.header.code) != method {
            return Err(problem(code::METHOD_NOT_ALLOWED, "the resource has no such method"));
        }
        match uint_option(request, option::ACCEPT) {
            Some(accept) if accept != u32::from(format) => {
                Err(problem(code::NOT_ACCEPTABLE, "not available in this content format"))
            }
            _ => Ok(target),
        }
    }
}

/// 2.05 with a body, or the block of it that is asked for.
fn content(request: &Packet, format: u16, body: &[u8]) -> Packet {
    let mut answer = Packet::new();
    answer.header.code = code::CONTENT.into();
    let cut = Block::of(request, option::BLOCK2).and_then(|asked| BodySlice::new(body, asked, BlockSize::MAX));
    match cut.map(|slice| slice.write(format, &mut answer)) {
        Ok(Ok(())) => answer,
        Ok(Err(_)) => problem(code::INTERNAL_SERVER_ERROR, "the answer does not fit"),
        Err(error) => problem(error.code(), "no such block of the response"),
    }
}

fn problem(code: u8, title: &str) -> Packet {
    let mut answer = Packet::new();
    answer.header.code = code.into();
    let details = cbor_schemas::ProblemDetails { title: Some(title), detail: None };
    let mut payload = vec![0; cbor_schemas::ProblemDetails::MAX_LEN];
    if let Ok(len) = details.encode(&mut payload) {
        payload.truncate(len);
        answer.add_option(CoapOption::ContentFormat, uint_value(content_format::PROBLEM_DETAILS.into()));
        answer.payload = payload;
    }
    answer
}

fn new_echo_key() -> EchoKey {
    let mut secret = [0; 16];
    OsRng.fill_bytes(&mut secret);
    EchoKey::new(secret)
}

/// An EDHOC error message: 4.00, content format 64 (RFC 9528 appendix A.2.3). One of the peer is not answered by another
/// (section 6).
fn edhoc_error(error: edhoc::Error) -> Packet {
    let mut answer = Packet::new();
    if error == edhoc::Error::Peer {
        answer.header.code = code::CHANGED.into();
        return answer;
    }
    answer.header.code = code::BAD_REQUEST.into();
    answer.add_option(CoapOption::ContentFormat, uint_value(content_format::EDHOC.into()));
    answer.payload = error.message().to_vec();
    answer
}

/// The datagram that answers a request.
fn finished<A: Copy + Eq>(mut answer: Packet, exchange: &Exchange<A>) -> Option<Vec<u8>> {
    let header = exchange.response_header(answer.header.code.into());
    answer.header.set_type(match header.type_ {
        Type::Ack => MessageType::Acknowledgement,
        _ => MessageType::NonConfirmable,
    });
    answer.header.message_id = header.message_id;
    answer.set_token(header.token.as_slice().to_vec());
    answer.to_bytes().ok()
}

#[cfg(test)]
mod tests;
