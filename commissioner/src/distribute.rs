//! Puts the signed list of "my devices" on devices.
//!
//! ```text
//! registry: list            who is in it; durably, before it is signed
//! sign; registry: signed    the signed bytes, durably
//! GET /comm/peers           which version the device holds, under OSCORE, as its owner
//! PUT /comm/peers           block-wise; the device stores it, reads it back, and says what it holds
//! registry: held            recorded
//! ```

use cbor_schemas::{DeviceId, ListMode, PeersView};

use crate::client::{Client, Refusal, Request, content_format};
use crate::crash::{self, Point};
use crate::deed::{self, Deed};
use crate::issuer;
use crate::progress::{Progress, Step};
use crate::registry::{self, List};
use crate::station::{self, Station};
use crate::text;
use crate::visit::{self, Account};

const PEERS: &str = "/comm/peers";

/// How it ended, when it ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distributed {
    /// The device has the list now.
    Installed,
    /// It had it already.
    AlreadyHeld,
}

/// Why a device did not get the list.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The visit failed.
    #[error(transparent)]
    Visit(#[from] visit::Error),
    /// The visit of a station of the owner failed.
    #[error(transparent)]
    Station(station::Error),
    /// The registry objects, or cannot remember.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The device was not asked, or what it did is not on record.
    #[error(transparent)]
    Deed(deed::Error),
    /// The list was not signed.
    #[error(transparent)]
    Issuer(#[from] issuer::Error),
    /// The issuer's key is elsewhere, and it gave us none.
    #[error(
        "this station has no list of its issuer; have it written there by `commissioner export --format signed-list`, then \
         `station install` it"
    )]
    NoList,
    /// The device has no room for so many keys.
    #[error(
        "the list has {}, and this device takes {limit} at the most; a list of mode `revoked` names the revoked keys \
         only (`commissioner distribute --mode revoked`)",
        text::count(*keys, "key", "keys")
    )]
    TooLong {
        /// Keys in the list.
        keys: usize,
        /// Keys that fit.
        limit: u16,
    },
    /// The device refused the list, or to say which one it holds.
    #[error("the device refused the list: {0}")]
    Refused(Refusal),
    /// What the device answered cannot be read.
    #[error("what the device says about its list cannot be read: {0}; its firmware or this commissioner is too old")]
    Malformed(#[from] cbor_schemas::Error),
    /// The device says that it holds something else.
    #[error("the device holds another list than it was given; repeat the command to find out which")]
    OtherList,
}

/// The list as it stands, signed and durable. It is signed anew only if it would say something else than the last one.
///
/// # Errors
/// Those of the registry and of the issuer.
pub async fn current_list(station: &Station, mode: Option<ListMode>, progress: &Progress) -> Result<List, Error> {
    if !station.issuer.signs() {
        let list = station.registry.list().await?;
        return list.filter(|list| list.object().is_some()).ok_or(Error::NoList);
    }
    let mut list = station.registry.begin_list(mode).await?;
    if list.object().is_none() {
        let object = station.issuer.list(&list)?;
        crash::at(Point::Signed);
        station.registry.list_signed(list.version, &object).await?;
        progress.step(Step::ListSigned { version: list.version, mode: list.mode.to_string(), keys: list.keys });
        list = list.with_object(object);
    }
    Ok(list)
}

/// Gives `list` to a device of ours. `seen` is what it says to anyone. `claimed_now`: nobody owned it until a moment ago, so a
/// list that is not known here is one that it made up.
///
/// # Errors
/// See [`Error`]. Nothing is lost: the command can be repeated.
pub async fn distribute(
    client: &mut Client,
    seen: &Account,
    station: &Station,
    list: &List,
    claimed_now: bool,
    progress: &Progress,
) -> Result<Distributed, Error> {
    let mut visit = station.visit(client, seen, progress).await?;
    let info = visit.account().info();
    let (device, limit) = (info.device, info.limits.list_keys);
    let held = view(visit.request(&Request::get(PEERS)).await?.success().map_err(Error::Refused)?.payload)?;
    take_note(station, &device, &held, claimed_now).await?;
    if is_held(list, &held) {
        progress.step(Step::AlreadyDone);
        return Ok(Distributed::AlreadyHeld);
    }
    if held.version == Some(list.version) {
        // Signed in the same second, by somebody who has our issuer key.
        station.registry.other_list_seen(&device, list.version, claimed_now).await?;
    }
    if list.keys > usize::from(limit) {
        return Err(Error::TooLong { keys: list.keys, limit });
    }
    progress.working(format!("putting the list of {} on the device", text::count(list.keys, "key", "keys")));
    let object = list.object().unwrap_or_default().to_vec();
    let request = Request::put(PEERS, content_format::CWT, object);
    let (response, asked) = Deed::List.ask(&mut visit, &request, &station.registry).await?;
    let held = view(response.success().map_err(Error::Refused)?.payload)?;
    asked.record(list.version, take_note(station, &device, &held, claimed_now)).await?;
    if !is_held(list, &held) {
        return Err(Error::OtherList);
    }
    progress.step(Step::ListInstalled { version: list.version });
    Ok(Distributed::Installed)
}

async fn take_note(
    station: &Station,
    device: &DeviceId,
    held: &PeersView,
    claimed_now: bool,
) -> Result<(), registry::Error> {
    match claimed_now {
        true => station.registry.list_seen_after_claim(device, held.version).await,
        false => station.registry.list_seen(device, held.version).await,
    }
}

fn view(payload: Vec<u8>) -> Result<PeersView, Error> {
    Ok(PeersView::decode(&payload)?)
}

fn is_held(list: &List, held: &PeersView) -> bool {
    (held.version, held.mode, usize::from(held.held)) == (Some(list.version), Some(list.mode), list.keys)
}

impl From<station::Error> for Error {
    /// What fails without a station is the same.
    fn from(error: station::Error) -> Self {
        match error {
            station::Error::Visit(error) => error.into(),
            station::Error::Registry(error) => (*error).into(),
            station::Error::Issuer(error) => error.into(),
            of_station => Self::Station(of_station),
        }
    }
}

impl From<deed::Error> for Error {
    /// What has nothing to do with the deed is what it is without one.
    fn from(error: deed::Error) -> Self {
        match error {
            deed::Error::Visit(error) => error.into(),
            deed::Error::Registry(error) => error.into(),
            of_deed => Self::Deed(of_deed),
        }
    }
}
