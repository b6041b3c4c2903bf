//! Giving up a device: its owner slot is emptied, its key is nobody's.

use std::fmt;

use cbor_schemas::DeviceId;
use protocol::key::PublicKey;

use super::{
    change::Change, draft::Draft, entry::AuditEntry, error::Error, event::Event, handle::Registry, record::Slot,
};
use crate::clock::rfc3339;

/// How a device left us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Its owner slot was emptied, at this time.
    Reset(u64),
    /// A voucher for another owner was made, at this time; whether it was used is not known here.
    HandedOn(u64),
}

impl fmt::Display for Parting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(at) => write!(f, "you gave it up by a reset at {}", rfc3339(*at)),
            Self::HandedOn(at) => write!(f, "you made a voucher that hands it on, at {}", rfc3339(*at)),
        }
    }
}

impl Registry {
    /// How a device left us, if it did since it last took a certificate of ours.
    pub async fn parting(&self, device: &DeviceId) -> Result<Option<Parting>, Error> {
        let events = ["released", "voucher-intended", "certificate-installed"];
        Ok(parting_by(&self.read().await?.rows.entries_about(device, events).await?))
    }

    /// Writes down that the device is about to be told to empty its owner slot.
    pub async fn begin_reset(&self, device: &DeviceId, key: &PublicKey) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_with(device, key).await?;
        draft.note(Event::ResetBegun { key: key.thumbprint().to_string() });
        change.keep(&draft).await
    }

    /// The device has no owner any more: the certificate in its owner slot is gone. Its key becomes pending, since it is not one
    /// of "my devices" now; it is not revoked either, and may be commissioned again. A key that did not count stays what it is:
    /// revoked, or pending until the user's word.
    pub async fn released(&self, device: &DeviceId, key: &PublicKey) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_with(device, key).await?;
        release(&mut draft, key)?;
        change.keep(&draft).await
    }

    /// A device that is to be reset proved this key, and has an empty owner slot. Whether that is the end of something of ours,
    /// as by [`Registry::released`]: of a reset whose answer was lost, or of a certificate that somebody else removed. Else
    /// nothing is given up, for there was nothing.
    pub async fn found_empty(&self, device: &DeviceId, key: &PublicKey) -> Result<bool, Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_with(device, key).await?;
        let events = ["reset-begun", "released", "certificate-installed"];
        let is_told = is_told_to_reset(&change.rows.entries_about(device, events).await?, key);
        let was_ours = is_told || draft.key(key)?.installed(Slot::Owner).is_some();
        match was_ours {
            true => release(&mut draft, key)?,
            false => draft.empty(key.x(), &[Slot::Owner]),
        }
        change.keep(&draft).await?;
        Ok(was_ours)
    }
}

/// How a device left us, by what happened to it, newest first.
fn parting_by(entries: &[AuditEntry]) -> Option<Parting> {
    for entry in entries {
        match entry.event.as_str() {
            "released" => return Some(Parting::Reset(entry.time)),
            // One of the maker is not ours to miss.
            "voucher-intended" if entry.payload.contains("\"slot\":\"owner\"") => {
                return Some(Parting::HandedOn(entry.time));
            }
            "voucher-intended" => {}
            _ => return None,
        }
    }
    None
}

/// Whether the device was told to empty its owner slot under this key, and it is not known what came of it, by what happened,
/// newest first.
fn is_told_to_reset(entries: &[AuditEntry], key: &PublicKey) -> bool {
    let is_told =
        |last: &AuditEntry| last.event == "reset-begun" && last.payload.contains(&key.thumbprint().to_string());
    entries.first().is_some_and(is_told)
}

