//! Lines that lose, repeat, delay and damage what they carry; the same seed does the same harm.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use commissioner::{
    client::{Client, Timers},
    commission::Outcome,
    link::{Datagram, Datagrams, Error, Io},
    station::Station,
};
use commissioner_cli::cmd::exit::CommandError;
use end_to_end::one_process::{Dice, visit_by};
use tokio::time::{Instant, sleep_until};

use crate::{
    bench::{Shared, Time},
    serial::{HostEnd, StreamFaults, symbols},
};

/// How long anything takes on the line.
const TRAVEL: Duration = Duration::from_millis(5);
/// How much longer a late datagram may take: with the way back, less than the host waits.
const LATE_MS: u64 = 900;
/// 4.29 Too Many Requests, after which the host pauses (RFC 8516).
const TOO_MANY_REQUESTS: u8 = 4 << 5 | 29;

/// What happens to datagrams, in percent of them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    /// One bit is flipped.
    pub(crate) corrupt: u64,
    pub(crate) twice: u64,
    /// Arrives so late that others overtake it.
    pub(crate) late: u64,
}

/// What happens once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Mishap {
    #[default]
    None,
    /// The device resets when the n-th datagram reaches it, and does not handle it.
    ResetBefore(usize),
    /// It resets when it has handled the n-th datagram; the answer is not sent.
    ResetUnanswered(usize),
    /// It resets when the answer to the n-th datagram is on its way.
    ResetAnswered(usize),
    /// The cable is pulled when it has carried n datagrams, in whichever direction.
    Pulled(u64),
}

/// What happens once, in the middle of a stream of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    /// The message in whose frame it happens, counted from 1, whoever sends it.
    pub(crate) message: u64,
    /// How many bytes of the frame are through by then. An escaped one counts as one.
    pub(crate) bytes: usize,
    pub(crate) what: Break,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Break {
    /// The device resets. What it was sending ends there; of what it was receiving, it hears the rest after its start.
    Reset,
    /// The cable is pulled, and comes back after this time: what is sent in between is lost, in both directions.
    Pulled(Duration),
    /// The cable was out until then: so much of the frame is lost, and the rest arrives.
    PluggedIn,
    /// The host's program dies.
    HostDies,
}

/// What the line carries.
enum Cable {
    Datagrams(Faults),
    Stream { faults: StreamFaults, cut: Option<Cut>, host: Box<HostEnd> },
}

enum Arrival {
    AtDevice(Vec<u8>),
    AtHost(Vec<u8>),
    /// The device resets.
    Reset,
}

/// The host's end of a line to a device.
pub(crate) struct BadLine {
    device: Shared,
    time: Time,
    cable: Cable,
    mishap: Mishap,
    seed: u64,
    /// Datagrams or frames that were put on the line, by either end.
    carried: u64,
    /// How many bytes each of them had, an escaped one counted as one.
    lengths: Arc<Mutex<Vec<usize>>>,
    /// The cable is out until then.
    back_at: Instant,
    /// One end is gone for good.
    gone: bool,
    /// Datagrams that reached the device.
    reached: Arc<AtomicUsize>,
    under_way: BTreeMap<(Instant, u64), Arrival>,
    arrived: VecDeque<Vec<u8>>,
}

impl BadLine {
    pub(crate) fn datagrams(device: &Shared, time: &Time, faults: Faults, seed: u64) -> Self {
        Self::new(device, time, Cable::Datagrams(faults), seed)
    }

    pub(crate) fn stream(device: &Shared, time: &Time, faults: StreamFaults, seed: u64) -> Self {
        Self::new(device, time, Cable::Stream { faults, cut: None, host: Box::default() }, seed)
    }

    /// A line without faults.
    pub(crate) fn good(device: &Shared, time: &Time) -> Self {
        Self::datagrams(device, time, Faults::default(), 0)
    }

    /// A serial line without faults but this one.
    pub(crate) fn serial(device: &Shared, time: &Time, cut: Option<Cut>) -> Self {
        Self::new(device, time, Cable::Stream { faults: StreamFaults::default(), cut, host: Box::default() }, 0)
    }

