//! Any value: encode, let the CDDL judge the bytes, decode, compare.

mod common;

use commissioning_cbor::*;
use common::{cddl_accepts, encode_with, to_hex, values};
use proptest::prelude::*;

/// Declares one test for one type.
macro_rules! round_trip {
    ($name:ident, $type:ident) => {
        round_trip!($name, $type, $type::MAX_LEN);
    };
    ($name:ident, $type:ident, $max_len:expr) => {
        #[test]
        fn $name() {
            let max_len = $max_len;
            proptest!(common::cases_of(100), |(value in values::$name())| {
                let bytes = encode_with(|out| value.encode(out)).unwrap();
                prop_assert!(bytes.len() <= max_len, "{} bytes", bytes.len());
                accepted(stringify!($type), &bytes)?;
                prop_assert_eq!($type::decode(&bytes), Ok(value));
                let mut small = vec![0; bytes.len() - 1];
                prop_assert_eq!(value.encode(&mut small), Err(Error::NoSpace));
            });
        }
    };
}

round_trip!(cose_key, CoseKey);
round_trip!(device_info, DeviceInfo);
round_trip!(slot_request, SlotRequest);
round_trip!(slot_contents, SlotContents);
round_trip!(slot_view, SlotView);
round_trip!(receipt, Receipt);
round_trip!(rekey_response, RekeyResponse);
round_trip!(peers_view, PeersView);
round_trip!(aif, Aif);
round_trip!(device_certificate_claims, DeviceCertificateClaims);
round_trip!(station_token_claims, StationTokenClaims);
round_trip!(voucher_claims, VoucherClaims);
round_trip!(device_list_claims, DeviceListClaims, DeviceListClaims::MAX_FIXED_LEN + 60 * Keys::KEY_LEN);
round_trip!(problem_details, ProblemDetails);

#[test]
fn ccs() {
    proptest!(common::cases_of(100), |(key in values::cose_key())| {
        let bytes = Ccs(key).to_bytes();
        prop_assert_eq!(encode_with(|out| Ccs(key).encode(out)).unwrap(), bytes);
        accepted("Ccs", &bytes)?;
        prop_assert_eq!(Ccs::decode(&bytes), Ok(Ccs(key)));
    });
}

#[test]
fn names() {
    proptest!(common::cases_of(100), |(device in values::device_id(), issuer in values::issuer_id())| {
        let bytes = encode_with(|out| device.encode(out)).unwrap();
        accepted("device-id", &bytes)?;
        prop_assert_eq!(DeviceId::decode(&bytes), Ok(device));
        prop_assert_eq!(device.to_string().parse(), Ok(device));
        let bytes = encode_with(|out| issuer.encode(out)).unwrap();
        accepted("issuer-id", &bytes)?;
        prop_assert_eq!(IssuerId::decode(&bytes), Ok(issuer));
        prop_assert_eq!(issuer.to_string().parse(), Ok(issuer));
    });
}

#[test]
fn private_cose_key_and_rekey_request() {
    proptest!(common::cases_of(100), |(key in values::private_cose_key())| {
        let bytes = encode_with(|out| key.encode(out)).unwrap();
        prop_assert_eq!(bytes.len(), PrivateCoseKey::MAX_LEN);
        accepted("PrivateCoseKey", &bytes)?;
        let decoded = PrivateCoseKey::decode(&bytes).unwrap();
        prop_assert_eq!((decoded.x, decoded.d), (key.x, key.d));

        let request = RekeyRequest { injected: Some(decoded) };
        let bytes = encode_with(|out| request.encode(out)).unwrap();
        prop_assert_eq!(bytes.len(), RekeyRequest::MAX_LEN);
        accepted("RekeyRequest", &bytes)?;
        let decoded = RekeyRequest::decode(&bytes).unwrap().injected.unwrap();
        prop_assert_eq!((decoded.x, decoded.d), (key.x, key.d));
    });
}

#[test]
fn signed_objects() {
    let certificate = values::device_certificate_claims().prop_map(|claims| encode_with(|out| claims.encode(out)));
    signed_object("DeviceCertificate", Kind::DeviceCertificate, certificate);
    let token = values::station_token_claims().prop_map(|claims| encode_with(|out| claims.encode(out)));
    signed_object("StationToken", Kind::StationToken, token);
    let voucher = values::voucher_claims().prop_map(|claims| encode_with(|out| claims.encode(out)));
    signed_object("Voucher", Kind::Voucher, voucher);
    let list = values::device_list_claims().prop_map(|claims| encode_with(|out| claims.encode(out)));
    signed_object("DeviceList", Kind::DeviceList, list);
}

fn signed_object(rule: &str, kind: Kind, payload: impl Strategy<Value = Result<Vec<u8>, Error>>) {
    proptest!(common::cases_of(50), |(bytes in values::signed(kind, payload))| {
        accepted(rule, bytes)?;
        let object = Sign1::decode(bytes).unwrap();
        prop_assert_eq!(object.kind, kind);
        prop_assert_eq!(Sign1::encoded_len(kind, object.payload.len()), bytes.len());
        prop_assert_eq!(encode_with(|out| object.encode(out)).unwrap(), bytes);
    });
}

fn accepted(rule: &str, bytes: &[u8]) -> Result<(), TestCaseError> {
    cddl_accepts(rule, bytes).map_err(|error| TestCaseError::fail(format!("{rule} {}: {error}", to_hex(bytes))))
}
