use core::fmt;

use coap_message::{MessageOption, MinimalWritableMessage, OptionNumber, ReadableMessage};
use coap_numbers::{code, option};
use sha2::{Digest, Sha256};

/// Identifies a version of a body: the first 4 bytes of its SHA-256.
pub type ETag = [u8; 4];

/// Size of a block (RFC 7959, section 2.2): a power of two of bytes, 16..=1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockSize {
    exponent: u8,
}

impl BlockSize {
    /// 16 bytes.
    pub const MIN: Self = Self { exponent: 0 };
    /// 1024 bytes.
    pub const MAX: Self = Self { exponent: 6 };

    /// From the size exponent SZX, 0..=6; 7 is reserved.
    pub fn from_exponent(szx: u8) -> Option<Self> {
        (szx <= Self::MAX.exponent).then_some(Self { exponent: szx })
    }

    /// The largest size of at most `bytes`; `None` below 16.
    pub fn fitting(bytes: usize) -> Option<Self> {
        (0..=Self::MAX.exponent).rev().map(|exponent| Self { exponent }).find(|size| usize::from(size.bytes()) <= bytes)
    }

    /// The size in bytes.
    pub fn bytes(self) -> u16 {
        16_u16.wrapping_shl(self.exponent.into())
    }
}

/// Value of a Block1 or Block2 option (RFC 7959, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    number: u32,
    /// Whether more blocks follow. Without meaning in the Block2 of a request.
    pub more: bool,
    /// Size of all blocks but the last, which may be shorter.
    pub size: BlockSize,
}

impl Block {
    /// Largest block number.
    pub const MAX_NUMBER: u32 = 0xf_ffff;

    /// `None` if `number` is larger than [`Self::MAX_NUMBER`].
    pub fn new(number: u32, more: bool, size: BlockSize) -> Option<Self> {
        (number <= Self::MAX_NUMBER).then_some(Self { number, more, size })
    }

    /// The only `number` option of a message: `coap_numbers::option::BLOCK1` or `BLOCK2`.
    ///
    /// # Errors
    /// [`BlockError::BadOption`] if there are several, else as [`Self::decode`].
    pub fn of(message: &impl ReadableMessage, number: u16) -> Result<Option<Self>, BlockError> {
        let mut options = message.options().filter(|option| option.number() == number);
        let Some(option) = options.next() else { return Ok(None) };
        if options.next().is_some() {
            return Err(BlockError::BadOption);
        }
        Self::decode(option.value()).map(Some)
    }

    /// From the value of an option, 0..=3 bytes.
    ///
    /// # Errors
    /// [`BlockError::BadOption`] if it is longer, [`BlockError::ReservedSize`] if SZX is 7.
    pub fn decode(value: &[u8]) -> Result<Self, BlockError> {
        if value.len() > 3 {
            return Err(BlockError::BadOption);
        }
        let bits = value.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let size = BlockSize::from_exponent((bits & 7) as u8).ok_or(BlockError::ReservedSize)?;
        Ok(Self { number: bits >> 4, more: bits & 8 != 0, size })
    }

    /// The option's value, for `add_option_uint`.
    pub fn encode(self) -> u32 {
        self.number << 4 | u32::from(self.more) << 3 | u32::from(self.size.exponent)
    }

    /// Position of the block: 0, 1, 2, ...
    pub fn number(self) -> u32 {
        self.number
    }

    /// Number of bytes in the body before this block.
    pub fn start(self) -> u32 {
        self.number.saturating_mul(self.size.bytes().into())
    }
}

/// The part of a response's body that one message carries (RFC 7959, section 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodySlice<'b> {
    /// The payload.
    pub payload: &'b [u8],
    /// Where the payload belongs: the Block2 option and the ETag of the whole body, by which a client sees that it
    /// changed between two blocks. `None` if the payload is the whole body, and nobody asked for blocks.
    pub block: Option<(Block, ETag)>,
}

