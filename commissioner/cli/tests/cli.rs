//! The program as scripts see it: exit codes, JSON Lines, files.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Stdio,
};

use assert_cmd::Command;
use cbor_schemas::{
    ClaimPolicy, Condition, CoseKey, DeviceInfo, Features, KeyOrigin, Limits, Profile, SlotState, Watermarks, report,
};
use p256::{
    AffinePoint,
    elliptic_curve::{point::DecompressPoint, sec1::ToEncodedPoint},
};
use protocol::key::{PrivateKey, PublicKey};
use rand_core::OsRng;
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_commissioner");
const KITCHEN: &str = "urn:dev:mac:0024befffe804ff1";
const HALL: &str = "urn:dev:mac:0024befffe804ff2";

/// A state directory and what the program says about it.
struct State(TempDir);

struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl State {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn initialised() -> Self {
        let state = Self::new();
        assert_eq!(state.run(&["init"]).code, 0);
        state
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("state")
    }

    fn run(&self, args: &[&str]) -> Outcome {
        self.run_with(args, "")
    }

    fn run_with(&self, args: &[&str], input: &str) -> Outcome {
        let mut command = Command::new(PROGRAM);
        command.args(args).env("COMMISSIONER_STATE_DIR", self.path()).env_remove("RUST_LOG").write_stdin(input);
        let output = command.output().unwrap();
        Outcome {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn collect(&self, log: &str) -> Outcome {
        self.run_with(&["collect", "--json"], log)
    }
}

impl Outcome {
    /// Standard output as JSON Lines; it must be nothing else.
    fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    fn error(&self) -> Value {
        let last = self.lines().pop().unwrap();
        assert_eq!(last["exit"], self.code);
        last
    }
}

fn key() -> PublicKey {
    *PrivateKey::generate(&mut OsRng).public()
}

fn report_of(device: &str, key: Option<&PublicKey>) -> String {
    report_with(device, key.map(PublicKey::cose_key))
}

fn report_with(device: &str, credential: Option<CoseKey>) -> String {
    let info = DeviceInfo {
        device: device.parse().unwrap(),
        credential,
        generation: 3,
        key_origin: KeyOrigin::Generated,
        factory: SlotState::Empty,
        owner: SlotState::Empty,
        claim_policy: ClaimPolicy::Open,
        claim_counter: 0,
        watermarks: Watermarks { factory: None, owner: None },
        nonce: [1; 8],
        firmware: "demo 1.0",
        profile: Profile::Full,
        limits: Limits { datagram: 1152, body: 4096, list_keys: 32 },
        operation_ms: 90,
        condition: if credential.is_some() { Condition::Ok } else { Condition::Fault },
        features: Features::NONE,
    };
    let mut line = String::new();
    report::write(&info, &mut line).unwrap();
    line
}

/// The same x with the y that no key of ours has.
fn with_other_y(key: CoseKey) -> CoseKey {
    let odd = AffinePoint::decompress(&key.x.into(), 1.into()).unwrap();
    let y = (*odd.to_encoded_point(false).y().unwrap()).into();
    assert_ne!(y, key.y);
    CoseKey { y, ..key }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn init_makes_private_state_and_does_so_once() {
    let state = State::new();
    let first = state.run(&["init", "--json"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let made = &first.lines()[0];
    assert_eq!(made["created"], true);
    assert_eq!(made["issuer"].as_str().unwrap().len(), 64);
    assert_ne!(made["issuer"], made["station"]);
    assert_eq!(mode(&state.path()), 0o700);
    for entry in fs::read_dir(state.path()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }

    let keys = || ["issuer.key", "station.key"].map(|name| fs::read(state.path().join(name)).unwrap());
    let before = keys();
    let again = state.run(&["init", "--json"]);
    assert_eq!(again.code, 0);
    assert_eq!(again.lines()[0]["created"], false);
    assert_eq!(again.lines()[0]["issuer"], made["issuer"]);
    assert_eq!(keys(), before);
    assert!(state.run(&["init"]).stdout.contains("nothing was changed"));
}

#[test]
fn init_finishes_what_was_interrupted_and_replaces_nothing_that_was_lost() {
    // Killed after the registry's file was made, or after the first key too.
    for keep_issuer in [false, true] {
        let state = State::initialised();
        let registry = state.path().join("registry.sqlite");
        fs::remove_file(&registry).unwrap();
        fs::write(&registry, b"").unwrap();
        fs::write(state.path().join("init-under-way"), b"").unwrap();
        fs::remove_file(state.path().join("station.key")).unwrap();
        let issuer = state.path().join("issuer.key");
        let before = fs::read(&issuer).unwrap();
        if !keep_issuer {
            fs::remove_file(&issuer).unwrap();
        }
        assert_eq!(state.run(&["devices"]).code, 2);
        let finished = state.run(&["init", "--json"]);
        assert_eq!((finished.code, &finished.lines()[0]["created"]), (0, &Value::Bool(true)));
        assert_eq!(fs::read(&issuer).unwrap() == before, keep_issuer);
        assert_eq!(state.run(&["devices"]).code, 0);
    }
    // The registry is lost, or a key is: a new one would forget, or not be believed by any device.
    let lost = State::initialised();
    fs::remove_file(lost.path().join("registry.sqlite")).unwrap();
    let refused = lost.run(&["init"]);
    assert_eq!(refused.code, 6);
    assert!(refused.stderr.contains("backup"), "{}", refused.stderr);
    assert!(!lost.path().join("registry.sqlite").exists());

    let lost = State::initialised();
    fs::remove_file(lost.path().join("issuer.key")).unwrap();
    assert_ne!(lost.run(&["init"]).code, 0);
    assert!(!lost.path().join("issuer.key").exists());
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let state = State::initialised();
    let issuer = state.path().join("issuer.key");
    fs::set_permissions(&issuer, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = state.run(&["init"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("chmod 600"), "{}", refused.stderr);
}

#[test]
fn without_state_every_command_says_how_to_begin() {
    let commands: [&[&str]; 5] =
        [&["devices"], &["show", "x"], &["nickname", "x", "y"], &["revoke", "x"], &["collect"]];
    for args in commands {
        let state = State::new();
        let outcome = state.run(&[args, &["--json"]].concat());
        assert_eq!(outcome.code, 2, "{args:?}");
        assert!(outcome.error()["error"].as_str().unwrap().contains("run `commissioner init` first"), "{args:?}");
        assert!(outcome.stderr.contains("run `commissioner init` first"), "{args:?}");
        assert!(!state.path().exists(), "{args:?} makes nothing");
    }
}

#[test]
fn the_state_directory_option_wins() {
    let state = State::new();
    let elsewhere = state.0.path().join("elsewhere");
    assert_eq!(state.run(&["init", "--state-dir", elsewhere.to_str().unwrap()]).code, 0);
    assert!(elsewhere.join("issuer.key").exists());
    assert!(!state.path().exists());

    let xdg = state.0.path().join("xdg");
    let mut command = Command::new(PROGRAM);
    command.arg("init").env_remove("COMMISSIONER_STATE_DIR").env("XDG_STATE_HOME", &xdg).assert().success();
    assert!(xdg.join("commissioner/issuer.key").exists());
}

#[test]
fn collected_reports_are_pending_claims() {
    let state = State::initialised();
    let (kitchen, hall) = (key(), key());
    let log = format!(
        "boot\n\u{1b}[32mINFO\u{1b}[0m {} more text\r\n\n{}\nlast words without a line ending",
        report_of(KITCHEN, Some(&kitchen)),
        report_of(HALL, Some(&hall)),
    );
    let outcome = state.collect(&log);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let summary = &outcome.lines()[2]["summary"];
    assert_eq!((&summary["lines"], &summary["reports"], &summary["malformed"]), (&5.into(), &2.into(), &0.into()));

    let devices = state.run(&["devices", "--json"]).lines();
    assert_eq!(devices.len(), 2);
    let record = &devices[0];
    assert_eq!(record["device"], KITCHEN);
    assert_eq!(record["thumbprint"], kitchen.thumbprint().to_string());
    assert_eq!(record["generation"], 3);
    assert_eq!(record["status"], "pending");
    assert_eq!(record["provenance"], "reported");
    assert_eq!(record["nickname"], Value::Null);
    assert_eq!(record["certificates"], Value::Array(vec![]));
    for time in ["first_seen", "last_seen"] {
        assert!(record[time].as_str().unwrap().ends_with('Z'), "{record}");
    }
    let file = state.0.path().join("log");
    fs::write(&file, log).unwrap();
    assert_eq!(state.run(&["collect", file.to_str().unwrap()]).code, 0);
    assert_eq!(state.run(&["devices", "--json"]).lines().len(), 2);
    assert_eq!(state.run(&["collect", "/nonexistent"]).code, 2);
}

/// A file in the state's scratch directory, last written to at a time, Unix seconds.
fn file(state: &State, name: &str, contents: impl AsRef<[u8]>, written: u64) -> String {
    let path = state.0.path().join(name);
    fs::write(&path, contents).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(written);
    fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
    path.display().to_string()
}

/// 2026-11-22T15:24:00Z
const NOON: u64 = 1_795_361_040;

#[test]
fn logs_are_collected_however_they_were_kept() {
    let state = State::initialised();
    let report = |name: &str| report_of(&format!("urn:dev:ops:32473-{name}"), Some(&key()));
    let (name, base64) = report("grep").split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let utf16: Vec<u8> =
        format!("\u{feff}boot \u{2713}\r\n{}\r\n", report("utf16")).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, report("gzip").as_bytes()).unwrap();
    let folded = format!("INFO {}", report("folded"));
    let folded: Vec<_> = folded.as_bytes().chunks(80).map(|line| str::from_utf8(line).unwrap()).collect();
    let logs = [
        file(&state, "utf16", utf16, NOON),
        file(&state, "log.gz", gzip.finish().unwrap(), NOON),
        file(&state, "folded", folded.join("\n") + "\n", NOON),
        file(&state, "grep", format!("\u{1b}[01;31m\u{1b}[K{name}\u{1b}[m\u{1b}[K:{base64}\n"), NOON),
    ];
    let mut args = vec!["collect"];
    args.extend(logs.iter().map(String::as_str));
    let collected = state.run(&args);
    assert_eq!(collected.code, 0, "{}", collected.stderr);
    assert!(
        collected.stdout.ends_with(", 4 reports: 4 recorded, 0 in conflict; 0 malformed\n"),
        "{}",
        collected.stdout
    );
    assert!(state.run_with(&["collect"], &report("one")).stdout.contains("1 line, 1 report: "));

    // One that fails is named, and does not stop the others.
    let empty = file(&state, "empty", "boot\n", NOON);
    let packed = file(&state, "log.zst", [&b"\x28\xb5\x2f\xfd"[..], &[0; 80]].concat(), NOON);
    let last = file(&state, "last", report("last"), NOON);
    let some = state.run(&["collect", &empty, &packed, &last, "--json"]);
    assert_eq!(some.code, 3, "{}", some.stderr);
    let told = some.error()["candidates"].to_string();
    assert!(told.contains("empty has no report") && told.contains("compressed by zstd"), "{told}");
    assert_eq!(state.run(&["devices", "--json"]).lines().len(), 6);
}

#[test]
fn devices_were_seen_when_the_log_says_so_and_never_after_it_was_written() {
    let state = State::initialised();
    let key = key();
    let seen = |written: u64, log: &str| {
        let log = file(&state, "log", format!("{log}{}\n", report_of(KITCHEN, Some(&key))), written);
        assert_eq!(state.run(&["collect", &log]).code, 0);
        let record = &state.run(&["devices", "--json"]).lines()[0];
        ["first_seen", "last_seen"].map(|name| record[name].as_str().unwrap().to_owned())
    };
    let written = "2026-11-22T15:24:00Z";
    assert_eq!(seen(NOON, "no time of its own: "), [written, written]);
    assert_eq!(seen(NOON, "[2026-11-20T10:00:00+01:00] "), ["2026-11-20T09:00:00Z", written]);
    assert_eq!(seen(NOON, "2031-01-01T00:00:00Z "), ["2026-11-20T09:00:00Z", written]);
    // What comes through a pipe comes now.
    assert_eq!(state.collect(&report_of(HALL, Some(&self::key()))).code, 0);
    let hall = &state.run(&["show", HALL, "--json"]).lines()[0];
    assert_ne!(hall["last_seen"], written);
}

/// What contradicts the registry is said once, however often a log has it.
#[test]
fn a_contradiction_is_said_once() {
    let state = State::initialised();
    state.collect(&report_of(KITCHEN, Some(&key())));
    let (second, third) = (report_of(KITCHEN, Some(&key())), report_of(KITCHEN, Some(&key())));
    let once = state.run_with(&["collect"], &format!("{second}\n{second}\n"));
    assert_eq!((once.code, once.stderr.matches("has a new key").count()), (6, 1), "{}", once.stderr);
    let twice = state.run_with(&["collect"], &format!("{second}\n{third}\n{second}\n"));
    assert_eq!((twice.code, twice.stderr.matches("has a new key").count()), (6, 2), "{}", twice.stderr);
    assert!(twice.stderr.contains("line 1: ") && twice.stderr.contains("line 2: "), "{}", twice.stderr);
}

/// `run` has no --accept-new-key: what it advises is a command that has.
#[test]
fn what_run_advises_can_be_done() {
    let state = State::initialised();
    for (policy, told) in [("keep", "keeps its key"), ("derive", "comes from its hardware")] {
        let device = format!("urn:dev:ops:32473-{policy}");
        let flash = |key: &PublicKey| {
            let log = file(&state, "output", report_of(&device, Some(key)), NOON);
            state.run(&["run", "--", "cat", &log])
        };
        assert_eq!(flash(&key()).code, 0);
        assert_eq!(state.run(&["policy", &device, policy]).code, 0);
        let refused = flash(&key());
        assert_eq!(refused.code, 6, "{}", refused.stderr);
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
        assert!(refused.stderr.contains("`commissioner commission --accept-new-key`"), "{}", refused.stderr);
        assert!(!refused.stderr.contains("repeat with"), "{}", refused.stderr);
        assert_eq!(refused.stderr.matches("has a new key").count(), 1, "{}", refused.stderr);
    }
}

#[test]
fn a_variable_that_is_empty_is_none() {
    let state = State::new();
    let home = state.0.path().join("xdg");
    let run = |args: &[&str], variables: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(args).env_remove("COMMISSIONER_STATE_DIR").env("XDG_STATE_HOME", &home);
        command.envs(variables.iter().map(|name| (name, ""))).output().unwrap()
    };
    let all = ["COMMISSIONER_STATE_DIR", "COMMISSIONER_LINK", "COMMISSIONER_UNLOCK_FILE", "RUST_LOG"];
    for args in [&["init"][..], &["devices"], &["run", "--", "true"], &["audit", "--seal"]] {
        let output = run(args, &all);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(home.join("commissioner/issuer.key").exists());
}

#[test]
fn bad_reports_are_counted_and_do_not_stop_the_rest() {
    let state = State::initialised();
    let good = report_of(KITCHEN, Some(&key()));
    let cut = &good[..good.len() - 8];
    let long = "x".repeat(200_000);
    let other_y = report_with(HALL, Some(with_other_y(key().cose_key())));
    let fault = report_of(HALL, None);
    let log = format!("{cut}\ncommissioning-report:\n{fault}\n{other_y}\n{long}\n\u{0}\u{0}{good}\n");
    let mut bytes = log.into_bytes();
    bytes.splice(0..0, *b"\xff\xfe\xc0");
    let mut command = Command::new(PROGRAM);
    let output = command.args(["collect", "--json", "-"]).env("COMMISSIONER_STATE_DIR", state.path());
    let output = output.write_stdin(bytes).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let summary: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(summary["summary"]["malformed"], 4, "{summary}");
    assert_eq!(summary["summary"]["recorded"], 1, "{summary}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("line 1: ") && stderr.contains("line 3: ") && stderr.contains("fault"), "{stderr}");
    assert!(stderr.contains("line 4: "), "a key with another y is none of ours: {stderr}");
}

#[test]
fn a_reported_key_change_is_a_conflict() {
    let state = State::initialised();
    let (old, new) = (key(), key());
    assert_eq!(state.collect(&report_of(KITCHEN, Some(&old))).code, 0);
    let outcome = state.collect(&report_of(KITCHEN, Some(&new)));
    assert_eq!(outcome.code, 6);
    assert!(outcome.error()["error"].as_str().unwrap().contains("--accept-new-key"));
    let statuses: Vec<_> = state.run(&["devices", "--json"]).lines().iter().map(|it| it["status"].clone()).collect();
    assert_eq!(statuses, ["pending", "pending"]);

    let shared = state.collect(&report_of(HALL, Some(&old)));
    assert_eq!(shared.code, 6);
    assert!(shared.stderr.contains(KITCHEN), "{}", shared.stderr);
    assert_eq!(state.run(&["devices", "--json"]).lines().len(), 2);
}

#[test]
fn a_device_is_named_shown_and_revoked() {
    let state = State::initialised();
    let kitchen = key();
    state.collect(&format!("{}\n{}", report_of(KITCHEN, Some(&kitchen)), report_of(HALL, Some(&key()))));
    let named = state.run(&["nickname", KITCHEN, "kitchen", "--json"]);
    assert_eq!((named.code, &named.lines()[0]["nickname"]), (0, &Value::String("kitchen".to_owned())));
    assert_eq!(state.run(&["nickname", HALL, "kitchen"]).code, 6);
    assert_eq!(state.run(&["nickname", HALL, "urn:dev:mac:0"]).code, 2);

    let thumbprint = kitchen.thumbprint().to_string();
    // Neither a key's digits nor an ID, whosever.
    assert_eq!(state.run(&["nickname", HALL, &thumbprint[..12]]).code, 2);
    assert_eq!(state.run(&["nickname", HALL, "4ff1"]).code, 2);
    for both in [&["nickname", HALL][..], &["nickname", HALL, "x", "--remove"]] {
        assert_eq!(state.run(both).code, 2);
    }
    assert_eq!(state.run(&["nickname", HALL, "hall"]).code, 0);
    let removed = state.run(&["nickname", "hall", "--remove", "--json"]);
    assert_eq!((removed.code, &removed.lines()[0]["nickname"]), (0, &Value::Null));
    assert!(state.run(&["nickname", HALL, "--remove"]).stdout.contains("nothing was changed"));
    assert_eq!(state.run(&["show", "hall"]).code, 3);

    for name in [KITCHEN, "kitchen", &thumbprint[..16]] {
        let shown = state.run(&["show", name, "--json"]);
        assert_eq!(shown.code, 0, "{name}");
        let record = &shown.lines()[0];
        assert_eq!((&record["device"], &record["status"]), (&KITCHEN.into(), &"pending".into()));
        assert_eq!(record["keys"][0]["thumbprint"], thumbprint);
        assert_eq!(record["history"][0]["event"], "key-seen");
    }
    let text = state.run(&["show", "kitchen"]).stdout;
    assert!(text.contains(&thumbprint) && text.contains("nickname: kitchen"), "{text}");

    let revoked = state.run(&["revoke", "kitchen", "--json"]);
    assert_eq!(revoked.code, 0);
    assert_eq!(revoked.lines().last().unwrap()["status"], "revoked");
    let again = state.run(&["revoke", "kitchen"]);
    assert_eq!(again.code, 0);
    assert!(again.stdout.contains("nothing was changed"), "{}", again.stdout);
    assert_eq!(state.run(&["devices", "--json"]).lines().len(), 1);
    let all = state.run(&["devices", "--all", "--json"]).lines();
    assert_eq!((all.len(), &all[0]["status"]), (2, &Value::String("revoked".to_owned())));
    assert!(all[0]["revoked_at"].as_str().unwrap().ends_with('Z'));

    let alarm = state.collect(&report_of(KITCHEN, Some(&kitchen)));
    assert_eq!(alarm.code, 6);
    assert!(alarm.stderr.contains("revoked by the user"), "{}", alarm.stderr);
}

#[test]
fn names_that_fit_none_or_several_are_exit_3() {
    let state = State::initialised();
    state.collect(&format!("{}\n{}", report_of(KITCHEN, Some(&key())), report_of(HALL, Some(&key()))));
    for several in ["urn:dev:mac:", "urn:dev:mac:0024befffe804ff", "0024be"] {
        let ambiguous = state.run(&["show", several, "--json"]);
        assert_eq!(ambiguous.code, 3);
        assert_eq!(ambiguous.error()["candidates"], serde_json::json!([KITCHEN, HALL]));
    }
    let ambiguous = state.run(&["show", "urn:dev:mac:"]);
    assert!(ambiguous.stderr.contains(KITCHEN) && ambiguous.stderr.contains(HALL), "{}", ambiguous.stderr);
    assert_eq!(state.run(&["revoke", "urn:dev:mac:"]).code, 3);
    assert_eq!(state.run(&["show", "nobody"]).code, 3);
    assert_eq!(state.run(&["show", ""]).code, 2);
}

/// The user's word is for the device in their hand.
#[test]
fn a_new_key_is_accepted_of_one_device_at_a_time() {
    let state = State::initialised();
    for others in [&["--all"][..], &["--watch"], &["--watch", "serial:./a"], &["serial:./a", "serial:./b"]] {
        let refused = state.run(&[&["commission", "--accept-new-key"], others].concat());
        assert_eq!(refused.code, 2, "{others:?}: {}", refused.stderr);
    }
    assert_eq!(state.run(&["commission", "--accept-new-key", "serial:./nothing-there"]).code, 3);
}

#[test]
fn the_list_is_a_table_for_people() {
    let state = State::initialised();
    assert!(state.run(&["devices"]).stdout.contains("no devices yet"));
    let key = key();
    state.collect(&report_of(KITCHEN, Some(&key)));
    state.run(&["nickname", KITCHEN, "Küche"]);
    let table = state.run(&["devices"]).stdout;
    let [heading, row] = &table.lines().collect::<Vec<_>>()[..] else { panic!("{table}") };
    assert!(heading.starts_with("DEVICE") && heading.contains("STATUS"));
    assert!(row.starts_with(KITCHEN) && row.contains(&key.thumbprint().to_string()[..12]) && row.contains("Küche"));
    // Aligned, counted in characters.
    let column = |line: &str, word: &str| line.split(word).next().unwrap().chars().count();
    assert_eq!(column(heading, "STATUS"), column(row, "pending"));
}

#[test]
fn help_lists_the_commands() {
    let state = State::new();
    let help = state.run(&["--help"]);
    assert_eq!(help.code, 0);
    for command in ["init", "discover", "commission", "export", "run", "restore-backup", "completions"] {
        assert!(help.stdout.contains(&format!("  {command}")), "{command}");
    }
    assert!(help.stdout.contains("Exit codes") && !help.stdout.contains("not in this version"));
}

#[test]
fn usage_errors_are_exit_2_and_one_json_line() {
    let state = State::initialised();
    for args in [&["frobnicate", "--json"][..], &["show", "--json"], &["--json", "commission", "carrier-pigeon:1"]] {
        let outcome = state.run(args);
        assert_eq!(outcome.code, 2, "{args:?}");
        assert_eq!(outcome.lines().len(), 1, "{args:?}");
        outcome.error();
        assert!(!outcome.stderr.is_empty());
    }
    // All that is missing is named, and the way to write it.
    let missing = state.run(&["station", "new", "--json"]);
    let told = missing.error()["error"].as_str().unwrap().to_owned();
    assert!(["--output <FILE>", "<KEY>", "Usage: "].iter().all(|part| told.contains(part)), "{told}");
    assert!(missing.stderr.contains(&told), "{}", missing.stderr);
    let plain = state.run(&["frobnicate"]);
    assert_eq!((plain.code, plain.stdout.as_str()), (2, ""));
}

#[test]
fn a_reader_that_goes_away_does_no_harm() {
    let state = State::initialised();
    let log: Vec<_> = (0..200).map(|n| report_of(&format!("urn:dev:ops:32473-test-{n}"), Some(&key()))).collect();
    let file = state.0.path().join("log");
    fs::write(&file, log.join("\n")).unwrap();
    let mut child = std::process::Command::new(PROGRAM);
    child.args(["collect", "--json"]).arg(&file).env("COMMISSIONER_STATE_DIR", state.path());
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(state.run(&["devices", "--json"]).lines().len(), 200, "the work was done");
}

#[test]
fn two_commissioners_at_once_both_get_through() {
    let state = State::initialised();
    let children: Vec<_> = (0..4)
        .map(|process| {
            let log: Vec<_> =
                (0..20).map(|n| report_of(&format!("urn:dev:ops:32473-test-{process}-{n}"), Some(&key()))).collect();
            let file = state.0.path().join(format!("log{process}"));
            fs::write(&file, log.join("\n")).unwrap();
            let mut child = std::process::Command::new(PROGRAM);
            child.arg("collect").arg(&file).env("COMMISSIONER_STATE_DIR", state.path());
            child.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(state.run(&["devices", "--json"]).lines().len(), 80);
}

#[test]
fn diagnostics_show_no_secret() {
    let state = State::new();
    let mut command = Command::new(PROGRAM);
    let output =
        command.arg("init").env("COMMISSIONER_STATE_DIR", state.path()).env("RUST_LOG", "trace").output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    for name in ["issuer.key", "station.key"] {
        let pem = fs::read_to_string(state.path().join(name)).unwrap();
        assert!(!said.contains(pem.lines().nth(1).unwrap()), "{name}");
    }
}

#[test]
fn shells_get_completions() {
    let state = State::new();
    for shell in ["bash", "zsh", "fish"] {
        let outcome = state.run(&["completions", shell]);
        assert_eq!(outcome.code, 0);
        assert!(outcome.stdout.contains("commission"), "{shell}");
    }
    assert_eq!(state.run(&["completions", "abacus"]).code, 2);
}

/// What is not text can be the name of a file all the same.
#[test]
fn files_have_whatever_names_they_have() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let state = State::initialised();
    let output = state.path().join(OsStr::from_bytes(b"list\xff.csv"));
    let mut command = Command::cargo_bin("commissioner").unwrap();
    command.arg("--state-dir").arg(state.path()).args(["--json", "export", "--format", "csv", "--output"]);
    let run = command.arg(&output).output().unwrap();
    assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    let record: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(record["file"].as_str().unwrap().ends_with(".csv"), "{record}");
    assert!(output.exists());
}

#[test]
fn a_signed_list_has_all_devices_or_is_refused() {
    let state = State::initialised();
    let refused = state.run(&["export", "--format", "signed-list", "--trusted-only", "--output", "list"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("--trusted-only"), "{}", refused.stderr);
}

/// Each link that was named, and where nobody is.
#[test]
fn no_link_is_passed_over() {
    let state = State::initialised();
    let run = state.run(&["distribute", "serial:./nobody", "serial:./nor-here"]);
    assert_ne!(run.code, 0);
    for link in ["serial:./nobody", "serial:./nor-here"] {
        assert!(run.stderr.contains(link), "{}", run.stderr);
    }
}

#[test]
fn help_and_version_are_json_too() {
    let state = State::new();
    for args in [&["--json", "--version"][..], &["-V", "--json"]] {
        let asked = state.run(args);
        assert_eq!((asked.code, asked.stderr.as_str()), (0, ""), "{args:?}");
        assert_eq!(asked.lines(), [serde_json::json!({ "version": env!("CARGO_PKG_VERSION") })], "{args:?}");
    }
    for (args, words) in [(&["--json", "--help"][..], "restore-backup"), (&["export", "-h", "--json"], "peers-yml")] {
        let asked = state.run(args);
        assert_eq!((asked.code, asked.stderr.as_str(), asked.lines().len()), (0, "", 1), "{args:?}");
        assert!(asked.lines()[0]["help"].as_str().unwrap().contains(words), "{args:?}");
    }
    assert!(state.run(&["run", "--help", "--", "x", "--json"]).stdout.starts_with("Run a flash"));
}

/// Also what it leads to, and what it would be made in.
#[test]
fn a_state_directory_whose_name_is_no_text_is_refused() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let state = State::new();
    let odd = state.0.path().join(OsStr::from_bytes(b"odd\xff"));
    let run = |directory: &Path, command: &str| {
        let mut run = Command::new(PROGRAM);
        let run = run.arg("--state-dir").arg(directory).arg(command).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(2), "{said}");
        assert!(said.contains("is no text (UTF-8)"), "{said}");
    };
    run(&odd, "init");
    run(&odd.join("deep"), "init");
    assert!(!odd.exists(), "nothing was made");
    fs::rename(
        {
            state.run(&["init"]);
            state.path()
        },
        &odd,
    )
    .unwrap();
    std::os::unix::fs::symlink(&odd, state.path()).unwrap();
    for command in ["devices", "init"] {
        run(&odd, command);
        run(&state.path(), command);
    }
}
