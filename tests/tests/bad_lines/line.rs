//! Lines that lose, repeat, delay and damage what they carry; the same seed does the same harm.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use commissioner::link::{Datagram, Datagrams, Error, Io};
use tokio::time::{Instant, sleep_until};

use crate::{
    bench::{Dice, Shared, Time},
    serial::{DeviceEnd, HostEnd, StreamFaults},
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

/// What the line carries.
enum Cable {
    Datagrams(Faults),
    Stream { faults: StreamFaults, device: Box<DeviceEnd>, host: Box<HostEnd> },
}

enum Arrival {
    AtDevice(Vec<u8>),
    AtHost(Vec<u8>),
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
        Self::new(device, time, Cable::Stream { faults, device: Box::default(), host: Box::default() }, seed)
    }

    /// A line without faults.
    pub(crate) fn good(device: &Shared, time: &Time) -> Self {
        Self::datagrams(device, time, Faults::default(), 0)
    }

    pub(crate) fn with(mut self, mishap: Mishap) -> Self {
        self.mishap = mishap;
        self
    }

    /// How many datagrams reached the device, to be read when the line is gone.
    pub(crate) fn counter(&self) -> Arc<AtomicUsize> {
        self.reached.clone()
    }

    fn new(device: &Shared, time: &Time, cable: Cable, seed: u64) -> Self {
        Self {
            device: device.clone(),
            time: time.clone(),
            cable,
            mishap: Mishap::None,
            seed,
            carried: 0,
            reached: Arc::default(),
            under_way: BTreeMap::new(),
            arrived: VecDeque::new(),
        }
    }

    fn is_pulled(&self) -> bool {
        matches!(self.mishap, Mishap::Pulled(after) if self.carried >= after)
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
            Cable::Stream { faults, .. } => {
                let damaged = faults.damage(&bytes, &mut dice);
                return self.deliver(damaged, Duration::ZERO, to);
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
            self.deliver(bytes.clone(), again, to);
        }
        if !lost {
            self.deliver(bytes, if late { delay } else { Duration::ZERO }, to);
        }
    }

    fn deliver(&mut self, bytes: Vec<u8>, delay: Duration, to: fn(Vec<u8>) -> Arrival) {
        let order = self.under_way.len() as u64 + (self.carried << 8);
        self.under_way.insert((Instant::now() + TRAVEL + delay, order), to(bytes));
    }

    fn arrive(&mut self, arrival: Arrival) {
        match (arrival, &mut self.cable) {
            (Arrival::AtHost(bytes), Cable::Datagrams(_)) => self.arrived.push_back(bytes),
            (Arrival::AtHost(bytes), Cable::Stream { host, .. }) => self.arrived.extend(host.datagrams(&bytes)),
            (Arrival::AtDevice(bytes), Cable::Datagrams(_)) => {
                if let Some(answer) = self.serve(bytes) {
                    self.carry(answer, Arrival::AtHost);
                }
            }
            (Arrival::AtDevice(bytes), Cable::Stream { device, .. }) => {
                for datagram in device.datagrams(&bytes) {
                    if let Some(answer) = self.serve(datagram) {
                        let Cable::Stream { device, .. } = &mut self.cable else { return };
                        let frame = device.frame(&answer);
                        self.carry(frame, Arrival::AtHost);
                    }
                }
            }
        }
    }

    fn serve(&mut self, datagram: Vec<u8>) -> Option<Vec<u8>> {
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
