//! Copies of devices' keys that were made here, each sealed by age: to a passphrase, or to a recipient whose identity is kept
//! somewhere else. Inside is the key as PKCS#8 PEM, so that age and OpenSSL can do without this program.

use std::{
    io::{self, BufReader, Read},
    iter,
    path::Path,
    str::FromStr,
};

use age::{Decryptor, EncryptError, Identity, IdentityFile, secrecy::SecretString, x25519};
use protocol::key::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::{files::Input, keys, passphrase};

/// The longest key inside of a copy, in bytes; PKCS#8 PEM has about 240.
const MAX_PEM: u64 = 4096;

/// Why a key cannot be sealed, or a copy not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Sealing failed.
    #[error("the key cannot be sealed: {0}; nothing was changed")]
    Seal(#[from] EncryptError),
    /// The passphrase or the identity is another one.
    #[error("what was given does not open the sealed copy of the key; nothing was changed")]
    Locked,
    /// There is less memory here.
    #[error("this takes {0} MiB of memory, and this machine does not give that; do it on another one")]
    Memory(u64),
    /// What was opened is not the key.
    #[error("the sealed copy of the key is damaged ({0}); put the registry back from your backup")]
    Damaged(String),
}

/// What a copy is sealed to.
#[derive(Clone)]
pub enum SealTo {
    /// Whoever knows it opens the copy.
    Passphrase(SecretString),
    /// Whoever has its identity opens the copy.
    Recipient(x25519::Recipient),
}

/// What opens a copy.
pub enum OpenWith {
    /// The passphrase.
    Passphrase(SecretString),
    /// Identities, one of them the recipient's.
    Identities(Vec<Box<dyn Identity + Send + Sync>>),
}

/// The recipient that age writes as `age1...`.
///
/// # Errors
/// What is wrong, for people.
pub fn recipient(text: &str) -> Result<x25519::Recipient, String> {
    x25519::Recipient::from_str(text)
        .map_err(|_| "a recipient of age begins with age1; `age-keygen` makes one".to_owned())
}

/// The identities in a file as `age-keygen` writes it.
///
/// # Errors
/// Those of reading it.
pub fn identities(path: &Path) -> io::Result<OpenWith> {
    let file = IdentityFile::from_buffer(BufReader::new(Input::open(path)?))?;
    file.into_identities().map(OpenWith::Identities).map_err(io::Error::other)
}

impl SealTo {
    /// Seals a key. With a passphrase that takes some time and 64 MiB, on purpose.
    ///
    /// # Errors
    /// [`Error::Seal`].
    pub fn seal(&self, key: &PrivateKey) -> Result<Vec<u8>, Error> {
        let pem = keys::to_pem(key).ok_or_else(|| Error::Damaged("no key".to_owned()))?;
        let sealed = match self {
            Self::Passphrase(words) => age::encrypt(&passphrase::recipient(words.clone())?, pem.as_bytes()),
            Self::Recipient(recipient) => age::encrypt(recipient, pem.as_bytes()),
        };
        Ok(sealed?)
    }
}

impl OpenWith {
    /// Opens the sealed copy of the key that `public` belongs to.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::Damaged`].
    pub fn open(self, sealed: &[u8], public: &PublicKey) -> Result<PrivateKey, Error> {
        let decrypt = |identities: &mut dyn Iterator<Item = &dyn Identity>| {
            Decryptor::new_buffered(sealed).and_then(|sealed| sealed.decrypt(identities))
        };
        let opened = match self {
            Self::Passphrase(words) => passphrase::open(&words, |identity| decrypt(&mut iter::once(identity))),
            Self::Identities(identities) => {
                decrypt(&mut identities.iter().map(|identity| &**identity as &dyn Identity))
                    .map_err(passphrase::Error::from)
            }
        };
        let opened = opened?;
        // With its final capacity from the start, so that growing leaves no copy behind.
        let mut pem = Zeroizing::new(String::with_capacity(MAX_PEM as usize + 1));
        opened.take(MAX_PEM).read_to_string(&mut pem).map_err(|error| Error::Damaged(error.to_string()))?;
        let key = keys::from_pem(&pem).ok_or_else(|| Error::Damaged("no key is in it".to_owned()))?;
        match key.public() == public {
            true => Ok(key),
            false => Err(Error::Damaged("another key is in it".to_owned())),
        }
    }
}

