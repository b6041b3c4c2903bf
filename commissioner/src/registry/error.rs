//! Why the registry did not do it.

use std::{
    error,
    path::{Path, PathBuf},
};

use cbor_schemas::{DeviceId, IssuerId};

use super::{
    conflict::Conflict,
    entry::Tampering,
    record::{CertificateStatus, Cti, LEAST},
};
use crate::{
    clock::rfc3339,
    state_dir::{self, REGISTRY},
    text,
};

/// What a registry is called in an error.
fn name(file: Option<&Path>) -> String {
    file.map_or_else(|| format!("{REGISTRY} in the state directory"), |file| file.display().to_string())
}

fn way_out(file: Option<&Path>) -> String {
    match file {
        Some(file) => state_dir::way_out(file),
        None => format!(
            "Move {REGISTRY}* away from the state directory, and put back your newest backup: `commissioner restore-backup FILE`"
        ),
    }
}

/// What the database itself said.
pub type Fault = Box<dyn error::Error + Send + Sync>;

/// Why the registry did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no registry, or its making was interrupted.
    #[error("there is no registry in {0}; run `commissioner init` first")]
    NotInitialised(PathBuf),
    /// A newer program wrote it.
    #[error(
        "the registry {path} has schema version {version}, written by a newer commissioner; use that one, or a newer"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema's version.
        version: i64,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] state_dir::Error),
    /// The database failed.
    #[error(
        "the registry's database failed: {0}; see to it that the disk has room and works, then repeat the command: it goes on from what is on record"
    )]
    Database(#[source] Fault),
    /// The registry's file, or what it is on, takes no changes.
    #[error("the registry cannot be written to here: {0}; have the state directory where it can be")]
    ReadOnly(#[source] Fault),
    /// The database is not whole, which the statement that came upon it may be the first to notice.
    #[error("the registry {} is damaged: {what}. {}", name(file.as_deref()), way_out(file.as_deref()))]
    Damaged {
        /// The file, if it was found while it was opened.
        file: Option<PathBuf>,
        /// What the database said.
        what: String,
    },
    /// The registry, or the issuer's key beside it, is from another state directory.
    #[error(
        "the registry {} belongs to issuer {of}, and the issuer's key beside it is that of issuer {key}; move away whichever is \
         not yours, and put back your newest backup: `commissioner --state-dir {} restore-backup FILE`",
        path.display(), state_dir::parent(path).display()
    )]
    OtherKey {
        /// The registry's file.
        path: PathBuf,
        /// Whose the registry is.
        of: IssuerId,
        /// Whose the key is.
        key: IssuerId,
    },
    /// What was written last is not in the registry's file, and cannot be put there.
    #[error(
        "the registry {0} has newer changes beside it (in its -wal or -journal file), and cannot be written to here; run any \
         command once where it can be, such as `commissioner devices`"
    )]
    Unmerged(PathBuf),
    /// The schema could not be brought up to date.
    #[error("the registry's schema could not be brought up to date: {0}. {advice}", advice = way_out(None))]
    Migration(#[source] Fault),
    /// Something is in the database that was never written by this program.
    #[error("the registry holds an impossible value for {0}. {advice}", advice = way_out(None))]
    Corrupt(&'static str),
    /// The audit trail does not hold.
    #[error("audit entry {seq} {what}; compare the registry with your backup")]
    Tampered {
        /// The first entry that does not fit.
        seq: u64,
        /// What is wrong with it.
        what: Tampering,
    },
    /// A history that was imported does not hold.
    #[error("of the imported history that ends with {head}, the entry before entry {before} {what}; import it again")]
    TamperedImport {
        /// The hash of its last entry.
        head: String,
        /// The entry behind the first one that does not fit.
        before: u64,
        /// What is wrong with it.
        what: Tampering,
    },
    /// The audit trail holds, and is not the one that was signed.
    #[error(
        "{by}, signed at {time}, seals an audit trail that is not this one: entries before that time were changed, and the \
         chain was computed anew; compare the registry with your backup"
    )]
    Rewritten {
        /// The list or seal.
        by: String,
        /// When it was signed.
        time: String,
    },
    /// Something that should be a signature of our issuer is none.
    #[error("{0} is no list or seal that this registry's issuer signed; compare the registry with your backup")]
    BadSeal(String),

    /// Nothing goes by this name.
    #[error("no device is called {0}; `commissioner devices --all` lists them")]
    UnknownDevice(String),
    /// More than one device goes by this name.
    #[error("{name} may be one of {}; give more of the ID or thumbprint", candidates.len())]
    Ambiguous {
        /// What the user wrote.
        name: String,
        /// The devices it could be, with their nicknames.
        candidates: Vec<String>,
    },
    /// What was typed tells devices not apart.
    #[error(
        "{name} is too short to name a device; give its ID, its nickname, or at least {} characters of what is distinctive of its ID, \
         or of a thumbprint",
        LEAST
    )]
    TooShort {
        /// What the user wrote.
        name: String,
        /// The devices it could be, with their nicknames.
        candidates: Vec<String>,
    },
    /// The nickname reads like another device.
    #[error(
        "{nickname} is a part of the ID or of a key of {device}, and would be taken for it; choose another nickname"
    )]
    NicknameMisleads {
        /// The name.
        nickname: String,
        /// Whose it is.
        device: String,
    },
    /// The nickname is another device's.
    #[error("{nickname} is the nickname of {device} already, or reads like it; choose another")]
    NicknameTaken {
        /// The name.
        nickname: String,
        /// Whose it is.
        device: String,
    },

    /// What was seen contradicts what is known.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The clock went back.
    #[error("the clock says {}, and something was signed at {}, which is later; nothing is signed until the clock has caught up. \
        If it is the clock of then that was wrong, `commissioner clock` shows the way back",
        rfc3339(*now), rfc3339(*last))]
    ClockBehind {
        /// What the clock says, Unix seconds.
        now: u64,
        /// The time of the last signature.
        last: u64,
    },
    /// The clock jumped ahead, or nothing was signed for a while.
    #[error("the clock says {}, more than a day after the last signature, or the beginning, at {}; if the clock is right, repeat \
        with --clock-ok, and else see `commissioner clock`",
        rfc3339(*now), rfc3339(*last))]
    ClockAhead {
        /// What the clock says, Unix seconds.
        now: u64,
        /// The time of the last signature; before the first one, of the registry's beginning.
        last: u64,
    },
    /// A device of ours holds a list that this registry does not know.
    #[error(
        "{device} holds a version {version} of the device list that is not in this registry; was it put back from an old \
         backup? Nothing is signed until the newer registry is merged, or, if the device lies, until `commissioner revoke {device}`"
    )]
    NewerList {
        /// The device.
        device: String,
        /// The version.
        version: u64,
    },
    /// A device that we have just claimed says that it holds a list, which it cannot.
    #[error(
        "{device} says that it holds a version {version} of the device list, which is not in this registry; but it was claimed a \
         moment ago, and nobody owned it, so it has none: it does not tell the truth. Find out what it is, and \
         `commissioner revoke {device}`; all others are as they were"
    )]
    ImpossibleList {
        /// The device.
        device: String,
        /// The version.
        version: u64,
    },
    /// A certificate for a key that may not have one.
    #[error("no certificate for key {key}: {reason}")]
    NotIssuable {
        /// The key's thumbprint.
        key: String,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// No station, or several.
    #[error(
        "the keys of {} with a valid token have a thumbprint that begins with {prefix:?}; `commissioner station list` shows them",
        text::count(*found, "station", "stations")
    )]
    NoStation {
        /// What was given.
        prefix: String,
        /// How many there are.
        found: usize,
    },
    /// What was signed elsewhere is not what was asked for here.
    #[error("this cannot be taken: {reason}; nothing was changed")]
    NotRequested {
        /// Why not.
        reason: &'static str,
    },
    /// A voucher for a device that we cannot vouch for.
    #[error("no voucher for {device}: {reason}")]
    NoVoucher {
        /// The device.
        device: DeviceId,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// A key that the registry does not know, or not with this device.
    #[error("key {key} is not in the registry as one of {device}; read the device again")]
    UnknownKey {
        /// The device.
        device: DeviceId,
        /// The key's thumbprint.
        key: String,
    },
    /// A certificate of ours that the registry never wrote down.
    #[error(
        "the registry knows no certificate {0}; was it put back from an old backup? Merge the newer one before anything is signed"
    )]
    UnknownCertificate(Cti),
    /// A step of the journal out of order.
    #[error("certificate {cti} is {status}, so it cannot become {wanted}; commission the device again")]
    OutOfOrder {
        /// The certificate.
        cti: Cti,
        /// How far it got.
        status: CertificateStatus,
        /// What it should have become.
        wanted: CertificateStatus,
    },
    /// An export that cannot be merged.
    #[error("line {line} cannot be imported: {what}; nothing was changed")]
    NotImportable {
        /// The line, from 1.
        line: u64,
        /// Why.
        what: String,
    },
    /// An export of somebody else.
    #[error("this is the export of another issuer ({0}), whose devices are not yours; nothing was changed")]
    OtherRegistry(String),
    /// A policy that needs a copy of the key.
    #[error(
        "no copy of the key of {0} is kept here, so it could not be restored; `commissioner commission --escrow` makes one"
    )]
    NoCopy(String),
    /// The receipt is about another key.
    #[error("the receipt for certificate {0} names another key; the device did not store what it was sent")]
    WrongReceipt(Cti),
}
