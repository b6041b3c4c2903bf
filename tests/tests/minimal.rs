//! The minimal profile: a device that cannot prove its key, at the cable that it is programmed by. It ends up among "my
//! devices", marked as unproven, and only there and only in that place.

use std::process::Command;

use cbor_schemas::{Condition, DeviceInfo, DeviceListClaims, Kind, Sign1, report};
use end_to_end::{ATMEGA_ID as ID, Bench, Cable, Device, Finished, RECIPIENT, Running, noise};
use serde_json::Value;

fn bench() -> Bench {
    Bench::initialised(Cable::Pty)
}

/// A simulated device.
fn start(bench: &Bench, flash: &str) -> Device {
    bench.start_with(flash, ID, &["--profile", "minimal"])
}

/// The firmware of an ATmega1284P in simavr.
fn start_atmega(bench: &Bench, eeprom: &str) -> Device {
    Device::start(&mut atmega(bench, eeprom))
}

fn atmega(bench: &Bench, eeprom: &str) -> Command {
    bench.atmega("atmega1284p.elf", eeprom)
}

fn commission(bench: &Bench, device: &Device, options: &[&str]) -> Finished {
    bench.commissioner(&[&["commission", &device.link], options].concat())
}

fn shown(bench: &Bench) -> Value {
    bench.commissioner(&["show", ID, "--json"]).succeeded().json().remove(0)
}

fn comm(bench: &Bench, device: &Device) -> String {
    bench.commissioner(&["get", "/comm", &device.link, "--plain"]).succeeded().stdout
}

#[test]
fn a_simulated_device_is_one_of_my_devices() {
    is_one_of_my_devices_and_marked_as_unproven(start);
}

#[test]
fn an_atmega_is_one_of_my_devices() {
    is_one_of_my_devices_and_marked_as_unproven(start_atmega);
}

fn is_one_of_my_devices_and_marked_as_unproven(start: fn(&Bench, &str) -> Device) {
    let bench = bench();
    let device = start(&bench, "eeprom");
    commission(&bench, &device, &["--trusted"]).succeeded();
    let again = commission(&bench, &device, &["--trusted", "--as", "factory"]).succeeded();
    assert!(again.stdout.contains("already"), "{}", again.stdout);
    let record = shown(&bench);
    assert_eq!(
        (&record["status"], &record["provenance"], &record["certificates"][0]["slot"]),
        (&"active".into(), &"programming".into(), &"factory".into())
    );
    assert_eq!(record["certificates"][0]["proof"], "unproven", "{record}");
    assert_eq!(record["certificates"].as_array().map(Vec::len), Some(1));

    // What it keeps is the key and the certificate.
    let report = device.report().to_owned();
    drop(device);
    let device = start(&bench, "eeprom");
    assert_ne!(device.report(), report, "the nonce and the slot");
    assert!(commission(&bench, &device, &["--trusted"]).succeeded().stdout.contains("already"));
    assert_eq!(shown(&bench)["thumbprint"], record["thumbprint"]);

    // The maker's certificate is checked, and what it does not prove is said.
    let anchor = bench.path("anchor.pem").display().to_string();
    bench.commissioner(&["issuer", "export", "--output", &anchor]).succeeded();
    let verdict = bench.commissioner_of("stranger", &["verify", &device.link, "--anchor", &anchor, "--json"]);
    let verdict = verdict.ended_with(5).saying("cannot prove that it is that one").json();
    let verdict = verdict.iter().find(|line| line["verdict"].is_string()).expect("a verdict");
    assert_eq!((&verdict["verdict"], &verdict["possession"]), (&"claimed".into(), &"unproven".into()));
    assert_eq!(verdict["thumbprint"], record["thumbprint"]);

    // It is on the list that others get.
    let full = bench.start_with("full", "urn:dev:ops:32473-sim-01", &[]);
    commission(&bench, &full, &[]).succeeded();
    bench.commissioner(&["distribute", &full.link]).succeeded();
    let list = bench.signed_list();
    let object = Sign1::decode_as(Kind::DeviceList, &list).expect("a list");
    let claims = DeviceListClaims::decode(object.payload).expect("claims");
    assert!(claims.unproven.contains(&credential(&device)), "its key is on the list, marked");

    // An erased EEPROM is another key, which replaces the first where devices are programmed.
    let erased = start(&bench, "other");
    commission(&bench, &erased, &["--trusted"]).succeeded();
    assert_eq!(bench.statuses().iter().filter(|status| *status == "revoked").count(), 1);
    commission(&bench, &device, &["--trusted"]).ended_with(6).saying("revoked");
}

