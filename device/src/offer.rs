//! What may be put into the factory and the owner slot: an anchor, a certificate that it signed about our own key, and a
//! voucher by somebody who may let a new owner in.

use cbor_schemas::{
    DeviceCertificateClaims, DeviceId, Flaw, IssuerId, Kind, Sign1, SlotContents, SlotRequest, VoucherClaims,
    Watermarks, read_signed,
};
use coap_numbers::code;
use protocol::key::PublicKey;
use sha2::{Digest, Sha256};

use crate::{
    lifecycle::Voucher,
    problem::{Problem, Said},
};

/// The longest slot contents: an anchor and a certificate, in bytes.
pub(crate) const CONTENTS_LEN: usize = crate::store::MAX_CONTENTS_LEN;
/// Contents with the anchor alone, in bytes.
pub(crate) const ANCHORED_LEN: usize = 88;

/// What a PUT to a slot offers. Certificate and voucher are not verified yet. Encodes as [`SlotContents`].
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The issuer's key.
    pub anchor: PublicKey,
    /// A certificate about our key.
    pub certificate: Option<&'a [u8]>,
    /// What lets the new owner in.
    pub voucher: Option<&'a [u8]>,
}

/// A voucher that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vouched {
    /// Who signed it.
    pub by: Voucher,
    /// When, Unix seconds.
    pub issued_at: u64,
}

/// What a voucher is checked against.
#[derive(Debug, Clone, Copy)]
pub struct VoucherVerifier {
    /// This device.
    pub device: DeviceId,
    /// Fillings and emptyings of the owner slot so far.
    pub claim_counter: u32,
    /// The anchor in the factory slot.
    pub factory: Option<PublicKey>,
    /// The anchor in the owner slot.
    pub owner: Option<PublicKey>,
    /// What the owner signed before is void, by the device list. Unix seconds.
    pub min_iat: u64,
    /// The newest time that is known from the objects of each anchor.
    pub watermarks: Watermarks,
}

impl<'a> Offer<'a> {
    /// Reads the body of a PUT to a slot of the device with the key `own_key`.
    ///
    /// # Errors
    /// 4.00 with what is wrong.
    pub fn parse(body: &'a [u8], own_key: &PublicKey) -> Result<Self, Problem> {
        let SlotRequest { anchor, certificate, voucher } = SlotRequest::decode(body)
            .map_err(|_| problem!(code::BAD_REQUEST, "malformed request", "not an anchor and a certificate"))?;
        let anchor = PublicKey::from_cose(&anchor).map_err(|_| {
            problem!(code::BAD_REQUEST, "malformed request", "the anchor is not a key as issuers make them")
        })?;
        if anchor == *own_key {
            return Err(problem!(code::BAD_REQUEST, "malformed request", "the anchor is the device's own key"));
        }
        Ok(Offer { anchor, certificate, voucher })
    }

    /// Verifies the certificate, if there is one: the anchor signed it about this device and its present key. Returns when,
    /// in Unix seconds.
    ///
    /// Costs one ES256 verification.
    ///
    /// # Errors
    /// 4.00 with what is wrong.
    pub fn verify_certificate(&self, device: &DeviceId, own_key: &PublicKey) -> Result<Option<u64>, Problem> {
        let Some(certificate) = self.certificate else { return Ok(None) };
        let issued_at = || {
            let (object, claims) = read_signed::<DeviceCertificateClaims>(certificate, IssuerId(self.anchor.kid()))?;
            claims.check_subject(device, &own_key.cose_key())?;
            protocol::sign1::verify(&self.anchor, &object).map_err(|_| Flaw::OtherSigner)?;
            Ok(Some(claims.issued_at))
        };
        issued_at().map_err(certificate_rejected)
    }

    /// Writes what the slot will hold, at most 640 bytes.
    ///
    /// # Errors
    /// 4.13 if that does not fit.
    pub fn encode<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], Problem> {
        encode_contents(&SlotContents { anchor: self.anchor.cose_key(), certificate: self.certificate }, out)
    }
}

