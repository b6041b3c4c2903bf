use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use cbor_schemas::ProblemDetails;
use coap_lite::{CoapOption, MessageType, Packet};
use protocol::edhoc::{ConnId, IdCred, Initiator, Transfer};
use protocol::oscore::Context;

use super::revocations::token_hash;
use super::*;
use crate::client::testing::{to_packet, uint_option, uint_value};

type Address = SocketAddr;

const CORE: [&str; 2] = [".well-known", "core"];
const EDHOC: [&str; 2] = [".well-known", "edhoc"];
const LIST: &str = "list";
const TRL: [&str; 2] = ["revoke", "trl"];

const DEVICE: Address = at(1);
const ELSEWHERE: Address = at(2);

const fn at(port: u16) -> Address {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// A server, and a clock.
struct Bench {
    server: Server<Address>,
    station: PublicKey,
    now: u64,
    message_id: u16,
}

/// A device with a context.
struct Client {
    from: Address,
    context: Context,
}

/// What an observer has of its request.
struct Observation {
    token: Vec<u8>,
    correlation: Correlation,
}

fn key() -> PrivateKey {
    PrivateKey::generate(&mut OsRng)
}

impl Bench {
    fn new(revocations: Revocations) -> Self {
        let station = key();
        let public = *station.public();
        Self { server: Server::new(station, revocations), station: public, now: 0, message_id: 0 }
    }

    /// Sends a confirmable request from an address that is proved, and takes the one answer.
    fn ask(&mut self, from: Address, mut request: Packet) -> Packet {
        if request.get_option(CoapOption::Oscore).is_none() {
            let echo = self.server.conversations.echo(&from, self.now);
            request.add_option(CoapOption::from(option::ECHO), echo.to_vec());
        }
        self.ask_unproved(from, request)
    }

    /// The same from any address.
    fn ask_unproved(&mut self, from: Address, mut request: Packet) -> Packet {
        self.message_id += 1;
        request.header.message_id = self.message_id;
        if request.get_token().is_empty() {
            request.set_token(self.message_id.to_be_bytes().to_vec());
        }
        let mut answers = self.server.receive(from, &request.to_bytes().unwrap(), self.now);
        let (to, answer) = answers.pop().expect("an answer");
        assert!(answers.is_empty() && to == from);
        let answer = Packet::from_bytes(&answer).unwrap();
        assert_eq!((answer.header.message_id, answer.get_token()), (self.message_id, request.get_token()));
        answer
    }

    /// A whole handshake; message_3 is by value, or by kid.
    fn connect(&mut self, from: Address, own: &PrivateKey, transfer: Transfer) -> Option<Client> {
        let (initiator, message_1) = Initiator::start(own, ConnId::new(0x0b).unwrap(), &mut OsRng).unwrap();
        let message_2 = self.ask(from, edhoc_request(&[&[0xf5], &message_1[..]].concat()));
        if code(&message_2) != "2.04" {
            return None;
        }
        let expected = self.station;
        let is_expected = |id_cred: IdCred<'_>| match id_cred {
            IdCred::Kid(kid) => (kid == expected.kid()).then_some(expected),
            IdCred::Ccs(key, _) => (key == expected).then_some(expected),
        };
        let (pending, message_3) = initiator.finish(&message_2.payload, transfer, is_expected).unwrap();
        let message_4 = self.ask(from, edhoc_request(&[&[pending.c_r.byte()], &message_3[..]].concat()));
        if code(&message_4) != "2.04" {
            assert_eq!(message_4.payload.first(), Some(&1), "an EDHOC error");
            return None;
        }
        Some(Client { from, context: pending.confirm(Some(&message_4.payload)).unwrap() })
    }

    fn ask_protected(&mut self, client: &mut Client, request: &Packet) -> Packet {
        self.observe(client, request).0
    }

    fn observe(&mut self, client: &mut Client, request: &Packet) -> (Packet, Observation) {
        let mut outer = Packet::new();
        let correlation = client.context.protect_request(request, &mut outer, &mut [0; 2048]).unwrap();
        let answer = self.ask(client.from, outer);
        let token = answer.get_token().to_vec();
        (client.open(&answer, &correlation), Observation { token, correlation })
    }
}

