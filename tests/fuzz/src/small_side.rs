//! What reaches a small device.

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use cbor_schemas::{DeviceCertificateClaims, DeviceInfo, IssuerId, Kind, ProofLevel, SlotRequest, SlotState, SlotView};
use coap_message::ReadableMessage;
use device_small::{Config, DATAGRAM_LEN, ProvingDevice, STORAGE_LEN};
use embedded_storage::{ReadStorage, Storage};
use end_to_end::one_process::Dice;
use protocol::{coap::Datagram, key::PublicKey};

use crate::{
    Seeds,
    bench::{Peer, Talks, check_certificate, encoded, next_piece, owner, piece, request, signed},
};

/// What a commissioner sends to a small device with EDHOC, and whatever came later: the device plays the same part again,
/// with the same random numbers. Each datagram has its length in front.
pub(crate) fn small(mut input: &[u8]) -> bool {
    let eeprom = Eeprom::blank();
    let mut bench = Bench::start(&eeprom, 3);
    while let Some((datagram, rest)) = next_piece(input) {
        bench.ask(0, datagram);
        input = rest;
    }
    bench.check_serves();
    let said = bench.unchanging();
    let answer = bench.ask(0, &request(1, 0xfe_dd, b"\xb4comm\x07factory")).expect("an answer");
    let answer = Datagram::parse(&answer).expect("CoAP");
    let message = answer.message();
    let view = SlotView::decode(message.payload()).expect("a slot");
    assert_eq!(view.state, said.factory);
    if let (Some(anchor), Some(certificate)) = (view.anchor, view.certificate) {
        check_certificate(&said, &PublicKey::from_cose(&anchor).expect("a key"), certificate);
    }
    assert_eq!(Bench::start(&eeprom, 4).unchanging(), said, "after a restart");
    said.factory == SlotState::Certified
}

pub(crate) fn small_seeds() -> Seeds {
    let mut bench = Bench::start(&Eeprom::blank(), 3);
    let info = bench.info();
    let claims = DeviceCertificateClaims {
        issuer: IssuerId(owner().public().kid()),
        subject: info.device,
        issued_at: 1_000,
        cti: [7; 8],
        key: info.credential.expect("the device is whole"),
        key_origin: info.key_origin,
        proof: ProofLevel::Proved,
    };
    let certificate = signed(Kind::DeviceCertificate, &encoded(|out| claims.encode(out)));
    let contents = SlotRequest { anchor: owner().public().cose_key(), certificate: Some(&certificate), voucher: None };
    let fill = [b"\xb4comm\x07factory\x11\x3c\xff", &encoded(|out| contents.encode(out))[..]].concat();
    let mut peer = Peer::stranger(&mut bench);
    assert_eq!(peer.ask(&mut bench, 1, b"\xb4comm"), Some(0x45));
    assert_eq!(peer.ask(&mut bench, 3, &fill), Some(0x44));
    let plain = request(3, 1, &fill);
    let all = |datagrams: &[Vec<u8>]| datagrams.iter().flat_map(|datagram| piece(datagram)).collect();
    let mut twice = bench.heard.clone();
    twice.extend_from_slice(&bench.heard);
    Seeds { accepted: vec![all(&bench.heard), all(&twice)], others: vec![piece(&plain), all(&bench.heard[..2])] }
}

/// A device, and all that it heard.
struct Bench {
    device: ProvingDevice<Eeprom, Dice>,
    heard: Vec<Vec<u8>>,
}

impl Bench {
    fn start(eeprom: &Eeprom, seed: u64) -> Self {
        let device = "urn:dev:ops:32473-fuzz".parse().expect("a device ID");
        let config = Config { device, firmware: "fuzz", operation_ms: 1 };
        Self { device: ProvingDevice::start(config, eeprom.clone(), Dice(seed)), heard: Vec::new() }
    }
}

impl Talks for Bench {
    fn ask(&mut self, _from: u8, datagram: &[u8]) -> Option<Vec<u8>> {
        self.heard.push(datagram.to_vec());
        let mut answer = [0; DATAGRAM_LEN];
        let len = self.device.handle(&mut datagram.to_vec(), &mut answer)?;
        Some(answer[..len].to_vec())
    }

    fn info(&self) -> DeviceInfo<'static> {
        self.device.info()
    }
}

/// An EEPROM that outlives the device.
#[derive(Clone)]
struct Eeprom(Rc<RefCell<Vec<u8>>>);

impl Eeprom {
    fn blank() -> Self {
        Self(Rc::new(RefCell::new(vec![0xff; STORAGE_LEN])))
    }
}

impl ReadStorage for Eeprom {
    type Error = Infallible;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.0.borrow()[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        STORAGE_LEN
    }
}

impl Storage for Eeprom {
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.borrow_mut()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}
