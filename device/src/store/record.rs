//! The commit record and the pending mark: what they hold, and their bytes.

use cbor_schemas::{KeyOrigin, ListMode, Watermarks};
use minicbor::encode::write::{Cursor, EndOfSlice};
use minicbor::{Decoder, Encoder, decode, encode};

use super::{
    contents::{Contents, Digest, Side, Slot, digest},
    error::{Error, FaultReason},
    list::List,
};

/// The whole durable state, as last read back from flash, without the private key, the slots' contents and the list's
/// keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Keys since the last erase: 1 after the first start.
    pub generation: u32,
    /// Where the present key came from.
    pub key_origin: KeyOrigin,
    /// Fillings and emptyings of the owner slot.
    pub claim_counter: u32,
    /// What the factory slot holds; `None` is empty.
    pub factory: Option<Contents>,
    /// What the owner slot holds; `None` is empty.
    pub owner: Option<Contents>,
    /// The newest `iat` verified under the anchor of each slot.
    pub watermarks: Watermarks,
    /// The device list held.
    pub list: Option<List>,
    /// The values of the product held.
    pub values: Option<Contents>,
}

/// The commit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Counts commits, from 1.
    pub(super) sequence: u64,
    /// Digest of the private key's bytes.
    pub(super) key: Digest,
    pub(super) snapshot: Snapshot,
}

/// A commit that takes page erases, durable before the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The owner range is erased.
    pub(super) wipe_owner: bool,
    /// The keys range is erased and gets a new key; its digest replaces the one in `record`.
    pub(super) new_key: bool,
    /// The record that completes the commit.
    pub(super) record: Record,
}

const FORMAT: u8 = 3;

impl Record {
    /// Longest encoding, in bytes.
    pub(super) const MAX_LEN: usize = 249;

    /// Encoding of every [`first`](Self::first) record, in bytes.
    pub(super) const FIRST_LEN: usize = 46;

    pub(super) fn first(key: &[u8; 32], key_origin: KeyOrigin) -> Self {
        let snapshot = Snapshot {
            generation: 1,
            key_origin,
            claim_counter: 0,
            factory: None,
            owner: None,
            watermarks: Watermarks { factory: None, owner: None },
            list: None,
            values: None,
        };
        Record { sequence: 1, key: digest(key), snapshot }
    }

    /// The record of the next commit, so far with the same contents.
    pub(super) fn next(&self) -> Self {
        Record { sequence: self.sequence.saturating_add(1), ..*self }
    }

    pub(super) fn with_key(&self, key: &[u8; 32], key_origin: KeyOrigin) -> Self {
        Record { key: digest(key), snapshot: Snapshot { key_origin, ..self.snapshot }, ..*self }
    }

    pub(super) fn encode<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], Error> {
        let mut encoder = Encoder::new(Cursor::new(&mut *out));
        self.encode_into(&mut encoder).map_err(|_| Error::Full)?;
        let len = encoder.into_writer().position();
        out.get(..len).ok_or(Error::Full)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FaultReason> {
        let mut decoder = Decoder::new(bytes);
        match Self::decode_from(&mut decoder) {
            Ok(record) if decoder.position() == bytes.len() => Ok(record),
            _ => Err(FaultReason::UnknownFormat),
        }
    }

    fn encode_into(&self, e: &mut Encoder<Cursor<&mut [u8]>>) -> Result<(), encode::Error<EndOfSlice>> {
        let Record { sequence, key, snapshot } = self;
        e.array(12)?.u8(FORMAT)?.u64(*sequence)?.bytes(key)?;
        e.u32(snapshot.generation)?.u8(snapshot.key_origin as u8)?.u32(snapshot.claim_counter)?;
        [snapshot.factory, snapshot.owner].into_iter().try_for_each(|contents| encode_contents(contents, e))?;
        for number in [snapshot.watermarks.factory, snapshot.watermarks.owner] {
            match number {
                Some(number) => e.u64(number)?,
                None => e.null()?,
            };
        }
        match snapshot.list {
            Some(List { version, mode, min_iat, count, digest, side }) => {
                e.array(6)?.u64(version)?.u8(mode as u8)?.u64(min_iat)?.u16(count)?.bytes(&digest)?.u8(side as u8)?
            }
            None => e.null()?,
        };
        encode_contents(snapshot.values, e)
    }

    fn decode_from(d: &mut Decoder<'_>) -> Result<Self, decode::Error> {
        if d.array()? != Some(12) || d.u8()? != FORMAT {
            return Err(decode::Error::message("another format"));
        }
        let sequence = d.u64()?;
        let key = digest_from(d)?;
        let snapshot = Snapshot {
            generation: d.u32()?,
            key_origin: origin_from(d.u8()?)?,
            claim_counter: d.u32()?,
            factory: nullable(d, contents_from)?,
            owner: nullable(d, contents_from)?,
            watermarks: Watermarks { factory: nullable(d, Decoder::u64)?, owner: nullable(d, Decoder::u64)? },
            list: nullable(d, list_from)?,
            values: nullable(d, contents_from)?,
        };
        Ok(Record { sequence, key, snapshot })
    }
}

