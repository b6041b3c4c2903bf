//! A device that is being changed: what can happen to it, as functions of its record.
//!
//! Nothing here reads or writes rows. A rule takes a draft, changes it by these steps, and leaves in it what is to be written
//! and what is to be said of it in the audit trail; [`Change::save`](super::change::Change::save) does both.

use cbor_schemas::{DeviceId, Profile, ProofLevel};
use protocol::key::{PublicKey, Thumbprint};
use sha2::{Digest, Sha256};

use super::{
    error::Error,
    event::Event,
    nickname::Nickname,
    observation::Succession,
    record::{
        Certificate, CertificateStatus, CountsBy, Cti, Device, Key, KeyStatus, Policy, Provenance, Revoked, Slot,
        better,
    },
};
use crate::progress::short;

/// A device as it is to be, and what happened to it.
pub(super) struct Draft {
    /// As it is to be.
    pub(super) device: Device,
    /// As it is on record; none for a device that is unknown.
    before: Option<Device>,
    /// The time of what happens, Unix seconds.
    pub(super) now: u64,
    notes: Vec<Note>,
}

/// An event that is to go into the audit trail.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) event: Event,
    /// Unix seconds.
    pub(super) time: u64,
    /// It is left out where the last entry about the device says the same.
    pub(super) is_once: bool,
}

impl Draft {
    /// A device that is known.
    pub(super) fn of(device: Device, now: u64) -> Self {
        Self { before: Some(device.clone()), device, now, notes: Vec::new() }
    }

    /// A device that is unknown, and has no key yet.
    pub(super) fn new(id: DeviceId, profile: Profile, seen: u64, now: u64) -> Self {
        let device = Device {
            id,
            nickname: None,
            profile,
            first_seen: seen,
            last_seen: seen,
            list_version: None,
            policy: Policy::Rotate,
            keys: Vec::new(),
        };
        Self { device, before: None, now, notes: Vec::new() }
    }

    /// The device as it is on record.
    pub(super) fn before(&self) -> Option<&Device> {
        self.before.as_ref()
    }

    /// Says that something happened.
    pub(super) fn note(&mut self, event: Event) {
        self.notes.push(Note { event, time: self.now, is_once: false });
    }

    /// Says that something happened, unless that is what was said last.
    pub(super) fn note_once(&mut self, event: Event) {
        self.notes.push(Note { event, time: self.now, is_once: true });
    }

    /// What happened, in order.
    pub(super) fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Whether there is nothing to write.
    pub(super) fn is_blank(&self) -> bool {
        self.notes.is_empty() && self.before.as_ref() == Some(&self.device)
    }

    /// The device, if its own row is another one than before.
    pub(super) fn changed_device(&self) -> Option<&Device> {
        let bare = |device: &Device| Device { keys: Vec::new(), ..device.clone() };
        let is_same = self.before.as_ref().is_some_and(|before| bare(before) == bare(&self.device));
        (!is_same).then_some(&self.device)
    }

    /// The keys whose own rows are others than before, with their numbers: the active one last, for there is one at a time.
    pub(super) fn changed_keys(&self) -> impl Iterator<Item = (usize, &Key)> {
        let bare = |key: &Key| Key { certificates: Vec::new(), ..key.clone() };
        let is_same = move |key: &Key| self.key_before(&key.x).is_some_and(|before| bare(before) == bare(key));
        let changed = move || self.device.keys.iter().enumerate().filter(move |(_, key)| !is_same(key));
        let is_active = |(_, key): &(usize, &Key)| key.status == KeyStatus::Active;
        changed().filter(move |it| !is_active(it)).chain(changed().filter(is_active))
    }

    /// The certificates that are others than before, with the x-coordinates of their keys.
    pub(super) fn changed_certificates(&self) -> impl Iterator<Item = (&[u8; 32], &Certificate)> {
        let all = self.device.keys.iter().flat_map(|key| key.certificates.iter().map(move |it| (&key.x, it)));
        all.filter(|(x, certificate)| !self.key_before(x).is_some_and(|key| key.certificates.contains(certificate)))
    }

