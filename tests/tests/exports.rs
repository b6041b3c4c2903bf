//! Exports, read by the programs that they are for, or by those programs' own parsers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cbor_schemas::{CoseKey, DeviceCertificateClaims, DeviceListClaims, Kind, ListMode, Sign1};
use end_to_end::{Bench, Cable, Device};
use protocol::key::PublicKey;
use serde_json::Value;

const FIRST: &str = "urn:dev:ops:32473-sim-01";
const SECOND: &str = "urn:dev:ops:32473-sim-02";

/// Two devices: the first one was programmed here, the second one has a former key.
fn two_devices(bench: &Bench) -> [Device; 2] {
    let [first, second] = [("first", FIRST), ("second", SECOND)].map(|(flash, id)| bench.start(flash, id));
    bench.commissioner(&["commission", "--trusted", &first.link]).succeeded();
    bench.commissioner(&["commission", &second.link]).succeeded();
    bench.commissioner(&["rekey", &second.link]).succeeded();
    bench.commissioner(&["nickname", FIRST, "=1+1"]).succeeded();
    [first, second]
}

fn export(bench: &Bench, format: &str, more: &[&str]) -> PathBuf {
    let file = bench.path(format);
    let name = file.display().to_string();
    bench.commissioner(&[&["export", "--format", format, "--output", &name], more].concat()).succeeded();
    file
}

/// What other people's parsers see in an export.
fn seen(bench: &Bench, format: &str, more: &[&str]) -> Vec<Value> {
    let file = export(bench, format, more);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new(here.join("../target/peers/bin/python"));
    let seen = python.arg(here.join("peers/exports.py")).arg(format).arg(file).output().expect("python runs");
    assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
    serde_json::from_slice(&seen.stdout).expect("JSON")
}

/// The active keys by device ID, as `devices` has them, with their thumbprints.
fn active(bench: &Bench) -> Vec<(String, String)> {
    let records = bench.commissioner(&["devices", "--json"]).succeeded().json();
    let text = |record: &Value, name: &str| record[name].as_str().expect("a text").to_owned();
    records.iter().map(|record| (text(record, "device"), text(record, "thumbprint"))).collect()
}

fn thumbprint(x: &[u8]) -> String {
    PublicKey::from_x(x.try_into().expect("32 bytes")).expect("a key").thumbprint().to_string()
}

#[test]
fn ariel_os_reads_its_peers() {
    let bench = Bench::initialised(Cable::Udp);
    assert!(seen(&bench, "peers-yml", &[]).is_empty());
    let _devices = two_devices(&bench);
    for (more, count) in [(&[][..], 2), (&["--trusted-only"], 1)] {
        let peers = seen(&bench, "peers-yml", more);
        assert_eq!(peers.len(), count);
        for (peer, (_, known)) in peers.iter().zip(active(&bench)) {
            assert_eq!(peer["scope"], "allow-all");
            // As Ariel OS builds it in: diagnostic notation to CBOR, and lakers' own parser for that.
            let kccs = peer["kccs"].as_str().expect("diagnostic notation");
            let kccs = cbor_edn::StandaloneItem::parse(kccs).expect("it parses").to_cbor().expect("it encodes");
            let credential = lakers::Credential::parse_ccs(&kccs).expect("lakers takes it");
            let lakers::CredentialKey::EC2Compact(x) = credential.key else { panic!("a key on a curve") };
            assert_eq!(thumbprint(&x), known);
        }
    }
}

#[test]
fn pycose_reads_the_key_set() {
    let bench = Bench::initialised(Cable::Udp);
    assert!(seen(&bench, "cose-keyset", &[]).is_empty());
    let _devices = two_devices(&bench);
    let keys = seen(&bench, "cose-keyset", &[]);
    let bytes = |key: &Value, name: &str| hex::decode(key[name].as_str().expect("hex")).expect("hex");
    let thumbprints: Vec<_> = keys.iter().map(|key| thumbprint(&bytes(key, "x"))).collect();
    assert_eq!(thumbprints, active(&bench).into_iter().map(|(_, known)| known).collect::<Vec<_>>());
    for key in &keys {
        let public = PublicKey::from_x(&bytes(key, "x").try_into().expect("32 bytes")).expect("a key");
        let CoseKey { kid, y, .. } = public.cose_key();
        assert_eq!((bytes(key, "kid"), bytes(key, "y")), (kid.to_vec(), y.to_vec()));
        assert_eq!(key["curve"], "P_256");
    }
}

#[test]
fn spreadsheets_read_the_table_and_run_nothing_in_it() {
    let bench = Bench::initialised(Cable::Udp);
    let _devices = two_devices(&bench);
    let rows = seen(&bench, "csv", &[]);
    let column = |name: &str| rows.iter().map(|row| row[name].as_str().expect("a column")).collect::<Vec<_>>();
    assert_eq!(column("device"), [FIRST, SECOND, SECOND]);
    assert_eq!(column("status"), ["active", "revoked", "active"]);
    assert_eq!(column("provenance"), ["programming", "proved", "proved"]);
    assert_eq!(column("nickname"), ["'=1+1", "", ""]);
    assert_eq!(column("certificates"), ["owner", "", "owner"]);
    assert!(column("revoked_at")[0].is_empty() && !column("revoked_at")[1].is_empty());
    assert_eq!(seen(&bench, "csv", &["--trusted-only"]).len(), 1);
}

