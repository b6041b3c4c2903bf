use cbor_schemas::{CoseKey, Kind, StationTokenClaims};
use rand_core::OsRng;
use tempfile::TempDir;

use super::*;
use crate::client::{Code, Request};
use crate::clock::Clock;
use crate::keys;
use crate::registry::StationScope;
use crate::state_dir::StateDir;
use crate::visit::tests::{ID, NOW, as_is, busy_device, device, progress, with_other_y};

pub(crate) async fn station(temp: &TempDir) -> Station {
    let path = temp.path().join("state");
    let clock = Clock::manual(NOW);
    let dir = StateDir::create(&path).unwrap();
    let lock = dir.lock().unwrap();
    Registry::prepare(&dir, &lock).await.unwrap();
    let [issuer, station] = [dir.issuer_key(), dir.station_key()].map(|path| *keys::create(&path).unwrap().public());
    Registry::initialise(&dir, &lock, clock.clone(), issuer, station).await.unwrap();
    drop(lock);
    Station {
        registry: Registry::open(&dir, clock, false).await.unwrap(),
        issuer: Issuer::new(crate::keys::IssuerKey::load(&dir.issuer_key()).unwrap()),
        key: crate::keys::load(&dir.station_key()).unwrap(),
        token: None,
    }
}

#[tokio::test]
async fn a_station_presents_a_token_for_this_start_of_this_device() {
    let temp = tempfile::tempdir().unwrap();
    let station = station(&temp).await;
    let mut device = device(Some(*station.registry.issuer()), as_is, as_is);
    let seen = Account::read(&mut device.client).await.unwrap();
    let mut visit = station.visit(&mut device.client, &seen, &progress().0).await.unwrap();
    assert_eq!(visit.account().info().watermarks.owner, Some(NOW), "the token moves the watermark");
    let answer = visit.request(&Request::get("/comm/owner")).await.unwrap();
    assert_eq!(answer.payload, b"GET /comm/owner ByKid");

    let token = device.tokens.lock().unwrap()[0];
    assert_eq!(token.audience, Audience::Device(ID.parse().unwrap()));
    assert_eq!((token.cnonce, token.expires_at, token.key.x), (Some([9; 8]), None, *station.key.public().x()));
}

/// Others may take the handshake's place while the token is signed and presented.
#[tokio::test]
async fn a_later_visit_is_one_handshake_unless_that_was_displaced() {
    for displaced in [0, 1, 2] {
        let temp = tempfile::tempdir().unwrap();
        let station = station(&temp).await;
        let mut device = busy_device(Some(*station.registry.issuer()), as_is, as_is, displaced);
        device.client.record();
        let seen = Account::read(&mut device.client).await.unwrap();
        station.visit(&mut device.client, &seen, &progress().0).await.unwrap();
        let notes: Vec<_> = device.client.take_records().into_iter().map(|record| record.note).collect();
        let begun = notes.iter().filter(|note| note.contains("EDHOC message_1")).count();
        assert_eq!(begun, 1 + displaced as usize, "{notes:?}");
        assert_eq!(device.tokens.lock().unwrap().len(), 1, "one token is enough");
    }
}

