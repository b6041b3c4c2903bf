//! What the tests of this crate share: the table of wire types, the frozen vectors, and the CDDL as referee.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::sync::LazyLock;

use cddl::{
    ast::CDDL,
    validator::{
        Validator,
        cbor::{CBORValidator, Error as CddlError},
        cbor_value::decode_cbor,
    },
};
use commissioning_cbor::*;
use proptest::test_runner::Config as ProptestConfig;

pub(crate) mod tree;
pub(crate) mod values;

pub(crate) const SCHEMA: &str = include_str!("../../cddl/commissioning.cddl");
const VECTORS: &str = include_str!("../vectors.txt");

/// A rule of the CDDL and its Rust type.
pub(crate) struct WireType {
    pub(crate) rule: &'static str,
    /// Decodes, and encodes what was understood, which must be possible.
    pub(crate) recode: fn(&[u8]) -> Result<Vec<u8>, Error>,
    /// Whether the map at the top may hold unknown integer keys.
    pub(crate) open: bool,
}

macro_rules! wire_type {
    ($rule:ident, $open:literal) => {
        WireType {
            rule: stringify!($rule),
            recode: |bytes| {
                let value = $rule::decode(bytes)?;
                Ok(encode_with(|out| value.encode(out)).expect("what was decoded can be encoded"))
            },
            open: $open,
        }
    };
}

pub(crate) const WIRE_TYPES: &[WireType] = &[
    wire_type!(CoseKey, false),
    wire_type!(PrivateCoseKey, false),
    wire_type!(Ccs, false),
    wire_type!(DeviceInfo, true),
    closed_type("SlotRequest", recode_slot_request),
    closed_type("SlotContents", recode_slot_contents),
    closed_type("SlotView", recode_slot_view),
    wire_type!(Receipt, false),
    wire_type!(RekeyRequest, false),
    wire_type!(RekeyResponse, false),
    wire_type!(PeersView, true),
    wire_type!(Aif, false),
    wire_type!(DeviceCertificateClaims, true),
    wire_type!(StationTokenClaims, true),
    wire_type!(VoucherClaims, true),
    wire_type!(DeviceListClaims, true),
    wire_type!(ProblemDetails, true),
    closed_type("DeviceCertificate", |bytes| recode_signed(Kind::DeviceCertificate, bytes)),
    closed_type("StationToken", |bytes| recode_signed(Kind::StationToken, bytes)),
    closed_type("Voucher", |bytes| recode_signed(Kind::Voucher, bytes)),
    closed_type("DeviceList", |bytes| recode_signed(Kind::DeviceList, bytes)),
];

const fn closed_type(rule: &'static str, recode: fn(&[u8]) -> Result<Vec<u8>, Error>) -> WireType {
    WireType { rule, recode, open: false }
}

pub(crate) fn wire_type(rule: &str) -> &'static WireType {
    WIRE_TYPES.iter().find(|wire_type| wire_type.rule == rule).unwrap_or_else(|| panic!("no type for {rule}"))
}

/// Decodes an object down to its claims, and encodes both again.
fn recode_signed(kind: Kind, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let object = Sign1::decode_as(kind, bytes)?;
    let payload = (wire_type(claims_rule(kind)).recode)(object.payload)?;
    encode_with(|out| Sign1 { payload: &payload, ..object }.encode(out))
}

// The library leaves signed objects inside slots alone; the CDDL does not.

fn recode_slot_request(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let request = SlotRequest::decode(bytes)?;
    let certificate = recode_inner(Kind::DeviceCertificate, request.certificate)?;
    let voucher = recode_inner(Kind::Voucher, request.voucher)?;
    let (certificate, voucher) = (certificate.as_deref(), voucher.as_deref());
    encode_with(|out| SlotRequest { certificate, voucher, ..request }.encode(out))
}

fn recode_slot_contents(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let contents = SlotContents::decode(bytes)?;
    let certificate = recode_inner(Kind::DeviceCertificate, contents.certificate)?;
    encode_with(|out| SlotContents { certificate: certificate.as_deref(), ..contents }.encode(out))
}

fn recode_slot_view(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let view = SlotView::decode(bytes)?;
    let certificate = recode_inner(Kind::DeviceCertificate, view.certificate)?;
    encode_with(|out| SlotView { certificate: certificate.as_deref(), ..view }.encode(out))
}

