//! Credentials: the CWT Claims Set (CCS) of a peer, by value or by kid, and our own.

use heapless::Vec;
use lakers::{BufferCred, BufferKid, Credential, IdCred as LakersIdCred};

use super::cbor::Reader;
use super::error::Error;
use super::{IdCred, MAX_CCS, MAX_KID};
use crate::key::PublicKey;

const KCCS: u8 = 14; // COSE header parameter, RFC 9528 section 9.8 (kid is 4)
const CCS_SUBJECT: &[u8] = &[0x02];
const CCS_CNF_COSE_KEY: &[u8] = &[0x08, 0xa1, 0x01];
const KEY_TYPE_EC2: &[u8] = &[0x01, 0x02];
const KEY_KID: &[u8] = &[0x02];
const KEY_CURVE_P256: &[u8] = &[0x20, 0x01];
const KEY_X: &[u8] = &[0x21];
const KEY_Y: &[u8] = &[0x22];

/// The credential of a peer that is known: a CWT Claims Set with one P-256 key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ccs {
    key: PublicKey,
    kid: Option<Vec<u8, MAX_KID>>,
    bytes: Vec<u8, MAX_CCS>,
}

impl Ccs {
    /// Reads a CCS as it is sent by value, [`MAX_CCS`] bytes at most: a subject, a kid of any length up to [`MAX_KID`], and
    /// y may be there.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::CredentialType`], [`Error::CredentialTooLong`], [`Error::Point`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let Read { key, kid, bytes } = read_ccs(&mut reader)?;
        reader.end()?;
        let kid = kid.map(Vec::from_slice).transpose().map_err(|_| Error::CredentialType)?;
        Ok(Self { key, kid, bytes: Vec::from_slice(bytes).map_err(|_| Error::CredentialTooLong)? })
    }

    /// The one that a key has here.
    ///
    /// # Errors
    /// None that a key could cause.
    pub fn of(key: &PublicKey) -> Result<Self, Error> {
        Self::parse(&key.ccs())
    }

    /// Its key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Who sends this: the kid has to be this one's, or the key the same.
    pub(super) fn identify(&self, id_cred: IdCred<'_>) -> Result<Identity, Error> {
        match id_cred {
            IdCred::Kid(kid) if self.kid.as_deref() == Some(kid) => Identity::by_reference(kid, self.key, &self.bytes),
            IdCred::Ccs(sent, ccs) if sent == self.key => Identity::by_value(sent, ccs),
            _ => Err(Error::UnknownCredential),
        }
    }
}

/// A peer: its key, the credential bytes that go into the MAC, and how the message refers to them.
pub(super) struct Identity {
    pub(super) key: PublicKey,
    pub(super) credential: Credential,
    pub(super) id_cred: LakersIdCred,
}

impl Identity {
    /// A peer whose kid was found to belong to this key. Its credential is the CCS that such a key has here.
    pub(super) fn by_kid(kid: &[u8], key: PublicKey) -> Result<Self, Error> {
        Self::by_reference(kid, key, &key.ccs())
    }

    fn by_reference(kid: &[u8], key: PublicKey, ccs: &[u8]) -> Result<Self, Error> {
        let kid = BufferKid::new_from_slice(kid).map_err(|_| Error::CredentialType)?;
        let credential = new_credential(ccs, &key)?.with_kid(kid);
        let id_cred = credential.by_kid().map_err(|_| Error::CredentialType)?;
        Ok(Self { key, credential, id_cred })
    }

    /// A peer that sent its credential. The MAC covers these bytes, whatever they hold besides the key.
    pub(super) fn by_value(key: PublicKey, ccs: &[u8]) -> Result<Self, Error> {
        let credential = new_credential(ccs, &key)?;
        let id_cred = credential.by_value().map_err(|_| Error::CredentialTooLong)?;
        Ok(Self { key, credential, id_cred })
    }
}

/// The credential of one of our own keys: 89 bytes, with its kid.
pub(super) fn own_credential(key: &PublicKey) -> Result<Credential, Error> {
    let kid = BufferKid::new_from_slice(&key.kid()).map_err(|_| Error::CredentialType)?;
    Ok(new_credential(&key.ccs(), key)?.with_kid(kid))
}

/// Reads ID_CRED_x as it stands in plaintext_2 and plaintext_3 (RFC 9528 section 3.5.3.2).
pub(super) fn read_id_cred<'a>(reader: &mut Reader<'a>) -> Result<IdCred<'a>, Error> {
    if reader.next_is_map() {
        reader.literal(&[0xa1, KCCS]).map_err(|_| Error::CredentialType)?;
        let ccs = read_ccs(reader)?;
        return Ok(IdCred::Ccs(ccs.key, ccs.bytes));
    }
    let kid = reader.identifier()?;
    if kid.len() > MAX_KID { Err(Error::CredentialType) } else { Ok(IdCred::Kid(kid)) }
}

/// A CCS as it stands in a message.
struct Read<'a> {
    key: PublicKey,
    kid: Option<&'a [u8]>,
    /// All of it.
    bytes: &'a [u8],
}

