//! What a key that is seen means for its device. All of it is about records: what is on record goes in, and what is to be
//! written comes out.

use cbor_schemas::{DeviceId, Profile, ProofLevel};
use protocol::key::PublicKey;

use super::{
    conflict::Conflict,
    draft::{Draft, thumbprint_of},
    error::Error,
    observation::{Observation, Place, Revocation, Succession},
    record::{CountsBy, Device, Key, KeyStatus, Policy, Provenance, Revoked},
};

/// What is on record of a key that is seen, beside the device that showed it.
pub(super) struct Facts {
    /// The ID under which the key is known.
    pub(super) holder: Option<DeviceId>,
    /// Whose key of ours it is.
    pub(super) own: Option<&'static str>,
    /// Whether it was made here for this device.
    pub(super) is_made_here: bool,
}

impl Facts {
    /// Whether the key was made here for this device, which proved that it has it.
    fn is_ours(&self, seen: &Observation) -> bool {
        self.is_made_here && seen.proof == ProofLevel::Proved
    }
}

/// What follows from an observation.
pub(super) struct Judgement {
    /// What is to be written. None after an alarm, which changes nothing but the audit trail.
    pub(super) draft: Option<Draft>,
    /// What it means, or the conflict that is to be on record as well.
    pub(super) succession: Result<Succession, Conflict>,
}

/// What follows from a key that was seen `at` a time, and counts `by` something once it is settled.
pub(super) fn observe(
    known: Option<Device>,
    facts: &Facts,
    seen: &Observation,
    by: CountsBy,
    [at, now]: [u64; 2],
) -> Result<Judgement, Error> {
    let verdict = match judge(known.as_ref(), facts, seen) {
        Ok(verdict) => verdict,
        Err(alarm) => return Ok(Judgement { draft: None, succession: Err(alarm) }),
    };
    // Once it was proved, a certificate was meant for it.
    let was_visited =
        known.as_ref().and_then(|device| device.key(&seen.key)).is_some_and(|key| key.proof == ProofLevel::Proved);
    let mut draft = match known {
        Some(device) => Draft::of(device, now),
        None => Draft::new(seen.device, seen.profile, at, now),
    };
    note_device(&mut draft, seen, at);
    note_key(&mut draft, seen, seen.provenance(), at);
    let x = seen.key.x();
    let succession = match verdict {
        Verdict::Known => Ok(Succession::Known),
        Verdict::Await => Ok(Succession::Pending),
        Verdict::Settle => {
            let because =
                if facts.is_ours(seen) { "it was made here for the device" } else { "learned in the trusted place" };
            let by = if was_visited || by == CountsBy::Word { CountsBy::Certificate } else { by };
            let revoked = draft.settle(x, by, because)?;
            if !revoked.is_empty() {
                draft.hold_list(None);
            }
            if draft.before().is_some() && facts.is_ours(seen) {
                draft.set_policy(Policy::Restore);
            }
            Ok(draft.succession(x, revoked))
        }
        Verdict::Change(conflict) => {
            // A key that nobody vouches for waits for the user's word.
            if let Some(key) = draft.key_mut(x).filter(|key| by == CountsBy::Word && key.counts_by == CountsBy::Nothing)
            {
                key.counts_by = by;
            }
            Err(conflict)
        }
    };
    Ok(Judgement { draft: Some(draft), succession })
}

/// What follows from a key that a device names, under the key that is settled, as its key from now on.
pub(super) fn rekeyed(known: Device, facts: &Facts, seen: &Observation, now: u64) -> Result<Judgement, Error> {
    if let Err(alarm) = judge(Some(&known), facts, seen) {
        return Ok(Judgement { draft: None, succession: Err(alarm) });
    }
    let mut draft = Draft::of(known, now);
    // The old key vouches for the new one; but it was not learned in the trusted place.
    note_key(&mut draft, seen, Provenance::Proved, now);
    let because = "named by the device under its former key";
    let revoked = draft.settle(seen.key.x(), CountsBy::Certificate, because)?;
    match draft.device.policy {
        _ if facts.is_made_here => draft.set_policy(Policy::Restore),
        // Of a key that the device made there is no copy, and it does not come from the hardware.
        Policy::Restore | Policy::Derive => draft.set_policy(Policy::Rotate),
        Policy::Rotate | Policy::Keep => {}
    }
    Ok(Judgement { draft: Some(draft), succession: Ok(Succession::Settled { revoked }) })
}

