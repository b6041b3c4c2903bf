//! A client of other devices: one peer at a time, under EDHOC with this device's own key, then OSCORE.
//!
//! Who that peer is has to be decided before it learns anything from us: [`Client::connect`] asks for the peer's credential
//! in message_1, by EAD label 15, and lets the application approve of its key, by the device list as a rule:
//!
//! ```no_run
//! # async fn switch<A, L, F, R, B, M>(link: &mut L, to: A, server: &core::cell::RefCell<device::server::Server<M, F, R, B>>,
//! #     mut rng: R) -> Result<(), device_embassy::client::Error<L::Error>>
//! # where A: device::transport::Source, L: device::transport::Link<A>, F: embedded_storage::nor_flash::NorFlash,
//! #     R: rand_core::CryptoRngCore, B: device::device::Board,
//! #     M: core::ops::DerefMut<Target = device::server::Memory<A, 1>> {
//! use device_embassy::client::{Client, Error, Request};
//!
//! let own = server.borrow().device().private_key().cloned().ok_or(Error::NotReady)?;
//! let mine = |key: &_| server.borrow_mut().device_mut().is_my_device(key);
//! let mut session = Client::new(link, to).connect(&own, mine, &mut rng).await?;
//! let mut body = [0; 64];
//! session.request(&Request::put("/led", 60, &[0xf5]), &mut body).await?;
//! # Ok(()) }
//! ```
//!
//! message_3 goes with the first request (RFC 9668), since there are servers that take it no other way; alone to one that does
//! not know the option for that.
//!
//! Requests are confirmable and sent again as RFC 7252 section 4.2 has it; answers have to come with the acknowledgement,
//! as those of our devices do. Where a server wants proof of our address (RFC 9175), it gets it.

use core::fmt;

use coap_message::{MessageOption, MinimalWritableMessage, OptionNumber, ReadableMessage};
use coap_numbers::{code, option};
use device::{DATAGRAM_LEN, resources::content_format, transport::Link};
use embassy_time::{Duration, Instant, with_deadline};
use protocol::{
    coap::{Datagram, Header, NoSpace, Token, Type, Writer, is_option_length},
    edhoc::{self, ConnId, IdCred, Initiator, Transfer},
    key::{PrivateKey, PublicKey},
    oscore::{self, Context, Correlation},
};
use rand_core::CryptoRngCore;

/// ACK_TIMEOUT, with half of ACK_RANDOM_FACTOR on top: a device talks to one other at a time.
const ACK_TIMEOUT: Duration = Duration::from_millis(2500);
/// MAX_RETRANSMIT
const MAX_RETRANSMIT: u32 = 4;
/// What a request of ours has at most, in bytes: options and body.
const REQUEST_LEN: usize = 256;
/// The longest value of an Echo option (RFC 9175 section 2.2.1).
const ECHO_LEN: usize = 40;
/// What message_3 has at most, in bytes.
const MESSAGE_3_LEN: usize = 144;
/// How often one request is made: as it is, with an Echo option, and after a message_3 that had to go alone.
const ATTEMPTS: usize = 3;
/// Our connection identifier: there is one session at a time.
const C_I: Option<ConnId> = ConnId::new(0x0d);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error<E> {
    /// The link failed.
    Link(E),
    /// Nobody answered.
    TimedOut,
    /// What came is no answer of a device of ours.
    Malformed,
    /// The peer has a key that the application does not approve of. It learned nothing from us.
    NotMine,
    /// The handshake failed: what the peer said, or its proof.
    Handshake(edhoc::Error),
    /// The peer did not take message_3, and with it our credential.
    Refused,
    /// The answer is not protected, or not as it should be. The peer may have restarted: connect again.
    Unprotected(oscore::Error),
    /// The request or the answer does not fit.
    TooLong,
    /// This device has no key.
    NotReady,
}

impl<E> From<edhoc::Error> for Error<E> {
    fn from(error: edhoc::Error) -> Self {
        Error::Handshake(error)
    }
}

impl<E> From<NoSpace> for Error<E> {
    fn from(_: NoSpace) -> Self {
        Error::TooLong
    }
}

