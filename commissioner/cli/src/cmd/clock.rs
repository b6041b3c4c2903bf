//! `commissioner clock [--set-back]`: what time is believed, what follows, and the way back after a clock that was ahead.

use clap::Args as ClapArgs;
use commissioner::{
    clock::{self, rfc3339, span},
    progress::short,
    registry::{ClockView, GrantAhead, Granted, HeldAhead, Registry, Standing},
};
use serde::Serialize;

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
};

const HELP: &str = "\
Devices have no clock; what they know of the time is what was signed. So nothing is signed by a clock that is more than an hour
behind the newest signature, or more than a day ahead of it. A clock that was ahead for a while, and is right now, is believed
again with --set-back: that is an entry in the audit trail, and what was signed meanwhile stays signed. Tokens and vouchers that end
as much too late are named. `docs/storage.md` tells what devices make of it.";

/// Show what time is believed, and what follows
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// The clock was ahead, and is right now: believe it again
    #[arg(long)]
    set_back: bool,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let registry = context.registry().await?;
        let set_back_from = if self.set_back { set_back(&registry, context).await? } else { None };
        let view = registry.clock().await?;
        context.output.json(&Line::new(&view, set_back_from, context.clock_ok));
        context.output.text(text(&view, context.clock_ok));
        for (device, held) in &view.devices {
            let line = DeviceLine { device: device.as_str(), until: rfc3339(held.until), follows: follows(held) };
            context.output.result(&line, line.text());
        }
        if !view.devices.is_empty() {
            context.output.text(
                "all else works there as ever, and that too after the time named; `reset` and `commission` begin anew for the owner",
            );
        }
        for grant in &view.grants {
            context.output.result(&GrantLine::new(grant), grant_text(grant));
        }
        Ok(())
    }
}

/// Returns what was believed before, if anything was changed.
async fn set_back(registry: &Registry, context: &Context) -> Result<Option<u64>, CommandError> {
    // What is believed then could hardly be right, and the next right clock would be ahead.
    if let Some(doubt) = clock::doubt(registry.now()).filter(|_| !context.clock_ok) {
        let message = format!("{doubt}; set the clock first, or repeat with --clock-ok if it is right");
        return Err(CommandError::new(ExitCode::Conflict, message));
    }
    let before = registry.set_clock_back().await?;
    context.output.text(match before {
        Some(before) => format!("the clock is believed from now on, and {} is not any more", rfc3339(before)),
        None => "the clock is not behind what is believed; nothing was changed".to_owned(),
    });
    Ok(before)
}

/// The clock in `--json`.
#[derive(Debug, Serialize)]
struct Line {
    clock: String,
    /// The newest time that a signature bears.
    believed: Option<String>,
    standing: Standing,
    /// What the next signature would bear; none if nothing is signed.
    signs_with: Option<String>,
    /// What tokens and vouchers bear at least.
    min_iat: Option<String>,
    /// How many devices hold a time that is yet to come; each has a line of its own.
    devices_ahead: usize,
    /// How many tokens and vouchers bear such a time, and end as much later than was meant; each has a line of its own.
    grants_ahead: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_back_from: Option<String>,
}

impl Line {
    fn new(view: &ClockView, set_back_from: Option<u64>, clock_ok: bool) -> Self {
        let signs_with = match view.standing {
            Standing::Believed => Some(view.now),
            Standing::Ahead if clock_ok => Some(view.now),
            Standing::LittleBehind => view.believed,
            Standing::Ahead | Standing::Behind => None,
        };
        Self {
            clock: rfc3339(view.now),
            believed: view.believed.map(rfc3339),
            standing: view.standing,
            signs_with: signs_with.map(rfc3339),
            min_iat: view.min_iat.map(rfc3339),
            devices_ahead: view.devices.len(),
            grants_ahead: view.grants.len(),
            set_back_from: set_back_from.map(rfc3339),
        }
    }
}