    /// One run of `commissioner commission` over it. The random numbers are the same in each run of the test, and others in
    /// each visit: what a flipped bit does may depend on them.
    pub(crate) async fn visit(self, station: &Station, timers: Timers) -> Result<Outcome, CommandError> {
        let dice = Dice(self.seed.wrapping_mul(1_000_003).wrapping_add(self.device.lock().unwrap().count_visit()));
        visit_by(station, Client::new(Box::new(self), timers).with_random(dice)).await
    }

    pub(crate) fn with(mut self, mishap: Mishap) -> Self {
        self.mishap = mishap;
        self
    }

    /// How many datagrams reached the device, to be read when the line is gone.
    pub(crate) fn counter(&self) -> Arc<AtomicUsize> {
        self.reached.clone()
    }

    /// How long each message was in bytes, likewise.
    pub(crate) fn lengths(&self) -> Arc<Mutex<Vec<usize>>> {
        self.lengths.clone()
    }

    fn new(device: &Shared, time: &Time, cable: Cable, seed: u64) -> Self {
        Self {
            device: device.clone(),
            time: time.clone(),
            cable,
            mishap: Mishap::None,
            seed,
            carried: 0,
            lengths: Arc::default(),
            back_at: Instant::now(),
            gone: false,
            reached: Arc::default(),
            under_way: BTreeMap::new(),
            arrived: VecDeque::new(),
        }
    }

    fn is_pulled(&self) -> bool {
        self.gone || matches!(self.mishap, Mishap::Pulled(after) if self.carried >= after)
    }

    fn send_to_device(&mut self, datagram: &[u8]) -> usize {
        let bytes = match &self.cable {
            Cable::Datagrams(_) => datagram.to_vec(),
            Cable::Stream { host, .. } => host.frame(datagram),
        };
        let len = bytes.len();
        self.carry(bytes, Arrival::AtDevice);
        len
    }

    /// Puts something on the line. Its fate depends on the seed and on how many were sent before it, on nothing else.
    fn carry(&mut self, mut bytes: Vec<u8>, to: fn(Vec<u8>) -> Arrival) {
        self.carried += 1;
        let mut dice = Dice(self.seed.wrapping_mul(1_000_003).wrapping_add(self.carried));
        let faults = match &self.cable {
            Cable::Datagrams(faults) => *faults,
            Cable::Stream { faults, cut, .. } => {
                let damaged = faults.damage(&bytes, &mut dice);
                self.lengths.lock().unwrap().push(symbols(&damaged).count());
                return match cut.filter(|cut| cut.message == self.carried) {
                    Some(cut) => self.cut(&damaged, cut, to),
                    None => self.carry_bytes(damaged, to),
                };
            }
        };
        let mut happens = |percent| dice.below(100) < percent;
        let [lost, corrupt, twice, late] =
            [happens(faults.lost), happens(faults.corrupt), happens(faults.twice), happens(faults.late)];
        let bit = dice.below(bytes.len() as u64 * 8) as usize;
        let [delay, again] = [(); 2].map(|()| Duration::from_millis(dice.below(LATE_MS)));
        if corrupt {
            flip(&mut bytes, bit);
        }
        if twice {
            self.deliver(to(bytes.clone()), again);
        }
        if !lost {
            self.deliver(to(bytes), if late { delay } else { Duration::ZERO });
        }
    }

    /// Lets something happen in the middle of a frame.
    fn cut(&mut self, frame: &[u8], cut: Cut, to: fn(Vec<u8>) -> Arrival) {
        let at = symbols(frame).take(cut.bytes).map(<[u8]>::len).sum();
        let (before, after) = frame.split_at(at);
        let [before, after] = [before, after].map(|bytes| to(bytes.to_vec()));
        match cut.what {
            Break::Reset => {
                let is_heard = matches!(after, Arrival::AtDevice(_));
                self.deliver(before, Duration::ZERO);
                self.deliver(Arrival::Reset, Duration::ZERO);
                if is_heard {
                    self.deliver(after, Duration::ZERO);
                }
            }
            Break::Pulled(time) => {
                self.deliver(before, Duration::ZERO);
                self.back_at = Instant::now() + time;
            }
            Break::PluggedIn => self.deliver(after, Duration::ZERO),
            Break::HostDies => {
                self.arrive(before);
                self.gone = true;
            }
        }
    }

