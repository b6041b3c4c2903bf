use cbor_schemas::{DeviceListClaims, IssuerId, Keys, ListMode, Watermarks};

use super::{chunk::Chunk, contents::digest, image::*, layout::tail, *};
use crate::LIST_KEYS;
use crate::flash::{RamFlash, Wear};

type Flash = RamFlash<Vec<u8>, 4, PAGE>;
type Operation = fn(&mut Store<&mut Flash>) -> Result<(), Error>;

const PAGE: usize = 1024;
const KEY: [u8; 32] = [0x11; 32];
const NEW_KEY: [u8; 32] = [0x22; 32];
const CERTIFIED: &[u8] = &[0xCE; 300];
const ANCHOR: &[u8] = &[0xAC; 90];
const VALUES: &[u8] = &[0x77; 70];
const PEERS: [[u8; 32]; 3] = [[0x91; 32], [0x92; 32], [0x93; 32]];

fn layout() -> Layout {
    Layout::smallest::<Flash>(0)
}

fn blank() -> Flash {
    Flash::erased(vec![0; layout().list.end as usize])
}

/// What a device on this flash believes, key and contents included.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a test has one of them")]
enum Believes {
    State {
        snapshot: Snapshot,
        key: [u8; 32],
        factory: Option<Vec<u8>>,
        owner: Option<Vec<u8>>,
        values: Option<Vec<u8>>,
    },
    NeedsKey,
    Fault(FaultReason),
}

fn new_key<'a>(key: &'a [u8; 32], factory: Option<&'a [u8]>) -> NewKey<'a> {
    NewKey { key, origin: KeyOrigin::Generated, factory }
}

fn open(flash: &mut Flash) -> Store<&mut Flash> {
    let mut store = Store::new(flash, layout());
    store.open(&mut KeyBytes::new()).unwrap();
    store
}

/// The state after an operation.
fn after(flash: &mut Flash, operation: impl FnOnce(&mut Store<&mut Flash>) -> Result<(), Error>) -> Snapshot {
    let mut store = open(flash);
    operation(&mut store).unwrap();
    *store.snapshot()
}

fn beliefs(flash: &mut Flash) -> Believes {
    let (mut store, mut key) = (Store::new(flash, layout()), KeyBytes::new());
    let mut scratch = Scratch::new();
    match store.open(&mut key).unwrap() {
        Opened::Ready => Believes::State {
            snapshot: *store.snapshot(),
            key: *key.as_bytes(),
            factory: store.slot(Slot::Factory, &mut scratch).unwrap().map(<[u8]>::to_vec),
            owner: store.slot(Slot::Owner, &mut scratch).unwrap().map(<[u8]>::to_vec),
            values: store.values(&mut scratch).unwrap().map(<[u8]>::to_vec),
        },
        Opened::NeedsKey => Believes::NeedsKey,
        Opened::Fault(reason) => Believes::Fault(reason),
    }
}

fn claims(version: u64, keys: &[[u8; 32]]) -> DeviceListClaims<'_> {
    DeviceListClaims {
        issuer: IssuerId([1; 8]),
        issued_at: version,
        version,
        mode: ListMode::Members,
        min_iat: 7,
        keys: keys.into(),
        unproven: Keys::default(),
        audit_head: None,
    }
}

fn set_list(store: &mut Store<&mut Flash>, version: u64, keys: &[[u8; 32]]) -> Result<(), Error> {
    store.set_list(&List::of(&claims(version, keys)).unwrap(), keys.iter(), version)
}

fn started() -> Flash {
    let mut flash = blank();
    open(&mut flash).provide_key(&KEY, KeyOrigin::Generated).unwrap();
    flash
}

/// Seven commits: started, owned, with a factory, a watermark, replaced owner contents, values, and a device list.
fn owned() -> Flash {
    let mut flash = started();
    let mut store = open(&mut flash);
    store.set_factory(CERTIFIED, Some(100)).unwrap();
    store.set_owner(ANCHOR, 1, Some(200), None).unwrap();
    store.advance_watermark(Slot::Factory, 101).unwrap();
    store.set_owner(CERTIFIED, 1, Some(150), None).unwrap();
    store.set_values(VALUES).unwrap();
    set_list(&mut store, 201, &PEERS).unwrap();
    flash
}

fn halves() -> [core::ops::Range<u32>; 2] {
    [layout().half_a, layout().half_b]
}

fn range_bytes(flash: &mut Flash, range: core::ops::Range<u32>) -> &mut [u8] {
    &mut flash.bytes_mut()[range.start as usize..range.end as usize]
}

/// The bytes of an image from the chunk `at` on.
fn chunk_bytes(flash: &mut Flash, half: core::ops::Range<u32>, at: u32) -> &mut [u8] {
    &mut range_bytes(flash, half)[at as usize * Chunk::LEN..]
}

fn is_left(flash: &mut Flash, bytes: &[u8]) -> bool {
    flash.bytes_mut().windows(bytes.len()).any(|window| window == bytes)
}

