//! What micro-ecc computes is what the crate `p256` does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use edhoc_oscore_micro_ecc::{Number, Point, point_of, public_key, shared_secret, verifies};
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

fn number(hex: &str) -> Number {
    core::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..][..2], 16).unwrap())
}

/// The sum of two numbers.
fn sum(one: Number, other: Number) -> Number {
    let mut carry = false;
    let mut sum = one;
    for (digit, more) in sum.iter_mut().zip(other).rev() {
        let (first, second) = (digit.overflowing_add(more), u8::from(carry));
        let all = first.0.overflowing_add(second);
        (*digit, carry) = (all.0, first.1 || all.1);
    }
    assert!(!carry, "it has more digits");
    sum
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
    // Every number has one name, those of the curve as well: what is valid is not any more once p is added to it.
    let mut of_the_curve = 0;
    for value in (0..=255).map(small) {
        let again = sum(value, number(PRIME));
        assert_eq!((point_of(&again), expected_point(&again)), (None, None), "{again:x?}");
        of_the_curve += u8::from(point_of(&value).is_some());
    }
    assert!(of_the_curve > 100);
}

#[test]
fn what_is_no_signature_is_refused() {
    let key = SigningKey::random(&mut OsRng);
    let public = point(key.verifying_key().as_affine());
    let digest = [7; 32];
    let signature: Signature = key.sign_prehash(&digest).unwrap();
    let good: [u8; 64] = signature.to_bytes().into();
    assert!(verifies(&public, &digest, &good));
    // Half of it gone, or beyond the order.
    for at in [0, 32] {
        for change in [(|_| 0) as fn(u8) -> u8, |_| 0xff] {
            let mut bad = good;
            bad[at..at + 32].iter_mut().for_each(|byte| *byte = change(*byte));
            assert!(!verifies(&public, &digest, &bad), "{bad:x?}");
        }
        let mut order = good;
        order[at..at + 32].copy_from_slice(&number(ORDER));
        assert!(!verifies(&public, &digest, &order));
    }
    // A point with any bit of y changed is none of the curve.
    for bit in 0..256 {
        let mut off = public;
        off[32 + bit / 8] ^= 1 << (bit % 8);
        assert!(!verifies(&off, &digest, &good), "bit {bit}");
        assert_eq!(shared_secret(&small(3), &off), None, "bit {bit}");
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