impl Client {
    fn open(&self, answer: &Packet, correlation: &Correlation) -> Packet {
        let mut buffer = vec![0; answer.payload.len()];
        to_packet(&self.context.unprotect_response(answer, &mut buffer, correlation).expect("it is protected"))
    }

    /// The one notification among what goes out.
    fn notified(&self, outgoing: &[Outgoing<Address>], observation: &Observation) -> (Packet, u16) {
        let [(to, datagram)] = outgoing else { panic!("{} datagrams", outgoing.len()) };
        let packet = Packet::from_bytes(datagram).unwrap();
        assert_eq!((*to, packet.get_token()), (self.from, &observation.token[..]));
        assert_eq!(packet.header.get_type(), MessageType::Confirmable);
        (self.open(&packet, &observation.correlation), packet.header.message_id)
    }
}

fn get(path: &[&str]) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = code::GET.into();
    path.iter().for_each(|segment| packet.add_option(CoapOption::UriPath, segment.as_bytes().to_vec()));
    packet
}

fn observing(observe: u32) -> Packet {
    let mut packet = get(&TRL);
    packet.add_option(CoapOption::Observe, uint_value(observe));
    packet
}

fn edhoc_request(payload: &[u8]) -> Packet {
    let mut packet = get(&EDHOC);
    packet.header.code = code::POST.into();
    packet.payload = payload.to_vec();
    packet
}

fn code(packet: &Packet) -> String {
    packet.header.get_code()
}

fn title(packet: &Packet) -> String {
    ProblemDetails::decode(&packet.payload).unwrap().title.unwrap().to_owned()
}

fn empty(kind: MessageType, message_id: u16) -> Vec<u8> {
    let mut packet = Packet::new();
    packet.header.code = coap_lite::MessageClass::Empty;
    packet.header.set_type(kind);
    packet.header.message_id = message_id;
    packet.to_bytes().unwrap()
}

/// A registered device that observes, and its server.
fn observer() -> (Bench, Client, Observation, PrivateKey) {
    let own = key();
    let mut bench = Bench::new(Revocations::of(&[*own.public()], &[], None));
    let mut client = bench.connect(DEVICE, &own, Transfer::ByKid).unwrap();
    let (answer, observation) = bench.observe(&mut client, &observing(0));
    assert_eq!((code(&answer).as_str(), &answer.payload[..]), ("2.05", &[0xa1, 0x00, 0x80][..]));
    assert!(answer.get_option(CoapOption::Observe).is_some());
    (bench, client, observation, own)
}

