//! `commissioner discover [LINK...]`: where devices are, and which ones.

use std::fmt;

use clap::Args as ClapArgs;
use serde::Serialize;

use super::Context;
use crate::discover::{self, Sighting};
use crate::error::{CommandError, ExitCode};
use crate::link::Link;

/// List serial ports and USB network links, and which devices answer
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Try these too: ptys and remote addresses are not found by themselves, nor ports that run at another speed
    links: Vec<Link>,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let mut links = discover::links();
        links.extend(self.links);
        links.sort();
        links.dedup();
        context.progress.working("asking who is there");
        let sightings = discover::survey(links).await;
        for sighting in &sightings {
            let line = Line::new(sighting);
            context.output.result(&line, &line);
        }
        match sightings.iter().any(|sighting| sighting.found.is_ok()) {
            true => Ok(()),
            false => Err(CommandError::new(ExitCode::NoDevice, nobody(sightings.is_empty()))),
        }
    }
}

fn nobody(nowhere: bool) -> &'static str {
    match nowhere {
        true => "there is no serial port and no USB network link; plug a device in, or name a link to try",
        false => "no device answers on any link; is it powered, and does its firmware have the commissioning resource?",
    }
}

/// A link, and the device there or why there is none.
#[derive(Debug, Serialize)]
struct Line {
    link: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Device {
        device: String,
        /// The key's thumbprint, hex; none if the device's storage is at fault.
        thumbprint: Option<String>,
        profile: String,
        owner: String,
        factory: String,
        firmware: String,
        generation: u32,
        condition: String,
    },
    Nothing {
        error: String,
    },
}

impl Line {
    fn new(sighting: &Sighting) -> Self {
        let outcome = match &sighting.found {
            Err(error) => Outcome::Nothing { error: error.to_string() },
            Ok(found) => {
                let info = found.account.info();
                Outcome::Device {
                    device: info.device.to_string(),
                    thumbprint: found.account.key().map(|key| key.thumbprint().to_string()),
                    profile: info.profile.to_string(),
                    owner: info.owner.to_string(),
                    factory: info.factory.to_string(),
                    firmware: found.account.firmware(),
                    generation: info.generation,
                    condition: info.condition.to_string(),
                }
            }
        };
        Self { link: sighting.link.to_string(), outcome }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.link)?;
        match &self.outcome {
            Outcome::Nothing { error } => write!(f, "\n  {error}"),
            Outcome::Device { device, thumbprint, profile, owner, firmware, condition, .. } => {
                write!(f, "\n  {device}")?;
                write!(f, "\n  key {}", thumbprint.as_deref().unwrap_or("none"))?;
                write!(f, "\n  {profile} profile, owner slot {owner}, condition {condition}, firmware {firmware}")
            }
        }
    }
}
