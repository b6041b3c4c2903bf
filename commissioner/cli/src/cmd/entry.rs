//! An entry of the audit trail, as people read it.

use std::fmt;

use commissioner::{clock::rfc3339, registry::AuditEntry, text};
use serde_json::Value;

/// An entry of the audit trail in one line.
pub(super) struct Entry<'a>(pub(super) &'a AuditEntry);

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(entry) = self;
        let elsewhere = if entry.elsewhere { " (imported)" } else { "" };
        write!(f, "{:>4} {}  {}{elsewhere}", entry.seq, rfc3339(entry.time), text::line(&entry.event))?;
        for (name, value) in entry.particulars() {
            let value = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            write!(f, "  {}: {}", text::line(&name), text::line(&value))?;
        }
        Ok(())
    }
}
