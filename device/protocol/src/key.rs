//! P-256 keys, named by their x-coordinate.
//!
//! EDHOC and ECDH see only x, so two keys that differ in y alone are one key. To give each key one name, every key
//! here has an even y: [`PrivateKey`] negates its scalar where needed and [`PublicKey`] computes y from x. A y that
//! somebody sends is compared at most, never used.

use core::fmt;

use cbor_schemas::{Ccs, CoseKey, Kid, PrivateCoseKey};
use rand_core::CryptoRngCore;
use zeroize::{Zeroize, Zeroizing};

use crate::curve::{self, Point};
use crate::thumbprint::Hex;
pub use crate::thumbprint::Thumbprint;

/// A public key: a point of P-256 with an even y. Equality is that of x.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    x: [u8; 32],
    y: [u8; 32],
}

impl PublicKey {
    /// The key with this x-coordinate (32 bytes, big-endian).
    ///
    /// # Errors
    /// [`KeyError::NotOnCurve`] if no point has this x.
    pub fn from_x(x: &[u8; 32]) -> Result<Self, KeyError> {
        curve::point_of(x).map(Self::from_point).ok_or(KeyError::NotOnCurve)
    }

    /// The key in a `COSE_Key`.
    ///
    /// # Errors
    /// [`KeyError::NotOnCurve`]; [`KeyError::OtherY`] if y is not the even one of this x; [`KeyError::WrongKid`] if
    /// the kid is not the one computed from the thumbprint.
    pub fn from_cose(cose: &CoseKey) -> Result<Self, KeyError> {
        let key = Self::from_x(&cose.x)?;
        if key.y != cose.y {
            return Err(KeyError::OtherY);
        }
        if key.kid() != cose.kid {
            return Err(KeyError::WrongKid);
        }
        Ok(key)
    }

    /// The x-coordinate, big-endian: the name of the key.
    pub const fn x(&self) -> &[u8; 32] {
        &self.x
    }

    /// The y-coordinate, big-endian, always even.
    pub const fn y(&self) -> &[u8; 32] {
        &self.y
    }

    /// The COSE Key Thumbprint with SHA-256 (RFC 9679).
    pub fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of(&self.x, &self.y)
    }

    /// The key identifier: the first 8 bytes of the thumbprint.
    pub fn kid(&self) -> Kid {
        self.thumbprint().kid()
    }

    /// The `COSE_Key` of this key, with its kid.
    pub fn cose_key(&self) -> CoseKey {
        CoseKey { kid: self.kid(), x: self.x, y: self.y }
    }

    /// The EDHOC credential of this key: a CWT Claims Set with nothing but the key (RFC 9528 section 3.5.2), 89 bytes.
    pub fn ccs(&self) -> [u8; 89] {
        Ccs(self.cose_key()).to_bytes()
    }

    const fn from_point(point: Point) -> Self {
        Self { x: point.x, y: point.y }
    }

    pub(crate) const fn point(&self) -> Point {
        Point { x: self.x, y: self.y }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", Hex(&self.x))
    }
}

/// A private key, wiped when dropped. `Clone` is explicit so that each copy of the secret is visible in the code.
#[derive(Clone)]
pub struct PrivateKey {
    d: [u8; 32],
    public: PublicKey,
}

