//! The state directory: two key files and the registry, all readable by their owner alone; and whether what is there is all
//! that was there.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf, absolute},
};

use directories::ProjectDirs;
use rustix::{
    fs::{Access, FlockOperation, OFlags, access, fcntl_lock},
    process::geteuid,
};

use crate::files::{self, BESIDE_DATABASE};

/// Read and write for the owner, nothing for anybody else.
const PRIVATE: u32 = 0o600;
/// What no file of ours ever has. A file system that keeps it, too, keeps modes.
const PROBE: u32 = 0o640;
const PRIVATE_DIR: u32 = 0o700;
/// The mode bits that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// The mode bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// The files in a state directory, the registry last. Which of the issuer's there are depends on where its key is; a token is
/// at stations only.
pub const FILES: [&str; 7] = [ISSUER_KEY, ISSUER_ANCHOR, SEALED_KEY, IN_HSM, STATION_KEY, STATION_TOKEN, REGISTRY];
/// All but the registry is far smaller, in bytes.
pub const MAX_KEY_FILE: u64 = 64 * 1024;
/// Without these there is no state.
pub const NEEDED: [&str; 2] = [STATION_KEY, REGISTRY];
const ISSUER_KEY: &str = "issuer.key";
const ISSUER_ANCHOR: &str = "issuer.pem";
const SEALED_KEY: &str = "issuer.key.age";
const IN_HSM: &str = "issuer.pkcs11";
const STATION_KEY: &str = "station.key";
const STATION_TOKEN: &str = "station.cwt";
const UNCONFIRMED: &str = "issuer.pkcs11.unconfirmed";
const LOCK: &str = "lock";
/// The registry's file.
pub const REGISTRY: &str = "registry.sqlite";
/// There from before the first of these files is made until `init` is done.
const UNDER_WAY: &str = "init-under-way";

/// What is asked of who else can use the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// It is ours, and modes keep others out.
    Required,
    /// `--insecure-state-dir`: the user sees to that.
    Waived,
}

/// What of the state is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: `init` was never run, or died before it made anything.
    Nothing,
    /// What an interrupted `init` made. It may have made all.
    UnderWay,
    /// A registry that an `init` has finished.
    Registry,
}

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
        "the state directory {path} can be written to by others (mode {mode:04o}); run `chmod go-w {path}`, and check its \
         contents. Where that changes nothing, as on FAT, exFAT and many shares, modes protect nothing: name a directory \
         elsewhere with --state-dir; or, if nobody else comes to this one, repeat with --insecure-state-dir"
    )]
    WritableByOthers {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What is private here is not.
    #[error(
        "the file system of {0} keeps no modes, as FAT, exFAT and many shares, so others could read the keys; name a directory \
         elsewhere with --state-dir; or, if nobody else comes to this one, repeat with --insecure-state-dir"
    )]
    Unprotected(PathBuf),
    /// We are root, and it is not root's: its owner could have root follow any link.
    #[error(
        "the state directory {path} belongs to user {owner}, and you are root; run this as that user, name a directory of \
         root's with --state-dir, or repeat with --insecure-state-dir if you trust that user with all that root may do"
    )]
    OfAnother {
        /// The directory.
        path: PathBuf,
        /// Whose it is, a user ID.
        owner: u32,
    },
    /// There are no locks, so two commissioners could change the registry at once.
    #[error(
        "the file system of {0} has no locks, so two commissioners could change the registry at once; name a directory on \
         a local file system with --state-dir"
    )]
    NoLocks(PathBuf),
    /// The registry is not what it was.
    #[error("the registry {path} {what}, and the state in {} was complete once. {}", parent(path).display(), way_out(path))]
    Lost {
        /// The registry's file.
        path: PathBuf,
        /// What became of it: "is missing".
        what: String,
    },
    /// The database's interface takes text for a path, and so does JSON.
    #[error(
        "the path {0:?} is no text (UTF-8), which the registry's database needs; name another directory with --state-dir"
    )]
    NotText(PathBuf),
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

