//! Claiming: how a device gets its owner.

use cbor_schemas::{ClaimPolicy, Receipt, SlotContents, SlotState, SlotView};
use sha2::{Digest, Sha256};

use crate::common::{Issuer, NOW, Owner, TestDevice, Visitor, encoded, get, post, put, slot_request};

#[test]
fn a_claim_is_answered_by_a_receipt_of_what_was_read_back() {
    let (owner, mut device) = (Owner::new(1), TestDevice::new());
    let certificate = owner.issuer.certify(&mut device);
    let contents = SlotContents { anchor: owner.issuer.public().cose_key(), certificate: Some(&certificate) };
    let expected = Receipt {
        device: device.info().credential.unwrap().x,
        claim_counter: 1,
        generation: 1,
        digest: Sha256::digest(encoded(|out| contents.encode(out))).into(),
    };
    let body = slot_request(owner.issuer.public(), Some(&certificate));
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let answer = session.ask(&mut device, &put("/comm/owner", &body).content_format(60));
    assert_eq!(answer.expect("2.04").content_format(), Some(60));
    assert_eq!(Receipt::decode(answer.payload()), Ok(expected));

    let info = device.info();
    assert_eq!((info.owner, info.factory, info.claim_counter), (SlotState::Certified, SlotState::Empty, 1));
    assert_eq!((info.watermarks.owner, info.watermarks.factory), (Some(NOW), None));
    let view = owner.visit(&mut device).ask(&mut device, &get("/comm/owner"));
    assert_eq!(
        SlotView::decode(view.payload()),
        Ok(SlotView { state: SlotState::Certified, anchor: Some(contents.anchor), certificate: Some(&certificate) })
    );
}

#[test]
fn a_claim_works_in_the_combined_request_too() {
    let (owner, mut device) = (Owner::new(1), TestDevice::new());
    let body = owner.slot_request(&mut device);
    let begun = Visitor::stranger(&mut device).begin(&mut device);
    let (session, datagram, correlation) = begun.combined(&mut device, &put("/comm/owner", &body));
    let answer = device.receive(session.from, &datagram).unwrap();
    session.open(&answer, &correlation).unwrap().expect("2.04");
    assert_eq!(device.info().owner, SlotState::Certified);
}

#[test]
fn an_anchor_alone_anchors() {
    let (owner, mut device) = (Owner::new(1), TestDevice::new());
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    session.ask(&mut device, &put("/comm/owner", &slot_request(owner.issuer.public(), None))).expect("2.04");
    let info = device.info();
    assert_eq!((info.owner, info.claim_counter, info.watermarks.owner), (SlotState::Anchored, 1, None));
    owner.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
}

#[test]
fn all_sessions_end_with_the_answer_to_a_claim() {
    let (owner, mut device) = (Owner::new(1), TestDevice::new());
    let mut other = Visitor::stranger(&mut device).connect(&mut device);
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let pending = Visitor::stranger(&mut device).begin(&mut device);
    let body = owner.slot_request(&mut device);
    session.ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    for session in [&mut session, &mut other] {
        let answer = session.ask_in_vain(&mut device, &get("/comm"));
        assert_eq!(answer.refused("4.01").0, "security context not found");
    }
    device.ask(&pending.message_3_alone()).edhoc_error();
}

#[test]
fn a_second_claimant_is_refused() {
    let (_, mut device) = Owner::of_new_device(1);
    let (before, info) = (device.flash.bytes(), device.info());
    let second = Owner::new(2);
    let body = second.slot_request(&mut device);
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    session.ask(&mut device, &put("/comm/owner", &body)).refused("4.09");
    device.present(&second.issuer.token(&second.token_claims())).refused("4.01");
    assert_eq!((device.flash.bytes(), device.info()), (before, info));
}

#[test]
fn the_owner_may_repeat_the_claim_and_gets_the_same_receipt() {
    let (owner, mut device) = (Owner::new(1), TestDevice::new());
    let body = owner.slot_request(&mut device);
    let receipt = owner.claim(&mut device);
    let mut session = owner.visit(&mut device);
    let wear = device.flash.wear();
    for _ in 0..2 {
        let answer = session.ask(&mut device, &put("/comm/owner", &body));
        assert_eq!(Receipt::decode(answer.expect("2.04").payload()), Ok(receipt));
    }
    assert_eq!(device.flash.wear(), wear, "nothing is written");
    assert_eq!(device.info().claim_counter, 1);
    // Others have no part in that, not even with the same bytes.
    let mut stranger = Visitor::stranger(&mut device).connect(&mut device);
    stranger.ask(&mut device, &put("/comm/owner", &body)).refused("4.09");
}

#[test]
fn without_security_everything_is_refused_with_the_same_answer() {
    let mut answers = Vec::new();
    let (owner, mut owned) = Owner::of_new_device(1);
    for device in [&mut TestDevice::new(), &mut owned] {
        let before = device.flash.bytes();
        let body = owner.slot_request(device);
        for request in [
            put("/comm/owner", &body),
            put("/comm/owner", b"garbage"),
            put("/comm/owner", &[]),
            put("/comm/factory", &body),
            put("/comm/peers", &owner.issuer.list()),
            get("/comm/peers"),
            post("/comm/rekey", &[]),
            post("/comm/rekey", b"garbage"),
            post("/comm/reset", &[]),
        ] {
            answers.push(device.ask(&request));
        }
        assert_eq!(device.flash.bytes(), before);
    }
    answers.push(owned.ask(&post("/comm/identify", &[])));
    assert_eq!(owned.blinks(), 0);
    assert_eq!(answers[0].refused("4.01"), ("not authorized", None));
    assert!(answers.iter().all(|answer| answer.payload() == answers[0].payload() && answer.code() == "4.01"));
}

#[test]
fn other_claim_policies_refuse_claims_that_come_without_voucher_or_presence() {
    for policy in [ClaimPolicy::Voucher, ClaimPolicy::Presence, ClaimPolicy::VoucherAndPresence] {
        let (owner, mut device) = (Owner::new(1), TestDevice::with_policy(policy));
        let body = owner.slot_request(&mut device);
        let before = device.flash.bytes();
        let mut session = Visitor::stranger(&mut device).connect(&mut device);
        session.ask(&mut device, &put("/comm/owner", &body)).refused("4.09");
        device.ask(&put("/comm/owner", &body)).refused("4.01");
        let info = device.info();
        assert_eq!((info.owner, info.claim_policy), (SlotState::Empty, policy));
        assert_eq!(device.flash.bytes(), before);
    }
}

#[test]
fn with_a_factory_anchor_open_acts_as_voucher() {
    let (owner, mut device) = (Owner::new(1), TestDevice::new());
    device.provision_factory(&Issuer::new(9));
    assert_eq!(device.info().factory, SlotState::Anchored);
    let body = owner.slot_request(&mut device);
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    session.ask(&mut device, &put("/comm/owner", &body)).refused("4.09");
    assert_eq!(device.info().owner, SlotState::Empty);
}
