//! The rules of commissioning that a device has to keep, each as a test: in memory, with a virtual clock and flash that
//! fails on demand. What a test says is seen from the wire, by a client that is not built on the device's own code.

extern crate commissionable_device as device;

mod addresses;
mod blockwise;
mod certificate;
mod claim;
mod common;
mod discovery;
mod durability;
mod factory;
mod floods;
mod garbage;
mod handshake;
mod kinds;
mod lifecycle;
mod messages;
mod oscore;
mod ownership;
mod peers;
mod presence;
mod scope;
mod serial;
mod slot_rules;
mod token;
mod values;
mod voucher;