#[test]
fn a_first_start_needs_a_key_once() {
    let mut flash = blank();
    let mut store = Store::new(&mut flash, layout());
    assert_eq!(store.open(&mut KeyBytes::new()), Ok(Opened::NeedsKey));
    assert_eq!(store.set_owner(ANCHOR, 1, None, None), Err(Error::NeedsKey));
    assert_eq!(store.reset(None), Err(Error::NeedsKey));
    assert_eq!(store.slot(Slot::Owner, &mut Scratch::new()), Err(Error::NeedsKey));

    store.provide_key(&KEY, KeyOrigin::Derived).unwrap();
    let snapshot = *store.snapshot();
    assert_eq!((snapshot.generation, snapshot.claim_counter), (1, 0));
    assert_eq!(snapshot.key_origin, KeyOrigin::Derived);
    assert_eq!((snapshot.factory, snapshot.owner, snapshot.list), (None, None, None));
    assert_eq!(store.provide_key(&NEW_KEY, KeyOrigin::Generated), Err(Error::KeyNotNeeded));
    assert_eq!(beliefs(&mut flash), Believes::State { snapshot, key: KEY, factory: None, owner: None, values: None });
}

#[test]
fn slots_are_filled_and_replaced() {
    let mut flash = started();
    let mut store = open(&mut flash);
    store.set_owner(ANCHOR, 1, Some(7), None).unwrap();
    let first = *store.snapshot();
    assert_eq!((first.claim_counter, first.watermarks.owner, first.factory), (1, Some(7), None));
    assert_eq!(first.owner.unwrap().digest, digest(ANCHOR));
    let longest = [0x5A; MAX_CONTENTS_LEN];
    for round in 0..20_u8 {
        let mut owner = longest;
        owner[0] = round;
        store.set_owner(&owner, 1, None, None).unwrap();
        assert_eq!((store.snapshot().owner.unwrap().len, store.snapshot().watermarks.owner), (640, None));
        assert_eq!(store.slot(Slot::Owner, &mut Scratch::new()), Ok(Some(&owner[..])));
        store.set_factory(&owner, Some(9)).unwrap();
        assert_eq!(store.snapshot().contents(Slot::Factory).unwrap().digest, digest(&owner));
        assert_eq!(store.slot(Slot::Factory, &mut Scratch::new()), Ok(Some(&owner[..])));
        assert_eq!(store.snapshot().claim_counter, 1);
    }
}

#[test]
fn a_list_is_stored_looked_up_and_replaced() {
    let most = std::array::from_fn::<_, { LIST_KEYS as usize }, _>(|n| [n as u8; 32]);
    let mut flash = owned();
    for (version, keys) in (300..).zip([&most[..], &[], &PEERS[..1], &most[10..20], &most]) {
        let mut store = open(&mut flash);
        set_list(&mut store, version, keys).unwrap();
        let snapshot = *store.snapshot();
        let list = snapshot.list.unwrap();
        assert_eq!((list.version, usize::from(list.count), list.min_iat), (version, keys.len(), 7));
        assert_eq!(snapshot.watermarks.owner, Some(version));
        for key in most.iter().chain(&PEERS) {
            assert_eq!(store.is_listed(key), Ok(keys.contains(key)), "{version}");
        }
        assert!(matches!(beliefs(&mut flash), Believes::State { snapshot: found, .. } if found == snapshot));
    }
    assert_eq!(List::of(&claims(400, &[[0; 32]; LIST_KEYS as usize + 1])), None);
}

#[test]
fn a_list_stays_with_its_owner_and_goes_with_it() {
    let mut flash = owned();
    let list = |flash: &mut Flash| open(flash).snapshot().list.map(|list| list.version);
    open(&mut flash).set_owner(ANCHOR, 1, None, None).unwrap();
    open(&mut flash).rekey(&new_key(&NEW_KEY, None), None).unwrap();
    assert_eq!(list(&mut flash), Some(201));
    open(&mut flash).transfer(CERTIFIED, 2, None, None).unwrap();
    assert_eq!((list(&mut flash), open(&mut flash).is_listed(&PEERS[0])), (None, Ok(false)));
}

#[test]
fn contents_that_do_not_fit_change_nothing() {
    let mut flash = owned();
    let before = beliefs(&mut flash);
    let mut store = open(&mut flash);
    for bytes in [&[][..], &[1; MAX_CONTENTS_LEN + 1]] {
        assert_eq!(store.set_owner(bytes, 2, None, None), Err(Error::ContentsLength));
        assert_eq!(store.set_factory(bytes, None), Err(Error::ContentsLength));
        assert_eq!(store.rekey(&new_key(&NEW_KEY, None), Some(bytes)), Err(Error::ContentsLength));
        assert_eq!(store.rekey(&new_key(&NEW_KEY, Some(bytes)), None), Err(Error::ContentsLength));
        assert_eq!(store.reset(Some(&new_key(&NEW_KEY, Some(bytes)))), Err(Error::ContentsLength));
    }
    assert_eq!(beliefs(&mut flash), before);
}

#[test]
fn a_watermark_only_rises() {
    let mut flash = owned();
    let mut store = open(&mut flash);
    store.advance_watermark(Slot::Owner, 300).unwrap();
    assert_eq!(store.snapshot().watermarks.owner, Some(300));
    let written = store.halves.flash.wear();
    store.advance_watermark(Slot::Owner, 299).unwrap();
    assert_eq!(store.snapshot().watermarks.owner, Some(300));
    store.advance_watermark(Slot::Owner, 300).unwrap();
    assert_eq!(store.snapshot().watermarks.factory, Some(101));
    assert_eq!(store.halves.flash.wear(), written);
}

