//! CoAP messages and requests in general: what is answered, how, and what is not understood.

use coap_lite::{MessageType, Packet};
use coap_numbers::option;
use protocol::coap::EXCHANGE_LIFETIME_MS;

use crate::common::{CABLE, NETWORK, Owner, Request, Response, TestDevice, Visitor, get, post, put};

#[test]
fn a_ping_is_answered_by_a_reset() {
    let mut device = TestDevice::new();
    assert_eq!(device.receive(CABLE, &[0x40, 0, 0x12, 0x34]), Some(vec![0x70, 0, 0x12, 0x34]));
    assert_eq!(device.receive(CABLE, &[0x50, 0, 0x12, 0x34]), None, "not if it is non-confirmable");
}

#[test]
fn a_confirmable_request_is_answered_in_its_acknowledgement() {
    let mut device = TestDevice::new();
    let datagram = device.datagram(&get("/comm").0);
    let (asked, answer) = (Packet::from_bytes(&datagram).unwrap(), device.receive(CABLE, &datagram).unwrap());
    let Response(answer) = Response::parse(&answer);
    assert_eq!(answer.header.get_type(), MessageType::Acknowledgement);
    assert_eq!(answer.header.message_id, asked.header.message_id);
    assert_eq!(answer.get_token(), asked.get_token());
}

#[test]
fn a_non_confirmable_request_is_answered_by_a_message_of_its_own() {
    let mut device = TestDevice::new();
    let datagrams = [(); 2].map(|()| device.datagram(&get("/comm").non_confirmable().0));
    let answers = datagrams.each_ref().map(|datagram| Response::parse(&device.receive(CABLE, datagram).unwrap()).0);
    for (datagram, answer) in datagrams.iter().zip(&answers) {
        assert_eq!(answer.header.get_type(), MessageType::NonConfirmable);
        assert_eq!(answer.get_token(), Packet::from_bytes(datagram).unwrap().get_token());
    }
    assert_ne!(answers[0].header.message_id, answers[1].header.message_id);
}

#[test]
fn a_duplicate_gets_the_same_answer_and_is_executed_once() {
    for request in [post("/comm/identify", &[]), post("/comm/identify", &[]).non_confirmable()] {
        let mut device = TestDevice::new();
        let datagram = device.datagram(&request.0);
        let first = device.receive(CABLE, &datagram).unwrap();
        Response::parse(&first).expect("2.04");
        assert_eq!(device.receive(CABLE, &datagram), Some(first));
        assert_eq!(device.blinks(), 1);
    }
}

#[test]
fn from_another_address_or_much_later_the_same_message_is_another() {
    let mut device = TestDevice::new();
    let datagram = device.datagram(&post("/comm/identify", &[]).0);
    device.receive(CABLE, &datagram);
    device.receive(NETWORK, &datagram);
    assert_eq!(device.blinks(), 2);
    device.now += EXCHANGE_LIFETIME_MS - 1;
    device.receive(CABLE, &datagram);
    assert_eq!(device.blinks(), 2);
    device.now += 1;
    device.receive(CABLE, &datagram);
    assert_eq!(device.blinks(), 3);
}

#[test]
fn a_repeated_claim_is_answered_as_before_though_its_session_is_over() {
    let (owner, mut device) = (Owner::new(1), TestDevice::new());
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let body = owner.slot_request(&mut device);
    let (datagram, correlation) = session.protect(&mut device, &put("/comm/owner", &body));
    let first = device.receive(CABLE, &datagram).unwrap();
    let wear = device.flash.wear();
    assert_eq!(device.receive(CABLE, &datagram).as_ref(), Some(&first));
    assert_eq!(device.flash.wear(), wear);
    session.open(&first, &correlation).unwrap().expect("2.04");
}

#[test]
fn what_is_no_request_is_not_answered_or_reset() {
    let mut device = TestDevice::new();
    let reset = Some(vec![0x70, 0, 0, 1]);
    for (datagram, answer) in [
        (&[][..], None),
        (&[0x40], None),
        (&[0x40, 1, 0], None),
        (&[0x80, 1, 0, 1], None),    // version 2
        (&[0x60, 0, 0, 1], None),    // acknowledgement
        (&[0x70, 0, 0, 1], None),    // Reset
        (&[0x60, 0x45, 0, 1], None), // somebody else's piggybacked response
        (&[0x50, 0x45, 0, 1], None), // ... or one of its own
        (&[0x40, 0x45, 0, 1], reset.clone()),
        (&[0x49, 1, 0, 1], reset.clone()),             // a token of 9 bytes
        (&[0x42, 1, 0, 1, 9], reset.clone()),          // a token cut short
        (&[0x40, 1, 0, 1, 0xff], reset.clone()),       // a payload marker without a payload
        (&[0x40, 1, 0, 1, 0xb9, b'x'], reset.clone()), // an option cut short
        (&[0x40, 1, 0, 1, 0xf0, 0], reset.clone()),    // a reserved option delta
        (&[0x50, 1, 0, 1, 0xb9, b'x'], None),          // the same non-confirmable
        (&[0x40, 0x20, 0, 1], reset.clone()),          // a reserved class
    ] {
        assert_eq!(device.receive(CABLE, datagram), answer, "{datagram:02x?}");
    }
}

