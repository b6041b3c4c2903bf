//! Keys that are seen, and what comes of them.

use cbor_schemas::{DeviceId, DeviceInfo, Profile, ProofLevel};
use protocol::key::{PublicKey, Thumbprint};

use super::record::Provenance;

/// A key seen in connection with a device ID.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// The ID, as the device claims it.
    pub device: DeviceId,
    /// The key.
    pub key: PublicKey,
    /// The generation, as the device claims it.
    pub generation: u32,
    /// The profile, as the device claims it.
    pub profile: Profile,
    /// Where it was seen.
    pub place: Place,
    /// [`ProofLevel::Proved`] after EDHOC with this key and a verified OSCORE response.
    pub proof: ProofLevel,
}

impl Observation {
    /// What a [`DeviceInfo`] says, about `key`: the one that is in it, or the one that EDHOC proved.
    pub fn new(info: &DeviceInfo<'_>, key: PublicKey, place: Place, proof: ProofLevel) -> Self {
        Self { device: info.device, key, generation: info.generation, profile: info.profile, place, proof }
    }

    pub(super) fn provenance(&self) -> Provenance {
        match (self.place, self.proof) {
            (Place::Trusted, _) => Provenance::Programming,
            (Place::Elsewhere, ProofLevel::Proved) => Provenance::Proved,
            (Place::Elsewhere, ProofLevel::Unproven) => Provenance::Reported,
        }
    }
}

/// Where something was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where devices are programmed: what is learned here is believed.
    Trusted,
    /// Anywhere else: what is learned here is only claimed.
    Elsewhere,
}

/// What an observation means for the device's keys. It is durable by the time the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Succession {
    /// The active key.
    Known,
    /// It does not count yet: it becomes active with its certificate.
    Pending,
    /// It is the device's key now, and becomes active with its certificate; these were revoked for it.
    Settled {
        /// The older keys.
        revoked: Vec<Thumbprint>,
    },
    /// The key became active now; these were revoked for it.
    Active {
        /// The older keys.
        revoked: Vec<Thumbprint>,
    },
}

/// What revoking did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// These keys are out now.
    Revoked(Vec<Thumbprint>),
    /// No key of the device counted any more.
    AlreadyRevoked,
}
