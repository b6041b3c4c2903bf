//! A device under test, and everybody who visits it.

mod client;
mod flash;
mod issuer;
pub(crate) mod led;

use std::{cell::Cell, rc::Rc};

use cbor_schemas::{ClaimPolicy, DeviceInfo, Method};
use coap_lite::{MessageType, Packet};
use coap_numbers::code;
use device::{
    Access, Answer, Board, Config, DATAGRAM_LEN, Device, Memory, Problem, ProductResource, Server, content_format,
    store::{KeyBytes, Layout, Opened, Slot, Snapshot, Store},
    transport::{Service, Source},
    values::{Value, Values},
};
use protocol::key::PrivateKey;
use rand_core::{CryptoRng, RngCore};
use sha2::{Digest, Sha256};

pub(crate) use client::{Request, Response, Session, Visitor, get, post, put};
pub(crate) use flash::{Driver, Flash};
pub(crate) use issuer::{HOUR, Issuer, NOW, Owner, encoded, raw, raw_map, slot_request, with_other_y};

/// Where a datagram comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address(pub(crate) &'static str);
pub(crate) const CABLE: Address = Address("cable");
pub(crate) const NETWORK: Address = Address("network");

impl Source for Address {
    fn is_line(&self) -> bool {
        *self == CABLE
    }
}

pub(crate) const DEVICE_ID: &str = "urn:dev:ops:32473-lamp-00c0ffee";
pub(crate) const FIRMWARE: &str = "lamp 1.2.3";

pub(crate) type TestServer = Server<Box<Memory<Address, 4>>, Flash, TestRng, Lamp>;

/// A device, its flash and its clock.
pub(crate) struct TestDevice {
    pub(crate) server: TestServer,
    pub(crate) flash: Flash,
    /// Milliseconds since the start.
    pub(crate) now: u64,
    /// For everybody who visits.
    pub(crate) rng: TestRng,
    config: Config,
    lamp: Lamp,
    starts: u64,
    message_id: u16,
}

impl TestDevice {
    /// Fresh from the factory, open to be claimed.
    pub(crate) fn new() -> Self {
        Self::with_policy(ClaimPolicy::Open)
    }

    pub(crate) fn with_policy(claim_policy: ClaimPolicy) -> Self {
        Self::of_product(claim_policy, false)
    }

    /// A device with this policy, and a firmware that lets whoever is present reset the device, or not.
    pub(crate) fn of_product(claim_policy: ClaimPolicy, reset_by_presence: bool) -> Self {
        let config = Config {
            device: DEVICE_ID.parse().unwrap(),
            firmware: FIRMWARE,
            claim_policy,
            reset_by_presence,
            operation_ms: 250,
            takes_keys: false,
        };
        Self::of(config)
    }

    /// Whose firmware lets the owner inject keys.
    pub(crate) fn that_takes_keys() -> Self {
        let TestDevice { config, .. } = Self::new();
        Self::of(Config { takes_keys: true, ..config })
    }

    fn of(config: Config) -> Self {
        let (flash, lamp) = (Flash::erased(), Lamp::default());
        let server = start(config, &flash, &lamp, 1);
        TestDevice { server, flash, now: 0, rng: TestRng::new(0), config, lamp, starts: 1, message_id: 0 }
    }

    /// Power off and on: all that is left is what is in flash.
    pub(crate) fn restart(&mut self) {
        self.starts += 1;
        self.now = 0;
        self.server = start(self.config, &self.flash, &self.lamp, self.starts);
    }

    /// A datagram in, and the one that comes out.
    pub(crate) fn receive(&mut self, from: Address, datagram: &[u8]) -> Option<Vec<u8>> {
        let (mut datagram, mut out) = (datagram.to_vec(), [0; DATAGRAM_LEN]);
        let len = self.server.handle(from, &mut datagram, self.now, &mut out)?;
        Some(out[..len].to_vec())
    }

    /// A confirmable request without security, over the cable.
    pub(crate) fn ask(&mut self, request: &Request) -> Response {
        self.ask_from(CABLE, request)
    }

    pub(crate) fn ask_from(&mut self, from: Address, request: &Request) -> Response {
        let datagram = self.datagram(&request.0);
        Response::parse(&self.receive(from, &datagram).expect("a confirmable request is answered"))
    }

    /// `packet` with a Message ID and a token of its own.
    pub(crate) fn datagram(&mut self, packet: &Packet) -> Vec<u8> {
        self.message_id += 1;
        let mut packet = packet.clone();
        packet.header.message_id = self.message_id;
        packet.set_token(self.message_id.to_be_bytes().to_vec());
        assert!(matches!(packet.header.get_type(), MessageType::Confirmable | MessageType::NonConfirmable));
        packet.to_bytes().expect("a client sends no more than a datagram")
    }

