//! `commissioner revoke DEVICE`: the device's active key is out, for good.

use clap::Args as ClapArgs;

use super::Context;
use crate::{
    error::CommandError,
    progress::Step,
    registry::{DeviceRef, Revocation},
};

/// Revoke a device's active key
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// An ID, a unique prefix of an ID or thumbprint, or a nickname
    device: DeviceRef,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let registry = context.registry().await?;
        let id = registry.device(&self.device).await?.id;
        match registry.revoke(&id, "revoked by the user").await? {
            Revocation::Revoked(keys) => {
                for key in keys {
                    context.progress.step(Step::KeyRevoked { thumbprint: key.to_string() });
                }
                context.output.text(format!("{id} is revoked"));
            }
            Revocation::AlreadyRevoked => context.output.text(format!("{id} was revoked before; nothing was changed")),
        }
        context.json_record(&registry, &id).await
    }
}
