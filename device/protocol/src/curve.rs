//! P-256, by the crate `p256`, or by micro-ecc on an AVR, where that does not build.
//!
//! All numbers are big-endian.

pub(crate) use provider::{point_of, public_key, shared_secret, verifies};

/// A scalar or a coordinate.
pub(crate) type Number = [u8; 32];

/// A point of the curve.
#[derive(Clone, Copy)]
pub(crate) struct Point {
    pub(crate) x: Number,
    pub(crate) y: Number,
}

/// n, the order of the curve (SEC 2, section 2.4.2).
const ORDER: Number = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// p, the order of the field (SEC 2, section 2.4.2).
const PRIME: Number = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
];

/// The scalar `d` and its point, or, if the y of that is odd, both negated: p and n are odd, so the other y is even.
pub(crate) fn with_even_y(d: &Number, point: &Point) -> (Number, Point) {
    match point.y {
        [.., last] if last & 1 == 1 => (subtract(&ORDER, d), Point { x: point.x, y: subtract(&PRIME, &point.y) }),
        _ => (*d, *point),
    }
}

/// a - b, for b < a, in the same time for all of them.
fn subtract(a: &Number, b: &Number) -> Number {
    let mut difference = *a;
    let mut borrow = false;
    for (to, from) in difference.iter_mut().zip(b).rev() {
        let (less, first) = to.overflowing_sub(*from);
        let (less, second) = less.overflowing_sub(borrow.into());
        *to = less;
        borrow = first | second;
    }
    difference
}

#[cfg(not(target_arch = "avr"))]
mod provider {
    use p256::{
        AffinePoint, EncodedPoint, SecretKey,
        ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier},
        elliptic_curve::{
            point::DecompressPoint,
            sec1::{Coordinates, ToEncodedPoint},
        },
    };

    use super::{Number, Point};

    /// The point of the scalar `d`. `None` unless that is between 1 and n - 1. One scalar multiplication.
    pub(crate) fn public_key(d: &Number) -> Option<Point> {
        coordinates(SecretKey::from_slice(d).ok()?.public_key().as_affine())
    }

    /// The point with this x and an even y. `None` if there is none.
    pub(crate) fn point_of(x: &Number) -> Option<Point> {
        coordinates(&decompress(x)?)
    }

    /// The x-coordinate of `d` times the point that has the x-coordinate `x`. `None` if there is no such scalar or point.
    /// One scalar multiplication.
    pub(crate) fn shared_secret(d: &Number, x: &Number) -> Option<Number> {
        let private = SecretKey::from_slice(d).ok()?;
        // Either y does: the shared secret is an x-coordinate.
        let shared = p256::ecdh::diffie_hellman(private.to_nonzero_scalar(), decompress(x)?);
        Some((*shared.raw_secret_bytes()).into())
    }

    /// Whether `key` made the ES256 `signature` (r and s) over what has this SHA-256 `digest`. Two scalar multiplications.
    pub(crate) fn verifies(key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        let point = EncodedPoint::from_affine_coordinates(&key.x.into(), &key.y.into(), false);
        let Ok(key) = VerifyingKey::from_encoded_point(&point) else { return false };
        Signature::from_slice(signature).is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok())
    }

    fn decompress(x: &Number) -> Option<AffinePoint> {
        AffinePoint::decompress(x.into(), 0.into()).into()
    }

    fn coordinates(point: &AffinePoint) -> Option<Point> {
        match point.to_encoded_point(false).coordinates() {
            Coordinates::Uncompressed { x, y } => Some(Point { x: (*x).into(), y: (*y).into() }),
            _ => None, // the point at infinity has no coordinates
        }
    }
}

#[cfg(target_arch = "avr")]
mod provider {
    use super::{Number, Point};

    /// The point of the scalar `d`. `None` unless that is between 1 and n - 1. One scalar multiplication.
    pub(crate) fn public_key(d: &Number) -> Option<Point> {
        device_micro_ecc::public_key(d).as_ref().map(halves)
    }

    /// The point with this x and an even y. `None` if there is none.
    pub(crate) fn point_of(x: &Number) -> Option<Point> {
        device_micro_ecc::point_of(x).as_ref().map(halves)
    }

    /// The x-coordinate of `d` times the point that has the x-coordinate `x`. `None` if there is no such point.
    /// One scalar multiplication.
    pub(crate) fn shared_secret(d: &Number, x: &Number) -> Option<Number> {
        device_micro_ecc::shared_secret(d, &device_micro_ecc::point_of(x)?)
    }

    /// Whether `key` made the ES256 `signature` (r and s) over what has this SHA-256 `digest`. Two scalar multiplications.
    pub(crate) fn verifies(key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        let mut point = [0; 64];
        let (x, y) = point.split_at_mut(32);
        x.copy_from_slice(&key.x);
        y.copy_from_slice(&key.y);
        device_micro_ecc::verifies(&point, digest, signature)
    }

    fn halves(point: &device_micro_ecc::Point) -> Point {
        let (mut x, mut y) = ([0; 32], [0; 32]);
        let (first, second) = point.split_at(32);
        x.copy_from_slice(first);
        y.copy_from_slice(second);
        Point { x, y }
    }
}
