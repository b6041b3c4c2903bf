//! The client: requests in, datagrams out, and responses back.
//!
//! ```text
//! Transaction::new(client, session, request) ->  poll    -> Step::Send: a datagram for the peer
//!                                            |           -> Step::Wait: for a datagram, until some time
//!                                            |           -> Step::Done: see Transaction::finish
//!                                            <- receive <-  a datagram of the peer
//! ```
//!
//! A [`Transaction`] is one whole request with its whole response: retransmission and matching, Echo (RFC 9175), blocks (RFC
//! 7959), and in a [`Session`] OSCORE, where the first request carries message_3 (RFC 9668). A session begins with
//! [`Handshake::start`](session::Handshake::start), whose message_1 and message_2 are a transaction without a session.
//!
//! Time is an argument, in whatever unit [`Timers`] are in. There is one transaction at a time.

mod delivery;
mod message;
pub mod session;
mod transfer;

use coap_message::ReadableMessage;
use coap_numbers::{
    code::{self, Range, classify},
    option,
};
use rand_core::{CryptoRngCore, RngCore};
use zeroize::Zeroize as _;

use self::delivery::{Acknowledged, Delivery, Due};
use self::message::{Echo, single_option, uint_option};
use self::session::Session;
use self::transfer::{Progress, Transfer};
use crate::coap::{Datagram, Header, Message, NoSpace, Token, Type, Writer, unsupported_option};
use crate::oscore::{self, Correlation, OptionValue};

pub use self::delivery::{Sorted, Timers};
pub use self::message::{Request, Response};

/// Bytes of a token (RFC 7252 section 5.3.1 wants 32 bits of randomness where anybody may send).
const TOKEN_LEN: usize = 4;
/// What code, options and header of a request take beside its payload, in bytes, generously.
const REQUEST_OVERHEAD: usize = 64;
/// What OSCORE adds to a message at most: option, inner code and tag, and the EDHOC option of the first one, in bytes.
const OSCORE_OVERHEAD: usize = 24;

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Nobody answered.
    NoAnswer,
    /// The message was turned away.
    Reset,
    /// The server does not keep to the protocol.
    Malformed(&'static str),
    /// The resource changed between two of its blocks.
    Changed,
    /// The request does not fit a datagram, or the response not the buffer.
    TooLarge,
    /// The server did not get done in the time that was given.
    TooSlow,
    /// A protected request was answered without protection. Anybody can have sent that: it is to be shown, not believed.
    Unprotected(Response),
    /// A response does not verify, or a request cannot be protected.
    Oscore(oscore::Error),
}

impl From<transfer::Error> for Error {
    fn from(error: transfer::Error) -> Self {
        match error {
            transfer::Error::Malformed(what) => Self::Malformed(what),
            transfer::Error::Changed => Self::Changed,
            transfer::Error::TooLarge => Self::TooLarge,
        }
    }
}

impl From<NoSpace> for Error {
    fn from(_: NoSpace) -> Self {
        Self::TooLarge
    }
}

impl From<oscore::Error> for Error {
    fn from(error: oscore::Error) -> Self {
        match error {
            oscore::Error::NoSpace => Self::TooLarge,
            error => Self::Oscore(error),
        }
    }
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'s> {
    /// Send this; what cannot be sent until then is lost.
    Send {
        /// The datagram.
        datagram: &'s [u8],
        /// Some time.
        until: u64,
    },
    /// Wait for a datagram of the peer.
    Wait {
        /// Until when.
        until: u64,
    },
    /// Nothing more: there is an answer, or there will be none.
    Done,
}

/// A client of one peer: Message IDs, and one message on its way. `DATAGRAM` bytes and some 100.
pub struct Client<const DATAGRAM: usize> {
    message_id: u16,
    timers: Timers,
    /// The largest datagram that the peer takes, in bytes.
    largest: usize,
    /// What the peer wanted back without protection.
    echo: Echo,
    acknowledged: Acknowledged,
    delivery: Option<Delivery>,
    /// An acknowledgement or a Reset, and until when it is of use.
    reply: [u8; 4],
    reply_until: Option<u64>,
    outgoing: [u8; DATAGRAM],
    len: usize,
}

