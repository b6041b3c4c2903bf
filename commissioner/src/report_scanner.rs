//! Report lines in a stream of bytes: a log, a program's output, a serial line.
//!
//! A report is `commissioning-report:` and then characters of base64url; the first byte that is none ends it. So it does
//! not matter what stands before or behind: a log level and a timestamp, colours, CRLF, or the borders of a slipmux
//! diagnostic frame, whose escapes never touch these characters. Nor does it matter how the stream is cut into reads.
//! Bytes that are not part of a report cost no memory, however many there are.

use cbor_schemas::{DeviceId, DeviceInfo, Profile, ProofLevel, report};
use protocol::key::PublicKey;

use crate::registry::{Observation, Place};

/// The prefix of a report up to its colon: like the report itself, characters of base64url.
const NAME: &[u8] = report::PREFIX.as_bytes().split_last().expect("a prefix").1;
/// Room for a DeviceInfo, with keys that we do not know, in bytes.
const MAX_INFO: usize = 2 * DeviceInfo::MAX_LEN;
/// The longest report that is looked at, in characters; behind it there may be the name of the next one.
const MAX_WORD: usize = MAX_INFO.div_ceil(3) * 4 + NAME.len();

/// What a device says of itself in a report. Anybody could have written it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The device ID.
    pub device: DeviceId,
    /// The device's key.
    pub key: PublicKey,
    generation: u32,
    profile: Profile,
}

/// Why a report is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is cut, or something else than a report follows the prefix.
    #[error("{0}")]
    Malformed(#[from] cbor_schemas::Error),
    /// The device has no key.
    #[error("the device has no key (condition fault); erase it and start it again")]
    NoKey,
    /// The key is none.
    #[error("{0}")]
    Key(#[from] protocol::key::KeyError),
}

/// A report, or what looked like one, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The line on which it ended, counted from 1.
    pub line: u64,
    /// What it says.
    pub report: Result<Report, Problem>,
}

/// Finds reports in bytes that come piece by piece.
#[derive(Debug, Default)]
pub struct ReportScanner {
    /// The characters of base64url since the last other byte; of too many, the last ones.
    word: Vec<u8>,
    too_long: bool,
    /// Whether the word stands behind a prefix.
    in_report: bool,
    ended_lines: u64,
    in_line: bool,
}

impl ReportScanner {
    /// A scanner at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes; returns the reports that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Sighting> {
        let mut found = Vec::new();
        for byte in bytes {
            self.in_line = *byte != b'\n';
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
                self.lengthen_word(*byte);
            } else {
                found.extend(self.end_word(*byte == b':'));
                self.ended_lines += u64::from(*byte == b'\n');
            }
        }
        found
    }

    /// The stream has ended: returns the report that ended with it.
    pub fn finish(&mut self) -> Option<Sighting> {
        self.end_word(false)
    }

    /// How many lines there were, the last one included if it has no ending.
    pub fn lines(&self) -> u64 {
        self.ended_lines + u64::from(self.in_line)
    }

    fn lengthen_word(&mut self, character: u8) {
        if self.word.len() == MAX_WORD {
            // Only its end can still matter.
            self.word.drain(..MAX_WORD - NAME.len());
            self.too_long = true;
        }
        self.word.push(character);
    }

    fn end_word(&mut self, by_colon: bool) -> Option<Sighting> {
        let is_name = by_colon && self.word.ends_with(NAME);
        if is_name {
            // What stands before it is a report that a restart cut off, or one that was not followed by anything else.
            self.word.truncate(self.word.len() - NAME.len());
        }
        let found = self.in_report.then(|| Sighting { line: self.ended_lines + 1, report: self.read() });
        self.in_report = is_name;
        self.too_long = false;
        self.word.clear();
        found
    }

    fn read(&self) -> Result<Report, Problem> {
        if self.too_long {
            return Err(cbor_schemas::Error::TooLong.into());
        }
        let line = format!("{}{}", report::PREFIX, String::from_utf8_lossy(&self.word));
        let mut buffer = [0; MAX_INFO];
        let info = report::find(&line, &mut buffer).unwrap_or(Err(cbor_schemas::Error::Truncated))?;
        let credential = info.credential.ok_or(Problem::NoKey)?;
        let key = PublicKey::from_cose(&credential)?;
        Ok(Report { device: info.device, key, generation: info.generation, profile: info.profile })
    }
}

