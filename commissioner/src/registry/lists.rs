//! Device lists: what is signed, and who holds it.
//!
//! A list is written down before it is signed, like everything else. It is made anew only if it would say something else
//! than the last one, so that devices are not given the same list twice. Versions rise, also after a registry was put back
//! from an old backup: they are at least the time of signing.

use cbor_schemas::{DeviceId, DeviceListClaims, Keys, ListMode, ProofLevel};
use sha2::{Digest, Sha256};
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{
    change::Change, error::Error, event::Event, handle::Registry, mine::mine, reading::Reading, rows::columns,
    snapshot, stations,
};

/// The first list names members if there are no more than this: what devices take, unless their firmware says otherwise.
const MEMBERS_AT_FIRST: usize = 64;

/// The keys of my devices.
const MEMBERS: &str = concat!("SELECT x, proof FROM keys WHERE ", mine!(), " ORDER BY x");
/// Keys that have a certificate, and must not be believed all the same: revoked ones, those of devices given up, and those of
/// devices that may have a certificate, or refused it.
const REVOKED: &str = concat!(
    "SELECT x, proof FROM keys WHERE NOT ",
    mine!(),
    " AND EXISTS (SELECT 1 FROM certificates c WHERE c.x = keys.x AND c.object IS NOT NULL) ORDER BY x"
);
const NEWEST: &str = "SELECT version, mode, keys, claims, object, elsewhere FROM lists ORDER BY version DESC LIMIT 1";

/// A list that may be signed, or is: it is in the registry, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its version.
    pub version: u64,
    /// What its keys mean.
    pub mode: ListMode,
    /// How many keys it has.
    pub keys: usize,
    claims: Vec<u8>,
    object: Option<Vec<u8>>,
}

impl List {
    /// What to sign: the encoded claims.
    pub fn claims(&self) -> &[u8] {
        &self.claims
    }

    /// The signed list, if it is signed.
    pub fn object(&self) -> Option<&[u8]> {
        self.object.as_deref()
    }

    /// The list with its signature.
    pub fn with_object(self, object: Vec<u8>) -> Self {
        Self { object: Some(object), ..self }
    }

    fn from_row(row: &AnyRow) -> Result<Self, Error> {
        Ok(Self {
            version: columns::unsigned(row, "version")?,
            mode: columns::word(row, "mode")?,
            keys: usize::try_from(columns::unsigned(row, "keys")?).map_err(|_| Error::Corrupt("keys"))?,
            claims: row.try_get("claims")?,
            object: row.try_get("object")?,
        })
    }
}

/// What a list is about.
#[derive(PartialEq, Eq)]
struct Contents {
    mode: ListMode,
    min_iat: u64,
    keys: Vec<[u8; 32]>,
    unproven: Vec<[u8; 32]>,
}

