//! The links of this machine: its serial ports and its network, opened and told apart.

use std::collections::BTreeSet;

use super::holder::Device;
use super::port::Plug;
use super::{Datagrams, DeviceLog, Error, Holder, Link, network, serial, udp};

impl Link {
    /// Opens the link; what the device logs on the same line goes to the `device` tracing target.
    pub async fn open(&self) -> Result<Box<dyn Datagrams>, Error> {
        self.open_with(Box::new(|text| tracing::debug!(target: "device", "{text}"))).await
    }

    /// Opens the link; what the device logs on the same line goes to `log`.
    pub async fn open_with(&self, log: DeviceLog) -> Result<Box<dyn Datagrams>, Error> {
        match self {
            Self::Serial { path, baud } => Ok(Box::new(serial::open(path, *baud, log)?)),
            Self::Udp { address, zone, port } => Ok(Box::new(udp::open(*address, zone.as_deref(), *port).await?)),
        }
    }

    /// What is plugged in at a serial port now; [`None`] if there is no such port, or it is no serial link.
    pub fn plug(&self) -> Option<Plug> {
        match self {
            Self::Serial { path, .. } => Plug::at(path),
            Self::Udp { .. } => None,
        }
    }

    /// Who, of the programs that we started, has the port.
    pub fn held_by_ours(&self) -> Option<Holder> {
        match self {
            Self::Serial { path, .. } => Holder::all(path).into_iter().find(Holder::is_ours),
            Self::Udp { .. } => None,
        }
    }
}

/// Links without those that are the same as one before them, by another name. Interfaces have their names, not numbers.
pub fn distinct(links: impl IntoIterator<Item = Link>) -> Vec<Link> {
    let (mut distinct, mut devices) = (Vec::new(), BTreeSet::new());
    for link in links.into_iter().map(with_named_zone) {
        let device = match &link {
            Link::Serial { path, .. } => Device::at(path),
            Link::Udp { .. } => None,
        };
        let is_new = device.map_or_else(|| !distinct.contains(&link), |device| devices.insert(device));
        if is_new {
            distinct.push(link);
        }
    }
    distinct
}

/// The link, with its interface by name.
fn with_named_zone(mut link: Link) -> Link {
    if let Link::Udp { zone: Some(zone), .. } = &mut link
        && let Some(name) = network::name_of(zone)
    {
        *zone = name;
    }
    link
}
