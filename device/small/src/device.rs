//! The device: what it answers, and what it takes.
//!
//! | path | method | |
//! |---|---|---|
//! | `/.well-known/core` | GET | discovery (RFC 6690) |
//! | `/comm` | GET | [`DeviceInfo`] |
//! | `/comm/factory` | GET | what the slot holds |
//! | `/comm/factory` | PUT | an anchor with the certificate that it signed about this device and its key; once |
//!
//! By itself a [`Device`] has the minimal profile. Everything is for anyone then: whoever has the cable has the device. Every
//! request may be repeated without harm, so nothing is remembered of the ones before (RFC 7252 section 4.5). With EDHOC
//! before it, it is a [`ProvingDevice`](crate::ProvingDevice), which writes for those alone who have a session.

use core::fmt;

use cbor_schemas::{
    ClaimPolicy, Condition, CoseKey, DeviceCertificateClaims, DeviceId, DeviceInfo, Error, Features, Flaw, IssuerId,
    KeyOrigin, Kind, Limits, ProblemDetails, Profile, Receipt, Sign1, SlotContents, SlotRequest, SlotState, SlotView,
    Watermarks, read_signed, report,
};
use coap_message::{MinimalWritableMessage, ReadableMessage, WithSortedOptions};
use coap_numbers::{code, option};
use embedded_storage::Storage;
use protocol::coap::{
    Endpoint, Exchange, Incoming, NoSpace, Writer, is_path, option_refusal, uint_option, unsupported_option,
};
use protocol::key::{PrivateKey, PublicKey};
use protocol::sign1;
use rand_core::CryptoRngCore;
use sha2::{Digest as _, Sha256};

use crate::{
    DATAGRAM_LEN,
    store::{CONTENTS_LEN, Opened, Store},
};

/// Content formats (IANA "CoAP Content-Formats").
pub(crate) mod content_format {
    pub(crate) const LINK_FORMAT: u16 = 40;
    pub(crate) const CBOR: u16 = 60;
    pub(crate) const EDHOC: u16 = 64;
    pub(crate) const PROBLEM_DETAILS: u16 = 257;
}

const CORE: &str = "/.well-known/core";
const INFO: &str = "/comm";
const FACTORY: &str = "/comm/factory";
const LINKS: &[u8] = b"</comm>;rt=\"commissioning\";ct=60";
const LINKS_PROVING: &[u8] = b"</.well-known/edhoc>;rt=\"core.edhoc\",</comm>;rt=\"commissioning\";ct=60";
/// Critical options that are understood.
pub(crate) const OPTIONS: &[u16] =
    &[option::URI_HOST, option::URI_PORT, option::URI_PATH, option::URI_QUERY, option::ACCEPT];
/// The longest body of a response: what `/comm/factory` shows.
pub(crate) const BODY_LEN: usize = SlotView::MAX_LEN;

/// What the firmware knows of its product.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// The device's name.
    pub device: DeviceId,
    /// Name and version of the firmware, at most [`DeviceInfo::MAX_FIRMWARE`] bytes.
    pub firmware: &'static str,
    /// Milliseconds for one scalar multiplication: how long the commissioner waits follows from that.
    pub operation_ms: u32,
}

/// A device of the minimal profile.
pub struct Device<S> {
    config: Config,
    profile: Profile,
    store: Store<S>,
    /// Remembers nothing.
    endpoint: Endpoint<(), 0, 0>,
    nonce: [u8; 8],
    /// None if its storage is at fault.
    key: Option<PrivateKey>,
    factory: Option<Held>,
}

/// What is known of the contents of the factory slot.
#[derive(Clone, Copy)]
struct Held {
    digest: [u8; 32],
    issued_at: u64,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// May read.
    Reader,
    /// May write, too.
    Writer,
}

/// A response: its code, and how long its body is.
pub(crate) struct Answer {
    pub(crate) code: u8,
    pub(crate) content_format: u16,
    pub(crate) len: usize,
}

/// A refusal.
pub(crate) struct Problem {
    code: u8,
    title: &'static str,
    detail: Option<&'static str>,
}

impl<S: Storage> Device<S> {
    /// Starts the device. At its first start it makes its key, which takes a scalar multiplication.
    pub fn start(config: Config, storage: S, mut rng: impl CryptoRngCore) -> Self {
        Self::start_as(Profile::Minimal, config, storage, &mut rng)
    }

