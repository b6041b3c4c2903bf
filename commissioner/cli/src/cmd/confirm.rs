//! Whether something that cannot be undone is meant.

use std::io::{self, BufRead as _, Write as _};

use commissioner::text;

use super::exit::CommandError;

/// Who says that something is meant.
pub(super) enum Word {
    /// `--yes`.
    Given,
    /// A person at a terminal, who can be asked.
    Terminal,
    /// Nobody: it has to be plain from the command line.
    Nobody,
}

/// Asks at the terminal.
///
/// # Errors
/// Exit code 2 for anything but yes.
pub(super) fn ask(question: &str) -> Result<(), CommandError> {
    if is_so(question)? { Ok(()) } else { Err(CommandError::usage("that was no yes; nothing was changed")) }
}

/// Asks at the terminal whether it is so; anything but a yes is a no.
pub(super) fn is_so(question: &str) -> Result<bool, CommandError> {
    let mut answer = String::new();
    write!(io::stderr(), "{} [y/N] ", text::lines(question)).map_err(CommandError::internal)?;
    io::stdin().lock().read_line(&mut answer).map_err(CommandError::internal)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