/// Reads `{? 2: sub, 8: {1: {1: 2, ? 2: kid, -1: 1, -2: x, ? -3: y}}}` (RFC 9528 section 3.5.2), where y is ignored.
fn read_ccs<'a>(reader: &mut Reader<'a>) -> Result<Read<'a>, Error> {
    let start = reader.clone();
    let claims = reader.map()?;
    let has_subject = reader.literal(CCS_SUBJECT).is_ok();
    if has_subject {
        reader.text()?;
    }
    expect(reader, CCS_CNF_COSE_KEY)?;
    let parameters = reader.map()?;
    expect(reader, KEY_TYPE_EC2)?;
    let kid = if reader.literal(KEY_KID).is_ok() { Some(reader.bytes()?) } else { None };
    if kid.is_some_and(|kid| kid.len() > MAX_KID) {
        return Err(Error::CredentialType);
    }
    expect(reader, KEY_CURVE_P256)?;
    expect(reader, KEY_X)?;
    let x = coordinate(reader)?;
    let has_y = reader.literal(KEY_Y).is_ok();
    if has_y {
        coordinate(reader)?;
    }
    let expected_claims = if has_subject { 2 } else { 1 };
    let expected_parameters = match (kid.is_some(), has_y) {
        (false, false) => 3,
        (true, true) => 5,
        _ => 4,
    };
    if (claims, parameters) != (expected_claims, expected_parameters) {
        return Err(Error::CredentialType);
    }

    let bytes = reader.read_since(&start);
    if bytes.len() > MAX_CCS {
        return Err(Error::CredentialTooLong);
    }
    let key = PublicKey::from_x(x).map_err(|_| Error::Point)?;
    Ok(Read { key, kid, bytes })
}

fn expect(reader: &mut Reader<'_>, entry: &[u8]) -> Result<(), Error> {
    reader.literal(entry).map_err(|_| Error::CredentialType)
}

fn coordinate<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8; 32], Error> {
    reader.bytes()?.try_into().map_err(|_| Error::CredentialType)
}