impl PrivateKey {
    /// A new key. One scalar multiplication.
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        let mut d = Zeroizing::new([0; 32]);
        loop {
            rng.fill_bytes(&mut *d);
            // Of random numbers, one in 2^32 is not between 1 and n - 1.
            if let Ok(key) = Self::from_bytes(&d) {
                return key;
            }
        }
    }

    /// The key of a scalar (32 bytes, big-endian), or of its negation if that is what makes y even.
    /// One scalar multiplication.
    ///
    /// # Errors
    /// [`KeyError::OutOfRange`] unless the scalar is between 1 and n - 1.
    pub fn from_bytes(d: &[u8; 32]) -> Result<Self, KeyError> {
        let point = curve::public_key(d).ok_or(KeyError::OutOfRange)?;
        let (d, point) = curve::with_even_y(d, &point);
        Ok(Self { d, public: PublicKey::from_point(point) })
    }

    /// The key whose two halves storage has kept, without the scalar multiplication that would tell whether they belong
    /// together.
    ///
    /// # Errors
    /// [`KeyError::NotOnCurve`] if no point has this x.
    pub fn restore(d: &[u8; 32], x: &[u8; 32]) -> Result<Self, KeyError> {
        Ok(Self { d: *d, public: PublicKey::from_x(x)? })
    }

    /// The key in a private `COSE_Key`, such as one injected from outside.
    ///
    /// # Errors
    /// [`KeyError::OutOfRange`]; [`KeyError::NoPair`] if x does not belong to d.
    pub fn from_cose(cose: &PrivateCoseKey) -> Result<Self, KeyError> {
        let key = Self::from_bytes(&cose.d)?;
        if key.public.x != cose.x {
            return Err(KeyError::NoPair);
        }
        Ok(key)
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The scalar, big-endian, for storage. Whoever copies it wipes the copy.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.d
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.d.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Place for a key that is made before it is needed, and used once: an ephemeral key.
///
/// Moving a value leaves its bytes where they were; this wipes them.
#[derive(Debug)]
pub struct PreparedKey(Option<PrivateKey>);

impl PreparedKey {
    /// No key yet.
    pub const fn new() -> Self {
        Self(None)
    }

    /// The public half of the key that is there.
    pub fn public(&self) -> Option<&PublicKey> {
        self.0.as_ref().map(PrivateKey::public)
    }

    /// Makes the key, unless one is there. One scalar multiplication.
    pub fn prepare(&mut self, rng: &mut impl CryptoRngCore) {
        if self.0.is_none() {
            self.0 = Some(PrivateKey::generate(rng));
        }
    }

    /// Gives the key away, or one that is made now if none is there.
    pub fn take(&mut self, rng: &mut impl CryptoRngCore) -> PrivateKey {
        let key = self.0.clone().unwrap_or_else(|| PrivateKey::generate(rng));
        self.discard();
        key
    }

    /// Wipes the key.
    pub fn discard(&mut self) {
        // It is dropped, and so wiped, where it lies.
        self.0 = None;
    }
}

impl Default for PreparedKey {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// No point of P-256 has this x-coordinate.
    NotOnCurve,
    /// The y-coordinate is not the even one of this x.
    OtherY,
    /// The kid is not the first 8 bytes of the thumbprint.
    WrongKid,
    /// The private scalar is 0, or not less than the order of the curve.
    OutOfRange,
    /// The private scalar and the x-coordinate belong to different keys.
    NoPair,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOnCurve => "the x-coordinate is not on P-256: make another key",
            Self::OtherY => "the y-coordinate is not the even one: negate the private key and send the other y",
            Self::WrongKid => "the kid is not the first 8 bytes of the key's thumbprint: compute it as RFC 9679 says",
            Self::OutOfRange => "the private key is not between 1 and n - 1: make another key",
            Self::NoPair => "the private key does not belong to the public key: send the two halves of one key",
        })
    }
}

impl core::error::Error for KeyError {}

#[cfg(test)]
mod tests {
    use hexlit::hex;
    use proptest::prelude::*;
    use rand_core::OsRng;
    use sha2::{Digest, Sha256};

    use super::*;

