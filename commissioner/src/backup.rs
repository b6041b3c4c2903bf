//! Backups: the keys and the registry, in one file that only a passphrase opens (age, scrypt recipient).
//!
//! ```text
//! write     the registry is copied, and the copy checked; it and the keys are sealed; the file gets its name
//! restore   all is unpacked beside its place, and checked; only then it gets its place
//! ```
//!
//! What comes back is the registry as it was. Devices that got a newer list since then say so, and nothing is signed until
//! that is settled: see [`crate::registry::lists`].

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::iter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use age::secrecy::SecretString;
use age::{Decryptor, Encryptor};
use protocol::key::PublicKey;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::crash::{self, Point};
use crate::keys;
use crate::registry::{self, Registry};
use crate::staging::Staging;
use crate::state_dir::{self, FILES, MAX_KEY_FILE, Made, NEEDED, Protection, REGISTRY, StateDir};
use crate::{
    files::{self, BESIDE_DATABASE, Input, Readers},
    hsm, passphrase,
};

/// So many bytes are unpacked at a time.
const BUFFER: usize = 64 * 1024;

/// Why there is no backup, or why it was not put back. Nothing is left of it then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] state_dir::Error),
    /// The registry cannot be copied.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// What would be sealed could not be put back.
    #[error(
        "there is no backup: what is in {path} would not be taken back ({what}); put it right, then repeat the command"
    )]
    Unsound {
        /// The state directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The backup cannot be written.
    #[error("there is no backup: {0}")]
    Write(#[from] files::Error),
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The passphrase does not open it.
    #[error("the passphrase does not open {0}; nothing was put back")]
    Passphrase(PathBuf),
    /// It takes more memory than there is.
    #[error("{path} cannot be opened here: {what}")]
    Memory {
        /// The file.
        path: PathBuf,
        /// How much it takes.
        what: String,
    },
    /// It is no backup of ours, or it was changed.
    #[error("{path} is no whole backup of a commissioner ({what}); nothing was put back")]
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
    /// The move into place failed.
    #[error(
        "cannot put {path} in its place: {source}; what is in its place already belongs to the backup: repeat the command"
    )]
    Halfway {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Somebody stopped it.
    #[error("stopped before it was done; nothing is left of it")]
    Stopped,
}

/// Ends reading and writing from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// What is under way ends with [`Error::Stopped`].
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A file that is read or written until it is stopped.
struct Stoppable<T> {
    file: T,
    stop: Stop,
}

impl<T> Stoppable<T> {
    fn go_on(&mut self) -> io::Result<&mut T> {
        if self.stop.is_stopped() { Err(io::Error::other("stopped")) } else { Ok(&mut self.file) }
    }
}

impl<T: Read> Read for Stoppable<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.go_on()?.read(buffer)
    }
}

impl<T: Write> Write for Stoppable<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.go_on()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.go_on()?.flush()
    }
}

/// A copy of the registry in `dir` that holds, together with the keys beside the original.
pub struct Copy {
    dir: StateDir,
    staging: Staging,
}

impl Copy {
    /// Copies the registry of `dir`, and checks that what is to be sealed could be put back.
    pub async fn make(dir: StateDir, registry: &Registry, clock: Clock) -> Result<Self, Error> {
        let staging = match registry.is_frozen() {
            // Where nothing can be written, not even a lock can.
            true => Staging::elsewhere(&env::temp_dir())?,
            false => Staging::begin(&dir, &dir.lock()?)?,
        };
        let copy = Self { dir, staging };
        registry.snapshot(&copy.registry()).await?;
        crash::at(Point::Copied);
        match copy.check(clock).await {
            Ok(()) => Ok(copy),
            Err(Fault::Damaged(what)) => {
                let what = format!("{what}; so there is no backup of it");
                Err(registry::Error::Damaged { file: Some(copy.dir.registry()), what }.into())
            }
            Err(fault) => Err(fault.or(|what| Error::Unsound { path: copy.dir.path().to_owned(), what })),
        }
    }

