//! Stations that act for this issuer without its key: their tokens, and what they want signed.
//!
//! At the issuer's, a token is written down before it is signed. At the station, a certificate that is intended and cannot be
//! signed is a *request*: it names the key, and the handshake that proved it.

use std::collections::BTreeSet;

use cbor_schemas::{
    Aif, Audience, DeviceCertificateClaims, DeviceId, DeviceListClaims, Flaw, Kind, Method, Sign1, StationTokenClaims,
};
use protocol::key::PublicKey;
use rand_core::{OsRng, RngCore};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    change::Change,
    draft::{Draft, public_key},
    error::Error,
    event::Event,
    handle::Registry,
    reading::Reading,
    record::{CertificateStatus, Cti, List, StationScope, StationToken},
    rows::Requested,
    tokens::TokenGrant,
};
use crate::{certificate, clock::rfc3339};

/// A certificate that a station wants for a device whose key it had proved. One line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRequest {
    /// Names it, and the certificate: `cti`, hex.
    pub request: String,
    /// The device ID.
    pub device: String,
    /// The key's x-coordinate, hex.
    pub key: String,
    /// What the device says of how many keys it made since its last erase.
    pub generation: u32,
    /// Where the key came from.
    pub key_origin: String,
    /// `factory` or `owner`.
    pub slot: String,
    /// RFC 3339.
    pub requested_at: String,
    /// TH_4 of the handshake that proved the key, hex.
    pub transcript: String,
}

impl StationScope {
    /// The paths and methods.
    pub fn aif(self) -> Aif {
        let read_write = Method::Get as u8 | Method::Put as u8;
        let entries: &[_] = match self {
            Self::Commission => &[("/comm/owner", read_write), ("/comm/factory", read_write)],
            Self::Distribute => &[("/comm/peers", read_write)],
            Self::Everything => return Aif::everything(),
        };
        // They are short, and few.
        Aif::new(entries).unwrap_or_else(|_| Aif::everything())
    }
}

impl Registry {
    /// Writes down that a token for a station will be signed, good for so many seconds at all devices of this issuer.
    ///
    /// # Errors
    /// [`Error::NotRequested`] for a device's key; [`Error::ClockBehind`], [`Error::ClockAhead`].
    pub async fn grant_station(
        &self,
        station: &PublicKey,
        scope: StationScope,
        seconds: u64,
    ) -> Result<(StationToken, TokenGrant), Error> {
        let mut change = Change::begin(self).await?;
        if change.rows.holder(station).await?.is_some() {
            return Err(Error::NotRequested { reason: "the key is a device's, and no device is a station" });
        }
        let now = change.token_time().await?;
        let mut id = [0; 8];
        OsRng.fill_bytes(&mut id);
        let token = StationToken {
            id: hex::encode(id),
            station: station.thumbprint().to_string(),
            scope,
            issued_at: now,
            expires_at: now.saturating_add(seconds),
            revoked_at: None,
        };
        change.rows.put_token(&token).await?;
        let claims = StationTokenClaims {
            issuer: self.issuer_id(),
            audience: Audience::All(self.issuer_id()),
            expires_at: Some(token.expires_at),
            issued_at: now,
            key: station.cose_key(),
            scope: scope.aif(),
            cnonce: None,
        };
        let event = Event::StationIntended {
            token: token.id.clone(),
            station: token.station.clone(),
            scope,
            expires_at: token.expires_at,
        };
        change.record(None, &event).await?;
        change.commit().await?;
        Ok((token, TokenGrant::of(claims)))
    }

