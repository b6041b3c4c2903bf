//! The image: the whole durable state but the keys of the device list, in chunks of 32 bytes at fixed places.
//!
//! | chunks | what |
//! |---|---|
//! | 0 to 9 | the record: all that [`Image::walk`] names, in that order; the rest is left blank, for members to come |
//! | 10 | the private key |
//! | 11 to 30, 31 to 50, 51 to 70 | contents of the factory slot, of the owner slot, and the values |
//! | 71 | SHA-256 of chunks 0 to 70 |
//! | 72 and behind | watermarks that followed, one chunk each: see [`Image::entry`] |
//!
//! Numbers are big-endian. What is not there is blank: 0xFF.

use cbor_schemas::{KeyOrigin, ListMode, Watermarks};
use sha2::{Digest as _, Sha256};

use super::{
    chunk::{Chunk, Side},
    contents::{Contents, Digest, MAX_CONTENTS_LEN, Part, Slot},
    list::List,
};

/// Chunks of the record.
pub(super) const RECORD: u32 = 10;
/// The place of the key.
pub(super) const KEY: u32 = RECORD;
/// The place of the first contents.
pub(super) const PARTS: u32 = KEY + 1;
/// Chunks of each contents.
pub(super) const PART: u32 = (MAX_CONTENTS_LEN / Chunk::LEN) as u32;
/// The place of the digest.
pub(super) const DIGEST: u32 = PARTS + 3 * PART;
/// The first place behind the image.
pub(super) const TAIL: u32 = DIGEST + 1;
/// Bytes of an image.
pub(super) const IMAGE_LEN: usize = TAIL as usize * Chunk::LEN;

/// What every image begins with, and how it goes on.
pub(super) const MAGIC: [u8; 4] = *b"COMM";
pub(super) const FORMAT: u8 = 4;

/// Bytes of a record.
pub(super) type Record = [u8; RECORD as usize * Chunk::LEN];

/// The whole durable state, as last read back from flash, without the private key, the contents and the list's keys.
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

/// What a half says, with the watermarks that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Counts images, from 1.
    pub(super) number: u32,
    /// The half that it was written to first.
    pub(super) first: Side,
    pub(super) snapshot: Snapshot,
    /// SHA-256 of the image.
    pub(super) digest: Digest,
}

/// The fields of a record, one after the other: copied out of it, or into it.
struct Fields<'r> {
    rest: &'r mut [u8],
    writes: bool,
}

impl Snapshot {
    /// The state before the first start.
    const NONE: Self = Snapshot {
        generation: 0,
        key_origin: KeyOrigin::Generated,
        claim_counter: 0,
        factory: None,
        owner: None,
        watermarks: Watermarks { factory: None, owner: None },
        list: None,
        values: None,
    };

    /// What `slot` holds; `None` is empty.
    pub fn contents(&self, slot: Slot) -> Option<&Contents> {
        self.part(Part::of(slot))
    }

    pub(super) fn part(&self, part: Part) -> Option<&Contents> {
        match part {
            Part::Factory => self.factory.as_ref(),
            Part::Owner => self.owner.as_ref(),
            Part::Values => self.values.as_ref(),
        }
    }

    /// Nothing that is the owner's is left. The claim counter is not counted on.
    pub(super) fn forget_owner(&mut self) {
        self.owner = None;
        self.watermarks.owner = None;
        self.list = None;
        self.values = None;
    }
}

impl Image {
    /// Before the first start.
    pub(super) const NONE: Self = Image { number: 0, first: Side::A, snapshot: Snapshot::NONE, digest: [0; 32] };

    /// The record, blank behind its last field.
    pub(super) fn encode(&self, record: &mut Record) {
        record.fill(0xFF);
        // Writing leaves the fields as they are.
        let _ = { *self }.walk(Fields { rest: record, writes: true });
    }

    /// Takes over what a record says. `None` if that is nothing that this firmware knows.
    pub(super) fn decode(&mut self, record: &mut Record) -> Option<()> {
        self.walk(Fields { rest: record, writes: false })
    }

