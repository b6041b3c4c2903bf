use cbor_schemas::{IssuerId, KeyOrigin, Kind, ProofLevel, Sign1, VoucherClaims};

use super::*;
use crate::registry::testing::{NOON, id, info, key};
use crate::registry::{Certificate, CountsBy, Cti, Key, Policy, Provenance};

/// What a plan depends on.
struct Case {
    info: DeviceInfo<'static>,
    known: Option<Device>,
    terms: Terms<'static>,
    vouchers: Vec<VoucherClaims>,
    view: SlotView<'static>,
}

/// What a case has that others do not.
type Edit = fn(&mut Case);

fn anchor() -> CoseKey {
    CoseKey { kid: [1; 8], x: [2; 32], y: [4; 32] }
}

impl Case {
    /// A blank device that nobody knows, to be ours.
    fn new(edits: &[Edit]) -> Self {
        let view = SlotView { state: SlotState::Certified, anchor: Some(anchor()), certificate: Some(b"certificate") };
        let info = info(&id("device"), Some(&key()));
        let mut case = Case { info, known: None, terms: Terms::OWNER, vouchers: Vec::new(), view };
        edits.iter().for_each(|edit| edit(&mut case));
        case
    }

    /// The registry knows the device, by this key.
    fn knows(&mut self, x: [u8; 32], status: KeyStatus, counts_by: CountsBy) -> &mut Key {
        let key = Key {
            x,
            thumbprint: String::new(),
            status,
            counts_by,
            mine: false,
            provenance: Provenance::Proved,
            proof: ProofLevel::Proved,
            generation: 1,
            first_seen: NOON,
            last_seen: NOON,
            revoked: None,
            escrowed: false,
            certificates: Vec::new(),
        };
        let known = Device {
            id: self.info.device,
            nickname: None,
            profile: Profile::Full,
            first_seen: NOON,
            last_seen: NOON,
            list_version: None,
            policy: Policy::Keep,
            keys: Vec::new(),
        };
        let keys = &mut self.known.insert(known).keys;
        keys.push(key);
        keys.last_mut().unwrap()
    }

    /// The registry knows the device, by the key that it has; and of one certificate.
    fn knows_of(&mut self, status: KeyStatus, slot: Slot, certificate: CertificateStatus) {
        let x = self.info.credential.unwrap().x;
        self.knows(x, status, CountsBy::Nothing).certificates.push(Certificate {
            cti: Cti([7; 8]),
            slot,
            status: certificate,
            issued_at: NOON,
            key_origin: KeyOrigin::Generated,
            proof: ProofLevel::Proved,
            object: None,
            receipt: None,
            transcript: None,
        });
    }

    fn plan(&self) -> String {
        let vouchers: Vec<_> = self.vouchers.iter().map(voucher).collect();
        let (terms, seen) = (Terms { vouchers: &vouchers, ..self.terms }, Account::of(&self.info).unwrap());
        plan(&seen, self.known.as_ref(), &terms, &anchor(), NOON).map_or_else(|error| said(&error), |plan| steps(&plan))
    }

    fn after_reading(&self, slot: Slot) -> String {
        let seen = Account::of(&self.info).unwrap();
        step(&after_reading(slot, &self.view, &seen, self.known.as_ref(), &anchor()))
    }

    /// What a voucher says that lets us in.
    fn claims(&self) -> VoucherClaims {
        let (issuer, subject, key) = (IssuerId([3; 8]), self.info.device, anchor());
        VoucherClaims { issuer, subject, expires_at: Some(NOON), issued_at: NOON, key, claim_counter: 0 }
    }
}

/// Nobody here asks who signed it.
fn voucher(claims: &VoucherClaims) -> Voucher {
    let (mut payload, mut object) = ([0; VoucherClaims::MAX_LEN], [0; VoucherClaims::MAX_SIGNED_LEN]);
    let len = claims.encode(&mut payload).unwrap();
    let signed = Sign1 { kind: Kind::Voucher, payload: &payload[..len], signature: [0; 64] };
    let len = signed.encode(&mut object).unwrap();
    Voucher::decode(&object[..len]).unwrap()
}

/// The name of an error.
fn said(error: &Error) -> String {
    let said = match error {
        Error::Voucher(unfit) => format!("{unfit:?}"),
        error => format!("{error:?}"),
    };
    said.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned()
}

fn steps(plan: &Plan<'_>) -> String {
    let observe = if plan.observes { ", observe" } else { "" };
    format!("{:?}{observe}, {}", plan.visitor, step(&plan.then))
}

