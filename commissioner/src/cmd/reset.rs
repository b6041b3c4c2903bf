//! `commissioner reset DEVICE|LINK`: gives up a device of ours, so that somebody else can own it.

use clap::Args as ClapArgs;

use super::{Context, Target};
use crate::{commission, error::CommandError};

/// Empty a device's owner slot
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// A device of the list, or a link
    target: Target,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let mut found = context.reach_target(Some(&self.target)).await?;
        let progress = context.progress.on_link(&found.link);
        let device = found.account.info().device;
        let station = context.station_of_owned(&found.account).await?;
        commission::reset(&mut found.client, &found.account, &station, &progress).await?;
        if context.output.is_json() {
            return context.json_record(&station.registry, &device).await;
        }
        context.output.text(format_args!("{device} has no owner any more, and its certificate is gone"));
        Ok(())
    }
}
