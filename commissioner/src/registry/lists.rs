//! Device lists: what is signed, and who holds it.
//!
//! A list is written down before it is signed, like everything else. It is made anew only if it would say something else
//! than the last one, so that devices are not given the same list twice. Versions rise, also after a registry was put back
//! from an old backup: they are at least the time of signing.

use cbor_schemas::{DeviceId, DeviceListClaims, Keys, ListMode, ProofLevel};
use sha2::{Digest, Sha256};

use super::{
    change::Change, error::Error, event::Event, handle::Registry, reading::Reading, record::List, rows::Rows, times,
};

/// The first list names members if there are no more than this: what devices take, unless their firmware says otherwise.
const MEMBERS_AT_FIRST: usize = 64;

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
        change.rows.is_sound().await?;
        let last = change.rows.newest_list().await?;
        let said = last.as_ref().map(|last| Contents::decode(&last.claims)).transpose()?;
        let wanted = Contents::true_now(&mut change.rows, mode, said.as_ref()).await?;
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
        let (mode, keys) = (wanted.mode, wanted.keys.len());
        let list = List { version, mode, keys, claims: encoded, object: None, is_elsewhere: false };
        change.rows.put_list(&list).await?;
        let sha256 = hex::encode(Sha256::digest(&list.claims));
        let event = Event::ListIntended { version, mode: mode.as_str(), keys, sha256 };
        change.record(None, &event).await?;
        change.commit().await?;
        Ok(list)
    }

    /// The list is signed: keeps the bytes. Only after this may they be sent.
    pub async fn list_signed(&self, version: u64, object: &[u8]) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        if !change.rows.put_signed_list(version, object).await? {
            return Ok(());
        }
        let sha256 = hex::encode(Sha256::digest(object));
        change.record(None, &Event::ListSigned { version, sha256 }).await?;
        change.commit().await
    }

    /// The newest list, if there ever was one.
    pub async fn list(&self) -> Result<Option<List>, Error> {
        self.read().await?.rows.newest_list().await
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
            && !change.rows.has_list(version).await?
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
            && !change.rows.has_list(version).await?
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
        reading.rows.count_holders_of_others(but, in_force).await
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
        let Some(mut draft) = self.draft(device).await? else { return Ok(()) };
        draft.hold_list(version);
        self.keep(&draft).await
    }
}

impl Reading {
    /// The newest signed list.
    pub async fn newest_signed_list(&mut self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.rows.newest_signed_list().await?.and_then(|list| list.object))
    }

    /// The version of the list that says what is true now: none if the next one would say something else than the last one.
    /// Where lists are signed elsewhere, the newest one that was brought here.
    pub async fn list_in_force(&mut self) -> Result<Option<u64>, Error> {
        let Some(last) = self.rows.newest_list().await? else { return Ok(None) };
        if last.is_elsewhere {
            return Ok(Some(last.version));
        }
        let said = Contents::decode(&last.claims)?;
        let wanted = Contents::true_now(&mut self.rows, None, Some(&said)).await?;
        Ok((said == wanted).then_some(last.version))
    }

    /// All signed certificates of keys that are not mine: revoked, given up, or not mine yet.
    pub async fn revoked_certificates(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        self.rows.certificates_of_others().await
    }

    /// The signed lists, oldest first: the version of the next one after `after`, and its bytes.
    pub async fn signed_list(&mut self, after: u64) -> Result<Option<(u64, Vec<u8>)>, Error> {
        let list = self.rows.signed_list_after(after).await?;
        Ok(list.and_then(|list| Some((list.version, list.object?))))
    }
}

/// What a first list says if nobody asks for something: members, unless they are too many for most devices.
fn first_mode(members: usize) -> ListMode {
    if members > MEMBERS_AT_FIRST { ListMode::Revoked } else { ListMode::Members }
}

impl Contents {
    /// What a list of now says, if the last one said `said`.
    async fn true_now(rows: &mut Rows, mode: Option<ListMode>, said: Option<&Self>) -> Result<Self, Error> {
        let min_iat = said.map_or(0, |said| said.min_iat).max(times::min_iat(rows).await?);
        let mode = match mode.or(said.map(|said| said.mode)) {
            Some(mode) => mode,
            None => first_mode(rows.my_keys().await?.len()),
        };
        let keys = match mode {
            ListMode::Members => rows.my_keys().await?,
            ListMode::Revoked => rows.certified_keys_of_others().await?,
        };
        Ok(Self::of(mode, min_iat, &keys))
    }

    /// A list of members tells apart those whose keys are not proved.
    fn of(mode: ListMode, min_iat: u64, keys: &[([u8; 32], ProofLevel)]) -> Self {
        let is_told = |proof| mode == ListMode::Members && proof == ProofLevel::Unproven;
        let unproven = keys.iter().filter(|(_, proof)| is_told(*proof)).map(|(x, _)| *x).collect();
        Self { mode, min_iat, keys: keys.iter().map(|(x, _)| *x).collect(), unproven }
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

    #[test]
    fn a_first_list_has_members_unless_they_are_too_many() {
        for (members, mode) in [(0, ListMode::Members), (64, ListMode::Members), (65, ListMode::Revoked)] {
            assert_eq!(first_mode(members), mode, "{members}");
        }
        let keys = [([1; 32], ProofLevel::Proved), ([2; 32], ProofLevel::Unproven)];
        for (mode, unproven) in [(ListMode::Members, vec![[2; 32]]), (ListMode::Revoked, vec![])] {
            let contents = Contents::of(mode, 7, &keys);
            assert_eq!((contents.keys, contents.unproven), (vec![[1; 32], [2; 32]], unproven), "{mode:?}");
        }
    }
}
