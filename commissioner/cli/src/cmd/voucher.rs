//! `commissioner voucher DEVICE --for KEY`: the maker of a device lets a new owner claim it.

use std::{fs, path::Path};

use clap::Args as ClapArgs;
use commissioner::{
    files::{self},
    keys::Anchor,
    registry::{DeviceRef, Slot},
    text,
};

use super::{
    context::Context,
    exit::CommandError,
    voucher_output::{Issued, Options, unwritable, write},
};

const HELP: &str = "\
A voucher is for one device and one owner, and is good once. It is no secret. Without --output and --qr it is shown as a QR
code. The device need not be at hand.";

/// Let a new owner claim a device that you made
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// A device that was commissioned with `--as factory`
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    device: Option<DeviceRef>,
    /// All devices that were: a file for each, in the folder --output
    #[arg(long, requires = "output", conflicts_with_all = ["qr", "claim_counter"])]
    all: bool,
    /// The new owner's key: what `commissioner issuer show` prints there, or the file that `issuer export` writes
    #[arg(long = "for", value_name = "KEY")]
    owner: Anchor,
    #[command(flatten)]
    options: Options,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let (registry, issuer) = (context.registry().await?, context.issuer()?);
        issuer.must_sign()?;
        if let Some(device) = &self.device {
            let device = registry.device(device).await?.id;
            let voucher = self.options.sign(device, Slot::Factory, self.owner.0, &registry, &issuer).await?;
            return self.options.hand_out(&voucher, context);
        }
        let folder = self.options.output.as_deref().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)
            .map_err(|source| unwritable(&files::Error::Io { path: folder.to_owned(), source }))?;
        let devices = registry.made_here().await?;
        for &device in &devices {
            let voucher = self.options.sign(device, Slot::Factory, self.owner.0, &registry, &issuer).await?;
            let path = folder.join(voucher.file_name());
            write(&path, voucher.object())?;
            context.output.json(&Issued::new(&voucher, Some(&path)));
        }
        context.output.text(format_args!(
            "{} in {}",
            text::count(devices.len(), "voucher is", "vouchers are"),
            folder.display()
        ));
        Ok(())
    }
}
