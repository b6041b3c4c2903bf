//! RFC 8613, appendices C.4 to C.8: whole CoAP datagrams, with each kind of message that OSCORE is used with here.
//! C.1 to C.3, key derivation, are beside the code.

use coap_lite::Packet;
use coap_message::{MessageOption, MinimalWritableMessage, ReadableMessage};
use coap_message_implementations::inmemory::{Message, SliceBuffer};
use edhoc_oscore::coap::{Datagram, Writer};
use edhoc_oscore::oscore::{Context, Correlation, Id, IdContext, OptionValue};
use hexlit::hex;

const SECRET: [u8; 16] = hex!("0102030405060708090a0b0c0d0e0f10");
const SALT: [u8; 8] = hex!("9e7ca92223786340");
const C_4: [&[u8]; 2] = [
    &hex!("44015d1f00003974396c6f63616c686f737483747631"),
    &hex!("44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e"),
];
const C_5: [&[u8]; 2] = [
    &hex!("440171c30000b932396c6f63616c686f737483747631"),
    &hex!("440271c30000b932396c6f63616c686f737463091400ff4ed339a5a379b0b8bc731fffb0"),
];
const C_6: [&[u8]; 2] = [
    &hex!("44012f8eef9bbf7a396c6f63616c686f737483747631"),
    &hex!("44022f8eef9bbf7a396c6f63616c686f73746b19140837cbf3210017a2d3ff72cd7273fd331ac45cffbe55c3"),
];
const RESPONSE: &[u8] = &hex!("64455d1f00003974ff48656c6c6f20576f726c6421");
const RESPONSE_C_7: &[u8] = &hex!("64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106");
const RESPONSE_C_8: &[u8] = &hex!("64445d1f00003974920100ff4d4c13669384b67354b2b6175ff4b8658c666a6cf88e");

struct Request {
    client: Context,
    server: Context,
    plain: &'static [u8],
    protected: &'static [u8],
}

impl Request {
    fn new([plain, protected]: [&'static [u8]; 2], [mut client, server]: [Context; 2]) -> Self {
        client.skip_to(20);
        Self { client, server, plain, protected }
    }
}

fn both_ends(client: Id, server: Id, derive: impl Fn(Id, Id) -> Context) -> [Context; 2] {
    [derive(client, server), derive(server, client)]
}

fn c_4() -> Request {
    let derive = |sender, recipient| Context::derive(&SECRET, &SALT, sender, recipient);
    Request::new(C_4, both_ends(Id::EMPTY, Id::from(1), derive))
}

fn c_5() -> Request {
    let derive = |sender, recipient| Context::derive(&SECRET, &[], sender, recipient);
    Request::new(C_5, both_ends(Id::from(0), Id::from(1), derive))
}

fn c_6() -> Request {
    let id_context = IdContext::new(&hex!("37cbf3210017a2d3")).unwrap();
    let derive = |sender, recipient| Context::derive_with_id_context(&SECRET, &SALT, id_context, sender, recipient);
    Request::new(C_6, both_ends(Id::EMPTY, Id::from(1), derive))
}

/// The two contexts of C.4 after its request, and what ties the response to it; the answers of C.7 and C.8.
fn responses() -> impl Iterator<Item = (Context, Context, Correlation, &'static [u8])> {
    [RESPONSE_C_7, RESPONSE_C_8].into_iter().map(|protected| {
        let Request { client, mut server, protected: request, .. } = c_4();
        let (_, correlation) = server.unprotect_request(&message(request), &mut [0; 64]).unwrap();
        let own = if protected == RESPONSE_C_8 { correlation.with_partial_iv() } else { correlation };
        (client, server, own, protected)
    })
}

fn message(datagram: &[u8]) -> Message<SliceBuffer<'_>> {
    Datagram::parse(datagram).unwrap().message()
}

/// Header and token are not the business of OSCORE.
fn packet_headed_like(datagram: &[u8]) -> Packet {
    let mut packet = Packet::from_bytes(datagram).unwrap();
    packet.clear_all_options();
    packet.payload.clear();
    packet
}

type Content = (u8, Vec<(u16, Vec<u8>)>, Vec<u8>);

