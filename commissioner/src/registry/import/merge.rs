//! What becomes of a device that both registries know, or one of them. All of it is about records: the device as it is here and
//! as it is there goes in, and what is to be written comes out.

use cbor_schemas::{Profile, ProofLevel};
use serde::Serialize;

use super::theirs::{Signed, TheirDevice, Theirs};
use crate::registry::{
    conflict::Conflict,
    draft::Draft,
    event::Event,
    record::{Certificate, CertificateStatus, CountsBy, Device, Key, KeyStatus, Slot},
};

/// What came of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Devices that were unknown here.
    pub devices: u64,
    /// Keys that were unknown here.
    pub keys: u64,
    /// Keys that are active now.
    pub activated: u64,
    /// Keys that are revoked now, of those that were known here.
    pub revoked: u64,
    /// Keys that are pending now, since they were given up there.
    pub released: u64,
    /// Certificates that were unknown here, or are further than they were.
    pub certificates: u64,
    /// Signed lists that were unknown here.
    pub lists: u64,
    /// Entries of the other history that were unknown here.
    pub entries: u64,
    /// What does not go together.
    pub conflicts: Vec<String>,
}

impl Imported {
    /// Whether anything is other than before.
    pub fn has_news(&self) -> bool {
        *self != Self { conflicts: self.conflicts.clone(), ..Self::default() }
    }
}

/// Merges a device as it is there with what is here. `refused` has, for each key of theirs, why it is left out, if it is.
pub(super) fn merge(
    known: Option<Device>,
    theirs: &TheirDevice,
    refused: Vec<Option<Conflict>>,
    now: u64,
    outcome: &mut Imported,
) -> Draft {
    let before = known.clone();
    let mut draft = merge_record(known, theirs, now);
    outcome.devices += u64::from(before.is_none());
    for (key, refused) in theirs.keys.iter().zip(refused) {
        if let Some(conflict) = refused {
            refuse(&mut draft, key, &conflict, outcome);
            continue;
        }
        let ours = before.as_ref().and_then(|before| before.key(&key.key));
        merge_key(&mut draft, key, ours, outcome);
        merge_certificates(&mut draft, key, ours, outcome);
        if let Some(ours) = ours.filter(|ours| ours.is_settled()) {
            release(&mut draft, key, ours, outcome);
        }
    }
    merge_active(&mut draft, theirs, outcome);
    draft
}

/// A key of theirs is left out, on record.
fn refuse(draft: &mut Draft, key: &Theirs, conflict: &Conflict, outcome: &mut Imported) {
    let key = key.key.thumbprint().to_string();
    draft.note_once(Event::KeyConflict { key, conflict: conflict.to_string() });
    outcome.conflicts.push(conflict.to_string());
}

fn merge_record(known: Option<Device>, theirs: &TheirDevice, now: u64) -> Draft {
    let first_seen = theirs.keys.iter().map(|key| key.first_seen).min().unwrap_or_default();
    let last_seen = theirs.keys.iter().map(|key| key.last_seen).max().unwrap_or_default();
    let Some(known) = known else {
        let mut draft = Draft::new(theirs.id, theirs.profile, first_seen, now);
        draft.device.last_seen = last_seen;
        draft.device.list_version = theirs.list_version;
        draft.device.policy = theirs.policy;
        return draft;
    };
    let mut draft = Draft::of(known, now);
    let device = &mut draft.device;
    if device.profile != Profile::Full {
        device.profile = theirs.profile;
    }
    if last_seen > device.last_seen {
        device.list_version = theirs.list_version;
    }
    device.first_seen = device.first_seen.min(first_seen);
    device.last_seen = device.last_seen.max(last_seen);
    draft
}

