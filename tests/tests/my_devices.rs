//! "My devices": the list that devices hold of each other, from the registry to a light that obeys or does not.

use std::process::Command;

use cbor_schemas::{Profile, ProofLevel};
use commissioner::{
    clock::Clock,
    registry::{Observation, Place, Registry},
    state_dir::StateDir,
};
use end_to_end::{Bench, Cable, Device, cases, program};
use protocol::key::PrivateKey;
use rand_core::OsRng;
use serde_json::Value;

const LAMP: &str = "urn:dev:ops:32473-sim-1a3b";
const BUTTON: &str = "urn:dev:ops:32473-sim-b0770";
const THIRD: &str = "urn:dev:ops:32473-sim-03";

cases! { [pty Pty, udp Udp] [a_list_is_brought_to_devices_and_told, a_new_device_gets_the_list_as_the_last_step] }

/// What `distribute` says of each device.
fn given(bench: &Bench, links: &[&str]) -> Vec<Value> {
    let mut lines = bench.commissioner(&[&["distribute", "--json"], links].concat()).succeeded().json();
    lines.retain(|line| line.get("step").is_none());
    lines
}

/// The version of the list that a device holds, as its owner reads it there.
fn held(bench: &Bench, link: &str) -> String {
    let answer = bench.commissioner(&["get", "/comm/peers", link, "--json"]).succeeded().json();
    let answer = answer.iter().find(|line| line.get("payload").is_some()).expect("an answer");
    answer["payload"].as_str().expect("a text").to_owned()
}

/// The versions that `devices` shows, by device.
fn shown(bench: &Bench) -> Vec<(String, Option<u64>)> {
    let of = |record: &Value| (record["device"].as_str().expect("an ID").to_owned(), record["list_version"].as_u64());
    bench.records().iter().map(of).collect()
}

fn a_list_is_brought_to_devices_and_told(bench: &Bench) {
    let (lamp, button) = (bench.start("lamp", LAMP), bench.start("button", BUTTON));
    bench.commissioner(&["commission", &lamp.link, &button.link]).succeeded();
    assert_eq!(shown(bench), [(LAMP.to_owned(), None), (BUTTON.to_owned(), None)]);

    let first = given(bench, &[&lamp.link, &button.link]);
    assert_eq!(first.len(), 2);
    for device in &first {
        assert_eq!(
            (&device["keys"], &device["mode"], &device["changed"]),
            (&2.into(), &"members".into(), &true.into())
        );
    }
    let version = first[0]["list_version"].as_u64().expect("a version");
    assert_eq!(shown(bench), [(LAMP.to_owned(), Some(version)), (BUTTON.to_owned(), Some(version))]);
    assert!(held(bench, &lamp.link).contains(&version.to_string()));
    let table = bench.commissioner(&["devices"]).succeeded().stdout;
    assert_eq!(table.matches("newest").count(), 2, "{table}");

    let are_current =
        |bench: &Bench| bench.records().iter().map(|record| record["list_is_current"].clone()).collect::<Vec<_>>();
    assert_eq!(are_current(bench), [true, true]);

    // Nothing new is nothing to do.
    let again = given(bench, &[&lamp.link]);
    assert_eq!((&again[0]["list_version"], &again[0]["changed"]), (&version.into(), &false.into()));

    // A revocation is news, to the one device that is still mine.
    bench.commissioner(&["revoke", BUTTON]).succeeded();
    // Though no newer list is signed yet: what the lamp holds is not true any more.
    let table = bench.commissioner(&["devices"]).succeeded().stdout;
    assert!(!table.contains("newest"), "{table}");
    assert_eq!(are_current(bench), [Value::Bool(false), Value::Null]);
    let second = given(bench, &[&lamp.link]);
    assert!(second[0]["list_version"].as_u64() > Some(version) && second[0]["keys"] == 1, "{second:?}");
    bench.commissioner(&["distribute", &button.link]).ended_with(6).saying("is revoked");
    let with_other_mode = given(bench, &["--mode", "revoked", &lamp.link]);
    assert_eq!((&with_other_mode[0]["mode"], &with_other_mode[0]["keys"]), (&"revoked".into(), &1.into()));
    assert_eq!(given(bench, &[&lamp.link])[0]["mode"], "revoked", "as last time");
    bench.commissioner(&["show", LAMP]).succeeded();

    // It survives a restart of the device, and goes with a reset.
    drop(lamp);
    let lamp = bench.start("lamp", LAMP);
    assert_eq!(given(bench, &[&lamp.link])[0]["changed"], false);
    bench.commissioner(&["reset", &lamp.link]).succeeded();
    assert!(shown(bench).iter().all(|(_, version)| version.is_none()));
    bench.commissioner(&["distribute", &lamp.link]).ended_with(6).saying("is not one of your devices");
}

