//! A small device with EDHOC: it proves its key and takes the certificate of its maker in a session, and has no owner slot.

use std::process::Command;

use cbor_schemas::{DeviceListClaims, Kind, Sign1};
use end_to_end::{ATMEGA_ID as ID, Bench, Cable, Device, Finished, RECIPIENT, noise};
use serde_json::Value;

fn bench() -> Bench {
    Bench::initialised(Cable::Pty)
}

/// A simulated device.
fn start(bench: &Bench, eeprom: &str) -> Device {
    bench.start_with(eeprom, ID, &["--small"])
}

/// The firmware of an ATmega1284P in simavr.
fn start_atmega(bench: &Bench, eeprom: &str) -> Device {
    Device::start(&mut atmega(bench, eeprom))
}

fn atmega(bench: &Bench, eeprom: &str) -> Command {
    bench.atmega("atmega1284p-edhoc.elf", eeprom)
}

/// Runs the commissioner at a device. One that makes its next ephemeral key answers nobody meanwhile: 4 s of its own time.
fn at(bench: &Bench, state: &str, device: &Device, arguments: &[&str]) -> Finished {
    let run = || bench.commissioner_of(state, &[arguments, &[&device.link]].concat());
    (0..10).map(|_| run()).find(|finished| finished.exit != 4).unwrap_or_else(run)
}

fn shown(bench: &Bench) -> Value {
    bench.commissioner(&["show", ID, "--json"]).succeeded().json().remove(0)
}

#[test]
fn a_simulated_device_proves_its_key_and_gets_the_certificate_of_its_maker() {
    proves_its_key_and_gets_the_certificate_of_its_maker(start, false);
}

#[test]
fn an_atmega_proves_its_key_and_gets_the_certificate_of_its_maker() {
    proves_its_key_and_gets_the_certificate_of_its_maker(start_atmega, true);
}

fn proves_its_key_and_gets_the_certificate_of_its_maker(start: fn(&Bench, &str) -> Device, is_slow: bool) {
    let bench = bench();
    let device = start(&bench, "eeprom");
    let done = at(&bench, "state", &device, &["commission"]).succeeded();
    assert!(done.stdout.contains("as its maker now"), "{}", done.stdout);
    assert_eq!(done.stderr.contains("waiting until the device has checked"), is_slow, "{}", done.stderr);
    let record = shown(&bench);
    let certificate = &record["certificates"][0];
    assert_eq!((&record["status"], &record["provenance"]), (&"active".into(), &"proved".into()));
    assert_eq!((&certificate["slot"], &certificate["proof"]), (&"factory".into(), &"proved".into()));

    // Key and certificate stay, and whoever has the maker's anchor can tell.
    drop(device);
    let device = start(&bench, "eeprom");
    assert!(at(&bench, "state", &device, &["commission"]).succeeded().stdout.contains("already"));
    assert_eq!(shown(&bench)["thumbprint"], record["thumbprint"]);
    let anchor = bench.path("anchor.pem").display().to_string();
    bench.commissioner(&["issuer", "export", "--output", &anchor]).succeeded();
    let verdict = at(&bench, "stranger", &device, &["verify", "--anchor", &anchor, "--json"]).succeeded().json();
    let verdict = verdict.iter().find(|line| line["verdict"].is_string()).expect("a verdict");
    assert_eq!(
        (&verdict["verdict"], &verdict["possession"], &verdict["proof"], &verdict["owner"]),
        (&"certified".into(), &"proved".into(), &"proved".into(), &"empty".into())
    );
    assert_eq!(verdict["thumbprint"], record["thumbprint"]);
}

