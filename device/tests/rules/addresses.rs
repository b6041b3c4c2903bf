//! Who did not prove its address is sent little, and does not keep the owner out.

use coap_lite::{CoapOption, Packet};
use coap_numbers::option;
use protocol::edhoc::Transfer;

use crate::common::{Address, CABLE, NETWORK, Owner, Request, Response, Session, TestDevice, Visitor, get, post, put};

/// The same from `from`, if its answer has an Echo option: once more, with that.
fn ask_proving(device: &mut TestDevice, from: Address, request: &Request) -> Response {
    let answer = device.ask_from(from, request);
    match answer.option(option::ECHO) {
        Some(echo) => device.ask_from(from, &request.clone().option(option::ECHO, echo)),
        None => answer,
    }
}

/// A device with a factory certificate, which anybody may read.
fn certified() -> TestDevice {
    let (owner, mut device) = Owner::of_new_device(1);
    let certificate = owner.issuer.certify(&mut device);
    device.put_into_factory_slot(&owner.issuer, Some(&certificate));
    device
}

#[test]
fn a_long_answer_on_a_network_goes_to_who_proved_its_address() {
    let mut device = certified();
    let request = get("/comm/factory");
    let whole = device.ask(&request);
    assert!(whole.expect("2.05").payload().len() > 300, "over the cable");

    let refused = device.ask_from(NETWORK, &request);
    assert_eq!((refused.code().as_str(), refused.payload()), ("4.01", &[][..]));
    let echo = refused.option(option::ECHO).expect("an Echo option").to_vec();
    assert_eq!(device.ask_from(NETWORK, &request.clone().option(option::ECHO, &echo)).payload(), whole.payload());
    // It is for nobody else, and not for ever.
    let elsewhere = device.ask_from(Address("elsewhere"), &request.clone().option(option::ECHO, &echo));
    assert_eq!(elsewhere.code(), "4.01");
    device.now += 5 * 60 * 1000;
    assert_eq!(device.ask_from(NETWORK, &request.clone().option(option::ECHO, &echo)).code(), "4.01");
    device.restart();
    assert_eq!(device.ask_from(NETWORK, &request.option(option::ECHO, &echo)).code(), "4.01");
}

/// Whatever is asked: at most three bytes for one. Only by what they are found do devices say more, on their own link.
#[test]
fn nobody_is_sent_more_than_three_times_the_bytes() {
    let mut device = certified();
    let mut requests = vec![post("/.well-known/edhoc", &[0xf5]), post("/authz-info", b"?"), Request::new(1, "", &[])];
    for path in ["/comm/factory", "/comm/owner", "/comm/peers", "/nothing", "/led"] {
        requests.extend([get(path), put(path, b"?"), post(path, &[]), get(path).accept(999)]);
    }
    requests.push(get("/comm/factory").block(option::BLOCK2, 0, false, 256));
    requests.push(get("/comm").option(65001, &[]));
    requests.push(get("/comm").option(option::PROXY_URI, b"x"));
    requests.push(post("/comm", &[1; 12]).option(option::OSCORE, &[0x09, 0, 9]));
    let mut asking = Visitor::stranger(&mut device).message_1(&mut device).1;
    asking.0.payload.push(15);
    requests.push(asking);
    for request in requests {
        for request in [request.clone(), request.non_confirmable()] {
            let datagram = device.datagram(&request.0);
            let Some(answer) = device.receive(NETWORK, &datagram) else { continue };
            assert!(answer.len() <= 3 * datagram.len(), "{} for {}: {:?}", answer.len(), datagram.len(), request.0);
            assert_eq!(device.receive(NETWORK, &datagram), Some(answer), "nor when it comes again");
        }
    }
    for path in ["/.well-known/core", "/comm"] {
        device.ask_from(NETWORK, &get(path)).expect("2.05");
    }
}

/// The few bytes that are repeated of a request fetch nothing.
#[test]
fn a_shorter_message_is_no_repetition() {
    let mut device = certified();
    let datagram = device.datagram(&get("/comm").0);
    let long = device.receive(NETWORK, &datagram).expect("2.05");
    let short = [&datagram[..6], &[0x60]].concat();
    let answer = device.receive(NETWORK, &short).expect("another answer");
    assert!(answer.len() <= 3 * short.len() && answer != long, "{}", answer.len());
}

#[test]
fn a_session_goes_on_from_another_address_that_is_proved() {
    let (owner, mut device) = Owner::of_new_device(1);
    owner.present(&mut device, &owner.token_claims());
    let station = Visitor { key: owner.station.key.clone(), transfer: Transfer::ByKid, from: NETWORK };
    let mut session = station.connect(&mut device);
    session.ask(&mut device, &get("/comm/owner")).expect("2.05");
    let mut moved = Session { from: Address("elsewhere"), ..session };
    let blink = post("/comm/identify", &[]);
    let asked = moved.ask(&mut device, &blink);
    assert_eq!((asked.refused("4.01").0, device.blinks()), ("prove your address", 0));
    let echo = asked.option(option::ECHO).expect("an Echo option").to_vec();
    moved.ask(&mut device, &blink.option(option::ECHO, &echo)).expect("2.04");
    moved.ask(&mut device, &get("/comm/owner")).expect("2.05");
}