fn merge_key(draft: &mut Draft, theirs: &Theirs, ours: Option<&Key>, outcome: &mut Imported) {
    let x = theirs.key.x();
    match draft.key_mut(x) {
        None => {
            let times = [theirs.first_seen, theirs.last_seen];
            draft.add_key(&theirs.key, theirs.generation, theirs.provenance, theirs.proof, times);
            outcome.keys += 1;
        }
        Some(key) => {
            if key.proof != ProofLevel::Proved {
                key.proof = theirs.proof;
            }
            if theirs.last_seen > key.last_seen {
                key.generation = theirs.generation;
            }
            key.first_seen = key.first_seen.min(theirs.first_seen);
            key.last_seen = key.last_seen.max(theirs.last_seen);
            draft.raise(x, theirs.provenance);
        }
    }
    if let Some(key) = draft.key_mut(x).filter(|key| !theirs.is_settled() && key.counts_by == CountsBy::Nothing) {
        key.counts_by = theirs.counts_by;
    }
    if let Some((at, reason)) = theirs.revoked.as_ref().filter(|_| ours.is_none_or(|ours| ours.revoked.is_none())) {
        draft.revoke(x, reason);
        if let Some(revoked) = draft.key_mut(x).and_then(|key| key.revoked.as_mut()) {
            revoked.at = *at;
        }
        outcome.revoked += u64::from(ours.is_some());
    }
}

/// A certificate only ever gets further. What is open there is not ours to finish.
fn merge_certificates(draft: &mut Draft, theirs: &Theirs, ours: Option<&Key>, outcome: &mut Imported) {
    let is_revoked = theirs.revoked.is_some() || ours.is_some_and(|ours| ours.revoked.is_some());
    for signed in &theirs.certificates {
        let status = match signed.status {
            CertificateStatus::Intended | CertificateStatus::Issued if !is_revoked => CertificateStatus::Void,
            CertificateStatus::Intended | CertificateStatus::Issued | CertificateStatus::Installed if is_revoked => {
                CertificateStatus::Revoked
            }
            status => status,
        };
        let before = ours.and_then(|ours| ours.certificates.iter().find(|it| it.cti == signed.cti));
        if before.is_some_and(|before| rank(before.status) >= rank(status)) {
            continue;
        }
        let Some(key) = draft.key_mut(theirs.key.x()) else { continue };
        match key.certificates.iter_mut().find(|it| it.cti == signed.cti) {
            Some(certificate) => {
                certificate.status = status;
                certificate.object = Some(signed.object.clone());
            }
            None => key.certificates.push(signed.with_status(status)),
        }
        outcome.certificates += 1;
        draft.note(Event::CertificateImported { cti: signed.cti, status });
    }
}

impl Signed {
    fn with_status(&self, status: CertificateStatus) -> Certificate {
        Certificate {
            cti: self.cti,
            slot: self.slot,
            status,
            issued_at: self.issued_at,
            key_origin: self.key_origin,
            proof: self.proof,
            object: Some(self.object.clone()),
            receipt: None,
            transcript: None,
        }
    }
}

/// Our active key was given up there: the certificate that made it ours is gone.
fn release(draft: &mut Draft, theirs: &Theirs, ours: &Key, outcome: &mut Imported) {
    let x = theirs.key.x();
    let Some(key) = draft.key_mut(x) else { return };
    let has_one = [Slot::Factory, Slot::Owner].into_iter().any(|slot| key.installed(slot).is_some());
    if theirs.status == KeyStatus::Pending && !has_one && ours.installed(Slot::Owner).is_some() {
        outcome.released += 1;
        draft.give_up(x);
    }
}

