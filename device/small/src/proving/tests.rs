use std::{string::String, vec::Vec};

use cbor_schemas::{Condition, ProblemDetails, ProofLevel, Receipt, SlotState, SlotView, report};
use coap_message::MessageOption as _;
use coap_numbers::option;
use proptest::prelude::*;
use protocol::coap::{Datagram, Header, Token, Type, Writer};
use protocol::edhoc::{self, ConnId, IdCred, Initiator, Pending, Transfer};
use protocol::key::PublicKey;
use protocol::oscore::{self, Context, Correlation};
use rand_core::OsRng;

use super::*;
use crate::testing::{Eeprom, certificate, compose};

type TestDevice = ProvingDevice<Eeprom, OsRng>;

const CORE: &str = "/.well-known/core";
const INFO: &str = "/comm";
const FACTORY: &str = "/comm/factory";

fn start(eeprom: &Eeprom) -> TestDevice {
    let device = "urn:dev:ops:32473-small-1".parse().unwrap();
    ProvingDevice::start(Config { device, firmware: "small 1.0", operation_ms: 4000 }, eeprom.clone(), OsRng)
}

/// What sits at the other end of the line.
struct Host {
    own: PrivateKey,
    c_i: ConnId,
    message_id: u16,
}

/// An answer that is not protected.
type Plain = (u8, Vec<u8>);

impl Host {
    fn new() -> Self {
        Self { own: PrivateKey::generate(&mut OsRng), c_i: ConnId::new(0).unwrap(), message_id: 0 }
    }

    fn header(&mut self, code: u8) -> Header {
        self.message_id += 1;
        let token = Token::new(&self.message_id.to_be_bytes()).unwrap();
        Header { type_: Type::Con, code, message_id: self.message_id, token }
    }

    fn plain(&mut self, device: &mut TestDevice, code: u8, path: &str, body: &[u8]) -> Plain {
        let datagram = compose(&self.header(code), path, &[], body);
        plain(&send(device, &datagram))
    }

    fn edhoc(&mut self, device: &mut TestDevice, before: &[u8], message: &[u8]) -> Plain {
        self.plain(device, code::POST, EDHOC, &[before, message].concat())
    }

    /// To the point where message_3 is to be sent.
    fn up_to_message_3(&mut self, device: &mut TestDevice, transfer: Transfer) -> (Pending, edhoc::Message) {
        let (initiator, message_1) = Initiator::start(&self.own, self.c_i, &mut OsRng).unwrap();
        let (code, message_2) = self.edhoc(device, &[0xf5], &message_1);
        assert_eq!(code, code::CHANGED);
        let key = PublicKey::from_cose(&device.info().credential.unwrap()).unwrap();
        let resolve = |id_cred: IdCred<'_>| match id_cred {
            IdCred::Kid(kid) => (kid == key.kid()).then_some(key),
            IdCred::Ccs(sent, _) => Some(sent),
        };
        initiator.finish(&message_2, transfer, resolve).unwrap()
    }

    /// A handshake, message_3 alone.
    fn session(&mut self, device: &mut TestDevice) -> Context {
        let (pending, message_3) = self.up_to_message_3(device, Transfer::ByValue);
        let (code, message_4) = self.edhoc(device, &[pending.c_r.byte()], &message_3);
        assert_eq!(code, code::CHANGED);
        pending.confirm(Some(&message_4)).unwrap()
    }

    /// A protected request, perhaps with message_3.
    fn protect(
        &mut self,
        context: &mut Context,
        message_3: Option<&[u8]>,
        (code, path, body): (u8, &str, &[u8]),
    ) -> (Vec<u8>, Correlation) {
        let header = self.header(code);
        let options: &[(u16, &[u8])] = if body.is_empty() { &[] } else { &[(option::CONTENT_FORMAT, &[60])] };
        let inner = compose(&header, path, options, body);
        let inner = Datagram::parse(&inner).unwrap();
        let (mut datagram, mut scratch) = ([0; 1024], [0; 1024]);
        let mut writer = Writer::new(&mut datagram, &Header { code: code::POST, ..header }).unwrap();
        let mut outer = writer.message();
        let protected = match message_3 {
            Some(message_3) => context.protect_combined_request(message_3, &inner.message(), &mut outer, &mut scratch),
            None => context.protect_request(&inner.message(), &mut outer, &mut scratch),
        };
        let len = outer.finish().0;
        let len = writer.finish(len).unwrap();
        (datagram[..len].to_vec(), protected.unwrap())
    }

    /// A request in a session, and the answer in it.
    fn ask(
        &mut self,
        device: &mut TestDevice,
        context: &mut Context,
        code: u8,
        path: &str,
        body: &[u8],
    ) -> (u8, Vec<u8>) {
        let (request, correlation) = self.protect(context, None, (code, path, body));
        open(context, &correlation, &send(device, &request))
    }
}

