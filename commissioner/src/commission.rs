//! The procedure, top to bottom: identify, authenticate, settle whose key it is, journal, sign, install, receipt, record.
//!
//! ```text
//! GET /comm                 who are you                          believed: nothing, it only names the key to expect
//! EDHOC, GET /comm          prove it, and say it again           believed: the key; the ID as far as the registry agrees
//! registry: observe         is this the key we know for this ID?
//! registry: intent          what will be signed, durably
//! sign; registry: issued    the signed bytes, durably
//! PUT /comm/owner           anchor and certificate, one atomic write
//! receipt; registry         what the device read back is what we sent: installed
//! ```
//!
//! A run that dies anywhere is finished or voided by the next one, which begins at the top and finds out how far the
//! device got.

mod error;
mod plan;

use cbor_schemas::{ProofLevel, Receipt, SlotContents, SlotRequest, SlotState, SlotView};
use protocol::key::PublicKey;
use rand_core::OsRng;
use sha2::{Digest, Sha256};

use crate::certificate;
use crate::client::{Client, Request, content_format};
use crate::crash::{self, Point};
use crate::deed::Deed;
use crate::progress::{Progress, Step};
use crate::registry::{
    self, Conflict, Cti, Device, INTENT_LIFETIME, Intent, Key, KeyStatus, NewCertificate, Observation,
    REQUEST_LIFETIME, Slot, Succession, VoucherRequest,
};
use crate::station::Station;
use crate::visit::{Account, Visit};

pub use error::Error;
pub use plan::Terms;
use plan::{Then, Visitor, after_reading, plan};

/// From so many milliseconds for a P-256 operation on, it is said that the device is checking a signature.
const SLOW_MS: u32 = 500;

/// How it ended, when it ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The device has a new certificate.
    Commissioned,
    /// It had one of ours already; nothing was changed.
    AlreadyDone,
    /// Its certificate is to be signed where the issuer's key is.
    Requested,
}

/// Makes the device at the other end of `client` one of "my devices". `seen` is what it says to anyone.
///
/// # Errors
/// See [`Error`]. An interrupted run leaves an intent in the journal; repeating the command finishes or voids it.
pub async fn commission(
    client: &mut Client,
    seen: &Account,
    station: &Station,
    terms: &Terms<'_>,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let device = seen.info().device;
    if let Some(key) = seen.key() {
        station.registry.refuse_own_key(&device, key).await?;
    }
    let outcome = carry_out(client, seen, station, terms, progress).await;
    if let (Err(error), Some(key)) = (&outcome, seen.key())
        && error.is_refusal()
    {
        station.registry.refused(&device, key).await?;
    }
    outcome
}

/// Visits the device as often as its plan says, and does there what it says.
async fn carry_out(
    client: &mut Client,
    seen: &Account,
    station: &Station,
    terms: &Terms<'_>,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let (registry, anchor) = (&station.registry, station.issuer.anchor());
    let known = registry.device_by_id(&seen.info().device).await?;
    let mut plan = plan(seen, known.as_ref(), terms, &anchor, registry.now())?;
    loop {
        let mut visit = match plan.visitor {
            Visitor::Stranger => Visit::stranger(client, seen, progress).await?,
            Visitor::Station => station.visit(client, seen, progress).await?,
            Visitor::Programmer => Visit::unproven(client, seen)?,
        };
        if plan.observes {
            settle_key(&visit, station, terms, progress).await?;
        }
        let mut then = plan.then;
        plan = loop {
            then = match then {
                Then::Refuse(error) => return Err(error),
                Then::Install(slot) => return install(visit, slot, None, station, progress).await,
                Then::InstallBy(voucher) => {
                    return install(visit, Slot::Owner, Some(voucher.object()), station, progress).await;
                }
                Then::InstallByOwn => {
                    let own = own_voucher(&visit, station).await?;
                    return install(visit, Slot::Owner, Some(&own), station, progress).await;
                }
                Then::Read(slot) => {
                    let contents = read_slot(&mut visit, slot).await?;
                    after_reading(slot, &SlotView::decode(&contents)?, seen, known.as_ref(), &anchor)
                }
                Then::Keep(slot, certificate) => {
                    return settle_certificate(&certificate, slot, &visit, station, progress).await;
                }
                Then::Visit(next) => break *next,
            };
        };
    }
}

