//! Finding devices, by ID, key, nickname or the beginning of one.

use cbor_schemas::DeviceId;
use protocol::key::PublicKey;
use sqlx::{Any, AnyConnection, Row, Transaction, any::AnyRow};

use super::{
    Error, Registry,
    mine::mine,
    record::{Certificate, Cti, Device, DeviceRef, Key, Revoked},
    sql,
};

/// Devices that are in memory at a time.
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

impl Registry {
    /// The device that the user means.
    ///
    /// The whole of an ID counts before a nickname, and a nickname before the beginning of anything.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`]; [`Error::Ambiguous`] with the candidates.
    pub async fn device(&self, name: &DeviceRef) -> Result<Device, Error> {
        let unknown = || Error::UnknownDevice(name.as_str().to_owned());
        let mut ids = Vec::new();
        for query in [BY_ID, BY_NICKNAME, BY_PREFIX] {
            if ids.is_empty() {
                ids = self.ids(query, name.as_str()).await?;
            }
        }
        match ids.as_slice() {
            [] => Err(unknown()),
            [(id, _)] => self.device_by_id(id).await?.ok_or_else(unknown),
            several => Err(Error::Ambiguous {
                name: name.as_str().to_owned(),
                candidates: several.iter().map(|(id, nickname)| candidate(id, nickname.as_deref())).collect(),
            }),
        }
    }

    /// The device with this ID.
    pub async fn device_by_id(&self, id: &DeviceId) -> Result<Option<Device>, Error> {
        load(&mut *self.pool.acquire().await?, id).await
    }

    /// The device whose key this is or was.
    pub async fn device_by_key(&self, key: &PublicKey) -> Result<Option<Device>, Error> {
        match holder(&mut *self.pool.acquire().await?, key).await? {
            Some(id) => self.device_by_id(&id).await,
            None => Ok(None),
        }
    }

    /// All devices, ordered by ID.
    pub async fn devices(&self) -> Result<Vec<Device>, Error> {
        let mut tx = self.pool.begin().await?;
        let [devices, keys, certificates] = queries!("");
        let devices = sqlx::query(devices).fetch_all(&mut *tx).await?;
        let keys = sqlx::query(keys).fetch_all(&mut *tx).await?;
        let certificates = sqlx::query(certificates).fetch_all(&mut *tx).await?;
        assemble(&devices, &keys, &certificates)
    }

    /// Takes all devices in the order of their IDs, in constant memory.
    ///
    /// # Errors
    /// Its own, and those of `take`, which end it.
    pub async fn each_device<E: From<Error>>(&self, take: impl FnMut(&Device) -> Result<(), E>) -> Result<(), E> {
        self.read().await?.each_device(take).await
    }

    /// The registry as it is now, to be read in pieces: what others change meanwhile is not seen.
    pub async fn read(&self) -> Result<Reading, Error> {
        Ok(Reading(self.pool.begin().await?))
    }

    async fn ids(&self, query: &'static str, name: &str) -> Result<Vec<(DeviceId, Option<String>)>, Error> {
        let mut bound = sqlx::query(query).bind(name);
        if query == BY_PREFIX {
            bound = bound.bind(format!("{name}{AFTER_ASCII}"));
        }
        let rows = bound.fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((sql::word(row, "device")?, row.try_get("nickname")?))).collect()
    }
}

