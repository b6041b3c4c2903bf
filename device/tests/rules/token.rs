//! Station tokens: how a station proves that it acts for the owner.

use cbor_schemas::{Aif, Audience, CoseKey, Kind, StationTokenClaims};
use coap_numbers::option;
use protocol::edhoc::Transfer;

use crate::common::{
    CABLE, DEVICE_ID, HOUR, Issuer, NOW, Owner, TestDevice, TestRng, Visitor, encoded, get, post, raw, raw_map,
    with_other_y,
};

/// A token for this owner's station, with claims that the schema does not let us make.
fn raw_token(owner: &Owner, entries: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let key = owner.station.key.public().cose_key();
    let mut all: Vec<(i64, Vec<u8>)> = vec![
        (1, raw(|encoder| encoder.str(&owner.issuer.id().to_string()).is_ok())),
        (3, raw(|encoder| encoder.str(DEVICE_ID).is_ok())),
        (4, raw(|encoder| encoder.u64(NOW + HOUR).is_ok())),
        (6, raw(|encoder| encoder.u64(NOW).is_ok())),
        (8, [&[0xa1, 1][..], &encoded(|out| key.encode(out))].concat()),
        (9, raw(|encoder| encoder.bytes(&encoded(|out| Aif::everything().encode(out))).is_ok())),
    ];
    for (key, value) in entries {
        all.retain(|(known, _)| known != key);
        all.push((*key, value.clone()));
    }
    all.retain(|(_, value)| !value.is_empty());
    all.sort_by_key(|(key, _)| *key);
    owner.issuer.sign(Kind::StationToken, &raw_map(&all))
}

