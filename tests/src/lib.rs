//! A bench for tests that cross process borders: real `device-sim`, `device-emulator` and `commissioner` processes, found
//! beside the test, and the firmware of an emulated board.
//!
//! `make test` builds them first; a test run by hand needs `cargo build -p device-sim -p commissioner` and
//! `make firmware`. Tests that own the line between the two, and its clock, have both in [`one_process`].

pub mod one_process;

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, WaitId, WaitIdOptions, prlimit, waitid};
use serde_json::Value;
use tempfile::TempDir;

/// Runs each case over each cable, as `pty::NAME` and so on; a case is a function of a bench that is initialised:
/// `cases! { [pty Pty, udp Udp] [one_case, another_one] }`.
#[macro_export]
macro_rules! cases {
    ([$($module:ident $cable:ident),+] $names:tt) => { $($crate::cases! { $module $cable $names })+ };
    ($module:ident $cable:ident [$($name:ident),+ $(,)?]) => {
        mod $module {
            $(#[test] fn $name() { super::$name(&$crate::Bench::initialised($crate::Cable::$cable)); })+
        }
    };
}

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the firmware of the emulated boards is built for.
pub const CORTEX_M3: &str = "thumbv7m-none-eabi";

/// The cable between a device and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cable {
    /// A pseudo-terminal with slipmux.
    Pty,
    /// CoAP over UDP on the loopback interface.
    Udp,
    /// The UART of an emulated board, at 115200 baud, that runs real firmware.
    Uart,
}

/// A scratch directory, and commands that work in it.
pub struct Bench {
    scratch: TempDir,
    /// The cable that devices are started with.
    pub cable: Cable,
}

/// A program that runs beside the test. It is killed when it is dropped, as by pulling its plug.
pub struct Running {
    process: Child,
    leads_group: bool,
    lines: Receiver<Line>,
    /// Lines of the other stream, that came while we waited for one on this.
    passed_over: Vec<Line>,
}

/// A line, and on which stream: what a program says is in order on each, but not across the two.
struct Line {
    is_error: bool,
    text: String,
}

/// A running simulator.
pub struct Device {
    program: Running,
    /// Where the link of a serial port leads to.
    port: Option<PathBuf>,
    /// The link to reach it by.
    pub link: String,
    /// The first lines of its console, the report line included.
    pub console: Vec<String>,
}

/// What a command left behind.
pub struct Finished {
    /// The exit code.
    pub exit: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A program of this workspace, built for the same profile as the test.
pub fn program(name: &str) -> PathBuf {
    let program = profile().join(name);
    assert!(program.exists(), "{} is missing: run `cargo build --workspace`", program.display());
    program
}

/// The firmware of a board, as `make firmware` leaves it.
pub fn firmware(board: &str, target: &str) -> PathBuf {
    let firmware = profile().with_file_name("firmware").join(target).join("release").join(board);
    assert!(firmware.exists(), "{} is missing: run `make firmware`", firmware.display());
    firmware
}

/// The serial number of an ATmega, and the name that it makes of that.
pub const ATMEGA_UID: &str = "00000000000000a1";
/// See [`ATMEGA_UID`].
pub const ATMEGA_ID: &str = "urn:dev:ops:32473-atmega-00000000000000a1";

/// An age recipient whose identity nobody has.
pub const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// So many bytes that mean nothing; always the same ones.
pub fn noise(len: u32) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Where the programs are that were built with the test.
fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.parent().and_then(Path::parent).expect("tests live in target/PROFILE/deps").to_owned()
}

impl Bench {
    /// An empty scratch directory.
    pub fn new(cable: Cable) -> Self {
        Bench { scratch: tempfile::tempdir().expect("a scratch directory"), cable }
    }

    /// A bench on which `commissioner init` was run.
    pub fn initialised(cable: Cable) -> Self {
        let bench = Bench::new(cable);
        bench.commissioner(&["init"]).succeeded();
        bench
    }

    /// A path in the scratch directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Starts a device with the flash image `flash`, and waits for its report line. At the end of a UART, the ID has to
    /// be one of an emulated board.
    pub fn start(&self, flash: &str, id: &str) -> Device {
        self.start_with(flash, id, &[])
    }

    /// Starts a simulated device with other options than usual.
    pub fn start_with(&self, flash: &str, id: &str, options: &[&str]) -> Device {
        let port = self.path(&format!("{flash}.port"));
        let mut command =
            Command::new(program(if self.cable == Cable::Uart { "device-emulator" } else { "device-sim" }));
        match self.cable {
            Cable::Pty => command.args(["--id", id]).arg("--pty").arg(port),
            Cable::Udp => command.args(["--id", id, "--udp", "127.0.0.1:0"]),
            Cable::Uart => {
                let uid = id.strip_prefix("urn:dev:ops:32473-sf2-").expect("the ID of an emulated board");
                command.args(["--uid", uid]).arg("--pty").arg(port).arg(firmware("emcraft-sf2", CORTEX_M3))
            }
        };
        Device::start(command.args(options).arg("--flash").arg(self.path(flash)))
    }