impl<const DATAGRAM: usize> Client<DATAGRAM> {
    /// A client whose first Message ID is random, so that late answers to an earlier one are not taken for its own.
    pub fn new(timers: Timers, first_message_id: u16) -> Self {
        Self {
            message_id: first_message_id,
            timers,
            largest: DATAGRAM,
            echo: Echo::new(),
            acknowledged: Acknowledged::default(),
            delivery: None,
            reply: [0; 4],
            reply_until: None,
            outgoing: [0; DATAGRAM],
            len: 0,
        }
    }

    /// Exchanges the timers.
    pub fn set_timers(&mut self, timers: Timers) {
        self.timers = timers;
    }

    /// Adapts to the largest datagram that the peer takes, in bytes.
    pub fn set_largest_datagram(&mut self, largest: usize) {
        self.largest = largest.min(DATAGRAM);
    }

    /// The longest payload that fits a request, in bytes.
    pub fn room(&self, session: Option<&Session>) -> usize {
        let protection = session.map_or(0, |session| OSCORE_OVERHEAD.saturating_add(session.message_3().len()));
        self.largest.saturating_sub(REQUEST_OVERHEAD.saturating_add(protection))
    }

    /// Begins a CoAP ping (RFC 7252 section 4.3). It is over with [`Sorted::Reset`] or [`Sorted::Acknowledged`]. Where it comes
    /// `again`, an answer to one of the pings before will do as well.
    pub fn ping(&mut self, again: bool, rng: &mut (impl RngCore + ?Sized)) {
        let before = self.delivery.as_ref().filter(|_| again).map(|delivery| delivery.message_ids().0);
        let message_id = self.next_message_id();
        let header = Header { type_: Type::Con, code: code::EMPTY, message_id, token: Token::EMPTY };
        self.len = Writer::new(&mut self.outgoing, &header).and_then(|writer| writer.finish(0)).unwrap_or(0);
        self.delivery = Some(Delivery::ping((before.unwrap_or(message_id), message_id), self.timers, rng));
    }

    /// Waits for no answer any more: nothing is sent again.
    pub fn stop(&mut self) {
        self.delivery = None;
    }

    /// Says what is to be done at the time `now`. [`Step::Done`] while a message is on its way means that nobody answered.
    pub fn poll(&mut self, now: u64) -> Step<'_> {
        let due = self.due(now);
        self.step(due)
    }

    fn due(&mut self, now: u64) -> Due {
        match (self.reply_until, &mut self.delivery) {
            (Some(until), _) => Due::Send { until },
            (None, Some(delivery)) => delivery.due(now),
            (None, None) => Due::GiveUp,
        }
    }

    fn step(&mut self, due: Due) -> Step<'_> {
        match due {
            Due::Send { until } if self.reply_until.take().is_some() => Step::Send { datagram: &self.reply, until },
            Due::Send { until } => Step::Send { datagram: self.outgoing.get(..self.len).unwrap_or_default(), until },
            Due::Wait { until } => Step::Wait { until },
            Due::GiveUp => Step::Done,
        }
    }

    /// Sorts out a datagram of the peer. What it is to be answered with is sent by the next [`poll`](Self::poll).
    pub fn receive(&mut self, datagram: &[u8], now: u64) -> Sorted {
        Datagram::parse(datagram).map_or(Sorted::Nothing, |parsed| self.sort(&parsed.header, now))
    }

    fn sort(&mut self, header: &Header, now: u64) -> Sorted {
        let (sorted, reply) = self.acknowledged.sort(header, self.delivery.as_mut(), now);
        if let Some(type_) = reply {
            let header = Header { type_, code: code::EMPTY, message_id: header.message_id, token: Token::EMPTY };
            let written = Writer::new(&mut self.reply, &header).is_ok();
            let until = self.delivery.as_ref().and_then(Delivery::until);
            self.reply_until = written.then(|| until.unwrap_or(now.saturating_add(self.timers.ack_timeout)));
        }
        sorted
    }

    fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.wrapping_add(1);
        self.message_id
    }
}

