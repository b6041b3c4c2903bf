use crate::{
    codec::{Reader, Wire, Writer, codec},
    map::{MapReader, MapWriter, Unknown},
};

/// The answer to a `PUT` on a slot: written, and read back from storage. At most 83 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The x-coordinate of the device's key.
    pub device: [u8; 32],
    /// The claim counter after the write.
    pub claim_counter: u32,
    /// The generation of the device's key.
    pub generation: u32,
    /// SHA-256 of the [`SlotContents`](crate::SlotContents) read back from storage.
    pub digest: [u8; 32],
}

impl Receipt {
    /// The longest encoding in bytes.
    pub const MAX_LEN: usize = 83;
}

codec!(Receipt);

impl Wire<'_> for Receipt {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut map = MapReader::new(reader, Unknown::Refused);
        let receipt = Self {
            device: map.required(1),
            claim_counter: map.required(2),
            generation: map.required(3),
            digest: map.required(4),
        };
        map.end();
        receipt
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.entry(1, &self.device);
        map.entry(2, &self.claim_counter);
        map.entry(3, &self.generation);
        map.entry(4, &self.digest);
        map.end();
    }
}
