use cbor_schemas::CoseKey;

use super::*;
use crate::commission::liar::{Host, INSTALLED, Liar, encoded};
use crate::registry::CertificateStatus;
use crate::visit::tests::{self as visits, with_other_y};

#[tokio::test]
async fn the_answer_to_a_rekey_has_to_name_a_key_of_ours() {
    let (host, mut device) = (Host::new().await, Liar::new());
    device.commission(&host).await.unwrap();
    let edits: [fn(&mut CoseKey); 3] = [
        |key| *key = with_other_y(*key),
        |key| key.kid = [0; 8],
        |key| key.x = (0..=255).map(|byte| [byte; 32]).find(|x| PublicKey::from_x(x).is_err()).unwrap(),
    ];
    for edit in edits {
        device.lies("POST /comm/rekey", move |truth| {
            let mut response = RekeyResponse::decode(&truth).unwrap();
            edit(&mut response.key);
            encoded(|out| response.encode(out))
        });
        let seen = Account::read(&mut device.client).await.unwrap();
        let error = rekey(&mut device.client, &seen, &host.station, &host.progress).await.unwrap_err();
        assert!(matches!(error, Error::Visit(visit::Error::Credential(_))), "{error}");
        assert_eq!(host.known().await, INSTALLED, "the key before is still the one");
    }
    // Its present key is no new one.
    let present = Account::read(&mut device.client).await.unwrap().info().credential.unwrap();
    device.lies("POST /comm/rekey", move |truth| {
        let response = RekeyResponse { key: present, ..RekeyResponse::decode(&truth).unwrap() };
        encoded(|out| response.encode(out))
    });
    let seen = Account::read(&mut device.client).await.unwrap();
    let error = rekey(&mut device.client, &seen, &host.station, &host.progress).await.unwrap_err();
    assert!(matches!(error, Error::SameKey), "{error}");
    assert_eq!(host.known().await, INSTALLED);
    device.lies("POST /comm/rekey", |_| b"junk".to_vec());
    let seen = Account::read(&mut device.client).await.unwrap();
    let error = rekey(&mut device.client, &seen, &host.station, &host.progress).await.unwrap_err();
    assert!(matches!(error, Error::Malformed(_)), "{error}");
    assert_eq!(host.known().await, INSTALLED);
}

/// Whoever stole a key that is revoked may answer in the device's place, and name a key of their own. It comes to nothing.
#[tokio::test]
async fn what_a_revoked_key_names_as_its_successor_does_not_count() {
    let (host, mut device) = (Host::new().await, Liar::new());
    device.commission(&host).await.unwrap();
    let id = host.station.registry.devices().await.unwrap()[0].id;
    host.station.registry.revoke(&id, "stolen").await.unwrap();
    let seen = Account::read(&mut device.client).await.unwrap();
    // It names a key, and goes on with the one that it has.
    let error = rekey(&mut device.client, &seen, &host.station, &host.progress).await.unwrap_err();
    assert!(error.to_string().contains("stolen"), "{error}");
    assert_eq!(host.known().await, (KeyStatus::Revoked, CertificateStatus::Revoked), "and no other key is known");
}

/// Our own keys are nobody else's: not in the answer to a rekey, and not at `/comm`.
#[tokio::test]
async fn no_device_has_a_key_of_ours() {
    let (host, mut device) = (Host::new().await, Liar::new());
    device.commission(&host).await.unwrap();
    let issuer = *host.issuer.public();
    for own in [issuer, *host.station.key.public()] {
        device.lies("POST /comm/rekey", move |truth| {
            let response = RekeyResponse { key: own.cose_key(), ..RekeyResponse::decode(&truth).unwrap() };
            encoded(|out| response.encode(out))
        });
        let seen = Account::read(&mut device.client).await.unwrap();
        let error = rekey(&mut device.client, &seen, &host.station, &host.progress).await.unwrap_err();
        assert!(matches!(error, Error::Registry(registry::Error::Conflict(Conflict::OwnKey { .. }))), "{error}");
        assert_eq!(host.known().await, INSTALLED, "the key before is still the one");

        let seen = Account::of(&visits::info(Some(&own))).unwrap();
        let terms = Terms { place: Place::Trusted, accept_new_key: true, ..Terms::OWNER };
        let outcome = commission(&mut device.client, &seen, &host.station, &terms, &host.progress).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Registry(registry::Error::Conflict(Conflict::OwnKey { .. }))), "{error}");
        assert_eq!(host.known().await, INSTALLED);
    }
}

/// A device that says it took another key than it was sent: that one does not count, and the former one stays.
#[tokio::test]
async fn a_device_has_to_take_the_key_that_it_was_sent() {
    let (host, mut device) = (Host::new().await, Liar::new());
    device.commission(&host).await.unwrap();
    let seal = SealTo::Recipient(age::x25519::Identity::generate().to_public());
    let seen = Account::read(&mut device.client).await.unwrap();
    let error = inject(&mut device.client, &seen, &host.station, &seal, &host.progress).await.unwrap_err();
    assert!(matches!(error, Error::OtherKey), "{error}");
    assert_eq!(host.known().await, INSTALLED, "the key before is still the one");
}
