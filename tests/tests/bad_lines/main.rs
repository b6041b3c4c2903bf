//! Bad lines: whatever a line does to what it carries, a visit ends well, or says that it did not, and nothing in between.
//!
//! The real device and the real commissioner in one process, a virtual clock, and faults from fixed seeds. How runs end is
//! compared with `bad_lines.table` and `bad_lines.cuts.table`; `UPDATE_TABLE=1` writes them anew.

mod bench;
mod line;
mod serial;

use std::{
    fmt::{self, Write},
    path::Path,
    sync::atomic::Ordering,
    time::Duration,
};

use commissioner::{client::Timers, commission::Outcome, station::Station};
use commissioner_cli::cmd::exit::{CommandError, ExitCode};
use end_to_end::one_process::station;
use tempfile::TempDir;

use crate::{
    bench::{OnLine, Shared, Time, check},
    line::{BadLine, Break, Cut, Faults, Mishap},
    serial::{DeviceEnd, HostEnd, StreamFaults},
};

/// Timers without chance in them, as the keys and message IDs of either side have none: a table would depend on it.
const NETWORK: Timers = Timers { ack_random_factor: 1.0, ..Timers::NETWORK };
const SERIAL: Timers = Timers { ack_random_factor: 1.0, ..Timers::SERIAL };
/// Devices per row of a table.
const DEVICES: u64 = 10;
/// How often the command is given before a user would give up.
const RUNS: u64 = 3;
/// In the middle of a frame, something happens after each so many bytes; at its ends, after each one. `EVERY_BYTE=1` is
/// for those who can wait; it is not compared with the table.
const STRIDE: usize = 20;

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
        line.visit(&self.station, NETWORK).await
    }

    async fn check(&self, device: &Shared, run: &str) -> bool {
        check(&self.station, device, run).await
    }

    async fn serial_visit(&self, line: BadLine) -> Result<Outcome, CommandError> {
        line.visit(&self.station, SERIAL).await
    }

    /// Over a good line, the device is or becomes one of ours: no run left anything that cannot be mended.
    async fn ends_well(&self, device: &Shared, run: &str) {
        let ended = self.visit(BadLine::good(device, &self.time)).await;
        assert!(ended.is_ok(), "{run}: then over a good line: {ended:?}");
        self.check(device, run).await;
        let again = self.visit(BadLine::good(device, &self.time)).await;
        assert!(matches!(again, Ok(Outcome::AlreadyDone)), "{run}: then once more: {again:?}");
    }

    /// No line has made up a device.
    async fn knows_only_the_bench(&self) {
        for device in self.station.registry.devices().await.unwrap() {
            assert!(device.id.as_str().contains("32473-bench-"), "the registry made {} up", device.id);
        }
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
            let ended = line(number).visit(&self.station, timers).await;
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
    host.knows_only_the_bench().await;
    compare(&table, "bad_lines.table");
}

#[tokio::test]
async fn resets_and_pulled_cables_at_a_byte_end_as_in_their_table() {
    let host = Host::new().await;
    let mut table = String::new();
    cuts(&host, &mut table).await;
    host.knows_only_the_bench().await;
    match every_byte() {
        true => show(&table),
        false => compare(&table, "bad_lines.cuts.table"),
    }
}

fn compare(table: &str, file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    if std::env::var_os("UPDATE_TABLE").is_some() {
        std::fs::write(&path, table).unwrap();
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
                let device = OnLine::blank(&name);
                let faults = Faults { lost, corrupt, twice, late };
                let line = |run| BadLine::datagrams(&device, &host.time, faults, seed + run);
                host.insist(&device, &name, NETWORK, line, &mut tally).await;
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
            let device = OnLine::blank(&name);
            let line = |run| BadLine::stream(&device, &host.time, faults, seed + run);
            host.insist(&device, &name, SERIAL, line, &mut tally).await;
        }
        writeln!(table, "{lost:>6} {inserted:>8} {flipped:>7} | {tally}").unwrap();
    }
}

#[expect(clippy::print_stdout, reason = "somebody asked for it")]
fn show(table: &str) {
    println!("{table}");
}

fn every_byte() -> bool {
    std::env::var_os("EVERY_BYTE").is_some()
}

/// How many bytes the messages of a first visit have on a serial line; an escaped byte counts as one.
async fn frame_lengths(host: &Host) -> Vec<usize> {
    let none = Cut { message: 0, bytes: 0, what: Break::PluggedIn };
    let line = BadLine::serial(&none.device(), &host.time, None);
    let lengths = line.lengths();
    assert_eq!(host.serial_visit(line).await.unwrap(), Outcome::Commissioned);
    let lengths = lengths.lock().unwrap().clone();
    assert!(lengths.len() == 8 && lengths.iter().sum::<usize>() > 1_000, "{lengths:?} is no first visit");
    lengths
}

/// After how many bytes of a frame of `length` something happens.
fn spots(length: usize) -> impl Iterator<Item = usize> {
    (0..length).filter(move |at| every_byte() || at % STRIDE == 0 || *at < 3 || *at >= length - 3)
}

impl Cut {
    /// A new device for it alone. The names are of one length, and so are the messages.
    fn device(&self) -> Shared {
        let what = match self.what {
            Break::Reset => 0,
            Break::Pulled(time) => time.as_secs(),
            Break::PluggedIn => 1,
            Break::HostDies => 3,
        };
        OnLine::blank(&format!("bench-{what:02}-{}-{:03}", self.message, self.bytes))
    }
}

