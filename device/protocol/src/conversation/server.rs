//! The server: datagrams in, plain requests with a proved sender out, and the other way round.
//!
//! ```text
//! datagram -> Server::receive -> Incoming::Request(message, reply) -> the application
//!                             -> Incoming::Answer: duplicates, what is too long, not authentic, from nowhere
//! datagram <- Server::answer  <- reply, and what the application writes
//! ```
//!
//! What comes without OSCORE is from anyone. `/.well-known/edhoc` is a resource like any other to [`Server::receive`]; the
//! application hands what is posted there to [`Server::authenticate`].

pub mod sessions;

use cbor_schemas::ProblemDetails;
use coap_message::{MessageOption, MinimalWritableMessage, ReadableMessage};
use coap_numbers::{code, option};

use self::sessions::{Handshake, Places, Session, Sessions, Shares};
use super::{Source, content_format};
use crate::coap::{
    self, Datagram, EchoKey, Endpoint, Exchange, Header, Message, MessageMut, NoSpace, Token, Type, Writer, amplifies,
};
use crate::edhoc::{self, ConnId, Established, Responder};
use crate::key::{PrivateKey, PublicKey};
use crate::oscore::{self, Correlation, OptionValue};

/// Room for the problem details that are written here, and for an EDHOC error message.
const PAYLOAD_LEN: usize = 128;

/// Whom a server serves for: its key, and the keys that it knows.
pub trait Party {
    /// What a datagram is answered that is too long: what to do instead, if there is something.
    const TOO_LONG: Option<&'static str> = None;

    /// The server's key, and what makes an ephemeral key, which is called once at most. `None` where there is no key.
    fn keys(&mut self) -> Option<(&PrivateKey, impl FnOnce() -> PrivateKey)>;

    /// The key of a kid, among those that somebody vouches for.
    fn resolve(&mut self, kid: &[u8]) -> Option<PublicKey>;

    /// Whether a context with `key` gives way to nothing but another such context.
    fn is_known(&self, key: &PublicKey) -> bool;

    /// A random number.
    fn random(&mut self) -> u32;

    /// The session with this number is over, since another one took its place.
    fn forget(&mut self, session: u32) {
        let _ = session;
    }
}

/// The server's side of all conversations: what it remembers of peers with addresses of type `A`, in places for handshakes
/// `H` and for contexts `S` (see [`Sessions`]), and of the last `ANSWERS` requests, each with an answer of up to `DATAGRAM`
/// bytes.
pub struct Server<A, H, S, const ANSWERS: usize, const DATAGRAM: usize> {
    endpoint: Endpoint<A, ANSWERS, DATAGRAM>,
    sessions: Sessions<A, H, S>,
    echo: EchoKey,
}

/// With a fixed number of places, without allocation.
pub type Fixed<A, const HANDSHAKES: usize, const SESSIONS: usize, const ANSWERS: usize, const DATAGRAM: usize> =
    Server<A, heapless::Vec<Handshake<A>, HANDSHAKES>, heapless::Vec<Session<A>, SESSIONS>, ANSWERS, DATAGRAM>;

/// What a datagram amounts to.
pub enum Incoming<'d, A> {
    /// A request, which is in plain text now, and where its answer goes.
    Request(Message<'d>, Reply<A>),
    /// So many bytes were written that are to be sent to where the datagram came from.
    Answer(usize),
    /// The peer has the message of this server with this Message ID.
    Acknowledged(u16),
    /// The peer can make nothing of the message of this server with this Message ID.
    Reset(u16),
    /// No more is to be done.
    Nothing,
}

/// Where an answer goes, and how it is protected.
pub struct Reply<A> {
    exchange: Exchange<A>,
    /// Bytes that came from there.
    received: usize,
    now: u64,
    /// Number of the session.
    protection: Option<(u32, Correlation)>,
    /// The request has an Observe option outside. One that is only inside was taken off on the way, by who would not pass on
    /// notifications (RFC 8613 section 4.1.3.5).
    pub is_observe: bool,
    /// Whether whoever sent the request gets the answer: then the answer may be longer than the request by more than three
    /// times (RFC 9175 section 2.4).
    pub is_proved: bool,
}

impl<A: Copy> Reply<A> {
    /// Where the request came from.
    pub fn peer(&self) -> A {
        self.exchange.peer
    }

    /// The request's token.
    pub fn token(&self) -> Token {
        self.exchange.request.token
    }

