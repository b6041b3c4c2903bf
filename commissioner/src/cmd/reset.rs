//! `commissioner reset DEVICE|LINK`: gives up a device of ours, so that somebody else can own it; or frees one that is in our
//! hands, whoever its owner is.

use clap::Args as ClapArgs;

use super::{Context, Target};
use crate::{commission, error::CommandError};

/// Empty a device's owner slot
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// A device of the list, or a link
    target: Target,
    /// The device is not yours, but in your hands: hold its button down first. Not all products allow that
    #[arg(long)]
    present: bool,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let mut found = context.reach_target(Some(&self.target)).await?;
        let progress = context.progress.on_link(&found.link);
        let device = found.account.info().device;
        if self.present {
            commission::reset_by_presence(&mut found.client, &found.account, &progress).await?;
            let record =
                serde_json::json!({ "device": device.as_str(), "link": found.link.to_string(), "owner": "empty" });
            context.output.result(&record, format_args!("{device} has no owner any more"));
            return Ok(());
        }
        let station = context.station_to_mend(&found.account).await?;
        commission::reset(&mut found.client, &found.account, &station, &progress).await?;
        if context.output.is_json() {
            return context.json_record(&station.registry, &device).await;
        }
        context.output.text(format_args!("{device} has no owner any more, and its certificate is gone"));
        Ok(())
    }
}
