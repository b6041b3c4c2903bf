//! Two cuts in a row: one in a commit, and one more in what the next start does about it. On a small flash (pages of
//! 1024 bytes, words of 4) and with short contents, so that all pairs can be tried.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hasher},
};

use cbor_schemas::{DeviceListClaims, IssuerId, KeyOrigin, Keys, ListMode};
use device::store::{Error, Layout, List, Need, NewKey, Opened, Scratch, Slot, Snapshot, Store};

use crate::film::{Film, Filming, Tear, cuts};
use crate::tell;

type Commit = fn(&mut Store<&mut Filming>) -> Result<Snapshot, Error>;

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
const RESET_WITH_KEY: Commit = |store| store.reset(Some(SUCCESSOR));
const LIST: Commit = |store| set_list(store, 1, &[[0x51; 32], [0x52; 32]]);
const NEXT_LIST: Commit = |store| set_list(store, 2, &[[0x53; 32], [0x54; 32]]);
const VALUES: Commit = |store| store.set_values(&[0x61; 40]);
const OTHER_VALUES: Commit = |store| store.set_values(&[0x62; 50]);
const TRANSFER: Commit = |store| store.transfer(&RENEWED, 2, Some(21), Some(12));
const WATERMARK: Commit = |store| store.advance_watermark(Slot::Owner, 30);

fn set_list(store: &mut Store<&mut Filming>, version: u64, keys: &[[u8; 32]]) -> Result<Snapshot, Error> {
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
    store.set_list(List::of(&claims).unwrap(), keys.iter(), version)
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

/// Does what a device does first, and films it.
fn start(image: &[u8]) -> (Film, Result<(Option<Need>, Started), String>) {
    let mut flash = Filming::new(image.to_vec());
    let (mut store, opened) = Store::open(&mut flash, layout()).unwrap();
    let started = match opened {
        Opened::Ready { snapshot, key } => Ok((None, snapshot, *key.as_bytes())),
        Opened::NeedsKey(need) => match store.provide_key(&SPARE_KEY, KeyOrigin::Generated) {
            Ok(snapshot) => Ok((Some(need), snapshot, SPARE_KEY)),
            Err(error) => Err(error.to_string()),
        },
        Opened::Fault(reason) => Err(reason.to_string()),
    };
    let started = started.map(|(need, snapshot, key)| {
        let mut contents = |slot| store.slot(slot, &mut Scratch::new()).unwrap().map(<[u8]>::to_vec);
        let (factory, owner) = (contents(Slot::Factory), contents(Slot::Owner));
        let values = store.values(&mut Scratch::new()).unwrap().map(<[u8]>::to_vec);
        (need, Started { snapshot, key, factory, owner, values })
    });
    (flash.film, started)
}

fn commit(image: &[u8], commit: Commit) -> Film {
    let mut flash = Filming::new(image.to_vec());
    commit(&mut Store::open(&mut flash, layout()).unwrap().0).unwrap();
    flash.film
}

fn layout() -> Layout {
    Layout::smallest::<Filming>(0)
}

fn blank() -> Vec<u8> {
    vec![0xFF; layout().values.end as usize]
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
    /// Old or new, never between. A key that was given up before anything was answered is followed by another one.
    fn check(&self, started: Result<(Option<Need>, Started), String>) -> Result<(), String> {
        let (need, found) = started?;
        let makes_a_key = self.old.as_ref().is_none_or(|old| old.key != self.new.key);
        let with_spare_key = Started { key: SPARE_KEY, ..self.new.clone() };
        if self.old.as_ref() != Some(&found) && found != self.new && !(makes_a_key && found == with_spare_key) {
            return Err(format!("neither old nor new: {found:?}"));
        }
        for contents in [&found.factory, &found.owner].into_iter().flatten() {
            if contents[0] != found.key[0] && contents[..] != ANCHOR {
                return Err(format!("a certificate of another key: {found:?}"));
            }
        }
        if need == Some(Need::FirstStart) && self.old.is_some() {
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
    pairs("first start, twice", &[FIRST_START], 1, &[Tear::Half], 26_000);
    pairs("first start, twice", &[FIRST_START], 47, &Tear::ALL, 2_500);
}

#[test]
fn watermark_of_a_token() {
    pairs("watermark, twice", &[FIRST_START, CLAIM, WATERMARK], 1, &Tear::ALL, 40_000);
}

#[test]
fn claiming() {
    pairs("claiming, twice", &[FIRST_START, CLAIM], 1, &[Tear::Half], 7_000);
}

#[test]
fn replacing() {
    pairs("replacing, twice", &[FIRST_START, SET_FACTORY, CLAIM, REPLACE], 1, &[Tear::Half], 15_000);
}

#[test]
fn list() {
    let first = [FIRST_START, CLAIM, LIST];
    pairs("list, twice", &first, 1, &[Tear::Half], 10_000);
    pairs("next list, twice", &[&first[..], &[LIST, NEXT_LIST]].concat(), 13, &Tear::ALL, 8_000);
}

#[test]
fn rekey() {
    pairs("rekey, twice", &[FIRST_START, SET_FACTORY, CLAIM, REKEY], 53, &Tear::ALL, 10_000);
}

#[test]
fn reset() {
    pairs("reset, twice", &[FIRST_START, SET_FACTORY, CLAIM, LIST, RESET], 53, &Tear::ALL, 14_000);
}

#[test]
fn reset_with_a_new_key() {
    let commits = [FIRST_START, SET_FACTORY, CLAIM, LIST, RESET_WITH_KEY];
    pairs("reset with a new key, twice", &commits, 97, &Tear::ALL, 10_000);
}

#[test]
fn transfer() {
    pairs("transfer, twice", &[FIRST_START, SET_FACTORY, CLAIM, VALUES, LIST, TRANSFER], 53, &Tear::ALL, 14_000);
}

#[test]
fn values() {
    pairs("values, twice", &[FIRST_START, CLAIM, VALUES], 1, &[Tear::Half], 10_000);
    pairs("other values, twice", &[FIRST_START, CLAIM, VALUES, OTHER_VALUES], 13, &Tear::ALL, 8_000);
}
