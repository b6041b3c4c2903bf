//! Handshakes under way and OSCORE contexts, in RAM only.
//!
//! Strangers can start as many handshakes as they like; they only ever displace each other. A context whose key holds
//! a grant gives way to nothing but another such context.

use heapless::Vec;
use protocol::{
    edhoc::{ConnId, Peer, Responder},
    key::PublicKey,
    oscore::{self, Context},
};

/// Handshakes that wait for message_3, one per address.
pub const PENDING: usize = 2;
/// OSCORE contexts.
pub const ESTABLISHED: usize = 4;

/// An authenticated peer and the context it is reached by.
pub struct Session {
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
    established: Vec<Session, ESTABLISHED>,
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
        self.pending.retain(|pending| pending.from != from);
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

    /// Keeps an established session. `granted` tells which keys hold a grant.
    pub fn establish(&mut self, context: Context, peer: Peer, granted: impl Fn(&PublicKey) -> bool) {
        self.established.retain(|session| session.context.recipient() != context.recipient());
        if self.established.is_full() {
            let victim = self.established.iter().position(|session| !granted(&session.peer.key));
            match victim {
                Some(at) => drop(self.established.remove(at)),
                None if granted(&peer.key) => drop(self.established.remove(0)),
                None => return,
            }
        }
        self.opened = self.opened.wrapping_add(1);
        let _ = self.established.push(Session { context, peer, number: self.opened });
    }

    /// The session whose context has `recipient` as our identifier; it becomes the most recently used.
    pub fn find(&mut self, recipient: oscore::Id) -> Option<&mut Session> {
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
