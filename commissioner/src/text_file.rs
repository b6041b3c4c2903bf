//! Text files as they lie around: plain, compressed by gzip, in UTF-16, as Windows redirects what a program says, or behind
//! the mark of a byte order.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read},
    os::fd::AsFd,
    path::Path,
    time::SystemTime,
};

use flate2::read::MultiGzDecoder;

use crate::files::Input;

/// Bytes that tell what a file is.
const HEAD: u64 = 64;
/// How files begin that other programs compressed.
const FOREIGN: [(&[u8], &str); 4] =
    [(b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"PK\x03\x04", "zip")];

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
    if !head.starts_with(b"\x1f\x8b") {
        return decoded(&head, file);
    }
    let (head, file) = look(Box::new(MultiGzDecoder::new(BufReader::new(file))))?;
    decoded(&head, file)
}

fn decoded(head: &[u8], file: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
    if let Some((_, by)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(io::Error::other(format!("it is compressed by {by}, and only gzip is known here: unpack it")));
    }
    let (order, units) = head.split_first_chunk().unwrap_or((&[0, 0], &[]));
    let big_endian = match order {
        [0xff, 0xfe] => false,
        [0xfe, 0xff] => true,
        [0xef, 0xbb] if units.starts_with(&[0xbf]) => return without(3, file),
        _ => return Ok(file),
    };
    // A log may begin with these bytes, too. But most of a text is ASCII.
    let (units, _) = units.as_chunks();
    let ascii = units.iter().filter(|unit| number(**unit, big_endian) < 0x80).count();
    if 2 * ascii < units.len() {
        return Ok(file);
    }
    without(2, file).map(|file| Box::new(Utf16 { file, big_endian, bytes: Vec::new(), text: Vec::new() }) as Box<_>)
}

/// The beginning of a file, and all of it.
fn look(mut file: Box<dyn Read>) -> io::Result<(Vec<u8>, Box<dyn Read>)> {
    let mut head = Vec::new();
    file.as_mut().take(HEAD).read_to_end(&mut head)?;
    Ok((head.clone(), Box::new(Cursor::new(head).chain(file))))
}

/// The file without the mark of the byte order at its beginning.
fn without(mark: u64, mut file: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
    io::copy(&mut file.as_mut().take(mark), &mut io::sink())?;
    Ok(file)
}

fn number(unit: [u8; 2], big_endian: bool) -> u16 {
    if big_endian { u16::from_be_bytes(unit) } else { u16::from_le_bytes(unit) }
}

/// The UTF-8 of a file in UTF-16, with a replacement character for what is none.
struct Utf16<R> {
    file: R,
    big_endian: bool,
    /// Half a unit, or half a pair of them, whose rest is still to come.
    bytes: Vec<u8>,
    /// What is to be read next.
    text: Vec<u8>,
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.text.is_empty() {
            let mut piece = [0; 4096];
            let len = self.file.read(&mut piece)?;
            self.bytes.extend(piece.iter().take(len));
            if self.bytes.is_empty() {
                return Ok(0);
            }
            self.decode(len == 0);
        }
        let len = out.len().min(self.text.len());
        out.iter_mut().zip(self.text.drain(..len)).for_each(|(out, byte)| *out = byte);
        Ok(len)
    }
}

impl<R> Utf16<R> {
    /// Makes text of the bytes at hand; at the end, of all of them.
    fn decode(&mut self, is_end: bool) {
        let mut units: Vec<_> = self.bytes.as_chunks().0.iter().map(|unit| number(*unit, self.big_endian)).collect();
        if !is_end {
            units.pop_if(|last| (0xd800..0xdc00).contains(last));
        }
        self.bytes.drain(..2 * units.len());
        let mut text = String::from_utf16_lossy(&units);
        if is_end && !std::mem::take(&mut self.bytes).is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        self.text = text.into_bytes();
    }
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
