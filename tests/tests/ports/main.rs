//! Ports that echo, go away, talk, are read by others, or reset their board.

mod bridge;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use end_to_end::{Bench, Cable, Running};

use crate::bridge::{Bridge, Line};

const ID: &str = "urn:dev:ops:32473-port-1";
const OTHER: &str = "urn:dev:ops:32473-port-2";

fn bench() -> Bench {
    Bench::initialised(Cable::Pty)
}

fn port(bench: &Bench) -> PathBuf {
    bench.path("port")
}

#[test]
fn a_line_that_echoes_carries_a_device_all_the_same() {
    let bench = bench();
    let device = bench.start("flash", ID);
    let line = Bridge::start(&port(&bench), Some(&device.link), Line { echoes: true, ..Line::default() });
    let found = bench.commissioner(&["discover", &line.link]).succeeded();
    assert!(found.stdout.contains(ID), "{}", found.stdout);
    bench.commissioner(&["commission", &line.link]).succeeded();
    assert_eq!(bench.statuses(), ["active"]);
}

#[test]
fn a_line_that_only_echoes_has_nobody_at_its_end() {
    let bench = bench();
    let line = Bridge::start(&port(&bench), None, Line { echoes: true, ..Line::default() });
    bench.commissioner(&["commission", &line.link]).ended_with(4).saying("so nobody is there");
}

#[test]
fn a_line_that_changes_bytes_is_told_from_a_device_that_does_not_answer() {
    let bench = bench();
    let device = bench.start("flash", ID);
    // A ping has no payload, and so no payload marker; whatever has one is damaged.
    let telnet = Line { becomes: Some((0xff, b"\xff\xff")), ..Line::default() };
    let line = Bridge::start(&port(&bench), Some(&device.link), telnet);
    let ended = bench.commissioner(&["commission", &line.link]).ended_with(4);
    ended.saying("a device answers, but what is said arrives damaged: byte 0xff arrives as 0xff 0xff").saying("telnet");
}

#[test]
fn a_line_that_loses_long_messages_is_told_from_a_device_that_does_not_answer() {
    let bench = bench();
    let device = bench.start("flash", ID);
    let line = Bridge::start(&port(&bench), Some(&device.link), Line { buffers: Some(96), ..Line::default() });
    let ended = bench.commissioner(&["commission", &line.link]).ended_with(4);
    ended.saying("long messages from the device do not arrive").saying("one of 128 did not");
}

#[test]
fn a_device_that_is_heard_and_does_not_hear_is_told_from_one_at_a_line_of_seven_bits() {
    let bench = bench();
    for (says, told) in [
        (
            &b"\xc0\ncommissioning-report:AAAA\xc0"[..],
            "is the wire from the adapter's TX to the device's RX connected?",
        ),
        (b"@\ncommissioning-report:AAAA@", "8 bits without parity (8N1)"),
    ] {
        let line = Bridge::start(&port(&bench), None, Line { says, ..Line::default() });
        bench.commissioner(&["commission", &line.link]).ended_with(4).saying(told);
    }
}

#[test]
fn another_program_that_has_the_port_open_is_named() {
    let bench = bench();
    let device = bench.start("flash", ID);
    let line = Bridge::start(&port(&bench), Some(&device.link), Line { is_cut: true, ..Line::default() });
    let mut reader = Command::new("sh");
    reader.args(["-c", "exec 3<\"$0\"; echo open; read line", &port(&bench).display().to_string()]);
    let mut reader = Running::start(reader.stdin(Stdio::piped()));
    reader.expect_line("open");
    let named = format!("sh (process {}) has the port open too", reader.process());
    bench.commissioner(&["commission", &line.link]).ended_with(4).saying(&named);
}

#[test]
fn what_a_port_prints_that_is_none_of_ours_is_told() {
    let bench = bench();
    let says = b"Grbl 1.1h ['$' for help]\r\n\x1b[31m[MSG:locked]\x1b[0m\r\n";
    let line = Bridge::start(&port(&bench), None, Line { says, ..Line::default() });
    let listed = bench.commissioner(&["discover", &line.link]).ended_with(3);
    assert!(listed.stdout.contains("prints \"Grbl 1.1h ['$' for help]\", \"[MSG:locked]\""), "{}", listed.stdout);
}

#[test]
fn a_port_with_two_names_is_one_port() {
    let bench = bench();
    let device = bench.start("flash", ID);
    let by_id = bench.path("by-id");
    std::os::unix::fs::symlink(device.link.strip_prefix("serial:").unwrap(), &by_id).unwrap();
    let by_id = format!("serial:{}", by_id.display());
    bench.commissioner(&["commission", &device.link, &by_id]).succeeded();
    let listed = bench.commissioner(&["discover", &device.link, &by_id, "--json"]).succeeded();
    let links: Vec<_> =
        listed.json().iter().filter(|line| line["device"] == ID).map(|line| line["links"].clone()).collect();
    assert_eq!(links, [serde_json::json!([device.link])]);
}

