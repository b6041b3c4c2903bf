//! The simulated board's USB socket: the real stack of a board's firmware, at a USB host that is reached by USB/IP.

use std::{cell::RefCell, convert::Infallible, fmt, io, net::SocketAddr, str::FromStr};

use anyhow::{Context as _, Result, anyhow, bail};
use cbor_schemas::DeviceId;
use device::transport::{LogLine, Service};
use device_embassy::usb::{Address, Counters, FULL_SPEED, HIGH_SPEED, IpEndpoint, Resources, Setup, serve};
use embassy_usb_usbip::{Driver, Error, Port, Speed, serve_tcp, vhci};
use rand_core::{OsRng, RngCore};
use tokio::net::TcpListener;

/// Where the host is that the cable leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// This machine's own kernel.
    Vhci,
    /// Whoever attaches over TCP at this address.
    Tcp(SocketAddr),
}

/// A socket with a cable in it.
pub(crate) struct Socket {
    driver: Driver,
    port: Port,
    host: Bound,
}

enum Bound {
    Vhci,
    Tcp(TcpListener),
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "vhci" {
            return Ok(Host::Vhci);
        }
        let address: SocketAddr = text.parse().map_err(|_| "neither vhci nor an ADDR:PORT".to_owned())?;
        // Whoever attaches it has the device in hand.
        match address.ip().is_loopback() {
            true => Ok(Host::Tcp(address)),
            false => Err("USB/IP has no authentication: only loopback addresses are served".to_owned()),
        }
    }
}

impl Socket {
    /// Opens the place where hosts attach.
    pub(crate) fn new(host: Host, speed: Speed) -> Result<Self> {
        let (driver, port) = embassy_usb_usbip::new(speed);
        let host = match host {
            Host::Vhci => Bound::Vhci,
            Host::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address).with_context(|| format!("USB/IP at {address}"))?;
                listener.set_nonblocking(true)?;
                Bound::Tcp(TcpListener::from_std(listener)?)
            }
        };
        Ok(Socket { driver, port, host })
    }

    /// Serves the device until its cable is pulled for good.
    pub(crate) async fn serve<A, S>(
        self,
        device: DeviceId,
        service: &RefCell<S>,
        clock: impl Fn() -> u64,
        greeting: impl Fn() -> LogLine,
        next_log_line: impl AsyncFnMut() -> LogLine,
    ) -> Result<()>
    where
        A: Copy + From<Address> + From<IpEndpoint> + TryInto<IpEndpoint>,
        S: Service<A>,
    {
        let Socket { driver, port, host } = self;
        let setup = Setup {
            device,
            manufacturer: "Commissioning",
            product: "Simulated device",
            max_power: 100,
            seed: OsRng.next_u64(),
            counters: Counters::default(),
        };
        let mut resources = Resources::new();
        let ended = async {
            match port.speed() {
                Speed::High => {
                    serve::<HIGH_SPEED, A, _, _>(
                        driver,
                        &setup,
                        &mut resources,
                        service,
                        clock,
                        greeting,
                        next_log_line,
                    )
                    .await
                }
                Speed::Full | Speed::Low => {
                    serve::<FULL_SPEED, A, _, _>(
                        driver,
                        &setup,
                        &mut resources,
                        service,
                        clock,
                        greeting,
                        next_log_line,
                    )
                    .await
                }
            }
        };
        tokio::select! {
            ended = ended => ended.map(|never| match never {}).map_err(|error| anyhow!("USB: {error}")),
            gone = host.serve(&port) => gone,
        }
    }
}

impl Bound {
    async fn serve(&self, port: &Port) -> Result<()> {
        match self {
            Bound::Vhci => {
                vhci::serve(port).await.context("USB")?;
                bail!("USB: the host let go of the device; start it again to plug it in again")
            }
            Bound::Tcp(listener) => {
                let told = |host, ended: Result<(), Error>| match ended {
                    Ok(()) => eprintln!("device-sim: USB: {host} is done"),
                    Err(error) => eprintln!("device-sim: USB: {host}: {error}"),
                };
                let failed: io::Result<Infallible> = serve_tcp(port, listener, told).await;
                Ok(failed.map(|never| match never {})?)
            }
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Bound::Vhci => f.write_str("vhci"),
            Bound::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(_) => f.write_str("an address that is not known"),
            },
        }
    }
}
