//! What the device keeps in its EEPROM, and what of that survives a power cut.
//!
//! Two cells, each written once: the key, and the contents of the factory slot. A cell is a mark, a length, the bytes, and
//! the first 8 bytes of their SHA-256. The mark goes from blank (0xff) over *writing* (0x0f) to *whole* (0x00): each step
//! only clears bits, so a mark that a power cut left half-written still says how far its cell had come.
//!
//! | mark | the rest | |
//! |---|---|---|
//! | blank | blank | the cell is empty |
//! | *writing* | not whole | the power went before anybody was told: erased at the next start |
//! | *writing*, or on the way to *whole* | whole | completed at the next start |
//! | whole | whole | the cell holds something |
//! | anything else that is not blank | blank | the power went before the first byte, or after the last one was erased |
//! | | | everything else is damage |
//!
//! A first start is a device whose cells are both blank, or whose key was being written while the other cell is blank.
//! Damage makes no key and takes no certificate: the device says `fault`.
//!
//! Nothing is reported as done before it was read back.

use cbor_schemas::SlotContents;
use embedded_storage::Storage;
use protocol::key::PrivateKey;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Bytes of EEPROM that the device needs.
pub const STORAGE_LEN: usize = FACTORY.end();

/// A scalar, and the x of its point.
const KEY_LEN: usize = 64;
const KEY: Cell = Cell { at: 0, capacity: KEY_LEN };
const FACTORY: Cell = Cell { at: KEY.end(), capacity: CONTENTS_LEN };
/// The longest contents of the factory slot, in bytes.
pub(crate) const CONTENTS_LEN: usize = SlotContents::MAX_LEN;

const BLANK: u8 = 0xff;
const WRITING: u8 = 0x0f;
const WHOLE: u8 = 0x00;
/// Bytes of a mark, a length, and a check value.
const MARK: usize = 1;
const LEN: usize = 2;
const CHECK: usize = 8;

/// The device's EEPROM.
pub(crate) struct Store<S> {
    storage: S,
}

/// What was found at the start.
pub(crate) enum Opened {
    /// The device has to make a key.
    FirstStart,
    /// The device has a key.
    Ready(PrivateKey),
    /// What is there cannot be trusted.
    Fault,
}

/// The EEPROM does not read back what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed;

impl<S: Storage> Store<S> {
    pub(crate) fn new(storage: S) -> Self {
        Self { storage }
    }

    /// Finds out how far an earlier start came, and finishes or takes back what was cut short.
    pub(crate) fn open(&mut self) -> Result<Opened, Failed> {
        let mut bytes = Zeroizing::new([0; KEY.capacity]);
        let key = self.find(&KEY, &mut *bytes)?;
        let private = match key {
            Found::Whole(KEY_LEN) => private_key(&bytes),
            _ => None,
        };
        let slot = self.find(&FACTORY, &mut [0; CONTENTS_LEN])?;
        Ok(match (key, private, slot) {
            (Found::Whole(_), Some(private), Found::Blank | Found::Whole(_)) => Opened::Ready(private),
            (Found::Whole(_), Some(private), Found::Cut) => {
                self.erase(&FACTORY)?;
                Opened::Ready(private)
            }
            (Found::Blank, _, Found::Blank) => Opened::FirstStart,
            (Found::Cut, _, Found::Blank) => {
                self.erase(&KEY)?;
                Opened::FirstStart
            }
            _ => Opened::Fault,
        })
    }

    /// Keeps the key of a first start.
    pub(crate) fn set_key(&mut self, key: &PrivateKey) -> Result<(), Failed> {
        let mut bytes = Zeroizing::new([0; KEY.capacity]);
        let halves = key.as_bytes().iter().chain(key.public().x());
        bytes.iter_mut().zip(halves).for_each(|(to, from)| *to = *from);
        self.put(&KEY, &*bytes)
    }

    /// Keeps the contents of the factory slot, which is empty, and not more than [`CONTENTS_LEN`] bytes.
    pub(crate) fn set_factory(&mut self, contents: &[u8]) -> Result<(), Failed> {
        self.put(&FACTORY, contents)
    }

