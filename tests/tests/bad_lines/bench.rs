//! A device and a station in one process, and a clock that runs only while somebody waits for a datagram.

use std::{
    path::Path,
    sync::{Arc, Mutex, mpsc},
};

use cbor_schemas::{ClaimPolicy, Condition, DeviceId, SlotContents};
use commissioner::{
    client::{Client, Timers},
    clock::Clock,
    cmd::init::initialise,
    commission::{Outcome, Terms, commission},
    error::CommandError,
    issuer::Issuer,
    keys::{self, IssuerKey},
    link::Datagrams,
    output::Output,
    progress::Progress,
    registry::{CertificateStatus, Place, Registry},
    state_dir::StateDir,
    visit::{Account, Station},
};
use device::{
    DATAGRAM_LEN,
    device::{Board, Config, Device},
    flash::{FlashError, RamFlash},
    server::{Memory, Server},
    store::{Layout, Opened, Scratch, Slot, Store},
    transport::Service,
};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use rand_core::{CryptoRng, RngCore};
use tokio::time::Instant;

const PAGE: usize = 4096;
const PAGES: usize = 6;

/// Random numbers that are the same in each run (Steele's SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

impl RngCore for Dice {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.next_u64() as u8);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

/// Good enough for keys that nobody uses.
impl CryptoRng for Dice {}

/// The virtual clock, stopped. Left to itself it would jump ahead whenever the registry waits for its database.
#[derive(Clone, Default)]
pub(crate) struct Time(Arc<Mutex<Option<mpsc::Sender<()>>>>);

impl Time {
    /// Stops the clock: it stands still as long as a blocking task runs.
    pub(crate) fn stop(&self) {
        self.0.lock().unwrap().get_or_insert_with(|| {
            let (holder, held) = mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || held.recv());
            holder
        });
    }

    /// Lets it jump to whatever is waited for, until the returned guard is dropped.
    pub(crate) fn run(&self) -> Running {
        *self.0.lock().unwrap() = None;
        Running { time: self.clone(), for_good: false }
    }
}

pub(crate) struct Running {
    time: Time,
    /// The guard does not stop the clock.
    pub(crate) for_good: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.for_good {
            self.time.stop();
        }
    }
}

/// Flash that outlives the server on it.
#[derive(Clone)]
struct Flash(Arc<Mutex<RamFlash<Vec<u8>, 4, PAGE>>>);

impl ErrorType for Flash {
    type Error = FlashError;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.0.lock().unwrap().read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        PAGE * PAGES
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.0.lock().unwrap().erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.0.lock().unwrap().write(offset, bytes)
    }
}

struct NoLed;

impl Board for NoLed {
    fn identify(&mut self) {}
}

type DeviceServer = Server<Box<Memory<(), 4>>, Flash, Dice, NoLed>;

/// A device on the bench: the server that a firmware runs, and the flash below it.
pub(crate) struct OnBench {
    id: DeviceId,
    flash: Flash,
    seed: u64,
    started: Instant,
    server: DeviceServer,
}

/// A device that lines and tests share.
pub(crate) type Shared = Arc<Mutex<OnBench>>;

impl OnBench {
    /// A device with blank flash, whose random numbers, and thereby its key, are its name's own.
    pub(crate) fn blank(name: &str) -> Shared {
        let seed = name.bytes().fold(0, |seed, byte| Dice(seed ^ u64::from(byte)).next_u64());
        let id = format!("urn:dev:ops:32473-{name}").parse().unwrap();
        let flash = Flash(Arc::new(Mutex::new(RamFlash::erased(vec![0; PAGE * PAGES]))));
        let server = start(id, &flash, seed);
        Arc::new(Mutex::new(OnBench { id, flash, seed, started: Instant::now(), server }))
    }

    /// Resets the device: all but the flash is new.
    pub(crate) fn reset(&mut self) {
        self.seed = Dice(self.seed).next_u64();
        self.started = Instant::now();
        self.server = start(self.id, &self.flash, self.seed);
    }