impl<'b> BodySlice<'b> {
    /// Cuts out what a request's Block2 option asks for, in blocks of at most `largest`.
    ///
    /// # Errors
    /// [`BlockError::OutOfRange`] if the block lies behind the end of the body.
    pub fn new(body: &'b [u8], requested: Option<Block>, largest: BlockSize) -> Result<Self, BlockError> {
        if requested.is_none() && body.len() <= largest.bytes().into() {
            return Ok(Self { payload: body, block: None });
        }
        let start = requested.map_or(0, Block::start);
        let size = requested.map_or(largest, |block| block.size.min(largest));
        let rest = usize::try_from(start).ok().and_then(|start| body.get(start..)).ok_or(BlockError::OutOfRange)?;
        if rest.is_empty() && start > 0 {
            return Err(BlockError::OutOfRange);
        }
        let (payload, more) = match rest.split_at_checked(size.bytes().into()) {
            Some((payload, behind)) => (payload, !behind.is_empty()),
            None => (rest, false),
        };
        let number = start.checked_div(size.bytes().into()).unwrap_or_default();
        let block = Block::new(number, more, size).ok_or(BlockError::OutOfRange)?;
        Ok(Self { payload, block: Some((block, etag(body))) })
    }

    /// Adds the options ETag, Content-Format and Block2, and the payload, to a response.
    ///
    /// # Errors
    /// The message's own, if it has too little room.
    pub fn write<M: MinimalWritableMessage>(&self, content_format: u16, message: &mut M) -> Result<(), M::UnionError> {
        if let Some((_, etag)) = &self.block {
            message.add_option(M::OptionNumber::new(option::ETAG)?, etag)?;
        }
        message.add_option_uint(M::OptionNumber::new(option::CONTENT_FORMAT)?, content_format)?;
        if let Some((block, _)) = self.block {
            message.add_option_uint(M::OptionNumber::new(option::BLOCK2)?, block.encode())?;
        }
        Ok(message.set_payload(self.payload)?)
    }
}

/// Why a block-wise transfer cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// A block option is too long, or is there twice: 4.02 Bad Option.
    BadOption,
    /// The size exponent is the reserved value 7: 4.00 Bad Request.
    ReservedSize,
    /// The payload is longer than the block's size, or shorter though more blocks follow: 4.00 Bad Request.
    WrongLength,
    /// More Request-Tag options than are supported: 4.00 Bad Request.
    TooManyTags,
    /// The block requested lies behind the end of the body: 4.00 Bad Request.
    OutOfRange,
    /// Not the next block of the body being gathered: 4.08 Request Entity Incomplete. Start over with block 0.
    OutOfOrder,
    /// The body is larger than the limit: 4.13 Request Entity Too Large.
    TooLarge {
        /// Largest acceptable body in bytes, for the Size1 option of the response.
        limit: u32,
    },
}

impl BlockError {
    /// The response code.
    pub fn code(self) -> u8 {
        match self {
            Self::BadOption => code::BAD_OPTION,
            Self::ReservedSize | Self::WrongLength | Self::TooManyTags | Self::OutOfRange => code::BAD_REQUEST,
            Self::OutOfOrder => code::REQUEST_ENTITY_INCOMPLETE,
            Self::TooLarge { .. } => code::REQUEST_ENTITY_TOO_LARGE,
        }
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadOption => f.write_str("malformed or repeated block option"),
            Self::ReservedSize => f.write_str("block size exponent 7 is reserved; use 0 to 6"),
            Self::WrongLength => f.write_str("payload does not fill its block, or does not fit into it"),
            Self::TooManyTags => f.write_str("too many Request-Tag options; use one"),
            Self::OutOfRange => f.write_str("no such block; the body is shorter"),
            Self::OutOfOrder => f.write_str("not the next block of this body; start over with block 0"),
            Self::TooLarge { limit } => write!(f, "body too large; send at most {limit} bytes"),
        }
    }
}

impl core::error::Error for BlockError {}

fn etag(body: &[u8]) -> ETag {
    let digest: [u8; 32] = Sha256::digest(body).into();
    digest.first_chunk().copied().unwrap_or_default()
}
