use std::sync::{Arc, Mutex};

use cbor_schemas::Limits;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use proptest::collection::vec;
use proptest::prelude::*;
use protocol::coap;
use tokio::task::JoinHandle;

use super::ports::TOKEN_LEN;
use super::testing::empty_message;
use super::*;
use crate::link::Datagram;
use crate::link::memory::{Faults, MemoryLink, faulty_pair, pair};
use crate::registry::testing::{id, info};

/// No randomness, so that the schedule is known: 2, 4, 8, 16 and 32 s.
const EXACT: Timers = Timers { ack_random_factor: 1.0, ..Timers::NETWORK };

fn client(timers: Timers) -> (Client, MemoryLink) {
    let (ours, theirs) = pair();
    (Client::new(Box::new(ours), timers), theirs)
}

fn encode(kind: MessageType, code: u8, message_id: u16, token: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.code = code.into();
    packet.header.message_id = message_id;
    packet.set_token(token.to_vec());
    packet.payload = payload.to_vec();
    packet.to_bytes().unwrap()
}

fn piggybacked(request: &Packet, payload: &[u8]) -> Vec<u8> {
    encode(MessageType::Acknowledgement, Code::CONTENT.0, request.header.message_id, request.get_token(), payload)
}

fn empty(kind: MessageType, message_id: u16) -> Vec<u8> {
    empty_message(kind, message_id).to_bytes().unwrap()
}

async fn next(device: &mut MemoryLink) -> Packet {
    Packet::from_bytes(&device.receive().await.unwrap().bytes).unwrap()
}

/// A device that does what `script` says, and hands its link back so that nothing seems unplugged.
fn device<F: Future<Output = MemoryLink> + Send + 'static>(
    link: MemoryLink,
    script: impl FnOnce(MemoryLink) -> F,
) -> JoinHandle<MemoryLink> {
    tokio::spawn(script(link))
}

/// A device that answers each request with its payload, or with its path.
async fn echo(mut link: MemoryLink) -> MemoryLink {
    while let Ok(datagram) = link.receive().await {
        let request = Packet::from_bytes(&datagram.bytes).unwrap();
        let path = request.get_first_option(CoapOption::UriPath).cloned().unwrap_or_default();
        let payload = if request.payload.is_empty() { path } else { request.payload.clone() };
        link.send(&piggybacked(&request, &payload)).await.unwrap();
    }
    link
}

#[tokio::test(start_paused = true)]
async fn a_request_is_confirmable_and_a_piggybacked_answer_is_its_response() {
    let (mut client, link) = client(EXACT);
    let device = device(link, |mut link| async move {
        let request = next(&mut link).await;
        assert_eq!(request.header.get_type(), MessageType::Confirmable);
        assert_eq!(request.get_token().len(), TOKEN_LEN);
        link.send(&piggybacked(&request, b"hello")).await.unwrap();
        link
    });
    let response = client.request(&Request::get("/comm")).await.unwrap();
    assert_eq!((response.code, response.payload.as_slice()), (Code::CONTENT, &b"hello"[..]));
    device.await.unwrap();
}