#[test]
fn anyone_reads_what_there_is_and_the_list() {
    let list = [7; 2500];
    let mut bench = Bench::new(Revocations::of(&[], &[], Some(&list)));
    let core = bench.ask(DEVICE, get(&CORE));
    assert_eq!((code(&core).as_str(), core.payload), ("2.05", LINKS.as_bytes().to_vec()));
    let mut body = Vec::new();
    for number in 0..3 {
        let mut request = get(&[LIST]);
        request.add_option(CoapOption::Block2, uint_value(number << 4 | 6));
        let block = bench.ask(DEVICE, request);
        assert_eq!(uint_option(&block, option::CONTENT_FORMAT), Some(61));
        assert_eq!(uint_option(&block, option::BLOCK2), Some(number << 4 | u32::from(number < 2) << 3 | 6));
        body.extend(block.payload);
    }
    assert_eq!(body, list);
    let whole = bench.ask(DEVICE, get(&[LIST]));
    assert_eq!((whole.payload.len(), uint_option(&whole, option::BLOCK2)), (1024, Some(0xe)));
    bench.server.update(Revocations::of(&[], &[], None), 0);
    let none = bench.ask(DEVICE, get(&[LIST]));
    assert_eq!((code(&none).as_str(), title(&none).as_str()), ("4.04", "no list was signed yet"));
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut bench = Bench::new(Revocations::of(&[], &[], Some(&[1])));
    let with = |number: u16, value: &[u8]| {
        let mut request = get(&[LIST]);
        request.add_option(CoapOption::from(number), value.to_vec());
        request
    };
    let mut put = get(&[LIST]);
    put.header.code = code::PUT.into();
    for (request, expected) in [
        (get(&[]), "4.04"),
        (get(&["list", ""]), "4.04"),
        (get(&["revoke"]), "4.04"),
        (put, "4.05"),
        (get(&EDHOC), "4.05"),
        (with(option::ACCEPT, &[60]), "4.06"),
        (with(option::ACCEPT, &[61]), "2.05"),
        (with(65001, b""), "4.02"),
        (with(option::PROXY_URI, b"coap://elsewhere"), "5.05"),
        (with(option::BLOCK2, &[0x1e]), "4.00"),
        (with(option::BLOCK2, &[0x07]), "4.00"),
        (edhoc_request(b""), "4.00"),
        (edhoc_request(b"\xf5garbage"), "4.00"),
        (with(option::OSCORE, &[0x09, 0x00, 0x05]), "4.01"),
        (with(option::OSCORE, &[0xff]), "4.02"),
        (get(&TRL), "4.01"),
    ] {
        assert_eq!(code(&bench.ask(DEVICE, request.clone())), expected, "{request:?}");
    }
    // A ping, and what is no CoAP.
    let ping = bench.server.receive(DEVICE, &empty(MessageType::Confirmable, 7), 0);
    assert_eq!(ping, [(DEVICE, empty(MessageType::Reset, 7))]);
    for garbage in [&b""[..], b"\x40", &[0xff; 40], &empty(MessageType::Acknowledgement, 1)] {
        assert!(bench.server.receive(DEVICE, garbage, 0).is_empty());
    }
}

#[test]
fn a_request_that_comes_again_gets_the_same_answer() {
    let (mut bench, mut client, ..) = observer();
    let mut outer = Packet::new();
    client.context.protect_request(&get(&TRL), &mut outer, &mut [0; 2048]).unwrap();
    outer.header.message_id = 0x7777;
    let datagram = outer.to_bytes().unwrap();
    let first = bench.server.receive(DEVICE, &datagram, bench.now);
    assert_eq!(bench.server.receive(DEVICE, &datagram, bench.now), first);
    // With another Message ID it is a replay.
    outer.header.message_id = 0x7778;
    let replay = bench.server.receive(DEVICE, &outer.to_bytes().unwrap(), bench.now);
    assert_eq!(code(&Packet::from_bytes(&replay[0].1).unwrap()), "4.01");
}

#[test]
fn registered_devices_are_told_what_is_revoked_and_nobody_else_is() {
    let (own, stranger) = (key(), key());
    let revoked = [&b"one"[..], b"two"];
    let mut bench = Bench::new(Revocations::of(&[*own.public()], &revoked, None));
    for transfer in [Transfer::ByKid, Transfer::ByValue] {
        let mut client = bench.connect(DEVICE, &own, transfer).unwrap();
        let answer = bench.ask_protected(&mut client, &get(&TRL));
        assert_eq!((code(&answer).as_str(), uint_option(&answer, option::CONTENT_FORMAT)), ("2.05", Some(262)));
        let mut decoder = minicbor::Decoder::new(&answer.payload);
        assert_eq!((decoder.map().unwrap(), decoder.u8().unwrap(), decoder.array().unwrap()), (Some(1), 0, Some(2)));
        let told = [decoder.bytes().unwrap(), decoder.bytes().unwrap()];
        assert!(revoked.iter().all(|object| told.contains(&&token_hash(object)[..])), "{told:?}");
        assert!(answer.get_option(CoapOption::Observe).is_none());
        // Without a diff query, a full one is answered (RFC 9770 section 6.3).
        let mut diff = get(&TRL);
        diff.add_option(CoapOption::UriQuery, b"diff=3".to_vec());
        assert_eq!(bench.ask_protected(&mut client, &diff).payload, answer.payload);
    }
    assert!(bench.connect(ELSEWHERE, &stranger, Transfer::ByKid).is_none(), "nobody knows this kid");
    let mut client = bench.connect(ELSEWHERE, &stranger, Transfer::ByValue).unwrap();
    for request in [get(&TRL), observing(0)] {
        let refused = bench.ask_protected(&mut client, &request);
        assert_eq!((code(&refused).as_str(), title(&refused).as_str()), ("4.03", "not a registered device"));
    }
    assert_eq!(bench.server.observers(), 0);
    assert_eq!(code(&bench.ask_protected(&mut client, &get(&CORE))), "2.05");
    // Another address does not get into a session.
    client.from = DEVICE;
    let mut outer = Packet::new();
    client.context.protect_request(&get(&CORE), &mut outer, &mut [0; 2048]).unwrap();
    assert!(code(&bench.ask(DEVICE, outer)).starts_with("4.0"));
}

