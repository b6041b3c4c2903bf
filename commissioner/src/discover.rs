//! Which devices are there, and where.
//!
//! Serial ports are asked with a CoAP ping first, so that other programs' devices are not disturbed further. On USB
//! network links `/comm` is asked for by multicast (RFC 7252 section 8). Whoever answers is then asked in full.

use std::fs;
use std::net::Ipv6Addr;
use std::time::Duration;

use cbor_schemas::DeviceId;
use tokio::task::JoinSet;

use crate::client::{Client, Request, ask_group};
use crate::error::{CommandError, ExitCode};
use crate::link::{self, DEFAULT_PORT, Link};
use crate::visit::{self, Account};

/// All CoAP nodes on the link (RFC 7252 section 12.8).
const ALL_COAP_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfd);
/// How long answers to a multicast may take: DEFAULT_LEISURE (RFC 7252 section 8.2).
const LEISURE: Duration = Duration::from_secs(5);
/// Devices on one network link that are listened to.
const MOST_MEMBERS: usize = 64;
/// Drivers of network interfaces that are devices at a USB cable.
const USB_NETWORK_DRIVERS: [&str; 4] = ["cdc_ncm", "cdc_ether", "cdc_eem", "rndis_host"];

/// A device that answers.
pub struct Found {
    /// Where.
    pub link: Link,
    /// Open, and adapted to the device.
    pub client: Client,
    /// What the device says of itself, to anyone.
    pub account: Account,
}

/// A link that was tried, and what came of it.
pub struct Sighting {
    /// The link.
    pub link: Link,
    /// The device, or why there is none.
    pub found: Result<Found, visit::Error>,
}

/// Tries one link: a device answers a CoAP ping within 3 s.
pub async fn at(link: &Link) -> Result<Found, visit::Error> {
    let mut client = Client::open(link).await?;
    let account = Account::probe(&mut client).await?;
    Ok(Found { link: link.clone(), client, account })
}

/// Where devices may be, as far as the operating system knows: serial ports and USB network links.
///
/// Ptys and addresses elsewhere in the network are not among them.
pub fn links() -> Vec<Link> {
    let group = |interface| Link::Udp { address: ALL_COAP_NODES.into(), zone: Some(interface), port: DEFAULT_PORT };
    let serial = link::list_ports().into_iter().map(Link::serial);
    serial.chain(usb_networks().into_iter().map(group)).collect()
}

/// Tries links at the same time; a multicast address stands for whoever answers to it.
pub async fn survey(links: impl IntoIterator<Item = Link>) -> Vec<Sighting> {
    let tasks: JoinSet<_> = links.into_iter().map(sight).collect();
    let mut sightings: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    sightings.sort_by(|a, b| a.link.cmp(&b.link));
    sightings
}

/// The devices among what was tried, each once: one with a serial and a network function is at two links.
pub fn devices(sightings: Vec<Sighting>) -> Vec<Found> {
    let mut devices: Vec<Found> = Vec::new();
    for found in sightings.into_iter().filter_map(|sighting| sighting.found.ok()) {
        if devices.iter().all(|device| device.account != found.account) {
            devices.push(found);
        }
    }
    devices
}

/// The one device that answers on [`links`].
///
/// # Errors
/// Exit code 3 if there is none, or more than one; it lists them.
pub async fn only() -> Result<Found, CommandError> {
    one_of(survey(links()).await)
}

/// The device with this ID, wherever it answers on [`links`].
///
/// # Errors
/// Exit code 3 if it does not answer.
pub async fn find(device: &DeviceId) -> Result<Found, CommandError> {
    let mut found = devices(survey(links()).await);
    let position = found.iter().position(|found| found.account.info().device == *device);
    position.map(|position| found.swap_remove(position)).ok_or_else(|| {
        let message =
            format!("{device} does not answer on any serial port or USB network link; plug it in, or give its link");
        CommandError::new(ExitCode::NoDevice, message).with_candidates(found.iter().map(describe))
    })
}

async fn sight(link: Link) -> Vec<Sighting> {
    if !link.is_multicast() {
        let found = at(&link).await;
        return vec![Sighting { link, found }];
    }
    match ask_group(&link, &Request::get("/comm"), LEISURE, MOST_MEMBERS).await {
        Ok(members) => {
            let mut sightings = Vec::new();
            for member in members {
                let found = at(&member).await;
                sightings.push(Sighting { link: member, found });
            }
            sightings
        }
        Err(error) => vec![Sighting { link, found: Err(error.into()) }],
    }
}

fn one_of(sightings: Vec<Sighting>) -> Result<Found, CommandError> {
    let tried: Vec<_> =
        sightings.iter().filter_map(|s| s.found.as_ref().err().map(|e| format!("{}: {e}", s.link))).collect();
    let mut devices = devices(sightings);
    match (devices.pop(), devices.is_empty()) {
        (Some(device), true) => Ok(device),
        (None, _) => {
            let message = "no device answers; plug one in, or name its link (serial:PATH or udp:ADDRESS)";
            Err(CommandError::new(ExitCode::NoDevice, message).with_candidates(tried))
        }
        (Some(last), false) => {
            let candidates = devices.iter().chain([&last]).map(describe);
            Err(CommandError::new(ExitCode::NoDevice, "more than one device answers; name one of these links")
                .with_candidates(candidates))
        }
    }
}

