//! The audit trail: what happened, in order, each entry's hash covering the one before.
//!
//! A chain alone proves nothing to whoever can rewrite all of it; it shows every change to a part of it.

use cbor_schemas::DeviceId;
use serde_json::Value;

use super::{
    entry::{AuditEntry, AuditSummary, Tampering},
    error::Error,
    handle::Registry,
    history,
    reading::Reading,
};

impl Registry {
    /// What happened to a device, oldest first, here and in the registries that were imported.
    pub async fn history(&self, device: &DeviceId) -> Result<Vec<AuditEntry>, Error> {
        self.read().await?.rows.history(device).await
    }

    /// Checks every entry of the audit trail, and that none is missing.
    ///
    /// # Errors
    /// [`Error::Tampered`] with the first entry that does not fit, and how.
    pub async fn verify_audit(&self) -> Result<AuditSummary, Error> {
        self.read().await?.verify_audit().await
    }
}

impl Reading {
    /// As [`Registry::verify_audit`].
    pub(super) async fn verify_audit(&mut self) -> Result<AuditSummary, Error> {
        let mut chain = AuditSummary::empty();
        let mut imported = Vec::new();
        loop {
            let page = self.entries(chain.entries).await?;
            for entry in &page {
                let seq = chain.entries + 1;
                chain.follow(entry).map_err(|what| Error::Tampered { seq, what })?;
                if entry.event == "imported"
                    && let Some(Value::String(head)) = entry.particulars().remove("head")
                {
                    imported.push(head);
                }
            }
            if page.is_empty() {
                break;
            }
        }
        for (number, head) in imported.iter().enumerate() {
            history::verify(&mut self.rows, head, &imported[..number]).await?;
        }
        let end = self.head().await?;
        let next = chain.entries + 1;
        match (end == chain, self.rows.has_entry_before_first().await?) {
            (true, false) => Ok(chain),
            (false, false) if end.entries > chain.entries => {
                Err(Error::Tampered { seq: next, what: Tampering::Missing })
            }
            _ => Err(Error::Tampered { seq: next, what: Tampering::Extra }),
        }
    }

    /// The number of the last entry, and its hash.
    pub async fn head(&mut self) -> Result<AuditSummary, Error> {
        let head = self.rows.head().await?;
        Ok(AuditSummary { entries: head.seq, head: head.hash })
    }

    /// Some entries after `after`, in order; none at the end.
    pub async fn entries(&mut self, after: u64) -> Result<Vec<AuditEntry>, Error> {
        self.rows.entries_after(after).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{
        change::Change,
        event::Event,
        rows::ENTRY_PAGE,
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
            fixture.registry.database.run(tampering).await;
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
        let hash = forged.computed_hash();
        let forgery = format!("UPDATE audit SET time = {}, hash = '{hash}' WHERE seq = {}", forged.time, forged.seq);
        fixture.registry.database.run(&forgery).await;
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
        for n in 0..ENTRY_PAGE {
            change.record(None, &Event::Nickname { nickname: n.to_string() }).await.unwrap();
        }
        change.commit().await.unwrap();
        assert_eq!(fixture.registry.verify_audit().await.unwrap().entries, 1 + ENTRY_PAGE as u64);
        fixture.registry.database.run("UPDATE audit SET payload = '' WHERE seq = 1001").await;
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
