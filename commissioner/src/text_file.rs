//! Text files as they lie around: plain, compressed by gzip, in UTF-16, as Windows redirects what a program says, in both after
//! each other, as `>>` leaves it there, or behind the mark of a byte order.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    os::fd::AsFd,
    path::Path,
    time::SystemTime,
};

use flate2::bufread::GzDecoder;

use crate::files::Input;

/// Bytes that tell what a file is.
const HEAD: u64 = 64;
/// How a file begins that gzip compressed.
const GZIP: &[u8] = b"\x1f\x8b";
/// How files begin that other programs compressed.
const FOREIGN: [(&[u8], &str); 4] =
    [(b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"PK\x03\x04", "zip")];
/// So many characters of ASCII after each other tell in which of the two encodings they are: fewer than begin a report, or are in
/// the time of a line.
const RUN: usize = 16;

/// A file, from which text is read, in UTF-8 if it is text at all.
pub struct TextFile {
    text: Box<dyn Read>,
    written: Option<u64>,
}

impl TextFile {
    /// Opens a file.
    ///
    /// # Errors
    /// Those of [`Input::open`]; and if it is compressed in a way that is not known here.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(Input::open(path)?)
    }

    /// Standard input.
    ///
    /// # Errors
    /// As [`TextFile::open`].
    pub fn stdin() -> io::Result<Self> {
        Self::new(File::from(io::stdin().as_fd().try_clone_to_owned()?).into())
    }

    /// When a file was written to for the last time, Unix seconds; none if it is being written just now: a pipe.
    pub fn written(&self) -> Option<u64> {
        self.written
    }

    fn new(file: Input) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let modified = metadata.modified().ok().filter(|_| metadata.is_file());
        let since_1970 = modified.map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        Ok(Self { text: text(file)?, written: since_1970.map(|since| since.as_secs()) })
    }
}

impl Read for TextFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.text.read(out)
    }
}

/// The text in what may be compressed, or in UTF-16, or both.
fn text(file: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let (head, file) = look(Box::new(file))?;
    if !head.starts_with(GZIP) {
        return decoded(&head, file);
    }
    let (head, file) = look(Box::new(Gunzip::new(BufReader::new(file))))?;
    decoded(&head, file)
}

fn decoded(head: &[u8], file: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
    if let Some((_, by)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(io::Error::other(format!("it is compressed by {by}, and only gzip is known here: unpack it")));
    }
    let (order, units) = head.split_first_chunk().unwrap_or((&[0, 0], &[]));
    let order = match order {
        [0xff, 0xfe] => Order::Little,
        [0xfe, 0xff] => Order::Big,
        [0xef, 0xbb] if units.starts_with(&[0xbf]) => {
            return Ok(Box::new(Decoder::new(without(3, file)?, None, Order::Little)));
        }
        _ => return Ok(Box::new(Decoder::new(file, None, Order::Little))),
    };
    // A log may begin with these bytes, too. But most of a text is ASCII; else the first run of it tells.
    let (units, _) = units.as_chunks();
    let ascii = units.iter().filter(|unit| order.number(**unit) < 0x80).count();
    if 2 * ascii < units.len() {
        return Ok(Box::new(Decoder::new(file, None, order)));
    }
    Ok(Box::new(Decoder::new(without(2, file)?, Some(order), order)))
}

/// The beginning of a file, and all of it. What goes wrong behind the beginning is for whoever reads on.
fn look(mut file: Box<dyn Read>) -> io::Result<(Vec<u8>, Box<dyn Read>)> {
    let mut head = Vec::new();
    match file.as_mut().take(HEAD).read_to_end(&mut head) {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(error),
        _ => Ok((head.clone(), Box::new(Cursor::new(head).chain(file)))),
    }
}

/// The file without the mark of the byte order at its beginning.
fn without(mark: u64, mut file: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
    io::copy(&mut file.as_mut().take(mark), &mut io::sink())?;
    Ok(file)
}

/// What gzip compressed, in one piece or several after each other. What is wrong with it is said, as
/// [`io::ErrorKind::InvalidData`], where all was read that is there; and then again.
struct Gunzip<R> {
    member: Option<GzDecoder<R>>,
    flaw: Option<String>,
}

impl<R: BufRead> Gunzip<R> {
    fn new(file: R) -> Self {
        Self { member: Some(GzDecoder::new(file)), flaw: None }
    }