/// What to do about a registry that is lost or damaged.
pub(crate) fn way_out(registry: &Path) -> String {
    let (dir, registry) = (parent(registry).display(), registry.display());
    format!(
        "Move {registry}* away, and put back your newest backup: `commissioner --state-dir {dir} \
         restore-backup FILE`"
    )
}

pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// A state directory that exists and that only its owner can change.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    protection: Protection,
}

impl StateDir {
    /// Where the state is when nobody says otherwise: `$XDG_STATE_HOME/commissioner`, `~/.local/state/commissioner`.
    pub fn default_path() -> Result<PathBuf, Error> {
        let dirs = ProjectDirs::from("", "", "commissioner").ok_or(Error::NoHome)?;
        Ok(dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_owned())
    }

    /// Makes the directory, readable by the owner alone, unless it is there already.
    pub fn create(path: &Path) -> Result<Self, Error> {
        Self::create_as(path, Protection::Required)
    }

    /// The same where others may have access.
    pub fn create_as(path: &Path, protection: Protection) -> Result<Self, Error> {
        is_text(&absolute(path).map_err(io_error(path))?)?;
        let made = match path.parent() {
            Some(parent) => fs::create_dir_all(parent),
            None => Ok(()),
        }
        .and_then(|()| DirBuilder::new().mode(PRIVATE_DIR).create(path));
        match made {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(io_error(path)(source)),
            _ => Self::open_as(path, protection),
        }
    }

    /// Makes the directory likewise, so that it goes again unless it is kept.
    pub fn make(path: &Path, protection: Protection) -> Result<(Self, Made), Error> {
        let made: Vec<_> = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
        let mut made = Made { dirs: made.into_iter().map(Path::to_owned).collect(), lock: None };
        // If this fails, half of them may be there.
        let dir = Self::create_as(path, protection)?;
        let lock = dir.path.join(LOCK);
        made.lock = (!lock.exists()).then_some(lock);
        Ok((dir, made))
    }

