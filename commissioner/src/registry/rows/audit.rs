//! The tables `audit` and `audit_head`: the trail, and its end.

use cbor_schemas::DeviceId;
use sqlx::{Row, any::AnyRow};

use super::{columns, transaction::Rows};
use crate::registry::{entry::AuditEntry, error::Error};

/// Entries that are loaded at a time.
pub(crate) const PAGE: i64 = 1_000;

/// The end of the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The number of the last entry.
    pub(crate) seq: u64,
    /// The hash of the last entry, hex.
    pub(crate) hash: String,
    /// The newest time that a signature bears; 0 before the first one.
    pub(crate) believed: u64,
    /// The version of a list that a device showed and that is unknown here, and the device.
    pub(crate) newer_list: Option<(u64, String)>,
}

impl Rows {
    /// The end of the trail.
    pub(crate) async fn head(&mut self) -> Result<Head, Error> {
        head_from(&sqlx::query("SELECT * FROM audit_head WHERE id = 1").fetch_one(self.connection()).await?)
    }

    /// The end of the trail, for one who writes: waits until no other one does, for the row is theirs until they are done.
    pub(crate) async fn lock_head(&mut self) -> Result<Head, Error> {
        let query = "UPDATE audit_head SET seq = seq WHERE id = 1 RETURNING *";
        head_from(&sqlx::query(query).fetch_one(self.connection()).await?)
    }

    /// Writes the end of the trail.
    pub(crate) async fn put_head(&mut self, head: &Head) -> Result<(), Error> {
        let (newer_list, newer_list_at) = head.newer_list.clone().unzip();
        sqlx::query(
            "UPDATE audit_head SET seq = $1, hash = $2, believed = $3, newer_list = $4, newer_list_at = $5 WHERE id = 1",
        )
        .bind(columns::signed(head.seq))
        .bind(head.hash.clone())
        .bind(columns::signed(head.believed))
        .bind(newer_list.map(columns::signed))
        .bind(newer_list_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Adds an entry.
    pub(crate) async fn put_entry(&mut self, entry: &AuditEntry) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO audit (seq, time, device, event, payload, previous, hash) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(columns::signed(entry.seq))
        .bind(columns::signed(entry.time))
        .bind(entry.device.clone())
        .bind(entry.event.clone())
        .bind(entry.payload.clone())
        .bind(entry.previous.clone())
        .bind(entry.hash.clone())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Some entries after `seq`, in order; none at the end.
    pub(crate) async fn entries_after(&mut self, seq: u64) -> Result<Vec<AuditEntry>, Error> {
        let query = sqlx::query("SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2");
        let rows = query.bind(columns::signed(seq)).bind(PAGE).fetch_all(self.connection()).await?;
        rows.iter().map(entry_from).collect()
    }

    /// Whether there is an entry before the first one.
    pub(crate) async fn has_entry_before_first(&mut self) -> Result<bool, Error> {
        let query = sqlx::query("SELECT seq FROM audit WHERE seq < 1");
        Ok(query.fetch_optional(self.connection()).await?.is_some())
    }

    /// The entry with this number.
    pub(crate) async fn entry(&mut self, seq: u64) -> Result<Option<AuditEntry>, Error> {
        let query = sqlx::query("SELECT * FROM audit WHERE seq = $1").bind(columns::signed(seq));
        query.fetch_optional(self.connection()).await?.as_ref().map(entry_from).transpose()
    }

    /// The number of the entry with this hash.
    pub(crate) async fn entry_with(&mut self, hash: &str) -> Result<Option<u64>, Error> {
        let query = sqlx::query("SELECT seq FROM audit WHERE hash = $1").bind(hash.to_owned());
        let row = query.fetch_optional(self.connection()).await?;
        row.as_ref().map(|row| columns::unsigned(row, "seq")).transpose()
    }

    /// The last entry about a device.
    pub(crate) async fn last_about(&mut self, device: &DeviceId) -> Result<Option<AuditEntry>, Error> {
        let query = sqlx::query("SELECT * FROM audit WHERE device = $1 ORDER BY seq DESC LIMIT 1");
        let row = query.bind(device.as_str()).fetch_optional(self.connection()).await?;
        row.as_ref().map(entry_from).transpose()
    }

    /// The entries about a device of these events, newest first.
    pub(crate) async fn entries_about(
        &mut self,
        device: &DeviceId,
        events: [&'static str; 3],
    ) -> Result<Vec<AuditEntry>, Error> {
        let query = sqlx::query("SELECT * FROM audit WHERE device = $1 AND event IN ($2, $3, $4) ORDER BY seq DESC");
        let query = events.into_iter().fold(query.bind(device.as_str()), |query, event| query.bind(event));
        query.fetch_all(self.connection()).await?.iter().map(entry_from).collect()
    }

    /// The entries with a later time than this that are about devices and of these events, in order.
    pub(crate) async fn entries_later_than(
        &mut self,
        time: u64,
        events: [&'static str; 3],
    ) -> Result<Vec<AuditEntry>, Error> {
        let text = "SELECT * FROM audit WHERE time > $1 AND device <> '' AND event IN ($2, $3, $4) ORDER BY seq";
        let query = sqlx::query(text).bind(columns::signed(time));
        let query = events.into_iter().fold(query, |query, event| query.bind(event));
        query.fetch_all(self.connection()).await?.iter().map(entry_from).collect()
    }

    /// What happened to a device, oldest first, here and in the registries that were imported.
    pub(crate) async fn history(&mut self, device: &DeviceId) -> Result<Vec<AuditEntry>, Error> {
        const COLUMNS: &str = "seq, time, device, event, payload, previous, hash";
        let query = format!(
            "SELECT {COLUMNS}, CAST(0 AS BIGINT) AS elsewhere FROM audit WHERE device = $1 UNION ALL \
             SELECT {COLUMNS}, CAST(1 AS BIGINT) AS elsewhere FROM imported WHERE device = $1 ORDER BY time, elsewhere DESC, seq"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(query)).bind(device.as_str());
        query.fetch_all(self.connection()).await?.iter().map(entry_from).collect()
    }
}

fn head_from(row: &AnyRow) -> Result<Head, Error> {
    let newer_list = match row.try_get::<Option<String>, _>("newer_list_at")? {
        Some(device) => Some((columns::unsigned(row, "newer_list")?, device)),
        None => None,
    };
    let (seq, believed) = (columns::unsigned(row, "seq")?, columns::unsigned(row, "believed")?);
    Ok(Head { seq, hash: row.try_get("hash")?, believed, newer_list })
}

pub(super) fn entry_from(row: &AnyRow) -> Result<AuditEntry, Error> {
    Ok(AuditEntry {
        seq: columns::unsigned(row, "seq")?,
        time: columns::unsigned(row, "time")?,
        device: row.try_get("device")?,
        event: row.try_get("event")?,
        payload: row.try_get("payload")?,
        previous: row.try_get("previous")?,
        hash: row.try_get("hash")?,
        elsewhere: row.try_get::<i64, _>("elsewhere").is_ok_and(|elsewhere| elsewhere == 1),
    })
}
