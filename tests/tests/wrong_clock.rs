//! The host's clock was ahead once, and is right now: real devices, which hold what was signed then, go on obeying.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use cbor_schemas::ListMode;
use commissioner::{
    client::{Client, Timers},
    clock::{Clock, unix_seconds},
    commission::{Outcome, Terms, commission},
    distribute,
    link::{Datagram, Datagrams, Io},
    ownership::{rekey, reset},
    registry::{KeyStatus, Registry, StationScope},
    state_dir::StateDir,
    station::Station,
    visit::Account,
};
use commissioner_cli::cmd::exit::ExitCode;
use device::transport::Service;
use end_to_end::{
    Bench, Cable,
    one_process::{OnBench, quiet, station_at, visit},
};

/// 2026-11-22T15:24:00Z
const NOON: u64 = 1_795_361_040;

/// A line to a device on the bench that carries everything.
#[derive(Clone)]
struct Line(Arc<Mutex<Ends>>);

/// What is at both ends of it.
struct Ends {
    device: OnBench,
    answers: VecDeque<Vec<u8>>,
    /// Milliseconds since the device's start.
    now: u64,
}

impl Line {
    fn to(name: &str) -> Self {
        Self(Arc::new(Mutex::new(Ends { device: OnBench::blank(name), answers: VecDeque::new(), now: 0 })))
    }

    fn client(&self) -> Client {
        Client::new(Box::new(self.clone()), Timers::NETWORK)
    }

    /// The newest time that the device was told by its owner.
    fn watermark(&self) -> Option<u64> {
        self.0.lock().expect("no test failed").device.info().watermarks.owner
    }
}

impl Datagrams for Line {
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> Io<'a, usize> {
        let mut line = self.0.lock().expect("no test failed");
        let Ends { device, answers, now } = &mut *line;
        // So slow that no allowance is used up.
        *now += 2_000;
        let mut out = [0; device::DATAGRAM_LEN];
        if let Some(len) = device.handle(1, &mut datagram.to_vec(), *now, &mut out) {
            answers.push_back(out[..len].to_vec());
        }
        let sent = datagram.len();
        Box::pin(async move { Ok(sent) })
    }

    fn receive(&mut self) -> Io<'_, Datagram> {
        let answer = self.0.lock().expect("no test failed").answers.pop_front();
        Box::pin(async move {
            match answer {
                Some(bytes) => Ok(Datagram { line_bytes: bytes.len(), bytes }),
                None => std::future::pending().await,
            }
        })
    }
}

async fn commissioned(station: &Station, line: &Line) -> Outcome {
    visit(station, line.clone(), Timers::NETWORK).await.expect("it is commissioned")
}

async fn give_list(station: &Station, line: &Line) -> distribute::Distributed {
    let mut client = line.client();
    let account = Account::read(&mut client).await.expect("it answers");
    let list = distribute::current_list(station, Some(ListMode::Members), &quiet()).await.expect("a list");
    distribute::distribute(&mut client, &account, station, &list, false, &quiet()).await.expect("it takes the list")
}

/// Nine hours (a clock in local time), and fourteen years (a clock without a battery), at the making of the registry already.
#[tokio::test]
async fn devices_that_hold_a_time_that_is_yet_to_come_go_on_obeying() {
    for ahead in [NOON + 9 * 60 * 60, unix_seconds("2040-01-01T00:00:00Z").expect("a time")] {
        let state = tempfile::tempdir().expect("a scratch directory");
        let clock = Clock::manual(ahead);
        let station = station_at(&state.path().join("state"), clock.clone()).await;
        let (lamp, button) = (Line::to("lamp"), Line::to("button"));
        for line in [&lamp, &button] {
            assert_eq!(commissioned(&station, line).await, Outcome::Commissioned);
            give_list(&station, line).await;
            assert_eq!(line.watermark(), Some(ahead));
        }

        clock.set(NOON);
        let refused = visit(&station, lamp.clone(), Timers::NETWORK).await.unwrap_err();
        assert_eq!(refused.exit(), ExitCode::Conflict, "{refused}");
        assert!(refused.to_string().contains("`commissioner clock`"), "{refused}");
        assert_eq!(station.registry.set_clock_back().await.expect("it is written"), Some(ahead));

        // Revoking, and telling the others.
        station.registry.revoke(&"urn:dev:ops:32473-button".parse().expect("an ID"), "lost").await.expect("revoked");
        assert_eq!(give_list(&station, &lamp).await, distribute::Distributed::Installed);
        // A station's token is revoked, by a list of now, which voids all of before.
        let elsewhere = station.registry.issuer();
        let (token, _) =
            station.registry.grant_station(elsewhere, StationScope::Distribute, 60).await.expect("a token");
        assert_eq!(token.issued_at, NOON);
        station.registry.revoke_station(&token.station).await.expect("revoked");
        assert_eq!(give_list(&station, &lamp).await, distribute::Distributed::Installed);
        assert_eq!(commissioned(&station, &lamp).await, Outcome::AlreadyDone);
        assert_eq!(lamp.watermark(), Some(ahead), "nothing of that moved it");

        // A new key, with a certificate of now.
        let mut client = lamp.client();
        let account = Account::read(&mut client).await.expect("it answers");
        let status = rekey(&mut client, &account, &station, &quiet()).await.expect("a new key");
        assert_eq!(status, KeyStatus::Active);
        assert_eq!(commissioned(&station, &lamp).await, Outcome::AlreadyDone);

        // Given up and claimed again, it knows nothing of that time any more.
        let account = Account::read(&mut client).await.expect("it answers");
        reset(&mut client, &account, &station, &quiet()).await.expect("it is reset");
        let account = Account::read(&mut client).await.expect("it answers");
        let again = commission(&mut client, &account, &station, &Terms::OWNER, &quiet()).await.expect("it is ours");
        assert_eq!((again, lamp.watermark()), (Outcome::Commissioned, Some(NOON)));
        let view = station.registry.clock().await.expect("a view");
        let ahead: Vec<_> = view.devices.iter().map(|(device, _)| device.to_string()).collect();
        assert_eq!(ahead, ["urn:dev:ops:32473-button"]);
    }
}

/// Each of several signatures bears the later time; that is said once, in words.
#[tokio::test]
async fn a_clock_a_little_behind_is_spoken_of_once_in_a_command() {
    let bench = Bench::initialised(Cable::Udp);
    let lamp = bench.start("lamp", "urn:dev:ops:32473-lamp");
    bench.commissioner(&["commission", &lamp.link]).succeeded();
    bench.commissioner(&["distribute", &lamp.link]).succeeded();
    // Another machine's clock is half an hour ahead.
    let dir = StateDir::open(&bench.path("state")).expect("it is there");
    let clock = Clock::manual(Clock::System.now() + 30 * 60);
    let registry = Registry::open(&dir, clock.clone(), false).await.expect("a registry");
    registry.grant_station(registry.issuer(), StationScope::Distribute, 60).await.expect("a token");
    registry.close().await;

    let button = bench.start("button", "urn:dev:ops:32473-button");
    let done = bench.commissioner(&["commission", &button.link]).succeeded();
    let said: Vec<_> = done.stderr.lines().filter(|line| line.contains("the clock says")).collect();
    assert_eq!(said.len(), 1, "{}", done.stderr);
    assert!(said[0].starts_with("the clock says 20") && said[0].contains(" behind the newest signature"), "{said:?}");
    assert!(!done.stderr.contains("WARN"), "{}", done.stderr);
}
