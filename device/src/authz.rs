//! Signed objects that are presented: station tokens say who may act as owner, and within which scope; certificates say who
//! is another device of the owner. Kept in RAM, one per key, bounded.

use cbor_schemas::{
    Aif, Audience, DeviceCertificateClaims, DeviceId, IssuerId, Kind, ListMode, Sign1, StationTokenClaims,
};
use coap_numbers::code;
use heapless::Vec;
use protocol::key::PublicKey;

use crate::{
    lifecycle::Role,
    problem::{Problem, Said},
};

/// Grants held at the same time. The one unused for longest makes room; a peer's for a station's, but not the reverse.
pub(crate) const CAPACITY: usize = 4;

/// A key that an anchor of ours vouches for.
#[derive(Debug, Clone, Copy)]
pub struct Grant {
    /// The key that the token or certificate names.
    pub key: PublicKey,
    /// Owner or factory, after the anchor that signed the token; [`Role::Peer`] by a certificate.
    pub role: Role,
    /// What a station may do below its role; a peer has none.
    pub scope: Option<Aif>,
    /// When the token or certificate was signed, Unix seconds.
    pub issued_at: u64,
}

/// An anchor, and what the device remembers of the objects that verified under it.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    /// The issuer's key.
    pub key: PublicKey,
    /// The role of the stations it vouches for.
    pub role: Role,
    /// The newest `iat` of what verified under this anchor.
    pub watermark: Option<u64>,
    /// Tokens issued before are void, by the device list. Unix seconds.
    pub min_iat: u64,
}

/// What a token is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Verifier<'a> {
    /// The anchors installed.
    pub anchors: &'a [Anchor],
    /// This device.
    pub device: DeviceId,
    /// This device's key: a token that names it would reflect us to ourselves.
    pub own_key: PublicKey,
    /// The nonce shown in `/comm` since the last start.
    pub nonce: [u8; 8],
    /// How the device list tells who is a peer, if there is one.
    pub list_mode: Option<ListMode>,
}

/// Grants by key.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    /// Least recently used first.
    held: Vec<Grant, CAPACITY>,
}

impl Grants {
    /// None.
    pub(crate) const fn new() -> Self {
        Grants { held: Vec::new() }
    }

    /// Keeps `grant` in place of an older one for the same key. Anyone can present a token again, so an older one does not
    /// displace a newer one.
    pub(crate) fn insert(&mut self, grant: &Grant) {
        if self.of(&grant.key).is_some_and(|held| held.issued_at > grant.issued_at) {
            return;
        }
        self.held.retain(|held| held.key != grant.key);
        if self.held.is_full() {
            match self.held.iter().position(|held| held.role == Role::Peer) {
                Some(peer) => drop(self.held.remove(peer)),
                None if grant.role != Role::Peer => drop(self.held.remove(0)),
                None => return,
            }
        }
        // There is room now; a full table would only mean that the station has to present its token again.
        let _ = self.held.push(*grant);
    }

    /// The key whose kid this is.
    pub(crate) fn resolve(&mut self, kid: &[u8]) -> Option<PublicKey> {
        let at = self.held.iter().position(|grant| grant.key.kid().as_slice() == kid)?;
        let grant = self.held.remove(at);
        let key = grant.key;
        let _ = self.held.push(grant);
        Some(key)
    }

    /// What `key` was granted.
    pub(crate) fn of(&self, key: &PublicKey) -> Option<&Grant> {
        self.held.iter().find(|grant| grant.key == *key)
    }

    /// Whether `key` belongs to a station with a token.
    pub(crate) fn is_station(&self, key: &PublicKey) -> bool {
        self.of(key).is_some_and(|grant| grant.role != Role::Peer)
    }

    /// Ends those that do not hold under a new device list.
    pub(crate) fn apply_list(&mut self, mode: ListMode, min_iat: u64) {
        self.held.retain(|grant| match grant.role {
            Role::Owner => grant.issued_at >= min_iat,
            Role::Peer => mode == ListMode::Revoked,
            _ => true,
        });
    }

    /// Ends them all.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
    }
}

