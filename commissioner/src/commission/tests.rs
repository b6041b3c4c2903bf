use cbor_schemas::{DeviceCertificateClaims, Sign1};
use minicbor::Encoder;

use super::liar::{Host, INSTALLED, Liar, encoded, other_key};
use super::*;
use crate::certificate::tests::forged;
use crate::issuer::Issuer;
use crate::keys::IssuerKey;
use crate::registry::{CertificateStatus, Place};
use crate::visit::tests::{self as visits, with_other_y};

#[tokio::test]
async fn a_device_that_tells_the_truth_is_commissioned() {
    let (host, mut device) = (Host::new().await, Liar::new());
    assert_eq!(device.commission(&host).await.unwrap(), Outcome::Commissioned);
    assert_eq!(host.known().await, INSTALLED);
    assert_eq!(device.commission(&host).await.unwrap(), Outcome::AlreadyDone);
    assert_eq!(host.known().await, INSTALLED);
}

#[tokio::test]
async fn a_receipt_for_something_else_installs_nothing() {
    type Edit = fn(&mut Receipt);
    let edits: [(&str, Edit); 6] = [
        ("the key", |receipt| receipt.device[0] ^= 1),
        ("the key", |receipt| receipt.device = other_key().x),
        ("the claim counter", |receipt| receipt.claim_counter = 0),
        ("the claim counter", |receipt| receipt.claim_counter = u32::MAX),
        ("the generation", |receipt| receipt.generation = 2),
        ("the contents", |receipt| receipt.digest[31] ^= 1),
    ];
    for (wrong, edit) in edits {
        let (host, mut device) = (Host::new().await, Liar::new());
        device.lies("PUT /comm/owner", move |truth| {
            let mut receipt = Receipt::decode(&truth).unwrap();
            edit(&mut receipt);
            encoded(|out| receipt.encode(out))
        });
        let error = device.commission(&host).await.unwrap_err();
        assert!(matches!(error, Error::WrongReceipt(what) if what == wrong), "{error}");
        assert_eq!(host.known().await, (KeyStatus::Pending, CertificateStatus::Issued));
        // What is really there is found out by the next run.
        device.is_honest();
        assert_eq!(device.commission(&host).await.unwrap(), Outcome::AlreadyDone);
        assert_eq!(host.known().await, INSTALLED);
    }
    let junk: [fn(Vec<u8>) -> Vec<u8>; 5] = [
        |_| Vec::new(),
        |_| b"junk".to_vec(),
        |truth| truth[1..].to_vec(),
        |truth| [&truth[..], &[0]].concat(),
        |_| vec![0xa0; 900],
    ];
    for junk in junk {
        let (host, mut device) = (Host::new().await, Liar::new());
        device.lies("PUT /comm/owner", junk);
        let error = device.commission(&host).await.unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{error}");
        assert_eq!(host.known().await, (KeyStatus::Pending, CertificateStatus::Issued));
    }
}

#[tokio::test]
async fn only_a_certificate_of_ours_is_taken_for_one() {
    let (host, mut device) = (Host::new().await, Liar::new());
    device.commission(&host).await.unwrap();
    let anchor = host.station.issuer.anchor();
    let devices = host.station.registry.devices().await.unwrap();
    let good = devices[0].keys[0].certificates[0].object.clone().unwrap();
    let claims = DeviceCertificateClaims::decode(Sign1::decode(&good).unwrap().payload).unwrap();
    assert_eq!(claims.key, device.key.cose_key());

    let thief = IssuerKey::generate();
    let thiefs = thief.public().cose_key();
    for (name, certificate, flaw) in forged(&claims, &host.station.issuer, &Issuer::new(thief)) {
        device.lies("GET /comm/owner", move |_| {
            let (state, certificate) = (SlotState::Certified, Some(&certificate[..]));
            encoded(|out| SlotView { state, anchor: Some(anchor), certificate }.encode(out))
        });
        let error = device.commission(&host).await.unwrap_err();
        assert!(matches!(error, Error::ForeignCertificate(what) if what == flaw), "{name}: {error}");
        assert_eq!(host.known().await, INSTALLED, "nothing was signed or changed");
    }

    // Another anchor is another owner, whatever certificate is beside it; and so is ours with another y.
    for anchor in [None, Some(thiefs), Some(with_other_y(anchor))] {
        let good = good.clone();
        device.lies("GET /comm/owner", move |_| {
            let (state, certificate) = (SlotState::Certified, Some(&good[..]));
            encoded(|out| SlotView { state, anchor, certificate }.encode(out))
        });
        let error = device.commission(&host).await.unwrap_err();
        assert!(matches!(error, Error::Owned), "{error}");
        assert_eq!(host.known().await, INSTALLED);
    }
    device.is_honest();
    assert_eq!(device.commission(&host).await.unwrap(), Outcome::AlreadyDone);
}

/// Whatever vouches for a device that takes no certificate: it is not active.
#[tokio::test]
async fn a_device_that_refuses_its_certificate_is_never_active() {
    let trusted = Terms { place: Place::Trusted, ..Terms::OWNER };
    let accepted = Terms { accept_new_key: true, ..Terms::OWNER };
    for (terms, is_reported) in [(trusted, false), (trusted, true), (accepted, false), (Terms::OWNER, true)] {
        let (host, mut device) = (Host::new().await, Liar::new());
        let id = visits::info(None).device;
        if is_reported {
            let report = Observation::new(&visits::info(None), device.key, Place::Trusted, ProofLevel::Unproven);
            host.station.registry.observe_key(&report).await.unwrap();
            let known = host.station.registry.device_by_id(&id).await.unwrap().unwrap();
            assert!(known.keys[0].mine, "the trusted place says so, and nothing else is known");
        }
        device.refuses("PUT /comm/owner");
        for _ in 0..2 {
            let seen = Account::read(&mut device.client).await.unwrap();
            let outcome = commission(&mut device.client, &seen, &host.station, &terms, &host.progress).await;
            assert!(matches!(outcome, Err(Error::Refused(_))), "{outcome:?}");
            let known = host.station.registry.device_by_id(&id).await.unwrap().unwrap();
            assert_eq!((known.keys[0].status, known.keys[0].mine), (KeyStatus::Pending, false), "{terms:?}");
        }
        device.refuses("");
        let seen = Account::read(&mut device.client).await.unwrap();
        commission(&mut device.client, &seen, &host.station, &Terms::OWNER, &host.progress).await.unwrap();
        let known = host.station.registry.device_by_id(&id).await.unwrap().unwrap();
        assert_eq!((known.keys[0].status, known.keys[0].mine), (KeyStatus::Active, true), "{terms:?}");
    }
}

/// Whoever can change what is said without protection cannot make us speak another version, nor can the device.
#[tokio::test]
async fn another_schema_version_under_protection_ends_the_visit() {
    let (host, mut device) = (Host::new().await, Liar::new());
    for version in [0, 2, u16::MAX] {
        device.lies("GET /comm", move |truth| {
            // The version is the first entry of the map, `0: 1`.
            assert_eq!(truth[1..3], [0, 1]);
            let mut encoder = Encoder::new(vec![truth[0], 0]);
            encoder.u16(version).unwrap();
            [&encoder.into_writer()[..], &truth[3..]].concat()
        });
        let error = device.commission(&host).await.unwrap_err();
        assert!(matches!(error, Error::Visit(crate::visit::Error::Malformed(_))), "{error}");
        assert!(error.to_string().contains(&format!("schema version {version}")), "{error}");
    }
    assert!(host.station.registry.devices().await.unwrap().is_empty(), "it was not even taken note of");
}