/// One whole request with its whole response.
pub struct Transaction<'t, R: ?Sized, const DATAGRAM: usize> {
    client: &'t mut Client<DATAGRAM>,
    session: Option<&'t mut Session>,
    request: Request<'t>,
    rng: &'t mut R,
    body: &'t mut [u8],
    transfer: Transfer,
    /// No message is begun after that.
    until: u64,
    correlation: Option<Correlation>,
    token: Token,
    /// Made again as an Echo option asked for it.
    is_repeated: bool,
    outcome: Option<Result<Response, Error>>,
}

impl<'t, R: CryptoRngCore + ?Sized, const DATAGRAM: usize> Transaction<'t, R, DATAGRAM> {
    /// Begins a transaction, under protection if there is a `session`. The response's body goes into `body`, also of a refusal.
    /// No message is begun after `until`.
    pub fn new(
        client: &'t mut Client<DATAGRAM>,
        session: Option<&'t mut Session>,
        request: Request<'t>,
        rng: &'t mut R,
        body: &'t mut [u8],
        until: u64,
    ) -> Self {
        let mut tag = [0; 4];
        rng.fill_bytes(&mut tag);
        let transfer = Transfer::new(client.room(session.as_deref()), tag);
        let (correlation, token) = (None, Token::EMPTY);
        let mut this = Self {
            client,
            session,
            request,
            rng,
            body,
            transfer,
            until,
            correlation,
            token,
            is_repeated: false,
            outcome: None,
        };
        this.next();
        this
    }