    /// Bytes on a serial line, if there is one just now.
    fn carry_bytes(&mut self, bytes: Vec<u8>, to: fn(Vec<u8>) -> Arrival) {
        if Instant::now() >= self.back_at {
            self.deliver(to(bytes), Duration::ZERO);
        }
    }

    fn deliver(&mut self, arrival: Arrival, delay: Duration) {
        let order = self.under_way.len() as u64 + (self.carried << 8);
        self.under_way.insert((Instant::now() + TRAVEL + delay, order), arrival);
    }

    fn arrive(&mut self, arrival: Arrival) {
        match (arrival, &mut self.cable) {
            (Arrival::AtHost(bytes), Cable::Datagrams(_)) => self.arrived.push_back(bytes),
            (Arrival::AtHost(bytes), Cable::Stream { host, .. }) => self.arrived.extend(host.datagrams(&bytes)),
            (Arrival::AtDevice(bytes), Cable::Datagrams(_)) => {
                if let Some(answer) = self.serve(&bytes) {
                    self.carry(answer, Arrival::AtHost);
                }
            }
            (Arrival::AtDevice(bytes), Cable::Stream { .. }) => {
                let datagrams = self.device.lock().unwrap().serial().datagrams(&bytes);
                for datagram in datagrams {
                    if let Some(answer) = self.serve(&datagram) {
                        let frame = self.device.lock().unwrap().serial().frame(&answer);
                        self.carry(frame, Arrival::AtHost);
                    }
                }
            }
            (Arrival::Reset, _) => {
                let said = self.device.lock().unwrap().reset();
                self.carry_bytes(said, Arrival::AtHost);
            }
        }
    }

    fn serve(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let number = 1 + self.reached.fetch_add(1, Ordering::Relaxed);
        let mut device = self.device.lock().unwrap();
        if self.mishap == Mishap::ResetBefore(number) {
            device.reset();
            return None;
        }
        let answer = device.handle(datagram);
        if self.mishap == Mishap::ResetUnanswered(number) {
            device.reset();
            return None;
        }
        if self.mishap == Mishap::ResetAnswered(number) {
            device.reset();
        }
        answer
    }
}

/// Flips a bit, in a message ID always the highest one: which neighbours a message ID has differs from run to run, for the
/// host begins at a random one.
fn flip(bytes: &mut [u8], bit: usize) {
    let (byte, mask) = match bit / 8 {
        2 | 3 => (2, 0x80),
        byte => (byte, 1 << (bit % 8)),
    };
    bytes[byte] ^= mask;
}

impl Datagrams for BadLine {
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> Io<'a, usize> {
        Box::pin(async move {
            self.time.stop();
            match self.is_pulled() {
                true => Err(Error::Unplugged { port: "bench".into() }),
                false => Ok(self.send_to_device(datagram)),
            }
        })
    }

    fn receive(&mut self) -> Io<'_, Datagram> {
        Box::pin(async move {
            let mut running = self.time.run();
            loop {
                if let Some(bytes) = self.arrived.pop_front() {
                    // The host may sleep before it sends the next one.
                    running.for_good = bytes.get(1) == Some(&TOO_MANY_REQUESTS);
                    return Ok(Datagram { line_bytes: bytes.len(), bytes });
                }
                if self.is_pulled() {
                    return Err(Error::Unplugged { port: "bench".into() });
                }
                let Some((&(at, order), _)) = self.under_way.first_key_value() else { return pending().await };
                sleep_until(at).await;
                let arrival = self.under_way.remove(&(at, order)).expect("it was under way");
                self.arrive(arrival);
            }
        })
    }
}
