use std::sync::{Arc, Mutex};

use cbor_schemas::{
    ClaimPolicy, Condition, CoseKey, DeviceInfo, KeyOrigin, Kind, Method, Sign1, SlotState, StationTokenClaims,
    Watermarks,
};
use coap_lite::Packet;
use p256::{
    AffinePoint,
    elliptic_curve::{point::DecompressPoint, sec1::ToEncodedPoint},
};
use protocol::key::KeyError;
use protocol::sign1;
use rand_core::OsRng;
use tokio::task::JoinHandle;

use super::*;
use crate::client::{Code, Timers, summary};
use crate::progress::Recording;
use crate::registry;
use crate::session::test_device::{Protection, TestDevice, response};

pub(crate) const NOW: u64 = 1_795_361_040;
pub(crate) const ID: &str = "urn:dev:ops:32473-test-01";

pub(crate) fn info(key: Option<&PublicKey>) -> DeviceInfo<'static> {
    DeviceInfo {
        owner: SlotState::Certified,
        claim_counter: 1,
        watermarks: Watermarks { factory: None, owner: Some(NOW - 1000) },
        ..registry::testing::info(&ID.parse().unwrap(), key)
    }
}

fn encode(info: &DeviceInfo<'_>) -> Vec<u8> {
    let mut buffer = [0; DeviceInfo::MAX_LEN];
    let length = info.encode(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

/// A device with a `/comm` and an `/authz-info` that believes one anchor.
pub(crate) struct Device {
    pub(crate) client: Client,
    pub(crate) key: PublicKey,
    /// Tokens that were presented.
    pub(crate) tokens: Arc<Mutex<Vec<StationTokenClaims>>>,
    _serving: JoinHandle<()>,
}

/// `outside` and `inside` edit what `/comm` says without protection and under it.
pub(crate) fn device(
    anchor: Option<PublicKey>,
    outside: fn(&mut DeviceInfo<'_>),
    inside: fn(&mut DeviceInfo<'_>),
) -> Device {
    busy_device(anchor, outside, inside, 0)
}

/// The same that forgets so many handshakes for others'.
pub(crate) fn busy_device(
    anchor: Option<PublicKey>,
    outside: fn(&mut DeviceInfo<'_>),
    inside: fn(&mut DeviceInfo<'_>),
    forgets_handshakes: u32,
) -> Device {
    let tokens = Arc::<Mutex<Vec<StationTokenClaims>>>::default();
    let presented = tokens.clone();
    let mut device = TestDevice::new(|_, _| Packet::new());
    device.misbehaviour.forgets_handshakes = forgets_handshakes;
    let (key, known) = (*device.key.public(), device.known.clone());
    device.set_handler(move |request, protection| match (summary(request).as_str(), protection) {
        ("GET /comm", protection) => {
            let mut info = info(Some(&key));
            outside(&mut info);
            if protection != Protection::None {
                inside(&mut info);
                if let Some(token) = presented.lock().unwrap().last() {
                    info.watermarks.owner = info.watermarks.owner.max(Some(token.issued_at));
                }
            }
            response(Code::CONTENT, content_format::CBOR, &encode(&info))
        }
        ("POST /authz-info", Protection::None) => {
            let object = Sign1::decode(&request.payload).unwrap();
            assert_eq!(object.kind, Kind::StationToken);
            if anchor.is_none_or(|anchor| sign1::verify(&anchor, &object).is_err()) {
                return response(Code::UNAUTHORIZED, content_format::TEXT, b"");
            }
            let claims = StationTokenClaims::decode(object.payload).unwrap();
            known.lock().unwrap().push(PublicKey::from_cose(&claims.key).unwrap());
            presented.lock().unwrap().push(claims);
            response(Code::CREATED, content_format::TEXT, b"")
        }
        (request, Protection::Oscore(peer)) => {
            response(Code::CHANGED, content_format::TEXT, format!("{request} {:?}", peer.transfer).as_bytes())
        }
        _ => response(Code::NOT_FOUND, content_format::TEXT, b""),
    });
    let (client, serving) = device.serve();
    Device { client, key, tokens, _serving: serving }
}

pub(crate) fn progress() -> (Progress, Arc<Recording>) {
    let recording = Arc::new(Recording::default());
    (Progress::new(recording.clone()), recording)
}

pub(crate) fn as_is(_: &mut DeviceInfo<'_>) {}

/// The same x with the y that no key of ours has.
pub(crate) fn with_other_y(key: CoseKey) -> CoseKey {
    let odd = AffinePoint::decompress(&key.x.into(), 1.into()).unwrap();
    let y = (*odd.to_encoded_point(false).y().unwrap()).into();
    assert_ne!(y, key.y);
    CoseKey { y, ..key }
}

#[tokio::test]
async fn a_stranger_proves_the_device_and_reads_its_account_again() {
    let mut device = device(None, as_is, as_is);
    let (progress, recording) = progress();
    let seen = Account::probe(&mut device.client).await.unwrap();
    assert_eq!((seen.key(), seen.firmware().as_str()), (Some(&device.key), "blinky 1.0"));
    let mut visit = Visit::stranger(&mut device.client, &seen, &progress).await.unwrap();
    assert_eq!((visit.key(), visit.account()), (&device.key, &seen));
    let answer = visit.request(&Request::new(Method::Post, "/comm/identify")).await.unwrap();
    assert_eq!(answer.payload, b"POST /comm/identify ByValue");
    let steps: Vec<_> = recording.steps().into_iter().map(|(_, step)| step).collect();
    assert_eq!(steps[1..], [Step::Authenticated { thumbprint: device.key.thumbprint().to_string() }, Step::Confirmed]);
}

/// What the issuer signed for the station, as `station install` keeps it.
/// A device that takes a token after so many refusals; what it was asked for, and when.
fn patient(refusals: usize, max_age: u8) -> (Client, JoinHandle<()>, Arc<Mutex<Vec<Instant>>>) {
    let asked = Arc::<Mutex<Vec<Instant>>>::default();
    let seen = asked.clone();
    let (client, serving) = TestDevice::new(move |_, _| {
        let mut asked = asked.lock().unwrap();
        asked.push(Instant::now());
        let mut answer = match asked.len() > refusals {
            true => response(Code::CREATED, content_format::TEXT, b""),
            false => response(Code::TOO_MANY_REQUESTS, content_format::TEXT, b""),
        };
        answer.add_option(coap_lite::CoapOption::MaxAge, vec![max_age]);
        answer
    })
    .serve();
    (client, serving, seen)
}

#[tokio::test(start_paused = true)]
async fn a_token_is_presented_again_at_another_time_than_others_present_theirs() {
    for max_age in [1, 5] {
        let (mut client, _serving, asked) = patient(4, max_age);
        present(&mut client, vec![0], &progress().0).await.unwrap();
        let asked = asked.lock().unwrap();
        let waits: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let max_age = Duration::from_secs(max_age.into());
        assert_eq!(waits.len(), 4);
        assert!(
            waits.iter().all(|wait| (max_age..=2 * max_age + Duration::from_millis(10)).contains(wait)),
            "{waits:?}"
        );
        assert!(waits.windows(2).any(|pair| pair[0] != pair[1]), "{waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_others_keep_busy_with_tokens_is_no_refusal_of_ours() {
    let (mut client, _serving, asked) = patient(usize::MAX, 1);
    let start = Instant::now();
    let error = present(&mut client, vec![0], &progress().0).await.unwrap_err();
    assert!(matches!(error, Error::TokensBusy { .. }), "{error}");
    assert!(error.to_string().contains("keeps the device busy"), "{error}");
    assert!((TOKEN_PATIENCE..TOKEN_PATIENCE + 2 * MAX_WAIT).contains(&start.elapsed()));
    assert!(asked.lock().unwrap().len() > 15);
}

/// A flood of message_1, from as many addresses as the device remembers.
#[tokio::test(start_paused = true)]
async fn a_visit_whose_handshakes_are_displaced_goes_on_or_ends_clearly() {
    for (displaced, is_done) in [(HANDSHAKES - 1, true), (u32::MAX, false)] {
        let mut device = TestDevice::new(|_, _| Packet::new());
        device.misbehaviour.forgets_handshakes = displaced;
        let key = *device.key.public();
        device.set_handler(move |_, _| response(Code::CONTENT, content_format::CBOR, &encode(&info(Some(&key)))));
        let (mut client, _serving) = device.serve();
        let seen = Account::read(&mut client).await.unwrap();
        let visited = Visit::stranger(&mut client, &seen, &progress().0).await;
        assert_eq!(visited.is_ok(), is_done, "{displaced}: {visited:?}");
        if let Err(error) = visited {
            assert!(error.to_string().contains("kept busy by others' handshakes"), "{error}");
        }
    }
}

/// A flood that takes the device's attention: what we send gets through at the last attempt, and to no end.
#[tokio::test(start_paused = true)]
async fn a_visit_that_comes_to_no_beginning_is_given_up_and_says_how_it_went() {
    let mut device = TestDevice::new(|_, _| Packet::new());
    device.misbehaviour.forgets_handshakes = u32::MAX;
    device.misbehaviour.overhears = Timers::NETWORK.max_retransmit;
    let key = *device.key.public();
    device.set_handler(move |_, _| response(Code::CONTENT, content_format::CBOR, &encode(&info(Some(&key)))));
    let (mut client, _serving) = device.serve();
    let seen = Account::read(&mut client).await.unwrap();
    let (start, (progress, recording)) = (Instant::now(), progress());
    let error = Visit::stranger(&mut client, &seen, &progress).await.unwrap_err();
    assert!(matches!(error, Error::KeptFrom { .. }), "{error}");
    assert!(error.to_string().contains("somebody else may keep it busy"), "{error}");
    assert!(start.elapsed() <= patience(&client), "{:?}", start.elapsed());
    let said = |what: &str| recording.steps().iter().any(|(_, step)| step.to_string().contains(what));
    assert!(said("others keep the device busy; trying again (2 of 8)"), "{:?}", recording.steps());
}

#[tokio::test(start_paused = true)]
async fn a_device_that_answers_no_more_is_not_asked_after_as_if_it_never_had() {
    let mut device = TestDevice::new(|_, _| Packet::new());
    let key = *device.key.public();
    device.set_handler(move |_, _| response(Code::CONTENT, content_format::CBOR, &encode(&info(Some(&key)))));
    let (mut client, serving) = device.serve();
    let seen = Account::read(&mut client).await.unwrap();
    let (_mute, theirs) = crate::link::memory::pair();
    serving.abort();
    client.exchange_link(Box::new(theirs));
    let error = Visit::stranger(&mut client, &seen, &progress().0).await.unwrap_err();
    assert!(error.to_string().contains("it answered before, and does not any more"), "{error}");
}

#[tokio::test]
async fn an_account_that_differs_under_protection_ends_the_visit() {
    type Edit = fn(&mut DeviceInfo<'_>);
    let edits: [(&str, Edit); 16] = [
        ("device ID", |info| info.device = "urn:dev:ops:32473-test-02".parse().unwrap()),
        ("key", |info| info.credential = Some(PrivateKey::generate(&mut OsRng).public().cose_key())),
        ("generation", |info| info.generation = 2),
        ("key origin", |info| info.key_origin = KeyOrigin::Injected),
        ("factory slot", |info| info.factory = SlotState::Anchored),
        ("owner slot", |info| info.owner = SlotState::Empty),
        ("claim policy", |info| info.claim_policy = ClaimPolicy::Voucher),
        ("claim counter", |info| info.claim_counter = 2),
        ("watermarks", |info| info.watermarks.factory = Some(1)),
        ("watermarks", |info| info.watermarks.owner = None),
        ("nonce", |info| info.nonce = [8; 8]),
        ("firmware", |info| info.firmware = "blinky 1.1"),
        ("limits", |info| info.limits.body = 1),
        ("limits", |info| info.limits.list_keys = 0),
        ("speed", |info| info.operation_ms = 2),
        ("features", |info| info.features = cbor_schemas::Features::OWNER_WITHOUT_LIST),
    ];
    for (name, edit) in edits {
        let mut device = device(None, as_is, edit);
        let seen = Account::read(&mut device.client).await.unwrap();
        let visit = Visit::stranger(&mut device.client, &seen, &progress().0).await;
        assert!(matches!(&visit, Err(Error::Differs(fields)) if *fields == [name]), "{name} gave {visit:?}");
    }
}

#[test]
fn only_tokens_move_a_watermark_and_never_back() {
    let account = |owner| {
        let info = DeviceInfo { watermarks: Watermarks { factory: None, owner }, ..info(None) };
        Account::of(&info).unwrap()
    };
    let differences = |before, after, token| account(before).differences(&account(after), token);
    assert!(differences(None, Some(5), Some(5)).is_empty());
    assert!(differences(Some(4), Some(5), Some(5)).is_empty());
    assert!(differences(Some(6), Some(6), Some(5)).is_empty());
    // Another station of the owner was there meanwhile.
    assert!(differences(Some(4), Some(6), Some(5)).is_empty());
    for (before, after, token) in
        [(Some(4), Some(5), None), (Some(6), Some(5), Some(5)), (Some(4), None, Some(5)), (Some(4), None, None)]
    {
        assert_eq!(differences(before, after, token), ["watermarks"], "{before:?} {after:?} {token:?}");
    }
}

#[tokio::test]
async fn devices_that_cannot_prove_their_key_are_not_visited() {
    let minimal = |info: &mut DeviceInfo<'_>| info.profile = Profile::Minimal;
    let faulty = |info: &mut DeviceInfo<'_>| {
        info.credential = None;
        info.condition = Condition::Fault;
    };
    let mut device_1 = device(None, minimal, as_is);
    let seen = Account::read(&mut device_1.client).await.unwrap();
    assert!(matches!(Visit::stranger(&mut device_1.client, &seen, &progress().0).await, Err(Error::Minimal)));
    let mut device_2 = device(None, faulty, as_is);
    let seen = Account::read(&mut device_2.client).await.unwrap();
    assert!(matches!(Visit::stranger(&mut device_2.client, &seen, &progress().0).await, Err(Error::NoKey)));
}

#[tokio::test]
async fn an_account_that_cannot_be_used_says_why() {
    let read = async |answer: Packet| {
        let (mut client, _serving) = TestDevice::new(move |_, _| answer.clone()).serve();
        Account::read(&mut client).await.unwrap_err()
    };
    let not_found = read(response(Code::NOT_FOUND, content_format::TEXT, b"")).await;
    assert!(matches!(not_found, Error::NoDevice(_)));
    let junk = read(response(Code::CONTENT, content_format::CBOR, b"junk")).await;
    assert!(matches!(junk, Error::Malformed(_)));
    let mut odd = info(Some(PrivateKey::generate(&mut OsRng).public()));
    odd.credential = odd.credential.map(with_other_y);
    let other_y = read(response(Code::CONTENT, content_format::CBOR, &encode(&odd))).await;
    assert!(matches!(other_y, Error::Credential(KeyError::OtherY)));
    for version in [0, 2, 23] {
        let mut other = encode(&info(Some(PrivateKey::generate(&mut OsRng).public())));
        assert_eq!(other[1..3], [0, 1], "the version comes first");
        other[2] = version;
        let error = read(response(Code::CONTENT, content_format::CBOR, &other)).await;
        assert!(error.to_string().contains(&format!("schema version {version}")), "{error}");
    }
}

#[tokio::test]
async fn a_firmware_name_cannot_steer_the_terminal() {
    let mut device = device(None, |info| info.firmware = "\x1b[2Jblinky", as_is);
    let seen = Account::read(&mut device.client).await.unwrap();
    assert_eq!(seen.firmware(), "\x1b[2Jblinky", "for scripts, the name itself");
    assert!(seen.step().to_string().contains("(\\u{1b}[2Jblinky, "), "{}", seen.step());
}
