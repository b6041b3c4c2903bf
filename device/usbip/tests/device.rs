//! The real embassy-usb stack at a host of our own.

mod echo;
#[allow(dead_code, reason = "not every test file uses all of the host")]
mod host;

use echo::with_echo;
use embassy_usb_usbip::{Error, Speed};
use host::{DATA_IN, DATA_OUT, EPIPE, Host, Transfer, attach, block_on};
use tokio::io::AsyncReadExt;

const SPEEDS: [(Speed, usize); 2] = [(Speed::Full, 64), (Speed::High, 512)];
const GET_DESCRIPTOR: u8 = 6;

fn at_both_speeds(test: impl AsyncFn(&mut Host, usize)) {
    for (speed, packet) in SPEEDS {
        block_on(with_echo(speed, async |port| {
            let ((), ended) = attach(&port, async |host| test(host, packet).await).await;
            ended.expect("a host that lets go is no error");
        }));
    }
}

#[test]
fn the_device_is_enumerated() {
    at_both_speeds(async |host, packet| {
        let device = host.control_in([0x80, GET_DESCRIPTOR, 0, 1, 0, 0], 18).await.unwrap();
        assert_eq!(device[..12], [18, 1, 0x10, 2, 0xef, 2, 1, 64, 0x09, 0x12, 1, 0]);
        // A host asks for the first bytes to learn how many there are.
        let head = host.control_in([0x80, GET_DESCRIPTOR, 0, 2, 0, 0], 9).await.unwrap();
        let whole = host.control_in([0x80, GET_DESCRIPTOR, 0, 2, 0, 0], 512).await.unwrap();
        assert_eq!((&whole[..9], usize::from(u16::from_le_bytes([head[2], head[3]]))), (&head[..], whole.len()));
        let endpoints: Vec<_> = whole.windows(7).filter(|it| it[0] == 7 && it[1] == 5).map(|it| it[2]).collect();
        assert_eq!(endpoints.len(), 3, "{endpoints:x?}");
        let bulk = whole.windows(7).find(|it| it[..4] == [7, 5, DATA_OUT, 2]).expect("a bulk endpoint");
        assert_eq!(usize::from(u16::from_le_bytes([bulk[4], bulk[5]])), packet);
        let serial = host.control_in([0x80, GET_DESCRIPTOR, 3, 3, 9, 4], 255).await.unwrap();
        assert_eq!(serial[2..], "0024be".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
        host.configure().await;
        assert_eq!(host.control_in([0x80, 8, 0, 0, 0, 0], 1).await, Ok(vec![1]), "GET_CONFIGURATION");
    });
}

#[test]
fn every_length_around_packets_comes_back() {
    at_both_speeds(async |host, packet| {
        host.configure().await;
        let lengths = (0..=130).chain(packet * 3 - 2..=packet * 3 + 2).chain(packet * 8 - 1..=packet * 8 + 1);
        for length in lengths {
            let data: Vec<_> = (0..length).map(|n| (n * 7 + length) as u8).collect();
            assert!(host.echo(&data).await == data, "{length} bytes");
        }
    });
}

/// A transfer that fills its last packet is followed by an empty one where the host asks for that, and only there.
#[test]
fn empty_packets_are_where_they_belong() {
    at_both_speeds(async |host, packet| {
        host.configure().await;
        let full = vec![7; packet];
        assert_eq!(host.transfers_of(Transfer::Out(&full)).await, [&full[..]]);
        assert_eq!(host.transfers_of(Transfer::OutAndZero(&full)).await, [&full[..], &[]]);
        assert_eq!(host.transfers_of(Transfer::Out(&[])).await, [vec![]]);
        // Nothing is left over.
        assert_eq!(host.echo(b"a").await, b"a");
    });
}

#[test]
fn a_transfer_ends_when_it_is_full() {
    at_both_speeds(async |host, packet| {
        host.configure().await;
        let data = vec![5; packet * 2];
        host.submit(DATA_OUT, [0; 8], Transfer::Out(&data)).await;
        let (first, second) = (
            host.submit(DATA_IN, [0; 8], Transfer::In(packet)).await,
            host.submit(DATA_IN, [0; 8], Transfer::In(packet)).await,
        );
        let mut filled = Vec::new();
        while filled.len() < 2 {
            let answer = host.answer().await;
            if answer.sequence >= first {
                filled.push((answer.sequence, answer.status, answer.length));
            }
        }
        // Its last packet was full, so the transfer ended; the empty packet that followed is the next one.
        assert_eq!(filled, [(first, 0, packet), (second, 0, 0)]);
    });
}

#[test]
fn more_than_was_asked_for_is_an_overflow() {
    at_both_speeds(async |host, _| {
        host.configure().await;
        host.submit(DATA_OUT, [0; 8], Transfer::Out(b"four")).await;
        assert_eq!(host.answer().await.status, 0);
        host.submit(DATA_IN, [0; 8], Transfer::In(2)).await;
        assert_eq!(host.answer().await.status, -75);
        assert_eq!(host.echo(b"next").await, b"next");
    });
}

#[test]
fn what_there_is_not_stalls() {
    at_both_speeds(async |host, _| {
        assert_eq!(host.control_in([0x80, GET_DESCRIPTOR, 0, 9, 0, 0], 64).await, Err(EPIPE), "no such descriptor");
        assert_eq!(host.control_in([0xc0, 99, 0, 0, 0, 0], 4).await, Err(EPIPE), "no such request");
        assert_eq!(host.control_out([0x40, 99, 0, 0, 0, 0], &[1; 63]).await, Err(EPIPE));
        assert_eq!(host.control_out([0x21, 0x20, 0, 0, 0, 0], &[1; 3000]).await, Err(EPIPE), "longer than the buffer");
        host.submit(9, [0; 8], Transfer::In(64)).await;
        assert_eq!(host.answer().await.status, EPIPE, "no such endpoint");
        host.submit(DATA_IN, [0; 8], Transfer::In(64)).await;
        assert_eq!(host.answer().await.status, -71, "the device is not configured");
    });
}

/// embassy-usb has nothing to say to a request for no bytes; the driver ends it.
#[test]
fn a_request_for_no_bytes_ends() {
    at_both_speeds(async |host, _| {
        assert_eq!(host.control_in([0x80, GET_DESCRIPTOR, 0, 1, 0, 0], 0).await, Ok(vec![]));
        assert_eq!(host.control_in([0x80, GET_DESCRIPTOR, 0, 1, 0, 0], 1).await, Ok(vec![18]));
    });
}

#[test]
fn a_halted_endpoint_stalls_until_the_halt_is_cleared() {
    at_both_speeds(async |host, _| {
        host.configure().await;
        let pending = host.submit(DATA_IN, [0; 8], Transfer::In(64)).await;
        let halt = host.submit(0, [0x02, 3, 0, 0, 0x80 | DATA_IN, 0, 0, 0], Transfer::Out(&[])).await;
        let mut answers = [host.answer().await, host.answer().await];
        answers.sort_by_key(|answer| answer.sequence);
        assert_eq!(answers.each_ref().map(|it| (it.sequence, it.status)), [(pending, EPIPE), (halt, 0)]);
        host.submit(DATA_IN, [0; 8], Transfer::In(64)).await;
        assert_eq!(host.answer().await.status, EPIPE);
        assert_eq!(host.control_in([0x82, 0, 0, 0, 0x80 | DATA_IN, 0], 2).await, Ok(vec![1, 0]), "GET_STATUS");
        host.control_out([0x02, 1, 0, 0, 0x80 | DATA_IN, 0], &[]).await.unwrap();
        assert_eq!(host.echo(b"again").await, b"again");
    });
}

#[test]
fn a_transfer_is_taken_back_once() {
    at_both_speeds(async |host, _| {
        host.configure().await;
        let kept = host.submit(DATA_IN, [0; 8], Transfer::In(64)).await;
        let pending = host.submit(DATA_IN, [0; 8], Transfer::In(64)).await;
        assert!(host.unlink(pending).await);
        assert!(!host.unlink(pending).await, "it is gone");
        assert!(!host.unlink(4711).await, "there is no such transfer");
        assert!(host.unlink(kept).await);
        assert_eq!(host.echo(b"after").await, b"after");
    });
}

#[test]
fn a_host_that_went_away_with_transfers_pending_can_come_back() {
    block_on(with_echo(Speed::Full, async |port| {
        for _ in 0..3 {
            let ((), ended) = attach(&port, async |host| {
                host.configure().await;
                assert_eq!(host.echo(b"here").await, b"here");
                host.submit(DATA_OUT, [0; 8], Transfer::Out(&[1; 1000])).await;
                host.submit(DATA_IN, [0; 8], Transfer::In(64)).await;
            })
            .await;
            ended.unwrap();
            assert!(!port.is_attached());
        }
    }));
}

#[test]
fn one_host_at_a_time() {
    block_on(with_echo(Speed::Full, async |port| {
        let second = port.clone();
        let (other, first) = attach(&port, async |host| {
            host.configure().await;
            let (_ours, theirs) = tokio::io::duplex(64);
            let other = second.serve(theirs).await;
            assert_eq!(host.echo(b"still here").await, b"still here");
            other
        })
        .await;
        assert!(matches!(other, Err(Error::Busy)), "{other:?}");
        first.unwrap();
    }));
}

#[test]
fn suspend_reset_and_unplugging_are_survived() {
    block_on(with_echo(Speed::Full, async |port| {
        let plug = port.clone();
        let ((), ended) = attach(&port, async |host| {
            host.configure().await;
            plug.suspend();
            plug.resume();
            assert_eq!(host.echo(b"awake").await, b"awake");
            plug.reset();
            // It has to be configured anew.
            assert_eq!(host.control_in([0x80, 8, 0, 0, 0, 0], 1).await, Ok(vec![0]));
            host.configure().await;
            assert_eq!(host.echo(b"anew").await, b"anew");
            plug.unplug();
            assert_eq!(host.stream.read(&mut [0; 48]).await.ok(), Some(0), "the host is told");
        })
        .await;
        ended.expect("an unplugged device is no error");
        let ((), ended) = attach(&port, async |host| {
            host.configure().await;
            assert_eq!(host.echo(b"plugged in").await, b"plugged in");
        })
        .await;
        ended.unwrap();
    }));
}
