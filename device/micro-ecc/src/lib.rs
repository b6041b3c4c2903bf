//! P-256 by micro-ecc: four functions, for processors that the crate `p256` does not build for.
//!
//! All numbers are big-endian, of 32 bytes; a point is x and then y. Scalars are made regular before they are multiplied, and
//! the ladder has no branch on a secret; there is no other protection against who measures power or radiation.
//!
//! micro-ecc is under the BSD 2-Clause licence: its notice belongs to a product with this in it.
#![no_std]

use core::ffi::{c_int, c_uint, c_void};

/// A scalar or a coordinate.
pub type Number = [u8; 32];
/// A point: x, then y.
pub type Point = [u8; 64];

#[allow(non_snake_case, reason = "C's names")]
unsafe extern "C" {
    safe fn uECC_secp256r1() -> *const c_void;
    fn uECC_compute_public_key(private: *const u8, public: *mut u8, curve: *const c_void) -> c_int;
    fn uECC_valid_public_key(public: *const u8, curve: *const c_void) -> c_int;
    fn uECC_decompress(compressed: *const u8, public: *mut u8, curve: *const c_void);
    fn uECC_shared_secret(public: *const u8, private: *const u8, secret: *mut u8, curve: *const c_void) -> c_int;
    fn uECC_verify(
        public: *const u8,
        hash: *const u8,
        len: c_uint,
        signature: *const u8,
        curve: *const c_void,
    ) -> c_int;
}

/// The point of the scalar `d`. One scalar multiplication.
///
/// `None` unless that is between 1 and n - 1, and for 1, n - 1 and n - 2, where this way to multiply fails: nobody draws them.
pub fn public_key(d: &Number) -> Option<Point> {
    let mut public = [0; 64];
    // SAFETY: for this curve, it reads 32 bytes and writes 64.
    let is_done = unsafe { uECC_compute_public_key(d.as_ptr(), public.as_mut_ptr(), uECC_secp256r1()) };
    (is_done == 1).then_some(public)
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
/// `None` where that point is none of the curve. One scalar multiplication.
pub fn shared_secret(d: &Number, other: &Point) -> Option<Number> {
    let mut secret = [0; 32];
    // SAFETY: for this curve, it reads 64 and 32 bytes and writes 32.
    let is_done = is_valid(other)
        && unsafe { uECC_shared_secret(other.as_ptr(), d.as_ptr(), secret.as_mut_ptr(), uECC_secp256r1()) == 1 };
    is_done.then_some(secret)
}

/// Whether `key` made the ECDSA `signature` (r and s) over what has this SHA-256 `digest`. False also where `key` is no point
/// of the curve. Two scalar multiplications at once.
pub fn verifies(key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    // SAFETY: for this curve, it reads 64 bytes of a key and of a signature, and so much of the digest as is said.
    is_valid(key)
        && unsafe { uECC_verify(key.as_ptr(), digest.as_ptr(), 32, signature.as_ptr(), uECC_secp256r1()) == 1 }
}

fn is_valid(point: &Point) -> bool {
    // SAFETY: for this curve, it reads 64 bytes.
    unsafe { uECC_valid_public_key(point.as_ptr(), uECC_secp256r1()) == 1 }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
