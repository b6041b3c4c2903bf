//! Text that others wrote, fit to be shown.
//!
//! Reasons, events, firmware strings, log lines, a peer's error messages, names in a file: whatever came from a device, a
//! file or another registry may hold characters that move a terminal's cursor, turn the direction of writing, end a line, or
//! are not seen at all. Those are written as Rust writes them (`\u{202e}`): nothing runs, and nothing is hidden.
//!
//! A program lets nothing else through where its texts go out: results, complaints, the steps of
//! [`progress`](crate::progress), the diagnostics of `tracing`. It cannot know there which end of a line was ours, so what is
//! shown inside a line is passed through [`line()`] where it is put there. `--json` carries the text as it is, spelled so that
//! neither a terminal nor a reader of lines is led astray ([`json`]).

use std::io::{self, Write};

use icu_normalizer::ComposingNormalizerBorrowed;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Text for one line, or a part of it: nothing in it ends the line.
pub fn line(text: &str) -> String {
    shown(text, |_| false)
}

/// Text of several lines, whose ends are ours.
pub fn lines(text: &str) -> String {
    shown(text, |c| c == '\n' || c == '\t')
}

/// What a device or a program prints, without its colours.
pub fn log(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    lines(anstream::adapter::strip_str(&text).to_string().trim_end())
}

/// Text for a cell of a table that a spreadsheet may open: nothing in it is a formula to run, nor is what stands behind a `;`,
/// which ends a cell where a comma is in numbers.
pub fn cell(text: &str) -> String {
    let harmless = |piece: &str| if is_formula(piece) { format!("'{piece}") } else { piece.to_owned() };
    line(text).split(';').map(harmless).collect::<Vec<_>>().join(";")
}

/// Spreadsheets pass over blanks and quotes, and take the wide forms for the narrow ones.
fn is_formula(cell: &str) -> bool {
    let begins = cell.trim_start_matches(|c: char| c.is_whitespace() || c == '"');
    begins.starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
}

/// What people read: the same for texts that they cannot tell apart by case, width, composition (NFKC) or the number of blanks.
pub fn folded(text: &str) -> String {
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    // Upper case first, which spells out what has none of its own (ß), and letter by letter, as a sigma differs at a word's end.
    let caseless =
        nfkc.normalize(text).chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect::<String>();
    nfkc.normalize(&caseless).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// So many of something: `1 key`, `2 keys`.
pub fn count(number: impl TryInto<u64>, one: &str, more: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {one}"),
        number => format!("{number} {more}"),
    }
}

/// A record as one line of JSON. Its strings are what they are, but nothing in the line itself leads anybody astray.
///
/// # Errors
/// If the record has no form in JSON.
pub fn json(record: &(impl Serialize + ?Sized)) -> serde_json::Result<String> {
    let mut text = Vec::new();
    record.serialize(&mut Serializer::with_formatter(&mut text, Escaping))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whether a character is seen as what it is.
///
/// Not seen so are controls, formats (of direction, width nil), the ends of lines and paragraphs, odd spaces, what Unicode
/// has not assigned; and fillers and selectors, which are letters and marks without a shape.
pub fn is_plain(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => false,
        '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}' => false,
        // Rust's own rule for `Debug`. Behind another character it leaves combining marks alone, which languages need.
        c => String::from_iter(['x', c]).escape_debug().eq(['x', c]),
    }
}

fn shown(text: &str, also: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_plain(c) || also(c) {
            true => shown.push(c),
            false => shown.extend(c.escape_default()),
        }
    }
    shown
}

/// JSON with more escapes than JSON asks for.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.chars().all(is_plain) {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        for c in fragment.chars() {
            let mut utf16 = [0; 2];
            match is_plain(c) {
                true => write!(writer, "{c}")?,
                false => c.encode_utf16(&mut utf16).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?,
            }
        }
        Ok(())
    }
}

/// Where `tracing` writes: each write is one event, and becomes one line.
pub struct LogWriter<W>(pub W);

