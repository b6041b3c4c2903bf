//! The product's values: who writes and reads them, what is written once, and what becomes of them.

use crate::common::{Driver, Owner, Response, TestDevice, Visitor, get, led, post, put};
use cbor_schemas::{Aif, Condition, ListMode, StationTokenClaims};
use coap_numbers::option::{BLOCK1, SIZE1};

const FLASHES: &str = "/comm/slots/identify-flashes";
const SENDER: &str = "/comm/slots/sender-id";
const PASSPHRASE: &str = "/comm/slots/wifi-passphrase";

const SECRET: &[u8; 32] = b"a passphrase of thirty-two bytes";

/// What the owner is answered that gives a value.
fn give(owner: &Owner, device: &mut TestDevice, path: &str, value: &[u8]) -> Response {
    owner.visit(device).ask(device, &put(path, value))
}

fn holds(device: &TestDevice, bytes: &[u8]) -> bool {
    device.flash.bytes().windows(bytes.len()).any(|window| window == bytes)
}

#[test]
fn the_owner_writes_values_and_reads_them() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = owner.visit(&mut device);
    assert_eq!(session.ask(&mut device, &get(FLASHES)).refused("4.04").1, Some("it was not written yet"));
    for value in [3, 20, 1] {
        let answer = session.ask(&mut device, &put(FLASHES, &[value]).content_format(42));
        assert!(answer.expect("2.04").payload().is_empty());
        let answer = session.ask(&mut device, &get(FLASHES).accept(42));
        assert_eq!((answer.expect("2.05").payload(), answer.content_format()), (&[value][..], Some(42)));
        assert_eq!(device.flashes(), value, "the application knows");
    }
    session.ask(&mut device, &put(SENDER, &[7; 8])).expect("2.04");
    assert_eq!(session.ask(&mut device, &get(SENDER)).payload(), [7; 8]);
    device.restart();
    assert_eq!(device.flashes(), 1);
    assert_eq!(device.server.device_mut().value(&led::SENDER_ID, |id| id), Some([7; 8]));
    assert_eq!(device.server.device_mut().value(&led::WIFI_PASSPHRASE, str::len), None);
    assert_eq!(owner.visit(&mut device).ask(&mut device, &get(FLASHES)).payload(), [1]);
}

#[test]
fn a_secret_is_for_the_application_alone() {
    let (owner, mut device) = Owner::of_new_device(1);
    give(&owner, &mut device, PASSPHRASE, SECRET).expect("2.04");
    let is_it = |passphrase: &str| passphrase.as_bytes() == SECRET;
    assert_eq!(device.server.device_mut().value(&led::WIFI_PASSPHRASE, is_it), Some(true));
    for request in [get(PASSPHRASE), post(PASSPHRASE, &[]), get(PASSPHRASE).accept(42)] {
        owner.visit(&mut device).ask(&mut device, &request).refused("4.05");
        Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &request).refused("4.05");
        device.ask(&request).refused("4.05");
        device.restart();
    }
    // Another one takes its place, and erases it.
    give(&owner, &mut device, PASSPHRASE, b"another").expect("2.04");
    assert!(!holds(&device, SECRET) && holds(&device, b"another"));
}

#[test]
fn nobody_else_writes_or_reads() {
    let (owner, mut device) = Owner::of_new_device(1);
    let (factory, peer) = (Owner::new(9), Owner::new(5).station);
    device.provision_factory(&factory.issuer);
    give(&owner, &mut device, FLASHES, &[3]).expect("2.04");
    let list = owner.issuer.sign_list(&owner.issuer.list_claims(ListMode::Members, 1, &[*peer.key.public().x()]));
    owner.visit(&mut device).ask(&mut device, &put("/comm/peers", &list)).expect("2.04");
    factory.present(&mut device, &factory.token_claims());
    device.restart();
    factory.present(&mut device, &factory.token_claims());
    let before = device.flash.bytes();
    for request in [put(FLASHES, &[4]), get(FLASHES), put(SENDER, &[1; 8]), put(PASSPHRASE, b"x")] {
        device.ask(&request).refused("4.01");
        let peer = Visitor { transfer: protocol::edhoc::Transfer::ByValue, ..Owner::new(5).station };
        for visitor in [&Visitor::stranger(&mut device), &peer, &factory.station] {
            visitor.connect(&mut device).ask(&mut device, &request).refused("4.03");
        }
    }
    assert_eq!((device.flash.bytes(), device.flashes()), (before, 3));
    // While nobody owns it, nobody gives it anything.
    let mut fresh = TestDevice::new();
    fresh.ask(&put(FLASHES, &[4])).refused("4.01");
    Visitor::stranger(&mut fresh).connect(&mut fresh).ask(&mut fresh, &put(FLASHES, &[4])).refused("4.03");
}

