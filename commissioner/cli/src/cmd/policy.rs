//! `commissioner policy DEVICE [POLICY]`: what is to happen when a device shows up without its key.

use clap::Args as ClapArgs;
use commissioner::registry::{DeviceRef, Policy};

use super::{context::Context, exit::CommandError};

const HELP: &str = "\
rotate   where devices are programmed, a new key takes the place of the old one at once; the default
keep     the key is to last: a new one counts only with --accept-new-key
restore  the device gets its key back, of which `commissioner commission --escrow` keeps a sealed copy
derive   the key comes from the device's hardware, and never changes; set by itself for such a device";

/// Show or say what is to happen when a device shows up without its key
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// An ID, a unique prefix of an ID or thumbprint, or a nickname
    device: DeviceRef,
    /// rotate, keep, restore or derive; left out, the one in force is shown
    #[arg(value_parser = parse)]
    policy: Option<Policy>,
}

fn parse(text: &str) -> Result<Policy, String> {
    text.parse().map_err(|_| "rotate, keep, restore or derive".to_owned())
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let registry = context.registry().await?;
        let device = registry.device(&self.device).await?;
        let policy = match self.policy {
            Some(policy) => {
                registry.set_policy(&device.id, policy).await?;
                policy
            }
            None => device.policy,
        };
        let record = serde_json::json!({ "device": device.id.as_str(), "policy": policy });
        context.output.result(&record, format_args!("{}: {policy}", device.id));
        Ok(())
    }
}
