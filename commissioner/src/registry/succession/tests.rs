//! What the registry takes of keys that are seen.

use cbor_schemas::Profile;

use super::*;
use crate::{
    progress::short,
    registry::{
        CertificateStatus, KeyStatus, Provenance,
        record::better,
        testing::{Fixture, NOON, id, key, receipt, seen, wanted},
    },
};

/// What the registry knows of the ID before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    Nothing,
    /// This key, from a report.
    Reported,
    /// This key, its certificate installed.
    Active,
    /// This key, once active, then revoked.
    Revoked,
    /// This key, which took the place of a revoked one, and waits for its certificate.
    Settled,
    /// Another key, from a report.
    OtherReported,
    /// Another key, its certificate installed.
    OtherActive,
    /// Another key, which waits for its certificate.
    OtherSettled,
    /// Another key, revoked.
    OtherRevoked,
    /// This key under another ID.
    Elsewhere,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    Known,
    Pending,
    Settled,
    Active,
    KeyChange,
    RevokedKey,
    SharedKey,
}

fn kind(outcome: Result<Succession, Error>) -> After {
    match outcome {
        Ok(Succession::Known) => After::Known,
        Ok(Succession::Pending) => After::Pending,
        Ok(Succession::Settled { .. }) => After::Settled,
        Ok(Succession::Active { .. }) => After::Active,
        Err(Error::Conflict(Conflict::KeyChange { .. })) => After::KeyChange,
        Err(Error::Conflict(Conflict::RevokedKey { .. })) => After::RevokedKey,
        Err(Error::Conflict(Conflict::SharedKey { .. })) => After::SharedKey,
        Err(other) => panic!("{other}"),
    }
}

/// Brings the registry into a state; returns this key, and the other one if there is one.
async fn arrange(fixture: &Fixture, before: Before) -> (PublicKey, Option<PublicKey>) {
    let device = id("device");
    let report = |key| seen(&device, key, Place::Elsewhere, ProofLevel::Unproven);
    let new = key();
    match before {
        Before::Nothing => (new, None),
        Before::Reported => {
            assert_eq!(fixture.registry.observe_key(&report(&new)).await.unwrap(), Succession::Pending);
            (new, None)
        }
        Before::Active => (fixture.commissioned(&device).await.0, None),
        Before::Revoked => {
            let (old, _) = fixture.commissioned(&device).await;
            fixture.registry.revoke(&device, "lost").await.unwrap();
            (old, None)
        }
        Before::OtherReported => {
            let other = key();
            assert_eq!(fixture.registry.observe_key(&report(&other)).await.unwrap(), Succession::Pending);
            (new, Some(other))
        }
        Before::OtherActive => (new, Some(fixture.commissioned(&device).await.0)),
        Before::Settled => (settled(fixture, &device).await, None),
        Before::OtherSettled => (new, Some(settled(fixture, &device).await)),
        Before::OtherRevoked => {
            let (other, _) = fixture.commissioned(&device).await;
            fixture.registry.revoke(&device, "lost").await.unwrap();
            (new, Some(other))
        }
        Before::Elsewhere => (fixture.commissioned(&id("other")).await.0, None),
    }
}

/// A key that took the place of a revoked one, and waits for its certificate.
async fn settled(fixture: &Fixture, device: &DeviceId) -> PublicKey {
    fixture.commissioned(device).await;
    let new = key();
    let seen = seen(device, &new, Place::Trusted, ProofLevel::Proved);
    assert!(matches!(fixture.registry.observe_key(&seen).await, Ok(Succession::Settled { .. })));
    new
}

/// Every state before, with every way to see a key: trusted and proved, trusted and reported, proved, reported.
const TABLE: [(Before, [After; 4]); 10] = [
    (Before::Nothing, [After::Settled, After::Active, After::Pending, After::Pending]),
    (Before::Reported, [After::Settled, After::Active, After::Pending, After::Pending]),
    (Before::Active, [After::Known; 4]),
    (Before::Revoked, [After::RevokedKey; 4]),
    (Before::Settled, [After::Pending; 4]),
    (Before::OtherReported, [After::Settled, After::Active, After::KeyChange, After::KeyChange]),
    (Before::OtherActive, [After::Settled, After::Active, After::KeyChange, After::KeyChange]),
    (Before::OtherSettled, [After::Settled, After::Active, After::KeyChange, After::KeyChange]),
    (Before::OtherRevoked, [After::Settled, After::Active, After::KeyChange, After::KeyChange]),
    (Before::Elsewhere, [After::SharedKey; 4]),
];

