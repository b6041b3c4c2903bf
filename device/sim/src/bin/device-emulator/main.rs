//! `device-emulator`: the firmware of a board, as it is flashed, in QEMU or simavr behind a pty.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "standard output is the board's console")]

mod console;
mod emulator;
mod line;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use device_sim::{pty, until_told_to_stop};
use tokio::io;

use crate::{
    console::Console,
    emulator::{Board, Emulator},
    line::Baud,
};

/// Runs the firmware of an emulated board, in QEMU or, for an ATmega, in simavr. Its UART is a pty; what it logs is printed.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// Makes a pty for the board's UART, and a link to it at PATH.
    #[arg(long, value_name = "PATH")]
    pty: PathBuf,
    /// The board's flash, an image of 16 MiB made blank if it does not exist; the EEPROM of an ATmega, made with a seed.
    #[arg(long, value_name = "FILE")]
    flash: Option<PathBuf>,
    /// The unique number of the board: 8 bytes in hexadecimal.
    #[arg(long, value_name = "HEX", default_value = "0000000000000001", value_parser = parse_uid)]
    uid: [u8; 8],
    /// Bits per second, as fast as the line lets bytes through; 0 is no limit.
    #[arg(long, value_name = "BAUD", default_value = "115200")]
    baud: Baud,
    /// Which board the firmware is for.
    #[arg(long, value_enum, default_value_t = Board::EmcraftSf2)]
    board: Board,
    /// Another processor in place of the board's, by QEMU's name: cortex-m0, cortex-m4. lm3s6965evb only.
    #[arg(long, value_name = "NAME")]
    processor: Option<String>,
    /// Makes an instruction take a nanosecond of the board's time, so that times are counts of instructions. An ATmega tells
    /// its cycles and its stack on standard error, at each frame that it sends.
    #[arg(long)]
    count_instructions: bool,
    /// Writes what the board's RAM holds to FILE when it is stopped, to measure the stack.
    #[arg(long, value_name = "FILE")]
    dump_ram: Option<PathBuf>,
    /// Ends after so many bytes of EEPROM were programmed, in the middle of the next one: a power cut. ATmega only.
    #[arg(long, value_name = "BYTES")]
    cut: Option<u32>,
    /// Where the ATmega's own program for simavr is.
    #[arg(long, value_name = "PROGRAM", default_value = "target/simavr/board")]
    simavr: PathBuf,
    /// The firmware, an ELF file.
    firmware: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match emulate(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device-emulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn emulate(args: &Args) -> Result<()> {
    let (port, line) = pty::open(&args.pty).with_context(|| format!("pty {}", args.pty.display()))?;
    eprintln!("device-emulator: {} at serial:{}", hex::encode(args.uid), args.pty.display());
    let mut emulator = Emulator::start(args).await?;
    let (mut from_host, mut to_host) = io::split(port);
    let (mut from_board, mut to_board) = emulator.uart.take().context("the UART is connected once")?.into_split();
    let mut console = Console::new();
    let ended = tokio::select! {
        ended = line::carry(&mut from_host, &mut to_board, args.baud, |_| {}) => ended.context("serial line"),
        ended = line::carry(&mut from_board, &mut to_host, args.baud, |bytes| console.take(bytes)) => ended.context("UART"),
        status = emulator.ended() => match status {
            Ok(status) => bail!("the board stopped ({status}): a panic, or a reset that the firmware asked for"),
            Err(error) => Err(error),
        },
        () = until_told_to_stop() => Ok(()),
    };
    drop(line);
    emulator.stop(args.dump_ram.as_deref()).await?;
    ended
}

fn parse_uid(text: &str) -> Result<[u8; 8], hex::FromHexError> {
    let mut uid = [0; 8];
    hex::decode_to_slice(text, &mut uid)?;
    Ok(uid)
}
