//! How a device is commissioned: decided by what it says, what the registry knows of it, and what is asked for.
//!
//! Nothing here asks anybody. [`plan`] says who visits the device and what is done there, [`after_reading`] what follows
//! from the contents of its slot.

use cbor_schemas::{ClaimPolicy, Condition, CoseKey, DeviceInfo, Profile, SlotState, SlotView};
use protocol::key::PublicKey;

use super::error::Error;
use crate::registry::{CertificateStatus, Device, KeyStatus, Place, Slot};
use crate::visit::Account;
use crate::voucher::{Unfit, Voucher};

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

/// A visit to a device.
#[derive(Debug)]
pub(super) struct Plan<'v> {
    pub(super) visitor: Visitor,
    /// Whether the registry is told which key the device has, before anything else.
    pub(super) observes: bool,
    pub(super) then: Then<'v>,
}

/// As whom a device is visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visitor {
    /// As nobody in particular, where the device proves its key.
    Stranger,
    /// As its owner's station.
    Station,
    /// As whoever has the programming cable of a device that proves nothing.
    Programmer,
}

/// What is done at a device.
#[derive(Debug)]
pub(super) enum Then<'v> {
    /// It is not commissioned.
    Refuse(Error),
    /// It gets our anchor and a certificate into this slot.
    Install(Slot),
    /// It gets them into its owner slot by this voucher.
    InstallBy(&'v Voucher),
    /// It gets them into its owner slot by a voucher that we sign ourselves, as its maker.
    InstallByOwn,
    /// This slot is read: [`after_reading`].
    Read(Slot),
    /// The certificate in this slot is taken into account, if it is ours.
    Keep(Slot, Vec<u8>),
    /// Another visit.
    Visit(Box<Plan<'v>>),
}

/// How to commission a device that says what was `seen`, with the `anchor` of our issuer. `now`: Unix seconds.
///
/// # Errors
/// Why it is not even visited.
pub(super) fn plan<'v>(
    seen: &Account,
    known: Option<&Device>,
    terms: &Terms<'v>,
    anchor: &CoseKey,
    now: u64,
) -> Result<Plan<'v>, Error> {
    let info = seen.info();
    if info.condition == Condition::Fault {
        return Err(Error::Fault);
    }
    if !info.has_owner_slot() && !terms.vouchers.is_empty() {
        return Err(Error::NoOwnerSlot);
    }
    match (info.profile, terms.slot_of(&info)) {
        (Profile::Minimal, _) => as_programmer(&info, terms),
        (Profile::Full, Slot::Factory) => as_factory(seen, known),
        (Profile::Full, Slot::Owner) => as_owner(seen, known, terms, anchor, now),
    }
}

/// The certificate of its maker for a device that cannot do EDHOC. Nothing that it says is proved: everything rests on the
/// cable and on the place, and certificate and registry say *unproven*.
fn as_programmer(info: &DeviceInfo<'_>, terms: &Terms<'_>) -> Result<Plan<'static>, Error> {
    if terms.place != Place::Trusted || !terms.programming_cable {
        return Err(Error::Unproven);
    }
    Ok(Plan::observing(Visitor::Programmer, fill_or_read_factory(info)))
}

/// Makes us the maker of the device: fills its factory slot, or renews our certificate there.
fn as_factory(seen: &Account, known: Option<&Device>) -> Result<Plan<'static>, Error> {
    let info = seen.info();
    if info.factory != SlotState::Empty || info.owner == SlotState::Empty {
        return Ok(Plan::observing(Visitor::Stranger, fill_or_read_factory(&info)));
    }
    match known {
        _ if may_be_ours(known, seen) => Ok(Plan::observing(Visitor::Station, Then::Install(Slot::Factory))),
        // Whose word that is matters, for what is known of it.
        Some(_) => Ok(Plan::observing(Visitor::Stranger, Then::Refuse(Error::Owned))),
        None => Err(Error::Owned),
    }
}

