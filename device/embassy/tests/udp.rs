//! CoAP over UDP on a network stack: whom the device hears, and what it says to a group. The host at the other end of
//! the cable is a second stack.

use std::{cell::RefCell, net::Ipv6Addr};

use commissionable_device_embassy::udp::{ALL_COAP_NODES, Buffers, PORT, Udp};
use device::{
    DATAGRAM_LEN,
    transport::{Service, serve},
};
use embassy_futures::{
    block_on,
    join::join5,
    select::{Either, select},
};
use embassy_net::{
    Config, ConfigV6, IpEndpoint, Ipv6Cidr, Stack, StackResources, StaticConfigV6,
    udp::{PacketMetadata, UdpSocket},
};
use embassy_net_driver_channel::{
    RxRunner, State, TxRunner,
    driver::{HardwareAddress, LinkState},
};
use embassy_time::{Duration, with_timeout};
use hexlit::hex;

const DEVICE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Link-local addresses of these (RFC 4291 appendix A).
const DEVICE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x00ff, 0xfe00, 1);
const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x00ff, 0xfe00, 2);
const HOST_PORT: u16 = 40_000;
const GLOBAL_DEVICE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const GLOBAL_HOST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// In fe80::/10, but not in fe80::/64.
const ODD_HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 1, 0, 0, 0, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// NON GET /comm, NON GET /.well-known/core, CON GET /comm: with tokens of their own.
const NON_COMM: &[u8] = &hex!("51010001 01 B4636F6D6D");
const NON_CORE: &[u8] = &hex!("51010002 02 BB2E77656C6C2D6B6E6F776E 04636F7265");
const CON_COMM: &[u8] = &hex!("41010003 03 B4636F6D6D");
/// What a group must not be asked, or told.
const NOT_FOR_GROUPS: [(&str, &[u8]); 8] = [
    ("confirmable", CON_COMM),
    ("NON GET /comm/owner", &hex!("51010004 04 B4636F6D6D 056F776E6572")),
    ("NON POST /comm", &hex!("51020005 05 B4636F6D6D")),
    ("NON GET /comm with OSCORE", &hex!("51010006 06 90 24636F6D6D")),
    ("NON 2.05 with a path", &hex!("51450007 07 B4636F6D6D")),
    ("reset", &hex!("70000008")),
    ("ping", &hex!("40000009")),
    ("no CoAP", b"hello"),
];

const CONTENT: u8 = 0x45;
const NOT_ACCEPTABLE: u8 = 0x86;

const AT_ONCE: Duration = Duration::from_ticks(0);
const NOT_SOON: Duration = Duration::from_secs(1_000_000);
/// Nothing here takes as long.
const STUCK: Duration = Duration::from_secs(60);
const MTU: usize = 1514;

#[test]
fn a_link_local_peer_is_answered_where_it_asked_from() {
    let (answer, served) = Cable::new().run(async |host| {
        host.send(CON_COMM, DEVICE).await;
        host.receive().await
    });
    assert_eq!(answer, (answer_to(CON_COMM, CONTENT), IpEndpoint::new(DEVICE.into(), PORT)));
    assert_eq!(served, [(CON_COMM.to_vec(), IpEndpoint::new(HOST.into(), HOST_PORT))]);
}

#[test]
fn sources_that_are_not_link_local_are_not_served() {
    for host in [GLOBAL_HOST, ODD_HOST] {
        let (_, served) = Cable { host, ..Cable::new() }.run(async |host| {
            host.send(CON_COMM, DEVICE).await;
            host.send(NON_COMM, ALL_COAP_NODES).await;
            host.stack.set_config_v6(ConfigV6::Static(address(HOST)));
            host.send(NON_CORE, ALL_COAP_NODES).await;
            host.receive().await
        });
        assert_eq!(requests(&served), [NON_CORE], "{host}");
    }
}