#[test]
fn a_watch_opens_each_port_once_until_something_else_is_plugged_in() {
    let bench = bench();
    let [first, second] = [("first", ID), ("second", OTHER)].map(|(flash, id)| bench.start(flash, id));
    let mine = Bridge::start(&port(&bench), Some(&first.link), Line { says: b"boot 1.0\r\n", ..Line::default() });
    let mute = Bridge::start(&bench.path("mute"), None, Line::default());
    let later = format!("serial:{}", bench.path("later").display());
    let mut watch = bench.watch(&["commission", "--watch", &mine.link, &mute.link, &later]);
    watch.expect_line(&format!("{later}: nothing is plugged in there"));
    watch.expect_line(&format!("{}: no answer within", mute.link));
    watch.expect_line(&format!("{ID} is one of your devices now"));
    // Each time that it is plugged in, it is visited; what is there all the time is left alone meanwhile.
    for said in ["is one of your devices now", "is one of your devices already", "is one of your devices already"] {
        let _plugged = Bridge::start(&bench.path("later"), Some(&second.link), Line::default());
        watch.expect_line(&format!("{OTHER} {said}"));
    }
    assert_eq!((mine.opened(), mute.opened()), (1, 1));
    assert_eq!(watch.interrupt(), Some(0));
}

#[test]
fn a_watch_says_why_a_device_is_not_taken() {
    let bench = bench();
    let device = bench.start("flash", ID);
    bench.commissioner(&["commission", &device.link]).succeeded();
    drop(device);
    let device = bench.start("another-flash", ID);
    let mut watch = bench.watch(&["commission", "--watch", &device.link]);
    watch.expect_line(&format!("{}: {ID} has a new key", device.link));
    watch.signal("TERM");
    assert_eq!(watch.ended(), Some(0));
}

#[test]
fn a_watch_and_a_command_at_a_mute_port_say_that_they_wait_and_a_watch_stops_at_once() {
    let bench = bench();
    let mute = Bridge::start(&port(&bench), None, Line::default());
    for signal in ["INT", "TERM"] {
        let mut watch = bench.watch(&["commission", "--watch", &mute.link]);
        watch.expect_line("looking for a device");
        watch.signal(signal);
        let (code, said) = watch.finish();
        assert_eq!((code, said), (Some(0), vec![]), "it has not waited for the end of what it was at");
    }
    let mut command = bench.watch(&["commission", &mute.link]);
    command.expect_line("looking for the device");
    let (code, said) = command.finish();
    assert_eq!(code, Some(4));
    assert!(said.last().is_some_and(|said| said.contains("no answer within")), "{said:?}");
}

/// Process number 1, a container's only one, gets no signal that it does not catch.
#[test]
fn what_goes_on_until_it_is_stopped_catches_the_signals_that_stop_it() {
    let bench = bench();
    let device = bench.start("flash", ID);
    for (args, said) in [
        (&["serve", "--listen", "127.0.0.1:0"][..], "serving"),
        (&["commission", "--watch", "serial:/dev/ttyNONE"], "waiting for devices"),
        (&["console", &device.link], "link open"),
        (&["run", "--", "sh", "-c", "echo begun; exec sleep 1000"], "begun"),
    ] {
        let mut running = bench.watch(args);
        running.expect_line(said);
        let status = fs::read_to_string(format!("/proc/{}/status", running.process())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a line");
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        for signal in [2, 15] {
            assert_ne!(caught & 1 << (signal - 1), 0, "{args:?}: signal {signal}");
        }
        running.signal("TERM");
        let code = running.ended();
        assert_eq!(code, Some(if args[0] == "run" { 143 } else { 0 }), "{args:?}");
    }
}

#[test]
fn a_board_that_is_lost_while_it_is_commissioned_is_waited_for() {
    let bench = bench();
    let device = bench.start("flash", ID);
    // It restarts a moment after it was flashed: when it was found, and answers the handshake.
    let gone = Line { ends_before: Some(4), ..Line::default() };
    let line = Bridge::start(&port(&bench), Some(&device.link), gone);
    let mut run = bench.watch(&["run", "--link", &line.link, "--", "true"]);
    run.expect_line("waiting for it to come back");
    // Its name is gone for a while, then there is nobody yet who answers by it.
    drop(line);
    let line = Bridge::start(&port(&bench), Some(&device.link), Line::default());
    run.expect_line("is one of your devices now");
    assert_eq!(run.ended(), Some(0));
    drop(line);
    assert_eq!(bench.statuses(), ["active"]);
}

#[test]
fn a_console_lets_the_port_go_while_it_waits() {
    let bench = bench();
    let line = Bridge::start(&port(&bench), None, Line { says: b"first\r\n", ..Line::default() });
    let mut console = bench.watch(&["console", "--reconnect", &line.link]);
    console.expect_line("first");
    drop(line);
    console.expect_line("waiting for it to come back");
    // While a file of the old port is open, the kernel gives the new one another name.
    let files = fs::read_dir(format!("/proc/{}/fd", console.process())).unwrap();
    let ptys = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    assert_eq!(ptys.filter(|file| file.starts_with("/dev/pts")).collect::<Vec<_>>(), Vec::<PathBuf>::new());
    let line = Bridge::start(&port(&bench), None, Line { says: b"second\r\n", ..Line::default() });
    console.expect_line("second");
    assert_eq!(console.interrupt(), Some(0));
    drop(line);
}
