//! Every message of a first visit and of a later one over a serial line, with its size: the tables of docs/protocol.md.
//!
//! Needs `device-sim` in the same directory; `make bytes` builds both.

#![allow(clippy::print_stdout, reason = "the tables are the output")]

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use commissioner::{
    client::{Client, Direction},
    clock::Clock,
    cmd::init::initialise,
    commission::{Terms, commission},
    issuer::Issuer,
    keys::{self, IssuerKey},
    link::Link,
    output::Output,
    progress::Progress,
    registry::{Place, Registry},
    state_dir::StateDir,
    visit::{Account, Station},
};
use tokio::process::{Child, Command};

#[tokio::main]
async fn main() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let port = scratch.path().join("port");
    let _device = start_device(&port).await?;
    let station = station(&scratch.path().join("state")).await?;
    let link: Link = format!("serial:{}", port.display()).parse()?;

    println!("### Bytes of a first visit\n");
    visit(&link, &station).await?;
    println!("\n### Bytes of a later visit\n");
    visit(&link, &station).await
}

/// Commissions whatever is at `link`, and prints the messages.
async fn visit(link: &Link, station: &Station) -> Result<()> {
    let quiet = Progress::for_output(&Output::new(true, Box::new(std::io::sink())));
    let terms = Terms { place: Place::Elsewhere, accept_new_key: false };
    let mut client = Client::open(link).await?;
    client.record();
    let account = Account::read(&mut client).await?;
    commission(&mut client, &account, station, &terms, &quiet).await?;

    let records = client.take_records();
    println!("| | message | inside | CoAP | line |\n|---|---|---|---:|---:|");
    for record in &records {
        let arrow = if record.direction == Direction::Sent { "→" } else { "←" };
        println!("| {arrow} | {} | {} | {} | {} |", record.message, record.note, record.datagram, record.line);
    }
    let (datagrams, line): (usize, usize) =
        records.iter().fold((0, 0), |(datagrams, line), record| (datagrams + record.datagram, line + record.line));
    println!("| | {} messages | | {datagrams} | {line} |", records.len());
    Ok(())
}

/// A device with blank flash at the end of a serial line.
async fn start_device(port: &Path) -> Result<Child> {
    let program = std::env::current_exe()?.with_file_name("device-sim");
    let device = Command::new(&program)
        .arg("--pty")
        .arg(port)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}: build it with `cargo build -p device-sim`", program.display()))?;
    while !port.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(device)
}

/// A new state directory, and the station that works with it.
async fn station(path: &Path) -> Result<Station> {
    initialise(path, Clock::System).await?;
    let dir = StateDir::open(path)?;
    Ok(Station {
        registry: Registry::open(&dir, Clock::System, false).await?,
        issuer: Issuer::new(IssuerKey::load(&dir.issuer_key())?),
        key: keys::load(&dir.station_key())?,
    })
}
