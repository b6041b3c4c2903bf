//! What each role may do, seen from the wire.

use cbor_schemas::{Aif, SlotState, SlotView, StationTokenClaims};
use protocol::edhoc::Transfer;

use crate::common::{Owner, Session, TestDevice, Visitor, get, post, put};

/// A session of the owner's station with this scope.
fn visit(owner: &Owner, device: &mut TestDevice, scope: &[(&str, u8)]) -> Session {
    let scope = Aif::new(scope).unwrap();
    owner.present(device, &StationTokenClaims { scope, ..owner.token_claims() });
    owner.station.connect(device)
}

fn sees_owner(session: &mut Session, device: &mut TestDevice) -> bool {
    let answer = session.ask(device, &get("/comm/owner"));
    SlotView::decode(answer.expect("2.05").payload()).unwrap().anchor.is_some()
}

const GET: u8 = 1;
const POST: u8 = 2;
const PUT: u8 = 4;

#[test]
fn a_scope_of_get_reads_and_changes_nothing() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = visit(&owner, &mut device, &[("/comm", GET)]);
    assert!(sees_owner(&mut session, &mut device));
    session.ask(&mut device, &get("/comm/peers")).expect("2.05");
    let before = device.flash.bytes();
    let body = owner.slot_request(&mut device);
    session.ask(&mut device, &put("/comm/owner", &body)).refused("4.09");
    session.ask(&mut device, &post("/comm/rekey", &[])).refused("4.03");
    session.ask(&mut device, &post("/comm/reset", &[])).refused("4.03");
    session.ask(&mut device, &post("/comm/identify", &[])).refused("4.09");
    assert_eq!((device.flash.bytes(), device.blinks()), (before, 0));
}

#[test]
fn a_scope_of_one_path_covers_that_path_only() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = visit(&owner, &mut device, &[("/comm/identify", POST), ("/comm/own", GET | POST | PUT)]);
    session.ask(&mut device, &post("/comm/identify", &[])).expect("2.04");
    assert_eq!(device.blinks(), 1);
    assert!(!sees_owner(&mut session, &mut device));
    session.ask(&mut device, &get("/comm/peers")).refused("4.03");
    session.ask(&mut device, &post("/comm/reset", &[])).refused("4.03");
}

#[test]
fn a_scope_of_everything_is_everything() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = owner.visit(&mut device);
    assert!(sees_owner(&mut session, &mut device));
    session.ask(&mut device, &get("/comm/peers")).expect("2.05");
    session.ask(&mut device, &post("/comm/identify", &[])).expect("2.04");
    session.ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
}

#[test]
fn a_station_may_send_its_credential_by_value_too() {
    let (owner, mut device) = Owner::of_new_device(1);
    owner.present(&mut device, &owner.token_claims());
    let station = Visitor { transfer: Transfer::ByValue, ..owner.station };
    station.connect(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
}

#[test]
fn a_stranger_may_change_nothing_that_is_owned() {
    let (owner, mut device) = Owner::of_new_device(1);
    let body = owner.slot_request(&mut device);
    let before = device.flash.bytes();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    assert!(!sees_owner(&mut session, &mut device));
    session.ask(&mut device, &put("/comm/owner", &body)).refused("4.09");
    session.ask(&mut device, &get("/comm/peers")).refused("4.03");
    session.ask(&mut device, &post("/comm/identify", &[])).refused("4.09");
    session.ask(&mut device, &post("/comm/rekey", &[])).refused("4.03");
    session.ask(&mut device, &post("/comm/reset", &[])).refused("4.03");
    assert_eq!((device.flash.bytes(), device.blinks()), (before, 0));
}

#[test]
fn anyone_may_let_it_blink_until_it_has_an_owner() {
    let (owner, mut device) = (Owner::new(1), TestDevice::new());
    device.ask(&post("/comm/identify", &[])).expect("2.04");
    Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &post("/comm/identify", &[])).expect("2.04");
    assert_eq!(device.blinks(), 2);
    owner.claim(&mut device);
    device.ask(&post("/comm/identify", &[])).refused("4.01");
    let mut session = owner.visit(&mut device);
    session.ask(&mut device, &post("/comm/identify", &[])).expect("2.04");
    assert_eq!(device.blinks(), 3);
}

#[test]
fn a_token_of_the_factory_reads_and_changes_nothing() {
    let (owner, mut device) = Owner::of_new_device(1);
    let factory = Owner::new(9);
    device.provision_factory(&factory.issuer);
    assert_eq!((device.info().factory, device.info().owner), (SlotState::Anchored, SlotState::Certified));
    let mut session = factory.visit(&mut device);
    assert!(device.info().watermarks.factory.is_some(), "its watermark is its own");
    assert!(sees_owner(&mut session, &mut device));
    let (before, body) = (device.flash.bytes(), owner.slot_request(&mut device));
    session.ask(&mut device, &put("/comm/owner", &body)).refused("4.03");
    session.ask(&mut device, &get("/comm/peers")).refused("4.03");
    session.ask(&mut device, &post("/comm/rekey", &[])).refused("4.03");
    session.ask(&mut device, &post("/comm/reset", &[])).refused("4.03");
    session.ask(&mut device, &post("/comm/identify", &[])).refused("4.09");
    assert_eq!(device.flash.bytes(), before);
    // The owner still is who it is.
    owner.visit(&mut device).ask(&mut device, &post("/comm/rekey", &[])).expect("2.04");
    assert_eq!((device.info().factory, device.info().owner), (SlotState::Anchored, SlotState::Anchored));
}
