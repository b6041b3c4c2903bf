//! Whose product a device is, and what of that is proven: its factory slot, held against the anchors of makers.

use std::fmt;

use cbor_schemas::{
    DeviceCertificateClaims, DeviceInfo, Flaw, IssuerId, Kind, Profile, ProofLevel, Sign1, SlotState, SlotView,
};
use protocol::key::PublicKey;
use serde::Serialize;

use crate::{certificate, clock::rfc3339, text, visit::Account};

/// What is known of a device's maker.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The device ID.
    pub device: String,
    /// Thumbprint of its key, hex.
    pub thumbprint: String,
    /// `proved` by EDHOC, or `unproven`: the minimal profile has none.
    pub possession: &'static str,
    /// Name and version of the firmware, as the device has it.
    pub firmware: String,
    /// `certified` or `claimed`.
    pub verdict: &'static str,
    /// Why it is not certified.
    pub reason: Option<&'static str>,
    /// The state of the factory slot.
    pub factory: &'static str,
    /// Whose anchor the certificate verified under; if under none, who the device says is its maker.
    pub maker: Option<String>,
    /// Whether it did.
    pub maker_verified: bool,
    /// When the certificate was issued, RFC 3339, as it says.
    pub issued_at: Option<String>,
    /// Where the key was made, as the certificate says.
    pub key_origin: Option<&'static str>,
    /// Whether the maker had the key proved, as the certificate says.
    pub proof: Option<&'static str>,
    /// The state of the owner slot.
    pub owner: &'static str,
}

impl Finding {
    /// What `view`, the factory slot, proves by one of `anchors` about the device of `account`.
    pub fn new(account: &Account, view: &SlotView<'_>, anchors: &[PublicKey]) -> Self {
        let info = account.info();
        let (maker, reason) = match check(account, view, anchors) {
            Ok(maker) => (Some(maker), objection(&info, view, maker)),
            Err(reason) => (None, Some(reason)),
        };
        let shown = claims(view);
        let named = view.anchor.map(|anchor| IssuerId(anchor.kid));
        Self {
            device: info.device.to_string(),
            thumbprint: account.key().map(|key| key.thumbprint().to_string()).unwrap_or_default(),
            possession: match info.profile {
                Profile::Full => ProofLevel::Proved.as_str(),
                Profile::Minimal => ProofLevel::Unproven.as_str(),
            },
            firmware: account.firmware(),
            verdict: if reason.is_none() { "certified" } else { "claimed" },
            reason,
            factory: view.state.as_str(),
            maker: maker.map(|maker| IssuerId(maker.kid())).or(named).map(|maker| maker.to_string()),
            maker_verified: maker.is_some(),
            issued_at: shown.map(|claims| rfc3339(claims.issued_at)),
            key_origin: shown.map(|claims| claims.key_origin.as_str()),
            proof: shown.map(|claims| claims.proof.as_str()),
            owner: info.owner.as_str(),
        }
    }
}

/// What the certificate in the slot says, whoever signed it.
fn claims(view: &SlotView<'_>) -> Option<DeviceCertificateClaims> {
    let certificate = view.certificate.filter(|_| view.state == SlotState::Certified)?;
    let object = Sign1::decode_as(Kind::DeviceCertificate, certificate).ok()?;
    DeviceCertificateClaims::decode(object.payload).ok()
}

/// Which of `anchors` certified this very key of this very device; if none did, what is missing.
fn check<'a>(account: &Account, view: &SlotView<'_>, anchors: &'a [PublicKey]) -> Result<&'a PublicKey, &'static str> {
    let certificate = match (view.state, view.certificate) {
        (SlotState::Empty, _) => return Err("no maker left anything on it"),
        (SlotState::Certified, Some(certificate)) => certificate,
        _ => return Err("it names a maker, and has no certificate of one: its key is newer, or was never certified"),
    };
    // A device without a key has a fault, and nothing else of it counts.
    let (Some(key), Some(_)) = (account.key(), claims(view)) else { return Err("its certificate cannot be read") };
    let mut reason = "there is no anchor to check its certificate by; ask the maker for one, and give it with --anchor";
    for anchor in anchors {
        match certificate::check(certificate, anchor, &account.info().device, key) {
            Ok(_) => return Ok(anchor),
            Err(Flaw::NotSigned | Flaw::OtherKind | Flaw::Claims) => return Err("its certificate cannot be read"),
            Err(Flaw::OtherDevice) => return Err("its certificate is for another device"),
            Err(Flaw::OtherKey) => return Err("its certificate is for another key"),
            Err(Flaw::OtherIssuer | Flaw::OtherSigner) => reason = "its certificate is not of this maker",
        }
    }
    Err(reason)
}

