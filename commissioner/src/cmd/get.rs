//! `commissioner get PATH [LINK]`: one protected request, and its payload as people read it.

use std::fmt;
use std::path::{Path, PathBuf};

use cbor_schemas::SlotState;
use clap::Args as ClapArgs;
use protocol::edhoc::Ccs;
use protocol::key::PrivateKey;
use rand_core::OsRng;
use serde::Serialize;

use super::Context;
use crate::client::{Client, Code, Request, Response};
use crate::cmd::exit::{CommandError, ExitCode};
use crate::discover::{self, Found};
use crate::edn;
use crate::files;
use crate::link::Link;
use crate::progress::Step;
use crate::registry::{self, KeyStatus, Registry};
use crate::session::{self, Expected, Session, Transfer};
use crate::state_dir::{self, StateDir};
use crate::visit::{self, Account, Station, Visit};

/// Longest credential that is read, in bytes, as hexadecimal digits.
const MAX_CREDENTIAL: u64 = 64 * 1024;

const HELP: &str = "\
Any server that speaks EDHOC can be asked, if LINK is given: one that is no commissioning device says its credential itself, and
what is shown is its word, whoever it is; or FILE has its credential, a CWT Claims Set {8: {1: COSE_Key}} as CBOR or as
hexadecimal digits, and then it is who answers.";

/// GET a resource under EDHOC and show its payload as CBOR diagnostic notation
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// The resource, such as /comm/owner
    #[arg(value_parser = parse_path)]
    path: String,
    /// Where the device is; left out, exactly one device must answer
    link: Option<Link>,
    /// Ask without protection: anybody may answer
    #[arg(long)]
    plain: bool,
    /// The credential of a server that is no commissioning device
    #[arg(long, value_name = "FILE", requires = "link", conflicts_with = "plain")]
    peer: Option<PathBuf>,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let request = Request::get(&self.path);
        let (whom, response) = match (&self.link, &self.peer) {
            (Some(link), Some(peer)) => {
                let expected = Expected::Credential(read_credential(peer)?);
                ("server", context.ask_server(link, expected, &request).await?)
            }
            (Some(link), None) if self.plain => ("server", open(link).await?.request(&request).await?),
            (Some(link), None) => match discover::at(link).await {
                // Something speaks CoAP there.
                Err(visit::Error::NoDevice(_)) => {
                    ("server", context.ask_server(link, Expected::Anyone, &request).await?)
                }
                found => ("device", context.ask(&mut context.sighted(found?), &request).await?),
            },
            (None, _) => {
                let mut found = context.reach(None).await?;
                let response = match self.plain {
                    true => context.ask_plain(&mut found, &request).await?,
                    false => context.ask(&mut found, &request).await?,
                };
                ("device", response)
            }
        };
        context.show(whom, response)
    }
}

/// Somebody who answers a CoAP ping.
async fn open(link: &Link) -> Result<Client, CommandError> {
    let mut client = Client::open_to_server(link).await?;
    client.probe().await?;
    Ok(client)
}

/// A CCS, or a `kccs` (RFC 9528 section 3.5.3.2) that holds one; in CBOR, or in hexadecimal digits.
fn read_credential(path: &Path) -> Result<Ccs, CommandError> {
    let broken = |why: &dyn fmt::Display| {
        CommandError::usage(format!("{}: {why}; it has to be a CWT Claims Set {{8: {{1: COSE_Key}}}}", path.display()))
    };
    let bytes = files::read_input(path, MAX_CREDENTIAL).map_err(|error| broken(&error))?;
    let bytes = hex::decode(bytes.trim_ascii()).unwrap_or(bytes);
    let ccs = bytes.strip_prefix(&[0xa1, 0x0e]).unwrap_or(&bytes);
    Ccs::parse(ccs).map_err(|error| broken(&error))
}

