//! Any value of each wire type, for property tests. Borrowed parts are leaked: a test's memory is short-lived.

use commissioning_cbor::*;
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::encode_with;

pub(crate) fn device_id() -> impl Strategy<Value = DeviceId> {
    "urn:dev:(mac|ops):[0-9A-Za-z.:_-]{1,36}".prop_map(|text| text.parse().unwrap())
}

pub(crate) fn issuer_id() -> impl Strategy<Value = IssuerId> {
    any::<Kid>().prop_map(IssuerId)
}

pub(crate) fn cose_key() -> impl Strategy<Value = CoseKey> {
    any::<(Kid, [u8; 32], [u8; 32])>().prop_map(|(kid, x, y)| CoseKey { kid, x, y })
}

pub(crate) fn private_cose_key() -> impl Strategy<Value = PrivateCoseKey> {
    any::<([u8; 32], [u8; 32])>().prop_map(|(x, d)| PrivateCoseKey { x, d })
}

/// Integers of all encoded sizes.
pub(crate) fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift)
}

fn small_number() -> impl Strategy<Value = u32> {
    (any::<u32>(), 0..32_u32).prop_map(|(number, shift)| number >> shift)
}

fn tiny_number() -> impl Strategy<Value = u16> {
    (any::<u16>(), 0..16_u32).prop_map(|(number, shift)| number >> shift)
}

pub(crate) fn device_info() -> impl Strategy<Value = DeviceInfo<'static>> {
    let key = (option::of(cose_key()), small_number(), select(KeyOrigin::ALL));
    let slots = (select(SlotState::ALL), select(SlotState::ALL), select(ClaimPolicy::ALL), small_number());
    let watermarks = (option::of(number()), option::of(number()));
    let firmware = text(DeviceInfo::MAX_FIRMWARE);
    let limits = (tiny_number(), tiny_number(), tiny_number());
    let features = select(&[Features::NONE, Features::OWNER_WITHOUT_LIST, Features(1), Features(19)][..]);
    let last = (select(Profile::ALL), limits, small_number(), select(Condition::ALL), features);
    (device_id(), key, slots, watermarks, any::<[u8; 8]>(), firmware, last).prop_map(
        |(device, (credential, generation, key_origin), slots, watermarks, nonce, firmware, last)| {
            let (factory, owner, claim_policy, claim_counter) = slots;
            let (profile, (datagram, body, list_keys), operation_ms, condition, features) = last;
            DeviceInfo {
                device,
                credential,
                generation,
                key_origin,
                factory,
                owner,
                claim_policy,
                claim_counter,
                watermarks: Watermarks { factory: watermarks.0, owner: watermarks.1 },
                nonce,
                firmware,
                profile,
                limits: Limits { datagram, body, list_keys },
                operation_ms,
                // Only a device in fault may go without a key.
                condition: if credential.is_none() { Condition::Fault } else { condition },
                features,
            }
        },
    )
}

pub(crate) fn slot_request() -> impl Strategy<Value = SlotRequest<'static>> {
    let voucher = signed(Kind::Voucher, voucher_claims().prop_map(|claims| encode_with(|out| claims.encode(out))));
    (slot_contents(), option::of(voucher)).prop_map(|(SlotContents { anchor, certificate }, voucher)| SlotRequest {
        anchor,
        certificate,
        voucher,
    })
}

pub(crate) fn slot_contents() -> impl Strategy<Value = SlotContents<'static>> {
    (cose_key(), option::of(certificate())).prop_map(|(anchor, certificate)| SlotContents { anchor, certificate })
}

pub(crate) fn slot_view() -> impl Strategy<Value = SlotView<'static>> {
    (select(SlotState::ALL), option::of(cose_key()), option::of(certificate()))
        .prop_map(|(state, anchor, certificate)| SlotView { state, anchor, certificate })
}

pub(crate) fn receipt() -> impl Strategy<Value = Receipt> {
    (any::<[u8; 32]>(), small_number(), small_number(), any::<[u8; 32]>())
        .prop_map(|(device, claim_counter, generation, digest)| Receipt { device, claim_counter, generation, digest })
}

pub(crate) fn rekey_response() -> impl Strategy<Value = RekeyResponse> {
    (cose_key(), small_number()).prop_map(|(key, generation)| RekeyResponse { key, generation })
}

