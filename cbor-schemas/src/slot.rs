use crate::{
    CoseKey,
    choice::choice,
    codec::{Reader, Wire, Writer, codec},
    map::{MapReader, MapWriter, Unknown},
};

choice! {
    /// What a slot of the device holds.
    SlotState {
        /// Nothing: it can be claimed.
        Empty = 0, "empty";
        /// An issuer's key.
        Anchored = 1, "anchored";
        /// An issuer's key and a device certificate signed with it.
        Certified = 2, "certified";
    }
}

/// `PUT /comm/factory` and `/comm/owner`: what to install, and the voucher that allows it.
///
/// Certificate and voucher are signed objects; look into them with [`Sign1::decode_as`](crate::Sign1::decode_as).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRequest<'a> {
    /// The issuer's key.
    pub anchor: CoseKey,
    /// A device certificate.
    pub certificate: Option<&'a [u8]>,
    /// A voucher.
    pub voucher: Option<&'a [u8]>,
}

impl SlotRequest<'_> {
    /// The longest encoding in bytes, given a certificate and a voucher of this version of the schema.
    pub const MAX_LEN: usize = 684;
}

codec!(SlotRequest<'a>);

impl<'b> Wire<'b> for SlotRequest<'b> {
    fn read(reader: &mut Reader<'b>) -> Self {
        let mut map = MapReader::new(reader, Unknown::Refused);
        let request = Self { anchor: map.required(1), certificate: map.optional(2), voucher: map.optional(3) };
        map.end();
        request
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.entry(1, &self.anchor);
        map.optional(2, &self.certificate);
        map.optional(3, &self.voucher);
        map.end();
    }
}

/// What a slot holds. Its SHA-256 goes into the [`Receipt`](crate::Receipt).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotContents<'a> {
    /// The issuer's key.
    pub anchor: CoseKey,
    /// A device certificate.
    pub certificate: Option<&'a [u8]>,
}

impl SlotContents<'_> {
    /// The longest encoding in bytes, given a certificate of this version of the schema.
    pub const MAX_LEN: usize = 385;
}

codec!(SlotContents<'a>);

impl<'b> Wire<'b> for SlotContents<'b> {
    fn read(reader: &mut Reader<'b>) -> Self {
        let mut map = MapReader::new(reader, Unknown::Refused);
        let contents = Self { anchor: map.required(1), certificate: map.optional(2) };
        map.end();
        contents
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.entry(1, &self.anchor);
        map.optional(2, &self.certificate);
        map.end();
    }
}

/// `GET /comm/factory` and `/comm/owner`: the state, and to those who may see them the contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotView<'a> {
    /// What the slot holds.
    pub state: SlotState,
    /// The issuer's key.
    pub anchor: Option<CoseKey>,
    /// A device certificate.
    pub certificate: Option<&'a [u8]>,
}

impl SlotView<'_> {
    /// The longest encoding in bytes, given a certificate of this version of the schema.
    pub const MAX_LEN: usize = 387;
}

codec!(SlotView<'a>);

impl<'b> Wire<'b> for SlotView<'b> {
    fn read(reader: &mut Reader<'b>) -> Self {
        let mut map = MapReader::new(reader, Unknown::Refused);
        let view = Self { state: map.required(0), anchor: map.optional(1), certificate: map.optional(2) };
        map.end();
        view
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.entry(0, &self.state);
        map.optional(1, &self.anchor);
        map.optional(2, &self.certificate);
        map.end();
    }
}
