//! The initiator: the commissioner.

use core::fmt;

use lakers::{
    Credential, CredentialTransfer, EADItem, EdhocBuffer, InitiatorStart, ProcessedM2, ProcessingM2, WaitM2, WaitM4,
};
use rand_core::CryptoRngCore;
use zeroize::Zeroize;

use super::cbor::Reader;
use super::credential::{Ccs, Identity, own_credential};
use super::error::{Error, SUITE};
use super::error_message::parse_error;
use super::message::{EAD_CRED_BY_VALUE, Ead, Message2, Plaintext, byte_string};
use super::secret::Wiped;
use super::suite::{self, Suite2};
use super::{ConnId, IdCred, Message, Transfer, from_lakers, message_from, oscore_context};
use crate::key::{PrivateKey, PublicKey};
use crate::oscore;

/// An initiator that sent message_1 and waits for message_2. Dropping it ends the handshake.
pub struct Initiator {
    state: Wiped<WaitM2>,
    own: PrivateKey,
    c_i: ConnId,
}

impl Initiator {
    /// Begins a handshake: the state and message_1, 37 bytes. In CoAP, `true` (0xf5) stands before it.
    ///
    /// `own` is copied into the state. One key generation.
    ///
    /// # Errors
    /// None that an input could cause.
    pub fn start(own: &PrivateKey, c_i: ConnId, rng: &mut impl CryptoRngCore) -> Result<(Self, Message), Error> {
        Self::start_with(&[SUITE], own, c_i, &PrivateKey::generate(rng), &None)
    }

    /// [`start`](Self::start) with somebody whose key is not known: by EAD_1, label 15, its credential is asked for by
    /// value. 38 bytes.
    ///
    /// # Errors
    /// None that an input could cause.
    pub fn start_asking(own: &PrivateKey, c_i: ConnId, rng: &mut impl CryptoRngCore) -> Result<(Self, Message), Error> {
        let ask = EADItem { label: EAD_CRED_BY_VALUE.into(), is_critical: false, value: None };
        Self::start_with(&[SUITE], own, c_i, &PrivateKey::generate(rng), &Some(ask))
    }

    /// [`start`](Self::start) with any ephemeral key, and after others that the responder turned down: the last one of
    /// `suites` has to be ours. So the trace of RFC 9529 can be replayed.
    pub(super) fn start_with(
        suites: &[u8],
        own: &PrivateKey,
        c_i: ConnId,
        ephemeral: &PrivateKey,
        ead_1: &Option<EADItem>,
    ) -> Result<(Self, Message), Error> {
        let start = Wiped(InitiatorStart {
            suites_i: EdhocBuffer::new_from_slice(suites).map_err(|_| Error::Suite)?,
            method: lakers::EDHOC_METHOD,
            x: *ephemeral.as_bytes(),
            g_x: *ephemeral.public().x(),
        });
        let (state, message_1) =
            lakers::i_prepare_message_1(&start, &mut Suite2(&[]), c_i.for_lakers()?, ead_1).map_err(from_lakers)?;
        Ok((Self { state: Wiped(state), own: own.clone(), c_i }, message_from(&message_1)?))
    }

    /// Verifies message_2 and answers with message_3: 28 bytes with our credential by kid, 110 by value. Sent alone in
    /// CoAP, C_R stands before it.
    ///
    /// `resolve` decides who the peer is: it gives the key that belongs to a kid, or approves of the one sent by value
    /// by returning it.
    ///
    /// # Errors
    /// [`Error::Peer`] if an EDHOC error message came in place of message_2. The handshake is over with any error.
    pub fn finish(
        self,
        message_2: &[u8],
        transfer: Transfer,
        resolve: impl FnOnce(IdCred<'_>) -> Option<PublicKey>,
    ) -> Result<(Pending, Message), Error> {
        let identify = |id_cred: IdCred<'_>| {
            let key = resolve(id_cred).ok_or(Error::UnknownCredential)?;
            match id_cred {
                IdCred::Kid(kid) => Identity::by_kid(kid, key),
                IdCred::Ccs(sent, ccs) if sent == key => Identity::by_value(key, ccs),
                IdCred::Ccs(..) => Err(Error::UnknownCredential),
            }
        };
        let credential = own_credential(self.own.public())?;
        self.finish_with(credential, message_2, transfer, identify)
    }

    /// [`finish`](Self::finish) with the peer that has this credential, and with nobody else.
    ///
    /// # Errors
    /// As [`finish`](Self::finish); [`Error::UnknownCredential`] if somebody else answered.
    pub fn finish_with_known(
        self,
        message_2: &[u8],
        transfer: Transfer,
        peer: &Ccs,
    ) -> Result<(Pending, Message), Error> {
        let credential = own_credential(self.own.public())?;
        self.finish_with(credential, message_2, transfer, |id_cred| peer.identify(id_cred))
    }

