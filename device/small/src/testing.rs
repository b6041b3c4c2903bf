//! What the tests have instead of a board.

use std::{cell::RefCell, rc::Rc, vec::Vec};

use cbor_schemas::{DeviceCertificateClaims, DeviceInfo, IssuerId, Kind, ProofLevel, Sign1, SlotRequest};
use coap_message::MinimalWritableMessage as _;
use coap_numbers::option;
use embedded_storage::{ReadStorage, Storage};
use p256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner};
use protocol::{
    coap::{Header, Writer},
    key::PrivateKey,
};
use sha2::{Digest as _, Sha256};

use crate::STORAGE_LEN;

/// An EEPROM that outlives the device, and whose power can be cut while a byte changes.
#[derive(Clone)]
pub(crate) struct Eeprom(Rc<RefCell<Cells>>);

struct Cells {
    bytes: Vec<u8>,
    /// Changes of bytes until the power goes, and what of the bits that are to change has changed by then.
    power: Option<(usize, u8)>,
    is_dark: bool,
    changes: usize,
}

/// The power went.
#[derive(Debug)]
pub(crate) struct Dark;

impl Eeprom {
    pub(crate) fn blank() -> Self {
        Self::of(vec![0xff; STORAGE_LEN])
    }

    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self(Rc::new(RefCell::new(Cells { bytes, power: None, is_dark: false, changes: 0 })))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }

    /// Changes of bytes so far.
    pub(crate) fn changes(&self) -> usize {
        self.0.borrow().changes
    }

    /// From here on, `changes` more bytes change, and of the next one those bits that are set in `bits`.
    pub(crate) fn cut_after(&self, changes: usize, bits: u8) {
        self.0.borrow_mut().power = Some((changes, bits));
    }

    /// Whether the power went.
    pub(crate) fn is_dark(&self) -> bool {
        self.0.borrow().is_dark
    }

    /// The power is back.
    pub(crate) fn restart(&self) -> Self {
        Self::of(self.bytes())
    }
}

impl ReadStorage for Eeprom {
    type Error = Dark;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Dark> {
        let cells = self.0.borrow();
        if cells.is_dark {
            return Err(Dark);
        }
        bytes.copy_from_slice(&cells.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        STORAGE_LEN
    }
}

impl Storage for Eeprom {
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Dark> {
        let mut cells = self.0.borrow_mut();
        if cells.is_dark {
            return Err(Dark);
        }
        for (at, byte) in (offset as usize..).zip(bytes) {
            let old = cells.bytes[at];
            if old == *byte {
                continue;
            }
            match &mut cells.power {
                Some((0, bits)) => {
                    let bits = *bits;
                    cells.bytes[at] = (old & !bits) | (byte & bits);
                    cells.is_dark = true;
                    return Err(Dark);
                }
                Some((left, _)) => *left -= 1,
                None => {}
            }
            cells.bytes[at] = *byte;
            cells.changes += 1;
        }
        Ok(())
    }
}

/// A datagram with a request.
pub(crate) fn compose(header: &Header, path: &str, options: &[(u16, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut datagram = [0; 1024];
    let mut writer = Writer::new(&mut datagram, header).unwrap();
    let mut message = writer.message();
    let path = path.split('/').skip(1).map(|segment| (option::URI_PATH, segment.as_bytes()));
    let mut all: Vec<_> = path.chain(options.iter().copied()).collect();
    all.sort_by_key(|(number, _)| *number);
    for (number, value) in all {
        message.add_option(number, value).unwrap();
    }
    message.set_payload(body).unwrap();
    let len = message.finish().0;
    let len = writer.finish(len).unwrap();
    datagram[..len].to_vec()
}

/// The body of a `PUT` to the factory slot by `issuer`, about what `info` says.
pub(crate) fn certificate(
    issuer: &PrivateKey,
    info: &DeviceInfo<'_>,
    change: impl FnOnce(&mut DeviceCertificateClaims),
) -> Vec<u8> {
    let mut claims = DeviceCertificateClaims {
        issuer: IssuerId(issuer.public().kid()),
        subject: info.device,
        issued_at: 1_795_000_000,
        cti: [7; 8],
        key: info.credential.unwrap(),
        key_origin: info.key_origin,
        proof: ProofLevel::Unproven,
    };
    change(&mut claims);
    let mut payload = [0; DeviceCertificateClaims::MAX_LEN];
    let len = claims.encode(&mut payload).unwrap();
    let object = signed(issuer, Kind::DeviceCertificate, &payload[..len]);
    request(&SlotRequest { anchor: issuer.public().cose_key(), certificate: Some(&object), voucher: None })
}

pub(crate) fn signed(issuer: &PrivateKey, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    Sign1::to_be_signed(kind, payload, &mut |bytes| hash.update(bytes));
    let key = SigningKey::from_slice(issuer.as_bytes()).unwrap();
    let signature: Signature = key.sign_prehash(&hash.finalize()).unwrap();
    let mut object = [0; DeviceCertificateClaims::MAX_SIGNED_LEN + 8];
    let len = Sign1 { kind, payload, signature: signature.to_bytes().into() }.encode(&mut object).unwrap();
    object[..len].to_vec()
}

pub(crate) fn request(request: &SlotRequest<'_>) -> Vec<u8> {
    let mut body = [0; SlotRequest::MAX_LEN];
    let len = request.encode(&mut body).unwrap();
    body[..len].to_vec()
}
