//! Storage under power cuts, damage and long use, through its public interface.

extern crate commissionable_device as device;

use cbor_schemas::KeyOrigin;
use device::flash::{FlashError, RamFlash};
use device::store::{Error, KeyBytes, Layout, MAX_CONTENTS_LEN, NewKey, Opened, Scratch, Slot, Snapshot, Store};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

type Flash = RamFlash<Vec<u8>, 4, PAGE>;
type Opening<'f> = Store<&'f mut Flash>;
type Operation = fn(&mut Opening) -> Result<(), Error>;

const PAGE: usize = 1024;
const KEY: [u8; 32] = [0x11; 32];
const NEW_KEY: [u8; 32] = [0x22; 32];
const SPARE_KEY: [u8; 32] = [0x33; 32];

/// Certificates stand for a key by repeating its first byte; anchors alone do not.
const CERTIFICATE: [u8; 120] = [KEY[0]; 120];
const LATER_CERTIFICATE: [u8; 130] = [KEY[0]; 130];
const ANCHOR: [u8; 85] = [0xAC; 85];

/// What a device on some flash is, after it did everything that it owes.
#[derive(Clone, Debug, PartialEq)]
struct Device {
    snapshot: Snapshot,
    key: [u8; 32],
    factory: Option<Vec<u8>>,
    owner: Option<Vec<u8>>,
    values: Option<Vec<u8>>,
}

fn blank() -> Flash {
    let layout = Layout::smallest::<Flash>(0);
    Flash::erased(vec![0; layout.list.end as usize])
}

fn open(flash: &mut Flash) -> Opening<'_> {
    let mut store = Store::new(flash, Layout::smallest::<Flash>(0));
    store.open(&mut KeyBytes::new()).expect("the layout fits");
    store
}

/// Starts a device; if a key is due, it gets [`SPARE_KEY`]. Tells whether one was.
fn start(flash: &mut Flash) -> Result<(bool, Device), String> {
    start_on(flash)
}

fn start_on<F: NorFlash>(flash: &mut F) -> Result<(bool, Device), String> {
    let mut store = Store::new(flash, Layout::smallest::<F>(0));
    let mut key = KeyBytes::new();
    let needs_key = match store.open(&mut key).expect("the layout fits") {
        Opened::Ready => false,
        Opened::NeedsKey => true,
        Opened::Fault(reason) => return Err(reason.to_string()),
    };
    if needs_key {
        store.provide_key(&SPARE_KEY, KeyOrigin::Generated).map_err(|error| error.to_string())?;
    }
    let (snapshot, key) = (*store.snapshot(), if needs_key { SPARE_KEY } else { *key.as_bytes() });
    let mut read = |slot| store.slot(slot, &mut Scratch::new()).map(|bytes| bytes.map(<[u8]>::to_vec));
    let factory = read(Slot::Factory).map_err(|error| error.to_string())?;
    let owner = read(Slot::Owner).map_err(|error| error.to_string())?;
    let values = store.values(&mut Scratch::new()).map(|bytes| bytes.map(<[u8]>::to_vec));
    let values = values.map_err(|error| error.to_string())?;
    Ok((needs_key, Device { snapshot, key, factory, owner, values }))
}

impl Device {
    /// No certificate is about another key.
    fn is_consistent(&self) -> bool {
        let fits = |contents: &Option<Vec<u8>>| {
            contents.as_ref().is_none_or(|bytes| bytes[0] == self.key[0] || bytes[..] == ANCHOR)
        };
        fits(&self.factory) && fits(&self.owner)
    }
}

/// A small generator (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }
}

// ---------------------------------------------------------------- power cuts

/// The key that takes the place of [`KEY`]; the factory slot keeps its anchor alone.
const SUCCESSOR: NewKey<'static> = NewKey { key: &NEW_KEY, origin: KeyOrigin::Generated, factory: Some(&ANCHOR) };

