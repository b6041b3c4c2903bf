//! A peer that is not built on lakers: the key schedule as RFC 9528 sections 4 and 5 write it, with any plaintext.
//!
//! It shows that our messages are the RFC's, and sends what no honest implementation would.
#![allow(dead_code)] // each test binary uses another part

use aes::Aes128;
use ccm::aead::{AeadInPlace, KeyInit};
use ccm::consts::{U8, U13};
use edhoc_oscore::key::{PrivateKey, PublicKey};
use edhoc_oscore::oscore::Context;
use hkdf::{Hkdf, HkdfExtract};
use p256::elliptic_curve::point::DecompressPoint;
use p256::{AffinePoint, SecretKey};
use rand_core::{CryptoRng, Error, RngCore};
use sha2::{Digest, Sha256};

/// Random numbers that are the same in each run.
#[derive(Clone)]
pub(crate) struct TestRng {
    seed: u64,
    block: u64,
}

impl TestRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, block: 0 }
    }

    pub(crate) fn key(&mut self) -> PrivateKey {
        PrivateKey::generate(self)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next_u32()).unwrap() % bound
    }
}

impl RngCore for TestRng {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let block = sha256(&[&self.seed.to_be_bytes(), &self.block.to_be_bytes()]);
            chunk.copy_from_slice(&block[..chunk.len()]);
            self.block += 1;
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for TestRng {}

/// Who a peer says it is: ID_CRED_x in full, as the plaintext has it, and CRED_x.
#[derive(Clone)]
pub(crate) struct Claim {
    pub(crate) id_cred: Vec<u8>,
    pub(crate) compact: Vec<u8>,
    pub(crate) cred: Vec<u8>,
}

impl Claim {
    pub(crate) fn by_value(cred: &[u8]) -> Self {
        let id_cred = [&[0xa1, 14], cred].concat();
        Self { compact: id_cred.clone(), id_cred, cred: cred.to_vec() }
    }

    /// By a kid that is no small integer.
    pub(crate) fn by_kid(kid: &[u8], cred: &[u8]) -> Self {
        Self { id_cred: [&[0xa1, 4], &bstr(kid)[..]].concat(), compact: bstr(kid), cred: cred.to_vec() }
    }

    pub(crate) fn of(key: &PublicKey) -> Self {
        Self::by_kid(&key.kid(), &key.ccs())
    }
}

/// An initiator, up to message_1.
pub(crate) struct ForeignInitiator {
    x: PrivateKey,
    pub(crate) message_1: Vec<u8>,
}

impl ForeignInitiator {
    /// `c_i` and `ead_1` are encoded.
    pub(crate) fn new(c_i: &[u8], ead_1: &[u8], rng: &mut TestRng) -> Self {
        let x = rng.key();
        let message_1 = [&[3, 2], &bstr(x.public().x())[..], c_i, ead_1].concat();
        Self { x, message_1 }
    }

    pub(crate) fn read_message_2(&self, message_2: &[u8], cred_r: &PublicKey) -> AfterMessage2 {
        let (g_y, ciphertext_2) = message_2[2..].split_first_chunk::<32>().unwrap();
        let th_2 = sha256(&[&bstr(g_y), &bstr(&sha256(&[&self.message_1]))]);
        let prk_2e = extract(&th_2, &ecdh(&self.x, g_y));
        let plaintext_2 = xor(ciphertext_2, &kdf(&prk_2e, 0, &th_2, ciphertext_2.len()));
        let salt = kdf(&prk_2e, 1, &th_2, 32);
        let prk_3e2m = extract(&salt, &ecdh(&self.x, cred_r.x()));
        let th_3 = sha256(&[&bstr(&th_2), &plaintext_2, &cred_r.ccs()]);
        AfterMessage2 { g_y: *g_y, plaintext_2, prk_3e2m, th_3 }
    }
}

/// An initiator that can send any message_3. It needs no static key to encrypt one.
pub(crate) struct AfterMessage2 {
    g_y: [u8; 32],
    pub(crate) plaintext_2: Vec<u8>,
    prk_3e2m: [u8; 32],
    th_3: [u8; 32],
}

impl AfterMessage2 {
    /// The plaintext of an honest message_3, with an encoded EAD_3.
    pub(crate) fn plaintext_3(&self, own: &PrivateKey, claim: &Claim, ead_3: &[u8]) -> Vec<u8> {
        let salt = kdf(&self.prk_3e2m, 5, &self.th_3, 32);
        let prk_4e3m = extract(&salt, &ecdh(own, &self.g_y));
        let context_3 = [&claim.id_cred, &bstr(&self.th_3), &claim.cred, ead_3].concat();
        [&claim.compact, &bstr(&kdf(&prk_4e3m, 6, &context_3, 8)), ead_3].concat()
    }

