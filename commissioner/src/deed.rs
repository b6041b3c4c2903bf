//! What a device does for good. Whatever asks for it goes through here.
//!
//! ```text
//! Deed::ask       there is room to write down what comes of it, or the device is not asked
//! Asked::record   it is written down; or the user learns what the device did, and how the next run finds out
//! ```

use crate::client::{Request, Response};
use crate::registry::{self, Registry, Room};
use crate::visit::{self, Visit};

/// What a device is asked to do, and cannot undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// To make a new key.
    Rekey,
    /// To take a key that was made here.
    Injection,
    /// To take our anchor, and then its former key.
    Restore,
    /// To empty its owner slot.
    Reset,
    /// To store a certificate.
    Installation,
    /// To store a device list.
    List,
}

/// Why a deed was not done, or is not on record.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device was not asked.
    #[error(
        "there is no room to write down what would come of it, so the device was not asked to {}: {fault}; make room on the \
         disk of the state directory, then {}",
        deed.words().wish,
        deed.words().wish_again
    )]
    NoRoom {
        /// What it was to do.
        deed: Deed,
        /// What the database said.
        fault: String,
    },
    /// The device did it.
    #[error(
        "the device {} {what}, and that could not be written down: {fault}; make room on the disk of the state directory, or \
         mend what else is wrong with it, then {}",
        deed.words().done,
        deed.words().next
    )]
    Unrecorded {
        /// What it did.
        deed: Deed,
        /// The key, certificate or list.
        what: String,
        /// What the database said.
        fault: String,
    },
    /// The device did not answer.
    #[error(transparent)]
    Visit(#[from] visit::Error),
    /// The registry objects, or it could not be asked.
    #[error(transparent)]
    Registry(#[from] registry::Error),
}

/// A deed that there is room for.
#[derive(Debug)]
pub struct Ready(Asked);

impl Ready {
    /// Asks the device at the end of `visit`.
    ///
    /// # Errors
    /// [`Error::Visit`]: whether it did it is not known.
    pub async fn ask(self, visit: &mut Visit<'_>, request: &Request) -> Result<(Response, Asked), Error> {
        Ok((visit.request(request).await?, self.0))
    }
}

/// A device that answered to a request for a deed.
#[must_use = "what the device did has to be written down"]
#[derive(Debug)]
pub struct Asked {
    deed: Deed,
    _room: Room,
}

impl Deed {
    /// Asks the device at the end of `visit`: the answer, and what it is to be written down with.
    ///
    /// # Errors
    /// [`Error::NoRoom`]: the device was not asked. [`Error::Visit`]: whether it did it is not known.
    pub async fn ask(
        self,
        visit: &mut Visit<'_>,
        request: &Request,
        registry: &Registry,
    ) -> Result<(Response, Asked), Error> {
        self.ready(registry).await?.ask(visit, request).await
    }

    /// There is room for it, for who has something to say before the device is asked.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub async fn ready(self, registry: &Registry) -> Result<Ready, Error> {
        let room = registry.reserve().await.map_err(|error| match failure(&error) {
            Some(fault) => Error::NoRoom { deed: self, fault },
            None => error.into(),
        })?;
        Ok(Ready(Asked { deed: self, _room: room }))
    }

    fn words(self) -> Words {
        const AGAIN: &str = "repeat the command";
        let words = |wish, done, next| Words { wish, done, next, wish_again: AGAIN };
        match self {
            Self::Rekey => words(
                "make a new key",
                "made the new key",
                "commission it with --accept-new-key: it shows up with that key",
            ),
            Self::Injection => words(
                "take the key that was made for it",
                "took the key that was made for it,",
                "repeat the command: the device proves that key, and the sealed copy of it is kept",
            ),
            Self::Restore => {
                words("take its former key", "took its former key", "repeat the command: the device proves that key")
            }
            Self::Reset => words(
                "empty its owner slot",
                "emptied its owner slot, under the key",
                "repeat the command: it finds the slot empty, and finishes",
            ),
            Self::Installation => Words {
                wish_again: "commission it",
                ..words(
                    "store its certificate",
                    "stored the certificate",
                    "commission it: the certificate is read back from the device",
                )
            },
            Self::List => words(
                "store the list",
                "stored the list of version",
                "repeat the command: the device says which list it holds",
            ),
        }
    }
}

/// How a deed is spoken of.
struct Words {
    /// The device is asked to ...
    wish: &'static str,
    /// What follows if it was not asked.
    wish_again: &'static str,
    /// The device ... this one.
    done: &'static str,
    /// What follows if it did it, and how that is found out.
    next: &'static str,
}

impl Asked {
    /// The device did it: lets `change` write that down. `what` names the key, the certificate or the list.
    ///
    /// # Errors
    /// [`Error::Unrecorded`]; [`Error::Registry`] for what the registry has against it.
    pub async fn record<T>(
        self,
        what: impl ToString,
        change: impl Future<Output = Result<T, registry::Error>>,
    ) -> Result<T, Error> {
        change.await.map_err(|error| match failure(&error) {
            Some(fault) => Error::Unrecorded { deed: self.deed, what: what.to_string(), fault },
            None => error.into(),
        })
    }
}

/// What the database said, if it failed; the registry may also have something against it.
fn failure(error: &registry::Error) -> Option<String> {
    match error {
        registry::Error::Database(source) | registry::Error::ReadOnly(source) => Some(source.to_string()),
        registry::Error::Damaged { what, .. } => Some(what.clone()),
        _ => None,
    }
}