    /// What runs an ATmega1284P in simavr with an image of `make firmware`, at the end of its UART.
    pub fn atmega(&self, image: &str, eeprom: &str) -> Command {
        let mut command = Command::new(program("device-emulator"));
        command.args(["--board", "atmega1284p", "--uid", ATMEGA_UID]);
        command.arg("--simavr").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/simavr/board"));
        command.arg("--pty").arg(self.path(&format!("{eeprom}.port"))).arg("--flash").arg(self.path(eeprom));
        command.arg(firmware(image, "avr-none"));
        command
    }

    /// Runs the commissioner with the state directory `state`.
    pub fn commissioner(&self, args: &[&str]) -> Finished {
        self.commissioner_of("state", args)
    }

    /// Runs it with another state directory: as another issuer.
    pub fn commissioner_of(&self, state: &str, args: &[&str]) -> Finished {
        self.commissioner_fed(state, args, b"")
    }

    /// Runs it with something on standard input.
    pub fn commissioner_fed(&self, state: &str, args: &[&str], input: &[u8]) -> Finished {
        let mut process = Command::new(program("commissioner"))
            .arg("--state-dir")
            .arg(self.path(state))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the commissioner starts");
        process.stdin.take().expect("piped").write_all(input).expect("the commissioner takes its input");
        Finished::from(process.wait_with_output().expect("the commissioner ends"))
    }

    /// The signed list of my devices, as others get it.
    pub fn signed_list(&self) -> Vec<u8> {
        let file = self.path("list");
        let output = file.display().to_string();
        self.commissioner(&["export", "--format", "signed-list", "--output", &output]).succeeded();
        std::fs::read(file).expect("the list")
    }

    /// Copies the state directory `from` to `to`, by a backup.
    pub fn copy_state(&self, from: &str, to: &str) {
        let (file, words) = (self.path(&format!("{to}.age")), self.path("words"));
        std::fs::write(&words, "correct horse").expect("a file");
        let (file, words) = (file.display().to_string(), words.display().to_string());
        self.commissioner_of(from, &["backup", &file, "--passphrase-file", &words]).succeeded();
        self.commissioner_of(to, &["restore-backup", &file, "--passphrase-file", &words]).succeeded();
    }

    /// Starts a command of the commissioner that runs until it is told to stop.
    pub fn watch(&self, args: &[&str]) -> Running {
        let mut command = Command::new(program("commissioner"));
        command.arg("--state-dir").arg(self.path("state")).args(args);
        Running::start(&mut command)
    }

    /// The records that `devices --json --all` prints.
    pub fn records(&self) -> Vec<Value> {
        self.commissioner(&["devices", "--all", "--json"]).succeeded().json()
    }

    /// The status of a device's keys, oldest first.
    pub fn statuses(&self) -> Vec<String> {
        self.records().iter().map(|record| record["status"].as_str().expect("a status").to_owned()).collect()
    }
}

