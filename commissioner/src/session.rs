//! A protected conversation with one device: an EDHOC handshake (RFC 9528), then OSCORE (RFC 8613).
//!
//! A session proves one thing: the other end holds the key that was expected of it. message_2 shows that by a MAC of 64
//! bits; only the first response that OSCORE verifies shows that the device also finished the handshake with us.
//! [`Session::confirmed`] says whether there was one.

use protocol::conversation::client::session::{self, Authenticated, EDHOC_PATH, Handshake, Refused, edhoc_message};
use protocol::edhoc::{self, Ccs, PeerError};
use protocol::key::{PrivateKey, PublicKey};
use protocol::oscore;

use crate::client::{self, Client, Failed, Refusal, Request, Response, content_format};
use crate::text;

pub use protocol::edhoc::Transfer;

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

/// A protected conversation with one device.
pub struct Session<'c> {
    client: &'c mut Client,
    state: State,
}

/// What a session is without its client.
pub struct State(session::Session);

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
        let session = authenticate(client, own, transfer, &expected.into()).await?.session()?;
        Ok(Self { client, state: State(session) })
    }

    /// Runs all of EDHOC, with message_3 in a request of its own and message_4 in the answer to it.
    pub async fn establish_separately(
        client: &'c mut Client,
        own: &PrivateKey,
        transfer: Transfer,
        expected: impl Into<Expected>,
    ) -> Result<Self, Error> {
        let authenticated = authenticate(client, own, transfer, &expected.into()).await?;
        let message_3 = authenticated.message_3_alone()?;
        client.note_next(format!("EDHOC message_3, {} bytes", message_3.len() - 1));
        let response = post_edhoc(client, &message_3).await?;
        let message_4 = edhoc_message(&response.head(), &response.payload);
        let message_4 =
            message_4.ok_or_else(|| refused(Refused::of_message_3(&response.head(), &response.payload), &response))?;
        client.note_received(format!("EDHOC message_4, {} bytes", message_4.len()));
        Ok(Self { state: State(authenticated.confirm(message_4)?), client })
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
        self.state.0.transcript()
    }

    /// One protected request with its whole response. The response, a refusal too, is the device's own.
    pub async fn request(&mut self, request: &Request) -> Result<Response, Error> {
        let Self { client, state: State(session) } = self;
        let is_first = session.carries_message_3();
        client.transact(Some(session), request).await.map_err(|failed| match failed {
            Failed::Client(error) => Error::Client(error),
            Failed::Oscore(error) => Error::Oscore(error),
            // Anybody can send an unprotected answer: it ends the session, and what it says is shown, not believed.
            Failed::Unprotected(response) if is_first => {
                refused(Refused::of_message_3(&response.head(), &response.payload), &response)
            }
            Failed::Unprotected(response) => {
                refused(Refused::of_request(&response.head(), &response.payload), &response)
            }
        })
    }

    /// Whether a response was verified under this session: from then on the device is known to hold its key.
    pub fn confirmed(&self) -> bool {
        self.state.0.is_confirmed()
    }

    /// The device's key.
    pub fn peer(&self) -> &PublicKey {
        self.state.0.peer()
    }
}

/// message_1 there and message_2 back; message_3 is ready then.
async fn authenticate(
    client: &mut Client,
    own: &PrivateKey,
    transfer: Transfer,
    expected: &Expected,
) -> Result<Authenticated, Error> {
    let asks = matches!(expected, Expected::Anyone);
    let (handshake, message_1) = Handshake::start(own, asks, &mut client.random())?;
    client.note_next(format!("EDHOC message_1, {} bytes", message_1.len() - 1));
    let response = post_edhoc(client, &message_1).await?;
    let message_2 = edhoc_message(&response.head(), &response.payload);
    let message_2 =
        message_2.ok_or_else(|| refused(Refused::of_message_1(&response.head(), &response.payload), &response))?;
    client.note_received(format!("EDHOC message_2, {} bytes", message_2.len()));

    let finished = match expected {
        Expected::Key(key) => handshake.finish_with_known(message_2, transfer, &Ccs::of(key)?),
        Expected::Credential(ccs) => handshake.finish_with_known(message_2, transfer, ccs),
        Expected::Anyone => handshake.finish(message_2, transfer, |_| true),
    };
    finished.map_err(|error| match (error, expected) {
        (edhoc::Error::UnknownCredential, Expected::Anyone) => Error::NoCredential,
        (edhoc::Error::UnknownCredential, Expected::Credential(_)) => Error::OtherServer,
        (edhoc::Error::UnknownCredential, Expected::Key(_)) => Error::OtherDevice,
        (error, _) => Error::Handshake(error),
    })
}

/// Sends an EDHOC message in a request of its own (RFC 9528 appendix A.2).
async fn post_edhoc(client: &mut Client, payload: &[u8]) -> Result<Response, client::Error> {
    client.request(&Request::post(EDHOC_PATH, content_format::CID_EDHOC, payload)).await
}

/// A refusal in words.
fn refused(why: Refused<'_>, response: &Response) -> Error {
    match why {
        Refused::Busy => Error::Busy,
        Refused::NoEdhoc => Error::NoEdhoc(Refusal::from(response)),
        Refused::Credential => Error::CredentialRefused(Refusal::from(response)),
        Refused::Combined | Refused::Unprotected => Error::Unprotected(Refusal::from(response)),
        Refused::Peer(error) => Error::HandshakeRefused(match error {
            PeerError::Unspecified(said) => text::line(said),
            PeerError::WrongSuite { offers_ours: true } => {
                "it asks for another cipher suite first, although it knows ours".into()
            }
            PeerError::WrongSuite { offers_ours: false } => {
                "it does not speak cipher suite 2, the only one here".into()
            }
            PeerError::Code(3) => "it does not know our credential; present a station token first".into(),
            PeerError::Code(code) => format!("EDHOC error {code}"),
        }),
    }
}

#[cfg(test)]
pub(crate) mod test_device;
#[cfg(test)]
mod tests;
