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
//! Each device has a [`Policy`] for when it loses its key. By default that is what the table says. With `keep` and `derive`,
//! and with `restore` if there is a copy of the key, a new key is a key change in the trusted place too.

use cbor_schemas::{DeviceId, DeviceInfo, Profile, ProofLevel};
use protocol::key::{PublicKey, Thumbprint};

use super::{
    change::Change,
    conflict::Conflict,
    error::Error,
    escrow,
    event::Event,
    handle::Registry,
    lookup,
    mine::own_key,
    record::{CountsBy, Device, Key, KeyStatus, Policy, Provenance, better},
    rows::columns,
};

/// A key seen in connection with a device ID.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// The ID, as the device claims it.
    pub device: DeviceId,
    /// The key.
    pub key: PublicKey,
    /// The generation, as the device claims it.
    pub generation: u32,
    /// The profile, as the device claims it.
    pub profile: Profile,
    /// Where it was seen.
    pub place: Place,
    /// [`ProofLevel::Proved`] after EDHOC with this key and a verified OSCORE response.
    pub proof: ProofLevel,
}

impl Observation {
    /// What a [`DeviceInfo`] says, about `key`: the one that is in it, or the one that EDHOC proved.
    pub fn new(info: &DeviceInfo<'_>, key: PublicKey, place: Place, proof: ProofLevel) -> Self {
        Self { device: info.device, key, generation: info.generation, profile: info.profile, place, proof }
    }

    fn provenance(&self) -> Provenance {
        match (self.place, self.proof) {
            (Place::Trusted, _) => Provenance::Programming,
            (Place::Elsewhere, ProofLevel::Proved) => Provenance::Proved,
            (Place::Elsewhere, ProofLevel::Unproven) => Provenance::Reported,
        }
    }
}

/// Where something was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where devices are programmed: what is learned here is believed.
    Trusted,
    /// Anywhere else: what is learned here is only claimed.
    Elsewhere,
}

/// What an observation means for the device's keys. It is durable by the time the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Succession {
    /// The active key.
    Known,
    /// It does not count yet: it becomes active with its certificate.
    Pending,
    /// It is the device's key now, and becomes active with its certificate; these were revoked for it.
    Settled {
        /// The older keys.
        revoked: Vec<Thumbprint>,
    },
    /// The key became active now; these were revoked for it.
    Active {
        /// The older keys.
        revoked: Vec<Thumbprint>,
    },
}

