//! CoAP over UDP (RFC 7252), between the two ends of a cable and no farther.
//!
//! IPv6, port 5683, link-local sources and destinations (fe80::/64): what else arrives is dropped without a word, so that
//! a host which shares its connection does not carry the device to a LAN. The firmware gives its stack one static
//! link-local address, no gateway, no DHCP, no SLAAC.
//!
//! By multicast, at the group of all CoAP nodes (ff02::fd), the device can be found and nothing else: only
//! non-confirmable requests to GET `/.well-known/core` and `/comm` are served. The answer is sent after a random part of
//! the leisure (RFC 7252 section 8.2), while other requests are served; until then further ones to the group are dropped.
//! An error is no answer to a group.

use core::{
    convert::Infallible,
    fmt,
    future::pending,
    net::{IpAddr, Ipv6Addr},
};

use device::{
    DATAGRAM_LEN,
    transport::Datagrams,
    transport::group::{is_discovery, is_success},
};
use embassy_futures::select::{Either, select};
use embassy_net::{
    IpAddress, IpEndpoint, MulticastError, Stack,
    udp::{BindError, PacketMetadata, UdpMetadata, UdpSocket},
};
use embassy_time::{Duration, Instant, Timer, with_timeout};

/// The port of CoAP (RFC 7252 section 6.1).
pub const PORT: u16 = 5683;
/// All CoAP nodes on the link (RFC 7252 section 12.8).
pub const ALL_COAP_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfd);
/// DEFAULT_LEISURE (RFC 7252 section 8.2). A cable with one device at its end may do with less.
pub const DEFAULT_LEISURE: Duration = Duration::from_secs(5);

/// How long an answer waits for the one before it to leave. smoltcp asks for a neighbour's hardware address once a
/// second, so the one before was asked for twice.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Memory for the socket: two datagrams in, one out.
pub struct Buffers {
    incoming: [u8; 2 * DATAGRAM_LEN],
    incoming_metadata: [PacketMetadata; 4],
    outgoing: [u8; DATAGRAM_LEN],
    outgoing_metadata: [PacketMetadata; 1],
}

impl Buffers {
    /// Empty buffers.
    pub const fn new() -> Self {
        Buffers {
            incoming: [0; 2 * DATAGRAM_LEN],
            incoming_metadata: [PacketMetadata::EMPTY; 4],
            outgoing: [0; DATAGRAM_LEN],
            outgoing_metadata: [PacketMetadata::EMPTY; 1],
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// Why there is no socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The port cannot be bound.
    Port(BindError),
    /// The multicast group cannot be joined.
    Group(MulticastError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Port(_) => "CoAP's port cannot be bound; give the stack's port 5683 to this link only",
            Self::Group(_) => "the group of all CoAP nodes cannot be joined; leave another group first",
        })
    }
}

impl core::error::Error for Error {}

/// CoAP's port on a network stack.
///
/// Addresses of peers are any `A` that an [`IpEndpoint`] turns into, and that turns back into one if it is one of UDP.
pub struct Udp<'a> {
    socket: UdpSocket<'a>,
    /// One byte more than a datagram may have shows which ones are too long.
    datagram: [u8; DATAGRAM_LEN + 1],
    leisure: Duration,
    random: u64,
    /// Whether the datagram that was handed out last came by multicast, and what is sent next answers it.
    answers_group: bool,
    delayed: Option<Delayed>,
}

/// An answer to a request that came by multicast.
struct Delayed {
    due: Instant,
    to: IpEndpoint,
    answer: heapless::Vec<u8, DATAGRAM_LEN>,
}

impl<'a> Udp<'a> {
    /// Opens CoAP's port on `stack` and joins the group of all CoAP nodes. Answers to it are spread over `leisure`, by
    /// `seed`: a number that is another one on each device and at each start.
    ///
    /// # Errors
    /// [`Error::Group`] if the stack's table of groups is full.
    ///
    /// # Panics
    /// If the stack has no socket left (`StackResources`).
    pub fn bind(stack: Stack<'a>, buffers: &'a mut Buffers, leisure: Duration, seed: u64) -> Result<Self, Error> {
        let Buffers { incoming, incoming_metadata, outgoing, outgoing_metadata } = buffers;
        let mut socket = UdpSocket::new(stack, incoming_metadata, incoming, outgoing_metadata, outgoing);
        socket.bind(PORT).map_err(Error::Port)?;
        stack.join_multicast_group(ALL_COAP_NODES).map_err(Error::Group)?;
        Ok(Udp { socket, datagram: [0; DATAGRAM_LEN + 1], leisure, random: seed, answers_group: false, delayed: None })
    }

