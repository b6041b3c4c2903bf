//! What the database's errors mean: damage, for which there is a backup, or something that passes.

use std::path::Path;

use crate::registry::Error;

/// SQLite's result codes: damage to the file, and what is no database at all.
const DAMAGE: [u32; 2] = [11, 26];
/// Reading failed: on a bad disk, past a file's early end, by what the file system noticed.
const UNREADABLE: [u32; 4] = [266, 522, 8202, 8458];
/// What SQLite says where a table or a column is missing; that has no code of its own.
const NOT_OURS: &str = "no such ";
/// No file to map that others could map, too; or no locks on it.
const NO_SHARED_MEMORY: [u32; 2] = [5130, 5386];
/// No room: for a change, or for the file that commissioners share memory by.
const NO_ROOM: [u32; 4] = [13, 778, 4618, 4874];

/// The file, or what it is on, cannot be written to.
const READ_ONLY: u32 = 8;

/// Why a database could not be opened in the usual way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hindrance {
    /// The file system maps no memory that is shared.
    NoSharedMemory,
    /// The disk is full.
    NoRoom,
    /// Anything else.
    Other,
}

impl Hindrance {
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        match code(error) {
            Some(code) if NO_SHARED_MEMORY.contains(&code) => Self::NoSharedMemory,
            Some(code) if NO_ROOM.contains(&code) => Self::NoRoom,
            _ => Self::Other,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let is_damage = match &error {
            // Something that is always there was not, or is of another type.
            sqlx::Error::RowNotFound
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_) => true,
            error => {
                code(error).is_some_and(|code| UNREADABLE.contains(&code) || DAMAGE.contains(&(code & 0xff)))
                    || error.as_database_error().is_some_and(|error| error.message().starts_with(NOT_OURS))
            }
        };
        match code(&error).map(|code| code & 0xff) {
            _ if is_damage => Self::Damaged { file: None, what: error.to_string() },
            Some(READ_ONLY) => Self::ReadOnly(error.into()),
            _ => Self::Database(error.into()),
        }
    }
}

impl Error {
    /// The same with the name of the registry's file, where that is known.
    pub(crate) fn at(self, registry: &Path) -> Self {
        match self {
            Self::Damaged { what, .. } => Self::Damaged { file: Some(registry.to_owned()), what },
            other => other,
        }
    }
}

/// The extended result code, if SQLite has one.
fn code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, error::Error as StdError, fmt};

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    /// An error with the code of SQLite's.
    #[derive(Debug)]
    struct Coded(u32, &'static str);

    impl fmt::Display for Coded {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.1)
        }
    }

    impl StdError for Coded {}

    impl DatabaseError for Coded {
        fn message(&self) -> &str {
            self.1
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.to_string().into())
        }
        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn coded(code: u32, message: &'static str) -> sqlx::Error {
        sqlx::Error::Database(Box::new(Coded(code, message)))
    }

    #[test]
    fn damage_is_told_from_what_passes() {
        // 779 is CORRUPT_INDEX: the details come in the higher bits.
        let damage = [
            (11, "malformed"),
            (779, "index"),
            (26, "not a database"),
            (266, "read"),
            (522, "short read"),
            (1, "no such table: keys"),
        ];
        for (code, message) in damage {
            assert!(matches!(Error::from(coded(code, message)), Error::Damaged { .. }), "{code} {message}");
        }
        for (code, message) in [(1, "output file already exists"), (5, "locked"), (13, "full"), (778, "write")] {
            assert!(matches!(Error::from(coded(code, message)), Error::Database(_)), "{code} {message}");
        }
        for code in [8, 1032] {
            assert!(matches!(Error::from(coded(code, "attempt to write")), Error::ReadOnly(_)), "{code}");
        }
        assert!(matches!(Error::from(sqlx::Error::RowNotFound), Error::Damaged { .. }));
        assert!(matches!(Error::from(sqlx::Error::PoolTimedOut), Error::Database(_)));
    }

    #[test]
    fn a_full_disk_is_told_from_memory_that_is_not_shared() {
        assert_eq!(Hindrance::of(&coded(5386, "mmap")), Hindrance::NoSharedMemory);
        assert_eq!(Hindrance::of(&coded(4874, "size of -shm")), Hindrance::NoRoom);
        assert_eq!(Hindrance::of(&coded(11, "malformed")), Hindrance::Other);
    }
}
