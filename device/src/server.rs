//! Datagrams to requests and back: duplicates, EDHOC, OSCORE, block-wise bodies. What a request does is [`Device`]'s.

use core::ops::DerefMut;

use cbor_schemas::Method;
use coap_message::{MessageOption, ReadableMessage, WithSortedOptions};
use coap_numbers::{code, option};
use embedded_storage::nor_flash::NorFlash;
use protocol::{
    coap::{
        Assembled, Assembly, Block, BlockError, BlockSize, Datagram, EchoKey, Endpoint, Exchange, Incoming, Writer,
    },
    coap::{amplifies, option_refusal, uint_option, unsupported_option},
    conversation::sessions::Sessions,
    edhoc::{self, Established, Responder},
    oscore::{self, OptionValue},
};
use rand_core::CryptoRngCore;
use zeroize::Zeroize as _;

use crate::{
    BODY_LEN, DATAGRAM_LEN,
    answer::Answer,
    device::{Board, Caller, Device},
    lifecycle::Role,
    problem::Problem,
    resources::{self, Resource, Target, content_format},
    sources::Sources,
    transport::{Service, Source},
};

/// Blocks that we ask for, and send unless asked otherwise.
const BLOCK: BlockSize = BlockSize::MAX;
/// What OSCORE and the headers around a block take at the most, so that a block still fits a datagram.
const _: () = assert!(DATAGRAM_LEN >= 1024 + 96, "a block does not fit a datagram");

/// What a [`Server`] remembers of peers with addresses of type `A`: about 6 kB, and 1.2 kB for each of the `CACHE` answers
/// that are kept for duplicates. On a microcontroller it belongs into a static, for it is too large to be moved about.
pub struct Memory<A, const CACHE: usize> {
    endpoint: Endpoint<A, CACHE, DATAGRAM_LEN>,
    sessions: Sessions<A>,
    sources: Sources<A>,
    echo: EchoKey,
    /// The one body that is being gathered, by session and resource.
    body: Assembly<(u32, Resource), BODY_LEN>,
    answer: Answer,
}

impl<A: Copy + Eq, const CACHE: usize> Memory<A, CACHE> {
    /// Remembers nothing yet.
    pub const fn new() -> Self {
        Memory {
            endpoint: Endpoint::new(0),
            sessions: Sessions::new(),
            sources: Sources::new(),
            echo: EchoKey::new([0; 16]),
            body: Assembly::new(),
            answer: Answer::new(),
        }
    }
}

