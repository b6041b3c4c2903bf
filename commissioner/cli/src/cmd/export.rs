//! `commissioner export --format FORMAT`: the list for other programs, device by device, in constant memory.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use cbor_schemas::CoseKey;
use clap::{Args as ClapArgs, ValueEnum};
use commissioner::{
    clock::rfc3339,
    discover, distribute,
    files::{self, Readers, Unfinished},
    link::{DEFAULT_PORT, Link},
    registry::{Device, Key, Provenance, Reading, Registry, Slot},
    text,
};
use minicbor::Encoder;
use protocol::key::PublicKey;

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
};

const HELP: &str = "\
json         JSON Lines: a record per key, with the key and its certificates; revoked ones too
csv          a row per key, for spreadsheets; revoked ones too
peers-yml    my devices' keys, as Ariel OS builds them into a CoAP server: kccs in diagnostic notation, scope allow-all
cose-keyset  my devices' keys as a COSE_KeySet (RFC 9052 section 7)
aiocoap      credentials (.diag) for aiocoap-client: your devices that answer at --link, or on USB networks, by their keys
signed-list  the signed list, as `distribute` puts it on devices; it is signed now if it has news

My devices' keys are active, and certified or reported where devices are programmed. --trusted-only leaves out what was not learned where devices are programmed.";

/// Write the list for other programs
#[derive(Debug, ClapArgs)]
#[command(after_help = HELP)]
pub struct Args {
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// Where to; left out, standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only keys that were learned where devices are programmed
    #[arg(long)]
    trusted_only: bool,
    /// Where a device is that aiocoap is to know (udp:ADDR...; aiocoap only); left out, the USB networks are searched
    #[arg(long, value_name = "LINK")]
    link: Vec<Link>,
    /// With the signed lists and the history: what `commissioner import` takes (json only)
    #[arg(long, conflicts_with = "trusted_only")]
    history: bool,
}

/// What other programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Csv,
    PeersYml,
    Aiocoap,
    CoseKeyset,
    SignedList,
}

/// Something that takes one key after the other.
trait Sink {
    fn key(&mut self, device: &Device, key: &Key) -> io::Result<()>;

    fn finish(&mut self) -> io::Result<()>;
}

impl Args {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<(), CommandError> {
        if !self.link.is_empty() && self.format != Format::Aiocoap {
            return Err(CommandError::usage("--link goes with --format aiocoap"));
        }
        if self.history && self.format != Format::Json {
            return Err(CommandError::usage("--history goes with --format json"));
        }
        if self.trusted_only && self.format == Format::SignedList {
            return Err(CommandError::usage(
                "--trusted-only goes with the other formats: a signed list has all of \"my devices\"",
            ));
        }
        let is_binary = matches!(self.format, Format::CoseKeyset | Format::SignedList);
        if self.output.is_none() && is_binary && io::stdout().is_terminal() {
            return Err(CommandError::usage("this format is not for terminals; give --output FILE"));
        }
        if self.output.is_none() && context.output.is_json() && self.format != Format::Json {
            return Err(CommandError::usage("with --json, standard output has JSON only; give --output FILE"));
        }
        let registry = context.registry().await?;
        registry.read().await?.is_sound().await?;
        // Whatever fails while it is written leaves the file as it was.
        let unfinished = self.output.as_ref().map(|path| Unfinished::beside(path, Readers::Anyone)).transpose();
        let unfinished = unfinished.map_err(|error| not_placed(&error))?;
        let out: Box<dyn Write> = match &unfinished {
            Some(unfinished) => Box::new(unfinished.file().try_clone().map_err(unwritable)?),
            None => Box::new(io::stdout().lock()),
        };
        let keys = self.write(context, &registry, BufWriter::new(out)).await?;
        if let (Some(unfinished), Some(path)) = (unfinished, &self.output) {
            unfinished.replace().map_err(|error| not_placed(&error))?;
            let record = serde_json::json!({ "file": path.display().to_string(), "keys": keys });
            context.output.result(&record, format_args!("{} has {}", path.display(), text::count(keys, "key", "keys")));
        }
        Ok(())
    }

