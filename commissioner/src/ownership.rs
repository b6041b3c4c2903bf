//! What the owner of a device has it do after it was commissioned: make or take another key, or give up its owner.

use cbor_schemas::{PrivateCoseKey, ProofLevel, Receipt, RekeyRequest, RekeyResponse, SlotRequest, SlotState};
use protocol::key::{PrivateKey, PublicKey};
use rand_core::OsRng;
use zeroize::{Zeroize, Zeroizing};

use crate::client::{Client, Method, Refusal, Request, content_format};
use crate::commission::{Error, Outcome, Terms, check_receipt, commission, put_slot, tell};
use crate::deed::{self, Asked, Deed};
use crate::escrow::SealTo;
use crate::progress::{Progress, Step, short};
use crate::registry::{self, Conflict, Device, Key, KeyStatus, Observation, Place, Registry, Slot, Succession};
use crate::station::Station;
use crate::visit::{self, Account, Visit};

const REKEY: &str = "/comm/rekey";
const RESET: &str = "/comm/reset";
/// What is said of a device that was given its key back.
const HAS_FORMER_KEY: &str = "has its former key";

/// Lets a device of ours make a new key, and certifies that one. Returns the status of the new key.
///
/// That goes for a device whose key is out as well ([`Key::is_mendable`]), which also proves it; if nobody owns such a device it
/// is claimed first. But whoever stole that key may answer in its place, and name a key of their own: so what is named does not
/// count. The key that is proved afterwards is pending, until the user accepts it with the device in hand.
///
/// # Errors
/// See [`Error`]; [`Error::Unfinished`] if the device has its new key. If its answer is lost, the new key is a key change for the
/// next visit.
pub async fn rekey(
    client: &mut Client,
    seen: &Account,
    station: &Station,
    progress: &Progress,
) -> Result<KeyStatus, Error> {
    let (device, registry) = (seen.info().device, &station.registry);
    let is_out = is_out(registry.device_by_id(&device).await?.as_ref(), seen);
    let mut seen = seen.clone();
    if is_out && seen.info().owner == SlotState::Empty && seen.info().has_owner_slot() {
        claim_without_certificate(client, &seen, station, progress).await?;
        seen = Account::read(client).await?;
    }
    let mut visit = station.visit(client, &seen, progress).await?;
    let old = *visit.key();
    registry.begin_rekey(&device, &old).await?;
    progress.working("the device makes a new key");
    let request = Request::new(Method::Post, REKEY);
    let (response, asked) = Deed::Rekey.ask(&mut visit, &request, &station.registry).await?;
    let response = RekeyResponse::decode(&response.success().map_err(Error::NoRekey)?.payload)?;
    let new = PublicKey::from_cose(&response.key).map_err(visit::Error::Credential)?;
    if new == old {
        return Err(Error::SameKey);
    }
    if is_out {
        return await_word(client, &new, asked, station, progress).await;
    }
    let change = registry.rekeyed(&device, &old, &new, response.generation);
    let succession = asked.record(new.thumbprint(), change).await?;
    tell(&succession, &new, progress);
    certify(client, "made the new key", &new, station, progress).await?;
    Ok(KeyStatus::Active)
}

/// Whether the key that a device shows is out, and was ours.
fn is_out(known: Option<&Device>, seen: &Account) -> bool {
    known.zip(seen.key()).and_then(|(known, key)| known.key(key)).is_some_and(Key::is_mendable)
}

/// Has the device prove whichever key it has now, which is on record then and does not count. `named` is the one that it said it
/// makes.
async fn await_word(
    client: &mut Client,
    named: &PublicKey,
    asked: Asked,
    station: &Station,
    progress: &Progress,
) -> Result<KeyStatus, Error> {
    let visited = async {
        let account = Account::read(client).await?;
        let visit = Visit::stranger(client, &account, progress).await?;
        let key = *visit.key();
        Ok((Observation::new(&visit.account().info(), key, Place::Elsewhere, ProofLevel::Proved), key))
    };
    let (observation, key) = visited.await.map_err(|error: visit::Error| Error::Unfinished {
        done: format!("made the new key {}, and did not prove it yet", short(&named.thumbprint().to_string())),
        next: "`commissioner commission --accept-new-key`",
        source: Box::new(error.into()),
    })?;
    let registry = &station.registry;
    let observed = match key == *named {
        true => asked.record(key.thumbprint(), registry.observe_successor(&observation)).await,
        false => asked.record(key.thumbprint(), registry.observe_key(&observation)).await,
    };
    match observed {
        Ok(Succession::Pending) | Err(deed::Error::Registry(registry::Error::Conflict(Conflict::KeyChange { .. }))) => {
            progress.step(Step::KeyPending { thumbprint: key.thumbprint().to_string() });
            Ok(KeyStatus::Pending)
        }
        Ok(_) => Ok(KeyStatus::Active),
        Err(error) => Err(error.into()),
    }
}

