//! The issuer: turns what the registry wrote down into signed objects (RFC 9052 COSE_Sign1, RFC 8392 CWT).
//!
//! It signs an [`Intent`], a [`TokenGrant`], a [`VoucherGrant`], a [`List`] or a [`Seal`], and nothing else. Only the registry makes those, and
//! only durably: so nothing can be signed that is not recorded.

use cbor_schemas::{
    CoseKey, DeviceCertificateClaims, DeviceListClaims, IssuerId, Kind, StationTokenClaims, VoucherClaims,
};
use coset::{CoseSign1Builder, TaggedCborSerializable};
use protocol::key::PublicKey;

use crate::{
    cose::protected_as,
    hsm,
    keys::IssuerKey,
    registry::{Intent, List, Seal, TokenGrant, VoucherGrant, seals},
};

/// Why something was not signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry is another issuer's.
    #[error(
        "the registry belongs to issuer {registry}, the key file to issuer {key}; put the two that belong together back from your backup"
    )]
    OtherIssuer {
        /// Whose the registry is.
        registry: IssuerId,
        /// Whose the key is.
        key: IssuerId,
    },
    /// Only the issuer's own machine can do that.
    #[error("the key of issuer {0} is not at this station, so nothing is signed here; do that where the key is")]
    Elsewhere(IssuerId),
    /// The HSM did not sign.
    #[error(transparent)]
    Hsm(#[from] hsm::Error),
    /// The claims cannot be encoded.
    #[error("cannot encode the claims: {0}")]
    Claims(cbor_schemas::Error),
    /// The envelope cannot be encoded.
    #[error("cannot encode the signed object: {0}")]
    Envelope(coset::CoseError),
}

/// Signs for one issuer.
pub struct Issuer {
    public: PublicKey,
    /// None at a station that acts for an issuer whose key is elsewhere.
    key: Option<IssuerKey>,
}

impl Issuer {
    /// The issuer with this key.
    pub fn new(key: IssuerKey) -> Self {
        Self { public: *key.public(), key: Some(key) }
    }

    /// An issuer whose key is elsewhere: it signs nothing here.
    pub fn elsewhere(public: PublicKey) -> Self {
        Self { public, key: None }
    }

    /// Whether its key is here.
    pub fn signs(&self) -> bool {
        self.key.is_some()
    }

    /// Fails where its key is not: before anything is written down that cannot be signed.
    ///
    /// # Errors
    /// [`Error::Elsewhere`].
    pub fn must_sign(&self) -> Result<(), Error> {
        if self.signs() { Ok(()) } else { Err(Error::Elsewhere(self.id())) }
    }

    /// Its name in signed objects.
    pub fn id(&self) -> IssuerId {
        IssuerId(self.public.kid())
    }

    /// What devices keep of it, to verify by.
    pub fn anchor(&self) -> CoseKey {
        self.public.cose_key()
    }

    /// The signed device certificate: the same bytes for the same intent.
    pub fn certificate(&self, intent: &Intent) -> Result<Vec<u8>, Error> {
        let claims = intent.claims();
        self.check(claims.issuer)?;
        let mut buffer = [0; DeviceCertificateClaims::MAX_LEN];
        let len = claims.encode(&mut buffer).map_err(Error::Claims)?;
        self.sign(Kind::DeviceCertificate, &buffer[..len])
    }

    /// The signed station token.
    pub fn station_token(&self, grant: &TokenGrant) -> Result<Vec<u8>, Error> {
        let claims = grant.claims();
        self.check(claims.issuer)?;
        let mut buffer = [0; StationTokenClaims::MAX_LEN];
        let len = claims.encode(&mut buffer).map_err(Error::Claims)?;
        self.sign(Kind::StationToken, &buffer[..len])
    }

    /// The signed voucher.
    pub fn voucher(&self, grant: &VoucherGrant) -> Result<Vec<u8>, Error> {
        let claims = grant.claims();
        self.check(claims.issuer)?;
        let mut buffer = [0; VoucherClaims::MAX_LEN];
        let len = claims.encode(&mut buffer).map_err(Error::Claims)?;
        self.sign(Kind::Voucher, &buffer[..len])
    }

    /// The signed device list: the same bytes for the same list.
    pub fn list(&self, list: &List) -> Result<Vec<u8>, Error> {
        let claims = DeviceListClaims::decode(list.claims()).map_err(Error::Claims)?;
        self.check(claims.issuer)?;
        self.sign(Kind::DeviceList, list.claims())
    }

    /// The signed seal of the audit trail: the same bytes for the same seal.
    pub fn seal(&self, seal: &Seal) -> Result<Vec<u8>, Error> {
        self.check(seal.issuer())?;
        self.sign_as(seals::TYP, &seal.claims())
    }

