//! The wire does not change by accident: `vectors.txt` holds encodings made by another implementation, here is what each
//! of them means.

mod common;

use std::fmt::Debug;

use commissioning_cbor::*;
use common::{encode_with, frozen_vectors, to_hex, vector};
use hexlit::hex;

const DEVICE: CoseKey = CoseKey {
    kid: hex!("fa65aa26ac834239"),
    x: hex!("11d6bf7f71e9b445e41d1c4c44a0fb730a39f3bd23464d2f40388abe95220eac"),
    y: hex!("3b7f1298401253d08ff5defe922a8f29b3020a0f81032d4b916086ca66d38262"),
};
const ISSUER: CoseKey = CoseKey {
    kid: hex!("0f26e7fe0fd43eb1"),
    x: hex!("98b6c9aa1795786878d5f972a4c36fe2627d9a7e05b7b38216d8d6e62f3747d8"),
    y: hex!("ca9e5f23a6cabc6d1fe16220243b458adf0bdf6435a6b5f3db6117c693c0d2e0"),
};
const STATION: CoseKey = CoseKey {
    kid: hex!("14fd5ba1040bfb0b"),
    x: hex!("1c9ed77d84581c9e5fb323b076eb86c7c44fc0a051e47315ae4275a10ced934b"),
    y: hex!("bedf60a09d87832f95a52c19f6a93ccfd087731bd0e2f1c3c54a9d579bed4db6"),
};
const NEW: CoseKey = CoseKey {
    kid: hex!("80c4a9d69682b102"),
    x: hex!("923ec78752fe985b2b9c7d83677286bbcc696b0ba709d21cd60b905d82f517a7"),
    y: hex!("77885beb8c25610e96fab4a71438c19fee47b70ad8518ca9d6ebb1e11f74304e"),
};
const SECOND_DEVICE: [u8; 32] = hex!("0dc947d296a80c632eff212d43d9d869e98c533102be8a920d8182089763160b");
const THIRD_DEVICE: [u8; 32] = hex!("2eeead2681b889297743b4c000b65616e037ed8f7217b13c9af87b05ebab8b8c");
const INJECTED_X: [u8; 32] = hex!("2fd97b6aa92c60c4e662a30fa45df88cdf0567a84db6a3deda9d7d2d3735ad1d");
const INJECTED_D: [u8; 32] = hex!("c6c331958744bb3f00902fd3e507045e2fa152ea81b0f53f56299c6f8f0e82a2");
const NONCE: [u8; 8] = hex!("b0b1b2b3b4b5b6b7");
const TIME: u64 = 1_795_000_000;

/// The vector is what this value encodes to, and decodes to this value.
macro_rules! frozen {
    ($type:ident, $title:literal, $value:expr) => {
        let (value, frozen) = ($value, vector(stringify!($type), $title));
        assert_frozen($title, &value, &frozen, |out| value.encode(out), $type::decode(&frozen));
    };
}

fn assert_frozen<T: PartialEq + Debug>(
    title: &str,
    value: &T,
    frozen: &[u8],
    encode: impl FnOnce(&mut [u8]) -> Result<usize, Error>,
    decoded: Result<T, Error>,
) {
    assert_eq!(to_hex(&encode_with(encode).unwrap()), to_hex(frozen), "{title}: the wire has changed");
    assert_eq!(decoded.as_ref(), Ok(value), "{title}");
}

#[test]
fn keys() {
    frozen!(CoseKey, "the device's key", DEVICE);
    frozen!(Ccs, "the device's EDHOC credential", Ccs(DEVICE));

    let frozen = vector("PrivateCoseKey", "a key to inject");
    let key = PrivateCoseKey::decode(&frozen).unwrap();
    assert_eq!((key.x, key.d), (INJECTED_X, INJECTED_D));
    assert_eq!(encode_with(|out| key.encode(out)), Ok(frozen));
}

#[test]
fn device_info() {
    frozen!(DeviceInfo, "fresh", fresh());
    let owned = DeviceInfo {
        device: mac(),
        generation: 70_000,
        key_origin: KeyOrigin::Derived,
        factory: SlotState::Anchored,
        owner: SlotState::Certified,
        claim_policy: ClaimPolicy::VoucherAndPresence,
        claim_counter: 300,
        watermarks: Watermarks { factory: None, owner: Some(TIME) },
        firmware: "",
        profile: Profile::Minimal,
        limits: Limits { datagram: 23, body: 24, list_keys: 255 },
        operation_ms: 4300,
        ..fresh()
    };
    frozen!(DeviceInfo, "owned", owned);
    let fault = DeviceInfo {
        credential: None,
        generation: 0,
        claim_policy: ClaimPolicy::Voucher,
        watermarks: Watermarks { factory: Some(TIME), owner: Some(0) },
        limits: Limits { list_keys: 0, ..fresh().limits },
        condition: Condition::Fault,
        features: Features::NONE,
        ..fresh()
    };
    frozen!(DeviceInfo, "fault", fault);
}

