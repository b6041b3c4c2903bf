use core::fmt;

use aes::Aes128;
use ccm::aead::generic_array::GenericArray;
use ccm::aead::{AeadInPlace, KeyInit};
use ccm::consts::{U8, U13};
use heapless::Vec;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroize;

use super::option::{Id, IdContext, OptionValue, PartialIv};
use super::{Error, replay::ReplayWindow};

/// Bytes that protection adds to a plaintext: the tag of AES-CCM-16-64-128.
pub const TAG_LENGTH: usize = 8;

/// What is inside a protected message, where it was decrypted.
pub type Inner<'b> = crate::coap::Message<'b>;

type AesCcm = ccm::Ccm<Aes128, U8, U13>;
pub(super) type Nonce = [u8; 13];

/// A security context (RFC 8613, section 3): what two endpoints share, seen from one of them. About 120 bytes.
///
/// It lives in RAM and dies with it, so that no sequence number needs to be stored; its keys are wiped when it is
/// dropped.
pub struct Context {
    sender: Id,
    recipient: Id,
    id_context: Option<IdContext>,
    sender_key: [u8; 16],
    recipient_key: [u8; 16],
    common_iv: Nonce,
    next_sequence: u64,
    replay: ReplayWindow,
}

/// Ties a response to its request: the request's kid and Partial IV (RFC 8613, section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correlation {
    kid: Id,
    partial_iv: PartialIv,
    own_partial_iv: bool,
}

impl Correlation {
    /// Asks for a response with a Partial IV of its own instead of the request's nonce. A second response to the same
    /// request gets one in any case: a nonce seals one message.
    pub fn with_partial_iv(self) -> Self {
        Self { own_partial_iv: true, ..self }
    }

    pub(super) fn kid(&self) -> Id {
        self.kid
    }
}

impl Context {
    /// Derives a context (RFC 8613, section 3.2) from Master Secret and Master Salt, which may be empty. The peer
    /// derives the same with the IDs swapped; the two IDs must differ.
    pub fn derive(secret: &[u8], salt: &[u8], sender: Id, recipient: Id) -> Self {
        Self::derive_inner(secret, salt, None, sender, recipient)
    }

    /// The same with an ID Context, which then goes with every request.
    pub fn derive_with_id_context(
        secret: &[u8],
        salt: &[u8],
        id_context: IdContext,
        sender: Id,
        recipient: Id,
    ) -> Self {
        Self::derive_inner(secret, salt, Some(id_context), sender, recipient)
    }

    /// Our Sender ID: the kid of our requests.
    pub fn sender(&self) -> Id {
        self.sender
    }

    /// Our Recipient ID: the kid of the peer's requests.
    pub fn recipient(&self) -> Id {
        self.recipient
    }

