//! Storage, seen from the wire: what is confirmed is there after a restart, and damage never looks like a new device.

use cbor_schemas::{Condition, DeviceInfo, ListMode, SlotState};

use crate::common::{Driver, NOW, Owner, Request, Session, TestDevice, Visitor, get, layout, post, put};

#[test]
fn a_restart_keeps_key_owner_and_counters() {
    let (owner, mut device) = Owner::of_new_device(1);
    owner.visit(&mut device).ask(&mut device, &post("/comm/rekey", &[])).expect("2.04");
    let before = device.info();
    let bytes = device.flash.bytes();
    device.restart();
    let info = device.info();
    assert_ne!(info.nonce, before.nonce);
    assert_eq!(info, DeviceInfo { nonce: info.nonce, ..before });
    assert_eq!(device.flash.bytes(), bytes, "nothing is written");
    owner.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
}

#[test]
fn the_nonce_is_fresh_at_each_start() {
    let mut device = TestDevice::new();
    let mut seen = Vec::new();
    for _ in 0..5 {
        let nonce = device.info().nonce;
        assert!(!seen.contains(&nonce));
        seen.push(nonce);
        device.restart();
    }
}

type Prepare = fn(&Owner, &mut TestDevice) -> (Session, Request);

/// Requests that change something, by those who may. Each comes with the session to send it by.
fn commits() -> [Prepare; 4] {
    [
        |owner, device| {
            let mut session = owner.visit(device);
            session.ask(device, &post("/comm/reset", &[])).expect("2.04");
            let body = owner.slot_request(device);
            (Visitor::stranger(device).connect(device), put("/comm/owner", &body))
        },
        |owner, device| {
            let body = Owner::new(2).slot_request(device);
            (owner.visit(device), put("/comm/owner", &body))
        },
        |owner, device| (owner.visit(device), post("/comm/rekey", &[])),
        |owner, device| (owner.visit(device), post("/comm/reset", &[])),
    ]
}

#[test]
fn a_commit_that_flash_does_not_take_is_refused_and_changes_nothing() {
    for driver in [Driver::Refuses, Driver::Forgets] {
        for prepare in commits() {
            let (owner, mut device) = Owner::of_new_device(1);
            let (mut session, request) = prepare(&owner, &mut device);
            let (before, info) = (device.flash.bytes(), device.info());
            device.flash.set_driver(driver);
            let answer = session.ask(&mut device, &request);
            assert_eq!(answer.refused("5.00").0, "storage failed");
            assert_eq!((device.flash.bytes(), device.info()), (before, info));
            // The session goes on, and the request can be repeated.
            device.flash.set_driver(Driver::Works);
            session.ask(&mut device, &request).expect("2.04");
        }
    }
}

#[test]
fn a_token_whose_watermark_flash_does_not_take_is_refused() {
    for driver in [Driver::Refuses, Driver::Forgets] {
        let (owner, mut device) = Owner::of_new_device(1);
        let token =
            owner.issuer.token(&cbor_schemas::StationTokenClaims { issued_at: NOW + 1, ..owner.token_claims() });
        device.flash.set_driver(driver);
        assert_eq!(device.present(&token).refused("5.00").0, "storage failed");
        device.flash.set_driver(Driver::Works);
        assert_eq!(device.info().watermarks.owner, Some(NOW));
        let begun = owner.station.begin(&mut device);
        device.ask(&begun.message_3_alone()).edhoc_error();
        device.present(&token).expect("2.01");
    }
}

#[test]
fn a_first_start_that_flash_does_not_take_is_a_fault_until_it_works() {
    let mut device = TestDevice::new();
    device.flash.overwrite(|bytes| bytes.fill(0xff));
    device.flash.set_driver(Driver::Refuses);
    device.restart();
    assert_serves_nothing(&mut device);
    device.flash.set_driver(Driver::Works);
    device.restart();
    assert_eq!((device.info().condition, device.info().generation), (Condition::Ok, 1));
}

