//! Registries of one issuer that are merged.

use std::collections::BTreeMap;

use cbor_schemas::{Kind, ProofLevel, Sign1};

use super::*;
use crate::{
    issuer::Issuer,
    keys::IssuerKey,
    registry::{
        CertificateStatus, CountsBy, Cti, Key, KeyStatus, Place, Policy, Provenance, Succession,
        export_lines::Written,
        testing::{Fixture, NOON, id, key, receipt, seen, wanted},
    },
};

/// One issuer with several stations, each with a registry of its own.
struct Stations {
    issuer: Issuer,
    public: PublicKey,
}

impl Stations {
    fn new() -> Self {
        let key = IssuerKey::generate();
        let public = *key.public();
        Self { issuer: Issuer::new(key), public }
    }

    async fn station(&self) -> Fixture {
        Fixture::of_issuer(self.public).await
    }

    /// A device with a certificate that is really signed.
    async fn commission(&self, at: &Fixture, device: &DeviceId, key: &PublicKey) -> Cti {
        let _ = at.proved(device, key).await;
        self.certify(at, device, key).await
    }

    async fn certify(&self, at: &Fixture, device: &DeviceId, key: &PublicKey) -> Cti {
        let intent = at.registry.begin_issue(&wanted(device, key)).await.unwrap();
        let object = self.issuer.certificate(&intent).unwrap();
        at.registry.issued(intent.cti(), &object).await.unwrap();
        at.registry.installed(intent.cti(), Some(&receipt(key))).await.unwrap();
        intent.cti()
    }

    async fn sign_list(&self, at: &Fixture) -> u64 {
        let list = at.registry.begin_list(None).await.unwrap();
        at.registry.list_signed(list.version, &self.issuer.list(&list).unwrap()).await.unwrap();
        list.version
    }
}

async fn export(from: &Fixture) -> String {
    let mut text = String::new();
    let write = |line: &str| {
        text.push_str(line);
        Ok::<_, Error>(())
    };
    from.registry.export(write).await.unwrap();
    text
}

async fn import(from: &Fixture, into: &Fixture) -> Imported {
    let imported = into.registry.import(export(from).await.as_bytes()).await.unwrap();
    into.registry.verify_seals(&[]).await.unwrap();
    imported
}

/// Key by key: whose, and what is known of it.
async fn keys(at: &Fixture) -> BTreeMap<String, (String, KeyStatus, Provenance, ProofLevel, usize)> {
    let mut keys = BTreeMap::new();
    for device in at.registry.devices().await.unwrap() {
        for key in device.keys {
            let known = (device.id.to_string(), key.status, key.provenance, key.proof, key.certificates.len());
            keys.insert(key.thumbprint, known);
        }
    }
    keys
}

#[tokio::test]
async fn an_empty_registry_becomes_the_same_and_once_is_enough() {
    let stations = Stations::new();
    let (from, into) = (stations.station().await, stations.station().await);
    for name in ["one", "two", "three"] {
        stations.commission(&from, &id(name), &key()).await;
    }
    from.registry.set_nickname(&id("two"), &"kitchen".parse().unwrap()).await.unwrap();
    from.registry.set_policy(&id("two"), Policy::Keep).await.unwrap();
    from.registry.revoke(&id("one"), "lost").await.unwrap();
    from.registry.observe_key(&seen(&id("four"), &key(), Place::Trusted, ProofLevel::Unproven)).await.unwrap();
    let version = stations.sign_list(&from).await;
    into.clock.set(NOON + 100);

    let imported = import(&from, &into).await;
    assert_eq!((imported.devices, imported.keys, imported.activated, imported.lists), (4, 4, 3, 1));
    assert_eq!((imported.certificates, imported.conflicts.len(), imported.revoked), (3, 0, 0));
    assert_eq!(keys(&into).await, keys(&from).await);
    let two = into.device(&id("two")).await;
    assert_eq!((two.nickname.as_deref(), two.policy), (Some("kitchen"), Policy::Keep));
    let one = into.device(&id("one")).await;
    assert_eq!(one.keys[0].revoked, from.device(&id("one")).await.keys[0].revoked, "since when, and why");
    assert_eq!(into.registry.list().await.unwrap().unwrap().version, version);
    let history = into.registry.history(&id("one")).await.unwrap();
    assert!(history[0].elsewhere && history[0].event == "key-seen" && !history.last().unwrap().elsewhere);

    let entries = into.registry.verify_audit().await.unwrap().entries;
    let again = import(&from, &into).await;
    assert!(!again.has_news() && again.conflicts.is_empty(), "{again:?}");
    assert_eq!(into.registry.verify_audit().await.unwrap().entries, entries);
    // The list that was imported is the last one: the next one is newer.
    assert!(into.registry.begin_list(None).await.unwrap().version >= version);
    stations.commission(&into, &id("five"), &key()).await;
    assert!(stations.sign_list(&into).await > version);
}

