//! The times that signatures bear.
//!
//! Devices have no clock: what they know of the time is what we sign. So the machine's clock is held against the newest time
//! that a signature bears, the *believed* time:
//!
//! | the clock is | a signature bears |
//! |---|---|
//! | up to an hour behind | the believed time: clocks are adjusted, and machines that share a registry differ |
//! | further behind | nothing is signed, until [`Registry::set_clock_back`] |
//! | ahead, by a day at the most | what the clock says |
//! | further ahead | nothing is signed, unless the user vouches for the clock (`--clock-ok`) |
//!
//! Only signatures move the believed time. Before the first one nothing is behind, and the day counts from the beginning of
//! the registry. The entry of a signature in the audit trail has the time that the signature bears.
//!
//! After a clock that was ahead, devices hold times that are yet to come. Some of those they compare with what they are given
//! (docs/protocol.md); what is signed is made such that they take it:
//!
//! | a device holds | and refuses | so |
//! |---|---|---|
//! | the `min_iat` of a list | tokens, and vouchers of its owner, of before | tokens and vouchers never bear a time before the newest `min_iat` |
//! | a certificate in the factory slot | one of the same anchor that is not newer | the next one is, by a second at least |
//! | a watermark | what expires before it | a voucher's days count from there; tokens of our own station have no `exp` |
//! | the version of a list | one that is not newer | versions rise, whatever the time is |
//!
//! What remains are tokens of stations elsewhere, for all devices and for some hours: who has a watermark of after that takes
//! none of them. [`Registry::clock`] names these devices. It also names the tokens and vouchers that were given out by a clock
//! that was ahead: they end as much later than was meant.

use std::{
    collections::BTreeMap,
    sync::{Once, OnceLock},
};

use cbor_schemas::{DeviceId, DeviceListClaims};
use serde::{Deserialize, Serialize};

use super::{
    change::Change,
    entry::AuditEntry,
    error::Error,
    event::Event,
    handle::Registry,
    record::{Certificate, CertificateStatus, Cti, Key, List, Slot, StationToken},
    rows::Rows,
};
use crate::clock::{rfc3339, span};

/// How far behind the believed time the clock may be, in seconds.
pub const TOLERANCE: u64 = 60 * 60;
/// How far ahead of it, in seconds.
pub const ONE_DAY: u64 = 24 * 60 * 60;
/// From here on it is said that a signature bears another time than the clock's, in seconds.
const WORTH_SAYING: u64 = 60;

/// The events by which something is signed for a device.
const SIGNED: [&str; 3] = ["certificate-intended", "token-intended", "voucher-intended"];

/// How the machine's clock stands to the believed time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Signatures bear its time.
    Believed,
    /// A little behind: signatures bear the believed time.
    LittleBehind,
    /// Nothing is signed.
    Behind,
    /// Nothing is signed without `--clock-ok`.
    Ahead,
}

impl Standing {
    /// `newest` is the time of the newest signature, if there is one.
    fn of(now: u64, newest: Option<u64>, beginning: u64) -> Self {
        match newest {
            Some(newest) if now.saturating_add(TOLERANCE) < newest => Self::Behind,
            Some(newest) if now < newest => Self::LittleBehind,
            _ if now > newest.unwrap_or(beginning).saturating_add(ONE_DAY) => Self::Ahead,
            _ => Self::Believed,
        }
    }
}

/// The clock, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockView {
    /// What the machine says, Unix seconds.
    pub now: u64,
    /// The newest time that a signature bears, if there is one.
    pub believed: Option<u64>,
    /// When the registry was made, Unix seconds.
    pub beginning: u64,
    /// How the two go together.
    pub standing: Standing,
    /// What tokens and vouchers bear at least, if that is yet to come: devices refuse older ones by their list.
    pub min_iat: Option<u64>,
    /// Devices that hold a time that is yet to come, by ID.
    pub devices: Vec<(DeviceId, HeldAhead)>,
    /// Tokens, and then vouchers, that were signed by such a time, have an end, and are not ended.
    pub grants: Vec<GrantAhead>,
}

