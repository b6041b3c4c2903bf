//! The audit trail: what happened, in order, each entry's hash covering the one before.
//!
//! A chain alone proves nothing to whoever can rewrite all of it; it shows every change to a part of it.

use cbor_schemas::DeviceId;
use serde_json::Value;
use sqlx::Row;

use super::{
    entry::{AuditEntry, BEFORE_FIRST, Tampering},
    error::Error,
    handle::Registry,
    history,
    reading::Reading,
    rows::columns,
};

/// Entries read at a time while verifying.
const PAGE: i64 = 1_000;

/// A chain that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSummary {
    /// How many entries there are.
    pub entries: u64,
    /// The hash of the last, hex.
    pub head: String,
}

impl Registry {
    /// What happened to a device, oldest first, here and in the registries that were imported.
    pub async fn history(&self, device: &DeviceId) -> Result<Vec<AuditEntry>, Error> {
        const COLUMNS: &str = "seq, time, device, event, payload, previous, hash";
        let query = format!(
            "SELECT {COLUMNS}, 0 AS elsewhere FROM audit WHERE device = $1 UNION ALL \
             SELECT {COLUMNS}, 1 AS elsewhere FROM imported WHERE device = $1 ORDER BY time, elsewhere DESC, seq"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query)).bind(device.as_str()).fetch_all(&self.pool).await?;
        rows.iter().map(AuditEntry::from_row).collect()
    }

    /// Checks every entry of the audit trail, and that none is missing.
    ///
    /// # Errors
    /// [`Error::Tampered`] with the first entry that does not fit, and how.
    pub async fn verify_audit(&self) -> Result<AuditSummary, Error> {
        // One snapshot of entries and head, so that a writer in between does not look like a forger.
        let mut tx = self.pool.begin().await?;
        let mut summary = AuditSummary { entries: 0, head: BEFORE_FIRST.to_owned() };
        let mut imported = Vec::new();
        loop {
            let rows = sqlx::query("SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2")
                .bind(columns::signed(summary.entries))
                .bind(PAGE)
                .fetch_all(&mut *tx)
                .await?;
            for row in &rows {
                let entry = AuditEntry::from_row(row)?;
                let seq = summary.entries + 1;
                let what = if entry.seq != seq {
                    Some(Tampering::Missing)
                } else if entry.hash != entry.computed_hash() {
                    Some(Tampering::Changed)
                } else if entry.previous != summary.head {
                    Some(Tampering::Unconnected)
                } else {
                    None
                };
                if let Some(what) = what {
                    return Err(Error::Tampered { seq, what });
                }
                if entry.event == "imported"
                    && let Some(Value::String(head)) = entry.particulars().remove("head")
                {
                    imported.push(head);
                }
                summary = AuditSummary { entries: seq, head: entry.hash };
            }
            if rows.is_empty() {
                break;
            }
        }
        let head = sqlx::query("SELECT seq, hash FROM audit_head WHERE id = 1").fetch_one(&mut *tx).await?;
        for (number, head) in imported.iter().enumerate() {
            history::verify(&mut tx, head, &imported[..number]).await?;
        }
        let next = summary.entries + 1;
        let ends_at = columns::unsigned(&head, "seq")?;
        let is_end = ends_at == summary.entries && head.try_get::<String, _>("hash")? == summary.head;
        let before_first = sqlx::query("SELECT seq FROM audit WHERE seq < 1").fetch_optional(&mut *tx).await?;
        match (is_end, before_first) {
            (true, None) => Ok(summary),
            (false, None) if ends_at > summary.entries => Err(Error::Tampered { seq: next, what: Tampering::Missing }),
            _ => Err(Error::Tampered { seq: next, what: Tampering::Extra }),
        }
    }
}

impl Reading {
    /// The number of the last entry, and its hash.
    pub async fn head(&mut self) -> Result<AuditSummary, Error> {
        let row = sqlx::query("SELECT seq, hash FROM audit_head WHERE id = 1").fetch_one(&mut *self.0).await?;
        Ok(AuditSummary { entries: columns::unsigned(&row, "seq")?, head: row.try_get("hash")? })
    }

