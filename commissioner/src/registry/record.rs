//! What the registry holds, as the rest of the program and scripts see it.

use std::{fmt, str::FromStr};

use cbor_schemas::{DeviceId, KeyOrigin, ListMode, Profile, ProofLevel};
use protocol::key::PublicKey;
use rand_core::CryptoRngCore;
use serde::{Serialize, Serializer};

use crate::clock::rfc3339;

/// The least of an ID or of a thumbprint that names a device, in characters.
pub(super) const LEAST: usize = 4;

/// An enum whose values have one spelling: in the database, in JSON and for people.
macro_rules! spelled {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Its spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text { $($text => Ok(Self::$variant),)+ _ => Err(UnknownWord) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

/// Not one of the spellings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of the known words")]
pub struct UnknownWord;

spelled! {
    /// Whether a key counts.
    KeyStatus {
        /// The device's one key: it may be certified, and listed.
        Active = "active",
        /// Only reported, not certified yet, or in conflict with an older key.
        Pending = "pending",
        /// Out, for good.
        Revoked = "revoked",
    }
}

spelled! {
    /// By what a key counts, once it is settled that it is its device's key; or what it takes for that.
    CountsBy {
        /// Nobody vouches for it: a first key, or one that a device merely showed up with.
        Nothing = "nothing",
        /// Its device made it when we asked for it, in a session under a key that was ours and does not count: the user's word is
        /// wanted.
        Word = "word",
        /// It was its device's key until we gave the device up: it may be certified again.
        GivenUp = "given-up",
        /// By a report where devices are programmed, and no certificate is meant.
        Report = "report",
        /// By its certificate: it is active once that is installed.
        Certificate = "certificate",
    }
}

impl CountsBy {
    /// Whether it is settled that the key is its device's key.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Report | Self::Certificate)
    }
}

spelled! {
    /// Where a key was learned; later sightings only ever improve it.
    Provenance {
        /// In the trusted place.
        Programming = "programming",
        /// Elsewhere, proved by EDHOC.
        Proved = "proved",
        /// Read somewhere; anybody could have written it.
        Reported = "reported",
    }
}

pub(super) fn better(one: Provenance, other: Provenance) -> Provenance {
    let rank = |provenance| match provenance {
        Provenance::Programming => 2,
        Provenance::Proved => 1,
        Provenance::Reported => 0,
    };
    if rank(other) > rank(one) { other } else { one }
}

spelled! {
    /// What is to happen when a device shows up without the key that it had.
    Policy {
        /// Where devices are programmed, its new key takes the place of the old one at once.
        Rotate = "rotate",
        /// The key is to last: a new one counts only if the user says so.
        Keep = "keep",
        /// It is to get the old key back, of which a sealed copy is kept here. As [`Policy::Rotate`] where there is none.
        Restore = "restore",
        /// The key comes from its hardware, and never changes: a new one counts only if the user says so.
        Derive = "derive",
    }
}

spelled! {
    /// A slot of a device.
    Slot {
        /// The maker's.
        Factory = "factory",
        /// The owner's.
        Owner = "owner",
    }
}

spelled! {
    /// How far a certificate got.
    CertificateStatus {
        /// To be signed, or signed but never stored: never sent, in any case.
        Intended = "intended",
        /// Signed, and perhaps sent.
        Issued = "issued",
        /// On the device: there is a receipt, or it was read back.
        Installed = "installed",
        /// A newer one took its slot.
        Replaced = "replaced",
        /// Gone with a reset of the device.
        Removed = "removed",
        /// Its key was revoked.
        Revoked = "revoked",
        /// Given up before it was installed.
        Void = "void",
    }
}

spelled! {
    /// What a station elsewhere may do.
    StationScope {
        /// Install certificates, and read what is there.
        Commission = "commission",
        /// Put the list on devices.
        Distribute = "distribute",
        /// All that an owner's own station may.
        Everything = "everything",
    }
}

/// The CWT ID (`cti`) of a certificate: 8 random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cti(pub [u8; 8]);

impl Cti {
    /// A new one.
    pub fn random(rng: &mut impl CryptoRngCore) -> Self {
        let mut cti = [0; 8];
        rng.fill_bytes(&mut cti);
        Self(cti)
    }
}

impl fmt::Display for Cti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Cti {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A device with all its keys, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The device ID.
    pub id: DeviceId,
    /// Its name for people.
    pub nickname: Option<String>,
    /// [`Profile::Full`] if it was ever seen so.
    pub profile: Profile,
    /// When its ID was first heard of, Unix seconds.
    pub first_seen: u64,
    /// When it was last heard of, Unix seconds.
    pub last_seen: u64,
    /// The version of the device list that it was last seen to hold.
    pub list_version: Option<u64>,
    /// What is to happen when it shows up without its key.
    pub policy: Policy,
    /// Its keys, oldest first; never empty.
    pub keys: Vec<Key>,
}

impl Device {
    /// The key that counts now.
    pub fn active(&self) -> Option<&Key> {
        self.keys.iter().find(|key| key.status == KeyStatus::Active)
    }

    /// The key that the device is known to have: the active one, or the one that waits for its certificate.
    pub fn settled(&self) -> Option<&Key> {
        self.keys.iter().find(|key| key.is_settled())
    }

    /// The key with this x-coordinate.
    pub fn key(&self, key: &PublicKey) -> Option<&Key> {
        self.keys.iter().find(|known| known.x == *key.x())
    }

    /// The key to show where there is room for one: the settled one, else the newest pending one, else the newest.
    pub fn current(&self) -> Option<&Key> {
        let pending = || self.keys.iter().rfind(|key| key.status == KeyStatus::Pending);
        self.settled().or_else(pending).or_else(|| self.keys.last())
    }

    /// The record of one of the device's keys with all that is known of it, for other programs and other registries.
    pub fn full_record<'a>(&'a self, key: &'a Key) -> FullRecord<'a> {
        let objects = key.certificates.iter().filter_map(|certificate| certificate.object.as_deref());
        let signed = objects.map(hex::encode).collect();
        FullRecord { record: self.record(key), counts_by: key.counts_by, x: hex::encode(key.x), signed }
    }

    /// The record that `--json` promises, for one of the device's keys.
    pub fn record<'a>(&'a self, key: &'a Key) -> DeviceRecord<'a> {
        DeviceRecord {
            device: self.id.as_str(),
            thumbprint: &key.thumbprint,
            generation: key.generation,
            status: key.status,
            provenance: key.provenance,
            proof: key.proof.as_str(),
            profile: self.profile.as_str(),
            nickname: self.nickname.as_deref(),
            first_seen: rfc3339(key.first_seen),
            last_seen: rfc3339(key.last_seen),
            revoked_at: key.revoked.as_ref().map(|revoked| rfc3339(revoked.at)),
            revoked_reason: key.revoked.as_ref().map(|revoked| revoked.reason.as_str()),
            certificates: key.certificates.iter().map(Certificate::record).collect(),
            list_version: self.list_version.filter(|_| key.is_settled()),
            policy: self.policy,
            escrowed: key.escrowed,
        }
    }
}

/// A key of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The x-coordinate, which names the key.
    pub x: [u8; 32],
    /// The thumbprint in hex, 64 digits.
    pub thumbprint: String,
    /// Whether it counts.
    pub status: KeyStatus,
    /// By what it counts.
    pub counts_by: CountsBy,
    /// Whether it counts as mine: for the list, for exports and for the server.
    pub mine: bool,
    /// Where it was learned.
    pub provenance: Provenance,
    /// Whether the device ever proved to have it.
    pub proof: ProofLevel,
    /// What the device says about how many keys it made since its last erase.
    pub generation: u32,
    /// When it was first heard of, Unix seconds.
    pub first_seen: u64,
    /// When it was last heard of, Unix seconds.
    pub last_seen: u64,
    /// Since when it is out, if it is.
    pub revoked: Option<Revoked>,
    /// Whether a sealed copy of the private key is kept here.
    pub escrowed: bool,
    /// Its certificates, oldest first.
    pub certificates: Vec<Certificate>,
}