impl Registry {
    /// Writes down that a list of all "my devices" will be signed, or finds the last one if nothing has changed. Without
    /// `mode` it is that of the last list; of a first list, `members` if there are no more than 64.
    ///
    /// # Errors
    /// [`Error::ClockBehind`], [`Error::ClockAhead`], [`Error::NewerList`].
    pub async fn begin_list(&self, mode: Option<ListMode>) -> Result<List, Error> {
        let mut change = Change::begin(self).await?;
        let now = change.signing_time().await?;
        // A key that is missing from an index would be missing from the list.
        snapshot::is_sound(&mut change.tx).await?;
        let last = sqlx::query(NEWEST).fetch_optional(&mut *change.tx).await?;
        let last = last.as_ref().map(List::from_row).transpose()?;
        let said = last.as_ref().map(|last| Contents::decode(&last.claims)).transpose()?;
        let wanted = Contents::true_now(&mut change.tx, mode, said.as_ref()).await?;
        if let Some(last) = last.as_ref().filter(|_| said.is_some_and(|said| said == wanted)) {
            return Ok(last.clone());
        }
        let version = last.map_or(0, |last| last.version.saturating_add(1)).max(now);
        let claims = DeviceListClaims {
            issuer: self.issuer_id(),
            issued_at: now,
            version,
            mode: wanted.mode,
            min_iat: wanted.min_iat,
            keys: Keys::from(&wanted.keys[..]),
            unproven: Keys::from(&wanted.unproven[..]),
            audit_head: Some(change.head_hash()?),
        };
        let room = DeviceListClaims::MAX_FIXED_LEN + Keys::KEY_LEN * (wanted.keys.len() + wanted.unproven.len());
        let mut encoded = vec![0; room];
        let len = claims.encode(&mut encoded).map_err(|_| Error::Corrupt("list"))?;
        encoded.truncate(len);
        let list = List { version, mode: wanted.mode, keys: wanted.keys.len(), claims: encoded, object: None };
        sqlx::query("INSERT INTO lists (version, mode, keys, claims) VALUES ($1, $2, $3, $4)")
            .bind(columns::signed(version))
            .bind(list.mode.as_str())
            .bind(columns::signed(list.keys as u64))
            .bind(list.claims.clone())
            .execute(&mut *change.tx)
            .await?;
        let sha256 = hex::encode(Sha256::digest(&list.claims));
        let event = Event::ListIntended { version, mode: list.mode.as_str(), keys: list.keys, sha256 };
        change.record(None, &event).await?;
        change.commit().await?;
        Ok(list)
    }

    /// The list is signed: keeps the bytes. Only after this may they be sent.
    pub async fn list_signed(&self, version: u64, object: &[u8]) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let updated = sqlx::query("UPDATE lists SET object = $1 WHERE version = $2 AND object IS NULL")
            .bind(object.to_vec())
            .bind(columns::signed(version))
            .execute(&mut *change.tx)
            .await?;
        if updated.rows_affected() == 0 {
            return Ok(());
        }
        let sha256 = hex::encode(Sha256::digest(object));
        change.record(None, &Event::ListSigned { version, sha256 }).await?;
        change.commit().await
    }

    /// The newest list, if there ever was one.
    pub async fn list(&self) -> Result<Option<List>, Error> {
        sqlx::query(NEWEST).fetch_optional(&self.pool).await?.as_ref().map(List::from_row).transpose()
    }

    /// A device of ours said, under OSCORE, which list it holds.
    ///
    /// # Errors
    /// [`Error::NewerList`] if no such list is known here, be it older than our own newest one: that one may have been signed a
    /// moment ago, by a registry that was put back. Nothing is signed then, until the device is revoked or the registry that
    /// signed it is merged: a key that was revoked there must not come back.
    pub async fn list_seen(&self, device: &DeviceId, version: Option<u64>) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        if let Some(version) = version
            && !change.knows_list(version).await?
        {
            return change.unknown_list(device, version).await;
        }
        change.note_list(device, version).await
    }

    /// The same of a device that was claimed a moment ago, and had no owner: it has had no list that anybody else signed.
    ///
    /// # Errors
    /// [`Error::ImpossibleList`] if no such list is known here: the device lies, and nothing else follows from that.
    pub async fn list_seen_after_claim(&self, device: &DeviceId, version: Option<u64>) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        if let Some(version) = version
            && !change.knows_list(version).await?
        {
            return change.impossible_list(device, version).await;
        }
        change.note_list(device, version).await
    }

    /// A device of ours holds another list than ours, of the same version.
    ///
    /// # Errors
    /// Always: [`Error::NewerList`], as for a version that is not known here; after a claim, [`Error::ImpossibleList`].
    pub async fn other_list_seen(&self, device: &DeviceId, version: u64, after_claim: bool) -> Result<(), Error> {
        let change = Change::begin(self).await?;
        match after_claim {
            true => change.impossible_list(device, version).await,
            false => change.unknown_list(device, version).await,
        }
    }
}

