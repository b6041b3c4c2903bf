//! Issuing, written down ahead.
//!
//! ```text
//! begin_issue -> Intent     durable before anything is signed: who, which key, which slot, cti, time
//! issued                    the signed bytes, durable before anything is sent
//! installed                 after the device's receipt, or after reading the certificate back from the device
//! void                      it will never be installed
//! ```
//!
//! A process that dies between two of these leaves an open intent. The next [`Registry::begin_issue`] for the same key and
//! slot takes it up again: the claims are the same and the signature is deterministic, so that whatever was sent before
//! is sent again, byte for byte. For the same reason two commissioners at one device do not hurt each other.

use cbor_schemas::{DeviceCertificateClaims, DeviceId, KeyOrigin, Profile, ProofLevel, Receipt};
use protocol::key::PublicKey;

use super::{
    change::Change,
    draft::{Draft, public_key},
    error::Error,
    event::Event,
    handle::Registry,
    judge::may_become_active,
    record::{Certificate, CertificateStatus, CountsBy, Cti, Device, Key, KeyStatus, Policy, Provenance, Slot},
    times::certificate_time,
};

/// How long an open intent is taken up again, in seconds. Later than that, a device may hold a newer watermark.
pub const INTENT_LIFETIME: u64 = 60 * 60;
/// The same where the issuer's key is elsewhere: the answer to a request takes its time.
pub const REQUEST_LIFETIME: u64 = 30 * 24 * 60 * 60;

/// A certificate that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct NewCertificate {
    /// Whose.
    pub device: DeviceId,
    /// The device's key.
    pub key: PublicKey,
    /// Where the certificate will be stored.
    pub slot: Slot,
    /// Where the key came from, as the device says under OSCORE.
    pub key_origin: KeyOrigin,
    /// Its ID, if it becomes a new certificate: [`Cti::random`].
    pub cti: Cti,
    /// How long an open intent is taken up again, in seconds: [`INTENT_LIFETIME`], or [`REQUEST_LIFETIME`].
    pub lifetime: u64,
}

/// A certificate that may be signed: it is in the journal, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    claims: DeviceCertificateClaims,
    slot: Slot,
    object: Option<Vec<u8>>,
    resumed: bool,
}

impl Intent {
    /// What to sign.
    pub fn claims(&self) -> &DeviceCertificateClaims {
        &self.claims
    }

    /// The certificate's ID.
    pub fn cti(&self) -> Cti {
        Cti(self.claims.cti)
    }

    /// Where it goes.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The signed object, if an earlier run came that far.
    pub fn object(&self) -> Option<&[u8]> {
        self.object.as_deref()
    }

    /// Whether an earlier, interrupted run began it.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }
}

impl Registry {
    /// Writes down that a certificate will be signed, or finds the open intent for the same key and slot.
    ///
    /// The caller has read the slot before, and told [`Registry::installed`] if a certificate of ours was in it: an old
    /// open intent is given up here.
    ///
    /// # Errors
    /// [`Error::NotIssuable`] for a key that may not have a certificate; [`Error::ClockBehind`], [`Error::ClockAhead`].
    pub async fn begin_issue(&self, wanted: &NewCertificate) -> Result<Intent, Error> {
        let mut change = Change::begin(self).await?;
        change.signing_time().await?;
        let mut draft = change.draft_with(&wanted.device, &wanted.key).await?;
        let Intended { certificate, is_resumed } = intend(&mut draft, wanted)?;
        let intent = self.intent(wanted.device, &wanted.key, &certificate, is_resumed);
        if !is_resumed {
            change.keep(&draft).await?;
        }
        Ok(intent)
    }

