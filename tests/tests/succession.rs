//! What becomes of a device's key when its flash is erased: by the device's policy, with real devices and real files.

use std::fs;

use age::secrecy::ExposeSecret;
use end_to_end::{Bench, Cable, Device, Finished, cases};
use serde_json::Value;

const ID: &str = "urn:dev:ops:32473-sim-5ecc";

cases! { [pty Pty, udp Udp] [
    a_kept_key_is_given_back_after_an_erase,
] }

/// Starts a device that takes keys from its owner.
fn start(bench: &Bench, flash: &str, id: &str) -> Device {
    bench.start_with(flash, id, &["--takes-keys"])
}

/// Pulls the plug, and erases the flash.
fn erase(bench: &Bench, device: Device, flash: &str) {
    drop(device);
    fs::remove_file(bench.path(flash)).expect("the flash is erased");
}

/// A file with a passphrase.
fn passphrase(bench: &Bench, words: &str) -> String {
    let path = bench.path(&words.replace(' ', "-"));
    fs::write(&path, words).expect("a file");
    path.display().to_string()
}

fn commission(bench: &Bench, device: &Device, options: &[&str]) -> Finished {
    bench.commissioner(&[&["commission", &device.link], options].concat())
}

/// The record of the key that counts.
fn shown(bench: &Bench) -> Value {
    bench.commissioner(&["show", ID, "--json"]).succeeded().json().remove(0)
}

/// The device's key, as it says to anyone, and where it came from.
fn key(bench: &Bench, device: &Device) -> String {
    let found = bench.commissioner(&["discover", &device.link, "--json"]).succeeded().json();
    let found = found.iter().find(|line| line["device"] == ID).expect("it answers");
    found["thumbprint"].as_str().expect("a key").to_owned()
}

fn a_kept_key_is_given_back_after_an_erase(bench: &Bench) {
    let words = passphrase(bench, "correct horse battery staple");
    let device = start(bench, "flash", ID);
    let done = commission(bench, &device, &["--escrow", "--passphrase-file", &words]).succeeded();
    assert!(done.stderr.contains("a sealed copy of it is kept"), "{}", done.stderr);
    let kept = key(bench, &device);
    assert_eq!(bench.statuses(), ["revoked", "active"]);
    let record = shown(bench);
    assert_eq!(
        (&record["thumbprint"], &record["policy"], &record["escrowed"]),
        (&kept.clone().into(), &"restore".into(), &true.into())
    );
    assert_eq!(record["certificates"][0]["status"], "installed");
    // A key that is known here is not handed on.
    bench.commissioner_of("other", &["init"]).succeeded();
    let theirs = bench.commissioner_of("other", &["issuer", "show", "--json"]).succeeded().json().remove(0);
    let to = theirs["key"].as_str().expect("a key");
    bench.commissioner(&["transfer", ID, "--to", to]).ended_with(6).saying("a copy of its key is kept here");
    // Once is enough.
    commission(bench, &device, &["--escrow", "--passphrase-file", &words]).succeeded();
    assert_eq!(key(bench, &device), kept);

    erase(bench, device, "flash");
    let device = start(bench, "flash", ID);
    let instead = key(bench, &device);
    assert_ne!(instead, kept);
    for options in [&[][..], &["--trusted"]] {
        commission(bench, &device, options).ended_with(6).saying("`commissioner restore` puts it back");
    }
    assert_eq!(bench.statuses(), ["revoked", "active", "pending"]);
    let wrong = passphrase(bench, "incorrect horse");
    let before = fs::read(bench.path("flash")).expect("the flash");
    bench.commissioner(&["restore", &device.link, "--passphrase-file", &wrong]).ended_with(5).saying("does not open");
    assert!(fs::read(bench.path("flash")).expect("the flash") == before, "the device was not touched");

    bench.commissioner(&["restore", &device.link, "--passphrase-file", &words]).succeeded();
    assert_eq!(key(bench, &device), kept);
    assert_eq!(bench.statuses(), ["revoked", "active", "revoked"]);
    let installed: Vec<_> = shown(bench)["certificates"].as_array().expect("certificates").clone();
    assert_eq!(installed.iter().filter(|certificate| certificate["status"] == "installed").count(), 1);
    let again = commission(bench, &device, &[]).succeeded();
    assert!(again.stdout.contains("is one of your devices already"), "{}", again.stdout);
    bench.commissioner(&["audit", "--verify"]).succeeded();
    // Nothing to do is no failure.
    bench.commissioner(&["restore", &device.link, "--passphrase-file", &words]).succeeded();
}

