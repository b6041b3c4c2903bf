use coap_message::MinimalWritableMessage;
use coap_message_implementations::inmemory::{MessageMut, SliceBufferMut};
use coap_numbers::{code, option};

use crate::coap::{Header, Writer};

use super::context::Nonce;
use super::{Context, Correlation, Error, TAG_LENGTH};

/// A protected message under construction, inside the datagram that will carry it.
///
/// ```
/// # use edhoc_oscore::{coap::{Header, Token, Type}, oscore::{Context, Correlation, Error}};
/// use coap_message::MinimalWritableMessage;
///
/// # fn answer(context: &mut Context, correlation: &Correlation, header: &Header) -> Result<(), Error> {
/// let mut buffer = [0; 256];
/// let mut response = context.respond(correlation, header, &mut buffer)?;
/// let mut message = response.message()?;
/// message.set_payload(b"hello").map_err(|_| Error::NoSpace)?;
/// let length = message.finish().0;
/// let length = response.seal(context, length)?;
/// let datagram = &buffer[..length];
/// # Ok(())
/// # }
/// ```
pub struct Unsealed<'t> {
    inner_code: u8,
    /// Length of what stands before the ciphertext in the datagram.
    outer_length: usize,
    /// Code, options, payload and tag.
    plaintext: &'t mut [u8],
    nonce: Nonce,
    correlation: Correlation,
}

impl Context {
    /// Begins a response to a request that this context opened (RFC 8613, section 8.3). It will fill `buffer`:
    /// `header`, whose code is the inner one, an OSCORE option of 1..=8 bytes, and the encrypted message.
    ///
    /// # Errors
    /// - [`Error::NoSpace`] if not even an empty response fits
    /// - [`Error::ContextNotFound`] if the request was another context's
    /// - [`Error::Exhausted`] if it needs a Partial IV of its own and there are none left
    pub fn respond<'t>(
        &mut self,
        correlation: &Correlation,
        header: &Header,
        buffer: &'t mut [u8],
    ) -> Result<Unsealed<'t>, Error> {
        self.respond_as(code::CHANGED, None, correlation, header, buffer)
    }

    /// The same with another outer code than 2.04, which the response to a FETCH has (RFC 8613, section 4.2), and with an outer
    /// Observe option. The inner one, without a value (section 4.1.3.5.2), is for the caller to add.
    ///
    /// # Errors
    /// As [`Self::respond`].
    pub fn respond_as<'t>(
        &mut self,
        outer_code: u8,
        observe: Option<u32>,
        correlation: &Correlation,
        header: &Header,
        buffer: &'t mut [u8],
    ) -> Result<Unsealed<'t>, Error> {
        let mut writer = Writer::new(buffer, &Header { code: outer_code, ..*header })?;
        let (option, nonce) = self.next_response(correlation)?;
        let mut outer = writer.message();
        if let Some(sequence) = observe {
            outer.add_option_uint(option::OBSERVE, sequence).map_err(|_| Error::NoSpace)?;
        }
        outer.add_option(option::OSCORE, &option.encode()).map_err(|_| Error::NoSpace)?;
        let options_length = outer.finish().0;
        let (outer_length, plaintext) = behind_options(writer, options_length, &[])?;
        Ok(Unsealed { inner_code: header.code, outer_length, plaintext, nonce, correlation: *correlation })
    }

    /// Begins a request (RFC 8613, section 8.1), which carries `message_3` if that is not empty (RFC 9668, section 3.2). It will
    /// fill `buffer`: `header`, whose code is the inner one, the options, message_3, and the encrypted message. Returns what its
    /// response will refer to, too.
    ///
    /// With `observe`, the value of an Observe option, that stands outside, and FETCH is the outer code (RFC 8613, sections
    /// 4.1.3.5.1 and 4.2); the inner one is for the caller to add.
    ///
    /// # Errors
    /// - [`Error::NoSpace`] if not even an empty request fits
    /// - [`Error::Exhausted`] after 2^40 messages
    pub fn request<'t>(
        &mut self,
        message_3: &[u8],
        observe: Option<u32>,
        header: &Header,
        buffer: &'t mut [u8],
    ) -> Result<(Unsealed<'t>, Correlation), Error> {
        let outer_code = if observe.is_some() { code::FETCH } else { code::POST };
        let mut writer = Writer::new(buffer, &Header { code: outer_code, ..*header })?;
        let (option, correlation) = self.next_request()?;
        let nonce = self.request_nonce(&correlation);
        let mut outer = writer.message();
        if let Some(value) = observe {
            outer.add_option_uint(option::OBSERVE, value).map_err(|_| Error::NoSpace)?;
        }
        outer.add_option(option::OSCORE, &option.encode()).map_err(|_| Error::NoSpace)?;
        if !message_3.is_empty() {
            outer.add_option(option::EDHOC, &[]).map_err(|_| Error::NoSpace)?;
        }
        let options_length = outer.finish().0;
        let (outer_length, plaintext) = behind_options(writer, options_length, message_3)?;
        Ok((Unsealed { inner_code: header.code, outer_length, plaintext, nonce, correlation }, correlation))
    }
}

/// Writes the payload marker and `before` behind the options. Returns the length of all that, and the room behind it.
fn behind_options<'t>(
    writer: Writer<'t>,
    options_length: usize,
    before: &[u8],
) -> Result<(usize, &'t mut [u8]), Error> {
    let (header_length, tail) = writer.into_tail();
    let behind_options = tail.get_mut(options_length..).unwrap_or_default();
    let (marker, payload) = behind_options.split_first_mut().ok_or(Error::NoSpace)?;
    *marker = 0xff;
    let (first, plaintext) = payload.split_at_mut_checked(before.len()).ok_or(Error::NoSpace)?;
    first.copy_from_slice(before);
    if plaintext.len() <= TAG_LENGTH {
        return Err(Error::NoSpace);
    }
    let outer_length = header_length.saturating_add(options_length).saturating_add(1).saturating_add(before.len());
    Ok((outer_length, plaintext))
}

impl Unsealed<'_> {
    /// The inner message to fill in, without options and payload; its code is the header's until it is set. Calling
    /// this again starts anew. After an error of the message that is the only way on: a half-written one must not be
    /// sent.
    ///
    /// # Errors
    /// None: there is room, or the message would not have begun.
    pub fn message(&mut self) -> Result<MessageMut<SliceBufferMut<'_>>, Error> {
        let (rest, _tag) = self.plaintext.split_last_chunk_mut::<TAG_LENGTH>().ok_or(Error::NoSpace)?;
        let (code, tail) = rest.split_first_mut().ok_or(Error::NoSpace)?;
        *code = self.inner_code;
        Ok(MessageMut::new_in_slice(code, tail))
    }

    /// Encrypts the message, given the length that its `finish()` returned, with the context that began it.
    /// Returns the length of the datagram.
    ///
    /// # Errors
    /// - [`Error::NoSpace`] if the message did not fit and its error was overlooked
    /// - [`Error::ContextNotFound`] if it is another context
    pub fn seal(self, context: &Context, message_length: usize) -> Result<usize, Error> {
        if ![context.recipient(), context.sender()].contains(&self.correlation.kid()) {
            return Err(Error::ContextNotFound);
        }
        let length = message_length.checked_add(1).ok_or(Error::NoSpace)?; // and the code
        let sealed = context.seal(&self.nonce, &self.correlation, self.plaintext, length)?;
        self.outer_length.checked_add(sealed).ok_or(Error::NoSpace)
    }
}
