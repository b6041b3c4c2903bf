//! Whether something that cannot be undone is meant.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use super::Context;
use crate::error::CommandError;

/// Who says that something is meant.
pub(super) enum Word {
    /// `--yes`.
    Given,
    /// A person at a terminal, who can be asked.
    Terminal,
    /// Nobody: it has to be plain from the command line.
    Nobody,
}

impl Context {
    /// Who is there to say that something is meant.
    pub(super) fn word(&self) -> Word {
        match io::stdin().is_terminal() && io::stderr().is_terminal() {
            _ if self.yes => Word::Given,
            true => Word::Terminal,
            false => Word::Nobody,
        }
    }
}

/// Asks at the terminal.
///
/// # Errors
/// Exit code 2 for anything but yes.
pub(super) fn ask(question: &str) -> Result<(), CommandError> {
    let mut answer = String::new();
    write!(io::stderr(), "{question} [y/N] ").map_err(CommandError::internal)?;
    io::stdin().lock().read_line(&mut answer).map_err(CommandError::internal)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CommandError::usage("that was no yes; nothing was changed")),
    }
}
