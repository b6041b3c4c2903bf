use cbor_schemas::{DeviceListClaims, IssuerId, Keys, ListMode, Watermarks};

use super::*;
use crate::LIST_KEYS;
use crate::flash::{RamFlash, Wear};

type Flash = RamFlash<Vec<u8>, 4, PAGE>;
type Operation = fn(&mut Store<&mut Flash>) -> Result<Snapshot, Error>;

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
    Flash::erased(vec![0; layout().values.end as usize])
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
    NeedsKey(Need),
    Fault(FaultReason),
}

fn new_key<'a>(key: &'a [u8; 32], factory: Option<&'a [u8]>) -> NewKey<'a> {
    NewKey { key, origin: KeyOrigin::Generated, factory }
}

fn open(flash: &mut Flash) -> Store<&mut Flash> {
    Store::open(flash, layout()).unwrap().0
}

fn beliefs(flash: &mut Flash) -> Believes {
    let (mut store, opened) = Store::open(flash, layout()).unwrap();
    let mut scratch = Scratch::new();
    match opened {
        Opened::Ready { snapshot, key } => Believes::State {
            snapshot,
            key: *key.as_bytes(),
            factory: store.slot(Slot::Factory, &mut scratch).unwrap().map(<[u8]>::to_vec),
            owner: store.slot(Slot::Owner, &mut scratch).unwrap().map(<[u8]>::to_vec),
            values: store.values(&mut scratch).unwrap().map(<[u8]>::to_vec),
        },
        Opened::NeedsKey(need) => Believes::NeedsKey(need),
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

fn set_list(store: &mut Store<&mut Flash>, version: u64, keys: &[[u8; 32]]) -> Result<Snapshot, Error> {
    store.set_list(List::of(&claims(version, keys)).unwrap(), keys.iter(), version)
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

/// The items that hold the contents held something else before.
fn owned_for_long() -> Flash {
    let mut flash = owned();
    let mut store = open(&mut flash);
    for contents in [&[0x71; 50], &[0x72; 50], &[0x73; 50], CERTIFIED] {
        store.set_factory(contents, None).unwrap();
        store.set_owner(contents, 1, None, None).unwrap();
        store.set_values(if contents == CERTIFIED { VALUES } else { contents }).unwrap();
    }
    flash
}

fn range_bytes(flash: &mut Flash, range: core::ops::Range<u32>) -> &mut [u8] {
    &mut flash.bytes_mut()[range.start as usize..range.end as usize]
}

/// Flips a bit wherever `bytes` are stored in `range`, so that these items no longer count.
fn damage(flash: &mut Flash, range: core::ops::Range<u32>, bytes: &[u8]) {
    let range = range_bytes(flash, range);
    let mut damaged = 0;
    while let Some(at) = range.windows(bytes.len()).position(|window| window == bytes) {
        range[at] ^= 0x08;
        damaged += 1;
    }
    assert!(damaged > 0, "not stored there");
}

fn encoded(record: &Record) -> Vec<u8> {
    record.encode(&mut [0; Record::MAX_LEN]).unwrap().to_vec()
}

#[test]
fn a_first_start_needs_a_key_once() {
    let mut flash = blank();
    let (mut store, opened) = Store::open(&mut flash, layout()).unwrap();
    assert!(matches!(opened, Opened::NeedsKey(Need::FirstStart)));
    assert_eq!(store.set_owner(ANCHOR, 1, None, None), Err(Error::NeedsKey));
    assert_eq!(store.reset(None), Err(Error::NeedsKey));
    assert_eq!(store.slot(Slot::Owner, &mut Scratch::new()), Err(Error::NeedsKey));

    let snapshot = store.provide_key(&KEY, KeyOrigin::Derived).unwrap();
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
    let first = store.set_owner(ANCHOR, 1, Some(7), None).unwrap();
    assert_eq!((first.claim_counter, first.watermarks.owner, first.factory), (1, Some(7), None));
    assert_eq!(first.owner.unwrap().digest, digest(ANCHOR));
    let longest = [0x5A; MAX_CONTENTS_LEN];
    for round in 0..20_u8 {
        let mut owner = longest;
        owner[0] = round;
        let snapshot = store.set_owner(&owner, 1, None, None).unwrap();
        assert_eq!((snapshot.owner.unwrap().len, snapshot.watermarks.owner), (640, None));
        assert_eq!(store.slot(Slot::Owner, &mut Scratch::new()), Ok(Some(&owner[..])));
        let snapshot = store.set_factory(&owner, Some(9)).unwrap();
        assert_eq!(snapshot.contents(Slot::Factory).unwrap().digest, digest(&owner));
        assert_eq!(store.slot(Slot::Factory, &mut Scratch::new()), Ok(Some(&owner[..])));
        assert_eq!(snapshot.claim_counter, 1);
    }
}

#[test]
fn a_list_is_stored_looked_up_and_replaced() {
    let most = std::array::from_fn::<_, { LIST_KEYS as usize }, _>(|n| [n as u8; 32]);
    let mut flash = owned();
    for (version, keys) in (300..).zip([&most[..], &[], &PEERS[..1], &most[10..20], &most]) {
        let mut store = open(&mut flash);
        let snapshot = set_list(&mut store, version, keys).unwrap();
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
    let list = |flash: &mut Flash| open(flash).current().unwrap().snapshot.list.map(|list| list.version);
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
    }
    assert_eq!(beliefs(&mut flash), before);
}

#[test]
fn a_watermark_only_rises() {
    let mut flash = owned();
    let mut store = open(&mut flash);
    assert_eq!(store.advance_watermark(Slot::Owner, 300).unwrap().watermarks.owner, Some(300));
    let written = store.flash.wear();
    assert_eq!(store.advance_watermark(Slot::Owner, 299).unwrap().watermarks.owner, Some(300));
    assert_eq!(store.advance_watermark(Slot::Owner, 300).unwrap().watermarks.factory, Some(101));
    assert_eq!(store.flash.wear(), written);
}

#[test]
fn a_rekey_replaces_the_key_and_erases_the_old_one() {
    let mut flash = owned();
    let snapshot = open(&mut flash)
        .rekey(&NewKey { origin: KeyOrigin::Injected, ..new_key(&NEW_KEY, Some(ANCHOR)) }, Some(ANCHOR))
        .unwrap();
    assert_eq!((snapshot.generation, snapshot.key_origin), (2, KeyOrigin::Injected));
    assert_eq!((snapshot.watermarks.factory, snapshot.watermarks.owner), (Some(101), Some(201)));
    let (factory, owner) = (Some(ANCHOR.to_vec()), Some(ANCHOR.to_vec()));
    assert_eq!(
        beliefs(&mut flash),
        Believes::State { snapshot, key: NEW_KEY, factory, owner, values: Some(VALUES.to_vec()) }
    );
    assert!(!flash.bytes_mut().windows(32).any(|window| window == KEY), "the old key is still in flash");
    // without new contents the slots stay
    let kept = open(&mut flash).rekey(&new_key(&KEY, None), None).unwrap();
    assert_eq!((kept.owner, kept.factory, kept.generation), (snapshot.owner, snapshot.factory, 3));
}

#[test]
fn a_reset_erases_what_is_the_owners_and_nothing_else() {
    let mut flash = owned();
    let Believes::State { snapshot: before, factory, .. } = beliefs(&mut flash) else { panic!() };
    let snapshot = open(&mut flash).reset(None).unwrap();
    assert_eq!((snapshot.owner, snapshot.claim_counter, snapshot.watermarks.owner), (None, 2, None));
    assert_eq!((snapshot.factory, snapshot.watermarks.factory), (before.factory, Some(101)));
    assert_eq!(beliefs(&mut flash), Believes::State { snapshot, key: KEY, factory, owner: None, values: None });
    assert_eq!(snapshot.list, None);
    for range in [layout().list, layout().values] {
        assert!(range_bytes(&mut flash, range).iter().all(|byte| *byte == 0xFF));
    }
    let left = range_bytes(&mut flash, layout().owner);
    assert!(!left.windows(8).any(|window| window == &CERTIFIED[..8] || window == &ANCHOR[..8]));
    // and it can be owned again
    open(&mut flash).set_owner(ANCHOR, 3, None, None).unwrap();
    assert!(matches!(beliefs(&mut flash), Believes::State { owner: Some(_), .. }));
}

#[test]
fn a_reset_with_a_new_key_erases_the_old_one_too() {
    let mut flash = owned();
    let snapshot = open(&mut flash).reset(Some(new_key(&NEW_KEY, Some(ANCHOR)))).unwrap();
    assert_eq!((snapshot.owner, snapshot.claim_counter, snapshot.generation), (None, 2, 2));
    let factory = Some(ANCHOR.to_vec());
    assert_eq!(beliefs(&mut flash), Believes::State { snapshot, key: NEW_KEY, factory, owner: None, values: None });
    assert!(!flash.bytes_mut().windows(32).any(|window| window == KEY), "the old key is still in flash");
    assert!(range_bytes(&mut flash, layout().list).iter().all(|byte| *byte == 0xFF));
}

#[test]
fn a_transfer_leaves_nothing_of_the_former_owner() {
    for mut flash in [owned(), owned_for_long()] {
        let Believes::State { snapshot: before, factory, .. } = beliefs(&mut flash) else { panic!() };
        let next = &[0x4E; MAX_CONTENTS_LEN][..];
        let snapshot = open(&mut flash).transfer(next, 2, Some(50), Some(102)).unwrap();
        let watermarks = Watermarks { factory: before.watermarks.factory.max(Some(102)), owner: Some(50) };
        assert_eq!((snapshot.claim_counter, snapshot.watermarks), (2, watermarks));
        assert_eq!((snapshot.factory, snapshot.list, snapshot.values), (before.factory, None, None));
        let owner = Some(next.to_vec());
        assert_eq!(beliefs(&mut flash), Believes::State { snapshot, key: KEY, factory, owner, values: None });
        for range in [layout().list, layout().values] {
            assert!(range_bytes(&mut flash, range).iter().all(|byte| *byte == 0xFF));
        }
        let left = range_bytes(&mut flash, layout().owner);
        assert!(!left.windows(8).any(|window| window == &CERTIFIED[..8] || window == &ANCHOR[..8]));
    }
}

/// In one half of the list's range or in the other: the next owner's contents are found where they wait.
#[test]
fn a_transfer_in_force_is_carried_out_from_where_its_contents_wait() {
    let next = &[0x4E; 300][..];
    for side in [Side::A, Side::B] {
        for (staged, range) in [(true, 0x00), (true, 0x5A), (true, 0xFF), (false, 0xFF)] {
            let mut flash = owned();
            let mut store = open(&mut flash);
            let mut record = store.current().unwrap().next();
            record.snapshot.forget_owner();
            record.place(Slot::Owner, next).unwrap();
            if staged {
                store.half(side).write_bytes(next).unwrap();
            } else {
                store.half(side).wipe().unwrap();
            }
            store.put_mark(&Mark { wipe_owner: true, new_key: false, record }).unwrap();
            range_bytes(&mut flash, layout().owner).fill(range);
            match staged {
                true => assert!(matches!(beliefs(&mut flash), Believes::State { snapshot, owner: Some(owner), .. }
                        if snapshot == record.snapshot && owner == next)),
                // Neither here nor there: nobody owns it, and nobody may claim it.
                false => assert_eq!(beliefs(&mut flash), Believes::Fault(FaultReason::OwnerContents)),
            }
        }
    }
}

#[test]
fn values_are_stored_and_replaced_and_the_old_ones_erased() {
    let mut flash = started();
    assert_eq!(open(&mut flash).values(&mut Scratch::new()), Ok(None));
    for round in 1..20_u8 {
        let bytes = [round; MAX_CONTENTS_LEN];
        let bytes = &bytes[..if round % 2 == 0 { MAX_CONTENTS_LEN } else { usize::from(round) }];
        let snapshot = open(&mut flash).set_values(bytes).unwrap();
        assert_eq!(open(&mut flash).values(&mut Scratch::new()), Ok(Some(bytes)));
        assert_eq!((snapshot.claim_counter, snapshot.owner), (0, None));
        let left = range_bytes(&mut flash, layout().values);
        assert!(left.iter().all(|byte| [round, 0xFF].contains(byte)), "round {round}");
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
    assert_eq!(store.current().unwrap().snapshot.claim_counter, u32::MAX);
}

#[test]
fn a_range_that_is_erased_is_a_fault() {
    let ranges = [
        (layout().keys, FaultReason::Key),
        (layout().owner, FaultReason::RecordMissing),
        (layout().state, FaultReason::RecordMissing),
        (layout().list, FaultReason::List),
        (layout().values, FaultReason::Values),
    ];
    for (range, reason) in ranges {
        for fill in [0xFF, 0x00] {
            let mut flash = owned();
            range_bytes(&mut flash, range.clone()).fill(fill);
            assert!(matches!(beliefs(&mut flash), Believes::Fault(_)));
            if fill == 0xFF {
                assert_eq!(beliefs(&mut flash), Believes::Fault(reason));
                let mut store = open(&mut flash);
                assert_eq!(store.provide_key(&NEW_KEY, KeyOrigin::Generated), Err(Error::Fault(reason)));
                assert_eq!(store.set_owner(ANCHOR, 2, None, None), Err(Error::Fault(reason)));
                assert_eq!(store.reset(None), Err(Error::Fault(reason)));
            }
        }
    }
}

#[test]
fn a_device_that_nobody_owns_yet_keeps_its_key_too() {
    let intact = beliefs(&mut started());
    for (range, expected) in [
        (layout().keys, Believes::Fault(FaultReason::Key)),
        (layout().owner, Believes::Fault(FaultReason::RecordMissing)),
        // all of it can be known from the other ranges
        (layout().state, beliefs(&mut started())),
        (layout().list, beliefs(&mut started())),
        (layout().values, intact),
    ] {
        let mut flash = started();
        range_bytes(&mut flash, range).fill(0xFF);
        assert_eq!(beliefs(&mut flash), expected);
    }
}

#[test]
fn damaged_contents_and_keys_are_faults() {
    for (range, bytes, reason) in [
        (layout().owner, CERTIFIED, FaultReason::OwnerContents),
        (layout().state, CERTIFIED, FaultReason::FactoryContents),
        (layout().keys, &KEY[..], FaultReason::Key),
        (layout().list, &PEERS[1][..], FaultReason::List),
        (layout().values, VALUES, FaultReason::Values),
    ] {
        let mut flash = owned();
        damage(&mut flash, range.clone(), bytes);
        assert_eq!(beliefs(&mut flash), Believes::Fault(reason));
        // also where an older value of the same item comes back
        let mut flash = owned_for_long();
        damage(&mut flash, range, bytes);
        assert_eq!(beliefs(&mut flash), Believes::Fault(reason));
    }
}

#[test]
fn contents_damaged_after_opening_are_not_served() {
    for mut flash in [owned(), owned_for_long()] {
        let mut store = open(&mut flash);
        damage(store.flash, layout().owner, CERTIFIED);
        let fault = FaultReason::OwnerContents;
        assert_eq!(store.slot(Slot::Owner, &mut Scratch::new()), Err(Error::Fault(fault)));
        assert!(matches!(store.reload(), Opened::Fault(reason) if reason == fault));
        assert_eq!(store.set_owner(ANCHOR, 2, None, None), Err(Error::Fault(fault)));
        assert_eq!(store.slot(Slot::Factory, &mut Scratch::new()), Err(Error::Fault(fault)));
    }
}

#[test]
fn a_list_damaged_after_opening_is_not_asked() {
    let mut flash = owned();
    let mut store = open(&mut flash);
    damage(store.flash, layout().list, &PEERS[2]);
    // Neither for the key that is damaged, nor for another.
    for key in &PEERS {
        assert_eq!(store.is_listed(key), Err(Error::Fault(FaultReason::List)));
    }
}

#[test]
fn a_lost_state_range_and_an_older_record_are_not_a_first_start() {
    let mut flash = started();
    let snapshot = open(&mut flash).set_factory(CERTIFIED, None).unwrap();
    let record = encoded(&open(&mut flash).current().unwrap());
    damage(&mut flash, layout().owner, &record);
    range_bytes(&mut flash, layout().state).fill(0xFF);
    assert_eq!(beliefs(&mut flash), Believes::Fault(FaultReason::RecordMissing));
    assert!(snapshot.factory.is_some());
}

#[test]
fn a_reset_in_force_is_carried_out_whatever_the_owner_range_holds() {
    for fill in [0x00, 0x5A, 0xFF] {
        let mut flash = owned();
        let mut store = open(&mut flash);
        let mut record = store.current().unwrap().next();
        record.snapshot.forget_owner();
        store.put_mark(&Mark { wipe_owner: true, new_key: false, record }).unwrap();
        range_bytes(&mut flash, layout().owner).fill(fill);
        let snapshot = record.snapshot;
        let factory = Some(CERTIFIED.to_vec());
        assert_eq!(beliefs(&mut flash), Believes::State { snapshot, key: KEY, factory, owner: None, values: None });
    }
}

#[test]
fn one_damaged_record_is_made_good_by_the_other() {
    let mut flash = owned();
    let intact = beliefs(&mut flash);
    let record = encoded(&open(&mut flash).current().unwrap());
    for range in [layout().owner, layout().state] {
        damage(&mut flash, range.clone(), &record);
        assert_eq!(beliefs(&mut flash), intact);
        assert!(range_bytes(&mut flash, range).windows(record.len()).any(|window| window == record), "not healed");
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
            for range in [layout().keys, layout().owner, layout().state, layout().list, layout().values] {
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
fn records_too_far_apart_are_a_fault() {
    for range in [layout().owner, layout().state] {
        let mut flash = started();
        let old = range_bytes(&mut flash, range.clone()).to_vec();
        let mut store = open(&mut flash);
        store.advance_watermark(Slot::Owner, 1).unwrap();
        store.advance_watermark(Slot::Owner, 2).unwrap();
        range_bytes(&mut flash, range).copy_from_slice(&old);
        assert_eq!(beliefs(&mut flash), Believes::Fault(FaultReason::RecordsDisagree));
    }
}

#[test]
fn flash_with_foreign_bytes_is_not_a_first_start() {
    for address in [0, 200, 3 * PAGE, 5 * PAGE + 300, blank().bytes_mut().len() - 1] {
        let mut flash = blank();
        flash.bytes_mut()[address..].fill(0x42);
        assert!(matches!(beliefs(&mut flash), Believes::Fault(_)), "at {address}");
    }
}

/// The record of an older firmware, or of a newer one, is neither understood nor taken for blank flash.
#[test]
fn another_format_is_a_fault() {
    for format in [2, 4] {
        for (areas, reason) in [
            (&[Area::State][..], FaultReason::UnknownFormat),
            (&[Area::Owner, Area::State], FaultReason::UnknownFormat),
            (&[Area::Owner], FaultReason::RecordMissing),
        ] {
            let mut flash = owned();
            let mut bytes = encoded(&open(&mut flash).current().unwrap());
            bytes[1] = format;
            for area in areas {
                open(&mut flash).region(*area).put(Item::Record, &bytes, &mut Scratch::new()).unwrap();
            }
            assert_eq!(beliefs(&mut flash), Believes::Fault(reason), "{format}");
        }
    }
}

#[test]
fn layouts_are_checked() {
    let check = |change: fn(&mut Layout)| {
        let mut layout = layout();
        change(&mut layout);
        Store::open(&mut blank(), layout).map(|_| ()).unwrap_err()
    };
    let page = PAGE as u32;
    let pages = |from: u32, to: u32| from * page..to * page;
    let smallest = Layout {
        keys: pages(0, 2),
        owner: pages(2, 6),
        state: pages(6, 10),
        list: pages(10, 14),
        values: pages(14, 16),
    };
    assert_eq!(layout(), smallest);
    assert_eq!(check(|layout| layout.keys.start = 4), LayoutError::NotAligned);
    assert_eq!(check(|layout| layout.keys.end = 1024), LayoutError::TooSmall);
    assert_eq!(check(|layout| layout.owner.start = layout.owner.end), LayoutError::TooSmall);
    assert_eq!(check(|layout| layout.state.start += 1024), LayoutError::TooSmall);
    assert_eq!(check(|layout| layout.list.start += 1024), LayoutError::TooSmall);
    assert_eq!(check(|layout| layout.values.start += 1024), LayoutError::TooSmall);
    assert_eq!(check(|layout| layout.list.end += 1024), LayoutError::Overlap);
    assert_eq!(check(|layout| layout.values.end += 1024), LayoutError::OutOfBounds);
    assert_eq!(check(|layout| layout.state.end += 1024), LayoutError::Overlap);
    assert_eq!(check(|layout| layout.owner.end += 1024), LayoutError::Overlap);
    assert_eq!(check(|layout| layout.keys = 1024..3072), LayoutError::Overlap);
    let large = Layout::smallest::<RamFlash<Vec<u8>, 4, 4096>>(4096);
    assert_eq!(
        large,
        Layout {
            keys: 4096..12288,
            owner: 12288..20480,
            state: 20480..28672,
            list: 28672..36864,
            values: 36864..45056
        }
    );
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
        store.set_values(&[round; 600]).unwrap();
        store.set_values(&[round; 610]).unwrap();
        store.transfer(&[round; 640], 2, None, None).unwrap();
        store.reset(None).unwrap();
    }
    let Wear { words_rewritten, pages_erased, .. } = flash.wear();
    assert_eq!(words_rewritten, 0);
    assert!(pages_erased > 30 * (2 + 3), "pages were not even reused: {pages_erased}");
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
    let commit = |flash: &mut Flash, forgotten| {
        let (mut store, _) = Store::open(Forgetful { flash, writes: 0, forgotten }, layout()).unwrap();
        (store.set_owner(ANCHOR, 2, None, None), store.flash.writes)
    };
    let (result, writes) = commit(&mut flash.clone(), 0..0);
    assert!(writes > 6, "contents and two records");
    for number in 0..writes {
        let mut flash = flash.clone();
        assert_eq!(commit(&mut flash, number..number + 1).0, result);
        assert!(matches!(beliefs(&mut flash), Believes::State { snapshot, .. } if Ok(snapshot) == result));
    }
    assert_eq!(commit(&mut flash, 0..u32::MAX).0, Err(Error::NotDurable));
    assert_eq!(beliefs(&mut flash), before);
}

#[test]
fn after_an_error_the_store_goes_on_from_what_is_in_flash() {
    let mut flash = owned();
    let mut store = open(&mut flash);
    store.flash.cut_power_after(100);
    assert!(matches!(store.set_owner(ANCHOR, 2, None, None), Err(Error::Flash(_))));
    assert!(matches!(store.reload(), Opened::Fault(FaultReason::Flash)));
    store.flash.restore_power();
    assert!(matches!(store.reload(), Opened::Ready { snapshot, .. } if snapshot.claim_counter == 1));
    assert_eq!(store.set_owner(ANCHOR, 2, None, None).unwrap().claim_counter, 2);

    // in the middle of a rekey, another key is due before anything else
    store.flash.cut_power_after(700);
    assert!(matches!(store.rekey(&new_key(&NEW_KEY, None), None), Err(Error::Flash(_))));
    store.flash.restore_power();
    assert_eq!(store.set_owner(ANCHOR, 3, None, None), Err(Error::NeedsKey));
    assert_eq!(store.provide_key(&[0x33; 32], KeyOrigin::Generated).unwrap().generation, 2);
    assert!(matches!(beliefs(&mut flash), Believes::State { key, .. } if key == [0x33; 32]));
}
