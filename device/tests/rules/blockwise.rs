//! Bodies in blocks (RFC 7959), inside OSCORE.

use cbor_schemas::{DeviceInfo, SlotState};
use coap_numbers::option::{BLOCK1, BLOCK2, ETAG, REQUEST_TAG, SIZE1};
use device::BODY_LEN;

use crate::common::{NETWORK, Owner, Request, Session, TestDevice, Visitor, get, post, put};

/// The requests that carry `body` to `path` in blocks of `size` bytes.
fn blocks(path: &str, body: &[u8], size: u32) -> Vec<Request> {
    let chunks: Vec<&[u8]> = body.chunks(size as usize).collect();
    let block = |(number, chunk): (usize, &&[u8])| {
        put(path, chunk).block(BLOCK1, number as u32, number + 1 < chunks.len(), size)
    };
    chunks.iter().enumerate().map(block).collect()
}

/// A stranger that is about to claim, and the body of its claim.
fn claimant() -> (TestDevice, Session, Vec<u8>) {
    let mut device = TestDevice::new();
    let body = Owner::new(1).slot_request(&mut device);
    let session = Visitor::stranger(&mut device).connect(&mut device);
    (device, session, body)
}

#[test]
fn a_claim_in_blocks_is_a_claim() {
    let expected = Owner::new(1).claim(&mut TestDevice::new());
    for size in [16, 64, 256, 1024] {
        let (mut device, mut session, body) = claimant();
        let requests = blocks("/comm/owner", &body, size);
        assert_eq!(requests.len(), body.len().div_ceil(size as usize));
        let (last, first) = requests.split_last().unwrap();
        for (number, request) in first.iter().enumerate() {
            let answer = session.ask(&mut device, request);
            let block = (number as u32) << 4 | 8 | (size.ilog2() - 4);
            assert_eq!(answer.expect("2.31").uint(BLOCK1), Some(block));
            assert_eq!(device.info().owner, SlotState::Empty);
        }
        let answer = session.ask(&mut device, last);
        assert_eq!(answer.expect("2.04").uint(BLOCK1), Some((first.len() as u32) << 4 | (size.ilog2() - 4)));
        assert_eq!(cbor_schemas::Receipt::decode(answer.payload()), Ok(expected));
    }
}

#[test]
fn a_body_that_is_refused_is_refused_with_its_last_block() {
    let (mut device, mut session, mut body) = claimant();
    *body.last_mut().unwrap() ^= 1;
    for request in blocks("/comm/owner", &body, 256) {
        let answer = session.ask(&mut device, &request);
        if answer.code() != "2.31" {
            answer.refused("4.00");
        }
    }
    assert_eq!(device.info().owner, SlotState::Empty);
}

#[test]
fn blocks_come_in_order() {
    let (mut device, mut session, body) = claimant();
    let requests = blocks("/comm/owner", &body, 64);
    let incomplete = |device: &mut TestDevice, session: &mut Session, request: &Request| {
        assert_eq!(session.ask(device, request).refused("4.08").1, Some("start over with block 0"));
    };
    incomplete(&mut device, &mut session, &requests[1]);
    session.ask(&mut device, &requests[0]).expect("2.31");
    incomplete(&mut device, &mut session, &requests[2]);
    session.ask(&mut device, &requests[1]).expect("2.31");
    incomplete(&mut device, &mut session, &requests[1]);
    // The same place in blocks of another size is as good; on another path it is another body.
    incomplete(&mut device, &mut session, &post("/comm/identify", &body[128..192]).block(BLOCK1, 2, true, 64));
    for request in &blocks("/comm/owner", &body, 32)[4..6] {
        session.ask(&mut device, request).expect("2.31");
    }
    for request in &requests[3..requests.len() - 1] {
        session.ask(&mut device, request).expect("2.31");
    }
    session.ask(&mut device, requests.last().unwrap()).expect("2.04");
}

