//! Vouchers, written down ahead: by the factory for the first owner of a device, by its owner for the next one.
//!
//! A voucher names the claim counter that its device has to show. It is known here from the receipt of our own
//! certificate, so that vouchers are made without the device at hand.

use cbor_schemas::{DeviceId, Receipt, VoucherClaims};
use protocol::key::PublicKey;

use super::{
    change::Change,
    error::Error,
    event::Event,
    handle::Registry,
    record::{CertificateStatus, Device, Key, KeyStatus, Slot},
};

/// A voucher that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct VoucherRequest {
    /// For which device.
    pub device: DeviceId,
    /// As what we vouch: whose anchor in the device is ours.
    pub slot: Slot,
    /// The issuer key of the new owner.
    pub owner: PublicKey,
    /// Seconds until it ends, as far as a device without a clock can know; `None` for a voucher that ends by its use.
    pub lifetime: Option<u64>,
    /// The claim counter that the device shows. `None` for the one that is known here.
    pub claim_counter: Option<u32>,
}

/// A voucher that may be signed: it is in the audit trail, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoucherGrant(VoucherClaims);

impl VoucherGrant {
    /// What to sign.
    pub fn claims(&self) -> &VoucherClaims {
        &self.0
    }
}

impl Registry {
    /// Writes down that a voucher will be signed.
    ///
    /// # Errors
    /// [`Error::NoVoucher`] if our anchor is not in that slot of the device, as far as is known here, or the claim counter is
    /// not known; [`Error::ClockBehind`], [`Error::ClockAhead`].
    pub async fn grant_voucher(&self, wanted: &VoucherRequest) -> Result<VoucherGrant, Error> {
        let mut change = Change::begin(self).await?;
        let now = change.token_time().await?;
        let device = change.rows.device(&wanted.device).await?;
        let claim_counter = vouch(device.as_ref(), wanted)?;
        let expires_at = match wanted.lifetime {
            Some(lifetime) => Some(change.expiry(&wanted.device, now, lifetime).await?),
            None => None,
        };
        let claims = VoucherClaims {
            issuer: self.issuer_id(),
            subject: wanted.device,
            expires_at,
            issued_at: now,
            key: wanted.owner.cose_key(),
            claim_counter,
        };
        let event = Event::VoucherIntended {
            slot: wanted.slot,
            owner: wanted.owner.thumbprint().to_string(),
            claim_counter,
            expires_at: claims.expires_at,
        };
        change.record(Some(&wanted.device), &event).await?;
        change.commit().await?;
        Ok(VoucherGrant(claims))
    }

    /// The devices that have a certificate of ours in the factory slot, about a key that is not revoked, by ID.
    pub async fn made_here(&self) -> Result<Vec<DeviceId>, Error> {
        self.read().await?.rows.devices_with_factory_certificate().await
    }
}

/// The claim counter for a voucher, if we can vouch for the device.
///
/// # Errors
/// [`Error::NoVoucher`].
fn vouch(device: Option<&Device>, wanted: &VoucherRequest) -> Result<u32, Error> {
    let refuse = |reason| Error::NoVoucher { device: wanted.device, reason };
    // A maker may have owned it, and given it up: then the key is pending.
    let mut keys = device.into_iter().flat_map(|device| &device.keys);
    let key = keys.find(|key| key.status != KeyStatus::Revoked && key.installed(wanted.slot).is_some());
    let key = key.ok_or_else(|| {
        refuse(match wanted.slot {
            Slot::Factory => "its factory slot is not ours; run `commissioner commission --as factory` first",
            Slot::Owner => "it is not one of your devices; run `commissioner commission` first",
        })
    })?;
    if wanted.slot == Slot::Owner && key.escrowed {
        return Err(refuse("a copy of its key is kept here; run `commissioner rekey` first, so that nobody knows it"));
    }
    let known = match wanted.claim_counter {
        Some(counter) => Some(counter),
        None => claim_counter(key)?,
    };
    known.ok_or_else(|| {
        refuse("no receipt of ours tells its claim counter; read it with `commissioner get /comm`, and give it with --claim-counter")
    })
}

