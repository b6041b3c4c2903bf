//! Placeholder.
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

pub mod answer;
pub mod authz;
pub mod device;
pub mod flash;
pub mod identity;
pub mod lifecycle;
pub mod problem;
pub mod resources;
pub mod server;
pub mod sessions;
pub mod slots;
pub mod store;
pub mod transport;

/// The longest CoAP datagram the device takes or sends, in bytes (RFC 7252 section 4.6 suggests 1152).
pub const DATAGRAM_LEN: usize = 1152;
/// The longest body of a request, gathered block-wise, in bytes: a device list of [`LIST_KEYS`] keys fits.
pub const BODY_LEN: usize = 2560;
/// Keys that fit in a device list.
pub const LIST_KEYS: u16 = 64;
