//! Merging what another state directory of the same issuer knows: that of another station, or a newer one than the backup
//! that was put back.
//!
//! | in either of the two | in both afterwards |
//! |---|---|
//! | a key is revoked | it is revoked; nothing un-revokes it |
//! | a device or a key is unknown here | as it is there |
//! | a key is settled there, and the device has no settled key here | settled, and active if its certificate is installed or it counts by a report; not if its certificates there are known here as removed |
//! | one key is settled here, another one there, and neither knows of the other's end | ours stays, theirs is pending: a conflict |
//! | a key is active here and was given up there | pending |
//! | a key that is not settled was given up, or came from a key of ours | so it is, if nobody vouches for it here |
//! | one key under two IDs, or a key of our own | left out: a conflict |
//! | provenance, proof, profile, first and last sight | the better, the full one, the earliest and the latest |
//! | policy | ours, if we have one |
//! | nickname | ours, if we have one; left out and told if it reads like another device's nickname, ID or key here |
//! | signed lists | all of them; the newest counts |
//! | histories | both; ours stays one chain, and names the head of the other |
//!
//! All of it is one transaction. What is signed is verified; the rest is believed, for whoever holds the export is believed
//! to be the issuer's own.

use std::io::BufRead;

use cbor_schemas::{DeviceCertificateClaims, DeviceId, DeviceListClaims, KeyOrigin, Kind, Profile, ProofLevel, Sign1};
use protocol::key::PublicKey;
use serde::Serialize;

use super::{
    change::Change,
    conflict::Conflict,
    entry::{AuditEntry, BEFORE_FIRST},
    error::Error,
    event::Event,
    export_lines::{CertificateLine, FORMAT, KeyLine, Line, Lines, word},
    handle::Registry,
    history::is_known,
    lookup::{self, Nicknames},
    mine::own_key,
    naming,
    nickname::Nickname,
    record::{CertificateStatus, CountsBy, Cti, Device, Key, KeyStatus, Policy, Provenance, Slot, better},
    rows::columns,
};
use crate::{certificate, clock::unix_seconds, text};

impl Theirs {
    fn is_settled(&self) -> bool {
        self.status != KeyStatus::Revoked && self.counts_by.is_settled()
    }
}

/// A key as the other registry has it.
struct Theirs {
    key: PublicKey,
    generation: u32,
    status: KeyStatus,
    counts_by: CountsBy,
    provenance: Provenance,
    proof: ProofLevel,
    first_seen: u64,
    last_seen: u64,
    /// When, and why.
    revoked: Option<(u64, String)>,
    certificates: Vec<Signed>,
}

/// A certificate that our issuer signed about a key.
struct Signed {
    cti: Cti,
    slot: Slot,
    status: CertificateStatus,
    issued_at: u64,
    key_origin: KeyOrigin,
    proof: ProofLevel,
    object: Vec<u8>,
}

/// A device as the other registry has it.
struct TheirDevice {
    id: DeviceId,
    profile: Profile,
    nickname: Option<String>,
    policy: Policy,
    list_version: Option<u64>,
    keys: Vec<Theirs>,
}

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

impl Registry {
    /// Merges an export with history, all of it or nothing. Conflicts are left as they are here, and told.
    ///
    /// # Errors
    /// [`Error::OtherRegistry`]; [`Error::NotImportable`] with the line.
    pub async fn import(&self, lines: impl BufRead) -> Result<Imported, Error> {
        let mut import = Import {
            registry: self,
            change: Change::begin(self).await?,
            outcome: Imported::default(),
            newest_list: 0,
            nicknames: Vec::new(),
        };
        import.read(Lines { input: lines, number: 0, records: 0 }).await?;
        let Import { mut change, outcome, newest_list, .. } = import;
        change.list_is_known(newest_list).await?;
        change.commit().await?;
        Ok(outcome)
    }
}

struct Import<'r> {
    registry: &'r Registry,
    change: Change,
    outcome: Imported,
    newest_list: u64,
    /// Nicknames of devices that have none here.
    nicknames: Vec<(DeviceId, String)>,
}

