//! The `commissioner` program: reads the command line, runs the command, and says how it ended.

use std::{io, process::ExitCode};

use clap::error::ErrorKind;
use commissioner::{registry, text::LogWriter};
use commissioner_cli::{
    cmd::{
        Cli,
        exit::{self, CommandError},
    },
    output::{Output, complain, complain_in_lines},
    stop,
};
use rustix::process::Signal;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

fn main() -> ExitCode {
    let cli = match Cli::from_command_line() {
        Ok(cli) => cli,
        Err(error) => return answer(&error),
    };
    log_to_stderr();
    registry::tell_of_clock_by(|said| complain(said));
    let output = Output::stdout(cli.json());
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CommandError::internal)
        .and_then(|runtime| runtime.block_on(run(cli, output.clone())));
    let code = match &result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&output, error),
    };
    match output.finish() {
        Err(error) if result.is_ok() => {
            complain(format_args!("cannot write to standard output: {error}"));
            exit::ExitCode::Internal.into()
        }
        _ => code,
    }
}

/// The command. A file that may not grow any further (RLIMIT_FSIZE) is an error of the write then, as a full disk is: without a
/// handler the signal would end the program without a word.
async fn run(cli: Cli, output: Output) -> Result<(), CommandError> {
    let _file_size = signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map_err(CommandError::internal)?;
    stop::end_as_others_do().map_err(CommandError::internal)?;
    cli.run(output).await
}

/// Help, version, or what is wrong with the command line.
fn answer(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if !error.use_stderr() {
        let output = Output::stdout(json);
        match error.kind() {
            ErrorKind::DisplayVersion => output.json(&json!({ "version": env!("CARGO_PKG_VERSION") })),
            _ => output.json(&json!({ "help": text.trim_end() })),
        }
        if !json {
            // Nobody can be told that the terminal is gone.
            let _ = error.print();
        }
        return ExitCode::SUCCESS;
    }
    complain_in_lines(text.trim_end());
    let message = text.trim().trim_start_matches("error: ");
    Output::stdout(json).json(&CommandError::usage(message).as_json());
    exit::ExitCode::Usage.into()
}

/// The error as a sentence for people, and as a line for scripts.
fn fail(output: &Output, error: &CommandError) -> ExitCode {
    if let Some(said) = error.for_people() {
        complain_in_lines(format_args!("error: {said}"));
    }
    output.json(&error.as_json());
    error.exit().into()
}

/// Diagnostics for developers, as RUST_LOG asks for them; warnings without it. Without colours, which are escape sequences.
fn log_to_stderr() {
    let filter = match std::env::var("RUST_LOG") {
        Ok(asked) if !asked.is_empty() => {
            EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).parse_lossy(asked)
        }
        // A statement that waits for another commissioner is slow, and that is said in words.
        _ => EnvFilter::new("warn,sqlx::query=error"),
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| LogWriter(io::stderr())).with_ansi(false).init();
}