#[test]
fn a_destination_that_is_not_link_local_is_not_served() {
    let (_, served) = Cable { device: GLOBAL_DEVICE, ..Cable::new() }.run(async |host| {
        host.send(CON_COMM, GLOBAL_DEVICE).await;
        host.send(NON_COMM, ALL_COAP_NODES).await;
        host.receive().await
    });
    assert_eq!(requests(&served), [NON_COMM]);
}

#[test]
fn a_sender_without_a_port_is_not_served() {
    let tamper = |frame: &mut [u8]| {
        if frame.ends_with(CON_COMM) {
            swap_words(frame, frame::SOURCE_PORT, frame::SOURCE_ZERO);
        }
    };
    let (_, served) = Cable { tamper, ..Cable::new() }.run(async |host| {
        host.send(CON_COMM, DEVICE).await;
        host.send(NON_COMM, DEVICE).await;
        host.receive().await
    });
    assert_eq!(requests(&served), [NON_COMM]);
}

#[test]
fn a_datagram_that_is_too_long_is_cut_but_not_to_a_length_that_may_be() {
    let longest = [CON_COMM, &[0xff; DATAGRAM_LEN][CON_COMM.len()..]].concat();
    let too_long = [&longest[..], &[0xff]].concat();
    let (answer, served) = Cable::new().run(async |host| {
        host.send(&too_long, DEVICE).await;
        host.receive().await;
        host.send(&[&too_long[..], &[0xff; 100]].concat(), DEVICE).await;
        host.receive().await;
        host.send(NON_COMM, DEVICE).await;
        host.receive().await;
        host.send(&longest, DEVICE).await;
        host.receive().await
    });
    assert_eq!(requests(&served), [&too_long, &too_long, NON_COMM, &longest]);
    assert_eq!(answer.0, answer_to(&longest, CONTENT));
}

#[test]
fn an_answer_that_nobody_takes_does_not_keep_the_next_one() {
    // A neighbour at the address that this makes is looked for in vain.
    let tamper = |frame: &mut [u8]| {
        if frame.ends_with(NON_COMM) {
            swap_words(frame, frame::SOURCE_FF, frame::SOURCE_FE);
        }
    };
    let (answer, served) = Cable { tamper, ..Cable::new() }.run(async |host| {
        host.send(NON_COMM, DEVICE).await;
        host.send(CON_COMM, DEVICE).await;
        host.receive().await
    });
    assert_eq!(requests(&served), [NON_COMM, CON_COMM]);
    assert_eq!(answer.0, answer_to(CON_COMM, CONTENT));
}

#[test]
fn by_multicast_the_device_is_found_and_nothing_else() {
    for (what, request) in NOT_FOR_GROUPS {
        let (answers, served) = Cable::new().run(async |host| {
            host.send(request, ALL_COAP_NODES).await;
            host.send(NON_CORE, ALL_NODES).await;
            host.send(NON_COMM, ALL_COAP_NODES).await;
            let comm = host.receive().await;
            host.send(NON_CORE, ALL_COAP_NODES).await;
            [comm, host.receive().await]
        });
        assert_eq!(requests(&served), [NON_COMM, NON_CORE], "{what}");
        let device = IpEndpoint::new(DEVICE.into(), PORT);
        assert_eq!(answers, [NON_COMM, NON_CORE].map(|request| (answer_to(request, CONTENT), device)));
    }
}

#[test]
fn an_answer_to_a_group_waits_and_keeps_nobody_else_waiting() {
    let (answer, served) = Cable { leisure: NOT_SOON, ..Cable::new() }.run(async |host| {
        host.send(NON_COMM, ALL_COAP_NODES).await;
        host.send(NON_CORE, ALL_COAP_NODES).await;
        host.send(CON_COMM, DEVICE).await;
        host.receive().await
    });
    assert_eq!(answer.0, answer_to(CON_COMM, CONTENT));
    assert_eq!(requests(&served), [NON_COMM, CON_COMM], "one answer waits at a time");
}

