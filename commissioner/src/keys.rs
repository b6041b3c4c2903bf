//! Keys in files: private ones in PKCS#8 PEM, readable by their owner alone; issuers' public keys, as they are handed around.
//!
//! The issuer's key signs, the station's key proves who is at the other end of a link; they are two types so that one
//! key never does two jobs.

use std::{
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};
use p256::{
    SecretKey,
    ecdsa::{Signature, SigningKey, signature::Signer},
    elliptic_curve::sec1::ToEncodedPoint,
    pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding},
};
use protocol::key::{PrivateKey, PublicKey};
use rand_core::OsRng;
use zeroize::Zeroizing;

use crate::{
    files, hsm,
    state_dir::{Protection, StateDir},
    text_file::TextFile,
};

/// Longest key file that is read, in bytes; ours have about 240.
const MAX_FILE: u64 = 4096;
/// How much of a file an anchor is looked for in, in bytes.
const MAX_MAIL: u64 = 1 << 20;
/// The mode bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file, and there was one: the registry is there only after it.
    #[error(
        "the key file {0} is missing; your backup has it: put that back into another directory, with `commissioner \
         --state-dir OTHER restore-backup FILE`, and take the key file from there"
    )]
    Missing(PathBuf),
    /// Somebody else may have read it.
    #[error(
        "the key file {path} can be used by others (mode {mode:04o}); run `chmod 600 {path}`, and replace the key if somebody \
         may have read it. Where that changes nothing, as on FAT, exFAT and many shares, modes protect nothing: move the \
         state directory elsewhere; or, if nobody else comes to this one, repeat with --insecure-state-dir"
    )]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The contents are not a P-256 key in PKCS#8 PEM.
    #[error("the key file {0} holds no P-256 private key in PKCS#8 PEM; put it back from your backup")]
    NotAKey(PathBuf),
    /// The operating system refused, or it is no file.
    #[error(
        "cannot read the key file {path}: {source}; see to it that you may read it, or put it back from your backup"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file with the issuer's public key is not what it was.
    #[error("{path}: {source}; put it back from your backup")]
    Anchor {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadAnchor,
    },
    /// A new key file could not be written.
    #[error(transparent)]
    Write(#[from] files::Error),
}

/// Makes a key and writes it to a new file at `path`, durably. An existing file is left alone, and an error.
pub fn create(path: &Path) -> Result<PrivateKey, Error> {
    let key = PrivateKey::generate(&mut OsRng);
    let pem = to_pem(&key).ok_or_else(|| Error::NotAKey(path.to_owned()))?;
    files::create_private(path, pem.as_bytes())?;
    Ok(key)
}

/// Reads the key in the file at `path`. A file that others can read is refused.
pub fn load(path: &Path) -> Result<PrivateKey, Error> {
    load_as(path, Protection::Required)
}

/// The same where others may have access.
pub fn load_as(path: &Path, protection: Protection) -> Result<PrivateKey, Error> {
    from_pem(&read_private(path, protection)?).ok_or_else(|| Error::NotAKey(path.to_owned()))
}

/// Whose state is in `dir`, by its key files: the public key's, where the private one is elsewhere, in an HSM or sealed; else the
/// private one's.
pub fn issuer_of(dir: &StateDir, protection: Protection) -> Result<PublicKey, Error> {
    let anchor = dir.issuer_anchor();
    if !anchor.exists() {
        return Ok(*load_as(&dir.issuer_key(), protection)?.public());
    }
    let pem = match files::read_own(&anchor, MAX_FILE) {
        Ok(pem) => String::from_utf8_lossy(&pem).into_owned(),
        Err(source) => return Err(Error::Read { path: anchor, source }),
    };
    Ok(Anchor::from_pem(&pem).map_err(|source| Error::Anchor { path: anchor, source })?.0)
}

/// A key as PKCS#8 PEM; none for what no key is.
pub fn to_pem(key: &PrivateKey) -> Option<Zeroizing<String>> {
    SecretKey::from_slice(key.as_bytes()).ok()?.to_pkcs8_pem(LineEnding::LF).ok()
}

/// The key in PKCS#8 PEM.
pub fn from_pem(pem: &str) -> Option<PrivateKey> {
    let secret = SecretKey::from_pkcs8_pem(pem).ok()?;
    let scalar = Zeroizing::new(<[u8; 32]>::from(secret.to_bytes()));
    PrivateKey::from_bytes(&scalar).ok()
}

/// An issuer's public key as people hand it around: the x-coordinate in hex, or the name of a file with the key in PEM
/// (SubjectPublicKeyInfo, RFC 5480).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor(pub PublicKey);

