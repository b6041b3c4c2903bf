//! What can be wrong with the storage.

use embedded_storage::nor_flash::NorFlashErrorKind;

/// Why the state cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultReason {
    /// A commit record is missing, though the flash is not blank.
    RecordMissing,
    /// The two commit records contradict each other.
    RecordsDisagree,
    /// A commit record or a mark is written in a format that this firmware does not know.
    UnknownFormat,
    /// The private key is missing, or not the one that the record names.
    Key,
    /// The factory slot's contents are missing, or not those that the record names.
    FactoryContents,
    /// The owner slot's contents are missing, or not those that the record names.
    OwnerContents,
    /// The keys of the device list are not those that the record names.
    List,
    /// The values of the product are not those that the record names.
    Values,
    /// A range can no longer be read as a map of items.
    Unreadable,
    /// The flash does not keep what is written to it.
    Unwritable,
    /// The driver of the flash reports an error.
    Flash,
}

/// Why an operation failed. The flash holds the old state or the new one: see [`Store::reload`](super::Store::reload).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The driver of the flash reports an error.
    Flash(NorFlashErrorKind),
    /// The state cannot be trusted.
    Fault(FaultReason),
    /// A key is due first: see [`Store::provide_key`](super::Store::provide_key).
    NeedsKey,
    /// No key is due: a new one takes [`Store::rekey`](super::Store::rekey).
    KeyNotNeeded,
    /// Contents of a slot have 1 to [`MAX_CONTENTS_LEN`](super::MAX_CONTENTS_LEN) bytes.
    ContentsLength,
    /// A counter cannot count further.
    Exhausted,
    /// No room in a range.
    Full,
    /// What was written twice did not read back.
    NotDurable,
}

impl core::fmt::Display for FaultReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            FaultReason::RecordMissing => "the commit record is missing",
            FaultReason::RecordsDisagree => "the commit records contradict each other",
            FaultReason::UnknownFormat => "the storage was written in an unknown format",
            FaultReason::Key => "the private key is missing or changed",
            FaultReason::FactoryContents => "the factory slot's contents are missing or changed",
            FaultReason::OwnerContents => "the owner slot's contents are missing or changed",
            FaultReason::List => "the keys of the device list are changed",
            FaultReason::Values => "the product's values are changed",
            FaultReason::Unreadable => "the storage cannot be read",
            FaultReason::Unwritable => "the flash does not keep what is written to it",
            FaultReason::Flash => "the flash driver reports an error",
        })
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Error::Flash(_) => "the flash driver reports an error; read the state again",
            Error::Fault(reason) => return write!(f, "{reason}; erase the device's storage to begin again"),
            Error::NeedsKey => "the device has no key yet; provide one",
            Error::KeyNotNeeded => "the device has a key; use rekey",
            Error::ContentsLength => "contents of a slot are 1 to 640 bytes long",
            Error::Exhausted => "a counter is at its end; erase the device's storage to begin again",
            Error::Full => "no room in a storage range; give it more pages",
            Error::NotDurable => "the flash did not keep what was written; read the state again",
        })
    }
}

impl core::error::Error for Error {}
