//! The responder: the device.

use core::fmt;

use lakers::{Credential, CredentialTransfer, ProcessedM3, ProcessingM1, ProcessingM3, WaitM3};
use rand_core::CryptoRngCore;
use zeroize::Zeroize;

use super::credential::{Identity, own_credential};
use super::error::Error;
use super::message::{Message1, Plaintext, byte_string};
use super::secret::Wiped;
use super::suite::{self, Suite2};
use super::{ConnId, IdCred, Message, Peer, from_lakers, message_from, oscore_context};
use crate::key::{PrivateKey, PublicKey};
use crate::oscore::{self, Id};

/// A responder that sent message_2 and waits for message_3. Dropping it ends the handshake.
pub struct Responder {
    state: Wiped<WaitM3>,
    own: PublicKey,
    c_i: Id,
    c_r: ConnId,
}

impl Responder {
    /// Answers message_1 (without the `true` that stands before it in CoAP, see [`Request`](super::Request)).
    /// Gives the state and message_2: our credential by kid, or by value if EAD_1 asks for that with label 15.
    ///
    /// It costs a key generation and two ECDH, but first message_1 is checked as far as it goes without them.
    ///
    /// `c_r` is taken as C_R, or the [`next`](ConnId::next) one if the peer took the same as C_I (RFC 9528 section
    /// 3.3.3); [`c_r`](Self::c_r) says which. The caller sees to it that none of the two is in use.
    ///
    /// # Errors
    /// For the peer: [`Error::message`].
    pub fn start(
        message_1: &[u8],
        own: &PrivateKey,
        c_r: ConnId,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(Self, Message), Error> {
        Self::start_prepared(message_1, own, c_r, || PrivateKey::generate(rng))
    }

    /// [`start`](Self::start) with an ephemeral key that may have been made before, while nothing else was to be done.
    /// `ephemeral` is called at most once, for a message_1 that is whole; what it gives must be new, and is not kept.
    ///
    /// # Errors
    /// For the peer: [`Error::message`].
    pub fn start_prepared(
        message_1: &[u8],
        own: &PrivateKey,
        c_r: ConnId,
        ephemeral: impl FnOnce() -> PrivateKey,
    ) -> Result<(Self, Message), Error> {
        let message_1 = Message1::parse(message_1)?;
        let credential = own_credential(own.public())?;
        Self::start_with(&message_1, own, credential, c_r, &ephemeral())
    }

    /// The connection identifier that message_3 and the peer's OSCORE requests carry.
    pub fn c_r(&self) -> ConnId {
        self.c_r
    }

    /// Verifies message_3 (the byte string alone: see [`Request`](super::Request), or
    /// [`oscore::split_combined`] where it came with a first OSCORE request). On the separate path, ask for `message_4`.
    ///
    /// `resolve` finds the key of a kid (up to [`MAX_KID`](super::MAX_KID) bytes) among those that somebody vouches
    /// for. It is not called if the peer sends its credential by value.
    ///
    /// # Errors
    /// For the peer: [`Error::message`]. The handshake is over with any error.
    pub fn finish(
        self,
        message_3: &[u8],
        resolve: impl FnOnce(&[u8]) -> Option<PublicKey>,
        message_4: bool,
    ) -> Result<Established, Error> {
        self.finish_in_place(message_3, resolve, message_4)
    }

    /// [`finish`](Self::finish) where the state lies: it is large. The caller drops it then, whatever came of it.
    pub(crate) fn finish_in_place(
        &self,
        message_3: &[u8],
        resolve: impl FnOnce(&[u8]) -> Option<PublicKey>,
        message_4: bool,
    ) -> Result<Established, Error> {
        let identify = |id_cred: IdCred<'_>| match id_cred {
            IdCred::Kid(kid) => Identity::by_kid(kid, resolve(kid).ok_or(Error::UnknownCredential)?),
            IdCred::Ccs(key, ccs) => Identity::by_value(key, ccs),
        };
        self.finish_with(message_3, identify, message_4)
    }

