//! `commissioner reset DEVICE|LINK`.

use clap::Args as ClapArgs;

use super::{Context, Target};
use crate::error::CommandError;

/// Empty a device's owner slot
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// A device of the list, or a link
    target: Target,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let _registry = context.registry().await?;
        let _ = self.target;
        Err(CommandError::internal("reset is not wired up"))
    }
}
