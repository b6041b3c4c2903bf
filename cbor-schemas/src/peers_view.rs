use minicbor::Decoder;

use crate::{
    Error, ListMode,
    codec::{Wire, Writer, codec},
    map::{MapReader, MapWriter, Unknown},
};

/// `GET /comm/peers`: which device list a device holds. At most 21 bytes; the map may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeersView {
    /// The version of the list held, if any.
    pub version: Option<u64>,
    /// The mode of the list held, if any.
    pub mode: Option<ListMode>,
    /// The number of keys held.
    pub held: u16,
    /// The number of keys that fit.
    pub capacity: u16,
}

impl PeersView {
    /// The longest encoding in bytes.
    pub const MAX_LEN: usize = 21;
}

codec!(PeersView);

impl Wire<'_> for PeersView {
    fn read(decoder: &mut Decoder<'_>) -> Result<Self, Error> {
        let mut map = MapReader::new(decoder, Unknown::IntSkipped)?;
        let view = Self {
            version: map.optional(0)?,
            mode: map.optional(1)?,
            held: map.required(2)?,
            capacity: map.required(3)?,
        };
        map.end()?;
        Ok(view)
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        let mut map = MapWriter::new(writer)?;
        map.optional(0, &self.version)?;
        map.optional(1, &self.mode)?;
        map.entry(2, &self.held)?;
        map.entry(3, &self.capacity)?;
        map.end()
    }
}
