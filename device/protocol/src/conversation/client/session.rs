//! The client's side of a session: an EDHOC handshake (RFC 9528), then OSCORE (RFC 8613).
//!
//! ```text
//! Handshake::start -> message_1 -> POST /.well-known/edhoc -> the response -> Handshake::finish -> Session
//! ```
//!
//! A session proves one thing: the other end holds a key. message_2 shows that by a MAC of 64 bits; only the first response that
//! OSCORE verifies shows that the other end also finished the handshake with us. [`Session::is_confirmed`] says whether there
//! was one.

use cbor_schemas::ProblemDetails;
use coap_numbers::code;
use heapless::Vec;
use rand_core::CryptoRngCore;

use super::message::{Echo, Request, Response};
use crate::coap::Message;
use crate::conversation::content_format;
use crate::edhoc::{self, Ccs, ConnId, IdCred, Initiator, PeerError, Pending, Transfer, parse_error};
use crate::key::{PrivateKey, PublicKey};
use crate::oscore::{self, Context, Correlation, OptionValue};

/// Where EDHOC messages are posted (RFC 9528 appendix A.2).
pub const EDHOC_PATH: &str = "/.well-known/edhoc";
/// What stands before message_1 in a request: the CBOR simple value `true` (RFC 9528 appendix A.2.1).
const MESSAGE_1_FOLLOWS: u8 = 0xf5;
/// Our connection identifier. One is enough: a client has one session at a time.
const C_I: Option<ConnId> = ConnId::new(0x00);

/// The payload of a request with an EDHOC message: a byte, and the message.
pub type Payload = Vec<u8, 145>;

/// The request that carries an EDHOC message.
pub fn edhoc_request(payload: &[u8]) -> Request<'_> {
    Request::post(EDHOC_PATH, content_format::CID_EDHOC, payload)
}

/// Why a peer did not go on, as far as its response says. Anybody can have sent that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused<'b> {
    /// The peer forgot our handshake for others', or begins no more of them for now.
    Busy,
    /// An EDHOC error message.
    Peer(PeerError<'b>),
    /// What answered does not speak EDHOC.
    NoEdhoc,
    /// The peer did not take message_3, and with it our credential, without saying why.
    Credential,
    /// The peer does not know the option that announces message_3: it is to be sent alone.
    Combined,
    /// The peer does not know the session.
    Unprotected,
}

impl<'b> Refused<'b> {
    /// Why message_1 was refused.
    pub fn of_message_1(response: &Response, body: &'b [u8]) -> Self {
        Self::edhoc_error(response, body).unwrap_or(match response.code {
            code::SERVICE_UNAVAILABLE => Self::Busy,
            _ => Self::NoEdhoc,
        })
    }

    /// Why message_3 was refused, alone or with a request.
    pub fn of_message_3(response: &Response, body: &'b [u8]) -> Self {
        let body = body.get(..response.len).unwrap_or_default();
        let details = ProblemDetails::decode(body)
            .ok()
            .filter(|_| response.content_format == Some(content_format::PROBLEM_DETAILS));
        let is_bare = details.is_none_or(|details| details.title.is_none() && details.detail.is_none());
        Self::edhoc_error(response, body).unwrap_or(match response.code {
            code::BAD_REQUEST if is_bare => Self::Credential,
            code::BAD_OPTION => Self::Combined,
            _ => Self::Unprotected,
        })
    }

    /// Why a later request was refused.
    pub fn of_request(response: &Response, body: &'b [u8]) -> Self {
        Self::edhoc_error(response, body).unwrap_or(Self::Unprotected)
    }

    /// An EDHOC error message, if the response carries one.
    fn edhoc_error(response: &Response, body: &'b [u8]) -> Option<Self> {
        let error = parse_error(body.get(..response.len)?)
            .filter(|_| response.content_format == Some(content_format::EDHOC))?;
        Some(if error.is_no_handshake() { Self::Busy } else { Self::Peer(error) })
    }
}

/// The EDHOC message in a response, if the request was not refused. Some servers leave the format out.
pub fn edhoc_message<'b>(response: &Response, body: &'b [u8]) -> Option<&'b [u8]> {
    let is_edhoc = matches!(response.content_format, None | Some(content_format::EDHOC));
    body.get(..response.len).filter(|_| response.code == code::CHANGED && is_edhoc)
}

/// A handshake that waits for message_2.
pub struct Handshake(Initiator);

impl Handshake {
    /// Begins a handshake. `asks` the other end for its credential by value, where that is not known. Gives the payload of an
    /// [`edhoc_request`]. One key generation.
    ///
    /// # Errors
    /// None that an input could cause.
    pub fn start(own: &PrivateKey, asks: bool, rng: &mut impl CryptoRngCore) -> Result<(Self, Payload), edhoc::Error> {
        let c_i = C_I.ok_or(edhoc::Error::ConnectionId)?;
        let (initiator, message_1) = match asks {
            true => Initiator::start_asking(own, c_i, rng)?,
            false => Initiator::start(own, c_i, rng)?,
        };
        Ok((Self(initiator), payload(MESSAGE_1_FOLLOWS, &message_1)?))
    }