    /// Opens a directory that exists.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_as(path, Protection::Required)
    }

    /// The same where others may have access.
    pub fn open_as(path: &Path, protection: Protection) -> Result<Self, Error> {
        let metadata = match fs::metadata(path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Err(Error::Missing(path.to_owned())),
            other => other.map_err(io_error(path))?,
        };
        if !metadata.is_dir() {
            return Err(Error::NotADirectory(path.to_owned()));
        }
        if protection == Protection::Required {
            is_ours(path, metadata.uid(), geteuid().as_raw())?;
            let mode = metadata.mode() & 0o7777;
            if mode & WRITABLE_BY_OTHERS != 0 {
                return Err(Error::WritableByOthers { path: path.to_owned(), mode });
            }
        }
        // The registry's URL needs it absolute.
        let path = path.canonicalize().map_err(io_error(path))?;
        is_text(&path)?;
        Ok(Self { path, protection })
    }

    /// Tells a state that is complete from one that never was, by the files that are there.
    ///
    /// # Errors
    /// [`Error::Lost`] if there was a registry, and now there is none.
    pub fn found(&self) -> Result<Found, Error> {
        let registry = self.registry();
        let lost = |what: String| Err(Error::Lost { path: registry.clone(), what });
        if self.is_there(UNDER_WAY) {
            return Ok(Found::UnderWay);
        }
        match fs::metadata(&registry) {
            Ok(metadata) if !metadata.is_file() => lost("is no file".to_owned()),
            // SQLite would take it for a new one, and remove the log beside it, which may have all that is left.
            Ok(metadata) if metadata.len() == 0 => lost("is empty: it has 0 bytes".to_owned()),
            Ok(_) => match BESIDE_DATABASE.iter().find_map(|end| self.in_place_of(end)) {
                Some(what) => lost(what),
                None => Ok(Found::Registry),
            },
            Err(error) if error.kind() != io::ErrorKind::NotFound => lost(format!("cannot be read: {error}")),
            Err(_) if FILES.iter().any(|name| self.is_there(name)) => lost("is missing".to_owned()),
            Err(_) => Ok(Found::Nothing),
        }
    }

    /// What is where SQLite keeps a file, and is none: it would not be opened, and may have been the newest changes.
    fn in_place_of(&self, end: &str) -> Option<String> {
        let name = format!("{REGISTRY}{end}");
        let kind = fs::symlink_metadata(self.path.join(&name)).ok()?.file_type();
        let what = match kind {
            kind if kind.is_file() => return None,
            kind if kind.is_symlink() => "is a link",
            kind if kind.is_dir() => "is a directory",
            _ => "is no file",
        };
        Some(format!("cannot be read, for {name} beside it {what}; the newest changes belong there"))
    }

    fn is_there(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path.join(name)).is_ok()
    }

    /// Notes that the state is being made. Durable on return.
    pub fn begin(&self, _: &Lock) -> Result<(), Error> {
        match files::create_private(&self.path.join(UNDER_WAY), b"") {
            Err(files::Error::Exists(_)) => Ok(()),
            begun => Ok(begun?),
        }
    }

    /// Notes that the state is complete: what is missing from now on is lost. Durable on return.
    pub fn complete(&self) -> Result<(), Error> {
        let mark = self.path.join(UNDER_WAY);
        match fs::remove_file(&mark) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => {
                removed.map_err(io_error(&mark))?;
                Ok(files::sync_parent(&mark)?)
            }
        }
    }

    /// What is asked of its protection.
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The issuer's signing key, PKCS#8 PEM.
    pub fn issuer_key(&self) -> PathBuf {
        self.path.join(ISSUER_KEY)
    }

    /// The issuer's public key, PEM, where there is no [`issuer_key`](Self::issuer_key): at a station, or with the key in an
    /// HSM or sealed.
    pub fn issuer_anchor(&self) -> PathBuf {
        self.path.join(ISSUER_ANCHOR)
    }

    /// Where in an HSM the issuer's key is, JSON.
    pub fn issuer_in_hsm(&self) -> PathBuf {
        self.path.join(IN_HSM)
    }

    /// There if a backup brought [`issuer_in_hsm`](Self::issuer_in_hsm), and nobody has confirmed the module that it names.
    pub fn unconfirmed_module(&self) -> PathBuf {
        self.path.join(UNCONFIRMED)
    }

    /// The issuer's key, sealed by a passphrase (age).
    pub fn sealed_issuer_key(&self) -> PathBuf {
        self.path.join(SEALED_KEY)
    }

    /// At a station: its token.
    pub fn station_token(&self) -> PathBuf {
        self.path.join(STATION_TOKEN)
    }

    /// The station's EDHOC key, PKCS#8 PEM.
    pub fn station_key(&self) -> PathBuf {
        self.path.join(STATION_KEY)
    }

    /// The registry, an SQLite file.
    pub fn registry(&self) -> PathBuf {
        self.path.join(REGISTRY)
    }

    /// Waits until no other commissioner makes or upgrades this state. Ordinary work needs no lock: the registry's
    /// transactions take care of it.
    ///
    /// # Errors
    /// [`Error::Unprotected`] where a private file is not; [`Error::NoLocks`].
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = self.path.join(LOCK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(PRIVATE);
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
        let file = loop {
            let file = options.open(&path).map_err(io_error(&path))?;
            match file.lock() {
                // NFS has the one or the other, by its version and its server.
                Err(error) if files::is_unsupported(&error) => lock_by_record(&file),
                locked => locked,
            }
            .map_err(|error| match files::is_unsupported(&error) {
                true => Error::NoLocks(self.path.clone()),
                false => io_error(&path)(error),
            })?;
            // Who made the directory in vain removed it, with the file that we waited for.
            if file.metadata().map_err(io_error(&path))?.nlink() > 0 {
                break file;
            }
        };
        if self.protection == Protection::Required && !keeps_modes(&file).map_err(io_error(&path))? {
            return Err(Error::Unprotected(self.path.clone()));
        }
        Ok(Lock(file))
    }

    /// Makes the registry's file, with nothing in it, unless it is there.
    pub fn make_registry(&self, _: &Lock) -> Result<(), Error> {
        match files::create_private(&self.registry(), b"") {
            Err(files::Error::Exists(_)) => Ok(()),
            made => Ok(made?),
        }
    }

    /// Makes sure that only its owner can read the registry. It is not opened: closing it would give back the locks that
    /// SQLite may hold on it in this process.
    pub fn keep_registry_private(&self) -> Result<(), Error> {
        let path = self.registry();
        let is_open = || Ok(fs::metadata(&path)?.mode() & OTHERS != 0);
        let is_private = |is_open: io::Result<bool>| is_open.map(|it| !it).map_err(io_error(&path));
        if self.protection == Protection::Waived || is_private(is_open())? {
            return Ok(());
        }
        // Whether it did anything shows in the mode.
        let _ = fs::set_permissions(&path, fs::Permissions::from_mode(PRIVATE));
        if is_private(is_open())? { Ok(()) } else { Err(Error::Unprotected(path)) }
    }

    /// Whether the registry can be written to, and files made beside it.
    pub fn is_writable(&self) -> bool {
        [&self.path, &self.registry()].into_iter().all(|path| access(path, Access::WRITE_OK).is_ok())
    }
}

