//! Giving up a device: its owner slot is emptied, its key is nobody's.

use std::fmt;

use cbor_schemas::DeviceId;
use protocol::key::PublicKey;
use sqlx::Row;

use super::{
    Error, Registry,
    audit::{Change, Event},
    record::{KeyStatus, Slot},
    sql,
};
use crate::clock::rfc3339;

/// How a device left us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Its owner slot was emptied, at this time.
    Reset(u64),
    /// A voucher for another owner was made, at this time; whether it was used is not known here.
    HandedOn(u64),
}

impl fmt::Display for Parting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(at) => write!(f, "you gave it up by a reset at {}", rfc3339(*at)),
            Self::HandedOn(at) => write!(f, "you made a voucher that hands it on, at {}", rfc3339(*at)),
        }
    }
}

impl Registry {
    /// How a device left us, if it did since it last took a certificate of ours.
    pub async fn parting(&self, device: &DeviceId) -> Result<Option<Parting>, Error> {
        let rows = sqlx::query(
            "SELECT time, event, payload FROM audit WHERE device = $1 \
             AND event IN ('released', 'voucher-intended', 'certificate-installed') ORDER BY seq DESC",
        )
        .bind(device.as_str())
        .fetch_all(&self.pool)
        .await?;
        for row in &rows {
            let (time, payload): (_, String) = (sql::unsigned(row, "time")?, row.try_get("payload")?);
            match row.try_get::<String, _>("event")?.as_str() {
                "released" => return Ok(Some(Parting::Reset(time))),
                // One of the maker is not ours to miss.
                "voucher-intended" if payload.contains("\"slot\":\"owner\"") => {
                    return Ok(Some(Parting::HandedOn(time)));
                }
                "voucher-intended" => {}
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Writes down that the device is about to be told to empty its owner slot.
    pub async fn begin_reset(&self, device: &DeviceId, key: &PublicKey) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let key = change.known_key(device, key).await?.thumbprint;
        change.record(Some(device), &Event::ResetBegun { key }).await?;
        change.commit().await
    }

    /// The device has no owner any more: the certificate in its owner slot is gone. Its active key becomes pending, since
    /// it is not one of "my devices" now; it is not revoked either, and may be commissioned again. A revoked key stays revoked.
    pub async fn released(&self, device: &DeviceId, key: &PublicKey) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let known = change.known_key(device, key).await?;
        // What was installed when a key was revoked is revoked with it, and so it stays.
        let is_out = known.status == KeyStatus::Revoked && known.was_ours();
        if !known.is_settled() && known.installed(Slot::Owner).is_none() && !is_out {
            return Ok(());
        }
        change.empty(device, &known, &[Slot::Owner]).await?;
        if is_out {
            change.holds_no_list(device).await?;
            change.record_once(device, &Event::Released { key: known.thumbprint }).await?;
        } else if known.installed(Slot::Owner).is_none() {
            change.give_up(device, &known).await?;
        }
        change.commit().await
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::{
        CertificateStatus, KeyStatus, Parting, Slot, Succession, VoucherRequest,
        testing::{Fixture, NOON, id, key, receipt},
    };

    #[tokio::test]
    async fn a_device_given_up_may_come_back_with_the_same_key_only() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let (key, first) = fixture.commissioned(&device).await;
        fixture.registry.begin_reset(&device, &key).await.unwrap();
        fixture.registry.released(&device, &key).await.unwrap();
        fixture.registry.released(&device, &key).await.unwrap();
        assert_eq!(fixture.status(&device, &key).await, KeyStatus::Pending);
        assert_eq!(fixture.certificate_status(&device, first).await, CertificateStatus::Removed);

        let other = crate::registry::testing::key();
        assert!(fixture.proved(&device, &other).await.is_err());
        assert_eq!(fixture.proved(&device, &key).await.unwrap(), Succession::Pending);
        let again = fixture.begin(&device, &key).await.cti();
        fixture.registry.issued(again, b"signed again").await.unwrap();
        let status = fixture.registry.installed(again, Some(&receipt(&key))).await.unwrap();
        assert_eq!(status, KeyStatus::Active);
        let events = fixture.events(&device).await;
        assert_eq!(events.iter().filter(|event| *event == "released").count(), 1);
    }

    #[tokio::test]
    async fn a_key_that_was_never_ours_is_not_given_up() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let key = key();
        let _ = fixture.proved(&device, &key).await;
        fixture.registry.released(&device, &key).await.unwrap();
        assert!(!fixture.events(&device).await.contains(&"released".to_owned()));
    }

    #[tokio::test]
    async fn a_revoked_key_is_given_up_once_and_stays_revoked() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let (key, cti) = fixture.commissioned(&device).await;
        assert_eq!(fixture.registry.parting(&device).await.unwrap(), None);
        fixture.registry.revoke(&device, "lost").await.unwrap();
        for _ in 0..2 {
            fixture.registry.released(&device, &key).await.unwrap();
        }
        assert_eq!(fixture.status(&device, &key).await, KeyStatus::Revoked);
        assert_eq!(fixture.certificate_status(&device, cti).await, CertificateStatus::Revoked);
        assert_eq!(fixture.events(&device).await.iter().filter(|event| *event == "released").count(), 1);
        assert_eq!(fixture.registry.parting(&device).await.unwrap(), Some(Parting::Reset(NOON)));
    }

    #[tokio::test]
    async fn who_was_handed_on_is_remembered_until_it_is_ours_again() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let (own, _) = fixture.commissioned(&device).await;
        let voucher = VoucherRequest { device, slot: Slot::Owner, owner: key(), lifetime: None, claim_counter: None };
        fixture.registry.grant_voucher(&voucher).await.unwrap();
        assert_eq!(fixture.registry.parting(&device).await.unwrap(), Some(Parting::HandedOn(NOON)));
        // By a voucher of theirs, say.
        let again = fixture.begin(&device, &own).await.cti();
        fixture.registry.issued(again, b"signed again").await.unwrap();
        fixture.registry.installed(again, Some(&receipt(&own))).await.unwrap();
        assert_eq!(fixture.registry.parting(&device).await.unwrap(), None);
    }
}