    fn key_before(&self, x: &[u8; 32]) -> Option<&Key> {
        self.before.as_ref()?.keys.iter().find(|key| key.x == *x)
    }

    /// A key that has to be one of the device's.
    ///
    /// # Errors
    /// [`Error::UnknownKey`].
    pub(super) fn key(&self, key: &PublicKey) -> Result<&Key, Error> {
        let unknown = || Error::UnknownKey { device: self.device.id, key: key.thumbprint().to_string() };
        self.device.key(key).ok_or_else(unknown)
    }

    /// A certificate with its key.
    ///
    /// # Errors
    /// [`Error::UnknownCertificate`].
    pub(super) fn certificate(&self, cti: Cti) -> Result<(&Key, &Certificate), Error> {
        let keys = self.device.keys.iter();
        let mut found = keys.filter_map(|key| Some((key, key.certificates.iter().find(|it| it.cti == cti)?)));
        found.next().ok_or(Error::UnknownCertificate(cti))
    }

    pub(super) fn key_mut(&mut self, x: &[u8; 32]) -> Option<&mut Key> {
        self.device.keys.iter_mut().find(|key| key.x == *x)
    }

    pub(super) fn certificate_mut(&mut self, cti: Cti) -> Option<&mut Certificate> {
        self.device.keys.iter_mut().flat_map(|key| &mut key.certificates).find(|it| it.cti == cti)
    }

    /// The device has a key more, which is pending, and was seen at these first and last times.
    pub(super) fn add_key(
        &mut self,
        key: &PublicKey,
        generation: u32,
        provenance: Provenance,
        proof: ProofLevel,
        [first_seen, last_seen]: [u64; 2],
    ) {
        let thumbprint = key.thumbprint().to_string();
        self.device.keys.push(Key {
            x: *key.x(),
            thumbprint: thumbprint.clone(),
            status: KeyStatus::Pending,
            counts_by: CountsBy::Nothing,
            mine: false,
            provenance,
            proof,
            generation,
            first_seen,
            last_seen,
            revoked: None,
            escrowed: false,
            certificates: Vec::new(),
        });
        self.note(Event::KeySeen { key: thumbprint, provenance: provenance.as_str() });
    }

    /// A key is vouched for by where it was learned, if that is better than before.
    pub(super) fn raise(&mut self, x: &[u8; 32], provenance: Provenance) {
        let Some(key) = self.key_mut(x) else { return };
        let provenance = better(key.provenance, provenance);
        if key.provenance != provenance {
            key.provenance = provenance;
            let event = Event::KeyRaised { key: key.thumbprint.clone(), provenance: provenance.as_str() };
            self.note(event);
        }
    }

    /// A key is out from now on, and its certificates with it.
    pub(super) fn revoke(&mut self, x: &[u8; 32], reason: &str) {
        let now = self.now;
        let Some(key) = self.key_mut(x) else { return };
        key.status = KeyStatus::Revoked;
        key.revoked = Some(Revoked { at: now, reason: reason.to_owned() });
        for certificate in &mut key.certificates {
            if matches!(
                certificate.status,
                CertificateStatus::Intended | CertificateStatus::Issued | CertificateStatus::Installed
            ) {
                certificate.status = CertificateStatus::Revoked;
            }
        }
        let event = Event::KeyRevoked { key: key.thumbprint.clone(), reason: reason.to_owned() };
        self.note(event);
    }

    /// From here on a key is the device's key: all others of the device are revoked. Returns those.
    pub(super) fn settle(&mut self, x: &[u8; 32], by: CountsBy, because: &str) -> Result<Vec<Thumbprint>, Error> {
        let Some(key) = self.key_mut(x) else { return Ok(Vec::new()) };
        key.counts_by = by;
        let thumbprint = key.thumbprint.clone();
        let older = self.device.keys.iter().filter(|key| key.x != *x && key.status != KeyStatus::Revoked);
        let older: Vec<_> = older.map(|key| key.x).collect();
        for older in &older {
            self.revoke(older, &format!("succeeded by key {}", short(&thumbprint)));
        }
        if !self.activate(x, because) {
            self.note(Event::KeySettled { key: thumbprint, because: because.to_owned() });
        }
        older.iter().map(thumbprint_of).collect()
    }

