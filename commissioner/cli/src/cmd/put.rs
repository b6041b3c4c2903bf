//! `commissioner put PATH [LINK]`: writes a resource under EDHOC.

use std::io::{self, Read};
use std::path::PathBuf;

use clap::Args as ClapArgs;
use commissioner::client::{MAX_BODY, Request, content_format};
use commissioner::files::Input;
use commissioner::link::Link;
use zeroize::Zeroizing;

use super::{context::Context, exit::CommandError, resource::parse_path, secret};

/// PUT a resource under EDHOC
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The resource, such as /led; slots/NAME is a value of the product, /comm/slots/NAME
    #[arg(value_parser = parse_path)]
    path: String,
    /// Where the device is; left out, exactly one device must answer
    link: Option<Link>,
    /// What to write; - is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Ask for what to write, and do not show it: for secrets, which do not belong on a command line
    #[arg(long, conflicts_with = "file")]
    prompt: bool,
    /// What it is: a CoAP Content-Format number; 60 is CBOR, 0 text, 42 plain bytes [default: 42 for slots/NAME, else 60]
    #[arg(long, value_name = "NUMBER")]
    content_format: Option<u16>,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        let payload = match self.prompt {
            true => secret::value(&self.path)?,
            false => self.payload()?,
        };
        let mut found = context.reach(self.link.as_ref()).await?;
        let usual = match self.path.starts_with("/comm/slots/") {
            true => content_format::OCTET_STREAM,
            false => content_format::CBOR,
        };
        let request = Request::put(&self.path, self.content_format.unwrap_or(usual), payload);
        let answered = context.ask(&mut found, &request).await;
        Zeroizing::new(request.payload);
        context.show("device", answered?)
    }

    fn payload(&self) -> Result<Vec<u8>, CommandError> {
        let unreadable = |error: io::Error| {
            CommandError::usage(format!("cannot read {}: {error}; name a file that you can read", self.file.display()))
        };
        let source: Box<dyn Read> = match self.file.as_os_str() == "-" {
            true => Box::new(io::stdin().lock()),
            false => Box::new(Input::open(&self.file).map_err(unreadable)?),
        };
        let mut payload = Vec::new();
        source.take(MAX_BODY as u64 + 1).read_to_end(&mut payload).map_err(unreadable)?;
        match payload.len() <= MAX_BODY {
            true => Ok(payload),
            false => Err(CommandError::usage(format!(
                "{} has more than {MAX_BODY} bytes, the most that is sent",
                self.file.display()
            ))),
        }
    }
}
