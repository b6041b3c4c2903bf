//! The line between host and board, as slow as a UART.

use std::{io, str::FromStr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep_until},
};

/// Bits of a byte on the line: start bit, eight bits, stop bit.
const BITS: u32 = 10;
/// Bytes that are let through at a time: about a millisecond at 115200 baud.
const CHUNK: usize = 12;

/// Bits per second; `None` is as fast as it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Baud(Option<u32>);

impl FromStr for Baud {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|baud| Baud((baud > 0).then_some(baud)))
    }
}

impl Baud {
    fn time_of(self, bytes: usize) -> Duration {
        self.0.map_or(Duration::ZERO, |baud| Duration::from_secs(1) * BITS * bytes as u32 / baud)
    }
}

/// Carries bytes in one direction, showing them to `observe`, until one end is closed.
pub(crate) async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    baud: Baud,
    mut observe: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut chunk = [0; CHUNK];
    let mut free = Instant::now();
    loop {
        let len = from.read(&mut chunk).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The line is busy for as long as the bytes take, counted from when it became free: sleeping too long once does
        // not make it slower.
        free = free.max(Instant::now()) + baud.time_of(len);
        sleep_until(free).await;
        observe(&chunk[..len]);
        to.write_all(&chunk[..len]).await?;
    }
}