    /// [`finish`](Self::finish) with any credentials, so that the trace of RFC 9529 can be replayed.
    pub(super) fn finish_with(
        self,
        credential: Credential,
        message_2: &[u8],
        transfer: Transfer,
        identify: impl FnOnce(IdCred<'_>) -> Result<Identity, Error>,
    ) -> Result<(Pending, Message), Error> {
        let (c_r, peer, processed) = self.verify_message_2(message_2, identify)?;
        let transfer = match transfer {
            Transfer::ByKid => CredentialTransfer::ByReference,
            Transfer::ByValue => CredentialTransfer::ByValue,
        };
        let (state, message_3, mut prk_out) =
            lakers::i_prepare_message_3(&processed, &mut Suite2(&[]), credential, transfer, &None)
                .map_err(from_lakers)?;
        prk_out.zeroize(); // also in `state`
        let pending = Pending { c_r, peer, c_i: self.c_i, state: Wiped(state) };
        Ok((pending, message_from(&message_3)?))
    }

    fn verify_message_2(
        &self,
        message_2: &[u8],
        identify: impl FnOnce(IdCred<'_>) -> Result<Identity, Error>,
    ) -> Result<(ConnId, PublicKey, Wiped<ProcessedM2>), Error> {
        if parse_error(message_2).is_some() {
            return Err(Error::Peer);
        }
        let Message2 { g_y, ciphertext_2 } = Message2::parse(message_2)?;
        let WaitM2 { x, h_message_1 } = &*self.state;
        let th_2 = suite::th_2(g_y.x(), h_message_1);
        let prk_2e = suite::prk_2e(x, &g_y, &th_2);
        let plaintext_2 = suite::xor_key_stream_2(&prk_2e, &th_2, ciphertext_2);

        // Up to here nothing is authenticated: each bit of the plaintext may be a stranger's choice.
        let (c_r, plaintext) = Plaintext::parse_2(plaintext_2.as_slice())?;
        if c_r == self.c_i {
            return Err(Error::ConnectionId);
        }
        let Identity { key, credential, id_cred } = identify(plaintext.id_cred)?;
        if key == *self.own.public() {
            return Err(Error::Reflection);
        }
        plaintext.check_mac_context(&[c_r.byte()], &id_cred, &credential)?;

        let processing = Wiped(ProcessingM2 {
            mac_2: plaintext.mac,
            prk_2e: *prk_2e,
            th_2,
            x: *x,
            g_y: *g_y.x(),
            plaintext_2,
            c_r: c_r.for_lakers()?,
            id_cred_r: id_cred,
            ead_2: plaintext.ead.for_lakers()?,
        });
        let processed =
            lakers::i_verify_message_2(&processing, &mut Suite2(&[g_y, key]), credential, self.own.as_bytes())
                .map_err(from_lakers)?;
        Ok((c_r, key, Wiped(processed)))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator").field("c_i", &self.c_i).finish_non_exhaustive()
    }
}

/// An initiator that sent message_3. It has authenticated the responder, by a MAC of 64 bits.
pub struct Pending {
    /// What the responder calls this handshake: stands before a message_3 that is sent alone.
    pub c_r: ConnId,
    /// The responder's key.
    pub peer: PublicKey,
    c_i: ConnId,
    pub(super) state: Wiped<WaitM4>,
}

impl Pending {
    /// Gives the OSCORE context: our sender ID is C_R, our recipient ID C_I.
    ///
    /// After a combined request there is no message_4. Then only a response that this context verifies shows that the
    /// responder accepted message_3.
    ///
    /// # Errors
    /// [`Error::Peer`] if an EDHOC error message came in place of message_4; others if message_4 does not verify.
    pub fn confirm(self, message_4: Option<&[u8]>) -> Result<oscore::Context, Error> {
        if let Some(message_4) = message_4 {
            self.verify_message_4(message_4)?;
        }
        Ok(oscore_context(&self.state.prk_exporter, self.c_r.into(), self.c_i.into()))
    }

    /// TH_4 (RFC 9528 section 4.1.2): names this handshake, and all that was said in it.
    pub fn transcript(&self) -> [u8; 32] {
        self.state.th_4
    }

    fn verify_message_4(&self, message_4: &[u8]) -> Result<(), Error> {
        if parse_error(message_4).is_some() {
            return Err(Error::Peer);
        }
        let ciphertext_4 = byte_string(message_4)?;
        let plaintext_4 = suite::open(&self.state.prk_4e3m, suite::MESSAGE_4, &self.state.th_4, ciphertext_4)?;
        Ead::read(&mut Reader::new(plaintext_4.as_slice()))?;
        Ok(())
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("c_r", &self.c_r).field("peer", &self.peer).finish_non_exhaustive()
    }
}
