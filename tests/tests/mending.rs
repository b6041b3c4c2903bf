//! A revocation is meant, and can be mended: with real devices.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Command, Stdio},
};

use end_to_end::{Bench, Cable, Device, Finished, cases, program};
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use serde_json::Value;

const ID: &str = "urn:dev:ops:32473-lamp-0024be";
const OTHER: &str = "urn:dev:ops:32473-button-77";

cases! { [pty Pty, udp Udp] [
    a_revoked_device_makes_a_new_key_that_counts_by_the_users_word,
    a_revoked_device_is_given_up_and_taken_back,
    a_key_that_a_mended_device_made_is_mended_like_the_one_before,
] }

fn commission(bench: &Bench, device: &Device, options: &[&str]) -> Finished {
    bench.commissioner(&[&["commission", &device.link], options].concat())
}

fn a_revoked_device_makes_a_new_key_that_counts_by_the_users_word(bench: &Bench) {
    let device = bench.start("flash", ID);
    commission(bench, &device, &[]).succeeded();
    bench.commissioner(&["revoke", ID]).succeeded();
    let refused = commission(bench, &device, &[]).ended_with(6).saying("`commissioner rekey`");
    assert!(refused.stderr.contains("still yours"), "{}", refused.stderr);
    // For these two alone.
    for other in [&["get", "/comm/owner"][..], &["identify"], &["distribute"]] {
        bench.commissioner(&[other, &[&device.link]].concat()).ended_with(6).saying("revoked");
    }
    let made = bench.commissioner(&["rekey", &device.link]).succeeded();
    assert!(made.stdout.contains("pending") && made.stdout.contains("--accept-new-key"), "{}", made.stdout);
    assert_eq!(bench.statuses(), ["revoked", "pending"]);
    commission(bench, &device, &[]).ended_with(6).saying("--accept-new-key");
    assert_eq!(bench.statuses(), ["revoked", "pending"]);
    commission(bench, &device, &["--accept-new-key"]).succeeded();
    let records = bench.records();
    assert_eq!(bench.statuses(), ["revoked", "active"]);
    assert_eq!(records[1]["certificates"][0]["status"], "installed");
    let list = bench.commissioner(&["distribute", &device.link, "--json"]).succeeded().json();
    assert_eq!(list.last().expect("a list")["keys"], 1);
    bench.commissioner(&["audit", "--verify"]).succeeded();
}

fn a_revoked_device_is_given_up_and_taken_back(bench: &Bench) {
    let device = bench.start("flash", ID);
    commission(bench, &device, &[]).succeeded();
    bench.commissioner(&["revoke", ID]).succeeded();
    bench.commissioner(&["reset", &device.link]).succeeded();
    assert_eq!(bench.statuses(), ["revoked"], "a reset does not un-revoke");
    let refused = commission(bench, &device, &[]).ended_with(6).saying("you gave it up by a reset at 20");
    assert!(refused.stderr.contains("Nobody owns it now"), "{}", refused.stderr);
    bench.commissioner(&["rekey", &device.link]).succeeded();
    assert_eq!(bench.statuses(), ["revoked", "pending"]);
    commission(bench, &device, &["--accept-new-key"]).succeeded();
    assert_eq!(bench.statuses(), ["revoked", "active"]);
}

/// However often it was revoked, and whether its newest key is revoked or only waits: its owner slot is ours.
fn a_key_that_a_mended_device_made_is_mended_like_the_one_before(bench: &Bench) {
    let device = bench.start("flash", ID);
    commission(bench, &device, &[]).succeeded();
    bench.commissioner(&["revoke", ID]).succeeded();
    for statuses in [&["revoked", "pending"][..], &["revoked", "pending", "pending"]] {
        bench.commissioner(&["rekey", &device.link]).succeeded();
        assert_eq!(bench.statuses(), statuses, "and no word was given");
    }
    bench.commissioner(&["revoke", ID]).succeeded();
    commission(bench, &device, &[]).ended_with(6).saying("`commissioner rekey`");
    bench.commissioner(&["rekey", &device.link]).succeeded();
    assert_eq!(bench.statuses(), ["revoked", "revoked", "revoked", "pending"]);

    // Given up or not, a key that nobody accepted does not count.
    bench.commissioner(&["reset", &device.link]).succeeded();
    assert_eq!(bench.statuses().last().expect("a key"), "pending");
    commission(bench, &device, &[]).ended_with(6).saying("--accept-new-key");
    bench.commissioner(&["revoke", ID]).succeeded();
    bench.commissioner(&["rekey", &device.link]).succeeded();
    commission(bench, &device, &[]).ended_with(6).saying("--accept-new-key");
    commission(bench, &device, &["--accept-new-key"]).succeeded();
    assert_eq!(bench.statuses().last().expect("a key"), "active");
    bench.commissioner(&["audit", "--verify"]).succeeded();
}