impl<A: Copy + Eq, const CACHE: usize> Default for Memory<A, CACHE> {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a request came from, and when.
#[derive(Clone, Copy)]
struct Origin<A> {
    from: A,
    /// Whoever sent it gets what is sent there.
    is_proved: bool,
    now: u64,
}

/// Serves a [`Device`]. `M` is a [`Memory`], wherever that is: a `&'static mut` or a `Box`.
pub struct Server<M, F, R, B> {
    device: Device<F, R, B>,
    memory: M,
}

impl<M, A, F, R, B, const CACHE: usize> Server<M, F, R, B>
where
    M: DerefMut<Target = Memory<A, CACHE>>,
    A: Source,
    F: NorFlash,
    R: CryptoRngCore,
    B: Board,
{
    /// Serves `device`, with a memory that is new.
    pub fn new(mut device: Device<F, R, B>, mut memory: M) -> Self {
        memory.endpoint.set_next_message_id(device.rng().next_u32() as u16);
        let mut secret = [0; 16];
        device.rng().fill_bytes(&mut secret);
        memory.echo = EchoKey::new(secret);
        Server { device, memory }
    }

    /// The device.
    pub fn device(&self) -> &Device<F, R, B> {
        &self.device
    }

    /// The device, to be asked for what takes a look into the flash.
    pub fn device_mut(&mut self) -> &mut Device<F, R, B> {
        &mut self.device
    }

    fn respond(&mut self, exchange: &Exchange<A>, datagram: &mut [u8], now: u64, out: &mut [u8]) -> Option<usize> {
        let received = datagram.len();
        let parsed = Datagram::parse(datagram).ok()?;
        let message = parsed.message();
        let from = exchange.peer;
        let is_proved = from.is_line() || self.memory.echo.proves(&message, &from, now);
        let mut origin = Origin { from, is_proved, now };
        let mut requested = None;
        if !message.options().any(|option| option.number() == option::OSCORE) {
            requested = self.respond_plain(&origin, &message);
            // By these a device is found, and they are sent no farther than over its own link.
            let entry = resources::find(&message).map(|entry| entry.resource);
            origin.is_proved |= matches!(entry, Some(Resource::Core | Resource::Info));
        } else {
            match OptionValue::of(&message) {
                Err(error) => self.memory.answer.set_problem(&problem_of(error)),
                Ok(option) => {
                    let is_combined = message.options().any(|option| option.number() == option::EDHOC);
                    let payload_start = datagram.len().checked_sub(parsed.payload_length())?;
                    let payload = datagram.get_mut(payload_start..)?;
                    if let Ok(len) = self.respond_protected(exchange, &option, is_combined, payload, &origin, out) {
                        return Some(len);
                    }
                }
            }
        }
        self.write_bounded(exchange, requested, received, &origin, out)
    }

    /// Writes a plain answer. It is not much longer than the request, unless that came from who gets the answer: else we could
    /// be made to flood somebody (RFC 9175 section 2.4).
    fn write_bounded(
        &mut self,
        exchange: &Exchange<A>,
        requested: Option<Block>,
        received: usize,
        origin: &Origin<A>,
        out: &mut [u8],
    ) -> Option<usize> {
        let len = self.write_plain(exchange, requested, out)?;
        if origin.is_proved || !amplifies(received, len) {
            return Some(len);
        }
        if exchange.request.code == code::GET && self.memory.answer.is_success() {
            self.memory.answer.set(code::UNAUTHORIZED);
            self.ask_for_echo(origin);
            let len = self.write_plain(exchange, None, out)?;
            if !amplifies(received, len) {
                return Some(len);
            }
        }
        self.memory.answer.strip();
        self.write_plain(exchange, None, out)
    }

    /// Puts the answer to a request without security together. Returns the block that was asked for.
    fn respond_plain<Q>(&mut self, origin: &Origin<A>, request: &Q) -> Option<Block>
    where
        Q: ReadableMessage + WithSortedOptions,
    {
        let is_edhoc = resources::find(request).is_some_and(|entry| entry.resource == Resource::Edhoc)
            && request.code().into() == code::POST;
        let caller = Caller::ANYONE;
        let served = match is_edhoc {
            true => self.edhoc(origin, request),
            false => self.serve(request, &caller, origin),
        };
        self.refuse(served, origin);
        requested_block(request)
    }

    /// Turns the answer into a refusal where the request is refused.
    fn refuse(&mut self, served: Result<(), Problem>, origin: &Origin<A>) {
        let Err(problem) = served else { return };
        self.memory.answer.set_problem(&problem);
        if problem == Problem::PROVE_ADDRESS {
            self.ask_for_echo(origin);
        }
    }

    fn ask_for_echo(&mut self, origin: &Origin<A>) {
        let echo = self.memory.echo.value(&origin.from, origin.now);
        self.memory.answer.set_echo(echo);
    }

    /// Answers under OSCORE; the context is that of an earlier handshake, or of the message_3 in the same request.
    /// [`Unprotected`] where there is no context to answer under: the answer is to be sent plain.
    fn respond_protected(
        &mut self,
        exchange: &Exchange<A>,
        option: &OptionValue,
        is_combined: bool,
        payload: &mut [u8],
        origin: &Origin<A>,
        out: &mut [u8],
    ) -> Result<usize, Unprotected> {
        let kid = option.kid.ok_or(oscore::Error::BadOption).map_err(|error| self.plain_problem(error))?;
        let ciphertext = match is_combined {
            true => self.finish_combined(exchange.peer, kid, payload)?,
            false => payload,
        };
        let Some(session) = self.memory.sessions.find(kid) else {
            return Err(self.plain_problem(oscore::Error::ContextNotFound));
        };
        let caller = Caller { key: Some(session.peer.key), session: session.number };
        let at_home = session.from == origin.from;
        let opened = session.context.open_request(option, ciphertext);
        let (request, correlation) = opened.map_err(|error| self.plain_problem(error))?;

        // Whoever took a request on its way can send it from anywhere, once.
        let is_proved = origin.is_proved || at_home || self.memory.echo.proves(&request, &origin.from, origin.now);
        let served = match is_proved {
            true => self.serve(&request, &caller, &Origin { is_proved, ..*origin }),
            false => Err(Problem::PROVE_ADDRESS),
        };
        if let Some(session) = self.memory.sessions.find(kid).filter(|_| is_proved) {
            session.from = origin.from;
        }
        self.refuse(served, origin);
        let requested = requested_block(&request);
        let sealed = self.write_protected(exchange, kid, &correlation, requested, out);
        if self.device.take_change() {
            self.memory.sessions.clear();
            self.device.grants().clear();
            self.memory.body.clear();
        }
        sealed
    }

    /// Whatever is asked: options, path, method, permission, body, and then what the resource does.
    fn serve<Q>(&mut self, request: &Q, caller: &Caller, origin: &Origin<A>) -> Result<(), Problem>
    where
        Q: ReadableMessage + WithSortedOptions,
    {
        check_options(request)?;
        let target = resources::find_with(B::RESOURCES, B::VALUES, request);
        let target = target.ok_or(Problem::new(code::NOT_FOUND, "no such resource"))?;
        let method = resources::method(request.code().into()).filter(|method| target.has(*method));
        let method = method.ok_or(Problem::new(code::METHOD_NOT_ALLOWED, "the resource has no such method"))?;
        let content_format = uint_option(request, option::CONTENT_FORMAT);
        let (takes, answers) = target.formats();
        if method != Method::Get && content_format.is_some() && takes.is_some() && content_format != takes {
            return Err(Problem::new(code::UNSUPPORTED_CONTENT_FORMAT, "wrong content format"));
        }
        let role = self.device.permit(&target, method, caller, origin.now)?;
        if uint_option(request, option::ACCEPT).is_some_and(|wanted| wanted != answers) {
            return Err(Problem::new(code::NOT_ACCEPTABLE, "not available in this content format"));
        }

        // There is one place for a body that comes in blocks: only for who was permitted to write one. A device's next owner
        // is a stranger while there is a present one, whose body it must not displace; its request fits a datagram.
        let may_gather = caller.key.is_some()
            && method != Method::Get
            && target.resource() != Resource::AuthzInfo
            && (role != Role::Stranger || !self.device.is_owned());
        let Memory { body, answer, sources, .. } = &mut *self.memory;
        let gathered = match may_gather {
            false => Assembled::Complete { body: request.payload(), block: only_block(request)? },
            true => body.receive((caller.session, target.resource()), request, BODY_LEN, BLOCK)?,
        };
        let (body, block) = match gathered {
            Assembled::Continue(block) => {
                answer.set(code::CONTINUE);
                answer.set_block_1(Some(block));
                return Ok(());
            }
            Assembled::Complete { body, block } => (body, block),
        };
        let mut take_allowance = || sources.take(origin.from, origin.is_proved, origin.now);
        let served = self.device.serve(&target, method, body, role, &mut take_allowance, answer);
        answer.set_block_1(block);
        if may_gather && block.is_some() {
            self.memory.body.clear();
        }
        served
    }

    /// `POST /.well-known/edhoc`: message_1, or message_3 alone (RFC 9528 appendix A.2).
    fn edhoc<Q>(&mut self, origin: &Origin<A>, request: &Q) -> Result<(), Problem>
    where
        Q: ReadableMessage + WithSortedOptions,
    {
        check_options(request)?;
        only_block(request)?;
        let caller = Caller::ANYONE;
        let entry = resources::find(request).ok_or(Problem::UNAUTHORIZED)?;
        self.device.permit(&Target::Own(entry), Method::Post, &caller, origin.now)?;
        let from = origin.from;
        let message = match edhoc::Request::parse(request.payload()) {
            Ok(edhoc::Request::Message1(message_1)) => self.message_1(from, message_1),
            Ok(edhoc::Request::Message3 { c_r, message_3 }) => {
                self.message_3(from, c_r.into(), message_3, true).map(Option::unwrap_or_default)
            }
            Err(error) => Err(error),
        };
        match message {
            Ok(message) => {
                self.memory.answer.set_body(code::CHANGED, content_format::EDHOC, |out| copy(&message, out))?;
            }
            Err(error) => {
                if error == edhoc::Error::Peer {
                    // Whatever handshake that was about.
                    self.memory.sessions.give_up(from);
                }
                self.edhoc_error(error);
            }
        }
        Ok(())
    }

    fn message_1(&mut self, from: A, message_1: &[u8]) -> Result<edhoc::Message, edhoc::Error> {
        let skip = self.device.rng().next_u32().checked_rem(edhoc::ConnId::COUNT.into()).unwrap_or(0) as u8;
        let c_r = self.memory.sessions.unused_conn_id(skip).ok_or(edhoc::Error::ConnectionId)?;
        let (own, rng) = self.device.private_key_and_rng().ok_or(edhoc::Error::UnknownCredential)?;
        let (responder, message_2) = Responder::start(message_1, own, c_r, rng)?;
        self.memory.sessions.await_message_3(from, responder);
        Ok(message_2)
    }

    fn message_3(
        &mut self,
        from: A,
        c_r: oscore::Id,
        message_3: &[u8],
        message_4: bool,
    ) -> Result<Option<edhoc::Message>, edhoc::Error> {
        let responder = self.memory.sessions.take_pending(from, c_r).ok_or(edhoc::Error::NoHandshake)?;
        let grants = self.device.grants();
        let Established { peer, context, message_4 } =
            responder.finish(message_3, |kid| grants.resolve(kid), message_4)?;
        self.memory.sessions.establish(from, context, peer, |key| grants.is_station(key));
        Ok(message_4)
    }

    /// The message_3 in a combined request (RFC 9668 section 3.3.1). Returns the OSCORE ciphertext behind it.
    fn finish_combined<'p>(
        &mut self,
        from: A,
        kid: oscore::Id,
        payload: &'p mut [u8],
    ) -> Result<&'p mut [u8], Unprotected> {
        let is_error = edhoc::parse_error(payload).is_some();
        let Some((message_3, ciphertext)) = oscore::split_combined_mut(payload) else {
            return Err(self.plain_edhoc_error(if is_error { edhoc::Error::Peer } else { edhoc::Error::Malformed }));
        };
        match self.message_3(from, kid, message_3, false) {
            Ok(_) => Ok(ciphertext),
            Err(error) => Err(self.plain_edhoc_error(error)),
        }
    }

    fn write_plain(&mut self, exchange: &Exchange<A>, requested: Option<Block>, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out, &exchange.response_header(code::EMPTY)).ok()?;
        let mut message = writer.message();
        self.memory.answer.write(requested, BLOCK, &mut message).ok()?;
        let (len, _) = message.finish();
        writer.finish(len).ok()
    }

    fn write_protected(
        &mut self,
        exchange: &Exchange<A>,
        kid: oscore::Id,
        correlation: &oscore::Correlation,
        requested: Option<Block>,
        out: &mut [u8],
    ) -> Result<usize, Unprotected> {
        let Memory { sessions, answer, .. } = &mut *self.memory;
        let Some(session) = sessions.find(kid) else {
            return Err(self.plain_problem(oscore::Error::ContextNotFound));
        };
        let header = exchange.response_header(code::CHANGED);
        let sealed = session.context.respond(correlation, &header, out).and_then(|mut response| {
            let mut message = response.message()?;
            answer.write(requested, BLOCK, &mut message).map_err(|_| oscore::Error::NoSpace)?;
            let (len, _) = message.finish();
            response.seal(&session.context, len)
        });
        sealed.map_err(|error| self.plain_problem(error))
    }

    fn plain_problem(&mut self, error: oscore::Error) -> Unprotected {
        self.memory.answer.set_problem(&problem_of(error));
        Unprotected
    }

    fn plain_edhoc_error(&mut self, error: edhoc::Error) -> Unprotected {
        self.edhoc_error(error);
        Unprotected
    }

    /// An EDHOC error message: 4.00, content format 64 (RFC 9528 appendix A.2.3). One of the peer is not answered by another
    /// (section 6).
    fn edhoc_error(&mut self, error: edhoc::Error) {
        if error == edhoc::Error::Peer {
            return self.memory.answer.set(code::CHANGED);
        }
        let message = error.message();
        let set = self.memory.answer.set_body(code::BAD_REQUEST, content_format::EDHOC, |out| copy(&message, out));
        if let Err(problem) = set {
            self.memory.answer.set_problem(&problem);
        }
    }
}

