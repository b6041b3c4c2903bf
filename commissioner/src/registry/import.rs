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

mod merge;
mod theirs;

use std::io::BufRead;

use cbor_schemas::{DeviceId, DeviceListClaims, Flaw};
use protocol::key::PublicKey;

pub use self::merge::Imported;
use self::{
    merge::merge,
    theirs::{TheirDevice, parse},
};
use super::{
    change::Change,
    conflict::Conflict,
    entry::{AuditEntry, AuditSummary, Tampering},
    error::Error,
    event::Event,
    export_lines::{FORMAT, Line, Lines},
    handle::Registry,
    history::is_known,
    lookup::Nicknames,
    mine::own_key,
    naming::nickname_is_free,
    nickname::Nickname,
    record::List,
};
use crate::{certificate, text};

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
        let mut chain = AuditSummary::empty();
        let mut device: Option<TheirDevice> = None;
        loop {
            match lines.next()? {
                Some(Line::Key(line)) => {
                    let (line, key) = parse(&self.registry.issuer, *line).map_err(|what| lines.bad(what))?;
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
                    chain.follow(&entry).map_err(|what| lines.bad(said_of(what)))?;
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
        if chain != (AuditSummary { entries, head: head.clone() }) {
            return Err(lines.bad("the history before it is not the one that the first line names"));
        }
        self.merge_nicknames().await?;
        if self.outcome.has_news() {
            let event = Event::Imported { head, entries, added: self.outcome.entries };
            self.change.record(None, &event).await?;
        }
        Ok(())
    }

    /// Keeps an entry that is in neither of the histories here.
    async fn keep(&mut self, entry: &AuditEntry) -> Result<(), Error> {
        if !is_known(&mut self.change.rows, &entry.hash).await? {
            self.change.rows.put_imported(entry).await?;
            self.outcome.entries += 1;
        }
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
        if let Some(head) = claims.audit_head
            && !is_known(&mut self.change.rows, &hex::encode(head)).await?
        {
            return refused("the history is not the one that a signed list names");
        }
        let list = List {
            version: claims.version,
            mode: claims.mode,
            keys: claims.keys.len(),
            claims: signed.payload.to_vec(),
            object: Some(object.clone()),
            is_elsewhere: false,
        };
        self.outcome.lists += u64::from(self.change.rows.put_list(&list).await?);
        self.newest_list = self.newest_list.max(claims.version);
        Ok(Ok(()))
    }

    /// Merges a device, all of whose keys are known by now.
    async fn merge(&mut self, device: Option<TheirDevice>) -> Result<(), Error> {
        let Some(mut device) = device else { return Ok(()) };
        let known = self.change.rows.device(&device.id).await?;
        let mut refused = Vec::new();
        for theirs in &device.keys {
            refused.push(self.refusal(&device.id, &theirs.key).await?);
        }
        // Whether a nickname reads like another device is known when all of them are.
        let nickname = device.nickname.take().filter(|_| known.as_ref().is_none_or(|known| known.nickname.is_none()));
        self.nicknames.extend(nickname.map(|nickname| (device.id, nickname)));
        let draft = merge(known, &device, refused, self.change.now, &mut self.outcome);
        self.change.save(&draft).await
    }

    /// Why a key of theirs is left out, if it is.
    async fn refusal(&mut self, device: &DeviceId, key: &PublicKey) -> Result<Option<Conflict>, Error> {
        let rows = &mut self.change.rows;
        if let Some(whose) = own_key(rows, &self.registry.issuer, key).await? {
            return Ok(Some(Conflict::own_key(device, key, whose)));
        }
        let other = rows.holder(key).await?.filter(|holder| holder != device);
        Ok(other.map(|other| Conflict::SharedKey {
            device: device.to_string(),
            key: key.thumbprint().to_string(),
            other: other.to_string(),
        }))
    }

    /// Gives devices that have none here the nicknames that they have there, but for those that are not given here either.
    async fn merge_nicknames(&mut self) -> Result<(), Error> {
        let mut known = Nicknames::load(&mut self.change.rows).await?;
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
        match nickname_is_free(&mut self.change.rows, known, device, &nickname).await {
            Ok(_) => {}
            Err(refused @ (Error::NicknameTaken { .. } | Error::NicknameMisleads { .. })) => {
                return Ok(Err(refused.to_string()));
            }
            Err(error) => return Err(error),
        }
        if let Some(mut draft) = self.change.draft(device).await? {
            draft.call(&nickname);
            self.change.save(&draft).await?;
        }
        Ok(Ok(()))
    }
}

/// What is wrong with an entry of a history, or before it.
fn said_of(what: Tampering) -> &'static str {
    match what {
        Tampering::Missing | Tampering::Extra => "an entry of the history is missing before it",
        Tampering::Changed => "the entry of the history was changed",
        Tampering::Unconnected => "the entry of the history does not follow the one before",
    }
}

#[cfg(test)]
mod tests;