#[test]
fn an_error_is_no_answer_to_a_group() {
    let code = |request: &[u8]| if request == NON_COMM { NOT_ACCEPTABLE } else { CONTENT };
    let (answers, served) = Cable { code, ..Cable::new() }.run(async |host| {
        host.send(NON_COMM, ALL_COAP_NODES).await;
        host.send(NON_CORE, ALL_COAP_NODES).await;
        let core = host.receive().await;
        host.send(NON_COMM, DEVICE).await;
        [core, host.receive().await]
    });
    assert_eq!(requests(&served), [NON_COMM, NON_CORE, NON_COMM]);
    assert_eq!(answers.map(|(answer, _)| answer), [answer_to(NON_CORE, CONTENT), answer_to(NON_COMM, NOT_ACCEPTABLE)]);
}

/// A device and a host with a cable between them.
struct Cable {
    device: Ipv6Addr,
    host: Ipv6Addr,
    leisure: Duration,
    /// The response code by which the device answers a request.
    code: fn(&[u8]) -> u8,
    /// What happens to frames on their way to the device.
    tamper: fn(&mut [u8]),
}

impl Cable {
    fn new() -> Self {
        Cable { device: DEVICE, host: HOST, leisure: AT_ONCE, code: |_| CONTENT, tamper: |_| {} }
    }

    /// Lets the host do something. Returns what it returns, and the requests that the device served.
    fn run<T>(self, scenario: impl AsyncFnOnce(&mut Host) -> T) -> (T, Vec<(Vec<u8>, IpEndpoint)>) {
        let (mut device_state, mut host_state) = (State::<MTU, 8, 8>::new(), State::<MTU, 8, 8>::new());
        let (mut device_end, device_driver) =
            embassy_net_driver_channel::new(&mut device_state, HardwareAddress::Ethernet(DEVICE_MAC));
        let (mut host_end, host_driver) =
            embassy_net_driver_channel::new(&mut host_state, HardwareAddress::Ethernet(HOST_MAC));
        device_end.set_link_state(LinkState::Up);
        host_end.set_link_state(LinkState::Up);
        let (_, to_device, from_device) = device_end.split();
        let (_, to_host, from_host) = host_end.split();

        let (mut device_resources, mut host_resources) = (StackResources::<1>::new(), StackResources::<1>::new());
        let config = |ip| Config::ipv6_static(address(ip));
        let (stack, mut device_stack) = embassy_net::new(device_driver, config(self.device), &mut device_resources, 1);
        let mut buffers = Buffers::new();
        let mut link = Udp::bind(stack, &mut buffers, self.leisure, 1).expect("port and group are free");
        let service = RefCell::new(Recorder { code: self.code, served: Vec::new() });

        let (stack, mut host_stack) = embassy_net::new(host_driver, config(self.host), &mut host_resources, 2);
        let (mut rx, mut rx_metadata) = ([0; 2 * MTU], [PacketMetadata::EMPTY; 4]);
        let (mut tx, mut tx_metadata) = ([0; 2 * MTU], [PacketMetadata::EMPTY; 4]);
        let socket = UdpSocket::new(stack, &mut rx_metadata, &mut rx, &mut tx_metadata, &mut tx);
        let mut host = Host { stack, socket };
        host.socket.bind(HOST_PORT).expect("the port is free");

        let running = join5(
            device_stack.run(),
            host_stack.run(),
            carry(from_host, to_device, self.tamper),
            carry(from_device, to_host, |_| {}),
            serve::<Address, _, _>(&service, &mut link, || 0, async || std::future::pending().await),
        );
        let returned = match block_on(with_timeout(STUCK, select(running, scenario(&mut host)))) {
            Ok(Either::Second(returned)) => returned,
            Ok(Either::First(_)) => panic!("the device stopped"),
            Err(_) => panic!("nothing comes; served: {:?}", service.borrow().served),
        };
        (returned, service.into_inner().served)
    }
}

