//! What the firmware costs, in bytes and in instructions: the tables of docs/benchmarks.md, which this program writes.
//!
//! `make size` and `make bench-device` build what is measured, and run it.

#![allow(clippy::print_stdout, reason = "the tables are the output")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};
use commissioner::{
    client::{Client, Request},
    commission::{Terms, commission},
    link::Link,
    session::{Session, Transfer},
    visit::Account,
};
use commissioning_examples::{command, quiet, start, station};
use object::{Object as _, ObjectSection as _, ObjectSegment as _, SectionFlags, SectionKind, elf::SHF_ALLOC};
use protocol::key::PrivateKey;
use rand_core::OsRng;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout},
};

/// The boards, and the targets that they are built for.
const BOARDS: [(&str, &str); 9] = [
    ("emcraft-sf2", CORTEX_M3),
    ("lm3s6965evb", CORTEX_M3),
    ("nrf52840-dk", "thumbv7em-none-eabihf"),
    ("nrf52840-dk-usb", "thumbv7em-none-eabihf"),
    ("nucleo-l476rg", "thumbv7em-none-eabihf"),
    ("rpi-pico", "thumbv6m-none-eabi"),
    ("rpi-pico-usb", "thumbv6m-none-eabi"),
    (MINIMAL, AVR),
    (PROVING, AVR),
];
/// The images for an ATmega1284P.
const MINIMAL: &str = "atmega1284p";
const PROVING: &str = "atmega1284p-edhoc";
const AVR: &str = "avr-none";
/// Where the tools say that the RAM of an AVR is.
const AVR_RAM_START: u64 = 0x0080_0000;
const CORTEX_M3: &str = "thumbv7m-none-eabi";
/// The processors that lm3s6965evb is emulated with: their names in the table and in QEMU, and their targets.
const PROCESSORS: [(&str, &str, &str); 3] = [
    // It has the instructions of a Cortex-M0+.
    ("Cortex-M0+", "cortex-m0", "thumbv6m-none-eabi"),
    ("Cortex-M3", "cortex-m3", CORTEX_M3),
    ("Cortex-M4", "cortex-m4", "thumbv7em-none-eabihf"),
];
/// RAM of the emulated boards; the last 64 bytes are the emulator's.
const RAM_START: u64 = 0x2000_0000;
const STACK_TOP: u64 = RAM_START + (64 << 10) - 64;
/// What `device-emulator` fills RAM with.
const PAINT: u8 = 0xA5;
/// Requests that are averaged over.
const REQUESTS: u32 = 20;

#[tokio::main]
async fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("sizes") => sizes().await,
        Some("instructions") => instructions().await,
        _ => bail!("say what to measure: sizes, or instructions"),
    }
}

/// A firmware in the emulator.
struct Running {
    process: Child,
    console: Lines<BufReader<ChildStdout>>,
    link: Link,
}

impl Running {
    fn start(scratch: &Path, board: &str, target: &str, arguments: &[&str]) -> Result<Self> {
        let port = scratch.join("port");
        let mut emulator = command("device-emulator")?;
        emulator.arg("--pty").arg(&port).args(["--board", board]).args(arguments).arg(firmware(board, target)?);
        let mut process = start(emulator.stdout(Stdio::piped()))?;
        let console = BufReader::new(process.stdout.take().context("piped")?).lines();
        Ok(Running { process, console, link: format!("serial:{}", port.display()).parse()? })
    }

    /// The next line with `text` in it.
    async fn line(&mut self, text: &str) -> Result<String> {
        while let Some(line) = self.console.next_line().await? {
            if line.contains(text) {
                return Ok(line);
            }
        }
        bail!("the firmware stopped; `device-emulator` says why")
    }

    /// What each of the next datagrams cost, in thousands of instructions.
    async fn costs(&mut self, datagrams: u32) -> Result<Vec<u64>> {
        let mut costs = Vec::new();
        for _ in 0..datagrams {
            let line = self.line("cost: ").await?;
            // It has a second of the host's time for that.
            ensure!(line.contains("bytes out,"), "the host is too busy: the device made a key between two datagrams");
            costs.push(microseconds(&line)?);
        }
        Ok(costs)
    }

