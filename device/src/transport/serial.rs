//! slipmux over a serial line (draft-bormann-t2trg-slipmux): CoAP in configuration frames, the log in diagnostic ones.
//!
//! UART, USB CDC-ACM and a pty are the same to it. Frames of other types are ignored; so is what is not a frame, and a
//! frame whose checksum is wrong. Of one that is longer than a datagram may be, the beginning is kept.

use embedded_io_async::{Read, Write};
use slipmux::{ChunkedEncoder, DecodeStatus, Decoder, FrameHandler, FrameType};

use crate::{DATAGRAM_LEN, transport::Datagrams};

/// Bytes of the frame check sequence that ends a configuration frame.
const FCS_LEN: usize = 2;
/// Bytes taken from, or given to, the port at a time.
const CHUNK: usize = 64;

/// Why a serial line is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineError<E> {
    /// The other end is gone: the port reads end of file, or takes no more bytes.
    Closed,
    /// The port's own error.
    Port(E),
}

/// A serial port that carries slipmux.
pub struct Serial<P, A> {
    port: P,
    address: A,
    decoder: Decoder,
    frame: Frame,
    chunk: [u8; CHUNK],
    unread: core::ops::Range<usize>,
}

impl<P: Read + Write, A: Copy> Serial<P, A> {
    /// Speaks slipmux over `port`. Whoever is at its other end has the address `address`.
    pub const fn new(port: P, address: A) -> Self {
        let (decoder, frame) = (Decoder::new(), Frame::new());
        Serial { port, address, decoder, frame, chunk: [0; CHUNK], unread: 0..0 }
    }

    /// Takes bytes of the chunk up to the end of a frame that is wanted. False if there is none among them.
    fn next_frame(&mut self) -> bool {
        for at in self.unread.by_ref() {
            let Some(byte) = self.chunk.get(at) else { break };
            let decoded = self.decoder.decode(*byte, &mut self.frame);
            if let Ok(DecodeStatus::FrameCompleteConfiguration) = decoded
                && self.frame.is_datagram()
            {
                return true;
            }
        }
        false
    }

    async fn write_frame(&mut self, frame_type: FrameType, data: &[u8]) -> Result<(), LineError<P::Error>> {
        let mut encoder = ChunkedEncoder::new(frame_type, data);
        let mut chunk = [0; CHUNK];
        while !encoder.is_exhausted() {
            let len = encoder.encode_chunk(&mut chunk);
            write_all(&mut self.port, chunk.get(..len).unwrap_or_default()).await?;
        }
        self.port.flush().await.map_err(LineError::Port)
    }
}

impl<P: Read + Write, A: Copy> Datagrams<A> for Serial<P, A> {
    type Error = LineError<P::Error>;

    async fn receive(&mut self) -> Result<(&mut [u8], A), Self::Error> {
        while !self.next_frame() {
            match self.port.read(&mut self.chunk).await.map_err(LineError::Port)? {
                0 => return Err(LineError::Closed),
                len => self.unread = 0..len,
            }
        }
        Ok((self.frame.datagram(), self.address))
    }

    async fn send(&mut self, _to: A, datagram: &[u8]) -> Result<(), Self::Error> {
        self.write_frame(FrameType::Configuration, datagram).await
    }

    async fn log(&mut self, line: &str) -> Result<(), Self::Error> {
        self.write_frame(FrameType::Diagnostic, line.as_bytes()).await
    }
}

/// `Write::write_all` without its panic at a port that takes nothing.
async fn write_all<W: Write>(port: &mut W, mut bytes: &[u8]) -> Result<(), LineError<W::Error>> {
    while !bytes.is_empty() {
        match port.write(bytes).await.map_err(LineError::Port)? {
            0 => return Err(LineError::Closed),
            taken => bytes = bytes.get(taken..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Collects the bytes of one configuration frame.
struct Frame {
    bytes: [u8; DATAGRAM_LEN + FCS_LEN],
    len: usize,
    wanted: bool,
    too_long: bool,
}

impl Frame {
    const fn new() -> Self {
        Frame { bytes: [0; DATAGRAM_LEN + FCS_LEN], len: 0, wanted: false, too_long: false }
    }

    /// Whether what was collected may be a datagram.
    fn is_datagram(&self) -> bool {
        self.wanted && self.len >= FCS_LEN
    }

    /// Without the checksum; of one that is too long, more than a datagram may have.
    fn datagram(&mut self) -> &mut [u8] {
        let checksum = if self.too_long { 0 } else { FCS_LEN };
        self.bytes.get_mut(..self.len.saturating_sub(checksum)).unwrap_or_default()
    }
}

impl FrameHandler for Frame {
    fn begin_frame(&mut self, frame_type: FrameType) {
        self.len = 0;
        self.too_long = false;
        self.wanted = matches!(frame_type, FrameType::Configuration);
    }

    fn write_byte(&mut self, byte: u8) {
        if !self.wanted {
            return;
        }
        match self.bytes.get_mut(self.len) {
            Some(place) => {
                *place = byte;
                self.len = self.len.saturating_add(1);
            }
            None => self.too_long = true,
        }
    }

    fn end_frame(&mut self, _error: Option<slipmux::Error>) {}
}
