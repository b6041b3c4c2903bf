//! `commissioner station new|list|revoke|requests|install`: machines that act for an issuer whose key stays elsewhere.

use std::{fmt, path::PathBuf};

use cbor_schemas::{Kind, Sign1};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use commissioner::{
    clock::rfc3339,
    files::{self, Readers},
    keys::Anchor,
    registry::{self, StationScope, StationToken},
    station::InstalledToken,
    text,
};
use protocol::key::PublicKey;
use serde::Serialize;

use super::{
    context::Context,
    exchange::{Answer, read},
    exit::CommandError,
};

/// Longest file that is taken, in bytes.
const HOUR: u64 = 60 * 60;

const HELP: &str = "\
A station begins with `commissioner init --issuer KEY`, which prints the station's key. At the issuer's, `station new` makes a
token for that key; at the station, `station install` takes it. What the station cannot sign becomes a request there: `station
requests` writes them, `issuer sign` answers them where the issuer's key is, and `station install` takes the answers.";

/// Manage the stations that may act for this issuer
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Let a station act for this issuer, for some hours
    New(New),
    /// List the tokens of stations
    List,
    /// Revoke a station's tokens; the next `distribute` tells the devices
    Revoke {
        /// Its key, or the beginning of the key's thumbprint
        station: String,
    },
    /// At a station: write what is to be signed where the issuer's key is
    Requests {
        /// Where to write it [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// At a station: take a token, a signed list, or the answers to requests
    Install {
        /// What `station new`, `export --format signed-list` or `issuer sign` wrote
        file: PathBuf,
    },
}

#[derive(Debug, ClapArgs)]
struct New {
    /// The station's key: 64 hex digits, as `init --issuer` prints them there
    key: Anchor,
    /// What it may do
    #[arg(long, value_enum, default_value_t = Scope::Commission)]
    scope: Scope,
    /// For how long
    #[arg(long, value_name = "HOURS", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=720))]
    hours: u16,
    /// Where to write the token
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// Install certificates
    Commission,
    /// Put the list on devices
    Distribute,
    /// All that an owner's own station may
    Everything,
}

impl From<Scope> for StationScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Commission => Self::Commission,
            Scope::Distribute => Self::Distribute,
            Scope::Everything => Self::Everything,
        }
    }
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        match self.action {
            Action::New(new) => new.run(context).await,
            Action::List => list(context).await,
            Action::Revoke { station } => revoke(&station, context).await,
            Action::Requests { output } => requests(output, context).await,
            Action::Install { file } => install(file, context).await,
        }
    }
}

impl New {
    async fn run(self, context: &Context) -> Result<(), CommandError> {
        let (registry, issuer) = (context.registry().await?, context.issuer()?);
        issuer.must_sign()?;
        if self.key.0.cose_key() == issuer.anchor() {
            return Err(CommandError::usage(
                "that is the issuer's key; give the one that `init --issuer` prints at the station",
            ));
        }
        let seconds = u64::from(self.hours) * HOUR;
        let (token, grant) = registry.grant_station(&self.key.0, self.scope.into(), seconds).await?;
        let object = issuer.station_token(&grant)?;
        registry.station_signed(&token, &object).await?;
        files::replace(&self.output, Readers::Anyone, &object).map_err(|error| {
            CommandError::unwritten(&error, format!("{error}; make another token, to a place that you can write to"))
        })?;
        let shown = Shown::new(&token, registry.now());
        context.output.result(&shown, format_args!("{shown}; the token is in {}", self.output.display()));
        Ok(())
    }
}

async fn list(context: &Context) -> Result<(), CommandError> {
    let registry = context.registry().await?;
    for token in registry.station_tokens().await? {
        let shown = Shown::new(&token, registry.now());
        context.output.result(&shown, &shown);
    }
    Ok(())
}

async fn revoke(station: &str, context: &Context) -> Result<(), CommandError> {
    let registry = context.registry().await?;
    // Its key is as good a name as the thumbprint.
    let mut x = [0; 32];
    let by_key = hex::decode_to_slice(station, &mut x).ok().and_then(|()| PublicKey::from_x(&x).ok());
    let (station, others) = match registry.revoke_station(station).await {
        Err(registry::Error::NoStation { found: 0, .. }) if by_key.is_some() => {
            let thumbprint = by_key.map(|key| key.thumbprint().to_string()).unwrap_or_default();
            registry.revoke_station(&thumbprint).await?
        }
        revoked => revoked?,
    };
    let record = serde_json::json!({ "station": station, "status": "revoked", "ended_with_it": others });
    let mut text = format!("station {station} is revoked; `commissioner distribute --all` tells your devices");
    for other in &others {
        text.push_str(&format!("\nstation {other} needs a new token then: its present one is not newer"));
    }
    context.output.result(&record, text);
    Ok(())
}

