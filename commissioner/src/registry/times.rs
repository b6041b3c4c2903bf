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

use std::{collections::BTreeMap, sync::Once};

use cbor_schemas::{DeviceId, DeviceListClaims};
use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{
    change::Change,
    error::Error,
    event::Event,
    handle::Registry,
    record::{Cti, Key, Slot},
    rows::columns,
    stations,
};
use crate::{
    clock::{rfc3339, span},
    output::complain,
};

/// How far behind the believed time the clock may be, in seconds.
pub const TOLERANCE: u64 = 60 * 60;
/// How far ahead of it, in seconds.
pub const ONE_DAY: u64 = 24 * 60 * 60;
/// From here on it is said that a signature bears another time than the clock's, in seconds.
const WORTH_SAYING: u64 = 60;

/// Devices that were given something that bears a later time than $1, since they were last given up: the newest of those.
/// It is about all devices, or those of the condition. The trail has all that was signed here, and the certificates what was
/// merged; the maker's part of a device's memory outlives it being given up.
macro_rules! newest {
    ($condition:literal) => {
        concat!(
            "SELECT device, MAX(time) AS newest, MAX(made) AS made FROM (\
             SELECT keys.device AS device, c.issued_at AS time, \
             CAST(CASE WHEN c.slot = 'factory' AND c.status <> 'revoked' THEN 1 ELSE 0 END AS BIGINT) AS made \
             FROM certificates c JOIN keys ON keys.x = c.x WHERE c.object IS NOT NULL AND c.issued_at > $1 \
             AND (c.slot = 'factory' OR c.status IN ('issued', 'installed')) ",
            $condition,
            " UNION ALL SELECT device, time, CAST(0 AS BIGINT) FROM audit a WHERE time > $1 ",
            $condition,
            " AND device <> '' AND event IN ('certificate-intended', 'token-intended', 'voucher-intended') AND NOT EXISTS \
             (SELECT 1 FROM audit r WHERE r.device = a.device AND r.event = 'released' AND r.seq > a.seq)\
             ) AS given GROUP BY device ORDER BY device"
        )
    };
}

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
        // One snapshot, in which nothing is written.
        let mut tx = self.pool.begin().await?;
        let now = self.now();
        let head = sqlx::query("SELECT believed FROM audit_head WHERE id = 1").fetch_one(&mut *tx).await?;
        let believed = Some(columns::unsigned(&head, "believed")?).filter(|believed| *believed > 0);
        let beginning = beginning(&mut tx).await?.unwrap_or(now);
        let min_iat = newest_min_iat(&mut tx).await?;
        Ok(ClockView {
            now,
            believed,
            beginning,
            standing: Standing::of(now, believed, beginning),
            min_iat: (min_iat > now).then_some(min_iat),
            devices: held_ahead(&mut tx, now).await?,
            grants: granted_ahead(&mut tx, now).await?,
        })
    }

    /// The clock was ahead, and is right now: what it says is believed from now on. On record; what was signed meanwhile
    /// stays signed. Returns what was believed before, or `None` if the clock is not behind.
    pub async fn set_clock_back(&self) -> Result<Option<u64>, Error> {
        let mut change = Change::begin(self).await?;
        let now = change.now;
        let Some(newest) = change.newest_signature().filter(|newest| now < *newest) else { return Ok(None) };
        change.believed = now;
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
        let beginning = beginning(&mut self.tx).await?.unwrap_or(now);
        let last = newest.unwrap_or(beginning);
        match Standing::of(now, newest, beginning) {
            Standing::Behind => return Err(Error::ClockBehind { now, last }),
            Standing::Ahead if !self.clock_ok => return Err(Error::ClockAhead { now, last }),
            Standing::LittleBehind if last - now >= WORTH_SAYING => tell_of_clock(now, last),
            _ => {}
        }
        self.believed = self.believed.max(now);
        self.now = self.believed;
        Ok(self.now)
    }

    /// The time for a token or a voucher: not before what the lists of devices demand.
    ///
    /// # Errors
    /// As [`Change::signing_time`].
    pub(super) async fn token_time(&mut self) -> Result<u64, Error> {
        let time = self.signing_time().await?;
        self.now = time.max(newest_min_iat(&mut self.tx).await?);
        Ok(self.now)
    }

    /// When something for `device` ends that bears `time` and is to be good for so many seconds.
    pub(super) async fn expiry(&mut self, device: &DeviceId, time: u64, seconds: u64) -> Result<u64, Error> {
        let newest = sqlx::query(newest!("AND device = $2"))
            .bind(columns::signed(time))
            .bind(device.as_str())
            .fetch_optional(&mut *self.tx)
            .await?;
        let newest = newest.map(|row| columns::unsigned(&row, "newest")).transpose()?;
        Ok(newest.unwrap_or(time).saturating_add(seconds))
    }

    fn newest_signature(&self) -> Option<u64> {
        (self.believed > 0).then_some(self.believed)
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

/// Says that signatures bear another time than the clock's: once in a process, however many there are.
fn tell_of_clock(now: u64, last: u64) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        let behind = span(last - now);
        complain(format_args!(
            "the clock says {}, which is {behind} behind the newest signature; until it has caught up, signatures bear that one's \
             time, {}",
            rfc3339(now),
            rfc3339(last)
        ));
    });
}

