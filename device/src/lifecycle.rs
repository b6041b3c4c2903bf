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
    /// `PUT /comm/factory`, before its body is known: lawful where some write is.
    BeginFactoryWrite,
    /// `PUT /comm/factory`
    WriteFactory(FactoryWrite),
    /// `PUT /comm/owner`, before its body is known: lawful where some write is.
    BeginOwnerWrite,
    /// `PUT /comm/owner`
    WriteOwner(OwnerWrite),
    /// `GET /comm/peers`
    ReadPeers,
    /// `PUT /comm/peers`
    WritePeers,
    /// `GET /comm/slots/NAME`
    ReadValue,
    /// `PUT /comm/slots/NAME`
    WriteValue,
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

/// What a `PUT /comm/factory` would put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactoryWrite {
    /// An anchor where there is none, with a certificate or without.
    Fill {
        /// A certificate comes with the anchor.
        certified: bool,
    },
    /// A certificate of the anchor that is there, newer than the one beside it.
    Renew,
    /// What is there already, byte for byte.
    Repeat,
    /// Anything else where there is something: another anchor, an older certificate, or none.
    Replace,
}

/// What a `PUT /comm/owner` would put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerWrite {
    /// A certificate comes with the anchor.
    pub certified: bool,
    /// The anchor is the one that is already there.
    pub same_anchor: bool,
    /// Who signed the voucher that comes with it, and that names this anchor, this device and its claim counter.
    pub voucher: Option<Voucher>,
}

/// Who vouches for a new owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// The factory anchor.
    Factory,
    /// The anchor of the present owner, who hands the device on.
    Owner,
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
    /// Somebody held the device's button down, less than 30 s ago, and nothing came of it yet.
    pub present: bool,
    /// The product lets whoever is present empty the owner slot.
    pub reset_by_presence: bool,
}

/// One line of the specification.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
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
    /// Storage is whole, and nobody owns the device.
    Unowned,
    /// Storage is whole, and somebody owns the device.
    Owned,
    /// Storage is whole, somebody owns the device, and the factory has not certified its key.
    OwnedUncertified,
    /// Storage is whole, and somebody owns the device who did not inject its key.
    OwnedByItself,
    /// Storage is whole, nobody owns the device, and the policy needs no voucher; presence, if needed, was shown. With a
    /// factory anchor installed, `open` acts as `voucher`.
    Claimable,
    /// Storage is whole, nobody owns the device, and a factory anchor can vouch; presence, if needed, was shown.
    ClaimableByVoucher,
    /// Storage is whole, and both slots are empty, so nobody can vouch yet; presence, if needed, was shown.
    Blank,
    /// Storage is whole, somebody owns the device, and its factory slot is empty.
    OwnedAlone,
    /// Storage is whole, and the factory slot is not empty.
    Manufactured,
    /// Storage is whole, somebody owns the device, somebody is present, and the product lets them reset it.
    ResetByPresence,
    /// In no state: what is there was to be written once.
    Never,
}

