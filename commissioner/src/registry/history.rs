//! The histories of other registries that were imported.

use super::{
    entry::{BEFORE_FIRST, Tampering},
    error::Error,
    rows::Rows,
};

/// Whether an entry with this hash is in our history or in one that was imported.
pub(super) async fn is_known(rows: &mut Rows, hash: &str) -> Result<bool, Error> {
    Ok(rows.entry_with(hash).await?.is_some() || rows.imported(hash).await?.is_some())
}

/// Checks an imported history from its end, `head`, to where it is ours, or one that was checked before.
pub(super) async fn verify(rows: &mut Rows, head: &str, checked: &[String]) -> Result<(), Error> {
    let mut next = (u64::MAX, head.to_owned());
    while next.1 != BEFORE_FIRST && !checked.contains(&next.1) {
        if rows.entry_with(&next.1).await?.is_some() {
            return Ok(());
        }
        let tampered = |what| Error::TamperedImport { head: head.to_owned(), before: next.0, what };
        let entry = rows.imported(&next.1).await?.ok_or_else(|| tampered(Tampering::Missing))?;
        if entry.computed_hash() != entry.hash {
            return Err(tampered(Tampering::Changed));
        }
        next = (entry.seq, entry.previous);
    }
    Ok(())
}
