//! Devices as another registry of the same issuer has them.

use cbor_schemas::{DeviceCertificateClaims, DeviceId, KeyOrigin, Profile, ProofLevel};
use protocol::key::PublicKey;

use crate::{
    clock::unix_seconds,
    registry::{
        export_lines::{CertificateLine, KeyLine, word},
        record::{CertificateStatus, CountsBy, Cti, KeyStatus, Policy, Provenance, Slot},
    },
    text,
};

/// A key as the other registry has it.
pub(super) struct Theirs {
    pub(super) key: PublicKey,
    pub(super) generation: u32,
    pub(super) status: KeyStatus,
    pub(super) counts_by: CountsBy,
    pub(super) provenance: Provenance,
    pub(super) proof: ProofLevel,
    pub(super) first_seen: u64,
    pub(super) last_seen: u64,
    /// When, and why.
    pub(super) revoked: Option<(u64, String)>,
    pub(super) certificates: Vec<Signed>,
}

impl Theirs {
    pub(super) fn is_settled(&self) -> bool {
        self.status != KeyStatus::Revoked && self.counts_by.is_settled()
    }
}

/// A certificate that our issuer signed about a key.
pub(super) struct Signed {
    pub(super) cti: Cti,
    pub(super) slot: Slot,
    pub(super) status: CertificateStatus,
    pub(super) issued_at: u64,
    pub(super) key_origin: KeyOrigin,
    pub(super) proof: ProofLevel,
    pub(super) object: Vec<u8>,
}

/// A device as the other registry has it.
pub(super) struct TheirDevice {
    pub(super) id: DeviceId,
    pub(super) profile: Profile,
    pub(super) nickname: Option<String>,
    pub(super) policy: Policy,
    pub(super) list_version: Option<u64>,
    pub(super) keys: Vec<Theirs>,
}

/// What a line says, with all that is signed in it verified.
pub(super) fn parse(issuer: &PublicKey, line: KeyLine) -> Result<(TheirDevice, Theirs), String> {
    let id: DeviceId = line.device.parse().map_err(|_| "device is no device ID")?;
    let mut x = [0; 32];
    hex::decode_to_slice(&line.x, &mut x).map_err(|_| "x is not 32 bytes in hex")?;
    let key = PublicKey::from_x(&x).map_err(|_| "x is no key")?;
    let mut certificates = Vec::new();
    for object in &line.signed {
        let object = hex::decode(object).map_err(|_| "a certificate is not in hex")?;
        certificates.push(certificate(issuer, object, &id, &key, &line.certificates)?);
    }
    let time = |text: &str| {
        unix_seconds(text)
            .ok_or_else(|| format!("{:?} is not a time, such as 2026-11-30T07:00:00Z (RFC 3339)", text::line(text)))
    };
    let revoked = match &line.revoked_at {
        Some(at) => Some((time(at)?, line.revoked_reason.clone().unwrap_or_default())),
        None => None,
    };
    let theirs = Theirs {
        key,
        generation: line.generation,
        status: word(&line.status, "status")?,
        counts_by: line.counts_by()?,
        provenance: word(&line.provenance, "provenance")?,
        proof: word(&line.proof, "proof")?,
        first_seen: time(&line.first_seen)?,
        last_seen: time(&line.last_seen)?,
        revoked,
        certificates,
    };
    if (theirs.status == KeyStatus::Revoked) != theirs.revoked.is_some() {
        return Err("status and revoked_at contradict each other".to_owned());
    }
    let device = TheirDevice {
        id,
        profile: word(&line.profile, "profile")?,
        nickname: line.nickname,
        policy: word(&line.policy, "policy")?,
        list_version: line.list_version,
        keys: Vec::new(),
    };
    Ok((device, theirs))
}

fn certificate(
    issuer: &PublicKey,
    object: Vec<u8>,
    device: &DeviceId,
    key: &PublicKey,
    said: &[CertificateLine],
) -> Result<Signed, String> {
    let claims = crate::certificate::check(&object, issuer, device, key).map_err(|flaw| {
        format!("what is signed is not a device certificate (COSE_Sign1) of this issuer about this key: {flaw}")
    })?;
    let cti = Cti(claims.cti);
    let said = said.iter().find(|said| said.cti == cti.to_string()).ok_or("nothing is said of a certificate")?;
    let DeviceCertificateClaims { issued_at, key_origin, proof, .. } = claims;
    let (slot, status) = (word(&said.slot, "slot")?, word(&said.status, "status of a certificate")?);
    Ok(Signed { cti, slot, status, issued_at, key_origin, proof, object })
}
