//! The serial ports of this machine: which there are, what they are whatever they are called, and opening one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use protocol::usb::{PRODUCT_ID, VENDOR_ID};
use rustix::fs::{OFlags, major, minor};
use rustix::io::Errno;
use rustix::termios::{ioctl_tiocnxcl, tcgetattr};
use tokio_serial::{ErrorKind, SerialPortBuilderExt, SerialPortInfo, SerialPortType, SerialStream};

use super::Error;
use super::fault::Holder;
use super::holder::Device;

/// A serial port that a device may be at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its device file.
    pub path: String,
    /// If by its USB vendor and product ID it is a commissioning device, the serial number of that. It is the device ID,
    /// as the device claims it.
    pub device: Option<String>,
    /// The USB device that the port is a part of.
    usb: Option<UsbDevice>,
}

/// A USB device that can be told from all others: one with a serial number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UsbDevice {
    vendor: u16,
    product: u16,
    serial_number: String,
}

/// A plug in a port: pulled and put back, it is another one, though the port has the same name again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plug {
    device: Device,
    file: u64,
    /// The number of a pty's file is that of the pty, and comes again.
    made: Option<(i64, i64)>,
    /// The device's folder in sysfs, which is made for each plug, even where the file is a copy of that in a container.
    in_sysfs: Option<u64>,
}

/// The serial ports that a device may be at: USB ports, and built-in ones that name their hardware.
///
/// Not listed: ptys, and `/dev/ttyS*`, most of which exist without any hardware behind them.
pub fn list_ports() -> Vec<Port> {
    // The library panics where there is no sysfs, as in some containers.
    if !Path::new("/sys/class/tty").is_dir() {
        return Vec::new();
    }
    let ports = tokio_serial::available_ports().unwrap_or_default();
    let mut ports: Vec<_> = ports.into_iter().map(Port::from).collect();
    ports.retain(|port| !port.path.starts_with("/dev/ttyS"));
    ports.sort_by(|a, b| a.path.cmp(&b.path));
    ports
}

impl From<SerialPortInfo> for Port {
    fn from(port: SerialPortInfo) -> Self {
        let SerialPortType::UsbPort(usb) = port.port_type else {
            return Self { path: port.port_name, device: None, usb: None };
        };
        let (vendor, product) = (usb.vid, usb.pid);
        let is_ours = (vendor, product) == (VENDOR_ID, PRODUCT_ID);
        let device = is_ours.then(|| usb.serial_number.clone().unwrap_or_default());
        let serial_number = usb.serial_number.filter(|number| !number.is_empty());
        let usb = serial_number.map(|serial_number| UsbDevice { vendor, product, serial_number });
        Self { path: port.port_name, device, usb }
    }
}

impl UsbDevice {
    /// The USB device that has the port at `path`.
    pub(super) fn of(path: &Path, ports: &[Port]) -> Option<Self> {
        let device = Device::at(path)?;
        ports.iter().find(|port| Device::at(Path::new(&port.path)) == Some(device))?.usb.clone()
    }

    /// Its port, wherever it is; [`None`] if it has none, or several.
    pub(super) fn port(&self, ports: &[Port]) -> Option<PathBuf> {
        let mut ports = ports.iter().filter(|port| port.usb.as_ref() == Some(self));
        match (ports.next(), ports.next()) {
            (Some(port), None) => Some((&port.path).into()),
            _ => None,
        }
    }
}

impl Plug {
    /// What is plugged in at a port; [`None`] if there is no such port now.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let device = Device::of(&file)?;
        let sysfs = format!("/sys/dev/char/{}:{}/", major(file.rdev()), minor(file.rdev()));
        let in_sysfs = fs::metadata(sysfs).ok().map(|folder| folder.ino());
        let made = device.is_pty().then(|| (file.ctime(), file.ctime_nsec()));
        Some(Self { device, file: file.ino(), made, in_sysfs })
    }
}

/// Opens a port for ourselves alone.
///
/// Opening raises DTR, which resets many a board: a port that another program has locked is not opened to find that out.
pub(super) fn open(path: &Path, baud: u32) -> Result<SerialStream, Error> {
    let port = path.display().to_string();
    if let Some(holder) = Holder::by_lock(path) {
        return Err(Error::InUse { port, holder: Some(holder) });
    }
    let pty = open_pty(path);
    let stream = tokio_serial::new(port.as_str(), baud).open_native_async().map_err(|error| match error.kind() {
        ErrorKind::NoDevice => Error::InUse { port: port.clone(), holder: Holder::of(path) },
        ErrorKind::Io(io::ErrorKind::NotFound) => Error::Missing { what: port.clone() },
        ErrorKind::Io(io::ErrorKind::PermissionDenied) => Error::Permission { port: port.clone() },
        _ if is_gone(path) => Error::Unplugged { port: port.clone() },
        _ => Error::NotSerial { port: port.clone(), reason: error.to_string() },
    })?;
    if let Some(pty) = pty {
        // Best effort: without it the next program has to wait for the simulator to restart.
        let _ = ioctl_tiocnxcl(&pty);
    }
    Ok(stream)
}

