use std::vec::Vec;

use cbor_schemas::{CoseKey, IssuerId, report};
use coap_message::MessageOption as _;
use proptest::prelude::*;
use protocol::coap::{Datagram, Header, Token, Type};
use protocol::key::{PrivateKey, PublicKey};
use protocol::thumbprint::Thumbprint;
use rand_core::OsRng;

use super::*;
use crate::{
    STORAGE_LEN,
    testing::{Eeprom, certificate, compose, request, signed},
};

type TestDevice = Device<Eeprom>;

fn start(eeprom: &Eeprom) -> TestDevice {
    let device = "urn:dev:ops:32473-small-1".parse().unwrap();
    Device::start(Config { device, firmware: "small 1.0", operation_ms: 4000 }, eeprom.clone(), OsRng)
}

fn ask(device: &mut TestDevice, code: u8, path: &str, options: &[(u16, &[u8])], body: &[u8]) -> (u8, Vec<u8>) {
    let header = Header { type_: Type::Con, code, message_id: 7, token: Token::new(b"tok").unwrap() };
    let mut out = [0; DATAGRAM_LEN];
    let len = device.handle(&compose(&header, path, options, body), &mut out).unwrap();
    let response = Datagram::parse(&out[..len]).unwrap();
    assert_eq!((response.header.type_, response.header.message_id), (Type::Ack, 7));
    assert_eq!(response.header.token.as_slice(), b"tok");
    let message = response.message();
    assert_eq!(message.options().map(|option| option.number()).collect::<Vec<_>>(), [option::CONTENT_FORMAT]);
    (response.header.code, message.payload().to_vec())
}

fn put(device: &mut TestDevice, body: &[u8]) -> (u8, Vec<u8>) {
    ask(device, code::PUT, FACTORY, &[(option::CONTENT_FORMAT, &[60])], body)
}

fn detail(response: &(u8, Vec<u8>)) -> String {
    ProblemDetails::decode(&response.1).unwrap().detail.unwrap_or_default().to_owned()
}

#[test]
fn the_first_start_makes_a_key_that_stays() {
    let eeprom = Eeprom::blank();
    let device = start(&eeprom);
    let info = device.info();
    assert_eq!((info.profile, info.condition, info.factory), (Profile::Minimal, Condition::Ok, SlotState::Empty));
    PublicKey::from_cose(&info.credential.unwrap()).unwrap();
    let mut line = String::new();
    device.report(&mut line).unwrap();
    assert_eq!(report::find(&line, &mut [0; 512]).unwrap().unwrap(), info);
    let again = start(&eeprom.restart()).info();
    assert_eq!(again.credential, info.credential);
    assert_ne!(again.nonce, info.nonce);
}

#[test]
fn a_certificate_is_taken_once() {
    let (issuer, other) = (PrivateKey::generate(&mut OsRng), PrivateKey::generate(&mut OsRng));
    let eeprom = Eeprom::blank();
    let mut device = start(&eeprom);
    let info = device.info();
    let body = certificate(&issuer, &info, |_| ());
    let (code, receipt) = put(&mut device, &body);
    assert_eq!(code, code::CHANGED);
    let receipt = Receipt::decode(&receipt).unwrap();
    assert_eq!((receipt.device, receipt.claim_counter), (info.credential.unwrap().x, 0));
    assert_eq!(receipt.digest, <[u8; 32]>::from(Sha256::digest(&body)), "what has no voucher is what is stored");
    assert_eq!(put(&mut device, &body), (code::CHANGED, encoded(&receipt)));

    for mut device in [device, start(&eeprom.restart())] {
        for another in [certificate(&other, &info, |_| ()), certificate(&issuer, &info, |claims| claims.issued_at += 1)]
        {
            let refused = put(&mut device, &another);
            assert_eq!((refused.0, detail(&refused).contains("keeps")), (code::CONFLICT, true));
        }
        assert_eq!(put(&mut device, &body).0, code::CHANGED, "but again");
        let info = device.info();
        assert_eq!((info.factory, info.watermarks.factory), (SlotState::Certified, Some(1_795_000_000)));
        let (code, view) = ask(&mut device, code::GET, FACTORY, &[], b"");
        let view = SlotView::decode(&view).unwrap();
        assert_eq!((code, view.state), (code::CONTENT, SlotState::Certified));
        assert_eq!(view.anchor, Some(issuer.public().cose_key()));
        let request = SlotRequest::decode(&body).unwrap();
        assert_eq!(view.certificate, request.certificate);
    }
}

