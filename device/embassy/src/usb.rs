//! A device at a USB cable: one composite device with two functions, and one server behind both.
//!
//! - CDC-ACM, a serial port with slipmux, as a UART has it;
//! - CDC-NCM, a network interface with CoAP over UDP, on IPv6 link-local addresses.
//!
//! [`serve`] is all that a board calls; it brings the `embassy_usb_driver::Driver` of its chip. `docs/usb.md` tells how the
//! pieces fit, and what a host sees.
//!
//! Nothing that a host does ends it: cables are pulled, hosts sleep, and ports are closed in the middle of a frame.

mod acm;
mod counted;
mod counters;
mod ncm;

use core::{cell::RefCell, convert::Infallible, future::pending};

use cbor_schemas::DeviceId;
use device::transport::{LogLine, Service, Source, serve as serve_link};
use embassy_futures::join::{join, join4};
use embassy_net::{ConfigV6, Ipv6Cidr, StackResources, StaticConfigV6};
use embassy_net_driver_channel as channel;
use embassy_time::Duration;
use embassy_usb::{
    Builder, Config,
    class::{
        cdc_acm::{self, CdcAcmClass},
        cdc_ncm::{self, CdcNcmClass},
    },
    driver::Driver,
};
use protocol::usb::{PRODUCT_ID, VENDOR_ID};

use crate::udp::{self, Udp};
use acm::{AcmLine, Terminal};
use counted::Counted;
use ncm::{MTU, Network};

pub use self::counters::Counters;
pub use embassy_net::IpEndpoint;
pub use protocol::usb::{MacAddresses, link_local, mac_addresses};

/// Bytes in a packet of a bulk endpoint at full speed: what microcontrollers have (USB 2.0, section 5.8.3).
pub const FULL_SPEED: usize = 64;
/// Bytes in a packet of a bulk endpoint at high speed.
pub const HIGH_SPEED: usize = 512;

/// One device is at the end of a cable, so answers to a group need not be spread over seconds.
const LEISURE: Duration = Duration::from_millis(100);

/// What the host is told of the device, and what it is given.
pub struct Setup {
    /// The device ID: the serial number, as the host sees it, and where both hardware addresses come from.
    pub device: DeviceId,
    /// `iManufacturer`, at most 31 characters.
    pub manufacturer: &'static str,
    /// `iProduct`, at most 31 characters.
    pub product: &'static str,
    /// What the device draws from the cable at most, in milliamperes up to 500. Zero for one that has a supply of its own.
    pub max_power: u16,
    /// A random number, another one at each start. It is no secret.
    pub seed: u64,
    /// What was refused so far.
    pub counters: Counters,
}

/// Who sent a datagram. Answers go back there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    /// Whoever has the serial port open.
    Serial,
    /// An address at the network.
    Udp(IpEndpoint),
}

impl Source for Address {
    fn is_line(&self) -> bool {
        matches!(self, Self::Serial)
    }
}

impl From<IpEndpoint> for Address {
    fn from(endpoint: IpEndpoint) -> Self {
        Self::Udp(endpoint)
    }
}

impl TryFrom<Address> for IpEndpoint {
    type Error = ();

    fn try_from(address: Address) -> Result<Self, ()> {
        match address {
            Address::Udp(endpoint) => Ok(endpoint),
            Address::Serial => Err(()),
        }
    }
}

/// Memory for it, some 13 KiB: descriptors, Ethernet frames, datagrams, and the network stack.
pub struct Resources<'d> {
    configuration: [u8; 256],
    bos: [u8; 32],
    control: [u8; 128],
    acm: cdc_acm::State<'d>,
    ncm: cdc_ncm::State<'d>,
    frames: channel::State<MTU, 2, 2>,
    stack: StackResources<1>,
    datagrams: udp::Buffers,
}

impl Resources<'_> {
    /// Empty.
    pub fn new() -> Self {
        Resources {
            configuration: [0; 256],
            bos: [0; 32],
            control: [0; 128],
            acm: cdc_acm::State::new(),
            ncm: cdc_ncm::State::new(),
            frames: channel::State::new(),
            stack: StackResources::new(),
            datagrams: udp::Buffers::new(),
        }
    }
}

