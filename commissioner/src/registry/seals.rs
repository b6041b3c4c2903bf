//! Signed heads of the audit trail.
//!
//! A hash chain proves nothing to whoever can rewrite all of it. Each signed device list names the head that the chain had,
//! and so does a seal. Whoever rewrites an entry before such a head has to forge a signature, or to hide every list and
//! seal that there is: those that devices and others hold can be held against the registry, too.

use cbor_schemas::{DeviceListClaims, IssuerId};
use coset::{CborSerializable as _, CoseSign1, TaggedCborSerializable};
use minicbor::{Decoder, Encoder};
use p256::ecdsa::{Signature, VerifyingKey, signature::Verifier};
use protocol::key::PublicKey;

use super::{change::Change, entry::AuditSummary, error::Error, event::Event, handle::Registry, reading::Reading};
use crate::certificate;
use crate::clock::rfc3339;
use crate::cose::protected_as;

/// The `typ` of a seal. It is none of the four kinds that devices know.
pub(crate) const TYP: &str = "application/comm-audit-seal+cwt";

/// A head that may be signed: its entry is in the audit trail, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The last entry that is sealed.
    pub seq: u64,
    issuer: IssuerId,
    issued_at: u64,
    head: [u8; 32],
}

/// What a signature vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The last entry that cannot have been changed since.
    pub seq: u64,
    /// By what, such as `list 1795361040`.
    pub by: String,
    /// When it was signed, Unix seconds.
    pub issued_at: u64,
}

/// An audit trail that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// The chain.
    pub chain: AuditSummary,
    /// How far signatures vouch for it.
    pub sealed: Option<Sealed>,
    /// How many signatures there were.
    pub signatures: usize,
}

impl Seal {
    /// The encoded claims.
    pub fn claims(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        let encoded = encoder
            .map(4)
            .and_then(|encoder| encoder.u8(1)?.str(&self.issuer.to_string())?.u8(6)?.u64(self.issued_at))
            .and_then(|encoder| encoder.i64(-70009)?.bytes(&self.head)?.i64(-70010)?.u64(self.seq));
        encoded.expect("a vector takes everything");
        encoder.into_writer()
    }

    /// Whose seal this is.
    pub fn issuer(&self) -> IssuerId {
        self.issuer
    }

    fn decode(claims: &[u8]) -> Option<Self> {
        let mut decoder = Decoder::new(claims);
        (decoder.map().ok()?? == 4 && decoder.i64().ok()? == 1).then_some(())?;
        let issuer = decoder.str().ok()?.parse().ok()?;
        (decoder.i64().ok()? == 6).then_some(())?;
        let issued_at = decoder.u64().ok()?;
        (decoder.i64().ok()? == -70009).then_some(())?;
        let head = decoder.bytes().ok()?.try_into().ok()?;
        (decoder.i64().ok()? == -70010).then_some(())?;
        let seq = decoder.u64().ok()?;
        (decoder.position() == claims.len()).then_some(Self { seq, issuer, issued_at, head })
    }
}

impl Registry {
    /// Adds an entry, and returns what is to be signed to seal the audit trail up to it.
    ///
    /// # Errors
    /// [`Error::ClockBehind`], [`Error::ClockAhead`], [`Error::NewerList`].
    pub async fn begin_seal(&self) -> Result<Seal, Error> {
        let mut change = Change::begin(self).await?;
        let issued_at = change.signing_time().await?;
        change.record(None, &Event::SealIntended {}).await?;
        let (seq, head) = (change.head.seq, change.head_hash()?);
        change.commit().await?;
        Ok(Seal { seq, issuer: self.issuer_id(), issued_at, head })
    }

    /// Keeps a signed seal.
    pub async fn sealed(&self, seal: &Seal, object: &[u8]) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        change.rows.put_seal(seal.seq, object).await?;
        change.commit().await
    }

    /// Checks the chain of the audit trail, and every signature over one of its heads: those in the registry, and others
    /// that were kept elsewhere, each with a name.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::Rewritten`], [`Error::BadSeal`].
    pub async fn verify_seals(&self, others: &[(String, Vec<u8>)]) -> Result<Verification, Error> {
        self.read().await?.verify_seals(&self.issuer, others).await
    }
}

