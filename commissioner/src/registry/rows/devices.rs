//! The table `devices`, and devices with all that belongs to them.

use cbor_schemas::DeviceId;
use sqlx::{Row, any::AnyRow};

use super::{
    certificates::certificate_from,
    columns,
    keys::{key_from, mine},
    transaction::Rows,
};
use crate::registry::{error::Error, record::Device};

/// Devices that are loaded at a time.
const PAGE: i64 = 500;

/// The queries for some devices, or all of them, each in the order in which [`assemble`] wants its rows.
macro_rules! queries {
    ($condition:literal) => {
        [
            concat!("SELECT * FROM devices ", $condition, " ORDER BY device"),
            concat!(
                "SELECT keys.*, (SELECT count(*) FROM escrow WHERE escrow.x = keys.x) AS copies, CAST(CASE WHEN ",
                mine!(),
                " THEN 1 ELSE 0 END AS BIGINT) AS mine FROM keys ",
                $condition,
                " ORDER BY device, ordinal"
            ),
            concat!(
                "SELECT c.* FROM certificates c JOIN keys ON keys.x = c.x ",
                $condition,
                " ORDER BY device, ordinal, issued_at, cti"
            ),
        ]
    };
}

const BY_ID: &str = "SELECT device, nickname FROM devices WHERE device = $1";
const NICKNAMES: &str = "SELECT device, nickname FROM devices WHERE nickname > ''";
/// What begins with $1 lies between it and $2, for thumbprints are ASCII: so that an index finds it. They are lower-case; people
/// may type them otherwise.
const BY_THUMBPRINT: &str = "SELECT d.device, d.nickname FROM keys k JOIN devices d ON d.device = k.device \
     WHERE k.thumbprint >= lower($1) AND k.thumbprint < lower($2) ORDER BY 1 LIMIT 100";
/// Greater than any character of a thumbprint.
const AFTER_ASCII: char = '\u{7f}';
/// What has $1 in its ID, in any case. No index helps there: people write that, scripts whole names.
const BY_PIECE: &str =
    "SELECT device, nickname FROM devices WHERE lower(device) LIKE '%' || $1 || '%' ESCAPE '!' ORDER BY device";

/// A device's ID, and its nickname.
pub(crate) type Called = (DeviceId, Option<String>);

impl Rows {
    /// The device with this ID.
    pub(crate) async fn device(&mut self, id: &DeviceId) -> Result<Option<Device>, Error> {
        Ok(self.assembled(queries!("WHERE device = $1"), &[id.as_str()]).await?.pop())
    }

    /// All devices, ordered by ID.
    pub(crate) async fn devices(&mut self) -> Result<Vec<Device>, Error> {
        self.assembled(queries!(""), &[]).await
    }

    /// Some devices after `after` in the order of their IDs, or the first ones; none at the end.
    pub(crate) async fn devices_after(&mut self, after: Option<&DeviceId>) -> Result<Vec<Device>, Error> {
        let after = after.map_or("", |id| id.as_str());
        let devices = sqlx::query("SELECT * FROM devices WHERE device > $1 ORDER BY device LIMIT $2")
            .bind(after.to_owned())
            .bind(PAGE)
            .fetch_all(self.connection())
            .await?;
        let Some(last) = devices.last() else { return Ok(Vec::new()) };
        let last: String = last.try_get("device")?;
        let [_, keys, certificates] = queries!("WHERE device > $1 AND device <= $2");
        let keys = self.all(keys, &[after, &last]).await?;
        let certificates = self.all(certificates, &[after, &last]).await?;
        assemble(&devices, &keys, &certificates)
    }

    async fn assembled(&mut self, queries: [&'static str; 3], values: &[&str]) -> Result<Vec<Device>, Error> {
        let [devices, keys, certificates] = queries;
        let devices = self.all(devices, values).await?;
        let keys = self.all(keys, values).await?;
        let certificates = self.all(certificates, values).await?;
        assemble(&devices, &keys, &certificates)
    }

    async fn all(&mut self, query: &'static str, values: &[&str]) -> Result<Vec<AnyRow>, Error> {
        let query = values.iter().fold(sqlx::query(query), |query, value| query.bind((*value).to_owned()));
        Ok(query.fetch_all(self.connection()).await?)
    }

    /// Writes a device, without its keys.
    pub(crate) async fn put_device(&mut self, device: &Device) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO devices (device, nickname, profile, first_seen, last_seen, list_version, policy) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (device) DO UPDATE SET nickname = excluded.nickname, \
             profile = excluded.profile, first_seen = excluded.first_seen, last_seen = excluded.last_seen, \
             list_version = excluded.list_version, policy = excluded.policy",
        )
        .bind(device.id.as_str())
        .bind(device.nickname.clone())
        .bind(device.profile.as_str())
        .bind(columns::signed(device.first_seen))
        .bind(columns::signed(device.last_seen))
        .bind(device.list_version.map(columns::signed))
        .bind(device.policy.as_str())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The device with this ID, as it is written.
    pub(crate) async fn called(&mut self, id: &str) -> Result<Vec<Called>, Error> {
        self.all_called(BY_ID, &[id]).await
    }

    /// The devices with nicknames.
    pub(crate) async fn nicknames(&mut self) -> Result<Vec<Called>, Error> {
        self.all_called(NICKNAMES, &[]).await
    }

    /// The devices, some at the most, with a key whose thumbprint begins so, in any case.
    pub(crate) async fn with_thumbprint(&mut self, beginning: &str) -> Result<Vec<Called>, Error> {
        self.all_called(BY_THUMBPRINT, &[beginning, &format!("{beginning}{AFTER_ASCII}")]).await
    }

