//! Which error of the library is which exit code.

use commissioner::{
    client, commission, deed, discover, distribute, escrow, files, hsm, issuer, keys, link, registry, session,
    state_dir, station, visit, voucher,
};

use super::{CommandError, ExitCode};

impl From<state_dir::Error> for CommandError {
    fn from(error: state_dir::Error) -> Self {
        use state_dir::Error;
        let exit = match error {
            Error::Missing(_)
            | Error::NotADirectory(_)
            | Error::NotText(_)
            | Error::WritableByOthers { .. }
            | Error::Unprotected(_)
            | Error::OfAnother { .. }
            | Error::NoLocks(_)
            | Error::NoHome => ExitCode::Usage,
            Error::Lost { .. } => ExitCode::Conflict,
            Error::File(error) => return error.into(),
            Error::Io { .. } => ExitCode::Internal,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<files::Error> for CommandError {
    fn from(error: files::Error) -> Self {
        Self::unwritten(&error, error.to_string())
    }
}

impl From<keys::Error> for CommandError {
    fn from(error: keys::Error) -> Self {
        use keys::Error;
        match error {
            Error::Write(error) => error.into(),
            Error::NotPrivate { .. } | Error::Anchor { .. } => Self::usage(error.to_string()),
            Error::Missing(_) => Self::new(ExitCode::Conflict, error.to_string()),
            Error::NotAKey(_) | Error::Read { .. } => Self::internal(error),
        }
    }
}

impl From<issuer::Error> for CommandError {
    fn from(error: issuer::Error) -> Self {
        let exit = match error {
            issuer::Error::OtherIssuer { .. } => ExitCode::Conflict,
            issuer::Error::Elsewhere(_) => ExitCode::Usage,
            issuer::Error::Hsm(error) => return error.into(),
            issuer::Error::Claims(_) | issuer::Error::Envelope(_) => ExitCode::Internal,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<hsm::Error> for CommandError {
    fn from(error: hsm::Error) -> Self {
        use hsm::Error;
        let exit = match error {
            Error::Place { .. } | Error::Module { .. } | Error::NoKey { .. } | Error::OddY(_) => ExitCode::Usage,
            Error::NoToken(_) => ExitCode::NoDevice,
            Error::WrongPin(_) | Error::Locked(_) => ExitCode::Refused,
            Error::OtherKey => ExitCode::Conflict,
            Error::Failed(_) => ExitCode::Internal,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<registry::Conflict> for CommandError {
    fn from(conflict: registry::Conflict) -> Self {
        Self::new(ExitCode::Conflict, conflict.to_string())
    }
}

impl From<registry::Error> for CommandError {
    fn from(error: registry::Error) -> Self {
        use registry::Error;
        let message = error.to_string();
        let exit = match error {
            Error::StateDir(error) => return error.into(),
            Error::Ambiguous { candidates, .. } | Error::TooShort { candidates, .. } => {
                return Self::new(ExitCode::NoDevice, message).with_candidates(candidates);
            }
            Error::NotInitialised(_) | Error::Newer { .. } | Error::NotImportable { .. } | Error::NoStation { .. } => {
                ExitCode::Usage
            }
            Error::UnknownDevice(_) => ExitCode::NoDevice,
            Error::WrongReceipt(_) => ExitCode::Refused,
            Error::NicknameTaken { .. }
            | Error::NicknameMisleads { .. }
            | Error::Conflict(_)
            | Error::ClockBehind { .. }
            | Error::ClockAhead { .. }
            | Error::NewerList { .. }
            | Error::ImpossibleList { .. }
            | Error::NotIssuable { .. }
            | Error::NoVoucher { .. }
            | Error::NotRequested { .. }
            | Error::UnknownKey { .. }
            | Error::NoCopy(_)
            | Error::OtherRegistry(_)
            | Error::UnknownCertificate(_)
            | Error::OutOfOrder { .. }
            | Error::Damaged { .. }
            | Error::OtherKey { .. }
            | Error::Unmerged(_)
            | Error::Migration(_)
            | Error::Corrupt(_) => ExitCode::Conflict,
            Error::Database(_)
            | Error::ReadOnly(_)
            | Error::Tampered { .. }
            | Error::TamperedImport { .. }
            | Error::Rewritten { .. }
            | Error::BadSeal(_) => ExitCode::Internal,
        };
        Self::new(exit, message)
    }
}

impl From<link::Error> for CommandError {
    fn from(error: link::Error) -> Self {
        use link::Error;
        let exit = if matches!(error, Error::Missing { .. }) { ExitCode::NoDevice } else { ExitCode::Link };
        Self::new(exit, error.to_string())
    }
}

impl From<client::Error> for CommandError {
    fn from(error: client::Error) -> Self {
        use client::Error;
        let exit = match error {
            Error::Link(error) => return error.into(),
            Error::NoAnswer { .. } | Error::Reset | Error::Changed | Error::TooSlow => ExitCode::Link,
            Error::Malformed(_) | Error::TooLarge => ExitCode::Refused,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<client::Refusal> for CommandError {
    /// That of a device.
    fn from(refusal: client::Refusal) -> Self {
        Self::new(ExitCode::Refused, format!("the device refused with {refusal}"))
    }
}

impl From<session::Error> for CommandError {
    fn from(error: session::Error) -> Self {
        use session::Error;
        match error {
            Error::Client(error) => error.into(),
            error @ Error::Busy => Self::new(ExitCode::Link, error.to_string()),
            error => Self::new(ExitCode::Refused, error.to_string()),
        }
    }
}

impl From<discover::Error> for CommandError {
    fn from(error: discover::Error) -> Self {
        Self::new(ExitCode::NoDevice, error.to_string()).with_candidates(error.candidates)
    }
}

impl From<visit::Error> for CommandError {
    fn from(error: visit::Error) -> Self {
        use visit::Error;
        let exit = match error {
            Error::Client(error) => return error.into(),
            Error::Session(error) => return error.into(),
            Error::NoDevice(_) => ExitCode::NoDevice,
            Error::Refused(_)
            | Error::Malformed(_)
            | Error::Credential(_)
            | Error::NoKey
            | Error::Minimal
            | Error::NotMinimal
            | Error::NoOwnerSlot
            | Error::Differs(_)
            | Error::TokenRefused(_) => ExitCode::Refused,
            Error::TokensBusy { .. } | Error::KeptFrom { .. } => ExitCode::Link,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<station::Error> for CommandError {
    fn from(error: station::Error) -> Self {
        use station::Error;
        let exit = match error {
            Error::Visit(error) => return error.into(),
            Error::Registry(error) => return (*error).into(),
            Error::Issuer(error) => return error.into(),
            Error::GivenAway(..) => ExitCode::Refused,
            Error::NoToken | Error::TokenExpired(_) => ExitCode::Usage,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<deed::Error> for CommandError {
    fn from(error: deed::Error) -> Self {
        use deed::Error;
        match error {
            Error::Visit(error) => error.into(),
            Error::Registry(error) => error.into(),
            Error::NoRoom { .. } | Error::Unrecorded { .. } => Self::new(ExitCode::Internal, error.to_string()),
        }
    }
}

impl From<commission::Error> for CommandError {
    fn from(error: commission::Error) -> Self {
        use commission::Error;
        let message = error.to_string();
        match error {
            Error::Visit(error) => error.into(),
            Error::Station(error) => error.into(),
            Error::Registry(error) => error.into(),
            Error::Deed(error) => error.into(),
            Error::Issuer(error) => error.into(),
            Error::Escrow(error) => error.into(),
            Error::Voucher(unfit) => unfit.into(),
            Error::Unfinished { source, .. } => Self::new(Self::from(*source).exit(), message),
            Error::NoRequest => Self::usage(message),
            Error::Revoked { .. } => Self::new(ExitCode::Conflict, message),
            Error::Fault
            | Error::Owned
            | Error::OtherFactory
            | Error::NotMadeHere
            | Error::NeedsVoucher
            | Error::Unproven
            | Error::NoOwnerSlot
            | Error::ForeignCertificate(_)
            | Error::Refused(_)
            | Error::NoReset(_)
            | Error::NoRekey(_)
            | Error::SameKey
            | Error::NotTakenBack(_)
            | Error::NoInjection(_)
            | Error::OtherKey
            | Error::Malformed(_)
            | Error::WrongReceipt(_) => Self::new(ExitCode::Refused, message),
        }
    }
}

impl From<distribute::Error> for CommandError {
    fn from(error: distribute::Error) -> Self {
        use distribute::Error;
        match error {
            Error::Visit(error) => error.into(),
            Error::Station(error) => error.into(),
            Error::Registry(error) => error.into(),
            Error::Deed(error) => error.into(),
            Error::Issuer(error) => error.into(),
            Error::NoList => Self::usage(error.to_string()),
            Error::TooLong { .. } | Error::Refused(_) | Error::Malformed(_) | Error::OtherList => {
                Self::new(ExitCode::Refused, error.to_string())
            }
        }
    }
}

impl From<escrow::Error> for CommandError {
    fn from(error: escrow::Error) -> Self {
        use escrow::Error;
        let exit = match error {
            Error::Locked => ExitCode::Refused,
            Error::Seal(_) | Error::Memory(_) | Error::Damaged(_) => ExitCode::Internal,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<voucher::Error> for CommandError {
    fn from(error: voucher::Error) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<voucher::Unfit> for CommandError {
    fn from(unfit: voucher::Unfit) -> Self {
        let exit = match unfit {
            voucher::Unfit::OtherDevice(_) | voucher::Unfit::OtherOwner(_) => ExitCode::Usage,
            voucher::Unfit::Expired { .. } | voucher::Unfit::Used { .. } => ExitCode::Refused,
        };
        Self::new(exit, unfit.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cbor_schemas::Flaw;
    use commissioner::client::{Code, Refusal};
    use commissioner::registry::Conflict;
    use protocol::key::KeyError;

    use super::*;
    use crate::testing;

    fn refusal() -> Refusal {
        Refusal { code: Code::BAD_REQUEST, title: None, detail: None }
    }

    fn own_key() -> registry::Error {
        let (device, key) = (testing::id("a").to_string(), testing::key().thumbprint().to_string());
        registry::Error::Conflict(Conflict::OwnKey { device, key, whose: "issuer" })
    }

    /// What a device may do to us, and what scripts learn of it.
    #[test]
    fn what_devices_do_has_the_codes_of_the_contract() {
        let malformed = || cbor_schemas::DeviceInfo::decode(b"junk").unwrap_err();
        let refused: [CommandError; 16] = [
            commission::Error::WrongReceipt("the key").into(),
            commission::Error::Malformed(malformed()).into(),
            commission::Error::ForeignCertificate(Flaw::OtherIssuer).into(),
            commission::Error::Owned.into(),
            commission::Error::SameKey.into(),
            commission::Error::OtherKey.into(),
            commission::Error::Refused(refusal()).into(),
            commission::Error::Visit(visit::Error::Malformed(malformed())).into(),
            commission::Error::Visit(visit::Error::Credential(KeyError::OtherY)).into(),
            session::Error::CredentialRefused(refusal()).into(),
            visit::Error::Differs(vec!["key"]).into(),
            visit::Error::Malformed(malformed()).into(),
            visit::Error::TokenRefused(refusal()).into(),
            client::Error::Malformed("token").into(),
            hsm::Error::Locked("factory".to_owned()).into(),
            hsm::Error::WrongPin("factory".to_owned()).into(),
        ];
        let link: [CommandError; 5] = [
            session::Error::Busy.into(),
            visit::Error::Session(session::Error::Busy).into(),
            visit::Error::KeptFrom { waited: Duration::from_secs(120) }.into(),
            visit::Error::TokensBusy { waited: Duration::from_secs(40), refusal: refusal() }.into(),
            visit::Error::Client(client::Error::NoAnswer { waited: Duration::ZERO, doubts: String::new() }).into(),
        ];
        let conflict: [CommandError; 2] = [own_key().into(), commission::Error::Registry(own_key()).into()];
        let no_device: [CommandError; 1] = [visit::Error::NoDevice(refusal()).into()];
        let usage: [CommandError; 2] =
            [station::Error::NoToken.into(), commission::Error::Station(station::Error::NoToken).into()];
        for (exit, errors) in [
            (ExitCode::Refused, &refused[..]),
            (ExitCode::Link, &link),
            (ExitCode::Conflict, &conflict),
            (ExitCode::NoDevice, &no_device),
            (ExitCode::Usage, &usage),
        ] {
            for error in errors {
                assert_eq!(error.exit(), exit, "{error}");
            }
        }
    }
}
