//! EDHOC and OSCORE before a [`Device`]: whoever asks learns that the device holds its key, and nobody on the line can change
//! what is said.
//!
//! | request | answered |
//! |---|---|
//! | `/.well-known/edhoc` | EDHOC: message_1, message_3 alone; or message_3 with the first OSCORE request (RFC 9668) |
//! | with OSCORE | as the device answers those who may write |
//! | without | as it answers those who may read |
//!
//! There is one line, so there is one handshake and one session at a time: the newest. The session ends with the write that
//! changes the slot. Peers are known by the credential that they send by value: nobody vouches for a key here.
//!
//! On a slow processor a scalar multiplication takes seconds. Of the four in a handshake, [`ProvingDevice::prepare`] can do
//! one before it begins.

use cbor_schemas::{DeviceInfo, Error, Profile};
use coap_message::{MessageOption, ReadableMessage, WithSortedOptions};
use coap_numbers::{code, option};
use core::fmt;
use embedded_storage::Storage;
use protocol::coap::{Datagram, Endpoint, Exchange, Incoming, is_path, unsupported_option};
use protocol::edhoc::{self, ConnId, Established, Responder};
use protocol::key::PrivateKey;
use protocol::oscore::{self, Context, OptionValue};
use rand_core::CryptoRngCore;

use crate::{
    DATAGRAM_LEN,
    device::{Answer, BODY_LEN, Caller, Config, Device, OPTIONS, Problem, content_format, fill, refuse_length, write},
};

const EDHOC: &str = "/.well-known/edhoc";
const FIRST_CONN_ID: ConnId = ConnId::new(0).expect("the encoding of 0");

/// A device that proves its key, over the EEPROM `S`, with random numbers from `R`.
pub struct ProvingDevice<S, R> {
    device: Device<S>,
    rng: R,
    /// The last request, which may come again: the answer to it took seconds, or cannot be given twice.
    endpoint: Endpoint<(), 1, DATAGRAM_LEN>,
    ephemeral: Option<PrivateKey>,
    pending: Option<Responder>,
    session: Option<Context>,
}

impl<S: Storage, R: CryptoRngCore> ProvingDevice<S, R> {
    /// Starts the device. At its first start it makes its key, which takes a scalar multiplication.
    #[inline(never)]
    pub fn start(config: Config, storage: S, mut rng: R) -> Self {
        let device = Device::start_as(Profile::Full, config, storage, &mut rng);
        let endpoint = Endpoint::new(rng.next_u32() as u16);
        ProvingDevice { device, rng, endpoint, ephemeral: None, pending: None, session: None }
    }

