//! One confirmable message, until what comes back for it is there: retransmission and matching (RFC 7252 section 4).

use coap_numbers::code::{EMPTY, Range, classify};
use rand_core::RngCore;

use crate::coap::{Header, Token, Type};

/// Responses of the peer whose acknowledgement is repeated if they come again.
const REMEMBERED: usize = 8;

/// Transmission parameters (RFC 7252 section 4.8), in the unit of time that the caller counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// ACK_TIMEOUT: the least time after which a message is sent again.
    pub ack_timeout: u64,
    /// ACK_TIMEOUT * (ACK_RANDOM_FACTOR - 1): by how much that time is stretched at most.
    pub spread: u64,
    /// MAX_RETRANSMIT: how often it is sent again, waiting twice as long each time.
    pub max_retransmit: u32,
    /// How long a response may follow its acknowledgement.
    pub response: u64,
}

/// What is to be done about a message at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send it. What cannot be sent until then is lost.
    Send { until: u64 },
    /// Wait for what comes back.
    Wait { until: u64 },
    /// Nobody answered.
    GiveUp,
}

/// What a message of the peer is to the message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sorted {
    /// Something else, or nothing new.
    Nothing,
    /// It arrived; a response follows, if it was a request.
    Acknowledged,
    /// The peer does not know it; or that is the answer to a ping.
    Reset,
    /// The response.
    Response,
}

/// A confirmable message on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    /// Of the message, and of the pings before it that may be answered as well.
    message_ids: (u16, u16),
    /// A ping has none: no response belongs to it.
    token: Option<Token>,
    timers: Timers,
    /// The next wait.
    wait: u64,
    /// How often it is to be sent yet.
    left: u32,
    /// Until when something may come back; none before it was sent.
    until: Option<u64>,
    is_acknowledged: bool,
}

impl Delivery {
    /// A request with this Message ID and token.
    pub(super) fn request(message_id: u16, token: Token, timers: Timers, rng: &mut (impl RngCore + ?Sized)) -> Self {
        Self { token: Some(token), ..Self::ping((message_id, message_id), timers, rng) }
    }

    /// A ping with the second Message ID; those from the first one on were pings as well.
    pub(super) fn ping(message_ids: (u16, u16), timers: Timers, rng: &mut (impl RngCore + ?Sized)) -> Self {
        let stretch = u64::from(rng.next_u32()).saturating_mul(timers.spread) >> 32;
        Self {
            message_ids,
            token: None,
            timers,
            wait: timers.ack_timeout.saturating_add(stretch),
            left: timers.max_retransmit.saturating_add(1),
            until: None,
            is_acknowledged: false,
        }
    }

    pub(super) fn message_ids(&self) -> (u16, u16) {
        self.message_ids
    }

    /// Until when something may come back, once it was sent.
    pub(super) fn until(&self) -> Option<u64> {
        self.until
    }

    pub(super) fn due(&mut self, now: u64) -> Due {
        if let Some(until) = self.until.filter(|until| now < *until) {
            return Due::Wait { until };
        }
        if self.is_acknowledged || self.left == 0 {
            return Due::GiveUp;
        }
        let until = now.saturating_add(self.wait);
        self.left = self.left.saturating_sub(1);
        self.wait = self.wait.saturating_mul(2);
        self.until = Some(until);
        Due::Send { until }
    }

    fn sort(&mut self, header: &Header, now: u64) -> Sorted {
        let (first, last) = self.message_ids;
        let is_ours = header.message_id == last;
        let is_one_of_ours = header.message_id.wrapping_sub(first) <= last.wrapping_sub(first);
        let is_response = matches!(classify(header.code), Range::Response(_))
            && self.token.is_some_and(|token| token == header.token);
        match (header.type_, header.code) {
            (Type::Ack, EMPTY) if is_ours => {
                if !self.is_acknowledged {
                    self.is_acknowledged = true;
                    self.until = Some(now.saturating_add(self.timers.response));
                }
                Sorted::Acknowledged
            }
            (Type::Rst, EMPTY) if is_one_of_ours => Sorted::Reset,
            (Type::Ack, _) if is_ours && is_response => Sorted::Response,
            (Type::Con | Type::Non, _) if is_response => Sorted::Response,
            _ => Sorted::Nothing,
        }
    }
}

