//! The server's message layer: what is served, what is answered at once, what is remembered.

use coap_numbers::code;
use edhoc_oscore::coap::{
    Datagram, EXCHANGE_LIFETIME_MS, Endpoint, Exchange, Header, Incoming, NON_LIFETIME_MS, Token, Type, Writer,
};
use hexlit::hex;

type Server = Endpoint<char, 4, 32>;

fn server() -> Server {
    Endpoint::new(0xffff)
}

fn request(type_: Type, message_id: u16) -> Vec<u8> {
    let header = Header { type_, code: code::GET, message_id, token: Token::from(7) };
    let mut buffer = vec![0; 16];
    let length = Writer::new(&mut buffer, &header).unwrap().finish(0).unwrap();
    buffer.truncate(length);
    buffer
}

fn con(message_id: u16) -> Vec<u8> {
    request(Type::Con, message_id)
}

#[derive(Debug, PartialEq)]
enum Outcome {
    New,
    Reply(Vec<u8>),
    Nothing,
}

fn receive(server: &mut Server, peer: char, bytes: &[u8], now: u64) -> (Outcome, Option<Exchange<char>>) {
    match server.receive(peer, bytes, now) {
        Incoming::Request(exchange, datagram) => {
            assert_eq!(datagram.header, Datagram::parse(bytes).unwrap().header);
            assert_eq!((exchange.peer, exchange.request), (peer, datagram.header));
            (Outcome::New, Some(exchange))
        }
        Incoming::Reply(reply) => (Outcome::Reply(reply.to_vec()), None),
        Incoming::Acknowledged(_) | Incoming::Reset(_) | Incoming::Nothing => (Outcome::Nothing, None),
    }
}

fn outcome(server: &mut Server, peer: char, bytes: &[u8], now: u64) -> Outcome {
    receive(server, peer, bytes, now).0
}

/// Serves a request that must be new, and answers with its Message ID.
fn serve(server: &mut Server, peer: char, message_id: u16, now: u64) {
    let exchange = receive(server, peer, &con(message_id), now).1.expect("a new request");
    server.remember(&exchange, &message_id.to_be_bytes());
}

fn is_remembered(server: &mut Server, peer: char, message_id: u16, now: u64) -> bool {
    outcome(server, peer, &con(message_id), now) == Outcome::Reply(message_id.to_be_bytes().to_vec())
}

#[test]
fn a_confirmable_request_is_acknowledged_with_its_response() {
    let (_, exchange) = receive(&mut server(), 'a', &con(0x1234), 0);
    let expected = Header { type_: Type::Ack, code: code::CONTENT, message_id: 0x1234, token: Token::from(7) };
    assert_eq!(exchange.unwrap().response_header(code::CONTENT), expected);
}

#[test]
fn a_non_confirmable_request_gets_message_ids_of_our_own() {
    let mut server = server();
    for (request_id, own) in [(1, 0xffff), (2, 0), (3, 1)] {
        let (_, exchange) = receive(&mut server, 'a', &request(Type::Non, request_id), 0);
        let expected = Header { type_: Type::Non, code: code::CONTENT, message_id: own, token: Token::from(7) };
        assert_eq!(exchange.unwrap().response_header(code::CONTENT), expected);
        receive(&mut server, 'a', &con(100 + request_id), 0); // takes no ID of ours
    }
}

#[test]
fn a_ping_is_answered_by_a_reset() {
    assert_eq!(outcome(&mut server(), 'a', &hex!("40001234"), 0), Outcome::Reply(hex!("70001234").to_vec()));
}

#[test]
fn what_is_confirmable_and_not_for_us_is_reset() {
    for bytes in [&hex!("40451234")[..], &hex!("41011234"), &hex!("40e11234"), &hex!("40011234 ff")] {
        let outcome = outcome(&mut server(), 'a', bytes, 0);
        assert_eq!(outcome, Outcome::Reply(hex!("70001234").to_vec()), "{bytes:02x?}");
    }
}

#[test]
fn everything_else_gets_no_answer() {
    for bytes in [
        &hex!("")[..],
        &hex!("ffffffff"),
        &hex!("50001234"), // Empty, non-confirmable
        &hex!("50451234"), // a non-confirmable response
        &hex!("51011234"), // malformed, non-confirmable
        &hex!("60001234"), // an acknowledgement
        &hex!("60451234"), // one with a response
        &hex!("60011234"), // one with a request, which makes no sense
        &hex!("70001234"), // a Reset
        &hex!("70011234"), // one with a request
    ] {
        assert_eq!(outcome(&mut server(), 'a', bytes, 0), Outcome::Nothing, "{bytes:02x?}");
    }
}

