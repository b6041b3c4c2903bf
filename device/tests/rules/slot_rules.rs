//! Who may write the two slots: every state of both, every claim policy, with somebody at the device and without, by every
//! role. What is expected is stated here once more, in the words of the protocol, and asked of a device over the wire.

use cbor_schemas::{ClaimPolicy, DeviceCertificateClaims, ListMode, SlotContents, SlotState};

use crate::common::{NOW, Owner, Request, Response, TestDevice, Visitor, encoded, opened, post, put, slot_request};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Anyone,
    Stranger,
    Peer,
    Factory,
    Owner,
}

const EVERYBODY: [Who; 5] = [Who::Anyone, Who::Stranger, Who::Peer, Who::Factory, Who::Owner];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    /// The owner slot, for a new anchor.
    Claim,
    /// The owner slot, for a new anchor with a voucher of the factory.
    ClaimByVoucher,
    /// The owner slot, for a new anchor with a voucher of the present owner.
    TakeOver,
    /// The factory slot, for a new anchor.
    FillFactory,
    /// The factory slot, for the factory that may be there, with a newer certificate.
    RenewFactory,
    /// The factory slot, with what may be there already.
    RepeatFactory,
    /// The owner slot is to be empty.
    Reset,
}

const ASKED: [Ask; 7] = [
    Ask::Claim,
    Ask::ClaimByVoucher,
    Ask::TakeOver,
    Ask::FillFactory,
    Ask::RenewFactory,
    Ask::RepeatFactory,
    Ask::Reset,
];

#[derive(Clone, Copy, Debug)]
struct Cell {
    policy: ClaimPolicy,
    factory: SlotState,
    owner: SlotState,
    present: bool,
    who: Who,
    ask: Ask,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// One of these codes, and nothing changed.
    Refused(&'static [&'static str]),
    /// 2.04, and nothing changed.
    Repeated,
    /// 2.04, and the slots are so; the owner slot was filled or emptied as often.
    Done { factory: SlotState, owner: SlotState, counted: u32 },
}

impl Cell {
    /// What has to come of it.
    fn expected(self) -> Outcome {
        use Outcome::{Refused, Repeated};
        let Cell { policy, factory, owner, present, who, ask } = self;
        let (owned, made) = (owner != SlotState::Empty, factory != SlotState::Empty);
        // "The same answer to everyone not authenticated."
        if who == Who::Anyone {
            return Refused(&["4.01"]);
        }
        let owned_by = |counted| Outcome::Done { factory, owner: SlotState::Certified, counted };
        let made_by = Outcome::Done { factory: SlotState::Certified, owner, counted: 0 };
        // "presence": somebody has to be there, whatever else is asked for.
        let presence = match policy {
            ClaimPolicy::Open | ClaimPolicy::Voucher => true,
            ClaimPolicy::Presence | ClaimPolicy::VoucherAndPresence => present,
        };
        // "Filled only while both slots are empty and the claim policy allows it."
        let by_a_stranger = if !made && !owned && presence { made_by } else { Refused(&["4.09"]) };
        match (ask, who) {
            // "Replaced by the present owner."
            (Ask::Claim | Ask::TakeOver, Who::Owner) => owned_by(1),
            // A voucher that nobody here signed is not ignored, even where none is needed.
            (Ask::ClaimByVoucher, Who::Owner) => {
                if made {
                    owned_by(1)
                } else {
                    Refused(&["4.00"])
                }
            }
            // "Only empty can be claimed."
            (Ask::Claim, Who::Stranger) if owned => Refused(&["4.09"]),
            (Ask::Claim, Who::Stranger) => match policy {
                // "With a factory anchor installed, open acts as voucher."
                ClaimPolicy::Open if !made => owned_by(1),
                ClaimPolicy::Presence if present => owned_by(1),
                _ => Refused(&["4.09"]),
            },
            (Ask::ClaimByVoucher, Who::Stranger) if !made => Refused(&["4.00", "4.09"]),
            (Ask::ClaimByVoucher, Who::Stranger) if owned || !presence => Refused(&["4.09"]),
            (Ask::ClaimByVoucher, Who::Stranger) => owned_by(1),
            // "Or by a transfer voucher", whatever the policy is for empty slots.
            (Ask::TakeOver, Who::Stranger) if owned => owned_by(1),
            (Ask::TakeOver, Who::Stranger) => Refused(&["4.00", "4.09"]),
            // "A station token of the factory may do that and nothing else."
            (Ask::Claim | Ask::ClaimByVoucher | Ask::TakeOver, Who::Factory) => Refused(&["4.03"]),

            (Ask::FillFactory | Ask::RenewFactory | Ask::RepeatFactory, Who::Stranger) => by_a_stranger,
            // "The anchor is write-once."
            (Ask::FillFactory, Who::Factory | Who::Owner) if made => Refused(&["4.09"]),
            // "Or by the present owner."
            (_, Who::Owner) if !made && ask != Ask::Reset => made_by,
            // "Its certificate may be replaced by a newer one of the same anchor."
            (Ask::RenewFactory, Who::Factory | Who::Owner) => made_by,
            // "A repeated PUT with identical bytes by somebody entitled is 2.04, on write-once things too."
            (Ask::RepeatFactory, Who::Factory | Who::Owner) => Repeated,

            (Ask::Reset, Who::Owner) => Outcome::Done { factory, owner: SlotState::Empty, counted: 1 },
            // This product does not allow it by presence.
            (Ask::Reset, _) | (_, _) => Refused(&["4.03"]),
        }
    }

