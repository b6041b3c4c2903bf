//! What went over the line, message by message: the table in docs/protocol.md is printed from this.

use std::fmt;

use coap_lite::{CoapOption, MessageClass, MessageType, Packet};

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
    pub(super) fn new(direction: Direction, packet: &Packet, datagram: usize, line: usize) -> Self {
        Self { direction, message: describe(packet), note: String::new(), datagram, line }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = if self.direction == Direction::Sent { "->" } else { "<-" };
        write!(f, "{arrow} {:<40} {:<36} {:>5} {:>5}", self.message, self.note, self.datagram, self.line)
    }
}

/// What is inside a protected message, or is not protected: method and path, or response code.
pub(crate) fn summary(packet: &Packet) -> String {
    let method = match u8::from(packet.header.code) {
        0 => return "empty".to_owned(),
        1 => "GET",
        2 => "POST",
        3 => "PUT",
        4 => "DELETE",
        code => return Code(code).to_string(),
    };
    let segments = packet.get_option(CoapOption::UriPath).into_iter().flatten();
    let path: String = segments.map(|segment| format!("/{}", String::from_utf8_lossy(segment))).collect();
    format!("{method} {path}").trim_end().to_owned()
}

fn describe(packet: &Packet) -> String {
    let kind = match packet.header.get_type() {
        MessageType::Confirmable => "CON",
        MessageType::NonConfirmable => "NON",
        MessageType::Acknowledgement => "ACK",
        MessageType::Reset => "RST",
    };
    let protected = packet.get_option(CoapOption::Oscore).is_some_and(|values| !values.is_empty());
    match packet.header.code {
        MessageClass::Empty => kind.to_owned(),
        _ if protected => format!("{kind} {} OSCORE", summary(packet)),
        _ => format!("{kind} {}", summary(packet)),
    }
}
