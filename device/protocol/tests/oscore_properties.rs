//! Properties of OSCORE over random messages, contexts and garbage.

use coap_lite::Packet;
use coap_message::{MessageOption, MinimalWritableMessage, ReadableMessage};
use coap_message_implementations::inmemory::{Message, MessageMut};
use coap_numbers::option::{EDHOC, HOP_LIMIT, OBSERVE, OSCORE, PROXY_SCHEME, PROXY_URI, URI_HOST, URI_PORT};
use edhoc_oscore::coap::{Datagram, Header, Token, Type, Writer};
use edhoc_oscore::oscore::{Context, Correlation, Error, Id, OptionValue, PartialIv, split_combined};
use proptest::collection::vec;
use proptest::prelude::*;

type Options = Vec<(u16, Vec<u8>)>;

/// Two ends of one context.
fn pair() -> impl Strategy<Value = (Context, Context)> {
    let id = || vec(any::<u8>(), 0..=7);
    (vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..10), id(), id(), 0..=PartialIv::MAX - 1000)
        .prop_filter("the IDs must differ", |(_, _, client, server, _)| client != server)
        .prop_map(|(secret, salt, client, server, sequence)| {
            let [client, server] = [client, server].map(|id| Id::new(&id).unwrap());
            let mut pair =
                (Context::derive(&secret, &salt, client, server), Context::derive(&secret, &salt, server, client));
            pair.0.skip_to(sequence);
            pair.1.skip_to(sequence / 3);
            pair
        })
}

/// Options that travel inside, in order, of at most `longest` bytes each.
fn options(longest: usize) -> impl Strategy<Value = Options> {
    let outside = [OBSERVE, OSCORE, EDHOC, PROXY_URI, u16::MAX, URI_HOST, URI_PORT, HOP_LIMIT, PROXY_SCHEME];
    let inside = move |number: &u16| !outside.contains(number);
    vec((prop_oneof![0..300_u16, any::<u16>()].prop_filter("goes inside", inside), vec(any::<u8>(), 0..=longest)), 0..6)
        .prop_map(|mut options| {
            options.sort_by_key(|(number, _)| *number);
            options
        })
}

fn write(message: &mut impl MinimalWritableMessage<Code = u8, OptionNumber = u16>, options: &Options, payload: &[u8]) {
    options.iter().for_each(|(number, value)| message.add_option(*number, value).unwrap());
    message.set_payload(payload).unwrap();
}

fn options_of(message: &impl ReadableMessage) -> Options {
    message.options().map(|option| (option.number(), option.value().to_vec())).collect()
}

/// A whole datagram with a protected request.
fn protected_request(client: &mut Context, code: u8, options: &Options, payload: &[u8]) -> (Vec<u8>, Correlation) {
    let (mut inner_code, mut inner_tail) = (code, vec![0; 4000]);
    let mut inner = MessageMut::new_in_slice(&mut inner_code, &mut inner_tail);
    write(&mut inner, options, payload);
    let length = inner.finish().0;

    let header = Header { type_: Type::Con, code: 0, message_id: 7, token: Token::from(5) };
    let mut buffer = vec![0; 4000];
    let mut writer = Writer::new(&mut buffer, &header).unwrap();
    let mut outer = writer.message();
    let inner = Message::new_from_slice(inner_code, &inner_tail[..length]);
    let correlation = client.protect_request(&inner, &mut outer, &mut [0; 4000]).unwrap();
    let length = outer.finish().0;
    let length = writer.finish(length).unwrap();
    buffer.truncate(length);
    (buffer, correlation)
}

/// As a server does it: in place, and only if it is a datagram at all.
fn open(server: &mut Context, datagram: &mut [u8]) -> Result<(u8, Options, Vec<u8>, Correlation), Error> {
    let parsed = Datagram::parse(datagram).map_err(|_| Error::BadOption)?;
    let option = OptionValue::of(&parsed.message())?;
    let ciphertext_at = datagram.len() - parsed.payload_length();
    let (inner, correlation) = server.open_request(&option, &mut datagram[ciphertext_at..])?;
    Ok((inner.code(), options_of(&inner), inner.payload().to_vec(), correlation))
}

