//! Which devices are there, and where.
//!
//! Serial ports are asked with a CoAP ping first, so that other programs' devices are not disturbed further. On USB
//! network links, all CoAP nodes are asked by multicast which resources they have (RFC 7252 section 8, RFC 6690), and the
//! device by unicast as well, whose address is known from its USB serial number. Whoever has the commissioning resource is
//! then asked in full. A device at both is one device with two links.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use cbor_schemas::DeviceId;
use coap_lite::link_format::LinkFormatParser;
use protocol::{key::PublicKey, usb::link_local};
use tokio::task::JoinSet;

use crate::client::{self, Client, Request, ask_group};
use crate::link::{
    self, DEFAULT_PORT, Link, network,
    usb::{self, Blocked},
};
use crate::progress::{Progress, Step};
use crate::visit::{self, Account};

/// How long answers to a multicast may take: DEFAULT_LEISURE (RFC 7252 section 8.2).
const LEISURE: Duration = Duration::from_secs(5);
/// How much longer others are listened to, on a USB link: it has one device at its end, which has answered.
const STRAGGLERS: Duration = Duration::from_millis(500);
/// Devices on one network link that are listened to.
const MOST_MEMBERS: usize = 64;
/// What every CoAP node has (RFC 6690 section 4).
const CORE: &str = "/.well-known/core";
/// The resource type of `/comm`.
const COMMISSIONING: &str = "commissioning";

/// A device that answers.
pub struct Found {
    /// Where.
    pub link: Link,
    /// Open, and adapted to the device.
    pub client: Client,
    /// What the device says of itself, to anyone.
    pub account: Account,
    /// Where it answers, too.
    pub others: Vec<Link>,
}

/// Why there is not the device that is wanted.
#[derive(Debug, thiserror::Error)]
#[error("{lack}")]
pub struct Error {
    /// What there is instead.
    pub lack: Lack,
    /// Links and devices that may have been meant, or why there is no device at them; a line each.
    pub candidates: Vec<String>,
}

/// What there is instead of the one device that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// Nobody.
    #[error("no device answers; plug one in, or name its link (serial:PATH or udp:ADDRESS)")]
    NoDevice,
    /// More than one device.
    #[error("more than one device answers; name one of these links")]
    Several,
    /// None with this ID.
    #[error("{0} does not answer on any serial port or USB network link; plug it in, or give its link")]
    Absent(DeviceId),
    /// More than one with this ID.
    #[error("more than one device claims to be {0}; unplug what is not, or name a link")]
    Claimed(DeviceId),
}

impl Lack {
    fn with(self, candidates: impl IntoIterator<Item = String>) -> Error {
        Error { lack: self, candidates: candidates.into_iter().collect() }
    }
}

/// A link that was tried, and what came of it.
pub struct Sighting {
    /// The link.
    pub link: Link,
    /// The device, or why there is none.
    pub found: Result<Found, visit::Error>,
}

/// Tries one link: a device answers a CoAP ping within 6 s, or 12 s if it says something meanwhile.
pub async fn at(link: &Link) -> Result<Found, visit::Error> {
    let mut client = Client::open(link).await?;
    let account = Account::probe(&mut client).await?;
    Ok(Found { link: link.clone(), client, account, others: Vec::new() })
}

/// Where devices may be, as far as the operating system knows: serial ports and USB network links.
///
/// Ptys, other network interfaces and addresses elsewhere are not among them: nothing is sent there unasked.
pub fn links() -> Vec<Link> {
    let serial = link::list_ports().into_iter().map(|port| Link::serial(port.path));
    serial.chain(network::usb_interfaces().into_iter().map(on_interface)).collect()
}

/// All CoAP nodes on the link of a network interface (RFC 7252 section 12.8).
pub fn on_interface(name: String) -> Link {
    Link::Udp { address: network::ALL_COAP_NODES.into(), zone: Some(name), port: DEFAULT_PORT }
}

