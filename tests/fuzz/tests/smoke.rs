//! Each entry point on its seeds, and on many of their mutations, always the same ones.

use fuzzing::ENTRY_POINTS;

/// Mutations per entry point; the fuzzers go on from there.
const RUNS: u64 = 1_500;

fn smoke(name: &str) {
    let entry_point = ENTRY_POINTS.iter().find(|entry_point| entry_point.name == name).expect("an entry point");
    let seeds = (entry_point.seeds)();
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| (entry_point.run)(seed));
    let mut random = Random(0x5eed);
    for _ in 0..RUNS {
        let mut input = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(4) {
            mutate(&mut input, &mut random);
        }
        (entry_point.run)(&input);
    }
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
    input.truncate(1_400);
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
    ($($name:ident),+ $(,)?) => {
        $(#[test] fn $name() { smoke(stringify!($name)); })+

        #[test]
        fn every_entry_point_has_a_test() {
            let names: Vec<_> = ENTRY_POINTS.iter().map(|entry_point| entry_point.name).collect();
            assert_eq!(names, [$(stringify!($name)),+]);
        }
    };
}

smoke_tests![schemas, report_line, token, serial, datagrams, protected, responder, initiator, client];