    /// Writes all, and returns how many keys there were.
    async fn write(
        &self,
        context: &Context,
        registry: &Registry,
        mut out: BufWriter<Box<dyn Write>>,
    ) -> Result<usize, CommandError> {
        if self.history {
            let keys = registry.export(|line| out.write_all(line.as_bytes()).map_err(unwritable)).await?;
            out.flush().map_err(unwritable)?;
            return Ok(keys);
        }
        let mut reading = registry.read().await?;
        let mut sink: Box<dyn Sink> = match self.format {
            Format::Json => Box::new(Json(out)),
            Format::Csv => Box::new(Csv::new(out).map_err(unwritable)?),
            Format::PeersYml => Box::new(PeersYml(out)),
            Format::CoseKeyset => {
                let mut count = 0;
                let counting = self.each(&mut reading, |_, _| {
                    count += 1;
                    Ok(())
                });
                counting.await?;
                Box::new(CoseKeySet::new(out, count).map_err(unwritable)?)
            }
            Format::Aiocoap => return self.write_aiocoap(context, registry, out).await,
            Format::SignedList => {
                let list = distribute::current_list(&context.station().await?, None, &context.progress).await?;
                out.write_all(list.object().unwrap_or_default()).and_then(|()| out.flush()).map_err(unwritable)?;
                return Ok(list.keys);
            }
        };
        let mut keys = 0;
        self.each(&mut reading, |device, key| {
            keys += 1;
            sink.key(device, key).map_err(unwritable)
        })
        .await?;
        sink.finish().map_err(unwritable)?;
        Ok(keys)
    }

    /// Which devices are where is no matter of the registry, so they are asked; which keys they have to prove is.
    async fn write_aiocoap(
        &self,
        context: &Context,
        registry: &Registry,
        mut out: impl Write,
    ) -> Result<usize, CommandError> {
        context.progress.working("asking who is there");
        let links = if self.link.is_empty() { discover::links() } else { self.link.clone() };
        let devices = discover::devices(discover::survey(links.into_iter().filter(|link| !link.is_serial())).await);
        let mut entries = Vec::new();
        for found in &devices {
            let known = registry.device_by_id(&found.account.info().device).await?;
            let trusted = |key: &&Key| !self.trusted_only || key.provenance == Provenance::Programming;
            let Some(key) = known.as_ref().and_then(Device::active).filter(|key| key.mine).filter(trusted) else {
                continue;
            };
            let ccs = kccs(&public(key).map_err(unwritable)?.cose_key());
            for host in found.links().filter_map(uri_host) {
                entries.push(format!(
                    "\"coap://{host}/*\": {{\"edhoc-oscore\": {{\"suite\": 2, \"method\": 3, \
                     \"own_cred\": {{\"unauthenticated\": true}}, \"peer_cred\": {{14: {ccs}}}}}}}"
                ));
            }
        }
        if entries.is_empty() {
            let message = "no device of yours answers over UDP; name where it is with --link udp:ADDRESS";
            return Err(CommandError::new(ExitCode::NoDevice, message));
        }
        let text = format!("{{{}}}\n", entries.join(",\n "));
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(unwritable)?;
        Ok(entries.len())
    }

    /// Goes through the keys that are asked for.
    async fn each(
        &self,
        reading: &mut Reading,
        mut take: impl FnMut(&Device, &Key) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let with_all = matches!(self.format, Format::Json | Format::Csv);
        let wanted =
            |key: &&Key| (with_all || key.mine) && (!self.trusted_only || key.provenance == Provenance::Programming);
        reading.each_device(|device| device.keys.iter().filter(wanted).try_for_each(|key| take(device, key))).await
    }
}

/// A reader that goes away is no failure of ours, but there is nothing more to do.
fn unwritable(source: io::Error) -> CommandError {
    not_placed(&files::Error::Io { path: "the export".into(), source })
}

fn not_placed(error: &files::Error) -> CommandError {
    CommandError::unwritten(error, format!("{error}; nothing else was changed"))
}