/// As many as there are places for, and then the whole image once.
#[test]
fn watermarks_are_appended_and_erase_nothing() {
    let places = u64::from(tail::<Flash>());
    assert_eq!(places, 24);
    let mut flash = owned();
    let before = flash.wear();
    for time in 1..=2 * places + 1 {
        let snapshot = after(&mut flash, |store| store.advance_watermark(Slot::Owner, 1000 + time));
        assert_eq!(snapshot.watermarks, Watermarks { factory: Some(101), owner: Some(1000 + time) });
        assert!(matches!(beliefs(&mut flash), Believes::State { snapshot: found, .. } if found == snapshot));
        let erased = flash.wear().pages_erased - before.pages_erased;
        assert_eq!(erased, if time <= places { 0 } else { 6 }, "after {time}");
    }
    assert_eq!(flash.wear().words_rewritten, 0);
}

/// u64::MAX is a time like others.
#[test]
fn a_watermark_may_be_anything() {
    for time in [0, u64::MAX] {
        let mut flash = started();
        let snapshot = after(&mut flash, |store| store.advance_watermark(Slot::Factory, time));
        assert_eq!(snapshot.watermarks, Watermarks { factory: Some(time), owner: None });
        assert!(matches!(beliefs(&mut flash), Believes::State { snapshot: found, .. } if found == snapshot));
    }
}

#[test]
fn a_rekey_replaces_the_key_and_erases_the_old_one() {
    let mut flash = owned();
    let new = NewKey { origin: KeyOrigin::Injected, ..new_key(&NEW_KEY, Some(ANCHOR)) };
    let snapshot = after(&mut flash, |store| store.rekey(&new, Some(ANCHOR)));
    assert_eq!((snapshot.generation, snapshot.key_origin), (2, KeyOrigin::Injected));
    assert_eq!((snapshot.watermarks.factory, snapshot.watermarks.owner), (Some(101), Some(201)));
    let (factory, owner) = (Some(ANCHOR.to_vec()), Some(ANCHOR.to_vec()));
    assert_eq!(
        beliefs(&mut flash),
        Believes::State { snapshot, key: NEW_KEY, factory, owner, values: Some(VALUES.to_vec()) }
    );
    assert!(!is_left(&mut flash, &KEY), "the old key is still in flash");
    // without new contents the slots stay
    let kept = after(&mut flash, |store| store.rekey(&new_key(&KEY, None), None));
    assert_eq!((kept.owner, kept.factory, kept.generation), (snapshot.owner, snapshot.factory, 3));
}

#[test]
fn a_reset_erases_what_is_the_owners_and_nothing_else() {
    let mut flash = owned();
    let Believes::State { snapshot: before, factory, .. } = beliefs(&mut flash) else { panic!() };
    let snapshot = after(&mut flash, |store| store.reset(None));
    assert_eq!((snapshot.owner, snapshot.claim_counter, snapshot.watermarks.owner), (None, 2, None));
    assert_eq!((snapshot.factory, snapshot.watermarks.factory), (before.factory, Some(101)));
    assert_eq!(beliefs(&mut flash), Believes::State { snapshot, key: KEY, factory, owner: None, values: None });
    assert_eq!(snapshot.list, None);
    assert!(range_bytes(&mut flash, layout().list).iter().all(|byte| *byte == 0xFF));
    for gone in [ANCHOR, VALUES, &PEERS[0]] {
        assert!(!is_left(&mut flash, &gone[..8]));
    }
    // and it can be owned again
    open(&mut flash).set_owner(ANCHOR, 3, None, None).unwrap();
    assert!(matches!(beliefs(&mut flash), Believes::State { owner: Some(_), .. }));
}

#[test]
fn a_reset_with_a_new_key_erases_the_old_one_too() {
    let mut flash = owned();
    let snapshot = after(&mut flash, |store| store.reset(Some(&new_key(&NEW_KEY, Some(ANCHOR)))));
    assert_eq!((snapshot.owner, snapshot.claim_counter, snapshot.generation), (None, 2, 2));
    let factory = Some(ANCHOR.to_vec());
    assert_eq!(beliefs(&mut flash), Believes::State { snapshot, key: NEW_KEY, factory, owner: None, values: None });
    assert!(!is_left(&mut flash, &KEY), "the old key is still in flash");
    assert!(range_bytes(&mut flash, layout().list).iter().all(|byte| *byte == 0xFF));
}

#[test]
fn a_transfer_leaves_nothing_of_the_former_owner() {
    let mut flash = owned();
    let Believes::State { snapshot: before, factory, .. } = beliefs(&mut flash) else { panic!() };
    let next = &[0x4E; MAX_CONTENTS_LEN][..];
    let snapshot = after(&mut flash, |store| store.transfer(next, 2, Some(50), Some(102)));
    let watermarks = Watermarks { factory: Some(102), owner: Some(50) };
    assert_eq!((snapshot.claim_counter, snapshot.watermarks), (2, watermarks));
    assert_eq!((snapshot.factory, snapshot.list, snapshot.values), (before.factory, None, None));
    let owner = Some(next.to_vec());
    assert_eq!(beliefs(&mut flash), Believes::State { snapshot, key: KEY, factory, owner, values: None });
    assert!(range_bytes(&mut flash, layout().list).iter().all(|byte| *byte == 0xFF));
    for gone in [ANCHOR, VALUES, &PEERS[0]] {
        assert!(!is_left(&mut flash, &gone[..8]));
    }
    for half in halves() {
        assert!(!chunk_bytes(&mut flash, half, PARTS + PART)[..2 * MAX_CONTENTS_LEN].contains(&CERTIFIED[0]));
    }
}

