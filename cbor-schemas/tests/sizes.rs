//! The largest value of each type is as large as its documentation says.

mod common;

use commissioning_cbor::*;
use common::encode_with;

const KEY: CoseKey = CoseKey { kid: [0xff; 8], x: [0xff; 32], y: [0xff; 32] };
const ISSUER: IssuerId = IssuerId([0xff; 8]);

/// Each name, the size that the crate documents for it, and its largest value's encoding.
fn largest() -> Vec<(&'static str, usize, Vec<u8>)> {
    let device: DeviceId = format!("urn:dev:ops:{:a<36}", "").parse().unwrap();
    let injected = PrivateCoseKey { x: [0xff; 32], d: [0xff; 32] };
    let path = format!("/{:a<31}", "");
    let scope = Aif::new(&[(path.as_str(), 0xff); Aif::MAX_ENTRIES]).unwrap();
    let info = DeviceInfo {
        device,
        credential: Some(KEY),
        generation: u32::MAX,
        key_origin: KeyOrigin::Derived,
        factory: SlotState::Certified,
        owner: SlotState::Certified,
        claim_policy: ClaimPolicy::VoucherAndPresence,
        claim_counter: u32::MAX,
        watermarks: Watermarks { factory: Some(u64::MAX), owner: Some(u64::MAX) },
        nonce: [0xff; 8],
        firmware: &"a".repeat(DeviceInfo::MAX_FIRMWARE),
        profile: Profile::Minimal,
        limits: Limits { datagram: u16::MAX, body: u16::MAX, list_keys: u16::MAX },
        operation_ms: u32::MAX,
        condition: Condition::Fault,
        features: Features::OWNER_WITHOUT_LIST,
    };
    let certificate = DeviceCertificateClaims {
        issuer: ISSUER,
        subject: device,
        issued_at: u64::MAX,
        cti: [0xff; 8],
        key: KEY,
        key_origin: KeyOrigin::Derived,
        proof: ProofLevel::Proved,
    };
    let token = StationTokenClaims {
        issuer: ISSUER,
        audience: Audience::Device(device),
        expires_at: Some(u64::MAX),
        issued_at: u64::MAX,
        key: KEY,
        scope,
        cnonce: Some([0xff; 8]),
    };
    let voucher = VoucherClaims {
        issuer: ISSUER,
        subject: device,
        expires_at: Some(u64::MAX),
        issued_at: u64::MAX,
        key: KEY,
        claim_counter: u32::MAX,
    };
    let signed_certificate = signed(Kind::DeviceCertificate, |out| certificate.encode(out));
    let signed_voucher = signed(Kind::Voucher, |out| voucher.encode(out));
    let (in_slot, with_it) = (Some(&*signed_certificate), Some(&*signed_voucher));
    let request = SlotRequest { anchor: KEY, certificate: in_slot, voucher: with_it };
    let contents = SlotContents { anchor: KEY, certificate: in_slot };
    let view = SlotView { state: SlotState::Certified, anchor: Some(KEY), certificate: in_slot };
    let receipt = Receipt { device: KEY.x, claim_counter: u32::MAX, generation: u32::MAX, digest: [0xff; 32] };
    let peers =
        PeersView { version: Some(u64::MAX), mode: Some(ListMode::Revoked), held: u16::MAX, capacity: u16::MAX };
    let problem = ProblemDetails {
        title: Some(&"a".repeat(ProblemDetails::MAX_TITLE)),
        detail: Some(&"a".repeat(ProblemDetails::MAX_DETAIL)),
    };
    vec![
        ("DeviceId", DeviceId::MAX_LEN, encoded(|out| device.encode(out))),
        ("IssuerId", IssuerId::MAX_LEN, encoded(|out| ISSUER.encode(out))),
        ("CoseKey", CoseKey::MAX_LEN, encoded(|out| KEY.encode(out))),
        ("PrivateCoseKey", PrivateCoseKey::MAX_LEN, encoded(|out| injected.encode(out))),
        ("Ccs", Ccs::MAX_LEN, encoded(|out| Ccs(KEY).encode(out))),
        ("DeviceInfo", DeviceInfo::MAX_LEN, encoded(|out| info.encode(out))),
        ("report", report::MAX_LINE, report_line(&info)),
        ("SlotRequest", SlotRequest::MAX_LEN, encoded(|out| request.encode(out))),
        ("SlotContents", SlotContents::MAX_LEN, encoded(|out| contents.encode(out))),
        ("SlotView", SlotView::MAX_LEN, encoded(|out| view.encode(out))),
        ("Receipt", Receipt::MAX_LEN, encoded(|out| receipt.encode(out))),
        ("RekeyRequest", RekeyRequest::MAX_LEN, encoded(|out| RekeyRequest { injected: Some(injected) }.encode(out))),
        (
            "RekeyResponse",
            RekeyResponse::MAX_LEN,
            encoded(|out| RekeyResponse { key: KEY, generation: u32::MAX }.encode(out)),
        ),
        ("PeersView", PeersView::MAX_LEN, encoded(|out| peers.encode(out))),
        ("Aif", Aif::MAX_LEN, encoded(|out| scope.encode(out))),
        ("DeviceCertificateClaims", DeviceCertificateClaims::MAX_LEN, encoded(|out| certificate.encode(out))),
        ("DeviceCertificateClaims, signed", DeviceCertificateClaims::MAX_SIGNED_LEN, signed_certificate.clone()),
        ("StationTokenClaims", StationTokenClaims::MAX_LEN, encoded(|out| token.encode(out))),
        (
            "StationTokenClaims, signed",
            StationTokenClaims::MAX_SIGNED_LEN,
            signed(Kind::StationToken, |out| token.encode(out)),
        ),
        ("VoucherClaims", VoucherClaims::MAX_LEN, encoded(|out| voucher.encode(out))),
        ("VoucherClaims, signed", VoucherClaims::MAX_SIGNED_LEN, signed_voucher.clone()),
        ("ProblemDetails", ProblemDetails::MAX_LEN, encoded(|out| problem.encode(out))),
    ]
}