/// What a lawful request does to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    Keep,
    /// Nothing yet, but the claim counter will be counted on.
    KeepToCount,
    /// The factory slot holds what was written.
    FillFactory,
    /// The owner slot holds what was written. What was the owner's goes with another anchor.
    FillOwner,
    /// The owner slot holds what was written, and all else that was the owner's is gone.
    Transfer,
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
    /// The claim policy asks for a voucher.
    NeedsVoucher,
    /// The claim policy asks for somebody who is present.
    NeedsPresence,
    /// What is there was to be written once.
    WrittenOnce,
    /// Storage is damaged: nothing is accepted.
    Fault,
    /// A counter cannot count further.
    Exhausted,
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
pub(crate) const RULES: &[Rule] = &[
    //     request                                                                          when                who                  then
    rule!("discover"            Request::Discover,                                          Always,             EVERYONE,            Keep),
    rule!("read info"           Request::ReadInfo,                                          Always,             EVERYONE,            Keep),
    rule!("authenticate"        Request::Authenticate,                                      Whole,              &[Anyone],           Keep),
    rule!("present token"       Request::PresentToken,                                      Whole,              EVERYONE,            Keep),
    rule!("read slot state"     Request::ReadSlotState,                                     Whole,              EVERYONE,            Keep),
    rule!("read factory slot"   Request::ReadFactoryContents,                               Whole,              EVERYONE,            Keep),
    rule!("read owner slot"     Request::ReadOwnerContents,                                 Whole,              &[Factory, Owner],   Keep),
    rule!("begin factory slot"  Request::BeginFactoryWrite,                                 Blank,              &[Stranger],         Keep),
    rule!("begin factory slot"  Request::BeginFactoryWrite,                                 OwnedAlone,         &[Owner],            Keep),
    rule!("begin factory slot"  Request::BeginFactoryWrite,                                 Manufactured,       &[Factory, Owner],   Keep),
    rule!("fill factory slot"   Request::WriteFactory(FactoryWrite::Fill { .. }),           Blank,              &[Stranger],         FillFactory),
    rule!("fill factory slot"   Request::WriteFactory(FactoryWrite::Fill { .. }),           OwnedAlone,         &[Owner],            FillFactory),
    rule!("renew factory slot"  Request::WriteFactory(FactoryWrite::Renew),                 Manufactured,       &[Factory, Owner],   FillFactory),
    rule!("repeat factory slot" Request::WriteFactory(FactoryWrite::Repeat),                Manufactured,       &[Factory, Owner],   Keep),
    rule!("change factory slot" Request::WriteFactory(FactoryWrite::Replace),               Never,              &[Stranger, Factory, Owner], Keep),
    rule!("begin owner slot"    Request::BeginOwnerWrite,                                   OwnedByItself,      &[Stranger],         KeepToCount),
    rule!("begin owner slot"    Request::BeginOwnerWrite,                                   Claimable,          &[Stranger],         KeepToCount),
    rule!("begin owner slot"    Request::BeginOwnerWrite,                                   ClaimableByVoucher, &[Stranger],         KeepToCount),
    rule!("begin owner slot"    Request::BeginOwnerWrite,                                   Owned,              &[Owner],            Keep),
    rule!("claim"               Request::WriteOwner(OwnerWrite { voucher: None, .. }),      Claimable,          &[Stranger],         FillOwner),
    rule!("claim by voucher"    Request::WriteOwner(OwnerWrite { voucher: Some(Voucher::Factory), .. }), ClaimableByVoucher, &[Stranger], FillOwner),
    rule!("take over"           Request::WriteOwner(OwnerWrite { voucher: Some(Voucher::Owner), .. }), OwnedByItself, &[Stranger], Transfer),
    rule!("write owner slot"    Request::WriteOwner(OwnerWrite { same_anchor: true, .. }),  Owned,              &[Owner],            FillOwner),
    rule!("change owner slot"   Request::WriteOwner(OwnerWrite { same_anchor: false, .. }), OwnedByItself,      &[Owner],            FillOwner),
    rule!("read peers"          Request::ReadPeers,                                         Owned,              &[Owner],            Keep),
    rule!("write peers"         Request::WritePeers,                                        Owned,              &[Owner],            Keep),
    rule!("read value"          Request::ReadValue,                                         Owned,              &[Owner],            Keep),
    rule!("write value"         Request::WriteValue,                                        Owned,              &[Owner],            Keep),
    rule!("use"                 Request::Use(Access::Anyone),                               Whole,              EVERYONE,            Keep),
    rule!("use"                 Request::Use(Access::MyDevices),                            Owned,              &[Peer, Owner],      Keep),
    rule!("use"                 Request::Use(Access::Owner),                                Owned,              &[Owner],            Keep),
    rule!("identify"            Request::Identify,                                          Unowned,            EVERYONE,            Keep),
    rule!("identify"            Request::Identify,                                          Owned,              &[Owner],            Keep),
    rule!("rekey"               Request::Rekey,                                             Owned,              &[Owner],            Rekey),
    rule!("inject a key"        Request::Inject,                                            OwnedUncertified,   &[Owner],            Rekey),
    rule!("reset"               Request::Reset,                                             Owned,              &[Owner],            EmptyOwner),
    rule!("reset by presence"   Request::Reset,                                             ResetByPresence,    &[Stranger],         EmptyOwner),
];

