//! A visit to a device: who it says it is, proof of that, and what may be believed.
//!
//! `GET /comm` is answered to anyone, and by anyone. An [`Account`] read that way says which key to expect at the other
//! end, and no more. A [`Visit`] runs EDHOC with that key and reads `/comm` again under OSCORE: only this copy counts,
//! and if it differs from the first one, somebody meddles and the visit is over.
//!
//! A device of the `minimal` profile cannot do EDHOC. A visit to it proves nothing: who makes one relies on the cable.

use std::fmt;
use std::time::Duration;

use cbor_schemas::{Aif, Audience, DeviceInfo, Method, Profile, ProofLevel, StationTokenClaims, Watermarks};
use protocol::edhoc::Transfer;
use protocol::key::{KeyError, PrivateKey, PublicKey};
use tokio::time::{Instant, timeout};

use crate::certificate;
use crate::client::{self, Client, Code, Refusal, Request, Response, content_format};
use crate::clock::rfc3339;
use crate::crash::{self, Point};
use crate::issuer::{self, Issuer};
use crate::progress::{Progress, Step};
use crate::registry::{self, Parting, Registry, TokenRequest, Validity};
use crate::session::{self, Session};

const COMM: &str = "/comm";
const AUTHZ_INFO: &str = "/authz-info";
/// How long a token is presented again and again to a device that verifies no more of them for now.
const TOKEN_PATIENCE: Duration = Duration::from_secs(40);
/// After how long that is spoken of.
const UNUSUAL: Duration = Duration::from_secs(15);
/// How long we wait for such a device at a time, whatever it asks for.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How long a visit may take to begin, beside what the device says it needs: the handshakes, and the token.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the slowest thing is asked of the device meanwhile, some of them twice.
const SLOW_ANSWERS: u32 = 8;
/// How often a handshake is begun with a device that forgot the last one for others', and how long we wait between two.
const HANDSHAKES: u32 = 8;
const HANDSHAKE_WAIT: Duration = Duration::from_millis(250);

