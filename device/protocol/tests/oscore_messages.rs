//! What OSCORE accepts, what it refuses, and with which code.

use coap_lite::Packet;
use coap_message::{MessageOption, MinimalWritableMessage, ReadableMessage};
use coap_message_implementations::inmemory::{Message, MessageMut, SliceBuffer, SliceBufferMut};
use coap_numbers::{code, option};
use edhoc_oscore::coap::{Datagram, Header, Token, Type, unsupported_option};
use edhoc_oscore::oscore::{
    Context, Correlation, Error, Id, OptionValue, PartialIv, request_kid, split_combined, split_combined_mut,
};

fn pair() -> (Context, Context) {
    let [client, server] = [3, 7].map(Id::from);
    (Context::derive(b"secret", b"salt", client, server), Context::derive(b"secret", b"salt", server, client))
}

/// A message of its own: code, options in order, payload.
#[derive(Clone, Debug, PartialEq)]
struct Content {
    code: u8,
    options: Vec<(u16, Vec<u8>)>,
    payload: Vec<u8>,
}

impl Content {
    fn new(code: u8, options: &[(u16, &[u8])], payload: &[u8]) -> Self {
        let options = options.iter().map(|(number, value)| (*number, value.to_vec())).collect();
        Self { code, options, payload: payload.to_vec() }
    }

    fn of(message: &impl ReadableMessage) -> Self {
        let options = message.options().map(|option| (option.number(), option.value().to_vec())).collect();
        Self { code: message.code().into(), options, payload: message.payload().to_vec() }
    }

    fn numbers(&self) -> Vec<u16> {
        self.options.iter().map(|(number, _)| *number).collect()
    }

    fn write(&self, message: &mut impl MinimalWritableMessage<Code = u8, OptionNumber = u16>) {
        message.set_code(self.code);
        self.options.iter().for_each(|(number, value)| message.add_option(*number, value).unwrap());
        message.set_payload(&self.payload).unwrap();
    }

    /// As it lies in memory.
    fn encode(&self) -> Encoded {
        let (mut code, mut tail) = (0, vec![0; 2048]);
        let mut message = MessageMut::new_in_slice(&mut code, &mut tail);
        self.write(&mut message);
        let length = message.finish().0;
        tail.truncate(length);
        Encoded { code, tail }
    }
}

#[derive(Clone)]
struct Encoded {
    code: u8,
    tail: Vec<u8>,
}

impl Encoded {
    fn message(&self) -> Message<SliceBuffer<'_>> {
        Message::new_from_slice(self.code, &self.tail)
    }
}

fn put() -> Content {
    Content::new(code::PUT, &[(option::URI_PATH, b"comm"), (option::URI_PATH, b"owner")], b"payload")
}

fn content() -> Content {
    Content::new(code::CONTENT, &[(option::CONTENT_FORMAT, &[60])], b"answer")
}

fn protect(client: &mut Context, inner: &Content) -> Result<(Content, Correlation), Error> {
    protect_with(inner, |inner, outer| client.protect_request(inner, outer, &mut [0; 2048]))
}

fn answer(server: &mut Context, inner: &Content, correlation: &Correlation) -> Result<Content, Error> {
    protect_with(inner, |inner, outer| server.protect_response(inner, outer, &mut [0; 2048], correlation))
        .map(|(outer, ())| outer)
}

fn protect_with<R>(
    inner: &Content,
    protect: impl FnOnce(&Message<SliceBuffer<'_>>, &mut MessageMut<SliceBufferMut<'_>>) -> Result<R, Error>,
) -> Result<(Content, R), Error> {
    let (mut code, mut tail) = (0, [0; 2048]);
    let mut outer = MessageMut::new_in_slice(&mut code, &mut tail);
    let result = protect(&inner.encode().message(), &mut outer)?;
    let length = outer.finish().0;
    Ok((Content::of(&Message::new_from_slice(code, &tail[..length])), result))
}

fn unprotect(server: &mut Context, outer: &Content) -> Result<(Content, Correlation), Error> {
    let mut buffer = [0; 2048];
    let (inner, correlation) = server.unprotect_request(&outer.encode().message(), &mut buffer)?;
    Ok((Content::of(&inner), correlation))
}

fn read(client: &Context, outer: &Content, correlation: &Correlation) -> Result<Content, Error> {
    let mut buffer = [0; 2048];
    client.unprotect_response(&outer.encode().message(), &mut buffer, correlation).map(|inner| Content::of(&inner))
}

