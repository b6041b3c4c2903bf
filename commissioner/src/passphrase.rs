//! What a passphrase seals and opens (age, scrypt): the work and the memory that it takes are chosen here, and not by the
//! speed of the machine, since another machine may have to open it.

use age::{DecryptError, Identity, scrypt, secrecy::SecretString};

/// The binary logarithm of scrypt's N. Memory is 1 KiB (128 * r, with r = 8) times N: 64 MiB.
const WORK_FACTOR: u8 = 16;
/// The largest that is accepted: 4 GiB. age chooses a second of work by itself, as this program once did; no machine comes so
/// far in that.
const MAX_WORK_FACTOR: u8 = 22;

/// Why something is not opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another passphrase, or identity.
    #[error("what was given does not open it")]
    Wrong,
    /// It is no such file, or was changed.
    #[error("{0}")]
    Damaged(String),
    /// There is less memory here.
    #[error("a passphrase takes {0} MiB of memory, and this machine does not give that; do it where there is more")]
    Memory(u64),
}

/// What seals by `passphrase`.
///
/// # Errors
/// [`Error::Memory`].
pub fn recipient(passphrase: SecretString) -> Result<scrypt::Recipient, Error> {
    need_memory(WORK_FACTOR)?;
    let mut recipient = scrypt::Recipient::new(passphrase);
    recipient.set_work_factor(WORK_FACTOR);
    Ok(recipient)
}

/// Lets `open` use the identity of `passphrase`: once with what we seal, once more with what others may have sealed with more
/// work.
///
/// # Errors
/// See [`Error`].
pub fn open<T>(
    passphrase: &SecretString,
    open: impl FnMut(&dyn Identity) -> Result<T, DecryptError>,
) -> Result<T, Error> {
    open_where(need_memory, passphrase, open)
}

/// The same where `need_memory` says whether a work factor gets its memory.
fn open_where<T>(
    need_memory: impl Fn(u8) -> Result<(), Error>,
    passphrase: &SecretString,
    mut open: impl FnMut(&dyn Identity) -> Result<T, DecryptError>,
) -> Result<T, Error> {
    let mut attempt = |work_factor| {
        let mut identity = scrypt::Identity::new(passphrase.clone());
        identity.set_max_work_factor(work_factor);
        open(&identity)
    };
    need_memory(WORK_FACTOR)?;
    match attempt(WORK_FACTOR) {
        // Not to be shown: age computes with the speed of this machine then.
        Err(DecryptError::ExcessiveWork { required, .. }) if required <= MAX_WORK_FACTOR => {
            need_memory(required)?;
            attempt(required).map_err(Error::from)
        }
        opened => opened.map_err(Error::from),
    }
}

/// Finds out whether scrypt would get its memory, which asks as if that could not fail.
fn need_memory(work_factor: u8) -> Result<(), Error> {
    let bytes = 1_usize.checked_shl(u32::from(work_factor) + 10);
    match bytes.is_some_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok()) {
        true => Ok(()),
        false => Err(Error::Memory(1 << (work_factor.max(10) - 10))),
    }
}

impl From<DecryptError> for Error {
    fn from(error: DecryptError) -> Self {
        match error {
            DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed | DecryptError::NoMatchingKeys => {
                Self::Wrong
            }
            DecryptError::ExcessiveWork { .. } => {
                Self::Damaged("it asks for more work than anything honest".to_owned())
            }
            other => Self::Damaged(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn passphrase(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    fn sealed(work_factor: Option<u8>) -> Vec<u8> {
        let mut recipient = recipient(passphrase("right")).unwrap();
        if let Some(work_factor) = work_factor {
            recipient.set_work_factor(work_factor);
        }
        age::encrypt(&recipient, b"secret").unwrap()
    }

    fn opened(sealed: &[u8], text: &str) -> Result<Vec<u8>, Error> {
        open(&passphrase(text), |identity| {
            let mut contents = Vec::new();
            age::Decryptor::new(sealed)?.decrypt(std::iter::once(identity))?.read_to_end(&mut contents)?;
            Ok(contents)
        })
    }

    /// The work factor stands at the end of the second line.
    fn work_factor(sealed: &[u8]) -> String {
        let text = String::from_utf8_lossy(sealed);
        text.lines().nth(1).unwrap().rsplit(' ').next().unwrap().to_owned()
    }

    #[test]
    fn the_work_is_the_same_on_every_machine() {
        assert_eq!(work_factor(&sealed(None)), "16");
    }

    #[test]
    fn what_was_sealed_with_other_work_is_opened() {
        for factor in [None, Some(10), Some(17)] {
            let sealed = sealed(factor);
            assert_eq!(opened(&sealed, "right").unwrap(), b"secret", "{factor:?}");
            assert!(matches!(opened(&sealed, "wrong"), Err(Error::Wrong)), "{factor:?}");
        }
    }

    #[test]
    fn what_no_machine_has_is_refused_without_taking_it() {
        need_memory(WORK_FACTOR).unwrap();
        // 1 EiB; and more than a number of bytes can say.
        for (factor, mebibytes) in [(50, 1 << 40), (54, 1 << 44)] {
            let error = need_memory(factor).unwrap_err();
            assert!(matches!(error, Error::Memory(it) if it == mebibytes), "{error}");
        }
    }

    /// scrypt asks for its memory as if that could not fail: it is not begun where there is less.
    #[test]
    fn a_file_that_asks_for_more_memory_than_there_is_is_refused_before_scrypt_begins() {
        let bent = String::from_utf8_lossy(&sealed(Some(10))).replacen(" 10\n", " 22\n", 1);
        let here = |factor| if factor <= 16 { Ok(()) } else { need_memory(50) };
        let mut attempts = 0;
        let opened = open_where(here, &passphrase("right"), |identity| {
            attempts += 1;
            if attempts > 1 {
                return Err(DecryptError::DecryptionFailed);
            }
            age::Decryptor::new(bent.as_bytes())?.decrypt(std::iter::once(identity)).map(drop)
        });
        assert!(matches!(opened, Err(Error::Memory(_))), "{opened:?}");
        assert_eq!(attempts, 1);
        // Where there is not even what we seal with, nothing is tried.
        let opened = open_where(|_| need_memory(50), &passphrase("right"), |_| panic!("it was tried"));
        assert!(matches!(opened, Err::<(), _>(Error::Memory(_))), "{opened:?}");
    }

    /// Nobody computes for hours because a file says so.
    #[test]
    fn too_much_work_is_refused_at_once() {
        let text = String::from_utf8_lossy(&sealed(Some(10))).into_owned();
        for factor in ["23", "63", "99"] {
            let bent = text.replacen(" 10\n", &format!(" {factor}\n"), 1);
            let error = opened(bent.as_bytes(), "right").unwrap_err();
            assert!(matches!(error, Error::Damaged(_)), "{factor}: {error}");
        }
    }
}
