//! What an owner does: a new key, another issuer, and giving the device up.

use cbor_schemas::{
    KeyOrigin, PrivateCoseKey, Receipt, RekeyRequest, RekeyResponse, SlotState, SlotView, StationTokenClaims,
};
use protocol::key::{PrivateKey, PublicKey};

use crate::common::{Issuer, NOW, Owner, Request, TestDevice, Visitor, encoded, get, post, put, slot_request};

#[test]
fn a_new_key_is_told_under_the_old_one() {
    let (owner, mut device) = Owner::of_new_device(1);
    let before = device.info();
    let mut session = owner.visit(&mut device);
    let mut other = Visitor::stranger(&mut device).connect(&mut device);
    let answer = session.ask(&mut device, &post("/comm/rekey", &[]));
    assert_eq!(answer.expect("2.04").content_format(), Some(60));
    let response = RekeyResponse::decode(answer.payload()).unwrap();
    assert_eq!(response.generation, 2);
    assert_ne!(response.key.x, before.credential.unwrap().x);
    assert!(PublicKey::from_cose(&response.key).is_ok());

    let info = device.info();
    assert_eq!((info.credential, info.generation), (Some(response.key), 2));
    assert_eq!((info.owner, info.claim_counter), (SlotState::Anchored, 1), "the certificate is gone, the anchor stays");
    assert_eq!(info.watermarks, before.watermarks);
    for session in [&mut session, &mut other] {
        session.ask_in_vain(&mut device, &get("/comm")).refused("4.01");
    }
    // The token is gone as well; a new one works as before, and so does a certificate about the new key.
    let begun = owner.station.begin(&mut device);
    device.ask(&begun.message_3_alone()).edhoc_error();
    let mut session = owner.visit(&mut device);
    let view = session.ask(&mut device, &get("/comm/owner"));
    let anchor = Some(owner.issuer.public().cose_key());
    assert_eq!(
        SlotView::decode(view.payload()),
        Ok(SlotView { state: SlotState::Anchored, anchor, certificate: None })
    );
    let body = owner.slot_request(&mut device);
    let receipt = session.ask(&mut device, &put("/comm/owner", &body));
    let receipt = Receipt::decode(receipt.expect("2.04").payload()).unwrap();
    assert_eq!((receipt.device, receipt.generation, receipt.claim_counter), (response.key.x, 2, 1));
}

#[test]
fn an_answer_that_would_not_be_accepted_is_asked_for_in_vain() {
    let (owner, mut device) = Owner::of_new_device(1);
    let before = device.info();
    let mut session = owner.visit(&mut device);
    for path in ["/comm/rekey", "/comm/reset"] {
        session.ask(&mut device, &post(path, &[]).accept(50)).refused("4.06");
    }
    let after = device.info();
    assert_eq!((after.credential, after.owner), (before.credential, before.owner));
}

#[test]
fn the_certificate_of_the_old_key_is_not_taken_back() {
    let (owner, mut device) = Owner::of_new_device(1);
    let old = owner.slot_request(&mut device);
    owner.visit(&mut device).ask(&mut device, &post("/comm/rekey", &[])).expect("2.04");
    let answer = owner.visit(&mut device).ask(&mut device, &put("/comm/owner", &old));
    assert_eq!(answer.refused("4.00").1, Some("cnf names another key"));
}

#[test]
fn the_old_key_is_nowhere_in_flash() {
    let (owner, mut device) = Owner::of_new_device(1);
    let (old, _) = device.read_out();
    let holds = |device: &TestDevice, key: &[u8; 32]| device.flash.bytes().windows(32).any(|window| window == key);
    assert!(holds(&device, old.as_bytes()));
    owner.visit(&mut device).ask(&mut device, &post("/comm/rekey", &[])).expect("2.04");
    assert!(!holds(&device, old.as_bytes()));
}

#[test]
fn an_empty_map_asks_for_a_new_key_too_and_nothing_else_does() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = owner.visit(&mut device);
    let before = device.flash.bytes();
    let answer = session.ask(&mut device, &injection(9).1);
    assert_eq!(answer.refused("4.03").0, "injected keys are not allowed by this firmware");
    for body in [&b"garbage"[..], &[0xa1, 2, 0], &[0xa0, 0xa0], &[0x80]] {
        session.ask(&mut device, &post("/comm/rekey", body)).refused("4.00");
    }
    assert_eq!(device.flash.bytes(), before);
    session.ask(&mut device, &post("/comm/rekey", &[0xa0]).content_format(60)).expect("2.04");
}

/// A key for a device, and the request that injects it.
fn injection(seed: u8) -> (PrivateKey, Request) {
    let key = PrivateKey::from_bytes(&[seed; 32]).unwrap();
    let body = injection_of(*key.public().x(), *key.as_bytes());
    (key, post("/comm/rekey", &body).content_format(60))
}

