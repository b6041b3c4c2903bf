//! Two cuts in a row: one in a commit, and one more in what the next start does about it. On a small flash (pages of
//! 1024 bytes, words of 4) and with short contents, so that all pairs can be tried.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hasher},
};

use cbor_schemas::{DeviceListClaims, IssuerId, KeyOrigin, Keys, ListMode};
use device::store::{Error, KeyBytes, Layout, List, NewKey, Opened, Scratch, Slot, Snapshot, Store};

use crate::film::{Film, Filming, Tear, cuts};
use crate::tell;

type Commit = fn(&mut Store<&mut Filming>) -> Result<(), Error>;

const KEY: [u8; 32] = [0x11; 32];
const NEW_KEY: [u8; 32] = [0x22; 32];
/// What a device makes if it needs a key when it starts.
const SPARE_KEY: [u8; 32] = [0x33; 32];

/// Contents with a certificate stand for it by the first byte of the key that it names.
const CERTIFICATE: [u8; 9] = [KEY[0]; 9];
const RENEWED: [u8; 10] = [KEY[0]; 10];
const ANCHOR: [u8; 5] = [0xAC; 5];

/// The key that takes the place of [`KEY`]; the factory slot keeps its anchor alone.
const SUCCESSOR: NewKey<'static> = NewKey { key: &NEW_KEY, origin: KeyOrigin::Generated, factory: Some(&ANCHOR) };

const FIRST_START: Commit = |store| store.provide_key(&KEY, KeyOrigin::Generated);
const SET_FACTORY: Commit = |store| store.set_factory(&CERTIFICATE, Some(10));
const CLAIM: Commit = |store| store.set_owner(&CERTIFICATE, 1, Some(20), None);
const REPLACE: Commit = |store| store.set_owner(&RENEWED, 1, Some(21), None);
const REKEY: Commit = |store| store.rekey(&SUCCESSOR, Some(&ANCHOR));
const RESET: Commit = |store| store.reset(None);
const RESET_WITH_KEY: Commit = |store| store.reset(Some(&SUCCESSOR));
const LIST: Commit = |store| set_list(store, 1, &[[0x51; 32], [0x52; 32]]);
const NEXT_LIST: Commit = |store| set_list(store, 2, &[[0x53; 32], [0x54; 32]]);
const VALUES: Commit = |store| store.set_values(&[0x61; 40]);
const OTHER_VALUES: Commit = |store| store.set_values(&[0x62; 50]);
const TRANSFER: Commit = |store| store.transfer(&RENEWED, 2, Some(21), Some(12));
const WATERMARK: Commit = |store| store.advance_watermark(Slot::Owner, 30);

fn set_list(store: &mut Store<&mut Filming>, version: u64, keys: &[[u8; 32]]) -> Result<(), Error> {
    let claims = DeviceListClaims {
        issuer: IssuerId([1; 8]),
        issued_at: version,
        version,
        mode: ListMode::Members,
        min_iat: 0,
        keys: keys.into(),
        unproven: Keys::default(),
        audit_head: None,
    };
    store.set_list(&List::of(&claims).unwrap(), keys.iter(), version)
}

/// What a device is after it started.
#[derive(Clone, Debug, PartialEq)]
struct Started {
    snapshot: Snapshot,
    key: [u8; 32],
    factory: Option<Vec<u8>>,
    owner: Option<Vec<u8>>,
    values: Option<Vec<u8>>,
}

/// Does what a device does first, and films it. True if it made a key.
fn start(image: &[u8]) -> (Film, Result<(bool, Started), String>) {
    let mut flash = Filming::new(image.to_vec());
    let (mut store, mut key) = (Store::new(&mut flash, layout()), KeyBytes::new());
    let started = match store.open(&mut key).unwrap() {
        Opened::Ready => Ok((false, *key.as_bytes())),
        Opened::NeedsKey => match store.provide_key(&SPARE_KEY, KeyOrigin::Generated) {
            Ok(()) => Ok((true, SPARE_KEY)),
            Err(error) => Err(error.to_string()),
        },
        Opened::Fault(reason) => Err(reason.to_string()),
    };
    let started = started.map(|(made_a_key, key)| {
        let mut contents = |slot| store.slot(slot, &mut Scratch::new()).unwrap().map(<[u8]>::to_vec);
        let (factory, owner) = (contents(Slot::Factory), contents(Slot::Owner));
        let values = store.values(&mut Scratch::new()).unwrap().map(<[u8]>::to_vec);
        (made_a_key, Started { snapshot: *store.snapshot(), key, factory, owner, values })
    });
    (flash.film, started)
}

fn commit(image: &[u8], commit: Commit) -> Film {
    let mut flash = Filming::new(image.to_vec());
    commit(&mut Store::new(&mut flash, layout())).unwrap();
    flash.film
}

fn layout() -> Layout {
    Layout::smallest::<Filming>(0)
}

fn blank() -> Vec<u8> {
    vec![0xFF; layout().list.end as usize]
}

