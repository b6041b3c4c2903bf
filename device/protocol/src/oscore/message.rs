use coap_message::{Code, MessageOption, MinimalWritableMessage, OptionNumber, ReadableMessage, WithSortedOptions};
use coap_message_implementations::inmemory::MessageMut;
use coap_numbers::{code, option};
use minicbor::Decoder;

use super::option::{Id, OptionValue, is_refused_inside, stays_outside};
use super::{Context, Correlation, Error, Inner};

/// The kid of a protected request: the Recipient ID of the context that it needs.
///
/// # Errors
/// As [`OptionValue::of`]; [`Error::BadOption`] if there is no kid.
pub fn request_kid(outer: &impl ReadableMessage) -> Result<Id, Error> {
    OptionValue::of(outer)?.kid.ok_or(Error::BadOption)
}

/// Splits the payload of a request with the EDHOC option (RFC 9668, section 3.2) into EDHOC message_3, a CBOR byte
/// string with its head, and the OSCORE ciphertext. `None` if it is not that: 4.00 Bad Request.
pub fn split_combined(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    payload.split_at_checked(message_3_length(payload)?)
}

/// The same for a payload whose ciphertext will be decrypted where it lies.
pub fn split_combined_mut(payload: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    payload.split_at_mut_checked(message_3_length(payload)?)
}

/// From message to message. In all of these, `scratch` and `buf` hold the plaintext: the code, the encoded options, a
/// byte, the payload, and while it is encrypted [`TAG_LENGTH`](super::TAG_LENGTH) bytes more.
impl Context {
    /// Protects a request (RFC 8613, section 8.1). `outer` is without code, options and payload; it is spoilt if this
    /// fails.
    ///
    /// # Errors
    /// - [`Error::NoSpace`] in `scratch` or in `outer`
    /// - [`Error::Unsupported`] if `inner` is malformed, or has an OSCORE, EDHOC or Proxy-Uri option
    /// - [`Error::Exhausted`] after 2^40 messages
    ///
    /// An Observe option goes inside and outside, with FETCH as the outer code (sections 4.1.3.5 and 4.2).
    pub fn protect_request<I, O>(&mut self, inner: &I, outer: &mut O, scratch: &mut [u8]) -> Result<Correlation, Error>
    where
        I: ReadableMessage + WithSortedOptions,
        O: MinimalWritableMessage,
    {
        let length = write_plaintext(inner, scratch)?;
        let (option, correlation) = self.next_request()?;
        let sealed = self.seal_request(&correlation, scratch, length)?;
        let payload = scratch.get(..sealed).ok_or(Error::NoSpace)?;
        let code = if observes(inner) { code::FETCH } else { code::POST };
        write_outer(code, inner, &[(option::OSCORE, &option.encode())], payload, outer)?;
        Ok(correlation)
    }

    /// Protects the first request after an EDHOC handshake and lets it carry message_3, a CBOR byte string
    /// (RFC 9668, section 3.2). `scratch` holds message_3 besides the plaintext.
    ///
    /// # Errors
    /// As [`Self::protect_request`].
    pub fn protect_combined_request<I, O>(
        &mut self,
        message_3: &[u8],
        inner: &I,
        outer: &mut O,
        scratch: &mut [u8],
    ) -> Result<Correlation, Error>
    where
        I: ReadableMessage + WithSortedOptions,
        O: MinimalWritableMessage,
    {
        let (first, ciphertext) = scratch.split_at_mut_checked(message_3.len()).ok_or(Error::NoSpace)?;
        first.copy_from_slice(message_3);
        let length = write_plaintext(inner, ciphertext)?;
        let (option, correlation) = self.next_request()?;
        let sealed = self.seal_request(&correlation, ciphertext, length)?;
        let payload = message_3.len().checked_add(sealed).and_then(|end| scratch.get(..end)).ok_or(Error::NoSpace)?;
        let own = [(option::OSCORE, &option.encode()[..]), (option::EDHOC, &[])];
        let code = if observes(inner) { code::FETCH } else { code::POST };
        write_outer(code, inner, &own, payload, outer)?;
        Ok(correlation)
    }