    /// Which session the request was protected in; 0 without protection.
    pub fn session(&self) -> u32 {
        self.protection.map_or(0, |(number, _)| number)
    }

    /// Ties notifications to the request, if it was protected.
    pub fn correlation(&self) -> Option<Correlation> {
        self.protection.map(|(_, correlation)| correlation)
    }
}

/// Writes an answer into a message without code, options and payload.
///
/// # Errors
/// The message has too little room.
pub type Write<'w> = dyn FnMut(&mut MessageMut<'_>) -> Result<(), NoSpace> + 'w;

/// What is answered without the application.
#[derive(Clone, Copy)]
enum Own {
    /// 4.13, and what to do instead.
    TooLong(Option<&'static str>),
    /// There is no context to answer under (RFC 8613 section 8.2).
    Oscore(oscore::Error),
    /// An error message (RFC 9528 appendix A.2.3); one of the peer is not answered by another (section 6).
    Edhoc(edhoc::Error),
    /// Anybody could have sent the request from there, so it is to come again with this Echo option.
    ProveAddress([u8; 8]),
    /// The same in short.
    Challenge([u8; 8]),
    /// A code alone.
    Bare(u8),
}

impl From<oscore::Error> for Own {
    fn from(error: oscore::Error) -> Self {
        Self::Oscore(error)
    }
}

impl From<edhoc::Error> for Own {
    fn from(error: edhoc::Error) -> Self {
        Self::Edhoc(error)
    }
}

impl<A, H, S, const ANSWERS: usize, const DATAGRAM: usize> Server<A, H, S, ANSWERS, DATAGRAM>
where
    A: Source,
    H: Places<Handshake<A>>,
    S: Places<Session<A>>,
{
    /// Remembers nothing yet.
    pub const fn new(shares: Shares) -> Self {
        Server { endpoint: Endpoint::new(0), sessions: Sessions::new(shares), echo: EchoKey::new([0; 16]) }
    }

    /// Takes random numbers, other ones at each start: the Message ID of the first message of its own, and what Echo options
    /// are computed from.
    pub fn seed(&mut self, first_message_id: u16, echo: EchoKey) {
        self.endpoint.set_next_message_id(first_message_id);
        self.echo = echo;
    }

    /// Handshakes and contexts.
    pub fn sessions(&mut self) -> &mut Sessions<A, H, S> {
        &mut self.sessions
    }

    /// What an Echo option (RFC 9175) of this peer has to say.
    pub fn echo(&self, peer: &A, now: u64) -> [u8; 8] {
        self.echo.value(peer, now)
    }

    /// Takes a datagram, which is decrypted where it lies: the payload of a request may be secret, and is the caller's to
    /// wipe. Where no application is needed, the answer is written to `out`.
    #[inline(never)]
    pub fn receive<'d, P: Party>(
        &mut self,
        from: A,
        datagram: &'d mut [u8],
        now: u64,
        party: &mut P,
        out: &mut [u8],
    ) -> Incoming<'d, A> {
        let received = datagram.len();
        if received > DATAGRAM {
            let Some(exchange) = self.endpoint.refuse(from, datagram) else { return Incoming::Nothing };
            let header = exchange.response_header(code::EMPTY);
            let written = compose(&header, out, &mut |message| Own::TooLong(P::TOO_LONG).write(message));
            return written.map_or(Incoming::Nothing, Incoming::Answer);
        }
        let (exchange, outer) = match self.endpoint.receive(from, datagram, now) {
            coap::Incoming::Request(exchange, parsed) => (exchange, Outer::of(&parsed)),
            coap::Incoming::Reply(reply) => return copy(reply, out).map_or(Incoming::Nothing, Incoming::Answer),
            coap::Incoming::Acknowledged(message_id) => return Incoming::Acknowledged(message_id),
            coap::Incoming::Reset(message_id) => return Incoming::Reset(message_id),
            coap::Incoming::Nothing => return Incoming::Nothing,
        };
        let mut reply = Reply {
            exchange,
            received,
            now,
            protection: None,
            is_observe: outer.is_observe,
            is_proved: from.is_line(),
        };
        let Some(option) = outer.oscore else {
            let tail = datagram.get(outer.header_length..).unwrap_or_default();
            let message = Message::new_from_slice(exchange.request.code, tail);
            reply.is_proved = from.is_line() || self.echo.proves(&message, &from, now);
            return Incoming::Request(message, reply);
        };
        let payload = datagram.get_mut(received.saturating_sub(outer.payload_length)..).unwrap_or_default();
        match self.open(&mut reply, option, outer.is_combined, payload, party) {
            Ok(message) if from.is_line() || reply.is_proved => Incoming::Request(message, reply),
            Ok(_) => {
                let own = Own::ProveAddress(self.echo.value(&from, now));
                let written = self.answer(&reply, out, &mut |message| own.write(message));
                written.map_or(Incoming::Nothing, Incoming::Answer)
            }
            Err(own) => self.refuse(&reply, own, out).map_or(Incoming::Nothing, Incoming::Answer),
        }
    }

    /// Decrypts a request, in the context of an earlier handshake, or of the message_3 in the same request (RFC 9668 section
    /// 3.3.1).
    #[inline(never)]
    fn open<'d>(
        &mut self,
        reply: &mut Reply<A>,
        option: Result<OptionValue, oscore::Error>,
        is_combined: bool,
        payload: &'d mut [u8],
        party: &mut impl Party,
    ) -> Result<Message<'d>, Own> {
        let (option, from) = (option?, reply.exchange.peer);
        let kid = option.kid.ok_or(oscore::Error::BadOption)?;
        let ciphertext = match is_combined {
            false => payload,
            true => {
                let is_error = edhoc::parse_error(payload).is_some();
                let error = if is_error { edhoc::Error::Peer } else { edhoc::Error::Malformed };
                let (message_3, ciphertext) = oscore::split_combined_mut(payload).ok_or(error)?;
                self.finish(from, kid, message_3, None, party)?;
                ciphertext
            }
        };
        let session = self.sessions.find(from, kid).ok_or(oscore::Error::ContextNotFound)?;
        let (message, correlation) = session.context.open_request(&option, ciphertext)?;
        reply.protection = Some((session.number, correlation));
        // Whoever took a request on its way can send it from anywhere, once.
        reply.is_proved = from.is_line() || session.from == from || self.echo.proves(&message, &from, reply.now);
        if reply.is_proved {
            session.from = from;
        }
        Ok(message)
    }

    /// Answers what was posted to `/.well-known/edhoc`: message_1, or message_3 alone (RFC 9528 appendix A.2). Writes the
    /// payload of the answer to `out`; returns its code and the payload's length. The content format is 64 where there is a
    /// payload.
    ///
    /// message_1 costs a key generation and two ECDH, message_3 one ECDH.
    #[inline(never)]
    pub fn authenticate(&mut self, from: A, posted: &[u8], party: &mut impl Party, out: &mut [u8]) -> (u8, usize) {
        let written = match edhoc::Request::parse(posted) {
            Ok(edhoc::Request::Message1(message_1)) => self.begin(from, message_1, party, out),
            Ok(edhoc::Request::Message3 { c_r, message_3 }) => {
                self.finish(from, c_r.into(), message_3, Some(out), party)
            }
            Err(error) => Err(error),
        };
        match written {
            Ok(len) => (code::CHANGED, len),
            // An error message is not answered by another (RFC 9528 section 6), and the handshake is over.
            Err(edhoc::Error::Peer) => {
                self.sessions.give_up(from);
                (code::CHANGED, 0)
            }
            // Appendix A.2.3.
            Err(error) => (code::BAD_REQUEST, copy(&error.message(), out).unwrap_or(0)),
        }
    }

    #[inline(never)]
    fn begin(
        &mut self,
        from: A,
        message_1: &[u8],
        party: &mut impl Party,
        out: &mut [u8],
    ) -> Result<usize, edhoc::Error> {
        let skip = (party.random() as u8).checked_rem(ConnId::COUNT).unwrap_or(0);
        let c_r = self.sessions.unused_conn_id(from, skip).ok_or(edhoc::Error::ConnectionId)?;
        let (own, ephemeral) = party.keys().ok_or(edhoc::Error::UnknownCredential)?;
        let (responder, message_2) = Responder::start_prepared(message_1, own, c_r, ephemeral)?;
        self.sessions.await_message_3(from, responder);
        copy(&message_2, out).ok_or(edhoc::Error::MessageTooLong)
    }

    /// Writes message_4 if there is to be an answer, and returns how long it is.
    #[inline(never)]
    fn finish(
        &mut self,
        from: A,
        c_r: oscore::Id,
        message_3: &[u8],
        out: Option<&mut [u8]>,
        party: &mut impl Party,
    ) -> Result<usize, edhoc::Error> {
        let responder = self.sessions.handshake(from, c_r).ok_or(edhoc::Error::NoHandshake)?;
        let finished = responder.finish_in_place(message_3, |kid| party.resolve(kid), out.is_some());
        self.sessions.give_up(from);
        let Established { peer, context, message_4 } = finished?;
        if let Some(number) = self.sessions.establish(from, context, peer, |key| party.is_known(key)) {
            party.forget(number);
        }
        let written = message_4.zip(out).map(|(message_4, out)| copy(&message_4, out));
        written.unwrap_or(Some(0)).ok_or(edhoc::Error::MessageTooLong)
    }

    /// Writes the answer to a request into `out`, and remembers it for the case that the request comes again. Returns its
    /// length; `None` where `out` has no room.
    ///
    /// `write` is given a message without code, options and payload. To a request under OSCORE the answer is protected like
    /// it. A plain answer that is much longer than its request goes to nobody who did not prove to get it: instead of what is
    /// read, such a peer is asked for an Echo option, else it is sent the code alone (RFC 9175 section 2.4).
    pub fn answer(&mut self, reply: &Reply<A>, out: &mut [u8], write: &mut Write<'_>) -> Option<usize> {
        self.answer_observing(reply, None, out, write)
    }

    /// The same to a request that notifications will follow (RFC 7641): a protected answer has this Observe option outside, and
    /// `write` adds one without value inside (RFC 8613 section 4.1.3.5.2).
    #[inline(never)]
    pub fn answer_observing(
        &mut self,
        reply: &Reply<A>,
        observe: Option<u32>,
        out: &mut [u8],
        write: &mut Write<'_>,
    ) -> Option<usize> {
        let len = match reply.protection {
            None => {
                let len = compose(&reply.exchange.response_header(code::EMPTY), out, write).ok()?;
                self.bounded(reply, len, out)?
            }
            Some((session, correlation)) => {
                let header = reply.exchange.response_header(code::EMPTY);
                let is_fetch = reply.exchange.request.code == code::FETCH;
                match self.seal(session, &correlation, &header, is_fetch, observe, out, write) {
                    Ok(len) => len,
                    Err(error) => return self.refuse(reply, error.into(), out),
                }
            }
        };
        self.endpoint.remember(&reply.exchange, out.get(..len)?);
        Some(len)
    }

    /// Writes a notification (RFC 7641), which is confirmable, to the request in a session that `correlation` and `token` are
    /// of. Returns its Message ID and length; `None` where the session is over, or `out` has no room. Without a `sequence` it
    /// is the last one.
    pub fn notify(
        &mut self,
        session: u32,
        correlation: &Correlation,
        token: Token,
        sequence: Option<u32>,
        out: &mut [u8],
        write: &mut Write<'_>,
    ) -> Option<(u16, usize)> {
        let message_id = self.endpoint.own_message_id();
        let header = Header { type_: Type::Con, code: code::EMPTY, message_id, token };
        let len = self.seal(session, correlation, &header, true, sequence, out, write).ok()?;
        Some((message_id, len))
    }

    /// `is_fetch`: the request was a FETCH outside, because it had an Observe option (RFC 8613 section 4.2).
    #[expect(clippy::too_many_arguments, reason = "all of them differ between answers and notifications")]
    #[inline(never)]
    fn seal(
        &mut self,
        session: u32,
        correlation: &Correlation,
        header: &Header,
        is_fetch: bool,
        observe: Option<u32>,
        out: &mut [u8],
        write: &mut Write<'_>,
    ) -> Result<usize, oscore::Error> {
        let session = self.sessions.numbered(session).ok_or(oscore::Error::ContextNotFound)?;
        let outer_code = if is_fetch { code::CONTENT } else { code::CHANGED };
        let mut response = session.context.respond_as(outer_code, observe, correlation, header, out)?;
        let mut message = response.message()?;
        write(&mut message)?;
        let len = message.finish().0;
        response.seal(&session.context, len)
    }

    /// Answers without protection.
    #[inline(never)]
    fn refuse(&mut self, reply: &Reply<A>, own: Own, out: &mut [u8]) -> Option<usize> {
        let header = reply.exchange.response_header(code::EMPTY);
        let len = compose(&header, out, &mut |message| own.write(message)).ok()?;
        let len = self.bounded(reply, len, out)?;
        self.endpoint.remember(&reply.exchange, out.get(..len)?);
        Some(len)
    }

    /// What is sent of a plain answer of `len` bytes.
    fn bounded(&self, reply: &Reply<A>, len: usize, out: &mut [u8]) -> Option<usize> {
        let from = reply.exchange.peer;
        if from.is_line() || reply.is_proved || !amplifies(reply.received, len) {
            return Some(len);
        }
        let (header, _) = Header::read(out).ok()?;
        let is_content = matches!(code::classify(header.code), code::Range::Response(code::Class::Success));
        if reply.exchange.request.code == code::GET && is_content {
            let own = Own::Challenge(self.echo.value(&from, reply.now));
            let len = compose(&header, out, &mut |message| own.write(message)).ok()?;
            if !amplifies(reply.received, len) {
                return Some(len);
            }
        }
        compose(&header, out, &mut |message| Own::Bare(header.code).write(message)).ok()
    }
}

