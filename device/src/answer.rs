//! A response before it is a message: its code, its body, and the options that go with it.

use coap_message::{Code, MinimalWritableMessage, OptionNumber};
use coap_numbers::{code, option};
use protocol::coap::{Block, BlockSize, BodySlice};

use crate::{problem::Problem, resources::content_format};

/// The longest body of a response in bytes.
pub(crate) const BODY_LEN: usize = 768;

/// A response that is being put together. One is kept for all of them, since it is large.
pub struct Answer {
    code: u8,
    content_format: Option<u16>,
    body: [u8; BODY_LEN],
    len: usize,
    size_1: Option<u16>,
    max_age: Option<u16>,
    block_1: Option<Block>,
    echo: Option<[u8; 8]>,
}

impl Answer {
    /// 2.04 without a body.
    pub const fn new() -> Self {
        Answer {
            code: code::CHANGED,
            content_format: None,
            body: [0; BODY_LEN],
            len: 0,
            size_1: None,
            max_age: None,
            block_1: None,
            echo: None,
        }
    }

    /// Starts over with `code` and no body.
    pub fn set(&mut self, code: u8) {
        self.code = code;
        self.content_format = None;
        self.len = 0;
        self.size_1 = None;
        self.max_age = None;
        self.block_1 = None;
        self.echo = None;
    }

    /// Leaves the code alone: what a request that is short may be answered, whoever sent it.
    pub fn strip(&mut self) {
        self.set(self.code);
    }

    /// Whether it is a 2.xx.
    pub fn is_success(&self) -> bool {
        self.code >> 5 == 2
    }

    /// Adds the Echo option that is to be sent back.
    pub fn set_echo(&mut self, echo: [u8; 8]) {
        self.echo = Some(echo);
    }

    /// Sets the code, with a body that `write` puts into the buffer it is given, returning the length.
    ///
    /// # Errors
    /// Those of `write`, as 5.00: our own bodies fit.
    pub fn set_body<E>(
        &mut self,
        code: u8,
        content_format: u16,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), Problem> {
        self.set(code);
        self.len = write(&mut self.body).map_err(|_| Problem::DOES_NOT_FIT)?;
        self.content_format = Some(content_format);
        Ok(())
    }

    /// Sets what `write` returns: a code, and how long the body is that it put into the buffer it was given. Without a body
    /// there is no content format either.
    pub fn set_written(&mut self, content_format: u16, write: impl FnOnce(&mut [u8]) -> (u8, usize)) {
        let (code, len) = write(&mut self.body);
        self.set(code);
        self.len = len;
        self.content_format = (len > 0).then_some(content_format);
    }

    /// A refusal, with its problem details.
    pub fn set_problem(&mut self, problem: &Problem) {
        self.set(problem.code());
        self.size_1 = problem.size_1();
        self.max_age = problem.max_age();
        // Without room for the details the code alone has to tell.
        if let Ok(len) = problem.encode(&mut self.body) {
            self.len = len;
            self.content_format = Some(content_format::PROBLEM_DETAILS);
        }
    }

    /// Adds the Block1 option that a request's own one is answered with.
    pub fn set_block_1(&mut self, block: Option<Block>) {
        self.block_1 = block;
    }

    /// Writes the response; of a body longer than `largest`, the block that `requested` (or nobody) asked for.
    ///
    /// # Errors
    /// The message's own, if it has too little room. A block that is not there becomes 4.00 before that.
    pub fn write<M: MinimalWritableMessage>(
        &mut self,
        requested: Option<Block>,
        largest: BlockSize,
        message: &mut M,
    ) -> Result<(), M::UnionError> {
        let mut requested = requested.filter(|_| self.is_success() && self.len > 0);
        if BodySlice::new(self.body.get(..self.len).unwrap_or_default(), requested, largest).is_err() {
            self.set_problem(&problem!(code::BAD_REQUEST, "no such block of the response"));
            requested = None;
        }
        let body = self.body.get(..self.len).unwrap_or_default();
        let whole = BodySlice { payload: body, block: None };
        let slice = BodySlice::new(body, requested, largest).unwrap_or(whole);

        message.set_code(M::Code::new(self.code)?);
        if let Some((_, etag)) = &slice.block {
            message.add_option(M::OptionNumber::new(option::ETAG)?, etag)?;
        }
        if let Some(content_format) = self.content_format {
            message.add_option_uint(M::OptionNumber::new(option::CONTENT_FORMAT)?, content_format)?;
        }
        if let Some(max_age) = self.max_age {
            message.add_option_uint(M::OptionNumber::new(option::MAX_AGE)?, max_age)?;
        }
        if let Some((block, _)) = slice.block {
            message.add_option_uint(M::OptionNumber::new(option::BLOCK2)?, block.encode())?;
        }
        if let Some(block) = self.block_1 {
            message.add_option_uint(M::OptionNumber::new(option::BLOCK1)?, block.encode())?;
        }
        if let Some(size) = self.size_1 {
            message.add_option_uint(M::OptionNumber::new(option::SIZE1)?, size)?;
        }
        if let Some(echo) = self.echo {
            message.add_option(M::OptionNumber::new(option::ECHO)?, &echo)?;
        }
        if !slice.payload.is_empty() {
            message.set_payload(slice.payload)?;
        }
        Ok(())
    }
}

