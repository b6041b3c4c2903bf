//! What anyone may know.

use cbor_schemas::{
    ClaimPolicy, Condition, DeviceInfo, Features, KeyOrigin, Limits, Profile, SlotState, SlotView, Watermarks, report,
};
use device::{BODY_LEN, DATAGRAM_LEN, LIST_KEYS, transport::LogLine};
use protocol::key::PublicKey;

use crate::common::{DEVICE_ID, FIRMWARE, Owner, TestDevice, Visitor, get};

#[test]
fn discovery_shows_the_way_in() {
    let answer = TestDevice::new().ask(&get("/.well-known/core"));
    assert_eq!(answer.expect("2.05").content_format(), Some(40));
    assert_eq!(
        str::from_utf8(answer.payload()).unwrap(),
        "</.well-known/edhoc>;rt=\"core.edhoc\",</authz-info>;rt=\"ace.ai\";ct=61,</comm>;rt=\"commissioning\";ct=60,</led>;rt=\"led\",\
        </comm/slots/identify-flashes>;rt=\"comm.slot\";ct=42;sz=1,\
        </comm/slots/sender-id>;rt=\"comm.slot\";ct=42;sz=8,\
        </comm/slots/wifi-passphrase>;rt=\"comm.slot\";ct=42;sz=64"
    );
}

#[test]
fn a_new_device_says_all_about_itself_to_anyone() {
    let mut device = TestDevice::new();
    let (key, _) = device.read_out();
    let answer = device.ask(&get("/comm"));
    assert_eq!(answer.expect("2.05").content_format(), Some(60));
    let info = DeviceInfo::decode(answer.payload()).unwrap();
    assert_eq!(
        info,
        DeviceInfo {
            device: DEVICE_ID.parse().unwrap(),
            credential: Some(key.public().cose_key()),
            generation: 1,
            key_origin: KeyOrigin::Generated,
            factory: SlotState::Empty,
            owner: SlotState::Empty,
            claim_policy: ClaimPolicy::Open,
            claim_counter: 0,
            watermarks: Watermarks { factory: None, owner: None },
            nonce: info.nonce,
            firmware: FIRMWARE,
            profile: Profile::Full,
            limits: Limits { datagram: DATAGRAM_LEN as u16, body: BODY_LEN as u16, list_keys: LIST_KEYS },
            operation_ms: 250,
            condition: Condition::Ok,
            features: Features::NONE,
        }
    );
    assert_eq!(info.credential.unwrap().y[31] & 1, 0, "the key's y is even");
    assert!(PublicKey::from_cose(&info.credential.unwrap()).is_ok());
}

#[test]
fn under_oscore_the_same_is_said() {
    let mut device = TestDevice::new();
    let plain = device.ask(&get("/comm"));
    let protected = Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &get("/comm"));
    assert_eq!(protected.expect("2.05").payload(), plain.payload());
}

#[test]
fn each_device_has_a_key_of_its_own() {
    let (mut one, mut rng) = (TestDevice::new(), crate::common::TestRng::new(77));
    let other = rng.key();
    assert_ne!(one.info().credential.unwrap().x, *other.public().x());
}

#[test]
fn the_state_of_the_slots_is_public_and_their_contents_are_not() {
    let empty = SlotView { state: SlotState::Empty, anchor: None, certificate: None };
    let mut device = TestDevice::new();
    for path in ["/comm/factory", "/comm/owner"] {
        let answer = device.ask(&get(path));
        assert_eq!(answer.expect("2.05").content_format(), Some(60));
        assert_eq!(SlotView::decode(answer.payload()), Ok(empty), "{path}");
    }
    let (_, mut device) = Owner::of_new_device(1);
    let answer = device.ask(&get("/comm/owner"));
    let certified = SlotView { state: SlotState::Certified, ..empty };
    assert_eq!(SlotView::decode(answer.payload()), Ok(certified));
    let answer = Visitor::stranger(&mut device).connect(&mut device).ask(&mut device, &get("/comm/owner"));
    assert_eq!(SlotView::decode(answer.payload()), Ok(certified));
}

#[test]
fn the_report_line_is_what_comm_says_and_fits_the_log() {
    let mut device = TestDevice::new();
    let mut line = LogLine::new();
    report::write(&device.info(), &mut line).unwrap();
    let mut buffer = [0; DeviceInfo::MAX_LEN];
    assert_eq!(report::find(&line, &mut buffer), Some(Ok(device.info())));
    assert!(report::MAX_LINE <= LogLine::new().capacity());
}
