//! Backups: the keys and the registry, in one file that only a passphrase opens (age, scrypt recipient).
//!
//! What comes back is the registry as it was. Devices that got a newer list since then say so, and nothing is signed until
//! that is settled: see [`crate::registry::lists`].

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::iter;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, scrypt};
use zeroize::Zeroizing;

use crate::files;
use crate::state_dir::{self, FILES, NEEDED, REGISTRY, StateDir};

/// All but the registry is far smaller.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// Why there is no backup, or why it was not put back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] state_dir::Error),
    /// The backup cannot be written.
    #[error("{0}; nothing was changed")]
    Write(#[from] files::Error),
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}; nothing was changed")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The passphrase does not open it.
    #[error("the passphrase does not open {0}; nothing was changed")]
    Passphrase(PathBuf),
    /// It is no backup of ours, or it was changed.
    #[error("{path} is no whole backup of a commissioner ({what}); nothing was changed")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There is something already.
    #[error(
        "{0} is there already, and another one than in the backup; name another place with --state-dir, or move it away"
    )]
    InTheWay(PathBuf),
}

/// Seals the keys of `dir` and `snapshot`, a copy of its registry, into `file`: whole or not at all, never over another
/// file, and readable by the owner alone.
///
/// # Errors
/// See [`Error`].
pub fn write(dir: &StateDir, snapshot: &Path, file: &Path, passphrase: SecretString) -> Result<(), Error> {
    let written = files::create_private_with(file, |out| {
        let sealed = Encryptor::with_user_passphrase(passphrase).wrap_output(out)?;
        let mut archive = tar::Builder::new(sealed);
        for name in FILES {
            let path = if name == REGISTRY { snapshot.to_owned() } else { dir.path().join(name) };
            if !path.exists() && !NEEDED.contains(&name) {
                continue;
            }
            let mut contents = File::open(path)?;
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.metadata()?.len());
            header.set_mode(0o600);
            archive.append_data(&mut header, name, &mut contents)?;
        }
        archive.into_inner()?.finish().map(drop)
    });
    written.map_err(Error::from)
}

/// Puts what `file` holds into the state directory at `path`, which must not have anything else.
///
/// # Errors
/// See [`Error`]. An interrupted run can be repeated.
pub fn read(file: &Path, path: &Path, passphrase: SecretString) -> Result<StateDir, Error> {
    let at_file = |source| Error::Io { path: file.to_owned(), source };
    let damaged = |what: String| Error::Damaged { path: file.to_owned(), what };
    let refused = |error: DecryptError| match error {
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed | DecryptError::NoMatchingKeys => {
            Error::Passphrase(file.to_owned())
        }
        other => damaged(other.to_string()),
    };
    let sealed = Decryptor::new(File::open(file).map_err(at_file)?).map_err(refused)?;
    let identity = scrypt::Identity::new(passphrase);
    let opened = sealed.decrypt(iter::once(&identity as &dyn age::Identity)).map_err(refused)?;

    let dir = StateDir::create(path)?;
    let _lock = dir.lock()?;
    let staging = dir.path().join("restoring");
    let at_staging = |source| Error::Io { path: staging.clone(), source };
    let _ = fs::remove_dir_all(&staging);
    DirBuilder::new().mode(0o700).create(&staging).map_err(at_staging)?;
    let unpacked = unpack(opened, &staging).map_err(|error| damaged(error.to_string()));
    let placed = unpacked.and_then(|()| place(&staging, &dir));
    let _ = fs::remove_dir_all(&staging);
    placed.map(|()| dir)
}

/// All of the archive, to its authenticated end.
fn unpack(opened: impl Read, staging: &Path) -> io::Result<()> {
    let malformed = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut archive = tar::Archive::new(opened);
    let mut names = FILES.iter();
    for entry in archive.entries()? {
        let mut entry = entry?;
        // In order, and each once.
        let path = entry.path()?.into_owned();
        let name = names.find(|name| path.as_os_str() == **name);
        let name = name.filter(|_| entry.header().entry_type().is_file());
        let name = name.ok_or_else(|| malformed("something else is in it"))?;
        if *name != REGISTRY && entry.size() > MAX_KEY_FILE {
            return Err(malformed("a key is too long"));
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(staging.join(name))?;
        let len = io::copy(&mut entry, &mut file)?;
        if len != entry.size() {
            return Err(malformed("it ends early"));
        }
        file.flush()?;
        file.sync_all()?;
    }
    // The last part is authenticated when it is read.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    let is_whole = NEEDED.iter().all(|name| staging.join(name).exists());
    if is_whole { Ok(()) } else { Err(malformed("something is missing")) }
}

/// Moves the files into place, the registry last, unless others are there.
fn place(staging: &Path, dir: &StateDir) -> Result<(), Error> {
    let files: Vec<_> = FILES.into_iter().filter(|name| staging.join(name).exists()).collect();
    let targets: Vec<_> = files.iter().map(|name| dir.path().join(name)).collect();
    let same = |name: &str, target: &Path| -> io::Result<bool> {
        Ok(Zeroizing::new(fs::read(staging.join(name))?) == Zeroizing::new(fs::read(target)?))
    };
    for (name, target) in files.iter().zip(&targets).filter(|(_, target)| target.exists()) {
        if !same(name, target).map_err(|source| Error::Io { path: target.clone(), source })? {
            return Err(Error::InTheWay(target.clone()));
        }
    }
    for (name, target) in files.iter().zip(&targets) {
        fs::rename(staging.join(name), target).map_err(|source| Error::Io { path: target.clone(), source })?;
    }
    Ok(())
}