/// Whoever calls their device by the digits of another one's key has somebody revoke that.
#[tokio::test]
async fn a_nickname_that_would_mislead_is_left_out_and_told() {
    let stations = Stations::new();
    let (a, b) = (stations.station().await, stations.station().await);
    stations.commission(&b, &id("other"), &key()).await;
    b.registry.set_nickname(&id("other"), &"kitchen".parse().unwrap()).await.unwrap();
    let names = ["one", "two", "three", "four", "six", "dot", "five"].map(|name| (id(name), key()));
    let digits = &names[6].1.thumbprint().to_string()[..12];
    for ((device, key), nickname) in
        names.iter().zip([digits, "kitchen", "test-five", "a\u{202e}b", "\u{ff2b}ITCHEN", ".x", "hall"])
    {
        stations.commission(&a, device, key).await;
        // Registries of before took them.
        let renamed = format!("UPDATE devices SET nickname = '{nickname}' WHERE device = '{device}'");
        a.registry.database.run(&renamed).await;
    }
    for _ in 0..2 {
        let imported = import(&a, &b).await;
        assert_eq!(imported.conflicts.len(), 6, "{:?}", imported.conflicts);
        assert!(!imported.conflicts.iter().any(|told| told.contains('\u{202e}')), "{:?}", imported.conflicts);
    }
    let mut nicknames = Vec::new();
    for (device, _) in &names {
        nicknames.push(b.device(device).await.nickname);
    }
    assert_eq!(nicknames, [None, None, None, None, None, None, Some("hall".to_owned())]);
    assert_eq!(b.device(&id("other")).await.nickname.as_deref(), Some("kitchen"));
}

#[tokio::test]
async fn what_is_revoked_in_either_is_revoked_in_both() {
    let stations = Stations::new();
    let (a, b) = (stations.station().await, stations.station().await);
    let shared: Vec<_> = ["one", "two", "three"].into_iter().map(|name| (id(name), key())).collect();
    for (device, key) in &shared {
        stations.commission(&a, device, key).await;
    }
    import(&a, &b).await;
    a.registry.revoke(&shared[0].0, "lost").await.unwrap();
    b.registry.revoke(&shared[1].0, "sold").await.unwrap();
    stations.commission(&b, &id("four"), &key()).await;
    let (of_a, of_b) = (export(&a).await, export(&b).await);
    assert_eq!(a.registry.import(of_b.as_bytes()).await.unwrap().revoked, 1);
    assert_eq!(b.registry.import(of_a.as_bytes()).await.unwrap().revoked, 1);
    assert_eq!(keys(&a).await, keys(&b).await);
    for at in [&a, &b] {
        at.registry.verify_seals(&[]).await.unwrap();
        for (device, key) in &shared[..2] {
            assert_eq!(at.status(device, key).await, KeyStatus::Revoked);
            assert_eq!(at.device(device).await.keys[0].certificates[0].status, CertificateStatus::Revoked);
        }
        assert_eq!(at.status(&shared[2].0, &shared[2].1).await, KeyStatus::Active);
    }
}

#[tokio::test]
async fn a_key_that_succeeded_another_one_there_does_so_here() {
    let stations = Stations::new();
    let (a, b) = (stations.station().await, stations.station().await);
    let (device, old, new) = (id("device"), key(), key());
    stations.commission(&a, &device, &old).await;
    import(&a, &b).await;
    a.registry.rekeyed(&device, &old, &new, 2).await.unwrap();
    a.proved(&device, &new).await.unwrap();
    stations.certify(&a, &device, &new).await;
    let imported = import(&a, &b).await;
    assert_eq!((imported.revoked, imported.activated, imported.keys), (1, 1, 1));
    assert_eq!(b.status(&device, &old).await, KeyStatus::Revoked);
    assert_eq!(b.status(&device, &new).await, KeyStatus::Active);
    // An older export changes nothing of it.
    let fresh = stations.station().await;
    stations.commission(&fresh, &device, &old).await;
    import(&fresh, &b).await;
    assert_eq!(b.status(&device, &old).await, KeyStatus::Revoked);
}