/// A token or a voucher that ends later than was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantAhead {
    /// Which one.
    pub what: Granted,
    /// The time that it bears, Unix seconds.
    pub issued_at: u64,
    /// When it ends, Unix seconds.
    pub expires_at: u64,
}

/// What lets others act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// A station, at all devices.
    Token {
        /// The thumbprint of its key, hex.
        station: String,
    },
    /// A new owner, at one device.
    Voucher {
        /// The device.
        device: DeviceId,
        /// The thumbprint of the new owner's issuer key, hex.
        owner: String,
    },
}

/// What a device holds of a time that is yet to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldAhead {
    /// The newest time that it was given, Unix seconds: its watermark.
    pub until: u64,
    /// Whether a certificate for its factory slot bears such a time.
    pub made: bool,
}

impl Registry {
    /// What the machine's clock says, what is believed, and which devices hold a time that is yet to come.
    pub async fn clock(&self) -> Result<ClockView, Error> {
        let mut reading = self.read().await?;
        let rows = &mut reading.rows;
        let now = self.now();
        let believed = Some(rows.head().await?.believed).filter(|believed| *believed > 0);
        let beginning = beginning(rows).await?.unwrap_or(now);
        let min_iat = newest_min_iat(rows).await?;
        let given = given_later_than(rows, now).await?;
        Ok(ClockView {
            now,
            believed,
            beginning,
            standing: Standing::of(now, believed, beginning),
            min_iat: (min_iat > now).then_some(min_iat),
            devices: held_ahead(rows, &given, now).await?,
            grants: granted_ahead(&rows.tokens().await?, &given, now)?,
        })
    }

    /// The clock was ahead, and is right now: what it says is believed from now on. On record; what was signed meanwhile
    /// stays signed. Returns what was believed before, or `None` if the clock is not behind.
    pub async fn set_clock_back(&self) -> Result<Option<u64>, Error> {
        let mut change = Change::begin(self).await?;
        let now = change.now;
        let Some(newest) = change.newest_signature().filter(|newest| now < *newest) else { return Ok(None) };
        change.head.believed = now;
        change.record(None, &Event::ClockSetBack { from: newest, to: now }).await?;
        change.commit().await?;
        Ok(Some(newest))
    }
}

impl Change {
    /// The time for a signature, which is believed from now on.
    ///
    /// # Errors
    /// [`Error::ClockBehind`] or [`Error::ClockAhead`] of what was believed before; [`Error::NewerList`].
    pub(super) async fn signing_time(&mut self) -> Result<u64, Error> {
        self.signing_is_open()?;
        let (now, newest) = (self.now, self.newest_signature());
        let beginning = beginning(&mut self.rows).await?.unwrap_or(now);
        let last = newest.unwrap_or(beginning);
        match Standing::of(now, newest, beginning) {
            Standing::Behind => return Err(Error::ClockBehind { now, last }),
            Standing::Ahead if !self.clock_ok => return Err(Error::ClockAhead { now, last }),
            Standing::LittleBehind if last - now >= WORTH_SAYING => tell_of_clock(now, last),
            _ => {}
        }
        self.head.believed = self.head.believed.max(now);
        self.now = self.head.believed;
        Ok(self.now)
    }

    /// The time for a token or a voucher: not before what the lists of devices demand.
    ///
    /// # Errors
    /// As [`Change::signing_time`].
    pub(super) async fn token_time(&mut self) -> Result<u64, Error> {
        let time = self.signing_time().await?;
        self.now = time.max(newest_min_iat(&mut self.rows).await?);
        Ok(self.now)
    }