#[test]
fn values_are_stored_and_replaced_and_the_old_ones_erased() {
    let mut flash = started();
    assert_eq!(open(&mut flash).values(&mut Scratch::new()), Ok(None));
    for round in 1..20_u8 {
        let bytes = [round; MAX_CONTENTS_LEN];
        let bytes = &bytes[..if round % 2 == 0 { MAX_CONTENTS_LEN } else { usize::from(round) }];
        let snapshot = after(&mut flash, |store| store.set_values(bytes));
        assert_eq!(open(&mut flash).values(&mut Scratch::new()), Ok(Some(bytes)));
        assert_eq!((snapshot.claim_counter, snapshot.owner), (0, None));
        for half in halves() {
            let left = &chunk_bytes(&mut flash, half, PARTS + 2 * PART)[..MAX_CONTENTS_LEN];
            assert!(left.iter().all(|byte| [round, 0xFF].contains(byte)), "round {round}");
        }
    }
    let before = beliefs(&mut flash);
    for bytes in [&[][..], &[1; MAX_CONTENTS_LEN + 1]] {
        assert_eq!(open(&mut flash).set_values(bytes), Err(Error::ContentsLength));
    }
    assert_eq!(beliefs(&mut flash), before);
}

#[test]
fn counters_do_not_wrap() {
    let mut flash = started();
    let mut store = open(&mut flash);
    store.set_owner(ANCHOR, u32::MAX, None, None).unwrap();
    assert_eq!(store.reset(None), Err(Error::Exhausted));
    assert_eq!(store.reset(Some(&new_key(&NEW_KEY, None))), Err(Error::Exhausted));
    assert_eq!(store.slot(Slot::Owner, &mut Scratch::new()), Ok(Some(ANCHOR)));
    assert_eq!((store.snapshot().claim_counter, store.snapshot().generation), (u32::MAX, 1));
}

/// Each half is there without the other, whatever became of that: it is repaired.
#[test]
fn a_half_is_repaired_from_the_other_one() {
    for flash in [started(), owned()] {
        let intact = beliefs(&mut flash.clone());
        for half in halves() {
            for damage in [0xFF, 0x00, 0x5A] {
                let mut flash = flash.clone();
                range_bytes(&mut flash, half.clone()).fill(damage);
                assert_eq!(beliefs(&mut flash), intact);
                let wear = flash.wear();
                assert_eq!(beliefs(&mut flash), intact);
                assert_eq!(flash.wear(), wear, "it was repaired once");
                let [a, b] = halves().map(|half| range_bytes(&mut flash, half).to_vec());
                let image = DIGEST as usize * Chunk::LEN;
                assert!(a[..image] == b[..image]);
            }
        }
    }
}

/// Behind a half that is damaged there may be newer watermarks than behind the other one.
#[test]
fn the_newer_watermark_counts() {
    for half in halves() {
        for image_too in [false, true] {
            let mut flash = owned();
            let expected = after(&mut flash, |store| {
                store.advance_watermark(Slot::Owner, 300)?;
                store.advance_watermark(Slot::Factory, 301)
            });
            chunk_bytes(&mut flash, half.clone(), if image_too { DIGEST } else { TAIL }).fill(0xFF);
            for _ in 0..2 {
                assert!(matches!(beliefs(&mut flash), Believes::State { snapshot, .. } if snapshot == expected));
            }
            // It is behind both halves again.
            for half in halves() {
                let mut flash = flash.clone();
                range_bytes(&mut flash, half.clone()).fill(0);
                assert!(matches!(beliefs(&mut flash), Believes::State { snapshot, .. } if snapshot == expected));
            }
        }
    }
}

/// What was appended to an image proves it, where its digest does not read right any more.
#[test]
fn an_image_is_proved_by_a_watermark_behind_it() {
    let mut flash = owned();
    open(&mut flash).advance_watermark(Slot::Owner, 300).unwrap();
    let expected = beliefs(&mut flash);
    for half in halves() {
        chunk_bytes(&mut flash, half, DIGEST)[0] ^= 1;
    }
    assert_eq!(beliefs(&mut flash), expected);
}

