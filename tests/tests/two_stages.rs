//! Two stages: a maker certifies a device, an owner claims it with the maker's voucher, and hands it on. Commissioners of
//! three parties, a real device, and its flash afterwards.

use std::fs;

use end_to_end::{Bench, Cable, Device, Finished, cases};
use serde_json::Value;

const ID: &str = "urn:dev:ops:32473-sim-2a9e";
const PASSPHRASE: &[u8] = b"correct horse battery staple";

cases! { [pty Pty, udp Udp] [
    from_its_maker_to_its_owner_and_on,
    what_does_not_fit_is_refused_and_changes_nothing,
    a_maker_who_is_the_owner_needs_no_file,
] }

/// A state directory for each party.
fn bench(cable: Cable) -> Bench {
    let bench = Bench::new(cable);
    for party in ["maker", "owner", "next"] {
        bench.commissioner_of(party, &["init"]).succeeded();
    }
    bench
}

/// The issuer's key of a party: 64 hex digits.
fn key(bench: &Bench, party: &str) -> String {
    let shown = bench.commissioner_of(party, &["issuer", "show", "--json"]).succeeded().json().remove(0);
    shown["key"].as_str().expect("a key").to_owned()
}

/// A file with the issuer's key of a party.
fn anchor(bench: &Bench, party: &str) -> String {
    let file = bench.path(&format!("{party}.pem")).display().to_string();
    bench.commissioner_of(party, &["issuer", "export", "--output", &file]).succeeded();
    file
}

/// A voucher of a party, in a file.
fn voucher(bench: &Bench, party: &str, args: &[&str]) -> String {
    let file = bench.path(&format!("{party}.cwt")).display().to_string();
    bench.commissioner_of(party, &[args, &["--output", &file]].concat()).succeeded();
    file
}

fn commission(bench: &Bench, party: &str, device: &Device, options: &[&str]) -> Finished {
    bench.commissioner_of(party, &[&["commission", &device.link], options].concat())
}

fn made(bench: &Bench, device: &Device) {
    commission(bench, "maker", device, &["--as", "factory", "--trusted"]).succeeded();
}

/// What `verify` says of a device.
fn verdict(bench: &Bench, device: &Device, anchors: &[&str], exit: i32) -> Value {
    let anchors: Vec<_> = anchors.iter().flat_map(|anchor| ["--anchor", anchor]).collect();
    let said = bench.commissioner_of("stranger", &[&["verify", &device.link, "--json"], &anchors[..]].concat());
    said.ended_with(exit).json().into_iter().find(|line| line["verdict"].is_string()).expect("a verdict")
}

/// What the device says of itself to anyone.
fn comm(bench: &Bench, device: &Device) -> String {
    bench.commissioner_of("stranger", &["get", "/comm", &device.link, "--plain"]).succeeded().stdout
}

fn stores(bench: &Bench, bytes: &[u8]) -> bool {
    let flash = fs::read(bench.path("flash")).expect("a flash image");
    flash.windows(bytes.len()).any(|window| window == bytes)
}

