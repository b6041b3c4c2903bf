//! `commissioner issuer show|export|sign`: the key that devices know us by, to publish and to compare; and what stations ask
//! to have signed by it.

use std::path::PathBuf;

use cbor_schemas::{IssuerId, Profile, ProofLevel};
use clap::{Args as ClapArgs, Subcommand};
use commissioner::{
    files::{self, Readers},
    issuer::Issuer,
    keys::Anchor,
    registry::{
        self, CertificateRequest, Conflict, Cti, NewCertificate, Observation, Place, REQUEST_LIFETIME, Registry,
    },
    text,
};
use protocol::key::PublicKey;

use super::{
    context::Context,
    exchange::{self, Answer},
    exit::{CommandError, ExitCode},
};

/// Show or export the anchor to publish
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the issuer's ID and public key: others give it to --for, --to and --anchor
    Show,
    /// Sign what a station asks for; the station takes the answers by `station install`
    Sign(Sign),
    /// Write the public key in PEM
    Export {
        /// Where to write it [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, ClapArgs)]
struct Sign {
    /// What `station requests` wrote
    file: PathBuf,
    /// Where to write the answers
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The devices may have new keys: revoke the older ones
    #[arg(long)]
    accept_new_key: bool,
}

impl Sign {
    /// Signs each request for a key that this registry has no objection to. One that is refused does not stop the others.
    async fn run(self, context: &Context) -> Result<(), CommandError> {
        let (registry, issuer) = (context.registry().await?, context.issuer()?);
        issuer.must_sign()?;
        let text = String::from_utf8(exchange::read(&self.file)?).unwrap_or_default();
        let (mut answers, mut failures, mut signed) = (String::new(), Vec::new(), 0);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let request = parse_request(line).ok_or_else(|| {
                let path = self.file.display();
                CommandError::usage(format!(
                    "{path} holds something else than requests; `commissioner station requests` writes them"
                ))
            })?;
            match self.sign(&request, &registry, &issuer).await {
                Ok(certificate) => {
                    let device = request.certificate.device.to_string();
                    let answer = Answer { device, certificate: hex::encode(certificate) };
                    let line = text::json(&answer).map_err(CommandError::internal)?;
                    context.output.json(&answer);
                    answers.push_str(&line);
                    answers.push('\n');
                    signed += 1;
                }
                Err(error) => failures.push((request.certificate.device.to_string(), error)),
            }
        }
        files::replace(&self.output, Readers::Anyone, answers.as_bytes()).map_err(|error| {
            CommandError::unwritten(&error, format!("{error}; repeat the command with another file"))
        })?;
        context.output.text(format_args!(
            "{} written to {}",
            text::count(signed, "certificate is", "certificates are"),
            self.output.display()
        ));
        let Some((_, first)) = failures.first() else { return Ok(()) };
        let candidates = failures.iter().map(|(device, error)| format!("{device}: {error}"));
        Err(CommandError::new(first.exit(), "not all requests were signed; see to these, then repeat the command")
            .with_candidates(candidates))
    }

    async fn sign(&self, request: &Request, registry: &Registry, issuer: &Issuer) -> Result<Vec<u8>, CommandError> {
        let wanted = &request.certificate;
        let observed = registry.observe_key(&request.observation).await;
        match observed {
            Err(registry::Error::Conflict(Conflict::KeyChange { .. })) if self.accept_new_key => {
                registry.accept_new_key(&wanted.device, &wanted.key).await?;
            }
            Err(registry::Error::Conflict(conflict @ Conflict::KeyChange { .. })) => {
                let message =
                    format!("{}; if that is known of, repeat with --accept-new-key", conflict.what_happened());
                return Err(CommandError::new(ExitCode::Conflict, message));
            }
            observed => drop(observed?),
        }
        let mut intent = registry.begin_issue(wanted).await?;
        if intent.cti() != wanted.cti {
            registry.void(intent.cti(), "a station asks for another one").await?;
            intent = registry.begin_issue(wanted).await?;
        }
        if let Some(object) = intent.object() {
            return Ok(object.to_vec());
        }
        let object = issuer.certificate(&intent)?;
        registry.issued(intent.cti(), &object).await?;
        Ok(object)
    }
}

/// A request that was read.
struct Request {
    certificate: NewCertificate,
    observation: Observation,
}

fn parse_request(line: &str) -> Option<Request> {
    let request: CertificateRequest = serde_json::from_str(line).ok()?;
    let mut bytes = ([0; 8], [0; 32]);
    hex::decode_to_slice(&request.request, &mut bytes.0).ok()?;
    hex::decode_to_slice(&request.key, &mut bytes.1).ok()?;
    let (device, key) = (request.device.parse().ok()?, PublicKey::from_x(&bytes.1).ok()?);
    let certificate = NewCertificate {
        device,
        key,
        slot: request.slot.parse().ok()?,
        key_origin: request.key_origin.parse().ok()?,
        cti: Cti(bytes.0),
        lifetime: REQUEST_LIFETIME,
    };
    let observation = Observation {
        device,
        key,
        generation: request.generation,
        profile: Profile::Full,
        place: Place::Elsewhere,
        proof: ProofLevel::Proved,
    };
    Some(Request { certificate, observation })
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        if let Action::Sign(sign) = self.action {
            return sign.run(context).await;
        }
        let key = context.anchor().await?;
        let pem = Anchor(key).to_pem().ok_or_else(|| CommandError::internal("the issuer's key has no PEM form"))?;
        let (id, thumbprint, x) = (IssuerId(key.kid()), key.thumbprint(), hex::encode(key.x()));
        let record = serde_json::json!({
            "issuer": id.to_string(), "thumbprint": thumbprint.to_string(), "key": x, "pem": pem,
        });
        match self.action {
            Action::Sign(_) => {}
            Action::Show => {
                context
                    .output
                    .result(&record, format_args!("issuer      {id}\nthumbprint  {thumbprint}\nkey         {x}"));
            }
            Action::Export { output: None } => context.output.result(&record, pem.trim_end()),
            Action::Export { output: Some(path) } => {
                files::replace(&path, Readers::Anyone, pem.as_bytes())
                    .map_err(|error| CommandError::unwritten(&error, format!("{error}; name another file")))?;
                context.output.result(&record, format_args!("the public key of issuer {id} is in {}", path.display()));
            }
        }
        Ok(())
    }
}
