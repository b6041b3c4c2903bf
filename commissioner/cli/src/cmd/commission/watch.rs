//! `commission --watch`: every device that comes along, once.
//!
//! Opening a serial port may reset the board, which then has another nonce, and what is at a port may be none of our
//! business. So a port is opened once for each time that something is plugged in there, whatever came of it. To ask on a
//! network disturbs nobody: that is done all the time, and a device is visited again if it was away, or has another key.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cbor_schemas::DeviceId;
use commissioner::{
    client,
    discover::{self, Found, Sighting},
    link::{
        self, Link, Plug,
        usb::{self, Blocked},
    },
    visit,
};
use protocol::key::PublicKey;
use tokio::time::{Instant, interval};

use super::Failure;
use crate::{
    cmd::{commissioning::Work, context::Context, exit::ExitCode, reach::refuse_twins},
    stop::Stop,
};

/// How often devices are looked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// A device on a network that did not answer so often is away.
const MISSES: u32 = 3;
/// When a device is visited again whose link failed in the middle; after twice as long each time.
const AGAIN: Duration = Duration::from_secs(2);
/// How often that is done.
const MOST_FAILURES: u32 = 5;

/// Commissions whatever comes along, until told to stop.
pub(super) async fn watch(work: &Work, links: &[Link], context: &Context, stop: &mut Stop) {
    let (places, twins, blockades) = Default::default();
    let mut watch = Watch { work, context, places, twins, blockades };
    work.progress.working("waiting for devices; stop with Ctrl-C");
    let looking = async {
        let mut looks = interval(INTERVAL);
        loop {
            looks.tick().await;
            if links.is_empty() {
                watch.blocked(usb::blocked());
            }
            let links = if links.is_empty() { discover::links() } else { links.to_vec() };
            watch.look(link::distinct(links)).await;
        }
    };
    tokio::select! {
        () = stop.requested() => {}
        () = looking => {}
    }
}

struct Watch<'a> {
    work: &'a Work,
    context: &'a Context,
    places: BTreeMap<Link, Place>,
    /// IDs that several devices claim, and of which that was said.
    twins: BTreeSet<String>,
    blockades: Blockades,
}

/// What is plugged in and cannot be reached, and at how many looks in a row.
#[derive(Default)]
struct Blockades(BTreeMap<Blocked, u32>);

impl Blockades {
    /// What is to be said, once: what was so at two looks, for a driver may have been on its way at the first one.
    fn news(&mut self, now: Vec<Blocked>) -> Vec<Blocked> {
        self.0.retain(|blocked, _| now.contains(blocked));
        for blocked in now {
            let looks = self.0.entry(blocked).or_default();
            *looks = looks.saturating_add(1);
        }
        self.0.iter().filter(|(_, looks)| **looks == 2).map(|(blocked, _)| blocked.clone()).collect()
    }
}

/// What is known of a link.
#[derive(Default)]
struct Place {
    /// What is plugged in, if it is a serial port.
    plug: Option<Plug>,
    /// Whether that was seen to.
    is_settled: bool,
    /// The device that was visited here, and its key.
    visited: Option<(DeviceId, Option<PublicKey>)>,
    /// How often it did not answer since.
    missed: u32,
    /// How often its link failed in the middle of a visit.
    failures: u32,
    /// When to visit it again after that.
    not_before: Option<Instant>,
    /// What was said of the link last.
    said: String,
}

impl Place {
    /// Takes note of what is plugged in now; whether the link is to be looked at.
    fn is_due(&mut self, link: &Link) -> bool {
        let plug = link.plug();
        if plug != self.plug {
            *self = Self { plug, said: std::mem::take(&mut self.said), ..Self::default() };
        }
        let is_waiting = self.not_before.is_some_and(|time| Instant::now() < time);
        !is_waiting && (!link.is_serial() || self.plug.is_some() && !self.is_settled)
    }

    fn is_news(&self, found: &Found) -> bool {
        self.visited.as_ref() != Some(&identity(found))
    }

    /// Its device answered, and is going to be visited.
    fn settle(&mut self, found: &Found) {
        (self.is_settled, self.missed, self.visited) = (true, 0, Some(identity(found)));
    }

    /// The link failed in the middle of the visit.
    fn try_again(&mut self) {
        self.failures += 1;
        if self.failures <= MOST_FAILURES {
            (self.is_settled, self.visited) = (false, None);
            self.not_before = Some(Instant::now() + AGAIN * 2_u32.pow(self.failures - 1));
        }
    }
}

fn identity(found: &Found) -> (DeviceId, Option<PublicKey>) {
    (found.account.info().device, found.account.key().copied())
}