/// What follows for a device that holds a time that is yet to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Follows {
    StationTokensRefused,
    VouchersCountFromThere,
    FactoryCertificateNewer,
}

/// A device in `--json`.
#[derive(Debug, Serialize)]
struct DeviceLine<'a> {
    device: &'a str,
    /// The time that it holds.
    until: String,
    follows: Vec<Follows>,
}

fn follows(held: &HeldAhead) -> Vec<Follows> {
    let mut follows = vec![Follows::StationTokensRefused, Follows::VouchersCountFromThere];
    follows.extend(held.made.then_some(Follows::FactoryCertificateNewer));
    follows
}

impl DeviceLine<'_> {
    fn text(&self) -> String {
        let said = self.follows.iter().map(|follows| match follows {
            Follows::StationTokensRefused => "refuses tokens of stations elsewhere that end before that",
            Follows::VouchersCountFromThere => "the days of vouchers for it count from there",
            Follows::FactoryCertificateNewer => "its next certificate of its maker bears a later time",
        });
        format!("{} holds the time {}: {}", self.device, self.until, said.collect::<Vec<_>>().join("; "))
    }
}

/// A token or a voucher in `--json`.
#[derive(Debug, Serialize)]
struct GrantLine<'a> {
    /// The thumbprint of the station's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_of: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    voucher_for: Option<&'a str>,
    /// The thumbprint of the new owner's issuer key.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    issued_at: String,
    expires_at: String,
}

impl<'a> GrantLine<'a> {
    fn new(grant: &'a GrantAhead) -> Self {
        let (token_of, voucher_for, owner) = match &grant.what {
            Granted::Token { station } => (Some(station.as_str()), None, None),
            Granted::Voucher { device, owner } => (None, Some(device.as_str()), Some(owner.as_str())),
        };
        let (issued_at, expires_at) = (rfc3339(grant.issued_at), rfc3339(grant.expires_at));
        Self { token_of, voucher_for, owner, issued_at, expires_at }
    }
}

fn grant_text(grant: &GrantAhead) -> String {
    let signed = format!("was signed by {}, and is good until {}", rfc3339(grant.issued_at), rfc3339(grant.expires_at));
    match &grant.what {
        Granted::Token { station } => {
            let station = short(station);
            format!(
                "a token of station {station} {signed}; `commissioner station revoke {station}` ends it, by the next list"
            )
        }
        Granted::Voucher { device, owner } => format!(
            "a voucher for {device}, for the owner with key {}, {signed}; the next claim of the device, or a reset, ends it",
            short(owner)
        ),
    }
}