/// Tries links at the same time, each port and address once, by the first of its names; a multicast address stands for
/// whoever answers to it, and who was named as well is not another one. UDP comes before serial ports.
pub async fn survey(links: impl IntoIterator<Item = Link>) -> Vec<Sighting> {
    let tasks: JoinSet<_> = link::distinct(links).into_iter().map(sight).collect();
    each_once(tasks.join_all().await.into_iter().flatten().collect())
}

/// Each link once, with the device if it was seen there at all.
fn each_once(mut sightings: Vec<Sighting>) -> Vec<Sighting> {
    sightings.sort_by_key(|Sighting { link, found }| (link.is_serial(), link.clone(), found.is_err()));
    sightings.dedup_by(|one, other| one.link == other.link);
    sightings
}

/// The devices among what was tried, each once: one with a serial and a network function is at two links. UDP is
/// preferred.
pub fn devices(sightings: Vec<Sighting>) -> Vec<Found> {
    merge(sightings).0
}

/// The devices among what was tried, each once, and where there is none, with the reason.
pub fn merge(sightings: Vec<Sighting>) -> (Vec<Found>, Vec<(Link, visit::Error)>) {
    let (mut devices, mut failures) = (Vec::<Found>::new(), Vec::new());
    for Sighting { link, found } in sightings {
        match found {
            Ok(found) => match devices.iter_mut().find(|device| device.account == found.account) {
                Some(device) => device.others.push(link),
                None => devices.push(found),
            },
            Err(error) => failures.push((link, error)),
        }
    }
    (devices, failures)
}

/// Devices that answer under one ID at the same time: they have different keys, or one key and were started at different
/// times. Both cannot be the one.
#[derive(Debug)]
pub struct Twins {
    /// The ID.
    pub device: DeviceId,
    /// The keys that they say they have, at different places perhaps the same.
    pub keys: Vec<PublicKey>,
    /// Where they are.
    pub links: Vec<Link>,
}

/// Takes out of `devices` what claims an ID that others claim, too. Each of them is asked once more: a device that restarted
/// meanwhile, or a second way to the same one, is no twin.
pub async fn take_twins(devices: &mut Vec<Found>) -> Vec<Twins> {
    let id = |found: &Found| found.account.info().device;
    let ids: BTreeSet<String> = devices.iter().map(|found| id(found).to_string()).collect();
    let mut twins = Vec::new();
    for name in ids {
        let same: Vec<Found> = devices.extract_if(.., |found| id(found).as_str() == name).collect();
        let mut distinct = if same.len() > 1 { ask_again(same).await } else { same };
        if distinct.len() > 1 {
            let device = id(&distinct[0]);
            let keys = distinct.iter().filter_map(|found| found.account.key().copied()).collect();
            twins.push(Twins { device, keys, links: distinct.iter().flat_map(Found::links).cloned().collect() });
        } else {
            devices.append(&mut distinct);
        }
    }
    twins
}

/// What still answers, with a new account; those that agree in key and nonce are one device.
async fn ask_again(devices: Vec<Found>) -> Vec<Found> {
    let mut distinct = Vec::<Found>::new();
    for mut found in devices {
        let Ok(account) = Account::read(&mut found.client).await else { continue };
        found.account = account;
        let identity = |found: &Found| (found.account.key().copied(), found.account.info().nonce);
        match distinct.iter_mut().find(|other| identity(other) == identity(&found)) {
            Some(same) => same.others.extend(found.links().cloned()),
            None => distinct.push(found),
        }
    }
    distinct
}

/// The one device that answers on [`links`].
///
/// # Errors
/// If there is none, or more than one; it lists them.
pub async fn only() -> Result<Found, Error> {
    one_of(survey(links()).await, &usb::blocked())
}

/// All devices that answer on [`links`].
///
/// # Errors
/// If there is none; it lists what was tried.
pub async fn all() -> Result<Vec<Found>, Error> {
    let (devices, failures) = merge(survey(links()).await);
    match devices.is_empty() {
        true => Err(no_device(&failures, &usb::blocked())),
        false => Ok(devices),
    }
}

