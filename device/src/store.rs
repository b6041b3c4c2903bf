//! The durable state of the device: one commit at a time, old or new after a power cut, and failing closed.
//!
//! # What is where
//!
//! Five ranges of NOR flash ([`Layout`]), three of them maps of sequential-storage:
//!
//! | range | items | erased by |
//! |---|---|---|
//! | *keys* | the identity key | rekey; reset of an injected key |
//! | *owner* | a copy of the commit record; the owner slot's contents, side A or B | reset, transfer |
//! | *state* | the commit record; the pending mark; the factory slot's contents, side A or B | no request |
//! | *list* | the keys of the device list, side A or B, bare; for a moment of a transfer, the next owner's contents | reset, transfer |
//! | *values* | the product's values, side A or B, bare | reset, transfer |
//!
//! A first start that begins again erases *keys*, *owner* and *state*; one that is completed erases *state*. The half of
//! *list* or *values* that the record does not name is erased before it is written, and that of *values* once its
//! successor is in force, too.
//!
//! The **commit record** counts commits and names everything else by SHA-256: the key; for each slot the side that holds
//! its contents; likewise for the device list and the values. Both copies are written last, *owner* first and *state*
//! second.
//!
//! # Old or new, never between
//!
//! sequential-storage leaves the old or the new value of one item after a power cut. From that:
//!
//! - *A slot, a list, values or a watermark.* New contents go to the side that the record does not name, then the record
//!   is written. Before its first copy is whole, the old record and the old contents are there; afterwards the new ones.
//!   Copies that are one commit apart are what such a cut leaves: the newer one counts, and the other is written again.
//! - *Rekey, reset and transfer* erase pages, so they cannot be undone. A **pending mark** with the whole new record is
//!   durable before the first page is erased. It is in force while the record in *state* is exactly one commit behind it
//!   and *owner* holds the same record as *state*; or, if the mark erases *owner*, an older one or none. Then opening
//!   carries it out, as often as it takes: everything it does can be repeated. Marks are not cleared: once the record is
//!   written, they are out of force for good.
//!   - A rekey that was interrupted needs another key ([`Opened::NeedsKey`]), since no answer named the first one; so does
//!     a reset that takes an injected key away.
//!   - A transfer's contents wait in the half of *list* that no list is in, whole before the mark is. *List* is erased
//!     after they were put into *owner*, so they are in one of the two until the record is written.
//! - *The first start* writes the key, then the record in *owner*, then the record in *state*, and has no mark.
//!
//! # Failing closed
//!
//! What has to hold at once: a first start that was cut short begins again; and on a device that ever answered, damage
//! never looks like a first start, which would make a new key and leave the device open to be claimed.
//!
//! A first start begins again only if there is no commit record in *either* range, *list* and *values* are blank, and the
//! *other three* ranges are blank behind the place of their very first item. A cut leaves that, because *state* is written
//! last, and by the first record only. (If the first record is whole in *owner*, so is the key, and *state* is completed
//! instead.) A device that ever answered has a record in *state* and a copy in *owner*. *State* is erased as a whole only
//! while it holds no record. *Owner* is erased by a reset or a transfer, but only while *state* has a record and a mark. So
//! damage has to take the records of two ranges at the same time, and to leave blank bytes, not garbage, behind the first
//! item of each.
//!
//! Damage to one range is an intact state or a fault, range by range:
//!
//! - *keys*: the record names the key by its digest. Any other key, or none, is a fault, unless a mark in force brings a
//!   new one anyway.
//! - *owner*: without the copy it is a fault, unless a mark in force erases this range anyway. An older copy is overruled
//!   by *state* if it is one commit behind, and is a fault if it is further behind. The record in *state* names the
//!   contents, too.
//! - *state*: likewise, overruled by *owner*. Without a record it is a fault, except on a device that had no other commit
//!   than its first: there it is rebuilt. An older mark is out of force. A mark that cannot be read is a fault.
//! - *list*, *values*: the record names the half and its digest. What does not match is a fault, at opening and at each
//!   later look. A half that the record does not name counts for nothing, except against a first start. Where contents
//!   wait for a mark in force and do not match, and *owner* does not have them, it is a fault.
//!
//! Nothing is reported as done before it was read back: each item right after it was written, and all of it at the end
//! of a commit, by fresh instances of sequential-storage without a cache. A commit that reads back as something else is
//! tried a second time.
//!
//! # Memory
//!
//! The store holds one record (about 250 bytes). Each operation uses a [`Scratch`] of 672 bytes on the stack, or two.
//! The flash needs words of 4 to 32 bytes and pages of at least 1024 bytes: others do not compile. How much flash:
//! [`Layout::smallest`].