/// What counts there counts here by the same rule: not by being called active.
#[tokio::test]
async fn what_waits_for_its_certificate_there_waits_for_it_here() {
    let stations = Stations::new();
    let (a, b) = (stations.station().await, stations.station().await);
    let (device, old, new) = (id("device"), key(), key());
    stations.commission(&a, &device, &old).await;
    import(&a, &b).await;
    a.registry.observe_key(&seen(&device, &new, Place::Trusted, ProofLevel::Proved)).await.unwrap();
    let reported = key();
    a.registry.observe_key(&seen(&id("reported"), &reported, Place::Trusted, ProofLevel::Unproven)).await.unwrap();
    let imported = import(&a, &b).await;
    assert_eq!((imported.revoked, imported.activated), (1, 1), "the old key, and the report");
    assert_eq!(
        (b.status(&device, &old).await, b.status(&device, &new).await),
        (KeyStatus::Revoked, KeyStatus::Pending)
    );
    let known = b.device(&id("reported")).await;
    assert!(known.keys[0].mine && known.keys[0].counts_by == CountsBy::Report, "{known:?}");
    // Here it gets its certificate without another word.
    stations.commission(&b, &device, &new).await;
    assert_eq!(b.status(&device, &new).await, KeyStatus::Active);
    // The other way round, the one there learns of it.
    import(&b, &a).await;
    assert_eq!(a.status(&device, &new).await, KeyStatus::Active);
    let again = Imported { entries: 0, ..import(&a, &b).await };
    assert!(!again.has_news() && again.conflicts.is_empty(), "{again:?}");
}

/// What was given up there is no key change here, and what came from a key of ours is mended here, too.
#[tokio::test]
async fn where_a_key_came_from_is_merged() {
    let stations = Stations::new();
    let (a, b) = (stations.station().await, stations.station().await);
    let (given_up, mended, old, other) = (id("given-up"), id("mended"), key(), key());
    let (released, successor) = (key(), key());
    stations.commission(&a, &given_up, &old).await;
    a.registry.rekeyed(&given_up, &old, &released, 2).await.unwrap();
    import(&a, &b).await;
    a.registry.released(&given_up, &released).await.unwrap();
    stations.commission(&a, &mended, &other).await;
    a.registry.revoke(&mended, "stolen").await.unwrap();
    let seen = seen(&mended, &successor, Place::Elsewhere, ProofLevel::Proved);
    a.registry.observe_successor(&seen).await.unwrap_err();
    let c = stations.station().await;
    for merged in [&b, &c] {
        import(&a, merged).await;
        assert_eq!(merged.proved(&given_up, &released).await.unwrap(), Succession::Pending);
        let known = merged.device(&mended).await;
        assert!(known.keys.iter().all(Key::is_mendable), "{known:?}");
        merged.proved(&mended, &successor).await.unwrap_err();
    }
    a.registry.revoke(&mended, "again").await.unwrap();
    import(&a, &c).await;
    assert!(c.device(&mended).await.keys.iter().all(Key::is_mendable));
}

/// Exports of before do not say by what a key counts, and called active what had no certificate.
#[tokio::test]
async fn an_export_of_before_makes_nothing_active_that_has_no_certificate() {
    let stations = Stations::new();
    let (a, b) = (stations.station().await, stations.station().await);
    let (device, new) = (id("device"), key());
    stations.commission(&a, &id("certified"), &key()).await;
    a.registry.observe_key(&seen(&id("reported"), &key(), Place::Trusted, ProofLevel::Unproven)).await.unwrap();
    a.registry.observe_key(&seen(&device, &new, Place::Trusted, ProofLevel::Proved)).await.unwrap();
    let of_before = export(&a).await.lines().fold(String::new(), |text, line| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["record"] == "key" {
            line.as_object_mut().unwrap().remove("counts_by").expect("it says so now");
            line["status"] = "active".into();
        }
        format!("{text}{line}\n")
    });
    b.registry.import(of_before.as_bytes()).await.unwrap();
    let mine: Vec<_> =
        b.registry.devices().await.unwrap().iter().map(|device| (device.id, device.keys[0].mine)).collect();
    assert_eq!(mine, [(id("certified"), true), (device, false), (id("reported"), true)]);
}