impl Registry {
    /// How many devices of ours, other than this one, hold a list that does not say what is true now; any list, if what is true
    /// `has_changed` a moment ago.
    pub async fn holders_of_older_lists(&self, but: &DeviceId, has_changed: bool) -> Result<u64, Error> {
        let mut reading = self.read().await?;
        let in_force = if has_changed { None } else { reading.list_in_force().await? };
        let row = sqlx::query(concat!(
            "SELECT COUNT(*) AS holders FROM devices WHERE list_version <> $2 AND device <> $1 \
             AND EXISTS (SELECT 1 FROM keys WHERE keys.device = devices.device AND ",
            mine!(),
            ")"
        ))
        .bind(but.as_str())
        // No list has this version.
        .bind(in_force.map_or(-1, columns::signed))
        .fetch_one(&mut *reading.0)
        .await?;
        columns::unsigned(&row, "holders")
    }
}

impl Change {
    /// A list that our issuer signed somewhere else, or that the device made up: nothing is signed until that is settled.
    async fn unknown_list(mut self, device: &DeviceId, version: u64) -> Result<(), Error> {
        self.block_signing(device, version).await?;
        self.commit().await?;
        Err(Error::NewerList { device: device.to_string(), version })
    }

    /// A list that the device must have made up.
    async fn impossible_list(mut self, device: &DeviceId, version: u64) -> Result<(), Error> {
        self.record_once(device, &Event::ImpossibleListSeen { version }).await?;
        self.commit().await?;
        Err(Error::ImpossibleList { device: device.to_string(), version })
    }

    /// Takes note of the list that a device holds.
    async fn note_list(mut self, device: &DeviceId, version: Option<u64>) -> Result<(), Error> {
        match self.set_held(device, version).await? {
            true => self.commit().await,
            false => Ok(()),
        }
    }

    /// A device holds no list: it was erased, or its owner slot was emptied. Whether that is news.
    pub(super) async fn holds_no_list(&mut self, device: &DeviceId) -> Result<bool, Error> {
        self.set_held(device, None).await
    }

    async fn set_held(&mut self, device: &DeviceId, version: Option<u64>) -> Result<bool, Error> {
        let held = sqlx::query("SELECT list_version FROM devices WHERE device = $1")
            .bind(device.as_str())
            .fetch_optional(&mut *self.tx)
            .await?;
        let held: Option<i64> = held.map(|row| row.try_get("list_version")).transpose()?.flatten();
        let seen = version.map(columns::signed);
        if held == seen {
            return Ok(false);
        }
        sqlx::query("UPDATE devices SET list_version = $1 WHERE device = $2")
            .bind(seen)
            .bind(device.as_str())
            .execute(&mut *self.tx)
            .await?;
        self.record(Some(device), &Event::ListHeld { version }).await?;
        Ok(true)
    }

    /// Whether a list of this version was signed here, or merged. At a station whose lists are all signed elsewhere, whether
    /// it is at least not newer than those that were brought here.
    pub(super) async fn knows_list(&mut self, version: u64) -> Result<bool, Error> {
        let known =
            sqlx::query("SELECT version FROM lists WHERE version = $1 OR (version > $1 AND elsewhere = 1) LIMIT 1")
                .bind(columns::signed(version))
                .fetch_optional(&mut *self.tx)
                .await?;
        Ok(known.is_some())
    }
}

impl Reading {
    /// The newest signed list.
    pub async fn newest_signed_list(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let query = "SELECT object FROM lists WHERE object IS NOT NULL ORDER BY version DESC LIMIT 1";
        let row = sqlx::query(query).fetch_optional(&mut *self.0).await?;
        Ok(row.map(|row| row.try_get("object")).transpose()?)
    }

    /// The version of the list that says what is true now: none if the next one would say something else than the last one.
    /// Where lists are signed elsewhere, the newest one that was brought here.
    pub async fn list_in_force(&mut self) -> Result<Option<u64>, Error> {
        let Some(row) = sqlx::query(NEWEST).fetch_optional(&mut *self.0).await? else { return Ok(None) };
        let last = List::from_row(&row)?;
        if columns::unsigned(&row, "elsewhere")? == 1 {
            return Ok(Some(last.version));
        }
        let said = Contents::decode(&last.claims)?;
        let wanted = Contents::true_now(&mut self.0, None, Some(&said)).await?;
        Ok((said == wanted).then_some(last.version))
    }

