//! OSCORE as the device uses it: what is not authentic is not executed.

use coap_lite::{CoapOption, Packet};
use coap_numbers::option;
use device::transport::Service;

use crate::common::{CABLE, Owner, Response, TestDevice, Visitor, get, post};

/// Sends a changed datagram, with a Message ID of its own.
fn send(device: &mut TestDevice, datagram: &[u8], change: impl FnOnce(&mut Packet)) -> Response {
    let mut packet = Packet::from_bytes(datagram).unwrap();
    change(&mut packet);
    let datagram = device.datagram(&packet);
    Response::parse(&device.receive(CABLE, &datagram).expect("an answer"))
}

#[test]
fn a_request_is_executed_once() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let (datagram, _) = session.protect(&mut device, &post("/comm/identify", &[]));
    device.receive(CABLE, &datagram).unwrap();
    let answer = send(&mut device, &datagram, |_| {});
    assert_eq!(answer.refused("4.01").0, "replay detected");
    assert_eq!(device.blinks(), 1);
    session.ask(&mut device, &get("/comm")).expect("2.05");
}

/// It may have held a secret.
#[test]
fn a_request_is_wiped_once_it_is_answered() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let (mut datagram, _) = session.protect(&mut device, &post("/comm/identify", &[]));
    let mut out = [0; device::DATAGRAM_LEN];
    assert!(device.server.handle(CABLE, &mut datagram, 0, &mut out).is_some());
    assert!(datagram.iter().all(|byte| *byte == 0), "{datagram:02x?}");
}

#[test]
fn requests_may_overtake_each_other() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let requests = [(); 3].map(|()| session.protect(&mut device, &get("/comm")));
    for (datagram, correlation) in requests.iter().rev() {
        let answer = device.receive(CABLE, datagram).unwrap();
        session.open(&answer, correlation).unwrap().expect("2.05");
    }
}

#[test]
fn a_changed_request_is_not_executed_and_does_no_harm() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let (datagram, correlation) = session.protect(&mut device, &post("/comm/identify", &[]));
    for bit in 0..8 {
        let answer = send(&mut device, &datagram, |packet| packet.payload[0] ^= 1 << bit);
        assert_eq!(answer.refused("4.00").0, "decryption failed");
    }
    send(&mut device, &datagram, |packet| packet.payload.truncate(7)).refused("4.00");
    send(&mut device, &datagram, |packet| packet.payload.clear()).refused("4.00");
    // Another Partial IV is another nonce.
    let answer = send(&mut device, &datagram, |packet| {
        let value = packet.get_first_option(CoapOption::Oscore).unwrap().clone();
        packet.clear_all_options();
        packet.add_option(CoapOption::Oscore, [&value[..1], &[value[1] + 1], &value[2..]].concat());
    });
    assert_eq!(answer.refused("4.00").0, "decryption failed");
    assert_eq!(device.blinks(), 0);
    let answer = device.receive(CABLE, &datagram).unwrap();
    session.open(&answer, &correlation).unwrap().expect("2.04");
}

#[test]
fn a_context_that_does_not_exist() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let (datagram, _) = session.protect(&mut device, &get("/comm"));
    let used = session.context.sender().as_slice()[0];
    for kid in (0..=0x37).filter(|kid| *kid != used) {
        let answer = send(&mut device, &datagram, |packet| {
            packet.clear_all_options();
            packet.add_option(CoapOption::Oscore, vec![0x09, 0, kid]);
        });
        assert_eq!(answer.refused("4.01").0, "security context not found");
    }
}

#[test]
fn a_request_under_another_session_is_not_authentic() {
    let mut device = TestDevice::new();
    let mut one = Visitor::stranger(&mut device).connect(&mut device);
    let two = Visitor::stranger(&mut device).connect(&mut device);
    let (datagram, _) = one.protect(&mut device, &post("/comm/identify", &[]));
    let answer = send(&mut device, &datagram, |packet| {
        packet.clear_all_options();
        packet.add_option(CoapOption::Oscore, [&[0x09, 0], two.context.sender().as_slice()].concat());
    });
    assert_eq!(answer.refused("4.00").0, "decryption failed");
    assert_eq!(device.blinks(), 0);
}

#[test]
fn an_oscore_option_that_is_malformed() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let (datagram, _) = session.protect(&mut device, &get("/comm"));
    for value in [&[][..], &[0], &[0x80], &[0x06], &[0x01, 0], &[0x08, 1], &[0x0a, 0, 1, 2]] {
        let answer = send(&mut device, &datagram, |packet| {
            packet.clear_all_options();
            packet.add_option(CoapOption::Oscore, value.to_vec());
        });
        assert!(matches!(answer.code().as_str(), "4.02" | "4.01"), "{value:02x?}: {}", answer.code());
        answer.refused(&answer.code());
    }
    // Two of them, or outer blocks, which this device does not do.
    for (number, value) in [(option::OSCORE, &[0x09, 0, 1][..]), (option::BLOCK1, &[8]), (option::BLOCK2, &[0])] {
        send(&mut device, &datagram, |packet| packet.add_option(number.into(), value.to_vec())).refused("4.02");
    }
    session.ask(&mut device, &get("/comm")).expect("2.05");
}

#[test]
fn refusals_are_protected_as_well() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    session.ask(&mut device, &get("/nothing")).refused("4.04");
    session.ask(&mut device, &post("/comm", &[])).refused("4.05");
    session.ask(&mut device, &post("/comm/rekey", &[])).refused("4.03");
}

#[test]
fn an_answer_belongs_to_its_request_only() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = owner.visit(&mut device);
    let (first, one) = session.protect(&mut device, &get("/comm/owner"));
    let (second, two) = session.protect(&mut device, &get("/comm"));
    let (first, second) = (device.receive(CABLE, &first).unwrap(), device.receive(CABLE, &second).unwrap());
    assert!(session.open(&first, &two).is_err());
    assert!(session.open(&second, &one).is_err());
    assert!(session.open(&first, &one).is_ok());
}

#[test]
fn sessions_are_gone_with_the_power() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    device.restart();
    session.ask_in_vain(&mut device, &get("/comm")).refused("4.01");
}