    /// When something for `device` ends that bears `time` and is to be good for so many seconds.
    pub(super) async fn expiry(&mut self, device: &DeviceId, time: u64, seconds: u64) -> Result<u64, Error> {
        let entries = self.rows.entries_about(device, SIGNED).await?;
        let released = self.rows.entries_about(device, ["released"; 3]).await?;
        let released = released.first().map_or(0, |entry| entry.seq);
        let given = entries.iter().filter(|entry| entry.seq > released).map(|entry| entry.time);
        let known = self.rows.device(device).await?;
        let certificates = known.iter().flat_map(|device| &device.keys).flat_map(|key| &key.certificates);
        let held = certificates.filter(|it| it.object.is_some() && is_held(it)).map(|it| it.issued_at);
        Ok(given.chain(held).fold(time, u64::max).saturating_add(seconds))
    }

    fn newest_signature(&self) -> Option<u64> {
        Some(self.head.believed).filter(|believed| *believed > 0)
    }
}

/// The time for a certificate about `key`, which a device takes although it may have one of those that were signed before,
/// but for `open`. `time` is that for a signature.
pub(super) fn certificate_time(time: u64, slot: Slot, key: &Key, open: Option<Cti>) -> u64 {
    let before = key.certificates.iter().filter(|it| it.slot == slot && it.object.is_some() && Some(it.cti) != open);
    match (slot, before.map(|it| it.issued_at.saturating_add(1)).max()) {
        (Slot::Factory, Some(newer)) => time.max(newer),
        _ => time,
    }
}

static TELL: OnceLock<fn(&str)> = OnceLock::new();

/// Has people told by `tell` that signatures bear another time than the clock's. Without that it is a warning of `tracing`.
pub fn tell_of_clock_by(tell: fn(&str)) {
    let _ = TELL.set(tell);
}

/// Says that signatures bear another time than the clock's: once in a process, however many there are.
fn tell_of_clock(now: u64, last: u64) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        let behind = span(last - now);
        let said = format!(
            "the clock says {}, which is {behind} behind the newest signature; until it has caught up, signatures bear that one's \
             time, {}",
            rfc3339(now),
            rfc3339(last)
        );
        match TELL.get() {
            Some(tell) => tell(&said),
            None => tracing::warn!("{said}"),
        }
    });
}

async fn beginning(rows: &mut Rows) -> Result<Option<u64>, Error> {
    Ok(rows.entry(1).await?.map(|first| first.time))
}

/// The earliest `iat` that the next list lets tokens have: after the newest one that is revoked.
pub(super) async fn min_iat(rows: &mut Rows) -> Result<u64, Error> {
    Ok(rows.newest_revoked_token().await?.map_or(0, |newest| newest.saturating_add(1)))
}

/// The newest `min_iat` of a list that is there, or that will be.
async fn newest_min_iat(rows: &mut Rows) -> Result<u64, Error> {
    let said = match rows.newest_list().await? {
        Some(list) => claims_of(&list)?.min_iat,
        None => 0,
    };
    Ok(said.max(min_iat(rows).await?))
}

fn claims_of(list: &List) -> Result<DeviceListClaims<'_>, Error> {
    DeviceListClaims::decode(list.claims()).map_err(|_| Error::Corrupt("list"))
}

/// What devices were given that bears a later time than some: the trail has all that was signed here, and the certificates what
/// was merged.
struct Given {
    certificates: Vec<(DeviceId, Certificate)>,
    /// Of what was signed since the device was last given up.
    entries: Vec<(DeviceId, AuditEntry)>,
}

async fn given_later_than(rows: &mut Rows, time: u64) -> Result<Given, Error> {
    let certificates = rows.signed_later_than(time).await?;
    let mut entries = Vec::new();
    for entry in rows.entries_later_than(time, SIGNED).await? {
        let device = entry.device.parse().map_err(|_| Error::Corrupt("device"))?;
        let released = rows.entries_about(&device, ["released"; 3]).await?;
        if released.first().is_none_or(|last| last.seq < entry.seq) {
            entries.push((device, entry));
        }
    }
    Ok(Given { certificates, entries })
}