#[test]
fn a_good_token_lets_the_station_in_by_kid() {
    let (owner, mut device) = Owner::of_new_device(1);
    let answer = device.ask(&post("/authz-info", &owner.issuer.token(&owner.token_claims())).content_format(61));
    assert_eq!((answer.expect("2.01").payload(), answer.content_format()), (&[][..], None));
    owner.station.connect(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
}

#[test]
fn a_raw_token_is_as_good_so_what_follows_is_refused_for_what_was_changed() {
    let (owner, mut device) = Owner::of_new_device(1);
    device.present(&raw_token(&owner, &[])).expect("2.01");
    device.present(&raw_token(&owner, &[(70, vec![0xf6])])).expect("2.01"); // a claim that may come later
}

#[test]
fn all_devices_of_the_issuer_may_be_the_audience() {
    let (owner, mut device) = Owner::of_new_device(1);
    owner.present(
        &mut device,
        &StationTokenClaims { audience: Audience::All(owner.issuer.id()), ..owner.token_claims() },
    );
    owner.station.connect(&mut device);
}

#[test]
fn under_oscore_a_token_can_be_presented_as_well() {
    let (owner, mut device) = Owner::of_new_device(1);
    let by_value = Visitor { key: owner.station.key.clone(), transfer: Transfer::ByValue, from: CABLE };
    let mut session = by_value.connect(&mut device);
    session.ask(&mut device, &get("/comm/peers")).refused("4.03");
    session.ask(&mut device, &post("/authz-info", &owner.issuer.token(&owner.token_claims()))).expect("2.01");
    session.ask(&mut device, &get("/comm/peers")).expect("2.05");
}

/// Offers `token`, which is refused with `code` and these problem details, and sees to it that nothing changed.
#[track_caller]
fn refused(device: &mut TestDevice, owner: &Owner, token: &[u8], code: &str, why: (&str, Option<&str>)) {
    let (before, info) = (device.flash.bytes(), device.info());
    let answer = device.present(token);
    assert_eq!(answer.refused(code), why);
    assert_eq!((device.flash.bytes(), device.info()), (before, info));
    let begun = owner.station.begin(device);
    device.ask(&begun.message_3_alone()).edhoc_error();
}

#[test]
fn before_the_signature_is_verified_nothing_is_told() {
    let (owner, mut device) = Owner::of_new_device(1);
    let (issuer, other, claims) = (&owner.issuer, Issuer::new(2), owner.token_claims());
    let payload = encoded(|out| claims.encode(out));
    let not_a_token = ("malformed request", Some("neither a station token nor a device certificate"));
    let kid = owner.station.key.public().kid();
    let cnf_by_kid = [&[0xa1, 3, 0x48][..], &kid].concat();
    for token in [
        Vec::new(),
        b"garbage".to_vec(),
        payload.clone(),
        issuer.sign(Kind::StationToken, b"garbage"),
        issuer.sign(Kind::DeviceCertificate, &payload),
        issuer.sign(Kind::Voucher, &payload),
        issuer.sign(Kind::DeviceList, &payload),
        issuer.voucher(&issuer.voucher_claims(other.public(), 0)),
        issuer.list(),
        raw_token(&owner, &[(8, cnf_by_kid)]),
        raw_token(&owner, &[(3, Vec::new())]), // no aud
        raw_token(&owner, &[(9, Vec::new())]), // no scope
        raw_token(&owner, &[(4, Vec::new())]), // neither exp nor cnonce
        raw_token(&owner, &[(3, raw(|encoder| encoder.str(&other.id().to_string()).is_ok()))]),
    ] {
        refused(&mut device, &owner, &token, "4.00", not_a_token);
    }
    let unauthorized = ("not authorized", None);
    let mut flipped = issuer.token(&claims);
    *flipped.last_mut().unwrap() ^= 1;
    for token in [
        other.token(&StationTokenClaims { issuer: other.id(), ..claims }), // no anchor here
        other.token(&claims),                                              // another's signature
        flipped,
    ] {
        refused(&mut device, &owner, &token, "4.01", unauthorized);
    }
    device.present(&issuer.token(&claims)).expect("2.01");
}

#[test]
fn a_device_that_nobody_owns_takes_no_token() {
    let (owner, mut device) = (Owner::new(1), TestDevice::new());
    let token = owner.issuer.token(&owner.token_claims());
    for _ in 0..5 {
        assert_eq!(device.present(&token).refused("4.01"), ("not authorized", None));
    }
}

#[test]
fn after_the_signature_is_verified_the_reason_is_told() {
    let (owner, mut device) = Owner::of_new_device(1);
    let (own, good, nonce) = (device.info().credential.unwrap(), owner.token_claims(), device.info().nonce);
    let elsewhere = Audience::Device("urn:dev:ops:32473-lamp-00c0fffe".parse().unwrap());
    let other_y = with_other_y(good.key);
    let no_key = "cnf is not a key as devices and stations make them";
    let not_own = "cnf must be a key of the station's own";
    let wrong_nonce = Some(nonce.map(|byte| !byte));
    for (claims, code, detail) in [
        (StationTokenClaims { audience: elsewhere, ..good }, "4.03", "aud names another device"),
        (StationTokenClaims { key: other_y, ..good }, "4.00", no_key),
        (StationTokenClaims { key: CoseKey { kid: [0; 8], ..good.key }, ..good }, "4.00", no_key),
        (StationTokenClaims { key: own, ..good }, "4.00", not_own),
        (StationTokenClaims { key: owner.issuer.public().cose_key(), ..good }, "4.00", not_own),
        (StationTokenClaims { cnonce: wrong_nonce, ..good }, "4.01", "cnonce is not the nonce in /comm"),
        (
            StationTokenClaims { cnonce: wrong_nonce, expires_at: None, ..good },
            "4.01",
            "cnonce is not the nonce in /comm",
        ),
        (StationTokenClaims { expires_at: Some(NOW - 1), ..good }, "4.00", "exp before iat"),
        (StationTokenClaims { expires_at: Some(NOW - 1), issued_at: NOW - 2, ..good }, "4.01", "expired"),
    ] {
        refused(&mut device, &owner, &owner.issuer.token(&claims), code, ("token rejected", Some(detail)));
    }
    owner.present(&mut device, &good);
}

#[test]
fn a_token_is_worth_nothing_without_its_key() {
    let (owner, mut device) = Owner::of_new_device(1);
    owner.present(&mut device, &owner.token_claims());
    // Whoever saw the token on the line has a key of its own: by kid it is nobody, by value a stranger.
    let thief = Visitor { transfer: Transfer::ByKid, ..Visitor::stranger(&mut device) };
    let begun = thief.begin(&mut device);
    device.ask(&begun.message_3_alone()).edhoc_error();
    let thief = Visitor { transfer: Transfer::ByValue, ..thief };
    let before = device.info();
    let mut session = thief.connect(&mut device);
    for request in [get("/comm/peers"), post("/comm/reset", &[]), post("/comm/rekey", &[])] {
        session.ask(&mut device, &request).refused("4.03");
    }
    assert_eq!(device.info(), before);
    // A token for the thief's key in the name of the owner is not the owner's.
    let forged = Issuer::new(7).token(&owner.issuer.token_claims(thief.key.public()));
    assert_eq!(device.present(&forged).refused("4.01"), ("not authorized", None));
    session.ask(&mut device, &get("/comm/peers")).refused("4.03");
}

#[test]
fn the_watermark_is_the_newest_iat_and_the_only_clock() {
    let (owner, mut device) = Owner::of_new_device(1);
    let token =
        |issued_at, expires_at| StationTokenClaims { issued_at, expires_at: Some(expires_at), ..owner.token_claims() };
    assert_eq!(device.info().watermarks.owner, Some(NOW), "the certificate's iat");
    owner.present(&mut device, &token(NOW + 10, NOW + 20));
    assert_eq!(device.info().watermarks.owner, Some(NOW + 10));
    // Older tokens are good until their exp is behind it, and do not turn it back.
    owner.present(&mut device, &token(NOW - 5, NOW + 10));
    assert_eq!(device.info().watermarks.owner, Some(NOW + 10));
    let answer = device.present(&owner.issuer.token(&token(NOW - 5, NOW + 9)));
    assert_eq!(answer.refused("4.01"), ("token rejected", Some("expired")));
    // What is refused does not move it, be it signed.
    device.present(&owner.issuer.token(&token(NOW + 100, NOW + 99))).refused("4.00");
    assert_eq!(device.info().watermarks.owner, Some(NOW + 10));
    device.restart();
    assert_eq!(device.info().watermarks.owner, Some(NOW + 10));
}

#[test]
fn a_watermark_that_is_there_is_not_written_again() {
    let (owner, mut device) = Owner::of_new_device(1);
    let wear = device.flash.wear();
    owner.present(&mut device, &owner.token_claims());
    assert_eq!(device.flash.wear(), wear);
}

#[test]
fn the_nonce_in_comm_stands_for_exp_and_for_one_start_only() {
    let (owner, mut device) = Owner::of_new_device(1);
    // A clock far in the future must not lock the owner out for good.
    let far = NOW * 2;
    owner.present(&mut device, &StationTokenClaims { issued_at: far, expires_at: Some(far), ..owner.token_claims() });
    device.present(&owner.issuer.token(&owner.token_claims())).refused("4.01");

    let with_nonce = |device: &mut TestDevice| {
        let cnonce = Some(device.info().nonce);
        StationTokenClaims { expires_at: None, cnonce, ..owner.token_claims() }
    };
    let claims = with_nonce(&mut device);
    owner.present(&mut device, &claims);
    owner.station.connect(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
    device.restart();
    let answer = device.present(&owner.issuer.token(&claims));
    assert_eq!(answer.refused("4.01").1, Some("cnonce is not the nonce in /comm"));
    let claims = with_nonce(&mut device);
    owner.present(&mut device, &claims);
}

#[test]
fn a_station_has_one_token_the_newest() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = owner.visit(&mut device);
    session.ask(&mut device, &get("/comm/peers")).expect("2.05");
    let scope = Aif::new(&[("/comm/owner", 1)]).unwrap();
    let less = StationTokenClaims { scope, issued_at: NOW + 1, ..owner.token_claims() };
    owner.present(&mut device, &less);
    session.ask(&mut device, &get("/comm/peers")).refused("4.03");
    // Whoever saw the older one on the line may present it again, and changes nothing by that.
    owner.present(&mut device, &owner.token_claims());
    session.ask(&mut device, &get("/comm/peers")).refused("4.03");
    owner.present(&mut device, &StationTokenClaims { issued_at: NOW + 1, ..owner.token_claims() });
    session.ask(&mut device, &get("/comm/peers")).expect("2.05");
}

#[test]
fn tokens_are_bounded_and_the_one_unused_for_longest_makes_room() {
    // There are places for four.
    let (owner, mut device) = Owner::of_new_device(1);
    let mut rng = TestRng::new(9);
    let stations: Vec<Visitor> =
        (0..5).map(|_| Visitor { key: rng.key(), transfer: Transfer::ByKid, from: CABLE }).collect();
    let (last, first) = stations.split_last().unwrap();
    for station in first {
        owner.present(&mut device, &owner.issuer.token_claims(station.key.public()));
    }
    first[0].connect(&mut device);
    owner.present(&mut device, &owner.issuer.token_claims(last.key.public()));
    let forgotten = first[1].begin(&mut device);
    device.ask(&forgotten.message_3_alone()).edhoc_error();
    for station in [&first[0], &first[2], last] {
        station.connect(&mut device);
    }
}

#[test]
fn signatures_are_verified_at_a_bounded_rate() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut forged = owner.issuer.token(&owner.token_claims());
    *forged.last_mut().unwrap() ^= 1;
    let forged = post("/authz-info", &forged);
    let good = post("/authz-info", &owner.issuer.token(&owner.token_claims()));
    device.now = 10_000;
    // An anchor that is not installed is not told from one that is.
    let unknown = Owner::new(2);
    let unknown = post("/authz-info", &unknown.issuer.token(&unknown.token_claims()));
    for request in [&forged, &unknown, &forged, &unknown] {
        device.ask(request).refused("4.01");
    }
    for request in [&forged, &unknown, &good] {
        let answer = device.ask(request);
        answer.refused("4.29");
        assert_eq!(answer.uint(option::MAX_AGE), Some(1));
    }
    // What costs no verification is not counted.
    device.ask(&post("/authz-info", b"garbage")).refused("4.00");
    device.now += 999;
    device.ask(&good).refused("4.29");
    device.now += 1;
    device.ask(&good).expect("2.01");
    device.ask(&good).refused("4.29");
}

#[test]
fn tokens_are_gone_with_the_power() {
    let (owner, mut device) = Owner::of_new_device(1);
    owner.present(&mut device, &owner.token_claims());
    device.restart();
    let begun = owner.station.begin(&mut device);
    device.ask(&begun.message_3_alone()).edhoc_error();
}
