//! Whatever arrives: no panic, nothing written, and the device goes on serving.

use std::cell::RefCell;

use coap_lite::Packet;
use device::{DATAGRAM_LEN, insides::RESOURCES};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestRunner};

use crate::common::{CABLE, NETWORK, Owner, Request, Session, TestDevice, Visitor, get, post, put};

/// An owned device with a session of its owner, over many cases of garbage.
struct Target {
    device: TestDevice,
    session: Session,
    flash: Vec<u8>,
    info: cbor_schemas::DeviceInfo<'static>,
}

impl Target {
    fn new() -> Self {
        let (owner, mut device) = Owner::of_new_device(1);
        let session = owner.visit(&mut device);
        let (flash, info) = (device.flash.bytes(), device.info());
        Target { device, session, flash, info }
    }

    /// From somebody else on the cable, and from elsewhere.
    fn throw(&mut self, datagram: &[u8]) {
        for from in [CABLE, NETWORK] {
            if let Some(answer) = self.device.receive(from, datagram) {
                assert!(answer.len() <= DATAGRAM_LEN);
                Packet::from_bytes(&answer).expect("what is answered is well-formed");
            }
        }
        self.check();
    }

    fn check(&mut self) {
        assert_eq!(self.device.flash.bytes(), self.flash);
        assert_eq!((self.device.info(), self.device.blinks()), (self.info, 0));
        self.session.ask(&mut self.device, &get("/comm/peers")).expect("2.05");
    }
}

fn run<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, test: impl Fn(T)) {
    let tested = |value| {
        test(value);
        Ok(())
    };
    // Failures are told by panics, and are the same in each run.
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    runner.run(&strategy, tested).unwrap();
}

#[test]
fn random_bytes() {
    let target = RefCell::new(Target::new());
    run(vec(any::<u8>(), 0..1400), |bytes| target.borrow_mut().throw(&bytes));
}

#[test]
fn messages_of_random_options() {
    let target = RefCell::new(Target::new());
    let options = vec((prop_oneof![0..40_u16, 250..310_u16, any::<u16>()], vec(any::<u8>(), 0..20)), 0..6);
    let messages = (any::<u8>(), any::<Index>(), options, vec(any::<u8>(), 0..200), any::<bool>());
    run(messages, |(method, path, options, body, confirmable)| {
        let mut request = Request::new(method & 0x1f, path.get(RESOURCES).path, &body);
        for (number, value) in options {
            request = request.option(number, &value);
        }
        request = if confirmable { request } else { request.non_confirmable() };
        // An Empty message would not be a request.
        if method & 0x1f != 0 {
            let mut target = target.borrow_mut();
            let datagram = target.device.datagram(&request.0);
            target.throw(&datagram);
        }
    });
}

/// What happens on a bad line.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Double,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        any::<Index>().prop_map(Change::Cut),
        (any::<Index>(), vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, len)| Change::Remove(from, len)),
        Just(Change::Double),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len() + 1;
        match self {
            Change::Flip(at, bit) if !bytes.is_empty() => bytes[at.index(len - 1)] ^= 1 << bit,
            Change::Flip(..) => {}
            Change::Cut(at) => bytes.truncate(at.index(len)),
            Change::Insert(at, more) => drop(bytes.splice(at.index(len)..at.index(len), more.iter().copied())),
            Change::Remove(from, count) => {
                let from = from.index(len);
                bytes.drain(from..from + count.index(len - from));
            }
            Change::Double => bytes.extend_from_within(..),
        }
    }
}

#[test]
fn changed_messages() {
    let mut target = Target::new();
    let owner = Owner::new(1);
    let device = &mut target.device;
    let stranger = Visitor::stranger(device);
    let begun = stranger.begin(device);
    let mut requests =
        vec![get("/comm"), get("/.well-known/core"), begun.message_3_alone(), stranger.message_1(device).1];
    requests.push(post("/authz-info", &owner.issuer.token(&owner.token_claims())));
    requests.push(put("/comm/owner", &owner.slot_request(device)));
    let mut messages: Vec<Vec<u8>> = requests.iter().map(|request| device.datagram(&request.0)).collect();
    messages.push(begun.combined(device, &get("/comm/owner")).1);
    messages.push(target.session.protect(device, &get("/comm")).0);
    let target = RefCell::new(target);
    run((any::<Index>(), vec(change(), 1..4)), |(message, changes)| {
        let mut message = message.get(&messages).clone();
        changes.iter().for_each(|change| change.apply(&mut message));
        target.borrow_mut().throw(&message);
    });
}

