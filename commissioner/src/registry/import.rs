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

use std::{
    cell::Cell,
    io::{BufRead, Read as _},
};

use cbor_schemas::{DeviceCertificateClaims, DeviceId, DeviceListClaims, Flaw, KeyOrigin, Profile, ProofLevel};
use protocol::key::PublicKey;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::{
    Conflict, Error, Registry,
    audit::{AuditEntry, AuditSummary, BEFORE_FIRST, Change, Event, Tampering},
    lookup::{self, Nicknames},
    mine::own_key,
    record::{
        CertificateStatus, CountsBy, Cti, Device, FullRecord, Key, KeyStatus, Nickname, Policy, Provenance, Slot,
    },
    sql,
    succession::better,
};
use crate::{certificate, clock::unix_seconds, text};

/// The version of this format.
const FORMAT: u64 = 1;
/// The longest line, in bytes: a list of 400,000 keys.
const MAX_LINE: u64 = 32 << 20;

/// A line of the export with history, as it is written.
#[derive(Serialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
enum Written<'a> {
    /// The first one.
    Registry { format: u64, issuer: String, entries: u64, head: String },
    /// A key of a device; those of one device follow each other, oldest first.
    Key(&'a FullRecord<'a>),
    /// An entry of the audit trail.
    Entry(&'a AuditEntry),
    /// A signed list.
    List { object: String },
    /// The last one; how many there were before it.
    End { lines: u64 },
}

/// The same as it is read. Records may grow: what is not known is skipped.
#[derive(Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
enum Line {
    Registry { format: u64, issuer: String, entries: u64, head: String },
    Key(Box<KeyLine>),
    Entry(AuditEntry),
    List { object: String },
    End { lines: u64 },
}

#[derive(Deserialize)]
struct KeyLine {
    device: String,
    x: String,
    generation: u32,
    status: String,
    provenance: String,
    proof: String,
    profile: String,
    nickname: Option<String>,
    first_seen: String,
    last_seen: String,
    revoked_at: Option<String>,
    revoked_reason: Option<String>,
    certificates: Vec<CertificateLine>,
    list_version: Option<u64>,
    policy: String,
    signed: Vec<String>,
    /// Exports of before do not say.
    counts_by: Option<String>,
}

#[derive(Deserialize)]
struct CertificateLine {
    slot: String,
    cti: String,
    status: String,
}

impl KeyLine {
    /// By what the key counts there. Exports of before do not say: they had active keys for the one reason and the other.
    fn counts_by(&self) -> Result<CountsBy, String> {
        let is_reported = self.provenance == Provenance::Programming.as_str()
            && self.proof == ProofLevel::Unproven.as_str()
            && self.certificates.is_empty();
        match &self.counts_by {
            Some(counts_by) => word(counts_by, "counts_by"),
            None if self.status != KeyStatus::Active.as_str() => Ok(CountsBy::Nothing),
            None => Ok(if is_reported { CountsBy::Report } else { CountsBy::Certificate }),
        }
    }
}

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
    /// Writes, line by line, all that another registry of this issuer can merge, as of one time and in constant memory.
    /// Returns how many keys there are.
    ///
    /// # Errors
    /// Its own, and those of `write`, which end it.
    pub async fn export<E: From<Error>>(&self, mut write: impl FnMut(&str) -> Result<(), E>) -> Result<usize, E> {
        let lines = Cell::new(0);
        let mut write = |line: Written<'_>| {
            lines.set(lines.get() + 1);
            let text = text::json(&line).map_err(|_| Error::Corrupt("a record"))?;
            write(&(text + "\n"))
        };
        let mut reading = self.read().await?;
        let AuditSummary { entries, head } = reading.head().await?;
        write(Written::Registry { format: FORMAT, issuer: hex::encode(self.issuer.x()), entries, head })?;
        let mut keys = 0;
        let devices = reading.each_device(|device| {
            keys += device.keys.len();
            device.keys.iter().try_for_each(|key| write(Written::Key(&device.full_record(key))))
        });
        devices.await?;
        let mut last = 0;
        loop {
            let page = reading.entries(last).await?;
            let Some(end) = page.last() else { break };
            last = end.seq;
            page.iter().try_for_each(|entry| write(Written::Entry(entry)))?;
        }
        let mut version = 0;
        while let Some((next, object)) = reading.signed_list(version).await? {
            version = next;
            write(Written::List { object: hex::encode(object) })?;
        }
        write(Written::End { lines: lines.get() })?;
        Ok(keys)
    }

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