#[test]
fn a_request_and_its_response() {
    let (mut client, mut server) = pair();
    let (outer, sent) = protect(&mut client, &put()).unwrap();
    assert_eq!((outer.code, outer.numbers()), (code::POST, vec![option::OSCORE]));
    assert_eq!(outer.payload.len(), 1 + 5 + 6 + 1 + 7 + 8, "code, two options, marker, payload, tag");
    assert_eq!(request_kid(&outer.encode().message()), Ok(client.sender()));

    let (inner, received) = unprotect(&mut server, &outer).unwrap();
    assert_eq!(inner, put());
    let outer = answer(&mut server, &content(), &received).unwrap();
    assert_eq!((outer.code, outer.options.clone()), (code::CHANGED, vec![(option::OSCORE, vec![])]));
    assert_eq!(read(&client, &outer, &sent), Ok(content()));
}

#[test]
fn outer_options_are_merged_in_order_in_every_kind_of_message() {
    let inner = Content::new(
        code::GET,
        &[
            (option::IF_MATCH, b"1"),
            (option::URI_HOST, b"host"),
            (option::URI_PORT, &[1]),
            (option::URI_PATH, b"path"),
            (option::MAX_AGE, &[]),
            (option::HOP_LIMIT, &[9]),
            (option::BLOCK2, &[6]),
            (option::PROXY_SCHEME, b"coap"),
            (option::NO_RESPONSE, &[2]),
            (option::REQUEST_TAG, b"tag"),
            (65000, b"unknown"),
        ],
        b"",
    );
    let (mut client, mut server) = pair();
    let (outer, _) = protect(&mut client, &inner).unwrap();
    let outside = [option::URI_HOST, option::URI_PORT, option::OSCORE, option::HOP_LIMIT, option::PROXY_SCHEME];
    assert_eq!(outer.numbers(), outside);

    let mut packet = Packet::new();
    client.protect_request(&inner.encode().message(), &mut packet, &mut [0; 256]).unwrap();
    assert_eq!(Content::of(&packet).numbers(), outside);

    let direct = Content { options: outer.options[..4].to_vec(), ..outer }; // no proxy on the way removed the last
    let (inner, _) = unprotect(&mut server, &direct).unwrap();
    assert_eq!(inner.numbers(), [1, 11, 14, 23, 258, 292, 65000]);
}

#[test]
fn what_cannot_be_protected_is_refused() {
    let (mut client, _) = pair();
    for number in [option::OSCORE, option::EDHOC, option::PROXY_URI, u16::MAX] {
        let inner = Content::new(code::GET, &[(number, b"")], b"");
        assert_eq!(protect(&mut client, &inner).unwrap_err(), Error::Unsupported, "{number}");
    }
    let malformed = Message::new_from_slice(code::GET, &[0xf0]);
    let result = client.protect_request(&malformed, &mut Packet::new(), &mut [0; 64]);
    assert_eq!(result.unwrap_err(), Error::Unsupported);
}

/// RFC 8613, sections 4.1.3.5 and 4.2.
#[test]
fn observations_show_outside_and_are_bound_inside() {
    let (mut client, mut server) = pair();
    let inner = Content::new(code::GET, &[(option::OBSERVE, b""), (option::URI_PATH, b"trl")], b"");
    let (outer, asked) = protect(&mut client, &inner).unwrap();
    assert_eq!((outer.code, outer.numbers()), (code::FETCH, vec![option::OBSERVE, option::OSCORE]));
    let (request, correlation) = unprotect(&mut server, &outer).unwrap();
    assert_eq!(request, inner);

    let mut partial_ivs = Vec::new();
    for sequence in 1..=3 {
        let options: [(u16, &[u8]); 2] = [(option::OBSERVE, &[sequence]), (option::CONTENT_FORMAT, &[60])];
        let notification = Content::new(code::CONTENT, &options, &[sequence]);
        let mut outer = Packet::new();
        let message = notification.encode();
        server.protect_response(&message.message(), &mut outer, &mut [0; 256], &correlation).unwrap();
        assert_eq!(u8::from(outer.header.code), code::CONTENT);
        let shown = Content::of(&outer);
        assert_eq!(shown.options[0], (option::OBSERVE, vec![sequence]));
        let option = OptionValue::of(&outer).unwrap();
        partial_ivs.push(option.partial_iv.map(|partial_iv| partial_iv.as_slice().to_vec()));
        let mut buffer = [0; 256];
        let seen = Content::of(&client.unprotect_response(&outer, &mut buffer, &asked).unwrap());
        assert_eq!(seen.options, [(option::OBSERVE, vec![]), (option::CONTENT_FORMAT, vec![60])]);
        assert_eq!(seen.payload, [sequence]);
    }
    // One nonce seals one message: those that come later have numbers of their own, in order.
    assert_eq!(partial_ivs, [None, Some(vec![0]), Some(vec![1])]);
}

