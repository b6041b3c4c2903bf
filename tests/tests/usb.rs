//! A device at a real USB host: Linux's own, with its drivers of serial ports and of networks, in a guest without any
//! hardware (`tests/usb`).
//!
//! On the host there is one test. It boots the guest, which runs all the others of this file there, one after the other:
//! on the host they are ignored, for they need to be root, and a kernel of their own.

#[path = "usb/datagrams.rs"]
mod datagrams;
#[path = "usb/desktop.rs"]
mod desktop;
#[path = "usb/echo.rs"]
mod echo;
#[path = "usb/plug.rs"]
mod plug;

use std::{os::unix::fs::MetadataExt, path::Path, process::Command};

use end_to_end::{Bench, Cable, Running, program};
use plug::{Plugged, Speed, Udev, noise, poll};
use serde_json::Value;

const ID: &str = "urn:dev:ops:32473-sim-0024be";

/// It takes some four minutes, on two cores that have nothing else to do.
const GUEST_SECONDS: &str = "900";

/// The cases for a guest whose kernel was told to do without IPv6, by their name.
const WITHOUT_IPV6: &str = "a_host_without_ipv6";

#[test]
fn all_cases_in_a_linux_guest() {
    in_a_guest("", &["--skip", WITHOUT_IPV6]);
}

#[test]
fn all_cases_in_a_linux_guest_without_ipv6() {
    in_a_guest("ipv6.disable=1", &[WITHOUT_IPV6]);
}

/// Runs cases of this file in a guest whose kernel has these parameters.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a skipped test is spoken of; what the guest says is the evidence"
)]
fn in_a_guest(kernel: &str, which: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("usb");
    if !folder.join("../../target/usb-guest/made-of").exists() {
        eprintln!("left out: tests/usb/prepare.sh tells what the Linux guest needs");
        return;
    }
    let cases = std::env::current_exe().expect("a test has a path");
    let mut guest = Command::new(folder.join("run.sh"));
    let guest = guest
        .arg(cases)
        .args(["--ignored", "--test-threads=1", "--color=never"])
        .args(which)
        .env("USB_GUEST_KERNEL", kernel)
        .env("USB_GUEST_SECONDS", GUEST_SECONDS);
    let said = guest.output().expect("the guest starts");
    let (said, complaint) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    println!("{said}\n{complaint}");
    let result = said.lines().find_map(|line| line.strip_prefix("test result: ok. "));
    let passed =
        result.and_then(|result| result.split_once(" passed; 0 failed")).and_then(|(count, _)| count.parse().ok());
    assert!(passed.is_some_and(|passed: u32| passed > 0), "not all cases passed");
}

/// In the guest: a host with a cable, and a commissioner that was told to begin.
fn bench() -> Bench {
    Bench::initialised(Cable::Pty)
}

fn only(bench: &Bench, args: &[&str]) -> Value {
    let mut objects = bench.commissioner(args).succeeded().json();
    // The steps on the way are objects, too.
    objects.retain(|object| object.get("step").is_none());
    assert_eq!(objects.len(), 1, "{objects:?}");
    objects.remove(0)
}

#[test]
#[ignore = "runs in the guest"]
fn linux_finds_a_serial_port_and_a_network() {
    for speed in [Speed::Full, Speed::High] {
        let bench = bench();
        let device = Plugged::start(&bench, ID, speed);
        let usb = device.sysfs();
        let attribute = |name: &str| std::fs::read_to_string(usb.join(name)).expect(name).trim().to_owned();
        assert_eq!(attribute("speed"), speed.megabits());
        assert_eq!(attribute("bDeviceClass"), "ef");
        assert_eq!((attribute("bDeviceSubClass"), attribute("bDeviceProtocol")), ("02".to_owned(), "01".to_owned()));
        assert!(ID.contains(&attribute("serial")) || attribute("serial").contains("0024be"), "{}", attribute("serial"));

        let listing = Command::new("lsusb").args(["-v", "-d", &device.usb_id()]).output().expect("lsusb runs");
        let (said, complaint) = (String::from_utf8_lossy(&listing.stdout), String::from_utf8_lossy(&listing.stderr));
        assert!(listing.status.success() && complaint.is_empty(), "{complaint}");
        assert_eq!(said.matches("Interface Association:").count(), 2, "{said}");
        for wanted in ["CDC ACM:", "CDC Ethernet:", "CDC NCM:", "CDC Union:", "iSerial", "iMacAddress"] {
            assert!(said.to_lowercase().contains(&wanted.to_lowercase()), "{wanted} is missing: {said}");
        }
        for complaint in ["error", "warning", "unrecognized", "(bad", "junk", "invalid", "???"] {
            assert!(!said.to_lowercase().contains(complaint), "{complaint}: {said}");
        }
        let address = device.host_address();
        let again = Plugged::restart(device, &bench);
        assert_eq!(again.host_address(), address, "the host's end has its address from the device");
    }
}

