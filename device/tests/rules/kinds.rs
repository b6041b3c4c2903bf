//! Signed objects in each other's place: four kinds, every place that takes one, and kinds that there are not.

use cbor_schemas::{Aif, CoseKey, IssuerId, Kind, Sign1, SlotRequest, SlotState};
use p256::ecdsa::{Signature, SigningKey, signature::Signer};

use crate::common::{
    DEVICE_ID, HOUR, Issuer, NOW, Owner, Session, TestDevice, Visitor, encoded, get, post, put, raw, raw_map,
    slot_request,
};

/// Claims that every one of the four kinds would take, about `key`: maps are open, so only `typ` tells the kinds apart.
fn claims_of_all_kinds(issuer: IssuerId, key: CoseKey, claim_counter: u32) -> Vec<u8> {
    let text = |text: &str| raw(|encoder| encoder.str(text).is_ok());
    let uint = |number: u64| raw(|encoder| encoder.u64(number).is_ok());
    let scope = encoded(|out| Aif::everything().encode(out));
    raw_map(&[
        (1, text(&issuer.to_string())),                                           // iss
        (2, text(DEVICE_ID)),                                                     // sub
        (3, text(DEVICE_ID)),                                                     // aud
        (4, uint(NOW + HOUR)),                                                    // exp
        (6, uint(NOW)),                                                           // iat
        (7, raw(|encoder| encoder.bytes(&[7; 8]).is_ok())),                       // cti
        (8, [&[0xa1, 1][..], &encoded(|out| key.encode(out))].concat()),          // cnf
        (9, raw(|encoder| encoder.bytes(&scope).is_ok())),                        // scope
        (-70001, uint(0)),                                                        // key origin
        (-70002, uint(1)),                                                        // proof level
        (-70003, uint(claim_counter.into())),                                     // claim counter
        (-70004, uint(NOW)),                                                      // version
        (-70005, uint(0)),                                                        // mode
        (-70006, uint(0)),                                                        // min_iat
        (-70007, raw(|encoder| encoder.array(1).unwrap().bytes(&key.x).is_ok())), // keys
    ])
}

/// An object that `issuer` signed as the one kind, and that says it is the other.
fn renamed(issuer: &Issuer, payload: &[u8], signed_as: Kind, shown_as: Kind) -> Vec<u8> {
    let object = issuer.sign(signed_as, payload);
    let object = Sign1 { kind: shown_as, ..Sign1::decode(&object).unwrap() };
    encoded(|out| object.encode(out))
}

/// The four kinds over the same claims, and each under the name of another.
fn objects(issuer: &Issuer, key: CoseKey, claim_counter: u32) -> Vec<(Kind, Kind, Vec<u8>)> {
    let payload = claims_of_all_kinds(issuer.id(), key, claim_counter);
    let pairs = Kind::ALL.into_iter().flat_map(|signed| Kind::ALL.map(|shown| (signed, shown)));
    pairs.map(|(signed, shown)| (signed, shown, renamed(issuer, &payload, signed, shown))).collect()
}

