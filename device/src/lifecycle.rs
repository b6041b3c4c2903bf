//! What a device accepts, from whom, and in which state: one table and one pure function.
//!
//! [`RULES`] is the specification. A request is lawful if a rule names it, the state meets the rule's condition, and
//! the rule lists the requester's role; everything else is refused and changes nothing. [`decide`] returns the state
//! that follows; writing it to flash, and answering only then, is the business of [`crate::device`].

use cbor_schemas::{ClaimPolicy, Condition, SlotState};

use Role::{Anyone, Factory, Owner, Peer, Stranger};

/// Who makes a request, as far as it has been proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// No security: whoever holds the other end of the cable.
    Anyone,
    /// EDHOC with a key that nobody vouches for.
    Stranger,
    /// EDHOC with a key that belongs to one of the owner's devices, as the device list says.
    Peer,
    /// EDHOC with a key that a station token of the factory anchor names, within the token's scope.
    Factory,
    /// EDHOC with a key that a station token of the owner anchor names, within the token's scope.
    Owner,
}

/// What is asked of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `GET /.well-known/core`
    Discover,
    /// `GET /comm`
    ReadInfo,
    /// `POST /.well-known/edhoc`
    Authenticate,
    /// `POST /authz-info`
    PresentToken,
    /// `GET /comm/factory`, `GET /comm/owner`: whether the slot is empty, anchored or certified.
    ReadSlotState,
    /// The anchor and certificate of the factory slot, in the same answer.
    ReadFactoryContents,
    /// The anchor and certificate of the owner slot, in the same answer.
    ReadOwnerContents,
    /// `PUT /comm/owner`
    WriteOwner(OwnerWrite),
    /// `GET /comm/peers`
    ReadPeers,
    /// `PUT /comm/peers`
    WritePeers,
    /// `POST /comm/identify`
    Identify,
    /// `POST /comm/rekey`
    Rekey,
    /// `POST /comm/rekey` with a key to take, where the firmware allows that.
    Inject,
    /// `POST /comm/reset`
    Reset,
    /// A resource of the product.
    Use(Access),
    /// What this version of the firmware does not have yet: PUT to `/comm/factory`.
    NotSupported,
}

/// Who may use a resource of the product, method by method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without security too.
    Anyone,
    /// "My devices": the devices of this device's owner, as the device list says; and the owner's stations, as far as
    /// their tokens' scope goes.
    MyDevices,
    /// The owner's stations, as far as their tokens' scope goes.
    Owner,
}

/// What a `PUT /comm/owner` would put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerWrite {
    /// A certificate comes with the anchor.
    pub certified: bool,
    /// The anchor is the one that is already there.
    pub same_anchor: bool,
}

/// The part of the device's state that decides what is lawful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Whether storage is whole.
    pub condition: Condition,
    /// Who may fill an empty owner slot.
    pub claim_policy: ClaimPolicy,
    /// The factory slot.
    pub factory: SlotState,
    /// The owner slot.
    pub owner: SlotState,
    /// Counts each filling and emptying of the owner slot.
    pub claim_counter: u32,
    /// Counts keys since the last erase.
    pub generation: u32,
    /// The present key was injected by an owner, who knows it.
    pub injected: bool,
}

/// One line of the specification.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    request: &'static str,
    matches: fn(Request) -> bool,
    when: When,
    who: &'static [Role],
    then: Effect,
}

/// A condition on the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Even with damaged storage.
    Always,
    /// Storage is whole.
    Whole,
    /// ... and nobody owns the device.
    Unowned,
    /// ... and somebody owns it.
    Owned,
    /// ... somebody owns it, and the factory has not certified the device's key.
    OwnedUncertified,
    /// ... nobody owns it, and the claim policy lets anyone who proves a key become the owner. With a factory anchor
    /// installed, `open` acts as `voucher`.
    OpenToClaim,
}

/// What a lawful request does to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    Keep,
    /// The owner slot holds what was written.
    FillOwner,
    /// A new key: generation + 1, certificates dropped, anchors kept.
    Rekey,
    /// The owner slot is empty. An injected key goes with who injected it, as by a rekey.
    EmptyOwner,
}