fn public(key: &Key) -> io::Result<PublicKey> {
    PublicKey::from_x(&key.x).map_err(|error| io::Error::other(error.to_string()))
}

/// The credential of a key in diagnostic notation.
fn kccs(key: &CoseKey) -> String {
    let [kid, x, y] = [&key.kid[..], &key.x, &key.y].map(hex::encode);
    format!("{{8: {{1: {{1: 2, 2: h'{kid}', -1: 1, -2: h'{x}', -3: h'{y}'}}}}}}")
}

/// The host and port of a UDP link in a URI (RFC 7252 section 6.1).
fn uri_host(link: &Link) -> Option<String> {
    let Link::Udp { address, zone, port } = link else { return None };
    let host = match (address, zone) {
        (IpAddr::V4(address), _) => address.to_string(),
        (IpAddr::V6(address), None) => format!("[{address}]"),
        (IpAddr::V6(address), Some(zone)) => format!("[{address}%{zone}]"),
    };
    Some(if *port == DEFAULT_PORT { host } else { format!("{host}:{port}") })
}

struct Json<W>(W);

impl<W: Write> Sink for Json<W> {
    fn key(&mut self, device: &Device, key: &Key) -> io::Result<()> {
        let line = text::json(&device.full_record(key))? + "\n";
        self.0.write_all(line.as_bytes())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct Csv<W: Write>(csv::Writer<W>);

impl<W: Write> Csv<W> {
    fn new(out: W) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record([
            "device",
            "nickname",
            "thumbprint",
            "x",
            "status",
            "provenance",
            "proof",
            "profile",
            "generation",
            "certificates",
            "first_seen",
            "last_seen",
            "revoked_at",
            "revoked_reason",
        ])?;
        Ok(Self(writer))
    }
}

impl<W: Write> Sink for Csv<W> {
    fn key(&mut self, device: &Device, key: &Key) -> io::Result<()> {
        let installed = [Slot::Factory, Slot::Owner].into_iter().filter(|slot| key.installed(*slot).is_some());
        let (revoked_at, reason) = key.revoked.as_ref().map(|it| (rfc3339(it.at), it.reason.as_str())).unzip();
        let cells = [
            device.id.as_str(),
            device.nickname.as_deref().unwrap_or_default(),
            &key.thumbprint,
            &hex::encode(key.x),
            key.status.as_str(),
            key.provenance.as_str(),
            key.proof.as_str(),
            device.profile.as_str(),
            &key.generation.to_string(),
            &installed.map(Slot::as_str).collect::<Vec<_>>().join("+"),
            &rfc3339(key.first_seen),
            &rfc3339(key.last_seen),
            revoked_at.as_deref().unwrap_or_default(),
            reason.unwrap_or_default(),
        ];
        self.0.write_record(cells.map(text::cell))?;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct PeersYml<W>(W);

impl<W: Write> Sink for PeersYml<W> {
    fn key(&mut self, device: &Device, key: &Key) -> io::Result<()> {
        writeln!(self.0, "# {}", device.id)?;
        writeln!(self.0, "- kccs: \"{}\"", kccs(&public(key)?.cose_key()))?;
        writeln!(self.0, "  scope: allow-all")
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct CoseKeySet<W>(W);

impl<W: Write> CoseKeySet<W> {
    fn new(mut out: W, keys: usize) -> io::Result<Self> {
        let mut head = Encoder::new(Vec::new());
        head.array(keys as u64).map_err(|error| io::Error::other(error.to_string()))?;
        out.write_all(&head.into_writer())?;
        Ok(Self(out))
    }
}

impl<W: Write> Sink for CoseKeySet<W> {
    fn key(&mut self, _device: &Device, key: &Key) -> io::Result<()> {
        let mut encoded = [0; CoseKey::MAX_LEN];
        let len = public(key)?.cose_key().encode(&mut encoded).map_err(|error| io::Error::other(error.to_string()))?;
        self.0.write_all(encoded.get(..len).unwrap_or_default())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
