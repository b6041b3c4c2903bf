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
    Error, Registry,
    audit::{Change, Event},
    escrow, lookup,
    mine::own_key,
    record::{CountsBy, Device, Key, KeyStatus, Policy, Provenance},
    sql,
};
use crate::{clock::rfc3339, progress::short};

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

/// How an observation contradicts the registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Another key than before. It is kept as pending.
    #[error(
        "{}; {}",
        self.what_happened(),
        advice(*policy)
    )]
    KeyChange {
        /// The device's ID.
        device: String,
        /// The new key's thumbprint.
        key: String,
        /// The keys known before, and their status; oldest first.
        older: Vec<(String, KeyStatus)>,
        /// What is to happen to this device's keys.
        policy: Policy,
    },
    /// A key that is out shows up again.
    #[error(
        "{device} uses key {}, revoked on {} ({reason}); find out who has this device",
        short(key), rfc3339(*at)
    )]
    RevokedKey {
        /// The device's ID.
        device: String,
        /// The key's thumbprint.
        key: String,
        /// Since when, Unix seconds.
        at: u64,
        /// Why.
        reason: String,
    },
    /// Two IDs, one key.
    #[error("{device} uses key {}, which is the key of {other}; one of them is a copy: erase both", short(key))]
    SharedKey {
        /// The device that showed the key now.
        device: String,
        /// The key's thumbprint.
        key: String,
        /// The device known by it.
        other: String,
    },
    /// A key of ours, at a device.
    #[error(
        "{device} claims the key {} of this {whose}, which no device has; do not trust what answers or was written there: if that \
         device can prove the key, the {whose}'s key is not yours alone",
        short(key)
    )]
    OwnKey {
        /// The device that showed the key.
        device: String,
        /// The key's thumbprint.
        key: String,
        /// `issuer` or `station`.
        whose: &'static str,
    },
    /// A device that could prove its key now says it cannot.
    #[error(
        "{device} claims the minimal profile, but was seen with the full one before; do not trust what answers, look at the device"
    )]
    Downgrade {
        /// The device's ID.
        device: String,
        /// The key's thumbprint.
        key: String,
    },
    /// One ID, two devices.
    #[error(
        "{device} answers at more than one place at once ({}); at most one of them is the device: find it, and erase the others",
        places.join(", ")
    )]
    Twins {
        /// The ID.
        device: String,
        /// Where.
        places: Vec<String>,
    },
    /// Two registries disagree.
    #[error(
        "{device} has the active key {} here, and {} in the registry that was imported; that one is pending now: commission the \
         device, with --accept-new-key if that is the one it has",
        short(active),
        short(key)
    )]
    TwoActive {
        /// The device's ID.
        device: String,
        /// The other registry's key.
        key: String,
        /// Ours.
        active: String,
    },
    /// Two devices, or two keys, where one was expected.
    #[error(
        "this run is about {first} with key {}, but {device} with key {} showed up in it too; nothing was changed for that \
         one: run one board at a time, and look for what else prints report lines",
        short(first_key),
        short(key)
    )]
    Second {
        /// The device that showed up second; it may be the same one with another key.
        device: String,
        /// Its key's thumbprint.
        key: String,
        /// The device that the run is about.
        first: String,
        /// Its key's thumbprint.
        first_key: String,
    },
}

impl Conflict {
    /// A key change in words, without what to do: that depends on where it is found out. Other conflicts say both.
    pub fn what_happened(&self) -> String {
        match self {
            Self::KeyChange { device, key, older, .. } => {
                format!("{device} has a new key {}, not the {} known before", short(key), newest(older))
            }
            other => other.to_string(),
        }
    }
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

fn advice(policy: Policy) -> &'static str {
    match policy {
        Policy::Rotate => {
            "if you erased the device yourself, `commissioner commission --accept-new-key` takes the new one (or --trusted \
             where you program devices)"
        }
        Policy::Keep => {
            "by its policy it keeps its key; if you erased the device yourself, `commissioner commission --accept-new-key` \
             takes the new one"
        }
        Policy::Restore => {
            "a copy of that is kept: `commissioner restore` puts it back, and `commissioner commission --accept-new-key` gives \
             it up"
        }
        Policy::Derive => {
            "which comes from its hardware and should never change; find out why it did, and only then take the new one by \
             `commissioner commission --accept-new-key`"
        }
    }
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

/// The key that counted, or else the newest one, and how many others there are.
fn newest(keys: &[(String, KeyStatus)]) -> String {
    let Some((thumbprint, status)) =
        keys.iter().find(|(_, status)| *status == KeyStatus::Active).or_else(|| keys.last())
    else {
        return "one".to_owned();
    };
    let key = format!("{} ({status})", short(thumbprint));
    match keys.len() {
        1 => key,
        2 => format!("{key} or the other one"),
        all => format!("{key} or the {} other ones", all - 1),
    }
}

impl Conflict {
    pub(super) fn own_key(device: &DeviceId, key: &PublicKey, whose: &'static str) -> Self {
        Self::OwnKey { device: device.to_string(), key: key.thumbprint().to_string(), whose }
    }
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
            .bind(sql::signed(self.now))
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
        .bind(sql::signed(first))
        .bind(sql::signed(last))
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
        .bind(sql::signed(first))
        .bind(sql::signed(last))
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
        .bind(sql::signed(at))
        .execute(&mut *self.tx)
        .await?;
        self.record(Some(&seen.device), &Event::KeySeen { key, provenance }).await
    }
}

pub(super) fn better(one: Provenance, other: Provenance) -> Provenance {
    let rank = |provenance| match provenance {
        Provenance::Programming => 2,
        Provenance::Proved => 1,
        Provenance::Reported => 0,
    };
    if rank(other) > rank(one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{
        CertificateStatus,
        testing::{Fixture, NOON, id, key, receipt, seen, wanted},
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
            let change = format!(
                "{device} has a new key {}, not the {} (active){others} known before; ",
                name(&new),
                name(&first)
            );
            assert!(told.starts_with(&change), "{number}: {told}");
            assert!(told.contains("`commissioner commission --accept-new-key`"), "{told}");
        }
        fixture.registry.revoke(&device, "lost").await.unwrap();
        let older = fixture.device(&device).await.keys;
        let told = fixture.proved(&device, &key()).await.unwrap_err().to_string();
        assert!(
            told.contains(&format!("not the {} (pending) or the 3 other ones", short(&older[3].thumbprint))),
            "{told}"
        );
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
        assert_eq!(
            (known.last_seen, known.keys[0].last_seen, known.keys[0].generation),
            (NOON - 2_000, NOON - 2_000, 4)
        );
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
        assert_eq!(
            fixture.registry.observe_key(&minimal(&small)).await.unwrap(),
            Succession::Active { revoked: vec![] }
        );
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
}
