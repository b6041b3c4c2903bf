//! Network interfaces: which ones are USB cables, and whether they can be used.

use std::{fs, io, net::Ipv6Addr, path::Path, time::Duration};

use tokio::time::{Instant, sleep};

use super::Error;

/// All CoAP nodes on the link (RFC 7252 section 12.8).
pub const ALL_COAP_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfd);

/// Drivers of interfaces that are devices at a USB cable.
const USB_DRIVERS: [&str; 4] = ["cdc_ncm", "cdc_ether", "cdc_eem", "rndis_host"];
/// How long an interface that was just set up may take for its address: Linux makes sure that nobody else has it.
const SETTLING: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_millis(100);

const IFF_UP: u32 = 1;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;

/// The interfaces that Linux runs over a USB cable, by name.
pub fn usb_interfaces() -> Vec<String> {
    usb_interfaces_in(Path::new("/sys"))
}

/// Whether an interface runs over a USB cable.
pub fn is_usb(interface: &str) -> bool {
    is_usb_in(Path::new("/sys"), interface)
}

/// The name of an interface that is named by its number, as in `fe80::1%3`. One and the same link has one name then.
pub fn name_of(zone: &str) -> Option<String> {
    name_of_in(Path::new("/sys"), zone)
}

/// Waits until an interface has a link-local address of its own, up to 5 s if it is about to get one.
///
/// # Errors
/// [`Error::Missing`], [`Error::Down`], [`Error::NoAddress`]; [`Error::NoIpv6`] at once, for nothing will come.
pub async fn ready(interface: &str) -> Result<(), Error> {
    ready_in(Path::new("/"), interface, SETTLING).await
}

fn usb_interfaces_in(sys: &Path) -> Vec<String> {
    let mut names = interfaces(sys);
    names.retain(|name| is_usb_in(sys, name));
    names
}

/// The network interfaces, by name.
fn interfaces(sys: &Path) -> Vec<String> {
    let Ok(interfaces) = fs::read_dir(sys.join("class/net")) else { return Vec::new() };
    let mut names: Vec<_> = interfaces.flatten().filter_map(|it| it.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn is_usb_in(sys: &Path, interface: &str) -> bool {
    let driver = fs::read_link(sys.join("class/net").join(interface).join("device/driver")).unwrap_or_default();
    USB_DRIVERS.iter().any(|name| driver.ends_with(name))
}

fn name_of_in(sys: &Path, zone: &str) -> Option<String> {
    let number: u32 = zone.parse().ok()?;
    let class = sys.join("class/net");
    // Names come first, as for the operating system.
    if class.join(zone).exists() {
        return None;
    }
    let has_number = |name: &str| {
        let index = fs::read_to_string(class.join(name).join("ifindex")).unwrap_or_default();
        index.trim().parse() == Ok(number)
    };
    interfaces(sys).into_iter().find(|name| has_number(name))
}

async fn ready_in(root: &Path, interface: &str, settling: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + settling;
    loop {
        let flags = fs::read_to_string(root.join("sys/class/net").join(interface).join("flags"))
            .map_err(|_| Error::Missing { what: format!("network interface {interface}") })?;
        let addresses = match fs::read_to_string(root.join("proc/net/if_inet6")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NoIpv6),
            addresses => addresses.unwrap_or_default(),
        };
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or_default();
        if flags & IFF_UP == 0 {
            return Err(Error::Down { interface: interface.to_owned() });
        }
        if has_address(&addresses, interface) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::NoAddress { interface: interface.to_owned() });
        }
        sleep(INTERVAL).await;
    }
}