fn send(device: &mut TestDevice, datagram: &[u8]) -> Vec<u8> {
    let mut out = [0; DATAGRAM_LEN];
    let len = device.handle(&mut datagram.to_vec(), &mut out).unwrap();
    out[..len].to_vec()
}

fn plain(answer: &[u8]) -> Plain {
    let answer = Datagram::parse(answer).unwrap();
    assert!(!answer.message().options().any(|option| option.number() == option::OSCORE), "it is protected");
    (answer.header.code, answer.message().payload().to_vec())
}

fn open(context: &mut Context, correlation: &Correlation, answer: &[u8]) -> (u8, Vec<u8>) {
    let outer = Datagram::parse(answer).unwrap();
    let mut buffer = [0; 1024];
    let inner = context.unprotect_response(&outer.message(), &mut buffer, correlation).unwrap();
    (inner.code(), inner.payload().to_vec())
}

fn title((code, body): &Plain) -> (u8, String) {
    (*code, ProblemDetails::decode(body).unwrap().title.unwrap().to_owned())
}

fn body(info: &DeviceInfo<'_>) -> Vec<u8> {
    certificate(&PrivateKey::generate(&mut OsRng), info, |claims| claims.proof = ProofLevel::Proved)
}

#[test]
fn a_certificate_is_taken_in_a_session_which_ends_with_it() {
    let eeprom = Eeprom::blank();
    let (mut device, mut host) = (start(&eeprom), Host::new());
    let info = device.info();
    assert_eq!((info.profile, info.has_owner_slot()), (Profile::Full, false));
    let mut line = String::new();
    device.report(&mut line).unwrap();
    assert_eq!(report::find(&line, &mut [0; 512]).unwrap().unwrap(), info);

    let mut session = host.session(&mut device);
    let (code, account) = host.ask(&mut device, &mut session, code::GET, INFO, b"");
    assert_eq!((code, DeviceInfo::decode(&account).unwrap()), (code::CONTENT, info));
    let body = body(&info);
    let (code, receipt) = host.ask(&mut device, &mut session, code::PUT, FACTORY, &body);
    assert_eq!((code, Receipt::decode(&receipt).unwrap().device), (code::CHANGED, info.credential.unwrap().x));
    let (late, _) = host.protect(&mut session, None, (code::GET, INFO, b""));
    assert_eq!(title(&plain(&send(&mut device, &late))), (code::UNAUTHORIZED, "security context not found".into()));

    for mut device in [device, start(&eeprom.restart())] {
        assert_eq!((device.info().factory, device.info().credential), (SlotState::Certified, info.credential));
        let mut session = host.session(&mut device);
        let (code, view) = host.ask(&mut device, &mut session, code::GET, FACTORY, b"");
        assert_eq!((code, SlotView::decode(&view).unwrap().state), (code::CONTENT, SlotState::Certified));
        let (code, again) = host.ask(&mut device, &mut session, code::PUT, FACTORY, &body);
        assert_eq!((code, again == receipt), (code::CHANGED, true));
        let another = self::body(&info);
        assert_eq!(host.ask(&mut device, &mut session, code::PUT, FACTORY, &another).0, code::CONFLICT);
        // Nothing changed, so the session goes on.
        assert_eq!(host.ask(&mut device, &mut session, code::GET, INFO, b"").0, code::CONTENT);
    }
}