#[test]
fn outer_options_are_discarded() {
    let (mut client, mut server) = pair();
    let (mut outer, _) = protect(&mut client, &put()).unwrap();
    outer.options.insert(0, (option::IF_MATCH, b"outer".to_vec()));
    outer.options.insert(1, (option::OBSERVE, vec![]));
    outer.options.push((option::URI_PATH, b"elsewhere".to_vec()));
    assert_eq!(unprotect(&mut server, &outer).unwrap().0, put());
}

#[test]
fn outer_options_that_need_action_are_refused() {
    let (mut client, mut server) = pair();
    let (outer, _) = protect(&mut client, &put()).unwrap();
    for number in [
        option::OSCORE,
        option::BLOCK1,
        option::BLOCK2,
        option::Q_BLOCK1,
        option::Q_BLOCK2,
        option::HOP_LIMIT, // may not be empty
        u16::MAX,
    ] {
        let mut outer = outer.clone();
        outer.options.push((number, vec![]));
        assert_eq!(unprotect(&mut server, &outer).unwrap_err(), Error::BadOption, "{number}");
    }
    for number in [option::PROXY_URI, option::PROXY_SCHEME, option::PROXY_CRI, option::PROXY_SCHEME_NUMBER] {
        let mut outer = outer.clone();
        outer.options.push((number, b"coap://elsewhere".to_vec()));
        assert_eq!(unprotect(&mut server, &outer).unwrap_err(), Error::Proxy, "{number}");
    }
    assert_eq!((Error::BadOption.code(), Error::Proxy.code()), (code::BAD_OPTION, code::PROXYING_NOT_SUPPORTED));
    assert!(unprotect(&mut server, &outer).is_ok(), "and nothing changed");
}

#[test]
fn an_unprotected_message_says_so() {
    let (client, mut server) = pair();
    assert_eq!(unprotect(&mut server, &put()).unwrap_err(), Error::NotProtected);
    let (_, correlation) = protect(&mut pair().0, &put()).unwrap();
    assert_eq!(read(&client, &content(), &correlation), Err(Error::NotProtected));
    assert_eq!(Error::NotProtected.code(), code::UNAUTHORIZED);
}

#[test]
fn malformed_option_values_are_refused() {
    let bad: [&[u8]; 14] = [
        &[0x00],                      // is left out instead
        &[0x00, 0x01],                // bytes that belong to nothing
        &[0x01],                      // no Partial IV
        &[0x0b, 1, 2],                // too short a Partial IV
        &[0x0e, 1, 2, 3, 4, 5, 6],    // lengths 6 and 7 are reserved
        &[0x0f, 1, 2, 3, 4, 5, 6, 7], //
        &[0x0a, 0, 1, 3],             // a leading zero
        &[0x01, 1, 3],                // a kid without its flag
        &[0x19, 1],                   // no length of the kid context
        &[0x19, 1, 4, 1, 2, 3],       // too short a kid context
        &[0x29, 1, 3],                // reserved flags: group
        &[0x49, 1, 3],                //
        &[0x89, 1, 3],                // extension
        &[0xff; 12],                  //
    ];
    for value in bad {
        assert_eq!(OptionValue::decode(value), Err(Error::BadOption), "{value:02x?}");
    }
    for value in [&[0x09, 1, 1, 2, 3, 4, 5, 6, 7, 8][..], &[0x19, 1, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]] {
        assert_eq!(OptionValue::decode(value), Err(Error::ContextNotFound), "longer than any ID: {value:02x?}");
    }
}

