//! What can be wrong with the storage.

use embedded_storage::nor_flash::NorFlashErrorKind;

/// Why the state cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultReason {
    /// Neither half holds a whole image, though the flash is not blank.
    NoImage,
    /// The two images contradict each other.
    ImagesDisagree,
    /// The storage is written in a format that this firmware does not know.
    UnknownFormat,
    /// The storage was written by firmware 0.1, whose format is not converted.
    Firmware0_1,
    /// The factory slot's contents are not those that the image names.
    FactoryContents,
    /// The owner slot's contents are not those that the image names.
    OwnerContents,
    /// The keys of the device list are not those that the image names.
    List,
    /// The values of the product are not those that the image names.
    Values,
    /// The flash does not keep what is written to it.
    Unwritable,
    /// The driver of the flash reports an error.
    Flash,
}

/// Why an operation failed. The flash holds the old state or the new one: see [`Store::open`](super::Store::open).
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
    /// What was written twice did not read back.
    NotDurable,
}

impl FaultReason {
    /// What is said of it to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            FaultReason::NoImage => "no whole image is in the storage",
            FaultReason::ImagesDisagree => "the two images contradict each other",
            FaultReason::UnknownFormat => "the storage was written in an unknown format",
            FaultReason::Firmware0_1 => "the storage was written by firmware 0.1",
            FaultReason::FactoryContents => "the factory slot's contents are changed",
            FaultReason::OwnerContents => "the owner slot's contents are changed",
            FaultReason::List => "the keys of the device list are changed",
            FaultReason::Values => "the product's values are changed",
            FaultReason::Unwritable => "the flash does not keep what is written to it",
            FaultReason::Flash => "the flash driver reports an error",
        }
    }
}

impl core::fmt::Display for FaultReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
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
            Error::NotDurable => "the flash did not keep what was written; read the state again",
        })
    }
}

impl core::error::Error for Error {}
