//! A protected conversation with one device: an EDHOC handshake (RFC 9528), then OSCORE (RFC 8613).
//!
//! A session proves one thing: the other end holds the key that was expected of it. message_2 shows that by a MAC of 64
//! bits; only the first response that OSCORE verifies shows that the device also finished the handshake with us.
//! [`Session::confirmed`] says whether there was one.

use coap_lite::{CoapOption, Packet};
use coap_message::{MessageOption, ReadableMessage};
use protocol::edhoc::{self, ConnId, IdCred, Initiator, PeerError, Pending};
use protocol::key::{PrivateKey, PublicKey};
use protocol::oscore;
use rand_core::OsRng;
use zeroize::Zeroize;

use crate::client::{self, Client, Code, Exchange, Refusal, Request, Response, content_format, summary, transfer};
use crate::error::{CommandError, ExitCode};
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
    /// The device ended the handshake.
    #[error("the device ended the EDHOC handshake: {0}")]
    HandshakeRefused(String),
    /// What answered the handshake does not speak EDHOC.
    #[error("no EDHOC at {EDHOC_PATH}: {0}; a device of the minimal profile has none, other devices always")]
    NoEdhoc(Refusal),
    /// The key at the other end is not the expected one.
    #[error("another device answered: its key is not the one it was expected to have; nothing was sent to it")]
    OtherDevice,
    /// A protected request was answered without protection.
    #[error("the device does not know this session ({0}, unprotected); it may have restarted, so repeat the command")]
    Unprotected(Refusal),
    /// A response does not verify, or a request cannot be protected.
    #[error("OSCORE: {0}")]
    Oscore(#[from] oscore::Error),
}

/// Lets the device prove by message_2 that it holds `expected`, to a key that is thrown away: before it is sent anything
/// that tells who we are. That is a proof of 64 bits, and good for nothing else.
pub async fn prove(client: &mut Client, expected: PublicKey) -> Result<(), Error> {
    let throwaway = PrivateKey::generate(&mut OsRng);
    exchange_first_messages(client, &throwaway, Transfer::ByValue, expected).await.map(drop)
}

/// A protected conversation with one device.
pub struct Session<'c> {
    client: &'c mut Client,
    context: oscore::Context,
    peer: PublicKey,
    /// TH_4 of the handshake.
    transcript: [u8; 32],
    /// Goes with the first request (RFC 9668).
    message_3: Option<edhoc::Message>,
    confirmed: bool,
}

impl<'c> Session<'c> {
    /// Runs EDHOC up to message_3, which will go with the first request (RFC 9668); `expected` is the device's key.
    ///
    /// `own` travels by kid to a device that has it from a token, else by value.
    pub async fn establish(
        client: &'c mut Client,
        own: &PrivateKey,
        transfer: Transfer,
        expected: PublicKey,
    ) -> Result<Self, Error> {
        let (pending, message_3) = exchange_first_messages(client, own, transfer, expected).await?;
        let transcript = pending.transcript();
        let context = pending.confirm(None)?;
        Ok(Self { client, context, peer: expected, transcript, message_3: Some(message_3), confirmed: false })
    }

    /// Runs all of EDHOC, with message_3 in a request of its own and message_4 in the answer to it.
    pub async fn establish_separately(
        client: &'c mut Client,
        own: &PrivateKey,
        transfer: Transfer,
        expected: PublicKey,
    ) -> Result<Self, Error> {
        let (pending, message_3) = exchange_first_messages(client, own, transfer, expected).await?;
        let mut payload = vec![pending.c_r.byte()];
        payload.extend_from_slice(&message_3);
        client.note_next(format!("EDHOC message_3, {} bytes", message_3.len()));
        let message_4 = post_edhoc(client, payload).await?;
        client.note_received(format!("EDHOC message_4, {} bytes", message_4.len()));
        let transcript = pending.transcript();
        let context = pending.confirm(Some(&message_4))?;
        Ok(Self { client, context, peer: expected, transcript, message_3: None, confirmed: false })
    }

    /// The transcript hash of the handshake, TH_4.
    pub fn transcript(&self) -> [u8; 32] {
        self.transcript
    }

    /// One protected request with its whole response. The response, a refusal too, is the device's own.
    pub async fn request(&mut self, request: &Request) -> Result<Response, Error> {
        transfer(self, request).await
    }

    /// Whether a response was verified under this session: from then on the device is known to hold its key.
    pub fn confirmed(&self) -> bool {
        self.confirmed
    }