fn describe(found: &Found) -> String {
    format!("{} {}", found.link, found.account.info().device)
}

/// The interfaces that Linux runs over a USB cable.
fn usb_networks() -> Vec<String> {
    let Ok(interfaces) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let is_usb = |interface: &fs::DirEntry| {
        let driver = fs::read_link(interface.path().join("device/driver")).unwrap_or_default();
        USB_NETWORK_DRIVERS.iter().any(|name| driver.ends_with(name))
    };
    let interfaces = interfaces.flatten().filter(is_usb);
    interfaces.filter_map(|interface| interface.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use cbor_schemas::DeviceInfo;
    use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
    use tokio::net::UdpSocket;

    use super::*;
    use crate::client::{self, Code, content_format};
    use crate::registry::testing::{info, key};

    fn comm(id: &str) -> Vec<u8> {
        let info = info(&id.parse().unwrap(), Some(&key()));
        let mut buffer = [0; DeviceInfo::MAX_LEN];
        let length = info.encode(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    /// Answers pings and GET at a UDP socket.
    async fn serve(socket: UdpSocket, comm: Vec<u8>) {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let request = Packet::from_bytes(&buffer[..length]).unwrap();
            let mut answer = Packet::new();
            answer.header.message_id = request.header.message_id;
            if request.header.code == MessageClass::Empty {
                answer.header.set_type(MessageType::Reset);
                answer.header.code = MessageClass::Empty;
            } else {
                answer.header.set_type(MessageType::Acknowledgement);
                answer.header.code = Code::CONTENT.0.into();
                answer.set_token(request.get_token().to_vec());
                answer.add_option(CoapOption::ContentFormat, vec![content_format::CBOR as u8]);
                answer.payload = comm.clone();
            }
            socket.send_to(&answer.to_bytes().unwrap(), from).await.unwrap();
        }
    }

    async fn device(comm: Vec<u8>) -> Link {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(serve(socket, comm));
        format!("udp:127.0.0.1:{port}").parse().unwrap()
    }

    fn nobody() -> Link {
        Link::serial("/dev/ttyNONE")
    }

    #[tokio::test]
    async fn one_device_is_the_one() {
        let link = device(comm("urn:dev:ops:32473-test-01")).await;
        let sightings = survey([nobody(), link.clone()]).await;
        assert!(matches!(
            &sightings[0].found,
            Err(visit::Error::Client(client::Error::Link(link::Error::Missing { .. })))
        ));
        let found = one_of(sightings).unwrap();
        assert_eq!((found.link, found.account.info().device.as_str()), (link, "urn:dev:ops:32473-test-01"));
    }

    #[tokio::test]
    async fn a_device_at_two_links_is_one_device() {
        let comm = comm("urn:dev:ops:32473-test-01");
        let links = [device(comm.clone()).await, device(comm).await];
        assert!(one_of(survey(links).await).is_ok());
    }

    #[tokio::test]
    async fn two_devices_are_listed() {
        let links = [device(comm("urn:dev:ops:32473-test-01")).await, device(comm("urn:dev:ops:32473-test-02")).await];
        let error = one_of(survey(links.clone()).await).err().unwrap();
        assert_eq!(error.exit(), ExitCode::NoDevice);
        assert!(links.iter().all(|link| error.to_string().contains(&link.to_string())), "{error}");
        assert!(error.to_string().contains("urn:dev:ops:32473-test-02"), "{error}");
    }

    #[tokio::test]
    async fn nobody_is_an_error_that_says_what_was_tried() {
        let error = one_of(survey([nobody()]).await).err().unwrap();
        assert_eq!(error.exit(), ExitCode::NoDevice);
        assert!(error.to_string().contains("serial:/dev/ttyNONE: /dev/ttyNONE does not exist"), "{error}");
    }

    /// No multicast here, for not every machine's loopback interface carries it: the group is one socket, and answers
    /// come from others.
    #[tokio::test]
    async fn members_of_a_group_are_known_by_where_their_answers_come_from() {
        let group = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let link: Link = format!("udp:127.0.0.1:{}", group.local_addr().unwrap().port()).parse().unwrap();
        let members: [UdpSocket; 2] =
            [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.2:0").await.unwrap()];
        let expected = [&members[0], &members[1]].map(|member| {
            let address = member.local_addr().unwrap();
            Link::Udp { address: address.ip(), zone: None, port: address.port() }
        });
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 64];
            let (length, from) = group.recv_from(&mut buffer).await.unwrap();
            let question = Packet::from_bytes(&buffer[..length]).unwrap();
            let mut answer = Packet::new();
            answer.header.set_type(MessageType::NonConfirmable);
            answer.header.code = Code::CONTENT.0.into();
            answer.set_token(b"else".to_vec());
            group.send_to(&answer.to_bytes().unwrap(), from).await.unwrap();
            group.send_to(b"noise", from).await.unwrap();
            answer.set_token(question.get_token().to_vec());
            for member in [&members[0], &members[0], &members[1]] {
                member.send_to(&answer.to_bytes().unwrap(), from).await.unwrap();
            }
            question.header.get_type()
        });
        let found = ask_group(&link, &Request::get("/comm"), Duration::from_secs(60), 2).await.unwrap();
        assert_eq!(found, expected);
        assert_eq!(answering.await.unwrap(), MessageType::NonConfirmable);
    }
}