    /// All signed certificates of keys that are not mine: revoked, given up, or not mine yet.
    pub async fn revoked_certificates(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        let query = concat!(
            "SELECT object FROM certificates JOIN keys ON keys.x = certificates.x WHERE object IS NOT NULL AND NOT ",
            mine!()
        );
        let rows = sqlx::query(query).fetch_all(&mut *self.0).await?;
        rows.iter().map(|row| Ok(row.try_get("object")?)).collect()
    }

    /// The signed lists, oldest first: the version of the next one after `after`, and its bytes.
    pub async fn signed_list(&mut self, after: u64) -> Result<Option<(u64, Vec<u8>)>, Error> {
        let query =
            "SELECT version, object FROM lists WHERE version > $1 AND object IS NOT NULL ORDER BY version LIMIT 1";
        match sqlx::query(query).bind(columns::signed(after)).fetch_optional(&mut *self.0).await? {
            Some(row) => Ok(Some((columns::unsigned(&row, "version")?, row.try_get("object")?))),
            None => Ok(None),
        }
    }
}

impl Contents {
    /// What a list of now says, if the last one said `said`.
    async fn true_now(
        connection: &mut AnyConnection,
        mode: Option<ListMode>,
        said: Option<&Self>,
    ) -> Result<Self, Error> {
        let min_iat = said.map_or(0, |said| said.min_iat).max(stations::min_iat(connection).await?);
        let wanted = mode.or(said.map(|said| said.mode)).unwrap_or(ListMode::Members);
        let contents = Self::of_mode(connection, wanted, min_iat).await?;
        match mode.is_none() && said.is_none() && contents.keys.len() > MEMBERS_AT_FIRST {
            true => Self::of_mode(connection, ListMode::Revoked, min_iat).await,
            false => Ok(contents),
        }
    }

    async fn of_mode(connection: &mut AnyConnection, mode: ListMode, min_iat: u64) -> Result<Self, Error> {
        let query = match mode {
            ListMode::Members => MEMBERS,
            ListMode::Revoked => REVOKED,
        };
        let (mut keys, mut unproven) = (Vec::new(), Vec::new());
        for row in sqlx::query(query).fetch_all(connection).await? {
            let x = columns::bytes(&row, "x")?;
            keys.push(x);
            if mode == ListMode::Members && columns::word::<ProofLevel>(&row, "proof")? == ProofLevel::Unproven {
                unproven.push(x);
            }
        }
        Ok(Self { mode, min_iat, keys, unproven })
    }

