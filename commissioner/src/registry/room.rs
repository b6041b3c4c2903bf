//! Room on the disk for what cannot be repeated.
//!
//! What a device did cannot be taken back because the disk is full. So before it is asked, as many pages as it takes to write
//! that down are written to the database's log, and rolled back: the log keeps its length, and the next commit goes to where
//! they were. Who cannot have them learns it while nothing is done yet.
//!
//! This holds against everything that is full by then: the disk, a quota, the largest size of a file. It does not hold against
//! another process that writes to the same registry in between, and on a file system that writes nothing in place (btrfs, ZFS)
//! a full disk may be full all the same.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use sqlx::{AnyConnection, Connection};

use super::{Error, Registry};

/// The pages that one change may come to: those of a key that takes the place of another, in a registry of a million devices,
/// are 21 (`what_is_written_down_afterwards_has_room`).
const PAGES: i64 = 48;
/// The size of a page: SQLite's own choice.
const PAGE_SIZE: i64 = 4096;
/// Pages that the rehearsal keeps in memory, so that the others go to the log at once.
const CACHE: i64 = 10;

/// Room for one change, which is given back when this is dropped.
#[derive(Debug)]
pub struct Room(Arc<AtomicI64>);

impl Registry {
    /// Makes sure that there is room for one change more, beside those that others in this process have room for.
    ///
    /// # Errors
    /// [`Error::Database`] if there is none.
    pub async fn reserve(&self) -> Result<Room, Error> {
        let others = self.reserved.fetch_add(1, Ordering::Relaxed);
        let room = Room(self.reserved.clone());
        let mut connection = self.pool.acquire().await?;
        if connection.backend_name() == "SQLite" {
            sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA cache_size = {CACHE}"))).execute(&mut *connection).await?;
            let rehearsed = rehearse(&mut connection, (others + 1) * PAGES + CACHE).await;
            sqlx::query("PRAGMA cache_size = -2000").execute(&mut *connection).await?;
            rehearsed?;
        }
        Ok(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes so many pages, and rolls them back.
async fn rehearse(connection: &mut AnyConnection, pages: i64) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    sqlx::query("INSERT INTO meta (name, value) VALUES ('room', hex(zeroblob($1)))")
        .bind(pages * PAGE_SIZE / 2)
        .execute(&mut *tx)
        .await?;
    tx.rollback().await
}
