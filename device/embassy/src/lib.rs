//! A commissionable device on Embassy: from a board's hardware to a device that serves its UART, USB socket or network.
//!
//! ```no_run
//! # use core::convert::Infallible;
//! # use commissionable_device_embassy as device_embassy;
//! # use device::flash::RamFlash;
//! # type Chip = RamFlash<[u8; 16384], 4, 4096>;
//! # type Rng = rand_core::OsRng;
//! # async fn firmware<P>(id: cbor_schemas::DeviceId, flash: Chip, rng: Rng, uart: P, pin: impl embedded_hal::digital::OutputPin)
//! # where
//! #     P: embedded_io_async::Read + embedded_io_async::Write,
//! # {
//! use cbor_schemas::ClaimPolicy;
//! use device::{Config, store::Layout};
//! use device_embassy::{
//!     Place,
//!     button::NoButton,
//!     led::{self, Led},
//!     run,
//! };
//! use embassy_futures::select::select;
//!
//! /// The device lies here. A product that is no light brings a `device::Board` of its own instead of `Led`.
//! static PLACE: Place<(), Chip, Rng, Led> = Place::new();
//!
//! let config = Config {
//!     device: id, // from the hardware
//!     firmware: "blinky 1.0",
//!     claim_policy: ClaimPolicy::Open,
//!     reset_by_presence: false,
//!     operation_ms: 300,
//!     takes_keys: false,
//! };
//! let layout = Layout::smallest::<Chip>(0x0008_0000);
//! let Some(server) = PLACE.start(config, Led, flash, layout, rng) else { return };
//! select(run(server, uart, NoButton), led::run(pin)).await;
//! # }
//! ```
//!
//! - [`run`] is for a UART, 115200 8N1, interrupt-driven, as embedded-io-async; `run_usb` for a USB device
//!   controller, as embassy-usb-driver. Who has more to serve puts a [`Place`], `device::transport::serve` and the links
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

pub use run::{
    CACHED_ANSWERS, DeviceServer, Place, SEND_LEN, ServerMemory, SharedServer, now_ms, prepare, refuse, run,
};
#[cfg(feature = "usb")]
pub use run_usb::run_usb;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
