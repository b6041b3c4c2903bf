//! The main job, end to end: one list of cases, over a serial line, over UDP, and with real firmware on an emulated board.

use end_to_end::{Bench, Cable, Device, cases, noise};
use serde_json::Value;

const ID: &str = "urn:dev:ops:32473-sf2-00000000000024be";

cases! { [pty Pty, udp Udp, uart Uart] [
    a_device_becomes_one_of_mine,
    a_second_commission_changes_nothing,
    a_restart_keeps_key_and_owner,
    a_device_that_lost_its_flash_is_a_key_change,
    in_the_trusted_place_a_new_key_replaces_the_old_one,
    a_stranger_who_claims_an_id_revokes_nothing,
    another_issuer_cannot_take_a_device,
    a_rekey_is_a_succession,
    a_reset_device_can_be_owned_again,
    a_revoked_key_does_not_come_back,
    identify_reaches_the_board,
    get_shows_what_a_device_says,
    refusals_are_sentences,
    a_device_that_goes_away_is_a_failed_link,
    garbage_on_the_link_disturbs_nobody,
    a_report_line_is_only_a_report,
    several_devices_are_commissioned_side_by_side,
    a_watch_takes_each_device_that_comes_along,
] }

fn commission(bench: &Bench, device: &Device) -> Value {
    let done = bench.commissioner(&["commission", &device.link, "--json"]).succeeded();
    done.json().pop().expect("a record")
}

fn a_device_becomes_one_of_mine(bench: &Bench) {
    let device = bench.start("flash", ID);
    let found = bench.commissioner(&["discover", &device.link, "--json"]).succeeded().json();
    assert!(found.iter().any(|line| line["device"] == ID), "{found:?}");

    let record = commission(bench, &device);
    assert_eq!(record["device"], ID);
    assert_eq!(record["status"], "active");
    assert_eq!(record["provenance"], "proved");
    assert_eq!(record["generation"], 1);
    assert_eq!(record["nickname"], Value::Null);
    assert_eq!(record["thumbprint"].as_str().unwrap().len(), 64);
    assert!(record["first_seen"].is_string() && record["last_seen"].is_string());
    let [certificate] = &record["certificates"].as_array().unwrap()[..] else { panic!("{record}") };
    assert_eq!((&certificate["slot"], &certificate["status"]), (&"owner".into(), &"installed".into()));
    assert!(certificate["cti"].is_string() && certificate["issued_at"].is_string());

    let steps = ["authenticated", "confirmed", "intended", "issued", "sent", "installed", "key-active"];
    let other = Bench::initialised(bench.cable);
    let fresh = other.start("flash", ID);
    let told = other.commissioner(&["commission", &fresh.link, "--json"]).succeeded().json();
    let told: Vec<_> = told.iter().filter_map(|line| line["step"].as_str()).collect();
    let order: Vec<_> = told.iter().filter(|step| steps.contains(step)).collect();
    assert_eq!(order, steps.iter().collect::<Vec<_>>(), "{told:?}");

    // By ID, by prefix of the ID or of the thumbprint, and by nickname.
    bench.commissioner(&["nickname", ID, "kitchen"]).succeeded();
    for name in [ID, "urn:dev:ops:32473-sf2", "24be", &record["thumbprint"].as_str().unwrap()[..10], "kitchen"] {
        let shown = bench.commissioner(&["show", name]).succeeded();
        assert!(shown.stdout.contains(ID) && shown.stdout.contains("certificate-installed"), "{}", shown.stdout);
    }
}

fn a_second_commission_changes_nothing(bench: &Bench) {
    let device = bench.start("flash", ID);
    let first = commission(bench, &device);
    let contents = owner_slot(bench, &device);
    let again = bench.commissioner(&["commission", &device.link]).succeeded();
    assert!(again.stdout.contains("already") && again.stdout.contains("nothing was changed"), "{}", again.stdout);
    let second = commission(bench, &device);
    for field in ["thumbprint", "status", "provenance", "certificates", "first_seen"] {
        assert_eq!(second[field], first[field], "{field}");
    }
    assert_eq!(owner_slot(bench, &device), contents);
}

fn a_restart_keeps_key_and_owner(bench: &Bench) {
    let first = commission(bench, &bench.start("flash", ID));
    let device = bench.start("flash", ID);
    let second = commission(bench, &device);
    assert_eq!(second["thumbprint"], first["thumbprint"]);
    assert_eq!(second["certificates"], first["certificates"]);
}

fn a_device_that_lost_its_flash_is_a_key_change(bench: &Bench) {
    let old = commission(bench, &bench.start("flash-1", ID));
    let device = bench.start("flash-2", ID);
    let link = &device.link;
    bench.commissioner(&["commission", link]).ended_with(6).saying("--accept-new-key");
    assert_eq!(bench.statuses(), ["active", "pending"]);
    bench.commissioner(&["commission", link]).ended_with(6);

    bench.commissioner(&["commission", link, "--accept-new-key"]).succeeded();
    assert_eq!(bench.statuses(), ["revoked", "active"]);
    let records = bench.records();
    assert_eq!(records[0]["thumbprint"], old["thumbprint"]);
    assert_eq!(records[0]["certificates"][0]["status"], "revoked");
    assert_eq!(records[1]["provenance"], "proved");
    let listed = bench.commissioner(&["devices", "--json"]).succeeded().json();
    assert_eq!(listed.len(), 1, "without --all, revoked keys are not shown");
    bench.commissioner(&["commission", link]).succeeded();
}

