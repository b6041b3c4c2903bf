//! `device-sim`: the commissionable device on a host, with the same code that runs on a board.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "standard output is the board's console")]

mod flash;
mod small;
mod usb;

use std::{
    cell::RefCell,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    str::FromStr,
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};
use cbor_schemas::{ClaimPolicy, DeviceId, DeviceInfo, Method, Profile, report};
use clap::{
    Parser, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use critical_section as _;
use device::{
    Answer, Board, Config, DATAGRAM_LEN, Device, HardwareSecret, Memory, Problem, ProductResource, Server,
    content_format,
    transport::serial::Serial,
    transport::{Datagrams, LogLine, Source, serve},
    values::{Value, Values},
};
use device_board::led;
use device_embassy::{
    client::{Client, Request},
    usb::IpEndpoint,
};
use device_sim::{pty, until_told_to_stop};
use embassy_time as _;
use embassy_usb_usbip::Speed;
use embedded_io_adapters::tokio_1::FromTokio;
use rand_core::OsRng;
use tokio::{
    net::UdpSocket,
    signal::unix::{SignalKind, signal},
    sync::broadcast,
    task::{JoinSet, LocalSet},
};
use tokio_serial::SerialStream;

use crate::flash::SimFlash;

/// A commissionable device on this machine: the code of a board, its serial line a pty, its flash a file, its USB cable in a kernel.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// Serial line: makes a pty and a link to it at PATH. May be given several times.
    #[arg(long, value_name = "PATH")]
    pty: Vec<PathBuf>,
    /// Serves CoAP over UDP at ADDR:PORT, a loopback or link-local address. May be given several times.
    #[arg(long, value_name = "ADDR:PORT")]
    udp: Vec<SocketAddr>,
    /// USB: plugs the device into this machine's kernel (`vhci`: it takes root, and the module vhci-hcd), or serves USB/IP
    /// at a loopback ADDR:PORT: `usbip attach -r ADDR -b 1-1`.
    #[arg(long, value_name = "vhci|ADDR:PORT")]
    usb: Option<usb::Host>,
    /// How fast the USB cable is.
    #[arg(long, value_name = "SPEED", default_value = "full")]
    usb_speed: UsbSpeed,
    /// Flash image, made if it does not exist; without it the flash is RAM and gone with the process.
    #[arg(long, value_name = "FILE")]
    flash: Option<PathBuf>,
    /// Device ID (DEV URN, RFC 9039).
    #[arg(long, value_name = "URN", default_value = "urn:dev:ops:32473-sim-{}")]
    id: String,
    /// How much of the protocol it speaks. `minimal` is for targets too small for EDHOC, so it implies --small.
    #[arg(long, value_name = "PROFILE", default_value = "full", value_parser = one_of::<Profile>(Profile::ALL.iter().map(|it| it.as_str())))]
    profile: Profile,
    /// The device of small targets: one serial line, a report line, and no owner slot.
    #[arg(long)]
    small: bool,
    /// Who may claim the device while nobody owns it. A long press of the button, which shows that somebody is there, is the
    /// signal USR2: of each device in this process. Once a factory has been there, `open` acts as `voucher`.
    #[arg(long, value_name = "POLICY", default_value = "open", value_parser = one_of::<ClaimPolicy>(ClaimPolicy::ALL.iter().map(|it| it.as_str())))]
    claim_policy: ClaimPolicy,
    /// Lets whoever is present empty the owner slot.
    #[arg(long)]
    reset_by_presence: bool,
    /// Where the light is that the button of this device switches, at a loopback or link-local address. A press of the
    /// button is the signal USR1. Both devices have to be yours, by the device list of each.
    #[arg(long, value_name = "ADDR:PORT")]
    switches: Option<SocketAddr>,
    /// Lets the owner inject a key, to restore it after an erase: `commissioner commission --escrow`.
    #[arg(long)]
    takes_keys: bool,
    /// The secret of the hardware, 32 bytes: the device's first key is derived from it, so it is the same after each erase.
    #[arg(long, value_name = "FILE")]
    hardware_secret: Option<PathBuf>,
    /// Simulates COUNT devices at once: `{}` in PATH, FILE and URN stands for 0, 1, 2, ..., and ports count on.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    count: u16,
}

