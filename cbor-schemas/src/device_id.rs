use core::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use crate::{
    Error,
    codec::{Reader, Wire, Writer, codec},
};

/// The name of a device: a DEV URN (RFC 9039) as text, at most 48 bytes of ASCII.
///
/// `urn:dev:mac:` and the device's EUI-48 or EUI-64, or `urn:dev:ops:<PEN>-<product>-<uid>`; after the prefix 1 to 36
/// letters, digits, `.`, `:`, `_` or `-`. A device ID is only a claim: what proves a device is its key.
#[derive(Clone, Copy)]
pub struct DeviceId {
    /// Zero after `len`.
    text: [u8; Self::MAX_TEXT_LEN],
    len: u8,
}

impl DeviceId {
    /// The longest ID in bytes, as text.
    pub const MAX_TEXT_LEN: usize = 48;
    /// The longest encoding in bytes.
    pub const MAX_LEN: usize = 50;

    /// What is read where none is.
    pub(crate) const NONE: Self = Self { text: [0; Self::MAX_TEXT_LEN], len: 0 };

    /// The URN.
    pub fn as_str(&self) -> &str {
        self.text.get(..usize::from(self.len)).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }
}

codec!(DeviceId);

impl FromStr for DeviceId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let name = ["urn:dev:mac:", "urn:dev:ops:"].iter().find_map(|prefix| text.strip_prefix(prefix));
        if !name.is_some_and(|name| !name.is_empty() && name.bytes().all(is_allowed)) {
            return Err(Error::OutOfRange);
        }
        let mut id = Self::NONE;
        id.text.get_mut(..text.len()).ok_or(Error::TooLong)?.copy_from_slice(text.as_bytes());
        id.len = u8::try_from(text.len()).map_err(|_| Error::TooLong)?;
        Ok(id)
    }
}

impl TryFrom<&str> for DeviceId {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        text.parse()
    }
}

impl Wire<'_> for DeviceId {
    fn read(reader: &mut Reader<'_>) -> Self {
        let id = reader.str().parse();
        reader.value(id, Self::NONE)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.str(self.as_str());
    }
}

impl AsRef<str> for DeviceId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({})", self.as_str())
    }
}

impl PartialEq for DeviceId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for DeviceId {}

impl PartialOrd for DeviceId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DeviceId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for DeviceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".:_-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_ids() {
        for text in ["urn:dev:mac:0024befffe804ff1", "urn:dev:ops:32473-sensor-00112233aabbccdd", "urn:dev:ops:1"] {
            let id: DeviceId = text.parse().unwrap();
            assert_eq!(id.as_str(), text);
            assert_eq!(id.to_string(), text);
            assert_eq!(DeviceId::try_from(text), Ok(id));
        }
    }

    #[test]
    fn other_texts() {
        for text in [
            "",
            "urn:dev:",
            "urn:dev:mac:",
            "urn:dev:ops:",
            "urn:dev:org:32473-sensor",
            "URN:DEV:OPS:32473-sensor",
            " urn:dev:ops:1",
            "urn:dev:ops:1 ",
            "urn:dev:ops:1\n",
            "urn:dev:ops:1/2",
            "urn:dev:ops:\u{e4}",
            "urn:dev:ops:1\0",
        ] {
            assert_eq!(text.parse::<DeviceId>(), Err(Error::OutOfRange), "{text:?}");
        }
    }

    #[test]
    fn order_is_that_of_the_text() {
        let ids = ["urn:dev:mac:ff", "urn:dev:ops:1", "urn:dev:ops:10", "urn:dev:ops:2"];
        let parsed = ids.map(|text| text.parse::<DeviceId>().unwrap());
        assert!(parsed.is_sorted());
        assert_ne!(parsed[1], parsed[2]);
    }
}
