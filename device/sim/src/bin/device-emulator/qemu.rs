//! QEMU with a board in it.

use std::{
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

/// The boards that there is firmware for. Both have 64 KiB of RAM, and the page of the emulator in its last 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Board {
    /// Cortex-M3 with SPI NOR flash: what it stores survives a restart.
    #[value(name = "emcraft-sf2")]
    EmcraftSf2,
    /// Cortex-M3 for measuring; its storage is RAM.
    #[value(name = "lm3s6965evb")]
    Lm3s6965evb,
}

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

/// A running QEMU. It ends with this process, however that ends.
pub(crate) struct Emulator {
    process: Child,
    /// Held here, since waiting for a process closes its input.
    monitor: Option<ChildStdin>,
    /// The other end of the board's UART.
    pub(crate) uart: Option<UnixStream>,
    _scratch: TempDir,
}

impl Emulator {
    /// Starts QEMU with the firmware, and a seed of its own.
    pub(crate) async fn start(args: &Args) -> Result<Self> {
        let name = args.firmware.display();
        let firmware = fs::read(&args.firmware).with_context(|| format!("{name}; `make firmware` builds it"))?;
        let firmware = object::File::parse(&*firmware).with_context(|| format!("{name} is no firmware"))?;
        let scratch = tempfile::tempdir()?;
        let (socket, ram) = (scratch.path().join("uart"), scratch.path().join("ram"));
        let start = write_ram(&ram, &firmware, args.uid)?;
        let listener = UnixListener::bind(&socket)?;

        // setpriv: QEMU must not outlive this process, not even if that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-arm", "-machine", args.board.machine()]);
        command.args(["-display", "none", "-monitor", "stdio", "-no-reboot"]);
        command
            .arg("-chardev")
            .arg(format!("socket,id=uart,path={}", socket.display()))
            .args(["-serial", "chardev:uart"]);
        command.arg("-device").arg(format!("loader,file={},addr={start:#x},force-raw=on", ram.display()));
        command.arg("-kernel").arg(&args.firmware);
        match (&args.flash, args.board) {
            (Some(flash), Board::EmcraftSf2) => {
                blank_unless_there(flash).with_context(|| format!("flash image {}", flash.display()))?;
                command.arg("-drive").arg(format!("file={},if=mtd,format=raw", flash.display()));
            }
            (Some(_), board) => bail!("{} has no flash that can be kept; leave --flash out", board.machine()),
            (None, _) => {}
        }
        if args.count_instructions {
            command.args(["-icount", "shift=0"]);
        }
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
                "QEMU does not start ({}); is qemu-system-arm installed? On Debian and Ubuntu: apt-get install qemu-system-arm",
                status?
            ),
        }
    }

    /// Waits until QEMU ends by itself.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus> {
        Ok(self.process.wait().await?)
    }

    /// Stops QEMU; first writes its RAM to `dump`.
    pub(crate) async fn stop(mut self, dump: Option<&Path>) -> Result<()> {
        if let (Some(dump), Some(monitor)) = (dump, &mut self.monitor) {
            let save = format!("pmemsave {RAM_START:#x} {RAM_LEN} \"{}\"\nquit\n", dump.display());
            monitor.write_all(save.as_bytes()).await?;
            self.process.wait().await?;
        }
        Ok(())
    }
}

impl Board {
    fn machine(self) -> &'static str {
        match self {
            Board::EmcraftSf2 => "emcraft-sf2",
            Board::Lm3s6965evb => "lm3s6965evb",
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

fn blank_unless_there(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(&vec![0xFF; FLASH_LEN]),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let len = fs::metadata(path)?.len();
            match usize::try_from(len) {
                Ok(FLASH_LEN) => Ok(()),
                _ => Err(io::Error::other(format!("has {len} bytes; the board's flash has {FLASH_LEN}"))),
            }
        }
        Err(error) => Err(error),
    }
}