    #[inline(never)]
    pub(crate) fn start_as(profile: Profile, config: Config, storage: S, rng: &mut impl CryptoRngCore) -> Self {
        let mut store = Store::new(storage);
        let mut nonce = [0; 8];
        rng.fill_bytes(&mut nonce);
        let key = match store.open() {
            Ok(Opened::Ready(key)) => Some(key),
            Ok(Opened::FirstStart) => {
                let key = PrivateKey::generate(rng);
                store.set_key(&key).is_ok().then_some(key)
            }
            Ok(Opened::Fault) | Err(_) => None,
        };
        let endpoint = Endpoint::new(rng.next_u32() as u16);
        let mut device = Device { config, profile, store, endpoint, nonce, key, factory: None };
        if device.look_at_factory().is_err() {
            device.key = None;
        }
        device
    }

    /// The device's key; none if its storage is at fault.
    pub(crate) fn key(&self) -> Option<&PrivateKey> {
        self.key.as_ref()
    }

    pub(crate) fn factory_state(&self) -> SlotState {
        if self.factory.is_some() { SlotState::Certified } else { SlotState::Empty }
    }

    /// What the device says of itself.
    pub fn info(&self) -> DeviceInfo<'static> {
        DeviceInfo {
            device: self.config.device,
            credential: self.key.as_ref().map(|key| key.public().cose_key()),
            generation: 1,
            key_origin: KeyOrigin::Generated,
            factory: self.factory_state(),
            owner: SlotState::Empty,
            claim_policy: ClaimPolicy::Open,
            claim_counter: 0,
            watermarks: Watermarks { factory: self.factory.map(|held| held.issued_at), owner: None },
            nonce: self.nonce,
            firmware: self.config.firmware,
            profile: self.profile,
            limits: Limits { datagram: DATAGRAM_LEN as u16, body: DATAGRAM_LEN as u16, list_keys: 0 },
            operation_ms: self.config.operation_ms,
            condition: if self.key.is_some() { Condition::Ok } else { Condition::Fault },
            features: Features::NONE,
        }
    }

    /// Writes the report line, without a line ending.
    ///
    /// # Errors
    /// `out` refuses text.
    pub fn report(&self, out: &mut impl fmt::Write) -> Result<(), Error> {
        report::write(&self.info(), out)
    }

    /// Answers a datagram into `out`; returns the length of the answer. `None` if there is none to give.
    ///
    /// A certificate takes two scalar multiplications, and is in the EEPROM before it is answered.
    pub fn handle(&mut self, datagram: &[u8], out: &mut [u8; DATAGRAM_LEN]) -> Option<usize> {
        if datagram.len() > DATAGRAM_LEN {
            return refuse_length(self.endpoint.refuse((), datagram), out);
        }
        let (exchange, request) = match self.endpoint.receive((), datagram, 0) {
            Incoming::Request(exchange, request) => (exchange, request),
            Incoming::Reply(reset) => {
                out.get_mut(..reset.len())?.copy_from_slice(reset);
                return Some(reset.len());
            }
            Incoming::Acknowledged(_) | Incoming::Reset(_) | Incoming::Nothing => return None,
        };
        let mut body = [0; BODY_LEN];
        let answer = self.answer(&request.message(), Caller::Writer, &mut body);
        write(&exchange, &answer, body.get(..answer.len)?, out).ok()
    }

    /// Answers a request.
    #[inline(never)]
    pub(crate) fn answer<R>(&mut self, request: &R, caller: Caller, body: &mut [u8; BODY_LEN]) -> Answer
    where
        R: ReadableMessage + WithSortedOptions,
    {
        self.serve(request, caller, body).unwrap_or_else(|problem| problem.answer(body))
    }

    fn serve<R>(&mut self, request: &R, caller: Caller, body: &mut [u8; BODY_LEN]) -> Result<Answer, Problem>
    where
        R: ReadableMessage + WithSortedOptions,
    {
        if let Some(unsupported) = unsupported_option(request, OPTIONS) {
            return Err(Problem::option(unsupported));
        }
        let paths =
            [(CORE, content_format::LINK_FORMAT), (INFO, content_format::CBOR), (FACTORY, content_format::CBOR)];
        let found = paths.into_iter().find(|(path, _)| is_path(path, request));
        let (path, answers) = found.ok_or(Problem::new(code::NOT_FOUND, "no such resource"))?;
        if uint_option(request, option::ACCEPT).is_some_and(|wanted| wanted != answers) {
            return Err(Problem::new(code::NOT_ACCEPTABLE, "not available in this content format"));
        }
        let len = match (path, request.code().into()) {
            (CORE, code::GET) => {
                let links = if self.profile == Profile::Full { LINKS_PROVING } else { LINKS };
                body.get_mut(..links.len()).ok_or(Problem::DOES_NOT_FIT)?.copy_from_slice(links);
                links.len()
            }
            (INFO, code::GET) => self.show_info(body)?,
            (FACTORY, code::GET) => self.show_factory(body)?,
            (FACTORY, code::PUT) => {
                if uint_option(request, option::CONTENT_FORMAT).is_some_and(|format| format != content_format::CBOR) {
                    return Err(Problem::new(code::UNSUPPORTED_CONTENT_FORMAT, "wrong content format"));
                }
                if caller != Caller::Writer {
                    return Err(Problem::UNAUTHORIZED);
                }
                let len = self.write_factory(request.payload(), body)?;
                return Ok(Answer { code: code::CHANGED, content_format: answers, len });
            }
            _ => return Err(Problem::new(code::METHOD_NOT_ALLOWED, "no such method here")),
        };
        Ok(Answer { code: code::CONTENT, content_format: answers, len })
    }

    #[inline(never)]
    fn show_info(&self, body: &mut [u8; BODY_LEN]) -> Result<usize, Problem> {
        Ok(self.info().encode(body)?)
    }

    #[inline(never)]
    fn show_factory(&mut self, body: &mut [u8; BODY_LEN]) -> Result<usize, Problem> {
        let mut contents = [0; CONTENTS_LEN];
        let held = match &self.key {
            Some(_) => self.store.factory(&mut contents).map_err(|_| Problem::STORAGE)?,
            None => None,
        };
        let held = held.map(SlotContents::decode).transpose().map_err(|_| Problem::STORAGE)?;
        let view = SlotView {
            state: self.factory_state(),
            anchor: held.map(|held| held.anchor),
            certificate: held.and_then(|held| held.certificate),
        };
        Ok(view.encode(body)?)
    }

    #[inline(never)]
    fn write_factory(&mut self, request: &[u8], receipt: &mut [u8; BODY_LEN]) -> Result<usize, Problem> {
        let own_key = self.key.as_ref().ok_or(Problem::FAULT)?.public().cose_key();
        let SlotRequest { anchor, certificate, voucher } =
            SlotRequest::decode(request).map_err(|_| Problem::malformed("not an anchor and a certificate"))?;
        if voucher.is_some() {
            return Err(Problem::malformed("vouchers are for the owner slot"));
        }
        let contents = SlotContents { anchor, certificate };
        match self.factory {
            // Again, because the answer got lost. What it takes was checked then.
            Some(held) if held.digest == digest(&contents)? => {}
            Some(_) => return Err(Problem::WRITTEN_ONCE),
            None => {
                let certificate = certificate.ok_or(Problem::malformed("the certificate is missing"))?;
                self.verify(&anchor, certificate, &own_key)?;
                self.keep(&contents)?;
                self.look_at_factory()?;
            }
        }
        let held = self.factory.ok_or(Problem::STORAGE)?;
        Ok(Receipt { device: own_key.x, claim_counter: 0, generation: 1, digest: held.digest }.encode(receipt)?)
    }

    #[inline(never)]
    fn keep(&mut self, contents: &SlotContents<'_>) -> Result<(), Problem> {
        let mut encoded = [0; CONTENTS_LEN];
        let len = contents.encode(&mut encoded)?;
        self.store.set_factory(encoded.get(..len).unwrap_or_default()).map_err(|_| Problem::STORAGE)
    }

    /// Whether `anchor` certified this device and its key.
    fn verify(&mut self, anchor: &CoseKey, certificate: &[u8], own_key: &CoseKey) -> Result<(), Problem> {
        let key = PublicKey::from_cose(anchor)
            .map_err(|_| Problem::malformed("the anchor is not a key as issuers make them"))?;
        if anchor.x == own_key.x {
            return Err(Problem::malformed("the anchor is the device's own key"));
        }
        let is_certified = || {
            let (object, claims) = read_signed::<DeviceCertificateClaims>(certificate, IssuerId(anchor.kid))?;
            claims.check_subject(&self.config.device, own_key)?;
            sign1::verify(&key, &object).map_err(|_| Flaw::OtherSigner)
        };
        is_certified().map_err(|flaw| Problem {
            detail: Some(flaw.detail()),
            ..Problem::new(code::BAD_REQUEST, "certificate rejected")
        })
    }

    /// Reads what the factory slot holds.
    fn look_at_factory(&mut self) -> Result<(), Problem> {
        if self.key.is_none() {
            return Ok(());
        }
        let mut contents = [0; CONTENTS_LEN];
        let Some(bytes) = self.store.factory(&mut contents).map_err(|_| Problem::STORAGE)? else { return Ok(()) };
        let certificate = SlotContents::decode(bytes)?.certificate.ok_or(Problem::STORAGE)?;
        let object = Sign1::decode_as(Kind::DeviceCertificate, certificate)?;
        let issued_at = DeviceCertificateClaims::decode(object.payload)?.issued_at;
        self.factory = Some(Held { digest: Sha256::digest(bytes).into(), issued_at });
        Ok(())
    }
}

