//! Block-wise transfers: option values, bodies of requests, bodies of responses.

use coap_message::{MessageOption, MinimalWritableMessage, ReadableMessage};
use coap_message_implementations::inmemory::{Message, MessageMut};
use coap_numbers::{code, option};
use edhoc_oscore::coap::{Assembled, Assembly, Block, BlockError, BlockSize, BodySlice};

const KEY: (u8, &str) = (1, "/comm/peers");

fn size(bytes: usize) -> BlockSize {
    let size = BlockSize::fitting(bytes).unwrap();
    assert_eq!(usize::from(size.bytes()), bytes);
    size
}

fn block(number: u32, more: bool, bytes: usize) -> Block {
    Block::new(number, more, size(bytes)).unwrap()
}

/// The bytes of a PUT with these options.
fn encode(options: &[(u16, &[u8])], payload: &[u8]) -> Vec<u8> {
    let (mut code, mut tail) = (code::PUT, vec![0; 2000]);
    let mut message = MessageMut::new_in_slice(&mut code, &mut tail);
    options.iter().for_each(|(number, value)| message.add_option(*number, value).unwrap());
    message.set_payload(payload).unwrap();
    let length = message.finish().0;
    tail.truncate(length);
    tail
}

fn value(block: Block) -> Vec<u8> {
    block.encode().to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

/// Like [`Assembled`], with a body of its own.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Continue(Block),
    Complete(Vec<u8>, Option<Block>),
}

