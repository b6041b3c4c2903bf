//! Finding devices, by ID, key, nickname or a part of one.

use std::collections::BTreeMap;

use cbor_schemas::DeviceId;
use protocol::key::PublicKey;

use super::{
    error::Error,
    handle::Registry,
    nickname::Nickname,
    reading::Reading,
    record::{Device, DeviceRef, LEAST},
    rows::Rows,
};
use crate::text;

impl Registry {
    /// The device that the user means: [`Registry::named`].
    pub async fn device(&self, name: &DeviceRef) -> Result<Device, Error> {
        Ok(self.named(name).await?.device)
    }

    /// The device that the user means, and how plain that is.
    ///
    /// The whole of an ID counts before a nickname, and a nickname, however it is spelled ([`text::folded`]), before a part of
    /// its device's names. A part has four characters at least: of a thumbprint, from its beginning; of an ID, from the beginning
    /// or to the end of it, or from the beginning of what is distinctive of it, in any case.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`]; [`Error::TooShort`] and [`Error::Ambiguous`] with the candidates.
    pub async fn named(&self, name: &DeviceRef) -> Result<Named, Error> {
        let (name, mut reading) = (name.as_str(), self.read().await?);
        let (id, is_plain) = meant(&mut reading.rows, name).await?;
        let device = reading.rows.device(&id).await?.ok_or_else(|| Error::UnknownDevice(name.to_owned()))?;
        let (thumbprint, mut by_key) = (name.to_ascii_lowercase(), None);
        if !is_plain {
            by_key = device.keys.iter().find(|key| key.thumbprint.starts_with(&thumbprint)).map(|key| key.x);
        }
        let is_whole = is_plain || device.keys.iter().any(|key| key.thumbprint == thumbprint);
        Ok(Named { device, is_whole, by_key })
    }

    /// As [`Registry::named`], for what cannot be undone: what all devices of an organisation have in common is no name, though
    /// there may be one device only.
    ///
    /// # Errors
    /// [`Error::TooShort`] for less than four characters of what is distinctive, and those of [`Registry::named`].
    pub async fn named_for_good(&self, name: &DeviceRef) -> Result<Named, Error> {
        let named = self.named(name).await?;
        match named.is_whole || told_len(name.as_str(), &named.device.id) >= LEAST {
            true => Ok(named),
            false => Err(Error::TooShort {
                name: name.as_str().to_owned(),
                candidates: vec![candidate(&named.device.id, named.device.nickname.as_deref())],
            }),
        }
    }

    /// The nicknames of others that are a part of this device's ID, and whose they are: alone they name nobody any more.
    pub async fn nicknames_in(&self, device: &DeviceId) -> Result<Vec<(String, DeviceId)>, Error> {
        let nicknames = Nicknames::load(&mut self.read().await?.rows).await?;
        let is_in = |read: &str| read.len() >= LEAST && is_part(read, device);
        let held = nicknames.0.into_iter().filter(|(read, _)| is_in(read)).flat_map(|(_, holders)| holders);
        Ok(held.filter(|(holder, _)| holder != device).filter_map(|(holder, name)| Some((name?, holder))).collect())
    }

    /// The device with this ID.
    pub async fn device_by_id(&self, id: &DeviceId) -> Result<Option<Device>, Error> {
        self.read().await?.rows.device(id).await
    }

    /// The device whose key this is or was.
    pub async fn device_by_key(&self, key: &PublicKey) -> Result<Option<Device>, Error> {
        let mut reading = self.read().await?;
        match reading.rows.holder(key).await? {
            Some(id) => reading.rows.device(&id).await,
            None => Ok(None),
        }
    }

    /// All devices, ordered by ID.
    pub async fn devices(&self) -> Result<Vec<Device>, Error> {
        self.read().await?.rows.devices().await
    }

    /// Takes all devices in the order of their IDs, in constant memory.
    ///
    /// # Errors
    /// Its own, and those of `take`, which end it.
    pub async fn each_device<E: From<Error>>(&self, take: impl FnMut(&Device) -> Result<(), E>) -> Result<(), E> {
        self.read().await?.each_device(take).await
    }
}