fn injection_of(x: [u8; 32], d: [u8; 32]) -> Vec<u8> {
    encoded(|out| RekeyRequest { injected: Some(PrivateCoseKey { x, d }) }.encode(out))
}

#[test]
fn an_injected_key_takes_the_place_of_the_devices_own() {
    let owner = Owner::new(1);
    let mut device = TestDevice::that_takes_keys();
    owner.claim(&mut device);
    let (old, _) = device.read_out();
    let (key, request) = injection(9);
    let mut session = owner.visit(&mut device);
    let answer = session.ask(&mut device, &request);
    let response = RekeyResponse::decode(answer.expect("2.04").payload()).unwrap();
    assert_eq!((response.key, response.generation), (key.public().cose_key(), 2));
    let info = device.info();
    assert_eq!(
        (info.credential, info.key_origin, info.owner),
        (Some(response.key), KeyOrigin::Injected, SlotState::Anchored)
    );
    assert!(!device.flash.bytes().windows(32).any(|window| window == old.as_bytes()), "the old key is still in flash");
    session.ask_in_vain(&mut device, &get("/comm")).refused("4.01");

    // Lost answers are asked for again: nothing changes.
    let before = device.flash.bytes();
    let mut session = owner.visit(&mut device);
    let again = session.ask(&mut device, &request);
    assert_eq!(RekeyResponse::decode(again.expect("2.04").payload()), Ok(response));
    assert_eq!(device.flash.bytes(), before);
    session.ask(&mut device, &get("/comm")).expect("2.05");

    // Its certificate says where it came from, and a key of its own follows on demand.
    let body = owner.slot_request(&mut device);
    session.ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    owner.visit(&mut device).ask(&mut device, &post("/comm/rekey", &[])).expect("2.04");
    let info = device.info();
    assert_eq!((info.key_origin, info.generation), (KeyOrigin::Generated, 3));
}

#[test]
fn an_injected_key_goes_with_who_injected_it() {
    let owner = Owner::new(1);
    let mut device = TestDevice::that_takes_keys();
    owner.claim(&mut device);
    let (key, request) = injection(9);
    owner.visit(&mut device).ask(&mut device, &request).expect("2.04");
    owner.visit(&mut device).ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
    let info = device.info();
    assert_ne!(info.credential, Some(key.public().cose_key()));
    assert_eq!((info.key_origin, info.generation, info.claim_counter), (KeyOrigin::Generated, 3, 2));
    assert!(!device.flash.bytes().windows(32).any(|window| window == key.as_bytes()), "it is still in flash");
    device.restart();
    assert_eq!(device.info().credential, info.credential);
}

#[test]
fn no_other_key_than_a_new_pair_is_injected_and_by_nobody_but_the_owner() {
    let owner = Owner::new(1);
    let mut device = TestDevice::that_takes_keys();
    let (key, request) = injection(9);
    Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &request).refused("4.03");
    owner.claim(&mut device);
    let before = device.flash.bytes();
    device.ask(&request).refused("4.01");
    Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &request).refused("4.03");
    let mut session = owner.visit(&mut device);
    let other = device.rng.key();
    let anchor = &owner.issuer.key;
    let (x, d) = (*key.public().x(), *key.as_bytes());
    for (x, d, why) in [
        (*other.public().x(), d, "not a pair of keys"),
        (x, [0; 32], "not a pair of keys"),
        (x, [0xff; 32], "not a pair of keys"),
        (*anchor.public().x(), *anchor.as_bytes(), "the key is an issuer's"),
    ] {
        let answer = session.ask(&mut device, &post("/comm/rekey", &injection_of(x, d)));
        assert_eq!(answer.refused("4.00").1, Some(why));
    }
    assert_eq!(device.flash.bytes(), before);
}

/// A certificate of the factory says that the device made its key itself.
#[test]
fn no_key_is_injected_where_the_factory_has_certified_one() {
    let owner = Owner::new(1);
    let mut device = TestDevice::that_takes_keys();
    owner.claim(&mut device);
    let factory = Issuer::new(7);
    let certificate = factory.certify(&mut device);
    device.put_into_factory_slot(&factory, Some(&certificate));
    let (_, request) = injection(9);
    owner.visit(&mut device).ask(&mut device, &request).refused("4.09");
    // An anchor alone says nothing of the key.
    device.put_into_factory_slot(&factory, None);
    owner.visit(&mut device).ask(&mut device, &request).expect("2.04");
    assert_eq!(device.info().factory, SlotState::Anchored);
}

#[test]
fn a_reset_gives_the_device_up() {
    let (owner, mut device) = Owner::of_new_device(1);
    let key = device.info().credential;
    let mut session = owner.visit(&mut device);
    let answer = session.ask(&mut device, &post("/comm/reset", &[]));
    assert!(answer.expect("2.04").payload().is_empty());
    let info = device.info();
    assert_eq!((info.owner, info.claim_counter, info.watermarks.owner), (SlotState::Empty, 2, None));
    assert_eq!((info.credential, info.generation), (key, 1), "the key stays");

    session.ask_in_vain(&mut device, &get("/comm")).refused("4.01");
    let begun = owner.station.begin(&mut device);
    device.ask(&begun.message_3_alone()).edhoc_error();
    device.present(&owner.issuer.token(&owner.token_claims())).refused("4.01");

    let receipt = Owner::new(2).claim(&mut device);
    assert_eq!(receipt.claim_counter, 3);
    assert_eq!(device.info().owner, SlotState::Certified);
}

