//! The `minimal` profile: a commissionable device where EDHOC does not fit, in a few kilobytes of flash and of RAM.
//!
//! It makes its key at its first start, says so in a report line, and takes one certificate, once: at `/comm/factory`,
//! without protection, over the cable that it is programmed by. What such a device says is never proved; its certificate
//! and the commissioner's registry say *unproven*.
//!
//! A board brings three things: an EEPROM ([`embedded_storage::Storage`]) of [`STORAGE_LEN`] bytes, P-256 as its processor
//! does it best ([`Curve`]), and randomness for its key. Then it moves bytes: from its UART to [`Line::take`], datagrams
//! to [`Device::handle`], and what that answers back through [`Line::frame`].
//!
//! Read [`device`] for the resources and [`store`] for what survives a power cut.
//!
//! No input of a peer makes anything here panic, and nothing is answered before it is durable.
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

pub mod curve;
pub mod device;
pub mod line;
pub mod store;

pub use curve::Curve;
pub use device::{Config, Device};
pub use line::Line;
pub use store::STORAGE_LEN;

/// The longest CoAP datagram that the device takes or sends, in bytes: a certificate goes in one.
pub const DATAGRAM_LEN: usize = 576;

#[cfg(test)]
mod testing;
