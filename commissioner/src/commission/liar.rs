//! A device that lies, and the host that it lies to.

use std::sync::{Arc, Mutex};

use cbor_schemas::{
    CoseKey, Kind, Receipt, RekeyResponse, Sign1, SlotContents, SlotRequest, SlotState, SlotView, StationTokenClaims,
    Watermarks,
};
use coap_lite::Packet;
use protocol::key::{PrivateKey, PublicKey};
use rand_core::OsRng;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::client::{Client, Code, content_format, summary};
use crate::commission::{Error, Outcome, Terms, commission};
use crate::keys::IssuerKey;
use crate::progress::{Progress, Recording};
use crate::registry::{CertificateStatus, Device, KeyStatus};
use crate::session::test_device::{Protection, TestDevice, response};
use crate::station::{Station, tests::station};
use crate::visit::Account;
use crate::visit::tests as visits;

/// Changes what the device answers to a protected request, of which the summary is given.
type Lie = Box<dyn Fn(&str, Vec<u8>) -> Vec<u8> + Send>;

/// A device that obeys its owner, and tells about it whatever the lie makes of the truth.
pub(crate) struct Liar {
    pub(crate) client: Client,
    pub(crate) key: PublicKey,
    lie: Arc<Mutex<Lie>>,
    /// The protected request that it refuses.
    refused: Arc<Mutex<&'static str>>,
    _serving: JoinHandle<()>,
}

/// What the device stores.
#[derive(Default)]
struct Stored {
    contents: Option<Vec<u8>>,
    claims: u32,
    watermark: Option<u64>,
}

impl Stored {
    fn account(&self, key: &PublicKey) -> Vec<u8> {
        let mut info = visits::info(Some(key));
        info.owner = if self.contents.is_some() { SlotState::Certified } else { SlotState::Empty };
        info.claim_counter = self.claims;
        info.watermarks = Watermarks { factory: None, owner: self.watermark };
        encoded(|out| info.encode(out))
    }

    fn put(&mut self, key: &PublicKey, body: &[u8]) -> Vec<u8> {
        let SlotRequest { anchor, certificate, voucher: None } = SlotRequest::decode(body).unwrap() else { panic!() };
        let contents = encoded(|out| SlotContents { anchor, certificate }.encode(out));
        self.claims += u32::from(self.contents.is_none());
        let digest = Sha256::digest(&contents).into();
        self.contents = Some(contents);
        let receipt = Receipt { device: *key.x(), claim_counter: self.claims, generation: 1, digest };
        encoded(|out| receipt.encode(out))
    }

    fn view(&self) -> Vec<u8> {
        let SlotContents { anchor, certificate } = SlotContents::decode(self.contents.as_ref().unwrap()).unwrap();
        let view = SlotView { state: SlotState::Certified, anchor: Some(anchor), certificate };
        encoded(|out| view.encode(out))
    }
}

impl Liar {
    pub(crate) fn new() -> Self {
        let lie = Arc::<Mutex<Lie>>::new(Mutex::new(Box::new(|_, truth| truth)));
        let (told, mut stored) = (lie.clone(), Stored::default());
        let refused = Arc::<Mutex<&'static str>>::default();
        let refuses = refused.clone();
        let mut device = TestDevice::new(|_, _| Packet::new());
        let (key, known) = (*device.key.public(), device.known.clone());
        device.set_handler(move |request, protection| {
            let asked = summary(request);
            if protection != Protection::None && asked == *refuses.lock().unwrap() {
                return response(Code::NOT_FOUND, content_format::TEXT, b"");
            }
            let (code, truth) = match asked.as_str() {
                "GET /comm" => (Code::CONTENT, stored.account(&key)),
                "POST /authz-info" => {
                    let object = Sign1::decode_as(Kind::StationToken, &request.payload).unwrap();
                    let claims = StationTokenClaims::decode(object.payload).unwrap();
                    known.lock().unwrap().push(PublicKey::from_cose(&claims.key).unwrap());
                    stored.watermark = stored.watermark.max(Some(claims.issued_at));
                    (Code::CREATED, Vec::new())
                }
                "PUT /comm/owner" => (Code::CHANGED, stored.put(&key, &request.payload)),
                "GET /comm/owner" => (Code::CONTENT, stored.view()),
                "POST /comm/rekey" => {
                    let new =
                        RekeyResponse { key: PrivateKey::generate(&mut OsRng).public().cose_key(), generation: 2 };
                    (Code::CHANGED, encoded(|out| new.encode(out)))
                }
                _ => (Code::NOT_FOUND, Vec::new()),
            };
            let told = if protection == Protection::None { truth } else { told.lock().unwrap()(&asked, truth) };
            response(code, content_format::CBOR, &told)
        });
        let (client, serving) = device.serve();
        Self { client, key, lie, refused, _serving: serving }
    }

    /// From now on, the answer to `asked` is what `lie` makes of the truth.
    pub(crate) fn lies(&mut self, asked: &'static str, lie: impl Fn(Vec<u8>) -> Vec<u8> + Send + 'static) {
        let lie = move |request: &str, truth| if request == asked { lie(truth) } else { truth };
        *self.lie.lock().unwrap() = Box::new(lie);
    }

    /// From now on it refuses this request.
    pub(crate) fn refuses(&mut self, asked: &'static str) {
        *self.refused.lock().unwrap() = asked;
    }

    pub(crate) fn is_honest(&mut self) {
        self.lies("", |truth| truth);
    }

    pub(crate) async fn commission(&mut self, host: &Host) -> Result<Outcome, Error> {
        let seen = Account::read(&mut self.client).await.unwrap();
        commission(&mut self.client, &seen, &host.station, &Terms::OWNER, &host.progress).await
    }
}

pub(crate) struct Host {
    pub(crate) station: Station,
    pub(crate) issuer: IssuerKey,
    pub(crate) progress: Progress,
    _state: TempDir,
}

impl Host {
    pub(crate) async fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let station = station(&state).await;
        let issuer = IssuerKey::load(&state.path().join("state/issuer.key")).unwrap();
        let progress = Progress::new(Arc::new(Recording::default()));
        Self { station, issuer, progress, _state: state }
    }

    /// The status of the one key of the one device, and of its one certificate.
    pub(crate) async fn known(&self) -> (KeyStatus, CertificateStatus) {
        let devices = self.station.registry.devices().await.unwrap();
        let [Device { keys, .. }] = &devices[..] else { panic!("{devices:?}") };
        let [key] = &keys[..] else { panic!("{keys:?}") };
        let [certificate] = &key.certificates[..] else { panic!("{key:?}") };
        (key.status, certificate.status)
    }
}

pub(crate) const INSTALLED: (KeyStatus, CertificateStatus) = (KeyStatus::Active, CertificateStatus::Installed);

/// What `encode` writes.
pub(crate) fn encoded<E: std::fmt::Debug>(encode: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Vec<u8> {
    let mut out = vec![0; 1024];
    let len = encode(&mut out).unwrap();
    out.truncate(len);
    out
}

pub(crate) fn other_key() -> CoseKey {
    PrivateKey::generate(&mut OsRng).public().cose_key()
}
