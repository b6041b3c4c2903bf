//! `commissioner issuer show|export`: the key that devices know us by, to publish and to compare.

use std::{fs, path::PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use protocol::key::PublicKey;

use super::Context;
use crate::{error::CommandError, keys::Anchor};

/// Show or export the anchor to publish
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the issuer's ID and public key: others give it to --for, --to and --anchor
    Show,
    /// Write the public key in PEM
    Export {
        /// Where to write it [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let issuer = context.issuer()?;
        let key = PublicKey::from_cose(&issuer.anchor()).map_err(CommandError::internal)?;
        let pem = Anchor(key).to_pem().ok_or_else(|| CommandError::internal("the issuer's key has no PEM form"))?;
        let (id, thumbprint, x) = (issuer.id(), key.thumbprint(), hex::encode(key.x()));
        let record = serde_json::json!({
            "issuer": id.to_string(), "thumbprint": thumbprint.to_string(), "key": x, "pem": pem,
        });
        match self.action {
            Action::Show => {
                context
                    .output
                    .result(&record, format_args!("issuer      {id}\nthumbprint  {thumbprint}\nkey         {x}"));
            }
            Action::Export { output: None } => context.output.result(&record, pem.trim_end()),
            Action::Export { output: Some(path) } => {
                fs::write(&path, &pem).map_err(|error| {
                    CommandError::usage(format!("cannot write {}: {error}; name another file", path.display()))
                })?;
                context.output.result(&record, format_args!("the public key of issuer {id} is in {}", path.display()));
            }
        }
        Ok(())
    }
}