impl Verifier<'_> {
    /// What a token or a device certificate grants. `take_allowance` is asked before the signature is verified, which is
    /// the costly part, and whoever's anchor is named: its answer must not tell which anchors are installed.
    ///
    /// # Errors
    /// 4.00 for what is neither, and what `take_allowance` says; a bare 4.01 for an anchor that is not
    /// installed or did not sign it; after that 4.00, 4.01 or 4.03 (RFC 9200 section 5.10.1.1) with the reason.
    pub fn accept(&self, token: &[u8], take_allowance: impl FnOnce() -> Result<(), Problem>) -> Result<Grant, Problem> {
        let malformed =
            |_| problem!(code::BAD_REQUEST, "malformed request", "neither a station token nor a device certificate");
        let object = Sign1::decode(token).map_err(malformed)?;
        match object.kind {
            Kind::StationToken => {
                let claims = StationTokenClaims::decode(object.payload).map_err(malformed)?;
                self.check(&claims, self.signer(&object, claims.issuer, take_allowance)?)
            }
            Kind::DeviceCertificate => {
                let claims = DeviceCertificateClaims::decode(object.payload).map_err(malformed)?;
                self.check_peer(&claims, self.signer(&object, claims.issuer, take_allowance)?)
            }
            Kind::Voucher | Kind::DeviceList => Err(malformed(cbor_schemas::Error::WrongKind)),
        }
    }

    fn signer(
        &self,
        object: &Sign1<'_>,
        issuer: IssuerId,
        take_allowance: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<&Anchor, Problem> {
        take_allowance()?;
        let anchor = self.anchors.iter().find(|anchor| anchor.key.kid() == issuer.0);
        let anchor = anchor.ok_or(Problem::UNAUTHORIZED)?;
        protocol::sign1::verify(&anchor.key, object).map_err(|_| Problem::UNAUTHORIZED)?;
        Ok(anchor)
    }

    /// Checks the claims of a certificate that `anchor` signed. Whether its key is revoked is looked up at each request.
    fn check_peer(&self, claims: &DeviceCertificateClaims, anchor: &Anchor) -> Result<Grant, Problem> {
        macro_rules! rejected {
            ($code:expr, $detail:literal) => {
                Err(problem!($code, "certificate rejected", $detail))
            };
        }
        if anchor.role != Role::Owner || self.list_mode != Some(ListMode::Revoked) {
            return rejected!(code::FORBIDDEN, "certificates grant nothing here");
        }
        let Ok(key) = PublicKey::from_cose(&claims.key) else {
            return rejected!(code::BAD_REQUEST, "cnf is not a key as devices make them");
        };
        if key == self.own_key || key == anchor.key {
            return rejected!(code::BAD_REQUEST, "cnf must be another device's key");
        }
        Ok(Grant { key, role: Role::Peer, scope: None, issued_at: claims.issued_at })
    }

    /// Checks the claims of a token that `anchor` signed.
    fn check(&self, claims: &StationTokenClaims, anchor: &Anchor) -> Result<Grant, Problem> {
        macro_rules! rejected {
            ($code:expr, $detail:literal) => {
                Err(problem!($code, "token rejected", $detail))
            };
        }
        let for_us = match claims.audience {
            Audience::Device(device) => device == self.device,
            Audience::All(issuer) => issuer == claims.issuer,
        };
        if !for_us {
            return rejected!(code::FORBIDDEN, "aud names another device");
        }
        let Ok(key) = PublicKey::from_cose(&claims.key) else {
            return rejected!(code::BAD_REQUEST, "cnf is not a key as devices and stations make them");
        };
        if key == self.own_key || key == anchor.key {
            return rejected!(code::BAD_REQUEST, "cnf must be a key of the station's own");
        }
        if claims.cnonce.is_some_and(|nonce| nonce != self.nonce) {
            return rejected!(code::UNAUTHORIZED, "cnonce is not the nonce in /comm");
        }
        if claims.issued_at < anchor.min_iat {
            return rejected!(code::UNAUTHORIZED, "revoked by the device list");
        }
        // A token without exp has a cnonce, or it would not decode.
        match claims.expires_at {
            Some(expires_at) if expires_at < claims.issued_at => return rejected!(code::BAD_REQUEST, "exp before iat"),
            Some(expires_at) if anchor.watermark.is_some_and(|newest| expires_at < newest) => {
                return rejected!(code::UNAUTHORIZED, "expired");
            }
            _ => {}
        }
        Ok(Grant { key, role: anchor.role, scope: Some(claims.scope), issued_at: claims.issued_at })
    }
}

/// Bounds how many signatures a source can make the device verify: a burst of 4, then one a second.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    allowance: u8,
    refilled_at: u64,
}

impl RateLimit {
    const BURST: u8 = 4;
    const REFILL_MS: u64 = 1000;

