//! Whole handshakes: between our two roles, and with a peer written straight from the RFC.

mod edhoc_common;

use edhoc_common::*;
use edhoc_oscore::edhoc::{
    ConnId, Error, Established, IdCred, Initiator, Message, Peer, PeerError, Pending, Request, Responder, Transfer,
    parse_error,
};
use edhoc_oscore::key::{PrivateKey, PublicKey};
use hexlit::hex;

const C_I: u8 = 0x0e;
const C_R: u8 = 0x27;

/// Two parties that know each other's keys.
struct Pair {
    rng: TestRng,
    initiator: PrivateKey,
    responder: PrivateKey,
}

impl Pair {
    fn new() -> Self {
        let mut rng = TestRng::new(1);
        Self { initiator: rng.key(), responder: rng.key(), rng }
    }

    /// The initiator's state and message_1.
    fn begin(&mut self) -> (Initiator, Message) {
        Initiator::start(&self.initiator, ConnId::new(C_I).unwrap(), &mut self.rng).unwrap()
    }

    fn respond(&mut self, message_1: &[u8]) -> Result<(Responder, Message), Error> {
        Responder::start(message_1, &self.responder, ConnId::new(C_R).unwrap(), &mut self.rng)
    }

    /// What the responder knows.
    fn resolve(&self) -> impl Fn(&[u8]) -> Option<PublicKey> {
        let known = *self.initiator.public();
        move |kid| (kid == known.kid()).then_some(known)
    }

    /// What the initiator knows.
    fn approve(&self) -> impl Fn(IdCred<'_>) -> Option<PublicKey> {
        let known = *self.responder.public();
        move |id_cred| match id_cred {
            IdCred::Kid(kid) => (kid == known.kid()).then_some(known),
            IdCred::Ccs(key, _) => (key == known).then_some(known),
        }
    }

    /// All up to message_3, and the lengths of the three messages.
    fn up_to_message_3(&mut self, transfer: Transfer) -> (Pending, Responder, Message, [usize; 3]) {
        let (initiator, message_1) = self.begin();
        let (responder, message_2) = self.respond(&message_1).unwrap();
        let (pending, message_3) = initiator.finish(&message_2, transfer, self.approve()).unwrap();
        let lengths = [message_1.len(), message_2.len(), message_3.len()];
        (pending, responder, message_3, lengths)
    }
}

#[test]
fn by_kid_and_by_value_with_and_without_message_4() {
    for (transfer, lengths) in [(Transfer::ByKid, [37, 53, 28]), (Transfer::ByValue, [37, 53, 110])] {
        for separate in [false, true] {
            let mut pair = Pair::new();
            let (pending, responder, message_3, found) = pair.up_to_message_3(transfer);
            assert_eq!(found, lengths);
            assert_eq!((responder.c_r(), pending.c_r), (ConnId::new(C_R).unwrap(), ConnId::new(C_R).unwrap()));
            assert_eq!(pending.peer, *pair.responder.public());

            // By value, nobody is asked who that is.
            let resolve = |kid: &[u8]| if transfer == Transfer::ByKid { pair.resolve()(kid) } else { panic!("asked") };
            let Established { peer, mut context, message_4 } = responder.finish(&message_3, resolve, separate).unwrap();
            assert_eq!(peer, Peer { key: *pair.initiator.public(), transfer });
            assert_eq!(message_4.as_ref().map(|message| message.len()), separate.then_some(9));
            assert_eq!((context.sender().as_slice(), context.recipient().as_slice()), (&[C_I][..], &[C_R][..]));
            assert_matching(&mut pending.confirm(message_4.as_deref()).unwrap(), &mut context);
        }
    }
}

#[test]
fn c_r_gives_way_to_an_equal_c_i() {
    let mut pair = Pair::new();
    let same = ConnId::new(0x17).unwrap();
    let (initiator, message_1) = Initiator::start(&pair.initiator, same, &mut pair.rng).unwrap();
    let (responder, message_2) = Responder::start(&message_1, &pair.responder, same, &mut pair.rng).unwrap();
    assert_eq!(responder.c_r(), ConnId::new(0x20).unwrap());
    let (pending, message_3) = initiator.finish(&message_2, Transfer::ByKid, pair.approve()).unwrap();
    let mut established = responder.finish(&message_3, pair.resolve(), false).unwrap();
    assert_matching(&mut pending.confirm(None).unwrap(), &mut established.context);
}