    /// Whether the datagram of `len` bytes is to be handed out. Takes down whether it came by multicast.
    fn admits(&mut self, metadata: &UdpMetadata, len: usize) -> bool {
        let UdpMetadata { endpoint: from, local_address: Some(to), .. } = *metadata else { return false };
        self.answers_group = IpAddr::from(to) == ALL_COAP_NODES;
        let for_us = match self.answers_group {
            true => self.delayed.is_none() && self.datagram.get(..len).is_some_and(is_discovery),
            false => is_link_local(to),
        };
        for_us && is_link_local(from.addr) && from.port != 0
    }
}

impl<A: From<IpEndpoint> + TryInto<IpEndpoint>> Datagrams<A> for Udp<'_> {
    /// What cannot be sent is lost, as datagrams may be.
    type Error = Infallible;

    async fn receive(&mut self) -> Result<(&mut [u8], A), Self::Error> {
        let (len, from) = loop {
            // More than has room is cut.
            let keep = |bytes: &[u8], metadata| {
                let kept = self.datagram.iter_mut().zip(bytes).map(|(to, from)| *to = *from).count();
                (kept, metadata)
            };
            match select(until_due(self.delayed.as_ref()), self.socket.recv_from_with(keep)).await {
                Either::First(Delayed { to, answer, .. }) => {
                    transmit(&mut self.socket, *to, answer).await;
                    self.delayed = None;
                }
                Either::Second((len, metadata)) => {
                    if self.admits(&metadata, len) {
                        break (len, metadata.endpoint.into());
                    }
                }
            }
        };
        Ok((self.datagram.get_mut(..len).unwrap_or_default(), from))
    }

    async fn send(&mut self, to: A, datagram: &[u8]) -> Result<(), Self::Error> {
        let Ok(to) = to.try_into() else { return Ok(()) };
        if !self.answers_group {
            transmit(&mut self.socket, to, datagram).await;
        } else if is_success(datagram)
            && let Ok(answer) = heapless::Vec::from_slice(datagram)
        {
            let due = Instant::now().saturating_add(part_of(self.leisure, &mut self.random));
            self.delayed = Some(Delayed { due, to, answer });
        }
        Ok(())
    }

    async fn log(&mut self, _line: &str) -> Result<(), Self::Error> {
        Ok(())
    }
}

async fn until_due(delayed: Option<&Delayed>) -> &Delayed {
    match delayed {
        Some(delayed) => {
            Timer::at(delayed.due).await;
            delayed
        }
        None => pending().await,
    }
}

async fn transmit(socket: &mut UdpSocket<'_>, to: IpEndpoint, datagram: &[u8]) {
    if with_timeout(PATIENCE, socket.wait_send_ready()).await.is_err() {
        // smoltcp keeps a datagram, and all behind it, until its receiver's hardware address is known. A sender whose
        // address nobody has would silence the device for good: only closing the socket gets rid of the datagram.
        socket.close();
        let _ = socket.bind(PORT);
    }
    let _ = socket.send_to(datagram, to).await;
}

/// A part of the leisure, another one each time.
fn part_of(leisure: Duration, random: &mut u64) -> Duration {
    // Knuth's MMIX generator. Its upper half is good enough to keep devices from speaking all at once.
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    Duration::from_millis((*random >> 32).checked_rem(leisure.as_millis()).unwrap_or(0))
}

/// Of fe80::/10 only fe80::/64 is in use (RFC 4291 section 2.5.6), and has a route.
fn is_link_local(address: IpAddress) -> bool {
    matches!(address.into(), IpAddr::V6(address) if matches!(address.segments(), [0xfe80, 0, 0, 0, ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_a_group_are_spread_over_the_leisure() {
        let mut delays = (0..100).map(|seed| part_of(DEFAULT_LEISURE, &mut { seed }).as_millis()).collect::<Vec<_>>();
        let mut random = 0;
        delays.extend((0..100).map(|_| part_of(DEFAULT_LEISURE, &mut random).as_millis()));
        let tenths = |delay: &u64| delay * 10 / DEFAULT_LEISURE.as_millis();
        for tenth in 0..10 {
            assert!(delays.iter().any(|delay| tenths(delay) == tenth), "{tenth}");
        }
        assert!(delays.iter().all(|delay| tenths(delay) < 10));
    }
}
