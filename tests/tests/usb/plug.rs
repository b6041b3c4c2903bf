//! A simulated device at the guest's USB host, and the guest's side of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use end_to_end::{Bench, Device, program};
use protocol::usb::{PRODUCT_ID, VENDOR_ID};

/// The guest is slow by itself, and slower on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// How fast the cable is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Speed {
    Full,
    High,
}

/// A device that is plugged in, and the two ways to it.
pub(crate) struct Plugged {
    device: Device,
    id: String,
    speed: Speed,
    ways: Ways,
}

/// The two ways to a device that is plugged in.
pub(crate) struct Ways {
    port: PathBuf,
    interface: String,
}

impl Speed {
    pub(crate) fn megabits(self) -> &'static str {
        match self {
            Speed::Full => "12",
            Speed::High => "480",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Speed::Full => "full",
            Speed::High => "high",
        }
    }
}

impl Plugged {
    /// A device whose host has just set its network up, as a person's computer does.
    pub(crate) fn start_unready(bench: &Bench, id: &str, speed: Speed) -> Self {
        let device = Self::start(bench, id, speed);
        device.network("down");
        device.sysctl("accept_dad", "1");
        device.network("up");
        device
    }

    /// A device at a host whose network is up and has no address.
    pub(crate) fn start_without_ipv6(bench: &Bench, id: &str) -> Self {
        let device = simulator(bench, id, Speed::Full, "vhci");
        let ways = Ways::appear();
        ways.network("up");
        Self { device, id: id.to_owned(), speed: Speed::Full, ways }
    }

    /// A device that is plugged in as long as it runs.
    pub(crate) fn start(bench: &Bench, id: &str, speed: Speed) -> Self {
        Self::start_at(bench, id, speed, "vhci")
    }

    /// A device that serves USB/IP, plugged in by `usbip`: its cable can be pulled while it runs.
    pub(crate) fn serve(bench: &Bench, id: &str, speed: Speed) -> Self {
        Self::start_at(bench, id, speed, "127.0.0.1:3240")
    }

    /// Ends it, as by a power failure, and starts it again with the same flash.
    pub(crate) fn restart(self, bench: &Bench) -> Self {
        let Self { device, id, speed, .. } = self;
        drop(device);
        gone();
        Self::start(bench, &id, speed)
    }

    fn start_at(bench: &Bench, id: &str, speed: Speed, place: &str) -> Self {
        let device = simulator(bench, id, speed, place);
        if place != "vhci" {
            attach();
        }
        let ways = Ways::appear();
        ways.make_ready();
        Self { device, id: id.to_owned(), speed, ways }
    }

    /// A device at a host that has udev, and a rule for it. It makes the network ready, or nobody does.
    pub(crate) fn start_with_udev(bench: &Bench, id: &str, udev: &Udev) -> Self {
        let device = simulator(bench, id, Speed::Full, "vhci");
        udev.settle();
        // It gives the network another name, and settling does nothing in what it takes for a chroot.
        let ways = poll("the host has a link-local address", || {
            let ways = Ways::appear();
            ways.has_address().then_some(ways)
        });
        Self { device, id: id.to_owned(), speed: Speed::Full, ways }
    }

    /// Plugs the cable in.
    pub(crate) fn plug_in(&mut self) {
        attach();
        self.ways = Ways::appear();
        self.ways.make_ready();
    }

    /// Pulls it.
    pub(crate) fn unplug(&mut self) {
        let ports = fs::read_to_string("/sys/devices/platform/vhci_hcd.0/status").expect("a status");
        // hub port sta spd dev sockfd local_busid; "006" is a port in use.
        let port = ports.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, port, "006", ..] => Some(port.to_owned()),
            _ => None,
        });
        let port = port.expect("something is plugged in");
        fs::write("/sys/devices/platform/vhci_hcd.0/detach", port.trim_start_matches('0').to_owned() + "\n")
            .or_else(|_| fs::write("/sys/devices/platform/vhci_hcd.0/detach", port))
            .expect("the port lets go");
        gone();
    }

    /// Sets the network interface up, or down.
    pub(crate) fn network(&self, state: &str) {
        self.ways.network(state);
    }

    /// Tells the kernel how to go about IPv6 on the interface.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        fs::write(format!("/proc/sys/net/ipv6/conf/{}/{name}", self.interface()), value).expect("sysctl");
    }

    /// The network interface of the host's end.
    pub(crate) fn interface(&self) -> &str {
        &self.ways.interface
    }

    /// What Linux knows of the device.
    pub(crate) fn sysfs(&self) -> PathBuf {
        Path::new("/sys/class/net").join(self.interface()).join("device/..")
    }

    /// Its numbers as `lsusb` wants them.
    pub(crate) fn usb_id(&self) -> String {
        format!("{VENDOR_ID:04x}:{PRODUCT_ID:04x}")
    }

    /// The link to its serial port.
    pub(crate) fn acm_link(&self) -> String {
        self.ways.acm_link()
    }

    /// The link to its address at the network.
    pub(crate) fn udp_link(&self) -> String {
        self.ways.udp_link(&self.id)
    }

    /// The address that the device gives to the host's end.
    pub(crate) fn host_address(&self) -> String {
        let path = Path::new("/sys/class/net").join(self.interface()).join("address");
        fs::read_to_string(path).expect("an address").trim().to_owned()
    }
}

impl Ways {
    /// Waits until Linux has both functions.
    pub(crate) fn appear() -> Self {
        let port = poll("a serial port appears", || ours("/sys/class/tty"));
        let interface = poll("a network interface appears", || ours("/sys/class/net"));
        Self { port: Path::new("/dev").join(port), interface }
    }

