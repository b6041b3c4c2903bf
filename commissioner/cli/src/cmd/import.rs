//! `commissioner import FILE`: merges what another state directory of the same issuer knows.

use std::{fmt, io::BufReader, path::PathBuf};

use clap::Args as ClapArgs;
use commissioner::{registry::Imported, text, text_file::TextFile};

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
};
use crate::output::complain;

const HELP: &str = "\
`commissioner export --format json --history --output FILE` makes the file, in the other state directory. All of it is merged
or nothing. A key that is revoked in either is revoked afterwards; what does not go together is left as it is here, and told
(exit code 6).";

/// Merge another state directory's export
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// The export
    file: PathBuf,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let registry = context.registry().await?;
        let file = TextFile::open(&self.file).map_err(|error| {
            CommandError::usage(format!("cannot read {}: {error}; name a file that you can read", self.file.display()))
        })?;
        context.progress.working("merging");
        let imported = registry.import(BufReader::new(file)).await?;
        context.output.result(&imported, Summary(&imported));
        if imported.conflicts.is_empty() {
            return Ok(());
        }
        imported.conflicts.iter().for_each(complain);
        let message = "not all of it goes together; the rest was merged, so see to these";
        Err(CommandError::new(ExitCode::Conflict, message))
    }
}

struct Summary<'a>(&'a Imported);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Imported { devices, keys, activated, revoked, released, certificates, lists, entries, .. } = self.0;
        if !self.0.has_news() {
            return f.write_str("there is nothing new in it; nothing was changed");
        }
        let news = [
            text::count(*devices, "device", "devices"),
            text::count(*keys, "key", "keys"),
            text::count(*certificates, "certificate", "certificates"),
            text::count(*lists, "list", "lists"),
            text::count(*entries, "entry", "entries") + " of history",
        ];
        let activated = text::count(*activated, "key", "keys");
        let news = news.join(", ");
        write!(f, "new here: {news}; active now: {activated}; revoked now: {revoked}; given up: {released}")
    }
}