/// What the outer options of a request say, and where its parts are.
struct Outer {
    header_length: usize,
    payload_length: usize,
    /// The OSCORE option, if there is one.
    oscore: Option<Result<OptionValue, oscore::Error>>,
    /// Before the ciphertext stands message_3.
    is_combined: bool,
    is_observe: bool,
}

impl Outer {
    fn of(datagram: &Datagram<'_>) -> Self {
        let message = datagram.message();
        let (mut is_protected, mut is_combined, mut is_observe) = (false, false, false);
        for option in message.options() {
            match option.number() {
                option::OSCORE => is_protected = true,
                option::EDHOC => is_combined = true,
                option::OBSERVE => is_observe = true,
                _ => {}
            }
        }
        Outer {
            header_length: datagram.header.len(),
            payload_length: datagram.payload_length(),
            oscore: is_protected.then(|| OptionValue::of(&message)),
            is_combined,
            is_observe,
        }
    }
}

/// An error of OSCORE in words (RFC 8613 section 8.2).
fn title(error: oscore::Error) -> &'static str {
    match error {
        oscore::Error::ContextNotFound | oscore::Error::NotProtected => "security context not found",
        oscore::Error::Replay => "replay detected",
        oscore::Error::Decryption => "decryption failed",
        oscore::Error::BadOption => "failed to decode COSE",
        oscore::Error::Proxy => "this is no proxy",
        oscore::Error::Exhausted | oscore::Error::Unsupported | oscore::Error::NoSpace => "cannot protect the answer",
    }
}

