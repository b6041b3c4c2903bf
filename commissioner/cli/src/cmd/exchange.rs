//! The files that stations and the issuer hand each other.

use std::{io::Read, path::Path};

use commissioner::text_file::TextFile;
use serde::{Deserialize, Serialize};

use super::exit::CommandError;

const MAX_FILE: u64 = 64 * 1024 * 1024;

/// An answer to a request: a line that `issuer sign` writes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) device: String,
    /// The signed certificate, hex.
    pub(super) certificate: String,
}

/// The contents of a file of bounded size.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let unreadable = |error: std::io::Error| {
        CommandError::usage(format!("cannot read {}: {error}; name a file that you can read", path.display()))
    };
    let mut contents = Vec::new();
    TextFile::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut contents)).map_err(unreadable)?;
    Ok(contents)
}