/// Whom a datagram came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Address {
    /// The n-th serial line: there is one peer at its other end.
    Serial(usize),
    Udp(SocketAddr),
    Usb(device_embassy::usb::Address),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum UsbSpeed {
    Full,
    High,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    if args.pty.is_empty() && args.udp.is_empty() && args.usb.is_none() {
        eprintln!("device-sim: nothing to serve: give --pty PATH, --udp ADDR:PORT, --usb vhci, or several");
        return ExitCode::from(2);
    }
    let devices = LocalSet::new();
    let served = devices.run_until(async {
        let mut running = JoinSet::new();
        for number in 0..args.count {
            simulate(&args.of_device(number)?, &mut running)?;
        }
        tokio::select! {
            Some(ended) = running.join_next() => ended?,
            () = until_told_to_stop() => Ok(()),
        }
    });
    match served.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Takes one of the `words`, which all parse.
fn one_of<T>(words: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = cbor_schemas::Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}

/// Starts one device and its links.
fn simulate(args: &Args, running: &mut JoinSet<Result<()>>) -> Result<()> {
    if args.small || args.profile == Profile::Minimal {
        let device = small::start(args)?;
        running.spawn_local(device);
        return Ok(());
    }
    let flash = match &args.flash {
        Some(path) => SimFlash::in_file(path).with_context(|| format!("flash image {}", path.display()))?,
        None => SimFlash::in_ram(),
    };
    let device = args.device()?;
    let console = Console { lines: broadcast::Sender::new(LOG_LINES) };
    let config = Config {
        device,
        firmware: concat!("device-sim ", env!("CARGO_PKG_VERSION")),
        claim_policy: args.claim_policy,
        reset_by_presence: args.reset_by_presence,
        operation_ms: 1,
        takes_keys: args.takes_keys,
    };
    let secret = args.hardware_secret.as_deref().map(hardware_secret).transpose()?;
    // The links subscribe before the device says its first word.
    let mut links = Vec::new();
    for (number, path) in args.pty.iter().enumerate() {
        let (port, line) = pty::open(path).with_context(|| format!("pty {}", path.display()))?;
        let serial = Serial::new(FromTokio::new(port), Address::Serial(number));
        links.push(AnyLink::Serial(Box::new(serial), line, console.lines.subscribe()));
        eprintln!("device-sim: {} at serial:{}", args.id, path.display());
    }
    for address in &args.udp {
        if !is_near(address) {
            bail!(
                "UDP {address}: only loopback and link-local addresses are served, so that nobody claims over a network"
            );
        }
        let socket = std::net::UdpSocket::bind(address).with_context(|| format!("UDP {address}"))?;
        eprintln!("device-sim: {} at udp:{}", args.id, socket.local_addr()?);
        links.push(AnyLink::Udp(Box::new(UdpLink::new(socket)?)));
    }
    if let Some(host) = args.usb {
        let speed = if args.usb_speed == UsbSpeed::High { Speed::High } else { Speed::Full };
        let socket = usb::Socket::new(host, speed)?;
        eprintln!("device-sim: {} at usb:{socket}", args.id);
        links.push(AnyLink::Usb(Box::new(socket), console.lines.subscribe()));
    }

    let board = SimBoard { console: console.clone(), led: false, flashes: 0, secret };
    let memory = Box::new(Memory::<Address, CACHED_ANSWERS>::new());
    let mut server = Server::new(Device::new(config, flash, flash::layout(), board, OsRng), memory);
    let fault = server.open().map_err(|error| anyhow!("flash layout: {error:?}"))?;
    let info = server.device().info();
    console.print(&format!("{} {}", info.device, info.firmware));
    if let Some(reason) = fault {
        console.print(&format!("storage fault: {reason}"));
    }
    console.print(&report_of(&info));
    let server: Rc<RefCell<SimServer>> = Rc::new(RefCell::new(server));
    if let Some(light) = args.switches {
        if !is_near(&light) {
            bail!("--switches {light}: only loopback and link-local addresses are on this link");
        }
        let (server, console) = (Rc::clone(&server), console.clone());
        running.spawn_local(async move { button(light, &server, &console).await });
    }
    let start = Instant::now();
    let clock = move || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    {
        let (server, mut presses) = (Rc::clone(&server), signal(SignalKind::user_defined2())?);
        running.spawn_local(async move {
            while presses.recv().await.is_some() {
                server.borrow_mut().device_mut().note_presence(clock());
                console.print("presence: somebody is here, for 30 seconds");
            }
            Ok(())
        });
    }
    for link in links {
        let server = Rc::clone(&server);
        running.spawn_local(async move {
            match link {
                AnyLink::Serial(mut serial, _line, mut lines) => {
                    let log = async || next_line(&mut lines).await;
                    serve(&server, serial.as_mut(), clock, log).await.map_err(|error| anyhow!("serial line: {error:?}"))
                }
                AnyLink::Usb(socket, mut lines) => {
                    let id = server.borrow().device().info().device;
                    let log = async || next_line(&mut lines).await;
                    socket
                        .serve::<Address, _>(id, &server, clock, || report_of(&server.borrow().device().info()), log)
                        .await
                }
                AnyLink::Udp(mut socket) => {
                    serve(&server, socket.as_mut(), clock, async || std::future::pending().await).await.context("UDP")
                }
            }
        });
    }
    Ok(())
}

type SimServer = Server<Box<Memory<Address, CACHED_ANSWERS>>, SimFlash, OsRng, SimBoard>;

fn hardware_secret(path: &Path) -> Result<[u8; 32]> {
    let secret = fs::read(path).with_context(|| format!("--hardware-secret {}", path.display()))?;
    secret.try_into().map_err(|_| anyhow!("--hardware-secret {}: not 32 bytes", path.display()))
}

/// Switches the light of another device at each press of the button.
async fn button(light: SocketAddr, server: &RefCell<SimServer>, console: &Console) -> Result<()> {
    let mut presses = signal(SignalKind::user_defined1())?;
    loop {
        presses.recv().await;
        match switch(light, server).await {
            Ok(true) => console.print(&format!("the light at {light} was switched on")),
            Ok(false) => console.print(&format!("the light at {light} was switched off")),
            Err(error) => console.print(&format!("the light at {light} was not switched: {error:#}")),
        }
    }
}

/// Reads how the light is, and switches it over, with this device's own key.
async fn switch(light: SocketAddr, server: &RefCell<SimServer>) -> Result<bool> {
    let own = server.borrow().device().private_key().cloned().context("this device has no key")?;
    let any: IpAddr = if light.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut link = UdpLink::new(std::net::UdpSocket::bind((any, 0))?)?;
    let client = Client::new(&mut link, Address::Udp(light));
    let is_mine = |key: &_| server.borrow_mut().device_mut().is_my_device(key);
    let mut session = client.connect(&own, is_mine, OsRng).await.map_err(|error| anyhow!("{error}"))?;
    let mut body = [0; 256];
    let mut ask = async |request: Request<'_>| -> Result<Vec<u8>> {
        let response = session.request(&request, &mut body).await.map_err(|error| anyhow!("{error}"))?;
        match response.code >> 5 {
            2 => Ok(body[..response.len].to_vec()),
            class => bail!("it answers {class}.{:02}", response.code & 0x1f),
        }
    };
    let is_on = led::decode(&ask(Request::get(led::PATH)).await?).context("it has no light")?;
    ask(Request::put(led::PATH, content_format::CBOR, &[led::encode(!is_on)])).await?;
    Ok(!is_on)
}

