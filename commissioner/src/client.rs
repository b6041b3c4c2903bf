//! A CoAP client (RFC 7252) over any [`link`]: one request at a time, to one device.
//!
//! [`Client::request`] exchanges whole bodies without protection; a [`Session`](crate::session::Session) does the same
//! under OSCORE. What is said is [`conversation`]'s; here are the link, its time, and words for what goes wrong.

mod message;
#[cfg(feature = "ports")]
mod ports;
mod record;
mod timers;

use std::time::Duration;

use cbor_schemas::DeviceInfo;
use protocol::coap::{Datagram, Type};
use protocol::conversation::{
    self,
    client::{Sorted, Step, Transaction},
};
use rand_core::{CryptoRngCore, OsRng, RngCore};
use tokio::time::{Instant, timeout_at};

use crate::link::{self, Datagrams};

pub use cbor_schemas::Method;
pub use message::{Code, Refusal, Request, Response, content_format};
#[cfg(feature = "ports")]
pub use ports::ask_group;
#[cfg(test)]
pub(crate) use record::summary;
pub use record::{Direction, Record};
pub use timers::Timers;
use timers::micros;

/// Largest body that is sent or accepted, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// How long one request and its whole response may go on in more and more messages. A device that takes seconds for a P-256
/// operation needs a part of it; one that sends a byte now and then gets no more.
pub const MAX_TIME: Duration = Duration::from_secs(15 * 60);
/// Why somebody may not answer any more, for people.
const ANSWERED_BEFORE: &str = "it answered before, and does not any more: has it been unplugged or restarted, or does somebody \
                               else keep it busy? See who else is on this link, then repeat the command";
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

/// What is random in a conversation.
type Random = dyn CryptoRngCore + Send + Sync;

/// A client of one device.
pub struct Client {
    link: Box<dyn Datagrams>,
    timers: Timers,
    /// How long the device takes for the slowest thing it may be asked.
    slowness: Duration,
    conversation: Box<conversation::client::Client<{ link::MAX_DATAGRAM }>>,
    /// The conversation's time counts from here, in microseconds.
    start: Instant,
    records: Option<Vec<Record>>,
    note: String,
    /// Why a device may not answer on this link, for people.
    doubts: String,
    /// Somebody answered on this link.
    has_answered: bool,
    random: Box<Random>,
}

