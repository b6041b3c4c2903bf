use coap_message::{MessageOption, ReadableMessage};
use coap_numbers::{option, oscore_flag};
use heapless::Vec;

use crate::coap::{ShortBytes, is_for_proxies, is_option_length};

use super::Error;

/// A Sender ID or Recipient ID, the kid of a message: 0..=7 bytes (RFC 8613, section 3.3).
pub type Id = ShortBytes<7>;

/// An ID Context, the kid context of a message: 0..=8 bytes here; the RFC sets no limit.
pub type IdContext = ShortBytes<8>;

/// The Partial IV of a message: a sequence number of 40 bits, without leading zeros (RFC 8613, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialIv(ShortBytes<5>);

impl PartialIv {
    /// The largest sequence number, 2^40 - 1.
    pub const MAX: u64 = (1 << 40) - 1;

    /// `None` if the sequence number is larger than [`Self::MAX`].
    pub fn new(sequence: u64) -> Option<Self> {
        let bytes = sequence.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        ShortBytes::new(bytes.get(zeros.min(7)..)?).map(Self) // zero is one byte, not none
    }

    /// From the bytes in a message, 1..=5.
    fn decode(bytes: &[u8]) -> Option<Self> {
        if matches!(bytes, [] | [0, _, ..]) {
            return None;
        }
        ShortBytes::new(bytes).map(Self)
    }

    /// The sequence number.
    pub fn sequence(&self) -> u64 {
        self.as_slice().iter().fold(0, |sequence, byte| sequence << 8 | u64::from(*byte))
    }

    /// The bytes in a message, 1..=5.
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// Value of the OSCORE option: the compressed COSE object without its ciphertext (RFC 8613, section 6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptionValue {
    /// Always in a request; in a response if it has a nonce of its own.
    pub partial_iv: Option<PartialIv>,
    /// The sender's ID; always in a request.
    pub kid: Option<Id>,
    /// The ID Context, if the sender thinks that the receiver needs it.
    pub kid_context: Option<IdContext>,
}

impl OptionValue {
    /// Of a received message, which must have exactly one OSCORE option.
    ///
    /// # Errors
    /// - [`Error::NotProtected`] without an OSCORE option
    /// - [`Error::Proxy`] if it has outer options for a proxy
    /// - [`Error::BadOption`] if it is malformed or there are several, if the message itself is malformed, if it has outer
    ///   options for block-wise transfer, or one that stays outside and is longer or shorter than it may be
    /// - [`Error::ContextNotFound`] if an ID is longer than any of ours
    pub fn of(outer: &impl ReadableMessage) -> Result<Self, Error> {
        for option in outer.options() {
            let number = option.number();
            if is_for_proxies(number) {
                return Err(Error::Proxy);
            }
            if is_refused_outside(number) || stays_outside(number) && !is_option_length(number, option.value().len()) {
                return Err(Error::BadOption);
            }
        }
        let mut options = outer.options().filter(|option| option.number() == option::OSCORE);
        let value = Self::decode(options.next().ok_or(Error::NotProtected)?.value())?;
        if options.next().is_some() {
            return Err(Error::BadOption);
        }
        Ok(value)
    }

    /// From the option's bytes.
    ///
    /// # Errors
    /// [`Error::BadOption`] or [`Error::ContextNotFound`] as above.
    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        let Some((&flags, rest)) = value.split_first() else { return Ok(Self::default()) };
        let known = oscore_flag::PARTIAL_IV | oscore_flag::KID_FLAG | oscore_flag::KID_CONTEXT_FLAG;
        if flags == 0 || flags & !known != 0 {
            return Err(Error::BadOption); // an all-zero flag byte is left out
        }
        let mut this = Self::default();

        let length = usize::from(flags & oscore_flag::PARTIAL_IV);
        let (partial_iv, mut rest) = rest.split_at_checked(length).ok_or(Error::BadOption)?;
        if length > 0 {
            this.partial_iv = Some(PartialIv::decode(partial_iv).ok_or(Error::BadOption)?);
        }
        if flags & oscore_flag::KID_CONTEXT_FLAG != 0 {
            let (&length, behind) = rest.split_first().ok_or(Error::BadOption)?;
            let (kid_context, behind) = behind.split_at_checked(length.into()).ok_or(Error::BadOption)?;
            this.kid_context = Some(IdContext::new(kid_context).ok_or(Error::ContextNotFound)?);
            rest = behind;
        }
        if flags & oscore_flag::KID_FLAG != 0 {
            this.kid = Some(Id::new(rest).ok_or(Error::ContextNotFound)?);
        } else if !rest.is_empty() {
            return Err(Error::BadOption);
        }
        Ok(this)
    }

    /// The option's bytes: nothing if nothing is set.
    pub fn encode(&self) -> Vec<u8, 22> {
        let mut value = Vec::new();
        // Cannot fail: 22 bytes hold the largest of each.
        let mut put = |bytes: &[u8]| {
            let _ = value.extend_from_slice(bytes);
        };
        let partial_iv = self.partial_iv.as_ref().map_or(&[][..], PartialIv::as_slice);
        let mut flags = partial_iv.len() as u8;
        flags |= if self.kid.is_some() { oscore_flag::KID_FLAG } else { 0 };
        flags |= if self.kid_context.is_some() { oscore_flag::KID_CONTEXT_FLAG } else { 0 };
        if flags != 0 {
            put(&[flags]);
        }
        put(partial_iv);
        if let Some(kid_context) = &self.kid_context {
            put(&[kid_context.len() as u8]);
            put(kid_context.as_slice());
        }
        if let Some(kid) = &self.kid {
            put(kid.as_slice());
        }
        value
    }
}

/// Options that a sender leaves outside (RFC 8613, figure 5; RFC 9668, section 3.1).
pub(super) fn stays_outside(number: u16) -> bool {
    matches!(number, option::URI_HOST | option::URI_PORT | option::HOP_LIMIT | option::PROXY_SCHEME)
}

/// Options that make no sense, or are not supported, in a message to be protected.
pub(super) fn is_refused_inside(number: u16) -> bool {
    matches!(number, option::OSCORE | option::EDHOC | option::PROXY_URI | MALFORMED)
}

/// Outer options that a receiver would have to act on, but does not.
fn is_refused_outside(number: u16) -> bool {
    use option::{BLOCK1, BLOCK2, Q_BLOCK1, Q_BLOCK2};
    matches!(number, BLOCK1 | BLOCK2 | Q_BLOCK1 | Q_BLOCK2 | MALFORMED)
}

/// What in-memory messages show in place of an option that cannot be parsed.
const MALFORMED: u16 = coap_message_implementations::inmemory::OPTION_INVALID;