#[test]
#[ignore = "runs in the guest"]
fn both_ways_are_found_without_being_told_where() {
    let bench = bench();
    let device = Plugged::start_unready(&bench, ID, Speed::Full);
    let found = only(&bench, &["discover", "--json"]);
    assert_eq!(found["device"], ID);
    let links: Vec<_> = found["links"].as_array().expect("links").iter().filter_map(Value::as_str).collect();
    assert_eq!(links, [device.udp_link(), device.acm_link()], "UDP first");
    let said = bench.commissioner(&["discover"]).succeeded().stdout;
    assert_eq!(said.matches(ID).count(), 1, "{said}");
}

#[test]
#[ignore = "runs in the guest"]
fn a_device_is_commissioned_with_nothing_but_a_cable() {
    for speed in [Speed::Full, Speed::High] {
        let bench = bench();
        let _device = Plugged::start(&bench, ID, speed);
        bench.commissioner(&["commission"]).succeeded().saying("udp:fe80::");
        assert_eq!(bench.statuses(), ["active"]);
        bench.commissioner(&["get", "/comm/owner"]).succeeded();
        bench.commissioner(&["identify", ID]).succeeded();
    }
}

#[test]
#[ignore = "runs in the guest"]
fn everything_works_over_the_serial_port_alone_and_over_the_network_alone() {
    for speed in [Speed::Full, Speed::High] {
        for over in [Plugged::acm_link, Plugged::udp_link] {
            let bench = bench();
            let device = Plugged::start(&bench, ID, speed);
            let link = over(&device);
            bench.commissioner(&["commission", &link]).succeeded();
            bench.commissioner(&["get", "/comm/owner", &link]).succeeded();
            bench.commissioner(&["rekey", &link]).succeeded();
            bench.commissioner(&["commission", &link]).succeeded();
            assert_eq!(bench.statuses(), ["revoked", "active"]);
            bench.commissioner(&["reset", &link]).succeeded();
        }
    }
}

#[test]
#[ignore = "runs in the guest"]
fn both_ways_at_once() {
    let bench = bench();
    let device = Plugged::start(&bench, ID, Speed::Full);
    let (udp, acm) = (device.udp_link(), device.acm_link());
    bench.commissioner(&["commission", &acm]).succeeded();
    // The device has two handshakes under way at a time.
    std::thread::scope(|scope| {
        for link in [&udp, &acm] {
            scope.spawn(|| {
                for _ in 0..3 {
                    bench.commissioner(&["get", "/comm/owner", link]).succeeded();
                }
            });
        }
    });
}

#[test]
#[ignore = "runs in the guest"]
fn a_device_that_restarts_is_the_same_at_the_same_address() {
    let bench = bench();
    let device = Plugged::start(&bench, ID, Speed::Full);
    bench.commissioner(&["commission"]).succeeded();
    let link = device.udp_link();
    let device = Plugged::restart(device, &bench);
    assert_eq!(device.udp_link(), link);
    bench.commissioner(&["get", "/comm/owner", &link]).succeeded();
    bench.commissioner(&["get", "/comm/owner", &device.acm_link()]).succeeded();
    let again = bench.commissioner(&["commission"]).succeeded().stdout;
    assert!(again.contains("already"), "{again}");
}

