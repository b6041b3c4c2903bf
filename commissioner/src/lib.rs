//! The commissioner: finds devices, issues signed certificates about their keys, and keeps the list "my devices".
//!
//! Four nouns to read it by:
//!
//! - a [`link`] carries datagrams to one device, [`discover`] finds links;
//! - a [`client`] speaks CoAP over a link, and a [`session`] protects it by EDHOC and OSCORE;
//! - the [`registry`] remembers: devices, keys, certificates, and the audit trail;
//! - the [`issuer`] signs, and only what the registry has written down before.
//!
//! The commands are in [`cmd`], one file each; a command's outcome for scripts is in [`cmd::exit`]. Everything below
//! [`cmd`] takes its time from a [`clock::Clock`] and reports through a [`progress::Progress`], so tests own both.

pub mod backup;
pub mod certificate;
pub mod client;
pub mod clock;
pub mod cmd;
pub mod commission;
mod cose;
mod crash;
pub mod deed;
pub mod discover;
pub mod distribute;
pub mod edn;
pub mod escrow;
pub mod files;
pub mod hsm;
pub mod issuer;
pub mod keys;
pub mod link;
pub mod log_time;
pub mod output;
pub mod ownership;
pub mod passphrase;
pub mod program;
pub mod progress;
pub mod registry;
pub mod report_scanner;
pub mod serve;
pub mod session;
pub mod staging;
pub mod state_dir;
pub mod stop;
pub mod text;
pub mod text_file;
pub mod visit;
pub mod voucher;
