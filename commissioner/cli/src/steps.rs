//! How the steps of the work are shown: as JSON Lines to scripts, as lines on standard error to people, with a spinner where that
//! is a terminal.

use std::{
    io::{self, IsTerminal},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use commissioner::progress::{Event, Progress, Sink, Step};
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{Output, complain};

/// What the command line asks for: JSON Lines with `--json`; else a terminal's spinner and lines, or plain lines where
/// standard error is no terminal.
pub(crate) fn shown_by(output: &Output) -> Progress {
    if !output.is_json() && io::stderr().is_terminal() {
        return Progress::new(Arc::new(Terminal::default()));
    }
    beside_a_program(output)
}

/// The same beside another program's output, where a spinner would be in the way.
pub(crate) fn beside_a_program(output: &Output) -> Progress {
    match output.is_json() {
        true => Progress::new(Arc::new(output.clone())),
        false => Progress::new(Arc::new(Plain)),
    }
}

/// Scripts: one JSON line per step.
impl Sink for Output {
    fn event(&self, event: &Event<'_>) {
        self.json(event);
    }
}

/// People, through a file or a pipe: one line per step.
struct Plain;

impl Sink for Plain {
    fn event(&self, event: &Event<'_>) {
        complain(event);
    }
}

/// People, at a terminal: done steps as lines; below them, while something goes on, what.
#[derive(Default)]
struct Terminal(Mutex<Option<ProgressBar>>);

impl Terminal {
    /// Whatever comes next, the spinner must not stand in its way.
    fn clear(&self) {
        if let Some(spinner) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            spinner.finish_and_clear();
        }
    }
}

impl Sink for Terminal {
    fn event(&self, event: &Event<'_>) {
        self.clear();
        if !matches!(event.step, Step::Working { .. }) {
            return complain(format_args!("\u{2713} {event}"));
        }
        let spinner = ProgressBar::new_spinner().with_message(event.to_string());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(120));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(spinner);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.clear();
    }
}
