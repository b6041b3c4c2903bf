//! What is inside the messages that a peer sends, parsed strictly. lakers never parses a peer's byte.

use lakers::{Credential, EADItem, EdhocMessageBuffer, IdCred as LakersIdCred};

use super::cbor::Reader;
use super::credential::read_id_cred;
use super::error::Error;
use super::error_message::{PeerError, parse_error, suites};
use super::suite::{MAX_LENGTH, sha256};
use super::{ConnId, IdCred};
use crate::key::PublicKey;
use crate::oscore::Id;

const METHOD: i64 = 3; // static Diffie-Hellman keys on both sides
/// Asks for the other end's credential by value.
pub(super) const EAD_CRED_BY_VALUE: u8 = 15;
const MAC_LENGTH: usize = 8;
/// lakers writes the length of a MAC's context into one byte.
const MAX_CONTEXT: usize = 255;

/// What a request to `/.well-known/edhoc` carries (RFC 9528 appendix A.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// message_1, for [`Responder::start`](super::Responder::start); `true` stood before it.
    Message1(&'a [u8]),
    /// message_3, for [`Responder::finish`](super::Responder::finish); C_R stood before it.
    Message3 {
        /// Says which handshake the message belongs to.
        c_r: ConnId,
        /// The message.
        message_3: &'a [u8],
    },
}

impl<'a> Request<'a> {
    /// Splits the payload of the request.
    ///
    /// # Errors
    /// [`Error::Peer`] for an EDHOC error message, with or without C_R; [`Error::Malformed`]; [`Error::ConnectionId`] for a
    /// C_R that is none of ours.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        if let Some(message_1) = payload.strip_prefix(&[0xf5]) {
            return if is_error(message_1) { Err(Error::Peer) } else { Ok(Self::Message1(message_1)) };
        }
        if is_error(payload) {
            return Err(Error::Peer);
        }
        let mut reader = Reader::new(payload);
        let c_r = reader.identifier()?;
        let message_3 = reader.rest();
        // A message_3 is a byte string, and what begins with a number is none.
        if parse_error(message_3).is_some() {
            return Err(Error::Peer);
        }
        Ok(Self::Message3 { c_r: ConnId::from_bytes(c_r)?, message_3 })
    }
}

/// Whether this is an EDHOC error message, where other messages may begin with the same number.
fn is_error(message: &[u8]) -> bool {
    const UNKNOWN_CREDENTIAL: [u8; 2] = [0x03, 0xf5];
    let error = parse_error(message);
    message == UNKNOWN_CREDENTIAL || error.is_some_and(|error| !matches!(error, PeerError::Code(_)))
}

/// message_1 (RFC 9528 section 5.2.1) of a handshake that we can take part in.
pub(super) struct Message1 {
    pub(super) g_x: PublicKey,
    pub(super) c_i: Id,
    /// EAD_1 asks for CRED_R by value.
    pub(super) wants_value: bool,
    /// SHA-256 of the message.
    pub(super) hash: [u8; 32],
}

impl Message1 {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.int()? != METHOD {
            return Err(Error::Method);
        }
        if !suites(&mut reader)?.last {
            return Err(Error::Suite);
        }
        let g_x = reader.bytes()?.try_into().map_err(|_| Error::Malformed)?;
        let c_i = Id::new(reader.identifier()?).ok_or(Error::ConnectionId)?;
        let wants_value = Ead::read(&mut reader)?.wants_value;
        // Last, because it costs the most.
        let g_x = PublicKey::from_x(g_x).map_err(|_| Error::Point)?;
        Ok(Self { g_x, c_i, wants_value, hash: sha256(bytes) })
    }
}

/// message_2 (RFC 9528 section 5.3.1), still encrypted.
pub(super) struct Message2 {
    pub(super) g_y: PublicKey,
    /// At most 223 bytes.
    pub(super) ciphertext_2: EdhocMessageBuffer,
}

impl Message2 {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let (g_y, ciphertext_2) = byte_string(bytes)?.split_first_chunk().ok_or(Error::Malformed)?;
        let g_y = PublicKey::from_x(g_y).map_err(|_| Error::Point)?;
        let ciphertext_2 = EdhocMessageBuffer::new_from_slice(ciphertext_2).map_err(|_| Error::Malformed)?;
        Ok(Self { g_y, ciphertext_2 })
    }
}

/// A message that is one byte string, as 2, 3 and 4 are: its contents, at most [`MAX_LENGTH`] bytes.
pub(super) fn byte_string(message: &[u8]) -> Result<&[u8], Error> {
    let mut reader = Reader::new(message);
    let contents = reader.bytes()?;
    reader.end()?;
    if contents.len() > MAX_LENGTH { Err(Error::MessageTooLong) } else { Ok(contents) }
}

