//! `commissioner restore DEVICE|LINK`: gives a device that was erased its former key again.

use clap::Args as ClapArgs;
use commissioner::{ownership, registry::DeviceRef};

use super::{context::Context, exit::CommandError, reach::Subject, secret::Opening};

const HELP: &str = "\
A copy of the key is kept by `commissioner commission --escrow`. Whoever answers to the device's ID gets the key: restore only
the device that you hold in your hand, over a cable of its own.";

/// Give a device its former key again
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// A device of the list, or a link
    target: Subject,
    #[command(flatten)]
    opening: Opening,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let station = context.station().await?;
        let mut found = context.reach_target(Some(&self.target)).await?;
        let progress = context.progress.on_link(&found.link);
        let device = found.account.info().device;
        let known = station.registry.device(&DeviceRef::from(device)).await?;
        let (key, sealed) = station.registry.copy_of_active(&known).await?;
        let opening = self.opening.get()?;
        progress.working("opening the sealed copy of the key");
        let key = opening.open(&sealed, &key)?;
        ownership::restore(&mut found.client, &found.account, &station, &key, &progress).await?;
        if context.output.is_json() {
            return context.json_record(&station.registry, &device).await;
        }
        context.output.text(format_args!("{device} has its former key again"));
        Ok(())
    }
}
