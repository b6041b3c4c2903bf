//! `commissioner discover [LINK...]`: where devices are, and which ones.

use std::fmt;

use clap::Args as ClapArgs;
use serde::Serialize;

use super::{Context, complain};
use crate::discover::{self, Found, Twins};
use crate::error::{CommandError, ExitCode};
use crate::link::{self, Link, Port};
use crate::text;
use crate::visit;

/// List serial ports and USB network links, and which devices answer
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Try these too: ptys and remote addresses are not found by themselves, nor ports that run at another speed
    links: Vec<Link>,
    /// Ask on this network interface too, by multicast: of themselves, only USB links are asked
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        // Those that were named come first: they may have another speed.
        let mut links = self.links;
        links.extend(discover::links());
        links.extend(self.interface.into_iter().map(discover::on_interface));
        context.progress.working("asking who is there");
        let nowhere = links.is_empty();
        let (mut devices, failures) = discover::merge(discover::survey(links).await);
        let ports = link::list_ports();
        let failures_lines = failures.iter().map(|(link, error)| Line::nothing(link, error, &ports));
        for line in devices.iter().map(Line::device).chain(failures_lines) {
            context.output.result(&line, &line);
        }
        let nobody_answers = devices.is_empty();
        for Twins { device, links, .. } in discover::take_twins(&mut devices).await {
            complain(format_args!(
                "{device} answers at {} places at once: at most one of them is the device, so find out which",
                links.len()
            ));
        }
        match nobody_answers {
            false => Ok(()),
            true => Err(CommandError::new(ExitCode::NoDevice, nobody(nowhere))),
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
        /// All links that it answers at, the preferred one first.
        links: Vec<String>,
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
        /// What the port's USB device says it is, if by its numbers it is one of ours.
        #[serde(skip_serializing_if = "Option::is_none")]
        usb_serial: Option<String>,
    },
}

impl Line {
    fn device(found: &Found) -> Self {
        let info = found.account.info();
        let outcome = Outcome::Device {
            links: found.links().map(Link::to_string).collect(),
            device: info.device.to_string(),
            thumbprint: found.account.key().map(|key| key.thumbprint().to_string()),
            profile: info.profile.to_string(),
            owner: info.owner.to_string(),
            factory: info.factory.to_string(),
            firmware: found.account.firmware(),
            generation: info.generation,
            condition: info.condition.to_string(),
        };
        Self { link: found.link.to_string(), outcome }
    }

    fn nothing(link: &Link, error: &visit::Error, ports: &[Port]) -> Self {
        let port = ports.iter().find(|port| Link::serial(&port.path) == *link);
        let usb_serial = port.and_then(|port| port.device.clone());
        Self { link: link.to_string(), outcome: Outcome::Nothing { error: error.to_string(), usb_serial } }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Nothing { error, usb_serial } => {
                write!(f, "{}\n  {}", self.link, text::line(error))?;
                match usb_serial {
                    Some(device) => {
                        write!(f, "\n  its USB numbers are those of a commissioning device: {}", text::line(device))
                    }
                    None => Ok(()),
                }
            }
            Outcome::Device { links, device, thumbprint, profile, owner, firmware, condition, .. } => {
                let firmware = text::line(firmware);
                write!(f, "{}\n  {device}", links.join(", "))?;
                write!(f, "\n  key {}", thumbprint.as_deref().unwrap_or("none"))?;
                write!(f, "\n  {profile} profile, owner slot {owner}, condition {condition}, firmware {firmware}")
            }
        }
    }
}
