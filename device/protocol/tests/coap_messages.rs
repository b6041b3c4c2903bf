//! Datagrams: what is well-formed, what is not, and writing them.

use coap_message::{MessageOption, MinimalWritableMessage, ReadableMessage};
use coap_message_implementations::inmemory::Message;
use coap_numbers::{code, option};
use edhoc_oscore::coap::{
    Datagram, Header, NoSpace, ParseError, Token, Type, Writer, is_option_length, option_refusal, uint_option,
    unsupported_option,
};
use hexlit::hex;

fn malformed(type_: Type) -> Option<ParseError> {
    Some(ParseError::Malformed { type_, message_id: 0x1234 })
}

#[test]
fn a_request_is_taken_apart() {
    let bytes = hex!("42 01 1234 aabb b4 636f6d6d ff 0102");
    let datagram = Datagram::parse(&bytes).unwrap();
    let token = Token::new(&[0xaa, 0xbb]).unwrap();
    assert_eq!(datagram.header, Header { type_: Type::Con, code: code::GET, message_id: 0x1234, token });
    assert_eq!(datagram.payload_length(), 2);
    let message = datagram.message();
    assert_eq!((message.code(), message.payload()), (code::GET, &[1, 2][..]));
    assert!(message.options().map(|option| (option.number(), option.value().to_vec())).eq([(11, b"comm".to_vec())]));
}

#[test]
fn every_type_is_known() {
    for (first, type_) in [(0x40, Type::Con), (0x50, Type::Non), (0x60, Type::Ack), (0x70, Type::Rst)] {
        assert_eq!(Datagram::parse(&[first, 0, 0x12, 0x34]).unwrap().header.type_, type_);
    }
}

#[test]
fn something_else_is_not_coap() {
    for bytes in [&hex!("")[..], &hex!("400112"), &hex!("00011234"), &hex!("80011234"), &hex!("c0011234")] {
        assert_eq!(Datagram::parse(bytes).err(), Some(ParseError::NotCoap), "{bytes:02x?}");
    }
}

#[test]
fn message_format_errors_name_the_message() {
    for (bytes, why) in [
        (&hex!("41011234")[..], "the token is cut off"),
        (&hex!("49011234 010203040506070809"), "token length 9 is reserved"),
        (&hex!("4f011234 0102030405060708090a0b0c0d0e0f"), "token length 15 is reserved"),
        (&hex!("40001234 ff00"), "an Empty message is not empty"),
        (&hex!("41001234 aa"), "an Empty message has a token"),
        (&hex!("40201234"), "code class 1 is reserved"),
        (&hex!("40601234"), "code class 3 is reserved"),
        (&hex!("40e11234"), "code class 7 is for reliable transports"),
        (&hex!("40011234 ff"), "a payload marker without payload"),
        (&hex!("40011234 b463 6f6d"), "the option is cut off"),
        (&hex!("40011234 d0"), "the option's delta is cut off"),
        (&hex!("40011234 0e00"), "the option's length is cut off"),
        (&hex!("40011234 f000"), "option delta 15 is reserved"),
        (&hex!("40011234 0f00"), "option length 15 is reserved"),
        (&hex!("40011234 e0feff e0feff"), "the option number is beyond 65535"),
    ] {
        assert_eq!(Datagram::parse(bytes).err(), malformed(Type::Con), "{why}");
        let mut non = bytes.to_vec();
        non[0] |= 0x10;
        assert_eq!(Datagram::parse(&non).err(), malformed(Type::Non), "{why}");
    }
}

#[test]
fn an_option_may_end_like_a_payload_marker() {
    let datagram = hex!("40011234 b1ff");
    assert_eq!(Datagram::parse(&datagram).unwrap().payload_length(), 0);
}

#[test]
fn a_datagram_is_written_and_read() {
    let header =
        Header { type_: Type::Ack, code: code::CONTENT, message_id: 0xbeef, token: Token::new(&[7; 8]).unwrap() };
    let mut buffer = [0; 32];
    let mut writer = Writer::new(&mut buffer, &header).unwrap();
    let mut given_up = writer.message();
    given_up.set_code(code::NOT_FOUND);
    given_up.set_payload(b"given up").unwrap();
    let mut message = writer.message();
    message.add_option_uint(option::CONTENT_FORMAT, 60_u16).unwrap();
    message.set_payload(b"payload").unwrap();
    let length = message.finish().0;
    let length = writer.finish(length).unwrap();
    assert_eq!(buffer[..length], hex!("6845beef0707070707070707c13cff7061796c6f6164"));

    let datagram = Datagram::parse(&buffer[..length]).unwrap();
    assert_eq!((datagram.header, datagram.payload_length()), (header, 7));
}

#[test]
fn a_datagram_that_does_not_fit_is_an_error() {
    let header = Header { type_: Type::Non, code: code::GET, message_id: 0, token: Token::from(1) };
    for size in 0..5 {
        assert_eq!(Writer::new(&mut vec![0; size], &header).err(), Some(NoSpace), "{size}");
    }
    let mut buffer = [0; 8];
    let mut writer = Writer::new(&mut buffer, &header).unwrap();
    let mut message = writer.message();
    assert!(message.set_payload(b"long").is_err());
    let overlooked = message.finish().0;
    assert_eq!(writer.finish(overlooked), Err(NoSpace));
}

