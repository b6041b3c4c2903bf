//! Finds out whether a serial line that carries pings loses messages for their length.
//!
//! A buffer on the way that is smaller than a message (of an adapter, a terminal server, a driver without flow control)
//! loses part of it. `/comm` in blocks of 16, 32, ... bytes (RFC 7959) shows how long an answer may be, and an elective option
//! that nobody knows (RFC 7252 section 5.4.1), longer each time, how long a request may be.

use std::time::Duration;

use coap_lite::{CoapOption, MessageType, Packet};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::fault::{Fault, Way};
use super::serial::SlipmuxLine;
use super::{Datagram, Datagrams, Error};

/// Block sizes of 16 to 512 bytes, as SZX.
const SIZES: std::ops::RangeInclusive<u8> = 0..=5;
/// How often a message has to get lost until it is not by chance.
const ATTEMPTS: usize = 3;
/// Bytes on the line of a ping and its answer.
const PING: u32 = 18;
/// How long an answer may take beside the time on the line.
const WAIT: Duration = Duration::from_millis(300);
/// An option of no meaning: elective, and safe to forward.
const PADDING: u16 = 65_000;
/// GET
const GET: u8 = 1;

/// A request, its answer, and how long both are.
struct Question {
    /// The block that is asked for, as SZX.
    szx: u8,
    /// Bytes that make the request longer.
    padding: usize,
}

/// What an answer says of its length.
struct Answer {
    bytes: usize,
    /// There is more, so that a larger block makes a longer answer.
    more: bool,
}

impl Question {
    /// Bytes that one of this size has beyond the smallest, in the direction that is tried.
    fn of(way: Way, szx: u8) -> Self {
        match way {
            Way::FromDevice => Self { szx, padding: 0 },
            Way::ToDevice => Self { szx: *SIZES.start(), padding: 16 << szx },
        }
    }

