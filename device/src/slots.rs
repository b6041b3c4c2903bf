//! What may be put into the factory and the owner slot: an anchor, and a certificate that it signed about our own key.

use cbor_schemas::{DeviceCertificateClaims, DeviceId, IssuerId, Kind, Sign1, SlotContents, SlotRequest};
use coap_numbers::code;
use protocol::key::PublicKey;
use sha2::{Digest, Sha256};

use crate::problem::Problem;

/// The longest slot contents: an anchor and a certificate, in bytes.
pub const CONTENTS_LEN: usize = crate::store::MAX_CONTENTS_LEN;
/// Contents with the anchor alone, in bytes.
pub const ANCHORED_LEN: usize = 88;

/// A slot request that was checked against this device. Encodes as [`SlotContents`].
#[derive(Debug, Clone, Copy)]
pub struct Checked<'a> {
    /// The issuer's key.
    pub anchor: PublicKey,
    /// The certificate about our key, if one came with it.
    pub certificate: Option<&'a [u8]>,
    /// When the certificate was signed, Unix seconds.
    pub issued_at: Option<u64>,
}

/// Checks the body of a PUT to a slot of the device `device` with the key `own_key`.
///
/// Costs one ES256 verification if there is a certificate.
///
/// # Errors
/// 4.00 with what is wrong; 5.01 for vouchers.
pub fn check<'a>(body: &'a [u8], device: &DeviceId, own_key: &PublicKey) -> Result<Checked<'a>, Problem> {
    let request = SlotRequest::decode(body).map_err(|_| Problem::malformed("not an anchor and a certificate"))?;
    if request.voucher.is_some() {
        return Err(Problem::new(code::NOT_IMPLEMENTED, "vouchers are not supported by this firmware"));
    }
    let anchor = PublicKey::from_cose(&request.anchor)
        .map_err(|_| Problem::malformed("the anchor is not a key as issuers make them"))?;
    if anchor == *own_key {
        return Err(Problem::malformed("the anchor is the device's own key"));
    }
    let issued_at = match request.certificate {
        Some(certificate) => Some(check_certificate(certificate, &anchor, device, own_key)?),
        None => None,
    };
    Ok(Checked { anchor, certificate: request.certificate, issued_at })
}

fn check_certificate(
    certificate: &[u8],
    anchor: &PublicKey,
    device: &DeviceId,
    own_key: &PublicKey,
) -> Result<u64, Problem> {
    let rejected = |detail| Problem::new(code::BAD_REQUEST, "certificate rejected").with_detail(detail);
    let object = Sign1::decode(certificate).map_err(|_| rejected("not a signed object"))?;
    if object.kind != Kind::DeviceCertificate {
        return Err(rejected("typ is not that of a device certificate"));
    }
    let claims = DeviceCertificateClaims::decode(object.payload).map_err(|_| rejected("malformed claims"))?;
    if claims.issuer != IssuerId(anchor.kid()) {
        return Err(rejected("iss is not the anchor"));
    }
    if claims.subject != *device {
        return Err(rejected("sub names another device"));
    }
    if PublicKey::from_cose(&claims.key) != Ok(*own_key) {
        return Err(rejected("cnf names another key"));
    }
    protocol::sign1::verify(anchor, &object).map_err(|_| rejected("the anchor did not sign it"))?;
    Ok(claims.issued_at)
}

impl Checked<'_> {
    /// Writes what the slot will hold, at most [`CONTENTS_LEN`] bytes.
    ///
    /// # Errors
    /// 4.13 if that does not fit.
    pub fn encode<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], Problem> {
        encode_contents(&SlotContents { anchor: self.anchor.cose_key(), certificate: self.certificate }, out)
    }
}

/// Contents with the anchor alone, as a new key leaves them.
///
/// # Errors
/// 4.13 if `out` has fewer than 88 bytes.
pub fn anchor_alone<'b>(anchor: &PublicKey, out: &'b mut [u8]) -> Result<&'b [u8], Problem> {
    encode_contents(&SlotContents { anchor: anchor.cose_key(), certificate: None }, out)
}

/// SHA-256 of slot contents, as the receipt carries it.
pub fn digest(contents: &[u8]) -> [u8; 32] {
    Sha256::digest(contents).into()
}

fn encode_contents<'b>(contents: &SlotContents<'_>, out: &'b mut [u8]) -> Result<&'b [u8], Problem> {
    let too_large = Problem {
        size_1: u16::try_from(CONTENTS_LEN).ok(),
        ..Problem::new(code::REQUEST_ENTITY_TOO_LARGE, "the certificate is too long")
    };
    let len = contents.encode(out).map_err(|_| too_large)?;
    out.get(..len).ok_or(too_large)
}