    /// Waits until the device has made the ephemeral key of the next handshake.
    async fn prepared(&mut self) -> Result<()> {
        self.line("cost: prepared").await.map(drop)
    }

    /// Ctrl-C.
    async fn stop(mut self) -> Result<()> {
        let pid = self.process.id().context("it runs")?.to_string();
        ensure!(tokio::process::Command::new("kill").args(["-INT", &pid]).status().await?.success());
        self.process.wait().await?;
        Ok(())
    }
}

/// The number before ` us` at the end of a line.
fn microseconds(line: &str) -> Result<u64> {
    let number = line.strip_suffix(" us").and_then(|line| line.rsplit(' ').next());
    Ok(number.with_context(|| format!("no time in {line:?}"))?.parse()?)
}

async fn sizes() -> Result<()> {
    let mut table =
        "| firmware | flash | of it data | static RAM | stack, at most | RAM with stack |\n|---|---:|---:|---:|---:|---:|\n".to_owned();
    for (board, target) in BOARDS {
        let elf = fs::read(firmware(board, target)?)?;
        let elf = object::File::parse(&*elf)?;
        let (mut flash, mut data, mut ram) = (0, 0, 0);
        for section in elf.sections() {
            let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
            if sh_flags & u64::from(SHF_ALLOC) == 0 {
                continue;
            }
            let is_in_ram = section.address() >= if target == AVR { AVR_RAM_START } else { RAM_START };
            let is_in_flash = section.kind() != SectionKind::UninitializedData;
            ram += if is_in_ram { section.size() } else { 0 };
            flash += if is_in_flash { section.size() } else { 0 };
            data += if is_in_ram && is_in_flash { section.size() } else { 0 };
        }
        let stack = match target {
            CORTEX_M3 => Some(stack(board, &elf).await?),
            AVR => Some(Atmega::measure(board).await?.stack),
            _ => None,
        };
        let or_dash = |bytes: Option<u64>| bytes.map_or("–".to_owned(), |bytes| bytes.to_string());
        let row = format!(
            "| {board} | {flash} | {data} | {ram} | {} | {} |\n",
            or_dash(stack),
            or_dash(stack.map(|stack| stack + ram))
        );
        table.push_str(&row);
    }
    publish("sizes", &table)
}

