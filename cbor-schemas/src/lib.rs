//! The bytes of commissioning: what a device and a commissioner send each other, as Rust types.
//!
//! `cddl/commissioning.cddl` in this crate is the normative text; each type here has the name of its rule there. The crate
//! needs no heap, no operating system and no clock, does no cryptography, and holds no `unsafe` code. Whatever bytes
//! come in, it returns an [`Error`] and does not panic.
//!
//! # In and out
//!
//! Every type has two functions and, where there is one, an upper bound for its size:
//!
//! ```
//! use commissioning_cbor::Receipt;
//!
//! # fn main() -> Result<(), commissioning_cbor::Error> {
//! let receipt = Receipt { device: [7; 32], claim_counter: 1, generation: 1, digest: [9; 32] };
//! let mut buffer = [0; Receipt::MAX_LEN];
//! let len = receipt.encode(&mut buffer)?; // bytes written
//! assert_eq!(Receipt::decode(&buffer[..len])?, receipt); // the whole slice is one item
//! # Ok(())
//! # }
//! ```
//!
//! Types with a lifetime borrow text and byte strings from the input. The others are copied out and need no buffer.
//!
//! # What a decoder accepts
//!
//! One encoding per value (RFC 8949 section 4.2.1): shortest heads, definite lengths, map keys in bytewise order, none
//! twice, no floating-point numbers, at most [`MAX_DEPTH`] levels, nothing after the item. So equal contents have equal
//! digests, and there is nothing to disagree about between two parsers. Maps that may grow skip integer keys they do not
//! know; closed maps refuse them. Input is checked in two passes, first the encoding, then the meaning; both cost time
//! linear in the input and a bounded stack.
//!
//! A decoded value obeys the schema. It is not proved: no signature has been verified, no point is known to be on its
//! curve, and a device ID is what a device says about itself.
//!
//! # The types
//!
//! Sizes are in bytes and are the largest that `encode` writes. Open types may arrive longer from a later version.
//!
//! | type | largest | open | where it is used |
//! |---|---|---|---|
//! | [`DeviceInfo`] | 257 | yes | `GET /comm`: what a device says about itself to anyone |
//! | [`report`] | 364 | | the same as a line of text, for links that go one way |
//! | [`SlotRequest`] | 684 | | `PUT /comm/factory`, `/comm/owner`: anchor, certificate, voucher |
//! | [`SlotContents`] | 385 | | what is stored, and digested for the receipt |
//! | [`SlotView`] | 387 | | `GET /comm/factory`, `/comm/owner` |
//! | [`Receipt`] | 83 | | answer to a PUT: written and read back |
//! | [`RekeyRequest`] | 77 | | `POST /comm/rekey`; may be empty |
//! | [`RekeyResponse`] | 93 | | the new key |
//! | [`PeersView`] | 21 | yes | `GET /comm/peers` |
//! | [`ProblemDetails`] | 199 | yes | payload of 4.xx and 5.xx |
//! | [`DeviceCertificateClaims`] | 190, signed 294 | yes | an issuer: this is the key of that device |
//! | [`StationTokenClaims`] | 490, signed 596 | yes | an issuer: this station may act as owner |
//! | [`VoucherClaims`] | 188, signed 295 | yes | an anchor: this new owner may claim that device, once |
//! | [`DeviceListClaims`] | 118 + 34 per key | yes | an issuer: these are my devices, or no longer |
//! | [`Sign1`] | claims + 104 to 107 | | the signed form of these four kinds of claims |
//! | [`Aif`] | 297 | | scope of a station token; 9 for everything |
//! | [`Ccs`] | 89 | | the EDHOC credential; always this size |
//! | [`CoseKey`] | 85 | | a public key; always this size |
//! | [`PrivateCoseKey`] | 75 | | a key to inject; always this size |
//! | [`DeviceId`] | 50 | | a DEV URN; 48 as text |
//! | [`IssuerId`] | 17 | | 16 hexadecimal digits; always this size |
//!
//! # Signed objects
//!
//! [`Sign1`] is the envelope, [`Kind`] says what is inside, and [`Sign1::to_be_signed`] yields the bytes to hash. A
//! verifier asks for exactly one kind and issuer with [`read_signed`], and verifies: before that, the claims say nothing.
//!
//! # Another version
//!
//! [`DeviceInfo`] carries the version of the schema. Another one than [`SCHEMA_VERSION`] is [`Error::Version`], which
//! says which one it is, whatever else has changed.
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

mod aif;
mod ccs;
mod choice;
mod codec;
mod cose_key;
mod deterministic;
mod device_certificate;
mod device_id;
mod device_info;
mod device_list;
mod error;
mod issuer_id;
mod map;
mod peers_view;
mod problem_details;
mod receipt;
mod rekey;
pub mod report;
mod sign1;
mod signed;
mod slot;
mod station_token;
mod voucher;

pub use aif::{Aif, Method};
pub use ccs::Ccs;
pub use cose_key::{CoseKey, KeyOrigin, Kid, PrivateCoseKey};
pub use deterministic::MAX_DEPTH;
pub use device_certificate::{DeviceCertificateClaims, ProofLevel};
pub use device_id::DeviceId;
pub use device_info::{ClaimPolicy, Condition, DeviceInfo, Features, Limits, Profile, Watermarks};
pub use device_list::{DeviceListClaims, Keys, ListMode};
pub use error::Error;
pub use issuer_id::IssuerId;
pub use peers_view::PeersView;
pub use problem_details::ProblemDetails;
pub use receipt::Receipt;
pub use rekey::{RekeyRequest, RekeyResponse};
pub use sign1::{Kind, Sign1};
pub use signed::{Claims, Flaw, read_signed};
pub use slot::{SlotContents, SlotRequest, SlotState, SlotView};
pub use station_token::{Audience, StationTokenClaims};
pub use voucher::VoucherClaims;

/// The version of the schema that this crate speaks, as carried in [`DeviceInfo`].
pub const SCHEMA_VERSION: u16 = 1;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