impl Running {
    /// Starts a program, and listens to all that it says.
    pub fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let (sender, lines) = channel();
        for (is_error, stream) in [
            (false, Box::new(process.stdout.take().expect("piped")) as Box<dyn std::io::Read + Send>),
            (true, Box::new(process.stderr.take().expect("piped"))),
        ] {
            let sender = sender.clone();
            thread::spawn(move || {
                for text in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(Line { is_error, text }).is_err() {
                        break;
                    }
                }
            });
        }
        Running { process, leads_group: false, lines, passed_over: Vec::new() }
    }

    /// Starts it as the leader of a process group, as a shell does. All of the group is killed when it is dropped.
    pub fn start_group(command: &mut Command) -> Self {
        let mut program = Running::start(command.process_group(0));
        program.leads_group = true;
        program
    }

    /// Waits for the next line on standard output or standard error; `None` if the program ended.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub fn next_line(&mut self) -> Option<String> {
        match self.passed_over.is_empty() {
            true => self.next().map(|line| line.text),
            false => Some(self.passed_over.remove(0).text),
        }
    }

    /// Waits for a line that contains `text`. Those before it on the same stream are passed over, and on the other one kept.
    pub fn expect_line(&mut self, text: &str) {
        let mut kept = std::mem::take(&mut self.passed_over).into_iter();
        while let Some(line) = kept.next().or_else(|| self.next()) {
            if line.text.contains(text) {
                self.passed_over.retain(|other| other.is_error != line.is_error);
                self.passed_over.extend(kept);
                return;
            }
            self.passed_over.push(line);
        }
        let said: Vec<_> = self.passed_over.iter().map(|line| line.text.as_str()).collect();
        panic!("the program ended without saying {text:?}: {said:#?}");
    }

    fn next(&mut self) -> Option<Line> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the program has nothing to say"),
        }
    }

    /// Waits until a signal has stopped it, as the hook in the commissioner's debug builds does; false if it ended.
    pub fn is_stopped(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(Pid::from_child(&self.process)), options).expect("it is our child");
        status.expect("it was waited for").stopped()
    }

    /// From now on it writes nothing behind byte `bytes` of any file: as if the disk were full.
    pub fn limit_files(&self, bytes: u64) {
        let limit = Rlimit { current: Some(bytes), maximum: None };
        prlimit(Some(Pid::from_child(&self.process)), Resource::Fsize, limit).expect("it is our child");
    }

    /// The most memory that it had in use so far, in bytes: VmHWM of Linux.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Lets it go on after a stop.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// Ctrl-C. Returns the exit code that the program ends with.
    pub fn interrupt(self) -> Option<i32> {
        self.signal("INT");
        self.finish().0
    }

    /// Types something, if standard input was piped.
    pub fn type_in(&mut self, keys: &[u8]) {
        let input = self.process.stdin.as_mut().expect("standard input was piped");
        input.write_all(keys).and_then(|()| input.flush()).expect("the program takes its input");
    }

    /// Its process ID.
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        assert!(kill(name, &self.process.id().to_string()), "there is no such process any more");
    }

    /// Sends a signal to the program's process group, as a terminal does.
    pub fn signal_group(&self, name: &str) {
        assert!(self.leads_group, "its group is the test's");
        assert!(kill(name, &format!("-{}", self.process.id())), "there is no such group any more");
    }

    /// Waits until it ends. Returns its exit code.
    pub fn ended(self) -> Option<i32> {
        self.finish().0
    }

    /// Waits until it ends: its exit code, and the lines that nobody waited for.
    pub fn finish(mut self) -> (Option<i32>, Vec<String>) {
        let lines = std::iter::from_fn(|| self.next_line()).collect();
        (self.process.wait().expect("it ends").code(), lines)
    }
}

/// Whether there was somebody to send it to.
fn kill(signal: &str, process: &str) -> bool {
    let kill = Command::new("kill").args(["-s", signal, "--", process]).stderr(Stdio::null()).status();
    kill.expect("kill runs").success()
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.leads_group {
            kill("KILL", &format!("-{}", self.process.id()));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Device {
    /// Pulls the plug: the port goes with the device. Its number may be another device's before long.
    fn drop(&mut self) {
        let _ = self.program.process.kill();
        if let Some(port) = self.link.strip_prefix("serial:")
            && std::fs::read_link(port).ok() == self.port
        {
            let _ = std::fs::remove_file(port);
        }
    }
}

impl Device {
    /// Starts a simulator, and waits until it has said where it is and printed its report line.
    pub fn start(command: &mut Command) -> Self {
        let program = Running::start(command);
        let mut device = Device { program, port: None, link: String::new(), console: Vec::new() };
        while device.link.is_empty() || !device.console.iter().any(|line| line.contains("commissioning-report:")) {
            let line = device.program.next_line().expect("device-sim says where it is, and its report line");
            match line.strip_prefix("device-").and_then(|line| line.split_once(" at ")) {
                Some((_, link)) => {
                    device.link = link.to_owned();
                    device.port = link.strip_prefix("serial:").and_then(|port| std::fs::read_link(port).ok());
                }
                None => device.console.push(line),
            }
        }
        device
    }

    /// Waits for a line on the console that contains `text`.
    pub fn expect_line(&mut self, text: &str) {
        self.program.expect_line(text);
    }

    /// Sends the simulator a signal.
    pub fn signal(&self, name: &str) {
        self.program.signal(name);
    }

    /// The report line.
    pub fn report(&self) -> &str {
        self.console.iter().find(|line| line.contains("commissioning-report:")).expect("it was waited for")
    }
}

impl Finished {
    /// Demands exit code 0.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        self.ended_with(0)
    }

    /// Demands an exit code.
    #[track_caller]
    pub fn ended_with(self, exit: i32) -> Self {
        assert_eq!(self.exit, exit, "standard output:\n{}\nstandard error:\n{}", self.stdout, self.stderr);
        self
    }

    /// Demands a text on standard error.
    #[track_caller]
    pub fn saying(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in:\n{}", self.stderr);
        self
    }

    /// Standard output as JSON Lines.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
        self.stdout.lines().map(parse).collect()
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("programs speak UTF-8");
        Finished {
            exit: output.status.code().expect("no signal ended it"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}