fn step(then: &Then<'_>) -> String {
    match then {
        Then::Refuse(error) => said(error),
        Then::Install(slot) => format!("install {slot}"),
        Then::InstallBy(_) => "install owner by voucher".to_owned(),
        Then::InstallByOwn => "install owner by our own voucher".to_owned(),
        Then::Read(slot) => format!("read {slot}"),
        Then::Keep(slot, _) => format!("keep {slot}"),
        Then::Visit(plan) => steps(plan),
    }
}

const AT_THE_CABLE: Edit = |case| {
    case.info.profile = Profile::Minimal;
    (case.terms.place, case.terms.programming_cable) = (Place::Trusted, true);
};
const AS_FACTORY: Edit = |case| case.terms.slot = Slot::Factory;
const NO_OWNER_SLOT: Edit = |case| case.info.limits.list_keys = 0;
const OWNED: Edit = |case| case.info.owner = SlotState::Certified;
const MANUFACTURED: Edit = |case| case.info.factory = SlotState::Anchored;
const VOUCHER: Edit = |case| case.vouchers.push(case.claims());
const USED_VOUCHER: Edit = |case| case.vouchers.push(VoucherClaims { claim_counter: 1, ..case.claims() });
const OURS: Edit = |case| case.knows_of(KeyStatus::Pending, Slot::Owner, CertificateStatus::Issued);
const EXPIRED_VOUCHER: Edit = |case| case.vouchers.push(VoucherClaims { expires_at: Some(NOON - 1), ..case.claims() });
const ANOTHER_OWNERS_VOUCHER: Edit =
    |case| case.vouchers.push(VoucherClaims { key: CoseKey { x: [8; 32], ..anchor() }, ..case.claims() });
const ANOTHER_DEVICES_VOUCHER: Edit =
    |case| case.vouchers.push(VoucherClaims { subject: id("other"), ..case.claims() });
const SETTLED: Edit = |case| {
    case.knows(case.info.credential.unwrap().x, KeyStatus::Active, CountsBy::Report);
};
const SEEN: Edit = |case| {
    case.knows(case.info.credential.unwrap().x, KeyStatus::Pending, CountsBy::Nothing);
};
const KNOWN_BY_ANOTHER_KEY: Edit = |case| {
    case.knows([9; 32], KeyStatus::Active, CountsBy::Certificate);
};
const MADE_HERE: Edit = |case| case.knows_of(KeyStatus::Pending, Slot::Factory, CertificateStatus::Installed);
const MADE_HERE_AND_REVOKED: Edit =
    |case| case.knows_of(KeyStatus::Revoked, Slot::Factory, CertificateStatus::Installed);