/// How the visits of a row of cuts ended.
#[derive(Default)]
struct Endings {
    points: u32,
    finished: u32,
    resent: u32,
    exit_4: u32,
    refused: u32,
}

async fn cuts(host: &Host, table: &mut String) {
    let lengths = frame_lengths(host).await;
    writeln!(
        table,
        "First visits over a serial line on which something happens once, while one of their {} messages is on its way:\n\
         at each of its first and last three bytes, and at every {STRIDE}th. \"resent\" ended well after the host had sent\n\
         something again; \"refused\" is exit code 5. The next run, undisturbed, always ended well.\n",
        lengths.len()
    )
    .unwrap();
    writeln!(table, "  to         what                            | points finished  resent  exit 4  refused").unwrap();
    for (what, name) in [
        (Break::Reset, "the device resets"),
        (Break::Pulled(Duration::from_secs(2)), "the cable is out for 2 s"),
        (Break::Pulled(Duration::from_secs(60)), "the cable is out for 60 s"),
        (Break::PluggedIn, "the cable was out until then"),
    ] {
        for (first, to) in [(0, "the device"), (1, "the host")] {
            let mut endings = Endings::default();
            for (index, length) in lengths.iter().enumerate().skip(first).step_by(2) {
                for bytes in spots(*length) {
                    let cut = Cut { message: index as u64 + 1, bytes, what };
                    endings.add(host, cut, lengths.len() / 2).await;
                }
            }
            let Endings { points, finished, resent, exit_4, refused } = endings;
            writeln!(table, "  {to:<10} {name:<31} | {points:>6} {finished:>8} {resent:>7} {exit_4:>7} {refused:>8}")
                .unwrap();
        }
    }
}

impl Endings {
    /// A first visit of a new device with `cut`. The next run, over the same line, ends well.
    async fn add(&mut self, host: &Host, cut: Cut, requests: usize) {
        let run = format!("{cut:?}");
        let device = cut.device();
        let line = BadLine::serial(&device, &host.time, Some(cut));
        let sent = line.lengths();
        let ended = host.serial_visit(line).await;
        host.check(&device, &run).await;
        self.points += 1;
        match ended.map_err(|error| error.exit()) {
            Ok(_) if sent.lock().unwrap().len() == 2 * requests => self.finished += 1,
            Ok(_) => self.resent += 1,
            Err(ExitCode::Link) => self.exit_4 += 1,
            Err(ExitCode::Refused) => self.refused += 1,
            Err(exit) => panic!("{run}: {exit:?}"),
        }
        let ended = host.serial_visit(BadLine::serial(&device, &host.time, None)).await;
        assert!(ended.is_ok(), "{run}: then undisturbed: {ended:?}");
        assert!(host.check(&device, &run).await, "{run}: then undisturbed, and still without a certificate");
    }
}

/// How many datagrams reach the device in a first visit and in a later one.
async fn lengths(host: &Host) -> [usize; 2] {
    let device = OnLine::blank("bench-lengths");
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
    let device = OnLine::blank(&format!("bench-{}-{mishap:?}", u8::from(later)).replace(['(', ')'], "-"));
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

/// The device's decoder is left in the middle of a frame, and what it makes of the next one must not depend on that.
#[tokio::test]
async fn a_host_that_dies_in_the_middle_of_a_frame_costs_the_next_one_nothing() {
    let host = Host::new().await;
    let lengths = frame_lengths(&host).await;
    for (index, length) in lengths.iter().enumerate().step_by(2) {
        // With all but the last END, the message is whole.
        for bytes in spots(*length).filter(|bytes| bytes + 1 < *length) {
            let cut = Cut { message: index as u64 + 1, bytes, what: Break::HostDies };
            let device = cut.device();
            let ended = host.serial_visit(BadLine::serial(&device, &host.time, Some(cut))).await;
            assert_eq!(ended.map_err(|error| error.exit()), Err(ExitCode::Link), "{cut:?}");
            let line = BadLine::serial(&device, &host.time, None);
            let sent = line.lengths();
            assert_eq!(host.serial_visit(line).await.unwrap(), Outcome::Commissioned, "{cut:?}");
            assert_eq!(*sent.lock().unwrap(), lengths, "{cut:?}: something was sent again");
            assert!(host.check(&device, "after a host that died").await);
        }
    }
}

/// The same for both ends, whatever is in the frame, at every byte of it.
#[test]
fn after_a_piece_of_a_frame_the_next_one_is_heard() {
    const NEXT: [u8; 4] = [0x40, 0x01, 0x12, 0x34];
    let every_byte: Vec<u8> = (0..=255).collect();
    let to_device = HostEnd::default().frame(&every_byte);
    let to_host = DeviceEnd::default().frame(&every_byte);
    assert_eq!(to_device, to_host);
    for cut in 0..to_device.len() {
        let (mut device, mut host) = (DeviceEnd::default(), HostEnd::default());
        let mut heard = device.datagrams(&to_device[..cut]);
        heard.extend(device.datagrams(&HostEnd::default().frame(&NEXT)));
        // The END before the next frame ends one that lacks nothing else.
        let is_whole = cut == to_device.len() - 1;
        let expected: &[&[u8]] = if is_whole { &[&every_byte, &NEXT] } else { &[&NEXT] };
        assert_eq!(heard, expected, "by the device, after {cut} bytes");
        let mut heard = host.datagrams(&to_host[..cut]);
        heard.extend(host.datagrams(&DeviceEnd::default().frame(&NEXT)));
        assert_eq!(heard, expected, "by the host, after {cut} bytes");
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
