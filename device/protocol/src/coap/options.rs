use coap_message::{MessageOption, ReadableMessage, WithSortedOptions};
use coap_numbers::{
    code,
    option::{self, Criticality, get_criticality},
};

/// The first critical option that is not among `supported`, that is longer or shorter than it may be, or that is given
/// twice though it may not be (RFC 7252, section 5.4). [`option_refusal`] is how a request that has one is answered.
///
/// A malformed message always has one, since it reads as option 65535: check this before reading anything else.
pub fn unsupported_option<M>(message: &M, supported: &[u16]) -> Option<u16>
where
    M: ReadableMessage + WithSortedOptions,
{
    let mut previous = None;
    let unsupported = message.options().find(|option| {
        let number = option.number();
        let repeated = previous.replace(number) == Some(number);
        get_criticality(number) == Criticality::Critical
            && (!supported.contains(&number)
                || repeated && !is_repeatable(number)
                || !is_option_length(number, option.value().len()))
    });
    unsupported.map(|option| option.number())
}

/// The code that a request is refused with which has an [`unsupported_option`].
///
/// An EDHOC option that is not understood where it stands is 4.00 (RFC 9668, section 3.3.1), and whoever is no proxy
/// answers 5.05 to what only a proxy understands (RFC 7252, section 5.10.2). All else is 4.02.
pub fn option_refusal(unsupported: u16) -> u8 {
    match unsupported {
        option::EDHOC => code::BAD_REQUEST,
        _ if is_for_proxies(unsupported) => code::PROXYING_NOT_SUPPORTED,
        _ => code::BAD_OPTION,
    }
}

/// Options that name where a proxy is to pass a request on to.
pub(crate) fn is_for_proxies(number: u16) -> bool {
    matches!(number, option::PROXY_URI | option::PROXY_SCHEME | option::PROXY_CRI | option::PROXY_SCHEME_NUMBER)
}

/// The value of an option that is a number: the first one, if it is given and fits. An option that is longer than it may
/// be is as good as none (RFC 7252, section 5.4.3).
pub fn uint_option(message: &impl ReadableMessage, number: u16) -> Option<u16> {
    let mut given = message.options().filter(|option| option.number() == number);
    given.find(|option| is_option_length(number, option.value().len()))?.value_uint()
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

/// Whether an option may have a value of `length` bytes, by the RFC that it comes from. One that may not is treated like
/// one that is not known: critical ones are refused, elective ones ignored (RFC 7252, section 5.4.3).
///
/// Options that are not here may have any length.
pub fn is_option_length(number: u16, length: usize) -> bool {
    let (shortest, longest) = match number {
        // RFC 7252, section 5.10
        option::IF_MATCH => (0, 8),
        option::URI_HOST | option::PROXY_SCHEME => (1, 255),
        option::ETAG => (1, 8),
        option::IF_NONE_MATCH => (0, 0),
        option::URI_PORT | option::CONTENT_FORMAT | option::ACCEPT => (0, 2),
        option::LOCATION_PATH | option::URI_PATH | option::URI_QUERY | option::LOCATION_QUERY => (0, 255),
        option::MAX_AGE | option::SIZE1 | option::SIZE2 => (0, 4),
        option::PROXY_URI => (1, 1034),
        // RFC 7641, RFC 7959, RFC 7967, RFC 8613, RFC 8768, RFC 9175, RFC 9177. RFC 9668 has a value of the EDHOC option
        // ignored.
        option::OBSERVE | option::BLOCK1 | option::BLOCK2 | option::Q_BLOCK1 | option::Q_BLOCK2 => (0, 3),
        option::OSCORE => (0, 255),
        option::NO_RESPONSE => (0, 1),
        option::HOP_LIMIT => (1, 1),
        option::ECHO => (1, 40),
        option::REQUEST_TAG => (0, 8),
        _ => return true,
    };
    (shortest..=longest).contains(&length)
}

/// Critical options that may occur more than once.
fn is_repeatable(number: u16) -> bool {
    matches!(number, option::IF_MATCH | option::URI_PATH | option::URI_QUERY)
}
