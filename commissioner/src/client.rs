//! A CoAP client (RFC 7252) over any [`link`]: one request at a time, to one device.
//!
//! [`Client::request`] exchanges whole bodies without protection; a [`Session`](crate::session::Session) does the same
//! under OSCORE. Both rest on one confirmable message and its answer, which this module gets through: it retransmits,
//! takes answers that come with the acknowledgement or later, acknowledges those, and turns away what it did not ask
//! for.

mod blockwise;
mod message;
mod record;
mod timers;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use cbor_schemas::DeviceInfo;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use rand_core::{CryptoRngCore, OsRng, RngCore};
use tokio::time::{Instant, timeout_at};

use crate::link::{self, Datagrams, Link};

pub(crate) use blockwise::{Exchange, transfer};
pub use cbor_schemas::Method;
pub use message::{Code, Refusal, Request, Response, content_format};
pub(crate) use message::{echo_wanted, set_echo};
#[cfg(test)]
pub(crate) use message::{uint_option, uint_value};
pub(crate) use record::summary;
pub use record::{Direction, Record};
pub use timers::Timers;

/// Largest body that is sent or accepted, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// How long one request and its whole response may go on in more and more messages. A device that takes seconds for a P-256
/// operation needs a part of it; one that sends a byte now and then gets no more.
pub const MAX_TIME: Duration = Duration::from_secs(15 * 60);
/// What code, options and header of a request take beside its block of payload, in bytes, generously.
const REQUEST_OVERHEAD: usize = 64;
/// Why somebody may not answer any more, for people.
const ANSWERED_BEFORE: &str = "it answered before, and does not any more: has it been unplugged or restarted, or does somebody \
                               else keep it busy? See who else is on this link, then repeat the command";
/// Answers of the device whose acknowledgement is repeated if it repeats them.
const REMEMBERED: usize = 8;
/// Bytes of a token (RFC 7252 section 5.3.1 wants 32 bits of randomness where anybody may send).
const TOKEN_LEN: usize = 4;

/// Why a request got no response that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The link failed.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// Nothing came back.
    #[error("no answer within {:.0} s; {doubts}", .waited.as_secs_f64().round().max(1.0))]
    NoAnswer {
        /// How long we tried.
        waited: Duration,
        /// What is wrong, or may be.
        doubts: String,
    },
    /// The device does not know the message.
    #[error("the message was turned away (RST); what answers may have restarted just now, so try again")]
    Reset,
    /// The device does not keep to the protocol.
    #[error("the answer is malformed: {0}; is what answers up to date?")]
    Malformed(&'static str),
    /// A resource changed between two of its blocks.
    #[error("the resource changed while it was being read; try again")]
    Changed,
    /// The device always has one more block to send, or to be sent.
    #[error("the other end did not get done within {} min; restart it, and try again", MAX_TIME.as_secs() / 60)]
    TooSlow,
    /// A body is larger than anything that devices and we exchange.
    #[error("the body is larger than {MAX_BODY} bytes, the most that is exchanged")]
    TooLarge,
}

/// A client of one device.
pub struct Client {
    link: Box<dyn Datagrams>,
    timers: Timers,
    /// How long the device takes for the slowest thing it may be asked.
    slowness: Duration,
    /// The largest datagram that the device takes, in bytes.
    largest_datagram: usize,
    message_id: u16,
    /// What the device wanted back to prove our address.
    echo: Option<Vec<u8>>,
    acknowledged: VecDeque<u16>,
    records: Option<Vec<Record>>,
    note: String,
    /// Why a device may not answer on this link, for people.
    doubts: String,
    /// Somebody answered on this link.
    has_answered: bool,
    random: Box<dyn CryptoRngCore + Send + Sync>,
}

/// What an answer has to match.
struct Sent {
    message_id: u16,
    /// A ping has none: no response belongs to it.
    token: Option<[u8; TOKEN_LEN]>,
    /// Message IDs of the pings before it, whose answers do as well.
    earlier: Vec<u16>,
}