pub(crate) fn peers_view() -> impl Strategy<Value = PeersView> {
    (option::of(number()), option::of(select(ListMode::ALL)), tiny_number(), tiny_number())
        .prop_map(|(version, mode, held, capacity)| PeersView { version, mode, held, capacity })
}

pub(crate) fn aif() -> impl Strategy<Value = Aif> {
    let path = text(Aif::MAX_PATH).prop_filter("paths are not empty", |path| !path.is_empty());
    vec((path, any::<u8>()), 1..=Aif::MAX_ENTRIES).prop_map(|entries| Aif::new(&entries).unwrap())
}

pub(crate) fn device_certificate_claims() -> impl Strategy<Value = DeviceCertificateClaims> {
    let levels = (select(KeyOrigin::ALL), select(ProofLevel::ALL));
    (issuer_id(), device_id(), number(), any::<[u8; 8]>(), cose_key(), levels).prop_map(
        |(issuer, subject, issued_at, cti, key, (key_origin, proof))| DeviceCertificateClaims {
            issuer,
            subject,
            issued_at,
            cti,
            key,
            key_origin,
            proof,
        },
    )
}

pub(crate) fn station_token_claims() -> impl Strategy<Value = StationTokenClaims> {
    let device = option::of(device_id());
    let cnonce = option::of(any::<[u8; 8]>());
    (issuer_id(), device, number(), any::<bool>(), number(), cose_key(), aif(), cnonce).prop_map(
        |(issuer, device, expiry, expires, issued_at, key, scope, cnonce)| StationTokenClaims {
            issuer,
            audience: device.map_or(Audience::All(issuer), Audience::Device),
            // Only a token with a cnonce may go without an expiry.
            expires_at: (expires || cnonce.is_none()).then_some(expiry),
            issued_at,
            key,
            scope,
            cnonce,
        },
    )
}

pub(crate) fn voucher_claims() -> impl Strategy<Value = VoucherClaims> {
    (issuer_id(), device_id(), option::of(number()), number(), cose_key(), small_number()).prop_map(
        |(issuer, subject, expires_at, issued_at, key, claim_counter)| VoucherClaims {
            issuer,
            subject,
            expires_at,
            issued_at,
            key,
            claim_counter,
        },
    )
}

pub(crate) fn device_list_claims() -> impl Strategy<Value = DeviceListClaims<'static>> {
    let keys = || vec(any::<[u8; 32]>(), 0..30).prop_map(|keys| Keys::from(&*keys.leak()));
    let head = option::of(any::<[u8; 32]>());
    (issuer_id(), number(), number(), select(ListMode::ALL), number(), keys(), keys(), head).prop_map(
        |(issuer, issued_at, version, mode, min_iat, keys, unproven, audit_head)| DeviceListClaims {
            issuer,
            issued_at,
            version,
            mode,
            min_iat,
            keys,
            unproven,
            audit_head,
        },
    )
}

pub(crate) fn problem_details() -> impl Strategy<Value = ProblemDetails<'static>> {
    (option::of(text(ProblemDetails::MAX_TITLE)), option::of(text(ProblemDetails::MAX_DETAIL)))
        .prop_map(|(title, detail)| ProblemDetails { title, detail })
}

/// Claims of this kind, and the encoded signed object around them.
pub(crate) fn signed(
    kind: Kind,
    payload: impl Strategy<Value = Result<Vec<u8>, Error>>,
) -> impl Strategy<Value = &'static [u8]> {
    (payload, any::<([u8; 32], [u8; 32])>()).prop_map(move |(payload, (r, s))| {
        let payload = payload.unwrap();
        let signature = [r, s].concat().try_into().unwrap();
        &*encode_with(|out| Sign1 { kind, payload: &payload, signature }.encode(out)).unwrap().leak()
    })
}

fn certificate() -> impl Strategy<Value = &'static [u8]> {
    let claims = device_certificate_claims().prop_map(|claims| encode_with(|out| claims.encode(out)));
    signed(Kind::DeviceCertificate, claims)
}

/// Text of at most `max` bytes, some of it beyond ASCII.
fn text(max: usize) -> impl Strategy<Value = &'static str> {
    vec(any::<char>(), 0..=max).prop_map(move |characters| {
        let mut text = String::new();
        for character in characters {
            if text.len() + character.len_utf8() <= max {
                text.push(character);
            }
        }
        &*text.leak()
    })
}
