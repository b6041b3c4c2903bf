//! What a stranger can send, in both roles, without a key that anybody trusts: valid messages, each with one change.
//!
//! lakers, in the version that Cargo.toml names, was not made for such input, so it never gets there: what arrives is parsed
//! before it. Here each change is an error that the peer can be told, or makes no difference.

mod edhoc_common;

use edhoc_common::*;
use edhoc_oscore::edhoc::{
    ConnId, Error, Established, IdCred, Initiator, MAX_CCS, Message, Pending, Responder, Transfer, parse_error,
};
use edhoc_oscore::key::{PrivateKey, PublicKey};
use p256::AffinePoint;
use p256::elliptic_curve::{point::DecompressPoint, sec1::ToEncodedPoint};
use rand_core::{CryptoRng, RngCore};

const C_I: u8 = 0x0e;
const C_R: u8 = 0x27;
/// Longer than what fits into one byte, and than any buffer.
const TOO_LONG: [usize; 3] = [256, 400, 1200];

fn conn_id(byte: u8) -> ConnId {
    ConnId::new(byte).unwrap()
}

/// A device, and the stranger who talks to it.
struct Device {
    rng: TestRng,
    key: PrivateKey,
    stranger: PrivateKey,
}

impl Device {
    fn new() -> Self {
        let mut rng = TestRng::new(2);
        Self { key: rng.key(), stranger: rng.key(), rng }
    }

    fn start(&mut self, message_1: &[u8]) -> Result<(Responder, Message), Error> {
        Responder::start(message_1, &self.key, conn_id(C_R), &mut self.rng)
    }

    /// The device after an honest message_1.
    fn waiting(&mut self) -> (Responder, AfterMessage2) {
        let initiator = ForeignInitiator::new(&[C_I], &[], &mut self.rng);
        let (responder, message_2) = self.start(&initiator.message_1).unwrap();
        (responder, initiator.read_message_2(&message_2, self.key.public()))
    }

    /// What it says to this plaintext_3. It takes any kid for the stranger's.
    fn answer_to(&mut self, plaintext_3: &[u8]) -> Result<Established, Error> {
        let (responder, after) = self.waiting();
        self.finish(responder, &after.message_3(plaintext_3))
    }

    fn finish(&self, responder: Responder, message_3: &[u8]) -> Result<Established, Error> {
        sendable(responder.finish(message_3, |_| Some(*self.stranger.public()), true))
    }
}

/// A commissioner, and the stranger who answers it.
struct Station {
    rng: TestRng,
    key: PrivateKey,
    stranger: PrivateKey,
}

impl Station {
    fn new() -> Self {
        let mut rng = TestRng::new(3);
        Self { key: rng.key(), stranger: rng.key(), rng }
    }

    fn waiting(&mut self) -> (Initiator, ForeignResponder) {
        let (initiator, message_1) = Initiator::start(&self.key, conn_id(C_I), &mut self.rng).unwrap();
        (initiator, ForeignResponder::new(&message_1, &mut self.rng))
    }

    /// What it says to this plaintext_2. It takes any kid for the stranger's, and approves of any key.
    fn answer_to(&mut self, plaintext_2: &[u8]) -> Result<(Pending, Message), Error> {
        let (initiator, foreign) = self.waiting();
        self.finish(initiator, &foreign.message_2(plaintext_2))
    }

    fn finish(&self, initiator: Initiator, message_2: &[u8]) -> Result<(Pending, Message), Error> {
        sendable(initiator.finish(message_2, Transfer::ByValue, |id_cred| match id_cred {
            IdCred::Kid(_) => Some(*self.stranger.public()),
            IdCred::Ccs(key, _) => Some(key),
        }))
    }

    fn valid_message_2(&mut self) -> Vec<u8> {
        let (_, foreign) = self.waiting();
        let claim = Claim::of(self.stranger.public());
        foreign.message_2(&foreign.plaintext_2(&self.stranger, &[C_R], &claim, &[]))
    }

    fn after_message_3(&mut self) -> Pending {
        let (initiator, foreign) = self.waiting();
        let claim = Claim::of(self.stranger.public());
        let message_2 = foreign.message_2(&foreign.plaintext_2(&self.stranger, &[C_R], &claim, &[]));
        self.finish(initiator, &message_2).unwrap().0
    }
}

