//! Who counts as mine: one rule for the signed list, `devices`, exports and the server, and what makes a key active.
//!
//! A key is **mine** if it is active, was proved or learned in the trusted place, and has a certificate installed; or the
//! trusted place reported it, where no certificate is meant. That is a condition on a row of `keys`, in
//! `rows/keys.rs`, and [`Key::mine`] is what it says of a key. Whatever has a certificate of ours and is not mine is told to others as revoked.
//!
//! A key is *settled* once it is clear that it is the device's key, and its predecessors are revoked: the trusted place says
//! so, or the user, or the device under its former key. By that alone it is active only where no certificate is meant: where
//! somebody reports it, and nobody visits the device. Else it waits, pending, for [`Registry::installed`]: a device that
//! takes no certificate of ours (another maker's, or one that wants its button pressed, or a voucher) is never active.

use cbor_schemas::DeviceId;
use protocol::key::PublicKey;
use serde_json::Value;

use super::{
    change::Change, conflict::Conflict, draft::public_key, error::Error, handle::Registry, reading::Reading,
    record::Slot, rows::Rows,
};

impl Registry {
    /// A device whose key is proved shows these slots as empty: what was installed there is gone, and so is a list. If that
    /// was what made the key ours, it is given up, as by [`Registry::released`].
    pub async fn emptied(&self, device: &DeviceId, key: &PublicKey, slots: &[Slot]) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_with(device, key).await?;
        draft.empty(key.x(), slots);
        change.keep(&draft).await
    }

    /// A device that says its key is one of our own lies, or is a copy of ours.
    ///
    /// # Errors
    /// [`Conflict::OwnKey`], which is on record then.
    pub async fn refuse_own_key(&self, device: &DeviceId, key: &PublicKey) -> Result<(), Error> {
        let whose = own_key(&mut self.read().await?.rows, &self.issuer, key).await?;
        match whose {
            Some(whose) => Change::begin(self).await?.refuse(device, key, Conflict::own_key(device, key, whose)).await,
            None => Ok(()),
        }
    }

    /// A device with this key takes no certificate of ours: what was said of it in the trusted place is not enough any more.
    pub async fn refused(&self, device: &DeviceId, key: &PublicKey) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let Some(mut draft) = change.draft(device).await? else { return Ok(()) };
        draft.counts_no_more_by_report(key.x());
        change.keep(&draft).await
    }
}

impl Reading {
    /// The keys of my devices.
    pub async fn my_keys(&mut self) -> Result<Vec<PublicKey>, Error> {
        self.rows.my_keys().await?.iter().map(|(x, _)| public_key(x)).collect()
    }
}

