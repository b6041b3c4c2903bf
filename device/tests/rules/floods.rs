//! Strangers can do as much as they like: they only ever displace each other.

use protocol::edhoc::Transfer;

use crate::common::{Address, CABLE, NETWORK, Owner, Session, TestDevice, Visitor, get, post};

/// Addresses on a network with many strangers.
const ADDRESSES: [Address; 8] =
    [Address("a"), Address("b"), Address("c"), Address("d"), Address("e"), Address("f"), Address("g"), Address("h")];

#[test]
fn an_owner_session_survives_a_flood_of_message_1() {
    // From the owner's own address, as on a serial line, from one other, and from many.
    for addresses in [&[CABLE][..], &[NETWORK], &ADDRESSES] {
        let (owner, mut device) = Owner::of_new_device(1);
        let mut session = owner.visit(&mut device);
        for from in addresses.iter().cycle().take(60) {
            let (_, message_1) = Visitor::stranger(&mut device).message_1(&mut device);
            device.ask_from(*from, &message_1).expect("2.04");
            session.ask(&mut device, &get("/comm/peers")).expect("2.05");
        }
        // A second session can be begun as soon as there is a pause.
        owner.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
        session.ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
    }
}

#[test]
fn an_owner_session_survives_a_flood_of_strangers() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = owner.visit(&mut device);
    let mut strangers: Vec<Session> = Vec::new();
    for from in ADDRESSES.into_iter().cycle().take(20) {
        let mut stranger = Visitor { from, ..Visitor::stranger(&mut device) }.connect(&mut device);
        stranger.ask(&mut device, &get("/comm")).expect("2.05");
        strangers.push(stranger);
    }
    strangers[0].ask_in_vain(&mut device, &get("/comm")).refused("4.01");
    strangers[19].ask(&mut device, &get("/comm")).expect("2.05");
    session.ask(&mut device, &get("/comm/peers")).expect("2.05");
    session.ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
}

#[test]
fn an_owner_gets_in_though_all_places_are_taken_by_strangers() {
    let (owner, mut device) = Owner::of_new_device(1);
    for from in ADDRESSES {
        Visitor { from, ..Visitor::stranger(&mut device) }.connect(&mut device);
    }
    owner.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
}

#[test]
fn owners_make_room_for_owners_and_leave_one_place_for_strangers() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut owners = Vec::new();
    for _ in 0..3 {
        owners.push(owner.visit(&mut device));
    }
    let mut strangers = Vec::new();
    for _ in 0..2 {
        strangers.push(Visitor { from: NETWORK, ..Visitor::stranger(&mut device) }.connect(&mut device));
    }
    strangers[0].ask_in_vain(&mut device, &get("/comm")).refused("4.01");
    strangers[1].ask(&mut device, &get("/comm")).expect("2.05");

    owners[0].ask(&mut device, &get("/comm/peers")).expect("2.05");
    owners.push(owner.visit(&mut device));
    owners[1].ask_in_vain(&mut device, &get("/comm/peers")).refused("4.01");
    for index in [0, 2, 3] {
        owners[index].ask(&mut device, &get("/comm/peers")).expect("2.05");
    }
    strangers[1].ask(&mut device, &get("/comm")).expect("2.05");
}

#[test]
fn a_flood_of_forged_tokens_displaces_no_token() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = owner.visit(&mut device);
    let wear = device.flash.wear();
    for _ in 0..20 {
        let mut forged = owner.issuer.token(&owner.issuer.token_claims(device.rng.key().public()));
        *forged.last_mut().unwrap() ^= 1;
        device.present(&forged).refused("4.01");
    }
    assert_eq!(device.flash.wear(), wear);
    session.ask(&mut device, &get("/comm/peers")).expect("2.05");
    owner.station.connect(&mut device);
}

#[test]
fn handshakes_of_several_addresses_do_not_mix() {
    let mut device = TestDevice::new();
    let begun = [CABLE, NETWORK].map(|from| Visitor { from, ..Visitor::stranger(&mut device) }.begin(&mut device));
    for (begun, from) in begun.into_iter().zip([CABLE, NETWORK]).rev() {
        let message_4 = device.ask_from(from, &begun.message_3_alone());
        let context = begun.pending.confirm(Some(message_4.expect("2.04").payload())).unwrap();
        Session { context, from }.ask(&mut device, &get("/comm")).expect("2.05");
    }
}

#[test]
fn a_session_is_bound_to_its_keys_not_to_an_address() {
    let (owner, mut device) = Owner::of_new_device(1);
    owner.present(&mut device, &owner.token_claims());
    let station = Visitor { transfer: Transfer::ByKid, from: NETWORK, key: owner.station.key.clone() };
    let session = station.connect(&mut device);
    let mut moved = Session { from: CABLE, ..session };
    moved.ask(&mut device, &get("/comm/peers")).expect("2.05");
}
