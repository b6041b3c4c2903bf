//! Signed objects as the host reads them: one check, whoever shows one, and as strict as a device's own.

use cbor_schemas::{Claims, DeviceCertificateClaims, DeviceId, Flaw, IssuerId, Sign1, read_signed};
use protocol::key::PublicKey;

/// A signed object of `issuer`, and what it says.
///
/// # Errors
/// What is wrong with `object`: [`Flaw::NotSigned`] to [`Flaw::OtherSigner`].
pub fn verified<'b, C: Claims<'b>>(object: &'b [u8], issuer: &PublicKey) -> Result<(Sign1<'b>, C), Flaw> {
    let (object, claims) = read_signed(object, IssuerId(issuer.kid()))?;
    protocol::sign1::verify(issuer, &object).map_err(|_| Flaw::OtherSigner)?;
    Ok((object, claims))
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
    let (_, claims) = verified::<DeviceCertificateClaims>(certificate, anchor)?;
    claims.check_subject(device, &key.cose_key())?;
    Ok(claims)
}

#[cfg(test)]
pub(crate) mod tests {
    use cbor_schemas::{CoseKey, DeviceListClaims, KeyOrigin, Keys, Kind, ListMode, ProofLevel};

    use super::*;
    use crate::{
        issuer::Issuer,
        keys::IssuerKey,
        registry::{
            self, NewCertificate, REQUEST_LIFETIME,
            testing::{Fixture, id, key, receipt, wanted},
        },
        visit::tests::with_other_y,
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

    /// An object of another kind, as if it were a certificate.
    fn disguised(object: &[u8]) -> Vec<u8> {
        let object = Sign1 { kind: Kind::DeviceCertificate, ..Sign1::decode(object).unwrap() };
        let mut bytes = [0; DeviceCertificateClaims::MAX_SIGNED_LEN];
        let len = object.encode(&mut bytes).unwrap();
        bytes[..len].to_vec()
    }

    /// What is not the certificate that `own` signs with the claims `good`, and why. `other` is another issuer.
    pub(crate) fn forged(
        good: &DeviceCertificateClaims,
        own: &Issuer,
        other: &Issuer,
    ) -> Vec<(&'static str, Vec<u8>, Flaw)> {
        let kind = Kind::DeviceCertificate;
        let real = signed(own, kind, good);
        let mut flipped = real.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let with = |by: &Issuer, edit: fn(&mut DeviceCertificateClaims)| {
            let mut claims = *good;
            edit(&mut claims);
            signed(by, kind, &claims)
        };
        let theirs = |by: &Issuer| signed(by, kind, &DeviceCertificateClaims { issuer: other.id(), ..*good });
        let mut forged = vec![
            ("nothing", Vec::new(), Flaw::NotSigned),
            ("junk", b"junk".to_vec(), Flaw::NotSigned),
            ("cut off", real[..real.len() - 1].to_vec(), Flaw::NotSigned),
            ("junk that was signed", own.sign_as(kind.typ(), b"junk").unwrap(), Flaw::Claims),
            ("another issuer's", theirs(other), Flaw::OtherIssuer),
            ("in another issuer's name", theirs(own), Flaw::OtherIssuer),
            ("by another issuer", signed(other, kind, good), Flaw::OtherSigner),
            ("a flipped bit", flipped, Flaw::OtherSigner),
            // Whoever else signs has no say about whom it is, either.
            ("by another issuer, of another device", with(other, |good| good.subject = id("other")), Flaw::OtherSigner),
            ("of another device", with(own, |good| good.subject = id("other")), Flaw::OtherDevice),
            ("another x", with(own, |good| good.key = key().cose_key()), Flaw::OtherKey),
            ("another y", with(own, |good| good.key = with_other_y(good.key)), Flaw::OtherKey),
            ("another kid", with(own, |good| good.key.kid = [7; 8]), Flaw::OtherKey),
        ];
        for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
            let object = signed(own, other, good);
            forged.push(("of another kind, in disguise", disguised(&object), Flaw::OtherSigner));
            forged.push(("of another kind", object, Flaw::OtherKind));
        }
        forged
    }

