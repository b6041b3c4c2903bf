//! The report line: a [`DeviceInfo`] as one line of text, for links that only go one way.
//!
//! `commissioning-report:` and the base64url form of the DeviceInfo without padding (RFC 4648 section 5), at most
//! [`MAX_LINE`] bytes. A device prints it at each start among whatever else it prints.

use core::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};

use crate::{DeviceInfo, Error};

/// What a report begins with.
pub const PREFIX: &str = "commissioning-report:";

/// The longest report in bytes, without a line ending.
pub const MAX_LINE: usize = 364;

/// Bytes that are written at once.
const CHUNK: usize = 30;

/// Writes the report, without a line ending.
///
/// # Errors
/// Those of [`DeviceInfo::encode`]; [`Error::NoSpace`] if `out` refuses text.
pub fn write(info: &DeviceInfo<'_>, out: &mut impl fmt::Write) -> Result<(), Error> {
    let mut buffer = [0; DeviceInfo::MAX_LEN];
    let len = info.encode(&mut buffer)?;
    let bytes = buffer.get(..len).unwrap_or_default();
    out.write_str(PREFIX).map_err(|_| Error::NoSpace)?;
    // Without padding, what whole groups of three bytes become stands side by side.
    for chunk in bytes.chunks(CHUNK) {
        let mut buffer = [0; CHUNK / 3 * 4];
        let text = Base64UrlUnpadded::encode(chunk, &mut buffer).map_err(|_| Error::NoSpace)?;
        out.write_str(text).map_err(|_| Error::NoSpace)?;
    }
    Ok(())
}

/// Finds a report anywhere in a line of text and decodes it into `buf`. [`None`] if the line holds none.
///
/// Text before and after it does not matter. If the line holds several, the last counts: a restart in the middle of a
/// line leaves a cut one before it. `buf` should be larger than [`DeviceInfo::MAX_LEN`], since a newer schema version or
/// unknown keys make longer reports.
///
/// # Errors
/// [`Error::Truncated`] if the report is cut, [`Error::TooLong`] if it does not fit into `buf`, and those of
/// [`DeviceInfo::decode`]; among them [`Error::Version`].
pub fn find<'b>(line: &str, buf: &'b mut [u8]) -> Option<Result<DeviceInfo<'b>, Error>> {
    let (_, after) = line.rsplit_once(PREFIX)?;
    let text = after.split(|c: char| !is_base64url(c)).next().unwrap_or_default();
    Some(decode(text, buf))
}

fn decode<'b>(text: &str, buf: &'b mut [u8]) -> Result<DeviceInfo<'b>, Error> {
    if text.len().saturating_mul(3) / 4 > buf.len() {
        return Err(Error::TooLong);
    }
    // All characters are of the alphabet: what can be wrong is where they end.
    let bytes = Base64UrlUnpadded::decode(text, buf).map_err(|_| Error::Truncated)?;
    DeviceInfo::decode(bytes)
}

fn is_base64url(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}