    /// Leaves out sequence numbers, so that the next one sent is at least `sequence`. Never goes back.
    pub fn skip_to(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence);
    }

    /// Verifies and decrypts a request where it lies (RFC 8613, section 8.2). `ciphertext` is the payload of the
    /// message whose option this is, or what follows message_3 in it.
    ///
    /// # Errors
    /// [`Error::BadOption`], [`Error::ContextNotFound`], [`Error::Replay`], [`Error::Decryption`]. After the last,
    /// `ciphertext` is zeroed, after the others it is unchanged; the context never changes.
    pub fn open_request<'b>(
        &mut self,
        option: &OptionValue,
        ciphertext: &'b mut [u8],
    ) -> Result<(Inner<'b>, Correlation), Error> {
        let (Some(partial_iv), Some(kid)) = (option.partial_iv, option.kid) else { return Err(Error::BadOption) };
        if kid != self.recipient || option.kid_context.is_some() && option.kid_context != self.id_context {
            return Err(Error::ContextNotFound);
        }
        if !self.replay.is_fresh(partial_iv.sequence()) {
            return Err(Error::Replay);
        }
        let correlation = Correlation { kid, partial_iv, own_partial_iv: false };
        let inner = self.open(&self.nonce(&kid, &partial_iv), &correlation, ciphertext)?;
        self.replay.accept(partial_iv.sequence()); // not before: anybody can send a Partial IV
        Ok((inner, correlation))
    }

    /// Verifies and decrypts the response to a request where it lies (RFC 8613, section 8.4).
    ///
    /// # Errors
    /// [`Error::ContextNotFound`] if the response or the request is not of this context, [`Error::Decryption`].
    pub fn open_response<'b>(
        &self,
        option: &OptionValue,
        ciphertext: &'b mut [u8],
        correlation: &Correlation,
    ) -> Result<Inner<'b>, Error> {
        if correlation.kid != self.sender || option.kid.is_some_and(|kid| kid != self.recipient) {
            return Err(Error::ContextNotFound);
        }
        let nonce = match &option.partial_iv {
            Some(own) => self.nonce(&self.recipient, own),
            None => self.nonce(&correlation.kid, &correlation.partial_iv),
        };
        self.open(&nonce, correlation, ciphertext)
    }

    /// The option of the next request, and what its response will refer to.
    pub(super) fn next_request(&mut self) -> Result<(OptionValue, Correlation), Error> {
        let partial_iv = self.next_partial_iv()?;
        let option = OptionValue { partial_iv: Some(partial_iv), kid: Some(self.sender), kid_context: self.id_context };
        Ok((option, Correlation { kid: self.sender, partial_iv, own_partial_iv: false }))
    }

    pub(super) fn request_nonce(&self, correlation: &Correlation) -> Nonce {
        self.nonce(&correlation.kid, &correlation.partial_iv)
    }

    /// Encrypts a request: the first `length` bytes of `buffer`. Returns the length of the ciphertext with its tag.
    pub(super) fn seal_request(
        &self,
        correlation: &Correlation,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<usize, Error> {
        self.seal(&self.request_nonce(correlation), correlation, buffer, length)
    }

    /// The option of a response, and the nonce to seal it with.
    pub(super) fn next_response(&mut self, correlation: &Correlation) -> Result<(OptionValue, Nonce), Error> {
        if correlation.kid != self.recipient {
            return Err(Error::ContextNotFound);
        }
        if !correlation.own_partial_iv && self.replay.take_nonce(correlation.partial_iv.sequence()) {
            return Ok((OptionValue::default(), self.nonce(&correlation.kid, &correlation.partial_iv)));
        }
        let own = self.next_partial_iv()?;
        Ok((OptionValue { partial_iv: Some(own), ..OptionValue::default() }, self.nonce(&self.sender, &own)))
    }

    /// Encrypts the first `length` bytes of `buffer` and puts the tag behind them. Returns their length together.
    pub(super) fn seal(
        &self,
        nonce: &Nonce,
        correlation: &Correlation,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<usize, Error> {
        let (plaintext, behind) = buffer.split_at_mut_checked(length).ok_or(Error::NoSpace)?;
        let tag_field = behind.first_chunk_mut::<TAG_LENGTH>().ok_or(Error::NoSpace)?;
        // Fails for plaintexts beyond 65535 bytes only.
        let tag = AesCcm::new(&self.sender_key.into())
            .encrypt_in_place_detached(nonce.into(), &additional_data(correlation)?, plaintext)
            .map_err(|_| Error::NoSpace)?;
        *tag_field = tag.into();
        length.checked_add(TAG_LENGTH).ok_or(Error::NoSpace)
    }

    fn open<'b>(&self, nonce: &Nonce, correlation: &Correlation, ciphertext: &'b mut [u8]) -> Result<Inner<'b>, Error> {
        let (plaintext, tag) = ciphertext.split_last_chunk_mut::<TAG_LENGTH>().ok_or(Error::Decryption)?;
        let decrypted = AesCcm::new(&self.recipient_key.into()).decrypt_in_place_detached(
            nonce.into(),
            &additional_data(correlation)?,
            plaintext,
            GenericArray::from_slice(tag),
        );
        if decrypted.is_err() {
            plaintext.fill(0);
            return Err(Error::Decryption);
        }
        let (code, options_and_payload) = plaintext.split_first().ok_or(Error::Decryption)?;
        Ok(Inner::new_from_slice(*code, options_and_payload))
    }

    fn next_partial_iv(&mut self) -> Result<PartialIv, Error> {
        let partial_iv = PartialIv::new(self.next_sequence).ok_or(Error::Exhausted)?;
        self.next_sequence = self.next_sequence.saturating_add(1);
        Ok(partial_iv)
    }

    /// RFC 8613, section 5.2: length of the ID, the ID, the Partial IV, each padded on the left; then the Common IV.
    fn nonce(&self, id: &Id, partial_iv: &PartialIv) -> Nonce {
        let mut nonce = [0; 13];
        let [length, id_field @ .., _, _, _, _, _] = &mut nonce;
        *length = id.len() as u8;
        copy_to_end(id.as_slice(), id_field);
        copy_to_end(partial_iv.as_slice(), &mut nonce);
        nonce.iter_mut().zip(self.common_iv).for_each(|(byte, common)| *byte ^= common);
        nonce
    }

    fn derive_inner(secret: &[u8], salt: &[u8], id_context: Option<IdContext>, sender: Id, recipient: Id) -> Self {
        let mut this = Self {
            sender,
            recipient,
            id_context,
            sender_key: [0; 16],
            recipient_key: [0; 16],
            common_iv: [0; 13],
            next_sequence: 0,
            replay: ReplayWindow::default(),
        };
        let kdf = Hkdf::<Sha256>::new(Some(salt), secret);
        expand(&kdf, &sender, &id_context, "Key", &mut this.sender_key);
        expand(&kdf, &recipient, &id_context, "Key", &mut this.recipient_key);
        expand(&kdf, &Id::EMPTY, &id_context, "IV", &mut this.common_iv);
        this
    }
}

