//! The registry as it was at one time.

use sqlx::{Any, Transaction};

use super::{error::Error, handle::Registry};

/// The registry as it was at one time.
pub struct Reading(pub(super) Transaction<'static, Any>);

impl Registry {
    /// The registry as it is now, to be read in pieces: what others change meanwhile is not seen.
    pub async fn read(&self) -> Result<Reading, Error> {
        Ok(Reading(self.pool.begin().await?))
    }
}
