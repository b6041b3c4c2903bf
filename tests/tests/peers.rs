//! Implementations that no one here wrote, against the same programs that users run.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::UdpSocket,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use cbor_schemas::{CoseKey, DeviceInfo, Receipt};
use coap_lite::{CoapOption, Packet};
use end_to_end::{Bench, Cable, Device};
use protocol::key::PublicKey;
use serde_json::{Value, json};

const ID: &str = "urn:dev:ops:32473-peer-0024be";

/// A program of the virtual environment that `tests/setup.sh` makes.
fn peer(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/bin").join(name);
    assert!(program.exists(), "{} is missing: run tests/setup.sh", program.display());
    program
}

/// aiocoap's credentials for a host: a key of its own, sent by value.
struct Credentials {
    file: PathBuf,
}

impl Credentials {
    fn new(bench: &Bench, host: &str, peer_credential: &str, options: &str) -> Self {
        let key = bench.path("client.cosekey");
        let _ = fs::remove_file(&key);
        let generated = Command::new(peer("aiocoap-keygen"))
            .arg("generate")
            .arg(&key)
            .args(["--kid", "01", "--subject", "test"])
            .output();
        let generated = generated.expect("aiocoap-keygen runs");
        let own = String::from_utf8(generated.stdout).expect("diagnostic notation");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("the key file is there");
        let file = bench.path("credentials.diag");
        let credentials = format!(
            "{{\"coap://{host}/*\": {{\"edhoc-oscore\": {{\"suite\": 2, \"method\": 3, {options} \
             \"own_cred_style\": \"by-value\", \"own_cred\": {}, \"private_key_file\": \"client.cosekey\", \
             \"peer_cred\": {peer_credential}}}}}}}",
            own.trim()
        );
        fs::write(&file, credentials).expect("the scratch directory is writable");
        Credentials { file }
    }
}

fn aiocoap(path: &str, host: &str, credentials: Option<&Credentials>) -> Output {
    let mut command = Command::new(peer("aiocoap-client"));
    command.arg(format!("coap://{host}{path}"));
    if let Some(Credentials { file }) = credentials {
        command.arg("--credentials").arg(file).current_dir(file.parent().expect("in a directory"));
    }
    command.output().expect("aiocoap-client runs")
}

fn host(device: &Device) -> &str {
    device.link.strip_prefix("udp:").expect("a UDP link")
}

/// Lets `peers/station.py` do one of its scenarios with the device. Returns what it saw.
fn station(scenario: &str, device: &Device, more: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/station.py");
    let seen = Command::new(peer("python")).arg(script).args([scenario, host(device)]).args(more).output();
    let seen = seen.expect("python runs");
    assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
    serde_json::from_slice(&seen.stdout).expect("JSON")
}

/// What `get` shows of a resource, in bytes.
fn payload(bench: &Bench, path: &str, link: &str) -> Vec<u8> {
    let answer = bench.commissioner(&["get", path, link, "--json"]).succeeded().json();
    hex::decode(answer.last().expect("an answer")["payload_hex"].as_str().expect("hex")).expect("hex")
}

/// The device's credential as aiocoap wants it.
fn ccs(bench: &Bench, device: &Device) -> String {
    let comm = payload(bench, "/comm", &device.link);
    let key = DeviceInfo::decode(&comm).expect("a DeviceInfo").credential.expect("a key");
    let (kid, x, y) = (hex::encode(key.kid), hex::encode(key.x), hex::encode(key.y));
    format!("{{14: {{8: {{1: {{1: 2, 2: h'{kid}', -1: 1, -2: h'{x}', -3: h'{y}'}}}}}}}}")
}

/// `peers/server.py`, which is killed with this.
struct Server {
    process: Child,
    link: String,
    credential: String,
}

