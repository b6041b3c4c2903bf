//! How a command ends: one exit code, one sentence.

mod errors;

use std::fmt;

use commissioner::{files, text};
use serde::Serialize;

/// The exit codes, which scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// 1: a fault of this program or of the machine it runs on.
    Internal,
    /// 2: the command line asks for something that cannot be.
    Usage,
    /// 3: no device, or more than one where one is needed.
    NoDevice,
    /// 4: the link failed or timed out.
    Link,
    /// 5: the device refused, or authentication failed.
    Refused,
    /// 6: conflict with the registry: key changed, device revoked, clock not to be trusted.
    Conflict,
    /// That of the command that `run` started, passed on.
    Passed(u8),
}

impl ExitCode {
    /// The number that the process ends with.
    pub fn number(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::NoDevice => 3,
            Self::Link => 4,
            Self::Refused => 5,
            Self::Conflict => 6,
            Self::Passed(number) => number,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

/// Why a command failed. The message says what happened; then what to do next.
#[derive(Debug)]
pub struct CommandError {
    exit: ExitCode,
    message: String,
    candidates: Vec<String>,
    /// What is left to say to people, who were told of it when it happened.
    rest: Option<String>,
}

impl CommandError {
    /// A failure with `exit` code; `message` is "what happened; what to do next".
    pub fn new(exit: ExitCode, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), candidates: Vec::new(), rest: None }
    }

    /// Exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// Exit code 1: `source` is not the user's fault.
    pub fn internal(source: impl fmt::Display) -> Self {
        Self::new(ExitCode::Internal, source.to_string())
    }

    /// A file could not be written: exit code 2 if another name would do, 1 if the disk is full, fails, or takes no changes.
    /// `message` says so, and what to do next.
    pub fn unwritten(error: &files::Error, message: impl Into<String>) -> Self {
        Self::new(if error.is_misnamed() { ExitCode::Usage } else { ExitCode::Internal }, message)
    }

    /// Adds what the user could have meant (devices, links), one per line for people, a list in JSON.
    #[must_use]
    pub fn with_candidates(mut self, candidates: impl IntoIterator<Item = String>) -> Self {
        self.candidates.extend(candidates);
        self
    }

    /// People were told already, and are told no more than `rest` at the end; scripts get all of it.
    #[must_use]
    pub fn said_before(mut self, rest: impl Into<String>) -> Self {
        self.rest = Some(rest.into());
        self
    }

    /// What people are to be told at the end; nothing, if they know.
    pub fn for_people(&self) -> Option<String> {
        match &self.rest {
            Some(rest) => Some(text::line(rest)).filter(|rest| !rest.is_empty()),
            None => Some(self.to_string()),
        }
    }

    /// The code the process ends with.
    pub fn exit(&self) -> ExitCode {
        self.exit
    }

    /// The error as the one JSON object that `--json` promises.
    pub fn as_json(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Line<'a> {
            error: &'a str,
            exit: u8,
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            candidates: &'a [String],
        }
        Line { error: &self.message, exit: self.exit.number(), candidates: &self.candidates }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::line(&self.message))?;
        self.candidates.iter().try_for_each(|candidate| write!(f, "\n  {}", text::line(candidate)))
    }
}

impl std::error::Error for CommandError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_scripts_read_the_same_error() {
        let error = CommandError::new(ExitCode::NoDevice, "two devices answer; name one")
            .with_candidates(["serial:/dev/ttyACM0".to_owned(), "serial:/dev/ttyACM1".to_owned()]);
        assert_eq!(error.to_string(), "two devices answer; name one\n  serial:/dev/ttyACM0\n  serial:/dev/ttyACM1");
        assert_eq!(
            serde_json::to_string(&error.as_json()).unwrap(),
            r#"{"error":"two devices answer; name one","exit":3,"candidates":["serial:/dev/ttyACM0","serial:/dev/ttyACM1"]}"#
        );
    }

    #[test]
    fn codes_are_those_of_the_contract() {
        let codes = [
            ExitCode::Internal,
            ExitCode::Usage,
            ExitCode::NoDevice,
            ExitCode::Link,
            ExitCode::Refused,
            ExitCode::Conflict,
            ExitCode::Passed(77),
        ];
        assert_eq!(codes.map(ExitCode::number), [1, 2, 3, 4, 5, 6, 77]);
    }
}