proptest! {
    #[test]
    fn what_is_protected_comes_out_again(
        (mut client, mut server) in pair(),
        (code, options, payload) in (any::<u8>(), options(300), vec(any::<u8>(), 0..1200)),
        (answer_code, answer_options, answer_payload) in (any::<u8>(), options(300), vec(any::<u8>(), 0..1200)),
        own_partial_iv: bool,
    ) {
        let (mut datagram, sent) = protected_request(&mut client, code, &options, &payload);
        let (inner_code, inner_options, inner_payload, received) = open(&mut server, &mut datagram).unwrap();
        prop_assert_eq!((inner_code, inner_options, inner_payload, received), (code, options, payload, sent));

        let correlation = if own_partial_iv { received.with_partial_iv() } else { received };
        let header = Header { type_: Type::Ack, code: answer_code, message_id: 7, token: Token::from(5) };
        let mut buffer = vec![0; 4000];
        let mut response = server.respond(&correlation, &header, &mut buffer).unwrap();
        let mut inner = response.message().unwrap();
        write(&mut inner, &answer_options, &answer_payload);
        let length = inner.finish().0;
        let length = response.seal(&server, length).unwrap();

        let packet = Packet::from_bytes(&buffer[..length]).unwrap();
        let mut buffer = vec![0; 4000];
        let inner = client.unprotect_response(&packet, &mut buffer, &sent).unwrap();
        prop_assert_eq!(inner.code(), answer_code);
        prop_assert_eq!(options_of(&inner), answer_options);
        prop_assert_eq!(inner.payload(), &answer_payload);
    }

    #[test]
    fn no_flipped_bit_gets_through(
        (mut client, mut server) in pair(),
        options in options(4),
        payload in vec(any::<u8>(), 0..20),
    ) {
        let (datagram, _) = protected_request(&mut client, 1, &options, &payload);
        // Header and token are outside of OSCORE's protection: not one of theirs is looked at.
        for bit in 5 * 8..datagram.len() * 8 {
            let mut flipped = datagram.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&mut server, &mut flipped).is_err(), "bit {bit}");
        }
        prop_assert!(open(&mut server, &mut datagram.clone()).is_ok());
    }

    #[test]
    fn no_flipped_bit_of_a_response_gets_through(
        (mut client, mut server) in pair(),
        payload in vec(any::<u8>(), 0..20),
        own: bool,
    ) {
        // In a response, a kid may be added that says what is known already.
        prop_assume!(!server.sender().is_empty());
        let (mut request, sent) = protected_request(&mut client, 1, &vec![], &[]);
        let (.., received) = open(&mut server, &mut request).unwrap();
        let received = if own { received.with_partial_iv() } else { received };
        let header = Header { type_: Type::Ack, code: 0x45, message_id: 7, token: Token::from(5) };
        let mut buffer = [0; 64];
        let mut response = server.respond(&received, &header, &mut buffer).unwrap();
        let mut inner = response.message().unwrap();
        inner.set_payload(&payload).unwrap();
        let length = inner.finish().0;
        let length = response.seal(&server, length).unwrap();
        for bit in 5 * 8..length * 8 {
            let mut flipped = buffer[..length].to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Ok(datagram) = Datagram::parse(&flipped) else { continue };
            let opened = client.unprotect_response(&datagram.message(), &mut [0; 64], &sent).is_ok();
            prop_assert!(!opened, "bit {bit}");
        }
    }

    #[test]
    fn each_request_gets_through_once_whatever_the_order(
        (mut client, mut server) in pair(),
        order in vec(0..80_usize, 1..200),
    ) {
        let requests: Vec<_> = (0..80).map(|_| protected_request(&mut client, 1, &vec![], &[]).0).collect();
        let (mut seen, mut highest) = ([false; 80], 0);
        for index in order {
            let fresh = !seen[index] && index + 32 > highest;
            let result = open(&mut server, &mut requests[index].clone());
            prop_assert_eq!(result.is_ok(), fresh, "{} after {}", index, highest);
            prop_assert!(fresh || result == Err(Error::Replay));
            seen[index] = true;
            highest = highest.max(index);
        }
    }

    #[test]
    fn option_values_are_what_they_encode_to(value in vec(any::<u8>(), 0..24)) {
        if let Ok(option) = OptionValue::decode(&value) {
            prop_assert_eq!(&option.encode()[..], value);
        }
    }

    #[test]
    fn partial_ivs_are_minimal(sequence in prop_oneof![0..600_u64, 0..=PartialIv::MAX]) {
        let partial_iv = PartialIv::new(sequence).unwrap();
        prop_assert_eq!(partial_iv.sequence(), sequence);
        prop_assert_eq!(partial_iv.as_slice().len(), (1..5).find(|n| sequence < 1 << (8 * n)).unwrap_or(5));
        prop_assert_eq!(PartialIv::new(PartialIv::MAX + 1 + sequence), None);
    }

    #[test]
    fn garbage_never_panics(mut bytes in vec(any::<u8>(), 0..80), sequence: u8, (_, mut server) in pair()) {
        let mut client = Context::derive(b"", b"", server.recipient(), server.sender());
        let (_, correlation) = protected_request(&mut client, 1, &vec![], &[]);
        let message = Message::new_from_slice(2, &bytes);
        let _ = server.unprotect_request(&message, &mut [0; 100]);
        let _ = client.unprotect_response(&message, &mut [0; 100], &correlation);
        let _ = client.protect_request(&message, &mut Packet::new(), &mut [0; 100]);
        let _ = split_combined(&bytes);
        if let Ok(packet) = Packet::from_bytes(&bytes) {
            let _ = server.unprotect_request(&packet, &mut [0; 100]);
        }
        // Something that looks like OSCORE, with our kid.
        let partial_iv = PartialIv::new(sequence.into());
        let option = OptionValue { partial_iv, kid: Some(server.recipient()), kid_context: None };
        prop_assert!(server.open_request(&option, &mut bytes).is_err());
        prop_assert!(client.open_response(&option, &mut bytes, &correlation).is_err());
    }

    #[test]
    fn buffers_of_any_size_never_panic(
        (mut client, mut server) in pair(),
        options in options(60),
        (scratch, outer, own) in (0..400_usize, 0..400_usize, any::<bool>()),
    ) {
        let (mut request, sent) = protected_request(&mut client, 1, &options, b"payload");
        let received = open(&mut server, &mut request).unwrap().3;
        prop_assert_eq!(sent, received);
        let received = if own { received.with_partial_iv() } else { received };

        let (mut code, mut tail) = (1, vec![0; 4000]);
        let mut inner = MessageMut::new_in_slice(&mut code, &mut tail);
        write(&mut inner, &options, b"payload");
        let length = inner.finish().0;
        let inner = Message::new_from_slice(code, &tail[..length]);

        let (mut code, mut tail) = (0, vec![0; outer]);
        let mut message = MessageMut::new_in_slice(&mut code, &mut tail);
        let fits = server.protect_response(&inner, &mut message, &mut vec![0; scratch], &received).is_ok();
        prop_assert!(!fits || scratch >= 1 + length + 8 && outer >= 1 + 1 + 1 + length + 8);
        let (mut code, mut tail) = (0, vec![0; outer]);
        let mut message = MessageMut::new_in_slice(&mut code, &mut tail);
        let fits = client.protect_combined_request(&[0x41, 1], &inner, &mut message, &mut vec![0; scratch]).is_ok();
        prop_assert!(!fits || scratch >= 2 + 1 + length + 8);
    }
}
