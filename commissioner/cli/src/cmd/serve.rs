//! `commissioner serve`: the signed list, and the token revocation list (RFC 9770), over CoAP.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use clap::Args as ClapArgs;
use commissioner::{
    link::MAX_DATAGRAM,
    serve::{LIST, Outgoing, Server, TRL, revocations::Revocations},
    text,
};
use protocol::conversation::Source;
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    time::{Instant, interval, sleep_until},
};

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
};
use crate::output::complain;
use crate::stop::Stop;

/// How often the registry is looked at: other commissioners change it.
const INTERVAL: Duration = Duration::from_secs(1);
/// Datagrams that wait to be served, for all addresses together.
const QUEUE: usize = 1024;

const HELP: &str = "\
/list: the signed list of \"my devices\", for anyone. It is signed by `commissioner distribute`; this command signs nothing.
/revoke/trl: the token revocation list (RFC 9770, full query and Observe), for your devices, under EDHOC with the station key.
What another commissioner revokes is told within a second.";

/// Serve the signed list and the token revocation list
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// Where to listen; may be given several times
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:5683")]
    listen: Vec<SocketAddr>,
}

/// A socket of ours, and who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Address {
    socket: usize,
    peer: SocketAddr,
}

impl Source for Address {
    fn is_line(&self) -> bool {
        false
    }
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let mut stop = Stop::listen().map_err(CommandError::internal)?;
        let (mut registry, station) = (context.registry().await?, context.station_key()?);
        let mut server = Server::new(station.clone(), Revocations::read(&registry).await?);
        let (sender, mut datagrams) = mpsc::channel(QUEUE);
        let mut sockets = Vec::new();
        for (number, address) in self.listen.iter().enumerate() {
            let socket = Arc::new(UdpSocket::bind(address).await.map_err(|error| in_the_way(address, &error))?);
            let at = socket.local_addr().map_err(CommandError::internal)?;
            tell(context, at, station.public());
            tokio::spawn(receive(socket.clone(), number, sender.clone()));
            sockets.push(socket);
        }

        let start = Instant::now();
        let now = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut looks = interval(INTERVAL);
        loop {
            let due = server.due().map(|due| start + Duration::from_millis(due));
            let outgoing = tokio::select! {
                () = stop.requested() => return Ok(()),
                Some((from, datagram)) = datagrams.recv() => server.receive(from, &datagram, now()),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => server.poll(now()),
                _ = looks.tick() => {
                    if registry.is_frozen() {
                        registry.close().await;
                        registry = context.registry().await?;
                    }
                    let head = registry.read().await?.head().await?;
                    if server.revocations().as_of.as_ref() == Some(&head) {
                        continue;
                    }
                    let outgoing = server.update(Revocations::read(&registry).await?, now());
                    if !outgoing.is_empty() {
                        let (revoked, told) = (server.revocations().len(), outgoing.len());
                        let record = serde_json::json!({ "revoked": revoked, "told": told });
                        let revoked = text::count(revoked, "token is", "tokens are");
                        let told = text::count(told, "device is", "devices are");
                        context.output.result(&record, format_args!("{revoked} revoked; {told} told"));
                    }
                    outgoing
                }
            };
            send(&sockets, outgoing).await;
        }
    }
}

fn tell(context: &Context, at: SocketAddr, station: &protocol::key::PublicKey) {
    let thumbprint = station.thumbprint().to_string();
    if context.output.is_json() {
        let credential = hex::encode(station.ccs());
        context.output.json(&serde_json::json!({
            "listening": at.to_string(), "thumbprint": thumbprint, "credential": credential,
        }));
    } else {
        complain(format_args!("serving coap://{at}{LIST} and {TRL}, as the station with key {thumbprint}"));
    }
}

async fn receive(socket: Arc<UdpSocket>, number: usize, sender: mpsc::Sender<(Address, Vec<u8>)>) {
    // One byte more shows which datagrams are too long: their senders are told.
    let mut buffer = vec![0; MAX_DATAGRAM + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) => {
                // What is too much is dropped, as a network would.
                let from = Address { socket: number, peer: from };
                if let Err(mpsc::error::TrySendError::Closed(_)) = sender.try_send((from, buffer[..len].to_vec())) {
                    return;
                }
            }
            // A peer's port is closed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => {
                complain(format_args!("a socket failed: {error}"));
                return;
            }
        }
    }
}

async fn send(sockets: &[Arc<UdpSocket>], outgoing: Vec<Outgoing<Address>>) {
    for (Address { socket, peer }, datagram) in outgoing {
        // What cannot be sent is lost, as a datagram may be; it is sent again, or asked for again.
        if let Some(socket) = sockets.get(socket)
            && let Err(error) = socket.send_to(&datagram, peer).await
        {
            tracing::info!("cannot send to {peer}: {error}");
        }
    }
}

fn in_the_way(address: &SocketAddr, error: &io::Error) -> CommandError {
    let message = format!("cannot serve at {address}: {error}; name another address with --listen");
    CommandError::new(ExitCode::Link, message)
}