#[test]
fn what_takes_an_owner_says_so_and_changes_nothing() {
    let bench = bench();
    let device = start(&bench, "eeprom");
    let escrow = ["commission", "--escrow", "--recipient", RECIPIENT];
    at(&bench, "state", &device, &escrow).ended_with(5).saying("no owner slot");
    assert!(bench.records().is_empty(), "{:?}", bench.records());
    at(&bench, "state", &device, &["commission"]).succeeded();
    let before = shown(&bench);
    for command in ["reset", "rekey", "distribute"] {
        at(&bench, "state", &device, &[command]).ended_with(5).saying("no owner slot");
    }
    at(&bench, "state", &device, &["identify"]).ended_with(5).saying("4.04");
    assert_eq!(shown(&bench)["certificates"], before["certificates"]);
    assert_eq!(shown(&bench)["status"], "active");

    // Another maker comes too late, and a voucher is for an owner.
    bench.commissioner_of("other", &["init"]).succeeded();
    at(&bench, "other", &device, &["commission"]).ended_with(5).saying("another maker");
    let other = bench.commissioner_of("other", &["issuer", "show", "--json"]).succeeded().json().remove(0);
    let file = bench.path("voucher").display().to_string();
    let key = other["key"].as_str().expect("a key");
    bench.commissioner(&["voucher", ID, "--for", key, "--output", &file]).succeeded();
    at(&bench, "other", &device, &["commission", "--voucher", &file]).ended_with(5).saying("no owner slot");
}

#[test]
fn others_learn_that_it_is_one_of_my_devices() {
    let bench = bench();
    let device = start(&bench, "eeprom");
    at(&bench, "state", &device, &["commission"]).succeeded();
    let full = bench.start_with("full", "urn:dev:ops:32473-sim-01", &[]);
    bench.commissioner(&["commission", &full.link]).succeeded();
    bench.commissioner(&["distribute", &full.link]).succeeded();
    let list = bench.signed_list();
    let claims = DeviceListClaims::decode(Sign1::decode_as(Kind::DeviceList, &list).expect("a list").payload);
    let claims = claims.expect("claims");
    assert_eq!((claims.keys.iter().count(), claims.unproven.iter().count()), (2, 0), "proved, both of them");

    // An erased EEPROM is a new key, which replaces the first where devices are programmed.
    let erased = start(&bench, "other");
    at(&bench, "state", &erased, &["commission"]).ended_with(6);
    at(&bench, "state", &erased, &["commission", "--trusted"]).succeeded();
    assert_eq!(bench.statuses().iter().filter(|status| *status == "revoked").count(), 1);
}

/// Bytes that an ATmega programs at each start: its seed.
const SEED: u32 = 32;

/// The power goes while an ATmega puts the certificate into its EEPROM, and there is garbage on the line when it is back.
#[test]
fn a_power_cut_leaves_an_atmega_with_its_key_and_without_half_a_certificate() {
    let bench = bench();
    let report = start_atmega(&bench, "eeprom").report().to_owned();
    let device = Device::start(atmega(&bench, "eeprom").args(["--cut", &(SEED + 150).to_string()]));
    // The emulator is gone, and its port with it.
    at(&bench, "state", &device, &["commission"]).ended_with(3);
    assert_eq!(shown(&bench)["certificates"][0]["status"], "issued");
    drop(device);
    let device = start_atmega(&bench, "eeprom");
    assert_ne!(device.report(), report, "the nonce");
    let port = device.link.strip_prefix("serial:").expect("a port");
    std::fs::write(port, noise(4000)).expect("the line takes it");
    at(&bench, "state", &device, &["commission"]).succeeded();
    let record = shown(&bench);
    assert_eq!(record["certificates"].as_array().map(Vec::len), Some(1), "the one that was signed first");
    assert_eq!(bench.statuses(), ["active"]);
}

/// The certificate says what was known when it was signed, and stays: it is written once.
#[test]
fn a_firmware_with_edhoc_goes_on_with_the_key_of_one_without() {
    let bench = bench();
    let device = bench.start_with("eeprom", ID, &["--profile", "minimal"]);
    at(&bench, "state", &device, &["commission", "--trusted"]).succeeded();
    let before = shown(&bench);
    assert_eq!(before["proof"], "unproven");
    drop(device);
    let device = start(&bench, "eeprom");
    assert!(at(&bench, "state", &device, &["commission"]).succeeded().stdout.contains("already"));
    let after = shown(&bench);
    assert_eq!((&after["thumbprint"], &after["proof"]), (&before["thumbprint"], &"proved".into()));
    assert_eq!(after["certificates"], before["certificates"]);
}