    /// The certificate is signed: keeps the bytes. Only after this may they be sent.
    pub async fn issued(&self, cti: Cti, object: &[u8]) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_about(cti).await?;
        issue(&mut draft, cti, object)?;
        change.keep(&draft).await
    }

    /// The device has the certificate: there is a receipt, or (without one) it was read back from the slot under OSCORE.
    ///
    /// This is a fact, so it holds for a certificate already given up, too. The first key of a device becomes active by it.
    /// Returns the status of the key: a revoked key stays so.
    pub async fn installed(&self, cti: Cti, receipt: Option<&Receipt>) -> Result<KeyStatus, Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_about(cti).await?;
        let status = install(&mut draft, cti, receipt)?;
        change.keep(&draft).await?;
        Ok(status)
    }

    /// The certificate will not be installed: the device refused it, or something else took its place.
    pub async fn void(&self, cti: Cti, reason: &str) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_about(cti).await?;
        give_up(&mut draft, cti, reason)?;
        change.keep(&draft).await
    }

    /// What earlier runs began for a device and did not finish.
    pub async fn open_intents(&self, device: &DeviceId) -> Result<Vec<Intent>, Error> {
        let Some(device) = self.device_by_id(device).await? else {
            return Ok(Vec::new());
        };
        let mut intents = Vec::new();
        for key in &device.keys {
            for open in open_certificates(key) {
                intents.push(self.intent(device.id, &public_key(&key.x)?, open, true));
            }
        }
        Ok(intents)
    }

    fn intent(&self, device: DeviceId, key: &PublicKey, certificate: &Certificate, resumed: bool) -> Intent {
        let claims = DeviceCertificateClaims {
            issuer: self.issuer_id(),
            subject: device,
            issued_at: certificate.issued_at,
            cti: certificate.cti.0,
            key: key.cose_key(),
            key_origin: certificate.key_origin,
            proof: certificate.proof,
        };
        Intent { claims, slot: certificate.slot, object: certificate.object.clone(), resumed }
    }
}

/// A certificate that may be signed.
struct Intended {
    certificate: Certificate,
    /// Whether it is an open one, so that there is nothing to write.
    is_resumed: bool,
}

/// A certificate is wanted: the open one for the same key and slot, if it may be taken up again, or else a new one.
///
/// # Errors
/// [`Error::NotIssuable`].
fn intend(draft: &mut Draft, wanted: &NewCertificate) -> Result<Intended, Error> {
    let now = draft.now;
    let key = draft.key(&wanted.key)?.clone();
    let proof = may_be_certified(&draft.device, &key)?;
    if let Some(open) = open_certificates(&key).find(|open| open.slot == wanted.slot) {
        let newest = certificate_time(now, wanted.slot, &key, Some(open.cti));
        let fresh = open.issued_at <= newest && now.saturating_sub(open.issued_at) <= wanted.lifetime;
        if fresh && open.key_origin == wanted.key_origin && open.proof == proof {
            return Ok(Intended { certificate: open.clone(), is_resumed: true });
        }
        draft.void(open.cti, "a newer one takes its place");
    }
    draft.now = certificate_time(now, wanted.slot, &key, None);
    let certificate = Certificate {
        cti: wanted.cti,
        slot: wanted.slot,
        status: CertificateStatus::Intended,
        issued_at: draft.now,
        key_origin: wanted.key_origin,
        proof,
        object: None,
        receipt: None,
        transcript: None,
    };
    let is_first = draft.device.keys.iter().all(|key| key.certificates.is_empty());
    draft.add_certificate(&key.x, certificate.clone());
    if is_first && wanted.key_origin == KeyOrigin::Derived {
        draft.set_policy(Policy::Derive);
    }
    Ok(Intended { certificate, is_resumed: false })
}

/// A certificate is signed.
///
/// # Errors
/// [`Error::OutOfOrder`] unless it is intended, or was signed with the same bytes.
fn issue(draft: &mut Draft, cti: Cti, object: &[u8]) -> Result<(), Error> {
    let (_, certificate) = draft.certificate(cti)?;
    match certificate.status {
        CertificateStatus::Intended => draft.issue(cti, object),
        CertificateStatus::Issued if certificate.object.as_deref() == Some(object) => {}
        status => return Err(Error::OutOfOrder { cti, status, wanted: CertificateStatus::Issued }),
    }
    Ok(())
}

/// The device has a certificate. Returns the status of the key after that.
///
/// # Errors
/// [`Error::WrongReceipt`] for another key's, [`Error::OutOfOrder`] if it was never signed.
fn install(draft: &mut Draft, cti: Cti, receipt: Option<&Receipt>) -> Result<KeyStatus, Error> {
    let (key, certificate) = draft.certificate(cti)?;
    let (x, slot, status) = (key.x, certificate.slot, certificate.status);
    if receipt.is_some_and(|receipt| receipt.device != x) {
        return Err(Error::WrongReceipt(cti));
    }
    if certificate.object.is_none() {
        return Err(Error::OutOfOrder { cti, status, wanted: CertificateStatus::Installed });
    }
    let may_count = may_become_active(&draft.device, key);
    let event = Event::CertificateInstalled { cti, receipt: receipt.is_some() };
    match status {
        CertificateStatus::Installed => {}
        CertificateStatus::Revoked => draft.note_once(event),
        _ => {
            let receipt = receipt.map(encode_receipt).transpose()?;
            if let Some(key) = draft.key_mut(&x) {
                take_slot(key, slot, cti, receipt);
            }
            draft.note(event);
            counts_by_certificate(draft, &x, may_count)?;
        }
    }
    Ok(draft.certificate(cti)?.0.status)
}