mod blocking;
mod contents;
mod error;
mod half;
mod layout;
mod list;
mod record;
mod region;

use cbor_schemas::KeyOrigin;
use embedded_storage::nor_flash::NorFlash;
use half::Half;
use zeroize::Zeroize as _;

pub use contents::{Contents, Digest, MAX_CONTENTS_LEN, Slot};
pub use error::{Error, FaultReason};
pub use layout::{Layout, LayoutError};
pub use list::List;
pub use record::Snapshot;
pub use region::Scratch;

use contents::{Side, digest};
use layout::LIST_BYTES;
use record::{Mark, Record};
use region::{Item, Region};

/// The device's storage.
pub struct Store<F> {
    flash: F,
    layout: Layout,
    /// What was last read from flash. `None` if that failed: then it is read again before the next commit.
    current: Option<Record>,
}

/// What was found in flash.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once, and there is no heap")]
pub enum Opened {
    /// The device has a key and a state.
    Ready {
        /// The state.
        snapshot: Snapshot,
        /// The private key.
        key: KeyBytes,
    },
    /// A new key is due: make one and hand it to [`Store::provide_key`] before anything is answered.
    NeedsKey(Need),
    /// The state cannot be trusted. Nothing can be changed.
    Fault(FaultReason),
}

/// Why a key is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The flash is blank: this device never had a key that anyone saw.
    FirstStart,
    /// A rekey, or a reset with a new key, was interrupted after the old key was given up.
    Rekey,
}

/// A key that takes the place of the present one.
#[derive(Clone, Copy)]
pub struct NewKey<'a> {
    /// Its private scalar, big-endian.
    pub key: &'a [u8; 32],
    /// Where it came from.
    pub origin: KeyOrigin,
    /// The factory slot's new contents, without the certificate of the old key; `None` leaves it as it is.
    pub factory: Option<&'a [u8]>,
}

/// The bytes of a private key, overwritten when dropped.
pub struct KeyBytes([u8; 32]);

/// What [`Store::recover`] finds.
enum Found {
    Ready(Record, KeyBytes),
    FirstStart,
    Rekey(Mark),
}

#[derive(Clone, Copy)]
enum Area {
    Keys,
    Owner,
    State,
    List,
    Values,
}

impl<F: NorFlash> Store<F> {
    /// Opens the storage and completes what a power cut interrupted.
    ///
    /// # Errors
    ///
    /// `layout` does not fit the flash. Anything wrong with the flash itself is an [`Opened::Fault`].
    pub fn open(flash: F, layout: Layout) -> Result<(Self, Opened), LayoutError> {
        layout.check(&flash)?;
        let mut store = Store { flash, layout, current: None };
        let opened = store.reload();
        Ok((store, opened))
    }

    /// Reads everything again, as [`open`](Self::open) does. After an error this tells which state is in flash.
    pub fn reload(&mut self) -> Opened {
        match self.recover() {
            Ok(Found::Ready(record, key)) => Opened::Ready { snapshot: record.snapshot, key },
            Ok(Found::FirstStart) => Opened::NeedsKey(Need::FirstStart),
            Ok(Found::Rekey(_)) => Opened::NeedsKey(Need::Rekey),
            Err(Error::Fault(reason)) => Opened::Fault(reason),
            Err(Error::Flash(_)) => Opened::Fault(FaultReason::Flash),
            Err(_) => Opened::Fault(FaultReason::Unwritable),
        }
    }

