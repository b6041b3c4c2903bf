//! Files that are there whole or not at all, on whatever file system people have: sticks without hard links, shares that
//! cannot synchronise a directory, folders that others write to as well.
//!
//! All that this program writes beside the registry's database goes through here. Contents go into a file of a name of its
//! own, made anew, so no link that somebody planted is followed and two writers never share one; then it gets its name.
//!
//! And all that it is given to read: [`Input`] and [`open_own`] wait for nobody who may never come, as opening a pipe does.

use std::{
    fs::{self, File, FileType, Metadata, OpenOptions, TryLockError},
    io::{self, Cursor, Read, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rand_core::{OsRng, RngCore};
use rustix::{
    fs::{CWD, OFlags, RenameFlags, fcntl_getfl, fcntl_setfl, fstat, fstatfs, renameat_with},
    io::Errno,
};

/// Before and behind the number in the name of a file under way.
const UNDER_WAY: (&str, &str) = ("commissioner-", ".unfinished");
/// The magic number of the file system that pipes without a name are in (statfs(2)).
const PIPEFS: i64 = 0x5049_5045;
/// What SQLite keeps beside a database: see [`scratch_path`].
pub(crate) const BESIDE_DATABASE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Why a file was not written. What was at its place is there as before.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Only new files are written here.
    #[error("{0} is there already")]
    Exists(PathBuf),
    /// A directory, a device, a pipe.
    #[error("{0} is no file that could be replaced")]
    NotAFile(PathBuf),
    /// The operating system refused.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file, or its directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    /// Whether another name would do. All else is the machine's matter.
    pub fn is_misnamed(&self) -> bool {
        match self {
            Self::Exists(_) | Self::NotAFile(_) => true,
            Self::Io { source, .. } => is_misnamed(source),
        }
    }
}

/// Whether the name is the matter, and another one would do: it leads nowhere, or to where we may not write. All else is the
/// machine's matter: a full disk, one that fails, one that takes no changes.
pub fn is_misnamed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::InvalidInput
    ) || Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// A file that the user named to be read. It may be a pipe, as `<(...)` of a shell is one, if somebody writes to it, or what
/// is our standard input already; nothing else that is no file.
pub struct Input {
    /// What was read to find out whether there is a writer.
    head: Cursor<Vec<u8>>,
    file: File,
}

impl Input {
    /// Opens it, and waits for nobody.
    ///
    /// # Errors
    /// Those of the operating system. What is no file is named, and so is a pipe that nobody writes to.
    pub fn open(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_fifo() && !is_stdin(&metadata) {
            return Err(no_file(kind));
        }
        let file = open_at_once(path)?;
        let mut head = Vec::new();
        // The writer of a pipe without a name was there before us.
        if kind.is_fifo() && fstatfs(&file)?.f_type != PIPEFS {
            let mut first = [0; 1];
            match (&file).read(&mut first) {
                Ok(0) => return Err(misnamed("it is a pipe, and nobody writes to it")),
                Ok(len) => head.extend(first.into_iter().take(len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        // Whoever writes takes their time.
        fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
        Ok(Self { head: Cursor::new(head), file })
    }

    /// What the operating system knows about it.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

impl From<File> for Input {
    /// What is open already.
    fn from(file: File) -> Self {
        Self { head: Cursor::default(), file }
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.head.read(out)? {
            0 => self.file.read(out),
            len => Ok(len),
        }
    }
}

/// All of what [`Input::open`] opens, up to `most` bytes.
///
/// # Errors
/// Those of it; and if there is more.
pub fn read_input(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    whole(Input::open(path)?, most)
}

fn whole(file: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut contents)?;
    match contents.len() as u64 <= most {
        true => Ok(contents),
        false => Err(io::Error::other(format!("it has more than {most} bytes"))),
    }
}

/// Opens a file of ours, which is a file and nothing else. Waits for nobody.
///
/// # Errors
/// Those of the operating system; and what it is, if it is no file.
pub fn open_own(path: &Path) -> io::Result<File> {
    let file = open_at_once(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() { Ok(file) } else { Err(no_file(kind)) }
}

/// Reads one whole, with no more than `most` bytes.
///
/// # Errors
/// Those of [`open_own`]; and if there is more.
pub fn read_own(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    whole(open_own(path)?, most)
}

/// Opening a pipe waits for who writes, opening some devices for what is at their other end. This does not.
fn open_at_once(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => no_file(metadata.file_type()),
        _ => error,
    })
}

fn is_stdin(metadata: &Metadata) -> bool {
    fstat(io::stdin().as_fd()).is_ok_and(|stdin| (stdin.st_dev, stdin.st_ino) == (metadata.dev(), metadata.ino()))
}

fn no_file(kind: FileType) -> io::Error {
    let what = match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    misnamed(&format!("it is {what}, and no file"))
}

/// One for which [`is_misnamed`] holds.
fn misnamed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone: mode 0600.
    Owner,
    /// Anyone, as far as the umask lets them: mode 0644.
    Anyone,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Anyone => 0o644,
        }
    }
}

