//! One cut at every byte that a request changes in flash, with requests as they come over the wire.

use std::collections::{HashMap, HashSet};

use cbor_schemas::{
    Condition, DeviceCertificateClaims, DeviceInfo, KeyOrigin, ListMode, PeersView, PrivateCoseKey, Receipt,
    RekeyRequest, RekeyResponse, Sign1, SlotContents, SlotState, StationTokenClaims,
};
use device::store::{List, Scratch, Slot};
use protocol::key::PrivateKey;
use sha2::{Digest as _, Sha256};

use crate::common::{
    Driver, HOUR, Issuer, NOW, Owner, Request, Response, Session, TestDevice, Visitor, encoded, opened, post, put,
    slot_request,
};
use crate::film::{Film, Tear, cuts};
use crate::tell;

/// A request that is ready to be sent: by a session, or by anyone.
struct Ready(Option<Session>, Request);

impl Ready {
    fn send(&mut self, device: &mut TestDevice) -> Response {
        match &mut self.0 {
            Some(session) => session.ask(device, &self.1),
            None => device.ask(&self.1),
        }
    }
}

type Prepare = fn(&mut TestDevice) -> Ready;

/// All that a restarted device can be asked, and what a programmer reads out of it.
#[derive(Clone, Debug, PartialEq)]
struct Observed {
    info: DeviceInfo<'static>,
    key: [u8; 32],
    factory: Option<Vec<u8>>,
    owner: Option<Vec<u8>>,
    list: Option<List>,
    values: Option<Vec<u8>>,
}

impl Observed {
    /// What the device on this flash is after a restart. What it is made of must fit together.
    fn after_restart(device: &mut TestDevice, image: &[u8]) -> Result<Self, String> {
        device.flash.overwrite(|bytes| bytes.copy_from_slice(image));
        device.restart();
        let info = DeviceInfo { nonce: [0; 8], ..device.info() };
        if info.condition != Condition::Ok {
            return Err("a fault".to_string());
        }
        let (mut store, key) = opened(&device.flash);
        let mut contents = |slot| store.slot(slot, &mut Scratch::new()).unwrap().map(<[u8]>::to_vec);
        let (factory, owner) = (contents(Slot::Factory), contents(Slot::Owner));
        let values = store.values(&mut Scratch::new()).unwrap().map(<[u8]>::to_vec);
        // Opening compared the keys of the list with its digest.
        let found = Observed { info, key: *key.as_bytes(), factory, owner, list: store.snapshot().list, values };
        found.fits_together().map(|()| found)
    }

    /// The key shown is the key stored, each certificate names it, and the slots hold what `/comm` says.
    fn fits_together(&self) -> Result<(), String> {
        let shown = self.info.credential.ok_or("no key")?;
        if PrivateKey::from_bytes(&self.key).unwrap().public().cose_key() != shown {
            return Err("the key in flash is another one".to_string());
        }
        for (contents, state) in [(&self.factory, self.info.factory), (&self.owner, self.info.owner)] {
            let contents = contents.as_ref().map(|bytes| SlotContents::decode(bytes).unwrap());
            let certificate = contents.and_then(|contents| contents.certificate);
            let expected = match (contents, certificate) {
                (None, _) => SlotState::Empty,
                (Some(_), None) => SlotState::Anchored,
                (Some(_), Some(_)) => SlotState::Certified,
            };
            if state != expected {
                return Err(format!("{expected:?} in flash, {state:?} in /comm"));
            }
            let named = certificate.map(|certificate| {
                let object = Sign1::decode(certificate).unwrap();
                DeviceCertificateClaims::decode(object.payload).unwrap().key
            });
            if named.is_some_and(|named| named != shown) {
                return Err("a certificate names another key".to_string());
            }
        }
        Ok(())
    }

    fn with_key_of(&self, other: &Observed) -> Self {
        let info = DeviceInfo { credential: other.info.credential, ..self.info };
        Observed { info, key: other.key, ..self.clone() }
    }
}

/// How far a commit came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Old,
    /// Of a first start: new, but with a key that was made after the cut, since no answer named the one made before.
    NewWithAnotherKey,
    New,
}

/// What the device may be after a cut.
struct Expected {
    /// `None` where nothing was: before the first start.
    old: Option<Observed>,
    new: Observed,
    /// What is nowhere in flash when the device is the new one.
    gone: Vec<[u8; 32]>,
}

