//! Every decoder of the wire format.

use cbor_schemas::{
    Aif, Ccs, CoseKey, DeviceCertificateClaims, DeviceInfo, DeviceListClaims, Kind, PeersView, PrivateCoseKey,
    ProblemDetails, Receipt, RekeyRequest, RekeyResponse, Sign1, SlotContents, SlotRequest, SlotView,
    StationTokenClaims, VoucherClaims, report,
};

use crate::bench::{State, owner, start};

/// Decodes as the type that the first byte chooses. What decodes, encodes, and decodes again to the same.
pub(crate) fn decode(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    macro_rules! types {
        ($($number:literal => $type:ident),+ $(,)?) => {
            match choice % 17 {
                $($number => {
                    let Ok(value) = $type::decode(bytes) else { return };
                    let mut buffer = vec![0; bytes.len() + 64];
                    let len = value.encode(&mut buffer).expect("what decodes can be encoded");
                    let again = $type::decode(&buffer[..len]).expect("what is encoded can be decoded");
                    assert_eq!(format!("{again:?}"), format!("{value:?}"));
                })+
                _ => {}
            }
        };
    }
    types! {
        0 => CoseKey, 1 => PrivateCoseKey, 2 => DeviceInfo, 3 => SlotRequest, 4 => SlotContents, 5 => SlotView,
        6 => Receipt, 7 => RekeyRequest, 8 => RekeyResponse, 9 => PeersView, 10 => Sign1, 11 => DeviceCertificateClaims,
        12 => StationTokenClaims, 13 => VoucherClaims, 14 => DeviceListClaims, 15 => Aif, 16 => ProblemDetails,
    }
    let _ = Ccs::decode(bytes);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let info = start(State::Owned).device().info();
    let key = owner().public().cose_key();
    let mut seeds = vec![Vec::new()];
    let mut add = |choice: u8, encode: &dyn Fn(&mut [u8]) -> Result<usize, cbor_schemas::Error>| {
        let mut buffer = vec![0; 1024];
        let len = encode(&mut buffer).expect("it fits");
        seeds.push([&[choice], &buffer[..len]].concat());
    };
    add(0, &|out| key.encode(out));
    add(2, &|out| info.encode(out));
    add(3, &|out| SlotRequest { anchor: key, certificate: Some(b"\xa0"), voucher: Some(b"\xa0") }.encode(out));
    add(8, &|out| RekeyResponse { key, generation: 7 }.encode(out));
    add(10, &|out| Sign1 { kind: Kind::Voucher, payload: b"\xa0", signature: [1; 64] }.encode(out));
    add(15, &|out| Aif::everything().encode(out));
    add(16, &|out| ProblemDetails { title: Some("title"), detail: Some("detail") }.encode(out));
    seeds
}

/// Looks for a report line in text.
pub(crate) fn report_line(input: &[u8]) {
    let mut buffer = [0; 512];
    if let Some(Ok(info)) = report::find(&String::from_utf8_lossy(input), &mut buffer) {
        let mut line = String::new();
        report::write(&info, &mut line).expect("what was reported can be reported");
    }
}

pub(crate) fn report_line_seeds() -> Vec<Vec<u8>> {
    let mut line = String::from("12.5 INFO ");
    report::write(&start(State::Unowned).device().info(), &mut line).expect("it fits");
    vec![line.into_bytes(), b"commissioning-report:".to_vec()]
}
