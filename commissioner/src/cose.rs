//! How what this issuer signs is protected (COSE, RFC 9052).

use coset::{Header, HeaderBuilder, cbor::Value, iana};

/// The `typ` header parameter (RFC 9596): what kind of object this is.
const TYP: i64 = 16;

/// The protected header of an object of the type `typ`: ES256, and what it is (RFC 9596).
pub(crate) fn protected_as(typ: &str) -> Header {
    let typ = Value::Text(typ.to_owned());
    HeaderBuilder::new().algorithm(iana::Algorithm::ES256).value(TYP, typ).build()
}
