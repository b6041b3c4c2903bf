//! A protected conversation with one device: an EDHOC handshake (RFC 9528), then OSCORE (RFC 8613).
//!
//! A session proves one thing: the other end holds the key that was expected of it. message_2 shows that by a MAC of 64
//! bits; only the first response that OSCORE verifies shows that the device also finished the handshake with us.
//! [`Session::confirmed`] says whether there was one.

use coap_lite::{CoapOption, Packet};
use coap_message::{MessageOption, ReadableMessage};
use protocol::edhoc::{self, Ccs, ConnId, IdCred, Initiator, PeerError, Pending};
use protocol::key::{PrivateKey, PublicKey};
use protocol::oscore;
use zeroize::Zeroize;

use crate::client::{
    self, Client, Code, Exchange, Refusal, Request, Response, content_format, echo_wanted, set_echo, summary, transfer,
};
use crate::text;

pub use protocol::edhoc::Transfer;

const EDHOC_PATH: &str = "/.well-known/edhoc";
/// What stands before message_1 in a request: the CBOR simple value `true` (RFC 9528 appendix A.2.1).
const MESSAGE_1_FOLLOWS: u8 = 0xf5;
/// Our connection identifier. One is enough: a client has one session at a time.
const C_I: Option<ConnId> = ConnId::new(0x00);
/// What OSCORE adds to a message at most: option, inner code and tag, and the EDHOC option of the first one, in bytes.
const OVERHEAD: usize = 24;

/// Why there is no session, or no answer within it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No response at all, or none that follows CoAP.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The handshake failed on our side.
    #[error("the EDHOC handshake failed: {0}")]
    Handshake(#[from] edhoc::Error),
    /// The other end ended the handshake.
    #[error("the other end ended the EDHOC handshake: {0}")]
    HandshakeRefused(String),
    /// What answered the handshake does not speak EDHOC.
    #[error("no EDHOC at {EDHOC_PATH}: {0}; a device of the minimal profile has none, other devices always")]
    NoEdhoc(Refusal),
    /// The other end did not take message_3, without saying why.
    #[error(
        "the other end refused our credential ({0}, to EDHOC message_3); it may want another key, or know none of ours"
    )]
    CredentialRefused(Refusal),
    /// The device forgot our handshake for others', or begins no more of them for now.
    #[error(
        "the other end is kept busy by others' handshakes, and ours was not finished; see who else is on this link, then repeat \
         the command"
    )]
    Busy,
    /// The key at the other end is not the expected one.
    #[error("another device answered: its key is not the one it was expected to have; nothing was sent to it")]
    OtherDevice,
    /// The credential at the other end is not the one in the file.
    #[error("another server answered: its credential is not the one that was expected; nothing was sent to it")]
    OtherServer,
    /// It was asked for the credential by value, and sent something else.
    #[error("the server does not send its credential, which has to be known then; name a file with it, by --peer")]
    NoCredential,
    /// A protected request was answered without protection.
    #[error(
        "the other end does not know this session ({0}, unprotected); it may have restarted, so repeat the command"
    )]
    Unprotected(Refusal),
    /// A response does not verify, or a request cannot be protected.
    #[error("OSCORE: {0}")]
    Oscore(#[from] oscore::Error),
}

/// Whom a session is to be with.
#[derive(Debug, Clone)]
pub enum Expected {
    /// A device with this key.
    Key(PublicKey),
    /// Whoever has this credential, which is none that devices make.
    Credential(Ccs),
    /// Whoever answers: its credential is asked for by value, and nobody vouches for it.
    Anyone,
}

impl From<PublicKey> for Expected {
    fn from(key: PublicKey) -> Self {
        Self::Key(key)
    }
}

/// Lets the device prove by message_2 that it holds `expected`, to a key that is thrown away: before it is sent anything
/// that tells who we are. That is a proof of 64 bits, and good for nothing else.
pub async fn prove(client: &mut Client, expected: PublicKey) -> Result<(), Error> {
    let throwaway = PrivateKey::generate(&mut client.random());
    exchange_first_messages(client, &throwaway, Transfer::ByValue, &expected.into()).await.map(drop)
}

/// A protected conversation with one device.
pub struct Session<'c> {
    client: &'c mut Client,
    state: State,
}

/// What a session is without its client.
pub struct State {
    context: oscore::Context,
    peer: PublicKey,
    /// TH_4 of the handshake.
    transcript: [u8; 32],
    /// Goes with the first request (RFC 9668).
    message_3: Option<edhoc::Message>,
    /// What the device wanted back, under protection, to prove our address.
    echo: Option<Vec<u8>>,
    confirmed: bool,
}

