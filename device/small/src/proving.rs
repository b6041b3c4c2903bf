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
use coap_message::ReadableMessage as _;
use coap_numbers::code;
use core::fmt;
use embedded_storage::Storage;
use protocol::coap::{EchoKey, Message, is_path, unsupported_option};
use protocol::conversation::server::sessions::Shares;
use protocol::conversation::server::{self as conversation, Incoming, Party, Reply};
use protocol::key::{PreparedKey, PrivateKey, PublicKey};
use rand_core::CryptoRngCore;

use crate::{
    DATAGRAM_LEN,
    device::{Answer, BODY_LEN, Caller, Config, Device, OPTIONS, Problem, content_format, fill},
};

const EDHOC: &str = "/.well-known/edhoc";

/// A device that proves its key, over the EEPROM `S`, with random numbers from `R`.
pub struct ProvingDevice<S, R> {
    own: Own<S, R>,
    /// One handshake, one context, and the last request, which may come again: the answer to it took seconds, or cannot be
    /// given twice.
    conversation: conversation::Fixed<(), 1, 1, 1, DATAGRAM_LEN>,
}

/// The device, and what it takes to prove its key.
struct Own<S, R> {
    device: Device<S>,
    rng: R,
    ephemeral: PreparedKey,
}

impl<S: Storage, R: CryptoRngCore> ProvingDevice<S, R> {
    /// Starts the device. At its first start it makes its key, which takes a scalar multiplication.
    #[inline(never)]
    pub fn start(config: Config, storage: S, mut rng: R) -> Self {
        let device = Device::start_as(Profile::Full, config, storage, &mut rng);
        let mut conversation = conversation::Fixed::new(Shares { known: 0, strangers: 1 });
        // Nobody sends from elsewhere on a line, so nobody is asked for an Echo option.
        conversation.seed(rng.next_u32() as u16, EchoKey::new([0; 16]));
        ProvingDevice { own: Own { device, rng, ephemeral: PreparedKey::new() }, conversation }
    }

    /// What the device says of itself.
    pub fn info(&self) -> DeviceInfo<'static> {
        self.own.device.info()
    }

    /// Writes the report line, without a line ending.
    ///
    /// # Errors
    /// `out` refuses text.
    pub fn report(&self, out: &mut impl fmt::Write) -> Result<(), Error> {
        self.own.device.report(out)
    }

    /// Whether there is something to [`prepare`](Self::prepare).
    pub fn is_unprepared(&self) -> bool {
        self.own.ephemeral.public().is_none() && self.own.device.key().is_some()
    }

    /// Makes the ephemeral key of the next handshake, while nobody waits: a scalar multiplication. Without it, message_1 waits
    /// for that.
    pub fn prepare(&mut self) {
        if self.is_unprepared() {
            self.own.ephemeral.prepare(&mut self.own.rng);
        }
    }

    /// Answers a datagram, which is decrypted in place, into `out`; returns the length of the answer. `None` if there is none
    /// to give.
    ///
    /// Takes two scalar multiplications for message_1 (three if nothing was prepared), one for message_3, two for a
    /// certificate.
    #[inline(never)]
    pub fn handle(&mut self, datagram: &mut [u8], out: &mut [u8; DATAGRAM_LEN]) -> Option<usize> {
        let (request, reply) = match self.conversation.receive((), datagram, 0, &mut self.own, out) {
            Incoming::Request(request, reply) => (request, reply),
            Incoming::Answer(len) => return Some(len),
            Incoming::Acknowledged(_) | Incoming::Reset(_) | Incoming::Nothing => return None,
        };
        self.respond(&request, &reply, out)
    }

    // The body is not on the stack while a datagram is received, which may take a handshake.
    #[inline(never)]
    fn respond(&mut self, request: &Message<'_>, reply: &Reply<()>, out: &mut [u8; DATAGRAM_LEN]) -> Option<usize> {
        let mut body = [0; BODY_LEN];
        let before = self.own.device.factory_state();
        let answer = match reply.session() {
            0 if is_path(EDHOC, request) => self.edhoc(request, &mut body),
            0 => self.own.device.answer(request, Caller::Reader, &mut body),
            _ => self.own.device.answer(request, Caller::Writer, &mut body),
        };
        let body = body.get(..answer.len)?;
        let len = self.conversation.answer(reply, out, &mut |message| fill(message, &answer, body));
        if self.own.device.factory_state() != before {
            self.conversation.sessions().clear();
        }
        len
    }

    /// A request to `/.well-known/edhoc`: message_1, or message_3 alone (RFC 9528 appendix A.2).
    fn edhoc(&mut self, request: &Message<'_>, body: &mut [u8; BODY_LEN]) -> Answer {
        if request.code() != code::POST {
            return Problem::new(code::METHOD_NOT_ALLOWED, "no such method here").answer(body);
        }
        if let Some(unsupported) = unsupported_option(request, OPTIONS) {
            return Problem::option(unsupported).answer(body);
        }
        let (code, len) = self.conversation.authenticate((), request.payload(), &mut self.own, body);
        Answer { code, content_format: content_format::EDHOC, len }
    }
}

impl<S: Storage, R: CryptoRngCore> Party for Own<S, R> {
    fn keys(&mut self) -> Option<(&PrivateKey, impl FnOnce() -> PrivateKey)> {
        let (prepared, rng) = (&mut self.ephemeral, &mut self.rng);
        Some((self.device.key()?, || prepared.take(rng)))
    }

    /// Nobody vouches for a key here.
    fn resolve(&mut self, _: &[u8]) -> Option<PublicKey> {
        None
    }

    fn is_known(&self, _: &PublicKey) -> bool {
        false
    }

    fn random(&mut self) -> u32 {
        self.rng.next_u32()
    }
}

#[cfg(test)]
mod tests;