/// The last word of a newer image was cut short. Before the other half is erased, an entry proves the image, and after that
/// it does not matter what that word reads as.
#[test]
fn an_image_that_was_cut_in_its_last_word_is_proved_before_the_other_one_goes() {
    let mut old = owned();
    let mut new = old.clone();
    after(&mut new, |store| store.set_owner(ANCHOR, 2, None, None));
    let first = open(&mut new).halves.solid;
    let half = layout().half(first);
    // The new image in one half, the old one in the other: what is there right before the second half is erased.
    range_bytes(&mut old, half.clone()).copy_from_slice(range_bytes(&mut new, half.clone()));
    let expected = beliefs(&mut new);
    let steps = (0..).map(|bytes| {
        let mut flash = old.clone();
        flash.cut_power_after(bytes);
        let _ = Store::new(&mut flash, layout()).open(&mut KeyBytes::new());
        let was_cut = flash.restore_power();
        (bytes, flash, was_cut)
    });
    for (bytes, mut flash, was_cut) in steps.take(3 * PAGE + 64).step_by(7) {
        assert!(was_cut);
        // The half that was copied from: unless it was erased itself, or the other one is not begun yet.
        let other = layout().half(first.other());
        let is_begun = range_bytes(&mut flash, other.clone()) != range_bytes(&mut old.clone(), other);
        if is_begun {
            let last_word = &mut chunk_bytes(&mut flash, half.clone(), DIGEST)[28..32];
            last_word.fill(0x3C);
        }
        let Believes::State { snapshot, .. } = beliefs(&mut flash) else { panic!("after {bytes}") };
        assert!(matches!(&expected, Believes::State { snapshot: expected, .. } if *expected == snapshot));
    }
}

#[test]
fn damage_to_both_halves_is_a_fault() {
    for [first, second] in [[0, DIGEST], [PARTS, super::image::KEY], [DIGEST, 3]] {
        for flash in [started(), owned()] {
            let mut flash = flash;
            chunk_bytes(&mut flash, layout().half_a, first)[0] ^= 0x80;
            chunk_bytes(&mut flash, layout().half_b, second)[31] ^= 0x01;
            let fault = FaultReason::NoImage;
            assert_eq!(beliefs(&mut flash), Believes::Fault(fault));
            let wear = flash.wear();
            let mut store = open(&mut flash);
            assert_eq!(store.provide_key(&NEW_KEY, KeyOrigin::Generated), Err(Error::Fault(fault)));
            assert_eq!(store.set_owner(ANCHOR, 2, None, None), Err(Error::Fault(fault)));
            assert_eq!(store.advance_watermark(Slot::Owner, u64::MAX), Err(Error::Fault(fault)));
            assert_eq!(store.reset(None), Err(Error::Fault(fault)));
            assert_eq!(flash.wear(), wear, "nothing is written");
        }
    }
}

/// An owner leaves more than a first start does.
#[test]
fn an_owned_device_whose_halves_are_erased_and_damaged_does_not_start_anew() {
    let mut flash = after_reset_of_list(owned());
    for [erased, damaged] in [halves(), [layout().half_b, layout().half_a]] {
        let mut flash = flash.clone();
        range_bytes(&mut flash, erased).fill(0xFF);
        chunk_bytes(&mut flash, damaged, 0)[..Chunk::LEN].fill(0xFF);
        assert_eq!(beliefs(&mut flash), Believes::Fault(FaultReason::NoImage));
    }
    // Of a device that nobody owns and nobody made, no more is left than of a first start.
    flash = started();
    range_bytes(&mut flash, layout().half_a).fill(0xFF);
    chunk_bytes(&mut flash, layout().half_b, 0)[..Chunk::LEN].fill(0xFF);
    assert_eq!(beliefs(&mut flash), Believes::NeedsKey);
}

/// A device with an owner and without a list.
fn after_reset_of_list(mut flash: Flash) -> Flash {
    open(&mut flash).reset(None).unwrap();
    open(&mut flash).set_owner(ANCHOR, 3, None, None).unwrap();
    flash
}

#[test]
fn a_list_that_is_damaged_is_a_fault() {
    for damage in [|byte: &mut u8| *byte = 0xFF, |byte: &mut u8| *byte = 0, |byte: &mut u8| *byte ^= 4] {
        let mut flash = owned();
        range_bytes(&mut flash, layout().list).iter_mut().for_each(damage);
        assert_eq!(beliefs(&mut flash), Believes::Fault(FaultReason::List));
    }
}

#[test]
fn contents_damaged_after_opening_are_not_served_and_repaired() {
    let mut flash = owned();
    let intact = beliefs(&mut flash);
    let mut store = open(&mut flash);
    let solid = store.halves.layout.half(store.halves.solid);
    for (part, fault) in [(0, FaultReason::FactoryContents), (1, FaultReason::OwnerContents), (2, FaultReason::Values)]
    {
        chunk_bytes(store.halves.flash, solid.clone(), PARTS + part * PART)[3] ^= 8;
        let mut scratch = Scratch::new();
        let read = match part {
            0 => store.slot(Slot::Factory, &mut scratch),
            1 => store.slot(Slot::Owner, &mut scratch),
            _ => store.values(&mut scratch),
        };
        assert_eq!(read, Err(Error::Fault(fault)));
    }
    assert_eq!(store.open(&mut KeyBytes::new()), Ok(Opened::Ready));
    assert_eq!(beliefs(&mut flash), intact);
}

/// What a commit keeps was compared before it is copied.
#[test]
fn a_commit_does_not_keep_what_was_damaged_since() {
    for half in halves() {
        let mut flash = owned();
        let Believes::State { key, factory, .. } = beliefs(&mut flash) else { panic!() };
        let mut store = open(&mut flash);
        chunk_bytes(store.halves.flash, half.clone(), PARTS)[3] ^= 8;
        chunk_bytes(store.halves.flash, half, super::image::KEY)[3] ^= 8;
        store.set_owner(ANCHOR, 2, None, None).unwrap();
        assert!(matches!(beliefs(&mut flash), Believes::State { key: found, factory: contents, .. }
            if found == key && contents == factory));
    }
}