impl Expected {
    /// Old or new, never between.
    fn progress(&self, found: &Observed) -> Result<Progress, String> {
        if self.old.as_ref() == Some(found) {
            Ok(Progress::Old)
        } else if *found == self.new {
            Ok(Progress::New)
        } else if self.old.is_none() && *found == self.new.with_key_of(found) {
            Ok(Progress::NewWithAnotherKey)
        } else {
            Err(format!("neither old nor new: {found:?}"))
        }
    }
}

/// Restarts the device at every cut of `film`.
fn sweep(name: &str, film: &Film, expected: &Expected, least: usize) {
    let mut device = TestDevice::that_takes_keys();
    let mut seen: HashMap<Vec<u8>, Progress> = HashMap::new();
    let mut reached = HashSet::new();
    let (mut points, mut latest) = (0, None);
    for (number, tear, image) in cuts(film, &Tear::ALL) {
        points += 1;
        let progress = *seen.entry(image).or_insert_with_key(|image| {
            let found = Observed::after_restart(&mut device, image);
            let progress = found.and_then(|found| expected.progress(&found));
            let progress =
                progress.unwrap_or_else(|error| panic!("{name}, cut in changed byte {number}, {tear:?}: {error}"));
            let left = device.flash.bytes();
            let left = expected.gone.iter().find(|gone| left.windows(32).any(|window| window == *gone));
            assert!(progress == Progress::Old || left.is_none(), "{name}, byte {number}, {tear:?}: {left:?} is left");
            progress
        });
        reached.insert(progress as u8);
        if tear == Tear::Half {
            assert!(Some(progress) >= latest, "{name}, cut in changed byte {number}: back to {progress:?}");
            latest = Some(progress);
        }
    }
    // What was answered is there, whatever happens later.
    let answered = Observed::after_restart(&mut device, film.last().unwrap()).unwrap();
    assert_eq!(expected.progress(&answered), Ok(Progress::New), "{name}: it was answered, and is gone");
    assert!(reached.len() >= 2, "{name}: {reached:?}");
    let operations = film.len() - 1;
    tell(&format!("{name}: {points} cuts in {operations} flash operations, {} different images", seen.len()));
    assert!(points >= least, "{name}: only {points} cuts");
}

/// A device on `image`, and a request to it.
fn prepared(image: &[u8], prepare: Prepare) -> (TestDevice, Ready) {
    let mut device = on(image);
    let ready = prepare(&mut device);
    assert_eq!(device.flash.bytes(), image, "only the request itself changes the flash");
    (device, ready)
}

fn on(image: &[u8]) -> TestDevice {
    let mut device = TestDevice::that_takes_keys();
    device.flash.overwrite(|bytes| bytes.copy_from_slice(image));
    device.restart();
    device
}

/// Films one request, by letting the flash refuse everything after the first, second, ... operation. It is answered with
/// a success if all of them were done, and in no other case.
fn film(image: &[u8], prepare: Prepare) -> (Film, Response) {
    let mut film = Vec::new();
    for after in 0..10_000 {
        let (mut device, mut ready) = prepared(image, prepare);
        device.flash.set_driver(Driver::Fails { after, times: u32::MAX });
        let answer = ready.send(&mut device);
        film.push(device.flash.bytes());
        if answer.code().starts_with("2.") {
            let (mut undisturbed, mut ready) = prepared(image, prepare);
            ready.send(&mut undisturbed).expect(&answer.code());
            assert_eq!(film.last(), Some(&undisturbed.flash.bytes()), "it answers before all is done");
            return (film, answer);
        }
        answer.refused("5.00");
    }
    panic!("it never succeeds");
}

/// Cuts the power of the real flash in the midst of a real request. It is not answered with a success, and what is left
/// in flash is among the images that the sweep tries. Returns the number of cuts.
fn cut_while_running(image: &[u8], film: &Film, prepare: Prepare, step: usize) -> usize {
    let tears = [Tear::Old, Tear::Half];
    let images: HashSet<_> = cuts(film, &tears).map(|(.., image)| image).chain(film.iter().cloned()).collect();
    for (number, bytes) in (0..).step_by(step).enumerate() {
        let (mut device, mut ready) = prepared(image, prepare);
        device.flash.cut_power_after(bytes);
        let code = ready.send(&mut device).code();
        let was_cut = device.flash.restore_power();
        assert_eq!(code.starts_with("2."), !was_cut, "cut after {bytes} bytes: {code}");
        assert!(images.contains(&device.flash.bytes()), "cut after {bytes} bytes: the sweep does not try this");
        if !was_cut {
            return number;
        }
    }
    unreachable!()
}

