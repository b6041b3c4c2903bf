//! What others wrote, in every field that has room for it, through the real commands: nothing of it steers a terminal,
//! forges a line, hides, or runs in a spreadsheet.

use std::{
    fs,
    net::UdpSocket,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use cbor_schemas::{
    ClaimPolicy, Condition, DeviceInfo, Features, KeyOrigin, Limits, ProblemDetails, Profile, SlotState, Watermarks,
    report,
};
use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use protocol::key::PrivateKey;
use rand_core::OsRng;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const KITCHEN: &str = "urn:dev:ops:32473-kitchen-0024be";
/// Clears the screen, rings, turns the direction, hides, and begins lines of its own; and no ordinary letter is lost.
const HOSTILE: &str = "seen\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31m\u{7f}\u{202e}\u{2066}\u{200e}\u{61c}\u{2028}\u{2029}\u{85}\u{200b}\u{2060}\u{feff}\
    \u{ad}\u{34f}\u{3164}\u{e0041}\r\nFORGED line\n\tFORGED line";
/// A device has room for less of it.
const SHORT: &str = "seen\u{1b}[2J\u{9b}1m\u{202e}\u{200b}\nFORGED";
const FORMULA: &str = " \t =cmd|' /c calc'!A1";

fn misleads(c: char) -> bool {
    let range = |ranges: &[(u32, u32)]| ranges.iter().any(|(first, last)| (*first..=*last).contains(&u32::from(c)));
    c != '\n' && c.is_control()
        || range(&[(0xad, 0xad), (0x34f, 0x34f), (0x61c, 0x61c), (0x200b, 0x200f), (0x2028, 0x202e), (0x2060, 0x206f)])
        || range(&[(0x3164, 0x3164), (0xfeff, 0xfeff), (0xe0000, 0xe0fff)])
}

struct State {
    scratch: TempDir,
}

struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl State {
    fn initialised() -> Self {
        let state = Self { scratch: tempfile::tempdir().unwrap() };
        state.run("state", &["init"]);
        state
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Runs the commissioner, with all that it has to say. It says nothing that misleads.
    fn run(&self, state: &str, args: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_commissioner"));
        command.args(args).env("COMMISSIONER_STATE_DIR", self.path(state)).env("RUST_LOG", "trace,device=trace");
        let output = command.current_dir(self.scratch.path()).stdin(Stdio::null()).output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
        for said in [&stdout, &stderr] {
            assert!(!said.contains(misleads), "{args:?}: {:?}", said.split(misleads).next().unwrap_or_default());
            assert!(!said.lines().any(|line| line.trim_start().starts_with("FORGED")), "{args:?}: {said}");
        }
        Said { code: output.status.code().unwrap(), stdout, stderr }
    }

    /// Runs it for people and for scripts. Scripts get the text itself: this one, if it is to be there.
    fn both(&self, args: &[&str], text: &str) -> Said {
        let scripts = self.run("state", &[args, &["--json"]].concat());
        let lines = scripts.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        assert!(lines.clone().any(|line| holds(&line, text)), "{args:?}: {}", scripts.stdout);
        let people = self.run("state", args);
        assert_eq!(people.code, scripts.code, "{args:?}");
        people
    }
}

/// Whether a text is somewhere in there.
fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found.contains(text),
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Object(items) => items.iter().any(|(name, item)| name.contains(text) || holds(item, text)),
        _ => false,
    }
}

fn info<'a>(firmware: &'a str, key: &PrivateKey) -> DeviceInfo<'a> {
    DeviceInfo {
        device: KITCHEN.parse().unwrap(),
        credential: Some(key.public().cose_key()),
        generation: 1,
        key_origin: KeyOrigin::Generated,
        factory: SlotState::Empty,
        owner: SlotState::Empty,
        claim_policy: ClaimPolicy::Open,
        claim_counter: 0,
        watermarks: Watermarks { factory: None, owner: None },
        nonce: [1; 8],
        firmware,
        profile: Profile::Full,
        limits: Limits { datagram: 1152, body: 4096, list_keys: 32 },
        operation_ms: 1,
        condition: Condition::Ok,
        features: Features::NONE,
    }
}