#[test]
fn json_lines_have_the_keys_and_the_certificates() {
    let bench = Bench::initialised(Cable::Udp);
    let _devices = two_devices(&bench);
    let lines = bench.commissioner(&["export", "--format", "json"]).succeeded().json();
    let records = bench.records();
    assert_eq!(lines.len(), records.len());
    for (line, record) in lines.iter().zip(&records) {
        for (name, value) in record.as_object().expect("a record") {
            assert_eq!(&line[name], value, "{name}");
        }
        let x = hex::decode(line["x"].as_str().expect("hex")).expect("hex");
        assert_eq!(line["thumbprint"], thumbprint(&x));
        for signed in line["signed"].as_array().expect("certificates") {
            let signed = hex::decode(signed.as_str().expect("hex")).expect("hex");
            let object = Sign1::decode_as(Kind::DeviceCertificate, &signed).expect("a certificate");
            let claims = DeviceCertificateClaims::decode(object.payload).expect("its claims");
            assert_eq!((claims.key.x.to_vec(), line["device"].as_str()), (x.clone(), Some(claims.subject.as_str())));
        }
    }
}

#[test]
fn the_signed_list_is_the_one_that_devices_get() {
    let bench = Bench::initialised(Cable::Udp);
    let [first, _second] = two_devices(&bench);
    let list = fs::read(export(&bench, "signed-list", &[])).expect("a file");
    let object = Sign1::decode_as(Kind::DeviceList, &list).expect("a list");
    let claims = DeviceListClaims::decode(object.payload).expect("its claims");
    assert_eq!((claims.mode, claims.keys.len()), (ListMode::Members, 2));
    let mut members: Vec<_> = claims.keys.iter().map(|x| thumbprint(x)).collect();
    let mut known: Vec<_> = active(&bench).into_iter().map(|(_, known)| known).collect();
    members.sort_unstable();
    known.sort_unstable();
    assert_eq!(members, known);
    let given = bench.commissioner(&["distribute", "--json", &first.link]).succeeded().json();
    assert_eq!(given.last().expect("a line")["list_version"], claims.version);
    assert_eq!(fs::read(export(&bench, "signed-list", &[])).expect("a file"), list);
}

#[test]
fn what_cannot_be_written_leaves_what_is_there() {
    let bench = Bench::initialised(Cable::Udp);
    let file = bench.path("out");
    fs::write(&file, "precious").expect("a file");
    let nowhere = bench.path("no/such/folder").display().to_string();
    bench.commissioner(&["export", "--format", "csv", "--output", &nowhere]).ended_with(2).saying("cannot write");
    bench.commissioner(&["export", "--format", "csv", "--json"]).ended_with(2);
    bench.commissioner(&["export", "--format", "xml"]).ended_with(2);
    assert_eq!(fs::read_to_string(&file).expect("a file"), "precious");
}

/// aiocoap-client at a device that is commissioned: it knows the device by the key that the registry has.
#[test]
fn aiocoap_reaches_my_devices_and_no_other() {
    let bench = Bench::initialised(Cable::Udp);
    let [first, second] = two_devices(&bench);
    bench.commissioner(&["export", "--format", "aiocoap", "--link", "udp:127.0.0.1:9"]).ended_with(3).saying("--link");
    let file = export(&bench, "aiocoap", &["--link", &first.link, "--link", &second.link]);
    let diag = bench.path("aiocoap.diag");
    fs::rename(file, &diag).expect("renamed");
    let host = |device: &Device| device.link.strip_prefix("udp:").expect("an address").to_owned();
    let ask = |device: &Device, path: &str| {
        let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/bin/aiocoap-client");
        let uri = format!("coap://{}{path}", host(device));
        let mut client = Command::new(client);
        client.args([&uri, "--credentials"]).arg(&diag).output().expect("aiocoap-client runs")
    };
    for device in [&first, &second] {
        assert_eq!(ask(device, "/led").stdout.first(), Some(&0xf4), "the light is off");
        // Its own key is nobody's: what takes a role is refused, under protection.
        let slot = ask(device, "/comm/owner").stdout;
        assert!(slot.starts_with(b"\xa1\x00\x02"), "{slot:02x?}");
    }

    // Another device at that address does not get through, not even one with the same ID.
    let address = host(&second);
    drop(second);
    let mut other = Command::new(end_to_end::program("device-sim"));
    let other = Device::start(other.args(["--id", SECOND, "--udp", &address]));
    let answer = ask(&other, "/led");
    assert!(answer.stdout.is_empty() && !answer.status.success(), "{answer:?}");
    // What is exported for it is still the key of the registry, and only where that was learned as wanted.
    let again = fs::read_to_string(export(&bench, "aiocoap", &["--link", &other.link])).expect("text");
    let known = fs::read_to_string(&diag).expect("text");
    let entry = again.trim_matches(['{', '}', '\n']);
    assert!(known.contains(entry), "{again}");
    let trusted = fs::read_to_string(export(&bench, "aiocoap", &["--link", &first.link, "--trusted-only"]));
    assert!(trusted.expect("text").contains(&host(&first)));
    bench
        .commissioner(&["export", "--format", "aiocoap", "--link", &other.link, "--trusted-only"])
        .ended_with(3)
        .saying("no device of yours");
}