fn from_its_maker_to_its_owner_and_on(bench: &Bench) {
    let bench = &self::bench(bench.cable);
    let device = bench.start_with("flash", ID, &["--claim-policy", "voucher"]);
    let maker = anchor(bench, "maker");
    let nothing = verdict(bench, &device, &[&maker], 5);
    assert_eq!((&nothing["verdict"], &nothing["factory"]), (&"claimed".into(), &"empty".into()));
    assert_eq!(nothing["reason"], "no maker left anything on it");

    // Stage one. Once is enough.
    made(bench, &device);
    assert!(commission(bench, "maker", &device, &["--as", "factory"]).succeeded().stdout.contains("already"));
    let shown = bench.commissioner_of("maker", &["show", ID, "--json"]).succeeded().json().remove(0);
    assert_eq!((&shown["provenance"], &shown["status"]), (&"programming".into(), &"active".into()));
    assert_eq!(shown["certificates"][0]["slot"], "factory");
    let certified = verdict(bench, &device, &[&key(bench, "owner"), &maker], 0);
    assert_eq!(
        (&certified["verdict"], &certified["possession"], &certified["owner"], &certified["proof"]),
        (&"certified".into(), &"proved".into(), &"empty".into(), &"proved".into())
    );
    assert_eq!(certified["thumbprint"], shown["thumbprint"]);
    let claimed = verdict(bench, &device, &[], 0);
    assert_eq!((&claimed["verdict"], &claimed["maker"]), (&"claimed".into(), &certified["maker"]));
    assert_eq!(verdict(bench, &device, &[&key(bench, "next")], 5)["reason"], "its certificate is not of this maker");

    // Stage two.
    commission(bench, "owner", &device, &[]).ended_with(5).saying("takes a voucher of its maker");
    let file = voucher(bench, "maker", &["voucher", ID, "--for", &key(bench, "owner")]);
    commission(bench, "owner", &device, &["--voucher", &file]).succeeded();
    let again = commission(bench, "owner", &device, &["--voucher", &file]).succeeded();
    assert!(again.stdout.contains("already"), "{}", again.stdout);
    bench.commissioner_of("owner", &["distribute", &device.link]).succeeded();
    let put = ["put", "slots/wifi-passphrase", &device.link];
    bench.commissioner_fed("owner", &put, PASSPHRASE).succeeded();
    bench.commissioner_of("owner", &["get", "slots/wifi-passphrase", &device.link]).ended_with(5).saying("4.05");
    let owner_key = hex::decode(key(bench, "owner")).expect("hex");
    assert!(stores(bench, &owner_key) && stores(bench, PASSPHRASE));
    // It belongs to somebody, and is still of that maker, who has no say in it.
    assert_eq!(verdict(bench, &device, &[&maker], 0)["owner"], "certified");
    commission(bench, "maker", &device, &[]).ended_with(5).saying("has an owner");
    bench.commissioner_of("maker", &["put", "slots/wifi-passphrase", &device.link]).ended_with(5);

    // A change of hands, and nothing of the former owner is left.
    let file = voucher(bench, "owner", &["transfer", ID, "--to", &anchor(bench, "next")]);
    bench.commissioner_of("owner", &["get", "/comm/peers", &device.link]).succeeded();
    commission(bench, "next", &device, &["--voucher", &file]).succeeded();
    assert!(!stores(bench, &owner_key), "the former owner's anchor is still in flash");
    assert!(!stores(bench, PASSPHRASE), "the former owner's secret is still in flash");
    let list = bench.commissioner_of("next", &["get", "/comm/peers", &device.link]).succeeded().stdout;
    assert!(!list.contains("1:"), "no version: {list}");
    bench
        .commissioner_of("owner", &["get", "/comm/peers", &device.link])
        .ended_with(5)
        .saying("not accept this station");
    commission(bench, "owner", &device, &[]).ended_with(5);
    assert_eq!(verdict(bench, &device, &[&maker], 0)["verdict"], "certified");
    bench.commissioner_of("owner", &["revoke", ID]).succeeded();

    // The next one gives it up: free, and still of its maker.
    bench.commissioner_of("next", &["reset", &device.link]).succeeded();
    assert_eq!(verdict(bench, &device, &[&maker], 0)["owner"], "empty");
    commission(bench, "next", &device, &["--voucher", &file]).ended_with(5).saying("it was used");
}