#[tokio::test]
async fn a_station_without_the_issuers_key_presents_its_token_until_that_is_over() {
    let temp = tempfile::tempdir().unwrap();
    let mut station = station(&temp).await;
    let mut device = device(Some(*station.registry.issuer()), as_is, as_is);
    let (token, grant) =
        station.registry.grant_station(station.key.public(), StationScope::Everything, 60).await.unwrap();
    let object = station.issuer.station_token(&grant).unwrap();
    let public = *station.registry.issuer();
    station.issuer = Issuer::elsewhere(public);
    let seen = Account::read(&mut device.client).await.unwrap();
    let refused = station.visit(&mut device.client, &seen, &progress().0).await.unwrap_err();
    assert!(matches!(refused, Error::NoToken), "{refused}");

    let other = *PrivateKey::generate(&mut OsRng).public();
    assert_eq!(InstalledToken::new(object.clone(), &public, &other), None, "for another station");
    assert_eq!(InstalledToken::new(object.clone(), &other, station.key.public()), None, "of another issuer");
    station.token = InstalledToken::new(object, &public, station.key.public());
    for (seconds, is_over) in [(60, false), (61, true)] {
        let clock = Clock::manual(NOW + seconds);
        station.registry =
            Registry::open(&StateDir::open(&temp.path().join("state")).unwrap(), clock, false).await.unwrap();
        let seen = Account::read(&mut device.client).await.unwrap();
        let visited = station.visit(&mut device.client, &seen, &progress().0).await;
        match visited {
            Err(error) => assert!(is_over && matches!(error, Error::TokenExpired(_)), "{error}"),
            Ok(_) => assert!(!is_over),
        }
    }
    let shown = device.tokens.lock().unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].expires_at, shown[0].cnonce), (Some(token.expires_at), None));
}

#[tokio::test]
async fn a_token_is_one_issuers_for_one_form_of_a_stations_key() {
    let temp = tempfile::tempdir().unwrap();
    let station = station(&temp).await;
    let (public, own) = (*station.registry.issuer(), *station.key.public());
    let (_, grant) = station.registry.grant_station(&own, StationScope::Everything, 60).await.unwrap();
    let good = *grant.claims();
    let other = Issuer::new(crate::keys::IssuerKey::generate());
    let others = StationTokenClaims { issuer: other.id(), audience: Audience::All(other.id()), ..good };
    let kind = Kind::StationToken;
    for (name, by, kind, claims) in [
        ("good", &station.issuer, kind, good),
        ("another kind", &station.issuer, Kind::DeviceList, good),
        ("another issuer's name", &station.issuer, kind, others),
        ("another signer", &other, kind, good),
        ("another x", &station.issuer, kind, StationTokenClaims { key: other.anchor(), ..good }),
        ("another y", &station.issuer, kind, StationTokenClaims { key: with_other_y(good.key), ..good }),
        ("another kid", &station.issuer, kind, StationTokenClaims { key: CoseKey { kid: [7; 8], ..good.key }, ..good }),
    ] {
        let mut payload = [0; StationTokenClaims::MAX_LEN];
        let len = claims.encode(&mut payload).unwrap();
        let object = by.sign_as(kind.typ(), &payload[..len]).unwrap();
        assert_eq!(InstalledToken::new(object, &public, &own).is_some(), name == "good", "{name}");
    }
    let junk = station.issuer.sign_as(kind.typ(), b"junk").unwrap();
    assert_eq!(InstalledToken::new(junk, &public, &own), None);
}

#[tokio::test]
async fn a_device_that_only_copied_an_account_never_sees_a_token() {
    let temp = tempfile::tempdir().unwrap();
    let station = station(&temp).await;
    let copied =
        |info: &mut DeviceInfo<'_>| info.credential = Some(PrivateKey::generate(&mut OsRng).public().cose_key());
    let mut impostor = device(Some(*station.registry.issuer()), copied, as_is);
    let seen = Account::read(&mut impostor.client).await.unwrap();
    assert!(station.visit(&mut impostor.client, &seen, &progress().0).await.is_err());
    assert_eq!(impostor.tokens.lock().unwrap().len(), 0);
    let history = station.registry.history(&ID.parse().unwrap()).await.unwrap();
    assert_eq!(history.len(), 0, "not even signed");
}

#[tokio::test]
async fn a_device_of_another_issuer_refuses_the_token() {
    let temp = tempfile::tempdir().unwrap();
    let station = station(&temp).await;
    let mut device = device(Some(*PrivateKey::generate(&mut OsRng).public()), as_is, as_is);
    let seen = Account::read(&mut device.client).await.unwrap();
    let refused = station.visit(&mut device.client, &seen, &progress().0).await;
    assert!(matches!(refused, Err(Error::Visit(visit::Error::TokenRefused(Refusal { code: Code::UNAUTHORIZED, .. })))));
}
