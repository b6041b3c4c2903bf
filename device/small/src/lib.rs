//! A commissionable device in a few kilobytes of RAM, with a UART and an EEPROM.
//!
//! It makes its key at its first start, says so in a report line, and takes one certificate, once, at `/comm/factory`. There
//! are two of it:
//!
//! - [`Device`] has the profile `minimal`: no EDHOC, so what it says is never proved, and it takes its certificate over the
//!   cable that it is programmed by. Its certificate and the commissioner's registry say *unproven*.
//! - [`ProvingDevice`] has EDHOC and OSCORE before that: it proves its key and takes its certificate in a session. Of the profile
//!   `full` it has the maker's part: no owner slot, and nothing that an owner does.
//!
//! A board brings two things: an EEPROM ([`embedded_storage::Storage`]) of [`STORAGE_LEN`] bytes, and randomness. Then it
//! moves bytes: from its UART to [`Line::take`], datagrams to the device's `handle`, and what that answers back through
//! [`Line::frame`].
//!
//! Read [`device`] for the resources, [`proving`] for how a key is proved, and [`store`] for what survives a power cut.
//!
//! No input of a peer makes anything here panic, and nothing is answered before it is durable.
//!
//! Stack is scarce. Functions with large variables that run one after the other are `#[inline(never)]`: inlined into one, their
//! variables would lie side by side.
#![cfg_attr(not(test), no_std)]
#![warn(clippy::large_types_passed_by_value)]
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

pub mod device;
pub mod line;
pub mod proving;
pub mod store;

pub use device::{Config, Device};
pub use line::Line;
pub use proving::ProvingDevice;
pub use store::STORAGE_LEN;

/// The longest CoAP datagram that the device takes or sends, in bytes: a certificate goes in one.
pub const DATAGRAM_LEN: usize = 576;

#[cfg(test)]
mod testing;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
