//! `commissioner nickname DEVICE NAME`: a name for people.

use clap::Args as ClapArgs;
use commissioner::registry::{DeviceRef, Nickname};

use super::{context::Context, exit::CommandError};

/// Give a device a name for people, or take it away
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// An ID, a part of an ID or thumbprint, or a nickname
    device: DeviceRef,
    /// The name
    #[arg(required_unless_present = "remove")]
    name: Option<Nickname>,
    /// Take the name away
    #[arg(long, conflicts_with = "name")]
    remove: bool,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let registry = context.registry().await?;
        let id = registry.device(&self.device).await?.id;
        match self.name {
            Some(name) => {
                registry.set_nickname(&id, &name).await?;
                context.output.text(format!("{id} is called {} now", name.as_str()));
            }
            None => match registry.remove_nickname(&id).await? {
                Some(name) => context.output.text(format!("{id} is not called {name} any more")),
                None => context.output.text(format!("{id} has no nickname; nothing was changed")),
            },
        }
        context.json_record(&registry, &id).await
    }
}
