//! What went over the line, message by message: the table in docs/protocol.md is printed from this.

use std::fmt;

use coap_message::{MessageOption, ReadableMessage};
use coap_numbers::option;
use protocol::coap::{Datagram, Type};

use super::message::Code;

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the device.
    Sent,
    /// From the device.
    Received,
}

/// One message, retransmissions included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which way it went.
    pub direction: Direction,
    /// Type, code and path, as anybody on the line can see them: `CON POST /.well-known/edhoc`.
    pub message: String,
    /// What only the two ends know: `EDHOC message_1, 37 bytes`, or what is inside OSCORE.
    pub note: String,
    /// The CoAP message, in bytes.
    pub datagram: usize,
    /// The same on the line, framing included, in bytes.
    pub line: usize,
}

impl Record {
    pub(super) fn new(direction: Direction, parsed: &Datagram<'_>, datagram: usize, line: usize) -> Self {
        Self { direction, message: describe(parsed), note: String::new(), datagram, line }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = if self.direction == Direction::Sent { "->" } else { "<-" };
        write!(f, "{arrow} {:<40} {:<36} {:>5} {:>5}", self.message, self.note, self.datagram, self.line)
    }
}

/// Says what the last message received carried.
pub(super) fn note_received(records: &mut Option<Vec<Record>>, note: String) {
    let last = records.iter_mut().flatten().rev().find(|record| record.direction == Direction::Received);
    if let Some(last) = last {
        last.note = note;
    }
}

/// What a message is: method and path, or response code.
pub(crate) fn summary(message: &impl ReadableMessage) -> String {
    let method = match message.code().into() {
        0 => return "empty".to_owned(),
        1 => "GET",
        2 => "POST",
        3 => "PUT",
        4 => "DELETE",
        code => return Code(code).to_string(),
    };
    let segments = message.options().filter(|option| option.number() == option::URI_PATH);
    let path: String = segments.map(|segment| format!("/{}", String::from_utf8_lossy(segment.value()))).collect();
    format!("{method} {path}").trim_end().to_owned()
}

fn describe(parsed: &Datagram<'_>) -> String {
    let kind = match parsed.header.type_ {
        Type::Con => "CON",
        Type::Non => "NON",
        Type::Ack => "ACK",
        Type::Rst => "RST",
    };
    let message = parsed.message();
    let is_protected = message.options().any(|option| option.number() == option::OSCORE);
    match parsed.header.code {
        0 => kind.to_owned(),
        _ if is_protected => format!("{kind} {} OSCORE", summary(&message)),
        _ => format!("{kind} {}", summary(&message)),
    }
}