/// Why a visit came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered, or not as CoAP wants it.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// No session, or it broke.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// Something speaks CoAP there, but it has no `/comm`.
    #[error("what answers is no commissioning device ({COMM}: {0}); check the link")]
    NoDevice(Refusal),
    /// The device does not give us `/comm` under protection.
    #[error("the device refused with {0}")]
    Refused(#[from] Refusal),
    /// `/comm` cannot be read.
    #[error("the device's {COMM} cannot be read: {0}; its firmware or this commissioner is too old")]
    Malformed(#[from] cbor_schemas::Error),
    /// `/comm` has a key that is none.
    #[error("the device's credential cannot be used: {0}; its firmware is faulty")]
    Credential(#[from] KeyError),
    /// The device has no key.
    #[error("the device's storage is at fault and it has no key; erase its flash and program it again")]
    NoKey,
    /// The device does not speak EDHOC.
    #[error("the device has the minimal profile and cannot prove its key; this needs a device of the full profile")]
    Minimal,
    /// The device speaks EDHOC, so it has to.
    #[error("the device can prove its key, so nothing less will do")]
    NotMinimal,
    /// The device has no owner, and so no station either.
    #[error("the device has no owner slot: it knows no station, and takes neither a list nor a reset nor another key")]
    NoOwnerSlot,
    /// The device says one thing to anyone and another under protection.
    #[error(
        "the device's {COMM} under protection differs from what was answered before ({}); \
         somebody may be meddling with the link, so check it, then repeat the command", .0.join(", ")
    )]
    Differs(Vec<&'static str>),
    /// The device does not accept the token.
    #[error("the device does not accept this station: {0}; is it still yours, and was it claimed by this issuer?")]
    TokenRefused(Refusal),
    /// The same, from a device that we gave away.
    #[error(
        "the device does not accept this station: {0}; {1}, and it seems to have another owner now. To be yours again, it has to be \
         reset by that owner, or handed on to you (`commissioner commission --voucher FILE`)"
    )]
    GivenAway(Refusal, Parting),
    /// The device verifies no more tokens for now, and that did not end.
    #[error(
        "somebody else keeps the device busy with tokens: for {} s it took none of ours ({refusal}); see who else is on this \
         link, then repeat the command", .waited.as_secs()
    )]
    TokensBusy {
        /// How long we tried.
        waited: Duration,
        /// What it says.
        refusal: Refusal,
    },
    /// The device answered, and yet the visit did not get to its beginning.
    #[error(
        "the device answers, but within {} s it did not come to the end of a handshake with us; somebody else may keep it busy, or \
         the link may be bad: see who else is on this link, then repeat the command", .waited.as_secs()
    )]
    KeptFrom {
        /// How long we tried.
        waited: Duration,
    },
    /// The issuer's key is elsewhere, and it gave us none.
    #[error(
        "this station has no token of its issuer; have one made there by `commissioner station new`, then `station install` it"
    )]
    NoToken,
    /// The issuer's token is over.
    #[error("the token of this station has expired, at {0}; have a new one made by `commissioner station new`")]
    TokenExpired(String),
    /// The token was not written down.
    #[error(transparent)]
    Registry(Box<registry::Error>),
    /// The token was not signed.
    #[error(transparent)]
    Issuer(#[from] issuer::Error),
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        Self::Registry(Box::new(error))
    }
}

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

    fn decode(response: &Response) -> Result<Self, Error> {
        let info = DeviceInfo::decode(&response.payload)?;
        let key = info.credential.as_ref().map(PublicKey::from_cose).transpose()?;
        Ok(Self { info: without_firmware(&info), firmware: info.firmware.to_owned(), key })
    }

    /// What a device says, without asking it.
    #[cfg(test)]
    pub(crate) fn of(info: &DeviceInfo<'_>) -> Self {
        let key = info.credential.as_ref().and_then(|key| PublicKey::from_cose(key).ok());
        Self { info: without_firmware(info), firmware: info.firmware.to_owned(), key }
    }

    /// The key to expect in a handshake.
    fn provable_key(&self) -> Result<PublicKey, Error> {
        match (self.info().profile, self.key) {
            (Profile::Minimal, _) => Err(Error::Minimal),
            (Profile::Full, None) => Err(Error::NoKey),
            (Profile::Full, Some(key)) => Ok(key),
        }
    }

    /// In what two accounts of a device differ; a token issued at `token_issued_at` may have moved a watermark, and the owner's is
    /// moved by whoever else visits the device for it.
    fn differences(&self, later: &Self, token_issued_at: Option<u64>) -> Vec<&'static str> {
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
        ];
        agree.into_iter().filter(|(_, agree)| !agree).map(|(name, _)| name).collect()
    }
}

/// Who we are to devices that are ours: the station's key, and what it takes to make tokens for it.
pub struct Station {
    /// Where tokens are written down.
    pub registry: Registry,
    /// Signs them.
    pub issuer: Issuer,
    /// Proves to the device who is there.
    pub key: PrivateKey,
    /// At a station without the issuer's key: what the issuer signed for it.
    pub token: Option<InstalledToken>,
}

impl Station {
    /// Whether devices take lists from us: a token for commissioning alone does not say so.
    pub fn may_distribute(&self) -> bool {
        self.token.as_ref().is_none_or(|token| token.scope.allows("/comm/peers", Method::Put))
    }
}

/// A token that an issuer elsewhere signed for this station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledToken {
    object: Vec<u8>,
    issued_at: u64,
    expires_at: u64,
    scope: Aif,
}

impl InstalledToken {
    /// Takes the signed `object`, if `issuer` signed it for the station with the key `station`.
    pub fn new(object: Vec<u8>, issuer: &PublicKey, station: &PublicKey) -> Option<Self> {
        let (_, claims) = certificate::verified::<StationTokenClaims>(&object, issuer).ok()?;
        let (issued_at, expires_at, scope) = (claims.issued_at, claims.expires_at?, claims.scope);
        (claims.key == station.cose_key()).then_some(Self { object, issued_at, expires_at, scope })
    }

    /// The signed token.
    pub fn object(&self) -> &[u8] {
        &self.object
    }

    /// When it ends, Unix seconds.
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }
}

/// A conversation with a device: protected, its account read again under protection; or, with one of the minimal profile,
/// neither.
pub struct Visit<'c> {
    way: Way<'c>,
    account: Account,
}