    /// Says what is to be done at the time `now`.
    pub fn poll(&mut self, now: u64) -> Step<'_> {
        if self.outcome.is_some() && self.client.reply_until.is_none() {
            return Step::Done;
        }
        let due = self.client.due(now);
        if due == Due::GiveUp && self.outcome.is_none() {
            self.outcome = Some(Err(Error::NoAnswer));
        }
        self.client.step(due)
    }

    /// Takes a datagram of the peer, which is decrypted where it lies. Returns what it is to this transaction, and the code
    /// inside it if it was protected.
    pub fn receive(&mut self, datagram: &mut [u8], now: u64) -> (Sorted, Option<u8>) {
        let Ok(parsed) = Datagram::parse(datagram) else { return (Sorted::Nothing, None) };
        let (header, payload_length) = (parsed.header, parsed.payload_length());
        let sorted = self.client.sort(&header, now);
        match sorted {
            Sorted::Response => {
                self.client.stop();
                let (code, taken) = self.take(&header, payload_length, datagram);
                match taken {
                    Ok(None) if now > self.until => self.outcome = Some(Err(Error::TooSlow)),
                    Ok(None) => self.next(),
                    Ok(Some(response)) => self.outcome = Some(Ok(response)),
                    Err(error) => self.outcome = Some(Err(error)),
                }
                (sorted, code)
            }
            Sorted::Reset => {
                self.outcome = Some(Err(Error::Reset));
                (sorted, None)
            }
            Sorted::Acknowledged | Sorted::Nothing => (sorted, None),
        }
    }

    /// What notifications will belong to (RFC 7641), if the response has an Observe option.
    pub fn observation(&self) -> Option<Observation> {
        let Some(Ok(Response { observe: Some(sequence), .. })) = self.outcome else { return None };
        let (token, correlation) = (self.token, self.correlation);
        Some(Observation { token, correlation, sequence, partial_iv: None })
    }

    /// The response, or why there is none.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn finish(mut self) -> Result<Response, Error> {
        self.outcome.take().unwrap_or(Err(Error::NoAnswer))
    }

    /// Bytes of message_3 in the message that is on its way.
    pub fn message_3_len(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.message_3().len())
    }

    /// Composes the next message.
    fn next(&mut self) {
        if let Err(error) = self.compose() {
            // A half of a message may lie there that was not encrypted yet.
            self.client.outgoing.zeroize();
            self.outcome = Some(Err(error));
        }
    }

    fn compose(&mut self) -> Result<(), Error> {
        let piece = self.transfer.piece(self.request.payload)?;
        let mut token = [0; TOKEN_LEN];
        self.rng.fill_bytes(&mut token);
        let token = Token::new(&token).unwrap_or(Token::EMPTY);
        let message_id = self.client.next_message_id();
        let header = Header { type_: Type::Con, code: self.request.method, message_id, token };
        let out = &mut self.client.outgoing;
        self.client.len = match self.session.as_deref_mut() {
            None => self.request.compose_piece(&piece, &self.client.echo, &header, out)?,
            Some(session) => {
                let observe = self.request.observe.filter(|_| !piece.is_later());
                let (context, message_3, echo) = session.for_request();
                let (mut unsealed, correlation) = context.request(message_3, observe, &header, out)?;
                let mut message = unsealed.message()?;
                self.request.write(&piece, echo, &mut message)?;
                let len = message.finish().0;
                self.correlation = Some(correlation);
                unsealed.seal(context, len)?
            }
        };
        self.token = token;
        self.client.delivery = Some(Delivery::request(message_id, token, self.client.timers, self.rng));
        Ok(())
    }

    /// Takes a response. Returns the code inside it, and the whole response if it is that.
    fn take(
        &mut self,
        header: &Header,
        payload_length: usize,
        datagram: &mut [u8],
    ) -> (Option<u8>, Result<Option<Response>, Error>) {
        let outer = message_of(header, datagram);
        let (Some(session), Some(correlation)) = (self.session.as_deref_mut(), &self.correlation) else {
            return (None, self.take_plain(&outer));
        };
        let observe = uint_option(&outer, option::OBSERVE);
        let option = match OptionValue::of(&outer) {
            Ok(option) => option,
            Err(oscore::Error::NotProtected) => return (None, Err(self.unprotected(&outer))),
            Err(error) => return (None, Err(Error::Oscore(error))),
        };
        let payload_start = datagram.len().saturating_sub(payload_length);
        let ciphertext = datagram.get_mut(payload_start..).unwrap_or_default();
        match session.open_response(&option, ciphertext, correlation) {
            Ok(inner) => (Some(inner.code()), self.take_plain(&inner).map(|response| outside(response, observe))),
            Err(error) => (None, Err(error.into())),
        }
    }

    fn unprotected(&mut self, outer: &Message<'_>) -> Error {
        let payload = outer.payload();
        match self.body.get_mut(..payload.len()) {
            Some(room) => {
                room.copy_from_slice(payload);
                Error::Unprotected(Response::of(outer, payload.len()))
            }
            None => Error::TooLarge,
        }
    }

    /// Takes a response in plain text.
    fn take_plain(&mut self, message: &Message<'_>) -> Result<Option<Response>, Error> {
        if !matches!(classify(message.code()), Range::Response(_)) {
            return Err(Error::Malformed("a request in place of a response"));
        }
        // A response with critical options that are not known must not be used (RFC 7252 section 5.4.1).
        if unsupported_option(message, &[option::BLOCK1, option::BLOCK2]).is_some() {
            return Err(Error::Malformed("an option that must not be ignored and is not known"));
        }
        if let Some(echo) = echo_wanted(message).filter(|_| !self.is_repeated) {
            *self.session.as_deref_mut().map_or(&mut self.client.echo, Session::echo_mut) = echo;
            self.is_repeated = true;
            return Ok(None);
        }
        self.is_repeated = false;
        let piece = self.transfer.piece(self.request.payload)?;
        match self.transfer.take(&piece, message, self.body)? {
            Progress::Next => Ok(None),
            Progress::Done(len) => Ok(Some(Response::of(message, len))),
        }
    }
}

impl<R: ?Sized, const DATAGRAM: usize> Drop for Transaction<'_, R, DATAGRAM> {
    fn drop(&mut self) {
        self.client.stop();
    }
}