    pub(crate) fn message_3(&self, plaintext_3: &[u8]) -> Vec<u8> {
        bstr(&seal(&self.prk_3e2m, (3, 4), &self.th_3, plaintext_3))
    }
}

/// A responder that has message_1 and can send any message_2. It needs no static key for that either.
pub(crate) struct ForeignResponder {
    y: PrivateKey,
    g_x: [u8; 32],
    th_2: [u8; 32],
    prk_2e: [u8; 32],
}

impl ForeignResponder {
    pub(crate) fn new(message_1: &[u8], rng: &mut TestRng) -> Self {
        let y = rng.key();
        let g_x = message_1[4..36].try_into().unwrap();
        let th_2 = sha256(&[&bstr(y.public().x()), &bstr(&sha256(&[message_1]))]);
        let prk_2e = extract(&th_2, &ecdh(&y, &g_x));
        Self { y, g_x, th_2, prk_2e }
    }

    /// The plaintext of an honest message_2, with encoded C_R and EAD_2.
    pub(crate) fn plaintext_2(&self, own: &PrivateKey, c_r: &[u8], claim: &Claim, ead_2: &[u8]) -> Vec<u8> {
        let context_2 = [c_r, &claim.id_cred, &bstr(&self.th_2), &claim.cred, ead_2].concat();
        [c_r, &claim.compact, &bstr(&kdf(&self.prk_3e2m(own), 2, &context_2, 8)), ead_2].concat()
    }

    pub(crate) fn message_2(&self, plaintext_2: &[u8]) -> Vec<u8> {
        let ciphertext_2 = xor(plaintext_2, &kdf(&self.prk_2e, 0, &self.th_2, plaintext_2.len()));
        bstr(&[self.y.public().x(), &ciphertext_2[..]].concat())
    }

    /// message_4 with any plaintext, after a message_3 by kid.
    pub(crate) fn message_4(
        &self,
        own: &PrivateKey,
        plaintext_2: &[u8],
        message_3: &[u8],
        peer: &PublicKey,
        plaintext_4: &[u8],
    ) -> Vec<u8> {
        let prk_3e2m = self.prk_3e2m(own);
        let th_3 = sha256(&[&bstr(&self.th_2), plaintext_2, &own.public().ccs()]);
        let plaintext_3 = open(&prk_3e2m, (3, 4), &th_3, &message_3[2..]);
        let prk_4e3m = extract(&kdf(&prk_3e2m, 5, &th_3, 32), &ecdh(&self.y, peer.x()));
        let th_4 = sha256(&[&bstr(&th_3), &plaintext_3, &peer.ccs()]);
        bstr(&seal(&prk_4e3m, (8, 9), &th_4, plaintext_4))
    }