const FIRST_START: Operation = |store| store.provide_key(&KEY, KeyOrigin::Generated);
const SET_FACTORY: Operation = |store| store.set_factory(&CERTIFICATE, Some(10));
const SET_OWNER: Operation = |store| store.set_owner(&CERTIFICATE, 1, Some(20), None);
const REPLACE_OWNER: Operation = |store| store.set_owner(&LATER_CERTIFICATE, 2, Some(21), None);
const WATERMARK: Operation = |store| store.advance_watermark(Slot::Owner, 5000);
const REKEY: Operation = |store| store.rekey(&SUCCESSOR, Some(&ANCHOR));
const RESET: Operation = |store| store.reset(None);
const RESET_WITH_KEY: Operation = |store| store.reset(Some(&SUCCESSOR));
const TRANSFER: Operation = |store| store.transfer(&LATER_CERTIFICATE, 2, Some(21), Some(11));
const VALUES: Operation = |store| store.set_values(&[0x77; 90]);
const OTHER_VALUES: Operation = |store| store.set_values(&[0x78; 120]);

const OWNED: [Operation; 3] = [FIRST_START, SET_FACTORY, SET_OWNER];

/// A device that did `operations`, and `more` other commits: they fill pages, so that others are full or erased later.
fn device(operations: &[Operation], more: u64) -> Flash {
    let mut flash = blank();
    for operation in operations {
        operation(&mut open(&mut flash)).unwrap();
    }
    for issued_at in 1000..1000 + more {
        open(&mut flash).advance_watermark(Slot::Factory, issued_at).unwrap();
    }
    flash
}

/// Cuts the power at every `step`th byte that `operation` programs or erases. Returns the number of cuts.
fn cut_once(before: &Flash, operation: Operation, step: usize) -> u64 {
    let old = before_operation(before);
    let new = after_operation(before, operation);
    let mut cuts = 0;
    for cut in (0..).step_by(step) {
        let mut flash = before.clone();
        flash.cut_power_after(cut);
        let result = operation(&mut open(&mut flash));
        let power_failed = flash.restore_power();
        let (needs_key, found) = start(&mut flash).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        check(&old, &new, needs_key, &found).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert!(result.is_err() || found == new, "cut at {cut}: it said that it was done");
        if cut % 16 == 0 {
            goes_on(&mut flash).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        }
        if !power_failed {
            assert_eq!(result, Ok(()));
            break;
        }
        cuts += 1;
    }
    cuts
}

/// Cuts the power during `operation`, and again while the device recovers. Returns the number of second cuts.
fn cut_twice(before: &Flash, operation: Operation, steps: [usize; 2]) -> u64 {
    let old = before_operation(before);
    let new = after_operation(before, operation);
    let mut cuts = 0;
    for first in (0..).step_by(steps[0]) {
        let mut torn = before.clone();
        torn.cut_power_after(first);
        let _ = operation(&mut open(&mut torn));
        if !torn.restore_power() {
            break;
        }
        for second in (0..).step_by(steps[1]) {
            let mut flash = torn.clone();
            flash.cut_power_after(second);
            let _ = start(&mut flash);
            if !flash.restore_power() {
                break;
            }
            let (needs_key, found) =
                start(&mut flash).unwrap_or_else(|error| panic!("cuts at {first}, {second}: {error}"));
            check(&old, &new, needs_key, &found).unwrap_or_else(|error| panic!("cuts at {first}, {second}: {error}"));
            cuts += 1;
        }
    }
    cuts
}

/// The device before `operation`; a blank one counts as one that starts for the first time later.
fn before_operation(flash: &Flash) -> Device {
    start(&mut flash.clone()).unwrap().1
}

fn after_operation(flash: &Flash, operation: Operation) -> Device {
    let mut flash = flash.clone();
    operation(&mut open(&mut flash)).unwrap();
    start(&mut flash).unwrap().1
}

/// Old or new, never between.
fn check(old: &Device, new: &Device, needs_key: bool, found: &Device) -> Result<(), String> {
    if found != old && found != new {
        return Err(format!("neither old nor new: {found:?}"));
    }
    if !found.is_consistent() {
        return Err(format!("a certificate of another key: {found:?}"));
    }
    if needs_key && old.key != SPARE_KEY {
        return Err("a key was lost".to_string());
    }
    Ok(())
}

/// The next commit works, and lasts.
fn goes_on(flash: &mut Flash) -> Result<(), String> {
    let mut store = open(flash);
    store.set_owner(&LATER_CERTIFICATE, 77, Some(6000), None).map_err(|error| error.to_string())?;
    let snapshot = *store.snapshot();
    match start(flash)? {
        (false, found) if found.snapshot == snapshot => Ok(()),
        other => Err(format!("the next commit is gone: {other:?}")),
    }
}

