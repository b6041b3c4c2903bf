//! The messages of USB/IP, version 1.1.1, as Linux' `Documentation/usb/usbip_protocol.rst` has them. All numbers are
//! big-endian, except those inside of a SETUP packet.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Protocol version 1.1.1.
pub(crate) const VERSION: u16 = 0x0111;
/// Requests that open a connection, and what answers them.
pub(crate) const OP_REQ_DEVLIST: u16 = 0x8005;
pub(crate) const OP_REP_DEVLIST: u16 = 0x0005;
pub(crate) const OP_REQ_IMPORT: u16 = 0x8003;
pub(crate) const OP_REP_IMPORT: u16 = 0x0003;

/// Most bytes that one transfer may have. Linux' class drivers use some 16 KiB.
pub(crate) const MAX_TRANSFER: usize = 1 << 20;

const CMD_SUBMIT: u32 = 1;
const CMD_UNLINK: u32 = 2;
const RET_SUBMIT: u32 = 3;
const RET_UNLINK: u32 = 4;
const HEADER_LEN: usize = 48;
/// The host wants a zero-length packet where the transfer fills its last packet.
const URB_ZERO_PACKET: u32 = 0x40;

/// What became of a transfer, by Linux' error numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Status {
    Done = 0,
    /// Too much of it is pending already.
    NoMemory = -12,
    /// The endpoint is halted, or there is none.
    Stalled = -32,
    /// Nobody answered: the endpoint is not enabled.
    NoAnswer = -71,
    /// The device sent more than was asked for.
    Overflow = -75,
    /// The host took it back.
    Unlinked = -104,
    /// The endpoint was disabled meanwhile.
    Shutdown = -108,
}

/// A transfer that the host asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Submit {
    pub(crate) sequence: u32,
    pub(crate) endpoint: u8,
    pub(crate) is_in: bool,
    /// IN: most bytes that are wanted. OUT: how many there are.
    pub(crate) length: usize,
    pub(crate) wants_zero_packet: bool,
    pub(crate) setup: [u8; 8],
    /// OUT: the bytes.
    pub(crate) data: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Submit(Submit),
    Unlink { sequence: u32, victim: u32 },
}

/// What is wrong with a message of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// An unknown command.
    #[error("the host sent the unknown command {0:#x}; this is USB/IP 1.1.1")]
    Command(u32),
    /// No such endpoint can exist.
    #[error("the host names endpoint {0}; there are 0 to 15")]
    Endpoint(u32),
    /// Neither IN nor OUT.
    #[error("the host asks for a transfer in direction {0}; OUT is 0 and IN is 1")]
    Direction(u32),
    /// More bytes in one transfer than are taken.
    #[error("the host asks for a transfer of {0} bytes; at most {MAX_TRANSFER} are taken")]
    Length(u32),
    /// An isochronous transfer.
    #[error("the host asks for an isochronous transfer; these are not supported")]
    Isochronous,
}