#[tokio::test]
async fn a_key_of_our_own_is_left_out() {
    let stations = Stations::new();
    let (a, b) = (stations.station().await, stations.station().await);
    // To the other one it is a key like any.
    stations.commission(&a, &id("device"), &b.station).await;
    let imported = import(&a, &b).await;
    assert!(matches!(&imported.conflicts[..], [conflict] if conflict.contains("of this station")), "{imported:?}");
    let device = b.registry.device_by_id(&id("device")).await.unwrap();
    assert!(device.is_none_or(|device| device.keys.is_empty()));
}

#[tokio::test]
async fn two_active_keys_of_one_device_are_a_conflict() {
    let stations = Stations::new();
    let (a, b) = (stations.station().await, stations.station().await);
    let (device, ours, theirs) = (id("device"), key(), key());
    stations.commission(&a, &device, &theirs).await;
    stations.commission(&b, &device, &ours).await;
    for _ in 0..2 {
        let imported = import(&a, &b).await;
        assert!(matches!(&imported.conflicts[..], [conflict] if conflict.contains("--accept-new-key")), "{imported:?}");
        assert_eq!(b.status(&device, &ours).await, KeyStatus::Active);
        assert_eq!(b.status(&device, &theirs).await, KeyStatus::Pending);
    }
    let conflicts = b.events(&device).await.iter().filter(|event| *event == "key-conflict").count();
    assert_eq!(conflicts, 1);
    b.registry.accept_new_key(&device, &theirs).await.unwrap();
    assert!(import(&a, &b).await.conflicts.is_empty());
}

#[tokio::test]
async fn one_key_under_two_ids_is_left_out() {
    let stations = Stations::new();
    let (a, b) = (stations.station().await, stations.station().await);
    let shared = key();
    stations.commission(&a, &id("there"), &shared).await;
    stations.commission(&a, &id("other"), &key()).await;
    stations.commission(&b, &id("here"), &shared).await;
    let imported = import(&a, &b).await;
    assert_eq!((imported.conflicts.len(), imported.activated), (1, 1));
    assert_eq!(b.registry.device_by_key(&shared).await.unwrap().unwrap().id, id("here"));
    assert!(b.device(&id("there")).await.keys.is_empty());
}

#[tokio::test]
async fn a_device_that_was_given_up_there_is_given_up_here() {
    let stations = Stations::new();
    let (a, b) = (stations.station().await, stations.station().await);
    let (device, key) = (id("device"), key());
    let cti = stations.commission(&a, &device, &key).await;
    import(&a, &b).await;
    let before = export(&a).await;
    a.registry.released(&device, &key).await.unwrap();
    assert_eq!(import(&a, &b).await.released, 1);
    assert_eq!(b.status(&device, &key).await, KeyStatus::Pending);
    assert_eq!(b.certificate_status(&device, cti).await, CertificateStatus::Removed);
    // What was true before that does not come back.
    let old = b.registry.import(before.as_bytes()).await.unwrap();
    assert_eq!((old.activated, old.certificates), (0, 0));
    assert_eq!(b.status(&device, &key).await, KeyStatus::Pending);
    // Commissioned again, it is ours again.
    a.proved(&device, &key).await.unwrap();
    stations.certify(&a, &device, &key).await;
    assert_eq!(import(&a, &b).await.activated, 1);
}

#[tokio::test]
async fn what_another_station_began_is_not_finished_here() {
    let stations = Stations::new();
    let (a, b) = (stations.station().await, stations.station().await);
    let (device, key) = (id("device"), key());
    a.proved(&device, &key).await.unwrap();
    let intent = a.registry.begin_issue(&wanted(&device, &key)).await.unwrap();
    a.registry.issued(intent.cti(), &stations.issuer.certificate(&intent).unwrap()).await.unwrap();
    import(&a, &b).await;
    assert_eq!(b.certificate_status(&device, intent.cti()).await, CertificateStatus::Void);
    assert!(b.registry.open_intents(&device).await.unwrap().is_empty());
    // It may be on the device all the same.
    assert_eq!(b.registry.installed(intent.cti(), None).await.unwrap(), KeyStatus::Active);
}