/// The station that seals need not be able to open: `age-keygen` on another machine made the recipient.
#[test]
fn a_copy_is_sealed_to_a_recipient_and_opened_by_its_identity() {
    let bench = Bench::initialised(Cable::Udp);
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let file = bench.path("identity");
    fs::write(&file, identity.to_string().expose_secret()).expect("a file");
    let file = file.display().to_string();

    let device = start(&bench, "flash", ID);
    commission(&bench, &device, &["--escrow", "--recipient", &recipient]).succeeded();
    let kept = key(&bench, &device);
    erase(&bench, device, "flash");
    let device = start(&bench, "flash", ID);
    bench.commissioner(&["restore", &device.link, "--identity", &file]).succeeded();
    assert_eq!(key(&bench, &device), kept);

    commission(&bench, &device, &["--escrow", "--recipient", "age1"]).ended_with(2).saying("age-keygen");
    let nowhere = bench.path("nowhere").display().to_string();
    bench.commissioner(&["restore", &device.link, "--identity", &nowhere]).ended_with(2).saying("name another one");
}

/// A key that nobody wants back any more, and one that is revoked, do not come back.
#[test]
fn a_kept_key_that_is_out_stays_out() {
    let bench = Bench::initialised(Cable::Udp);
    let words = passphrase(&bench, "one");
    let escrow = ["--escrow", "--passphrase-file", &words];
    let device = start(&bench, "flash", ID);
    commission(&bench, &device, &escrow).succeeded();
    let first = key(&bench, &device);
    bench.commissioner(&["revoke", ID]).succeeded();
    erase(&bench, device, "flash");
    let device = start(&bench, "flash", ID);
    bench
        .commissioner(&["restore", &device.link, "--passphrase-file", &words])
        .ended_with(6)
        .saying("no copy of the key");
    assert_ne!(key(&bench, &device), first);
    commission(&bench, &device, &["--accept-new-key"]).succeeded();

    // Given up by the user's word, with the copy still there.
    commission(&bench, &device, &escrow).succeeded();
    erase(&bench, device, "flash");
    let device = start(&bench, "flash", ID);
    commission(&bench, &device, &["--accept-new-key"]).succeeded();
    bench
        .commissioner(&["restore", &device.link, "--passphrase-file", &words])
        .ended_with(6)
        .saying("no copy of the key");
    // A rekey is a key that only the device knows.
    commission(&bench, &device, &escrow).succeeded();
    bench.commissioner(&["rekey", &device.link]).succeeded();
    let record = shown(&bench);
    assert_eq!((&record["policy"], &record["escrowed"]), (&"rotate".into(), &false.into()));
}

#[test]
fn firmware_that_takes_no_keys_keeps_its_own() {
    let bench = Bench::initialised(Cable::Udp);
    let words = passphrase(&bench, "one");
    let device = bench.start_with("flash", ID, &[]);
    let own = key(&bench, &device);
    let refused = commission(&bench, &device, &["--escrow", "--passphrase-file", &words]).ended_with(5);
    assert!(refused.stderr.contains("takes no key from its owner"), "{}", refused.stderr);
    assert_eq!((key(&bench, &device), bench.statuses()), (own, vec!["active".to_owned()]));
    let record = shown(&bench);
    assert_eq!((&record["policy"], &record["escrowed"]), (&"rotate".into(), &false.into()));
    let history = bench.commissioner(&["show", ID]).succeeded().stdout;
    assert!(history.contains("injection-refused"), "{history}");
    bench.commissioner(&["policy", ID, "restore"]).ended_with(6).saying("no copy of the key");
}

/// A device of the same ID that somebody else owns: it sees neither the key nor the station.
#[test]
fn nothing_is_restored_to_a_device_that_somebody_else_owns() {
    let bench = Bench::initialised(Cable::Udp);
    let words = passphrase(&bench, "one");
    let device = start(&bench, "flash", ID);
    commission(&bench, &device, &["--escrow", "--passphrase-file", &words]).succeeded();
    drop(device);
    let other = start(&bench, "other", ID);
    bench.commissioner_of("others", &["init"]).succeeded();
    bench.commissioner_of("others", &["commission", &other.link]).succeeded();
    let theirs = key(&bench, &other);
    let restored = bench.commissioner(&["restore", &other.link, "--passphrase-file", &words]).ended_with(5);
    assert!(restored.stderr.contains("the device has an owner"), "{}", restored.stderr);
    assert!(!restored.stderr.contains("token"), "{}", restored.stderr);
    assert_eq!(key(&bench, &other), theirs);
}

