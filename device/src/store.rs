//! The durable state of the device: one commit at a time, old or new after a power cut, and failing closed.
//!
//! # What is where
//!
//! Three ranges of NOR flash ([`Layout`]). Two are halves that hold the same **image**: a record (format, counters,
//! watermarks, and of all else length and digest), the private key, the contents of both slots and the product's values,
//! each at a fixed place, and SHA-256 over all of it at the end. Behind an image, watermarks that rose since are appended,
//! so that a token erases nothing. The third range has two halves for the keys of the device list, written in turn; the
//! image names the one that counts, by its digest.
//!
//! # Old or new, never between
//!
//! A commit writes the next image to one half, reads it back, and then does the same with the other one. An image counts
//! the images before it, and says which half it was written to first.
//!
//! - While the first half is erased and written, the other one holds the old image; while the second is, the first one
//!   holds the new one, which was read back.
//! - What was being programmed or erased when the power failed may read as anything, and as something else the next time.
//!   So nothing is ever copied from such a half and then relied on alone. Of two equal images, the one that was written
//!   first was read back before the other one was touched: the next commit reads from it, and erases the other one.
//! - Of images that are one commit apart, the newer one counts. Only the last word of its digest can have been cut short.
//!   So before the older one is erased, an entry is appended to the newer one: that proves the image as its digest does.
//! - Opening ends whatever was cut short by a commit that changes nothing, and so it does with a half that is damaged.
//! - The device list's keys go to the half that the image does not name, before the image that names it. When the owner
//!   goes, the image goes first, and then the list is erased; opening completes that.
//!
//! # Failing closed
//!
//! What has to hold at once: a first start that was cut short begins again; and on a device that ever answered, damage
//! never looks like a first start, which would make a new key and leave the device open to be claimed.
//!
//! A first start begins again only if no half has an image, the list's range is blank, one half is blank, and the other
//! one is blank but for the record, the key and the digest. A device that ever answered has an image in both halves.
//! Damage to one half, be it one page or all of them, is repaired from the other one. Damage to both is a fault, unless it
//! leaves blank bytes, not garbage, in all of one half and in the contents of the other one.
//!
//! Images that contradict each other, or are further apart than one commit, are a fault: no cut leaves that, but a range
//! that was put back does. So is a list that is not the one that the image names, at opening and at each later look.
//!
//! Nothing is reported as done before it was read back. What does not read back is written a second time.
//!
//! # Memory
//!
//! The store holds one record (about 300 bytes). The flash needs words and pages that 32 bytes are a multiple or a divisor
//! of. How much flash: [`Layout::smallest`].

mod chunk;
mod contents;
mod error;
mod half;
mod image;
mod layout;
mod list;

use cbor_schemas::KeyOrigin;
use embedded_storage::nor_flash::NorFlash;
use sha2::{Digest as _, Sha256};

pub use contents::{Contents, Digest, KeyBytes, MAX_CONTENTS_LEN, Scratch, Slot};
pub use error::{Error, FaultReason};
pub use image::Snapshot;
pub use layout::{Layout, LayoutError};
pub use list::List;

use chunk::{Chunk, Side};
use contents::Part;
use half::{Change, Halves, Next};
use image::{Image, PART, PARTS};

/// The device's storage. It is made without a look into the flash: [`open`](Self::open) has that.
pub struct Store<F> {
    halves: Halves<F>,
    /// What is in flash, or is on its way there.
    image: Image,
    /// What was last read back from flash is `image`. Otherwise flash is read again before the next commit.
    is_current: bool,
}

/// What was found in flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The device has a key and a state.
    Ready,
    /// The flash is blank, so this device never had a key that anyone saw: make one and hand it to [`Store::provide_key`]
    /// before anything is answered.
    NeedsKey,
    /// The state cannot be trusted. Nothing can be changed.
    Fault(FaultReason),
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

impl<F: NorFlash> Store<F> {
    /// Storage in the ranges `layout` of `flash`.
    pub const fn new(flash: F, layout: Layout) -> Self {
        let halves = Halves { flash, layout, solid: Side::A, used: [0; 2], has_remains: false };
        Store { halves, image: Image::NONE, is_current: false }
    }