/// Lets some operations of the flash fail in the midst of a commit, at every possible place.
fn fail_halfway(times: u32, check: impl Fn(bool, &DeviceInfo, &mut TestDevice, &mut Session)) {
    for prepare in commits() {
        for after in 0.. {
            let (owner, mut device) = Owner::of_new_device(1);
            let (mut session, request) = prepare(&owner, &mut device);
            let before = device.info();
            device.flash.set_driver(Driver::Fails { after, times });
            let is_confirmed = session.ask(&mut device, &request).code() == "2.04";
            if matches!(device.flash.driver(), Driver::Fails { after: 1.., .. }) {
                assert!(is_confirmed, "it takes {after} operations at the most");
                break;
            }
            device.flash.set_driver(Driver::Works);
            check(is_confirmed, &before, &mut device, &mut session);
        }
    }
}

#[test]
fn an_operation_that_fails_once_is_repeated() {
    fail_halfway(1, |is_confirmed, before, device, _| {
        assert!(is_confirmed);
        assert_ne!(device.info(), *before);
    });
}

#[test]
fn a_commit_that_fails_halfway_leaves_the_old_state_or_the_new_one() {
    for times in [2, 3, 5, u32::MAX] {
        fail_halfway(times, |is_confirmed, before, device, session| {
            // What changed has ended all sessions, be it confirmed or not.
            let info = device.info();
            let is_changed = info != *before;
            assert!(is_changed || !is_confirmed);
            let (datagram, correlation) = session.protect(device, &get("/comm"));
            let answer = device.receive(session.from, &datagram).expect("an answer");
            assert_eq!(session.open(&answer, &correlation).is_err(), is_changed);
            // If flash failed too often to tell what is in it, a restart does.
            device.restart();
            let found = device.info();
            assert_eq!(found.condition, Condition::Ok);
            if info.condition == Condition::Ok {
                assert_eq!(found, DeviceInfo { nonce: found.nonce, ..info });
            }
            assert_eq!(found.credential != before.credential, found.generation > before.generation);
            assert!(found.generation == before.generation || found.claim_counter == before.claim_counter);
            assert!(found.generation == before.generation || found.owner == SlotState::Anchored);
        });
    }
}

#[test]
fn power_cuts_leave_the_old_state_or_the_new_one() {
    for prepare in commits() {
        for cut in (0..).step_by(173) {
            let (owner, mut device) = Owner::of_new_device(1);
            let (mut session, request) = prepare(&owner, &mut device);
            let before = device.info();
            device.flash.cut_power_after(cut);
            let (datagram, correlation) = session.protect(&mut device, &request);
            let answer = device.receive(session.from, &datagram).expect("an answer");
            let is_confirmed = session.open(&answer, &correlation).unwrap().code() == "2.04";
            let was_cut = device.flash.restore_power();
            assert_eq!(is_confirmed, !was_cut);
            device.restart();
            let info = device.info();
            assert_eq!(info.condition, Condition::Ok, "after {cut} bytes");
            let state = |info: &DeviceInfo| (info.owner, info.claim_counter, info.generation, info.credential);
            if is_confirmed {
                assert_ne!(state(&info), state(&before));
                break;
            }
            // The key, the generation and the slots go together. An interrupted rekey ends in yet another key.
            let is_rekeyed = info.generation != before.generation;
            assert_eq!(info.credential != before.credential, is_rekeyed);
            assert!(!is_rekeyed || info.owner == SlotState::Anchored);
            assert_eq!(
                info.claim_counter == before.claim_counter + 1,
                state(&info) != state(&before) && !is_rekeyed,
                "after {cut} bytes"
            );
        }
    }
}

/// Damage to one range: everything erased, everything programmed, every byte off by one bit, each page torn.
const DAMAGE: [fn(&mut [u8]); 4] = [
    |range| range.fill(0xff),
    |range| range.fill(0),
    |range| range.iter_mut().for_each(|byte| *byte ^= 0x10),
    |range| range.chunks_mut(1024).for_each(|page| page[..512].fill(0x55)),
];