/// Not a second more, and all of it: before the acknowledgement, and after.
#[tokio::test(start_paused = true)]
async fn what_was_waited_is_what_is_said() {
    let timers = Timers { ack_timeout: Duration::from_millis(200), ack_random_factor: 1.0, ..EXACT };
    let (mut probing, _device) = client(timers);
    let error = probing.ping().await.unwrap_err().to_string();
    assert!(error.starts_with("no answer within 6 s;"), "{error}");
    let (mut client, mut link) = client(EXACT);
    let device = async {
        let (_lost, request) = (next(&mut link).await, next(&mut link).await);
        link.send(&empty(MessageType::Acknowledgement, request.header.message_id)).await.unwrap();
        std::future::pending::<()>().await;
    };
    let start = Instant::now();
    let request = Request::get("/comm");
    let error = tokio::select! {
        answer = client.request(&request) => answer.unwrap_err().to_string(),
        () = device => unreachable!(),
    };
    let waited = start.elapsed();
    assert_eq!(waited, EXACT.ack_timeout + EXACT.response);
    assert!(error.starts_with(&format!("no answer within {} s;", waited.as_secs())), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_message_is_sent_five_times_at_doubling_intervals() {
    let (mut client, mut device) = client(EXACT);
    let start = Instant::now();
    let result = client.request(&Request::get("/comm")).await;
    assert!(matches!(result, Err(Error::NoAnswer { waited, .. }) if waited == Duration::from_secs(62)));
    assert_eq!(start.elapsed(), Duration::from_secs(62));
    drop(client);
    let mut copies = Vec::new();
    while let Ok(Datagram { bytes, .. }) = device.receive().await {
        copies.push(bytes);
    }
    assert!(copies.len() == 5 && copies.iter().all(|copy| *copy == copies[0]));
}

#[tokio::test(start_paused = true)]
async fn retransmissions_keep_to_the_schedule() {
    let (mut client, link) = client(EXACT);
    let start = Instant::now();
    let device = device(link, move |mut link| async move {
        for seconds in [0, 2, 6, 14] {
            next(&mut link).await;
            assert_eq!(start.elapsed(), Duration::from_secs(seconds));
        }
        let request = next(&mut link).await;
        link.send(&piggybacked(&request, b"at last")).await.unwrap();
        link
    });
    assert_eq!(client.request(&Request::get("/comm")).await.unwrap().payload, b"at last");
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    device.await.unwrap();
}

#[test]
fn waits_are_stretched_by_chance_and_longer_for_slow_devices() {
    let timers = |timers: Timers, slowness| {
        let conversation::client::Timers { ack_timeout, spread, response, .. } = timers.for_conversation(slowness);
        (ack_timeout, spread, response)
    };
    assert_eq!(timers(Timers::NETWORK, Duration::ZERO), (2_000_000, 1_000_000, 60_000_000));
    assert_eq!(timers::slowness(4300), Duration::from_millis(17_200));
    assert_eq!(timers(EXACT, timers::slowness(4300)), (19_200_000, 0, 94_400_000));
    assert_eq!(timers::slowness(u32::MAX), Duration::from_secs(120));
    let second = Duration::from_secs(1);
    let parts: Vec<_> = (0..200).map(|_| Timers::NETWORK.part_of(second, &mut OsRng)).collect();
    assert!(parts.iter().all(|part| *part <= second));
    assert!(parts.iter().max().unwrap().abs_diff(*parts.iter().min().unwrap()) > second / 2);
    assert_eq!(EXACT.part_of(second, &mut OsRng), second);
}

#[tokio::test(start_paused = true)]
async fn a_separate_response_is_waited_for_without_retransmission_and_acknowledged() {
    let (mut client, link) = client(EXACT);
    let device = device(link, |mut link| async move {
        let request = next(&mut link).await;
        link.send(&empty(MessageType::Acknowledgement, request.header.message_id)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(50)).await;
        link.send(&encode(MessageType::Confirmable, 0x45, 77, request.get_token(), b"later")).await.unwrap();
        let ack = next(&mut link).await;
        assert_eq!((ack.header.get_type(), ack.header.message_id), (MessageType::Acknowledgement, 77));
        assert_eq!(ack.header.code, MessageClass::Empty);
        link
    });
    assert_eq!(client.request(&Request::get("/comm")).await.unwrap().payload, b"later");
    device.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_separate_response_that_never_comes_is_an_error() {
    let (mut client, link) = client(EXACT);
    let device = device(link, |mut link| async move {
        let request = next(&mut link).await;
        link.send(&empty(MessageType::Acknowledgement, request.header.message_id)).await.unwrap();
        link
    });
    let result = client.request(&Request::get("/comm")).await;
    assert!(matches!(result, Err(Error::NoAnswer { waited, .. }) if waited == EXACT.response));
    device.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_separate_response_counts_as_the_acknowledgement_that_was_lost() {
    for kind in [MessageType::Confirmable, MessageType::NonConfirmable] {
        let (mut client, link) = client(EXACT);
        let device = device(link, move |mut link| async move {
            let request = next(&mut link).await;
            link.send(&encode(kind, 0x45, 78, request.get_token(), b"here")).await.unwrap();
            link
        });
        let start = Instant::now();
        assert_eq!(client.request(&Request::get("/comm")).await.unwrap().payload, b"here");
        assert_eq!(start.elapsed(), Duration::ZERO);
        device.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_sent_again_is_acknowledged_again_and_not_taken_for_the_next_one() {
    let (mut client, link) = client(EXACT);
    let device = device(link, |mut link| async move {
        let first = next(&mut link).await;
        let late = encode(MessageType::Confirmable, 0x45, 79, first.get_token(), b"first");
        link.send(&late).await.unwrap();
        assert_eq!(next(&mut link).await.header.get_type(), MessageType::Acknowledgement);
        let second = next(&mut link).await;
        link.send(&late).await.unwrap();
        let ack = next(&mut link).await;
        assert_eq!((ack.header.get_type(), ack.header.message_id), (MessageType::Acknowledgement, 79));
        link.send(&piggybacked(&second, b"second")).await.unwrap();
        link
    });
    assert_eq!(client.request(&Request::get("/1")).await.unwrap().payload, b"first");
    assert_eq!(client.request(&Request::get("/2")).await.unwrap().payload, b"second");
    device.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asked_for_is_ignored_or_turned_away() {
    let (mut client, link) = client(EXACT);
    let device = device(link, |mut link| async move {
        let request = next(&mut link).await;
        let (id, token) = (request.header.message_id, request.get_token().to_vec());
        let other = id.wrapping_add(1000);
        let mut version_2 = piggybacked(&request, b"wrong version");
        version_2[0] |= 0xc0;
        let ack = MessageType::Acknowledgement;
        for ignored in [
            encode(ack, 0x45, other, &token, b"wrong message ID"),
            encode(ack, 0x45, id, b"abcd", b"wrong token"),
            encode(ack, 0x45, id, b"", b"no token"),
            encode(MessageType::NonConfirmable, 0x45, 5, b"abcd", b"wrong token"),
            encode(MessageType::NonConfirmable, 0x01, 6, &token, b"a request"),
            encode(ack, 0x01, id, &token, b"a request"),
            empty(ack, other),
            empty(MessageType::Reset, other),
            version_2,
            vec![],
            vec![0x60],
            vec![0x7f; 40],
        ] {
            link.send(&ignored).await.unwrap();
        }
        for turned_away in [
            empty(MessageType::Confirmable, 7),
            encode(MessageType::Confirmable, 0x01, 7, &token, b"a request"),
            encode(MessageType::Confirmable, 0x45, 7, b"abcd", b"wrong token"),
        ] {
            link.send(&turned_away).await.unwrap();
            let reset = next(&mut link).await;
            assert_eq!((reset.header.get_type(), reset.header.message_id), (MessageType::Reset, 7));
        }
        link.send(&piggybacked(&request, b"this one")).await.unwrap();
        link
    });
    assert_eq!(client.request(&Request::get("/comm")).await.unwrap().payload, b"this one");
    device.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_the_request_at_once() {
    for acknowledged in [false, true] {
        let (mut client, link) = client(EXACT);
        let device = device(link, move |mut link| async move {
            let id = next(&mut link).await.header.message_id;
            if acknowledged {
                link.send(&empty(MessageType::Acknowledgement, id)).await.unwrap();
            }
            link.send(&empty(MessageType::Reset, id)).await.unwrap();
            link
        });
        assert!(matches!(client.request(&Request::get("/comm")).await, Err(Error::Reset)));
        device.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_an_empty_message_and_its_answer_a_reset() {
    let (mut client, link) = client(Timers::PROBE);
    let device = device(link, |mut link| async move {
        let ping = link.receive().await.unwrap().bytes;
        assert_eq!((ping.len(), ping[0], ping[1]), (4, 0x40, 0));
        tokio::time::sleep(Duration::from_millis(100)).await;
        link.send(&empty(MessageType::Reset, u16::from_be_bytes([ping[2], ping[3]]))).await.unwrap();
        link
    });
    assert_eq!(client.ping().await.unwrap(), Duration::from_millis(100));
    let _link = device.await.unwrap();
    let waited = Duration::from_millis(500 + 1000);
    assert!(matches!(client.ping().await, Err(Error::NoAnswer { waited: w, .. }) if w == waited));
}

/// Loses what is sent to it for some time, as a board that starts; then it answers pings. It may say something meanwhile.
struct Starting {
    serves_at: Instant,
    has_said_anything: bool,
    pings: Vec<[u8; 2]>,
    fault: Option<link::Fault>,
}

impl Starting {
    fn after(seconds: u64, has_said_anything: bool) -> Self {
        let serves_at = Instant::now() + Duration::from_secs(seconds);
        Self { serves_at, has_said_anything, pings: Vec::new(), fault: None }
    }
}

impl Datagrams for Starting {
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> link::Io<'a, usize> {
        if Instant::now() >= self.serves_at {
            self.pings.push([datagram[2], datagram[3]]);
        }
        Box::pin(std::future::ready(Ok(datagram.len())))
    }
    fn receive(&mut self) -> link::Io<'_, Datagram> {
        let Some([high, low]) = self.pings.pop() else { return Box::pin(std::future::pending()) };
        Box::pin(std::future::ready(Ok(Datagram { bytes: vec![0x70, 0, high, low], line_bytes: 9 })))
    }
    fn has_said_anything(&self) -> bool {
        self.has_said_anything
    }
    fn examine(&mut self) -> link::Io<'_, Option<link::Fault>> {
        Box::pin(std::future::ready(Ok(self.fault.take())))
    }
}

#[tokio::test(start_paused = true)]
async fn a_board_that_starts_is_waited_for_and_longer_if_it_says_something() {
    for (seconds, says, answers) in
        [(0, false, true), (5, false, true), (9, false, false), (10, true, true), (20, true, false)]
    {
        let start = Instant::now();
        let mut client = Client::new(Box::new(Starting::after(seconds, says)), EXACT);
        let answer = client.probe().await;
        assert_eq!(answer.is_ok(), answers, "{seconds} s: {answer:?}");
        let patience = if says { 12 } else { 6 };
        assert!(start.elapsed() <= Duration::from_secs(patience), "{:?}", start.elapsed());
        assert_eq!(client.timers, EXACT);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_an_earlier_ping_shows_that_somebody_is_there() {
    for seed in 0..10 {
        let late = Faults { delay: Duration::from_millis(2900), ..Default::default() };
        let (ours, mut theirs) = faulty_pair(late, seed);
        tokio::spawn(async move {
            while let Ok(ping) = theirs.receive().await {
                let reset = [0x70, 0, ping.bytes[2], ping.bytes[3]];
                theirs.send(&reset).await.unwrap();
            }
        });
        let answered = Client::new(Box::new(ours), EXACT).probe().await;
        assert!(answered.is_ok(), "seed {seed}: {answered:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_link_is_said_where_no_answer_comes() {
    for request in [false, true] {
        let fault = Some(link::Fault::Loop);
        let mut client = Client::new(Box::new(Starting { fault, ..Starting::after(1_000_000, false) }), EXACT);
        let error = match request {
            true => client.request(&Request::get("/comm")).await.unwrap_err(),
            false => client.probe().await.unwrap_err(),
        };
        assert!(error.to_string().contains("so nobody is there"), "{error}");
        let error = client.probe().await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 6 s; is the device running?");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_goes_away_is_a_failed_link() {
    let (mut client, device) = client(EXACT);
    drop(device);
    assert!(matches!(client.request(&Request::get("/comm")).await, Err(Error::Link(link::Error::Unplugged { .. }))));
}

/// Never takes a byte, and never says one.
struct Stuck;

impl Datagrams for Stuck {
    fn send<'a>(&'a mut self, _: &'a [u8]) -> link::Io<'a, usize> {
        Box::pin(std::future::pending())
    }
    fn receive(&mut self) -> link::Io<'_, Datagram> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_takes_no_bytes_does_not_hold_us_up() {
    let mut client = Client::new(Box::new(Stuck), Timers::PROBE);
    assert!(matches!(client.ping().await, Err(Error::NoAnswer { .. })));
}

/// Takes what is asked of it, asks all the time itself, and never takes the answer to that.
struct Nagging;

impl Datagrams for Nagging {
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> link::Io<'a, usize> {
        let is_answer = Packet::from_bytes(datagram).unwrap().header.get_type() == MessageType::Reset;
        Box::pin(async move { if is_answer { std::future::pending().await } else { Ok(datagram.len()) } })
    }
    fn receive(&mut self) -> link::Io<'_, Datagram> {
        let bytes = empty(MessageType::Confirmable, 7);
        Box::pin(std::future::ready(Ok(Datagram { line_bytes: bytes.len(), bytes })))
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_asks_and_takes_no_answer_does_not_hold_us_up() {
    let mut client = Client::new(Box::new(Nagging), Timers::PROBE);
    let ended = tokio::time::timeout(Duration::from_secs(60), client.ping()).await.expect("it ends");
    assert!(matches!(ended, Err(Error::NoAnswer { .. })));
}

/// Always has something to say that is of no interest, a million times over.
struct Chatter(u32);

impl Datagrams for Chatter {
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> link::Io<'a, usize> {
        Box::pin(async { Ok(datagram.len()) })
    }
    fn receive(&mut self) -> link::Io<'_, Datagram> {
        self.0 += 1;
        let said = match self.0 < 1_000_000 {
            true => Ok(Datagram { bytes: b"chatter".to_vec(), line_bytes: 7 }),
            false => Err(link::Error::Unplugged { port: "chatter".into() }),
        };
        Box::pin(std::future::ready(said))
    }
}

/// Each block comes before anybody would give the device up, and none is the last.
#[tokio::test(start_paused = true)]
async fn a_device_that_sends_a_block_now_and_then_does_not_hold_us_up() {
    const BETWEEN: Duration = Duration::from_secs(59);
    let (mut client, link) = client(EXACT);
    let start = Instant::now();
    let device = device(link, |mut link| async move {
        for number in 0_u8.. {
            let Ok(Datagram { bytes, .. }) = link.receive().await else { break };
            let request = Packet::from_bytes(&bytes).unwrap();
            let acknowledgement = empty(MessageType::Acknowledgement, request.header.message_id);
            link.send(&acknowledgement).await.unwrap();
            tokio::time::sleep(BETWEEN).await;
            let mut block = Packet::from_bytes(&piggybacked(&request, &[0; 16])).unwrap();
            block.header.set_type(MessageType::NonConfirmable);
            let value = u16::from(number) << 4 | 8;
            block.add_option(
                CoapOption::Block2,
                value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect(),
            );
            link.send(&block.to_bytes().unwrap()).await.unwrap();
        }
        link
    });
    assert!(matches!(client.request(&Request::get("/comm")).await, Err(Error::TooSlow)));
    assert!((MAX_TIME..MAX_TIME + BETWEEN).contains(&start.elapsed()));
    drop(client);
    device.await.unwrap();
}

/// In real time: a link that is always ready leaves no gap in which a paused clock would move.
#[tokio::test]
async fn a_device_that_never_stops_talking_does_not_hold_us_up() {
    let timers = Timers { ack_timeout: Duration::from_micros(100), max_retransmit: 0, ..EXACT };
    let mut client = Client::new(Box::new(Chatter(0)), timers);
    assert!(matches!(client.ping().await, Err(Error::NoAnswer { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_with_something_behind_it_is_none() {
    let (mut client, link) = client(EXACT);
    let start = Instant::now();
    let device = device(link, |mut link| async move {
        let id = next(&mut link).await.header.message_id;
        link.send(&[empty(MessageType::Acknowledgement, id), vec![0]].concat()).await.unwrap();
        let again = next(&mut link).await;
        link.send(&piggybacked(&again, b"hello")).await.unwrap();
        link
    });
    client.request(&Request::get("/comm")).await.unwrap();
    assert_eq!(start.elapsed(), EXACT.ack_timeout, "it was sent again");
    device.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_link_that_loses_doubles_and_reorders_delivers_each_response_to_its_request() {
    let faults = Faults { lost: 30, duplicated: 30, delay: Duration::from_millis(900) };
    for seed in 1..=20 {
        let (ours, theirs) = faulty_pair(faults, seed);
        let timers = Timers { max_retransmit: 12, ..Timers::SERIAL };
        let mut client = Client::new(Box::new(ours), timers);
        tokio::spawn(echo(theirs));
        for number in 0..20 {
            let path = format!("/{number}");
            let response = client.request(&Request::get(&path)).await.unwrap();
            assert_eq!(response.payload, &path.as_bytes()[1..], "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_device_with_small_datagrams_gets_time_and_small_payloads() {
    let info = DeviceInfo {
        limits: Limits { datagram: 160, body: 1024, list_keys: 0 },
        operation_ms: 4300,
        ..info(&id("slow"), None)
    };
    let (mut client, _device) = client(EXACT);
    client.adapt(&info);
    assert_eq!(client.conversation.room(None), 96);
    let start = Instant::now();
    client.ping().await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_millis(19_200 * 31));
}

#[tokio::test(start_paused = true)]
async fn each_message_is_recorded_with_its_sizes() {
    let (mut client, link) = client(EXACT);
    client.record();
    let device = device(link, |mut link| async move {
        next(&mut link).await; // lost
        let request = next(&mut link).await;
        link.send(&empty(MessageType::Acknowledgement, request.header.message_id)).await.unwrap();
        link.send(&encode(MessageType::Confirmable, 0x45, 80, request.get_token(), b"hello")).await.unwrap();
        link
    });
    client.note_next("message_1");
    client.request(&Request::get("/comm/owner")).await.unwrap();
    client.note_received("message_2");
    device.await.unwrap();
    let records: Vec<_> =
        client.take_records().into_iter().map(|r| (r.direction, r.message, r.note, r.datagram)).collect();
    let (sent, received) = (Direction::Sent, Direction::Received);
    let record = |direction, message: &str, note: &str, size| (direction, message.to_owned(), note.to_owned(), size);
    assert_eq!(
        records,
        [
            record(sent, "CON GET /comm/owner", "message_1", 19),
            record(sent, "CON GET /comm/owner", "message_1", 19),
            record(received, "ACK", "", 4),
            record(received, "CON 2.05 Content", "message_2", 14),
            record(sent, "ACK", "", 4),
        ]
    );
    assert!(client.take_records().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_was_answered_is_not_sent_again_in_a_pause() {
    let (mut client, mut link) = client(EXACT);
    client.record();
    let device = tokio::spawn(async move {
        let ping = next(&mut link).await;
        link.send(&empty(MessageType::Reset, ping.header.message_id)).await.unwrap();
        tokio::time::sleep(EXACT.ack_timeout * 2).await;
        link.send(&empty(MessageType::Acknowledgement, 7)).await.unwrap();
        link
    });
    client.ping().await.unwrap();
    client.pause(EXACT.ack_timeout * 3, Duration::ZERO).await.unwrap();
    let sent = client.take_records().iter().filter(|record| record.direction == Direction::Sent).count();
    assert_eq!(sent, 1);
    device.await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_longer_than_any_is_not_begun_with() {
    let (mut client, _device) = client(EXACT);
    client.record();
    let result = client.request(&Request::put("/x", 60, vec![0; MAX_BODY + 1])).await;
    assert!(matches!(result, Err(Error::TooLarge)) && client.take_records().is_empty());
}

#[test]
fn a_request_names_its_path_query_and_formats() {
    let mut request = Request::get("/.well-known/core?rt=core.edhoc&x=1");
    request.accept = Some(content_format::LINK_FORMAT);
    let header = coap::Header { type_: Type::Non, code: 1, message_id: 1, token: coap::Token::EMPTY };
    let mut datagram = [0; 64];
    let length = request.for_conversation().compose(&header, &mut datagram).unwrap();
    let packet = Packet::from_bytes(&datagram[..length]).unwrap();
    let values = |option| -> Vec<_> { packet.get_option(option).unwrap().iter().map(|v| v.as_slice()).collect() };
    assert_eq!(values(CoapOption::UriPath), [&b".well-known"[..], b"core"]);
    assert_eq!(values(CoapOption::UriQuery), [&b"rt=core.edhoc"[..], b"x=1"]);
    assert_eq!(values(CoapOption::Accept), [&[40]]);
}

#[test]
fn a_refusal_is_a_sentence_without_control_characters() {
    let refusal = |format, payload: &[u8]| {
        let response =
            Response { code: Code(0x83), content_format: format, payload: payload.to_vec(), max_age: Duration::ZERO };
        response.success().unwrap_err().to_string()
    };
    let problem = |title: Option<&str>, detail: Option<&str>| {
        let mut buffer = [0; 256];
        let length = cbor_schemas::ProblemDetails { title, detail }.encode(&mut buffer).unwrap();
        refusal(Some(content_format::PROBLEM_DETAILS), &buffer[..length])
    };
    assert_eq!(refusal(None, b"\x1b[2J"), "4.03 Forbidden");
    assert_eq!(refusal(Some(257), b"\xff"), "4.03 Forbidden");
    let sentence = "4.03 Forbidden: not empty (ask \\u{1b}[2Jits owner)";
    assert_eq!(problem(Some("not empty"), Some("ask \x1b[2Jits owner")), sentence);
    assert_eq!(problem(Some("not empty"), None), "4.03 Forbidden: not empty");
    assert_eq!(problem(None, None), "4.03 Forbidden");
}

proptest! {
    /// Whatever the device sends, nothing panics, and the client is done in its time.
    #[test]
    fn any_datagrams_are_survived(datagrams in vec(vec(any::<u8>(), 0..40), 0..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (mut client, mut device) = client(Timers::PROBE);
            for datagram in &datagrams {
                device.send(datagram).await.unwrap();
            }
            let _ = client.request(&Request::get("/comm")).await;
        });
    }

    /// The same, with what looks like an answer to the request.
    #[test]
    fn any_answer_is_survived(code in any::<u8>(), options_and_payload in vec(any::<u8>(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (mut client, link) = client(Timers::PROBE);
            let seen = Arc::new(Mutex::new(0));
            let count = seen.clone();
            let device = device(link, move |mut link| async move {
                while let Ok(Datagram { bytes, .. }) = link.receive().await {
                    *count.lock().unwrap() += 1;
                    let head = [0x64, code, bytes[2], bytes[3]];
                    let answer = [&head, &bytes[4..8], &options_and_payload].concat();
                    link.send(&answer).await.unwrap();
                }
                link
            });
            let _ = client.request(&Request::get("/comm")).await;
            assert!(*seen.lock().unwrap() >= 1);
            device.abort();
        });
    }
}
