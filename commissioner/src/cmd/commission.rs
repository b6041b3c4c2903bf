//! `commissioner commission [LINK]`: makes devices "my devices".

mod watch;

use std::{fmt, path::PathBuf, sync::Arc};

use cbor_schemas::{DeviceId, SlotState};
use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;
use tokio::task::JoinSet;

use super::{Context, get::is_ours, secret::Sealing};
use crate::{
    cmd::exit::{CommandError, ExitCode},
    commission::{self, Outcome, Terms},
    discover::{self, Found, Twins},
    distribute,
    escrow::SealTo,
    link::{self, Link},
    progress::{Progress, Step},
    registry::{Key, Place, Registry, Slot},
    stop::Stop,
    visit::{Account, Station},
    voucher::{self, Voucher},
};

/// Make a device one of "my devices"
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Where the device is; left out, exactly one device must answer. Several are commissioned side by side
    #[arg(value_name = "LINK", conflicts_with = "all")]
    links: Vec<Link>,
    /// This is the trusted place: a new key replaces the older ones at once
    #[arg(long)]
    trusted: bool,
    /// The device may have a new key: revoke the older ones. For the one device that you hold in your hand
    #[arg(long, conflicts_with_all = ["all", "watch"])]
    accept_new_key: bool,
    /// Which slot to fill
    #[arg(long = "as", value_enum, default_value_t = Role::Owner)]
    role: Role,
    /// All devices that answer, side by side
    #[arg(long)]
    all: bool,
    /// Every device that comes along (at the links given, or anywhere), until stopped with Ctrl-C
    #[arg(long)]
    watch: bool,
    /// A voucher of the device's maker, or of its owner, or a folder of vouchers (*.cwt)
    #[arg(long, value_name = "FILE")]
    voucher: Vec<PathBuf>,
    /// Make the device's key here, and keep a sealed copy, to restore it after an erase
    #[arg(long)]
    escrow: bool,
    #[command(flatten)]
    sealing: Sealing,
}

/// In which role a device is commissioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    /// As its owner
    Owner,
    /// As its maker
    Factory,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        if self.role == Role::Factory && (self.escrow || !self.voucher.is_empty()) {
            return Err(CommandError::usage(
                "a factory takes no voucher and keeps no key; leave out --voucher and --escrow",
            ));
        }
        if self.accept_new_key && self.links.len() > 1 {
            return Err(CommandError::usage(
                "--accept-new-key is your word for the one device that you hold in your hand; name its link alone",
            ));
        }
        // From here on, Ctrl-C has to end a watch well.
        let mut stop = if self.watch { Some(Stop::listen()?) } else { None };
        let links = link::distinct(self.links);
        let work = Work {
            station: Arc::new(context.station().await?),
            place: if self.trusted { Place::Trusted } else { Place::Elsewhere },
            accept_new_key: self.accept_new_key,
            slot: self.role.into(),
            vouchers: voucher::load(&self.voucher)?.into(),
            seal: if self.escrow { Some(self.sealing.get()?) } else { None },
            one_device: !self.all && !self.watch && links.len() <= 1,
            progress: context.progress.clone(),
        };
        if let Some(stop) = &mut stop {
            watch::watch(&work, &links, context, stop).await;
            return Ok(());
        }
        if self.all {
            // A port where nothing answers has no device; only links that were named have to have one.
            let devices = discover::all().await?;
            return work.side_by_side(devices, Vec::new(), context).await;
        }
        work.progress.working("looking for the device");
        let found = match &links[..] {
            [] => discover::only().await?,
            [link] => discover::at(link).await?,
            links => {
                let (devices, failures) = discover::merge(discover::survey(links.to_vec()).await);
                let failures = failures.into_iter().map(|(link, error)| (link.to_string(), error.into()));
                return work.side_by_side(devices, failures.collect(), context).await;
            }
        };
        let done = work.commission(found).await?;
        done.show(context, &work.station).await
    }
}

impl From<Role> for Slot {
    fn from(role: Role) -> Self {
        match role {
            Role::Owner => Self::Owner,
            Role::Factory => Self::Factory,
        }
    }
}