impl Default for Resources<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves `service` to whoever is at the other end of the cable, over both functions, for ever. `PACKET` is
/// [`FULL_SPEED`] or [`HIGH_SPEED`], as the driver's bus is.
///
/// Whoever opens the serial port is greeted with the line `greeting`: it is there for the report line, since nobody could
/// read it when the device started. What was dropped so far follows ([`Counters`]), if anything was. Lines of the log follow
/// as they come. While nobody has the port open they are dropped.
///
/// A device with other links has addresses of its own, `A`, to which [`Address`] is one kind.
///
/// # Errors
/// None after the start; see [`Udp::bind`].
///
/// # Panics
/// If the driver has too few endpoints: it takes three IN and two OUT.
pub async fn serve<'d, const PACKET: usize, A, D: Driver<'d>, S: Service<A>>(
    driver: D,
    setup: &'d Setup,
    resources: &'d mut Resources<'d>,
    service: &RefCell<S>,
    clock: impl Fn() -> u64,
    greeting: impl Fn() -> LogLine,
    mut next_log_line: impl AsyncFnMut() -> LogLine,
) -> Result<Infallible, udp::Error>
where
    A: Copy + From<Address> + From<IpEndpoint> + TryInto<IpEndpoint>,
{
    let Resources { configuration, bos, control, acm, ncm, frames, stack, datagrams } = resources;
    let macs = mac_addresses(&setup.device);
    let driver = Counted::new(driver, &setup.counters);
    let mut builder = Builder::new(driver, config(setup), configuration, bos, &mut [], control);
    // 64 or 512.
    let packet_size = PACKET as u16;
    let acm = CdcAcmClass::new(&mut builder, acm, packet_size);
    let ncm = CdcNcmClass::new(&mut builder, ncm, macs.host, packet_size);
    let mut device = builder.build();

    let (frames, net_device) = channel::new(frames, channel::driver::HardwareAddress::Ethernet(macs.device));
    let (stack, mut network_stack) = embassy_net::new(net_device, net_config(setup), stack, setup.seed);
    let mut udp = Udp::bind(stack, datagrams, LEISURE, setup.seed)?;
    let network = Network::new(ncm, frames, &setup.counters);

    let (sender, receiver, changes) = acm.split_with_control();
    let terminal = Terminal::new(&setup.counters);
    let mut serial = AcmLine::<_, PACKET>::new(sender, receiver, &terminal).into_link(A::from(Address::Serial));
    let lines = async || terminal.greet_or(&greeting, &mut next_log_line).await;

    // The order matters: what the host asked for comes first, then what it means for the port, then the port.
    let functions = join(
        async {
            // Its port never fails.
            let _ = serve_link(service, &mut serial, &clock, lines).await;
            pending::<()>().await
        },
        async {
            let Ok(()) = serve_link(service, &mut udp, &clock, async || pending().await).await;
            pending::<()>().await
        },
    );
    join4(device.run(), terminal.follow(changes), join(network.run(), network_stack.run()), functions).await;
    pending().await
}

fn config(setup: &Setup) -> Config<'_> {
    let mut config = Config::new(VENDOR_ID, PRODUCT_ID);
    config.manufacturer = Some(setup.manufacturer);
    config.product = Some(setup.product);
    config.serial_number = Some(setup.device.as_str());
    config.max_power = setup.max_power;
    config.self_powered = setup.max_power == 0;
    config
}

/// One static address, and nothing else: no gateway, no DHCP, and routers' advertisements have no effect.
fn net_config(setup: &Setup) -> embassy_net::Config {
    let address = Ipv6Cidr::new(link_local(&setup.device), 64);
    let mut config = embassy_net::Config::default();
    config.ipv6 = ConfigV6::Static(StaticConfigV6 { address, gateway: None, dns_servers: Default::default() });
    config
}