fn what_does_not_fit_is_refused_and_changes_nothing(bench: &Bench) {
    let bench = &self::bench(bench.cable);
    let device = bench.start_with("flash", ID, &[]);
    let other = bench.start_with("other", "urn:dev:ops:32473-sim-2a9f", &[]);
    for device in [&device, &other] {
        made(bench, device);
    }
    let before = (comm(bench, &device), fs::read(bench.path("flash")).expect("a flash image"));
    let refused = |options: &[&str], exit, reason| {
        commission(bench, "owner", &device, options).ended_with(exit).saying(reason);
        assert_eq!((comm(bench, &device), fs::read(bench.path("flash")).expect("a flash image")), before, "{reason}");
    };
    let make = |args: &[&str]| voucher(bench, "maker", &[&["voucher"], args].concat());
    let owner = key(bench, "owner");
    refused(&["--voucher", &make(&["urn:dev:ops:32473-sim-2a9f", "--for", &owner])], 2, "there is no voucher for");
    refused(&["--voucher", &make(&[ID, "--for", &key(bench, "next")])], 2, "is for another owner");
    let late = make(&[ID, "--for", &owner, "--claim-counter", "7"]);
    refused(&["--voucher", &late], 5, "for its claim counter 7, and the device shows 0");
    fs::write(&late, "COMM1:no").expect("a file");
    refused(&["--voucher", &late], 2, "holds no voucher");
    refused(&["--voucher", &bench.path("none").display().to_string()], 2, "cannot read the voucher");
    refused(&["--as", "factory"], 5, "another maker");
    refused(&["--as", "factory", "--voucher", &late], 2, "takes no voucher");
    // Who did not make it cannot vouch for it, nor hand on what is not theirs; the device knows that, too.
    let vouch = |party: &str, args: &[&str]| bench.commissioner_of(party, args);
    vouch("owner", &["voucher", ID, "--for", &owner]).ended_with(6).saying("factory slot is not ours");
    vouch("maker", &["transfer", ID, "--to", &owner]).ended_with(6).saying("not one of your devices");
    vouch("maker", &["transfer", ID, "--to", &key(bench, "maker")]).ended_with(2).saying("your own key");
    for no_key in ["00", "none.pem", &"f".repeat(64)] {
        vouch("maker", &["voucher", ID, "--for", no_key]).ended_with(2);
    }

    // Both at once, from a folder: one file for each.
    let folder = bench.path("vouchers").display().to_string();
    let all = vouch("maker", &["voucher", "--all", "--for", &owner, "--output", &folder, "--json"]).succeeded().json();
    assert_eq!(
        all.iter().map(|line| line["device"].as_str().unwrap()).collect::<Vec<_>>(),
        [ID, "urn:dev:ops:32473-sim-2a9f"]
    );
    let both = ["commission", &device.link, &other.link, "--voucher", &folder];
    bench.commissioner_of("owner", &both).succeeded();
    let mine = bench.commissioner_of("owner", &["devices", "--json"]).succeeded().json();
    assert_eq!(mine.len(), 2);
    commission(bench, "owner", &device, &["--as", "factory"]).ended_with(5).saying("another maker");

    // Values: their size, their name, and what is written once.
    let put = |path: &str, value: &[u8]| bench.commissioner_fed("owner", &["put", path, &device.link], value);
    put("slots/sender-id", b"12345678").succeeded();
    put("slots/sender-id", b"12345678").succeeded();
    put("slots/sender-id", b"12345679").ended_with(5).saying("4.09");
    put("slots/identify-flashes", &[21]).ended_with(5).saying("4.00");
    put("slots/identify-flashes", &[7]).succeeded();
    put("slots/wifi-passphrase", &[b'x'; 65]).ended_with(5).saying("4.13");
    put("slots/none", b"x").ended_with(5).saying("4.04");
    bench
        .commissioner_of("owner", &["put", "slots/wifi-passphrase", &device.link, "--prompt"])
        .ended_with(2)
        .saying("no terminal");
    let sender = bench.commissioner_of("owner", &["get", "slots/sender-id", &device.link, "--json"]).succeeded().json();
    assert_eq!(sender.last().expect("an answer")["payload_hex"], hex::encode("12345678"));
    bench.commissioner_of("owner", &["identify", &device.link]).succeeded();
}

