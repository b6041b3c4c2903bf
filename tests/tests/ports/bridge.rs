//! A serial port whose line does something to what it carries, in front of a simulated device or of nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};

/// What the line does.
#[derive(Default)]
pub(crate) struct Line {
    /// All that the host sends comes back to it, too.
    pub(crate) echoes: bool,
    /// What the device says does not arrive.
    pub(crate) is_cut: bool,
    /// So many bytes of each of the device's frames arrive, and no more.
    pub(crate) buffers: Option<usize>,
    /// What a byte from the device becomes.
    pub(crate) becomes: Option<(u8, &'static [u8])>,
    /// The board says that whenever its port is opened.
    pub(crate) says: &'static [u8],
    /// The device is unplugged when it begins to send so many datagrams.
    pub(crate) ends_before: Option<usize>,
}

/// A port. It is unplugged when it is dropped.
pub(crate) struct Bridge {
    /// The link to reach it by.
    pub(crate) link: String,
    path: PathBuf,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    is_to_end: AtomicBool,
    opened: AtomicUsize,
}

impl Bridge {
    /// Makes a port at `path`; `device` is the serial link of a simulator.
    pub(crate) fn start(path: &Path, device: Option<&str>, line: Line) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a pty");
        fcntl_setfl(&master, fcntl_getfl(&master).expect("flags") | OFlags::NONBLOCK).expect("flags");
        let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("a name");
        // Opened and closed once, the host's end is known to be closed.
        let slave = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("the host's end");
        let mut settings = tcgetattr(&slave).expect("settings");
        settings.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &settings).expect("settings");
        drop(slave);
        let _ = fs::remove_file(path);
        symlink(&name, path).expect("a link");

        let device = device.map(|link| {
            let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
            let port = link.strip_prefix("serial:").expect("a serial link");
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(port).expect("the simulator's port")
        });
        let state = Arc::new(State::default());
        let cable =
            Cable { host: File::from(master), device, line, state: state.clone(), sent: 0, last: 0, in_frame: 0 };
        let thread = Some(thread::spawn(move || cable.carry()));
        Self { link: format!("serial:{}", path.display()), path: path.to_owned(), state, thread }
    }

    /// How often the port was opened.
    pub(crate) fn opened(&self) -> usize {
        self.state.opened.load(SeqCst)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.state.is_to_end.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

struct Cable {
    host: File,
    device: Option<File>,
    line: Line,
    state: Arc<State>,
    /// Datagrams that the device sent, and the last byte.
    sent: usize,
    last: u8,
    /// Bytes since the last END.
    in_frame: usize,
}

impl Cable {
    fn carry(mut self) {
        let (mut is_open, mut bytes) = (false, [0; 4096]);
        while !self.state.is_to_end.load(SeqCst) {
            let from_host = match self.host.read(&mut bytes) {
                // Nobody has the host's end open.
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    is_open = false;
                    0
                }
                read => {
                    if !std::mem::replace(&mut is_open, true) {
                        self.state.opened.fetch_add(1, SeqCst);
                        self.say(self.line.says);
                    }
                    read.unwrap_or(0)
                }
            };
            if self.line.echoes {
                self.say(&bytes[..from_host]);
            }
            let from_device = match &mut self.device {
                Some(device) => {
                    device.write_all(&bytes[..from_host]).expect("the simulator takes it");
                    device.read(&mut bytes).unwrap_or(0)
                }
                None => 0,
            };
            if self.ends(&bytes[..from_device]) {
                return;
            }
            if is_open && !self.line.is_cut {
                let becomes = |byte: &u8| match self.line.becomes {
                    Some((of, comes)) if of == *byte => comes.to_vec(),
                    _ => vec![*byte],
                };
                let said: Vec<u8> = bytes[..from_device].iter().flat_map(becomes).collect();
                let said = self.buffered(said);
                self.say(&said);
            }
            if from_host + from_device == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn say(&self, bytes: &[u8]) {
        // Fails if the host has just closed its end.
        let _ = (&self.host).write_all(bytes);
    }

    /// What of it arrives.
    fn buffered(&mut self, mut said: Vec<u8>) -> Vec<u8> {
        said.retain(|byte| {
            self.in_frame = if *byte == 0xc0 { 0 } else { self.in_frame + 1 };
            self.line.buffers.is_none_or(|bytes| self.in_frame <= bytes)
        });
        said
    }

    /// Whether it is unplugged now.
    fn ends(&mut self, said: &[u8]) -> bool {
        for byte in said {
            self.sent += usize::from((self.last, *byte) == (0xc0, 0xa9));
            self.last = *byte;
        }
        self.line.ends_before.is_some_and(|end| self.sent >= end)
    }
}