#[tokio::test]
async fn a_list_that_a_device_had_shown_is_known_then() {
    let stations = Stations::new();
    let (a, b) = (stations.station().await, stations.station().await);
    let (device, key) = (id("device"), key());
    stations.commission(&a, &device, &key).await;
    import(&a, &b).await;
    a.clock.set(NOON + 10);
    let version = stations.sign_list(&a).await;
    assert!(matches!(b.registry.list_seen(&device, Some(version)).await, Err(Error::NewerList { .. })));
    assert!(matches!(b.registry.begin_list(None).await, Err(Error::NewerList { .. })));
    b.clock.set(NOON + 20);
    import(&a, &b).await;
    b.registry.begin_list(None).await.unwrap();
    // A newer one still is not.
    assert!(b.registry.list_seen(&device, Some(version + 100)).await.is_err());
    import(&a, &b).await;
    assert!(matches!(b.registry.begin_list(None).await, Err(Error::NewerList { .. })));
}

/// Blank lines, other line ends, none at the end: a file says what it says.
#[tokio::test]
async fn an_export_that_an_editor_has_touched_is_the_same() {
    let stations = Stations::new();
    let from = stations.station().await;
    stations.commission(&from, &id("one"), &key()).await;
    let good = export(&from).await;
    for touched in
        [format!("\n{good}\n\n"), good.replace('\n', "\n \n"), good.replace('\n', "\r\n"), good.trim_end().to_owned()]
    {
        let to = stations.station().await;
        let imported = to.registry.import(touched.as_bytes()).await.unwrap();
        assert_eq!((imported.devices, imported.keys), (1, 1), "{touched}");
    }
    let doubled = format!("{good}\n\n{}", good.lines().next().unwrap());
    let refused = stations.station().await.registry.import(doubled.as_bytes()).await.unwrap_err();
    assert!(refused.to_string().contains("there is more behind the end"), "{refused}");
}