fn a_maker_who_is_the_owner_needs_no_file(bench: &Bench) {
    let bench = &self::bench(bench.cable);
    let device = bench.start_with("flash", ID, &["--claim-policy", "voucher"]);
    bench.copy_state("maker", "before");
    made(bench, &device);
    commission(bench, "maker", &device, &[]).succeeded();
    let slots = |status: &str| {
        let record = bench.commissioner_of("maker", &["show", ID, "--json"]).succeeded().json().remove(0);
        let certificates = record["certificates"].as_array().expect("a list").clone();
        let with = certificates.iter().filter(|it| it["status"] == status);
        with.map(|it| it["slot"].as_str().expect("a slot").to_owned()).collect::<Vec<_>>()
    };
    let mut installed = slots("installed");
    installed.sort();
    assert_eq!(installed, ["factory", "owner"]);
    // A new key loses both certificates, and gets both again.
    bench.commissioner_of("maker", &["rekey", &device.link]).succeeded();
    assert_eq!(verdict(bench, &device, &[&anchor(bench, "maker")], 5)["factory"], "anchored");
    // A registry of the same issuer that knows nothing of it shows it nothing of the station.
    commission(bench, "before", &device, &["--as", "factory"]).ended_with(5).saying("does not know it as such");
    commission(bench, "maker", &device, &["--as", "factory"]).succeeded();
    assert_eq!(verdict(bench, &device, &[&anchor(bench, "maker")], 0)["verdict"], "certified");
    bench.commissioner_of("maker", &["reset", &device.link]).succeeded();
    assert_eq!(slots("removed"), ["owner"]);
    // Given up, it is still of that maker, who may have it again or let somebody else in.
    let file = voucher(bench, "maker", &["voucher", ID, "--for", &key(bench, "owner")]);
    commission(bench, "owner", &device, &["--voucher", &file]).succeeded();
    bench.commissioner_of("owner", &["reset", &device.link]).succeeded();
    commission(bench, "maker", &device, &[]).succeeded();
}

/// The button of the device, and the policies that ask for it.
#[test]
fn somebody_has_to_be_there() {
    let bench = bench(Cable::Udp);
    let mut device = bench.start_with("flash", ID, &["--claim-policy", "presence", "--reset-by-presence"]);
    commission(&bench, "owner", &device, &[]).ended_with(5).saying("4.09");
    device.signal("USR2");
    device.expect_line("presence: somebody is here");
    commission(&bench, "owner", &device, &[]).succeeded();

    let lost = hex::decode(key(&bench, "owner")).expect("hex");
    assert!(stores(&bench, &lost));

    // The owner lost the keys, and the device is in its hands.
    fs::remove_dir_all(bench.path("owner")).expect("it is lost");
    bench.commissioner_of("owner", &["init"]).succeeded();
    commission(&bench, "owner", &device, &[]).ended_with(5).saying("has an owner");
    let link = device.link.clone();
    let reset = |options: &[&str]| bench.commissioner_of("owner", &[&["reset", &link], options].concat());
    reset(&[]).ended_with(6).saying("not one of your devices");
    reset(&["--present"]).ended_with(5).saying("keeps its owner");
    device.signal("USR2");
    device.expect_line("presence: somebody is here");
    reset(&["--present"]).succeeded();
    assert!(!stores(&bench, &lost), "the former owner's anchor is still in flash");
    // The press was used up.
    commission(&bench, "owner", &device, &[]).ended_with(5).saying("4.09");
}

/// Keys that a party has on its lists: the signed one, and those for other programs; and the status of the device's newest key.
fn counted(bench: &Bench, party: &str) -> (usize, String) {
    let file = bench.path("exported").display().to_string();
    let keys = ["signed-list", "peers-yml", "cose-keyset"].map(|format| {
        let exported = bench.commissioner_of(party, &["export", "--format", format, "--output", &file, "--json"]);
        exported.succeeded().json().last().expect("a line")["keys"].as_u64().expect("a number")
    });
    assert!(keys.iter().all(|count| *count == keys[0]), "the lists contradict each other: {keys:?}");
    let records = bench.commissioner_of(party, &["devices", "--all", "--json"]).succeeded().json();
    let status = records.last().expect("a device")["status"].as_str().expect("a status").to_owned();
    assert_eq!(records.iter().filter(|record| record["status"] == "active").count() as u64, keys[0]);
    (usize::try_from(keys[0]).expect("few"), status)
}

