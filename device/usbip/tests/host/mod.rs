//! A USB host that speaks USB/IP.

use std::{collections::BTreeSet, future::Future, time::Duration};

use embassy_usb_usbip::{Error, Port};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    join,
};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const EPIPE: i32 = -32;
pub(crate) const ECONNRESET: i32 = -104;

/// The endpoints of the serial port's data, by direction; IN, the first one is for notifications.
pub(crate) const DATA_OUT: u8 = 1;
pub(crate) const DATA_IN: u8 = 2;

/// Attaches a host to a device, and runs both ends. Returns what became of the device's end, too.
pub(crate) async fn attach<T>(port: &Port, host: impl AsyncFnOnce(&mut Host) -> T) -> (T, Result<(), Error>) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let mut end = Host { stream: ours, sequence: 0, to_host: BTreeSet::new() };
    let host = async {
        let done = host(&mut end).await;
        drop(end);
        done
    };
    join!(host, port.serve(theirs))
}

/// The host's end of the connection.
pub(crate) struct Host {
    pub(crate) stream: DuplexStream,
    sequence: u32,
    /// The transfers to the host, whose answers have bytes.
    to_host: BTreeSet<u32>,
}

/// An answer to a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) sequence: u32,
    pub(crate) status: i32,
    pub(crate) length: usize,
    pub(crate) data: Vec<u8>,
}

impl Host {
    /// Begins a transfer; returns its number.
    pub(crate) async fn submit(&mut self, endpoint: u8, setup: [u8; 8], transfer: Transfer<'_>) -> u32 {
        self.sequence += 1;
        let (is_in, length, flags, data) = match transfer {
            Transfer::In(length) => (true, length, 0, &[][..]),
            Transfer::Out(data) => (false, data.len(), 0, data),
            Transfer::OutAndZero(data) => (false, data.len(), 0x40, data),
        };
        if is_in {
            self.to_host.insert(self.sequence);
        }
        let length = u32::try_from(length).unwrap();
        let words = [1, self.sequence, 0x1_0002, is_in.into(), endpoint.into(), flags, length, 0, 0, 0];
        let header = [words.map(u32::to_be_bytes).as_flattened(), &setup, data].concat();
        self.stream.write_all(&header).await.expect("the device takes it");
        self.sequence
    }

    /// Takes a transfer back; returns whether it was still there.
    pub(crate) async fn unlink(&mut self, victim: u32) -> bool {
        self.sequence += 1;
        let words = [2, self.sequence, 0x1_0002, 0, 0, victim, 0, 0, 0, 0, 0, 0];
        self.stream.write_all(words.map(u32::to_be_bytes).as_flattened()).await.expect("the device takes it");
        let header = self.header().await;
        assert_eq!((header[0], header[1]), (4, self.sequence));
        match header[5].cast_signed() {
            0 => false,
            ECONNRESET => true,
            other => panic!("unlinked with {other}"),
        }
    }

    /// Waits for the answer to the transfer that ends next.
    pub(crate) async fn answer(&mut self) -> Answer {
        let header = self.header().await;
        assert_eq!(header[0], 3, "an answer to a transfer");
        let length = usize::try_from(header[6]).unwrap();
        let mut data = vec![0; if self.to_host.remove(&header[1]) { length } else { 0 }];
        self.stream.read_exact(&mut data).await.expect("as many bytes as it says");
        Answer { sequence: header[1], status: header[5].cast_signed(), length, data }
    }

    /// Waits for the answer to one transfer. Those to others are lost.
    pub(crate) async fn answer_to(&mut self, transfer: u32) -> Answer {
        loop {
            let answer = self.answer().await;
            if answer.sequence == transfer {
                return answer;
            }
        }
    }

    async fn header(&mut self) -> [u32; 12] {
        let mut bytes = [0; 48];
        self.stream.read_exact(&mut bytes).await.expect("an answer");
        let (words, _) = bytes.as_chunks::<4>();
        <[[u8; 4]; 12]>::try_from(words).unwrap().map(u32::from_be_bytes)
    }

    /// A control transfer to the device. `setup` without its length.
    pub(crate) async fn control_in(&mut self, setup: [u8; 6], length: u16) -> Result<Vec<u8>, i32> {
        let sent = self.submit(0, with_length(setup, length), Transfer::In(length.into())).await;
        let answer = self.answer_to(sent).await;
        if answer.status == 0 { Ok(answer.data) } else { Err(answer.status) }
    }

    /// A control transfer from the host.
    pub(crate) async fn control_out(&mut self, setup: [u8; 6], data: &[u8]) -> Result<(), i32> {
        let length = u16::try_from(data.len()).unwrap();
        let sent = self.submit(0, with_length(setup, length), Transfer::Out(data)).await;
        let answer = self.answer_to(sent).await;
        if answer.status == 0 { Ok(()) } else { Err(answer.status) }
    }

    /// Configures the device, as any host does before it uses an endpoint.
    pub(crate) async fn configure(&mut self) {
        self.control_out([0x00, 9, 1, 0, 0, 0], &[]).await.expect("SET_CONFIGURATION");
    }

    /// Sends bytes through the serial port, and reads them back.
    pub(crate) async fn echo(&mut self, data: &[u8]) -> Vec<u8> {
        self.transfers_of(Transfer::Out(data)).await.concat()
    }

    /// The transfers that come back for one, up to the one that is not filled. The next one is asked for all the time, as
    /// drivers do.
    pub(crate) async fn transfers_of(&mut self, transfer: Transfer<'_>) -> Vec<Vec<u8>> {
        let (length, empty) = match &transfer {
            Transfer::Out(data) => (data.len(), data.is_empty()),
            Transfer::OutAndZero(data) => (data.len(), true),
            Transfer::In(_) => panic!("it goes to the device"),
        };
        let sent = self.submit(DATA_OUT, [0; 8], transfer).await;
        let (mut taken, mut back) = (false, Vec::<Vec<u8>>::new());
        let is_whole = |back: &[Vec<u8>]| {
            let bytes: usize = back.iter().map(Vec::len).sum();
            bytes == length && (!empty || back.last().is_some_and(Vec::is_empty))
        };
        let mut asked = self.submit(DATA_IN, [0; 8], Transfer::In(4096)).await;
        while !taken || !is_whole(&back) {
            let answer = self.answer().await;
            assert_eq!(answer.status, 0);
            if answer.sequence == sent {
                assert_eq!(answer.length, length);
                taken = true;
            } else {
                assert_eq!(answer.sequence, asked);
                back.push(answer.data);
                asked = self.submit(DATA_IN, [0; 8], Transfer::In(4096)).await;
            }
        }
        assert!(self.unlink(asked).await, "nothing more comes");
        back
    }
}

/// What is transferred.
pub(crate) enum Transfer<'a> {
    In(usize),
    Out(&'a [u8]),
    /// Bytes to the device, and an empty packet behind a last one that is full.
    OutAndZero(&'a [u8]),
}

/// Runs a test on one thread.
pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn with_length([a, b, c, d, e, f]: [u8; 6], length: u16) -> [u8; 8] {
    let [low, high] = length.to_le_bytes();
    [a, b, c, d, e, f, low, high]
}
