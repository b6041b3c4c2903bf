//! What a stranger can send, in both roles. None of it takes a key that anybody trusts, and much of it panics
//! lakers 0.8.0 when it gets there. Here each is an error that the peer can be told.

mod edhoc_common;

use device_protocol::edhoc::{
    ConnId, Error, Established, IdCred, Initiator, MAX_CCS, Message, Pending, Responder, Transfer, parse_error,
};
use device_protocol::key::{PrivateKey, PublicKey};
use edhoc_common::*;
use hexlit::hex;
use p256::AffinePoint;
use p256::elliptic_curve::{point::DecompressPoint, sec1::ToEncodedPoint};
use rand_core::{CryptoRng, RngCore};

const C_I: u8 = 0x0e;
const C_R: u8 = 0x27;
const MAC: [u8; 9] = hex!("480000000000000000");
/// Longer than what fits into one byte, and than lakers' buffers.
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

/// message_1 with these parts.
fn message_1(method: &[u8], suites: &[u8], g_x: &[u8], c_i: &[u8], ead_1: &[u8]) -> Vec<u8> {
    [method, suites, &bstr(g_x), c_i, ead_1].concat()
}

/// Messages that are not one byte string of a length that makes sense, and the error.
fn not_one_byte_string() -> impl Iterator<Item = (Vec<u8>, Error)> {
    let messages = vec![
        hex!("").to_vec(),
        hex!("40").to_vec(),       // empty
        hex!("43010203").to_vec(), // no room for a tag
        hex!("4701020304050607").to_vec(),
        hex!("58ff01").to_vec(), // cut short
        hex!("58c801").to_vec(),
        hex!("57").to_vec(),
        hex!("ffff").to_vec(),
        hex!("5f4100ff").to_vec(), // of indefinite length
        hex!("800102030405060708090a").to_vec(),
        hex!("6a6162636465666768696a").to_vec(),
        [&hex!("580a")[..], &[0; 10]].concat(), // a longer head than needed
        [&bstr(&[0; 40])[..], &[0]].concat(),   // one byte more
        [&bstr(&[0; 40])[..], &bstr(&[0; 40])].concat(),
    ];
    let too_long = TOO_LONG.map(|length| (bstr(&vec![0; length]), Error::MessageTooLong));
    messages.into_iter().map(|message| (message, Error::Malformed)).chain(too_long)
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
    let (key, g_x) = (rng.key(), *rng.key().public().x());
    let long_c_i = |length: usize| bstr(&vec![0xff; length]);
    let cases = [
        (message_1(&[3], &[2], &off_curve(), &[C_I], &[]), Error::Point),
        (message_1(&[0], &[2], &g_x, &[C_I], &[]), Error::Method),
        (message_1(&[0x18, 3], &[2], &g_x, &[C_I], &[]), Error::Malformed),
        (message_1(&[0x23], &[2], &g_x, &[C_I], &[]), Error::Method),
        (message_1(&[3], &[3], &g_x, &[C_I], &[]), Error::Suite),
        (message_1(&[3], &[0x82, 2, 3], &g_x, &[C_I], &[]), Error::Suite),
        (message_1(&[3], &[0x18, 24], &g_x, &[C_I], &[]), Error::Suite),
        (message_1(&[3], &[0x37], &[0; 56], &[C_I], &[]), Error::Suite), // private suite, longer G_X
        (message_1(&[3], &[0x81, 2], &g_x, &[C_I], &[]), Error::Malformed),
        (message_1(&[3], &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &g_x, &[C_I], &[]), Error::Malformed),
        (message_1(&[3], &[2], &g_x[1..], &[C_I], &[]), Error::Malformed),
        (message_1(&[3], &[2], &g_x, &[], &[]), Error::Malformed),
        (message_1(&[3], &[2], &g_x, &[0x41, C_I], &[]), Error::Malformed),
        (message_1(&[3], &[2], &g_x, &[0x18, 24], &[]), Error::Malformed),
        (message_1(&[3], &[2], &g_x, &[0x57], &[]), Error::Malformed),
        (message_1(&[3], &[2], &g_x, &long_c_i(8), &[]), Error::ConnectionId),
        (message_1(&[3], &[2], &g_x, &long_c_i(23), &[]), Error::ConnectionId),
        (message_1(&[3], &[2], &g_x, &long_c_i(24), &[]), Error::ConnectionId),
        (message_1(&[3], &[2], &g_x, &long_c_i(300), &[]), Error::ConnectionId),
        (message_1(&[3], &[2], &g_x, &[C_I], &[0x20]), Error::CriticalEad),
        (message_1(&[3], &[2], &g_x, &[C_I], &[0x0f, 0x38, 0x18]), Error::CriticalEad),
        (message_1(&[3], &[2], &g_x, &[C_I], &[0x41, 0]), Error::Malformed),
        (message_1(&[3], &[2], &g_x, &[C_I], &[0x01, 0x58]), Error::Malformed),
        (message_1(&[3], &[2], &g_x, &[C_I], &[0x01, 0x61, 0x61]), Error::Malformed),
        (vec![], Error::Malformed),
    ];
    for (message_1, error) in cases {
        let refused = sendable(Responder::start(&message_1, &key, conn_id(C_R), &mut Untouched));
        assert_eq!(refused.unwrap_err(), error, "{message_1:02x?}");
    }
}

