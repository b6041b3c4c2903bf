//! A voucher, signed and handed out: what those of makers and of owners have in common.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use cbor_schemas::DeviceId;
use clap::Args as ClapArgs;
use commissioner::{
    clock::rfc3339,
    files::{self, Readers},
    issuer::Issuer,
    registry::{Registry, Slot, VoucherRequest},
    voucher::Voucher,
};
use protocol::key::PublicKey;
use serde::Serialize;

use super::{context::Context, exit::CommandError};

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// What vouchers of makers and of owners have in common.
#[derive(Debug, ClapArgs)]
pub(super) struct Options {
    /// How long it is good, as far as a device without a clock can know [default: until it is used]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..))]
    days: Option<u16>,
    /// The claim counter that the device shows at /comm, if it is not the one known here
    #[arg(long, value_name = "NUMBER")]
    claim_counter: Option<u32>,
    /// Where to write it; with --all, a folder
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Where to write it as a QR code: *.svg or *.png
    #[arg(long, value_name = "FILE", value_parser = parse_image)]
    qr: Option<PathBuf>,
}

impl Options {
    /// Hands a voucher out.
    pub(super) fn hand_out(&self, voucher: &Voucher, context: &Context) -> Result<(), CommandError> {
        if let Some(path) = &self.output {
            write(path, voucher.object())?;
        }
        if let Some(path) = &self.qr {
            match is_png(path) {
                true => write(path, &voucher.to_png().map_err(CommandError::internal)?)?,
                false => write(path, voucher.to_svg().map_err(CommandError::internal)?.as_bytes())?,
            }
        }
        let issued = Issued::new(voucher, self.output.as_deref());
        match self.output.is_none() && self.qr.is_none() && !context.output.is_json() {
            true => {
                let code = voucher.to_terminal().map_err(CommandError::internal)?;
                context.output.text(format_args!("{code}\n{}\n{issued}", voucher.to_text()));
            }
            false => context.output.result(&issued, &issued),
        }
        Ok(())
    }

    /// Signs a voucher.
    pub(super) async fn sign(
        &self,
        device: DeviceId,
        slot: Slot,
        owner: PublicKey,
        registry: &Registry,
        issuer: &Issuer,
    ) -> Result<Voucher, CommandError> {
        let lifetime = self.days.map(|days| u64::from(days) * DAY);
        let wanted = VoucherRequest { device, slot, owner, lifetime, claim_counter: self.claim_counter };
        let grant = registry.grant_voucher(&wanted).await?;
        let object = issuer.voucher(&grant)?;
        Voucher::decode(&object).ok_or_else(|| CommandError::internal("the voucher cannot be read back"))
    }
}

/// A voucher, as it was handed out.
#[derive(Debug, Serialize)]
pub(super) struct Issued<'a> {
    device: &'a str,
    /// The thumbprint of the new owner's key.
    owner: String,
    claim_counter: u32,
    issued_at: String,
    expires_at: Option<String>,
    /// The signed object, hex.
    voucher: String,
    /// What a QR code says.
    text: String,
    file: Option<&'a Path>,
}

impl<'a> Issued<'a> {
    pub(super) fn new(voucher: &'a Voucher, file: Option<&'a Path>) -> Self {
        let claims = voucher.claims();
        let owner = PublicKey::from_cose(&claims.key).map(|key| key.thumbprint().to_string());
        Self {
            device: claims.subject.as_str(),
            owner: owner.unwrap_or_default(),
            claim_counter: claims.claim_counter,
            issued_at: rfc3339(claims.issued_at),
            expires_at: claims.expires_at.map(rfc3339),
            voucher: hex::encode(voucher.object()),
            text: voucher.to_text(),
            file,
        }
    }
}

impl fmt::Display for Issued<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} may go to owner {}", self.device, self.owner)?;
        match &self.expires_at {
            Some(at) => write!(f, ", once, until {at}"),
            None => write!(f, ", once"),
        }
    }
}

fn parse_image(text: &str) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(text);
    let is_image = path.extension().is_some_and(|extension| extension == "svg" || extension == "png");
    if is_image { Ok(path) } else { Err("its name says which image it is to be: it ends with .svg or .png") }
}

fn is_png(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "png")
}

pub(super) fn write(path: &Path, contents: &[u8]) -> Result<(), CommandError> {
    files::replace(path, Readers::Anyone, contents).map_err(|error| unwritable(&error))
}

pub(super) fn unwritable(error: &files::Error) -> CommandError {
    CommandError::unwritten(error, format!("{error}; make another voucher, to a place that you can write to"))
}
