//! Handshakes under way and OSCORE contexts, in RAM only.
//!
//! Strangers can start as many handshakes as they like: they displace handshakes under way, and each other's contexts. A
//! context whose key is known gives way to nothing but another such context. Some places are always for strangers: whoever
//! verifies a device, or takes it over, finds one however often its owner was there.

use crate::{
    edhoc::{ConnId, Peer, Responder},
    key::PublicKey,
    oscore::{self, Context},
};

/// Contexts that one key has, or that are at one address, where identifiers do not suffice for all addresses. A peer that
/// starts anew leaves the last one behind.
const RELATED: usize = 4;

/// A list with room for a limited number of entries.
pub trait Places<T> {
    /// The empty list.
    const NEW: Self;
    /// How many entries there is room for.
    const LIMIT: usize;

    /// All entries, oldest first.
    fn entries(&self) -> &[T];

    /// All entries, to be changed.
    fn entries_mut(&mut self) -> &mut [T];

    /// Adds an entry behind the others. Where there is no room for it, it is dropped.
    fn add(&mut self, entry: T);

    /// Takes out an entry; those behind it move up.
    fn take(&mut self, at: usize) -> Option<T>;

    /// Drops all entries.
    fn clear(&mut self);
}

impl<T, const N: usize> Places<T> for heapless::Vec<T, N> {
    const NEW: Self = heapless::Vec::new();
    const LIMIT: usize = N;

    fn entries(&self) -> &[T] {
        self
    }

    fn entries_mut(&mut self) -> &mut [T] {
        self
    }

    fn add(&mut self, entry: T) {
        let _ = self.push(entry);
    }

    fn take(&mut self, at: usize) -> Option<T> {
        (at < self.len()).then(|| self.remove(at))
    }

    fn clear(&mut self) {
        self.as_mut_view().clear();
    }
}

/// An authenticated peer and the context it is reached by.
pub struct Session<A> {
    /// Where the peer is: it was sent message_2 there, and sent message_3 from there.
    pub from: A,
    /// The OSCORE context; its recipient ID is our C_R.
    pub context: Context,
    /// The key that the handshake proved.
    pub peer: Peer,
    /// Tells this session from every other one since the last start; never 0.
    pub number: u32,
}

/// A handshake that waits for message_3.
pub struct Handshake<A> {
    from: A,
    responder: Responder,
}

/// All of them. `A` is the address of a peer; `H` and `S` have places for handshakes, one per address, and for contexts.
///
/// There are [`ConnId::COUNT`] connection identifiers. Where they suffice for all places, each is one peer's, and goes with
/// it to another address. Where there are more places, an identifier is good at one address.
pub struct Sessions<A, H, S> {
    /// Oldest first.
    handshakes: H,
    /// Least recently used first.
    established: S,
    shares: Shares,
    opened: u32,
    address: core::marker::PhantomData<A>,
}

/// How many contexts there are at the most.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Of keys that are known. Where they could take all places, strangers find none.
    pub known: usize,
    /// Of other keys.
    pub strangers: usize,
}

/// With a fixed number of places, without allocation.
pub type Fixed<A, const HANDSHAKES: usize, const SESSIONS: usize> =
    Sessions<A, heapless::Vec<Handshake<A>, HANDSHAKES>, heapless::Vec<Session<A>, SESSIONS>>;

impl<A: Copy + Eq, H: Places<Handshake<A>>, S: Places<Session<A>>> Sessions<A, H, S> {
    /// Whether an identifier alone tells who a peer is. Each takes two: the responder takes the next one if the peer chose
    /// the same.
    const BY_IDENTIFIER: bool = H::LIMIT.saturating_add(S::LIMIT).saturating_mul(2) < ConnId::COUNT as usize;

    /// No sessions yet.
    pub const fn new(shares: Shares) -> Self {
        Sessions { handshakes: H::NEW, established: S::NEW, shares, opened: 0, address: core::marker::PhantomData }
    }

    /// A connection identifier that no session uses which `from` could be taken for, and its successor neither: the responder
    /// takes that one if the peer chose the same. The search starts `skip` identifiers from the first.
    pub fn unused_conn_id(&self, from: A, skip: u8) -> Option<ConnId> {
        let is_free = |id: ConnId| {
            let waits = |it: &Handshake<A>| (Self::BY_IDENTIFIER || it.from == from) && it.responder.c_r() == id;
            !self.handshakes.entries().iter().any(waits) && self.position(from, id.into()).is_none()
        };
        let first = ConnId::new(0)?;
        let candidates = core::iter::successors(Some(first), |id| Some(id.next())).skip(skip.into());
        candidates.take(ConnId::COUNT.into()).find(|id| is_free(*id) && is_free(id.next()))
    }

    /// Keeps a handshake until its message_3 comes, in place of an older one from the same address.
    pub fn await_message_3(&mut self, from: A, responder: Responder) {
        self.give_up(from);
        if self.handshakes.entries().len() >= H::LIMIT {
            self.handshakes.take(0);
        }
        self.handshakes.add(Handshake { from, responder });
    }