    /// Gives the flash back.
    pub fn into_flash(self) -> F {
        self.flash
    }

    /// Reads the encoded contents of a slot; `None` if it is empty.
    pub fn slot<'b>(&mut self, slot: Slot, scratch: &'b mut Scratch) -> Result<Option<&'b [u8]>, Error> {
        let snapshot = self.current()?.snapshot;
        let Some(contents) = snapshot.contents(slot) else { return Ok(None) };
        match self.region(slot.area()).fetch(contents.side.item(), scratch)? {
            Some(bytes) if contents.describes(bytes) => Ok(Some(bytes)),
            _ => Err(Error::Fault(slot.fault())),
        }
    }

    /// Stores the key that [`Opened::NeedsKey`] asks for. At a first start it begins generation 1.
    pub fn provide_key(&mut self, key: &[u8; 32], origin: KeyOrigin) -> Result<Snapshot, Error> {
        match self.recover()? {
            Found::FirstStart => {
                let record = Record::first(key, origin);
                self.commit(&record, |store| {
                    store.put_key(key)?;
                    store.put_record(&record)
                })
            }
            Found::Rekey(mark) => {
                let mark = Mark { record: mark.record.with_key(key, origin), ..mark };
                self.commit(&mark.record, |store| store.carry_out(&mark, Some(key)))
            }
            Found::Ready(..) => Err(Error::KeyNotNeeded),
        }
    }

    /// Fills the owner slot, or replaces its contents for the same owner. `watermark` replaces the slot's watermark; the
    /// factory's rises to `vouched_at`.
    pub fn set_owner(
        &mut self,
        bytes: &[u8],
        claim_counter: u32,
        watermark: Option<u64>,
        vouched_at: Option<u64>,
    ) -> Result<Snapshot, Error> {
        let mut record = self.current()?.next();
        record.snapshot.watermarks.factory = record.snapshot.watermarks.factory.max(vouched_at);
        record.snapshot.claim_counter = claim_counter;
        self.set_slot(record, Slot::Owner, bytes, watermark)
    }

    /// Gives the owner slot to another owner, with all that is in [`set_owner`](Self::set_owner), and erases what the former
    /// one wrote: the list, values and watermark go with its pages. After a power cut the old state is there, or the transfer
    /// is completed at opening.
    pub fn transfer(
        &mut self,
        bytes: &[u8],
        claim_counter: u32,
        watermark: Option<u64>,
        vouched_at: Option<u64>,
    ) -> Result<Snapshot, Error> {
        let mut record = self.current()?.next();
        // The half that no list is in.
        let side = record.snapshot.list.map_or(Side::A, |list| list.side.other());
        record.snapshot.forget_owner();
        record.snapshot.claim_counter = claim_counter;
        record.snapshot.watermarks.owner = watermark;
        record.snapshot.watermarks.factory = record.snapshot.watermarks.factory.max(vouched_at);
        record.place(Slot::Owner, bytes)?;
        let mark = Mark { wipe_owner: true, new_key: false, record };
        self.commit(&record, |store| {
            store.half(side).write_bytes(bytes)?;
            store.put_mark(&mark)?;
            store.carry_out(&mark, None)
        })
    }

    /// Fills the factory slot, or replaces its contents. `watermark` replaces the slot's watermark.
    pub fn set_factory(&mut self, bytes: &[u8], watermark: Option<u64>) -> Result<Snapshot, Error> {
        let record = self.current()?.next();
        self.set_slot(record, Slot::Factory, bytes, watermark)
    }

    /// Replaces the device list by `list`, whose keys are `keys`, and raises the owner's watermark to its `issued_at`.
    pub fn set_list<'k>(
        &mut self,
        list: List,
        keys: impl Iterator<Item = &'k [u8; 32]> + Clone,
        issued_at: u64,
    ) -> Result<Snapshot, Error> {
        let mut record = self.current()?.next();
        let snapshot = &mut record.snapshot;
        let side = snapshot.list.map_or(Side::A, |held| held.side.other());
        snapshot.list = Some(list.on(side));
        snapshot.watermarks.owner = snapshot.watermarks.owner.max(Some(issued_at));
        self.commit(&record, |store| {
            store.half(side).write(keys.clone())?;
            store.put_record(&record)
        })
    }

    /// Reads the values of the product; `None` if there are none.
    pub fn values<'b>(&mut self, scratch: &'b mut Scratch) -> Result<Option<&'b [u8]>, Error> {
        let Some(values) = self.current()?.snapshot.values else { return Ok(None) };
        match self.values_half(values.side).fetch(&values, scratch)? {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(Error::Fault(FaultReason::Values)),
        }
    }

    /// Replaces the values of the product, all of them, by `bytes`, and erases those before. A power cut right in between
    /// leaves these until the next time.
    pub fn set_values(&mut self, bytes: &[u8]) -> Result<Snapshot, Error> {
        let mut record = self.current()?.next();
        let values = &mut record.snapshot.values;
        let side = values.map_or(Side::A, |held| held.side.other());
        *values = Some(Contents::checked(bytes, side)?);
        let snapshot = self.commit(&record, |store| {
            store.values_half(side).write_bytes(bytes)?;
            store.put_record(&record)
        })?;
        // What was there may have been secret.
        self.values_half(side.other()).wipe()?;
        Ok(snapshot)
    }

    /// Whether a key is in the device list; no if there is no list.
    ///
    /// # Errors
    /// Those of the flash; [`FaultReason::List`] if the keys are not those that were stored.
    pub fn is_listed(&mut self, x: &[u8; 32]) -> Result<bool, Error> {
        match self.current()?.snapshot.list {
            Some(list) => self.half(list.side).contains(&list, Some(x)),
            None => Ok(false),
        }
    }

    /// Raises the watermark of a slot to `issued_at`. Nothing is written if it is there already.
    pub fn advance_watermark(&mut self, slot: Slot, issued_at: u64) -> Result<Snapshot, Error> {
        let current = self.current()?;
        let mut record = current.next();
        let watermark = record.snapshot.watermark_mut(slot);
        if *watermark >= Some(issued_at) {
            return Ok(current.snapshot);
        }
        *watermark = Some(issued_at);
        self.commit(&record, |store| store.put_record(&record))
    }

    /// Replaces the key, counts the generation on, and erases the old key's pages. `owner` are the owner slot's new contents,
    /// without the certificate of the old key; `None` leaves it as it is.
    ///
    /// After a power cut the old state is there, or [`Opened::NeedsKey`] asks for another key.
    pub fn rekey(&mut self, new: &NewKey<'_>, owner: Option<&[u8]>) -> Result<Snapshot, Error> {
        let mut record = self.current()?.next().succeeded_by(new)?;
        if let Some(bytes) = owner {
            record.place(Slot::Owner, bytes)?;
        }
        let mark = Mark { wipe_owner: false, new_key: true, record };
        self.commit(&record, |store| {
            for (slot, bytes) in [(Slot::Factory, new.factory), (Slot::Owner, owner)] {
                if let Some(bytes) = bytes {
                    store.put_contents(slot, &record, bytes)?;
                }
            }
            store.put_mark(&mark)?;
            store.carry_out(&mark, Some(new.key))
        })
    }

    /// Empties the owner slot, counts the claim counter on, and erases the owner's pages: the list, slot values and the
    /// owner's watermark go with them. With `new_key`, the key is replaced as by a [`rekey`](Self::rekey). After a power cut
    /// the old state is there, or the reset is completed at opening, or once [`Opened::NeedsKey`] has got its key.
    pub fn reset(&mut self, new_key: Option<NewKey<'_>>) -> Result<Snapshot, Error> {
        let mut record = self.current()?.next();
        if let Some(new) = &new_key {
            record = record.succeeded_by(new)?;
        }
        let snapshot = &mut record.snapshot;
        snapshot.claim_counter = snapshot.claim_counter.checked_add(1).ok_or(Error::Exhausted)?;
        snapshot.forget_owner();
        let mark = Mark { wipe_owner: true, new_key: new_key.is_some(), record };
        self.commit(&record, |store| {
            if let Some(bytes) = new_key.as_ref().and_then(|new| new.factory) {
                store.put_contents(Slot::Factory, &record, bytes)?;
            }
            store.put_mark(&mark)?;
            store.carry_out(&mark, new_key.as_ref().map(|new| new.key))
        })
    }

    fn set_slot(
        &mut self,
        mut record: Record,
        slot: Slot,
        bytes: &[u8],
        watermark: Option<u64>,
    ) -> Result<Snapshot, Error> {
        record.place(slot, bytes)?;
        *record.snapshot.watermark_mut(slot) = watermark;
        self.commit(&record, |store| {
            store.put_contents(slot, &record, bytes)?;
            store.put_record(&record)
        })
    }

    /// The state that the next commit follows.
    fn current(&mut self) -> Result<Record, Error> {
        if let Some(record) = self.current {
            return Ok(record);
        }
        match self.recover()? {
            Found::Ready(record, _) => Ok(record),
            Found::FirstStart | Found::Rekey(_) => Err(Error::NeedsKey),
        }
    }

    /// Writes, reads everything back, and if `record` is not what is there, does so once more.
    ///
    /// `write` can be repeated from wherever it failed: [`recover`](Self::recover) has completed or undone the rest.
    fn commit(&mut self, record: &Record, write: impl Fn(&mut Self) -> Result<(), Error>) -> Result<Snapshot, Error> {
        self.current = None;
        let mut reason = Error::NotDurable;
        for _attempt in 0..2 {
            let written = write(self);
            match self.recover()? {
                Found::Ready(found, _) if found == *record => return Ok(found.snapshot),
                _ => reason = written.err().unwrap_or(Error::NotDurable),
            }
        }
        Err(reason)
    }

    /// Carries out what `mark` announces. Can be repeated until the record is in *state*.
    fn carry_out(&mut self, mark: &Mark, key: Option<&[u8; 32]>) -> Result<(), Error> {
        if mark.wipe_owner {
            match mark.record.snapshot.owner {
                Some(contents) => self.hand_over(&contents, &mark.record)?,
                None => self.region(Area::Owner).wipe()?,
            }
            self.region(Area::Values).wipe()?;
            self.region(Area::List).wipe()?;
        }
        if let Some(key) = key {
            self.region(Area::Keys).wipe()?;
            self.put_key(key)?;
        }
        self.put_record(&mark.record)
    }

    /// Erases what the former owner wrote, and puts the next one's `contents` in its place. They wait in the half that no list
    /// is in. That is erased afterwards, so if they are not there, all this was done.
    fn hand_over(&mut self, contents: &Contents, record: &Record) -> Result<(), Error> {
        let mut scratch = Scratch::new();
        for side in [Side::A, Side::B] {
            if let Some(bytes) = self.half(side).fetch(contents, &mut scratch)? {
                self.region(Area::Owner).wipe()?;
                return self.put_contents(Slot::Owner, record, bytes);
            }
        }
        match self.region(Area::Owner).fetch(contents.side.item(), &mut scratch)? {
            Some(bytes) if contents.describes(bytes) => Ok(()),
            _ => Err(Error::Fault(FaultReason::OwnerContents)),
        }
    }

    fn put_key(&mut self, key: &[u8; 32]) -> Result<(), Error> {
        self.region(Area::Keys).put(Item::Key, key, &mut Scratch::new())
    }

    fn put_contents(&mut self, slot: Slot, record: &Record, bytes: &[u8]) -> Result<(), Error> {
        let Some(contents) = record.snapshot.contents(slot) else { return Ok(()) };
        let item = contents.side.item();
        let mut scratch = Scratch::new();
        let mut region = self.region(slot.area());
        match region.fetch(item, &mut scratch)? {
            Some(stored) if stored == bytes => return Ok(()),
            // The contents before the present ones: emptied first, so that there need not be room for three.
            Some(stored) if !stored.is_empty() => region.put(item, &[], &mut scratch)?,
            _ => {}
        }
        region.put(item, bytes, &mut scratch)
    }

    fn put_mark(&mut self, mark: &Mark) -> Result<(), Error> {
        let mut encoded = [0; Mark::MAX_LEN];
        self.region(Area::State).put(Item::Mark, mark.encode(&mut encoded)?, &mut Scratch::new())
    }

    fn put_record(&mut self, record: &Record) -> Result<(), Error> {
        [Area::Owner, Area::State].into_iter().try_for_each(|area| self.put_copy(area, record))
    }

    fn put_copy(&mut self, area: Area, record: &Record) -> Result<(), Error> {
        let mut encoded = [0; Record::MAX_LEN];
        self.region(area).put(Item::Record, record.encode(&mut encoded)?, &mut Scratch::new())
    }

    fn region(&mut self, area: Area) -> Region<'_, F> {
        let range = match area {
            Area::Keys => &self.layout.keys,
            Area::Owner => &self.layout.owner,
            Area::State => &self.layout.state,
            Area::List => &self.layout.list,
            Area::Values => &self.layout.values,
        };
        Region::new(&mut self.flash, range.clone())
    }

    fn half(&mut self, side: Side) -> Half<'_, F> {
        Half::new(&mut self.flash, self.layout.list.start, LIST_BYTES, side)
    }

    fn values_half(&mut self, side: Side) -> Half<'_, F> {
        Half::new(&mut self.flash, self.layout.values.start, MAX_CONTENTS_LEN, side)
    }
}

