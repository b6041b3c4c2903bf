//! Finds out what is wrong with a serial line over which an answer did not come.
//!
//! A CoAP ping (RFC 7252 section 4.3) and its answer are known to the byte, and their message ID is ours to choose. So
//! pings with the right message IDs show which byte values the line does not carry, and what it makes of them; that some
//! get lost whatever their bytes shows that somebody else reads from the port, or noise.

use std::path::Path;
use std::time::Duration;

use slipmux::{Slipmux, encode_buffered};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::fault::{Fault, Harm};
use super::serial::SlipmuxLine;
use super::{Datagrams, Error, Holder};

/// How long the answer to a ping may take: 18 bytes at 1200 baud, and what adapters take.
const WAIT: Duration = Duration::from_millis(200);
/// How long all of it may take.
const MOST_TIME: Duration = Duration::from_secs(5);
/// Pings of plain bytes, to see whether anything is lost whatever its bytes.
const PLAIN: usize = 6;
/// Without an answer to the first so many, nobody is there.
const FIRST: usize = 2;
/// How often a byte has to get lost until it is not by chance.
const ATTEMPTS: usize = 2;
/// When so many values are found, the rest does not matter.
const ENOUGH: usize = 8;
/// This stops a line with flow control that we know nothing of.
const XOFF: u8 = 0x13;
/// And this lets it go on.
const XON: u8 = 0x11;

/// A ping, by its message ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ping([u8; 2]);

/// Which byte values were seen to get through.
struct Carried([bool; 256]);

impl Ping {
    const CON: u8 = 0x40;
    const RST: u8 = 0x70;

    fn datagram(self, kind: u8) -> [u8; 4] {
        [kind, 0, self.0[0], self.0[1]]
    }

    /// What it is on the line, and what its answer is.
    fn frames(self) -> [Vec<u8>; 2] {
        [Self::CON, Self::RST].map(|kind| encode_buffered(Slipmux::Configuration(self.datagram(kind).to_vec())))
    }

    /// Pings of bytes that no line takes for something else: those of all frames, and printable ones.
    fn plain() -> impl Iterator<Item = Self> {
        let is_plain = |byte: &u8| (0x21..=0x7e).contains(byte) || [0, 0xa9, 0xc0].contains(byte);
        let ids = (0x21..=0x7e).flat_map(|high| (0x21..=0x7e).map(move |low| Self([high, low])));
        ids.filter(move |ping| ping.frames().iter().flatten().all(is_plain)).take(PLAIN)
    }

    /// A ping that has `value` once on the line in each direction, beside as few others as can be that were not seen to get
    /// through.
    fn with(value: u8, carried: &Carried) -> Option<Self> {
        let ids = (0..=u8::MAX).flat_map(|other| [Self([value, other]), Self([other, value])]);
        let has_it_once =
            |ping: &Self| ping.frames().iter().all(|frame| frame.iter().filter(|byte| **byte == value).count() == 1);
        ids.filter(has_it_once)
            .min_by_key(|ping| ping.frames().iter().flatten().filter(|it| !carried.has(**it)).count())
    }
}

impl Carried {
    fn has(&self, value: u8) -> bool {
        self.0[usize::from(value)]
    }

    fn add(&mut self, ping: Ping) {
        for byte in ping.frames().iter().flatten() {
            self.0[usize::from(*byte)] = true;
        }
    }