/// Cuts the power up to `most` times in a row, after random numbers of bytes. Returns the number of cuts.
fn cut_often(before: &Flash, operation: Operation, most: usize, random: &mut Random) -> u64 {
    let old = before_operation(before);
    let new = after_operation(before, operation);
    let mut flash = before.clone();
    let mut history = Vec::new();
    for number in 0..most {
        // within an item, within an item after erasing a range, or anywhere
        let pages = [0, 2, 3, 4, random.below(9), 9][random.below(6)];
        let bytes = (pages * PAGE + random.below(250)) as u64;
        history.push(bytes);
        flash.cut_power_after(bytes);
        if number == 0 {
            let _ = operation(&mut open(&mut flash));
        } else {
            let _ = start(&mut flash);
        }
        flash.restore_power();
    }
    let (needs_key, found) = start(&mut flash).unwrap_or_else(|error| panic!("cuts at {history:?}: {error}"));
    check(&old, &new, needs_key, &found).unwrap_or_else(|error| panic!("cuts at {history:?}: {error}"));
    goes_on(&mut flash).unwrap_or_else(|error| panic!("cuts at {history:?}: {error}"));
    most as u64
}

#[test]
fn first_start_survives_power_cuts() {
    let cuts = cut_once(&blank(), FIRST_START, 1);
    assert!(cuts > 150, "{cuts}");
    let cuts = cut_twice(&blank(), FIRST_START, [7, 151]);
    assert!(cuts > 1000, "{cuts}");
}

#[test]
fn setting_a_slot_survives_power_cuts() {
    for more in [0, 2] {
        let cuts = cut_once(&device(&[FIRST_START], more), SET_OWNER, 1);
        assert!(cuts > 300, "{cuts}");
        let cuts = cut_once(&device(&[FIRST_START], more), SET_FACTORY, 1);
        assert!(cuts > 300, "{cuts}");
    }
}

#[test]
fn replacing_a_slot_survives_power_cuts() {
    for more in [0, 1] {
        let cuts = cut_once(&device(&OWNED, more), REPLACE_OWNER, 1);
        assert!(cuts > 300, "{cuts}");
    }
    assert!(ages(REPLACE_OWNER, 23) > 300);
}

#[test]
fn a_watermark_survives_power_cuts() {
    for more in [0, 1] {
        let cuts = cut_once(&device(&OWNED, more), WATERMARK, 1);
        assert_eq!(cuts, 2 * 32, "an entry behind each half");
    }
    // At one age all places are taken.
    assert!(ages(WATERMARK, 23) > 150);
    assert!(cut_once(&device(&OWNED, 24), WATERMARK, 1) > 6 * PAGE as u64);
}

#[test]
fn a_rekey_survives_power_cuts() {
    let cuts = cut_once(&device(&OWNED, 0), REKEY, 1);
    assert!(cuts > 2 * PAGE as u64, "{cuts}");
    assert!(ages(REKEY, 97) > 400);
    let cuts = cut_twice(&device(&OWNED, 1), REKEY, [97, 151]);
    assert!(cuts > 300, "{cuts}");
}

#[test]
fn a_reset_survives_power_cuts() {
    let cuts = cut_once(&device(&OWNED, 0), RESET, 1);
    assert!(cuts > 3 * PAGE as u64, "{cuts}");
    assert!(ages(RESET, 101) > 400);
    let cuts = cut_twice(&device(&OWNED, 1), RESET, [101, 151]);
    assert!(cuts > 300, "{cuts}");
}

#[test]
fn a_reset_with_a_new_key_survives_power_cuts() {
    let cuts = cut_once(&device(&OWNED, 0), RESET_WITH_KEY, 1);
    assert!(cuts > 5 * PAGE as u64, "{cuts}");
    let cuts = cut_twice(&device(&OWNED, 1), RESET_WITH_KEY, [151, 211]);
    assert!(cuts > 300, "{cuts}");
}

#[test]
fn a_transfer_survives_power_cuts() {
    let owned = [FIRST_START, SET_FACTORY, SET_OWNER, VALUES];
    let cuts = cut_once(&device(&owned, 0), TRANSFER, 1);
    assert!(cuts > 5 * PAGE as u64, "{cuts}");
    assert!(ages(TRANSFER, 101) > 400);
    let cuts = cut_twice(&device(&owned, 1), TRANSFER, [101, 151]);
    assert!(cuts > 1000, "{cuts}");
}

