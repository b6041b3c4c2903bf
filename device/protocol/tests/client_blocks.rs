//! The client's blocks (RFC 7959), with packets of coap-lite at the other end.

use coap_lite::{CoapOption, MessageType, Packet};
use coap_numbers::{code, option};
use edhoc_oscore::{
    coap::{Block, BlockSize},
    conversation::client::{Client, Error, Request, Step, Timers, Transaction},
};
use rand_core::OsRng;

/// The longest body that there is room for.
const MAX_BODY: usize = 64 * 1024;
/// What a request is taken to need beside its payload.
const OVERHEAD: usize = 64;

/// A response with its body.
#[derive(Debug)]
struct Response {
    code: u8,
    payload: Vec<u8>,
}

/// Makes a request of a server that answers by a function. The longest payload that goes to it has `room` bytes. What came of
/// it, and what was sent.
fn run(
    request: Request<'_>,
    room: usize,
    mut answer: impl FnMut(&Packet) -> Packet,
) -> (Result<Response, Error>, Vec<Packet>) {
    let timers = Timers { ack_timeout: 1, spread: 0, max_retransmit: 0, response: 1 };
    let mut client = Client::<2048>::new(timers, 7);
    client.set_largest_datagram(room + OVERHEAD);
    let (mut body, mut seen, mut rng) = (vec![0; MAX_BODY], Vec::new(), OsRng);
    let mut transaction = Transaction::new(&mut client, None, request, &mut rng, &mut body, u64::MAX);
    while let Step::Send { datagram, .. } = transaction.poll(0) {
        let sent = Packet::from_bytes(datagram).unwrap();
        let mut answer = answer(&sent);
        answer.header.set_type(MessageType::Acknowledgement);
        answer.header.message_id = sent.header.message_id;
        answer.set_token(sent.get_token().to_vec());
        transaction.receive(&mut answer.to_bytes_unlimited().unwrap(), 0);
        seen.push(sent);
    }
    let response = transaction.finish();
    (response.map(|it| Response { code: it.code, payload: body[..it.len].to_vec() }), seen)
}

/// The only value of an option.
fn single_option(packet: &Packet, number: u16) -> Option<&[u8]> {
    let values = packet.get_option(CoapOption::from(number))?;
    assert_eq!(values.len(), 1);
    values.front().map(Vec::as_slice)
}

