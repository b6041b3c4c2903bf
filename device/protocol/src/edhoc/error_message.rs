//! EDHOC error messages of the peer (RFC 9528 section 6).

use super::cbor::Reader;
use super::error::{Error, NO_HANDSHAKE, SUITE, UNSPECIFIED, WRONG_SUITE};

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
