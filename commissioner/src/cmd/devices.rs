//! `commissioner devices`: "my devices".

use std::fmt;

use clap::Args as ClapArgs;

use super::Context;
use crate::{
    clock::rfc3339,
    error::CommandError,
    progress::short,
    registry::{Device, Key, KeyStatus, Provenance, Slot},
};

/// List "my devices"
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// With revoked keys
    #[arg(long)]
    all: bool,
    /// Only keys that were learned where devices are programmed
    #[arg(long)]
    trusted_only: bool,
}

impl Args {
    /// Runs the command: one record or row for each key.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let registry = context.registry().await?;
        let (devices, list) = (registry.devices().await?, registry.list().await?.map(|list| list.version));
        let keys = devices.iter().flat_map(|device| device.keys.iter().map(move |key| (device, key)));
        let wanted = |key: &Key| {
            (self.all || key.status != KeyStatus::Revoked)
                && (!self.trusted_only || key.provenance == Provenance::Programming)
        };
        let keys: Vec<_> = keys.filter(|(_, key)| wanted(key)).collect();
        for (device, key) in &keys {
            context.output.json(&device.record(key));
        }
        if keys.is_empty() {
            context.output.text("no devices yet; `commissioner commission` makes the first one yours");
        } else {
            context.output.text(Table(&keys, list));
        }
        Ok(())
    }
}

/// Keys as rows, for people.
struct Table<'a>(&'a [(&'a Device, &'a Key)], Option<u64>);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![
            ["DEVICE", "NICKNAME", "KEY", "STATUS", "LEARNED", "CERTIFICATE", "LIST", "LAST SEEN"].map(str::to_owned),
        ];
        rows.extend(self.0.iter().map(|(device, key)| row(device, key, self.1)));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: [usize; 8] = std::array::from_fn(width);
        for (index, row) in rows.iter().enumerate() {
            let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            let line = cells.join("  ");
            write!(f, "{}{}", if index == 0 { "" } else { "\n" }, line.trim_end())?;
        }
        Ok(())
    }
}

fn row(device: &Device, key: &Key, newest: Option<u64>) -> [String; 8] {
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
        match device.list_version.filter(|_| key.status == KeyStatus::Active) {
            None => "-".to_owned(),
            held if held == newest => "newest".to_owned(),
            Some(held) => rfc3339(held),
        },
        rfc3339(key.last_seen),
    ]
}
