//! What can happen to a registry.

use serde::Serialize;
use serde_json::Value;

use super::{
    error::Error,
    record::{CertificateStatus, Cti, Policy, Slot, StationScope},
};

/// What can happen. Keys are named by thumbprint and certificates by `cti`, both in hex.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Event {
    Initialised { issuer: String, station: String },
    KeySeen { key: String, provenance: &'static str },
    KeyRaised { key: String, provenance: &'static str },
    KeySettled { key: String, because: String },
    KeyActive { key: String, because: String },
    KeyPending { key: String, because: String },
    KeyRevoked { key: String, reason: String },
    KeyConflict { key: String, conflict: String },
    SeenTwice { conflict: String },
    RekeyBegun { key: String },
    ResetBegun { key: String },
    PolicySet { policy: Policy },
    InjectionBegun { key: String, successor: String },
    InjectionRefused { key: String },
    RestoreBegun { key: String, instead: String },
    Restored { key: String, instead: Vec<String> },
    Released { key: String },
    CertificateIntended { cti: Cti, key: String, slot: Slot, proof: &'static str },
    CertificateIssued { cti: Cti, sha256: String },
    CertificateInstalled { cti: Cti, receipt: bool },
    CertificateVoid { cti: Cti, reason: String },
    ListIntended { version: u64, mode: &'static str, keys: usize, sha256: String },
    ListSigned { version: u64, sha256: String },
    ListHeld { version: Option<u64> },
    NewerListSeen { version: u64 },
    ImpossibleListSeen { version: u64 },
    NewerListSettled { version: u64 },
    SealIntended {},
    Imported { head: String, entries: u64, added: u64 },
    CertificateImported { cti: Cti, status: CertificateStatus },
    BackupMade {},
    BackupRestored {},
    TokenIntended { station: String, audience: String, scope: Vec<(String, u8)>, expires_at: Option<u64> },
    CertificateRequested { cti: Cti, transcript: String },
    StationIntended { token: String, station: String, scope: StationScope, expires_at: u64 },
    StationSigned { token: String, sha256: String },
    StationRevoked { station: String },
    VoucherIntended { slot: Slot, owner: String, claim_counter: u32, expires_at: Option<u64> },
    Nickname { nickname: String },
    NicknameRemoved { nickname: String },
    ClockSetBack { from: u64, to: u64 },
}

impl Event {
    /// The name of the event, and its particulars as JSON text.
    pub(super) fn parts(&self) -> Result<(String, String), Error> {
        match serde_json::to_value(self) {
            Ok(Value::Object(object)) => object.into_iter().next().ok_or(Error::Corrupt("event")),
            _ => Err(Error::Corrupt("event")),
        }
        .map(|(name, particulars)| (name, particulars.to_string()))
    }
}
