//! Signed objects as everybody reads them: of one kind, in the name of one issuer.

use core::fmt;

use crate::{Error, IssuerId, Kind, Sign1};

/// What a signed object of one kind says.
pub trait Claims<'b>: Sized {
    /// The kind.
    const KIND: Kind;

    /// Decodes the payload.
    ///
    /// # Errors
    /// Those of `decode`, which each claims type has.
    fn read(payload: &'b [u8]) -> Result<Self, Error>;

    /// `iss`.
    fn issuer(&self) -> IssuerId;
}

/// Why a signed object does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is no COSE_Sign1 of a kind that is known.
    NotSigned,
    /// `typ` is another kind.
    OtherKind,
    /// The claims cannot be read.
    Claims,
    /// `iss` is somebody else.
    OtherIssuer,
    /// The signature is not the issuer's.
    OtherSigner,
    /// `sub` is another device.
    OtherDevice,
    /// `cnf` is another key, or another form of it.
    OtherKey,
}

impl Flaw {
    /// Whether the issuer has nothing to do with it.
    pub const fn is_of_others(self) -> bool {
        matches!(self, Self::OtherIssuer | Self::OtherSigner)
    }

    /// What a device says of a certificate in problem details.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::NotSigned => "not a signed object",
            Self::OtherKind => "typ is not that of a device certificate",
            Self::Claims => "malformed claims",
            Self::OtherIssuer => "iss is not the anchor",
            Self::OtherSigner => "the anchor did not sign it",
            Self::OtherDevice => "sub names another device",
            Self::OtherKey => "cnf names another key",
        }
    }
}

impl fmt::Display for Flaw {
    /// What is said to people of a certificate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSigned | Self::OtherKind => "it is no device certificate",
            Self::Claims => "its claims cannot be read",
            Self::OtherIssuer => "another issuer is named in it",
            Self::OtherSigner => "another key signed it",
            Self::OtherDevice => "it is about another device",
            Self::OtherKey => "it is about another key",
        })
    }
}

impl core::error::Error for Flaw {}

/// Reads a signed object in the name of `issuer`. Its signature is not verified: until that is done, all of it is a
/// stranger's.
///
/// # Errors
/// [`Flaw::NotSigned`] to [`Flaw::OtherIssuer`].
pub fn read_signed<'b, C: Claims<'b>>(object: &'b [u8], issuer: IssuerId) -> Result<(Sign1<'b>, C), Flaw> {
    let object = Sign1::decode(object).map_err(|_| Flaw::NotSigned)?;
    if object.kind != C::KIND {
        return Err(Flaw::OtherKind);
    }
    let claims = C::read(object.payload).map_err(|_| Flaw::Claims)?;
    if claims.issuer() == issuer { Ok((object, claims)) } else { Err(Flaw::OtherIssuer) }
}