/// Why a request is refused. The state is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is proved: the one answer to everyone not authenticated.
    Unauthorized,
    /// This role may never do that.
    Forbidden,
    /// This role may do that, but not in the present state.
    WrongState,
    /// Storage is damaged: nothing is accepted.
    Fault,
    /// A counter cannot count further.
    Exhausted,
    /// Nobody may do that with this firmware.
    NotSupported,
}

const EVERYONE: &[Role] = &[Anyone, Stranger, Peer, Factory, Owner];

macro_rules! rule {
    ($name:literal $request:pat, $when:ident, $who:expr, $then:ident) => {
        Rule {
            request: $name,
            matches: |request| matches!(request, $request),
            when: When::$when,
            who: $who,
            then: Effect::$then,
        }
    };
}

/// The specification.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    //     request                                                          when          who                  then
    rule!("discover"            Request::Discover,                          Always,       EVERYONE,            Keep),
    rule!("read info"           Request::ReadInfo,                          Always,       EVERYONE,            Keep),
    rule!("authenticate"        Request::Authenticate,                      Whole,        &[Anyone],           Keep),
    rule!("present token"       Request::PresentToken,                      Whole,        EVERYONE,            Keep),
    rule!("read slot state"     Request::ReadSlotState,                     Whole,        EVERYONE,            Keep),
    rule!("read factory slot"   Request::ReadFactoryContents,               Whole,        EVERYONE,            Keep),
    rule!("read owner slot"     Request::ReadOwnerContents,                 Whole,        &[Factory, Owner],   Keep),
    rule!("write owner slot"    Request::WriteOwner(_),                     OpenToClaim,  &[Stranger],         FillOwner),
    rule!("write owner slot"    Request::WriteOwner(_),                     Owned,        &[Owner],            FillOwner),
    rule!("read peers"          Request::ReadPeers,                         Owned,        &[Owner],            Keep),
    rule!("write peers"         Request::WritePeers,                        Owned,        &[Owner],            Keep),
    rule!("use"                 Request::Use(Access::Anyone),               Whole,        EVERYONE,            Keep),
    rule!("use"                 Request::Use(Access::MyDevices),            Owned,        &[Peer, Owner],      Keep),
    rule!("use"                 Request::Use(Access::Owner),                Owned,        &[Owner],            Keep),
    rule!("identify"            Request::Identify,                          Unowned,      EVERYONE,            Keep),
    rule!("identify"            Request::Identify,                          Owned,        &[Owner],            Keep),
    rule!("rekey"               Request::Rekey,                             Owned,        &[Owner],            Rekey),
    rule!("inject a key"        Request::Inject,                            OwnedUncertified, &[Owner],        Rekey),
    rule!("reset"               Request::Reset,                             Owned,        &[Owner],            EmptyOwner),
];

/// The state that follows `request`, or why it is refused.
pub fn decide(state: &State, role: Role, request: Request) -> Result<State, Refusal> {
    let mut known_to_role = false;
    for rule in RULES.iter().filter(|rule| (rule.matches)(request) && rule.who.contains(&role)) {
        if rule.when.holds(state) {
            return rule.then.apply(state, request);
        }
        known_to_role = true;
    }
    Err(match (state.condition, role, known_to_role) {
        (Condition::Fault, ..) => Refusal::Fault,
        (_, Anyone, _) => Refusal::Unauthorized,
        _ if request == Request::NotSupported => Refusal::NotSupported,
        (_, _, true) => Refusal::WrongState,
        (_, _, false) => Refusal::Forbidden,
    })
}

impl When {
    fn holds(self, state: &State) -> bool {
        let whole = state.condition == Condition::Ok;
        let unowned = state.owner == SlotState::Empty;
        match self {
            When::Always => true,
            When::Whole => whole,
            When::Unowned => whole && unowned,
            When::Owned => whole && !unowned,
            When::OwnedUncertified => whole && !unowned && state.factory != SlotState::Certified,
            When::OpenToClaim => {
                whole && unowned && state.claim_policy == ClaimPolicy::Open && state.factory == SlotState::Empty
            }
        }
    }
}

