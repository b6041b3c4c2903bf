//! P-256 by P256-Cortex-M4 of Emil Lenngren: four functions, for Cortex-M4, Cortex-M7 and Cortex-M33.
//!
//! All numbers are big-endian, of 32 bytes; a point is x and then y. What is done with a secret has no branch on it, and
//! no address that depends on it: tables are read as a whole. There is no protection against who measures power or
//! radiation.
//!
//! P256-Cortex-M4 is under the MIT licence: its notice belongs to a product with this in it.
#![no_std]

use zeroize::Zeroizing;

/// A scalar or a coordinate.
pub type Number = [u8; 32];
/// A point: x, then y.
pub type Point = [u8; 64];

/// A number as P256-Cortex-M4 takes it: little-endian.
type Words = [u32; 8];

unsafe extern "C" {
    fn p256_scalarmult_base(result_x: *mut Words, result_y: *mut Words, scalar: *const Words) -> bool;
    fn p256_scalarmult_generic(
        result_x: *mut Words,
        result_y: *mut Words,
        scalar: *const Words,
        x: *const Words,
        y: *const Words,
    ) -> bool;
    fn p256_octet_string_to_point(x: *mut Words, y: *mut Words, input: *const u8, len: u32) -> bool;
    fn p256_verify(
        x: *const Words,
        y: *const Words,
        hash: *const u8,
        len: u32,
        r: *const Words,
        s: *const Words,
    ) -> bool;
}

/// The point of the scalar `d`. `None` unless that is between 1 and n - 1. One scalar multiplication.
pub fn public_key(d: &Number) -> Option<Point> {
    let (d, mut x, mut y) = (Zeroizing::new(words(d)), [0; 8], [0; 8]);
    // SAFETY: it reads and writes numbers of this size, and looks whether the scalar is in range.
    let is_done = unsafe { p256_scalarmult_base(&mut x, &mut y, &*d) };
    is_done.then(|| point(&x, &y))
}

/// The point with this x and an even y. `None` if there is none.
pub fn point_of(x: &Number) -> Option<Point> {
    let mut compressed = [2; 33];
    compressed[1..].copy_from_slice(x);
    let (mut x, mut y) = ([0; 8], [0; 8]);
    // SAFETY: it reads as many bytes as it is told, writes numbers of this size, and looks whether x is that of a point.
    let is_done = unsafe { p256_octet_string_to_point(&mut x, &mut y, compressed.as_ptr(), 33) };
    is_done.then(|| point(&x, &y))
}

/// The x-coordinate of `d` times the point `other`; `d` is a private key.
///
/// `None` unless that is between 1 and n - 1, and the point one of the curve. One scalar multiplication.
pub fn shared_secret(d: &Number, other: &Point) -> Option<Number> {
    let ((x, y), d) = (halves(other), Zeroizing::new(words(d)));
    let (mut secret, mut its_y) = (Zeroizing::new([0; 8]), Zeroizing::new([0; 8]));
    // SAFETY: it reads and writes numbers of this size, and looks whether the scalar is in range and the point on the curve.
    let is_done = unsafe { p256_scalarmult_generic(&mut *secret, &mut *its_y, &*d, &x, &y) };
    is_done.then(|| number(&secret))
}

/// Whether `key` made the ECDSA `signature` (r and s) over what has this SHA-256 `digest`. False also where `key` is no point
/// of the curve. Two scalar multiplications at once.
pub fn verifies(key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    let ((x, y), (r, s)) = (halves(key), halves(signature));
    // SAFETY: it reads numbers of this size and as much of the digest as it is told, and looks whether all are in range and
    // the key is on the curve.
    unsafe { p256_verify(&x, &y, digest.as_ptr(), 32, &r, &s) }
}

fn words(number: &Number) -> Words {
    let (digits, _) = number.as_chunks();
    core::array::from_fn(|at| u32::from_be_bytes(digits[7 - at]))
}

fn number(words: &Words) -> Number {
    let mut number = [0; 32];
    let (digits, _) = number.as_chunks_mut();
    for (digit, word) in digits.iter_mut().rev().zip(words) {
        *digit = word.to_be_bytes();
    }
    number
}

fn halves(both: &[u8; 64]) -> (Words, Words) {
    let (halves, _) = both.as_chunks();
    (words(&halves[0]), words(&halves[1]))
}

fn point(x: &Words, y: &Words) -> Point {
    let mut point = [0; 64];
    point[..32].copy_from_slice(&number(x));
    point[32..].copy_from_slice(&number(y));
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_turned_around() {
        let bytes: Number = core::array::from_fn(|at| at as u8);
        assert_eq!(words(&bytes)[0], 0x1c1d_1e1f);
        assert_eq!(words(&bytes)[7], 0x0001_0203);
        assert_eq!(number(&words(&bytes)), bytes);
        let both: Point = core::array::from_fn(|at| at as u8);
        let (first, second) = halves(&both);
        assert_eq!(point(&first, &second), both);
    }
}