fn recode_inner(kind: Kind, bytes: Option<&[u8]>) -> Result<Option<Vec<u8>>, Error> {
    bytes.map(|bytes| recode_signed(kind, bytes)).transpose()
}

pub(crate) fn claims_rule(kind: Kind) -> &'static str {
    match kind {
        Kind::DeviceCertificate => "DeviceCertificateClaims",
        Kind::StationToken => "StationTokenClaims",
        Kind::Voucher => "VoucherClaims",
        Kind::DeviceList => "DeviceListClaims",
    }
}

pub(crate) fn encode_with(encode: impl FnOnce(&mut [u8]) -> Result<usize, Error>) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; 64 * 1024];
    let len = encode(&mut buffer)?;
    buffer.truncate(len);
    Ok(buffer)
}

/// A frozen encoding, or part of one.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    pub(crate) rule: String,
    pub(crate) title: String,
    pub(crate) bytes: Vec<u8>,
}

/// The encodings of `vectors.txt`.
pub(crate) fn frozen_vectors() -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for line in VECTORS.lines() {
        let line = line.split('#').next().unwrap().trim();
        if let Some(header) = line.strip_prefix('[') {
            let (rule, title) = header.strip_suffix(']').unwrap().split_once(": ").unwrap();
            vectors.push(Vector { rule: rule.into(), title: title.into(), bytes: Vec::new() });
        } else if !line.is_empty() {
            vectors.last_mut().unwrap().bytes.extend(from_hex(line));
        }
    }
    vectors
}

/// The frozen encodings, and those inside them: the claims of signed objects, the scopes of tokens.
pub(crate) fn vectors() -> Vec<Vector> {
    let mut vectors = frozen_vectors();
    for outer in vectors.clone() {
        let Ok(object) = Sign1::decode(&outer.bytes) else { continue };
        let inner = |rule: &str, bytes| Vector { rule: rule.into(), title: outer.title.clone(), bytes };
        vectors.push(inner(claims_rule(object.kind), object.payload.to_vec()));
        if object.kind == Kind::StationToken {
            let scope = StationTokenClaims::decode(object.payload).unwrap().scope;
            vectors.push(inner("Aif", encode_with(|out| scope.encode(out)).unwrap()));
        }
    }
    vectors
}

pub(crate) fn vector(rule: &str, title: &str) -> Vec<u8> {
    let found = vectors().into_iter().find(|vector| vector.rule == rule && vector.title == title);
    found.unwrap_or_else(|| panic!("no vector [{rule}: {title}]")).bytes
}

/// What the CDDL says about `bytes`.
pub(crate) fn cddl_accepts(rule: &str, bytes: &[u8]) -> Result<(), String> {
    let item = decode_cbor(bytes).map_err(|error| error.to_string())?;
    let schema = schema_of(rule);
    let verdict: Result<(), CddlError<std::io::Error>> = CBORValidator::new(&schema, item, None).validate();
    verdict.map_err(|error| error.to_string())
}

/// The CDDL with `rule` first, because that is where the validator starts.
fn schema_of(rule: &str) -> CDDL<'static> {
    static PARSED: LazyLock<CDDL<'static>> = LazyLock::new(|| {
        // The validator looks for a match anywhere in the text; RFC 8610 section 3.8.3 means all of it.
        let anchored = SCHEMA
            .lines()
            .map(|line| {
                match line.split_once(".regexp \"").and_then(|(head, tail)| Some((head, tail.split_once('"')?))) {
                    Some((head, (pattern, tail))) => format!("{head}.regexp \"^{pattern}$\"{tail}\n"),
                    None => format!("{line}\n"),
                }
            })
            .collect::<String>();
        cddl::cddl_from_str(anchored.leak(), true).unwrap()
    });
    let mut schema = PARSED.clone();
    let place = schema.rules.iter().position(|found| found.name() == rule);
    schema.rules.swap(0, place.unwrap_or_else(|| panic!("the CDDL has no rule {rule}")));
    schema
}

/// So many cases, and no file for the failed ones: they belong into a test of their own.
pub(crate) fn cases_of(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd number of hexadecimal digits: {text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
