//! Vouchers: one device, one next owner, one use. By the factory for an empty owner slot, by the owner for a full one.

use cbor_schemas::{
    Condition, DeviceListClaims, IssuerId, ListMode, PrivateCoseKey, Receipt, RekeyRequest, SlotRequest, SlotState,
    StationTokenClaims, VoucherClaims,
};
use protocol::key::PrivateKey;

use crate::common::{
    HOUR, Issuer, NOW, Owner, Response, TestDevice, Visitor, encoded, get, post, put, slot_request, with_other_y,
};

/// A device that a factory was at, and that nobody owns.
fn made() -> (Issuer, TestDevice) {
    let (factory, mut device) = (Issuer::new(9), TestDevice::new());
    device.provision_factory(&factory);
    (factory, device)
}

/// What a stranger is answered that claims the device with these.
fn claim(owner: &Owner, certificate: Option<&[u8]>, voucher: &[u8], device: &mut TestDevice) -> Response {
    let request = SlotRequest { anchor: owner.issuer.public().cose_key(), certificate, voucher: Some(voucher) };
    let body = encoded(|out| request.encode(out));
    Visitor::stranger(device).connect(device).ask(device, &put("/comm/owner", &body))
}

/// Claims the device with a voucher that says `claims`, signed by `by`.
fn claim_by(by: &Issuer, claims: &VoucherClaims, owner: &Owner, device: &mut TestDevice) -> Response {
    let certificate = owner.issuer.certify(device);
    claim(owner, Some(&certificate), &by.voucher(claims), device)
}

#[test]
fn a_voucher_of_the_factory_lets_its_owner_in_once() {
    let ((factory, mut device), owner) = (made(), Owner::new(1));
    let claims = VoucherClaims { issued_at: NOW + 5, ..factory.voucher_claims(owner.issuer.public(), 0) };
    let answer = claim_by(&factory, &claims, &owner, &mut device);
    let receipt = Receipt::decode(answer.expect("2.04").payload()).unwrap();
    assert_eq!((receipt.claim_counter, receipt.device), (1, device.info().credential.unwrap().x));
    let info = device.info();
    assert_eq!((info.owner, info.factory, info.claim_counter), (SlotState::Certified, SlotState::Anchored, 1));
    assert_eq!(
        (info.watermarks.owner, info.watermarks.factory),
        (Some(NOW), Some(NOW + 5)),
        "it verified under the factory"
    );
    owner.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");

    // It is used up: while there is an owner, and after.
    let used = Some("it is for another claim counter than the one in /comm");
    assert_eq!(claim_by(&factory, &claims, &owner, &mut device).refused("4.09"), ("voucher rejected", used));
    owner.visit(&mut device).ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
    assert_eq!(claim_by(&factory, &claims, &owner, &mut device).refused("4.09"), ("voucher rejected", used));
    let again = VoucherClaims { claim_counter: 2, ..claims };
    claim_by(&factory, &again, &owner, &mut device).expect("2.04");
}