/// A voucher of ours for ourselves, as the maker of the device.
async fn own_voucher(visit: &Visit<'_>, station: &Station) -> Result<Vec<u8>, Error> {
    let info = visit.account().info();
    let wanted = VoucherRequest {
        device: info.device,
        slot: Slot::Factory,
        owner: *station.registry.issuer(),
        lifetime: None,
        claim_counter: Some(info.claim_counter),
    };
    let grant = station.registry.grant_voucher(&wanted).await?;
    Ok(station.issuer.voucher(&grant)?)
}

/// Tells the registry which key was proved, and where, and lets the user overrule a key change.
async fn settle_key(visit: &Visit<'_>, station: &Station, terms: &Terms<'_>, progress: &Progress) -> Result<(), Error> {
    let registry = &station.registry;
    let (info, key) = (visit.account().info(), *visit.key());
    let observed = registry.observe_visited(&Observation::new(&info, key, terms.place, visit.proof())).await;
    let succession = match observed {
        Err(registry::Error::Conflict(Conflict::KeyChange { .. })) if terms.accept_new_key => {
            registry.accept_new_key(&info.device, &key).await?
        }
        Err(registry::Error::Conflict(conflict @ Conflict::RevokedKey { .. })) if info.has_owner_slot() => {
            let parting = registry.parting(&info.device).await?;
            let known = registry.device_by_id(&info.device).await?;
            let was_ours = known.as_ref().and_then(|known| known.key(&key)).is_some_and(Key::was_ours);
            return Err(Error::Revoked { conflict, parting, owner: info.owner, was_ours });
        }
        observed => observed?,
    };
    tell(&succession, &key, progress);
    if visit.proof() == ProofLevel::Proved {
        let slots = [(Slot::Factory, info.factory), (Slot::Owner, info.owner)];
        let empty = slots.into_iter().filter(|(_, state)| *state == SlotState::Empty);
        registry.emptied(&info.device, &key, &empty.map(|(slot, _)| slot).collect::<Vec<_>>()).await?;
    }
    Ok(())
}

/// What to say of a device that shows another `key` than it was known by, where that counts at once.
pub fn other_key(known: Option<&Device>, key: &PublicKey, now: u64) -> Option<Step> {
    let former = known?.settled().filter(|settled| settled.x != *key.x())?;
    Some(Step::OtherKey {
        device: known?.id.to_string(),
        former: former.thumbprint.clone(),
        seconds: now.saturating_sub(former.last_seen),
    })
}

/// Tells what became of a device's keys.
pub fn tell(succession: &Succession, key: &PublicKey, progress: &Progress) {
    let (Succession::Active { revoked } | Succession::Settled { revoked }) = succession else { return };
    for key in revoked {
        progress.step(Step::KeyRevoked { thumbprint: key.to_string() });
    }
    if let Succession::Active { .. } = succession {
        progress.step(Step::KeyActive { thumbprint: key.thumbprint().to_string() });
    }
}

/// What a slot shows of itself: an encoded [`SlotView`].
async fn read_slot(visit: &mut Visit<'_>, slot: Slot) -> Result<Vec<u8>, Error> {
    let response = visit.request(&Request::get(path(slot))).await?.success().map_err(Error::Refused)?;
    Ok(response.payload)
}

/// Takes a certificate of ours that the device has into account.
async fn settle_certificate(
    certificate: &[u8],
    slot: Slot,
    visit: &Visit<'_>,
    station: &Station,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let device = visit.account().info().device;
    let cti = own_certificate(certificate, visit, station)?;
    station.registry.installed(cti, None).await?;
    let open = station.registry.open_intents(&device).await?;
    for open in open.iter().filter(|open| open.slot() == slot) {
        let reason = "another certificate is installed";
        station.registry.void(open.cti(), reason).await?;
        progress.step(Step::Voided { cti: open.cti().to_string(), reason: reason.to_owned() });
    }
    progress.step(Step::AlreadyDone);
    Ok(Outcome::AlreadyDone)
}

/// The ID of a certificate that we signed about this device and its key.
fn own_certificate(certificate: &[u8], visit: &Visit<'_>, station: &Station) -> Result<Cti, Error> {
    let device = visit.account().info().device;
    let claims = certificate::check(certificate, station.registry.issuer(), &device, visit.key());
    Ok(Cti(claims.map_err(Error::ForeignCertificate)?.cti))
}

