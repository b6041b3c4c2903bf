//! P-256 by micro-ecc, in C and AVR assembly.

use core::ffi::{c_int, c_uint, c_void};

use device_minimal::{Curve, curve::Point};

/// One scalar multiplication at 16 MHz, as measured.
pub(crate) const MILLISECONDS: u32 = 2_300;

pub(crate) struct MicroEcc;

#[allow(non_snake_case, reason = "C's names")]
unsafe extern "C" {
    safe fn uECC_secp256r1() -> *const c_void;
    fn uECC_compute_public_key(private: *const u8, public: *mut u8, curve: *const c_void) -> c_int;
    fn uECC_valid_public_key(public: *const u8, curve: *const c_void) -> c_int;
    fn uECC_verify(
        public: *const u8,
        hash: *const u8,
        len: c_uint,
        signature: *const u8,
        curve: *const c_void,
    ) -> c_int;
}

impl Curve for MicroEcc {
    fn public_key(&mut self, d: &[u8; 32]) -> Option<Point> {
        let mut public = [0; 64];
        // SAFETY: for this curve, it reads 32 bytes and writes 64.
        let is_done = unsafe { uECC_compute_public_key(d.as_ptr(), public.as_mut_ptr(), uECC_secp256r1()) };
        (is_done == 1).then_some(public)
    }

    fn verifies(&mut self, key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        let curve = uECC_secp256r1();
        // SAFETY: for this curve, they read 64 bytes of a key and of a signature, and so much of the digest as is said.
        unsafe {
            uECC_valid_public_key(key.as_ptr(), curve) == 1
                && uECC_verify(key.as_ptr(), digest.as_ptr(), 32, signature.as_ptr(), curve) == 1
        }
    }
}