#[test]
fn unsupported_critical_options_are_found() {
    let supported = [option::URI_PATH, option::IF_MATCH, option::URI_QUERY, option::BLOCK1];
    let check = |tail: &[u8]| unsupported_option(&Message::new_from_slice(code::GET, tail), &supported);
    assert_eq!(check(&hex!("")), None);
    assert_eq!(check(&hex!("b161 0162")), None, "Uri-Path may be repeated");
    assert_eq!(check(&hex!("10 00 a161 0162 4162 0163")), None, "so may If-Match and Uri-Query");
    assert_eq!(check(&hex!("60")), None, "Observe is elective");
    assert_eq!(check(&hex!("60 00")), None, "and may be ignored twice");
    assert_eq!(check(&hex!("3161")), Some(option::URI_HOST));
    assert_eq!(check(&hex!("b161 c106")), Some(option::BLOCK2));
    assert_eq!(check(&hex!("b161 d10306")), None, "one Block1");
    assert_eq!(check(&hex!("b161 d10306 0106")), Some(option::BLOCK1), "a second one is unexpected");
    assert_eq!(check(&hex!("b161 f0")), Some(u16::MAX), "a malformed message");
}

/// RFC 7252 section 5.10, and the RFCs of the others.
#[test]
fn options_of_a_length_that_they_may_not_have() {
    use option::*;
    let limits = [
        (IF_MATCH, 0, 8),
        (URI_HOST, 1, 255),
        (ETAG, 1, 8),
        (IF_NONE_MATCH, 0, 0),
        (OBSERVE, 0, 3),
        (URI_PORT, 0, 2),
        (LOCATION_PATH, 0, 255),
        (OSCORE, 0, 255),
        (URI_PATH, 0, 255),
        (CONTENT_FORMAT, 0, 2),
        (MAX_AGE, 0, 4),
        (URI_QUERY, 0, 255),
        (HOP_LIMIT, 1, 1),
        (ACCEPT, 0, 2),
        (Q_BLOCK1, 0, 3),
        (LOCATION_QUERY, 0, 255),
        (BLOCK2, 0, 3),
        (BLOCK1, 0, 3),
        (SIZE2, 0, 4),
        (Q_BLOCK2, 0, 3),
        (PROXY_URI, 1, 1034),
        (PROXY_SCHEME, 1, 255),
        (SIZE1, 0, 4),
        (ECHO, 1, 40),
        (NO_RESPONSE, 0, 1),
        (REQUEST_TAG, 0, 8),
    ];
    for (number, shortest, longest) in limits {
        let fitting: Vec<usize> = (0..1200).filter(|length| is_option_length(number, *length)).collect();
        assert_eq!(
            (fitting.first(), fitting.last(), fitting.len()),
            (Some(&shortest), Some(&longest), longest - shortest + 1)
        );
    }
    assert!(is_option_length(EDHOC, 5), "its value is ignored");

    let message = |number: u16, length: usize| {
        let mut buffer = vec![0; 2048];
        let header = Header { type_: Type::Con, code: code::GET, message_id: 1, token: Token::EMPTY };
        let mut writer = Writer::new(&mut buffer, &header).unwrap();
        let mut message = writer.message();
        message.add_option(number, &vec![b'1'; length]).unwrap();
        let length = message.finish().0;
        let length = writer.finish(length).unwrap();
        buffer.truncate(length);
        buffer
    };
    // Critical ones are not understood then; elective ones are not there.
    for (number, length) in [(ACCEPT, 3), (URI_HOST, 0), (URI_PATH, 256), (URI_PORT, 3), (BLOCK2, 4)] {
        let message = message(number, length);
        let message = Datagram::parse(&message).unwrap();
        assert_eq!(unsupported_option(&message.message(), &[number]), Some(number));
        assert_eq!(option_refusal(number), code::BAD_OPTION);
    }
    for (length, value) in [(0, Some(0)), (2, Some(0x3131)), (3, None)] {
        let message = message(CONTENT_FORMAT, length);
        let message = Datagram::parse(&message).unwrap();
        assert_eq!(unsupported_option(&message.message(), &[]), None);
        assert_eq!(uint_option(&message.message(), CONTENT_FORMAT), value);
    }
}

#[test]
fn what_is_not_understood_has_a_code() {
    for (number, expected) in [
        (option::IF_MATCH, code::BAD_OPTION),
        (65001, code::BAD_OPTION),
        (u16::MAX, code::BAD_OPTION),
        (option::PROXY_URI, code::PROXYING_NOT_SUPPORTED),
        (option::PROXY_SCHEME, code::PROXYING_NOT_SUPPORTED),
        (option::PROXY_CRI, code::PROXYING_NOT_SUPPORTED),
        (option::EDHOC, code::BAD_REQUEST),
    ] {
        assert_eq!(option_refusal(number), expected, "{number}");
    }
}