/// What plaintext_2 and plaintext_3 share: `(ID_CRED_x, MAC_x, ? EAD_x)` (RFC 9528 sections 5.3.2 and 5.4.2).
pub(super) struct Plaintext<'a> {
    pub(super) id_cred: IdCred<'a>,
    pub(super) mac: [u8; MAC_LENGTH],
    pub(super) ead: Ead<'a>,
}

impl<'a> Plaintext<'a> {
    pub(super) fn parse_3(plaintext_3: &'a [u8]) -> Result<Self, Error> {
        Self::read(Reader::new(plaintext_3))
    }

    /// plaintext_2 begins with C_R.
    pub(super) fn parse_2(plaintext_2: &'a [u8]) -> Result<(ConnId, Self), Error> {
        let mut reader = Reader::new(plaintext_2);
        let c_r = ConnId::from_bytes(reader.identifier()?)?;
        Ok((c_r, Self::read(reader)?))
    }

    fn read(mut reader: Reader<'a>) -> Result<Self, Error> {
        let id_cred = read_id_cred(&mut reader)?;
        let mac = reader.bytes()?.try_into().map_err(|_| Error::Malformed)?;
        let ead = Ead::read(&mut reader)?;
        Ok(Self { id_cred, mac, ead })
    }

    /// Succeeds if lakers encodes the context of this MAC, `(? C_R, ID_CRED_x, TH, CRED_x, ? EAD_x)`, as the RFC says.
    pub(super) fn check_mac_context(&self, c_r: &[u8], id_cred: &LakersIdCred, cred: &Credential) -> Result<(), Error> {
        const TH: usize = 2 + 32;
        let parts = [c_r.len(), id_cred.bytes.len(), TH, cred.bytes.len(), self.ead.bytes.len()];
        if parts.iter().sum::<usize>() > MAX_CONTEXT { Err(Error::ContextTooLong) } else { Ok(()) }
    }
}

/// External authorization data (RFC 9528 section 3.8): read to the end of the message.
#[derive(Clone, Copy)]
pub(super) struct Ead<'a> {
    bytes: &'a [u8],
    wants_value: bool,
}

impl<'a> Ead<'a> {
    /// Reads `1* (label: int, ? value: bstr)`, or nothing. Items that are not critical are ignored.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let mut ead = Self { bytes: reader.rest(), wants_value: false };
        while !reader.is_empty() {
            let label = reader.int()?;
            if label < 0 {
                return Err(Error::CriticalEad);
            }
            if reader.next_is_bytes() {
                reader.bytes()?;
            }
            ead.wants_value |= label == i64::from(EAD_CRED_BY_VALUE);
        }
        Ok(ead)
    }

    /// The same for lakers, which repeats these bytes in the context of the MAC. It knows only one item with a label
    /// of one byte, so all that follows the first byte passes as the value of that item.
    pub(super) fn for_lakers(&self) -> Result<Option<EADItem>, Error> {
        let Some((label, value)) = self.bytes.split_first() else { return Ok(None) };
        let value = EdhocMessageBuffer::new_from_slice(value).map_err(|_| Error::ContextTooLong)?;
        Ok(Some(EADItem { label: (*label).into(), is_critical: false, value: Some(value) }))
    }
}

#[cfg(test)]
mod tests {
    use hexlit::hex;

    use super::*;

    #[test]
    fn error_messages_are_told_from_messages() {
        for error in [
            &hex!("f5 01 6568656c6c6f")[..], // where message_1 should be
            &hex!("f5 02 02"),
            &hex!("01 6568656c6c6f"), // without C_R
            &hex!("02 820302"),
            &hex!("03 f5"),
            &hex!("27 01 6568656c6c6f"), // with C_R
            &hex!("27 02 02"),
            &hex!("27 03 f5"),
            &hex!("41ff 190d05 a0"), // a C_R that is none of ours
        ] {
            assert_eq!(Request::parse(error), Err(Error::Peer), "{error:02x?}");
        }
        let message_1 = hex!("f5 03 02 5820");
        assert_eq!(Request::parse(&message_1), Ok(Request::Message1(&message_1[1..])));
        let c_r = ConnId::new(1).unwrap();
        let message_3 = hex!("01 420102");
        assert_eq!(Request::parse(&message_3), Ok(Request::Message3 { c_r, message_3: &message_3[1..] }));
    }
}
