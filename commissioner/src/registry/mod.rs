//! The registry: devices, their keys and certificates, and what happened to them.
//!
//! Three promises, each in its own file:
//!
//! - [`succession`]: which key of a device counts, and who may change that; [`escrow`] for keys that were made here;
//! - [`journal`]: nothing is signed before the intent is durable, nothing is sent before the signed bytes are;
//! - [`audit`]: every change leaves an entry in a hash chain, in the same transaction.
//!
//! The SQL is one text for SQLite and PostgreSQL, so it keeps to TEXT, BIGINT and BYTEA.

pub mod audit;
mod change;
mod conflict;
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
pub mod lists;
mod lookup;
mod mine;
mod naming;
mod nickname;
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
pub mod vouchers;

pub use self::{
    audit::AuditSummary,
    conflict::Conflict,
    entry::{AuditEntry, Tampering},
    error::Error,
    handle::{Closer, Registry},
    import::Imported,
    journal::{INTENT_LIFETIME, Intent, NewCertificate, REQUEST_LIFETIME, TokenGrant, TokenRequest, Validity},
    lists::List,
    lookup::Named,
    nickname::{BadNickname, Nickname},
    reading::Reading,
    record::{
        Certificate, CertificateStatus, CountsBy, Cti, Device, DeviceRecord, DeviceRef, EmptyName, FullRecord, Key,
        KeyStatus, Policy, Provenance, Revoked, Slot, StationScope, UnknownWord,
    },
    release::Parting,
    room::Room,
    seals::{Seal, Sealed, Verdict},
    stations::{CertificateRequest, StationToken},
    succession::{Observation, Place, Revocation, Succession},
    times::{ClockView, GrantAhead, Granted, HeldAhead, Standing},
    vouchers::{VoucherGrant, VoucherRequest},
};