/// A path with a leading slash, of segments and parameters that CoAP can carry. `slots/NAME` is a value of the product.
pub(super) fn parse_path(text: &str) -> Result<String, String> {
    if text.starts_with("slots/") {
        return parse_path(&format!("/comm/{text}"));
    }
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let too_long = path.split('/').chain(query.split('&')).any(|part| part.len() > 255);
    match path.starts_with('/') && !too_long && !text.contains(char::is_control) {
        true => Ok(text.to_owned()),
        false => {
            Err("a path begins with a slash, and none of its parts has more than 255 bytes: /comm/owner".to_owned())
        }
    }
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

    fn sighted(&self, found: Found) -> Found {
        self.progress.step(found.account.step());
        found
    }

    async fn ask_plain(&self, found: &mut Found, request: &Request) -> Result<Response, CommandError> {
        loop {
            match found.client.request(request).await {
                Err(error) => found.fall_back(error.into(), &self.progress).await?,
                Ok(response) => return Ok(response),
            }
        }
    }

    /// Asks whoever speaks EDHOC at `link`, as nobody in particular.
    async fn ask_server(&self, link: &Link, expected: Expected, request: &Request) -> Result<Response, CommandError> {
        self.progress.working("asking the server to prove its key");
        let (mut client, throwaway) = (open(link).await?, PrivateKey::generate(&mut OsRng));
        let established = Session::establish(&mut client, &throwaway, Transfer::ByValue, expected.clone()).await;
        let mut session = established.map_err(|error| match error {
            session::Error::NoEdhoc(refusal) => CommandError::new(
                ExitCode::NoDevice,
                format!("what answers is no commissioning device, and has no EDHOC ({refusal}); --plain asks without"),
            ),
            error => error.into(),
        })?;
        let (response, key) = match session.request(request).await {
            // It does not know the option by which message_3 goes with a request (RFC 9668).
            Err(session::Error::Unprotected(refusal)) if refusal.code == Code::BAD_OPTION => {
                let again = Session::establish_separately(&mut client, &throwaway, Transfer::ByValue, expected);
                let mut session = again.await?;
                (session.request(request).await?, *session.peer())
            }
            response => (response?, *session.peer()),
        };
        self.progress.step(Step::ServerAuthenticated { thumbprint: key.thumbprint().to_string() });
        Ok(response)
    }

    /// Asks a device under protection: as its station where the device is ours and the request needs that, else as
    /// nobody in particular. Where a link fails the next one is tried, so the request has to be one that may be repeated.
    pub(super) async fn ask(&self, found: &mut Found, request: &Request) -> Result<Response, CommandError> {
        loop {
            match self.ask_once(found, request).await {
                Err(error) => found.fall_back(error, &self.progress).await?,
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
            Some(station) => Visit::station(&mut found.client, &found.account, station, &self.progress).await?,
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

    /// Shows a response of a device or a server, as a result if it is one and as an error (exit code 5) if it is a refusal.
    pub(super) fn show(&self, whom: &str, response: Response) -> Result<(), CommandError> {
        let refused = |refusal| CommandError::new(ExitCode::Refused, format!("the {whom} refused with {refusal}"));
        let answer = Answer::new(&response.success().map_err(refused)?);
        self.output.result(&answer, &answer);
        Ok(())
    }

    /// The registry, or none where `init` was never run: strangers' devices can be asked all the same.
    pub(super) async fn registry_if_any(&self) -> Result<Option<Registry>, CommandError> {
        let dir = match StateDir::open_as(&self.state_path()?, self.protection) {
            Err(state_dir::Error::Missing(_)) => return Ok(None),
            dir => dir?,
        };
        match self.open(&dir).await {
            Err(registry::Error::NotInitialised(_)) => Ok(None),
            registry => Ok(Some(registry?)),
        }
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

/// What a device answered.
#[derive(Debug, Serialize)]
struct Answer {
    code: String,
    content_format: Option<u16>,
    /// As people read it.
    payload: String,
    payload_hex: String,
}

impl Answer {
    fn new(response: &Response) -> Self {
        Self {
            code: response.code.to_string(),
            content_format: response.content_format,
            payload: edn::show(&response.payload, response.content_format),
            payload_hex: hex::encode(&response.payload),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.payload.is_empty() { &self.code } else { &self.payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_with_a_slash() {
        for good in ["/comm", "/", "/comm/owner", "/.well-known/core?rt=core.edhoc"] {
            assert_eq!(parse_path(good).as_deref(), Ok(good));
        }
        assert_eq!(parse_path("slots/sender-id").as_deref(), Ok("/comm/slots/sender-id"));
        for bad in [
            "",
            "slots",
            "comm",
            "serial:/dev/ttyACM0",
            "/a\nb",
            &format!("/{}", "x".repeat(256)),
            &format!("/a?{}", "x".repeat(256)),
        ] {
            assert!(parse_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_without_payload_shows_its_code() {
        let answer = |payload: &[u8]| {
            Answer::new(&Response {
                code: crate::client::Code::CHANGED,
                content_format: Some(60),
                payload: payload.into(),
                max_age: std::time::Duration::ZERO,
            })
        };
        assert_eq!(answer(b"").to_string(), "2.04 Changed");
        assert_eq!(answer(b"\xa1\x01\x02").to_string(), "{1: 2}");
        assert_eq!(
            serde_json::to_string(&answer(b"\x01")).unwrap(),
            r#"{"code":"2.04 Changed","content_format":60,"payload":"1","payload_hex":"01"}"#
        );
    }
}