impl<E: fmt::Debug> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Link(error) => write!(f, "the link failed: {error:?}"),
            Error::TimedOut => f.write_str("nobody answers"),
            Error::Malformed => f.write_str("what answers is no device of ours"),
            Error::NotMine => f.write_str("the device list does not have this device"),
            Error::Handshake(error) => write!(f, "the handshake failed: {error}"),
            Error::Refused => f.write_str("the other device refused our credential"),
            Error::Unprotected(error) => write!(f, "the answer is not protected: {error}"),
            Error::TooLong => f.write_str("the request or the answer is too long"),
            Error::NotReady => f.write_str("this device has no key"),
        }
    }
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    method: u8,
    path: &'r str,
    content_format: Option<u16>,
    body: &'r [u8],
}

impl<'r> Request<'r> {
    /// GET
    pub const fn get(path: &'r str) -> Self {
        Request { method: code::GET, path, content_format: None, body: &[] }
    }

    /// PUT of a body with a content format.
    pub const fn put(path: &'r str, content_format: u16, body: &'r [u8]) -> Self {
        Request { method: code::PUT, path, content_format: Some(content_format), body }
    }

    const fn edhoc(content_format: u16, body: &'r [u8]) -> Self {
        Request { method: code::POST, path: "/.well-known/edhoc", content_format: Some(content_format), body }
    }

    /// Composes a datagram, with at most the bytes of `out`. `echo` is empty if there is nothing to prove.
    fn compose(&self, header: &Header, echo: &[u8], out: &mut [u8]) -> Result<usize, NoSpace> {
        let mut writer = Writer::new(out, &Header { code: self.method, ..*header })?;
        let mut message = writer.message();
        for segment in self.path.split('/').skip(1) {
            add_option(&mut message, option::URI_PATH, segment.as_bytes())?;
        }
        if let Some(format) = self.content_format {
            let bytes = format.to_be_bytes();
            let value = if format < 256 { bytes.get(1..) } else { Some(&bytes[..]) };
            add_option(&mut message, option::CONTENT_FORMAT, value.unwrap_or_default())?;
        }
        if !echo.is_empty() {
            add_option(&mut message, option::ECHO, echo)?;
        }
        message.set_payload(self.body).map_err(|_| NoSpace)?;
        let (len, _) = message.finish();
        writer.finish(len)
    }
}

fn add_option<M: MinimalWritableMessage>(message: &mut M, number: u16, value: &[u8]) -> Result<(), NoSpace> {
    let number = M::OptionNumber::new(number).map_err(|_| NoSpace)?;
    message.add_option(number, value).map_err(|_| NoSpace)
}

/// A response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// Its code.
    pub code: u8,
    /// How many bytes of body there are.
    pub len: usize,
}

/// Talks to one peer over a link that nobody else reads. 2.3 kB.
pub struct Client<'l, L, A> {
    link: &'l mut L,
    peer: A,
    message_id: u16,
    /// What the peer wants back, if it asked for that.
    echo: heapless::Vec<u8, ECHO_LEN>,
    outgoing: [u8; DATAGRAM_LEN],
    incoming: [u8; DATAGRAM_LEN],
}

impl<'l, A: Copy + Eq, L: Link<A>> Client<'l, L, A> {
    /// A client of `peer`.
    pub fn new(link: &'l mut L, peer: A) -> Self {
        let (outgoing, incoming) = ([0; DATAGRAM_LEN], [0; DATAGRAM_LEN]);
        Client { link, peer, message_id: 0, echo: heapless::Vec::new(), outgoing, incoming }
    }

