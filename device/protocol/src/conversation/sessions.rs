//! Handshakes under way and OSCORE contexts, in RAM only.
//!
//! Strangers can start as many handshakes as they like: they displace handshakes under way, and each other's contexts. A
//! context whose key holds a grant gives way to nothing but another such context. One place is always for strangers: whoever
//! verifies a device, or takes it over, finds it however often its owner was there.

use crate::{
    edhoc::{ConnId, Peer, Responder},
    key::PublicKey,
    oscore::{self, Context},
};
use heapless::Vec;

/// Handshakes that wait for message_3, one per address.
pub const PENDING: usize = 2;
/// OSCORE contexts.
pub const ESTABLISHED: usize = 4;

/// An authenticated peer and the context it is reached by.
pub struct Session<A> {
    /// Where the peer is: it was sent message_2 there, and sent message_3 from there.
    pub from: A,
    /// The OSCORE context; its recipient ID is our C_R.
    pub context: Context,
    /// The key that the handshake proved.
    pub peer: Peer,
    /// Tells this session from every other one since the last start.
    pub number: u32,
}

struct Pending<A> {
    from: A,
    responder: Responder,
}

/// All of them. `A` is the address of a peer.
pub struct Sessions<A> {
    /// Oldest first.
    pending: Vec<Pending<A>, PENDING>,
    /// Least recently used first.
    established: Vec<Session<A>, ESTABLISHED>,
    opened: u32,
}

impl<A: Copy + Eq> Sessions<A> {
    /// None.
    pub const fn new() -> Self {
        Sessions { pending: Vec::new(), established: Vec::new(), opened: 0 }
    }

    /// A connection identifier that no session uses, and its successor neither: the responder takes that one if the peer
    /// chose the same. The search starts `skip` identifiers from the first.
    pub fn unused_conn_id(&self, skip: u8) -> Option<ConnId> {
        let is_free = |id: ConnId| {
            self.pending.iter().all(|pending| pending.responder.c_r() != id)
                && self.established.iter().all(|session| session.context.recipient() != id.into())
        };
        let first = ConnId::new(0)?;
        let mut candidates = core::iter::successors(Some(first), |id| Some(id.next())).skip(skip.into());
        // There are more identifiers than sessions by far, so this ends.
        candidates.find(|id| is_free(*id) && is_free(id.next()))
    }

    /// Keeps a handshake until its message_3 comes, in place of an older one from the same address.
    pub fn await_message_3(&mut self, from: A, responder: Responder) {
        self.give_up(from);
        if self.pending.is_full() {
            self.pending.remove(0);
        }
        let _ = self.pending.push(Pending { from, responder });
    }

    /// The handshake of `from` in which we chose `c_r`. It is over with this, whatever its message_3 is worth.
    pub fn take_pending(&mut self, from: A, c_r: oscore::Id) -> Option<Responder> {
        let chosen = |pending: &Pending<A>| pending.from == from && oscore::Id::from(pending.responder.c_r()) == c_r;
        let at = self.pending.iter().position(chosen)?;
        Some(self.pending.remove(at).responder)
    }

    /// Ends the handshake of `from`.
    pub fn give_up(&mut self, from: A) {
        self.pending.retain(|pending| pending.from != from);
    }

    /// Keeps an established session. `granted` tells which keys hold a grant.
    pub fn establish(&mut self, from: A, context: Context, peer: Peer, granted: impl Fn(&PublicKey) -> bool) {
        self.established.retain(|session| session.context.recipient() != context.recipient());
        let is_granted = |session: &Session<A>| granted(&session.peer.key);
        let of_owners = self.established.iter().filter(|session| is_granted(session)).count();
        let victim = match granted(&peer.key) {
            true if of_owners >= ESTABLISHED - 1 => self.established.iter().position(is_granted),
            _ if self.established.is_full() => {
                self.established.iter().position(|session| !is_granted(session)).or(Some(0))
            }
            _ => None,
        };
        if let Some(at) = victim {
            self.established.remove(at);
        }
        self.opened = self.opened.wrapping_add(1);
        let _ = self.established.push(Session { from, context, peer, number: self.opened });
    }

    /// The session whose context has `recipient` as our identifier; it becomes the most recently used.
    pub fn find(&mut self, recipient: oscore::Id) -> Option<&mut Session<A>> {
        let at = self.established.iter().position(|session| session.context.recipient() == recipient)?;
        self.established.get_mut(at..)?.rotate_left(1);
        self.established.last_mut()
    }

    /// Ends them all.
    pub fn clear(&mut self) {
        self.pending.clear();
        self.established.clear();
    }
}

