//! The commissioner: finds devices, issues signed certificates about their keys, and keeps the list "my devices".
//!
//! Four nouns to read it by:
//!
//! - a [`link`] carries datagrams to one device; those of this machine are found by `discover`;
//! - a [`client`] speaks CoAP over a link, and a [`session`] protects it by EDHOC and OSCORE;
//! - a [`visit`] is what may be believed of a device, and how it is asked for more;
//! - the `registry` remembers devices, keys, certificates and the audit trail, and the `issuer` signs what it wrote down.
//!
//! The feature `ports` brings the links of this machine, `registry` all that has files; both are on by default. Time comes
//! from a [`clock::Clock`], and steps are told to a [`progress::Progress`], so whoever calls owns both.

mod crash;

pub mod certificate;
pub mod client;
pub mod clock;
pub mod link;
pub mod maker;
pub mod progress;
pub mod session;
pub mod text;
pub mod visit;

#[cfg(feature = "ports")]
pub mod discover;

#[cfg(feature = "registry")]
pub mod backup;
#[cfg(feature = "registry")]
pub mod commission;
#[cfg(feature = "registry")]
mod cose;
#[cfg(feature = "registry")]
pub mod deed;
#[cfg(feature = "registry")]
pub mod distribute;
#[cfg(feature = "registry")]
pub mod escrow;
#[cfg(feature = "registry")]
pub mod files;
#[cfg(feature = "registry")]
pub mod hsm;
#[cfg(feature = "registry")]
pub mod issuer;
#[cfg(feature = "registry")]
pub mod keys;
#[cfg(feature = "registry")]
pub mod ownership;
#[cfg(feature = "registry")]
pub mod passphrase;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "registry")]
pub mod report_scanner;
#[cfg(feature = "registry")]
pub mod serve;
#[cfg(feature = "registry")]
pub mod staging;
#[cfg(feature = "registry")]
pub mod state_dir;
#[cfg(feature = "registry")]
pub mod station;
#[cfg(feature = "registry")]
pub mod text_file;
#[cfg(feature = "registry")]
pub mod voucher;

/// The README's example is a test.
#[cfg(all(doctest, feature = "ports"))]
#[doc = include_str!("../README.md")]
struct Readme;
