//! The issuer's key in a hardware security module, by PKCS#11: it signs there, and never leaves.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use age::secrecy::SecretString;
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error as Pkcs11Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
};
use protocol::key::PublicKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{files, state_dir::MAX_KEY_FILE};

/// The curve P-256 as PKCS#11 names it: the DER of its object identifier (RFC 5480).
const P_256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// What stands before the coordinates of a point: a DER octet string of 65 bytes, and the mark of an uncompressed point.
const POINT_HEAD: [u8; 3] = [0x04, 0x41, 0x04];
/// Keys are made until one has an even y, which is every second one.
const ATTEMPTS: u32 = 128;

/// Where the key is: what `issuer.pkcs11` in the state directory says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The PKCS#11 module, a shared library.
    pub module: PathBuf,
    /// The label of the token.
    pub token: String,
    /// The label of the key.
    pub key: String,
}

/// Why the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not known where the key is.
    #[error("{path}: {what}; put it back from your backup")]
    Place {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// No module.
    #[error("cannot load the PKCS#11 module {module}: {source}; is it installed?")]
    Module {
        /// The file.
        module: PathBuf,
        /// What is wrong with it.
        source: Pkcs11Error,
    },
    /// No token.
    #[error("there is no token {0:?}; plug the HSM in, or name another one")]
    NoToken(String),
    /// No key.
    #[error(
        "the token {token:?} has no P-256 key {key:?}, or more than one; it was made by `commissioner init --pkcs11`"
    )]
    NoKey {
        /// The token's label.
        token: String,
        /// The key's label.
        key: String,
    },
    /// The PIN is not right.
    #[error(
        "the token {0:?} does not take this PIN; tokens lock after some wrong ones, so be sure before you try again"
    )]
    WrongPin(String),
    /// There were too many wrong PINs.
    #[error("the PIN of the token {0:?} is locked; its security officer can set a new one")]
    Locked(String),
    /// A key that others made.
    #[error(
        "the key {0:?} in the token has an odd y-coordinate, and an issuer's has an even one; name a key that does not exist \
         yet, and it is made"
    )]
    OddY(String),
    /// The key is not the one that the registry belongs to.
    #[error(
        "the key in the token is not this issuer's; put the token and the state directory together that belong together"
    )]
    OtherKey,
    /// Something else.
    #[error("the HSM failed: {0}; nothing was signed")]
    Failed(#[from] Pkcs11Error),
}

/// A key in a token that is unlocked.
pub struct Key {
    session: Mutex<Session>,
    handle: ObjectHandle,
    public: PublicKey,
}

impl Key {
    /// Opens the key at `place`.
    pub fn open(place: &Place, pin: SecretString) -> Result<Self, Error> {
        let session = place.login(pin)?;
        let handle = place.find(&session)?.ok_or_else(|| place.no_key())?;
        let public = place.public(&session)?.ok_or_else(|| Error::OddY(place.key.clone()))?;
        Ok(Self { session: Mutex::new(session), handle, public })
    }