    /// What became of a key that was settled.
    pub(super) fn succession(&self, x: &[u8; 32], revoked: Vec<Thumbprint>) -> Succession {
        match self.device.active().is_some_and(|active| active.x == *x) {
            true => Succession::Active { revoked },
            false => Succession::Settled { revoked },
        }
    }

    /// Makes a settled key active if there is what it counts by. This is the one place where a key becomes active.
    pub(super) fn activate(&mut self, x: &[u8; 32], because: &str) -> bool {
        let Some(key) = self.key_mut(x) else { return false };
        let is_certified = key.certificates.iter().any(|it| it.status == CertificateStatus::Installed);
        let counts = match key.counts_by {
            CountsBy::Report => true,
            CountsBy::Certificate => is_certified,
            CountsBy::Nothing | CountsBy::Word | CountsBy::GivenUp => false,
        };
        if key.status != KeyStatus::Pending || !counts {
            return false;
        }
        key.status = KeyStatus::Active;
        let event = Event::KeyActive { key: key.thumbprint.clone(), because: because.to_owned() };
        self.note(event);
        true
    }

    /// A key that was its device's is nobody's any more: the device may come back with it, and be certified again.
    pub(super) fn give_up(&mut self, x: &[u8; 32]) {
        let Some(key) = self.key_mut(x) else { return };
        key.counts_by = CountsBy::GivenUp;
        if key.status == KeyStatus::Active {
            key.status = KeyStatus::Pending;
        }
        let event = Event::Released { key: key.thumbprint.clone() };
        self.note(event);
    }

    /// A key that was active by a report waits for a certificate, for the device takes none of ours.
    pub(super) fn counts_no_more_by_report(&mut self, x: &[u8; 32]) {
        let Some(key) = self.key_mut(x) else { return };
        if key.status == KeyStatus::Active && key.counts_by == CountsBy::Report {
            (key.status, key.counts_by) = (KeyStatus::Pending, CountsBy::Certificate);
            let because = "the device takes no certificate of ours".to_owned();
            let event = Event::KeyPending { key: key.thumbprint.clone(), because };
            self.note(event);
        }
    }

    /// What was installed in these slots is gone, and with the owner's a list. If that was what made the key ours, it is given
    /// up.
    pub(super) fn empty(&mut self, x: &[u8; 32], slots: &[Slot]) {
        let Some(key) = self.key_mut(x) else { return };
        let gone: Vec<_> = slots.iter().copied().filter(|slot| key.installed(*slot).is_some()).collect();
        for certificate in &mut key.certificates {
            if certificate.status == CertificateStatus::Installed && gone.contains(&certificate.slot) {
                certificate.status = CertificateStatus::Removed;
            }
        }
        let stays = [Slot::Factory, Slot::Owner].iter().any(|slot| key.installed(*slot).is_some());
        if slots.contains(&Slot::Owner) {
            self.hold_list(None);
        }
        if gone.contains(&Slot::Owner) || (!gone.is_empty() && !stays) {
            self.give_up(x);
        }
    }

    /// The device has this nickname.
    pub(super) fn call(&mut self, nickname: &Nickname) {
        let nickname = nickname.as_str().to_owned();
        self.device.nickname = Some(nickname.clone());
        self.note(Event::Nickname { nickname });
    }

    /// The device has no nickname any more. Returns the one that it had.
    pub(super) fn uncall(&mut self) -> Option<String> {
        let nickname = self.device.nickname.take()?;
        self.note(Event::NicknameRemoved { nickname: nickname.clone() });
        Some(nickname)
    }

    /// The device holds the list of this version, or none.
    pub(super) fn hold_list(&mut self, version: Option<u64>) {
        if self.device.list_version != version {
            self.device.list_version = version;
            self.note(Event::ListHeld { version });
        }
    }