/// With the rule that is shipped, nothing is to be done on a host, and its user needs no rights.
#[test]
#[ignore = "runs in the guest"]
fn the_udev_rule_makes_it_ready() {
    let bench = bench();
    let udev = Udev::start();
    let device = Plugged::start_with_udev(&bench, ID, &udev);
    let says = |node: &Path, property: &str| {
        poll(property, || udev.properties(node).lines().any(|line| line == property).then_some(()));
    };
    says(&device.sysfs().canonicalize().expect("it is there"), "ID_MM_DEVICE_IGNORE=1");
    says(&Path::new("/sys/class/net").join(device.interface()), "NM_UNMANAGED=1");
    let port = device.acm_link().replace("serial:/dev/", "");
    let tags = udev.properties(&Path::new("/sys/class/tty").join(&port));
    assert!(tags.lines().any(|line| line.starts_with("TAGS=") && line.contains(":uaccess:")), "{tags}");
    let node = std::fs::metadata(Path::new("/dev").join(port)).expect("a device node");
    let groups = std::fs::read_to_string("/etc/group").expect("groups");
    let dialout = groups.lines().find_map(|line| line.strip_prefix("dialout:x:")?.split(':').next());
    assert_eq!((node.mode() & 0o777, dialout), (0o660, Some(&*node.gid().to_string())));
    bench.commissioner(&["commission"]).succeeded().saying("udp:fe80::");
}

/// The cable is pulled between the certificate's signature and its way to the device, and just before it goes.
#[test]
#[ignore = "runs in the guest"]
#[cfg(debug_assertions)]
fn a_cable_that_is_pulled_in_the_middle() {
    for point in ["signed:1", "before-request:1"] {
        for over in [Plugged::acm_link, Plugged::udp_link] {
            let bench = bench();
            let mut device = Plugged::serve(&bench, ID, Speed::Full);
            let link = over(&device);
            let commission = pausing(&bench, &["commission", &link], point);
            device.unplug();
            commission.go_on();
            let (code, said) = commission.finish();
            assert_eq!(code, Some(4), "{said:?}");
            assert!(said.iter().any(|line| line.contains("went away")), "{said:?}");
            device.plug_in();
            assert_eq!(over(&device), link);
            bench.commissioner(&["commission", &link]).succeeded();
            assert_eq!(bench.statuses(), ["active"]);
            assert_eq!(bench.records()[0]["certificates"].as_array().map(Vec::len), Some(1));
        }
    }
}

/// Starts a command that stands still at a point.
#[cfg(debug_assertions)]
fn pausing(bench: &Bench, args: &[&str], point: &str) -> Running {
    let mut command = Command::new(program("commissioner"));
    command.arg("--state-dir").arg(bench.path("state")).args(args);
    let command = Running::start(command.env("COMMISSIONER_STOP_AT", format!("{point}:pause")));
    poll("the commissioner pauses", || command.is_stopped().then_some(()));
    command
}

/// The network goes away in the middle, and the serial port takes over, with the certificate that was begun.
#[test]
#[ignore = "runs in the guest"]
#[cfg(debug_assertions)]
fn the_serial_port_takes_over_in_the_middle() {
    let bench = bench();
    let device = Plugged::start(&bench, ID, Speed::Full);
    let commission = pausing(&bench, &["commission"], "before-request:1");
    device.network("down");
    commission.go_on();
    let (code, said) = commission.finish();
    assert_eq!(code, Some(0), "{said:?}");
    let takes_over = format!("going on over {}", device.acm_link());
    assert!(said.iter().any(|line| line.contains(&takes_over)), "{said:?}");
    assert_eq!(bench.statuses(), ["active"]);
    assert_eq!(bench.records()[0]["certificates"].as_array().map(Vec::len), Some(1));
}

#[test]
#[ignore = "runs in the guest"]
fn the_serial_port_is_enough_where_the_network_is_down() {
    let bench = bench();
    let device = Plugged::start(&bench, ID, Speed::Full);
    device.network("down");
    bench.commissioner(&["commission"]).succeeded().saying(&device.acm_link());
    let said = bench.commissioner(&["discover"]).succeeded();
    assert!([said.stdout, said.stderr].concat().contains("ip link set"), "how to mend that is said");
}

/// What else is on a network: nothing of it changes the device, or silences it.
#[test]
#[ignore = "runs in the guest"]
fn other_traffic_on_the_link() {
    let bench = bench();
    let device = Plugged::start(&bench, ID, Speed::Full);
    let link = device.udp_link();
    noise(device.interface());
    bench.commissioner(&["commission", &link]).succeeded();
    bench.commissioner(&["get", "/comm/owner", &device.acm_link()]).succeeded();
    noise(device.interface());
    bench.commissioner(&["get", "/comm/owner", &link]).succeeded();
}
