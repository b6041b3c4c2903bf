//! Device certificates as the host reads them: one check, whoever shows one, and as strict as a device's own.

use cbor_schemas::{DeviceCertificateClaims, DeviceId, IssuerId, Kind, Sign1};
use protocol::key::PublicKey;

/// Why a certificate does not say that this key is that device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not a signed object of this kind.
    #[error("it is no device certificate")]
    NoCertificate,
    /// The claims cannot be read.
    #[error("its claims cannot be read")]
    Claims,
    /// `iss` is somebody else.
    #[error("another issuer is named in it")]
    OtherIssuer,
    /// The signature is not the anchor's.
    #[error("another key signed it")]
    OtherSigner,
    /// `sub` is another device.
    #[error("it is about another device")]
    OtherDevice,
    /// `cnf` is another key, or another form of it.
    #[error("it is about another key")]
    OtherKey,
}

impl Flaw {
    /// Whether the anchor has nothing to do with it.
    pub fn is_of_others(self) -> bool {
        matches!(self, Self::OtherIssuer | Self::OtherSigner)
    }
}

/// What `anchor` certified about the `device` with `key`.
///
/// # Errors
/// What is wrong with `certificate`. What it is about is looked at only if the anchor signed it.
pub fn check(
    certificate: &[u8],
    anchor: &PublicKey,
    device: &DeviceId,
    key: &PublicKey,
) -> Result<DeviceCertificateClaims, Flaw> {
    let object = Sign1::decode_as(Kind::DeviceCertificate, certificate).map_err(|_| Flaw::NoCertificate)?;
    let claims = DeviceCertificateClaims::decode(object.payload).map_err(|_| Flaw::Claims)?;
    if claims.issuer != IssuerId(anchor.kid()) {
        return Err(Flaw::OtherIssuer);
    }
    protocol::sign1::verify(anchor, &object).map_err(|_| Flaw::OtherSigner)?;
    if claims.subject != *device {
        return Err(Flaw::OtherDevice);
    }
    if claims.key != key.cose_key() {
        return Err(Flaw::OtherKey);
    }
    Ok(claims)
}

#[cfg(test)]
pub(crate) mod tests {
    use cbor_schemas::{CoseKey, KeyOrigin, ProofLevel};

    use super::*;
    use crate::{
        issuer::Issuer,
        keys::IssuerKey,
        registry::testing::{id, key},
    };

    /// What an issuer says about a device with its key.
    pub(crate) fn claims(by: IssuerId, device: DeviceId, key: CoseKey) -> DeviceCertificateClaims {
        let (key_origin, proof) = (KeyOrigin::Generated, ProofLevel::Proved);
        DeviceCertificateClaims {
            issuer: by,
            subject: device,
            issued_at: 1_795_000_000,
            cti: [7; 8],
            key,
            key_origin,
            proof,
        }
    }

    /// The claims, signed as an object of that kind.
    pub(crate) fn signed(by: &Issuer, kind: Kind, claims: &DeviceCertificateClaims) -> Vec<u8> {
        let mut bytes = [0; DeviceCertificateClaims::MAX_LEN];
        let len = claims.encode(&mut bytes).unwrap();
        by.sign_as(kind.typ(), &bytes[..len]).unwrap()
    }

    #[test]
    fn a_certificate_is_one_issuers_about_one_key_of_one_device() {
        let (own, other) = (IssuerKey::generate(), IssuerKey::generate());
        let (anchor, other_anchor) = (*own.public(), *other.public());
        let (own, other) = (Issuer::new(own), Issuer::new(other));
        let (device, key, another) = (id("device"), key(), key());
        let (kind, good) = (Kind::DeviceCertificate, claims(own.id(), device, key.cose_key()));
        let certificate = signed(&own, kind, &good);
        assert_eq!(check(&certificate, &anchor, &device, &key), Ok(good));
        assert_eq!(check(&certificate, &other_anchor, &device, &key), Err(Flaw::OtherIssuer));
        assert_eq!(check(&certificate, &anchor, &id("other"), &key), Err(Flaw::OtherDevice));
        assert_eq!(check(&certificate, &anchor, &device, &another), Err(Flaw::OtherKey));
        assert_eq!(check(&[], &anchor, &device, &key), Err(Flaw::NoCertificate));

        let other_y = crate::visit::tests::with_other_y(key.cose_key());
        let other_kid = CoseKey { kid: another.kid(), ..key.cose_key() };
        for (object, flaw) in [
            (signed(&own, Kind::Voucher, &good), Flaw::NoCertificate),
            (own.sign_as(kind.typ(), b"junk").unwrap(), Flaw::Claims),
            // Signed by the one, in the name of the other.
            (signed(&own, kind, &claims(other.id(), device, key.cose_key())), Flaw::OtherIssuer),
            (signed(&other, kind, &good), Flaw::OtherSigner),
            // Whoever else signs has no say about whom it is, either.
            (signed(&other, kind, &claims(own.id(), id("other"), key.cose_key())), Flaw::OtherSigner),
            (signed(&own, kind, &claims(own.id(), device, other_y)), Flaw::OtherKey),
            (signed(&own, kind, &claims(own.id(), device, other_kid)), Flaw::OtherKey),
        ] {
            assert_eq!(check(&object, &anchor, &device, &key), Err(flaw));
        }
    }
}
