//! A copy of the whole registry, whether it is sound, and what is to be said of one that was put back.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};

use super::{
    change::Change,
    error::Error,
    event::Event,
    handle::Registry,
    open::{META_ISSUER, issuer_of},
    reading::Reading,
    rows::schema,
    seals::Verification,
};
use crate::{clock::Clock, state_dir};

impl Registry {
    /// Copies the registry to `path`, as of now and in one piece: a new file that its owner alone can read. The history says that
    /// it was done, in the copy, too; but not where nothing can be written.
    pub async fn snapshot(&self, path: &Path) -> Result<(), Error> {
        if !self.is_frozen {
            let mut change = Change::begin(self).await?;
            change.record(None, &Event::BackupMade {}).await?;
            change.commit().await?;
        }
        let into = path.to_str().ok_or_else(|| state_dir::Error::NotText(path.to_owned()))?;
        // SQLite would make it readable for all.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        made.map_err(|source| state_dir::Error::Io { path: path.to_owned(), source })?;
        self.database.copy_into(into).await
    }

    /// Opens the copy at `path` to look at it. Nothing about it changes.
    pub async fn open_copy(path: &Path, clock: Clock) -> Result<Self, Error> {
        let database = schema::look_at(path).await?;
        let issuer = issuer_of(&database).await?.ok_or(Error::Corrupt(META_ISSUER))?;
        Ok(Self {
            database,
            clock,
            clock_ok: false,
            issuer,
            is_frozen: true,
            reserved: Arc::default(),
            turn: Arc::default(),
        })
    }

    /// Checks the database itself, the chain of the audit trail, and every signature over one of its heads.
    ///
    /// # Errors
    /// [`Error::Damaged`]; those of [`Registry::verify_seals`].
    pub async fn check(&self) -> Result<Verification, Error> {
        let mut reading = self.read().await?;
        reading.rows.is_all_sound().await?;
        reading.verify_seals(&self.issuer, &[]).await
    }

    /// Checks a registry that was put back, and writes down that it was. Returns the time of what was the last entry, Unix
    /// seconds.
    ///
    /// # Errors
    /// Those of [`Registry::check`].
    pub async fn restored(&self) -> Result<u64, Error> {
        let last = self.check().await?.chain.entries;
        let mut change = Change::begin(self).await?;
        let time = change.rows.entry(last).await?.map_or(0, |entry| entry.time);
        change.record(None, &Event::BackupRestored {}).await?;
        change.commit().await?;
        Ok(time)
    }
}

impl Reading {
    /// Checks what lists and exports are made of. A damaged index has no error of its own: rows are missing then, without a word.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub async fn is_sound(&mut self) -> Result<(), Error> {
        self.rows.is_sound().await
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt};

    use super::*;
    use crate::registry::testing::{Fixture, NOON, id};

    #[tokio::test]
    async fn a_copy_is_looked_at_and_not_touched() {
        let fixture = Fixture::new().await;
        fixture.commissioned(&id("device")).await;
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("copy 100%? #1");
        fixture.registry.snapshot(&path).await.unwrap();
        let before = fs::read(&path).unwrap();
        let copy = Registry::open_copy(&path, Clock::manual(NOON)).await.unwrap();
        assert_eq!(copy.check().await.unwrap().chain.entries, 7);
        assert!(copy.set_nickname(&id("device"), &"kitchen".parse().unwrap()).await.is_err());
        copy.close().await;
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "nothing is beside it");
    }

    /// Each page but the first is damaged in turn: it does not open, or is not sound, or the page was not in use.
    #[tokio::test]
    async fn a_torn_copy_is_noticed() {
        let fixture = Fixture::new().await;
        fixture.commissioned(&id("device")).await;
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("copy");
        fixture.registry.snapshot(&path).await.unwrap();
        let whole = fs::read(&path).unwrap();
        let check = async || Registry::open_copy(&path, Clock::manual(NOON)).await?.check().await.map(drop);
        check().await.unwrap();
        for page in 1..whole.len() / 4096 {
            fs::write(&path, &whole).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[0; 4096], page as u64 * 4096).unwrap();
            assert!(check().await.is_err(), "page {page}");
        }
        fs::write(&path, &whole[..whole.len() - 4096]).unwrap();
        assert!(check().await.is_err(), "its end is off");
    }
}
