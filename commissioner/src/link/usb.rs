//! Devices of ours at USB, as Linux shows them in sysfs: who they say they are before anybody has spoken to them, and those
//! that are plugged in and still have no port or no network, with the reason.

use std::fs;
use std::path::{Path, PathBuf};

use cbor_schemas::DeviceId;
use protocol::usb::{PRODUCT_ID, VENDOR_ID};

use crate::text;

/// Class and subclass of the interfaces that become a port and a network (CDC 1.2, tables 12 and 13), what each of them is,
/// the driver that makes it so, and the node that it has then.
const FUNCTIONS: [Function; 2] = [
    Function { class: "02", subclass: "02", name: "serial port", driver: "cdc_acm", node: "tty" },
    Function { class: "02", subclass: "0d", name: "network", driver: "cdc_ncm", node: "net" },
];

struct Function {
    class: &'static str,
    subclass: &'static str,
    name: &'static str,
    driver: &'static str,
    node: &'static str,
}

/// A device that is plugged in, by its USB numbers one of ours, and that cannot be reached, or not in each way that it has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("USB port {place}{}: {obstacle}", claim(.serial.as_deref()))]
pub struct Blocked {
    /// Where it is plugged in, as Linux numbers it: `3-1`.
    pub place: String,
    /// Its serial number: the device ID, as the device claims it.
    pub serial: Option<String>,
    /// Why it cannot be reached.
    pub obstacle: Obstacle,
}

/// What Linux lacks, or does not want, of a device at USB.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Obstacle {
    /// Linux was told not to let it in: `authorized` is 0 in sysfs.
    #[error(
        "plugged in, but not allowed: USBGuard, or something like it, blocks it. Allow it: `sudo usbguard list-devices \
         --blocked` shows its number, `sudo usbguard allow-device --permanent NUMBER` lets it in (without USBGuard: \
         `echo 1 | sudo tee {authorized}`)"
    )]
    NotAllowed {
        /// The file of sysfs that says so.
        authorized: String,
    },
    /// Nothing drives one of its functions.
    #[error(
        "plugged in, but its {function} has no driver: `sudo modprobe {driver}`, then plug it in again (a kernel made for \
         virtual machines may come without: another one has it)"
    )]
    NoDriver {
        /// What does not work.
        function: &'static str,
        /// What is missing.
        driver: &'static str,
    },
    /// Something else has one of its functions, such as a virtual machine that it was given to.
    #[error(
        "plugged in, but its {function} is taken by {by:?} (a virtual machine, or a program that drives USB devices \
         itself?); have it let go, then plug the device in again"
    )]
    Taken {
        /// What does not work.
        function: &'static str,
        /// The driver that has it.
        by: String,
    },
}

fn claim(serial: Option<&str>) -> String {
    serial.map(|serial| format!(" ({})", text::line(serial))).unwrap_or_default()
}

/// The devices with our USB numbers that are plugged in and lack a port or a network.
pub fn blocked() -> Vec<Blocked> {
    blocked_in(Path::new("/sys"))
}

/// The device ID that the device behind a network interface has as its USB serial number. It is a claim.
pub fn device_behind(interface: &str) -> Option<DeviceId> {
    device_behind_in(Path::new("/sys"), interface)
}

pub(super) fn device_behind_in(sys: &Path, interface: &str) -> Option<DeviceId> {
    // The device of a network interface is the USB interface, and above it is the USB device.
    attribute(&sys.join("class/net").join(interface).join("device/.."), "serial")?.parse().ok()
}

fn blocked_in(sys: &Path) -> Vec<Blocked> {
    let mut blocked = Vec::new();
    for device in folders(&sys.join("bus/usb/devices")).into_iter().filter(|device| is_ours(device)) {
        let place = name(&device);
        let serial = attribute(&device, "serial");
        let obstacles = obstacles(&device);
        blocked.extend(obstacles.into_iter().map(|obstacle| Blocked {
            place: place.clone(),
            serial: serial.clone(),
            obstacle,
        }));
    }
    blocked
}

/// What is in the way of the functions of a device. One that is not allowed has none in sysfs.
fn obstacles(device: &Path) -> Vec<Obstacle> {
    if let Some(obstacle) = not_allowed(device) {
        return vec![obstacle];
    }
    let is_interface = |folder: &PathBuf| folder.join("bInterfaceNumber").exists();
    let interfaces = folders(device).into_iter().filter(is_interface);
    interfaces.filter_map(|interface| obstacle(&interface)).collect()
}