    fn prk_3e2m(&self, own: &PrivateKey) -> [u8; 32] {
        extract(&kdf(&self.prk_2e, 1, &self.th_2, 32), &ecdh(own, &self.g_x))
    }
}

/// A foreign CCS: `{? 2: sub, 8: {1: {1: 2, ? 2: kid, -1: 1, -2: x, ? -3: y}}}`.
pub(crate) fn foreign_ccs(subject: Option<&str>, kid: Option<&[u8]>, key: &PublicKey, y: bool) -> Vec<u8> {
    let subject_entry = subject.map_or(vec![], |text| [&[2], &head(3, text.len())[..], text.as_bytes()].concat());
    let kid_entry = kid.map_or(vec![], |kid| [&[2], &bstr(kid)[..]].concat());
    let y_entry = if y { [&[0x22], &bstr(key.y())[..]].concat() } else { vec![] };
    let parameters = 0xa3 + u8::from(kid.is_some()) + u8::from(y);
    [
        &[0xa1 + u8::from(subject.is_some())][..],
        &subject_entry,
        &[8, 0xa1, 1, parameters, 1, 2],
        &kid_entry,
        &[0x20, 1, 0x21],
        &bstr(key.x()),
        &y_entry,
    ]
    .concat()
}

/// Asserts that two contexts protect for each other, in both directions.
pub(crate) fn assert_matching(client: &mut Context, server: &mut Context) {
    let packet = |payload: &[u8]| {
        let mut packet = coap_lite::Packet::new();
        packet.payload = payload.to_vec();
        packet
    };
    let (mut outer, mut scratch) = (coap_lite::Packet::new(), [0; 64]);
    let asked = client.protect_request(&packet(b"ping"), &mut outer, &mut scratch).unwrap();
    let (_, correlation) = server.unprotect_request(&outer, &mut scratch).unwrap();
    let mut outer = coap_lite::Packet::new();
    server.protect_response(&packet(b"pong"), &mut outer, &mut scratch, &correlation).unwrap();
    client.unprotect_response(&outer, &mut scratch, &asked).unwrap();
}

/// An x-coordinate that no point of P-256 has: that of a key, with some bits changed.
pub(crate) fn off_curve() -> [u8; 32] {
    let x = *TestRng::new(1).key().public().x();
    let changed = |bits: u8| [&[x[0] ^ bits], &x[1..]].concat().try_into().unwrap();
    (1..=255).map(changed).find(|x| PublicKey::from_x(x).is_err()).unwrap()
}

pub(crate) const UNSIGNED: u8 = 0;
pub(crate) const NEGATIVE: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
pub(crate) const ARRAY: u8 = 4;
pub(crate) const TAG: u8 = 6;

/// The head of a CBOR item (RFC 8949 section 3) and, of a string, what is in it: something to change in a message.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) major: u8,
    pub(crate) argument: u64,
    pub(crate) contents: Vec<u8>,
    /// Not in its shortest form.
    pub(crate) is_long: bool,
    /// Of indefinite length, with a break behind the contents.
    pub(crate) is_endless: bool,
}

impl Head {
    pub(crate) fn new(major: u8, argument: u64) -> Self {
        Self { major, argument, contents: Vec::new(), is_long: false, is_endless: false }
    }

    pub(crate) fn string(contents: &[u8]) -> Self {
        Self { contents: contents.to_vec(), ..Self::new(BYTES, contents.len() as u64) }
    }

    /// Cuts the string, or repeats what is in it.
    pub(crate) fn resize(&mut self, length: usize) {
        let contents = self.contents.iter().copied().cycle().take(length);
        (self.contents, self.argument) = (contents.collect(), length as u64);
    }

    pub(crate) fn encoded(&self) -> Vec<u8> {
        let (initial, argument) = (self.major << 5, self.argument.to_be_bytes());
        let bytes = match self.argument {
            0..24 => 0,
            24..0x100 => 1,
            0x100..0x1_0000 => 2,
            0x1_0000..0x1_0000_0000 => 4,
            _ => 8,
        };
        let bytes = if self.is_long { usize::max(1, 2 * bytes) } else { bytes };
        match (self.is_endless, bytes) {
            (true, _) => [&[initial | 31], &self.contents[..], &[0xff]].concat(),
            (false, 0) => [&[initial | argument[7]], &self.contents[..]].concat(),
            (false, _) => {
                let information = 24 + u8::try_from(bytes.ilog2()).unwrap();
                [&[initial | information], &argument[8 - bytes..], &self.contents].concat()
            }
        }
    }