/// One half is made good from the other one; both together are a fault.
#[test]
fn damage_to_an_owned_device_never_makes_it_a_new_one() {
    let layout = layout();
    let [a, b] = [&layout.half_a, &layout.half_b].map(|range| range.start as usize..range.end as usize);
    for (range, is_fault) in [(a.clone(), false), (b.clone(), false), (a.start..b.end, true)] {
        for damage in DAMAGE {
            let (owner, mut device) = Owner::of_new_device(1);
            // A chip that was erased is a new device; so one whose halves are all blank has a list here.
            let list = owner.issuer.list_claims(ListMode::Members, 1, &[[9; 32]]);
            let list = put("/comm/peers", &owner.issuer.sign_list(&list));
            owner.visit(&mut device).ask(&mut device, &list).expect("2.04");
            let before = device.info();
            device.flash.overwrite(|bytes| damage(&mut bytes[range.clone()]));
            device.restart();
            let info = device.info();
            assert_eq!(info.condition == Condition::Fault, is_fault);
            if is_fault {
                assert_serves_nothing(&mut device);
            } else {
                assert_eq!(info, DeviceInfo { nonce: info.nonce, ..before });
            }
        }
    }
}

/// Page by page: the device is as it was, and nobody can claim it. A page of the list, which is there once, is a fault.
#[test]
fn one_damaged_page_of_an_owned_device_lets_nobody_in() {
    const PAGE: usize = 1024;
    let (mut intact, mut faults) = (0, 0);
    let (owner, mut device) = Owner::of_new_device(1);
    let list = owner.issuer.sign_list(&owner.issuer.list_claims(ListMode::Members, 1, &[[9; 32]]));
    owner.visit(&mut device).ask(&mut device, &put("/comm/peers", &list)).expect("2.04");
    let (whole, before) = (device.flash.bytes(), device.info());
    let list_page = layout().list.start as usize / PAGE;
    for page in 0..whole.len() / PAGE {
        for damage in DAMAGE {
            device.flash.overwrite(|bytes| {
                bytes.copy_from_slice(&whole);
                damage(&mut bytes[page * PAGE..][..PAGE]);
            });
            device.restart();
            let info = device.info();
            assert_eq!(info.condition == Condition::Fault, page == list_page, "page {page}");
            if info.condition == Condition::Fault {
                assert_serves_nothing(&mut device);
                faults += 1;
                continue;
            }
            assert_eq!(info, DeviceInfo { nonce: info.nonce, ..before }, "page {page}");
            let claim = put("/comm/owner", &Owner::new(2).slot_request(&mut device));
            Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &claim).refused("4.09");
            owner.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
            intact += 1;
        }
    }
    assert_eq!((intact, faults), (44, 4));
}

/// In a fault there is `/comm` and discovery, and nothing else; and nothing is written.
fn assert_serves_nothing(device: &mut TestDevice) {
    let bytes = device.flash.bytes();
    let info = device.info();
    assert_eq!((info.condition, info.credential), (Condition::Fault, None));
    device.ask(&get("/.well-known/core")).expect("2.05");

    let owner = Owner::new(1);
    let (_, message_1) = Visitor::stranger(device).message_1(device);
    for request in [
        message_1,
        post("/.well-known/edhoc", b"garbage"),
        post("/authz-info", &owner.issuer.token(&owner.token_claims())),
        get("/comm/factory"),
        get("/comm/owner"),
        put("/comm/owner", b"garbage"),
        put("/comm/factory", b"garbage"),
        put("/comm/peers", b"garbage"),
        get("/comm/peers"),
        post("/comm/identify", &[]),
        post("/comm/rekey", &[]),
        post("/comm/reset", &[]),
    ] {
        assert_eq!(device.ask(&request).refused("5.03").0, "storage is damaged");
    }
    assert_eq!((device.flash.bytes(), device.blinks()), (bytes, 0));
}

#[test]
fn a_fault_that_comes_up_while_running_ends_all_but_comm() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = owner.visit(&mut device);
    device.flash.overwrite(|bytes| bytes.fill(0));
    session.ask(&mut device, &post("/comm/reset", &[])).refused("5.00");
    session.ask_in_vain(&mut device, &get("/comm")).refused("4.01");
    assert_serves_nothing(&mut device);
}