/// Reading back, and recovery from power cuts.
impl<F: NorFlash> Store<F> {
    /// Finds out what is in flash, and completes what was interrupted. Leaves `current` to match.
    fn recover(&mut self) -> Result<Found, Error> {
        self.current = None;
        if self.is_blank()? {
            return Ok(Found::FirstStart);
        }
        // Before anything is fetched: a repair by sequential-storage may erase pages.
        let barely_begun = self.is_barely_begun()?;
        let mut in_state = self.record(Area::State)?;
        let mut in_owner = match self.record(Area::Owner) {
            Err(Error::Fault(_)) => None,
            other => other?,
        };
        if let Some(mark) = self.pending(in_state.as_ref(), in_owner.as_ref())? {
            if mark.new_key {
                return Ok(Found::Rekey(mark));
            }
            self.carry_out(&mark, None)?;
            (in_state, in_owner) = (Some(mark.record), Some(mark.record));
        }
        let record = match (in_state, in_owner) {
            (None, None) if barely_begun => {
                self.wipe_all()?;
                return Ok(Found::FirstStart);
            }
            (None, Some(record)) if barely_begun && record.sequence == 1 => record,
            (Some(record), Some(copy)) => record.newer(&copy).ok_or(Error::Fault(FaultReason::RecordsDisagree))?,
            _ => return Err(Error::Fault(FaultReason::RecordMissing)),
        };
        let key = self.verify(&record)?;
        if in_state.is_none() {
            self.region(Area::State).wipe()?;
        }
        for (area, copy) in [(Area::Owner, in_owner), (Area::State, in_state)] {
            if copy != Some(record) {
                self.put_copy(area, &record)?;
            }
        }
        self.current = Some(record);
        Ok(Found::Ready(record, key))
    }

