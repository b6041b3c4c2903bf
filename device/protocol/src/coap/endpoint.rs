use core::cmp::Reverse;

use coap_numbers::code::{EMPTY, Range, classify};
use heapless::Vec;

use super::{Datagram, Header, ParseError, Token, Type};

/// How long a confirmable message may be retransmitted, in milliseconds: EXCHANGE_LIFETIME of RFC 7252, section 4.8.2.
pub const EXCHANGE_LIFETIME_MS: u64 = 247_000;

/// How long a duplicate of a non-confirmable message may arrive, in milliseconds: NON_LIFETIME of the same section.
pub const NON_LIFETIME_MS: u64 = 145_000;

/// The server's side of the message layer: duplicates, pings, Resets and Message IDs.
///
/// `A` is the address of a peer. Of the last `CACHE` requests it remembers the Message ID, the token and the answer, if
/// that has at most `DATAGRAM` bytes, so it takes a bit more than `CACHE * DATAGRAM` bytes of memory. When all places
/// are taken, a peer's new request takes the place of that peer's own oldest one, if there is one; a flood from one
/// address cannot push out what is kept for another.
///
/// Do not show it confirmable messages that came by multicast: it would answer them (RFC 7252, section 8.1).
pub struct Endpoint<A, const CACHE: usize, const DATAGRAM: usize> {
    places: [Place<A, DATAGRAM>; CACHE],
    uses: u64,
    next_message_id: u16,
    reset: [u8; 4],
}

/// What to do with a datagram.
#[derive(Debug)]
pub enum Incoming<'e, 'd, A> {
    /// A new request: serve it, compose a response with [`Exchange::response_header`], show that to
    /// [`Endpoint::remember`], send it.
    Request(Exchange<A>, Datagram<'d>),
    /// Send this datagram to the peer: a Reset, or the answer to a request that came again.
    Reply(&'e [u8]),
    /// The peer has the message of ours with this Message ID.
    Acknowledged(u16),
    /// The peer can make nothing of the message of ours with this Message ID.
    Reset(u16),
    /// Nothing: garbage, or a duplicate whose answer is not there (yet, or any more).
    Nothing,
}

/// A request being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange<A> {
    /// Who asked, and gets the response.
    pub peer: A,
    /// Header of the request.
    pub request: Header,
    length: usize,
    message_id: u16,
}

impl<A> Exchange<A> {
    /// Header of the response: an acknowledgement of a confirmable request, else a non-confirmable message with a
    /// Message ID of our own (RFC 7252, sections 5.2.1 and 5.2.3).
    pub fn response_header(&self, code: u8) -> Header {
        let type_ = if self.request.type_ == Type::Con { Type::Ack } else { Type::Non };
        Header { type_, code, message_id: self.message_id, token: self.request.token }
    }
}

impl<A: Copy + Eq, const CACHE: usize, const DATAGRAM: usize> Endpoint<A, CACHE, DATAGRAM> {
    /// An endpoint that remembers nothing yet. `first_message_id` should be random, so that the messages of two runs
    /// are not taken for duplicates of each other.
    pub const fn new(first_message_id: u16) -> Self {
        Self { places: [const { Place::EMPTY }; CACHE], uses: 0, next_message_id: first_message_id, reset: [0; 4] }
    }

    /// Sets the Message ID of the next message of our own, to a random one where [`Endpoint::new`] could not have it yet.
    pub fn set_next_message_id(&mut self, message_id: u16) {
        self.next_message_id = message_id;
    }

    /// Sorts out one datagram from `peer`. `now` is in milliseconds and never goes backwards.
    pub fn receive<'d>(&mut self, peer: A, bytes: &'d [u8], now: u64) -> Incoming<'_, 'd, A> {
        let datagram = match Datagram::parse(bytes) {
            Ok(datagram) => datagram,
            Err(ParseError::Malformed { type_: Type::Con, message_id }) => return self.reset(message_id),
            Err(_) => return Incoming::Nothing,
        };
        match (datagram.header.type_, classify(datagram.header.code)) {
            (Type::Con | Type::Non, Range::Request) => self.request(peer, datagram, bytes.len(), now),
            // A ping (RFC 7252, section 4.3), or a response to nothing that we asked.
            (Type::Con, _) => self.reset(datagram.header.message_id),
            (Type::Ack, _) => Incoming::Acknowledged(datagram.header.message_id),
            (Type::Rst, _) => Incoming::Reset(datagram.header.message_id),
            (Type::Non, _) => Incoming::Nothing,
        }
    }

