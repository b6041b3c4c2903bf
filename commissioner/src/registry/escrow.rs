//! What is to happen when a device loses its key, and the keys that were made here to be given back to it.
//!
//! ```text
//! begin_injection     the sealed copy, durable before the device is asked to take the key
//! rekeyed             the device has it: the key is active, the policy `restore`   (or injection_refused)
//! ...                 the device is erased, and shows up with a key of its own: pending, by the policy
//! begin_restore       durable before the device is claimed under that key
//! key_restored        the device has its key again: the one in between is revoked
//! ```

use cbor_schemas::DeviceId;
use protocol::key::PublicKey;

use super::{
    change::Change,
    draft::{Draft, public_key},
    entry::AuditEntry,
    error::Error,
    event::Event,
    handle::Registry,
    record::{Device, KeyStatus, Policy},
};

impl Registry {
    /// Says what is to happen when a device shows up without its key.
    ///
    /// # Errors
    /// [`Error::NoCopy`] for [`Policy::Restore`] without a copy of the active key.
    pub async fn set_policy(&self, device: &DeviceId, policy: Policy) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let draft = change.draft(device).await?;
        let mut draft = draft.ok_or_else(|| Error::UnknownDevice(device.to_string()))?;
        choose_policy(&mut draft, policy)?;
        change.keep(&draft).await
    }

    /// Keeps the sealed copy of `new`, which the device with the active key `old` is about to be asked to take. Copies of
    /// keys that it was asked to take before, and did not, go.
    pub async fn begin_injection(
        &self,
        device: &DeviceId,
        old: &PublicKey,
        new: &PublicKey,
        sealed: &[u8],
    ) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_with(device, old).await?;
        change.rows.remove_copies_not_taken(device).await?;
        change.rows.put_copy(device, new, sealed).await?;
        let [key, successor] = [old, new].map(|key| key.thumbprint().to_string());
        draft.note(Event::InjectionBegun { key, successor });
        change.keep(&draft).await
    }

    /// The device does not take `new`: its copy goes.
    pub async fn injection_refused(&self, device: &DeviceId, new: &PublicKey) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        change.rows.remove_copy(new).await?;
        change.record(Some(device), &Event::InjectionRefused { key: new.thumbprint().to_string() }).await?;
        change.commit().await
    }

    /// The sealed copy of the device's active key.
    ///
    /// # Errors
    /// [`Error::NoCopy`], also for a device without an active key: a revoked key does not come back.
    pub async fn copy_of_active(&self, device: &Device) -> Result<(PublicKey, Vec<u8>), Error> {
        let no_copy = || Error::NoCopy(device.id.to_string());
        let active = device.settled().ok_or_else(no_copy)?;
        let copy = self.read().await?.rows.copy(&active.x).await?;
        Ok((public_key(&active.x)?, copy.ok_or_else(no_copy)?))
    }

    /// Writes down that the device, which has the key `instead` now, is about to be claimed to get `key` back.
    pub async fn begin_restore(&self, device: &DeviceId, key: &PublicKey, instead: &PublicKey) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_with(device, key).await?;
        let [key, instead] = [draft.key(key)?, draft.key(instead)?].map(|key| key.thumbprint.clone());
        draft.note_once(Event::RestoreBegun { key, instead });
        change.keep(&draft).await
    }

    /// Whether [`Registry::begin_restore`] was called for a device with the key `instead`: then it may have our anchor.
    pub async fn is_restoring(&self, device: &DeviceId, instead: &PublicKey) -> Result<bool, Error> {
        let history = self.history(device).await?;
        Ok(between(&history).contains(&instead.thumbprint().to_string()))
    }

    /// The device has its active key `key` again. What it had in between is revoked.
    pub async fn key_restored(&self, device: &DeviceId, key: &PublicKey) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_with(device, key).await?;
        let history = change.rows.history(device).await?;
        restored(&mut draft, key, &between(&history));
        change.keep(&draft).await
    }
}

