use std::sync::{Arc, Mutex};

use cbor_schemas::{CoseKey, DeviceCertificateClaims, IssuerId, Kind, Sign1, StationTokenClaims, Watermarks};
use coap_lite::Packet;
use minicbor::Encoder;
use protocol::key::PrivateKey;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::client::{Code, summary};
use crate::cmd::exit::{CommandError, ExitCode};
use crate::keys::IssuerKey;
use crate::progress::Recording;
use crate::session::test_device::{Protection, TestDevice, response};
use crate::visit::tests::{self as visits, with_other_y};

/// Changes what the device answers to a protected request, of which the summary is given.
type Lie = Box<dyn Fn(&str, Vec<u8>) -> Vec<u8> + Send>;

/// A device that obeys its owner, and tells about it whatever the lie makes of the truth.
struct Liar {
    client: Client,
    key: PublicKey,
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
    fn new() -> Self {
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
    fn lies(&mut self, asked: &'static str, lie: impl Fn(Vec<u8>) -> Vec<u8> + Send + 'static) {
        let lie = move |request: &str, truth| if request == asked { lie(truth) } else { truth };
        *self.lie.lock().unwrap() = Box::new(lie);
    }

    /// From now on it refuses this request.
    fn refuses(&mut self, asked: &'static str) {
        *self.refused.lock().unwrap() = asked;
    }

    fn is_honest(&mut self) {
        self.lies("", |truth| truth);
    }

    async fn commission(&mut self, host: &Host) -> Result<Outcome, Error> {
        let seen = Account::read(&mut self.client).await.unwrap();
        commission(&mut self.client, &seen, &host.station, &Terms::OWNER, &host.progress).await
    }
}

struct Host {
    station: Station,
    issuer: IssuerKey,
    progress: Progress,
    _state: TempDir,
}

impl Host {
    async fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let station = visits::station(&state).await;
        let issuer = IssuerKey::load(&state.path().join("state/issuer.key")).unwrap();
        let progress = Progress::new(Arc::new(Recording::default()));
        Self { station, issuer, progress, _state: state }
    }

    /// The status of the one key of the one device, and of its one certificate.
    async fn known(&self) -> (KeyStatus, CertificateStatus) {
        let devices = self.station.registry.devices().await.unwrap();
        let [Device { keys, .. }] = &devices[..] else { panic!("{devices:?}") };
        let [key] = &keys[..] else { panic!("{keys:?}") };
        let [certificate] = &key.certificates[..] else { panic!("{key:?}") };
        (key.status, certificate.status)
    }

    fn sign(&self, kind: Kind, claims: &DeviceCertificateClaims) -> Vec<u8> {
        sign(&self.issuer, kind, &encoded(|out| claims.encode(out)))
    }
}

const INSTALLED: (KeyStatus, CertificateStatus) = (KeyStatus::Active, CertificateStatus::Installed);

fn sign(issuer: &IssuerKey, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut to_be_signed = Vec::new();
    Sign1::to_be_signed(kind, payload, &mut |bytes| to_be_signed.extend_from_slice(bytes));
    let object = Sign1 { kind, payload, signature: issuer.sign(&to_be_signed).unwrap() };
    encoded(|out| object.encode(out))
}