#[test]
fn the_largest_values_are_as_large_as_documented() {
    for (name, documented, bytes) in largest() {
        assert_eq!(bytes.len(), documented, "{name}");
    }
}

#[test]
fn the_table_in_the_crate_documentation_says_the_same() {
    let documentation = include_str!("../src/lib.rs");
    for (name, documented, _) in largest() {
        let (name, is_signed) = name.strip_suffix(", signed").map_or((name, false), |name| (name, true));
        let row = documentation.lines().find_map(|line| line.strip_prefix(&format!("//! | [`{name}`] | ")));
        let cell = row.and_then(|row| row.split(" |").next()).unwrap_or_else(|| panic!("{name} is not in the table"));
        let (plain, signed) = cell.split_once(", signed ").unwrap_or((cell, ""));
        assert_eq!(if is_signed { signed } else { plain }, documented.to_string(), "{name}");
    }
}

#[test]
fn device_lists_grow_by_the_key() {
    let list = DeviceListClaims {
        issuer: ISSUER,
        issued_at: u64::MAX,
        version: u64::MAX,
        mode: ListMode::Revoked,
        min_iat: u64::MAX,
        keys: Keys::from(&[[0xff; 32]; 300][..]),
        unproven: Keys::from(&[[0xff; 32]; 300][..]),
        audit_head: Some([0xff; 32]),
    };
    let bytes = encoded(|out| list.encode(out));
    assert_eq!(bytes.len(), DeviceListClaims::MAX_FIXED_LEN + 600 * Keys::KEY_LEN);
}

#[test]
fn a_token_for_everything_is_small() {
    let device: DeviceId = format!("urn:dev:ops:{:a<36}", "").parse().unwrap();
    let token = StationTokenClaims {
        issuer: ISSUER,
        audience: Audience::Device(device),
        expires_at: Some(u64::MAX),
        issued_at: u64::MAX,
        key: KEY,
        scope: Aif::everything(),
        cnonce: Some([0xff; 8]),
    };
    assert_eq!(encoded(|out| token.encode(out)).len(), 200);
}

#[test]
fn too_long_is_refused() {
    let long = "a".repeat(129);
    let problem = |title, detail| encode_with(|out| ProblemDetails { title, detail }.encode(out)).map(drop);
    assert_eq!(problem(Some(&long[..65]), None), Err(Error::TooLong));
    assert_eq!(problem(None, Some(&long)), Err(Error::TooLong));
    assert_eq!(Aif::new(&[(&long[..33], 1)]), Err(Error::TooLong));
    assert_eq!(Aif::new(&[("/", 1); Aif::MAX_ENTRIES + 1]), Err(Error::TooLong));
    assert_eq!(DeviceId::try_from(&*format!("urn:dev:ops:{}", &long[..37])), Err(Error::TooLong));
}

fn encoded(encode: impl FnOnce(&mut [u8]) -> Result<usize, Error>) -> Vec<u8> {
    encode_with(encode).unwrap()
}

fn signed(kind: Kind, encode: impl FnOnce(&mut [u8]) -> Result<usize, Error>) -> Vec<u8> {
    let payload = encoded(encode);
    encoded(|out| Sign1 { kind, payload: &payload, signature: [0xff; 64] }.encode(out))
}

fn report_line(info: &DeviceInfo<'_>) -> Vec<u8> {
    let mut line = String::new();
    report::write(info, &mut line).unwrap();
    line.into_bytes()
}