impl Server {
    fn start(style: &str, peers: &str) -> Self {
        let port = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port().to_string();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/server.py");
        let mut process = Command::new(peer("python"))
            .arg(script)
            .args([&port, style, peers])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let said: Value = serde_json::from_str(&line).expect("JSON");
        let credential = said["credential"].as_str().expect("hex").to_owned();
        Server { process, link: format!("udp:127.0.0.1:{port}"), credential }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `get` shows of a resource, as text.
fn text(bench: &Bench, arguments: &[&str]) -> String {
    let answered = bench.commissioner(&[&["get", "/hello"], arguments].concat()).succeeded();
    assert!(!answered.stderr.contains("the device"), "{}", answered.stderr);
    answered.stdout.trim().to_owned()
}

/// What answers each request with the code, and each ping with a Reset; with no code, both with a Reset. Its link.
fn server_that_has_nothing(code: Option<u8>) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let link = format!("udp:{}", socket.local_addr().expect("bound"));
    thread::spawn(move || {
        let mut message = [0; 1500];
        while let Ok((len @ 4.., from)) = socket.recv_from(&mut message) {
            let (token_end, id) = (4 + usize::from(message[0] & 0x0f), [message[2], message[3]]);
            let answer = match code.filter(|_| len >= token_end && message[1] != 0) {
                Some(code) => [&[message[0] | 0x60, code], &id[..], &message[4..token_end]].concat(),
                None => [&[0x70, 0], &id[..]].concat(),
            };
            let _ = socket.send_to(&answer, from);
        }
    });
    link
}

/// A server that is no commissioning device is not called a device, whatever goes wrong with it.
#[test]
fn what_a_server_refuses_or_does_not_answer_is_not_said_of_a_device() {
    let bench = Bench::new(Cable::Udp);
    let (absent, unwilling) = (server_that_has_nothing(Some(0x84)), server_that_has_nothing(None));
    let mute = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mute = (format!("udp:{}", mute.local_addr().expect("bound")), mute);
    let closed = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let closed = format!("udp:{closed}");
    let credential = bench.path("server.hex");
    let x = "65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d";
    fs::write(&credential, format!("a108a101a4010202412b2001215820{x}")).expect("a file");
    let credential = credential.to_str().expect("UTF-8");
    for (link, options, exit, words) in [
        (&absent, &["--plain"][..], 5, "the server refused with 4.04 Not Found"),
        (&absent, &[], 3, "no commissioning device, and has no EDHOC (4.04 Not Found)"),
        (&absent, &["--peer", credential], 3, "has no EDHOC (4.04 Not Found)"),
        (&unwilling, &["--plain"], 4, "turned away (RST)"),
        (&unwilling, &["--peer", credential], 4, "turned away (RST)"),
        (&mute.0, &["--plain"], 4, "is the server running"),
        (&mute.0, &["--peer", credential], 4, "is the server running"),
        (&closed, &["--plain"], 4, "nothing listens at"),
    ] {
        let told = bench.commissioner(&[&["get", "/hello", link], options].concat()).ended_with(exit).saying(words);
        assert!(!told.stderr.replace("no commissioning device", "").contains("device"), "{}", told.stderr);
    }
}

/// Its credential has a subject and a kid of no bytes, and comes by value.
#[test]
fn a_server_that_is_no_device_is_read_without_security_and_by_the_credential_that_it_sends() {
    let (bench, server) = (Bench::new(Cable::Udp), Server::start("by-value", "anyone"));
    assert!(text(&bench, &["--plain", &server.link]).contains("hello, anyone"));
    assert!(text(&bench, &[&server.link]).contains("hello, whoever proved a key"));

    let other = Server::start("by-value", "anyone");
    let credential = bench.path("other.hex");
    fs::write(&credential, &other.credential).expect("the scratch directory is writable");
    let credential = credential.to_str().expect("UTF-8");
    let other = bench.commissioner(&["get", "/hello", &server.link, "--peer", credential]).ended_with(5);
    other.saying("another server answered");
}

#[test]
fn a_server_whose_credential_is_known_may_send_its_kid() {
    let (bench, server) = (Bench::new(Cable::Udp), Server::start("by-key-id", "anyone"));
    bench.commissioner(&["get", "/hello", &server.link]).ended_with(5).saying("--peer");
    let (as_hex, as_cbor) = (bench.path("server.hex"), bench.path("server.cbor"));
    fs::write(&as_hex, format!("{}\n", server.credential)).expect("the scratch directory is writable");
    let kccs = [&[0xa1, 0x0e], &hex::decode(&server.credential).expect("hex")[..]].concat();
    fs::write(&as_cbor, kccs).expect("the scratch directory is writable");
    for credential in [as_hex, as_cbor] {
        let credential = credential.to_str().expect("UTF-8");
        assert!(text(&bench, &[&server.link, "--peer", credential]).contains("hello, whoever proved a key"));
    }
}

#[test]
fn a_server_that_takes_nobodys_key_refused_our_credential() {
    let (bench, server) = (Bench::new(Cable::Udp), Server::start("by-value", "nobody"));
    let refused = bench.commissioner(&["get", "/hello", &server.link]).ended_with(5).saying("refused our credential");
    assert!(!refused.stderr.contains("the device"), "{}", refused.stderr);
}

#[test]
fn aiocoap_reads_comm_without_security() {
    let bench = Bench::new(Cable::Udp);
    let device = bench.start("flash", ID);
    let answer = aiocoap("/comm", host(&device), None);
    let info = DeviceInfo::decode(answer.stdout.strip_suffix(b"\n").unwrap_or(&answer.stdout));
    assert_eq!(info.expect("a DeviceInfo").device.as_str(), ID);

    let refused = aiocoap("/comm/owner/", host(&device), None);
    assert!(!refused.status.success());
}

#[test]
fn aiocoap_reads_the_owner_slot_under_edhoc() {
    let bench = Bench::new(Cable::Udp);
    let device = bench.start("flash", ID);
    let known = ccs(&bench, &device);
    for peer_credential in [known.as_str(), "{\"unauthenticated\": true}"] {
        for options in ["", "\"use_combined_edhoc\": false,"] {
            let credentials = Credentials::new(&bench, host(&device), peer_credential, options);
            let answer = aiocoap("/comm/owner", host(&device), Some(&credentials));
            let stderr = String::from_utf8_lossy(&answer.stderr);
            assert!(
                answer.stdout.starts_with(b"\xa1\x00\x00"),
                "{peer_credential} {options} {:?} {stderr}",
                answer.stdout
            );
        }
    }
}

#[test]
fn aiocoap_does_not_take_another_device_for_this_one() {
    let bench = Bench::new(Cable::Udp);
    let (device, other) = (bench.start("flash", ID), bench.start("other", "urn:dev:ops:32473-peer-other"));
    let credentials = Credentials::new(&bench, host(&device), &ccs(&bench, &other), "");
    let answer = aiocoap("/comm/owner", host(&device), Some(&credentials));
    assert!(!answer.stdout.starts_with(b"\xa1\x00\x00"));

    // The device goes on serving those who mean it.
    let credentials = Credentials::new(&bench, host(&device), &ccs(&bench, &device), "");
    assert!(aiocoap("/comm/owner", host(&device), Some(&credentials)).stdout.starts_with(b"\xa1\x00\x00"));
}

#[test]
fn a_station_with_a_token_is_known_by_kid() {
    let bench = Bench::initialised(Cable::Udp);
    let device = bench.start("flash", ID);
    let record =
        bench.commissioner(&["commission", &device.link, "--json"]).succeeded().json().pop().expect("a record");
    let issuer_key = bench.path("state/issuer.key");

    let seen = station("by_kid", &device, &[issuer_key.to_str().expect("UTF-8"), ID]);
    assert_eq!(seen["stranger"], json!({"unprotected": "4.00"}));
    assert_eq!(seen["token"], json!({"code": "2.01", "payload": ""}));
    assert_eq!(seen["impostor"], json!({"unprotected": "4.00"}));
    // The owner sees the certificate.
    assert_eq!(seen["combined"]["code"], "2.05");
    let view = seen["combined"]["payload"].as_str().expect("hex");
    assert!(view.contains(record["certificates"][0]["cti"].as_str().expect("hex")), "{view}");
    assert_eq!(seen["apart"], seen["combined"]);
}

#[test]
fn a_body_in_inner_blocks_arrives_whole_or_changes_nothing() {
    let bench = Bench::new(Cable::Udp);
    let device = bench.start("flash", ID);
    let seen = station("block1", &device, &[]);
    for (length, code, requests) in [("1600", "4.00", 2), ("3000", "4.13", 1)] {
        assert_eq!(seen[length]["code"], code);
        assert_eq!(seen[length]["requests"], requests);
    }
    assert_eq!(seen["before"]["code"], "2.05");
    assert_eq!(seen["after"], seen["before"]);

    assert_eq!(seen["claim"]["code"], "2.04");
    assert_eq!(seen["claim"]["requests"], 2);
    let receipt = hex::decode(seen["claim"]["payload"].as_str().expect("hex")).expect("hex");
    let receipt = Receipt::decode(&receipt).expect("a receipt");
    assert_eq!(hex::encode(receipt.digest), seen["digest"]);
}

#[test]
fn aiocoap_reads_in_small_blocks() {
    let bench = Bench::new(Cable::Udp);
    let device = bench.start("flash", ID);
    let seen = station("block2", &device, &[]);
    let resources = seen.as_array().expect("a list");
    assert_eq!(resources.len(), 4); // two, without security and under OSCORE
    for resource in resources {
        let (whole, blocks) = (&resource["whole"], &resource["blocks"]);
        let name = format!("{} ({})", resource["path"], resource["security"]);
        assert_eq!((&whole["code"], &blocks["code"]), (&json!("2.05"), &json!("2.05")), "{name}");
        assert_eq!(blocks["payload"], whole["payload"], "{name}");
        let length = whole["payload"].as_str().expect("hex").len() / 2;
        assert!(length > 64, "{name} fits one block");
        assert_eq!(blocks["block_size"], 64, "{name}");
        assert_eq!(blocks["last_block"], (length - 1) / 64, "{name}");
    }
}

#[test]
fn a_session_serves_a_thousand_requests() {
    let bench = Bench::new(Cable::Udp);
    let device = bench.start("flash", ID);
    let seen = station("thousand", &device, &[]);
    assert_eq!(seen, json!({"codes": {"2.05": 1000}, "sessions": 1, "requests": 1000}));
}

#[test]
fn a_credential_without_its_key_is_refused() {
    let bench = Bench::new(Cable::Udp);
    let device = bench.start("flash", ID);
    let seen = station("wrong_key", &device, &[]);
    let (refused, served) = (json!({"unprotected": "4.00"}), json!({"code": "2.05", "payload": "a10000"}));
    assert_eq!(
        seen,
        json!({"wrong, combined": refused, "wrong, apart": refused, "right, combined": served, "right, apart": served})
    );
}

/// What `peers/verify.py` finds in signed objects.
fn verified(objects: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/verify.py");
    let mut python = Command::new(peer("python"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    python.stdin.take().expect("piped").write_all(objects.to_string().as_bytes()).expect("python reads");
    let verified = python.wait_with_output().expect("python ends");
    assert!(verified.status.success());
    serde_json::from_slice(&verified.stdout).expect("JSON")
}

/// A key as JSON shows it.
fn shown(key: &CoseKey) -> Value {
    json!({"1": 2, "2": hex::encode(key.kid), "-1": 1, "-2": hex::encode(key.x), "-3": hex::encode(key.y)})
}

/// Lets one command talk to `device`, and listens to what it sends. The link for the command, and its datagrams.
fn relay(device: &Device) -> (String, Receiver<Vec<u8>>) {
    let [front, back] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    let link = format!("udp:{}", front.local_addr().expect("bound"));
    back.connect(host(device)).expect("the device's address");
    let (sender, sent) = channel();
    thread::spawn(move || {
        let mut datagram = [0; 2048];
        let (_, station) = front.peek_from(&mut datagram).expect("the command sends something");
        front.connect(station).expect("its address");
        let answers = (back.try_clone().expect("a socket"), front.try_clone().expect("a socket"));
        thread::spawn(move || pass_on(&answers.0, &answers.1, |_| true));
        pass_on(&front, &back, |datagram| sender.send(datagram.to_vec()).is_ok());
    });
    (link, sent)
}

/// Until one end is gone, or `tell` has nobody to tell.
fn pass_on(from: &UdpSocket, to: &UdpSocket, tell: impl Fn(&[u8]) -> bool) {
    let mut datagram = [0; 2048];
    while let Ok(len) = from.recv(&mut datagram)
        && tell(&datagram[..len])
        && to.send(&datagram[..len]).is_ok()
    {}
}

#[test]
fn pycose_verifies_our_certificates_and_tokens() {
    let bench = Bench::new(Cable::Udp);
    let keys = bench.commissioner(&["init", "--json"]).succeeded().json().pop().expect("the keys");
    let device = bench.start("flash", ID);
    let began = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let record =
        bench.commissioner(&["commission", &device.link, "--json"]).succeeded().json().pop().expect("a record");
    let comm = payload(&bench, "/comm", &device.link);
    let info = DeviceInfo::decode(&comm).expect("a DeviceInfo");

    let (link, sent) = relay(&device);
    let view = payload(&bench, "/comm/owner", &link);
    let posts_token =
        |packet: &Packet| packet.get_option(CoapOption::UriPath) == Some(&[b"authz-info".to_vec()].into());
    let requests = sent.try_iter().map(|datagram| Packet::from_bytes(&datagram).expect("CoAP"));
    let tokens: Vec<_> = requests.filter(posts_token).map(|packet| packet.payload).collect();
    assert_eq!(tokens.len(), 1, "the token is sent once");

    let seen = verified(&json!({"view": hex::encode(view), "token": hex::encode(&tokens[0])}));
    let (certificate, token) = (&seen["certificate"], &seen["token"]);
    let issuer = &keys["issuer"].as_str().expect("a thumbprint")[..16];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let is_now = |time: &Value| (began..=now).contains(&time.as_u64().expect("a time"));

    // docs/protocol.md, "Signed objects", has these tables.
    assert_eq!(certificate["typ"], "application/comm-cert+cwt");
    let claims = &certificate["claims"];
    assert!(is_now(&claims["6"]), "{claims}");
    assert_eq!(
        *claims,
        json!({
            "1": issuer, "2": ID, "6": claims["6"], "7": record["certificates"][0]["cti"],
            "8": {"1": shown(&info.credential.expect("a key"))}, "-70001": 0, "-70002": 1
        })
    );

    assert_eq!(token["typ"], "application/comm-token+cwt");
    let claims = &token["claims"];
    assert!(is_now(&claims["6"]), "{claims}");
    let station = &claims["8"]["1"];
    assert_eq!(
        *claims,
        json!({
            "1": issuer, "3": ID, "6": claims["6"], "8": {"1": station}, "9": [["/comm", 7]],
            "39": hex::encode(info.nonce)
        })
    );
    // A key is its x-coordinate, and its kid begins its thumbprint.
    let text = |label| station[label].as_str().expect("hex");
    assert_eq!(text("2"), &keys["station"].as_str().expect("a thumbprint")[..16]);
    let mut x = [0; 32];
    hex::decode_to_slice(text("-2"), &mut x).expect("32 bytes");
    assert_eq!(*station, shown(&PublicKey::from_x(&x).expect("a key").cose_key()));
    assert_eq!(seen["anchor"]["2"], issuer);
}
