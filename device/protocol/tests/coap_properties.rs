//! Properties of the message layer over random messages and garbage.

use coap_lite::Packet;
use coap_message::{MessageOption, MinimalWritableMessage, ReadableMessage};
use coap_message_implementations::inmemory::{Message, MessageMut};
use coap_numbers::{code, option};
use edhoc_oscore::coap::{
    Assembled, Assembly, Block, BlockSize, BodySlice, Datagram, Endpoint, Header, Incoming, Token, Type, Writer,
    unsupported_option,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn block_size() -> impl Strategy<Value = BlockSize> {
    (0..=6_u8).prop_map(|szx| BlockSize::from_exponent(szx).unwrap())
}

fn type_() -> impl Strategy<Value = Type> {
    prop_oneof![Just(Type::Con), Just(Type::Non), Just(Type::Ack), Just(Type::Rst)]
}

/// Bytes that look enough like a datagram to get past the first check now and then.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![3 => any::<u8>(), 1 => Just(0xff), 1 => Just(0), 1 => 0..0x20_u8];
    (prop_oneof![any::<u8>(), 0x40..0x80_u8], vec(byte(), 0..60)).prop_map(|(first, mut bytes)| {
        bytes.insert(0, first);
        bytes
    })
}

fn options_of(message: &impl ReadableMessage) -> Vec<(u16, Vec<u8>)> {
    message.options().map(|option| (option.number(), option.value().to_vec())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn garbage_never_panics(bytes in garbage(), others in vec(garbage(), 0..8), now: u64) {
        let mut endpoint = Endpoint::<u8, 3, 16>::new(0);
        for (peer, bytes) in others.iter().chain([&bytes]).enumerate() {
            if let Incoming::Request(exchange, datagram) = endpoint.receive(peer as u8 % 2, bytes, now) {
                let message = datagram.message();
                prop_assert_eq!(message.payload().len(), datagram.payload_length());
                endpoint.remember(&exchange, bytes);
            }
        }
        let message = Message::new_from_slice(code::PUT, &bytes);
        let mut assembly = Assembly::<u8, 40>::new();
        let _ = assembly.receive(0, &message, 30, BlockSize::MAX);
        let requested = Block::of(&message, option::BLOCK2).ok().flatten();
        let _ = BodySlice::new(&bytes, requested, BlockSize::MIN);
        let _ = unsupported_option(&message, &[option::URI_PATH]);
    }

    #[test]
    fn a_malformed_message_always_has_an_unsupported_option(
        tail in vec(any::<u8>(), 0..30),
        supported in vec(any::<u16>(), 0..4),
    ) {
        let mut datagram = vec![0x40, code::GET, 0, 0];
        datagram.extend(&tail);
        let dangling = tail.ends_with(&[0xff]); // not malformed to the in-memory message
        if Datagram::parse(&datagram).is_err() && !dangling && !supported.contains(&u16::MAX) {
            prop_assert!(unsupported_option(&Message::new_from_slice(code::GET, &tail), &supported).is_some());
        }
    }

    /// Two parsers by two people: what ours accepts, coap-lite understands in the same way.
    #[test]
    fn coap_lite_agrees(bytes in garbage()) {
        if let Ok(datagram) = Datagram::parse(&bytes) {
            let packet = Packet::from_bytes(&bytes).unwrap();
            prop_assert_eq!(packet.header.message_id, datagram.header.message_id);
            prop_assert_eq!(packet.get_token(), datagram.header.token.as_slice());
            let message = datagram.message();
            prop_assert_eq!(&packet.payload, message.payload());
            prop_assert_eq!(options_of(&message), options_of(&packet));
        }
    }

    #[test]
    fn what_is_written_is_read(
        type_ in type_(),
        code in prop_oneof![1..0x20_u8, 0x40..0x60_u8, 0x80..0xc0_u8],
        message_id: u16,
        token in vec(any::<u8>(), 0..=8),
        mut options in vec((any::<u16>(), vec(any::<u8>(), 0..300)), 0..5),
        payload in vec(any::<u8>(), 0..300),
    ) {
        options.retain(|(number, _)| *number != u16::MAX);
        options.sort_by_key(|(number, _)| *number);
        let header = Header { type_, code, message_id, token: Token::new(&token).unwrap() };
        let mut buffer = vec![0; 2500];
        let mut writer = Writer::new(&mut buffer, &header).unwrap();
        let mut message = writer.message();
        options.iter().for_each(|(number, value)| message.add_option(*number, value).unwrap());
        message.set_payload(&payload).unwrap();
        let length = message.finish().0;
        let length = writer.finish(length).unwrap();

        let datagram = Datagram::parse(&buffer[..length]).unwrap();
        prop_assert_eq!((datagram.header, datagram.payload_length()), (header, payload.len()));
        let message = datagram.message();
        prop_assert_eq!(options_of(&message), options);
        prop_assert_eq!(message.payload(), &payload);
    }

    #[test]
    fn block_options_are_what_they_encode_to(number in 0..=Block::MAX_NUMBER, more: bool, size in block_size()) {
        let block = Block::new(number, more, size).unwrap();
        prop_assert_eq!(Block::decode(&block.encode().to_be_bytes()[1..]), Ok(block));
        prop_assert_eq!(block.start(), number * u32::from(size.bytes()));
    }

    /// What one side cuts up, the other puts together, whatever sizes each prefers.
    #[test]
    fn a_body_survives_block_wise_transfer(
        body in vec(any::<u8>(), 0..600),
        ours in block_size(),
        theirs in block_size(),
    ) {
        // From the server: the client's first request has no Block2, then it follows the server's size.
        let (mut read, mut next) = (Vec::new(), None);
        loop {
            let slice = BodySlice::new(&body, next, ours).unwrap();
            read.extend_from_slice(slice.payload);
            let Some((block, _)) = slice.block.filter(|(block, _)| block.more) else { break };
            next = Block::new(block.number() + 1, false, block.size);
        }
        prop_assert_eq!(&read, &body);

        // To the server, which prefers a size of its own.
        let mut assembly = Assembly::<(), 600>::new();
        let (mut sent, mut size) = (0, theirs);
        loop {
            let rest = &body[sent..];
            let payload = &rest[..rest.len().min(size.bytes().into())];
            let number = sent as u32 / u32::from(size.bytes());
            let block = Block::new(number, payload.len() < rest.len(), size).unwrap();
            let (mut code, mut tail) = (code::PUT, [0; 1100]);
            let mut message = MessageMut::new_in_slice(&mut code, &mut tail);
            message.add_option_uint(option::BLOCK1, block.encode()).unwrap();
            message.set_payload(payload).unwrap();
            let length = message.finish().0;
            let message = Message::new_from_slice(code, &tail[..length]);
            sent += payload.len();
            match assembly.receive((), &message, 600, ours).unwrap() {
                Assembled::Continue(block) => size = block.size,
                Assembled::Complete { body: gathered, .. } => {
                    prop_assert_eq!(gathered, &body);
                    break;
                }
            }
        }
    }
}