#[test]
fn long_answers_come_in_blocks() {
    let own = key();
    let objects: Vec<[u8; 4]> = (0..100_u32).map(u32::to_be_bytes).collect();
    let revoked: Vec<&[u8]> = objects.iter().map(|object| &object[..]).collect();
    let revocations = Revocations::of(&[*own.public()], &revoked, None);
    let expected = revocations.full_set(own.public()).unwrap();
    let mut bench = Bench::new(revocations);
    let mut client = bench.connect(DEVICE, &own, Transfer::ByKid).unwrap();
    let mut body = Vec::new();
    for number in 0..=u32::try_from(expected.len() / 1024).unwrap() {
        let mut request = if number == 0 { observing(0) } else { get(&TRL) };
        request.add_option(CoapOption::Block2, uint_value(number << 4 | 6));
        body.extend(bench.ask_protected(&mut client, &request).payload);
    }
    assert_eq!((body.len(), body == expected), (expected.len(), true));
    assert_eq!(bench.server.observers(), 1);
}

#[test]
fn observers_are_told_what_changes_for_them_once() {
    let (mut bench, client, observation, own) = observer();
    let registered = [*own.public()];
    assert!(bench.server.update(Revocations::of(&registered, &[], Some(b"a list")), 1000).is_empty(), "no news for it");
    let outgoing = bench.server.update(Revocations::of(&registered, &[b"one"], None), 1000);
    let (told, message_id) = client.notified(&outgoing, &observation);
    assert_eq!((code(&told).as_str(), told.payload[2]), ("2.05", 0x81));
    assert!(told.get_option(CoapOption::Observe).is_some());
    assert_eq!(uint_option(&Packet::from_bytes(&outgoing[0].1).unwrap(), option::OBSERVE), Some(2));

    // While that is not acknowledged, nothing else is sent; then what is true by then.
    for revoked in [&[&b"one"[..], b"two"][..], &[b"one", b"two", b"three"]] {
        assert!(bench.server.update(Revocations::of(&registered, revoked, None), 1100).is_empty());
    }
    let outgoing = bench.server.receive(DEVICE, &empty(MessageType::Acknowledgement, message_id), 1200);
    let (told, message_id) = client.notified(&outgoing, &observation);
    assert_eq!(told.payload[2], 0x83);
    assert!(bench.server.receive(ELSEWHERE, &empty(MessageType::Acknowledgement, message_id), 1200).is_empty());
    assert!(bench.server.receive(DEVICE, &empty(MessageType::Acknowledgement, message_id), 1200).is_empty());
    assert!(bench.server.poll(1_000_000).is_empty());
}

#[test]
fn a_notification_is_repeated_until_it_is_acknowledged_or_the_observer_is_given_up() {
    for answers in [true, false] {
        let (mut bench, client, observation, own) = observer();
        let outgoing = bench.server.update(Revocations::of(&[*own.public()], &[b"one"], None), 0);
        let (_, message_id) = client.notified(&outgoing, &observation);
        let mut sent = 1;
        while let Some(due) = bench.server.due().filter(|_| sent < 10) {
            assert!(bench.server.poll(due - 1).is_empty());
            let again = bench.server.poll(due);
            if again.is_empty() {
                break;
            }
            assert_eq!(again, outgoing, "the same message");
            sent += 1;
            if answers && sent == 3 {
                bench.server.receive(DEVICE, &empty(MessageType::Acknowledgement, message_id), due);
                break;
            }
        }
        assert_eq!((sent, bench.server.observers()), if answers { (3, 1) } else { (5, 0) });
    }
}