impl Reading {
    /// As [`Registry::verify_seals`].
    pub(super) async fn verify_seals(
        &mut self,
        issuer: &PublicKey,
        others: &[(String, Vec<u8>)],
    ) -> Result<Verification, Error> {
        let chain = self.verify_audit().await?;
        let mut verdict = Verification { chain, sealed: None, signatures: 0 };
        // One at a time: there may be many, and a list may be long.
        let mut last = 0;
        while let Some(list) = self.rows.signed_list_after(last).await? {
            last = list.version;
            if let Some(object) = list.object.filter(|_| !list.is_elsewhere) {
                self.take_in(&mut verdict, issuer, &format!("list {last}"), &object).await?;
            }
        }
        let mut last = 0;
        while let Some((seq, object)) = self.rows.seal_after(last).await? {
            last = seq;
            self.take_in(&mut verdict, issuer, &format!("seal {seq}"), &object).await?;
        }
        for (name, object) in others {
            self.take_in(&mut verdict, issuer, name, object).await?;
        }
        Ok(verdict)
    }

    /// Checks one signature over a head.
    async fn take_in(
        &mut self,
        verdict: &mut Verification,
        issuer: &PublicKey,
        name: &str,
        object: &[u8],
    ) -> Result<(), Error> {
        verdict.signatures += 1;
        let (issued_at, head) = signed_head(issuer, object).ok_or_else(|| Error::BadSeal(name.to_owned()))?;
        let head = hex::encode(head);
        let seq = match self.rows.entry_with(&head).await? {
            Some(seq) => seq,
            // It vouches for a history that was imported.
            None if self.rows.imported(&head).await?.is_some() => return Ok(()),
            None => return Err(Error::Rewritten { by: name.to_owned(), time: rfc3339(issued_at) }),
        };
        if verdict.sealed.as_ref().is_none_or(|before| before.seq < seq) {
            verdict.sealed = Some(Sealed { seq, by: name.to_owned(), issued_at });
        }
        Ok(())
    }
}

/// When a list or a seal of our issuer was signed, and over which head.
fn signed_head(issuer: &PublicKey, object: &[u8]) -> Option<(u64, [u8; 32])> {
    if let Ok((_, claims)) = certificate::verified::<DeviceListClaims<'_>>(object, issuer) {
        return Some((claims.issued_at, claims.audit_head?));
    }
    let seal = CoseSign1::from_tagged_slice(object).ok()?;
    (seal.protected.header.clone().to_vec().ok()? == protected_as(TYP).to_vec().ok()?).then_some(())?;
    let point = p256::EncodedPoint::from_affine_coordinates(issuer.x().into(), issuer.y().into(), false);
    let key = VerifyingKey::from_encoded_point(&point).ok()?;
    let verifies = |signature: &[u8], signed: &[u8]| key.verify(signed, &Signature::from_slice(signature)?);
    seal.verify_signature(b"", verifies).ok()?;
    let Seal { issued_at, head, .. } = Seal::decode(seal.payload.as_deref()?)?;
    Some((issued_at, head))
}

#[cfg(test)]
mod tests {
    use cbor_schemas::Kind;

    use super::*;
    use crate::{
        issuer::Issuer,
        keys::IssuerKey,
        registry::{
            AuditEntry,
            testing::{Fixture, NOON, id},
        },
    };

    async fn fixture() -> (Issuer, Fixture) {
        let key = IssuerKey::generate();
        let fixture = Fixture::of_issuer(*key.public()).await;
        fixture.commissioned(&id("device")).await;
        (Issuer::new(key), fixture)
    }

    async fn seal(issuer: &Issuer, registry: &Registry) -> Vec<u8> {
        let seal = registry.begin_seal().await.unwrap();
        let object = issuer.seal(&seal).unwrap();
        registry.sealed(&seal, &object).await.unwrap();
        object
    }

    /// Changes an entry, and computes all hashes from there on anew, as one does who owns the database.
    async fn rewrite(fixture: &Fixture, seq: u64) {
        let database = &fixture.registry.database;
        let mut previous = String::new();
        for mut entry in fixture.registry.read().await.unwrap().entries(0).await.unwrap() {
            if entry.seq == seq {
                entry.time += 1;
            }
            if entry.seq > seq {
                entry.previous = previous;
            }
            let AuditEntry { time, previous: before, .. } = entry.clone();
            previous = entry.computed_hash();
            let seq = entry.seq;
            let rewritten =
                format!("UPDATE audit SET time = {time}, previous = '{before}', hash = '{previous}' WHERE seq = {seq}");
            database.run(&rewritten).await;
        }
        database.run(&format!("UPDATE audit_head SET hash = '{previous}'")).await;
        fixture.registry.verify_audit().await.expect("the chain alone shows nothing");
    }

