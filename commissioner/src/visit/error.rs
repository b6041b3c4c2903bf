//! What a visit may come to.

use std::time::Duration;

use protocol::key::KeyError;

use crate::client::{self, Refusal};
use crate::session;

pub(super) const COMM: &str = "/comm";

/// Why a visit came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered, or not as CoAP wants it.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// No session, or it broke.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// Something speaks CoAP there, but it has no `/comm`.
    #[error("what answers is no commissioning device ({COMM}: {0}); check the link")]
    NoDevice(Refusal),
    /// The device does not give us `/comm` under protection.
    #[error("the device refused with {0}")]
    Refused(#[from] Refusal),
    /// `/comm` cannot be read.
    #[error("the device's {COMM} cannot be read: {0}; its firmware or this commissioner is too old")]
    Malformed(#[from] cbor_schemas::Error),
    /// `/comm` has a key that is none.
    #[error("the device's credential cannot be used: {0}; its firmware is faulty")]
    Credential(#[from] KeyError),
    /// The device has no key.
    #[error("the device's storage is at fault and it has no key; erase its flash and program it again")]
    NoKey,
    /// The device does not speak EDHOC.
    #[error("the device has the minimal profile and cannot prove its key; this needs a device of the full profile")]
    Minimal,
    /// The device speaks EDHOC, so it has to.
    #[error("the device can prove its key, so nothing less will do")]
    NotMinimal,
    /// The device has no owner, and so no station either.
    #[error("the device has no owner slot: it knows no station, and takes neither a list nor a reset nor another key")]
    NoOwnerSlot,
    /// The device says one thing to anyone and another under protection.
    #[error(
        "the device's {COMM} under protection differs from what was answered before ({}); \
         somebody may be meddling with the link, so check it, then repeat the command", .0.join(", ")
    )]
    Differs(Vec<&'static str>),
    /// The device does not accept the token.
    #[error("the device does not accept this station: {0}; is it still yours, and was it claimed by this issuer?")]
    TokenRefused(Refusal),
    /// The device verifies no more tokens for now, and that did not end.
    #[error(
        "somebody else keeps the device busy with tokens: for {} s it took none of ours ({refusal}); see who else is on this \
         link, then repeat the command", .waited.as_secs()
    )]
    TokensBusy {
        /// How long we tried.
        waited: Duration,
        /// What it says.
        refusal: Refusal,
    },
    /// The device answered, and yet the visit did not get to its beginning.
    #[error(
        "the device answers, but within {} s it did not come to the end of a handshake with us; somebody else may keep it busy, or \
         the link may be bad: see who else is on this link, then repeat the command", .waited.as_secs()
    )]
    KeptFrom {
        /// How long we tried.
        waited: Duration,
    },
}
