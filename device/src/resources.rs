//! The resource table: path, methods, what discovery says; and what a request to each is for the lifecycle.

use cbor_schemas::Method;
use coap_message::ReadableMessage;
use coap_numbers::{code, option};
use protocol::coap::is_path;

use crate::{lifecycle::Access, values::Value};

/// Content formats (IANA "CoAP Content-Formats").
pub mod content_format {
    /// application/link-format
    pub const LINK_FORMAT: u16 = 40;
    /// application/octet-stream
    pub const OCTET_STREAM: u16 = 42;
    /// application/cbor
    pub const CBOR: u16 = 60;
    /// application/cwt
    pub const CWT: u16 = 61;
    /// application/edhoc+cbor-seq
    pub const EDHOC: u16 = 64;
    /// application/cid-edhoc+cbor-seq
    pub const CID_EDHOC: u16 = 65;
    /// application/concise-problem-details+cbor
    pub const PROBLEM_DETAILS: u16 = 257;
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Discovery (RFC 6690).
    Core,
    /// EDHOC (RFC 9528 appendix A.2).
    Edhoc,
    /// Signed objects (RFC 9200 section 5.10.1).
    AuthzInfo,
    /// DeviceInfo.
    Info,
    /// The factory slot.
    Factory,
    /// The owner slot.
    Owner,
    /// The device list.
    Peers,
    /// Blink.
    Identify,
    /// A new key.
    Rekey,
    /// Give up ownership.
    Reset,
    /// A value of the product, by its place in [`Board::VALUES`](crate::device::Board::VALUES).
    Value(u8),
    /// One of the product's own, by its place in [`Board::RESOURCES`](crate::device::Board::RESOURCES).
    Product(u8),
}

/// A resource of the product, beside those of commissioning.
#[derive(Debug, Clone, Copy)]
pub struct ProductResource {
    /// The absolute path, outside of `/comm`.
    pub path: &'static str,
    /// Its methods, and who may use each.
    pub methods: &'static [(Method, Access)],
    /// Content format of request bodies; `None` where there is none.
    pub takes: Option<u16>,
    /// Content format of what it answers when it does not refuse.
    pub answers: u16,
    /// Link attributes shown to discovery; `None` keeps the resource out of it.
    pub attributes: Option<&'static str>,
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The absolute path.
    pub path: &'static str,
    /// What it names.
    pub resource: Resource,
    /// Methods with a meaning there, now or in a later version.
    pub methods: &'static [Method],
    /// Content format of request bodies; `None` where there is none.
    pub takes: Option<u16>,
    /// Content format of what it answers when it does not refuse.
    pub answers: u16,
    /// Link attributes shown to discovery; `None` keeps the resource out of it.
    pub attributes: Option<&'static str>,
}

use Method::{Get, Post, Put};

/// The table.
#[rustfmt::skip]
pub const RESOURCES: &[Entry] = &[
    Entry { path: "/.well-known/core",  resource: Resource::Core,      methods: &[Get],      takes: None,                       answers: content_format::LINK_FORMAT, attributes: None },
    Entry { path: "/.well-known/edhoc", resource: Resource::Edhoc,     methods: &[Post],     takes: None,                       answers: content_format::EDHOC,       attributes: Some("rt=\"core.edhoc\"") },
    Entry { path: "/authz-info",        resource: Resource::AuthzInfo, methods: &[Post],     takes: Some(content_format::CWT),  answers: content_format::CBOR,        attributes: Some("rt=\"ace.ai\";ct=61") },
    Entry { path: "/comm",              resource: Resource::Info,      methods: &[Get],      takes: None,                       answers: content_format::CBOR,        attributes: Some("rt=\"commissioning\";ct=60") },
    Entry { path: "/comm/factory",      resource: Resource::Factory,   methods: &[Get, Put], takes: Some(content_format::CBOR), answers: content_format::CBOR,        attributes: None },
    Entry { path: "/comm/owner",        resource: Resource::Owner,     methods: &[Get, Put], takes: Some(content_format::CBOR), answers: content_format::CBOR,        attributes: None },
    Entry { path: "/comm/peers",        resource: Resource::Peers,     methods: &[Get, Put], takes: Some(content_format::CWT),  answers: content_format::CBOR,        attributes: None },
    Entry { path: "/comm/identify",     resource: Resource::Identify,  methods: &[Post],     takes: None,                       answers: content_format::CBOR,        attributes: None },
    Entry { path: "/comm/rekey",        resource: Resource::Rekey,     methods: &[Post],     takes: Some(content_format::CBOR), answers: content_format::CBOR,        attributes: None },
    Entry { path: "/comm/reset",        resource: Resource::Reset,     methods: &[Post],     takes: None,                       answers: content_format::CBOR,        attributes: None },
];