/// What follows from the user's word for a key that the device proved.
///
/// # Errors
/// [`Error::Conflict`] for a revoked key, [`Error::NotIssuable`] for one that is not proved.
pub(super) fn accept(draft: &mut Draft, key: &PublicKey) -> Result<Succession, Error> {
    let known = draft.key(key)?;
    if known.status == KeyStatus::Active {
        return Ok(Succession::Known);
    }
    if known.is_settled() {
        return Ok(Succession::Pending);
    }
    let thumbprint = known.thumbprint.clone();
    if let Some(Revoked { at, reason }) = known.revoked.clone() {
        return Err(Conflict::RevokedKey { device: draft.device.id.to_string(), key: thumbprint, at, reason }.into());
    }
    if known.proof != ProofLevel::Proved {
        let reason = "it was only reported; commission the device over a link, so that it can prove the key";
        return Err(Error::NotIssuable { key: thumbprint, reason });
    }
    let revoked = draft.settle(key.x(), CountsBy::Certificate, "accepted by the user")?;
    draft.hold_list(None);
    Ok(draft.succession(key.x(), revoked))
}

/// What follows from a device being revoked: its settled key is out, or else those that are pending.
pub(super) fn revoke(draft: &mut Draft, reason: &str) -> Result<Revocation, Error> {
    let out: Vec<_> = match draft.device.settled() {
        Some(settled) => vec![settled.x],
        None => draft.device.keys.iter().filter(|key| key.status == KeyStatus::Pending).map(|key| key.x).collect(),
    };
    if out.is_empty() {
        return Ok(Revocation::AlreadyRevoked);
    }
    for x in &out {
        draft.revoke(x, reason);
    }
    Ok(Revocation::Revoked(out.iter().map(thumbprint_of).collect::<Result<_, _>>()?))
}

/// What the rules say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing new.
    Known,
    /// It is the device's key from now on.
    Settle,
    /// The key may count once it is certified.
    Await,
    /// The key does not count until somebody vouches for it.
    Change(Conflict),
}

/// The table of `succession.rs`.
///
/// # Errors
/// An alarm: something is wrong.
fn judge(known: Option<&Device>, facts: &Facts, seen: &Observation) -> Result<Verdict, Conflict> {
    let is_ours = facts.is_ours(seen);
    if let Some(whose) = facts.own {
        return Err(Conflict::own_key(&seen.device, &seen.key, whose));
    }
    let (device, thumbprint) = (seen.device.to_string(), seen.key.thumbprint().to_string());
    if let Some(other) = facts.holder.filter(|holder| *holder != seen.device) {
        return Err(Conflict::SharedKey { device, key: thumbprint, other: other.to_string() });
    }
    let Some(known) = known else {
        return Ok(if seen.place == Place::Trusted { Verdict::Settle } else { Verdict::Await });
    };
    let key = known.key(&seen.key);
    if let Some(revoked) = key.and_then(|key| key.revoked.clone()) {
        let (at, reason) = (revoked.at, revoked.reason);
        return Err(Conflict::RevokedKey { device, key: thumbprint, at, reason });
    }
    if seen.profile == Profile::Minimal && known.profile == Profile::Full {
        return Err(Conflict::Downgrade { device, key: thumbprint });
    }
    if key.is_some_and(|key| key.status == KeyStatus::Active) {
        return Ok(Verdict::Known);
    }
    if key.is_some_and(Key::is_settled) {
        return Ok(Verdict::Await);
    }
    if is_ours || (seen.place == Place::Trusted && !holds_on(known)) {
        return Ok(Verdict::Settle);
    }
    Ok(match others(known, seen.key.x()) {
        older if older.is_empty() || key.is_some_and(Key::was_given_up) => Verdict::Await,
        older => {
            let policy = if holds_on(known) { known.policy } else { Policy::Rotate };
            Verdict::Change(Conflict::KeyChange { device, key: thumbprint, older, policy })
        }
    })
}