async fn beginning(connection: &mut AnyConnection) -> Result<Option<u64>, Error> {
    let first = sqlx::query("SELECT time FROM audit WHERE seq = 1").fetch_optional(connection).await?;
    first.map(|row| columns::unsigned(&row, "time")).transpose()
}

/// The newest `min_iat` of a list that is there, or that will be.
async fn newest_min_iat(connection: &mut AnyConnection) -> Result<u64, Error> {
    let list = sqlx::query("SELECT claims FROM lists ORDER BY version DESC LIMIT 1");
    let said = match list.fetch_optional(&mut *connection).await? {
        Some(row) => list_claims(&row, |claims| claims.min_iat)?,
        None => 0,
    };
    Ok(said.max(stations::min_iat(connection).await?))
}

async fn held_ahead(connection: &mut AnyConnection, now: u64) -> Result<Vec<(DeviceId, HeldAhead)>, Error> {
    let mut held = BTreeMap::new();
    for row in sqlx::query(newest!("")).bind(columns::signed(now)).fetch_all(&mut *connection).await? {
        let (until, made) = (columns::unsigned(&row, "newest")?, columns::unsigned(&row, "made")? > 0);
        held.insert(columns::word(&row, "device")?, HeldAhead { until, made });
    }
    // Whoever put a list on a device may have had a token of another time. Versions are not less than the times of signing.
    let lists = sqlx::query("SELECT version, claims FROM lists WHERE version > $1 ORDER BY version")
        .bind(columns::signed(now))
        .fetch_all(&mut *connection)
        .await?;
    for list in &lists {
        let until = list_claims(list, |claims| claims.issued_at)?;
        if until <= now {
            continue;
        }
        let holders = sqlx::query("SELECT device FROM devices WHERE list_version >= $1")
            .bind(list.try_get::<i64, _>("version")?)
            .fetch_all(&mut *connection)
            .await?;
        for holder in &holders {
            let held = held.entry(columns::word(holder, "device")?).or_insert(HeldAhead { until, made: false });
            held.until = held.until.max(until);
        }
    }
    Ok(held.into_iter().collect())
}

async fn granted_ahead(connection: &mut AnyConnection, now: u64) -> Result<Vec<GrantAhead>, Error> {
    let tokens = sqlx::query(
        "SELECT station, issued_at, expires_at FROM tokens WHERE revoked_at IS NULL AND issued_at > $1 ORDER BY station, id",
    );
    let mut granted = Vec::new();
    for row in tokens.bind(columns::signed(now)).fetch_all(&mut *connection).await? {
        granted.push(GrantAhead {
            what: Granted::Token { station: row.try_get("station")? },
            issued_at: columns::unsigned(&row, "issued_at")?,
            expires_at: columns::unsigned(&row, "expires_at")?,
        });
    }
    let vouchers = sqlx::query(
        "SELECT device, time, payload FROM audit a WHERE time > $1 AND event = 'voucher-intended' AND NOT EXISTS \
         (SELECT 1 FROM audit r WHERE r.device = a.device AND r.event = 'released' AND r.seq > a.seq) ORDER BY device, seq",
    );
    for row in vouchers.bind(columns::signed(now)).fetch_all(&mut *connection).await? {
        let voucher: VoucherEntry =
            serde_json::from_str(row.try_get("payload")?).map_err(|_| Error::Corrupt("a voucher's entry"))?;
        // The others end by their use.
        if let Some(expires_at) = voucher.expires_at {
            let what = Granted::Voucher { device: columns::word(&row, "device")?, owner: voucher.owner };
            granted.push(GrantAhead { what, issued_at: columns::unsigned(&row, "time")?, expires_at });
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

fn list_claims(row: &AnyRow, wanted: impl Fn(&DeviceListClaims<'_>) -> u64) -> Result<u64, Error> {
    let claims: Vec<u8> = row.try_get("claims")?;
    DeviceListClaims::decode(&claims).map(|claims| wanted(&claims)).map_err(|_| Error::Corrupt("list"))
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