enum Way<'c> {
    Protected(Box<Session<'c>>),
    Unproven { client: &'c mut Client, key: PublicKey },
}

impl<'c> Visit<'c> {
    /// Visits as nobody in particular, under a key that is thrown away afterwards: a stranger's device learns nothing.
    pub async fn stranger(client: &'c mut Client, seen: &Account, progress: &Progress) -> Result<Self, Error> {
        let expected = seen.provable_key()?;
        progress.working("asking the device to prove its key");
        let throwaway = PrivateKey::generate(&mut client.random());
        let patience = patience(client);
        in_time(patience, Self::begin(client, &throwaway, Transfer::ByValue, expected, seen, None, progress)).await
    }

    /// Visits a device of ours as its owner: presents a token for this station, then proves to be the station. Before the
    /// token, which names the station, the device proves its key to nobody in particular: `/comm` alone can be copied.
    ///
    /// The token is good until the device's next start, for everything below `/comm`.
    pub async fn station(
        client: &'c mut Client,
        seen: &Account,
        station: &Station,
        progress: &Progress,
    ) -> Result<Self, Error> {
        let patience = patience(client);
        in_time(patience, Self::as_station(client, seen, station, progress)).await
    }

    async fn as_station(
        client: &'c mut Client,
        seen: &Account,
        station: &Station,
        progress: &Progress,
    ) -> Result<Self, Error> {
        let expected = seen.provable_key()?;
        let info = seen.info();
        if !info.has_owner_slot() {
            return Err(Error::NoOwnerSlot);
        }
        progress.working("asking the device to prove its key");
        let mut handshakes = 0;
        while let Err(error) = session::prove(client, expected).await {
            once_more(client, error, &mut handshakes, progress).await?;
        }
        let (token, issued_at) = match &station.token {
            Some(token) if token.expires_at < station.registry.now() => {
                return Err(Error::TokenExpired(rfc3339(token.expires_at)));
            }
            Some(token) => (token.object.clone(), token.issued_at),
            None if !station.issuer.signs() => return Err(Error::NoToken),
            None => Self::own_token(&info, station).await?,
        };
        progress.working("presenting the station's token");
        match present(client, token, progress).await {
            Err(Error::TokenRefused(refusal)) => {
                return Err(match station.registry.parting(&info.device).await? {
                    Some(parting) => Error::GivenAway(refusal, parting),
                    None => Error::TokenRefused(refusal),
                });
            }
            presented => presented?,
        }
        Self::begin(client, &station.key, Transfer::ByKid, expected, seen, Some(issued_at), progress).await
    }

    /// Visits a device of the minimal profile. Nothing that is said is proved or protected: only for the programming cable,
    /// where the user says that it leads to the device.
    pub fn unproven(client: &'c mut Client, seen: &Account) -> Result<Self, Error> {
        let key = match (seen.info().profile, seen.key) {
            (Profile::Full, _) => return Err(Error::NotMinimal),
            (Profile::Minimal, None) => return Err(Error::NoKey),
            (Profile::Minimal, Some(key)) => key,
        };
        Ok(Self { way: Way::Unproven { client, key }, account: seen.clone() })
    }

    /// A token for ourselves, by our own issuer, and when it was signed.
    async fn own_token(info: &DeviceInfo<'_>, station: &Station) -> Result<(Vec<u8>, u64), Error> {
        let wanted = TokenRequest {
            station: *station.key.public(),
            audience: Audience::Device(info.device),
            scope: Aif::everything(),
            validity: Validity::Nonce(info.nonce),
        };
        let grant = station.registry.grant_token(&wanted).await?;
        Ok((station.issuer.station_token(&grant)?, grant.claims().issued_at))
    }

    /// The transcript hash of the handshake that proved the device's key, if there was one.
    pub fn transcript(&self) -> Option<[u8; 32]> {
        match &self.way {
            Way::Protected(session) => Some(session.transcript()),
            Way::Unproven { .. } => None,
        }
    }

    /// What the device said of itself, under protection where there is any: the only account that counts.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The key of the device, and whether it proved to have it: [`Visit::proof`].
    pub fn key(&self) -> &PublicKey {
        match &self.way {
            Way::Protected(session) => session.peer(),
            Way::Unproven { key, .. } => key,
        }
    }

    /// Whether the device proved its key.
    pub fn proof(&self) -> ProofLevel {
        match self.way {
            Way::Protected(_) => ProofLevel::Proved,
            Way::Unproven { .. } => ProofLevel::Unproven,
        }
    }

    /// One request with its whole response, a refusal included.
    pub async fn request(&mut self, request: &Request) -> Result<Response, Error> {
        crash::at(Point::BeforeRequest);
        let response = match &mut self.way {
            Way::Protected(session) => session.request(request).await?,
            Way::Unproven { client, .. } => client.request(request).await?,
        };
        crash::at(Point::AfterAnswer);
        Ok(response)
    }

    async fn begin(
        client: &'c mut Client,
        own: &PrivateKey,
        transfer: Transfer,
        expected: PublicKey,
        seen: &Account,
        token_issued_at: Option<u64>,
        progress: &Progress,
    ) -> Result<Self, Error> {
        let mut handshakes = 0;
        let (state, response) = loop {
            match open(client, own, transfer, expected).await {
                Ok(opened) => break opened,
                Err(error) => once_more(client, error, &mut handshakes, progress).await?,
            }
        };
        let session = Session::resume(client, state);
        progress.step(Step::Authenticated { thumbprint: session.peer().thumbprint().to_string() });
        let account = Account::decode(&response.success()?)?;
        let differences = seen.differences(&account, token_issued_at);
        if !differences.is_empty() {
            return Err(Error::Differs(differences));
        }
        progress.step(Step::Confirmed);
        Ok(Self { way: Way::Protected(Box::new(session)), account })
    }
}

impl fmt::Debug for Visit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").field("account", &self.account).finish_non_exhaustive()
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
    }
}

