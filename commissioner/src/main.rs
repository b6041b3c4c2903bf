//! The `commissioner` program: reads the command line, runs the command, and says how it ended.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;
use commissioner::{
    cmd::Cli,
    error::{self, CommandError},
    output::Output,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return answer(&error),
    };
    log_to_stderr();
    let output = Output::stdout(cli.json());
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CommandError::internal)
        .and_then(|runtime| runtime.block_on(cli.run(output.clone())));
    let code = match &result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&output, error),
    };
    match output.finish() {
        Err(error) if result.is_ok() => {
            complain(&format!("cannot write to standard output: {error}"));
            error::ExitCode::Internal.into()
        }
        _ => code,
    }
}

/// Help, version, or what is wrong with the command line.
fn answer(error: &clap::Error) -> ExitCode {
    // Nobody can be told that the terminal is gone.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    let output = Output::stdout(json);
    let text = error.render().to_string();
    let first_line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    output.json(&CommandError::usage(first_line).as_json());
    error::ExitCode::Usage.into()
}

/// The error as a sentence for people, and as a line for scripts.
fn fail(output: &Output, error: &CommandError) -> ExitCode {
    complain(&format!("error: {error}"));
    output.json(&error.as_json());
    error.exit().into()
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Diagnostics for developers, as RUST_LOG asks for them; warnings without it.
fn log_to_stderr() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}