/// Each error has an error message.
fn sendable<T>(result: Result<T, Error>) -> Result<T, Error> {
    result.inspect_err(|error| assert!(parse_error(&error.message()).is_some()))
}

/// Changes of a message that is one byte string, after which it is none, or none of a length that makes sense, and the error.
fn not_one_byte_string(valid: &[u8]) -> Vec<(Vec<u8>, Error)> {
    let changed = |change: fn(&mut Head)| with(valid, 0, change);
    let mut messages = vec![
        changed(|string| string.is_long = true),
        changed(|string| string.is_endless = true),
        changed(|string| string.major = ARRAY),
        changed(|string| string.major = TEXT),
        changed(|string| string.argument += 1),
        changed(|string| string.argument = u64::MAX),
        [valid, &[0]].concat(),
        [valid, valid].concat(),
    ];
    messages.extend((0..valid.len()).map(|length| valid[..length].to_vec()));
    // No room for a tag, or for a public key.
    let resized = |length| with(valid, 0, |string| string.resize(length));
    messages.extend((0..8).map(resized));
    let too_long = TOO_LONG.map(|length| (resized(length), Error::MessageTooLong));
    messages.into_iter().map(|message| (message, Error::Malformed)).chain(too_long).collect()
}

// message_1

#[test]
fn message_1_is_checked_before_anything_is_spent_on_it() {
    struct Untouched;
    impl RngCore for Untouched {
        fn next_u32(&mut self) -> u32 {
            panic!("a random number was drawn")
        }
        fn next_u64(&mut self) -> u64 {
            panic!("a random number was drawn")
        }
        fn fill_bytes(&mut self, _: &mut [u8]) {
            panic!("a random number was drawn")
        }
        fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), rand_core::Error> {
            panic!("a random number was drawn")
        }
    }
    impl CryptoRng for Untouched {}

    let mut rng = TestRng::new(4);
    let key = rng.key();
    let valid = ForeignInitiator::new(&[C_I], &[], &mut rng).message_1;
    let [method, suites, g_x, c_i] = [0, 1, 2, 3];
    let changed = |at: usize, change: &dyn Fn(&mut Head)| with(&valid, at, |head| change(head));
    let mut cases = vec![
        (changed(g_x, &|x| x.contents = off_curve().to_vec()), Error::Point),
        (changed(g_x, &|x| x.resize(31)), Error::Malformed),
        (changed(g_x, &|x| x.resize(33)), Error::Malformed),
        (changed(method, &|method| method.is_long = true), Error::Malformed),
        (changed(method, &|method| method.major = NEGATIVE), Error::Method),
        (changed(suites, &|suite| suite.is_long = true), Error::Malformed),
        (changed(suites, &|suite| *suite = Head::new(ARRAY, u64::MAX)), Error::Malformed),
        (put(&valid, suites, &[Head::new(ARRAY, 1), Head::new(UNSIGNED, 2)]), Error::Malformed),
        (put(&valid, suites, &[Head::new(ARRAY, 2), Head::new(UNSIGNED, 2), Head::new(UNSIGNED, 3)]), Error::Suite),
        // A private suite, and the longer G_X of another curve.
        (with(&changed(suites, &|suite| *suite = Head::new(NEGATIVE, 23)), g_x, |x| x.resize(56)), Error::Suite),
        (put(&valid, c_i, &[]), Error::Malformed),
        // What has a shorter form; an integer that takes two bytes; a string that is not there.
        (changed(c_i, &|id| *id = Head::string(&[C_I])), Error::Malformed),
        (changed(c_i, &|id| id.is_long = true), Error::Malformed),
        (changed(c_i, &|id| id.argument = 24), Error::Malformed),
        (changed(c_i, &|id| id.major = BYTES), Error::Malformed),
    ];
    cases.extend((0..3).map(|other| (changed(method, &|method| method.argument = other), Error::Method)));
    cases.extend([0, 1, 3, 6, 24].map(|other| (changed(suites, &|suite| suite.argument = other), Error::Suite)));
    cases.extend(
        (8..40)
            .chain(TOO_LONG)
            .map(|length| (changed(c_i, &|id| *id = Head::string(&vec![0xff; length])), Error::ConnectionId)),
    );
    cases.extend((0..valid.len()).map(|length| (valid[..length].to_vec(), Error::Malformed)));
    cases.extend(odd_ead().map(|(ead_1, error)| ([&valid[..], &ead_1].concat(), error)));
    for (message_1, error) in cases {
        let refused = sendable(Responder::start(&message_1, &key, conn_id(C_R), &mut Untouched));
        assert_eq!(refused.unwrap_err(), error, "{message_1:02x?}");
    }
}

