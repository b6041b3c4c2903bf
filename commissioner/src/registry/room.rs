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

use super::{error::Error, handle::Registry};

/// The pages that one change may come to. Each row and each entry of an index that it touches is a page, in a registry of any
/// size; now and then one is split. Twice what `a_change_takes_far_less_than_its_room` sees.
const PAGES: i64 = 48;

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
        self.database.rehearse((others + 1) * PAGES).await?;
        Ok(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use protocol::key::PublicKey;

    use super::*;
    use crate::registry::rows::PAGE_SIZE;
    use crate::registry::testing::{Fixture, id, key, receipt};

    /// How many pages `change` writes to the log, and whether the log grew.
    async fn written(fixture: &Fixture, change: impl AsyncFnOnce(&Registry)) -> (i64, bool) {
        let log = fixture.dir.path().join("registry.sqlite-wal");
        let len = || fs::metadata(&log).unwrap().len();
        let database = &fixture.registry.database;
        database.checkpoint().await;
        let _room = fixture.registry.reserve().await.unwrap();
        let before = len();
        change(&fixture.registry).await;
        (database.checkpoint().await, len() > before)
    }

    #[tokio::test]
    async fn a_change_takes_far_less_than_its_room() {
        let fixture = Fixture::new().await;
        for number in 0..20 {
            fixture.commissioned(&id(&format!("other-{number}"))).await;
        }
        let device = id("device");
        let (old, _) = fixture.commissioned(&device).await;
        let new: PublicKey = key();
        let rekeyed = written(&fixture, async |registry| {
            registry.rekeyed(&device, &old, &new, 2).await.unwrap();
        });
        let rekeyed = rekeyed.await;
        fixture.proved(&device, &new).await.unwrap();
        let cti = fixture.begin(&device, &new).await.cti();
        fixture.registry.issued(cti, &[7; 294]).await.unwrap();
        let installed = written(&fixture, async |registry| {
            registry.installed(cti, Some(&receipt(&new))).await.unwrap();
        });
        let installed = installed.await;
        let released = written(&fixture, async |registry| registry.released(&device, &new).await.unwrap()).await;
        for (what, (pages, grew)) in [("rekeyed", rekeyed), ("installed", installed), ("released", released)] {
            assert!(!grew, "{what}: {pages}");
            assert!((1..=PAGES / 2).contains(&pages), "{what}: {pages}");
        }
    }

    #[tokio::test]
    async fn several_at_once_have_room_for_each() {
        let fixture = Fixture::new().await;
        let log = fixture.dir.path().join("registry.sqlite-wal");
        let pages = || fs::metadata(&log).unwrap().len().cast_signed() / PAGE_SIZE;
        let one = fixture.registry.reserve().await.unwrap();
        let for_one = pages();
        assert!(for_one >= PAGES, "{for_one}");
        let other = fixture.registry.reserve().await.unwrap();
        assert!(pages() >= for_one + PAGES, "{}", pages());
        drop((one, other));
        let for_two = pages();
        drop(fixture.registry.reserve().await.unwrap());
        assert_eq!(pages(), for_two, "it is given back");
        assert!(fixture.registry.devices().await.unwrap().is_empty());
        fixture.registry.verify_audit().await.unwrap();
    }
}
