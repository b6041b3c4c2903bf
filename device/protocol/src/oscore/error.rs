use core::fmt;

use coap_numbers::code;

/// Why a message cannot be protected or unprotected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The message has no OSCORE option.
    NotProtected,
    /// The OSCORE option or the payload is malformed, or there are outer options that are not supported.
    BadOption,
    /// There are outer options for a proxy.
    Proxy,
    /// The kid or kid context is not this context's.
    ContextNotFound,
    /// A request with this Partial IV came before, or it is too old to tell.
    Replay,
    /// The message is not authentic.
    Decryption,
    /// All Partial IVs of this context are used up.
    Exhausted,
    /// The message to protect is malformed, or has an option that is not supported.
    Unsupported,
    /// A buffer is too small.
    NoSpace,
}

impl Error {
    /// Code of the unprotected response that a server gives (RFC 8613, section 8.2). Errors that are not the client's
    /// are 5.00 Internal Server Error.
    pub fn code(self) -> u8 {
        match self {
            Self::BadOption => code::BAD_OPTION,
            Self::Proxy => code::PROXYING_NOT_SUPPORTED,
            Self::NotProtected | Self::ContextNotFound | Self::Replay => code::UNAUTHORIZED,
            Self::Decryption => code::BAD_REQUEST,
            Self::Exhausted | Self::Unsupported | Self::NoSpace => code::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotProtected => "message is not protected; run EDHOC and use OSCORE",
            Self::BadOption => "failed to decode the OSCORE option or payload; send no outer blocks",
            Self::Proxy => "this is no proxy; send no proxy options",
            Self::ContextNotFound => "security context not found; run EDHOC again",
            Self::Replay => "replay detected; send a new request",
            Self::Decryption => "decryption failed; run EDHOC again if this persists",
            Self::Exhausted => "sequence numbers used up; run EDHOC again",
            Self::Unsupported => "message cannot be protected; leave out Observe, OSCORE, EDHOC and Proxy-Uri options",
            Self::NoSpace => "buffer too small for the protected message; use a larger one or send less",
        })
    }
}

impl core::error::Error for Error {}

impl From<crate::coap::NoSpace> for Error {
    fn from(_: crate::coap::NoSpace) -> Self {
        Self::NoSpace
    }
}
