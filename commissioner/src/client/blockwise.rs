//! Bodies larger than a datagram (RFC 7959), with Request-Tag (RFC 9175): one body at a time, blocks in order.
//!
//! The same code serves plain CoAP and the inside of OSCORE: both are an [`Exchange`].

use coap_lite::{CoapOption, Packet};
use coap_numbers::option;
use protocol::coap::{Block, BlockSize, unsupported_option};
use rand_core::{OsRng, RngCore};
use tokio::time::Instant;

use super::message::{Code, Request, Response, single_option, uint_value};
use super::{Error, MAX_BODY, MAX_TIME};

/// One message there, one back.
pub(crate) trait Exchange {
    /// What can go wrong on the way.
    type Error: From<Error>;
    /// Sends a request, whose message ID and token are not set yet, and returns the response to it.
    async fn exchange(&mut self, request: Packet) -> Result<Packet, Self::Error>;
    /// The longest payload that fits into a request, in bytes.
    fn room(&self) -> usize;
}

/// Exchanges a whole request for a whole response, in as many messages as that takes. None is begun after [`MAX_TIME`].
pub(crate) async fn transfer<E: Exchange>(over: &mut E, request: &Request) -> Result<Response, E::Error> {
    if request.payload.len() > MAX_BODY {
        return Err(Error::TooLarge.into());
    }
    let deadline = Instant::now() + MAX_TIME;
    let answer = send_body(over, request, deadline).await?;
    receive_body(over, request, answer, deadline).await
}

/// Sends the request's body and returns the first message of the response.
async fn send_body<E: Exchange>(over: &mut E, request: &Request, deadline: Instant) -> Result<Packet, E::Error> {
    let mut tag = [0; 4];
    OsRng.fill_bytes(&mut tag);
    // A body goes whole if it can: then the device needs no memory for what came before.
    let mut whole = over.room().min(BlockSize::MAX.bytes().into());
    let mut size = BlockSize::fitting(whole).unwrap_or(BlockSize::MIN);
    let mut sent = 0;
    loop {
        let rest = request.payload.get(sent..).unwrap_or_default();
        let chunk = if rest.len() <= whole { rest } else { rest.get(..size.bytes().into()).unwrap_or(rest) };
        let block = block_at(sent, chunk.len() < rest.len(), size)?;

        let mut message = request.head();
        if let Some(format) = request.content_format {
            message.add_option(CoapOption::ContentFormat, uint_value(format.into()));
        }
        if block.more || sent > 0 {
            message.add_option(CoapOption::Block1, uint_value(block.encode()));
            message.add_option(CoapOption::Unknown(option::REQUEST_TAG), tag.to_vec());
        }
        message.payload = chunk.to_vec();
        let answer = exchange(over, message, deadline).await?;

        match (Code(answer.header.code.into()), block_option(&answer, option::BLOCK1)?) {
            (Code::CONTINUE, Some(taken)) if block.more && taken.number() == block.number() && taken.size <= size => {
                sent += chunk.len();
                (size, whole) = (taken.size, 0);
            }
            (Code::CONTINUE, _) => {
                return Err(Error::Malformed("2.31 Continue that does not fit the block sent").into());
            }
            // Nothing is accepted yet: begin again with the smaller blocks that the device asks for.
            (Code::REQUEST_ENTITY_TOO_LARGE, Some(wanted))
                if sent == 0 && usize::from(wanted.size.bytes()) < chunk.len() =>
            {
                (size, whole) = (wanted.size, 0);
            }
            (code, _) if code.is_success() && block.more => {
                return Err(Error::Malformed("success before the whole body was sent").into());
            }
            _ => return Ok(answer),
        }
    }
}

/// Fetches what the first message of the response left out.
async fn receive_body<E: Exchange>(
    over: &mut E,
    request: &Request,
    first: Packet,
    deadline: Instant,
) -> Result<Response, E::Error> {
    let mut body = first.payload.clone();
    let Some(mut block) = block_option(&first, option::BLOCK2)? else {
        return Ok(Response::new(&first, body));
    };
    check_next(block, 0, body.len())?;
    while block.more {
        let mut message = request.head();
        let wanted = block_at(body.len(), false, block.size)?;
        message.add_option(CoapOption::Block2, uint_value(wanted.encode()));
        let answer = exchange(over, message, deadline).await?;

        if !Code(answer.header.code.into()).is_success() {
            return Ok(Response::new(&answer, answer.payload.clone()));
        }
        block = block_option(&answer, option::BLOCK2)?.ok_or(Error::Malformed("a block without its Block2 option"))?;
        check_next(block, body.len(), answer.payload.len())?;
        if block.size > wanted.size {
            return Err(Error::Malformed("a block larger than those before").into());
        }
        let version = |packet: &Packet| (packet.header.code, single_option(packet, option::ETAG).map(<[u8]>::to_vec));
        if version(&answer) != version(&first) {
            return Err(Error::Changed.into());
        }
        body.extend_from_slice(&answer.payload);
        if body.len() > MAX_BODY {
            return Err(Error::TooLarge.into());
        }
    }
    Ok(Response::new(&first, body))
}

