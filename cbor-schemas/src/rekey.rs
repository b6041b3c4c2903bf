use crate::{
    CoseKey, Error, PrivateCoseKey, codec,
    codec::{Reader, Wire, Writer, codec},
    map::{MapReader, MapWriter, Unknown},
};

/// `POST /comm/rekey`: make a new key, or take this one. At most 77 bytes.
#[derive(Debug, Default)]
pub struct RekeyRequest {
    /// A key to take; without one the device makes its own.
    pub injected: Option<PrivateCoseKey>,
}

impl RekeyRequest {
    /// The longest encoding in bytes.
    pub const MAX_LEN: usize = 77;

    /// Reads a request from the whole of `bytes`. No bytes at all mean the same as an empty map: make a new key.
    ///
    /// # Errors
    /// Anything else but one deterministically encoded item that the CDDL accepts is refused; see [`Error`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() { Ok(Self::default()) } else { codec::decode(bytes) }
    }

    /// Writes the request to the start of `out` and returns the number of bytes written.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if `out` is too small; it may have been written to.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        codec::encode(self, out)
    }
}

impl Wire<'_> for RekeyRequest {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut map = MapReader::new(reader, Unknown::Refused);
        let request = Self { injected: map.optional(1) };
        map.end();
        request
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.optional(1, &self.injected);
        map.end();
    }
}

/// The answer to a rekey, still under the old key: what the registry needs to know it as succession. At most 93 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RekeyResponse {
    /// The new key.
    pub key: CoseKey,
    /// Its generation.
    pub generation: u32,
}

impl RekeyResponse {
    /// The longest encoding in bytes.
    pub const MAX_LEN: usize = 93;
}

codec!(RekeyResponse);

impl Wire<'_> for RekeyResponse {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut map = MapReader::new(reader, Unknown::Refused);
        let response = Self { key: map.required(1), generation: map.required(2) };
        map.end();
        response
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.entry(1, &self.key);
        map.entry(2, &self.generation);
        map.end();
    }
}