/// What `encode` writes.
fn encoded<E: std::fmt::Debug>(encode: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Vec<u8> {
    let mut out = vec![0; 1024];
    let len = encode(&mut out).unwrap();
    out.truncate(len);
    out
}

fn other_key() -> CoseKey {
    PrivateKey::generate(&mut OsRng).public().cose_key()
}

fn exit(error: Error) -> ExitCode {
    CommandError::from(error).exit()
}

#[tokio::test]
async fn a_device_that_tells_the_truth_is_commissioned() {
    let (host, mut device) = (Host::new().await, Liar::new());
    assert_eq!(device.commission(&host).await.unwrap(), Outcome::Commissioned);
    assert_eq!(host.known().await, INSTALLED);
    assert_eq!(device.commission(&host).await.unwrap(), Outcome::AlreadyDone);
    assert_eq!(host.known().await, INSTALLED);
}

#[tokio::test]
async fn a_receipt_for_something_else_installs_nothing() {
    type Edit = fn(&mut Receipt);
    let edits: [(&str, Edit); 6] = [
        ("the key", |receipt| receipt.device[0] ^= 1),
        ("the key", |receipt| receipt.device = other_key().x),
        ("the claim counter", |receipt| receipt.claim_counter = 0),
        ("the claim counter", |receipt| receipt.claim_counter = u32::MAX),
        ("the generation", |receipt| receipt.generation = 2),
        ("the contents", |receipt| receipt.digest[31] ^= 1),
    ];
    for (wrong, edit) in edits {
        let (host, mut device) = (Host::new().await, Liar::new());
        device.lies("PUT /comm/owner", move |truth| {
            let mut receipt = Receipt::decode(&truth).unwrap();
            edit(&mut receipt);
            encoded(|out| receipt.encode(out))
        });
        let error = device.commission(&host).await.unwrap_err();
        assert!(matches!(error, Error::WrongReceipt(what) if what == wrong), "{error}");
        assert_eq!(exit(error), ExitCode::Refused);
        assert_eq!(host.known().await, (KeyStatus::Pending, CertificateStatus::Issued));
        // What is really there is found out by the next run.
        device.is_honest();
        assert_eq!(device.commission(&host).await.unwrap(), Outcome::AlreadyDone);
        assert_eq!(host.known().await, INSTALLED);
    }
    let junk: [fn(Vec<u8>) -> Vec<u8>; 5] = [
        |_| Vec::new(),
        |_| b"junk".to_vec(),
        |truth| truth[1..].to_vec(),
        |truth| [&truth[..], &[0]].concat(),
        |_| vec![0xa0; 900],
    ];
    for junk in junk {
        let (host, mut device) = (Host::new().await, Liar::new());
        device.lies("PUT /comm/owner", junk);
        let error = device.commission(&host).await.unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{error}");
        assert_eq!(exit(error), ExitCode::Refused);
        assert_eq!(host.known().await, (KeyStatus::Pending, CertificateStatus::Issued));
    }
}

/// The one place where the host reads a signed object: what a device shows as its certificate.
#[tokio::test]
async fn only_a_certificate_of_ours_is_taken_for_one() {
    let (host, mut device) = (Host::new().await, Liar::new());
    device.commission(&host).await.unwrap();
    let anchor = host.station.issuer.anchor();
    let devices = host.station.registry.devices().await.unwrap();
    let good = devices[0].keys[0].certificates[0].object.clone().unwrap();
    let claims = DeviceCertificateClaims::decode(Sign1::decode(&good).unwrap().payload).unwrap();
    assert_eq!(claims.key, device.key.cose_key());

    let (thief, renamed) = (IssuerKey::generate(), |kind| {
        let object = Sign1 { kind, ..Sign1::decode(&good).unwrap() };
        encoded(|out| object.encode(out))
    });
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let payload = encoded(|out| claims.encode(out));
    let elsewhere = "urn:dev:ops:32473-test-02".parse().unwrap();
    let mut shown: Vec<(Vec<u8>, &str)> = vec![
        (host.sign(Kind::DeviceCertificate, &DeviceCertificateClaims { key: other_key(), ..claims }), "another key"),
        (
            host.sign(Kind::DeviceCertificate, &DeviceCertificateClaims { issuer: IssuerId([7; 8]), ..claims }),
            "another issuer",
        ),
        (
            host.sign(Kind::DeviceCertificate, &DeviceCertificateClaims { subject: elsewhere, ..claims }),
            "another device",
        ),
        (sign(&thief, Kind::DeviceCertificate, &payload), "another key signed it"),
        (sign(&host.issuer, Kind::DeviceCertificate, b"junk"), "its claims"),
        (flipped, "another key signed it"),
        (payload.clone(), "no device certificate"),
        (Vec::new(), "no device certificate"),
    ];
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::DeviceCertificate) {
        shown.push((host.sign(kind, &claims), "no device certificate"));
        shown.push((renamed(kind), "no device certificate"));
        let other = Sign1 { kind: Kind::DeviceCertificate, ..Sign1::decode(&shown[shown.len() - 2].0).unwrap() };
        let other = encoded(|out| other.encode(out));
        shown.push((other, "another key signed it"));
    }
    for (certificate, reason) in shown {
        device.lies("GET /comm/owner", move |_| {
            let (state, certificate) = (SlotState::Certified, Some(&certificate[..]));
            encoded(|out| SlotView { state, anchor: Some(anchor), certificate }.encode(out))
        });
        let error = device.commission(&host).await.unwrap_err();
        assert!(
            matches!(error, Error::ForeignCertificate(what) if what.to_string().contains(reason)),
            "{error}, not {reason}"
        );
        assert_eq!(exit(error), ExitCode::Refused);
        assert_eq!(host.known().await, INSTALLED, "nothing was signed or changed");
    }

    // Another anchor is another owner, whatever certificate is beside it; and so is ours with another y.
    for anchor in [None, Some(thief.public().cose_key()), Some(with_other_y(anchor))] {
        let good = good.clone();
        device.lies("GET /comm/owner", move |_| {
            let (state, certificate) = (SlotState::Certified, Some(&good[..]));
            encoded(|out| SlotView { state, anchor, certificate }.encode(out))
        });
        let error = device.commission(&host).await.unwrap_err();
        assert!(matches!(error, Error::Owned), "{error}");
        assert_eq!(exit(error), ExitCode::Refused);
        assert_eq!(host.known().await, INSTALLED);
    }
    device.is_honest();
    assert_eq!(device.commission(&host).await.unwrap(), Outcome::AlreadyDone);
}