    /// Goes on behind the end of a piece.
    fn next_member(&mut self) -> io::Result<()> {
        let Some(mut file) = self.member.take().map(GzDecoder::into_inner) else { return Ok(()) };
        match file.fill_buf()?.first() {
            None => {}
            Some(first) if GZIP.starts_with(&[*first]) => self.member = Some(GzDecoder::new(file)),
            Some(_) => {
                self.flaw = Some("there is something else behind what gzip compressed, which was not read".to_owned())
            }
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(flaw) = &self.flaw {
                return Err(io::Error::new(io::ErrorKind::InvalidData, flaw.clone()));
            }
            let Some(member) = &mut self.member else { return Ok(0) };
            match member.read(out) {
                Ok(0) if !out.is_empty() => self.next_member()?,
                Err(error) => match error.kind() {
                    io::ErrorKind::UnexpectedEof => self.flaw = Some("it is cut off: gzip wrote more".to_owned()),
                    io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                        self.flaw = Some(format!("it is damaged ({error})"));
                    }
                    _ => return Err(error),
                },
                read => return read,
            }
        }
    }
}

/// The order of the two bytes of a unit of UTF-16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn number(self, unit: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(unit),
            Self::Big => u16::from_be_bytes(unit),
        }
    }
}

/// The UTF-8 of a file that changes to UTF-16 and back, with a replacement character for what is none there. Bytes elsewhere are
/// what they are. It waits for what follows only where that may tell the encoding.
struct Decoder<R> {
    file: R,
    /// None where it is not in UTF-16.
    order: Option<Order>,
    /// That of what comes, where it cannot be told: what the file's mark says, or else that of Windows.
    likely: Order,
    /// What is not decoded yet.
    bytes: Vec<u8>,
    /// The byte before that, where it is not in UTF-16.
    before: u8,
    /// What is to be read next.
    text: Vec<u8>,
    is_end: bool,
    /// What went wrong, to be told after all that was read before.
    failed: Option<io::Error>,
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.text.is_empty() {
            if self.is_end {
                return self.failed.take().map_or(Ok(0), Err);
            }
            let mut piece = [0; 4096];
            match self.file.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => (self.is_end, self.failed) = (true, Some(error)),
                Ok(len) => {
                    self.is_end = len == 0;
                    self.bytes.extend(piece.iter().take(len));
                }
            }
            self.decode();
        }
        let len = out.len().min(self.text.len());
        out.iter_mut().zip(self.text.drain(..len)).for_each(|(out, byte)| *out = byte);
        Ok(len)
    }
}

impl<R> Decoder<R> {
    fn new(file: R, order: Option<Order>, likely: Order) -> Self {
        Self { file, order, likely, bytes: Vec::new(), before: 0, text: Vec::new(), is_end: false, failed: None }
    }

    /// Makes text of the bytes at hand, as far as their encoding is certain; at the end, of all of them.
    fn decode(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut rest = &bytes[..];
        loop {
            let (taken, next) = match self.order {
                None => self.take_bytes(rest),
                Some(order) => self.take_units(rest, order),
            };
            rest = rest.get(taken..).unwrap_or_default();
            if next == self.order {
                break;
            }
            self.order = next;
        }
        self.bytes = rest.to_vec();
    }

    /// Bytes up to where UTF-16 begins: how many were taken, and what follows.
    fn take_bytes(&mut self, bytes: &[u8]) -> (usize, Option<Order>) {
        let (mut taken, mut plain, mut next) = (bytes.len(), bytes.len(), None);
        for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == 0) {
            let alternating = alternating(bytes.get(at..).unwrap_or_default());
            if alternating < 2 * RUN - 1 && (at + alternating < bytes.len() || self.is_end) {
                continue;
            }
            (taken, plain) = (at, at);
            if alternating == 2 * RUN - 1 {
                let before = at.checked_sub(1).and_then(|at| bytes.get(at)).unwrap_or(&self.before);
                next = Some(if is_ascii(*before) { self.likely } else { Order::Big });
                // The first unit has begun before.
                taken += usize::from(next == Some(Order::Little));
            }
            break;
        }
        let plain = bytes.get(..plain).unwrap_or_default();
        self.before = plain.last().copied().unwrap_or(self.before);
        self.text.extend(plain);
        (taken, next)
    }

    /// Units up to where there is ASCII, which is two characters in each: how many bytes were taken, and what follows.
    fn take_units(&mut self, bytes: &[u8], order: Order) -> (usize, Option<Order>) {
        let (units, half) = bytes.as_chunks();
        let (mut pairs, mut next) = (0, Some(order));
        let mut certain = units.len();
        for (at, unit) in units.iter().enumerate() {
            pairs = if unit.iter().all(|byte| is_ascii(*byte)) { pairs + 1 } else { 0 };
            if pairs == RUN {
                (certain, next, self.before) = (at + 1, None, 0);
                break;
            }
        }
        if next.is_none() || !self.is_end {
            certain -= pairs;
        }
        let numbers = units.iter().take(certain).map(|unit| order.number(*unit));
        let mut numbers: Vec<_> = numbers.collect();
        if !self.is_end {
            // Its other half is still to come.
            numbers.pop_if(|last| (0xd800..0xdc00).contains(last));
        }
        self.text.extend(String::from_utf16_lossy(&numbers).into_bytes());
        let mut taken = 2 * numbers.len();
        if self.is_end && next.is_some() && !half.is_empty() {
            self.text.extend(char::REPLACEMENT_CHARACTER.to_string().into_bytes());
            taken += 1;
        }
        (taken, next)
    }
}