/// Why a text names no issuer's key.
#[derive(Debug, thiserror::Error)]
pub enum BadAnchor {
    /// Neither hex nor a file.
    #[error("neither 64 hex digits, as `commissioner issuer show` prints them, nor a file that can be read: {0}")]
    Unreadable(io::Error),
    /// Such as a private key.
    #[error("the file holds no P-256 public key in PEM; `commissioner issuer export` writes one")]
    NotAKey,
    /// No device would take it.
    #[error(
        "an issuer's key has an even y-coordinate, and this one has not; ask for what `commissioner issuer export` writes"
    )]
    OddY,
    /// No point of the curve has this x-coordinate.
    #[error("these 64 hex digits are no key; copy them again")]
    NotOnCurve,
}

impl Anchor {
    /// The key in PEM.
    pub fn to_pem(self) -> Option<String> {
        let point = p256::EncodedPoint::from_affine_coordinates(self.0.x().into(), &self.0.cose_key().y.into(), false);
        p256::PublicKey::from_sec1_bytes(point.as_bytes()).ok()?.to_public_key_pem(LineEnding::LF).ok()
    }

    /// Reads the key in a PEM file, or in a mail with one in it.
    pub fn load(path: &Path) -> Result<Self, BadAnchor> {
        let (file, mut text) = (TextFile::open(path).map_err(BadAnchor::Unreadable)?, Vec::new());
        file.take(MAX_MAIL).read_to_end(&mut text).map_err(BadAnchor::Unreadable)?;
        Self::from_pem(&String::from_utf8_lossy(&text))
    }

    /// The first key in a text. Mail programs quote, indent and join lines; what counts is between the two labels.
    fn from_pem(text: &str) -> Result<Self, BadAnchor> {
        let (_, behind) = text.split_once("-----BEGIN PUBLIC KEY-----").ok_or(BadAnchor::NotAKey)?;
        let (base64, _) = behind.split_once("-----END PUBLIC KEY-----").ok_or(BadAnchor::NotAKey)?;
        let base64: String = base64.chars().filter(|c| !c.is_whitespace() && *c != '>').collect();
        let der = STANDARD.decode(base64).map_err(|_| BadAnchor::NotAKey)?;
        let key = p256::PublicKey::from_public_key_der(&der).map_err(|_| BadAnchor::NotAKey)?;
        let point = key.to_encoded_point(false);
        let x = point.x().ok_or(BadAnchor::NotAKey)?;
        let key = PublicKey::from_x(&(*x).into()).map_err(|_| BadAnchor::NotAKey)?;
        match point.y().is_some_and(|y| y[..] == key.cose_key().y) {
            true => Ok(Self(key)),
            false => Err(BadAnchor::OddY),
        }
    }
}

impl FromStr for Anchor {
    type Err = BadAnchor;

    fn from_str(text: &str) -> Result<Self, BadAnchor> {
        let mut x = [0; 32];
        if hex::decode_to_slice(text, &mut x).is_ok() {
            return PublicKey::from_x(&x).map(Self).map_err(|_| BadAnchor::NotOnCurve);
        }
        Self::load(Path::new(text))
    }
}

/// The key that signs certificates and tokens, by ES256 (RFC 9053 section 2.1).
pub struct IssuerKey {
    signer: Signs,
    public: PublicKey,
}

/// What signs.
enum Signs {
    /// A key in memory.
    Here(Box<SigningKey>),
    /// An HSM.
    There(hsm::Key),
}

impl IssuerKey {
    /// Reads the issuer's key; see [`load`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::new(&load(path)?).ok_or_else(|| Error::NotAKey(path.to_owned()))
    }

    /// An issuer's key for tests and simulations, in memory alone.
    pub fn generate() -> Self {
        loop {
            if let Some(key) = Self::new(&PrivateKey::generate(&mut OsRng)) {
                return key;
            }
        }
    }

    /// The public half: what devices keep as their anchor.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`: 64 bytes, r and s. In memory the same message gets the same signature (RFC 6979), so that an
    /// interrupted run and the one after it sign the same certificate, byte for byte. An HSM signs differently each time,
    /// and what it signed first is kept before it is sent.
    ///
    /// # Errors
    /// Those of the HSM.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], hsm::Error> {
        match &self.signer {
            Signs::Here(key) => {
                let signature: Signature = key.sign(message);
                Ok(signature.to_bytes().into())
            }
            Signs::There(key) => key.sign(message),
        }
    }

    /// The key in a private key that is in memory already.
    pub fn new(key: &PrivateKey) -> Option<Self> {
        let signing = SigningKey::from_slice(key.as_bytes()).ok()?;
        Some(Self { signer: Signs::Here(Box::new(signing)), public: *key.public() })
    }

    /// The key in an HSM.
    pub fn in_hsm(key: hsm::Key) -> Self {
        Self { public: *key.public(), signer: Signs::There(key) }
    }
}

