//! EDHOC (RFC 9528): method 3 (static Diffie-Hellman keys), cipher suite 2, and from it an OSCORE context.
//!
//! ```text
//! Initiator::start   -> message_1 ->   Responder::start
//! Initiator::finish  <- message_2 <-
//!                    -> message_3 ->   Responder::finish -> Established
//! Pending::confirm   <- message_4, or the first OSCORE response
//! ```
//!
//! Each step consumes the state before it, so no state is used twice, and dropping one ends the handshake. A state
//! holds no reference: neither random numbers nor keys are borrowed between messages.
//!
//! The key schedule, the MACs and the messages we send are lakers'. What a peer sends is parsed here, strictly, and
//! decrypted before lakers sees it, because lakers panics on many inputs that a stranger can choose. Secrets are wiped
//! where they are kept; copies that lakers makes on the stack cannot be.
//!
//! A finished handshake proves that the peer holds a key, not whose key that is. See [`Peer::transfer`].

mod cbor;
mod credential;
mod error;
mod error_message;
mod initiator;
mod message;
mod responder;
#[cfg(test)]
mod rfc9529;
mod secret;
mod suite;

pub use credential::Ccs;
pub use error::Error;
pub use error_message::{PeerError, parse_error};
pub use initiator::{Initiator, Pending};
pub use message::Request;
pub use responder::{Established, Responder};

use zeroize::Zeroizing;

use crate::key::PublicKey;
use crate::oscore::{self, Id};

/// The longest credential that a peer may send by value, in bytes. Ours is 89.
///
/// lakers writes the length of a MAC's context into one byte; of a longer credential it would make a MAC of its own.
pub const MAX_CCS: usize = 109;

/// The longest key identifier that a peer may use, in bytes. Ours has 8.
pub const MAX_KID: usize = 16;

/// A message that we send. The longest is message_2 with our credential by value: 135 bytes.
pub type Message = heapless::Vec<u8, 144>;

/// A connection identifier of ours, C_I or C_R: the integers -24 to 23, whose encoding is one byte.
///
/// As an OSCORE identifier it is that byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u8);

impl ConnId {
    /// How many there are.
    pub const COUNT: u8 = 48;

    /// The identifier with this encoding: `0x00..=0x17` or `0x20..=0x37`.
    pub const fn new(byte: u8) -> Option<Self> {
        if matches!(byte, 0x00..=0x17 | 0x20..=0x37) { Some(Self(byte)) } else { None }
    }

    /// The one byte that encodes it, in EDHOC and in OSCORE.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// The next one; it takes [`ConnId::COUNT`] steps to come back.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(match self.0 {
            0x17 => 0x20,
            0x37 => 0x00,
            byte => byte.wrapping_add(1),
        })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        match bytes {
            [byte] => Self::new(*byte).ok_or(Error::ConnectionId),
            _ => Err(Error::ConnectionId),
        }
    }

    fn for_lakers(self) -> Result<lakers::ConnId, Error> {
        lakers::ConnId::from_slice(&[self.0]).ok_or(Error::ConnectionId)
    }
}

impl From<ConnId> for Id {
    fn from(conn_id: ConnId) -> Self {
        Self::from(conn_id.0)
    }
}

/// How a message refers to its sender's credential (ID_CRED_x).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdCred<'a> {
    /// By key identifier, up to [`MAX_KID`] bytes: the receiver has to know the key.
    Kid(&'a [u8]),
    /// By value: the key, and the CWT Claims Set (up to [`MAX_CCS`] bytes) that holds it.
    Ccs(PublicKey, &'a [u8]),
}

impl IdCred<'_> {
    fn transfer(&self) -> Transfer {
        match self {
            Self::Kid(_) => Transfer::ByKid,
            Self::Ccs(..) => Transfer::ByValue,
        }
    }
}

/// How a credential travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// As a key identifier; the receiver knew the key.
    ByKid,
    /// In full.
    ByValue,
}

/// The authenticated peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The key that it proved to hold.
    pub key: PublicKey,
    /// By value, nobody vouched for the key: it is just a key that somebody holds.
    pub transfer: Transfer,
}

/// The OSCORE context of a finished handshake (RFC 9528 appendix A.1).
#[inline(never)]
fn oscore_context(prk_exporter: &[u8; 32], sender: Id, recipient: Id) -> oscore::Context {
    const MASTER_SECRET: u8 = 0;
    const MASTER_SALT: u8 = 1;
    let (mut secret, mut salt) = (Zeroizing::new([0; 16]), Zeroizing::new([0; 8]));
    suite::export(prk_exporter, MASTER_SECRET, &mut *secret);
    suite::export(prk_exporter, MASTER_SALT, &mut *salt);
    oscore::Context::derive(&*secret, &*salt, sender, recipient)
}

fn message_from(buffer: &lakers::EdhocMessageBuffer) -> Result<Message, Error> {
    Message::from_slice(buffer.as_slice()).map_err(|_| Error::CredentialTooLong)
}

/// lakers reports what our own checks should have caught before.
fn from_lakers(error: lakers::EDHOCError) -> Error {
    match error {
        lakers::EDHOCError::MacVerificationFailed => Error::Authentication,
        _ => Error::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_identifiers_go_round() {
        let first = ConnId::new(0).unwrap();
        let mut seen = Vec::from([first]);
        while seen.last().unwrap().next() != first {
            seen.push(seen.last().unwrap().next());
        }
        assert_eq!(seen.len(), usize::from(ConnId::COUNT));
        assert!(seen.iter().all(|id| ConnId::new(id.byte()) == Some(*id)));
        assert!([0x18, 0x1f, 0x38, 0x40, 0xff].iter().all(|byte| ConnId::new(*byte).is_none()));
    }
}