    async fn check(&self, clock: Clock) -> Result<(), Fault> {
        let registry = Registry::open_copy(&self.registry(), clock).await?;
        check_keys(&self.dir, registry.issuer()).map_err(Fault::Unsound)?;
        let checked = registry.check().await;
        registry.close().await;
        Ok(checked.map(drop)?)
    }

    fn registry(&self) -> PathBuf {
        self.staging.path().join(REGISTRY)
    }

    /// Seals the keys and the copy into `file`: whole or not at all, never over another file, and readable by the owner alone.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn seal(self, file: &Path, passphrase: SecretString, stop: Stop) -> Result<(), Error> {
        let no_memory = |error: passphrase::Error| Error::Memory { path: file.to_owned(), what: error.to_string() };
        let recipient = passphrase::recipient(passphrase).map_err(no_memory)?;
        let is_stopped = stop.clone();
        let written = files::create_private_with(file, |out| {
            let recipients = iter::once(&recipient as &dyn age::Recipient);
            let sealed = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
            let mut archive = tar::Builder::new(sealed.wrap_output(Stoppable { file: out, stop })?);
            for name in FILES {
                let path = if name == REGISTRY { self.registry() } else { self.dir.path().join(name) };
                if !path.exists() && !NEEDED.contains(&name) {
                    continue;
                }
                let mut contents = files::open_own(&path)?;
                let mut header = tar::Header::new_gnu();
                header.set_size(contents.metadata()?.len());
                header.set_mode(0o600);
                archive.append_data(&mut header, name, &mut contents)?;
            }
            archive.into_inner()?.finish().map(drop)?;
            crash::at(Point::Sealed);
            if is_stopped.is_stopped() { Err(io::Error::other("stopped")) } else { Ok(()) }
        });
        written.map_err(|error| if is_stopped.is_stopped() { Error::Stopped } else { error.into() })
    }
}

const OTHER_KEY: &str = "the registry belongs to another issuer's key";

/// Why something is not taken.
enum Fault {
    /// Something is wrong with it.
    Unsound(String),
    /// Its registry is damaged.
    Damaged(String),
    /// The disk has no room, or fails: that says nothing about it.
    Disk(Error),
}

impl Fault {
    fn or(self, unsound: impl FnOnce(String) -> Error) -> Error {
        match self {
            Self::Unsound(what) => unsound(what),
            Self::Damaged(what) => unsound(format!("its registry is damaged: {what}")),
            Self::Disk(error) => error,
        }
    }
}

impl From<registry::Error> for Fault {
    fn from(error: registry::Error) -> Self {
        match error {
            registry::Error::Damaged { what, .. } | registry::Error::StateDir(state_dir::Error::Lost { what, .. }) => {
                Self::Damaged(what)
            }
            registry::Error::OtherKey { .. } => Self::Unsound(OTHER_KEY.to_owned()),
            registry::Error::Database(_) | registry::Error::ReadOnly(_) | registry::Error::StateDir(_) => {
                Self::Disk(error.into())
            }
            other => Self::Unsound(other.to_string()),
        }
    }
}

/// Whether the keys in `dir` can be used, and are those of the registry that belongs to `issuer`. A key that is sealed or in an
/// HSM is believed: it opens to its owner alone.
fn check_keys(dir: &StateDir, issuer: &PublicKey) -> Result<(), String> {
    if keys::issuer_of(dir, dir.protection()).map_err(|error| error.to_string())? != *issuer {
        return Err(OTHER_KEY.to_owned());
    }
    keys::load_as(&dir.station_key(), dir.protection()).map_err(|error| error.to_string())?;
    if dir.issuer_in_hsm().exists() {
        hsm::Place::read(&dir.issuer_in_hsm()).map_err(|error| error.to_string())?;
    }
    if dir.sealed_issuer_key().exists() {
        let sealed = files::open_own(&dir.sealed_issuer_key()).map_err(|error| error.to_string())?;
        Decryptor::new(sealed).map_err(|error| format!("the issuer's sealed key: {error}"))?;
    }
    if dir.station_token().exists() {
        files::open_own(&dir.station_token()).map_err(|error| format!("{}: {error}", dir.station_token().display()))?;
    }
    Ok(())
}

