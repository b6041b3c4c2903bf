//! `commissioner transfer DEVICE --to KEY`: an owner hands a device on.

use clap::Args as ClapArgs;
use commissioner::{
    keys::Anchor,
    registry::{DeviceRef, Slot},
};

use super::{context::Context, exit::CommandError, voucher_output::Options};

const HELP: &str = "\
Makes a voucher; the new owner's `commissioner commission --voucher FILE` completes the transfer in one step: until then
the device is yours, afterwards nothing of yours is left on it. `commissioner revoke DEVICE` then takes its key off your
list, and before that is what calls the transfer off on every device but that one.";

/// Hand a device on to another owner
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// A device of yours
    device: DeviceRef,
    /// The new owner's key: what `commissioner issuer show` prints there, or the file that `issuer export` writes
    #[arg(long, value_name = "KEY")]
    to: Anchor,
    #[command(flatten)]
    options: Options,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let (registry, issuer) = (context.registry().await?, context.issuer()?);
        issuer.must_sign()?;
        if self.to.0.cose_key() == issuer.anchor() {
            return Err(CommandError::usage("that is your own key; give the new owner's with --to"));
        }
        let device = registry.device(&self.device).await?.id;
        let voucher = self.options.sign(device, Slot::Owner, self.to.0, &registry, &issuer).await?;
        self.options.hand_out(&voucher, context)
    }
}
