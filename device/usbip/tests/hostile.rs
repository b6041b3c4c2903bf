//! Hosts that do not behave: they get an error, and the next host gets the device.

mod echo;
#[allow(dead_code, reason = "not every test file uses all of the host")]
mod host;

use echo::with_echo;
use embassy_usb_usbip::{Error, Port, Speed, serve_tcp};
use host::{DATA_IN, Host, PATIENCE, Transfer, attach, block_on};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

async fn works(port: &Port) {
    let ((), ended) = attach(port, async |host| {
        host.configure().await;
        assert_eq!(host.echo(b"fine").await, b"fine");
    })
    .await;
    ended.unwrap();
}

/// Sends bytes, reads what comes back, and closes.
async fn say(host: &mut Host, bytes: &[u8]) {
    let (mut from, mut to) = tokio::io::split(&mut host.stream);
    let speak = async {
        let _ = to.write_all(bytes).await;
        let _ = to.shutdown().await;
    };
    let mut heard = vec![0; 4096];
    let listen = async { while from.read(&mut heard).await.is_ok_and(|length| length > 0) {} };
    embassy_futures::select::select(embassy_futures::join::join(speak, listen), tokio::time::sleep(PATIENCE)).await;
}

#[test]
fn nonsense_ends_the_connection_and_nothing_else() {
    block_on(with_echo(Speed::Full, async |port| {
        for words in [
            [9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 1, 0, u32::MAX, 0, 0, 0, 0, 0],
            [1, 1, 0, 7, 1, 0, 1, 0, 0, 0, 0, 0],
            [1, 1, 0, 1, 77, 0, 1, 0, 0, 0, 0, 0],
            [1, 1, 0, 1, 1, 0, 1, 0, 32, 0, 0, 0],
        ] {
            let bytes = words.map(u32::to_be_bytes);
            let ((), ended) = attach(&port, async |host| say(host, bytes.as_flattened()).await).await;
            assert!(matches!(ended, Err(Error::Malformed(_))), "{ended:?}");
            works(&port).await;
        }
        let ((), ended) = attach(&port, async |host| say(host, &[0, 0, 0, 1, 5]).await).await;
        assert!(matches!(ended, Err(Error::Io(_))), "{ended:?}");
        works(&port).await;
    }));
}

/// What waits is bounded, in number and in bytes.
#[test]
fn a_flood_of_transfers_is_refused() {
    const ENOMEM: i32 = -12;
    block_on(with_echo(Speed::Full, async |port| {
        let ((), ended) = attach(&port, async |host| {
            host.configure().await;
            for _ in 0..512 {
                host.submit(DATA_IN, [0; 8], Transfer::In(64)).await;
            }
            let one_more = host.submit(DATA_IN, [0; 8], Transfer::In(64)).await;
            let answer = host.answer().await;
            assert_eq!((answer.sequence, answer.status), (one_more, ENOMEM));
        })
        .await;
        ended.unwrap();
        let ((), ended) = attach(&port, async |host| {
            host.configure().await;
            for _ in 0..8 {
                host.submit(DATA_IN, [0; 8], Transfer::In(1 << 20)).await;
            }
            let one_more = host.submit(DATA_IN, [0; 8], Transfer::In(1)).await;
            let answer = host.answer().await;
            assert_eq!((answer.sequence, answer.status), (one_more, ENOMEM));
        })
        .await;
        ended.unwrap();
        works(&port).await;
    }));
}

/// A host that asks and does not read is not listened to any more, so that answers do not pile up.
#[test]
fn a_host_that_does_not_read_is_not_heard() {
    block_on(with_echo(Speed::Full, async |port| {
        let (sent, _) = attach(&port, async |host| {
            let mut sent = 0_usize;
            let question = [1_u32, 1, 0, 1, 9, 0, 64, 0, 0, 0, 0, 0].map(u32::to_be_bytes);
            // Each is answered at once: there is no endpoint 9.
            while let Ok(Ok(())) = tokio::time::timeout(
                std::time::Duration::from_millis(200),
                host.stream.write_all(question.as_flattened()),
            )
            .await
            {
                sent += 1;
                assert!(sent < 100_000, "there is no end to it");
            }
            sent
        })
        .await;
        assert!(sent > 64, "{sent}");
        works(&port).await;
    }));
}