/// The other chain, as far as it was read.
struct Chain {
    entries: u64,
    head: String,
}

impl Import<'_> {
    async fn read<R: BufRead>(&mut self, mut lines: Lines<R>) -> Result<(), Error> {
        let Ok(Some(Line::Registry { format: FORMAT, issuer, entries, head })) = lines.next() else {
            return Err(
                lines.bad("it is no export with history; `commissioner export --format json --history` makes one")
            );
        };
        if issuer != hex::encode(self.registry.issuer.x()) {
            return Err(Error::OtherRegistry(issuer));
        }
        let mut chain = Chain { entries: 0, head: BEFORE_FIRST.to_owned() };
        let mut device: Option<TheirDevice> = None;
        loop {
            match lines.next()? {
                Some(Line::Key(line)) => {
                    let (line, key) = self.parse(*line).map_err(|what| lines.bad(what))?;
                    match &mut device {
                        Some(device) if device.id == line.id => device.keys.push(key),
                        _ => {
                            let before = device.replace(TheirDevice { keys: vec![key], ..line });
                            self.merge(before).await?;
                        }
                    }
                }
                Some(Line::Entry(entry)) => {
                    self.merge(device.take()).await?;
                    chain.follow(&entry).map_err(|what| lines.bad(what))?;
                    self.keep(&entry).await?;
                }
                Some(Line::List { object }) => {
                    self.merge(device.take()).await?;
                    self.take_list(&object).await?.map_err(|what| lines.bad(what))?;
                }
                Some(Line::End { lines: count }) if count + 1 == lines.records => break,
                Some(_) => return Err(lines.bad("it is out of place")),
                None => return Err(lines.bad("it is missing: the export was cut off")),
            }
        }
        self.merge(device.take()).await?;
        if lines.next()?.is_some() {
            return Err(lines.bad("there is more behind the end"));
        }
        if (chain.entries, &chain.head) != (entries, &head) {
            return Err(lines.bad("the history before it is not the one that the first line names"));
        }
        self.merge_nicknames().await?;
        if self.outcome.has_news() {
            let event = Event::Imported { head, entries, added: self.outcome.entries };
            self.change.record(None, &event).await?;
        }
        Ok(())
    }

    /// What a line says, with all that is signed in it verified.
    fn parse(&self, line: KeyLine) -> Result<(TheirDevice, Theirs), String> {
        let id: DeviceId = line.device.parse().map_err(|_| "device is no device ID")?;
        let mut x = [0; 32];
        hex::decode_to_slice(&line.x, &mut x).map_err(|_| "x is not 32 bytes in hex")?;
        let key = PublicKey::from_x(&x).map_err(|_| "x is no key")?;
        let mut certificates = Vec::new();
        for object in &line.signed {
            let object = hex::decode(object).map_err(|_| "a certificate is not in hex")?;
            certificates.push(self.certificate(object, &id, &key, &line.certificates)?);
        }
        let time = |text: &str| {
            unix_seconds(text)
                .ok_or_else(|| format!("{:?} is not a time, such as 2026-11-30T07:00:00Z (RFC 3339)", text::line(text)))
        };
        let revoked = match &line.revoked_at {
            Some(at) => Some((time(at)?, line.revoked_reason.clone().unwrap_or_default())),
            None => None,
        };
        let theirs = Theirs {
            key,
            generation: line.generation,
            status: word(&line.status, "status")?,
            counts_by: line.counts_by()?,
            provenance: word(&line.provenance, "provenance")?,
            proof: word(&line.proof, "proof")?,
            first_seen: time(&line.first_seen)?,
            last_seen: time(&line.last_seen)?,
            revoked,
            certificates,
        };
        if (theirs.status == KeyStatus::Revoked) != theirs.revoked.is_some() {
            return Err("status and revoked_at contradict each other".to_owned());
        }
        let device = TheirDevice {
            id,
            profile: word(&line.profile, "profile")?,
            nickname: line.nickname,
            policy: word(&line.policy, "policy")?,
            list_version: line.list_version,
            keys: Vec::new(),
        };
        Ok((device, theirs))
    }

    fn certificate(
        &self,
        object: Vec<u8>,
        device: &DeviceId,
        key: &PublicKey,
        said: &[CertificateLine],
    ) -> Result<Signed, String> {
        let claims = certificate::check(&object, &self.registry.issuer, device, key).map_err(|flaw| {
            format!("what is signed is not a device certificate (COSE_Sign1) of this issuer about this key: {flaw}")
        })?;
        let cti = Cti(claims.cti);
        let said = said.iter().find(|said| said.cti == cti.to_string()).ok_or("nothing is said of a certificate")?;
        let DeviceCertificateClaims { issued_at, key_origin, proof, .. } = claims;
        let (slot, status) = (word(&said.slot, "slot")?, word(&said.status, "status of a certificate")?);
        Ok(Signed { cti, slot, status, issued_at, key_origin, proof, object })
    }

    /// Keeps an entry that is in neither of the histories here.
    async fn keep(&mut self, entry: &AuditEntry) -> Result<(), Error> {
        if is_known(&mut self.change.tx, &entry.hash).await? {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO imported (hash, seq, time, device, event, payload, previous) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(entry.hash.clone())
        .bind(columns::signed(entry.seq))
        .bind(columns::signed(entry.time))
        .bind(entry.device.clone())
        .bind(entry.event.clone())
        .bind(entry.payload.clone())
        .bind(entry.previous.clone())
        .execute(&mut *self.change.tx)
        .await?;
        self.outcome.entries += 1;
        Ok(())
    }

    /// Takes a list that our issuer signed, over a head that is in one of the histories.
    async fn take_list(&mut self, object: &str) -> Result<Result<(), String>, Error> {
        let refused = |what: &str| Ok(Err(what.to_owned()));
        let Ok(object) = hex::decode(object) else { return refused("a list is not in hex") };
        let Ok(signed) = Sign1::decode_as(Kind::DeviceList, &object) else {
            return refused("what is signed is not a device list (COSE_Sign1)");
        };
        if protocol::sign1::verify(&self.registry.issuer, &signed).is_err() {
            return refused("our issuer did not sign a list");
        }
        let Ok(claims) = DeviceListClaims::decode(signed.payload) else {
            return refused("the claims of a list cannot be read; it may be a newer commissioner's");
        };
        let tx = &mut self.change.tx;
        if let Some(head) = claims.audit_head
            && !is_known(tx, &hex::encode(head)).await?
        {
            return refused("the history is not the one that a signed list names");
        }
        let inserted = sqlx::query(
            "INSERT INTO lists (version, mode, keys, claims, object) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (version) DO NOTHING",
        )
        .bind(columns::signed(claims.version))
        .bind(claims.mode.as_str())
        .bind(columns::signed(claims.keys.len() as u64))
        .bind(signed.payload.to_vec())
        .bind(object.clone())
        .execute(&mut **tx)
        .await?;
        self.outcome.lists += inserted.rows_affected();
        self.newest_list = self.newest_list.max(claims.version);
        Ok(Ok(()))
    }

    /// Merges a device, all of whose keys are known by now.
    async fn merge(&mut self, device: Option<TheirDevice>) -> Result<(), Error> {
        let Some(device) = device else { return Ok(()) };
        let known = lookup::load(&mut self.change.tx, &device.id).await?;
        self.merge_record(&device, known.as_ref()).await?;
        for theirs in &device.keys {
            if let Some(whose) = own_key(&mut self.change.tx, &self.registry.issuer, &theirs.key).await? {
                let conflict = Conflict::own_key(&device.id, &theirs.key, whose);
                self.refuse(&device.id, &theirs.key, conflict).await?;
                continue;
            }
            let holder = lookup::holder(&mut self.change.tx, &theirs.key).await?;
            if let Some(other) = holder.filter(|holder| *holder != device.id) {
                let conflict = Conflict::SharedKey {
                    device: device.id.to_string(),
                    key: theirs.key.thumbprint().to_string(),
                    other: other.to_string(),
                };
                self.refuse(&device.id, &theirs.key, conflict).await?;
                continue;
            }
            let ours = known.as_ref().and_then(|known| known.key(&theirs.key));
            self.merge_key(&device.id, theirs, ours).await?;
            self.merge_certificates(&device.id, theirs, ours).await?;
            if let Some(ours) = ours.filter(|ours| ours.is_settled()) {
                self.release(&device.id, theirs, ours).await?;
            }
        }
        self.merge_active(&device).await
    }

    async fn refuse(&mut self, device: &DeviceId, key: &PublicKey, conflict: Conflict) -> Result<(), Error> {
        let event = Event::KeyConflict { key: key.thumbprint().to_string(), conflict: conflict.to_string() };
        self.change.record_once(device, &event).await?;
        self.outcome.conflicts.push(conflict.to_string());
        Ok(())
    }

    async fn merge_record(&mut self, device: &TheirDevice, known: Option<&Device>) -> Result<(), Error> {
        let first_seen = device.keys.iter().map(|key| key.first_seen).min().unwrap_or_default();
        let last_seen = device.keys.iter().map(|key| key.last_seen).max().unwrap_or_default();
        let (profile, first_seen, last, held) = match known {
            None => (device.profile, first_seen, last_seen, device.list_version),
            Some(known) => (
                if known.profile == Profile::Full { known.profile } else { device.profile },
                known.first_seen.min(first_seen),
                known.last_seen.max(last_seen),
                if last_seen > known.last_seen { device.list_version } else { known.list_version },
            ),
        };
        let policy = known.map_or(device.policy, |known| known.policy);
        sqlx::query(
            "INSERT INTO devices (device, profile, first_seen, last_seen, list_version, policy) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (device) DO UPDATE SET profile = excluded.profile, \
             first_seen = excluded.first_seen, last_seen = excluded.last_seen, list_version = excluded.list_version",
        )
        .bind(device.id.as_str())
        .bind(profile.as_str())
        .bind(columns::signed(first_seen))
        .bind(columns::signed(last))
        .bind(held.map(columns::signed))
        .bind(policy.as_str())
        .execute(&mut *self.change.tx)
        .await?;
        self.outcome.devices += u64::from(known.is_none());
        // Whether it reads like another device is known when all of them are.
        if let Some(nickname) = device.nickname.clone().filter(|_| known.is_none_or(|known| known.nickname.is_none())) {
            self.nicknames.push((device.id, nickname));
        }
        Ok(())
    }

    /// Gives devices that have none here the nicknames that they have there, but for those that are not given here either.
    async fn merge_nicknames(&mut self) -> Result<(), Error> {
        let mut known = Nicknames::load(&mut self.change.tx).await?;
        for (device, nickname) in std::mem::take(&mut self.nicknames) {
            match self.merge_nickname(&known, &device, &nickname).await? {
                Ok(()) => known.insert(device, &nickname),
                Err(refused) => {
                    let nickname = text::line(&nickname);
                    self.outcome.conflicts.push(format!("{device} is not called {nickname} here: {refused}"));
                }
            }
        }
        Ok(())
    }

    async fn merge_nickname(
        &mut self,
        known: &Nicknames,
        device: &DeviceId,
        nickname: &str,
    ) -> Result<Result<(), String>, Error> {
        let nickname = match nickname.parse::<Nickname>() {
            Ok(nickname) => nickname,
            Err(bad) => return Ok(Err(bad.to_string())),
        };
        match naming::nickname_is_free(&mut self.change.tx, known, device, &nickname).await {
            Ok(_) => {}
            Err(refused @ (Error::NicknameTaken { .. } | Error::NicknameMisleads { .. })) => {
                return Ok(Err(refused.to_string()));
            }
            Err(error) => return Err(error),
        }
        sqlx::query("UPDATE devices SET nickname = $1 WHERE device = $2")
            .bind(nickname.as_str())
            .bind(device.as_str())
            .execute(&mut *self.change.tx)
            .await?;
        let event = Event::Nickname { nickname: nickname.as_str().to_owned() };
        self.change.record(Some(device), &event).await?;
        Ok(Ok(()))
    }

    async fn merge_key(&mut self, device: &DeviceId, theirs: &Theirs, ours: Option<&Key>) -> Result<(), Error> {
        let thumbprint = theirs.key.thumbprint().to_string();
        let provenance = ours.map_or(theirs.provenance, |ours| better(ours.provenance, theirs.provenance));
        let proof = match ours {
            Some(ours) if ours.proof == ProofLevel::Proved => ours.proof,
            _ => theirs.proof,
        };
        let generation = match ours {
            Some(ours) if ours.last_seen >= theirs.last_seen => ours.generation,
            _ => theirs.generation,
        };
        let first_seen = ours.map_or(theirs.first_seen, |ours| ours.first_seen.min(theirs.first_seen));
        let last_seen = ours.map_or(theirs.last_seen, |ours| ours.last_seen.max(theirs.last_seen));
        sqlx::query(
            "INSERT INTO keys (x, thumbprint, device, ordinal, status, provenance, proof, generation, first_seen, last_seen) \
             VALUES ($1, $2, $3, (SELECT count(*) FROM keys WHERE device = $3), 'pending', $4, $5, $6, $7, $8) \
             ON CONFLICT (x) DO UPDATE SET provenance = excluded.provenance, proof = excluded.proof, \
             generation = excluded.generation, first_seen = excluded.first_seen, last_seen = excluded.last_seen",
        )
        .bind(theirs.key.x().to_vec())
        .bind(thumbprint.clone())
        .bind(device.as_str())
        .bind(provenance.as_str())
        .bind(proof.as_str())
        .bind(i64::from(generation))
        .bind(columns::signed(first_seen))
        .bind(columns::signed(last_seen))
        .execute(&mut *self.change.tx)
        .await?;
        match ours {
            None => {
                self.outcome.keys += 1;
                let event = Event::KeySeen { key: thumbprint, provenance: provenance.as_str() };
                self.change.record(Some(device), &event).await?;
            }
            Some(ours) if ours.provenance != provenance => {
                let event = Event::KeyRaised { key: thumbprint, provenance: provenance.as_str() };
                self.change.record(Some(device), &event).await?;
            }
            Some(_) => {}
        }
        if !theirs.is_settled() {
            sqlx::query("UPDATE keys SET counts_by = $1 WHERE x = $2 AND counts_by = 'nothing'")
                .bind(theirs.counts_by.as_str())
                .bind(theirs.key.x().to_vec())
                .execute(&mut *self.change.tx)
                .await?;
        }
        if let Some((at, reason)) = theirs.revoked.as_ref().filter(|_| ours.is_none_or(|ours| ours.revoked.is_none())) {
            let key = self.change.known_key(device, &theirs.key).await?;
            self.change.revoke_key(device, &key, reason).await?;
            sqlx::query("UPDATE keys SET revoked_at = $1 WHERE x = $2")
                .bind(columns::signed(*at))
                .bind(theirs.key.x().to_vec())
                .execute(&mut *self.change.tx)
                .await?;
            self.outcome.revoked += u64::from(ours.is_some());
        }
        Ok(())
    }

    /// A certificate only ever gets further. What is open there is not ours to finish.
    async fn merge_certificates(
        &mut self,
        device: &DeviceId,
        theirs: &Theirs,
        ours: Option<&Key>,
    ) -> Result<(), Error> {
        let is_revoked = theirs.revoked.is_some() || ours.is_some_and(|ours| ours.revoked.is_some());
        for signed in &theirs.certificates {
            let status = match signed.status {
                CertificateStatus::Intended | CertificateStatus::Issued if !is_revoked => CertificateStatus::Void,
                CertificateStatus::Intended | CertificateStatus::Issued | CertificateStatus::Installed
                    if is_revoked =>
                {
                    CertificateStatus::Revoked
                }
                status => status,
            };
            let before = ours.and_then(|ours| ours.certificates.iter().find(|it| it.cti == signed.cti));
            if before.is_some_and(|before| rank(before.status) >= rank(status)) {
                continue;
            }
            sqlx::query(
                "INSERT INTO certificates (cti, x, slot, status, issued_at, key_origin, proof, object) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                 ON CONFLICT (cti) DO UPDATE SET status = excluded.status, object = excluded.object",
            )
            .bind(signed.cti.0.to_vec())
            .bind(theirs.key.x().to_vec())
            .bind(signed.slot.as_str())
            .bind(status.as_str())
            .bind(columns::signed(signed.issued_at))
            .bind(signed.key_origin.as_str())
            .bind(signed.proof.as_str())
            .bind(signed.object.clone())
            .execute(&mut *self.change.tx)
            .await?;
            self.outcome.certificates += 1;
            self.change.record(Some(device), &Event::CertificateImported { cti: signed.cti, status }).await?;
        }
        Ok(())
    }

    /// Our active key was given up there: the certificate that made it ours is gone.
    async fn release(&mut self, device: &DeviceId, theirs: &Theirs, ours: &Key) -> Result<(), Error> {
        let key = self.change.known_key(device, &theirs.key).await?;
        let was_ours = |slot| ours.installed(slot).is_some() && key.installed(slot).is_none();
        let has_one = [Slot::Factory, Slot::Owner].into_iter().any(|slot| key.installed(slot).is_some());
        if theirs.status != KeyStatus::Pending || has_one || !was_ours(Slot::Owner) {
            return Ok(());
        }
        self.outcome.released += 1;
        self.change.give_up(device, &key).await
    }

    /// The key that counts there counts here, too, unless that is in doubt.
    async fn merge_active(&mut self, device: &TheirDevice) -> Result<(), Error> {
        let Some(theirs) = device.keys.iter().find(|key| key.is_settled()) else { return Ok(()) };
        let known = lookup::load(&mut self.change.tx, &device.id).await?.ok_or(Error::Corrupt("device"))?;
        let Some(key) = known.key(&theirs.key).filter(|key| key.status == KeyStatus::Pending) else { return Ok(()) };
        let gone = |signed: &Signed| {
            let here = key.certificates.iter().find(|it| it.cti == signed.cti);
            here.is_some_and(|here| here.status == CertificateStatus::Removed)
        };
        let is_given_up = key.counts_by == CountsBy::GivenUp || theirs.certificates.iter().any(gone);
        if is_given_up && [Slot::Factory, Slot::Owner].iter().all(|slot| key.installed(*slot).is_none()) {
            return Ok(());
        }
        if let Some(active) = known.settled().filter(|settled| settled.x != key.x) {
            let conflict = Conflict::TwoActive {
                device: device.id.to_string(),
                key: key.thumbprint.clone(),
                active: active.thumbprint.clone(),
            };
            return self.refuse(&device.id, &theirs.key, conflict).await;
        }
        sqlx::query("UPDATE keys SET counts_by = $1 WHERE x = $2 AND counts_by NOT IN ('report', 'certificate')")
            .bind(theirs.counts_by.as_str())
            .bind(key.x.to_vec())
            .execute(&mut *self.change.tx)
            .await?;
        let because = "it is so in the registry that was imported";
        if self.change.activate(&device.id, &theirs.key, because).await? {
            self.outcome.activated += 1;
        } else if !key.is_settled() {
            let event = Event::KeySettled { key: key.thumbprint.clone(), because: because.to_owned() };
            self.change.record(Some(&device.id), &event).await?;
        }
        Ok(())
    }
}

impl Chain {
    fn follow(&mut self, entry: &AuditEntry) -> Result<(), &'static str> {
        if entry.seq != self.entries + 1 {
            Err("an entry of the history is missing before it")
        } else if entry.hash != entry.computed_hash() {
            Err("the entry of the history was changed")
        } else if entry.previous != self.head {
            Err("the entry of the history does not follow the one before")
        } else {
            *self = Self { entries: entry.seq, head: entry.hash.clone() };
            Ok(())
        }
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
mod tests;