/// What was put back.
#[derive(Debug)]
pub struct Restored {
    /// Where it is.
    pub dir: StateDir,
    /// The time of the last entry of its history, Unix seconds.
    pub last: u64,
}

/// A backup that holds, beside its place.
pub struct Unpacked {
    // In this order they go: the lock last, so that nobody takes it in a directory that goes.
    staging: Staging,
    made: Made,
    dir: StateDir,
    _lock: state_dir::Lock,
}

/// Unpacks `file` beside its place in the state directory at `path`, which goes again if nothing comes of it.
///
/// # Errors
/// See [`Error`].
pub fn unpack(
    file: &Path,
    path: &Path,
    protection: Protection,
    words: &SecretString,
    stop: Stop,
) -> Result<Unpacked, Error> {
    let damaged = |what: String| Error::Damaged { path: file.to_owned(), what };
    // What comes through a pipe is there once.
    let mut first = Some(Input::open(file).map_err(|source| Error::Io { path: file.to_owned(), source })?);
    let opened = passphrase::open(words, |identity| {
        let file = first.take().map_or_else(|| Input::open(file), Ok)?;
        Decryptor::new(Stoppable { file, stop: stop.clone() })?.decrypt(iter::once(identity))
    });
    let opened = opened.map_err(|error| match error {
        passphrase::Error::Wrong => Error::Passphrase(file.to_owned()),
        passphrase::Error::Damaged(what) => damaged(what),
        error @ passphrase::Error::Memory(_) => Error::Memory { path: file.to_owned(), what: error.to_string() },
    })?;
    let (dir, made) = StateDir::make(path, protection)?;
    let lock = dir.lock()?;
    let staging = Staging::begin(&dir, &lock)?;
    let unpacked = Unpacked { staging, made, dir, _lock: lock };
    let whole = unpack_into(opened, unpacked.staging.path());
    whole.map_err(|fault| if stop.is_stopped() { Error::Stopped } else { fault.or(damaged) })?;
    crash::at(Point::Unpacked);
    Ok(unpacked)
}

impl Unpacked {
    /// Checks all of it, and gives it its place.
    ///
    /// # Errors
    /// See [`Error`]. `file` is what it came from.
    pub async fn place(mut self, file: &Path, clock: Clock) -> Result<Restored, Error> {
        let dir = self.dir.clone();
        let checked = self.check(clock).await;
        let last = checked.map_err(|fault| fault.or(|what| Error::Damaged { path: file.to_owned(), what }))?;
        place(self.staging.path(), &dir)?;
        self.made.keep();
        Ok(Restored { dir, last })
    }

    /// Opens what was unpacked as if it were in its place, with the newest schema: the time of its last entry.
    async fn check(&self, clock: Clock) -> Result<u64, Fault> {
        let staged = StateDir::open_as(self.staging.path(), self.dir.protection());
        let staged = staged.map_err(|error| Fault::Disk(error.into()))?;
        let registry = Registry::open(&staged, clock, false).await?;
        check_keys(&staged, registry.issuer()).map_err(Fault::Unsound)?;
        let restored = registry.restored().await;
        registry.close().await;
        let (last, log) = (restored?, beside_registry(&staged, "-wal"));
        // Only the file itself will be moved.
        if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Err(Fault::Disk(Error::Io { path: log, source: io::ErrorKind::StorageFull.into() }));
        }
        Ok(last)
    }
}