#[test]
fn an_observation_ends_with_a_reset_a_cancellation_or_the_device_itself() {
    let (mut bench, client, observation, own) = observer();
    let outgoing = bench.server.update(Revocations::of(&[*own.public()], &[b"one"], None), 0);
    let (_, message_id) = client.notified(&outgoing, &observation);
    bench.server.receive(ELSEWHERE, &empty(MessageType::Reset, message_id), 0);
    assert_eq!(bench.server.observers(), 1, "somebody else's Reset");
    bench.server.receive(DEVICE, &empty(MessageType::Reset, message_id), 0);
    assert_eq!(bench.server.observers(), 0);

    let (mut bench, mut client, observation, _) = observer();
    let mut outer = Packet::new();
    client.context.protect_request(&observing(1), &mut outer, &mut [0; 2048]).unwrap();
    outer.set_token(observation.token);
    bench.ask(DEVICE, outer);
    assert_eq!(bench.server.observers(), 0);

    // A device that is revoked itself hears that it is registered no more, and then nothing.
    let (mut bench, client, observation, _) = observer();
    let outgoing = bench.server.update(Revocations::of(&[], &[b"one"], None), 0);
    let (told, message_id) = client.notified(&outgoing, &observation);
    assert_eq!((code(&told).as_str(), told.get_option(CoapOption::Observe)), ("4.03", None));
    bench.server.receive(DEVICE, &empty(MessageType::Acknowledgement, message_id), 10);
    assert_eq!(bench.server.observers(), 0);
}

#[test]
fn an_observer_that_says_nothing_for_long_is_asked() {
    let (mut bench, client, observation, _) = observer();
    assert_eq!(bench.server.due(), Some(HEARTBEAT_MS));
    let outgoing = bench.server.poll(HEARTBEAT_MS);
    let (told, _) = client.notified(&outgoing, &observation);
    assert_eq!(told.payload, [0xa1, 0x00, 0x80]);
}

#[test]
fn the_same_request_again_is_one_observation() {
    let (mut bench, mut client, observation, _) = observer();
    for _ in 0..3 {
        let mut outer = Packet::new();
        client.context.protect_request(&observing(0), &mut outer, &mut [0; 2048]).unwrap();
        outer.set_token(observation.token.clone());
        bench.ask(DEVICE, outer);
    }
    assert_eq!(bench.server.observers(), 1);
    // With another token too: whoever has a context has one observation, and not the places of others.
    bench.observe(&mut client, &observing(0));
    assert_eq!(bench.server.observers(), 1);
}

/// A client takes an Observe value that is smaller than one before for that of an older message (RFC 7641 section 3.4).
#[test]
fn an_observation_that_is_renewed_goes_on_counting() {
    let (mut bench, mut client, observation, own) = observer();
    let outgoing = bench.server.update(Revocations::of(&[*own.public()], &[b"one"], None), 0);
    let (_, message_id) = client.notified(&outgoing, &observation);
    let notified = uint_option(&Packet::from_bytes(&outgoing[0].1).unwrap(), option::OBSERVE);
    bench.server.receive(DEVICE, &empty(MessageType::Acknowledgement, message_id), 0);
    let mut outer = Packet::new();
    client.context.protect_request(&observing(0), &mut outer, &mut [0; 2048]).unwrap();
    outer.set_token(observation.token);
    let renewed = uint_option(&bench.ask(DEVICE, outer), option::OBSERVE);
    assert!(renewed > notified, "{renewed:?} after {notified:?}");
}

