//! Visits to devices of ours, as a station that may act for their owner.

use cbor_schemas::{Aif, Audience, DeviceInfo, Method, StationTokenClaims};
use protocol::key::{PrivateKey, PublicKey};

use crate::certificate;
use crate::client::{Client, Refusal};
use crate::clock::rfc3339;
use crate::issuer::{self, Issuer};
use crate::progress::Progress;
use crate::registry::{self, Parting, Registry, TokenRequest, Validity};
use crate::visit::{self, Account, Token, Visit, in_time, patience, prove};

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

    /// Visits a device of ours as its owner, in one handshake: the device proves its key by message_2, before that nothing tells
    /// who asks, since `/comm` alone can be copied. Then the token for this station is presented, which names it, and with
    /// message_3 the station proves to be the one.
    ///
    /// The token is good until the device's next start, for everything below `/comm`.
    pub async fn visit<'c>(
        &self,
        client: &'c mut Client,
        seen: &Account,
        progress: &Progress,
    ) -> Result<Visit<'c>, Error> {
        in_time(patience(client), self.visit_at_leisure(client, seen, progress)).await
    }

    async fn visit_at_leisure<'c>(
        &self,
        client: &'c mut Client,
        seen: &Account,
        progress: &Progress,
    ) -> Result<Visit<'c>, Error> {
        seen.provable_key()?;
        let info = seen.info();
        if !info.has_owner_slot() {
            return Err(visit::Error::NoOwnerSlot.into());
        }
        let proved = prove(client, seen, &self.key, progress).await?;
        let token = self.token_for(&info).await?;
        match Visit::with_token(client, seen, &self.key, proved, token, progress).await {
            Err(visit::Error::TokenRefused(refusal)) => match self.registry.parting(&info.device).await? {
                Some(parting) => Err(Error::GivenAway(refusal, parting)),
                None => Err(visit::Error::TokenRefused(refusal).into()),
            },
            visit => Ok(visit?),
        }
    }

    /// A token for this station: the one that the issuer left here, or a new one by our own issuer.
    async fn token_for(&self, info: &DeviceInfo<'_>) -> Result<Token, Error> {
        match &self.token {
            Some(token) if token.expires_at < self.registry.now() => {
                return Err(Error::TokenExpired(rfc3339(token.expires_at)));
            }
            Some(token) => return Ok(Token { object: token.object.clone(), issued_at: token.issued_at }),
            None if !self.issuer.signs() => return Err(Error::NoToken),
            None => {}
        }
        let wanted = TokenRequest {
            station: *self.key.public(),
            audience: Audience::Device(info.device),
            scope: Aif::everything(),
            validity: Validity::Nonce(info.nonce),
        };
        let grant = self.registry.grant_token(&wanted).await?;
        Ok(Token { object: self.issuer.station_token(&grant)?, issued_at: grant.claims().issued_at })
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

/// Why a visit to a device of ours came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The visit itself.
    #[error(transparent)]
    Visit(#[from] visit::Error),
    /// The device takes no token of ours, and we gave it away.
    #[error(
        "the device does not accept this station: {0}; {1}, and it seems to have another owner now. To be yours again, it has to be \
         reset by that owner, or handed on to you (`commissioner commission --voucher FILE`)"
    )]
    GivenAway(Refusal, Parting),
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

#[cfg(test)]
pub(crate) mod tests;
