//! A commissionable device: what it accepts, in which state, and what it keeps in flash.
//!
//! A firmware brings a [`Board`], flash ([`embedded_storage::nor_flash::NorFlash`]), a random number
//! generator and one or more channels of [`Datagrams`](transport::Datagrams), and gives them to each other:
//!
//! ```no_run
//! # async fn firmware<F, R, B, P>(flash: F, rng: R, board: B, uart: P, clock: impl Fn() -> u64)
//! # where
//! #     F: embedded_storage::nor_flash::NorFlash,
//! #     R: rand_core::CryptoRngCore,
//! #     B: commissionable_device::Board,
//! #     P: embedded_io_async::Read + embedded_io_async::Write,
//! # {
//! use core::{cell::RefCell, future::pending};
//!
//! use cbor_schemas::ClaimPolicy;
//! use commissionable_device::{
//!     Config, Device, Memory, Server,
//!     store::Layout,
//!     transport::{serial::Serial, serve},
//! };
//!
//! let config = Config {
//!     device: "urn:dev:ops:32473-blinky-0024beffe804ff1".parse().unwrap(), // from the hardware
//!     firmware: "blinky 1.0",
//!     claim_policy: ClaimPolicy::Open,
//!     reset_by_presence: false,
//!     operation_ms: 300,
//!     takes_keys: false,
//! };
//! let layout = Layout::smallest::<F>(0x0008_0000);
//! let device = Device::new(config, flash, layout, board, rng);
//! let mut memory = Memory::<(), 1>::new(); // better in statics, this and the next: they take 9 kB
//! let server = RefCell::new(Server::new(device, &mut memory));
//! server.borrow_mut().open().unwrap();
//! let mut serial = Serial::new(uart, ());
//! let _closed = serve(&server, &mut serial, clock, async || pending().await).await;
//! # }
//! ```
//!
//! To read the source, begin with `lifecycle.rs` and `resources.rs`: the specification in two tables. Then `server.rs` has
//! how a datagram becomes a request, `device.rs` what each resource does, and [`store`] what survives a power cut.
//!
//! No input of a peer makes anything here panic, and nothing is answered before it is durable.
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

#[macro_use]
mod problem;

mod answer;
mod authz;
mod decimal;
mod device;
pub mod flash;
mod identity;
mod lifecycle;
mod offer;
mod peers;
mod resources;
mod server;
mod sources;
pub mod store;
pub mod transport;
pub mod values;

use cbor_schemas::{DeviceListClaims, Keys, Kind, Sign1};

pub use answer::Answer;
pub use decimal::Decimal;
pub use device::{Board, Config, Device};
pub use identity::HardwareSecret;
pub use lifecycle::Access;
pub use problem::{Problem, Said};
pub use resources::{ProductResource, content_format};
pub use server::{Memory, Server};

/// The longest CoAP datagram the device takes or sends, in bytes (RFC 7252 section 4.6 suggests 1152).
pub const DATAGRAM_LEN: usize = 1152;
/// The longest body of a request, gathered block-wise, in bytes: a device list of [`LIST_KEYS`] keys fits.
pub const BODY_LEN: usize = 2560;
/// Keys that fit in a device list. Flash and [`BODY_LEN`] have to be large enough for them.
pub const LIST_KEYS: u16 = 64;
/// A signed list of so many keys, none of them marked as unproven, in bytes at most.
pub const LIST_LEN: usize = Sign1::encoded_len(
    Kind::DeviceList,
    DeviceListClaims::MAX_FIXED_LEN.saturating_add(Keys::KEY_LEN.saturating_mul(LIST_KEYS as usize)),
);
const _: () = assert!(LIST_LEN <= BODY_LEN, "a list of LIST_KEYS keys is longer than a body");

/// What the project's own tests and fuzzers look into. Any release may change it.
pub mod insides {
    pub use crate::authz::{Anchor, Grant, RateLimit, Verifier};
    pub use crate::lifecycle::{FactoryWrite, OwnerWrite, Refusal, Request, Role, State, Voucher, decide};
    pub use crate::offer::{Offer, Vouched, VoucherVerifier};
    pub use crate::resources::RESOURCES;
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
