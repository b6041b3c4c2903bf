//! Stations that act for an issuer whose key stays elsewhere: requests, tokens, scopes, and revocation.

use std::fs;

use end_to_end::{Bench, Cable, Device, Finished, cases};
use serde_json::Value;

const ID: &str = "urn:dev:ops:32473-sim-57a7";
const OTHER: &str = "urn:dev:ops:32473-sim-57a8";

cases! { [pty Pty, udp Udp] [
    a_station_commissions_without_the_issuers_key,
    a_scope_is_all_that_a_station_may,
] }

/// An issuer, and a station of it. Returns the station's key, too.
fn bench(cable: Cable) -> (Bench, String) {
    let bench = Bench::new(cable);
    issuer(&bench, &["init"]).succeeded();
    let anchor = file(&bench, "issuer.pem");
    issuer(&bench, &["issuer", "export", "--output", &anchor]).succeeded();
    let made = last(&station(&bench, &["init", "--issuer", &anchor, "--json"]).succeeded());
    let key = made["station_key"].as_str().expect("a key").to_owned();
    assert!(!bench.path("station/issuer.key").exists(), "the issuer's key is nowhere near");
    (bench, key)
}

fn issuer(bench: &Bench, args: &[&str]) -> Finished {
    bench.commissioner_of("issuer", args)
}

fn station(bench: &Bench, args: &[&str]) -> Finished {
    bench.commissioner_of("station", args)
}

fn file(bench: &Bench, name: &str) -> String {
    bench.path(name).display().to_string()
}

fn last(finished: &Finished) -> Value {
    finished.json().pop().expect("a line")
}

/// Has the station's requests signed.
fn signed(bench: &Bench) {
    let (requests, answers) = (file(bench, "requests.jsonl"), file(bench, "answers.jsonl"));
    station(bench, &["station", "requests", "--output", &requests]).succeeded();
    issuer(bench, &["issuer", "sign", &requests, "--output", &answers]).succeeded();
    station(bench, &["station", "install", &answers]).succeeded();
}

fn token(bench: &Bench, key: &str, scope: &str) {
    let token = file(bench, "token.cwt");
    issuer(bench, &["station", "new", key, "--scope", scope, "--hours", "1", "--output", &token]).succeeded();
    station(bench, &["station", "install", &token]).succeeded();
}

fn commissioned(bench: &Bench, device: &Device) {
    station(bench, &["commission", &device.link]).succeeded();
    signed(bench);
    station(bench, &["commission", &device.link]).succeeded();
}

fn a_station_commissions_without_the_issuers_key(bench: &Bench) {
    let (bench, key) = &self::bench(bench.cable);
    let (device, other) = (bench.start("flash", ID), bench.start("other", OTHER));
    // The first visit proves the keys, and leaves the devices as they are.
    let both = ["commission", &device.link, &other.link];
    let before = fs::read(bench.path("flash")).expect("a flash image");
    assert!(station(bench, &both).succeeded().stdout.contains("is to be signed where the issuer's key is"));
    assert_eq!(fs::read(bench.path("flash")).expect("a flash image"), before);
    let requests = station(bench, &["station", "requests", "--json"]).succeeded().json();
    assert_eq!(requests.iter().map(|line| line["device"].as_str().unwrap()).collect::<Vec<_>>(), [ID, OTHER]);
    // A visit in between asks for the same again.
    station(bench, &["commission", &device.link]).succeeded();
    assert_eq!(
        station(bench, &["station", "requests", "--json"]).succeeded().json()[0]["request"],
        requests[0]["request"]
    );
    signed(bench);
    assert!(station(bench, &["station", "requests"]).succeeded().stdout.is_empty());
    station(bench, &both).succeeded();
    let mine = station(bench, &["devices", "--json"]).succeeded().json();
    assert!(mine.iter().all(|line| line["status"] == "active") && mine.len() == 2, "{mine:?}");

    // Ours now: from here on it takes a token.
    station(bench, &["commission", &device.link]).ended_with(2).saying("no token of its issuer");
    token(bench, key, "commission");
    assert!(station(bench, &["commission", &device.link]).succeeded().stdout.contains("already"));

    // The issuer learns what became of it, and the station has the list from there.
    let (history, list) = (file(bench, "history.jsonl"), file(bench, "list.cwt"));
    station(bench, &["export", "--format", "json", "--history", "--output", &history]).succeeded();
    issuer(bench, &["import", &history]).succeeded();
    issuer(bench, &["distribute", &device.link]).succeeded();
    issuer(bench, &["export", "--format", "signed-list", "--output", &list]).succeeded();
    token(bench, key, "distribute");
    station(bench, &["distribute", &other.link]).ended_with(2).saying("no list of its issuer");
    station(bench, &["station", "install", &list]).succeeded();
    station(bench, &["distribute", &other.link]).succeeded();
    station(bench, &["audit", "--verify"]).succeeded();
    issuer(bench, &["audit", "--verify"]).succeeded();
}