    /// What the device says of itself.
    pub fn info(&self) -> DeviceInfo<'static> {
        self.device.info()
    }

    /// Writes the report line, without a line ending.
    ///
    /// # Errors
    /// `out` refuses text.
    pub fn report(&self, out: &mut impl fmt::Write) -> Result<(), Error> {
        self.device.report(out)
    }

    /// Whether there is something to [`prepare`](Self::prepare).
    pub fn is_unprepared(&self) -> bool {
        self.ephemeral.is_none() && self.device.key().is_some()
    }

    /// Makes the ephemeral key of the next handshake, while nobody waits: a scalar multiplication. Without it, message_1 waits
    /// for that.
    pub fn prepare(&mut self) {
        if self.is_unprepared() {
            self.ephemeral = Some(PrivateKey::generate(&mut self.rng));
        }
    }

    /// Answers a datagram, which is decrypted in place, into `out`; returns the length of the answer. `None` if there is none
    /// to give.
    ///
    /// Takes two scalar multiplications for message_1 (three if nothing was prepared), one for message_3, two for a
    /// certificate.
    pub fn handle(&mut self, datagram: &mut [u8], out: &mut [u8; DATAGRAM_LEN]) -> Option<usize> {
        if datagram.len() > DATAGRAM_LEN {
            return refuse_length(self.endpoint.refuse((), datagram), out);
        }
        let exchange = match self.endpoint.receive((), datagram, 0) {
            Incoming::Request(exchange, _) => exchange,
            Incoming::Reply(reply) => {
                out.get_mut(..reply.len())?.copy_from_slice(reply);
                return Some(reply.len());
            }
            Incoming::Nothing => return None,
        };
        let len = self.respond(&exchange, datagram, out)?;
        self.endpoint.remember(&exchange, out.get(..len)?);
        Some(len)
    }

    fn respond(&mut self, exchange: &Exchange<()>, datagram: &mut [u8], out: &mut [u8; DATAGRAM_LEN]) -> Option<usize> {
        let mut body = [0; BODY_LEN];
        let parsed = Datagram::parse(datagram).ok()?;
        let request = parsed.message();
        let answer = if !request.options().any(|option| option.number() == option::OSCORE) {
            match is_path(EDHOC, &request) {
                true => self.edhoc(&request, &mut body),
                false => self.device.answer(&request, Caller::Reader, &mut body),
            }
        } else {
            let option = OptionValue::of(&request);
            let is_combined = request.options().any(|option| option.number() == option::EDHOC);
            let payload_start = datagram.len().checked_sub(parsed.payload_length())?;
            let payload = datagram.get_mut(payload_start..)?;
            match self.respond_protected(exchange, option, is_combined, payload, &mut body, out) {
                Ok(len) => return Some(len),
                Err(unprotected) => unprotected,
            }
        };
        write(exchange, &answer, body.get(..answer.len)?, out).ok()
    }

    /// Answers under OSCORE. Where there is no context to answer under, the error is the answer to be sent plain.
    #[inline(never)]
    fn respond_protected(
        &mut self,
        exchange: &Exchange<()>,
        option: Result<OptionValue, oscore::Error>,
        is_combined: bool,
        payload: &mut [u8],
        body: &mut [u8; BODY_LEN],
        out: &mut [u8; DATAGRAM_LEN],
    ) -> Result<usize, Answer> {
        let option = option.map_err(|error| refused(error, body))?;
        let ciphertext = match is_combined {
            false => payload,
            true => {
                let (message_3, ciphertext) =
                    oscore::split_combined_mut(payload).ok_or_else(|| edhoc_error(edhoc::Error::Malformed, body))?;
                let kid = option.kid.ok_or_else(|| refused(oscore::Error::BadOption, body))?;
                self.message_3(kid, message_3, None).map_err(|error| edhoc_error(error, body))?;
                ciphertext
            }
        };
        let context = self.session.as_mut().ok_or(oscore::Error::ContextNotFound);
        let opened = context.and_then(|context| context.open_request(&option, ciphertext));
        let (request, correlation) = opened.map_err(|error| refused(error, body))?;
        let before = self.device.factory_state();
        let answer = self.device.answer(&request, Caller::Writer, body);
        let header = exchange.response_header(answer.code);
        let context = self.session.as_mut().ok_or(oscore::Error::ContextNotFound);
        let sealed = context.and_then(|context| {
            let mut response = context.respond(&correlation, &header, out)?;
            let mut message = response.message()?;
            fill(&mut message, &answer, body.get(..answer.len).unwrap_or_default())
                .map_err(|_| oscore::Error::NoSpace)?;
            let len = message.finish().0;
            response.seal(context, len)
        });
        if self.device.factory_state() != before {
            self.session = None;
        }
        sealed.map_err(|error| refused(error, body))
    }

    /// A request to `/.well-known/edhoc`: message_1, or message_3 alone (RFC 9528 appendix A.2).
    fn edhoc<Q>(&mut self, request: &Q, body: &mut [u8; BODY_LEN]) -> Answer
    where
        Q: ReadableMessage + WithSortedOptions,
    {
        if request.code().into() != code::POST {
            return Problem::new(code::METHOD_NOT_ALLOWED, "no such method here").answer(body);
        }
        if let Some(unsupported) = unsupported_option(request, OPTIONS) {
            return Problem::option(unsupported).answer(body);
        }
        let done = match edhoc::Request::parse(request.payload()) {
            Ok(edhoc::Request::Message1(message_1)) => self.message_1(message_1, body),
            Ok(edhoc::Request::Message3 { c_r, message_3 }) => self.message_3(c_r.into(), message_3, Some(body)),
            Err(error) => Err(error),
        };
        match done {
            Ok(len) => Answer { code: code::CHANGED, content_format: content_format::EDHOC, len },
            // An error message is not answered by another (RFC 9528 section 6), and the handshake is over.
            Err(edhoc::Error::Peer) => {
                self.pending = None;
                Answer { code: code::CHANGED, content_format: content_format::EDHOC, len: 0 }
            }
            Err(error) => edhoc_error(error, body),
        }
    }

    /// The new handshake takes the place of an older one. Its identifier is not that of the session.
    ///
    /// Writes message_2, and returns how long it is.
    #[inline(never)]
    fn message_1(&mut self, message_1: &[u8], answer: &mut [u8; BODY_LEN]) -> Result<usize, edhoc::Error> {
        let c_r = self.unused_conn_id();
        let own = self.device.key().ok_or(edhoc::Error::UnknownCredential)?;
        let (prepared, rng) = (&mut self.ephemeral, &mut self.rng);
        let ephemeral = || prepared.take().unwrap_or_else(|| PrivateKey::generate(rng));
        let (responder, message_2) = Responder::start_prepared(message_1, own, c_r, ephemeral)?;
        self.pending = Some(responder);
        Ok(copy(&message_2, answer))
    }

    /// Writes message_4 if there is to be an answer, and returns how long it is.
    #[inline(never)]
    fn message_3(
        &mut self,
        c_r: oscore::Id,
        message_3: &[u8],
        answer: Option<&mut [u8; BODY_LEN]>,
    ) -> Result<usize, edhoc::Error> {
        let responder = self.pending.take_if(|pending| oscore::Id::from(pending.c_r()) == c_r);
        let responder = responder.ok_or(edhoc::Error::NoHandshake)?;
        let Established { context, message_4, .. } = responder.finish(message_3, |_| None, answer.is_some())?;
        self.session = Some(context);
        Ok(message_4.zip(answer).map_or(0, |(message_4, answer)| copy(&message_4, answer)))
    }

    /// An identifier that the session does not use, and its successor neither: the responder takes that one if the peer
    /// chose the same.
    fn unused_conn_id(&self) -> ConnId {
        let used = self.session.as_ref().map(Context::recipient);
        let is_used = |id: ConnId| used == Some(id.into());
        let mut id = FIRST_CONN_ID;
        // At most two steps: one identifier is in use.
        while is_used(id) || is_used(id.next()) {
            id = id.next();
        }
        id
    }
}

fn edhoc_error(error: edhoc::Error, body: &mut [u8; BODY_LEN]) -> Answer {
    Answer { code: code::BAD_REQUEST, content_format: content_format::EDHOC, len: copy(&error.message(), body) }
}

/// Every message is shorter than a body.
fn copy(message: &[u8], body: &mut [u8; BODY_LEN]) -> usize {
    body.iter_mut().zip(message).map(|(to, from)| *to = *from).count()
}

/// An error of OSCORE, to be sent without protection (RFC 8613 section 8.2).
fn refused(error: oscore::Error, body: &mut [u8; BODY_LEN]) -> Answer {
    let title = match error {
        oscore::Error::ContextNotFound | oscore::Error::NotProtected => "security context not found",
        oscore::Error::Replay => "replay detected",
        oscore::Error::Decryption => "decryption failed",
        oscore::Error::BadOption => "failed to decode COSE",
        oscore::Error::Proxy => "this is no proxy",
        oscore::Error::Exhausted | oscore::Error::Unsupported | oscore::Error::NoSpace => "cannot protect the answer",
    };
    Problem::new(error.code(), title).answer(body)
}

#[cfg(test)]
mod tests;