/// One forged token a second, from anywhere, was enough to use up the allowance of all.
#[test]
fn forged_tokens_keep_the_owner_out_from_nowhere_but_its_own_line() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut forged = owner.issuer.token(&owner.token_claims());
    *forged.last_mut().unwrap() ^= 1;
    let forged = post("/authz-info", &forged);
    let good = post("/authz-info", &owner.issuer.token(&owner.token_claims()));
    for flood in 0..30 {
        device.now += 1000;
        for _ in 0..5 {
            let refused = device.ask_from(NETWORK, &forged);
            assert!(["4.01", "4.29"].contains(&&*refused.code()), "{flood}");
        }
        device.ask(&good).expect("2.01");
        assert_eq!(ask_proving(&mut device, Address("station"), &good).code(), "2.01");
    }
}

#[test]
fn who_forges_addresses_has_few_signatures_verified_and_keeps_nobody_out() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut forged = owner.issuer.token(&owner.token_claims());
    *forged.last_mut().unwrap() ^= 1;
    let forged = post("/authz-info", &forged);
    let good = post("/authz-info", &owner.issuer.token(&owner.token_claims()));
    let names: Vec<&'static str> =
        (0..50).map(|number| &*Box::leak(format!("forged {number}").into_boxed_str())).collect();
    let answers = names.iter().map(|name| device.ask_from(Address(name), &forged));
    let verified = answers.filter(|answer| answer.option(option::ECHO).is_none()).count();
    assert_eq!(verified, 4, "one for each source that has a place");
    let first = device.ask_from(NETWORK, &good);
    assert_eq!(first.refused("4.01").0, "prove your address");
    assert_eq!(ask_proving(&mut device, NETWORK, &good).code(), "2.01");
    device.ask_from(CABLE, &good).expect("2.01");
}

#[test]
fn a_datagram_that_is_too_long_is_refused_where_its_header_can_be_read() {
    let mut device = TestDevice::new();
    let mut datagram = device.datagram(&post("/authz-info", &[0; 1000]).0);
    datagram.resize(device::DATAGRAM_LEN + 1, 0);
    let asked = Packet::from_bytes(&datagram).unwrap();
    let answer = Response::parse(&device.receive(NETWORK, &datagram).expect("an answer"));
    assert_eq!(answer.refused("4.13").0, "the datagram is too long");
    assert_eq!((answer.0.header.message_id, answer.0.get_token()), (asked.header.message_id, asked.get_token()));
    datagram[0] = 0x60;
    assert_eq!(device.receive(NETWORK, &datagram), None, "an acknowledgement");
}

#[test]
fn an_edhoc_error_message_ends_the_handshake_and_is_not_answered_by_another() {
    let mut device = TestDevice::new();
    for from in [CABLE, NETWORK] {
        let visitor = Visitor { from, ..Visitor::stranger(&mut device) };
        for with_c_r in [true, false] {
            let begun = visitor.begin(&mut device);
            let error: &[u8] = b"\x01\x65sorry";
            let payload = if with_c_r { [&[begun.pending.c_r.byte()], error].concat() } else { error.to_vec() };
            let answer = device.ask_from(from, &post("/.well-known/edhoc", &payload).content_format(65));
            assert_eq!((answer.code().as_str(), answer.payload()), ("2.04", &[][..]));
            let over = device.ask_from(from, &begun.message_3_alone());
            assert!(over.edhoc_error().is_no_handshake());
        }
    }
    let combined = post("", b"\x01\x65sorry").option(option::OSCORE, &[0x09, 0, 9]).option(option::EDHOC, &[]);
    let answer = device.ask(&combined);
    assert_eq!((answer.code().as_str(), answer.payload()), ("2.04", &[][..]));
}

#[test]
fn a_handshake_that_was_displaced_is_told_from_one_that_failed() {
    let mut device = TestDevice::new();
    let begun = Visitor::stranger(&mut device).begin(&mut device);
    for from in [NETWORK, Address("elsewhere")] {
        Visitor { from, ..Visitor::stranger(&mut device) }.begin(&mut device);
    }
    let (_, datagram, _) = begun.combined(&mut device, &get("/comm"));
    assert!(Response::parse(&device.receive(CABLE, &datagram).unwrap()).edhoc_error().is_no_handshake());
}

#[test]
fn options_that_are_longer_or_shorter_than_may_be_are_not_understood() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let long = [b'x'; 256];
    for (number, value) in [
        (option::ACCEPT, &[0, 0, 60][..]),
        (option::URI_HOST, &[]),
        (option::URI_HOST, &long),
        (option::URI_PORT, &[0, 0x16, 0x33]),
        (option::URI_PATH, &long),
        (option::URI_QUERY, &long),
    ] {
        let request = get("/comm").option(number, value);
        device.ask(&request).refused("4.02");
        // What stays outside is refused there.
        match number {
            option::URI_HOST | option::URI_PORT => session.ask_in_vain(&mut device, &request).refused("4.02"),
            _ => session.ask(&mut device, &request).refused("4.02"),
        };
    }
    // Elective ones are ignored: as if it were not there.
    device.ask(&post("/authz-info", b"?").option(option::CONTENT_FORMAT, &[0, 0, 60])).refused("4.00");
    device.ask(&get("/comm").option(option::ECHO, &[])).expect("2.05");
}

#[test]
fn under_oscore_it_is_no_proxy_either() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    for number in [option::PROXY_URI, option::PROXY_SCHEME] {
        let (datagram, _) = session.protect(&mut device, &get("/comm"));
        let mut packet = Packet::from_bytes(&datagram).unwrap();
        packet.add_option(CoapOption::from(number), b"coap://elsewhere/".to_vec());
        let answer = device.receive(CABLE, &packet.to_bytes().unwrap()).expect("an answer");
        assert_eq!(Response::parse(&answer).refused("5.05").0, "this is no proxy");
    }
}
