//! Who else has a serial port open.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{major, minor};

use super::fault::Holder;
use crate::text;

/// The master ends of all ptys (`/dev/ptmx`) are one device, major and minor number.
const PTMX: (u32, u32) = (5, 2);
/// Major numbers of the other ends: 256 ptys each.
const PTYS: std::ops::RangeInclusive<u32> = 136..=143;
/// Parents of a process that are looked at.
const MOST_PARENTS: usize = 64;

/// A device file's device, by whichever of its names it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Device {
    number: u64,
    /// Each mounted `devpts` counts its ptys from 0, so there the file system matters.
    ptys: Option<u64>,
}

impl Device {
    /// The device behind a path; [`None`] if there is none.
    pub(super) fn at(path: &Path) -> Option<Self> {
        Self::of(&fs::metadata(path).ok()?)
    }

    pub(super) fn of(file: &Metadata) -> Option<Self> {
        let is_pty = PTYS.contains(&major(file.rdev()));
        let device = Self { number: file.rdev(), ptys: is_pty.then(|| file.dev()) };
        file.file_type().is_char_device().then_some(device)
    }

    pub(super) fn is_pty(self) -> bool {
        self.ptys.is_some()
    }

    /// Which pty it is, if it is one.
    fn pty(self) -> Option<u32> {
        self.ptys.map(|_| (major(self.number) - PTYS.start()) * 256 + minor(self.number))
    }
}

impl Holder {
    fn new(process: u32) -> Option<Self> {
        let name = fs::read(format!("/proc/{process}/comm")).ok()?;
        Some(Self { name: text::line(String::from_utf8_lossy(&name).trim_end()), process })
    }

    /// Who has locked the port, as we do, as far as the system tells.
    pub(super) fn by_lock(port: &Path) -> Option<Self> {
        let file = fs::metadata(port).ok()?;
        let file = format!("{:02x}:{:02x}:{}", major(file.dev()), minor(file.dev()), file.ino());
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|lock| match lock.split_whitespace().collect::<Vec<_>>()[..] {
            [_, "FLOCK", _, _, process, locked, ..] if locked == file => Self::new(process.parse().ok()?),
            _ => None,
        })
    }

    /// One of those that have the port.
    pub(super) fn of(port: &Path) -> Option<Self> {
        Self::by_lock(port).or_else(|| Self::all(port).pop())
    }

    /// What other programs have the port open, locked or not, as far as we may see that; the device behind a pty is none.
    pub(super) fn all(port: &Path) -> Vec<Self> {
        let Some(device) = Device::at(port) else { return Vec::new() };
        let ourselves = std::process::id();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut holders: Vec<_> = processes
            .filter(|process| *process != ourselves && has_open(*process, device))
            .filter_map(Self::new)
            .collect();
        holders.sort();
        holders
    }

    /// Whether we started it, or what we started did.
    pub fn is_ours(&self) -> bool {
        let ourselves = std::process::id();
        let ancestors = std::iter::successors(parent(self.process), |process| parent(*process));
        ancestors.take(MOST_PARENTS).any(|process| process == ourselves)
    }
}

/// Whether a process has the device open, and is not at its other end.
fn has_open(process: u32, device: Device) -> bool {
    let mut is_open = false;
    for file in fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
        let Ok(opened) = fs::metadata(file.path()) else { continue };
        is_open |= Device::of(&opened) == Some(device);
        let is_master = (major(opened.rdev()), minor(opened.rdev())) == PTMX;
        if is_master && device.pty().is_some_and(|pty| is_master_of(process, &file.file_name(), pty)) {
            return false;
        }
    }
    is_open
}

fn is_master_of(process: u32, file: &std::ffi::OsStr, pty: u32) -> bool {
    let about = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("fdinfo").join(file));
    let index = |about: &str| about.lines().find_map(|line| line.strip_prefix("tty-index:")?.trim().parse().ok());
    about.is_ok_and(|about| index(&about) == Some(pty))
}

/// The parent of a process.
fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::process::{Child, Command, Stdio};

    use super::super::testing::Pty;
    use super::*;

    /// A program that has opened `port`, by the time it is returned.
    fn opened_by_another(port: &Path) -> Child {
        let mut sh = Command::new("sh");
        sh.args(["-c", "exec 3<\"$0\"; echo open; read line", &port.display().to_string()]);
        let mut child = sh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        child
    }

    #[test]
    fn a_program_that_has_a_port_open_is_found_by_any_name_of_the_port_and_the_device_is_none() {
        let (folder, pty) = (tempfile::tempdir().unwrap(), Pty::new());
        let name = folder.path().join("port");
        std::os::unix::fs::symlink(&pty.path, &name).unwrap();
        // The device keeps the host's end open, so that the line stays up.
        let _kept = OpenOptions::new().read(true).open(&pty.path).unwrap();
        assert_eq!(Holder::all(&name), []);
        let mut other = opened_by_another(&pty.path);
        let holders = Holder::all(&name);
        let [holder] = &holders[..] else { panic!("{holders:?}") };
        assert_eq!((holder.to_string(), holder.is_ours()), (format!("sh (process {})", other.id()), true));
        assert!(!Holder::new(1).unwrap().is_ours());
        drop(other.stdin.take());
        other.wait().unwrap();
        assert_eq!(Holder::all(&name), []);
    }

    #[test]
    fn whoever_has_the_other_end_is_the_device() {
        let pty = Pty::new();
        let mut other = opened_by_another(&pty.path);
        let device = Device::at(&pty.path).unwrap();
        assert!(has_open(other.id(), device) && !has_open(std::process::id(), device));
        let _kept = OpenOptions::new().read(true).open(&pty.path).unwrap();
        assert!(!has_open(std::process::id(), device), "we have both ends");
        drop(other.stdin.take());
        other.wait().unwrap();
    }
}
