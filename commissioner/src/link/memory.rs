//! A link in memory for tests, with the faults of a real one.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Datagram, Datagrams, Error, Io};

/// What happens to datagrams, in percent of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Never arrive.
    pub(crate) lost: u64,
    /// Arrive twice.
    pub(crate) duplicated: u64,
    /// Each takes up to this long, so that later ones overtake earlier ones.
    pub(crate) delay: Duration,
}

/// One end of a link.
pub(crate) struct MemoryLink {
    to: mpsc::UnboundedSender<Vec<u8>>,
    from: mpsc::UnboundedReceiver<Vec<u8>>,
    faults: Faults,
    random: u64,
}

/// The two ends of a link without faults.
pub(crate) fn pair() -> (MemoryLink, MemoryLink) {
    faulty_pair(Faults::default(), 1)
}

/// The two ends of a link with faults both ways; the same seed gives the same faults.
pub(crate) fn faulty_pair(faults: Faults, seed: u64) -> (MemoryLink, MemoryLink) {
    let (to_right, from_left) = mpsc::unbounded_channel();
    let (to_left, from_right) = mpsc::unbounded_channel();
    let end =
        |to, from, seed: u64| MemoryLink { to, from, faults, random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 };
    (end(to_right, from_right, seed), end(to_left, from_left, seed + 1))
}

impl MemoryLink {
    /// Marsaglia's xorshift: the same in every run.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below.max(1)
    }

    fn deliver(&mut self, datagram: Vec<u8>) {
        let to = self.to.clone();
        let delay = Duration::from_millis(self.random(self.faults.delay.as_millis() as u64));
        if delay.is_zero() {
            let _ = to.send(datagram);
            return;
        }
        tokio::spawn(async move {
            sleep(delay).await;
            let _ = to.send(datagram);
        });
    }
}

impl Datagrams for MemoryLink {
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> Io<'a, usize> {
        Box::pin(async move {
            if self.to.is_closed() {
                return Err(Error::Unplugged { port: "memory".into() });
            }
            if self.random(100) >= self.faults.lost {
                self.deliver(datagram.to_vec());
                if self.random(100) < self.faults.duplicated {
                    self.deliver(datagram.to_vec());
                }
            }
            Ok(datagram.len())
        })
    }

    fn receive(&mut self) -> Io<'_, Datagram> {
        Box::pin(async move {
            let bytes = self.from.recv().await.ok_or_else(|| Error::Unplugged { port: "memory".into() })?;
            Ok(Datagram { line_bytes: bytes.len(), bytes })
        })
    }
}