    /// Opens the key at `place`, or makes one there.
    pub fn open_or_create(place: &Place, pin: SecretString) -> Result<Self, Error> {
        let session = place.login(pin)?;
        if place.find(&session)?.is_none() {
            place.create(&session)?;
        }
        let handle = place.find(&session)?.ok_or_else(|| place.no_key())?;
        let public = place.public(&session)?.ok_or_else(|| Error::OddY(place.key.clone()))?;
        Ok(Self { session: Mutex::new(session), handle, public })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message` by ES256. Other than with a key in a file, each signature is another one: HSMs use random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], Error> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let signature = session.sign(&Mechanism::Ecdsa, self.handle, &Sha256::digest(message))?;
        signature.try_into().map_err(|_| Error::Failed(Pkcs11Error::InvalidValue))
    }
}

impl Place {
    /// Reads what `issuer.pkcs11` says.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |what: String| Error::Place { path: path.to_owned(), what };
        let text = files::read_own(path, MAX_KEY_FILE).map_err(|error| unreadable(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))
    }

    fn no_key(&self) -> Error {
        Error::NoKey { token: self.token.clone(), key: self.key.clone() }
    }

    fn login(&self, pin: SecretString) -> Result<Session, Error> {
        let module = |source| Error::Module { module: self.module.clone(), source };
        let context = Pkcs11::new(&self.module).map_err(module)?;
        context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(module)?;
        let has_label = |slot| context.get_token_info(slot).is_ok_and(|token| token.label() == self.token);
        let slot = context.get_slots_with_token()?.into_iter().find(|slot| has_label(*slot));
        let session = context.open_rw_session(slot.ok_or_else(|| Error::NoToken(self.token.clone()))?)?;
        session.login(UserType::User, Some(&pin)).map_err(|error| self.not_logged_in(error))?;
        Ok(session)
    }

    fn not_logged_in(&self, error: Pkcs11Error) -> Error {
        match error {
            Pkcs11Error::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid, _) => {
                Error::WrongPin(self.token.clone())
            }
            Pkcs11Error::Pkcs11(RvError::PinLocked, _) => Error::Locked(self.token.clone()),
            other => Error::Failed(other),
        }
    }

    fn template(&self, class: ObjectClass) -> [Attribute; 3] {
        [Attribute::Class(class), Attribute::KeyType(KeyType::EC), Attribute::Label(self.key.clone().into())]
    }

    /// The private key, if there is exactly one.
    fn find(&self, session: &Session) -> Result<Option<ObjectHandle>, Error> {
        match session.find_objects(&self.template(ObjectClass::PRIVATE_KEY))?[..] {
            [] => Ok(None),
            [key] => Ok(Some(key)),
            _ => Err(self.no_key()),
        }
    }

    /// The public key; none if its y is odd.
    fn public(&self, session: &Session) -> Result<Option<PublicKey>, Error> {
        let [object] = session.find_objects(&self.template(ObjectClass::PUBLIC_KEY))?[..] else {
            return Err(self.no_key());
        };
        let attributes = session.get_attributes(object, &[AttributeType::EcParams, AttributeType::EcPoint])?;
        let (mut curve, mut point) = (None, None);
        for attribute in attributes {
            match attribute {
                Attribute::EcParams(params) => curve = Some(params),
                Attribute::EcPoint(bytes) => point = Some(bytes),
                _ => {}
            }
        }
        let coordinates = point.as_deref().and_then(|point| point.strip_prefix(&POINT_HEAD));
        let (Some(coordinates), Some(true)) = (coordinates, curve.map(|curve| curve == P_256)) else {
            return Err(self.no_key());
        };
        let (x, y) = coordinates.split_at_checked(32).ok_or_else(|| self.no_key())?;
        let key = x.try_into().ok().and_then(|x| PublicKey::from_x(x).ok()).ok_or_else(|| self.no_key())?;
        Ok((key.cose_key().y == *y).then_some(key))
    }

    /// Makes a key that stays in the token.
    fn create(&self, session: &Session) -> Result<(), Error> {
        let label = || Attribute::Label(self.key.clone().into());
        let public = [Attribute::Token(true), Attribute::EcParams(P_256.to_vec()), Attribute::Verify(true), label()];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            label(),
        ];
        for _ in 0..ATTEMPTS {
            let (public, private) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
            if self.public(session)?.is_some() {
                return Ok(());
            }
            session.destroy_object(private)?;
            session.destroy_object(public)?;
        }
        Err(Error::Failed(Pkcs11Error::InvalidValue))
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    /// SoftHSM never locks a PIN, so this is not seen from outside.
    #[test]
    fn a_locked_token_is_said_to_be_locked() {
        let place = Place { module: "module.so".into(), token: "factory".into(), key: "commissioner".into() };
        for (error, words) in [
            (RvError::PinLocked, "is locked; its security officer"),
            (RvError::PinIncorrect, "does not take this PIN"),
            (RvError::PinLenRange, "does not take this PIN"),
            (RvError::DeviceRemoved, "nothing was signed"),
        ] {
            let error = place.not_logged_in(Pkcs11Error::Pkcs11(error, Function::Login));
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
