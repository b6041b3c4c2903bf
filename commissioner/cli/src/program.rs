//! Another program in our foreground: its output is passed through as it comes, and looked at for reports on the way.
//!
//! The program is to notice as little of us as possible. It has our standard input, terminal and process group, so
//! Ctrl-C reaches it without us. Where our output is a terminal, it writes to a terminal too (a pty of ours), and keeps its
//! colours, its progress bars and its habit of writing line by line.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    path::Path,
    process::ExitStatus,
    time::Duration,
};

use commissioner::report_scanner::{ReportScanner, Sighting};
use rustix::{
    fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat},
    process::{Pid, getpgrp, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, tcsetwinsize},
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    net::unix::pipe::Receiver,
    process::{Child, Command},
    sync::{mpsc, watch},
    time::timeout,
};

pub(crate) use rustix::process::Signal;

/// Bytes passed through at a time.
const CHUNK: usize = 8 * 1024;
/// Reports that may wait to be taken. The program waits for us then.
const WAITING: usize = 16;
/// How long programs that the ended one left behind may be silent before nothing more is passed through.
const SILENCE: Duration = Duration::from_millis(250);

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such program.
    #[error("cannot start {0:?}: there is no such program; install it, or give its path")]
    Missing(OsString),
    /// The file is there, but what it says it needs is not.
    #[error("cannot start {0:?}: the file is there, but its interpreter is not; install what its first line names")]
    NoInterpreter(OsString),
    /// The file is no program.
    #[error("cannot start {0:?}: it is no program that you may run; check the path, or `chmod +x` it")]
    NotExecutable(OsString),
    /// Anything else that the operating system reports.
    #[error("cannot start {program:?}: {source}")]
    Failed {
        /// The program.
        program: OsString,
        /// The operating system's error.
        source: io::Error,
    },
}

/// A running program.
pub(crate) struct Program {
    child: Child,
    ended: watch::Sender<bool>,
    /// Our ends of the ptys that stand for standard error and standard output.
    terminals: [Option<File>; 2],
}

impl Program {
    /// Starts `command`, a program and its arguments. What it writes goes where ours goes; to standard error alone with
    /// `only_stderr`. Reports arrive at the receiver until the output has ended.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn start(command: &[OsString], only_stderr: bool) -> Result<(Self, mpsc::Receiver<Sighting>), Error> {
        let (name, arguments) = command.split_first().ok_or_else(|| Error::Missing(OsString::new()))?;
        let failed = |source| Error::Failed { program: name.clone(), source };
        // To one place in one order: what the program writes to either is one stream then.
        let as_one = only_stderr || are_same(&io::stdout(), &io::stderr());
        let channels = || {
            let errors = Channel::like(&io::stderr())?;
            let output = if as_one { None } else { Some(Channel::like(&io::stdout())?) };
            let output_end = output.as_ref().unwrap_or(&errors).theirs.try_clone()?;
            let terminals = [errors.terminal()?, output.as_ref().map_or(Ok(None), Channel::terminal)?];
            Ok((errors, output.map(|output| output.ours), output_end, terminals))
        };
        let (errors, output, output_end, terminals) = channels().map_err(failed)?;
        let mut program = Command::new(name);
        program.args(arguments).stderr(errors.theirs).stdout(output_end);
        let child = program.spawn().map_err(|error| Error::new(name, error))?;
        // It has its ends of the channels: while they are ours too, the output never ends.
        drop(program);

        let (sightings, reports) = mpsc::channel(WAITING);
        let (ended, has_ended) = watch::channel(false);
        if let Some(output) = output {
            tokio::spawn(pass_on(output, tokio::io::stdout(), sightings.clone(), has_ended.clone()));
        }
        tokio::spawn(pass_on(errors.ours, tokio::io::stderr(), sightings, has_ended));
        Ok((Self { child, ended, terminals }, reports))
    }

    /// Waits until the program has ended. What it wrote before that is still passed through.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.ended.send_replace(true);
        status
    }

    /// Passes a signal on that we got.
    pub(crate) fn signal(&self, signal: Signal) {
        if signal == Signal::WINCH {
            return self.resize();
        }
        // The terminal has sent Ctrl-C to both of us.
        if signal == Signal::INT && is_in_foreground() {
            return;
        }
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            // Fails if the program has just ended.
            let _ = kill_process(pid, signal);
        }
    }

    /// The window has another size.
    fn resize(&self) {
        let Ok(size) = tcgetwinsize(io::stderr()).or_else(|_| tcgetwinsize(io::stdout())) else { return };
        for terminal in self.terminals.iter().flatten() {
            // Only looks depend on it.
            let _ = tcsetwinsize(terminal, size);
        }
    }
}

/// The code that a shell would give for it: that of the program, or 128 and the signal that ended it.
pub(crate) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

impl Error {
    fn new(program: &OsStr, source: io::Error) -> Self {
        let program = program.to_owned();
        let is_path = Path::new(&program).components().count() > 1;
        match source.kind() {
            io::ErrorKind::NotFound if is_path && Path::new(&program).exists() => Self::NoInterpreter(program),
            io::ErrorKind::NotFound => Self::Missing(program),
            io::ErrorKind::PermissionDenied => Self::NotExecutable(program),
            _ => Self::Failed { program, source },
        }
    }
}