    fn packet(&self, message_id: u16) -> Packet {
        let mut packet = Packet::new();
        packet.header.set_type(MessageType::Confirmable);
        packet.header.code = GET.into();
        packet.header.message_id = message_id;
        packet.set_token(message_id.to_be_bytes().to_vec());
        packet.add_option(CoapOption::UriPath, b"comm".to_vec());
        // Block number 0 of the size SZX; zero is written as no bytes.
        packet.add_option(CoapOption::Block2, Some(self.szx).filter(|szx| *szx > 0).into_iter().collect());
        if self.padding > 0 {
            packet.add_option(CoapOption::Unknown(PADDING), vec![b'.'; self.padding]);
        }
        packet
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> SlipmuxLine<S> {
    /// Whether longer messages get lost where short ones pass; `ping` is how long a ping and its answer took.
    ///
    /// # Errors
    /// If the line fails altogether.
    pub(super) async fn too_short_for_messages(&mut self, ping: Duration) -> Result<Option<Fault>, Error> {
        // The message IDs of pings are chosen by their bytes; of these, any will do.
        let mut message_id = 0x6000;
        for way in [Way::FromDevice, Way::ToDevice] {
            let mut carried = 0;
            for szx in SIZES {
                let question = Question::of(way, szx);
                let mut answer = None;
                for _ in 0..ATTEMPTS {
                    message_id += 1;
                    answer = self.ask(&question, message_id, ping).await?;
                    if answer.is_some() {
                        break;
                    }
                }
                let asked = question.packet(message_id).to_bytes().map_or(0, |bytes| bytes.len());
                match (answer, way) {
                    // What answers nothing but pings shows nothing.
                    (None, _) if carried == 0 => return Ok(None),
                    (None, Way::FromDevice) => return Ok(Some(Fault::Short { way, carried, lost: 16 << szx })),
                    (None, Way::ToDevice) => return Ok(Some(Fault::Short { way, carried, lost: asked })),
                    (Some(answer), Way::FromDevice) => {
                        carried = answer.bytes;
                        if !answer.more {
                            break;
                        }
                    }
                    (Some(_), Way::ToDevice) => carried = asked,
                }
            }
        }
        Ok(None)
    }

    async fn ask(&mut self, question: &Question, message_id: u16, ping: Duration) -> Result<Option<Answer>, Error> {
        let Ok(request) = question.packet(message_id).to_bytes() else { return Ok(None) };
        let longest = request.len() as u32 + (64 << question.szx);
        let deadline = Instant::now() + WAIT + ping * longest / PING;
        let exchanged = timeout_at(deadline, async {
            self.send(&request).await?;
            while Instant::now() < deadline {
                let Datagram { bytes, .. } = self.receive().await?;
                if let Some(answer) = read(&bytes, message_id) {
                    return Ok(Some(answer));
                }
            }
            Ok(None)
        });
        exchanged.await.unwrap_or(Ok(None))
    }
}

/// The answer to the request with this message ID, and its token.
fn read(datagram: &[u8], message_id: u16) -> Option<Answer> {
    let packet = Packet::from_bytes(datagram).ok()?;
    let block = packet.get_first_option(CoapOption::Block2);
    let more = block.and_then(|block| block.last()).is_some_and(|last| last & 0x08 != 0);
    let is_ours = packet.get_token() == message_id.to_be_bytes() && u8::from(packet.header.code) >= 2 << 5;
    is_ours.then_some(Answer { bytes: datagram.len(), more })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Bytes of the resource that the device has.
    const BODY: usize = 300;

    fn line(stream: DuplexStream) -> SlipmuxLine<DuplexStream> {
        SlipmuxLine::new(stream, "test".into(), Box::new(|_| ()))
    }

    /// What a server of blocks answers.
    fn served(request: &[u8]) -> Option<Vec<u8>> {
        let request = Packet::from_bytes(request).ok().filter(|it| u8::from(it.header.code) == GET)?;
        let szx = request.get_first_option(CoapOption::Block2)?.first().copied().unwrap_or(0);
        let mut answer = Packet::new();
        answer.header.set_type(MessageType::Acknowledgement);
        answer.header.code = (2 << 5 | 5).into();
        answer.header.message_id = request.header.message_id;
        answer.set_token(request.get_token().to_vec());
        let more = (16 << szx) < BODY;
        answer.add_option(CoapOption::Block2, vec![szx | if more { 0x08 } else { 0 }]);
        answer.payload = vec![7; BODY.min(16 << szx)];
        answer.to_bytes().ok()
    }

    /// A device that serves blocks, at a line whose buffers take so many bytes at once in each direction.
    fn bench(down: usize, up: usize) -> SlipmuxLine<DuplexStream> {
        let ((host, mut near), (mut far, device)) = (duplex(1 << 16), duplex(1 << 16));
        tokio::spawn(async move {
            let mut device = line(device);
            while let Ok(Datagram { bytes, .. }) = device.receive().await {
                if let Some(answer) = served(&bytes) {
                    device.send(&answer).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            let (mut from_host, mut from_device) = ([0; 2048], [0; 2048]);
            loop {
                tokio::select! {
                    Ok(read) = near.read(&mut from_host) => {
                        if read == 0 || far.write_all(&from_host[..read.min(down)]).await.is_err() {
                            break;
                        }
                    }
                    Ok(read) = far.read(&mut from_device) => {
                        near.write_all(&from_device[..read.min(up)]).await.unwrap();
                    }
                }
            }
        });
        line(host)
    }

    async fn fault(down: usize, up: usize) -> Option<Fault> {
        bench(down, up).too_short_for_messages(Duration::from_millis(5)).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_buffer_that_is_smaller_than_messages_is_found_in_both_directions() {
        assert_eq!(fault(2048, 2048).await, None);
        let short = fault(2048, 128).await.unwrap();
        assert!(matches!(short, Fault::Short { way: Way::FromDevice, carried: 65..=128, lost: 128 }), "{short:?}");
        let words = short.to_string();
        assert!(words.contains("from the device") && words.contains("smaller than that"), "{words}");
        let short = fault(100, 2048).await.unwrap();
        assert!(matches!(short, Fault::Short { way: Way::ToDevice, carried: 40..=100, lost: 101.. }), "{short:?}");
        assert!(short.to_string().contains("to the device"), "{short}");
        // So small that no answer gets through at all: this is not told by lengths.
        assert_eq!(fault(2048, 20).await, None);
    }
}
