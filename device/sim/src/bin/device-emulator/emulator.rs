//! QEMU with a board in it, or simavr.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};
use object::{Object as _, ObjectSegment as _};
use rand_core::{OsRng, RngCore};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    process::{Child, ChildStdin, Command},
};

use crate::Args;

/// The boards that there is firmware for. Those in QEMU have 64 KiB of RAM, and the page of the emulator in its last 64
/// bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Board {
    /// Cortex-M3 with SPI NOR flash: what it stores survives a restart.
    #[value(name = "emcraft-sf2")]
    EmcraftSf2,
    /// Cortex-M3 for measuring; its storage is RAM.
    #[value(name = "lm3s6965evb")]
    Lm3s6965evb,
    /// AVR with an EEPROM of 4 KiB, of the minimal profile.
    #[value(name = "atmega1284p")]
    Atmega1284p,
}

/// Bytes of the EEPROM of an ATmega1284P, and where its firmware looks for a seed of 32 bytes and then for its number.
const EEPROM_LEN: usize = 4096;
const EEPROM_SEED: usize = 0x200;

const RAM_START: u32 = 0x2000_0000;
const RAM_LEN: u32 = 64 << 10;
const RAM_END: u64 = RAM_START as u64 + RAM_LEN as u64;
/// Where the board looks for its unique number and seed: `firmware_emulated::page`.
const PAGE: u64 = RAM_END - 64;
const PAGE_MARK: &[u8] = b"EMULATED";
/// What RAM is full of before the board starts, to tell what it used.
const PAINT: u8 = 0xA5;
/// Bytes of the flash chip of emcraft-sf2.
const FLASH_LEN: usize = 16 << 20;

/// A running emulator. It ends with this process, however that ends.
pub(crate) struct Emulator {
    process: Child,
    /// Held here, since waiting for a process closes its input.
    monitor: Option<ChildStdin>,
    /// The other end of the board's UART.
    pub(crate) uart: Option<UnixStream>,
    _scratch: TempDir,
}

impl Emulator {
    /// Starts the emulator with the firmware, and a seed of its own.
    pub(crate) async fn start(args: &Args) -> Result<Self> {
        let name = args.firmware.display();
        let firmware = fs::read(&args.firmware).with_context(|| format!("{name}; `make firmware` builds it"))?;
        let firmware = object::File::parse(&*firmware).with_context(|| format!("{name} is no firmware"))?;
        let scratch = tempfile::tempdir()?;
        let socket = scratch.path().join("uart");
        let listener = UnixListener::bind(&socket)?;
        let mut command = match args.board {
            Board::Atmega1284p => simavr(args, scratch.path(), &socket)?,
            _ => qemu(args, &firmware, scratch.path(), &socket)?,
        };
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .context("setpriv, of Debian's util-linux, does not start")?;
        let monitor = process.stdin.take();
        tokio::select! {
            uart = listener.accept() => Ok(Emulator { process, monitor, uart: Some(uart?.0), _scratch: scratch }),
            status = process.wait() => bail!(
                "the emulator does not start ({}); is it installed? On Debian and Ubuntu: apt-get install qemu-system-arm, and \
                 for an ATmega libsimavr-dev, then tests/setup.sh all",
                status?
            ),
        }
    }

    /// Waits until the emulator ends by itself.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus> {
        Ok(self.process.wait().await?)
    }

    /// Stops it; QEMU first writes its RAM to `dump`.
    pub(crate) async fn stop(mut self, dump: Option<&Path>) -> Result<()> {
        if let (Some(dump), Some(monitor)) = (dump, &mut self.monitor) {
            let save = format!("pmemsave {RAM_START:#x} {RAM_LEN} \"{}\"\nquit\n", dump.display());
            monitor.write_all(save.as_bytes()).await?;
            self.process.wait().await?;
        }
        Ok(())
    }
}

/// The emulator must not outlive this process, not even if that is killed. Ctrl-C at the terminal is for us alone: an emulator
/// that ends by itself is a board that stopped.
fn bound_to_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program).process_group(0);
    command
}