/// Whether the device's key stays until the user gives it up, even where devices are programmed.
fn holds_on(device: &Device) -> bool {
    device.settled().is_some_and(|settled| match device.policy {
        Policy::Rotate => false,
        Policy::Keep | Policy::Derive => true,
        Policy::Restore => settled.escrowed,
    })
}

/// Whether a pending key may become active by being certified: it is settled, or the only one its device ever had, or was
/// ours before we gave the device up.
pub(super) fn may_become_active(device: &Device, key: &Key) -> bool {
    key.is_settled() || others(device, &key.x).is_empty() || key.was_given_up()
}

fn others(device: &Device, x: &[u8; 32]) -> Vec<(String, KeyStatus)> {
    let others = device.keys.iter().filter(|key| key.x != *x);
    others.map(|key| (key.thumbprint.clone(), key.status)).collect()
}

/// Takes note that the device was seen. Its profile only ever grows: the opposite is an alarm.
fn note_device(draft: &mut Draft, seen: &Observation, at: u64) {
    let Device { first_seen, last_seen, .. } = draft.device;
    let [first_seen, last_seen] = seen_between(first_seen, last_seen, at, draft.now);
    draft.device.first_seen = first_seen;
    draft.device.last_seen = last_seen;
    draft.device.profile = seen.profile;
}

/// Adds the key as pending, or takes note that it was seen, perhaps better vouched for than before.
/// What was seen before something else is on record, and does not undo it.
fn note_key(draft: &mut Draft, seen: &Observation, from: Provenance, at: u64) {
    let now = draft.now;
    let Some(known) = draft.key_mut(seen.key.x()) else {
        return draft.add_key(&seen.key, seen.generation, from, seen.proof, [at, at]);
    };
    let [first, last] = seen_between(known.first_seen, known.last_seen, at, now);
    (known.first_seen, known.last_seen) = (first, last);
    if last == at {
        known.generation = seen.generation;
    }
    if known.proof != ProofLevel::Proved {
        known.proof = seen.proof;
    }
    draft.raise(seen.key.x(), from);
}