#[tokio::test]
async fn the_answer_to_a_rekey_has_to_name_a_key_of_ours() {
    let (host, mut device) = (Host::new().await, Liar::new());
    device.commission(&host).await.unwrap();
    let edits: [fn(&mut CoseKey); 3] = [
        |key| *key = with_other_y(*key),
        |key| key.kid = [0; 8],
        |key| key.x = (0..=255).map(|byte| [byte; 32]).find(|x| PublicKey::from_x(x).is_err()).unwrap(),
    ];
    for edit in edits {
        device.lies("POST /comm/rekey", move |truth| {
            let mut response = RekeyResponse::decode(&truth).unwrap();
            edit(&mut response.key);
            encoded(|out| response.encode(out))
        });
        let seen = Account::read(&mut device.client).await.unwrap();
        let error = rekey(&mut device.client, &seen, &host.station, &host.progress).await.unwrap_err();
        assert!(matches!(error, Error::Visit(visit::Error::Credential(_))), "{error}");
        assert_eq!(exit(error), ExitCode::Refused);
        assert_eq!(host.known().await, INSTALLED, "the key before is still the one");
    }
    device.lies("POST /comm/rekey", |_| b"junk".to_vec());
    let seen = Account::read(&mut device.client).await.unwrap();
    let error = rekey(&mut device.client, &seen, &host.station, &host.progress).await.unwrap_err();
    assert!(matches!(error, Error::Malformed(_)), "{error}");
    assert_eq!(host.known().await, INSTALLED);
}

/// Whoever stole a key that is revoked may answer in the device's place, and name a key of their own. It comes to nothing.
#[tokio::test]
async fn what_a_revoked_key_names_as_its_successor_does_not_count() {
    let (host, mut device) = (Host::new().await, Liar::new());
    device.commission(&host).await.unwrap();
    let id = host.station.registry.devices().await.unwrap()[0].id;
    host.station.registry.revoke(&id, "stolen").await.unwrap();
    let seen = Account::read(&mut device.client).await.unwrap();
    // It names a key, and goes on with the one that it has.
    let error = rekey(&mut device.client, &seen, &host.station, &host.progress).await.unwrap_err();
    assert!(error.to_string().contains("stolen"), "{error}");
    assert_eq!(exit(error), ExitCode::Conflict);
    assert_eq!(host.known().await, (KeyStatus::Revoked, CertificateStatus::Revoked), "and no other key is known");
}