    /// [`finish`](Self::finish) with any credential of the peer, so that the trace of RFC 9529 can be replayed.
    pub(super) fn finish_with(
        &self,
        message_3: &[u8],
        identify: impl FnOnce(IdCred<'_>) -> Result<Identity, Error>,
        message_4: bool,
    ) -> Result<Established, Error> {
        let (peer, processed) = self.verify_message_3(message_3, identify)?;
        let message_4 = if message_4 { Some(write_message_4(&processed)?) } else { None };
        let context = oscore_context(&processed.prk_exporter, self.c_i, self.c_r.into());
        Ok(Established { peer, context, message_4 })
    }

    #[inline(never)]
    pub(super) fn verify_message_3(
        &self,
        message_3: &[u8],
        identify: impl FnOnce(IdCred<'_>) -> Result<Identity, Error>,
    ) -> Result<(Peer, Wiped<ProcessedM3>), Error> {
        let WaitM3 { y, prk_3e2m, th_3 } = &*self.state;
        let plaintext_3 = suite::open(prk_3e2m, suite::MESSAGE_3, th_3, byte_string(message_3)?)?;
        let plaintext = Plaintext::parse_3(plaintext_3.as_slice())?;
        let Identity { key, credential, id_cred } = identify(plaintext.id_cred)?;
        if key == self.own {
            return Err(Error::Reflection);
        }
        plaintext.check_mac_context(&[], &id_cred, &credential)?;

        let mut processing = Wiped(ProcessingM3 {
            mac_3: plaintext.mac,
            y: *y,
            prk_3e2m: *prk_3e2m,
            th_3: *th_3,
            id_cred_i: id_cred,
            plaintext_3,
            ead_3: plaintext.ead.for_lakers()?,
        });
        let (processed, mut prk_out) =
            lakers::r_verify_message_3(&mut processing.0, &mut Suite2(&[key]), credential).map_err(from_lakers)?;
        prk_out.zeroize(); // also in `processed`
        Ok((Peer { key, transfer: plaintext.id_cred.transfer() }, Wiped(processed)))
    }

    /// [`start`](Self::start) with any credential and ephemeral key, likewise.
    #[inline(never)]
    pub(super) fn start_with(
        message_1: &Message1,
        own: &PrivateKey,
        credential: Credential,
        c_r: ConnId,
        ephemeral: &PrivateKey,
    ) -> Result<(Self, Message), Error> {
        let c_r = if message_1.c_i == c_r.into() { c_r.next() } else { c_r };
        let transfer =
            if message_1.wants_value { CredentialTransfer::ByValue } else { CredentialTransfer::ByReference };
        let processing = Wiped(ProcessingM1 {
            y: *ephemeral.as_bytes(),
            g_y: *ephemeral.public().x(),
            c_i: lakers::ConnId::from_slice(message_1.c_i.as_slice()).ok_or(Error::ConnectionId)?,
            g_x: *message_1.g_x.x(),
            h_message_1: message_1.hash,
        });
        let (state, message_2) = lakers::r_prepare_message_2(
            &processing,
            &mut Suite2(&[message_1.g_x]),
            credential,
            own.as_bytes(),
            c_r.for_lakers()?,
            transfer,
            &None,
        )
        .map_err(from_lakers)?;
        let state = Wiped(state);
        Ok((Self { state, own: *own.public(), c_i: message_1.c_i, c_r }, message_from(&message_2)?))
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("c_i", &self.c_i).field("c_r", &self.c_r).finish_non_exhaustive()
    }
}

/// What a responder has after message_3.
#[derive(Debug)]
pub struct Established {
    /// Who is at the other end.
    pub peer: Peer,
    /// Our sender ID is C_I, our recipient ID C_R.
    pub context: oscore::Context,
    /// 9 bytes, if it was asked for: the answer to a message_3 that came alone.
    pub message_4: Option<Message>,
}

#[inline(never)]
fn write_message_4(processed: &ProcessedM3) -> Result<Message, Error> {
    let (completed, message_4) =
        lakers::r_prepare_message_4(processed, &mut Suite2(&[]), &None).map_err(from_lakers)?;
    drop(Wiped(completed));
    message_from(&message_4)
}