/// Sweeps one request to a device on `image`. `check` compares the answer with what the device became.
fn request(name: &str, image: &[u8], prepare: Prepare, check: fn(&Response, &Observed), least: usize) {
    request_that_erases(name, image, prepare, check, least, Vec::new());
}

/// A request with power cuts, after which none of `gone` is left in flash.
fn request_that_erases(
    name: &str,
    image: &[u8],
    prepare: Prepare,
    check: fn(&Response, &Observed),
    least: usize,
    gone: Vec<[u8; 32]>,
) {
    for bytes in &gone {
        assert!(image.windows(32).any(|window| window == bytes), "{name}: {bytes:?} was never there");
    }
    let (film, answer) = film(image, prepare);
    let mut device = TestDevice::that_takes_keys();
    let old = Observed::after_restart(&mut device, image).unwrap();
    let new = Observed::after_restart(&mut device, film.last().unwrap()).unwrap();
    assert_ne!(old, new);
    check(&answer, &new);
    let running = cut_while_running(image, &film, prepare, if least < 1000 { 7 } else { 97 });
    assert!(running > 2, "{name}: only {running} cuts of running requests");
    sweep(name, &film, &Expected { old: Some(old), new, gone }, least);
}

fn owner() -> Owner {
    Owner::new(1)
}

fn fresh() -> Vec<u8> {
    TestDevice::that_takes_keys().flash.bytes()
}

/// A device that is owned, with a certificate in both slots.
fn owned() -> Vec<u8> {
    let mut device = TestDevice::that_takes_keys();
    owner().claim(&mut device);
    let factory = Issuer::new(7);
    let certificate = factory.certify(&mut device);
    let contents = SlotContents { anchor: factory.public().cose_key(), certificate: Some(&certificate) };
    let (mut store, _) = opened(&device.flash);
    store.set_factory(&encoded(|out| contents.encode(out)), Some(NOW)).unwrap();
    device.flash.bytes()
}

/// The receipt names what is in the owner slot, and the key.
fn receipt(answer: &Response, new: &Observed) {
    let receipt = Receipt::decode(answer.payload()).unwrap();
    assert_eq!(Some(receipt.device), new.info.credential.map(|key| key.x));
    assert_eq!((receipt.generation, receipt.claim_counter), (new.info.generation, new.info.claim_counter));
    assert_eq!(receipt.digest, digest(new.owner.as_ref().unwrap()));
}

#[test]
fn a_list_takes_the_place_of_another() {
    let mut device = on(&owned());
    let owner = owner();
    let list = |version, keys: &[[u8; 32]]| {
        let claims = owner.issuer.list_claims(ListMode::Members, version, keys);
        put("/comm/peers", &owner.issuer.sign_list(&claims))
    };
    owner.visit(&mut device).ask(&mut device, &list(1, &[[1; 32]; 20])).expect("2.04");
    let prepare: Prepare = |device| {
        let owner = self::owner();
        let claims = owner.issuer.list_claims(ListMode::Revoked, 2, &[[2; 32]; 20]);
        let list = put("/comm/peers", &owner.issuer.sign_list(&claims));
        Ready(Some(owner.visit(device)), list)
    };
    let check: fn(&Response, &Observed) = |answer, new| {
        let view = PeersView::decode(answer.payload()).unwrap();
        assert_eq!((view.version, view.held), (Some(2), 20));
        assert_eq!(new.list.map(|list| (list.version, list.count)), Some((2, 20)));
    };
    request("list", &device.flash.bytes(), prepare, check, 2_400);
}

#[test]
fn a_value_beside_another() {
    let mut device = on(&owned());
    let mut session = owner().visit(&mut device);
    session.ask(&mut device, &put("/comm/slots/wifi-passphrase", &[b'a'; 40])).expect("2.04");
    let prepare: Prepare = |device| Ready(Some(owner().visit(device)), put("/comm/slots/sender-id", &[8; 8]));
    let check: fn(&Response, &Observed) = |answer, new| {
        answer.expect("2.04");
        let values = new.values.as_ref().unwrap();
        assert!(values.windows(8).any(|window| window == [8; 8]));
        assert!(values.windows(40).any(|window| window == [b'a'; 40]));
    };
    request("value", &device.flash.bytes(), prepare, check, 1_200);
}

