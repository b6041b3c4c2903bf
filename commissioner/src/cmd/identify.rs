//! `commissioner identify [DEVICE|LINK]`: lets a device blink, so that somebody sees which one it is.

use clap::Args as ClapArgs;

use super::{Context, Target};
use crate::client::{Method, Request};
use crate::cmd::exit::CommandError;
use crate::discover::{self, Found};

/// Let a device blink
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// A device of the list, or a link; left out, exactly one device must answer
    target: Option<Target>,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let mut found = context.reach_target(self.target.as_ref()).await?;
        let request = Request::new(Method::Post, "/comm/identify");
        context.ask(&mut found, &request).await?.success()?;
        let (device, link) = (found.account.info().device, found.link.to_string());
        let record = serde_json::json!({ "device": device.as_str(), "link": link, "identified": true });
        context.output.result(&record, format_args!("{device} at {link} shows itself"));
        Ok(())
    }
}

impl Context {
    /// The device that a target means: a device of the list is looked for on all links that the system knows of.
    pub(super) async fn reach_target(&self, target: Option<&Target>) -> Result<Found, CommandError> {
        let name = match target {
            None => return self.reach(None).await,
            Some(Target::Link(link)) => return self.reach(Some(link)).await,
            Some(Target::Device(name)) => name,
        };
        let id = self.registry().await?.device(name).await?.id;
        self.progress.working(format!("looking for {id}"));
        let found = discover::find(&id).await?;
        self.progress.step(found.account.step());
        Ok(found)
    }
}
