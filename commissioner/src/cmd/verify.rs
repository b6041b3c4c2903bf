//! `commissioner verify [LINK] [--anchor KEY]`: whose product is this, and what of that is proven?

use std::fmt;

use cbor_schemas::{DeviceCertificateClaims, IssuerId, Kind, Profile, ProofLevel, Sign1, SlotState, SlotView};
use clap::Args as ClapArgs;
use protocol::key::PublicKey;
use serde::Serialize;

use super::Context;
use crate::{
    client::Request,
    clock::rfc3339,
    error::{CommandError, ExitCode},
    keys::Anchor,
    link::Link,
    text,
    visit::{Account, Visit},
};

const HELP: &str = "\
The anchor is the maker's public key, from where you trust it: its web site, the box. Without one, what a device says of its
maker is a claim. The exit code is 5 if an anchor is given, and the device cannot prove that this maker made it.";

/// Check whose product a device is
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// Where the device is; left out, exactly one device must answer
    link: Option<Link>,
    /// The maker's key: 64 hex digits, or a PEM file. Several are tried one after the other
    #[arg(long, value_name = "KEY|FILE")]
    anchor: Vec<Anchor>,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let mut found = context.reach(self.link.as_ref()).await?;
        let (account, view) = loop {
            let progress = context.progress.on_link(&found.link);
            match ask(&mut found.client, &found.account, &progress).await {
                Err(error) => found.fall_back(error, &context.progress).await?,
                Ok(answer) => break answer,
            }
        };
        let view = SlotView::decode(&view).map_err(|error| {
            CommandError::new(ExitCode::Refused, format!("the device's factory slot cannot be read: {error}"))
        })?;
        let verdict = Verdict::new(&account, &view, &self.anchor);
        context.output.result(&verdict, &verdict);
        match verdict.reason {
            Some(reason) if !self.anchor.is_empty() => Err(CommandError::new(
                ExitCode::Refused,
                format!("{} is not proven to be of this maker: {reason}", verdict.device),
            )),
            _ => Ok(()),
        }
    }
}

/// The account, under protection if the device can do that, and what is in the factory slot.
async fn ask(
    client: &mut crate::client::Client,
    seen: &Account,
    progress: &crate::progress::Progress,
) -> Result<(Account, Vec<u8>), CommandError> {
    let mut visit = match seen.info().profile {
        Profile::Full => Visit::stranger(client, seen, progress).await?,
        Profile::Minimal => Visit::unproven(client, seen)?,
    };
    let response = visit.request(&Request::get("/comm/factory")).await?.success()?;
    Ok((visit.account().clone(), response.payload))
}

/// What is known of a device's maker.
#[derive(Debug, Serialize)]
struct Verdict {
    device: String,
    thumbprint: String,
    /// `proved` by EDHOC, or `unproven`: the minimal profile has none.
    possession: &'static str,
    firmware: String,
    /// `certified` or `claimed`.
    verdict: &'static str,
    /// Why it is not certified.
    reason: Option<&'static str>,
    factory: &'static str,
    /// Who the device says is its maker, or who is.
    maker: Option<String>,
    issued_at: Option<String>,
    key_origin: Option<&'static str>,
    /// Whether the maker had the key proved.
    proof: Option<&'static str>,
    owner: &'static str,
}

impl Verdict {
    fn new(account: &Account, view: &SlotView<'_>, anchors: &[Anchor]) -> Self {
        let info = account.info();
        let claims = view.certificate.and_then(|certificate| {
            let object = Sign1::decode_as(Kind::DeviceCertificate, certificate).ok()?;
            DeviceCertificateClaims::decode(object.payload).ok()
        });
        let reason = check(account, view, claims.as_ref(), anchors).err();
        let is_certified = reason.is_none();
        let claims = claims.filter(|_| view.state == SlotState::Certified);
        Self {
            device: info.device.to_string(),
            thumbprint: account.key().map(|key| key.thumbprint().to_string()).unwrap_or_default(),
            possession: match info.profile {
                Profile::Full => ProofLevel::Proved.as_str(),
                Profile::Minimal => ProofLevel::Unproven.as_str(),
            },
            firmware: account.firmware(),
            verdict: if is_certified { "certified" } else { "claimed" },
            reason,
            factory: view.state.as_str(),
            maker: view.anchor.map(|anchor| IssuerId(anchor.kid).to_string()),
            issued_at: claims.map(|claims| rfc3339(claims.issued_at)),
            key_origin: claims.map(|claims| claims.key_origin.as_str()),
            proof: claims.map(|claims| claims.proof.as_str()),
            owner: info.owner.as_str(),
        }
    }
}