/// A key change that nobody accepted: whoever claims the ID can make one, so it is not visited as ours.
#[test]
fn a_key_that_merely_shows_up_is_not_mended() {
    let bench = Bench::initialised(Cable::Udp);
    let device = bench.start("flash", ID);
    commission(&bench, &device, &[]).succeeded();
    let other = bench.start("other", ID);
    for statuses in [["active", "pending"], ["revoked", "pending"], ["revoked", "revoked"]] {
        commission(&bench, &other, &[]).ended_with(6);
        assert_eq!(bench.statuses(), statuses);
        for command in ["rekey", "reset"] {
            let refused = bench.commissioner(&[command, &other.link]).ended_with(6);
            assert!(!refused.stderr.contains("presenting"), "{}", refused.stderr);
        }
        bench.commissioner(&["revoke", ID]).succeeded();
    }
    assert_eq!(bench.statuses(), ["revoked", "revoked"]);
    bench.commissioner_of("theirs", &["init"]).succeeded();
    bench.commissioner_of("theirs", &["commission", &other.link]).succeeded();
}

/// What never was owned is not given up, whatever the registry thinks of its key.
#[test]
fn what_nobody_owns_is_not_given_up() {
    let bench = Bench::initialised(Cable::Udp);
    let reported = bench.start("reported", ID);
    bench.commissioner(&["run", "--", "echo", reported.report()]).succeeded();
    let refusing = bench.start_with("refusing", OTHER, &["--claim-policy", "voucher"]);
    commission(&bench, &refusing, &["--trusted"]).ended_with(5);
    let before = bench.statuses();
    for (id, link) in [(ID, &reported.link), (OTHER, &refusing.link)] {
        for options in [&[][..], &["--present"]] {
            let reset = bench.commissioner(&[&["reset", link], options].concat()).succeeded();
            assert_eq!(reset.stdout.trim(), format!("nobody owns {id}; nothing was changed"));
            let steps = bench.commissioner(&[&["reset", link, "--json"], options].concat()).succeeded().json();
            assert!(steps.iter().any(|line| line["step"] == "already-done"), "{steps:?}");
        }
        let history = bench.commissioner(&["show", id, "--json"]).succeeded().json();
        assert!(!history.iter().any(|line| line["event"] == "released"), "{history:?}");
    }
    assert_eq!(bench.statuses(), before);
    // What was ours is given up once.
    commission(&bench, &reported, &[]).succeeded();
    let reset = bench.commissioner(&["reset", &reported.link]).succeeded();
    assert_eq!(reset.stdout.trim(), format!("{ID} has no owner any more"));
}

/// What was handed on says so, whether its key was revoked since or not; and comes back like any other.
#[test]
fn a_device_that_was_handed_on_comes_back() {
    let bench = Bench::initialised(Cable::Udp);
    let device = bench.start("flash", ID);
    commission(&bench, &device, &[]).succeeded();
    bench.commissioner_of("next", &["init"]).succeeded();
    let next = bench.commissioner_of("next", &["issuer", "show", "--json"]).succeeded().json().remove(0);
    let file = bench.path("voucher.cwt").display().to_string();
    bench.commissioner(&["transfer", ID, "--to", next["key"].as_str().expect("a key"), "--output", &file]).succeeded();
    bench.commissioner_of("next", &["commission", &device.link, "--voucher", &file]).succeeded();

    commission(&bench, &device, &[]).ended_with(5).saying("you made a voucher that hands it on, at 20");
    bench.commissioner(&["revoke", ID]).succeeded();
    commission(&bench, &device, &[]).ended_with(6).saying("you made a voucher that hands it on, at 20");
    // It is not ours, and knows that.
    for command in ["rekey", "reset"] {
        bench.commissioner(&[command, &device.link]).ended_with(5).saying("you made a voucher that hands it on");
    }
    assert_eq!(bench.statuses(), ["revoked"]);

    bench.commissioner_of("next", &["reset", &device.link]).succeeded();
    commission(&bench, &device, &[]).ended_with(6).saying("Nobody owns it now");
    bench.commissioner(&["rekey", &device.link]).succeeded();
    commission(&bench, &device, &["--accept-new-key"]).succeeded();
    assert_eq!(bench.statuses(), ["revoked", "active"]);
}

