//! Why a device was not commissioned, or what its owner wanted of it was not done.

use cbor_schemas::{Flaw, SlotState};

use crate::client::Refusal;
use crate::deed;
use crate::escrow;
use crate::issuer;
use crate::registry::{self, Conflict, Parting};
use crate::station;
use crate::visit;
use crate::voucher::Unfit;

/// Why a device was not commissioned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The visit failed.
    #[error(transparent)]
    Visit(#[from] visit::Error),
    /// The visit of a station of the owner failed.
    #[error(transparent)]
    Station(station::Error),
    /// The registry objects, or cannot remember.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The device was not asked, or what it did is not on record.
    #[error(transparent)]
    Deed(deed::Error),
    /// The certificate was not signed.
    #[error(transparent)]
    Issuer(#[from] issuer::Error),
    /// The device's storage is damaged.
    #[error("the device reports damaged storage and accepts nothing; erase its flash and program it again")]
    Fault,
    /// Somebody else owns the device.
    #[error(
        "the device has an owner, and this registry does not know it as ours; its owner has to reset it before it can be yours"
    )]
    Owned,
    /// The device's key is out.
    #[error("{conflict}{}{}", .parting.map(|parting| format!("; {parting}")).unwrap_or_default(), mending(*.owner, *.was_ours))]
    Revoked {
        /// Which key, since when and why.
        conflict: Conflict,
        /// How the device left us, if it did.
        parting: Option<Parting>,
        /// Whether anybody owns it now.
        owner: SlotState,
        /// Whether it was ever ours.
        was_ours: bool,
    },
    /// Nobody owns the device, and it cannot be claimed to make another key.
    #[error(
        "nobody owns the device, and it does not let us claim it to make a new key: {0}; erase its flash, then commission it with \
         --accept-new-key"
    )]
    NotTakenBack(Refusal),
    /// Somebody else made the device.
    #[error("the device's factory slot belongs to another maker, for good; this issuer cannot be its factory")]
    OtherFactory,
    /// The device names us as its maker, and we do not remember.
    #[error(
        "the device says that this issuer made it, and this registry does not know it as such; merge the one that does \
         (`commissioner import`)"
    )]
    NotMadeHere,
    /// The device takes a voucher.
    #[error(
        "the device takes a voucher of its maker; ask for one for the key that `commissioner issuer show` prints, then repeat \
         the command with --voucher FILE"
    )]
    NeedsVoucher,
    /// The voucher will not let us in.
    #[error(transparent)]
    Voucher(#[from] Unfit),
    /// The device cannot do EDHOC, and this is no place to do without.
    #[error(
        "the device has the minimal profile and cannot prove its key; commission it alone, at the serial line that it is \
         programmed over, with --trusted, if you trust whoever has access to that line"
    )]
    Unproven,
    /// What takes an owner slot.
    #[error(
        "the device has no owner slot: it takes no voucher and no key, and gets the certificate of its maker alone"
    )]
    NoOwnerSlot,
    /// A certificate request has to say what was proved.
    #[error("nothing is proved of a device of the minimal profile, so it is commissioned where the issuer's key is")]
    NoRequest,
    /// What is in the slot cannot be ours.
    #[error(
        "the certificate in the device's slot is not what this issuer signed ({0}); reset the device, then commission it again"
    )]
    ForeignCertificate(Flaw),
    /// The device refused the certificate.
    #[error("the device refused its certificate: {0}")]
    Refused(Refusal),
    /// The device keeps its owner.
    #[error("the device keeps its owner: {0}; nothing was changed")]
    NoReset(Refusal),
    /// The device keeps its key.
    #[error("the device makes no new key: {0}; the one that it has stays")]
    NoRekey(Refusal),
    /// The device was to make another key, and names the one that it has.
    #[error(
        "the device says that it made a new key, and names the one that it had before; nothing changed, so its firmware may be at \
         fault: update it, then repeat the command"
    )]
    SameKey,
    /// The device did something for good, and what was to follow did not work out.
    #[error("the device {done}; once what stopped it is mended, {next} goes on from there. It was: {source}")]
    Unfinished {
        /// What it did.
        done: String,
        /// The command that does the rest.
        next: &'static str,
        /// What stopped it.
        source: Box<Self>,
    },
    /// The device does not take a key.
    #[error("the device takes no key from its owner: {0}; the one that it has stays, and no copy of it is kept")]
    NoInjection(Refusal),
    /// The key that the device named is not the one that it was sent.
    #[error("the device took another key than it was sent; find out what it is, and erase it before you use it")]
    OtherKey,
    /// The key was not sealed.
    #[error(transparent)]
    Escrow(#[from] escrow::Error),
    /// What the device answered is no receipt.
    #[error("the device's receipt cannot be read: {0}; repeat the command to find out what it stored")]
    Malformed(#[from] cbor_schemas::Error),
    /// The receipt is about something else.
    #[error("the device's receipt does not fit what it was sent ({0}); repeat the command to find out what it stored")]
    WrongReceipt(&'static str),
}

impl Error {
    /// Whether the device, which had proved its key, takes no certificate of ours: it is somebody else's, or wants more than
    /// we have.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Owned | Self::OtherFactory | Self::NotMadeHere | Self::NeedsVoucher | Self::ForeignCertificate(_) => {
                true
            }
            Self::Refused(_) => true,
            // Not one that is busy with what others ask of it: that has an error of its own.
            Self::Visit(visit::Error::TokenRefused(_)) | Self::Station(station::Error::GivenAway(..)) => true,
            _ => false,
        }
    }
}

impl From<station::Error> for Error {
    /// What fails without a station is the same.
    fn from(error: station::Error) -> Self {
        match error {
            station::Error::Visit(error) => error.into(),
            station::Error::Registry(error) => (*error).into(),
            station::Error::Issuer(error) => error.into(),
            of_station => Self::Station(of_station),
        }
    }
}

impl From<deed::Error> for Error {
    /// What has nothing to do with the deed is what it is without one.
    fn from(error: deed::Error) -> Self {
        match error {
            deed::Error::Visit(error) => error.into(),
            deed::Error::Registry(error) => error.into(),
            of_deed => Self::Deed(of_deed),
        }
    }
}

/// What becomes of a device whose key is out.
fn mending(owner: SlotState, was_ours: bool) -> &'static str {
    match owner {
        _ if !was_ours => ". By this key it never was one of your devices: erase it before you use it",
        SlotState::Empty => {
            ". Nobody owns it now. If you hold it in your hand: `commissioner rekey` with its link has it make a new key, and \
             `commissioner commission --accept-new-key` then makes it yours again"
        }
        _ => {
            ". If you hold it in your hand and it is still yours: `commissioner rekey` with its link has it make a new key, and \
             `commissioner commission --accept-new-key` then makes it yours again; `commissioner reset` gives it up. If it has \
             another owner, that one has to reset it first"
        }
    }
}
