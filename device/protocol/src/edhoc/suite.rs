//! The algorithms of cipher suite 2, for lakers and for what is decrypted here (RFC 9528 sections 4 and 5).
//!
//! lakers takes its cryptography through a trait. This implementation has no state and no random numbers: keys are
//! made before lakers sees a message, and lakers makes none.

use aes::Aes128;
use ccm::aead::{AeadInPlace, KeyInit};
use ccm::consts::{U8, U13};
use hkdf::{Hkdf, HkdfExtract};
use lakers::{AES_CCM_TAG_LEN, MAX_BUFFER_LEN, MAX_KDF_CONTEXT_LEN, MAX_MESSAGE_SIZE_LEN};
use lakers::{BytesHashLen, BytesMaxBuffer, BytesMaxInfoBuffer, CryptoTrait, EDHOCError, EdhocMessageBuffer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::MAX_CCS;
use super::error::Error;
use crate::curve;
use crate::key::PublicKey;

/// The longest byte string that a message may be: lakers writes its length into one byte, and has buffers for a message and for
/// a transcript (TH, plaintext and credential). Features of lakers-shared set their sizes: 255, or 177 on an AVR.
pub(super) const MAX_LENGTH: usize = {
    let (message, transcript) = (MAX_MESSAGE_SIZE_LEN - 2, MAX_BUFFER_LEN - 34 - MAX_CCS);
    let buffer = if message < transcript { message } else { transcript };
    if buffer < 255 { buffer } else { 255 }
};
const _: () = assert!(MAX_LENGTH >= 177 && MAX_BUFFER_LEN >= MAX_MESSAGE_SIZE_LEN && MAX_KDF_CONTEXT_LEN >= 255);

type AesCcm = ccm::Ccm<Aes128, U8, U13>;

/// A 32-byte digest, pseudorandom key, scalar or coordinate.
type Bytes32 = [u8; 32];

/// The EDHOC-KDF labels of the key and the IV of a message (RFC 9528 section 4.1.2).
#[derive(Clone, Copy)]
pub(super) struct AeadLabels {
    key: u8,
    iv: u8,
}

pub(super) const MESSAGE_3: AeadLabels = AeadLabels { key: 3, iv: 4 };
pub(super) const MESSAGE_4: AeadLabels = AeadLabels { key: 8, iv: 9 };

/// SHA-256 of a whole message, as long as it may be.
pub(super) fn sha256(message: &[u8]) -> Bytes32 {
    Sha256::digest(message).into()
}

/// The transcript hash TH_2 (RFC 9528 section 5.3.2).
pub(super) fn th_2(g_y: &Bytes32, h_message_1: &Bytes32) -> Bytes32 {
    const BSTR_32: [u8; 2] = [0x58, 32];
    let hash = Sha256::new().chain_update(BSTR_32).chain_update(g_y).chain_update(BSTR_32).chain_update(h_message_1);
    hash.finalize().into()
}

/// PRK_2e, from our ephemeral private key and the peer's ephemeral key (RFC 9528 section 4.1.1.1).
pub(super) fn prk_2e(ours: &Bytes32, theirs: &PublicKey, th_2: &Bytes32) -> Zeroizing<Bytes32> {
    let mut suite = Suite2(&[*theirs]);
    let g_xy = Zeroizing::new(suite.p256_ecdh(ours, theirs.x()));
    Zeroizing::new(suite.hkdf_extract(th_2, &g_xy))
}

/// Encrypts plaintext_2 or decrypts ciphertext_2: both are an XOR with the key stream (RFC 9528 section 5.3.2).
///
/// Nothing is authenticated by it. Whoever is on the line can flip each bit of the plaintext.
pub(super) fn xor_key_stream_2(prk_2e: &Bytes32, th_2: &Bytes32, mut text: EdhocMessageBuffer) -> EdhocMessageBuffer {
    let mut key_stream = Zeroizing::new([0; MAX_MESSAGE_SIZE_LEN]);
    if let Some(key_stream) = key_stream.get_mut(..text.len) {
        kdf(prk_2e, 0, Some(th_2), key_stream);
        text.content.iter_mut().zip(key_stream).for_each(|(byte, key)| *byte ^= *key);
    }
    text
}

/// Decrypts the ciphertext of message_3 or message_4 (RFC 9528 sections 5.4.3 and 5.5.3).
///
/// # Errors
/// [`Error::Malformed`] if there is no room for a tag, or more than lakers' buffers hold; [`Error::Authentication`].
pub(super) fn open(
    prk: &Bytes32,
    labels: AeadLabels,
    th: &Bytes32,
    ciphertext: &[u8],
) -> Result<EdhocMessageBuffer, Error> {
    let (mut key, mut iv) = (Zeroizing::new([0; 16]), Zeroizing::new([0; 13]));
    kdf(prk, labels.key, Some(th), &mut *key);
    kdf(prk, labels.iv, Some(th), &mut *iv);
    let ciphertext = EdhocMessageBuffer::new_from_slice(ciphertext).map_err(|_| Error::Malformed)?;
    Suite2(&[]).aes_ccm_decrypt_tag_8(&key, &iv, &enc_structure(th), &ciphertext).map_err(|error| match error {
        EDHOCError::MacVerificationFailed => Error::Authentication,
        _ => Error::Malformed,
    })
}

/// EDHOC_Exporter with an empty context (RFC 9528 section 4.2.1): at most 23 bytes.
pub(super) fn export(prk_exporter: &Bytes32, label: u8, output: &mut [u8]) {
    kdf(prk_exporter, label, None, output);
}

/// EDHOC-KDF (RFC 9528 section 4.1.2) of at most 255 bytes: `info = (label, context, length)`, where the context is a
/// transcript hash or nothing.
fn kdf(prk: &Bytes32, label: u8, context: Option<&Bytes32>, output: &mut [u8]) {
    let (head, context): (&[u8], &[u8]) = match context {
        Some(hash) => (&[0x58, 32], hash),
        None => (&[0x40], &[]),
    };
    let length = output.len() as u8;
    let long_length = [0x18, length];
    let length = long_length.get(usize::from(length < 24)..).unwrap_or_default();
    expand(prk, &[&[label], head, context, length], output);
}

fn expand(prk: &Bytes32, info: &[&[u8]], output: &mut [u8]) {
    let done = Hkdf::<Sha256>::from_prk(prk).map(|hkdf| hkdf.expand_multi_info(info, output));
    if !matches!(done, Ok(Ok(()))) {
        unreachable!("a key of 32 bytes expands to 8160, and no buffer here has as many");
    }
}

/// `["Encrypt0", h'', TH]` (RFC 9052 section 5.3).
fn enc_structure(th: &Bytes32) -> [u8; 45] {
    let mut structure = [0; 45];
    let bytes = b"\x83\x68Encrypt0\x40\x58\x20".iter().chain(th);
    structure.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    structure
}

/// Cipher suite 2 of EDHOC over the RustCrypto crates, and [`curve`].
///
/// lakers names the points of the peer by their x. The y of those that are here need not be computed again.
#[derive(Debug)]
pub(super) struct Suite2<'a>(pub(super) &'a [PublicKey]);