    fn check(&self, registry: IssuerId) -> Result<(), Error> {
        if registry == self.id() { Ok(()) } else { Err(Error::OtherIssuer { registry, key: self.id() }) }
    }

    fn sign(&self, kind: Kind, claims: &[u8]) -> Result<Vec<u8>, Error> {
        self.sign_as(kind.typ(), claims)
    }

    pub(crate) fn sign_as(&self, typ: &str, claims: &[u8]) -> Result<Vec<u8>, Error> {
        let key = self.key.as_ref().ok_or(Error::Elsewhere(self.id()))?;
        CoseSign1Builder::new()
            .protected(protected_as(typ))
            .payload(claims.to_vec())
            .try_create_signature(b"", |to_be_signed| key.sign(to_be_signed).map(Vec::from))?
            .build()
            .to_tagged_vec()
            .map_err(Error::Envelope)
    }
}

#[cfg(test)]
mod tests {
    use cbor_schemas::{Aif, Audience, KeyOrigin, ProofLevel, Sign1};
    use protocol::sign1;

    use super::*;
    use crate::registry::{
        Registry, TokenRequest, Validity,
        testing::{Fixture, NOON, id, key},
    };

    async fn issuer_with_registry() -> (Issuer, Fixture) {
        let issuer = Issuer::new(IssuerKey::generate());
        let fixture = Fixture::of_issuer(issuer.public).await;
        (issuer, fixture)
    }

    async fn token(registry: &Registry, audience: Audience, validity: Validity) -> TokenGrant {
        let wanted = TokenRequest { station: key(), audience, scope: Aif::everything(), validity };
        registry.grant_token(&wanted).await.unwrap()
    }

    #[tokio::test]
    async fn a_certificate_says_what_was_intended_and_verifies() {
        let (issuer, fixture) = issuer_with_registry().await;
        let (device, key) = (id("device"), key());
        fixture.proved(&device, &key).await.unwrap();
        let intent = fixture.begin(&device, &key).await;
        let bytes = issuer.certificate(&intent).unwrap();

        let object = Sign1::decode(&bytes).unwrap();
        assert_eq!(object.kind, Kind::DeviceCertificate);
        sign1::verify(&issuer.public, &object).unwrap();
        assert!(sign1::verify(IssuerKey::generate().public(), &object).is_err());
        let claims = DeviceCertificateClaims::decode(object.payload).unwrap();
        assert_eq!(claims, *intent.claims());
        assert_eq!((claims.issuer, claims.subject, claims.issued_at), (issuer.id(), device, NOON));
        assert_eq!((claims.key, claims.cti), (key.cose_key(), intent.cti().0));
        assert_eq!((claims.key_origin, claims.proof), (KeyOrigin::Generated, ProofLevel::Proved));

        // coset writes the envelope, cbor-schemas defines it: byte for byte the same.
        let mut again = [0; DeviceCertificateClaims::MAX_SIGNED_LEN];
        let len = object.encode(&mut again).unwrap();
        assert_eq!(&again[..len], bytes);
        assert_eq!(issuer.certificate(&intent).unwrap(), bytes, "an interrupted run can be repeated");
    }

    #[tokio::test]
    async fn a_token_says_what_was_granted_and_verifies() {
        let (issuer, fixture) = issuer_with_registry().await;
        let tokens = [
            (Audience::Device(id("device")), Validity::Nonce([9; 8])),
            (Audience::All(issuer.id()), Validity::Seconds(600)),
        ];
        for (audience, validity) in tokens {
            let grant = token(&fixture.registry, audience, validity).await;
            let bytes = issuer.station_token(&grant).unwrap();
            let object = Sign1::decode_as(Kind::StationToken, &bytes).unwrap();
            sign1::verify(&issuer.public, &object).unwrap();
            assert_eq!(StationTokenClaims::decode(object.payload).unwrap(), *grant.claims());
        }
    }

    #[tokio::test]
    async fn another_issuers_registry_is_refused() {
        let (issuer, _) = issuer_with_registry().await;
        let fixture = Fixture::new().await;
        let grant = token(&fixture.registry, Audience::Device(id("device")), Validity::Seconds(600)).await;
        assert!(matches!(issuer.station_token(&grant), Err(Error::OtherIssuer { .. })));
        fixture.proved(&id("device"), &key()).await.unwrap();
        let key = fixture.device(&id("device")).await.keys[0].x;
        let key = protocol::key::PublicKey::from_x(&key).unwrap();
        assert!(matches!(
            issuer.certificate(&fixture.begin(&id("device"), &key).await),
            Err(Error::OtherIssuer { .. })
        ));
    }

    #[test]
    fn the_protected_header_is_the_schemas() {
        use coset::CborSerializable;
        for kind in Kind::ALL {
            assert_eq!(protected_as(kind.typ()).to_vec().unwrap(), kind.protected_header(), "{kind:?}");
        }
    }
}
