//! The table `escrow`: sealed copies of keys that were made here.

use cbor_schemas::DeviceId;
use protocol::key::PublicKey;
use sqlx::Row;

use super::transaction::Rows;
use crate::registry::error::Error;

impl Rows {
    /// Keeps the sealed copy of a key for a device.
    pub(crate) async fn put_copy(&mut self, device: &DeviceId, key: &PublicKey, sealed: &[u8]) -> Result<(), Error> {
        sqlx::query("INSERT INTO escrow (x, device, sealed) VALUES ($1, $2, $3)")
            .bind(key.x().to_vec())
            .bind(device.as_str())
            .bind(sealed.to_vec())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// The sealed copy of a key.
    pub(crate) async fn copy(&mut self, x: &[u8; 32]) -> Result<Option<Vec<u8>>, Error> {
        let query = sqlx::query("SELECT sealed FROM escrow WHERE x = $1").bind(x.to_vec());
        let row = query.fetch_optional(self.connection()).await?;
        Ok(row.map(|row| row.try_get("sealed")).transpose()?)
    }

    /// Whether a copy of this key is kept for this device.
    pub(crate) async fn has_copy(&mut self, device: &DeviceId, key: &PublicKey) -> Result<bool, Error> {
        let query = sqlx::query("SELECT 1 FROM escrow WHERE x = $1 AND device = $2");
        let row = query.bind(key.x().to_vec()).bind(device.as_str()).fetch_optional(self.connection()).await?;
        Ok(row.is_some())
    }

    /// Removes the copy of a key.
    pub(crate) async fn remove_copy(&mut self, key: &PublicKey) -> Result<(), Error> {
        let query = sqlx::query("DELETE FROM escrow WHERE x = $1").bind(key.x().to_vec());
        query.execute(self.connection()).await?;
        Ok(())
    }

    /// Removes the copies of keys that the device was never seen with.
    pub(crate) async fn remove_copies_not_taken(&mut self, device: &DeviceId) -> Result<(), Error> {
        let text = "DELETE FROM escrow WHERE device = $1 AND NOT EXISTS (SELECT 1 FROM keys WHERE keys.x = escrow.x)";
        sqlx::query(text).bind(device.as_str()).execute(self.connection()).await?;
        Ok(())
    }
}
