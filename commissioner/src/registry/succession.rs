//! Which key of a device counts.
//!
//! | what is seen | learned in the trusted place | learned anywhere else |
//! |---|---|---|
//! | the active key | known | known |
//! | a key that is settled, and waits for its certificate | pending | pending |
//! | first key of an ID | settled | pending, until its certificate is installed |
//! | a key that it made in a session of ours, under a key that does not count | settled, older keys revoked; by its policy a key change | key change: pending, until accepted |
//! | a key that we gave up by a reset | settled | pending, until its certificate is installed |
//! | another key for a known ID | settled, older keys revoked; by its policy a key change | key change: pending, until accepted |
//! | a key that we made for the device, proved by it | settled, older keys revoked | settled, older keys revoked |
//! | a revoked key | alarm | alarm |
//! | a key of another ID, or one of our own: the issuer's, a station's | alarm | alarm |
//! | the minimal profile, where the full one was seen | alarm | alarm |
//! | a second device, or a second key, in one `run` | alarm | |
//! | two devices with one ID at the same time | alarm | alarm |
//!
//! *Settled* is not active yet: a key that is proved, or accepted by the user, or named by a rekeyed device, becomes active with
//! its certificate. Only a report, where no certificate is meant, makes it active at once: `registry/mine.rs` has that rule.
//!
//! Otherwise a stranger's device could revoke a real one by claiming its ID. An alarm changes nothing but the audit trail.
//!
//! Each device has a [`Policy`](super::Policy) for when it loses its key. By default that is what the table says. With `keep` and `derive`,
//! and with `restore` if there is a copy of the key, a new key is a key change in the trusted place too.

use cbor_schemas::{DeviceId, ProofLevel};
use protocol::key::PublicKey;

use super::{
    change::Change,
    conflict::Conflict,
    error::Error,
    event::Event,
    handle::Registry,
    judge::{self, Facts, Judgement},
    mine::own_key,
    observation::{Observation, Place, Revocation, Succession},
    record::CountsBy,
    rows::Rows,
};

impl Registry {
    /// Takes note of a key. See the [module](self) for the rules.
    ///
    /// # Errors
    /// [`Error::Conflict`] for key changes and alarms. They are on record by then, and a changed key is pending.
    pub async fn observe_key(&self, seen: &Observation) -> Result<Succession, Error> {
        let is_report = seen.proof == ProofLevel::Unproven;
        self.observe(seen, if is_report { CountsBy::Report } else { CountsBy::Certificate }, None).await
    }

    /// The same for a report that was seen `at` another time than now, Unix seconds.
    ///
    /// # Errors
    /// Those of [`Registry::observe_key`].
    pub async fn observe_key_at(&self, seen: &Observation, at: u64) -> Result<Succession, Error> {
        self.observe(seen, CountsBy::Report, Some(at)).await
    }

    /// The same at a visit that is to give the device a certificate, even if it cannot prove its key.
    ///
    /// # Errors
    /// Those of [`Registry::observe_key`].
    pub async fn observe_visited(&self, seen: &Observation) -> Result<Succession, Error> {
        self.observe(seen, CountsBy::Certificate, None).await
    }

    /// The same for a key that the device named in a session of ours as the one that it makes, and then proved, where the key of
    /// that session does not count. It is a key change like any other, and on record as what it is: see [`Key::was_ours`](super::Key::was_ours).
    ///
    /// # Errors
    /// Those of [`Registry::observe_key`].
    pub async fn observe_successor(&self, seen: &Observation) -> Result<Succession, Error> {
        self.observe(seen, CountsBy::Word, None).await
    }

    async fn observe(&self, seen: &Observation, by: CountsBy, at: Option<u64>) -> Result<Succession, Error> {
        let mut change = Change::begin(self).await?;
        let known = change.rows.device(&seen.device).await?;
        let facts = self.facts(&mut change.rows, &seen.device, &seen.key).await?;
        let times = [at.unwrap_or(change.now), change.now];
        let outcome = judge::observe(known, &facts, seen, by, times)?;
        change.conclude(seen, outcome).await
    }