#[test]
fn message_1_may_offer_other_suites_and_any_length_of_ead() {
    let mut device = Device::new();
    let g_x = *device.stranger.public().x();
    for suites in [&[2][..], &[0x82, 6, 2], &[0x83, 0x18, 24, 0x37, 2], &[0x8a, 0, 1, 3, 4, 5, 6, 7, 8, 9, 2]] {
        assert!(device.start(&message_1(&[3], suites, &g_x, &[C_I], &[])).is_ok(), "{suites:02x?}");
    }
    for length in TOO_LONG {
        let ead_1 = [&[1], &bstr(&vec![0; length])[..]].concat();
        assert!(device.start(&message_1(&[3], &[2], &g_x, &[C_I], &ead_1)).is_ok(), "{length}");
    }
}

// message_2

#[test]
fn message_2_that_is_not_one_byte_string() {
    let mut station = Station::new();
    for (message_2, error) in not_one_byte_string() {
        let (initiator, _) = station.waiting();
        assert_eq!(station.finish(initiator, &message_2).unwrap_err(), error, "{message_2:02x?}");
    }
    for length in [31, 32, 33, 34] {
        let (initiator, _) = station.waiting();
        let message_2 = bstr(&station.stranger.public().x().iter().copied().cycle().take(length).collect::<Vec<_>>());
        assert!(station.finish(initiator, &message_2).is_err(), "{length}");
    }
}

#[test]
fn message_2_with_g_y_off_the_curve() {
    let mut station = Station::new();
    let (initiator, _) = station.waiting();
    let message_2 = bstr(&[&off_curve()[..], &[0; 19]].concat());
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
    let ccs_with = |from: &[u8], to: &[u8]| {
        let ccs = key.ccs();
        let at = ccs.windows(from.len()).position(|window| window == from).unwrap();
        [&hex!("a10e"), &ccs[..at], to, &ccs[at + from.len()..], &MAC].concat()
    };
    let by_value = |ccs: &[u8]| [&hex!("a10e"), ccs, &MAC].concat();
    let of_length = |length: usize| {
        let rest = foreign_ccs(Some(""), Some(&[1]), key, true).len();
        foreign_ccs(Some(&"s".repeat(length - rest - 1)), Some(&[1]), key, true)
    };
    assert_eq!(of_length(MAX_CCS + 1).len(), MAX_CCS + 1);
    vec![
        ([&hex!("b8c8")[..], &[0; 60]].concat(), Error::CredentialType), // a map of 200 pairs
        ([&hex!("98ff")[..], &[0x98; 60]].concat(), Error::Malformed),   // an array of 255, nested
        ([&hex!("a10e98ff")[..], &[0x98; 60]].concat(), Error::Malformed),
        ([&[0xd8; 60][..], &MAC].concat(), Error::Malformed), // tags
        ([&hex!("bf0eff")[..], &MAC].concat(), Error::CredentialType), // of indefinite length
        ([&hex!("a10f00")[..], &MAC].concat(), Error::CredentialType),
        (by_value(&key.ccs()), Error::Authentication), // sound, but for its MAC
        (ccs_with(&hex!("0102"), &hex!("380002")), Error::CredentialType), // label -1, not in its shortest form
        (ccs_with(&hex!("2001"), &hex!("380001")), Error::CredentialType),
        (ccs_with(&hex!("a501"), &hex!("b80501")), Error::Malformed),
        (ccs_with(&hex!("a501"), &hex!("b8c801")), Error::CredentialType),
        (ccs_with(&hex!("48"), &hex!("58ff")), Error::Malformed),
        (ccs_with(key.x(), &off_curve()), Error::Point),
        (by_value(&of_length(MAX_CCS + 1)), Error::CredentialTooLong),
        (by_value(&of_length(150)), Error::CredentialTooLong),
        ([&bstr(&[1; 17])[..], &MAC].concat(), Error::CredentialType),
        ([&bstr(&[1; 23])[..], &MAC].concat(), Error::CredentialType),
        ([&hex!("58080102030405060708")[..], &MAC].concat(), Error::Malformed),
        ([&hex!("4117")[..], &MAC].concat(), Error::Malformed),
        (hex!("17 47 00000000000000").to_vec(), Error::Malformed), // a MAC of 7 bytes
        (hex!("17 49 000000000000000000").to_vec(), Error::Malformed),
        (hex!("17").to_vec(), Error::Malformed),
        (vec![], Error::Malformed),
        ([&hex!("17")[..], &MAC].concat(), Error::Authentication),
        ([&hex!("17")[..], &MAC, &hex!("20")].concat(), Error::CriticalEad),
        ([&hex!("17")[..], &MAC, &hex!("01 41aa 391000")].concat(), Error::CriticalEad),
        ([&hex!("17")[..], &MAC, &hex!("58")].concat(), Error::Malformed),
        ([&hex!("17")[..], &MAC, &hex!("01 81")].concat(), Error::Malformed),
    ]
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
    let value = if length > 26 { length - 3 } else { length - 2 };
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
    for (message_3, error) in not_one_byte_string() {
        let (responder, _) = device.waiting();
        assert_eq!(device.finish(responder, &message_3).unwrap_err(), error, "{message_3:02x?}");
    }
    for length in [8, 19, 200, 255] {
        let (responder, _) = device.waiting();
        let refused = device.finish(responder, &bstr(&vec![0; length]));
        assert_eq!(refused.unwrap_err(), Error::Authentication, "{length}");
    }
}

#[test]
fn message_4_that_is_not_one_byte_string() {
    let mut station = Station::new();
    for (message_4, error) in not_one_byte_string() {
        let refused = station.after_message_3().confirm(Some(&message_4));
        assert_eq!(refused.unwrap_err(), error, "{message_4:02x?}");
    }
    for length in [8, 19, 200, 255] {
        let refused = station.after_message_3().confirm(Some(&bstr(&vec![0; length])));
        assert_eq!(refused.unwrap_err(), Error::Authentication, "{length}");
    }
}
