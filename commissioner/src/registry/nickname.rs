//! Names for people.

use std::str::FromStr;

use super::record::LEAST;
use crate::text;

/// A name for people: 1 to 64 characters that are seen, and not to be mistaken for an ID, a link, the digits of a key, an option
/// or none at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nickname(String);

impl Nickname {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How it reads; no two devices have nicknames that read the same.
    pub(super) fn folded(&self) -> String {
        text::folded(&self.0)
    }
}

/// How no nickname begins: like IDs, links, options and hidden files, with dashes of any length.
const RESERVED: [&str; 14] = [
    "urn:", "serial:", "udp:", "tcp:", "rfc2217:", "/", ".", "-", "\u{2010}", "\u{2012}", "\u{2013}", "\u{2014}",
    "\u{2015}", "\u{2212}",
];

impl FromStr for Nickname {
    type Err = BadNickname;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let read = text::folded(name);
        let bad = read.is_empty()
            || name.chars().count() > 64
            || name.trim() != name
            || !name.chars().all(text::is_plain)
            || RESERVED.iter().any(|prefix| read.starts_with(prefix))
            || (read.len() >= LEAST && read.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if bad { Err(BadNickname) } else { Ok(Self(name.to_owned())) }
    }
}

/// Not a usable nickname.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a nickname has 1 to 64 characters, all of which are seen, and no space at its ends; it does not begin like an ID or a link, nor \
     with a dot or a dash, and does not read like digits of a key (four or more of 0 to 9 and a to f, and nothing else)"
)]
pub struct BadNickname;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nicknames_cannot_be_mistaken() {
        for good in ["kitchen", "Küche 2", "3f", "bad", "face to face", "cafe-1"] {
            assert!(good.parse::<Nickname>().is_ok(), "{good}");
        }
        for bad in ["", " kitchen", "kitchen ", "a\nb", "urn:dev:mac:0024befffe804ff1", "serial:x", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Nickname>(), Err(BadNickname), "{bad}");
        }
        for bad in
            ["URN:dev:mac:00", "tcp:host:1", "/dev/ttyACM0", "3420e9f9fc1b", "FACE", "2026", "a\u{202e}b", "a\u{200b}b"]
        {
            assert_eq!(bad.parse::<Nickname>(), Err(BadNickname), "{bad}");
        }
        // What stands for none in a table, what a shell takes for an option, and a hidden file; dashes of all lengths.
        for bad in ["-", "-x", ".", ".hidden", "\u{2013}x", "\u{2212}", "\u{ff0d}x", "\u{2026}"] {
            assert_eq!(bad.parse::<Nickname>(), Err(BadNickname), "{bad}");
        }
        // In wide letters and digits, too.
        for bad in ["\u{ff26}\u{ff21}\u{ff23}\u{ff25}", "\u{ff13}420", "\u{ff55}rn:dev", "\u{ff0f}dev/x"] {
            assert_eq!(bad.parse::<Nickname>(), Err(BadNickname), "{bad}");
        }
        for good in ["a-b", "a.b", "x-", "\u{ff2b}itchen"] {
            assert!(good.parse::<Nickname>().is_ok(), "{good}");
        }
    }
}