/// What is the same for every device.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) station: Arc<Station>,
    pub(super) place: Place,
    pub(super) accept_new_key: bool,
    /// As what we come.
    pub(super) slot: Slot,
    /// What may let us in.
    pub(super) vouchers: Arc<[Voucher]>,
    /// With `--escrow`: what the copies of keys are sealed to.
    pub(super) seal: Option<SealTo>,
    /// Whether it is about one device that the user has at hand.
    pub(super) one_device: bool,
    pub(super) progress: Progress,
}

/// A device that is one of ours now.
pub(super) struct Done {
    pub(super) device: DeviceId,
    outcome: Outcome,
    slot: Slot,
    /// Why it did not get the list of "my devices", if there is one.
    pub(super) without_list: Option<CommandError>,
}

impl Work {
    /// Makes a device that was found one of ours.
    ///
    /// Where a link fails it goes on over the next one, as the next run would: with the certificate in the journal. If
    /// there is a list of "my devices", the device gets it as the last step.
    pub(super) async fn commission(&self, mut found: Found) -> Result<Done, CommandError> {
        let registry = &self.station.registry;
        let known = registry.device_by_id(&found.account.info().device).await?;
        let shown = found.account.key().filter(|_| self.place == Place::Trusted && !self.accept_new_key);
        let other_key = shown.and_then(|key| commission::other_key(known.as_ref(), key, registry.now()));
        loop {
            let progress = self.progress.on_link(&found.link);
            progress.step(found.account.step());
            match self.commission_at(&mut found, &progress).await {
                Ok(outcome) => {
                    let info = found.account.info();
                    let device = info.device;
                    let slot = self.terms(&found.link).slot_of(&info);
                    let claimed_now = outcome == Outcome::Commissioned && info.owner == SlotState::Empty;
                    // The list is its owner's business.
                    let without_list = match (slot, outcome) {
                        (Slot::Factory, _) | (_, Outcome::Requested) => None,
                        (Slot::Owner, _) => self.give_list(found, claimed_now).await.err(),
                    };
                    if let Some(other_key) = other_key {
                        progress.step(other_key);
                    }
                    if outcome != Outcome::AlreadyDone {
                        self.tell_of_nicknames(&device, &progress).await?;
                    }
                    return Ok(Done { device, outcome, slot, without_list });
                }
                Err(error) => found.fall_back(error.into(), &progress).await?,
            }
        }
    }

    /// Tells which nicknames are in the way of the ID of a new device.
    async fn tell_of_nicknames(&self, device: &DeviceId, progress: &Progress) -> Result<(), CommandError> {
        for (nickname, holder) in self.station.registry.nicknames_in(device).await? {
            progress.step(Step::NicknameAmbiguous { nickname, device: holder.to_string() });
        }
        Ok(())
    }

    async fn commission_at(&self, found: &mut Found, progress: &Progress) -> Result<Outcome, commission::Error> {
        let Found { link, client, account, .. } = found;
        let terms = self.terms(link);
        if !account.info().has_owner_slot() && self.seal.is_some() {
            return Err(commission::Error::NoOwnerSlot);
        }
        let outcome = commission::commission(client, account, &self.station, &terms, progress).await?;
        if outcome == Outcome::Requested {
            return Ok(outcome);
        }
        let device = self.station.registry.device_by_id(&account.info().device).await?;
        let is_kept = device.is_some_and(|device| device.settled().is_some_and(|key| key.escrowed));
        let Some(seal) = self.seal.as_ref().filter(|_| !is_kept) else { return Ok(outcome) };
        // It has an owner now.
        let seen = Account::read(client).await?;
        commission::inject(client, &seen, &self.station, seal, progress).await
    }