impl Sent {
    /// An empty message.
    fn new(message_id: u16) -> Self {
        Self { message_id, token: None, earlier: Vec::new() }
    }
}

/// What came back for a message.
enum Incoming {
    /// It arrived; the response follows.
    Acknowledged,
    Reset,
    Response(Packet),
}

impl Client {
    /// Opens the link to a device, with the timers that suit it.
    pub async fn open(link: &Link) -> Result<Self, Error> {
        Self::open_to("device", link).await
    }

    /// The same to a server, which need not be a device.
    pub async fn open_to_server(link: &Link) -> Result<Self, Error> {
        Self::open_to("server", link).await
    }

    async fn open_to(whom: &str, link: &Link) -> Result<Self, Error> {
        let doubts = match link {
            Link::Serial { baud, .. } => {
                format!(
                    "is the {whom} running, is this its port, and is {baud} baud its speed (serial:PATH@BAUD names another)?"
                )
            }
            Link::Udp { .. } => format!("is the {whom} running, and is this its address and port?"),
        };
        Ok(Self { doubts, ..Self::new(link.open().await?, Timers::for_link(link)) })
    }

    /// A client over an open link.
    pub fn new(link: Box<dyn Datagrams>, timers: Timers) -> Self {
        Self {
            link,
            timers,
            slowness: Duration::ZERO,
            largest_datagram: link::MAX_DATAGRAM,
            message_id: OsRng.next_u32() as u16,
            echo: None,
            acknowledged: VecDeque::with_capacity(REMEMBERED),
            records: None,
            note: String::new(),
            doubts: "is the device running?".to_owned(),
            has_answered: false,
            random: Box::new(OsRng),
        }
    }

    /// Takes random numbers from somewhere else than the operating system, for runs that are the same each time.
    #[must_use]
    pub fn with_random(self, random: impl CryptoRngCore + Send + Sync + 'static) -> Self {
        let mut random = Box::new(random);
        Self { message_id: random.next_u32() as u16, random, ..self }
    }

    /// Where keys, tokens and message IDs of this conversation come from.
    pub(crate) fn random(&mut self) -> &mut dyn CryptoRngCore {
        &mut *self.random
    }

    /// Exchanges the timers for others; returns those before.
    pub fn set_timers(&mut self, timers: Timers) -> Timers {
        std::mem::replace(&mut self.timers, timers)
    }

    /// Goes on over another link.
    #[cfg(test)]
    pub(crate) fn exchange_link(&mut self, link: Box<dyn Datagrams>) {
        self.link = link;
    }

    /// Adapts to what the device says of itself: how slow it is, and how much it takes at once.
    pub fn adapt(&mut self, info: &DeviceInfo<'_>) {
        self.slowness = timers::slowness(info.operation_ms);
        self.largest_datagram = info.limits.datagram.into();
    }

    /// CoAP ping (RFC 7252 section 4.3): how long the device took to answer.
    pub async fn ping(&mut self) -> Result<Duration, Error> {
        let start = Instant::now();
        let sent = Sent::new(self.next_message_id());
        self.ping_as(&sent).await?;
        Ok(start.elapsed())
    }

    async fn ping_as(&mut self, sent: &Sent) -> Result<(), Error> {
        let ping = empty_message(MessageType::Confirmable, sent.message_id);
        match self.deliver(&ping, sent).await? {
            Incoming::Reset | Incoming::Acknowledged => Ok(()),
            Incoming::Response(_) => Err(Error::Malformed("a response to a ping")),
        }
    }