    fn is_blank(&mut self) -> Result<bool, Error> {
        for area in [Area::Keys, Area::Owner, Area::State, Area::List, Area::Values] {
            if !self.region(area).is_blank_from(0)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether nothing is there but the traces of a first start.
    fn is_barely_begun(&mut self) -> Result<bool, Error> {
        Ok(self.region(Area::Owner).holds_at_most_one(Record::FIRST_LEN)?
            && self.region(Area::State).holds_at_most_one(Record::FIRST_LEN)?
            && self.region(Area::Keys).holds_at_most_one(size_of::<KeyBytes>())?
            && self.region(Area::List).is_blank_from(0)?
            && self.region(Area::Values).is_blank_from(0)?)
    }

    fn wipe_all(&mut self) -> Result<(), Error> {
        [Area::Keys, Area::Owner, Area::State].into_iter().try_for_each(|area| self.region(area).wipe())
    }

    fn record(&mut self, area: Area) -> Result<Option<Record>, Error> {
        let mut scratch = Scratch::new();
        let bytes = self.region(area).fetch(Item::Record, &mut scratch)?;
        bytes.map(Record::decode).transpose().map_err(Error::Fault)
    }

    /// The mark in force, if there is one.
    fn pending(&mut self, in_state: Option<&Record>, in_owner: Option<&Record>) -> Result<Option<Mark>, Error> {
        let mut scratch = Scratch::new();
        let Some(record) = in_state else { return Ok(None) };
        let Some(bytes) = self.region(Area::State).fetch(Item::Mark, &mut scratch)? else { return Ok(None) };
        let mark = Mark::decode(bytes).map_err(Error::Fault)?;
        let is_next = mark.record.sequence == record.next().sequence;
        // While the owner's pages are erased, one after the other, older copies may come up, or none.
        let owner_fits = match in_owner {
            Some(copy) => copy == record || (mark.wipe_owner && copy.sequence < record.sequence),
            None => mark.wipe_owner,
        };
        Ok((is_next && owner_fits).then_some(mark))
    }

    /// Compares the key and the contents of the slots with `record`.
    fn verify(&mut self, record: &Record) -> Result<KeyBytes, Error> {
        let mut scratch = Scratch::new();
        for slot in [Slot::Factory, Slot::Owner] {
            let Some(contents) = record.snapshot.contents(slot) else { continue };
            match self.region(slot.area()).fetch(contents.side.item(), &mut scratch)? {
                Some(bytes) if contents.describes(bytes) => {}
                _ => return Err(Error::Fault(slot.fault())),
            }
        }
        if let Some(list) = record.snapshot.list {
            self.half(list.side).contains(&list, None)?;
        }
        if let Some(values) = record.snapshot.values
            && self.values_half(values.side).fetch(&values, &mut scratch)?.is_none()
        {
            return Err(Error::Fault(FaultReason::Values));
        }
        let key = self.region(Area::Keys).fetch(Item::Key, &mut scratch);
        match key?.and_then(|bytes| bytes.try_into().ok()).map(KeyBytes) {
            Some(key) if digest(&key.0) == record.key => Ok(key),
            _ => Err(Error::Fault(FaultReason::Key)),
        }
    }
}

impl Record {
    /// With another key, one generation on.
    fn succeeded_by(&self, new: &NewKey<'_>) -> Result<Self, Error> {
        let mut record = self.with_key(new.key, new.origin);
        record.snapshot.generation = record.snapshot.generation.checked_add(1).ok_or(Error::Exhausted)?;
        if let Some(bytes) = new.factory {
            record.place(Slot::Factory, bytes)?;
        }
        Ok(record)
    }

    /// Names new contents of a slot, on the side that the last record does not name.
    fn place(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), Error> {
        let side = self.snapshot.contents(slot).map_or(Side::A, |contents| contents.side.other());
        self.snapshot.set_contents(slot, Some(Contents::checked(bytes, side)?));
        Ok(())
    }

    /// The newer of two copies, if they are at most one commit apart.
    fn newer(self, copy: &Record) -> Option<Record> {
        if self == *copy || self.sequence == copy.next().sequence {
            Some(self)
        } else if copy.sequence == self.next().sequence {
            Some(*copy)
        } else {
            None
        }
    }
}

impl Slot {
    fn area(self) -> Area {
        match self {
            Slot::Factory => Area::State,
            Slot::Owner => Area::Owner,
        }
    }

    fn fault(self) -> FaultReason {
        match self {
            Slot::Factory => FaultReason::FactoryContents,
            Slot::Owner => FaultReason::OwnerContents,
        }
    }
}

impl Side {
    fn item(self) -> Item {
        match self {
            Side::A => Item::ContentsA,
            Side::B => Item::ContentsB,
        }
    }
}

impl KeyBytes {
    /// The secret scalar, big-endian, as it was given to the store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for KeyBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests;
