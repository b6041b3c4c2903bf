//! What Linux desktops do to a device at a USB cable: firewalls, network managers, guards of USB ports, kernels that lack
//! something. Each case does what the daemon in question does to the kernel; docs/usb.md tells what the daemons themselves did.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    ID, bench, only,
    plug::{Plugged, Speed, Udev, Ways, poll},
};

/// What ufw, firewalld's zone `public` and nftables' own examples have in common: what was asked for may come in, and what
/// IPv6 needs. The last rule is there to be replaced.
const FIREWALL: &str = "
    table ip6 desktop {
        chain input {
            type filter hook input priority 0; policy drop;
            iif lo accept
            meta l4proto ipv6-icmp accept
            ANSWERS
        }
    }";

/// A firewall with such rules, as long as it lives.
struct Firewall;

impl Firewall {
    fn with(answers: &str) -> Self {
        nft(&FIREWALL.replace("ANSWERS", answers));
        Self
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        nft("delete table ip6 desktop");
    }
}

fn nft(rules: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft starts");
    nft.stdin.take().expect("it is piped").write_all(rules.as_bytes()).expect("nft reads");
    assert!(nft.wait().expect("nft ends").success(), "{rules}");
}

/// The answers to multicast belong to nothing that the firewall knows: to the address that comes from the serial number they
/// do.
#[test]
#[ignore = "runs in the guest"]
fn a_firewall_that_lets_in_answers_alone_is_passed() {
    let bench = bench();
    let device = Plugged::start(&bench, ID, Speed::Full);
    let _firewall = Firewall::with("ct state established,related accept");
    let found = only(&bench, &["discover", "--json"]);
    assert_eq!(found["links"], Value::from(vec![device.udp_link(), device.acm_link()]));
    bench.commissioner(&["commission"]).succeeded().saying("udp:fe80::");
}

#[test]
#[ignore = "runs in the guest"]
fn a_firewall_that_lets_in_nothing_is_named_and_the_serial_port_serves() {
    let bench = bench();
    let device = Plugged::start(&bench, ID, Speed::Full);
    let _firewall = Firewall::with("");
    let said = bench.commissioner(&["discover"]).succeeded().stdout;
    assert!(said.starts_with(&format!("{}\n  {ID}", device.acm_link())), "{said}");
    let silent = format!("udp:ff02::fd%{}\n  nobody answers", device.interface());
    assert!(said.contains(&silent) && said.contains("firewall") && said.contains("ufw allow"), "{said}");
    bench.commissioner(&["commission"]).succeeded();
}

/// A link that is named is one, whether its interface has a name or a number, and whoever answered from there to a multicast.
#[test]
#[ignore = "runs in the guest"]
fn a_link_that_is_named_is_listed_once() {
    let bench = bench();
    let device = Plugged::start(&bench, ID, Speed::Full);
    let index = fs::read_to_string(Path::new("/sys/class/net").join(device.interface()).join("ifindex"));
    let by_number = device.udp_link().replace(device.interface(), index.expect("a number").trim());
    for link in [device.udp_link(), by_number] {
        let found = only(&bench, &["discover", "--json", &link]);
        assert_eq!(found["links"], Value::from(vec![device.udp_link(), device.acm_link()]), "{link}");
    }
}

/// What USBGuard does: `authorized` is 0. No function is left then.
#[test]
#[ignore = "runs in the guest"]
fn a_device_that_is_not_allowed_is_told_apart_from_none() {
    let bench = bench();
    let device = Plugged::start(&bench, ID, Speed::Full);
    bench.commissioner(&["commission"]).succeeded();
    let authorized = device.sysfs().canonicalize().expect("it is there").join("authorized");
    fs::write(&authorized, "0").expect("sysfs");
    for command in [&["discover"][..], &["commission"], &["commission", "--all"], &["get", "/comm"], &["identify", ID]]
    {
        let finished = bench.commissioner(command).ended_with(3);
        let said = [finished.stdout, finished.stderr].concat();
        assert!(said.contains("plugged in, but not allowed") && said.contains("usbguard allow-device"), "{said}");
    }
    let lines = bench.commissioner(&["discover", "--json"]).ended_with(3).json();
    assert!(lines.iter().any(|line| line["usb"].is_string() && line["usb_serial"] == ID), "{lines:?}");
    fs::write(&authorized, "1").expect("sysfs");
    Ways::appear().make_ready();
    bench.commissioner(&["identify", ID]).succeeded();
}

