//! Where a device is, and the datagrams that go there.
//!
//! A [`Link`] names a serial line or a UDP address. Opened, both are the same thing: [`Datagrams`]. Nothing above this
//! module knows which cable there is.

mod fault;

#[cfg(feature = "ports")]
mod diagnostics;
#[cfg(feature = "ports")]
mod examination;
#[cfg(feature = "ports")]
mod heard;
#[cfg(feature = "ports")]
mod holder;
#[cfg(feature = "ports")]
mod lengths;
#[cfg(feature = "ports")]
pub mod network;
#[cfg(feature = "ports")]
mod port;
#[cfg(feature = "ports")]
mod ports;
#[cfg(feature = "ports")]
mod serial;
#[cfg(feature = "ports")]
mod udp;
#[cfg(feature = "ports")]
pub mod usb;

#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod testing;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;

pub use fault::{Fault, Harm, Holder};
#[cfg(feature = "ports")]
pub(crate) use udp::Group;
#[cfg(feature = "ports")]
pub use {
    diagnostics::Diagnostics,
    port::{Plug, Port, list_ports},
    ports::distinct,
};

/// Speed of a serial line where none is given, in baud.
pub const DEFAULT_BAUD: u32 = 115_200;
/// CoAP's port (RFC 7252 section 6.1), used where none is given.
pub const DEFAULT_PORT: u16 = 5683;
/// Longest datagram that is received, in bytes; longer ones are dropped.
pub const MAX_DATAGRAM: usize = 2048;

/// Where a device is: `serial:PATH[@BAUD]` or `udp:ADDR[%IF][:PORT]`.
///
/// An IPv6 address stands in brackets when a port follows; its interface may stand inside or after them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// A serial line, or a pty, that speaks slipmux.
    Serial {
        /// The port's device file.
        path: PathBuf,
        /// Bits per second.
        baud: u32,
    },
    /// A UDP address.
    Udp {
        /// The device's address.
        address: IpAddr,
        /// The interface of a link-local address.
        zone: Option<String>,
        /// The device's port.
        port: u16,
    },
}

/// Datagrams to and from one device.
///
/// Both futures may be dropped at any time; a datagram that was being sent is then lost, as any datagram may be.
pub trait Datagrams: Send + Sync {
    /// Sends one datagram; returns how many bytes went onto the line for it, framing included.
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> Io<'a, usize>;
    /// Waits for the next datagram.
    fn receive(&mut self) -> Io<'_, Datagram>;
    /// Whether anything was heard that we had not said ourselves, datagrams or not: somebody is there, and may be starting.
    fn has_said_anything(&self) -> bool {
        false
    }
    /// Finds out what may be wrong with the link, after an answer did not come. May send CoAP pings, and takes some seconds.
    fn examine(&mut self) -> Io<'_, Option<Fault>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// A pending operation on a link.
pub type Io<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// What a device logs while it is being talked to, one diagnostic frame per call.
pub type DeviceLog = Box<dyn FnMut(&str) + Send + Sync>;

/// A received datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// The datagram: a CoAP message, not yet looked at.
    pub bytes: Vec<u8>,
    /// Bytes that it took on the line, framing included.
    pub line_bytes: usize,
}