#[test]
fn who_is_not_known_or_holds_another_key() {
    let mut pair = Pair::new();
    let stranger = *pair.rng.key().public();

    let (_, responder, message_3, _) = pair.up_to_message_3(Transfer::ByKid);
    assert_eq!(responder.finish(&message_3, |_| None, false).unwrap_err(), Error::UnknownCredential);
    let (_, responder, message_3, _) = pair.up_to_message_3(Transfer::ByKid);
    assert_eq!(responder.finish(&message_3, |_| Some(stranger), false).unwrap_err(), Error::Authentication);

    let (initiator, message_1) = pair.begin();
    let (_, message_2) = pair.respond(&message_1).unwrap();
    assert_eq!(initiator.finish(&message_2, Transfer::ByKid, |_| None).unwrap_err(), Error::UnknownCredential);
    let (initiator, message_1) = pair.begin();
    let (_, message_2) = pair.respond(&message_1).unwrap();
    let refused = initiator.finish(&message_2, Transfer::ByKid, |_| Some(stranger));
    assert_eq!(refused.unwrap_err(), Error::Authentication);
}

#[test]
fn error_messages_in_place_of_message_2_and_message_4() {
    let mut pair = Pair::new();
    let (initiator, _) = pair.begin();
    let error = Error::Suite.message();
    assert_eq!(initiator.finish(&error, Transfer::ByKid, pair.approve()).unwrap_err(), Error::Peer);
    assert_eq!(parse_error(&error), Some(PeerError::WrongSuite { offers_ours: true }));

    let (pending, ..) = pair.up_to_message_3(Transfer::ByKid);
    let error = Error::UnknownCredential.message();
    assert_eq!(pending.confirm(Some(&error)).unwrap_err(), Error::Peer);
    assert!(matches!(parse_error(&error), Some(PeerError::Unspecified(text)) if text.starts_with("unknown cred")));
}

#[test]
fn requests_to_the_edhoc_resource() {
    let c_r = ConnId::new(C_R).unwrap();
    assert_eq!(Request::parse(&hex!("f5 0302")), Ok(Request::Message1(&hex!("0302"))));
    assert_eq!(Request::parse(&hex!("27 4100")), Ok(Request::Message3 { c_r, message_3: &hex!("4100") }));
    for payload in [&hex!("")[..], &hex!("f4"), &hex!("f6 0302"), &hex!("1818"), &hex!("4127 4100"), &hex!("5827")] {
        assert_eq!(Request::parse(payload), Err(Error::Malformed), "{payload:02x?}");
    }
    for payload in [&hex!("40 4100")[..], &hex!("41ff 4100"), &hex!("420102 4100")] {
        assert_eq!(Request::parse(payload), Err(Error::ConnectionId), "{payload:02x?}");
    }
}

// With a foreign initiator.

#[test]
fn foreign_credentials_by_value() {
    for (subject, kid, y) in [
        (Some("test"), Some(&[1][..]), true), // as aiocoap sends it
        (Some(""), Some(b"?"), true),
        (None, Some(&[9; 16]), false),
        (None, None, false),
    ] {
        let mut pair = Pair::new();
        let initiator = ForeignInitiator::new(&[C_I], &[], &mut pair.rng);
        let (responder, message_2) = pair.respond(&initiator.message_1).unwrap();
        let after = initiator.read_message_2(&message_2, pair.responder.public());
        let claim = Claim::by_value(&foreign_ccs(subject, kid, pair.initiator.public(), y));
        let message_3 = after.message_3(&after.plaintext_3(&pair.initiator, &claim, &[]));
        let peer = responder.finish(&message_3, |_| None, true).unwrap().peer;
        assert_eq!(peer, Peer { key: *pair.initiator.public(), transfer: Transfer::ByValue });
    }
}

#[test]
fn foreign_connection_identifiers() {
    for (encoded, sender) in [
        (&hex!("37")[..], &hex!("37")[..]),
        (&hex!("40"), &hex!("")),
        (&hex!("4118"), &hex!("18")),
        (&hex!("4701020304050607"), &hex!("01020304050607")),
    ] {
        let mut pair = Pair::new();
        let initiator = ForeignInitiator::new(encoded, &[], &mut pair.rng);
        let (responder, message_2) = pair.respond(&initiator.message_1).unwrap();
        let after = initiator.read_message_2(&message_2, pair.responder.public());
        let plaintext_3 = after.plaintext_3(&pair.initiator, &Claim::of(pair.initiator.public()), &[]);
        let established = responder.finish(&after.message_3(&plaintext_3), pair.resolve(), false).unwrap();
        assert_eq!(established.context.sender().as_slice(), sender);
    }
}