/// A device, and how the user named it.
#[derive(Clone, Debug)]
pub struct Named {
    /// The device.
    pub device: Device,
    /// By its whole ID, by its nickname, or by the whole thumbprint of a key of it.
    pub is_whole: bool,
    /// The key whose thumbprint was given, or the beginning of it.
    pub by_key: Option<[u8; 32]>,
}

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
        self.rows.devices_after(after).await
    }
}

/// How many devices are named where one is meant, at most.
const MOST: usize = 100;

/// Devices that may be meant, by ID, with their nicknames.
pub(super) type Found = BTreeMap<DeviceId, Option<String>>;

/// The device that is meant, and whether it was named by its whole ID or its nickname.
async fn meant(rows: &mut Rows, name: &str) -> Result<(DeviceId, bool), Error> {
    if let Some((id, _)) = rows.called(name).await?.pop() {
        return Ok((id, true));
    }
    let mut found = Nicknames::load(rows).await?.holders(&text::folded(name));
    let (is_nickname, is_short) = (!found.is_empty(), name.chars().count() < LEAST);
    if !(is_nickname && is_short) {
        // Devices that came later may have a nickname as a part of their names.
        let parts = by_part(rows, name).await?;
        if !is_nickname && let Some((id, is_whole)) = whole(&parts, name) {
            return Ok((id, is_whole));
        }
        found.extend(parts);
    }
    let candidates = || found.iter().take(MOST).map(|(id, name)| candidate(id, name.as_deref())).collect();
    match (found.len(), found.first_key_value()) {
        (_, None) => Err(Error::UnknownDevice(name.to_owned())),
        _ if is_short && !is_nickname => Err(Error::TooShort { name: name.to_owned(), candidates: candidates() }),
        // A nickname of before may read like digits of a key; then it is not plain.
        (1, Some((id, _))) => Ok((*id, is_nickname && name.parse::<Nickname>().is_ok())),
        _ => Err(Error::Ambiguous { name: name.to_owned(), candidates: candidates() }),
    }
}

/// The one device of which `name` is the whole ID (then true), or all that is distinctive of it, in any case.
fn whole(parts: &Found, name: &str) -> Option<(DeviceId, bool)> {
    if name.chars().count() < LEAST {
        return None;
    }
    let only = |form: fn(&str) -> &str| {
        let mut same = parts.keys().filter(|id| form(id.as_str()).eq_ignore_ascii_case(name));
        same.next().filter(|_| same.next().is_none()).copied()
    };
    only(|id| id).map(|id| (id, true)).or_else(|| only(distinctive).map(|id| (id, false)))
}

/// The devices of which `name` is a part, as [`Registry::named`] has it, however short.
pub(super) async fn by_part(rows: &mut Rows, name: &str) -> Result<Found, Error> {
    let mut found: Found = rows.with_thumbprint(name).await?.into_iter().collect();
    if name.len() <= DeviceId::MAX_TEXT_LEN {
        let part = name.to_ascii_lowercase();
        let others = rows.with_piece(&part).await?;
        found.extend(others.into_iter().filter(|(id, _)| is_part(&part, id)));
    }
    Ok(found)
}

/// Whether `part`, in lower case, is the beginning or the end of an ID, or begins what is distinctive of it, at a hyphen.
fn is_part(part: &str, id: &DeviceId) -> bool {
    let id = id.as_str().to_ascii_lowercase();
    let told = distinctive(&id);
    let begins = |(hyphen, _)| told.get(hyphen + 1..).is_some_and(|rest| rest.starts_with(part));
    id.starts_with(part) || id.ends_with(part) || told.starts_with(part) || told.match_indices('-').any(begins)
}

/// All nicknames, by how they read. Those of registries of before may read the same.
pub(super) struct Nicknames(BTreeMap<String, Found>);

impl Nicknames {
    /// Those of the registry.
    pub(super) async fn load(rows: &mut Rows) -> Result<Self, Error> {
        let mut nicknames = Self(BTreeMap::new());
        for (device, nickname) in rows.nicknames().await? {
            nicknames.insert(device, &nickname.unwrap_or_default());
        }
        Ok(nicknames)
    }