/// The device with this ID, wherever it answers on [`links`].
///
/// # Errors
/// If it does not answer, or if more than one claims to be it.
pub async fn find(device: &DeviceId) -> Result<Found, Error> {
    the_one(device, survey(links()).await, &usb::blocked())
}

fn the_one(device: &DeviceId, sightings: Vec<Sighting>, blocked: &[Blocked]) -> Result<Found, Error> {
    let (found, failures) = merge(sightings);
    let (mut claimants, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|found| found.account.info().device == *device);
    match (claimants.pop(), claimants.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(last), false) => Err(Lack::Claimed(*device).with(claimants.iter().chain([&last]).map(describe))),
        (None, _) => Err(Lack::Absent(*device).with(others.iter().map(describe).chain(in_vain(&failures, blocked)))),
    }
}

impl Found {
    /// Where it is, preferred link first.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        [&self.link].into_iter().chain(&self.others)
    }

    /// After its link failed, goes on over the next one where the same device answers. Whatever was done must bear to be done
    /// again. Whether there is such a link.
    pub async fn fall_back(&mut self, because: &impl fmt::Display, progress: &Progress) -> bool {
        while !self.others.is_empty() {
            let next = self.others.remove(0);
            let Ok(other) = at(&next).await else { continue };
            let is_same =
                other.account.info().device == self.account.info().device && other.account.key() == self.account.key();
            if is_same {
                progress.step(Step::FellBack { to: next.to_string(), because: because.to_string() });
                *self = Found { others: std::mem::take(&mut self.others), ..other };
                return true;
            }
        }
        false
    }
}

async fn sight(link: Link) -> Vec<Sighting> {
    if !link.is_multicast() {
        let found = at(&link).await;
        return vec![Sighting { link, found }];
    }
    match members(&link).await {
        Ok(members) => {
            let mut sightings = Vec::new();
            for member in members {
                let found = at(&member).await;
                sightings.push(Sighting { link: member, found });
            }
            sightings
        }
        Err(error) => vec![Sighting { link, found: Err(error) }],
    }
}

/// The commissioning devices on a network link.
async fn members(group: &Link) -> Result<Vec<Link>, visit::Error> {
    let (mut known, mut stragglers) = (None, LEISURE);
    if let Link::Udp { zone: Some(interface), .. } = group {
        network::ready(interface).await.map_err(client::Error::Link)?;
        if network::is_usb(interface) {
            stragglers = STRAGGLERS;
            known = usb::device_behind(interface).map(|device| link_local(&device).into());
        }
    }
    let answers = ask_group(group, known, &Request::get(CORE), LEISURE, stragglers, MOST_MEMBERS).await?;
    if answers.is_empty() {
        return Err(client::Error::from(link::Error::Unanswered { group: group.to_string() }).into());
    }
    let devices = answers.into_iter().filter(|(member, resources)| {
        let is_device = has_commissioning(resources);
        if !is_device {
            tracing::info!("{member} speaks CoAP, but is no commissioning device");
        }
        is_device
    });
    Ok(devices.map(|(member, _)| member).collect())
}

/// Whether a list of resources has ours.
fn has_commissioning(resources: &[u8]) -> bool {
    let Ok(resources) = str::from_utf8(resources) else { return false };
    LinkFormatParser::new(resources).flatten().any(|(_, attributes)| {
        // One attribute may have several types, set apart by spaces (RFC 6690 section 3.1).
        let mut types = attributes.filter(|(name, _)| *name == "rt");
        types.any(|(_, value)| value.to_cow().split(' ').any(|it| it == COMMISSIONING))
    })
}

fn one_of(sightings: Vec<Sighting>, blocked: &[Blocked]) -> Result<Found, Error> {
    let (mut devices, failures) = merge(sightings);
    match (devices.pop(), devices.is_empty()) {
        (Some(device), true) => Ok(device),
        (None, _) => Err(no_device(&failures, blocked)),
        (Some(last), false) => Err(Lack::Several.with(devices.iter().chain([&last]).map(describe))),
    }
}