#[test]
fn vouchers_that_are_refused() {
    let ((factory, mut device), owner) = (made(), Owner::new(1));
    let good = factory.voucher_claims(owner.issuer.public(), 0);
    let certificate = owner.issuer.certify(&mut device);
    let signed = factory.voucher(&good);
    let mut flipped = signed.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let elsewhere = "urn:dev:ops:32473-lamp-00c0fffe".parse().unwrap();
    let (next, another) = (Owner::new(2), Issuer::new(8));
    let off = with_other_y(good.key);
    let before = (device.flash.bytes(), device.info());
    for (voucher, code, reason) in [
        (factory.voucher(&VoucherClaims { subject: elsewhere, ..good }), "4.00", "sub names another device"),
        (
            factory.voucher(&VoucherClaims { key: next.issuer.public().cose_key(), ..good }),
            "4.00",
            "cnf is not the anchor",
        ),
        (factory.voucher(&VoucherClaims { key: off, ..good }), "4.00", "cnf is not the anchor"),
        (
            factory.voucher(&VoucherClaims { claim_counter: 1, ..good }),
            "4.09",
            "it is for another claim counter than the one in /comm",
        ),
        (
            factory.voucher(&VoucherClaims { issuer: another.id(), ..good }),
            "4.00",
            "no anchor of this device signed it",
        ),
        (
            another.voucher(&VoucherClaims { issuer: another.id(), ..good }),
            "4.00",
            "no anchor of this device signed it",
        ),
        (another.voucher(&good), "4.00", "no anchor of this device signed it"),
        // The next owner cannot vouch for itself.
        (
            owner.issuer.voucher(&VoucherClaims { issuer: IssuerId(owner.issuer.public().kid()), ..good }),
            "4.00",
            "no anchor of this device signed it",
        ),
        (flipped, "4.00", "no anchor of this device signed it"),
        (signed[..signed.len() - 1].to_vec(), "4.00", "not a signed object"),
        (Vec::new(), "4.00", "not a signed object"),
        (factory.sign(cbor_schemas::Kind::Voucher, &[0xa0]), "4.00", "malformed claims"),
        (certificate.clone(), "4.00", "typ is not that of a voucher"),
    ] {
        let answer = claim(&owner, Some(&certificate), &voucher, &mut device);
        assert_eq!(answer.refused(code), ("voucher rejected", Some(reason)));
        assert_eq!((device.flash.bytes(), device.info()), before, "{reason}");
    }
    // A voucher is no secret: whoever holds it cannot have another anchor by it, and has to have the key of this one.
    let answer = claim(&next, Some(&next.issuer.certify(&mut device)), &signed, &mut device);
    assert_eq!(answer.refused("4.00").1, Some("cnf is not the anchor"));
    let answer = claim(&owner, None, &signed, &mut device);
    assert_eq!(answer.refused("4.00").1, Some("a certificate of the anchor has to come with it"));
    let forged = next.issuer.certificate(&owner.issuer.certificate_claims(device.info().credential.unwrap()));
    let answer = claim(&owner, Some(&forged), &signed, &mut device);
    assert_eq!(answer.refused("4.00"), ("certificate rejected", Some("the anchor did not sign it")));
    assert_eq!((device.flash.bytes(), device.info()), before);
    claim(&owner, Some(&certificate), &signed, &mut device).expect("2.04");
}

#[test]
fn a_voucher_of_the_owner_hands_the_device_on() {
    let ((owner, mut device), next) = (Owner::of_new_device(1), Owner::new(2));
    let far = StationTokenClaims { issued_at: NOW + HOUR, expires_at: Some(NOW + HOUR), ..owner.token_claims() };
    owner.present(&mut device, &far);
    let mut old = owner.station.connect(&mut device);
    let body = next.vouched_request(&owner.issuer, &mut device);
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let answer = session.ask(&mut device, &put("/comm/owner", &body));
    assert_eq!(Receipt::decode(answer.expect("2.04").payload()).unwrap().claim_counter, 2);
    let info = device.info();
    assert_eq!((info.owner, info.claim_counter, info.watermarks.owner), (SlotState::Certified, 2, Some(NOW)));

    // The former owner is a stranger: its session, its token, and the next one.
    for session in [&mut old, &mut session] {
        session.ask_in_vain(&mut device, &get("/comm/peers")).refused("4.01");
    }
    let begun = owner.station.begin(&mut device);
    device.ask(&begun.message_3_alone()).edhoc_error();
    device.present(&owner.issuer.token(&far)).refused("4.01");
    next.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
    // And it cannot take the device back, by the same voucher or by another one.
    let again = owner.vouched_request(&owner.issuer, &mut device);
    for body in [&body, &again] {
        let answer = Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &put("/comm/owner", body));
        assert_eq!(answer.refused(if body == &again { "4.00" } else { "4.09" }).0, "voucher rejected");
    }
    device.restart();
    assert_eq!((device.info().condition, device.info().claim_counter), (Condition::Ok, 2));
}

#[test]
fn the_factory_cannot_take_an_owned_device_away() {
    let ((owner, mut device), next) = (Owner::of_new_device(1), Owner::new(2));
    let factory = Issuer::new(9);
    device.provision_factory(&factory);
    let body = next.vouched_request(&factory, &mut device);
    let answer = Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &put("/comm/owner", &body));
    answer.refused("4.09");
    owner.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
}

/// The owner calls a voucher back as it does a station's token.
#[test]
fn min_iat_of_the_list_voids_vouchers_of_the_owner() {
    let ((owner, mut device), next) = (Owner::of_new_device(1), Owner::new(2));
    let list = DeviceListClaims { min_iat: NOW, ..owner.issuer.list_claims(ListMode::Members, 1, &[]) };
    owner.visit(&mut device).ask(&mut device, &put("/comm/peers", &owner.issuer.sign_list(&list))).expect("2.04");
    let good = owner.issuer.voucher_claims(next.issuer.public(), 1);
    let early = VoucherClaims { issued_at: NOW - 1, ..good };
    let answer = claim_by(&owner.issuer, &early, &next, &mut device);
    assert_eq!(answer.refused("4.00"), ("voucher rejected", Some("revoked by the device list")));
    claim_by(&owner.issuer, &good, &next, &mut device).expect("2.04");
}

