use crate::{
    CoseKey,
    codec::{Reader, Wire, Writer, codec},
    cose_key::Cnf,
    map::{MapReader, MapWriter, Unknown},
};

/// The EDHOC credential of devices and stations: a CWT Claims Set (RFC 8392) that holds a key and nothing else.
///
/// Always 89 bytes; the handshake's MACs cover exactly these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ccs(pub CoseKey);

impl Ccs {
    /// The size of the encoding in bytes.
    pub const LEN: usize = 89;
    /// The same as [`Ccs::LEN`].
    pub const MAX_LEN: usize = Self::LEN;

    /// The encoding.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        // Cannot fail: the encoding has this size, whatever the key.
        let _ = self.encode(&mut bytes);
        bytes
    }
}

codec!(Ccs);

impl Wire<'_> for Ccs {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut map = MapReader::new(reader, Unknown::Refused);
        let Cnf(key) = map.required(CNF);
        map.end();
        Self(key)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.entry(CNF, &Cnf(self.0));
        map.end();
    }
}

/// The label of `cnf` among the CWT claims.
const CNF: i64 = 8;