#[test]
fn what_the_owner_wrote_is_nowhere_in_flash_after_a_reset() {
    let (owner, mut device) = Owner::of_new_device(1);
    let anchor = *owner.issuer.public().x();
    let holds = |device: &TestDevice| device.flash.bytes().windows(32).any(|window| window == anchor);
    assert!(holds(&device));
    owner.visit(&mut device).ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
    assert!(!holds(&device));
}

#[test]
fn a_clock_far_ahead_is_forgotten_with_its_anchor() {
    let (first, second) = (Owner::new(1), Owner::new(2));
    let mut device = TestDevice::new();
    let claims = first.issuer.certificate_claims(device.info().credential.unwrap());
    let certificate =
        first.issuer.certificate(&cbor_schemas::DeviceCertificateClaims { issued_at: u64::MAX, ..claims });
    let body = slot_request(first.issuer.public(), Some(&certificate));
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    session.ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    assert_eq!(device.info().watermarks.owner, Some(u64::MAX));

    give_up(&first, &mut device);
    second.claim(&mut device);
    assert_eq!(device.info().watermarks.owner, Some(NOW));
    second.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");

    // The same by a token, with an exp and without.
    for expires_at in [Some(u64::MAX), None] {
        let cnonce = expires_at.is_none().then_some(device.info().nonce);
        let far = StationTokenClaims { issued_at: u64::MAX, expires_at, cnonce, ..second.token_claims() };
        second.present(&mut device, &far);
        assert_eq!(device.info().watermarks.owner, Some(u64::MAX));
        device.restart();
        give_up(&second, &mut device);
        second.claim(&mut device);
        second.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
        device.restart();
    }
}

/// A reset by an owner whose watermark is in the far future: only a token for this start is good.
fn give_up(owner: &Owner, device: &mut TestDevice) {
    device.present(&owner.issuer.token(&owner.token_claims())).refused("4.01");
    let cnonce = Some(device.info().nonce);
    owner.present(device, &StationTokenClaims { expires_at: None, cnonce, ..owner.token_claims() });
    owner.station.connect(device).ask(device, &post("/comm/reset", &[])).expect("2.04");
}

#[test]
fn the_owner_may_replace_the_certificate() {
    let (owner, mut device) = Owner::of_new_device(1);
    let claims = owner.issuer.certificate_claims(device.info().credential.unwrap());
    let newer = cbor_schemas::DeviceCertificateClaims { issued_at: NOW + 5, cti: [8; 8], ..claims };
    let body = slot_request(owner.issuer.public(), Some(&owner.issuer.certificate(&newer)));
    let mut session = owner.visit(&mut device);
    session.ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    let info = device.info();
    assert_eq!((info.owner, info.claim_counter, info.watermarks.owner), (SlotState::Certified, 1, Some(NOW + 5)));
    session.ask_in_vain(&mut device, &get("/comm")).refused("4.01");
    // An older one does not turn the watermark back.
    let body = owner.slot_request(&mut device);
    owner.visit(&mut device).ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    assert_eq!(device.info().watermarks.owner, Some(NOW + 5));
}

#[test]
fn the_owner_may_hand_the_device_to_another_issuer() {
    let (owner, mut device) = Owner::of_new_device(1);
    let next = Owner::new(2);
    let far = StationTokenClaims { issued_at: NOW + 100, expires_at: Some(NOW + 200), ..owner.token_claims() };
    owner.present(&mut device, &far);
    let body = next.slot_request(&mut device);
    owner.station.connect(&mut device).ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    let info = device.info();
    assert_eq!((info.owner, info.claim_counter), (SlotState::Certified, 2));
    assert_eq!(info.watermarks.owner, Some(NOW), "the watermark went with its anchor");
    device.present(&owner.issuer.token(&owner.token_claims())).refused("4.01");
    next.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
}

#[test]
fn all_tokens_and_sessions_end_with_every_such_commit() {
    for request in [post("/comm/rekey", &[]), post("/comm/reset", &[])] {
        let (owner, mut device) = Owner::of_new_device(1);
        let (mut one, mut two) = (owner.visit(&mut device), owner.visit(&mut device));
        one.ask(&mut device, &request).expect("2.04");
        for session in [&mut one, &mut two] {
            let answer = session.ask_in_vain(&mut device, &get("/comm/peers"));
            assert_eq!(answer.refused("4.01").0, "security context not found");
        }
        let begun = owner.station.begin(&mut device);
        device.ask(&begun.message_3_alone()).edhoc_error();
    }
}