impl CryptoTrait for Suite2<'_> {
    fn sha256_digest(&mut self, message: &BytesMaxBuffer, length: usize) -> BytesHashLen {
        sha256(message.get(..length).unwrap_or(message))
    }

    fn hkdf_expand(
        &mut self,
        prk: &BytesHashLen,
        info: &BytesMaxInfoBuffer,
        info_length: usize,
        length: usize,
    ) -> BytesMaxBuffer {
        let mut output = [0; MAX_BUFFER_LEN];
        if let (Some(info), Some(output)) = (info.get(..info_length), output.get_mut(..length)) {
            expand(prk, &[info], output);
        }
        output
    }

    fn hkdf_extract(&mut self, salt: &BytesHashLen, key_material: &Bytes32) -> BytesHashLen {
        let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
        extract.input_ikm(key_material);
        extract.finalize().0.into()
    }

    fn aes_ccm_encrypt_tag_8(
        &mut self,
        key: &[u8; 16],
        iv: &[u8; 13],
        associated: &[u8],
        plaintext: &EdhocMessageBuffer,
    ) -> EdhocMessageBuffer {
        let mut text = *plaintext;
        let body = text.content.get_mut(..plaintext.len).unwrap_or_default();
        let Ok(tag) = AesCcm::new(key.into()).encrypt_in_place_detached(iv.into(), associated, body) else {
            unreachable!("a nonce of 13 bytes allows 64 KiB, and no buffer here has as many");
        };
        // Our messages leave half of the buffer free; without its tag, one would fail at the peer.
        let _ = text.extend_from_slice(&tag);
        text
    }

    fn aes_ccm_decrypt_tag_8(
        &mut self,
        key: &[u8; 16],
        iv: &[u8; 13],
        associated: &[u8],
        ciphertext: &EdhocMessageBuffer,
    ) -> Result<EdhocMessageBuffer, EDHOCError> {
        let mut text = *ciphertext;
        text.len = ciphertext.len.checked_sub(AES_CCM_TAG_LEN).ok_or(EDHOCError::ParsingError)?;
        let (body, rest) = text.content.split_at_mut_checked(text.len).ok_or(EDHOCError::ParsingError)?;
        let tag = rest.get(..AES_CCM_TAG_LEN).ok_or(EDHOCError::ParsingError)?;
        AesCcm::new(key.into())
            .decrypt_in_place_detached(iv.into(), associated, body, tag.into())
            .map_err(|_| EDHOCError::MacVerificationFailed)?;
        Ok(text)
    }

    /// The trait leaves no room for an error. Should a bad x ever come this far, past all checks of the messages, the
    /// answer is one that the peer cannot know, and the MAC fails.
    fn p256_ecdh(&mut self, private: &Bytes32, x: &Bytes32) -> Bytes32 {
        let known = self.0.iter().find(|key| key.x() == x).map(PublicKey::point);
        let point = known.or_else(|| curve::point_of(x));
        point.and_then(|point| curve::shared_secret(private, &point)).unwrap_or_else(|| {
            let hash = Sha256::new().chain_update(b"no such point").chain_update(private).chain_update(x);
            hash.finalize().into()
        })
    }

    fn get_random_byte(&mut self) -> u8 {
        unreachable!("connection identifiers are chosen before lakers is called")
    }

    fn p256_generate_key_pair(&mut self) -> (Bytes32, Bytes32) {
        unreachable!("ephemeral keys are made before lakers is called")
    }
}