#[test]
fn it_is_believed_at_the_programming_cable_alone() {
    let bench = bench();
    let device = start(&bench, "eeprom");
    let before = comm(&bench, &device);
    for (options, exit, text) in [
        (&[][..], 5, "with --trusted"),
        (&["--accept-new-key"], 5, "with --trusted"),
        (&["--trusted", "--escrow", "--recipient", RECIPIENT], 5, "no key"),
    ] {
        commission(&bench, &device, options).ended_with(exit).saying(text);
    }
    let second = bench.start_with("second", "urn:dev:ops:32473-small-02", &["--profile", "minimal"]);
    bench
        .commissioner(&["commission", &device.link, &second.link, "--trusted"])
        .ended_with(5)
        .saying("commission it alone");
    for command in [&["rekey"][..], &["identify"], &["reset"], &["put", "slots/blinks"]] {
        let said = bench.commissioner(&[command, &[&device.link]].concat());
        assert_ne!(said.exit, 0, "{command:?}");
    }
    assert_eq!(comm(&bench, &device), before);
    assert!(bench.records().is_empty(), "{:?}", bench.records());

    // A station without the issuer's key has nothing proved to ask for.
    let anchor = bench.path("anchor.pem").display().to_string();
    bench.commissioner(&["issuer", "export", "--output", &anchor]).succeeded();
    bench.commissioner_of("station", &["init", "--issuer", &anchor]).succeeded();
    bench
        .commissioner_of("station", &["commission", &device.link, "--trusted"])
        .ended_with(2)
        .saying("where the issuer's key is");
    assert_eq!(comm(&bench, &device), before);
}

#[test]
fn another_makers_device_stays_that() {
    let bench = bench();
    let device = start(&bench, "eeprom");
    bench.commissioner_of("other", &["init"]).succeeded();
    bench.commissioner_of("other", &["commission", &device.link, "--trusted"]).succeeded();
    commission(&bench, &device, &["--trusted"]).ended_with(5).saying("another maker");
}

/// Otherwise whoever copies the ID of a device could have a key of its own certified as that device's.
#[test]
fn what_was_seen_with_the_full_profile_is_never_minimal() {
    let bench = bench();
    let full = bench.start_with("full", ID, &[]);
    commission(&bench, &full, &["--trusted"]).succeeded();
    drop(full);
    let small = start(&bench, "eeprom");
    commission(&bench, &small, &["--trusted", "--accept-new-key"]).ended_with(6).saying("minimal profile");
    assert_eq!(bench.statuses(), ["active"]);
}

#[test]
fn a_run_that_programs_it_commissions_it() {
    let bench = bench();
    let device = start(&bench, "eeprom");
    let report = device.report().to_owned();
    // With the report alone: the key is known, and nothing is on the device.
    bench.commissioner(&["run", "--", "echo", &report]).succeeded();
    assert_eq!(bench.statuses(), ["active"]);
    bench.commissioner(&["run", "--link", &device.link, "--", "echo", &report]).succeeded();
    assert_eq!(shown(&bench)["certificates"][0]["status"], "installed");
}

/// Bytes that an ATmega programs at each start: its seed.
const SEED: u32 = 32;

/// The power goes while an ATmega programs its EEPROM: in the seed, at the beginning, in the middle and at the end of what
/// is kept.
#[test]
fn a_power_cut_leaves_an_atmega_with_the_key_that_it_reported() {
    let bench = bench();
    for cut in [SEED / 2, SEED, SEED + 40, SEED + 72] {
        let eeprom = format!("first-{cut}");
        runs_until_it_is_dark(&bench, &eeprom, cut);
        let first = credential(&start_atmega(&bench, &eeprom));
        assert_eq!(credential(&start_atmega(&bench, &eeprom)), first, "cut {cut}");
    }

    let key = credential(&start_atmega(&bench, "eeprom"));
    for cut in [SEED, SEED + 150] {
        let device = Device::start(atmega(&bench, "eeprom").args(["--cut", &cut.to_string()]));
        commission(&bench, &device, &["--trusted"]).ended_with(4);
        drop(device);
        assert_eq!(credential(&start_atmega(&bench, "eeprom")), key, "cut {cut}");
    }
    let device = start_atmega(&bench, "eeprom");
    commission(&bench, &device, &["--trusted"]).succeeded();
    assert_eq!(shown(&bench)["certificates"].as_array().map(Vec::len), Some(1), "the one that was signed first");
}

fn runs_until_it_is_dark(bench: &Bench, eeprom: &str, cut: u32) {
    let (code, said) = Running::start(atmega(bench, eeprom).args(["--cut", &cut.to_string()])).finish();
    assert_ne!(code, Some(0), "{said:?}");
    assert!(!said.iter().any(|line| line.contains("commissioning-report:")), "nobody is told of the key: {said:?}");
}

/// The key that a device reports.
fn credential(device: &Device) -> [u8; 32] {
    let mut bytes = [0; DeviceInfo::MAX_LEN];
    let info = report::find(device.report(), &mut bytes).expect("a report").expect("a whole one");
    assert_eq!(info.condition, Condition::Ok);
    info.credential.expect("a key").x
}

#[test]
fn garbage_on_the_line_does_not_bother_an_atmega() {
    let bench = bench();
    let device = start_atmega(&bench, "eeprom");
    let port = device.link.strip_prefix("serial:").expect("a port");
    std::fs::write(port, noise(4000)).expect("the line takes it");
    commission(&bench, &device, &["--trusted"]).succeeded();
}