fn is_text(path: &Path) -> Result<(), Error> {
    if path.to_str().is_some() { Ok(()) } else { Err(Error::NotText(path.to_owned())) }
}

/// Root follows the links in it with all that root may do.
fn is_ours(path: &Path, owner: u32, user: u32) -> Result<(), Error> {
    match user == 0 && owner != 0 {
        true => Err(Error::OfAnother { path: path.to_owned(), owner }),
        false => Ok(()),
    }
}

/// Another kind of lock on a file.
fn lock_by_record(file: &File) -> io::Result<()> {
    Ok(fcntl_lock(file, FlockOperation::LockExclusive)?)
}

/// Whether a file has the mode that it is given, be that refused or ignored. FAT takes some modes, by its mount options, and
/// never this one.
fn keeps_modes(file: &File) -> io::Result<bool> {
    let mut keeps = true;
    for mode in [PROBE, PRIVATE] {
        let _ = file.set_permissions(fs::Permissions::from_mode(mode));
        keeps &= file.metadata()?.mode() & 0o7777 == mode;
    }
    Ok(keeps)
}

/// What was made for a state directory: see [`StateDir::make`]. Dropped, it goes again.
#[derive(Debug)]
pub struct Made {
    /// The innermost first.
    dirs: Vec<PathBuf>,
    /// The file of the lock, if it was not there before.
    lock: Option<PathBuf>,
}

impl Made {
    /// It stays.
    pub fn keep(&mut self) {
        self.dirs.clear();
        self.lock = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            let _ = fs::remove_file(lock);
        }
        // Those that others put something into stay.
        let _ = self.dirs.iter().try_for_each(fs::remove_dir);
    }
}

