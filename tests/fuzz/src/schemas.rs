//! Every decoder of the wire format.

use cbor_schemas::{
    Aif, Ccs, CoseKey, DeviceCertificateClaims, DeviceInfo, DeviceListClaims, PeersView, PrivateCoseKey,
    ProblemDetails, Receipt, RekeyRequest, RekeyResponse, Sign1, SlotContents, SlotRequest, SlotView,
    StationTokenClaims, VoucherClaims, report,
};

use crate::{
    Seeds,
    bench::{Bench, STATES, Talks, encoded},
};

/// One encoding of each rule of the CDDL at least.
const VECTORS: &str = include_str!("../../../cbor-schemas/tests/vectors.txt");

/// The types by their numbers.
const TYPES: [&str; 18] = [
    "CoseKey",
    "PrivateCoseKey",
    "DeviceInfo",
    "SlotRequest",
    "SlotContents",
    "SlotView",
    "Receipt",
    "RekeyRequest",
    "RekeyResponse",
    "PeersView",
    "Sign1",
    "DeviceCertificateClaims",
    "StationTokenClaims",
    "VoucherClaims",
    "DeviceListClaims",
    "Aif",
    "ProblemDetails",
    "Ccs",
];

/// Decodes as the type that the first byte chooses. What decodes, encodes, and decodes again to the same.
pub(crate) fn decode(input: &[u8]) -> bool {
    let Some((choice, bytes)) = input.split_first() else { return false };
    macro_rules! types {
        ($($type:ident),+ $(,)?) => {
            match TYPES[usize::from(*choice) % TYPES.len()] {
                $(stringify!($type) => {
                    let Ok(value) = $type::decode(bytes) else { return false };
                    let mut buffer = vec![0; bytes.len() + 64];
                    let len = value.encode(&mut buffer).expect("what decodes can be encoded");
                    let again = $type::decode(&buffer[..len]).expect("what is encoded can be decoded");
                    assert_eq!(format!("{again:?}"), format!("{value:?}"));
                    true
                })+
                other => panic!("{other} is not decoded"),
            }
        };
    }
    types![
        CoseKey,
        PrivateCoseKey,
        DeviceInfo,
        SlotRequest,
        SlotContents,
        SlotView,
        Receipt,
        RekeyRequest,
        RekeyResponse,
        PeersView,
        Sign1,
        DeviceCertificateClaims,
        StationTokenClaims,
        VoucherClaims,
        DeviceListClaims,
        Aif,
        ProblemDetails,
        Ccs,
    ]
}

pub(crate) fn seeds() -> Seeds {
    let number = |name: &str| TYPES.iter().position(|known| *known == name).expect("a type") as u8;
    let mut seeds = Seeds::default();
    let mut add = |name: &str, bytes: &[u8]| seeds.accepted.push([&[number(name)], bytes].concat());
    for (rule, bytes) in vectors() {
        let claims = match rule {
            "DeviceCertificate" => "DeviceCertificateClaims",
            "StationToken" => "StationTokenClaims",
            "Voucher" => "VoucherClaims",
            "DeviceList" => "DeviceListClaims",
            other => {
                add(other, &bytes);
                continue;
            }
        };
        add("Sign1", &bytes);
        add(claims, Sign1::decode(&bytes).expect("a signed object").payload);
    }
    add("Aif", &encoded(|out| Aif::everything().encode(out)));
    // Nothing is no value of any of them.
    seeds.others.extend((0..TYPES.len() as u8).map(|number| vec![number]));
    seeds
}

/// The frozen vectors: rule and bytes.
fn vectors() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    VECTORS.split("\n[").skip(1).map(|vector| {
        let (title, lines) = vector.split_once('\n').expect("a title");
        let digits = lines.lines().filter_map(|line| line.split('#').next()).flat_map(str::split_whitespace);
        let bytes = hex::decode(digits.collect::<String>()).expect("hex");
        (title.split(':').next().expect("a rule"), bytes)
    })
}

/// Looks for a report line in text.
pub(crate) fn report_line(input: &[u8]) -> bool {
    let mut buffer = [0; 512];
    let Some(Ok(info)) = report::find(&String::from_utf8_lossy(input), &mut buffer) else { return false };
    let mut line = String::new();
    report::write(&info, &mut line).expect("what was reported can be reported");
    true
}

pub(crate) fn report_line_seeds() -> Seeds {
    let line = |state| {
        let mut line = String::new();
        report::write(&Bench::start(state).info(), &mut line).expect("it fits");
        line
    };
    let mut accepted: Vec<_> = STATES.map(|state| line(state).into_bytes()).to_vec();
    let report = line(STATES[0]);
    accepted.push(format!("12.5 INFO {report} (end)\r\n").into_bytes());
    accepted.push(format!("{}{report}", &report[..100]).into_bytes());
    let cut = report.as_bytes()[..report.len() - 3].to_vec();
    Seeds { accepted, others: vec![b"commissioning-report:".to_vec(), cut] }
}
