//! What came over a serial line, in sum: what there is to say of one over which no answer came.

use std::collections::VecDeque;

use cbor_schemas::report;
use slipmux::Constants;

use super::diagnostics::Lines;
use super::fault::Fault;

/// Bytes that are kept of what comes instead of an answer.
const CAPTURE: usize = 1024;
/// Lines of text that are kept.
const LINES: usize = 3;

/// All that came over a line, in sum.
pub(super) struct Heard {
    bytes: u64,
    /// How many of them no text has.
    binary: u64,
    /// How many of them have their eighth bit set.
    eighth_bits: u64,
    /// Bytes of frames that we had sent ourselves.
    pub(super) own: u64,
    /// Frames that held a datagram, or should have.
    pub(super) frames: u64,
    lines: Lines,
    said: VecDeque<String>,
    /// What came since the last ping was sent.
    pub(super) capture: Option<Vec<u8>>,
}

impl Heard {
    pub(super) fn new() -> Self {
        let (lines, said) = (Lines::new(), VecDeque::new());
        Self { bytes: 0, binary: 0, eighth_bits: 0, own: 0, frames: 0, lines, said, capture: None }
    }

    /// Takes note of bytes that were read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.binary += binary(bytes);
        self.eighth_bits += bytes.iter().filter(|byte| !byte.is_ascii()).count() as u64;
        for line in self.lines.push(bytes) {
            self.said.push_back(line);
            if self.said.len() > LINES {
                self.said.pop_front();
            }
        }
        if let Some(capture) = &mut self.capture {
            let room = CAPTURE.saturating_sub(capture.len());
            capture.extend(bytes.iter().take(room));
        }
    }

    /// Takes note that one of the frames that were read was our own.
    pub(super) fn own(&mut self, frame: &[u8]) {
        self.bytes = self.bytes.saturating_sub(frame.len() as u64);
        self.binary = self.binary.saturating_sub(binary(frame));
        self.own += frame.len() as u64;
    }

    /// Whether anything came that is not our own.
    pub(super) fn anything(&self) -> bool {
        self.bytes > 0
    }

    /// The fault of a line over which nothing answers.
    pub(super) fn without_answer(&mut self) -> Option<Fault> {
        let lines: Vec<_> = self.said.iter().cloned().chain(self.lines.finish()).collect();
        if let Some(at) = lines.iter().position(|line| line.contains(report::PREFIX)) {
            return Some(if self.is_seven_bits(&lines[..at]) { Fault::SevenBits } else { Fault::Deaf });
        }
        // A port at another speed gives all kinds of bytes.
        let is_text = !lines.is_empty() && self.binary * 4 <= self.bytes;
        match (is_text, self.own > self.bytes, self.bytes) {
            (true, ..) => Some(Fault::Text { lines }),
            (false, true, _) => Some(Fault::Loop),
            (false, false, bytes) => (bytes > 0 && self.frames == 0).then_some(Fault::Unreadable { bytes }),
        }
    }

    /// Whether a device's report, in front of which these lines stand, came without the eighth bit of its bytes. It is in a
    /// diagnostic frame, `c0 0a`, which is then the line `@`.
    fn is_seven_bits(&self, before: &[String]) -> bool {
        self.eighth_bits == 0 && before.last().is_some_and(|line| line.ends_with(char::from(Constants::END & 0x7f)))
    }
}

/// How many bytes no text has.
fn binary(bytes: &[u8]) -> u64 {
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x1b | b' '..=b'~');
    bytes.iter().filter(|byte| !is_text(byte)).count() as u64
}
