//! `commissioner distribute [LINK|--all]`: puts the signed list of "my devices" on devices.

use std::sync::Arc;

use cbor_schemas::ListMode;
use clap::Args as ClapArgs;
use commissioner::discover::{self, Found};
use commissioner::distribute::{self};
use commissioner::link::Link;
use commissioner::station::Station;
use tokio::task::JoinSet;

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
    giving::give_list,
    reach::{is_ours, not_ours, refuse_twins},
};

/// Put the signed list of "my devices" on devices
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Where the devices are; left out, exactly one device must answer
    #[arg(value_name = "LINK", conflicts_with = "all")]
    links: Vec<Link>,
    /// All devices of yours that answer and keep a list, side by side
    #[arg(long)]
    all: bool,
    /// What the list says: whose keys are mine (up to some tens), or which are not any more. Left out, as last time
    #[arg(long, value_name = "members|revoked", value_parser = parse_mode)]
    mode: Option<ListMode>,
}

fn parse_mode(text: &str) -> Result<ListMode, String> {
    text.parse().map_err(|_| "members or revoked".to_owned())
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let station = Arc::new(context.station().await?);
        let (found, mut failures) = self.find(context, &station).await?;
        if found.is_empty() && failures.is_empty() {
            return Err(CommandError::new(
                ExitCode::NoDevice,
                "no device of yours answers; plug one in, or name its link",
            ));
        }
        if found.is_empty() {
            return self.ended(failures);
        }
        let list = Arc::new(distribute::current_list(&station, self.mode, &context.progress).await?);

        let mut tasks = JoinSet::new();
        for found in found {
            let (station, list, progress) = (station.clone(), list.clone(), context.progress.clone());
            tasks.spawn(async move {
                let link = found.link.to_string();
                give_list(found, &station, &list, false, &progress).await.map_err(|error| (link, error))
            });
        }
        for result in tasks.join_all().await {
            match result {
                Ok(given) => context.output.result(&given, &given),
                Err(failure) => failures.push(failure),
            }
        }
        self.ended(failures)
    }

    fn ended(&self, mut failures: Failures) -> Result<(), CommandError> {
        match failures.len() {
            0 => Ok(()),
            1 if self.links.len() <= 1 && !self.all => Err(failures.remove(0).1),
            _ => {
                let message = "not all devices have the list; see to these, then repeat the command";
                let candidates = failures.iter().map(|(link, error)| format!("{link}: {error}"));
                Err(CommandError::new(failures[0].1.exit(), message).with_candidates(candidates))
            }
        }
    }
}

type Failures = Vec<(String, CommandError)>;

impl Args {
    /// The devices of ours that are meant, and what cannot be given a list although it is meant.
    async fn find(&self, context: &Context, station: &Station) -> Result<(Vec<Found>, Failures), CommandError> {
        let mut silent = Vec::new();
        let mut found = match &self.links[..] {
            [] if self.all => discover::all().await?,
            [] => vec![context.reach(None).await?],
            [link] => vec![context.reach(Some(link)).await?],
            links => {
                let (found, nobody) = discover::merge(discover::survey(links.to_vec()).await);
                silent = nobody;
                found
            }
        };
        let mut failures = refuse_twins(&mut found, &station.registry).await;
        failures.extend(silent.into_iter().map(|(link, error)| (link.to_string(), error.into())));
        let mut ours = Vec::new();
        for device in found {
            match is_ours(&station.registry, &device.account).await {
                // Others may be plugged in, too; and of ours, those that keep no list.
                Ok(is_ours) if self.all && !(is_ours && device.account.info().has_owner_slot()) => {}
                Ok(true) => ours.push(device),
                Ok(false) => failures.push((device.link.to_string(), not_ours(&device.account))),
                Err(error) => failures.push((device.link.to_string(), error)),
            }
        }
        Ok((ours, failures))
    }
}