/// The first and last time of what is seen `at` a time. What is seen now is the last, whatever the clock said before.
fn seen_between(first: u64, last: u64, at: u64, now: u64) -> [u64; 2] {
    [first.min(at), if at == now { at } else { last.max(at) }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::{NOON, device_of, id, key, noted, on_record, seen};

    const STRANGER: Facts = Facts { holder: None, own: None, is_made_here: false };

    fn observed(known: &Device, facts: &Facts, seen: &Observation, by: CountsBy) -> Judgement {
        observe(Some(known.clone()), facts, seen, by, [NOON, NOON]).unwrap()
    }

    /// A device whose key is active, with a copy of it or without, by each policy: whether another key counts at once.
    #[test]
    fn a_policy_holds_on_to_the_key_where_devices_are_programmed() {
        let (device, old, new) = (id("device"), key(), key());
        for (policy, escrowed, counts) in [
            (Policy::Rotate, false, true),
            (Policy::Rotate, true, true),
            (Policy::Keep, false, false),
            (Policy::Derive, false, false),
            (Policy::Restore, false, true),
            (Policy::Restore, true, false),
        ] {
            let mut known = device_of(&device, vec![on_record(&old, KeyStatus::Active, CountsBy::Certificate)]);
            (known.policy, known.keys[0].escrowed) = (policy, escrowed);
            let seen = |place| seen(&device, &new, place, ProofLevel::Proved);
            let trusted = observed(&known, &STRANGER, &seen(Place::Trusted), CountsBy::Certificate);
            assert_eq!(trusted.succession.is_ok(), counts, "{policy} {escrowed}");
            let elsewhere = observed(&known, &STRANGER, &seen(Place::Elsewhere), CountsBy::Certificate);
            let told = if policy == Policy::Restore && !escrowed { Policy::Rotate } else { policy };
            assert!(
                matches!(elsewhere.succession, Err(Conflict::KeyChange { policy, .. }) if policy == told),
                "{policy} {escrowed}"
            );
            // Once the key is out there is nothing to hold on to.
            known.keys[0] = on_record(&old, KeyStatus::Revoked, CountsBy::Certificate);
            let trusted = observed(&known, &STRANGER, &seen(Place::Trusted), CountsBy::Certificate);
            assert!(trusted.succession.is_ok(), "{policy} {escrowed}");
        }
    }

    #[test]
    fn an_alarm_changes_nothing() {
        let (device, known_key, other) = (id("device"), key(), key());
        let known = device_of(&device, vec![on_record(&known_key, KeyStatus::Active, CountsBy::Certificate)]);
        let minimal = Observation {
            profile: Profile::Minimal,
            ..seen(&device, &known_key, Place::Trusted, ProofLevel::Unproven)
        };
        let new = seen(&device, &other, Place::Trusted, ProofLevel::Proved);
        for (facts, seen) in [
            (Facts { own: Some("station"), ..STRANGER }, new),
            (Facts { holder: Some(id("other")), ..STRANGER }, new),
            (Facts { is_made_here: true, own: Some("issuer"), ..STRANGER }, new),
            (STRANGER, minimal),
        ] {
            let outcome = observed(&known, &facts, &seen, CountsBy::Certificate);
            assert!(outcome.draft.is_none() && outcome.succession.is_err(), "{:?}", outcome.succession);
            let outcome = observe(None, &facts, &seen, CountsBy::Certificate, [NOON, NOON]).unwrap();
            assert_eq!(outcome.draft.is_none(), facts.own.or(facts.holder.map(|_| "")).is_some());
        }
    }

    #[test]
    fn a_key_that_was_made_here_counts_once_it_is_proved() {
        let (device, old, new) = (id("device"), key(), key());
        let known = device_of(&device, vec![on_record(&old, KeyStatus::Active, CountsBy::Certificate)]);
        let facts = Facts { is_made_here: true, ..STRANGER };
        for (proof, counts) in [(ProofLevel::Proved, true), (ProofLevel::Unproven, false)] {
            let seen = seen(&device, &new, Place::Elsewhere, proof);
            let outcome = observed(&known, &facts, &seen, CountsBy::Certificate);
            assert_eq!(outcome.succession.is_ok(), counts, "{proof:?}");
            let draft = outcome.draft.unwrap();
            assert_eq!(draft.device.policy == Policy::Restore, counts, "{proof:?}");
            assert_eq!(draft.device.keys[0].status == KeyStatus::Revoked, counts, "{proof:?}");
        }
    }

    #[test]
    fn what_a_device_names_in_a_session_waits_for_the_users_word() {
        let (device, old, new) = (id("device"), key(), key());
        let known = device_of(&device, vec![on_record(&old, KeyStatus::Revoked, CountsBy::Certificate)]);
        let seen = seen(&device, &new, Place::Elsewhere, ProofLevel::Proved);
        for (by, counts_by) in [(CountsBy::Word, CountsBy::Word), (CountsBy::Certificate, CountsBy::Nothing)] {
            let outcome = observed(&known, &STRANGER, &seen, by);
            assert!(matches!(outcome.succession, Err(Conflict::KeyChange { .. })), "{by}");
            let mut draft = outcome.draft.unwrap();
            assert_eq!(draft.device.keys[1].counts_by, counts_by);
            assert_eq!(noted(&draft), ["key-seen"]);
            assert!(matches!(accept(&mut draft, &new), Ok(Succession::Settled { .. })));
        }
    }
}