/// The report line: a line of the log is long enough for any.
fn report_of(info: &DeviceInfo<'_>) -> LogLine {
    let mut line = LogLine::new();
    let _ = report::write(info, &mut line);
    line
}

/// Answers kept for requests that come again.
const CACHED_ANSWERS: usize = 4;
/// Log lines kept for a serial line that nobody reads.
const LOG_LINES: usize = 64;

enum AnyLink {
    Serial(Box<Serial<FromTokio<SerialStream>, Address>>, pty::Line, broadcast::Receiver<LogLine>),
    Udp(Box<UdpLink>),
    Usb(Box<usb::Socket>, broadcast::Receiver<LogLine>),
}

impl Source for Address {
    fn is_line(&self) -> bool {
        match self {
            Address::Serial(_) => true,
            Address::Udp(_) => false,
            Address::Usb(address) => address.is_line(),
        }
    }
}

impl From<device_embassy::usb::Address> for Address {
    fn from(address: device_embassy::usb::Address) -> Self {
        Address::Usb(address)
    }
}

impl From<IpEndpoint> for Address {
    fn from(endpoint: IpEndpoint) -> Self {
        Address::Usb(endpoint.into())
    }
}

impl TryFrom<Address> for IpEndpoint {
    type Error = ();

    fn try_from(address: Address) -> Result<Self, ()> {
        match address {
            Address::Usb(address) => address.try_into(),
            Address::Serial(_) | Address::Udp(_) => Err(()),
        }
    }
}

/// What the board prints: to standard output, and as diagnostic frames on its serial lines.
#[derive(Clone)]
struct Console {
    lines: broadcast::Sender<LogLine>,
}