/// What is in the way of one function: nothing, if it has its node.
fn obstacle(interface: &Path) -> Option<Obstacle> {
    let of = |name| attribute(interface, name);
    let (class, subclass) = (of("bInterfaceClass")?, of("bInterfaceSubClass")?);
    let &Function { name: function, driver, node, .. } =
        FUNCTIONS.iter().find(|function| (function.class, function.subclass) == (&*class, &*subclass))?;
    if interface.join(node).exists() {
        return None;
    }
    if let Some(obstacle) = not_allowed(interface) {
        return Some(obstacle);
    }
    match fs::read_link(interface.join("driver")) {
        Err(_) => Some(Obstacle::NoDriver { function, driver }),
        // It is about to make the node.
        Ok(bound) if bound.ends_with(driver) => None,
        Ok(bound) => Some(Obstacle::Taken { function, by: name(&bound) }),
    }
}

/// Linux asks before it lets a device in, or one interface of it (`authorized_default`, `interface_authorized_default`).
fn not_allowed(node: &Path) -> Option<Obstacle> {
    let authorized = node.join("authorized");
    (attribute(node, "authorized").as_deref() == Some("0"))
        .then(|| Obstacle::NotAllowed { authorized: authorized.display().to_string() })
}

fn is_ours(device: &Path) -> bool {
    let is = |name, number| attribute(device, name) == Some(format!("{number:04x}"));
    is("idVendor", VENDOR_ID) && is("idProduct", PRODUCT_ID)
}