/// Lines with their numbers.
struct Lines<R> {
    input: R,
    number: u64,
    /// Those that are not blank.
    records: u64,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<Line>, Error> {
        let mut line = String::new();
        while line.trim().is_empty() {
            self.number += 1;
            line.clear();
            let limited = &mut self.input.by_ref().take(MAX_LINE);
            if limited.read_line(&mut line).map_err(|error| self.bad(error.to_string()))? == 0 {
                return Ok(None);
            }
        }
        self.records += 1;
        match serde_json::from_str(&line) {
            // An editor may have left out the end of the last line.
            Err(_) if !line.ends_with('\n') => Err(self.bad("it is cut off, or too long")),
            record => record.map(Some).map_err(|error| self.bad(error.to_string())),
        }
    }

    fn bad(&self, what: impl Into<String>) -> Error {
        Error::NotImportable { line: self.number, what: what.into() }
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
        .bind(sql::signed(entry.seq))
        .bind(sql::signed(entry.time))
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
        let (signed, claims) = match certificate::verified::<DeviceListClaims<'_>>(&object, &self.registry.issuer) {
            Ok(verified) => verified,
            Err(Flaw::NotSigned | Flaw::OtherKind) => {
                return refused("what is signed is not a device list (COSE_Sign1)");
            }
            Err(Flaw::Claims) => {
                return refused("the claims of a list cannot be read; it may be a newer commissioner's");
            }
            Err(_) => return refused("our issuer did not sign a list"),
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
        .bind(sql::signed(claims.version))
        .bind(claims.mode.as_str())
        .bind(sql::signed(claims.keys.len() as u64))
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
        .bind(sql::signed(first_seen))
        .bind(sql::signed(last))
        .bind(held.map(sql::signed))
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
        match lookup::nickname_is_free(&mut self.change.tx, known, device, &nickname).await {
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
        .bind(sql::signed(first_seen))
        .bind(sql::signed(last_seen))
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
                .bind(sql::signed(*at))
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
            .bind(sql::signed(signed.issued_at))
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

fn word<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{what} is {:?}, which this commissioner does not know", text::line(text)))
}

/// Whether an entry with this hash is in our history or in one that was imported.
pub(super) async fn is_known(connection: &mut AnyConnection, hash: &str) -> Result<bool, Error> {
    let query = "SELECT 1 FROM audit WHERE hash = $1 UNION ALL SELECT 1 FROM imported WHERE hash = $1";
    Ok(sqlx::query(query).bind(hash).fetch_optional(&mut *connection).await?.is_some())
}

/// Checks an imported history from its end, `head`, to where it is ours, or one that was checked before.
pub(super) async fn verify(connection: &mut AnyConnection, head: &str, checked: &[String]) -> Result<(), Error> {
    let mut next = (u64::MAX, head.to_owned());
    while next.1 != BEFORE_FIRST && !checked.contains(&next.1) {
        let ours = sqlx::query("SELECT 1 FROM audit WHERE hash = $1").bind(next.1.clone());
        if ours.fetch_optional(&mut *connection).await?.is_some() {
            return Ok(());
        }
        let row = sqlx::query("SELECT * FROM imported WHERE hash = $1").bind(next.1.clone());
        let Some(row) = row.fetch_optional(&mut *connection).await? else {
            return Err(Error::TamperedImport { head: head.to_owned(), before: next.0, what: Tampering::Missing });
        };
        let entry = AuditEntry::from_row(&row)?;
        if entry.computed_hash() != entry.hash {
            return Err(Error::TamperedImport { head: head.to_owned(), before: next.0, what: Tampering::Changed });
        }
        next = (entry.seq, entry.previous);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cbor_schemas::{Kind, Sign1};

    use super::*;
    use crate::{
        issuer::Issuer,
        keys::IssuerKey,
        registry::{
            Place, Succession,
            testing::{Fixture, NOON, id, key, receipt, seen, wanted},
        },
    };

    /// One issuer with several stations, each with a registry of its own.
    struct Stations {
        issuer: Issuer,
        public: PublicKey,
    }

    impl Stations {
        fn new() -> Self {
            let key = IssuerKey::generate();
            let public = *key.public();
            Self { issuer: Issuer::new(key), public }
        }

        async fn station(&self) -> Fixture {
            Fixture::of_issuer(self.public).await
        }

        /// A device with a certificate that is really signed.
        async fn commission(&self, at: &Fixture, device: &DeviceId, key: &PublicKey) -> Cti {
            let _ = at.proved(device, key).await;
            self.certify(at, device, key).await
        }

        async fn certify(&self, at: &Fixture, device: &DeviceId, key: &PublicKey) -> Cti {
            let intent = at.registry.begin_issue(&wanted(device, key)).await.unwrap();
            let object = self.issuer.certificate(&intent).unwrap();
            at.registry.issued(intent.cti(), &object).await.unwrap();
            at.registry.installed(intent.cti(), Some(&receipt(key))).await.unwrap();
            intent.cti()
        }

        async fn sign_list(&self, at: &Fixture) -> u64 {
            let list = at.registry.begin_list(None).await.unwrap();
            at.registry.list_signed(list.version, &self.issuer.list(&list).unwrap()).await.unwrap();
            list.version
        }
    }

    async fn export(from: &Fixture) -> String {
        let mut text = String::new();
        let write = |line: &str| {
            text.push_str(line);
            Ok::<_, Error>(())
        };
        from.registry.export(write).await.unwrap();
        text
    }

    async fn import(from: &Fixture, into: &Fixture) -> Imported {
        let imported = into.registry.import(export(from).await.as_bytes()).await.unwrap();
        into.registry.verify_seals(&[]).await.unwrap();
        imported
    }

    /// Key by key: whose, and what is known of it.
    async fn keys(at: &Fixture) -> BTreeMap<String, (String, KeyStatus, Provenance, ProofLevel, usize)> {
        let mut keys = BTreeMap::new();
        for device in at.registry.devices().await.unwrap() {
            for key in device.keys {
                let known = (device.id.to_string(), key.status, key.provenance, key.proof, key.certificates.len());
                keys.insert(key.thumbprint, known);
            }
        }
        keys
    }

    #[tokio::test]
    async fn an_empty_registry_becomes_the_same_and_once_is_enough() {
        let stations = Stations::new();
        let (from, into) = (stations.station().await, stations.station().await);
        for name in ["one", "two", "three"] {
            stations.commission(&from, &id(name), &key()).await;
        }
        from.registry.set_nickname(&id("two"), &"kitchen".parse().unwrap()).await.unwrap();
        from.registry.set_policy(&id("two"), Policy::Keep).await.unwrap();
        from.registry.revoke(&id("one"), "lost").await.unwrap();
        from.registry.observe_key(&seen(&id("four"), &key(), Place::Trusted, ProofLevel::Unproven)).await.unwrap();
        let version = stations.sign_list(&from).await;
        into.clock.set(NOON + 100);

        let imported = import(&from, &into).await;
        assert_eq!((imported.devices, imported.keys, imported.activated, imported.lists), (4, 4, 3, 1));
        assert_eq!((imported.certificates, imported.conflicts.len(), imported.revoked), (3, 0, 0));
        assert_eq!(keys(&into).await, keys(&from).await);
        let two = into.device(&id("two")).await;
        assert_eq!((two.nickname.as_deref(), two.policy), (Some("kitchen"), Policy::Keep));
        let one = into.device(&id("one")).await;
        assert_eq!(one.keys[0].revoked, from.device(&id("one")).await.keys[0].revoked, "since when, and why");
        assert_eq!(into.registry.list().await.unwrap().unwrap().version, version);
        let history = into.registry.history(&id("one")).await.unwrap();
        assert!(history[0].elsewhere && history[0].event == "key-seen" && !history.last().unwrap().elsewhere);

        let entries = into.registry.verify_audit().await.unwrap().entries;
        let again = import(&from, &into).await;
        assert!(!again.has_news() && again.conflicts.is_empty(), "{again:?}");
        assert_eq!(into.registry.verify_audit().await.unwrap().entries, entries);
        // The list that was imported is the last one: the next one is newer.
        assert!(into.registry.begin_list(None).await.unwrap().version >= version);
        stations.commission(&into, &id("five"), &key()).await;
        assert!(stations.sign_list(&into).await > version);
    }

    /// Whoever calls their device by the digits of another one's key has somebody revoke that.
    #[tokio::test]
    async fn a_nickname_that_would_mislead_is_left_out_and_told() {
        let stations = Stations::new();
        let (a, b) = (stations.station().await, stations.station().await);
        stations.commission(&b, &id("other"), &key()).await;
        b.registry.set_nickname(&id("other"), &"kitchen".parse().unwrap()).await.unwrap();
        let names = ["one", "two", "three", "four", "six", "dot", "five"].map(|name| (id(name), key()));
        let digits = &names[6].1.thumbprint().to_string()[..12];
        for ((device, key), nickname) in
            names.iter().zip([digits, "kitchen", "test-five", "a\u{202e}b", "\u{ff2b}ITCHEN", ".x", "hall"])
        {
            stations.commission(&a, device, key).await;
            // Registries of before took them.
            sqlx::query("UPDATE devices SET nickname = $1 WHERE device = $2")
                .bind(nickname)
                .bind(device.as_str())
                .execute(&a.registry.pool)
                .await
                .unwrap();
        }
        for _ in 0..2 {
            let imported = import(&a, &b).await;
            assert_eq!(imported.conflicts.len(), 6, "{:?}", imported.conflicts);
            assert!(!imported.conflicts.iter().any(|told| told.contains('\u{202e}')), "{:?}", imported.conflicts);
        }
        let mut nicknames = Vec::new();
        for (device, _) in &names {
            nicknames.push(b.device(device).await.nickname);
        }
        assert_eq!(nicknames, [None, None, None, None, None, None, Some("hall".to_owned())]);
        assert_eq!(b.device(&id("other")).await.nickname.as_deref(), Some("kitchen"));
    }

    #[tokio::test]
    async fn what_is_revoked_in_either_is_revoked_in_both() {
        let stations = Stations::new();
        let (a, b) = (stations.station().await, stations.station().await);
        let shared: Vec<_> = ["one", "two", "three"].into_iter().map(|name| (id(name), key())).collect();
        for (device, key) in &shared {
            stations.commission(&a, device, key).await;
        }
        import(&a, &b).await;
        a.registry.revoke(&shared[0].0, "lost").await.unwrap();
        b.registry.revoke(&shared[1].0, "sold").await.unwrap();
        stations.commission(&b, &id("four"), &key()).await;
        let (of_a, of_b) = (export(&a).await, export(&b).await);
        assert_eq!(a.registry.import(of_b.as_bytes()).await.unwrap().revoked, 1);
        assert_eq!(b.registry.import(of_a.as_bytes()).await.unwrap().revoked, 1);
        assert_eq!(keys(&a).await, keys(&b).await);
        for at in [&a, &b] {
            at.registry.verify_seals(&[]).await.unwrap();
            for (device, key) in &shared[..2] {
                assert_eq!(at.status(device, key).await, KeyStatus::Revoked);
                assert_eq!(at.device(device).await.keys[0].certificates[0].status, CertificateStatus::Revoked);
            }
            assert_eq!(at.status(&shared[2].0, &shared[2].1).await, KeyStatus::Active);
        }
    }

    #[tokio::test]
    async fn a_key_that_succeeded_another_one_there_does_so_here() {
        let stations = Stations::new();
        let (a, b) = (stations.station().await, stations.station().await);
        let (device, old, new) = (id("device"), key(), key());
        stations.commission(&a, &device, &old).await;
        import(&a, &b).await;
        a.registry.rekeyed(&device, &old, &new, 2).await.unwrap();
        a.proved(&device, &new).await.unwrap();
        stations.certify(&a, &device, &new).await;
        let imported = import(&a, &b).await;
        assert_eq!((imported.revoked, imported.activated, imported.keys), (1, 1, 1));
        assert_eq!(b.status(&device, &old).await, KeyStatus::Revoked);
        assert_eq!(b.status(&device, &new).await, KeyStatus::Active);
        // An older export changes nothing of it.
        let fresh = stations.station().await;
        stations.commission(&fresh, &device, &old).await;
        import(&fresh, &b).await;
        assert_eq!(b.status(&device, &old).await, KeyStatus::Revoked);
    }

    /// What counts there counts here by the same rule: not by being called active.
    #[tokio::test]
    async fn what_waits_for_its_certificate_there_waits_for_it_here() {
        let stations = Stations::new();
        let (a, b) = (stations.station().await, stations.station().await);
        let (device, old, new) = (id("device"), key(), key());
        stations.commission(&a, &device, &old).await;
        import(&a, &b).await;
        a.registry.observe_key(&seen(&device, &new, Place::Trusted, ProofLevel::Proved)).await.unwrap();
        let reported = key();
        a.registry.observe_key(&seen(&id("reported"), &reported, Place::Trusted, ProofLevel::Unproven)).await.unwrap();
        let imported = import(&a, &b).await;
        assert_eq!((imported.revoked, imported.activated), (1, 1), "the old key, and the report");
        assert_eq!(
            (b.status(&device, &old).await, b.status(&device, &new).await),
            (KeyStatus::Revoked, KeyStatus::Pending)
        );
        let known = b.device(&id("reported")).await;
        assert!(known.keys[0].mine && known.keys[0].counts_by == CountsBy::Report, "{known:?}");
        // Here it gets its certificate without another word.
        stations.commission(&b, &device, &new).await;
        assert_eq!(b.status(&device, &new).await, KeyStatus::Active);
        // The other way round, the one there learns of it.
        import(&b, &a).await;
        assert_eq!(a.status(&device, &new).await, KeyStatus::Active);
        let again = Imported { entries: 0, ..import(&a, &b).await };
        assert!(!again.has_news() && again.conflicts.is_empty(), "{again:?}");
    }

    /// What was given up there is no key change here, and what came from a key of ours is mended here, too.
    #[tokio::test]
    async fn where_a_key_came_from_is_merged() {
        let stations = Stations::new();
        let (a, b) = (stations.station().await, stations.station().await);
        let (given_up, mended, old, other) = (id("given-up"), id("mended"), key(), key());
        let (released, successor) = (key(), key());
        stations.commission(&a, &given_up, &old).await;
        a.registry.rekeyed(&given_up, &old, &released, 2).await.unwrap();
        import(&a, &b).await;
        a.registry.released(&given_up, &released).await.unwrap();
        stations.commission(&a, &mended, &other).await;
        a.registry.revoke(&mended, "stolen").await.unwrap();
        let seen = seen(&mended, &successor, Place::Elsewhere, ProofLevel::Proved);
        a.registry.observe_successor(&seen).await.unwrap_err();
        let c = stations.station().await;
        for merged in [&b, &c] {
            import(&a, merged).await;
            assert_eq!(merged.proved(&given_up, &released).await.unwrap(), Succession::Pending);
            let known = merged.device(&mended).await;
            assert!(known.keys.iter().all(Key::is_mendable), "{known:?}");
            merged.proved(&mended, &successor).await.unwrap_err();
        }
        a.registry.revoke(&mended, "again").await.unwrap();
        import(&a, &c).await;
        assert!(c.device(&mended).await.keys.iter().all(Key::is_mendable));
    }

    /// Exports of before do not say by what a key counts, and called active what had no certificate.
    #[tokio::test]
    async fn an_export_of_before_makes_nothing_active_that_has_no_certificate() {
        let stations = Stations::new();
        let (a, b) = (stations.station().await, stations.station().await);
        let (device, new) = (id("device"), key());
        stations.commission(&a, &id("certified"), &key()).await;
        a.registry.observe_key(&seen(&id("reported"), &key(), Place::Trusted, ProofLevel::Unproven)).await.unwrap();
        a.registry.observe_key(&seen(&device, &new, Place::Trusted, ProofLevel::Proved)).await.unwrap();
        let of_before = export(&a).await.lines().fold(String::new(), |text, line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            if line["record"] == "key" {
                line.as_object_mut().unwrap().remove("counts_by").expect("it says so now");
                line["status"] = "active".into();
            }
            format!("{text}{line}\n")
        });
        b.registry.import(of_before.as_bytes()).await.unwrap();
        let mine: Vec<_> =
            b.registry.devices().await.unwrap().iter().map(|device| (device.id, device.keys[0].mine)).collect();
        assert_eq!(mine, [(id("certified"), true), (device, false), (id("reported"), true)]);
    }

    #[tokio::test]
    async fn a_key_of_our_own_is_left_out() {
        let stations = Stations::new();
        let (a, b) = (stations.station().await, stations.station().await);
        // To the other one it is a key like any.
        stations.commission(&a, &id("device"), &b.station).await;
        let imported = import(&a, &b).await;
        assert!(matches!(&imported.conflicts[..], [conflict] if conflict.contains("of this station")), "{imported:?}");
        let device = b.registry.device_by_id(&id("device")).await.unwrap();
        assert!(device.is_none_or(|device| device.keys.is_empty()));
    }

    #[tokio::test]
    async fn two_active_keys_of_one_device_are_a_conflict() {
        let stations = Stations::new();
        let (a, b) = (stations.station().await, stations.station().await);
        let (device, ours, theirs) = (id("device"), key(), key());
        stations.commission(&a, &device, &theirs).await;
        stations.commission(&b, &device, &ours).await;
        for _ in 0..2 {
            let imported = import(&a, &b).await;
            assert!(
                matches!(&imported.conflicts[..], [conflict] if conflict.contains("--accept-new-key")),
                "{imported:?}"
            );
            assert_eq!(b.status(&device, &ours).await, KeyStatus::Active);
            assert_eq!(b.status(&device, &theirs).await, KeyStatus::Pending);
        }
        let conflicts = b.events(&device).await.iter().filter(|event| *event == "key-conflict").count();
        assert_eq!(conflicts, 1);
        b.registry.accept_new_key(&device, &theirs).await.unwrap();
        assert!(import(&a, &b).await.conflicts.is_empty());
    }

    #[tokio::test]
    async fn one_key_under_two_ids_is_left_out() {
        let stations = Stations::new();
        let (a, b) = (stations.station().await, stations.station().await);
        let shared = key();
        stations.commission(&a, &id("there"), &shared).await;
        stations.commission(&a, &id("other"), &key()).await;
        stations.commission(&b, &id("here"), &shared).await;
        let imported = import(&a, &b).await;
        assert_eq!((imported.conflicts.len(), imported.activated), (1, 1));
        assert_eq!(b.registry.device_by_key(&shared).await.unwrap().unwrap().id, id("here"));
        assert!(b.device(&id("there")).await.keys.is_empty());
    }

    #[tokio::test]
    async fn a_device_that_was_given_up_there_is_given_up_here() {
        let stations = Stations::new();
        let (a, b) = (stations.station().await, stations.station().await);
        let (device, key) = (id("device"), key());
        let cti = stations.commission(&a, &device, &key).await;
        import(&a, &b).await;
        let before = export(&a).await;
        a.registry.released(&device, &key).await.unwrap();
        assert_eq!(import(&a, &b).await.released, 1);
        assert_eq!(b.status(&device, &key).await, KeyStatus::Pending);
        assert_eq!(b.certificate_status(&device, cti).await, CertificateStatus::Removed);
        // What was true before that does not come back.
        let old = b.registry.import(before.as_bytes()).await.unwrap();
        assert_eq!((old.activated, old.certificates), (0, 0));
        assert_eq!(b.status(&device, &key).await, KeyStatus::Pending);
        // Commissioned again, it is ours again.
        a.proved(&device, &key).await.unwrap();
        stations.certify(&a, &device, &key).await;
        assert_eq!(import(&a, &b).await.activated, 1);
    }

    #[tokio::test]
    async fn what_another_station_began_is_not_finished_here() {
        let stations = Stations::new();
        let (a, b) = (stations.station().await, stations.station().await);
        let (device, key) = (id("device"), key());
        a.proved(&device, &key).await.unwrap();
        let intent = a.registry.begin_issue(&wanted(&device, &key)).await.unwrap();
        a.registry.issued(intent.cti(), &stations.issuer.certificate(&intent).unwrap()).await.unwrap();
        import(&a, &b).await;
        assert_eq!(b.certificate_status(&device, intent.cti()).await, CertificateStatus::Void);
        assert!(b.registry.open_intents(&device).await.unwrap().is_empty());
        // It may be on the device all the same.
        assert_eq!(b.registry.installed(intent.cti(), None).await.unwrap(), KeyStatus::Active);
    }

    #[tokio::test]
    async fn a_list_that_a_device_had_shown_is_known_then() {
        let stations = Stations::new();
        let (a, b) = (stations.station().await, stations.station().await);
        let (device, key) = (id("device"), key());
        stations.commission(&a, &device, &key).await;
        import(&a, &b).await;
        a.clock.set(NOON + 10);
        let version = stations.sign_list(&a).await;
        assert!(matches!(b.registry.list_seen(&device, Some(version)).await, Err(Error::NewerList { .. })));
        assert!(matches!(b.registry.begin_list(None).await, Err(Error::NewerList { .. })));
        b.clock.set(NOON + 20);
        import(&a, &b).await;
        b.registry.begin_list(None).await.unwrap();
        // A newer one still is not.
        assert!(b.registry.list_seen(&device, Some(version + 100)).await.is_err());
        import(&a, &b).await;
        assert!(matches!(b.registry.begin_list(None).await, Err(Error::NewerList { .. })));
    }

    /// Blank lines, other line ends, none at the end: a file says what it says.
    #[tokio::test]
    async fn an_export_that_an_editor_has_touched_is_the_same() {
        let stations = Stations::new();
        let from = stations.station().await;
        stations.commission(&from, &id("one"), &key()).await;
        let good = export(&from).await;
        for touched in [
            format!("\n{good}\n\n"),
            good.replace('\n', "\n \n"),
            good.replace('\n', "\r\n"),
            good.trim_end().to_owned(),
        ] {
            let to = stations.station().await;
            let imported = to.registry.import(touched.as_bytes()).await.unwrap();
            assert_eq!((imported.devices, imported.keys), (1, 1), "{touched}");
        }
        let doubled = format!("{good}\n\n{}", good.lines().next().unwrap());
        let refused = stations.station().await.registry.import(doubled.as_bytes()).await.unwrap_err();
        assert!(refused.to_string().contains("there is more behind the end"), "{refused}");
    }

    /// Whatever is wrong with it: nothing is changed.
    #[tokio::test]
    async fn what_is_not_whole_or_not_ours_changes_nothing() {
        let stations = Stations::new();
        let from = stations.station().await;
        stations.commission(&from, &id("one"), &key()).await;
        stations.commission(&from, &id("two"), &key()).await;
        stations.sign_list(&from).await;
        let good = export(&from).await;
        let lines: Vec<&str> = good.lines().collect();
        let without = |left_out: usize| {
            let kept = lines.iter().enumerate().filter(|(number, _)| *number != left_out);
            kept.map(|(_, line)| format!("{line}\n")).collect::<String>()
        };
        let forger = Issuer::new(IssuerKey::generate());
        let real = from.device(&id("one")).await.keys[0].certificates[0].object.clone().unwrap();
        let payload = Sign1::decode(&real).unwrap().payload.to_vec();
        let forged = forger.sign_as(Kind::DeviceCertificate.typ(), &payload).unwrap();
        let mut bad: Vec<(String, String)> =
            (0..lines.len()).map(|at| (format!("without line {}", at + 1), without(at))).collect();
        bad.extend([
            ("cut off".to_owned(), good[..good.len() - 3].to_owned()),
            ("nothing".to_owned(), String::new()),
            ("twice".to_owned(), good.repeat(2)),
            ("another format".to_owned(), good.replacen("\"format\":1", "\"format\":2", 1)),
            ("an entry changed".to_owned(), good.replacen("\"event\":\"key-seen\"", "\"event\":\"key-sold\"", 1)),
            ("a forged certificate".to_owned(), good.replacen(&hex::encode(&real), &hex::encode(&forged), 1)),
            (
                "a certificate of another device".to_owned(),
                good.replacen("test-one\",\"thumb", "test-two\",\"thumb", 1),
            ),
            ("an odd status".to_owned(), good.replacen("\"status\":\"active\"", "\"status\":\"activ\"", 1)),
            ("revoked without a time".to_owned(), good.replacen("\"status\":\"active\"", "\"status\":\"revoked\"", 1)),
            ("keys only".to_owned(), lines[1..3].join("\n")),
        ]);
        // What somebody could write who knows the format, but has not our key.
        let counted = |lines: &[String]| {
            let end = lines.len() - 1;
            let mut lines = lines.to_vec();
            lines[end] = format!("{{\"record\":\"end\",\"lines\":{end}}}");
            lines.iter().map(|line| format!("{line}\n")).collect::<String>()
        };
        let owned: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let last_entry = owned.iter().rposition(|line| line.contains("\"record\":\"entry\"")).unwrap();
        let mut shorter = owned.clone();
        shorter.remove(last_entry);
        let mut unconnected = owned.clone();
        let mut entry: AuditEntry = serde_json::from_str(&owned[last_entry]).unwrap();
        entry.previous = "11".repeat(32);
        entry.hash = entry.computed_hash();
        unconnected[0] = owned[0].replace(&from.registry.verify_audit().await.unwrap().head, &entry.hash);
        unconnected[last_entry] = serde_json::to_string(&Written::Entry(&entry)).unwrap();
        let list = from.registry.list().await.unwrap().unwrap();
        let forged_list = forger.sign_as(Kind::DeviceList.typ(), list.claims()).unwrap();
        let claims = DeviceListClaims::decode(list.claims()).unwrap();
        let elsewhere = DeviceListClaims { audit_head: Some([7; 32]), ..claims };
        let mut buffer = vec![0; 1024];
        let len = elsewhere.encode(&mut buffer).unwrap();
        let elsewhere = stations.issuer.sign_as(Kind::DeviceList.typ(), &buffer[..len]).unwrap();
        let real_list = hex::encode(list.object().unwrap());
        bad.extend([
            ("the last entry dropped".to_owned(), counted(&shorter)),
            ("an entry that does not follow".to_owned(), counted(&unconnected)),
            ("a forged list".to_owned(), good.replace(&real_list, &hex::encode(forged_list))),
            ("a list over another history".to_owned(), good.replace(&real_list, &hex::encode(elsewhere))),
        ]);
        for (name, text) in bad {
            let into = stations.station().await;
            let before = into.registry.verify_audit().await.unwrap();
            let error = into.registry.import(text.as_bytes()).await.unwrap_err();
            assert!(matches!(error, Error::NotImportable { .. }), "{name}: {error}");
            assert!(error.to_string().contains("nothing was changed"), "{error}");
            for (wrong, words) in
                [("an odd status", "status is \"activ\""), ("a forged certificate", "is not a device certificate")]
            {
                assert!(wrong != name || error.to_string().contains(words), "{name}: {error}");
            }
            assert_eq!(into.registry.verify_audit().await.unwrap(), before, "{name}");
            assert!(into.registry.devices().await.unwrap().is_empty(), "{name}");
        }
        let stranger = Fixture::new().await;
        let error = stranger.registry.import(good.as_bytes()).await.unwrap_err();
        assert!(matches!(error, Error::OtherRegistry(_)), "{error}");
    }

    #[tokio::test]
    async fn an_imported_history_cannot_be_changed_unseen() {
        let stations = Stations::new();
        let from = stations.station().await;
        stations.commission(&from, &id("one"), &key()).await;
        for tampering in [
            "UPDATE imported SET payload = '{}' WHERE seq = 3",
            "DELETE FROM imported WHERE seq = 3",
            "DELETE FROM imported",
            "UPDATE imported SET previous = hash WHERE seq = 3",
        ] {
            let into = stations.station().await;
            import(&from, &into).await;
            sqlx::query(tampering).execute(&into.registry.pool).await.unwrap();
            let error = into.registry.verify_audit().await.unwrap_err();
            assert!(matches!(error, Error::TamperedImport { .. }), "{tampering}: {error}");
        }
    }

    #[tokio::test]
    async fn histories_with_a_common_beginning_share_it() {
        let stations = Stations::new();
        let a = stations.station().await;
        stations.commission(&a, &id("one"), &key()).await;
        let copy = a.dir.path().join("copy.sqlite");
        a.registry.snapshot(&copy).await.unwrap();
        let b = stations.station().await;
        b.registry.pool.close().await;
        std::fs::rename(&copy, b.dir.registry()).unwrap();
        for name in ["registry.sqlite-wal", "registry.sqlite-shm"] {
            let _ = std::fs::remove_file(b.dir.path().join(name));
        }
        let mut b = b;
        b.reopen().await;
        stations.commission(&a, &id("two"), &key()).await;
        stations.commission(&b, &id("three"), &key()).await;
        let entries = a.registry.verify_audit().await.unwrap().entries;
        let imported = import(&a, &b).await;
        assert!(imported.entries < entries / 2 + 2, "{imported:?} of {entries}");
        assert_eq!((imported.devices, imported.keys), (1, 1));
    }
}