/// Writes a new file that only its owner can read. Durable on return.
///
/// # Errors
/// [`Error::Exists`] if anything is at `path`, a link that leads nowhere included.
pub fn create_private(path: &Path, contents: &[u8]) -> Result<(), Error> {
    create_private_with(path, |mut file| file.write_all(contents))
}

/// The same for contents that `write` writes.
pub fn create_private_with(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> Result<(), Error> {
    let unfinished = Unfinished::beside(path, Readers::Owner)?;
    write(unfinished.file()).map_err(at(path))?;
    unfinished.create()
}

/// Writes a file in place of the one that may be there. Durable on return.
pub fn replace(path: &Path, readers: Readers, contents: &[u8]) -> Result<(), Error> {
    let unfinished = Unfinished::beside(path, readers)?;
    unfinished.file().write_all(contents).map_err(at(path))?;
    unfinished.replace()
}

/// A file under way, in the directory of what it is to become. Dropped, it is gone; what a killed process left of it goes
/// when the next file is begun there.
#[derive(Debug)]
pub struct Unfinished {
    /// Holds the lock that says that this is no leftover.
    file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Unfinished {
    /// An empty file that is to become the one at `target`.
    pub fn beside(target: &Path, readers: Readers) -> Result<Self, Error> {
        let directory = parent(target);
        clear_leftovers(directory);
        loop {
            let path = scratch_path(directory);
            let file = match OpenOptions::new().read(true).write(true).create_new(true).mode(readers.mode()).open(&path)
            {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file.map_err(at(target))?,
            };
            let unfinished = Self { file, path, target: target.to_owned() };
            // Who clears up at this moment may have taken it for a leftover. Without locks (NFS) nobody does.
            match unfinished.file.try_lock() {
                Err(TryLockError::WouldBlock) => continue,
                _ if unfinished.file.metadata().map_err(at(target))?.nlink() == 0 => continue,
                _ => return Ok(unfinished),
            }
        }
    }

    /// What to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is as long as it is under way.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name, which nothing else may have. Durable on return.
    ///
    /// # Errors
    /// [`Error::Exists`], also for a link that leads nowhere.
    pub fn create(self) -> Result<(), Error> {
        self.file.sync_all().map_err(at(&self.target))?;
        match name_it(&self.path, &self.target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::Exists(self.target.clone())),
            named => named.map_err(at(&self.target)),
        }?;
        sync_parent(&self.target)
    }

    /// Gives the file its name, in place of the file or the link that has it. Where a link leads to stays as it is. Durable on
    /// return.
    ///
    /// # Errors
    /// [`Error::NotAFile`], such as a device.
    pub fn replace(self) -> Result<(), Error> {
        if fs::metadata(&self.target).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(Error::NotAFile(self.target.clone()));
        }
        self.file.sync_all().map_err(at(&self.target))?;
        fs::rename(&self.path, &self.target).map_err(at(&self.target))?;
        sync_parent(&self.target)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It has no other name, or has one, and this is a second link to it; or it has been renamed.
        let _ = fs::remove_file(&self.path);
    }
}

/// A name that nothing has, as good as surely. What a killed process leaves there goes as other leftovers do.
pub(crate) fn scratch_path(directory: &Path) -> PathBuf {
    directory.join(format!("{}{:08x}{}", UNDER_WAY.0, OsRng.next_u32(), UNDER_WAY.1))
}