    /// The devices that have this, which is in lower case, somewhere in their IDs, in any case.
    pub(crate) async fn with_piece(&mut self, piece: &str) -> Result<Vec<Called>, Error> {
        let escaped = |c| "!%_".contains(c).then_some('!').into_iter().chain([c]);
        let pattern: String = piece.chars().flat_map(escaped).collect();
        self.all_called(BY_PIECE, &[&pattern]).await
    }

    async fn all_called(&mut self, query: &'static str, values: &[&str]) -> Result<Vec<Called>, Error> {
        let rows = self.all(query, values).await?;
        rows.iter().map(|row| Ok((columns::word(row, "device")?, row.try_get("nickname")?))).collect()
    }

    /// The devices that hold a list of this version or a newer one.
    pub(crate) async fn holders_since(&mut self, version: u64) -> Result<Vec<DeviceId>, Error> {
        let query = sqlx::query("SELECT device FROM devices WHERE list_version >= $1").bind(columns::signed(version));
        query.fetch_all(self.connection()).await?.iter().map(|row| columns::word(row, "device")).collect()
    }

    /// How many devices of mine, other than this one, hold a list of another version than this one; without one, any list.
    pub(crate) async fn count_holders_of_others(&mut self, but: &DeviceId, version: Option<u64>) -> Result<u64, Error> {
        let query = sqlx::query(concat!(
            "SELECT COUNT(*) AS holders FROM devices WHERE list_version <> $2 AND device <> $1 \
             AND EXISTS (SELECT 1 FROM keys WHERE keys.device = devices.device AND ",
            mine!(),
            ")"
        ));
        // No list has the version -1.
        let query = query.bind(but.as_str()).bind(version.map_or(-1, columns::signed));
        columns::unsigned(&query.fetch_one(self.connection()).await?, "holders")
    }
}

/// Puts keys to their devices and certificates to their keys; all three in the order of [`queries`].
fn assemble(devices: &[AnyRow], keys: &[AnyRow], certificates: &[AnyRow]) -> Result<Vec<Device>, Error> {
    let mut devices = devices.iter().map(device_from).collect::<Result<Vec<_>, _>>()?;
    let mut certificates =
        certificates.iter().map(certificate_from).collect::<Result<Vec<_>, _>>()?.into_iter().peekable();
    let mut device = devices.iter_mut().peekable();
    for row in keys {
        let (id, mut key) = key_from(row)?;
        while let Some((_, certificate)) = certificates.next_if(|(x, _)| *x == key.x) {
            key.certificates.push(certificate);
        }
        while device.next_if(|device| device.id != id).is_some() {}
        device.peek_mut().ok_or(Error::Corrupt("device"))?.keys.push(key);
    }
    Ok(devices)
}

fn device_from(row: &AnyRow) -> Result<Device, Error> {
    Ok(Device {
        id: columns::word(row, "device")?,
        nickname: row.try_get("nickname")?,
        profile: columns::word(row, "profile")?,
        first_seen: columns::unsigned(row, "first_seen")?,
        last_seen: columns::unsigned(row, "last_seen")?,
        list_version: row.try_get::<Option<i64>, _>("list_version")?.and_then(|version| u64::try_from(version).ok()),
        policy: columns::word(row, "policy")?,
        keys: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::keys::BY_KEY, *};
    use crate::registry::testing::{Fixture, id, key};

    /// However many devices there are, an index finds the one, unless people write a part of its ID.
    #[tokio::test]
    async fn no_lookup_looks_at_all_devices() {
        let fixture = Fixture::new().await;
        let one = queries!("WHERE device = $1");
        let [_, keys, certificates] = queries!("WHERE device > $1 AND device <= $2");
        for query in [BY_ID, NICKNAMES, BY_THUMBPRINT, BY_KEY, one[0], one[1], one[2], keys, certificates] {
            let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"))).bind("a").bind("b");
            let mut reading = fixture.registry.read().await.unwrap();
            let plan = plan.fetch_all(reading.rows.connection()).await.unwrap();
            let steps: Vec<String> = plan.iter().map(|row| row.try_get("detail").unwrap()).collect();
            assert!(steps.iter().any(|step| step.starts_with("SEARCH")), "{query}: {steps:?}");
        }
    }

    #[tokio::test]
    async fn pages_have_every_device_once() {
        let fixture = Fixture::new().await;
        assert!(fixture.registry.read().await.unwrap().devices(None).await.unwrap().is_empty());
        for number in 0..PAGE + 3 {
            let device = id(&number.to_string());
            let seen = crate::registry::testing::seen(
                &device,
                &key(),
                crate::registry::Place::Trusted,
                cbor_schemas::ProofLevel::Unproven,
            );
            fixture.registry.observe_key(&seen).await.unwrap();
        }
        fixture.commissioned(&id("with-a-certificate")).await;
        let mut reading = fixture.registry.read().await.unwrap();
        let first = reading.devices(None).await.unwrap();
        assert_eq!(first.len(), PAGE as usize);
        assert_eq!(reading.devices(first.last().map(|device| &device.id)).await.unwrap().len(), 4);
        drop(reading);
        let mut all = Vec::new();
        let each = fixture.registry.each_device(|device| {
            all.push(device.clone());
            Ok::<_, Error>(())
        });
        each.await.unwrap();
        let describe = |devices: &[Device]| devices.iter().map(|device| format!("{device:?}")).collect::<Vec<_>>();
        assert_eq!(describe(&all), describe(&fixture.registry.devices().await.unwrap()));
    }
}