fn in_the_trusted_place_a_new_key_replaces_the_old_one(bench: &Bench) {
    let first = bench.start("flash-1", ID);
    let record = bench.commissioner(&["commission", &first.link, "--trusted", "--json"]).succeeded().json();
    assert_eq!(record.last().unwrap()["provenance"], "programming");
    drop(first);
    let device = bench.start("flash-2", ID);
    bench.commissioner(&["commission", &device.link, "--trusted"]).succeeded();
    assert_eq!(bench.statuses(), ["revoked", "active"]);
}

fn a_stranger_who_claims_an_id_revokes_nothing(bench: &Bench) {
    let mine = bench.start("flash", ID);
    commission(bench, &mine);
    let impostor = bench.start("impostor", ID);
    bench.commissioner(&["commission", &impostor.link]).ended_with(6);
    // The impostor was not claimed, and the real one is still mine.
    let slot = bench.commissioner_of("nobody", &["get", "/comm/owner", &impostor.link, "--json"]).succeeded().json();
    assert_eq!(slot.last().unwrap()["payload_hex"], EMPTY);
    bench.commissioner(&["commission", &mine.link]).succeeded();
    assert_eq!(bench.statuses(), ["active", "pending"]);
}

fn another_issuer_cannot_take_a_device(bench: &Bench) {
    let device = bench.start("flash", ID);
    commission(bench, &device);
    let contents = owner_slot(bench, &device);
    bench.commissioner_of("other", &["init"]).succeeded();
    bench.commissioner_of("other", &["commission", &device.link]).ended_with(5).saying("has an owner");
    let reset = bench.commissioner_of("other", &["reset", &device.link]);
    assert_ne!(reset.exit, 0);
    assert_eq!(owner_slot(bench, &device), contents);
}

fn a_rekey_is_a_succession(bench: &Bench) {
    let device = bench.start("flash", ID);
    commission(bench, &device);
    bench.commissioner(&["rekey", &device.link]).succeeded();
    assert_eq!(bench.statuses(), ["revoked", "active"]);
    let records = bench.records();
    assert_eq!(records[1]["generation"], 2);
    assert_eq!(records[1]["certificates"][0]["status"], "installed");
    let again = bench.commissioner(&["commission", &device.link]).succeeded();
    assert!(again.stdout.contains("already"), "{}", again.stdout);
}

fn a_reset_device_can_be_owned_again(bench: &Bench) {
    let device = bench.start("flash", ID);
    let before = commission(bench, &device);
    bench.commissioner(&["reset", &device.link]).succeeded();
    assert_eq!(bench.statuses(), ["pending"]);
    assert_eq!(owner_slot(bench, &device), EMPTY);
    let after = commission(bench, &device);
    assert_eq!(after["thumbprint"], before["thumbprint"]);
    assert_eq!(bench.statuses(), ["active"]);

    bench.commissioner(&["reset", &device.link]).succeeded();
    bench.commissioner_of("other", &["init"]).succeeded();
    bench.commissioner_of("other", &["commission", &device.link]).succeeded();
    bench.commissioner(&["commission", &device.link]).ended_with(5);
}

fn a_revoked_key_does_not_come_back(bench: &Bench) {
    let device = bench.start("flash", ID);
    commission(bench, &device);
    bench.commissioner(&["revoke", ID]).succeeded();
    assert_eq!(bench.statuses(), ["revoked"]);
    bench.commissioner(&["commission", &device.link]).ended_with(6).saying("revoked");
    bench.commissioner(&["commission", &device.link, "--accept-new-key"]).ended_with(6);
    bench.commissioner(&["commission", &device.link, "--trusted"]).ended_with(6);
    assert_eq!(bench.statuses(), ["revoked"]);
}

fn identify_reaches_the_board(bench: &Bench) {
    let mut device = bench.start("flash", ID);
    bench.commissioner(&["identify", &device.link]).succeeded();
    device.expect_line("identify");
    commission(bench, &device);
    bench.commissioner(&["identify", &device.link]).succeeded();
    device.expect_line("identify");
    bench.commissioner_of("other", &["init"]).succeeded();
    bench.commissioner_of("other", &["identify", &device.link]).ended_with(5);
}

fn get_shows_what_a_device_says(bench: &Bench) {
    let device = bench.start("flash", ID);
    let shown = bench.commissioner(&["get", "/comm", &device.link]).succeeded();
    assert!(shown.stdout.contains(&format!("1:\"{ID}\"")), "{}", shown.stdout);
    let links = bench.commissioner(&["get", "/.well-known/core", &device.link]).succeeded();
    assert!(links.stdout.contains("</comm>;rt=\"commissioning\""), "{}", links.stdout);
}