    /// The device's key.
    pub fn peer(&self) -> &PublicKey {
        &self.peer
    }

    fn protect(&mut self, inner: &Packet) -> Result<(Packet, oscore::Correlation), Error> {
        let mut outer = Packet::new();
        let mut scratch = vec![0; crate::link::MAX_DATAGRAM];
        let name = summary(inner);
        // Taken even if what follows fails: a handshake is finished once.
        let correlation = match self.message_3.take() {
            Some(message_3) => {
                self.client.note_next(format!("EDHOC message_3, {} bytes + {name}", message_3.len()));
                self.context.protect_combined_request(&message_3, inner, &mut outer, &mut scratch)?
            }
            None => {
                self.client.note_next(name);
                self.context.protect_request(inner, &mut outer, &mut scratch)?
            }
        };
        Ok((outer, correlation))
    }

    fn unprotect(&mut self, outer: &Packet, correlation: &oscore::Correlation) -> Result<Packet, Error> {
        let mut plaintext = vec![0; outer.payload.len()];
        let inner = match self.context.unprotect_response(outer, &mut plaintext, correlation) {
            Err(oscore::Error::NotProtected) => return Err(unprotected(outer)),
            inner => to_packet(&inner?),
        };
        self.confirmed = true;
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
        let protected = self.protect(&inner);
        // It may hold a secret.
        inner.payload.zeroize();
        let (outer, correlation) = protected?;
        let answer = self.client.exchange(outer).await?;
        self.unprotect(&answer, &correlation)
    }

    fn room(&self) -> usize {
        let message_3 = self.message_3.as_ref().map_or(0, |message_3| message_3.len());
        self.client.room_beside(OVERHEAD + message_3)
    }
}

/// message_1 there and message_2 back; message_3 is ready then.
async fn exchange_first_messages(
    client: &mut Client,
    own: &PrivateKey,
    transfer: Transfer,
    expected: PublicKey,
) -> Result<(Pending, edhoc::Message), Error> {
    let c_i = C_I.ok_or(edhoc::Error::ConnectionId)?;
    let (initiator, message_1) = Initiator::start(own, c_i, &mut OsRng)?;
    let mut payload = vec![MESSAGE_1_FOLLOWS];
    payload.extend_from_slice(&message_1);
    client.note_next(format!("EDHOC message_1, {} bytes", message_1.len()));
    let message_2 = post_edhoc(client, payload).await?;
    client.note_received(format!("EDHOC message_2, {} bytes", message_2.len()));

    let is_expected = |id_cred: IdCred<'_>| match id_cred {
        IdCred::Kid(kid) => kid == expected.kid(),
        IdCred::Ccs(key, _) => key == expected,
    };
    let finished = initiator.finish(&message_2, transfer, |id_cred| is_expected(id_cred).then_some(expected));
    finished.map_err(|error| match error {
        edhoc::Error::UnknownCredential => Error::OtherDevice,
        error => Error::Handshake(error),
    })
}

/// Sends an EDHOC message in a request of its own, and returns the one in the response (RFC 9528 appendix A.2).
async fn post_edhoc(client: &mut Client, payload: Vec<u8>) -> Result<Vec<u8>, Error> {
    let response = client.request(&Request::post(EDHOC_PATH, content_format::CID_EDHOC, payload)).await?;
    // Some servers leave the format out.
    let is_edhoc = matches!(response.content_format, None | Some(content_format::EDHOC));
    match response.code {
        Code::CHANGED if is_edhoc => Ok(response.payload),
        _ => Err(handshake_refused(&response).unwrap_or_else(|| Error::NoEdhoc(Refusal::from(&response)))),
    }
}

/// An EDHOC error message, if the response carries one.
fn handshake_refused(response: &Response) -> Option<Error> {
    if response.content_format != Some(content_format::EDHOC) {
        return None;
    }
    Some(Error::HandshakeRefused(match edhoc::parse_error(&response.payload)? {
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
fn unprotected(outer: &Packet) -> Error {
    let response = Response::new(outer, outer.payload.clone());
    handshake_refused(&response).unwrap_or_else(|| Error::Unprotected(Refusal::from(&response)))
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

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        match error {
            Error::Client(error) => error.into(),
            error => Self::new(ExitCode::Refused, error.to_string()),
        }
    }
}

#[cfg(test)]
pub(crate) mod test_device;
#[cfg(test)]
mod tests;
