use core::fmt;

use crate::{
    choice::choice,
    codec::{Reader, Wire, Writer, codec},
    map::{MapReader, MapWriter, Unknown},
};

/// A key identifier: the first 8 bytes of the COSE Key Thumbprint (RFC 9679, SHA-256).
pub type Kid = [u8; 8];

choice! {
    /// Where a device's key came from.
    KeyOrigin {
        /// Made on the device from its own randomness.
        Generated = 0, "generated";
        /// Sent to the device by its owner, who knows it too.
        Injected = 1, "injected";
        /// Derived on the device from a secret in its hardware.
        Derived = 2, "derived";
    }
}

/// A P-256 public key as COSE_Key (RFC 9052 section 7): always 85 bytes.
///
/// This is only the form on the wire. Whether the point is on the curve, `y` is even and `kid` is the thumbprint's is
/// for `edhoc-oscore` to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CoseKey {
    /// Key identifier.
    pub kid: Kid,
    /// The x-coordinate, big-endian: the key's identity.
    pub x: [u8; 32],
    /// The y-coordinate, big-endian.
    pub y: [u8; 32],
}

impl CoseKey {
    /// The size of the encoding in bytes.
    pub const MAX_LEN: usize = 85;
}

codec!(CoseKey);

impl Wire<'_> for CoseKey {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut map = MapReader::new(reader, Unknown::Refused);
        map.constant(KTY, EC2);
        let kid = map.required(KID);
        map.constant(CRV, P_256);
        let key = Self { kid, x: map.required(X), y: map.required(Y) };
        map.end();
        key
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.constant(KTY, EC2);
        map.entry(KID, &self.kid);
        map.constant(CRV, P_256);
        map.entry(X, &self.x);
        map.entry(Y, &self.y);
        map.end();
    }
}

/// A P-256 private key for injection into a device, only ever sent under OSCORE: always 75 bytes.
///
/// It does not wipe itself: move `d` into the wiping key type of `edhoc-oscore` and overwrite the buffer it was
/// decoded from. [`Debug`] does not show `d`.
pub struct PrivateCoseKey {
    /// The x-coordinate of the public key, big-endian.
    pub x: [u8; 32],
    /// The secret scalar, big-endian.
    pub d: [u8; 32],
}

impl PrivateCoseKey {
    /// The size of the encoding in bytes.
    pub const MAX_LEN: usize = 75;
}

codec!(PrivateCoseKey);

impl Wire<'_> for PrivateCoseKey {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut map = MapReader::new(reader, Unknown::Refused);
        map.constant(KTY, EC2);
        map.constant(CRV, P_256);
        let key = Self { x: map.required(X), d: map.required(D) };
        map.end();
        key
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.constant(KTY, EC2);
        map.constant(CRV, P_256);
        map.entry(X, &self.x);
        map.entry(D, &self.d);
        map.end();
    }
}

impl fmt::Debug for PrivateCoseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateCoseKey").field("x", &self.x).finish_non_exhaustive()
    }
}

/// `cnf` (RFC 8747) as `{1: COSE_Key}`, the only form that we accept.
pub(crate) struct Cnf(pub(crate) CoseKey);

impl Wire<'_> for Cnf {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut map = MapReader::new(reader, Unknown::Refused);
        let key = map.required(CNF_COSE_KEY);
        map.end();
        Self(key)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.entry(CNF_COSE_KEY, &self.0);
        map.end();
    }
}

// Labels and values of RFC 9053 section 7.1.1, and of RFC 8747 section 3.1.
const KTY: i64 = 1;
const KID: i64 = 2;
const CRV: i64 = -1;
const X: i64 = -2;
const Y: i64 = -3;
const D: i64 = -4;
const EC2: i64 = 2;
const P_256: i64 = 1;
const CNF_COSE_KEY: i64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_not_shown() {
        let key = PrivateCoseKey { x: [1; 32], d: [222; 32] };
        let shown = format!("{key:?} {key:#?}");
        assert!(shown.contains('1') && !shown.contains("222"), "{shown}");
    }
}
