//! `commissioner commission [LINK]`: makes devices "my devices".

mod watch;

use std::{path::PathBuf, sync::Arc};

use clap::Args as ClapArgs;
use commissioner::{
    discover::{self, Found},
    link::{self, Link},
    registry::Place,
    voucher,
};
use serde::Serialize;
use tokio::task::JoinSet;

use super::{
    commissioning::{Role, Work},
    context::Context,
    exit::{CommandError, ExitCode},
    reach::refuse_twins,
    secret::Sealing,
};
use crate::stop::Stop;

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
        let mut stop = if self.watch { Some(Stop::listen().map_err(CommandError::internal)?) } else { None };
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

impl Work {
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

/// A device that `--watch` could not commission: where it is, or its ID if it is at more places than one.
#[derive(Serialize)]
struct Failure<'a> {
    link: &'a str,
    error: String,
}
