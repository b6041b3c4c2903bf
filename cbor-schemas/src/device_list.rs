use core::fmt;

use crate::{
    Claims, Error, IssuerId, Kind,
    choice::choice,
    codec::{Reader, Wire, Writer, codec},
    map::{MapReader, MapWriter, Unknown},
};

choice! {
    /// What the keys in a device list mean.
    ListMode {
        /// Exactly these keys are mine; certificates do not count.
        Members = 0, "members";
        /// Whoever has a certificate of this issuer is mine, unless its key is listed.
        Revoked = 1, "revoked";
    }
}

/// The claims of a device list: an issuer says which keys are its devices', or which no longer. The map may grow.
///
/// Sizes: 118 bytes at most without keys ([`MAX_FIXED_LEN`](Self::MAX_FIXED_LEN)), and 34 per key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceListClaims<'a> {
    /// iss
    pub issuer: IssuerId,
    /// iat, Unix seconds.
    pub issued_at: u64,
    /// Rises with each list of this issuer.
    pub version: u64,
    /// What the keys mean.
    pub mode: ListMode,
    /// Station tokens issued before this time (Unix seconds) are void.
    pub min_iat: u64,
    /// Members, or revoked keys.
    pub keys: Keys<'a>,
    /// Members whose possession of the key was never proved. Not sent if empty.
    pub unproven: Keys<'a>,
    /// The head of the issuer's audit trail.
    pub audit_head: Option<[u8; 32]>,
}

impl DeviceListClaims<'_> {
    /// The longest encoding in bytes without any key, for lists of up to 65,535 keys; each adds [`Keys::KEY_LEN`].
    pub const MAX_FIXED_LEN: usize = 118;
}

impl<'b> Claims<'b> for DeviceListClaims<'b> {
    const KIND: Kind = Kind::DeviceList;

    fn read(payload: &'b [u8]) -> Result<Self, Error> {
        Self::decode(payload)
    }

    fn issuer(&self) -> IssuerId {
        self.issuer
    }
}

codec!(DeviceListClaims<'a>);

impl<'b> Wire<'b> for DeviceListClaims<'b> {
    fn read(reader: &mut Reader<'b>) -> Self {
        let mut map = MapReader::new(reader, Unknown::IntSkipped);
        let claims = Self {
            issuer: map.required(1),
            issued_at: map.required(6),
            version: map.required(-70004),
            mode: map.required(-70005),
            min_iat: map.required(-70006),
            keys: map.required(-70007),
            unproven: map.optional(-70008).unwrap_or_default(),
            audit_head: map.optional(-70009),
        };
        map.end();
        claims
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let unproven = (!self.unproven.is_empty()).then_some(self.unproven);
        let mut map = MapWriter::new(writer);
        map.entry(1, &self.issuer);
        map.entry(6, &self.issued_at);
        map.entry(-70004, &self.version);
        map.entry(-70005, &self.mode);
        map.entry(-70006, &self.min_iat);
        map.entry(-70007, &self.keys);
        map.optional(-70008, &unproven);
        map.optional(-70009, &self.audit_head);
        map.end();
    }
}

/// Keys by their x-coordinates: over a list in memory, or in place over the encoded array.
#[derive(Clone, Copy)]
pub struct Keys<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    Plain(&'a [[u8; 32]]),
    /// The items of the array, without its head.
    Encoded(&'a [[u8; Keys::KEY_LEN]]),
}

impl<'a> Keys<'a> {
    /// The size of one key in the encoded array, in bytes.
    pub const KEY_LEN: usize = 34;

    /// The number of keys.
    pub const fn len(&self) -> usize {
        match self.0 {
            Source::Plain(keys) => keys.len(),
            Source::Encoded(items) => items.len(),
        }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The x-coordinates in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8; 32]> + Clone + use<'a> {
        let (plain, encoded): (&[[u8; 32]], &[[u8; Keys::KEY_LEN]]) = match self.0 {
            Source::Plain(keys) => (keys, &[]),
            Source::Encoded(items) => (&[], items),
        };
        plain.iter().chain(encoded.iter().filter_map(|item| item.last_chunk()))
    }

    /// Whether the key is in the list; the time it takes depends on where.
    pub fn contains(&self, x: &[u8; 32]) -> bool {
        self.iter().any(|key| key == x)
    }
}

impl Default for Keys<'_> {
    fn default() -> Self {
        Self(Source::Plain(&[]))
    }
}

impl<'a> From<&'a [[u8; 32]]> for Keys<'a> {
    fn from(keys: &'a [[u8; 32]]) -> Self {
        Self(Source::Plain(keys))
    }
}

impl<'b> Wire<'b> for Keys<'b> {
    fn read(reader: &mut Reader<'b>) -> Self {
        let array = reader.bytes_of(|reader| reader.items(|reader| reader.fill(&mut [0; 32])));
        // The head of the array is what is left of whole items.
        Self(Source::Encoded(array.as_rchunks().1))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.array(self.len() as u64);
        self.iter().for_each(|key| writer.bytes(key));
    }
}

impl PartialEq for Keys<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Keys<'_> {}

impl fmt::Debug for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_memory_and_in_place_are_the_same() {
        let plain = [[1; 32], [2; 32], [3; 32]];
        let encoded = plain.map(|x| {
            let mut item = [0; Keys::KEY_LEN];
            item[..2].copy_from_slice(&[0x58, 32]);
            item[2..].copy_from_slice(&x);
            item
        });
        let (plain, encoded) = (Keys::from(&plain[..]), Keys(Source::Encoded(&encoded)));
        assert_eq!(plain, encoded);
        assert_eq!(encoded.len(), 3);
        assert!(encoded.iter().eq([&[1; 32], &[2; 32], &[3; 32]]));
        assert!(encoded.contains(&[3; 32]) && !encoded.contains(&[4; 32]));
        assert_ne!(Keys::default(), encoded);
        assert!(Keys::default().is_empty());
    }
}