fn no_device(failures: &[(Link, visit::Error)], blocked: &[Blocked]) -> Error {
    Lack::NoDevice.with(in_vain(failures, blocked))
}

/// Where there is no device, and why not.
fn in_vain(failures: &[(Link, visit::Error)], blocked: &[Blocked]) -> impl Iterator<Item = String> {
    let links = failures.iter().map(|(link, error)| format!("{link}: {error}"));
    links.chain(blocked.iter().map(Blocked::to_string))
}

fn describe(found: &Found) -> String {
    format!("{} {}", found.link, found.account.info().device)
}

#[cfg(test)]
mod tests {
    use cbor_schemas::DeviceInfo;
    use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
    use tokio::net::UdpSocket;

    use std::sync::Arc;

    use super::*;
    use crate::client::{Code, content_format};
    use crate::progress::Recording;
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
            &sightings[1].found,
            Err(visit::Error::Client(client::Error::Link(link::Error::Missing { .. })))
        ));
        let found = one_of(sightings, &[]).unwrap();
        assert_eq!((found.link, found.account.info().device.as_str()), (link, "urn:dev:ops:32473-test-01"));
    }

    #[tokio::test]
    async fn a_device_at_two_links_is_one_device() {
        let comm = comm("urn:dev:ops:32473-test-01");
        let links = [device(comm.clone()).await, device(comm).await];
        assert!(one_of(survey(links).await, &[]).is_ok());
    }

    /// UDP comes first, and a serial port that fails is no second device.
    #[tokio::test]
    async fn a_device_has_all_its_links() {
        let comm = comm("urn:dev:ops:32473-test-01");
        let links = [device(comm.clone()).await, device(comm).await];
        let (devices, failures) = merge(survey([nobody(), links[0].clone(), links[1].clone()]).await);
        let mut expected = links.to_vec();
        expected.sort();
        assert_eq!(devices.len(), 1);
        assert_eq!(devices[0].links().cloned().collect::<Vec<_>>(), expected);
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].0, nobody());
    }

    fn with_nonce(id: &str, key: &PublicKey, nonce: u8) -> Vec<u8> {
        let info = DeviceInfo { nonce: [nonce; 8], ..info(&id.parse().unwrap(), Some(key)) };
        let mut buffer = vec![0; DeviceInfo::MAX_LEN];
        let length = info.encode(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    }

    #[tokio::test]
    async fn two_devices_with_one_id_are_twins() {
        let (id, other, key) = ("urn:dev:ops:32473-test-01", "urn:dev:ops:32473-test-02", key());
        let innocent = device(with_nonce(other, &key, 1)).await;
        // Another key, or the same one after another start: a copy of the flash.
        for (second, keys) in [(comm(id), 2), (with_nonce(id, &key, 2), 2)] {
            let links = [device(with_nonce(id, &key, 1)).await, device(second).await];
            let sightings = survey([links[0].clone(), links[1].clone(), innocent.clone()]).await;
            let mut found = devices(sightings);
            let twins = take_twins(&mut found).await;
            assert_eq!(found.iter().map(|found| &found.link).collect::<Vec<_>>(), [&innocent]);
            let [twins] = &twins[..] else { panic!("{twins:?}") };
            assert_eq!((twins.device.as_str(), twins.keys.len()), (id, keys));
            assert!(links.iter().all(|link| twins.links.contains(link)), "{twins:?}");
        }
    }

    #[tokio::test]
    async fn one_device_that_is_seen_twice_is_no_twin() {
        let (id, key) = ("urn:dev:ops:32473-test-01", key());
        let (here, there) = (device(with_nonce(id, &key, 2)).await, device(with_nonce(id, &key, 2)).await);
        let (mut one, two) = (at(&here).await.unwrap(), at(&there).await.unwrap());
        // It restarted since it was asked at the first link.
        one.account = at(&device(with_nonce(id, &key, 1)).await).await.unwrap().account;
        let mut found = vec![one, two];
        assert!(take_twins(&mut found).await.is_empty());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].links().count(), 2);
        // One of two went away.
        let gone = Found { link: nobody(), ..at(&here).await.unwrap() };
        assert!(take_twins(&mut vec![gone]).await.is_empty());
    }

    #[tokio::test]
    async fn a_device_is_not_picked_among_twins() {
        let id = "urn:dev:ops:32473-test-01";
        let links = [device(comm(id)).await, device(comm(id)).await];
        let error = the_one(&id.parse().unwrap(), survey(links.clone()).await, &[]).err().unwrap();
        assert_eq!(error.lack, Lack::Claimed(id.parse().unwrap()));
        assert!(links.iter().all(|link| told(&error).contains(&link.to_string())), "{error:?}");
        let sightings = survey([links[0].clone()]).await;
        assert_eq!(the_one(&id.parse().unwrap(), sightings, &[]).unwrap().link, links[0]);
    }

    fn recorded() -> (Progress, Arc<Recording>) {
        let recording = Arc::new(Recording::default());
        (Progress::new(recording.clone()), recording)
    }

    const LOOSE: &str = "the cable is loose";

    fn told(error: &Error) -> String {
        format!("{error} {}", error.candidates.join(" "))
    }

    #[tokio::test]
    async fn where_a_link_fails_the_next_one_takes_over() {
        let (progress, recording) = recorded();
        let comm = comm("urn:dev:ops:32473-test-01");
        let (first, second) = (device(comm.clone()).await, device(comm).await);
        let mut found = at(&first).await.unwrap();
        // Nobody is at the first of them.
        found.others = vec![nobody(), second.clone()];
        assert!(found.fall_back(&LOOSE, &progress).await);
        assert_eq!((&found.link, &found.others), (&second, &vec![]));
        let fell_back = Step::FellBack { to: second.to_string(), because: LOOSE.to_owned() };
        assert_eq!(recording.steps(), [(None, fell_back)]);
        assert!(!found.fall_back(&LOOSE, &progress).await, "there is no other link any more");
    }

    #[tokio::test]
    async fn another_device_at_the_next_link_is_not_gone_on_with() {
        let (progress, _) = recorded();
        let mut found = at(&device(comm("urn:dev:ops:32473-test-01")).await).await.unwrap();
        found.others = vec![device(comm("urn:dev:ops:32473-test-02")).await];
        assert!(!found.fall_back(&LOOSE, &progress).await);
    }

    #[test]
    fn the_commissioning_resource_is_known_by_its_type() {
        for (resources, has) in [
            ("</comm>;rt=\"commissioning\";ct=60", true),
            ("</.well-known/edhoc>;rt=\"core.edhoc\",</c>;ct=60;rt=\"x commissioning\"", true),
            ("</comm>;rt=commissioning", true),
            ("</comm>;ct=60", false),
            ("</comm>;rt=\"commissioning-not\"", false),
            ("</x>;title=\"rt=commissioning\"", false),
            ("", false),
            ("<<;;,,", false),
        ] {
            assert_eq!(has_commissioning(resources.as_bytes()), has, "{resources}");
        }
        assert!(!has_commissioning(b"\xff\xfe"));
    }

    #[tokio::test]
    async fn two_devices_are_listed() {
        let links = [device(comm("urn:dev:ops:32473-test-01")).await, device(comm("urn:dev:ops:32473-test-02")).await];
        let error = one_of(survey(links.clone()).await, &[]).err().unwrap();
        assert_eq!(error.lack, Lack::Several);
        assert!(links.iter().all(|link| told(&error).contains(&link.to_string())), "{error:?}");
        assert!(told(&error).contains("urn:dev:ops:32473-test-02"), "{error:?}");
    }

    #[tokio::test]
    async fn nobody_is_an_error_that_says_what_was_tried() {
        let error = one_of(survey([nobody()]).await, &[]).err().unwrap();
        assert_eq!(error.lack, Lack::NoDevice);
        assert!(told(&error).contains("serial:/dev/ttyNONE: /dev/ttyNONE does not exist"), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_in_the_way_of_a_device_that_is_plugged_in_is_said() {
        let id = "urn:dev:ops:32473-test-01";
        let obstacle = usb::Obstacle::NoDriver { function: "network", driver: "cdc_ncm" };
        let blocked = [Blocked { place: "3-1".to_owned(), serial: Some(id.to_owned()), obstacle }];
        let silent = || survey([nobody()]);
        for error in [
            one_of(silent().await, &blocked).err().unwrap(),
            the_one(&id.parse().unwrap(), silent().await, &blocked).err().unwrap(),
        ] {
            let said = told(&error);
            assert!(
                said.contains(&format!("USB port 3-1 ({id}): plugged in, but its network has no driver")),
                "{said}"
            );
            assert!(said.contains("serial:/dev/ttyNONE: /dev/ttyNONE does not exist"), "{said}");
        }
    }

    /// The link that was named, and the one where somebody answered to a multicast.
    #[tokio::test]
    async fn a_link_is_listed_once() {
        let link = device(comm("urn:dev:ops:32473-test-01")).await;
        let mut sightings = vec![Sighting { link: link.clone(), found: Err(visit::Error::NoKey) }];
        for _ in 0..2 {
            sightings.push(Sighting { link: link.clone(), found: at(&link).await });
        }
        let (devices, failures) = merge(each_once(sightings));
        let links: Vec<_> = devices.iter().flat_map(Found::links).collect();
        assert_eq!((links, failures.len()), (vec![&link], 0));
    }

    /// A firewall that drops the answers to multicast does so without a word.
    #[tokio::test(start_paused = true)]
    async fn where_nobody_answers_the_firewall_is_named() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let group: Link = format!("udp:127.0.0.1:{}", silent.local_addr().unwrap().port()).parse().unwrap();
        let error = members(&group).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&group.to_string()) && said.contains("firewall") && said.contains("ufw allow"), "{said}");
        assert!(matches!(error, visit::Error::Client(_)), "{error:?}");
    }

    /// The group is deaf here, as one is behind a firewall.
    #[tokio::test]
    async fn a_member_whose_address_is_known_is_asked_there_as_well() {
        let group = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = group.local_addr().unwrap().port();
        let member = UdpSocket::bind(("127.0.0.2", port)).await.unwrap();
        let link = format!("udp:127.0.0.1:{port}").parse().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            let (length, from) = member.recv_from(&mut buffer).await.unwrap();
            let question = Packet::from_bytes(&buffer[..length]).unwrap();
            let mut answer = Packet::new();
            answer.header.set_type(MessageType::NonConfirmable);
            answer.header.code = Code::CONTENT.0.into();
            answer.set_token(question.get_token().to_vec());
            member.send_to(&answer.to_bytes().unwrap(), from).await.unwrap();
        });
        let minute = Duration::from_secs(60);
        let known = Some("127.0.0.2".parse().unwrap());
        let found = ask_group(&link, known, &Request::get(CORE), minute, minute, 1).await.unwrap();
        assert_eq!(found, [(format!("udp:127.0.0.2:{port}").parse().unwrap(), vec![])]);
        let mut buffer = [0; 64];
        assert!(group.try_recv_from(&mut buffer).is_ok(), "the group is asked, too");
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
            answer.payload = b"</comm>".to_vec();
            for member in [&members[0], &members[0], &members[1]] {
                member.send_to(&answer.to_bytes().unwrap(), from).await.unwrap();
            }
            question.header.get_type()
        });
        let minute = Duration::from_secs(60);
        let found = ask_group(&link, None, &Request::get(CORE), minute, minute, 2).await.unwrap();
        assert_eq!(found, expected.map(|member| (member, b"</comm>".to_vec())));
        assert_eq!(answering.await.unwrap(), MessageType::NonConfirmable);
    }
}
