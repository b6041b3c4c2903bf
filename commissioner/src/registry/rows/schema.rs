//! The database behind the registry, and its versions.

use std::{
    collections::HashSet,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use sqlx::{
    AnyConnection, AnyPool, Connection, SqlSafeStr,
    any::AnyPoolOptions,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use super::{failure::Hindrance, transaction::Database};
use crate::{
    files::{self, BESIDE_DATABASE},
    registry::Error,
    state_dir::{self, Found, Lock, StateDir},
};

/// Every version of the schema since the first, by number.
const MIGRATIONS: [(i64, &str, &str); 8] = [
    (1, "registry", include_str!("migrations/0001_registry.sql")),
    (2, "lists", include_str!("migrations/0002_lists.sql")),
    (3, "seals", include_str!("migrations/0003_seals.sql")),
    (4, "policies", include_str!("migrations/0004_policies.sql")),
    (5, "imported", include_str!("migrations/0005_imported.sql")),
    (6, "stations", include_str!("migrations/0006_stations.sql")),
    (7, "counts_by", include_str!("migrations/0007_counts_by.sql")),
    (8, "successors", include_str!("migrations/0008_successors.sql")),
];

/// The table in which sqlx keeps the versions.
const VERSIONS: &str = "_sqlx_migrations";
/// "Durable" is a promise here: each commit is synchronised to the disk before it returns.
const DURABLE: &str = "PRAGMA synchronous = FULL; PRAGMA busy_timeout = 30000;";
/// Without memory that is shared with others, so nobody else gets in.
const ALONE: &str = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 30000;";

/// A database that is open, and whose schema is right.
pub(crate) struct Connected {
    pub(crate) database: Database,
    /// It is read as it is now, whatever becomes of it.
    pub(crate) is_frozen: bool,
}

/// What may be done to a database whose schema is not of this program's version.
#[derive(Clone, Copy)]
pub(crate) enum Purpose<'l> {
    /// Nothing.
    Look,
    /// It is brought up to date, if it is one that `init` has finished.
    Upgrade(#[expect(dead_code, reason = "holding it is what counts")] &'l Lock),
    /// `init`: all of it is made.
    Make(#[expect(dead_code, reason = "holding it is what counts")] &'l Lock),
}

/// Opens the database of `dir`; none if its schema is not up to date and `purpose` does not go as far.
///
/// # Errors
/// [`state_dir::Error::Lost`] if tables are missing that were there.
pub(crate) async fn connect(dir: &StateDir, purpose: Purpose<'_>) -> Result<Option<Connected>, Error> {
    sqlx::any::install_default_drivers();
    // SQLite gives its -wal and -shm files the mode of the main file.
    dir.keep_registry_private()?;
    let opening = Opening::of(dir, matches!(purpose, Purpose::Make(_))).await?;
    let pool = opening.pool().await?;
    let outcome = bring_up_to_date(dir, &pool, purpose).await;
    match outcome {
        Ok(true) => Ok(Some(Connected { database: Database(pool), is_frozen: opening.is_frozen })),
        // Whoever fails leaves nothing beside the database, which is there until it is closed.
        outcome => {
            pool.close().await;
            outcome.map(|_| None)
        }
    }
}

/// Whether the schema is right now: not if it is not up to date and `purpose` does not go as far.
async fn bring_up_to_date(dir: &StateDir, pool: &AnyPool, purpose: Purpose<'_>) -> Result<bool, Error> {
    let tables = tables(pool).await?;
    let applied = if tables.contains(VERSIONS) { versions(pool).await? } else { Vec::new() };
    let found = dir.found()?;
    if found == Found::Registry
        && let Some(missing) = missing_table(&tables, &applied)
    {
        return Err(lost(dir, &format!("lacks its tables, such as {missing}")).into());
    }
    let may_change = match purpose {
        Purpose::Look => false,
        Purpose::Upgrade(_) => found == Found::Registry,
        Purpose::Make(_) => true,
    };
    if !may_change && MIGRATIONS.iter().any(|(version, ..)| !applied.contains(version)) {
        return Ok(false);
    }
    match migrator(&MIGRATIONS).run(pool).await {
        Ok(()) => Ok(true),
        Err(MigrateError::VersionMissing(version)) => Err(Error::Newer { path: dir.registry(), version }),
        // Such as a full disk.
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(error.into()),
        Err(other) => Err(Error::Migration(other.into())),
    }
}

/// The error for a registry that is less than it was.
pub(crate) fn lost(dir: &StateDir, what: &str) -> state_dir::Error {
    state_dir::Error::Lost { path: dir.registry(), what: what.to_owned() }
}

async fn tables(pool: &AnyPool) -> Result<HashSet<String>, Error> {
    let names: Vec<(String,)> =
        sqlx::query_as("SELECT name FROM sqlite_schema WHERE type = 'table'").fetch_all(pool).await?;
    Ok(names.into_iter().map(|(name,)| name).collect())
}

async fn versions(pool: &AnyPool) -> Result<Vec<i64>, Error> {
    let versions: Vec<(i64,)> = sqlx::query_as("SELECT version FROM _sqlx_migrations").fetch_all(pool).await?;
    Ok(versions.into_iter().map(|(version,)| version).collect())
}

/// A table that one of the versions made, and that is not there.
fn missing_table<'a>(tables: &HashSet<String>, applied: &[i64]) -> Option<&'a str> {
    if applied.is_empty() {
        return Some(VERSIONS);
    }
    let applied = MIGRATIONS.iter().filter(|(version, ..)| applied.contains(version));
    applied.flat_map(|(_, _, sql)| made_by(sql)).find(|table| !tables.contains(*table))
}

/// The tables that a migration makes.
fn made_by(sql: &'static str) -> impl Iterator<Item = &'static str> {
    sql.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split([' ', '(']).next())
}

/// How a database is opened where it is.
struct Opening {
    url: String,
    settings: &'static str,
    connections: u32,
    is_frozen: bool,
}

impl Opening {
    /// Finds out what the file system of `dir` can do. `tells`: what it cannot do is told.
    async fn of(dir: &StateDir, tells: bool) -> Result<Self, Error> {
        let url = sqlite_url(&dir.registry());
        if !dir.is_writable() {
            return Self::of_read_only(dir, url);
        }
        let usual = Self { url, settings: DURABLE, connections: 4, is_frozen: false };
        match usual.journal_mode().await {
            Ok(mode) if mode == "wal" => {}
            // It is new, or was put back, or is at home on a file system that knows no better.
            Ok(_) => match try_shared_memory(dir).await {
                Ok(()) => usual.set("PRAGMA journal_mode = WAL;").await?,
                Err(error) if tells && Hindrance::of(&error) == Hindrance::NoSharedMemory => tell_of_slow_journal(dir),
                Err(_) => {}
            },
            Err(error) => match Hindrance::of(&error) {
                // It was copied here from elsewhere.
                Hindrance::NoSharedMemory => {
                    let alone = Self { settings: ALONE, ..usual };
                    alone.set("PRAGMA journal_mode = DELETE;").await?;
                    tell_of_slow_journal(dir);
                    return Ok(Self { settings: DURABLE, ..alone });
                }
                Hindrance::NoRoom => return Ok(Self { settings: ALONE, connections: 1, is_frozen: true, ..usual }),
                Hindrance::Other => return Err(error.into()),
            },
        }
        Ok(usual)
    }

    /// Where nothing can be written, SQLite cannot share memory with who might write. If somebody does now, that is there to be
    /// read; if nobody does, the file alone is all there is.
    fn of_read_only(dir: &StateDir, url: String) -> Result<Self, Error> {
        let len = |suffix| fs::metadata(beside(&dir.registry(), suffix)).map_or(0, |metadata| metadata.len());
        let parameters = match (len("-shm") > 0, len("-wal").max(len("-journal")) > 0) {
            (true, _) => "mode=ro",
            (false, true) => return Err(Error::Unmerged(dir.registry())),
            (false, false) => "mode=ro&immutable=true",
        };
        Ok(Self { url: format!("{url}?{parameters}"), settings: DURABLE, connections: 4, is_frozen: true })
    }

    /// A connection, and not of a pool: that hides why it cannot connect behind a time-out.
    async fn connection(&self) -> Result<AnyConnection, sqlx::Error> {
        let mut connection = AnyConnection::connect(&self.url).await?;
        match configure(&mut connection, self.settings).await {
            Ok(()) => Ok(connection),
            Err(error) => {
                connection.close().await?;
                Err(error)
            }
        }
    }

    /// How the database keeps its promises now: "wal", or by a journal of what was there before.
    async fn journal_mode(&self) -> Result<String, sqlx::Error> {
        let mut connection = self.connection().await?;
        let mode = sqlx::query_as("PRAGMA journal_mode").fetch_one(&mut connection).await;
        connection.close().await?;
        let (mode,): (String,) = mode?;
        Ok(mode)
    }

    async fn set(&self, pragma: &'static str) -> Result<(), sqlx::Error> {
        let mut connection = self.connection().await?;
        let set = sqlx::raw_sql(pragma).execute(&mut connection).await;
        connection.close().await?;
        set.map(drop)
    }

    async fn pool(&self) -> Result<AnyPool, Error> {
        let settings = self.settings;
        let options = AnyPoolOptions::new()
            .max_connections(self.connections)
            .after_connect(move |connection, _| Box::pin(configure(connection, settings)));
        Ok(options.connect(&self.url).await?)
    }
}

/// Opens a database that nobody else has open to look at it: it is not changed, and nothing is made beside it.
pub(crate) async fn look_at(path: &Path) -> Result<Database, Error> {
    sqlx::any::install_default_drivers();
    let url = format!("{}?mode=ro&immutable=true", sqlite_url(path));
    let mut first = AnyConnection::connect(&url).await?;
    first.ping().await?;
    first.close().await?;
    Ok(Database(AnyPoolOptions::new().max_connections(1).connect(&url).await?))
}

async fn configure(connection: &mut AnyConnection, settings: &'static str) -> Result<(), sqlx::Error> {
    if connection.backend_name() == "SQLite" {
        sqlx::raw_sql(settings).execute(connection).await?;
    }
    Ok(())
}

/// Whether files here can be mapped by several processes, which a write-ahead log takes. Tried with a database that is thrown
/// away: one that was told to have such a log could not be opened any more.
async fn try_shared_memory(dir: &StateDir) -> Result<(), sqlx::Error> {
    let path = files::scratch_path(dir.path());
    let trial = async {
        let mut connection = AnyConnection::connect(&format!("{}?mode=rwc", sqlite_url(&path))).await?;
        let sql = "PRAGMA journal_mode = WAL; CREATE TABLE trial (x BIGINT);";
        sqlx::raw_sql(sql).execute(&mut connection).await?;
        connection.close().await
    };
    let tried = trial.await;
    for suffix in [""].into_iter().chain(BESIDE_DATABASE) {
        let _ = fs::remove_file(beside(&path, suffix));
    }
    tried
}

/// A file that SQLite keeps beside a database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(suffix);
    path.into()
}

fn tell_of_slow_journal(dir: &StateDir) {
    tracing::warn!(
        "the file system of {} shares no memory between processes, so commands that use the registry at the same time wait for \
         each other; a local file system would do better",
        dir.path().display()
    );
}

fn migrator(versions: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(versions.iter().map(migration).collect())
}

/// The path as a URL: sqlx decodes `%`, and takes `?` for its own.
fn sqlite_url(path: &Path) -> String {
    let mut url = "sqlite://".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            url.push(byte.into());
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::{
        clock::Clock,
        registry::{
            Registry,
            testing::{Fixture, id},
        },
    };

    #[tokio::test]
    async fn every_file_is_private_while_in_use_and_after() {
        let mut fixture = Fixture::new().await;
        fixture.commissioned(&id("device")).await;
        let mut seen = Vec::new();
        for entry in fs::read_dir(fixture.dir.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().mode() & 0o7777, 0o600, "{:?}", entry.path());
            seen.push(entry.file_name().into_string().unwrap());
        }
        assert!(
            seen.iter().any(|name| name.ends_with("-wal")) && seen.iter().any(|name| name.ends_with("-shm")),
            "{seen:?}"
        );
        fixture.reopen().await;
        assert_eq!(fs::metadata(fixture.dir.registry()).unwrap().mode() & 0o7777, 0o600);
    }

    #[tokio::test]
    async fn commits_are_synchronised() {
        let fixture = Fixture::new().await;
        let pragma = async |name: &'static str| -> String {
            let row = sqlx::query(name).fetch_one(&fixture.registry.database.0).await.unwrap();
            sqlx::Row::try_get::<String, _>(&row, 0)
                .unwrap_or_else(|_| sqlx::Row::try_get::<i64, _>(&row, 0).unwrap().to_string())
        };
        assert_eq!(pragma("PRAGMA journal_mode").await, "wal");
        assert_eq!(pragma("PRAGMA synchronous").await, "2", "FULL");
        assert_eq!(pragma("PRAGMA foreign_keys").await, "1");
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused() {
        let fixture = Fixture::new().await;
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (99, 'from the future', TRUE, $1, 0)",
        )
        .bind(vec![0u8; 48])
        .execute(&fixture.registry.database.0)
        .await
        .unwrap();
        let error = Registry::open(&fixture.dir, Clock::manual(0), false).await.unwrap_err();
        assert!(matches!(error, Error::Newer { version: 99, .. }), "{error}");
        assert!(error.to_string().contains("newer commissioner"), "{error}");
    }

    #[tokio::test]
    async fn a_released_migration_is_never_edited() {
        let fixture = Fixture::new().await;
        sqlx::query("UPDATE _sqlx_migrations SET checksum = $1 WHERE version = 1")
            .bind(vec![0u8; 48])
            .execute(&fixture.registry.database.0)
            .await
            .unwrap();
        let error = Registry::open(&fixture.dir, Clock::manual(0), false).await.unwrap_err();
        assert!(matches!(error, Error::Migration(_)), "{error}");
    }

    /// What a new process finds.
    async fn opened(fixture: &Fixture) -> Result<Registry, Error> {
        Registry::open(&fixture.dir, Clock::manual(0), false).await
    }

    async fn execute(fixture: &Fixture, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&fixture.registry.database.0).await.unwrap();
    }

    fn is_a_loss(error: &Error, fixture: &Fixture) {
        let text = error.to_string();
        for part in [fixture.dir.registry().to_str().unwrap(), "restore-backup FILE"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("`commissioner init`"), "{text}");
    }

    #[tokio::test]
    async fn a_registry_that_lacks_any_of_its_tables_is_lost() {
        let made: Vec<_> = MIGRATIONS.iter().flat_map(|(_, _, sql)| made_by(sql)).collect();
        assert_eq!(made.len(), 11, "{made:?}");
        for table in made.into_iter().chain([VERSIONS]) {
            let fixture = Fixture::new().await;
            let drop = format!("PRAGMA foreign_keys = OFF; DROP TABLE {table};");
            sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&fixture.registry.database.0).await.unwrap();
            let error = opened(&fixture).await.unwrap_err();
            assert!(matches!(error, Error::StateDir(state_dir::Error::Lost { .. })), "{table}: {error}");
            is_a_loss(&error, &fixture);
            let lock = fixture.dir.lock().unwrap();
            let error = Registry::open_locked(&fixture.dir, &lock, Clock::manual(0), false).await.unwrap_err();
            is_a_loss(&error, &fixture);
        }
    }

    #[tokio::test]
    async fn a_registry_of_nobody_is_lost() {
        let fixture = Fixture::new().await;
        execute(&fixture, "DELETE FROM meta").await;
        is_a_loss(&opened(&fixture).await.unwrap_err(), &fixture);
    }

    #[tokio::test]
    async fn what_an_interrupted_init_left_is_no_loss() {
        let fixture = Fixture::new().await;
        let lock = fixture.dir.lock().unwrap();
        fixture.dir.begin(&lock).unwrap();
        // It had come to its end, but for the mark.
        opened(&fixture).await.unwrap();
        assert_eq!(fixture.dir.found().unwrap(), Found::Registry);
        fixture.dir.begin(&lock).unwrap();
        execute(&fixture, "DELETE FROM meta").await;
        assert!(matches!(opened_under(&fixture, &lock).await, Err(Error::NotInitialised(_))));
        execute(&fixture, "DROP TABLE seals; DELETE FROM _sqlx_migrations WHERE version > 2").await;
        assert!(matches!(opened_under(&fixture, &lock).await, Err(Error::NotInitialised(_))));
    }

    async fn opened_under(fixture: &Fixture, lock: &Lock) -> Result<Registry, Error> {
        Registry::open_locked(&fixture.dir, lock, Clock::manual(0), false).await
    }

    #[tokio::test]
    async fn damage_that_a_later_statement_comes_upon_names_the_way_out() {
        let fixture = Fixture::new().await;
        execute(&fixture, "DROP TABLE seals").await;
        let error = fixture.registry.verify_seals(&[]).await.unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("restore-backup FILE"), "{error}");
        execute(&fixture, "DELETE FROM audit_head").await;
        let error = fixture.proved(&id("device"), &crate::registry::testing::key()).await.unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_older_schema_is_brought_up_to_date_under_the_lock() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::create(&temp.path().join("state")).unwrap();
        let lock = dir.lock().unwrap();
        dir.make_registry(&lock).unwrap();
        sqlx::any::install_default_drivers();
        let pool = Opening::of(&dir, false).await.unwrap().pool().await.unwrap();
        migrator(&MIGRATIONS[..MIGRATIONS.len() - 1]).run(&pool).await.unwrap();
        assert!(connect(&dir, Purpose::Look).await.unwrap().is_none());
        assert!(connect(&dir, Purpose::Upgrade(&lock)).await.unwrap().is_some());
        assert!(connect(&dir, Purpose::Look).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn reading_takes_no_lock() {
        let fixture = Fixture::new().await;
        let _held = fixture.dir.lock().unwrap();
        opened(&fixture).await.unwrap();
        fs::remove_file(fixture.dir.path().join("lock")).unwrap();
        opened(&fixture).await.unwrap();
        assert!(!fixture.dir.path().join("lock").exists());
    }

    /// What is left of a registry in use, in another directory.
    fn copied(fixture: &Fixture, suffixes: &[&str]) -> (tempfile::TempDir, StateDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::create(&temp.path().join("state")).unwrap();
        for suffix in suffixes {
            fs::copy(beside(&fixture.dir.registry(), suffix), beside(&dir.registry(), suffix)).unwrap();
        }
        (temp, dir)
    }

    async fn devices_at(opening: &Opening) -> i64 {
        let pool = opening.pool().await.unwrap();
        let count: (i64,) = sqlx::query_as("SELECT count(*) FROM devices").fetch_one(&pool).await.unwrap();
        pool.close().await;
        count.0
    }

    #[tokio::test]
    async fn where_nothing_can_be_written_all_is_read_or_nothing() {
        let mut fixture = Fixture::new().await;
        fixture.commissioned(&id("device")).await;
        let read_only = |dir: &StateDir| Opening::of_read_only(dir, sqlite_url(&dir.registry()));
        let (_temp, dir) = copied(&fixture, &["", "-wal", "-shm"]);
        assert_eq!(devices_at(&read_only(&dir).unwrap()).await, 1);
        // The newest changes are in a log that cannot be read here: so nothing is.
        let (_temp, dir) = copied(&fixture, &["", "-wal"]);
        let error = read_only(&dir).map(drop).unwrap_err();
        assert!(matches!(error, Error::Unmerged(_)), "{error}");
        fixture.registry.close().await;
        let (_temp, dir) = copied(&fixture, &[""]);
        assert_eq!(devices_at(&read_only(&dir).unwrap()).await, 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was written");
        fixture.reopen().await;
    }

    #[tokio::test]
    async fn alone_it_needs_no_shared_memory_and_can_do_without_for_good() {
        let mut fixture = Fixture::new().await;
        fixture.commissioned(&id("device")).await;
        let (_temp, dir) = copied(&fixture, &["", "-wal"]);
        let alone = Opening { url: sqlite_url(&dir.registry()), settings: ALONE, connections: 1, is_frozen: true };
        assert_eq!(devices_at(&alone).await, 1);
        assert!(!beside(&dir.registry(), "-shm").exists());
        alone.set("PRAGMA journal_mode = DELETE;").await.unwrap();
        let usual = Opening { settings: DURABLE, connections: 4, ..alone };
        assert_eq!(usual.journal_mode().await.unwrap(), "delete");
        assert_eq!(devices_at(&usual).await, 1);
        // Back on a file system that can do better, it does.
        let registry = Registry::open(&dir, fixture.clock.clone(), false).await.unwrap();
        assert_eq!(usual.journal_mode().await.unwrap(), "wal");
        assert!(registry.device_by_id(&id("device")).await.unwrap().is_some());
        fixture.reopen().await;
    }

    #[tokio::test]
    async fn the_trial_leaves_nothing_behind() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::create(&temp.path().join("state")).unwrap();
        sqlx::any::install_default_drivers();
        try_shared_memory(&dir).await.unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn odd_paths_survive() {
        assert_eq!(sqlite_url(Path::new("/a b/c?d#e%/ü.sqlite")), "sqlite:///a%20b/c%3Fd%23e%25/%C3%BC.sqlite");
    }
}
