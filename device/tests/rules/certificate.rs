//! What may be installed: an anchor, and a certificate that it signed about this device and its present key.

use cbor_schemas::{CoseKey, DeviceCertificateClaims, Kind, SlotRequest, SlotState};

use crate::common::{Issuer, Owner, Response, TestDevice, Visitor, encoded, put, slot_request, with_other_y};

/// Offers a slot request that is to be refused, and sees to it that nothing changed by it.
fn offer(device: &mut TestDevice, body: &[u8]) -> Response {
    let before = device.flash.bytes();
    let mut session = Visitor::stranger(device).connect(device);
    let answer = session.ask(device, &put("/comm/owner", body));
    assert_eq!(device.flash.bytes(), before);
    session.ask(device, &put("/comm/owner", b"?")).refused("4.00");
    answer
}

#[test]
fn certificates_that_are_refused() {
    let (issuer, other, mut device) = (Issuer::new(1), Issuer::new(2), TestDevice::new());
    let own = device.info().credential.unwrap();
    let good = issuer.certificate_claims(own);
    let payload = encoded(|out| good.encode(out));
    let stranger = device.rng.key().public().cose_key();
    let elsewhere = "urn:dev:ops:32473-lamp-00c0fffe".parse().unwrap();
    let mut flipped = issuer.certificate(&good);
    *flipped.last_mut().unwrap() ^= 1;
    let mut changed = issuer.certificate(&good);
    let iat = changed.windows(4).position(|window| window == [0x1a, 0x6b, 0x49, 0xd2]).unwrap();
    changed[iat + 4] ^= 1;

    for (certificate, reason) in [
        (issuer.certificate(&DeviceCertificateClaims { key: stranger, ..good }), "cnf names another key"),
        (issuer.certificate(&DeviceCertificateClaims { key: with_other_y(own), ..good }), "cnf names another key"),
        (
            issuer.certificate(&DeviceCertificateClaims { key: CoseKey { kid: [7; 8], ..own }, ..good }),
            "cnf names another key",
        ),
        (issuer.certificate(&DeviceCertificateClaims { subject: elsewhere, ..good }), "sub names another device"),
        (issuer.certificate(&DeviceCertificateClaims { issuer: other.id(), ..good }), "iss is not the anchor"),
        (other.certificate(&other.certificate_claims(own)), "iss is not the anchor"),
        (other.certificate(&good), "the anchor did not sign it"),
        (flipped, "the anchor did not sign it"),
        (changed, "the anchor did not sign it"),
        (issuer.sign(Kind::StationToken, &payload), "typ is not that of a device certificate"),
        (issuer.sign(Kind::Voucher, &payload), "typ is not that of a device certificate"),
        (issuer.sign(Kind::DeviceList, &payload), "typ is not that of a device certificate"),
        (issuer.token(&issuer.token_claims(device.rng.key().public())), "typ is not that of a device certificate"),
        (issuer.voucher(&issuer.voucher_claims(other.public(), 0)), "typ is not that of a device certificate"),
        (issuer.list(), "typ is not that of a device certificate"),
        (issuer.sign(Kind::DeviceCertificate, &[0xa0]), "malformed claims"),
        (issuer.sign(Kind::DeviceCertificate, b"garbage"), "malformed claims"),
        (payload.clone(), "not a signed object"),
        (Vec::new(), "not a signed object"),
    ] {
        let answer = offer(&mut device, &slot_request(issuer.public(), Some(&certificate)));
        assert_eq!(answer.refused("4.00"), ("certificate rejected", Some(reason)));
    }
    assert_eq!((device.info().owner, device.info().claim_counter), (SlotState::Empty, 0));
    // The one that all of these were made from is good.
    let body = slot_request(issuer.public(), Some(&issuer.certificate(&good)));
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    session.ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
}

#[test]
fn anchors_that_are_refused() {
    let (issuer, mut device) = (Issuer::new(1), TestDevice::new());
    let own = device.info().credential.unwrap();
    let anchor = issuer.public().cose_key();
    let off_curve = (0..=255).map(|byte| [byte; 32]).find(|x| protocol::key::PublicKey::from_x(x).is_err()).unwrap();
    for (anchor, reason) in [
        (own, "the anchor is the device's own key"),
        (with_other_y(anchor), "the anchor is not a key as issuers make them"),
        (CoseKey { kid: [0; 8], ..anchor }, "the anchor is not a key as issuers make them"),
        (CoseKey { x: off_curve, ..anchor }, "the anchor is not a key as issuers make them"),
    ] {
        let request = SlotRequest { anchor, certificate: None, voucher: None };
        let answer = offer(&mut device, &encoded(|out| request.encode(out)));
        assert_eq!(answer.refused("4.00"), ("malformed request", Some(reason)));
    }
}

#[test]
fn bodies_that_are_no_slot_request() {
    let mut device = TestDevice::new();
    let good = Owner::new(1).slot_request(&mut device);
    let mut twice = good.clone();
    twice.extend_from_slice(&good);
    for body in [&[][..], &[0xa0], b"garbage", &good[..good.len() - 1], &twice] {
        let answer = offer(&mut device, body);
        assert_eq!(answer.refused("4.00"), ("malformed request", Some("not an anchor and a certificate")));
    }
}

#[test]
fn a_certificate_may_grow_up_to_what_a_slot_holds() {
    let (issuer, mut device) = (Issuer::new(1), TestDevice::new());
    let claims =
        encoded(|out| issuer.certificate_claims(device.server.device().info().credential.unwrap()).encode(out));
    // A claim that this version does not know, -70100: n bytes.
    let grown = |n: usize| {
        let mut claims = claims.clone();
        claims[0] += 1;
        let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
        claims.extend_from_slice(&[0x3a, 0x00, 0x01, 0x11, 0xd3, 0x59, high, low]);
        claims.resize(claims.len() + n, 0);
        issuer.sign(Kind::DeviceCertificate, &claims)
    };
    let answer = offer(&mut device, &slot_request(issuer.public(), Some(&grown(400))));
    answer.refused("4.13");
    assert_eq!(answer.uint(coap_numbers::option::SIZE1), Some(640));
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    session.ask(&mut device, &put("/comm/owner", &slot_request(issuer.public(), Some(&grown(256))))).expect("2.04");
}