/// Somebody's board that was only ever seen, and that is not to be believed: it is not claimed by way of a new key.
#[test]
fn what_never_was_ours_is_not_taken_back() {
    let bench = Bench::initialised(Cable::Udp);
    let device = bench.start("flash", ID);
    bench.commissioner_fed("state", &["collect"], device.report().as_bytes()).succeeded();
    bench.commissioner(&["revoke", ID]).succeeded();
    commission(&bench, &device, &[]).ended_with(6).saying("never was one of your devices");
    for command in ["rekey", "reset"] {
        bench.commissioner(&[command, &device.link]).ended_with(6).saying("never was one of your devices");
    }
    assert_eq!(bench.statuses(), ["revoked"]);
    bench.commissioner_of("theirs", &["init"]).succeeded();
    bench.commissioner_of("theirs", &["commission", &device.link]).succeeded();
}

/// Boards with one "unique" number, at one port, one after the other.
#[test]
fn a_second_board_of_one_id_is_spoken_of() {
    let bench = Bench::initialised(Cable::Pty);
    let first = bench.start("first", ID);
    let alone = commission(&bench, &first, &["--trusted"]).succeeded();
    assert!(!alone.stderr.contains("two boards"), "{}", alone.stderr);
    let again = commission(&bench, &first, &["--trusted"]).succeeded();
    assert!(!again.stderr.contains("two boards"), "{}", again.stderr);
    drop(first);
    let second = bench.start("second", ID);
    let spoken = commission(&bench, &second, &["--trusted"]).succeeded().saying("two boards have one ID");
    assert!(spoken.stderr.lines().last().expect("a line").contains("two boards"), "{}", spoken.stderr);
    drop(second);
    let third = bench.start("third", ID);
    let spoken = commission(&bench, &third, &["--trusted", "--json"]).succeeded().json();
    assert!(spoken.iter().any(|line| line["step"] == "other-key" && line["device"] == ID), "{spoken:?}");
    drop(third);
    // The same where the log alone tells.
    let fourth = bench.start("fourth", ID);
    bench.commissioner(&["run", "--", "echo", fourth.report()]).succeeded().saying("two boards have one ID");
}

