//! What a device needs of P-256, for whatever its processor does that with.

use cbor_schemas::CoseKey;
#[cfg(feature = "p256")]
use p256::{
    EncodedPoint,
    ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier as _},
    elliptic_curve::sec1::ToEncodedPoint as _,
};
use protocol::thumbprint::Thumbprint;
use rand_core::{CryptoRng, RngCore};
use zeroize::Zeroize as _;

/// A point of the curve: x and y, 32 bytes each, big-endian.
pub type Point = [u8; 64];

/// P-256. All numbers are big-endian.
pub trait Curve {
    /// The public key of the scalar `d`. `None` unless that is between 1 and n - 1. One scalar multiplication.
    fn public_key(&mut self, d: &[u8; 32]) -> Option<Point>;

    /// Whether `key` made the ES256 `signature` (r and s) over what has this SHA-256 `digest`. False also where `key` is no
    /// point of the curve. Two scalar multiplications.
    fn verifies(&mut self, key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool;
}

/// P-256 by the crate `p256`: for processors of 32 bits and more.
#[cfg(feature = "p256")]
#[derive(Debug, Clone, Copy)]
pub struct RustCrypto;

#[cfg(feature = "p256")]
impl Curve for RustCrypto {
    fn public_key(&mut self, d: &[u8; 32]) -> Option<Point> {
        let public = p256::SecretKey::from_slice(d).ok()?.public_key().to_encoded_point(false);
        Some(whole(public.x()?.as_ref(), public.y()?.as_ref()))
    }

    fn verifies(&mut self, key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        let (x, y) = halves(key);
        let point = EncodedPoint::from_affine_coordinates(&x.into(), &y.into(), false);
        let Ok(key) = VerifyingKey::from_encoded_point(&point) else { return false };
        Signature::from_slice(signature).is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok())
    }
}

/// n, the order of the curve (SEC 2, section 2.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// A key pair: the scalar, and its point. Overwritten when dropped.
pub(crate) struct KeyPair {
    pub(crate) d: [u8; 32],
    pub(crate) public: Point,
}

impl KeyPair {
    /// A new one, with an even y.
    pub(crate) fn generate(curve: &mut impl Curve, rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut d = [0; 32];
        loop {
            rng.fill_bytes(&mut d);
            // Of random numbers, one in 2^32 is not between 1 and n - 1.
            if let Some(public) = curve.public_key(&d) {
                return Self { d, public }.with_even_y();
            }
        }
    }

    fn with_even_y(mut self) -> Self {
        if self.public.last().is_some_and(|last| last & 1 == 1) {
            // -d = n - d, and the point of that has y = p - y: p is odd, so that is even.
            self.d = subtract(&ORDER, &self.d);
            let (x, y) = halves(&self.public);
            self.public = whole(&x, &subtract(&PRIME, &y));
        }
        self
    }
}

impl Drop for KeyPair {
    fn drop(&mut self) {
        self.d.zeroize();
    }
}

/// p, the order of the field (SEC 2, section 2.4.2).
const PRIME: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
];

/// a - b, for b < a.
fn subtract(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    let mut difference = *a;
    let mut borrow = false;
    for (to, from) in difference.iter_mut().zip(b).rev() {
        let (less, first) = to.overflowing_sub(*from);
        let (less, second) = less.overflowing_sub(borrow.into());
        *to = less;
        borrow = first || second;
    }
    difference
}

pub(crate) fn halves(point: &Point) -> ([u8; 32], [u8; 32]) {
    let (mut x, mut y) = ([0; 32], [0; 32]);
    let (first, second) = point.split_at(32);
    x.copy_from_slice(first);
    y.copy_from_slice(second);
    (x, y)
}

pub(crate) fn whole(x: &[u8; 32], y: &[u8; 32]) -> Point {
    let mut point = [0; 64];
    let (first, second) = point.split_at_mut(32);
    first.copy_from_slice(x);
    second.copy_from_slice(y);
    point
}

/// The `COSE_Key` of a point, with its kid.
pub(crate) fn cose_key(point: &Point) -> CoseKey {
    let (x, y) = halves(point);
    CoseKey { kid: Thumbprint::of(&x, &y).kid(), x, y }
}

#[cfg(test)]
mod tests {
    use protocol::key::{PrivateKey, PublicKey};
    use rand_core::OsRng;

    use super::*;

    /// Against the other implementation, which devices of the full profile use.
    #[test]
    fn keys_are_those_that_the_full_profile_makes() {
        let mut negated = 0;
        for _ in 0..16 {
            let mut d = [0; 32];
            OsRng.fill_bytes(&mut d);
            let public = RustCrypto.public_key(&d).unwrap();
            let own = KeyPair { d, public }.with_even_y();
            let theirs = PrivateKey::from_bytes(&d).unwrap();
            assert_eq!(&own.d, theirs.as_bytes());
            assert_eq!(cose_key(&own.public), theirs.public().cose_key());
            assert_eq!(PublicKey::from_cose(&cose_key(&own.public)), Ok(*theirs.public()));
            negated += u32::from(own.d != d);
        }
        assert!((1..16).contains(&negated), "about half of all keys: {negated} of 16");
    }

    #[test]
    fn what_is_no_scalar_is_drawn_again() {
        struct Numbers(Vec<[u8; 32]>);
        impl RngCore for Numbers {
            fn next_u32(&mut self) -> u32 {
                unreachable!("numbers are drawn as bytes")
            }
            fn next_u64(&mut self) -> u64 {
                unreachable!("numbers are drawn as bytes")
            }
            fn fill_bytes(&mut self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.0.pop().unwrap());
            }
            fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
                self.fill_bytes(bytes);
                Ok(())
            }
        }
        impl CryptoRng for Numbers {}
        let mut numbers = Numbers(vec![[1; 32], ORDER, [0xff; 32], [0; 32]]);
        let pair = KeyPair::generate(&mut RustCrypto, &mut numbers);
        assert!(numbers.0.is_empty());
        assert_eq!(&pair.d, PrivateKey::from_bytes(&[1; 32]).unwrap().as_bytes());
    }
}
