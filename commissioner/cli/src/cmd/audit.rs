//! `commissioner audit`: what happened, and what of it is proven.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use commissioner::clock::rfc3339;
use commissioner::files::{self, Readers};
use commissioner::registry::Sealed;
use commissioner::text;

use super::{context::Context, entry::Entry, exchange, exit::CommandError};

const HELP: &str = "\
Each entry's hash covers the one before. That alone proves nothing to whoever can rewrite all of them: so each signed list
of your devices names the end of the chain as it was, and so does --seal. --verify checks every entry, and every signature
in the registry and in the files that are given by --with.";

/// Show what happened, verify it, or seal it
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// Check every entry and every signature; exit code 1 if something was changed, dropped or put in another place
    #[arg(long, conflicts_with = "seal")]
    verify: bool,
    /// A signed list or a seal that was kept elsewhere; may be given several times
    #[arg(long, value_name = "FILE", requires = "verify")]
    with: Vec<PathBuf>,
    /// Sign the end of the trail, so that nothing before it can be changed unnoticed
    #[arg(long)]
    seal: bool,
    /// Where to write the seal, to be kept elsewhere
    #[arg(long, value_name = "FILE", requires = "seal")]
    output: Option<PathBuf>,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        match (self.verify, self.seal) {
            (true, _) => self.verify(context).await,
            (_, true) => self.seal(context).await,
            _ => show(context).await,
        }
    }

    async fn verify(&self, context: &Context) -> Result<(), CommandError> {
        let mut others = Vec::new();
        for path in &self.with {
            others.push((path.display().to_string(), exchange::read(path)?));
        }
        let verdict = context.registry().await?.verify_seals(&others).await?;
        let (entries, sealed) = (verdict.chain.entries, verdict.sealed);
        let seq = sealed.as_ref().map_or(0, |sealed| sealed.seq);
        let record = serde_json::json!({
            "entries": entries,
            "head": verdict.chain.head,
            "signatures": verdict.signatures,
            "sealed": seq,
            "sealed_by": sealed.as_ref().map(|sealed| &sealed.by),
            "sealed_at": sealed.as_ref().map(|sealed| rfc3339(sealed.issued_at)),
        });
        let are = text::count(entries, "entry is", "entries are");
        let sentence = match &sealed {
            None => format!("{are} in order; none is sealed by a signature"),
            Some(Sealed { by, issued_at, .. }) if seq == entries => {
                format!("{are} in order, sealed to the last by {by} of {}", rfc3339(*issued_at))
            }
            Some(Sealed { by, issued_at, .. }) => format!(
                "{are} in order, sealed up to entry {seq} by {by} of {}; from entry {} on nothing is sealed",
                rfc3339(*issued_at),
                seq + 1
            ),
        };
        context.output.result(&record, sentence);
        Ok(())
    }

    async fn seal(&self, context: &Context) -> Result<(), CommandError> {
        let (registry, issuer) = (context.registry().await?, context.issuer()?);
        issuer.must_sign()?;
        let seal = registry.begin_seal().await?;
        let object = issuer.seal(&seal)?;
        registry.sealed(&seal, &object).await?;
        if let Some(path) = &self.output {
            files::replace(path, Readers::Anyone, &object).map_err(|error| {
                let message = format!("the trail is sealed, but {error}; seal it again with another file");
                CommandError::unwritten(&error, message)
            })?;
        }
        let record = serde_json::json!({ "sealed": seal.seq, "seal": hex::encode(&object) });
        context.output.result(&record, format_args!("the audit trail is sealed up to entry {}", seal.seq));
        Ok(())
    }
}

/// All entries, oldest first.
async fn show(context: &Context) -> Result<(), CommandError> {
    let registry = context.registry().await?;
    let (mut reading, mut last) = (registry.read().await?, 0);
    loop {
        let page = reading.entries(last).await?;
        let Some(newest) = page.last() else { return Ok(()) };
        last = newest.seq;
        for entry in &page {
            let mut record = entry.as_json();
            if let Some(record) = record.as_object_mut() {
                record.insert("device".to_owned(), entry.device.clone().into());
                record.insert("hash".to_owned(), entry.hash.clone().into());
            }
            let device = if entry.device.is_empty() {
                String::new()
            } else {
                format!("  device: {}", text::line(&entry.device))
            };
            context.output.result(&record, format_args!("{}{device}", Entry(entry)));
        }
    }
}