impl<M, A, F, R, B, const CACHE: usize> Service<A> for Server<M, F, R, B>
where
    M: DerefMut<Target = Memory<A, CACHE>>,
    A: Source,
    F: NorFlash,
    R: CryptoRngCore,
    B: Board,
{
    // Not inlined: it takes kilobytes of the stack, which whoever waits for a datagram need not hold.
    #[inline(never)]
    fn handle(&mut self, from: A, datagram: &mut [u8], now: u64, out: &mut [u8]) -> Option<usize> {
        if datagram.len() > DATAGRAM_LEN {
            let exchange = self.memory.endpoint.refuse(from, datagram)?;
            self.memory.answer.set_problem(&TOO_LONG);
            return self.write_plain(&exchange, None, out);
        }
        let exchange = match self.memory.endpoint.receive(from, datagram, now) {
            Incoming::Request(exchange, _) => exchange,
            Incoming::Reply(reply) => return copy(reply, out).ok(),
            Incoming::Nothing => return None,
        };
        let len = self.respond(&exchange, datagram, now, out);
        // It was decrypted in place, and may hold a secret.
        datagram.zeroize();
        let len = len?;
        self.memory.endpoint.remember(&exchange, out.get(..len)?);
        Some(len)
    }
}

/// What a datagram is answered that is longer than [`DATAGRAM_LEN`].
const TOO_LONG: Problem = Problem::new(code::REQUEST_ENTITY_TOO_LARGE, "the datagram is too long")
    .with_detail("limits in /comm say how long it may be; send the body in blocks");