/// What revoking did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// These keys are out now.
    Revoked(Vec<Thumbprint>),
    /// No key of the device counted any more.
    AlreadyRevoked,
}

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
    /// that session does not count. It is a key change like any other, and on record as what it is: see [`Key::was_ours`].
    ///
    /// # Errors
    /// Those of [`Registry::observe_key`].
    pub async fn observe_successor(&self, seen: &Observation) -> Result<Succession, Error> {
        self.observe(seen, CountsBy::Word, None).await
    }

    async fn observe(&self, seen: &Observation, by: CountsBy, at: Option<u64>) -> Result<Succession, Error> {
        let mut change = Change::begin(self).await?;
        let at = at.unwrap_or(change.now);
        let device = lookup::load(&mut change.tx, &seen.device).await?;
        let holder = lookup::holder(&mut change.tx, &seen.key).await?;
        let is_ours =
            seen.proof == ProofLevel::Proved && escrow::is_kept(&mut change.tx, &seen.device, &seen.key).await?;
        let own = own_key(&mut change.tx, &self.issuer, &seen.key).await?;
        let verdict = judge(device.as_ref(), holder, own, seen, is_ours);
        if !matches!(verdict, Verdict::Alarm(_)) {
            change.note_device(seen, device.as_ref(), at).await?;
            let known = device.as_ref().and_then(|device| device.key(&seen.key));
            change.note_key(seen, seen.provenance(), known, at).await?;
        }
        if let (CountsBy::Word, Verdict::Change(_)) = (by, &verdict) {
            change.wants_word(&seen.key).await?;
        }
        let succession = match verdict {
            Verdict::Known => Succession::Known,
            Verdict::Await => Succession::Pending,
            Verdict::Settle => {
                let because = if is_ours { "it was made here for the device" } else { "learned in the trusted place" };
                // Once it was proved, a certificate was meant for it.
                let was_visited = device.as_ref().and_then(|device| device.key(&seen.key)).is_some_and(is_proved);
                let by = if was_visited || by == CountsBy::Word { CountsBy::Certificate } else { by };
                let revoked = change.settle(&seen.device, &seen.key, by, because).await?;
                if !revoked.is_empty() {
                    change.holds_no_list(&seen.device).await?;
                }
                if let Some(device) = device.filter(|_| is_ours) {
                    change.set_policy(&device, Policy::Restore).await?;
                }
                change.succession(&seen.device, &seen.key, revoked).await?
            }
            Verdict::Alarm(conflict) | Verdict::Change(conflict) => {
                return change.refuse(&seen.device, &seen.key, conflict).await;
            }
        };
        change.commit().await?;
        Ok(succession)
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
        let known = change.known_key(device, key).await?;
        if known.status == KeyStatus::Active {
            return Ok(Succession::Known);
        }
        if known.is_settled() {
            return Ok(Succession::Pending);
        }
        if let Some(revoked) = known.revoked {
            let (at, reason) = (revoked.at, revoked.reason);
            return Err(Conflict::RevokedKey { device: device.to_string(), key: known.thumbprint, at, reason }.into());
        }
        if known.proof != ProofLevel::Proved {
            let reason = "it was only reported; commission the device over a link, so that it can prove the key";
            return Err(Error::NotIssuable { key: known.thumbprint, reason });
        }
        let revoked = change.settle(device, key, CountsBy::Certificate, "accepted by the user").await?;
        change.holds_no_list(device).await?;
        let succession = change.succession(device, key, revoked).await?;
        change.commit().await?;
        Ok(succession)
    }

    /// Writes down that the device is about to be told to make a new key.
    pub async fn begin_rekey(&self, device: &DeviceId, old: &PublicKey) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let key = change.known_key(device, old).await?.thumbprint;
        change.record(Some(device), &Event::RekeyBegun { key }).await?;
        change.commit().await
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
        let known = lookup::load(&mut change.tx, device).await?;
        let unknown = || Error::UnknownKey { device: *device, key: old.thumbprint().to_string() };
        let known = known.filter(|known| known.settled().is_some_and(|key| key.x == *old.x())).ok_or_else(unknown)?;
        let seen = Observation {
            device: *device,
            key: *new,
            generation,
            profile: known.profile,
            place: Place::Elsewhere,
            proof: ProofLevel::Unproven,
        };
        let holder = lookup::holder(&mut change.tx, new).await?;
        let own = own_key(&mut change.tx, &self.issuer, new).await?;
        if let Verdict::Alarm(conflict) = judge(Some(&known), holder, own, &seen, false) {
            return change.refuse(device, new, conflict).await;
        }
        // The old key vouches for the new one; but it was not learned in the trusted place.
        let now = change.now;
        change.note_key(&seen, Provenance::Proved, known.key(new), now).await?;
        let because = "named by the device under its former key";
        let revoked = change.settle(device, new, CountsBy::Certificate, because).await?;
        let is_ours = escrow::is_kept(&mut change.tx, device, new).await?;
        match known.policy {
            _ if is_ours => change.set_policy(&known, Policy::Restore).await?,
            // Of a key that the device made there is no copy, and it does not come from the hardware.
            Policy::Restore | Policy::Derive => change.set_policy(&known, Policy::Rotate).await?,
            Policy::Rotate | Policy::Keep => {}
        }
        change.commit().await?;
        Ok(Succession::Settled { revoked })
    }

    /// Revokes the device's active key; if it has none, the pending ones.
    pub async fn revoke(&self, device: &DeviceId, reason: &str) -> Result<Revocation, Error> {
        let mut change = Change::begin(self).await?;
        let known = lookup::load(&mut change.tx, device).await?;
        let known = known.ok_or_else(|| Error::UnknownDevice(device.to_string()))?;
        let out = match known.settled() {
            Some(settled) => vec![settled],
            None => known.keys.iter().filter(|key| key.status == KeyStatus::Pending).collect(),
        };
        if out.is_empty() {
            return Ok(Revocation::AlreadyRevoked);
        }
        let mut revoked = Vec::new();
        for key in out {
            revoked.push(change.revoke_key(device, key, reason).await?);
        }
        change.unblock_signing(device).await?;
        change.commit().await?;
        Ok(Revocation::Revoked(revoked))
    }
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
    /// Something is wrong.
    Alarm(Conflict),
}

