//! The table `imported`: entries of other registries' histories.

use super::{audit::entry_from, columns, transaction::Rows};
use crate::registry::{entry::AuditEntry, error::Error};

impl Rows {
    /// Adds an entry.
    pub(crate) async fn put_imported(&mut self, entry: &AuditEntry) -> Result<(), Error> {
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
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The entry with this hash.
    pub(crate) async fn imported(&mut self, hash: &str) -> Result<Option<AuditEntry>, Error> {
        let query = sqlx::query("SELECT * FROM imported WHERE hash = $1").bind(hash.to_owned());
        query.fetch_optional(self.connection()).await?.as_ref().map(entry_from).transpose()
    }
}
