//! Thousands of handshakes in which one message, or the plaintext inside it, is changed at random.
//!
//! Nothing panics, every error can be told to the peer, and only what was not changed is accepted.

mod edhoc_common;

use edhoc_common::*;
use edhoc_oscore::edhoc::{
    ConnId, Error, Established, IdCred, Initiator, Message, Pending, Responder, Transfer, parse_error,
};
use edhoc_oscore::key::{PrivateKey, PublicKey};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};

const C_R: u8 = 0x27;

/// Runs a property on random changes, the same in each run.
fn for_changes(cases: u32, property: impl Fn(&[Change]) -> TestCaseResult) {
    let config = ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(9528),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config).run(&changes(), |changes| property(&changes)).unwrap();
}

/// One change of a message.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
    Append(Vec<u8>),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    // Heads that announce much, or are not the shortest.
    let byte = prop_oneof![Just(0xff), Just(0x58), Just(0x38), Just(0xb8), Just(0x5f), any::<u8>()];
    let change = prop_oneof![
        4 => (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Change::Set(at, byte)),
        4 => (any::<Index>(), 0u32..8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        2 => (any::<Index>(), byte).prop_map(|(at, byte)| Change::Insert(at, byte)),
        2 => any::<Index>().prop_map(Change::Remove),
        1 => any::<Index>().prop_map(Change::Truncate),
        1 => prop::collection::vec(any::<u8>(), 1..150).prop_map(Change::Append),
    ];
    prop::collection::vec(change, 1..4)
}

fn changed(message: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for change in changes {
        let length = bytes.len().max(1);
        match change {
            Change::Append(more) => bytes.extend(more),
            Change::Insert(at, byte) => bytes.insert(at.index(bytes.len() + 1), *byte),
            _ if bytes.is_empty() => {}
            Change::Set(at, byte) => bytes[at.index(length)] = *byte,
            Change::Flip(at, bits) => bytes[at.index(length)] ^= bits,
            Change::Remove(at) => drop(bytes.remove(at.index(length))),
            Change::Truncate(at) => bytes.truncate(at.index(length)),
        }
    }
    bytes
}

/// Two parties. Each state is made anew as often as it is needed, from the same random numbers.
struct Parties {
    initiator: PrivateKey,
    responder: PrivateKey,
}

impl Parties {
    fn new() -> Self {
        let mut rng = TestRng::new(5);
        Self { initiator: rng.key(), responder: rng.key() }
    }

    fn initiate(&self) -> (Initiator, Message) {
        Initiator::start(&self.initiator, ConnId::new(0x0e).unwrap(), &mut TestRng::new(6)).unwrap()
    }

    fn respond(&self, message_1: &[u8]) -> Result<(Responder, Message), Error> {
        Responder::start(message_1, &self.responder, ConnId::new(C_R).unwrap(), &mut TestRng::new(7))
    }

    /// Whatever the kid, the right key is found.
    fn finish_initiator(&self, state: Initiator, message_2: &[u8]) -> Result<(Pending, Message), Error> {
        let key = *self.responder.public();
        state.finish(message_2, Transfer::ByKid, |id_cred| match id_cred {
            IdCred::Kid(_) => Some(key),
            IdCred::Ccs(key, _) => Some(key),
        })
    }

    fn finish_responder(&self, state: Responder, message_3: &[u8]) -> Result<Established, Error> {
        state.finish(message_3, |_| Some(*self.initiator.public()), true)
    }
}

/// By kid, by our CCS and by a foreign one, with and without EAD.
fn claims(key: &PublicKey) -> [(Claim, &'static [u8]); 4] {
    [
        (Claim::of(key), &[]),
        (Claim::of(key), &[1, 0x43, 0, 0, 0, 0x18, 26]),
        (Claim::by_value(&key.ccs()), &[]),
        (Claim::by_value(&foreign_ccs(Some("test"), Some(&[1]), key, true)), &[]),
    ]
}

fn check<T>(result: Result<T, Error>, unchanged: bool) -> TestCaseResult {
    if let Err(error) = &result {
        prop_assert!(parse_error(&error.message()).is_some());
    }
    prop_assert_eq!(result.is_ok(), unchanged);
    Ok(())
}

/// A changed message_1 may be a message_1 too. Then it is the initiator that notices.
#[test]
fn message_1() {
    let parties = Parties::new();
    for_changes(600, |changes| {
        let (initiator, message_1) = parties.initiate();
        let received = changed(&message_1, changes);
        let answer = parties.respond(&received);
        let end = answer.and_then(|(_, message_2)| parties.finish_initiator(initiator, &message_2));
        check(end, received == message_1.as_slice())
    });
}

#[test]
fn message_2() {
    let parties = Parties::new();
    let (_, message_2) = parties.respond(&parties.initiate().1).unwrap();
    for_changes(800, |changes| {
        let received = changed(&message_2, changes);
        check(parties.finish_initiator(parties.initiate().0, &received), received == message_2.as_slice())
    });
}

#[test]
fn plaintext_2() {
    let parties = Parties::new();
    let foreign = ForeignResponder::new(&parties.initiate().1, &mut TestRng::new(8));
    for (claim, ead_2) in claims(parties.responder.public()) {
        let plaintext_2 = foreign.plaintext_2(&parties.responder, &[C_R], &claim, ead_2);
        for_changes(250, |changes| {
            let sent = changed(&plaintext_2, changes);
            let end = parties.finish_initiator(parties.initiate().0, &foreign.message_2(&sent));
            check(end, sent == plaintext_2)
        });
    }
}

#[test]
fn message_3() {
    let parties = Parties::new();
    let (initiator, message_1) = parties.initiate();
    let (_, message_2) = parties.respond(&message_1).unwrap();
    let (_, message_3) = parties.finish_initiator(initiator, &message_2).unwrap();
    for_changes(600, |changes| {
        let received = changed(&message_3, changes);
        let (responder, _) = parties.respond(&message_1).unwrap();
        check(parties.finish_responder(responder, &received), received == message_3.as_slice())
    });
}

#[test]
fn plaintext_3() {
    let parties = Parties::new();
    let foreign = ForeignInitiator::new(&[0x0e], &[], &mut TestRng::new(8));
    let (_, message_2) = parties.respond(&foreign.message_1).unwrap();
    let after = foreign.read_message_2(&message_2, parties.responder.public());
    for (claim, ead_3) in claims(parties.initiator.public()) {
        let plaintext_3 = after.plaintext_3(&parties.initiator, &claim, ead_3);
        for_changes(250, |changes| {
            let sent = changed(&plaintext_3, changes);
            let (responder, _) = parties.respond(&foreign.message_1).unwrap();
            check(parties.finish_responder(responder, &after.message_3(&sent)), sent == plaintext_3)
        });
    }
}

#[test]
fn message_4() {
    let parties = Parties::new();
    let (initiator, message_1) = parties.initiate();
    let (responder, message_2) = parties.respond(&message_1).unwrap();
    let (_, message_3) = parties.finish_initiator(initiator, &message_2).unwrap();
    let message_4 = parties.finish_responder(responder, &message_3).unwrap().message_4.unwrap();
    for_changes(300, |changes| {
        let received = changed(&message_4, changes);
        let (pending, _) = parties.finish_initiator(parties.initiate().0, &message_2).unwrap();
        check(pending.confirm(Some(&received)), received == message_4.as_slice())
    });
}