    /// Reads everything, and completes what a power cut interrupted. The private key is written to `key`, if the device has
    /// one. To be called again after an error: it tells which state is in flash.
    ///
    /// # Errors
    /// The layout does not fit the flash. Anything wrong with the flash itself is an [`Opened::Fault`].
    pub fn open(&mut self, key: &mut KeyBytes) -> Result<Opened, LayoutError> {
        self.halves.layout.check(&self.halves.flash)?;
        Ok(match self.recover(key) {
            Ok(true) => Opened::Ready,
            Ok(false) => Opened::NeedsKey,
            Err(Error::Fault(reason)) => Opened::Fault(reason),
            Err(Error::Flash(_)) => Opened::Fault(FaultReason::Flash),
            Err(_) => Opened::Fault(FaultReason::Unwritable),
        })
    }

    /// The state, as the last [`open`](Self::open) or the last commit read it back.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.image.snapshot
    }

    /// Gives the flash back.
    pub fn into_flash(self) -> F {
        self.halves.flash
    }

    /// Reads the encoded contents of a slot; `None` if it is empty.
    ///
    /// # Errors
    /// Those of the flash; a fault if the contents are not those that were stored.
    pub fn slot<'b>(&mut self, slot: Slot, scratch: &'b mut Scratch) -> Result<Option<&'b [u8]>, Error> {
        self.part(Part::of(slot), scratch)
    }

    /// Reads the values of the product; `None` if there are none.
    ///
    /// # Errors
    /// Those of the flash; [`FaultReason::Values`] if the values are not those that were stored.
    pub fn values<'b>(&mut self, scratch: &'b mut Scratch) -> Result<Option<&'b [u8]>, Error> {
        self.part(Part::Values, scratch)
    }

    /// Stores the key that [`Opened::NeedsKey`] asks for. It begins generation 1.
    ///
    /// # Errors
    /// Those of a commit; [`Error::KeyNotNeeded`].
    pub fn provide_key(&mut self, key: &[u8; 32], origin: KeyOrigin) -> Result<(), Error> {
        if self.recover(&mut KeyBytes::new())? {
            return Err(Error::KeyNotNeeded);
        }
        self.image = Image::NONE;
        self.image.snapshot.generation = 1;
        self.image.snapshot.key_origin = origin;
        self.commit(&Change { key: Some(key), parts: [Next::Drop; 3] })
    }

    /// Fills the owner slot, or replaces its contents for the same owner. `watermark` replaces the slot's watermark; the
    /// factory's rises to `vouched_at`.
    ///
    /// # Errors
    /// Those of a commit; [`Error::ContentsLength`].
    pub fn set_owner(
        &mut self,
        bytes: &[u8],
        claim_counter: u32,
        watermark: Option<u64>,
        vouched_at: Option<u64>,
    ) -> Result<(), Error> {
        self.own(Next::Keep, bytes, claim_counter, watermark, vouched_at)
    }

    /// Gives the owner slot to another owner, with all that is in [`set_owner`](Self::set_owner), and erases what the former
    /// one wrote: the list, values and watermark.
    ///
    /// # Errors
    /// Those of a commit; [`Error::ContentsLength`].
    pub fn transfer(
        &mut self,
        bytes: &[u8],
        claim_counter: u32,
        watermark: Option<u64>,
        vouched_at: Option<u64>,
    ) -> Result<(), Error> {
        self.own(Next::Drop, bytes, claim_counter, watermark, vouched_at)?;
        self.erase_list()
    }

    /// Fills the factory slot, or replaces its contents. `watermark` replaces the slot's watermark.
    ///
    /// # Errors
    /// Those of a commit; [`Error::ContentsLength`].
    pub fn set_factory(&mut self, bytes: &[u8], watermark: Option<u64>) -> Result<(), Error> {
        let contents = Contents::of(bytes)?;
        self.begin()?;
        self.image.snapshot.factory = Some(contents);
        self.image.snapshot.watermarks.factory = watermark;
        self.commit(&Change { key: None, parts: [Next::New(bytes), Next::Keep, Next::Keep] })
    }

    /// Replaces the device list by `list`, whose keys are `keys`, and raises the owner's watermark to its `issued_at`.
    ///
    /// # Errors
    /// Those of a commit.
    pub fn set_list<'k>(
        &mut self,
        list: &List,
        keys: impl Iterator<Item = &'k [u8; 32]> + Clone,
        issued_at: u64,
    ) -> Result<(), Error> {
        self.begin()?;
        let snapshot = &mut self.image.snapshot;
        let side = snapshot.list.map_or(Side::A, |held| held.side.other());
        let list = List { side, ..*list };
        snapshot.list = Some(list);
        snapshot.watermarks.owner = snapshot.watermarks.owner.max(Some(issued_at));
        self.write_keys(&list, keys.clone()).or_else(|_| self.write_keys(&list, keys))?;
        self.commit(&Change::NONE)
    }

    /// Whether a key is in the device list; no if there is no list.
    ///
    /// # Errors
    /// Those of the flash; [`FaultReason::List`] if the keys are not those that were stored.
    pub fn is_listed(&mut self, x: &[u8; 32]) -> Result<bool, Error> {
        self.ready()?;
        match self.image.snapshot.list {
            Some(list) => self.look_up(&list, Some(x)),
            None => Ok(false),
        }
    }

    /// Replaces the values of the product, all of them, by `bytes`.
    ///
    /// # Errors
    /// Those of a commit; [`Error::ContentsLength`].
    pub fn set_values(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let contents = Contents::of(bytes)?;
        self.begin()?;
        self.image.snapshot.values = Some(contents);
        self.commit(&Change { key: None, parts: [Next::Keep, Next::Keep, Next::New(bytes)] })
    }

    /// Raises the watermark of a slot to `issued_at`. Nothing is written if it is there already, and nothing is erased as
    /// long as there is a place for it behind the image.
    ///
    /// # Errors
    /// Those of a commit.
    pub fn advance_watermark(&mut self, slot: Slot, issued_at: u64) -> Result<(), Error> {
        self.ready()?;
        let watermarks = &mut self.image.snapshot.watermarks;
        let watermark = match slot {
            Slot::Factory => &mut watermarks.factory,
            Slot::Owner => &mut watermarks.owner,
        };
        if *watermark >= Some(issued_at) {
            return Ok(());
        }
        *watermark = Some(issued_at);
        self.is_current = false;
        let both = [self.halves.solid, self.halves.solid.other()];
        match self.halves.append(&self.image, &both) {
            Some(()) => self.is_current = true,
            None => self.commit(&Change::NONE)?,
        }
        Ok(())
    }

    /// Replaces the key and counts the generation on. `owner` are the owner slot's new contents, without the certificate of
    /// the old key; `None` leaves it as it is.
    ///
    /// # Errors
    /// Those of a commit; [`Error::ContentsLength`]; [`Error::Exhausted`].
    pub fn rekey(&mut self, new: &NewKey<'_>, owner: Option<&[u8]>) -> Result<(), Error> {
        let owner_contents = owner.map(Contents::of).transpose()?;
        self.begin()?;
        let factory = self.succeed(new)?;
        self.image.snapshot.owner = owner_contents.or(self.image.snapshot.owner);
        let owner = owner.map_or(Next::Keep, Next::New);
        self.commit(&Change { key: Some(new.key), parts: [factory, owner, Next::Keep] })
    }

    /// Empties the owner slot, counts the claim counter on, and erases the list, the values and the owner's watermark. With
    /// `new_key`, the key is replaced as by a [`rekey`](Self::rekey).
    ///
    /// # Errors
    /// Those of a commit; [`Error::ContentsLength`]; [`Error::Exhausted`].
    pub fn reset(&mut self, new_key: Option<&NewKey<'_>>) -> Result<(), Error> {
        self.begin()?;
        let claim_counter = self.image.snapshot.claim_counter.checked_add(1).ok_or(Error::Exhausted)?;
        let factory = match new_key {
            Some(new) => self.succeed(new)?,
            None => Next::Keep,
        };
        self.image.snapshot.claim_counter = claim_counter;
        self.image.snapshot.forget_owner();
        self.commit(&Change { key: new_key.map(|new| new.key), parts: [factory, Next::Drop, Next::Drop] })?;
        self.erase_list()
    }

    /// Puts an owner in. `values` is what becomes of the product's values, and of all else that was the owner's.
    fn own(
        &mut self,
        values: Next<'_>,
        bytes: &[u8],
        claim_counter: u32,
        watermark: Option<u64>,
        vouched_at: Option<u64>,
    ) -> Result<(), Error> {
        let contents = Contents::of(bytes)?;
        self.begin()?;
        let snapshot = &mut self.image.snapshot;
        if matches!(values, Next::Drop) {
            snapshot.forget_owner();
        }
        snapshot.owner = Some(contents);
        snapshot.claim_counter = claim_counter;
        snapshot.watermarks.owner = watermark;
        snapshot.watermarks.factory = snapshot.watermarks.factory.max(vouched_at);
        self.commit(&Change { key: None, parts: [Next::Keep, Next::New(bytes), values] })
    }

    /// Another key, one generation on. Returns what becomes of the factory slot's contents.
    fn succeed<'a>(&mut self, new: &NewKey<'a>) -> Result<Next<'a>, Error> {
        let factory = new.factory.map(Contents::of).transpose()?;
        let snapshot = &mut self.image.snapshot;
        snapshot.generation = snapshot.generation.checked_add(1).ok_or(Error::Exhausted)?;
        snapshot.key_origin = new.origin;
        snapshot.factory = factory.or(snapshot.factory);
        Ok(new.factory.map_or(Next::Keep, Next::New))
    }

    /// Makes sure that `image` is what is in flash.
    fn ready(&mut self) -> Result<(), Error> {
        if self.is_current || self.recover(&mut KeyBytes::new())? { Ok(()) } else { Err(Error::NeedsKey) }
    }

    /// Makes sure that `image` is what is in flash, and that what a commit will keep of it is whole.
    fn begin(&mut self) -> Result<(), Error> {
        self.ready()?;
        if self.halves.digest(self.halves.solid, None)? != self.image.digest {
            self.is_current = false;
            self.ready()?;
        }
        // What is changed from here on counts once it was read back.
        self.is_current = false;
        Ok(())
    }

    /// Writes `image`, as the next one, to both halves.
    #[inline(never)]
    fn commit(&mut self, change: &Change<'_>) -> Result<(), Error> {
        let Store { halves, image, .. } = self;
        self.is_current = false;
        let (first, second) = (halves.solid.other(), halves.solid);
        image.number = image.number.checked_add(1).ok_or(Error::Exhausted)?;
        image.first = first;
        halves.write(first, image, change, None)?;
        let digest = image.digest;
        halves.write(second, image, &Change::NONE, Some(&digest))?;
        (halves.solid, halves.used) = (first, [0; 2]);
        self.is_current = true;
        Ok(())
    }

    /// Finds out what is in flash, and completes what was interrupted. False if nothing is there, or no more than the traces
    /// of a first start.
    #[inline(never)]
    fn recover(&mut self, key: &mut KeyBytes) -> Result<bool, Error> {
        self.is_current = false;
        match self.newest(key)? {
            None => return self.nothing(),
            Some(true) => self.is_current = true,
            Some(false) => self.commit(&Change::NONE)?,
        }
        match self.image.snapshot.list {
            Some(list) => self.look_up(&list, None).map(|_| true),
            None => self.erase_list().map(|()| true),
        }
    }

    /// Takes over the newest image. True if both halves hold it; false if the other half has to be written yet, and then the
    /// newest one is there for good.
    #[inline(never)]
    fn newest(&mut self, key: &mut KeyBytes) -> Result<Option<bool>, Error> {
        let Store { halves, image, .. } = self;
        halves.has_remains = false;
        let (mut other, mut other_key) = (Image::NONE, KeyBytes::new());
        let has_a = halves.load(Side::A, image, key)?;
        let has_b = halves.load(Side::B, &mut other, &mut other_key)?;
        let differs = |older: &Image, newer: &Image| older.number.checked_add(1) != Some(newer.number);
        let is_b = match (has_a, has_b) {
            (false, false) => return Ok(None),
            (true, true) if image.digest == other.digest => {
                halves.solid = image.first;
                return Ok(Some(self.agree_on_watermarks(&other)));
            }
            (true, true) if differs(image, &other) && differs(&other, image) => {
                return Err(Error::Fault(FaultReason::ImagesDisagree));
            }
            (true, true) => other.number > image.number,
            (false, true) => true,
            (true, false) => false,
        };
        if is_b {
            *image = other;
            key.0 = other_key.0;
        }
        halves.solid = if is_b { Side::B } else { Side::A };
        // Where there is no place for it, the image was there long before anything was cut short.
        let _ = halves.append(image, &[halves.solid]);
        Ok(Some(false))
    }

    /// Takes the newer watermarks of two equal images. True if both halves have them. Where their appending was cut short they
    /// are appended once more, since what does not read as watermarks now may do so the next time.
    fn agree_on_watermarks(&mut self, other: &Image) -> bool {
        let (ours, theirs) = (&mut self.image.snapshot.watermarks, &other.snapshot.watermarks);
        if ours == theirs && !self.halves.has_remains {
            return true;
        }
        ours.factory = ours.factory.max(theirs.factory);
        ours.owner = ours.owner.max(theirs.owner);
        self.halves.append(&self.image, &[self.halves.solid, self.halves.solid.other()]).is_some()
    }

    /// Whether there is nothing but the traces of a first start; a fault otherwise.
    fn nothing(&mut self) -> Result<bool, Error> {
        if self.halves.is_barely_begun()? { Ok(false) } else { Err(Error::Fault(self.halves.flaw()?)) }
    }

    fn part<'b>(&mut self, part: Part, scratch: &'b mut Scratch) -> Result<Option<&'b [u8]>, Error> {
        self.ready()?;
        let Some(contents) = self.image.snapshot.part(part) else { return Ok(None) };
        let mut chunk = Chunk::blank();
        let place = PARTS.saturating_add(PART.saturating_mul(part as u32));
        for (at, out) in (place..).zip(scratch.bytes_mut().chunks_mut(Chunk::LEN)) {
            self.halves.read(self.halves.place(self.halves.solid, at), &mut chunk)?;
            out.copy_from_slice(&chunk.0);
        }
        let bytes = scratch.bytes_mut().get(..contents.len.into()).filter(|bytes| contents.describes(bytes));
        bytes.map(Some).ok_or(Error::Fault(part.fault()))
    }

    /// Writes the keys of `list` to its half, and reads them back.
    fn write_keys<'k>(&mut self, list: &List, keys: impl Iterator<Item = &'k [u8; 32]>) -> Result<(), Error> {
        let half = self.halves.layout.list_half::<F>(list.side);
        let pages = half.start..half.start.saturating_add(layout::pages::<F>(layout::LIST_ROOM));
        self.halves.erase(pages)?;
        for (at, key) in half.step_by(Chunk::LEN).zip(keys) {
            self.halves.program(at, &Chunk(*key))?;
        }
        self.look_up(list, None).map(|_| ())
    }

    /// Whether `x` is among the keys of `list`.
    ///
    /// # Errors
    /// [`FaultReason::List`] if they are not what the image names: a revoked key must not get lost.
    fn look_up(&mut self, list: &List, x: Option<&[u8; 32]>) -> Result<bool, Error> {
        let (mut hash, mut found, mut key) = (Sha256::new(), false, Chunk::blank());
        for place in self.halves.layout.list_half::<F>(list.side).step_by(Chunk::LEN).take(list.count.into()) {
            self.halves.read(place, &mut key)?;
            hash.update(key.0);
            found |= x == Some(&key.0);
        }
        match list.digest == Digest::from(hash.finalize()) {
            true => Ok(found),
            false => Err(Error::Fault(FaultReason::List)),
        }
    }

    /// Erases the list's range, if anything is there.
    fn erase_list(&mut self) -> Result<(), Error> {
        let (range, [a, b]) =
            (self.halves.layout.list.clone(), [Side::A, Side::B].map(|side| self.halves.layout.list_half::<F>(side)));
        let mut is_blank = || Ok(self.halves.is_blank(a.clone())? && self.halves.is_blank(b.clone())?);
        if is_blank()? {
            return Ok(());
        }
        self.halves.erase(range)?;
        if self.halves.is_blank(a)? && self.halves.is_blank(b)? { Ok(()) } else { Err(Error::NotDurable) }
    }
}

#[cfg(test)]
mod tests;