    /// Nobody has a role by an anchor that is not there.
    fn is_possible(self) -> bool {
        match self.who {
            Who::Anyone | Who::Stranger => true,
            Who::Factory => self.factory != SlotState::Empty,
            Who::Peer | Who::Owner => self.owner != SlotState::Empty,
        }
    }
}

/// Everybody who is, was or would like to be something to the device.
struct People {
    owner: Owner,
    factory: Owner,
    peer: Visitor,
    /// The next owner, or another factory.
    next: Owner,
}

impl People {
    fn new() -> Self {
        let peer = Visitor { transfer: protocol::edhoc::Transfer::ByValue, ..Owner::new(5).station };
        People { owner: Owner::new(1), factory: Owner::new(9), peer, next: Owner::new(2) }
    }

    /// Flash with its slots in these states.
    fn image(&self, factory: SlotState, owner: SlotState) -> Vec<u8> {
        let mut device = TestDevice::new();
        if owner != SlotState::Empty {
            let certificate = (owner == SlotState::Certified).then(|| self.owner.issuer.certify(&mut device));
            let body = slot_request(self.owner.issuer.public(), certificate.as_deref());
            let mut session = Visitor::stranger(&mut device).connect(&mut device);
            session.ask(&mut device, &put("/comm/owner", &body)).expect("2.04");
            let keys = [*self.peer.key.public().x()];
            let list = self.owner.issuer.sign_list(&self.owner.issuer.list_claims(ListMode::Members, 1, &keys));
            self.owner.visit(&mut device).ask(&mut device, &put("/comm/peers", &list)).expect("2.04");
        }
        if factory != SlotState::Empty {
            let certificate = (factory == SlotState::Certified).then(|| self.factory.issuer.certify(&mut device));
            let anchor = self.factory.issuer.public().cose_key();
            let contents = SlotContents { anchor, certificate: certificate.as_deref() };
            let (mut store, _) = opened(&device.flash);
            store.set_factory(&encoded(|out| contents.encode(out)), Some(NOW)).unwrap();
        }
        device.flash.bytes()
    }