/// Why a link cannot be opened, or no longer works.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such port or interface.
    #[error("{what} does not exist; is the device plugged in? `commissioner discover` lists what is there")]
    Missing {
        /// The port or interface.
        what: String,
    },
    /// Another program has the port.
    #[error(
        "{port} is in use by {}; end it, then try again",
        .holder.as_ref().map_or("another program (a serial monitor, another commissioner, ModemManager)".to_owned(), Holder::to_string)
    )]
    InUse {
        /// The port's device file.
        port: String,
        /// Which program, if that could be found out.
        holder: Option<Holder>,
    },
    /// The user may not open the port.
    #[error(
        "no permission to open {port}; install the udev rule 70-commissioning.rules (see docs/usb.md), or add yourself \
         to the group that owns it (`sudo usermod -aG dialout $USER`, then log in again)"
    )]
    Permission {
        /// The port's device file.
        port: String,
    },
    /// The port opened, but it is not a serial port or not in working order.
    #[error("{port} cannot be opened as a serial port: {reason}; check the path, or plug the device in again")]
    NotSerial {
        /// The port's device file.
        port: String,
        /// The operating system's words.
        reason: String,
    },
    /// The device went away while the link was open.
    #[error("{port} went away; plug the device in again and repeat the command")]
    Unplugged {
        /// The port's device file.
        port: String,
    },
    /// The network interface is not in use.
    #[error("network interface {interface} is down; set it up: sudo ip link set dev {interface} up")]
    Down {
        /// Its name.
        interface: String,
    },
    /// The network interface has no address that we could be answered at.
    #[error(
        "network interface {interface} has no IPv6 link-local address (NetworkManager takes it away where it looks for one by \
         DHCP in vain); install the udev rule 70-commissioning.rules (see docs/usb.md) and plug the device in again, or allow \
         one: sudo sysctl net.ipv6.conf.{interface}.disable_ipv6=0 net.ipv6.conf.{interface}.addr_gen_mode=0"
    )]
    NoAddress {
        /// Its name.
        interface: String,
    },
    /// The operating system was told to do without IPv6.
    #[error(
        "this machine has no IPv6 (is ipv6.disable=1 on its kernel's command line?), and no device is reached by its network \
         without; use the device's serial port, or restart the machine with IPv6"
    )]
    NoIpv6,
    /// All are asked, and nobody says a word.
    #[error(
        "nobody answers at {group}; is the device running? Or does a firewall of this machine drop the answers, which come \
         from UDP port 5683: let them in (sudo ufw allow proto udp from fe80::/10 port 5683, or sudo firewall-cmd \
         --add-source-port=5683/udp)"
    )]
    Unanswered {
        /// The link with the multicast address.
        group: String,
    },
    /// Nothing listens at the address.
    #[error("nothing listens at {address}; is anything running there, and is this its port?")]
    Refused {
        /// The UDP address.
        address: String,
    },
    /// Anything else that the operating system reports.
    #[error("{what} failed: {source}; check the cable or the network, then try again")]
    Failed {
        /// The port or address.
        what: String,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Why a text does not name a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Neither `serial:` nor `udp:`.
    #[error("a link is serial:PATH[@BAUD] or udp:ADDR[%IF][:PORT], not {0:?}")]
    Scheme(String),
    /// `serial:` without a path.
    #[error("serial: needs a path, such as serial:/dev/ttyACM0")]
    NoPath,
    /// What follows the last `@` is no speed.
    #[error("{0:?} is no baud rate; write serial:PATH@115200, or leave it out")]
    Baud(String),
    /// Not an IP address.
    #[error("{0:?} is no IP address; write udp:192.0.2.7, udp:192.0.2.7:5683 or udp:[fe80::1%usb0]:5683")]
    Address(String),
    /// Not a port.
    #[error("{0:?} is no UDP port; ports are 1 to 65535")]
    Port(String),
    /// A link-local address is ambiguous without its interface.
    #[error("{0} is link-local and needs its interface: udp:{0}%usb0, say (`ip -6 address` lists them)")]
    NoZone(IpAddr),
    /// An interface where none belongs, or an empty one.
    #[error("{0:?} is no interface for this address; only IPv6 addresses take one, as in fe80::1%usb0")]
    Zone(String),
}

impl Link {
    /// The serial link to a port, at the default speed.
    pub fn serial(path: impl Into<PathBuf>) -> Self {
        Self::Serial { path: path.into(), baud: DEFAULT_BAUD }
    }

    /// Whether this is a multicast address, which stands for several devices.
    pub fn is_multicast(&self) -> bool {
        matches!(self, Self::Udp { address, .. } if address.is_multicast())
    }