fn refusals_are_sentences(bench: &Bench) {
    let device = bench.start("flash", ID);
    let link = &device.link;
    bench.commissioner(&["get", "/no/such/thing", link]).ended_with(5).saying("4.04");
    bench.commissioner_fed("state", &["put", "/comm/owner", link, "--file", "-"], b"\xa1").ended_with(5).saying("4.00");
    bench
        .commissioner_fed("state", &["put", "/comm/owner", link, "--file", "-"], &[0; 4000])
        .ended_with(5)
        .saying("4.13");
    bench.commissioner_fed("state", &["put", "/comm", link, "--file", "-"], b"").ended_with(5).saying("4.05");
    bench.commissioner(&["rekey", link]).ended_with(6).saying("commission it first");
    let error = bench.commissioner(&["get", "/no", link, "--json"]).ended_with(5).json().pop().unwrap();
    assert_eq!(error["exit"], 5);
    assert!(error["error"].as_str().unwrap().contains("4.04"));
    assert_eq!(owner_slot(bench, &device), EMPTY, "nothing changed");
    commission(bench, &device);
}

fn a_device_that_goes_away_is_a_failed_link(bench: &Bench) {
    let link = bench.start("flash", ID).link.clone();
    let gone = bench.commissioner(&["commission", &link]);
    let wanted: &[i32] = if bench.cable == Cable::Udp { &[4] } else { &[3, 4] };
    assert!(wanted.contains(&gone.exit), "{}: {}", gone.exit, gone.stderr);
}

fn garbage_on_the_link_disturbs_nobody(bench: &Bench) {
    let device = bench.start("flash", ID);
    let noise = noise(3000);
    match device.link.strip_prefix("serial:") {
        Some(port) => {
            // Noise, a frame that never ends well, and a frame with a wrong checksum.
            std::fs::write(port, [&noise[..], b"\xc0\xa9\x40\x01\xdb", b"\xc0\xc0\xa9\x40\x01\x00\x00\xc0"].concat())
                .unwrap();
        }
        None => {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = device.link.strip_prefix("udp:").unwrap();
            for datagram in noise.chunks(97).chain([&noise[..1400], b"", b"\x40", b"\x4f\x01\x00\x00"]) {
                socket.send_to(datagram, to).unwrap();
            }
        }
    }
    commission(bench, &device);
}

fn a_report_line_is_only_a_report(bench: &Bench) {
    let device = bench.start("flash", ID);
    let log = format!("boot\n0.001 INFO {}\ncommissioning-report:AAAA\nend\n", device.report());
    let collected = bench.commissioner_fed("state", &["collect", "-"], log.as_bytes());
    assert!(collected.stderr.contains("report"), "the cut line is spoken of: {}", collected.stderr);
    let records = bench.records();
    assert_eq!((&records[0]["status"], &records[0]["provenance"]), (&"pending".into(), &"reported".into()));
    let record = commission(bench, &device);
    assert_eq!((&record["status"], &record["provenance"]), (&"active".into(), &"proved".into()));
    assert_eq!(bench.statuses(), ["active"]);
}

fn several_devices_are_commissioned_side_by_side(bench: &Bench) {
    let id = |number: u8| format!("urn:dev:ops:32473-sf2-{number:016x}");
    let ids = [id(1), id(2), id(3)];
    let devices = ids.map(|id| bench.start(id.rsplit(':').next().unwrap(), &id));
    let links: Vec<_> = devices.iter().map(|device| device.link.as_str()).collect();
    bench.commissioner(&[&["commission"], &links[..]].concat()).succeeded();
    assert_eq!(bench.statuses(), ["active"; 3]);

    // One that does not answer does not stop the others.
    let lost = bench.start("lost", &id(4)).link.clone();
    let fresh = bench.start("fresh", &id(5));
    let partly = bench.commissioner(&["commission", &lost, &fresh.link]);
    assert_ne!(partly.exit, 0);
    partly.saying(&lost);
    assert_eq!(bench.statuses(), ["active"; 4]);
}

fn a_watch_takes_each_device_that_comes_along(bench: &Bench) {
    let device = bench.start("flash", ID);
    let mut watch = bench.watch(&["commission", "--watch", &device.link, "--json"]);
    watch.expect_line("\"status\":\"active\"");
    // It goes on until it is told to stop.
    assert_eq!(watch.interrupt(), Some(0));
    assert_eq!(bench.statuses(), ["active"]);
}

/// The SlotView of an empty slot, hex.
const EMPTY: &str = "a10000";

/// What the device tells about its owner slot, hex.
fn owner_slot(bench: &Bench, device: &Device) -> String {
    let answer = bench.commissioner(&["get", "/comm/owner", &device.link, "--json"]).succeeded().json();
    answer.last().expect("an answer")["payload_hex"].as_str().expect("hex").to_owned()
}
