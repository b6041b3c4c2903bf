use core::fmt;

use coap_message_implementations::inmemory::{Message, MessageMut, SliceBuffer, SliceBufferMut};
use coap_message_implementations::option_iteration::{OptItem, OptPayloadReader};
use coap_numbers::code::{Range, classify};

use super::ShortBytes;

/// A token (RFC 7252, section 5.3.1): 0..=8 bytes that tie a response to its request.
pub type Token = ShortBytes<8>;

/// A message type (RFC 7252, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Confirmable: asks for an acknowledgement.
    Con,
    /// Non-confirmable.
    Non,
    /// Acknowledgement, with or without a response.
    Ack,
    /// Reset: the message could not be processed.
    Rst,
}

impl Type {
    const ALL: [Self; 4] = [Self::Con, Self::Non, Self::Ack, Self::Rst];
}

/// What precedes the options of a message (RFC 7252, section 3): 4 bytes and the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Confirmable, non-confirmable, acknowledgement or reset.
    pub type_: Type,
    /// Method or response code; 0.00 is an Empty message.
    pub code: u8,
    /// Detects duplicates and matches acknowledgements.
    pub message_id: u16,
    /// Matches responses to requests.
    pub token: Token,
}

impl Header {
    /// Reads the header of a datagram, and returns what is behind it: of one that is too long, the beginning will do.
    ///
    /// # Errors
    /// As [`Datagram::parse`].
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), ParseError> {
        let (&[first, code, id_high, id_low], rest) = bytes.split_first_chunk().ok_or(ParseError::NotCoap)?;
        if first >> 6 != 1 {
            return Err(ParseError::NotCoap);
        }
        let type_ = *Type::ALL.get(usize::from(first >> 4 & 3)).ok_or(ParseError::NotCoap)?;
        let message_id = u16::from_be_bytes([id_high, id_low]);
        let malformed = ParseError::Malformed { type_, message_id };

        let (token, tail) = rest.split_at_checked(usize::from(first & 15)).ok_or(malformed)?;
        let token = Token::new(token).ok_or(malformed)?; // lengths 9..=15 are reserved
        match classify(code) {
            Range::Request | Range::Response(_) => {}
            Range::Empty if rest.is_empty() => {}
            _ => return Err(malformed),
        }
        Ok((Self { type_, code, message_id, token }, tail))
    }

    /// How many bytes it takes: what follows are the options.
    pub(crate) fn len(&self) -> usize {
        self.token.len().saturating_add(4)
    }
}

/// A well-formed datagram: header, options, and a payload that is not empty if there is a payload marker.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Everything before the options.
    pub header: Header,
    tail: &'a [u8],
    payload_length: usize,
}

impl<'a> Datagram<'a> {
    /// Parses one datagram, all of it.
    ///
    /// # Errors
    /// [`ParseError::NotCoap`] for something to ignore, [`ParseError::Malformed`] for something to reject.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, tail) = Header::read(bytes)?;
        let malformed = ParseError::Malformed { type_: header.type_, message_id: header.message_id };
        let payload_length = payload_length(tail).ok_or(malformed)?;
        Ok(Self { header, tail, payload_length })
    }

    /// Code, options and payload. Option 65535, by which an in-memory message says that it is malformed, shows only if
    /// the peer sent one: it is a critical option that nobody supports.
    pub fn message(&self) -> Message<SliceBuffer<'a>> {
        Message::new_from_slice(self.header.code, self.tail)
    }

    /// Number of bytes at the end of the datagram that are payload: whoever decrypts in place cuts here.
    pub fn payload_length(&self) -> usize {
        self.payload_length
    }
}

/// Why bytes are no CoAP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Shorter than a header, or of another version: to be ignored silently (RFC 7252, section 3).
    NotCoap,
    /// A message format error (RFC 7252, section 4): to be rejected with a Reset if it was confirmable, else ignored.
    Malformed {
        /// Type of the message.
        type_: Type,
        /// Message ID that a Reset carries.
        message_id: u16,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotCoap => "not a CoAP message of version 1; ignore it",
            Self::Malformed { .. } => "malformed CoAP message; reject it with a Reset if it is confirmable",
        })
    }
}

impl core::error::Error for ParseError {}

/// The buffer for a message is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSpace;

impl fmt::Display for NoSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer is too small for the message; use a larger one or send less")
    }
}

impl core::error::Error for NoSpace {}

/// Composes a datagram in the buffer that it will be sent from.
///
/// ```
/// # use edhoc_oscore::coap::{Header, NoSpace, Token, Type, Writer};
/// use coap_message::MinimalWritableMessage;
/// # let header = Header { type_: Type::Ack, code: 0x45, message_id: 1, token: Token::EMPTY };
/// # let mut buffer = [0; 64];
/// let mut writer = Writer::new(&mut buffer, &header)?;
/// let mut message = writer.message();
/// message.set_payload(b"hello").map_err(|_| NoSpace)?;
/// let length = message.finish().0;
/// let length = writer.finish(length)?;
/// assert_eq!(&buffer[..length], b"\x60\x45\x00\x01\xffhello");
/// # Ok::<(), NoSpace>(())
/// ```
pub struct Writer<'t> {
    header_code: u8,
    header_length: usize,
    code: &'t mut u8,
    tail: &'t mut [u8],
}

impl<'t> Writer<'t> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`NoSpace`] if the buffer cannot hold even that.
    pub fn new(buffer: &'t mut [u8], header: &Header) -> Result<Self, NoSpace> {
        let token = header.token.as_slice();
        let header_length = header.len();
        let [first, code, id_high, id_low, rest @ ..] = buffer else { return Err(NoSpace) };
        let (token_field, tail) = rest.split_at_mut_checked(token.len()).ok_or(NoSpace)?;
        *code = header.code;
        *first = 0x40 | (header.type_ as u8) << 4 | token.len() as u8;
        [*id_high, *id_low] = header.message_id.to_be_bytes();
        token_field.copy_from_slice(token);
        Ok(Self { header_code: header.code, header_length, code, tail })
    }

    /// The message to fill in, without options and payload; its code is the header's until it is set. Calling this
    /// again starts anew. After an error of the message that is the only way on: a half-written one must not be sent.
    pub fn message(&mut self) -> MessageMut<SliceBufferMut<'_>> {
        *self.code = self.header_code;
        MessageMut::new_in_slice(self.code, self.tail)
    }

    /// The datagram's length in bytes, given the length that the message's `finish()` returned.
    ///
    /// # Errors
    /// [`NoSpace`] if the message did not fit and its error was overlooked.
    pub fn finish(self, message_length: usize) -> Result<usize, NoSpace> {
        if message_length > self.tail.len() {
            return Err(NoSpace);
        }
        self.header_length.checked_add(message_length).ok_or(NoSpace)
    }

    /// The header's length, and the room for options and payload behind it.
    pub(crate) fn into_tail(self) -> (usize, &'t mut [u8]) {
        (self.header_length, self.tail)
    }
}

/// `None` if the options are malformed, or nothing follows a payload marker.
fn payload_length(tail: &[u8]) -> Option<usize> {
    for item in OptPayloadReader::new(tail) {
        match item {
            OptItem::Option { .. } => {}
            OptItem::Payload(payload) => return (!payload.is_empty()).then_some(payload.len()),
            OptItem::Error(_) => return None,
        }
    }
    Some(0)
}