fn fill_or_read_factory(info: &DeviceInfo<'_>) -> Then<'static> {
    match info.factory {
        SlotState::Empty => Then::Install(Slot::Factory),
        _ => Then::Read(Slot::Factory),
    }
}

/// Makes us the owner of the device, or renews our certificate there.
fn as_owner<'v>(
    seen: &Account,
    known: Option<&Device>,
    terms: &Terms<'v>,
    anchor: &CoseKey,
    now: u64,
) -> Result<Plan<'v>, Error> {
    let info = seen.info();
    let is_ours = may_be_ours(known, seen);
    if !terms.vouchers.is_empty() {
        let fits = terms.vouchers.iter().find(|voucher| voucher.claims().subject == info.device);
        let voucher = fits.ok_or(Unfit::OtherDevice(info.device))?;
        match voucher.fits(&info, anchor, now) {
            Ok(()) => return Ok(Plan::observing(Visitor::Stranger, Then::InstallBy(voucher))),
            // By us, perhaps, and the answer got lost.
            Err(Unfit::Used { .. }) if is_ours => {}
            Err(unfit) => return Err(unfit.into()),
        }
    }
    Ok(match info.owner {
        _ if is_ours => Plan::observing(Visitor::Station, Then::Read(Slot::Owner)),
        SlotState::Empty => Plan::observing(Visitor::Stranger, claim(seen, known)),
        // Owned, and not by us under this key. With an ID that we know, it is a key change before anything else.
        _ if known.is_some() => Plan::observing(Visitor::Stranger, Then::as_station(Then::Read(Slot::Owner))),
        _ => Plan { visitor: Visitor::Stranger, observes: false, then: Then::Refuse(Error::Owned) },
    })
}

/// How an empty owner slot is filled: by a voucher of ours for ourselves, where we are the maker of the device, too.
fn claim(seen: &Account, known: Option<&Device>) -> Then<'static> {
    let info = seen.info();
    let key = known.zip(seen.key()).and_then(|(known, key)| known.key(key));
    let is_made_here =
        key.is_some_and(|key| key.status != KeyStatus::Revoked && key.installed(Slot::Factory).is_some());
    if info.factory != SlotState::Empty && is_made_here {
        Then::InstallByOwn
    } else if wants_voucher(&info) {
        // Before anything is signed for nothing.
        Then::Refuse(Error::NeedsVoucher)
    } else {
        Then::Install(Slot::Owner)
    }
}

/// What follows from what the device that said what was `seen` has in its `slot`.
pub(super) fn after_reading(
    slot: Slot,
    view: &SlotView<'_>,
    seen: &Account,
    known: Option<&Device>,
    anchor: &CoseKey,
) -> Then<'static> {
    let (is_ours, is_proved) = (view.anchor == Some(*anchor), seen.info().profile == Profile::Full);
    match (slot, view.certificate) {
        (Slot::Owner, _) if !is_ours => Then::Refuse(Error::Owned),
        (Slot::Factory, _) if !is_ours => Then::Refuse(Error::OtherFactory),
        // Anybody may say that our anchor is there: devices that are new to us do not see the station's key.
        (Slot::Factory, _) if is_proved && !seen.key().is_some_and(|key| has_ours(known, key)) => {
            Then::Refuse(Error::NotMadeHere)
        }
        (_, Some(certificate)) => Then::Keep(slot, certificate.to_vec()),
        (Slot::Owner, None) => Then::Install(Slot::Owner),
        (Slot::Factory, None) if is_proved => Then::as_station(Then::Install(Slot::Factory)),
        (Slot::Factory, None) => Then::Refuse(Error::OtherFactory),
    }
}

impl<'v> Plan<'v> {
    fn observing(visitor: Visitor, then: Then<'v>) -> Self {
        Plan { visitor, observes: true, then }
    }
}

impl<'v> Then<'v> {
    /// Another visit, of our station, to a device that was observed already.
    fn as_station(then: Self) -> Self {
        Then::Visit(Box::new(Plan { visitor: Visitor::Station, observes: false, then }))
    }
}

/// Whether a device that nobody owns takes a voucher to be claimed.
fn wants_voucher(info: &DeviceInfo<'_>) -> bool {
    match info.claim_policy {
        ClaimPolicy::Voucher | ClaimPolicy::VoucherAndPresence => true,
        ClaimPolicy::Open => info.factory != SlotState::Empty,
        ClaimPolicy::Presence => false,
    }
}

/// Whether the owner slot may hold our anchor. Only then does the device see the station's key: a stranger's never does.
fn may_be_ours(known: Option<&Device>, seen: &Account) -> bool {
    seen.info().owner != SlotState::Empty && seen.key().is_some_and(|key| has_ours(known, key))
}

/// Whether a key is a device's of ours, or may have a certificate of ours: one that was sent, and perhaps stored.
fn has_ours(known: Option<&Device>, key: &PublicKey) -> bool {
    let claimed = |status| matches!(status, CertificateStatus::Issued | CertificateStatus::Installed);
    known
        .and_then(|known| known.key(key))
        .is_some_and(|key| key.is_settled() || key.certificates.iter().any(|certificate| claimed(certificate.status)))
}

#[cfg(test)]
mod tests;