#[test]
fn a_list_damaged_after_opening_is_not_asked() {
    let mut flash = owned();
    let mut store = open(&mut flash);
    let range = range_bytes(store.halves.flash, layout().list);
    let at = range.windows(32).position(|window| window == PEERS[2]).unwrap();
    range[at] ^= 8;
    // Neither for the key that is damaged, nor for another.
    for key in &PEERS {
        assert_eq!(store.is_listed(key), Err(Error::Fault(FaultReason::List)));
    }
}

#[test]
fn a_range_put_back_in_time_never_brings_back_an_older_state() {
    let commits: [Operation; 16] = [
        |store| store.set_factory(CERTIFIED, Some(100)),
        |store| store.set_owner(ANCHOR, 1, Some(200), None),
        |store| store.advance_watermark(Slot::Owner, 201),
        |store| set_list(store, 1, &PEERS),
        |store| set_list(store, 2, &PEERS[1..]),
        |store| set_list(store, 3, &PEERS[..1]),
        |store| store.set_values(VALUES),
        |store| store.set_values(&VALUES[1..]),
        |store| store.transfer(CERTIFIED, 2, Some(7), None),
        |store| store.set_values(VALUES),
        |store| store.reset(None),
        |store| store.set_owner(CERTIFIED, 3, Some(150), None),
        |store| store.rekey(&new_key(&NEW_KEY, None), Some(ANCHOR)),
        |store| store.advance_watermark(Slot::Factory, 300),
        |store| set_list(store, 1, &PEERS[..2]),
        |store| store.set_owner(CERTIFIED, 3, None, None),
    ];
    let mut flash = started();
    let mut history = vec![flash.clone()];
    for commit in commits {
        commit(&mut open(&mut flash)).unwrap();
        history.push(flash.clone());
    }
    let (mut intact, mut faults) = (0, 0);
    for (now, flash) in history.iter().enumerate() {
        let expected = beliefs(&mut flash.clone());
        for before in &history[..now] {
            for range in [layout().half_a, layout().half_b, layout().list] {
                let mut flash = flash.clone();
                range_bytes(&mut flash, range.clone()).copy_from_slice(range_bytes(&mut before.clone(), range));
                match beliefs(&mut flash) {
                    Believes::Fault(_) => faults += 1,
                    found => {
                        assert_eq!(found, expected);
                        intact += 1;
                    }
                }
            }
        }
    }
    assert!(intact > 10 && faults > 30, "{intact} intact, {faults} faults");
}

#[test]
fn images_too_far_apart_are_a_fault() {
    for half in halves() {
        let mut flash = started();
        let old = range_bytes(&mut flash, half.clone()).to_vec();
        let mut store = open(&mut flash);
        store.set_owner(ANCHOR, 1, None, None).unwrap();
        store.set_owner(CERTIFIED, 1, None, None).unwrap();
        range_bytes(&mut flash, half).copy_from_slice(&old);
        assert_eq!(beliefs(&mut flash), Believes::Fault(FaultReason::ImagesDisagree));
    }
}

/// Two devices, both with as many commits: their halves do not make one.
#[test]
fn halves_of_two_devices_are_a_fault() {
    let (mut flash, mut other) = (started(), blank());
    open(&mut other).provide_key(&NEW_KEY, KeyOrigin::Generated).unwrap();
    let half = layout().half_b;
    range_bytes(&mut flash, half.clone()).copy_from_slice(range_bytes(&mut other, half));
    assert_eq!(beliefs(&mut flash), Believes::Fault(FaultReason::ImagesDisagree));
}

#[test]
fn flash_with_foreign_bytes_is_not_a_first_start() {
    for address in [0, 400, 3 * PAGE, 5 * PAGE + 300, 7 * PAGE, blank().bytes_mut().len() - 1] {
        let mut flash = blank();
        flash.bytes_mut()[address..].fill(0x42);
        assert!(matches!(beliefs(&mut flash), Believes::Fault(_)), "at {address}");
    }
}

/// An image of newer firmware, whole or not, is neither understood nor taken for blank flash.
#[test]
fn another_format_is_a_fault() {
    for format in [FORMAT - 1, FORMAT + 1] {
        for is_whole in [false, true] {
            let mut flash = owned();
            for half in halves() {
                let image = chunk_bytes(&mut flash, half, 0);
                image[MAGIC.len()] = format;
                let end = DIGEST as usize * Chunk::LEN;
                let whole = digest(&image[..end]);
                image[end..][..32].copy_from_slice(if is_whole { &whole } else { &[0; 32] });
            }
            let before = flash.clone();
            assert_eq!(beliefs(&mut flash), Believes::Fault(FaultReason::UnknownFormat), "{format}");
            assert!(flash.bytes_mut() == before.clone().bytes_mut(), "it was touched");
        }
    }
}