impl Key {
    /// Whether it is settled that this is the device's key.
    pub fn is_settled(&self) -> bool {
        self.status != KeyStatus::Revoked && self.counts_by.is_settled()
    }

    /// Whether its device ever was, or may have been, ours by this key: it was settled, or came from one that was ours, or a
    /// certificate for its owner slot was signed.
    ///
    /// A key that a device merely shows, and that nobody accepted, is none of these, whatever ID it comes with: whoever claims
    /// an ID gets no visit of our station by that, and nobody's board is claimed for us. What is made in a session under a key
    /// that was ours ([`CountsBy::Word`]) is one of these: whoever holds that key, the device or a thief, is visited by us
    /// already, so the new key lets nobody in who was not.
    pub fn was_ours(&self) -> bool {
        let signed = |certificate: &Certificate| certificate.slot == Slot::Owner && certificate.object.is_some();
        self.counts_by != CountsBy::Nothing || self.certificates.iter().any(signed)
    }

    /// Whether its device can be visited for `rekey` and `reset` alone: it was ours by this key, which is revoked, or waits for
    /// the user's word. What comes of such a visit never makes a key count.
    pub fn is_mendable(&self) -> bool {
        match self.status {
            KeyStatus::Revoked => self.was_ours(),
            _ => self.counts_by == CountsBy::Word,
        }
    }

    /// Whether we gave its device up while it was the device's key. Registries of before tell by the certificate alone.
    pub fn was_given_up(&self) -> bool {
        let removed = |certificate: &Certificate| certificate.status == CertificateStatus::Removed;
        self.counts_by == CountsBy::GivenUp || self.certificates.iter().any(removed)
    }

    /// The certificate that is in a slot of the device, as far as we know.
    pub fn installed(&self, slot: Slot) -> Option<&Certificate> {
        let in_slot = |certificate: &&Certificate| certificate.slot == slot;
        self.certificates.iter().filter(in_slot).rfind(|it| it.status == CertificateStatus::Installed)
    }
}

/// Since when and why a key is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Unix seconds.
    pub at: u64,
    /// Why.
    pub reason: String,
}

