//! Tokens for stations, written down before they are signed.

use cbor_schemas::{Aif, Audience, StationTokenClaims};
use protocol::key::PublicKey;

use super::{change::Change, error::Error, event::Event, handle::Registry};

/// A station token that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct TokenRequest {
    /// The station's key.
    pub station: PublicKey,
    /// Where the token is good.
    pub audience: Audience,
    /// What it allows.
    pub scope: Aif,
    /// For how long.
    pub validity: Validity,
}

/// How a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// With the device's next start: the nonce that it shows in `/comm`.
    Nonce([u8; 8]),
    /// After this many seconds, as far as a device without a clock can know.
    Seconds(u64),
}

/// A station token that may be signed: it is in the audit trail, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant(StationTokenClaims);

impl TokenGrant {
    pub(super) fn of(claims: StationTokenClaims) -> Self {
        Self(claims)
    }

    /// What to sign.
    pub fn claims(&self) -> &StationTokenClaims {
        &self.0
    }
}

impl Registry {
    /// Writes down that a station token will be signed.
    ///
    /// # Errors
    /// [`Error::ClockBehind`], [`Error::ClockAhead`].
    pub async fn grant_token(&self, wanted: &TokenRequest) -> Result<TokenGrant, Error> {
        let mut change = Change::begin(self).await?;
        let now = change.token_time().await?;
        let (expires_at, cnonce) = match wanted.validity {
            Validity::Nonce(nonce) => (None, Some(nonce)),
            Validity::Seconds(seconds) => (Some(now.saturating_add(seconds)), None),
        };
        let claims = StationTokenClaims {
            issuer: self.issuer_id(),
            audience: wanted.audience,
            expires_at,
            issued_at: now,
            key: wanted.station.cose_key(),
            scope: wanted.scope,
            cnonce,
        };
        let (device, audience) = match &wanted.audience {
            Audience::Device(device) => (Some(device), device.to_string()),
            Audience::All(issuer) => (None, issuer.to_string()),
        };
        let station = wanted.station.thumbprint().to_string();
        let scope = wanted.scope.entries().map(|(path, methods)| (path.to_owned(), methods)).collect();
        change.record(device, &Event::TokenIntended { station, audience, scope, expires_at }).await?;
        change.commit().await?;
        Ok(TokenGrant(claims))
    }
}