/// Ways to give a file a name that is free, and to notice if it is not.
type Way = fn(&Path, &Path) -> io::Result<()>;

/// No file system has all of them. FAT and exFAT have the first, NFS the second, shared folders of virtual machines the last.
const WAYS: [Way; 3] = [rename_no_replace, link, reserve];

fn name_it(path: &Path, target: &Path) -> io::Result<()> {
    first_of(&WAYS, path, target)
}

fn first_of(ways: &[Way], path: &Path, target: &Path) -> io::Result<()> {
    let mut last = Err(io::ErrorKind::Unsupported.into());
    for way in ways {
        last = way(path, target);
        // What a file system says to what it does not have is as different as they are.
        match &last {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {}
            _ => break,
        }
    }
    last
}

fn rename_no_replace(path: &Path, target: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, path, CWD, target, RenameFlags::NOREPLACE)?)
}

/// The file's other name goes when it is dropped.
fn link(path: &Path, target: &Path) -> io::Result<()> {
    fs::hard_link(path, target)
}

/// The name is taken first, by an empty file, and only what was made here is replaced.
fn reserve(path: &Path, target: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(Readers::Owner.mode()).open(target)?;
    fs::rename(path, target).inspect_err(|_| {
        let _ = fs::remove_file(target);
    })
}

/// Removes the files under way of processes that are gone: those that nobody holds a lock on; and what SQLite kept beside one
/// that was a database.
fn clear_leftovers(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let ours = entries.flatten().filter_map(|entry| {
        let (path, name) = (entry.path(), entry.file_name().into_string().ok()?);
        let beside = BESIDE_DATABASE.into_iter().find(|end| name.ends_with(end)).unwrap_or_default();
        let main = name.strip_suffix(beside)?;
        let number = main.strip_prefix(UNDER_WAY.0)?.strip_suffix(UNDER_WAY.1)?;
        let is_ours = number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_ours.then(|| (path, directory.join(main)))
    });
    let (mains, beside): (Vec<_>, Vec<_>) = ours.partition(|(path, main)| path == main);
    for (path, _) in mains {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().write(true).custom_flags(flags).open(&path);
        // The lock is held until the file is gone: who has just begun it sees one or the other.
        if let Ok(file) = file
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(&path);
        }
    }
    for (path, main) in beside {
        let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        if is_file && fs::symlink_metadata(main).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes durable that a file has its name, as far as the file system can: that of a directory says EINVAL on old CIFS, in
/// shared folders of VirtualBox, and on some that run in user space.
pub fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = parent(path);
    match File::open(parent).and_then(|directory| directory.sync_all()) {
        // A directory may be writable and not readable.
        Err(error) if is_unsupported(&error) || error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synchronised => synchronised.map_err(at(parent)),
    }
}