/// The table at the top of this file. `holder` is the ID under which the key is known.
/// `own`: whose key of ours it is. `is_ours`: the key was made here for this device, which proved that it has it.
fn judge(
    known: Option<&Device>,
    holder: Option<DeviceId>,
    own: Option<&'static str>,
    seen: &Observation,
    is_ours: bool,
) -> Verdict {
    if let Some(whose) = own {
        return Verdict::Alarm(Conflict::own_key(&seen.device, &seen.key, whose));
    }
    let (device, thumbprint) = (seen.device.to_string(), seen.key.thumbprint().to_string());
    if let Some(other) = holder.filter(|holder| *holder != seen.device) {
        return Verdict::Alarm(Conflict::SharedKey { device, key: thumbprint, other: other.to_string() });
    }
    let Some(known) = known else {
        return if seen.place == Place::Trusted { Verdict::Settle } else { Verdict::Await };
    };
    let key = known.key(&seen.key);
    if let Some(revoked) = key.and_then(|key| key.revoked.clone()) {
        let (at, reason) = (revoked.at, revoked.reason);
        return Verdict::Alarm(Conflict::RevokedKey { device, key: thumbprint, at, reason });
    }
    if seen.profile == Profile::Minimal && known.profile == Profile::Full {
        return Verdict::Alarm(Conflict::Downgrade { device, key: thumbprint });
    }
    if key.is_some_and(|key| key.status == KeyStatus::Active) {
        return Verdict::Known;
    }
    if key.is_some_and(Key::is_settled) {
        return Verdict::Await;
    }
    if is_ours || (seen.place == Place::Trusted && !holds_on(known)) {
        return Verdict::Settle;
    }
    match others(known, seen.key.x()) {
        older if older.is_empty() || key.is_some_and(Key::was_given_up) => Verdict::Await,
        older => {
            let policy = if holds_on(known) { known.policy } else { Policy::Rotate };
            Verdict::Change(Conflict::KeyChange { device, key: thumbprint, older, policy })
        }
    }
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

fn is_proved(key: &Key) -> bool {
    key.proof == ProofLevel::Proved
}

fn others(device: &Device, x: &[u8; 32]) -> Vec<(String, KeyStatus)> {
    let others = device.keys.iter().filter(|key| key.x != *x);
    others.map(|key| (key.thumbprint.clone(), key.status)).collect()
}

impl Change {
    /// What became of a key that was settled.
    async fn succession(
        &mut self,
        device: &DeviceId,
        key: &PublicKey,
        revoked: Vec<Thumbprint>,
    ) -> Result<Succession, Error> {
        Ok(match self.known_key(device, key).await?.status {
            KeyStatus::Active => Succession::Active { revoked },
            _ => Succession::Settled { revoked },
        })
    }

    /// A key that nobody vouches for waits for the user's word.
    async fn wants_word(&mut self, key: &PublicKey) -> Result<(), Error> {
        sqlx::query("UPDATE keys SET counts_by = 'word' WHERE x = $1 AND counts_by = 'nothing'")
            .bind(key.x().to_vec())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// A key that must be one of the device's.
    pub(super) async fn known_key(&mut self, device: &DeviceId, key: &PublicKey) -> Result<Key, Error> {
        let known = lookup::load(&mut self.tx, device).await?;
        let unknown = || Error::UnknownKey { device: *device, key: key.thumbprint().to_string() };
        known.and_then(|known| known.key(key).cloned()).ok_or_else(unknown)
    }

    /// Ends a change with a conflict: on record, and an error.
    pub(super) async fn refuse(
        mut self,
        device: &DeviceId,
        key: &PublicKey,
        conflict: Conflict,
    ) -> Result<Succession, Error> {
        let event = Event::KeyConflict { key: key.thumbprint().to_string(), conflict: conflict.to_string() };
        self.record_once(device, &event).await?;
        self.commit().await?;
        Err(conflict.into())
    }

    pub(super) async fn revoke_key(&mut self, device: &DeviceId, key: &Key, reason: &str) -> Result<Thumbprint, Error> {
        sqlx::query("UPDATE keys SET status = 'revoked', revoked_at = $1, revoked_reason = $2 WHERE x = $3")
            .bind(columns::signed(self.now))
            .bind(reason)
            .bind(key.x.to_vec())
            .execute(&mut *self.tx)
            .await?;
        sqlx::query(
            "UPDATE certificates SET status = 'revoked' WHERE x = $1 AND status IN ('intended', 'issued', 'installed')",
        )
        .bind(key.x.to_vec())
        .execute(&mut *self.tx)
        .await?;
        let event = Event::KeyRevoked { key: key.thumbprint.clone(), reason: reason.to_owned() };
        self.record(Some(device), &event).await?;
        Ok(PublicKey::from_x(&key.x).map_err(|_| Error::Corrupt("x"))?.thumbprint())
    }

    /// Adds the device, or takes note that it was seen. Its profile only ever grows: the opposite was an alarm before.
    async fn note_device(&mut self, seen: &Observation, known: Option<&Device>, at: u64) -> Result<(), Error> {
        let [first, last] = known.map_or([at, at], |known| self.seen_between(known.first_seen, known.last_seen, at));
        sqlx::query(
            "INSERT INTO devices (device, profile, first_seen, last_seen) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (device) DO UPDATE SET profile = excluded.profile, first_seen = excluded.first_seen, \
             last_seen = excluded.last_seen",
        )
        .bind(seen.device.as_str())
        .bind(seen.profile.as_str())
        .bind(columns::signed(first))
        .bind(columns::signed(last))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// The first and last time of what is seen `at` a time. What is seen now is the last, whatever the clock said before.
    fn seen_between(&self, first: u64, last: u64, at: u64) -> [u64; 2] {
        [first.min(at), if at == self.now { at } else { last.max(at) }]
    }

    /// Adds the key as pending, or takes note that it was seen, perhaps better vouched for than before.
    /// What was seen before something else is on record, and does not undo it.
    async fn note_key(
        &mut self,
        seen: &Observation,
        from: Provenance,
        known: Option<&Key>,
        at: u64,
    ) -> Result<(), Error> {
        let key = seen.key.thumbprint().to_string();
        let Some(known) = known else {
            return self.add_key(seen, from.as_str(), key, at).await;
        };
        let [first, last] = self.seen_between(known.first_seen, known.last_seen, at);
        let generation = if last == at { seen.generation } else { known.generation };
        let provenance = better(known.provenance, from);
        let proof = if known.proof == ProofLevel::Proved { known.proof } else { seen.proof };
        sqlx::query(
            "UPDATE keys SET first_seen = $1, last_seen = $2, generation = $3, provenance = $4, proof = $5 WHERE x = $6",
        )
        .bind(columns::signed(first))
        .bind(columns::signed(last))
        .bind(i64::from(generation))
        .bind(provenance.as_str())
        .bind(proof.as_str())
        .bind(known.x.to_vec())
        .execute(&mut *self.tx)
        .await?;
        if provenance != known.provenance {
            let event = Event::KeyRaised { key, provenance: provenance.as_str() };
            self.record(Some(&seen.device), &event).await?;
        }
        Ok(())
    }

    async fn add_key(
        &mut self,
        seen: &Observation,
        provenance: &'static str,
        key: String,
        at: u64,
    ) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO keys \
             (x, thumbprint, device, ordinal, status, provenance, proof, generation, first_seen, last_seen) \
             VALUES ($1, $2, $3, (SELECT count(*) FROM keys WHERE device = $3), 'pending', $4, $5, $6, $7, $7)",
        )
        .bind(seen.key.x().to_vec())
        .bind(key.clone())
        .bind(seen.device.as_str())
        .bind(provenance)
        .bind(seen.proof.as_str())
        .bind(i64::from(seen.generation))
        .bind(columns::signed(at))
        .execute(&mut *self.tx)
        .await?;
        self.record(Some(&seen.device), &Event::KeySeen { key, provenance }).await
    }
}

#[cfg(test)]
mod tests;
