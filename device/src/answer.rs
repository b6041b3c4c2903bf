//! A response before it is a message: its code, its body, and the options that go with it.

use coap_message::{Code, MinimalWritableMessage, OptionNumber};
use coap_numbers::{code, option};
use protocol::coap::{Block, BlockSize, BodySlice};

use crate::{problem::Problem, resources::content_format};

/// The longest body of a response in bytes.
pub const BODY_LEN: usize = 768;

/// A response that is being put together. One is kept for all of them, since it is large.
pub struct Answer {
    code: u8,
    content_format: Option<u16>,
    body: [u8; BODY_LEN],
    len: usize,
    size_1: Option<u16>,
    max_age: Option<u8>,
    block_1: Option<Block>,
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
    }

    /// ... with a body that `write` puts into the buffer it is given, returning the length.
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
        self.len = write(&mut self.body)
            .map_err(|_| Problem::new(code::INTERNAL_SERVER_ERROR, "the answer does not fit"))?;
        self.content_format = Some(content_format);
        Ok(())
    }

    /// A refusal, with its problem details.
    pub fn set_problem(&mut self, problem: &Problem) {
        self.set(problem.code);
        self.size_1 = problem.size_1;
        self.max_age = problem.max_age;
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

    /// Whether the body may be of `content_format`, which a request's Accept option asks for.
    pub fn is_acceptable(&self, content_format: u16) -> bool {
        self.code >> 5 != 2 || self.content_format.is_none_or(|own| own == content_format)
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
        let mut requested = requested.filter(|_| self.code >> 5 == 2 && self.len > 0);
        if let Err(error) = BodySlice::new(self.body.get(..self.len).unwrap_or_default(), requested, largest) {
            self.set_problem(&Problem::new(error.code(), "no such block of the response"));
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