/// The device has no owner any more.
fn release(draft: &mut Draft, key: &PublicKey) -> Result<(), Error> {
    let known = draft.key(key)?;
    let (is_mendable, is_settled) = (known.is_mendable(), known.is_settled());
    let had_certificate = known.installed(Slot::Owner).is_some();
    if is_mendable {
        draft.hold_list(None);
        draft.note_once(Event::Released { key: key.thumbprint().to_string() });
    } else if is_settled || had_certificate {
        draft.empty(key.x(), &[Slot::Owner]);
        if !had_certificate {
            draft.give_up(key.x());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cbor_schemas::ProofLevel;

    use super::*;
    use crate::registry::{
        CertificateStatus, Conflict, CountsBy, Cti, KeyStatus, Place, Succession, VoucherRequest,
        testing::{Fixture, NOON, device_of, id, key, noted, on_record, receipt, seen, wanted},
    };

    #[tokio::test]
    async fn a_device_given_up_may_come_back_with_the_same_key_only() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let (key, first) = fixture.commissioned(&device).await;
        fixture.registry.begin_reset(&device, &key).await.unwrap();
        fixture.registry.released(&device, &key).await.unwrap();
        fixture.registry.released(&device, &key).await.unwrap();
        assert_eq!(fixture.status(&device, &key).await, KeyStatus::Pending);
        assert_eq!(fixture.certificate_status(&device, first).await, CertificateStatus::Removed);

        let other = crate::registry::testing::key();
        assert!(fixture.proved(&device, &other).await.is_err());
        assert_eq!(fixture.proved(&device, &key).await.unwrap(), Succession::Pending);
        let again = fixture.begin(&device, &key).await.cti();
        fixture.registry.issued(again, b"signed again").await.unwrap();
        let status = fixture.registry.installed(again, Some(&receipt(&key))).await.unwrap();
        assert_eq!(status, KeyStatus::Active);
        let events = fixture.events(&device).await;
        assert_eq!(events.iter().filter(|event| *event == "released").count(), 1);
    }

    /// Whatever it was settled by, and whether it ever had a certificate.
    #[tokio::test]
    async fn a_key_that_was_settled_and_given_up_is_no_key_change() {
        for by in ["rekeyed", "accepted", "programmed"] {
            let mut fixture = Fixture::new().await;
            let (device, new) = (id("device"), key());
            let (old, _) = fixture.commissioned(&device).await;
            match by {
                "rekeyed" => drop(fixture.registry.rekeyed(&device, &old, &new, 2).await.unwrap()),
                "accepted" => {
                    fixture.proved(&device, &new).await.unwrap_err();
                    fixture.registry.accept_new_key(&device, &new).await.unwrap();
                }
                _ => drop(fixture.registry.observe_key(&seen(&device, &new, Place::Trusted, ProofLevel::Proved)).await),
            }
            fixture.registry.begin_reset(&device, &new).await.unwrap();
            fixture.registry.released(&device, &new).await.unwrap();
            let known = fixture.device(&device).await;
            assert!(known.settled().is_none() && known.key(&new).unwrap().was_given_up(), "{by}: {known:?}");
            assert!(!known.key(&new).unwrap().is_mendable(), "it is commissioned like any other");
            fixture.reopen().await;
            fixture.proved(&device, &key()).await.unwrap_err();
            assert_eq!(fixture.proved(&device, &new).await.unwrap(), Succession::Pending, "{by}");
            fixture.certified(&device, &new).await;
            assert_eq!(fixture.events(&device).await.iter().filter(|event| *event == "released").count(), 1);
        }
    }

    /// What a device made under a key that is out waits for the user's word, before and after a reset.
    #[tokio::test]
    async fn a_reset_is_no_word() {
        let fixture = Fixture::new().await;
        let (device, new) = (id("device"), key());
        fixture.commissioned(&device).await;
        fixture.registry.revoke(&device, "stolen").await.unwrap();
        let successor = seen(&device, &new, Place::Elsewhere, ProofLevel::Proved);
        fixture.registry.observe_successor(&successor).await.unwrap_err();
        fixture.registry.begin_reset(&device, &new).await.unwrap();
        fixture.registry.released(&device, &new).await.unwrap();
        assert_eq!(fixture.registry.parting(&device).await.unwrap(), Some(Parting::Reset(NOON)));
        let refused = fixture.proved(&device, &new).await;
        assert!(matches!(refused, Err(Error::Conflict(Conflict::KeyChange { .. }))), "{refused:?}");
        assert!(matches!(fixture.registry.begin_issue(&wanted(&device, &new)).await, Err(Error::NotIssuable { .. })));
        fixture.registry.accept_new_key(&device, &new).await.unwrap();
        fixture.certified(&device, &new).await;
    }

    #[tokio::test]
    async fn an_empty_slot_ends_what_was_ours_and_nothing_else() {
        let fixture = Fixture::new().await;
        let registry = &fixture.registry;
        let (reported, device, rekeyed, newest) = (id("reported"), id("device"), id("rekeyed"), key());
        // Listed as ours by a report, and never owned.
        let new = key();
        registry.observe_key(&seen(&reported, &new, Place::Trusted, ProofLevel::Unproven)).await.unwrap();
        assert!(!registry.found_empty(&reported, &new).await.unwrap());
        assert!(fixture.device(&reported).await.keys[0].mine);
        // Somebody pressed its button.
        let (own, _) = fixture.commissioned(&device).await;
        assert!(registry.found_empty(&device, &own).await.unwrap());
        assert!(!registry.found_empty(&device, &own).await.unwrap(), "that is known by now");
        // A reset of ours whose answer was lost; a key without a certificate.
        let (old, _) = fixture.commissioned(&rekeyed).await;
        registry.rekeyed(&rekeyed, &old, &newest, 2).await.unwrap();
        assert!(!registry.found_empty(&rekeyed, &newest).await.unwrap());
        registry.begin_reset(&rekeyed, &newest).await.unwrap();
        assert!(!registry.found_empty(&rekeyed, &old).await.unwrap(), "it was told that under another key");
        assert!(registry.found_empty(&rekeyed, &newest).await.unwrap());
        for (device, times) in [(&reported, 0), (&device, 1), (&rekeyed, 1)] {
            let events = fixture.events(device).await;
            assert_eq!(events.iter().filter(|event| *event == "released").count(), times, "{device}");
        }
    }

    #[tokio::test]
    async fn a_key_that_was_never_ours_is_not_given_up() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let key = key();
        let _ = fixture.proved(&device, &key).await;
        fixture.registry.released(&device, &key).await.unwrap();
        assert!(!fixture.events(&device).await.contains(&"released".to_owned()));
    }

    #[tokio::test]
    async fn a_revoked_key_is_given_up_once_and_stays_revoked() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let (key, cti) = fixture.commissioned(&device).await;
        assert_eq!(fixture.registry.parting(&device).await.unwrap(), None);
        fixture.registry.revoke(&device, "lost").await.unwrap();
        for _ in 0..2 {
            fixture.registry.released(&device, &key).await.unwrap();
        }
        assert_eq!(fixture.status(&device, &key).await, KeyStatus::Revoked);
        assert_eq!(fixture.certificate_status(&device, cti).await, CertificateStatus::Revoked);
        assert_eq!(fixture.events(&device).await.iter().filter(|event| *event == "released").count(), 1);
        assert_eq!(fixture.registry.parting(&device).await.unwrap(), Some(Parting::Reset(NOON)));
    }

    #[tokio::test]
    async fn who_was_handed_on_is_remembered_until_it_is_ours_again() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let (own, _) = fixture.commissioned(&device).await;
        let voucher = VoucherRequest { device, slot: Slot::Owner, owner: key(), lifetime: None, claim_counter: None };
        fixture.registry.grant_voucher(&voucher).await.unwrap();
        assert_eq!(fixture.registry.parting(&device).await.unwrap(), Some(Parting::HandedOn(NOON)));
        // By a voucher of theirs, say.
        let again = fixture.begin(&device, &own).await.cti();
        fixture.registry.issued(again, b"signed again").await.unwrap();
        fixture.registry.installed(again, Some(&receipt(&own))).await.unwrap();
        assert_eq!(fixture.registry.parting(&device).await.unwrap(), None);
    }

    /// What happened, newest first.
    fn entries(events: &[(&str, &str)]) -> Vec<AuditEntry> {
        let entry = |(event, payload): &(&str, &str)| AuditEntry {
            seq: 1,
            time: NOON,
            device: String::new(),
            event: (*event).to_owned(),
            payload: (*payload).to_owned(),
            previous: String::new(),
            hash: String::new(),
            elsewhere: false,
        };
        events.iter().map(entry).collect()
    }

    #[test]
    fn the_last_that_happened_says_how_a_device_left_us() {
        let (maker, owner) =
            (("voucher-intended", r#"{"slot":"factory"}"#), ("voucher-intended", r#"{"slot":"owner"}"#));
        let (released, installed) = (("released", "{}"), ("certificate-installed", "{}"));
        let table = [
            (vec![], None),
            (vec![released, owner], Some(Parting::Reset(NOON))),
            (vec![owner, released], Some(Parting::HandedOn(NOON))),
            (vec![maker], None),
            (vec![maker, released], Some(Parting::Reset(NOON))),
            (vec![installed, released, owner], None),
        ];
        for (events, parting) in table {
            assert_eq!(parting_by(&entries(&events)), parting, "{events:?}");
        }
    }

    #[test]
    fn a_key_is_released_by_what_it_was() {
        use CountsBy::{Certificate, GivenUp, Nothing, Word};
        use KeyStatus::{Active, Pending, Revoked};
        let key = key();
        for (status, by, installed, said, expected) in [
            (Active, Certificate, true, &["released"][..], (Pending, GivenUp)),
            (Pending, Certificate, false, &["released"], (Pending, GivenUp)),
            (Pending, Nothing, true, &["released"], (Pending, GivenUp)),
            (Pending, Nothing, false, &[], (Pending, Nothing)),
            (Pending, Word, false, &["released"], (Pending, Word)),
            (Revoked, Certificate, false, &["released"], (Revoked, Certificate)),
        ] {
            let record = on_record(&key, status, by);
            let record = match installed {
                true => record.with(Cti([1; 8]), Slot::Owner, CertificateStatus::Installed),
                false => record,
            };
            let mut draft = Draft::of(device_of(&id("device"), vec![record]), NOON);
            release(&mut draft, &key).unwrap();
            let after = &draft.device.keys[0];
            assert_eq!((after.status, after.counts_by), expected, "{status} {by} {installed}");
            assert_eq!(noted(&draft), said, "{status} {by} {installed}");
        }
    }
}