    /// Lets the peer say its key, `approve` decide about that, and the peer prove it: by EDHOC, with `own` by value. Costs four
    /// P-256 operations. message_3 is yet to be sent: it goes with the first request.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn connect(
        mut self,
        own: &PrivateKey,
        approve: impl FnOnce(&PublicKey) -> bool,
        rng: &mut impl CryptoRngCore,
    ) -> Result<Session<'l, L, A>, Error<L::Error>> {
        // Another one each time, so that late answers to an earlier client are not taken for ours.
        self.message_id = rng.next_u32() as u16;
        let (initiator, message_1) = Initiator::start_asking(own, C_I.ok_or(edhoc::Error::ConnectionId)?, rng)?;
        let message_2 = self.send_edhoc(&[0xf5], &message_1).await?;
        let mine = |id_cred: IdCred<'_>| match id_cred {
            IdCred::Ccs(key, _) if key != *own.public() && approve(&key) => Some(key),
            // Whose that is only the peer can say, and it did not.
            _ => None,
        };
        let message_2 = self.incoming.get(message_2).ok_or(Error::Malformed)?;
        let finished = initiator.finish(message_2, Transfer::ByValue, mine);
        let (pending, message_3) = finished.map_err(|error| match error {
            edhoc::Error::UnknownCredential => Error::NotMine,
            error => Error::Handshake(error),
        })?;
        let (c_r, key) = (pending.c_r, pending.peer);
        let context = pending.confirm(None)?;
        Ok(Session { client: self, context, key, c_r, message_3: Some(message_3) })
    }

    /// Sends an EDHOC message, and returns where the one in the answer is.
    async fn send_edhoc(&mut self, before: &[u8], message: &[u8]) -> Result<core::ops::Range<usize>, Error<L::Error>> {
        let mut body = heapless::Vec::<u8, REQUEST_LEN>::from_slice(before).map_err(|_| Error::TooLong)?;
        body.extend_from_slice(message).map_err(|_| Error::TooLong)?;
        let request = Request::edhoc(content_format::CID_EDHOC, &body);
        for _attempt in 1..ATTEMPTS {
            let header = self.next_header();
            let len = request.compose(&header, &self.echo, &mut self.outgoing)?;
            let len = self.exchange(&header, len).await?;
            let answer = Datagram::parse(self.incoming.get(..len).unwrap_or_default()).map_err(|_| Error::Malformed)?;
            if let Some(echo) = echo_wanted(&answer.message()) {
                self.echo = echo;
                continue;
            }
            let start = len.checked_sub(answer.payload_length()).ok_or(Error::Malformed)?;
            match answer.header.code {
                code::CHANGED => return Ok(start..len),
                _ => break,
            }
        }
        Err(Error::Handshake(edhoc::Error::Peer))
    }

    fn next_header(&mut self) -> Header {
        self.message_id = self.message_id.wrapping_add(1);
        let [high, low] = self.message_id.to_be_bytes();
        let token = Token::new(&[high, low]).unwrap_or(Token::EMPTY);
        Header { type_: Type::Con, code: code::EMPTY, message_id: self.message_id, token }
    }

    /// Sends what was composed, until its answer is there. Returns the length of that.
    async fn exchange(&mut self, header: &Header, len: usize) -> Result<usize, Error<L::Error>> {
        let mut patience = ACK_TIMEOUT;
        for _attempt in 0..=MAX_RETRANSMIT {
            self.link.send(self.peer, self.outgoing.get(..len).unwrap_or_default()).await.map_err(Error::Link)?;
            let deadline = Instant::now().saturating_add(patience);
            while let Ok(received) = with_deadline(deadline, self.link.receive()).await {
                let (datagram, from) = received.map_err(Error::Link)?;
                let is_ours = |datagram: Datagram<'_>| {
                    let Header { type_, message_id, token, code } = datagram.header;
                    (type_, message_id, token) == (Type::Ack, header.message_id, header.token) && code != code::EMPTY
                };
                if from == self.peer && Datagram::parse(datagram).is_ok_and(is_ours) {
                    let room = self.incoming.get_mut(..datagram.len()).ok_or(Error::TooLong)?;
                    room.copy_from_slice(datagram);
                    return Ok(room.len());
                }
            }
            patience = patience.checked_mul(2).unwrap_or(patience);
        }
        Err(Error::TimedOut)
    }
}

/// An authenticated peer.
pub struct Session<'l, L, A> {
    client: Client<'l, L, A>,
    context: Context,
    key: PublicKey,
    c_r: ConnId,
    /// Goes with requests until one is answered.
    message_3: Option<edhoc::Message>,
}

