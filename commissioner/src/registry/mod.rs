//! The registry: devices, their keys and certificates, and what happened to them.
//!
//! Three promises, each in its own file:
//!
//! - [`succession`]: which key of a device counts, and who may change that; [`escrow`] for keys that were made here;
//! - [`journal`]: nothing is signed before the intent is durable, nothing is sent before the signed bytes are;
//! - [`audit`]: every change leaves an entry in a hash chain, in the same transaction.
//!
//! The rules are functions of records: a device that is changed is a `draft`, and what a rule leaves in it is written, and said in
//! the audit trail, by a `change`. Reading goes through a [`Reading`]. Both are transactions over the `rows`, which have all SQL.

pub mod audit;
mod change;
mod conflict;
mod draft;
mod entry;
mod error;
pub mod escrow;
mod event;
mod export;
mod export_lines;
mod handle;
mod history;
pub mod import;
pub mod journal;
mod judge;
pub mod lists;
mod lookup;
mod mine;
mod naming;
mod nickname;
mod observation;
mod open;
mod reading;
mod record;
mod release;
mod room;
mod rows;
pub mod seals;
mod snapshot;
pub mod stations;
pub mod succession;
#[cfg(test)]
pub(crate) mod testing;
pub mod times;
mod tokens;
pub mod vouchers;

pub use self::{
    conflict::Conflict,
    entry::{AuditEntry, AuditSummary, Tampering},
    error::{Error, Fault},
    handle::{Closer, Registry},
    import::Imported,
    journal::{INTENT_LIFETIME, Intent, NewCertificate, REQUEST_LIFETIME},
    lookup::Named,
    nickname::{BadNickname, Nickname},
    observation::{Observation, Place, Revocation, Succession},
    reading::Reading,
    record::{
        Certificate, CertificateStatus, CountsBy, Cti, Device, DeviceRecord, DeviceRef, EmptyName, FullRecord, Key,
        KeyStatus, List, Policy, Provenance, Revoked, Slot, StationScope, StationToken, UnknownWord,
    },
    release::Parting,
    room::Room,
    seals::{Seal, Sealed, Verification},
    stations::CertificateRequest,
    times::{ClockView, GrantAhead, Granted, HeldAhead, Standing, tell_of_clock_by},
    tokens::{TokenGrant, TokenRequest, Validity},
    vouchers::{VoucherGrant, VoucherRequest},
};