fn new_credential(bytes: &[u8], key: &PublicKey) -> Result<Credential, Error> {
    let bytes = BufferCred::new_from_slice(bytes).map_err(|_| Error::CredentialTooLong)?;
    Ok(Credential::new_ccs(bytes, *key.x()))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use hexlit::hex;

    use super::*;

    // CRED_I of RFC 9529 section 3: sub, one-byte kid, y.
    const FOREIGN: &[u8] = &hex!(
        "a2027734322d35302d33312d46462d45462d33372d33322d333908a101a5010202412b2001215820ac75e9ece3e50bfc8ed60399889522"
        "405c47bf16df96660a41298cb4307f7eb62258206e5de611388a4b8a8211334ac7d37ecb52a387d257e6db3c2a93df21ff3affc8"
    );
    const X: [u8; 32] = hex!("ac75e9ece3e50bfc8ed60399889522405c47bf16df96660a41298cb4307f7eb6");

    fn read(bytes: &[u8]) -> Result<IdCred<'_>, Error> {
        let mut reader = Reader::new(bytes);
        let id_cred = read_id_cred(&mut reader)?;
        reader.end()?;
        Ok(id_cred)
    }

    fn by_value(ccs: &[u8]) -> Vec<u8> {
        [&hex!("a10e"), ccs].concat()
    }

    /// A CCS built from parts: subject, kid, y.
    fn ccs(subject: Option<&str>, kid: Option<&[u8]>, x: &[u8; 32], y: Option<&[u8]>) -> Vec<u8> {
        let head = |major: u8, length: usize| match length as u8 {
            short @ 0..=23 => vec![major << 5 | short],
            long => vec![major << 5 | 24, long],
        };
        let mut bytes = vec![0xa1 + u8::from(subject.is_some())];
        if let Some(subject) = subject {
            bytes.extend([&[2], &head(3, subject.len())[..], subject.as_bytes()].concat());
        }
        bytes.extend([8, 0xa1, 1, 0xa3 + u8::from(kid.is_some()) + u8::from(y.is_some()), 1, 2]);
        if let Some(kid) = kid {
            bytes.extend([&[2], &head(2, kid.len())[..], kid].concat());
        }
        bytes.extend([&[0x20, 1, 0x21, 0x58, 32], &x[..]].concat());
        if let Some(y) = y {
            bytes.extend([&[0x22], &head(2, y.len())[..], y].concat());
        }
        bytes
    }

    #[test]
    fn kids() {
        assert_eq!(read(&hex!("32")), Ok(IdCred::Kid(&hex!("32"))));
        assert_eq!(read(&hex!("420102")), Ok(IdCred::Kid(&hex!("0102"))));
        assert_eq!(read(&[&[0x50], &[7; 16][..]].concat()), Ok(IdCred::Kid(&[7; 16])));
        assert_eq!(read(&[&[0x51], &[7; 17][..]].concat()), Err(Error::CredentialType));
        assert_eq!(read(&hex!("40")), Ok(IdCred::Kid(&[])));
        assert_eq!(read(&hex!("4132")), Err(Error::Malformed));
        assert_eq!(read(&hex!("a1044132")), Err(Error::CredentialType)); // has a short form
        assert_eq!(read(&hex!("a11822820f420102")), Err(Error::CredentialType)); // x5t
    }

    #[test]
    fn foreign_credentials_with_and_without_the_optional_parts() {
        let key = PublicKey::from_x(&X).unwrap();
        assert_eq!(read(&by_value(FOREIGN)), Ok(IdCred::Ccs(key, FOREIGN)));
        for subject in [None, Some(""), Some("test")] {
            for kid in [None, Some(&[][..]), Some(&[1]), Some(&[9; 16])] {
                for y in [None, Some(&[4; 32][..])] {
                    let ccs = ccs(subject, kid, &X, y);
                    assert_eq!(read(&by_value(&ccs)), Ok(IdCred::Ccs(key, &ccs)), "{subject:?} {kid:?} {y:?}");
                }
            }
        }
    }

    #[test]
    fn a_known_peer_comes_by_its_own_kid_or_by_value() {
        let (known, other) = (ccs(Some("x"), Some(&[]), &X, None), ccs(None, Some(&[1]), &X, None));
        let peer = Ccs::parse(&known).unwrap();
        assert_eq!(peer.key().x(), &X);
        // CRED_x is what was known of it, not what such a key has here.
        assert_eq!(peer.identify(IdCred::Kid(&[])).unwrap().credential.bytes.as_slice(), known);
        assert_eq!(peer.identify(IdCred::Kid(&[1])).err(), Some(Error::UnknownCredential));
        assert_eq!(peer.identify(IdCred::Ccs(*peer.key(), &other)).unwrap().credential.bytes.as_slice(), other);
        let nameless = Ccs::parse(&ccs(None, None, &X, None)).unwrap();
        assert_eq!(nameless.identify(IdCred::Kid(&[])).err(), Some(Error::UnknownCredential));
        let key = PublicKey::from_x(&X).unwrap();
        assert!(Ccs::of(&key).unwrap().identify(IdCred::Kid(&key.kid())).is_ok());
        assert_eq!(Ccs::parse(&[&known[..], &[0]].concat()), Err(Error::Malformed));
    }

    #[test]
    fn our_own_is_read_as_sent() {
        let key = PublicKey::from_x(&X).unwrap();
        assert_eq!(read(&by_value(&key.ccs())), Ok(IdCred::Ccs(key, &key.ccs())));
    }

    #[test]
    fn up_to_109_bytes() {
        let without_subject = ccs(None, Some(&[1]), &X, Some(&[4; 32])).len();
        let longest = "s".repeat(MAX_CCS - without_subject - 3);
        let ccs_of = |subject: &str| by_value(&ccs(Some(subject), Some(&[1]), &X, Some(&[4; 32])));
        assert_eq!(ccs_of(&longest).len(), 2 + MAX_CCS);
        assert!(read(&ccs_of(&longest)).is_ok());
        assert_eq!(read(&ccs_of(&std::format!("{longest}s"))), Err(Error::CredentialTooLong));
    }

    #[test]
    fn other_shapes_are_refused() {
        let good = ccs(None, Some(&[1]), &X, None);
        let with = |from: &[u8], to: &[u8]| {
            let at = good.windows(from.len()).position(|window| window == from).unwrap();
            read(&by_value(&[&good[..at], to, &good[at + from.len()..]].concat())).err()
        };
        assert_eq!(with(&hex!("0102"), &hex!("0101")), Some(Error::CredentialType)); // OKP
        assert_eq!(with(&hex!("2001"), &hex!("2002")), Some(Error::CredentialType)); // P-384
        assert_eq!(with(&hex!("0102"), &hex!("380002")), Some(Error::CredentialType)); // a label no encoder writes
        assert_eq!(with(&hex!("08a101a4"), &hex!("08a103a4")), Some(Error::CredentialType)); // cnf by kid
        assert_eq!(with(&hex!("a4010202"), &hex!("a3010202")), Some(Error::CredentialType)); // one entry too many
        assert_eq!(with(&hex!("a4010202"), &hex!("a5010202")), Some(Error::CredentialType)); // one too few
        assert_eq!(with(&hex!("a108"), &hex!("a208")), Some(Error::CredentialType));
        assert_eq!(with(&hex!("a4010202"), &hex!("b80a010202")), Some(Error::Malformed)); // longer head than needed
        assert_eq!(with(&hex!("4101"), &[&[0x51], &[1; 17][..]].concat()), Some(Error::CredentialType));
        assert_eq!(with(&hex!("215820ac"), &hex!("21581fac")), Some(Error::CredentialType)); // x of 31 bytes
        assert_eq!(read(&by_value(&ccs(None, None, &X, Some(&[4; 31])))), Err(Error::CredentialType));
        assert_eq!(read(&by_value(&ccs(None, None, &[0xff; 32], None))), Err(Error::Point));
    }

    #[test]
    fn every_prefix_is_refused() {
        let whole = by_value(FOREIGN);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
    }
}
