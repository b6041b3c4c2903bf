//! Standard output: JSON Lines with `--json`, text for people without, and nothing else. Standard error: what is said beside.
//!
//! Whatever is said passes through [`text`] on its way out.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use commissioner::text;
use serde::Serialize;

/// Where a command's result goes. Clones write to the same place, one whole line at a time.
///
/// A reader that goes away (`commissioner devices | head -1`) ends the output, never the work: what the command does to
/// a device or to the registry must not depend on who reads along.
#[derive(Clone)]
pub struct Output {
    json: bool,
    stream: Arc<Mutex<Stream>>,
}

struct Stream {
    writer: Box<dyn Write + Send>,
    failed: Option<io::Error>,
}

impl Output {
    /// Writes to standard output.
    pub fn stdout(json: bool) -> Self {
        Self::new(json, Box::new(io::stdout()))
    }

    /// Writes to `writer`.
    pub fn new(json: bool, writer: Box<dyn Write + Send>) -> Self {
        Self { json, stream: Arc::new(Mutex::new(Stream { writer, failed: None })) }
    }

    /// Whether `--json` was given.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// One result: a JSON line with `--json`, else `text`.
    pub fn result(&self, record: &(impl Serialize + ?Sized), text: impl fmt::Display) {
        if self.json { self.json(record) } else { self.text(text) }
    }

    /// One JSON line, only with `--json`.
    pub fn json(&self, record: &(impl Serialize + ?Sized)) {
        if self.json {
            match text::json(record) {
                Ok(line) => self.line(&line),
                Err(error) => self.lock().failed = Some(error.into()),
            }
        }
    }

    /// Lines for people, only without `--json`.
    pub fn text(&self, text: impl fmt::Display) {
        if !self.json {
            self.line(&text::lines(&text.to_string()));
        }
    }

    /// Flushes, and says whether everything arrived. A reader that went away is no failure.
    pub fn finish(&self) -> io::Result<()> {
        let mut stream = self.lock();
        if stream.failed.is_none()
            && let Err(error) = stream.writer.flush()
        {
            stream.failed = Some(error);
        }
        match stream.failed.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    fn line(&self, line: &str) {
        let mut stream = self.lock();
        if stream.failed.is_some() {
            return;
        }
        let written = stream.writer.write_all(format!("{line}\n").as_bytes()).and_then(|()| stream.writer.flush());
        stream.failed = written.err();
    }

    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says something on standard error, beside the result: one line, whatever is in it.
pub fn complain(problem: impl fmt::Display) {
    complain_in_lines(text::line(&problem.to_string()));
}

/// The same for what is several lines, of which each has been looked at: a [`CommandError`](crate::cmd::exit::CommandError).
pub fn complain_in_lines(problem: impl fmt::Display) {
    // Nobody can be told that standard error is gone.
    let _ = io::stderr().write_all(format!("{}\n", text::lines(&problem.to_string())).as_bytes());
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    /// What was written, for whoever has a clone.
    #[derive(Clone, Default)]
    pub(crate) struct Shared(pub(crate) Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(json: bool) -> String {
        let shared = Shared::default();
        let output = Output::new(json, Box::new(shared.clone()));
        output.result(&[1, 2], "one and two");
        output.json(&"scripts");
        output.text("people");
        output.finish().unwrap();
        String::from_utf8(shared.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_has_json_lines_and_nothing_else() {
        assert_eq!(written(true), "[1,2]\n\"scripts\"\n");
        assert_eq!(written(false), "one and two\npeople\n");
    }

    #[test]
    fn neither_people_nor_scripts_are_led_astray() {
        for (json, expected) in
            [(true, "\"a\\u001b[2J\\n\\u202eb\\u009b\"\n"), (false, "a\\u{1b}[2J\n\\u{202e}b\\u{9b}\n")]
        {
            let shared = Shared::default();
            let said = "a\u{1b}[2J\n\u{202e}b\u{9b}";
            Output::new(json, Box::new(shared.clone())).result(said, said);
            assert_eq!(String::from_utf8(shared.0.lock().unwrap().clone()).unwrap(), expected);
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure() {
        let output = Output::new(true, Box::new(Failing(io::ErrorKind::BrokenPipe)));
        output.json(&1);
        output.json(&2);
        output.finish().unwrap();
    }

    #[test]
    fn a_full_disk_is_a_failure() {
        let output = Output::new(true, Box::new(Failing(io::ErrorKind::StorageFull)));
        output.json(&1);
        assert_eq!(output.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
