//! Everything that a stranger's bytes reach, as functions of bytes that must neither panic nor change what they may not.
//!
//! cargo-fuzz drives them (`make fuzz`), and `tests/smoke.rs` does with mutated seeds on a stable toolchain. Each says
//! whether its input got through, so that a test can see that the seeds reach what lies behind the first refusal.

mod bench;
mod conversation;
mod device_side;
mod host_side;
mod recording;
mod schemas;
mod small_side;

pub use recording::{Recording, recordings, replay};

/// A function of bytes that ends normally, whatever they are.
#[derive(Debug, Clone, Copy)]
pub struct EntryPoint {
    /// Its name, also that of the cargo-fuzz target.
    pub name: &'static str,
    /// The function. True if the input was accepted.
    pub run: fn(&[u8]) -> bool,
    /// Inputs to begin with.
    pub seeds: fn() -> Seeds,
}

/// Inputs to begin with.
#[derive(Debug, Clone, Default)]
pub struct Seeds {
    /// These are accepted.
    pub accepted: Vec<Vec<u8>>,
    /// These are not, or only in part.
    pub others: Vec<Vec<u8>>,
}

/// All of them.
pub const ENTRY_POINTS: &[EntryPoint] = &[
    EntryPoint { name: "schemas", run: schemas::decode, seeds: schemas::seeds },
    EntryPoint { name: "report_line", run: schemas::report_line, seeds: schemas::report_line_seeds },
    EntryPoint { name: "token", run: device_side::token, seeds: device_side::token_seeds },
    EntryPoint { name: "voucher", run: device_side::voucher, seeds: device_side::voucher_seeds },
    EntryPoint { name: "serial", run: device_side::serial, seeds: device_side::serial_seeds },
    EntryPoint { name: "datagrams", run: device_side::datagrams, seeds: device_side::datagram_seeds },
    EntryPoint { name: "session", run: device_side::session, seeds: device_side::session_seeds },
    EntryPoint { name: "protected", run: device_side::protected, seeds: device_side::protected_seeds },
    EntryPoint { name: "responder", run: device_side::responder, seeds: device_side::responder_seeds },
    EntryPoint { name: "small", run: small_side::small, seeds: small_side::small_seeds },
    EntryPoint { name: "conversation_client", run: conversation::client, seeds: conversation::client_seeds },
    EntryPoint { name: "conversation_server", run: conversation::server, seeds: conversation::server_seeds },
    EntryPoint { name: "initiator", run: host_side::initiator, seeds: host_side::initiator_seeds },
    EntryPoint { name: "client", run: host_side::client, seeds: host_side::client_seeds },
    EntryPoint { name: "server", run: host_side::server, seeds: host_side::server_seeds },
    EntryPoint {
        name: "protected_answers",
        run: host_side::protected_answers,
        seeds: host_side::protected_answer_seeds,
    },
];

/// Runs the entry point of that name; this is all that a cargo-fuzz target does.
///
/// # Panics
/// If the entry point finds a fault, or does not exist.
pub fn run(name: &str, input: &[u8]) -> bool {
    let entry_point = ENTRY_POINTS.iter().find(|entry_point| entry_point.name == name);
    (entry_point.expect("the target is named after an entry point").run)(input)
}
