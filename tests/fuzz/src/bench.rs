//! Devices in each state, ready to be cloned, and a random number generator that always gives the same.

use std::sync::LazyLock;

use cbor_schemas::{ClaimPolicy, DeviceInfo, SlotContents};
use device::{
    DATAGRAM_LEN,
    device::{Board, Config, Device},
    flash::RamFlash,
    server::{Memory, Server},
    store::{Layout, Store},
    transport::Service,
};
use protocol::key::PrivateKey;
use rand_core::{CryptoRng, RngCore};

pub(crate) type Flash = RamFlash<Vec<u8>, 4, 4096>;
pub(crate) type TestServer = Server<Box<Memory<u8, 4>>, Flash, SameNumbers, Still>;

const FLASH_LEN: usize = 6 * 4096;

/// The state of a device.
#[derive(Debug, Clone, Copy)]
pub(crate) enum State {
    Unowned,
    Owned,
    Fault,
}

/// Flash images by state: made once, for key generation is slow.
static IMAGES: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let mut unowned = Flash::erased(vec![0; FLASH_LEN]);
    Device::start(config(), &mut unowned, layout(), Still, SameNumbers(1)).expect("the layout fits");
    let mut owned = unowned.clone();
    let (mut store, _) = Store::open(&mut owned, layout()).expect("the layout fits");
    let mut contents = [0; SlotContents::MAX_LEN];
    let anchor = SlotContents { anchor: owner().public().cose_key(), certificate: None };
    let len = anchor.encode(&mut contents).expect("it fits");
    store.set_owner(&contents[..len], 1, None).expect("the flash works");
    let mut fault = owned.clone();
    fault.bytes_mut()[layout().keys.start as usize..layout().keys.end as usize].fill(0);
    [unowned, owned, fault].map(|mut flash| flash.bytes_mut().to_vec())
});

/// A device that was just started in a state.
pub(crate) fn start(state: State) -> TestServer {
    let flash = Flash::new(IMAGES[state as usize].clone());
    let device = Device::start(config(), flash, layout(), Still, SameNumbers(2)).expect("the layout fits");
    Server::new(device, Box::new(Memory::new()))
}

/// The key that the anchor of owned devices belongs to.
pub(crate) fn owner() -> PrivateKey {
    PrivateKey::generate(&mut SameNumbers(99))
}

/// One datagram in, and the one that comes out.
pub(crate) fn handle(server: &mut TestServer, from: u8, datagram: &[u8]) -> Option<Vec<u8>> {
    let (mut datagram, mut out) = (datagram.to_vec(), [0; DATAGRAM_LEN]);
    let len = server.handle(from, &mut datagram, 0, &mut out)?;
    Some(out[..len].to_vec())
}

/// What strangers can never change.
pub(crate) fn unchanging(info: DeviceInfo<'static>) -> DeviceInfo<'static> {
    DeviceInfo { nonce: [0; 8], ..info }
}

fn config() -> Config {
    Config {
        device: "urn:dev:ops:32473-fuzz-1".parse().expect("a device ID"),
        firmware: "fuzz",
        claim_policy: ClaimPolicy::Open,
        operation_ms: 1,
    }
}

fn layout() -> Layout {
    Layout::smallest::<Flash>(0)
}

/// A board on which nothing moves.
pub(crate) struct Still;

impl Board for Still {
    fn identify(&mut self) {}
}

/// Not random at all (SplitMix64), so that a finding can be repeated.
#[derive(Clone)]
pub(crate) struct SameNumbers(pub(crate) u64);

impl RngCore for SameNumbers {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        rand_core::impls::fill_bytes_via_next(self, dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl CryptoRng for SameNumbers {}
