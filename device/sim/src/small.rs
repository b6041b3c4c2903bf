//! A small device: one serial line, and an EEPROM in a file. Without EDHOC, or with it and without an owner slot.

use std::{fs::File, future::Future, io, os::unix::fs::FileExt};

use anyhow::{Context, Result, bail};
use cbor_schemas::{Profile, report};
use device_sim::pty;
use device_small::{Config, DATAGRAM_LEN, Device, Line, ProvingDevice, STORAGE_LEN, line::FrameType};
use embedded_storage::{ReadStorage, Storage};
use rand_core::OsRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{Args, flash};

/// Starts the device; what is returned serves it.
pub(crate) fn start(args: &Args) -> Result<impl Future<Output = Result<()>> + 'static> {
    let [path] = &args.pty[..] else { bail!("a small device has one serial line; give one --pty") };
    if !args.udp.is_empty() || args.usb.is_some() {
        bail!("a small device has neither UDP nor USB");
    }
    let eeprom = match &args.flash {
        Some(path) => flash::image("an EEPROM image", path, STORAGE_LEN)
            .map(Eeprom::File)
            .with_context(|| format!("EEPROM image {}", path.display()))?,
        None => Eeprom::in_ram(),
    };
    let config =
        Config { device: args.device()?, firmware: concat!("device-sim ", env!("CARGO_PKG_VERSION")), operation_ms: 1 };
    let (mut port, line) = pty::open(path).with_context(|| format!("pty {}", path.display()))?;
    eprintln!("device-sim: {} at serial:{}", args.id, path.display());
    let mut report = String::with_capacity(report::MAX_LINE);
    let mut handle: Handle = match args.profile {
        Profile::Minimal => {
            let mut device = Device::start(config, eeprom, OsRng);
            device.report(&mut report)?;
            Box::new(move |datagram, out| device.handle(datagram, out))
        }
        Profile::Full => {
            let mut device = ProvingDevice::start(config, eeprom, OsRng);
            device.report(&mut report)?;
            Box::new(move |datagram, out| device.handle(datagram, out))
        }
    };
    println!("{report}");
    Ok(async move {
        let _line = line;
        let mut receiver = Line::new();
        let mut out = [0; DATAGRAM_LEN];
        port.write_all(&framed(FrameType::Diagnostic, format!("{report}\n").as_bytes())).await?;
        loop {
            let byte = port.read_u8().await.context("serial line")?;
            let Some(datagram) = receiver.take(byte) else { continue };
            if let Some(len) = handle(datagram, &mut out) {
                port.write_all(&framed(FrameType::Configuration, &out[..len])).await?;
            }
        }
    })
}

/// Answers a datagram.
type Handle = Box<dyn FnMut(&mut [u8], &mut [u8; DATAGRAM_LEN]) -> Option<usize>>;

fn framed(frame_type: FrameType, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Line::frame(frame_type, data, |chunk| bytes.extend_from_slice(chunk));
    bytes
}

/// The cells of an EEPROM.
enum Eeprom {
    /// Kept in a file; every write is on disk before it returns.
    File(File),
    /// Gone with the process.
    Ram(Vec<u8>),
}

impl Eeprom {
    fn in_ram() -> Self {
        Self::Ram(vec![0xff; STORAGE_LEN])
    }
}

impl ReadStorage for Eeprom {
    type Error = io::Error;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(bytes, offset.into()),
            Self::Ram(cells) => {
                bytes.copy_from_slice(&cells[offset as usize..][..bytes.len()]);
                Ok(())
            }
        }
    }

    fn capacity(&self) -> usize {
        STORAGE_LEN
    }
}

impl Storage for Eeprom {
    fn write(&mut self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => {
                file.write_all_at(bytes, offset.into())?;
                file.sync_data()
            }
            Self::Ram(cells) => {
                cells[offset as usize..][..bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
        }
    }
}