    fn decode(claims: &[u8]) -> Result<Self, Error> {
        let claims = DeviceListClaims::decode(claims).map_err(|_| Error::Corrupt("list"))?;
        let DeviceListClaims { mode, min_iat, keys, unproven, .. } = claims;
        let (keys, unproven) = (keys.iter().copied().collect(), unproven.iter().copied().collect());
        Ok(Self { mode, min_iat, keys, unproven })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{
        KeyStatus, Place, Revocation, StationScope,
        testing::{Fixture, NOON, id, key, seen},
    };

    fn said(list: &List) -> (ListMode, Vec<[u8; 32]>, Vec<[u8; 32]>) {
        let Contents { mode, keys, unproven, .. } = Contents::decode(&list.claims).unwrap();
        (mode, keys, unproven)
    }

    fn sorted<const N: usize>(mut keys: [[u8; 32]; N]) -> Vec<[u8; 32]> {
        keys.sort_unstable();
        keys.to_vec()
    }

    #[tokio::test]
    async fn members_are_active_keys_that_are_installed_or_were_programmed() {
        let fixture = Fixture::new().await;
        let registry = &fixture.registry;
        assert_eq!(said(&registry.begin_list(None).await.unwrap()), (ListMode::Members, vec![], vec![]));
        let (installed, _) = fixture.commissioned(&id("installed")).await;
        let (revoked, _) = fixture.commissioned(&id("revoked")).await;
        registry.revoke(&id("revoked"), "test").await.unwrap();
        let (released, _) = fixture.commissioned(&id("released")).await;
        registry.released(&id("released"), &released).await.unwrap();
        // Known, and no more.
        fixture.proved(&id("proved"), &key()).await.unwrap();
        let reported = seen(&id("reported"), &key(), Place::Elsewhere, ProofLevel::Unproven);
        registry.observe_key(&reported).await.unwrap();
        // A certificate that is begun is not on the device yet.
        let begun = key();
        fixture.proved(&id("begun"), &begun).await.unwrap();
        fixture.begin(&id("begun"), &begun).await;
        let programmed = key();
        registry
            .observe_key(&seen(&id("programmed"), &programmed, Place::Trusted, ProofLevel::Unproven))
            .await
            .unwrap();
        assert_eq!(fixture.status(&id("programmed"), &programmed).await, KeyStatus::Active);

        // It is the device's key, but nobody knows whether the certificate arrived.
        let (former, _) = fixture.commissioned(&id("accepted")).await;
        let accepted = key();
        fixture.proved(&id("accepted"), &accepted).await.unwrap_err();
        registry.accept_new_key(&id("accepted"), &accepted).await.unwrap();
        let cti = fixture.begin(&id("accepted"), &accepted).await.cti();
        registry.issued(cti, b"signed").await.unwrap();
        // Given up, although it was programmed here.
        let given_up = key();
        registry.observe_key(&seen(&id("given-up"), &given_up, Place::Trusted, ProofLevel::Proved)).await.unwrap();
        registry.released(&id("given-up"), &given_up).await.unwrap();
        assert_eq!(fixture.status(&id("given-up"), &given_up).await, KeyStatus::Pending);

        let list = registry.begin_list(None).await.unwrap();
        let members = sorted([*installed.x(), *programmed.x()]);
        assert_eq!(said(&list), (ListMode::Members, members, vec![*programmed.x()]));
        // All of these have, or may have, certificates, which would let them in elsewhere.
        let list = registry.begin_list(Some(ListMode::Revoked)).await.unwrap();
        let not_mine = sorted([*revoked.x(), *released.x(), *former.x(), *accepted.x()]);
        assert_eq!(said(&list), (ListMode::Revoked, not_mine, vec![]));
        assert_eq!(said(&registry.begin_list(None).await.unwrap()).0, ListMode::Revoked, "as last time");
    }

    #[tokio::test]
    async fn a_list_is_made_anew_if_it_says_something_new() {
        let mut fixture = Fixture::new().await;
        let device = id("device");
        fixture.commissioned(&device).await;
        let first = fixture.registry.begin_list(None).await.unwrap();
        assert_eq!((first.version, first.keys, first.object()), (NOON, 1, None));
        // Whoever signs it, dies, and comes back finds the same claims.
        fixture.reopen().await;
        fixture.clock.set(NOON + 10);
        assert_eq!(fixture.registry.begin_list(None).await.unwrap(), first);
        fixture.registry.list_signed(first.version, b"signed").await.unwrap();
        fixture.registry.list_signed(first.version, b"again").await.unwrap();
        let again = fixture.registry.begin_list(None).await.unwrap();
        assert_eq!((again.version, again.object()), (NOON, Some(&b"signed"[..])));
        assert_eq!(fixture.registry.list().await.unwrap(), Some(again));

        fixture.commissioned(&id("another")).await;
        let second = fixture.registry.begin_list(None).await.unwrap();
        assert_eq!((second.version, second.keys), (NOON + 10, 2));
        // Within the same second, too, and after the clock went back a little: versions rise.
        fixture.registry.revoke(&device, "test").await.unwrap();
        assert_eq!(fixture.registry.begin_list(None).await.unwrap().version, NOON + 11);
        let claims = fixture.registry.list().await.unwrap().unwrap().claims;
        let claims = DeviceListClaims::decode(&claims).unwrap();
        assert_eq!((claims.issuer, claims.issued_at), (fixture.registry.issuer_id(), NOON + 10));
        let head = fixture.registry.verify_audit().await.unwrap();
        assert_ne!(claims.audit_head.map(hex::encode), Some(head.head), "its own entry comes after");
    }

    #[tokio::test]
    async fn many_members_are_known_by_their_certificates() {
        let fixture = Fixture::new().await;
        for number in 0..=MEMBERS_AT_FIRST {
            let device = id(&number.to_string());
            fixture.registry.observe_key(&seen(&device, &key(), Place::Trusted, ProofLevel::Unproven)).await.unwrap();
        }
        let list = fixture.registry.begin_list(Some(ListMode::Members)).await.unwrap();
        assert_eq!(list.keys, MEMBERS_AT_FIRST + 1, "whoever asks for it gets it");
        let other = Fixture::new().await;
        for number in 0..=MEMBERS_AT_FIRST {
            let device = id(&number.to_string());
            other.registry.observe_key(&seen(&device, &key(), Place::Trusted, ProofLevel::Unproven)).await.unwrap();
        }
        let list = other.registry.begin_list(None).await.unwrap();
        assert_eq!((list.mode, list.keys), (ListMode::Revoked, 0));
    }

    #[tokio::test]
    async fn who_holds_which_list_is_remembered() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let (key, _) = fixture.commissioned(&device).await;
        let list = fixture.registry.begin_list(None).await.unwrap();
        assert_eq!(fixture.device(&device).await.list_version, None);
        for _ in 0..2 {
            fixture.registry.list_seen(&device, Some(list.version)).await.unwrap();
        }
        assert_eq!(fixture.device(&device).await.list_version, Some(list.version));
        assert_eq!(fixture.events(&device).await.iter().filter(|event| *event == "list-held").count(), 1);
        fixture.registry.list_seen(&device, None).await.unwrap();
        assert_eq!(fixture.device(&device).await.list_version, None);
        fixture.registry.list_seen(&device, Some(list.version)).await.unwrap();
        fixture.registry.released(&device, &key).await.unwrap();
        assert_eq!(fixture.device(&device).await.list_version, None, "gone with the owner");
    }