    /// Whether anybody is there: several pings, each with a message ID of its own, until one of them is answered, however late.
    ///
    /// Opening a port may have reset the board, and what is sent to one that starts is lost. One that says something meanwhile
    /// is waited for longer.
    pub async fn probe(&mut self) -> Result<Duration, Error> {
        let start = Instant::now();
        let timers = self.set_timers(Timers::PROBE);
        let mut sent = Sent::new(self.next_message_id());
        let answer = loop {
            match self.ping_as(&sent).await {
                Err(Error::NoAnswer { .. }) if self.may_be_starting(start.elapsed()) => {
                    let message_id = self.next_message_id();
                    sent.earlier.push(std::mem::replace(&mut sent.message_id, message_id));
                }
                Err(Error::NoAnswer { .. }) => break Err(self.no_answer(start.elapsed())),
                answer => break answer.map(|()| start.elapsed()),
            }
        };
        self.set_timers(timers);
        self.explained(answer).await
    }

    fn may_be_starting(&self, waited: Duration) -> bool {
        waited < if self.link.has_said_anything() { timers::START } else { timers::NOBODY }
    }

    /// Lets time pass before the next message: `least`, and a part of `spread`, another one each time. What comes meanwhile, late or again, is dealt with as ever; and a link that is lost
    /// is noticed at once.
    pub(crate) async fn pause(&mut self, least: Duration, spread: Duration) -> Result<(), Error> {
        // Nothing was sent by this number, so nothing answers it.
        let nothing = Sent::new(self.next_message_id());
        let deadline = Instant::now() + least + self.timers.part_of(spread);
        self.await_answer(&nothing, deadline).await.map(drop)
    }

    /// One unprotected request with its whole response.
    ///
    /// Anybody may have answered: only what is public, and believed no further than that, belongs here.
    pub async fn request(&mut self, request: &Request) -> Result<Response, Error> {
        transfer(self, request).await
    }

    /// From now on, each message is recorded.
    pub fn record(&mut self) {
        self.records.get_or_insert_default();
    }

