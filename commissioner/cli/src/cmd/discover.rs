//! `commissioner discover [LINK...]`: where devices are, and which ones.

use std::fmt;

use clap::Args as ClapArgs;
use commissioner::discover::{self, Found, Twins};
use commissioner::link::{
    self, Link, Port,
    usb::{self, Blocked},
};
use commissioner::text;
use commissioner::visit;
use serde::Serialize;

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
};
use crate::output::complain;

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
        let blocked = usb::blocked();
        let nowhere = links.is_empty() && blocked.is_empty();
        let (mut devices, failures) = discover::merge(discover::survey(links).await);
        let ports = link::list_ports();
        let failures_lines = failures.iter().map(|(link, error)| Line::nothing(link, error, &ports));
        let blocked_lines = blocked.iter().map(Line::blocked);
        for line in devices.iter().map(Line::device).chain(failures_lines).chain(blocked_lines) {
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
            true => Err(CommandError::new(ExitCode::NoDevice, nobody(nowhere, !blocked.is_empty()))),
        }
    }
}

fn nobody(nowhere: bool, is_blocked: bool) -> &'static str {
    match (nowhere, is_blocked) {
        (true, _) => "there is no serial port and no USB network link; plug a device in, or name a link to try",
        (false, true) => "no device answers, but one is plugged in; see to what is in its way, then try again",
        (false, false) => {
            "no device answers on any link; is it powered, and does its firmware have the commissioning resource?"
        }
    }
}

/// A link, or a USB port, and the device there or why there is none.
#[derive(Debug, Serialize)]
struct Line {
    #[serde(flatten)]
    at: At,
    #[serde(flatten)]
    outcome: WhatIsThere,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum At {
    Link(String),
    /// A USB port as Linux numbers it, with a device that no link leads to.
    Usb(String),
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum WhatIsThere {
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
        /// What the USB device says it is, if by its numbers it is one of ours.
        #[serde(skip_serializing_if = "Option::is_none")]
        usb_serial: Option<String>,
    },
}

impl Line {
    fn device(found: &Found) -> Self {
        let info = found.account.info();
        let outcome = WhatIsThere::Device {
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
        Self { at: At::Link(found.link.to_string()), outcome }
    }

    fn nothing(link: &Link, error: &visit::Error, ports: &[Port]) -> Self {
        let port = ports.iter().find(|port| Link::serial(&port.path) == *link);
        let usb_serial = port.and_then(|port| port.device.clone());
        Self { at: At::Link(link.to_string()), outcome: WhatIsThere::Nothing { error: error.to_string(), usb_serial } }
    }

    fn blocked(blocked: &Blocked) -> Self {
        let Blocked { place, serial, obstacle } = blocked;
        let outcome = WhatIsThere::Nothing { error: obstacle.to_string(), usb_serial: serial.clone() };
        Self { at: At::Usb(place.clone()), outcome }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            WhatIsThere::Nothing { error, usb_serial } => {
                let error = text::line(error);
                match &self.at {
                    At::Link(link) => write!(f, "{link}\n  {error}")?,
                    At::Usb(place) => write!(f, "USB port {place}\n  {error}")?,
                }
                match usb_serial {
                    Some(device) => {
                        write!(f, "\n  its USB numbers are those of a commissioning device: {}", text::line(device))
                    }
                    None => Ok(()),
                }
            }
            WhatIsThere::Device { links, device, thumbprint, profile, owner, firmware, condition, .. } => {
                let firmware = text::line(firmware);
                write!(f, "{}\n  {device}", links.join(", "))?;
                write!(f, "\n  key {}", thumbprint.as_deref().unwrap_or("none"))?;
                write!(f, "\n  {profile} profile, owner slot {owner}, condition {condition}, firmware {firmware}")
            }
        }
    }
}
