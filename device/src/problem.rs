//! Why a request was refused, as Concise Problem Details (RFC 9290).

use cbor_schemas::ProblemDetails;
use coap_numbers::code;

use crate::lifecycle::Refusal;

/// A refusal: a response code, and two short texts for the person at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// CoAP response code, 4.xx or 5.xx.
    pub code: u8,
    /// What is wrong, the same text at every occurrence.
    pub title: &'static str,
    /// What to do about it, or what exactly was expected.
    pub detail: Option<&'static str>,
    /// The largest body that fits, for 4.13 (Size1, RFC 7959 section 4).
    pub size_1: Option<u16>,
    /// Seconds after which to try again, for 4.29 and 5.03 (Max-Age).
    pub max_age: Option<u8>,
}

impl Problem {
    /// A refusal with `code` and `title`.
    pub const fn new(code: u8, title: &'static str) -> Self {
        Problem { code, title, detail: None, size_1: None, max_age: None }
    }

    /// The same problem with a detail.
    pub const fn with_detail(self, detail: &'static str) -> Self {
        Problem { detail: Some(detail), ..self }
    }

    /// The one answer to everyone not authenticated: 4.01, and nothing that tells why.
    pub const UNAUTHORIZED: Problem = Problem::new(code::UNAUTHORIZED, "not authorized");

    /// Anybody could have sent this from there: 4.01, with an Echo option to send back (RFC 9175).
    pub const PROVE_ADDRESS: Problem =
        Problem::new(code::UNAUTHORIZED, "prove your address").with_detail("repeat the request with this Echo option");

    /// A body that is not what the resource takes: 4.00.
    pub const fn malformed(detail: &'static str) -> Self {
        Problem::new(code::BAD_REQUEST, "malformed request").with_detail(detail)
    }

    /// What this firmware does not have: 5.01.
    pub const NOT_SUPPORTED: Problem = Problem::new(code::NOT_IMPLEMENTED, "not supported by this firmware");

    /// A commit that could not be read back: 5.00. The request may be repeated.
    pub const STORAGE: Problem = Problem::new(code::INTERNAL_SERVER_ERROR, "storage failed")
        .with_detail("nothing was confirmed; read /comm, then repeat the request");

    /// Our own answers fit, or the firmware is wrong: 5.00.
    pub const DOES_NOT_FIT: Problem = Problem::new(code::INTERNAL_SERVER_ERROR, "the answer does not fit");

    /// Writes the problem details.
    ///
    /// # Errors
    /// `out` is too small (at most 200 bytes are needed).
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, cbor_schemas::Error> {
        ProblemDetails { title: Some(self.title), detail: self.detail }.encode(out)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthorized => Problem::UNAUTHORIZED,
            Refusal::Forbidden => Problem::new(code::FORBIDDEN, "forbidden")
                .with_detail("this key may not do that; a station token of the owner may"),
            Refusal::WrongState => Problem::new(code::CONFLICT, "not in this state")
                .with_detail("read /comm for the slots and the claim policy"),
            Refusal::Fault => Problem::new(code::SERVICE_UNAVAILABLE, "storage is damaged")
                .with_detail("nothing is accepted until the device is erased and provisioned anew"),
            Refusal::NeedsVoucher => Problem::new(code::CONFLICT, "a voucher is needed")
                .with_detail("by the factory anchor, for this device and the claim counter in /comm"),
            Refusal::NeedsPresence => Problem::new(code::CONFLICT, "somebody has to be at the device")
                .with_detail("hold its button down for 3 seconds, then repeat this within 30"),
            Refusal::WrittenOnce => Problem::new(code::CONFLICT, "written once")
                .with_detail("a newer certificate of the same anchor is all that can follow"),
            Refusal::Exhausted => {
                Problem::new(code::CONFLICT, "counter exhausted").with_detail("erase the device and provision it anew")
            }
        }
    }
}