#[test]
fn ead_1_label_15_asks_for_the_credential_by_value() {
    for (ead_1, by_value) in [
        (&hex!("")[..], false),
        (&hex!("0f"), true),
        (&hex!("0f 420102"), true),
        (&hex!("00 43000000 0f"), true), // padding first
        (&hex!("0e 181a 40"), false),
    ] {
        let mut pair = Pair::new();
        let initiator = ForeignInitiator::new(&[C_I], ead_1, &mut pair.rng);
        let (_, message_2) = pair.respond(&initiator.message_1).unwrap();
        assert_eq!(message_2.len(), if by_value { 135 } else { 53 });
        let plaintext_2 = initiator.read_message_2(&message_2, pair.responder.public()).plaintext_2;
        let ccs = pair.responder.public().ccs();
        let id_cred = if by_value { [&hex!("a10e"), &ccs[..]].concat() } else { bstr(&pair.responder.public().kid()) };
        assert_eq!(plaintext_2[..plaintext_2.len() - 9], [&[C_R], &id_cred[..]].concat(), "{ead_1:02x?}");
    }
}

#[test]
fn ead_that_is_not_critical_is_ignored_and_covered_by_the_mac() {
    for ead in [&hex!("05")[..], &hex!("0043aabbcc"), &hex!("181a 40"), &hex!("190100 4101 02 03 4104")] {
        let mut pair = Pair::new();
        let initiator = ForeignInitiator::new(&[C_I], ead, &mut pair.rng);
        let (responder, message_2) = pair.respond(&initiator.message_1).unwrap();
        let after = initiator.read_message_2(&message_2, pair.responder.public());
        let claim = Claim::of(pair.initiator.public());
        let message_3 = after.message_3(&after.plaintext_3(&pair.initiator, &claim, ead));
        assert!(responder.finish(&message_3, pair.resolve(), false).is_ok(), "{ead:02x?}");

        let (responder, message_2) = pair.respond(&initiator.message_1).unwrap();
        let after = initiator.read_message_2(&message_2, pair.responder.public());
        let added = [&after.plaintext_3(&pair.initiator, &claim, &[])[..], ead].concat();
        let refused = responder.finish(&after.message_3(&added), pair.resolve(), false);
        assert_eq!(refused.unwrap_err(), Error::Authentication, "{ead:02x?}");
    }
}

// With a foreign responder.

#[test]
fn a_foreign_responder_by_kid_and_by_value_with_ead() {
    let mut pair = Pair::new();
    let key = *pair.responder.public();
    for claim in
        [Claim::of(&key), Claim::by_value(&key.ccs()), Claim::by_value(&foreign_ccs(None, Some(&[7]), &key, true))]
    {
        for ead in [&hex!("")[..], &hex!("0543aabbcc 181a")] {
            let (initiator, message_1) = pair.begin();
            let foreign = ForeignResponder::new(&message_1, &mut pair.rng);
            let plaintext_2 = foreign.plaintext_2(&pair.responder, &[C_R], &claim, ead);
            let message_2 = foreign.message_2(&plaintext_2);
            let (pending, _) = initiator.finish(&message_2, Transfer::ByKid, pair.approve()).unwrap();
            assert_eq!((pending.c_r.byte(), pending.peer), (C_R, key));
        }
    }
}

#[test]
fn a_credential_by_value_must_be_approved_and_not_exchanged() {
    let mut pair = Pair::new();
    let stranger = *pair.rng.key().public();
    for (answer, error) in [(None, Error::UnknownCredential), (Some(stranger), Error::UnknownCredential)] {
        let (initiator, message_1) = pair.begin();
        let foreign = ForeignResponder::new(&message_1, &mut pair.rng);
        let claim = Claim::by_value(&pair.responder.public().ccs());
        let message_2 = foreign.message_2(&foreign.plaintext_2(&pair.responder, &[C_R], &claim, &[]));
        assert_eq!(initiator.finish(&message_2, Transfer::ByKid, |_| answer).unwrap_err(), error);
    }
}

#[test]
fn ead_4() {
    for (plaintext_4, accepted) in [
        (&hex!("")[..], Ok(())),
        (&hex!("05 41aa 181a"), Ok(())),
        (&hex!("24"), Err(Error::CriticalEad)),
        (&hex!("05 3819"), Err(Error::CriticalEad)),
        (&hex!("41aa"), Err(Error::Malformed)),
    ] {
        let mut pair = Pair::new();
        let (initiator, message_1) = pair.begin();
        let foreign = ForeignResponder::new(&message_1, &mut pair.rng);
        let plaintext_2 = foreign.plaintext_2(&pair.responder, &[C_R], &Claim::of(pair.responder.public()), &[]);
        let message_2 = foreign.message_2(&plaintext_2);
        let (pending, message_3) = initiator.finish(&message_2, Transfer::ByKid, pair.approve()).unwrap();
        let message_4 =
            foreign.message_4(&pair.responder, &plaintext_2, &message_3, pair.initiator.public(), plaintext_4);
        assert_eq!(pending.confirm(Some(&message_4)).map(|_| ()), accepted, "{plaintext_4:02x?}");
    }
}