impl Report {
    /// The report as the registry takes it, seen at `place`.
    pub fn seen(&self, place: Place) -> Observation {
        let Self { device, key, generation, profile } = *self;
        Observation { device, key, generation, profile, place, proof: ProofLevel::Unproven }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use slipmux::{Slipmux, encode_buffered};

    use super::*;
    use crate::registry::testing::{info, key};

    fn line(id: &str, key: Option<&PublicKey>) -> String {
        let mut line = String::new();
        report::write(&info(&id.parse().unwrap(), key), &mut line).unwrap();
        line
    }

    /// All that is found when the stream comes in pieces of `size`.
    fn scan(stream: &[u8], size: usize) -> Vec<Sighting> {
        let mut scanner = ReportScanner::new();
        let mut found: Vec<_> = stream.chunks(size).flat_map(|piece| scanner.push(piece)).collect();
        found.extend(scanner.finish());
        found
    }

    fn keys(found: &[Sighting]) -> Vec<Option<PublicKey>> {
        found.iter().map(|sighting| sighting.report.as_ref().ok().map(|report| report.key)).collect()
    }

    #[test]
    fn a_report_is_found_whatever_stands_around_it() {
        let key = key();
        let report = line("urn:dev:ops:32473-test-1", Some(&key));
        let frame = encode_buffered(Slipmux::Diagnostic(report.clone()));
        let noisy = [b"boot\xc0\xc0\xa9\x40\xdb\xdd", &frame[..], b"\xc0\xa9\x40\x01\0\0\xbc\x38\xc0"].concat();
        let streams: [Vec<u8>; 9] = [
            report.clone().into(),
            format!("boot\r\n{report}\r\nmore\r\n").into(),
            format!("0.001234 INFO  {report}\n\u{2514}\u{2500} app @ src/main.rs:7\n").into(),
            format!("\x1b[32mINFO\x1b[0m \x1b[1m{report}\x1b[0m\n").into(),
            format!("{{\"message\":\"{report}\",\"level\":3}}\n").into(),
            format!("\0\u{fffd}\u{9b}1m{report}\u{e9}\n").into(),
            format!("x{report}").into(),
            frame,
            noisy,
        ];
        for stream in streams {
            for size in [1, 7, stream.len()] {
                let shown = String::from_utf8_lossy(&stream);
                assert_eq!(keys(&scan(&stream, size)), [Some(key)], "{shown:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn lines_are_counted_as_an_editor_does() {
        let log = format!("one\ntwo {}\r\n\nlast", line("urn:dev:ops:32473-test-1", Some(&key())));
        let mut scanner = ReportScanner::new();
        let found = scanner.push(log.as_bytes());
        assert_eq!(found[0].line, 2);
        assert_eq!((scanner.lines(), scanner.finish()), (4, None));
        assert_eq!(ReportScanner::new().lines(), 0);
    }

    #[test]
    fn a_restart_in_the_middle_of_a_report_costs_that_one_only() {
        let (one, two) = (key(), key());
        let [first, second] = [&one, &two].map(|key| line("urn:dev:ops:32473-test-1", Some(key)));
        assert_eq!(keys(&scan(format!("{}{second}\n", &first[..200]).as_bytes(), 64)), [None, Some(two)]);
        assert_eq!(keys(&scan(format!("{first}{second}\n").as_bytes(), 64)), [Some(one), Some(two)]);
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let id = "urn:dev:ops:32473-test-1";
        let problem = |text: &str| scan(text.as_bytes(), 16).pop().unwrap().report.unwrap_err();
        let good = line(id, Some(&key()));
        let cut = &good[..good.len() - 9];
        for text in [cut, "commissioning-report:", "commissioning-report:\nAAAA", "commissioning-report:<base64url>"] {
            assert_eq!(problem(text), Problem::Malformed(cbor_schemas::Error::Truncated), "{text}");
        }
        let endless = format!("commissioning-report:{}\n", "A".repeat(100_000));
        assert_eq!(problem(&endless), Problem::Malformed(cbor_schemas::Error::TooLong));
        assert_eq!(problem(&line(id, None)), Problem::NoKey);
        for text in ["", "commissioning-report", "commissioning-report :AAAA", "Commissioning-report:AAAA"] {
            assert_eq!(scan(text.as_bytes(), 16), [], "{text}");
        }
    }

    #[test]
    fn a_stream_without_end_costs_no_memory() {
        let mut scanner = ReportScanner::new();
        for piece in [&[b'A'; 5000][..], b"commissioning-report:", &[b'A'; 5000], b"\n", &[0xc0; 5000]] {
            for _ in 0..100 {
                scanner.push(piece);
                assert!(scanner.word.capacity() <= 2 * MAX_WORD, "{}", scanner.word.capacity());
            }
        }
        // A word that was too long to be a report still announces one.
        let (key, long) = (key(), "A".repeat(10_000));
        let report = line("urn:dev:ops:32473-test-1", Some(&key));
        assert_eq!(keys(&scan(format!("{long}{report}").as_bytes(), 4096)), [Some(key)]);
        assert_eq!(keys(&scan(format!("commissioning-report:{long}{report}").as_bytes(), 4096)), [None, Some(key)]);
    }

    /// Bytes as they come from logs and lines: reports whole and cut, parts of the prefix, frame borders, noise.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let report = line("urn:dev:ops:32473-test-1", Some(&key()));
        let whole = report.clone().into_bytes();
        let piece = prop_oneof![
            Just(whole.clone()),
            (0..whole.len()).prop_map(move |len| whole[..len].to_vec()),
            Just(b"commissioning-report:".to_vec()),
            Just(b"commissioning-".to_vec()),
            Just(b"\xc0\x0a".to_vec()),
            Just(b"\xc0".to_vec()),
            Just(b"\x1b[0m".to_vec()),
            Just(b"\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40),
            "[A-Za-z0-9_:-]{0,900}".prop_map(String::into_bytes),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// However the stream is cut into reads, the same reports are found, on the same lines.
        #[test]
        fn reads_do_not_matter(stream in stream(), cuts in proptest::collection::vec(1..200_usize, 1..40)) {
            let whole = scan(&stream, stream.len().max(1));
            let mut scanner = ReportScanner::new();
            let (mut found, mut rest) = (Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                found.extend(scanner.push(piece));
                rest = behind;
            }
            found.extend(scanner.finish());
            prop_assert_eq!(found, whole);
        }

        /// On a line of its own, whatever the line has besides, the scanner agrees with the schema's own reader.
        #[test]
        fn one_line_is_read_as_the_schema_reads_it(before in "[ -~&&[^:]]{0,80}", behind in "[ -,./:-@]{0,30}") {
            let key = key();
            let text = format!("{before}{}{behind}", line("urn:dev:ops:32473-test-1", Some(&key)));
            let mut buffer = [0; MAX_INFO];
            let expected = report::find(&text, &mut buffer).unwrap().unwrap();
            let found = scan(text.as_bytes(), text.len());
            prop_assert_eq!(found.len(), 1);
            let report = found[0].report.as_ref().unwrap();
            prop_assert_eq!((report.device, report.key), (expected.device, key));
        }
    }
}