fn text(view: &ClockView, clock_ok: bool) -> String {
    let mut lines = vec![format!("the clock says {}", rfc3339(view.now))];
    lines.extend(
        clock::doubt(view.now)
            .map(|_| format!("that is unlikely to be right: this program was made on {}", rfc3339(clock::BUILT))),
    );
    lines.push(match view.believed {
        Some(believed) if believed > view.now => format!(
            "believed is {}, the time of the newest signature: {} later",
            rfc3339(believed),
            span(believed - view.now)
        ),
        Some(believed) => format!("believed is {}, the time of the newest signature", rfc3339(believed)),
        None => format!("nothing was signed since the registry was made, at {}", rfc3339(view.beginning)),
    });
    lines.push(
        match view.standing {
            Standing::Believed => "signatures bear the clock's time",
            Standing::Ahead if clock_ok => "signatures bear the clock's time, by --clock-ok",
            Standing::LittleBehind => "signatures bear the believed time, until the clock has caught up",
            Standing::Behind => {
                "nothing is signed. If the clock is wrong now, set it; if it was ahead then, and is right now, \
                 `commissioner clock --set-back` believes it again"
            }
            Standing::Ahead => {
                "nothing is signed, since more than a day went by. If the clock is wrong now, set it; if it is right, \
                 --clock-ok signs with it"
            }
        }
        .to_owned(),
    );
    lines.extend(view.min_iat.map(|min_iat| {
        format!("tokens and vouchers bear {} at least: by their list, devices refuse older ones", rfc3339(min_iat))
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use cbor_schemas::DeviceId;
    use clap::Parser as _;
    use serde_json::Value;

    use super::*;
    use crate::{
        cmd::{Cli, init},
        output::{Output, tests::Shared},
        testing,
    };
    use commissioner::{
        clock::Clock,
        registry::{Slot, StationScope, VoucherRequest},
    };

    /// A state directory, and what commands say in it.
    struct Desk {
        context: Context,
        said: Shared,
        _state: tempfile::TempDir,
    }

    impl Desk {
        fn new(json: bool, now: u64) -> Self {
            let (state, said) = (tempfile::tempdir().unwrap(), Shared::default());
            let output = Output::new(json, Box::new(said.clone()));
            Self { context: Context::on_desk(state.path(), output, Clock::manual(now)), said, _state: state }
        }

        async fn clock(&self, set_back: bool) -> Result<String, CommandError> {
            self.said.0.lock().unwrap().clear();
            Args { set_back }.run(&self.context).await?;
            Ok(String::from_utf8(self.said.0.lock().unwrap().clone()).unwrap())
        }

        async fn lines(&self, set_back: bool) -> Vec<Value> {
            let said = self.clock(set_back).await.unwrap();
            said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }

        /// Signs something for a device of ours.
        async fn sign(&self, device: DeviceId) -> Result<(), CommandError> {
            let registry = self.context.registry().await?;
            testing::commission(&registry, &device).await?;
            let voucher = VoucherRequest {
                device,
                slot: Slot::Owner,
                owner: testing::key(),
                lifetime: None,
                claim_counter: None,
            };
            registry.grant_voucher(&voucher).await?;
            Ok(())
        }
    }

    #[tokio::test]
    async fn both_times_are_shown_and_the_way_back() {
        const NOW: u64 = testing::NOON;
        for json in [false, true] {
            let desk = Desk::new(json, NOW + 9 * 3_600);
            init::initialise(&desk.context.state_path().unwrap(), desk.context.clock.clone()).await.unwrap();
            desk.sign(testing::id("a")).await.unwrap();
            desk.context.clock.set(NOW);
            let refused = desk.sign(testing::id("b")).await.unwrap_err();
            assert_eq!(refused.exit(), ExitCode::Conflict);
            match json {
                false => {
                    let said = desk.clock(false).await.unwrap();
                    for words in [
                        "the clock says 2026-11-22T15:24:00Z",
                        "believed is 2026-11-23T00:24:00Z, the time of the newest signature: 9 h later",
                        "`commissioner clock --set-back`",
                        "urn:dev:ops:32473-test-a holds the time 2026-11-23T00:24:00Z: refuses tokens of stations",
                    ] {
                        assert!(said.contains(words), "{words}: {said}");
                    }
                    assert!(desk.clock(true).await.unwrap().contains("signatures bear the clock's time"));
                    assert!(desk.clock(true).await.unwrap().contains("nothing was changed"));
                }
                true => {
                    let before = desk.lines(false).await;
                    assert_eq!(before.len(), 2);
                    assert_eq!((&before[0]["standing"], &before[0]["signs_with"]), (&"behind".into(), &Value::Null));
                    assert_eq!(before[0]["believed"], "2026-11-23T00:24:00Z");
                    assert_eq!(
                        (&before[1]["device"], &before[1]["until"]),
                        (&"urn:dev:ops:32473-test-a".into(), &before[0]["believed"])
                    );
                    let after = desk.lines(true).await;
                    assert_eq!(
                        (&after[0]["standing"], &after[0]["signs_with"]),
                        (&"believed".into(), &"2026-11-22T15:24:00Z".into())
                    );
                    assert_eq!(after[0]["set_back_from"], "2026-11-23T00:24:00Z");
                    assert_eq!(desk.lines(true).await[0].get("set_back_from"), None);
                }
            }
            desk.sign(testing::id("b")).await.unwrap();
        }
    }

    /// With a clock that starts in 1970, or one that was set to 2040, whoever makes a registry is told.
    #[tokio::test]
    async fn init_warns_of_a_clock_that_is_not_likely_to_be_right() {
        for (now, warned) in
            [(86_400, true), (testing::NOON, false), (clock::unix_seconds("2040-01-01T00:00:00Z").unwrap(), true)]
        {
            let desk = Desk::new(true, now);
            for created in [true, false] {
                desk.said.0.lock().unwrap().clear();
                let init = Cli::try_parse_from(["commissioner", "init"]).unwrap();
                init.command.run(&desk.context).await.unwrap();
                let said: Value = serde_json::from_slice(&desk.said.0.lock().unwrap()).unwrap();
                assert_eq!((&said["created"], said["warning"].is_string()), (&created.into(), warned), "{said}");
            }
        }
    }

    /// What was signed meanwhile goes on being good for as long as the clock was ahead.
    #[tokio::test]
    async fn what_ends_too_late_is_told_when_the_clock_is_set_back() {
        for json in [false, true] {
            let desk = Desk::new(json, testing::NOON + 9 * 3_600);
            init::initialise(&desk.context.state_path().unwrap(), desk.context.clock.clone()).await.unwrap();
            desk.sign(testing::id("a")).await.unwrap();
            let registry = desk.context.registry().await.unwrap();
            let (station, owner) = (testing::key(), testing::key());
            registry.grant_station(&station, StationScope::Everything, 86_400).await.unwrap();
            let voucher = VoucherRequest {
                device: testing::id("a"),
                slot: Slot::Owner,
                owner,
                lifetime: Some(86_400),
                claim_counter: None,
            };
            registry.grant_voucher(&voucher).await.unwrap();
            desk.context.clock.set(testing::NOON);
            let (station, owner) = (station.thumbprint().to_string(), owner.thumbprint().to_string());
            if json {
                let lines = desk.lines(true).await;
                assert_eq!((lines.len(), &lines[0]["grants_ahead"]), (4, &2.into()), "{lines:?}");
                assert_eq!(
                    lines[2..],
                    [
                        serde_json::json!({
                            "token_of": station, "issued_at": "2026-11-23T00:24:00Z", "expires_at": "2026-11-24T00:24:00Z"
                        }),
                        serde_json::json!({
                            "voucher_for": "urn:dev:ops:32473-test-a", "owner": owner,
                            "issued_at": "2026-11-23T00:24:00Z", "expires_at": "2026-11-24T00:24:00Z"
                        }),
                    ]
                );
                continue;
            }
            let said = desk.clock(true).await.unwrap();
            let (station, owner) = (&station[..12], &owner[..12]);
            for words in [
                format!(
                    "a token of station {station} was signed by 2026-11-23T00:24:00Z, and is good until 2026-11-24T00:24:00Z"
                ),
                format!("`commissioner station revoke {station}`"),
                format!("a voucher for urn:dev:ops:32473-test-a, for the owner with key {owner}, was signed by"),
            ] {
                assert!(said.contains(&words), "{words}: {said}");
            }
        }
    }

    /// What is believed then could hardly be right.
    #[tokio::test]
    async fn a_clock_that_is_not_likely_to_be_right_is_not_set_back_to() {
        let mut desk = Desk::new(false, testing::NOON);
        init::initialise(&desk.context.state_path().unwrap(), desk.context.clock.clone()).await.unwrap();
        desk.sign(testing::id("a")).await.unwrap();
        desk.context.clock.set(86_400);
        let refused = desk.clock(true).await.unwrap_err();
        assert!(refused.to_string().contains("before this program was made"), "{refused}");
        assert!(desk.clock(false).await.unwrap().contains("unlikely to be right"));
        desk.context.clock_ok = true;
        desk.clock(true).await.unwrap();
        desk.sign(testing::id("b")).await.unwrap();
    }
}
