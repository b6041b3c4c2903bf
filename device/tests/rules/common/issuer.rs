//! The issuer's side: whoever signs.

use cbor_schemas::{
    Aif, Audience, CoseKey, DeviceCertificateClaims, DeviceId, DeviceListClaims, IssuerId, KeyOrigin, Keys, Kind,
    ListMode, ProofLevel, Receipt, Sign1, SlotRequest, StationTokenClaims, VoucherClaims,
};
use minicbor::{Encoder, encode::write::Cursor};
use p256::{
    AffinePoint,
    ecdsa::{Signature, SigningKey, signature::Signer},
    elliptic_curve::{point::DecompressPoint, sec1::ToEncodedPoint},
};
use protocol::{
    edhoc::Transfer,
    key::{PrivateKey, PublicKey},
};

use super::{CABLE, DEVICE_ID, Session, TestDevice, TestRng, Visitor, put};

/// Unix time, as far as issuers are concerned.
pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const HOUR: u64 = 3600;

/// An ES256 key that signs.
pub(crate) struct Issuer {
    pub(crate) key: PrivateKey,
}

impl Issuer {
    pub(crate) fn new(seed: u64) -> Self {
        Issuer { key: TestRng::new(2000 + seed).key() }
    }

    pub(crate) fn public(&self) -> &PublicKey {
        self.key.public()
    }

    pub(crate) fn id(&self) -> IssuerId {
        IssuerId(self.public().kid())
    }

    /// A signed object of any kind over any payload.
    pub(crate) fn sign(&self, kind: Kind, payload: &[u8]) -> Vec<u8> {
        let mut to_be_signed = Vec::new();
        Sign1::to_be_signed(kind, payload, &mut |bytes| to_be_signed.extend_from_slice(bytes));
        let signature: Signature = SigningKey::from_slice(self.key.as_bytes()).unwrap().sign(&to_be_signed);
        let object = Sign1 { kind, payload, signature: signature.to_bytes().into() };
        encoded(|out| object.encode(out))
    }

    pub(crate) fn certificate_claims(&self, key: CoseKey) -> DeviceCertificateClaims {
        DeviceCertificateClaims {
            issuer: self.id(),
            subject: device_id(),
            issued_at: NOW,
            cti: [7; 8],
            key,
            key_origin: KeyOrigin::Generated,
            proof: ProofLevel::Proved,
        }
    }

    pub(crate) fn certificate(&self, claims: &DeviceCertificateClaims) -> Vec<u8> {
        self.sign(Kind::DeviceCertificate, &encoded(|out| claims.encode(out)))
    }

    /// A certificate about the present key of `device`.
    pub(crate) fn certify(&self, device: &mut TestDevice) -> Vec<u8> {
        self.certificate(&self.certificate_claims(device.info().credential.unwrap()))
    }

    /// What a token says that makes `station` an owner's one for an hour.
    pub(crate) fn token_claims(&self, station: &PublicKey) -> StationTokenClaims {
        StationTokenClaims {
            issuer: self.id(),
            audience: Audience::Device(device_id()),
            expires_at: Some(NOW + HOUR),
            issued_at: NOW,
            key: station.cose_key(),
            scope: Aif::everything(),
            cnonce: None,
        }
    }

    pub(crate) fn token(&self, claims: &StationTokenClaims) -> Vec<u8> {
        self.sign(Kind::StationToken, &encoded(|out| claims.encode(out)))
    }

    /// What a voucher says that lets `new_owner` in while the device shows `claim_counter`.
    pub(crate) fn voucher_claims(&self, new_owner: &PublicKey, claim_counter: u32) -> VoucherClaims {
        VoucherClaims {
            issuer: self.id(),
            subject: device_id(),
            expires_at: None,
            issued_at: NOW,
            key: new_owner.cose_key(),
            claim_counter,
        }
    }

    pub(crate) fn voucher(&self, claims: &VoucherClaims) -> Vec<u8> {
        self.sign(Kind::Voucher, &encoded(|out| claims.encode(out)))
    }

    /// A voucher for `new_owner` and the present claim counter of `device`.
    pub(crate) fn vouch(&self, new_owner: &Issuer, device: &mut TestDevice) -> Vec<u8> {
        self.voucher(&self.voucher_claims(new_owner.public(), device.info().claim_counter))
    }

    pub(crate) fn list(&self) -> Vec<u8> {
        self.sign_list(&self.list_claims(ListMode::Members, NOW, &[]))
    }

