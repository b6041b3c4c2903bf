//! The board's console: lines of text that wait for their way out, as diagnostic frames between the CoAP messages.
//!
//! There is room for [`CAPACITY`] bytes. Lines that do not fit are dropped, and counted: whoever reads the console is
//! told how many are missing.

use core::{cell::RefCell, future::poll_fn, task::Poll};

use device::{Decimal, transport::LogLine};
use embassy_sync::{
    blocking_mutex::{Mutex, raw::CriticalSectionRawMutex},
    waitqueue::WakerRegistration,
};
use heapless::Deque;

/// Bytes that wait at the most: a report line (364 bytes) and a few others.
pub const CAPACITY: usize = 512;

static CONSOLE: Mutex<CriticalSectionRawMutex, RefCell<Console>> = Mutex::new(RefCell::new(Console::new()));

struct Console {
    /// Whole lines, each with its end of line.
    bytes: Deque<u8, CAPACITY>,
    dropped: u16,
    reader: WakerRegistration,
}

/// Prints one line of at most 368 bytes, in pieces; a longer one is cut, and so is what follows a line feed.
pub fn print(pieces: &[&str]) {
    print_line(&line_of(pieces));
}

fn line_of(pieces: &[&str]) -> LogLine {
    let mut line = LogLine::new();
    for piece in pieces {
        // What fits is there, even if not all did.
        let room = line.capacity().saturating_sub(line.len());
        let _ = line.push_str(piece.get(..piece.floor_char_boundary(room)).unwrap_or_default());
    }
    line
}

/// Prints a line that is written already. What follows a line feed is cut.
pub fn print_line(line: &LogLine) {
    let text = line.lines().next().unwrap_or_default();
    CONSOLE.lock(|console| {
        let Ok(mut console) = console.try_borrow_mut() else { return };
        console.push(text);
    });
}

/// Waits for the next line.
pub async fn next_line() -> LogLine {
    poll_fn(|context| {
        CONSOLE.lock(|console| {
            let Ok(mut console) = console.try_borrow_mut() else { return Poll::Pending };
            match console.pop() {
                Some(line) => Poll::Ready(line),
                None => {
                    console.reader.register(context.waker());
                    Poll::Pending
                }
            }
        })
    })
    .await
}

impl Console {
    const fn new() -> Self {
        Console { bytes: Deque::new(), dropped: 0, reader: WakerRegistration::new() }
    }

    fn push(&mut self, line: &str) {
        let room = CAPACITY.saturating_sub(self.bytes.len());
        if room <= line.len() {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        for byte in line.bytes().chain([b'\n']) {
            let _ = self.bytes.push_back(byte);
        }
        self.reader.wake();
    }

    fn pop(&mut self) -> Option<LogLine> {
        if self.bytes.is_empty() {
            let dropped = core::mem::take(&mut self.dropped);
            let number = Decimal::new(dropped.into());
            return (dropped > 0).then(|| line_of(&["(", number.as_str(), " lines were lost)"]));
        }
        let mut text = heapless::Vec::new();
        while let Some(byte) = self.bytes.pop_front().filter(|byte| *byte != b'\n') {
            let _ = text.push(byte);
        }
        LogLine::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_do_not_fit_are_counted_and_told_after_the_others() {
        let (mut console, line, last) = (Console::new(), "x".repeat(200), "y".repeat(109));
        // Each has its end with it: two are 402 bytes, the third does not fit, and the last one does, to the byte.
        for text in [&line, &line, &line, &last, ""] {
            console.push(text);
        }
        let lines = [(); 4].map(|()| console.pop().unwrap_or_default());
        assert_eq!(lines, [line.as_str(), &line, &last, "(2 lines were lost)"]);
        assert_eq!(console.pop(), None);
    }
}
