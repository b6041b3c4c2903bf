//! Giving up a device: its owner slot is emptied, its key is nobody's.

use cbor_schemas::DeviceId;
use protocol::key::PublicKey;

use super::{
    Error, Registry,
    audit::{Change, Event},
    record::Slot,
};

impl Registry {
    /// Writes down that the device is about to be told to empty its owner slot.
    pub async fn begin_reset(&self, device: &DeviceId, key: &PublicKey) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let key = change.known_key(device, key).await?.thumbprint;
        change.record(Some(device), &Event::ResetBegun { key }).await?;
        change.commit().await
    }

    /// The device has no owner any more: the certificate in its owner slot is gone. Its active key becomes pending, since
    /// it is not one of "my devices" now; it is not revoked either, and may be commissioned again.
    pub async fn released(&self, device: &DeviceId, key: &PublicKey) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let known = change.known_key(device, key).await?;
        if !known.is_settled() && known.installed(Slot::Owner).is_none() {
            return Ok(());
        }
        change.empty(device, &known, &[Slot::Owner]).await?;
        if known.installed(Slot::Owner).is_none() {
            change.give_up(device, &known).await?;
        }
        change.commit().await
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::{
        CertificateStatus, KeyStatus, Succession,
        testing::{Fixture, id, key, receipt},
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
}