#[test]
fn values_survive_power_cuts() {
    for before in [&[FIRST_START, SET_OWNER][..], &[FIRST_START, SET_OWNER, VALUES]] {
        let cuts = cut_once(&device(before, 1), OTHER_VALUES, 1);
        assert!(cuts > 1000, "{cuts}");
    }
}

#[test]
fn many_power_cuts_in_a_row_are_survived() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut cuts = 0;
    for _ in 0..150 {
        cuts += cut_often(&blank(), FIRST_START, 8, &mut random);
    }
    for operation in [REPLACE_OWNER, REKEY, RESET, RESET_WITH_KEY, TRANSFER] {
        for more in 0..20 {
            cuts += cut_often(&device(&OWNED, more), operation, 5, &mut random);
        }
    }
    assert_eq!(cuts, 150 * 8 + 5 * 20 * 5);
}

/// Devices of many ages, so that at some of them `operation` moves items to another page and erases one.
fn ages(operation: Operation, step: usize) -> u64 {
    (0..40).step_by(3).map(|more| cut_once(&device(&OWNED, more), operation, step)).sum()
}

// ---------------------------------------------------------------- flash that is not sure

/// Flash whose power fails in the midst of a word or a page. What was under way reads differently each time, until it is
/// erased: bits that had to change read as before or as after, at random.
struct Unsteady {
    flash: Flash,
    /// Words to be programmed and pages to be erased until the power fails.
    steps_left: Option<usize>,
    is_off: bool,
    /// Address, and the bytes before and after.
    torn: Vec<(usize, Vec<u8>, Vec<u8>)>,
    random: Random,
}

impl Unsteady {
    fn new(flash: &Flash, steps_left: Option<usize>, seed: u64) -> Self {
        Unsteady { flash: flash.clone(), steps_left, is_off: false, torn: Vec::new(), random: Random(seed | 1) }
    }