impl Drop for Context {
    #[inline(never)]
    fn drop(&mut self) {
        self.sender_key.zeroize();
        self.recipient_key.zeroize();
        self.common_iv.zeroize();
    }
}

/// Shows the IDs, never the keys.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("sender", &self.sender)
            .field("recipient", &self.recipient)
            .finish_non_exhaustive()
    }
}

const BSTR: u8 = 0x40;
const TSTR: u8 = 0x60;
const ARRAY: u8 = 0x80;
const NULL: u8 = 0xf6;
/// AES-CCM-16-64-128 in the COSE registry.
const ALGORITHM: u8 = 10;

/// RFC 8613, section 3.2.1, with `info = [id, id_context, alg_aead, type, L]`.
fn expand(kdf: &Hkdf<Sha256>, id: &Id, id_context: &Option<IdContext>, kind: &str, out: &mut [u8]) {
    let context_head = id_context.as_ref().map_or(NULL, |id_context| BSTR | id_context.len() as u8);
    let info: [&[u8]; 7] = [
        &[ARRAY | 5, BSTR | id.len() as u8],
        id.as_slice(),
        &[context_head],
        id_context.as_ref().map_or(&[], IdContext::as_slice),
        &[ALGORITHM, TSTR | kind.len() as u8],
        kind.as_bytes(),
        &[out.len() as u8],
    ];
    let expanded = kdf.expand_multi_info(&info, out);
    debug_assert!(expanded.is_ok(), "HKDF gives up to 255 * 32 bytes");
}

/// RFC 8613, section 5.4: the Enc_structure `["Encrypt0", h'', external_aad]`, where external_aad is the encoded
/// `[oscore_version, [alg_aead], request_kid, request_piv, options]`, and there are no Class I options.
fn additional_data(correlation: &Correlation) -> Result<Vec<u8, 31>, Error> {
    let (kid, partial_iv) = (correlation.kid.as_slice(), correlation.partial_iv.as_slice());
    let fixed = 7_u8; // bytes of external_aad that are not the kid or the Partial IV
    let external_length = fixed.saturating_add(kid.len() as u8).saturating_add(partial_iv.len() as u8);
    let parts = [
        &[ARRAY | 3, TSTR | 8],
        &b"Encrypt0"[..],
        &[BSTR, BSTR | external_length],
        &[ARRAY | 5, 1, ARRAY | 1, ALGORITHM],
        &[BSTR | kid.len() as u8],
        kid,
        &[BSTR | partial_iv.len() as u8],
        partial_iv,
        &[BSTR],
    ];
    let mut data = Vec::new();
    for part in parts {
        data.extend_from_slice(part).map_err(|_| Error::NoSpace)?;
    }
    Ok(data)
}

fn copy_to_end(from: &[u8], to: &mut [u8]) {
    to.iter_mut().rev().zip(from.iter().rev()).for_each(|(to, from)| *to = *from);
}

#[cfg(test)]
mod tests {
    use hexlit::hex;

    use super::*;

    const SECRET: [u8; 16] = hex!("0102030405060708090a0b0c0d0e0f10");
    const SALT: [u8; 8] = hex!("9e7ca92223786340");

    /// Both ends of a derivation vector: keys, Common IV, and the nonces of sequence number 0.
    fn check(
        [client, server]: [Context; 2],
        [client_key, server_key]: [[u8; 16]; 2],
        common_iv: Nonce,
        [client_nonce, server_nonce]: [Nonce; 2],
    ) {
        let zero = PartialIv::new(0).unwrap();
        for (ours, theirs) in [(&client, &server), (&server, &client)] {
            assert_eq!(ours.sender_key, theirs.recipient_key);
            assert_eq!(ours.common_iv, common_iv);
            assert_eq!(ours.nonce(&client.sender, &zero), client_nonce);
            assert_eq!(ours.nonce(&server.sender, &zero), server_nonce);
        }
        assert_eq!((client.sender_key, server.sender_key), (client_key, server_key));
    }