#[test]
fn a_request_needs_partial_iv_and_kid() {
    let (mut client, mut server) = pair();
    let (outer, _) = protect(&mut client, &put()).unwrap();
    for value in [&[][..], &[0x01, 0x00], &[0x08, 0x03]] {
        let outer = Content { options: vec![(option::OSCORE, value.to_vec())], ..outer.clone() };
        assert_eq!(unprotect(&mut server, &outer).unwrap_err(), Error::BadOption, "{value:02x?}");
    }
    let no_kid = Content { options: vec![(option::OSCORE, vec![0x01, 0x00])], ..outer };
    assert_eq!(request_kid(&no_kid.encode().message()), Err(Error::BadOption));
}

#[test]
fn another_kid_or_kid_context_is_not_found() {
    let (mut client, mut server) = pair();
    let (outer, _) = protect(&mut client, &put()).unwrap();
    for value in [&[0x09, 0x00, 0x04][..], &[0x09, 0x00], &[0x19, 0x00, 0x01, 0x05, 0x03], &[0x19, 0x00, 0x00, 0x03]] {
        let outer = Content { options: vec![(option::OSCORE, value.to_vec())], ..outer.clone() };
        assert_eq!(unprotect(&mut server, &outer).unwrap_err(), Error::ContextNotFound, "{value:02x?}");
    }
    assert_eq!(Error::ContextNotFound.code(), code::UNAUTHORIZED);
}

#[test]
fn a_replay_is_refused_and_an_attempt_blocks_nothing() {
    let (mut client, mut server) = pair();
    let (outer, _) = protect(&mut client, &put()).unwrap();
    let mut forged = outer.clone();
    forged.payload[0] ^= 1;
    assert_eq!(unprotect(&mut server, &forged).unwrap_err(), Error::Decryption);
    assert!(unprotect(&mut server, &outer).is_ok(), "a forgery must not use up the sequence number");
    assert_eq!(unprotect(&mut server, &outer).unwrap_err(), Error::Replay);
    assert_eq!((Error::Decryption.code(), Error::Replay.code()), (code::BAD_REQUEST, code::UNAUTHORIZED));
}

#[test]
fn the_window_has_32_places() {
    let (mut client, mut server) = pair();
    let requests: Vec<_> = (0..34).map(|_| protect(&mut client, &put()).unwrap().0).collect();
    assert!(unprotect(&mut server, &requests[33]).is_ok());
    assert_eq!(unprotect(&mut server, &requests[1]).unwrap_err(), Error::Replay);
    assert!(unprotect(&mut server, &requests[2]).is_ok());
    assert_eq!(unprotect(&mut server, &requests[2]).unwrap_err(), Error::Replay);
}