fn a_new_device_gets_the_list_as_the_last_step(bench: &Bench) {
    let lamp = bench.start("lamp", LAMP);
    bench.commissioner(&["commission", &lamp.link]).succeeded();
    let version = given(bench, &[&lamp.link])[0]["list_version"].as_u64();
    let third = bench.start("third", THIRD);
    bench.commissioner(&["commission", &third.link]).succeeded().saying("is installed");
    let [(_, third_holds), (_, lamp_holds)] = &shown(bench)[..] else { panic!("two devices") };
    assert!(*lamp_holds == version && *third_holds > version, "{lamp_holds:?} {third_holds:?}");
    let table = bench.commissioner(&["devices"]).succeeded().stdout;
    assert_eq!(table.matches("newest").count(), 1, "the lamp does not know yet: {table}");
    // A device that was commissioned before gets it, too.
    bench.commissioner(&["commission", &lamp.link]).succeeded();
    let table = bench.commissioner(&["devices"]).succeeded().stdout;
    assert_eq!(table.matches("newest").count(), 2, "{table}");
}

/// Starts a device whose button switches the light of another one.
fn start_button(bench: &Bench, lamp: &Device) -> Device {
    let light = lamp.link.strip_prefix("udp:").expect("an address");
    let mut button = Command::new(program("device-sim"));
    button.args(["--id", BUTTON, "--udp", "127.0.0.1:0", "--switches", light]);
    Device::start(button.arg("--flash").arg(bench.path("button")))
}

/// Presses the button, and waits for what comes of it.
fn press(button: &mut Device, outcome: &str) {
    button.signal("USR1");
    button.expect_line(outcome);
}

/// The whole point: "all my devices may switch this light", and one that was revoked may not, without touching it.
#[test]
fn a_light_obeys_my_devices_and_not_one_that_was_revoked() {
    let bench = Bench::initialised(Cable::Udp);
    let mut lamp = bench.start("lamp", LAMP);
    let mut button = start_button(&bench, &lamp);
    bench.commissioner(&["commission", &lamp.link, &button.link]).succeeded();
    press(&mut button, "was not switched: the device list does not have this device");
    given(&bench, &[&button.link]);
    press(&mut button, "was not switched: it answers 4.03");
    given(&bench, &[&lamp.link]);
    press(&mut button, "was switched on");
    lamp.expect_line("the light is on");
    press(&mut button, "was switched off");
    lamp.expect_line("the light is off");

    // Anyone may look, and nobody else may switch.
    let looked = bench.commissioner(&["get", "/led", "--plain", &lamp.link]).succeeded().stdout;
    assert_eq!(looked.trim(), "false");
    std::fs::write(bench.path("on"), [0xf5]).expect("a file");
    let on = bench.path("on").display().to_string();
    bench.commissioner_of("stranger", &["init"]).succeeded();
    bench.commissioner_of("stranger", &["put", "/led", &lamp.link, "--file", &on]).ended_with(5);

    // Lost, or sold.
    bench.commissioner(&["revoke", BUTTON]).succeeded();
    press(&mut button, "was switched on");
    given(&bench, &[&lamp.link]);
    press(&mut button, "was not switched: it answers 4.03");

    // Mine again, with a new key: the old one stays out.
    drop(button);
    std::fs::remove_file(bench.path("button")).expect("the flash is erased");
    let mut button = start_button(&bench, &lamp);
    bench.commissioner(&["commission", &button.link, "--accept-new-key"]).succeeded();
    press(&mut button, "was not switched: it answers 4.03");
    given(&bench, &[&lamp.link]);
    press(&mut button, "was switched off");
}