/// There is no context to answer under: the answer, which is set, goes out plain.
struct Unprotected;

impl From<BlockError> for Problem {
    fn from(error: BlockError) -> Self {
        let problem = Problem::new(error.code(), "block-wise transfer cannot go on");
        match error {
            BlockError::TooLarge { limit } => Problem { size_1: u16::try_from(limit).ok(), ..problem },
            BlockError::OutOfOrder => problem.with_detail("start over with block 0"),
            _ => problem,
        }
    }
}

const NO_PROXY: &str = "this is no proxy";

/// The unprotected answers of RFC 8613 section 8.2.
fn problem_of(error: oscore::Error) -> Problem {
    Problem::new(
        error.code(),
        match error {
            oscore::Error::ContextNotFound | oscore::Error::NotProtected => "security context not found",
            oscore::Error::Replay => "replay detected",
            oscore::Error::Decryption => "decryption failed",
            oscore::Error::BadOption => "failed to decode COSE",
            oscore::Error::Proxy => NO_PROXY,
            oscore::Error::Exhausted | oscore::Error::Unsupported | oscore::Error::NoSpace => {
                "cannot protect the answer"
            }
        },
    )
}

/// Refuses a request with critical options that are not understood, or whose block options are malformed.
fn check_options<M>(request: &M) -> Result<(), Problem>
where
    M: ReadableMessage + WithSortedOptions,
{
    if let Some(unsupported) = unsupported_option(request, resources::OPTIONS) {
        let refusal = option_refusal(unsupported);
        let title = match refusal {
            code::PROXYING_NOT_SUPPORTED => NO_PROXY,
            code::BAD_REQUEST => "the EDHOC option needs OSCORE",
            _ => "unknown critical option",
        };
        return Err(Problem::new(refusal, title));
    }
    Block::of(request, option::BLOCK1)?;
    let block = Block::of(request, option::BLOCK2)?;
    if request.code().into() != code::GET && block.is_some_and(|block| block.number() > 0) {
        // It would be done once for each block of its answer.
        return Err(Problem::new(code::BAD_OPTION, "only answers to GET come in blocks"));
    }
    Ok(())
}

/// The Block1 option of a request whose body has to come at once.
fn only_block(request: &impl ReadableMessage) -> Result<Option<Block>, Problem> {
    let block = Block::of(request, option::BLOCK1)?;
    if block.is_some_and(|block| block.more || block.number() > 0) {
        return Err(Problem::new(code::BAD_OPTION, "no blocks here").with_detail("send the body in one message"));
    }
    Ok(block)
}

/// The part of the answer that is asked for. Answers to other methods than GET are short, and sent whole.
fn requested_block(request: &impl ReadableMessage) -> Option<Block> {
    Block::of(request, option::BLOCK2).ok().flatten().filter(|_| request.code().into() == code::GET)
}

fn copy(from: &[u8], to: &mut [u8]) -> Result<usize, Problem> {
    to.get_mut(..from.len()).ok_or(Problem::STORAGE)?.copy_from_slice(from);
    Ok(from.len())
}
