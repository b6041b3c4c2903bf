//! EDHOC: who is at the other end.

use coap_lite::CoapOption;
use coap_numbers::option;
use device::transport::Service as _;
use protocol::{
    edhoc::{ConnId, Initiator, PeerError, Transfer},
    key::PublicKey,
};

use crate::common::{CABLE, NETWORK, Owner, Response, TestDevice, Visitor, get, post};

fn said(answer: &Response) -> &str {
    match answer.edhoc_error() {
        PeerError::Unspecified(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_first_visit_takes_messages_of_37_53_and_110_bytes() {
    let mut device = TestDevice::new();
    let begun = Visitor::stranger(&mut device).begin(&mut device);
    assert_eq!(begun.lengths, [37, 53, 110]);
    let message_4 = device.ask(&begun.message_3_alone());
    assert_eq!(message_4.expect("2.04").content_format(), Some(64));
    assert_eq!(message_4.payload().len(), 9);
    assert!(begun.pending.confirm(Some(message_4.payload())).is_ok());
}

#[test]
fn a_later_visit_takes_messages_of_37_53_and_28_bytes() {
    let (owner, mut device) = Owner::of_new_device(1);
    owner.present(&mut device, &owner.token_claims());
    assert_eq!(owner.station.begin(&mut device).lengths, [37, 53, 28]);
}

#[test]
fn message_3_may_come_with_the_first_request() {
    let (owner, mut device) = Owner::of_new_device(1);
    owner.present(&mut device, &owner.token_claims());
    for visitor in [Visitor::stranger(&mut device), owner.station] {
        let begun = visitor.begin(&mut device);
        let (mut session, datagram, correlation) = begun.combined(&mut device, &get("/comm"));
        let answer = device.receive(CABLE, &datagram).unwrap();
        session.open(&answer, &correlation).unwrap().expect("2.05");
        session.ask(&mut device, &get("/comm")).expect("2.05");
    }
}

#[test]
fn content_formats_may_be_left_out_or_be_either() {
    let mut device = TestDevice::new();
    for content_format in [None, Some(64), Some(65)] {
        let (_, mut request) = Visitor::stranger(&mut device).message_1(&mut device);
        request.0.clear_option(CoapOption::ContentFormat);
        let request = content_format.into_iter().fold(request, |request, format| request.content_format(format));
        device.ask(&request).expect("2.04");
    }
}

#[test]
fn the_credential_comes_by_value_for_those_who_ask() {
    const EAD_CRED_BY_VALUE: u8 = 15;
    let mut device = TestDevice::new();
    let key = PublicKey::from_cose(&device.info().credential.unwrap()).unwrap();
    let (_, request) = Visitor::stranger(&mut device).message_1(&mut device);
    let message_1 = [&request.0.payload[..], &[EAD_CRED_BY_VALUE]].concat();
    let message_2 = device.ask(&post("/.well-known/edhoc", &message_1));
    let (by_kid, by_value) = (1 + key.kid().len(), 2 + key.ccs().len());
    assert_eq!(message_2.expect("2.04").payload().len(), 53 - by_kid + by_value);
}

#[test]
fn another_cipher_suite_is_answered_with_ours() {
    let mut device = TestDevice::new();
    let (_, mut request) = Visitor::stranger(&mut device).message_1(&mut device);
    request.0.payload[2] = 3;
    assert_eq!(device.ask(&request).edhoc_error(), PeerError::WrongSuite { offers_ours: true });
    assert_eq!(device.ask(&request).payload(), [2, 2]);
}

/// G_Y of the answer to a message_1.
fn ephemeral_key(device: &mut TestDevice) -> Vec<u8> {
    let (_, request) = Visitor::stranger(device).message_1(device);
    // A head of two bytes, then G_Y.
    device.ask(&request).expect("2.04").payload()[2..34].to_vec()
}

#[test]
fn an_ephemeral_key_is_made_once_nothing_comes_for_a_second() {
    let mut device = TestDevice::new();
    assert_eq!(device.server.prepare(0), Some(1000));
    device.now = 400;
    device.info();
    assert_eq!(device.server.prepare(1000), Some(400), "something came meanwhile");
    assert_eq!([1400, 1400, 9000].map(|now| device.server.prepare(now)), [None; 3]);
    device.ask(&post("/.well-known/edhoc", b"garbage")).edhoc_error();
    assert_eq!(device.server.prepare(10_000), None, "what is no message_1 takes none");
}

#[test]
fn an_ephemeral_key_that_was_made_before_serves_one_handshake() {
    let mut device = TestDevice::new();
    assert_eq!(device.server.prepare(1000), None);
    let mut seen: Vec<_> = (0..2).map(|_| ephemeral_key(&mut device)).collect();
    assert_eq!(device.server.prepare(device.now), Some(1000), "it is gone");
    device.now += 1000;
    assert_eq!(device.server.prepare(device.now), None);
    seen.extend((0..2).map(|_| ephemeral_key(&mut device)));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4);
}

#[test]
fn an_ephemeral_key_goes_with_a_reset() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = owner.visit(&mut device);
    assert_eq!(device.server.prepare(device.now + 1000), None);
    session.ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
    assert_eq!(device.server.prepare(device.now), Some(1000));
}

#[test]
fn message_1_that_is_none() {
    let mut device = TestDevice::new();
    let (_, request) = Visitor::stranger(&mut device).message_1(&mut device);
    let good = &request.0.payload;
    let wrong_method = [&[0xf5, 0], &good[2..]].concat();
    let mut no_point = good.clone();
    while PublicKey::from_x(&no_point[5..37].try_into().unwrap()).is_ok() {
        no_point[5] = no_point[5].wrapping_add(1);
    }
    let critical_ead = [&good[..], &[0x20]].concat();
    for bad in [&[][..], &[0xf5], b"garbage", &good[1..], &good[..20], &wrong_method, &no_point, &critical_ead] {
        assert!(!said(&device.ask(&post("/.well-known/edhoc", bad))).is_empty(), "{bad:02x?}");
    }
    device.ask(&request).expect("2.04");
}

#[test]
fn a_kid_that_nobody_vouches_for() {
    let mut device = TestDevice::new();
    let stranger = Visitor { transfer: Transfer::ByKid, ..Visitor::stranger(&mut device) };
    let begun = stranger.begin(&mut device);
    assert!(said(&device.ask(&begun.message_3_alone())).starts_with("unknown credential"));
    let (_, datagram, _) = stranger.begin(&mut device).combined(&mut device, &get("/comm"));
    let answer = device.receive(CABLE, &datagram).unwrap();
    assert!(said(&Response::parse(&answer)).starts_with("unknown credential"));
}

#[test]
fn a_replayed_message_3_opens_nothing() {
    let mut device = TestDevice::new();
    let begun = Visitor::stranger(&mut device).begin(&mut device);
    let message_3 = begun.message_3_alone();
    device.ask(&message_3).expect("2.04");
    device.ask(&message_3).edhoc_error();

    let begun = Visitor::stranger(&mut device).begin(&mut device);
    let (mut session, datagram, _) = begun.combined(&mut device, &post("/comm/identify", &[]));
    device.receive(CABLE, &datagram).unwrap();
    let mut again = coap_lite::Packet::from_bytes(&datagram).unwrap();
    again.header.message_id += 1000;
    Response::parse(&device.receive(CABLE, &again.to_bytes().unwrap()).unwrap()).edhoc_error();
    assert_eq!(device.blinks(), 1);
    session.ask(&mut device, &get("/comm")).expect("2.05");
}

#[test]
fn a_changed_message_3_ends_the_handshake() {
    let mut device = TestDevice::new();
    let begun = Visitor::stranger(&mut device).begin(&mut device);
    let (good, mut bad) = (begun.message_3_alone(), begun.message_3_alone());
    *bad.0.payload.last_mut().unwrap() ^= 1;
    assert!(said(&device.ask(&bad)).starts_with("authentication failed"));
    device.ask(&good).edhoc_error();
}

#[test]
fn message_3_counts_from_the_address_of_message_1_only() {
    let mut device = TestDevice::new();
    let begun = Visitor::stranger(&mut device).begin(&mut device);
    device.ask_from(NETWORK, &begun.message_3_alone()).edhoc_error();
    device.ask_from(CABLE, &begun.message_3_alone()).expect("2.04");
}

#[test]
fn a_new_message_1_takes_the_place_of_the_last_one_from_that_address() {
    let mut device = TestDevice::new();
    let elsewhere = Visitor { from: NETWORK, ..Visitor::stranger(&mut device) }.begin(&mut device);
    let first = Visitor::stranger(&mut device).begin(&mut device);
    let second = Visitor::stranger(&mut device).begin(&mut device);
    device.ask(&first.message_3_alone()).edhoc_error();
    device.ask(&second.message_3_alone()).expect("2.04");
    device.ask_from(NETWORK, &elsewhere.message_3_alone()).expect("2.04");
}

#[test]
fn c_r_is_never_c_i() {
    let mut device = TestDevice::new();
    let known = PublicKey::from_cose(&device.info().credential.unwrap()).unwrap();
    let stranger = Visitor::stranger(&mut device);
    for byte in (0x00..=0x17).chain(0x20..=0x37) {
        let c_i = ConnId::new(byte).unwrap();
        let (initiator, message_1) = Initiator::start(&stranger.key, c_i, &mut device.rng).unwrap();
        let message_2 = device.ask(&post("/.well-known/edhoc", &[&[0xf5], &message_1[..]].concat()));
        let (pending, _) =
            initiator.finish(message_2.payload(), Transfer::ByValue, |_| Some(known)).expect("usable identifiers");
        assert_ne!(pending.c_r, c_i);
    }
}

#[test]
fn a_combined_request_that_is_none() {
    let mut device = TestDevice::new();
    let begun = Visitor::stranger(&mut device).begin(&mut device);
    let (mut session, datagram, _) = begun.combined(&mut device, &get("/comm"));
    let mut packet = coap_lite::Packet::from_bytes(&datagram).unwrap();
    packet.payload = b"\x61no byte string".to_vec();
    Response::parse(&device.receive(CABLE, &packet.to_bytes().unwrap()).unwrap()).edhoc_error();
    session.ask_in_vain(&mut device, &get("/comm")).refused("4.01");
    // RFC 9668 section 3.3.1: without OSCORE, the EDHOC option makes no sense.
    device.ask(&get("/comm").option(option::EDHOC, &[])).refused("4.00");
}

#[test]
fn under_oscore_there_is_no_handshake() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let (_, request) = Visitor::stranger(&mut device).message_1(&mut device);
    session.ask(&mut device, &request).refused("4.03");
}