impl Own {
    #[inline(never)]
    fn write(self, message: &mut MessageMut<'_>) -> Result<(), NoSpace> {
        let detail = "repeat the request with this Echo option";
        let (code, text, echo) = match self {
            Own::TooLong(advice) => (code::REQUEST_ENTITY_TOO_LARGE, Some(("the datagram is too long", advice)), None),
            Own::Oscore(error) => (error.code(), Some((title(error), None)), None),
            Own::Edhoc(edhoc::Error::Peer) => (code::CHANGED, None, None),
            Own::Edhoc(_) => (code::BAD_REQUEST, None, None),
            Own::ProveAddress(echo) => (code::UNAUTHORIZED, Some(("prove your address", Some(detail))), Some(echo)),
            Own::Challenge(echo) => (code::UNAUTHORIZED, None, Some(echo)),
            Own::Bare(code) => (code, None, None),
        };
        let mut payload = [0; PAYLOAD_LEN];
        let (format, len) = match (text, self) {
            (Some((title, detail)), _) => {
                let details = ProblemDetails { title: Some(title), detail };
                (content_format::PROBLEM_DETAILS, details.encode(&mut payload).map_err(|_| NoSpace)?)
            }
            (None, Own::Edhoc(error)) if error != edhoc::Error::Peer => {
                (content_format::EDHOC, copy(&error.message(), &mut payload).ok_or(NoSpace)?)
            }
            _ => (content_format::EDHOC, 0),
        };
        message.set_code(code);
        if len > 0 {
            message.add_option_uint(option::CONTENT_FORMAT, format).map_err(|_| NoSpace)?;
        }
        if let Some(echo) = echo {
            message.add_option(option::ECHO, &echo).map_err(|_| NoSpace)?;
        }
        message.set_payload(payload.get(..len).unwrap_or_default()).map_err(|_| NoSpace)
    }
}

#[inline(never)]
fn compose(header: &Header, out: &mut [u8], write: &mut Write<'_>) -> Result<usize, NoSpace> {
    let mut writer = Writer::new(out, header)?;
    let mut message = writer.message();
    write(&mut message)?;
    let len = message.finish().0;
    writer.finish(len)
}

fn copy(from: &[u8], to: &mut [u8]) -> Option<usize> {
    to.get_mut(..from.len())?.copy_from_slice(from);
    Some(from.len())
}
