//! The CoAP message layer (RFC 7252) and block-wise transfers (RFC 7959), without I/O, clock or allocation.
//!
//! A server feeds every datagram to [`Endpoint::receive`], which answers what needs no application (pings, duplicates,
//! garbage) and hands on the rest as a new request. The response is composed where it will be sent from, by a
//! [`Writer`], and shown to [`Endpoint::remember`] before it is sent, so that a retransmission gets the same answer
//! without being executed again.
//!
//! [`Assembly`] gathers the body of a request from its Block1 blocks, [`BodySlice`] cuts the body of a response into
//! Block2 blocks.
//!
//! [`EchoKey`] has peers prove their address before they are sent much.
//!
//! The client's side, Observe, and what both sides do with EDHOC and OSCORE is in [`conversation`](crate::conversation).

use coap_message_implementations::inmemory::{SliceBuffer, SliceBufferMut};

mod assembly;
mod block;
mod bytes;
mod datagram;
mod echo;
mod endpoint;
mod options;

pub use assembly::{Assembled, Assembly};
pub use block::{Block, BlockError, BlockSize, BodySlice, ETag};
pub use bytes::ShortBytes;
pub use datagram::{Datagram, Header, NoSpace, ParseError, Token, Type, Writer};
pub use echo::{EchoKey, amplifies};
pub use endpoint::{EXCHANGE_LIFETIME_MS, Endpoint, Exchange, Incoming, NON_LIFETIME_MS};
pub(crate) use options::is_for_proxies;

/// A message that is read where it lies: code, options and payload.
pub type Message<'d> = coap_message_implementations::inmemory::Message<SliceBuffer<'d>>;
/// A message that is written where it will be sent from: code, options and payload.
pub type MessageMut<'t> = coap_message_implementations::inmemory::MessageMut<SliceBufferMut<'t>>;

pub use options::{is_option_length, is_path, option_refusal, uint_option, unsupported_option};
