//! `commissioner devices`: "my devices".

use std::fmt;

use clap::Args as ClapArgs;
use commissioner::{
    clock::rfc3339,
    progress::short,
    registry::{Device, DeviceRecord, Key, KeyStatus, Provenance, Slot},
    text,
};
use serde::Serialize;

use super::{context::Context, exit::CommandError};

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
        let mut reading = registry.read().await?;
        reading.is_sound().await?;
        let newest = reading.list_in_force().await?;
        let wanted = |key: &&Key| {
            (self.all || key.status != KeyStatus::Revoked)
                && (!self.trusted_only || key.provenance == Provenance::Programming)
        };
        let mut rows = vec![NAMES.map(str::to_owned)];
        let each = reading.each_device(|device| {
            for key in device.keys.iter().filter(wanted) {
                let list_is_current = held(device, key).map(|held| Some(held) == newest);
                match context.output.is_json() {
                    true => context.output.json(&Record { record: device.record(key), list_is_current }),
                    false => rows.push(row(device, key, newest)),
                }
            }
            Ok::<_, CommandError>(())
        });
        each.await?;
        match rows.len() {
            1 => context.output.text("no devices yet; `commissioner commission` makes the first one yours"),
            _ => context.output.text(Table(&rows)),
        }
        Ok(())
    }
}

/// A device record, and how the list that the device holds compares to what is true now.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    record: DeviceRecord<'a>,
    list_is_current: Option<bool>,
}

/// The version of the list that a device with this key was last seen to hold.
fn held(device: &Device, key: &Key) -> Option<u64> {
    device.list_version.filter(|_| key.is_settled())
}

const NAMES: [&str; 8] = ["DEVICE", "NICKNAME", "KEY", "STATUS", "LEARNED", "CERTIFICATE", "LIST", "LAST SEEN"];

/// Keys as rows, for people; the first row has the names.
struct Table<'a>(&'a [[String; 8]]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: [usize; 8] = std::array::from_fn(width);
        for (index, row) in self.0.iter().enumerate() {
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
        device.nickname.as_deref().map_or_else(|| "-".to_owned(), text::line),
        short(&key.thumbprint).to_owned(),
        key.status.to_string(),
        key.provenance.to_string(),
        if slots.is_empty() { "-".to_owned() } else { slots.join("+") },
        match held(device, key) {
            None => "-".to_owned(),
            held if held == newest => "newest".to_owned(),
            // A number, which is a time only as long as no clock was ahead.
            Some(held) => held.to_string(),
        },
        rfc3339(key.last_seen),
    ]
}