/// The exit code, and what was said, of a command at a terminal at which somebody answers.
fn at_terminal(bench: &Bench, args: &[&str], answer: &str) -> (i32, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal");
    let name = ptsname(&master, Vec::new()).expect("a name");
    let terminal = || Stdio::from(open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("a terminal"));
    let mut command = Command::new(program("commissioner"));
    command.arg("--state-dir").arg(bench.path("state")).args(args);
    command.stdin(terminal()).stdout(terminal()).stderr(terminal());
    let mut process = command.spawn().expect("the commissioner starts");
    // Its ends of the terminal are closed with it.
    drop(command);
    let (mut master, mut said, mut asked) = (File::from(master), Vec::new(), false);
    let mut buffer = [0; 1024];
    while let Ok(len @ 1..) = master.read(&mut buffer) {
        said.extend_from_slice(&buffer[..len]);
        if !asked && said.windows(5).any(|words| words == b"[y/N]") {
            asked = true;
            master.write_all(answer.as_bytes()).expect("the terminal takes it");
        }
    }
    let exit = process.wait().expect("it ends").code().expect("no signal");
    (exit, String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn at_a_terminal_it_is_asked_whether_a_revocation_is_meant() {
    let bench = Bench::initialised(Cable::Udp);
    let device = bench.start("flash", ID);
    commission(&bench, &device, &[]).succeeded();
    bench.commissioner(&["nickname", ID, "kitchen"]).succeeded();
    let key = bench.records()[0]["thumbprint"].as_str().expect("a key").to_owned();
    for no in ["\n", "n\n", "yess\n", "\u{4}"] {
        let (exit, said) = at_terminal(&bench, &["revoke", ID], no);
        assert_eq!(exit, 2, "{said}");
        for named in [ID, "kitchen", &key[..12], "last seen 20", "nothing was changed"] {
            assert!(said.contains(named), "{named}: {said}");
        }
    }
    assert_eq!(bench.statuses(), ["active"]);
    // Too short is too short, for whomever.
    assert_eq!(at_terminal(&bench, &["revoke", "be"], "y\n").0, 3);
    let (exit, said) = at_terminal(&bench, &["revoke", "24be"], "y\n");
    assert_eq!(exit, 0, "{said}");
    assert_eq!(bench.statuses(), ["revoked"]);
    // There is nothing to ask any more.
    let (exit, said) = at_terminal(&bench, &["revoke", ID], "");
    assert!(exit == 0 && !said.contains("[y/N]"), "{said}");
}

#[test]
fn where_nobody_can_be_asked_the_whole_name_is_demanded() {
    let bench = Bench::initialised(Cable::Udp);
    let mut devices = Vec::new();
    for (flash, id) in [("lamp", ID), ("button", OTHER)] {
        let device = bench.start(flash, id);
        commission(&bench, &device, &[]).succeeded();
        devices.push(device);
    }
    bench.commissioner(&["distribute", &devices[0].link, &devices[1].link]).succeeded();
    let thumbprint = |id: &str| {
        let records: Vec<Value> = bench.records();
        let record = records.iter().find(|record| record["device"] == id).expect("it is known");
        record["thumbprint"].as_str().expect("a key").to_owned()
    };
    let (lamp, button) = (thumbprint(ID), thumbprint(OTHER));
    for part in ["24be", "lamp-0024be", "urn:dev:ops:32473-lamp-0024b", &lamp[..12], &lamp[..63], "urn:dev", "be", "a"]
    {
        let refused = bench.commissioner(&["revoke", part, "--json"]).ended_with(3);
        let error = refused.json().pop().expect("an error");
        if part != "a" && part != "be" {
            assert!(error["candidates"].to_string().contains(ID), "{part}: {error}");
        }
    }
    assert_eq!(bench.statuses(), ["active", "active"]);
    let revoked = bench.commissioner(&["revoke", &lamp]).succeeded();
    assert!(revoked.stderr.contains("1 device holds a list of before"), "{}", revoked.stderr);
    // Said again until it is mended; scripts are told always.
    let holders = |args: &[&str]| {
        let lines = bench.commissioner(&[&["revoke", "--json"], args].concat()).succeeded().json();
        lines.iter().find(|line| line["step"] == "older-lists").expect("it is told")["devices"].clone()
    };
    assert_eq!(holders(&[lamp.as_str()]), 1);
    bench.commissioner(&["distribute", &devices[1].link]).succeeded();
    assert_eq!(holders(&[lamp.as_str()]), 0);
    // A word given beforehand. Nobody is left who could believe it.
    assert_eq!(holders(&[&button[..8], "--yes"]), 0);
    assert_eq!(bench.statuses(), ["revoked", "revoked"]);
}

/// From then on the nickname alone names neither of the two.
#[test]
fn whoever_commissions_a_device_is_told_of_a_nickname_that_is_a_part_of_its_id() {
    let bench = Bench::initialised(Cable::Udp);
    let lamp = bench.start("lamp", ID);
    commission(&bench, &lamp, &[]).succeeded();
    bench.commissioner(&["nickname", ID, "Button"]).succeeded();
    let button = bench.start("button", OTHER);
    let told = commission(&bench, &button, &[]).succeeded();
    let words = format!("the nickname Button of {ID} is a part of this ID, too");
    assert_eq!(told.stderr.matches(&words).count(), 1, "{}", told.stderr);
    bench.commissioner(&["show", "Button"]).ended_with(3).saying("may be one of 2");
    // Once is enough, and one's own nickname is in nobody's way.
    for device in [&lamp, &button] {
        let again = commission(&bench, device, &[]).succeeded();
        assert!(!again.stderr.contains("nickname"), "{}", again.stderr);
    }
    bench
        .commissioner(&["commission", &bench.start("new", "urn:dev:ops:32473-button-78").link, "--json"])
        .succeeded()
        .json()
        .iter()
        .find(|line| line["step"] == "nickname-ambiguous" && line["nickname"] == "Button" && line["device"] == ID)
        .expect("scripts are told");
}

/// Whoever names a key that was replaced does not mean the one that took its place.
#[test]
fn a_key_that_is_named_is_the_one_that_is_revoked() {
    let bench = Bench::initialised(Cable::Udp);
    let device = bench.start("flash", ID);
    commission(&bench, &device, &[]).succeeded();
    let old = bench.records()[0]["thumbprint"].as_str().expect("a key").to_owned();
    bench.commissioner(&["rekey", &device.link]).succeeded();
    assert_eq!(bench.statuses(), ["revoked", "active"]);
    for options in [&[][..], &["--yes"]] {
        let refused = bench.commissioner(&[&["revoke", &old], options].concat()).ended_with(6);
        assert!(refused.stderr.contains("not the one that counts"), "{}", refused.stderr);
    }
    assert_eq!(bench.statuses(), ["revoked", "active"]);
    bench.commissioner(&["revoke", "--yes", "lamp-0024be"]).succeeded();
    assert_eq!(bench.statuses(), ["revoked", "revoked"]);
}