    #[tokio::test]
    async fn a_verdict_says_how_far_signatures_go() {
        let (issuer, fixture) = fixture().await;
        let registry = &fixture.registry;
        let verdict = registry.verify_seals(&[]).await.unwrap();
        assert_eq!((verdict.chain.entries, verdict.sealed, verdict.signatures), (6, None, 0));
        // A list seals what was there before it was written down.
        let list = registry.begin_list(None).await.unwrap();
        registry.list_signed(list.version, &issuer.list(&list).unwrap()).await.unwrap();
        let verdict = registry.verify_seals(&[]).await.unwrap();
        let by_list = Sealed { seq: 6, by: format!("list {}", list.version), issued_at: NOON };
        assert_eq!((verdict.chain.entries, verdict.sealed), (8, Some(by_list)));
        fixture.clock.set(NOON + 5);
        seal(&issuer, registry).await;
        let verdict = registry.verify_seals(&[]).await.unwrap();
        let by_seal = Sealed { seq: 9, by: "seal 9".to_owned(), issued_at: NOON + 5 };
        assert_eq!((verdict.chain.entries, verdict.sealed, verdict.signatures), (9, Some(by_seal), 2));
        fixture.commissioned(&id("another")).await;
        assert_eq!(registry.verify_seals(&[]).await.unwrap().sealed.unwrap().seq, 9);
    }

    #[tokio::test]
    async fn a_chain_that_was_computed_anew_is_not_the_one_that_was_signed() {
        let (issuer, fixture) = fixture().await;
        let kept = ("kept elsewhere".to_owned(), seal(&issuer, &fixture.registry).await);
        fixture.commissioned(&id("another")).await;
        rewrite(&fixture, 12).await;
        fixture.registry.verify_seals(&[]).await.expect("what is not sealed can be changed");
        rewrite(&fixture, 3).await;
        let rewritten = |verdict: Result<Verification, Error>| match verdict {
            Err(Error::Rewritten { by, .. }) => by,
            other => panic!("{other:?}"),
        };
        assert_eq!(rewritten(fixture.registry.verify_seals(&[]).await), "seal 7");
        // Without the seals in the registry it takes those that others keep.
        fixture.registry.database.run("DELETE FROM seals").await;
        assert_eq!(fixture.registry.verify_seals(&[]).await.unwrap().sealed, None);
        assert_eq!(rewritten(fixture.registry.verify_seals(&[kept]).await), "kept elsewhere");
    }

    #[tokio::test]
    async fn only_our_issuers_signatures_count() {
        let (issuer, fixture) = fixture().await;
        let good = seal(&issuer, &fixture.registry).await;
        let (other, elsewhere) = self::fixture().await;
        let foreign = seal(&other, &elsewhere.registry).await;
        let intent = fixture.begin(&id("device"), &known_key(&fixture).await).await;
        let certificate = issuer.certificate(&intent).unwrap();
        let flipped = |object: &[u8]| {
            let mut object = object.to_vec();
            *object.last_mut().unwrap() ^= 1;
            object
        };
        let list = fixture.registry.begin_list(None).await.unwrap();
        let list = issuer.list(&list).unwrap();
        let other_kind = fixture.registry.begin_seal().await.unwrap().claims();
        let other_kind = issuer.sign_as(Kind::StationToken.typ(), &other_kind).unwrap();
        for bad in [
            foreign,
            flipped(&good),
            flipped(&list),
            other_kind,
            certificate,
            b"nothing".to_vec(),
            Vec::new(),
            good[..40].to_vec(),
        ] {
            let verdict = fixture.registry.verify_seals(&[("it".to_owned(), bad)]).await;
            assert!(matches!(&verdict, Err(Error::BadSeal(name)) if name == "it"), "{verdict:?}");
        }
        for good in [good, list] {
            fixture.registry.verify_seals(&[("it".to_owned(), good)]).await.unwrap();
        }
        assert!(issuer.seal(&elsewhere.registry.begin_seal().await.unwrap()).is_err(), "another issuer's registry");
    }

    async fn known_key(fixture: &Fixture) -> protocol::key::PublicKey {
        protocol::key::PublicKey::from_x(&fixture.device(&id("device")).await.keys[0].x).unwrap()
    }
}
