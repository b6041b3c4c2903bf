use std::sync::{Arc, Mutex};

use super::test_device::{Misbehaviour, Protection, TestDevice, response};
use coap_lite::{CoapOption, Packet};
use coap_numbers::option;
use rand_core::{OsRng, RngCore};

use super::*;
use crate::client::{Code, Direction, Method, summary};

/// Answers with the method, the path and who asks, and echoes the payload.
fn echo(request: &Packet, protection: Protection) -> Packet {
    let asks = match protection {
        Protection::None => "anyone".to_owned(),
        Protection::Oscore(peer) => format!("{:?}", peer.transfer),
    };
    let text = format!("{} by {asks}, {} bytes", summary(request), request.payload.len());
    response(Code::CONTENT, content_format::TEXT, text.as_bytes())
}

fn key() -> PrivateKey {
    PrivateKey::generate(&mut OsRng)
}

async fn get(session: &mut Session<'_>, path: &str) -> Result<String, Error> {
    Ok(String::from_utf8(session.request(&Request::get(path)).await?.payload).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_known_by_value_and_the_first_request_carries_message_3() {
    let device = TestDevice::new(echo);
    let expected = *device.key.public();
    let (mut client, _device) = device.serve();
    client.record();
    let mut session = Session::establish(&mut client, &key(), Transfer::ByValue, expected).await.unwrap();
    assert!(!session.confirmed(), "message_2 alone does not confirm the session");
    assert_eq!(session.peer(), &expected);
    assert_eq!(get(&mut session, "/comm").await.unwrap(), "GET /comm by ByValue, 0 bytes");
    assert!(session.confirmed());
    assert_eq!(get(&mut session, "/comm/owner").await.unwrap(), "GET /comm/owner by ByValue, 0 bytes");

    let notes: Vec<_> = client.take_records().into_iter().map(|record| (record.message, record.note)).collect();
    let expected = [
        ("CON POST /.well-known/edhoc", "EDHOC message_1, 37 bytes"),
        ("ACK 2.04 Changed", "EDHOC message_2, 53 bytes"),
        ("CON POST OSCORE", "EDHOC message_3, 110 bytes + GET /comm"),
        ("ACK 2.04 Changed OSCORE", "2.05 Content"),
        ("CON POST OSCORE", "GET /comm/owner"),
        ("ACK 2.04 Changed OSCORE", "2.05 Content"),
    ];
    assert_eq!(notes, expected.map(|(message, note)| (message.to_owned(), note.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_station_is_known_by_kid_and_message_3_may_go_alone() {
    let station = key();
    let device = TestDevice::new(echo);
    device.known.lock().unwrap().push(*station.public());
    let expected = *device.key.public();
    let (mut client, _device) = device.serve();
    client.record();
    let mut session = Session::establish_separately(&mut client, &station, Transfer::ByKid, expected).await.unwrap();
    assert!(!session.confirmed(), "issuing wants a verified OSCORE response");
    assert_eq!(get(&mut session, "/comm").await.unwrap(), "GET /comm by ByKid, 0 bytes");
    assert!(session.confirmed());
    let notes: Vec<_> = client.take_records().into_iter().map(|record| record.note).collect();
    let expected = ["message_1, 37", "message_2, 53", "message_3, 28", "message_4, 9"];
    assert_eq!(notes[..4], expected.map(|message| format!("EDHOC {message} bytes")));
    assert_eq!(notes[4], "GET /comm");
}

#[tokio::test(start_paused = true)]
async fn large_bodies_go_in_blocks_inside_oscore() {
    let taken = Arc::new(Mutex::new(Vec::<u8>::new()));
    let seen = taken.clone();
    let device = TestDevice::new(move |request, protection| {
        assert_ne!(protection, Protection::None);
        seen.lock().unwrap().extend(&request.payload);
        let block = request.get_first_option(CoapOption::Block1).unwrap();
        let more = block.last().is_some_and(|last| last & 8 != 0);
        let mut answer = response(if more { Code::CONTINUE } else { Code::CHANGED }, content_format::TEXT, b"");
        answer.add_option(CoapOption::Block1, block.clone());
        answer
    });
    let expected = *device.key.public();
    let (mut client, _device) = device.serve();
    client.record();
    let body: Vec<u8> = (0..5000).map(|i| i as u8).collect();
    let mut session = Session::establish(&mut client, &key(), Transfer::ByValue, expected).await.unwrap();
    let request =
        Request { method: Method::Put, ..Request::post("/comm/peers", content_format::COSE_SIGN1, body.clone()) };
    assert_eq!(session.request(&request).await.unwrap().code, Code::CHANGED);
    assert_eq!(*taken.lock().unwrap(), body);
    let sent = client.take_records().into_iter().filter(|record| record.direction == Direction::Sent);
    assert_eq!(sent.map(|record| record.note).filter(|note| note.ends_with("PUT /comm/peers")).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn another_device_than_the_expected_one_learns_nothing() {
    let (mut client, _device) = TestDevice::new(echo).serve();
    client.record();
    let other = *key().public();
    let result = Session::establish(&mut client, &key(), Transfer::ByValue, other).await;
    assert!(matches!(result.err().unwrap(), Error::OtherDevice));
    assert_eq!(client.take_records().len(), 2, "message_3 would show who we are");
}

#[tokio::test(start_paused = true)]
async fn our_own_key_at_the_other_end_is_refused() {
    let device = TestDevice::new(echo);
    let own = device.key.clone();
    let (mut client, _device) = device.serve();
    let result = Session::establish(&mut client, &own, Transfer::ByValue, *own.public()).await;
    assert!(matches!(result.err().unwrap(), Error::Handshake(edhoc::Error::Reflection)));
}

async fn misbehaving(misbehaviour: Misbehaviour) -> (Result<String, Error>, bool) {
    let mut device = TestDevice::new(echo);
    device.misbehaviour = misbehaviour;
    let expected = *device.key.public();
    let (mut client, _device) = device.serve();
    let mut session = Session::establish(&mut client, &key(), Transfer::ByValue, expected).await.unwrap();
    (get(&mut session, "/comm").await, session.confirmed())
}

#[tokio::test(start_paused = true)]
async fn unprotected_answers_to_protected_requests_are_shown_not_believed() {
    let (result, confirmed) = misbehaving(Misbehaviour { forgets_sessions: true, ..Misbehaviour::default() }).await;
    assert!(matches!(result, Err(Error::Unprotected(Refusal { code: Code::UNAUTHORIZED, .. }))));
    assert!(!confirmed);
    let (result, confirmed) = misbehaving(Misbehaviour { answers_unprotected: true, ..Misbehaviour::default() }).await;
    assert!(matches!(result, Err(Error::Unprotected(Refusal { code: Code::CONTENT, .. }))));
    assert!(!confirmed);
}

#[tokio::test(start_paused = true)]
async fn a_response_with_one_bit_changed_confirms_nothing() {
    let (result, confirmed) = misbehaving(Misbehaviour { garbles_responses: true, ..Misbehaviour::default() }).await;
    assert!(matches!(result, Err(Error::Oscore(oscore::Error::Decryption))));
    assert!(!confirmed);
}

#[tokio::test(start_paused = true)]
async fn the_devices_reason_for_ending_the_handshake_is_passed_on() {
    for separate in [false, true] {
        let mut device = TestDevice::new(echo);
        device.misbehaviour.refuses_credentials = true;
        let (expected, station) = (*device.key.public(), key());
        let (mut client, _device) = device.serve();
        let result = if separate {
            Session::establish_separately(&mut client, &station, Transfer::ByKid, expected).await.map(drop)
        } else {
            let mut session = Session::establish(&mut client, &station, Transfer::ByKid, expected).await.unwrap();
            get(&mut session, "/comm").await.map(drop)
        };
        let reason = edhoc::Error::UnknownCredential.to_string();
        assert!(matches!(result, Err(Error::HandshakeRefused(text)) if text == reason));
    }
}

#[tokio::test(start_paused = true)]
async fn handshake_answers_that_are_none_are_told_apart() {
    type Expected = fn(&Error) -> bool;
    let answers: [(Code, u16, &[u8], Expected); 6] = [
        (Code::NOT_FOUND, 0, b"", |e| matches!(e, Error::NoEdhoc(Refusal { code: Code::NOT_FOUND, .. }))),
        (Code::CHANGED, 60, b"\x01", |e| matches!(e, Error::NoEdhoc(_))),
        (Code::CONTENT, 64, b"\x58", |e| matches!(e, Error::NoEdhoc(_))),
        (Code::CHANGED, 64, b"junk", |e| matches!(e, Error::Handshake(edhoc::Error::Malformed))),
        (Code(0x80), 64, b"\x02\x03", |e| matches!(e, Error::HandshakeRefused(text) if text.contains("suite 2"))),
        (Code(0x80), 64, b"\x01\x63a\x1bb", |e| matches!(e, Error::HandshakeRefused(text) if text == "a\\u{1b}b")),
    ];
    for (code, format, payload, is_expected) in answers {
        let mut plain = crate::link::memory::pair();
        let mut client = Client::new(Box::new(plain.0), client::Timers::PROBE);
        let device = tokio::spawn(async move {
            use crate::link::Datagrams;
            let request = Packet::from_bytes(&plain.1.receive().await.unwrap().bytes).unwrap();
            let mut answer = response(code, format, payload);
            answer.header.set_type(coap_lite::MessageType::Acknowledgement);
            answer.header.message_id = request.header.message_id;
            answer.set_token(request.get_token().to_vec());
            plain.1.send(&answer.to_bytes().unwrap()).await.unwrap();
            plain.1
        });
        let error = Session::establish(&mut client, &key(), Transfer::ByValue, *key().public()).await.err().unwrap();
        assert!(is_expected(&error), "{code} {payload:?} gave {error}");
        device.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_inside_a_verified_response_is_still_checked() {
    for (number, value) in [(65001, &b""[..]), (9, b""), (23, b"\x01\x00\x00\x00"), (27, b"\x07")] {
        let device = TestDevice::new(move |_, protection| {
            let mut answer = response(Code::CONTENT, content_format::TEXT, b"hello");
            if protection != Protection::None && number != 9 {
                answer.add_option(CoapOption::from(number), value.to_vec());
            }
            if number == 9 {
                answer.header.code = coap_lite::MessageClass::Request(coap_lite::RequestType::Get);
            }
            answer
        });
        let expected = *device.key.public();
        let (mut client, _device) = device.serve();
        let mut session = Session::establish(&mut client, &key(), Transfer::ByValue, expected).await.unwrap();
        let result = get(&mut session, "/comm").await;
        assert!(matches!(result, Err(Error::Client(client::Error::Malformed(_)))), "option {number} gave {result:?}");
    }
}

/// As coapcore answers: it says no more than that.
#[tokio::test(start_paused = true)]
async fn a_bare_4_00_to_message_3_is_about_our_credential() {
    for separate in [false, true] {
        let mut device = TestDevice::new(echo);
        device.misbehaviour.refuses_message_3 = true;
        let (expected, own) = (*device.key.public(), key());
        let (mut client, _device) = device.serve();
        let error = if separate {
            Session::establish_separately(&mut client, &own, Transfer::ByValue, expected).await.err().unwrap()
        } else {
            let mut session = Session::establish(&mut client, &own, Transfer::ByValue, expected).await.unwrap();
            get(&mut session, "/comm").await.unwrap_err()
        };
        assert!(matches!(error, Error::CredentialRefused(Refusal { code: Code::BAD_REQUEST, .. })), "{error}");
        assert!(error.to_string().contains("refused our credential"), "{error}");
        assert!(!error.to_string().contains("restarted"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_was_displaced_is_no_refusal() {
    for separate in [false, true] {
        let mut device = TestDevice::new(echo);
        device.misbehaviour.forgets_handshakes = 1;
        let (expected, own) = (*device.key.public(), key());
        let (mut client, _device) = device.serve();
        let error = if separate {
            Session::establish_separately(&mut client, &own, Transfer::ByValue, expected).await.err().unwrap()
        } else {
            let mut session = Session::establish(&mut client, &own, Transfer::ByValue, expected).await.unwrap();
            get(&mut session, "/comm").await.unwrap_err()
        };
        assert!(matches!(error, Error::Busy), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_is_asked_for_by_value_or_known() {
    let device = TestDevice::new(echo);
    let key_of_device = *device.key.public();
    let (mut client, _device) = device.serve();
    client.record();
    for expected in [Expected::Anyone, Expected::Credential(Ccs::of(&key_of_device).unwrap())] {
        let mut session = Session::establish(&mut client, &key(), Transfer::ByValue, expected).await.unwrap();
        assert_eq!(*session.peer(), key_of_device);
        assert!(get(&mut session, "/x").await.is_ok());
    }
    let notes: Vec<_> = client.take_records().into_iter().map(|record| record.note).collect();
    assert_eq!(notes[..2], ["EDHOC message_1, 38 bytes", "EDHOC message_2, 135 bytes"]);
    let other = Expected::Credential(Ccs::of(key().public()).unwrap());
    let error = Session::establish(&mut client, &key(), Transfer::ByValue, other).await.err().unwrap();
    assert!(matches!(error, Error::OtherServer), "{error}");
}

/// RFC 9175: our address is proved by what was sent to it, without protection and with it.
#[tokio::test(start_paused = true)]
async fn an_echo_that_is_asked_for_is_sent_back() {
    let device = TestDevice::new(|request, protection| {
        let sent = request.get_first_option(CoapOption::from(option::ECHO)).cloned();
        let wanted = if protection == Protection::None { b"out".to_vec() } else { b"in".to_vec() };
        if sent.as_ref() == Some(&wanted) {
            return echo(request, protection);
        }
        let mut answer = response(Code::UNAUTHORIZED, content_format::TEXT, b"");
        answer.add_option(CoapOption::from(option::ECHO), wanted);
        answer
    });
    let expected = *device.key.public();
    let (mut client, _device) = device.serve();
    client.record();
    for _ in 0..2 {
        assert_eq!(client.request(&Request::get("/list")).await.unwrap().code, Code::CONTENT);
    }
    assert_eq!(client.take_records().len(), 6, "the second request has it from the start");
    let mut session = Session::establish(&mut client, &key(), Transfer::ByValue, expected).await.unwrap();
    for _ in 0..2 {
        assert_eq!(get(&mut session, "/comm").await.unwrap(), "GET /comm by ByValue, 0 bytes");
    }
    // One that is never content is believed the second time.
    let never = TestDevice::new(|_, _| {
        let mut answer = response(Code::UNAUTHORIZED, content_format::TEXT, b"");
        answer.add_option(CoapOption::from(option::ECHO), OsRng.next_u32().to_be_bytes().to_vec());
        answer
    });
    let (mut client, _device) = never.serve();
    assert_eq!(client.request(&Request::get("/list")).await.unwrap().code, Code::UNAUTHORIZED);
}