    /// A device has one more.
    pub(super) fn insert(&mut self, device: DeviceId, nickname: &str) {
        self.0.entry(text::folded(nickname)).or_default().insert(device, Some(nickname.to_owned()));
    }

    /// Who is called what reads so.
    pub(super) fn holders(&self, read: &str) -> Found {
        self.0.get(read).cloned().unwrap_or_default()
    }
}

/// What is left of an ID, or of the beginning of one, without what many have in common: the kind, and the number of the
/// organisation.
fn distinctive(id: &str) -> &str {
    match (id.strip_prefix("urn:dev:mac:"), id.strip_prefix("urn:dev:ops:")) {
        (Some(address), _) => address,
        (_, Some(name)) => name.split_once('-').map_or(name, |(_, name)| name),
        _ => id,
    }
}

/// How many characters of `name` are of what is distinctive of `id`, or of a key: of a beginning or an end of an ID that goes
/// beyond that, the others tell nothing.
fn told_len(name: &str, id: &DeviceId) -> usize {
    let (name, id) = (name.to_ascii_lowercase(), id.as_str().to_ascii_lowercase());
    let told = distinctive(&id).len();
    match name.len() {
        len if id.starts_with(&name) => len.saturating_sub(id.len() - told),
        len if id.ends_with(&name) => len.min(told),
        _ => name.chars().count(),
    }
}

