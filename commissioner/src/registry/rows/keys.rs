//! The table `keys`: those of devices.

use cbor_schemas::{DeviceId, ProofLevel};
use protocol::key::PublicKey;
use sqlx::{Row, any::AnyRow};

use super::{columns, transaction::Rows};
use crate::registry::{
    error::Error,
    record::{Key, Revoked},
};

/// Whether a key is mine, as a condition on a row of `keys`: see `mine.rs`.
macro_rules! mine {
    () => {
        "(keys.status = 'active' AND (keys.proof = 'proved' OR keys.provenance = 'programming') AND ( \
         (keys.counts_by = 'report' AND keys.provenance = 'programming') OR EXISTS \
         (SELECT 1 FROM certificates c WHERE c.x = keys.x AND c.status = 'installed')))"
    };
}
pub(super) use mine;

/// What finds a device by its key.
pub(super) const BY_KEY: &str = "SELECT device FROM keys WHERE x = $1";
const MEMBERS: &str = concat!("SELECT x, proof FROM keys WHERE ", mine!(), " ORDER BY x");
const OUTSIDERS: &str = concat!(
    "SELECT x, proof FROM keys WHERE NOT ",
    mine!(),
    " AND EXISTS (SELECT 1 FROM certificates c WHERE c.x = keys.x AND c.object IS NOT NULL) ORDER BY x"
);

impl Rows {
    /// The ID under which a key is known.
    pub(crate) async fn holder(&mut self, key: &PublicKey) -> Result<Option<DeviceId>, Error> {
        let row = sqlx::query(BY_KEY).bind(key.x().to_vec()).fetch_optional(self.connection()).await?;
        row.map(|row| columns::word(&row, "device")).transpose()
    }

    /// Writes a key: the one with this number of its device.
    pub(crate) async fn put_key(&mut self, device: &DeviceId, ordinal: usize, key: &Key) -> Result<(), Error> {
        let revoked = key.revoked.as_ref();
        sqlx::query(
            "INSERT INTO keys (x, thumbprint, device, ordinal, status, provenance, proof, generation, first_seen, \
             last_seen, counts_by, revoked_at, revoked_reason) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
             ON CONFLICT (x) DO UPDATE SET status = excluded.status, provenance = excluded.provenance, \
             proof = excluded.proof, generation = excluded.generation, first_seen = excluded.first_seen, \
             last_seen = excluded.last_seen, counts_by = excluded.counts_by, revoked_at = excluded.revoked_at, \
             revoked_reason = excluded.revoked_reason",
        )
        .bind(key.x.to_vec())
        .bind(key.thumbprint.clone())
        .bind(device.as_str())
        .bind(columns::signed(ordinal as u64))
        .bind(key.status.as_str())
        .bind(key.provenance.as_str())
        .bind(key.proof.as_str())
        .bind(i64::from(key.generation))
        .bind(columns::signed(key.first_seen))
        .bind(columns::signed(key.last_seen))
        .bind(key.counts_by.as_str())
        .bind(revoked.map(|revoked| columns::signed(revoked.at)))
        .bind(revoked.map(|revoked| revoked.reason.clone()))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The keys that are mine, in order, and whether they are proved.
    pub(crate) async fn my_keys(&mut self) -> Result<Vec<([u8; 32], ProofLevel)>, Error> {
        self.with_proof(MEMBERS).await
    }

    /// The keys that are not mine and have a signed certificate, in order: revoked ones, those of devices given up, and those
    /// of devices that may have a certificate, or refused it.
    pub(crate) async fn certified_keys_of_others(&mut self) -> Result<Vec<([u8; 32], ProofLevel)>, Error> {
        self.with_proof(OUTSIDERS).await
    }

    async fn with_proof(&mut self, query: &'static str) -> Result<Vec<([u8; 32], ProofLevel)>, Error> {
        let rows = sqlx::query(query).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok((columns::bytes(row, "x")?, columns::word(row, "proof")?))).collect()
    }
}

pub(super) fn key_from(row: &AnyRow) -> Result<(DeviceId, Key), Error> {
    let revoked = match row.try_get::<Option<i64>, _>("revoked_at")? {
        Some(_) => Some(Revoked {
            at: columns::unsigned(row, "revoked_at")?,
            reason: row.try_get::<Option<String>, _>("revoked_reason")?.unwrap_or_default(),
        }),
        None => None,
    };
    let key = Key {
        x: columns::bytes(row, "x")?,
        thumbprint: row.try_get("thumbprint")?,
        status: columns::word(row, "status")?,
        counts_by: columns::word(row, "counts_by")?,
        mine: columns::unsigned(row, "mine")? == 1,
        provenance: columns::word(row, "provenance")?,
        proof: columns::word(row, "proof")?,
        generation: columns::unsigned(row, "generation")?.try_into().map_err(|_| Error::Corrupt("generation"))?,
        first_seen: columns::unsigned(row, "first_seen")?,
        last_seen: columns::unsigned(row, "last_seen")?,
        revoked,
        escrowed: columns::unsigned(row, "copies")? > 0,
        certificates: Vec::new(),
    };
    Ok((columns::word(row, "device")?, key))
}