    /// What is to happen when the device loses its key.
    pub(super) fn set_policy(&mut self, policy: Policy) {
        if self.device.policy != policy {
            self.device.policy = policy;
            self.note(Event::PolicySet { policy });
        }
    }

    /// A certificate about a key is to be signed.
    pub(super) fn add_certificate(&mut self, x: &[u8; 32], certificate: Certificate) {
        let Some(key) = self.key_mut(x) else { return };
        let Certificate { cti, slot, proof, .. } = certificate;
        let event = Event::CertificateIntended { cti, key: key.thumbprint.clone(), slot, proof: proof.as_str() };
        key.certificates.push(certificate);
        self.note(event);
    }

    /// A certificate is to be signed elsewhere: this handshake proved its key.
    pub(super) fn request(&mut self, cti: Cti, transcript: &[u8; 32]) {
        if let Some(certificate) = self.certificate_mut(cti) {
            certificate.transcript = Some(*transcript);
            self.note_once(Event::CertificateRequested { cti, transcript: hex::encode(transcript) });
        }
    }

    /// A certificate is signed.
    pub(super) fn issue(&mut self, cti: Cti, object: &[u8]) {
        if let Some(certificate) = self.certificate_mut(cti) {
            certificate.status = CertificateStatus::Issued;
            certificate.object = Some(object.to_vec());
            self.note(Event::CertificateIssued { cti, sha256: hex::encode(Sha256::digest(object)) });
        }
    }

    /// A certificate will not be installed.
    pub(super) fn void(&mut self, cti: Cti, reason: &str) {
        if let Some(certificate) = self.certificate_mut(cti) {
            certificate.status = CertificateStatus::Void;
            self.note(Event::CertificateVoid { cti, reason: reason.to_owned() });
        }
    }
}

/// The thumbprint of a key on record.
pub(super) fn thumbprint_of(x: &[u8; 32]) -> Result<Thumbprint, Error> {
    Ok(public_key(x)?.thumbprint())
}