#[test]
fn message_1_may_offer_other_suites_and_any_length_of_ead() {
    let mut device = Device::new();
    let valid = ForeignInitiator::new(&[C_I], &[], &mut device.rng).message_1;
    for others in [&[][..], &[6], &[0, 1, 3, 4, 5, 6, 7, 8, 9], &[24, 25]] {
        let suites = others.iter().chain(&[2]).map(|suite| Head::new(UNSIGNED, *suite));
        let array = [Head::new(ARRAY, others.len() as u64 + 1)].into_iter().chain(suites).collect::<Vec<_>>();
        let suites = if others.is_empty() { &array[1..] } else { &array[..] };
        assert!(device.start(&put(&valid, 1, suites)).is_ok(), "{others:?}");
    }
    for length in TOO_LONG {
        assert!(device.start(&[&valid[..], &ead_of(length)].concat()).is_ok(), "{length}");
    }
}

/// External authorization data that is critical, or none, and the error.
fn odd_ead() -> [(Vec<u8>, Error); 6] {
    let valid = ead_of(12);
    let padding = Head::new(UNSIGNED, 0).encoded();
    [
        (with(&valid, 0, |label| label.major = NEGATIVE), Error::CriticalEad),
        ([&padding[..], &with(&valid, 0, |label| *label = Head::new(NEGATIVE, 300))].concat(), Error::CriticalEad),
        (put(&valid, 0, &[]), Error::Malformed),
        (valid[..valid.len() - 1].to_vec(), Error::Malformed),
        (with(&valid, 1, |value| value.major = TEXT), Error::Malformed),
        (with(&valid, 1, |value| *value = Head::new(ARRAY, 1)), Error::Malformed),
    ]
}

// message_2

#[test]
fn message_2_that_is_not_one_byte_string() {
    let mut station = Station::new();
    let valid = station.valid_message_2();
    for (message_2, error) in not_one_byte_string(&valid) {
        let (initiator, _) = station.waiting();
        assert_eq!(station.finish(initiator, &message_2).unwrap_err(), error, "{message_2:02x?}");
    }
    for length in [31, 32, 33, 34] {
        let (initiator, _) = station.waiting();
        let message_2 = with(&valid, 0, |string| string.resize(length));
        assert!(station.finish(initiator, &message_2).is_err(), "{length}");
    }
}

#[test]
fn message_2_with_g_y_off_the_curve() {
    let mut station = Station::new();
    let (initiator, _) = station.waiting();
    let valid = station.valid_message_2();
    let message_2 = with(&valid, 0, |string| string.contents[..32].copy_from_slice(&off_curve()));
    assert_eq!(station.finish(initiator, &message_2).unwrap_err(), Error::Point);
}

/// message_2 has no tag: who is on the line changes the plaintext bit by bit, without any key.
#[test]
fn message_2_with_c_r_flipped_into_a_string() {
    let mut station = Station::new();
    for head in 0x40..=0x5f {
        let (initiator, foreign) = station.waiting();
        let claim = Claim::of(station.stranger.public());
        let mut message_2 = foreign.message_2(&foreign.plaintext_2(&station.stranger, &[C_R], &claim, &[]));
        message_2[2 + 32] ^= C_R ^ head;
        let error = station.finish(initiator, &message_2).unwrap_err();
        assert!(matches!(error, Error::ConnectionId | Error::Malformed), "{head:02x} {error:?}");
    }
}