/// Our own keys are nobody else's: not in the answer to a rekey, and not at `/comm`.
#[tokio::test]
async fn no_device_has_a_key_of_ours() {
    let (host, mut device) = (Host::new().await, Liar::new());
    device.commission(&host).await.unwrap();
    let issuer = *host.issuer.public();
    for own in [issuer, *host.station.key.public()] {
        device.lies("POST /comm/rekey", move |truth| {
            let response = RekeyResponse { key: own.cose_key(), ..RekeyResponse::decode(&truth).unwrap() };
            encoded(|out| response.encode(out))
        });
        let seen = Account::read(&mut device.client).await.unwrap();
        let error = rekey(&mut device.client, &seen, &host.station, &host.progress).await.unwrap_err();
        assert!(matches!(error, Error::Registry(registry::Error::Conflict(Conflict::OwnKey { .. }))), "{error}");
        assert_eq!(exit(error), ExitCode::Conflict);
        assert_eq!(host.known().await, INSTALLED, "the key before is still the one");

        let seen = Account::of(&visits::info(Some(&own)));
        let terms = Terms { place: Place::Trusted, accept_new_key: true, ..Terms::OWNER };
        let outcome = commission(&mut device.client, &seen, &host.station, &terms, &host.progress).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Registry(registry::Error::Conflict(Conflict::OwnKey { .. }))), "{error}");
        assert_eq!(host.known().await, INSTALLED);
    }
}

/// Whatever vouches for a device that takes no certificate: it is not active.
#[tokio::test]
async fn a_device_that_refuses_its_certificate_is_never_active() {
    let trusted = Terms { place: Place::Trusted, ..Terms::OWNER };
    let accepted = Terms { accept_new_key: true, ..Terms::OWNER };
    for (terms, is_reported) in [(trusted, false), (trusted, true), (accepted, false), (Terms::OWNER, true)] {
        let (host, mut device) = (Host::new().await, Liar::new());
        let id = visits::info(None).device;
        if is_reported {
            let report = Observation::new(&visits::info(None), device.key, Place::Trusted, ProofLevel::Unproven);
            host.station.registry.observe_key(&report).await.unwrap();
            let known = host.station.registry.device_by_id(&id).await.unwrap().unwrap();
            assert!(known.keys[0].mine, "the trusted place says so, and nothing else is known");
        }
        device.refuses("PUT /comm/owner");
        for _ in 0..2 {
            let seen = Account::read(&mut device.client).await.unwrap();
            let outcome = commission(&mut device.client, &seen, &host.station, &terms, &host.progress).await;
            assert!(matches!(outcome, Err(Error::Refused(_))), "{outcome:?}");
            let known = host.station.registry.device_by_id(&id).await.unwrap().unwrap();
            assert_eq!((known.keys[0].status, known.keys[0].mine), (KeyStatus::Pending, false), "{terms:?}");
        }
        device.refuses("");
        let seen = Account::read(&mut device.client).await.unwrap();
        commission(&mut device.client, &seen, &host.station, &Terms::OWNER, &host.progress).await.unwrap();
        let known = host.station.registry.device_by_id(&id).await.unwrap().unwrap();
        assert_eq!((known.keys[0].status, known.keys[0].mine), (KeyStatus::Active, true), "{terms:?}");
    }
}

/// A device that says it took another key than it was sent: that one does not count, and the former one stays.
#[tokio::test]
async fn a_device_has_to_take_the_key_that_it_was_sent() {
    let (host, mut device) = (Host::new().await, Liar::new());
    device.commission(&host).await.unwrap();
    let seal = SealTo::Recipient(age::x25519::Identity::generate().to_public());
    let seen = Account::read(&mut device.client).await.unwrap();
    let error = inject(&mut device.client, &seen, &host.station, &seal, &host.progress).await.unwrap_err();
    assert!(matches!(error, Error::OtherKey), "{error}");
    assert_eq!(exit(error), ExitCode::Refused);
    assert_eq!(host.known().await, INSTALLED, "the key before is still the one");
}

/// Whoever can change what is said without protection cannot make us speak another version, nor can the device.
#[tokio::test]
async fn another_schema_version_under_protection_ends_the_visit() {
    let (host, mut device) = (Host::new().await, Liar::new());
    for version in [0, 2, u16::MAX] {
        device.lies("GET /comm", move |truth| {
            // The version is the first entry of the map, `0: 1`.
            assert_eq!(truth[1..3], [0, 1]);
            let mut encoder = Encoder::new(vec![truth[0], 0]);
            encoder.u16(version).unwrap();
            [&encoder.into_writer()[..], &truth[3..]].concat()
        });
        let error = device.commission(&host).await.unwrap_err();
        assert!(error.to_string().contains(&format!("schema version {version}")), "{error}");
        assert_eq!(exit(error), ExitCode::Refused);
    }
    assert!(host.station.registry.devices().await.unwrap().is_empty(), "it was not even taken note of");
}