fn content(message: &impl ReadableMessage) -> Content {
    let options = message.options().map(|option| (option.number(), option.value().to_vec())).collect();
    (message.code().into(), options, message.payload().to_vec())
}

fn get_tv1() -> Content {
    (1, vec![(11, b"tv1".to_vec())], vec![])
}

fn hello_world() -> Content {
    (0x45, vec![], b"Hello World!".to_vec())
}

#[test]
fn requests_as_in_memory_messages() {
    for Request { mut client, mut server, plain, protected } in [c_4(), c_5(), c_6()] {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer, &Datagram::parse(plain).unwrap().header).unwrap();
        let mut outer = writer.message();
        let sent = client.protect_request(&message(plain), &mut outer, &mut [0; 64]).unwrap();
        let length = outer.finish().0;
        let length = writer.finish(length).unwrap();
        assert_eq!(&buffer[..length], protected);

        let mut buffer = [0; 64];
        let (inner, received) = server.unprotect_request(&message(protected), &mut buffer).unwrap();
        assert_eq!(content(&inner), get_tv1());
        assert_eq!(sent, received);
    }
}

#[test]
fn requests_as_coap_lite_packets() {
    for Request { mut client, mut server, plain, protected } in [c_4(), c_5(), c_6()] {
        let mut outer = packet_headed_like(plain);
        let inner = Packet::from_bytes(plain).unwrap();
        let sent = client.protect_request(&inner, &mut outer, &mut [0; 64]).unwrap();
        assert_eq!(outer.to_bytes().unwrap(), protected);

        let mut buffer = [0; 64];
        let outer = Packet::from_bytes(protected).unwrap();
        let (inner, received) = server.unprotect_request(&outer, &mut buffer).unwrap();
        let mut packet = Packet::new();
        packet.set_from_message(&inner).unwrap();
        assert_eq!(content(&packet), get_tv1());
        assert_eq!(sent, received);
    }
}

#[test]
fn requests_in_place() {
    for Request { mut server, protected, .. } in [c_4(), c_5(), c_6()] {
        let mut received = protected.to_vec();
        let datagram = Datagram::parse(&received).unwrap();
        let option = OptionValue::of(&datagram.message()).unwrap();
        let ciphertext_at = received.len() - datagram.payload_length();
        let (inner, _) = server.open_request(&option, &mut received[ciphertext_at..]).unwrap();
        assert_eq!(content(&inner), get_tv1());
    }
}

#[test]
fn responses_as_in_memory_messages() {
    for (client, mut server, correlation, protected) in responses() {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer, &Datagram::parse(RESPONSE).unwrap().header).unwrap();
        let mut outer = writer.message();
        server.protect_response(&message(RESPONSE), &mut outer, &mut [0; 64], &correlation).unwrap();
        let length = outer.finish().0;
        let length = writer.finish(length).unwrap();
        assert_eq!(&buffer[..length], protected);

        let mut buffer = [0; 64];
        let inner = client.unprotect_response(&message(protected), &mut buffer, &correlation).unwrap();
        assert_eq!(content(&inner), hello_world());
    }
}

#[test]
fn responses_as_coap_lite_packets() {
    for (client, mut server, correlation, protected) in responses() {
        let mut outer = packet_headed_like(RESPONSE);
        let inner = Packet::from_bytes(RESPONSE).unwrap();
        server.protect_response(&inner, &mut outer, &mut [0; 64], &correlation).unwrap();
        assert_eq!(outer.to_bytes().unwrap(), protected);

        let mut buffer = [0; 64];
        let outer = Packet::from_bytes(protected).unwrap();
        let inner = client.unprotect_response(&outer, &mut buffer, &correlation).unwrap();
        assert_eq!(content(&inner), hello_world());
    }
}

#[test]
fn responses_in_place() {
    for (_, mut server, correlation, protected) in responses() {
        let mut buffer = [0xa5; 64];
        let header = Datagram::parse(RESPONSE).unwrap().header;
        let mut response = server.respond(&correlation, &header, &mut buffer).unwrap();
        let mut inner = response.message().unwrap();
        inner.set_from_message(&message(RESPONSE)).unwrap();
        let length = inner.finish().0;
        let length = response.seal(&server, length).unwrap();
        assert_eq!(&buffer[..length], protected);
    }
}