/// A certificate takes its slot, in place of what was there.
fn take_slot(key: &mut Key, slot: Slot, cti: Cti, receipt: Option<Vec<u8>>) {
    for certificate in key.certificates.iter_mut().filter(|it| it.slot == slot) {
        if certificate.cti == cti {
            certificate.status = CertificateStatus::Installed;
            certificate.receipt = receipt.clone();
        } else if certificate.status == CertificateStatus::Installed {
            certificate.status = CertificateStatus::Replaced;
        }
    }
}

/// A certificate of a key is installed: it makes the key active, if the key is settled or `may_count` without that.
fn counts_by_certificate(draft: &mut Draft, x: &[u8; 32], may_count: bool) -> Result<(), Error> {
    const BECAUSE: &str = "its certificate is installed";
    let Some(key) = draft.key_mut(x) else { return Ok(()) };
    match key.status {
        KeyStatus::Revoked => {}
        KeyStatus::Active => key.counts_by = CountsBy::Certificate,
        KeyStatus::Pending if !key.counts_by.is_settled() && may_count => {
            draft.settle(x, CountsBy::Certificate, BECAUSE)?;
        }
        KeyStatus::Pending => {
            draft.activate(x, BECAUSE);
        }
    }
    Ok(())
}

/// A certificate will not be installed.
///
/// # Errors
/// [`Error::OutOfOrder`] if it is, or was.
fn give_up(draft: &mut Draft, cti: Cti, reason: &str) -> Result<(), Error> {
    match draft.certificate(cti)?.1.status {
        CertificateStatus::Intended | CertificateStatus::Issued => draft.void(cti, reason),
        CertificateStatus::Void | CertificateStatus::Revoked => {}
        status => return Err(Error::OutOfOrder { cti, status, wanted: CertificateStatus::Void }),
    }
    Ok(())
}

/// Whether a key may have a certificate, and what the certificate says about possession.
fn may_be_certified(device: &Device, key: &Key) -> Result<ProofLevel, Error> {
    let refuse = |reason| Err(Error::NotIssuable { key: key.thumbprint.clone(), reason });
    match key.status {
        KeyStatus::Active => {}
        KeyStatus::Pending if may_become_active(device, key) => {}
        KeyStatus::Pending => {
            return refuse("it is in conflict with an older key; `commissioner commission --accept-new-key` takes it");
        }
        KeyStatus::Revoked => return refuse("it is revoked; let the device make a new key"),
    }
    let unproven_is_enough = device.profile == Profile::Minimal && key.provenance == Provenance::Programming;
    match key.proof {
        ProofLevel::Unproven if !unproven_is_enough => {
            refuse("the device never proved to have it; commission the device over a link")
        }
        proof => Ok(proof),
    }
}

fn open_certificates(key: &Key) -> impl Iterator<Item = &Certificate> {
    key.certificates.iter().filter(|it| matches!(it.status, CertificateStatus::Intended | CertificateStatus::Issued))
}

fn encode_receipt(receipt: &Receipt) -> Result<Vec<u8>, Error> {
    let mut buffer = [0; Receipt::MAX_LEN];
    let len = receipt.encode(&mut buffer).map_err(|_| Error::Corrupt("receipt"))?;
    Ok(buffer[..len].to_vec())
}

#[cfg(test)]
mod tests {
    use cbor_schemas::{Aif, Audience};
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::registry::{
        Observation, Place, Succession, TokenRequest, Validity,
        judge::{self, Facts},
        testing::{Fixture, NOON, device_of, id, key, on_record, receipt, seen, wanted},
        times::TOLERANCE,
    };

