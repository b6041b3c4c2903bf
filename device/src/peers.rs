//! The device list: which keys belong to "my devices", as their owner says.
//!
//! Mode `members`: exactly the keys in the list. Mode `revoked`: whoever has a certificate of our owner, unless its key is
//! in the list. Without a list there are no peers.

use cbor_schemas::{DeviceListClaims, IssuerId, Kind, PeersView, Sign1};
use coap_numbers::code;
use protocol::key::PublicKey;

use crate::{
    LIST_KEYS, LIST_LEN,
    problem::{Problem, Said},
    store::List,
};

/// A list that the owner signed, and what of it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checked<'a> {
    /// What it says.
    pub claims: DeviceListClaims<'a>,
    /// What it comes to.
    pub list: List,
}

/// Checks the body of a PUT to `/comm/peers`: a list signed by `owner`.
///
/// Costs one ES256 verification.
///
/// # Errors
/// 4.00 with what is wrong; 4.13 with the largest size (Size1) if it has more keys than fit.
pub(crate) fn check<'a>(body: &'a [u8], owner: &PublicKey) -> Result<Checked<'a>, Problem> {
    macro_rules! rejected {
        ($detail:literal) => {
            problem!(code::BAD_REQUEST, "list rejected", $detail)
        };
    }
    let object =
        Sign1::decode_as(Kind::DeviceList, body).map_err(|_| rejected!("not a signed object, or of another kind"))?;
    let claims = DeviceListClaims::decode(object.payload).map_err(|_| rejected!("malformed claims"))?;
    if claims.issuer != IssuerId(owner.kid()) {
        return Err(rejected!("iss is not the owner"));
    }
    protocol::sign1::verify(owner, &object).map_err(|_| rejected!("the owner did not sign it"))?;
    const TOO_MANY: &Said = &Said::new(code::REQUEST_ENTITY_TOO_LARGE, "too many keys")
        .with_detail("limits in /comm say how many fit")
        .with_size_1();
    let too_many = Problem::with_number(TOO_MANY, LIST_LEN as u16);
    let list = List::of(&claims).ok_or(too_many)?;
    Ok(Checked { claims, list })
}

/// Whether `list` may take the place of `held`: [`Some`] if there is something to be written.
///
/// # Errors
/// 4.09 if it is older, or as old and says something else.
pub(crate) fn supersede(list: List, held: Option<&List>) -> Result<Option<List>, Problem> {
    macro_rules! conflict {
        ($detail:literal) => {
            Err(problem!(code::CONFLICT, "list rejected", $detail))
        };
    }
    match held {
        Some(held) if list.version < held.version => conflict!("a newer version is installed"),
        Some(held) if list.version == held.version => match list.says_the_same(held) {
            true => Ok(None),
            false => conflict!("another list of this version is installed"),
        },
        _ => Ok(Some(list)),
    }
}

/// What `/comm/peers` says.
pub(crate) fn view(held: Option<&List>) -> PeersView {
    PeersView {
        version: held.map(|list| list.version),
        mode: held.map(|list| list.mode),
        held: held.map_or(0, |list| list.count),
        capacity: LIST_KEYS,
    }
}