/// Whether the file system does not know what it was asked to do, rather than failed to.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOLCK];
    Errno::from_io_error(error).is_some_and(|errno| unsupported.contains(&errno))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    |source| Error::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("issuer.key");
        create_private(&path, b"secret").unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"secret"[..], 0o600));

        let other = temp.path().join("other");
        let failed = create_private_with(&other, |mut file| {
            file.write_all(b"half of it")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(matches!(failed, Err(Error::Io { path, .. }) if path == other));
        assert_eq!(names(temp.path()), ["issuer.key"], "no leftover");
    }

    #[test]
    fn each_way_takes_a_free_name_and_no_other() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        for (number, way) in WAYS.into_iter().enumerate() {
            let (precious, free) = (path("precious"), path(&format!("free-{number}")));
            fs::write(&precious, "precious").unwrap();
            let _ = symlink(path("elsewhere"), path("nowhere"));
            let _ = symlink(&precious, path("link"));
            let unfinished = Unfinished::beside(&free, Readers::Owner).unwrap();
            unfinished.file().write_all(b"new").unwrap();
            for taken in ["precious", "nowhere", "link"] {
                let error = way(unfinished.path(), &path(taken)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "way {number} to {taken}");
            }
            way(unfinished.path(), &free).unwrap();
            drop(unfinished);
            assert_eq!(fs::read(&free).unwrap(), b"new", "way {number}");
            assert_eq!(mode(&free), 0o600);
            assert_eq!(fs::read(&precious).unwrap(), b"precious");
            assert!(!path("elsewhere").exists());
        }
        assert_eq!(names(temp.path()), ["free-0", "free-1", "free-2", "link", "nowhere", "precious"]);
    }

    #[test]
    fn a_file_system_that_lacks_one_way_is_asked_for_the_next() {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("target");
        // What FAT, exFAT and vboxsf say to what they do not have.
        let no_links: Way = |_, _| Err(Errno::PERM.into());
        let no_flags: Way = |_, _| Err(Errno::INVAL.into());
        let unfinished = Unfinished::beside(&target, Readers::Owner).unwrap();
        unfinished.file().write_all(b"new").unwrap();
        first_of(&[no_flags, no_links, reserve], unfinished.path(), &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");

        // A name that is taken is the end of it.
        let unfinished = Unfinished::beside(&target, Readers::Owner).unwrap();
        let error = first_of(&[no_flags, link, |_, _| Ok(())], unfinished.path(), &target).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(first_of(&[no_flags, no_links], unfinished.path(), &temp.path().join("other")).is_err());
    }

    #[test]
    fn a_reserved_name_is_given_back_if_nothing_comes_of_it() {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("target");
        assert!(reserve(&temp.path().join("none"), &target).is_err());
        assert!(!target.exists());
    }

    #[test]
    fn what_exists_is_never_replaced_by_a_new_file() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("issuer.key");
        create_private(&path, b"first").unwrap();
        assert!(matches!(create_private(&path, b"second"), Err(Error::Exists(at)) if at == path));
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn replacing_follows_no_link_and_keeps_off_devices() {
        let temp = tempfile::tempdir().unwrap();
        let (victim, path) = (temp.path().join("victim"), temp.path().join("out"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &path).unwrap();
        replace(&path, Readers::Anyone, b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        replace(&path, Readers::Anyone, b"newer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");

        // Root could replace it.
        let device = temp.path().join("device");
        symlink("/dev/null", &device).unwrap();
        for taken in [&device, temp.path()] {
            assert!(matches!(replace(taken, Readers::Anyone, b"new"), Err(Error::NotAFile(_))), "{taken:?}");
        }
        assert!(fs::symlink_metadata(&device).unwrap().is_symlink());
        assert_eq!(names(temp.path()), ["device", "out", "victim"]);
    }

    #[test]
    fn leftovers_go_and_what_is_under_way_or_anything_else_stays() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        for suffix in ["", "-wal", "-shm", "-journal"] {
            fs::write(path(&format!("commissioner-00000001.unfinished{suffix}")), "half").unwrap();
        }
        // Its database is gone already.
        fs::write(path("commissioner-00000003.unfinished-wal"), "log").unwrap();
        fs::write(path("mine.unfinished"), "of the user's").unwrap();
        fs::write(path("victim"), "precious").unwrap();
        symlink(path("victim"), path("commissioner-00000002.unfinished")).unwrap();
        let first = Unfinished::beside(&path("out"), Readers::Owner).unwrap();
        first.file().write_all(b"first").unwrap();
        create_private(&path("out"), b"second").unwrap();
        assert!(first.path().exists(), "it is under way");
        assert!(matches!(first.create(), Err(Error::Exists(_))));
        assert_eq!(names(temp.path()), ["commissioner-00000002.unfinished", "mine.unfinished", "out", "victim"]);
        assert_eq!(fs::read(path("out")).unwrap(), b"second");
        assert_eq!(fs::read(path("victim")).unwrap(), b"precious");
    }

    #[test]
    fn what_is_beside_a_database_under_way_stays_with_it() {
        let temp = tempfile::tempdir().unwrap();
        let first = Unfinished::beside(&temp.path().join("out"), Readers::Owner).unwrap();
        let log = format!("{}-wal", first.path().display());
        fs::write(&log, "log").unwrap();
        create_private(&temp.path().join("other"), b"second").unwrap();
        assert!(Path::new(&log).exists());
        drop(first);
        create_private(&temp.path().join("third"), b"third").unwrap();
        assert_eq!(names(temp.path()), ["other", "third"]);
    }

    fn fifo(path: &Path) {
        rustix::fs::mkfifoat(CWD, path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    }

    #[test]
    fn what_is_no_file_is_named_and_waited_for_by_nobody() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        fifo(&path("pipe"));
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        symlink("/dev/zero", path("device")).unwrap();
        for (name, words) in
            [("pipe", "a pipe"), ("socket", "a socket"), ("directory", "a directory"), ("device", "a device")]
        {
            for error in [Input::open(&path(name)).map(drop), open_own(&path(name)).map(drop)].map(Result::unwrap_err) {
                assert!(error.to_string().starts_with(&format!("it is {words}")), "{name}: {error}");
            }
        }
        assert_eq!(Input::open(&path("none")).map(drop).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_pipe_that_somebody_writes_to_is_an_input_and_no_file_of_ours() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("pipe");
        fifo(&path);
        // Ours for reading, too, so that opening it for writing waits for nobody.
        let mut writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut silent = Input::open(&path).unwrap();
        writer.write_all(b"word").unwrap();
        let mut word = [0; 4];
        silent.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"word");
        writer.write_all(b"more").unwrap();
        let mut input = Input::open(&path).unwrap();
        drop(writer);
        let mut rest = String::new();
        input.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "more");

        // As a shell hands one over.
        let (ours, mut theirs) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&ours)));
        assert!(open_own(&path).is_err());
        theirs.write_all(b"word").unwrap();
        assert!(read_input_of(&path, theirs, 4).is_ok_and(|read| read == b"word"));
        let (ours, theirs) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&ours)));
        assert!(read_input_of(&path, theirs, 4).is_ok_and(|read| read.is_empty()));
    }

    /// What a pipe brings whose writer is gone.
    fn read_input_of(path: &Path, writer: io::PipeWriter, most: u64) -> io::Result<Vec<u8>> {
        drop(writer);
        read_input(path, most)
    }

    #[test]
    fn an_input_has_an_end() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("input");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_input(&path, 5).unwrap(), b"12345");
        assert_eq!(read_own(&path, 5).unwrap(), b"12345");
        assert!(read_input(&path, 4).unwrap_err().to_string().contains("more than 4 bytes"));
    }

    #[test]
    fn a_name_that_leads_nowhere_is_told_from_a_disk_that_fails() {
        for errno in
            [Errno::NOENT, Errno::ACCESS, Errno::PERM, Errno::NOTDIR, Errno::ISDIR, Errno::NAMETOOLONG, Errno::LOOP]
        {
            assert!(is_misnamed(&errno.into()), "{errno}");
        }
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG, Errno::ROFS, Errno::IO, Errno::NODEV, Errno::STALE] {
            assert!(!is_misnamed(&errno.into()), "{errno}");
        }
    }

    #[test]
    fn a_long_name_leaves_room_for_the_file_under_way() {
        let temp = tempfile::tempdir().unwrap();
        create_private(&temp.path().join("n".repeat(255)), b"new").unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_synchronised_is_no_failure_and_a_bad_disk_is() {
        for errno in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP] {
            assert!(is_unsupported(&errno.into()), "{errno}");
        }
        for errno in [Errno::IO, Errno::NOSPC, Errno::ACCESS, Errno::ROFS] {
            assert!(!is_unsupported(&errno.into()), "{errno}");
        }
        // A directory that says EINVAL.
        assert!(is_unsupported(&File::open("/proc/self").unwrap().sync_all().unwrap_err()));
        sync_parent(Path::new("/proc/self/file")).unwrap();
    }

    #[test]
    fn a_bare_name_is_in_the_current_directory() {
        assert_eq!(parent(Path::new("mine.age")), Path::new("."));
        assert_eq!(parent(Path::new("/mine.age")), Path::new("/"));
        assert_eq!(parent(Path::new("/")), Path::new("/"));
    }

    #[test]
    fn an_error_names_the_file_that_was_asked_for() {
        let temp = tempfile::tempdir().unwrap();
        let error = create_private(&temp.path().join("no/such/folder/file"), b"new").unwrap_err();
        assert!(error.to_string().contains("no/such/folder/file"), "{error}");
    }
}