/// Whoever vouches for it: without a certificate it is none of my devices.
#[test]
fn a_board_that_takes_no_certificate_is_on_no_list() {
    let pending = (0, "pending".to_owned());
    let active = (1, "active".to_owned());
    // One that wants its button, in the trusted place; and it is mine once it is pressed.
    let bench = self::bench(Cable::Udp);
    let mut device = bench.start_with("flash", ID, &["--claim-policy", "presence"]);
    commission(&bench, "owner", &device, &["--trusted"]).ended_with(5).saying("4.09");
    assert_eq!(counted(&bench, "owner"), pending);
    // A report of it does not make more of it than it was.
    let report = device.report().to_owned();
    bench.commissioner_of("owner", &["run", "--", "echo", &report]).succeeded().saying("once it has its certificate");
    assert_eq!(counted(&bench, "owner"), pending);
    // Where nobody ever visited it, it is enough; until it is visited.
    bench.commissioner_of("next", &["run", "--", "echo", &report]).succeeded();
    assert_eq!(counted(&bench, "next"), active);
    commission(&bench, "next", &device, &[]).ended_with(5).saying("4.09");
    assert_eq!(counted(&bench, "next"), pending);
    let link = device.link.clone();
    let aiocoap = || bench.commissioner_of("owner", &["export", "--format", "aiocoap", "--link", &link]);
    aiocoap().ended_with(3).saying("no device of yours");
    device.signal("USR2");
    device.expect_line("presence: somebody is here");
    commission(&bench, "owner", &device, &[]).succeeded();
    assert_eq!(counted(&bench, "owner"), active);
    aiocoap().succeeded();
    // It is somebody else's now.
    commission(&bench, "next", &device, &["--trusted"]).ended_with(5);
    assert_eq!(counted(&bench, "next"), pending);

    // One that needs a voucher; and another maker's.
    let bench = self::bench(Cable::Udp);
    let device = bench.start("flash", ID);
    made(&bench, &device);
    commission(&bench, "owner", &device, &["--trusted"]).ended_with(5).saying("takes a voucher");
    assert_eq!(counted(&bench, "owner"), pending);
    commission(&bench, "next", &device, &["--trusted", "--as", "factory"]).ended_with(5).saying("another maker");
    assert_eq!(counted(&bench, "next"), pending);
    let file = voucher(&bench, "maker", &["voucher", ID, "--for", &key(&bench, "owner")]);
    commission(&bench, "owner", &device, &["--voucher", &file]).succeeded();
    assert_eq!(counted(&bench, "owner"), active);

    // A key change that the user accepts, of a board that wants its button: the old key is out, the new one not in.
    drop(device);
    fs::remove_file(bench.path("flash")).expect("it is erased");
    let device = bench.start_with("flash", ID, &["--claim-policy", "presence"]);
    commission(&bench, "owner", &device, &["--accept-new-key"]).ended_with(5).saying("4.09");
    assert_eq!(counted(&bench, "owner"), pending);
    assert_eq!(bench.commissioner_of("owner", &["devices", "--json"]).succeeded().json().len(), 1);
}

/// Somebody else emptied the owner slot: what was there is gone, whatever the registry knew.
#[test]
fn a_device_that_was_reset_by_its_button_is_mine_only_with_a_new_certificate() {
    let bench = bench(Cable::Udp);
    let mut device = bench.start_with("flash", ID, &["--claim-policy", "presence", "--reset-by-presence"]);
    let press = |device: &mut Device| {
        device.signal("USR2");
        device.expect_line("presence: somebody is here");
    };
    press(&mut device);
    commission(&bench, "owner", &device, &[]).succeeded();
    bench.commissioner_of("owner", &["distribute", &device.link]).succeeded();
    assert_eq!(counted(&bench, "owner"), (1, "active".to_owned()));
    press(&mut device);
    bench.commissioner_of("stranger", &["init"]).succeeded();
    bench.commissioner_of("stranger", &["reset", &device.link, "--present"]).succeeded();
    commission(&bench, "owner", &device, &[]).ended_with(5).saying("4.09");
    assert_eq!(counted(&bench, "owner"), (0, "pending".to_owned()));
    let record = bench.commissioner_of("owner", &["devices", "--json"]).succeeded().json().remove(0);
    assert!(record["list_version"].is_null() && record["list_is_current"].is_null(), "{record}");
    press(&mut device);
    commission(&bench, "owner", &device, &[]).succeeded();
    assert_eq!(counted(&bench, "owner"), (1, "active".to_owned()));
}
