//! Bodies larger than a datagram, from the client's side (RFC 7959, with the Request-Tag of RFC 9175): one body at a time,
//! blocks in order.

use coap_message::{MessageOption, ReadableMessage};
use coap_numbers::{
    code::{self, Class, Range, classify},
    option,
};
use heapless::Vec;

use crate::coap::{Block, BlockSize, is_option_length};

/// Why a body does not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// The server does not keep to the protocol.
    Malformed(&'static str),
    /// The resource changed between two of its blocks.
    Changed,
    /// A body has no room.
    TooLarge,
}

/// A body that is sent, and the one that comes back.
pub(super) struct Transfer {
    tag: [u8; 4],
    /// The longest payload that goes without blocks: then the server needs no memory for what came before.
    whole: usize,
    size: BlockSize,
    sent: usize,
    received: Option<Received>,
}

/// What was received of a body.
struct Received {
    code: u8,
    etag: Option<Vec<u8, 8>>,
    len: usize,
    size: BlockSize,
}

/// What one message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'p> {
    /// A part of the request's body, or all of it.
    pub(super) payload: &'p [u8],
    block_1: Option<Block>,
    block_2: Option<Block>,
    tag: [u8; 4],
}

impl<'p> Piece<'p> {
    /// A whole body.
    pub(super) const fn whole(payload: &'p [u8]) -> Self {
        Self { payload, block_1: None, block_2: None, tag: [0; 4] }
    }

    /// Whether this is a request for a later block of the response.
    pub(super) fn is_later(&self) -> bool {
        self.block_2.is_some()
    }

    /// The options Block2 and Block1, as far as there are such.
    pub(super) fn blocks(&self) -> [(u16, Option<u32>); 2] {
        [(option::BLOCK2, self.block_2), (option::BLOCK1, self.block_1)]
            .map(|(it, block)| (it, block.map(Block::encode)))
    }

    /// The Request-Tag, if the body goes in blocks.
    pub(super) fn request_tag(&self) -> Option<&[u8; 4]> {
        self.block_1.is_some().then_some(&self.tag)
    }
}

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Another message is to be sent.
    Next,
    /// The response is whole; its body has so many bytes.
    Done(usize),
}

impl Transfer {
    /// Begins with the request's body. `room` is the longest payload that fits a message, in bytes; `tag` tells the body from
    /// others.
    pub(super) fn new(room: usize, tag: [u8; 4]) -> Self {
        let whole = room.min(BlockSize::MAX.bytes().into());
        Self { tag, whole, size: BlockSize::fitting(whole).unwrap_or(BlockSize::MIN), sent: 0, received: None }
    }