    /// The token is signed: keeps the bytes. Only after this may it be handed out.
    pub async fn station_signed(&self, token: &StationToken, object: &[u8]) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        change.rows.put_signed_token(&token.id, object).await?;
        let sha256 = hex::encode(Sha256::digest(object));
        change.record(None, &Event::StationSigned { token: token.id.clone(), sha256 }).await?;
        change.commit().await
    }

    /// All tokens for stations, oldest first.
    pub async fn station_tokens(&self) -> Result<Vec<StationToken>, Error> {
        self.read().await?.rows.tokens().await
    }

    /// Revokes the tokens of the station whose thumbprint begins with `prefix`: the next list says so. Returns that station,
    /// and others whose tokens end with it, since they are not newer.
    ///
    /// # Errors
    /// [`Error::NoStation`] if that is not exactly one station with a token that is not over.
    pub async fn revoke_station(&self, prefix: &str) -> Result<(String, BTreeSet<String>), Error> {
        let (station, others) = meant_station(&self.station_tokens().await?, prefix, self.now())?;
        let mut change = Change::begin(self).await?;
        change.rows.revoke_tokens(&station, change.now).await?;
        change.record(None, &Event::StationRevoked { station: station.clone() }).await?;
        change.commit().await?;
        Ok((station, others))
    }

    /// Writes down which handshake proved the key of a certificate that is to be signed elsewhere.
    pub async fn requested(&self, cti: Cti, transcript: &[u8; 32]) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_about(cti).await?;
        draft.request(cti, transcript);
        change.keep(&draft).await
    }

    /// The certificates that are to be signed elsewhere, by device.
    pub async fn requests(&self) -> Result<Vec<CertificateRequest>, Error> {
        let requested = self.read().await?.rows.requested().await?;
        Ok(requested.into_iter().filter_map(request_for).collect())
    }

    /// Takes a certificate that was requested here and signed elsewhere. The next visit installs it.
    ///
    /// # Errors
    /// [`Error::NotRequested`] for anything else. The same one again is fine.
    pub async fn signed_elsewhere(&self, object: &[u8]) -> Result<DeviceId, Error> {
        let refuse = |reason| Error::NotRequested { reason };
        let signed = Sign1::decode_as(Kind::DeviceCertificate, object)
            .map_err(|_| refuse("it is not a device certificate (COSE_Sign1)"))?;
        let claims = DeviceCertificateClaims::decode(signed.payload)
            .map_err(|_| refuse("its claims cannot be read; it may be a newer commissioner's"))?;
        let mut change = Change::begin(self).await?;
        let cti = Cti(claims.cti);
        let draft = match change.rows.subject(cti).await? {
            Some(device) => change.draft(&device).await?,
            None => None,
        };
        let mut draft = draft.ok_or_else(|| refuse("it was not requested here"))?;
        answer(&mut draft, &self.issuer, &claims, object)?;
        change.keep(&draft).await?;
        Ok(draft.device.id)
    }

    /// Takes a list that was signed elsewhere, for devices that a station without the issuer's key visits. Returns its
    /// version.
    ///
    /// # Errors
    /// [`Error::NotRequested`] for anything else.
    pub async fn list_elsewhere(&self, object: &[u8]) -> Result<u64, Error> {
        let refuse = |reason| Error::NotRequested { reason };
        let (signed, claims) = certificate::verified::<DeviceListClaims<'_>>(object, &self.issuer).map_err(|flaw| {
            refuse(match flaw {
                Flaw::NotSigned | Flaw::OtherKind => "it is not a device list (COSE_Sign1)",
                Flaw::Claims => "its claims cannot be read; it may be a newer commissioner's",
                _ => "this issuer did not sign it",
            })
        })?;
        let list = List {
            version: claims.version,
            mode: claims.mode,
            keys: claims.keys.len(),
            claims: signed.payload.to_vec(),
            object: Some(object.to_vec()),
            is_elsewhere: true,
        };
        let mut change = Change::begin(self).await?;
        if change.rows.put_list(&list).await? {
            let sha256 = hex::encode(Sha256::digest(object));
            change.record(None, &Event::ListSigned { version: claims.version, sha256 }).await?;
            change.list_is_known(claims.version).await?;
        }
        change.commit().await?;
        Ok(claims.version)
    }
}

impl Reading {
    /// The tokens of stations that are revoked and not over yet.
    pub async fn revoked_tokens(&mut self, now: u64) -> Result<Vec<Vec<u8>>, Error> {
        self.rows.revoked_tokens(now).await
    }
}

/// The one station with a valid token whose thumbprint begins with `prefix`, and others whose tokens are not newer than its own.
///
/// # Errors
/// [`Error::NoStation`].
fn meant_station(tokens: &[StationToken], prefix: &str, now: u64) -> Result<(String, BTreeSet<String>), Error> {
    let valid: Vec<_> = tokens.iter().filter(|token| token.is_valid(now)).collect();
    let meant: BTreeSet<_> =
        valid.iter().map(|token| &token.station).filter(|station| station.starts_with(prefix)).collect();
    let (Some(station), 1) = (meant.first().copied(), meant.len()) else {
        return Err(Error::NoStation { prefix: prefix.to_owned(), found: meant.len() });
    };
    let newest = valid.iter().filter(|token| token.station == *station).map(|token| token.issued_at).max();
    let others = valid.iter().filter(|token| token.station != *station && Some(token.issued_at) <= newest);
    Ok((station.clone(), others.map(|token| token.station.clone()).collect()))
}

