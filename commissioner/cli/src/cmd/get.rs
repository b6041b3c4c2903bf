//! `commissioner get PATH [LINK]`: one protected request, and its payload as people read it.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use commissioner::client::{Client, Code, Request, Response};
use commissioner::discover::{self, Found};
use commissioner::files;
use commissioner::link::Link;
use commissioner::progress::Step;
use commissioner::session::{self, Expected, Session, Transfer};
use commissioner::visit::{self};
use protocol::edhoc::Ccs;
use protocol::key::PrivateKey;
use rand_core::OsRng;

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
    reach::fall_back,
    resource::parse_path,
};

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

impl Context {
    async fn ask_plain(&self, found: &mut Found, request: &Request) -> Result<Response, CommandError> {
        loop {
            match found.client.request(request).await {
                Err(error) => fall_back(found, error.into(), &self.progress).await?,
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
}
