//! The state directory: two key files and the registry, all readable by their owner alone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use directories::ProjectDirs;

use crate::files;

/// Read and write for the owner, nothing for anybody else.
const PRIVATE: u32 = 0o600;
const PRIVATE_DIR: u32 = 0o700;
/// The mode bits that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The files in a state directory, the registry last. Which of the issuer's there are depends on where its key is; a token is
/// at stations only.
pub const FILES: [&str; 7] = [ISSUER_KEY, ISSUER_ANCHOR, SEALED_KEY, IN_HSM, STATION_KEY, STATION_TOKEN, REGISTRY];
/// Without these there is no state.
pub const NEEDED: [&str; 2] = [STATION_KEY, REGISTRY];
const ISSUER_KEY: &str = "issuer.key";
const ISSUER_ANCHOR: &str = "issuer.pem";
const SEALED_KEY: &str = "issuer.key.age";
const IN_HSM: &str = "issuer.pkcs11";
const STATION_KEY: &str = "station.key";
const STATION_TOKEN: &str = "station.cwt";
/// The registry's file.
pub const REGISTRY: &str = "registry.sqlite";

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none yet.
    #[error("there is no state directory at {0}; run `commissioner init` first")]
    Missing(PathBuf),
    /// The path is taken by something else.
    #[error("{0} is not a directory; name another one with --state-dir")]
    NotADirectory(PathBuf),
    /// Others could replace the keys.
    #[error(
        "the state directory {path} can be written to by others (mode {mode:04o}); run `chmod go-w {path}`, and check its contents"
    )]
    WritableByOthers {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Neither `HOME` nor the XDG variables say where it could be.
    #[error("there is no home directory to keep state in; name a directory with --state-dir")]
    NoHome,
    /// A file in it cannot be written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// The operating system refused.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A state directory that exists and that only its owner can change.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Where the state is when nobody says otherwise: `$XDG_STATE_HOME/commissioner`, `~/.local/state/commissioner`.
    pub fn default_path() -> Result<PathBuf, Error> {
        let dirs = ProjectDirs::from("", "", "commissioner").ok_or(Error::NoHome)?;
        Ok(dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_owned())
    }

    /// Makes the directory, readable by the owner alone, unless it is there already.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let made = match path.parent() {
            Some(parent) => fs::create_dir_all(parent),
            None => Ok(()),
        }
        .and_then(|()| DirBuilder::new().mode(PRIVATE_DIR).create(path));
        match made {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(io_error(path)(source)),
            _ => Self::open(path),
        }
    }

    /// Opens a directory that exists.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let metadata = match fs::metadata(path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Err(Error::Missing(path.to_owned())),
            other => other.map_err(io_error(path))?,
        };
        if !metadata.is_dir() {
            return Err(Error::NotADirectory(path.to_owned()));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & WRITABLE_BY_OTHERS != 0 {
            return Err(Error::WritableByOthers { path: path.to_owned(), mode });
        }
        // The registry's URL needs it absolute.
        Ok(Self(path.canonicalize().map_err(io_error(path))?))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The issuer's signing key, PKCS#8 PEM.
    pub fn issuer_key(&self) -> PathBuf {
        self.0.join(ISSUER_KEY)
    }

    /// The issuer's public key, PEM, where there is no [`issuer_key`](Self::issuer_key): at a station, or with the key in an
    /// HSM or sealed.
    pub fn issuer_anchor(&self) -> PathBuf {
        self.0.join(ISSUER_ANCHOR)
    }

    /// Where in an HSM the issuer's key is, JSON.
    pub fn issuer_in_hsm(&self) -> PathBuf {
        self.0.join(IN_HSM)
    }

    /// The issuer's key, sealed by a passphrase (age).
    pub fn sealed_issuer_key(&self) -> PathBuf {
        self.0.join(SEALED_KEY)
    }

    /// At a station: its token.
    pub fn station_token(&self) -> PathBuf {
        self.0.join(STATION_TOKEN)
    }

    /// The station's EDHOC key, PKCS#8 PEM.
    pub fn station_key(&self) -> PathBuf {
        self.0.join(STATION_KEY)
    }

    /// The registry, an SQLite file.
    pub fn registry(&self) -> PathBuf {
        self.0.join(REGISTRY)
    }

    /// Waits until no other commissioner makes or upgrades this state. Ordinary work needs no lock: the registry's
    /// transactions take care of it.
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = self.0.join("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(PRIVATE).open(&path);
        let file = file.map_err(io_error(&path))?;
        file.lock().map_err(io_error(&path))?;
        Ok(Lock(file))
    }
}

/// Held while the state is being made or upgraded; given back when dropped, or when the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Makes sure that the file at `path` exists and that only its owner can read it.
pub fn make_private(path: &Path) -> Result<(), Error> {
    let file = OpenOptions::new().append(true).create(true).mode(PRIVATE).open(path).map_err(io_error(path))?;
    let mode = file.metadata().map_err(io_error(path))?.mode();
    if mode & 0o7777 != PRIVATE {
        file.set_permissions(fs::Permissions::from_mode(PRIVATE)).map_err(io_error(path))?;
    }
    Ok(files::sync_parent(path)?)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    |source| Error::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_directory_and_its_files_are_private() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::create(&temp.path().join("a/b/state")).unwrap();
        assert_eq!(mode(dir.path()), 0o700);

        files::create_private(&dir.issuer_key(), b"secret").unwrap();
        assert_eq!(mode(&dir.issuer_key()), 0o600);
        assert_eq!(fs::read(dir.issuer_key()).unwrap(), b"secret");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no leftover");

        fs::write(dir.registry(), b"").unwrap();
        fs::set_permissions(dir.registry(), fs::Permissions::from_mode(0o644)).unwrap();
        make_private(&dir.registry()).unwrap();
        assert_eq!(mode(&dir.registry()), 0o600);
    }

    #[test]
    fn unusable_directories_are_refused_with_advice() {
        let temp = tempfile::tempdir().unwrap();
        let missing = StateDir::open(&temp.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("commissioner init"), "{missing}");

        let shared = temp.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o770)).unwrap();
        let error = StateDir::open(&shared).unwrap_err();
        assert!(error.to_string().contains("chmod go-w"), "{error}");

        let file = temp.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(matches!(StateDir::create(&file).unwrap_err(), Error::NotADirectory(_)));
    }

    #[test]
    fn only_one_holds_the_lock() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::create(&temp.path().join("state")).unwrap();
        let held = dir.lock().unwrap();
        let other = File::open(dir.path().join("lock")).unwrap();
        assert!(other.try_lock().is_err());
        drop(held);
        other.try_lock().unwrap();
    }
}