#[rustfmt::skip]
const PLANS: &[(&[Edit], &str)] = &[
    // What is refused without a visit.
    (&[|case| case.info.condition = Condition::Fault, AT_THE_CABLE, OWNED],     "Fault"),
    (&[|case| case.info.condition = Condition::Fault, NO_OWNER_SLOT, VOUCHER],  "Fault"),
    (&[NO_OWNER_SLOT, VOUCHER],                                                 "NoOwnerSlot"),
    (&[AT_THE_CABLE, NO_OWNER_SLOT, VOUCHER],                                   "NoOwnerSlot"),
    // The minimal profile.
    (&[AT_THE_CABLE, |case| case.terms.place = Place::Elsewhere],               "Unproven"),
    (&[AT_THE_CABLE, |case| case.terms.programming_cable = false],              "Unproven"),
    (&[AT_THE_CABLE],                                                           "Programmer, observe, install factory"),
    (&[AT_THE_CABLE, NO_OWNER_SLOT],                                            "Programmer, observe, install factory"),
    (&[AT_THE_CABLE, MANUFACTURED],                                             "Programmer, observe, read factory"),
    // As its maker.
    (&[AS_FACTORY],                                                             "Stranger, observe, install factory"),
    (&[NO_OWNER_SLOT],                                                          "Stranger, observe, install factory"),
    (&[AS_FACTORY, MANUFACTURED],                                               "Stranger, observe, read factory"),
    (&[AS_FACTORY, MANUFACTURED, OWNED, OURS],                                  "Stranger, observe, read factory"),
    (&[AS_FACTORY, OWNED],                                                      "Owned"),
    (&[AS_FACTORY, OWNED, SEEN],                                                "Stranger, observe, Owned"),
    (&[AS_FACTORY, OWNED, KNOWN_BY_ANOTHER_KEY],                                "Stranger, observe, Owned"),
    (&[AS_FACTORY, OWNED, OURS],                                                "Station, observe, install factory"),
    // As its owner, with a voucher.
    (&[VOUCHER],                                                                "Stranger, observe, install owner by voucher"),
    (&[VOUCHER, OWNED, OURS],                                                   "Stranger, observe, install owner by voucher"),
    (&[USED_VOUCHER, OWNED, OURS],                                              "Station, observe, read owner"),
    (&[USED_VOUCHER, OWNED, SEEN],                                              "Used"),
    (&[USED_VOUCHER, OURS],                                                     "Used"),
    (&[USED_VOUCHER, VOUCHER],                                                  "Used"),
    (&[EXPIRED_VOUCHER, OWNED, OURS],                                           "Expired"),
    (&[ANOTHER_OWNERS_VOUCHER, OWNED, OURS],                                    "OtherOwner"),
    (&[ANOTHER_DEVICES_VOUCHER, OWNED, OURS],                                   "OtherDevice"),
    (&[ANOTHER_DEVICES_VOUCHER, VOUCHER],                                       "Stranger, observe, install owner by voucher"),
    // As its owner, without.
    (&[OWNED, OURS],                                                            "Station, observe, read owner"),
    (&[OWNED, SETTLED],                                                         "Station, observe, read owner"),
    (&[OWNED],                                                                  "Stranger, Owned"),
    (&[OWNED, SEEN],                                                            "Stranger, observe, Station, read owner"),
    (&[OWNED, KNOWN_BY_ANOTHER_KEY],                                            "Stranger, observe, Station, read owner"),
    (&[],                                                                       "Stranger, observe, install owner"),
    (&[OURS],                                                                   "Stranger, observe, install owner"),
    (&[|case| case.info.claim_policy = ClaimPolicy::Presence, MANUFACTURED],    "Stranger, observe, install owner"),
    (&[MANUFACTURED],                                                           "Stranger, observe, NeedsVoucher"),
    (&[MANUFACTURED, OURS],                                                     "Stranger, observe, NeedsVoucher"),
    (&[|case| case.info.claim_policy = ClaimPolicy::Voucher, MADE_HERE],        "Stranger, observe, NeedsVoucher"),
    (&[|case| case.info.claim_policy = ClaimPolicy::VoucherAndPresence],        "Stranger, observe, NeedsVoucher"),
    (&[MANUFACTURED, MADE_HERE_AND_REVOKED],                                    "Stranger, observe, NeedsVoucher"),
    (&[MANUFACTURED, MADE_HERE],                                                "Stranger, observe, install owner by our own voucher"),
];

#[test]
fn each_way_to_commission_a_device() {
    for (row, (edits, expected)) in PLANS.iter().enumerate() {
        assert_eq!(Case::new(edits).plan(), *expected, "row {row}");
    }
}

const NO_CERTIFICATE: Edit = |case| case.view.certificate = None;
const NO_ANCHOR: Edit = |case| case.view.anchor = None;
const OTHER_ANCHOR: Edit = |case| case.view.anchor = Some(CoseKey { y: [5; 32], ..anchor() });

#[rustfmt::skip]
const READINGS: &[(Slot, &[Edit], &str)] = &[
    (Slot::Owner,   &[NO_ANCHOR],                               "Owned"),
    (Slot::Owner,   &[OTHER_ANCHOR],                            "Owned"),
    (Slot::Owner,   &[OTHER_ANCHOR, NO_CERTIFICATE],            "Owned"),
    (Slot::Owner,   &[],                                        "keep owner"),
    (Slot::Owner,   &[NO_CERTIFICATE],                          "install owner"),
    (Slot::Factory, &[NO_ANCHOR, MADE_HERE],                    "OtherFactory"),
    (Slot::Factory, &[OTHER_ANCHOR, MADE_HERE],                 "OtherFactory"),
    (Slot::Factory, &[],                                        "NotMadeHere"),
    (Slot::Factory, &[NO_CERTIFICATE, SEEN],                    "NotMadeHere"),
    (Slot::Factory, &[KNOWN_BY_ANOTHER_KEY],                    "NotMadeHere"),
    (Slot::Factory, &[MADE_HERE],                               "keep factory"),
    (Slot::Factory, &[SETTLED],                                 "keep factory"),
    (Slot::Factory, &[NO_CERTIFICATE, MADE_HERE],               "Station, install factory"),
    (Slot::Factory, &[AT_THE_CABLE],                            "keep factory"),
    (Slot::Factory, &[AT_THE_CABLE, OTHER_ANCHOR],              "OtherFactory"),
    (Slot::Factory, &[AT_THE_CABLE, NO_CERTIFICATE, MADE_HERE], "OtherFactory"),
];

#[test]
fn what_follows_from_what_a_slot_holds() {
    for (row, (slot, edits, expected)) in READINGS.iter().enumerate() {
        assert_eq!(Case::new(edits).after_reading(*slot), *expected, "row {row}");
    }
}
