//! The factory slot: filled once, renewed by the same anchor, and untouched by whoever owns the device.

use cbor_schemas::{
    ClaimPolicy, DeviceCertificateClaims, Receipt, SlotContents, SlotRequest, SlotState, SlotView, StationTokenClaims,
};
use sha2::{Digest, Sha256};

use crate::common::{HOUR, NOW, Owner, Response, TestDevice, Visitor, encoded, get, post, put, slot_request};

/// A device that a factory certified on a first visit.
fn made(seed: u64) -> (Owner, TestDevice) {
    let (factory, mut device) = (Owner::new(seed), TestDevice::new());
    let body = factory.slot_request(&mut device);
    fill(&mut device, &body).expect("2.04");
    (factory, device)
}

/// What a stranger is answered that fills the slot.
fn fill(device: &mut TestDevice, body: &[u8]) -> Response {
    Visitor::stranger(device).connect(device).ask(device, &put("/comm/factory", body))
}

/// A certificate of `factory` about the present key, signed at `issued_at`.
fn certificate(factory: &Owner, device: &mut TestDevice, issued_at: u64) -> Vec<u8> {
    let claims = factory.issuer.certificate_claims(device.info().credential.unwrap());
    factory.issuer.certificate(&DeviceCertificateClaims { issued_at, ..claims })
}

#[test]
fn a_first_visit_fills_it_and_gets_a_receipt_of_what_was_read_back() {
    let (factory, mut device) = (Owner::new(9), TestDevice::new());
    let certificate = factory.issuer.certify(&mut device);
    let contents = SlotContents { anchor: factory.issuer.public().cose_key(), certificate: Some(&certificate) };
    let expected = Receipt {
        device: device.info().credential.unwrap().x,
        claim_counter: 0,
        generation: 1,
        digest: Sha256::digest(encoded(|out| contents.encode(out))).into(),
    };
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let body = slot_request(factory.issuer.public(), Some(&certificate));
    let answer = session.ask(&mut device, &put("/comm/factory", &body).content_format(60));
    assert_eq!((Receipt::decode(answer.expect("2.04").payload()), answer.content_format()), (Ok(expected), Some(60)));
    session.ask_in_vain(&mut device, &get("/comm")).refused("4.01");

    let info = device.info();
    assert_eq!((info.factory, info.owner, info.claim_counter), (SlotState::Certified, SlotState::Empty, 0));
    assert_eq!((info.watermarks.factory, info.watermarks.owner), (Some(NOW), None));
    device.restart();
    // Whose product it is, anybody may see.
    let view = device.ask(&get("/comm/factory"));
    let expected =
        SlotView { state: SlotState::Certified, anchor: Some(contents.anchor), certificate: Some(&certificate) };
    assert_eq!(SlotView::decode(view.expect("2.05").payload()), Ok(expected));
}

#[test]
fn the_anchor_is_written_once() {
    let (factory, mut device) = made(9);
    let before = device.flash.bytes();
    let another = Owner::new(8).slot_request(&mut device);
    fill(&mut device, &another).refused("4.09");
    let alone = slot_request(factory.issuer.public(), None);
    for body in [&another, &alone] {
        let answer = factory.visit(&mut device).ask(&mut device, &put("/comm/factory", body));
        assert_eq!(answer.refused("4.09").0, "written once");
    }
    assert_eq!(device.flash.bytes(), before);
    // Not by the owner either, not after the owner is gone, and not with the next key.
    let owner = Owner::new(1);
    let body = owner.vouched_request(&factory.issuer, &mut device);
    Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    owner.visit(&mut device).ask(&mut device, &put("/comm/factory", &another)).refused("4.09");
    owner.visit(&mut device).ask(&mut device, &post("/comm/rekey", &[])).expect("2.04");
    let another = Owner::new(8).slot_request(&mut device);
    owner.visit(&mut device).ask(&mut device, &put("/comm/factory", &another)).refused("4.09");
    owner.visit(&mut device).ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
    fill(&mut device, &another).refused("4.09");
    assert_eq!(device.info().factory, SlotState::Anchored);
}

