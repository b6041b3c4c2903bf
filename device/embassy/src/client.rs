//! A client of other devices: one peer at a time, under EDHOC with this device's own key, then OSCORE.
//!
//! Who that peer is has to be decided before it learns anything from us: [`Client::connect`] asks for the peer's credential
//! in message_1, by EAD label 15, and lets the application approve of its key, by the device list as a rule:
//!
//! ```no_run
//! # async fn switch<A, L, F, R, B, M>(link: &mut L, to: A, server: &core::cell::RefCell<device::Server<M, F, R, B>>,
//! #     mut rng: R) -> Result<(), commissionable_device_embassy::client::Error<L::Error>>
//! # where A: device::transport::Source, L: device::transport::Datagrams<A>, F: embedded_storage::nor_flash::NorFlash,
//! #     R: rand_core::CryptoRngCore, B: device::Board,
//! #     M: core::ops::DerefMut<Target = device::Memory<A, 1>> {
//! use commissionable_device_embassy::client::{Client, Error, Request};
//!
//! let own = server.borrow().device().private_key().cloned().ok_or(Error::NotReady)?;
//! let mine = |key: &_| server.borrow_mut().device_mut().is_my_device(key);
//! let mut session = Client::new(link, to).connect(&own, mine, &mut rng).await?;
//! let mut body = [0; 64];
//! session.request(&Request::put("/led", 60, &[0xf5]), &mut body).await?;
//! # Ok(()) }
//! ```
//!
//! message_3 goes with the first request (RFC 9668), since there are servers that take it no other way; alone to one that does
//! not know the option for that. All else is [`conversation`]'s.

use core::fmt;

use device::{DATAGRAM_LEN, transport::Datagrams};
use embassy_time::{Instant, with_deadline};
use protocol::{
    conversation::{
        self,
        client::{
            Step, Timers, Transaction,
            session::{Handshake, Refused, edhoc_message, edhoc_request},
        },
    },
    edhoc::{self, Transfer},
    key::{PrivateKey, PublicKey},
    oscore,
};
use rand_core::CryptoRngCore;

pub use protocol::conversation::client::{Request, Response};

/// Those of RFC 7252 section 4.8, in milliseconds.
const TIMERS: Timers = Timers { ack_timeout: 2_000, spread: 1_000, max_retransmit: 4, response: 60_000 };
/// The longest answer to an EDHOC message, in bytes.
const EDHOC_LEN: usize = 256;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error<E> {
    /// The link failed.
    Link(E),
    /// Nobody answered.
    TimedOut,
    /// What came is no answer of a device of ours.
    Malformed,
    /// The peer has a key that the application does not approve of. It learned nothing from us.
    NotMine,
    /// The handshake failed: what the peer said, or its proof.
    Handshake(edhoc::Error),
    /// The peer did not take message_3, and with it our credential.
    Refused,
    /// The answer is not protected, or not as it should be. The peer may have restarted: connect again.
    Unprotected(oscore::Error),
    /// The request or the answer does not fit.
    TooLong,
    /// This device has no key.
    NotReady,
}

impl<E> From<edhoc::Error> for Error<E> {
    fn from(error: edhoc::Error) -> Self {
        match error {
            edhoc::Error::UnknownCredential => Error::NotMine,
            error => Error::Handshake(error),
        }
    }
}

impl<E> From<conversation::client::Error> for Error<E> {
    fn from(error: conversation::client::Error) -> Self {
        use conversation::client::Error as Failed;

        match error {
            Failed::NoAnswer | Failed::TooSlow => Error::TimedOut,
            Failed::Reset | Failed::Malformed(_) | Failed::Changed => Error::Malformed,
            Failed::TooLarge => Error::TooLong,
            Failed::Unprotected(_) => Error::Unprotected(oscore::Error::NotProtected),
            Failed::Oscore(error) => Error::Unprotected(error),
        }
    }
}

impl<E: fmt::Debug> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Link(error) => write!(f, "the link failed: {error:?}"),
            Error::TimedOut => f.write_str("nobody answers"),
            Error::Malformed => f.write_str("what answers is no device of ours"),
            Error::NotMine => f.write_str("the device list does not have this device"),
            Error::Handshake(error) => write!(f, "the handshake failed: {error}"),
            Error::Refused => f.write_str("the other device refused our credential"),
            Error::Unprotected(error) => write!(f, "the answer is not protected: {error}"),
            Error::TooLong => f.write_str("the request or the answer is too long"),
            Error::NotReady => f.write_str("this device has no key"),
        }
    }
}

/// Talks to one peer over a link that nobody else reads.
pub struct Client<'l, L, A> {
    link: &'l mut L,
    peer: A,
}

