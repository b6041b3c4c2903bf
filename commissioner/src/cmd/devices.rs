//! `commissioner devices`: "my devices".

use std::fmt;

use clap::Args as ClapArgs;

use super::Context;
use crate::{
    clock::rfc3339,
    error::CommandError,
    progress::short,
    registry::{Device, Key, KeyStatus, Slot},
};

/// List "my devices"
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// With revoked keys
    #[arg(long)]
    all: bool,
}

impl Args {
    /// Runs the command: one record or row for each key.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let devices = context.registry().await?.devices().await?;
        let keys = devices.iter().flat_map(|device| device.keys.iter().map(move |key| (device, key)));
        let keys: Vec<_> = keys.filter(|(_, key)| self.all || key.status != KeyStatus::Revoked).collect();
        for (device, key) in &keys {
            context.output.json(&device.record(key));
        }
        if keys.is_empty() {
            context.output.text("no devices yet; `commissioner commission` makes the first one yours");
        } else {
            context.output.text(Table(&keys));
        }
        Ok(())
    }
}

/// Keys as rows, for people.
struct Table<'a>(&'a [(&'a Device, &'a Key)]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows =
            vec![["DEVICE", "NICKNAME", "KEY", "STATUS", "LEARNED", "CERTIFICATE", "LAST SEEN"].map(str::to_owned)];
        rows.extend(self.0.iter().map(|(device, key)| row(device, key)));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: [usize; 7] = std::array::from_fn(width);
        for (index, row) in rows.iter().enumerate() {
            let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            let line = cells.join("  ");
            write!(f, "{}{}", if index == 0 { "" } else { "\n" }, line.trim_end())?;
        }
        Ok(())
    }
}

fn row(device: &Device, key: &Key) -> [String; 7] {
    let slots: Vec<_> = [Slot::Factory, Slot::Owner]
        .into_iter()
        .filter(|&slot| key.installed(slot).is_some())
        .map(Slot::as_str)
        .collect();
    [
        device.id.to_string(),
        device.nickname.clone().unwrap_or_else(|| "-".to_owned()),
        short(&key.thumbprint).to_owned(),
        key.status.to_string(),
        key.provenance.to_string(),
        if slots.is_empty() { "-".to_owned() } else { slots.join("+") },
        rfc3339(key.last_seen),
    ]
}
