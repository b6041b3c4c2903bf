//! `commissioner identify [DEVICE|LINK]`: lets a device blink, so that somebody sees which one it is.

use clap::Args as ClapArgs;
use commissioner::client::{Method, Request};

use super::{context::Context, exit::CommandError, reach::Subject};

/// Let a device blink
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// A device of the list, or a link; left out, exactly one device must answer
    target: Option<Subject>,
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