    /// The heads of a valid message or plaintext, one after the other, whatever is inside of what.
    fn all_of(mut valid: &[u8]) -> Vec<Self> {
        let mut heads = Vec::new();
        while let [initial, rest @ ..] = valid {
            let (argument, rest) = match initial & 31 {
                short @ ..24 => (u64::from(short), rest),
                24 => (u64::from(rest[0]), &rest[1..]),
                25 => (u64::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                _ => panic!("no valid message has such a head"),
            };
            let mut head = Self::new(initial >> 5, argument);
            let length = if matches!(head.major, BYTES | TEXT) { usize::try_from(argument).unwrap() } else { 0 };
            (head.contents, valid) = (rest[..length].to_vec(), &rest[length..]);
            heads.push(head);
        }
        heads
    }
}

/// A valid message or plaintext, with a change of its head number `at`.
pub(crate) fn with(valid: &[u8], at: usize, change: impl FnOnce(&mut Head)) -> Vec<u8> {
    let mut heads = Head::all_of(valid);
    change(&mut heads[at]);
    heads.iter().flat_map(Head::encoded).collect()
}

/// The valid message with these heads in place of that one.
pub(crate) fn put(valid: &[u8], at: usize, instead: &[Head]) -> Vec<u8> {
    let mut heads = Head::all_of(valid);
    heads.splice(at..=at, instead.iter().cloned());
    heads.iter().flat_map(Head::encoded).collect()
}

pub(crate) fn head(major: u8, length: usize) -> Vec<u8> {
    match length {
        0..24 => vec![major << 5 | u8::try_from(length).unwrap()],
        24..256 => vec![major << 5 | 24, u8::try_from(length).unwrap()],
        _ => [&[major << 5 | 25], &u16::try_from(length).unwrap().to_be_bytes()[..]].concat(),
    }
}

pub(crate) fn bstr(bytes: &[u8]) -> Vec<u8> {
    [&head(2, bytes.len()), bytes].concat()
}

pub(crate) fn xor(text: &[u8], key_stream: &[u8]) -> Vec<u8> {
    text.iter().zip(key_stream).map(|(byte, key)| byte ^ key).collect()
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(parts.concat()).into()
}

fn extract(salt: &[u8], key_material: &[u8]) -> [u8; 32] {
    let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
    extract.input_ikm(key_material);
    extract.finalize().0.into()
}

fn kdf(prk: &[u8], label: u8, context: &[u8], length: usize) -> Vec<u8> {
    let info = [&[label], &bstr(context)[..], &head(0, length)].concat();
    let mut output = vec![0; length];
    Hkdf::<Sha256>::from_prk(prk).unwrap().expand(&info, &mut output).unwrap();
    output
}

fn ecdh(private: &PrivateKey, x: &[u8; 32]) -> [u8; 32] {
    let secret = SecretKey::from_slice(private.as_bytes()).unwrap();
    let point = AffinePoint::decompress(x.into(), 1.into()).unwrap();
    (*p256::ecdh::diffie_hellman(secret.to_nonzero_scalar(), point).raw_secret_bytes()).into()
}

type AesCcm = ccm::Ccm<Aes128, U8, U13>;

fn aead(prk: &[u8], (key, iv): (u8, u8), th: &[u8]) -> (AesCcm, Vec<u8>, Vec<u8>) {
    let cipher = AesCcm::new_from_slice(&kdf(prk, key, th, 16)).unwrap();
    let associated = [b"\x83\x68Encrypt0\x40", &bstr(th)[..]].concat();
    (cipher, kdf(prk, iv, th, 13), associated)
}

fn seal(prk: &[u8], labels: (u8, u8), th: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let (cipher, iv, associated) = aead(prk, labels, th);
    let mut text = plaintext.to_vec();
    let tag = cipher.encrypt_in_place_detached(iv.as_slice().into(), &associated, &mut text).unwrap();
    [&text[..], &tag].concat()
}

fn open(prk: &[u8], labels: (u8, u8), th: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    let (cipher, iv, associated) = aead(prk, labels, th);
    let (text, tag) = ciphertext.split_at(ciphertext.len() - 8);
    let mut text = text.to_vec();
    cipher.decrypt_in_place_detached(iv.as_slice().into(), &associated, &mut text, tag.into()).unwrap();
    text
}