/// Why a transaction failed.
pub(crate) enum Failed {
    Client(Error),
    /// A protected request was answered without protection.
    Unprotected(Response),
    Oscore(protocol::oscore::Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<link::Error> for Failed {
    fn from(error: link::Error) -> Self {
        Self::Client(error.into())
    }
}

impl Client {
    /// A client over an open link.
    pub fn new(link: Box<dyn Datagrams>, timers: Timers) -> Self {
        Self {
            link,
            timers,
            slowness: Duration::ZERO,
            conversation: new_conversation(&mut OsRng),
            start: Instant::now(),
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
        Self { conversation: new_conversation(&mut *random), random, ..self }
    }

    /// Where keys, tokens and message IDs of this conversation come from.
    pub(crate) fn random(&mut self) -> &mut Random {
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
        self.conversation.set_largest_datagram(info.limits.datagram.into());
    }

    /// CoAP ping (RFC 7252 section 4.3): how long the device took to answer.
    pub async fn ping(&mut self) -> Result<Duration, Error> {
        let start = Instant::now();
        self.ping_once(false).await?;
        Ok(start.elapsed())
    }

    /// Where it comes `again`, an answer to one of the pings before will do as well.
    async fn ping_once(&mut self, again: bool) -> Result<(), Error> {
        let begin = Instant::now();
        self.conversation.set_timers(self.timers.for_conversation(self.slowness));
        self.conversation.ping(again, &mut *self.random);
        let Self { link, conversation, start, records, note, has_answered, .. } = self;
        let mut line = Line { link: &mut **link, start: *start, records, note };
        loop {
            match conversation.poll(line.now()) {
                Step::Send { datagram, until } => line.send(datagram, until).await?,
                Step::Wait { until } => {
                    let Some(received) = line.receive(until).await? else { continue };
                    if let Sorted::Reset | Sorted::Acknowledged = conversation.receive(&received, line.now()) {
                        *has_answered = true;
                        conversation.stop();
                        return Ok(());
                    }
                }
                Step::Done => return Err(self.no_answer(begin.elapsed())),
            }
        }
    }

    /// Whether anybody is there: several pings, each with a message ID of its own, until one of them is answered, however late.
    ///
    /// Opening a port may have reset the board, and what is sent to one that starts is lost. One that says something meanwhile
    /// is waited for longer.
    pub async fn probe(&mut self) -> Result<Duration, Error> {
        let start = Instant::now();
        let timers = self.set_timers(Timers::PROBE);
        let mut again = false;
        let answer = loop {
            match self.ping_once(std::mem::replace(&mut again, true)).await {
                Err(Error::NoAnswer { .. }) if self.may_be_starting(start.elapsed()) => {}
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

    /// Lets time pass before the next message: `least`, and a part of `spread`, another one each time. What comes meanwhile, late
    /// or again, is dealt with as ever; and a link that is lost is noticed at once.
    pub(crate) async fn pause(&mut self, least: Duration, spread: Duration) -> Result<(), Error> {
        let wait = least + self.timers.part_of(spread, &mut *self.random);
        let Self { link, conversation, start, records, note, .. } = self;
        let mut line = Line { link: &mut **link, start: *start, records, note };
        let until = line.now() + micros(wait);
        while line.now() < until {
            let Some(received) = line.receive(until).await? else { break };
            conversation.receive(&received, line.now());
            if let Step::Send { datagram, .. } = conversation.poll(line.now()) {
                line.send(datagram, until).await?;
            }
        }
        Ok(())
    }

    /// One unprotected request with its whole response.
    ///
    /// Anybody may have answered: only what is public, and believed no further than that, belongs here.
    pub async fn request(&mut self, request: &Request) -> Result<Response, Error> {
        match self.transact(None, request).await {
            Ok(response) => Ok(response),
            Err(Failed::Client(error)) => Err(error),
            // There is no protection that could fail.
            Err(Failed::Unprotected(_) | Failed::Oscore(_)) => {
                Err(Error::Malformed("protection that nobody asked for"))
            }
        }
    }

    /// One request with its whole response, under protection if there is a session.
    pub(crate) async fn transact(
        &mut self,
        session: Option<&mut conversation::client::session::Session>,
        request: &Request,
    ) -> Result<Response, Failed> {
        if request.payload.len() > MAX_BODY {
            return Err(Error::TooLarge.into());
        }
        let begin = Instant::now();
        self.conversation.set_timers(self.timers.for_conversation(self.slowness));
        let summary = session.is_some().then(|| request.summary());
        let mut body = vec![0; MAX_BODY];
        let Self { link, conversation, start, records, note, has_answered, random, .. } = self;
        let mut line = Line { link: &mut **link, start: *start, records, note };
        let until = line.now() + micros(MAX_TIME);
        let (request, random) = (request.for_conversation(), &mut **random);
        let mut transaction = Transaction::new(conversation, session, request, random, &mut body, until);
        loop {
            if let Some(summary) = &summary {
                line.note_next(transaction.message_3_len(), summary);
            }
            match transaction.poll(line.now()) {
                Step::Send { datagram, until } => line.send(datagram, until).await?,
                Step::Wait { until } => {
                    let Some(mut received) = line.receive(until).await? else { continue };
                    let (sorted, inner) = transaction.receive(&mut received, line.now());
                    *has_answered |= sorted != Sorted::Nothing;
                    if let Some(code) = inner {
                        line.note_received(Code(code).to_string());
                    }
                }
                Step::Done => break,
            }
        }
        let result = transaction.finish();
        self.note.clear();
        let response = |response: conversation::client::Response| Response::new(&response, &body);
        let failed = match result {
            Ok(whole) => return Ok(response(whole)),
            Err(conversation::client::Error::Unprotected(refusal)) => {
                return Err(Failed::Unprotected(response(refusal)));
            }
            Err(conversation::client::Error::Oscore(error)) => return Err(Failed::Oscore(error)),
            Err(conversation::client::Error::NoAnswer) => self.no_answer(begin.elapsed()),
            Err(conversation::client::Error::Reset) => Error::Reset,
            Err(conversation::client::Error::Malformed(what)) => Error::Malformed(what),
            Err(conversation::client::Error::Changed) => Error::Changed,
            Err(conversation::client::Error::TooLarge) => Error::TooLarge,
            Err(conversation::client::Error::TooSlow) => Error::TooSlow,
        };
        Ok(self.explained(Err(failed)).await?)
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
        record::note_received(&mut self.records, note.into());
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
}

/// A link, its time, and the record of what goes over it.
struct Line<'l> {
    link: &'l mut dyn Datagrams,
    start: Instant,
    records: &'l mut Option<Vec<Record>>,
    note: &'l mut String,
}

impl Line<'_> {
    /// In microseconds.
    fn now(&self) -> u64 {
        micros(self.start.elapsed())
    }

    /// Sends a datagram. A line that takes no bytes is a line that lost them.
    async fn send(&mut self, datagram: &[u8], until: u64) -> Result<(), link::Error> {
        let until = self.start + Duration::from_micros(until);
        let Ok(sent) = timeout_at(until, self.link.send(datagram)).await else { return Ok(()) };
        let line_bytes = sent?;
        if let (Some(records), Ok(parsed)) = (&mut self.records, Datagram::parse(datagram)) {
            let mut record = Record::new(Direction::Sent, &parsed, datagram.len(), line_bytes);
            if parsed.header.type_ == Type::Con {
                record.note.clone_from(self.note);
            }
            records.push(record);
        }
        Ok(())
    }

    /// The next datagram, if one comes until then.
    async fn receive(&mut self, until: u64) -> Result<Option<Vec<u8>>, link::Error> {
        let until = self.start + Duration::from_micros(until);
        let Ok(received) = timeout_at(until, self.link.receive()).await else { return Ok(None) };
        let link::Datagram { bytes, line_bytes } = received?;
        if let (Some(records), Ok(parsed)) = (&mut self.records, Datagram::parse(&bytes)) {
            records.push(Record::new(Direction::Received, &parsed, bytes.len(), line_bytes));
        }
        Ok(Some(bytes))
    }

    fn note_next(&mut self, message_3_len: usize, summary: &str) {
        *self.note = match message_3_len {
            0 => summary.to_owned(),
            len => format!("EDHOC message_3, {len} bytes + {summary}"),
        };
    }

    fn note_received(&mut self, note: String) {
        record::note_received(self.records, note);
    }
}

fn new_conversation(random: &mut impl RngCore) -> Box<conversation::client::Client<{ link::MAX_DATAGRAM }>> {
    let timers = Timers::NETWORK.for_conversation(Duration::ZERO);
    Box::new(conversation::client::Client::new(timers, random.next_u32() as u16))
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