    /// Whether this is a serial line, which the person who types the command holds in hand.
    pub fn is_serial(&self) -> bool {
        matches!(self, Self::Serial { .. })
    }
}

impl FromStr for Link {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Some(rest) = text.strip_prefix("serial:") {
            parse_serial(rest)
        } else if let Some(rest) = text.strip_prefix("udp:") {
            parse_udp(rest)
        } else {
            Err(ParseError::Scheme(text.to_owned()))
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial { path, baud: DEFAULT_BAUD } => write!(f, "serial:{}", path.display()),
            Self::Serial { path, baud } => write!(f, "serial:{}@{baud}", path.display()),
            Self::Udp { address, zone, port } => write!(f, "udp:{}", UdpAddress { address, zone, port }),
        }
    }
}

impl Error {
    /// Whether a port that has just come, or is about to come, may cause this: it is not there, or not ours yet.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::NotSerial { .. })
    }
}

/// An address as it is written after `udp:`.
struct UdpAddress<'a> {
    address: &'a IpAddr,
    zone: &'a Option<String>,
    port: &'a u16,
}

impl fmt::Display for UdpAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.zone.as_ref().map(|zone| format!("%{zone}")).unwrap_or_default();
        match (self.address, *self.port) {
            (address, DEFAULT_PORT) => write!(f, "{address}{zone}"),
            (IpAddr::V4(address), port) => write!(f, "{address}:{port}"),
            (IpAddr::V6(address), port) => write!(f, "[{address}{zone}]:{port}"),
        }
    }
}

fn parse_serial(rest: &str) -> Result<Link, ParseError> {
    // A path such as /dev/serial/by-path/... may contain `@`; a speed never contains a slash.
    let (path, baud) = match rest.rsplit_once('@') {
        Some((path, baud)) if !baud.contains('/') => {
            let rate = baud.parse().ok().filter(|rate| *rate > 0);
            (path, rate.ok_or_else(|| ParseError::Baud(baud.to_owned()))?)
        }
        _ => (rest, DEFAULT_BAUD),
    };
    if path.is_empty() {
        return Err(ParseError::NoPath);
    }
    Ok(Link::Serial { path: path.into(), baud })
}

fn parse_udp(rest: &str) -> Result<Link, ParseError> {
    let (address, zone, port) = split_udp(rest)?;
    let address: IpAddr = address.parse().map_err(|_| ParseError::Address(rest.to_owned()))?;
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| ParseError::Port(port.to_owned()))?,
    };
    match (address, zone) {
        (IpAddr::V6(v6), None) if needs_zone(v6) => Err(ParseError::NoZone(address)),
        (IpAddr::V6(_), Some(zone)) if !zone.is_empty() && !zone.contains(['%', ']', '/']) => {
            Ok(Link::Udp { address, zone: Some(zone.to_owned()), port })
        }
        (_, Some(zone)) => Err(ParseError::Zone(zone.to_owned())),
        (_, None) => Ok(Link::Udp { address, zone: None, port }),
    }
}

/// Whether an address means something else on each interface.
fn needs_zone(address: Ipv6Addr) -> bool {
    let is_link_local_group = address.is_multicast() && address.octets()[1] & 0xf <= 2;
    address.is_unicast_link_local() || is_link_local_group
}

