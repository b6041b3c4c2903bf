//! Every message of a first visit and of a later one over a serial line, with its size: the tables of docs/protocol.md.
//!
//! Needs `device-sim` in the same directory; `make bytes` builds both.

#![allow(clippy::print_stdout, reason = "the tables are the output")]

use std::{process::Stdio, time::Duration};

use anyhow::Result;
use commissioner::{
    client::{Client, Direction},
    commission::{Terms, commission},
    link::Link,
    station::Station,
    visit::Account,
};
use commissioning_examples::{command, quiet, start, station};

#[tokio::main]
async fn main() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let port = scratch.path().join("port");
    let _device = start(command("device-sim")?.arg("--pty").arg(&port).stdout(Stdio::null()))?;
    while !port.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let station = station(&scratch.path().join("state")).await?;
    let link: Link = format!("serial:{}", port.display()).parse()?;

    println!("### Bytes of a first visit\n");
    visit(&link, &station).await?;
    println!("\n### Bytes of a later visit\n");
    visit(&link, &station).await
}

/// Commissions whatever is at `link`, and prints the messages.
async fn visit(link: &Link, station: &Station) -> Result<()> {
    let mut client = Client::open(link).await?;
    client.record();
    let account = Account::read(&mut client).await?;
    commission(&mut client, &account, station, &Terms::OWNER, &quiet()).await?;

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
