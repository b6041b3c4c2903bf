//! `device-sim` and `device-emulator` as their users start them.

use std::process::{Command, Output};

use end_to_end::{Bench, CORTEX_M3, Cable, Device, firmware, program};

fn device_sim(args: &[&str]) -> Output {
    Command::new(program("device-sim")).args(args).output().expect("device-sim runs")
}

#[test]
fn what_cannot_be_simulated_is_said_plainly() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let (file, short) = (scratch.path().join("file"), scratch.path().join("short"));
    std::fs::write(&file, "something of the user's").expect("writable");
    std::fs::write(&short, [0xff; 100]).expect("writable");
    let (file, short) = (file.to_str().expect("UTF-8"), short.to_str().expect("UTF-8"));
    let port = scratch.path().join("port");
    let port = port.to_str().expect("UTF-8");
    for (args, exit, says) in [
        (&[][..], 2, "nothing to serve"),
        (&["--udp", "0.0.0.0:0"], 1, "loopback and link-local"),
        (&["--udp", "127.0.0.1:0", "--id", "urn:uuid:1"], 1, "not a device ID"),
        (&["--udp", "127.0.0.1:0", "--id", "urn:dev:ops:32473-0123456789-0123456789-0123456789"], 1, "not a device ID"),
        (&["--udp", "127.0.0.1:0", "--flash", short], 1, "a flash image has"),
        (&["--pty", file], 1, "pty"),
        (&["--pty", port, "--flash", "/no/such/folder/flash"], 1, "flash image"),
    ] {
        let output = device_sim(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
    assert_eq!(std::fs::read_to_string(file).expect("still there"), "something of the user's");
}

#[test]
fn what_cannot_be_emulated_is_said_plainly() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = |name: &str| scratch.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(path("text"), "not an ELF file").expect("writable");
    let elf = firmware("emcraft-sf2", CORTEX_M3).to_str().expect("UTF-8").to_owned();
    for (args, exit, says) in [
        (vec![elf.clone()], 2, "--pty"),
        (vec!["--pty".into(), path("port"), "--uid".into(), "12".into(), elf.clone()], 2, "--uid"),
        (vec!["--pty".into(), path("port"), path("nothing")], 1, "make firmware"),
        (vec!["--pty".into(), path("port"), path("text")], 1, "is no firmware"),
        (vec!["--pty".into(), path("port"), "--flash".into(), path("text"), elf.clone()], 1, "the board's memory has"),
        (
            ["--pty", &path("port"), "--board", "lm3s6965evb", "--flash", &path("flash"), &elf]
                .map(str::to_owned)
                .into(),
            1,
            "no flash that can be kept",
        ),
        (vec!["--pty".into(), path("port"), "--cut".into(), "1".into(), elf.clone()], 1, "for an ATmega"),
    ] {
        let output = Command::new(program("device-emulator")).args(&args).output().expect("device-emulator runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
    assert_eq!(std::fs::read_to_string(path("text")).expect("still there"), "not an ELF file");
}

#[test]
fn several_devices_in_one_process_are_several_devices() {
    let bench = Bench::initialised(Cable::Pty);
    let port = |number: &str| bench.path(&format!("port-{number}")).to_str().expect("UTF-8").to_owned();
    let mut command = Command::new(program("device-sim"));
    command.args(["--count", "3", "--pty", &port("{}"), "--id", "urn:dev:ops:32473-fleet-{}"]);
    let mut fleet = Device::start(&mut command);
    fleet.expect_line("fleet-2");
    let links: Vec<_> = ["0", "1", "2"].iter().map(|number| format!("serial:{}", port(number))).collect();
    let links: Vec<_> = links.iter().map(String::as_str).collect();
    bench.commissioner(&[&["commission"], &links[..]].concat()).succeeded();
    let ids: Vec<_> =
        bench.records().iter().map(|record| record["device"].as_str().expect("an ID").to_owned()).collect();
    assert_eq!(ids, ["0", "1", "2"].map(|number| format!("urn:dev:ops:32473-fleet-{number}")));
}

#[test]
fn a_long_press_shows_that_somebody_is_there() {
    let bench = Bench::initialised(Cable::Udp);
    let mut command = Command::new(program("device-sim"));
    let mut device = Device::start(command.args(["--udp", "127.0.0.1:0", "--claim-policy", "presence"]));
    let refused = bench.commissioner(&["commission", &device.link]).ended_with(5);
    assert!(refused.stderr.contains("somebody has to be at the device"), "{}", refused.stderr);
    device.signal("USR2");
    device.expect_line("somebody is here");
    bench.commissioner(&["commission", &device.link]).succeeded();
}

/// A value that the owner gives is one that the application uses; a secret one is never seen again.
#[test]
fn the_owner_configures_the_product() {
    let bench = Bench::initialised(Cable::Udp);
    let mut device = bench.start("flash", "urn:dev:ops:32473-sim-1");
    let give = |path: &str, value: &[u8]| {
        std::fs::write(bench.path("value"), value).expect("a file");
        let value = bench.path("value").display().to_string();
        bench.commissioner(&["put", path, &device.link, "--file", &value, "--content-format", "42"])
    };
    bench.commissioner(&["commission", &device.link]).succeeded();
    give("/comm/slots/identify-flashes", &[3]).succeeded();
    give("/comm/slots/identify-flashes", &[99]).ended_with(5);
    give("/comm/slots/wifi-passphrase", b"a secret of the owner").succeeded();
    give("/comm/slots/sender-id", &[1; 8]).succeeded();
    let refused = give("/comm/slots/sender-id", &[2; 8]).ended_with(5);
    assert!(refused.stderr.contains("written once"), "{}", refused.stderr);
    bench.commissioner(&["get", "/comm/slots/wifi-passphrase", &device.link]).ended_with(5);
    bench.commissioner(&["identify", &device.link]).succeeded();
    device.expect_line("the LED blinks 3 times");

    let holds = || {
        let flash = std::fs::read(bench.path("flash")).expect("a flash image");
        flash.windows(21).any(|window| window == b"a secret of the owner")
    };
    assert!(holds());
    bench.commissioner(&["reset", &device.link]).succeeded();
    assert!(!holds());
}

#[test]
fn one_device_on_two_cables_is_one_device() {
    let bench = Bench::initialised(Cable::Pty);
    let port = bench.path("port");
    let mut command = Command::new(program("device-sim"));
    command.arg("--pty").arg(&port).args(["--udp", "127.0.0.1:0"]);
    let device = Device::start(&mut command);
    let serial = format!("serial:{}", port.display());
    bench.commissioner(&["commission", &serial]).succeeded();
    let again = bench.commissioner(&["commission", &device.link]).succeeded();
    assert!(again.stdout.contains("already"), "{}", again.stdout);
}
