//! The database behind the registry, and its versions.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sqlx::{
    AnyConnection, AnyPool, Connection, SqlSafeStr,
    any::AnyPoolOptions,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use super::Error;
use crate::state_dir::{self, Lock, StateDir};

/// Every version of the schema since the first, by number.
const MIGRATIONS: [(i64, &str, &str); 7] = [
    (1, "registry", include_str!("migrations/0001_registry.sql")),
    (2, "lists", include_str!("migrations/0002_lists.sql")),
    (3, "seals", include_str!("migrations/0003_seals.sql")),
    (4, "policies", include_str!("migrations/0004_policies.sql")),
    (5, "imported", include_str!("migrations/0005_imported.sql")),
    (6, "stations", include_str!("migrations/0006_stations.sql")),
    (7, "counts_by", include_str!("migrations/0007_counts_by.sql")),
];

/// Opens the database of `dir`, makes it if there is none, and brings its schema up to date. Holding the lock keeps a second
/// process from doing the same.
pub(super) async fn connect(dir: &StateDir, _: &Lock) -> Result<AnyPool, Error> {
    sqlx::any::install_default_drivers();
    let path = dir.registry();
    // SQLite gives its -wal and -shm files the mode of the main file.
    state_dir::make_private(&path)?;
    let url = sqlite_url(&path);
    // A pool hides why it cannot connect behind a time-out; a connection says it at once.
    let mut first = AnyConnection::connect(&url).await?;
    configure(&mut first).await?;
    first.close().await?;
    let pool = AnyPoolOptions::new()
        .max_connections(4)
        .after_connect(|connection, _| Box::pin(configure(connection)))
        .connect(&url)
        .await?;
    match migrator().run(&pool).await {
        Ok(()) => Ok(pool),
        Err(MigrateError::VersionMissing(version)) => Err(Error::Newer { path, version }),
        // Such as a full disk.
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(Error::Database(error)),
        Err(other) => Err(Error::Migration(other)),
    }
}

async fn configure(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    if connection.backend_name() == "SQLite" {
        // "Durable" is a promise here: each commit is synchronised to the disk before it returns.
        sqlx::raw_sql("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 30000;")
            .execute(connection)
            .await?;
    }
    Ok(())
}

fn migrator() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.into_iter().map(migration).collect())
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
    use std::{fs, os::unix::fs::MetadataExt};

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
            let row = sqlx::query(name).fetch_one(&fixture.registry.pool).await.unwrap();
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
        .execute(&fixture.registry.pool)
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
            .execute(&fixture.registry.pool)
            .await
            .unwrap();
        let error = Registry::open(&fixture.dir, Clock::manual(0), false).await.unwrap_err();
        assert!(matches!(error, Error::Migration(_)), "{error}");
    }

    #[test]
    fn odd_paths_survive() {
        assert_eq!(sqlite_url(Path::new("/a b/c?d#e%/ü.sqlite")), "sqlite:///a%20b/c%3Fd%23e%25/%C3%BC.sqlite");
    }
}