fn a_scope_is_all_that_a_station_may(bench: &Bench) {
    let (bench, key) = &self::bench(bench.cable);
    let device = bench.start("flash", ID);
    commissioned(bench, &device);
    token(bench, key, "commission");
    station(bench, &["get", "/comm/owner", &device.link]).succeeded();
    for refused in [
        &["get", "/comm/peers", &device.link][..],
        &["rekey", &device.link],
        &["reset", &device.link],
        &["identify", &device.link],
    ] {
        station(bench, refused).ended_with(5);
    }
    token(bench, key, "distribute");
    station(bench, &["get", "/comm/peers", &device.link]).succeeded();
    station(bench, &["reset", &device.link]).ended_with(5);
    token(bench, key, "everything");
    station(bench, &["identify", &device.link]).succeeded();

    // Revoked by the list: with the next one that the device gets, and not before.
    let tokens = issuer(bench, &["station", "list", "--json"]).succeeded().json();
    assert_eq!(tokens.iter().filter(|token| token["status"] == "valid").count(), 3);
    issuer(bench, &["station", "revoke", key]).succeeded();
    let tokens = issuer(bench, &["station", "list", "--json"]).succeeded().json();
    assert!(tokens.iter().all(|token| token["status"] == "revoked"));
    issuer(bench, &["station", "revoke", key]).ended_with(2).saying("0 stations");
    station(bench, &["identify", &device.link]).succeeded();
    let history = file(bench, "history.jsonl");
    station(bench, &["export", "--format", "json", "--history", "--output", &history]).succeeded();
    issuer(bench, &["import", &history]).succeeded();
    issuer(bench, &["distribute", &device.link]).succeeded();
    station(bench, &["identify", &device.link]).ended_with(5).saying("revoked by the device list");
    token(bench, key, "everything");
    station(bench, &["identify", &device.link]).succeeded();
}

#[test]
fn what_takes_the_issuers_key_says_so_and_what_is_not_for_a_station_is_refused() {
    let (bench, key) = bench(Cable::Udp);
    let device = bench.start("flash", ID);
    commissioned(&bench, &device);
    let token_file = file(&bench, "token.cwt");
    for refused in [
        &["voucher", ID, "--for", &key][..],
        &["transfer", ID, "--to", &key],
        &["audit", "--seal"],
        &["station", "new", &key, "--output", &token_file],
        &["issuer", "sign", &token_file, "--output", &token_file],
    ] {
        station(&bench, refused).ended_with(2).saying("is not at this station");
    }
    let install = |party: &str, contents: &[u8]| {
        fs::write(&token_file, contents).expect("a file");
        bench.commissioner_of(party, &["station", "install", &token_file])
    };
    install("station", b"").ended_with(2).saying("is empty");
    install("station", b"{}").ended_with(2).saying("holds no answers");
    install("station", br#"{"device":"x","certificate":"00"}"#).ended_with(6).saying("not a device certificate");
    bench.commissioner_of("elsewhere", &["init"]).succeeded();
    let shown = last(&bench.commissioner_of("elsewhere", &["issuer", "show", "--json"]).succeeded());
    let other = shown["key"].as_str().expect("a key").to_owned();
    for wrong in [&key[..], &other] {
        // For the station of another issuer; for another station.
        let party = if wrong == key { "elsewhere" } else { "issuer" };
        bench.commissioner_of(party, &["station", "new", wrong, "--output", &token_file]).succeeded();
        station(&bench, &["station", "install", &token_file]).ended_with(2).saying("for another station");
    }
    issuer(&bench, &["station", "install", &token_file]).ended_with(2).saying("the issuer's key is here");
    station(&bench, &["init", "--issuer", &key]).ended_with(6).saying("another issuer");
    // A device that came with a new key: the issuer wants to know.
    drop(device);
    fs::remove_file(bench.path("flash")).expect("it is erased");
    let device = bench.start("flash", ID);
    station(&bench, &["commission", &device.link, "--accept-new-key"]).succeeded();
    let (requests, answers) = (file(&bench, "requests.jsonl"), file(&bench, "answers.jsonl"));
    station(&bench, &["station", "requests", "--output", &requests]).succeeded();
    let history = file(&bench, "history.jsonl");
    station(&bench, &["export", "--format", "json", "--history", "--output", &history]).succeeded();
    let sign = ["issuer", "sign", &requests, "--output", &answers];
    issuer(&bench, &sign).ended_with(6).saying("--accept-new-key");
    issuer(&bench, &[&sign[..], &["--accept-new-key"]].concat()).succeeded();
    station(&bench, &["station", "install", &answers]).succeeded();
    station(&bench, &["commission", &device.link]).succeeded();
}
