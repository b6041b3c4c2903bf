//! The board's log: the diagnostic frames among what it sends.

use slipmux::{DecodeStatus, Decoder, FrameHandler, FrameType};

/// Prints the diagnostic frames of a stream.
pub(crate) struct Console {
    decoder: Decoder,
    line: Line,
}

/// The text of one diagnostic frame.
struct Line {
    text: Vec<u8>,
    is_wanted: bool,
}

impl Console {
    pub(crate) fn new() -> Self {
        Console { decoder: Decoder::new(), line: Line { text: Vec::new(), is_wanted: false } }
    }

    /// Prints the lines that end in `bytes`.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Ok(DecodeStatus::FrameCompleteDiagnostic) = self.decoder.decode(*byte, &mut self.line) {
                println!("{}", String::from_utf8_lossy(&self.line.text));
            }
        }
    }
}

impl FrameHandler for Line {
    fn begin_frame(&mut self, frame_type: FrameType) {
        self.text.clear();
        self.is_wanted = matches!(frame_type, FrameType::Diagnostic);
    }

    fn write_byte(&mut self, byte: u8) {
        /// More than any line of a board.
        const LONGEST: usize = 4096;
        if self.is_wanted && self.text.len() < LONGEST {
            self.text.push(byte);
        }
    }

    fn end_frame(&mut self, _error: Option<slipmux::Error>) {}
}