    pub(crate) fn handle(&mut self, mut datagram: Vec<u8>) -> Option<Vec<u8>> {
        let mut answer = [0; DATAGRAM_LEN];
        let now = self.started.elapsed().as_millis() as u64;
        let len = self.server.handle((), &mut datagram, now, &mut answer)?;
        Some(answer[..len].to_vec())
    }

    /// The anchor's x-coordinate and the certificate in the owner slot, as another start would find them.
    fn owner_slot(&self) -> Option<([u8; 32], Option<Vec<u8>>)> {
        let (mut store, opened) = Store::open(self.flash.clone(), layout()).unwrap();
        assert!(matches!(opened, Opened::Ready { .. }), "{}: the flash is at fault", self.id);
        let mut scratch = Scratch::new();
        let contents = store.slot(Slot::Owner, &mut scratch).unwrap()?;
        let contents = SlotContents::decode(contents).unwrap();
        Some((contents.anchor.x, contents.certificate.map(<[u8]>::to_vec)))
    }
}

fn layout() -> Layout {
    Layout::smallest::<Flash>(0)
}

fn start(id: DeviceId, flash: &Flash, seed: u64) -> DeviceServer {
    let config = Config { device: id, firmware: "bench", claim_policy: ClaimPolicy::Open, operation_ms: 1 };
    let device = Device::start(config, flash.clone(), layout(), NoLed, Dice(seed)).unwrap();
    Server::new(device, Box::new(Memory::new()))
}

/// A station with a new state directory at `path`.
pub(crate) async fn station(path: &Path) -> Station {
    let clock = Clock::manual(1_795_361_040);
    initialise(path, clock.clone()).await.unwrap();
    let dir = StateDir::open(path).unwrap();
    Station {
        registry: Registry::open(&dir, clock, false).await.unwrap(),
        issuer: Issuer::new(IssuerKey::load(&dir.issuer_key()).unwrap()),
        key: keys::load(&dir.station_key()).unwrap(),
    }
}

/// One run of `commissioner commission` over `line`.
pub(crate) async fn visit(
    station: &Station,
    line: impl Datagrams + 'static,
    timers: Timers,
) -> Result<Outcome, CommandError> {
    let quiet = Progress::for_output(&Output::new(true, Box::new(std::io::sink())));
    let terms = Terms { place: Place::Elsewhere, accept_new_key: false };
    let mut client = Client::new(Box::new(line), timers);
    let account = Account::read(&mut client).await?;
    Ok(commission(&mut client, &account, station, &terms, &quiet).await?)
}

/// What holds after every run, whatever the line did: the device has nothing, or exactly a certificate that the registry
/// knows as its own; and what the registry calls installed is in the device.
pub(crate) async fn check(station: &Station, device: &Shared, run: &str) {
    let (id, key, slot) = {
        let device = device.lock().unwrap();
        let info = device.server.device().info();
        assert_eq!(info.condition, Condition::Ok, "{run}");
        (device.id, *device.server.device().own_key().unwrap(), device.owner_slot())
    };
    let known = station.registry.device_by_id(&id).await.unwrap();
    let keys = known.iter().flat_map(|device| &device.keys);
    assert!(keys.clone().all(|known| known.x == *key.x()), "{run}: the registry knows a key that the device never had");
    let certificates: Vec<_> = keys.flat_map(|key| &key.certificates).collect();

    let stored = slot.map(|(anchor, certificate)| {
        assert_eq!(anchor, station.issuer.anchor().x, "{run}: another anchor");
        certificate.unwrap_or_else(|| panic!("{run}: an anchor without a certificate"))
    });
    let live = [CertificateStatus::Issued, CertificateStatus::Installed];
    let is_ours = |stored: &Vec<u8>| {
        certificates.iter().any(|it| it.object.as_ref() == Some(stored) && live.contains(&it.status))
    };
    assert!(stored.as_ref().is_none_or(is_ours), "{run}: the registry does not know the device's certificate");
    for installed in certificates.iter().filter(|it| it.status == CertificateStatus::Installed) {
        assert!(installed.object == stored, "{run}: recorded as installed, and the device has something else");
    }
}