#[test]
fn c_r_that_is_not_one_byte_or_equals_c_i() {
    let mut station = Station::new();
    let claim = Claim::of(station.stranger.public());
    let lengths = [0, 2, 7, 8, 23, 24, 40];
    for c_r in lengths.map(|length| bstr(&vec![0xff; length])).into_iter().chain([vec![0x41, 0xff], vec![C_I]]) {
        let (initiator, foreign) = station.waiting();
        let message_2 = foreign.message_2(&foreign.plaintext_2(&station.stranger, &c_r, &claim, &[]));
        assert_eq!(station.finish(initiator, &message_2).unwrap_err(), Error::ConnectionId, "{c_r:02x?}");
    }
}

// plaintext_2 and plaintext_3: what follows C_R is the same

/// Plaintexts without C_R, and the error.
fn odd_plaintexts(key: &PublicKey) -> Vec<(Vec<u8>, Error)> {
    let mac = bstr(&[0; 8]);
    let by_value = |ccs: &[u8]| [&Claim::by_value(ccs).compact, &mac[..]].concat();
    let by_kid = [&bstr(&key.kid()), &mac[..]].concat();
    let short = [&[C_R][..], &mac].concat(); // a kid of one byte
    let of_length = |length: usize| {
        let rest = foreign_ccs(Some(""), Some(&[1]), key, true).len();
        foreign_ccs(Some(&"s".repeat(length - rest - 1)), Some(&[1]), key, true)
    };
    assert_eq!(of_length(MAX_CCS + 1).len(), MAX_CCS + 1);
    // {14: {8: {1: {1: 2, 2: kid, -1: 1, -2: x, -3: y}}}}, head by head
    let [id_cred, label, ccs, parameters, key_type, kid, curve, x] = [0, 1, 2, 6, 7, 10, 11, 14];
    let valid = by_value(&key.ccs());
    let changed = |at: usize, change: fn(&mut Head)| with(&valid, at, change);
    let nested = |at: usize, head: Head| put(&valid, at, &vec![head; 60]);
    let mut cases = vec![
        // Sound, but for the MAC.
        (valid.clone(), Error::Authentication),
        (by_kid.clone(), Error::Authentication),
        (short.clone(), Error::Authentication),
        (changed(id_cred, |map| map.argument = 200), Error::CredentialType),
        (changed(id_cred, |map| map.is_endless = true), Error::CredentialType),
        (nested(id_cred, Head::new(ARRAY, 255)), Error::Malformed),
        (nested(id_cred, Head::new(TAG, 100)), Error::Malformed),
        (changed(label, |label| label.argument += 1), Error::CredentialType),
        (nested(ccs, Head::new(ARRAY, 255)), Error::Malformed),
        (changed(ccs, |map| map.argument = 2), Error::CredentialType),
        (changed(parameters, |map| map.is_long = true), Error::Malformed),
        (changed(parameters, |map| map.argument = 200), Error::CredentialType),
        (changed(key_type, |label| label.is_long = true), Error::CredentialType),
        (changed(key_type, |label| label.major = NEGATIVE), Error::CredentialType),
        (changed(curve, |label| label.is_long = true), Error::CredentialType),
        (changed(kid, |kid| kid.argument = 255), Error::Malformed),
        (changed(x, |x| x.contents = off_curve().to_vec()), Error::Point),
        (changed(x, |x| x.resize(31)), Error::CredentialType),
        (by_value(&of_length(MAX_CCS + 1)), Error::CredentialTooLong),
        (by_value(&of_length(150)), Error::CredentialTooLong),
        (with(&by_kid, 0, |kid| kid.resize(17)), Error::CredentialType),
        (with(&by_kid, 0, |kid| kid.resize(23)), Error::CredentialType),
        (with(&by_kid, 0, |kid| kid.is_long = true), Error::Malformed),
        (with(&by_kid, 0, |kid| *kid = Head::string(&[C_R])), Error::Malformed), // has a short form
        (with(&short, 1, |mac| mac.resize(7)), Error::Malformed),
        (with(&short, 1, |mac| mac.resize(9)), Error::Malformed),
    ];
    cases.extend((0..by_kid.len()).map(|length| (by_kid[..length].to_vec(), Error::Malformed)));
    cases.extend(odd_ead().map(|(ead, error)| ([&short[..], &ead].concat(), error)));
    cases
}

