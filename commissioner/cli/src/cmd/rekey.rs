//! `commissioner rekey DEVICE|LINK`: lets a device of ours make a new key, and certifies that one.

use clap::Args as ClapArgs;
use commissioner::{ownership, registry::KeyStatus};

use super::{context::Context, exit::CommandError, reach::Subject};

/// Let a device make a new key
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// A device of the list, or a link
    target: Subject,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let mut found = context.reach_target(Some(&self.target)).await?;
        let progress = context.progress.on_link(&found.link);
        let device = found.account.info().device;
        let station = context.station_to_mend(&found.account).await?;
        let status = ownership::rekey(&mut found.client, &found.account, &station, &progress).await?;
        if status == KeyStatus::Pending {
            if context.output.is_json() {
                return context.json_record(&station.registry, &device).await;
            }
            context.output.text(format_args!(
                "{device} has a new key, which is pending, since the old one did not count: with the device in your hand, `commissioner \
                 commission --accept-new-key {}` makes it yours again",
                found.link
            ));
            return Ok(());
        }
        if context.output.is_json() {
            return context.json_record(&station.registry, &device).await;
        }
        context.output.text(format_args!("{device} has a new key; the old one is revoked"));
        Ok(())
    }
}