/// Whoever is the maker and the owner at once vouches as either.
#[test]
fn an_issuer_may_be_factory_and_owner() {
    let ((owner, mut device), next) = (Owner::of_new_device(1), Owner::new(2));
    let body = owner.slot_request(&mut device);
    owner.visit(&mut device).ask(&mut device, &put("/comm/factory", &body)).expect("2.04");
    for to in [&next, &owner] {
        let by = if device.info().claim_counter == 1 { &owner } else { &next };
        let body = to.vouched_request(&by.issuer, &mut device);
        Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    }
    owner.visit(&mut device).ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
    let body = next.vouched_request(&owner.issuer, &mut device);
    Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
}

#[test]
fn an_owner_may_show_the_voucher_of_the_next_one_itself() {
    let ((owner, mut device), next) = (Owner::of_new_device(1), Owner::new(2));
    let body = next.vouched_request(&owner.issuer, &mut device);
    owner.visit(&mut device).ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    next.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
    // Without one it may do so, too: see ownership.rs. An anchor alone is then nobody's proof.
    let alone = slot_request(owner.issuer.public(), None);
    next.visit(&mut device).ask(&mut device, &put("/comm/owner", &alone)).expect("2.04");
}

/// It compares with the newest time under the anchor that signed: more of a clock than that a device does not have.
#[test]
fn a_voucher_that_has_expired_as_far_as_the_device_knows() {
    let ((factory, mut device), next) = (made(), Owner::new(2));
    let good = factory.voucher_claims(next.issuer.public(), 0);
    let reason = Some("it has expired");
    let backwards = VoucherClaims { expires_at: Some(NOW - 1), ..good };
    assert_eq!(claim_by(&factory, &backwards, &next, &mut device).refused("4.00"), ("voucher rejected", reason));

    let certificate = factory.certify(&mut device);
    device.put_into_factory_slot(&factory, Some(&certificate));
    let station = Owner { issuer: factory, ..Owner::new(9) };
    station.present(&mut device, &station.token_claims());
    let before = (device.flash.bytes(), device.info());
    assert_eq!(before.1.watermarks.factory, Some(NOW));
    let past = VoucherClaims { issued_at: NOW - HOUR, expires_at: Some(NOW - 1), ..good };
    assert_eq!(claim_by(&station.issuer, &past, &next, &mut device).refused("4.00").1, reason);
    assert_eq!((device.flash.bytes(), device.info()), before);
    let last_second = VoucherClaims { expires_at: Some(NOW), ..past };
    claim_by(&station.issuer, &last_second, &next, &mut device).expect("2.04");

    // The owner's vouchers are measured by the owner's time, which is that of its certificate here.
    let claims = next.issuer.voucher_claims(Issuer::new(3).public(), 1);
    let past = VoucherClaims { issued_at: NOW - HOUR, expires_at: Some(NOW - 1), ..claims };
    let third = Owner::new(3);
    assert_eq!(claim_by(&next.issuer, &past, &third, &mut device).refused("4.00").1, reason);
    claim_by(&next.issuer, &VoucherClaims { expires_at: Some(NOW), ..past }, &third, &mut device).expect("2.04");
}

#[test]
fn a_key_that_the_owner_knows_is_not_handed_on() {
    let (owner, next) = (Owner::new(1), Owner::new(2));
    let mut device = TestDevice::that_takes_keys();
    owner.claim(&mut device);
    let key = PrivateKey::from_bytes(&[9; 32]).unwrap();
    let key = PrivateCoseKey { x: *key.public().x(), d: *key.as_bytes() };
    let injection = encoded(|out| RekeyRequest { injected: Some(key) }.encode(out));
    owner.visit(&mut device).ask(&mut device, &post("/comm/rekey", &injection)).expect("2.04");
    let claims = owner.issuer.voucher_claims(next.issuer.public(), 1);
    claim_by(&owner.issuer, &claims, &next, &mut device).refused("4.09");
    let other_anchor = next.slot_request(&mut device);
    owner.visit(&mut device).ask(&mut device, &put("/comm/owner", &other_anchor)).refused("4.09");
    owner.visit(&mut device).ask(&mut device, &post("/comm/rekey", &[])).expect("2.04");
    claim_by(&owner.issuer, &claims, &next, &mut device).expect("2.04");
}