#[test]
fn changed_messages_3() {
    let mut target = Target::new();
    let stranger = Visitor::stranger(&mut target.device);
    let target = RefCell::new(target);
    run((any::<bool>(), vec(change(), 1..3)), |(combined, changes)| {
        let mut target = target.borrow_mut();
        let begun = stranger.begin(&mut target.device);
        let mut packet = match combined {
            true => Packet::from_bytes(&begun.combined(&mut target.device, &get("/comm")).1).unwrap(),
            false => begun.message_3_alone().0,
        };
        changes.iter().for_each(|change| change.apply(&mut packet.payload));
        let datagram = target.device.datagram(&packet);
        target.throw(&datagram);
    });
}

#[test]
fn a_stranger_with_a_session_is_as_harmless() {
    let mut target = Target::new();
    let stranger = RefCell::new(Visitor::stranger(&mut target.device).connect(&mut target.device));
    let body = Owner::new(1).slot_request(&mut target.device);
    let target = RefCell::new(target);
    let options = vec((prop_oneof![1..40_u16, 250..310_u16], vec(any::<u8>(), 0..5)), 0..4);
    run((any::<u8>(), any::<Index>(), options, vec(change(), 0..3)), |(method, path, options, changes)| {
        let mut body = body.clone();
        changes.iter().for_each(|change| change.apply(&mut body));
        body.truncate(900);
        let mut request = Request::new(method & 7, path.get(RESOURCES).path, &body);
        for (number, value) in options.iter().filter(|(number, _)| !is_refused_by_oscore(*number)) {
            request = request.option(*number, value);
        }
        let mut target = target.borrow_mut();
        let (datagram, correlation) = stranger.borrow_mut().protect(&mut target.device, &request);
        let answer = target.device.receive(CABLE, &datagram).expect("an answer");
        // Nothing but outer options that make no sense is refused outside.
        if !options.iter().any(|(number, value)| is_refused_outside(*number, value)) {
            stranger.borrow().open(&answer, &correlation).expect("a protected answer");
        }
        target.check();
    });
}

fn is_refused_outside(number: u16, value: &[u8]) -> bool {
    use coap_numbers::option::{HOP_LIMIT, PROXY_SCHEME, URI_HOST, URI_PORT};
    number == PROXY_SCHEME
        || matches!(number, HOP_LIMIT | URI_HOST | URI_PORT) && !protocol::coap::is_option_length(number, value.len())
}

fn is_refused_by_oscore(number: u16) -> bool {
    use coap_numbers::option::{EDHOC, OBSERVE, OSCORE, PROXY_URI};
    matches!(number, EDHOC | OBSERVE | OSCORE | PROXY_URI)
}

#[test]
fn datagrams_that_are_longer_than_may_be() {
    let mut target = Target::new();
    for len in [DATAGRAM_LEN, DATAGRAM_LEN + 1, 2000, 65_535] {
        let mut datagram = target.device.datagram(&get("/comm").0);
        datagram.push(0xff);
        datagram.resize(len, 0x55);
        target.throw(&datagram);
        let (mut datagram, _) = target.session.protect(&mut target.device, &get("/comm"));
        datagram.resize(len, 0x55);
        target.throw(&datagram);
    }
}

#[test]
fn no_bit_of_a_claim_is_without_meaning() {
    let mut device = TestDevice::new();
    let body = Owner::new(1).slot_request(&mut device);
    let mut session = Visitor::stranger(&mut device).connect(&mut device);
    let before = device.flash.bytes();
    for bit in 0..body.len() * 8 {
        let mut changed = body.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let answer = session.ask(&mut device, &put("/comm/owner", &changed));
        answer.refused(if answer.code() == "5.01" { "5.01" } else { "4.00" });
    }
    assert_eq!(device.flash.bytes(), before);
    session.ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
}

#[test]
fn no_bit_of_a_token_is_without_meaning() {
    let (owner, mut device) = Owner::of_new_device(1);
    let token = owner.issuer.token(&owner.token_claims());
    for bit in 0..token.len() * 8 {
        let mut changed = token.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let answer = device.present(&changed);
        answer.refused(if answer.code() == "4.01" { "4.01" } else { "4.00" });
    }
    let begun = owner.station.begin(&mut device);
    device.ask(&begun.message_3_alone()).edhoc_error();
    device.present(&token).expect("2.01");
}