/// The state that follows `request`, or why it is refused: what the last rule about it says, if there are more.
pub fn decide(state: &State, role: Role, request: Request) -> Result<State, Refusal> {
    let mut refusal = Refusal::Forbidden;
    for rule in RULES.iter().filter(|rule| (rule.matches)(request) && rule.who.contains(&role)) {
        match rule.when.check(state).and_then(|()| rule.then.apply(state, request)) {
            Ok(next) => return Ok(next),
            Err(reason) => refusal = reason,
        }
    }
    Err(match (state.condition, role) {
        (Condition::Fault, _) => Refusal::Fault,
        (_, Anyone) => Refusal::Unauthorized,
        _ => refusal,
    })
}

impl State {
    /// Whether the owner slot takes a voucher to be filled.
    fn asks_for_voucher(&self) -> bool {
        match self.claim_policy {
            ClaimPolicy::Voucher | ClaimPolicy::VoucherAndPresence => true,
            ClaimPolicy::Open => self.factory != SlotState::Empty,
            ClaimPolicy::Presence => false,
        }
    }

    /// Somebody is present, or need not be.
    fn meets_presence(&self) -> Result<(), Refusal> {
        let asked = matches!(self.claim_policy, ClaimPolicy::Presence | ClaimPolicy::VoucherAndPresence);
        require(self.present || !asked, Refusal::NeedsPresence)
    }
}

impl When {
    /// Whether the state meets the condition; if not, what is missing.
    fn check(self, state: &State) -> Result<(), Refusal> {
        let (owned, manufactured) = (state.owner != SlotState::Empty, state.factory != SlotState::Empty);
        if self == When::Always {
            return Ok(());
        }
        require(state.condition == Condition::Ok, Refusal::Fault)?;
        match self {
            When::Always | When::Whole => Ok(()),
            When::Unowned => require(!owned, Refusal::WrongState),
            When::Owned => require(owned, Refusal::WrongState),
            When::OwnedUncertified => require(owned && state.factory != SlotState::Certified, Refusal::WrongState),
            When::OwnedByItself => require(owned && !state.injected, Refusal::WrongState),
            When::Claimable => {
                require(!owned, Refusal::WrongState)?;
                require(!state.asks_for_voucher(), Refusal::NeedsVoucher)?;
                state.meets_presence()
            }
            When::ClaimableByVoucher => {
                require(!owned, Refusal::WrongState)?;
                state.meets_presence()?;
                require(manufactured, Refusal::NeedsVoucher)
            }
            When::Blank => {
                require(!manufactured, Refusal::WrittenOnce)?;
                require(!owned, Refusal::WrongState)?;
                state.meets_presence()
            }
            When::OwnedAlone => {
                require(!manufactured, Refusal::WrittenOnce)?;
                require(owned, Refusal::WrongState)
            }
            When::Manufactured => require(manufactured, Refusal::WrongState),
            When::ResetByPresence => {
                require(state.reset_by_presence, Refusal::Forbidden)?;
                require(owned, Refusal::WrongState)?;
                require(state.present, Refusal::NeedsPresence)
            }
            When::Never => Err(Refusal::WrittenOnce),
        }
    }
}

fn require(is_met: bool, otherwise: Refusal) -> Result<(), Refusal> {
    if is_met { Ok(()) } else { Err(otherwise) }
}