#[test]
fn first_start() {
    let blank = vec![0xFF; fresh().len()];
    let mut film = Vec::new();
    let mut device = TestDevice::that_takes_keys();
    for after in 0.. {
        device = on(&fresh());
        device.flash.overwrite(|bytes| bytes.copy_from_slice(&blank));
        device.flash.set_driver(Driver::Fails { after, times: u32::MAX });
        device.restart();
        film.push(device.flash.bytes());
        // It names a key if all operations were done, and in no other case.
        if device.info().credential.is_some() {
            break;
        }
    }
    let named = device.info().credential;
    let new = Observed::after_restart(&mut TestDevice::that_takes_keys(), film.last().unwrap()).unwrap();
    assert_eq!((new.info.credential, new.info.generation), (named, 1));
    sweep("first start", &film, &Expected { old: None, new, gone: Vec::new() }, 400);
}

#[test]
fn claiming() {
    let prepare: Prepare = |device| {
        let body = owner().slot_request(device);
        Ready(Some(Visitor::stranger(device).connect(device)), put("/comm/owner", &body))
    };
    request("claiming", &fresh(), prepare, receipt, 1300);
}

#[test]
fn renewal_by_the_owner() {
    let prepare: Prepare = |device| {
        let issuer = owner().issuer;
        let claims = issuer.certificate_claims(device.info().credential.unwrap());
        let renewed = issuer.certificate(&DeviceCertificateClaims { issued_at: NOW + HOUR, cti: [8; 8], ..claims });
        Ready(Some(owner().visit(device)), put("/comm/owner", &slot_request(issuer.public(), Some(&renewed))))
    };
    request("renewal by the owner", &owned(), prepare, receipt, 1500);
}

/// All that is the owner's: anchor, a list, values.
fn furnished() -> (Vec<u8>, Vec<[u8; 32]>) {
    let (mut device, owner) = (on(&owned()), owner());
    let list = owner.issuer.sign_list(&owner.issuer.list_claims(ListMode::Members, 1, &[[0x51; 32], [0x52; 32]]));
    owner.visit(&mut device).ask(&mut device, &put("/comm/peers", &list)).expect("2.04");
    let (mut store, _) = opened(&device.flash);
    store.set_values(&[0x53; 60]).unwrap();
    (device.flash.bytes(), vec![*owner.issuer.public().x(), [0x51; 32], [0x52; 32], [0x53; 32]])
}

/// The receipt fits, and what it says is all there is of owners.
fn taken_over(answer: &Response, new: &Observed) {
    receipt(answer, new);
    assert_eq!((new.info.claim_counter, new.list, &new.values), (2, None, &None));
    let contents = SlotContents::decode(new.owner.as_ref().unwrap()).unwrap();
    assert_eq!(contents.anchor, Owner::new(2).issuer.public().cose_key());
}

#[test]
fn handing_over_to_another_owner() {
    let prepare: Prepare = |device| {
        let body = Owner::new(2).slot_request(device);
        Ready(Some(owner().visit(device)), put("/comm/owner", &body))
    };
    let (image, gone) = furnished();
    request_that_erases("handing over", &image, prepare, taken_over, 3500, gone);
}

/// At every cut there is exactly one owner, and none of the former one's bytes once it is the next.
#[test]
fn taking_over_by_voucher() {
    let prepare: Prepare = |device| {
        let body = Owner::new(2).vouched_request(&owner().issuer, device);
        Ready(Some(Visitor::stranger(device).connect(device)), put("/comm/owner", &body))
    };
    let (image, gone) = furnished();
    request_that_erases("taking over", &image, prepare, taken_over, 3500, gone);
}

#[test]
fn claiming_by_voucher() {
    let mut device = TestDevice::new();
    device.provision_factory(&Issuer::new(7));
    let prepare: Prepare = |device| {
        let body = owner().vouched_request(&Issuer::new(7), device);
        Ready(Some(Visitor::stranger(device).connect(device)), put("/comm/owner", &body))
    };
    request("claiming by voucher", &device.flash.bytes(), prepare, receipt, 1300);
}

#[test]
fn filling_the_factory_slot() {
    let prepare: Prepare = |device| {
        let body = Owner::new(7).slot_request(device);
        Ready(Some(Visitor::stranger(device).connect(device)), put("/comm/factory", &body))
    };
    request("filling the factory slot", &fresh(), prepare, factory_receipt, 1300);
}

