//! The decision table, whole: every request, in every state, by every role. And what holds in all of it.

use std::{env, fmt::Write, fs, path::Path};

use cbor_schemas::{ClaimPolicy, Condition, SlotState};
use device::{
    Access, Problem,
    insides::{FactoryWrite, OwnerWrite, Refusal, Request, Role, State, Voucher, decide},
};

const ROLES: [Role; 5] = [Role::Anyone, Role::Stranger, Role::Peer, Role::Factory, Role::Owner];

const REQUESTS: [(&str, Request); 33] = [
    ("discover", Request::Discover),
    ("read info", Request::ReadInfo),
    ("authenticate", Request::Authenticate),
    ("present token", Request::PresentToken),
    ("read slot state", Request::ReadSlotState),
    ("read factory slot", Request::ReadFactoryContents),
    ("read owner slot", Request::ReadOwnerContents),
    ("begin to write factory slot", Request::BeginFactoryWrite),
    ("fill factory slot: certificate", Request::WriteFactory(FactoryWrite::Fill { certified: true })),
    ("fill factory slot: anchor alone", Request::WriteFactory(FactoryWrite::Fill { certified: false })),
    ("renew factory certificate", Request::WriteFactory(FactoryWrite::Renew)),
    ("repeat factory slot", Request::WriteFactory(FactoryWrite::Repeat)),
    ("replace factory slot", Request::WriteFactory(FactoryWrite::Replace)),
    ("begin to write owner slot", Request::BeginOwnerWrite),
    ("write owner slot: certificate, other anchor", write_owner(true, false, None)),
    ("write owner slot: certificate, same anchor", write_owner(true, true, None)),
    ("write owner slot: other anchor alone", write_owner(false, false, None)),
    ("write owner slot: same anchor alone", write_owner(false, true, None)),
    ("write owner slot: other anchor, voucher of the factory", write_owner(true, false, Some(Voucher::Factory))),
    ("write owner slot: same anchor, voucher of the factory", write_owner(true, true, Some(Voucher::Factory))),
    ("write owner slot: other anchor, voucher of the owner", write_owner(true, false, Some(Voucher::Owner))),
    ("write owner slot: same anchor, voucher of the owner", write_owner(true, true, Some(Voucher::Owner))),
    ("read peers", Request::ReadPeers),
    ("write peers", Request::WritePeers),
    ("read value", Request::ReadValue),
    ("write value", Request::WriteValue),
    ("use what is for anyone", Request::Use(Access::Anyone)),
    ("use what is for my devices", Request::Use(Access::MyDevices)),
    ("use what is for the owner", Request::Use(Access::Owner)),
    ("identify", Request::Identify),
    ("rekey", Request::Rekey),
    ("inject a key, where the firmware allows that", Request::Inject),
    ("reset", Request::Reset),
];

const fn write_owner(certified: bool, same_anchor: bool, voucher: Option<Voucher>) -> Request {
    Request::WriteOwner(OwnerWrite { certified, same_anchor, voucher })
}

/// Compares with `lifecycle.table`, which is the specification for people. `UPDATE_TABLE=1` writes it anew.
#[test]
fn the_decision_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules/lifecycle.table");
    let mut table = String::from(
        "What a device does: nothing but answer (yes), what it changes, or the code of the refusal.\n\
         A line holds for all states with the conditions at its left.\n",
    );
    for (name, request) in REQUESTS {
        writeln!(table, "\n{name}").unwrap();
        let mut lines =
            vec![[String::new(), "anyone".into(), "stranger".into(), "peer".into(), "factory".into(), "owner".into()]];
        branch(&[], request, &mut lines);
        let widths: [usize; 6] =
            std::array::from_fn(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0));
        for line in &lines {
            let cells = line.iter().zip(widths).map(|(cell, width)| format!("  {cell:<width$}"));
            writeln!(table, "{}", cells.collect::<String>().trim_end()).unwrap();
        }
    }
    if env::var_os("UPDATE_TABLE").is_some() {
        fs::write(&file, &table).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap();
    assert!(table == expected, "{} differs; UPDATE_TABLE=1 writes it anew:\n{table}", file.display());
}

/// What makes up a state, in the order in which the table asks for it: its name, and names of its values.
const QUESTIONS: [(&str, &[&str]); 7] = [
    ("", &["ok", "fault"]),
    ("owner ", &["empty", "anchored", "certified"]),
    ("factory ", &["empty", "anchored", "certified"]),
    ("policy ", &["open", "voucher", "presence", "both"]),
    ("key ", &["its own", "injected"]),
    ("", &["nobody present", "somebody present"]),
    ("", &["not reset by presence", "reset by presence"]),
];