/// The most that the stack took while the device was started, commissioned, visited again, given a new key, and reset.
async fn stack(board: &str, elf: &object::File<'_>) -> Result<u64> {
    let scratch = tempfile::tempdir()?;
    let (flash, dump, state) = (scratch.path().join("flash"), scratch.path().join("ram"), scratch.path().join("state"));
    let (flash, dump_path) = (flash.to_string_lossy(), dump.to_string_lossy());
    let mut arguments = vec!["--baud", "0", "--dump-ram", &dump_path];
    if board == "emcraft-sf2" {
        arguments.extend(["--flash", &flash]); // the other one keeps its storage in RAM
    }
    let mut device = Running::start(scratch.path(), board, CORTEX_M3, &arguments)?;
    device.line("commissioning-report:").await?;
    let link = device.link.to_string();
    for arguments in
        [&["init"][..], &["commission", &link], &["commission", &link], &["rekey", &link], &["reset", &link]]
    {
        let mut commissioner = command("commissioner")?;
        let done = commissioner.arg("--state-dir").arg(&state).args(arguments).output().await?;
        ensure!(done.status.success(), "commissioner {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    device.stop().await?;

    let used = elf.segments().map(|segment| segment.address() + segment.size());
    let bottom = used.filter(|end| (RAM_START..STACK_TOP).contains(end)).max().context("a firmware with variables")?;
    let ram = fs::read(&dump).context("the emulator wrote no RAM")?;
    let untouched = ram[usize::try_from(bottom - RAM_START)?..].iter().take_while(|byte| **byte == PAINT).count();
    Ok(STACK_TOP - bottom - u64::try_from(untouched)?)
}

/// What an ATmega1284P took, in cycles and in bytes.
struct Atmega {
    makes_a_key: u64,
    /// Each answer of a commissioning.
    answers: Vec<u64>,
    stack: u64,
}

impl Atmega {
    /// A first start, a commissioning, and another start.
    async fn measure(image: &str) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let eeprom = scratch.path().join("eeprom");
        let port = scratch.path().join("port");
        let mut device = InSimavr::start(image, &port, &eeprom)?;
        let [first_start, mut last, mut stack] = device.frame().await?.context("a report")?;
        let (state, link) = (scratch.path().join("state"), format!("serial:{}", port.display()));
        for arguments in [&["init"][..], &["commission", &link, "--trusted"]] {
            let mut commissioner = command("commissioner")?;
            let done = commissioner.arg("--state-dir").arg(&state).args(arguments).output().await?;
            ensure!(done.status.success(), "commissioner {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
        device.process.start_kill()?;
        device.process.wait().await?;
        let mut answers = Vec::new();
        while let Some([begin, end, deepest]) = device.frame().await? {
            answers.push(begin - last);
            (last, stack) = (end, stack.max(deepest));
        }
        let mut device = InSimavr::start(image, &scratch.path().join("again"), &eeprom)?;
        let [second_start, ..] = device.frame().await?.context("a report")?;
        Ok(Self { makes_a_key: first_start - second_start, answers, stack })
    }
}

/// An ATmega1284P that counts.
struct InSimavr {
    process: Child,
    said: Lines<BufReader<ChildStderr>>,
}

impl InSimavr {
    fn start(image: &str, port: &Path, eeprom: &Path) -> Result<Self> {
        let mut emulator = command("device-emulator")?;
        emulator.args(["--board", "atmega1284p", "--count-instructions", "--pty"]).arg(port);
        emulator.arg("--simavr").arg(built()?.join("simavr/board")).arg("--flash").arg(eeprom);
        let emulator = emulator.arg(firmware(image, AVR)?).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = start(emulator)?;
        let said = BufReader::new(process.stderr.take().context("piped")?).lines();
        Ok(Self { process, said })
    }

    /// The next frame that it sends: the cycles at its beginning and at its end, and the deepest stack by then.
    async fn frame(&mut self) -> Result<Option<[u64; 3]>> {
        let mut seen = Vec::new();
        while let Some(line) = self.said.next_line().await? {
            if let Some((cycles, stack)) = line.strip_prefix("cycles ").and_then(|line| line.split_once(" stack ")) {
                seen.push((cycles.parse()?, stack.parse()?));
            }
            if let [(begin, _), (end, stack)] = seen[..] {
                return Ok(Some([begin, end, stack]));
            }
        }
        Ok(None)
    }
}

/// What a processor takes: thousands of instructions; of the visits, the number of messages and the bytes on the line, too.
struct Costs {
    makes_a_key: u64,
    ecdh: u64,
    message_1: u64,
    message_3: u64,
    read_plain: u64,
    read_protected: u64,
    visits: Vec<(u64, usize, usize)>,
}

impl Costs {
    async fn measure(processor: &str, target: &str) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let arguments = ["--count-instructions", "--baud", "0", "--processor", processor];
        let mut device = Running::start(scratch.path(), "lm3s6965evb", target, &arguments)?;
        let makes_a_key = microseconds(&device.line("key generation").await?)?;
        let ecdh = microseconds(&device.line("ECDH").await?)?;
        device.prepared().await?;

        // A stranger's visit, message by message.
        let mut client = Client::open(&device.link).await?;
        let account = Account::read(&mut client).await?;
        let read_plain = device.costs(1).await?[0];
        let (throwaway, expected) = (PrivateKey::generate(&mut OsRng), *account.key().context("a key")?);
        let mut session = Session::establish_separately(&mut client, &throwaway, Transfer::ByValue, expected).await?;
        let handshake = device.costs(2).await?;
        for _ in 0..REQUESTS {
            session.request(&Request::get("/comm")).await?.success()?;
        }
        let read_protected = device.costs(REQUESTS).await?.iter().sum::<u64>() / u64::from(REQUESTS);

        // A whole commissioning, and a later visit.
        let station = station(&scratch.path().join("state")).await?;
        let mut visits = Vec::new();
        for _ in 0..2 {
            device.prepared().await?;
            client.record();
            let account = Account::read(&mut client).await?;
            commission(&mut client, &account, &station, &Terms::OWNER, &quiet()).await?;
            let records = client.take_records();
            let costs = device.costs(u32::try_from(records.len() / 2)?).await?;
            let line: usize = records.iter().map(|record| record.line).sum();
            visits.push((costs.iter().sum::<u64>(), records.len(), line));
        }
        device.stop().await?;
        let (message_1, message_3) = (handshake[0], handshake[1]);
        Ok(Costs { makes_a_key, ecdh, message_1, message_3, read_plain, read_protected, visits })
    }
}

fn millions(thousands: u64) -> String {
    format!("{}.{:03} M", thousands / 1000, thousands % 1000)
}

async fn instructions() -> Result<()> {
    let mut all = Vec::new();
    for (_, processor, target) in PROCESSORS {
        all.push(Costs::measure(processor, target).await?);
    }
    let mut table = format!(
        "| what the device does | {} | bytes on the line |\n|---|---:|---:|---:|---:|\n",
        PROCESSORS.map(|(name, ..)| name).join(" | ")
    );
    let mut row = |what: &str, cost: &dyn Fn(&Costs) -> u64, line: &str| {
        let cells: Vec<_> = all.iter().map(|costs| millions(cost(costs))).collect();
        let line = if line.is_empty() { "" } else { &format!("{line} ") };
        table.push_str(&format!("| {what} | {} | {line}|\n", cells.join(" | ")));
    };
    row("makes a key, of its own or for a handshake", &|costs| costs.makes_a_key, "");
    row("one ECDH, the point found from x", &|costs| costs.ecdh, "");
    row("handshake: message_1 to message_2, ephemeral key made before", &|costs| costs.message_1, "");
    row("handshake: message_3 to message_4", &|costs| costs.message_3, "");
    row("handshake, both together", &|costs| costs.message_1 + costs.message_3, "");
    row("... and the ephemeral key", &|costs| costs.message_1 + costs.message_3 + costs.makes_a_key, "");
    row("GET /comm without protection", &|costs| costs.read_plain, "");
    row("GET /comm under OSCORE", &|costs| costs.read_protected, "");
    for (at, what) in ["a first visit", "a later visit"].iter().enumerate() {
        let (_, messages, line) = all[0].visits[at];
        row(&format!("{what}, {messages} messages"), &|costs| costs.visits[at].0, &line.to_string());
    }
    publish("instructions", &table)?;
    atmega().await
}

async fn atmega() -> Result<()> {
    let (minimal, proving) = (Atmega::measure(MINIMAL).await?, Atmega::measure(PROVING).await?);
    let takes_a_certificate = *minimal.answers.last().context("an answer to the certificate")?;
    let [.., message_1, message_3, under_oscore] = proving.answers[..] else { bail!("{:?}", proving.answers) };
    let mut table = "| what an ATmega1284P does | cycles | at 16 MHz |\n|---|---:|---:|\n".to_owned();
    for (what, cycles) in [
        ("makes a key: one scalar multiplication", minimal.makes_a_key),
        ("takes a certificate: checks the signature, two of them", takes_a_certificate),
        ("with EDHOC, makes a key", proving.makes_a_key),
        ("... message_1 to message_2, ephemeral key made before: two of them", message_1),
        ("... message_3, and `GET /comm` in the same message: one", message_3),
        ("... handshake, both together", message_1 + message_3),
        ("... takes a certificate under OSCORE", under_oscore),
    ] {
        let (millions, tenths) = (millions(cycles / 1000), cycles / 1_600_000);
        table.push_str(&format!("| {what} | {millions} | {}.{} s |\n", tenths / 10, tenths % 10));
    }
    publish("atmega", &table)
}

/// Where `make firmware` leaves a firmware.
fn firmware(board: &str, target: &str) -> Result<PathBuf> {
    let name = if target == AVR { format!("{board}.elf") } else { board.to_owned() };
    let firmware = built()?.join("firmware").join(target).join("release").join(name);
    ensure!(firmware.exists(), "{} is missing: run `make firmware`", firmware.display());
    Ok(firmware)
}

/// target/
fn built() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).context("programs lie in target/PROFILE")?.to_owned())
}

/// Prints a table, and writes it to its place in docs/benchmarks.md.
fn publish(name: &str, table: &str) -> Result<()> {
    println!("{table}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
    let page = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let place = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = place.with_context(|| format!("docs/benchmarks.md has no place for {name}"))?;
    fs::write(&path, format!("{before}{begin}{table}{end}{after}"))?;
    Ok(())
}