/// Whether the device remembers the time of a signed certificate. The maker's part of its memory outlives it being given up.
fn is_held(certificate: &Certificate) -> bool {
    certificate.slot == Slot::Factory
        || matches!(certificate.status, CertificateStatus::Issued | CertificateStatus::Installed)
}

async fn held_ahead(rows: &mut Rows, given: &Given, now: u64) -> Result<Vec<(DeviceId, HeldAhead)>, Error> {
    let mut held = BTreeMap::new();
    let mut hold = |device, until: u64, made: bool| {
        let held: &mut HeldAhead = held.entry(device).or_insert(HeldAhead { until, made });
        (held.until, held.made) = (held.until.max(until), held.made | made);
    };
    for (device, certificate) in given.certificates.iter().filter(|(_, certificate)| is_held(certificate)) {
        let made = certificate.slot == Slot::Factory && certificate.status != CertificateStatus::Revoked;
        hold(*device, certificate.issued_at, made);
    }
    for (device, entry) in &given.entries {
        hold(*device, entry.time, false);
    }
    // Whoever put a list on a device may have had a token of another time. Versions are not less than the times of signing.
    for list in rows.lists_after(now).await? {
        let until = claims_of(&list)?.issued_at;
        if until > now {
            for holder in rows.holders_since(list.version).await? {
                hold(holder, until, false);
            }
        }
    }
    Ok(held.into_iter().collect())
}

fn granted_ahead(tokens: &[StationToken], given: &Given, now: u64) -> Result<Vec<GrantAhead>, Error> {
    let tokens = tokens.iter().filter(|token| token.revoked_at.is_none() && token.issued_at > now);
    let mut tokens: Vec<_> = tokens.collect();
    tokens.sort_by_key(|token| (&token.station, &token.id));
    let token = |token: &StationToken| GrantAhead {
        what: Granted::Token { station: token.station.clone() },
        issued_at: token.issued_at,
        expires_at: token.expires_at,
    };
    let mut granted: Vec<_> = tokens.into_iter().map(token).collect();
    let mut vouchers: Vec<_> = given.entries.iter().filter(|(_, entry)| entry.event == "voucher-intended").collect();
    vouchers.sort_by_key(|(device, entry)| (device.as_str(), entry.seq));
    for (device, entry) in vouchers {
        let voucher: VoucherEntry =
            serde_json::from_str(&entry.payload).map_err(|_| Error::Corrupt("a voucher's entry"))?;
        // The others end by their use.
        if let Some(expires_at) = voucher.expires_at {
            let what = Granted::Voucher { device: *device, owner: voucher.owner };
            granted.push(GrantAhead { what, issued_at: entry.time, expires_at });
        }
    }
    Ok(granted)
}

/// What an entry says of a voucher, as far as it is wanted here.
#[derive(Deserialize)]
struct VoucherEntry {
    owner: String,
    expires_at: Option<u64>,
}

#[cfg(test)]
mod tests {
    use cbor_schemas::{Aif, Audience, KeyOrigin, ListMode, Receipt, StationTokenClaims};
    use protocol::key::PublicKey;

    use super::*;
    use crate::{
        clock::unix_seconds,
        registry::{
            NewCertificate, StationScope, TokenRequest, Validity, VoucherRequest,
            testing::{Fixture, NOON, id, key, receipt, wanted},
        },
    };

    const HOUR: u64 = 60 * 60;

    async fn token(fixture: &Fixture, device: &DeviceId) -> Result<StationTokenClaims, Error> {
        let wanted = TokenRequest {
            station: key(),
            audience: Audience::Device(*device),
            scope: Aif::everything(),
            validity: Validity::Nonce([1; 8]),
        };
        Ok(*fixture.registry.grant_token(&wanted).await?.claims())
    }