/// Adds the lines for all states that begin with `known` answers. Answers that make no difference share lines.
fn branch(known: &[usize], request: Request, lines: &mut Vec<[String; 6]>) {
    let Some((question, values)) = QUESTIONS.get(known.len()) else {
        let state = state(known);
        let [anyone, stranger, peer, factory, owner] = ROLES.map(|role| cell(&state, decide(&state, role, request)));
        lines.push([String::new(), anyone, stranger, peer, factory, owner]);
        return;
    };
    let mut branches: Vec<(Vec<&str>, Vec<[String; 6]>)> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let mut below = Vec::new();
        branch(&[known, &[index]].concat(), request, &mut below);
        match branches.iter_mut().find(|(_, lines)| *lines == below) {
            Some((shared, _)) => shared.push(value),
            None => branches.push((vec![value], below)),
        }
    }
    for (shared, below) in branches {
        for [when, anyone, stranger, peer, factory, owner] in below {
            let answer =
                if shared.len() == values.len() { String::new() } else { question.to_string() + &shared.join("|") };
            let when = [answer, when].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
            lines.push([when, anyone, stranger, peer, factory, owner]);
        }
    }
}

fn state(answers: &[usize]) -> State {
    let slot = |index: usize| SlotState::ALL[index];
    State {
        condition: [Condition::Ok, Condition::Fault][answers[0]],
        owner: slot(answers[1]),
        factory: slot(answers[2]),
        claim_policy: ClaimPolicy::ALL[answers[3]],
        claim_counter: 7,
        generation: 3,
        injected: answers[4] == 1,
        present: answers[5] == 1,
        reset_by_presence: answers[6] == 1,
    }
}

fn states() -> impl Iterator<Item = State> {
    let counts = QUESTIONS.map(|(_, values)| values.len());
    (0..counts.iter().product()).map(move |number: usize| {
        let mut rest = number;
        state(&counts.map(|count| {
            let answer = rest % count;
            rest /= count;
            answer
        }))
    })
}

fn cell(state: &State, decision: Result<State, Refusal>) -> String {
    let next = match decision {
        Ok(next) => next,
        Err(refusal) => {
            let code = Problem::from(refusal).code();
            return format!("{}.{:02}", code >> 5, code & 31);
        }
    };
    let mut changes = Vec::new();
    for (name, before, after) in [("owner", state.owner, next.owner), ("factory", state.factory, next.factory)] {
        if before != after {
            changes.push(format!("{name}={}", after.as_str()));
        }
    }
    for (name, before, after) in
        [("counter", state.claim_counter, next.claim_counter), ("generation", state.generation, next.generation)]
    {
        if before != after {
            changes.push(format!("{name}+{}", after - before));
        }
    }
    match (state.injected, next.injected) {
        (false, true) => changes.push("key=injected".to_owned()),
        (true, false) => changes.push("key=its own".to_owned()),
        _ => {}
    }
    if changes.is_empty() { "yes".into() } else { changes.join(" ") }
}

/// Every question that can be asked of the table, with its answer.
fn decisions() -> impl Iterator<Item = (State, Role, Request, Result<State, Refusal>)> {
    let questions = states().flat_map(|state| ROLES.map(|role| (state, role)));
    questions
        .flat_map(|(state, role)| REQUESTS.map(|(_, request)| (state, role, request, decide(&state, role, request))))
}

#[test]
fn in_a_fault_only_discovery_and_comm_are_served() {
    for (state, role, request, decision) in decisions().filter(|(state, ..)| state.condition == Condition::Fault) {
        match request {
            Request::Discover | Request::ReadInfo => assert_eq!(decision, Ok(state)),
            _ => assert_eq!(decision, Err(Refusal::Fault), "{role:?} {request:?}"),
        }
    }
}

#[test]
fn nobody_without_a_role_changes_anything_but_by_what_the_state_offers() {
    for (state, role, request, decision) in decisions().filter(|(_, role, ..)| *role != Role::Owner) {
        let Ok(next) = decision else { continue };
        let is_empty = state.owner == SlotState::Empty;
        let offered = match (role, request) {
            (Role::Stranger, Request::WriteOwner(write)) => is_empty || write.voucher == Some(Voucher::Owner),
            (Role::Stranger, Request::WriteFactory(_)) => is_empty && state.factory == SlotState::Empty,
            (Role::Stranger, Request::Reset) => state.present && state.reset_by_presence,
            (Role::Factory, Request::WriteFactory(write)) => write == FactoryWrite::Renew,
            _ => false,
        };
        assert!(next == state || offered, "{role:?} {request:?} {state:?}");
    }
}