#[test]
fn odd_plaintext_3() {
    let mut device = Device::new();
    for (plaintext_3, error) in odd_plaintexts(device.stranger.public()) {
        assert_eq!(device.answer_to(&plaintext_3).unwrap_err(), error, "{plaintext_3:02x?}");
    }
}

#[test]
fn odd_plaintext_2() {
    let mut station = Station::new();
    for (rest, error) in odd_plaintexts(station.stranger.public()) {
        let plaintext_2 = [&[C_R], &rest[..]].concat();
        assert_eq!(station.answer_to(&plaintext_2).unwrap_err(), error, "{plaintext_2:02x?}");
    }
    assert_eq!(station.answer_to(&[]).unwrap_err(), Error::Malformed);
    assert_eq!(station.answer_to(&[C_R]).unwrap_err(), Error::Malformed);
}

/// An encoded EAD item of this length, label included.
fn ead_of(length: usize) -> Vec<u8> {
    let value = (0..length).find(|value| 1 + head(BYTES, *value).len() + value == length).unwrap();
    let ead = [&[1], &bstr(&vec![0xee; value])[..]].concat();
    assert_eq!(ead.len(), length);
    ead
}

/// The context of a MAC may have 255 bytes: ID_CRED_x, 34, CRED_x, EAD_x, and in MAC_2 one for C_R.
#[test]
fn mac_contexts_up_to_255_bytes() {
    let room = 255 - (3 + 8) - 34 - 89;
    let mut device = Device::new();
    for (length, error) in [(room, None), (room + 1, Some(Error::ContextTooLong))] {
        let (responder, after) = device.waiting();
        let claim = Claim::of(device.stranger.public());
        let message_3 = after.message_3(&after.plaintext_3(&device.stranger, &claim, &ead_of(length)));
        assert_eq!(device.finish(responder, &message_3).err(), error, "EAD_3 of {length}");
    }
    let mut station = Station::new();
    for (length, error) in [(room - 1, None), (room, Some(Error::ContextTooLong))] {
        let (initiator, foreign) = station.waiting();
        let claim = Claim::of(station.stranger.public());
        let plaintext_2 = foreign.plaintext_2(&station.stranger, &[C_R], &claim, &ead_of(length));
        let answer = station.finish(initiator, &foreign.message_2(&plaintext_2));
        assert_eq!(answer.err(), error, "EAD_2 of {length}");
    }
}

#[test]
fn credentials_of_109_bytes_are_the_longest_in_both_roles() {
    let subject = |key: &PublicKey| {
        let rest = foreign_ccs(Some(""), Some(&[1]), key, true).len();
        "s".repeat(MAX_CCS - rest - 1)
    };
    let mut device = Device::new();
    let (responder, after) = device.waiting();
    let key = device.stranger.public();
    let ccs = foreign_ccs(Some(&subject(key)), Some(&[1]), key, true);
    assert_eq!(ccs.len(), MAX_CCS);
    let plaintext_3 = after.plaintext_3(&device.stranger, &Claim::by_value(&ccs), &[]);
    assert!(device.finish(responder, &after.message_3(&plaintext_3)).is_ok());

    let mut station = Station::new();
    let (initiator, foreign) = station.waiting();
    let key = station.stranger.public();
    let ccs = foreign_ccs(Some(&subject(key)), Some(&[1]), key, true);
    let plaintext_2 = foreign.plaintext_2(&station.stranger, &[C_R], &Claim::by_value(&ccs), &[]);
    assert!(station.finish(initiator, &foreign.message_2(&plaintext_2)).is_ok());
}

#[test]
fn our_own_key_at_the_other_end() {
    let mut device = Device::new();
    let own = *device.key.public();
    for claim in [Claim::of(&own), Claim::by_value(&own.ccs()), Claim::by_value(&foreign_ccs(None, None, &own, false))]
    {
        let (responder, after) = device.waiting();
        let message_3 = after.message_3(&after.plaintext_3(&device.key, &claim, &[]));
        let refused = responder.finish(&message_3, |_| Some(own), false);
        assert_eq!(refused.unwrap_err(), Error::Reflection);
    }
    let mut station = Station::new();
    let own = *station.key.public();
    for claim in [Claim::of(&own), Claim::by_value(&own.ccs()), Claim::by_value(&foreign_ccs(None, None, &own, false))]
    {
        let (initiator, foreign) = station.waiting();
        let message_2 = foreign.message_2(&foreign.plaintext_2(&station.key, &[C_R], &claim, &[]));
        let refused = initiator.finish(&message_2, Transfer::ByKid, |_| Some(own));
        assert_eq!(refused.unwrap_err(), Error::Reflection);
    }
}