    fn missing(&self) -> Vec<u8> {
        (0..=u8::MAX).filter(|value| !self.has(*value)).collect()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> SlipmuxLine<S> {
    /// What is wrong with the line; [`None`] if nothing is that could be found.
    ///
    /// # Errors
    /// If the line fails altogether.
    pub(super) async fn examination(&mut self) -> Result<Option<Fault>, Error> {
        let deadline = Instant::now() + MOST_TIME;
        // What prints, and never answered, is somebody else's: it is not to be disturbed any further.
        let is_strange = self.heard.frames == 0 && self.heard.own == 0 && self.heard.anything();
        let mut carried = Carried([false; 256]);
        let (mut answered, mut lost, mut slowest) = (0, 0, Duration::ZERO);
        for (number, ping) in Ping::plain().enumerate() {
            if is_strange || (number >= FIRST && answered == 0) {
                break;
            }
            let start = Instant::now();
            match self.exchange(ping).await? {
                None => {
                    slowest = slowest.max(start.elapsed());
                    answered += 1;
                    carried.add(ping);
                }
                Some(_) if answered > 0 => lost += 1,
                Some(_) => {}
            }
        }
        if answered > 0 && lost == 0 {
            let altered = self.altered(carried, deadline).await?;
            return match altered.is_empty() {
                true => self.too_short_for_messages(slowest).await,
                false => Ok(Some(Fault::Altered(altered))),
            };
        }
        let readers = Holder::all(Path::new(&self.port));
        Ok(match (readers.is_empty(), answered) {
            (false, _) => Some(Fault::Shared { readers }),
            (true, 0) => self.heard.without_answer(),
            (true, _) => Some(Fault::Lossy { lost, sent: answered + lost, port: self.port.clone() }),
        })
    }

    /// The byte values that do not get through.
    async fn altered(&mut self, mut carried: Carried, deadline: Instant) -> Result<Vec<(u8, Harm)>, Error> {
        // Most do, several at a time: one look at each leaves the few that may not.
        for value in 0..=u8::MAX {
            let is_open = !carried.has(value) && Instant::now() < deadline;
            if let Some(ping) = is_open.then(|| Ping::with(value, &carried)).flatten()
                && self.exchange(ping).await?.is_none()
            {
                carried.add(ping);
            }
        }
        let mut altered = Vec::new();
        for value in carried.missing() {
            let Some(ping) = Ping::with(value, &carried) else { continue };
            let mut heard = None;
            for _ in 0..ATTEMPTS {
                heard = self.exchange(ping).await?;
                if heard.is_none() {
                    carried.add(ping);
                    break;
                }
            }
            if let Some(heard) = heard {
                altered.push((value, harm(value, ping, &heard)));
            }
            if altered.len() == ENOUGH || Instant::now() >= deadline {
                break;
            }
        }
        Ok(altered)
    }

    /// Sends a ping and waits for its answer; what came instead, if it did not come.
    async fn exchange(&mut self, ping: Ping) -> Result<Option<Vec<u8>>, Error> {
        let deadline = Instant::now() + WAIT;
        self.heard.capture = Some(Vec::new());
        let exchanged = timeout_at(deadline, async {
            self.send(&ping.datagram(Ping::CON)).await?;
            // The clock is looked at each time: a line that always has something to say must not keep us here.
            while Instant::now() < deadline {
                if self.receive().await?.bytes == ping.datagram(Ping::RST) {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        match exchanged.await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(true)) => Ok(None),
            Ok(Ok(false)) | Err(_) => {
                let heard = self.heard.capture.take().unwrap_or_default();
                if ping.frames().iter().flatten().any(|byte| *byte == XOFF) {
                    // Outside of a frame it is nothing, where nothing was stopped.
                    let _ = timeout_at(Instant::now() + WAIT, self.stream.write_all(&[XON])).await;
                }
                Ok(Some(heard))
            }
        }
    }
}

/// What became of the one `value` in the answer to a ping.
fn harm(value: u8, ping: Ping, heard: &[u8]) -> Harm {
    let [request, answer] = ping.frames();
    let find = |text: &[u8], part: &[u8]| text.windows(part.len()).position(|window| window == part);
    // On a line that echoes, the ping comes back first.
    let heard = find(heard, &request).map_or(heard, |at| &heard[at + request.len()..]);
    if heard.is_empty() {
        return Harm::Lost;
    }
    let Some(at) = answer.iter().position(|byte| *byte == value) else { return Harm::Damaged };
    let (before, after) = (&answer[..at], &answer[at + 1..]);
    let came = find(heard, before).and_then(|start| {
        let rest = &heard[start + before.len()..];
        find(rest, after).map(|end| rest[..end].to_vec())
    });
    match came {
        Some(came) if came.is_empty() => Harm::Lost,
        Some(came) => Harm::Becomes(came),
        None => Harm::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;
    use crate::link::Datagram;

    /// What a line does to the bytes that it carries one way; it may remember something.
    type Alter = Box<dyn FnMut(&[u8]) -> Vec<u8> + Send>;

    /// A line that does something to bytes on their way to the device and back, and may let the host hear itself.
    struct Bench {
        down: Alter,
        up: Alter,
        echoes: bool,
        /// Whether a device is at the other end; it answers pings.
        has_device: bool,
        /// What it says by itself.
        said: &'static [u8],
    }

    impl Default for Bench {
        fn default() -> Self {
            Self { down: without(b""), up: without(b""), echoes: false, has_device: true, said: b"" }
        }
    }

    fn without(lost: &'static [u8]) -> Alter {
        Box::new(|bytes| bytes.iter().copied().filter(|byte| !lost.contains(byte)).collect())
    }

    fn instead(of: u8, comes: &'static [u8]) -> Alter {
        Box::new(move |bytes| {
            bytes.iter().flat_map(|byte| if *byte == of { comes.to_vec() } else { vec![*byte] }).collect()
        })
    }

    fn line(stream: DuplexStream) -> SlipmuxLine<DuplexStream> {
        SlipmuxLine::new(stream, "test".into(), Box::new(|_| ()))
    }

    impl Bench {
        /// The host's end.
        fn start(mut self) -> SlipmuxLine<DuplexStream> {
            let ((host, mut near), (mut far, device)) = (duplex(1 << 16), duplex(1 << 16));
            let has_device = self.has_device;
            tokio::spawn(async move {
                let mut device = line(device);
                while let Ok(Datagram { bytes, .. }) = device.receive().await {
                    if has_device && let [Ping::CON, 0, high, low] = bytes[..] {
                        device.send(&Ping([high, low]).datagram(Ping::RST)).await.unwrap();
                    }
                }
            });
            tokio::spawn(async move {
                near.write_all(self.said).await.unwrap();
                let (mut from_host, mut from_device) = ([0; 2048], [0; 2048]);
                loop {
                    tokio::select! {
                        Ok(read) = near.read(&mut from_host) => {
                            let bytes = &from_host[..read];
                            if self.echoes {
                                near.write_all(bytes).await.unwrap();
                            }
                            if read == 0 || far.write_all(&(self.down)(bytes)).await.is_err() {
                                break;
                            }
                        }
                        Ok(read) = far.read(&mut from_device) => {
                            near.write_all(&(self.up)(&from_device[..read])).await.unwrap();
                        }
                    }
                }
            });
            line(host)
        }

        async fn fault(self) -> Option<Fault> {
            self.start().examine().await.unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_a_line_does_not_carry_are_found() {
        use Harm::{Becomes, Lost};
        let bench = Bench::default;
        let flow_control = || without(b"\x11\x13");
        let telnet = || -> Alter {
            let (mut iac, mut cr) = (instead(0xff, b"\xff\xff"), instead(b'\r', b"\r\0"));
            Box::new(move |bytes| cr(&iac(bytes)))
        };
        for (bench, altered, named) in [
            (
                Bench { up: flow_control(), down: flow_control(), ..bench() },
                vec![(0x11, Lost), (0x13, Lost)],
                "XON/XOFF",
            ),
            (Bench { up: flow_control(), ..bench() }, vec![(0x11, Lost), (0x13, Lost)], "XON/XOFF"),
            (Bench { down: flow_control(), ..bench() }, vec![(0x11, Lost), (0x13, Lost)], "XON/XOFF"),
            (Bench { up: flow_control(), echoes: true, ..bench() }, vec![(0x11, Lost), (0x13, Lost)], "XON/XOFF"),
            (Bench { down: without(b"\x11"), ..bench() }, vec![(0x11, Lost)], "XON/XOFF"),
            (
                Bench { up: telnet(), ..bench() },
                vec![(b'\r', Becomes(b"\r\0".to_vec())), (0xff, Becomes(b"\xff\xff".to_vec()))],
                "telnet",
            ),
            (Bench { up: instead(b'\n', b"\r\n"), ..bench() }, vec![(b'\n', Becomes(b"\r\n".to_vec()))], "line ends"),
            (Bench { up: instead(b'\r', b"\n"), ..bench() }, vec![(b'\r', Becomes(b"\n".to_vec()))], "line ends"),
            (Bench { down: instead(b'\r', b"\n"), ..bench() }, vec![(b'\r', Lost)], "line ends"),
            (Bench { down: without(b"\x1a\x7f"), ..bench() }, vec![(0x1a, Lost), (0x7f, Lost)], "all bytes"),
            // A byte with which others are written on the line.
            (Bench { up: without(b"\xdc"), ..bench() }, vec![(0xdc, Lost)], "0xdc is lost"),
        ] {
            let fault = bench.fault().await;
            assert_eq!(fault, Some(Fault::Altered(altered)));
            let words = fault.unwrap().to_string();
            assert!(words.starts_with("a device answers, but what is said arrives damaged: "), "{words}");
            assert!(words.contains(named), "{words}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_carries_everything_has_no_fault() {
        assert_eq!(Bench::default().fault().await, None);
        assert_eq!(Bench { echoes: true, ..Bench::default() }.fault().await, None);
        assert_eq!(Bench { said: b"boot: ok\r\n", ..Bench::default() }.fault().await, None);
        // The device that answered nothing is not there any more.
        assert_eq!(Bench { has_device: false, ..Bench::default() }.fault().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_only_echoes_has_nobody_at_its_end() {
        let fault = Bench { echoes: true, has_device: false, ..Bench::default() }.fault().await;
        assert_eq!(fault, Some(Fault::Loop));
        assert!(fault.unwrap().to_string().contains("nobody is there"));
    }

    #[tokio::test(start_paused = true)]
    async fn loss_that_no_byte_explains_is_another_reader_or_noise() {
        let mut number = 0;
        let half: Alter = Box::new(move |bytes| {
            number += 1;
            if number % 2 == 0 { Vec::new() } else { bytes.to_vec() }
        });
        let fault = Bench { up: half, ..Bench::default() }.fault().await.unwrap();
        assert!(matches!(fault, Fault::Lossy { lost: 3, sent: 6, .. }), "{fault:?}");
        assert!(fault.to_string().contains("does another program read from the port"), "{fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_port_prints_that_answers_nothing_is_told_and_it_is_not_disturbed() {
        let said = b"\xf8\x80first\nsecond\n\x1b[31mthird\x1b[0m\r\nfourth \x07bell";
        let mut line = Bench { said, has_device: false, ..Bench::default() }.start();
        assert!(tokio::time::timeout(WAIT, line.receive()).await.is_err());
        assert!(line.has_said_anything());
        let fault = line.examine().await.unwrap().unwrap();
        let words = fault.to_string();
        assert!(words.contains("prints \"second\", \"third\", \"fourth "), "{words}");
        assert!(!words.contains(char::is_control) && !words.contains("first"), "{words}");
        assert_eq!(line.heard.own, 0, "no ping was sent");

        let said = b"boot\ncommissioning-report:AAAA\n";
        let mut line = Bench { said, has_device: false, ..Bench::default() }.start();
        assert!(tokio::time::timeout(WAIT, line.receive()).await.is_err());
        assert_eq!(line.examine().await.unwrap(), Some(Fault::Deaf), "that is a device, and at the right speed");

        // The same frame over a line that takes the eighth bit for parity.
        let said = b"@\ncommissioning-report:AAAA\n@";
        let mut line = Bench { said, has_device: false, ..Bench::default() }.start();
        assert!(tokio::time::timeout(WAIT, line.receive()).await.is_err());
        assert_eq!(line.examine().await.unwrap(), Some(Fault::SevenBits));

        let said = b"\x80\xf8\x00\xfe\x1c\xe0\xff\x7f\x80\xfa";
        let mut line = Bench { said, has_device: false, ..Bench::default() }.start();
        assert!(tokio::time::timeout(WAIT, line.receive()).await.is_err());
        assert_eq!(line.examine().await.unwrap(), Some(Fault::Unreadable { bytes: 10 }));
    }

    #[test]
    fn the_known_pings_are_plain_and_each_value_has_one() {
        let plain: Vec<_> = Ping::plain().collect();
        assert_eq!(plain.len(), PLAIN);
        let mut carried = Carried([false; 256]);
        plain.iter().for_each(|ping| carried.add(*ping));
        for value in carried.missing() {
            let ping = Ping::with(value, &carried).unwrap_or_else(|| panic!("no ping has {value:#04x} once"));
            assert!(ping.frames().iter().all(|frame| frame.contains(&value)));
        }
    }
}