    #[tokio::test]
    async fn a_process_may_die_after_any_step() {
        let mut fixture = Fixture::new().await;
        let (device, key) = (id("device"), key());
        assert_eq!(fixture.proved(&device, &key).await.unwrap(), Succession::Pending);
        fixture.reopen().await;
        assert_eq!(fixture.registry.open_intents(&device).await.unwrap(), []);

        let intent = fixture.begin(&device, &key).await;
        assert!(!intent.is_resumed());
        fixture.reopen().await;
        let resumed = fixture.begin(&device, &key).await;
        assert!(resumed.is_resumed());
        assert_eq!(resumed.claims(), intent.claims(), "the same claims, so the same bytes");
        assert_eq!(resumed.object(), None);
        assert_eq!(fixture.status(&device, &key).await, KeyStatus::Pending);

        fixture.registry.issued(intent.cti(), b"signed").await.unwrap();
        fixture.reopen().await;
        let [open] = &fixture.registry.open_intents(&device).await.unwrap()[..] else { panic!("one is open") };
        assert_eq!((open.cti(), open.object(), open.is_resumed()), (intent.cti(), Some(&b"signed"[..]), true));
        assert_eq!(fixture.status(&device, &key).await, KeyStatus::Pending);

        let status = fixture.registry.installed(intent.cti(), Some(&receipt(&key))).await.unwrap();
        assert_eq!(status, KeyStatus::Active);
        fixture.reopen().await;
        assert_eq!(fixture.registry.open_intents(&device).await.unwrap(), []);
        assert_eq!(fixture.status(&device, &key).await, KeyStatus::Active);
        let events = ["key-seen", "certificate-intended", "certificate-issued", "certificate-installed", "key-active"];
        assert_eq!(fixture.events(&device).await, events);
        fixture.registry.verify_audit().await.unwrap();
    }