impl Mark {
    /// Longest encoding, in bytes: one byte of flags before the record.
    pub(super) const MAX_LEN: usize = Record::MAX_LEN.saturating_add(1);

    const WIPE_OWNER: u8 = 1;
    const NEW_KEY: u8 = 2;

    pub(super) fn encode<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], Error> {
        let (flags, rest) = out.split_first_mut().ok_or(Error::Full)?;
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        *flags = flag(self.wipe_owner, Self::WIPE_OWNER) | flag(self.new_key, Self::NEW_KEY);
        let len = self.record.encode(rest)?.len().saturating_add(1);
        out.get(..len).ok_or(Error::Full)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FaultReason> {
        let (flags, record) = bytes.split_first().ok_or(FaultReason::UnknownFormat)?;
        if flags & !(Self::WIPE_OWNER | Self::NEW_KEY) != 0 {
            return Err(FaultReason::UnknownFormat);
        }
        let record = Record::decode(record)?;
        Ok(Mark { wipe_owner: flags & Self::WIPE_OWNER != 0, new_key: flags & Self::NEW_KEY != 0, record })
    }
}

impl Snapshot {
    /// What `slot` holds; `None` is empty.
    pub fn contents(&self, slot: Slot) -> Option<&Contents> {
        match slot {
            Slot::Factory => self.factory.as_ref(),
            Slot::Owner => self.owner.as_ref(),
        }
    }

    /// Nothing that is the owner's is left. The claim counter is not counted on.
    pub(super) fn forget_owner(&mut self) {
        self.owner = None;
        self.watermarks.owner = None;
        self.list = None;
        self.values = None;
    }

    pub(super) fn set_contents(&mut self, slot: Slot, contents: Option<Contents>) {
        match slot {
            Slot::Factory => self.factory = contents,
            Slot::Owner => self.owner = contents,
        }
    }

    pub(super) fn watermark_mut(&mut self, slot: Slot) -> &mut Option<u64> {
        match slot {
            Slot::Factory => &mut self.watermarks.factory,
            Slot::Owner => &mut self.watermarks.owner,
        }
    }
}

fn encode_contents(
    contents: Option<Contents>,
    e: &mut Encoder<Cursor<&mut [u8]>>,
) -> Result<(), encode::Error<EndOfSlice>> {
    match contents {
        Some(Contents { digest, len, side }) => e.array(3)?.u8(side as u8)?.u16(len)?.bytes(&digest)?,
        None => e.null()?,
    };
    Ok(())
}

fn nullable<'b, T>(
    d: &mut Decoder<'b>,
    value: impl FnOnce(&mut Decoder<'b>) -> Result<T, decode::Error>,
) -> Result<Option<T>, decode::Error> {
    if d.datatype()? == minicbor::data::Type::Null { d.null().map(|()| None) } else { value(d).map(Some) }
}

fn contents_from(d: &mut Decoder<'_>) -> Result<Contents, decode::Error> {
    if d.array()? != Some(3) {
        return Err(decode::Error::message("contents are an array of three"));
    }
    let side = side_from(d.u8()?)?;
    Ok(Contents { side, len: d.u16()?, digest: digest_from(d)? })
}

