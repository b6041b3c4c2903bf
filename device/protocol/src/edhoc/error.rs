//! Why a handshake failed, for us and for the peer (RFC 9528 section 6).

use core::fmt;

use heapless::CapacityError;

use super::Message;

/// The only cipher suite of this implementation: AES-CCM-16-64-128, SHA-256, P-256, ES256.
pub(super) const SUITE: u8 = 2;

/// Tells the initiator that it is not its message_3 that is wrong.
pub(super) const NO_HANDSHAKE: &str = "no such handshake, or no more: begin with message_1";

pub(super) const UNSPECIFIED: u8 = 1;
pub(super) const WRONG_SUITE: u8 = 2;

/// Why an EDHOC message was refused. The handshake is over: begin anew with message_1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes are not the message that was expected, or not in deterministic encoding.
    Malformed,
    /// The method is not 3: both sides authenticate with static Diffie-Hellman keys.
    Method,
    /// The selected cipher suite is not 2.
    Suite,
    /// An x-coordinate is not on P-256.
    Point,
    /// A connection identifier has more than 7 bytes, or the two are equal: neither works as OSCORE identifiers.
    /// The initiator also refuses a C_R of other than one byte.
    ConnectionId,
    /// There is a critical EAD item; no item is understood that could be critical.
    CriticalEad,
    /// ID_CRED_x is neither a `kid` nor a CWT Claims Set with one P-256 key.
    CredentialType,
    /// The credential is longer than [`MAX_CCS`](super::MAX_CCS).
    CredentialTooLong,
    /// What the MAC covers besides is longer than lakers' 255 bytes: (? C_R, ID_CRED_x, TH, CRED_x, ? EAD_x).
    ContextTooLong,
    /// A message is longer than lakers' buffers.
    MessageTooLong,
    /// There is no handshake that message_3 could belong to: it was displaced by another one, has failed, or was before
    /// the last start.
    NoHandshake,
    /// Nobody vouches for the peer's credential.
    UnknownCredential,
    /// The peer's key is our own.
    Reflection,
    /// A ciphertext or MAC is wrong: the peer does not hold the key, or something was changed on the way.
    Authentication,
    /// The peer sent an EDHOC error message: [`parse_error`](super::parse_error) reads it. It must not be answered by another.
    Peer,
}

impl Error {
    /// The EDHOC error message for the peer. CoAP carries it in a 4.00 response, content format 64
    /// (RFC 9528 appendix A.2).
    ///
    /// A wrong suite is ERR_CODE 2 with SUITES_R; all else is ERR_CODE 1 with a text of up to 64 bytes.
    pub fn message(self) -> Message {
        let mut message = Message::new();
        // Nothing here fails: the longest text leaves room, as a test below shows.
        let _ = match self {
            Self::Suite => message.extend_from_slice(&[WRONG_SUITE, SUITE]),
            _ => write_unspecified(self.text(), &mut message),
        };
        message
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "malformed message: follow RFC 9528, deterministic CBOR",
            Self::Method => "unsupported method: use 3",
            Self::Suite => "unsupported cipher suite: use 2",
            Self::Point => "no point of P-256 has this x: make another key",
            Self::ConnectionId => "connection identifier unusable for OSCORE: take another",
            Self::CriticalEad => "critical EAD not understood: leave it out",
            Self::CredentialType => "unsupported credential: send a kid or a CCS with P-256",
            Self::CredentialTooLong => "credential too long: send a CCS of up to 109 bytes",
            Self::ContextTooLong => "C_R, ID_CRED, TH, CRED and EAD together exceed 255 bytes",
            Self::MessageTooLong => "message too long: send less EAD",
            Self::NoHandshake => NO_HANDSHAKE,
            Self::UnknownCredential => "unknown credential: present a token, or send it by value",
            Self::Reflection => "this is my own key: use yours",
            Self::Authentication => "authentication failed: check keys and credentials",
            Self::Peer => "the peer refused: see its error message",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Error {}

fn write_unspecified(text: &str, message: &mut Message) -> Result<(), CapacityError> {
    message.extend_from_slice(&[UNSPECIFIED])?;
    match text.len() as u8 {
        length @ 0..=23 => message.extend_from_slice(&[0x60 | length])?,
        length => message.extend_from_slice(&[0x78, length])?,
    }
    message.extend_from_slice(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use hexlit::hex;

    use super::super::{PeerError, parse_error};
    use super::*;

    const ALL: [Error; 15] = [
        Error::Malformed,
        Error::Method,
        Error::Suite,
        Error::Point,
        Error::ConnectionId,
        Error::CriticalEad,
        Error::CredentialType,
        Error::CredentialTooLong,
        Error::ContextTooLong,
        Error::MessageTooLong,
        Error::NoHandshake,
        Error::UnknownCredential,
        Error::Reflection,
        Error::Authentication,
        Error::Peer,
    ];

    #[test]
    fn a_wrong_suite_is_code_2_with_ours() {
        assert_eq!(Error::Suite.message(), hex!("0202"));
        assert_eq!(parse_error(&hex!("0202")), Some(PeerError::WrongSuite { offers_ours: true }));
    }

    #[test]
    fn all_else_is_code_1_with_the_whole_text() {
        for error in ALL.into_iter().filter(|error| *error != Error::Suite) {
            assert_eq!(parse_error(&error.message()), Some(PeerError::Unspecified(error.text())));
            assert!(error.text().len() <= 64);
            let is_no_handshake = parse_error(&error.message()).is_some_and(|error| error.is_no_handshake());
            assert_eq!(is_no_handshake, error == Error::NoHandshake);
        }
        let (mut short, mut long) = (Message::new(), Message::new());
        write_unspecified("23 bytes, a short head.", &mut short).unwrap();
        assert_eq!(short[..2], hex!("0177"));
        write_unspecified("24 bytes, a longer head.", &mut long).unwrap();
        assert_eq!(long[..3], hex!("017818"));
    }
}
