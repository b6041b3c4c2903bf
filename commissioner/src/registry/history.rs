//! The histories of other registries that were imported.

use sqlx::AnyConnection;

use super::{
    entry::{AuditEntry, BEFORE_FIRST, Tampering},
    error::Error,
};

/// Whether an entry with this hash is in our history or in one that was imported.
pub(super) async fn is_known(connection: &mut AnyConnection, hash: &str) -> Result<bool, Error> {
    let query = "SELECT 1 FROM audit WHERE hash = $1 UNION ALL SELECT 1 FROM imported WHERE hash = $1";
    Ok(sqlx::query(query).bind(hash).fetch_optional(&mut *connection).await?.is_some())
}

/// Checks an imported history from its end, `head`, to where it is ours, or one that was checked before.
pub(super) async fn verify(connection: &mut AnyConnection, head: &str, checked: &[String]) -> Result<(), Error> {
    let mut next = (u64::MAX, head.to_owned());
    while next.1 != BEFORE_FIRST && !checked.contains(&next.1) {
        let ours = sqlx::query("SELECT 1 FROM audit WHERE hash = $1").bind(next.1.clone());
        if ours.fetch_optional(&mut *connection).await?.is_some() {
            return Ok(());
        }
        let row = sqlx::query("SELECT * FROM imported WHERE hash = $1").bind(next.1.clone());
        let Some(row) = row.fetch_optional(&mut *connection).await? else {
            return Err(Error::TamperedImport { head: head.to_owned(), before: next.0, what: Tampering::Missing });
        };
        let entry = AuditEntry::from_row(&row)?;
        if entry.computed_hash() != entry.hash {
            return Err(Error::TamperedImport { head: head.to_owned(), before: next.0, what: Tampering::Changed });
        }
        next = (entry.seq, entry.previous);
    }
    Ok(())
}
