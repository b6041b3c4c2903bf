//! A copy of the whole registry, and what is to be said of one that was put back.

use std::path::Path;

use super::{
    Error, Registry,
    audit::{Change, Event},
};

impl Registry {
    /// Copies the registry to `path`, as of now and in one piece. The history says that it was done, in the copy, too.
    pub async fn snapshot(&self, path: &Path) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        change.record(None, &Event::BackupMade {}).await?;
        change.commit().await?;
        sqlx::query("VACUUM INTO $1").bind(path.display().to_string()).execute(&self.pool).await?;
        Ok(())
    }

    /// Checks a registry that was put back, and writes down that it was. Returns the time of what was the last entry, Unix
    /// seconds.
    ///
    /// # Errors
    /// [`Error::Tampered`] and the others of [`Registry::verify_seals`].
    pub async fn restored(&self) -> Result<u64, Error> {
        let entries = self.verify_seals(&[]).await?.chain.entries;
        let last = self.read().await?.entries(entries.saturating_sub(1)).await?.first().map_or(0, |entry| entry.time);
        let mut change = Change::begin(self).await?;
        change.record(None, &Event::BackupRestored {}).await?;
        change.commit().await?;
        Ok(last)
    }
}