/// Whether an interface has a link-local address for use, in lines of `address index prefix scope flags name`.
fn has_address(addresses: &str, interface: &str) -> bool {
    addresses.lines().any(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [address, _, _, _, flags, name] => {
            let flags = u32::from_str_radix(flags, 16).unwrap_or(IFA_F_TENTATIVE);
            name == interface && address.starts_with("fe80") && flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) == 0
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const FOR_USE: &str = "fe8000000000000000000000000000010 02 40 20 80    usb0\n";
    const TENTATIVE: &str = "fe8000000000000000000000000000010 02 40 20 c0    usb0\n";

    /// What Linux shows of its interfaces: names, drivers, flags.
    fn system(interfaces: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, driver, flags) in interfaces {
            let interface = root.path().join("sys/class/net").join(name);
            fs::create_dir_all(interface.join("device")).unwrap();
            fs::write(interface.join("flags"), flags).unwrap();
            symlink(Path::new("/sys/bus/usb/drivers").join(driver), interface.join("device/driver")).unwrap();
        }
        fs::create_dir_all(root.path().join("proc/net")).unwrap();
        root
    }

    fn set_addresses(root: &tempfile::TempDir, addresses: &str) {
        fs::write(root.path().join("proc/net/if_inet6"), addresses).unwrap();
    }

    #[test]
    fn only_usb_cables_are_asked() {
        let root = system(&[
            ("usb1", "cdc_ether", "0x1003\n"),
            ("eth0", "e1000e", "0x1003\n"),
            ("usb0", "cdc_ncm", "0x1003\n"),
            ("wlan0", "iwlwifi", "0x1003\n"),
            ("my_cdc_ncm", "xcdc_ncm", "0x1003\n"),
        ]);
        fs::create_dir_all(root.path().join("sys/class/net/lo")).unwrap();
        assert_eq!(usb_interfaces_in(&root.path().join("sys")), ["usb0", "usb1"]);
        assert_eq!(usb_interfaces_in(Path::new("/nonexistent")), [""; 0]);
    }

    #[tokio::test]
    async fn what_an_interface_lacks_is_said() {
        let root = system(&[("usb0", "cdc_ncm", "0x1003\n"), ("usb1", "cdc_ncm", "0x1002\n")]);
        set_addresses(&root, "");
        let ready = async |interface| ready_in(root.path(), interface, Duration::ZERO).await;
        assert!(matches!(ready("usb9").await, Err(Error::Missing { .. })));
        let down = ready("usb1").await.unwrap_err();
        assert!(matches!(down, Error::Down { .. }) && down.to_string().contains("ip link set dev usb1 up"), "{down}");
        for addresses in ["", TENTATIVE, &FOR_USE.replace("usb0", "usb1"), &FOR_USE.replace("80    ", "88    ")] {
            set_addresses(&root, addresses);
            assert!(matches!(ready("usb0").await, Err(Error::NoAddress { .. })), "{addresses}");
        }
        set_addresses(&root, FOR_USE);
        ready("usb0").await.unwrap();
    }

    /// There is no such file where the kernel was told `ipv6.disable=1`: no address will come, and no sysctl brings one.
    #[tokio::test(start_paused = true)]
    async fn a_machine_without_ipv6_is_not_waited_for() {
        for flags in ["0x1003\n", "0x1002\n"] {
            let root = system(&[("usb0", "cdc_ncm", flags)]);
            let error = ready_in(root.path(), "usb0", Duration::from_secs(3600)).await.unwrap_err();
            assert!(matches!(error, Error::NoIpv6), "{error}");
            let said = error.to_string();
            assert!(said.contains("ipv6.disable=1") && !said.contains("sysctl"), "{said}");
        }
    }

    #[test]
    fn an_interface_that_is_named_by_its_number_has_a_name() {
        let root = system(&[("usb0", "cdc_ncm", "0x1003\n"), ("7", "cdc_ncm", "0x1003\n")]);
        let number = |name: &str, number: &str| {
            fs::write(root.path().join("sys/class/net").join(name).join("ifindex"), format!("{number}\n")).unwrap();
        };
        number("usb0", "3");
        number("7", "4");
        let named = |zone| name_of_in(&root.path().join("sys"), zone);
        assert_eq!((named("3").as_deref(), named("4").as_deref()), (Some("usb0"), Some("7")));
        assert_eq!((named("7"), named("usb0"), named("9"), named("")), (None, None, None, None));
    }

    #[tokio::test]
    async fn an_address_that_is_about_to_come_is_waited_for() {
        let root = system(&[("usb0", "cdc_ncm", "0x1003\n")]);
        set_addresses(&root, TENTATIVE);
        let waiting = ready_in(root.path(), "usb0", Duration::from_secs(60));
        let coming = async {
            tokio::task::yield_now().await;
            set_addresses(&root, FOR_USE);
        };
        tokio::join!(waiting, coming).0.unwrap();
    }
}
