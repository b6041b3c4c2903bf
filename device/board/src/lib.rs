//! Parts that boards need beside the device, and that can be tested without a board. So they are in the workspace of the
//! host, not in that of the firmware, whose packages have no tests: they bring their own panic handler.
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

mod active_low;
pub mod button;
pub mod entropy;
pub mod led;

pub use active_low::ActiveLow;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