/// From the program to us.
struct Channel {
    ours: OwnedFd,
    theirs: OwnedFd,
    is_terminal: bool,
}

impl Channel {
    /// A pty if `stream` is a terminal, else a pipe.
    fn like(stream: &impl AsFd) -> io::Result<Self> {
        let is_terminal = isatty(stream);
        let (ours, theirs) = match is_terminal {
            true => pty(stream)?,
            false => io::pipe().map(|(ours, theirs)| (ours.into(), theirs.into()))?,
        };
        fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
        Ok(Self { ours, theirs, is_terminal })
    }

    fn terminal(&self) -> io::Result<Option<File>> {
        self.is_terminal.then(|| self.ours.try_clone().map(File::from)).transpose()
    }
}

/// Whether two streams end in one and the same file, terminal or pipe.
fn are_same(one: &impl AsFd, other: &impl AsFd) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// A pty that changes nothing of what is written to it, as large as `terminal`.
fn pty(terminal: &impl AsFd) -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(ptsname(&ours, Vec::new())?, flags, Mode::empty())?;
    let mut settings = tcgetattr(&theirs)?;
    settings.make_raw();
    tcsetattr(&theirs, OptionalActions::Now, &settings)?;
    tcsetwinsize(&theirs, tcgetwinsize(terminal)?)?;
    Ok((ours, theirs))
}

/// Whether the terminal sends its signals to our process group, and so to the program's.
fn is_in_foreground() -> bool {
    File::open("/dev/tty").is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}

/// Passes everything through until the output has ended, or the program has and those that it left behind are silent.
async fn pass_on(
    from: OwnedFd,
    mut to: impl AsyncWrite + Unpin,
    sightings: mpsc::Sender<Sighting>,
    mut ended: watch::Receiver<bool>,
) {
    // A pty can be read as a pipe can.
    let Ok(from) = Receiver::from_owned_fd_unchecked(from) else { return };
    let mut scanner = ReportScanner::new();
    let mut chunk = vec![0; CHUNK];
    let (mut to_is_open, mut has_ended) = (true, false);
    loop {
        let read = match has_ended {
            true => timeout(SILENCE, read(&from, &mut chunk)).await.unwrap_or(0),
            false => tokio::select! {
                read = read(&from, &mut chunk) => read,
                _ = ended.wait_for(|ended| *ended) => {
                    has_ended = true;
                    continue;
                }
            },
        };
        let Some(bytes @ [_, ..]) = chunk.get(..read) else { break };
        // Where our output goes may go away. The program is not to suffer from that: it may be writing to a flash.
        to_is_open = to_is_open && to.write_all(bytes).await.is_ok() && to.flush().await.is_ok();
        for sighting in scanner.push(bytes) {
            let _ = sightings.send(sighting).await;
        }
    }
    if let Some(sighting) = scanner.finish() {
        let _ = sightings.send(sighting).await;
    }
}

/// Reads when there is something; 0 at the end.
async fn read(from: &Receiver, chunk: &mut [u8]) -> usize {
    while from.readable().await.is_ok() {
        match from.try_read(chunk) {
            Ok(read) => return read,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // A pty that nobody has open any more is EIO.
            Err(_) => break,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use rustix::termios::Winsize;

    use super::*;

    const LINES: &[u8] = b"a line\nprogress\rand\ttabs\x03\x04\x1b[0m\xff\r\n";

    /// What arrives when `LINES` are written.
    fn written_to(channel: Channel) -> Vec<u8> {
        rustix::io::write(&channel.theirs, LINES).unwrap();
        fcntl_setfl(&channel.ours, OFlags::empty()).unwrap();
        let mut arrived = vec![0; 2 * LINES.len()];
        let len = rustix::io::read(&channel.ours, &mut arrived[..]).unwrap();
        arrived.truncate(len);
        arrived
    }

    #[test]
    fn a_terminal_is_followed_by_a_terminal_of_its_size_that_changes_nothing() {
        let (_ours, terminal) = pty_pair();
        tcsetwinsize(&terminal, Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let channel = Channel::like(&terminal).unwrap();
        assert!(isatty(&channel.theirs) && channel.terminal().unwrap().is_some());
        let size = tcgetwinsize(&channel.theirs).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (33, 99));
        assert_eq!(written_to(channel), LINES);
    }

    #[test]
    fn all_else_is_followed_by_a_pipe() {
        let channel = Channel::like(&tempfile::tempfile().unwrap()).unwrap();
        assert!(!isatty(&channel.theirs) && channel.terminal().unwrap().is_none());
        assert_eq!(written_to(channel), LINES);
    }

    #[test]
    fn one_file_is_known_by_all_its_descriptors() {
        let (one, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        assert!(are_same(&one, &one.try_clone().unwrap()));
        assert!(!are_same(&one, &other));
    }

    #[test]
    fn codes_are_those_of_a_shell() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        assert_eq!([exited(0), exited(7), exited(255)].map(code), [0, 7, 255]);
        assert_eq!([2, 9, 15].map(|signal| code(ExitStatus::from_raw(signal))), [130, 137, 143]);
    }

    fn pty_pair() -> (OwnedFd, OwnedFd) {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        (ours, theirs)
    }
}