/// How many bytes are 0 and a character of ASCII in turn, from the beginning on; enough is enough.
fn alternating(bytes: &[u8]) -> usize {
    let turns = bytes.iter().take(2 * RUN - 1).zip([true, false].into_iter().cycle());
    turns.take_while(|(byte, is_zero)| if *is_zero { **byte == 0 } else { is_ascii(**byte) }).count()
}

/// Characters that are in a text.
fn is_ascii(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r' | 0x1b | b' '..=b'~')
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const LOG: &str = "boot \u{26a0} \u{1f4a1}\r\ncommissioning-report:AAAA\n";

    /// A file that is read piece by piece.
    struct Pieces(Cursor<Vec<u8>>, usize);

    impl Read for Pieces {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let len = out.len().min(self.1);
            self.0.read(&mut out[..len])
        }
    }

    fn read(bytes: &[u8]) -> String {
        let texts = [1, 2, 3, 1000].map(|size| {
            let (mut read, mut buffer) = (Vec::new(), vec![0; size]);
            let mut log = text(Pieces(Cursor::new(bytes.to_vec()), size)).unwrap();
            while let len @ 1.. = log.read(&mut buffer).unwrap() {
                read.extend_from_slice(&buffer[..len]);
            }
            String::from_utf8(read).unwrap()
        });
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
        texts[0].clone()
    }

    fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
        let bytes = |unit: u16| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() };
        format!("\u{feff}{text}").encode_utf16().flat_map(bytes).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_log_is_the_same_text_however_it_was_written() {
        for order in [false, true] {
            let encoded = utf16(LOG, order);
            for log in [encoded.clone(), gzip(&encoded)] {
                assert_eq!(read(&log), LOG);
            }
            assert_eq!(read(&[&encoded[..], b"x"].concat()), format!("{LOG}\u{fffd}"));
        }
        for log in [LOG.as_bytes().to_vec(), gzip(LOG.as_bytes()), format!("\u{feff}{LOG}").into_bytes()] {
            assert_eq!(read(&log), LOG);
        }
        assert_eq!(read(&[gzip(b"one "), gzip(b"log")].concat()), "one log");
        assert_eq!([read(b""), read(b"\xff\xfe"), read(b"\xef\xbb\xbf"), read(b"x")], ["", "", "", "x"]);
    }

    /// As `>>` leaves it where it writes UTF-16 to what was ASCII, and programs that write ASCII to what was UTF-16.
    #[test]
    fn both_encodings_in_one_file_are_read() {
        const ASCII: &str = "boot 1\r\n0.1 INFO commissioning-report:AAAA\r\n";
        const WIDE: &str = "0.2 INFO commissioning-report:BBBB \u{26a0} \u{53a8}\u{623f} \u{1f4a1}\r\n";
        for order in [false, true] {
            let wide = || utf16(WIDE, order)[2..].to_vec();
            assert_eq!(read(&wide()), WIDE, "without a mark");
            assert_eq!(read(&[&utf16(WIDE, order)[..], ASCII.as_bytes()].concat()), format!("{WIDE}{ASCII}"));
            let turns = [ASCII.as_bytes(), &wide(), ASCII.as_bytes(), &wide()].concat();
            let said = read(&turns);
            for report in ["0.1 INFO commissioning-report:AAAA\r\n", "0.2 INFO commissioning-report:BBBB"] {
                assert_eq!(said.matches(report).count(), 2, "{said}");
            }
            if !order {
                assert_eq!(said, format!("{ASCII}{WIDE}{ASCII}{WIDE}"));
            }
        }
    }

    /// A first line in another script than Latin has hardly a byte of ASCII.
    #[test]
    fn a_first_line_in_any_script_does_not_hide_the_rest() {
        let first = "\u{53a8}\u{623f}\u{7684}\u{706f}".repeat(20);
        for order in [false, true] {
            for from in [0, 2] {
                let log = utf16(&format!("{first}\r\n0.2 INFO commissioning-report:AAAA\r\n"), order);
                let mut read = Vec::new();
                text(Cursor::new(log[from..].to_vec())).unwrap().read_to_end(&mut read).unwrap();
                let read = String::from_utf8_lossy(&read);
                assert!(read.contains("0.2 INFO commissioning-report:AAAA\r"), "{read}");
                // Nothing tells the order if there is no mark and the character before might be two of ASCII.
                assert!(read.ends_with("\r\n") || (order && from == 2), "{read}");
            }
        }
    }

    /// Whoever reads along must not wait for the next line.
    #[test]
    fn what_is_there_is_handed_out_at_once() {
        struct Live(Vec<u8>);
        impl Read for Live {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                assert!(!self.0.is_empty(), "nobody knows when there will be more");
                let len = out.len().min(self.0.len());
                self.0.drain(..len).zip(out).for_each(|(byte, out)| *out = byte);
                Ok(len)
            }
        }
        let line = "0.1 INFO commissioning-report:AAAA and so on, until it is long enough to tell what it is\r\n";
        for log in [line.as_bytes().to_vec(), utf16(line, false), utf16(line, false)[2..].to_vec()] {
            let (mut log, mut read) = (text(Live(log)).unwrap(), vec![0; line.len()]);
            log.read_exact(&mut read).unwrap();
            assert_eq!(read, line.as_bytes());
        }
    }

    /// Bytes that are 0 are in many a capture, and end what stands before them.
    #[test]
    fn single_zeros_are_left_alone() {
        let log = b"\0\0commissioning-report:AAAA\0next\0\0x\0y\0\0";
        assert_eq!(read(log).as_bytes(), log);
    }

    #[test]
    fn what_is_there_of_a_damaged_file_is_read() {
        let numbers: String = (0..5_000).map(|number| format!("line {number}\n")).collect();
        let whole = gzip(numbers.as_bytes());
        let (cut, mut wrong) = (&whole[..whole.len() - 9], whole.clone());
        wrong[whole.len() - 8] ^= 1;
        for (log, least, what) in [
            (cut.to_vec(), 40_000, "cut off"),
            (whole[..whole.len() / 2].to_vec(), 10_000, "cut off"),
            (wrong, numbers.len(), "damaged"),
            ([&whole[..], &[0; 512]].concat(), numbers.len(), "something else"),
            ([&whole[..], &[0]].concat(), numbers.len(), "something else"),
            ([&whole[..], b"more"].concat(), numbers.len(), "something else"),
            ([&gzip(b"short")[..], b"more"].concat(), 5, "something else"),
        ] {
            let (mut log, mut read) = (text(Cursor::new(log)).unwrap(), Vec::new());
            let error = log.read_to_end(&mut read).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            assert!(error.to_string().contains(what), "{what}: {error}");
            assert!(read.len() >= least, "{what}: {} of {}", read.len(), numbers.len());
        }
    }

    #[test]
    fn a_line_that_begins_like_another_encoding_is_left_alone() {
        let mut log = text(Cursor::new(b"\xff\xfe\xc0commissioning-report:AAAA\n".to_vec())).unwrap();
        let mut read = Vec::new();
        log.read_to_end(&mut read).unwrap();
        assert_eq!(read[3..], *b"commissioning-report:AAAA\n");
    }

    #[test]
    fn what_cannot_be_unpacked_says_why() {
        for (magic, by) in FOREIGN {
            let Err(error) = text(Cursor::new([magic, &[0; 80]].concat())) else { panic!("{by} is not known") };
            assert!(error.to_string().contains(by), "{error}");
        }
        let cut = gzip(&[b'x'; 1000]);
        let mut log = text(Cursor::new(cut[..cut.len() - 9].to_vec())).unwrap();
        assert!(log.read_to_end(&mut Vec::new()).is_err());
    }
}