#[test]
fn message_3_may_come_with_the_first_request() {
    let (mut device, mut host) = (start(&Eeprom::blank()), Host::new());
    let (pending, message_3) = host.up_to_message_3(&mut device, Transfer::ByValue);
    let mut session = pending.confirm(None).unwrap();
    let (request, correlation) = host.protect(&mut session, Some(&message_3), (code::GET, INFO, b""));
    let (code, account) = open(&mut session, &correlation, &send(&mut device, &request));
    assert_eq!((code, DeviceInfo::decode(&account).unwrap()), (code::CONTENT, device.info()));
    assert_eq!(host.ask(&mut device, &mut session, code::GET, FACTORY, b"").0, code::CONTENT);
}

#[test]
fn without_a_session_everybody_reads_and_nobody_writes() {
    let eeprom = Eeprom::blank();
    let (mut device, mut host) = (start(&eeprom), Host::new());
    let (info, before) = (device.info(), eeprom.bytes());
    let (code, account) = host.plain(&mut device, code::GET, INFO, b"");
    assert_eq!((code, DeviceInfo::decode(&account).unwrap()), (code::CONTENT, info));
    assert_eq!(host.plain(&mut device, code::GET, FACTORY, b"").0, code::CONTENT);
    let (code, links) = host.plain(&mut device, code::GET, CORE, b"");
    assert_eq!((code, String::from_utf8(links).unwrap().contains("core.edhoc")), (code::CONTENT, true));
    let body = body(&info);
    let refused = host.plain(&mut device, code::PUT, FACTORY, &body);
    assert_eq!(title(&refused), (code::UNAUTHORIZED, "not authorized".into()));
    // Not beside a session of somebody else, either.
    let mut session = host.session(&mut device);
    assert_eq!(host.plain(&mut device, code::PUT, FACTORY, &body), refused);
    assert_eq!(eeprom.bytes(), before);
    assert_eq!(host.ask(&mut device, &mut session, code::PUT, FACTORY, &body).0, code::CHANGED);
}

/// The host repeats what it got no answer to. The answer took seconds, or cannot be given twice.
#[test]
fn a_repeated_datagram_gets_the_same_answer() {
    let eeprom = Eeprom::blank();
    let (mut device, mut host) = (start(&eeprom), Host::new());
    let (initiator, message_1) = Initiator::start(&host.own, host.c_i, &mut OsRng).unwrap();
    let first = compose(&host.header(code::POST), EDHOC, &[], &[&[0xf5], &message_1[..]].concat());
    let answer = send(&mut device, &first);
    assert_eq!(send(&mut device, &first), answer);
    let key = PublicKey::from_cose(&device.info().credential.unwrap()).unwrap();
    let (pending, message_3) = initiator.finish(&plain(&answer).1, Transfer::ByValue, |_| Some(key)).unwrap();
    let mut session = pending.confirm(None).unwrap();
    let put = body(&device.info());
    for (message_3, request) in
        [(Some(&message_3[..]), (code::GET, INFO, &b""[..])), (None, (code::PUT, FACTORY, &put[..]))]
    {
        let (request, correlation) = host.protect(&mut session, message_3, request);
        let answer = send(&mut device, &request);
        let changes = eeprom.changes();
        assert_eq!(send(&mut device, &request), answer);
        assert_eq!(eeprom.changes(), changes);
        assert!(open(&mut session, &correlation, &answer).0 < code::BAD_REQUEST);
    }
}

