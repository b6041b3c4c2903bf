//! The device list: who may install which, and who is let in by it.

use cbor_schemas::{
    Aif, Condition, DeviceCertificateClaims, DeviceListClaims, Kind, ListMode, PeersView, StationTokenClaims,
};
use device::{LIST_KEYS, LIST_LEN};
use protocol::edhoc::Transfer;

use crate::common::{
    HOUR, Issuer, NETWORK, NOW, Owner, Response, Session, TestDevice, TestRng, Visitor, get, layout, post, put,
    slot_request, with_other_y,
};

const CBOR: u32 = 60;

/// Another device, which knows its own key and nothing else.
fn other(seed: u64) -> Visitor {
    let key = TestRng::new(7000 + seed).key();
    Visitor { key, transfer: Transfer::ByValue, from: NETWORK }
}

fn x(visitor: &Visitor) -> [u8; 32] {
    *visitor.key.public().x()
}

/// What the owner's station is answered when it installs a list.
fn install(owner: &Owner, device: &mut TestDevice, claims: &DeviceListClaims<'_>) -> Response {
    let list = owner.issuer.sign_list(claims);
    put_in_blocks(owner, device, &list)
}

fn put_in_blocks(owner: &Owner, device: &mut TestDevice, list: &[u8]) -> Response {
    let mut session = owner.visit(device);
    send_in_blocks(&mut session, device, list)
}

/// In blocks, as most lists are larger than a datagram. Returns the last answer.
fn send_in_blocks(session: &mut Session, device: &mut TestDevice, list: &[u8]) -> Response {
    const BLOCK: usize = 512;
    let blocks = list.chunks(BLOCK);
    let last = blocks.len() - 1;
    let mut answers = blocks.enumerate().map(|(number, block)| {
        let request = put("/comm/peers", block).content_format(61);
        session.ask(device, &request.block(27, number.try_into().unwrap(), number < last, BLOCK as u32))
    });
    answers.find(|answer| answer.code() != "2.31").expect("there is a last block")
}

fn view(answer: &Response) -> PeersView {
    PeersView::decode(answer.payload()).expect("what it holds")
}

/// What a peer is answered that wants to switch the lamp.
fn switch(peer: &Visitor, device: &mut TestDevice) -> String {
    let mut session = peer.connect(device);
    session.ask(device, &put("/led", &[0xf5])).code()
}

/// The same, by a peer that shows its certificate first.
fn show_and_switch(peer: &Visitor, certificate: &[u8], device: &mut TestDevice) -> (String, String) {
    let shown = device.present(certificate).code();
    (shown, switch(peer, device))
}

fn certificate(issuer: &Issuer, of: &Visitor) -> Vec<u8> {
    issuer.certificate(&issuer.certificate_claims(of.key.public().cose_key()))
}

