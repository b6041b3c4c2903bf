//! A visit to a device: who it says it is, proof of that, and what may be believed.
//!
//! `GET /comm` is answered to anyone, and by anyone. An [`Account`] read that way says which key to expect at the other
//! end, and no more. A [`Visit`] runs EDHOC with that key and reads `/comm` again under OSCORE: only this copy counts,
//! and if it differs from the first one, somebody meddles and the visit is over.
//!
//! A device of the `minimal` profile cannot do EDHOC. A visit to it proves nothing: who makes one relies on the cable.

mod account;
mod error;

use std::fmt;
use std::time::Duration;

use cbor_schemas::{Profile, ProofLevel};
use protocol::edhoc::Transfer;
use protocol::key::{PrivateKey, PublicKey};
use tokio::time::{Instant, timeout};

use self::account::get_comm;
use crate::client::{Client, Code, Refusal, Request, Response, content_format};
use crate::crash::{self, Point};
use crate::progress::{Progress, Step};
use crate::session::{self, Session};

pub use account::Account;
pub use error::Error;

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

/// A signed token for a station, to be presented to a device (RFC 9200 section 5.10.1).
pub struct Token {
    /// The signed object.
    pub object: Vec<u8>,
    /// When it was issued, Unix seconds, as it says.
    pub issued_at: u64,
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
        let opened = in_time(patience, handshake(client, &throwaway, Transfer::ByValue, expected, progress)).await?;
        Self::confirm(client, opened, seen, None, progress)
    }

    /// Goes on with a device that proved its key ([`prove`]), as its owner's station with the key `own`: presents `token`, which
    /// the owner's issuer signed for that key, then proves to have it.
    ///
    /// The token is good until the device's next start, for everything below `/comm` that is in its scope.
    pub async fn with_token(
        client: &'c mut Client,
        seen: &Account,
        own: &PrivateKey,
        proved: Proved,
        token: Token,
        progress: &Progress,
    ) -> Result<Self, Error> {
        let expected = seen.provable_key()?;
        progress.working("presenting the station's token");
        present(client, token.object, progress).await?;
        let opened = match ask_account(client, proved.0).await {
            // Others took the handshake's place meanwhile. The token is there: another handshake is all that is missing.
            Err(session::Error::Busy) => handshake(client, own, Transfer::ByKid, expected, progress).await?,
            opened => opened?,
        };
        Self::confirm(client, opened, seen, Some(token.issued_at), progress)
    }

    /// Visits a device of the minimal profile. Nothing that is said is proved or protected: only for the programming cable,
    /// where the user says that it leads to the device.
    pub fn unproven(client: &'c mut Client, seen: &Account) -> Result<Self, Error> {
        let key = match (seen.info().profile, seen.key()) {
            (Profile::Full, _) => return Err(Error::NotMinimal),
            (Profile::Minimal, None) => return Err(Error::NoKey),
            (Profile::Minimal, Some(key)) => *key,
        };
        Ok(Self { way: Way::Unproven { client, key }, account: seen.clone() })
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

    /// What the device says under protection has to be what it said before.
    fn confirm(
        client: &'c mut Client,
        (state, response): (session::State, Response),
        seen: &Account,
        token_issued_at: Option<u64>,
        progress: &Progress,
    ) -> Result<Self, Error> {
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

pub(crate) fn patience(client: &Client) -> Duration {
    PATIENCE + client.slowness() * SLOW_ANSWERS
}

/// Gives up the beginning of a visit when it takes too long: each message that gets through late is a success to the client.
pub(crate) async fn in_time<T, E: From<Error>>(
    patience: Duration,
    beginning: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(patience, beginning).await.unwrap_or_else(|_| Err(Error::KeptFrom { waited: patience }.into()))
}

/// A device that proved its key by message_2 (64 bits, RFC 9528 section 5.3), to somebody who has not said yet who that is: what
/// `/comm` says can be copied, and what is sent next may be for this device alone.
pub struct Proved(session::State);

/// Lets the device prove its key, in a handshake that can go on as `own`, by kid.
pub async fn prove(
    client: &mut Client,
    seen: &Account,
    own: &PrivateKey,
    progress: &Progress,
) -> Result<Proved, Error> {
    let expected = seen.provable_key()?;
    progress.working("asking the device to prove its key");
    let mut handshakes = 0;
    loop {
        match Session::establish(client, own, Transfer::ByKid, expected).await {
            Ok(session) => return Ok(Proved(session.into_state())),
            Err(error) => once_more(client, error, &mut handshakes, progress).await?,
        }
    }
}

/// Runs EDHOC, and asks for `/comm` in the message that ends it. Again, where others take the handshake's place.
async fn handshake(
    client: &mut Client,
    own: &PrivateKey,
    transfer: Transfer,
    expected: PublicKey,
    progress: &Progress,
) -> Result<(session::State, Response), Error> {
    let mut handshakes = 0;
    loop {
        match open(client, own, transfer, expected).await {
            Ok(opened) => return Ok(opened),
            Err(error) => once_more(client, error, &mut handshakes, progress).await?,
        }
    }
}

async fn open(
    client: &mut Client,
    own: &PrivateKey,
    transfer: Transfer,
    expected: PublicKey,
) -> Result<(session::State, Response), session::Error> {
    let state = Session::establish(client, own, transfer, expected).await?.into_state();
    ask_account(client, state).await
}

async fn ask_account(client: &mut Client, state: session::State) -> Result<(session::State, Response), session::Error> {
    let mut session = Session::resume(client, state);
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

#[cfg(test)]
pub(crate) mod tests;