impl VoucherVerifier {
    /// Verifies the voucher of an offer, if there is one.
    ///
    /// Costs one ES256 verification. Which anchors are installed is not told to whoever holds none of their vouchers.
    ///
    /// # Errors
    /// 4.00 with what is wrong; 4.09 for another claim counter.
    pub fn verify(&self, offer: &Offer<'_>) -> Result<Option<Vouched>, Problem> {
        let Some(voucher) = offer.voucher else { return Ok(None) };
        macro_rules! rejected {
            ($detail:literal) => {
                problem!(code::BAD_REQUEST, "voucher rejected", $detail)
            };
        }
        let object = Sign1::decode(voucher).map_err(|_| rejected!("not a signed object"))?;
        if object.kind != Kind::Voucher {
            return Err(rejected!("typ is not that of a voucher"));
        }
        let claims = VoucherClaims::decode(object.payload).map_err(|_| rejected!("malformed claims"))?;
        if claims.subject != self.device {
            return Err(rejected!("sub names another device"));
        }
        if PublicKey::from_cose(&claims.key) != Ok(offer.anchor) {
            return Err(rejected!("cnf is not the anchor"));
        }
        if offer.certificate.is_none() {
            // It is what proves that there is a private key to the anchor.
            return Err(rejected!("a certificate of the anchor has to come with it"));
        }
        if claims.claim_counter != self.claim_counter {
            return Err(problem!(
                code::CONFLICT,
                "voucher rejected",
                "it is for another claim counter than the one in /comm"
            ));
        }
        let anchors = [(Voucher::Owner, self.owner), (Voucher::Factory, self.factory)];
        let named = anchors
            .into_iter()
            .find_map(|(by, anchor)| Some((by, anchor?)).filter(|(_, anchor)| claims.issuer == IssuerId(anchor.kid())));
        let (by, anchor) = named.ok_or(rejected!("no anchor of this device signed it"))?;
        protocol::sign1::verify(&anchor, &object).map_err(|_| rejected!("no anchor of this device signed it"))?;
        if by == Voucher::Owner && claims.issued_at < self.min_iat {
            return Err(rejected!("revoked by the device list"));
        }
        let watermark = match by {
            Voucher::Factory => self.watermarks.factory,
            Voucher::Owner => self.watermarks.owner,
        };
        if claims.expires_at.is_some_and(|expires_at| expires_at < watermark.unwrap_or(0).max(claims.issued_at)) {
            return Err(rejected!("it has expired"));
        }
        Ok(Some(Vouched { by, issued_at: claims.issued_at }))
    }
}

/// When the certificate in slot contents was signed, Unix seconds; `None` without one.
pub(crate) fn issued_at(contents: &SlotContents<'_>) -> Option<u64> {
    let object = Sign1::decode(contents.certificate?).ok()?;
    DeviceCertificateClaims::decode(object.payload).ok().map(|claims| claims.issued_at)
}

/// Contents with the anchor alone, as a new key leaves them.
///
/// # Errors
/// 4.13 if `out` has fewer than 88 bytes.
pub(crate) fn anchor_alone<'b>(anchor: &PublicKey, out: &'b mut [u8]) -> Result<&'b [u8], Problem> {
    encode_contents(&SlotContents { anchor: anchor.cose_key(), certificate: None }, out)
}

/// SHA-256 of slot contents, as the receipt carries it.
pub(crate) fn digest(contents: &[u8]) -> [u8; 32] {
    Sha256::digest(contents).into()
}

const _: () = assert!(CONTENTS_LEN == 640, "a refusal says so");

/// A refusal for each flaw, since refusals are constants.
fn certificate_rejected(flaw: Flaw) -> Problem {
    macro_rules! rejected {
        ($($flaw:ident)+) => {
            match flaw {
                $(Flaw::$flaw => problem!(code::BAD_REQUEST, "certificate rejected", Flaw::$flaw.detail()),)+
            }
        };
    }
    rejected!(NotSigned OtherKind Claims OtherIssuer OtherSigner OtherDevice OtherKey)
}

fn encode_contents<'b>(contents: &SlotContents<'_>, out: &'b mut [u8]) -> Result<&'b [u8], Problem> {
    const TOO_LONG: &Said = &Said::new(code::REQUEST_ENTITY_TOO_LARGE, "the certificate is too long")
        .with_detail("with its anchor it may have 640 bytes as slot contents")
        .with_size_1();
    let too_large = Problem::with_number(TOO_LONG, CONTENTS_LEN as u16);
    let len = contents.encode(out).map_err(|_| too_large)?;
    out.get(..len).ok_or(too_large)
}
