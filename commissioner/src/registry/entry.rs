//! One entry of the audit trail.
//!
//! The hash of an entry is SHA-256 over, in this order:
//!
//! | bytes | what |
//! |---|---|
//! | 32 | hash of the entry before; zeros before the first |
//! | 8 | sequence number, from 1, big-endian |
//! | 8 | time, Unix seconds, big-endian |
//! | 4 + n | device ID or nothing, UTF-8, after its length, big-endian |
//! | 4 + n | event, UTF-8, after its length |
//! | 4 + n | payload, the JSON text as stored, after its length |
//!

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::clock::rfc3339;

/// What stands for the hash before the first entry.
pub(super) const BEFORE_FIRST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Counted from 1.
    pub seq: u64,
    /// Unix seconds.
    pub time: u64,
    /// The device it is about; empty if it is about none.
    pub device: String,
    /// What happened, such as `key-revoked`.
    pub event: String,
    /// The particulars, a JSON object.
    pub payload: String,
    /// The hash of the entry before, hex.
    pub previous: String,
    /// The hash of this entry, hex.
    pub hash: String,
    /// It is of a history that was imported.
    #[serde(skip)]
    pub elsewhere: bool,
}

impl AuditEntry {
    /// The entry for `--json`: `seq`, `time`, `event`, and the particulars.
    pub fn as_json(&self) -> Value {
        let mut line = serde_json::Map::new();
        line.insert("seq".to_owned(), self.seq.into());
        line.insert("time".to_owned(), rfc3339(self.time).into());
        line.insert("event".to_owned(), self.event.clone().into());
        if self.elsewhere {
            line.insert("elsewhere".to_owned(), true.into());
        }
        line.extend(self.particulars());
        line.into()
    }

    /// The particulars by name.
    pub fn particulars(&self) -> serde_json::Map<String, Value> {
        serde_json::from_str(&self.payload).unwrap_or_default()
    }

    /// The hash that this entry should have.
    pub(super) fn computed_hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(hex::decode(&self.previous).unwrap_or_default());
        hash.update(self.seq.to_be_bytes());
        hash.update(self.time.to_be_bytes());
        for text in [&self.device, &self.event, &self.payload] {
            hash.update((text.len() as u32).to_be_bytes());
            hash.update(text);
        }
        hex::encode(hash.finalize())
    }
}

/// A chain that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSummary {
    /// How many entries there are.
    pub entries: u64,
    /// The hash of the last, hex.
    pub head: String,
}

impl AuditSummary {
    /// The chain without an entry.
    pub(super) fn empty() -> Self {
        Self { entries: 0, head: BEFORE_FIRST.to_owned() }
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// What is wrong with the entry, or with one before it.
    pub(super) fn follow(&mut self, entry: &AuditEntry) -> Result<(), Tampering> {
        if entry.seq != self.entries + 1 {
            return Err(Tampering::Missing);
        }
        if entry.hash != entry.computed_hash() {
            return Err(Tampering::Changed);
        }
        if entry.previous != self.head {
            return Err(Tampering::Unconnected);
        }
        *self = Self { entries: entry.seq, head: entry.hash.clone() };
        Ok(())
    }
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tampering {
    /// It is not there.
    Missing,
    /// Its hash is not that of what it says.
    Changed,
    /// It does not follow the one before: one of the two was changed, or their order.
    Unconnected,
    /// It is beyond the end of the chain, or before its beginning.
    Extra,
}

impl fmt::Display for Tampering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Changed => "was changed",
            Self::Unconnected => "does not follow the one before: one of them was changed, or put in another place",
            Self::Extra => "was added behind the end of the trail, or the end was cut off",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::NOON;

    #[test]
    fn the_byte_layout_is_the_documented_one() {
        let entry = AuditEntry {
            seq: 2,
            time: NOON,
            device: "urn:dev:ops:32473-test-1".to_owned(),
            event: "nickname".to_owned(),
            payload: r#"{"nickname":"kitchen"}"#.to_owned(),
            previous: "11".repeat(32),
            hash: String::new(),
            elsewhere: false,
        };
        let mut bytes = vec![0x11; 32];
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        bytes.extend((NOON as u32).to_be_bytes());
        for text in ["urn:dev:ops:32473-test-1", "nickname", r#"{"nickname":"kitchen"}"#] {
            bytes.extend([0, 0, 0, text.len() as u8]);
            bytes.extend(text.as_bytes());
        }
        assert_eq!(entry.computed_hash(), hex::encode(Sha256::digest(bytes)));
    }
}
