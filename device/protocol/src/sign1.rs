//! Verification of signed objects: ES256 (RFC 9053 section 2.1) over `COSE_Sign1`.

use core::fmt;

use cbor_schemas::Sign1;
use sha2::{Digest, Sha256};

use crate::curve;
use crate::key::PublicKey;

/// Checks that `key` signed `object`. Two scalar multiplications.
///
/// This says nothing about the claims: whether they are well formed, about whom they speak and whether they are
/// still valid is the caller's to decide, after this.
///
/// # Errors
/// [`BadSignature`] if the signature is another key's, covers other bytes, or is not a signature at all.
pub fn verify(key: &PublicKey, object: &Sign1<'_>) -> Result<(), BadSignature> {
    let mut hash = Sha256::new();
    Sign1::to_be_signed(object.kind, object.payload, &mut |bytes| hash.update(bytes));
    let digest = hash.finalize().into();
    if curve::verifies(&key.point(), &digest, &object.signature) { Ok(()) } else { Err(BadSignature) }
}

/// The signature does not verify under this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSignature;

impl fmt::Display for BadSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the signature is not this key's: check which issuer signed, and that nothing was changed since")
    }
}

impl core::error::Error for BadSignature {}

#[cfg(test)]
mod tests {
    use cbor_schemas::Kind;
    use p256::ecdsa::signature::hazmat::PrehashSigner;
    use p256::ecdsa::{Signature, SigningKey};
    use rand_core::OsRng;

    use super::*;
    use crate::key::PrivateKey;

    const PAYLOAD: &[u8] = b"\xa1\x01\x02";

    /// An independent rendering of the Sig_structure of RFC 9052 section 4.4.
    fn sig_structure(kind: Kind, payload: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x84\x6aSignature1".to_vec();
        let protected = kind.protected_header();
        match u8::try_from(protected.len()).unwrap() {
            short @ 0..=23 => bytes.push(0x40 | short),
            long => bytes.extend([0x58, long]),
        }
        bytes.extend(protected);
        bytes.push(0x40);
        bytes.push(0x40 | u8::try_from(payload.len()).unwrap());
        bytes.extend(payload);
        bytes
    }

    fn signed(key: &PrivateKey, kind: Kind) -> Sign1<'static> {
        let signer = SigningKey::from_slice(key.as_bytes()).unwrap();
        let signature: Signature = signer.sign_prehash(&Sha256::digest(sig_structure(kind, PAYLOAD))).unwrap();
        Sign1 { kind, payload: PAYLOAD, signature: signature.to_bytes().into() }
    }

    #[test]
    fn accepts_what_the_key_signed_and_nothing_else() {
        let (key, other) = (PrivateKey::generate(&mut OsRng), PrivateKey::generate(&mut OsRng));
        let object = signed(&key, Kind::StationToken);
        assert_eq!(verify(key.public(), &object), Ok(()));
        assert_eq!(verify(other.public(), &object), Err(BadSignature));
        let with_kind = |kind| Sign1 { kind, payload: PAYLOAD, signature: object.signature };
        assert_eq!(verify(key.public(), &with_kind(Kind::DeviceCertificate)), Err(BadSignature));
        assert_eq!(verify(key.public(), &with_kind(Kind::Voucher)), Err(BadSignature));
        assert_eq!(verify(key.public(), &with_kind(Kind::DeviceList)), Err(BadSignature));
        let other_payload = Sign1 { kind: object.kind, payload: b"\xa1\x01\x03", signature: object.signature };
        assert_eq!(verify(key.public(), &other_payload), Err(BadSignature));
    }

    #[test]
    fn each_flipped_bit_of_the_signature_is_noticed() {
        let key = PrivateKey::generate(&mut OsRng);
        for bit in (0..512).step_by(7) {
            let mut object = signed(&key, Kind::Voucher);
            object.signature[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(key.public(), &object), Err(BadSignature), "bit {bit}");
        }
    }

    #[test]
    fn numbers_that_are_no_signature_are_refused() {
        let key = PrivateKey::generate(&mut OsRng);
        for byte in [0x00, 0xff] {
            let object = Sign1 { kind: Kind::Voucher, payload: PAYLOAD, signature: [byte; 64] };
            assert_eq!(verify(key.public(), &object), Err(BadSignature));
        }
    }
}
