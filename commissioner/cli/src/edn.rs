//! Payloads as people read them: CBOR as diagnostic notation (RFC 8949 section 8), text as text, anything else as hex.

use cbor_edn::{DelimiterPolicy, Sequence, Transformable};
use commissioner::client::content_format::{
    ACE_TRL, CBOR, CID_EDHOC, COSE_SIGN1, CWT, EDHOC, JSON, LINK_FORMAT, PROBLEM_DETAILS, TEXT,
};
use commissioner::text;
use minicbor::Decoder;
use minicbor::data::Type;

/// Deepest nesting that is shown as structure. The notation is written recursively, so that a few kilobytes of array
/// heads would exhaust the stack.
const MAX_DEPTH: usize = 64;

/// The payload in readable form; `None` as the format means that the device did not say what it is.
///
/// What does not keep to its format is shown in hex. Nothing in the result can steer a terminal.
pub(crate) fn show(payload: &[u8], content_format: Option<u16>) -> String {
    let readable = match content_format {
        Some(CBOR | COSE_SIGN1 | CWT | EDHOC | CID_EDHOC | PROBLEM_DETAILS | ACE_TRL) => diagnostic(payload),
        Some(TEXT | LINK_FORMAT | JSON) => std::str::from_utf8(payload).ok().map(str::to_owned),
        _ => None,
    };
    readable.map_or_else(|| hex::encode(payload), |readable| text::lines(readable.trim_end()))
}

/// CBOR items, one after the other.
fn diagnostic(payload: &[u8]) -> Option<String> {
    if !is_shallow(payload)? {
        return None;
    }
    let mut items = Sequence::from_cbor(payload).ok()?;
    items.set_delimiters(DelimiterPolicy::indented());
    Some(items.serialize())
}

/// Whether the items nest no deeper than [`MAX_DEPTH`]; `None` if they are not well-formed.
fn is_shallow(payload: &[u8]) -> Option<bool> {
    let mut decoder = Decoder::new(payload);
    // Items still to come at each level; `None` where a break ends the level.
    let mut open: Vec<Option<u64>> = Vec::new();
    loop {
        while open.last() == Some(&Some(0)) {
            open.pop();
        }
        if decoder.position() == payload.len() {
            return open.is_empty().then_some(true);
        }
        let kind = decoder.datatype().ok()?;
        if let (Type::Break, Some(None)) = (kind, open.last()) {
            open.pop();
            decoder.skip().ok()?;
            continue;
        }
        if let Some(Some(remaining)) = open.last_mut() {
            *remaining -= 1;
        }
        match kind {
            Type::Array | Type::ArrayIndef => open.push(decoder.array().ok()?),
            Type::Map | Type::MapIndef => {
                let pairs = decoder.map().ok()?;
                open.push(pairs.map(|pairs| pairs.checked_mul(2)).map_or(Some(None), |items| items.map(Some))?);
            }
            Type::Tag => {
                decoder.tag().ok()?;
                open.push(Some(1));
            }
            Type::Break => return None,
            _ => decoder.skip().ok()?,
        }
        if open.len() > MAX_DEPTH {
            return Some(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cbor(hex: &str) -> String {
        show(&hex::decode(hex).unwrap(), Some(CBOR))
    }

    #[test]
    fn cbor_is_shown_as_diagnostic_notation() {
        for (bytes, text) in [
            ("a201020341ff", "{1: 2, 3: h'ff'}"),
            ("d28340a040", "18([h'', {}, h''])"),
            ("9f01820203ff", "[_ 1, [2, 3]]"),
            ("bf6161f5ff", "{_ \"a\": true}"),
            ("0102", "1,\n2"),
            ("a0", "{}"),
            ("", ""),
        ] {
            assert_eq!(cbor(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn what_does_not_keep_to_its_format_is_shown_in_hex() {
        for bytes in
            ["82", "ff", "a101", "1c", "8201ff", "bf01ff", "62c328", "9bffffffffffffffff", "bbffffffffffffffff"]
        {
            assert_eq!(cbor(bytes), bytes);
        }
        assert_eq!(show(b"\xff", Some(TEXT)), "ff");
        assert_eq!(show(b"hello", None), "68656c6c6f");
        assert_eq!(show(b"hello", Some(TEXT)), "hello");
        assert_eq!(show(b"</comm>;rt=\"x\"\n", Some(LINK_FORMAT)), "</comm>;rt=\"x\"");
    }

    #[test]
    fn nothing_can_steer_the_terminal() {
        for format in [TEXT, CBOR] {
            let shown = show(b"\x67\x1b[2J\xc2\x9b\x7f", Some(format));
            assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
        }
    }

    #[test]
    fn deep_nesting_is_shown_in_hex() {
        let nested = |depth: usize, head: u8| [vec![head; depth], vec![0]].concat();
        assert_eq!(show(&nested(64, 0x81), Some(CBOR)).chars().filter(|c| *c == '[').count(), 64);
        for head in [0x81, 0xc1, 0x9f] {
            let payload = nested(60_000, head);
            assert_eq!(show(&payload, Some(CBOR)), hex::encode(&payload));
        }
    }

    proptest! {
        #[test]
        fn any_payload_can_be_shown(payload in proptest::collection::vec(any::<u8>(), 0..200), format in 0_u16..300) {
            let shown = show(&payload, Some(format));
            prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
        }

        #[test]
        fn any_cbor_can_be_shown(payload in proptest::collection::vec(any::<u8>(), 0..60)) {
            show(&payload, Some(CBOR));
        }
    }
}