#[cfg(test)]
mod tests {
    use hexlit::hex;

    use super::*;
    use crate::key::PrivateKey;

    // Out of the trace of RFC 9529 section 3.
    const PRK_2E: Bytes32 = hex!("5aa0d69f3e3d1e0c479f0b8a486690c9802630c3466b1dc92371c982563170b5");
    const TH_2: Bytes32 = hex!("356efd53771425e008f3fe3a86c83ff4c6b16e57028ff39d5236c182b202084b");
    const PRK_EXPORTER: Bytes32 = hex!("e14d06699cee248c5a04bf9227bbcd4ce394de7dcb56db43555474171e6446db");
    const X: Bytes32 = hex!("368ec1f69aeb659ba37d5a8d45b21bdc0299dceaa8ef235f3ca42ce3530f9525");
    const G_Y: Bytes32 = hex!("419701d7f00a26c2dc587a36dd752549f33763c893422c8ea0f955a13a4ff5d5");

    /// An x with some bits changed, so that no point has it.
    fn off_curve() -> Bytes32 {
        let changed = |bits: u8| core::array::from_fn(|at| if at == 0 { X[0] ^ bits } else { X[at] });
        (1..=255).map(changed).find(|x| curve::point_of(x).is_none()).unwrap()
    }

    #[test]
    fn key_schedule_up_to_plaintext_2() {
        let h_message_1 = hex!("ca02cabda5a8902749b42f711050bb4dbd52153e87527594b39f50cdf019888c");
        assert_eq!(th_2(&G_Y, &h_message_1), TH_2);
        assert_eq!(*prk_2e(&X, &PublicKey::from_x(&G_Y).unwrap(), &TH_2), PRK_2E);
        let ciphertext_2 = EdhocMessageBuffer::new_from_slice(&hex!("9862a1eef9e0e7e1886fcd")).unwrap();
        let plaintext_2 = xor_key_stream_2(&PRK_2E, &TH_2, ciphertext_2);
        assert_eq!(plaintext_2.as_slice(), hex!("2732480943305c899f5c54"));
    }

    #[test]
    fn exporter_gives_the_oscore_secrets() {
        let (mut secret, mut salt) = ([0; 16], [0; 8]);
        export(&PRK_EXPORTER, 0, &mut secret);
        export(&PRK_EXPORTER, 1, &mut salt);
        assert_eq!(secret, hex!("f9868f6a3aca78a05d1485b35030b162"));
        assert_eq!(salt, hex!("ada24c7dbfc85eeb"));
    }

    #[test]
    fn key_streams_of_24_bytes_and_more_encode_their_length_in_two_bytes() {
        // lakers encodes info on its own
        let mut context = [0; lakers::MAX_KDF_CONTEXT_LEN];
        context[..32].copy_from_slice(&TH_2);
        for length in [1, 23, 24, 223] {
            let (info, info_length) = lakers::encode_info(0, &context, 32, length);
            let theirs = Suite2(&[]).hkdf_expand(&PRK_2E, &info, info_length, length);
            let zeros = EdhocMessageBuffer::new_from_slice(&vec![0; length]).unwrap();
            assert_eq!(xor_key_stream_2(&PRK_2E, &TH_2, zeros).as_slice(), &theirs[..length]);
        }
    }

    #[test]
    fn a_point_off_the_curve_gives_a_secret_that_only_we_know() {
        let off_curve = off_curve();
        let secret = Suite2(&[]).p256_ecdh(&X, &off_curve);
        assert_ne!(secret, [0; 32]);
        assert_ne!(secret, Suite2(&[]).p256_ecdh(&PRK_2E, &off_curve));
    }

    #[test]
    fn a_point_that_is_known_is_the_one_that_its_x_gives() {
        let (known, other) = (PublicKey::from_x(&G_Y).unwrap(), *PrivateKey::from_bytes(&X).unwrap().public());
        let expected = Suite2(&[]).p256_ecdh(&X, &G_Y);
        for keys in [&[known][..], &[other, known], &[other]] {
            assert_eq!(Suite2(keys).p256_ecdh(&X, &G_Y), expected, "{keys:?}");
        }
    }

    #[test]
    fn ciphertexts_too_short_or_too_long_are_malformed() {
        for length in [0, 1, 7, lakers::MAX_MESSAGE_SIZE_LEN + 1] {
            let opened = open(&PRK_2E, MESSAGE_3, &TH_2, &vec![0; length]);
            assert_eq!(opened, Err(Error::Malformed), "{length}");
        }
        for length in [8, 9, lakers::MAX_MESSAGE_SIZE_LEN] {
            let opened = open(&PRK_2E, MESSAGE_3, &TH_2, &vec![0; length]);
            assert_eq!(opened, Err(Error::Authentication), "{length}");
        }
    }
}
