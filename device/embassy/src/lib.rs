//! A commissionable device on Embassy: from a board's hardware to a device that serves its UART, USB socket or network.
//!
//! ```no_run
//! # async fn firmware<F, R, P>(id: cbor_schemas::DeviceId, flash: F, rng: R, uart: P, pin: impl embedded_hal::digital::OutputPin)
//! # where
//! #     F: embedded_storage::nor_flash::NorFlash,
//! #     R: rand_core::CryptoRngCore,
//! #     P: embedded_io_async::Read + embedded_io_async::Write,
//! # {
//! use cbor_schemas::ClaimPolicy;
//! use device::{Config, store::Layout};
//! use commissionable_device_embassy::{
//!     Hardware,
//!     button::NoButton,
//!     led::{self, Led},
//!     run,
//! };
//! use embassy_futures::select::select;
//!
//! let config = Config {
//!     device: id, // from the hardware
//!     firmware: "blinky 1.0",
//!     claim_policy: ClaimPolicy::Open,
//!     reset_by_presence: false,
//!     operation_ms: 300,
//!     takes_keys: false,
//! };
//! let layout = Layout::smallest::<F>(0x0008_0000);
//! let hardware = Hardware { flash, layout, rng, port: uart, button: NoButton };
//! // A product that is no light brings a `device::Board` of its own instead.
//! select(run(config, Led, hardware), led::run(pin)).await;
//! # }
//! ```
//!
//! - [`run`] is for a UART, 115200 8N1, interrupt-driven, as embedded-io-async; `run_usb` for a USB device
//!   controller, as embassy-usb-driver. Who has more to serve puts [`start`], `device::transport::serve` and the links
//!   together.
//! - The [`console`] is what the device says: slipmux diagnostic frames on the same serial line, the report line first.
//! - [`client::Client`] asks other devices.
//!
//! # Features
//! None is on by default.
//! - `log`: what is given to the `log` facade goes to the console.
//! - `udp`: the link for CoAP over UDP on embassy-net.
//! - `usb`: a USB cable with a serial port and a network on it.
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

pub use run::{CACHED_ANSWERS, DeviceServer, Hardware, SEND_LEN, ServerMemory, now_ms, prepare, refuse, run, start};
#[cfg(feature = "usb")]
pub use run_usb::run_usb;
pub use static_cell;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
