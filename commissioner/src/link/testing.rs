//! A pty for tests: a serial line whose other end is ours.

use std::path::PathBuf;

use rustix::fd::OwnedFd;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A pty.
pub(super) struct Pty {
    /// The device's end.
    pub(super) device: OwnedFd,
    /// The host's.
    pub(super) path: PathBuf,
}

impl Pty {
    pub(super) fn new() -> Self {
        let device = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&device).unwrap();
        unlockpt(&device).unwrap();
        let path = ptsname(&device, Vec::new()).unwrap().into_string().unwrap().into();
        Self { device, path }
    }
}