impl Problem {
    pub(crate) const fn new(code: u8, title: &'static str) -> Self {
        Problem { code, title, detail: None }
    }

    const fn malformed(detail: &'static str) -> Self {
        Problem { code: code::BAD_REQUEST, title: "malformed request", detail: Some(detail) }
    }

    /// A critical option that is not understood.
    pub(crate) fn option(unsupported: u16) -> Self {
        Problem::new(option_refusal(unsupported), "unsupported critical option")
    }

    pub(crate) const TOO_LONG: Problem = Problem::new(code::REQUEST_ENTITY_TOO_LARGE, "the datagram is too long");
    /// The one answer to everyone not authenticated.
    pub(crate) const UNAUTHORIZED: Problem = Problem::new(code::UNAUTHORIZED, "not authorized");
    const DOES_NOT_FIT: Problem = Problem::new(code::INTERNAL_SERVER_ERROR, "the answer does not fit");
    const FAULT: Problem = Problem {
        code: code::SERVICE_UNAVAILABLE,
        title: "storage is damaged",
        detail: Some("nothing is accepted until the device is erased and provisioned anew"),
    };
    const STORAGE: Problem = Problem {
        code: code::INTERNAL_SERVER_ERROR,
        title: "storage failed",
        detail: Some("nothing was confirmed; read /comm, then repeat the request"),
    };
    const WRITTEN_ONCE: Problem = Problem {
        code: code::CONFLICT,
        title: "written once",
        detail: Some("the device keeps the certificate that it has until it is erased"),
    };