#[test]
fn a_scope_may_cover_one_value() {
    let (owner, mut device) = Owner::of_new_device(1);
    let scope = Aif::new(&[(FLASHES, 4)]).unwrap();
    owner.present(&mut device, &StationTokenClaims { scope, ..owner.token_claims() });
    let mut session = owner.station.connect(&mut device);
    session.ask(&mut device, &put(FLASHES, &[4])).expect("2.04");
    session.ask(&mut device, &get(FLASHES)).refused("4.03");
    session.ask(&mut device, &put(SENDER, &[1; 8])).refused("4.03");
}

#[test]
fn what_is_written_once_stays() {
    let (owner, mut device) = Owner::of_new_device(1);
    give(&owner, &mut device, SENDER, &[7; 8]).expect("2.04");
    let before = device.flash.bytes();
    let mut session = owner.visit(&mut device);
    for _ in 0..2 {
        session.ask(&mut device, &put(SENDER, &[7; 8])).expect("2.04");
        assert_eq!(session.ask(&mut device, &put(SENDER, &[8; 8])).refused("4.09").0, "written once");
        session.ask(&mut device, &put(SENDER, &[7; 7])).refused("4.09");
    }
    assert_eq!(device.flash.bytes(), before, "nothing is written");
    // Nor does a write of another value, a new key or a restart loosen it.
    session.ask(&mut device, &put(FLASHES, &[2])).expect("2.04");
    session.ask(&mut device, &post("/comm/rekey", &[])).expect("2.04");
    device.restart();
    give(&owner, &mut device, SENDER, &[8; 8]).refused("4.09");
    // The next owner may write it anew.
    owner.visit(&mut device).ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
    owner.claim(&mut device);
    give(&owner, &mut device, SENDER, &[8; 8]).expect("2.04");
}

/// Wherever the power fails: it is empty and can be written, or it is there and cannot.
#[test]
fn what_is_written_once_is_so_across_power_cuts() {
    let (owner, mut device) = Owner::of_new_device(1);
    give(&owner, &mut device, PASSPHRASE, SECRET).expect("2.04");
    let image = device.flash.bytes();
    let mut seen = [0; 2];
    for cut in (0..).step_by(37) {
        device.flash.overwrite(|bytes| bytes.copy_from_slice(&image));
        device.restart();
        let mut session = owner.visit(&mut device);
        device.flash.cut_power_after(cut);
        let is_confirmed = session.ask(&mut device, &put(SENDER, &[7; 8])).code() == "2.04";
        let was_cut = device.flash.restore_power();
        device.restart();
        assert_eq!(device.info().condition, Condition::Ok);
        let is_there = device.server.device_mut().value(&led::SENDER_ID, |id| id) == Some([7; 8]);
        assert!(is_there || !is_confirmed);
        give(&owner, &mut device, SENDER, &[8; 8]).refused_if(is_there);
        assert_eq!(device.server.device_mut().value(&led::WIFI_PASSPHRASE, str::len), Some(SECRET.len()));
        seen[usize::from(is_there)] += 1;
        if !was_cut {
            break;
        }
    }
    assert!(seen[0] > 10 && seen[1] > 1, "{seen:?}");
}

impl Response {
    #[track_caller]
    fn refused_if(&self, is_refused: bool) {
        self.expect(if is_refused { "4.09" } else { "2.04" });
    }
}

