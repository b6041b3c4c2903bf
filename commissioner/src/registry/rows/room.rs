//! Room on the disk. SQLite alone.

use sqlx::{AnyConnection, Connection};

use super::transaction::Database;
use crate::registry::error::Error;

/// The size of a page: SQLite's own choice.
pub(crate) const PAGE_SIZE: i64 = 4096;
/// Pages that the rehearsal keeps in memory, so that the others go to the log at once.
const CACHE: i64 = 10;

impl Database {
    /// Writes so many pages to the log, and rolls them back: the log keeps its length, if there is room for them.
    pub(crate) async fn rehearse(&self, pages: i64) -> Result<(), Error> {
        let mut connection = self.0.acquire().await?;
        if connection.backend_name() == "SQLite" {
            sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA cache_size = {CACHE}"))).execute(&mut *connection).await?;
            let rehearsed = write_and_roll_back(&mut connection, pages + CACHE).await;
            sqlx::query("PRAGMA cache_size = -2000").execute(&mut *connection).await?;
            rehearsed?;
        }
        Ok(())
    }

    /// Puts the log into the database. Returns how many pages were in it.
    #[cfg(test)]
    pub(crate) async fn checkpoint(&self) -> i64 {
        let query = sqlx::query_as("PRAGMA wal_checkpoint(RESTART)");
        let (_, pages, _): (i64, i64, i64) = query.fetch_one(&self.0).await.unwrap();
        pages
    }
}

async fn write_and_roll_back(connection: &mut AnyConnection, pages: i64) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    sqlx::query("INSERT INTO meta (name, value) VALUES ('room', hex(zeroblob($1)))")
        .bind(pages * PAGE_SIZE / 2)
        .execute(&mut *tx)
        .await?;
    tx.rollback().await
}