#[test]
fn slots() {
    let certificate = vector("DeviceCertificate", "of the issuer about the device");
    let voucher = vector("Voucher", "of the factory for the issuer");
    let (certificate, voucher) = (Some(certificate.as_slice()), Some(voucher.as_slice()));

    let request = SlotRequest { anchor: ISSUER, certificate: None, voucher: None };
    frozen!(SlotRequest, "anchor only", request);
    frozen!(SlotRequest, "with certificate", SlotRequest { certificate, ..request });
    frozen!(SlotRequest, "with certificate and voucher", SlotRequest { certificate, voucher, ..request });

    frozen!(SlotContents, "anchored", SlotContents { anchor: ISSUER, certificate: None });
    frozen!(SlotContents, "certified", SlotContents { anchor: ISSUER, certificate });

    let view = SlotView { state: SlotState::Empty, anchor: None, certificate: None };
    frozen!(SlotView, "empty", view);
    let view = SlotView { state: SlotState::Certified, ..view };
    frozen!(SlotView, "certified, as strangers see it", view);
    frozen!(SlotView, "certified, as the owner sees it", SlotView { anchor: Some(ISSUER), certificate, ..view });

    let digest = hex!("3f3df528239da3bbb87ef66bacb204d3e623d58c72585474aaae1d9f9653e51d");
    frozen!(Receipt, "after a claim", Receipt { device: DEVICE.x, claim_counter: 1, generation: 1, digest });
}

#[test]
fn rekey() {
    let frozen = vector("RekeyRequest", "make a new key");
    assert_eq!(encode_with(|out| RekeyRequest { injected: None }.encode(out)), Ok(frozen.clone()));
    assert!(RekeyRequest::decode(&frozen).unwrap().injected.is_none());
    assert!(RekeyRequest::decode(b"").unwrap().injected.is_none(), "an empty payload means the same");

    let frozen = vector("RekeyRequest", "take this key");
    let request = RekeyRequest::decode(&frozen).unwrap();
    assert_eq!(encode_with(|out| request.encode(out)), Ok(frozen));
    let key = request.injected.unwrap();
    assert_eq!((key.x, key.d), (INJECTED_X, INJECTED_D));

    frozen!(RekeyResponse, "a new key", RekeyResponse { key: NEW, generation: 2 });
}

#[test]
fn peers_view() {
    let none = PeersView { version: None, mode: None, held: 0, capacity: 64 };
    frozen!(PeersView, "no list", none);
    let members = PeersView { version: Some(TIME), mode: Some(ListMode::Members), held: 2, ..none };
    frozen!(PeersView, "a list of members", members);
}

#[test]
fn device_certificate() {
    let claims = DeviceCertificateClaims {
        issuer: IssuerId(ISSUER.kid),
        subject: ops(),
        issued_at: TIME,
        cti: hex!("c0c1c2c3c4c5c6c7"),
        key: DEVICE,
        key_origin: KeyOrigin::Generated,
        proof: ProofLevel::Proved,
    };
    frozen!(DeviceCertificateClaims, "of the issuer about the device", claims);
    frozen_object(Kind::DeviceCertificate, "DeviceCertificate", "of the issuer about the device");
}

#[test]
fn station_token() {
    let token = StationTokenClaims {
        issuer: IssuerId(ISSUER.kid),
        audience: Audience::Device(ops()),
        expires_at: Some(TIME + 3600),
        issued_at: TIME,
        key: STATION,
        scope: Aif::everything(),
        cnonce: None,
    };
    frozen!(StationTokenClaims, "for one device, with an expiry", token);
    let for_all = StationTokenClaims {
        audience: Audience::All(IssuerId(ISSUER.kid)),
        expires_at: None,
        scope: Aif::new(&[("/comm/identify", 2), ("/comm/owner", 5)]).unwrap(),
        cnonce: Some(NONCE),
        ..token
    };
    frozen!(StationTokenClaims, "for all devices, with a cnonce", for_all);
    frozen_object(Kind::StationToken, "StationToken", "for one device, with an expiry");
    frozen_object(Kind::StationToken, "StationToken", "for all devices, with a cnonce");
}

