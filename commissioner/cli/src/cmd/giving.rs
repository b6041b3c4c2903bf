//! The list, given to one device.

use std::fmt;

use cbor_schemas::DeviceId;
use commissioner::{
    discover::Found,
    distribute::{self, Distributed},
    progress::Progress,
    registry::List,
    station::Station,
    text,
};
use serde::Serialize;

use super::{exit::CommandError, reach::fall_back};

/// Gives the list to one device, over whichever of its links holds: it may be given twice. `claimed_now`: nobody owned the
/// device until a moment ago.
pub(super) async fn give_list(
    mut found: Found,
    station: &Station,
    list: &List,
    claimed_now: bool,
    progress: &Progress,
) -> Result<Given, CommandError> {
    loop {
        let progress = progress.on_link(&found.link);
        let Found { client, account, .. } = &mut found;
        match distribute::distribute(client, account, station, list, claimed_now, &progress).await {
            Ok(outcome) => return Ok(Given::new(found.account.info().device, list, outcome)),
            Err(error) => fall_back(&mut found, error.into(), &progress).await?,
        }
    }
}

/// A device that holds the list.
#[derive(Debug, Serialize)]
pub(super) struct Given {
    device: String,
    list_version: u64,
    mode: &'static str,
    keys: usize,
    /// Whether it held it before.
    changed: bool,
}

impl Given {
    fn new(device: DeviceId, list: &List, outcome: Distributed) -> Self {
        Self {
            device: device.to_string(),
            list_version: list.version,
            mode: list.mode.as_str(),
            keys: list.keys,
            changed: outcome == Distributed::Installed,
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, list_version, mode, keys, changed } = self;
        let verb = if *changed { "holds" } else { "held already" };
        let keys = text::count(*keys, "key", "keys");
        write!(f, "{device} {verb} version {list_version} of the list ({mode}, {keys})")
    }
}
