use coap_message::{MessageOption, ReadableMessage};
use coap_numbers::option;
use heapless::Vec;
use zeroize::Zeroize;

use super::{Block, BlockError, BlockSize};

/// Gathers the body of a request from its Block1 blocks (RFC 7959, section 2.5), in order, one body at a time.
///
/// `K` is whatever tells bodies apart besides the Request-Tag (RFC 9175, section 3): the session and the resource at
/// least. A body takes up to `N` bytes of memory; they are wiped when the next body begins, by [`Self::clear`], and
/// when this is dropped.
///
/// Any block 0 takes the place of a body that is being gathered. So first check that the sender may write at all.
pub struct Assembly<K, const N: usize> {
    gathering: Option<(K, RequestTags)>,
    body: Vec<u8, N>,
}

/// What a request with or without Block1 amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assembled<'a> {
    /// A block was taken, more are to come: answer 2.31 Continue with this Block1 option.
    Continue(Block),
    /// This is the whole body: serve the request.
    Complete {
        /// The body: all blocks, or just the payload of a request without Block1.
        body: &'a [u8],
        /// The Block1 option for the response, if the request had one.
        block: Option<Block>,
    },
}

impl<K: Copy + Eq, const N: usize> Assembly<K, N> {
    /// Gathers nothing yet.
    pub const fn new() -> Self {
        Self { gathering: None, body: Vec::new() }
    }

    /// Takes a request's payload. The body may have up to `limit` bytes, and in blocks up to `N` if that is less; later
    /// blocks than the first are asked for in at most the `preferred` size.
    ///
    /// A request without Block1 is complete as it is, and disturbs no body that is being gathered.
    ///
    /// # Errors
    /// [`BlockError`]; its code is the answer. A body that is too large is given up, any other error leaves the body
    /// that is being gathered as it was.
    pub fn receive<'a, M: ReadableMessage>(
        &'a mut self,
        key: K,
        request: &'a M,
        limit: usize,
        preferred: BlockSize,
    ) -> Result<Assembled<'a>, BlockError> {
        let payload = request.payload();
        let Some(mut block) = Block::of(request, option::BLOCK1)? else {
            if payload.len() > limit {
                return Err(too_large(limit));
            }
            return Ok(Assembled::Complete { body: payload, block: None });
        };
        let size = usize::from(block.size.bytes());
        if payload.len() > size || block.more && payload.len() < size {
            return Err(BlockError::WrongLength);
        }
        let this = (key, request_tags(request)?);
        if block.number() == 0 {
            self.clear();
            self.gathering = Some(this);
            if block.more {
                block.size = block.size.min(preferred);
            }
        } else if self.gathering != Some(this) || usize::try_from(block.start()) != Ok(self.body.len()) {
            return Err(BlockError::OutOfOrder);
        }
        self.append(payload, announced_size(request), limit.min(N))?;
        if block.more {
            return Ok(Assembled::Continue(block));
        }
        self.gathering = None;
        Ok(Assembled::Complete { body: &self.body, block: Some(block) })
    }

    /// Wipes the body, be it complete or not.
    pub fn clear(&mut self) {
        self.gathering = None;
        self.body.as_mut_slice().zeroize();
        self.body.clear();
    }

    fn append(&mut self, payload: &[u8], announced: usize, limit: usize) -> Result<(), BlockError> {
        let length = self.body.len().saturating_add(payload.len());
        if length.max(announced) > limit || self.body.extend_from_slice(payload).is_err() {
            self.clear();
            return Err(too_large(limit));
        }
        Ok(())
    }
}

impl<K: Copy + Eq, const N: usize> Default for Assembly<K, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, const N: usize> Drop for Assembly<K, N> {
    fn drop(&mut self) {
        self.body.as_mut_slice().zeroize();
    }
}

fn too_large(limit: usize) -> BlockError {
    BlockError::TooLarge { limit: u32::try_from(limit).unwrap_or(u32::MAX) }
}

/// The Request-Tag options of a request, each of 0..=8 bytes and preceded by its length. There may be any number of
/// them, and all count; three of the largest fit.
type RequestTags = Vec<u8, 27>;

fn request_tags(request: &impl ReadableMessage) -> Result<RequestTags, BlockError> {
    let mut tags = RequestTags::new();
    for option in request.options().filter(|option| option.number() == option::REQUEST_TAG) {
        let length = u8::try_from(option.value().len()).map_err(|_| BlockError::TooManyTags)?;
        tags.push(length).map_err(|_| BlockError::TooManyTags)?;
        tags.extend_from_slice(option.value()).map_err(|_| BlockError::TooManyTags)?;
    }
    Ok(tags)
}

/// The body's size as the sender announces it in Size1 (RFC 7959, section 4); 0 if it does not.
fn announced_size(request: &impl ReadableMessage) -> usize {
    let size =
        request.options().find(|option| option.number() == option::SIZE1).map(|option| option.value_uint::<u32>());
    match size {
        None => 0,
        Some(size) => size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX),
    }
}
