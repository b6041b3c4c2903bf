//! Datagrams over UDP: one socket, connected to one device.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use tokio::net::{UdpSocket, lookup_host};

use super::{Datagram, Datagrams, Error, Io, Link, MAX_DATAGRAM};

/// A socket that hears only the device it talks to.
pub(super) async fn open(address: IpAddr, zone: Option<&str>, port: u16) -> Result<UdpLine, Error> {
    let device = resolve(address, zone, port).await?;
    let socket = bind(device).await?;
    socket.connect(device).await.map_err(|source| failed(device, source))?;
    Ok(UdpLine { socket, device })
}

/// A multicast group, each of whose members may answer.
///
/// A member whose address is known is asked there as well, from the same socket. A firewall that lets in only what was asked
/// for does not know the answers to a multicast request as such, and drops them; those of that member it knows then.
pub(crate) struct Group {
    socket: UdpSocket,
    group: SocketAddr,
    member: Option<SocketAddr>,
    zone: Option<String>,
}

impl Group {
    /// The group that a link with a multicast address stands for.
    pub(crate) async fn open(link: &Link, member: Option<IpAddr>) -> Result<Self, Error> {
        let Link::Udp { address, zone, port } = link else {
            return Err(Error::Missing { what: format!("a multicast group at {link}") });
        };
        let group = resolve(*address, zone.as_deref(), *port).await?;
        let member = match member {
            Some(member) => Some(resolve(member, zone.as_deref(), *port).await?),
            None => None,
        };
        Ok(Self { socket: bind(group).await?, group, member, zone: zone.clone() })
    }

    /// Sends a datagram to all members, and once more to the one that is known. One of the two ways is enough.
    pub(crate) async fn send(&self, datagram: &[u8]) -> Result<(), Error> {
        let to_all = self.socket.send_to(datagram, self.group).await;
        let to_member = match self.member {
            Some(member) => self.socket.send_to(datagram, member).await.is_ok(),
            None => false,
        };
        match to_all {
            Err(source) if !to_member => Err(failed(self.group, source)),
            _ => Ok(()),
        }
    }

    /// Waits for the next datagram from anybody, and says where that one can be reached.
    pub(crate) async fn receive(&self) -> Result<(Vec<u8>, Link), Error> {
        let mut bytes = vec![0; MAX_DATAGRAM];
        let (length, from) = self.socket.recv_from(&mut bytes).await.map_err(|source| failed(self.group, source))?;
        bytes.truncate(length);
        let is_link_local = matches!(from.ip(), IpAddr::V6(address) if address.is_unicast_link_local());
        let zone = self.zone.clone().filter(|_| is_link_local);
        Ok((bytes, Link::Udp { address: from.ip(), zone, port: from.port() }))
    }
}

async fn bind(peer: SocketAddr) -> Result<UdpSocket, Error> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).await.map_err(|source| failed(peer, source))
}

/// The operating system knows which number an interface has.
async fn resolve(address: IpAddr, zone: Option<&str>, port: u16) -> Result<SocketAddr, Error> {
    let Some(zone) = zone else { return Ok(SocketAddr::new(address, port)) };
    let missing = || Error::Missing { what: format!("network interface {zone}") };
    let mut found = lookup_host((format!("{address}%{zone}"), port)).await.map_err(|_| missing())?;
    found.next().ok_or_else(missing)
}

pub(super) struct UdpLine {
    socket: UdpSocket,
    device: SocketAddr,
}

impl Datagrams for UdpLine {
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> Io<'a, usize> {
        Box::pin(async move { self.socket.send(datagram).await.map_err(|error| failed(self.device, error)) })
    }

    fn receive(&mut self) -> Io<'_, Datagram> {
        Box::pin(async move {
            // One byte more than the longest datagram, to tell that one from a longer one cut off.
            let mut bytes = vec![0; MAX_DATAGRAM + 1];
            loop {
                let length = self.socket.recv(&mut bytes).await.map_err(|error| failed(self.device, error))?;
                if length <= MAX_DATAGRAM {
                    bytes.truncate(length);
                    return Ok(Datagram { bytes, line_bytes: length });
                }
            }
        })
    }
}

fn failed(device: SocketAddr, source: io::Error) -> Error {
    // What is said of a USB cable that was pulled: its interface is gone, or on its way.
    const GONE: [Errno; 5] = [Errno::NODEV, Errno::NXIO, Errno::NETDOWN, Errno::NETUNREACH, Errno::ADDRNOTAVAIL];
    let is_gone = GONE.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error()));
    match (source.kind(), device.ip()) {
        (_, IpAddr::V6(_)) if source.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => Error::NoIpv6,
        (io::ErrorKind::ConnectionRefused, _) => Error::Refused { address: device.to_string() },
        (_, IpAddr::V6(ip)) if is_gone && (ip.is_unicast_link_local() || ip.is_multicast()) => {
            Error::Unplugged { port: device.to_string() }
        }
        _ => Error::Failed { what: device.to_string(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_go_both_ways_and_strangers_are_not_heard() {
        for local in ["127.0.0.1", "::1"] {
            let device = UdpSocket::bind((local, 0)).await.unwrap();
            let port = device.local_addr().unwrap().port();
            let mut line = open(local.parse().unwrap(), None, port).await.unwrap();

            assert_eq!(line.send(b"question").await.unwrap(), 8);
            let mut bytes = [0; 16];
            let (length, from) = device.recv_from(&mut bytes).await.unwrap();
            assert_eq!(&bytes[..length], b"question");

            let stranger = UdpSocket::bind((local, 0)).await.unwrap();
            stranger.send_to(b"believe me", from).await.unwrap();
            device.send_to(&[7; MAX_DATAGRAM + 1], from).await.unwrap();
            device.send_to(b"answer", from).await.unwrap();
            assert_eq!(line.receive().await.unwrap(), Datagram { bytes: b"answer".to_vec(), line_bytes: 6 });
        }
    }

    #[tokio::test]
    async fn a_port_where_nothing_listens_is_refused() {
        let unused = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let mut line = open("127.0.0.1".parse().unwrap(), None, unused).await.unwrap();
        line.send(b"hello").await.unwrap();
        assert!(matches!(line.receive().await, Err(Error::Refused { .. })));
    }

    /// As on a machine that was started with ipv6.disable=1.
    #[test]
    fn a_machine_without_ipv6_is_told_apart_from_a_loose_cable() {
        let unsupported = || io::Error::from_raw_os_error(Errno::AFNOSUPPORT.raw_os_error());
        assert!(matches!(failed("[fe80::1]:5683".parse().unwrap(), unsupported()), Error::NoIpv6));
        assert!(matches!(failed("192.0.2.7:5683".parse().unwrap(), unsupported()), Error::Failed { .. }));
    }

    #[tokio::test]
    async fn an_interface_that_is_not_there_is_missing() {
        let opened = open("fe80::1".parse().unwrap(), Some("nosuchif0"), 5683).await;
        assert!(matches!(opened, Err(Error::Missing { .. })));
    }
}