    /// Does one step, unless the power fails in it.
    fn step(&mut self, at: usize, len: usize, step: impl FnOnce(&mut Flash)) -> Result<(), FlashError> {
        if self.is_off {
            return Err(FlashError::PowerOff);
        }
        let before = self.flash.bytes_mut()[at..at + len].to_vec();
        step(&mut self.flash);
        match &mut self.steps_left {
            Some(0) => {
                let after = self.flash.bytes_mut()[at..at + len].to_vec();
                self.torn.push((at, before, after));
                self.is_off = true;
                return Err(FlashError::PowerOff);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.torn.retain(|(torn, bytes, _)| *torn < at || torn + bytes.len() > at + len);
        Ok(())
    }

    /// Power again, to fail after so many steps. False if it had not failed.
    fn restart(&mut self, steps_left: Option<usize>) -> bool {
        self.steps_left = steps_left;
        core::mem::take(&mut self.is_off)
    }
}

impl ErrorType for Unsteady {
    type Error = FlashError;
}

impl ReadNorFlash for Unsteady {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.flash.read(offset, bytes)?;
        for (at, before, after) in &self.torn {
            // Settled, or not at all; both come up often.
            let mood = self.random.below(4);
            for (place, (before, after)) in (*at..).zip(before.iter().zip(after)) {
                let Some(byte) = place.checked_sub(offset as usize).and_then(|at| bytes.get_mut(at)) else { continue };
                let done = match mood {
                    0 => 0x00,
                    1 => 0xFF,
                    _ => self.random.below(256) as u8,
                };
                *byte = (before & !done) | (after & done);
            }
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.flash.capacity()
    }
}

impl NorFlash for Unsteady {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        for page in (from..to).step_by(PAGE) {
            self.step(page as usize, PAGE, |flash| flash.erase(page, page + PAGE as u32).unwrap())?;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        for (at, word) in (offset..).step_by(4).zip(bytes.chunks(4)) {
            self.step(at as usize, 4, |flash| flash.write(at, word).unwrap())?;
        }
        Ok(())
    }
}

/// A cut at each word and page, and for each of them some cuts in what the next start does, and the one after that. The
/// device is the old one or the new one, is so at each later start, and takes the next commit.
#[test]
fn what_was_cut_may_read_differently_each_time() {
    type Commit = fn(&mut Store<&mut Unsteady>) -> Result<(), Error>;
    let commits: [(&[Operation], Commit); 5] = [
        (&OWNED, |store| store.set_owner(&LATER_CERTIFICATE, 2, Some(21), None)),
        (&OWNED, |store| store.rekey(&SUCCESSOR, Some(&ANCHOR))),
        (&OWNED, |store| store.advance_watermark(Slot::Owner, 5000)),
        (&[FIRST_START, SET_FACTORY, SET_OWNER, VALUES], |store| {
            store.transfer(&LATER_CERTIFICATE, 2, Some(21), Some(11))
        }),
        (&[FIRST_START], |store| store.set_values(&[0x77; 90])),
    ];
    let mut cuts = 0;
    for (before, commit) in commits {
        let flash = device(before, 1);
        let old = before_operation(&flash);
        let mut whole = Unsteady::new(&flash, None, 1);
        commit(&mut Store::new(&mut whole, Layout::smallest::<Flash>(0))).unwrap();
        let new = start_on(&mut whole).unwrap().1;
        for first in 0.. {
            let mut is_done = false;
            for seed in 0..6 {
                let mut flash = Unsteady::new(&flash, Some(first), (first * 6 + seed + 1) as u64 * 0x9E37_79B9);
                let result = commit(&mut Store::new(&mut flash, Layout::smallest::<Flash>(0)));
                is_done = result.is_ok();
                for again in 0..2 {
                    let steps = flash.random.below(if again == 0 { 120 } else { 30 });
                    cuts += u32::from(flash.restart(Some(steps)));
                    let _ = start_on(&mut flash);
                }
                flash.restart(None);
                let found = start_on(&mut flash).unwrap_or_else(|error| panic!("step {first}, seed {seed}: {error}"));
                check(&old, &new, found.0, &found.1).unwrap_or_else(|error| panic!("step {first}, {seed}: {error}"));
                assert!(!is_done || found.1 == new);
                for _ in 0..3 {
                    assert_eq!(
                        start_on(&mut flash).as_ref(),
                        Ok(&(false, found.1.clone())),
                        "step {first}, seed {seed}"
                    );
                }
                let mut store = Store::new(&mut flash, Layout::smallest::<Flash>(0));
                store.set_owner(&LATER_CERTIFICATE, 77, Some(6000), None).unwrap();
                let snapshot = *store.snapshot();
                assert_eq!(start_on(&mut flash).map(|(_, found)| found.snapshot), Ok(snapshot));
            }
            if is_done {
                break;
            }
        }
    }
    assert!(cuts > 3000, "{cuts}");
}

// ---------------------------------------------------------------- damage

/// Devices at different points of their life, all of them owned.
fn owned_devices() -> Vec<Flash> {
    let histories: [&[Operation]; 6] = [
        &[FIRST_START, SET_OWNER],
        &[FIRST_START, SET_FACTORY, SET_OWNER, REPLACE_OWNER],
        &[FIRST_START, SET_FACTORY, SET_OWNER, REKEY],
        &[FIRST_START, SET_OWNER, RESET, REPLACE_OWNER],
        &[FIRST_START, SET_OWNER, VALUES, TRANSFER, OTHER_VALUES],
        &[FIRST_START, SET_FACTORY, REKEY, SET_OWNER, RESET, SET_OWNER],
    ];
    let lives = histories.iter().flat_map(|operations| [(operations, 0), (operations, 1), (operations, 9)]);
    lives.map(|(operations, more)| device(operations, more)).collect()
}

/// Damages one page: some or all of it erased, cleared, flipped or made noise.
fn damage(page: &mut [u8], kind: usize, random: &mut Random) {
    let from = random.below(page.len());
    let to = from + 1 + random.below(page.len() - from);
    match kind {
        0 => page.fill(0xFF),
        1 => page.fill(0x00),
        2 => page.fill_with(|| random.below(256) as u8),
        3 => page[from..].fill(0xFF),
        4 => page[..from].fill(0xFF),
        5 => page[from..to].fill(0x00),
        6 => page[from..to].fill_with(|| random.below(256) as u8),
        7 => page[from] ^= 1 << random.below(8),
        _ => page[from & !3..][..4].fill(0xFF),
    }
}

#[test]
fn one_damaged_page_leaves_the_intact_state() {
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let mut intact = 0;
    for flash in owned_devices() {
        let expected = before_operation(&flash);
        for page in 0..Layout::smallest::<Flash>(0).list.end as usize / PAGE {
            for kind in (0..9).chain(2..9) {
                let mut flash = flash.clone();
                damage(&mut flash.bytes_mut()[page * PAGE..][..PAGE], kind, &mut random);
                // Several starts: what one start repairs must not mislead the next.
                for _ in 0..3 {
                    let (needs_key, found) = start(&mut flash).expect("the other half is whole");
                    assert_eq!((needs_key, &found), (false, &expected), "damage {kind} of page {page}");
                    intact += 1;
                }
            }
        }
    }
    assert!(intact > 10_000, "{intact} starts with the intact state");
}

// ---------------------------------------------------------------- long use

/// Random commits with the longest contents on the smallest layout: they always fit, and the last one is what counts.
fn uses<const WORD: usize, const PAGE: usize>(commits: usize) {
    let layout = Layout::smallest::<RamFlash<Vec<u8>, WORD, PAGE>>(PAGE as u32);
    let mut flash = RamFlash::<_, WORD, PAGE>::erased(vec![0; layout.list.end as usize]);
    let mut random = Random(WORD as u64 * 1_000_003 + PAGE as u64);
    Store::new(&mut flash, layout.clone()).provide_key(&KEY, KeyOrigin::Generated).unwrap();
    let (mut factory, mut owner, mut values) = (None, None, None);
    for commit in 0..commits {
        let mut store = Store::new(&mut flash, layout.clone());
        assert_eq!(
            store.open(&mut KeyBytes::new()),
            Ok(Opened::Ready),
            "words of {WORD}, pages of {PAGE}, commit {commit}"
        );
        let len = if random.below(3) == 0 { 1 + random.below(MAX_CONTENTS_LEN) } else { MAX_CONTENTS_LEN };
        let bytes = vec![commit as u8; len];
        let some = |slot: &Option<Vec<u8>>| slot.is_some().then_some(&bytes[..]);
        let result = match random.below(8) {
            0 | 1 => {
                factory = Some(bytes);
                store.set_factory(factory.as_ref().unwrap(), None)
            }
            2 | 3 => {
                owner = Some(bytes);
                store.set_owner(owner.as_ref().unwrap(), 1, None, None)
            }
            4 => {
                let key = [commit as u8; 32];
                let new = NewKey { key: &key, origin: KeyOrigin::Generated, factory: some(&factory) };
                let result = store.rekey(&new, some(&owner));
                factory = factory.map(|_| bytes.clone());
                owner = owner.map(|_| bytes);
                result
            }
            6 if random.below(2) == 0 => {
                values = Some(bytes);
                store.set_values(values.as_ref().unwrap())
            }
            5 if random.below(4) == 0 && owner.is_some() => {
                (owner, values) = (Some(bytes), None);
                store.transfer(owner.as_ref().unwrap(), 1, None, None)
            }
            5 if random.below(4) == 0 => {
                (owner, values) = (None, None);
                store.reset(None)
            }
            _ => store.advance_watermark(Slot::Factory, commit as u64),
        };
        result.unwrap_or_else(|error| panic!("words of {WORD}, pages of {PAGE}, commit {commit}: {error}"));
        let mut scratch = Scratch::new();
        assert_eq!(store.slot(Slot::Factory, &mut scratch).unwrap(), factory.as_deref());
        assert_eq!(store.slot(Slot::Owner, &mut scratch).unwrap(), owner.as_deref());
        assert_eq!(store.values(&mut scratch).unwrap(), values.as_deref());
    }
    assert_eq!(flash.wear().words_rewritten, 0);
    assert!(flash.bytes_mut()[..PAGE].iter().all(|byte| *byte == 0xFF), "wrote outside of its ranges");
}

#[test]
fn the_smallest_layout_is_large_enough() {
    uses::<4, 1024>(300);
    uses::<8, 1024>(100);
    uses::<16, 1024>(100);
    uses::<32, 1024>(100);
    uses::<4, 2048>(150);
    uses::<32, 2048>(100);
    uses::<8, 4096>(100);
    uses::<32, 8192>(40);
}
