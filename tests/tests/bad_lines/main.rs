//! Bad lines: whatever a line does to what it carries, a visit ends well, or says that it did not, and nothing in between.
//!
//! The real device and the real commissioner in one process, a virtual clock, and faults from fixed seeds. How runs end is
//! compared with `bad_lines.table`; `UPDATE_TABLE=1` writes it anew.

mod bench;
mod line;
mod serial;

use std::{
    fmt::{self, Write},
    path::Path,
    sync::atomic::Ordering,
};

use commissioner::{
    client::Timers,
    commission::Outcome,
    error::{CommandError, ExitCode},
    visit::Station,
};
use tempfile::TempDir;

use crate::{
    bench::{OnBench, Shared, Time, check, station, visit},
    line::{BadLine, Faults, Mishap},
    serial::StreamFaults,
};

/// Devices per row of a table.
const DEVICES: u64 = 10;
/// How often the command is given before a user would give up.
const RUNS: u64 = 3;

/// A station, and a virtual clock that stands still.
struct Host {
    _state: TempDir,
    station: Station,
    time: Time,
}

impl Host {
    async fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let station = station(&state.path().join("state")).await;
        tokio::time::pause();
        let time = Time::default();
        time.stop();
        Host { _state: state, station, time }
    }

    async fn visit(&self, line: BadLine) -> Result<Outcome, CommandError> {
        visit(&self.station, line, Timers::NETWORK).await
    }

    async fn check(&self, device: &Shared, run: &str) {
        check(&self.station, device, run).await;
    }

    /// Over a good line, the device is or becomes one of ours: no run left anything that cannot be mended.
    async fn ends_well(&self, device: &Shared, run: &str) {
        let ended = self.visit(BadLine::good(device, &self.time)).await;
        assert!(ended.is_ok(), "{run}: then over a good line: {ended:?}");
        self.check(device, run).await;
        let again = self.visit(BadLine::good(device, &self.time)).await;
        assert!(matches!(again, Ok(Outcome::AlreadyDone)), "{run}: then once more: {again:?}");
    }

    /// Gives the command until it ends well, `RUNS` times at most.
    async fn insist(
        &self,
        device: &Shared,
        run: &str,
        timers: Timers,
        line: impl Fn(u64) -> BadLine,
        tally: &mut Tally,
    ) {
        let mut last = None;
        for number in 0..RUNS {
            let ended = visit(&self.station, line(number), timers).await;
            self.check(device, run).await;
            match ended {
                Ok(_) if number == 0 => return tally.at_once += 1,
                Ok(_) => return tally.retried += 1,
                Err(error) => last = Some(error),
            }
        }
        let error = last.expect("it was run");
        match error.exit() {
            ExitCode::Link => tally.exit_4 += 1,
            ExitCode::Refused | ExitCode::NoDevice => tally.refused += 1,
            _ => panic!("{run}: {error}"),
        }
        let ended = self.visit(BadLine::good(device, &self.time)).await;
        assert!(ended.is_ok(), "{run}: then over a good line: {ended:?}");
        self.check(device, run).await;
    }
}

/// How the visits of a row ended.
#[derive(Default)]
struct Tally {
    at_once: u32,
    retried: u32,
    exit_4: u32,
    refused: u32,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7} {:>7} {:>7} {:>8}", self.at_once, self.retried, self.exit_4, self.refused)
    }
}

