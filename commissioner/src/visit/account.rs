//! What a device says of itself.

use cbor_schemas::{DeviceInfo, Profile, Watermarks};
use protocol::key::{KeyError, PublicKey};

use super::error::{COMM, Error};
use crate::client::{Client, Request, Response, content_format};
use crate::progress::Step;

/// What a device says of itself at `/comm`, and the key that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// All but the firmware.
    info: DeviceInfo<'static>,
    firmware: String,
    key: Option<PublicKey>,
}

impl Account {
    /// Asks for the account without protection, and adapts the client to the device.
    pub async fn read(client: &mut Client) -> Result<Self, Error> {
        let response = client.request(&get_comm()).await?.success().map_err(Error::NoDevice)?;
        let account = Self::decode(&response)?;
        client.adapt(&account.info());
        Ok(account)
    }

    /// The same for a link that may have no device: finds that out by CoAP pings, in 6 s, or 12 where it says something.
    pub async fn probe(client: &mut Client) -> Result<Self, Error> {
        client.probe().await?;
        Self::read(client).await
    }

    /// The contents.
    pub fn info(&self) -> DeviceInfo<'_> {
        DeviceInfo { firmware: &self.firmware, ..self.info }
    }

    /// The key that the device says it has; none if its storage is at fault.
    pub fn key(&self) -> Option<&PublicKey> {
        self.key.as_ref()
    }

    /// Name and version of the firmware, as the device has it.
    pub fn firmware(&self) -> String {
        self.firmware.clone()
    }

    /// The step of having read this account.
    pub fn step(&self) -> Step {
        let info = self.info();
        Step::DeviceFound {
            device: info.device.to_string(),
            firmware: self.firmware(),
            generation: info.generation,
            profile: info.profile.to_string(),
        }
    }

    /// The account with these contents.
    ///
    /// # Errors
    /// If its credential is no key.
    pub fn of(info: &DeviceInfo<'_>) -> Result<Self, KeyError> {
        let key = info.credential.as_ref().map(PublicKey::from_cose).transpose()?;
        Ok(Self { info: without_firmware(info), firmware: info.firmware.to_owned(), key })
    }

    pub(super) fn decode(response: &Response) -> Result<Self, Error> {
        Ok(Self::of(&DeviceInfo::decode(&response.payload)?)?)
    }

    /// The key to expect in a handshake.
    pub(crate) fn provable_key(&self) -> Result<PublicKey, Error> {
        match (self.info().profile, self.key) {
            (Profile::Minimal, _) => Err(Error::Minimal),
            (Profile::Full, None) => Err(Error::NoKey),
            (Profile::Full, Some(key)) => Ok(key),
        }
    }

    /// In what two accounts of a device differ; a token issued at `token_issued_at` may have moved a watermark, and the owner's is
    /// moved by whoever else visits the device for it.
    pub(super) fn differences(&self, later: &Self, token_issued_at: Option<u64>) -> Vec<&'static str> {
        let (a, b) = (self.info(), later.info());
        let moved = |before: Option<u64>, after: Option<u64>| after > before && after == token_issued_at;
        let watermarks_agree = |a: Watermarks, b: Watermarks| {
            (a.factory == b.factory || moved(a.factory, b.factory))
                && (a.owner == b.owner || (token_issued_at.is_some() && a.owner < b.owner))
        };
        let agree = [
            ("device ID", a.device == b.device),
            ("key", a.credential == b.credential),
            ("generation", a.generation == b.generation),
            ("key origin", a.key_origin == b.key_origin),
            ("factory slot", a.factory == b.factory),
            ("owner slot", a.owner == b.owner),
            ("claim policy", a.claim_policy == b.claim_policy),
            ("claim counter", a.claim_counter == b.claim_counter),
            ("watermarks", watermarks_agree(a.watermarks, b.watermarks)),
            ("nonce", a.nonce == b.nonce),
            ("firmware", a.firmware == b.firmware),
            ("profile", a.profile == b.profile),
            ("limits", a.limits == b.limits),
            ("speed", a.operation_ms == b.operation_ms),
            ("condition", a.condition == b.condition),
            ("features", a.features == b.features),
        ];
        agree.into_iter().filter(|(_, agree)| !agree).map(|(name, _)| name).collect()
    }
}

/// All that borrows nothing.
fn without_firmware(info: &DeviceInfo<'_>) -> DeviceInfo<'static> {
    DeviceInfo {
        firmware: "",
        device: info.device,
        credential: info.credential,
        generation: info.generation,
        key_origin: info.key_origin,
        factory: info.factory,
        owner: info.owner,
        claim_policy: info.claim_policy,
        claim_counter: info.claim_counter,
        watermarks: info.watermarks,
        nonce: info.nonce,
        profile: info.profile,
        limits: info.limits,
        operation_ms: info.operation_ms,
        condition: info.condition,
        features: info.features,
    }
}

pub(super) fn get_comm() -> Request {
    Request { accept: Some(content_format::CBOR), ..Request::get(COMM) }
}