/// The claim counter of the device with this key: what its newest receipt says, and one more if the owner slot was
/// emptied by us since. `None` if a certificate is there whose receipt never came.
fn claim_counter(key: &Key) -> Result<Option<u32>, Error> {
    let mut newest = None;
    for certificate in &key.certificates {
        let receipt = match &certificate.receipt {
            Some(receipt) => Receipt::decode(receipt).map_err(|_| Error::Corrupt("receipt"))?,
            None if certificate.status == CertificateStatus::Installed => return Ok(None),
            None => continue,
        };
        let is_emptied = certificate.slot == Slot::Owner && certificate.status == CertificateStatus::Removed;
        newest = newest.max(Some(receipt.claim_counter.saturating_add(u32::from(is_emptied))));
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{
        NewCertificate,
        testing::{Fixture, NOON, id, key, receipt, wanted},
    };

    fn request(device: DeviceId, slot: Slot, owner: PublicKey) -> VoucherRequest {
        VoucherRequest { device, slot, owner, lifetime: None, claim_counter: None }
    }

    #[tokio::test]
    async fn a_maker_vouches_for_what_it_made_with_the_counter_of_the_receipt() {
        let fixture = Fixture::new().await;
        let (device, own, owner) = (id("device"), key(), key());
        let registry = &fixture.registry;
        let refused = |error: Error| error.to_string();
        let error = refused(registry.grant_voucher(&request(device, Slot::Factory, owner)).await.unwrap_err());
        assert!(error.contains("factory slot is not ours"), "{error}");

        fixture.proved(&device, &own).await.unwrap();
        let certificate = NewCertificate { slot: Slot::Factory, ..wanted(&device, &own) };
        let cti = registry.begin_issue(&certificate).await.unwrap().cti();
        registry.issued(cti, b"signed").await.unwrap();
        registry.installed(cti, Some(&Receipt { claim_counter: 4, ..receipt(&own) })).await.unwrap();
        assert_eq!(registry.made_here().await.unwrap(), [device]);
        let grant = registry.grant_voucher(&request(device, Slot::Factory, owner)).await.unwrap();
        let claims = VoucherClaims {
            issuer: registry.issuer_id(),
            subject: device,
            expires_at: None,
            issued_at: NOON,
            key: owner.cose_key(),
            claim_counter: 4,
        };
        assert_eq!(*grant.claims(), claims);
        let bounded =
            VoucherRequest { lifetime: Some(60), claim_counter: Some(9), ..request(device, Slot::Factory, owner) };
        let grant = registry.grant_voucher(&bounded).await.unwrap();
        assert_eq!(*grant.claims(), VoucherClaims { expires_at: Some(NOON + 60), claim_counter: 9, ..claims });
        assert_eq!(fixture.events(&device).await.iter().filter(|event| *event == "voucher-intended").count(), 2);

        let error = refused(registry.grant_voucher(&request(device, Slot::Owner, owner)).await.unwrap_err());
        assert!(error.contains("not one of your devices"), "{error}");

        // Owned by us, and given up: two more.
        let cti = fixture.begin(&device, &own).await.cti();
        registry.issued(cti, b"signed, too").await.unwrap();
        registry.installed(cti, Some(&Receipt { claim_counter: 5, ..receipt(&own) })).await.unwrap();
        let counter = async || {
            let grant = registry.grant_voucher(&request(device, Slot::Factory, owner)).await.unwrap();
            grant.claims().claim_counter
        };
        assert_eq!(counter().await, 5);
        registry.released(&device, &own).await.unwrap();
        assert_eq!(counter().await, 6);
        assert_eq!(registry.made_here().await.unwrap(), [device]);
        registry.revoke(&device, "lost").await.unwrap();
        assert!(registry.made_here().await.unwrap().is_empty());
        assert!(registry.grant_voucher(&request(device, Slot::Factory, owner)).await.is_err());
    }

    #[tokio::test]
    async fn an_owner_vouches_with_the_newest_counter() {
        let fixture = Fixture::new().await;
        let (device, registry) = (id("device"), &fixture.registry);
        let (own, _) = fixture.commissioned(&device).await;
        let owner = key();
        let counter = async || {
            let grant = registry.grant_voucher(&request(device, Slot::Owner, owner)).await;
            grant.map(|grant| grant.claims().claim_counter)
        };
        assert_eq!(counter().await.unwrap(), 1);
        assert!(registry.made_here().await.unwrap().is_empty());
        let error = registry.grant_voucher(&request(device, Slot::Factory, owner)).await.unwrap_err();
        assert!(error.to_string().contains("--as factory"), "{error}");

        // Emptied, and filled again: the next receipt says so; until then there is nothing to hand on.
        registry.released(&device, &own).await.unwrap();
        assert!(counter().await.is_err());
        let cti = fixture.begin(&device, &own).await.cti();
        registry.issued(cti, b"signed again").await.unwrap();
        registry.installed(cti, None).await.unwrap();
        assert!(counter().await.unwrap_err().to_string().contains("--claim-counter"), "its receipt got lost");
    }

    #[tokio::test]
    async fn without_a_receipt_the_counter_has_to_be_given() {
        let fixture = Fixture::new().await;
        let (device, own, registry) = (id("device"), key(), &fixture.registry);
        fixture.proved(&device, &own).await.unwrap();
        let cti = fixture.begin(&device, &own).await.cti();
        registry.issued(cti, b"signed").await.unwrap();
        registry.installed(cti, None).await.unwrap();
        let wanted = request(device, Slot::Owner, key());
        let error = registry.grant_voucher(&wanted).await.unwrap_err();
        assert!(error.to_string().contains("--claim-counter"), "{error}");
        let given = VoucherRequest { claim_counter: Some(3), ..wanted };
        assert_eq!(registry.grant_voucher(&given).await.unwrap().claims().claim_counter, 3);
    }
}