    fn request(&self, ask: Ask, device: &mut TestDevice) -> Request {
        let issuer = &self.factory.issuer;
        match ask {
            Ask::Claim => put("/comm/owner", &self.next.slot_request(device)),
            Ask::ClaimByVoucher => put("/comm/owner", &self.next.vouched_request(issuer, device)),
            Ask::TakeOver => put("/comm/owner", &self.next.vouched_request(&self.owner.issuer, device)),
            Ask::FillFactory => put("/comm/factory", &self.next.slot_request(device)),
            Ask::RenewFactory => {
                let claims = issuer.certificate_claims(device.info().credential.unwrap());
                let newer = issuer.certificate(&DeviceCertificateClaims { issued_at: NOW + 1, ..claims });
                put("/comm/factory", &slot_request(issuer.public(), Some(&newer)))
            }
            Ask::RepeatFactory => {
                let certificate = (device.info().factory != SlotState::Anchored).then(|| issuer.certify(device));
                put("/comm/factory", &slot_request(issuer.public(), certificate.as_deref()))
            }
            Ask::Reset => post("/comm/reset", &[]),
        }
    }

    /// Sends it, in the end. `before` is called when the device is as it was, but for the watermarks that a token moves.
    fn send(
        &self,
        who: Who,
        request: &Request,
        device: &mut TestDevice,
        before: &mut dyn FnMut(&mut TestDevice),
    ) -> Response {
        let mut session = match who {
            Who::Anyone => {
                before(device);
                return device.ask(request);
            }
            Who::Stranger => Visitor::stranger(device).connect(device),
            Who::Peer => self.peer.connect(device),
            Who::Factory => self.factory.visit(device),
            Who::Owner => self.owner.visit(device),
        };
        before(device);
        session.ask(device, request)
    }
}

/// Asks a device for all of it. Returns how many were refused, repeated and done.
fn every_cell(policy: ClaimPolicy) -> [u32; 3] {
    let (people, mut counts) = (People::new(), [0; 3]);
    let mut device = TestDevice::with_policy(policy);
    for (factory, owner) in
        SlotState::ALL.iter().flat_map(|factory| SlotState::ALL.iter().map(|owner| (*factory, *owner)))
    {
        let image = people.image(factory, owner);
        let whos = EVERYBODY.into_iter().flat_map(|who| ASKED.map(|ask| (who, ask)));
        for (who, ask, present) in whos.flat_map(|(who, ask)| [false, true].map(|present| (who, ask, present))) {
            let cell = Cell { policy, factory, owner, present, who, ask };
            if !cell.is_possible() {
                continue;
            }
            device.flash.overwrite(|bytes| bytes.copy_from_slice(&image));
            device.restart();
            let request = people.request(ask, &mut device);
            let mut seen = None;
            let answer = people.send(who, &request, &mut device, &mut |device| {
                if present {
                    device.press();
                }
                seen = Some((device.flash.bytes(), device.info()));
            });
            let (bytes, before) = seen.unwrap();
            let info = device.info();
            match cell.expected() {
                Outcome::Refused(codes) => {
                    assert!(codes.contains(&&*answer.code()), "{cell:?}: {}", answer.code());
                    assert_eq!((device.flash.bytes(), info), (bytes, before), "{cell:?}");
                    counts[0] += 1;
                }
                Outcome::Repeated => {
                    assert_eq!(answer.code(), "2.04", "{cell:?}");
                    assert_eq!((device.flash.bytes(), info), (bytes, before), "{cell:?}");
                    counts[1] += 1;
                }
                Outcome::Done { factory, owner, counted } => {
                    assert_eq!(answer.code(), "2.04", "{cell:?}");
                    assert_eq!((info.factory, info.owner), (factory, owner), "{cell:?}");
                    assert_eq!(info.claim_counter, before.claim_counter + counted, "{cell:?}");
                    assert_eq!(info.generation, before.generation, "{cell:?}");
                    counts[2] += 1;
                }
            }
        }
    }
    counts
}

#[test]
fn open() {
    assert_eq!(every_cell(ClaimPolicy::Open), [384, 20, 100]);
}

#[test]
fn voucher() {
    assert_eq!(every_cell(ClaimPolicy::Voucher), [386, 20, 98]);
}

#[test]
fn presence() {
    assert_eq!(every_cell(ClaimPolicy::Presence), [388, 20, 96]);
}

#[test]
fn voucher_and_presence() {
    assert_eq!(every_cell(ClaimPolicy::VoucherAndPresence), [391, 20, 93]);
}