/// Whatever is wrong with it: nothing is changed.
#[tokio::test]
async fn what_is_not_whole_or_not_ours_changes_nothing() {
    let stations = Stations::new();
    let from = stations.station().await;
    stations.commission(&from, &id("one"), &key()).await;
    stations.commission(&from, &id("two"), &key()).await;
    stations.sign_list(&from).await;
    let good = export(&from).await;
    let lines: Vec<&str> = good.lines().collect();
    let without = |left_out: usize| {
        let kept = lines.iter().enumerate().filter(|(number, _)| *number != left_out);
        kept.map(|(_, line)| format!("{line}\n")).collect::<String>()
    };
    let forger = Issuer::new(IssuerKey::generate());
    let real = from.device(&id("one")).await.keys[0].certificates[0].object.clone().unwrap();
    let payload = Sign1::decode(&real).unwrap().payload.to_vec();
    let forged = forger.sign_as(Kind::DeviceCertificate.typ(), &payload).unwrap();
    let mut bad: Vec<(String, String)> =
        (0..lines.len()).map(|at| (format!("without line {}", at + 1), without(at))).collect();
    bad.extend([
        ("cut off".to_owned(), good[..good.len() - 3].to_owned()),
        ("nothing".to_owned(), String::new()),
        ("twice".to_owned(), good.repeat(2)),
        ("another format".to_owned(), good.replacen("\"format\":1", "\"format\":2", 1)),
        ("an entry changed".to_owned(), good.replacen("\"event\":\"key-seen\"", "\"event\":\"key-sold\"", 1)),
        ("a forged certificate".to_owned(), good.replacen(&hex::encode(&real), &hex::encode(&forged), 1)),
        ("a certificate of another device".to_owned(), good.replacen("test-one\",\"thumb", "test-two\",\"thumb", 1)),
        ("an odd status".to_owned(), good.replacen("\"status\":\"active\"", "\"status\":\"activ\"", 1)),
        ("revoked without a time".to_owned(), good.replacen("\"status\":\"active\"", "\"status\":\"revoked\"", 1)),
        ("keys only".to_owned(), lines[1..3].join("\n")),
    ]);
    // What somebody could write who knows the format, but has not our key.
    let counted = |lines: &[String]| {
        let end = lines.len() - 1;
        let mut lines = lines.to_vec();
        lines[end] = format!("{{\"record\":\"end\",\"lines\":{end}}}");
        lines.iter().map(|line| format!("{line}\n")).collect::<String>()
    };
    let owned: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let last_entry = owned.iter().rposition(|line| line.contains("\"record\":\"entry\"")).unwrap();
    let mut shorter = owned.clone();
    shorter.remove(last_entry);
    let mut unconnected = owned.clone();
    let mut entry: AuditEntry = serde_json::from_str(&owned[last_entry]).unwrap();
    entry.previous = "11".repeat(32);
    entry.hash = entry.computed_hash();
    unconnected[0] = owned[0].replace(&from.registry.verify_audit().await.unwrap().head, &entry.hash);
    unconnected[last_entry] = serde_json::to_string(&Written::Entry(&entry)).unwrap();
    let list = from.registry.list().await.unwrap().unwrap();
    let forged_list = forger.sign_as(Kind::DeviceList.typ(), list.claims()).unwrap();
    let claims = DeviceListClaims::decode(list.claims()).unwrap();
    let elsewhere = DeviceListClaims { audit_head: Some([7; 32]), ..claims };
    let mut buffer = vec![0; 1024];
    let len = elsewhere.encode(&mut buffer).unwrap();
    let elsewhere = stations.issuer.sign_as(Kind::DeviceList.typ(), &buffer[..len]).unwrap();
    let real_list = hex::encode(list.object().unwrap());
    bad.extend([
        ("the last entry dropped".to_owned(), counted(&shorter)),
        ("an entry that does not follow".to_owned(), counted(&unconnected)),
        ("a forged list".to_owned(), good.replace(&real_list, &hex::encode(forged_list))),
        ("a list over another history".to_owned(), good.replace(&real_list, &hex::encode(elsewhere))),
    ]);
    for (name, text) in bad {
        let into = stations.station().await;
        let before = into.registry.verify_audit().await.unwrap();
        let error = into.registry.import(text.as_bytes()).await.unwrap_err();
        assert!(matches!(error, Error::NotImportable { .. }), "{name}: {error}");
        assert!(error.to_string().contains("nothing was changed"), "{error}");
        for (wrong, words) in
            [("an odd status", "status is \"activ\""), ("a forged certificate", "is not a device certificate")]
        {
            assert!(wrong != name || error.to_string().contains(words), "{name}: {error}");
        }
        assert_eq!(into.registry.verify_audit().await.unwrap(), before, "{name}");
        assert!(into.registry.devices().await.unwrap().is_empty(), "{name}");
    }
    let stranger = Fixture::new().await;
    let error = stranger.registry.import(good.as_bytes()).await.unwrap_err();
    assert!(matches!(error, Error::OtherRegistry(_)), "{error}");
}

#[tokio::test]
async fn an_imported_history_cannot_be_changed_unseen() {
    let stations = Stations::new();
    let from = stations.station().await;
    stations.commission(&from, &id("one"), &key()).await;
    for tampering in [
        "UPDATE imported SET payload = '{}' WHERE seq = 3",
        "DELETE FROM imported WHERE seq = 3",
        "DELETE FROM imported",
        "UPDATE imported SET previous = hash WHERE seq = 3",
    ] {
        let into = stations.station().await;
        import(&from, &into).await;
        into.registry.database.run(tampering).await;
        let error = into.registry.verify_audit().await.unwrap_err();
        assert!(matches!(error, Error::TamperedImport { .. }), "{tampering}: {error}");
    }
}

#[tokio::test]
async fn histories_with_a_common_beginning_share_it() {
    let stations = Stations::new();
    let a = stations.station().await;
    stations.commission(&a, &id("one"), &key()).await;
    let copy = a.dir.path().join("copy.sqlite");
    a.registry.snapshot(&copy).await.unwrap();
    let b = stations.station().await;
    b.registry.close().await;
    std::fs::rename(&copy, b.dir.registry()).unwrap();
    for name in ["registry.sqlite-wal", "registry.sqlite-shm"] {
        let _ = std::fs::remove_file(b.dir.path().join(name));
    }
    let mut b = b;
    b.reopen().await;
    stations.commission(&a, &id("two"), &key()).await;
    stations.commission(&b, &id("three"), &key()).await;
    let entries = a.registry.verify_audit().await.unwrap().entries;
    let imported = import(&a, &b).await;
    assert!(imported.entries < entries / 2 + 2, "{imported:?} of {entries}");
    assert_eq!((imported.devices, imported.keys), (1, 1));
}
