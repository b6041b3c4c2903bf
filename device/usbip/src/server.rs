//! USB/IP over TCP: what `usbip list` and `usbip attach` ask for.

use std::{io, time::Duration};

use embassy_usb_driver::Speed;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    port::{Error, Identity, Port},
    wire::{OP_REP_DEVLIST, OP_REP_IMPORT, OP_REQ_DEVLIST, OP_REQ_IMPORT, VERSION},
};

/// The TCP port of USB/IP.
pub const DEFAULT_PORT: u16 = 3240;
/// The only device's bus ID: `usbip attach -b 1-1`.
pub const BUS_ID: &str = "1-1";

/// Hosts that are connected at a time; one of them may have the device.
const MAX_CONNECTIONS: usize = 8;
/// How long a host may take for what it wants. The device itself may be kept for as long as it likes.
const PATIENCE: Duration = Duration::from_secs(10);
const BUS_ID_LEN: usize = 32;
const PATH_LEN: usize = 256;
/// Bus 1, device 1.
const NUMBERS: [u32; 2] = [1, 1];

/// What a host asks for at first.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    List,
    Import { bus_id: [u8; BUS_ID_LEN] },
}

/// Serves the device to hosts that connect to `listener`, one at a time. What becomes of each connection is told to
/// `ended`, with the host's address. A host that fails costs the others nothing.
///
/// # Errors
/// If the listener fails. Otherwise this does not return.
pub async fn serve_tcp(
    port: &Port,
    listener: &TcpListener,
    mut ended: impl FnMut(std::net::SocketAddr, Result<(), Error>),
) -> io::Result<std::convert::Infallible> {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                let (stream, from) = accepted?;
                let port = port.clone();
                connections.spawn(async move { (from, serve_host(&port, stream).await) });
            }
            Some(Ok((from, result))) = connections.join_next() => ended(from, result),
        }
    }
}

async fn serve_host(port: &Port, stream: TcpStream) -> Result<(), Error> {
    // Each packet is waited for at the other end.
    stream.set_nodelay(true)?;
    answer(port, stream).await
}

async fn answer(port: &Port, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Error> {
    let request = timeout(PATIENCE, read_request(&mut stream)).await.map_err(io::Error::from)??;
    match request {
        Request::List => {
            let identity = match port.attach() {
                Ok(attached) => Some(attached.identity().await?),
                // Somebody else has it; USB/IP lists what can be attached.
                Err(_) => None,
            };
            let mut reply = header(OP_REP_DEVLIST, true);
            reply.extend(u32::from(identity.is_some()).to_be_bytes());
            if let Some(identity) = identity {
                reply.extend(record(&identity, port.speed()));
                for [class, subclass, protocol] in identity.interfaces {
                    reply.extend([class, subclass, protocol, 0]);
                }
            }
            stream.write_all(&reply).await?;
            Ok(stream.shutdown().await?)
        }
        Request::Import { bus_id } => {
            let is_ours = bus_id.starts_with(BUS_ID.as_bytes()) && bus_id.get(BUS_ID.len()) == Some(&0);
            let attached = match is_ours {
                true => port.attach(),
                false => {
                    Err(Error::Io(io::Error::new(io::ErrorKind::NotFound, "it asks for a device that is not here")))
                }
            };
            let (attached, identity) = match attached {
                Ok(attached) => match attached.identity().await {
                    Ok(identity) => (attached, identity),
                    Err(error) => return refuse(stream, error).await,
                },
                Err(error) => return refuse(stream, error).await,
            };
            let reply = [header(OP_REP_IMPORT, true), record(&identity, port.speed())].concat();
            stream.write_all(&reply).await?;
            attached.serve(stream).await
        }
    }
}

async fn refuse(mut stream: impl AsyncWrite + Unpin, error: Error) -> Result<(), Error> {
    stream.write_all(&header(OP_REP_IMPORT, false)).await?;
    stream.shutdown().await?;
    Err(error)
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Result<Request, Error> {
    let mut header = [0; 8];
    stream.read_exact(&mut header).await?;
    let [_, _, o0, o1, ..] = header;
    match u16::from_be_bytes([o0, o1]) {
        OP_REQ_DEVLIST => Ok(Request::List),
        OP_REQ_IMPORT => {
            let mut bus_id = [0; BUS_ID_LEN];
            stream.read_exact(&mut bus_id).await?;
            Ok(Request::Import { bus_id })
        }
        other => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("it asks for the unknown operation {other:#x}"))
                .into())
        }
    }
}

fn header(operation: u16, is_done: bool) -> Vec<u8> {
    let mut bytes = [VERSION, operation].map(u16::to_be_bytes).as_flattened().to_vec();
    bytes.extend(u32::from(!is_done).to_be_bytes());
    bytes
}

/// The device, in 312 bytes.
fn record(identity: &Identity, speed: Speed) -> Vec<u8> {
    let padded = |text: &str, length: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(length, 0);
        bytes
    };
    let mut bytes = padded("/sys/devices/embassy/usb1/1-1", PATH_LEN);
    bytes.extend(padded(BUS_ID, BUS_ID_LEN));
    for number in NUMBERS.into_iter().chain([speed_number(speed)]) {
        bytes.extend(number.to_be_bytes());
    }
    for number in identity.numbers {
        bytes.extend(number.to_be_bytes());
    }
    let interfaces = u8::try_from(identity.interfaces.len()).unwrap_or(u8::MAX);
    bytes.extend(identity.class);
    bytes.extend([1, identity.configurations, interfaces]);
    bytes
}

/// Linux' `enum usb_device_speed`.
pub(crate) fn speed_number(speed: Speed) -> u32 {
    match speed {
        Speed::Low => 1,
        Speed::Full => 2,
        Speed::High => 3,
    }
}