/// The registry as it was at one time.
pub struct Reading(pub(super) Transaction<'static, Any>);

impl Reading {
    /// Takes all devices in the order of their IDs, in constant memory.
    ///
    /// # Errors
    /// Its own, and those of `take`, which end it.
    pub async fn each_device<E: From<Error>>(
        &mut self,
        mut take: impl FnMut(&Device) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut last = None;
        loop {
            let page = self.devices(last.as_ref()).await?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some(end.id);
            page.iter().try_for_each(&mut take)?;
        }
    }

    /// Some devices after `after` in the order of their IDs, or the first ones; none at the end.
    pub async fn devices(&mut self, after: Option<&DeviceId>) -> Result<Vec<Device>, Error> {
        let tx = &mut self.0;
        let after = after.map_or("", |id| id.as_str());
        let devices = sqlx::query("SELECT * FROM devices WHERE device > $1 ORDER BY device LIMIT $2")
            .bind(after)
            .bind(PAGE)
            .fetch_all(&mut **tx)
            .await?;
        let Some(last) = devices.last() else { return Ok(Vec::new()) };
        let last: String = last.try_get("device")?;
        let [_, keys, certificates] = queries!("WHERE device > $1 AND device <= $2");
        let keys = sqlx::query(keys).bind(after).bind(last.clone()).fetch_all(&mut **tx).await?;
        let certificates = sqlx::query(certificates).bind(after).bind(last).fetch_all(&mut **tx).await?;
        assemble(&devices, &keys, &certificates)
    }
}

const BY_ID: &str = "SELECT device, nickname FROM devices WHERE device = $1";
const BY_NICKNAME: &str = "SELECT device, nickname FROM devices WHERE nickname = $1";
/// What begins with $1 lies between it and $2, for IDs and thumbprints are ASCII: so that an index finds it. Thumbprints are
/// lower-case; people may type them otherwise.
const BY_PREFIX: &str = "SELECT device, nickname FROM devices WHERE device >= $1 AND device < $2 \
     UNION SELECT d.device, d.nickname FROM keys k JOIN devices d ON d.device = k.device \
     WHERE k.thumbprint >= lower($1) AND k.thumbprint < lower($2) ORDER BY 1 LIMIT 100";
/// Greater than any character of an ID.
const AFTER_ASCII: char = '\u{7f}';

fn candidate(id: &DeviceId, nickname: Option<&str>) -> String {
    nickname.map_or_else(|| id.to_string(), |nickname| format!("{id} ({nickname})"))
}

/// What finds a device by its key.
const BY_KEY: &str = "SELECT device FROM keys WHERE x = $1";

/// The device with this ID, within a transaction or without.
pub(super) async fn load(connection: &mut AnyConnection, id: &DeviceId) -> Result<Option<Device>, Error> {
    let [devices, keys, certificates] = queries!("WHERE device = $1");
    let devices = sqlx::query(devices).bind(id.as_str()).fetch_all(&mut *connection).await?;
    let keys = sqlx::query(keys).bind(id.as_str()).fetch_all(&mut *connection).await?;
    let certificates = sqlx::query(certificates).bind(id.as_str()).fetch_all(&mut *connection).await?;
    Ok(assemble(&devices, &keys, &certificates)?.pop())
}

/// The ID under which a key is known.
pub(super) async fn holder(connection: &mut AnyConnection, key: &PublicKey) -> Result<Option<DeviceId>, Error> {
    let row = sqlx::query(BY_KEY).bind(key.x().to_vec()).fetch_optional(&mut *connection).await?;
    row.map(|row| sql::word(&row, "device")).transpose()
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
        id: sql::word(row, "device")?,
        nickname: row.try_get("nickname")?,
        profile: sql::word(row, "profile")?,
        first_seen: sql::unsigned(row, "first_seen")?,
        last_seen: sql::unsigned(row, "last_seen")?,
        list_version: row.try_get::<Option<i64>, _>("list_version")?.and_then(|version| u64::try_from(version).ok()),
        policy: sql::word(row, "policy")?,
        keys: Vec::new(),
    })
}

fn key_from(row: &AnyRow) -> Result<(DeviceId, Key), Error> {
    let revoked = match row.try_get::<Option<i64>, _>("revoked_at")? {
        Some(_) => Some(Revoked {
            at: sql::unsigned(row, "revoked_at")?,
            reason: row.try_get::<Option<String>, _>("revoked_reason")?.unwrap_or_default(),
        }),
        None => None,
    };
    let key = Key {
        x: sql::bytes(row, "x")?,
        thumbprint: row.try_get("thumbprint")?,
        status: sql::word(row, "status")?,
        counts_by: sql::word(row, "counts_by")?,
        mine: sql::unsigned(row, "mine")? == 1,
        provenance: sql::word(row, "provenance")?,
        proof: sql::word(row, "proof")?,
        generation: sql::unsigned(row, "generation")?.try_into().map_err(|_| Error::Corrupt("generation"))?,
        first_seen: sql::unsigned(row, "first_seen")?,
        last_seen: sql::unsigned(row, "last_seen")?,
        revoked,
        escrowed: sql::unsigned(row, "copies")? > 0,
        certificates: Vec::new(),
    };
    Ok((sql::word(row, "device")?, key))
}