type Bodies = Assembly<(u8, &'static str), 100>;

fn put_tail(bodies: &mut Bodies, key: (u8, &'static str), tail: &[u8]) -> Result<Step, BlockError> {
    match bodies.receive(key, &Message::new_from_slice(code::PUT, tail), usize::MAX, BlockSize::MAX)? {
        Assembled::Continue(block) => Ok(Step::Continue(block)),
        Assembled::Complete { body, block } => Ok(Step::Complete(body.to_vec(), block)),
    }
}

fn put(bodies: &mut Bodies, block: Block, payload: &[u8]) -> Result<Step, BlockError> {
    put_tail(bodies, KEY, &encode(&[(option::BLOCK1, &value(block))], payload))
}

#[test]
fn sizes_are_powers_of_two_from_16_to_1024() {
    let sizes: Vec<_> = (0..8).map(|szx| BlockSize::from_exponent(szx).map(BlockSize::bytes)).collect();
    let expected = [Some(16), Some(32), Some(64), Some(128), Some(256), Some(512), Some(1024), None];
    assert_eq!(sizes, expected);
    for (bytes, fitting) in
        [(0, None), (15, None), (16, Some(16)), (63, Some(32)), (1023, Some(512)), (9999, Some(1024))]
    {
        assert_eq!(BlockSize::fitting(bytes).map(BlockSize::bytes), fitting, "{bytes}");
    }
}

#[test]
fn option_values_of_the_rfc() {
    // RFC 7959, section 3: 2:0/0/128 and so on, written number/more/size.
    for (bytes, expected) in [
        (&[][..], block(0, false, 16)),
        (&[0x03], block(0, false, 128)),
        (&[0x0b], block(0, true, 128)),
        (&[0x1b], block(1, true, 128)),
        (&[0x4a], block(4, true, 64)),
        (&[0x01, 0x06], block(16, false, 1024)),
        (&[0xff, 0xff, 0xfe], block(Block::MAX_NUMBER, true, 1024)),
    ] {
        assert_eq!(Block::decode(bytes), Ok(expected), "{bytes:02x?}");
        assert_eq!(value(expected), bytes);
    }
    assert_eq!(Block::decode(&[0, 0, 0x1b]), Ok(block(1, true, 128)), "leading zeros are allowed");
    assert_eq!(Block::decode(&[0x07]), Err(BlockError::ReservedSize));
    assert_eq!(Block::decode(&[0, 0, 0, 0]), Err(BlockError::BadOption));
    assert_eq!(Block::new(Block::MAX_NUMBER + 1, false, BlockSize::MIN), None);
    assert_eq!(block(Block::MAX_NUMBER, false, 1024).start(), 0xf_ffff * 1024);
}

#[test]
fn errors_are_answered_as_the_rfc_says() {
    for (error, code) in [
        (BlockError::BadOption, code::BAD_OPTION),
        (BlockError::ReservedSize, code::BAD_REQUEST),
        (BlockError::WrongLength, code::BAD_REQUEST),
        (BlockError::TooManyTags, code::BAD_REQUEST),
        (BlockError::OutOfRange, code::BAD_REQUEST),
        (BlockError::OutOfOrder, code::REQUEST_ENTITY_INCOMPLETE),
        (BlockError::TooLarge { limit: 1 }, code::REQUEST_ENTITY_TOO_LARGE),
    ] {
        assert_eq!(error.code(), code, "{error}");
    }
}

#[test]
fn a_body_is_gathered() {
    let mut bodies = Bodies::new();
    for (first, last_length) in [(1, 3), (7, 16)] {
        assert_eq!(put(&mut bodies, block(0, true, 16), &[first; 16]), Ok(Step::Continue(block(0, true, 16))));
        assert_eq!(put(&mut bodies, block(1, true, 16), &[2; 16]), Ok(Step::Continue(block(1, true, 16))));
        let last = vec![3; last_length];
        let body = [&[first; 16][..], &[2; 16], &last].concat();
        assert_eq!(put(&mut bodies, block(2, false, 16), &last), Ok(Step::Complete(body, Some(block(2, false, 16)))));
        assert_eq!(put(&mut bodies, block(3, false, 16), &[4]), Err(BlockError::OutOfOrder), "it is over");
    }
}

#[test]
fn a_body_may_fit_into_one_block_or_need_none() {
    let mut bodies = Bodies::new();
    let complete = Step::Complete(b"body".to_vec(), Some(block(0, false, 64)));
    assert_eq!(put(&mut bodies, block(0, false, 64), b"body"), Ok(complete));

    put(&mut bodies, block(0, true, 16), &[1; 16]).unwrap();
    let alone = put_tail(&mut bodies, KEY, &encode(&[], b"body"));
    assert_eq!(alone, Ok(Step::Complete(b"body".to_vec(), None)));
    assert!(put(&mut bodies, block(1, false, 16), &[]).is_ok(), "the body being gathered is undisturbed");
}

#[test]
fn block_0_starts_over() {
    let mut bodies = Bodies::new();
    put(&mut bodies, block(0, true, 16), &[1; 16]).unwrap();
    put(&mut bodies, block(1, true, 16), &[1; 16]).unwrap();
    put(&mut bodies, block(0, true, 16), &[2; 16]).unwrap();
    let body = [&[2; 16][..], &[3]].concat();
    assert_eq!(put(&mut bodies, block(1, false, 16), &[3]), Ok(Step::Complete(body, Some(block(1, false, 16)))));
}

#[test]
fn blocks_out_of_order_are_refused_and_harm_nothing() {
    let mut bodies = Bodies::new();
    assert_eq!(put(&mut bodies, block(1, true, 16), &[1; 16]), Err(BlockError::OutOfOrder));
    put(&mut bodies, block(0, true, 16), &[1; 16]).unwrap();
    put(&mut bodies, block(1, true, 16), &[1; 16]).unwrap();
    for number in [1, 3, Block::MAX_NUMBER] {
        assert_eq!(put(&mut bodies, block(number, true, 16), &[9; 16]), Err(BlockError::OutOfOrder), "{number}");
    }
    assert!(matches!(put(&mut bodies, block(2, false, 16), &[2]), Ok(Step::Complete(body, _)) if body.len() == 33));
}

#[test]
fn a_payload_fills_its_block() {
    let mut bodies = Bodies::new();
    for (block, length) in [(block(0, true, 16), 15), (block(0, true, 16), 17), (block(0, false, 16), 17)] {
        assert_eq!(put(&mut bodies, block, &vec![1; length]), Err(BlockError::WrongLength), "{length}");
    }
    put(&mut bodies, block(0, true, 16), &[1; 16]).unwrap();
    assert_eq!(put(&mut bodies, block(1, true, 16), &[2; 3]), Err(BlockError::WrongLength));
    assert!(put(&mut bodies, block(1, false, 16), &[2; 16]).is_ok());
}

#[test]
fn the_server_may_ask_for_smaller_blocks() {
    let mut bodies = Bodies::new();
    let mut put = |block, payload: &[u8]| {
        let tail = encode(&[(option::BLOCK1, &value(block))], payload);
        let message = Message::new_from_slice(code::PUT, &tail);
        match bodies.receive(KEY, &message, 100, size(16)).unwrap() {
            Assembled::Continue(block) => Step::Continue(block),
            Assembled::Complete { body, block } => Step::Complete(body.to_vec(), block),
        }
    };
    assert_eq!(put(block(0, true, 64), &[1; 64]), Step::Continue(block(0, true, 16)));
    assert_eq!(put(block(4, true, 16), &[2; 16]), Step::Continue(block(4, true, 16)));
    assert!(matches!(put(block(5, false, 16), &[3]), Step::Complete(body, _) if body.len() == 81));
    assert!(matches!(put(block(0, false, 64), &[1; 64]), Step::Complete(_, Some(last)) if last == block(0, false, 64)));
}

#[test]
fn too_large_a_body_is_refused_as_soon_as_that_shows() {
    let mut bodies = Bodies::new();
    let too_large = |limit| Err(BlockError::TooLarge { limit });
    put(&mut bodies, block(0, true, 64), &[1; 64]).unwrap();
    assert_eq!(put(&mut bodies, block(1, false, 64), &[1; 37]), too_large(100));
    assert_eq!(put(&mut bodies, block(1, false, 64), &[1; 36]), Err(BlockError::OutOfOrder), "it was given up");

    let announced = |announced: &[u8]| encode(&[(option::BLOCK1, &[0x08]), (option::SIZE1, announced)], &[1; 16]);
    assert_eq!(put_tail(&mut bodies, KEY, &announced(&[101])), too_large(100));
    assert_eq!(put_tail(&mut bodies, KEY, &announced(&[9; 5])), too_large(100));
    assert!(put_tail(&mut bodies, KEY, &announced(&[100])).is_ok());

    let tail = encode(&[(option::BLOCK1, &[0x08])], &[1; 16]);
    let message = Message::new_from_slice(code::PUT, &tail);
    assert_eq!(bodies.receive(KEY, &message, 15, BlockSize::MAX).unwrap_err(), BlockError::TooLarge { limit: 15 });
    assert!(bodies.receive(KEY, &message, 16, BlockSize::MAX).is_ok());

    let tail = encode(&[], &[1; 16]);
    let message = Message::new_from_slice(code::PUT, &tail);
    assert_eq!(bodies.receive(KEY, &message, 15, BlockSize::MAX).unwrap_err(), BlockError::TooLarge { limit: 15 });
    assert!(bodies.receive(KEY, &message, 16, BlockSize::MAX).is_ok(), "without Block1 too");
}

#[test]
fn bodies_are_told_apart_by_key_and_request_tags() {
    let tags: [&[(u16, &[u8])]; 6] = [
        &[],
        &[(option::REQUEST_TAG, b"")],
        &[(option::REQUEST_TAG, b"a")],
        &[(option::REQUEST_TAG, b"ab")],
        &[(option::REQUEST_TAG, b"a"), (option::REQUEST_TAG, b"b")],
        &[(option::REQUEST_TAG, b""), (option::REQUEST_TAG, b"a")],
    ];
    let request = |tags: &[(u16, &[u8])], block1: u8, payload: &[u8]| {
        encode(&[&[(option::BLOCK1, &[block1][..])], tags].concat(), payload)
    };
    for first in tags {
        for second in tags {
            let mut bodies = Bodies::new();
            put_tail(&mut bodies, KEY, &request(first, 0x08, &[1; 16])).unwrap();
            let result = put_tail(&mut bodies, KEY, &request(second, 0x10, &[2]));
            assert_eq!(result.is_ok(), first == second, "{first:?} {second:?}");
            assert!(first == second || result == Err(BlockError::OutOfOrder));
        }
    }
    for other in [(2, KEY.1), (KEY.0, "/comm/owner")] {
        let mut bodies = Bodies::new();
        put_tail(&mut bodies, KEY, &request(&[], 0x08, &[1; 16])).unwrap();
        assert_eq!(put_tail(&mut bodies, other, &request(&[], 0x10, &[2])), Err(BlockError::OutOfOrder));
        assert!(put_tail(&mut bodies, KEY, &request(&[], 0x10, &[2])).is_ok());
    }
    let many = vec![(option::REQUEST_TAG, &[7; 8][..]); 4];
    assert!(put_tail(&mut Bodies::new(), KEY, &request(&many[..3], 0x08, &[1; 16])).is_ok());
    assert_eq!(put_tail(&mut Bodies::new(), KEY, &request(&many, 0x08, &[1; 16])), Err(BlockError::TooManyTags));
    let long = [(option::REQUEST_TAG, &[7; 300][..])];
    assert_eq!(put_tail(&mut Bodies::new(), KEY, &request(&long, 0x08, &[1; 16])), Err(BlockError::TooManyTags));
}

#[test]
fn bad_block_options_are_refused() {
    for (options, error) in [
        (&[(option::BLOCK1, &[0x08][..]), (option::BLOCK1, &[0x08])][..], BlockError::BadOption),
        (&[(option::BLOCK1, &[0, 0, 0, 8])], BlockError::BadOption),
        (&[(option::BLOCK1, &[0x0f])], BlockError::ReservedSize),
    ] {
        assert_eq!(put_tail(&mut Bodies::new(), KEY, &encode(options, &[1; 16])), Err(error));
    }
}

#[test]
fn a_cleared_body_is_gone() {
    let mut bodies = Bodies::new();
    put(&mut bodies, block(0, true, 16), &[1; 16]).unwrap();
    bodies.clear();
    assert_eq!(put(&mut bodies, block(1, false, 16), &[2]), Err(BlockError::OutOfOrder));
}

#[test]
fn a_small_body_goes_as_it_is() {
    for body in [&b""[..], &[7; 64]] {
        assert_eq!(BodySlice::new(body, None, size(64)), Ok(BodySlice { payload: body, block: None }));
    }
}

#[test]
fn a_large_body_goes_in_blocks() {
    let body: Vec<u8> = (0..150).collect();
    let slice = |requested, largest| {
        BodySlice::new(&body, requested, size(largest))
            .map(|slice| (slice.payload.to_vec(), slice.block.expect("a block").0))
    };
    assert_eq!(slice(None, 64), Ok((body[..64].to_vec(), block(0, true, 64))));
    assert_eq!(slice(Some(block(1, false, 64)), 64), Ok((body[64..128].to_vec(), block(1, true, 64))));
    assert_eq!(slice(Some(block(2, false, 64)), 64), Ok((body[128..].to_vec(), block(2, false, 64))));
    assert_eq!(slice(Some(block(3, false, 64)), 64), Err(BlockError::OutOfRange));
    assert_eq!(slice(Some(block(Block::MAX_NUMBER, false, 1024)), 1024), Err(BlockError::OutOfRange));
    // Smaller blocks than the server's are honoured, larger ones are made smaller at the same place.
    assert_eq!(slice(Some(block(9, false, 16)), 64), Ok((body[144..].to_vec(), block(9, false, 16))));
    assert_eq!(slice(Some(block(1, false, 128)), 32), Ok((body[128..].to_vec(), block(4, false, 32))));
    assert_eq!(slice(Some(block(0, false, 1024)), 128), Ok((body[..128].to_vec(), block(0, true, 128))));
}

#[test]
fn a_last_block_may_be_full() {
    let body = [7; 64];
    let last = BodySlice::new(&body, Some(block(1, false, 32)), size(32)).unwrap();
    assert_eq!((last.payload, last.block.unwrap().0), (&[7; 32][..], block(1, false, 32)));
    assert_eq!(BodySlice::new(&body, Some(block(2, false, 32)), size(32)), Err(BlockError::OutOfRange));
}

#[test]
fn an_empty_body_has_one_block() {
    let first = BodySlice::new(b"", Some(block(0, false, 32)), size(32)).unwrap();
    assert_eq!((first.payload, first.block.unwrap().0), (&b""[..], block(0, false, 32)));
}

#[test]
fn the_etag_tells_that_a_body_changed() {
    let etag =
        |body: &[u8], number| BodySlice::new(body, Some(block(number, false, 16)), size(16)).unwrap().block.unwrap().1;
    let (before, mut after) = ([1; 40], [1; 40]);
    after[39] = 2;
    assert_eq!(etag(&before, 0), etag(&before, 1));
    assert_ne!(etag(&before, 0), etag(&after, 0), "though the first block is the same");
}

#[test]
fn a_slice_is_written_with_its_options() {
    let written = |slice: BodySlice<'_>| {
        let mut packet = coap_lite::Packet::new();
        slice.write(60, &mut packet).unwrap();
        let numbers: Vec<_> = ReadableMessage::options(&packet).map(|option| option.number()).collect();
        let (mut code, mut tail) = (0, [0; 64]);
        let mut message = MessageMut::new_in_slice(&mut code, &mut tail);
        slice.write(60, &mut message).unwrap();
        let options: Vec<_> =
            ReadableMessage::options(&message).map(|option| (option.number(), option.value().to_vec())).collect();
        assert_eq!(numbers, options.iter().map(|(number, _)| *number).collect::<Vec<_>>());
        assert_eq!(packet.payload, slice.payload);
        options
    };
    let body = [7; 40];
    assert_eq!(written(BodySlice::new(&body, None, size(64)).unwrap()), [(option::CONTENT_FORMAT, vec![60])]);
    let slice = BodySlice::new(&body, Some(block(1, false, 16)), size(64)).unwrap();
    let etag = slice.block.unwrap().1.to_vec();
    let expected = [(option::ETAG, etag), (option::CONTENT_FORMAT, vec![60]), (option::BLOCK2, vec![0x18])];
    assert_eq!(written(slice), expected);

    let (mut code, mut tail) = (0, [0; 16]);
    let mut message = MessageMut::new_in_slice(&mut code, &mut tail);
    assert!(slice.write(60, &mut message).is_err(), "no room");
}
