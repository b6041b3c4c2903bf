//! Proof that a peer gets what is sent to the address that it says it has (RFC 9175, section 2), without remembering anybody.

use core::hash::{Hash, Hasher};

use coap_message::{MessageOption, ReadableMessage};
use coap_numbers::option;
use sha2::{Digest, Sha256};

/// Who did not prove its address is sent at most this many times the bytes that came from there (RFC 9175, section 2.4).
const AMPLIFICATION: usize = 3;
/// How long a value is good at least; at most, twice as long. In milliseconds.
const LIFETIME_MS: u64 = 1 << 17;
/// Bytes of a value.
const LENGTH: usize = 8;

/// Whether a response makes so much of a request that a stranger's address may be flooded with it.
pub const fn amplifies(request: usize, response: usize) -> bool {
    response > request.saturating_mul(AMPLIFICATION)
}

/// What the values of Echo options are computed from. 16 bytes.
pub struct EchoKey([u8; 16]);

impl EchoKey {
    /// `secret` is random, and another one at each start.
    pub const fn new(secret: [u8; 16]) -> Self {
        Self(secret)
    }

    /// What `peer` has to send back. `now` is in milliseconds and never goes backwards.
    pub fn value(&self, peer: &impl Hash, now: u64) -> [u8; LENGTH] {
        self.at(peer, now / LIFETIME_MS)
    }

    /// Whether `message` has an Echo option with what was sent to `peer` not long ago.
    pub fn proves(&self, message: &impl ReadableMessage, peer: &impl Hash, now: u64) -> bool {
        let now = now / LIFETIME_MS;
        message.options().filter(|option| option.number() == option::ECHO).any(|option| {
            [now, now.saturating_sub(1)].iter().any(|time| is_same(&self.at(peer, *time), option.value()))
        })
    }

    /// Nobody sees a whole digest, by which it could be computed further.
    fn at(&self, peer: &impl Hash, time: u64) -> [u8; LENGTH] {
        let mut digest = Feed(Sha256::new_with_prefix(self.0));
        (time, peer).hash(&mut digest);
        digest.0.finalize().first_chunk().copied().unwrap_or_default()
    }
}

/// In a time that does not depend on where they differ.
fn is_same(ours: &[u8; LENGTH], theirs: &[u8]) -> bool {
    theirs.len() == LENGTH && ours.iter().zip(theirs).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// Takes the bytes that a value hashes.
struct Feed(Sha256);

impl Hasher for Feed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Nobody asks.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Datagram, Header, Token, Type, Writer};
    use super::*;
    use coap_message::{MinimalWritableMessage, OptionNumber};

    /// Whether a request with these Echo options comes from where `peer` gets its mail.
    fn proves(key: &EchoKey, echoes: &[&[u8]], peer: &str, now: u64) -> bool {
        let mut buffer = [0; 128];
        let mut writer =
            Writer::new(&mut buffer, &Header { type_: Type::Con, code: 1, message_id: 1, token: Token::EMPTY })
                .unwrap();
        let mut message = writer.message();
        for echo in echoes {
            message.add_option(OptionNumber::new(option::ECHO).unwrap(), echo).unwrap();
        }
        let length = message.finish().0;
        let length = writer.finish(length).unwrap();
        key.proves(&Datagram::parse(&buffer[..length]).unwrap().message(), &peer, now)
    }

    #[test]
    fn a_value_is_good_for_its_peer_for_two_to_four_minutes() {
        let key = EchoKey::new([7; 16]);
        let begin = 10 * LIFETIME_MS;
        for sent in [begin, begin + LIFETIME_MS - 1] {
            let value = key.value(&"here", sent);
            for (now, good) in [
                (sent, true),
                (sent + LIFETIME_MS, true),
                (begin + 2 * LIFETIME_MS - 1, true),
                (begin + 2 * LIFETIME_MS, false),
                (begin - 1, false),
            ] {
                assert_eq!(proves(&key, &[&value], "here", now), good, "sent at {sent}, now {now}");
            }
            assert!(!proves(&key, &[&value], "there", sent));
            assert!(!proves(&EchoKey::new([8; 16]), &[&value], "here", sent), "after another start");
            assert!(!proves(&key, &[&value[..7]], "here", sent));
            assert!(!proves(&key, &[&[&value[..], &[0]].concat()], "here", sent));
            assert!(proves(&key, &[b"of another server", &value], "here", sent));
        }
        assert!(!proves(&key, &[], "here", begin) && !proves(&key, &[b""], "here", begin));
        assert!(proves(&key, &[&key.value(&"here", 0)], "here", 0));
    }

    #[test]
    fn three_bytes_for_one() {
        assert!(!amplifies(10, 30) && amplifies(10, 31) && amplifies(0, 1));
    }
}
