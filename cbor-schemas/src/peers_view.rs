use crate::{
    ListMode,
    codec::{Reader, Wire, Writer, codec},
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
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut map = MapReader::new(reader, Unknown::IntSkipped);
        let view =
            Self { version: map.optional(0), mode: map.optional(1), held: map.required(2), capacity: map.required(3) };
        map.end();
        view
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.optional(0, &self.version);
        map.optional(1, &self.mode);
        map.entry(2, &self.held);
        map.entry(3, &self.capacity);
        map.end();
    }
}