    /// The fields in their order. One walk reads and writes them, so that both agree.
    fn walk(&mut self, mut fields: Fields<'_>) -> Option<()> {
        const FIRST: u8 = 1;
        const LIST: u8 = 2;
        const LIST_SIDE: u8 = 4;
        const FACTORY_MARK: u8 = 8;
        const OWNER_MARK: u8 = 16;

        let Image { number, first, snapshot, .. } = self;
        let Watermarks { factory, owner } = &mut snapshot.watermarks;
        let mut list = snapshot.list.unwrap_or(List::NONE);
        let (mut magic, mut format, mut flags) = (MAGIC, FORMAT, 0);
        let (mut origin, mut mode) = (snapshot.key_origin as u8, list.mode as u8);
        for (flag, is_set) in [
            (FIRST, *first == Side::B),
            (LIST, snapshot.list.is_some()),
            (LIST_SIDE, list.side == Side::B),
            (FACTORY_MARK, factory.is_some()),
            (OWNER_MARK, owner.is_some()),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        fields.bytes(&mut magic);
        for byte in [&mut format, &mut flags, &mut origin, &mut mode] {
            fields.bytes(core::slice::from_mut(byte));
        }
        for count in [number, &mut snapshot.generation, &mut snapshot.claim_counter] {
            fields.u32(count);
        }
        fields.mark(factory, flags & FACTORY_MARK != 0);
        fields.mark(owner, flags & OWNER_MARK != 0);
        for contents in [&mut snapshot.factory, &mut snapshot.owner, &mut snapshot.values] {
            fields.contents(contents);
        }
        fields.u64(&mut list.version);
        fields.u64(&mut list.min_iat);
        fields.u16(&mut list.count);
        fields.bytes(&mut list.digest);
        if fields.writes {
            return Some(());
        }
        let is_known = (magic, format) == (MAGIC, FORMAT) && flags >> 5 == 0;
        *first = Side::from_bit(flags & FIRST != 0);
        snapshot.key_origin = KeyOrigin::try_from(origin).ok()?;
        list.mode = ListMode::try_from(mode).ok()?;
        list.side = Side::from_bit(flags & LIST_SIDE != 0);
        snapshot.list = Some(list).filter(|_| flags & LIST != 0);
        is_known.then_some(())
    }

    /// The watermarks, to be programmed at the place `place` behind this image: flags, both times, and the beginning of
    /// SHA-256 over the image's digest, the place, and what stands before it.
    pub(super) fn entry(&self, place: u32, chunk: &mut Chunk) {
        let Watermarks { mut factory, mut owner } = self.snapshot.watermarks;
        let mut flags = Self::entry_flags(factory.is_some(), owner.is_some());
        let mut fields = Fields { rest: &mut chunk.0, writes: true };
        fields.bytes(core::slice::from_mut(&mut flags));
        fields.mark(&mut factory, true);
        fields.mark(&mut owner, true);
        let check = entry_check(&self.digest, place, chunk);
        chunk.0.iter_mut().skip(ENTRY_LEN).zip(check).for_each(|(to, from)| *to = from);
    }

    /// The watermarks of an entry; `None` if it is none behind the image with this digest, or not whole.
    pub(super) fn read_entry(digest: &Digest, place: u32, chunk: &mut Chunk) -> Option<Watermarks> {
        let check = entry_check(digest, place, chunk);
        if !chunk.0.iter().skip(ENTRY_LEN).eq(check.iter().take(Chunk::LEN - ENTRY_LEN)) {
            return None;
        }
        let (mut flags, mut marks) = (0, Watermarks { factory: None, owner: None });
        let mut fields = Fields { rest: &mut chunk.0, writes: false };
        fields.bytes(core::slice::from_mut(&mut flags));
        fields.mark(&mut marks.factory, flags & 1 != 0);
        fields.mark(&mut marks.owner, flags & 2 != 0);
        Some(marks)
    }

    fn entry_flags(has_factory: bool, has_owner: bool) -> u8 {
        u8::from(has_factory) | (u8::from(has_owner) << 1)
    }
}

/// Bytes of an entry before its check.
const ENTRY_LEN: usize = 1 + 8 + 8;

fn entry_check(digest: &Digest, place: u32, chunk: &Chunk) -> Digest {
    let mut hash = Sha256::new();
    hash.update(digest);
    hash.update(place.to_be_bytes());
    chunk.0.get(..ENTRY_LEN).into_iter().for_each(|entry| hash.update(entry));
    hash.finalize().into()
}

impl List {
    const NONE: Self =
        List { version: 0, mode: ListMode::Members, min_iat: 0, count: 0, digest: [0; 32], side: Side::A };
}

impl Fields<'_> {
    #[inline(never)]
    fn bytes(&mut self, value: &mut [u8]) {
        let Some((here, rest)) = core::mem::take(&mut self.rest).split_at_mut_checked(value.len()) else { return };
        if self.writes {
            here.copy_from_slice(value);
        } else {
            value.copy_from_slice(here);
        }
        self.rest = rest;
    }

    fn u16(&mut self, value: &mut u16) {
        let mut bytes = value.to_be_bytes();
        self.bytes(&mut bytes);
        *value = u16::from_be_bytes(bytes);
    }

    fn u32(&mut self, value: &mut u32) {
        let mut bytes = value.to_be_bytes();
        self.bytes(&mut bytes);
        *value = u32::from_be_bytes(bytes);
    }

    #[inline(never)]
    fn u64(&mut self, value: &mut u64) {
        let mut bytes = value.to_be_bytes();
        self.bytes(&mut bytes);
        *value = u64::from_be_bytes(bytes);
    }

    fn mark(&mut self, value: &mut Option<u64>, is_there: bool) {
        let mut time = value.unwrap_or_default();
        self.u64(&mut time);
        *value = Some(time).filter(|_| is_there);
    }

    #[inline(never)]
    fn contents(&mut self, value: &mut Option<Contents>) {
        let mut contents = value.unwrap_or(Contents { digest: [0; 32], len: 0 });
        self.u16(&mut contents.len);
        self.bytes(&mut contents.digest);
        *value = Some(contents).filter(|contents| contents.len > 0);
    }
}
