use coap_message::{MessageOption, ReadableMessage, WithSortedOptions};
use coap_numbers::option::{self, Criticality, get_criticality};

/// The first critical option that is not among `supported`, or that is given twice though it may not be
/// (RFC 7252, section 5.4). A request that has one is answered 4.02 Bad Option.
///
/// A malformed message always has one, since it reads as option 65535: check this before reading anything else.
pub fn unsupported_option<M>(message: &M, supported: &[u16]) -> Option<u16>
where
    M: ReadableMessage + WithSortedOptions,
{
    let mut previous = None;
    message.options().map(|option| option.number()).find(|&number| {
        let repeated = previous.replace(number) == Some(number);
        get_criticality(number) == Criticality::Critical
            && (!supported.contains(&number) || repeated && !is_repeatable(number))
    })
}

/// The value of an option that is a number: the first one, if it is given and fits.
pub fn uint_option(message: &impl ReadableMessage, number: u16) -> Option<u16> {
    message.options().find(|option| option.number() == number)?.value_uint()
}

/// Whether a request is for the absolute `path`.
pub fn is_path(path: &str, request: &impl ReadableMessage) -> bool {
    let mut segments = path.split('/').skip(1);
    let mut asked = request.options();
    let mut asked = core::iter::from_fn(|| asked.find(|option| option.number() == option::URI_PATH));
    loop {
        match (segments.next(), asked.next()) {
            (None, None) => return true,
            (Some(segment), Some(option)) if option.value() == segment.as_bytes() => {}
            _ => return false,
        }
    }
}

/// Critical options that may occur more than once.
fn is_repeatable(number: u16) -> bool {
    matches!(number, option::IF_MATCH | option::URI_PATH | option::URI_QUERY)
}