/// Address, interface and port, not yet looked at.
fn split_udp(rest: &str) -> Result<(&str, Option<&str>, Option<&str>), ParseError> {
    if let Some(bracketed) = rest.strip_prefix('[') {
        let (inside, after) = bracketed.split_once(']').ok_or_else(|| ParseError::Address(rest.to_owned()))?;
        let (address, zone_inside) = split(inside, '%');
        let (after, port) = split(after, ':');
        return match (zone_inside, after.strip_prefix('%')) {
            (zone, None) if after.is_empty() => Ok((address, zone, port)),
            (None, Some(zone)) => Ok((address, Some(zone), port)),
            _ => Err(ParseError::Address(rest.to_owned())),
        };
    }
    if rest.parse::<Ipv6Addr>().is_ok() {
        return Ok((rest, None, None));
    }
    match split(rest, '%') {
        (address, Some(zone)) => {
            let (zone, port) = split(zone, ':');
            Ok((address, Some(zone), port))
        }
        (rest, None) => {
            let (address, port) = split(rest, ':');
            Ok((address, None, port))
        }
    }
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(address: &str, zone: Option<&str>, port: u16) -> Link {
        Link::Udp { address: address.parse().unwrap(), zone: zone.map(str::to_owned), port }
    }

    #[test]
    fn links_in_all_forms_are_understood() {
        let serial = |path: &str, baud| Link::Serial { path: path.into(), baud };
        let by_path = "/dev/serial/by-path/pci-0@usb/port0";
        for (text, link) in [
            ("serial:/dev/ttyACM0", serial("/dev/ttyACM0", 115_200)),
            ("serial:/dev/ttyUSB1@9600", serial("/dev/ttyUSB1", 9600)),
            (&format!("serial:{by_path}"), serial(by_path, 115_200)),
            (&format!("serial:{by_path}@57600"), serial(by_path, 57_600)),
            ("udp:192.0.2.7", udp("192.0.2.7", None, 5683)),
            ("udp:192.0.2.7:7000", udp("192.0.2.7", None, 7000)),
            ("udp:::1", udp("::1", None, 5683)),
            ("udp:[::1]", udp("::1", None, 5683)),
            ("udp:[::1]:7000", udp("::1", None, 7000)),
            ("udp:fe80::1%usb0", udp("fe80::1", Some("usb0"), 5683)),
            ("udp:fe80::1%usb0:7000", udp("fe80::1", Some("usb0"), 7000)),
            ("udp:[fe80::1%usb0]:7000", udp("fe80::1", Some("usb0"), 7000)),
            ("udp:[fe80::1]%usb0:7000", udp("fe80::1", Some("usb0"), 7000)),
        ] {
            assert_eq!(text.parse(), Ok(link), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_typed_again() {
        for text in [
            "serial:/dev/ttyACM0",
            "serial:/dev/ttyUSB1@9600",
            "udp:192.0.2.7",
            "udp:192.0.2.7:7000",
            "udp:::1",
            "udp:[::1]:7000",
            "udp:fe80::1%usb0",
            "udp:[fe80::1%usb0]:7000",
        ] {
            assert_eq!(text.parse::<Link>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn mistakes_are_named() {
        use ParseError as E;
        let text = |s: &str| s.to_owned();
        for (link, error) in [
            ("", E::Scheme(text(""))),
            ("/dev/ttyACM0", E::Scheme(text("/dev/ttyACM0"))),
            ("serial:", E::NoPath),
            ("serial:@9600", E::NoPath),
            ("serial:/dev/ttyACM0@fast", E::Baud(text("fast"))),
            ("serial:/dev/ttyACM0@0", E::Baud(text("0"))),
            ("udp:", E::Address(text(""))),
            ("udp:example.org", E::Address(text("example.org"))),
            ("udp:192.0.2.7:0", E::Port(text("0"))),
            ("udp:192.0.2.7:99999", E::Port(text("99999"))),
            ("udp:[::1", E::Address(text("[::1"))),
            ("udp:[::1]7000", E::Address(text("[::1]7000"))),
            ("udp:fe80::1", E::NoZone("fe80::1".parse().unwrap())),
            ("udp:ff02::fd", E::NoZone("ff02::fd".parse().unwrap())),
            ("udp:fe80::1%", E::Zone(text(""))),
            ("udp:192.0.2.7%eth0", E::Zone(text("eth0"))),
            ("udp:[fe80::1%a]%b", E::Address(text("[fe80::1%a]%b"))),
        ] {
            assert_eq!(link.parse::<Link>(), Err(error), "{link}");
        }
    }
}