fn read_private(path: &Path, protection: Protection) -> Result<Zeroizing<String>, Error> {
    let read_error = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing(path.to_owned()),
        io::ErrorKind::InvalidData => Error::NotAKey(path.to_owned()),
        _ => Error::Read { path: path.to_owned(), source },
    };
    let mut file = files::open_own(path).map_err(read_error)?;
    let metadata = file.metadata().map_err(read_error)?;
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS != 0 && protection == Protection::Required {
        return Err(Error::NotPrivate { path: path.to_owned(), mode });
    }
    if metadata.len() > MAX_FILE {
        return Err(Error::NotAKey(path.to_owned()));
    }
    // With its final capacity from the start, so that growing leaves no copy behind.
    let mut pem = Zeroizing::new(String::with_capacity(MAX_FILE as usize + 1));
    file.by_ref().take(MAX_FILE).read_to_string(&mut pem).map_err(read_error)?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_key_is_the_same_after_a_restart() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("station.key");
        let made = create(&path).unwrap();
        assert_eq!(load(&path).unwrap().public(), made.public());
        assert_eq!(IssuerKey::load(&path).unwrap().public(), made.public());
        assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert!(create(&path).is_err(), "a key is never overwritten");
        assert_eq!(load(&path).unwrap().public(), made.public());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("issuer.key");
        create(&path).unwrap();
        for mode in [0o640, 0o604, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load(&path).unwrap_err();
            assert!(matches!(error, Error::NotPrivate { mode: seen, .. } if seen == mode), "{error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
            load_as(&path, Protection::Waived).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        load(&path).unwrap();
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("issuer.key");
        assert!(matches!(load(&path), Err(Error::Missing(_))));
        for contents in [&b""[..], b"-----BEGIN PRIVATE KEY-----\n", b"\xff\xfe", &[b'a'; 5000]] {
            fs::write(&path, contents).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(load(&path), Err(Error::NotAKey(_))));
        }
        let error = load(temp.path()).map(drop).unwrap_err();
        assert!(matches!(error, Error::Read { .. }) && error.to_string().contains("a directory"), "{error}");
    }

    #[test]
    fn an_anchor_is_hex_or_a_file() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("issuer.pem");
        let anchor = Anchor(*IssuerKey::generate().public());
        fs::write(&path, anchor.to_pem().unwrap()).unwrap();
        let file = path.to_str().unwrap();
        assert_eq!(file.parse::<Anchor>().unwrap(), anchor);
        assert_eq!(hex::encode(anchor.0.x()).parse::<Anchor>().unwrap(), anchor);
        assert_eq!(hex::encode_upper(anchor.0.x()).parse::<Anchor>().unwrap(), anchor);

        // The same x with the other y is another key to everybody else.
        let even = p256::PublicKey::from_public_key_pem(&anchor.to_pem().unwrap()).unwrap();
        let odd = p256::PublicKey::from_affine(-*even.as_affine()).unwrap();
        fs::write(&path, odd.to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
        assert!(matches!(file.parse::<Anchor>(), Err(BadAnchor::OddY)));
        fs::write(&path, to_pem(&PrivateKey::generate(&mut OsRng)).unwrap()).unwrap();
        assert!(matches!(file.parse::<Anchor>(), Err(BadAnchor::NotAKey)), "a private key is not asked for");
        assert!(matches!("f".repeat(64).parse::<Anchor>(), Err(BadAnchor::NotOnCurve)));
        for text in ["", "abc", &"0".repeat(63), temp.path().join("none").to_str().unwrap()] {
            assert!(matches!(text.parse::<Anchor>(), Err(BadAnchor::Unreadable(_))), "{text}");
        }
    }

    #[test]
    fn an_anchor_is_found_in_what_mail_and_editors_make_of_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("issuer.pem");
        let anchor = Anchor(*IssuerKey::generate().public());
        let pem = anchor.to_pem().unwrap();
        let utf16: Vec<u8> = format!("\u{feff}{pem}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let texts = [
            format!("\u{feff}{pem}"),
            format!("our key:\r\n\r\n{}\r\nregards\r\n", pem.replace('\n', "\r\n")),
            pem.replace('\n', ""),
            pem.replace('\n', " "),
            pem.lines().map(|line| format!("> {line}\n")).collect(),
            format!("  {}", pem.replace('\n', "\n\t")),
        ];
        for text in texts.map(String::into_bytes).into_iter().chain([utf16]) {
            fs::write(&path, &text).unwrap();
            assert_eq!(Anchor::load(&path).unwrap(), anchor, "{}", String::from_utf8_lossy(&text));
        }
        for text in [&pem[..pem.len() - 30], "", &pem.replacen('A', "", 1), &pem.replace("PUBLIC", "PRIVATE")] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Anchor::load(&path), Err(BadAnchor::NotAKey)), "{text}");
        }
    }

    #[test]
    fn signatures_are_deterministic() {
        let key = IssuerKey::generate();
        assert_eq!(key.sign(b"certificate").unwrap(), key.sign(b"certificate").unwrap());
        assert_ne!(key.sign(b"certificate").unwrap(), key.sign(b"certificatf").unwrap());
    }
}