    #[tokio::test]
    async fn only_signatures_move_the_believed_time() {
        let fixture = Fixture::new().await;
        let (device, own) = (id("device"), key());
        assert_eq!(fixture.registry.clock().await.unwrap().believed, None);
        fixture.clock.set(NOON + 20 * HOUR);
        fixture.proved(&device, &own).await.unwrap();
        fixture.registry.set_nickname(&device, &"kitchen".parse().unwrap()).await.unwrap();
        assert_eq!(fixture.registry.clock().await.unwrap().believed, None);
        fixture.clock.set(NOON + 60);
        assert_eq!(fixture.begin(&device, &own).await.claims().issued_at, NOON + 60);
        let view = fixture.registry.clock().await.unwrap();
        assert_eq!((view.believed, view.standing), (Some(NOON + 60), Standing::Believed));
    }

    #[tokio::test]
    async fn a_clock_a_little_behind_signs_with_the_believed_time() {
        let fixture = Fixture::new().await;
        let device = id("device");
        fixture.commissioned(&device).await;
        for behind in [1, 20, TOLERANCE] {
            fixture.clock.set(NOON - behind);
            assert_eq!(token(&fixture, &device).await.unwrap().issued_at, NOON, "{behind}");
            assert_eq!(fixture.registry.clock().await.unwrap().standing, Standing::LittleBehind, "{behind}");
        }
        // The entry has the time of the signature.
        assert_eq!(fixture.registry.history(&device).await.unwrap().last().unwrap().time, NOON);
        fixture.clock.set(NOON - TOLERANCE - 1);
        let refused = token(&fixture, &device).await.unwrap_err();
        assert!(matches!(refused, Error::ClockBehind { .. }), "{refused}");
        assert!(refused.to_string().contains("`commissioner clock`"), "{refused}");
        // What is not signed goes on.
        fixture.registry.revoke(&device, "lost").await.unwrap();
        fixture.clock.set(NOON + 5);
        assert_eq!(token(&fixture, &device).await.unwrap().issued_at, NOON + 5);
    }