#[test]
fn a_duplicate_gets_the_same_answer_and_is_not_served_again() {
    let mut server = server();
    serve(&mut server, 'a', 1, 0);
    for now in [0, 1, EXCHANGE_LIFETIME_MS - 1] {
        assert!(is_remembered(&mut server, 'a', 1, now), "{now}");
    }
    assert_eq!(
        outcome(&mut server, 'a', &con(1), EXCHANGE_LIFETIME_MS),
        Outcome::New,
        "a Message ID may be used again"
    );
}

#[test]
fn a_non_confirmable_duplicate_does_too() {
    let mut server = server();
    let (_, exchange) = receive(&mut server, 'a', &request(Type::Non, 1), 5);
    server.remember(&exchange.unwrap(), b"answer");
    let last = 5 + NON_LIFETIME_MS - 1;
    assert_eq!(outcome(&mut server, 'a', &request(Type::Non, 1), last), Outcome::Reply(b"answer".to_vec()));
    assert_eq!(outcome(&mut server, 'a', &request(Type::Non, 1), last + 1), Outcome::New);
}

#[test]
fn duplicates_do_not_prolong_the_lifetime() {
    let mut server = server();
    serve(&mut server, 'a', 1, 0);
    assert!(is_remembered(&mut server, 'a', 1, EXCHANGE_LIFETIME_MS - 1));
    assert_eq!(outcome(&mut server, 'a', &con(1), EXCHANGE_LIFETIME_MS), Outcome::New);
}

#[test]
fn a_message_id_that_is_used_again_gets_its_new_answer() {
    let mut server = server();
    (1..=4).for_each(|id| serve(&mut server, 'a', id, 0));
    let now = EXCHANGE_LIFETIME_MS;
    for id in [4, 3, 2, 1] {
        let (_, exchange) = receive(&mut server, 'a', &con(id), now);
        server.remember(&exchange.unwrap(), b"new");
        assert_eq!(outcome(&mut server, 'a', &con(id), now), Outcome::Reply(b"new".to_vec()), "{id}");
    }
}

#[test]
fn a_request_that_is_being_served_is_not_served_twice() {
    let mut server = server();
    let (_, exchange) = receive(&mut server, 'a', &con(1), 0);
    assert_eq!(outcome(&mut server, 'a', &con(1), 1), Outcome::Nothing);
    server.remember(&exchange.unwrap(), b"answer");
    assert_eq!(outcome(&mut server, 'a', &con(1), 2), Outcome::Reply(b"answer".to_vec()));
}

#[test]
fn a_request_in_anothers_place_does_not_get_its_answer() {
    let mut server = server();
    (1..=4).for_each(|id| serve(&mut server, 'a', id, 0));
    assert_eq!(outcome(&mut server, 'a', &con(5), 1), Outcome::New);
    assert_eq!(outcome(&mut server, 'a', &con(5), 1), Outcome::Nothing);
}

#[test]
fn the_last_answer_counts() {
    let mut server = server();
    let exchange = receive(&mut server, 'a', &con(1), 0).1.unwrap();
    server.remember(&exchange, b"first");
    server.remember(&exchange, b"second");
    assert_eq!(outcome(&mut server, 'a', &con(1), 1), Outcome::Reply(b"second".to_vec()));
}

#[test]
fn an_answer_too_long_to_keep_is_not_sent_cut_off() {
    let mut server = server();
    for (message_id, length, expected) in [(1, 32, Outcome::Reply(vec![7; 32])), (2, 33, Outcome::Nothing)] {
        let (_, exchange) = receive(&mut server, 'a', &con(message_id), 0);
        server.remember(&exchange.unwrap(), &vec![7; length]);
        assert_eq!(outcome(&mut server, 'a', &con(message_id), 1), expected, "{length}");
    }
}

#[test]
fn peers_message_ids_and_tokens_are_told_apart() {
    let mut server = server();
    serve(&mut server, 'a', 1, 0);
    assert_eq!(outcome(&mut server, 'b', &con(1), 0), Outcome::New);
    assert_eq!(outcome(&mut server, 'a', &con(2), 0), Outcome::New);
    assert_eq!(outcome(&mut server, 'a', &hex!("4101000108"), 0), Outcome::New);
    assert!(is_remembered(&mut server, 'a', 1, 0));
}