/// What firmware 0.1 had in its range *keys*, which began where the first half begins: a page of sequential-storage with the
/// key as its only item.
#[test]
fn storage_of_firmware_0_1_is_refused_by_name() {
    const HEADER: [u8; 8] = [0xe3, 0x16, 0x98, 0x63, 0x21, 0x00, 0xad, 0xe5];
    fn refuses<const WORD: usize>() {
        let layout = Layout::smallest::<RamFlash<Vec<u8>, WORD, 4096>>(0);
        let mut flash = RamFlash::<_, WORD, 4096>::erased(vec![0; 10 * 4096]);
        flash.bytes_mut()[..WORD].fill(0);
        flash.bytes_mut()[WORD..][..8].copy_from_slice(&HEADER);
        let item = [&[2][..], &KEY].concat();
        flash.bytes_mut()[WORD + 8_usize.next_multiple_of(WORD)..][..33].copy_from_slice(&item);
        // A record, where the list is now.
        flash.bytes_mut()[2 * 4096..][..WORD].fill(0);
        let before = flash.clone();
        let mut store = Store::new(&mut flash, layout);
        assert_eq!(store.open(&mut KeyBytes::new()), Ok(Opened::Fault(FaultReason::Firmware0_1)));
        assert_eq!(store.provide_key(&KEY, KeyOrigin::Generated), Err(Error::Fault(FaultReason::Firmware0_1)));
        assert!(flash.bytes_mut() == before.clone().bytes_mut(), "it was touched");
    }
    refuses::<4>();
    refuses::<8>();
    refuses::<16>();
    refuses::<32>();
    assert!(FaultReason::Firmware0_1.to_string().contains("firmware 0.1"));
}

#[test]
fn the_record_has_room_for_members_to_come() {
    let contents = Some(Contents { digest: [0xEE; 32], len: 640 });
    let list = List { mode: ListMode::Revoked, side: Side::B, ..List::of(&claims(u64::MAX, &PEERS)).unwrap() };
    let largest = Image {
        number: u32::MAX,
        first: Side::B,
        snapshot: Snapshot {
            generation: u32::MAX,
            key_origin: KeyOrigin::Derived,
            claim_counter: u32::MAX,
            factory: contents,
            owner: contents,
            watermarks: Watermarks { factory: Some(u64::MAX), owner: Some(0) },
            list: Some(list),
            values: contents,
        },
        digest: [0; 32],
    };
    let mut record = [0; size_of::<Record>()];
    largest.encode(&mut record);
    let used = record.iter().rposition(|byte| *byte != 0xFF).unwrap() + 1;
    assert_eq!((used, record.len()), (188, 320), "a key of 32 bytes, and length and digest of a signed list");
    for image in [largest, Image { snapshot: Snapshot { list: None, ..largest.snapshot }, ..Image::NONE }, Image::NONE]
    {
        let mut read = Image::NONE;
        image.encode(&mut record);
        assert_eq!(read.decode(&mut record), Some(()));
        assert_eq!(read, image);
    }
    for (at, wrong) in [(0, b'D'), (4, FORMAT + 1), (5, 0x20), (6, 99), (7, 99)] {
        largest.encode(&mut record);
        record[at] = wrong;
        assert_eq!({ largest }.decode(&mut record), None, "{at}");
    }
}

#[test]
fn layouts_are_checked() {
    let check = |change: fn(&mut Layout)| {
        let mut layout = layout();
        change(&mut layout);
        Store::new(&mut blank(), layout).open(&mut KeyBytes::new()).unwrap_err()
    };
    let page = PAGE as u32;
    let pages = |from: u32, to: u32| from * page..to * page;
    assert_eq!(layout(), Layout { half_a: pages(0, 3), half_b: pages(3, 6), list: pages(6, 12) });
    assert_eq!(check(|layout| layout.half_a.start = 4), LayoutError::NotAligned);
    assert_eq!(check(|layout| layout.half_a.end = 1024), LayoutError::TooSmall);
    assert_eq!(check(|layout| layout.half_b.start = layout.half_b.end), LayoutError::TooSmall);
    assert_eq!(check(|layout| layout.list.start += 1024), LayoutError::TooSmall);
    assert_eq!(check(|layout| layout.list.end += 1024), LayoutError::OutOfBounds);
    assert_eq!(check(|layout| layout.half_a.end += 1024), LayoutError::Overlap);
    assert_eq!(check(|layout| layout.half_b.end += 1024), LayoutError::Overlap);
    assert_eq!(check(|layout| layout.half_b = 1024..4096), LayoutError::Overlap);
    let large = Layout::smallest::<RamFlash<Vec<u8>, 4, 4096>>(4096);
    assert_eq!(large, Layout { half_a: 4096..8192, half_b: 8192..12288, list: 12288..20480 });
    let medium = Layout::smallest::<RamFlash<Vec<u8>, 8, 2048>>(0);
    assert_eq!(medium, Layout { half_a: 0..4096, half_b: 4096..8192, list: 8192..16384 });
    // However large the pages are, opening reads no more of them.
    assert_eq!((tail::<RamFlash<Vec<u8>, 8, 2048>>(), tail::<RamFlash<Vec<u8>, 4, 65536>>()), (56, 56));
}

