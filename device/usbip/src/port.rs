//! Where a host is connected.

use std::{io, time::Duration};

use embassy_usb_driver::{Event, Speed};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::timeout,
};

use crate::{
    bus::Shared,
    wire::{Command, Malformed, ReadError, read_command},
};

/// How long the device may take to answer for a descriptor.
const PATIENCE: Duration = Duration::from_secs(5);
const DEVICE: u8 = 1;
const DEVICE_LEN: u16 = 18;
const CONFIGURATION: u8 = 2;

/// The port of a hub, with a device in it. Clones are the same port.
#[derive(Clone)]
pub struct Port {
    bus: Shared,
    /// Counts how often the plug was pulled.
    pulled: watch::Sender<u64>,
}

/// Why a host cannot be served any longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device has a host already.
    #[error("the device is attached to another host; detach it there first")]
    Busy,
    /// Nothing runs the device's stack.
    #[error("the device does not answer; `UsbDevice::run` has to run beside this")]
    Dead,
    /// The host does not speak USB/IP as it should.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The connection failed.
    #[error("the connection to the host failed: {0}")]
    Io(#[from] io::Error),
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Malformed(malformed) => Self::Malformed(malformed),
            ReadError::Io(error) => Self::Io(error),
        }
    }
}

/// What the device says of itself in its descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `idVendor`, `idProduct`, `bcdDevice`.
    pub(crate) numbers: [u16; 3],
    pub(crate) class: [u8; 3],
    pub(crate) configurations: u8,
    /// Class, subclass and protocol of each interface.
    pub(crate) interfaces: Vec<[u8; 3]>,
}

impl Port {
    pub(crate) fn new(bus: Shared) -> Self {
        Self { bus, pulled: watch::Sender::new(0) }
    }

    /// The speed of the device.
    pub fn speed(&self) -> Speed {
        self.bus.lock().speed
    }

    /// Whether a host is attached.
    pub fn is_attached(&self) -> bool {
        self.bus.lock().is_attached
    }

    /// Attaches a host that speaks USB/IP's commands on `stream`, which is what follows after OP_REP_IMPORT, and what
    /// `vhci_hcd` does on a socket that is given to it. Returns when the host closes the stream, or when the device was
    /// [unplugged](Self::unplug). The device is detached then, and can be attached again.
    ///
    /// # Errors
    /// [`Error::Busy`] if there is a host already. Where the connection or the host fails, the device is detached, too.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Error> {
        let attached = self.attach()?;
        attached.serve(stream).await
    }

    /// A reset of the bus, as a host does it that wants to begin anew. The host at the other end of USB/IP does not learn
    /// of it.
    pub fn reset(&self) {
        self.bus.lock().reset();
    }

    /// Suspends the bus: the host has gone to sleep.
    pub fn suspend(&self) {
        self.bus.lock().event(Event::Suspend);
    }

    /// Resumes it.
    pub fn resume(&self) {
        self.bus.lock().event(Event::Resume);
    }

    /// Pulls the plug: ends the connection to the host, if there is one.
    pub fn unplug(&self) {
        self.pulled.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn attach(&self) -> Result<Attached<'_>, Error> {
        match self.bus.lock().attach() {
            true => Ok(Attached { pulled: self.pulled.subscribe(), port: self }),
            false => Err(Error::Busy),
        }
    }
}

/// A host has the device, until this is dropped.
pub(crate) struct Attached<'p> {
    port: &'p Port,
    pulled: watch::Receiver<u64>,
}

impl Attached<'_> {
    pub(crate) async fn serve(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Error> {
        let bus = &self.port.bus;
        let (mut from_host, mut to_host) = tokio::io::split(stream);
        let commands = async {
            loop {
                bus.has_room().await;
                match read_command(&mut from_host).await? {
                    Some(Command::Submit(submit)) => bus.lock().submit(submit),
                    Some(Command::Unlink { sequence, victim }) => bus.lock().unlink(sequence, victim),
                    None => return Ok(()),
                }
            }
        };
        let answers = async {
            loop {
                let answer = bus.next_answer().await;
                to_host.write_all(&answer).await?;
                to_host.flush().await?;
            }
        };
        let ended = tokio::select! {
            ended = commands => ended,
            failed = answers => failed,
            _ = self.pulled.changed() => Ok(()),
        };
        // A host that is told of the end lets go at once.
        let _ = from_host.unsplit(to_host).shutdown().await;
        ended
    }

    /// Asks the device who it is.
    pub(crate) async fn identity(&self) -> Result<Identity, Error> {
        let device = self.descriptor(DEVICE, DEVICE_LEN).await?;
        let configuration = self.descriptor(CONFIGURATION, u16::MAX).await?;
        Identity::parse(&device, &configuration).ok_or(Error::Dead)
    }

    async fn descriptor(&self, kind: u8, length: u16) -> Result<Vec<u8>, Error> {
        let answer = self.port.bus.lock().descriptor(kind, length);
        match timeout(PATIENCE, answer).await {
            Ok(Ok(Some(descriptor))) => Ok(descriptor),
            _ => Err(Error::Dead),
        }
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.port.bus.lock().detach();
    }
}

impl Identity {
    /// From the descriptors of the device and of its configuration (USB 2.0, sections 9.6.1, 9.6.3 and 9.6.5).
    fn parse(device: &[u8], configuration: &[u8]) -> Option<Self> {
        let &[_, DEVICE, _, _, class, subclass, protocol, _, v0, v1, p0, p1, d0, d1, _, _, _, configurations] = device
        else {
            return None;
        };
        let numbers = [[v0, v1], [p0, p1], [d0, d1]].map(u16::from_le_bytes);
        let mut interfaces = Vec::new();
        let mut rest = configuration;
        while let [length, kind, ..] = rest {
            // An interface, and not an alternate setting of it.
            if let (4, [_, _, _, 0, _, class, subclass, protocol, ..]) = (kind, rest) {
                interfaces.push([*class, *subclass, *protocol]);
            }
            rest = rest.get(usize::from(*length).max(2)..)?;
        }
        Some(Self { numbers, class: [class, subclass, protocol], configurations, interfaces })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTOR: [u8; 18] = [18, 1, 0, 2, 0xef, 2, 1, 64, 0x09, 0x12, 0x0c, 0, 0x10, 0, 1, 2, 3, 1];

    #[test]
    fn a_device_is_what_its_descriptors_say() {
        let interfaces = [9, 4, 0, 0, 1, 2, 2, 0, 0, 7, 5, 0x81, 3, 8, 0, 255, 9, 4, 1, 0, 0, 10, 0, 1, 0];
        let alternate = [9, 4, 1, 1, 2, 10, 0, 1, 0];
        let configuration = [&[9, 2, 0, 0, 2, 1, 0, 0xc0, 50][..], &interfaces, &alternate].concat();
        let identity = Identity::parse(&DESCRIPTOR, &configuration).unwrap();
        assert_eq!((identity.numbers, identity.class), ([0x1209, 0x000c, 0x0010], [0xef, 2, 1]));
        assert_eq!((identity.configurations, identity.interfaces), (1, vec![[2, 2, 0], [10, 0, 1]]));
    }

    #[test]
    fn descriptors_that_are_none_are_refused() {
        assert_eq!(Identity::parse(&DESCRIPTOR[..17], &[]), None);
        assert_eq!(Identity::parse(&DESCRIPTOR, &[9, 4, 0]), None);
        assert!(Identity::parse(&DESCRIPTOR, &[0, 0, 0, 0]).is_some(), "a length of zero does not loop");
    }
}
