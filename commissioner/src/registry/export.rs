//! The export with history, which another registry of the same issuer can merge.

use std::cell::Cell;

use super::{
    entry::AuditSummary,
    error::Error,
    export_lines::{FORMAT, Written},
    handle::Registry,
};
use crate::text;

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
}