    /// The handshake of `from` in which we chose `c_r`. It is over with this, whatever its message_3 is worth.
    pub fn take_handshake(&mut self, from: A, c_r: oscore::Id) -> Option<Responder> {
        let chosen = |it: &Handshake<A>| it.from == from && oscore::Id::from(it.responder.c_r()) == c_r;
        let at = self.handshakes.entries().iter().position(chosen)?;
        Some(self.handshakes.take(at)?.responder)
    }

    /// Ends the handshake of `from`.
    pub fn give_up(&mut self, from: A) {
        if let Some(at) = self.handshakes.entries().iter().position(|it| it.from == from) {
            self.handshakes.take(at);
        }
    }

    /// Keeps an established session. `is_known` tells which keys are known. Returns the number of the session that gave way to
    /// it, if one had to.
    #[inline(never)]
    pub fn establish(
        &mut self,
        from: A,
        context: Context,
        peer: Peer,
        is_known: impl Fn(&PublicKey) -> bool,
    ) -> Option<u32> {
        let replaced =
            self.position(from, context.recipient()).or_else(|| self.one_to_give_way(from, &peer.key, is_known));
        self.opened = self.opened.wrapping_add(1).max(1);
        let session = Session { from, context, peer, number: self.opened };
        let Some(place) = replaced.and_then(|at| self.moved_to_the_end(at)) else {
            self.established.add(session);
            return None;
        };
        let number = place.number;
        *place = session;
        Some(number)
    }

    /// The least recently used session that has to go before one more can come.
    fn one_to_give_way(&self, from: A, key: &PublicKey, is_known: impl Fn(&PublicKey) -> bool) -> Option<usize> {
        let established = self.established.entries();
        let (is_of_known, known) = (is_known(key), |it: &Session<A>| is_known(&it.peer.key));
        let is_like = |it: &&Session<A>| known(it) == is_of_known;
        let is_related = |it: &&Session<A>| is_like(it) && (it.from == from || it.peer.key == *key);
        let limit = if is_of_known { self.shares.known } else { self.shares.strangers };
        if !Self::BY_IDENTIFIER && established.iter().filter(is_related).count() >= RELATED {
            established.iter().position(|it| is_related(&it))
        } else if established.iter().filter(is_like).count() >= limit {
            established.iter().position(|it| is_like(&it))
        } else if established.len() >= S::LIMIT {
            established.iter().position(|it| !known(it)).or(Some(0))
        } else {
            None
        }
    }

    /// The session whose context has `recipient` as our identifier; it becomes the most recently used.
    pub fn find(&mut self, from: A, recipient: oscore::Id) -> Option<&mut Session<A>> {
        let at = self.position(from, recipient)?;
        self.moved_to_the_end(at)
    }

    fn moved_to_the_end(&mut self, at: usize) -> Option<&mut Session<A>> {
        let entries = self.established.entries_mut();
        let behind = entries.get_mut(at..)?;
        if S::LIMIT > 1 && !behind.is_empty() {
            behind.rotate_left(1);
        }
        entries.last_mut()
    }

    /// The session with this number, which stays where it is among the others.
    pub fn numbered(&mut self, number: u32) -> Option<&mut Session<A>> {
        self.established.entries_mut().iter_mut().find(|session| session.number == number)
    }

    /// All contexts, least recently used first.
    pub fn established(&self) -> &[Session<A>] {
        self.established.entries()
    }

    /// How many handshakes wait for message_3.
    pub fn handshakes(&self) -> usize {
        self.handshakes.entries().len()
    }

    /// Ends them all.
    pub fn clear(&mut self) {
        self.handshakes.clear();
        self.established.clear();
    }