impl<'c> Session<'c> {
    /// Runs EDHOC up to message_3, which will go with the first request (RFC 9668); `expected` is whom to find there.
    ///
    /// `own` travels by kid to a device that has it from a token, else by value.
    pub async fn establish(
        client: &'c mut Client,
        own: &PrivateKey,
        transfer: Transfer,
        expected: impl Into<Expected>,
    ) -> Result<Self, Error> {
        let (pending, message_3) = exchange_first_messages(client, own, transfer, &expected.into()).await?;
        let (peer, transcript) = (pending.peer, pending.transcript());
        let context = pending.confirm(None)?;
        let state = State { context, peer, transcript, message_3: Some(message_3), echo: None, confirmed: false };
        Ok(Self { client, state })
    }

    /// Runs all of EDHOC, with message_3 in a request of its own and message_4 in the answer to it.
    pub async fn establish_separately(
        client: &'c mut Client,
        own: &PrivateKey,
        transfer: Transfer,
        expected: impl Into<Expected>,
    ) -> Result<Self, Error> {
        let (pending, message_3) = exchange_first_messages(client, own, transfer, &expected.into()).await?;
        let mut payload = vec![pending.c_r.byte()];
        payload.extend_from_slice(&message_3);
        client.note_next(format!("EDHOC message_3, {} bytes", message_3.len()));
        let response = post_edhoc(client, payload).await?;
        let message_4 = edhoc_message(&response).ok_or_else(|| message_3_refused(&response))?;
        client.note_received(format!("EDHOC message_4, {} bytes", message_4.len()));
        let (peer, transcript) = (pending.peer, pending.transcript());
        let context = pending.confirm(Some(message_4))?;
        let state = State { context, peer, transcript, message_3: None, echo: None, confirmed: false };
        Ok(Self { client, state })
    }

    /// Goes on with a session over a client that lets go of it before.
    pub fn resume(client: &'c mut Client, state: State) -> Self {
        Self { client, state }
    }

    /// Lets go of the client.
    pub fn into_state(self) -> State {
        self.state
    }

    /// The transcript hash of the handshake, TH_4.
    pub fn transcript(&self) -> [u8; 32] {
        self.state.transcript
    }

    /// One protected request with its whole response. The response, a refusal too, is the device's own.
    pub async fn request(&mut self, request: &Request) -> Result<Response, Error> {
        transfer(self, request).await
    }

    /// Whether a response was verified under this session: from then on the device is known to hold its key.
    pub fn confirmed(&self) -> bool {
        self.state.confirmed
    }

    /// The device's key.
    pub fn peer(&self) -> &PublicKey {
        &self.state.peer
    }

    fn protect(&mut self, inner: &Packet) -> Result<(Packet, oscore::Correlation), Error> {
        let mut outer = Packet::new();
        let mut scratch = vec![0; crate::link::MAX_DATAGRAM];
        let name = summary(inner);
        // Taken even if what follows fails: a handshake is finished once.
        let State { context, message_3, .. } = &mut self.state;
        let correlation = match message_3.take() {
            Some(message_3) => {
                self.client.note_next(format!("EDHOC message_3, {} bytes + {name}", message_3.len()));
                context.protect_combined_request(&message_3, inner, &mut outer, &mut scratch)?
            }
            None => {
                self.client.note_next(name);
                context.protect_request(inner, &mut outer, &mut scratch)?
            }
        };
        Ok((outer, correlation))
    }

    /// One message there, one back. With the first one goes message_3.
    async fn exchange_once(&mut self, inner: &Packet) -> Result<Packet, Error> {
        let is_first = self.state.message_3.is_some();
        let (outer, correlation) = self.protect(inner)?;
        let answer = self.client.exchange(outer).await?;
        self.unprotect(&answer, &correlation, is_first)
    }

    fn unprotect(
        &mut self,
        outer: &Packet,
        correlation: &oscore::Correlation,
        is_first: bool,
    ) -> Result<Packet, Error> {
        let mut plaintext = vec![0; outer.payload.len()];
        let inner = match self.state.context.unprotect_response(outer, &mut plaintext, correlation) {
            Err(oscore::Error::NotProtected) => return Err(unprotected(outer, is_first)),
            inner => to_packet(&inner?),
        };
        self.state.confirmed = true;
        self.client.note_received(summary(&inner));
        match Code(inner.header.code.into()).is_response() {
            true => Ok(inner),
            false => Err(client::Error::Malformed("a request in place of a response").into()),
        }
    }
}

impl Exchange for Session<'_> {
    type Error = Error;

    async fn exchange(&mut self, mut inner: Packet) -> Result<Packet, Error> {
        if let Some(echo) = &self.state.echo {
            set_echo(&mut inner, echo);
        }
        let mut answer = self.exchange_once(&inner).await;
        if let Some(echo) = answer.as_ref().ok().and_then(echo_wanted) {
            set_echo(&mut inner, &echo);
            self.state.echo = Some(echo);
            answer = self.exchange_once(&inner).await;
        }
        // It may hold a secret.
        inner.payload.zeroize();
        answer
    }

    fn room(&self) -> usize {
        let message_3 = self.state.message_3.as_ref().map_or(0, |message_3| message_3.len());
        self.client.room_beside(OVERHEAD + message_3)
    }
}

