//! `commissioner revoke DEVICE`: the device's active key is out, for good.

use clap::Args as ClapArgs;
use commissioner::{
    clock::rfc3339,
    progress::{Step, short},
    registry::{DeviceRef, Key, KeyStatus, Named, Revocation},
};

use super::{
    confirm::{self, Word},
    context::Context,
    exit::{CommandError, ExitCode},
};

const HELP: &str = "\
At a terminal it is asked whether that is meant; --yes answers. Where there is nobody to ask, and no --yes, the device has to be
named wholly: by its ID, its nickname, or the 64 digits of a thumbprint.";

/// Revoke a device's active key
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// An ID, a part of an ID or thumbprint, or a nickname
    device: DeviceRef,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let registry = context.registry().await?;
        let named = registry.named_for_good(&self.device).await?;
        let keys = doomed(&named)?;
        let (id, counted) = (named.device.id, keys.iter().any(|key| key.mine));
        if !keys.is_empty() {
            is_meant(&named, &keys, self.device.as_str(), &context.word())?;
        }
        match registry.revoke(&id, "revoked by the user").await? {
            Revocation::Revoked(keys) => {
                for key in keys {
                    context.progress.step(Step::KeyRevoked { thumbprint: key.to_string() });
                }
                context.output.text(format!("{id} is revoked"));
            }
            Revocation::AlreadyRevoked => context.output.text(format!("{id} was revoked before; nothing was changed")),
        }
        let devices = registry.holders_of_older_lists(&id, counted).await?;
        context.progress.step(Step::OlderLists { devices });
        context.json_record(&registry, &id).await
    }
}

/// The keys that are out afterwards; none if no key of the device counts any more.
///
/// # Errors
/// Exit code 6 if the user named a key that is not among them: one that was replaced, say, while another one counts.
fn doomed(named: &Named) -> Result<Vec<&Key>, CommandError> {
    let device = &named.device;
    let keys: Vec<_> = match device.settled() {
        Some(settled) => vec![settled],
        None => device.keys.iter().filter(|key| key.status == KeyStatus::Pending).collect(),
    };
    let other = named.by_key.and_then(|x| device.keys.iter().find(|key| key.x == x));
    match (other, keys.first()) {
        (Some(other), Some(first)) if keys.iter().all(|key| key.x != other.x) => Err(CommandError::new(
            ExitCode::Conflict,
            format!(
                "key {} of {} is {}, and not the one that counts, which is {}; name that one, or the device, if you mean that",
                short(&other.thumbprint),
                device.id,
                other.status,
                short(&first.thumbprint)
            ),
        )),
        _ => Ok(keys),
    }
}

/// Lets a person say whether it is meant, or demands that it is plain.
fn is_meant(named: &Named, keys: &[&Key], said: &str, word: &Word) -> Result<(), CommandError> {
    let device = &named.device;
    let named_as = device.nickname.as_ref().map(|nickname| format!(" ({nickname})")).unwrap_or_default();
    match word {
        Word::Given => Ok(()),
        Word::Nobody if named.is_whole => Ok(()),
        Word::Nobody => Err(CommandError::new(
            ExitCode::NoDevice,
            format!(
                "{said} is a part of a name, and nobody is there to ask; give the whole ID, the nickname or a whole thumbprint, or \
                 --yes"
            ),
        )
        .with_candidates([format!("{}{named_as}", device.id)])),
        Word::Terminal => {
            let keys: Vec<_> =
                keys.iter().map(|key| format!("key {} ({})", short(&key.thumbprint), key.status)).collect();
            confirm::ask(&format!(
                "{}{named_as}, {}, last seen {}\nA revoked key never counts again. Revoke it?",
                device.id,
                keys.join(", "),
                rfc3339(device.last_seen)
            ))
        }
    }
}