/// Whether one of `anchors` certified this very key of this very device; if not, what is missing.
fn check(
    account: &Account,
    view: &SlotView<'_>,
    claims: Option<&DeviceCertificateClaims>,
    anchors: &[Anchor],
) -> Result<(), &'static str> {
    let certificate = match (view.state, view.certificate) {
        (SlotState::Empty, _) => return Err("no maker left anything on it"),
        (_, None) => {
            return Err("it names a maker, and has no certificate of one: its key is newer, or was never certified");
        }
        (_, Some(certificate)) => certificate,
    };
    let claims = claims.ok_or("its certificate cannot be read")?;
    if anchors.is_empty() {
        return Err("there is no anchor to check its certificate by; ask the maker for one, and give it with --anchor");
    }
    let signed_by = |anchor: &PublicKey| {
        let object = Sign1::decode_as(Kind::DeviceCertificate, certificate).ok()?;
        protocol::sign1::verify(anchor, &object).ok()
    };
    if !anchors.iter().any(|anchor| signed_by(&anchor.0).is_some()) {
        return Err("its certificate is not of this maker");
    }
    if claims.subject != account.info().device {
        return Err("its certificate is for another device");
    }
    if account.key().is_none_or(|key| *key.x() != claims.key.x) {
        return Err("its certificate is for another key");
    }
    if account.info().profile == Profile::Minimal {
        return Err(
            "this maker certified a device of this name and key, but one of the minimal profile cannot prove that it is that one",
        );
    }
    Ok(())
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "device    {}", self.device)?;
        let possession = match self.possession {
            "proved" => "the device proved that it has it",
            _ => "as it says: it has the minimal profile, and cannot prove it",
        };
        writeln!(f, "key       {}; {possession}", self.thumbprint)?;
        writeln!(f, "firmware  {}; as it says", text::line(&self.firmware))?;
        match (&self.maker, &self.issued_at, &self.reason) {
            (Some(maker), Some(at), None) => {
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
    use cbor_schemas::{DeviceId, DeviceInfo, KeyOrigin};

    use super::*;
    use crate::{
        issuer::Issuer,
        keys::IssuerKey,
        registry::testing::{id, info, key},
    };

    /// A maker, and its key.
    fn maker() -> (Issuer, Anchor) {
        let key = IssuerKey::generate();
        let anchor = Anchor(*key.public());
        (Issuer::new(key), anchor)
    }

    fn certificate(by: &Issuer, kind: Kind, device: DeviceId, key: &PublicKey) -> Vec<u8> {
        let claims = DeviceCertificateClaims {
            issuer: by.id(),
            subject: device,
            issued_at: 1_795_000_000,
            cti: [7; 8],
            key: key.cose_key(),
            key_origin: KeyOrigin::Generated,
            proof: ProofLevel::Proved,
        };
        let mut bytes = [0; DeviceCertificateClaims::MAX_LEN];
        let len = claims.encode(&mut bytes).unwrap();
        by.sign_as(kind.typ(), &bytes[..len]).unwrap()
    }

    #[test]
    fn a_certificate_proves_one_key_of_one_device_by_one_maker() {
        let ((maker, anchor), (other, _)) = (maker(), maker());
        let (device, own, another) = (id("device"), key(), key());
        let account = Account::of(&info(&device, Some(&own)));
        let verdict = |certificate: Option<&[u8]>, anchors: &[Anchor]| {
            let state = if certificate.is_some() { SlotState::Certified } else { SlotState::Anchored };
            Verdict::new(&account, &SlotView { state, anchor: Some(maker.anchor()), certificate }, anchors)
        };
        let kind = Kind::DeviceCertificate;
        let good = certificate(&maker, kind, device, &own);
        let minimals = good.clone();
        let certified = verdict(Some(&good), &[Anchor(another), anchor]);
        assert_eq!((certified.verdict, certified.reason, certified.proof), ("certified", None, Some("proved")));
        for (certificate, anchors, reason) in [
            (Some(certificate(&maker, kind, id("other"), &own)), &[anchor][..], "for another device"),
            (Some(certificate(&maker, kind, device, &another)), &[anchor], "for another key"),
            (Some(certificate(&other, kind, device, &own)), &[anchor], "not of this maker"),
            (Some(certificate(&maker, Kind::Voucher, device, &own)), &[anchor], "cannot be read"),
            (Some(b"garbage".to_vec()), &[anchor], "cannot be read"),
            (Some(good.clone()), &[Anchor(another)], "not of this maker"),
            (Some(good), &[], "no anchor to check"),
            (None, &[anchor], "no certificate of one"),
        ] {
            let claimed = verdict(certificate.as_deref(), anchors);
            assert_eq!(claimed.verdict, "claimed");
            assert!(claimed.reason.is_some_and(|told| told.contains(reason)), "{:?}, not {reason}", claimed.reason);
            assert!(claimed.to_string().ends_with(claimed.reason.unwrap()), "{claimed}");
        }
        let minimal = DeviceInfo { profile: Profile::Minimal, ..info(&device, Some(&own)) };
        let view = SlotView { state: SlotState::Certified, anchor: Some(maker.anchor()), certificate: Some(&minimals) };
        let claimed = Verdict::new(&Account::of(&minimal), &view, &[anchor]);
        assert_eq!((claimed.verdict, claimed.possession), ("claimed", "unproven"));
        assert!(claimed.to_string().contains("cannot prove it\n"), "{claimed}");

        let empty = SlotView { state: SlotState::Empty, anchor: None, certificate: None };
        assert_eq!(Verdict::new(&account, &empty, &[anchor]).reason, Some("no maker left anything on it"));
    }
}