impl<A: Copy + Eq, L: Link<A>> Session<'_, L, A> {
    /// The key that the peer proved.
    pub fn peer(&self) -> &PublicKey {
        &self.key
    }

    /// Makes a request. Its answer's body is written to `body`.
    ///
    /// # Errors
    /// See [`Error`]. A refusal is no error: it has its code.
    pub async fn request(&mut self, request: &Request<'_>, body: &mut [u8]) -> Result<Response, Error<L::Error>> {
        for _attempt in 0..ATTEMPTS {
            let (answer, correlation) = self.exchange(request).await?;
            let Session { client, context, message_3, .. } = self;
            let (answer, plaintext) = (client.incoming.get(..answer).unwrap_or_default(), &mut client.outgoing);
            let outer = Datagram::parse(answer).map_err(|_| Error::Malformed)?;
            let inner = match (context.unprotect_response(&outer.message(), plaintext, &correlation), &message_3) {
                (Ok(inner), _) => inner,
                // It does not know the option that announces message_3.
                (Err(oscore::Error::NotProtected), Some(_)) if outer.header.code == code::BAD_OPTION => {
                    self.send_message_3().await?;
                    continue;
                }
                (Err(oscore::Error::NotProtected), Some(_)) => return Err(Error::Refused),
                (Err(error), _) => return Err(Error::Unprotected(error)),
            };
            *message_3 = None;
            if client.echo.is_empty()
                && let Some(echo) = echo_wanted(&inner)
            {
                client.echo = echo;
                continue;
            }
            let payload = inner.payload();
            body.get_mut(..payload.len()).ok_or(Error::TooLong)?.copy_from_slice(payload);
            return Ok(Response { code: inner.code(), len: payload.len() });
        }
        Err(Error::Refused)
    }

    /// Sends a request under protection, with message_3 if that is yet to be sent. Returns the length of the answer.
    async fn exchange(&mut self, request: &Request<'_>) -> Result<(usize, Correlation), Error<L::Error>> {
        let Session { client, context, message_3, .. } = self;
        let header = client.next_header();
        let (mut inner, mut scratch) = ([0; REQUEST_LEN], [0; REQUEST_LEN + MESSAGE_3_LEN]);
        let len = request.compose(&header, &client.echo, &mut inner)?;
        let inner = Datagram::parse(inner.get(..len).unwrap_or_default()).map_err(|_| Error::TooLong)?;
        let mut writer = Writer::new(&mut client.outgoing, &header)?;
        let mut outer = writer.message();
        let correlation = match message_3 {
            Some(message_3) => context.protect_combined_request(message_3, &inner.message(), &mut outer, &mut scratch),
            None => context.protect_request(&inner.message(), &mut outer, &mut scratch),
        };
        let correlation = correlation.map_err(Error::Unprotected)?;
        let (len, _) = outer.finish();
        let len = writer.finish(len)?;
        Ok((client.exchange(&header, len).await?, correlation))
    }

    /// Sends message_3 alone. What proves that it was taken is not message_4, but the first answer under protection.
    async fn send_message_3(&mut self) -> Result<(), Error<L::Error>> {
        let Some(message_3) = self.message_3.take() else { return Ok(()) };
        match self.client.send_edhoc(&[self.c_r.byte()], &message_3).await {
            Err(Error::Handshake(_)) => Err(Error::Refused),
            sent => sent.map(drop),
        }
    }
}

/// The Echo option's value, if the peer asks for proof of our address with it (RFC 9175 section 2.3).
fn echo_wanted(answer: &impl ReadableMessage) -> Option<heapless::Vec<u8, ECHO_LEN>> {
    let mut options = answer.options();
    let echo =
        options.find(|option| option.number() == option::ECHO && is_option_length(option::ECHO, option.value().len()));
    let is_wanted = answer.code().into() == code::UNAUTHORIZED;
    echo.filter(|_| is_wanted).and_then(|echo| heapless::Vec::from_slice(echo.value()).ok())
}