#[test]
fn sequence_numbers_run_out() {
    let (mut client, mut server) = pair();
    client.skip_to(PartialIv::MAX);
    let (outer, _) = protect(&mut client, &put()).unwrap();
    assert_eq!(outer.options[0].1[..6], [0x0d, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert!(unprotect(&mut server, &outer).is_ok());
    assert_eq!(protect(&mut client, &put()).unwrap_err(), Error::Exhausted);
}

#[test]
fn a_nonce_seals_one_response() {
    let (mut client, mut server) = pair();
    let (outer, sent) = protect(&mut client, &put()).unwrap();
    let (_, received) = unprotect(&mut server, &outer).unwrap();
    let answers = [(); 3].map(|()| answer(&mut server, &content(), &received).unwrap());
    let values = answers.clone().map(|answer| answer.options[0].1.clone());
    assert_eq!(values, [vec![], vec![0x01, 0x00], vec![0x01, 0x01]]);
    for answer in answers {
        assert_eq!(read(&client, &answer, &sent), Ok(content()));
    }
}

#[test]
fn a_response_belongs_to_its_request_and_context() {
    let (mut client, mut server) = pair();
    let (first, sent_first) = protect(&mut client, &put()).unwrap();
    let (second, sent_second) = protect(&mut client, &put()).unwrap();
    let (_, received) = unprotect(&mut server, &first).unwrap();
    unprotect(&mut server, &second).unwrap();
    let answered = answer(&mut server, &content(), &received).unwrap();
    assert_eq!(read(&client, &answered, &sent_second), Err(Error::Decryption));
    assert_eq!(read(&client, &answered, &sent_first), Ok(content()));

    let mut stranger = Context::derive(b"secret", b"salt", Id::from(7), Id::from(4));
    assert_eq!(answer(&mut stranger, &content(), &received), Err(Error::ContextNotFound));
    assert_eq!(read(&stranger, &answered, &sent_first), Err(Error::ContextNotFound));
    let other_kid = Content { options: vec![(option::OSCORE, vec![0x08, 0x09])], ..answered.clone() };
    assert_eq!(read(&client, &other_kid, &sent_first), Err(Error::ContextNotFound));
    let own_kid = Content { options: vec![(option::OSCORE, vec![0x08, 0x07])], ..answered };
    assert_eq!(read(&client, &own_kid, &sent_first), Ok(content()));
}

#[test]
fn a_request_is_no_response_to_itself() {
    let (mut client, _) = pair();
    let (outer, sent) = protect(&mut client, &put()).unwrap();
    assert!(read(&client, &outer, &sent).is_err());
}

#[test]
fn too_short_a_payload_is_refused() {
    let (mut client, mut server) = pair();
    let (outer, _) = protect(&mut client, &put()).unwrap();
    for length in 0..=8 {
        let outer = Content { payload: outer.payload[..length].to_vec(), ..outer.clone() };
        assert_eq!(unprotect(&mut server, &outer).unwrap_err(), Error::Decryption, "{length}");
    }
}

#[test]
fn buffers_that_are_too_small_are_an_error_at_every_size() {
    let inner = put().encode();
    let (mut client, mut server) = pair();
    let needed = 1 + inner.tail.len() + 8;
    for size in 0..needed {
        let result = client.protect_request(&inner.message(), &mut Packet::new(), &mut vec![0; size]);
        assert_eq!(result.unwrap_err(), Error::NoSpace, "scratch of {size}");
    }
    assert!(client.protect_request(&inner.message(), &mut Packet::new(), &mut vec![0; needed]).is_ok());

    let (outer, _) = protect(&mut client, &put()).unwrap();
    let outer = outer.encode();
    for size in 0..outer.tail.len() {
        let (mut code, mut tail) = (0, vec![0; size]);
        let mut small = MessageMut::new_in_slice(&mut code, &mut tail);
        let result = client.protect_request(&inner.message(), &mut small, &mut [0; 64]);
        assert_eq!(result.unwrap_err(), Error::NoSpace, "outer message of {size}");
    }
    for size in 0..needed {
        let mut buffer = vec![0; size];
        let result = server.unprotect_request(&outer.message(), &mut buffer);
        assert_eq!(result.unwrap_err(), Error::NoSpace, "buffer of {size}");
    }
    assert!(server.unprotect_request(&outer.message(), &mut vec![0; needed]).is_ok());
}

/// A request that the server has opened, to be answered in place.
fn opened() -> (Context, Context, Correlation) {
    let (mut client, mut server) = pair();
    let (outer, _) = protect(&mut client, &put()).unwrap();
    let (_, correlation) = unprotect(&mut server, &outer).unwrap();
    (client, server, correlation)
}

fn ack() -> Header {
    Header { type_: Type::Ack, code: code::CHANGED, message_id: 0x1234, token: Token::new(&[1, 2, 3]).unwrap() }
}

#[test]
fn a_response_in_place_is_a_whole_datagram() {
    let (client, mut server, correlation) = opened();
    for option_length in [1, 3] {
        let mut buffer = [0xa5; 64];
        let mut response = server.respond(&correlation, &ack(), &mut buffer).unwrap();
        put().write(&mut response.message().unwrap()); // is given up
        let mut inner = response.message().unwrap();
        assert_eq!(ReadableMessage::code(&inner), code::CHANGED, "the header's, anew");
        content().write(&mut inner);
        let length = inner.finish().0;
        let length = response.seal(&server, length).unwrap();
        assert_eq!(length, 4 + 3 + option_length + 1 + (1 + 2 + 1 + 6) + 8);

        let datagram = Datagram::parse(&buffer[..length]).unwrap();
        assert_eq!(datagram.header, Header { code: code::CHANGED, ..ack() });
        assert_eq!(read(&client, &Content::of(&datagram.message()), &correlation), Ok(content()));
    }
}

#[test]
fn a_response_in_place_fits_or_says_so() {
    let needed = 4 + 3 + 1 + 1 + 1 + 8; // header, token, option, marker, code, tag
    for size in 0..needed {
        let (_, mut server, correlation) = opened();
        assert!(matches!(server.respond(&correlation, &ack(), &mut vec![0; size]), Err(Error::NoSpace)), "{size}");
    }
    let (_, mut server, correlation) = opened();
    let mut buffer = vec![0; needed + 2];
    let mut response = server.respond(&correlation, &ack(), &mut buffer).unwrap();
    let mut inner = response.message().unwrap();
    assert!(inner.set_payload(b"too long").is_err());
    let overlooked = inner.finish().0;
    assert_eq!(response.seal(&server, overlooked), Err(Error::NoSpace));

    assert!(server.respond(&correlation.with_partial_iv(), &ack(), &mut buffer).is_ok());
    let response = server.respond(&correlation.with_partial_iv(), &ack(), &mut buffer[1..]);
    assert!(matches!(response, Err(Error::NoSpace)), "its Partial IV takes two bytes more");
}

#[test]
fn a_response_in_place_belongs_to_its_context() {
    let (_, mut server, correlation) = opened();
    let mut stranger = Context::derive(b"other", b"salt", Id::from(7), Id::from(4));
    let mut buffer = [0; 64];
    assert!(matches!(stranger.respond(&correlation, &ack(), &mut buffer), Err(Error::ContextNotFound)));
    let response = server.respond(&correlation, &ack(), &mut buffer).unwrap();
    assert_eq!(response.seal(&stranger, 0), Err(Error::ContextNotFound));
}

#[test]
fn a_malformed_inner_message_shows_as_an_unsupported_option() {
    let (client, mut server, correlation) = opened();
    let mut buffer = [0xf0; 64]; // no option begins with these
    let mut response = server.respond(&correlation, &ack(), &mut buffer).unwrap();
    response.message().unwrap();
    let length = response.seal(&server, 1).unwrap();
    let outer = Datagram::parse(&buffer[..length]).unwrap();
    let mut buffer = [0; 64];
    let inner = client.unprotect_response(&outer.message(), &mut buffer, &correlation).unwrap();
    assert_eq!(unsupported_option(&inner, &[u16::MAX - 2]), Some(u16::MAX));
}

#[test]
fn a_combined_request_carries_message_3() {
    let message_3 = [0x45, 1, 2, 3, 4, 5]; // a CBOR byte string of five
    let (mut client, mut server) = pair();
    let inner = Content {
        options: vec![
            (option::URI_HOST, b"h".to_vec()),
            (option::URI_PATH, b"p".to_vec()),
            (option::HOP_LIMIT, vec![1]),
        ],
        ..put()
    };
    let (outer, _) =
        protect_with(&inner, |inner, outer| client.protect_combined_request(&message_3, inner, outer, &mut [0; 64]))
            .unwrap();
    assert_eq!(outer.numbers(), [option::URI_HOST, option::OSCORE, option::HOP_LIMIT, option::EDHOC]);
    assert_eq!(outer.options[3].1, []);

    let outer = outer.encode();
    let (first, ciphertext) = split_combined(outer.message().payload()).map(|(a, b)| (a.to_vec(), b.to_vec())).unwrap();
    assert_eq!(first, message_3);
    assert_eq!(server.unprotect_request(&outer.message(), &mut [0; 64]).unwrap_err(), Error::Decryption);
    let mut buffer = [0; 64];
    let (opened, _) = server.unprotect_request_payload(&outer.message(), &ciphertext, &mut buffer).unwrap();
    assert_eq!(Content::of(&opened), Content { options: vec![(option::URI_PATH, b"p".to_vec())], ..put() });

    let option = OptionValue::of(&outer.message()).unwrap();
    let mut payload = outer.message().payload().to_vec();
    let (_, ciphertext) = split_combined_mut(&mut payload).unwrap();
    assert!(pair().1.open_request(&option, ciphertext).is_ok());
}

#[test]
fn a_combined_payload_begins_with_a_byte_string() {
    for payload in
        [&b""[..], &[0x44, 1, 2, 3], &[0x58], &[0x5f, 0x41, 1, 0xff], &[0x64, b'a', b'a', b'a', b'a'], &[0xf5]]
    {
        assert_eq!(split_combined(payload), None, "{payload:02x?}");
        assert_eq!(split_combined_mut(&mut payload.to_vec()), None);
    }
    assert_eq!(split_combined(&[0x41, 7]), Some((&[0x41, 7][..], &[][..])));
    assert_eq!(split_combined(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]), None);
}
