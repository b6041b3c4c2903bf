//! Why a handshake failed, for us and for the peer (RFC 9528 section 6).

use core::fmt;

use heapless::CapacityError;

use super::Message;
use super::cbor::Reader;

/// The only cipher suite of this implementation: AES-CCM-16-64-128, SHA-256, P-256, ES256.
pub(super) const SUITE: u8 = 2;

/// Tells the initiator that it is not its message_3 that is wrong.
const NO_HANDSHAKE: &str = "no such handshake, or no more: begin with message_1";

const UNSPECIFIED: u8 = 1;
const WRONG_SUITE: u8 = 2;

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
    /// The peer sent an EDHOC error message: [`parse_error`] reads it. It must not be answered by another.
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

/// An EDHOC error message that the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerError<'a> {
    /// ERR_CODE 1, with the peer's words. They come from a stranger: escape control characters before display.
    Unspecified(&'a str),
    /// ERR_CODE 2: the peer does not take the cipher suite that was selected.
    WrongSuite {
        /// Whether SUITES_R holds suite 2 all the same.
        offers_ours: bool,
    },
    /// Any other ERR_CODE, for example 3: the peer does not know our credential.
    Code(i64),
}

impl PeerError<'_> {
    /// Whether the handshake is not known at the other end, or no more ([`Error::NoHandshake`]): another one may succeed.
    pub fn is_no_handshake(&self) -> bool {
        *self == PeerError::Unspecified(NO_HANDSHAKE)
    }
}

/// Reads an EDHOC error message; `None` for anything else, such as message_2 or message_4.
pub fn parse_error(bytes: &[u8]) -> Option<PeerError<'_>> {
    let mut reader = Reader::new(bytes);
    let code = reader.int().ok()?;
    if code == i64::from(UNSPECIFIED) {
        let text = reader.text().ok()?;
        reader.end().ok()?;
        Some(PeerError::Unspecified(text))
    } else if code == i64::from(WRONG_SUITE) {
        let offers_ours = suites(&mut reader).ok()?.any;
        reader.end().ok()?;
        Some(PeerError::WrongSuite { offers_ours })
    } else {
        Some(PeerError::Code(code))
    }
}

/// Where our suite stands in a SUITES_I or SUITES_R.
pub(super) struct Suites {
    /// It is the last one, hence in SUITES_I the selected one.
    pub(super) last: bool,
    /// It is one of them.
    pub(super) any: bool,
}

/// Reads `suites: [2* int] / int` (RFC 9528 sections 5.2.1 and 6.3).
pub(super) fn suites(reader: &mut Reader<'_>) -> Result<Suites, Error> {
    let count = if reader.next_is_array() { Some(reader.array()?).filter(|count| *count >= 2) } else { Some(1) };
    let count = count.ok_or(Error::Malformed)?;
    let mut suites = Suites { last: false, any: false };
    for _ in 0..count {
        suites.last = reader.int()? == i64::from(SUITE);
        suites.any |= suites.last;
    }
    Ok(suites)
}

#[cfg(test)]
mod tests {
    use hexlit::hex;

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

    #[test]
    fn error_messages_of_others() {
        let wrong_suite = |offers_ours| Some(PeerError::WrongSuite { offers_ours });
        assert_eq!(parse_error(&hex!("02820302")), wrong_suite(true));
        assert_eq!(parse_error(&hex!("02820300")), wrong_suite(false));
        assert_eq!(parse_error(&hex!("0237")), wrong_suite(false));
        assert_eq!(parse_error(&hex!("03f5")), Some(PeerError::Code(3)));
        assert_eq!(parse_error(&hex!("190d05a0")), Some(PeerError::Code(3333)));
        assert_eq!(parse_error(&hex!("016568656c6c6f")), Some(PeerError::Unspecified("hello")));
    }

    #[test]
    fn what_is_no_error_message() {
        for bytes in [&hex!("")[..], &hex!("48aabbccddeeff0011"), &hex!("5820"), &hex!("01"), &hex!("0143616263")] {
            assert_eq!(parse_error(bytes), None, "{bytes:02x?}");
        }
        for bytes in
            [&hex!("028102")[..], &hex!("0280"), &hex!("020200"), &hex!("01606100"), &hex!("029bffffffffffffffff02")]
        {
            assert_eq!(parse_error(bytes), None, "{bytes:02x?}");
        }
    }
}