/// What is against it, although `maker` certified the device.
fn objection(info: &DeviceInfo<'_>, view: &SlotView<'_>, maker: &PublicKey) -> Option<&'static str> {
    if view.anchor != Some(maker.cose_key()) {
        return Some("its factory slot names another maker than the one who signed its certificate");
    }
    (info.profile == Profile::Minimal).then_some(
        "this maker certified a device of this name and key, but one of the minimal profile cannot prove that it is that one",
    )
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "device    {}", self.device)?;
        let possession = match self.possession {
            "proved" => "the device proved that it has it",
            _ => "as it says: it has the minimal profile, and cannot prove it",
        };
        writeln!(f, "key       {}; {possession}", self.thumbprint)?;
        writeln!(f, "firmware  {}; as it says", text::line(&self.firmware))?;
        match (&self.maker, &self.issued_at, self.maker_verified) {
            (Some(maker), Some(at), true) => {
                let (origin, proof) = (self.key_origin.unwrap_or_default(), self.proof.unwrap_or_default());
                writeln!(
                    f,
                    "maker     {maker}, which certified this key at {at} ({origin} key, {proof} to the maker)"
                )?;
            }
            (Some(maker), ..) => writeln!(f, "maker     {maker}; as it says")?,
            (None, ..) => writeln!(f, "maker     none")?,
        }
        writeln!(f, "owner     {}", if self.owner == "empty" { "none" } else { "somebody" })?;
        match self.reason {
            None => write!(f, "certified: this is the device, and the key, that the maker of the anchor certified"),
            Some(reason) => write!(f, "claimed: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        certificate::tests::{claims, forged, signed},
        issuer::Issuer,
        keys::IssuerKey,
        registry::testing::{id, info, key},
    };

    /// A maker, and its key.
    fn maker() -> (Issuer, PublicKey) {
        let key = IssuerKey::generate();
        let anchor = *key.public();
        (Issuer::new(key), anchor)
    }

    #[test]
    fn a_certificate_proves_one_key_of_one_device_by_one_maker() {
        let ((maker, anchor), (other, _)) = (maker(), maker());
        let (device, own, another) = (id("device"), key(), key());
        let account = Account::of(&info(&device, Some(&own))).unwrap();
        let verdict = |certificate: Option<&[u8]>, anchors: &[PublicKey]| {
            let state = if certificate.is_some() { SlotState::Certified } else { SlotState::Anchored };
            Finding::new(&account, &SlotView { state, anchor: Some(maker.anchor()), certificate }, anchors)
        };
        let good = signed(&maker, Kind::DeviceCertificate, &claims(maker.id(), device, own.cose_key()));
        let minimals = good.clone();
        let certified = verdict(Some(&good), &[another, anchor]);
        assert_eq!((certified.verdict, certified.reason, certified.proof), ("certified", None, Some("proved")));
        for (name, certificate, flaw) in forged(&claims(maker.id(), device, own.cose_key()), &maker, &other) {
            let claimed = verdict(Some(&certificate), &[anchor]);
            let reason = match flaw {
                Flaw::NotSigned | Flaw::OtherKind | Flaw::Claims => "cannot be read",
                Flaw::OtherIssuer | Flaw::OtherSigner => "not of this maker",
                Flaw::OtherDevice => "for another device",
                Flaw::OtherKey => "for another key",
            };
            assert_eq!((claimed.verdict, claimed.maker_verified), ("claimed", false), "{name}");
            assert!(claimed.reason.is_some_and(|told| told.contains(reason)), "{name}: {:?}", claimed.reason);
        }
        for (certificate, anchors, reason) in [
            (Some(good.clone()), &[another][..], "not of this maker"),
            (Some(good), &[], "no anchor to check"),
            (None, &[anchor], "no certificate of one"),
        ] {
            let claimed = verdict(certificate.as_deref(), anchors);
            assert_eq!((claimed.verdict, claimed.maker_verified), ("claimed", false));
            assert!(claimed.reason.is_some_and(|told| told.contains(reason)), "{:?}, not {reason}", claimed.reason);
            assert!(claimed.to_string().ends_with(claimed.reason.unwrap()), "{claimed}");
            assert!(claimed.to_string().contains("; as it says\nowner"), "{claimed}");
        }
        let minimal = DeviceInfo { profile: Profile::Minimal, ..info(&device, Some(&own)) };
        let view = SlotView { state: SlotState::Certified, anchor: Some(maker.anchor()), certificate: Some(&minimals) };
        let claimed = Finding::new(&Account::of(&minimal).unwrap(), &view, &[anchor]);
        assert_eq!((claimed.verdict, claimed.possession), ("claimed", "unproven"));
        assert!(claimed.to_string().contains("cannot prove it\n"), "{claimed}");

        let empty = SlotView { state: SlotState::Empty, anchor: None, certificate: None };
        assert_eq!(Finding::new(&account, &empty, &[anchor]).reason, Some("no maker left anything on it"));
    }

    /// What the slot shows as its anchor is the device's word, and names nobody.
    #[test]
    fn the_maker_is_the_one_whose_anchor_verified_and_not_the_one_that_the_slot_shows() {
        let ((maker, anchor), (other, other_anchor)) = (maker(), maker());
        let (device, own) = (id("device"), key());
        let account = Account::of(&info(&device, Some(&own))).unwrap();
        let certificate = signed(&maker, Kind::DeviceCertificate, &claims(maker.id(), device, own.cose_key()));
        let other_y = crate::visit::tests::with_other_y(maker.anchor());
        for shown in [Some(other.anchor()), Some(other_y), None] {
            let view = SlotView { state: SlotState::Certified, anchor: shown, certificate: Some(&certificate) };
            for anchors in [&[anchor][..], &[other_anchor, anchor], &[anchor, other_anchor]] {
                let verdict = Finding::new(&account, &view, anchors);
                assert_eq!((verdict.verdict, verdict.maker_verified), ("claimed", true));
                assert_eq!(verdict.maker.as_ref(), Some(&maker.id().to_string()));
                assert!(verdict.reason.is_some_and(|reason| reason.contains("another maker")), "{:?}", verdict.reason);
                assert!(!verdict.to_string().contains(&other.id().to_string()), "{verdict}");
            }
            // By the other one's anchor it is neither's.
            let verdict = Finding::new(&account, &view, &[other_anchor]);
            assert_eq!((verdict.verdict, verdict.maker_verified), ("claimed", false));
        }
        // A slot that says it has no certificate has none.
        let view =
            SlotView { state: SlotState::Anchored, anchor: Some(maker.anchor()), certificate: Some(&certificate) };
        assert_eq!(Finding::new(&account, &view, &[anchor]).verdict, "claimed");
    }
}