#[tokio::test]
async fn outcomes_are_those_of_the_table() {
    let host = Host::new().await;
    let mut table = String::new();
    datagrams(&host, &mut table).await;
    stream(&host, &mut table).await;
    for device in host.station.registry.devices().await.unwrap() {
        assert!(device.id.as_str().contains("32473-bench-"), "the registry made {} up", device.id);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_lines.table");
    if std::env::var_os("UPDATE_TABLE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == table, "not as in {}; look at the difference, then UPDATE_TABLE=1:\n{table}", path.display());
}

async fn datagrams(host: &Host, table: &mut String) {
    writeln!(
        table,
        "First visits over a line that does this to datagrams, in percent of them: {DEVICES} devices per row,"
    )
    .unwrap();
    writeln!(table, "{RUNS} runs each at the most. \"refused\" is exit code 3 or 5.\n").unwrap();
    writeln!(table, "  lost corrupt twice  late | at once retried  exit 4  refused").unwrap();
    for (twice, late) in [(0, 0), (40, 40)] {
        for (corrupt, lost) in [0, 5, 20, 40].into_iter().flat_map(|corrupt| [0, 5, 20, 40].map(|lost| (corrupt, lost)))
        {
            let mut tally = Tally::default();
            for number in 0..DEVICES {
                let name = format!("bench-{lost}-{corrupt}-{twice}-{late}-{number}");
                let seed = ((lost * 100 + corrupt) * 100 + twice) * 1000 + number * 10;
                let device = OnBench::blank(&name);
                let faults = Faults { lost, corrupt, twice, late };
                let line = |run| BadLine::datagrams(&device, &host.time, faults, seed + run);
                host.insist(&device, &name, Timers::NETWORK, line, &mut tally).await;
            }
            writeln!(table, "{lost:>6} {corrupt:>7} {twice:>5} {late:>5} | {tally}").unwrap();
        }
    }
}

async fn stream(host: &Host, table: &mut String) {
    writeln!(table, "\nThe same over a serial line that does this to bytes, in 1 of 10,000 of them.\n").unwrap();
    writeln!(table, "  lost inserted flipped | at once retried  exit 4  refused").unwrap();
    let of_kind = |kind: u64, rate| {
        let rate_if = |wanted| if kind == wanted || kind == 3 { rate } else { 0 };
        StreamFaults { lost: rate_if(0), inserted: rate_if(1), flipped: rate_if(2) }
    };
    let damaging = (0..4).flat_map(|kind| [1, 10, 30, 100].map(|rate| of_kind(kind, rate)));
    for faults in [StreamFaults::default()].into_iter().chain(damaging) {
        let mut tally = Tally::default();
        let StreamFaults { lost, inserted, flipped } = faults;
        for number in 0..DEVICES {
            let name = format!("bench-serial-{lost}-{inserted}-{flipped}-{number}");
            let seed = ((lost * 1000 + inserted) * 1000 + flipped) * 1000 + number * 10;
            let device = OnBench::blank(&name);
            let line = |run| BadLine::stream(&device, &host.time, faults, seed + run);
            host.insist(&device, &name, Timers::SERIAL, line, &mut tally).await;
        }
        writeln!(table, "{lost:>6} {inserted:>8} {flipped:>7} | {tally}").unwrap();
    }
}

/// How many datagrams reach the device in a first visit and in a later one.
async fn lengths(host: &Host) -> [usize; 2] {
    let device = OnBench::blank("bench-lengths");
    let mut lengths = [0; 2];
    for (length, expected) in lengths.iter_mut().zip([Outcome::Commissioned, Outcome::AlreadyDone]) {
        let line = BadLine::good(&device, &host.time);
        let counter = line.counter();
        assert_eq!(host.visit(line).await.unwrap(), expected);
        *length = counter.load(Ordering::Relaxed);
    }
    assert!(lengths.iter().all(|length| *length >= 4), "{lengths:?}: too short for a visit");
    lengths
}

/// One mishap in a first visit or in a later one; the next run ends well.
async fn survive(host: &Host, later: bool, mishap: Mishap) -> Result<Outcome, CommandError> {
    let run = format!("{mishap:?} in a {} visit", if later { "later" } else { "first" });
    let device = OnBench::blank(&format!("bench-{}-{mishap:?}", u8::from(later)).replace(['(', ')'], "-"));
    if later {
        host.visit(BadLine::good(&device, &host.time)).await.unwrap();
    }
    let ended = host.visit(BadLine::good(&device, &host.time).with(mishap)).await;
    host.check(&device, &run).await;
    host.ends_well(&device, &run).await;
    ended
}

#[tokio::test]
async fn a_device_may_reset_in_the_middle_of_any_message() {
    let host = Host::new().await;
    for (later, length) in [false, true].into_iter().zip(lengths(&host).await) {
        let mut disturbed = 0;
        for number in 1..=length {
            for mishap in [Mishap::ResetBefore, Mishap::ResetUnanswered, Mishap::ResetAnswered] {
                disturbed += usize::from(survive(&host, later, mishap(number)).await.is_err());
            }
        }
        assert!(disturbed > 0, "no reset disturbed any run: were there any?");
    }
}

#[tokio::test]
async fn the_cable_may_be_pulled_after_any_datagram() {
    let host = Host::new().await;
    for (later, length) in [false, true].into_iter().zip(lengths(&host).await) {
        // As many go to the host as to the device. The last one is all that the host needs.
        for number in 0..2 * length as u64 {
            let ended = survive(&host, later, Mishap::Pulled(number)).await;
            let exit = ended.map_err(|error| error.exit());
            assert_eq!(exit, Err(ExitCode::Link), "pulled after {number} datagrams");
        }
    }
}