fn patience(client: &Client) -> Duration {
    PATIENCE + client.slowness() * SLOW_ANSWERS
}

/// Gives up the beginning of a visit when it takes too long: each message that gets through late is a success to the client.
async fn in_time<T>(patience: Duration, beginning: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(patience, beginning).await.unwrap_or(Err(Error::KeptFrom { waited: patience }))
}

/// Runs EDHOC, and asks for `/comm` in the message that ends it.
async fn open(
    client: &mut Client,
    own: &PrivateKey,
    transfer: Transfer,
    expected: PublicKey,
) -> Result<(session::State, Response), session::Error> {
    let mut session = Session::establish(client, own, transfer, expected).await?;
    let response = session.request(&get_comm()).await?;
    Ok((session.into_state(), response))
}

/// Waits before another handshake, if `error` says that others took the place of the last one. Whoever floods the device does
/// so at some rate, so this is not at one of ours.
async fn once_more(
    client: &mut Client,
    error: session::Error,
    handshakes: &mut u32,
    progress: &Progress,
) -> Result<(), Error> {
    *handshakes += 1;
    if !matches!(error, session::Error::Busy) || *handshakes >= HANDSHAKES {
        return Err(error.into());
    }
    progress.working(format!("others keep the device busy; trying again ({} of {HANDSHAKES})", *handshakes + 1));
    Ok(client.pause(Duration::ZERO, HANDSHAKE_WAIT * *handshakes).await?)
}

/// Presents a token, and waits where the device asks for that: it bounds how many signatures strangers make it verify. They may
/// be at the same line, so we come at another time than they do.
async fn present(client: &mut Client, token: Vec<u8>, progress: &Progress) -> Result<(), Error> {
    let request = Request::post(AUTHZ_INFO, content_format::CWT, token);
    let start = Instant::now();
    loop {
        let response = client.request(&request).await?;
        if response.code != Code::TOO_MANY_REQUESTS {
            return response.success().map(drop).map_err(Error::TokenRefused);
        }
        let (waited, wait) = (start.elapsed(), response.max_age.min(MAX_WAIT));
        if waited >= TOKEN_PATIENCE {
            return Err(Error::TokensBusy { waited, refusal: Refusal::from(&response) });
        }
        // A few seconds are nothing unusual where it was visited often just now.
        if waited >= UNUSUAL {
            progress.working("the device takes no tokens for now, others may keep it busy; trying again");
        }
        client.pause(wait, wait.max(Duration::from_secs(1))).await?;
    }
}

fn get_comm() -> Request {
    Request { accept: Some(content_format::CBOR), ..Request::get(COMM) }
}

#[cfg(test)]
pub(crate) mod tests;
