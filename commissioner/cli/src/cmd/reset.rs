//! `commissioner reset DEVICE|LINK`: gives up a device of ours, so that somebody else can own it; or frees one that is in our
//! hands, whoever its owner is.

use clap::Args as ClapArgs;
use commissioner::ownership;

use super::{context::Context, exit::CommandError, reach::Subject};

/// Empty a device's owner slot
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// A device of the list, or a link
    target: Subject,
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
        let (client, account) = (&mut found.client, &found.account);
        let was_owned = if self.present {
            let was_owned = ownership::reset_by_presence(client, account, &progress).await?;
            let record =
                serde_json::json!({ "device": device.as_str(), "link": found.link.to_string(), "owner": "empty" });
            context.output.json(&record);
            was_owned
        } else {
            let station = context.station_to_mend(account).await?;
            let was_ours = ownership::reset(client, account, &station, &progress).await?;
            context.json_record(&station.registry, &device).await?;
            was_ours
        };
        match was_owned {
            true => context.output.text(format_args!("{device} has no owner any more")),
            false => context.output.text(format_args!("nobody owns {device}; nothing was changed")),
        }
        Ok(())
    }
}