    #[tokio::test]
    async fn the_list_in_force_is_what_would_be_signed_now() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let in_force = async || fixture.registry.read().await.unwrap().list_in_force().await.unwrap();
        assert_eq!(in_force().await, None, "there is no list");
        let (old, _) = fixture.commissioned(&device).await;
        let first = fixture.registry.begin_list(None).await.unwrap().version;
        assert_eq!(in_force().await, Some(first));
        // Any news, and it is in force no more, though no other one is signed.
        fixture.commissioned(&id("other")).await;
        assert_eq!(in_force().await, None);
        fixture.registry.revoke(&id("other"), "lost").await.unwrap();
        assert_eq!(in_force().await, Some(first), "it says again what is true");
        fixture.registry.rekeyed(&device, &old, &key(), 2).await.unwrap();
        assert_eq!(in_force().await, None);
        let second = fixture.registry.begin_list(Some(ListMode::Revoked)).await.unwrap().version;
        assert_eq!(in_force().await, Some(second), "as it is, in the mode of the last one");
        let station = key();
        fixture.registry.grant_station(&station, StationScope::Everything, 100).await.unwrap();
        fixture.registry.revoke_station(&station.thumbprint().to_string()).await.unwrap();
        assert_eq!(in_force().await, None, "the next one voids a token");
    }

    /// Whatever it says: nobody owned it until a moment ago, so nobody gave it a list.
    #[tokio::test]
    async fn a_device_that_was_claimed_a_moment_ago_stops_nobody() {
        let fixture = Fixture::new().await;
        let device = id("device");
        fixture.commissioned(&device).await;
        let registry = &fixture.registry;
        let list = registry.begin_list(None).await.unwrap();
        for lie in [0, 1, NOON - 1, NOON + 1, u64::from(u32::MAX), i64::MAX as u64] {
            let error = registry.list_seen_after_claim(&device, Some(lie)).await.unwrap_err();
            assert!(matches!(error, Error::ImpossibleList { version, .. } if version == lie), "{error}");
            registry.begin_list(None).await.unwrap();
        }
        let error = registry.other_list_seen(&device, list.version, true).await.unwrap_err();
        assert!(matches!(error, Error::ImpossibleList { .. }), "{error}");
        fixture.commissioned(&id("another")).await;
        registry.begin_list(None).await.unwrap();
        assert_eq!(fixture.device(&device).await.list_version, None, "it is not believed, either");
        assert!(fixture.events(&device).await.contains(&"impossible-list-seen".to_owned()));
        // What it can hold is taken note of.
        registry.list_seen_after_claim(&device, Some(list.version)).await.unwrap();
        assert_eq!(fixture.device(&device).await.list_version, Some(list.version));
        registry.list_seen_after_claim(&device, None).await.unwrap();
        assert_eq!(fixture.device(&device).await.list_version, None);
        // Later on its word counts.
        assert!(matches!(registry.list_seen(&device, Some(NOON + 9)).await, Err(Error::NewerList { .. })));
    }

    #[tokio::test]
    async fn another_list_of_the_same_version_stops_all_signing_too() {
        let fixture = Fixture::new().await;
        let device = id("device");
        fixture.commissioned(&device).await;
        let list = fixture.registry.begin_list(None).await.unwrap();
        fixture.registry.list_seen(&device, Some(list.version)).await.unwrap();
        let seen = fixture.registry.other_list_seen(&device, list.version, false).await;
        assert!(matches!(seen, Err(Error::NewerList { .. })), "{seen:?}");
        assert!(matches!(fixture.registry.begin_list(None).await, Err(Error::NewerList { .. })));
    }

    #[tokio::test]
    async fn a_list_that_nobody_here_signed_stops_all_signing_though_ours_is_newer() {
        let fixture = Fixture::new().await;
        let device = id("device");
        fixture.commissioned(&device).await;
        let first = fixture.registry.begin_list(None).await.unwrap();
        // A backup of then was put back. Elsewhere a list was signed meanwhile, and a device has it.
        fixture.clock.set(NOON + 20);
        fixture.commissioned(&id("other")).await;
        let ours = fixture.registry.begin_list(None).await.unwrap();
        assert!(ours.version > NOON + 10);
        fixture.registry.list_seen(&device, Some(first.version)).await.unwrap();
        let theirs = fixture.registry.list_seen(&device, Some(NOON + 10)).await;
        assert!(matches!(theirs, Err(Error::NewerList { version, .. }) if version == NOON + 10), "{theirs:?}");
        assert!(matches!(fixture.registry.begin_list(None).await, Err(Error::NewerList { .. })));
    }

    #[tokio::test]
    async fn a_newer_list_on_a_device_stops_all_signing() {
        let mut fixture = Fixture::new().await;
        let (device, other) = (id("device"), id("other"));
        fixture.commissioned(&device).await;
        fixture.commissioned(&other).await;
        let list = fixture.registry.begin_list(None).await.unwrap();
        let newer = |error: Result<_, Error>| match error {
            Err(Error::NewerList { device, version }) => (device, version),
            other => panic!("{other:?}"),
        };
        let expected = (device.to_string(), list.version + 1);
        for _ in 0..2 {
            assert_eq!(newer(fixture.registry.list_seen(&device, Some(list.version + 1)).await), expected);
        }
        fixture.reopen().await;
        assert_eq!(newer(fixture.registry.begin_list(None).await.map(drop)), expected);
        let wanted = crate::registry::testing::wanted(&other, &key());
        assert_eq!(newer(fixture.registry.begin_issue(&wanted).await.map(drop)), expected);
        // It is no member any more, so what it says does not matter.
        assert!(matches!(fixture.registry.revoke(&other, "test").await, Ok(Revocation::Revoked(_))));
        assert_eq!(newer(fixture.registry.begin_list(None).await.map(drop)), expected);
        fixture.registry.revoke(&device, "it lied").await.unwrap();
        assert!(fixture.registry.begin_list(None).await.unwrap().version > list.version);
        let events = fixture.events(&device).await;
        assert!(events.ends_with(&["newer-list-seen".into(), "key-revoked".into(), "newer-list-settled".into()]));
    }
}