fn certificate_from(row: &AnyRow) -> Result<([u8; 32], Certificate), Error> {
    let certificate = Certificate {
        cti: Cti(sql::bytes(row, "cti")?),
        slot: sql::word(row, "slot")?,
        status: sql::word(row, "status")?,
        issued_at: sql::unsigned(row, "issued_at")?,
        key_origin: sql::word(row, "key_origin")?,
        proof: sql::word(row, "proof")?,
        object: row.try_get("object")?,
    };
    Ok((sql::bytes(row, "x")?, certificate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{
        CertificateStatus, CountsBy, KeyStatus, Slot,
        testing::{Fixture, id, key},
    };

    async fn find(fixture: &Fixture, name: &str) -> Result<DeviceId, Error> {
        fixture.registry.device(&name.parse().unwrap()).await.map(|device| device.id)
    }

    #[tokio::test]
    async fn a_device_goes_by_many_names() {
        let fixture = Fixture::new().await;
        let (a, b) = (id("a_1"), id("a_1-2"));
        let (key_a, _) = fixture.commissioned(&a).await;
        fixture.commissioned(&b).await;
        fixture.registry.set_nickname(&a, &"Küche".parse().unwrap()).await.unwrap();

        assert_eq!(find(&fixture, a.as_str()).await.unwrap(), a, "a whole ID is not a prefix");
        assert_eq!(find(&fixture, "urn:dev:ops:32473-test-a_1-").await.unwrap(), b);
        assert_eq!(find(&fixture, "Küche").await.unwrap(), a);
        let thumbprint = key_a.thumbprint().to_string();
        assert_eq!(find(&fixture, &thumbprint).await.unwrap(), a);
        assert_eq!(find(&fixture, &thumbprint[..16]).await.unwrap(), a);
        assert_eq!(find(&fixture, &thumbprint[..16].to_uppercase()).await.unwrap(), a);
        for nobody in ["urn:dev:ops:32473-test-a%", "urn:dev:ops:32473-test-a?1", "Küch", "zz", "URN:dev"] {
            assert!(matches!(find(&fixture, nobody).await, Err(Error::UnknownDevice(_))), "{nobody}");
        }
    }

    /// However many devices there are, an index finds the one.
    #[tokio::test]
    async fn no_lookup_looks_at_all_devices() {
        let fixture = Fixture::new().await;
        let one = queries!("WHERE device = $1");
        let [_, keys, certificates] = queries!("WHERE device > $1 AND device <= $2");
        for query in [BY_ID, BY_NICKNAME, BY_PREFIX, BY_KEY, one[0], one[1], one[2], keys, certificates] {
            let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}")))
                .bind("a")
                .bind("b")
                .fetch_all(&fixture.registry.pool)
                .await
                .unwrap();
            let steps: Vec<String> = plan.iter().map(|row| row.try_get("detail").unwrap()).collect();
            assert!(steps.iter().any(|step| step.starts_with("SEARCH")), "{query}: {steps:?}");
            assert!(!steps.iter().any(|step| step.starts_with("SCAN")), "{query}: {steps:?}");
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

    #[tokio::test]
    async fn a_former_key_still_names_its_device() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let (old, _) = fixture.commissioned(&device).await;
        fixture.registry.rekeyed(&device, &old, &key(), 2).await.unwrap();
        assert_eq!(find(&fixture, &old.thumbprint().to_string()[..20]).await.unwrap(), device);
        assert_eq!(fixture.registry.device_by_key(&old).await.unwrap().unwrap().id, device);
        assert!(fixture.registry.device_by_key(&key()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_ambiguous_name_lists_whom_it_could_mean() {
        let fixture = Fixture::new().await;
        fixture.commissioned(&id("a")).await;
        fixture.commissioned(&id("b")).await;
        fixture.registry.set_nickname(&id("b"), &"kitchen".parse().unwrap()).await.unwrap();
        match find(&fixture, "urn:dev:").await {
            Err(Error::Ambiguous { candidates, .. }) => {
                assert_eq!(candidates, ["urn:dev:ops:32473-test-a", "urn:dev:ops:32473-test-b (kitchen)"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_nickname_is_one_devices() {
        let fixture = Fixture::new().await;
        let kitchen = "kitchen".parse().unwrap();
        for name in ["a", "b"] {
            fixture.commissioned(&id(name)).await;
        }
        fixture.registry.set_nickname(&id("a"), &kitchen).await.unwrap();
        let entries = fixture.events(&id("a")).await.len();
        fixture.registry.set_nickname(&id("a"), &kitchen).await.unwrap();
        assert_eq!(fixture.events(&id("a")).await.len(), entries, "the same again is no event");
        let taken = fixture.registry.set_nickname(&id("b"), &kitchen).await.unwrap_err();
        assert!(matches!(&taken, Error::NicknameTaken { device, .. } if device == id("a").as_str()), "{taken}");
        fixture.registry.set_nickname(&id("a"), &"hall".parse().unwrap()).await.unwrap();
        fixture.registry.set_nickname(&id("b"), &kitchen).await.unwrap();
        let none = fixture.registry.set_nickname(&id("none"), &"x".parse().unwrap()).await;
        assert!(matches!(none, Err(Error::UnknownDevice(_))));
    }

    #[tokio::test]
    async fn keys_and_certificates_come_with_their_device() {
        let fixture = Fixture::new().await;
        let mut expected = Vec::new();
        for name in ["c", "a", "b"] {
            let (old, cti) = fixture.commissioned(&id(name)).await;
            let new = key();
            fixture.registry.rekeyed(&id(name), &old, &new, 2).await.unwrap();
            expected.push((id(name), old, new, cti));
        }
        expected.sort_by_key(|(id, ..)| *id);
        let devices = fixture.registry.devices().await.unwrap();
        assert_eq!(devices.len(), 3);
        for (device, (id, old, new, cti)) in devices.iter().zip(expected) {
            assert_eq!(device.id, id);
            assert_eq!(device.keys.len(), 2);
            let (old, new) = (device.key(&old).unwrap(), device.key(&new).unwrap());
            assert_eq!((old.status, new.status), (KeyStatus::Revoked, KeyStatus::Pending));
            assert!(new.is_settled() && !new.mine && !old.mine && old.counts_by == CountsBy::Certificate);
            assert_eq!(new.certificates.len(), 0);
            let [certificate] = &old.certificates[..] else { panic!("one certificate") };
            assert_eq!((certificate.cti, certificate.slot), (cti, Slot::Owner));
            assert_eq!(certificate.status, CertificateStatus::Revoked);
            assert_eq!(device.current().unwrap().x, new.x);
        }
    }
}