fn candidate(id: &DeviceId, nickname: Option<&str>) -> String {
    nickname.map_or_else(|| id.to_string(), |nickname| format!("{id} ({nickname})"))
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
        for nobody in ["urn:dev:ops:32473-test-a%", "urn:dev:ops:32473-test-a?1", "Küch", "zz", "RN:dev"] {
            assert!(matches!(find(&fixture, nobody).await, Err(Error::UnknownDevice(_))), "{nobody}");
        }
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
        match find(&fixture, "urn:dev:ops:32473-test").await {
            Err(Error::Ambiguous { candidates, .. }) => {
                assert_eq!(candidates, ["urn:dev:ops:32473-test-a", "urn:dev:ops:32473-test-b (kitchen)"]);
            }
            other => panic!("{other:?}"),
        }
    }

    /// What tells nothing apart names nothing that is to be revoked, though there may be one device only.
    #[tokio::test]
    async fn less_than_four_characters_are_too_short() {
        let fixture = Fixture::new().await;
        let (key, _) = fixture.commissioned(&id("a")).await;
        let thumbprint = key.thumbprint().to_string();
        let for_good = async |name: &str| fixture.registry.named_for_good(&name.parse().unwrap()).await;
        let too_short = |refused: Error, name: &str| match refused {
            Error::TooShort { candidates, .. } => assert_eq!(candidates, ["urn:dev:ops:32473-test-a"], "{name}"),
            other => panic!("{name}: {other:?}"),
        };
        for name in ["urn", "t-a", "tes", &thumbprint[..3]] {
            too_short(find(&fixture, name).await.unwrap_err(), name);
            too_short(for_good(name).await.unwrap_err(), name);
        }
        for name in [
            "urn:",
            "urn:dev:",
            "urn:dev:op",
            "urn:dev:ops:",
            "urn:dev:ops:32473",
            "urn:dev:ops:32473-",
            "urn:dev:ops:32473-tes",
        ] {
            assert_eq!(find(&fixture, name).await.unwrap(), id("a"), "{name}");
            too_short(for_good(name).await.unwrap_err(), name);
        }
        for name in ["urn:dev:ops:32473-test", "test", "st-a", "test-a", &thumbprint[..4]] {
            assert_eq!(find(&fixture, name).await.unwrap(), id("a"), "{name}");
            assert!(for_good(name).await.is_ok_and(|named| !named.is_whole), "{name}");
        }
        // Short as it is, that is all there is to it.
        let whole = "urn:dev:ops:32473-a".parse().unwrap();
        fixture.commissioned(&whole).await;
        assert!(for_good("urn:dev:ops:32473-a").await.is_ok_and(|named| named.is_whole && named.device.id == whole));
        assert!(find(&fixture, "a").await.is_err());
        for name in ["73-a", "32473-a", "dev:ops:32473-a"] {
            assert_eq!(find(&fixture, name).await.unwrap(), whole, "{name}");
            let refused = for_good(name).await.unwrap_err();
            assert!(matches!(refused, Error::TooShort { .. }), "{name}: {refused}");
        }
    }

    #[tokio::test]
    async fn the_distinctive_part_of_an_id_names_a_device() {
        let fixture = Fixture::new().await;
        let ids: [DeviceId; 5] = [
            "urn:dev:ops:32473-demo-0024be",
            "urn:dev:ops:32473-demo-0024bf00",
            "urn:dev:mac:5024befffe804ff1",
            "urn:dev:ops:32473-lamp",
            "urn:dev:ops:32473-lamp-2",
        ]
        .map(|id| id.parse().unwrap());
        for id in &ids {
            fixture.commissioned(id).await;
        }
        for (name, meant) in [
            ("24be", 0),
            ("0024be", 0),
            ("demo-0024be", 0),
            ("demo-0024BE", 0),
            ("0024bf", 1),
            ("5024befffe804ff1", 2),
            ("5024BEFFFE804FF1", 2),
            ("4ff1", 2),
            ("lamp", 3),
            ("lamp-2", 4),
            // An end that goes beyond it.
            ("32473-demo-0024be", 0),
            ("73-demo-0024be", 0),
            ("ops:32473-DEMO-0024be", 0),
            (":5024befffe804ff1", 2),
            ("32473-lamp", 3),
            ("URN:DEV:OPS:32473-DEMO-0024BF", 1),
        ] {
            assert_eq!(find(&fixture, name).await.unwrap(), ids[meant], "{name}");
        }
        for several in ["0024", "demo", "demo-0024", "URN:dev"] {
            assert!(matches!(find(&fixture, several).await, Err(Error::Ambiguous { .. })), "{several}");
        }
        for nobody in ["24b%", "2_be", "dem_", "emo-", "lam!", "32473-demo", "%%%%", &"x".repeat(70_000)] {
            assert!(matches!(find(&fixture, nobody).await, Err(Error::UnknownDevice(_))), "{nobody}");
        }
        for (name, is_whole) in [("24be", false), ("32473-demo-0024be", false), ("URN:DEV:OPS:32473-DEMO-0024BE", true)]
        {
            let named = fixture.registry.named(&name.parse().unwrap()).await.unwrap();
            assert_eq!((named.device.id, named.is_whole, named.by_key), (ids[0], is_whole, None), "{name}");
        }
        // Two that differ in nothing but that.
        fixture.commissioned(&"urn:dev:ops:32473-LAMP".parse().unwrap()).await;
        assert_eq!(find(&fixture, "urn:dev:ops:32473-lamp").await.unwrap(), ids[3]);
        for several in ["lamp", "URN:DEV:OPS:32473-lamp"] {
            assert!(matches!(find(&fixture, several).await, Err(Error::Ambiguous { .. })), "{several}");
        }
    }

    #[tokio::test]
    async fn whoever_names_a_key_is_told_which() {
        let fixture = Fixture::new().await;
        let device = id("device");
        let (old, _) = fixture.commissioned(&device).await;
        fixture.registry.rekeyed(&device, &old, &key(), 2).await.unwrap();
        let thumbprint = old.thumbprint().to_string();
        for (name, is_whole) in [(&thumbprint[..], true), (&thumbprint[..20], false)] {
            let named = fixture.registry.named(&name.parse().unwrap()).await.unwrap();
            assert_eq!((named.device.id, named.is_whole, named.by_key), (device, is_whole, Some(*old.x())), "{name}");
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

        assert_eq!(fixture.registry.remove_nickname(&id("b")).await.unwrap().as_deref(), Some("kitchen"));
        assert_eq!(fixture.registry.remove_nickname(&id("b")).await.unwrap(), None);
        assert!(matches!(find(&fixture, "kitchen").await, Err(Error::UnknownDevice(_))));
        assert_eq!(fixture.events(&id("b")).await.last().unwrap(), "nickname-removed");
    }

    /// A nickname that is taken for an ID or a key has somebody revoke another device than the one that is meant.
    #[tokio::test]
    async fn a_nickname_does_not_read_like_another_device() {
        let fixture = Fixture::new().await;
        let (key, _) = fixture.commissioned(&id("a")).await;
        fixture.commissioned(&id("b-Lamp")).await;
        for name in ["test-a", "TEST-A", "st-a", "test", "b-lamp", "lamp"] {
            let refused = fixture.registry.set_nickname(&id("b"), &name.parse().unwrap()).await;
            assert!(matches!(refused, Err(Error::NicknameMisleads { .. })), "{name}: {refused:?}");
        }
        fixture.registry.set_nickname(&id("b-Lamp"), &"lamp".parse().unwrap()).await.unwrap();
        // One of before, when that was not refused.
        let digits = &key.thumbprint().to_string()[..12];
        let renamed = format!("UPDATE devices SET nickname = '{digits}' WHERE device = '{}'", id("b-Lamp"));
        fixture.registry.database.run(&renamed).await;
        assert!(matches!(find(&fixture, digits).await, Err(Error::Ambiguous { .. })));
    }

    /// Case, width, composition and blanks are no difference that anybody sees.
    #[tokio::test]
    async fn nicknames_that_people_cannot_tell_apart_do_not_both_exist() {
        let fixture = Fixture::new().await;
        for name in ["a", "b"] {
            fixture.commissioned(&id(name)).await;
        }
        let call = async |name: &str, nickname: &str| {
            fixture.registry.set_nickname(&id(name), &nickname.parse().unwrap()).await
        };
        for (ours, theirs) in [
            ("Kitchen 2", "kitchen 2"),
            ("Kitchen 2", "\u{ff2b}itchen \u{ff12}"),
            ("Kitchen 2", "KITCHEN  2"),
            ("K\u{fc}che", "ku\u{308}che"),
            ("Stra\u{df}e", "STRASSE"),
            ("\u{39f}\u{394}\u{39f}\u{3a3}", "\u{3bf}\u{3b4}\u{3bf}\u{3c2}"),
        ] {
            call("a", ours).await.unwrap();
            let taken = call("b", theirs).await.unwrap_err();
            assert!(matches!(&taken, Error::NicknameTaken { device, .. } if device == id("a").as_str()), "{theirs}");
            assert_eq!(find(&fixture, theirs).await.unwrap(), id("a"), "{theirs}");
        }
        // One's own may be spelled anew.
        call("a", "HALL").await.unwrap();
        call("a", "Hall").await.unwrap();
        assert_eq!(fixture.device(&id("a")).await.nickname.as_deref(), Some("Hall"));
        // A registry of before has both.
        let renamed = format!("UPDATE devices SET nickname = 'hall' WHERE device = '{}'", id("b"));
        fixture.registry.database.run(&renamed).await;
        assert!(
            matches!(find(&fixture, "hall").await, Err(Error::Ambiguous { candidates, .. }) if candidates.len() == 2)
        );
    }

    /// Whoever means the device that came later must not get the one that was called so before.
    #[tokio::test]
    async fn a_nickname_that_is_a_part_of_a_later_devices_name_is_ambiguous() {
        let fixture = Fixture::new().await;
        fixture.commissioned(&id("a")).await;
        fixture.registry.set_nickname(&id("a"), &"Lamp-2".parse().unwrap()).await.unwrap();
        assert_eq!(find(&fixture, "lamp-2").await.unwrap(), id("a"));
        for later in ["lamp-2", "lamp-21", "z-lamp-2"].map(id) {
            fixture.commissioned(&later).await;
            match find(&fixture, "Lamp-2").await {
                Err(Error::Ambiguous { candidates, .. }) => {
                    assert!(candidates.contains(&later.to_string()), "{candidates:?}");
                    assert!(candidates.contains(&format!("{} (Lamp-2)", id("a"))), "{candidates:?}");
                }
                other => panic!("{later}: {other:?}"),
            }
            fixture.registry.remove_nickname(&id("a")).await.unwrap();
            assert!(find(&fixture, &later.as_str()["urn:dev:ops:32473-".len()..]).await.unwrap() == later);
            let renamed = format!("UPDATE devices SET nickname = 'Lamp-2' WHERE device = '{}'", id("a"));
            fixture.registry.database.run(&renamed).await;
        }
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