#[test]
fn what_was_said_before_or_changed_on_the_way_is_refused() {
    let (mut device, mut host) = (start(&Eeprom::blank()), Host::new());
    let mut session = host.session(&mut device);
    let (request, correlation) = host.protect(&mut session, None, (code::GET, INFO, b""));
    let mut changed = request.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(title(&plain(&send(&mut device, &changed))), (code::BAD_REQUEST, "decryption failed".into()));
    // It counts as another request of its own: bytes 2 and 3 are the message ID.
    let renumbered = |request: &[u8], id: u8| [&request[..2], &[0xee, id], &request[4..]].concat();
    assert_eq!(open(&mut session, &correlation, &send(&mut device, &renumbered(&request, 1))).0, code::CONTENT);
    let again = plain(&send(&mut device, &renumbered(&request, 2)));
    assert_eq!(title(&again), (code::UNAUTHORIZED, "replay detected".into()));
    assert_eq!(host.ask(&mut device, &mut session, code::GET, INFO, b"").0, code::CONTENT, "the session goes on");
}

#[test]
fn a_new_handshake_takes_over_when_it_is_through() {
    let (mut device, mut host) = (start(&Eeprom::blank()), Host::new());
    let mut session = host.session(&mut device);
    for _ in 0..60 {
        let (pending, message_3) = host.up_to_message_3(&mut device, Transfer::ByValue);
        assert_ne!(oscore::Id::from(pending.c_r), session.recipient());
        assert_ne!(oscore::Id::from(pending.c_r), session.sender(), "{:?}", pending.c_r);
        assert_eq!(host.ask(&mut device, &mut session, code::GET, INFO, b"").0, code::CONTENT);
        let mut wrong = message_3.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(host.edhoc(&mut device, &[pending.c_r.byte()], &wrong).0, code::BAD_REQUEST);
        assert_eq!(host.edhoc(&mut device, &[pending.c_r.byte()], &message_3).0, code::BAD_REQUEST, "it is over");
        assert_eq!(host.ask(&mut device, &mut session, code::GET, INFO, b"").0, code::CONTENT);

        let mut newer = host.session(&mut device);
        let (request, _) = host.protect(&mut session, None, (code::GET, INFO, b""));
        assert_eq!(
            title(&plain(&send(&mut device, &request))),
            (code::UNAUTHORIZED, "security context not found".into())
        );
        assert_eq!(host.ask(&mut device, &mut newer, code::GET, INFO, b"").0, code::CONTENT);
        session = newer;
    }
}

#[test]
fn nobody_is_known_by_a_kid() {
    let (mut device, mut host) = (start(&Eeprom::blank()), Host::new());
    let (pending, message_3) = host.up_to_message_3(&mut device, Transfer::ByKid);
    let (code, error) = host.edhoc(&mut device, &[pending.c_r.byte()], &message_3);
    assert_eq!(code, code::BAD_REQUEST);
    assert_eq!(error[..], edhoc::Error::UnknownCredential.message()[..]);
    // In the other way to send it, too.
    let (pending, message_3) = host.up_to_message_3(&mut device, Transfer::ByKid);
    let mut session = pending.confirm(None).unwrap();
    let (request, _) = host.protect(&mut session, Some(&message_3), (code::GET, INFO, b""));
    assert_eq!(plain(&send(&mut device, &request)), (code::BAD_REQUEST, error));
}

#[test]
fn requests_that_make_no_sense_say_so() {
    let (mut device, mut host) = (start(&Eeprom::blank()), Host::new());
    assert_eq!(host.plain(&mut device, code::GET, EDHOC, b"").0, code::METHOD_NOT_ALLOWED);
    for message in [&b""[..], b"\xf5", b"\xf5\x03\x02", b"\x00", b"\x00\x58\x20", b"garbage"] {
        assert_eq!(host.edhoc(&mut device, b"", message).0, code::BAD_REQUEST, "{message:x?}");
    }
    let unknown = compose(&host.header(code::POST), EDHOC, &[(option::BLOCK1, &[8])], b"\xf5");
    assert_eq!(plain(&send(&mut device, &unknown)).0, code::BAD_OPTION);
    for value in [&b""[..], b"\x09\x00\x00", b"\xff", b"\x1f"] {
        let request = compose(&host.header(code::POST), "/", &[(option::OSCORE, value)], b"0123456789");
        assert!((code::BAD_REQUEST..=code::BAD_OPTION).contains(&plain(&send(&mut device, &request)).0), "{value:x?}");
    }
    let mut session = host.session(&mut device);
    assert_eq!(host.ask(&mut device, &mut session, code::GET, "/comm/owner", b"").0, code::NOT_FOUND);
    assert_eq!(host.ask(&mut device, &mut session, code::DELETE, FACTORY, b"").0, code::METHOD_NOT_ALLOWED);
    assert_eq!(host.ask(&mut device, &mut session, code::PUT, FACTORY, b"garbage").0, code::BAD_REQUEST);
    // What is inside needs no EDHOC of its own.
    assert_eq!(host.ask(&mut device, &mut session, code::POST, EDHOC, b"\xf5").0, code::NOT_FOUND);
    assert_eq!(send(&mut device, b"\x40\x00\x12\x34"), b"\x70\x00\x12\x34", "a ping is reset");
}

