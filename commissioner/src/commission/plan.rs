//! What decides how a device is commissioned.

use cbor_schemas::{ClaimPolicy, DeviceInfo, SlotState};
use protocol::key::PublicKey;

use crate::registry::{CertificateStatus, Device, Place, Slot};
use crate::visit::Account;
use crate::voucher::Voucher;

/// Under which circumstances a device is commissioned.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'v> {
    /// Where we are: `--trusted` or not.
    pub place: Place,
    /// `--accept-new-key`.
    pub accept_new_key: bool,
    /// `--as`: whether we are its maker or its owner.
    pub slot: Slot,
    /// `--voucher`: what may let us in as the owner. Empty if we have none.
    pub vouchers: &'v [Voucher],
    /// Whether the link is the cable that one device is programmed over, as the user says: then a device of the minimal
    /// profile is taken at its word.
    pub programming_cable: bool,
}

impl Terms<'_> {
    /// As the owner, in the field, with nothing but our own word.
    pub const OWNER: Self = Terms {
        place: Place::Elsewhere,
        accept_new_key: false,
        slot: Slot::Owner,
        vouchers: &[],
        programming_cable: false,
    };

    /// The slot of this device that is meant: whatever the terms say, one without an owner slot has only the other.
    pub fn slot_of(&self, info: &DeviceInfo<'_>) -> Slot {
        if info.has_owner_slot() { self.slot } else { Slot::Factory }
    }
}

/// Whether a device that nobody owns takes a voucher to be claimed.
pub(super) fn wants_voucher(info: &DeviceInfo<'_>) -> bool {
    match info.claim_policy {
        ClaimPolicy::Voucher | ClaimPolicy::VoucherAndPresence => true,
        ClaimPolicy::Open => info.factory != SlotState::Empty,
        ClaimPolicy::Presence => false,
    }
}

/// Whether the owner slot may hold our anchor. Only then does the device see the station's key: a stranger's never does.
pub(super) fn may_be_ours(known: Option<&Device>, seen: &Account) -> bool {
    seen.info().owner != SlotState::Empty && seen.key().is_some_and(|key| has_ours(known, key))
}

/// Whether a key is a device's of ours, or may have a certificate of ours: one that was sent, and perhaps stored.
pub(super) fn has_ours(known: Option<&Device>, key: &PublicKey) -> bool {
    let claimed = |status| matches!(status, CertificateStatus::Issued | CertificateStatus::Installed);
    known
        .and_then(|known| known.key(key))
        .is_some_and(|key| key.is_settled() || key.certificates.iter().any(|certificate| claimed(certificate.status)))
}