/// The key that counts there counts here, too, unless that is in doubt.
fn merge_active(draft: &mut Draft, device: &TheirDevice, outcome: &mut Imported) {
    let Some(theirs) = device.keys.iter().find(|key| key.is_settled()) else { return };
    let Some(key) = draft.device.key(&theirs.key).filter(|key| key.status == KeyStatus::Pending) else { return };
    let gone = |signed: &Signed| {
        let here = key.certificates.iter().find(|it| it.cti == signed.cti);
        here.is_some_and(|here| here.status == CertificateStatus::Removed)
    };
    let is_given_up = key.counts_by == CountsBy::GivenUp || theirs.certificates.iter().any(gone);
    if is_given_up && [Slot::Factory, Slot::Owner].iter().all(|slot| key.installed(*slot).is_none()) {
        return;
    }
    if let Some(active) = draft.device.settled().filter(|settled| settled.x != key.x) {
        let conflict = Conflict::TwoActive {
            device: device.id.to_string(),
            key: key.thumbprint.clone(),
            active: active.thumbprint.clone(),
        };
        return refuse(draft, theirs, &conflict, outcome);
    }
    let (x, thumbprint, was_settled) = (key.x, key.thumbprint.clone(), key.is_settled());
    if let Some(key) = draft.key_mut(&x).filter(|key| !key.counts_by.is_settled()) {
        key.counts_by = theirs.counts_by;
    }
    let because = "it is so in the registry that was imported";
    if draft.activate(&x, because) {
        outcome.activated += 1;
    } else if !was_settled {
        draft.note(Event::KeySettled { key: thumbprint, because: because.to_owned() });
    }
}

/// How far a certificate got.
fn rank(status: CertificateStatus) -> u8 {
    match status {
        CertificateStatus::Void => 0,
        CertificateStatus::Intended => 1,
        CertificateStatus::Issued => 2,
        CertificateStatus::Installed => 3,
        CertificateStatus::Replaced => 4,
        CertificateStatus::Removed => 5,
        CertificateStatus::Revoked => 6,
    }
}

#[cfg(test)]
mod tests {
    use cbor_schemas::KeyOrigin;
    use protocol::key::PublicKey;

    use super::*;
    use crate::registry::{
        Cti, Policy, Provenance,
        testing::{NOON, device_of, id, key, noted, on_record},
    };

    const CTI: Cti = Cti([1; 8]);

    /// A key as it is there; `certificate` is about its owner slot.
    fn there(key: &PublicKey, status: KeyStatus, by: CountsBy, certificate: Option<CertificateStatus>) -> Theirs {
        let signed = |status| Signed {
            cti: CTI,
            slot: Slot::Owner,
            status,
            issued_at: NOON,
            key_origin: KeyOrigin::Generated,
            proof: ProofLevel::Proved,
            object: b"signed".to_vec(),
        };
        Theirs {
            key: *key,
            generation: 1,
            status,
            counts_by: by,
            provenance: Provenance::Proved,
            proof: ProofLevel::Proved,
            first_seen: NOON - 1,
            last_seen: NOON + 1,
            revoked: (status == KeyStatus::Revoked).then(|| (NOON, "lost".to_owned())),
            certificates: certificate.map(signed).into_iter().collect(),
        }
    }

    fn device_there(keys: Vec<Theirs>) -> TheirDevice {
        let (profile, policy) = (Profile::Full, Policy::Keep);
        TheirDevice { id: id("device"), profile, nickname: None, policy, list_version: None, keys }
    }

    fn here(key: &PublicKey, status: KeyStatus, by: CountsBy, certificate: Option<CertificateStatus>) -> Key {
        let record = on_record(key, status, by);
        match certificate {
            Some(certificate) => record.with(CTI, Slot::Owner, certificate),
            None => record,
        }
    }