impl<W: Write> Write for LogWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = line(String::from_utf8_lossy(event).trim_end_matches('\n'));
        self.0.write_all(format!("{text}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of each kind, and the ends of the ranges: controls, directions, line ends, formats, fillers, tags, odd spaces.
    const MISLEADING: &str = "\0\u{1}\u{7}\u{8}\u{b}\u{c}\r\u{1b}\u{1f}\u{7f}\u{80}\u{85}\u{9b}\u{9d}\u{9f}\u{a0}\u{ad}\
        \u{34f}\u{600}\u{61c}\u{6dd}\u{70f}\u{8e2}\u{115f}\u{1160}\u{17b4}\u{180b}\u{180e}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\
        \u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{202f}\u{2060}\u{2061}\u{2064}\u{2065}\u{2066}\u{2067}\u{2068}\
        \u{2069}\u{206a}\u{206f}\u{2800}\u{3000}\u{3164}\u{e000}\u{fdd0}\u{fe00}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{fffb}\u{110bd}\
        \u{13430}\u{1bca0}\u{1d173}\u{e0001}\u{e0020}\u{e007f}\u{e0100}\u{e01ef}\u{10ffff}";

    #[test]
    fn what_misleads_is_spelled_out() {
        for c in MISLEADING.chars() {
            let said = format!("a{c}b");
            assert_eq!(lines(&said), format!("a{}b", c.escape_default()));
            assert_eq!(line(&said), lines(&said));
            assert_eq!(serde_json::from_str::<String>(&json(&said).unwrap()).unwrap(), said);
            assert!(json(&said).unwrap().chars().all(is_plain), "{c:?}");
        }
        assert_eq!(line("one\n  two\tthree"), "one\\n  two\\tthree");
        assert_eq!(lines("one\n  two\tthree"), "one\n  two\tthree");
        assert_eq!(json(&"\u{e0041}\u{2028}\u{9b}").unwrap(), r#""\udb40\udc41\u2028\u009b""#);
    }

    #[test]
    fn what_people_write_stays() {
        for text in [
            "Küche 2",
            "Ku\u{308}che",
            "厨房",
            "кухня",
            "\u{5de}\u{5d8}\u{5d1}\u{5d7}",
            "C:\\new 'x' \"y\"",
            "⚠ 20 °C ✓",
            "\u{1f4a1}",
        ] {
            assert_eq!([line(text), cell(text), log(text.as_bytes())], [text; 3]);
            assert_eq!(json(text).unwrap(), serde_json::to_string(text).unwrap());
        }
    }

    #[test]
    fn a_log_loses_its_colours_only() {
        assert_eq!(log(b"\x1b[1;32mINFO\x1b[0m \x1b]0;title\x07done\r\n"), "INFO done");
        assert_eq!(log("\u{9b}1m plain\ttext \u{202e}\u{ff}".as_bytes()), "\\u{9b}1m plain\ttext \\u{202e}\u{ff}");
        assert_eq!(log(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_spreadsheet_runs_no_cell() {
        let formula = "cmd|'/c calc'!A1";
        for first in ["=", "+", "-", "@", "\u{ff1d}", "\u{ff0b}", "\u{ff0d}", "\u{ff20}"] {
            for before in ["", " ", "  ", "\u{1680}"] {
                let text = format!("{before}{first}{formula}");
                assert!(["'", "\\"].iter().any(|start| cell(&text).starts_with(start)), "{:?}", cell(&text));
            }
            for before in ["\t", "\r", "\n", " \t ", "\u{a0}", "\u{feff}", "\u{200b}"] {
                let shown = cell(&format!("{before}{first}{formula}"));
                assert!(shown.trim_start().starts_with('\\') && !shown.contains(['\t', '\r', '\n']), "{shown:?}");
            }
        }
        assert_eq!(cell("=1+1"), "'=1+1");
        // Where `;` ends a cell, what is behind it begins one; quotes around it are taken away there.
        for (text, harmless) in [
            ("a;=1+1;b", "a;'=1+1;b"),
            ("a; -1", "a;' -1"),
            ("a;\"=1+1\"", "a;'\"=1+1\""),
            ("a;\"\" @x", "a;'\"\" @x"),
            (";;+1", ";;'+1"),
            ("=1;=2", "'=1;'=2"),
            ("warm; dry", "warm; dry"),
            ("a=1;b=2", "a=1;b=2"),
        ] {
            assert_eq!(cell(text), harmless);
        }
        assert_eq!(cell("urn:dev:ops:32473-a"), "urn:dev:ops:32473-a");
    }

    #[test]
    fn an_event_is_one_line() {
        let mut written = Vec::new();
        LogWriter(&mut written).write_all("WARN forged\nERROR \u{1b}[2J\u{202e}\n".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), "WARN forged\\nERROR \\u{1b}[2J\\u{202e}\n");
    }

    proptest! {
        #[test]
        fn nothing_else_comes_through_and_once_is_enough(text in ".*") {
            let shown = line(&text);
            prop_assert!(shown.chars().all(is_plain));
            prop_assert_eq!(&line(&shown), &shown);
            prop_assert_eq!(cell(&cell(&text)), cell(&text));
            let parsed: String = serde_json::from_str(&json(&text).unwrap()).unwrap();
            prop_assert_eq!(parsed, text);
        }

        #[test]
        fn no_cell_begins_with_a_formula_wherever_it_is_parted(text in "[;=+@ \"'a-]{0,12}") {
            let shown = cell(&text);
            for piece in shown.split(';') {
                prop_assert!(!piece.trim_start_matches([' ', '"']).starts_with(['=', '+', '-', '@']), "{}", shown);
            }
            prop_assert_eq!(cell(&shown), shown);
        }
    }
}
