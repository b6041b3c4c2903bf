//! Several state directories of one issuer: what one knows is merged into the other.

use std::fs;

use end_to_end::{Bench, Cable};
use serde_json::Value;

const LAMP: &str = "urn:dev:ops:32473-sim-1a3b";
const BUTTON: &str = "urn:dev:ops:32473-sim-b0770";
const FAN: &str = "urn:dev:ops:32473-sim-fa";

fn export(bench: &Bench, state: &str) -> String {
    let file = bench.path(&format!("{state}.jsonl")).display().to_string();
    let args = ["export", "--format", "json", "--history", "--output", &file];
    bench.commissioner_of(state, &args).succeeded();
    file
}

fn merge(bench: &Bench, from: &str, into: &str) -> Value {
    let file = export(bench, from);
    bench.commissioner_of(into, &["import", "--json", &file]).succeeded().json().pop().expect("a summary")
}

/// Device and status of each key.
fn keys(bench: &Bench, state: &str) -> Vec<(String, String)> {
    let records = bench.commissioner_of(state, &["devices", "--all", "--json"]).succeeded().json();
    let text = |record: &Value, name: &str| record[name].as_str().expect("a text").to_owned();
    records.iter().map(|record| (text(record, "device"), text(record, "status"))).collect()
}

#[test]
fn two_stations_know_each_others_devices_after_a_merge() {
    let bench = Bench::initialised(Cable::Udp);
    let [lamp, button, fan] = [LAMP, BUTTON, FAN].map(|id| bench.start(id.rsplit('-').next().expect("a name"), id));
    bench.commissioner(&["commission", &lamp.link]).succeeded();
    bench.copy_state("state", "second");
    bench.commissioner(&["commission", &button.link]).succeeded();
    bench.commissioner_of("second", &["commission", &fan.link]).succeeded();
    bench.commissioner_of("second", &["revoke", LAMP]).succeeded();
    bench.commissioner_of("second", &["get", "/comm/peers", &button.link]).ended_with(5);

    let merged = merge(&bench, "state", "second");
    assert_eq!((&merged["devices"], &merged["activated"], &merged["revoked"]), (&1.into(), &1.into(), &0.into()));
    let merged = merge(&bench, "second", "state");
    assert_eq!((&merged["devices"], &merged["activated"], &merged["revoked"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(keys(&bench, "state"), keys(&bench, "second"));
    assert!(keys(&bench, "state").contains(&(LAMP.to_owned(), "revoked".to_owned())));
    for (state, device) in [("state", &fan), ("second", &button)] {
        bench.commissioner_of(state, &["get", "/comm/peers", &device.link]).succeeded();
        let again = bench.commissioner_of(state, &["commission", &device.link]).succeeded();
        assert!(again.stdout.contains("already"), "{}", again.stdout);
        bench.commissioner_of(state, &["audit", "--verify"]).succeeded();
    }
    // What happened there is told here.
    let history = bench.commissioner(&["show", FAN]).succeeded().stdout;
    assert!(history.contains("certificate-installed (imported)"), "{history}");
    // Once more is nothing.
    let again = bench.path("second.jsonl").display().to_string();
    let again = bench.commissioner(&["import", &again]).succeeded();
    assert!(again.stdout.contains("nothing new"), "{}", again.stdout);
}

/// The registry of last week signs nothing, until it knows what a device has heard since.
#[test]
fn an_old_backup_signs_again_once_the_newer_registry_is_merged() {
    let bench = Bench::initialised(Cable::Udp);
    let (lamp, button) = (bench.start("lamp", LAMP), bench.start("button", BUTTON));
    bench.commissioner(&["commission", &lamp.link, &button.link]).succeeded();
    bench.copy_state("state", "old");
    bench.commissioner(&["revoke", BUTTON]).succeeded();
    bench.commissioner(&["distribute", &lamp.link]).succeeded();
    bench.commissioner_of("old", &["distribute", &lamp.link]).ended_with(6).saying("that is not in this registry");
    bench.commissioner_of("old", &["get", "/comm/owner", &lamp.link]).ended_with(6);

    assert_eq!(merge(&bench, "state", "old")["revoked"], 1);
    bench.commissioner_of("old", &["distribute", &lamp.link]).succeeded();
    bench.commissioner_of("old", &["commission", &button.link]).ended_with(6).saying("revoked");
    bench.commissioner_of("old", &["audit", "--verify"]).succeeded();
}

#[test]
fn what_is_not_whole_or_not_ours_is_refused() {
    let bench = Bench::initialised(Cable::Udp);
    let lamp = bench.start("lamp", LAMP);
    bench.commissioner(&["commission", &lamp.link]).succeeded();
    let file = export(&bench, "state");
    bench.commissioner_of("stranger", &["init"]).succeeded();
    bench.copy_state("state", "second");
    let before = bench.commissioner_of("second", &["audit"]).succeeded().stdout;
    let refused = |state: &str, file: &str, exit: i32, words: &str| {
        bench.commissioner_of(state, &["import", file]).ended_with(exit).saying(words);
    };
    refused("stranger", &file, 6, "another issuer");
    refused("second", &bench.path("nowhere").display().to_string(), 2, "name a file that you can read");
    let text = fs::read_to_string(&file).expect("text");
    let cases = [
        (text[..text.len() / 2].to_owned(), "nothing was changed"),
        (text.replacen("key-seen", "key-sold", 1), "the entry of the history was changed"),
        (text.lines().skip(1).map(|line| format!("{line}\n")).collect(), "--history"),
        (String::new(), "--history"),
    ];
    for (number, (text, words)) in cases.into_iter().enumerate() {
        let bent = bench.path(&number.to_string());
        fs::write(&bent, text).expect("a file");
        refused("second", &bent.display().to_string(), 2, words);
    }
    // An export for other programs has no history.
    let plain = bench.path("plain").display().to_string();
    bench.commissioner(&["export", "--format", "json", "--output", &plain]).succeeded();
    refused("second", &plain, 2, "--history");
    assert_eq!(bench.commissioner_of("second", &["audit"]).succeeded().stdout, before);
    bench.commissioner(&["export", "--format", "csv", "--history"]).ended_with(2).saying("--format json");
}