const SIGHTINGS: [(Place, ProofLevel, Provenance); 4] = [
    (Place::Trusted, ProofLevel::Proved, Provenance::Programming),
    (Place::Trusted, ProofLevel::Unproven, Provenance::Programming),
    (Place::Elsewhere, ProofLevel::Proved, Provenance::Proved),
    (Place::Elsewhere, ProofLevel::Unproven, Provenance::Reported),
];

#[tokio::test]
async fn the_table() {
    for (before, row) in TABLE {
        for ((place, proof, provenance), expected) in SIGHTINGS.into_iter().zip(row) {
            let case = format!("{before:?}, {place:?}, {proof:?}");
            let fixture = Fixture::new().await;
            let device = id("device");
            let (new, other) = arrange(&fixture, before).await;

            let outcome = fixture.registry.observe_key(&seen(&device, &new, place, proof)).await;
            assert_eq!(kind(outcome), expected, "{case}");
            // Asked again, nothing has moved on by itself.
            let again = fixture.registry.observe_key(&seen(&device, &new, place, proof)).await;
            let steady = match expected {
                After::Active => After::Known,
                After::Settled => After::Pending,
                other => other,
            };
            assert_eq!(kind(again), steady, "{case}, again");

            let known = fixture.registry.device_by_id(&device).await.unwrap();
            if expected == After::SharedKey {
                assert!(known.is_none(), "{case}");
                continue;
            }
            let known = known.unwrap();
            let key = known.key(&new).unwrap();
            let (status, learned) = match expected {
                After::Known => (KeyStatus::Active, better(Provenance::Proved, provenance)),
                After::Active => (KeyStatus::Active, Provenance::Programming),
                After::Pending if before == Before::Settled => (KeyStatus::Pending, Provenance::Programming),
                After::RevokedKey => (KeyStatus::Revoked, Provenance::Proved),
                _ => (KeyStatus::Pending, provenance),
            };
            assert_eq!((key.status, key.provenance), (status, learned), "{case}");
            if let Some(other) = other {
                let status = known.key(&other).unwrap().status;
                let expected = match (expected, before) {
                    (After::Active | After::Settled, _) | (_, Before::OtherRevoked) => KeyStatus::Revoked,
                    (_, Before::OtherReported | Before::OtherSettled) => KeyStatus::Pending,
                    _ => KeyStatus::Active,
                };
                assert_eq!(status, expected, "{case}, the other key");
            }
            fixture.registry.verify_audit().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_key_change_waits_for_the_user() {
    let fixture = Fixture::new().await;
    let device = id("device");
    let (old, cti) = fixture.commissioned(&device).await;
    let new = key();
    let conflict = fixture.proved(&device, &new).await.unwrap_err();
    assert!(conflict.to_string().contains("--accept-new-key"), "{conflict}");
    assert!(fixture.registry.begin_issue(&wanted(&device, &new)).await.is_err(), "nothing is issued in conflict");
    assert_eq!(fixture.status(&device, &old).await, KeyStatus::Active);

    fixture.clock.set(NOON + 60);
    let accepted = fixture.registry.accept_new_key(&device, &new).await.unwrap();
    assert_eq!(accepted, Succession::Settled { revoked: vec![old.thumbprint()] });
    let known = fixture.device(&device).await;
    assert!(known.active().is_none(), "that takes a certificate");
    assert_eq!(known.settled().unwrap().x, *new.x());
    assert_eq!(known.settled().unwrap().provenance, Provenance::Proved);
    let revoked = known.key(&old).unwrap().revoked.clone().unwrap();
    assert_eq!(revoked.at, NOON + 60);
    assert_eq!(fixture.certificate_status(&device, cti).await, CertificateStatus::Revoked);
    fixture.certified(&device, &new).await;
    assert_eq!(fixture.device(&device).await.active().unwrap().x, *new.x());
}

/// However many keys there were before: the one that counts is named, once, and so is how many others there are.
#[tokio::test]
async fn a_key_change_names_one_key_and_counts_the_others() {
    let fixture = Fixture::new().await;
    let device = id("device");
    let (first, _) = fixture.commissioned(&device).await;
    let name = |key: &PublicKey| short(&key.thumbprint().to_string()).to_owned();
    for (number, others) in [(0, ""), (1, " or the other one"), (2, " or the 2 other ones")] {
        let new = key();
        let told = fixture.proved(&device, &new).await.unwrap_err().to_string();
        let change =
            format!("{device} has a new key {}, not the {} (active){others} known before; ", name(&new), name(&first));
        assert!(told.starts_with(&change), "{number}: {told}");
        assert!(told.contains("`commissioner commission --accept-new-key`"), "{told}");
    }
    fixture.registry.revoke(&device, "lost").await.unwrap();
    let older = fixture.device(&device).await.keys;
    let told = fixture.proved(&device, &key()).await.unwrap_err().to_string();
    assert!(told.contains(&format!("not the {} (pending) or the 3 other ones", short(&older[3].thumbprint))), "{told}");
}

/// A log may be older than what is known, and is not newer than it says.
#[tokio::test]
async fn what_was_seen_earlier_does_not_undo_what_was_seen_since() {
    let fixture = Fixture::new().await;
    let (device, key) = (id("device"), key());
    let at = |generation| Observation { generation, ..seen(&device, &key, Place::Elsewhere, ProofLevel::Unproven) };
    fixture.registry.observe_key_at(&at(2), NOON - 1_000).await.unwrap();
    fixture.registry.observe_key_at(&at(1), NOON - 5_000).await.unwrap();
    let known = fixture.device(&device).await;
    assert_eq!([known.first_seen, known.last_seen], [NOON - 5_000, NOON - 1_000]);
    let known_key = &known.keys[0];
    assert_eq!([known_key.first_seen, known_key.last_seen], [NOON - 5_000, NOON - 1_000]);
    assert_eq!(known_key.generation, 2);
    fixture.registry.observe_key(&at(3)).await.unwrap();
    // The clock was ahead, and was set right: what is seen now is seen now.
    fixture.clock.set(NOON - 2_000);
    fixture.registry.observe_key(&at(4)).await.unwrap();
    let known = fixture.device(&device).await;
    assert_eq!((known.last_seen, known.keys[0].last_seen, known.keys[0].generation), (NOON - 2_000, NOON - 2_000, 4));
}

#[tokio::test]
async fn only_a_proved_key_can_be_accepted() {
    let fixture = Fixture::new().await;
    let device = id("device");
    fixture.commissioned(&device).await;
    let new = key();
    let report = seen(&device, &new, Place::Elsewhere, ProofLevel::Unproven);
    assert!(fixture.registry.observe_key(&report).await.is_err());
    assert!(matches!(fixture.registry.accept_new_key(&device, &new).await, Err(Error::NotIssuable { .. })));
    assert!(matches!(fixture.registry.accept_new_key(&device, &key()).await, Err(Error::UnknownKey { .. })));
    assert_eq!(fixture.status(&device, &new).await, KeyStatus::Pending);
}

#[tokio::test]
async fn a_revoked_key_cannot_be_accepted() {
    let fixture = Fixture::new().await;
    let device = id("device");
    let (old, _) = fixture.commissioned(&device).await;
    fixture.registry.revoke(&device, "stolen").await.unwrap();
    let error = fixture.registry.accept_new_key(&device, &old).await.unwrap_err();
    assert!(matches!(error, Error::Conflict(Conflict::RevokedKey { .. })), "{error}");
    assert!(error.to_string().contains("stolen"), "{error}");
    assert_eq!(fixture.status(&device, &old).await, KeyStatus::Revoked);
}

#[tokio::test]
async fn a_device_once_full_is_never_minimal() {
    let fixture = Fixture::new().await;
    let device = id("device");
    let minimal = |key: &PublicKey| Observation {
        profile: Profile::Minimal,
        ..seen(&device, key, Place::Trusted, ProofLevel::Unproven)
    };
    let small = key();
    assert_eq!(fixture.registry.observe_key(&minimal(&small)).await.unwrap(), Succession::Active { revoked: vec![] });
    let full = key();
    let seen = seen(&device, &full, Place::Trusted, ProofLevel::Proved);
    assert_eq!(
        fixture.registry.observe_key(&seen).await.unwrap(),
        Succession::Settled { revoked: vec![small.thumbprint()] }
    );
    for stranger in [full, key()] {
        let alarm = fixture.registry.observe_key(&minimal(&stranger)).await;
        assert!(matches!(alarm, Err(Error::Conflict(Conflict::Downgrade { .. }))), "{alarm:?}");
    }
    assert_eq!(fixture.device(&device).await.keys.len(), 2);
}

#[tokio::test]
async fn revoking_takes_the_active_key_or_else_the_pending_ones() {
    let fixture = Fixture::new().await;
    let device = id("device");
    let (active, _) = fixture.commissioned(&device).await;
    let pending = key();
    let _ = fixture.proved(&device, &pending).await;

    let first = fixture.registry.revoke(&device, "lost").await.unwrap();
    assert_eq!(first, Revocation::Revoked(vec![active.thumbprint()]));
    assert_eq!(fixture.status(&device, &pending).await, KeyStatus::Pending);
    let second = fixture.registry.revoke(&device, "lost").await.unwrap();
    assert_eq!(second, Revocation::Revoked(vec![pending.thumbprint()]));
    assert_eq!(fixture.registry.revoke(&device, "lost").await.unwrap(), Revocation::AlreadyRevoked);
    assert!(matches!(fixture.registry.revoke(&id("none"), "lost").await, Err(Error::UnknownDevice(_))));
}

#[tokio::test]
async fn a_rekeyed_device_goes_on_but_must_prove_its_new_key() {
    let fixture = Fixture::new().await;
    let device = id("device");
    let (old, _) = fixture.commissioned(&device).await;
    let new = key();
    fixture.registry.begin_rekey(&device, &old).await.unwrap();
    let succession = fixture.registry.rekeyed(&device, &old, &new, 2).await.unwrap();
    assert_eq!(succession, Succession::Settled { revoked: vec![old.thumbprint()] });
    let known = fixture.device(&device).await;
    let settled = known.settled().unwrap();
    assert_eq!((settled.x, settled.generation, settled.provenance), (*new.x(), 2, Provenance::Proved));
    assert_eq!(settled.status, KeyStatus::Pending, "it has no certificate yet");
    assert!(matches!(fixture.registry.begin_issue(&wanted(&device, &new)).await, Err(Error::NotIssuable { .. })));

    assert_eq!(fixture.proved(&device, &new).await.unwrap(), Succession::Pending);
    fixture.certified(&device, &new).await;
    // Only the active key can name its successor, and no other device's key.
    assert!(matches!(fixture.registry.rekeyed(&device, &old, &key(), 3).await, Err(Error::UnknownKey { .. })));
    let (other, _) = fixture.commissioned(&id("other")).await;
    let shared = fixture.registry.rekeyed(&device, &new, &other, 3).await;
    assert!(matches!(shared, Err(Error::Conflict(Conflict::SharedKey { .. }))), "{shared:?}");
    assert_eq!(fixture.status(&device, &new).await, KeyStatus::Active);
}

/// Who is visited for `rekey` and `reset` alone: keys that were ours, and those that come from one of them by our own doing.
#[tokio::test]
async fn a_key_that_merely_shows_up_inherits_nothing() {
    let fixture = Fixture::new().await;
    let (registry, device) = (&fixture.registry, id("device"));
    let mendable = async |key: &PublicKey| fixture.device(&device).await.key(key).unwrap().is_mendable();
    let (old, _) = fixture.commissioned(&device).await;
    let (claimed, named, newest) = (key(), key(), key());
    assert!(!mendable(&old).await, "it counts");
    // Somebody claims the ID, before the revocation and after it.
    fixture.proved(&device, &claimed).await.unwrap_err();
    registry.revoke(&device, "stolen").await.unwrap();
    fixture.proved(&device, &claimed).await.unwrap_err();
    assert!(mendable(&old).await && !mendable(&claimed).await);
    // A key that is named under the one that is out.
    for successor in [&named, &newest] {
        let seen = seen(&device, successor, Place::Elsewhere, ProofLevel::Proved);
        let told = registry.observe_successor(&seen).await;
        assert!(matches!(told, Err(Error::Conflict(Conflict::KeyChange { .. }))), "{told:?}");
        let known = fixture.device(&device).await;
        assert_eq!(known.key(successor).unwrap().status, KeyStatus::Pending);
        assert!(known.settled().is_none() && mendable(successor).await);
    }
    registry.revoke(&device, "again").await.unwrap();
    assert!(mendable(&named).await && mendable(&newest).await);
    assert!(!mendable(&claimed).await, "revoked, and never ours");
    // What was settled was ours, with a certificate or without.
    let (other, unaccepted) = (id("other"), key());
    fixture.commissioned(&other).await;
    fixture.proved(&other, &unaccepted).await.unwrap_err();
    registry.accept_new_key(&other, &unaccepted).await.unwrap();
    registry.revoke(&other, "lost").await.unwrap();
    assert!(fixture.device(&other).await.key(&unaccepted).unwrap().is_mendable());
    registry.verify_audit().await.unwrap();
}

#[tokio::test]
async fn a_second_device_or_key_in_a_run_is_on_record_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let device = id("device");
    let (key_of_device, _) = fixture.commissioned(&device).await;
    let first = seen(&device, &key_of_device, Place::Trusted, ProofLevel::Unproven);
    for second in
        [seen(&id("other"), &key(), first.place, first.proof), seen(&device, &key(), first.place, first.proof)]
    {
        let alarm = fixture.registry.refuse_second(&first, &second).await;
        assert!(matches!(alarm, Err(Error::Conflict(Conflict::Second { .. }))), "{alarm:?}");
    }
    assert_eq!(fixture.device(&device).await.keys.len(), 1);
    assert_eq!(fixture.status(&device, &key_of_device).await, KeyStatus::Active);
    assert!(fixture.registry.device_by_id(&id("other")).await.unwrap().is_none());
    let events = fixture.events(&device).await;
    assert_eq!(events.iter().filter(|event| *event == "key-conflict").count(), 2);
}

#[tokio::test]
async fn one_id_at_two_places_is_on_record_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let device = id("device");
    let (key, _) = fixture.commissioned(&device).await;
    for _ in 0..2 {
        let places = vec!["serial:/dev/ttyACM0".to_owned(), "serial:/dev/ttyACM1".to_owned()];
        let alarm = fixture.registry.refuse_twins(&device, places).await;
        assert!(matches!(alarm, Err(Error::Conflict(Conflict::Twins { .. }))), "{alarm:?}");
    }
    assert_eq!(fixture.status(&device, &key).await, KeyStatus::Active);
    assert_eq!(fixture.events(&device).await.iter().filter(|event| *event == "seen-twice").count(), 1);
}

#[tokio::test]
async fn an_alarm_is_written_down_once_until_something_else_happens() {
    let fixture = Fixture::new().await;
    let device = id("device");
    let (old, cti) = fixture.commissioned(&device).await;
    fixture.registry.revoke(&device, "lost").await.unwrap();
    for _ in 0..3 {
        assert!(fixture.proved(&device, &old).await.is_err());
    }
    let conflicts = |events: &[String]| events.iter().filter(|event| *event == "key-conflict").count();
    assert_eq!(conflicts(&fixture.events(&device).await), 1);
    // The device reports its certificate again: a fact, but the key stays out.
    assert_eq!(fixture.registry.installed(cti, Some(&receipt(&old))).await.unwrap(), KeyStatus::Revoked);
    assert!(fixture.proved(&device, &old).await.is_err());
    assert_eq!(conflicts(&fixture.events(&device).await), 2);
}
