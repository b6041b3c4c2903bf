//! Report lines in a stream of bytes: a log, a program's output, a serial line.
//!
//! A report is `commissioning-report:` and then characters of base64url; the first byte that is none ends it. So it does
//! not matter what stands before or behind: a log level and a timestamp, colours, CRLF, or the borders of a slipmux
//! diagnostic frame, whose escapes never touch these characters. Nor does it matter how the stream is cut into reads.
//! Bytes that are not part of a report cost no memory, however many there are.
//!
//! Logs pass through other programs. So a report goes on behind a *seam*, unless it is whole already: colours, which end
//! with a letter that is no part of it, and the end of a line, where a terminal of 80 columns was copied from. Blanks between
//! the colon and the report do not matter either.

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
    /// What is wrong with the report as it was at its first seam, and the line; that counts if it does not go on behind it.
    at_seam: Option<(u64, Problem)>,
    escape: Escape,
    ended_lines: u64,
    in_line: bool,
    /// Whether the line has nothing in it, so far.
    is_blank: bool,
}

/// Where in an escape sequence (ECMA-48) the stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    /// In none.
    #[default]
    None,
    /// Behind ESC, and what may follow it before the last character.
    Begun,
    /// Behind ESC and `[`: parameters are still to come, and then the last character.
    Control,
}

impl Escape {
    const ESC: u8 = 0x1b;

    /// The state behind `byte`, if it belongs to the sequence; `None` if it is no part of one.
    fn push(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (_, Self::ESC) => Some(Self::Begun),
            (Self::Begun, b'[') => Some(Self::Control),
            (Self::Begun, b' '..=b'/') => Some(Self::Begun),
            (Self::Control, b' '..=b'?') => Some(Self::Control),
            (Self::Begun, b'0'..=b'~') | (Self::Control, b'@'..=b'~') => Some(Self::None),
            _ => None,
        }
    }
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
            match self.escape.push(*byte) {
                Some(escape) => {
                    if *byte == Escape::ESC {
                        found.extend(self.seam());
                    }
                    self.escape = escape;
                }
                None => {
                    self.escape = Escape::None;
                    found.extend(self.take(*byte));
                }
            }
        }
        found
    }

    /// A byte that is part of no escape sequence.
    fn take(&mut self, byte: u8) -> Option<Sighting> {
        let was_blank = self.is_blank;
        self.is_blank &= byte == b'\r';
        match byte {
            b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                self.lengthen_word(byte);
                None
            }
            b'\r' => self.seam(),
            b'\n' => {
                // A report that goes on does so in the next line.
                let found = if was_blank { self.end_word(false) } else { self.seam() };
                (self.ended_lines, self.is_blank) = (self.ended_lines + 1, true);
                found
            }
            b' ' | b'\t' if self.in_report && self.word.is_empty() => None,
            _ => self.end_word(byte == b':'),
        }
    }

    /// Where a report ends that is whole, and one goes on that is not. Elsewhere it is as if it were not there: the prefix
    /// may be cut by it, too.
    fn seam(&mut self) -> Option<Sighting> {
        if !self.in_report {
            return None;
        }
        match self.read() {
            Ok(_) => self.end_word(false),
            Err(problem) => {
                self.at_seam.get_or_insert((self.ended_lines + 1, problem));
                None
            }
        }
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
        let found = self.in_report.then(|| match (self.read(), self.at_seam.take()) {
            (Err(_), Some((line, problem))) => Sighting { line, report: Err(problem) },
            (report, _) => Sighting { line: self.ended_lines + 1, report },
        });
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

    /// What `fold -w` does: a line end behind every so many characters.
    fn folded(text: &str, columns: usize, ending: &str) -> String {
        let lines: Vec<_> = text.as_bytes().chunks(columns).map(|line| str::from_utf8(line).unwrap()).collect();
        lines.join(ending)
    }

    #[test]
    fn a_report_is_found_whatever_it_passed_through() {
        let key = key();
        let report = line("urn:dev:ops:32473-test-1", Some(&key));
        let (name, rest) = report.split_at(NAME.len());
        let base64 = &rest[1..];
        let (half, other_half) = base64.split_at(100);
        let mut streams = vec![
            // grep --color=always, with and without the colon; a viewer that colours words; a terminal's own reset.
            format!("\x1b[01;31m\x1b[K{name}\x1b[m\x1b[K:{base64}\n"),
            format!("\x1b[01;31m\x1b[K{name}:\x1b[m\x1b[K{base64}\n"),
            format!("12:\x1b[36m{name}:\x1b[0m {base64}\x1b[0mno part of it\n"),
            format!("\x1b[1mcommissioning\x1b[22m-report:\x1b[38;5;214m\t {half}\x1b[K{other_half}\x1b(B\x1b[mx\n"),
            format!("{report}\nmore\n"),
            format!("{report}\r\n\r\nmore\r\n"),
        ];
        for columns in [1, 7, 40, 80, 132, report.len(), report.len() + 1] {
            for ending in ["\n", "\r\n"] {
                for behind in ["", "\n", "\nboot", "\r\nboot ok\n", "\n\nboot\n"] {
                    streams.push(folded(&format!("INFO app: {report}"), columns, ending) + behind);
                }
            }
        }
        for stream in streams {
            for size in [1, 7, stream.len()] {
                assert_eq!(keys(&scan(stream.as_bytes(), size)), [Some(key)], "{stream:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_report_that_does_not_go_on_is_told_where_it_was_cut() {
        let (one, two) = (key(), key());
        let [cut, whole] = [&one, &two].map(|key| line("urn:dev:ops:32473-test-1", Some(key)));
        let cut = &cut[..200];
        for behind in ["boot ok", "", "\n", "\x1b[1mboot", "A", "-----"] {
            let found = scan(format!("first\n{cut}\n{behind}\n\n{whole}\n").as_bytes(), 16);
            assert_eq!(keys(&found), [None, Some(two)], "{behind:?}");
            assert_eq!(
                (found[0].line, &found[0].report),
                (2, &Err(Problem::Malformed(cbor_schemas::Error::Truncated)))
            );
        }
        assert_eq!(keys(&scan(format!("{cut}\n{whole}\n").as_bytes(), 16)), [None, Some(two)]);
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
            Just(b"\x1b".to_vec()),
            Just(b"\n".to_vec()),
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
