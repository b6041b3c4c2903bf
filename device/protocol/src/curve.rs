//! P-256, by the crate `p256`; by P256-Cortex-M4, in assembly, where the feature `p256-cortex-m4` is on and the processor may
//! be one that it is for; by micro-ecc on an AVR, where `p256` does not build, and where the feature `micro-ecc` is on.
//!
//! All numbers are big-endian.

pub use provider::{point_of, public_key, shared_secret, verifies};

/// A scalar or a coordinate.
pub type Number = [u8; 32];

/// A point of the curve, or what somebody says is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its x-coordinate.
    pub x: Number,
    /// Its y-coordinate.
    pub y: Number,
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

#[cfg(not(any(
    target_arch = "avr",
    feature = "micro-ecc",
    all(feature = "p256-cortex-m4", target_arch = "arm", target_os = "none")
)))]
mod provider {
    use p256::{
        AffinePoint, EncodedPoint, SecretKey,
        ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier},
        elliptic_curve::{
            point::DecompressPoint,
            sec1::{Coordinates, FromEncodedPoint, ToEncodedPoint},
        },
    };

    use super::{Number, Point};

    /// The point of the scalar `d`. `None` unless that is between 1 and n - 1. One scalar multiplication.
    pub fn public_key(d: &Number) -> Option<Point> {
        coordinates(SecretKey::from_slice(d).ok()?.public_key().as_affine())
    }

    /// The point with this x and an even y. `None` if there is none.
    pub fn point_of(x: &Number) -> Option<Point> {
        let point: Option<AffinePoint> = AffinePoint::decompress(x.into(), 0.into()).into();
        coordinates(&point?)
    }

    /// The x-coordinate of `d` times `point`. `None` unless that scalar is between 1 and n - 1, and the point one of the curve.
    /// One scalar multiplication.
    pub fn shared_secret(d: &Number, point: &Point) -> Option<Number> {
        let private = SecretKey::from_slice(d).ok()?;
        let point: Option<AffinePoint> = AffinePoint::from_encoded_point(&encoded(point)).into();
        let shared = p256::ecdh::diffie_hellman(private.to_nonzero_scalar(), point?);
        Some((*shared.raw_secret_bytes()).into())
    }

    /// Whether `key` made the ES256 `signature` (r and s) over what has this SHA-256 `digest`. Two scalar multiplications.
    pub fn verifies(key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        let Ok(key) = VerifyingKey::from_encoded_point(&encoded(key)) else { return false };
        Signature::from_slice(signature).is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok())
    }

    fn encoded(point: &Point) -> EncodedPoint {
        EncodedPoint::from_affine_coordinates(&point.x.into(), &point.y.into(), false)
    }

    fn coordinates(point: &AffinePoint) -> Option<Point> {
        match point.to_encoded_point(false).coordinates() {
            Coordinates::Uncompressed { x, y } => Some(Point { x: (*x).into(), y: (*y).into() }),
            _ => None, // the point at infinity has no coordinates
        }
    }
}

#[cfg(any(
    target_arch = "avr",
    feature = "micro-ecc",
    all(feature = "p256-cortex-m4", target_arch = "arm", target_os = "none")
))]
mod provider {
    #[cfg(not(all(feature = "p256-cortex-m4", target_arch = "arm", target_os = "none")))]
    use device_micro_ecc as library;
    #[cfg(all(feature = "p256-cortex-m4", target_arch = "arm", target_os = "none"))]
    use device_p256_cortex_m4 as library;

    use super::{Number, Point};

    /// The point of the scalar `d`. `None` unless that is between 1 and n - 1, and from micro-ecc also for 1, n - 1 and n - 2.
    /// One scalar multiplication.
    pub fn public_key(d: &Number) -> Option<Point> {
        library::public_key(d).as_ref().map(halves)
    }

    /// The point with this x and an even y. `None` if there is none.
    pub fn point_of(x: &Number) -> Option<Point> {
        library::point_of(x).as_ref().map(halves)
    }

    /// The x-coordinate of `d` times `point`. `None` unless that scalar is between 1 and n - 1, and the point one of the curve;
    /// from micro-ecc also for the scalars 1, n - 1 and n - 2, and for a point whose x is 0. One scalar multiplication.
    pub fn shared_secret(d: &Number, point: &Point) -> Option<Number> {
        library::shared_secret(d, &both(point))
    }

    /// Whether `key` made the ES256 `signature` (r and s) over what has this SHA-256 `digest`. Two scalar multiplications at
    /// once.
    pub fn verifies(key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        library::verifies(&both(key), digest, signature)
    }

    fn both(point: &Point) -> library::Point {
        let mut both = [0; 64];
        let (x, y) = both.split_at_mut(32);
        x.copy_from_slice(&point.x);
        y.copy_from_slice(&point.y);
        both
    }

    fn halves(point: &library::Point) -> Point {
        let (mut x, mut y) = ([0; 32], [0; 32]);
        let (first, second) = point.split_at(32);
        x.copy_from_slice(first);
        y.copy_from_slice(second);
        Point { x, y }
    }
}
