//! Each entry point on its seeds, and on many of their mutations. Seeds that get through must do so, or all else would test
//! the first refusal only. Seeds are always the same ones, but for the recorded sessions, in which the commissioner's keys
//! are random: a failure shows its input.

use std::collections::BTreeSet;

use cbor_schemas::SlotState;
use fuzzing::{ENTRY_POINTS, EntryPoint};

/// Longer inputs are cut: the longest recorded session fits.
const MAX_LEN: usize = 8_192;

fn smoke(name: &str, runs: u64) {
    let entry_point = ENTRY_POINTS.iter().find(|entry_point| entry_point.name == name).expect("an entry point");
    let seeds = (entry_point.seeds)();
    assert!(!seeds.accepted.is_empty());
    for (number, seed) in seeds.accepted.iter().enumerate() {
        assert!(run(entry_point, seed), "seed {number} of {} was not accepted", seeds.accepted.len());
        assert!(seed.len() <= MAX_LEN, "seed {number} is too long");
    }
    for seed in &seeds.others {
        run(entry_point, seed);
    }
    let seeds = [seeds.accepted, seeds.others].concat();
    let mut random = Random(0x5eed);
    for _ in 0..runs {
        let mut input = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(4) {
            mutate(&mut input, &mut random);
        }
        run(entry_point, &input);
    }
}

/// Whether the input is accepted. If it makes the entry point panic, it is shown.
fn run(entry_point: &EntryPoint, input: &[u8]) -> bool {
    struct Shown<'a>(&'a [u8]);

    impl Drop for Shown<'_> {
        #[expect(clippy::print_stderr, reason = "cargo test shows it with the panic")]
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input was {}", hex::encode(self.0));
            }
        }
    }

    let _shown = Shown(input);
    (entry_point.run)(input)
}

#[test]
fn every_type_and_every_situation_has_a_seed_that_gets_through() {
    for (name, expected) in [("schemas", 18), ("datagrams", 7), ("protected", 3)] {
        let entry_point = ENTRY_POINTS.iter().find(|entry_point| entry_point.name == name).expect("an entry point");
        let first_bytes: BTreeSet<u8> = (entry_point.seeds)().accepted.iter().map(|seed| seed[0]).collect();
        assert_eq!(first_bytes.len(), expected, "{name}: {first_bytes:?}");
    }
}

#[test]
fn a_recorded_session_is_answered_as_it_was() {
    let mut seen = Vec::new();
    for recording in fuzzing::recordings() {
        let (answers, info) = fuzzing::replay(recording);
        let recorded: Vec<_> = recording.exchanges.iter().map(|(_, answer)| answer.clone()).collect();
        assert!(recorded == answers, "{} is answered otherwise", recording.name);
        assert_eq!(info.owner, SlotState::Certified, "{}", recording.name);
        seen.push((recording.name, info.generation, info.claim_counter, recorded.len()));
    }
    let expected = [
        ("first visit", 1, 1, 4),
        ("later visit", 1, 1, 9),
        ("rekey", 2, 1, 15),
        ("reset", 1, 3, 13),
        ("in blocks", 1, 1, 6),
    ];
    assert_eq!(seen, expected);
}

fn mutate(input: &mut Vec<u8>, random: &mut Random) {
    const ODD: [u8; 12] = [0x00, 0x01, 0x17, 0x18, 0x1f, 0x38, 0x58, 0x7f, 0x80, 0xc0, 0xdb, 0xff];
    let at = random.below(input.len().max(1));
    let odd = ODD[random.below(ODD.len())];
    match random.below(7) {
        0 => input.truncate(at),
        1 => input.insert(at.min(input.len()), odd),
        2 if !input.is_empty() => drop(input.remove(at)),
        3 if !input.is_empty() => input[at] = odd,
        4 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        5 => input.extend_from_within(at.min(input.len())..),
        _ => input.extend((0..random.below(40)).map(|n| odd.wrapping_mul(n as u8))),
    }
    input.truncate(MAX_LEN);
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

macro_rules! smoke_tests {
    ($($name:ident: $runs:literal),+ $(,)?) => {
        $(#[test] fn $name() { smoke(stringify!($name), $runs); })+

        #[test]
        fn every_entry_point_has_a_test() {
            let names: Vec<_> = ENTRY_POINTS.iter().map(|entry_point| entry_point.name).collect();
            assert_eq!(names, [$(stringify!($name)),+]);
        }
    };
}

// Mutations of each; the fuzzers go on from there. Fewer where each one takes a handshake or more.
smoke_tests! {
    schemas: 3_000,
    report_line: 1_500,
    token: 1_500,
    voucher: 1_500,
    serial: 300,
    datagrams: 600,
    session: 300,
    protected: 500,
    responder: 1_500,
    small: 300,
    conversation_client: 400,
    conversation_server: 400,
    initiator: 1_500,
    client: 1_500,
    server: 1_500,
    protected_answers: 400,
}
