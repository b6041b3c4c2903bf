//! A conversation of two parties over datagrams: EDHOC (RFC 9528), then requests and responses under OSCORE (RFC 8613).

pub mod sessions;
