//! An example of a product's own resource: a light at `/led`, which anyone may look at and "my devices" may switch.
//!
//! `GET` answers a CBOR Boolean, `PUT` takes one.

use cbor_schemas::Method;
use coap_numbers::code;

use crate::{
    answer::Answer,
    lifecycle::Access,
    problem::Problem,
    resources::{ProductResource, content_format},
};

/// The path.
pub const PATH: &str = "/led";

/// For [`Board::RESOURCES`](crate::device::Board::RESOURCES).
pub const RESOURCES: &[ProductResource] = &[ProductResource {
    path: PATH,
    methods: &[(Method::Get, Access::Anyone), (Method::Put, Access::MyDevices)],
    takes: Some(content_format::CBOR),
    answers: content_format::CBOR,
    attributes: Some("rt=\"led\";ct=60"),
}];

/// Serves a request, for [`Board::serve`](crate::device::Board::serve). `is_on` is how the light is, and how it is to be.
///
/// # Errors
/// 4.00 for what is no CBOR Boolean.
pub fn serve(is_on: &mut bool, method: Method, body: &[u8], answer: &mut Answer) -> Result<(), Problem> {
    if method == Method::Get {
        return answer.set_body(code::CONTENT, content_format::CBOR, |out| {
            *out.first_mut().ok_or(Problem::STORAGE)? = encode(*is_on);
            Ok::<_, Problem>(1)
        });
    }
    *is_on = decode(body).ok_or(Problem::malformed("a CBOR Boolean switches the light"))?;
    answer.set(code::CHANGED);
    Ok(())
}

/// A CBOR Boolean.
pub const fn encode(is_on: bool) -> u8 {
    if is_on { 0xf5 } else { 0xf4 }
}

/// ... and back.
pub const fn decode(body: &[u8]) -> Option<bool> {
    match body {
        [0xf4] => Some(false),
        [0xf5] => Some(true),
        _ => None,
    }
}
