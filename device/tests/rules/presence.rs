//! Somebody at the device, who holds its button down: for one act, within 30 seconds.

use cbor_schemas::{ClaimPolicy, SlotState};

use crate::common::{Driver, Issuer, Owner, Response, TestDevice, Visitor, post, put};

/// A device that is claimed by presence.
fn unowned() -> (Owner, TestDevice) {
    (Owner::new(1), TestDevice::with_policy(ClaimPolicy::Presence))
}

fn claim(owner: &Owner, device: &mut TestDevice) -> Response {
    let body = owner.slot_request(device);
    Visitor::stranger(device).connect(device).ask(device, &put("/comm/owner", &body))
}

fn reset(device: &mut TestDevice) -> Response {
    Visitor::stranger(device).connect(device).ask(device, &post("/comm/reset", &[]))
}

#[test]
fn presence_lasts_thirty_seconds() {
    let (owner, mut device) = unowned();
    assert_eq!(claim(&owner, &mut device).refused("4.09").0, "somebody has to be at the device");
    device.press();
    device.now += 30_000;
    assert_eq!(claim(&owner, &mut device).refused("4.09").0, "somebody has to be at the device");
    device.press();
    device.now += 29_999;
    claim(&owner, &mut device).expect("2.04");
}

#[test]
fn presence_serves_for_one_act() {
    let (owner, mut device) = unowned();
    device.press();
    claim(&owner, &mut device).expect("2.04");
    owner.visit(&mut device).ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
    claim(&owner, &mut device).refused("4.09");
    device.press();
    claim(&owner, &mut device).expect("2.04");
}

#[test]
fn what_is_refused_does_not_use_it_up_and_what_fails_does_not_either() {
    let (owner, mut device) = unowned();
    device.press();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    session.ask(&mut device, &put("/comm/owner", b"garbage")).refused("4.00");
    let body = owner.slot_request(&mut device);
    device.flash.set_driver(Driver::Refuses);
    session.ask(&mut device, &put("/comm/owner", &body)).refused("5.00");
    device.flash.set_driver(Driver::Works);
    session.ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
}

#[test]
fn it_takes_a_key_all_the_same_and_is_forgotten_with_the_power() {
    let (owner, mut device) = unowned();
    let body = owner.slot_request(&mut device);
    device.press();
    device.ask(&put("/comm/owner", &body)).refused("4.01");
    device.restart();
    claim(&owner, &mut device).refused("4.09");
}

#[test]
fn presence_is_no_voucher_and_a_voucher_no_presence() {
    let (factory, owner) = (Issuer::new(9), Owner::new(1));
    let mut device = TestDevice::with_policy(ClaimPolicy::VoucherAndPresence);
    device.provision_factory(&factory);
    let body = owner.vouched_request(&factory, &mut device);
    let vouched = |device: &mut TestDevice| {
        let mut session = Visitor::stranger(device).connect(device);
        session.ask(device, &put("/comm/owner", &body))
    };
    assert_eq!(vouched(&mut device).refused("4.09").0, "somebody has to be at the device");
    device.press();
    assert_eq!(claim(&owner, &mut device).refused("4.09").0, "a voucher is needed");
    vouched(&mut device).expect("2.04");
}

#[test]
fn a_product_may_be_reset_by_presence() {
    let mut device = TestDevice::of_product(ClaimPolicy::Open, true);
    let owner = Owner::new(1);
    reset(&mut device).refused("4.09"); // nobody owns it
    owner.claim(&mut device);
    assert_eq!(reset(&mut device).refused("4.09").0, "somebody has to be at the device");
    device.press();
    device.ask(&post("/comm/reset", &[])).refused("4.01");
    let anchor = *owner.issuer.public().x();
    let holds = |device: &TestDevice| device.flash.bytes().windows(32).any(|window| window == anchor);
    assert!(holds(&device));
    reset(&mut device).expect("2.04");
    assert_eq!((device.info().owner, device.info().claim_counter), (SlotState::Empty, 2));
    assert!(!holds(&device));
    // The press that let one act through lets no second one.
    owner.claim(&mut device);
    reset(&mut device).refused("4.09");
}

#[test]
fn other_products_are_not_reset_by_presence() {
    let (_, mut device) = Owner::of_new_device(1);
    device.press();
    assert_eq!(reset(&mut device).refused("4.03").0, "forbidden");
    assert_eq!(device.info().owner, SlotState::Certified);
}

/// Whoever is let in by presence does not leave it for the next one.
#[test]
fn a_claim_ends_the_presence_that_it_did_not_need() {
    let mut device = TestDevice::of_product(ClaimPolicy::Open, true);
    device.press();
    Owner::new(1).claim(&mut device);
    reset(&mut device).refused("4.09");
}