    #[test]
    fn a_certificate_is_one_issuers_about_one_key_of_one_device() {
        let (own, other) = (IssuerKey::generate(), IssuerKey::generate());
        let (anchor, other_anchor) = (*own.public(), *other.public());
        let (own, other) = (Issuer::new(own), Issuer::new(other));
        let (device, key, another) = (id("device"), key(), key());
        let good = claims(own.id(), device, key.cose_key());
        let certificate = signed(&own, Kind::DeviceCertificate, &good);
        assert_eq!(check(&certificate, &anchor, &device, &key), Ok(good));
        assert_eq!(check(&certificate, &other_anchor, &device, &key), Err(Flaw::OtherIssuer));
        assert_eq!(check(&certificate, &anchor, &id("other"), &key), Err(Flaw::OtherDevice));
        assert_eq!(check(&certificate, &anchor, &device, &another), Err(Flaw::OtherKey));
        for (name, object, flaw) in forged(&good, &own, &other) {
            assert_eq!(check(&object, &anchor, &device, &key), Err(flaw), "{name}");
        }
    }

    /// Neither with another registry's devices, nor as what was requested.
    #[tokio::test]
    async fn the_registry_takes_no_forged_certificate() {
        let own = IssuerKey::generate();
        let (from, at) = (Fixture::of_issuer(*own.public()).await, Fixture::of_issuer(*own.public()).await);
        let (own, other) = (Issuer::new(own), Issuer::new(IssuerKey::generate()));
        let (device, key) = (id("device"), key());
        from.proved(&device, &key).await.unwrap();
        let intent = from.begin(&device, &key).await;
        let (good, real) = (*intent.claims(), own.certificate(&intent).unwrap());
        from.registry.issued(intent.cti(), &real).await.unwrap();
        from.registry.installed(intent.cti(), Some(&receipt(&key))).await.unwrap();
        let mut exported = String::new();
        let write = |line: &str| {
            exported.push_str(line);
            Ok::<_, registry::Error>(())
        };
        from.registry.export(write).await.unwrap();

        at.proved(&device, &key).await.unwrap();
        let requested = NewCertificate { cti: intent.cti(), lifetime: REQUEST_LIFETIME, ..wanted(&device, &key) };
        at.registry.begin_issue(&requested).await.unwrap();
        at.registry.requested(intent.cti(), &[7; 32]).await.unwrap();

        for (name, object, flaw) in forged(&good, &own, &other) {
            let into = Fixture::of_issuer(*from.registry.issuer()).await;
            let text = exported.replace(&hex::encode(&real), &hex::encode(&object));
            let error = into.registry.import(text.as_bytes()).await.unwrap_err().to_string();
            assert!(error.contains(&format!("{flaw}; nothing was changed")), "{name}: {error}");

            let error = at.registry.signed_elsewhere(&object).await.unwrap_err().to_string();
            let reason = match flaw {
                Flaw::NotSigned | Flaw::OtherKind => "it is not a device certificate",
                Flaw::Claims => "its claims cannot be read",
                Flaw::OtherIssuer | Flaw::OtherSigner => "this issuer did not sign it",
                Flaw::OtherDevice | Flaw::OtherKey => "it is not what was requested",
            };
            assert!(error.contains(reason), "{name}: {error}");
        }
        at.registry.signed_elsewhere(&real).await.unwrap();
        Fixture::of_issuer(*from.registry.issuer()).await.registry.import(exported.as_bytes()).await.unwrap();
    }

    #[test]
    fn a_list_is_one_issuers() {
        let own = IssuerKey::generate();
        let anchor = *own.public();
        let (own, other) = (Issuer::new(own), Issuer::new(IssuerKey::generate()));
        let list = |by: &Issuer, kind: Kind, issuer| {
            let claims = DeviceListClaims {
                issuer,
                issued_at: 1_795_000_000,
                version: 1,
                mode: ListMode::Members,
                min_iat: 0,
                audit_head: None,
                keys: Keys::default(),
                unproven: Keys::default(),
            };
            let mut bytes = [0; 200];
            let len = claims.encode(&mut bytes).unwrap();
            by.sign_as(kind.typ(), &bytes[..len]).unwrap()
        };
        let kind = Kind::DeviceList;
        for (object, expected) in [
            (list(&own, kind, own.id()), None),
            (list(&own, Kind::Voucher, own.id()), Some(Flaw::OtherKind)),
            (list(&own, kind, other.id()), Some(Flaw::OtherIssuer)),
            (list(&other, kind, other.id()), Some(Flaw::OtherIssuer)),
            (list(&other, kind, own.id()), Some(Flaw::OtherSigner)),
            (own.sign_as(kind.typ(), b"junk").unwrap(), Some(Flaw::Claims)),
            (b"junk".to_vec(), Some(Flaw::NotSigned)),
        ] {
            assert_eq!(verified::<DeviceListClaims<'_>>(&object, &anchor).err(), expected);
        }
    }
}