fn simavr(args: &Args, scratch: &Path, socket: &Path) -> Result<Command> {
    if args.dump_ram.is_some() {
        bail!("the RAM of an ATmega is not written out; leave --dump-ram out");
    }
    let eeprom = args.flash.clone().unwrap_or_else(|| scratch.join("eeprom"));
    let mut contents = vec![0xff; EEPROM_LEN];
    OsRng.fill_bytes(&mut contents[EEPROM_SEED..][..32]);
    contents[EEPROM_SEED + 32..][..8].copy_from_slice(&args.uid);
    make_unless_there(&eeprom, &contents).with_context(|| format!("EEPROM image {}", eeprom.display()))?;
    let mut command = bound_to_us(&args.simavr);
    command.arg("atmega1284p").arg(&args.firmware).arg(eeprom).arg(socket);
    command.arg(args.cut.map_or("-1".to_owned(), |cut| cut.to_string()));
    command.arg(if args.count_instructions { "1" } else { "0" });
    Ok(command)
}

fn qemu(args: &Args, firmware: &object::File<'_>, scratch: &Path, socket: &Path) -> Result<Command> {
    if args.cut.is_some() {
        bail!("--cut is for an ATmega");
    }
    let ram = scratch.join("ram");
    let start = write_ram(&ram, firmware, args.uid)?;
    let mut command = bound_to_us("qemu-system-arm");
    command.args(["-machine", args.board.machine()]);
    command.args(["-display", "none", "-monitor", "stdio", "-no-reboot"]);
    command.arg("-chardev").arg(format!("socket,id=uart,path={}", socket.display())).args(["-serial", "chardev:uart"]);
    command.arg("-device").arg(format!("loader,file={},addr={start:#x},force-raw=on", ram.display()));
    command.arg("-kernel").arg(&args.firmware);
    match (&args.flash, args.board) {
        (Some(flash), Board::EmcraftSf2) => {
            make_unless_there(flash, &vec![0xff; FLASH_LEN])
                .with_context(|| format!("flash image {}", flash.display()))?;
            command.arg("-drive").arg(format!("file={},if=mtd,format=raw", flash.display()));
        }
        (Some(_), board) => bail!("{} has no flash that can be kept; leave --flash out", board.machine()),
        (None, _) => {}
    }
    match (&args.processor, args.board) {
        (Some(processor), Board::Lm3s6965evb) => drop(command.args(["-cpu", processor])),
        (Some(_), board) => bail!("{} has the processor that it has; leave --processor out", board.machine()),
        (None, _) => {}
    }
    if args.count_instructions {
        command.args(["-icount", "shift=0"]);
    }
    Ok(command)
}

impl Board {
    fn machine(self) -> &'static str {
        match self {
            Board::EmcraftSf2 => "emcraft-sf2",
            Board::Lm3s6965evb => "lm3s6965evb",
            Board::Atmega1284p => "atmega1284p",
        }
    }
}

/// Writes what RAM holds at the start, behind what the firmware's start-up code initialises: paint, and the page with
/// number and seed. Returns the address of that.
fn write_ram(path: &Path, firmware: &object::File<'_>, uid: [u8; 8]) -> io::Result<u64> {
    let is_ram = |address: &u64| (RAM_START.into()..RAM_END).contains(address);
    let segments = firmware.segments().map(|segment| segment.address().saturating_add(segment.size()));
    let start = segments.filter(is_ram).max().unwrap_or(RAM_START.into());
    let mut seed = [0; 32];
    OsRng.fill_bytes(&mut seed);
    let paint = vec![PAINT; usize::try_from(PAGE.saturating_sub(start)).unwrap_or(0)];
    let contents = [&paint, PAGE_MARK, &uid, &seed].concat();
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(&contents)?;
    Ok(start)
}

fn make_unless_there(path: &Path, contents: &[u8]) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(contents),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let (len, expected) = (fs::metadata(path)?.len(), contents.len());
            match usize::try_from(len) {
                Ok(len) if len == expected => Ok(()),
                _ => Err(io::Error::other(format!("has {len} bytes; the board's memory has {expected}"))),
            }
        }
        Err(error) => Err(error),
    }
}