    /// What was recorded since the last call.
    pub fn take_records(&mut self) -> Vec<Record> {
        self.records.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Says in the record what the next message sent carries.
    pub(crate) fn note_next(&mut self, note: impl Into<String>) {
        self.note = note.into();
    }

    /// Says in the record what the last message received carried.
    pub(crate) fn note_received(&mut self, note: impl Into<String>) {
        let last = self.records.iter_mut().flatten().rev().find(|record| record.direction == Direction::Received);
        if let Some(last) = last {
            last.note = note.into();
        }
    }

    /// The longest payload that fits into one of the device's datagrams beside `overhead` bytes of protection.
    pub(crate) fn room_beside(&self, overhead: usize) -> usize {
        self.largest_datagram.saturating_sub(REQUEST_OVERHEAD + overhead)
    }

    /// Gets a confirmable message through, and waits for what comes back.
    async fn deliver(&mut self, message: &Packet, sent: &Sent) -> Result<Incoming, Error> {
        let start = Instant::now();
        let mut wait = self.timers.first_wait(self.slowness);
        for _ in 0..=self.timers.max_retransmit {
            let deadline = Instant::now() + wait;
            // A line that takes no bytes is a line that lost them.
            if let Ok(written) = timeout_at(deadline, self.transmit(message)).await {
                written?;
            }
            if let Some(incoming) = self.await_answer(sent, deadline).await? {
                return Ok(incoming);
            }
            wait *= 2;
        }
        Err(self.no_answer(start.elapsed()))
    }

    /// Waits for a response that comes after its acknowledgement.
    async fn await_separate_response(&mut self, sent: &Sent, start: Instant) -> Result<Packet, Error> {
        let wait = self.timers.response_wait(self.slowness);
        let deadline = Instant::now() + wait;
        loop {
            match self.await_answer(sent, deadline).await? {
                Some(Incoming::Response(response)) => return Ok(response),
                Some(Incoming::Acknowledged) => {}
                Some(Incoming::Reset) => return Err(Error::Reset),
                None => return Err(self.no_answer(start.elapsed())),
            }
        }
    }

    async fn await_answer(&mut self, sent: &Sent, deadline: Instant) -> Result<Option<Incoming>, Error> {
        // The clock is looked at each time: a link that always has something to say must not keep us here.
        while Instant::now() < deadline {
            let Ok(received) = timeout_at(deadline, self.link.receive()).await else { break };
            let datagram = received?;
            let Some(packet) = parse(&datagram.bytes) else { continue };
            if let Some(records) = &mut self.records {
                records.push(Record::new(Direction::Received, &packet, datagram.bytes.len(), datagram.line_bytes));
            }
            if let Some(incoming) = self.sort(packet, sent, deadline).await? {
                self.has_answered = true;
                return Ok(Some(incoming));
            }
        }
        Ok(None)
    }

    /// Tells an answer to `sent` from everything else, and acknowledges or turns away what wants that.
    async fn sort(&mut self, packet: Packet, sent: &Sent, deadline: Instant) -> Result<Option<Incoming>, Error> {
        let message_id = packet.header.message_id;
        let is_empty = packet.header.code == MessageClass::Empty;
        let is_response = Code(packet.header.code.into()).is_response()
            && sent.token.is_some_and(|token| packet.get_token() == token.as_slice());
        match packet.header.get_type() {
            MessageType::Acknowledgement if message_id == sent.message_id && is_empty => {
                Ok(Some(Incoming::Acknowledged))
            }
            MessageType::Reset if is_empty && (message_id == sent.message_id || sent.earlier.contains(&message_id)) => {
                Ok(Some(Incoming::Reset))
            }
            MessageType::Acknowledgement if message_id == sent.message_id && is_response => {
                Ok(Some(Incoming::Response(packet)))
            }
            MessageType::NonConfirmable if is_response => Ok(Some(Incoming::Response(packet))),
            MessageType::Confirmable if is_response => {
                self.acknowledge(message_id, deadline).await?;
                Ok(Some(Incoming::Response(packet)))
            }
            MessageType::Confirmable if self.acknowledged.contains(&message_id) => {
                self.reply(MessageType::Acknowledgement, message_id, deadline).await?;
                Ok(None)
            }
            MessageType::Confirmable => {
                self.reply(MessageType::Reset, message_id, deadline).await?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn acknowledge(&mut self, message_id: u16, deadline: Instant) -> Result<(), Error> {
        if self.acknowledged.len() == REMEMBERED {
            self.acknowledged.pop_front();
        }
        self.acknowledged.push_back(message_id);
        self.reply(MessageType::Acknowledgement, message_id, deadline).await
    }

    /// An acknowledgement or a reset. A device that talks on and takes no bytes must not keep us here: to it, this is lost.
    async fn reply(&mut self, kind: MessageType, message_id: u16, deadline: Instant) -> Result<(), Error> {
        timeout_at(deadline, self.transmit(&empty_message(kind, message_id))).await.unwrap_or(Ok(()))
    }

    async fn transmit(&mut self, message: &Packet) -> Result<(), Error> {
        let bytes = message.to_bytes_with_limit(link::MAX_DATAGRAM).map_err(|_| Error::TooLarge)?;
        let line_bytes = self.link.send(&bytes).await?;
        if let Some(records) = &mut self.records {
            let mut record = Record::new(Direction::Sent, message, bytes.len(), line_bytes);
            if message.header.get_type() == MessageType::Confirmable {
                record.note.clone_from(&self.note);
            }
            records.push(record);
        }
        Ok(())
    }

    /// How long the device takes for its slowest answer, as far as it said so.
    pub(crate) fn slowness(&self) -> Duration {
        self.slowness
    }

    fn no_answer(&self, waited: Duration) -> Error {
        let doubts = if self.has_answered { ANSWERED_BEFORE } else { &self.doubts };
        Error::NoAnswer { waited, doubts: doubts.to_owned() }
    }

    /// Says what is wrong with the link, if that is why there is no answer, and it can be found out.
    async fn explained<T>(&mut self, answer: Result<T, Error>) -> Result<T, Error> {
        let Err(Error::NoAnswer { waited, .. }) = answer else { return answer };
        match self.link.examine().await? {
            Some(fault) => Err(Error::NoAnswer { waited, doubts: fault.to_string() }),
            None => answer,
        }
    }

    fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.wrapping_add(1);
        self.message_id
    }
}

impl Exchange for Client {
    type Error = Error;

    async fn exchange(&mut self, mut request: Packet) -> Result<Packet, Error> {
        let is_protected = request.get_option(CoapOption::Oscore).is_some();
        if let Some(echo) = self.echo.as_ref().filter(|_| !is_protected) {
            set_echo(&mut request, echo);
        }
        let mut answer = self.exchange_once(request.clone()).await;
        if let Some(echo) = answer.as_ref().ok().filter(|_| !is_protected).and_then(echo_wanted) {
            set_echo(&mut request, &echo);
            self.echo = Some(echo);
            answer = self.exchange_once(request).await;
        }
        self.note.clear();
        answer
    }

    fn room(&self) -> usize {
        self.room_beside(0)
    }
}

impl Client {
    /// One message, and the response to it.
    async fn exchange_once(&mut self, mut request: Packet) -> Result<Packet, Error> {
        let mut token = [0; TOKEN_LEN];
        self.random.fill_bytes(&mut token);
        let message_id = self.next_message_id();
        request.header.set_type(MessageType::Confirmable);
        request.header.message_id = message_id;
        request.set_token(token.to_vec());
        let sent = Sent { token: Some(token), ..Sent::new(message_id) };

        let start = Instant::now();
        let delivered = self.deliver(&request, &sent).await;
        let answer = match delivered {
            Ok(Incoming::Response(response)) => Ok(response),
            Ok(Incoming::Acknowledged) => self.await_separate_response(&sent, start).await,
            Ok(Incoming::Reset) => Err(Error::Reset),
            Err(error) => Err(error),
        };
        self.explained(answer).await
    }
}

/// Asks a multicast group (RFC 7252 section 8): who answered, and with what. A `member` whose address is known is asked there
/// as well, which gets through where a firewall drops answers to multicast. Listens for `leisure`, and no longer than
/// `stragglers` after the first answer, or until there are `most` of them.
///
/// Answers can be forged by anybody on the link: ask each member by itself.
pub async fn ask_group(
    group: &Link,
    member: Option<IpAddr>,
    request: &Request,
    leisure: Duration,
    stragglers: Duration,
    most: usize,
) -> Result<Vec<(Link, Vec<u8>)>, Error> {
    let mut token = [0; TOKEN_LEN];
    OsRng.fill_bytes(&mut token);
    let mut question = request.head();
    question.header.set_type(MessageType::NonConfirmable);
    question.header.message_id = OsRng.next_u32() as u16;
    question.set_token(token.to_vec());
    let question = question.to_bytes().map_err(|_| Error::TooLarge)?;

    let group = link::Group::open(group, member).await?;
    group.send(&question).await?;
    let mut deadline = Instant::now() + leisure;
    let mut members = Vec::<(Link, Vec<u8>)>::new();
    while members.len() < most && Instant::now() < deadline {
        let Ok(received) = timeout_at(deadline, group.receive()).await else { break };
        let (datagram, from) = received?;
        let Some(answer) = parse(&datagram) else { continue };
        let is_response = Code(answer.header.code.into()).is_response() && answer.get_token() == token;
        if is_response && members.iter().all(|(member, _)| *member != from) {
            members.push((from, answer.payload));
            deadline = deadline.min(Instant::now() + stragglers);
        }
    }
    Ok(members)
}

/// A message with an empty code: ping, acknowledgement or reset.
fn empty_message(kind: MessageType, message_id: u16) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.code = MessageClass::Empty;
    packet.header.message_id = message_id;
    packet
}

/// A message of the CoAP version that we speak (RFC 7252 section 3); an empty one has four bytes and no more.
fn parse(bytes: &[u8]) -> Option<Packet> {
    let packet = Packet::from_bytes(bytes).ok()?;
    let well_formed = packet.header.code != MessageClass::Empty || bytes.len() == 4;
    (packet.header.get_version() == 1 && well_formed).then_some(packet)
}

#[cfg(test)]
mod tests;