/// What notifications belong to (RFC 7641).
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    token: Token,
    /// None without protection.
    correlation: Option<Correlation>,
    /// Of the newest response.
    sequence: u32,
    /// Likewise, of a protected notification.
    partial_iv: Option<u64>,
}

impl Observation {
    /// Takes a datagram of the peer while no transaction is under way. Returns the response, if it is a notification that is
    /// newer than those before: without an Observe option in it, it is the last one. Of a longer body the first block is there;
    /// the rest is for a request of its own (RFC 7959 section 2.6). The next [`Client::poll`] acknowledges it.
    ///
    /// # Errors
    /// See [`Error`]; the observation goes on.
    pub fn take<const DATAGRAM: usize>(
        &mut self,
        client: &mut Client<DATAGRAM>,
        session: Option<&mut Session>,
        datagram: &mut [u8],
        body: &mut [u8],
        now: u64,
    ) -> Result<Option<Response>, Error> {
        let Ok(parsed) = Datagram::parse(datagram) else { return Ok(None) };
        let (header, payload_length) = (parsed.header, parsed.payload_length());
        let is_ours = header.token == self.token && matches!(classify(header.code), Range::Response(_));
        if header.type_ == Type::Con && is_ours {
            client.acknowledged.remember(header.message_id);
        }
        client.sort(&header, now);
        if !is_ours || !matches!(header.type_, Type::Con | Type::Non) {
            return Ok(None);
        }
        let outer = message_of(&header, datagram);
        let observe = uint_option(&outer, option::OBSERVE);
        let (Some(session), Some(correlation)) = (session, &self.correlation) else {
            return match observe {
                Some(sequence) if !self.is_newer(sequence) => Ok(None),
                _ => self.taken(&outer, observe, body).map(Some),
            };
        };
        let option = OptionValue::of(&outer)?;
        // The order is that of the Partial IVs (RFC 8613 section 4.1.3.5.2).
        let partial_iv = option.partial_iv.map(|partial_iv| partial_iv.sequence());
        if partial_iv.is_none() || partial_iv <= self.partial_iv {
            return Ok(None);
        }
        let payload_start = datagram.len().saturating_sub(payload_length);
        let inner =
            session.open_response(&option, datagram.get_mut(payload_start..).unwrap_or_default(), correlation)?;
        self.partial_iv = partial_iv;
        self.taken(&inner, observe, body).map(Some)
    }

    fn taken(&mut self, message: &Message<'_>, observe: Option<u32>, body: &mut [u8]) -> Result<Response, Error> {
        self.sequence = observe.unwrap_or(self.sequence);
        let payload = message.payload();
        body.get_mut(..payload.len()).ok_or(Error::TooLarge)?.copy_from_slice(payload);
        Ok(Response { observe, ..Response::of(message, payload.len()) })
    }

    /// RFC 7641 section 3.4, without regard to the time between them.
    fn is_newer(&self, sequence: u32) -> bool {
        let ahead = sequence.wrapping_sub(self.sequence) & 0xff_ffff;
        (1..0x80_0000).contains(&ahead)
    }
}

fn message_of<'d>(header: &Header, datagram: &'d [u8]) -> Message<'d> {
    Message::new_from_slice(header.code, datagram.get(header.len()..).unwrap_or_default())
}

/// The Observe option of a response counts as it is outside (RFC 8613 section 4.1.3.5.2).
fn outside(response: Option<Response>, observe: Option<u32>) -> Option<Response> {
    response.map(|response| Response { observe: response.observe.and(observe), ..response })
}

/// The Echo option's value, if the peer asks for proof of our address with it (RFC 9175 section 2.3).
fn echo_wanted(response: &Message<'_>) -> Option<Echo> {
    let is_wanted = response.code() == code::UNAUTHORIZED;
    single_option(response, option::ECHO, |value| Echo::from_slice(value).ok()).flatten().filter(|_| is_wanted)
}