#[test]
fn only_a_station_token_opens_authz_info() {
    let mut accepted = 0;
    for under_oscore in [false, true] {
        let (owner, mut device) = Owner::of_new_device(1);
        for (signed, shown, object) in objects(&owner.issuer, owner.station.key.public().cose_key(), 0) {
            let (before, info) = (device.flash.bytes(), device.info());
            let mut session = Visitor::stranger(&mut device).connect(&mut device);
            device.now += 1000;
            let request = post("/authz-info", &object);
            let answer = if under_oscore { session.ask(&mut device, &request) } else { device.ask(&request) };
            match (signed, shown) {
                (Kind::StationToken, Kind::StationToken) => {
                    answer.expect("2.01");
                    owner.station.connect(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
                    device.restart(); // and the token is gone again
                    accepted += 1;
                    continue;
                }
                (_, Kind::StationToken) => assert_eq!(answer.refused("4.01"), ("not authorized", None)),
                // It may make a peer, where a list says so: see peers.rs.
                (Kind::DeviceCertificate, Kind::DeviceCertificate) => assert_eq!(
                    answer.refused("4.03"),
                    ("certificate rejected", Some("certificates grant nothing here"))
                ),
                (_, Kind::DeviceCertificate) => assert_eq!(answer.refused("4.01"), ("not authorized", None)),
                _ => assert_eq!(
                    answer.refused("4.00"),
                    ("malformed request", Some("neither a station token nor a device certificate"))
                ),
            }
            assert_eq!((device.flash.bytes(), device.info()), (before, info), "{signed:?} as {shown:?}");
            let begun = owner.station.begin(&mut device);
            device.ask(&begun.message_3_alone()).edhoc_error();
        }
    }
    assert_eq!(accepted, 2);
}

/// Puts each object into a slot request by `request`; only a certificate may be stored there.
fn certificates_alone(
    device: &mut TestDevice,
    session: impl Fn(&mut TestDevice) -> Session,
    objects: &[(Kind, Kind, Vec<u8>)],
    request: impl Fn(&[u8]) -> Vec<u8>,
) {
    let mut accepted = 0;
    for (signed, shown, object) in objects {
        let (before, state) = (device.flash.bytes(), device.info().owner);
        let answer = session(device).ask(device, &put("/comm/owner", &request(object)));
        let reason = match (signed, shown) {
            (Kind::DeviceCertificate, Kind::DeviceCertificate) => {
                answer.expect("2.04");
                device.flash.overwrite(|bytes| bytes.copy_from_slice(&before));
                device.restart();
                accepted += 1;
                continue;
            }
            (_, Kind::DeviceCertificate) => "the anchor did not sign it",
            _ => "typ is not that of a device certificate",
        };
        assert_eq!(answer.refused("4.00"), ("certificate rejected", Some(reason)), "{signed:?} as {shown:?}");
        assert_eq!((device.flash.bytes(), device.info().owner), (before, state));
    }
    assert_eq!(accepted, 1);
}

#[test]
fn only_a_device_certificate_certifies() {
    let (owner, mut device) = (Owner::new(1), TestDevice::new());
    let objects = objects(&owner.issuer, device.info().credential.unwrap(), 0);
    let request = |object: &[u8]| slot_request(owner.issuer.public(), Some(object));
    certificates_alone(&mut device, |device| Visitor::stranger(device).connect(device), &objects, request);
    assert_eq!(device.info().owner, SlotState::Empty);

    owner.claim(&mut device);
    certificates_alone(&mut device, |device| owner.visit(device), &objects, request);
    assert_eq!(device.info().owner, SlotState::Certified);
}

/// At an empty slot and at a full one, by the factory and by the present owner.
#[test]
fn only_a_voucher_vouches() {
    let (factory, next) = (Issuer::new(9), Owner::new(2));
    let mut provisioned = TestDevice::new();
    provisioned.provision_factory(&factory);
    let (owner, mut owned) = Owner::of_new_device(1);
    let mut accepted = 0;
    for (device, issuer) in [(&mut provisioned, &factory), (&mut owned, &owner.issuer)] {
        let certificate = next.issuer.certify(device);
        for (signed, shown, object) in objects(issuer, next.issuer.public().cose_key(), device.info().claim_counter) {
            let (before, info) = (device.flash.bytes(), device.info());
            let anchor = next.issuer.public().cose_key();
            let request = SlotRequest { anchor, certificate: Some(&certificate), voucher: Some(&object) };
            let request = put("/comm/owner", &encoded(|out| request.encode(out)));
            let answer = Visitor::stranger(device).connect(device).ask(device, &request);
            let reason = match (signed, shown) {
                (Kind::Voucher, Kind::Voucher) => {
                    answer.expect("2.04");
                    device.flash.overwrite(|bytes| bytes.copy_from_slice(&before));
                    device.restart();
                    accepted += 1;
                    continue;
                }
                (_, Kind::Voucher) => "no anchor of this device signed it",
                _ => "typ is not that of a voucher",
            };
            assert_eq!(answer.refused("4.00"), ("voucher rejected", Some(reason)), "{signed:?} as {shown:?}");
            assert_eq!((device.flash.bytes(), device.info()), (before, info));
        }
    }
    assert_eq!(accepted, 2);
}

#[test]
fn only_a_device_list_fills_the_list() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut accepted = 0;
    for (signed, shown, object) in objects(&owner.issuer, owner.station.key.public().cose_key(), 0) {
        let mut session = owner.visit(&mut device);
        let before = device.flash.bytes();
        let answer = session.ask(&mut device, &put("/comm/peers", &object));
        let reason = match (signed, shown) {
            (Kind::DeviceList, Kind::DeviceList) => {
                answer.expect("2.04");
                accepted += 1;
                continue;
            }
            (_, Kind::DeviceList) => "the owner did not sign it",
            _ => "not a signed object, or of another kind",
        };
        assert_eq!(answer.refused("4.00"), ("list rejected", Some(reason)), "{signed:?} as {shown:?}");
        assert_eq!(device.flash.bytes(), before);
    }
    assert_eq!(accepted, 1);
}