impl Effect {
    /// Whoever was present is so no more, once that served for something.
    fn apply(self, state: &State, request: Request) -> Result<State, Refusal> {
        let counted = |n: u32| n.checked_add(1).ok_or(Refusal::Exhausted);
        let mut next = State { present: false, ..*state };
        match self {
            Effect::Keep => return Ok(*state),
            Effect::KeepToCount => return counted(state.claim_counter).map(|_| *state),
            Effect::FillFactory => {
                let is_alone = request == Request::WriteFactory(FactoryWrite::Fill { certified: false });
                next.factory = if is_alone { SlotState::Anchored } else { SlotState::Certified };
            }
            Effect::FillOwner | Effect::Transfer => {
                let Request::WriteOwner(write) = request else { return Err(Refusal::Forbidden) };
                next.owner = if write.certified { SlotState::Certified } else { SlotState::Anchored };
                if state.owner == SlotState::Empty || !write.same_anchor || self == Effect::Transfer {
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
        write!(f, "{:<20} {:<18?} {:<38?} {:?}", self.request, self.when, self.who, self.then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states() -> impl Iterator<Item = State> {
        let bools = [false, true];
        let more =
            bools.into_iter().flat_map(move |present| bools.map(|reset_by_presence| (present, reset_by_presence)));
        let more = more.flat_map(|more| Condition::ALL.iter().map(move |condition| (more, *condition)));
        let policies = more.flat_map(|more| ClaimPolicy::ALL.iter().map(move |policy| (more, *policy)));
        let slots =
            SlotState::ALL.iter().flat_map(|factory| SlotState::ALL.iter().map(move |owner| (*factory, *owner)));
        policies.flat_map(move |(((present, reset_by_presence), condition), claim_policy)| {
            slots.clone().map(move |(factory, owner)| State {
                condition,
                claim_policy,
                factory,
                owner,
                claim_counter: 1,
                generation: 1,
                injected: false,
                present,
                reset_by_presence,
            })
        })
    }

    fn requests() -> Vec<Request> {
        let bools = [false, true];
        let owner = bools.into_iter().flat_map(|certified| bools.map(|same_anchor| (certified, same_anchor)));
        let owner = owner.flat_map(|(certified, same_anchor)| {
            [None, Some(Voucher::Factory), Some(Voucher::Owner)]
                .map(|voucher| Request::WriteOwner(OwnerWrite { certified, same_anchor, voucher }))
        });
        let factory = [
            FactoryWrite::Fill { certified: false },
            FactoryWrite::Fill { certified: true },
            FactoryWrite::Renew,
            FactoryWrite::Repeat,
            FactoryWrite::Replace,
        ];
        let others = [
            Request::Discover,
            Request::ReadInfo,
            Request::Authenticate,
            Request::PresentToken,
            Request::ReadSlotState,
            Request::ReadFactoryContents,
            Request::ReadOwnerContents,
            Request::BeginFactoryWrite,
            Request::BeginOwnerWrite,
            Request::ReadPeers,
            Request::WritePeers,
            Request::ReadValue,
            Request::WriteValue,
            Request::Use(Access::Anyone),
            Request::Use(Access::MyDevices),
            Request::Use(Access::Owner),
            Request::Identify,
            Request::Rekey,
            Request::Inject,
            Request::Reset,
        ];
        owner.chain(factory.map(Request::WriteFactory)).chain(others).collect()
    }

    #[test]
    fn the_order_of_the_rules_does_not_matter() {
        for state in states() {
            for request in requests() {
                for role in EVERYONE {
                    let holds = |rule: &&Rule| {
                        (rule.matches)(request) && rule.who.contains(role) && rule.when.check(&state).is_ok()
                    };
                    let mut effects = RULES.iter().filter(holds).map(|rule| rule.then);
                    let first = effects.next();
                    assert!(effects.all(|effect| Some(effect) == first), "{role:?} {request:?} {state:?}");
                }
            }
        }
    }

    #[test]
    fn every_rule_is_for_something() {
        for rule in RULES {
            assert!(requests().into_iter().any(rule.matches), "{rule}");
            assert_eq!(states().any(|state| rule.when.check(&state).is_ok()), rule.when != When::Never, "{rule}");
            assert!(!rule.who.is_empty(), "{rule}");
        }
    }
}
