//! Why a request was refused, as Concise Problem Details (RFC 9290).

use cbor_schemas::ProblemDetails;
use coap_numbers::code;

use crate::lifecycle::Refusal;

/// A refusal: what is said to the person at the other end, and a number where that takes one. A reference, since refusals are
/// handed up through many functions. [`problem!`](crate::problem!) makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    said: &'static Said,
    number: u16,
}

/// What a refusal says: a constant.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    code: u8,
    title: &'static str,
    detail: Option<&'static str>,
    number_is: Number,
}

/// What the number of a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Nothing,
    /// Size1 (RFC 7959 section 4).
    Size1,
    /// Max-Age.
    MaxAge,
}

impl Said {
    /// A CoAP response code, 4.xx or 5.xx, and what is wrong: the same text at every occurrence.
    pub const fn new(code: u8, title: &'static str) -> Self {
        Said { code, title, detail: None, number_is: Number::Nothing }
    }

    /// The same with what to do about it, or what exactly was expected.
    #[must_use]
    pub const fn with_detail(self, detail: &'static str) -> Self {
        Said { detail: Some(detail), ..self }
    }

    /// The same for 4.13: its number is the largest body that fits, in bytes (Size1, RFC 7959 section 4).
    #[must_use]
    pub const fn with_size_1(self) -> Self {
        Said { number_is: Number::Size1, ..self }
    }

    /// The same for 4.29 and 5.03: its number is seconds after which to try again (Max-Age).
    #[must_use]
    pub const fn with_max_age(self) -> Self {
        Said { number_is: Number::MaxAge, ..self }
    }
}

/// A [`Problem`] of constants: a CoAP response code, 4.xx or 5.xx; what is wrong; and, if there is more to say, what to do
/// about it, or what exactly was expected.
#[macro_export]
macro_rules! problem {
    ($code:expr, $title:expr $(, $detail:expr)? $(,)?) => {{
        const SAID: &$crate::Said = &$crate::Said::new($code, $title)$(.with_detail($detail))?;
        $crate::Problem::of(SAID)
    }};
}

impl Problem {
    /// A refusal that says this.
    pub const fn of(said: &'static Said) -> Self {
        Problem { said, number: 0 }
    }

    /// A refusal whose text takes this number.
    pub const fn with_number(said: &'static Said, number: u16) -> Self {
        Problem { said, number }
    }

    /// CoAP response code, 4.xx or 5.xx.
    pub const fn code(&self) -> u8 {
        self.said.code
    }

    /// The largest body that fits, in bytes, for 4.13.
    pub const fn size_1(&self) -> Option<u16> {
        match self.said.number_is {
            Number::Size1 => Some(self.number),
            _ => None,
        }
    }

    /// Seconds after which to try again, for 4.29 and 5.03 (Max-Age).
    pub const fn max_age(&self) -> Option<u16> {
        match self.said.number_is {
            Number::MaxAge => Some(self.number),
            _ => None,
        }
    }

    /// The one answer to everyone not authenticated: 4.01, and nothing that tells why.
    pub const UNAUTHORIZED: Problem = problem!(code::UNAUTHORIZED, "not authorized");

    /// Anybody could have sent this from there: 4.01, with an Echo option to send back (RFC 9175).
    pub const PROVE_ADDRESS: Problem =
        problem!(code::UNAUTHORIZED, "prove your address", "repeat the request with this Echo option");

    /// What this firmware does not have: 5.01.
    pub const NOT_SUPPORTED: Problem = problem!(code::NOT_IMPLEMENTED, "not supported by this firmware");

    /// A commit that could not be read back: 5.00. The request may be repeated.
    pub const STORAGE: Problem = problem!(
        code::INTERNAL_SERVER_ERROR,
        "storage failed",
        "nothing was confirmed; read /comm, then repeat the request"
    );

    /// Our own answers fit, or the firmware is wrong: 5.00.
    pub const DOES_NOT_FIT: Problem = problem!(code::INTERNAL_SERVER_ERROR, "the answer does not fit");

    /// Writes the problem details.
    ///
    /// # Errors
    /// `out` is too small (at most 200 bytes are needed).
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, cbor_schemas::Error> {
        ProblemDetails { title: Some(self.said.title), detail: self.said.detail }.encode(out)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthorized => Problem::UNAUTHORIZED,
            Refusal::Forbidden => {
                problem!(code::FORBIDDEN, "forbidden", "this key may not do that; a station token of the owner may")
            }
            Refusal::WrongState => {
                problem!(code::CONFLICT, "not in this state", "read /comm for the slots and the claim policy")
            }
            Refusal::Fault => problem!(
                code::SERVICE_UNAVAILABLE,
                "storage is damaged",
                "nothing is accepted until the device is erased and provisioned anew"
            ),
            Refusal::NeedsVoucher => problem!(
                code::CONFLICT,
                "a voucher is needed",
                "by the factory anchor, for this device and the claim counter in /comm"
            ),
            Refusal::NeedsPresence => problem!(
                code::CONFLICT,
                "somebody has to be at the device",
                "hold its button down for 3 seconds, then repeat this within 30"
            ),
            Refusal::WrittenOnce => problem!(
                code::CONFLICT,
                "written once",
                "a newer certificate of the same anchor is all that can follow"
            ),
            Refusal::Exhausted => {
                problem!(code::CONFLICT, "counter exhausted", "erase the device and provision it anew")
            }
        }
    }
}
