//! `commissioner serve`: what a network of devices can ask. The device here is aiocoap, with the key of a device that was
//! commissioned.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use age::x25519;
use cbor_schemas::{DeviceListClaims, Kind, Sign1};
use commissioner::{
    clock::Clock, escrow::OpenWith, keys, registry::Registry, serve::revocations::token_hash, state_dir::StateDir,
};
use end_to_end::{Bench, Cable, Device, Running, program};
use protocol::{key::PrivateKey, key::PublicKey, sign1};
use rand_core::OsRng;
use serde_json::Value;

const LAMP: &str = "urn:dev:ops:32473-sim-1a3b";
const BUTTON: &str = "urn:dev:ops:32473-sim-b0770";

/// A device that is commissioned, and the file with its private key.
fn device_with_known_key(bench: &Bench, id: &str) -> (Device, PathBuf) {
    let name = id.rsplit('-').next().expect("a name");
    let mut device = Command::new(program("device-sim"));
    device.args(["--id", id, "--takes-keys", "--udp", "127.0.0.1:0", "--flash"]);
    let device = Device::start(device.arg(bench.path(name)));
    let identity = x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    bench.commissioner(&["commission", &device.link, "--escrow", "--recipient", &recipient]).succeeded();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let key = runtime.block_on(async {
        let dir = StateDir::open(&bench.path("state")).expect("a state directory");
        let registry = Registry::open(&dir, Clock::System, false).await.expect("a registry");
        let known = registry.device_by_id(&id.parse().expect("an ID")).await.expect("a registry").expect("known");
        let (public, sealed) = registry.copy_of_active(&known).await.expect("a copy");
        OpenWith::Identities(vec![Box::new(identity)]).open(&sealed, &public).expect("it opens")
    });
    (device, key_file(bench, name, &key))
}

fn key_file(bench: &Bench, name: &str, key: &PrivateKey) -> PathBuf {
    let file = bench.path(&format!("{name}.pem"));
    fs::write(&file, keys::to_pem(key).expect("a key").as_bytes()).expect("a file");
    file
}

/// Starts the server; its address, and its credential in hex.
fn serve(bench: &Bench) -> (Running, String, String) {
    let mut server = bench.watch(&["serve", "--json", "--listen", "127.0.0.1:0"]);
    let line: Value = serde_json::from_str(&server.next_line().expect("it says where")).expect("JSON");
    let text = |name: &str| line[name].as_str().expect("a text").to_owned();
    (server, text("listening"), text("credential"))
}

fn watch(host: &str, key: &Path, credential: &str) -> Running {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new(here.join("../target/peers/bin/python"));
    Running::start(python.arg(here.join("peers/trl.py")).arg(host).arg(key).arg(credential))
}

/// The next line that says `name`.
fn told(watcher: &mut Running, name: &str) -> Value {
    loop {
        let line = watcher.next_line().expect("it goes on");
        match serde_json::from_str::<Value>(&line) {
            Ok(line) if line.get(name).is_some() => return line,
            Ok(line) if line.get("error").is_some() => panic!("{line}"),
            _ => {}
        }
    }
}

/// The hashes of all certificates that the registry has of a device, by what is exported.
fn hashes_of(bench: &Bench, id: &str) -> Vec<String> {
    let export = bench.commissioner(&["export", "--format", "json"]).succeeded().json();
    let of_device = export.iter().filter(|record| record["device"] == id);
    let objects = of_device.flat_map(|record| record["signed"].as_array().expect("certificates").clone());
    let hash = |object: Value| {
        let object = hex::decode(object.as_str().expect("hex")).expect("hex");
        hex::encode(token_hash(&object))
    };
    objects.map(hash).collect()
}