/// Held while the state is being made or upgraded; given back when dropped, or when the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

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
        for (loose, kept) in [(0o644, 0o600), (0o610, 0o600), (0o400, 0o400)] {
            fs::set_permissions(dir.registry(), fs::Permissions::from_mode(loose)).unwrap();
            dir.keep_registry_private().unwrap();
            assert_eq!(mode(&dir.registry()), kept);
        }
    }

    /// A directory with these files in it; those of the registry have something in them.
    fn with(files: &[&str]) -> (tempfile::TempDir, StateDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::create(&temp.path().join("state")).unwrap();
        for name in files {
            fs::write(dir.path().join(name), if *name == REGISTRY { "SQLite" } else { "" }).unwrap();
        }
        (temp, dir)
    }

    #[test]
    fn an_interrupted_init_and_a_loss_are_told_apart() {
        for (files, expected) in [
            (&[][..], Found::Nothing),
            (&["lock"], Found::Nothing),
            (&[UNDER_WAY], Found::UnderWay),
            (&[UNDER_WAY, ISSUER_KEY], Found::UnderWay),
            (&[UNDER_WAY, REGISTRY, ISSUER_KEY, STATION_KEY], Found::UnderWay),
            (&[REGISTRY, ISSUER_KEY, STATION_KEY], Found::Registry),
        ] {
            assert_eq!(with(files).1.found().unwrap(), expected, "{files:?}");
        }
        for name in FILES.into_iter().filter(|name| *name != REGISTRY) {
            let (_temp, dir) = with(&[name]);
            let error = dir.found().unwrap_err();
            assert!(matches!(&error, Error::Lost { what, .. } if what == "is missing"), "{name}: {error}");
            let text = error.to_string();
            for part in [dir.registry().to_str().unwrap(), "restore-backup FILE", dir.path().to_str().unwrap()] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(!text.contains("init"), "{text}");
        }
        let (_temp, dir) = with(&[]);
        fs::write(dir.registry(), "").unwrap();
        assert!(matches!(dir.found(), Err(Error::Lost { what, .. }) if what.contains("0 bytes")));
        fs::remove_file(dir.registry()).unwrap();
        fs::create_dir(dir.registry()).unwrap();
        assert!(matches!(dir.found(), Err(Error::Lost { .. })), "a directory");
    }

    #[test]
    fn the_mark_of_an_init_is_there_while_it_runs() {
        let (_temp, dir) = with(&[]);
        let lock = dir.lock().unwrap();
        dir.begin(&lock).unwrap();
        dir.begin(&lock).unwrap();
        assert_eq!(dir.found().unwrap(), Found::UnderWay);
        dir.complete().unwrap();
        dir.complete().unwrap();
        assert_eq!(dir.found().unwrap(), Found::Nothing);
    }

    #[test]
    fn root_keeps_off_what_is_somebody_elses() {
        let path = Path::new("/home/mallory/state");
        let error = is_ours(path, 1000, 0).unwrap_err();
        assert!(matches!(error, Error::OfAnother { owner: 1000, .. }), "{error}");
        assert!(error.to_string().contains("belongs to user 1000"), "{error}");
        is_ours(path, 0, 0).unwrap();
        // Others than root can do no more there than its owner lets them.
        is_ours(path, 0, 1000).unwrap();
        is_ours(path, 1000, 1000).unwrap();
    }

    #[test]
    fn a_file_system_without_modes_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let file = File::create(temp.path().join("file")).unwrap();
        assert!(keeps_modes(&file).unwrap());
        assert_eq!(mode(&temp.path().join("file")), PRIVATE);
        // Of what root cannot change the mode of, either: a file of the kernel's.
        let file = File::open("/proc/self/stat").unwrap();
        assert!(!keeps_modes(&file).unwrap());
    }

    #[test]
    fn who_waives_the_protection_gets_in() {
        let temp = tempfile::tempdir().unwrap();
        let shared = temp.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(StateDir::create(&shared), Err(Error::WritableByOthers { mode: 0o777, .. })));
        let dir = StateDir::create_as(&shared, Protection::Waived).unwrap();
        assert_eq!(dir.protection(), Protection::Waived);
        dir.lock().unwrap();
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
    fn a_lock_by_record_is_as_good() {
        let temp = tempfile::tempdir().unwrap();
        let file = File::create(temp.path().join("lock")).unwrap();
        lock_by_record(&file).unwrap();
        // This process may lock it again; another one is told who holds it.
        let held = rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive);
        assert!(held.is_ok());
    }

    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let (temp, dir) = with(&[]);
        std::os::unix::fs::symlink(temp.path().join("victim"), dir.path().join("lock")).unwrap();
        assert!(matches!(dir.lock(), Err(Error::Io { .. })));
        assert!(!temp.path().join("victim").exists());
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