    /// What the next message carries, of the whole `body` of the request.
    ///
    /// # Errors
    /// [`Error::TooLarge`]
    pub(super) fn piece<'p>(&self, body: &'p [u8]) -> Result<Piece<'p>, Error> {
        if let Some(received) = &self.received {
            let block_2 = Some(block_at(received.len, false, received.size)?);
            return Ok(Piece { payload: &[], block_1: None, block_2, tag: self.tag });
        }
        let rest = body.get(self.sent..).unwrap_or_default();
        let payload =
            if rest.len() <= self.whole { rest } else { rest.get(..self.size.bytes().into()).unwrap_or(rest) };
        let block = block_at(self.sent, payload.len() < rest.len(), self.size)?;
        let block_1 = (block.more || self.sent > 0).then_some(block);
        Ok(Piece { payload, block_1, block_2: None, tag: self.tag })
    }

    /// Takes the answer to `piece`. What it has of the response's body is added to `received`.
    ///
    /// # Errors
    /// [`Error`]
    pub(super) fn take(
        &mut self,
        piece: &Piece<'_>,
        answer: &impl ReadableMessage,
        received: &mut [u8],
    ) -> Result<Progress, Error> {
        match piece.block_2 {
            None => self.take_of_request(piece, answer, received),
            Some(wanted) => self.take_later(wanted, answer, received),
        }
    }

    fn take_of_request(
        &mut self,
        piece: &Piece<'_>,
        answer: &impl ReadableMessage,
        received: &mut [u8],
    ) -> Result<Progress, Error> {
        let (code, more) = (answer.code().into(), piece.block_1.is_some_and(|block| block.more));
        let number = piece.block_1.map_or(0, Block::number);
        match (code, block_option(answer, option::BLOCK1)?) {
            (code::CONTINUE, Some(taken)) if more && taken.number() == number && taken.size <= self.size => {
                self.sent = self.sent.saturating_add(piece.payload.len());
                (self.size, self.whole) = (taken.size, 0);
                Ok(Progress::Next)
            }
            (code::CONTINUE, _) => Err(Error::Malformed("2.31 Continue that does not fit the block sent")),
            // Nothing is accepted yet: begin again with the smaller blocks that the server asks for.
            (code::REQUEST_ENTITY_TOO_LARGE, Some(wanted))
                if self.sent == 0 && usize::from(wanted.size.bytes()) < piece.payload.len() =>
            {
                (self.size, self.whole) = (wanted.size, 0);
                Ok(Progress::Next)
            }
            (code, _) if is_success(code) && more => Err(Error::Malformed("success before the whole body was sent")),
            _ => self.take_first(answer, received),
        }
    }

    /// The first message of the response.
    fn take_first(&mut self, answer: &impl ReadableMessage, received: &mut [u8]) -> Result<Progress, Error> {
        let len = append(received, 0, answer.payload())?;
        let Some(block) = block_option(answer, option::BLOCK2)? else { return Ok(Progress::Done(len)) };
        check_next(block, 0, len)?;
        if !block.more {
            return Ok(Progress::Done(len));
        }
        self.received = Some(Received { code: answer.code().into(), etag: etag(answer), len, size: block.size });
        Ok(Progress::Next)
    }

    fn take_later(&mut self, wanted: Block, answer: &impl ReadableMessage, body: &mut [u8]) -> Result<Progress, Error> {
        let code = answer.code().into();
        if !is_success(code) {
            return append(body, 0, answer.payload()).map(Progress::Done);
        }
        let received = self.received.as_mut().ok_or(Error::Malformed("a block that is not the next one"))?;
        let block =
            block_option(answer, option::BLOCK2)?.ok_or(Error::Malformed("a block without its Block2 option"))?;
        check_next(block, received.len, answer.payload().len())?;
        if block.size > wanted.size {
            return Err(Error::Malformed("a block larger than those before"));
        }
        if (code, etag(answer)) != (received.code, received.etag.clone()) {
            return Err(Error::Changed);
        }
        received.len = append(body, received.len, answer.payload())?;
        received.size = block.size;
        Ok(if block.more { Progress::Next } else { Progress::Done(received.len) })
    }
}

/// The value of an option that may occur only once, if it has a length that it may have (RFC 7252 section 5.4.3).
fn etag(answer: &impl ReadableMessage) -> Option<Vec<u8, 8>> {
    let mut found = answer.options().filter(|option| option.number() == option::ETAG);
    let value = found.next()?;
    let is_good = found.next().is_none() && is_option_length(option::ETAG, value.value().len());
    Vec::from_slice(value.value()).ok().filter(|_| is_good)
}

fn is_success(code: u8) -> bool {
    matches!(classify(code), Range::Response(Class::Success))
}

fn append(body: &mut [u8], at: usize, payload: &[u8]) -> Result<usize, Error> {
    let end = at.saturating_add(payload.len());
    body.get_mut(at..end).ok_or(Error::TooLarge)?.copy_from_slice(payload);
    Ok(end)
}

fn block_at(offset: usize, more: bool, size: BlockSize) -> Result<Block, Error> {
    let number = offset.checked_div(size.bytes().into()).and_then(|number| u32::try_from(number).ok());
    number.and_then(|number| Block::new(number, more, size)).ok_or(Error::TooLarge)
}

fn block_option(message: &impl ReadableMessage, number: u16) -> Result<Option<Block>, Error> {
    Block::of(message, number).map_err(|_| Error::Malformed("a block option that cannot be read"))
}

/// Succeeds if the block continues a body at `offset`, and is full if others follow.
fn check_next(block: Block, offset: usize, payload: usize) -> Result<(), Error> {
    let size = usize::from(block.size.bytes());
    let fits = if block.more { payload == size } else { payload <= size };
    match usize::try_from(block.start()) == Ok(offset) && fits {
        true => Ok(()),
        false => Err(Error::Malformed("a block that is not the next one")),
    }
}