#[test]
fn voucher() {
    let claims = VoucherClaims {
        issuer: IssuerId(hex!("61f00c9ee40e6096")),
        subject: ops(),
        expires_at: None,
        issued_at: TIME,
        key: ISSUER,
        claim_counter: 2,
    };
    frozen!(VoucherClaims, "of the factory for the issuer", claims);
    frozen_object(Kind::Voucher, "Voucher", "of the factory for the issuer");
    let for_a_day = VoucherClaims { expires_at: Some(TIME + 86_400), ..claims };
    frozen!(VoucherClaims, "of the factory for the issuer, for a day", for_a_day);
    frozen_object(Kind::Voucher, "Voucher", "of the factory for the issuer, for a day");
}

#[test]
fn device_list() {
    let members = DeviceListClaims {
        issuer: IssuerId(ISSUER.kid),
        issued_at: TIME,
        version: TIME,
        mode: ListMode::Members,
        min_iat: TIME - 86_400,
        keys: Keys::from(&[DEVICE.x, SECOND_DEVICE][..]),
        unproven: Keys::from(&[SECOND_DEVICE][..]),
        audit_head: Some(hex!("b81f37a043a6f767e7c94d105f4bd31282f3ecc20680bb9d09bd93461cf4c863")),
    };
    frozen!(DeviceListClaims, "members", members);
    let revoked = DeviceListClaims {
        version: TIME + 1,
        mode: ListMode::Revoked,
        min_iat: 0,
        keys: Keys::from(&[THIRD_DEVICE][..]),
        unproven: Keys::default(),
        audit_head: None,
        ..members
    };
    frozen!(DeviceListClaims, "one revoked key", revoked);
    let nothing = DeviceListClaims { version: TIME + 2, keys: Keys::default(), ..revoked };
    frozen!(DeviceListClaims, "nothing revoked", nothing);
    for title in ["members", "one revoked key", "nothing revoked"] {
        frozen_object(Kind::DeviceList, "DeviceList", title);
    }
}

#[test]
fn problem_details() {
    frozen!(ProblemDetails, "empty", ProblemDetails::default());
    let problem = ProblemDetails {
        title: Some("Already claimed"),
        detail: Some("The owner slot is not empty. Ask its owner for a reset."),
    };
    frozen!(ProblemDetails, "title and detail", problem);
}

/// The bytes under the signature, made by the other implementation too.
#[test]
fn to_be_signed() {
    let certificate = vector("DeviceCertificate", "of the issuer about the device");
    let object = Sign1::decode(&certificate).unwrap();
    let mut signed = Vec::new();
    Sign1::to_be_signed(object.kind, object.payload, &mut |piece| signed.extend_from_slice(piece));
    let header = "846a5369676e617475726531581fa201261078196170706c69636174696f6e2f636f6d6d2d636572742b637774";
    assert_eq!(to_hex(&signed), format!("{header}4058b3{}", to_hex(object.payload)));
}

#[test]
fn report_line() {
    let line = include_str!("report.txt").trim_end();
    let mut written = String::new();
    report::write(&fresh(), &mut written).unwrap();
    assert_eq!(written, line);
    assert_eq!(report::find(line, &mut [0; DeviceInfo::MAX_LEN]), Some(Ok(fresh())));
}

/// What is not looked at here is not frozen.
#[test]
fn all_vectors_are_used() {
    let source = include_str!("frozen.rs");
    for vector in frozen_vectors() {
        assert!(source.contains(&format!("{:?}", vector.title)), "[{}: {}]", vector.rule, vector.title);
    }
}

fn frozen_object(kind: Kind, rule: &str, title: &str) {
    let frozen = vector(rule, title);
    let object = Sign1::decode_as(kind, &frozen).unwrap();
    assert_eq!(object.payload, vector(common::claims_rule(kind), title));
    assert_eq!(object.signature, frozen[frozen.len() - 64..]);
    assert_eq!(
        to_hex(&encode_with(|out| object.encode(out)).unwrap()),
        to_hex(&frozen),
        "{title}: the wire has changed"
    );
}

fn fresh() -> DeviceInfo<'static> {
    DeviceInfo {
        device: ops(),
        credential: Some(DEVICE),
        generation: 1,
        key_origin: KeyOrigin::Generated,
        factory: SlotState::Empty,
        owner: SlotState::Empty,
        claim_policy: ClaimPolicy::Open,
        claim_counter: 0,
        watermarks: Watermarks::default(),
        nonce: NONCE,
        firmware: "sensor 0.1.0",
        profile: Profile::Full,
        limits: Limits { datagram: 1152, body: 4096, list_keys: 64 },
        operation_ms: 12,
        condition: Condition::Ok,
        features: Features::NONE,
    }
}

fn ops() -> DeviceId {
    "urn:dev:ops:32473-sensor-00112233aabbccdd".parse().unwrap()
}

fn mac() -> DeviceId {
    "urn:dev:mac:0024beffff804ff1".parse().unwrap()
}