/// What the client has acknowledged.
#[derive(Debug, Default)]
pub(super) struct Acknowledged(heapless::Vec<u16, REMEMBERED>);

impl Acknowledged {
    /// Sorts a message of the peer, with regard to the message that was sent, if one was. Returns what it is to be answered
    /// with, too: an acknowledgement or a Reset, where it wants one.
    pub(super) fn sort(
        &mut self,
        header: &Header,
        delivery: Option<&mut Delivery>,
        now: u64,
    ) -> (Sorted, Option<Type>) {
        let sorted = delivery.map_or(Sorted::Nothing, |delivery| delivery.sort(header, now));
        let reply = match (header.type_, sorted) {
            (Type::Con, Sorted::Response) => {
                self.remember(header.message_id);
                Some(Type::Ack)
            }
            (Type::Con, _) if self.0.contains(&header.message_id) => Some(Type::Ack),
            (Type::Con, _) => Some(Type::Rst),
            _ => None,
        };
        (sorted, reply)
    }

    pub(super) fn remember(&mut self, message_id: u16) {
        if self.0.is_full() {
            self.0.remove(0);
        }
        let _ = self.0.push(message_id);
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use rand_core::OsRng;

    use super::*;

    #[test]
    fn the_first_wait_is_random_within_its_bounds() {
        let timers = Timers { ack_timeout: 2_000, spread: 1_000, max_retransmit: 4, response: 60_000 };
        let wait = |_| match Delivery::ping((1, 1), timers, &mut OsRng).due(5_000) {
            Due::Send { until } => until - 5_000,
            due => panic!("{due:?}"),
        };
        let waits: Vec<u64> = (0..200).map(wait).collect();
        assert!(waits.iter().all(|wait| (2_000..=3_000).contains(wait)));
        assert!(waits.iter().max().unwrap() - waits.iter().min().unwrap() > 500);
    }

    /// Each kind of message, with the Message ID and the token of the request or without.
    #[test]
    fn a_response_has_the_token_and_an_acknowledgement_the_message_id() {
        let timers = Timers { ack_timeout: 2_000, spread: 0, max_retransmit: 4, response: 60_000 };
        let (ours, others) = (Token::from(7), Token::from(8));
        let sorted = |type_, code, message_id, token| {
            let mut delivery = Delivery::request(5, ours, timers, &mut OsRng);
            Acknowledged::default().sort(&Header { type_, code, message_id, token }, Some(&mut delivery), 0)
        };
        let (content, get) = (0x45, 0x01);
        for (type_, reply) in [(Type::Con, Some(Type::Ack)), (Type::Non, None)] {
            assert_eq!(sorted(type_, content, 99, ours), (Sorted::Response, reply));
            let turned_away = reply.map(|_| Type::Rst);
            assert_eq!(sorted(type_, content, 5, others), (Sorted::Nothing, turned_away));
            assert_eq!(sorted(type_, get, 5, ours), (Sorted::Nothing, turned_away));
        }
        assert_eq!(sorted(Type::Ack, content, 5, ours), (Sorted::Response, None));
        assert_eq!(sorted(Type::Ack, content, 5, others), (Sorted::Nothing, None));
        assert_eq!(sorted(Type::Ack, content, 6, ours), (Sorted::Nothing, None));
        assert_eq!(sorted(Type::Ack, EMPTY, 5, Token::EMPTY), (Sorted::Acknowledged, None));
        assert_eq!(sorted(Type::Ack, EMPTY, 6, Token::EMPTY), (Sorted::Nothing, None));
        assert_eq!(sorted(Type::Rst, EMPTY, 5, Token::EMPTY), (Sorted::Reset, None));
        assert_eq!(sorted(Type::Rst, EMPTY, 6, Token::EMPTY), (Sorted::Nothing, None));
    }
}
