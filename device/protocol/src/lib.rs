//! EDHOC, OSCORE and the CoAP message layer of commissioning: no_std, no alloc, no I/O.
//!
//! What both ends of a link share, from the bottom up:
//!
//! - [`coap`]: messages in datagrams, repeated and lost ones, bodies in blocks (RFC 7252, RFC 7959);
//! - [`oscore`]: how their contents are protected (RFC 8613);
//! - [`edhoc`]: how two parties authenticate each other and agree on the keys for that (RFC 9528);
//! - [`key`] and [`thumbprint`]: who the parties are, [`sign1`]: what others signed about them, and [`curve`]: who computes
//!   that;
//! - [`usb`]: how a device at a USB cable is known.
//!
//! Time, randomness and buffers are arguments. No input of a peer makes anything here panic.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

pub mod coap;
pub mod conversation;
pub mod curve;
pub mod edhoc;
pub mod key;
pub mod oscore;
pub mod sign1;
pub mod thumbprint;
pub mod usb;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