fn uint_option(packet: &Packet, number: u16) -> Option<u32> {
    single_option(packet, number).map(|value| value.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

fn uint_value(value: u32) -> Vec<u8> {
    value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

fn message(code: u8, options: &[(u16, Vec<u8>)], payload: &[u8]) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = code.into();
    for (number, value) in options {
        packet.add_option(CoapOption::from(*number), value.clone());
    }
    packet.payload = payload.to_vec();
    packet
}

fn size_of(bytes: usize) -> BlockSize {
    BlockSize::fitting(bytes).unwrap()
}

fn block(number: u32, more: bool, size: usize) -> Vec<u8> {
    uint_value(Block::new(number, more, size_of(size)).unwrap().encode())
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// A server that takes blocks of at most `size` bytes, in order.
fn taking(size: usize, taken: &mut Vec<u8>) -> impl FnMut(&Packet) -> Packet {
    move |request| {
        let Some(asked) = Block::of(request, option::BLOCK1).unwrap() else {
            if request.payload.len() > size {
                return message(code::REQUEST_ENTITY_TOO_LARGE, &[(option::BLOCK1, block(0, false, 16))], &[]);
            }
            taken.clone_from(&request.payload);
            return message(code::CHANGED, &[], &[]);
        };
        if asked.number() == 0 {
            taken.clear();
        }
        assert_eq!(asked.start() as usize, taken.len(), "blocks in order");
        taken.extend(&request.payload);
        let size = asked.size.min(size_of(size));
        let code = if asked.more { code::CONTINUE } else { code::CHANGED };
        message(code, &[(option::BLOCK1, block(asked.number(), asked.more, size.bytes().into()))], &[])
    }
}

/// A server that hands out `body` in blocks of at most `size` bytes.
fn giving(body: Vec<u8>, size: usize) -> impl FnMut(&Packet) -> Packet {
    move |request| {
        let asked = Block::of(request, option::BLOCK2).unwrap();
        let size = asked.map_or(size, |asked| usize::from(asked.size.bytes()).min(size));
        let start = asked.map_or(0, |asked| asked.start() as usize);
        let end = body.len().min(start + size);
        let options = [(option::BLOCK2, block((start / size) as u32, end < body.len(), size)), (option::ETAG, vec![1])];
        message(code::CONTENT, &options, &body[start..end])
    }
}

#[test]
fn a_body_that_fits_goes_in_one_message_without_block_options() {
    let mut taken = Vec::new();
    let (response, seen) = run(Request::put("/comm/owner", 60, &body(64)), 64, taking(1024, &mut taken));
    assert_eq!(response.unwrap().code, code::CHANGED);
    assert_eq!(seen.len(), 1);
    assert!(single_option(&seen[0], option::BLOCK1).is_none());
    assert_eq!(taken, body(64));
}

#[test]
fn a_body_between_two_block_sizes_goes_whole_if_there_is_room() {
    for (length, messages) in [(100, 1), (101, 2), (164, 3)] {
        let mut taken = Vec::new();
        let (response, seen) = run(Request::put("/x", 60, &body(length)), 100, taking(1024, &mut taken));
        assert_eq!((response.unwrap().code, taken, seen.len()), (code::CHANGED, body(length), messages));
    }
    // It goes in blocks if the server cannot.
    let mut taken = Vec::new();
    let (response, seen) = run(Request::put("/x", 60, &body(100)), 100, taking(64, &mut taken));
    assert_eq!((response.unwrap().code, taken), (code::CHANGED, body(100)));
    assert!(seen[1..].iter().all(|message| single_option(message, option::BLOCK1).is_some()));
}

#[test]
fn a_large_body_goes_in_blocks_with_one_tag_and_its_content_format() {
    let mut taken = Vec::new();
    let (response, seen) = run(Request::put("/a/b", 60, &body(150)), 64, taking(1024, &mut taken));
    assert_eq!(response.unwrap().code, code::CHANGED);
    assert_eq!(taken, body(150));
    let tags: Vec<_> = seen.iter().map(|m| single_option(m, option::REQUEST_TAG).unwrap()).collect();
    assert!(tags.len() == 3 && tags.iter().all(|tag| *tag == tags[0]));
    assert!(seen.iter().all(|m| uint_option(m, option::CONTENT_FORMAT) == Some(60)));
    assert!(seen.iter().all(|m| m.get_option(CoapOption::UriPath).unwrap().len() == 2));
}

#[test]
fn a_server_that_wants_smaller_blocks_gets_them() {
    let mut taken = Vec::new();
    let (response, seen) = run(Request::put("/x", 60, &body(200)), 64, taking(16, &mut taken));
    assert_eq!((response.unwrap().code, taken), (code::CHANGED, body(200)));
    let first = Block::of(&seen[1], option::BLOCK1).unwrap().unwrap();
    assert_eq!((first.number(), first.size.bytes()), (4, 16));
}

#[test]
fn a_server_that_cannot_take_the_whole_gets_blocks_after_4_13() {
    let mut taken = Vec::new();
    let (response, seen) = run(Request::put("/x", 60, &body(40)), 64, taking(16, &mut taken));
    assert_eq!((response.unwrap().code, taken, seen.len()), (code::CHANGED, body(40), 1 + 3));
}

#[test]
fn a_4_13_that_asks_for_nothing_smaller_is_the_answer() {
    for wanted in [64, 1024] {
        let answer = |_: &Packet| message(code::REQUEST_ENTITY_TOO_LARGE, &[(27, block(0, false, wanted))], &[]);
        let (response, seen) = run(Request::put("/x", 60, &body(200)), 64, answer);
        assert_eq!((response.unwrap().code, seen.len()), (code::REQUEST_ENTITY_TOO_LARGE, 1));
    }
}

#[test]
fn an_error_in_the_middle_of_a_body_is_the_answer() {
    let mut count = 0;
    let answer = |request: &Packet| {
        count += 1;
        let echo = (option::BLOCK1, single_option(request, option::BLOCK1).unwrap().to_vec());
        message(if count < 3 { code::CONTINUE } else { code::UNAUTHORIZED }, &[echo], &[])
    };
    let (response, seen) = run(Request::put("/x", 60, &body(200)), 16, answer);
    assert_eq!((response.unwrap().code, seen.len()), (code::UNAUTHORIZED, 3));
}

#[test]
fn answers_that_do_not_fit_the_block_are_malformed() {
    let answers = [
        message(code::CONTINUE, &[], &[]),
        message(code::CONTINUE, &[(27, block(1, true, 16))], &[]),
        message(code::CONTINUE, &[(27, block(0, true, 64))], &[]),
        message(code::CONTINUE, &[(27, vec![7])], &[]),
        message(code::CONTINUE, &[(27, vec![1, 0, 0, 0])], &[]),
        message(code::CONTINUE, &[(27, vec![8]), (27, vec![8])], &[]),
        message(code::CHANGED, &[], &[]),
    ];
    for answer in answers {
        let (response, seen) = run(Request::put("/x", 60, &body(200)), 16, |_| answer.clone());
        assert!(matches!(response, Err(Error::Malformed(_))), "{answer:?} gave {response:?}");
        assert_eq!(seen.len(), 1);
    }
    let (response, _) = run(Request::put("/x", 60, &body(1)), 16, |_| message(code::CONTINUE, &[(27, vec![])], &[]));
    assert!(matches!(response, Err(Error::Malformed(_))));
}

#[test]
fn a_large_answer_is_gathered() {
    for (length, size, messages) in [(0, 16, 1), (16, 16, 1), (17, 16, 2), (1000, 64, 16), (MAX_BODY, 1024, 64)] {
        let mut request = Request::get("/comm");
        request.accept = Some(60);
        let (response, seen) = run(request, 64, giving(body(length), size));
        assert_eq!(response.unwrap().payload, body(length));
        assert_eq!(seen.len(), messages);
        assert!(seen.iter().all(|m| uint_option(m, option::ACCEPT) == Some(60)));
    }
}

#[test]
fn a_body_may_go_and_come_in_blocks() {
    let mut taken = Vec::new();
    {
        let mut take = taking(16, &mut taken);
        let mut give = giving(body(300), 32);
        let answer = move |request: &Packet| {
            let taken = (!request.payload.is_empty()).then(|| take(request));
            taken.filter(|taken| u8::from(taken.header.code) != code::CHANGED).unwrap_or_else(|| give(request))
        };
        let (response, _) = run(Request::post("/x", 60, &body(100)), 64, answer);
        assert_eq!(response.unwrap().payload, body(300));
    }
    assert_eq!(taken, body(100));
}

#[test]
fn a_server_may_turn_to_smaller_blocks() {
    let (mut large, mut small) = (giving(body(200), 64), giving(body(200), 16));
    let mut first = true;
    let answer = |request: &Packet| if std::mem::take(&mut first) { large(request) } else { small(request) };
    let (response, seen) = run(Request::get("/x"), 64, answer);
    assert_eq!((response.unwrap().payload, seen.len()), (body(200), 1 + 9));
}

#[test]
fn a_body_that_changes_while_it_is_read_is_not_believed() {
    for change_code in [false, true] {
        let mut give = giving(body(100), 16);
        let answer = |request: &Packet| {
            let mut answer = give(request);
            if Block::of(request, option::BLOCK2).unwrap().is_some_and(|block| block.number() == 3) {
                match change_code {
                    true => answer.header.code = code::CHANGED.into(),
                    false => answer.clear_option(CoapOption::ETag),
                }
            }
            answer
        };
        assert!(matches!(run(Request::get("/x"), 64, answer).0, Err(Error::Changed)));
    }
}

#[test]
fn a_body_without_end_is_cut_off() {
    let answer = |request: &Packet| {
        let asked = Block::of(request, option::BLOCK2).unwrap().map_or(0, Block::number);
        message(code::CONTENT, &[(option::BLOCK2, block(asked, true, 1024))], &[0; 1024])
    };
    let (response, seen) = run(Request::get("/x"), 64, answer);
    assert!(matches!(response, Err(Error::TooLarge)));
    assert_eq!(seen.len(), MAX_BODY / 1024 + 1);
}

#[test]
fn blocks_that_are_not_the_next_one_are_malformed() {
    let good = message(code::CONTENT, &[(23, block(0, true, 16))], &[0; 16]);
    let second = [
        message(code::CONTENT, &[(23, block(0, true, 16))], &[0; 16]),
        message(code::CONTENT, &[(23, block(2, true, 16))], &[0; 16]),
        message(code::CONTENT, &[(23, block(1, true, 16))], &[0; 15]),
        message(code::CONTENT, &[(23, block(1, true, 16))], &[]),
        message(code::CONTENT, &[(23, block(1, false, 16))], &[0; 17]),
        message(code::CONTENT, &[(23, block(1, false, 16)), (9, vec![])], &[0; 16]),
        message(code::CONTENT, &[], &[0; 16]),
    ];
    for answer in &second {
        let mut first = true;
        let answers = |_: &Packet| if std::mem::take(&mut first) { good.clone() } else { answer.clone() };
        let (response, seen) = run(Request::get("/x"), 64, answers);
        assert!(matches!(response, Err(Error::Malformed(_))), "{answer:?} gave {response:?}");
        assert_eq!(seen.len(), 2);
    }
    let late = message(code::CONTENT, &[(23, block(1, false, 16))], &[0; 16]);
    assert!(matches!(run(Request::get("/x"), 64, |_| late.clone()).0, Err(Error::Malformed(_))));
}