impl Default for Answer {
    fn default() -> Self {
        Answer::new()
    }
}

#[cfg(test)]
mod tests {
    use coap_message::{MessageOption, ReadableMessage};
    use protocol::coap::{Datagram, Header, Token, Type, Writer};

    use super::*;
    use crate::Said;

    type Written = (u8, Vec<(u16, Vec<u8>)>, Vec<u8>);

    /// Code, options and payload of the message that `answer` writes.
    fn written(answer: &mut Answer, requested: Option<Block>) -> Written {
        let mut buffer = [0; 2048];
        let header = Header { type_: Type::Ack, code: 0, message_id: 1, token: Token::EMPTY };
        let mut writer = Writer::new(&mut buffer, &header).unwrap();
        let mut message = writer.message();
        answer.write(requested, BlockSize::MAX, &mut message).unwrap();
        let len = message.finish().0;
        let len = writer.finish(len).unwrap();
        let datagram = Datagram::parse(&buffer[..len]).unwrap();
        let message = datagram.message();
        let options = message.options().map(|option| (option.number(), option.value().to_vec())).collect();
        (message.code(), options, message.payload().to_vec())
    }

    fn block(number: u32, size: usize) -> Option<Block> {
        Block::new(number, false, BlockSize::fitting(size).unwrap())
    }

    fn with_body(len: usize) -> Answer {
        let mut answer = Answer::new();
        answer
            .set_body(code::CONTENT, 60, |out| {
                out[..len].fill(b'x');
                Ok::<_, ()>(len)
            })
            .unwrap();
        answer
    }

    #[test]
    fn a_short_body_goes_whole() {
        assert_eq!(written(&mut with_body(3), None), (code::CONTENT, vec![(12, vec![60])], b"xxx".to_vec()));
        assert_eq!(written(&mut Answer::new(), None), (code::CHANGED, vec![], vec![]));
    }

    #[test]
    fn a_block_is_cut_out_of_the_body() {
        let (code, options, payload) = written(&mut with_body(40), block(2, 16));
        assert_eq!((code, payload.len()), (code::CONTENT, 8));
        assert_eq!(options.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [4, 12, 23]);
        assert_eq!(options[2].1, [0x20]);
        let (code, options, _) = written(&mut with_body(40), block(3, 16));
        assert_eq!((code, &options[..]), (code::BAD_REQUEST, &[(12, vec![1, 1])][..]));
    }

    #[test]
    fn what_has_no_body_and_what_is_refused_is_never_cut() {
        assert_eq!(written(&mut Answer::new(), block(7, 16)).0, code::CHANGED);
        let mut answer = with_body(40);
        answer.set_problem(&Problem::UNAUTHORIZED);
        let (code, options, _) = written(&mut answer, block(1, 16));
        assert_eq!((code, options), (code::UNAUTHORIZED, vec![(12, vec![1, 1])]));
    }

    #[test]
    fn a_problem_takes_nothing_over_from_the_answer_before() {
        let mut answer = with_body(40);
        answer.set_block_1(block(1, 16));
        const BUSY: &Said = &Said::new(0x9d, "too many").with_max_age();
        answer.set_problem(&Problem::with_number(BUSY, 1));
        let (code, options, _) = written(&mut answer, None);
        assert_eq!((code, options), (0x9d, vec![(12, vec![1, 1]), (14, vec![1])]));
        const TOO_LARGE: &Said = &Said::new(0x8d, "too large").with_size_1();
        answer.set_problem(&Problem::with_number(TOO_LARGE, 640));
        let (code, options, payload) = written(&mut answer, None);
        assert_eq!((code, options), (0x8d, vec![(12, vec![1, 1]), (60, vec![2, 128])]));
        assert_eq!(cbor_schemas::ProblemDetails::decode(&payload).unwrap().title, Some("too large"));
        answer.set(code::CHANGED);
        assert_eq!(written(&mut answer, None), (code::CHANGED, vec![], vec![]));
    }

    #[test]
    fn a_body_that_does_not_fit_is_our_own_fault() {
        let set = Answer::new().set_body(code::CONTENT, 60, |_| Err(()));
        assert_eq!(set.unwrap_err().code(), code::INTERNAL_SERVER_ERROR);
    }
}