#[test]
fn an_ephemeral_key_may_wait_and_serves_once() {
    let (mut device, mut host) = (start(&Eeprom::blank()), Host::new());
    assert!(device.is_unprepared());
    device.prepare();
    let prepared = *device.own.ephemeral.public().unwrap().x();
    device.prepare();
    assert_eq!(device.own.ephemeral.public().unwrap().x(), &prepared);
    host.edhoc(&mut device, &[0xf5], b"\x03\x02");
    assert!(!device.is_unprepared(), "what is no message_1 takes none");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (_, message_1) = Initiator::start(&host.own, host.c_i, &mut OsRng).unwrap();
        let (_, message_2) = host.edhoc(&mut device, &[0xf5], &message_1);
        // A head of two bytes, then G_Y.
        seen.push(message_2[2..34].to_vec());
        assert!(device.is_unprepared());
    }
    assert_eq!(seen[0], prepared);
    assert!(seen[1] != seen[0] && seen[2] != seen[1] && seen[2] != seen[0]);
}

#[test]
fn a_device_at_fault_proves_nothing() {
    let eeprom = Eeprom::blank();
    start(&eeprom);
    let mut bytes = eeprom.bytes();
    bytes[20] ^= 1;
    let (mut device, mut host) = (start(&Eeprom::of(bytes)), Host::new());
    assert_eq!((device.info().condition, device.is_unprepared()), (Condition::Fault, false));
    let (_, message_1) = Initiator::start(&host.own, host.c_i, &mut OsRng).unwrap();
    assert_eq!(host.edhoc(&mut device, &[0xf5], &message_1).0, code::BAD_REQUEST);
    assert_eq!(host.plain(&mut device, code::GET, INFO, b"").0, code::CONTENT);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Alone, as an EDHOC message, as message_3 with a request, as a protected request, and inside of one.
    #[test]
    fn nothing_makes_it_panic_or_write(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let eeprom = Eeprom::blank();
        let (mut device, mut host) = (start(&eeprom), Host::new());
        let before = eeprom.bytes();
        let mut session = host.session(&mut device);
        let (pending, _) = host.up_to_message_3(&mut device, Transfer::ByValue);
        let kid = [&[0x09, 0x00], session.recipient().as_slice()].concat();
        let pending_kid = [&[0x09, 0x00], oscore::Id::from(pending.c_r).as_slice()].concat();
        device.handle(&mut bytes.clone(), &mut [0; DATAGRAM_LEN]);
        host.edhoc(&mut device, &[0xf5], &bytes);
        host.edhoc(&mut device, &[pending.c_r.byte()], &bytes);
        for options in [
            &[(option::OSCORE, &kid[..])][..],
            &[(option::OSCORE, &pending_kid), (option::EDHOC, &[])],
            &[(option::OSCORE, &bytes[..bytes.len().min(20)])],
        ] {
            let request = compose(&host.header(code::POST), "/", options, &bytes);
            send(&mut device, &request);
        }
        let (code, _) = host.ask(&mut device, &mut session, code::PUT, FACTORY, &bytes);
        prop_assert!(code >= code::BAD_REQUEST);
        prop_assert_eq!(eeprom.bytes(), before);
        prop_assert_eq!(host.ask(&mut device, &mut session, code::GET, INFO, b"").0, code::CONTENT);
    }
}
