//! A conversation of two parties over datagrams: EDHOC (RFC 9528), then requests and responses under OSCORE (RFC 8613).
//!
//! [`server`] turns a datagram into a plain request with a proved sender, and the answer to it into a datagram. [`client`]
//! turns a request into datagrams, and what comes back into its response. Neither has I/O, a clock or random numbers of its
//! own: time is an argument that never goes backwards, and randomness is asked for.

pub mod client;
pub mod server;

use core::hash::Hash;

/// Content formats (IANA "CoAP Content-Formats").
mod content_format {
    /// `application/edhoc+cbor-seq` (RFC 9528)
    pub(super) const EDHOC: u16 = 64;
    /// `application/cid-edhoc+cbor-seq` (RFC 9528)
    pub(super) const CID_EDHOC: u16 = 65;
    /// `application/concise-problem-details+cbor` (RFC 9290)
    pub(super) const PROBLEM_DETAILS: u16 = 257;
}

/// Where a datagram comes from, and its answer goes to.
pub trait Source: Copy + Eq + Hash {
    /// Whether nobody can send from there but who gets what is sent there, as at the other end of a serial line. On a network
    /// whoever sends can say to be somebody else.
    fn is_line(&self) -> bool;
}

/// The other end of the only line.
impl Source for () {
    fn is_line(&self) -> bool {
        true
    }
}

impl Source for core::net::SocketAddr {
    fn is_line(&self) -> bool {
        false
    }
}
