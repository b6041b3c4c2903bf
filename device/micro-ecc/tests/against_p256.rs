//! What micro-ecc computes is what the crate `p256` does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use device_micro_ecc::{Number, Point, point_of, public_key, shared_secret, verifies};
use p256::{
    AffinePoint, NonZeroScalar, SecretKey,
    ecdsa::{
        Signature, SigningKey, VerifyingKey, signature::hazmat::PrehashSigner, signature::hazmat::PrehashVerifier,
    },
    elliptic_curve::{point::DecompressPoint, sec1::ToEncodedPoint},
};
use proptest::prelude::*;
use rand_core::OsRng;

/// n, the order of the curve, and p, that of the field (SEC 2, section 2.4.2).
const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const PRIME: &str = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff";
const PRIME_AND_FIVE: &str = "ffffffff00000001000000000000000000000001000000000000000000000004";

fn number(hex: &str) -> Number {
    core::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..][..2], 16).unwrap())
}

/// `number` and so much more or less, as long as only the last byte changes.
fn plus(number: Number, more: i8) -> Number {
    let mut sum = number;
    sum[31] = sum[31].checked_add_signed(more).unwrap();
    sum
}

fn small(value: u8) -> Number {
    let mut number = [0; 32];
    number[31] = value;
    number
}

fn point(affine: &AffinePoint) -> Point {
    affine.to_encoded_point(false).as_bytes()[1..].try_into().unwrap()
}

fn expected_key(d: &Number) -> Option<Point> {
    SecretKey::from_slice(d).ok().map(|key| point(key.public_key().as_affine()))
}

fn expected_point(x: &Number) -> Option<Point> {
    Option::<AffinePoint>::from(AffinePoint::decompress(x.into(), 0.into())).as_ref().map(point)
}

fn expected_verdict(key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    let Ok(key) = VerifyingKey::from_sec1_bytes(&[&[4], &key[..]].concat()) else { return false };
    Signature::from_slice(signature).is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok())
}

fn halves(point: &Point) -> (Number, Number) {
    (point[..32].try_into().unwrap(), point[32..].try_into().unwrap())
}

#[test]
fn scalars_at_the_edges() {
    for d in [small(2), small(3), plus(number(ORDER), -3), plus(number(ORDER), -4)] {
        let key = public_key(&d).unwrap();
        assert_eq!(Some(key), expected_key(&d), "{d:x?}");
        let other = point_of(&halves(&public_key(&small(5)).unwrap()).0).unwrap();
        let scalar = NonZeroScalar::try_from(&d[..]).unwrap();
        let (x, _) = halves(&other);
        let expected = p256::ecdh::diffie_hellman(
            scalar,
            Option::<AffinePoint>::from(AffinePoint::decompress(&x.into(), 0.into())).unwrap(),
        );
        assert_eq!(shared_secret(&d, &other).unwrap()[..], expected.raw_secret_bytes()[..], "{d:x?}");
    }
    for d in [small(1), plus(number(ORDER), -1), plus(number(ORDER), -2)] {
        assert_eq!(public_key(&d), None, "its ladder meets the point at infinity: {d:x?}");
    }
    for d in [small(0), number(ORDER), plus(number(ORDER), 1), [0xff; 32]] {
        assert_eq!(public_key(&d), None, "{d:x?}");
    }
}

#[test]
fn coordinates_at_the_edges() {
    for value in 0..=255 {
        assert_eq!(point_of(&small(value)), expected_point(&small(value)), "{value}");
    }
    for less in 1..=100 {
        let x = plus(number(PRIME), -less);
        assert_eq!(point_of(&x), expected_point(&x), "p - {less}");
    }
    // 0 and 5 by another name: both are of the curve, but every number has one name.
    assert!(point_of(&small(0)).is_some() && point_of(&small(5)).is_some());
    for x in [number(PRIME), number(PRIME_AND_FIVE), [0xff; 32]] {
        assert_eq!((point_of(&x), expected_point(&x)), (None, None), "{x:x?}");
    }
}

#[test]
fn what_is_no_signature_is_refused() {
    let key = SigningKey::random(&mut OsRng);
    let public = point(key.verifying_key().as_affine());
    let digest = [7; 32];
    let signature: Signature = key.sign_prehash(&digest).unwrap();
    let good: [u8; 64] = signature.to_bytes().into();
    assert!(verifies(&public, &digest, &good));
    for number in [small(0), number(ORDER), [0xff; 32]] {
        for at in [0, 32] {
            let mut bad = good;
            bad[at..at + 32].copy_from_slice(&number);
            assert!(!verifies(&public, &digest, &bad), "{number:x?} at {at}");
        }
    }
    for key in [[0; 64], [0xff; 64], {
        let mut off = public;
        off[63] ^= 2;
        off
    }] {
        assert!(!verifies(&key, &digest, &good));
        assert_eq!(shared_secret(&small(3), &key), None);
    }
}

proptest! {
    #[test]
    fn keys(d in any::<Number>()) {
        prop_assert_eq!(public_key(&d), expected_key(&d));
    }

    #[test]
    fn points(x in any::<Number>()) {
        let found = point_of(&x);
        prop_assert_eq!(found, expected_point(&x));
        prop_assert!(found.is_none_or(|found| found[63] & 1 == 0 && found[..32] == x));
    }

    #[test]
    fn shared_secrets(a in any::<Number>(), b in any::<Number>()) {
        let (Some(ours), Some(theirs)) = (public_key(&a), public_key(&b)) else { return Ok(()) };
        let (ours, theirs) = (point_of(&halves(&ours).0).unwrap(), point_of(&halves(&theirs).0).unwrap());
        let secret = shared_secret(&a, &theirs).unwrap();
        prop_assert_eq!(shared_secret(&b, &ours), Some(secret));
        let (x, _) = halves(&theirs);
        let affine = Option::<AffinePoint>::from(AffinePoint::decompress(&x.into(), 0.into())).unwrap();
        let expected = p256::ecdh::diffie_hellman(NonZeroScalar::try_from(&a[..]).unwrap(), affine);
        prop_assert_eq!(&secret[..], &expected.raw_secret_bytes()[..]);
    }

    #[test]
    fn signatures(d in any::<Number>(), digest in any::<[u8; 32]>(), at in 0_usize..160, bit in 0_u8..8) {
        let Ok(key) = SigningKey::from_slice(&d) else { return Ok(()) };
        let mut public = point(key.verifying_key().as_affine());
        let signature: Signature = key.sign_prehash(&digest).unwrap();
        let mut signature: [u8; 64] = signature.to_bytes().into();
        let mut digest = digest;
        prop_assert!(verifies(&public, &digest, &signature));
        let changed = public.iter_mut().chain(&mut digest).chain(&mut signature).nth(at).unwrap();
        *changed ^= 1 << bit;
        prop_assert_eq!(verifies(&public, &digest, &signature), expected_verdict(&public, &digest, &signature));
        prop_assert!(!verifies(&public, &digest, &signature));
    }
}