    pub(crate) fn list_claims<'k>(&self, mode: ListMode, version: u64, keys: &'k [[u8; 32]]) -> DeviceListClaims<'k> {
        DeviceListClaims {
            issuer: self.id(),
            issued_at: NOW,
            version,
            mode,
            min_iat: 0,
            keys: Keys::from(keys),
            unproven: Keys::default(),
            audit_head: None,
        }
    }

    pub(crate) fn sign_list(&self, claims: &DeviceListClaims<'_>) -> Vec<u8> {
        self.sign(Kind::DeviceList, &encoded(|out| claims.encode(out)))
    }
}

/// Somebody who owns devices: an issuer and one station.
pub(crate) struct Owner {
    pub(crate) issuer: Issuer,
    pub(crate) station: Visitor,
}

impl Owner {
    pub(crate) fn new(seed: u64) -> Self {
        let key = TestRng::new(3000 + seed).key();
        Owner { issuer: Issuer::new(seed), station: Visitor { key, transfer: Transfer::ByKid, from: CABLE } }
    }

    /// A device that this owner has claimed.
    pub(crate) fn of_new_device(seed: u64) -> (Self, TestDevice) {
        let (owner, mut device) = (Owner::new(seed), TestDevice::new());
        owner.claim(&mut device);
        (owner, device)
    }

    /// Body of a PUT to the owner slot: the anchor and a certificate about the present key.
    pub(crate) fn slot_request(&self, device: &mut TestDevice) -> Vec<u8> {
        slot_request(self.issuer.public(), Some(&self.issuer.certify(device)))
    }

    /// The body of a PUT to the owner slot, with a voucher of `by`.
    pub(crate) fn vouched_request(&self, by: &Issuer, device: &mut TestDevice) -> Vec<u8> {
        let (certificate, voucher) = (self.issuer.certify(device), by.vouch(&self.issuer, device));
        let anchor = self.issuer.public().cose_key();
        let request = SlotRequest { anchor, certificate: Some(&certificate), voucher: Some(&voucher) };
        encoded(|out| request.encode(out))
    }

    /// A first visit: by a throwaway key, whose session is over with the claim.
    pub(crate) fn claim(&self, device: &mut TestDevice) -> Receipt {
        let body = self.slot_request(device);
        let answer = Visitor::stranger(device).connect(device).ask(device, &put("/comm/owner", &body));
        Receipt::decode(answer.expect("2.04").payload()).unwrap()
    }

    pub(crate) fn token_claims(&self) -> StationTokenClaims {
        self.issuer.token_claims(self.station.key.public())
    }

    /// Shows a token that says `claims`, as anyone may.
    pub(crate) fn present(&self, device: &mut TestDevice, claims: &StationTokenClaims) {
        device.present(&self.issuer.token(claims)).expect("2.01");
    }

    /// A later visit: by the station, with a token.
    pub(crate) fn visit(&self, device: &mut TestDevice) -> Session {
        self.present(device, &self.token_claims());
        self.station.connect(device)
    }
}

pub(crate) fn slot_request(anchor: &PublicKey, certificate: Option<&[u8]>) -> Vec<u8> {
    let request = SlotRequest { anchor: anchor.cose_key(), certificate, voucher: None };
    encoded(|out| request.encode(out))
}

/// The x of `key` with the y that no device, no station and no issuer uses.
pub(crate) fn with_other_y(key: CoseKey) -> CoseKey {
    let odd = AffinePoint::decompress(&key.x.into(), 1.into()).expect("a point has this x");
    let y = (*odd.to_encoded_point(false).y().expect("not compressed")).into();
    assert_ne!(y, key.y);
    CoseKey { y, ..key }
}

/// What `encode` writes.
pub(crate) fn encoded<E: core::fmt::Debug>(encode: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Vec<u8> {
    let mut out = vec![0; 4096];
    let len = encode(&mut out).expect("it fits");
    out.truncate(len);
    out
}

/// A map of encoded values, for claims that the schema does not let us make.
pub(crate) fn raw_map(entries: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let mut map = vec![0xa0 | u8::try_from(entries.len()).unwrap()];
    for (key, value) in entries {
        map.extend(raw(|encoder| encoder.i64(*key).is_ok()));
        map.extend_from_slice(value);
    }
    map
}

/// One encoded item.
pub(crate) fn raw(write: impl FnOnce(&mut Encoder<Cursor<&mut [u8]>>) -> bool) -> Vec<u8> {
    let mut buffer = [0; 512];
    let mut encoder = Encoder::new(Cursor::new(&mut buffer[..]));
    assert!(write(&mut encoder), "it fits");
    let len = encoder.writer().position();
    buffer[..len].to_vec()
}

fn device_id() -> DeviceId {
    DEVICE_ID.parse().unwrap()
}