    #[tokio::test]
    async fn a_clock_that_was_ahead_is_set_back_on_record() {
        let fixture = Fixture::new().await;
        let (device, innocent) = (id("device"), id("innocent"));
        fixture.commissioned(&innocent).await;
        fixture.clock.set(NOON + 9 * HOUR);
        fixture.commissioned(&device).await;
        fixture.registry.begin_list(None).await.unwrap();

        fixture.clock.set(NOON + 60);
        assert!(token(&fixture, &device).await.is_err());
        let view = fixture.registry.clock().await.unwrap();
        assert_eq!((view.believed, view.standing), (Some(NOON + 9 * HOUR), Standing::Behind));
        assert_eq!(view.devices, [(device, HeldAhead { until: NOON + 9 * HOUR, made: false })]);

        assert_eq!(fixture.registry.set_clock_back().await.unwrap(), Some(NOON + 9 * HOUR));
        assert_eq!(fixture.registry.set_clock_back().await.unwrap(), None);
        assert_eq!(token(&fixture, &device).await.unwrap().issued_at, NOON + 60);
        assert_eq!(fixture.registry.clock().await.unwrap().standing, Standing::Believed);
        fixture.registry.revoke(&device, "lost").await.unwrap();
        let before = NOON + 9 * HOUR;
        assert_eq!(fixture.registry.begin_list(None).await.unwrap().version, before + 1, "versions rise all the same");
        let mut reading = fixture.registry.read().await.unwrap();
        let entries = reading.entries(0).await.unwrap();
        let entry = entries.iter().find(|entry| entry.event == "clock-set-back").unwrap();
        assert_eq!(
            (entry.time, &entry.payload[..]),
            (NOON + 60, &format!(r#"{{"from":{before},"to":{}}}"#, NOON + 60)[..])
        );
        drop(reading);
        fixture.registry.verify_audit().await.unwrap();
        // The others are not told of an hour that never was.
        fixture.clock.set(before + 1);
        assert_eq!(fixture.registry.clock().await.unwrap().devices, []);
    }

    /// Fourteen years, at the very beginning, and with all that devices could compare with.
    #[tokio::test]
    async fn after_2040_everything_is_signed_such_that_devices_take_it() {
        let future = unix_seconds("2040-01-01T00:00:00Z").unwrap();
        let fixture = Fixture::new().await;
        let registry = &fixture.open(true).await;
        let (device, station, own) = (id("device"), key(), key());
        fixture.clock.set(future);
        fixture.proved(&device, &own).await.unwrap();
        let made = |cti| NewCertificate { slot: Slot::Factory, cti, ..wanted(&device, &own) };
        let first = registry.begin_issue(&made(Cti([1; 8]))).await.unwrap();
        registry.issued(first.cti(), b"signed").await.unwrap();
        registry.installed(first.cti(), Some(&Receipt { claim_counter: 0, ..receipt(&own) })).await.unwrap();
        registry.grant_station(&station, StationScope::Distribute, HOUR).await.unwrap();
        registry.revoke_station(&station.thumbprint().to_string()).await.unwrap();
        let list = registry.begin_list(Some(ListMode::Members)).await.unwrap();
        registry.list_seen(&device, Some(list.version)).await.unwrap();

        fixture.clock.set(NOON);
        registry.set_clock_back().await.unwrap().unwrap();
        let view = registry.clock().await.unwrap();
        assert_eq!(view.devices, [(device, HeldAhead { until: future, made: true })]);
        assert_eq!(view.min_iat, Some(future + 1));
        // By the list, tokens and vouchers of before are void; of `exp` the watermark is no more than the beginning.
        assert_eq!(token(&fixture, &device).await.unwrap().issued_at, future + 1);
        let (again, grant) = registry.grant_station(&station, StationScope::Distribute, HOUR).await.unwrap();
        assert_eq!((again.issued_at, grant.claims().issued_at), (future + 1, future + 1));
        let voucher =
            VoucherRequest { device, slot: Slot::Factory, owner: key(), lifetime: Some(HOUR), claim_counter: None };
        let claims = *registry.grant_voucher(&voucher).await.unwrap().claims();
        assert_eq!((claims.issued_at, claims.expires_at), (future + 1, Some(future + 1 + HOUR)));
        // The certificate in the factory slot is replaced by a newer one alone; and taken up again as ever.
        let second = registry.begin_issue(&made(Cti([2; 8]))).await.unwrap();
        assert_eq!(second.claims().issued_at, future + 1);
        let resumed = registry.begin_issue(&made(Cti([3; 8]))).await.unwrap();
        assert_eq!((resumed.claims(), resumed.is_resumed()), (second.claims(), true));
        // What nobody compares bears the time that it is.
        let owned = registry.begin_issue(&wanted(&device, &own)).await.unwrap();
        assert_eq!(owned.claims().issued_at, NOON);
        assert_eq!(owned.claims().key_origin, KeyOrigin::Generated);
        assert_eq!(registry.clock().await.unwrap().believed, Some(NOON), "none of that moves what is believed");
    }

    #[tokio::test]
    async fn vouchers_end_after_what_their_device_was_given() {
        let fixture = Fixture::new().await;
        let (device, other) = (id("device"), id("other"));
        fixture.commissioned(&other).await;
        fixture.clock.set(NOON + 9 * HOUR);
        let (own, _) = fixture.commissioned(&device).await;
        fixture.clock.set(NOON);
        fixture.registry.set_clock_back().await.unwrap().unwrap();
        let ends = async |device| {
            let voucher =
                VoucherRequest { device, slot: Slot::Owner, owner: key(), lifetime: Some(60), claim_counter: None };
            fixture.registry.grant_voucher(&voucher).await.unwrap().claims().expires_at.unwrap()
        };
        assert_eq!(ends(other).await, NOON + 60);
        assert_eq!(ends(device).await, NOON + 9 * HOUR + 60);
        // Given up, it begins anew with the next owner, be that ourselves.
        fixture.registry.released(&device, &own).await.unwrap();
        assert_eq!(fixture.registry.clock().await.unwrap().devices, []);
    }

    /// Whoever set the clock back is told what goes on being good for as long as the clock was ahead.
    #[tokio::test]
    async fn what_ends_too_late_is_named() {
        let fixture = Fixture::new().await;
        let (device, owner, stations, registry) = (id("device"), key(), [key(), key(), key()], &fixture.registry);
        let (own, _) = fixture.commissioned(&device).await;
        let voucher = async |lifetime| {
            let voucher = VoucherRequest { device, slot: Slot::Owner, owner, lifetime, claim_counter: None };
            registry.grant_voucher(&voucher).await.unwrap();
        };
        registry.grant_station(&stations[0], StationScope::Distribute, HOUR).await.unwrap();
        voucher(Some(HOUR)).await;
        fixture.clock.set(NOON + 9 * HOUR);
        registry.grant_station(&stations[1], StationScope::Distribute, HOUR).await.unwrap();
        registry.grant_station(&stations[2], StationScope::Distribute, HOUR).await.unwrap();
        voucher(None).await;
        voucher(Some(2 * HOUR)).await;
        assert_eq!(registry.clock().await.unwrap().grants, [], "the clock says so itself");

        fixture.clock.set(NOON);
        registry.set_clock_back().await.unwrap();
        let thumbprint = |station: &PublicKey| station.thumbprint().to_string();
        let token = |station| GrantAhead {
            what: Granted::Token { station: thumbprint(station) },
            issued_at: NOON + 9 * HOUR,
            expires_at: NOON + 10 * HOUR,
        };
        let to_owner = GrantAhead {
            what: Granted::Voucher { device, owner: thumbprint(&owner) },
            expires_at: NOON + 11 * HOUR,
            ..token(&owner)
        };
        let mut tokens = [token(&stations[1]), token(&stations[2])];
        tokens.sort_by_key(|grant| format!("{:?}", grant.what));
        let grants = registry.clock().await.unwrap().grants;
        assert_eq!(grants, [&tokens[..], std::slice::from_ref(&to_owner)].concat());

        // What was ended since is not.
        registry.revoke_station(&thumbprint(&stations[1])).await.unwrap();
        assert_eq!(registry.clock().await.unwrap().grants, [token(&stations[2]), to_owner.clone()]);
        registry.released(&device, &own).await.unwrap();
        assert_eq!(registry.clock().await.unwrap().grants, [token(&stations[2])]);
        // Nor is what is over as it was meant to be.
        fixture.clock.set(NOON + 9 * HOUR);
        assert_eq!(registry.clock().await.unwrap().grants, []);
    }

    #[tokio::test]
    async fn a_second_after_a_station_was_revoked_another_one_may_act() {
        let fixture = Fixture::new().await;
        let (out, next) = (key(), key());
        fixture.registry.grant_station(&out, StationScope::Distribute, HOUR).await.unwrap();
        fixture.registry.revoke_station(&out.thumbprint().to_string()).await.unwrap();
        let (token, _) = fixture.registry.grant_station(&next, StationScope::Distribute, HOUR).await.unwrap();
        assert_eq!(token.issued_at, NOON + 1, "the list says that nothing of before counts");
    }

    #[tokio::test]
    async fn a_registry_of_2040_in_which_nothing_is_signed_waits_for_nobody() {
        let fixture = Fixture::new().await;
        fixture.clock.set(NOON - ONE_DAY);
        let view = fixture.registry.clock().await.unwrap();
        assert_eq!((view.believed, view.beginning, view.standing), (None, NOON, Standing::Believed));
        fixture.commissioned(&id("device")).await;
        assert_eq!(fixture.registry.clock().await.unwrap().believed, Some(NOON - ONE_DAY));
    }
}
