#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bus;
mod driver;
mod port;
mod server;
#[cfg(target_os = "linux")]
pub mod vhci;
mod wire;

pub use driver::{ControlPipe, Driver, EndpointIn, EndpointOut, UsbBus};
pub use embassy_usb_driver::Speed;
pub use port::{Error, Port};
pub use server::{BUS_ID, DEFAULT_PORT, serve_tcp};

/// A USB device that does not exist yet, and the port of a hub that it is plugged into.
///
/// The [`Driver`] goes to `embassy_usb::Builder`. The [`Port`] is where a host is connected. The device is of the given
/// speed: bulk endpoints have at most 64 bytes a packet at [`Speed::Full`], and 512 at [`Speed::High`], which is up to
/// whoever allocates them.
pub fn new(speed: Speed) -> (Driver, Port) {
    let bus = bus::Shared::new(speed);
    (Driver::new(bus.clone()), Port::new(bus))
}