/// Whether a key is one of our own, which no device can have: the issuer's, or that of a station.
pub(super) async fn own_key(
    rows: &mut Rows,
    issuer: &PublicKey,
    key: &PublicKey,
) -> Result<Option<&'static str>, Error> {
    if key.x() == issuer.x() {
        return Ok(Some("issuer"));
    }
    let thumbprint = key.thumbprint().to_string();
    // Stations elsewhere; and the one here, which the first entry of the audit trail names.
    if rows.has_token(&thumbprint).await? {
        return Ok(Some("station"));
    }
    let here = rows.entry(1).await?.and_then(|first| first.particulars().remove("station"));
    Ok((here == Some(Value::String(thumbprint))).then_some("station"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cbor_schemas::{Profile, ProofLevel};
    use tokio::time::timeout;

    use super::*;
    use crate::{
        registry::{
            CertificateStatus, KeyStatus, Observation, Place, Provenance, StationScope, Succession,
            testing::{Fixture, id, key, receipt, seen, wanted},
        },
        serve::revocations::Revocations,
    };

    /// What everybody who asks the registry is told of a key.
    async fn is_mine(fixture: &Fixture, device: &DeviceId, key: &PublicKey) -> bool {
        let known = fixture.device(device).await.key(key).unwrap().clone();
        let served = Revocations::read(&fixture.registry).await.unwrap().is_registered(key);
        let list = fixture.registry.begin_list(None).await.unwrap();
        let listed = list.claims().windows(32).any(|window| window == key.x());
        assert_eq!((served, listed), (known.mine, known.mine), "{known:?}");
        // What is active is mine: the list of devices says the same in other words.
        assert_eq!(known.mine, known.status == KeyStatus::Active, "{known:?}");
        known.mine
    }

    #[tokio::test]
    async fn a_key_is_mine_with_its_certificate_and_not_by_being_proved_accepted_or_named() {
        let fixture = Fixture::new().await;
        let registry = &fixture.registry;
        let (trusted, other, accepted, rekeyed) = (id("trusted"), id("other"), id("accepted"), id("rekeyed"));
        let (first, second, third, fourth) = (key(), key(), key(), key());
        registry.observe_key(&seen(&trusted, &first, Place::Trusted, ProofLevel::Proved)).await.unwrap();
        fixture.proved(&other, &second).await.unwrap();
        fixture.commissioned(&accepted).await;
        fixture.proved(&accepted, &third).await.unwrap_err();
        registry.accept_new_key(&accepted, &third).await.unwrap();
        let (old, _) = fixture.commissioned(&rekeyed).await;
        registry.rekeyed(&rekeyed, &old, &fourth, 2).await.unwrap();
        fixture.proved(&rekeyed, &fourth).await.unwrap();
        for (device, key) in [(&trusted, &first), (&other, &second), (&accepted, &third), (&rekeyed, &fourth)] {
            assert!(!is_mine(&fixture, device, key).await, "{device}");
            let cti = fixture.begin(device, key).await.cti();
            assert!(!is_mine(&fixture, device, key).await, "{device}, begun");
            registry.issued(cti, b"signed").await.unwrap();
            assert!(!is_mine(&fixture, device, key).await, "{device}, sent");
            registry.void(cti, "the device refused it").await.unwrap();
            registry.refused(device, key).await.unwrap();
            assert!(!is_mine(&fixture, device, key).await, "{device}, refused");
            fixture.certified(device, key).await;
            assert!(is_mine(&fixture, device, key).await, "{device}, installed");
        }
        registry.verify_audit().await.unwrap();
    }

    #[tokio::test]
    async fn a_report_from_the_trusted_place_counts_until_the_device_refuses_a_certificate() {
        let fixture = Fixture::new().await;
        let registry = &fixture.registry;
        for profile in [Profile::Full, Profile::Minimal] {
            let (device, key) = (id(profile.as_str()), key());
            let report = Observation { profile, ..seen(&device, &key, Place::Trusted, ProofLevel::Unproven) };
            assert_eq!(registry.observe_key(&report).await.unwrap(), Succession::Active { revoked: vec![] });
            assert!(is_mine(&fixture, &device, &key).await);
            // A visit that comes to nothing for other reasons changes nothing of it.
            let visit = Observation {
                proof: if profile == Profile::Full { ProofLevel::Proved } else { report.proof },
                ..report
            };
            assert_eq!(registry.observe_visited(&visit).await.unwrap(), Succession::Known);
            let cti = fixture.begin(&device, &key).await.cti();
            assert!(is_mine(&fixture, &device, &key).await);
            registry.void(cti, "the device refused it").await.unwrap();
            registry.refused(&device, &key).await.unwrap();
            assert!(!is_mine(&fixture, &device, &key).await);
            // However often it is reported.
            assert_eq!(registry.observe_key(&report).await.unwrap(), Succession::Pending);
            assert!(!is_mine(&fixture, &device, &key).await);
            fixture.certified(&device, &key).await;
            assert!(is_mine(&fixture, &device, &key).await);
            registry.refused(&device, &key).await.unwrap();
            assert!(is_mine(&fixture, &device, &key).await, "what has a certificate of ours has not refused it");
        }
        // Visited first, and by that a certificate was meant.
        let (device, visited) = (id("visited"), key());
        fixture.proved(&device, &visited).await.unwrap();
        let report = seen(&device, &visited, Place::Trusted, ProofLevel::Unproven);
        assert_eq!(registry.observe_key(&report).await.unwrap(), Succession::Settled { revoked: vec![] });
        assert!(!is_mine(&fixture, &device, &visited).await);
        // A minimal one that was visited, as well.
        let (device, small) = (id("small"), key());
        let visit = seen(&device, &small, Place::Trusted, ProofLevel::Unproven);
        let visit = Observation { profile: Profile::Minimal, ..visit };
        assert_eq!(registry.observe_visited(&visit).await.unwrap(), Succession::Settled { revoked: vec![] });
        assert_eq!(registry.observe_key(&visit).await.unwrap(), Succession::Pending);
        assert!(!is_mine(&fixture, &device, &small).await);
    }

    #[tokio::test]
    async fn a_slot_that_was_emptied_by_somebody_else_has_no_certificate_of_ours_and_no_list() {
        let fixture = Fixture::new().await;
        let (registry, device) = (&fixture.registry, id("device"));
        let (key, cti) = fixture.commissioned(&device).await;
        let list = registry.begin_list(None).await.unwrap();
        registry.list_seen(&device, Some(list.version)).await.unwrap();
        // Its factory slot was empty before.
        registry.emptied(&device, &key, &[Slot::Factory]).await.unwrap();
        assert!(is_mine(&fixture, &device, &key).await);
        assert_eq!(fixture.device(&device).await.list_version, Some(list.version));
        for _ in 0..2 {
            registry.emptied(&device, &key, &[Slot::Factory, Slot::Owner]).await.unwrap();
            assert!(!is_mine(&fixture, &device, &key).await);
        }
        assert_eq!(fixture.certificate_status(&device, cti).await, CertificateStatus::Removed);
        assert_eq!(fixture.device(&device).await.list_version, None);
        let events = fixture.events(&device).await;
        assert_eq!(events.iter().filter(|event| *event == "released").count(), 1);
        // It comes back with the same key.
        assert_eq!(fixture.proved(&device, &key).await.unwrap(), Succession::Pending);
        fixture.certified(&device, &key).await;
        assert!(is_mine(&fixture, &device, &key).await);
        // What a report made active never had a certificate there.
        let (device, reported) = (id("reported"), crate::registry::testing::key());
        registry.observe_key(&seen(&device, &reported, Place::Trusted, ProofLevel::Unproven)).await.unwrap();
        registry.emptied(&device, &reported, &[Slot::Factory, Slot::Owner]).await.unwrap();
        assert!(is_mine(&fixture, &device, &reported).await);
    }

    #[tokio::test]
    async fn an_erased_device_holds_no_list() {
        let fixture = Fixture::new().await;
        let registry = &fixture.registry;
        for (name, place, proof) in [
            ("programmed", Place::Trusted, ProofLevel::Unproven),
            ("trusted", Place::Trusted, ProofLevel::Proved),
            ("accepted", Place::Elsewhere, ProofLevel::Proved),
        ] {
            let (device, new) = (id(name), key());
            fixture.commissioned(&device).await;
            let list = registry.begin_list(None).await.unwrap();
            registry.list_seen(&device, Some(list.version)).await.unwrap();
            let observed = registry.observe_key(&seen(&device, &new, place, proof)).await;
            if place == Place::Elsewhere {
                assert_eq!(fixture.device(&device).await.list_version, Some(list.version), "so far only a claim");
                observed.unwrap_err();
                registry.accept_new_key(&device, &new).await.unwrap();
            }
            assert_eq!(fixture.device(&device).await.list_version, None, "{name}");
        }
        // A device that made another key itself keeps its list.
        let device = id("rekeyed");
        let (old, _) = fixture.commissioned(&device).await;
        let list = registry.begin_list(None).await.unwrap();
        registry.list_seen(&device, Some(list.version)).await.unwrap();
        registry.rekeyed(&device, &old, &key(), 2).await.unwrap();
        assert_eq!(fixture.device(&device).await.list_version, Some(list.version));
    }

    #[tokio::test]
    async fn our_own_keys_are_no_devices_keys() {
        let fixture = Fixture::new().await;
        let registry = &fixture.registry;
        let elsewhere = key();
        registry.grant_station(&elsewhere, StationScope::Everything, 100).await.unwrap();
        let device = id("device");
        let (old, _) = fixture.commissioned(&device).await;
        for (own, whose) in [(*registry.issuer(), "issuer"), (fixture.station, "station"), (elsewhere, "station")] {
            let refused = |outcome: Result<_, Error>| match outcome {
                Err(Error::Conflict(Conflict::OwnKey { whose: it, .. })) => assert_eq!(it, whose),
                other => panic!("{other:?}"),
            };
            for place in [Place::Trusted, Place::Elsewhere] {
                for proof in [ProofLevel::Proved, ProofLevel::Unproven] {
                    for name in ["device", "another"] {
                        refused(registry.observe_key(&seen(&id(name), &own, place, proof)).await.map(drop));
                        refused(registry.observe_visited(&seen(&id(name), &own, place, proof)).await.map(drop));
                    }
                }
            }
            refused(registry.rekeyed(&device, &old, &own, 2).await.map(drop));
            refused(registry.refuse_own_key(&device, &own).await);
        }
        registry.refuse_own_key(&device, &key()).await.unwrap();
        // Nor is a device's key made a station's.
        let granted = registry.grant_station(&old, StationScope::Everything, 100).await;
        assert!(matches!(granted, Err(Error::NotRequested { .. })), "{granted:?}");
        assert_eq!(fixture.device(&device).await.keys.len(), 1);
        assert!(registry.device_by_id(&id("another")).await.unwrap().is_none());
        assert_eq!(fixture.status(&device, &old).await, KeyStatus::Active);
        assert!(fixture.events(&device).await.contains(&"key-conflict".to_owned()));
    }

    /// A registry of before called active what had refused its certificate, or waited for it.
    #[tokio::test]
    async fn a_registry_of_before_is_brought_up_to_date() {
        let mut fixture = Fixture::new().await;
        let minimal = |name: &str, key: &PublicKey| {
            let seen = seen(&id(name), key, Place::Trusted, ProofLevel::Unproven);
            Observation { profile: Profile::Minimal, ..seen }
        };
        let (reported, waits, refused, renamed) = (key(), key(), key(), key());
        fixture.commissioned(&id("installed")).await;
        fixture.commissioned(&id("revoked")).await;
        fixture.registry.revoke(&id("revoked"), "lost").await.unwrap();
        fixture
            .registry
            .observe_key(&seen(&id("reported"), &reported, Place::Trusted, ProofLevel::Unproven))
            .await
            .unwrap();
        fixture.proved(&id("waits"), &waits).await.unwrap();
        fixture.begin(&id("waits"), &waits).await;
        fixture.registry.observe_visited(&minimal("refused", &refused)).await.unwrap();
        let cti = fixture.begin(&id("refused"), &refused).await.cti();
        fixture.registry.void(cti, "the device refused it").await.unwrap();
        let (old, _) = fixture.commissioned(&id("renamed")).await;
        fixture.registry.rekeyed(&id("renamed"), &old, &renamed, 2).await.unwrap();
        for undone in [
            "ALTER TABLE keys DROP COLUMN counts_by",
            "DELETE FROM _sqlx_migrations WHERE version >= 7",
            "UPDATE keys SET status = 'active' WHERE status = 'pending'",
        ] {
            fixture.registry.database.run(undone).await;
        }
        fixture.reopen().await;
        let mut statuses = Vec::new();
        for device in fixture.registry.devices().await.unwrap() {
            let key = device.keys.last().unwrap();
            assert_eq!(key.mine, key.status == KeyStatus::Active);
            let name = device.id.as_str().rsplit('-').next().unwrap().to_owned();
            statuses.push((name, key.status.as_str(), key.counts_by.as_str()));
        }
        let expected = [
            ("installed", "active", "certificate"),
            ("refused", "pending", "certificate"),
            ("renamed", "pending", "certificate"),
            ("reported", "active", "report"),
            ("revoked", "revoked", "nothing"),
            ("waits", "pending", "certificate"),
        ];
        assert_eq!(statuses, expected.map(|(name, status, by)| (name.to_owned(), status, by)));
        // Those that wait need nobody's word to get it.
        for (name, key) in [("waits", &waits), ("renamed", &renamed)] {
            assert_eq!(fixture.proved(&id(name), key).await.unwrap(), Succession::Pending);
            fixture.certified(&id(name), key).await;
        }
    }

    /// A registry of before did not say of a key that it was given up, if it never had a certificate.
    #[tokio::test]
    async fn what_a_registry_of_before_gave_up_is_no_key_change() {
        let mut fixture = Fixture::new().await;
        let (device, given_up, active) = (id("device"), key(), id("active"));
        let (old, _) = fixture.commissioned(&device).await;
        let (kept, _) = fixture.commissioned(&active).await;
        fixture.registry.rekeyed(&device, &old, &given_up, 2).await.unwrap();
        fixture.registry.released(&device, &given_up).await.unwrap();
        fixture.proved(&active, &key()).await.unwrap_err();
        let version_7 = include_str!("rows/migrations/0007_counts_by.sql").split(';').next().unwrap();
        let undone = [
            "ALTER TABLE keys RENAME COLUMN counts_by TO since",
            version_7,
            "UPDATE keys SET counts_by = since WHERE since IN ('report', 'certificate')",
            "ALTER TABLE keys DROP COLUMN since",
            "DELETE FROM _sqlx_migrations WHERE version = 8",
        ];
        fixture.registry.database.run(&undone.join(";")).await;
        fixture.reopen().await;
        let known = fixture.device(&device).await;
        assert!(known.key(&given_up).unwrap().was_given_up() && known.key(&old).unwrap().was_ours(), "{known:?}");
        assert_eq!(fixture.proved(&device, &given_up).await.unwrap(), Succession::Pending);
        fixture.certified(&device, &given_up).await;
        let known = fixture.device(&active).await;
        assert!(known.active().unwrap().x == *kept.x() && !known.keys[1].was_ours(), "{known:?}");
    }

    #[tokio::test]
    async fn a_run_that_dies_before_the_receipt_is_finished_by_the_next_one_wherever_that_is() {
        let mut fixture = Fixture::new().await;
        let (device, new) = (id("device"), key());
        fixture.commissioned(&device).await;
        fixture.registry.observe_key(&seen(&device, &new, Place::Trusted, ProofLevel::Proved)).await.unwrap();
        fixture.reopen().await;
        assert_eq!(fixture.proved(&device, &new).await.unwrap(), Succession::Pending);
        let cti = fixture.begin(&device, &new).await.cti();
        fixture.registry.issued(cti, b"signed").await.unwrap();
        // Meanwhile somebody else claims to be that device.
        fixture.proved(&device, &key()).await.unwrap_err();
        fixture.reopen().await;
        assert_eq!(fixture.proved(&device, &new).await.unwrap(), Succession::Pending);
        let intent = fixture.registry.begin_issue(&wanted(&device, &new)).await.unwrap();
        assert!(intent.is_resumed() && intent.cti() == cti);
        fixture.registry.installed(cti, Some(&receipt(&new))).await.unwrap();
        let known = fixture.device(&device).await;
        let active = known.active().unwrap();
        assert_eq!((active.x, active.provenance), (*new.x(), Provenance::Programming));
        let pending = known.keys.iter().filter(|key| key.status == KeyStatus::Pending).count();
        assert_eq!(pending, 1, "nobody settled that one");
    }

    /// Who finds nothing to write waits for no writer, and needs no registry that can be written to.
    #[tokio::test]
    async fn what_refuses_nothing_takes_no_lock() {
        let fixture = Fixture::new().await;
        let _writer = Change::begin(&fixture.registry).await.unwrap();
        let patience = Duration::from_secs(5);
        let (device, key) = (id("device"), key());
        timeout(patience, fixture.registry.refuse_own_key(&device, &key)).await.expect("no wait").unwrap();
        let nobody = timeout(patience, fixture.registry.revoke_station("zz")).await.expect("no wait");
        assert!(matches!(nobody, Err(Error::NoStation { found: 0, .. })), "{nobody:?}");
    }
}