    /// What `/comm` says to anyone.
    pub(crate) fn info(&mut self) -> DeviceInfo<'static> {
        let (answer, known) = (self.ask(&get("/comm")), self.server.device().info());
        assert_eq!(DeviceInfo::decode(answer.expect("2.05").payload()), Ok(known));
        known
    }

    /// A token for `/authz-info`, from anyone, a second after the last one: the rate limit is no matter.
    pub(crate) fn present(&mut self, token: &[u8]) -> Response {
        self.now += 1000;
        self.ask(&post("/authz-info", token))
    }

    /// Somebody holds the button down.
    pub(crate) fn press(&mut self) {
        self.server.device_mut().note_presence(self.now);
    }

    /// How often the device has blinked.
    pub(crate) fn blinks(&self) -> u32 {
        self.lamp.blinks.get()
    }

    /// What the application last took notice of.
    pub(crate) fn flashes(&self) -> u8 {
        self.lamp.flashes.get()
    }

    /// What a programmer reads out of the flash: the private key, and the state.
    pub(crate) fn read_out(&self) -> (PrivateKey, Snapshot) {
        let (store, key) = opened(&self.flash);
        (PrivateKey::from_bytes(key.as_bytes()).unwrap(), *store.snapshot())
    }

    /// Puts the anchor of a factory into the flash, as a programming station does, and restarts.
    pub(crate) fn provision_factory(&mut self, factory: &Issuer) {
        self.put_into_factory_slot(factory, None);
    }

    pub(crate) fn put_into_factory_slot(&mut self, factory: &Issuer, certificate: Option<&[u8]>) {
        let (mut store, _) = opened(&self.flash);
        let contents = cbor_schemas::SlotContents { anchor: factory.public().cose_key(), certificate };
        store.set_factory(&encoded(|out| contents.encode(out)), None).unwrap();
        assert!(store.slot(Slot::Factory, &mut device::store::Scratch::new()).unwrap().is_some());
        self.restart();
    }
}

pub(crate) fn layout() -> Layout {
    Layout::smallest::<Flash>(0)
}

/// The storage in `flash`, opened apart from the device on it.
///
/// # Panics
/// If it holds no state.
pub(crate) fn opened(flash: &Flash) -> (Store<Flash>, KeyBytes) {
    let (mut store, mut key) = (Store::new(flash.clone(), layout()), KeyBytes::new());
    assert_eq!(store.open(&mut key), Ok(Opened::Ready));
    (store, key)
}

fn start(config: Config, flash: &Flash, lamp: &Lamp, seed: u64) -> TestServer {
    let rng = TestRng::new(1000 + seed);
    let device = Device::new(config, flash.clone(), layout(), lamp.clone(), rng);
    let mut server = Server::new(device, Box::new(Memory::new()));
    server.open().expect("the layout fits");
    server
}

/// Counts how often it blinked, and knows how its owner would like it to.
#[derive(Clone, Default)]
pub(crate) struct Lamp {
    blinks: Rc<Cell<u32>>,
    flashes: Rc<Cell<u8>>,
}

impl Board for Lamp {
    const RESOURCES: &'static [ProductResource] = &[
        ProductResource {
            path: "/led",
            methods: &[(Method::Get, Access::Anyone), (Method::Put, Access::MyDevices)],
            takes: Some(content_format::CBOR),
            answers: content_format::CBOR,
            attributes: Some("rt=\"led\""),
        },
        ProductResource {
            path: "/log/level",
            methods: &[(Method::Post, Access::Owner)],
            takes: None,
            answers: content_format::CBOR,
            attributes: None,
        },
    ];

    const VALUES: &'static [Value] = led::VALUES;

    fn identify(&mut self) {
        self.blinks.set(self.blinks.get() + 1);
    }

    fn configure(&mut self, values: &Values<'_>) {
        self.flashes.set(led::flashes(values));
    }

    /// Answers with what it was sent, and blinks at each change.
    fn serve(&mut self, path: &str, method: Method, body: &[u8], answer: &mut Answer) -> Result<(), Problem> {
        assert!(Self::RESOURCES.iter().any(|resource| resource.path == path));
        if method != Method::Get {
            self.identify();
        }
        answer.set_body(code::CONTENT, content_format::CBOR, |out| {
            out[..body.len()].copy_from_slice(body);
            Ok::<_, Problem>(body.len())
        })
    }
}

/// Random numbers that are the same in each run.
pub(crate) struct TestRng {
    seed: u64,
    block: u64,
}

impl TestRng {
    pub(crate) fn new(seed: u64) -> Self {
        TestRng { seed, block: 0 }
    }

    pub(crate) fn key(&mut self) -> PrivateKey {
        PrivateKey::generate(self)
    }
}

impl RngCore for TestRng {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let block = Sha256::new().chain_update(self.seed.to_be_bytes()).chain_update(self.block.to_be_bytes());
            chunk.copy_from_slice(&block.finalize()[..chunk.len()]);
            self.block += 1;
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for TestRng {}