/// Gives a device its certificate about the `key` that it has since a moment ago. Our anchor is there.
///
/// # Errors
/// [`Error::Unfinished`], which says what it `did`.
async fn certify(
    client: &mut Client,
    did: &str,
    key: &PublicKey,
    station: &Station,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let certified = async {
        let account = Account::read(client).await?;
        commission(client, &account, station, &Terms::OWNER, progress).await
    };
    certified.await.map_err(|error| Error::Unfinished {
        done: format!(
            "{did} {}, which is on record, and has no certificate for it yet",
            short(&key.thumbprint().to_string())
        ),
        next: "`commissioner commission`",
        source: Box::new(error),
    })
}

/// Claims a device that nobody owns and whose key is revoked, so that we may have it make another one. No certificate is signed
/// about that key.
async fn claim_without_certificate(
    client: &mut Client,
    seen: &Account,
    station: &Station,
    progress: &Progress,
) -> Result<(), Error> {
    let mut visit = Visit::stranger(client, seen, progress).await?;
    station.registry.begin_rekey(&seen.info().device, visit.key()).await?;
    put_anchor(Deed::Rekey, &mut visit, station).await?.map_err(Error::NotTakenBack)
}

/// Puts our anchor alone into an empty owner slot, or says why the device refused it.
async fn put_anchor(deed: Deed, visit: &mut Visit<'_>, station: &Station) -> Result<Result<(), Refusal>, Error> {
    let request = SlotRequest { anchor: station.issuer.anchor(), certificate: None, voucher: None };
    // Nothing more is to be written down: who claims it is on record.
    let (response, _) = deed.ask(visit, &put_slot(Slot::Owner, &request)?, &station.registry).await?;
    let response = match response.success() {
        Ok(response) => response,
        Err(refusal) => return Ok(Err(refusal)),
    };
    check_receipt(&Receipt::decode(&response.payload)?, visit, Slot::Owner, &request)?;
    Ok(Ok(()))
}

/// Makes a key for a device of ours, keeps a copy of it sealed, lets the device take it in place of its own, and certifies it.
///
/// # Errors
/// See [`Error`]. If the answer is lost, the next visit finds out which key the device has.
pub async fn inject(
    client: &mut Client,
    seen: &Account,
    station: &Station,
    seal: &SealTo,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let mut visit = station.visit(client, seen, progress).await?;
    let (device, old) = (seen.info().device, *visit.key());
    progress.working("making a key for the device, and sealing a copy of it");
    let new = PrivateKey::generate(&mut OsRng);
    station.registry.begin_injection(&device, &old, new.public(), &seal.seal(&new)?).await?;
    progress.step(Step::Escrowed { thumbprint: new.public().thumbprint().to_string() });
    let (generation, asked) = match take_key(Deed::Injection, &mut visit, &new, &station.registry).await {
        Ok(taken) => taken,
        Err(error) => {
            if let Error::NoInjection(_) = error {
                station.registry.injection_refused(&device, new.public()).await?;
            }
            return Err(error);
        }
    };
    let change = station.registry.rekeyed(&device, &old, new.public(), generation);
    let succession = asked.record(new.public().thumbprint(), change).await?;
    tell(&succession, new.public(), progress);
    certify(client, "took the key that was made for it,", new.public(), station, progress).await
}

/// Gives a device that lost it the `key` back that is its active one in the registry, and certifies it again.
///
/// Whoever answers to the device's ID gets the key: the user says that this is the device.
///
/// # Errors
/// See [`Error`]. An interrupted run can be repeated.
pub async fn restore(
    client: &mut Client,
    seen: &Account,
    station: &Station,
    key: &PrivateKey,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let (device, registry) = (seen.info().device, &station.registry);
    if seen.key() == Some(key.public()) {
        // An earlier run may have come this far. Only what is proved counts.
        Visit::stranger(client, seen, progress).await?;
        registry.key_restored(&device, key.public()).await?;
        return certify(client, HAS_FORMER_KEY, key.public(), station, progress).await;
    }
    let account = match seen.info().owner {
        SlotState::Empty => {
            claim_to_restore(client, seen, station, key.public(), progress).await?;
            Account::read(client).await?
        }
        // Ours, if an earlier run came this far; a stranger's device never sees the station's key.
        _ => match seen.key() {
            Some(instead) if registry.is_restoring(&device, instead).await? => seen.clone(),
            _ => return Err(Error::Owned),
        },
    };
    let mut visit = station.visit(client, &account, progress).await?;
    progress.working("giving the device its key back");
    let (_, asked) = take_key(Deed::Restore, &mut visit, key, registry).await?;
    asked.record(key.public().thumbprint(), registry.key_restored(&device, key.public())).await?;
    progress.step(Step::Restored { thumbprint: key.public().thumbprint().to_string() });
    certify(client, HAS_FORMER_KEY, key.public(), station, progress).await
}