    fn position(&self, from: A, recipient: oscore::Id) -> Option<usize> {
        self.established.entries().iter().position(|session| {
            (Self::BY_IDENTIFIER || session.from == from) && session.context.recipient() == recipient
        })
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

    /// As a device has them.
    type Few = Fixed<u8, 2, 4>;

    fn id(byte: u8) -> oscore::Id {
        oscore::Id::from(byte)
    }

    fn peer() -> Peer {
        Peer { key: *PrivateKey::generate(&mut OsRng).public(), transfer: Transfer::ByValue }
    }

    /// A session that is reached by `recipient`.
    fn establish(sessions: &mut Few, recipient: u8, peer: Peer, granted: &[PublicKey]) {
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
        let mut sessions = Few::new(Shares { known: 3, strangers: 4 });
        let next = |sessions: &Few, skip| sessions.unused_conn_id(9, skip).unwrap().byte();
        assert_eq!([next(&sessions, 0), next(&sessions, 47), next(&sessions, 48)], [0, 0x37, 0]);
        establish(&mut sessions, 2, peer(), &[]);
        sessions.await_message_3(1, responder(ConnId::new(5).unwrap()));
        let chosen = [0, 1, 2, 3, 4, 5, 6].map(|skip| next(&sessions, skip));
        assert_eq!(chosen, [0, 3, 3, 3, 6, 6, 6]);
    }

    #[test]
    fn strangers_make_room_first_and_the_oldest_among_equals() {
        let (mut sessions, owner) = (Few::new(Shares { known: 3, strangers: 4 }), peer());
        let granted = [owner.key];
        establish(&mut sessions, 0, owner, &granted);
        for stranger in 1..10 {
            establish(&mut sessions, stranger, peer(), &granted);
        }
        let alive: Vec<u8> = (0..10).filter(|recipient| sessions.find(0, id(*recipient)).is_some()).collect();
        assert_eq!(alive, [0, 7, 8, 9]);
        // Having been used, 7 is not the oldest any more.
        sessions.find(0, id(7)).unwrap();
        establish(&mut sessions, 10, peer(), &granted);
        assert!(sessions.find(0, id(8)).is_none() && sessions.find(0, id(7)).is_some());
    }

    #[test]
    fn one_place_is_for_strangers_and_no_more() {
        let (mut sessions, owner) = (Few::new(Shares { known: 3, strangers: 4 }), peer());
        let granted = [owner.key];
        let alive = |sessions: &mut Few| -> Vec<u8> {
            (0..10).filter(|recipient| sessions.find(0, id(*recipient)).is_some()).collect()
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
        let mut sessions = Few::new(Shares { known: 3, strangers: 4 });
        let mut numbers = Vec::new();
        for recipient in 0..6 {
            establish(&mut sessions, recipient, peer(), &[]);
            numbers.push(sessions.find(0, id(recipient)).unwrap().number);
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
        let mut sessions = Few::new(Shares { known: 3, strangers: 4 });
        let [one, two, three] = [1, 3, 5].map(|byte| ConnId::new(byte).unwrap());
        sessions.await_message_3(1, responder(one));
        sessions.await_message_3(2, responder(two));
        assert!(sessions.take_handshake(2, one.into()).is_none());
        assert!(sessions.take_handshake(1, one.into()).is_some());
        assert!(sessions.take_handshake(1, one.into()).is_none());
        // Room for two addresses: a third displaces the older one.
        sessions.await_message_3(3, responder(one));
        sessions.await_message_3(4, responder(three));
        assert!(sessions.take_handshake(2, two.into()).is_none());
        assert!(sessions.take_handshake(3, one.into()).is_some());
        sessions.clear();
        assert!(sessions.take_handshake(4, three.into()).is_none());
    }

    /// As a server for a network has them: more places than identifiers.
    type Many = Fixed<u8, 8, 40>;

    fn establish_at(sessions: &mut Many, from: u8, recipient: u8, peer: Peer, known: &[PublicKey]) {
        let context = Context::derive(b"secret", b"salt", id(0x30), id(recipient));
        sessions.establish(from, context, peer, |key| known.contains(key));
    }

    #[test]
    fn with_more_places_than_identifiers_each_address_has_all_of_them() {
        let mut sessions = Many::new(Shares { known: 36, strangers: 4 });
        establish_at(&mut sessions, 1, 0, peer(), &[]);
        establish_at(&mut sessions, 2, 0, peer(), &[]);
        let [one, two] = [1, 2].map(|from| sessions.find(from, id(0)).unwrap().number);
        assert_ne!(one, two);
        assert!(sessions.find(3, id(0)).is_none());
        assert_eq!([1, 3].map(|from| sessions.unused_conn_id(from, 0).unwrap().byte()), [1, 0]);
        assert_eq!(sessions.numbered(one).map(|session| session.from), Some(1));
        sessions.await_message_3(3, responder(ConnId::new(0).unwrap()));
        assert_eq!([1, 3].map(|from| sessions.unused_conn_id(from, 0).unwrap().byte()), [1, 1]);
    }

    #[test]
    fn an_address_and_a_key_have_few_contexts_and_nobody_elses_goes_for_them() {
        let (mut sessions, own) = (Many::new(Shares { known: 36, strangers: 4 }), peer());
        let alive = |sessions: &mut Many, from: u8| (0..10).filter(|it| sessions.find(from, id(*it)).is_some()).count();
        for recipient in 0..10 {
            establish_at(&mut sessions, 1, recipient, peer(), &[own.key]);
            establish_at(&mut sessions, 10 + recipient, 0, own, &[own.key]);
        }
        assert_eq!(alive(&mut sessions, 1), RELATED);
        assert_eq!((10..20).map(|from| alive(&mut sessions, from)).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
        // A known key at the address of strangers is not one of theirs.
        establish_at(&mut sessions, 1, 9, own, &[own.key]);
        assert_eq!(alive(&mut sessions, 1), RELATED, "the same identifier again");
        let unused = sessions.unused_conn_id(1, 0).unwrap().byte();
        establish_at(&mut sessions, 1, unused, own, &[own.key]);
        assert_eq!(alive(&mut sessions, 1), RELATED + 1);
    }
}