/// A request as it is sent to the issuer; none for a certificate that is not to be signed elsewhere.
fn request_for(requested: Requested) -> Option<CertificateRequest> {
    let Requested { device, x, generation, certificate } = requested;
    Some(CertificateRequest {
        request: certificate.cti.to_string(),
        device,
        key: hex::encode(x),
        generation,
        key_origin: certificate.key_origin.as_str().to_owned(),
        slot: certificate.slot.to_string(),
        requested_at: rfc3339(certificate.issued_at),
        transcript: hex::encode(certificate.transcript?),
    })
}

/// What the issuer signed is taken, if it is what was requested here.
///
/// # Errors
/// [`Error::NotRequested`].
fn answer(draft: &mut Draft, issuer: &PublicKey, claims: &DeviceCertificateClaims, object: &[u8]) -> Result<(), Error> {
    let refuse = |reason| Error::NotRequested { reason };
    let cti = Cti(claims.cti);
    let (key, wanted) = draft.certificate(cti)?;
    if wanted.transcript.is_none() {
        return Err(refuse("it was not requested here"));
    }
    certificate::check(object, issuer, &draft.device.id, &public_key(&key.x)?).map_err(|flaw| {
        refuse(if flaw.is_of_others() { "this issuer did not sign it" } else { "it is not what was requested" })
    })?;
    if wanted.key_origin != claims.key_origin {
        return Err(refuse("it is not what was requested"));
    }
    if wanted.object.as_deref() == Some(object) {
        return Ok(());
    }
    if wanted.status != CertificateStatus::Intended {
        return Err(refuse("the request was given up, or is answered already"));
    }
    draft.issue(cti, object);
    if let Some(certificate) = draft.certificate_mut(cti) {
        certificate.issued_at = claims.issued_at;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        issuer::Issuer,
        keys::IssuerKey,
        registry::{
            NewCertificate, REQUEST_LIFETIME,
            testing::{Fixture, NOON, id, key, receipt, wanted},
        },
    };

    /// The issuer, its registry, and the registry of a station.
    async fn parties() -> (Issuer, Fixture, Fixture) {
        let issuer = IssuerKey::generate();
        let (at_issuer, at_station) =
            (Fixture::of_issuer(*issuer.public()).await, Fixture::of_issuer(*issuer.public()).await);
        (Issuer::new(issuer), at_issuer, at_station)
    }

    /// A certificate that the station wants for a new device.
    async fn requested(station: &Fixture) -> (NewCertificate, [u8; 32]) {
        let (device, key) = (id("device"), key());
        station.proved(&device, &key).await.unwrap();
        let wanted = NewCertificate { lifetime: REQUEST_LIFETIME, ..wanted(&device, &key) };
        station.registry.begin_issue(&wanted).await.unwrap();
        let transcript = [7; 32];
        station.registry.requested(wanted.cti, &transcript).await.unwrap();
        (wanted, transcript)
    }

    /// What the issuer answers.
    async fn answered(issuer: &Issuer, at: &Fixture, wanted: &NewCertificate) -> Vec<u8> {
        at.proved(&wanted.device, &wanted.key).await.unwrap();
        let intent = at.registry.begin_issue(wanted).await.unwrap();
        issuer.certificate(&intent).unwrap()
    }

    #[tokio::test]
    async fn a_request_is_answered_once_and_installed_later() {
        let (issuer, at_issuer, at_station) = parties().await;
        let (wanted, transcript) = requested(&at_station).await;
        // Days later.
        for fixture in [&at_issuer, &at_station] {
            fixture.clock.set(NOON + 20 * 60 * 60);
        }
        let requests = at_station.registry.requests().await.unwrap();
        assert_eq!(requests.len(), 1);
        assert_eq!(
            (&requests[0].request, &requests[0].transcript, requests[0].slot.as_str()),
            (&wanted.cti.to_string(), &hex::encode(transcript), "owner")
        );
        let object = answered(&issuer, &at_issuer, &wanted).await;
        for _ in 0..2 {
            assert_eq!(at_station.registry.signed_elsewhere(&object).await.unwrap(), wanted.device);
        }
        assert!(at_station.registry.requests().await.unwrap().is_empty());
        let intent = at_station.registry.begin_issue(&NewCertificate { cti: Cti([1; 8]), ..wanted }).await.unwrap();
        assert!(intent.is_resumed() && intent.object() == Some(&object));
        assert_eq!(intent.claims().issued_at, NOON + 20 * 60 * 60, "when the issuer signed it");
        at_station.registry.installed(wanted.cti, Some(&receipt(&wanted.key))).await.unwrap();
    }

    #[tokio::test]
    async fn nothing_else_is_taken() {
        let (issuer, at_issuer, at_station) = parties().await;
        let (wanted, _) = requested(&at_station).await;
        let refused = async |object: &[u8]| at_station.registry.signed_elsewhere(object).await.unwrap_err().to_string();
        assert!(refused(b"garbage").await.contains("not a device certificate"));
        let object = answered(&issuer, &at_issuer, &wanted).await;
        let mut flipped = object.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(refused(&flipped).await.contains("did not sign"));
        let (other_issuer, at_other, _) = parties().await;
        assert!(refused(&answered(&other_issuer, &at_other, &wanted).await).await.contains("did not sign"));
        // Another certificate, and another key under the same name.
        let (_, at_issuer, _) = (0, Fixture::of_issuer(*at_station.registry.issuer()).await, 0);
        let unasked = NewCertificate { cti: Cti([1; 8]), ..wanted };
        assert!(refused(&answered(&issuer, &at_issuer, &unasked).await).await.contains("not requested"));
        let at_issuer = Fixture::of_issuer(*at_station.registry.issuer()).await;
        let swapped = NewCertificate { key: key(), ..wanted };
        assert!(refused(&answered(&issuer, &at_issuer, &swapped).await).await.contains("not what was requested"));
        assert_eq!(at_station.registry.requests().await.unwrap().len(), 1);
        at_station.registry.void(wanted.cti, "given up").await.unwrap();
        assert!(refused(&object).await.contains("given up"));
    }

    #[tokio::test]
    async fn a_revoked_station_is_out_with_the_next_list_and_whoever_is_not_newer() {
        let (issuer, at_issuer, _) = parties().await;
        let registry = &at_issuer.registry;
        let grant = async |station: &PublicKey, seconds| {
            let (token, grant) = registry.grant_station(station, StationScope::Everything, seconds).await.unwrap();
            registry.station_signed(&token, &issuer.station_token(&grant).unwrap()).await.unwrap();
            token
        };
        let (first, second, third, over) = (key(), key(), key(), key());
        grant(&over, 1).await;
        grant(&first, 100).await;
        at_issuer.clock.set(NOON + 10);
        let token = grant(&second, 100).await;
        at_issuer.clock.set(NOON + 11);
        grant(&third, 100).await;
        let thumbprint = |key: &PublicKey| key.thumbprint().to_string();

        assert_eq!(
            registry.begin_list(None).await.unwrap().claims(),
            registry.begin_list(None).await.unwrap().claims()
        );
        for (prefix, found) in [("", 3), ("zz", 0), (&thumbprint(&over)[..], 0)] {
            let error = registry.revoke_station(prefix).await.unwrap_err();
            assert!(matches!(error, Error::NoStation { found: told, .. } if told == found), "{prefix}: {error}");
        }
        let (revoked, others) = registry.revoke_station(&thumbprint(&second)[..12]).await.unwrap();
        assert_eq!((revoked, others), (thumbprint(&second), [thumbprint(&first)].into()));
        let list = registry.begin_list(None).await.unwrap();
        assert_eq!(DeviceListClaims::decode(list.claims()).unwrap().min_iat, token.issued_at + 1);
        let valid: Vec<_> = registry.station_tokens().await.unwrap();
        let valid = valid.iter().filter(|token| token.is_valid(NOON + 11)).map(|token| &token.station);
        assert_eq!(valid.collect::<Vec<_>>(), [&thumbprint(&first), &thumbprint(&third)]);

        // Others are told its hash until it is over.
        let told = async |now| registry.read().await.unwrap().revoked_tokens(now).await.unwrap().len();
        assert_eq!((told(NOON + 110).await, told(NOON + 111).await), (1, 0));
    }

    #[test]
    fn scopes_are_what_they_are_called() {
        let allows = |scope: StationScope, path: &str, method| scope.aif().allows(path, method);
        for (path, method, commission, distribute) in [
            ("/comm/owner", Method::Put, true, false),
            ("/comm/owner", Method::Get, true, false),
            ("/comm/factory", Method::Put, true, false),
            ("/comm/peers", Method::Put, false, true),
            ("/comm/peers", Method::Get, false, true),
            ("/comm/slots/wifi-passphrase", Method::Put, false, false),
            ("/comm/reset", Method::Post, false, false),
            ("/comm/rekey", Method::Post, false, false),
        ] {
            assert_eq!(allows(StationScope::Commission, path, method), commission, "{path}");
            assert_eq!(allows(StationScope::Distribute, path, method), distribute, "{path}");
            assert!(allows(StationScope::Everything, path, method), "{path}");
        }
    }
}