fn list_from(d: &mut Decoder<'_>) -> Result<List, decode::Error> {
    if d.array()? != Some(6) {
        return Err(decode::Error::message("a list is an array of six"));
    }
    Ok(List {
        version: d.u64()?,
        mode: ListMode::try_from(d.u8()?).map_err(|_| decode::Error::message("no such mode"))?,
        min_iat: d.u64()?,
        count: d.u16()?,
        digest: digest_from(d)?,
        side: side_from(d.u8()?)?,
    })
}

fn side_from(number: u8) -> Result<Side, decode::Error> {
    match number {
        0 => Ok(Side::A),
        1 => Ok(Side::B),
        _ => Err(decode::Error::message("no such side")),
    }
}

fn digest_from(d: &mut Decoder<'_>) -> Result<Digest, decode::Error> {
    d.bytes()?.try_into().map_err(|_| decode::Error::message("a digest has 32 bytes"))
}

fn origin_from(number: u8) -> Result<KeyOrigin, decode::Error> {
    KeyOrigin::try_from(number).map_err(|_| decode::Error::message("no such key origin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn largest() -> Record {
        let contents = |side| Some(Contents { digest: [0xEE; 32], len: u16::MAX, side });
        Record {
            sequence: u64::MAX,
            key: [0xDD; 32],
            snapshot: Snapshot {
                generation: u32::MAX,
                key_origin: KeyOrigin::Derived,
                claim_counter: u32::MAX,
                factory: contents(Side::A),
                owner: contents(Side::B),
                watermarks: Watermarks { factory: Some(u64::MAX), owner: Some(u64::MAX) },
                list: Some(List {
                    version: u64::MAX,
                    mode: ListMode::Revoked,
                    min_iat: u64::MAX,
                    count: u16::MAX,
                    digest: [0xCC; 32],
                    side: Side::B,
                }),
                values: contents(Side::B),
            },
        }
    }

    #[test]
    fn records_and_marks_come_back_and_the_largest_just_fits() {
        let mut buffer = [0; Mark::MAX_LEN];
        let small = Record::first(&[7; 32], KeyOrigin::Injected);
        for record in [small, small.next().with_key(&[8; 32], KeyOrigin::Generated), largest()] {
            assert_eq!(Record::decode(record.encode(&mut buffer).unwrap()), Ok(record));
            for (wipe_owner, new_key) in [(true, false), (false, true), (true, true)] {
                let mark = Mark { wipe_owner, new_key, record };
                assert_eq!(Mark::decode(mark.encode(&mut buffer).unwrap()), Ok(mark));
            }
        }
        assert_eq!(largest().encode(&mut buffer).unwrap().len(), Record::MAX_LEN);
        assert_eq!(small.encode(&mut buffer).unwrap().len(), Record::FIRST_LEN);
        assert_eq!(largest().encode(&mut [0; Record::MAX_LEN - 1]), Err(Error::Full));
    }

    #[test]
    fn other_bytes_are_refused() {
        let mut buffer = [0; Mark::MAX_LEN + 1];
        let len = largest().encode(&mut buffer).unwrap().len();
        for shorter in 0..len {
            assert_eq!(Record::decode(&buffer[..shorter]), Err(FaultReason::UnknownFormat));
        }
        assert_eq!(Record::decode(&buffer[..=len]), Err(FaultReason::UnknownFormat), "trailing byte");
        buffer[1] = FORMAT + 1;
        assert_eq!(Record::decode(&buffer[..len]), Err(FaultReason::UnknownFormat), "newer format");
        assert_eq!(Mark::decode(&[]), Err(FaultReason::UnknownFormat));
        let len = Mark { wipe_owner: true, new_key: true, record: largest() }.encode(&mut buffer).unwrap().len();
        buffer[0] |= 4;
        assert_eq!(Mark::decode(&buffer[..len]), Err(FaultReason::UnknownFormat), "unknown flag");
    }
}
