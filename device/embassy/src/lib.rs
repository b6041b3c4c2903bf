//! A commissionable device on Embassy: links, a client of other devices, and the way from hardware to a device.
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

pub mod button;
pub mod client;
pub mod console;
pub mod led;
#[cfg(feature = "log")]
pub mod logger;
mod run;
#[cfg(feature = "usb")]
mod run_usb;
#[cfg(feature = "udp")]
pub mod udp;
#[cfg(feature = "usb")]
pub mod usb;

pub use run::{CACHED_ANSWERS, DeviceServer, Hardware, SEND_LEN, ServerMemory, now_ms, refuse, run, start};
#[cfg(feature = "usb")]
pub use run_usb::run_usb;
pub use static_cell;