fn encoded(receipt: &Receipt) -> Vec<u8> {
    let mut bytes = [0; Receipt::MAX_LEN];
    let len = receipt.encode(&mut bytes).unwrap();
    bytes[..len].to_vec()
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let issuer = PrivateKey::generate(&mut OsRng);
    let other = PrivateKey::generate(&mut OsRng);
    let eeprom = Eeprom::blank();
    let mut device = start(&eeprom);
    let info = device.info();
    let before = eeprom.bytes();
    let good = certificate(&issuer, &info, |_| ());
    let SlotRequest { anchor, certificate: Some(object), .. } = SlotRequest::decode(&good).unwrap() else {
        unreachable!()
    };
    let with = |anchor: CoseKey| request(&SlotRequest { anchor, certificate: Some(object), voucher: None });
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut odd = anchor;
    odd.y[31] |= 1;
    let mut off = anchor;
    off.y[31] ^= 2;
    off.kid = Thumbprint::of(&off.x, &off.y).kid();
    let payload = Sign1::decode(object).unwrap().payload;
    let voucher = signed(&issuer, Kind::Voucher, payload);
    let with_object = |object: &[u8]| request(&SlotRequest { anchor, certificate: Some(object), voucher: None });
    let cases = [
        (damaged, "did not sign"),
        (b"garbage".to_vec(), "not an anchor"),
        (request(&SlotRequest { anchor, certificate: None, voucher: None }), "is missing"),
        (request(&SlotRequest { anchor, certificate: Some(object), voucher: Some(b"one") }), "vouchers"),
        (with_object(&voucher), "typ"),
        (with_object(b"no"), "not a signed object"),
        (with(odd), "as issuers make them"),
        (with(off), "as issuers make them"),
        (with(CoseKey { kid: [1; 8], ..anchor }), "as issuers make them"),
        (with(info.credential.unwrap()), "own key"),
        (with(other.public().cose_key()), "iss"),
        (certificate(&issuer, &info, |claims| claims.subject = "urn:dev:ops:32473-small-2".parse().unwrap()), "sub"),
        (certificate(&issuer, &info, |claims| claims.key = other.public().cose_key()), "cnf"),
        (certificate(&issuer, &info, |claims| claims.key.y[31] ^= 1), "cnf"),
        (certificate(&issuer, &info, |claims| claims.key.kid = [7; 8]), "cnf"),
        (with_object(&signed(&other, Kind::DeviceCertificate, payload)), "did not sign"),
        (with_object(&signed(&issuer, Kind::DeviceCertificate, b"junk")), "malformed claims"),
        (certificate(&issuer, &info, |claims| claims.issuer = IssuerId([9; 8])), "iss"),
    ];
    for (body, expected) in cases {
        let refused = put(&mut device, &body);
        assert_eq!(refused.0, code::BAD_REQUEST, "{expected}");
        assert!(detail(&refused).contains(expected), "{} is not {expected}", detail(&refused));
    }
    assert_eq!(eeprom.bytes(), before);
    assert_eq!(put(&mut device, &good).0, code::CHANGED);
}

#[test]
fn requests_that_make_no_sense_say_so() {
    let mut device = start(&Eeprom::blank());
    let (code, links) = ask(&mut device, code::GET, CORE, &[], b"");
    assert_eq!((code, links), (code::CONTENT, LINKS.to_vec()));
    let (code, info) = ask(&mut device, code::GET, INFO, &[(option::ACCEPT, &[60])], b"");
    assert_eq!(code, code::CONTENT);
    assert_eq!(DeviceInfo::decode(&info).unwrap(), device.info());
    for (method, path, options, expected) in [
        (code::GET, "/", &[][..], code::NOT_FOUND),
        (code::GET, "/comm/owner", &[], code::NOT_FOUND),
        (code::POST, "/.well-known/edhoc", &[], code::NOT_FOUND),
        (code::PUT, "/comm", &[], code::METHOD_NOT_ALLOWED),
        (code::DELETE, FACTORY, &[], code::METHOD_NOT_ALLOWED),
        (code::GET, INFO, &[(option::ACCEPT, &[40][..])], code::NOT_ACCEPTABLE),
        (code::PUT, FACTORY, &[(option::CONTENT_FORMAT, &[40])], code::UNSUPPORTED_CONTENT_FORMAT),
        (code::GET, INFO, &[(option::OSCORE, &[])], code::BAD_OPTION),
        (code::PUT, FACTORY, &[(option::BLOCK1, &[8])], code::BAD_OPTION),
    ] {
        assert_eq!(ask(&mut device, method, path, options, b"").0, expected, "{method} {path}");
    }
    let mut out = [0; DATAGRAM_LEN];
    assert_eq!(device.handle(b"\x40\x00\x12\x34", &mut out), Some(4));
    assert_eq!(&out[..4], b"\x70\x00\x12\x34", "a ping is reset");
}