impl From<passphrase::Error> for Error {
    fn from(error: passphrase::Error) -> Self {
        match error {
            passphrase::Error::Wrong => Self::Locked,
            passphrase::Error::Damaged(what) => Self::Damaged(what),
            passphrase::Error::Memory(mebibytes) => Self::Memory(mebibytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret;
    use rand_core::OsRng;

    use super::*;

    fn passphrase(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    #[test]
    fn a_copy_is_opened_by_what_it_was_sealed_to_and_by_nothing_else() {
        let key = PrivateKey::generate(&mut OsRng);
        let (identity, other) = (x25519::Identity::generate(), x25519::Identity::generate());
        let opened_by = |identity: &x25519::Identity| OpenWith::Identities(vec![Box::new(identity.clone())]);
        let sealed = SealTo::Recipient(identity.to_public()).seal(&key).unwrap();
        assert!(!sealed.windows(32).any(|window| window == key.as_bytes()));
        assert_eq!(opened_by(&identity).open(&sealed, key.public()).unwrap().as_bytes(), key.as_bytes());
        assert!(matches!(opened_by(&other).open(&sealed, key.public()), Err(Error::Locked)));
        assert!(matches!(OpenWith::Passphrase(passphrase("x")).open(&sealed, key.public()), Err(Error::Locked)));

        let sealed = SealTo::Passphrase(passphrase("right")).seal(&key).unwrap();
        let opened = OpenWith::Passphrase(passphrase("right")).open(&sealed, key.public()).unwrap();
        assert_eq!(opened.public(), key.public());
        assert!(matches!(OpenWith::Passphrase(passphrase("wrong")).open(&sealed, key.public()), Err(Error::Locked)));
        assert!(matches!(opened_by(&identity).open(&sealed, key.public()), Err(Error::Locked)));
    }

    #[test]
    fn a_copy_of_another_key_or_a_bent_one_is_refused() {
        let (key, other) = (PrivateKey::generate(&mut OsRng), PrivateKey::generate(&mut OsRng));
        let identity = x25519::Identity::generate();
        let open = |sealed: &[u8]| OpenWith::Identities(vec![Box::new(identity.clone())]).open(sealed, key.public());
        let seal = SealTo::Recipient(identity.to_public());
        assert!(matches!(open(&seal.seal(&other).unwrap()), Err(Error::Damaged(_))));
        let sealed = seal.seal(&key).unwrap();
        for bent in [0, sealed.len() / 2, sealed.len() - 1] {
            let mut sealed = sealed.clone();
            sealed[bent] ^= 1;
            assert!(open(&sealed).is_err(), "byte {bent}");
        }
        assert!(open(&sealed[..sealed.len() - 1]).is_err());
        assert!(open(b"").is_err());
    }

    #[test]
    fn recipients_and_identities_are_as_age_writes_them() {
        let identity = x25519::Identity::generate();
        assert!(recipient(&identity.to_public().to_string()).is_ok());
        assert!(recipient("age1nobody").unwrap_err().contains("age-keygen"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("# created: today\n{}\n", identity.to_string().expose_secret());
        std::fs::write(file.path(), text).unwrap();
        let key = PrivateKey::generate(&mut OsRng);
        let sealed = SealTo::Recipient(identity.to_public()).seal(&key).unwrap();
        assert!(identities(file.path()).unwrap().open(&sealed, key.public()).is_ok());
        std::fs::write(file.path(), "no identity").unwrap();
        assert!(identities(file.path()).is_err());
    }
}