/// RFC 8613, sections 4.1.3.5 and 4.2.
#[test]
fn observe_counts_if_it_is_there_outside_too_and_the_outer_code_fits_the_request() {
    let (mut bench, mut client, ..) = observer();
    bench.server.observers.clear();
    let mut outer = Packet::new();
    let correlation = client.context.protect_request(&observing(0), &mut outer, &mut [0; 2048]).unwrap();
    outer.clear_option(CoapOption::Observe);
    let answer = bench.ask(DEVICE, outer);
    let inner = client.open(&answer, &correlation);
    assert_eq!((code(&answer).as_str(), code(&inner).as_str()), ("2.05", "2.05"));
    assert!(answer.get_option(CoapOption::Observe).is_none() && inner.get_option(CoapOption::Observe).is_none());
    assert_eq!(bench.server.observers(), 0);

    for (request, expected) in [(observing(0), "2.05"), (get(&TRL), "2.04")] {
        let mut stranger = bench.connect(ELSEWHERE, &key(), Transfer::ByValue).unwrap();
        let mut outer = Packet::new();
        let correlation = stranger.context.protect_request(&request, &mut outer, &mut [0; 2048]).unwrap();
        let answer = bench.ask(ELSEWHERE, outer);
        assert_eq!((code(&answer).as_str(), code(&stranger.open(&answer, &correlation)).as_str()), (expected, "4.03"));
    }
}

/// One byte names a context at an address.
#[test]
fn a_device_may_come_again_any_number_of_times() {
    let own = key();
    let mut bench = Bench::new(Revocations::of(&[*own.public()], &[], None));
    for _ in 0..2 * ConnId::COUNT {
        bench.now += 1000;
        let mut client = bench.connect(DEVICE, &own, Transfer::ByKid).expect("a context");
        assert_eq!(code(&bench.ask_protected(&mut client, &observing(0))), "2.05");
        bench.connect(DEVICE, &key(), Transfer::ByValue).expect("a context");
    }
    assert_eq!((bench.server.conversations.sessions().established().len(), bench.server.observers()), (2 * 4, 4));
}

#[test]
fn a_device_does_not_push_out_others_from_many_addresses() {
    let (own, other) = (key(), key());
    let mut bench = Bench::new(Revocations::of(&[*own.public(), *other.public()], &[], None));
    let mut client = bench.connect(ELSEWHERE, &other, Transfer::ByKid).unwrap();
    for from in 10..60 {
        bench.now += 1000;
        bench.connect(at(from), &own, Transfer::ByKid).unwrap();
    }
    assert_eq!(bench.server.conversations.sessions().established().len(), 4 + 1);
    assert_eq!(code(&bench.ask_protected(&mut client, &get(&TRL))), "2.05");
}

#[test]
fn strangers_push_out_strangers_and_no_device() {
    let (mut bench, mut client, _, own) = observer();
    for number in 0..STRANGERS + 10 {
        bench.now += 100;
        let from = at(10 + u16::try_from(number).unwrap());
        bench.connect(from, &key(), Transfer::ByValue).unwrap();
    }
    assert_eq!(bench.server.conversations.sessions().established().len(), STRANGERS + 1);
    assert_eq!(code(&bench.ask_protected(&mut client, &get(&TRL))), "2.05");
    // Handshakes that are never finished do no harm either.
    for number in 0..HANDSHAKES + 10 {
        bench.now += 100;
        let (_, message_1) = Initiator::start(&own, ConnId::new(1).unwrap(), &mut OsRng).unwrap();
        let from = at(u16::try_from(number % 250).unwrap() + 3);
        assert_eq!(code(&bench.ask(from, edhoc_request(&[&[0xf5], &message_1[..]].concat()))), "2.04");
    }
    assert!(bench.server.conversations.sessions().handshakes() <= HANDSHAKES);
    assert_eq!(code(&bench.ask_protected(&mut client, &get(&TRL))), "2.05");
}

