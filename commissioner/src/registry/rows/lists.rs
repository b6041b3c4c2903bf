//! The table `lists`: device lists, to be signed and signed.

use sqlx::{Row, any::AnyRow};

use super::{columns, transaction::Rows};
use crate::registry::{error::Error, record::List};

impl Rows {
    /// Adds a list, unless there is one of its version. Whether it was added.
    pub(crate) async fn put_list(&mut self, list: &List) -> Result<bool, Error> {
        let added = sqlx::query(
            "INSERT INTO lists (version, mode, keys, claims, object, elsewhere) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (version) DO NOTHING",
        )
        .bind(columns::signed(list.version))
        .bind(list.mode.as_str())
        .bind(columns::signed(list.keys as u64))
        .bind(list.claims.clone())
        .bind(list.object.clone())
        .bind(i64::from(list.is_elsewhere))
        .execute(self.connection())
        .await?;
        Ok(added.rows_affected() == 1)
    }

    /// Keeps the signed list of a version that has none. Whether there was such a version.
    pub(crate) async fn put_signed_list(&mut self, version: u64, object: &[u8]) -> Result<bool, Error> {
        let query = sqlx::query("UPDATE lists SET object = $1 WHERE version = $2 AND object IS NULL");
        let updated = query.bind(object.to_vec()).bind(columns::signed(version)).execute(self.connection()).await?;
        Ok(updated.rows_affected() > 0)
    }

    /// The newest list.
    pub(crate) async fn newest_list(&mut self) -> Result<Option<List>, Error> {
        let query = "SELECT * FROM lists ORDER BY version DESC LIMIT 1";
        sqlx::query(query).fetch_optional(self.connection()).await?.as_ref().map(list_from).transpose()
    }

    /// The newest list of those that are signed.
    pub(crate) async fn newest_signed_list(&mut self) -> Result<Option<List>, Error> {
        let query = "SELECT * FROM lists WHERE object IS NOT NULL ORDER BY version DESC LIMIT 1";
        sqlx::query(query).fetch_optional(self.connection()).await?.as_ref().map(list_from).transpose()
    }

    /// The oldest signed list that is newer than `version`.
    pub(crate) async fn signed_list_after(&mut self, version: u64) -> Result<Option<List>, Error> {
        let query = "SELECT * FROM lists WHERE version > $1 AND object IS NOT NULL ORDER BY version LIMIT 1";
        let row = sqlx::query(query).bind(columns::signed(version)).fetch_optional(self.connection()).await?;
        row.as_ref().map(list_from).transpose()
    }

    /// The lists that are newer than `version`, oldest first.
    pub(crate) async fn lists_after(&mut self, version: u64) -> Result<Vec<List>, Error> {
        let query = sqlx::query("SELECT * FROM lists WHERE version > $1 ORDER BY version");
        query.bind(columns::signed(version)).fetch_all(self.connection()).await?.iter().map(list_from).collect()
    }

    /// Whether there is a list of this version, or a newer one that was signed elsewhere.
    pub(crate) async fn has_list(&mut self, version: u64) -> Result<bool, Error> {
        let query = "SELECT version FROM lists WHERE version = $1 OR (version > $1 AND elsewhere = 1) LIMIT 1";
        let row = sqlx::query(query).bind(columns::signed(version)).fetch_optional(self.connection()).await?;
        Ok(row.is_some())
    }
}

fn list_from(row: &AnyRow) -> Result<List, Error> {
    Ok(List {
        version: columns::unsigned(row, "version")?,
        mode: columns::word(row, "mode")?,
        keys: usize::try_from(columns::unsigned(row, "keys")?).map_err(|_| Error::Corrupt("keys"))?,
        claims: row.try_get("claims")?,
        object: row.try_get("object")?,
        is_elsewhere: columns::unsigned(row, "elsewhere")? == 1,
    })
}