    #[tokio::test]
    async fn two_commissioners_at_one_device_issue_one_certificate() {
        let fixture = Fixture::new().await;
        let second = fixture.open(false).await;
        let (device, key) = (id("device"), key());
        fixture.proved(&device, &key).await.unwrap();
        let wishes = (wanted(&device, &key), wanted(&device, &key));
        let (one, other) = tokio::join!(fixture.registry.begin_issue(&wishes.0), second.begin_issue(&wishes.1));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.claims(), other.claims());
        fixture.registry.issued(one.cti(), b"signed").await.unwrap();
        second.issued(one.cti(), b"signed").await.unwrap();
        assert!(second.issued(one.cti(), b"signed otherwise").await.is_err());
        for registry in [&fixture.registry, &second] {
            assert_eq!(registry.installed(one.cti(), Some(&receipt(&key))).await.unwrap(), KeyStatus::Active);
        }
        let events = fixture.events(&device).await;
        assert_eq!(events.iter().filter(|event| *event == "certificate-installed").count(), 1);
    }

    #[tokio::test]
    async fn many_writers_wait_for_each_other() {
        let fixture = Fixture::new().await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..8 {
            let registry = fixture.open(false).await;
            tasks.spawn(async move {
                for m in 0..5 {
                    let device = id(&format!("{n}-{m}"));
                    let seen = seen(&device, &key(), Place::Elsewhere, ProofLevel::Proved);
                    assert_eq!(registry.observe_key(&seen).await.unwrap(), Succession::Pending);
                }
            });
        }
        while let Some(result) = tasks.join_next().await {
            result.unwrap();
        }
        assert_eq!(fixture.registry.devices().await.unwrap().len(), 40);
        assert_eq!(fixture.registry.verify_audit().await.unwrap().entries, 41);
    }

    #[tokio::test]
    async fn steps_out_of_order_are_refused() {
        let fixture = Fixture::new().await;
        let (device, key) = (id("device"), key());
        fixture.proved(&device, &key).await.unwrap();
        let cti = fixture.begin(&device, &key).await.cti();
        assert!(matches!(fixture.registry.installed(cti, None).await, Err(Error::OutOfOrder { .. })), "never signed");
        fixture.registry.issued(cti, b"signed").await.unwrap();
        let other = receipt(&crate::registry::testing::key());
        assert!(matches!(fixture.registry.installed(cti, Some(&other)).await, Err(Error::WrongReceipt(_))));
        fixture.registry.installed(cti, None).await.unwrap();
        assert!(matches!(fixture.registry.void(cti, "no").await, Err(Error::OutOfOrder { .. })));
        assert!(matches!(fixture.registry.issued(cti, b"other").await, Err(Error::OutOfOrder { .. })));
        let unknown = Cti([0; 8]);
        assert!(matches!(fixture.registry.installed(unknown, None).await, Err(Error::UnknownCertificate(_))));
    }

    #[tokio::test]
    async fn a_certificate_given_up_that_turns_out_to_be_installed_is_installed() {
        let fixture = Fixture::new().await;
        let (device, key) = (id("device"), key());
        fixture.proved(&device, &key).await.unwrap();
        let cti = fixture.begin(&device, &key).await.cti();
        fixture.registry.issued(cti, b"signed").await.unwrap();
        fixture.registry.void(cti, "no answer").await.unwrap();
        fixture.registry.void(cti, "no answer").await.unwrap();
        assert_eq!(fixture.registry.open_intents(&device).await.unwrap(), []);
        assert_eq!(fixture.status(&device, &key).await, KeyStatus::Pending);
        assert_eq!(fixture.registry.installed(cti, None).await.unwrap(), KeyStatus::Active);
        assert_eq!(fixture.certificate_status(&device, cti).await, CertificateStatus::Installed);
    }

    #[tokio::test]
    async fn a_new_certificate_replaces_the_one_in_its_slot() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let (key, first) = fixture.commissioned(&device).await;
        let second = fixture.begin(&device, &key).await;
        assert_ne!(second.cti(), first);
        fixture.registry.issued(second.cti(), b"signed again").await.unwrap();
        assert_eq!(fixture.certificate_status(&device, first).await, CertificateStatus::Installed);
        fixture.registry.installed(second.cti(), Some(&receipt(&key))).await.unwrap();
        assert_eq!(fixture.certificate_status(&device, first).await, CertificateStatus::Replaced);
        let installed = fixture.device(&device).await.active().unwrap().installed(Slot::Owner).unwrap().cti;
        assert_eq!(installed, second.cti());
    }

    #[tokio::test]
    async fn an_open_intent_is_given_up_when_it_is_old_or_other() {
        let fixture = Fixture::new().await;
        let (device, key) = (id("device"), key());
        fixture.proved(&device, &key).await.unwrap();
        let first = fixture.begin(&device, &key).await.cti();

        let injected = NewCertificate { key_origin: KeyOrigin::Injected, ..wanted(&device, &key) };
        let second = fixture.registry.begin_issue(&injected).await.unwrap();
        assert!(!second.is_resumed());
        assert_eq!(fixture.certificate_status(&device, first).await, CertificateStatus::Void);

        fixture.clock.set(NOON + INTENT_LIFETIME);
        assert!(fixture.registry.begin_issue(&injected).await.unwrap().is_resumed());
        fixture.clock.set(NOON + INTENT_LIFETIME + 1);
        let third = fixture.registry.begin_issue(&NewCertificate { cti: Cti([3; 8]), ..injected }).await.unwrap();
        assert_eq!(third.cti(), Cti([3; 8]));
        assert_eq!(fixture.certificate_status(&device, second.cti()).await, CertificateStatus::Void);

        // The other slot is another matter.
        let factory = NewCertificate { slot: Slot::Factory, cti: Cti([4; 8]), ..injected };
        assert!(!fixture.registry.begin_issue(&factory).await.unwrap().is_resumed());
        assert_eq!(fixture.registry.open_intents(&device).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn nothing_is_issued_without_proof() {
        let fixture = Fixture::new().await;
        let registry = &fixture.registry;
        let issue = async |seen: Observation| {
            registry.observe_key(&seen).await.unwrap();
            registry.begin_issue(&wanted(&seen.device, &seen.key)).await.map(|intent| intent.claims().proof)
        };
        let minimal = |seen| Observation { profile: Profile::Minimal, ..seen };
        let unproven = ProofLevel::Unproven;

        let reported = seen(&id("reported"), &key(), Place::Elsewhere, unproven);
        assert!(matches!(issue(reported).await, Err(Error::NotIssuable { .. })));
        let programmed = seen(&id("programmed"), &key(), Place::Trusted, unproven);
        assert!(matches!(issue(programmed).await, Err(Error::NotIssuable { .. })), "a full device can prove it");
        let claimed = minimal(seen(&id("claimed"), &key(), Place::Elsewhere, unproven));
        assert!(matches!(issue(claimed).await, Err(Error::NotIssuable { .. })), "anybody can claim to be minimal");

        let small = minimal(seen(&id("small"), &key(), Place::Trusted, unproven));
        assert_eq!(issue(small).await.unwrap(), unproven, "and the certificate says so");
        assert_eq!(
            issue(seen(&id("full"), &key(), Place::Elsewhere, ProofLevel::Proved)).await.unwrap(),
            ProofLevel::Proved
        );

        let unknown = registry.begin_issue(&wanted(&id("full"), &key())).await;
        assert!(matches!(unknown, Err(Error::UnknownKey { .. })));
    }

    #[tokio::test]
    async fn a_revoked_key_gets_no_certificate() {
        let fixture = Fixture::new().await;
        let (device, key) = (id("device"), key());
        fixture.proved(&device, &key).await.unwrap();
        let cti = fixture.begin(&device, &key).await.cti();
        fixture.registry.issued(cti, b"signed").await.unwrap();
        fixture.registry.revoke(&device, "lost").await.unwrap();
        assert!(matches!(fixture.registry.begin_issue(&wanted(&device, &key)).await, Err(Error::NotIssuable { .. })));
        assert_eq!(fixture.registry.open_intents(&device).await.unwrap(), []);
        assert_eq!(fixture.registry.installed(cti, Some(&receipt(&key))).await.unwrap(), KeyStatus::Revoked);
    }

    #[tokio::test]
    async fn nothing_is_signed_by_a_clock_that_is_not_to_be_trusted() {
        const DAY: u64 = 24 * 60 * 60;
        let fixture = Fixture::new().await;
        let (device, key) = (id("device"), key());
        fixture.proved(&device, &key).await.unwrap();
        let token = TokenRequest {
            station: key,
            audience: Audience::Device(device),
            scope: Aif::everything(),
            validity: Validity::Seconds(600),
        };

        // Before the first signature there is nothing to be behind.
        fixture.clock.set(NOON - DAY);
        assert_eq!(fixture.registry.grant_token(&token).await.unwrap().claims().issued_at, NOON - DAY);
        fixture.clock.set(NOON);
        fixture.registry.grant_token(&token).await.unwrap();

        fixture.clock.set(NOON - TOLERANCE - 1);
        assert!(matches!(fixture.registry.begin_issue(&wanted(&device, &key)).await, Err(Error::ClockBehind { .. })));
        assert!(matches!(fixture.open(true).await.grant_token(&token).await, Err(Error::ClockBehind { .. })));

        fixture.clock.set(NOON + DAY + 1);
        // What is only noted goes on, but neither counts as a vouched time nor locks a later, right one out.
        assert_eq!(fixture.proved(&device, &key).await.unwrap(), Succession::Pending);
        fixture.registry.set_nickname(&device, &"kitchen".parse().unwrap()).await.unwrap();
        assert!(matches!(fixture.registry.begin_issue(&wanted(&device, &key)).await, Err(Error::ClockAhead { .. })));
        assert!(matches!(fixture.registry.grant_token(&token).await, Err(Error::ClockAhead { .. })));
        fixture.clock.set(NOON + DAY);
        fixture.registry.grant_token(&token).await.unwrap();

        fixture.clock.set(NOON + 9 * DAY);
        let vouched = fixture.open(true).await;
        let grant = vouched.grant_token(&token).await.unwrap();
        assert_eq!((grant.claims().issued_at, grant.claims().expires_at), (NOON + 9 * DAY, Some(NOON + 9 * DAY + 600)));
        fixture.registry.begin_issue(&wanted(&device, &key)).await.unwrap();
        assert_eq!(fixture.events(&device).await.iter().filter(|event| *event == "token-intended").count(), 4);
    }

    /// Each step from each status: what the certificate is afterwards, or that the step is out of order.
    #[test]
    fn the_steps() {
        use CertificateStatus::{Installed, Intended, Issued, Removed, Replaced, Revoked, Void};
        const CTI: Cti = Cti([1; 8]);
        let key = key();
        let about = |status| {
            let record = on_record(&key, KeyStatus::Pending, CountsBy::Nothing).with(CTI, Slot::Owner, status);
            Draft::of(device_of(&id("device"), vec![record]), NOON)
        };
        let after = |step: &dyn Fn(&mut Draft) -> Result<(), Error>, status| {
            let mut draft = about(status);
            match step(&mut draft) {
                Ok(()) => Some(draft.certificate(CTI).unwrap().1.status),
                Err(Error::OutOfOrder { status: told, .. }) => {
                    assert!(told == status && draft.is_blank());
                    None
                }
                Err(other) => panic!("{other}"),
            }
        };
        for (status, issued, installed, void) in [
            (Intended, Some(Issued), None, Some(Void)),
            (Issued, Some(Issued), Some(Installed), Some(Void)),
            (Installed, None, Some(Installed), None),
            (Replaced, None, Some(Installed), None),
            (Removed, None, Some(Installed), None),
            (Revoked, None, Some(Revoked), Some(Revoked)),
            (Void, None, Some(Installed), Some(Void)),
        ] {
            assert_eq!(after(&|draft| issue(draft, CTI, b"signed"), status), issued, "{status}");
            assert_eq!(after(&|draft| install(draft, CTI, None).map(drop), status), installed, "{status}");
            assert_eq!(after(&|draft| give_up(draft, CTI, "why"), status), void, "{status}");
        }
        let other = issue(&mut about(Issued), CTI, b"signed otherwise");
        assert!(matches!(other, Err(Error::OutOfOrder { .. })), "{other:?}");
    }

    /// Something that happens to a device and one of its keys.
    fn happens(draft: &mut Draft, what: u8, key: &PublicKey, place: Place, proof: ProofLevel, time: u64) {
        const STRANGER: Facts = Facts { holder: None, own: None, is_made_here: false };
        let seen =
            Observation { device: draft.device.id, key: *key, generation: 1, profile: Profile::Full, place, proof };
        let cti = Cti(time.to_be_bytes());
        let wanted = NewCertificate { cti, ..wanted(&draft.device.id, key) };
        let by = if proof == ProofLevel::Proved { CountsBy::Certificate } else { CountsBy::Report };
        let now = |device: &Device| Draft::of(device.clone(), time);
        let mut next = now(&draft.device);
        let is_known = next.device.key(key).is_some();
        match what {
            0 | 1 => {
                let outcome = judge::observe(Some(next.device), &STRANGER, &seen, by, [time, time]);
                next = outcome.unwrap().draft.unwrap_or_else(|| now(&draft.device));
            }
            2 if next.device.settled().is_some_and(|settled| settled.x != *key.x()) => {
                let outcome = judge::rekeyed(next.device, &STRANGER, &seen, time);
                next = outcome.unwrap().draft.unwrap_or_else(|| now(&draft.device));
            }
            3 if is_known => drop(judge::accept(&mut next, key)),
            4 if is_known => drop(intend(&mut next, &wanted)),
            5 | 6 => {
                let open = next.device.key(key).and_then(|key| open_certificates(key).next()).map(|it| it.cti);
                if let Some(open) = open {
                    issue(&mut next, open, b"signed").unwrap();
                    drop(if what == 5 {
                        install(&mut next, open, None).map(drop)
                    } else {
                        give_up(&mut next, open, "")
                    });
                }
            }
            7 => next.empty(key.x(), &[Slot::Owner]),
            8 => next.counts_no_more_by_report(key.x()),
            9 => drop(judge::revoke(&mut next, "lost")),
            _ => {}
        }
        *draft = next;
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens in whatever order.
        #[test]
        fn one_key_is_settled_and_none_comes_back(
            happenings in vec((0..10_u8, 0..3_usize, any::<bool>(), any::<bool>()), 1..40),
        ) {
            let keys = [key(), key(), key()];
            let mut draft = Draft::new(id("device"), Profile::Full, NOON, NOON);
            for (number, (what, which, trusted, proved)) in happenings.into_iter().enumerate() {
                let before = draft.device.clone();
                let place = if trusted { Place::Trusted } else { Place::Elsewhere };
                let proof = if proved { ProofLevel::Proved } else { ProofLevel::Unproven };
                happens(&mut draft, what, &keys[which], place, proof, NOON + number as u64);
                let after = &draft.device.keys;
                prop_assert!(after.iter().filter(|key| key.is_settled()).count() <= 1, "{after:?}");
                for key in after {
                    let is_certified = key.installed(Slot::Owner).is_some();
                    let counts = key.counts_by == CountsBy::Report || is_certified;
                    prop_assert!(key.status != KeyStatus::Active || (key.is_settled() && counts), "{key:?}");
                }
                for old in &before.keys {
                    let new = after.iter().find(|key| key.x == old.x).unwrap();
                    prop_assert!(old.revoked.is_none() || new.revoked == old.revoked, "{old:?} {new:?}");
                }
            }
        }
    }
}