/// What is in a folder of sysfs, links followed, by name.
fn folders(of: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<_> = fs::read_dir(of).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn attribute(node: &Path, name: &str) -> Option<String> {
    let bytes = fs::read(node.join(name)).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const ID: &str = "urn:dev:ops:32473-sim-0024be";

    /// A USB device of ours as sysfs shows it: attributes, and interfaces in folders below. `bus/usb/devices` has links.
    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new(vendor: &str, serial: &str, authorized: &str) -> Self {
            let sys = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(sys.0.path().join("bus/usb/devices")).unwrap();
            sys.write("", "idVendor", vendor);
            sys.write("", "idProduct", "000c");
            sys.write("", "serial", serial);
            sys.write("", "authorized", authorized);
            symlink("../../../devices/vhci/3-1", sys.0.path().join("bus/usb/devices/3-1")).unwrap();
            sys
        }

        /// A device with the four interfaces that ours has, each with its driver, and what those make of them.
        fn whole() -> Self {
            let sys = Self::new("1209", ID, "1");
            for (number, class, subclass, driver) in [
                (0, "02", "02", "cdc_acm"),
                (1, "0a", "00", "cdc_acm"),
                (2, "02", "0d", "cdc_ncm"),
                (3, "0a", "00", "cdc_ncm"),
            ] {
                let interface = format!("3-1:1.{number}");
                sys.write(&interface, "bInterfaceNumber", &format!("0{number}"));
                sys.write(&interface, "bInterfaceClass", class);
                sys.write(&interface, "bInterfaceSubClass", subclass);
                sys.write(&interface, "authorized", "1");
                sys.bind(&interface, driver);
            }
            fs::create_dir_all(sys.device().join("3-1:1.0/tty/ttyACM0")).unwrap();
            fs::create_dir_all(sys.device().join("3-1:1.2/net/usb0")).unwrap();
            sys
        }

        fn device(&self) -> PathBuf {
            self.0.path().join("devices/vhci/3-1")
        }

        fn write(&self, interface: &str, attribute: &str, value: &str) {
            fs::create_dir_all(self.device().join(interface)).unwrap();
            fs::write(self.device().join(interface).join(attribute), format!("{value}\n")).unwrap();
        }

        fn bind(&self, interface: &str, driver: &str) {
            symlink(format!("../../../../bus/usb/drivers/{driver}"), self.device().join(interface).join("driver"))
                .unwrap();
        }

        /// Takes the driver away, and with it what it made.
        fn unbind(&self, interface: &str) {
            fs::remove_file(self.device().join(interface).join("driver")).unwrap();
            let _ = fs::remove_dir_all(self.device().join(interface).join("net"));
            let _ = fs::remove_dir_all(self.device().join(interface).join("tty"));
        }

        fn obstacles(&self) -> Vec<Obstacle> {
            let blocked = blocked_in(self.0.path());
            assert!(blocked.iter().all(|it| (&*it.place, it.serial.as_deref()) == ("3-1", Some(ID))), "{blocked:?}");
            blocked.into_iter().map(|blocked| blocked.obstacle).collect()
        }
    }

    #[test]
    fn a_device_with_all_that_it_needs_has_no_obstacle() {
        assert_eq!(Sys::whole().obstacles(), []);
        assert_eq!(blocked_in(Path::new("/nonexistent")), []);
    }

    #[test]
    fn a_device_that_is_not_allowed_is_found_by_its_numbers() {
        let sys = Sys::new("1209", ID, "0");
        let authorized = sys.0.path().join("bus/usb/devices/3-1/authorized").display().to_string();
        assert_eq!(sys.obstacles(), [Obstacle::NotAllowed { authorized: authorized.clone() }]);
        let said = sys.obstacles()[0].to_string();
        assert!(said.starts_with("plugged in, but not allowed"), "{said}");
        assert!(said.contains("usbguard allow-device") && said.contains(&authorized), "{said}");
        assert_eq!(Sys::new("1208", ID, "0").obstacles(), [], "it is somebody else's");
    }

    #[test]
    fn a_function_that_is_not_allowed_is_named() {
        let sys = Sys::whole();
        sys.unbind("3-1:1.2");
        sys.write("3-1:1.2", "authorized", "0");
        assert!(
            matches!(&sys.obstacles()[..], [Obstacle::NotAllowed { authorized }] if authorized.contains("3-1:1.2"))
        );
    }

    #[test]
    fn a_driver_that_is_missing_is_named() {
        let sys = Sys::whole();
        sys.unbind("3-1:1.2");
        assert_eq!(sys.obstacles(), [Obstacle::NoDriver { function: "network", driver: "cdc_ncm" }]);
        sys.unbind("3-1:1.0");
        let both = sys.obstacles();
        assert_eq!(both[0], Obstacle::NoDriver { function: "serial port", driver: "cdc_acm" });
        assert!(both[0].to_string().contains("sudo modprobe cdc_acm"), "{}", both[0]);
        assert_eq!(both.len(), 2);
    }

    #[test]
    fn who_took_a_function_is_named() {
        let sys = Sys::whole();
        sys.unbind("3-1:1.0");
        sys.bind("3-1:1.0", "usbfs");
        assert_eq!(sys.obstacles(), [Obstacle::Taken { function: "serial port", by: "usbfs".to_owned() }]);
    }

    /// It has the driver, and not yet what that makes of it.
    #[test]
    fn a_device_that_was_plugged_in_just_now_is_waited_for() {
        let sys = Sys::whole();
        fs::remove_dir_all(sys.device().join("3-1:1.2/net")).unwrap();
        assert_eq!(sys.obstacles(), []);
    }

    #[test]
    fn what_a_stranger_calls_itself_moves_no_cursor() {
        let sys = Sys::new("1209", "urn:dev:ops:\x1b[2J1", "0");
        let [blocked] = &blocked_in(sys.0.path())[..] else { panic!("it is not allowed") };
        assert!(!blocked.to_string().contains(char::is_control), "{blocked}");
    }

    #[test]
    fn the_device_behind_a_network_interface_is_known_by_its_serial_number() {
        let sys = Sys::whole();
        fs::create_dir_all(sys.0.path().join("class/net/lo")).unwrap();
        let interface = sys.0.path().join("class/net/usb0");
        fs::create_dir_all(&interface).unwrap();
        symlink("../../../devices/vhci/3-1/3-1:1.2", interface.join("device")).unwrap();
        let behind = |name| device_behind_in(sys.0.path(), name);
        assert_eq!(behind("usb0").unwrap().as_str(), ID);
        for serial in ["", "E6605838834D7D2C", "urn:dev:ops:", "urn:dev:ops:32473 1"] {
            sys.write("", "serial", serial);
            assert_eq!(behind("usb0"), None, "{serial}");
        }
        assert_eq!((behind("lo"), behind("usb9")), (None, None));
    }
}
