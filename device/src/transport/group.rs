//! What a device hears of requests to the group of all CoAP nodes, and says to them (RFC 7252 section 8): it can be found by
//! multicast, and nothing else.

use coap_message::{MessageOption, ReadableMessage};
use coap_numbers::{
    code::{self, Class, Range},
    option,
};
use protocol::coap::{Datagram, Type};

use crate::resources::{self, Resource};

/// Whether this is a request that may come by multicast.
pub fn is_discovery(datagram: &[u8]) -> bool {
    let Ok(datagram) = Datagram::parse(datagram) else { return false };
    let message = datagram.message();
    let is_protected = message.options().any(|option| option.number() == option::OSCORE);
    let resource = resources::find(&message).map(|entry| entry.resource);
    datagram.header.type_ == Type::Non
        && datagram.header.code == code::GET
        && !is_protected
        && matches!(resource, Some(Resource::Core | Resource::Info))
}

/// Whether this is an answer that may go to a request by multicast: an error may not.
pub fn is_success(answer: &[u8]) -> bool {
    Datagram::parse(answer).is_ok_and(|answer| code::classify(answer.header.code) == Range::Response(Class::Success))
}