    /// One key as it is here and there, and what it is afterwards.
    #[test]
    fn a_key_that_both_know() {
        use CertificateStatus::{Installed, Issued, Removed};
        use CountsBy::{Certificate, GivenUp, Nothing, Report, Word};
        use KeyStatus::{Active, Pending, Revoked};
        let key = key();
        for (ours, theirs, expected) in [
            // What is out in either is out.
            ((Active, Certificate, Some(Installed)), (Revoked, Certificate, Some(Installed)), (Revoked, Certificate)),
            ((Revoked, Certificate, None), (Active, Certificate, Some(Installed)), (Revoked, Certificate)),
            // What is settled there is settled, and active by what it counts by.
            ((Pending, Nothing, None), (Active, Certificate, Some(Installed)), (Active, Certificate)),
            ((Pending, Nothing, None), (Active, Report, None), (Active, Report)),
            ((Pending, Nothing, None), (Pending, Certificate, Some(Issued)), (Pending, Certificate)),
            ((Pending, Word, None), (Active, Certificate, Some(Installed)), (Active, Certificate)),
            // What was given up there is pending; what was given up here stays so.
            ((Active, Certificate, Some(Installed)), (Pending, GivenUp, Some(Removed)), (Pending, GivenUp)),
            ((Pending, GivenUp, Some(Removed)), (Active, Certificate, Some(Installed)), (Pending, GivenUp)),
            // What nobody vouches for here is what it is there.
            ((Pending, Nothing, None), (Pending, Word, None), (Pending, Word)),
            ((Pending, Word, None), (Pending, GivenUp, None), (Pending, Word)),
            ((Active, Certificate, Some(Installed)), (Pending, Nothing, None), (Active, Certificate)),
        ] {
            let (status, by, certificate) = ours;
            let known = device_of(&id("device"), vec![here(&key, status, by, certificate)]);
            let (status, by, certificate) = theirs;
            let theirs_device = device_there(vec![there(&key, status, by, certificate)]);
            let mut outcome = Imported::default();
            let draft = merge(Some(known), &theirs_device, vec![None], NOON, &mut outcome);
            let merged = &draft.device.keys[0];
            assert_eq!((merged.status, merged.counts_by), expected, "{ours:?} {theirs:?}");
            assert_eq!((merged.first_seen, merged.last_seen), (NOON - 1, NOON + 1));
            assert_eq!(draft.device.policy, Policy::Rotate, "ours, if we have one");
            assert!(outcome.conflicts.is_empty(), "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn what_is_unknown_here_is_as_it_is_there() {
        use CertificateStatus::{Installed, Issued};
        let [old, new] = [key(), key()];
        let theirs = device_there(vec![
            there(&old, KeyStatus::Revoked, CountsBy::Certificate, Some(Issued)),
            there(&new, KeyStatus::Active, CountsBy::Certificate, Some(Installed)),
        ]);
        let mut outcome = Imported::default();
        let draft = merge(None, &theirs, vec![None, None], NOON, &mut outcome);
        let keys: Vec<_> = draft.device.keys.iter().map(|key| (key.status, key.certificates[0].status)).collect();
        let expected = [(KeyStatus::Revoked, CertificateStatus::Revoked), (KeyStatus::Active, Installed)];
        assert_eq!((keys, draft.device.policy), (expected.to_vec(), Policy::Keep));
        let said =
            ["key-seen", "key-revoked", "certificate-imported", "key-seen", "certificate-imported", "key-active"];
        assert_eq!(noted(&draft), said);
        let expected = Imported { devices: 1, keys: 2, activated: 1, certificates: 2, ..Imported::default() };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn two_keys_that_are_settled_are_a_conflict_and_ours_stays() {
        let [ours, theirs] = [key(), key()];
        let (active, by, installed) = (KeyStatus::Active, CountsBy::Certificate, Some(CertificateStatus::Installed));
        let known = device_of(&id("device"), vec![here(&ours, active, by, installed)]);
        let mut merged = device_there(vec![there(&theirs, active, by, installed)]);
        merged.keys[0].certificates[0].cti = Cti([2; 8]);
        let mut outcome = Imported::default();
        let draft = merge(Some(known.clone()), &merged, vec![None], NOON, &mut outcome);
        let statuses: Vec<_> = draft.device.keys.iter().map(|key| key.status).collect();
        assert_eq!((statuses, outcome.conflicts.len()), (vec![active, KeyStatus::Pending], 1));
        // One that is left out is on record, and is not a key of the device.
        let conflict = Conflict::own_key(&merged.id, &theirs, "issuer");
        let draft = merge(Some(known), &merged, vec![Some(conflict)], NOON, &mut outcome);
        assert_eq!((draft.device.keys.len(), noted(&draft)), (1, vec!["key-conflict".to_owned()]));
    }
}
