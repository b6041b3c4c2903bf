//! A pseudo-terminal whose name is a link at a path of the user's choice.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio_serial::{SerialPort, SerialStream};

/// Makes a pseudo-terminal in raw mode and lets `link` point to its user's end. A link of that name that an earlier
/// simulator left is replaced; anything else of that name is an error.
///
/// Returns the device's end, and what has to be kept for as long as the line is to exist.
pub fn open(link: &Path) -> io::Result<(SerialStream, Line)> {
    let (device, user) = SerialStream::pair()?;
    let name = user.name().ok_or_else(|| io::Error::other("the pseudo-terminal has no name"))?;
    if fs::symlink_metadata(link).is_ok_and(|found| found.is_symlink()) {
        fs::remove_file(link)?;
    }
    std::os::unix::fs::symlink(name, link)?;
    Ok((device, Line { _user: user, link: link.to_owned() }))
}

/// Removes the link when it is dropped.
pub struct Line {
    /// Without an open user's end, reads on the device's end fail between two clients.
    _user: SerialStream,
    link: PathBuf,
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.link);
    }
}