    /// The contents of the factory slot, as the EEPROM has them now; none if it is empty.
    pub(crate) fn factory<'b>(&mut self, bytes: &'b mut [u8; CONTENTS_LEN]) -> Result<Option<&'b [u8]>, Failed> {
        match self.find(&FACTORY, bytes)? {
            Found::Blank => Ok(None),
            Found::Whole(len) => bytes.get(..len).map(Some).ok_or(Failed),
            Found::Cut | Found::Damaged => Err(Failed),
        }
    }

    /// What a cell holds; its bytes, if it is whole, into `bytes`, which is as long as its capacity.
    fn find(&mut self, cell: &Cell, bytes: &mut [u8]) -> Result<Found, Failed> {
        let mut head = [0; MARK + LEN];
        let mut check = [0; CHECK];
        self.read(cell.at, &mut head)?;
        self.read(cell.at.saturating_add(MARK + LEN), bytes)?;
        self.read(cell.end().saturating_sub(CHECK), &mut check)?;
        let [mark, len_high, len_low] = head;
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        let is_whole = bytes.get(..len).is_some_and(|bytes| check_value(bytes) == check);
        let is_blank = [len_high, len_low].iter().chain(&check).chain(&*bytes).all(|byte| *byte == BLANK);
        Ok(match mark {
            WHOLE if is_whole => Found::Whole(len),
            WHOLE => Found::Damaged,
            BLANK if is_blank => Found::Blank,
            on_the_way if on_the_way & !WRITING == 0 && is_whole => {
                self.write(cell.at, &[WHOLE])?;
                Found::Whole(len)
            }
            WRITING => Found::Cut,
            BLANK => Found::Damaged,
            _ if is_blank => Found::Cut,
            _ => Found::Damaged,
        })
    }

    /// Fills a cell that is blank, or where that failed before.
    fn put(&mut self, cell: &Cell, bytes: &[u8]) -> Result<(), Failed> {
        let len = u16::try_from(bytes.len()).map_err(|_| Failed)?;
        if bytes.len() > cell.capacity {
            return Err(Failed);
        }
        self.write(cell.at, &[WRITING])?;
        self.write(cell.at.saturating_add(MARK), &len.to_be_bytes())?;
        self.write(cell.at.saturating_add(MARK + LEN), bytes)?;
        self.write(cell.end().saturating_sub(CHECK), &check_value(bytes))?;
        self.write(cell.at, &[WHOLE])
    }

    /// The mark goes last: until then the cell is on the way.
    fn erase(&mut self, cell: &Cell) -> Result<(), Failed> {
        for at in (cell.at..cell.end()).rev() {
            self.write(at, &[BLANK])?;
        }
        Ok(())
    }

    fn read(&mut self, at: usize, bytes: &mut [u8]) -> Result<(), Failed> {
        let at = u32::try_from(at).map_err(|_| Failed)?;
        self.storage.read(at, bytes).map_err(|_| Failed)
    }

    /// Writes, and reads back.
    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), Failed> {
        let start = u32::try_from(at).map_err(|_| Failed)?;
        self.storage.write(start, bytes).map_err(|_| Failed)?;
        for (at, expected) in (at..).zip(bytes) {
            let mut byte = [0];
            self.read(at, &mut byte)?;
            if byte != [*expected] {
                return Err(Failed);
            }
        }
        Ok(())
    }
}

/// The place of something in the EEPROM.
struct Cell {
    at: usize,
    /// Bytes that fit.
    capacity: usize,
}

impl Cell {
    const fn end(&self) -> usize {
        self.at.saturating_add(self.capacity).saturating_add(MARK + LEN + CHECK)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Blank,
    /// So many bytes.
    Whole(usize),
    /// The power went while it was written.
    Cut,
    Damaged,
}

fn check_value(bytes: &[u8]) -> [u8; CHECK] {
    let [c0, c1, c2, c3, c4, c5, c6, c7, ..]: [u8; 32] = Sha256::digest(bytes).into();
    [c0, c1, c2, c3, c4, c5, c6, c7]
}

fn private_key(bytes: &[u8; KEY_LEN]) -> Option<PrivateKey> {
    let (d, x) = bytes.split_at(32);
    PrivateKey::restore(d.first_chunk()?, x.first_chunk()?).ok()
}