    // The key of RFC 6979 appendix A.2.5; its y is odd.
    const D: [u8; 32] = hex!("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    const X: [u8; 32] = hex!("60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6");
    const ODD_Y: [u8; 32] = hex!("7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299");
    const ORDER: [u8; 32] = hex!("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");

    fn off_curve() -> [u8; 32] {
        (0u8..=255).map(|last| core::array::from_fn(|i| if i == 31 { last } else { 0 })).find(|x| !exists(x)).unwrap()
    }

    fn exists(x: &[u8; 32]) -> bool {
        PublicKey::from_x(x).is_ok()
    }

    #[test]
    fn an_odd_y_is_made_even_by_negating_the_scalar() {
        let key = PrivateKey::from_bytes(&D).unwrap();
        assert_eq!(key.public().x(), &X);
        assert_ne!(key.public().y(), &ODD_Y);
        assert_eq!(key.public().y()[31] & 1, 0);
        assert_ne!(key.as_bytes(), &D);
        // d + (n - d) = n
        let mut carry = 0;
        for i in (0..32).rev() {
            let sum = u16::from(D[i]) + u16::from(key.as_bytes()[i]) + carry;
            assert_eq!(sum.to_be_bytes()[1], ORDER[i]);
            carry = sum >> 8;
        }
        // and the negated scalar is a fixed point
        assert_eq!(PrivateKey::from_bytes(key.as_bytes()).unwrap().as_bytes(), key.as_bytes());
    }

    #[test]
    fn a_prepared_key_is_given_away_once() {
        let mut prepared = PreparedKey::new();
        prepared.prepare(&mut OsRng);
        let ahead = *prepared.public().unwrap();
        prepared.prepare(&mut OsRng);
        assert_eq!(prepared.take(&mut OsRng).public(), &ahead, "one that is there is kept");
        assert_eq!(prepared.public(), None);
        assert_ne!(prepared.take(&mut OsRng).public(), &ahead);
        prepared.prepare(&mut OsRng);
        prepared.discard();
        assert_eq!(prepared.public(), None);
    }

    #[test]
    fn thumbprint_is_the_digest_of_the_deterministic_cose_key() {
        let key = PublicKey::from_x(&X).unwrap();
        let mut encoded = std::vec![0xa4, 1, 2, 0x20, 1, 0x21, 0x58, 32];
        encoded.extend(X);
        encoded.extend([0x22, 0x58, 32]);
        encoded.extend(key.y());
        let digest: [u8; 32] = Sha256::digest(&encoded).into();
        assert_eq!(key.thumbprint().as_bytes(), &digest);
        assert_eq!(key.kid(), digest[..8]);
        assert_eq!(key.thumbprint().to_string().len(), 64);
        assert!(key.thumbprint().to_string().starts_with(&std::format!("{:02x}{:02x}", digest[0], digest[1])));
    }

    #[test]
    fn the_credential_is_the_naked_ccs_of_89_bytes() {
        let key = PublicKey::from_x(&X).unwrap();
        let mut expected = hex!("a108a101a5010202").to_vec();
        expected.push(0x48);
        expected.extend(key.kid());
        expected.extend(hex!("2001215820"));
        expected.extend(X);
        expected.extend(hex!("225820"));
        expected.extend(key.y());
        assert_eq!(key.ccs().as_slice(), expected);
        assert_eq!(expected.len(), 89);
    }

    #[test]
    fn a_cose_key_must_have_the_even_y_and_the_right_kid() {
        let good = PublicKey::from_x(&X).unwrap().cose_key();
        assert_eq!(PublicKey::from_cose(&good).unwrap().x(), &X);
        assert_eq!(PublicKey::from_cose(&CoseKey { y: ODD_Y, ..good }), Err(KeyError::OtherY));
        assert_eq!(PublicKey::from_cose(&CoseKey { y: [2; 32], ..good }), Err(KeyError::OtherY));
        assert_eq!(PublicKey::from_cose(&CoseKey { kid: [0; 8], ..good }), Err(KeyError::WrongKid));
        assert_eq!(PublicKey::from_cose(&CoseKey { x: off_curve(), ..good }), Err(KeyError::NotOnCurve));
    }

    #[test]
    fn scalars_out_of_range_and_foreign_halves_are_refused() {
        assert_eq!(PrivateKey::from_bytes(&[0; 32]).unwrap_err(), KeyError::OutOfRange);
        assert_eq!(PrivateKey::from_bytes(&ORDER).unwrap_err(), KeyError::OutOfRange);
        assert_eq!(PrivateKey::from_bytes(&[0xff; 32]).unwrap_err(), KeyError::OutOfRange);
        assert_eq!(PrivateKey::from_cose(&PrivateCoseKey { x: X, d: D }).unwrap().public().x(), &X);
        assert_eq!(PrivateKey::from_cose(&PrivateCoseKey { x: [7; 32], d: D }).unwrap_err(), KeyError::NoPair);
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = PrivateKey::from_bytes(&D).unwrap();
        let shown = std::format!("{key:?}");
        assert!(shown.contains("60fed4ba"));
        assert!(!shown.contains(&Hex(key.as_bytes()).to_string()));
    }

    proptest! {
        #[test]
        fn every_key_has_an_even_y_and_is_found_again_by_its_x(_ in 0..20) {
            let key = PrivateKey::generate(&mut OsRng);
            prop_assert_eq!(key.public().y()[31] & 1, 0);
            prop_assert_eq!(&PublicKey::from_x(key.public().x()).unwrap(), key.public());
            let stored = PrivateKey::from_bytes(key.as_bytes()).unwrap();
            prop_assert_eq!(stored.public(), key.public());
            let restored = PrivateKey::restore(key.as_bytes(), key.public().x()).unwrap();
            prop_assert_eq!((restored.as_bytes(), restored.public()), (key.as_bytes(), key.public()));
        }
    }
}
