//! A real device and a real station in one process; what lies between them is the test's.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cbor_schemas::{ClaimPolicy, DeviceId, DeviceInfo, SlotContents};
use commissioner::{
    client::{Client, Timers},
    clock::Clock,
    commission::{Outcome, Terms, commission},
    issuer::Issuer,
    keys::{self, IssuerKey},
    link::Datagrams,
    progress::Progress,
    registry::Registry,
    state_dir::StateDir,
    station::Station,
    visit::Account,
};
use commissioner_cli::{cmd::exit::CommandError, cmd::init::initialise};
use device::{
    Board, Config, DATAGRAM_LEN, Device, Memory, Server,
    flash::{FlashError, RamFlash},
    store::{KeyBytes, Layout, Opened, Scratch, Slot, Store},
    transport::{Service, Source},
};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use rand_core::{CryptoRng, RngCore};

const PAGE: usize = 4096;
const PAGES: usize = 10;

/// Random numbers that are the same in each run (Steele's SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// Less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
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

/// Flash that outlives the device on it.
#[derive(Debug, Clone)]
pub struct Flash(Arc<Mutex<RamFlash<Vec<u8>, 4, PAGE>>>);

impl Flash {
    /// Flash with these contents.
    pub fn new(contents: Vec<u8>) -> Self {
        Flash(Arc::new(Mutex::new(RamFlash::new(contents))))
    }

    /// As it leaves the factory.
    pub fn erased() -> Self {
        Flash::new(vec![0xff; PAGE * PAGES])
    }

    /// What is in it.
    pub fn contents(&self) -> Vec<u8> {
        self.lock().bytes_mut().to_vec()
    }

    /// Where devices on the bench keep what.
    pub fn layout() -> Layout {
        Layout::smallest::<Flash>(0)
    }

    /// Opens the storage that is in it, as a start of the device does.
    pub fn store(&self) -> (Store<Flash>, Opened) {
        let mut store = Store::new(self.clone(), Flash::layout());
        let opened = store.open(&mut KeyBytes::new()).expect("the layout fits");
        (store, opened)
    }

    fn lock(&self) -> MutexGuard<'_, RamFlash<Vec<u8>, 4, PAGE>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ErrorType for Flash {
    type Error = FlashError;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.lock().read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        PAGE * PAGES
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.lock().erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.lock().write(offset, bytes)
    }
}

/// A board on which nothing moves.
struct Still;

impl Board for Still {
    fn identify(&mut self) {}
}

/// Number 0 is at the other end of a line, the others are on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Peer(u8);

impl Source for Peer {
    fn is_line(&self) -> bool {
        self.0 == 0
    }
}

type DeviceServer = Server<Box<Memory<Peer, 4>>, Flash, Dice, Still>;

/// A device on the bench: the server that a firmware runs, and the flash below it. Peers have numbers for addresses.
pub struct OnBench {
    id: DeviceId,
    flash: Flash,
    seed: u64,
    server: DeviceServer,
}

impl OnBench {
    /// A device that just started on `flash`, with the random numbers of `seed`. Its ID ends in `name`.
    pub fn start(name: &str, flash: Flash, seed: u64) -> Self {
        let id = format!("urn:dev:ops:32473-{name}").parse().expect("a device ID");
        let server = server(id, &flash, seed);
        OnBench { id, flash, seed, server }
    }

    /// A device with blank flash, whose random numbers, and thereby its key, are its name's own.
    pub fn blank(name: &str) -> Self {
        let seed = name.bytes().fold(0, |seed, byte| Dice(seed ^ u64::from(byte)).next_u64());
        OnBench::start(name, Flash::erased(), seed)
    }

    /// Resets the device: all but the flash is new.
    pub fn reset(&mut self) {
        self.seed = Dice(self.seed).next_u64();
        self.server = server(self.id, &self.flash, self.seed);
    }

    /// One datagram in at `now`, in milliseconds since the start, and the one that comes out.
    pub fn answer(&mut self, from: u8, datagram: &[u8], now: u64) -> Option<Vec<u8>> {
        let mut answer = [0; DATAGRAM_LEN];
        let len = self.handle(from, &mut datagram.to_vec(), now, &mut answer)?;
        Some(answer[..len].to_vec())
    }

    /// What the device says of itself.
    pub fn info(&self) -> DeviceInfo<'static> {
        self.server.device().info()
    }

    /// Its flash.
    pub fn flash(&self) -> &Flash {
        &self.flash
    }

    /// The anchor's x-coordinate and the certificate in the owner slot, as another start would find them.
    ///
    /// # Panics
    /// If another start would find the storage at fault.
    pub fn owner_slot(&self) -> Option<([u8; 32], Option<Vec<u8>>)> {
        let (mut store, opened) = self.flash.store();
        assert!(opened == Opened::Ready, "{}: the flash is at fault", self.id);
        let mut scratch = Scratch::new();
        let contents = store.slot(Slot::Owner, &mut scratch).expect("the flash works")?;
        let contents = SlotContents::decode(contents).expect("slot contents");
        Some((contents.anchor.x, contents.certificate.map(<[u8]>::to_vec)))
    }
}

impl Service<u8> for OnBench {
    fn handle(&mut self, from: u8, datagram: &mut [u8], now: u64, out: &mut [u8]) -> Option<usize> {
        self.server.handle(Peer(from), datagram, now, out)
    }
}

fn server(id: DeviceId, flash: &Flash, seed: u64) -> DeviceServer {
    let config = Config {
        device: id,
        firmware: "bench",
        claim_policy: ClaimPolicy::Open,
        reset_by_presence: false,
        operation_ms: 1,
        takes_keys: false,
    };
    let device = Device::new(config, flash.clone(), Flash::layout(), Still, Dice(seed));
    let mut server = Server::new(device, Box::new(Memory::new()));
    server.open().expect("the layout fits");
    server
}

/// A station with a new state directory at `path`, and a clock that stands still.
pub async fn station(path: &Path) -> Station {
    station_at(path, Clock::manual(1_795_361_040)).await
}

/// A station with a new state directory at `path`, and this clock.
pub async fn station_at(path: &Path, clock: Clock) -> Station {
    initialise(path, clock.clone()).await.expect("a new state directory");
    let dir = StateDir::open(path).expect("it is there");
    Station {
        registry: Registry::open(&dir, clock, false).await.expect("a registry"),
        issuer: Issuer::new(IssuerKey::load(&dir.issuer_key()).expect("the issuer's key")),
        key: keys::load(&dir.station_key()).expect("the station's key"),
        token: None,
    }
}

/// Progress that nobody looks at.
pub fn quiet() -> Progress {
    Progress::unseen()
}

/// One run of `commissioner commission` over `line`.
pub async fn visit(station: &Station, line: impl Datagrams + 'static, timers: Timers) -> Result<Outcome, CommandError> {
    visit_by(station, Client::new(Box::new(line), timers)).await
}

/// One run of `commissioner commission` with this client.
pub async fn visit_by(station: &Station, mut client: Client) -> Result<Outcome, CommandError> {
    let account = Account::read(&mut client).await?;
    Ok(commission(&mut client, &account, station, &Terms::OWNER, &quiet()).await?)
}