#[test]
fn renewal_by_the_factory() {
    let prepare: Prepare = |device| {
        let factory = Owner::new(7);
        let claims = factory.issuer.certificate_claims(device.info().credential.unwrap());
        let renewed = factory.issuer.certificate(&DeviceCertificateClaims { issued_at: NOW + HOUR, ..claims });
        let body = slot_request(factory.issuer.public(), Some(&renewed));
        Ready(Some(factory.visit(device)), put("/comm/factory", &body))
    };
    request("renewal by the factory", &owned(), prepare, factory_receipt, 1500);
}

/// The anchor is there for good once it is there, whatever was cut.
fn factory_receipt(answer: &Response, new: &Observed) {
    let receipt = Receipt::decode(answer.payload()).unwrap();
    assert_eq!(new.info.factory, SlotState::Certified);
    assert_eq!(receipt.digest, digest(new.factory.as_ref().unwrap()));
}

#[test]
fn rekey() {
    let prepare: Prepare = |device| Ready(Some(owner().visit(device)), post("/comm/rekey", &[]));
    let check = |answer: &Response, new: &Observed| {
        let response = RekeyResponse::decode(answer.payload()).unwrap();
        assert_eq!((Some(response.key), response.generation), (new.info.credential, new.info.generation));
        assert_eq!((new.info.factory, new.info.owner), (SlotState::Anchored, SlotState::Anchored));
    };
    request("rekey", &owned(), prepare, check, 1600);
}

/// The key that is injected.
fn injected() -> PrivateKey {
    PrivateKey::from_bytes(&[0x5e; 32]).unwrap()
}

fn injection() -> Request {
    let key = injected();
    let key = PrivateCoseKey { x: *key.public().x(), d: *key.as_bytes() };
    post("/comm/rekey", &encoded(|out| RekeyRequest { injected: Some(key) }.encode(out)))
}

/// A device that is owned, and where no factory has a certificate.
fn owned_by_nobody_else() -> Vec<u8> {
    let mut device = TestDevice::that_takes_keys();
    owner().claim(&mut device);
    device.flash.bytes()
}

#[test]
fn injecting_a_key() {
    let prepare: Prepare = |device| Ready(Some(owner().visit(device)), injection());
    let check = |answer: &Response, new: &Observed| {
        let response = RekeyResponse::decode(answer.payload()).unwrap();
        assert_eq!(response.key, injected().public().cose_key());
        assert_eq!((new.info.credential, new.info.key_origin), (Some(response.key), KeyOrigin::Injected));
        assert_eq!((new.info.generation, new.info.owner), (2, SlotState::Anchored));
    };
    request("injecting a key", &owned_by_nobody_else(), prepare, check, 1000);
}

#[test]
fn reset_of_an_injected_key() {
    let mut device = on(&owned_by_nobody_else());
    owner().visit(&mut device).ask(&mut device, &injection()).expect("2.04");
    let prepare: Prepare = |device| Ready(Some(owner().visit(device)), post("/comm/reset", &[]));
    let check = |_: &Response, new: &Observed| {
        assert_eq!((new.info.owner, new.info.key_origin), (SlotState::Empty, KeyOrigin::Generated));
        assert_ne!(new.info.credential, Some(injected().public().cose_key()));
        assert_eq!(new.info.generation, 3);
    };
    request("reset of an injected key", &device.flash.bytes(), prepare, check, 2200);
}

#[test]
fn reset() {
    let prepare: Prepare = |device| Ready(Some(owner().visit(device)), post("/comm/reset", &[]));
    let check = |_: &Response, new: &Observed| {
        assert_eq!((new.info.owner, new.info.watermarks.owner), (SlotState::Empty, None));
        assert_eq!(new.info.factory, SlotState::Certified);
    };
    let (image, gone) = furnished();
    request_that_erases("reset", &image, prepare, check, 3000, gone);
}

#[test]
fn watermark_of_a_token() {
    let prepare: Prepare = |_| {
        let claims = StationTokenClaims { issued_at: NOW + 1, ..owner().token_claims() };
        Ready(None, post("/authz-info", &owner().issuer.token(&claims)))
    };
    let check = |answer: &Response, new: &Observed| {
        answer.expect("2.01");
        assert_eq!(new.info.watermarks.owner, Some(NOW + 1));
    };
    request("watermark of a token", &owned(), prepare, check, 120);
}

/// What a receipt says of slot contents.
fn digest(contents: &[u8]) -> [u8; 32] {
    Sha256::digest(contents).into()
}
