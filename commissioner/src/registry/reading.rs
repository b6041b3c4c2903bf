//! The registry as it was at one time.

use super::{error::Error, handle::Registry, rows::Rows};

/// The registry as it was at one time: all reading goes through one. `rows/transaction.rs` says what that asks of a database.
pub struct Reading {
    pub(super) rows: Rows,
}

impl Registry {
    /// The registry as it is now, to be read in pieces: what others change meanwhile is not seen.
    pub async fn read(&self) -> Result<Reading, Error> {
        Ok(Reading { rows: self.database.read().await? })
    }
}