#[test]
fn bodies_do_not_mix() {
    let (mut device, mut one, body) = claimant();
    let mut two = Visitor::stranger(&mut device).connect(&mut device);
    let requests = blocks("/comm/owner", &body, 64);
    one.ask(&mut device, &requests[0]).expect("2.31");
    two.ask(&mut device, &requests[1]).refused("4.08");
    let tagged = |request: &Request| request.clone().option(REQUEST_TAG, &[7]);
    one.ask(&mut device, &tagged(&requests[1])).refused("4.08");
    one.ask(&mut device, &requests[1]).expect("2.31");
    one.ask(&mut device, &tagged(&requests[0])).expect("2.31");
    one.ask(&mut device, &requests[2]).refused("4.08");
    one.ask(&mut device, &tagged(&requests[1])).expect("2.31");
}

#[test]
fn a_block_that_comes_again_is_answered_again() {
    let (mut device, mut session, body) = claimant();
    for request in blocks("/comm/owner", &body, 256) {
        let (datagram, _) = session.protect(&mut device, &request);
        let first = device.receive(session.from, &datagram).unwrap();
        assert_eq!(device.receive(session.from, &datagram), Some(first));
    }
    assert_eq!((device.info().owner, device.info().claim_counter), (SlotState::Certified, 1));
}

#[test]
fn a_body_that_is_too_large_is_refused_as_soon_as_that_is_known() {
    let (mut device, mut session, _) = claimant();
    let announced = put("/comm/owner", &[0; 64]).block(BLOCK1, 0, true, 64).uint(SIZE1, BODY_LEN as u32 + 1);
    let answer = session.ask(&mut device, &announced);
    answer.refused("4.13");
    assert_eq!(answer.uint(SIZE1), Some(BODY_LEN as u32));

    let requests = blocks("/comm/owner", &[0; BODY_LEN + 1], 512);
    let (last, first) = requests.split_last().unwrap();
    for request in first {
        session.ask(&mut device, request).expect("2.31");
    }
    let answer = session.ask(&mut device, last);
    answer.refused("4.13");
    assert_eq!(answer.uint(SIZE1), Some(BODY_LEN as u32));
}

#[test]
fn who_may_not_write_sends_no_block_and_disturbs_nobody_who_may() {
    let (owner, mut device) = Owner::of_new_device(1);
    let body = owner.slot_request(&mut device);
    let requests = blocks("/comm/owner", &body, 64);
    let (last, first) = requests.split_last().unwrap();
    let mut session = owner.visit(&mut device);
    let mut stranger = Visitor { from: NETWORK, ..Visitor::stranger(&mut device) }.connect(&mut device);
    for request in first {
        session.ask(&mut device, request).expect("2.31");
        // It may come with a voucher, but only in one piece.
        stranger.ask(&mut device, &requests[0]).refused("4.02");
        stranger.ask(&mut device, &post("/comm/identify", &[0; 64]).block(BLOCK1, 0, true, 64)).refused("4.09");
        // What anyone may ask comes at once: a token is smaller than a datagram, and GET has no body.
        for request in [post("/authz-info", &[0; 64]), get("/comm"), get("/.well-known/core")] {
            let request = request.block(BLOCK1, 0, true, 64);
            stranger.ask(&mut device, &request).refused("4.02");
            device.ask(&request).refused("4.02");
        }
    }
    session.ask(&mut device, last).expect("2.04");
}