async fn requests(output: Option<PathBuf>, context: &Context) -> Result<(), CommandError> {
    let requests = context.registry().await?.requests().await?;
    let lines: Vec<String> =
        requests.iter().map(text::json).collect::<Result<_, _>>().map_err(CommandError::internal)?;
    match output {
        None => lines.iter().zip(&requests).for_each(|(line, request)| context.output.result(request, line)),
        Some(path) => {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            files::replace(&path, Readers::Anyone, text.as_bytes())
                .map_err(|error| CommandError::unwritten(&error, format!("{error}; name another file")))?;
            let record = serde_json::json!({ "requests": requests.len(), "file": path.display().to_string() });
            context.output.result(
                &record,
                format_args!("{} in {}", text::count(requests.len(), "request is", "requests are"), path.display()),
            );
        }
    }
    Ok(())
}

async fn install(file: PathBuf, context: &Context) -> Result<(), CommandError> {
    let (dir, registry, issuer) = (context.state_dir()?, context.registry().await?, context.issuer()?);
    if issuer.signs() {
        return Err(CommandError::usage(
            "the issuer's key is here, so this is no station for another one; `commissioner init --issuer KEY` makes one, in \
             another state directory",
        ));
    }
    let contents = read(&file)?;
    let kind = Sign1::decode(&contents).ok().map(|object| object.kind);
    match kind {
        Some(Kind::StationToken) => {
            let station = context.station_key()?;
            let token = InstalledToken::new(contents, registry.issuer(), station.public()).ok_or_else(|| {
                CommandError::usage(
                    "this token is for another station, or of another issuer; have one made for the key that \
                     `commissioner init` prints here",
                )
            })?;
            files::replace(&dir.station_token(), Readers::Owner, token.object())?;
            let until = rfc3339(token.expires_at());
            let record = serde_json::json!({ "installed": "token", "expires_at": until });
            context
                .output
                .result(&record, format_args!("this station may act for issuer {} until {until}", issuer.id()));
        }
        Some(Kind::DeviceList) => {
            let version = registry.list_elsewhere(&contents).await?;
            let record = serde_json::json!({ "installed": "list", "list_version": version });
            context.output.result(&record, format_args!("version {version} of the list is here"));
        }
        Some(_) => return Err(CommandError::usage(format!("{} is for a device, not for a station", file.display()))),
        None => {
            let text = str::from_utf8(&contents).unwrap_or_default();
            let mut installed = 0;
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let answer: Option<Answer> = serde_json::from_str(line).ok();
                let certificate = answer.and_then(|answer| hex::decode(answer.certificate).ok()).ok_or_else(|| {
                    CommandError::usage(format!(
                        "{} holds no answers; `commissioner issuer sign` writes them",
                        file.display()
                    ))
                })?;
                registry.signed_elsewhere(&certificate).await?;
                installed += 1;
            }
            if installed == 0 {
                return Err(CommandError::usage(format!("{} is empty", file.display())));
            }
            let record = serde_json::json!({ "installed": "certificates", "certificates": installed });
            context.output.result(
                &record,
                format_args!(
                    "{} here; `commissioner commission` goes on with it",
                    text::count(installed, "certificate is", "certificates are")
                ),
            );
        }
    }
    Ok(())
}

/// A token of a station.
#[derive(Debug, Serialize)]
struct Shown {
    /// The thumbprint of its key.
    station: String,
    scope: StationScope,
    issued_at: String,
    expires_at: String,
    /// `valid`, `expired` or `revoked`.
    status: &'static str,
}

impl Shown {
    fn new(token: &StationToken, now: u64) -> Self {
        Self {
            station: token.station.clone(),
            scope: token.scope,
            issued_at: rfc3339(token.issued_at),
            expires_at: rfc3339(token.expires_at),
            status: match token.revoked_at {
                Some(_) => "revoked",
                None if token.is_valid(now) => "valid",
                None => "expired",
            },
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { station, scope, expires_at, status, .. } = self;
        write!(f, "station {station}: {scope}, until {expires_at}, {status}")
    }
}