#[test]
fn the_certificate_is_renewed_by_newer_ones_of_the_same_anchor() {
    let (factory, mut device) = made(9);
    let renew = |device: &mut TestDevice, issued_at| {
        let body = slot_request(factory.issuer.public(), Some(&certificate(&factory, device, issued_at)));
        factory.visit(device).ask(device, &put("/comm/factory", &body))
    };
    renew(&mut device, NOW + 5).expect("2.04");
    assert_eq!(device.info().watermarks.factory, Some(NOW + 5));
    let before = device.flash.bytes();
    renew(&mut device, NOW + 5).expect("2.04"); // the same again
    renew(&mut device, NOW + 4).refused("4.09");
    assert_eq!(device.flash.bytes(), before);
    // Signed at the same time, and not the same.
    let claims = factory.issuer.certificate_claims(device.info().credential.unwrap());
    let other = DeviceCertificateClaims { issued_at: NOW + 5, cti: [8; 8], ..claims };
    let body = slot_request(factory.issuer.public(), Some(&factory.issuer.certificate(&other)));
    factory.visit(&mut device).ask(&mut device, &put("/comm/factory", &body)).refused("4.09");
    // A token from far ahead makes no certificate old.
    let far =
        StationTokenClaims { issued_at: NOW + HOUR, expires_at: Some(NOW + HOUR + HOUR), ..factory.token_claims() };
    factory.present(&mut device, &far);
    let body = slot_request(factory.issuer.public(), Some(&certificate(&factory, &mut device, NOW + 6)));
    factory.station.connect(&mut device).ask(&mut device, &put("/comm/factory", &body)).expect("2.04");
    assert_eq!(device.info().watermarks.factory, Some(NOW + HOUR));
}

#[test]
fn a_new_key_takes_the_certificate_and_the_factory_may_give_another() {
    let (factory, mut device) = made(9);
    let owner = Owner::new(1);
    let body = owner.vouched_request(&factory.issuer, &mut device);
    Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    let old = factory.slot_request(&mut device);
    owner.visit(&mut device).ask(&mut device, &post("/comm/rekey", &[])).expect("2.04");
    assert_eq!(device.info().factory, SlotState::Anchored);
    let answer = factory.visit(&mut device).ask(&mut device, &put("/comm/factory", &old));
    assert_eq!(answer.refused("4.00").1, Some("cnf names another key"));
    let body = factory.slot_request(&mut device);
    factory.visit(&mut device).ask(&mut device, &put("/comm/factory", &body)).expect("2.04");
    assert_eq!((device.info().factory, device.info().owner), (SlotState::Certified, SlotState::Anchored));
}

#[test]
fn the_owners_reset_leaves_it_alone() {
    let (factory, mut device) = made(9);
    let owner = Owner::new(1);
    let body = owner.vouched_request(&factory.issuer, &mut device);
    Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    let before = device.ask(&get("/comm/factory")).payload().to_vec();
    owner.visit(&mut device).ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
    let info = device.info();
    assert_eq!(
        (info.owner, info.factory, info.watermarks.factory),
        (SlotState::Empty, SlotState::Certified, Some(NOW))
    );
    assert_eq!(device.ask(&get("/comm/factory")).payload(), before);
}

#[test]
fn the_present_owner_may_fill_it() {
    let (owner, mut device) = Owner::of_new_device(1);
    let factory = Owner::new(9);
    let alone = slot_request(factory.issuer.public(), None);
    fill(&mut device, &alone).refused("4.09");
    owner.visit(&mut device).ask(&mut device, &put("/comm/factory", &alone)).expect("2.04");
    let info = device.info();
    assert_eq!((info.factory, info.owner, info.claim_counter), (SlotState::Anchored, SlotState::Certified, 1));
    owner.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
}

#[test]
fn what_is_refused_changes_nothing() {
    let (factory, mut device) = (Owner::new(9), TestDevice::new());
    let before = device.flash.bytes();
    let own = device.info().credential.unwrap();
    let (certificate, voucher) =
        (factory.issuer.certify(&mut device), factory.issuer.vouch(&factory.issuer, &mut device));
    let of_another = Owner::new(8).issuer.certify(&mut device);
    let anchor = factory.issuer.public().cose_key();
    for request in [
        SlotRequest { anchor, certificate: Some(&of_another), voucher: None },
        SlotRequest { anchor, certificate: Some(&certificate[1..]), voucher: None },
        SlotRequest { anchor, certificate: Some(&certificate), voucher: Some(&voucher) },
        SlotRequest { anchor: own, certificate: None, voucher: None },
    ] {
        fill(&mut device, &encoded(|out| request.encode(out))).refused("4.00");
    }
    fill(&mut device, b"garbage").refused("4.00");
    assert_eq!(device.flash.bytes(), before);
}

#[test]
fn where_somebody_has_to_be_present_a_factory_has_to_be_too() {
    for policy in [ClaimPolicy::Presence, ClaimPolicy::VoucherAndPresence] {
        let (factory, mut device) = (Owner::new(9), TestDevice::with_policy(policy));
        let body = factory.slot_request(&mut device);
        assert_eq!(fill(&mut device, &body).refused("4.09").0, "somebody has to be at the device");
        device.press();
        fill(&mut device, &body).expect("2.04");
    }
}
