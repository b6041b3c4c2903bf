//! Requests and responses, and the options of theirs that a client looks at.

use coap_message::{MessageOption, MinimalWritableMessage, ReadableMessage};
use coap_numbers::{code, option};
use heapless::Vec;

use super::transfer::Piece;
use crate::coap::{Header, Message, MessageMut, NoSpace, Writer, is_option_length};

/// The longest value of an Echo option (RFC 9175 section 2.2.1).
const ECHO_LEN: usize = 40;

/// What a peer wants to have back, to prove our address; empty if it did not ask.
pub(super) type Echo = Vec<u8, ECHO_LEN>;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'r> {
    /// The method's code.
    pub method: u8,
    /// Path with a leading slash, and a query after `?` if there is one.
    pub path: &'r str,
    /// What the payload is.
    pub content_format: Option<u16>,
    /// What the response's payload should be.
    pub accept: Option<u16>,
    /// The Observe option (RFC 7641): 0 to be told of changes, 1 no more.
    pub observe: Option<u32>,
    /// The body, of any length.
    pub payload: &'r [u8],
}

impl<'r> Request<'r> {
    /// A request without payload.
    pub const fn new(method: u8, path: &'r str) -> Self {
        Self { method, path, content_format: None, accept: None, observe: None, payload: &[] }
    }

    /// GET
    pub const fn get(path: &'r str) -> Self {
        Self::new(code::GET, path)
    }

    /// PUT of a body with a content format.
    pub const fn put(path: &'r str, content_format: u16, payload: &'r [u8]) -> Self {
        Self { content_format: Some(content_format), payload, ..Self::new(code::PUT, path) }
    }

    /// POST of a body with a content format.
    pub const fn post(path: &'r str, content_format: u16, payload: &'r [u8]) -> Self {
        Self { content_format: Some(content_format), payload, ..Self::new(code::POST, path) }
    }

    /// Composes the request as one message, whole and without protection, for who sends it in another way than by a
    /// [`Transaction`](super::Transaction): to a group. Returns the length of the datagram.
    ///
    /// # Errors
    /// It does not fit.
    pub fn compose(&self, header: &Header, out: &mut [u8]) -> Result<usize, NoSpace> {
        self.compose_piece(&Piece::whole(self.payload), &[], header, out)
    }

    /// The same of the message that carries `piece`.
    pub(super) fn compose_piece(
        &self,
        piece: &Piece<'_>,
        echo: &[u8],
        header: &Header,
        out: &mut [u8],
    ) -> Result<usize, NoSpace> {
        let mut writer = Writer::new(out, header)?;
        let mut message = writer.message();
        self.write(piece, echo, &mut message)?;
        let len = message.finish().0;
        writer.finish(len)
    }

    /// Writes options and payload of the message that carries `piece`.
    pub(super) fn write(&self, piece: &Piece<'_>, echo: &[u8], message: &mut MessageMut<'_>) -> Result<(), NoSpace> {
        let (path, query) = self.path.split_once('?').unwrap_or((self.path, ""));
        add_uint(message, option::OBSERVE, self.observe.filter(|_| !piece.is_later()))?;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            add(message, option::URI_PATH, segment.as_bytes())?;
        }
        add_uint(message, option::CONTENT_FORMAT, self.content_format.filter(|_| !piece.is_later()).map(u32::from))?;
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            add(message, option::URI_QUERY, parameter.as_bytes())?;
        }
        add_uint(message, option::ACCEPT, self.accept.map(u32::from))?;
        for (number, value) in piece.blocks() {
            add_uint(message, number, value)?;
        }
        if !echo.is_empty() {
            add(message, option::ECHO, echo)?;
        }
        if let Some(tag) = piece.request_tag() {
            add(message, option::REQUEST_TAG, tag)?;
        }
        message.set_payload(piece.payload).map_err(|_| NoSpace)
    }
}

fn add(message: &mut MessageMut<'_>, number: u16, value: &[u8]) -> Result<(), NoSpace> {
    message.add_option(number, value).map_err(|_| NoSpace)
}

fn add_uint(message: &mut MessageMut<'_>, number: u16, value: Option<u32>) -> Result<(), NoSpace> {
    value.map_or(Ok(()), |value| message.add_option_uint(number, value).map_err(|_| NoSpace))
}

/// A response; its body is in the buffer that the transaction was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// What became of the request.
    pub code: u8,
    /// What the body is, if the server says so.
    pub content_format: Option<u16>,
    /// The Max-Age option: with 4.29 and 5.03, after how many seconds to try again.
    pub max_age: Option<u32>,
    /// The Observe option: notifications follow.
    pub observe: Option<u32>,
    /// Bytes of body.
    pub len: usize,
}

impl Response {
    pub(super) fn of(message: &Message<'_>, len: usize) -> Self {
        Self {
            code: message.code(),
            content_format: uint_option(message, option::CONTENT_FORMAT).and_then(|format| format.try_into().ok()),
            max_age: uint_option(message, option::MAX_AGE),
            observe: uint_option(message, option::OBSERVE),
            len,
        }
    }
}

/// The value of an option that is an unsigned integer; `None` if it is absent, repeated or too long.
pub(super) fn uint_option(message: &Message<'_>, number: u16) -> Option<u32> {
    single_option(message, number, |value| {
        (value.len() <= 4).then(|| value.iter().fold(0, |sum: u32, byte| sum << 8 | u32::from(*byte)))
    })
    .flatten()
}

/// Reads an option that may occur only once, if it does, and has a length that it may have (RFC 7252 section 5.4.3).
pub(super) fn single_option<T>(message: &Message<'_>, number: u16, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let mut found = message.options().filter(|option| option.number() == number);
    let option = found.next()?;
    let is_good = found.next().is_none() && is_option_length(number, option.value().len());
    is_good.then(|| read(option.value()))
}
