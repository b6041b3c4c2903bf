//! The table `seals`: signed heads of the audit trail.

use sqlx::Row;

use super::{columns, transaction::Rows};
use crate::registry::error::Error;

impl Rows {
    /// Keeps the seal of the entry `seq`.
    pub(crate) async fn put_seal(&mut self, seq: u64, object: &[u8]) -> Result<(), Error> {
        let query = sqlx::query("INSERT INTO seals (seq, object) VALUES ($1, $2)");
        query.bind(columns::signed(seq)).bind(object.to_vec()).execute(self.connection()).await?;
        Ok(())
    }

    /// The first seal of an entry after `seq`: the entry's number, and the signed object.
    pub(crate) async fn seal_after(&mut self, seq: u64) -> Result<Option<(u64, Vec<u8>)>, Error> {
        let query = sqlx::query("SELECT seq, object FROM seals WHERE seq > $1 ORDER BY seq LIMIT 1");
        let row = query.bind(columns::signed(seq)).fetch_optional(self.connection()).await?;
        row.map(|row| Ok((columns::unsigned(&row, "seq")?, row.try_get("object")?))).transpose()
    }
}
