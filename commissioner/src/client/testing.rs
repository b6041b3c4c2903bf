//! Packets of coap-lite, which takes the part of the other end in tests.

use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use coap_message::{MessageOption, ReadableMessage};
use protocol::oscore;

/// A message with an empty code: ping, acknowledgement or reset.
pub(crate) fn empty_message(kind: MessageType, message_id: u16) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.code = MessageClass::Empty;
    packet.header.message_id = message_id;
    packet
}

/// The value of an option that is an unsigned integer; `None` if it is absent, repeated or too long.
pub(crate) fn uint_option(packet: &Packet, number: u16) -> Option<u32> {
    let mut values = packet.get_option(CoapOption::from(number))?.iter();
    let value = values.next().filter(|value| value.len() <= 4)?;
    values.next().is_none().then(|| value.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

/// Shortest form of an unsigned integer (RFC 7252 section 3.2): zero is empty.
pub(crate) fn uint_value(value: u32) -> Vec<u8> {
    value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

/// What is inside a protected message.
pub(crate) fn to_packet(inner: &oscore::Inner<'_>) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = inner.code().into();
    for option in inner.options() {
        packet.add_option(CoapOption::from(option.number()), option.value().to_vec());
    }
    packet.payload = inner.payload().to_vec();
    packet
}