/// All of the archive, to its authenticated end.
fn unpack_into(opened: impl Read, staging: &Path) -> Result<(), Fault> {
    let broken = |error: io::Error| Fault::Unsound(error.to_string());
    let malformed = |what: &str| Fault::Unsound(what.to_owned());
    let mut archive = tar::Archive::new(opened);
    let mut names = FILES.iter();
    let mut buffer = Zeroizing::new(vec![0; BUFFER]);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        // In order, and each once.
        let path = entry.path().map_err(broken)?.into_owned();
        let name = names.find(|name| path.as_os_str() == **name);
        let name = name.filter(|_| entry.header().entry_type().is_file());
        let name = name.ok_or_else(|| malformed("something else is in it"))?;
        if *name != REGISTRY && entry.size() > MAX_KEY_FILE {
            return Err(malformed("a key is too long"));
        }
        let path = staging.join(name);
        let unwritable = |source| Fault::Disk(Error::Io { path: path.clone(), source });
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(unwritable)?;
        let (size, mut len) = (entry.size(), 0);
        loop {
            let part = entry.read(&mut buffer).map_err(broken)?;
            if part == 0 {
                break;
            }
            file.write_all(&buffer[..part]).map_err(unwritable)?;
            len += part as u64;
        }
        if len != size {
            return Err(malformed("it ends early"));
        }
        file.sync_all().map_err(unwritable)?;
    }
    // The last part is authenticated when it is read.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    let is_whole = NEEDED.iter().all(|name| staging.join(name).exists());
    if is_whole { Ok(()) } else { Err(malformed("something is missing")) }
}

/// Moves the files into place, the registry last, unless others are there. A module of an HSM that was not there before is not
/// loaded until somebody has confirmed it.
fn place(staging: &Path, dir: &StateDir) -> Result<(), Error> {
    for name in FILES {
        let (staged, target) = (staging.join(name), dir.path().join(name));
        let same = is_same(&staged, &target).map_err(|source| Error::Io { path: target.clone(), source })?;
        // An empty registry is what a disk that failed leaves of one.
        let is_nothing = name == REGISTRY && fs::metadata(&target).is_ok_and(|metadata| metadata.len() == 0);
        if !same && !is_nothing && fs::symlink_metadata(&target).is_ok() {
            return Err(Error::InTheWay(target));
        }
    }
    // The log of another database would be taken for the log of this one.
    for end in BESIDE_DATABASE {
        let target = beside_registry(dir, end);
        if fs::metadata(&target).is_ok_and(|metadata| metadata.len() > 0) {
            return Err(Error::InTheWay(target));
        }
    }
    let halfway = |path: &Path| {
        let path = path.to_owned();
        |source| Error::Halfway { path, source }
    };
    for name in FILES.into_iter().filter(|name| staging.join(name).exists()) {
        let target = dir.path().join(name);
        if target == dir.issuer_in_hsm() && !target.exists() {
            files::replace(&dir.unconfirmed_module(), Readers::Owner, b"").map_err(state_dir::Error::from)?;
        }
        fs::rename(staging.join(name), &target).map_err(halfway(&target))?;
        files::sync_parent(&target).map_err(state_dir::Error::from)?;
    }
    Ok(())
}

/// Whether these are the same keys. Two registries never are: that of a backup says that it was put back.
fn is_same(staged: &Path, target: &Path) -> io::Result<bool> {
    let len = |path: &Path| fs::metadata(path).ok().filter(|it| it.len() <= MAX_KEY_FILE).map(|it| it.len());
    if len(staged).is_none() || len(staged) != len(target) {
        return Ok(false);
    }
    Ok(Zeroizing::new(fs::read(staged)?) == Zeroizing::new(fs::read(target)?))
}

fn beside_registry(dir: &StateDir, end: &str) -> PathBuf {
    dir.path().join(format!("{REGISTRY}{end}"))
}
