//! What a device says on its serial line, as lines of text: its diagnostic frames, and plain text outside of frames.
//!
//! Boot loaders, and firmware that knows no slipmux, print plain text. A frame begins behind an END (0xC0), which no UTF-8
//! text contains, so the two are told apart. Frames of IP packets begin with a character; devices of ours send none, so it is
//! taken for one.

use std::path::Path;

use slipmux::{Constants, Decoder, FrameHandler, FrameType};
use tokio::io::AsyncReadExt;
use tokio_serial::SerialStream;

use super::port::{self, UsbDevice, list_ports};
use super::{Error, Link};
use crate::text;

/// Longest log text that is passed on, in bytes; the rest of a longer one is cut off.
pub(super) const MAX_LOG: usize = 2048;
/// Bytes read at a time.
const CHUNK: usize = 2048;

/// A serial line that is only listened to, by us alone.
pub struct Diagnostics {
    stream: SerialStream,
    port: String,
    usb: Option<UsbDevice>,
    lines: Lines,
    bytes: Vec<u8>,
}

/// What came over the line.
#[derive(Debug)]
pub struct Heard<'a> {
    /// The bytes themselves.
    pub bytes: &'a [u8],
    /// The lines that they complete, fit to be shown.
    pub lines: Vec<String>,
}

impl Diagnostics {
    /// Opens a serial link; [`None`] if it is none.
    ///
    /// # Errors
    /// As [`Link::open`].
    pub fn open(link: &Link) -> Option<Result<Self, Error>> {
        match link {
            Link::Serial { path, baud } => Some(Self::open_port(path, *baud)),
            Link::Udp { .. } => None,
        }
    }

    /// Waits for something to be said.
    ///
    /// # Errors
    /// [`Error::Unplugged`] when the device went away.
    pub async fn next(&mut self) -> Result<Heard<'_>, Error> {
        self.bytes.clear();
        let mut room = (&mut self.stream).take(CHUNK as u64);
        match room.read_buf(&mut self.bytes).await {
            Ok(0) => Err(Error::Unplugged { port: self.port.clone() }),
            Ok(_) => Ok(Heard { lines: self.lines.push(&self.bytes), bytes: &self.bytes }),
            Err(error) => Err(port::failed(&self.port, error)),
        }
    }

    /// The line that had not ended when the device went away.
    pub fn rest(&mut self) -> Option<String> {
        self.lines.finish()
    }

    /// Closes the port, so that the device can have the same name again when it comes back. The name to open it by then: the
    /// same, or the one that its USB serial number is found under meanwhile.
    pub fn close(self, link: &Link) -> impl Fn() -> Link + use<> {
        let (link, usb) = (link.clone(), self.usb);
        move || match (&link, &usb) {
            (Link::Serial { path, baud }, Some(usb)) if link.plug().is_none() => {
                Link::Serial { path: usb.port(&list_ports()).unwrap_or_else(|| path.clone()), baud: *baud }
            }
            _ => link.clone(),
        }
    }

    fn open_port(path: &Path, baud: u32) -> Result<Self, Error> {
        let (stream, port) = (port::open(path, baud)?, path.display().to_string());
        let usb = UsbDevice::of(path, &list_ports());
        Ok(Self { stream, port, usb, lines: Lines::new(), bytes: Vec::with_capacity(CHUNK) })
    }
}

/// Makes lines of bytes.
pub(super) struct Lines {
    decoder: Decoder,
    frame: Frame,
    text: Vec<u8>,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { decoder: Decoder::new(), frame: Frame::default(), text: Vec::new() }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            self.frame.data = None;
            // Aborted frames and such of no known type are text that ends here.
            let _ = self.decoder.decode(*byte, &mut self.frame);
            let said = match self.frame.kind {
                _ if *byte == Constants::END => None,
                None => Some(*byte),
                Some(FrameType::Diagnostic | FrameType::Ip) => self.frame.data,
                Some(FrameType::Configuration) => None,
            };
            match said {
                Some(b'\n') => lines.extend(self.finish()),
                Some(said) => {
                    self.text.push(said);
                    if self.text.len() >= MAX_LOG {
                        lines.extend(self.finish());
                    }
                }
                None if *byte == Constants::END => lines.extend(self.finish()),
                None => {}
            }
        }
        lines
    }

    /// The line so far, unless it is empty.
    pub(super) fn finish(&mut self) -> Option<String> {
        let line = text::log(&self.text);
        self.text.clear();
        (!line.is_empty()).then_some(line)
    }
}

/// The frame that the decoder is in, and the byte of it that it has just decoded.
#[derive(Default)]
struct Frame {
    kind: Option<FrameType>,
    data: Option<u8>,
}

impl FrameHandler for Frame {
    fn begin_frame(&mut self, kind: FrameType) {
        self.kind = Some(kind);
    }

    fn write_byte(&mut self, byte: u8) {
        self.data = Some(byte);
    }

    fn end_frame(&mut self, _: Option<slipmux::Error>) {
        self.kind = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use slipmux::{Slipmux, encode_buffered};

    use super::*;

    fn lines(stream: &[u8], size: usize) -> Vec<String> {
        let mut lines = Lines::new();
        let mut said: Vec<_> = stream.chunks(size).flat_map(|piece| lines.push(piece)).collect();
        said.extend(lines.finish());
        said
    }

    fn diagnostic(text: &str) -> Vec<u8> {
        encode_buffered(Slipmux::Diagnostic(text.to_owned()))
    }

    #[test]
    fn frames_and_plain_text_are_lines_and_datagrams_are_not() {
        let answer = encode_buffered(Slipmux::Configuration(b"\x60\x45not for people\n".to_vec()));
        let stream = [
            b"\nROM boot\r\nE (12) flash: 4 MB\n",
            &diagnostic("first\nsecond")[..],
            &answer,
            b"panicked at src/main.rs\n",
            b"\x1b[31mError: \xe2\x9a\xa0\x1b[0m\n",
            &diagnostic("\u{c0}\u{db} fin"),
            &answer,
            b"no line ending",
        ]
        .concat();
        let said = [
            "ROM boot",
            "E (12) flash: 4 MB",
            "first",
            "second",
            "panicked at src/main.rs",
            "Error: \u{26a0}",
            "\u{c0}\u{db} fin",
            "no line ending",
        ];
        for size in [1, 5, stream.len()] {
            assert_eq!(lines(&stream, size), said, "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_shown_in_pieces_and_not_kept() {
        let mut lines = Lines::new();
        let said: Vec<_> = (0..10).flat_map(|_| lines.push(&[b'x'; MAX_LOG])).collect();
        assert_eq!(said, vec!["x".repeat(MAX_LOG); 10]);
        lines.push(&[0xc0, 0xa9]);
        assert!((0..10).all(|_| lines.push(&[b'x'; MAX_LOG]).is_empty()), "a datagram without end is none");
        assert!(lines.text.capacity() <= 2 * MAX_LOG);
    }

    proptest! {
        /// Whatever is on the line, nothing that moves a cursor is shown, and a frame behind it is.
        #[test]
        fn any_noise_is_survived(noise in proptest::collection::vec(any::<u8>(), 0..600), size in 1..64_usize) {
            let said = lines(&[&noise, &diagnostic("hello")[..]].concat(), size);
            prop_assert_eq!(said.last().map(String::as_str), Some("hello"));
            prop_assert!(said.iter().flat_map(|line| line.chars()).all(|c| !c.is_control() || c == '\t'));
        }
    }
}