    /// A full allowance.
    pub const fn new() -> Self {
        RateLimit { allowance: Self::BURST, refilled_at: 0 }
    }

    /// Whether all of it is there.
    pub fn is_full(&self, now: u64) -> bool {
        let missing = u64::from(Self::BURST.saturating_sub(self.allowance));
        now.saturating_sub(self.refilled_at) >= missing.saturating_mul(Self::REFILL_MS)
    }

    /// Takes one from the allowance.
    ///
    /// # Errors
    /// 4.29 (RFC 8516) with Max-Age where nothing is left. `now` is in milliseconds.
    pub fn take(&mut self, now: u64) -> Result<(), Problem> {
        let passed = now.saturating_sub(self.refilled_at).checked_div(Self::REFILL_MS).unwrap_or(0);
        if passed > 0 {
            let refill = u8::try_from(passed).unwrap_or(u8::MAX);
            self.allowance = self.allowance.saturating_add(refill).min(Self::BURST);
            self.refilled_at = now;
        }
        match self.allowance.checked_sub(1) {
            Some(left) => {
                self.allowance = left;
                Ok(())
            }
            None => {
                const TOO_MANY: &Said = &Said::new(code::TOO_MANY_REQUESTS, "too many tokens presented").with_max_age();
                Err(Problem::with_number(TOO_MANY, 1))
            }
        }
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        RateLimit::new()
    }
}

#[cfg(test)]
mod tests {
    use protocol::key::PrivateKey;
    use rand_core::OsRng;

    use super::*;

    fn grant() -> Grant {
        let key = *PrivateKey::generate(&mut OsRng).public();
        Grant { key, role: Role::Owner, scope: Some(Aif::everything()), issued_at: 1 }
    }

    #[test]
    fn a_full_table_forgets_what_was_resolved_longest_ago() {
        let (mut grants, given) = (Grants::new(), [(); CAPACITY].map(|()| grant()));
        given.iter().for_each(|grant| grants.insert(grant));
        assert_eq!(grants.resolve(&given[0].key.kid()), Some(given[0].key));
        assert_eq!(grants.resolve(&grant().key.kid()), None);
        let newest = grant();
        grants.insert(&newest);
        let held = given.each_ref().map(|grant| grants.of(&grant.key).is_some());
        assert_eq!(held, core::array::from_fn(|index| index != 1));
        assert!(grants.of(&newest.key).is_some());
        grants.clear();
        assert!(grants.of(&newest.key).is_none());
    }

    #[test]
    fn peers_make_room_for_stations_and_not_the_reverse() {
        let (mut grants, stations) = (Grants::new(), [(); CAPACITY].map(|()| grant()));
        stations[1..].iter().for_each(|grant| grants.insert(grant));
        let peer = Grant { role: Role::Peer, scope: None, ..grant() };
        grants.insert(&peer);
        assert!(grants.of(&peer.key).is_some() && !grants.is_station(&peer.key));
        grants.insert(&stations[0]);
        assert!(grants.of(&peer.key).is_none());
        grants.insert(&peer);
        assert!(grants.of(&peer.key).is_none());
        assert!(stations.iter().all(|grant| grants.is_station(&grant.key)));
    }

    #[test]
    fn a_key_has_one_grant() {
        let (mut grants, first) = (Grants::new(), grant());
        let others = [(); CAPACITY - 1].map(|()| grant());
        grants.insert(&first);
        others.iter().for_each(|grant| grants.insert(grant));
        grants.insert(&Grant { role: Role::Factory, ..first });
        assert_eq!(grants.of(&first.key).unwrap().role, Role::Factory);
        assert!(others.iter().all(|grant| grants.of(&grant.key).is_some()), "none had to go");
    }

    #[test]
    fn the_allowance_is_a_burst_of_four_and_one_a_second() {
        let mut rate = RateLimit::new();
        let mut taken = |now| (0..10).take_while(|_| rate.take(now).is_ok()).count();
        assert_eq!(taken(0), 4);
        assert_eq!(taken(999), 0);
        assert_eq!(taken(1000), 1);
        assert_eq!(taken(3500), 2);
        assert_eq!(taken(1_000_000), 4, "it does not save up");
        assert_eq!(taken(u64::MAX), 4);
        assert!(!rate.is_full(u64::MAX) && RateLimit::new().is_full(0));
        let refusal = rate.take(u64::MAX).unwrap_err();
        assert_eq!((refusal.code(), refusal.max_age()), (code::TOO_MANY_REQUESTS, Some(1)));
    }
}