/// An export whose reason, events and particulars somebody else wrote; its chain of hashes holds.
fn doctored(export: &str) -> String {
    let mut lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut previous = "0".repeat(64);
    for line in &mut lines {
        match line["record"].as_str().unwrap() {
            "key" => line["revoked_reason"] = format!("{FORMULA}{HOSTILE}").into(),
            "entry" => {
                let payload = serde_json::json!({ HOSTILE: HOSTILE, "nested": [{ HOSTILE: HOSTILE }] }).to_string();
                (line["event"], line["payload"]) = (HOSTILE.into(), payload.into());
                if line["seq"] == 1 {
                    line["device"] = HOSTILE.into();
                }
                line["previous"] = previous.clone().into();
                let mut hash = Sha256::new_with_prefix(hex::decode(previous).unwrap());
                hash.update(line["seq"].as_u64().unwrap().to_be_bytes());
                hash.update(line["time"].as_u64().unwrap().to_be_bytes());
                for text in ["device", "event", "payload"].map(|name| line[name].as_str().unwrap()) {
                    hash.update(u32::try_from(text.len()).unwrap().to_be_bytes());
                    hash.update(text);
                }
                previous = hex::encode(hash.finalize());
                line["hash"] = previous.clone().into();
            }
            _ => {}
        }
    }
    lines[0]["head"] = previous.into();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn an_import_full_of_it() {
    let state = State::initialised();
    copy(&state.path("state"), &state.path("other"));
    let mut report_line = String::new();
    report::write(&info("x 1", &PrivateKey::generate(&mut OsRng)), &mut report_line).unwrap();
    fs::write(state.path("log"), report_line).unwrap();
    state.run("other", &["collect", "log"]);
    state.run("other", &["revoke", KITCHEN]);
    let export = state.run("other", &["export", "--format", "json", "--history"]).stdout;
    fs::write(state.path("doctored"), doctored(&export)).unwrap();
    let imported = state.run("state", &["import", "doctored"]);
    assert_eq!(imported.code, 0, "{}", imported.stderr);

    for args in [&["show", KITCHEN][..], &["audit"], &["devices", "--all"], &["collect", "log"]] {
        let text = if args[0] == "devices" || args[0] == "show" { FORMULA } else { "seen\u{1b}[2J" };
        let people = state.both(args, text);
        if args[0] != "devices" {
            let said = people.stdout + &people.stderr;
            assert!(said.contains("seen\\u{1b}[2J") && said.contains("\\u{202e}"), "{args:?} hides it: {said}");
        }
    }
    for more in [&[][..], &["--history"]] {
        let json = state.run("state", &[&["export", "--format", "json"], more].concat()).stdout;
        assert!(json.lines().any(|line| holds(&serde_json::from_str(line).unwrap(), HOSTILE)), "{json}");
    }
    let csv = state.run("state", &["export", "--format", "csv"]).stdout;
    let mut cells = csv::Reader::from_reader(csv.as_bytes());
    let row = cells.records().next().unwrap().unwrap();
    assert!(row.iter().any(|cell| cell.contains("calc")), "{csv}");
    assert!(!row.iter().any(|cell| cell.trim_start().starts_with(['=', '+', '-', '@', '\t', '\r'])), "{csv}");
    for format in ["peers-yml", "cose-keyset"] {
        state.run("state", &["export", "--format", format, "--output", "list"]);
    }
}

/// What cannot be taken is told with the words of who wrote it.
#[test]
fn files_that_are_refused() {
    let state = State::initialised();
    let named = std::ffi::OsStr::from_bytes("log\u{1b}[2J\u{202e}\nFORGED line".as_bytes());
    let absent = named.to_str().unwrap();
    for args in [&["collect", absent][..], &["import", absent], &["show", absent]] {
        assert_ne!(state.run("state", args).code, 0, "{args:?}");
    }
    // What is wrong with the command line is told in several lines, as it was written.
    let odd = "\u{1b}[2J\u{202e}";
    for args in [&["nickname", KITCHEN, odd][..], &["verify", "--anchor", odd], &[odd]] {
        let said = state.run("state", args);
        assert!(said.code == 2 && said.stderr.contains("\\u{202e}"), "{args:?}: {}", said.stderr);
    }
    fs::write(state.path("odd"), serde_json::json!({ "record": HOSTILE }).to_string() + "\n").unwrap();
    assert_ne!(state.run("state", &["import", "odd"]).code, 0);
}

/// A device with such a firmware, that refuses all else in such words.
#[test]
fn a_device_full_of_it() {
    let state = State::initialised();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let link = format!("udp:{}", socket.local_addr().unwrap());
    thread::spawn(move || {
        let key = PrivateKey::generate(&mut OsRng);
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let request = Packet::from_bytes(&buffer[..length]).unwrap();
            socket.send_to(&answer(&request, &key).to_bytes().unwrap(), from).unwrap();
        }
    });
    for args in [&["discover", &link][..], &["commission", &link], &["verify", &link], &["get", "/comm", &link]] {
        let people = state.both(args, "seen\u{1b}[2J");
        let said = people.stdout + &people.stderr;
        assert!(said.contains("seen\\u{1b}[2J"), "{args:?}: {said}");
    }
}

fn answer(request: &Packet, key: &PrivateKey) -> Packet {
    let mut answer = Packet::new();
    answer.header.message_id = request.header.message_id;
    answer.header.set_type(MessageType::Acknowledgement);
    answer.set_token(request.get_token().to_vec());
    let is_comm = request.get_option(CoapOption::UriPath).is_some_and(|path| path.iter().eq([b"comm"]));
    let mut body = [0; 1024];
    let (code, format, length) = match (request.header.code, is_comm) {
        (MessageClass::Empty, _) => {
            answer.header.set_type(MessageType::Reset);
            answer.header.code = MessageClass::Empty;
            return answer;
        }
        (_, true) => (0x45, 60_u16, info(SHORT, key).encode(&mut body).unwrap()),
        (_, false) => {
            let problem = ProblemDetails { title: Some(SHORT), detail: Some(SHORT) };
            (0x80, 257, problem.encode(&mut body).unwrap())
        }
    };
    answer.header.code = MessageClass::from(code);
    let format = format.to_be_bytes();
    answer.add_option(CoapOption::ContentFormat, format[usize::from(format[0] == 0)..].to_vec());
    answer.payload = body[..length].to_vec();
    answer
}