/// Claims a device under the key that it made after it was erased, without a certificate: that key will not stay.
async fn claim_to_restore(
    client: &mut Client,
    seen: &Account,
    station: &Station,
    key: &PublicKey,
    progress: &Progress,
) -> Result<(), Error> {
    let registry = &station.registry;
    let mut visit = Visit::stranger(client, seen, progress).await?;
    let (info, instead) = (visit.account().info(), *visit.key());
    let observation = Observation::new(&info, instead, Place::Elsewhere, ProofLevel::Proved);
    match registry.observe_key(&observation).await {
        Ok(_) | Err(registry::Error::Conflict(Conflict::KeyChange { .. })) => {}
        Err(error) => return Err(error.into()),
    }
    registry.begin_restore(&info.device, key, &instead).await?;
    put_anchor(Deed::Restore, &mut visit, station).await?.map_err(Error::Refused)
}

/// Lets the device take `key`. Returns its generation.
async fn take_key(
    deed: Deed,
    visit: &mut Visit<'_>,
    key: &PrivateKey,
    registry: &Registry,
) -> Result<(u32, Asked), Error> {
    let injected = PrivateCoseKey { x: *key.public().x(), d: *key.as_bytes() };
    let mut body = vec![0; RekeyRequest::MAX_LEN];
    let request = RekeyRequest { injected: Some(injected) };
    let len = request.encode(&mut body)?;
    if let Some(mut injected) = request.injected {
        injected.d.zeroize();
    }
    body.truncate(len);
    let request = Request::post(REKEY, content_format::CBOR, body);
    let answered = deed.ask(visit, &request, registry).await;
    Zeroizing::new(request.payload);
    let (response, asked) = answered?;
    let response = RekeyResponse::decode(&response.success().map_err(Error::NoInjection)?.payload)?;
    match PublicKey::from_cose(&response.key) {
        Ok(taken) if taken == *key.public() => Ok((response.generation, asked)),
        _ => Err(Error::OtherKey),
    }
}

/// Empties the owner slot of a device of ours. Its key is no longer one of "my devices", but not revoked either. Whether there
/// was anything to give up: nobody may have owned it.
///
/// # Errors
/// See [`Error`]. If the answer is lost, repeating the command finds the slot empty and finishes.
pub async fn reset(client: &mut Client, seen: &Account, station: &Station, progress: &Progress) -> Result<bool, Error> {
    let device = seen.info().device;
    if !seen.info().has_owner_slot() {
        return Err(visit::Error::NoOwnerSlot.into());
    }
    let registry = &station.registry;
    if seen.info().owner == SlotState::Empty {
        // An earlier run may have come this far. Only what is proved counts.
        let visit = Visit::stranger(client, seen, progress).await?;
        let was_ours = registry.found_empty(&device, visit.key()).await?;
        if !was_ours {
            progress.step(Step::AlreadyDone);
        }
        return Ok(was_ours);
    }
    let mut visit = station.visit(client, seen, progress).await?;
    let key = *visit.key();
    registry.begin_reset(&device, &key).await?;
    let (response, asked) = Deed::Reset.ask(&mut visit, &Request::new(Method::Post, RESET), registry).await?;
    response.success().map_err(Error::NoReset)?;
    asked.record(key.thumbprint(), registry.released(&device, &key)).await?;
    Ok(true)
}

/// Empties the owner slot of a device that is not ours, where its product lets whoever holds the button down do that. Whether
/// anybody owned it.
///
/// # Errors
/// See [`Error`]; [`Error::NoReset`] where nobody is present, or the product does not allow it.
pub async fn reset_by_presence(client: &mut Client, seen: &Account, progress: &Progress) -> Result<bool, Error> {
    let mut visit = Visit::stranger(client, seen, progress).await?;
    if visit.account().info().owner == SlotState::Empty {
        progress.step(Step::AlreadyDone);
        return Ok(false);
    }
    visit.request(&Request::new(Method::Post, RESET)).await?.success().map_err(Error::NoReset)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
