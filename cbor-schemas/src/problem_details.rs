use crate::{
    codec::{Reader, Text, Wire, Writer, codec},
    map::{MapReader, MapWriter, Unknown},
};

/// What went wrong, for people: Concise Problem Details (RFC 9290). At most 199 bytes.
///
/// Other details, under keys of any type, are skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProblemDetails<'a> {
    /// What happened, at most [`MAX_TITLE`](Self::MAX_TITLE) bytes.
    pub title: Option<&'a str>,
    /// About this occurrence, and what to do; at most [`MAX_DETAIL`](Self::MAX_DETAIL) bytes.
    pub detail: Option<&'a str>,
}

impl ProblemDetails<'_> {
    /// The longest encoding in bytes.
    pub const MAX_LEN: usize = 199;
    /// The longest title in bytes.
    pub const MAX_TITLE: usize = 64;
    /// The longest detail in bytes.
    pub const MAX_DETAIL: usize = 128;
}

codec!(ProblemDetails<'a>);

impl<'b> Wire<'b> for ProblemDetails<'b> {
    fn read(reader: &mut Reader<'b>) -> Self {
        let mut map = MapReader::new(reader, Unknown::AnySkipped);
        let title = map.optional::<Title<'b>>(-1).map(|text| text.0);
        let detail = map.optional::<Detail<'b>>(-2).map(|text| text.0);
        map.end();
        Self { title, detail }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.optional(-1, &self.title.map(Text::<{ ProblemDetails::MAX_TITLE }>));
        map.optional(-2, &self.detail.map(Text::<{ ProblemDetails::MAX_DETAIL }>));
        map.end();
    }
}

type Title<'a> = Text<'a, { ProblemDetails::MAX_TITLE }>;
type Detail<'a> = Text<'a, { ProblemDetails::MAX_DETAIL }>;