#[test]
fn usbip_attaches_over_tcp_what_it_has_listed() {
    block_on(with_echo(Speed::High, async |port| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut results = Vec::new();
        let hosts = async {
            let ask = async |operation: u16, bus_id: Option<&str>| {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let mut request = [[0x01, 0x11], operation.to_be_bytes(), [0, 0], [0, 0]].as_flattened().to_vec();
                if let Some(bus_id) = bus_id {
                    request.extend(bus_id.bytes().chain(std::iter::repeat(0)).take(32));
                }
                stream.write_all(&request).await.unwrap();
                stream
            };
            let mut listed = Vec::new();
            ask(0x8005, None).await.read_to_end(&mut listed).await.unwrap();
            assert_eq!(listed[..12], [1, 0x11, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1]);
            let device = &listed[12..];
            assert_eq!((&device[256..260], device[288..300].last_chunk::<4>()), (&b"1-1\0"[..], Some(&[0, 0, 0, 3])));
            assert_eq!(device[300..312], [0x12, 0x09, 0, 1, 0, 0x10, 0xef, 2, 1, 1, 1, 2]);
            assert_eq!(device[312..], [2, 2, 0, 0, 10, 0, 0, 0], "its interfaces");

            for (operation, bus_id) in [(0x8003, Some("9-9")), (0x1234, None)] {
                let mut refused = Vec::new();
                ask(operation, bus_id).await.read_to_end(&mut refused).await.unwrap();
                assert!(refused.is_empty() || refused == [1, 0x11, 0, 3, 0, 0, 0, 1], "{refused:?}");
            }

            let mut first = ask(0x8003, Some("1-1")).await;
            let mut imported = [0; 320];
            first.read_exact(&mut imported).await.unwrap();
            assert_eq!((&imported[..8], &imported[8..]), (&[1, 0x11, 0, 3, 0, 0, 0, 0][..], &device[..312]));
            let mut second = Vec::new();
            ask(0x8003, Some("1-1")).await.read_to_end(&mut second).await.unwrap();
            assert_eq!(second, [1, 0x11, 0, 3, 0, 0, 0, 1], "one host at a time");
            // GET_CONFIGURATION
            let words = [1_u32, 1, 0x1_0002, 1, 0, 0, 1, 0, 0, 0, 0x8008_0000, 0x0000_0100];
            first.write_all(words.map(u32::to_be_bytes).as_flattened()).await.unwrap();
            let mut answer = [0; 49];
            first.read_exact(&mut answer).await.unwrap();
            assert_eq!((answer[3], answer[48]), (3, 0));
        };
        tokio::select! {
            failed = serve_tcp(&port, &listener, |_, ended| results.push(ended.is_ok())) => panic!("{failed:?}"),
            () = hosts => {}
        }
        assert!(results.contains(&true) && results.contains(&false), "{results:?}");
    }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Commands of all kinds, of which most make sense, in any order.
    #[test]
    fn no_host_breaks_the_device(
        commands in proptest::collection::vec(
            (1_u32..=2, 0_u32..12, 0_u32..=1, 0_u32..4, any::<u32>(), 0_u32..200, any::<[u8; 8]>()), 1..40),
    ) {
        block_on(with_echo(Speed::Full, async |port| {
            let ((), _) = attach(&port, async |host| {
                let mut bytes = Vec::new();
                for (command, sequence, direction, endpoint, flags, length, setup) in commands {
                    let flags = if command == 2 { flags % 12 } else { flags };
                    let words = [command, sequence, 0, direction, endpoint, flags, length, 0, 0, 0];
                    bytes.extend_from_slice(words.map(u32::to_be_bytes).as_flattened());
                    bytes.extend(setup);
                    if command == 1 && direction == 0 {
                        bytes.extend(vec![1; length as usize]);
                    }
                }
                say(host, &bytes).await;
            }).await;
            works(&port).await;
        }));
    }
}
