//! A copy of the whole database, and whether it is sound. SQLite alone.

use super::transaction::{Database, Rows};
use crate::registry::error::Error;

/// What lists and exports are made of; the history is far longer, and has a check of its own.
const LISTED: [&str; 5] = [
    "PRAGMA integrity_check(devices)",
    "PRAGMA integrity_check(keys)",
    "PRAGMA integrity_check(certificates)",
    "PRAGMA integrity_check(lists)",
    "PRAGMA integrity_check(tokens)",
];

impl Database {
    /// Copies the database into the empty file `path`, as of now and in one piece.
    pub(crate) async fn copy_into(&self, path: &str) -> Result<(), Error> {
        sqlx::query("VACUUM INTO $1").bind(path.to_owned()).execute(&self.0).await?;
        Ok(())
    }
}

impl Rows {
    /// Checks the tables that lists and exports are made of. A damaged index has no error of its own: rows are missing then,
    /// without a word.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(crate) async fn is_sound(&mut self) -> Result<(), Error> {
        self.integrity(&LISTED).await
    }

    /// Checks all tables.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(crate) async fn is_all_sound(&mut self) -> Result<(), Error> {
        self.integrity(&["PRAGMA integrity_check(1)"]).await
    }

    /// Whether pages, rows and indexes fit each other.
    async fn integrity(&mut self, checks: &[&'static str]) -> Result<(), Error> {
        if self.connection().backend_name() != "SQLite" {
            return Ok(());
        }
        let damaged = |what: &str| Error::Damaged { file: None, what: what.to_owned() };
        for check in checks {
            let found: Vec<(String,)> = sqlx::query_as(*check).fetch_all(self.connection()).await?;
            match found.first() {
                Some((ok,)) if ok == "ok" => {}
                Some((what,)) => return Err(damaged(what)),
                None => return Err(damaged("it does not say")),
            }
        }
        Ok(())
    }
}
