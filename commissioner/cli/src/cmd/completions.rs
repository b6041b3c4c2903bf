//! `commissioner completions SHELL`: a completion script on standard output.

use clap::{Args as ClapArgs, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, context::Context, exit::CommandError};

/// Print a completion script for a shell
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The shell
    shell: Shell,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<(), CommandError> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "commissioner", &mut script);
        let script = String::from_utf8(script).map_err(CommandError::internal)?;
        context.output.result(&serde_json::json!({ "shell": self.shell.to_string(), "script": script }), &script);
        Ok(())
    }
}