    /// Verifies and decrypts a request into `buf` (RFC 8613, section 8.2).
    ///
    /// # Errors
    /// Those of [`OptionValue::of`] and [`Self::open_request`]; [`Error::NoSpace`] in `buf`.
    pub fn unprotect_request<'b, I: ReadableMessage>(
        &mut self,
        outer: &I,
        buf: &'b mut [u8],
    ) -> Result<(Inner<'b>, Correlation), Error> {
        self.unprotect_request_payload(outer, outer.payload(), buf)
    }

    /// The same for a request whose ciphertext is only a part of its payload: see [`split_combined`].
    ///
    /// # Errors
    /// As [`Self::unprotect_request`].
    pub fn unprotect_request_payload<'b, I: ReadableMessage>(
        &mut self,
        outer: &I,
        ciphertext: &[u8],
        buf: &'b mut [u8],
    ) -> Result<(Inner<'b>, Correlation), Error> {
        self.open_request(&OptionValue::of(outer)?, copy(ciphertext, buf)?)
    }

    /// Protects a response (RFC 8613, section 8.3). `outer` is without code, options and payload; it is spoilt if this
    /// fails.
    ///
    /// # Errors
    /// As [`Self::protect_request`]; [`Error::ContextNotFound`] if the request was another context's.
    ///
    /// An Observe option makes it a notification (sections 4.1.3.5.2 and 4.2): outside it keeps its value, inside it has
    /// none, and 2.05 is the outer code. The second response to a request and those after it get a Partial IV of their
    /// own, by which the peer tells their order.
    pub fn protect_response<I, O>(
        &mut self,
        inner: &I,
        outer: &mut O,
        scratch: &mut [u8],
        correlation: &Correlation,
    ) -> Result<(), Error>
    where
        I: ReadableMessage + WithSortedOptions,
        O: MinimalWritableMessage,
    {
        let length = write_plaintext(inner, scratch)?;
        let (option, nonce) = self.next_response(correlation)?;
        let sealed = self.seal(&nonce, correlation, scratch, length)?;
        let payload = scratch.get(..sealed).ok_or(Error::NoSpace)?;
        let code = if observes(inner) { code::CONTENT } else { code::CHANGED };
        write_outer(code, inner, &[(option::OSCORE, &option.encode())], payload, outer)
    }

    /// Verifies and decrypts the response to a request into `buf` (RFC 8613, section 8.4).
    ///
    /// # Errors
    /// Those of [`OptionValue::of`] and [`Self::open_response`]; [`Error::NoSpace`] in `buf`. In particular
    /// [`Error::NotProtected`] if the server could not or would not protect it: then its code says why, but nobody
    /// vouches for that.
    pub fn unprotect_response<'b, I: ReadableMessage>(
        &self,
        outer: &I,
        buf: &'b mut [u8],
        correlation: &Correlation,
    ) -> Result<Inner<'b>, Error> {
        self.open_response(&OptionValue::of(outer)?, copy(outer.payload(), buf)?, correlation)
    }
}

fn message_3_length(payload: &[u8]) -> Option<usize> {
    let mut decoder = Decoder::new(payload);
    decoder.bytes().ok()?;
    Some(decoder.position())
}

/// Writes the inner code, options and payload (RFC 8613, section 5.3) and returns their length.
fn write_plaintext<I>(inner: &I, buffer: &mut [u8]) -> Result<usize, Error>
where
    I: ReadableMessage + WithSortedOptions,
{
    let (code, tail) = buffer.split_first_mut().ok_or(Error::NoSpace)?;
    let mut plaintext = MessageMut::new_in_slice(code, tail);
    plaintext.set_code(inner.code().into());
    let is_response = matches!(code::classify(inner.code().into()), code::Range::Response(_));
    for option in inner.options() {
        if is_refused_inside(option.number()) {
            return Err(Error::Unsupported);
        }
        if option.number() == option::OBSERVE && is_response {
            add_option(&mut plaintext, option::OBSERVE, &[])?;
        } else if !stays_outside(option.number()) {
            add_option(&mut plaintext, option.number(), option.value())?;
        }
    }
    plaintext.set_payload(inner.payload()).map_err(|_| Error::NoSpace)?;
    plaintext.finish().0.checked_add(1).ok_or(Error::NoSpace)
}

/// Writes the outer message: `own` options, sorted, are merged with those of `inner` that stay outside, because not
/// every kind of message sorts them itself.
fn write_outer<I, O>(code: u8, inner: &I, own: &[(u16, &[u8])], payload: &[u8], outer: &mut O) -> Result<(), Error>
where
    I: ReadableMessage + WithSortedOptions,
    O: MinimalWritableMessage,
{
    outer.set_code(O::Code::new(code).map_err(|_| Error::Unsupported)?);
    let mut own = own.iter().copied().peekable();
    for option in inner.options().filter(|option| stays_outside(option.number()) || option.number() == option::OBSERVE)
    {
        while let Some((number, value)) = own.next_if(|(number, _)| *number < option.number()) {
            add_option(outer, number, value)?;
        }
        add_option(outer, option.number(), option.value())?;
    }
    for (number, value) in own {
        add_option(outer, number, value)?;
    }
    outer.set_payload(payload).map_err(|_| Error::NoSpace)
}

fn observes(inner: &impl ReadableMessage) -> bool {
    inner.options().any(|option| option.number() == option::OBSERVE)
}

fn add_option<M: MinimalWritableMessage>(message: &mut M, number: u16, value: &[u8]) -> Result<(), Error> {
    // In-memory messages would encode a longer one wrongly.
    u16::try_from(value.len()).map_err(|_| Error::Unsupported)?;
    let number = M::OptionNumber::new(number).map_err(|_| Error::Unsupported)?;
    message.add_option(number, value).map_err(|_| Error::NoSpace)
}

fn copy<'b>(from: &[u8], to: &'b mut [u8]) -> Result<&'b mut [u8], Error> {
    let to = to.get_mut(..from.len()).ok_or(Error::NoSpace)?;
    to.copy_from_slice(from);
    Ok(to)
}