/// A CCS whose y is the other one belongs to the same key: to nobody new, and not to somebody else than us.
#[test]
fn the_other_y_is_the_same_key() {
    let mut device = Device::new();
    let (stranger, own) = (*device.stranger.public(), *device.key.public());
    let (responder, after) = device.waiting();
    let claim = Claim::by_value(&ccs_with_other_y(&stranger));
    let message_3 = after.message_3(&after.plaintext_3(&device.stranger, &claim, &[]));
    let peer = device.finish(responder, &message_3).unwrap().peer;
    assert_eq!((peer.key, peer.key.cose_key()), (stranger, stranger.cose_key()));
    let (responder, after) = device.waiting();
    let claim = Claim::by_value(&ccs_with_other_y(&own));
    let message_3 = after.message_3(&after.plaintext_3(&device.key, &claim, &[]));
    assert_eq!(device.finish(responder, &message_3).unwrap_err(), Error::Reflection);

    let mut station = Station::new();
    let (stranger, own) = (*station.stranger.public(), *station.key.public());
    let (initiator, foreign) = station.waiting();
    let claim = Claim::by_value(&ccs_with_other_y(&stranger));
    let message_2 = foreign.message_2(&foreign.plaintext_2(&station.stranger, &[C_R], &claim, &[]));
    let (pending, _) = station.finish(initiator, &message_2).unwrap();
    assert_eq!((pending.peer, pending.peer.cose_key()), (stranger, stranger.cose_key()));
    let (initiator, foreign) = station.waiting();
    let claim = Claim::by_value(&ccs_with_other_y(&own));
    let message_2 = foreign.message_2(&foreign.plaintext_2(&station.key, &[C_R], &claim, &[]));
    assert_eq!(station.finish(initiator, &message_2).unwrap_err(), Error::Reflection);
}

/// The credential of `key`, but with the y that no key of ours has.
fn ccs_with_other_y(key: &PublicKey) -> Vec<u8> {
    let odd = AffinePoint::decompress(key.x().into(), 1.into()).unwrap();
    let y = <[u8; 32]>::from(*odd.to_encoded_point(false).y().unwrap());
    assert_ne!(y, *key.y());
    let ccs = key.ccs();
    [&ccs[..ccs.len() - 32], &y].concat()
}

// message_3 and message_4

#[test]
fn message_3_that_is_not_one_byte_string() {
    let mut device = Device::new();
    let (_, after) = device.waiting();
    let valid = after.message_3(&after.plaintext_3(&device.stranger, &Claim::of(device.stranger.public()), &[]));
    for (message_3, error) in not_one_byte_string(&valid) {
        let (responder, _) = device.waiting();
        assert_eq!(device.finish(responder, &message_3).unwrap_err(), error, "{message_3:02x?}");
    }
    for length in [8, 19, 200, 255] {
        let (responder, _) = device.waiting();
        let refused = device.finish(responder, &with(&valid, 0, |string| string.resize(length)));
        assert_eq!(refused.unwrap_err(), Error::Authentication, "{length}");
    }
}

#[test]
fn message_4_that_is_not_one_byte_string() {
    let mut station = Station::new();
    let valid = bstr(&[0; 8]); // a tag, and nothing under it
    for (message_4, error) in not_one_byte_string(&valid) {
        let refused = station.after_message_3().confirm(Some(&message_4));
        assert_eq!(refused.unwrap_err(), error, "{message_4:02x?}");
    }
    for length in [8, 19, 200, 255] {
        let refused = station.after_message_3().confirm(Some(&with(&valid, 0, |string| string.resize(length))));
        assert_eq!(refused.unwrap_err(), Error::Authentication, "{length}");
    }
}