/// Whatever a power cut leaves, at each byte, and of each byte any bits: the key that was reported stays, and what was
/// confirmed stays.
#[test]
fn a_power_cut_leaves_the_old_or_the_new() {
    let issuer = PrivateKey::generate(&mut OsRng);
    let patterns = [0x00, 0xff, 0x0f, 0xf0, 0x55, 0x01, 0x80];
    let blank = Eeprom::blank();
    start(&blank);
    for cut in 0..blank.changes() {
        for bits in patterns {
            let eeprom = Eeprom::blank();
            eeprom.cut_after(cut, bits);
            let told = start(&eeprom).info().condition == Condition::Ok;
            // A key of which more bytes are 0xff, as the EEPROM was, takes fewer changes.
            assert_ne!(told, eeprom.is_dark(), "nobody is told of the key");
            // Cut again while that is cleaned up.
            let eeprom = eeprom.restart();
            eeprom.cut_after(cut / 2, bits);
            start(&eeprom);
            let eeprom = eeprom.restart();
            let info = start(&eeprom).info();
            assert_eq!(info.condition, Condition::Ok, "cut {cut}, bits {bits:x}");
            assert_eq!(start(&eeprom.restart()).info().credential, info.credential);
        }
    }

    let first = Eeprom::blank();
    let info = start(&first).info();
    let body = certificate(&issuer, &info, |_| ());
    let whole = first.restart();
    assert_eq!(put(&mut start(&whole), &body).0, code::CHANGED);
    let (mut old, mut new) = (0, 0);
    for cut in 0..whole.changes() {
        for bits in patterns {
            let eeprom = first.restart();
            let mut device = start(&eeprom);
            eeprom.cut_after(cut, bits);
            assert_eq!(put(&mut device, &body).0, code::INTERNAL_SERVER_ERROR);
            let eeprom = eeprom.restart();
            eeprom.cut_after(cut / 3, bits);
            start(&eeprom);
            let eeprom = eeprom.restart();
            let mut device = start(&eeprom);
            let after = device.info();
            assert_eq!(
                (after.condition, after.credential),
                (Condition::Ok, info.credential),
                "cut {cut}, bits {bits:x}"
            );
            match after.factory {
                SlotState::Empty => old += 1,
                _ => new += 1,
            }
            assert_eq!(put(&mut device, &body).0, code::CHANGED);
            assert_eq!(eeprom.bytes(), whole.bytes());
        }
    }
    assert!(old > 1000 && new > 0, "{old} {new}");
}

/// A device that was reported never makes another key, and one that is certified never takes another certificate, because
/// of one byte.
#[test]
fn one_damaged_byte_is_a_fault_or_nothing() {
    let (issuer, other) = (PrivateKey::generate(&mut OsRng), PrivateKey::generate(&mut OsRng));
    let eeprom = Eeprom::blank();
    let mut device = start(&eeprom);
    let info = device.info();
    put(&mut device, &certificate(&issuer, &info, |_| ()));
    let (mut faults, mut sound) = (0, 0);
    for at in 0..STORAGE_LEN {
        for value in [0x00, 0xff, 0x0f, 0xf0, 0x7f, 0x55] {
            let mut bytes = eeprom.bytes();
            bytes[at] = value;
            let mut device = start(&Eeprom::of(bytes));
            let after = device.info();
            match after.condition {
                Condition::Ok => {
                    assert_eq!((after.credential, after.factory), (info.credential, SlotState::Certified), "byte {at}");
                    assert_eq!(put(&mut device, &certificate(&other, &info, |_| ())).0, code::CONFLICT);
                    sound += 1;
                }
                Condition::Fault => {
                    assert_eq!((after.credential, after.factory), (None, SlotState::Empty));
                    assert_eq!(put(&mut device, b"").0, code::SERVICE_UNAVAILABLE);
                    faults += 1;
                }
            }
        }
    }
    assert!(faults > 1000 && sound > 100, "{faults} {sound}");
}

proptest! {
    #[test]
    fn no_datagram_makes_it_panic(datagram in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut device = start(&Eeprom::blank());
        device.handle(&datagram, &mut [0; DATAGRAM_LEN]);
        let mut request = vec![0x40, 0x03, 0, 1, 0xb4, b'c', b'o', b'm', b'm', 0x07];
        request.extend_from_slice(b"factory\xff");
        request.extend_from_slice(&datagram[..datagram.len().min(500)]);
        device.handle(&request, &mut [0; DATAGRAM_LEN]);
    }
}