/// A driver that is not there is one that has not bound.
#[test]
#[ignore = "runs in the guest"]
fn a_driver_that_is_missing_is_named() {
    let bench = bench();
    let device = Plugged::start(&bench, ID, Speed::Full);
    let usb = device.sysfs().canonicalize().expect("it is there");
    let unbind = |driver: &str, interface: u8| {
        let name = format!("{}:1.{interface}", usb.file_name().expect("a name").to_string_lossy());
        fs::write(PathBuf::from("/sys/bus/usb/drivers").join(driver).join("unbind"), name).expect("sysfs");
    };
    unbind("cdc_ncm", 2);
    let said = bench.commissioner(&["discover"]).succeeded().stdout;
    assert!(said.contains(ID) && said.contains("its network has no driver: `sudo modprobe cdc_ncm`"), "{said}");
    unbind("cdc_acm", 0);
    let finished = bench.commissioner(&["discover"]).ended_with(3).saying("one is plugged in");
    for driver in ["cdc_ncm", "cdc_acm"] {
        assert!(finished.stdout.contains(&format!("sudo modprobe {driver}")), "{}", finished.stdout);
    }
}

/// What NetworkManager leaves behind when it gave up: an interface whose kernel makes no address of its own.
#[test]
#[ignore = "runs in the guest"]
fn the_udev_rule_takes_back_what_networkmanager_did() {
    let bench = bench();
    let device = Plugged::start(&bench, ID, Speed::Full);
    device.network("down");
    device.sysctl("addr_gen_mode", "1");
    device.network("up");
    let said = bench.commissioner(&["discover"]).succeeded().stdout;
    assert!(said.contains("plug the device in again"), "{said}");
    let udev = Udev::start();
    udev.trigger();
    // It may get another name.
    poll("the host has a link-local address", || Ways::appear().has_address().then_some(()));
    bench.commissioner(&["commission"]).succeeded().saying("udp:fe80::");
}

/// The same, where that was the order for every interface to come.
#[test]
#[ignore = "runs in the guest"]
fn the_udev_rule_is_obeyed_where_no_interface_is_to_have_an_address() {
    struct Restored;
    impl Drop for Restored {
        fn drop(&mut self) {
            set_default("0");
        }
    }
    fn set_default(mode: &str) {
        fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", mode).expect("sysctl");
    }
    let bench = bench();
    let udev = Udev::start();
    set_default("1");
    let _restored = Restored;
    let _device = Plugged::start_with_udev(&bench, ID, &udev);
    bench.commissioner(&["commission"]).succeeded().saying("udp:fe80::");
}

/// In a guest of its own (`ipv6.disable=1`). No sysctl gives such a kernel an address.
#[test]
#[ignore = "runs in the guest"]
fn a_host_without_ipv6_is_told_so_and_the_serial_port_serves() {
    let bench = bench();
    let device = Plugged::start_without_ipv6(&bench, ID);
    let said = bench.commissioner(&["discover"]).succeeded().stdout;
    assert!(said.starts_with(&format!("{}\n  {ID}", device.acm_link())), "{said}");
    assert!(said.contains("this machine has no IPv6") && !said.contains("sysctl"), "{said}");
    bench.commissioner(&["get", "/comm", &device.udp_link()]).ended_with(4).saying("this machine has no IPv6");
    bench.commissioner(&["commission"]).succeeded();
}
