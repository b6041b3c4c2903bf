//! How a command gets at a device: by a link or a name, as its station or as nobody in particular.

use std::str::FromStr;

use cbor_schemas::SlotState;
use commissioner::{
    client::{Request, Response},
    discover::{self, Found, Twins},
    link::{self, Link},
    progress::Progress,
    registry::{DeviceRef, EmptyName, Key, KeyStatus, Registry},
    station::Station,
    visit::{Account, Visit},
};

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
};

/// What `identify`, `rekey` and `reset` act on: a device of the list, or whatever is at the end of a link.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// DEVICE.
    Device(DeviceRef),
    /// LINK.
    Link(Link),
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("serial:") || text.starts_with("udp:") {
            Ok(Self::Link(text.parse()?))
        } else {
            Ok(Self::Device(text.parse()?))
        }
    }
}

/// Why a text names neither a device nor a link.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubjectError {
    /// It looks like a link.
    #[error(transparent)]
    Link(#[from] link::ParseError),
    /// It could only be a device.
    #[error(transparent)]
    Device(#[from] EmptyName),
}

impl Context {
    /// The device at `link`, or the only one that answers anywhere.
    pub(super) async fn reach(&self, link: Option<&Link>) -> Result<Found, CommandError> {
        self.progress.working("looking for the device");
        let found = match link {
            Some(link) => discover::at(link).await?,
            None => discover::only().await?,
        };
        Ok(self.sighted(found))
    }

    pub(super) fn sighted(&self, found: Found) -> Found {
        self.progress.step(found.account.step());
        found
    }

    /// The device that a target means: a device of the list is looked for on all links that the system knows of.
    pub(super) async fn reach_target(&self, target: Option<&Subject>) -> Result<Found, CommandError> {
        let name = match target {
            None => return self.reach(None).await,
            Some(Subject::Link(link)) => return self.reach(Some(link)).await,
            Some(Subject::Device(name)) => name,
        };
        let id = self.registry().await?.device(name).await?.id;
        self.progress.working(format!("looking for {id}"));
        let found = discover::find(&id).await?;
        self.progress.step(found.account.step());
        Ok(found)
    }

    /// Asks a device under protection: as its station where the device is ours and the request needs that, else as
    /// nobody in particular. Where a link fails the next one is tried, so the request has to be one that may be repeated.
    pub(super) async fn ask(&self, found: &mut Found, request: &Request) -> Result<Response, CommandError> {
        loop {
            match self.ask_once(found, request).await {
                Err(error) => fall_back(found, error, &self.progress).await?,
                answered => return answered,
            }
        }
    }

    async fn ask_once(&self, found: &mut Found, request: &Request) -> Result<Response, CommandError> {
        let station = match is_open_to_anyone(request, &found.account) {
            true => None,
            false => self.station_for(&found.account).await?,
        };
        let mut visit = match &station {
            Some(station) => station.visit(&mut found.client, &found.account, &self.progress).await?,
            None => Visit::stranger(&mut found.client, &found.account, &self.progress).await?,
        };
        Ok(visit.request(request).await?)
    }

    /// Our station, if the device is one of ours.
    ///
    /// # Errors
    /// Exit code 6 if the device's ID is one of ours, but its key is not.
    pub(super) async fn station_for(&self, account: &Account) -> Result<Option<Station>, CommandError> {
        let Some(registry) = self.registry_if_any().await? else { return Ok(None) };
        match is_ours(&registry, account).await? {
            true => Ok(Some(self.station_with(registry)?)),
            false => Ok(None),
        }
    }

    /// Our station, for `rekey` and `reset`: of a device that is ours, or that these two can mend.
    pub(super) async fn station_to_mend(&self, account: &Account) -> Result<Station, CommandError> {
        let registry = self.registry().await?;
        let known = registry.device_by_id(&account.info().device).await?;
        let key = known.as_ref().zip(account.key()).and_then(|(known, key)| known.key(key));
        match key.is_some_and(Key::is_mendable) || is_ours(&registry, account).await? {
            true => self.station_with(registry),
            false => Err(not_ours(account)),
        }
    }
}

/// Where the link to a device failed, goes on over the next one where the same device answers. Whatever was done must bear to
/// be done again.
///
/// # Errors
/// `error` itself, if it is none of the link, or if the device answers nowhere else.
pub(super) async fn fall_back(found: &mut Found, error: CommandError, progress: &Progress) -> Result<(), CommandError> {
    match error.exit() == ExitCode::Link && found.fall_back(&error, progress).await {
        true => Ok(()),
        false => Err(error),
    }
}

/// Whether a device is one of ours, by the registry.
///
/// # Errors
/// Exit code 6 if the device's ID is one of ours, but its key is not.
pub(super) async fn is_ours(registry: &Registry, account: &Account) -> Result<bool, CommandError> {
    let id = account.info().device;
    let (Some(device), Some(key)) = (registry.device_by_id(&id).await?, account.key()) else { return Ok(false) };
    match (device.settled(), device.key(key)) {
        (Some(settled), Some(key)) if settled.x == key.x => Ok(true),
        (_, Some(key)) if key.status == KeyStatus::Revoked => {
            let what_next = match key.is_mendable() {
                true => "it can be visited for `commissioner rekey` and `reset` alone, with the device in your hand.",
                false => "and by that key it never was one of your devices.",
            };
            let message = format!("the key of {id} is revoked; {what_next} `commissioner show {id}` says why");
            Err(CommandError::new(ExitCode::Conflict, message))
        }
        (Some(_), _) => Err(CommandError::new(
            ExitCode::Conflict,
            format!("{id} does not have the key that is known of it; `commissioner commission` says what that means"),
        )),
        (None, _) => Ok(false),
    }
}

/// Whether a token would make no difference.
fn is_open_to_anyone(request: &Request, account: &Account) -> bool {
    let path = request.path.split('?').next().unwrap_or_default().trim_end_matches('/');
    match path {
        "/comm" | "/.well-known/core" => true,
        "/comm/identify" => account.info().owner == SlotState::Empty,
        _ => false,
    }
}

/// For what takes a device of ours.
pub(super) fn not_ours(account: &Account) -> CommandError {
    let message = format!("{} is not one of your devices; commission it first", account.info().device);
    CommandError::new(ExitCode::Conflict, message)
}

/// Takes out what claims the same ID as others at the same time, with the alarm for each ID.
pub(super) async fn refuse_twins(devices: &mut Vec<Found>, registry: &Registry) -> Vec<(String, CommandError)> {
    let mut alarms = Vec::new();
    for Twins { device, links, .. } in discover::take_twins(devices).await {
        let mut places: Vec<_> = links.iter().map(Link::to_string).collect();
        places.sort();
        if let Err(alarm) = registry.refuse_twins(&device, places).await {
            alarms.push((device.to_string(), alarm.into()));
        }
    }
    alarms
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing;
    use commissioner::{
        client::{Client, Timers},
        link::{Datagram, Datagrams, Error, Io},
        progress::Recording,
    };

    #[test]
    fn a_target_is_a_link_or_a_device() {
        assert!(matches!("serial:/dev/ttyACM0".parse(), Ok(Subject::Link(_))));
        assert!(matches!("urn:dev:mac:0024befffe804ff1".parse(), Ok(Subject::Device(_))));
        assert!("".parse::<Subject>().is_err());
    }

    /// A link that nobody is at.
    struct Silence;

    impl Datagrams for Silence {
        fn send<'a>(&'a mut self, datagram: &'a [u8]) -> Io<'a, usize> {
            Box::pin(async { Ok(datagram.len()) })
        }

        fn receive(&mut self) -> Io<'_, Datagram> {
            Box::pin(std::future::pending::<Result<Datagram, Error>>())
        }
    }

    /// What the device refused, it would refuse over another link as well.
    #[tokio::test]
    async fn only_where_the_link_failed_another_one_is_tried() {
        let nobody: Link = "serial:/dev/ttyNONE".parse().unwrap();
        let info = testing::info(&testing::id("a"), &testing::key());
        let mut found = Found {
            link: "serial:/dev/ttyHERE".parse().unwrap(),
            client: Client::new(Box::new(Silence), Timers::SERIAL),
            account: Account::of(&info).unwrap(),
            others: vec![nobody],
        };
        let progress = Progress::new(Arc::new(Recording::default()));
        for (exit, left) in [(ExitCode::Refused, 1), (ExitCode::Conflict, 1), (ExitCode::Link, 0)] {
            let error = fall_back(&mut found, CommandError::new(exit, "why"), &progress).await.unwrap_err();
            assert_eq!((error.exit(), found.others.len()), (exit, left));
        }
    }
}
