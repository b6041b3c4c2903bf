//! What is given to the [`log`] facade goes to the console.

use core::fmt::Write as _;

use device::transport::LogLine;
use log::{Log, Metadata, Record};

use crate::console::print_line;

/// The logger. [`start`] makes it the facade's; where there is no such function, since the processor has no atomic compare
/// and swap, the application does that, by `log::set_logger_racy`.
pub static LOGGER: Logger = Logger;

/// A logger that prints to the console.
#[derive(Debug)]
pub struct Logger;

/// Prints what the [`log`] facade is given from now on, levels *info* and above. Once is enough.
#[cfg(target_has_atomic = "ptr")]
pub fn start() {
    // Fails if the application has a logger of its own already: then that is what it wants.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Info);
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut line = LogLine::new();
            // What fits is there, even if not all did.
            let _ = write!(line, "{} {}", record.level(), record.args());
            print_line(&line);
        }
    }

    fn flush(&self) {}
}