    fn terms(&self, link: &Link) -> Terms<'_> {
        let Self { place, accept_new_key, slot, ref vouchers, .. } = *self;
        let programming_cable = self.one_device && matches!(link, Link::Serial { .. });
        Terms { place, accept_new_key, slot, vouchers, programming_cable }
    }

    async fn give_list(&self, mut found: Found, claimed_now: bool) -> Result<(), CommandError> {
        if self.station.registry.list().await?.is_none() || !self.station.may_distribute() {
            return Ok(());
        }
        let list = distribute::current_list(&self.station, None, &self.progress).await?;
        // It has an owner now.
        found.account = Account::read(&mut found.client).await?;
        super::distribute::give(found, &self.station, &list, claimed_now, &self.progress).await.map(drop)
    }

    /// Several devices. One failure does not stop the others; the first one decides the exit code.
    async fn side_by_side(
        &self,
        mut devices: Vec<Found>,
        mut failures: Vec<(String, CommandError)>,
        context: &Context,
    ) -> Result<(), CommandError> {
        failures.extend(refuse_twins(&mut devices, &self.station.registry).await);
        if devices.is_empty() && failures.is_empty() {
            return Err(CommandError::new(ExitCode::NoDevice, "no device answers; plug one in, or name its link"));
        }
        let mut tasks = JoinSet::new();
        for found in devices {
            let work = self.clone();
            tasks.spawn(async move {
                let link = found.link.to_string();
                work.commission(found).await.map_err(|error| (link, error))
            });
        }
        for result in tasks.join_all().await {
            match result {
                Ok(done) => {
                    let device = done.device.to_string();
                    if let Err(error) = done.show(context, &self.station).await {
                        failures.push((device, error));
                    }
                }
                Err(failure) => failures.push(failure),
            }
        }
        let Some((_, first)) = failures.first() else { return Ok(()) };
        let message = "not all devices were commissioned; see to these, then repeat the command";
        let failures = failures.iter().map(|(link, error)| format!("{link}: {error}"));
        Err(CommandError::new(first.exit(), message).with_candidates(failures))
    }
}

impl Done {
    /// The device's record with `--json`, a sentence without.
    async fn show(self, context: &Context, station: &Station) -> Result<(), CommandError> {
        match context.output.is_json() {
            true => context.json_record(&station.registry, &self.device).await?,
            false => context.output.text(&self),
        }
        match self.without_list {
            Some(error) => Err(CommandError::new(
                error.exit(),
                format!(
                    "{} did not get the list of your devices: {error}; see to that, then `commissioner distribute`",
                    self.device
                ),
            )),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.device;
        match (self.slot, self.outcome) {
            (_, Outcome::Requested) => write!(
                f,
                "{device} proved its key; its certificate is to be signed where the issuer's key is (`commissioner station \
                 requests`), and installed by a later visit"
            ),
            (Slot::Owner, Outcome::Commissioned) => write!(f, "{device} is one of your devices now"),
            (Slot::Owner, Outcome::AlreadyDone) => {
                write!(f, "{device} is one of your devices already; nothing was changed")
            }
            (Slot::Factory, Outcome::Commissioned) => write!(f, "{device} has your certificate as its maker now"),
            (Slot::Factory, Outcome::AlreadyDone) => {
                write!(f, "{device} has your certificate as its maker already; nothing was changed")
            }
        }
    }
}

impl Context {
    /// Our station, for `rekey` and `reset`: of a device that is ours, or that these two can mend.
    pub(super) async fn station_to_mend(&self, account: &Account) -> Result<Station, CommandError> {
        let registry = self.registry().await?;
        let known = registry.device_by_id(&account.info().device).await?;
        let key = known.as_ref().zip(account.key()).and_then(|(known, key)| known.key(key));
        match key.is_some_and(Key::is_mendable) || is_ours(&registry, account).await? {
            true => self.station_with(registry),
            false => Err(not_ours(account)),
        }
    }
}

/// For what takes a device of ours.
pub(super) fn not_ours(account: &Account) -> CommandError {
    let message = format!("{} is not one of your devices; commission it first", account.info().device);
    CommandError::new(ExitCode::Conflict, message)
}

/// Takes out what claims the same ID as others at the same time, with the alarm for each ID.
pub(super) async fn refuse_twins(devices: &mut Vec<Found>, registry: &Registry) -> Vec<(String, CommandError)> {
    let mut alarms = Vec::new();
    for Twins { device, links, .. } in discover::take_twins(devices).await {
        let mut places: Vec<_> = links.iter().map(Link::to_string).collect();
        places.sort();
        if let Err(alarm) = registry.refuse_twins(&device, places).await {
            alarms.push((device.to_string(), alarm.into()));
        }
    }
    alarms
}

/// A device that `--watch` could not commission: where it is, or its ID if it is at more places than one.
#[derive(Serialize)]
struct Failure<'a> {
    link: &'a str,
    error: String,
}