/// An owner who resets a device does not leave a key behind that somebody else knows.
#[test]
fn a_reset_takes_the_injected_key_away() {
    let bench = Bench::initialised(Cable::Udp);
    let words = passphrase(&bench, "one");
    let device = start(&bench, "flash", ID);
    commission(&bench, &device, &["--escrow", "--passphrase-file", &words]).succeeded();
    let kept = key(&bench, &device);
    bench.commissioner(&["reset", &device.link]).succeeded();
    let own = key(&bench, &device);
    assert_ne!(own, kept);
    bench.commissioner_of("other", &["init"]).succeeded();
    bench.commissioner_of("other", &["commission", &device.link]).succeeded();
    assert_eq!(key(&bench, &device), own);
}

#[test]
fn a_key_that_is_to_be_kept_is_given_up_by_the_users_word_alone() {
    let bench = Bench::initialised(Cable::Udp);
    let device = bench.start_with("flash", ID, &[]);
    commission(&bench, &device, &["--trusted"]).succeeded();
    let set = bench.commissioner(&["policy", ID, "keep"]).succeeded();
    assert!(set.stdout.contains("keep"), "{}", set.stdout);
    erase(&bench, device, "flash");
    let device = bench.start_with("flash", ID, &[]);
    commission(&bench, &device, &["--trusted"]).ended_with(6).saying("by its policy it keeps its key");
    assert_eq!(bench.statuses(), ["active", "pending"]);
    // The same where it is programmed.
    let report = bench.commissioner(&["run", "--", "echo", device.report()]);
    report.ended_with(6).saying("by its policy it keeps its key");
    commission(&bench, &device, &["--trusted", "--accept-new-key"]).succeeded();
    assert_eq!(bench.statuses(), ["revoked", "active"]);
    bench.commissioner(&["policy", ID, "never"]).ended_with(2).saying("rotate, keep, restore or derive");
}

/// A board with a secret of its own has the same key after each erase.
#[test]
fn a_derived_key_is_the_same_after_an_erase() {
    let bench = Bench::initialised(Cable::Udp);
    let secret = bench.path("secret");
    fs::write(&secret, [7; 32]).expect("a file");
    let secret = secret.display().to_string();
    let options = ["--hardware-secret", secret.as_str()];
    let device = bench.start_with("flash", ID, &options);
    commission(&bench, &device, &[]).succeeded();
    let derived = key(&bench, &device);
    assert_eq!(shown(&bench)["policy"], "derive");
    erase(&bench, device, "flash");
    let device = bench.start_with("flash", ID, &options);
    assert_eq!(key(&bench, &device), derived);
    commission(&bench, &device, &[]).succeeded();
    assert_eq!(bench.statuses(), ["active"]);

    // Another secret is another device.
    erase(&bench, device, "flash");
    fs::write(&secret, [8; 32]).expect("a file");
    let device = bench.start_with("flash", ID, &options);
    commission(&bench, &device, &["--trusted"]).ended_with(6).saying("comes from its hardware");
}

/// Two boards with one ID, plugged in at the same time: neither is touched, and others are served.
#[test]
fn one_id_at_two_places_is_an_alarm() {
    let bench = Bench::initialised(Cable::Udp);
    let (one, copy) = (start(&bench, "one", ID), start(&bench, "copy", ID));
    let innocent = start(&bench, "innocent", "urn:dev:ops:32473-sim-02");
    bench.commissioner(&["commission", &one.link]).succeeded();
    let both = bench.commissioner(&["commission", &one.link, &copy.link, &innocent.link]).ended_with(6);
    assert!(both.stderr.contains("answers at more than one place at once"), "{}", both.stderr);
    let records = bench.records();
    assert_eq!(records.len(), 2, "{records:?}");
    assert!(records.iter().all(|record| record["status"] == "active"), "{records:?}");
    let history = bench.commissioner(&["show", ID]).succeeded().stdout;
    assert!(history.contains("seen-twice") && history.contains(&copy.link), "{history}");

    // A list goes to nobody of whom that is in doubt, and to all others.
    let given = bench.commissioner(&["distribute", "--json", &one.link, &copy.link, &innocent.link]).ended_with(6);
    assert!(given.json().iter().any(|line| line["device"] == "urn:dev:ops:32473-sim-02"), "{}", given.stdout);
    assert_eq!(given.json().iter().filter(|line| line["list_version"].is_u64()).count(), 1, "{}", given.stdout);
    let seen = bench.commissioner(&["discover", &one.link, &copy.link]).succeeded();
    assert!(seen.stderr.contains("at 2 places at once"), "{}", seen.stderr);
    // A copy of the flash has the same key.
    drop(copy);
    fs::copy(bench.path("one"), bench.path("copy")).expect("a copy");
    let copy = start(&bench, "copy", ID);
    assert_eq!(key(&bench, &copy), key(&bench, &one));
    bench.commissioner(&["commission", &one.link, &copy.link]).ended_with(6).saying("at more than one place at once");
}