/// A COSE_Sign1 with any protected header, soundly signed, as another version of us or another protocol has it.
fn with_header(issuer: &Issuer, tag: &[u8], protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let bytes = |bytes: &[u8]| raw(|encoder| encoder.bytes(bytes).is_ok());
    let to_be_signed = [&b"\x84\x6aSignature1"[..], &bytes(protected), &bytes(b""), &bytes(payload)].concat();
    let signature: Signature = SigningKey::from_slice(issuer.key.as_bytes()).unwrap().sign(&to_be_signed);
    [tag, &[0x84], &bytes(protected), &[0xa0], &bytes(payload), &bytes(&signature.to_bytes())].concat()
}

#[test]
fn other_versions_algorithms_and_envelopes_are_refused() {
    const SIGN1: &[u8] = &[0xd2];
    let (owner, mut device) = Owner::of_new_device(1);
    let header = |typ: &str| {
        let typ = raw(|encoder| encoder.str(typ).is_ok());
        [&[0xa2, 1, 0x26, 0x10][..], &typ].concat()
    };
    for kind in [Kind::StationToken, Kind::DeviceCertificate] {
        let own = device.info().credential.unwrap();
        let station = owner.station.key.public().cose_key();
        let payload = claims_of_all_kinds(owner.issuer.id(), if kind == Kind::StationToken { station } else { own }, 0);
        let mut offer = |object: &[u8]| {
            let mut session = owner.visit(&mut device);
            device.now += 1000;
            match kind {
                Kind::StationToken => device.ask(&post("/authz-info", object)),
                _ => session.ask(&mut device, &put("/comm/owner", &slot_request(owner.issuer.public(), Some(object)))),
            }
        };
        let good = kind.protected_header();
        let mut older = good.to_vec();
        older[2] = 0x27; // EdDSA
        for (tag, protected) in [
            (SIGN1, header(&kind.typ().replace("+cwt", "2+cwt"))),
            (SIGN1, header(&kind.typ().replace("application/", ""))),
            (SIGN1, header("application/cwt")),
            (SIGN1, header("")),
            (SIGN1, [&[0xa2, 1, 0x26, 0x10][..], &raw(|encoder| encoder.u16(61).is_ok())].concat()), // as a number
            (SIGN1, vec![0xa1, 1, 0x26]),                                                            // no typ
            (SIGN1, [&[0xa1], &good[3..]].concat()),                                                 // no alg
            (SIGN1, [&[0xa3], &good[1..3], &[2, 0x81, 0x10], &good[3..]].concat()),                  // crit
            (SIGN1, older),
            (SIGN1, Vec::new()),
            (&[], good.to_vec()),                 // untagged
            (&[0xd8, 0x3d, 0xd2], good.to_vec()), // tagged as a CWT
            (&[0xd1], good.to_vec()),             // tagged as a COSE_Mac0
        ] {
            let object = with_header(&owner.issuer, tag, &protected, &payload);
            offer(&object).refused("4.00");
        }
        let answer = offer(&with_header(&owner.issuer, SIGN1, good, &payload));
        answer.expect(if kind == Kind::StationToken { "2.01" } else { "2.04" });
    }
}