/// A registry that was put back from a backup does not know which keys were revoked since: it signs nothing any more.
#[test]
fn an_old_backup_does_not_bring_a_revoked_key_back() {
    let bench = Bench::initialised(Cable::Udp);
    let (lamp, button, third) = (bench.start("lamp", LAMP), bench.start("button", BUTTON), bench.start("third", THIRD));
    bench.commissioner(&["commission", &lamp.link, &button.link]).succeeded();
    given(&bench, &[&lamp.link, &button.link]);
    let copied = Command::new("cp").arg("-r").args([bench.path("state"), bench.path("backup")]).status();
    assert!(copied.expect("cp runs").success());
    bench.commissioner(&["revoke", BUTTON]).succeeded();
    let version = given(&bench, &[&lamp.link])[0]["list_version"].clone();

    let old = |args: &[&str]| bench.commissioner_of("backup", args);
    old(&["distribute", &lamp.link]).ended_with(6).saying("that is not in this registry");
    for args in [&["distribute", &button.link][..], &["commission", &third.link], &["get", "/comm/owner", &button.link]]
    {
        old(args).ended_with(6).saying("Nothing is signed");
    }
    assert!(held(&bench, &lamp.link).contains(&version.to_string()), "it was left alone");
    // Had the lamp lied, this would settle it.
    old(&["revoke", LAMP]).succeeded();
    old(&["commission", &third.link]).succeeded();
}

/// More devices than the firmware has room for.
#[test]
fn a_list_that_is_too_long_is_not_sent() {
    let bench = Bench::initialised(Cable::Udp);
    let lamp = bench.start("lamp", LAMP);
    bench.commissioner(&["commission", &lamp.link]).succeeded();
    given(&bench, &[&lamp.link]);
    let before = held(&bench, &lamp.link);
    let programmed = async {
        let dir = StateDir::open(&bench.path("state")).expect("a state directory");
        let registry = Registry::open(&dir, Clock::System, false).await.expect("a registry");
        for number in 0..64 {
            let observation = Observation {
                device: format!("urn:dev:ops:32473-many-{number}").parse().expect("an ID"),
                key: *PrivateKey::generate(&mut OsRng).public(),
                generation: 1,
                profile: Profile::Full,
                place: Place::Trusted,
                proof: ProofLevel::Unproven,
            };
            registry.observe_key(&observation).await.expect("it is remembered");
        }
    };
    tokio::runtime::Runtime::new().expect("a runtime").block_on(programmed);
    let refused = bench.commissioner(&["distribute", &lamp.link]).ended_with(5);
    refused.saying("the list has 65 keys, and this device takes 64 at the most").saying("--mode revoked");
    assert_eq!(held(&bench, &lamp.link), before);
    assert_eq!(given(&bench, &["--mode", "revoked", &lamp.link])[0]["keys"], 0);
}

/// The commissioner dies between signing and sending: the next one sends the very same list.
#[test]
#[cfg(debug_assertions)]
fn a_list_that_was_signed_and_not_sent_is_sent_next_time() {
    let bench = Bench::initialised(Cable::Udp);
    let lamp = bench.start("lamp", LAMP);
    bench.commissioner(&["commission", &lamp.link]).succeeded();
    let mut versions = Vec::new();
    for point in ["signed:1", "before-request:2", "after-answer:2"] {
        let mut command = Command::new(program("commissioner"));
        command.arg("--state-dir").arg(bench.path("state")).args(["distribute", &lamp.link]);
        let killed = command.env("COMMISSIONER_STOP_AT", point).output().expect("it runs");
        assert!(!killed.status.success(), "{point}");
        let given = given(&bench, &[&lamp.link]);
        versions.push(given[0]["list_version"].as_u64());
        // What was stored before the answer was lost is not stored again.
        assert_eq!(given[0]["changed"], point != "after-answer:2", "{point}");
        // Each time it was the one that was begun.
        let begun = bench.commissioner(&["audit", "--json"]).succeeded().json();
        let begun = begun.iter().filter(|entry| entry["event"] == "list-intended").count();
        assert_eq!(begun, versions.len(), "{point}");
        bench.commissioner(&["rekey", &lamp.link]).succeeded();
    }
    assert!(versions.is_sorted() && versions[0] < versions[2], "{versions:?}");
}
