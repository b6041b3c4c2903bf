//! slipmux over a UART (draft-bormann-t2trg-slipmux), a byte at a time: CoAP in configuration frames, the report line in a
//! diagnostic one. What is no frame, of another type or damaged is ignored; of what is too long, the beginning is kept.

use heapless::Vec;
use slipmux::{ChunkedEncoder, DecodeStatus, Decoder, FrameHandler};

pub use slipmux::FrameType;

use crate::DATAGRAM_LEN;

/// Bytes of the frame check sequence that ends a configuration frame.
const FCS_LEN: usize = 2;
/// Bytes handed to the UART at a time.
const CHUNK: usize = 16;

/// The receiving end of a UART.
pub struct Line {
    decoder: Decoder,
    frame: Frame,
}

impl Line {
    /// A line on which nothing was received yet.
    pub const fn new() -> Self {
        Line { decoder: Decoder::new(), frame: Frame { bytes: Vec::new(), wanted: false, too_long: false } }
    }

    /// Takes a byte from the UART. Returns a datagram with its last one, to be decrypted in place. One that is longer than may
    /// be is cut, but stays longer than that.
    pub fn take(&mut self, byte: u8) -> Option<&mut [u8]> {
        match self.decoder.decode(byte, &mut self.frame) {
            Ok(DecodeStatus::FrameCompleteConfiguration) => {
                let checksum = if self.frame.too_long { 0 } else { FCS_LEN };
                let len = self.frame.bytes.len().checked_sub(checksum)?;
                self.frame.bytes.get_mut(..len)
            }
            _ => None,
        }
    }

    /// Hands the bytes of a frame to `send`, a few at a time.
    pub fn frame(frame_type: FrameType, data: &[u8], mut send: impl FnMut(&[u8])) {
        let mut encoder = ChunkedEncoder::new(frame_type, data);
        let mut chunk = [0; CHUNK];
        while !encoder.is_exhausted() {
            let len = encoder.encode_chunk(&mut chunk);
            send(chunk.get(..len).unwrap_or_default());
        }
    }
}

impl Default for Line {
    fn default() -> Self {
        Line::new()
    }
}

/// Collects the bytes of one configuration frame.
struct Frame {
    bytes: Vec<u8, { DATAGRAM_LEN + FCS_LEN }>,
    wanted: bool,
    too_long: bool,
}

impl FrameHandler for Frame {
    fn begin_frame(&mut self, frame_type: FrameType) {
        self.bytes.clear();
        self.too_long = false;
        self.wanted = matches!(frame_type, FrameType::Configuration);
    }

    fn write_byte(&mut self, byte: u8) {
        if self.wanted {
            self.too_long |= self.bytes.push(byte).is_err();
        }
    }

    fn end_frame(&mut self, _error: Option<slipmux::Error>) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(frame_type: FrameType, data: &[u8]) -> std::vec::Vec<u8> {
        let mut line = std::vec::Vec::new();
        Line::frame(frame_type, data, |bytes| line.extend_from_slice(bytes));
        line
    }

    fn received(line: &mut Line, bytes: &[u8]) -> std::vec::Vec<std::vec::Vec<u8>> {
        bytes.iter().filter_map(|byte| line.take(*byte).map(|datagram| datagram.to_vec())).collect()
    }

    #[test]
    fn only_whole_datagrams_come_out() {
        let mut line = Line::new();
        let ping = b"\xc0\xa9\x40\x01\x00\x00\xbc\x38\xc0";
        assert_eq!(received(&mut line, ping), [b"\x40\x01\x00\x00"]);
        let mut damaged = *ping;
        damaged[4] ^= 1;
        assert!(received(&mut line, &damaged).is_empty());
        assert!(received(&mut line, &framed(FrameType::Diagnostic, b"hello")).is_empty());
        let longest = [0xc0; DATAGRAM_LEN];
        assert_eq!(received(&mut line, &framed(FrameType::Configuration, &longest)), [longest]);
        for too_long in [DATAGRAM_LEN + 1, DATAGRAM_LEN + 2, 2000] {
            let cut = received(&mut line, &framed(FrameType::Configuration, &vec![7; too_long]));
            assert!(cut.len() == 1 && cut[0].len() > DATAGRAM_LEN && cut[0][..100] == [7; 100], "{too_long}");
        }
        assert_eq!(received(&mut line, ping).len(), 1, "and it goes on");
    }

    proptest! {
        #[test]
        fn garbage_in_between_does_no_harm(garbage in prop::collection::vec(any::<u8>(), 0..1500)) {
            let mut line = Line::new();
            received(&mut line, &garbage);
            // An END closes whatever the garbage had opened.
            received(&mut line, &[0xc0]);
            prop_assert_eq!(received(&mut line, &framed(FrameType::Configuration, b"data")), [b"data"]);
        }
    }
}