    /// What is on record of a key that a device shows, or names.
    async fn facts(&self, rows: &mut Rows, device: &DeviceId, key: &PublicKey) -> Result<Facts, Error> {
        Ok(Facts {
            holder: rows.holder(key).await?,
            own: own_key(rows, &self.issuer, key).await?,
            is_made_here: rows.has_copy(device, key).await?,
        })
    }

    /// Puts on record that `seen` showed up in a run that is about `first`. Nothing else follows from it.
    ///
    /// # Errors
    /// Always: [`Conflict::Second`], or why it is not on record.
    pub async fn refuse_second(&self, first: &Observation, seen: &Observation) -> Result<Succession, Error> {
        let conflict = Conflict::Second {
            device: seen.device.to_string(),
            key: seen.key.thumbprint().to_string(),
            first: first.device.to_string(),
            first_key: first.key.thumbprint().to_string(),
        };
        Change::begin(self).await?.refuse(&first.device, &seen.key, conflict).await
    }

    /// Puts on record that devices at different `places` claim one ID at the same time. Nothing else follows from it.
    ///
    /// # Errors
    /// Always: [`Conflict::Twins`], or why it is not on record.
    pub async fn refuse_twins(&self, device: &DeviceId, places: Vec<String>) -> Result<(), Error> {
        let conflict = Conflict::Twins { device: device.to_string(), places };
        let mut change = Change::begin(self).await?;
        change.record_once(device, &Event::SeenTwice { conflict: conflict.to_string() }).await?;
        change.commit().await?;
        Err(conflict.into())
    }

    /// The user vouches for a pending key that the device proved: it is the device's key now, and all others of the device are
    /// revoked. It becomes active with its certificate.
    pub async fn accept_new_key(&self, device: &DeviceId, key: &PublicKey) -> Result<Succession, Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_with(device, key).await?;
        let succession = judge::accept(&mut draft, key)?;
        change.keep(&draft).await?;
        Ok(succession)
    }

    /// Writes down that the device is about to be told to make a new key.
    pub async fn begin_rekey(&self, device: &DeviceId, old: &PublicKey) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let mut draft = change.draft_with(device, old).await?;
        draft.note(Event::RekeyBegun { key: old.thumbprint().to_string() });
        change.keep(&draft).await
    }

    /// The device said, under its own key `old`, that its key is `new` from now on. The new key becomes active with its
    /// certificate, which it gets when the device has proved it.
    pub async fn rekeyed(
        &self,
        device: &DeviceId,
        old: &PublicKey,
        new: &PublicKey,
        generation: u32,
    ) -> Result<Succession, Error> {
        let mut change = Change::begin(self).await?;
        let known = change.rows.device(device).await?;
        let unknown = || Error::UnknownKey { device: *device, key: old.thumbprint().to_string() };
        let known = known.filter(|known| known.settled().is_some_and(|key| key.x == *old.x())).ok_or_else(unknown)?;
        let facts = self.facts(&mut change.rows, device, new).await?;
        let seen = Observation {
            device: *device,
            key: *new,
            generation,
            profile: known.profile,
            place: Place::Elsewhere,
            proof: ProofLevel::Unproven,
        };
        let outcome = judge::rekeyed(known, &facts, &seen, change.now)?;
        change.conclude(&seen, outcome).await
    }

    /// Revokes the device's active key; if it has none, the pending ones.
    pub async fn revoke(&self, device: &DeviceId, reason: &str) -> Result<Revocation, Error> {
        let mut change = Change::begin(self).await?;
        let draft = change.draft(device).await?;
        let mut draft = draft.ok_or_else(|| Error::UnknownDevice(device.to_string()))?;
        let revocation = judge::revoke(&mut draft, reason)?;
        if revocation != Revocation::AlreadyRevoked {
            change.save(&draft).await?;
            change.unblock_signing(device).await?;
            change.commit().await?;
        }
        Ok(revocation)
    }
}

impl Change {
    /// Ends a change by what follows from an observation.
    async fn conclude(mut self, seen: &Observation, outcome: Judgement) -> Result<Succession, Error> {
        if let Some(draft) = &outcome.draft {
            self.save(draft).await?;
        }
        match outcome.succession {
            Ok(succession) => {
                self.commit().await?;
                Ok(succession)
            }
            Err(conflict) => self.refuse(&seen.device, &seen.key, conflict).await,
        }
    }
}

#[cfg(test)]
mod tests;