#[test]
fn without_security_there_are_no_blocks() {
    let (owner, mut device) = Owner::of_new_device(1);
    let token = owner.issuer.token(&owner.token_claims());
    let mut session = owner.visit(&mut device);
    let body = owner.slot_request(&mut device);
    let requests = blocks("/comm/owner", &body, 64);
    session.ask(&mut device, &requests[0]).expect("2.31");

    device.now += 1000;
    device.ask(&post("/authz-info", &token[..64]).block(BLOCK1, 0, true, 64)).refused("4.02");
    device.ask(&post("/authz-info", &token[64..]).block(BLOCK1, 1, false, 64)).refused("4.02");
    device.ask(&post("/.well-known/edhoc", &[0xf5; 16]).block(BLOCK1, 0, true, 16)).refused("4.02");
    // The only block is all of the body.
    let answer = device.ask(&post("/authz-info", &token).block(BLOCK1, 0, false, 1024));
    assert_eq!(answer.expect("2.01").uint(BLOCK1), Some(6));
    // Nothing of this disturbs the body that a session sends.
    session.ask(&mut device, &requests[1]).expect("2.31");
}

#[test]
fn an_answer_comes_in_the_blocks_that_are_asked_for() {
    let mut device = TestDevice::new();
    let whole = device.ask(&get("/comm")).payload().to_vec();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    for size in [16, 64, 128, 1024] {
        let (mut gathered, mut etags) = (Vec::new(), Vec::new());
        for number in 0.. {
            let request = get("/comm").block(BLOCK2, number, false, size);
            let answer = if size == 128 { device.ask(&request) } else { session.ask(&mut device, &request) };
            gathered.extend_from_slice(answer.expect("2.05").payload());
            etags.push(answer.option(ETAG).unwrap().to_vec());
            let block = answer.uint(BLOCK2).unwrap();
            assert_eq!((block >> 4, block & 7), (number, size.ilog2() - 4));
            if block & 8 == 0 {
                break;
            }
            assert_eq!(answer.payload().len(), size as usize);
        }
        assert_eq!(gathered, whole);
        assert!(etags.iter().all(|etag| *etag == etags[0]));
        assert_eq!(etags.len(), whole.len().div_ceil(size as usize));
    }
    assert!(DeviceInfo::decode(&whole).is_ok());
}

#[test]
fn the_etag_changes_with_the_body() {
    let (owner, mut device) = (Owner::new(1), TestDevice::new());
    let request = get("/comm").block(BLOCK2, 0, false, 64);
    let before = device.ask(&request).option(ETAG).unwrap().to_vec();
    owner.claim(&mut device);
    assert_ne!(device.ask(&request).option(ETAG).unwrap(), before);
}

#[test]
fn blocks_that_there_are_not() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let reserved_size = 7;
    for (request, code) in [
        (get("/comm").block(BLOCK2, 100, false, 64), "4.00"),
        (get("/comm").uint(BLOCK2, reserved_size), "4.00"),
        (get("/comm").option(BLOCK2, &[1, 2, 3, 4]), "4.02"),
        (put("/comm/owner", &[0; 16]).uint(BLOCK1, reserved_size), "4.00"),
        (put("/comm/owner", &[0; 15]).block(BLOCK1, 0, true, 16), "4.00"),
        (put("/comm/owner", &[0; 17]).block(BLOCK1, 0, false, 16), "4.00"),
    ] {
        session.ask(&mut device, &request).refused(code);
    }
}

#[test]
fn nothing_is_done_for_the_sake_of_a_second_block_of_its_answer() {
    let mut device = TestDevice::new();
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    for number in [1, 9] {
        let request = post("/comm/identify", &[]).block(BLOCK2, number, false, 16);
        device.ask(&request).refused("4.02");
        session.ask(&mut device, &request).refused("4.02");
    }
    assert_eq!(device.blinks(), 0);
    session.ask(&mut device, &post("/comm/identify", &[]).block(BLOCK2, 0, false, 16)).expect("2.04");
    // A receipt comes whole, since asking for the rest would be another write.
    let body = Owner::new(1).slot_request(&mut device);
    let answer = session.ask(&mut device, &put("/comm/owner", &body).block(BLOCK2, 0, false, 16));
    assert_eq!(answer.expect("2.04").option(BLOCK2), None);
    assert!(cbor_schemas::Receipt::decode(answer.payload()).is_ok());
}
