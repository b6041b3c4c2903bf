//! `commissioner verify [LINK] [--anchor KEY]`: whose product is this, and what of that is proven?

use cbor_schemas::{Profile, SlotView};
use clap::Args as ClapArgs;
use commissioner::{
    client::{Client, Request},
    keys::Anchor,
    link::Link,
    maker::Finding,
    progress::Progress,
    visit::{Account, Visit},
};

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
    reach::fall_back,
};

const HELP: &str = "\
The anchor is the maker's public key, from where you trust it: its web site, the box. Without one, what a device says of its
maker is a claim. The exit code is 5 if an anchor is given, and the device cannot prove that this maker made it.";

/// Check whose product a device is
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// Where the device is; left out, exactly one device must answer
    link: Option<Link>,
    /// The maker's key: 64 hex digits, or a PEM file. Several are tried one after the other
    #[arg(long, value_name = "KEY|FILE")]
    anchor: Vec<Anchor>,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let mut found = context.reach(self.link.as_ref()).await?;
        let (account, view) = loop {
            let progress = context.progress.on_link(&found.link);
            match ask(&mut found.client, &found.account, &progress).await {
                Err(error) => fall_back(&mut found, error, &context.progress).await?,
                Ok(answer) => break answer,
            }
        };
        let view = SlotView::decode(&view).map_err(|error| {
            CommandError::new(ExitCode::Refused, format!("the device's factory slot cannot be read: {error}"))
        })?;
        let anchors: Vec<_> = self.anchor.iter().map(|anchor| anchor.0).collect();
        let finding = Finding::new(&account, &view, &anchors);
        context.output.result(&finding, &finding);
        match finding.reason {
            Some(reason) if !self.anchor.is_empty() => Err(CommandError::new(
                ExitCode::Refused,
                format!("{} is not proven to be of this maker: {reason}", finding.device),
            )),
            _ => Ok(()),
        }
    }
}

/// The account, under protection if the device can do that, and what is in the factory slot.
async fn ask(client: &mut Client, seen: &Account, progress: &Progress) -> Result<(Account, Vec<u8>), CommandError> {
    let mut visit = match seen.info().profile {
        Profile::Full => Visit::stranger(client, seen, progress).await?,
        Profile::Minimal => Visit::unproven(client, seen)?,
    };
    let response = visit.request(&Request::get("/comm/factory")).await?.success()?;
    Ok((visit.account().clone(), response.payload))
}
