//! OSCORE (RFC 8613) with AES-CCM-16-64-128 and HKDF-SHA-256, the algorithms that EDHOC's cipher suite 2 brings.
//!
//! There are two ways in, over the same core:
//!
//! - **In place**, for a device with one buffer for what comes in and one for what goes out.
//!   [`Context::open_request`] and [`Context::open_response`] decrypt the payload of a datagram where it lies;
//!   [`Context::respond`] and [`Context::request`] give a message to fill in inside the outgoing datagram, and encrypt it
//!   there.
//! - **From message to message**, over the traits of `coap-message`: [`Context::protect_request`] and its siblings
//!   serve in-memory messages and the packets of a CoAP library alike, at the price of a scratch buffer.
//!
//! A request that also completes an EDHOC handshake (RFC 9668) is composed by
//! [`Context::protect_combined_request`], and taken apart by [`split_combined`]. A protected message has exactly one
//! OSCORE option.
//!
//! # What travels where (RFC 8613, section 4.1)
//! Outside go Uri-Host, Uri-Port, Hop-Limit and Proxy-Scheme; everything else is encrypted, Max-Age, block-wise and
//! No-Response included. The outer code is POST or 2.04 Changed. Of a received message only the OSCORE option and the
//! payload are read; its other outer options are discarded, unless they ask for what is not done here: an outer
//! block-wise transfer makes the message a bad one, and this is no proxy.
//!
//! # Observe
//! Of a request, the option goes inside and outside, and FETCH is the outer code; of a response it keeps its value outside and
//! has none inside, and 2.05 is the outer code (sections 4.1.3.5 and 4.2). Which of the two counts is for the
//! [`conversation`](crate::conversation) to say.
//!
//! # After decryption
//! What comes out is authentic, but not necessarily sensible. Before anything else, look for critical options that are
//! not supported ([`coap::unsupported_option`](crate::coap::unsupported_option)): that finds a malformed message too,
//! and the answer to it is protected like any other.

mod context;
mod error;
mod in_place;
mod message;
mod option;
mod replay;

pub use context::{Context, Correlation, Inner, TAG_LENGTH};
pub use error::Error;
pub use in_place::Unsealed;
pub use message::{request_kid, split_combined, split_combined_mut};
pub use option::{Id, IdContext, OptionValue, PartialIv};