    /// Writes the problem details.
    pub(crate) fn answer(&self, body: &mut [u8; BODY_LEN]) -> Answer {
        let details = ProblemDetails { title: Some(self.title), detail: self.detail };
        // Without room for the details the code alone would have to tell; there is.
        let len = details.encode(body).unwrap_or(0);
        Answer { code: self.code, content_format: content_format::PROBLEM_DETAILS, len }
    }
}

#[inline(never)]
fn digest(contents: &SlotContents<'_>) -> Result<[u8; 32], Problem> {
    let mut encoded = [0; CONTENTS_LEN];
    let len = contents.encode(&mut encoded)?;
    Ok(Sha256::digest(encoded.get(..len).unwrap_or_default()).into())
}

/// Our own answers fit, and what is in storage was checked before it was written.
impl From<Error> for Problem {
    fn from(_: Error) -> Self {
        Problem::DOES_NOT_FIT
    }
}

/// Puts a response together that is not protected.
pub(crate) fn write(exchange: &Exchange<()>, answer: &Answer, body: &[u8], out: &mut [u8]) -> Result<usize, NoSpace> {
    let mut writer = Writer::new(out, &exchange.response_header(answer.code))?;
    let mut message = writer.message();
    fill(&mut message, answer, body)?;
    let len = message.finish().0;
    writer.finish(len)
}

/// What a datagram is answered that is longer than may be.
#[inline(never)]
pub(crate) fn refuse_length(exchange: Option<Exchange<()>>, out: &mut [u8; DATAGRAM_LEN]) -> Option<usize> {
    let mut body = [0; BODY_LEN];
    let answer = Problem::TOO_LONG.answer(&mut body);
    write(&exchange?, &answer, body.get(..answer.len)?, out).ok()
}

/// Fills in a response.
pub(crate) fn fill<M: MinimalWritableMessage>(message: &mut M, answer: &Answer, body: &[u8]) -> Result<(), NoSpace> {
    use coap_message::{Code as _, OptionNumber as _};

    let (Ok(code), Ok(content_format)) = (M::Code::new(answer.code), M::OptionNumber::new(option::CONTENT_FORMAT))
    else {
        return Err(NoSpace);
    };
    message.set_code(code);
    if body.is_empty() {
        return Ok(());
    }
    message.add_option_uint(content_format, answer.content_format).map_err(|_| NoSpace)?;
    message.set_payload(body).map_err(|_| NoSpace)
}

#[cfg(test)]
mod tests;