/// Reads a command; [`None`] where the connection ends between two commands.
pub(crate) async fn read_command(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Command>, ReadError> {
    let mut header = [0; HEADER_LEN];
    let read = stream.read(&mut header).await?;
    if read == 0 {
        return Ok(None);
    }
    stream.read_exact(header.get_mut(read..).unwrap_or_default()).await?;
    let mut command = parse_header(&header)?;
    if let Command::Submit(submit) = &mut command
        && !submit.is_in
    {
        submit.data.resize(submit.length, 0);
        stream.read_exact(&mut submit.data).await?;
    }
    Ok(Some(command))
}

/// Why there is no command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Everything but the bytes of an OUT transfer.
fn parse_header(header: &[u8; HEADER_LEN]) -> Result<Command, Malformed> {
    let (words, []) = header.as_chunks::<4>() else { return Err(Malformed::Command(0)) };
    let [
        command,
        sequence,
        _device,
        direction,
        endpoint,
        w5,
        length,
        _start_frame,
        packets,
        _interval,
        setup_a,
        setup_b,
    ] = <[[u8; 4]; 12]>::try_from(words).map_err(|_| Malformed::Command(0))?.map(u32::from_be_bytes);
    match command {
        CMD_SUBMIT => {
            let is_in = match direction {
                0 => false,
                1 => true,
                other => return Err(Malformed::Direction(other)),
            };
            let number = u8::try_from(endpoint).ok().filter(|number| *number < 16);
            let endpoint = number.ok_or(Malformed::Endpoint(endpoint))?;
            let short_enough = usize::try_from(length).ok().filter(|length| *length <= MAX_TRANSFER);
            let length = short_enough.ok_or(Malformed::Length(length))?;
            // Linux says 0 or -1 where the transfer is not isochronous.
            if !matches!(packets, 0 | u32::MAX) {
                return Err(Malformed::Isochronous);
            }
            let mut setup = [0; 8];
            for (byte, of) in setup.iter_mut().zip([setup_a, setup_b].map(u32::to_be_bytes).as_flattened()) {
                *byte = *of;
            }
            let wants_zero_packet = w5 & URB_ZERO_PACKET != 0;
            Ok(Command::Submit(Submit {
                sequence,
                endpoint,
                is_in,
                length,
                wants_zero_packet,
                setup,
                data: Vec::new(),
            }))
        }
        CMD_UNLINK => Ok(Command::Unlink { sequence, victim: w5 }),
        other => Err(Malformed::Command(other)),
    }
}

/// The answer to a transfer: of `actual` bytes, which are in `data` if it was an IN transfer.
pub(crate) fn submitted(sequence: u32, status: Status, actual: usize, data: &[u8]) -> Vec<u8> {
    let mut answer = reply(RET_SUBMIT, sequence, status, actual);
    answer.extend_from_slice(data);
    answer
}

/// The answer to an attempt to take a transfer back: whether it was still there.
pub(crate) fn unlinked(sequence: u32, found: bool) -> Vec<u8> {
    reply(RET_UNLINK, sequence, if found { Status::Unlinked } else { Status::Done }, 0)
}

fn reply(command: u32, sequence: u32, status: Status, actual: usize) -> Vec<u8> {
    // `MAX_TRANSFER` is far below 4 GiB.
    let actual = u32::try_from(actual).unwrap_or(u32::MAX);
    let words = [command, sequence, 0, 0, 0, (status as i32).cast_unsigned(), actual, 0, 0, 0, 0, 0];
    words.map(u32::to_be_bytes).as_flattened().to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(words: [u32; 12]) -> Vec<u8> {
        words.map(u32::to_be_bytes).as_flattened().to_vec()
    }

    async fn read(bytes: &[u8]) -> Result<Option<Command>, ReadError> {
        let mut bytes = bytes;
        read_command(&mut bytes).await
    }

    #[tokio::test]
    async fn a_transfer_is_read_with_its_bytes() {
        let mut bytes = header([1, 7, 0x10002, 0, 2, 0x40, 3, 0, 0, 0, 0x8006_0001, 0x0000_4000]);
        bytes.extend(*b"abc");
        let Some(Command::Submit(submit)) = read(&bytes).await.unwrap() else { panic!("a transfer") };
        assert_eq!((submit.sequence, submit.endpoint, submit.is_in, submit.length), (7, 2, false, 3));
        assert_eq!((submit.wants_zero_packet, submit.data.as_slice()), (true, &b"abc"[..]));
        assert_eq!(submit.setup, [0x80, 6, 0, 1, 0, 0, 0x40, 0]);
    }

    #[tokio::test]
    async fn an_end_between_commands_is_no_error_and_one_within_is() {
        assert!(matches!(read(b"").await, Ok(None)));
        let bytes = header([1, 7, 0, 0, 2, 0, 3, 0, 0, 0, 0, 0]);
        for cut in 1..bytes.len() {
            assert!(matches!(read(&bytes[..cut]).await, Err(ReadError::Io(_))), "{cut}");
        }
        assert!(matches!(read(&bytes).await, Err(ReadError::Io(_))), "the three bytes are missing");
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused() {
        for (words, what) in [
            ([9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Malformed::Command(9)),
            ([1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0], Malformed::Direction(2)),
            ([1, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0], Malformed::Endpoint(16)),
            ([1, 0, 0, 0, 0x101, 0, 0, 0, 0, 0, 0, 0], Malformed::Endpoint(0x101)),
            ([1, 0, 0, 1, 1, 0, 0x10_0001, 0, 0, 0, 0, 0], Malformed::Length(0x10_0001)),
            ([1, 0, 0, 1, 1, 0, 0, 0, 5, 0, 0, 0], Malformed::Isochronous),
        ] {
            match read(&header(words)).await {
                Err(ReadError::Malformed(found)) => assert_eq!(found, what),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn answers_are_as_long_as_they_say() {
        assert_eq!(submitted(3, Status::Done, 2, b"ab").len(), 50);
        let gone = unlinked(4, true);
        assert_eq!((&gone[..8], &gone[20..24]), (&[0, 0, 0, 4, 0, 0, 0, 4][..], &(-104_i32).to_be_bytes()[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_host_are_worse_than_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read(&bytes));
        }
    }
}
