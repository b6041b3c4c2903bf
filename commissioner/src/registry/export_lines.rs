//! The lines of an export with history.

use std::io::{BufRead, Read as _};

use cbor_schemas::ProofLevel;
use serde::{Deserialize, Serialize};

use super::{
    entry::AuditEntry,
    error::Error,
    record::{CountsBy, FullRecord, KeyStatus, Provenance},
};
use crate::text;

/// The version of this format.
pub(super) const FORMAT: u64 = 1;

/// The longest line, in bytes: a list of 400,000 keys.
pub(super) const MAX_LINE: u64 = 32 << 20;

/// A line of the export with history, as it is written.
#[derive(Serialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub(super) enum Written<'a> {
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
pub(super) enum Line {
    Registry { format: u64, issuer: String, entries: u64, head: String },
    Key(Box<KeyLine>),
    Entry(AuditEntry),
    List { object: String },
    End { lines: u64 },
}

#[derive(Deserialize)]
pub(super) struct KeyLine {
    pub(super) device: String,
    pub(super) x: String,
    pub(super) generation: u32,
    pub(super) status: String,
    pub(super) provenance: String,
    pub(super) proof: String,
    pub(super) profile: String,
    pub(super) nickname: Option<String>,
    pub(super) first_seen: String,
    pub(super) last_seen: String,
    pub(super) revoked_at: Option<String>,
    pub(super) revoked_reason: Option<String>,
    pub(super) certificates: Vec<CertificateLine>,
    pub(super) list_version: Option<u64>,
    pub(super) policy: String,
    pub(super) signed: Vec<String>,
    /// Exports of before do not say.
    pub(super) counts_by: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct CertificateLine {
    pub(super) slot: String,
    pub(super) cti: String,
    pub(super) status: String,
}

impl KeyLine {
    /// By what the key counts there. Exports of before do not say: they had active keys for the one reason and the other.
    pub(super) fn counts_by(&self) -> Result<CountsBy, String> {
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

/// Lines with their numbers.
pub(super) struct Lines<R> {
    pub(super) input: R,
    pub(super) number: u64,
    /// Those that are not blank.
    pub(super) records: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn next(&mut self) -> Result<Option<Line>, Error> {
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

    pub(super) fn bad(&self, what: impl Into<String>) -> Error {
        Error::NotImportable { line: self.number, what: what.into() }
    }
}

pub(super) fn word<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{what} is {:?}, which this commissioner does not know", text::line(text)))
}