#[test]
fn what_is_no_such_value_is_refused() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = owner.visit(&mut device);
    let before = device.flash.bytes();
    for (path, value, limit) in [(FLASHES, &[1; 2][..], 1), (SENDER, &[1; 9], 8), (PASSPHRASE, &[b'x'; 65], 64)] {
        let answer = session.ask(&mut device, &put(path, value));
        assert_eq!((answer.refused("4.13").0, answer.uint(SIZE1)), ("the value is too long", Some(limit)));
    }
    for (path, value) in
        [(FLASHES, &[0][..]), (FLASHES, &[21]), (FLASHES, &[]), (SENDER, &[1; 7]), (PASSPHRASE, &[0xff])]
    {
        session.ask(&mut device, &put(path, value)).refused("4.00");
    }
    for path in ["/comm/slots/other", "/comm/slots", "/comm/slots/", "/comm/slots/sender-id/x", "/comm/slots/sender-i"]
    {
        session.ask(&mut device, &put(path, &[1; 8])).refused("4.04");
    }
    session.ask(&mut device, &put(FLASHES, &[1]).content_format(60)).refused("4.15");
    assert_eq!(device.flash.bytes(), before);
    // In blocks as well as in one piece.
    session.ask(&mut device, &put(PASSPHRASE, &SECRET[..16]).block(BLOCK1, 0, true, 16)).expect("2.31");
    session.ask(&mut device, &put(PASSPHRASE, &SECRET[16..]).block(BLOCK1, 1, false, 16)).expect("2.04");
    assert!(holds(&device, SECRET));
}

/// By a reset, by a voucher, and by the owner's own hand.
#[test]
fn values_go_with_their_owner() {
    for how in 0..3 {
        let ((owner, mut device), next) = (Owner::of_new_device(1), Owner::new(2));
        give(&owner, &mut device, PASSPHRASE, SECRET).expect("2.04");
        give(&owner, &mut device, FLASHES, &[3]).expect("2.04");
        assert!(holds(&device, SECRET));
        let mut session = owner.visit(&mut device);
        let body = next.vouched_request(&owner.issuer, &mut device);
        match how {
            0 => session.ask(&mut device, &post("/comm/reset", &[])).expect("2.04"),
            1 => session.ask(&mut device, &put("/comm/owner", &body)).expect("2.04"),
            _ => Visitor::stranger(&mut device)
                .connect(&mut device)
                .ask(&mut device, &put("/comm/owner", &body))
                .expect("2.04"),
        };
        assert!(!holds(&device, SECRET));
        assert_eq!((device.flashes(), device.server.device_mut().value(&led::WIFI_PASSPHRASE, str::len)), (10, None));
    }
}

#[test]
fn values_stay_with_a_new_key_and_a_new_certificate_and_end_no_session() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = owner.visit(&mut device);
    session.ask(&mut device, &put(PASSPHRASE, SECRET)).expect("2.04");
    session.ask(&mut device, &post("/comm/rekey", &[])).expect("2.04");
    let body = owner.slot_request(&mut device);
    owner.visit(&mut device).ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    assert_eq!(device.server.device_mut().value(&led::WIFI_PASSPHRASE, str::len), Some(SECRET.len()));
}

#[test]
fn a_value_that_flash_does_not_take_is_refused_and_the_one_before_stays() {
    for driver in [Driver::Refuses, Driver::Forgets] {
        let (owner, mut device) = Owner::of_new_device(1);
        let mut session = owner.visit(&mut device);
        session.ask(&mut device, &put(FLASHES, &[3])).expect("2.04");
        device.flash.set_driver(driver);
        session.ask(&mut device, &put(FLASHES, &[4])).refused("5.00");
        device.flash.set_driver(Driver::Works);
        assert_eq!(session.ask(&mut device, &get(FLASHES)).payload(), [3]);
        assert_eq!(device.flashes(), 3);
        session.ask(&mut device, &put(FLASHES, &[4])).expect("2.04");
        assert_eq!(device.flashes(), 4);
    }
}

#[test]
fn damaged_values_are_a_fault() {
    let (owner, mut device) = Owner::of_new_device(1);
    give(&owner, &mut device, FLASHES, &[3]).expect("2.04");
    let mut session = owner.visit(&mut device);
    let mut damaged = device.flash.bytes();
    let name = b"identify-flashes";
    while let Some(at) = damaged.windows(name.len()).position(|window| window == name) {
        damaged[at] = 0;
    }
    device.flash.overwrite(|bytes| bytes.copy_from_slice(&damaged));
    session.ask(&mut device, &get(FLASHES)).refused("5.00");
    assert_eq!(device.server.device_mut().value(&led::FLASHES, |flashes| flashes), None);
    device.restart();
    assert_eq!((device.info().condition, device.flashes()), (Condition::Fault, 10));
    device.ask(&put(FLASHES, &[4])).refused("5.03");
}