    /// Who is to be told that a datagram from `peer` was too long to be looked at, of which `beginning` is there: `None` if
    /// that is no header of a request. Nothing was done, so nothing is remembered.
    pub fn refuse(&mut self, peer: A, beginning: &[u8]) -> Option<Exchange<A>> {
        let (request, _) = Header::read(beginning).ok()?;
        match (request.type_, classify(request.code)) {
            (Type::Con | Type::Non, Range::Request) => Some(self.exchange(peer, request, beginning.len())),
            _ => None,
        }
    }

    /// Keeps the answer for the case that the request comes again.
    pub fn remember(&mut self, exchange: &Exchange<A>, answer: &[u8]) {
        let Some(place) = self.places.iter_mut().find(|place| place.holds(exchange)) else {
            return; // pushed out while it was served
        };
        place.answer.clear();
        // An answer that is too long to keep leaves an empty one, which is never sent.
        let _ = place.answer.extend_from_slice(answer);
    }

    fn request<'d>(&mut self, peer: A, datagram: Datagram<'d>, length: usize, now: u64) -> Incoming<'_, 'd, A> {
        let request = datagram.header;
        self.uses = self.uses.saturating_add(1);
        self.places.iter_mut().filter(|place| place.expires <= now).for_each(|place| place.key = None);
        let key = Some((peer, request.message_id, request.token, length));
        if let Some(index) = self.places.iter().position(|place| place.key == key) {
            return self.repeat(index);
        }
        if let Some(place) = self.least_valuable(peer).and_then(|index| self.places.get_mut(index)) {
            let lifetime = if request.type_ == Type::Con { EXCHANGE_LIFETIME_MS } else { NON_LIFETIME_MS };
            place.key = key;
            place.expires = now.saturating_add(lifetime);
            place.used = self.uses;
            place.answer.clear();
        }
        Incoming::Request(self.exchange(peer, request, length), datagram)
    }

    fn exchange(&mut self, peer: A, request: Header, length: usize) -> Exchange<A> {
        let message_id = match request.type_ {
            Type::Con => request.message_id,
            _ => self.own_message_id(),
        };
        Exchange { peer, request, length, message_id }
    }

    fn repeat<'d>(&mut self, index: usize) -> Incoming<'_, 'd, A> {
        match self.places.get_mut(index) {
            Some(place) if !place.answer.is_empty() => {
                place.used = self.uses;
                Incoming::Reply(&place.answer)
            }
            _ => Incoming::Nothing,
        }
    }

    pub(crate) fn own_message_id(&mut self) -> u16 {
        let message_id = self.next_message_id;
        self.next_message_id = message_id.wrapping_add(1);
        message_id
    }

    /// A free place; else the oldest of this peer; else the oldest of the peer that holds most.
    fn least_valuable(&self, peer: A) -> Option<usize> {
        let held_by = |owner| self.places.iter().filter(|place| place.owner() == owner).count();
        let rank = |place: &Place<A, DATAGRAM>| {
            let owner = place.owner();
            (owner.is_none(), owner == Some(peer), held_by(owner), Reverse(place.used))
        };
        self.places.iter().enumerate().max_by_key(|(_, place)| rank(place)).map(|(index, _)| index)
    }

    fn reset<'d>(&mut self, message_id: u16) -> Incoming<'_, 'd, A> {
        let [high, low] = message_id.to_be_bytes();
        self.reset = [0x40 | (Type::Rst as u8) << 4, EMPTY, high, low];
        Incoming::Reply(&self.reset)
    }
}

/// Room for one request and its answer.
struct Place<A, const DATAGRAM: usize> {
    /// `None` if the place is free. The RFC asks for peer and Message ID only; the token tells apart the messages of
    /// two programs that use the same serial line one after the other. What is repeated has the same length: a few bytes
    /// do not fetch again what a long request was answered.
    key: Option<(A, u16, Token, usize)>,
    expires: u64,
    used: u64,
    answer: Vec<u8, DATAGRAM>,
}

impl<A: Copy + Eq, const DATAGRAM: usize> Place<A, DATAGRAM> {
    const EMPTY: Self = Self { key: None, expires: 0, used: 0, answer: Vec::new() };

    fn holds(&self, exchange: &Exchange<A>) -> bool {
        self.key == Some((exchange.peer, exchange.request.message_id, exchange.request.token, exchange.length))
    }

    fn owner(&self) -> Option<A> {
        self.key.map(|(peer, ..)| peer)
    }
}