/// message_1 there and message_2 back; message_3 is ready then.
async fn exchange_first_messages(
    client: &mut Client,
    own: &PrivateKey,
    transfer: Transfer,
    expected: &Expected,
) -> Result<(Pending, edhoc::Message), Error> {
    let c_i = C_I.ok_or(edhoc::Error::ConnectionId)?;
    let (initiator, message_1) = match expected {
        Expected::Anyone => Initiator::start_asking(own, c_i, &mut client.random())?,
        Expected::Key(_) | Expected::Credential(_) => Initiator::start(own, c_i, &mut client.random())?,
    };
    let mut payload = vec![MESSAGE_1_FOLLOWS];
    payload.extend_from_slice(&message_1);
    client.note_next(format!("EDHOC message_1, {} bytes", message_1.len()));
    let response = post_edhoc(client, payload).await?;
    let message_2 = edhoc_message(&response).ok_or_else(|| message_1_refused(&response))?;
    client.note_received(format!("EDHOC message_2, {} bytes", message_2.len()));

    let finished = match expected {
        Expected::Key(key) => initiator.finish_with_known(message_2, transfer, &Ccs::of(key)?),
        Expected::Credential(ccs) => initiator.finish_with_known(message_2, transfer, ccs),
        Expected::Anyone => initiator.finish(message_2, transfer, |id_cred| match id_cred {
            IdCred::Ccs(key, _) => Some(key),
            IdCred::Kid(_) => None,
        }),
    };
    finished.map_err(|error| match (error, expected) {
        (edhoc::Error::UnknownCredential, Expected::Anyone) => Error::NoCredential,
        (edhoc::Error::UnknownCredential, Expected::Credential(_)) => Error::OtherServer,
        (edhoc::Error::UnknownCredential, Expected::Key(_)) => Error::OtherDevice,
        (error, _) => Error::Handshake(error),
    })
}

/// Sends an EDHOC message in a request of its own (RFC 9528 appendix A.2).
async fn post_edhoc(client: &mut Client, payload: Vec<u8>) -> Result<Response, client::Error> {
    client.request(&Request::post(EDHOC_PATH, content_format::CID_EDHOC, payload)).await
}

/// The EDHOC message in a response, if the request was not refused. Some servers leave the format out.
fn edhoc_message(response: &Response) -> Option<&[u8]> {
    let is_edhoc = matches!(response.content_format, None | Some(content_format::EDHOC));
    (response.code == Code::CHANGED && is_edhoc).then_some(&response.payload)
}

fn message_1_refused(response: &Response) -> Error {
    handshake_refused(response).unwrap_or_else(|| match response.code {
        Code::SERVICE_UNAVAILABLE => Error::Busy,
        _ => Error::NoEdhoc(Refusal::from(response)),
    })
}

fn message_3_refused(response: &Response) -> Error {
    let refusal = Refusal::from(response);
    let is_bare = refusal.title.is_none() && refusal.detail.is_none();
    handshake_refused(response).unwrap_or(match response.code {
        Code::BAD_REQUEST if is_bare => Error::CredentialRefused(refusal),
        _ => Error::Unprotected(refusal),
    })
}

/// An EDHOC error message, if the response carries one.
fn handshake_refused(response: &Response) -> Option<Error> {
    if response.content_format != Some(content_format::EDHOC) {
        return None;
    }
    let error = edhoc::parse_error(&response.payload)?;
    if error.is_no_handshake() {
        return Some(Error::Busy);
    }
    Some(Error::HandshakeRefused(match error {
        PeerError::Unspecified(said) => text::line(said),
        PeerError::WrongSuite { offers_ours: true } => {
            "it asks for another cipher suite first, although it knows ours".into()
        }
        PeerError::WrongSuite { offers_ours: false } => "it does not speak cipher suite 2, the only one here".into(),
        PeerError::Code(3) => "it does not know our credential; present a station token first".into(),
        PeerError::Code(code) => format!("EDHOC error {code}"),
    }))
}

/// Anybody can send an unprotected answer: it ends the session, and what it says is shown, not believed.
fn unprotected(outer: &Packet, is_first: bool) -> Error {
    let response = Response::new(outer, outer.payload.clone());
    match is_first {
        true => message_3_refused(&response),
        false => handshake_refused(&response).unwrap_or_else(|| Error::Unprotected(Refusal::from(&response))),
    }
}

/// A malformed option shows up as option 65535, which is critical and known to nobody, so that it is refused later.
pub(crate) fn to_packet(inner: &oscore::Inner<'_>) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = inner.code().into();
    for option in inner.options() {
        packet.add_option(CoapOption::from(option.number()), option.value().to_vec());
    }
    packet.payload = inner.payload().to_vec();
    packet
}

#[cfg(test)]
pub(crate) mod test_device;
#[cfg(test)]
mod tests;
