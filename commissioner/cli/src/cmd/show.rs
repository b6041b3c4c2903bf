//! `commissioner show DEVICE`: everything known about a device.

use std::fmt;

use clap::Args as ClapArgs;
use commissioner::{
    clock::rfc3339,
    registry::{AuditEntry, Device, DeviceRecord, DeviceRef, Key},
    text,
};
use serde::Serialize;
use serde_json::Value;

use super::{context::Context, entry::Entry, exit::CommandError};

/// Show everything known about a device
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// An ID, a unique prefix of an ID or thumbprint, or a nickname
    device: DeviceRef,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let registry = context.registry().await?;
        let device = registry.device(&self.device).await?;
        let history = registry.history(&device.id).await?;
        let page = Page { device: &device, history: &history };
        context.output.result(&page.as_json(), &page);
        Ok(())
    }
}

struct Page<'a> {
    device: &'a Device,
    history: &'a [AuditEntry],
}

/// The record of the key that counts, as everywhere; then all keys, and the history.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    current: Option<DeviceRecord<'a>>,
    keys: Vec<DeviceRecord<'a>>,
    history: Vec<Value>,
}

impl Page<'_> {
    fn as_json(&self) -> Record<'_> {
        Record {
            current: self.device.current().map(|key| self.device.record(key)),
            keys: self.device.keys.iter().map(|key| self.device.record(key)).collect(),
            history: self.history.iter().map(AuditEntry::as_json).collect(),
        }
    }
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, history } = self;
        writeln!(
            f,
            "{}{}",
            device.id,
            device.nickname.as_ref().map(|name| format!(" ({})", text::line(name))).unwrap_or_default()
        )?;
        writeln!(f, "  profile     {}", device.profile)?;
        writeln!(f, "  policy      {}", device.policy)?;
        writeln!(f, "  first seen  {}", rfc3339(device.first_seen))?;
        writeln!(f, "  last seen   {}", rfc3339(device.last_seen))?;
        if let Some(version) = device.list_version {
            writeln!(f, "  holds list  version {version}")?;
        }
        device.keys.iter().try_for_each(|key| write_key(f, key))?;
        write!(f, "\nhistory")?;
        history.iter().try_for_each(|entry| write!(f, "\n  {}", Entry(entry)))
    }
}

fn write_key(f: &mut fmt::Formatter<'_>, key: &Key) -> fmt::Result {
    writeln!(f, "\nkey {}", key.thumbprint)?;
    writeln!(f, "  status      {}", key.status)?;
    if let Some(revoked) = &key.revoked {
        writeln!(f, "  revoked     {}: {}", rfc3339(revoked.at), text::line(&revoked.reason))?;
    }
    writeln!(f, "  learned     {} (possession {})", key.provenance, key.proof)?;
    if key.escrowed {
        writeln!(f, "  made        here; a sealed copy is kept")?;
    }
    writeln!(f, "  generation  {}", key.generation)?;
    writeln!(f, "  first seen  {}", rfc3339(key.first_seen))?;
    writeln!(f, "  last seen   {}", rfc3339(key.last_seen))?;
    for certificate in &key.certificates {
        let issued_at = rfc3339(certificate.issued_at);
        writeln!(
            f,
            "  certificate {} {} slot, {}, {issued_at}",
            certificate.cti, certificate.slot, certificate.status
        )?;
    }
    Ok(())
}