/// Everything is on the link, as far as addresses tell.
fn address(ip: Ipv6Addr) -> StaticConfigV6 {
    StaticConfigV6 { address: Ipv6Cidr::new(ip, 0), gateway: None, dns_servers: Default::default() }
}

async fn carry(mut from: TxRunner<'_, MTU>, mut to: RxRunner<'_, MTU>, tamper: fn(&mut [u8])) {
    loop {
        let frame = from.tx_buf().await;
        tamper(frame);
        to.rx_buf().await[..frame.len()].copy_from_slice(frame);
        to.rx_done(frame.len());
        from.tx_done();
    }
}

/// Where things are in an Ethernet frame with IPv6 and UDP; the words of [`HOST`]'s address by what they are.
mod frame {
    pub(crate) const SOURCE_ZERO: usize = 14 + 8 + 2 * 4;
    pub(crate) const SOURCE_FF: usize = 14 + 8 + 2 * 5;
    pub(crate) const SOURCE_FE: usize = 14 + 8 + 2 * 6;
    pub(crate) const SOURCE_PORT: usize = 14 + 40;
}

/// Swaps 16-bit words, which leaves UDP's checksum right.
fn swap_words(frame: &mut [u8], one: usize, other: usize) {
    frame.swap(one, other);
    frame.swap(one + 1, other + 1);
}

struct Host<'a> {
    stack: Stack<'a>,
    socket: UdpSocket<'a>,
}

impl Host<'_> {
    /// Sends a datagram to the device's port, and waits until it is on its way.
    async fn send(&mut self, datagram: &[u8], to: Ipv6Addr) {
        self.socket.send_to(datagram, IpEndpoint::new(to.into(), PORT)).await.expect("there is a route");
        self.socket.flush().await;
    }

    async fn receive(&mut self) -> (Vec<u8>, IpEndpoint) {
        let mut datagram = vec![0; MTU];
        let (len, metadata) = self.socket.recv_from(&mut datagram).await.expect("it fits");
        datagram.truncate(len);
        (datagram, metadata.endpoint)
    }
}

/// Addresses of a device with more links than this one.
#[derive(Clone, Copy)]
enum Address {
    #[expect(dead_code, reason = "nobody is there")]
    Serial,
    Udp(IpEndpoint),
}

impl From<IpEndpoint> for Address {
    fn from(endpoint: IpEndpoint) -> Self {
        Address::Udp(endpoint)
    }
}

impl TryFrom<Address> for IpEndpoint {
    type Error = ();

    fn try_from(address: Address) -> Result<Self, ()> {
        match address {
            Address::Serial => Err(()),
            Address::Udp(endpoint) => Ok(endpoint),
        }
    }
}

/// Takes down what it is asked, and answers everything.
struct Recorder {
    code: fn(&[u8]) -> u8,
    served: Vec<(Vec<u8>, IpEndpoint)>,
}

impl Service<Address> for Recorder {
    fn handle(&mut self, from: Address, datagram: &mut [u8], _now: u64, out: &mut [u8]) -> Option<usize> {
        self.served.push((datagram.to_vec(), from.try_into().expect("there is no other link")));
        let cut = &datagram[..datagram.len().min(out.len())];
        let answer = answer_to(cut, (self.code)(datagram));
        out[..answer.len()].copy_from_slice(&answer);
        Some(answer.len())
    }
}

/// The request with a response's code: enough to tell whose answer it is.
fn answer_to(request: &[u8], code: u8) -> Vec<u8> {
    let mut answer = request.to_vec();
    answer[1] = code;
    answer
}

fn requests(served: &[(Vec<u8>, IpEndpoint)]) -> Vec<&[u8]> {
    served.iter().map(|(request, _)| request.as_slice()).collect()
}
