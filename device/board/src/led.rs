//! An example of a product: a light at `/led`, which anyone may look at and "my devices" may switch. `GET` answers a CBOR
//! Boolean, `PUT` takes one.
//!
//! And values that its owner may give to it. It uses one of them; it has no radio that would need the others.

use cbor_schemas::Method;
use coap_numbers::code;
use device::{
    Access, Answer, Problem, ProductResource, content_format,
    values::{Declared, Octets, Text, Value, ValueKind, Values},
};

/// The path.
pub const PATH: &str = "/led";

/// For [`Board::RESOURCES`](device::Board::RESOURCES).
pub const RESOURCES: &[ProductResource] = &[ProductResource {
    path: PATH,
    methods: &[(Method::Get, Access::Anyone), (Method::Put, Access::MyDevices)],
    takes: Some(content_format::CBOR),
    answers: content_format::CBOR,
    attributes: Some("rt=\"led\";ct=60"),
}];

/// How often the light flashes to show which device is meant: one byte, 1 to 20.
pub const FLASHES: Declared<Flashes> = Declared::new("/comm/slots/identify-flashes", 1);
/// What a radio would send as, for good: 8 bytes.
pub const SENDER_ID: Declared<Octets<8>> = Declared::new("/comm/slots/sender-id", 8).write_once();
/// What it would join a network by: UTF-8, at most 64 bytes.
pub const WIFI_PASSPHRASE: Declared<Text> = Declared::new("/comm/slots/wifi-passphrase", 64).secret();

/// For [`Board::VALUES`](device::Board::VALUES).
pub const VALUES: &[Value] = &[FLASHES.value(), SENDER_ID.value(), WIFI_PASSPHRASE.value()];

/// A number of flashes.
#[derive(Debug, Clone, Copy)]
pub struct Flashes;

impl ValueKind for Flashes {
    type Is<'v> = u8;

    fn read(bytes: &[u8]) -> Option<u8> {
        match bytes {
            [flashes @ 1..=20] => Some(*flashes),
            _ => None,
        }
    }
}

/// How often the light is to flash: 10 times unless the owner wants something else.
pub fn flashes(values: &Values<'_>) -> u8 {
    values.get(&FLASHES).unwrap_or(10)
}

/// Serves a request, for [`Board::serve`](device::Board::serve). `is_on` is how the light is, and how it is to be.
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
    *is_on = decode(body).ok_or(device::problem!(
        code::BAD_REQUEST,
        "malformed request",
        "a CBOR Boolean switches the light"
    ))?;
    answer.set(code::CHANGED);
    Ok(())
}

/// A CBOR Boolean.
pub const fn encode(is_on: bool) -> u8 {
    if is_on { 0xf5 } else { 0xf4 }
}

/// Whether the LED is on, of its CBOR form; [`None`] if it is no boolean.
pub const fn decode(body: &[u8]) -> Option<bool> {
    match body {
        [0xf4] => Some(false),
        [0xf5] => Some(true),
        _ => None,
    }
}