    #[test]
    fn rfc_8613_c_1_key_derivation_with_master_salt() {
        check(
            [
                Context::derive(&SECRET, &SALT, Id::EMPTY, Id::from(1)),
                Context::derive(&SECRET, &SALT, Id::from(1), Id::EMPTY),
            ],
            [hex!("f0910ed7295e6ad4b54fc793154302ff"), hex!("ffb14e093c94c9cac9471648b4f98710")],
            hex!("4622d4dd6d944168eefb54987c"),
            [hex!("4622d4dd6d944168eefb54987c"), hex!("4722d4dd6d944169eefb54987c")],
        );
    }

    #[test]
    fn rfc_8613_c_2_key_derivation_without_master_salt() {
        check(
            [
                Context::derive(&SECRET, &[], Id::from(0), Id::from(1)),
                Context::derive(&SECRET, &[], Id::from(1), Id::from(0)),
            ],
            [hex!("321b26943253c7ffb6003b0b64d74041"), hex!("e57b5635815177cd679ab4bcec9d7dda")],
            hex!("be35ae297d2dace910c52e99f9"),
            [hex!("bf35ae297d2dace910c52e99f9"), hex!("bf35ae297d2dace810c52e99f9")],
        );
    }

    #[test]
    fn rfc_8613_c_3_key_derivation_with_id_context() {
        let id_context = IdContext::new(&hex!("37cbf3210017a2d3")).unwrap();
        check(
            [
                Context::derive_with_id_context(&SECRET, &SALT, id_context, Id::EMPTY, Id::from(1)),
                Context::derive_with_id_context(&SECRET, &SALT, id_context, Id::from(1), Id::EMPTY),
            ],
            [hex!("af2a1300a5e95788b356336eeecd2b92"), hex!("e39a0c7c77b43f03b4b39ab9a268699f")],
            hex!("2ca58fb85ff1b81c0b7181b85e"),
            [hex!("2ca58fb85ff1b81c0b7181b85e"), hex!("2da58fb85ff1b81d0b7181b85e")],
        );
    }

    #[test]
    fn rfc_8613_c_4_and_c_5_additional_data() {
        for (kid, data) in [
            (Id::EMPTY, &hex!("8368456e63727970743040488501810a40411440")[..]),
            (Id::from(0), &hex!("8368456e63727970743040498501810a4100411440")),
        ] {
            let partial_iv = PartialIv::new(20).unwrap();
            assert_eq!(additional_data(&Correlation { kid, partial_iv, own_partial_iv: false }).unwrap(), data);
        }
    }

    #[test]
    fn the_longest_ids_fit() {
        let [sender, recipient] = [[1; 7], [2; 7]].map(|id| Id::new(&id).unwrap());
        let context =
            Context::derive_with_id_context(&SECRET, &SALT, IdContext::new(&[3; 8]).unwrap(), sender, recipient);
        let partial_iv = PartialIv::new(PartialIv::MAX).unwrap();
        let correlation = Correlation { kid: sender, partial_iv, own_partial_iv: false };
        let data = additional_data(&correlation).unwrap();
        assert_eq!(data.len(), 31);
        assert_eq!(data[11], 0x40 | 19, "length of external_aad");
        let nonce = context.nonce(&sender, &partial_iv);
        let expected = [7, 1, 1, 1, 1, 1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(nonce.iter().zip(context.common_iv).map(|(byte, common)| byte ^ common).eq(expected));
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", Context::derive(&SECRET, &SALT, Id::EMPTY, Id::from(1)));
        assert_eq!(shown, "Context { sender: h'', recipient: h'01', .. }");
    }

    #[test]
    fn sequence_numbers_end_and_never_go_back() {
        let mut context = Context::derive(&SECRET, &SALT, Id::EMPTY, Id::from(1));
        context.skip_to(PartialIv::MAX);
        context.skip_to(0);
        assert_eq!(context.next_partial_iv().unwrap().as_slice(), [0xff; 5]);
        assert_eq!(context.next_partial_iv(), Err(Error::Exhausted));
        assert_eq!(context.next_partial_iv(), Err(Error::Exhausted));
    }
}