impl<'l, A: Copy + Eq, L: Datagrams<A>> Client<'l, L, A> {
    /// A client of `peer`.
    pub fn new(link: &'l mut L, peer: A) -> Self {
        Client { link, peer }
    }

    /// Lets the peer say its key, `approve` decide about that, and the peer prove it: by EDHOC, with `own` by value. Costs four
    /// P-256 operations. message_3 is yet to be sent: it goes with the first request.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn connect<R: CryptoRngCore>(
        self,
        own: &PrivateKey,
        approve: impl FnOnce(&PublicKey) -> bool,
        mut rng: R,
    ) -> Result<Session<'l, L, A, R>, Error<L::Error>> {
        let client = conversation::client::Client::new(TIMERS, rng.next_u32() as u16);
        let mut line = Line { link: self.link, peer: self.peer, client, rng };
        let (handshake, message_1) = Handshake::start(own, true, &mut line.rng)?;
        let mut body = [0; EDHOC_LEN];
        let response = line.transact(None, edhoc_request(&message_1), &mut body).await?;
        let message_2 = edhoc_message(&response, &body).ok_or(Error::Handshake(edhoc::Error::Peer))?;
        let is_mine = |key: &PublicKey| key != own.public() && approve(key);
        let session = handshake.finish(message_2, Transfer::ByValue, is_mine)?.session()?;
        Ok(Session { line, session })
    }
}

/// A link to one peer, and what is under way on it. 1.5 kB.
struct Line<'l, L, A, R> {
    link: &'l mut L,
    peer: A,
    client: conversation::client::Client<DATAGRAM_LEN>,
    rng: R,
}

impl<A: Copy + Eq, L: Datagrams<A>, R: CryptoRngCore> Line<'_, L, A, R> {
    /// Makes a request, and waits for its response.
    async fn transact(
        &mut self,
        session: Option<&mut conversation::client::session::Session>,
        request: Request<'_>,
        body: &mut [u8],
    ) -> Result<Response, Failed<L::Error>> {
        let now = || Instant::now().as_millis();
        let Line { link, peer, client, rng } = self;
        let mut transaction = Transaction::new(client, session, request, rng, body, u64::MAX);
        loop {
            match transaction.poll(now()) {
                Step::Send { datagram, .. } => link.send(*peer, datagram).await.map_err(Failed::Link)?,
                Step::Wait { until } => {
                    if let Ok(received) = with_deadline(Instant::from_millis(until), link.receive()).await {
                        let (datagram, from) = received.map_err(Failed::Link)?;
                        if from == *peer {
                            transaction.receive(datagram, now());
                        }
                    }
                }
                Step::Done => return transaction.finish().map_err(Failed::Conversation),
            }
        }
    }
}

/// Why a transaction failed.
enum Failed<E> {
    Link(E),
    Conversation(conversation::client::Error),
}

impl<E> From<Failed<E>> for Error<E> {
    fn from(failed: Failed<E>) -> Self {
        match failed {
            Failed::Link(error) => Error::Link(error),
            Failed::Conversation(error) => error.into(),
        }
    }
}

/// An authenticated peer.
pub struct Session<'l, L, A, R> {
    line: Line<'l, L, A, R>,
    session: conversation::client::session::Session,
}

impl<A: Copy + Eq, L: Datagrams<A>, R: CryptoRngCore> Session<'_, L, A, R> {
    /// The key that the peer proved.
    pub fn peer(&self) -> &PublicKey {
        self.session.peer()
    }

    /// Makes a request. Its answer's body is written to `body`.
    ///
    /// # Errors
    /// See [`Error`]. A refusal is no error: it has its code.
    pub async fn request(&mut self, request: &Request<'_>, body: &mut [u8]) -> Result<Response, Error<L::Error>> {
        let Session { line, session } = self;
        let is_first = !session.is_confirmed();
        let response = line.transact(Some(session), *request, body).await;
        let Err(Failed::Conversation(conversation::client::Error::Unprotected(refusal))) = &response else {
            return Ok(response?);
        };
        if !is_first {
            return Err(Error::Unprotected(oscore::Error::NotProtected));
        }
        if Refused::of_message_3(refusal, body) != Refused::Combined {
            return Err(Error::Refused);
        }
        // What proves that message_3 was taken is not message_4, but the first answer under protection.
        let (message_3, mut answer) = (session.take_message_3()?, [0; EDHOC_LEN]);
        let response = line.transact(None, edhoc_request(&message_3), &mut answer).await?;
        edhoc_message(&response, &answer).ok_or(Error::Refused)?;
        Ok(line.transact(Some(session), *request, body).await?)
    }
}