#[test]
fn paths_are_literal() {
    let mut device = TestDevice::new();
    for path in ["/", "/com", "/comm/", "/comm/owner/x", "/comm/nothing", "/Comm", "/comm/slots/wifi", "//comm"] {
        device.ask(&get(path)).refused("4.04");
    }
    // One segment that contains a slash is not two.
    device.ask(&get("/").option(option::URI_PATH, b"comm/owner")).refused("4.04");
    device.ask(&Request::new(1, "", &[]).option(option::URI_PATH, b"comm/owner")).refused("4.04");
    device.ask(&Request::new(1, "", &[])).refused("4.04");
}

#[test]
fn a_method_that_a_resource_has_not() {
    const GET: u8 = 1;
    const POST: u8 = 2;
    const PUT: u8 = 3;
    let mut device = TestDevice::new();
    for (path, has) in [
        ("/.well-known/core", &[GET][..]),
        ("/.well-known/edhoc", &[POST]),
        ("/authz-info", &[POST]),
        ("/comm", &[GET]),
        ("/comm/factory", &[GET, PUT]),
        ("/comm/owner", &[GET, PUT]),
        ("/comm/peers", &[GET, PUT]),
        ("/comm/identify", &[POST]),
        ("/comm/rekey", &[POST]),
        ("/comm/reset", &[POST]),
    ] {
        // DELETE, FETCH, PATCH, iPATCH and one that does not exist
        for method in [GET, POST, PUT, 4, 5, 6, 7, 31] {
            let answer = device.ask(&Request::new(method, path, &[]));
            assert_eq!(answer.code() == "4.05", !has.contains(&method), "{method} {path}: {}", answer.code());
            if answer.code() == "4.05" {
                answer.refused("4.05");
            }
        }
    }
}

#[test]
fn critical_options_that_are_not_understood() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    // If-Match, If-None-Match, an unknown one, one for private use
    for number in [1, 5, 2049, 65001] {
        let request = get("/comm").option(number, &[]);
        device.ask(&request).refused("4.02");
        session.ask(&mut device, &request).refused("4.02");
    }
    // They matter to EDHOC as well.
    let (_, message_1) = Visitor::stranger(&mut device).message_1(&mut device);
    device.ask(&message_1.clone().option(2049, &[])).refused("4.02");
    device.ask(&message_1).expect("2.04");
}

#[test]
fn critical_options_twice() {
    let mut device = TestDevice::new();
    device.ask(&get("/comm").accept(60).accept(60)).refused("4.02");
    device.ask(&get("/comm").uint(option::BLOCK2, 0).uint(option::BLOCK2, 0)).refused("4.02");
}

#[test]
fn elective_options_that_are_not_understood_are_ignored() {
    let mut device = TestDevice::new();
    let request = get("/comm").option(2048, b"x").option(option::OBSERVE, &[]).option(option::URI_HOST, b"lamp");
    let answer = device.ask(&request.option(option::URI_QUERY, b"a=b"));
    assert_eq!(answer.expect("2.05").option(option::OBSERVE), None);
}

#[test]
fn it_is_no_proxy() {
    let mut device = TestDevice::new();
    device.ask(&get("/comm").option(option::PROXY_URI, b"coap://elsewhere/")).refused("5.05");
    device.ask(&get("/comm").option(option::PROXY_SCHEME, b"coap")).refused("5.05");
}

#[test]
fn content_formats_of_requests() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    for wrong in [0, 18, 60] {
        device.ask(&post("/authz-info", b"?").content_format(wrong)).refused("4.15");
    }
    session.ask(&mut device, &put("/comm/owner", b"?").content_format(61)).refused("4.15");
    session.ask(&mut device, &put("/comm/owner", b"?").content_format(60)).refused("4.00");
    // It may be left out.
    device.ask(&post("/authz-info", b"?").content_format(61)).refused("4.00");
    device.ask(&post("/authz-info", b"?")).refused("4.00");
}

#[test]
fn content_formats_of_responses() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    for (path, has) in [("/.well-known/core", 40), ("/comm", 60), ("/comm/owner", 60), ("/comm/factory", 60)] {
        for wanted in [0, 40, 50, 60] {
            let request = get(path).accept(wanted);
            for answer in [device.ask(&request), session.ask(&mut device, &request)] {
                if wanted == has {
                    answer.expect("2.05");
                } else {
                    answer.refused("4.06");
                }
            }
        }
    }
}
