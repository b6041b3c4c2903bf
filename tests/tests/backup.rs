//! Backups: the state directory is lost and put back, as of now and as of some time ago.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use end_to_end::{Bench, Cable, Finished};
use serde_json::Value;

const LAMP: &str = "urn:dev:ops:32473-sim-1a3b";
const BUTTON: &str = "urn:dev:ops:32473-sim-b0770";

fn passphrase(bench: &Bench, text: &str) -> String {
    let file = bench.path("passphrase");
    fs::write(&file, format!("{text}\nnot this line\n")).expect("a file");
    file.display().to_string()
}

fn backup(bench: &Bench, name: &str) -> String {
    let (file, passphrase) = (bench.path(name).display().to_string(), passphrase(bench, "correct horse"));
    bench.commissioner(&["backup", &file, "--passphrase-file", &passphrase]).succeeded();
    file
}

fn restore(bench: &Bench, state: &str, file: &str, text: &str) -> Finished {
    let passphrase = passphrase(bench, text);
    bench.commissioner_of(state, &["restore-backup", file, "--passphrase-file", &passphrase])
}

fn devices(bench: &Bench, state: &str) -> Vec<Value> {
    bench.commissioner_of(state, &["devices", "--all", "--json"]).succeeded().json()
}

/// The files of a directory.
fn files(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_lost_state_directory_comes_back() {
    let bench = Bench::initialised(Cable::Udp);
    let lamp = bench.start("lamp", LAMP);
    bench.commissioner(&["commission", &lamp.link]).succeeded();
    bench.commissioner(&["distribute", &lamp.link]).succeeded();
    bench.commissioner(&["audit", "--seal"]).succeeded();
    let file = backup(&bench, "backup.age");
    assert_eq!(fs::metadata(&file).expect("a file").mode() & 0o777, 0o600);
    let sealed = fs::read(&file).expect("a file");
    for secret in ["PRIVATE KEY", "SQLite format", LAMP] {
        assert!(!sealed.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} is in the open");
    }
    let before = devices(&bench, "state");
    fs::remove_dir_all(bench.path("state")).expect("it is lost");

    restore(&bench, "state", &file, "correct horse").succeeded();
    assert_eq!(devices(&bench, "state"), before);
    for name in ["issuer.key", "station.key", "registry.sqlite"] {
        let mode = fs::metadata(bench.path("state").join(name)).expect("a file").mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    bench.commissioner(&["get", "/comm/owner", &lamp.link]).succeeded();
    bench.commissioner(&["distribute", &lamp.link]).succeeded();
    bench.commissioner(&["commission", &lamp.link]).succeeded();
    bench.commissioner(&["audit", "--verify"]).succeeded();
    let history = bench.commissioner(&["audit"]).succeeded().stdout;
    assert!(history.contains("backup-made") && history.contains("backup-restored"), "{history}");
    // Once more is no harm, as long as nothing happened: what is there is what would be put there.
    restore(&bench, "state", &file, "correct horse").ended_with(6).saying("is there already");
}

#[test]
fn what_does_not_open_changes_nothing() {
    let bench = Bench::initialised(Cable::Udp);
    let file = backup(&bench, "backup.age");
    restore(&bench, "new", &file, "wrong horse").ended_with(5).saying("does not open");
    restore(&bench, "new", &file, "").ended_with(2).saying("empty passphrase");
    let sealed = fs::read(&file).expect("a file");
    let half = sealed.len() / 2;
    let mut flipped = sealed.clone();
    flipped[half] ^= 1;
    for (name, bytes) in [
        ("flipped", flipped),
        ("cut", sealed[..half].to_vec()),
        ("short", sealed[..sealed.len() - 1].to_vec()),
        ("no", b"backup".to_vec()),
    ] {
        let damaged = bench.path(name);
        fs::write(&damaged, bytes).expect("a file");
        restore(&bench, "new", &damaged.display().to_string(), "correct horse").ended_with(2).saying("no whole backup");
        assert!(!bench.path("new").exists() || files(&bench.path("new")) == ["lock"], "{name}");
    }
    restore(&bench, "new", &bench.path("nowhere").display().to_string(), "correct horse").ended_with(2);
    // Another state is not written over, nor is another file.
    bench.commissioner_of("other", &["init"]).succeeded();
    let before = fs::read(bench.path("other/issuer.key")).expect("a key");
    restore(&bench, "other", &file, "correct horse").ended_with(6).saying("is there already");
    assert_eq!(fs::read(bench.path("other/issuer.key")).expect("a key"), before);
    let passphrase = passphrase(&bench, "correct horse");
    bench.commissioner(&["backup", &file, "--passphrase-file", &passphrase]).ended_with(2).saying("is there already");
    assert_eq!(fs::read(&file).expect("a file"), sealed);
    assert!(!files(&bench.path("state")).iter().any(|name| name.contains("backing")), "nothing is left lying about");
    restore(&bench, "new", &file, "correct horse").succeeded();
    // Without a terminal nobody can be asked.
    bench.commissioner(&["backup", "x"]).ended_with(2).saying("--passphrase-file");
}

/// The registry of last week does not know which key was revoked since.
#[test]
fn an_old_backup_brings_no_revoked_key_back_and_signs_no_version_twice() {
    let bench = Bench::initialised(Cable::Udp);
    let (lamp, button) = (bench.start("lamp", LAMP), bench.start("button", BUTTON));
    bench.commissioner(&["commission", &lamp.link, &button.link]).succeeded();
    let version = |state: &str, args: &[&str]| {
        let given = bench.commissioner_of(state, args).succeeded().json();
        given.iter().find_map(|line| line["list_version"].as_u64()).expect("a version")
    };
    let first = version("state", &["distribute", "--json", &lamp.link, &button.link]);
    let file = backup(&bench, "backup.age");
    bench.commissioner(&["revoke", BUTTON]).succeeded();
    let second = version("state", &["distribute", "--json", &lamp.link]);
    assert!(second > first);

    restore(&bench, "old", &file, "correct horse").succeeded();
    let old = |args: &[&str]| bench.commissioner_of("old", args);
    old(&["distribute", &lamp.link]).ended_with(6).saying("that is not in this registry");
    old(&["distribute", &button.link]).ended_with(6);
    // Where no device tells, the clock does: versions are times.
    restore(&bench, "older", &file, "correct horse").succeeded();
    let older = |args: &[&str]| bench.commissioner_of("older", args);
    older(&["revoke", LAMP]).succeeded();
    let third = version("older", &["distribute", "--json", &button.link]);
    assert!(third > first && third >= second, "{first} {second} {third}");
}
