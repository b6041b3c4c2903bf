//! How what is seen contradicts what is known.

use cbor_schemas::DeviceId;
use protocol::key::PublicKey;

use super::record::{KeyStatus, Policy};
use crate::{clock::rfc3339, progress::short};

/// How an observation contradicts the registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Another key than before. It is kept as pending.
    #[error(
        "{}; {}",
        self.what_happened(),
        advice(*policy)
    )]
    KeyChange {
        /// The device's ID.
        device: String,
        /// The new key's thumbprint.
        key: String,
        /// The keys known before, and their status; oldest first.
        older: Vec<(String, KeyStatus)>,
        /// What is to happen to this device's keys.
        policy: Policy,
    },
    /// A key that is out shows up again.
    #[error(
        "{device} uses key {}, revoked on {} ({reason}); find out who has this device",
        short(key), rfc3339(*at)
    )]
    RevokedKey {
        /// The device's ID.
        device: String,
        /// The key's thumbprint.
        key: String,
        /// Since when, Unix seconds.
        at: u64,
        /// Why.
        reason: String,
    },
    /// Two IDs, one key.
    #[error("{device} uses key {}, which is the key of {other}; one of them is a copy: erase both", short(key))]
    SharedKey {
        /// The device that showed the key now.
        device: String,
        /// The key's thumbprint.
        key: String,
        /// The device known by it.
        other: String,
    },
    /// A key of ours, at a device.
    #[error(
        "{device} claims the key {} of this {whose}, which no device has; do not trust what answers or was written there: if that \
         device can prove the key, the {whose}'s key is not yours alone",
        short(key)
    )]
    OwnKey {
        /// The device that showed the key.
        device: String,
        /// The key's thumbprint.
        key: String,
        /// `issuer` or `station`.
        whose: &'static str,
    },
    /// A device that could prove its key now says it cannot.
    #[error(
        "{device} claims the minimal profile, but was seen with the full one before; do not trust what answers, look at the device"
    )]
    Downgrade {
        /// The device's ID.
        device: String,
        /// The key's thumbprint.
        key: String,
    },
    /// One ID, two devices.
    #[error(
        "{device} answers at more than one place at once ({}); at most one of them is the device: find it, and erase the others",
        places.join(", ")
    )]
    Twins {
        /// The ID.
        device: String,
        /// Where.
        places: Vec<String>,
    },
    /// Two registries disagree.
    #[error(
        "{device} has the active key {} here, and {} in the registry that was imported; that one is pending now: commission the \
         device, with --accept-new-key if that is the one it has",
        short(active),
        short(key)
    )]
    TwoActive {
        /// The device's ID.
        device: String,
        /// The other registry's key.
        key: String,
        /// Ours.
        active: String,
    },
    /// Two devices, or two keys, where one was expected.
    #[error(
        "this run is about {first} with key {}, but {device} with key {} showed up in it too; nothing was changed for that \
         one: run one board at a time, and look for what else prints report lines",
        short(first_key),
        short(key)
    )]
    Second {
        /// The device that showed up second; it may be the same one with another key.
        device: String,
        /// Its key's thumbprint.
        key: String,
        /// The device that the run is about.
        first: String,
        /// Its key's thumbprint.
        first_key: String,
    },
}

impl Conflict {
    /// A key change in words, without what to do: that depends on where it is found out. Other conflicts say both.
    pub fn what_happened(&self) -> String {
        match self {
            Self::KeyChange { device, key, older, .. } => {
                format!("{device} has a new key {}, not the {} known before", short(key), newest(older))
            }
            other => other.to_string(),
        }
    }
}

impl Conflict {
    pub(super) fn own_key(device: &DeviceId, key: &PublicKey, whose: &'static str) -> Self {
        Self::OwnKey { device: device.to_string(), key: key.thumbprint().to_string(), whose }
    }
}

fn advice(policy: Policy) -> &'static str {
    match policy {
        Policy::Rotate => {
            "if you erased the device yourself, `commissioner commission --accept-new-key` takes the new one (or --trusted \
             where you program devices)"
        }
        Policy::Keep => {
            "by its policy it keeps its key; if you erased the device yourself, `commissioner commission --accept-new-key` \
             takes the new one"
        }
        Policy::Restore => {
            "a copy of that is kept: `commissioner restore` puts it back, and `commissioner commission --accept-new-key` gives \
             it up"
        }
        Policy::Derive => {
            "which comes from its hardware and should never change; find out why it did, and only then take the new one by \
             `commissioner commission --accept-new-key`"
        }
    }
}

/// The key that counted, or else the newest one, and how many others there are.
fn newest(keys: &[(String, KeyStatus)]) -> String {
    let Some((thumbprint, status)) =
        keys.iter().find(|(_, status)| *status == KeyStatus::Active).or_else(|| keys.last())
    else {
        return "one".to_owned();
    };
    let key = format!("{} ({status})", short(thumbprint));
    match keys.len() {
        1 => key,
        2 => format!("{key} or the other one"),
        all => format!("{key} or the {} other ones", all - 1),
    }
}
