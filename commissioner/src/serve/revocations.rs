//! What a server tells: the signed list to anyone, and to each registered device which tokens and certificates are revoked.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use minicbor::Encoder;
use protocol::key::PublicKey;
use sha2::{Digest, Sha256};

use crate::registry::{self, AuditSummary, Registry};

/// A token hash (RFC 9770 section 4): an identifier of SHA-256, and the hash, 33 bytes.
pub type TokenHash = [u8; 33];

/// SHA-256 in the "Named Information Hash Algorithm" registry (RFC 6920 section 9.4).
const SHA_256: u8 = 1;
/// The key of `full_set` (RFC 9770 section 15.3).
const FULL_SET: u8 = 0;

/// The registry as a server shows it. About 150 bytes for each device.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    /// The signed list.
    pub list: Option<Vec<u8>>,
    /// The keys of registered devices: those that are mine.
    registered: HashMap<[u8; 8], Vec<PublicKey>>,
    /// The hashes, in order.
    hashes: Vec<TokenHash>,
    /// As of this entry of the audit trail.
    pub as_of: Option<AuditSummary>,
}

/// The hash of a CWT: over the base64url form, without padding, of its bytes.
pub fn token_hash(object: &[u8]) -> TokenHash {
    let mut hash = [SHA_256; 33];
    hash[1..].copy_from_slice(&Sha256::digest(URL_SAFE_NO_PAD.encode(object)));
    hash
}

impl Revocations {
    /// Reads them from the registry as it is now.
    pub async fn read(registry: &Registry) -> Result<Self, registry::Error> {
        let mut reading = registry.read().await?;
        reading.is_sound().await?;
        let as_of = reading.head().await?;
        let list = reading.newest_signed_list().await?;
        let mut this = Self { list, as_of: Some(as_of), ..Self::default() };
        for key in reading.my_keys().await? {
            this.register(key);
        }
        let certificates = reading.revoked_certificates().await?;
        let tokens = reading.revoked_tokens(registry.now()).await?;
        this.hashes = certificates.iter().chain(&tokens).map(|object| token_hash(object)).collect();
        this.hashes.sort_unstable();
        Ok(this)
    }

    /// The registered devices' keys with this kid.
    pub fn key_of(&self, kid: &[u8]) -> Option<PublicKey> {
        let kid: [u8; 8] = kid.try_into().ok()?;
        self.registered.get(&kid)?.first().copied()
    }

    /// Whether this is the key of a registered device.
    pub fn is_registered(&self, key: &PublicKey) -> bool {
        self.registered.get(&key.kid()).is_some_and(|keys| keys.contains(key))
    }

    /// The answer to a full query (RFC 9770 section 7): the hashes that pertain to the device with this key. All devices of
    /// an issuer may meet each other's certificates, so each of them is told of all that are revoked.
    pub fn full_set(&self, key: &PublicKey) -> Option<Vec<u8>> {
        if !self.is_registered(key) {
            return None;
        }
        let mut encoder = Encoder::new(Vec::new());
        let head = encoder.map(1).and_then(|encoder| encoder.u8(FULL_SET)?.array(self.hashes.len() as u64));
        let encoded = head.and_then(|encoder| {
            self.hashes.iter().try_for_each(|hash| encoder.bytes(hash).map(drop))?;
            Ok(encoder)
        });
        encoded.expect("a vector takes everything");
        Some(encoder.into_writer())
    }

    /// How many hashes there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    fn register(&mut self, key: PublicKey) {
        self.registered.entry(key.kid()).or_default().push(key);
    }

    #[cfg(test)]
    pub(super) fn of(registered: &[PublicKey], revoked: &[&[u8]], list: Option<&[u8]>) -> Self {
        let mut this = Self { list: list.map(<[u8]>::to_vec), ..Self::default() };
        registered.iter().for_each(|key| this.register(*key));
        this.hashes = revoked.iter().map(|object| token_hash(object)).collect();
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{
        Place,
        testing::{Fixture, id, key, seen},
    };

    /// Computed with Python's hashlib and base64 over the CWT of RFC 9770, figure 3.
    #[test]
    fn a_token_hash_names_its_algorithm() {
        let cwt = "d08343a1010aa2044c53796d6d65747269633132\
                   38054d99a0d7846e762c49ffe8a63e0b5858b918a11fd81e438b7f973d9e2e119bcb22424ba0f38a80f27562f400ee1d0d6c\
                   0fdb559c02421fd384fc2ebe22d7071378b0ea7428fff157444d45f7e6afcda1aae5f6495830c58627087fc5b4974f319a87\
                   07a635dd643b";
        let hash = token_hash(&hex::decode(cwt).unwrap());
        assert_eq!(hex::encode(hash), "01da994430dc8e3db7a4adddf97d1b1fe5762f3ccf7a11aa7dca9b1b143b40ddb3");
    }

    #[tokio::test]
    async fn revoked_and_given_up_certificates_are_told_and_nothing_else() {
        let fixture = Fixture::new().await;
        let (active, _) = fixture.commissioned(&id("active")).await;
        let empty = Revocations::read(&fixture.registry).await.unwrap();
        assert_eq!(empty.full_set(&active).unwrap(), [0xa1, 0x00, 0x80]);

        let (revoked, _) = fixture.commissioned(&id("revoked")).await;
        fixture.registry.revoke(&id("revoked"), "lost").await.unwrap();
        let (released, _) = fixture.commissioned(&id("released")).await;
        fixture.registry.released(&id("released"), &released).await.unwrap();
        let reported = key();
        let report = seen(&id("reported"), &reported, Place::Elsewhere, cbor_schemas::ProofLevel::Unproven);
        fixture.registry.observe_key(&report).await.unwrap();

        let told = Revocations::read(&fixture.registry).await.unwrap();
        assert_eq!(told.len(), 2);
        let full = told.full_set(&active).unwrap();
        assert_eq!(full[..4], [0xa1, 0x00, 0x82, 0x58]);
        // Fixtures sign nothing: their certificates are all these bytes.
        assert!(full.windows(33).any(|window| window == token_hash(b"signed")));
        for stranger in [revoked, released, reported, key()] {
            assert!(told.full_set(&stranger).is_none() && told.key_of(&stranger.kid()).is_none());
        }
        assert_eq!(told.key_of(&active.kid()), Some(active));
        assert_eq!(told.key_of(b"short"), None);
    }
}