impl<A: Copy + Eq> Default for Sessions<A> {
    fn default() -> Self {
        Sessions::new()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use crate::{
        edhoc::{Initiator, Transfer},
        key::PrivateKey,
    };
    use rand_core::OsRng;

    use super::*;

    fn id(byte: u8) -> oscore::Id {
        oscore::Id::from(byte)
    }

    fn peer() -> Peer {
        Peer { key: *PrivateKey::generate(&mut OsRng).public(), transfer: Transfer::ByValue }
    }

    /// A session that is reached by `recipient`.
    fn establish(sessions: &mut Sessions<u8>, recipient: u8, peer: Peer, granted: &[PublicKey]) {
        let context = Context::derive(b"secret", b"salt", id(0x30), id(recipient));
        sessions.establish(0, context, peer, |key| granted.contains(key));
    }

    fn responder(c_r: ConnId) -> Responder {
        let own = PrivateKey::generate(&mut OsRng);
        let (_, message_1) = Initiator::start(&own, ConnId::new(0x37).unwrap(), &mut OsRng).unwrap();
        Responder::start(&message_1, &PrivateKey::generate(&mut OsRng), c_r, &mut OsRng).unwrap().0
    }

    #[test]
    fn connection_identifiers_in_use_are_passed_over_with_their_predecessors() {
        let mut sessions = Sessions::new();
        let next = |sessions: &Sessions<u8>, skip| sessions.unused_conn_id(skip).unwrap().byte();
        assert_eq!([next(&sessions, 0), next(&sessions, 47), next(&sessions, 48)], [0, 0x37, 0]);
        establish(&mut sessions, 2, peer(), &[]);
        sessions.await_message_3(1, responder(ConnId::new(5).unwrap()));
        let chosen = [0, 1, 2, 3, 4, 5, 6].map(|skip| next(&sessions, skip));
        assert_eq!(chosen, [0, 3, 3, 3, 6, 6, 6]);
    }

    #[test]
    fn strangers_make_room_first_and_the_oldest_among_equals() {
        let (mut sessions, owner) = (Sessions::new(), peer());
        let granted = [owner.key];
        establish(&mut sessions, 0, owner, &granted);
        for stranger in 1..10 {
            establish(&mut sessions, stranger, peer(), &granted);
        }
        let alive: Vec<u8> = (0..10).filter(|recipient| sessions.find(id(*recipient)).is_some()).collect();
        assert_eq!(alive, [0, 7, 8, 9]);
        // Having been used, 7 is not the oldest any more.
        sessions.find(id(7)).unwrap();
        establish(&mut sessions, 10, peer(), &granted);
        assert!(sessions.find(id(8)).is_none() && sessions.find(id(7)).is_some());
    }

    #[test]
    fn one_place_is_for_strangers_and_no_more() {
        let (mut sessions, owner) = (Sessions::new(), peer());
        let granted = [owner.key];
        let alive = |sessions: &mut Sessions<u8>| -> Vec<u8> {
            (0..10).filter(|recipient| sessions.find(id(*recipient)).is_some()).collect()
        };
        for recipient in 0..4 {
            establish(&mut sessions, recipient, owner, &granted);
        }
        assert_eq!(alive(&mut sessions), [1, 2, 3], "the oldest makes room");
        for stranger in 4..7 {
            establish(&mut sessions, stranger, peer(), &granted);
        }
        assert_eq!(alive(&mut sessions), [1, 2, 3, 6]);
        establish(&mut sessions, 7, owner, &granted);
        assert_eq!(alive(&mut sessions), [2, 3, 6, 7]);
        // Four who were strangers when they came, and then showed a token.
        let granted: Vec<_> = sessions.established.iter().map(|session| session.peer.key).collect();
        establish(&mut sessions, 8, peer(), &granted);
        assert_eq!(alive(&mut sessions), [3, 6, 7, 8]);
        establish(&mut sessions, 9, peer(), &granted);
        assert_eq!(alive(&mut sessions), [3, 6, 7, 9]);
    }

    #[test]
    fn every_session_has_a_number_of_its_own() {
        let mut sessions = Sessions::new();
        let mut numbers = Vec::new();
        for recipient in 0..6 {
            establish(&mut sessions, recipient, peer(), &[]);
            numbers.push(sessions.find(id(recipient)).unwrap().number);
            if recipient == 3 {
                sessions.clear();
            }
        }
        numbers.dedup();
        assert_eq!(numbers.len(), 6);
        assert!(!numbers.contains(&0), "that is for requests without security");
    }

    #[test]
    fn a_handshake_is_taken_once_and_by_its_own_address() {
        let mut sessions = Sessions::new();
        let [one, two, three] = [1, 3, 5].map(|byte| ConnId::new(byte).unwrap());
        sessions.await_message_3(1, responder(one));
        sessions.await_message_3(2, responder(two));
        assert!(sessions.take_pending(2, one.into()).is_none());
        assert!(sessions.take_pending(1, one.into()).is_some());
        assert!(sessions.take_pending(1, one.into()).is_none());
        // Room for two addresses: a third displaces the older one.
        sessions.await_message_3(3, responder(one));
        sessions.await_message_3(4, responder(three));
        assert!(sessions.take_pending(2, two.into()).is_none());
        assert!(sessions.take_pending(3, one.into()).is_some());
        sessions.clear();
        assert!(sessions.take_pending(4, three.into()).is_none());
    }
}