    /// Some entries after `after`, in order; none at the end.
    pub async fn entries(&mut self, after: u64) -> Result<Vec<AuditEntry>, Error> {
        let rows = sqlx::query("SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2")
            .bind(columns::signed(after))
            .bind(PAGE)
            .fetch_all(&mut *self.0)
            .await?;
        rows.iter().map(AuditEntry::from_row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{
        change::Change,
        event::Event,
        testing::{Fixture, id},
    };

    #[tokio::test]
    async fn every_kind_of_tampering_shows() {
        let tamperings = [
            ("UPDATE audit SET payload = '{}' WHERE seq = 3", 3),
            ("UPDATE audit SET time = time + 1 WHERE seq = 3", 3),
            ("UPDATE audit SET device = '' WHERE seq = 3", 3),
            ("UPDATE audit SET event = 'nothing' WHERE seq = 3", 3),
            ("UPDATE audit SET previous = hash WHERE seq = 3", 3),
            ("UPDATE audit SET hash = previous WHERE seq = 3", 3),
            ("UPDATE audit SET hash = 'no hex' WHERE seq = 3", 3),
            ("UPDATE audit SET seq = 99 WHERE seq = 3", 3),
            ("UPDATE audit SET seq = -3 WHERE seq = 3", 3),
            ("DELETE FROM audit WHERE seq = 1", 1),
            ("DELETE FROM audit WHERE seq = 6", 6),
            ("DELETE FROM audit", 1),
            ("INSERT INTO audit SELECT 7, time, device, event, payload, hash, previous FROM audit WHERE seq = 6", 7),
            ("INSERT INTO audit SELECT 0, time, device, event, payload, previous, hash FROM audit WHERE seq = 6", 7),
            ("UPDATE audit_head SET seq = 5", 7),
            ("UPDATE audit_head SET hash = ''", 7),
        ];
        for (tampering, expected) in tamperings {
            let fixture = Fixture::new().await;
            fixture.commissioned(&id("device")).await;
            assert_eq!(fixture.registry.verify_audit().await.unwrap().entries, 6);
            sqlx::query(tampering).execute(&fixture.registry.pool).await.unwrap();
            match fixture.registry.verify_audit().await {
                Err(Error::Tampered { seq, .. }) => assert_eq!(seq, expected, "{tampering}"),
                other => panic!("{tampering}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn an_entry_forged_with_its_hash_does_not_fit_the_next() {
        let fixture = Fixture::new().await;
        let device = id("device");
        fixture.commissioned(&device).await;
        let mut forged = fixture.registry.history(&device).await.unwrap().swap_remove(1);
        forged.time += 1;
        sqlx::query("UPDATE audit SET time = $1, hash = $2 WHERE seq = $3")
            .bind(columns::signed(forged.time))
            .bind(forged.computed_hash())
            .bind(columns::signed(forged.seq))
            .execute(&fixture.registry.pool)
            .await
            .unwrap();
        let verdict = fixture.registry.verify_audit().await;
        assert!(
            matches!(verdict, Err(Error::Tampered { seq, what: Tampering::Unconnected }) if seq == forged.seq + 1),
            "{verdict:?}"
        );
    }

    #[tokio::test]
    async fn long_chains_are_verified_to_their_end() {
        let fixture = Fixture::new().await;
        let mut change = Change::begin(&fixture.registry).await.unwrap();
        for n in 0..PAGE {
            change.record(None, &Event::Nickname { nickname: n.to_string() }).await.unwrap();
        }
        change.commit().await.unwrap();
        assert_eq!(fixture.registry.verify_audit().await.unwrap().entries, 1 + PAGE as u64);
        sqlx::query("UPDATE audit SET payload = '' WHERE seq = 1001").execute(&fixture.registry.pool).await.unwrap();
        assert!(matches!(
            fixture.registry.verify_audit().await,
            Err(Error::Tampered { seq: 1001, what: Tampering::Changed })
        ));
    }

    #[tokio::test]
    async fn entries_read_like_records() {
        let fixture = Fixture::new().await;
        let device = id("device");
        fixture.commissioned(&device).await;
        let history = fixture.registry.history(&device).await.unwrap();
        let first = history.first().unwrap().as_json();
        assert_eq!(first["event"], "key-seen");
        assert_eq!(first["time"], "2026-11-22T15:24:00Z");
        assert_eq!(first["provenance"], "proved");
        assert_eq!(first["seq"], 2);
    }
}