#[test]
fn a_list_is_installed_and_told() {
    let (owner, mut device) = Owner::of_new_device(1);
    let none = PeersView { version: None, mode: None, held: 0, capacity: LIST_KEYS };
    assert_eq!(view(owner.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05")), none);

    let keys = [[1; 32], [2; 32], [3; 32]];
    for (mode, version) in [(ListMode::Members, 5), (ListMode::Revoked, 6)] {
        let held = PeersView { version: Some(version), mode: Some(mode), held: 3, capacity: LIST_KEYS };
        let answer = install(&owner, &mut device, &owner.issuer.list_claims(mode, version, &keys));
        assert_eq!(view(answer.expect("2.04")), held);
        device.restart();
        assert_eq!(view(owner.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05")), held);
    }
}

#[test]
fn only_the_owner_installs_and_reads_it() {
    let (owner, mut device) = Owner::of_new_device(1);
    let list = put("/comm/peers", &owner.issuer.list());
    let before = device.flash.bytes();
    for request in [&list, &get("/comm/peers")] {
        device.ask(request).refused("4.01");
        Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, request).refused("4.03");
    }
    let mut fresh = TestDevice::new();
    Visitor::stranger(&mut fresh).connect(&mut fresh).ask(&mut fresh, &list).refused("4.03");
    assert_eq!(device.flash.bytes(), before);

    // Nor a peer.
    let peer = other(1);
    install(&owner, &mut device, &owner.issuer.list_claims(ListMode::Members, 1, &[x(&peer)])).expect("2.04");
    let mut session = peer.connect(&mut device);
    session.ask(&mut device, &list).refused("4.03");
    for path in ["/comm/rekey", "/comm/reset", "/comm/identify"] {
        let answer = session.ask(&mut device, &post(path, &[]));
        assert!(["4.03", "4.09"].contains(&&*answer.code()), "{path}");
    }
}

#[test]
fn what_is_not_this_owners_list_is_refused_and_changes_nothing() {
    let (owner, mut device) = Owner::of_new_device(1);
    install(&owner, &mut device, &owner.issuer.list_claims(ListMode::Members, 7, &[[1; 32]])).expect("2.04");
    let before = device.flash.bytes();
    let (another, keys) = (Issuer::new(9), [[1; 32], [2; 32]]);
    let good = owner.issuer.list_claims(ListMode::Members, 8, &keys);
    let mut flipped = owner.issuer.sign_list(&good);
    flipped[60] ^= 1;
    let of_another = DeviceListClaims { issuer: another.id(), ..good };
    for (list, reason) in [
        (Vec::new(), "not a signed object, or of another kind"),
        (owner.issuer.sign_list(&good)[..100].to_vec(), "not a signed object, or of another kind"),
        (owner.issuer.sign(Kind::DeviceList, b"\xa0"), "malformed claims"),
        (flipped, "the owner did not sign it"),
        (another.sign_list(&good), "the owner did not sign it"),
        (another.sign_list(&of_another), "iss is not the owner"),
        (owner.issuer.sign_list(&of_another), "iss is not the owner"),
    ] {
        let mut session = owner.visit(&mut device);
        let answer = session.ask(&mut device, &put("/comm/peers", &list));
        assert_eq!(answer.refused("4.00"), ("list rejected", Some(reason)));
    }
    assert_eq!(device.flash.bytes(), before);
}

#[test]
fn a_list_is_never_followed_by_an_older_one() {
    let (owner, mut device) = Owner::of_new_device(1);
    let keys = [[1; 32], [2; 32]];
    let claims = |version| owner.issuer.list_claims(ListMode::Members, version, &keys);
    install(&owner, &mut device, &claims(7)).expect("2.04");
    let before = device.flash.bytes();
    let refused = |device: &mut TestDevice, claims: &DeviceListClaims<'_>, reason| {
        let answer = install(&owner, device, claims);
        assert_eq!(answer.refused("4.09"), ("list rejected", Some(reason)));
    };
    let newer = "a newer version is installed";
    refused(&mut device, &claims(6), newer);
    device.restart();
    refused(&mut device, &claims(0), newer);
    let other = "another list of this version is installed";
    refused(&mut device, &DeviceListClaims { min_iat: 1, ..claims(7) }, other);
    refused(&mut device, &DeviceListClaims { mode: ListMode::Revoked, ..claims(7) }, other);
    refused(&mut device, &owner.issuer.list_claims(ListMode::Members, 7, &keys[..1]), other);
    refused(&mut device, &owner.issuer.list_claims(ListMode::Members, 7, &[keys[1], keys[0]]), other);
    // The same once more is no news, whoever signed it when.
    install(&owner, &mut device, &claims(7)).expect("2.04");
    assert_eq!(device.flash.bytes(), before);
    install(&owner, &mut device, &claims(8)).expect("2.04");
}

#[test]
fn as_many_keys_as_fit_and_no_more() {
    let (owner, mut device) = Owner::of_new_device(1);
    let keys: Vec<_> = (0..=LIST_KEYS).map(|n| [n as u8; 32]).collect();
    let all = usize::from(LIST_KEYS);
    let claims = |count| owner.issuer.list_claims(ListMode::Members, u64::MAX, &keys[..count]);
    let answer = install(&owner, &mut device, &claims(all + 1));
    assert_eq!(answer.refused("4.13"), ("too many keys", Some("limits in /comm say how many fit")));
    assert_eq!(answer.uint(60), Some(LIST_LEN as u32), "Size1");
    assert_eq!(device.info().limits.list_keys, LIST_KEYS);
    let answer = install(&owner, &mut device, &claims(all));
    assert_eq!(view(answer.expect("2.04")).held, LIST_KEYS);
    let full = DeviceListClaims { issued_at: u64::MAX, min_iat: u64::MAX, audit_head: Some([1; 32]), ..claims(all) };
    assert!((LIST_LEN - 9..=LIST_LEN).contains(&owner.issuer.sign_list(&full).len()), "but for marks of the unproven");
}

#[test]
fn members_are_let_in_and_nobody_else() {
    let (owner, mut device) = Owner::of_new_device(1);
    let (member, stranger) = (other(1), other(2));
    let member_certificate = certificate(&owner.issuer, &member);
    assert_eq!(switch(&member, &mut device), "4.03", "no list, no peers");
    let (shown, _) = show_and_switch(&member, &member_certificate, &mut device);
    assert_eq!(shown, "4.03");

    install(&owner, &mut device, &owner.issuer.list_claims(ListMode::Members, 1, &[[9; 32], x(&member)]))
        .expect("2.04");
    device.restart();
    assert_eq!(switch(&member, &mut device), "2.05");
    assert_eq!(device.blinks(), 1);
    assert_eq!(switch(&stranger, &mut device), "4.03");
    let (shown, switched) = show_and_switch(&stranger, &certificate(&owner.issuer, &stranger), &mut device);
    assert_eq!((&*shown, &*switched), ("4.03", "4.03"), "certificates do not count");

    // Out again, in the middle of a session too.
    let mut session = member.connect(&mut device);
    session.ask(&mut device, &put("/led", &[0xf4])).expect("2.05");
    install(&owner, &mut device, &owner.issuer.list_claims(ListMode::Members, 2, &[[9; 32]])).expect("2.04");
    session.ask(&mut device, &put("/led", &[0xf5])).refused("4.03");
    assert_eq!(switch(&member, &mut device), "4.03");
    assert_eq!(device.blinks(), 2);
}

#[test]
fn certified_devices_are_let_in_unless_they_are_revoked() {
    let (owner, mut device) = Owner::of_new_device(1);
    let (good, bad, foreign) = (other(1), other(2), other(3));
    let [good_certificate, bad_certificate] = [&good, &bad].map(|device| certificate(&owner.issuer, device));
    let list = |version, keys| owner.issuer.sign_list(&owner.issuer.list_claims(ListMode::Revoked, version, keys));
    put_in_blocks(&owner, &mut device, &list(1, &[])).expect("2.04");
    assert_eq!(switch(&good, &mut device), "4.03", "without its certificate");
    for (peer, shown) in [(&good, &good_certificate), (&bad, &bad_certificate)] {
        assert_eq!(show_and_switch(peer, shown, &mut device), ("2.01".into(), "2.05".into()));
    }
    let of_another = certificate(&Issuer::new(9), &foreign);
    assert_eq!(show_and_switch(&foreign, &of_another, &mut device), ("4.01".into(), "4.03".into()));
    assert_eq!(show_and_switch(&foreign, &good_certificate, &mut device), ("2.01".into(), "4.03".into()));

    // It was let in before, and holds a session: that ends with the next list.
    let mut session = bad.connect(&mut device);
    session.ask(&mut device, &put("/led", &[0xf4])).expect("2.05");
    put_in_blocks(&owner, &mut device, &list(2, &[[9; 32], x(&bad)])).expect("2.04");
    session.ask(&mut device, &put("/led", &[0xf5])).refused("4.03");
    assert_eq!(show_and_switch(&bad, &bad_certificate, &mut device).1, "4.03");
    assert_eq!(show_and_switch(&good, &good_certificate, &mut device).1, "2.05");
    // RAM knows who is certified, flash knows who is revoked.
    device.restart();
    assert_eq!(switch(&good, &mut device), "4.03");
    assert_eq!(show_and_switch(&bad, &bad_certificate, &mut device).1, "4.03");
    assert_eq!(show_and_switch(&good, &good_certificate, &mut device).1, "2.05");
}

#[test]
fn a_peer_may_send_its_credential_by_kid_once_its_certificate_was_shown() {
    let (owner, mut device) = Owner::of_new_device(1);
    install(&owner, &mut device, &owner.issuer.list_claims(ListMode::Revoked, 1, &[])).expect("2.04");
    let peer = Visitor { transfer: Transfer::ByKid, ..other(1) };
    assert_eq!(show_and_switch(&peer, &certificate(&owner.issuer, &peer), &mut device).1, "2.05");
}

/// Nobody can say any more who is revoked: then everybody is.
#[test]
fn a_damaged_list_lets_nobody_in() {
    let (owner, mut device) = Owner::of_new_device(1);
    let peer = other(1);
    for (version, mode, keys) in [(1, ListMode::Revoked, [[9; 32]]), (2, ListMode::Members, [x(&peer)])] {
        install(&owner, &mut device, &owner.issuer.list_claims(mode, version, &keys)).expect("2.04");
        device.present(&certificate(&owner.issuer, &peer));
        let mut session = peer.connect(&mut device);
        session.ask(&mut device, &put("/led", &[0xf4])).expect("2.05");
        let before = device.flash.bytes();
        let list = layout().list;
        device.flash.overwrite(|bytes| bytes[list.start as usize..list.end as usize].fill(0));
        session.ask(&mut device, &put("/led", &[0xf5])).refused("4.03");
        device.flash.overwrite(|bytes| bytes.copy_from_slice(&before));
    }
    device.flash.overwrite(|bytes| bytes[layout().list.start as usize..].fill(0));
    device.restart();
    assert_eq!(device.info().condition, Condition::Fault);
}

/// Revocation is looked up before any grant.
#[test]
fn a_station_whose_key_is_revoked_is_out() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut session = owner.visit(&mut device);
    let keys = [x(&owner.station)];
    install(&owner, &mut device, &owner.issuer.list_claims(ListMode::Revoked, 1, &keys)).expect("2.04");
    session.ask(&mut device, &get("/comm/peers")).refused("4.03");
    owner.visit(&mut device).ask(&mut device, &get("/comm/peers")).refused("4.03");
}

#[test]
fn stations_older_than_min_iat_are_out() {
    let (owner, mut device) = Owner::of_new_device(1);
    let mut old = owner.visit(&mut device);
    let claims = DeviceListClaims { min_iat: NOW + 1, ..owner.issuer.list_claims(ListMode::Members, 1, &[]) };
    install(&owner, &mut device, &claims).expect("2.04");
    old.ask(&mut device, &get("/comm/peers")).refused("4.03");
    let token = |issued_at, cnonce: Option<_>| {
        let claims = owner.token_claims();
        let expires_at = Some(issued_at + HOUR).filter(|_| cnonce.is_none());
        owner.issuer.token(&StationTokenClaims { issued_at, expires_at, cnonce, ..claims })
    };
    for restarted in [false, true] {
        if restarted {
            device.restart();
        }
        let nonce = device.info().nonce;
        for token in [token(NOW, None), token(NOW, Some(nonce))] {
            let answer = device.present(&token);
            assert_eq!(answer.refused("4.01"), ("token rejected", Some("revoked by the device list")));
        }
        device.present(&token(NOW + 1, None)).expect("2.01");
        owner.station.connect(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
    }
}

#[test]
fn the_list_goes_with_its_owner() {
    let (owner, mut device) = Owner::of_new_device(1);
    let peer = other(1);
    install(&owner, &mut device, &owner.issuer.list_claims(ListMode::Members, 100, &[x(&peer)])).expect("2.04");
    // Another owner, by the hand of the present one.
    let next = Owner::new(2);
    let body = slot_request(next.issuer.public(), Some(&next.issuer.certify(&mut device)));
    owner.visit(&mut device).ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
    assert_eq!(switch(&peer, &mut device), "4.03");
    let held = view(next.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05"));
    assert_eq!(held.version, None);
    // Versions are counted by each issuer.
    install(&next, &mut device, &next.issuer.list_claims(ListMode::Members, 3, &[x(&peer)])).expect("2.04");
    assert_eq!(switch(&peer, &mut device), "2.05");
    next.visit(&mut device).ask(&mut device, &post("/comm/reset", &[])).expect("2.04");
    assert_eq!(switch(&peer, &mut device), "4.03", "nobody owns it");
}

#[test]
fn a_new_key_keeps_the_list() {
    let (owner, mut device) = Owner::of_new_device(1);
    let peer = other(1);
    install(&owner, &mut device, &owner.issuer.list_claims(ListMode::Members, 1, &[x(&peer)])).expect("2.04");
    owner.visit(&mut device).ask(&mut device, &post("/comm/rekey", &[])).expect("2.04");
    assert_eq!(switch(&peer, &mut device), "2.05");
}

#[test]
fn anyone_may_read_what_is_for_anyone() {
    let (owner, mut device) = Owner::of_new_device(1);
    device.ask(&get("/led")).expect("2.05");
    Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &get("/led")).expect("2.05");
    device.ask(&put("/led", &[0xf5])).refused("4.01");
    device.ask(&post("/led", &[])).refused("4.05");
    // A station's token is for commissioning, unless it says more.
    owner.visit(&mut device).ask(&mut device, &put("/led", &[0xf5])).refused("4.03");
    let scope = Aif::new(&[("/led", 4), ("/log", 2)]).unwrap();
    owner.present(&mut device, &StationTokenClaims { scope, ..owner.token_claims() });
    let mut session = owner.station.connect(&mut device);
    session.ask(&mut device, &put("/led", &[0xf5])).expect("2.05");
    session.ask(&mut device, &post("/log/level", &[])).expect("2.05");
    assert_eq!(device.blinks(), 2);
    // Formats are checked as everywhere.
    session.ask(&mut device, &put("/led", &[0xf5]).content_format(0)).refused("4.15");
    session.ask(&mut device, &get("/led").accept(0)).refused("4.06");
    session.ask(&mut device, &get("/led").accept(CBOR as u16)).expect("2.05");

    let peer = other(1);
    install(&owner, &mut device, &owner.issuer.list_claims(ListMode::Members, 1, &[x(&peer)])).expect("2.04");
    peer.connect(&mut device).ask(&mut device, &post("/log/level", &[])).refused("4.03");
}

/// Peers come and go; the owner's session and token stay.
#[test]
fn peers_make_no_room_at_the_owners_cost() {
    let (owner, mut device) = Owner::of_new_device(1);
    install(&owner, &mut device, &owner.issuer.list_claims(ListMode::Revoked, 1, &[])).expect("2.04");
    let mut session = owner.visit(&mut device);
    for seed in 0..10 {
        let peer = other(seed);
        assert_eq!(show_and_switch(&peer, &certificate(&owner.issuer, &peer), &mut device).1, "2.05");
    }
    session.ask(&mut device, &get("/comm/peers")).expect("2.05");
    owner.station.connect(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05");
}

#[test]
fn a_certificate_about_our_own_key_or_the_owners_makes_no_peer() {
    let (owner, mut device) = Owner::of_new_device(1);
    install(&owner, &mut device, &owner.issuer.list_claims(ListMode::Revoked, 1, &[])).expect("2.04");
    let own = owner.issuer.certify(&mut device);
    let anchor = owner.issuer.certificate(&owner.issuer.certificate_claims(owner.issuer.public().cose_key()));
    for certificate in [own, anchor] {
        let answer = device.present(&certificate);
        assert_eq!(answer.refused("4.00"), ("certificate rejected", Some("cnf must be another device's key")));
    }
    let claims = owner.issuer.certificate_claims(other(1).key.public().cose_key());
    let odd = DeviceCertificateClaims { key: with_other_y(claims.key), ..claims };
    device.present(&owner.issuer.certificate(&odd)).refused("4.00");
}

/// Wherever the power fails.
#[test]
fn a_list_is_there_whole_or_the_one_before_is() {
    let (owner, mut device) = Owner::of_new_device(1);
    let (old, new) = ([[1; 32], [2; 32]], [[3; 32]; 40]);
    install(&owner, &mut device, &owner.issuer.list_claims(ListMode::Members, 1, &old)).expect("2.04");
    let before = device.flash.bytes();
    let (mut seen, mut cuts) = ([0; 2], 0);
    for bytes in (0..).step_by(53) {
        device.flash.overwrite(|flash| flash.copy_from_slice(&before));
        device.restart();
        let list = owner.issuer.sign_list(&owner.issuer.list_claims(ListMode::Members, 2, &new));
        let mut session = owner.visit(&mut device);
        device.flash.cut_power_after(bytes);
        let answered = send_in_blocks(&mut session, &mut device, &list).code() == "2.04";
        let was_cut = device.flash.restore_power();
        device.restart();
        let held = view(owner.visit(&mut device).ask(&mut device, &get("/comm/peers")).expect("2.05"));
        match held.version {
            Some(1) => assert_eq!((held.held, answered), (2, false)),
            Some(2) => assert_eq!(held.held, 40),
            other => panic!("{other:?}"),
        }
        seen[usize::from(held.version == Some(2))] += 1;
        if !was_cut {
            assert!(answered);
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 30 && seen[0] > 10 && seen[1] > 0, "{cuts} cuts, {seen:?}");
}