    /// Sets the network up, as a person's computer does.
    pub(crate) fn make_ready(&self) {
        self.network("up");
        poll("the host has a link-local address", || self.has_address().then_some(()));
    }

    pub(crate) fn has_address(&self) -> bool {
        has_address(&self.interface)
    }

    fn network(&self, state: &str) {
        let done = Command::new("busybox").args(["ip", "link", "set", "dev", &self.interface, state]).status();
        assert!(done.expect("busybox runs").success());
    }

    /// The link to its serial port.
    pub(crate) fn acm_link(&self) -> String {
        format!("serial:{}", self.port.display())
    }

    /// The link to its address at the network.
    pub(crate) fn udp_link(&self, id: &str) -> String {
        format!("udp:{}%{}", device_embassy::usb::link_local(&id.parse().expect("a device ID")), self.interface)
    }
}

fn simulator(bench: &Bench, id: &str, speed: Speed, place: &str) -> Device {
    gone();
    // Linux makes sure, for a second or two, that nobody else has its address. One case sees that.
    let accept_dad = Path::new("/proc/sys/net/ipv6/conf/default/accept_dad");
    if accept_dad.exists() {
        fs::write(accept_dad, "0").expect("sysctl");
    }
    let flash = bench.path("flash").display().to_string();
    let mut simulator = Command::new(program("device-sim"));
    Device::start(simulator.args(["--id", id, "--flash", &flash, "--usb", place, "--usb-speed", speed.name()]))
}

/// udev, with the rule that is shipped, as long as it lives.
pub(crate) struct Udev(Child);

impl Udev {
    pub(crate) fn start() -> Self {
        let rule = Path::new(env!("CARGO_MANIFEST_DIR")).join("../commissioner/udev/70-commissioning.rules");
        fs::create_dir_all("/run/udev/rules.d").expect("a directory");
        fs::copy(rule, "/run/udev/rules.d/70-commissioning.rules").expect("a rule");
        let udev = Self(Command::new("/lib/systemd/systemd-udevd").spawn().expect("udev starts"));
        poll("udev is there", || Path::new("/run/udev/control").exists().then_some(()));
        // It answers when it listens to the kernel, too.
        assert!(udevadm(&["control", "--ping"]), "udev answers");
        udev
    }

    /// Lets it look at the devices that are there already, as is to be done after the rule was installed.
    pub(crate) fn trigger(&self) {
        assert!(udevadm(&["trigger"]), "udev looks again");
    }

    /// Waits until it has done what there was to do.
    fn settle(&self) {
        assert!(Command::new("udevadm").args(["settle", "--timeout=60"]).status().expect("udevadm runs").success());
    }

    /// What it knows of a node of sysfs, as lines `NAME=value`.
    pub(crate) fn properties(&self, node: &Path) -> String {
        let mut info = Command::new("udevadm");
        let known = info.args(["info", "--query=property", "--path"]).arg(node).output().expect("udevadm runs");
        String::from_utf8(known.stdout).expect("UTF-8")
    }
}

impl Drop for Udev {
    fn drop(&mut self) {
        // It is gone, or it is the guest's end.
        let _ = self.0.kill().and_then(|()| self.0.wait());
        let _ = fs::remove_dir_all("/run/udev");
    }
}

/// Where we are looks like a chroot, in which udevadm would do nothing.
fn udevadm(args: &[&str]) -> bool {
    Command::new("udevadm").env("SYSTEMD_IGNORE_CHROOT", "1").args(args).status().expect("udevadm runs").success()
}

fn attach() {
    let attached = Command::new("usbip").args(["attach", "-r", "127.0.0.1", "-b", "1-1"]).output().expect("usbip runs");
    assert!(attached.status.success(), "{}", String::from_utf8_lossy(&attached.stderr));
}

/// What is sent to the device by a network that is none of its business: `tests/usb/noise.py` has the frames.
pub(crate) fn noise(interface: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("usb/noise.py");
    let sent = Command::new("python3").arg(script).arg(interface).output().expect("python3 runs");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
}

/// Waits until there is something.
///
/// # Panics
/// After [`PATIENCE`].
pub(crate) fn poll<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until nothing of ours is plugged in any more.
pub(crate) fn gone() {
    poll("the device is gone", || (ours("/sys/class/tty").is_none() && ours("/sys/class/net").is_none()).then_some(()));
}

/// The device node of a class that belongs to a USB device with our numbers.
fn ours(class: &str) -> Option<String> {
    let of_us = |node: &fs::DirEntry| {
        // The device of such a node is the USB interface, and above it is the USB device.
        let number = |name: &str| {
            let text = fs::read_to_string(node.path().join("device/..").join(name)).ok()?;
            u16::from_str_radix(text.trim(), 16).ok()
        };
        number("idVendor") == Some(VENDOR_ID) && number("idProduct") == Some(PRODUCT_ID)
    };
    let mut nodes = fs::read_dir(class).ok()?.flatten().filter(of_us);
    nodes.next()?.file_name().into_string().ok()
}

/// Whether an interface has a link-local address that nobody else has, either.
fn has_address(interface: &str) -> bool {
    const TENTATIVE: u32 = 0x40;
    let addresses = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    addresses.lines().any(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [address, _, _, _, flags, name] => {
            let tentative = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & TENTATIVE != 0);
            name == interface && address.starts_with("fe80") && !tentative
        }
        _ => false,
    })
}