fn after(commits: &[Commit]) -> Vec<u8> {
    commits.iter().fold(blank(), |image, next| commit(&image, *next).pop().unwrap())
}

/// The device before and after a commit.
struct Expected {
    /// `None` where nothing was: before the first start.
    old: Option<Started>,
    new: Started,
}

impl Expected {
    /// Old or new, never between. At a first start, a key that no answer named may be followed by another one.
    fn check(&self, started: Result<(bool, Started), String>) -> Result<(), String> {
        let (made_a_key, found) = started?;
        let with_spare_key = Started { key: SPARE_KEY, ..self.new.clone() };
        if self.old.as_ref() != Some(&found) && found != self.new && !(self.old.is_none() && found == with_spare_key) {
            return Err(format!("neither old nor new: {found:?}"));
        }
        for contents in [&found.factory, &found.owner].into_iter().flatten() {
            if contents[0] != found.key[0] && contents[..] != ANCHOR {
                return Err(format!("a certificate of another key: {found:?}"));
            }
        }
        if made_a_key && self.old.is_some() {
            return Err("it starts for the first time again".to_string());
        }
        Ok(())
    }
}

/// Tries a second cut at every place after every `step`th place of a first cut.
fn pairs(name: &str, commits: &[Commit], step: usize, tears: &[Tear], least: usize) {
    let (last, before) = commits.split_last().unwrap();
    let (before, is_first) = (after(before), before.is_empty());
    let film = commit(&before, *last);
    let old = (!is_first).then(|| start(&before).1.unwrap().1);
    let expected = Expected { old, new: start(film.last().unwrap()).1.unwrap().1 };
    let (mut firsts, mut pairs, mut images) = (HashSet::new(), 0, HashSet::new());
    for (first, first_tear, torn) in cuts(&film, tears).filter(|(first, ..)| first.is_multiple_of(step)) {
        if !firsts.insert(torn.clone()) {
            continue;
        }
        let (recovery, started) = start(&torn);
        let failed = |error| panic!("{name}, {first_tear:?} in changed byte {first}: {error}");
        expected.check(started).unwrap_or_else(failed);
        for (second, second_tear, torn) in cuts(&recovery, tears) {
            pairs += 1;
            if !images.insert(hash(&torn)) {
                continue;
            }
            expected.check(start(&torn).1).unwrap_or_else(|error| {
                panic!("{name}, {first_tear:?} in changed byte {first}, {second_tear:?} in {second}: {error}")
            });
        }
    }
    let which = if step == 1 { "all pairs" } else { &format!("first cuts in one changed byte of {step}") };
    let different = images.len();
    tell(&format!("{name}: {pairs} pairs of cuts, {different} different images ({which}; {tears:?})"));
    assert!(pairs >= least, "{name}: only {pairs} pairs");
}

/// Stands for an image in a set of very many.
fn hash(image: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(image);
    hasher.finish()
}

#[test]
fn first_start() {
    pairs("first start, twice", &[FIRST_START], 1, &[Tear::Half], 350_000);
    pairs("first start, twice", &[FIRST_START], 47, &Tear::ALL, 20_000);
}

#[test]
fn watermark_of_a_token() {
    pairs("watermark, twice", &[FIRST_START, CLAIM, WATERMARK], 1, &Tear::ALL, 7_000);
}

#[test]
fn claiming() {
    pairs("claiming, twice", &[FIRST_START, CLAIM], 3, &[Tear::Half], 300_000);
}

#[test]
fn replacing() {
    pairs("replacing, twice", &[FIRST_START, SET_FACTORY, CLAIM, REPLACE], 3, &[Tear::Half], 300_000);
}

#[test]
fn list() {
    let first = [FIRST_START, CLAIM, LIST];
    pairs("list, twice", &first, 3, &[Tear::Half], 300_000);
    pairs("next list, twice", &[&first[..], &[LIST, NEXT_LIST]].concat(), 97, &Tear::ALL, 30_000);
}

#[test]
fn rekey() {
    pairs("rekey, twice", &[FIRST_START, SET_FACTORY, CLAIM, REKEY], 53, &Tear::ALL, 60_000);
}

#[test]
fn reset() {
    pairs("reset, twice", &[FIRST_START, SET_FACTORY, CLAIM, LIST, RESET], 53, &Tear::ALL, 60_000);
}

#[test]
fn reset_with_a_new_key() {
    let commits = [FIRST_START, SET_FACTORY, CLAIM, LIST, RESET_WITH_KEY];
    pairs("reset with a new key, twice", &commits, 97, &Tear::ALL, 30_000);
}

#[test]
fn transfer() {
    pairs("transfer, twice", &[FIRST_START, SET_FACTORY, CLAIM, VALUES, LIST, TRANSFER], 53, &Tear::ALL, 60_000);
}

#[test]
fn values() {
    pairs("values, twice", &[FIRST_START, CLAIM, VALUES], 3, &[Tear::Half], 300_000);
    pairs("other values, twice", &[FIRST_START, CLAIM, VALUES, OTHER_VALUES], 97, &Tear::ALL, 30_000);
}