/// Journal, sign, send, receipt, record.
async fn install(
    mut visit: Visit<'_>,
    slot: Slot,
    voucher: Option<&[u8]>,
    station: &Station,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let registry = &station.registry;
    let transcript = visit.transcript();
    if transcript.is_none() && !station.issuer.signs() {
        return Err(Error::NoRequest);
    }
    let info = visit.account().info();
    let wanted = NewCertificate {
        device: info.device,
        key: *visit.key(),
        slot,
        key_origin: info.key_origin,
        cti: Cti::random(&mut OsRng),
        lifetime: if station.issuer.signs() { INTENT_LIFETIME } else { REQUEST_LIFETIME },
    };
    let intent = registry.begin_issue(&wanted).await?;
    let cti = intent.cti();
    progress.step(match intent.is_resumed() {
        true => Step::Resumed { cti: cti.to_string() },
        false => Step::Intended { cti: cti.to_string(), slot: intent.slot().to_string() },
    });
    if let Some(transcript) = transcript.filter(|_| intent.object().is_none() && !station.issuer.signs()) {
        registry.requested(cti, &transcript).await?;
        progress.step(Step::Requested { cti: cti.to_string() });
        return Ok(Outcome::Requested);
    }
    let certificate = sign(&intent, station, progress).await?;

    let request = SlotRequest { anchor: station.issuer.anchor(), certificate: Some(&certificate), voucher };
    let ready = Deed::Installation.ready(registry).await?;
    progress.step(Step::Sent { cti: cti.to_string() });
    if visit.account().info().operation_ms >= SLOW_MS {
        progress.working("waiting until the device has checked and stored its certificate");
    }
    let (response, asked) = ready.ask(&mut visit, &put_slot(slot, &request)?).await?;
    let receipt = match response.success() {
        Ok(response) => Receipt::decode(&response.payload)?,
        Err(refusal) => {
            registry.void(cti, "the device refused it").await?;
            progress.step(Step::Voided { cti: cti.to_string(), reason: refusal.to_string() });
            return Err(Error::Refused(refusal));
        }
    };
    check_receipt(&receipt, &visit, slot, &request)?;
    let status = asked.record(cti, registry.installed(cti, Some(&receipt))).await?;
    progress.step(Step::Installed { cti: cti.to_string() });
    if status == KeyStatus::Active {
        progress.step(Step::KeyActive { thumbprint: visit.key().thumbprint().to_string() });
    }
    Ok(Outcome::Commissioned)
}

pub(crate) fn put_slot(slot: Slot, request: &SlotRequest<'_>) -> Result<Request, Error> {
    let mut body = vec![0; SlotRequest::MAX_LEN];
    let len = request.encode(&mut body)?;
    body.truncate(len);
    Ok(Request::put(path(slot), content_format::CBOR, body))
}

const fn path(slot: Slot) -> &'static str {
    match slot {
        Slot::Factory => "/comm/factory",
        Slot::Owner => "/comm/owner",
    }
}

/// The signed certificate, durable before it is returned.
async fn sign(intent: &Intent, station: &Station, progress: &Progress) -> Result<Vec<u8>, Error> {
    if let Some(object) = intent.object() {
        return Ok(object.to_vec());
    }
    let object = station.issuer.certificate(intent)?;
    crash::at(Point::Signed);
    station.registry.issued(intent.cti(), &object).await?;
    progress.step(Step::Issued { cti: intent.cti().to_string() });
    Ok(object)
}

/// Whether the device stored what it was sent, under the key that it proved.
pub(crate) fn check_receipt(
    receipt: &Receipt,
    visit: &Visit<'_>,
    slot: Slot,
    request: &SlotRequest<'_>,
) -> Result<(), Error> {
    let info = visit.account().info();
    let contents = SlotContents { anchor: request.anchor, certificate: request.certificate };
    let mut stored = vec![0; SlotRequest::MAX_LEN];
    let len = contents.encode(&mut stored)?;
    // Another owner counts; a renewal by the same one does not, nor does the factory.
    let is_claim = slot == Slot::Owner && (info.owner == SlotState::Empty || request.voucher.is_some());
    let claims = u32::from(is_claim);
    if receipt.device != *visit.key().x() {
        Err(Error::WrongReceipt("the key"))
    } else if Some(receipt.claim_counter) != info.claim_counter.checked_add(claims) {
        Err(Error::WrongReceipt("the claim counter"))
    } else if receipt.generation != info.generation {
        Err(Error::WrongReceipt("the generation"))
    } else if receipt.digest[..] != Sha256::digest(&stored[..len])[..] {
        Err(Error::WrongReceipt("the contents"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod liar;
#[cfg(test)]
mod tests;
