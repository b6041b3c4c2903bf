//! What an owner does: a new key, another issuer, and giving the device up.

use cbor_schemas::{PrivateCoseKey, Receipt, RekeyRequest, RekeyResponse, SlotState, SlotView, StationTokenClaims};
use protocol::key::PublicKey;

use crate::common::{NOW, Owner, TestDevice, Visitor, encoded, get, post, put, slot_request};

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
    let injected = device.rng.key();
    let injected = PrivateCoseKey { x: *injected.public().x(), d: *injected.as_bytes() };
    let injection = encoded(|out| RekeyRequest { injected: Some(injected) }.encode(out));
    let before = device.flash.bytes();
    let answer = session.ask(&mut device, &post("/comm/rekey", &injection));
    assert_eq!(answer.refused("4.03").0, "injected keys are not allowed by this firmware");
    for body in [&b"garbage"[..], &[0xa1, 2, 0], &[0xa0, 0xa0], &[0x80]] {
        session.ask(&mut device, &post("/comm/rekey", body)).refused("4.00");
    }
    assert_eq!(device.flash.bytes(), before);
    session.ask(&mut device, &post("/comm/rekey", &[0xa0]).content_format(60)).expect("2.04");
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
