//! `commissioner nickname DEVICE NAME`: a name for people.

use clap::Args as ClapArgs;

use super::Context;
use crate::{
    error::CommandError,
    registry::{DeviceRef, Nickname},
};

/// Give a device a name for people
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// An ID, a unique prefix of an ID or thumbprint, or a nickname
    device: DeviceRef,
    /// The name
    name: Nickname,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let registry = context.registry().await?;
        let id = registry.device(&self.device).await?.id;
        registry.set_nickname(&id, &self.name).await?;
        context.output.text(format!("{id} is called {} now", self.name.as_str()));
        context.json_record(&registry, &id).await
    }
}
