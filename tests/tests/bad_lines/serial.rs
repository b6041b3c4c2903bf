//! Both ends of a serial line: the device's own slipmux, and the host's crate for it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::pending,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use device::{transport::Datagrams as _, transport::serial::Serial};
use embedded_io_async::{ErrorType, Read, Write};
use end_to_end::one_process::Dice;
use slipmux::{Constants, DecodeStatus, Decoder, FrameHandler, FrameType, Slipmux, encode_buffered};

/// What happens to bytes, in one of 10,000 of them.
#[derive(Clone, Copy, Default)]
pub(crate) struct StreamFaults {
    pub(crate) lost: u64,
    /// A random byte comes before it.
    pub(crate) inserted: u64,
    /// One bit is flipped.
    pub(crate) flipped: u64,
}

impl StreamFaults {
    pub(crate) fn damage(&self, bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
        let mut damaged = Vec::new();
        for symbol in symbols(bytes) {
            if dice.below(10_000) < self.inserted {
                damaged.push(dice.below(256) as u8);
            }
            let is_lost = dice.below(10_000) < self.lost;
            let is_flipped = dice.below(10_000) < self.flipped;
            let mask = if is_flipped { 1 << dice.below(8) } else { 0 };
            if !is_lost {
                damaged.push(symbol[0] ^ mask);
            }
            damaged.extend(&symbol[1..]);
        }
        damaged
    }
}

/// The bytes of a frame, an escaped one with what stands before it. How many are escaped differs from run to run, for the
/// host's keys are random; how many there are does not.
pub(crate) fn symbols(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = frame;
    std::iter::from_fn(move || {
        let len = if *rest.first()? == Constants::ESC { 2 } else { 1 };
        let (symbol, behind) = rest.split_at(len.min(rest.len()));
        rest = behind;
        Some(symbol)
    })
}

#[derive(Default)]
struct Wires {
    to_device: VecDeque<u8>,
    from_device: Vec<u8>,
}

/// The device's UART.
#[derive(Clone, Default)]
struct Port(Arc<Mutex<Wires>>);

impl Port {
    fn sent(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap().from_device)
    }
}

impl ErrorType for Port {
    type Error = Infallible;
}

impl Read for Port {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let read = std::io::Read::read(&mut self.0.lock().unwrap().to_device, buffer).unwrap_or(0);
        match read {
            0 => pending().await,
            read => Ok(read),
        }
    }
}

impl Write for Port {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.0.lock().unwrap().from_device.extend(bytes);
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

pub(crate) struct DeviceEnd {
    port: Port,
    serial: Serial<Port, ()>,
}

impl Default for DeviceEnd {
    fn default() -> Self {
        let port = Port::default();
        DeviceEnd { serial: Serial::new(port.clone(), ()), port }
    }
}

impl DeviceEnd {
    /// The datagrams that the device makes of these bytes and those before them.
    pub(crate) fn datagrams(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.port.0.lock().unwrap().to_device.extend(bytes);
        let mut datagrams = Vec::new();
        while let Some(Ok((datagram, ()))) = at_once(self.serial.receive()) {
            datagrams.push(datagram.to_vec());
        }
        datagrams
    }

    /// The bytes that the device sends for a datagram.
    pub(crate) fn frame(&mut self, datagram: &[u8]) -> Vec<u8> {
        at_once(self.serial.send((), datagram)).expect("the port takes all").expect("the port is open");
        self.port.sent()
    }

    /// The bytes that it sends for a line of its log.
    pub(crate) fn log(&mut self, line: &str) -> Vec<u8> {
        at_once(self.serial.log(line)).expect("the port takes all").expect("the port is open");
        self.port.sent()
    }
}

#[derive(Default)]
pub(crate) struct HostEnd {
    decoder: Decoder,
    frame: Frame,
}

impl HostEnd {
    pub(crate) fn frame(&self, datagram: &[u8]) -> Vec<u8> {
        encode_buffered(Slipmux::Configuration(datagram.to_vec()))
    }

    pub(crate) fn datagrams(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        for byte in bytes {
            if let Ok(DecodeStatus::FrameCompleteConfiguration) = self.decoder.decode(*byte, &mut self.frame) {
                // The frame check sequence is the last two bytes.
                let len = self.frame.0.len().saturating_sub(2);
                datagrams.push(self.frame.0[..len].to_vec());
            }
        }
        datagrams
    }
}

#[derive(Default)]
struct Frame(Vec<u8>);

impl FrameHandler for Frame {
    fn begin_frame(&mut self, _: FrameType) {
        self.0.clear();
    }

    fn write_byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn end_frame(&mut self, _: Option<slipmux::Error>) {}
}

/// What a future gives without waiting.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