#[test]
fn a_device_is_told_what_is_revoked() {
    let bench = Bench::initialised(Cable::Udp);
    let (_lamp, lamp_key) = device_with_known_key(&bench, LAMP);
    let (_button, _) = device_with_known_key(&bench, BUTTON);
    let (mut server, host, credential) = serve(&bench);

    let mut watcher = watch(&host, &lamp_key, &credential);
    let core = told(&mut watcher, "core");
    assert!(core["core"].as_str().expect("links").contains("</revoke/trl>;rt=\"comm.trl\";ct=262;obs"), "{core}");
    assert_eq!(told(&mut watcher, "list")["code"], "4.04", "nobody has signed one yet");
    assert_eq!(told(&mut watcher, "plain")["plain"], "4.01");
    let first = told(&mut watcher, "hashes");
    assert_eq!((&first["format"], &first["keys"]), (&262.into(), &Value::from(vec![0])));
    // The keys that the two devices had before they took those that were made for them.
    assert_eq!(first["hashes"].as_array().expect("hashes").len(), 2);

    // Another process revokes; the watcher hears of it.
    bench.commissioner(&["revoke", BUTTON]).succeeded();
    server.expect_line("\"told\":1");
    let second = told(&mut watcher, "hashes");
    let revoked = hashes_of(&bench, BUTTON);
    let known: Vec<_> =
        second["hashes"].as_array().expect("hashes").iter().map(|hash| hash.as_str().expect("hex")).collect();
    assert_eq!((known.len(), revoked.len()), (3, 2));
    assert!(revoked.iter().all(|hash| known.contains(&hash.as_str())), "{known:?} {revoked:?}");

    // Its own revocation is the last that it hears.
    bench.commissioner(&["revoke", LAMP]).succeeded();
    assert_eq!(told(&mut watcher, "ended")["ended"], "4.03");
    let (exit, _) = watcher.finish();
    assert_eq!(exit, Some(0));
    // By kid, nobody knows it any more.
    let mut again = watch(&host, &lamp_key, &credential);
    told(&mut again, "plain");
    let (_, lines) = again.finish();
    assert!(lines.iter().any(|line| line.contains("NotAProtectedMessage")), "{lines:?}");
    assert_eq!(server.interrupt(), Some(0));
}

#[test]
fn anyone_gets_the_signed_list_block_by_block_as_soon_as_it_is_signed() {
    let bench = Bench::initialised(Cable::Udp);
    let (server, host, credential) = serve(&bench);
    let mut links = Vec::new();
    let devices: Vec<_> = (0..40)
        .map(|number| bench.start(&format!("{number}"), &format!("urn:dev:ops:32473-sim-{number:02}")))
        .collect();
    devices.iter().for_each(|device| links.push(device.link.as_str()));
    bench.commissioner(&[&["commission"], &links[..]].concat()).succeeded();
    bench.commissioner(&["distribute", links[0]]).succeeded();
    let expected = hex::encode(bench.signed_list());
    let stranger = key_file(&bench, "stranger", &PrivateKey::generate(&mut OsRng));
    // It is looked for each second.
    let list = loop {
        let mut reader = watch(&host, &stranger, &credential);
        let line = told(&mut reader, "list");
        if line["code"] == "2.05" {
            break line["list"].as_str().expect("hex").to_owned();
        }
    };
    assert_eq!(list, expected);
    let list = hex::decode(list).expect("hex");
    assert!(list.len() > 1024, "{} bytes are one block", list.len());
    let object = Sign1::decode_as(Kind::DeviceList, &list).expect("a list");
    let record = bench.commissioner(&["init", "--json"]).succeeded().json().remove(0);
    let claims = DeviceListClaims::decode(object.payload).expect("claims");
    assert_eq!(claims.keys.len(), 40);
    let issuer = keys::load(&bench.path("state/issuer.key")).expect("a key");
    let issuer: &PublicKey = issuer.public();
    assert_eq!(record["issuer"], issuer.thumbprint().to_string());
    sign1::verify(issuer, &object).expect("our issuer signed it");
    assert_eq!(server.interrupt(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_said() {
    let bench = Bench::initialised(Cable::Udp);
    let (server, host, _) = serve(&bench);
    bench.commissioner(&["serve", "--listen", &host]).ended_with(4).saying("name another address with --listen");
    bench.commissioner(&["serve", "--listen", "nowhere"]).ended_with(2);
    bench.commissioner_of("none", &["serve"]).ended_with(2).saying("commissioner init");
    assert_eq!(server.interrupt(), Some(0));
}
