//! Requests and responses as the rest of the program sees them: whole bodies, no message IDs, no blocks.

use std::fmt;
use std::time::Duration;

use cbor_schemas::{Method, ProblemDetails};
use coap_numbers::code;
use protocol::conversation;

use crate::text;

/// CoAP content formats that occur here (IANA's CoAP Content-Formats registry).
pub mod content_format {
    /// `text/plain;charset=utf-8`
    pub const TEXT: u16 = 0;
    /// `application/link-format` (RFC 6690)
    pub const LINK_FORMAT: u16 = 40;
    /// `application/cose; cose-type="cose-sign1"`
    pub const COSE_SIGN1: u16 = 18;
    /// `application/octet-stream`
    pub const OCTET_STREAM: u16 = 42;
    /// `application/json`
    pub const JSON: u16 = 50;
    /// `application/cbor`
    pub const CBOR: u16 = 60;
    /// `application/cwt`
    pub const CWT: u16 = 61;
    /// `application/edhoc+cbor-seq` (RFC 9528)
    pub const EDHOC: u16 = 64;
    /// `application/cid-edhoc+cbor-seq` (RFC 9528)
    pub const CID_EDHOC: u16 = 65;
    /// `application/concise-problem-details+cbor` (RFC 9290)
    pub const PROBLEM_DETAILS: u16 = 257;
    /// `application/ace-trl+cbor` (RFC 9770)
    pub const ACE_TRL: u16 = 262;
}

/// Seconds of Max-Age where a response has none (RFC 7252 section 5.10.5).
const DEFAULT_MAX_AGE: u32 = 60;

/// A response code, shown as `4.03 Forbidden`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u8);

impl Code {
    /// 2.01
    pub const CREATED: Self = Self(code::CREATED);
    /// 2.04
    pub const CHANGED: Self = Self(code::CHANGED);
    /// 2.05
    pub const CONTENT: Self = Self(code::CONTENT);
    /// 2.31: the next block, please.
    pub const CONTINUE: Self = Self(code::CONTINUE);
    /// 4.00
    pub const BAD_REQUEST: Self = Self(code::BAD_REQUEST);
    /// 4.01
    pub const UNAUTHORIZED: Self = Self(code::UNAUTHORIZED);
    /// 4.02
    pub const BAD_OPTION: Self = Self(code::BAD_OPTION);
    /// 4.04
    pub const NOT_FOUND: Self = Self(code::NOT_FOUND);
    /// 4.13
    pub const REQUEST_ENTITY_TOO_LARGE: Self = Self(code::REQUEST_ENTITY_TOO_LARGE);
    /// 5.03
    pub const SERVICE_UNAVAILABLE: Self = Self(code::SERVICE_UNAVAILABLE);
    /// 4.29 (RFC 8516)
    pub const TOO_MANY_REQUESTS: Self = Self(code::TOO_MANY_REQUESTS);

    /// Whether this is a 2.xx code.
    pub fn is_success(self) -> bool {
        matches!(code::classify(self.0), code::Range::Response(code::Class::Success))
    }

    /// Whether this is a response code at all, not a method or an empty message.
    pub fn is_response(self) -> bool {
        matches!(code::classify(self.0), code::Range::Response(_))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        code::format_dotted(self.0, f)?;
        code::to_name(self.0).map_or(Ok(()), |name| write!(f, " {name}"))
    }
}

/// A request: at most [`MAX_BODY`](super::MAX_BODY) bytes of payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// Path with a leading slash, and a query after `?` if there is one.
    pub path: String,
    /// What the payload is.
    pub content_format: Option<u16>,
    /// What the response's payload should be.
    pub accept: Option<u16>,
    /// The body.
    pub payload: Vec<u8>,
}

impl Request {
    /// A request without payload.
    pub fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), content_format: None, accept: None, payload: Vec::new() }
    }

    /// GET.
    pub fn get(path: &str) -> Self {
        Self::new(Method::Get, path)
    }

    /// POST with a payload.
    pub fn post(path: &str, content_format: u16, payload: impl Into<Vec<u8>>) -> Self {
        Self { content_format: Some(content_format), payload: payload.into(), ..Self::new(Method::Post, path) }
    }

    /// PUT with a payload.
    pub fn put(path: &str, content_format: u16, payload: impl Into<Vec<u8>>) -> Self {
        Self { content_format: Some(content_format), payload: payload.into(), ..Self::new(Method::Put, path) }
    }

    /// Method and path, as [`summary`](super::summary) has it.
    pub(super) fn summary(&self) -> String {
        let method = format!("{:?}", self.method).to_uppercase();
        let (path, _) = self.path.split_once('?').unwrap_or((&self.path, ""));
        format!("{method} {path}")
    }

    pub(super) fn for_conversation(&self) -> conversation::client::Request<'_> {
        let Self { method, path, content_format, accept, payload } = self;
        let (content_format, accept) = (*content_format, *accept);
        let request = conversation::client::Request::new(method_code(*method), path);
        conversation::client::Request { content_format, accept, payload, ..request }
    }
}

/// A response with its whole body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// What became of the request.
    pub code: Code,
    /// What the payload is, if the device says so.
    pub content_format: Option<u16>,
    /// The body.
    pub payload: Vec<u8>,
    /// Max-Age (RFC 7252 section 5.10.5): with 4.29, how long to wait.
    pub max_age: Duration,
}

impl Response {
    /// The response if it is a 2.xx, else what the device says against the request.
    pub fn success(self) -> Result<Self, Refusal> {
        if self.code.is_success() { Ok(self) } else { Err(Refusal::from(&self)) }
    }

    pub(super) fn new(response: &conversation::client::Response, body: &[u8]) -> Self {
        let max_age = response.max_age.unwrap_or(DEFAULT_MAX_AGE);
        Self {
            code: Code(response.code),
            content_format: response.content_format,
            payload: body.get(..response.len).unwrap_or_default().to_vec(),
            max_age: Duration::from_secs(max_age.into()),
        }
    }

    /// The same as the conversation has it, which keeps the body elsewhere.
    pub(crate) fn head(&self) -> conversation::client::Response {
        conversation::client::Response {
            code: self.code.0,
            content_format: self.content_format,
            max_age: None,
            observe: None,
            len: self.payload.len(),
        }
    }
}

/// The other end says no: a code, and in words if it sent Concise Problem Details (RFC 9290).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// 4.xx or 5.xx.
    pub code: Code,
    /// What is wrong, in a few words.
    pub title: Option<String>,
    /// What is wrong with this request.
    pub detail: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        match (&self.title, &self.detail) {
            (Some(title), Some(detail)) => write!(f, ": {title} ({detail})"),
            (Some(text), None) | (None, Some(text)) => write!(f, ": {text}"),
            (None, None) => Ok(()),
        }
    }
}

impl From<&Response> for Refusal {
    fn from(response: &Response) -> Self {
        let problem = (response.content_format == Some(content_format::PROBLEM_DETAILS))
            .then(|| ProblemDetails::decode(&response.payload).ok())
            .flatten();
        Self {
            code: response.code,
            title: problem.as_ref().and_then(|problem| problem.title).map(text::line),
            detail: problem.as_ref().and_then(|problem| problem.detail).map(text::line),
        }
    }
}

fn method_code(method: Method) -> u8 {
    match method {
        Method::Get => code::GET,
        Method::Post => code::POST,
        Method::Put => code::PUT,
        Method::Delete => code::DELETE,
    }
}