#[test]
fn no_word_is_programmed_twice() {
    let mut flash = owned();
    let mut store = open(&mut flash);
    for round in 0..30 {
        store.set_owner(&[round; 500], 1, None, None).unwrap();
        set_list(&mut store, round.into(), &[[round; 32]; 40]).unwrap();
        set_list(&mut store, round.into(), &[[round; 32]; 50]).unwrap();
        store.rekey(&new_key(&[round; 32], Some(&[round; 400])), None).unwrap();
        store.advance_watermark(Slot::Factory, 1000 + u64::from(round)).unwrap();
        store.set_values(&[round; 600]).unwrap();
        store.set_values(&[round; 610]).unwrap();
        store.transfer(&[round; 640], 2, None, None).unwrap();
        store.reset(None).unwrap();
    }
    assert_eq!(flash.wear().words_rewritten, 0);
}

/// What docs/storage.md says of wear: the pages of both halves for each commit, and those of a list.
#[test]
fn a_commit_erases_each_half_once() {
    const HALF: u64 = 3;
    let commits: [(Operation, u64); 7] = [
        (|store| store.set_factory(CERTIFIED, Some(100)), 2 * HALF),
        (|store| store.set_owner(ANCHOR, 1, Some(200), None), 2 * HALF),
        (|store| store.advance_watermark(Slot::Owner, 201), 0),
        (|store| set_list(store, 1, &PEERS), 2 * HALF + 3),
        (|store| store.set_values(VALUES), 2 * HALF),
        (|store| store.rekey(&new_key(&NEW_KEY, None), None), 2 * HALF),
        (|store| store.reset(None), 2 * HALF + 6),
    ];
    let mut flash = started();
    for (number, (commit, erases)) in commits.into_iter().enumerate() {
        let Wear { pages_erased: before, .. } = flash.wear();
        after(&mut flash, commit);
        assert_eq!(flash.wear().pages_erased - before, erases, "commit {number}");
    }
}

/// Flash that forgets some of what is written to it, without saying so.
struct Forgetful<'f> {
    flash: &'f mut Flash,
    writes: u32,
    forgotten: core::ops::Range<u32>,
}

impl embedded_storage::nor_flash::ErrorType for Forgetful<'_> {
    type Error = crate::flash::FlashError;
}

impl embedded_storage::nor_flash::ReadNorFlash for Forgetful<'_> {
    const READ_SIZE: usize = 1;
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.flash.read(offset, bytes)
    }
    fn capacity(&self) -> usize {
        self.flash.capacity()
    }
}

impl NorFlash for Forgetful<'_> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;
    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.flash.erase(from, to)
    }
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        let number = self.writes;
        self.writes += 1;
        if self.forgotten.contains(&number) { Ok(()) } else { self.flash.write(offset, bytes) }
    }
}

#[test]
fn a_write_that_was_forgotten_is_repeated_or_reported() {
    let mut flash = started();
    let before = beliefs(&mut flash);
    let commit = |flash: &mut Flash, forgotten, watermark: bool| {
        let mut store = Store::new(Forgetful { flash, writes: 0, forgotten }, layout());
        store.open(&mut KeyBytes::new()).unwrap();
        let result = match watermark {
            true => store.advance_watermark(Slot::Owner, 7),
            false => store.set_owner(ANCHOR, 2, None, None),
        };
        (result.map(|()| *store.snapshot()), store.halves.flash.writes)
    };
    for (watermark, least) in [(false, 2 * (6 + 1 + 3 + 1)), (true, 2)] {
        let (result, writes) = commit(&mut flash.clone(), 0..0, watermark);
        assert!(writes >= least, "{writes}");
        for number in 0..writes {
            let mut flash = flash.clone();
            assert_eq!(commit(&mut flash, number..number + 1, watermark).0, result);
            assert!(matches!(beliefs(&mut flash), Believes::State { snapshot, .. } if Ok(snapshot) == result));
        }
    }
    let mut forgotten = flash.clone();
    assert_eq!(commit(&mut forgotten, 0..u32::MAX, false).0, Err(Error::NotDurable));
    assert_eq!(beliefs(&mut forgotten), before);
    assert_eq!(commit(&mut flash, 0..u32::MAX, true).0, Err(Error::NotDurable));
    assert_eq!(beliefs(&mut flash), before);
}

#[test]
fn after_an_error_the_store_goes_on_from_what_is_in_flash() {
    let mut flash = owned();
    let mut store = open(&mut flash);
    store.halves.flash.cut_power_after(100);
    assert!(matches!(store.set_owner(ANCHOR, 2, None, None), Err(Error::Flash(_))));
    assert_eq!(store.open(&mut KeyBytes::new()), Ok(Opened::Fault(FaultReason::Flash)));
    store.halves.flash.restore_power();
    assert_eq!(store.open(&mut KeyBytes::new()), Ok(Opened::Ready));
    assert_eq!(store.snapshot().claim_counter, 1);
    store.set_owner(ANCHOR, 2, None, None).unwrap();
    assert_eq!(store.snapshot().claim_counter, 2);

    // in the middle of a rekey: the old key is there, and the next commit follows it
    store.halves.flash.cut_power_after(700);
    assert!(matches!(store.rekey(&new_key(&NEW_KEY, None), None), Err(Error::Flash(_))));
    store.halves.flash.restore_power();
    store.set_owner(ANCHOR, 3, None, None).unwrap();
    assert_eq!((store.snapshot().generation, store.snapshot().claim_counter), (1, 3));
    assert!(matches!(beliefs(&mut flash), Believes::State { key: KEY, .. }));
}