/// What the user wants to happen when the device loses its key.
///
/// # Errors
/// [`Error::NoCopy`] for [`Policy::Restore`] without a copy of the settled key.
fn choose_policy(draft: &mut Draft, policy: Policy) -> Result<(), Error> {
    if policy == Policy::Restore && !draft.device.settled().is_some_and(|key| key.escrowed) {
        return Err(Error::NoCopy(draft.device.id.to_string()));
    }
    draft.set_policy(policy);
    Ok(())
}

/// The device has `key` again: the pending ones of those that it had in between are out, and it was erased, and claimed again.
fn restored(draft: &mut Draft, key: &PublicKey, between: &[String]) {
    let pending = draft.device.keys.iter().filter(|key| key.status == KeyStatus::Pending);
    let pending = pending.filter(|key| between.contains(&key.thumbprint));
    let (out, instead): (Vec<_>, Vec<_>) = pending.map(|key| (key.x, key.thumbprint.clone())).unzip();
    for x in &out {
        draft.revoke(x, "the device has its former key again");
    }
    if !out.is_empty() {
        draft.hold_list(None);
        draft.note(Event::Restored { key: key.thumbprint().to_string(), instead });
    }
}

/// The keys that a device had when it was to be given its own again, by thumbprint.
fn between(history: &[AuditEntry]) -> Vec<String> {
    let begun = history.iter().filter(|entry| entry.event == "restore-begun");
    begun.filter_map(|entry| Some(entry.particulars().get("instead")?.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use cbor_schemas::{KeyOrigin, ProofLevel};

    use super::*;
    use crate::registry::{
        Conflict, CountsBy, Key, Place, Succession,
        testing::{Fixture, NOON, device_of, id, key, noted, on_record, receipt, seen, wanted},
    };

    const SEALED: &[u8] = b"sealed";

    /// A device that took a key that was made here.
    async fn escrowed(fixture: &Fixture, device: &DeviceId) -> PublicKey {
        let (old, _) = fixture.commissioned(device).await;
        let new = key();
        fixture.registry.begin_injection(device, &old, &new, SEALED).await.unwrap();
        fixture.registry.rekeyed(device, &old, &new, 2).await.unwrap();
        assert_eq!(fixture.proved(device, &new).await.unwrap(), Succession::Pending);
        fixture.certified(device, &new).await;
        new
    }

    /// What comes of another key, where devices are programmed and elsewhere.
    async fn changes(fixture: &Fixture, device: &DeviceId) -> [Result<Succession, Conflict>; 2] {
        let mut outcomes = Vec::new();
        for place in [Place::Elsewhere, Place::Trusted] {
            let outcome = fixture.registry.observe_key(&seen(device, &key(), place, ProofLevel::Proved)).await;
            outcomes.push(outcome.map_err(|error| match error {
                Error::Conflict(conflict) => conflict,
                other => panic!("{other}"),
            }));
        }
        outcomes.try_into().unwrap()
    }

    #[tokio::test]
    async fn a_policy_says_whether_a_new_key_counts_at_once() {
        for policy in [Policy::Rotate, Policy::Keep, Policy::Derive] {
            let fixture = Fixture::new().await;
            let device = id("device");
            let (active, _) = fixture.commissioned(&device).await;
            assert_eq!(fixture.device(&device).await.policy, Policy::Rotate);
            fixture.registry.set_policy(&device, policy).await.unwrap();
            fixture.registry.set_policy(&device, policy).await.unwrap();
            let [elsewhere, trusted] = changes(&fixture, &device).await;
            assert!(matches!(elsewhere, Err(Conflict::KeyChange { policy: it, .. }) if it == policy), "{elsewhere:?}");
            match policy {
                Policy::Rotate => assert!(matches!(trusted, Ok(Succession::Settled { .. })), "{trusted:?}"),
                _ => assert_eq!(fixture.device(&device).await.active().unwrap().x, *active.x(), "{policy}"),
            }
            let set = fixture.events(&device).await.iter().filter(|event| *event == "policy-set").count();
            assert_eq!(set, usize::from(policy != Policy::Rotate), "the same again is no event");
            // A device without an active key has none to keep.
            fixture.registry.revoke(&device, "lost").await.unwrap();
            let [_, trusted] = changes(&fixture, &device).await;
            assert!(matches!(trusted, Ok(Succession::Settled { .. })), "{policy}: {trusted:?}");
        }
    }

    #[tokio::test]
    async fn a_key_that_is_kept_waits_for_its_device() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let kept = escrowed(&fixture, &device).await;
        let known = fixture.device(&device).await;
        assert!(known.policy == Policy::Restore && known.key(&kept).unwrap().escrowed);
        assert_eq!(fixture.registry.copy_of_active(&known).await.unwrap(), (kept, SEALED.to_vec()));
        for outcome in changes(&fixture, &device).await {
            let conflict = outcome.unwrap_err();
            assert!(conflict.to_string().contains("commissioner restore"), "{conflict}");
        }
        let instead = key();
        fixture.proved(&device, &instead).await.unwrap_err();
        assert!(!fixture.registry.is_restoring(&device, &instead).await.unwrap());
        for _ in 0..2 {
            fixture.registry.begin_restore(&device, &kept, &instead).await.unwrap();
        }
        assert!(fixture.registry.is_restoring(&device, &instead).await.unwrap());
        for _ in 0..2 {
            fixture.registry.key_restored(&device, &kept).await.unwrap();
        }
        assert_eq!(fixture.status(&device, &kept).await, KeyStatus::Active);
        assert_eq!(fixture.status(&device, &instead).await, KeyStatus::Revoked);
        let pending = fixture.device(&device).await.keys.iter().filter(|key| key.status == KeyStatus::Pending).count();
        assert_eq!(pending, 2, "nobody had begun to restore over those");
        let events = fixture.events(&device).await;
        for event in ["restore-begun", "restored"] {
            assert_eq!(events.iter().filter(|it| *it == event).count(), 1, "{event}");
        }
    }

    #[tokio::test]
    async fn a_kept_key_may_be_given_up_and_then_stays_out() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let kept = escrowed(&fixture, &device).await;
        let new = key();
        fixture.proved(&device, &new).await.unwrap_err();
        fixture.registry.accept_new_key(&device, &new).await.unwrap();
        assert_eq!(fixture.status(&device, &kept).await, KeyStatus::Revoked);
        let known = fixture.device(&device).await;
        assert!(matches!(fixture.registry.copy_of_active(&known).await, Err(Error::NoCopy(_))));
        assert!(matches!(fixture.proved(&device, &kept).await, Err(Error::Conflict(Conflict::RevokedKey { .. }))));
        assert!(matches!(fixture.registry.set_policy(&device, Policy::Restore).await, Err(Error::NoCopy(_))));
        // No copy, so nothing to wait for.
        let [_, trusted] = changes(&fixture, &device).await;
        assert!(matches!(trusted, Ok(Succession::Settled { .. })), "{trusted:?}");
    }

    #[tokio::test]
    async fn an_answer_that_got_lost_is_made_good_by_the_proof() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let (old, _) = fixture.commissioned(&device).await;
        let new = key();
        fixture.registry.begin_injection(&device, &old, &new, SEALED).await.unwrap();
        // Who merely reports it proves nothing, and neither does another device.
        let report = seen(&device, &new, Place::Elsewhere, ProofLevel::Unproven);
        assert!(fixture.registry.observe_key(&report).await.is_err());
        assert_eq!(fixture.status(&device, &old).await, KeyStatus::Active);
        let fixture = Fixture::new().await;
        let (old, _) = fixture.commissioned(&device).await;
        fixture.registry.begin_injection(&device, &old, &new, SEALED).await.unwrap();
        assert_eq!(fixture.proved(&id("other"), &new).await.unwrap(), Succession::Pending);
        let fixture = Fixture::new().await;
        let (old, _) = fixture.commissioned(&device).await;
        fixture.registry.begin_injection(&device, &old, &new, SEALED).await.unwrap();
        let succession = fixture.proved(&device, &new).await.unwrap();
        assert_eq!(succession, Succession::Settled { revoked: vec![old.thumbprint()] });
        assert_eq!(fixture.device(&device).await.policy, Policy::Restore);
    }

    #[tokio::test]
    async fn copies_of_keys_that_were_not_taken_go() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let (old, _) = fixture.commissioned(&device).await;
        let (refused, forgotten, taken) = (key(), key(), key());
        let registry = &fixture.registry;
        registry.begin_injection(&device, &old, &refused, SEALED).await.unwrap();
        registry.injection_refused(&device, &refused).await.unwrap();
        registry.begin_injection(&device, &old, &forgotten, SEALED).await.unwrap();
        registry.begin_injection(&device, &old, &taken, SEALED).await.unwrap();
        let mut reading = registry.read().await.unwrap();
        for (key, is_kept) in [(&refused, false), (&forgotten, false), (&taken, true)] {
            assert_eq!(reading.rows.has_copy(&device, key).await.unwrap(), is_kept);
        }
        drop(reading);
        let error = registry.begin_injection(&device, &key(), &key(), SEALED).await.unwrap_err();
        assert!(matches!(error, Error::UnknownKey { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_key_that_the_device_makes_itself_ends_what_held_for_the_old_one() {
        for policy in [Policy::Restore, Policy::Derive, Policy::Keep] {
            let fixture = Fixture::new().await;
            let device = id("device");
            let old = escrowed(&fixture, &device).await;
            fixture.registry.set_policy(&device, policy).await.unwrap();
            fixture.registry.rekeyed(&device, &old, &key(), 3).await.unwrap();
            let expected = if policy == Policy::Keep { Policy::Keep } else { Policy::Rotate };
            assert_eq!(fixture.device(&device).await.policy, expected);
        }
    }

    #[tokio::test]
    async fn a_key_from_the_hardware_is_known_as_such() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let derived = key();
        fixture.proved(&device, &derived).await.unwrap();
        let first = crate::registry::NewCertificate { key_origin: KeyOrigin::Derived, ..wanted(&device, &derived) };
        let intent = fixture.registry.begin_issue(&first).await.unwrap();
        assert_eq!(fixture.device(&device).await.policy, Policy::Derive);
        // What the user says later stays.
        fixture.registry.issued(intent.cti(), b"signed").await.unwrap();
        fixture.registry.installed(intent.cti(), Some(&receipt(&derived))).await.unwrap();
        fixture.registry.set_policy(&device, Policy::Rotate).await.unwrap();
        let again = crate::registry::NewCertificate { key_origin: KeyOrigin::Derived, ..wanted(&device, &derived) };
        fixture.registry.begin_issue(&again).await.unwrap();
        assert_eq!(fixture.device(&device).await.policy, Policy::Rotate);
    }

    #[test]
    fn what_a_device_had_in_between_is_out_and_nothing_else() {
        let [kept, between, other] = [key(), key(), key()];
        let pending = |key| on_record(key, KeyStatus::Pending, CountsBy::Nothing);
        let active = on_record(&kept, KeyStatus::Active, CountsBy::Certificate);
        let mut device = device_of(&id("device"), vec![active, pending(&between), pending(&other)]);
        device.list_version = Some(7);
        for (names, statuses, said) in [
            (vec![], [KeyStatus::Pending; 2], &[][..]),
            (
                vec![between.thumbprint().to_string(), kept.thumbprint().to_string()],
                [KeyStatus::Revoked, KeyStatus::Pending],
                &["key-revoked", "list-held", "restored"],
            ),
        ] {
            let mut draft = Draft::of(device.clone(), NOON);
            restored(&mut draft, &kept, &names);
            assert_eq!([draft.device.keys[1].status, draft.device.keys[2].status], statuses);
            assert_eq!(noted(&draft), said);
            assert_eq!(draft.device.keys[0].status, KeyStatus::Active);
        }
    }

    #[test]
    fn a_policy_that_needs_a_copy_is_refused_without_one() {
        for (escrowed, settled) in [(true, true), (true, false), (false, true)] {
            let by = if settled { CountsBy::Certificate } else { CountsBy::Nothing };
            let record = Key { escrowed, ..on_record(&key(), KeyStatus::Pending, by) };
            let device = device_of(&id("device"), vec![record]);
            let mut draft = Draft::of(device.clone(), NOON);
            assert_eq!(choose_policy(&mut draft, Policy::Restore).is_ok(), escrowed && settled);
            assert_eq!(draft.is_blank(), !(escrowed && settled));
            choose_policy(&mut Draft::of(device, NOON), Policy::Derive).unwrap();
        }
    }
}