/// Critical options that are understood, of requests as the application sees them.
pub(crate) const OPTIONS: &[u16] = &[
    option::URI_HOST,
    option::URI_PORT,
    option::URI_PATH,
    option::URI_QUERY,
    option::ACCEPT,
    option::BLOCK2,
    option::BLOCK1,
];

/// The line of the table that a request is for.
pub(crate) fn find(request: &impl ReadableMessage) -> Option<&'static Entry> {
    RESOURCES.iter().find(|entry| is_path(entry.path, request))
}

/// What a request is for: one of our own resources, or one of the product's values or resources.
pub(crate) fn find_with(
    product: &'static [ProductResource],
    values: &'static [Value],
    request: &impl ReadableMessage,
) -> Option<Target> {
    if let Some(entry) = find(request) {
        return Some(Target::Own(entry));
    }
    if let Some(at) = values.iter().position(|value| is_path(value.path, request)) {
        return Some(Target::Value(u8::try_from(at).ok()?, values.get(at)?));
    }
    let at = product.iter().position(|resource| is_path(resource.path, request))?;
    Some(Target::Product(u8::try_from(at).ok()?, product.get(at)?))
}

/// What a request is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// A line of [`RESOURCES`].
    Own(&'static Entry),
    /// A value of the product, and its place among them.
    Value(u8, &'static Value),
    /// A resource of the product, and its place among them.
    Product(u8, &'static ProductResource),
}

impl Target {
    /// The absolute path.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Target::Own(entry) => entry.path,
            Target::Value(_, value) => value.path,
            Target::Product(_, resource) => resource.path,
        }
    }

    /// What it names.
    pub(crate) fn resource(&self) -> Resource {
        match self {
            Target::Own(entry) => entry.resource,
            Target::Value(at, _) => Resource::Value(*at),
            Target::Product(at, _) => Resource::Product(*at),
        }
    }

    /// Whether the resource has this method.
    pub(crate) fn has(&self, method: Method) -> bool {
        match self {
            Target::Own(entry) => entry.methods.contains(&method),
            Target::Value(_, value) => method == Put || method == Get && !value.secret,
            Target::Product(_, resource) => resource.methods.iter().any(|(its, _)| *its == method),
        }
    }

    /// Content formats of request bodies, and of answers.
    pub(crate) fn formats(&self) -> (Option<u16>, u16) {
        match self {
            Target::Own(entry) => (entry.takes, entry.answers),
            Target::Value(..) => (Some(content_format::OCTET_STREAM), content_format::OCTET_STREAM),
            Target::Product(_, resource) => (resource.takes, resource.answers),
        }
    }
}

/// The method of a request, if it is one that any resource has.
pub(crate) fn method(code: u8) -> Option<Method> {
    match code {
        code::GET => Some(Get),
        code::POST => Some(Post),
        code::PUT => Some(Put),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use cbor_schemas::Aif;

    use super::*;

    #[test]
    fn each_path_is_there_once_and_can_be_named_in_a_scope() {
        for (index, entry) in RESOURCES.iter().enumerate() {
            assert!(entry.path.starts_with('/') && !entry.path.ends_with('/'), "{}", entry.path);
            assert!(RESOURCES[..index].iter().all(|other| other.path != entry.path), "{}", entry.path);
            assert!(Aif::new(&[(entry.path, Get as u8)]).unwrap().allows(entry.path, Get), "{}", entry.path);
            assert!(!entry.methods.is_empty());
        }
    }

    #[test]
    fn a_scope_of_everything_covers_what_owners_do_and_nothing_else() {
        for entry in RESOURCES {
            let is_commissioning = entry.path == "/comm" || entry.path.starts_with("/comm/");
            for method in entry.methods {
                assert_eq!(Aif::everything().allows(entry.path, *method), is_commissioning, "{}", entry.path);
            }
        }
    }
}