/// A device certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its ID.
    pub cti: Cti,
    /// The slot it is for.
    pub slot: Slot,
    /// How far it got.
    pub status: CertificateStatus,
    /// Its `iat`, Unix seconds.
    pub issued_at: u64,
    /// What it says about where the key came from.
    pub key_origin: KeyOrigin,
    /// Whether it says that possession of the key was proved.
    pub proof: ProofLevel,
    /// The signed object; none while it is [`CertificateStatus::Intended`].
    pub object: Option<Vec<u8>>,
    /// The device's receipt, CBOR.
    pub receipt: Option<Vec<u8>>,
    /// The handshake that proved the key of a certificate that is to be signed elsewhere: its TH_4 (RFC 9528).
    pub transcript: Option<[u8; 32]>,
}

impl Certificate {
    fn record(&self) -> CertificateRecord {
        CertificateRecord {
            slot: self.slot,
            cti: self.cti,
            issued_at: rfc3339(self.issued_at),
            status: self.status,
            proof: self.proof.as_str(),
        }
    }
}

/// A list that may be signed, or is: it is in the registry, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its version.
    pub version: u64,
    /// What its keys mean.
    pub mode: ListMode,
    /// How many keys it has.
    pub keys: usize,
    pub(super) claims: Vec<u8>,
    pub(super) object: Option<Vec<u8>>,
    /// Whether it was signed elsewhere: then it vouches for the audit trail there, and not for ours.
    pub(super) is_elsewhere: bool,
}

impl List {
    /// What to sign: the encoded claims.
    pub fn claims(&self) -> &[u8] {
        &self.claims
    }

    /// The signed list, if it is signed.
    pub fn object(&self) -> Option<&[u8]> {
        self.object.as_deref()
    }

    /// The list with its signature.
    pub fn with_object(self, object: Vec<u8>) -> Self {
        Self { object: Some(object), ..self }
    }
}

/// A token for a station elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StationToken {
    /// Names it in the registry.
    pub id: String,
    /// The thumbprint of the station's key.
    pub station: String,
    /// What it allows.
    pub scope: StationScope,
    /// Unix seconds.
    pub issued_at: u64,
    /// Unix seconds.
    pub expires_at: u64,
    /// Unix seconds.
    pub revoked_at: Option<u64>,
}

impl StationToken {
    /// Whether it is neither over nor revoked.
    pub fn is_valid(&self, now: u64) -> bool {
        self.revoked_at.is_none() && self.expires_at >= now
    }
}

/// A device record as `--json` promises it: one per key.
#[derive(Debug, Serialize)]
pub struct DeviceRecord<'a> {
    device: &'a str,
    thumbprint: &'a str,
    generation: u32,
    status: KeyStatus,
    provenance: Provenance,
    proof: &'static str,
    profile: &'static str,
    nickname: Option<&'a str>,
    first_seen: String,
    last_seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_reason: Option<&'a str>,
    certificates: Vec<CertificateRecord>,
    list_version: Option<u64>,
    policy: Policy,
    escrowed: bool,
}

/// A device record with the key itself, and its certificates as they were signed.
#[derive(Debug, Serialize)]
pub struct FullRecord<'a> {
    #[serde(flatten)]
    record: DeviceRecord<'a>,
    /// By what the key counts.
    counts_by: CountsBy,
    /// The x-coordinate, hex.
    x: String,
    /// Signed certificates, hex.
    signed: Vec<String>,
}

/// A certificate within a [`DeviceRecord`].
#[derive(Debug, Serialize)]
struct CertificateRecord {
    slot: Slot,
    cti: Cti,
    issued_at: String,
    status: CertificateStatus,
    proof: &'static str,
}

/// How the user names a device: an ID, a part of what is distinctive of it, the beginning of a key's thumbprint, or a nickname.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRef(String);

impl DeviceRef {
    /// The text the user gave.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceRef {
    type Err = EmptyName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Err(EmptyName) } else { Ok(Self(text.to_owned())) }
    }
}

impl From<DeviceId> for DeviceRef {
    fn from(id: DeviceId) -> Self {
        Self(id.as_str().to_owned())
    }
}

/// No text at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an empty text names no device; give an ID, a part of one or of a thumbprint, or a nickname")]
pub struct EmptyName;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_read_back() {
        for status in [KeyStatus::Active, KeyStatus::Pending, KeyStatus::Revoked] {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        for by in [CountsBy::Nothing, CountsBy::Word, CountsBy::GivenUp, CountsBy::Report, CountsBy::Certificate] {
            assert_eq!(by.as_str().parse(), Ok(by));
        }
        for policy in [Policy::Rotate, Policy::Keep, Policy::Restore, Policy::Derive] {
            assert_eq!(policy.as_str().parse(), Ok(policy));
        }
        for provenance in [Provenance::Programming, Provenance::Proved, Provenance::Reported] {
            assert_eq!(provenance.to_string().parse(), Ok(provenance));
        }
        assert_eq!("Active".parse::<KeyStatus>(), Err(UnknownWord));
        assert_eq!(serde_json::to_string(&Slot::Owner).unwrap(), "\"owner\"");
    }
}