/// A response with critical options that we do not know must not be used (RFC 7252 section 5.4.1).
async fn exchange<E: Exchange>(over: &mut E, message: Packet, deadline: Instant) -> Result<Packet, E::Error> {
    if Instant::now() > deadline {
        return Err(Error::TooSlow.into());
    }
    let answer = over.exchange(message).await?;
    match unsupported_option(&answer, &[option::BLOCK1, option::BLOCK2]) {
        None => Ok(answer),
        Some(_) => Err(Error::Malformed("an option that must not be ignored and is not known").into()),
    }
}

fn block_at(offset: usize, more: bool, size: BlockSize) -> Result<Block, Error> {
    let number = u32::try_from(offset / usize::from(size.bytes())).ok();
    number.and_then(|number| Block::new(number, more, size)).ok_or(Error::TooLarge)
}

fn block_option(packet: &Packet, number: u16) -> Result<Option<Block>, Error> {
    Block::of(packet, number).map_err(|_| Error::Malformed("a block option that cannot be read"))
}

/// Succeeds if the block continues a body at `offset`, and is full if others follow.
fn check_next(block: Block, offset: usize, payload: usize) -> Result<(), Error> {
    let size = usize::from(block.size.bytes());
    let fits = if block.more { payload == size } else { payload <= size };
    match block.start() as usize == offset && fits {
        true => Ok(()),
        false => Err(Error::Malformed("a block that is not the next one")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::uint_option;
    use super::*;

    /// A peer that answers each request by a function, and keeps what it was sent.
    struct Script<F> {
        answer: F,
        room: usize,
        seen: Vec<Packet>,
    }

    impl<F: FnMut(&Packet) -> Packet> Exchange for Script<F> {
        type Error = Error;

        async fn exchange(&mut self, request: Packet) -> Result<Packet, Error> {
            self.seen.push(request.clone());
            Ok((self.answer)(&request))
        }

        fn room(&self) -> usize {
            self.room
        }
    }

    async fn run(
        request: &Request,
        room: usize,
        answer: impl FnMut(&Packet) -> Packet,
    ) -> (Result<Response, Error>, Vec<Packet>) {
        let mut script = Script { answer, room, seen: Vec::new() };
        let response = transfer(&mut script, request).await;
        (response, script.seen)
    }

    fn message(code: Code, options: &[(u16, Vec<u8>)], payload: &[u8]) -> Packet {
        let mut packet = Packet::new();
        packet.header.code = code.0.into();
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
                    return message(Code::REQUEST_ENTITY_TOO_LARGE, &[(option::BLOCK1, block(0, false, 16))], &[]);
                }
                taken.clone_from(&request.payload);
                return message(Code::CHANGED, &[], &[]);
            };
            if asked.number() == 0 {
                taken.clear();
            }
            assert_eq!(asked.start() as usize, taken.len(), "blocks in order");
            taken.extend(&request.payload);
            let size = asked.size.min(size_of(size));
            let code = if asked.more { Code::CONTINUE } else { Code::CHANGED };
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
            let options =
                [(option::BLOCK2, block((start / size) as u32, end < body.len(), size)), (option::ETAG, vec![1])];
            message(Code::CONTENT, &options, &body[start..end])
        }
    }

    #[tokio::test]
    async fn a_body_that_fits_goes_in_one_message_without_block_options() {
        let mut taken = Vec::new();
        let (response, seen) = run(&Request::put("/comm/owner", 60, body(64)), 64, taking(1024, &mut taken)).await;
        assert_eq!(response.unwrap().code, Code::CHANGED);
        assert_eq!(seen.len(), 1);
        assert!(single_option(&seen[0], option::BLOCK1).is_none());
        assert_eq!(taken, body(64));
    }

    #[tokio::test]
    async fn a_body_between_two_block_sizes_goes_whole_if_there_is_room() {
        for (length, messages) in [(100, 1), (101, 2), (164, 3)] {
            let mut taken = Vec::new();
            let (response, seen) = run(&Request::put("/x", 60, body(length)), 100, taking(1024, &mut taken)).await;
            assert_eq!((response.unwrap().code, taken, seen.len()), (Code::CHANGED, body(length), messages));
        }
        // ... and in blocks if the server cannot.
        let mut taken = Vec::new();
        let (response, seen) = run(&Request::put("/x", 60, body(100)), 100, taking(64, &mut taken)).await;
        assert_eq!((response.unwrap().code, taken), (Code::CHANGED, body(100)));
        assert!(seen[1..].iter().all(|message| single_option(message, option::BLOCK1).is_some()));
    }

    #[tokio::test]
    async fn a_large_body_goes_in_blocks_with_one_tag_and_its_content_format() {
        let mut taken = Vec::new();
        let (response, seen) = run(&Request::put("/a/b", 60, body(150)), 64, taking(1024, &mut taken)).await;
        assert_eq!(response.unwrap().code, Code::CHANGED);
        assert_eq!(taken, body(150));
        let tags: Vec<_> = seen.iter().map(|m| single_option(m, option::REQUEST_TAG).unwrap()).collect();
        assert!(tags.len() == 3 && tags.iter().all(|tag| *tag == tags[0]));
        assert!(seen.iter().all(|m| uint_option(m, option::CONTENT_FORMAT) == Some(60)));
        assert!(seen.iter().all(|m| m.get_option(CoapOption::UriPath).unwrap().len() == 2));
    }

    #[tokio::test]
    async fn a_server_that_wants_smaller_blocks_gets_them() {
        let mut taken = Vec::new();
        let (response, seen) = run(&Request::put("/x", 60, body(200)), 64, taking(16, &mut taken)).await;
        assert_eq!((response.unwrap().code, taken), (Code::CHANGED, body(200)));
        let first = Block::of(&seen[1], option::BLOCK1).unwrap().unwrap();
        assert_eq!((first.number(), first.size.bytes()), (4, 16));
    }

    #[tokio::test]
    async fn a_server_that_cannot_take_the_whole_gets_blocks_after_4_13() {
        let mut taken = Vec::new();
        let (response, seen) = run(&Request::put("/x", 60, body(40)), 64, taking(16, &mut taken)).await;
        assert_eq!((response.unwrap().code, taken, seen.len()), (Code::CHANGED, body(40), 1 + 3));
    }

    #[tokio::test]
    async fn a_4_13_that_asks_for_nothing_smaller_is_the_answer() {
        for wanted in [64, 1024] {
            let answer = |_: &Packet| message(Code::REQUEST_ENTITY_TOO_LARGE, &[(27, block(0, false, wanted))], &[]);
            let (response, seen) = run(&Request::put("/x", 60, body(200)), 64, answer).await;
            assert_eq!((response.unwrap().code, seen.len()), (Code::REQUEST_ENTITY_TOO_LARGE, 1));
        }
    }

    #[tokio::test]
    async fn an_error_in_the_middle_of_a_body_is_the_answer() {
        let mut count = 0;
        let answer = |request: &Packet| {
            count += 1;
            let echo = (option::BLOCK1, single_option(request, option::BLOCK1).unwrap().to_vec());
            message(if count < 3 { Code::CONTINUE } else { Code::UNAUTHORIZED }, &[echo], &[])
        };
        let (response, seen) = run(&Request::put("/x", 60, body(200)), 16, answer).await;
        assert_eq!((response.unwrap().code, seen.len()), (Code::UNAUTHORIZED, 3));
    }

    #[tokio::test]
    async fn answers_that_do_not_fit_the_block_are_malformed() {
        let answers = [
            message(Code::CONTINUE, &[], &[]),
            message(Code::CONTINUE, &[(27, block(1, true, 16))], &[]),
            message(Code::CONTINUE, &[(27, block(0, true, 64))], &[]),
            message(Code::CONTINUE, &[(27, vec![7])], &[]),
            message(Code::CONTINUE, &[(27, vec![1, 0, 0, 0])], &[]),
            message(Code::CONTINUE, &[(27, vec![8]), (27, vec![8])], &[]),
            message(Code::CHANGED, &[], &[]),
        ];
        for answer in answers {
            let (response, seen) = run(&Request::put("/x", 60, body(200)), 16, |_| answer.clone()).await;
            assert!(matches!(response, Err(Error::Malformed(_))), "{answer:?} gave {response:?}");
            assert_eq!(seen.len(), 1);
        }
        let (response, _) =
            run(&Request::put("/x", 60, body(1)), 16, |_| message(Code::CONTINUE, &[(27, vec![])], &[])).await;
        assert!(matches!(response, Err(Error::Malformed(_))));
    }

    #[tokio::test]
    async fn a_large_answer_is_gathered() {
        for (length, size, messages) in [(0, 16, 1), (16, 16, 1), (17, 16, 2), (1000, 64, 16), (MAX_BODY, 1024, 64)] {
            let mut request = Request::get("/comm");
            request.accept = Some(60);
            let (response, seen) = run(&request, 64, giving(body(length), size)).await;
            assert_eq!(response.unwrap().payload, body(length));
            assert_eq!(seen.len(), messages);
            assert!(seen.iter().all(|m| uint_option(m, option::ACCEPT) == Some(60)));
        }
    }

    #[tokio::test]
    async fn a_body_may_go_and_come_in_blocks() {
        let mut taken = Vec::new();
        {
            let mut take = taking(16, &mut taken);
            let mut give = giving(body(300), 32);
            let answer = move |request: &Packet| {
                let taken = (!request.payload.is_empty()).then(|| take(request));
                taken.filter(|taken| Code(taken.header.code.into()) != Code::CHANGED).unwrap_or_else(|| give(request))
            };
            let (response, _) = run(&Request::post("/x", 60, body(100)), 64, answer).await;
            assert_eq!(response.unwrap().payload, body(300));
        }
        assert_eq!(taken, body(100));
    }

    #[tokio::test]
    async fn a_server_may_turn_to_smaller_blocks() {
        let (mut large, mut small) = (giving(body(200), 64), giving(body(200), 16));
        let mut first = true;
        let answer = |request: &Packet| if std::mem::take(&mut first) { large(request) } else { small(request) };
        let (response, seen) = run(&Request::get("/x"), 64, answer).await;
        assert_eq!((response.unwrap().payload, seen.len()), (body(200), 1 + 9));
    }

    #[tokio::test]
    async fn a_body_that_changes_while_it_is_read_is_not_believed() {
        for change_code in [false, true] {
            let mut give = giving(body(100), 16);
            let answer = |request: &Packet| {
                let mut answer = give(request);
                if Block::of(request, option::BLOCK2).unwrap().is_some_and(|block| block.number() == 3) {
                    match change_code {
                        true => answer.header.code = Code::CHANGED.0.into(),
                        false => answer.clear_option(CoapOption::ETag),
                    }
                }
                answer
            };
            assert!(matches!(run(&Request::get("/x"), 64, answer).await.0, Err(Error::Changed)));
        }
    }

    #[tokio::test]
    async fn a_body_without_end_is_cut_off() {
        let answer = |request: &Packet| {
            let asked = Block::of(request, option::BLOCK2).unwrap().map_or(0, Block::number);
            message(Code::CONTENT, &[(option::BLOCK2, block(asked, true, 1024))], &[0; 1024])
        };
        let (response, seen) = run(&Request::get("/x"), 64, answer).await;
        assert!(matches!(response, Err(Error::TooLarge)));
        assert_eq!(seen.len(), MAX_BODY / 1024 + 1);
        assert!(matches!(run(&Request::put("/x", 60, body(MAX_BODY + 1)), 64, answer).await.0, Err(Error::TooLarge)));
    }

    #[tokio::test]
    async fn blocks_that_are_not_the_next_one_are_malformed() {
        let good = message(Code::CONTENT, &[(23, block(0, true, 16))], &[0; 16]);
        let second = [
            message(Code::CONTENT, &[(23, block(0, true, 16))], &[0; 16]),
            message(Code::CONTENT, &[(23, block(2, true, 16))], &[0; 16]),
            message(Code::CONTENT, &[(23, block(1, true, 16))], &[0; 15]),
            message(Code::CONTENT, &[(23, block(1, true, 16))], &[]),
            message(Code::CONTENT, &[(23, block(1, false, 16))], &[0; 17]),
            message(Code::CONTENT, &[(23, block(1, false, 16)), (9, vec![])], &[0; 16]),
            message(Code::CONTENT, &[], &[0; 16]),
        ];
        for answer in &second {
            let mut first = true;
            let answers = |_: &Packet| if std::mem::take(&mut first) { good.clone() } else { answer.clone() };
            let (response, seen) = run(&Request::get("/x"), 64, answers).await;
            assert!(matches!(response, Err(Error::Malformed(_))), "{answer:?} gave {response:?}");
            assert_eq!(seen.len(), 2);
        }
        let late = message(Code::CONTENT, &[(23, block(1, false, 16))], &[0; 16]);
        assert!(matches!(run(&Request::get("/x"), 64, |_| late.clone()).await.0, Err(Error::Malformed(_))));
    }
}