impl Watch<'_> {
    /// Looks once at all links that are due.
    async fn look(&mut self, links: Vec<Link>) {
        self.places.retain(|link, place| links.contains(link) || !link.is_serial() && place.missed <= MISSES);
        let mut due = Vec::new();
        for link in links {
            let place = self.places.entry(link.clone()).or_default();
            if place.is_due(&link) {
                if link.is_serial() {
                    self.work.progress.on_link(&link).working("looking for a device");
                }
                due.push(link);
            } else if link.is_serial() && place.plug.is_none() {
                self.say(&link, "nothing is plugged in there");
            }
        }
        let mut sightings = discover::survey(due).await;
        sightings.extend(discover::survey(self.claimed_elsewhere(&sightings)).await);
        let news = self.take_note(&sightings);

        let (mut devices, failures) = discover::merge(sightings);
        for (link, error) in failures {
            self.nobody(&link, &error);
        }
        for (device, error) in refuse_twins(&mut devices, &self.work.station.registry).await {
            if self.twins.insert(device.clone()) {
                self.context.output.result(&Failure { link: &device, error: error.to_string() }, &error);
            }
        }
        for found in devices {
            if found.links().all(|link| news.contains(link)) {
                self.visit(found).await;
            }
        }
    }

    /// Serial ports with a device that somebody new claims to be on another link: it may be the same one, or its twin.
    fn claimed_elsewhere(&self, sightings: &[Sighting]) -> Vec<Link> {
        let is_news = |link, found: &Found| self.places.get(link).is_none_or(|place| place.is_news(found));
        let claims: Vec<_> = sightings
            .iter()
            .filter_map(|Sighting { link, found }| found.as_ref().ok().filter(|found| is_news(link, found)))
            .map(|found| found.account.info().device)
            .collect();
        let is_claimed = |place: &Place| place.visited.as_ref().is_some_and(|(device, _)| claims.contains(device));
        let looked_at = |link: &Link| sightings.iter().any(|sighting| sighting.link == *link);
        let places =
            self.places.iter().filter(|(link, place)| link.is_serial() && is_claimed(place) && !looked_at(link));
        places.map(|(link, _)| link.clone()).collect()
    }

    /// Takes note of who answers; returns the links where that was not known before.
    fn take_note(&mut self, sightings: &[Sighting]) -> BTreeSet<Link> {
        let mut news = BTreeSet::new();
        for (link, place) in &mut self.places {
            place.missed = place.missed.saturating_add(1);
            if !link.is_serial() && place.missed > MISSES {
                place.visited = None;
            }
        }
        for Sighting { link, found } in sightings {
            let Ok(found) = found else { continue };
            let place = self.places.entry(link.clone()).or_default();
            if place.is_news(found) {
                news.insert(link.clone());
            }
            place.settle(found);
        }
        news
    }

    /// Nobody is at a link that we could talk to.
    fn nobody(&mut self, link: &Link, error: &visit::Error) {
        let may_pass = matches!(error, visit::Error::Client(client::Error::Link(error)) if error.may_pass());
        if !link.is_serial() || may_pass {
            return self.say(link, &error.to_string());
        }
        self.places.entry(link.clone()).or_default().is_settled = true;
        self.say(link, &format!("{error}; plug it in anew to have it tried again"));
    }

    /// What is plugged in, and no link leads there.
    fn blocked(&mut self, now: Vec<Blocked>) {
        for blocked in self.blockades.news(now) {
            let failure = Failure { link: &format!("USB port {}", blocked.place), error: blocked.obstacle.to_string() };
            self.context.output.result(&failure, &blocked);
        }
    }

    async fn visit(&mut self, found: Found) {
        let links: Vec<_> = found.links().cloned().collect();
        let shown = match self.work.commission(found).await {
            Ok(done) => done.show(self.context, &self.work.station).await,
            Err(error) => Err(error),
        };
        let Err(error) = shown else { return };
        if error.exit() == ExitCode::Link {
            for link in &links {
                self.places.entry(link.clone()).or_default().try_again();
            }
        }
        if let Some(link) = links.first() {
            self.say(link, &error.to_string());
        }
    }

    /// Says how things stand at a link, unless that was the last thing said.
    fn say(&mut self, link: &Link, what: &str) {
        let place = self.places.entry(link.clone()).or_default();
        if place.said != what {
            what.clone_into(&mut place.said);
            let name = link.to_string();
            self.context.output.result(&Failure { link: &name, error: what.to_owned() }, format!("{name}: {what}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commissioner::link::usb::Obstacle;

    #[test]
    fn what_is_in_the_way_is_said_once_and_not_before_it_stays() {
        let blocked = |driver| {
            let obstacle = Obstacle::NoDriver { function: "network", driver };
            Blocked { place: "3-1".to_owned(), serial: None, obstacle }
        };
        let (acm, ncm) = (blocked("cdc_acm"), blocked("cdc_ncm"));
        let mut blockades = Blockades::default();
        let mut news = |now: &[&Blocked]| blockades.news(now.iter().copied().cloned().collect());
        assert_eq!(news(&[&acm, &ncm]), []);
        assert_eq!(news(&[&ncm]), std::slice::from_ref(&ncm), "a driver came for the other one");
        assert_eq!((news(&[&ncm]), news(&[])), (vec![], vec![]));
        // Plugged in again.
        assert_eq!((news(&[&ncm]), news(&[&ncm]), news(&[&ncm])), (vec![], vec![ncm.clone()], vec![]));
    }
}