    /// Takes message_2 of the peer that has this credential, and of nobody else. Costs three ECDH.
    ///
    /// # Errors
    /// [`edhoc::Error::UnknownCredential`] if somebody else answered; the handshake is over with any error.
    pub fn finish_with_known(
        self,
        message_2: &[u8],
        transfer: Transfer,
        peer: &Ccs,
    ) -> Result<Authenticated, edhoc::Error> {
        let (pending, message_3) = self.0.finish_with_known(message_2, transfer, peer)?;
        Ok(Authenticated { pending, message_3 })
    }

    /// Takes message_2 of a peer that sends its key by value, if `approve` says so. Costs three ECDH.
    ///
    /// # Errors
    /// [`edhoc::Error::UnknownCredential`] if it does not; the handshake is over with any error.
    pub fn finish(
        self,
        message_2: &[u8],
        transfer: Transfer,
        approve: impl FnOnce(&PublicKey) -> bool,
    ) -> Result<Authenticated, edhoc::Error> {
        let by_value = |id_cred: IdCred<'_>| match id_cred {
            IdCred::Ccs(key, _) if approve(&key) => Some(key),
            // Whose a kid is only the peer can say, and it did not.
            _ => None,
        };
        let (pending, message_3) = self.0.finish(message_2, transfer, by_value)?;
        Ok(Authenticated { pending, message_3 })
    }
}

/// The peer has shown that it holds its key; message_3 is to be sent.
pub struct Authenticated {
    pending: Pending,
    message_3: edhoc::Message,
}

impl Authenticated {
    /// Begins the session; message_3 goes with its first request (RFC 9668).
    ///
    /// # Errors
    /// None that an input could cause.
    pub fn session(mut self) -> Result<Session, edhoc::Error> {
        let message_3 = core::mem::take(&mut self.message_3);
        self.begin(None, message_3)
    }

    /// The payload of the [`edhoc_request`] that carries message_3 alone. The response to it has message_4.
    ///
    /// # Errors
    /// None that an input could cause.
    pub fn message_3_alone(&self) -> Result<Payload, edhoc::Error> {
        payload(self.pending.c_r.byte(), &self.message_3)
    }

    /// Begins the session with the message_4 that came back.
    ///
    /// # Errors
    /// message_4 does not verify.
    pub fn confirm(self, message_4: &[u8]) -> Result<Session, edhoc::Error> {
        self.begin(Some(message_4), edhoc::Message::new())
    }

    fn begin(self, message_4: Option<&[u8]>, message_3: edhoc::Message) -> Result<Session, edhoc::Error> {
        let pending = self.pending;
        let (peer, c_r, transcript) = (pending.peer, pending.c_r, pending.transcript());
        let context = pending.confirm(message_4)?;
        Ok(Session { context, peer, c_r, transcript, message_3, echo: Echo::new(), is_confirmed: false })
    }
}

/// A session with one peer. About 500 bytes.
pub struct Session {
    context: Context,
    peer: PublicKey,
    c_r: ConnId,
    /// TH_4 of the handshake.
    transcript: [u8; 32],
    /// Goes with requests until one is answered; empty then.
    message_3: edhoc::Message,
    /// What the peer wanted back, under protection, to prove our address.
    echo: Echo,
    is_confirmed: bool,
}

impl Session {
    /// The peer's key.
    pub fn peer(&self) -> &PublicKey {
        &self.peer
    }

    /// The transcript hash of the handshake, TH_4.
    pub fn transcript(&self) -> [u8; 32] {
        self.transcript
    }

    /// Whether a response was verified: from then on the peer is known to hold its key.
    pub fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Takes message_3 out, to be sent alone in an [`edhoc_request`] to a peer that does not know it with a request. What shows
    /// that it was taken is the first response that verifies.
    ///
    /// # Errors
    /// None that an input could cause.
    pub fn take_message_3(&mut self) -> Result<Payload, edhoc::Error> {
        payload(self.c_r.byte(), &core::mem::take(&mut self.message_3))
    }

    /// Whether message_3 goes with the next request.
    pub fn carries_message_3(&self) -> bool {
        !self.message_3.is_empty()
    }

    /// message_3 as long as no request was answered, and empty then.
    pub(super) fn message_3(&self) -> &[u8] {
        &self.message_3
    }

    /// What a request takes: the context, message_3 and the Echo option's value.
    pub(super) fn for_request(&mut self) -> (&mut Context, &[u8], &[u8]) {
        (&mut self.context, &self.message_3, &self.echo)
    }

    pub(super) fn echo_mut(&mut self) -> &mut Echo {
        &mut self.echo
    }

    pub(super) fn open_response<'b>(
        &mut self,
        option: &OptionValue,
        ciphertext: &'b mut [u8],
        correlation: &Correlation,
    ) -> Result<Message<'b>, oscore::Error> {
        let inner = self.context.open_response(option, ciphertext, correlation)?;
        self.message_3.clear();
        self.is_confirmed = true;
        Ok(inner)
    }
}

fn payload(first: u8, message: &[u8]) -> Result<Payload, edhoc::Error> {
    let mut payload = Payload::new();
    payload.push(first).map_err(|_| edhoc::Error::MessageTooLong)?;
    payload.extend_from_slice(message).map_err(|_| edhoc::Error::MessageTooLong)?;
    Ok(payload)
}
