//! A directory of its own inside a state directory, for files that are not in place yet; elsewhere, if nothing can be written
//! there.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rand_core::{OsRng, RngCore};
use rustix::{fs::OFlags, process::geteuid};

use crate::{
    files,
    state_dir::{Error, Lock, StateDir},
};

/// What their names begin with.
const PREFIX: &str = "staging-";
/// What they were called by versions before, which shared one among all.
const FORMER: [&str; 2] = ["backing-up", "restoring"];
/// What their names begin with where other programs have files, too.
const PREFIX_ELSEWHERE: &str = "commissioner-staging-";
/// In it: locked as long as it is in use.
const IN_USE: &str = "in-use";

/// The directory. It goes when this is dropped; what a killed run left of its own goes when the next one begins.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    _in_use: File,
}

impl Staging {
    /// An empty one in `dir`. The lock keeps others from taking it for a leftover before it is locked itself.
    pub fn begin(dir: &StateDir, _: &Lock) -> Result<Self, Error> {
        clear_leftovers(dir.path(), |name| name.starts_with(PREFIX) || FORMER.contains(&name), true);
        Self::make(dir.path().join(format!("{PREFIX}{:016x}", OsRng.next_u64())))
    }

    /// An empty one in the folder for temporary files, which may be everybody's: ours is readable by its owner alone.
    pub fn elsewhere(folder: &Path) -> Result<Self, Error> {
        // Without a lock, one that is just begun and one that was left look the same until there is a mark in it.
        clear_leftovers(folder, |name| name.starts_with(PREFIX_ELSEWHERE), false);
        Self::make(folder.join(format!("{PREFIX_ELSEWHERE}{:016x}", OsRng.next_u64())))
    }

    fn make(path: PathBuf) -> Result<Self, Error> {
        let at_path = |source| Error::Io { path: path.clone(), source };
        DirBuilder::new().mode(0o700).create(&path).map_err(at_path)?;
        let locked = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join(IN_USE));
        let locked = locked.and_then(|file| match file.lock() {
            // Without locks nobody takes it for a leftover.
            Err(error) if !files::is_unsupported(&error) => Err(error),
            _ => Ok(file),
        });
        match locked {
            Ok(file) => Ok(Self { path, _in_use: file }),
            Err(error) => {
                let _ = fs::remove_dir_all(&path);
                Err(at_path(error))
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what is ours and nobody holds. What cannot be removed is no obstacle. `unmarked`: also what has no mark in it.
fn clear_leftovers(dir: &Path, is_ours: impl Fn(&str) -> bool, unmarked: bool) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_of_us = entry.metadata().is_ok_and(|it| it.is_dir() && it.uid() == geteuid().as_raw());
        if is_of_us && is_ours(&entry.file_name().to_string_lossy()) && is_left_over(&entry.path(), unmarked) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_left_over(staging: &Path, unmarked: bool) -> bool {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    match OpenOptions::new().write(true).custom_flags(flags).open(staging.join(IN_USE)) {
        Ok(in_use) => in_use.try_lock().is_ok(),
        Err(error) => unmarked && error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &StateDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn leftovers_go_and_what_is_in_use_stays() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::create(&temp.path().join("state")).unwrap();
        let lock = dir.lock().unwrap();
        for left in ["staging-0123456789abcdef", "backing-up", "restoring"] {
            fs::create_dir(dir.path().join(left)).unwrap();
            fs::write(dir.path().join(left).join("registry.sqlite"), "torn").unwrap();
        }
        fs::write(dir.path().join("staging-0123456789abcdef").join(IN_USE), "").unwrap();
        let first = Staging::begin(&dir, &lock).unwrap();
        fs::write(first.path().join("registry.sqlite"), "copy").unwrap();
        let second = Staging::begin(&dir, &lock).unwrap();
        assert_eq!(names(&dir).len(), 3, "{:?}", names(&dir));
        drop(second);
        assert!(first.path().join("registry.sqlite").exists());
        drop(first);
        assert_eq!(names(&dir), ["lock"]);
    }

    #[test]
    fn elsewhere_a_leftover_is_what_has_a_mark_that_nobody_holds() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        for other in ["commissioner-staging-just-begun", "staging-of-another-program"] {
            fs::create_dir(path(other)).unwrap();
        }
        fs::create_dir(path("commissioner-staging-left")).unwrap();
        fs::write(path("commissioner-staging-left").join(IN_USE), "").unwrap();
        let first = Staging::elsewhere(temp.path()).unwrap();
        let second = Staging::elsewhere(temp.path()).unwrap();
        assert!(first.path().exists() && !path("commissioner-staging-left").exists());
        assert_eq!(fs::metadata(first.path()).unwrap().mode() & 0o7777, 0o700);
        drop((first, second));
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
    }
}