/// What an operating system's error on an open port means.
pub(super) fn failed(port: &str, source: io::Error) -> Error {
    let errno = source.raw_os_error().map(Errno::from_raw_os_error);
    match source.kind() == io::ErrorKind::BrokenPipe || errno.is_some_and(is_going) {
        true => Error::Unplugged { port: port.to_owned() },
        false => Error::Failed { what: port.to_owned(), source },
    }
}

/// What a port reports whose device is unplugged depends on its driver.
fn is_going(errno: Errno) -> bool {
    [Errno::IO, Errno::NXIO, Errno::NODEV].contains(&errno)
}

/// Whether a port that could not be opened has lost its device: the file is still there, or there again, and the device is
/// not. The library does not pass on the operating system's number.
fn is_gone(path: &Path) -> bool {
    let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
    match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
        Ok(file) => tcgetattr(&file).is_err_and(is_going),
        Err(error) => {
            let errno = error.raw_os_error().map(Errno::from_raw_os_error);
            error.kind() == io::ErrorKind::NotFound || errno.is_some_and(is_going)
        }
    }
}

/// A pty outlives its openers, for the simulator keeps it open, and so does the mark "exclusive" that opening leaves on
/// it: nobody but root could open it again. Through this second handle the mark is taken off; the file's lock remains.
fn open_pty(path: &Path) -> Option<File> {
    let is_pty = path.canonicalize().is_ok_and(|target| target.starts_with("/dev/pts"));
    let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
    is_pty.then(|| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::testing::Pty;
    use super::*;

    #[test]
    fn the_udev_rule_is_about_our_devices() {
        let rule = include_str!("../../udev/70-commissioning.rules");
        for (attribute, value) in [("idVendor", VENDOR_ID), ("idProduct", PRODUCT_ID)] {
            let named: Vec<_> = rule.split(&format!("{{{attribute}}}==\"")).skip(1).map(|rest| &rest[..4]).collect();
            assert_eq!(named, [&*format!("{value:04x}"); 3]);
        }
    }

    #[tokio::test]
    async fn ports_that_cannot_be_opened_say_why() {
        let opened = |path: &Path| open(path, 9600).expect_err("no port");
        assert!(matches!(opened(Path::new("/dev/ttyNONE")), Error::Missing { .. }));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(opened(file.path()), Error::NotSerial { .. }));
        // A pty whose device went away while its file is held open is EIO, as an adapter that is just being unplugged.
        let Pty { device, path } = Pty::new();
        let host = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        drop(device);
        let kept = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&host));
        assert!(matches!(opened(Path::new(&kept)), Error::Unplugged { .. }));
    }

    #[test]
    fn errors_of_ports_that_lost_their_device_are_one() {
        for errno in [Errno::IO, Errno::NXIO, Errno::NODEV] {
            assert!(matches!(failed("port", errno.into()), Error::Unplugged { .. }), "{errno}");
        }
        assert!(matches!(failed("port", Errno::NOSPC.into()), Error::Failed { .. }));
    }

    #[test]
    fn a_port_that_comes_back_has_another_plug() {
        let pty = Pty::new();
        let (path, plug) = (pty.path.clone(), Plug::at(&pty.path));
        assert!(plug.is_some());
        // What is written to it and read from it does not change that.
        let host = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        rustix::io::write(&pty.device, b"boot\n").unwrap();
        assert_eq!(Plug::at(&path), plug);
        drop((host, pty));
        assert_eq!(Plug::at(&path), None);
        // The kernel gives the lowest number that is free, to us or to another test. A file's time has some milliseconds.
        assert!((0..100_000).any(|_| Plug::at(&Pty::new().path) != plug));
    }

    #[test]
    fn a_device_is_found_under_its_next_name_by_its_serial_number() {
        let usb = |serial_number: &str| {
            Some(UsbDevice { vendor: 0x1209, product: 1, serial_number: serial_number.to_owned() })
        };
        let port = |path: &str, usb| Port { path: path.to_owned(), device: None, usb };
        let ports = [port("/dev/tty", None), port("/dev/ttyACM1", usb("mine")), port("/dev/ttyACM2", usb("other"))];
        assert_eq!(usb("mine").unwrap().port(&ports), Some("/dev/ttyACM1".into()));
        assert_eq!(usb("none").unwrap().port(&ports), None);
        let twice = [port("/dev/ttyACM1", usb("mine")), port("/dev/ttyACM2", usb("mine"))];
        assert_eq!(usb("mine").unwrap().port(&twice), None, "two ports of one device are not told apart");
        // Which device has the port that was named, by whichever name.
        let null = [port("/dev/null", usb("mine"))];
        assert_eq!(UsbDevice::of(Path::new("/dev/../dev/null"), &null), usb("mine"));
        assert_eq!(UsbDevice::of(Path::new("/dev/zero"), &null), None);
    }
}
