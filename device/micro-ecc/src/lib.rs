//! P-256 by micro-ecc: four functions, for processors that the crate `p256` does not build for or is slow on.
//!
//! All numbers are big-endian, of 32 bytes; a point is x and then y. Scalars are made regular before they are multiplied, and
//! the ladder has no branch on a secret. Its arithmetic takes a time that depends on the numbers, so it begins with a Z that
//! is a digest of the scalar and the point: what the time depends on is a number that nobody else knows. There is no other
//! protection against who measures power or radiation.
//!
//! micro-ecc is under the BSD 2-Clause licence: its notice belongs to a product with this in it.
#![no_std]

use core::{
    ffi::{c_int, c_uint, c_void},
    ptr,
};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A scalar or a coordinate.
pub type Number = [u8; 32];
/// A point: x, then y.
pub type Point = [u8; 64];

/// n, the order of the curve (SEC 2, section 2.4.2).
const ORDER: Number = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

#[allow(non_snake_case, reason = "C's names")]
unsafe extern "C" {
    safe fn uECC_secp256r1() -> *const c_void;
    fn uECC_valid_public_key(public: *const u8, curve: *const c_void) -> c_int;
    fn uECC_decompress(compressed: *const u8, public: *mut u8, curve: *const c_void);
    fn uECC_verify(
        public: *const u8,
        hash: *const u8,
        len: c_uint,
        signature: *const u8,
        curve: *const c_void,
    ) -> c_int;
    /// In `multiply.c`.
    fn edhoc_p256_multiply(scalar: *const u8, point: *const u8, z: *const u8, product: *mut u8) -> c_int;
}

/// The point of the scalar `d`. One scalar multiplication.
///
/// `None` unless that is between 1 and n - 1, and for 1, n - 1 and n - 2, where this way to multiply fails: nobody draws them.
pub fn public_key(d: &Number) -> Option<Point> {
    multiply(d, None).map(|point| *point)
}

/// The point with this x and an even y. `None` if there is none.
pub fn point_of(x: &Number) -> Option<Point> {
    let mut compressed = [2; 33];
    compressed[1..].copy_from_slice(x);
    let mut point = [0; 64];
    // SAFETY: for this curve, it reads 33 bytes and writes 64.
    unsafe { uECC_decompress(compressed.as_ptr(), point.as_mut_ptr(), uECC_secp256r1()) };
    is_valid(&point).then_some(point)
}

/// The x-coordinate of `d` times the point `other`; `d` is a private key.
///
/// `None` where that point is none of the curve, and where this way to multiply fails: for the scalars for which
/// [`public_key`] gives `None`, and for the points whose x is 0. One scalar multiplication.
pub fn shared_secret(d: &Number, other: &Point) -> Option<Number> {
    if !is_valid(other) {
        return None;
    }
    let product = multiply(d, Some(other))?;
    product.first_chunk().copied()
}

/// Whether `key` made the ECDSA `signature` (r and s) over what has this SHA-256 `digest`. False also where `key` is no point
/// of the curve. Two scalar multiplications at once.
pub fn verifies(key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    // SAFETY: for this curve, it reads 64 bytes of a key and of a signature, and so much of the digest as is said.
    is_valid(key)
        && unsafe { uECC_verify(key.as_ptr(), digest.as_ptr(), 32, signature.as_ptr(), uECC_secp256r1()) == 1 }
}

/// `scalar` times a point of the curve, or the base point.
fn multiply(scalar: &Number, point: Option<&Point>) -> Option<Zeroizing<Point>> {
    if !is_scalar(scalar) {
        return None;
    }
    let z = first_z(scalar, point);
    let mut product = Zeroizing::new([0; 64]);
    let point = point.map_or(ptr::null(), |point| point.as_ptr());
    // SAFETY: it reads 32 bytes of both numbers, 64 of the point unless that is null, and writes 64.
    let is_done = unsafe { edhoc_p256_multiply(scalar.as_ptr(), point, z.as_ptr(), product.as_mut_ptr()) };
    (is_done == 1).then_some(product)
}

/// Whether a number is between 1 and n - 1, in the same time for all of them.
fn is_scalar(number: &Number) -> bool {
    let (mut bits, mut borrow) = (0, 0);
    for (digit, order) in number.iter().rev().zip(ORDER.iter().rev()) {
        bits |= digit;
        borrow = (i16::from(*digit) - i16::from(*order) + borrow) >> 8;
    }
    (bits != 0) & (borrow != 0)
}

/// The Z that a multiplication begins with: not 0, as far as a digest can be known, and less than p.
fn first_z(scalar: &Number, point: Option<&Point>) -> Zeroizing<Number> {
    let point = point.map_or(&[][..], |point| point);
    let digest = Sha256::new().chain_update(b"the first Z").chain_update(scalar).chain_update(point).finalize();
    let mut z = Zeroizing::new(Number::from(digest));
    z[0] &= 0x7f;
    z
}

fn is_valid(point: &Point) -> bool {
    // SAFETY: for this curve, it reads 64 bytes.
    unsafe { uECC_valid_public_key(point.as_ptr(), uECC_secp256r1()) == 1 }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