/// A key on record.
pub(super) fn public_key(x: &[u8; 32]) -> Result<PublicKey, Error> {
    PublicKey::from_x(x).map_err(|_| Error::Corrupt("x"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::{NOON, device_of, id, key, noted, on_record};

    const STATUSES: [KeyStatus; 3] = [KeyStatus::Active, KeyStatus::Pending, KeyStatus::Revoked];
    const ALL_BY: [CountsBy; 5] =
        [CountsBy::Nothing, CountsBy::Word, CountsBy::GivenUp, CountsBy::Report, CountsBy::Certificate];

    fn draft_of(keys: Vec<Key>) -> Draft {
        Draft::of(device_of(&id("device"), keys), NOON + 1)
    }

    #[test]
    fn a_pending_key_becomes_active_by_a_report_or_by_its_certificate_and_by_nothing_else() {
        let key = key();
        for status in STATUSES {
            for by in ALL_BY {
                for certificate in [None, Some(CertificateStatus::Issued), Some(CertificateStatus::Installed)] {
                    let record = on_record(&key, status, by);
                    let record = match certificate {
                        Some(certificate) => record.with(Cti([1; 8]), Slot::Owner, certificate),
                        None => record,
                    };
                    let mut draft = draft_of(vec![record]);
                    let is_installed = certificate == Some(CertificateStatus::Installed);
                    let expected = status == KeyStatus::Pending
                        && (by == CountsBy::Report || (by == CountsBy::Certificate && is_installed));
                    assert_eq!(draft.activate(key.x(), "why"), expected, "{status} {by} {certificate:?}");
                    assert_eq!(draft.is_blank(), !expected, "{status} {by} {certificate:?}");
                }
            }
        }
    }

    #[test]
    fn a_key_that_is_settled_puts_out_all_others_once() {
        let [settled, active, revoked] = [key(), key(), key()];
        let mut draft = draft_of(vec![
            on_record(&revoked, KeyStatus::Revoked, CountsBy::Certificate),
            on_record(&active, KeyStatus::Active, CountsBy::Certificate)
                .with(Cti([1; 8]), Slot::Owner, CertificateStatus::Installed)
                .with(Cti([2; 8]), Slot::Owner, CertificateStatus::Replaced),
            on_record(&settled, KeyStatus::Pending, CountsBy::Nothing),
        ]);
        assert_eq!(draft.settle(settled.x(), CountsBy::Report, "why").unwrap(), [active.thumbprint()]);
        let statuses: Vec<_> = draft.device.keys.iter().map(|key| key.status).collect();
        assert_eq!(statuses, [KeyStatus::Revoked, KeyStatus::Revoked, KeyStatus::Active]);
        let certificates = draft.device.keys[1].certificates.iter().map(|it| it.status);
        assert!(certificates.eq([CertificateStatus::Revoked, CertificateStatus::Replaced]));
        assert_eq!(noted(&draft), ["key-revoked", "key-active"]);
        assert_eq!(draft.device.keys[1].revoked.as_ref().unwrap().at, NOON + 1);
    }

    #[test]
    fn an_emptied_slot_gives_up_a_key_that_has_no_other_or_had_the_owners() {
        use CertificateStatus::Installed;
        let key = key();
        let [factory, owner] = [Slot::Factory, Slot::Owner];
        // What is installed, what is emptied, what is said.
        let table: [(&[Slot], &[Slot], &[&str]); 6] = [
            (&[owner], &[owner], &["list-held", "released"]),
            (&[owner], &[factory], &[]),
            (&[factory, owner], &[owner], &["list-held", "released"]),
            (&[factory, owner], &[factory], &[]),
            (&[factory], &[factory], &["released"]),
            (&[], &[factory, owner], &["list-held"]),
        ];
        for (installed, emptied, said) in table {
            let mut record = on_record(&key, KeyStatus::Active, CountsBy::Certificate);
            for (number, slot) in installed.iter().enumerate() {
                record = record.with(Cti([number as u8; 8]), *slot, Installed);
            }
            let mut device = device_of(&id("device"), vec![record]);
            device.list_version = Some(7);
            let mut draft = Draft::of(device, NOON);
            draft.empty(key.x(), emptied);
            assert_eq!(noted(&draft), said, "{installed:?} {emptied:?}");
            let is_given_up = draft.device.keys[0].counts_by == CountsBy::GivenUp;
            assert_eq!(is_given_up, said.contains(&"released"), "{installed:?} {emptied:?}");
        }
    }

    #[test]
    fn what_is_other_than_before_is_written_and_the_active_key_last() {
        let [old, new, third] = [key(), key(), key()];
        let certified = |key| {
            on_record(key, KeyStatus::Active, CountsBy::Certificate).with(
                Cti([1; 8]),
                Slot::Owner,
                CertificateStatus::Installed,
            )
        };
        let draft = || {
            draft_of(vec![
                on_record(&new, KeyStatus::Pending, CountsBy::Report),
                on_record(&third, KeyStatus::Revoked, CountsBy::Nothing),
                certified(&old),
            ])
        };
        let blank = draft();
        assert!(blank.is_blank() && blank.changed_device().is_none());
        assert_eq!((blank.changed_keys().count(), blank.changed_certificates().count()), (0, 0));
        let mut draft = draft();
        draft.settle(new.x(), CountsBy::Report, "why").unwrap();
        let written: Vec<_> = draft.changed_keys().map(|(ordinal, key)| (ordinal, key.status)).collect();
        assert_eq!(written, [(2, KeyStatus::Revoked), (0, KeyStatus::Active)]);
        let certificates: Vec<_> = draft.changed_certificates().map(|(x, it)| (*x, it.status)).collect();
        assert_eq!(certificates, [(*old.x(), CertificateStatus::Revoked)]);
        assert!(draft.changed_device().is_none());
        draft.set_policy(Policy::Keep);
        assert!(draft.changed_device().is_some());
        assert!(Draft::new(id("new"), Profile::Full, NOON, NOON).changed_device().is_some());
    }
}