impl Console {
    fn print(&self, line: &str) {
        println!("{line}");
        if let Ok(line) = LogLine::try_from(line) {
            // Fails without a receiver: the device has no serial line.
            let _ = self.lines.send(line);
        }
    }
}

/// The simulated board.
struct SimBoard {
    console: Console,
    led: bool,
    flashes: u8,
    secret: Option<[u8; 32]>,
}

impl Board for SimBoard {
    const RESOURCES: &'static [ProductResource] = led::RESOURCES;

    const VALUES: &'static [Value] = led::VALUES;

    fn hardware_secret(&mut self) -> Option<HardwareSecret> {
        self.secret.map(HardwareSecret::new)
    }

    fn identify(&mut self) {
        self.console.print(&format!("identify: the LED blinks {} times", self.flashes));
    }

    fn configure(&mut self, values: &Values<'_>) {
        self.flashes = led::flashes(values);
    }

    fn serve(&mut self, _path: &str, method: Method, body: &[u8], answer: &mut Answer) -> Result<(), Problem> {
        let before = self.led;
        led::serve(&mut self.led, method, body, answer)?;
        if self.led != before {
            self.console.print(if self.led { "the light is on" } else { "the light is off" });
        }
        Ok(())
    }
}

async fn next_line(lines: &mut broadcast::Receiver<LogLine>) -> LogLine {
    loop {
        match lines.recv().await {
            Ok(line) => return line,
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

struct UdpLink {
    socket: UdpSocket,
    /// One byte more than a datagram may have shows which ones are too long.
    datagram: [u8; DATAGRAM_LEN + 1],
}

impl UdpLink {
    fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(UdpLink { socket: UdpSocket::from_std(socket)?, datagram: [0; DATAGRAM_LEN + 1] })
    }
}

/// Whether an address is on this machine or on the same link.
fn is_near(address: &SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

impl Datagrams<Address> for UdpLink {
    type Error = io::Error;

    async fn receive(&mut self) -> io::Result<(&mut [u8], Address)> {
        let (len, from) = loop {
            match self.socket.recv_from(&mut self.datagram).await {
                Ok((len, from)) if is_near(&from) => break (len, from),
                Ok(_) => {}
                // One peer's port is closed; the others' are not.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        };
        Ok((&mut self.datagram[..len], Address::Udp(from)))
    }

    async fn send(&mut self, to: Address, datagram: &[u8]) -> io::Result<()> {
        match to {
            Address::Udp(to) => self.socket.send_to(datagram, to).await.map(drop).or_else(|error| match error.kind() {
                io::ErrorKind::ConnectionRefused => Ok(()),
                _ => Err(error),
            }),
            Address::Serial(_) | Address::Usb(_) => Ok(()),
        }
    }

    async fn log(&mut self, _line: &str) -> io::Result<()> {
        Ok(())
    }
}

impl Args {
    fn device(&self) -> Result<DeviceId> {
        self.id.parse().map_err(|_| {
            anyhow!(
                "--id {}: not a device ID; it is urn:dev:mac:... or urn:dev:ops:..., at most 48 characters",
                self.id
            )
        })
    }

    /// The arguments of one of several devices.
    fn of_device(&self, number: u16) -> Result<Args> {
        let numbered = |text: &str| text.replace("{}", &number.to_string());
        let path = |path: &PathBuf| PathBuf::from(numbered(&path.to_string_lossy()));
        let port = |address: &SocketAddr| match address.port() {
            0 => Some(*address),
            first => Some(SocketAddr::new(address.ip(), first.checked_add(number)?)),
        };
        Ok(Args {
            pty: self.pty.iter().map(path).collect(),
            udp: self.udp.iter().map(port).collect::<Option<_>>().context("UDP ports count beyond 65535")?,
            flash: self.flash.as_ref().map(path),
            usb: match self.usb {
                Some(usb::Host::Tcp(address)) => {
                    Some(usb::Host::Tcp(port(&address).context("USB/IP ports count beyond 65535")?))
                }
                other => other,
            },
            usb_speed: self.usb_speed,
            profile: self.profile,
            small: self.small,
            claim_policy: self.claim_policy,
            reset_by_presence: self.reset_by_presence,
            takes_keys: self.takes_keys,
            hardware_secret: self.hardware_secret.as_ref().map(path),
            switches: self.switches,
            id: numbered(&self.id),
            count: 1,
        })
    }
}