#[test]
fn the_least_recently_used_answer_goes_first() {
    let mut server = server();
    (1..=4).for_each(|id| serve(&mut server, 'a', id, 0));
    assert!(is_remembered(&mut server, 'a', 1, 1)); // so 2 is the oldest now
    serve(&mut server, 'a', 5, 2);
    for (id, expected) in [(1, true), (3, true), (4, true), (5, true), (2, false)] {
        assert_eq!(is_remembered(&mut server, 'a', id, 3), expected, "{id}");
    }
}

#[test]
fn a_flood_pushes_out_only_its_own() {
    let mut server = server();
    serve(&mut server, 'a', 1, 0);
    serve(&mut server, 'b', 1, 0);
    (100..200).for_each(|id| serve(&mut server, 'x', id, 1));
    for (peer, id) in [('a', 1), ('b', 1), ('x', 198), ('x', 199)] {
        assert!(is_remembered(&mut server, peer, id, 2), "{peer} {id}");
    }
}

#[test]
fn who_has_something_takes_from_oneself() {
    let mut server = server();
    (1..=3).for_each(|id| serve(&mut server, 'a', id, 0));
    (1..=2).for_each(|id| serve(&mut server, 'b', id, 1));
    for (peer, id) in [('a', 1), ('a', 2), ('a', 3), ('b', 2)] {
        assert!(is_remembered(&mut server, peer, id, 2), "{peer} {id}");
    }
}

#[test]
fn a_newcomer_takes_from_who_has_most() {
    let mut server = server();
    serve(&mut server, 'a', 1, 0);
    (1..=3).for_each(|id| serve(&mut server, 'x', id, 1));
    serve(&mut server, 'b', 1, 2);
    for (peer, id) in [('a', 1), ('x', 2), ('x', 3), ('b', 1)] {
        assert!(is_remembered(&mut server, peer, id, 3), "{peer} {id}");
    }
}

#[test]
fn what_is_over_makes_room_first() {
    let mut server = server();
    serve(&mut server, 'x', 1, 0);
    (1..=3).for_each(|id| serve(&mut server, 'a', id, 1000));
    let now = EXCHANGE_LIFETIME_MS;
    serve(&mut server, 'a', 4, now);
    (1..=4).for_each(|id| assert!(is_remembered(&mut server, 'a', id, now), "{id}"));
}

#[test]
fn an_answer_that_comes_too_late_is_forgotten() {
    let mut server = server();
    let (_, slow) = receive(&mut server, 'a', &con(1), 0);
    (2..=5).for_each(|id| serve(&mut server, 'a', id, 1));
    server.remember(&slow.unwrap(), b"late");
    assert_eq!(outcome(&mut server, 'a', &con(1), 2), Outcome::New);
}

#[test]
fn an_endpoint_may_remember_nothing() {
    let mut server = Endpoint::<char, 0, 0>::new(0);
    for _ in 0..2 {
        let Incoming::Request(exchange, _) = server.receive('a', &con(1), 0) else { panic!("not served") };
        server.remember(&exchange, b"answer");
    }
}

/// A few bytes do not fetch again what a long request was answered.
#[test]
fn a_repetition_has_the_same_length() {
    let mut server = server();
    serve(&mut server, 'a', 1, 0);
    let longer = [&con(1)[..], &hex!("b161")].concat();
    assert_eq!(outcome(&mut server, 'a', &longer, 0), Outcome::New);
    assert!(is_remembered(&mut server, 'a', 1, 0));
}

#[test]
fn whoever_sent_too_much_is_told_if_it_was_a_request() {
    let mut server = server();
    let mut too_long = con(0x1234);
    // What is behind the header is cut off somewhere.
    too_long.extend(hex!("bd ff"));
    let exchange = server.refuse('a', &too_long).expect("a request");
    let header = exchange.response_header(code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(
        (exchange.peer, header.type_, header.message_id, header.token),
        ('a', Type::Ack, 0x1234, Token::from(7))
    );
    assert_eq!(server.refuse('a', &request(Type::Non, 1)).map(|it| it.response_header(0).type_), Some(Type::Non));
    // Nobody is told about what is no request.
    for beginning in [&hex!("")[..], &hex!("4001"), &hex!("80010001ff"), &hex!("60010001ff"), &hex!("40450001ff")] {
        assert!(server.refuse('a', beginning).is_none(), "{beginning:02x?}");
    }
    // It was not done, so it is no duplicate when it comes again, shorter.
    assert_eq!(outcome(&mut server, 'a', &con(0x1234), 0), Outcome::New);
}