/// Before the body of a PUT is known, exactly those are refused who could write nothing, whatever the body was.
#[test]
fn a_write_is_refused_before_its_body_where_every_write_would_be() {
    let writes = |is_write: fn(&Request) -> bool| REQUESTS.map(|(_, request)| request).into_iter().filter(is_write);
    let factory = writes(|request| matches!(request, Request::WriteFactory(_)));
    let owner = writes(|request| matches!(request, Request::WriteOwner(_)));
    // Each with the write whose refusal they are told.
    let slots = [
        (Request::BeginFactoryWrite, factory, Request::WriteFactory(FactoryWrite::Fill { certified: true })),
        (Request::BeginOwnerWrite, owner, write_owner(true, true, Some(Voucher::Factory))),
    ];
    let (mut begun, mut refused) = (0, 0);
    for state in states().flat_map(|state| [7, u32::MAX].map(|claim_counter| State { claim_counter, ..state })) {
        // Nobody has a role by an anchor that is not there.
        for role in ROLES.into_iter().filter(|role| match role {
            Role::Anyone | Role::Stranger => true,
            Role::Factory => state.factory != SlotState::Empty,
            Role::Peer | Role::Owner => state.owner != SlotState::Empty,
        }) {
            for (begin, writes, told) in slots.clone() {
                let is_lawful = |write| decide(&state, role, write).is_ok();
                let expected = if { writes }.any(is_lawful) { Ok(state) } else { decide(&state, role, told) };
                assert_eq!(decide(&state, role, begin), expected, "{begin:?} {role:?} {state:?}");
                if expected.is_ok() { begun += 1 } else { refused += 1 }
            }
        }
    }
    assert!(begun > 1000 && refused > 1000, "{begun} begun, {refused} refused");
}

#[test]
fn nothing_changes_the_condition_the_policy_or_empties_the_factory_slot() {
    for (state, role, request, decision) in decisions() {
        let Ok(next) = decision else { continue };
        let fixed = |state: &State| (state.condition, state.claim_policy, state.reset_by_presence);
        assert_eq!(fixed(&next), fixed(&state), "{role:?} {request:?}");
        assert!(state.factory == SlotState::Empty || next.factory != SlotState::Empty, "{role:?} {request:?}");
    }
}

#[test]
fn presence_serves_once() {
    for (state, role, request, decision) in decisions() {
        let Ok(next) = decision else { continue };
        let unchanged = State { present: state.present, ..next } == state;
        assert!(!next.present || unchanged, "{role:?} {request:?} {state:?}");
        assert!(state.present || !next.present);
    }
}

#[test]
fn the_claim_counter_counts_fillings_and_emptyings_and_the_generation_keys() {
    for (state, role, request, decision) in decisions() {
        let Ok(next) = decision else { continue };
        let is_take_over = role == Role::Stranger && state.owner != SlotState::Empty;
        let is_new_owner = matches!(request, Request::WriteOwner(write) if !write.same_anchor || is_take_over);
        let counts = (state.owner == SlotState::Empty) != (next.owner == SlotState::Empty) || is_new_owner;
        assert_eq!(next.claim_counter, state.claim_counter + u32::from(counts), "{state:?} {request:?}");
        let is_new_key =
            matches!(request, Request::Rekey | Request::Inject) || request == Request::Reset && state.injected;
        assert_eq!(next.generation, state.generation + u32::from(is_new_key));
    }
}

#[test]
fn a_counter_at_its_end_refuses_rather_than_wraps() {
    let all = |counter, generation| states().map(move |state| State { claim_counter: counter, generation, ..state });
    for state in all(u32::MAX, 1) {
        for (_, request) in REQUESTS {
            for next in ROLES.iter().filter_map(|role| decide(&state, *role, request).ok()) {
                assert_eq!(next.claim_counter, u32::MAX);
                assert_eq!(next.owner == SlotState::Empty, state.owner == SlotState::Empty);
            }
        }
    }
    for state in all(1, u32::MAX).filter(|state| state.condition == Condition::Ok) {
        let refused = if state.owner == SlotState::Empty { Refusal::WrongState } else { Refusal::Exhausted };
        assert_eq!(decide(&state, Role::Owner, Request::Rekey), Err(refused));
    }
}

#[test]
fn a_new_key_keeps_anchors_and_drops_certificates() {
    let anchored = |slot: SlotState| slot.min(SlotState::Anchored);
    for state in states().filter(|state| state.condition == Condition::Ok && state.owner != SlotState::Empty) {
        let next = decide(&state, Role::Owner, Request::Rekey).unwrap();
        assert_eq!((next.owner, next.factory), (anchored(state.owner), anchored(state.factory)));
    }
}