impl Effect {
    fn apply(self, state: &State, request: Request) -> Result<State, Refusal> {
        let counted = |n: u32| n.checked_add(1).ok_or(Refusal::Exhausted);
        let mut next = *state;
        match self {
            Effect::Keep => {}
            Effect::FillOwner => {
                let Request::WriteOwner(write) = request else { return Err(Refusal::Forbidden) };
                next.owner = if write.certified { SlotState::Certified } else { SlotState::Anchored };
                if state.owner == SlotState::Empty || !write.same_anchor {
                    next.claim_counter = counted(state.claim_counter)?;
                }
            }
            Effect::Rekey => {
                next = next.with_new_key()?;
                next.injected = request == Request::Inject;
            }
            Effect::EmptyOwner => {
                if state.injected {
                    next = next.with_new_key()?;
                }
                next.owner = SlotState::Empty;
                next.claim_counter = counted(state.claim_counter)?;
            }
        }
        Ok(next)
    }
}

impl State {
    /// After the key was replaced by one that the device made.
    fn with_new_key(self) -> Result<State, Refusal> {
        Ok(State {
            generation: self.generation.checked_add(1).ok_or(Refusal::Exhausted)?,
            factory: without_certificate(self.factory),
            owner: without_certificate(self.owner),
            injected: false,
            ..self
        })
    }
}

fn without_certificate(slot: SlotState) -> SlotState {
    match slot {
        SlotState::Empty => SlotState::Empty,
        SlotState::Anchored | SlotState::Certified => SlotState::Anchored,
    }
}

impl core::fmt::Display for Rule {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:<20} {:<12?} {:<38?} {:?}", self.request, self.when, self.who, self.then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states() -> impl Iterator<Item = State> {
        let policies = ClaimPolicy::ALL.iter().flat_map(|policy| Condition::ALL.iter().map(move |at| (*policy, *at)));
        let slots =
            SlotState::ALL.iter().flat_map(|factory| SlotState::ALL.iter().map(move |owner| (*factory, *owner)));
        policies.flat_map(move |(claim_policy, condition)| {
            slots.clone().map(move |(factory, owner)| State {
                condition,
                claim_policy,
                factory,
                owner,
                claim_counter: 1,
                generation: 1,
                injected: false,
            })
        })
    }

    fn requests() -> Vec<Request> {
        let writes = [(false, false), (false, true), (true, false), (true, true)]
            .map(|(certified, same_anchor)| Request::WriteOwner(OwnerWrite { certified, same_anchor }));
        let others = [
            Request::Discover,
            Request::ReadInfo,
            Request::Authenticate,
            Request::PresentToken,
            Request::ReadSlotState,
            Request::ReadFactoryContents,
            Request::ReadOwnerContents,
            Request::ReadPeers,
            Request::WritePeers,
            Request::Use(Access::Anyone),
            Request::Use(Access::MyDevices),
            Request::Use(Access::Owner),
            Request::Identify,
            Request::Rekey,
            Request::Inject,
            Request::Reset,
        ];
        [&writes[..], &others].concat()
    }

    #[test]
    fn the_order_of_the_rules_does_not_matter() {
        for state in states() {
            for request in requests() {
                for role in EVERYONE {
                    let holds =
                        |rule: &&Rule| (rule.matches)(request) && rule.who.contains(role) && rule.when.holds(&state);
                    assert!(RULES.iter().filter(holds).count() <= 1, "{role:?} {request:?} {state:?}");
                }
            }
        }
    }

    #[test]
    fn every_rule_is_for_something() {
        for rule in RULES {
            assert!(requests().into_iter().any(rule.matches), "{rule}");
            assert!(states().any(|state| rule.when.holds(&state)), "{rule}");
            assert!(!rule.who.is_empty(), "{rule}");
        }
    }
}
