//! A copy of the whole registry, whether it is sound, and what is to be said of one that was put back.

use std::{path::Path, sync::Arc};

use sqlx::AnyConnection;

use super::{
    Error, META_ISSUER, Registry, Verdict,
    audit::{Change, Event},
    issuer_of, schema,
};
use crate::clock::Clock;

impl Registry {
    /// Copies the registry to `path`, as of now and in one piece. The history says that it was done, in the copy, too.
    pub async fn snapshot(&self, path: &Path) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        change.record(None, &Event::BackupMade {}).await?;
        change.commit().await?;
        sqlx::query("VACUUM INTO $1").bind(path.display().to_string()).execute(&self.pool).await?;
        Ok(())
    }

    /// Opens the copy at `path` to look at it. Nothing about it changes.
    pub async fn open_copy(path: &Path, clock: Clock) -> Result<Self, Error> {
        let pool = schema::look_at(path).await?;
        let issuer = issuer_of(&pool).await?.ok_or(Error::Corrupt(META_ISSUER))?;
        Ok(Self {
            pool,
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
    pub async fn check(&self) -> Result<Verdict, Error> {
        integrity(&mut *self.pool.acquire().await?).await?;
        self.verify_seals(&[]).await
    }

    /// Checks a registry that was put back, and writes down that it was. Returns the time of what was the last entry, Unix
    /// seconds.
    ///
    /// # Errors
    /// Those of [`Registry::check`].
    pub async fn restored(&self) -> Result<u64, Error> {
        let entries = self.check().await?.chain.entries;
        let last = self.read().await?.entries(entries.saturating_sub(1)).await?.first().map_or(0, |entry| entry.time);
        let mut change = Change::begin(self).await?;
        change.record(None, &Event::BackupRestored {}).await?;
        change.commit().await?;
        Ok(last)
    }
}

/// Whether pages, rows and indexes fit each other.
async fn integrity(connection: &mut AnyConnection) -> Result<(), Error> {
    if connection.backend_name() != "SQLite" {
        return Ok(());
    }
    let damaged = |what: &str| Error::Damaged { file: None, what: what.to_owned() };
    let found: Vec<(String,)> = sqlx::query_as("PRAGMA integrity_check(1)").fetch_all(connection).await?;
    match found.first() {
        Some((ok,)) if ok == "ok" => Ok(()),
        Some((what,)) => Err(damaged(what)),
        None => Err(damaged("it does not say")),
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
