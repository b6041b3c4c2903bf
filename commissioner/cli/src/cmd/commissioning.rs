//! One device made ours, with all that belongs to it: what `commission`, its watch and `run` do for each.

use std::{fmt, sync::Arc};

use cbor_schemas::{DeviceId, SlotState};
use clap::ValueEnum;
use commissioner::{
    commission::{self, Outcome, Terms},
    discover::Found,
    distribute,
    escrow::SealTo,
    link::Link,
    ownership,
    progress::{Progress, Step},
    registry::{Place, Slot},
    station::Station,
    visit::Account,
    voucher::Voucher,
};

use super::{context::Context, exit::CommandError, giving::give_list, reach::fall_back};

/// In which role a device is commissioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    /// As its owner
    Owner,
    /// As its maker
    Factory,
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
                Err(error) => fall_back(&mut found, error.into(), &progress).await?,
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
        ownership::inject(client, &seen, &self.station, seal, progress).await
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
        give_list(found, &self.station, &list, claimed_now, &self.progress).await.map(drop)
    }
}

impl Done {
    /// The device's record with `--json`, a sentence without.
    pub(super) async fn show(self, context: &Context, station: &Station) -> Result<(), CommandError> {
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