#[test]
fn handshakes_begin_at_a_bounded_rate() {
    let mut bench = Bench::new(Revocations::default());
    let (_, message_1) = Initiator::start(&key(), ConnId::new(1).unwrap(), &mut OsRng).unwrap();
    let request = edhoc_request(&[&[0xf5], &message_1[..]].concat());
    let begun = (0..HANDSHAKES_A_SECOND + 20).filter(|_| code(&bench.ask(DEVICE, request.clone())) == "2.04").count();
    assert_eq!(begun as u64, HANDSHAKES_A_SECOND);
    let refused = bench.ask(DEVICE, request.clone());
    assert_eq!((code(&refused).as_str(), uint_option(&refused, option::MAX_AGE)), ("5.03", Some(1)));
    bench.now = 1000;
    assert_eq!(code(&bench.ask(DEVICE, request)), "2.04");
}

/// A list of 2500 bytes is not sent to whoever is said to have asked for it in a dozen.
#[test]
fn nobody_is_sent_more_than_three_times_the_bytes_before_its_address_is_proved() {
    let list = [7; 2500];
    let mut bench = Bench::new(Revocations::of(&[], &[], Some(&list)));
    let mut block = get(&[LIST]);
    block.add_option(CoapOption::Block2, uint_value(0x16));
    let (initiator, message_1) = Initiator::start_asking(&key(), ConnId::new(1).unwrap(), &mut OsRng).unwrap();
    let asking = edhoc_request(&[&[0xf5], &message_1[..]].concat());
    for mut request in
        [get(&[LIST]), block, get(&CORE), get(&TRL), get(&["nothing"]), get(&[]), edhoc_request(b"?"), asking]
    {
        bench.message_id += 1;
        request.header.message_id = bench.message_id;
        let datagram = request.to_bytes().unwrap();
        let answers = bench.server.receive(DEVICE, &datagram, 0);
        let [(_, answer)] = &answers[..] else { panic!("{} answers", answers.len()) };
        assert!(answer.len() <= 3 * datagram.len(), "{} for {}: {request:?}", answer.len(), datagram.len());
        assert_eq!(bench.server.receive(DEVICE, &datagram, 0), answers, "nor when it comes again");
    }
    drop(initiator);

    let refused = bench.ask_unproved(DEVICE, get(&[LIST]));
    assert_eq!(code(&refused), "4.01");
    let echo = refused.get_first_option(CoapOption::from(option::ECHO)).expect("an Echo option").clone();
    let mut proving = get(&[LIST]);
    proving.add_option(CoapOption::from(option::ECHO), echo);
    assert_eq!(bench.ask_unproved(DEVICE, proving.clone()).payload.len(), 1024);
    assert_eq!(code(&bench.ask_unproved(ELSEWHERE, proving.clone())), "4.01");
    bench.now = 5 * 60 * 1000;
    assert_eq!(code(&bench.ask_unproved(DEVICE, proving)), "4.01");
}

#[test]
fn a_datagram_that_is_too_long_and_an_error_message_have_their_answers() {
    let mut bench = Bench::new(Revocations::default());
    let mut long = get(&[LIST]);
    (long.header.message_id, long.payload) = (77, vec![1; MAX_DATAGRAM]);
    let mut long = long.to_bytes_unlimited().unwrap();
    long.truncate(MAX_DATAGRAM + 1);
    let answers = bench.server.receive(DEVICE, &long, 0);
    let answer = Packet::from_bytes(&answers[0].1).unwrap();
    assert_eq!((code(&answer).as_str(), answer.header.message_id), ("4.13", 77));
    let error = bench.ask(DEVICE, edhoc_request(b"\x01\x65sorry"));
    assert_eq!((code(&error).as_str(), &error.payload[..]), ("2.04", &[][..]));
    let with = |number: u16, value: &[u8]| {
        let mut request = get(&[LIST]);
        request.add_option(CoapOption::from(number), value.to_vec());
        request
    };
    for request in
        [with(option::ACCEPT, &[0, 0, 61]), with(option::URI_HOST, b""), with(option::URI_PATH, &[b'x'; 256])]
    {
        assert_eq!(code(&bench.ask(DEVICE, request)), "4.02");
    }
    let mut proxied = with(option::PROXY_URI, b"coap://elsewhere");
    proxied.add_option(CoapOption::Oscore, vec![0x09, 0, 5]);
    assert_eq!(code(&bench.ask(DEVICE, proxied)), "5.05");
}
