//! The registry as the program holds it.

use std::sync::{Arc, atomic::AtomicI64};

use cbor_schemas::IssuerId;
use protocol::key::PublicKey;
use tokio::sync::Mutex;

use super::rows::Database;
use crate::clock::Clock;

/// The registry of one issuer. Cheap to share by reference; commissioners in several processes may have it open at once.
#[derive(Debug)]
pub struct Registry {
    pub(super) database: Database,
    pub(super) clock: Clock,
    pub(super) clock_ok: bool,
    pub(super) issuer: PublicKey,
    pub(super) is_frozen: bool,
    /// Changes that there is room for: see [`Registry::reserve`].
    pub(super) reserved: Arc<AtomicI64>,
    /// Who of ourselves changes it: so whoever is waited for behind that is another process.
    pub(super) turn: Arc<Mutex<()>>,
}

/// Closes a registry at the end of a program, of which the database knows nothing else: its threads may be faster than the end
/// or not, and leave an empty `-wal` file then.
#[derive(Debug)]
pub struct Closer(Database);

impl Closer {
    /// Closes it, if it is still open.
    pub async fn close(self) {
        self.0.close().await;
    }
}

impl Registry {
    /// The time of day, Unix seconds.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Gives back the database, which whoever opens it next may need.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Closes it for whoever has it by then.
    pub fn closer(&self) -> Closer {
        Closer(self.database.clone())
    }

    /// Whether it is seen as it was when it was opened: where nothing can be written, changes by others are not noticed.
    pub fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// Whose registry this is.
    pub fn issuer(&self) -> &PublicKey {
        &self.issuer
    }

    /// The issuer's ID, as it stands in certificates.
    pub fn issuer_id(&self) -> IssuerId {
        IssuerId(self.issuer.kid())
    }
}
