//! Requests to answers: options, method, permission, block-wise bodies. How a datagram becomes a request is
//! [`conversation`]'s, and what a request does is [`Device`]'s.

use core::ops::DerefMut;

use cbor_schemas::Method;
use coap_message::ReadableMessage;
use coap_numbers::{code, option};
use embedded_storage::nor_flash::NorFlash;
use protocol::{
    coap::{
        Assembled, Assembly, Block, BlockError, BlockSize, EchoKey, Message, NoSpace, option_refusal, uint_option,
        unsupported_option,
    },
    conversation::server::sessions::Shares,
    conversation::server::{self as conversation, Incoming, Party, Reply},
    key::{PrivateKey, PublicKey},
};
use rand_core::CryptoRngCore;
use zeroize::Zeroize as _;

use crate::{
    BODY_LEN, DATAGRAM_LEN,
    answer::Answer,
    device::{Board, Caller, Device},
    lifecycle::Role,
    problem::{Problem, Said},
    resources::{self, Resource, content_format},
    sources::Sources,
    store::{FaultReason, LayoutError},
    transport::{Service, Source},
};

/// Blocks that we ask for, and send unless asked otherwise.
const BLOCK: BlockSize = BlockSize::MAX;
/// What OSCORE and the headers around a block take at the most, so that a block still fits a datagram.
const _: () = assert!(DATAGRAM_LEN >= 1024 + 96, "a block does not fit a datagram");
/// How long nothing has to come before what may take a while is made ahead, in milliseconds: requests of one visit follow
/// each other faster.
const QUIET_MS: u64 = 1000;
/// Handshakes that wait for message_3, one per address.
const HANDSHAKES: usize = 2;
/// OSCORE contexts. One place is always for peers without a station token.
const SESSIONS: usize = 4;
const SHARES: Shares = Shares { known: SESSIONS - 1, strangers: SESSIONS };

/// What a [`Server`] remembers of peers with addresses of type `A`: about 6 kB, and 1.2 kB for each of the `CACHE` answers
/// that are kept for duplicates. On a microcontroller it belongs into a static, for it is too large to be moved about.
pub struct Memory<A, const CACHE: usize> {
    conversation: conversation::Fixed<A, HANDSHAKES, SESSIONS, CACHE, DATAGRAM_LEN>,
    sources: Sources<A>,
    /// The one body that is being gathered, by session and resource.
    body: Assembly<(u32, Resource), BODY_LEN>,
    answer: Answer,
}

impl<A: Source, const CACHE: usize> Memory<A, CACHE> {
    /// Remembers nothing yet.
    pub const fn new() -> Self {
        Memory {
            conversation: conversation::Fixed::new(SHARES),
            sources: Sources::new(),
            body: Assembly::new(),
            answer: Answer::new(),
        }
    }
}

impl<A: Source, const CACHE: usize> Default for Memory<A, CACHE> {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves a [`Device`]. `M` is a [`Memory`], wherever that is: a `&'static mut` or a `Box`.
pub struct Server<M, F, R, B> {
    device: Device<F, R, B>,
    memory: M,
    /// When the last datagram came, in milliseconds since the start.
    heard: u64,
}

impl<M, F: NorFlash, R: CryptoRngCore, B: Board> Server<M, F, R, B> {
    /// Puts `device` and `memory` together. Where that lies, it is [opened](Self::open): it is too large to be moved about.
    #[inline(always)]
    pub const fn new(device: Device<F, R, B>, memory: M) -> Self {
        Server { device, memory, heard: 0 }
    }
}

impl<M, A, F, R, B, const CACHE: usize> Server<M, F, R, B>
where
    M: DerefMut<Target = Memory<A, CACHE>>,
    A: Source,
    F: NorFlash,
    R: CryptoRngCore,
    B: Board,
{
    /// Opens the [device](Device::open), and takes the random numbers that serving begins with. Once, before the first
    /// datagram; with a memory that is new. Returns why the device's storage is at fault, if it is.
    ///
    /// # Errors
    /// The layout does not fit the flash.
    pub fn open(&mut self) -> Result<Option<FaultReason>, LayoutError> {
        let fault = self.device.open()?;
        let first_message_id = self.device.rng().next_u32() as u16;
        let mut secret = [0; 16];
        self.device.rng().fill_bytes(&mut secret);
        self.memory.conversation.seed(first_message_id, EchoKey::new(secret));
        Ok(fault)
    }

    /// The device.
    pub fn device(&self) -> &Device<F, R, B> {
        &self.device
    }

    /// The device, to be asked for what takes a look into the flash.
    pub fn device_mut(&mut self) -> &mut Device<F, R, B> {
        &mut self.device
    }

    /// Answers a request.
    fn respond(&mut self, request: &Message<'_>, mut reply: Reply<A>, now: u64, out: &mut [u8]) -> Option<usize> {
        let key = self.memory.conversation.sessions().numbered(reply.session()).map(|session| session.peer.key);
        let caller = Caller { key, session: reply.session() };
        if let Err(problem) = self.serve(request, &caller, &reply, now) {
            self.memory.answer.set_problem(&problem);
            if problem == Problem::PROVE_ADDRESS {
                let echo = self.memory.conversation.echo(&reply.peer(), now);
                self.memory.answer.set_echo(echo);
            }
        }
        if caller.key.is_none() {
            // By these a device is found, and they are sent no farther than over its own link.
            let entry = resources::find(request).map(|entry| entry.resource);
            reply.is_proved |= matches!(entry, Some(Resource::Core | Resource::Info));
        }
        let requested = requested_block(request);
        let Memory { conversation, answer, body, .. } = &mut *self.memory;
        let len = conversation
            .answer(&reply, out, &mut |message| answer.write(requested, BLOCK, message).map_err(|_| NoSpace));
        if self.device.take_change() {
            conversation.sessions().clear();
            self.device.grants().clear();
            self.device.discard_prepared();
            body.clear();
        }
        len
    }

    /// Whatever is asked: options, path, method, permission, body, and then what the resource does.
    fn serve(&mut self, request: &Message<'_>, caller: &Caller, reply: &Reply<A>, now: u64) -> Result<(), Problem> {
        check_options(request)?;
        let target = resources::find_with(B::RESOURCES, B::VALUES, request);
        let target = target.ok_or(problem!(code::NOT_FOUND, "no such resource"))?;
        let method = resources::method(request.code()).filter(|method| target.has(*method));
        let method = method.ok_or(problem!(code::METHOD_NOT_ALLOWED, "the resource has no such method"))?;
        let content_format = uint_option(request, option::CONTENT_FORMAT);
        let (takes, answers) = target.formats();
        if method != Method::Get && content_format.is_some() && takes.is_some() && content_format != takes {
            return Err(problem!(code::UNSUPPORTED_CONTENT_FORMAT, "wrong content format"));
        }
        let role = self.device.permit(&target, method, caller, now)?;
        if target.resource() == Resource::Edhoc && caller.key.is_none() {
            only_block(request)?;
            let Memory { conversation, answer, .. } = &mut *self.memory;
            answer.set_written(content_format::EDHOC, |out| {
                conversation.authenticate(reply.peer(), request.payload(), &mut self.device, out)
            });
            return Ok(());
        }
        if uint_option(request, option::ACCEPT).is_some_and(|wanted| wanted != answers) {
            return Err(problem!(code::NOT_ACCEPTABLE, "not available in this content format"));
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
        let mut take_allowance = || sources.take(reply.peer(), reply.is_proved, now);
        let served = self.device.serve(&target, method, body, role, &mut take_allowance, answer);
        answer.set_block_1(block);
        if may_gather && block.is_some() {
            self.memory.body.clear();
        }
        served
    }
}

impl<F: NorFlash, R: CryptoRngCore, B: Board> Party for Device<F, R, B> {
    const TOO_LONG: Option<&'static str> = Some("limits in /comm say how long it may be; send the body in blocks");

    fn keys(&mut self) -> Option<(&PrivateKey, impl FnOnce() -> PrivateKey)> {
        self.handshake_keys()
    }

    fn resolve(&mut self, kid: &[u8]) -> Option<PublicKey> {
        self.grants().resolve(kid)
    }

    fn is_known(&self, key: &PublicKey) -> bool {
        self.is_station(key)
    }

    fn random(&mut self) -> u32 {
        self.rng().next_u32()
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
        self.heard = now;
        let len = match self.memory.conversation.receive(from, datagram, now, &mut self.device, out) {
            Incoming::Request(request, reply) => self.respond(&request, reply, now, out),
            Incoming::Answer(len) => Some(len),
            Incoming::Acknowledged(_) | Incoming::Reset(_) | Incoming::Nothing => None,
        };
        // It was decrypted in place, and may hold a secret.
        datagram.zeroize();
        len
    }

    #[inline(never)]
    fn prepare(&mut self, now: u64) -> Option<u64> {
        if !self.device.is_unprepared() {
            return None;
        }
        let left = self.heard.saturating_add(QUIET_MS).saturating_sub(now);
        if left > 0 {
            return Some(left);
        }
        self.device.prepare();
        None
    }
}

const NO_PROXY: &str = "this is no proxy";

impl From<BlockError> for Problem {
    fn from(error: BlockError) -> Self {
        const CANNOT_GO_ON: &str = "block-wise transfer cannot go on";
        const TOO_LARGE: &Said = &Said::new(code::REQUEST_ENTITY_TOO_LARGE, CANNOT_GO_ON).with_size_1();
        match error {
            BlockError::TooLarge { limit } => Problem::with_number(TOO_LARGE, u16::try_from(limit).unwrap_or(u16::MAX)),
            BlockError::OutOfOrder => {
                problem!(code::REQUEST_ENTITY_INCOMPLETE, CANNOT_GO_ON, "start over with block 0")
            }
            BlockError::BadOption => problem!(code::BAD_OPTION, CANNOT_GO_ON),
            BlockError::ReservedSize | BlockError::WrongLength | BlockError::TooManyTags | BlockError::OutOfRange => {
                problem!(code::BAD_REQUEST, CANNOT_GO_ON)
            }
        }
    }
}

/// Refuses a request with critical options that are not understood, or whose block options are malformed.
fn check_options(request: &Message<'_>) -> Result<(), Problem> {
    if let Some(unsupported) = unsupported_option(request, resources::OPTIONS) {
        return Err(match option_refusal(unsupported) {
            code::PROXYING_NOT_SUPPORTED => problem!(code::PROXYING_NOT_SUPPORTED, NO_PROXY),
            code::BAD_REQUEST => problem!(code::BAD_REQUEST, "the EDHOC option needs OSCORE"),
            _ => problem!(code::BAD_OPTION, "unknown critical option"),
        });
    }
    Block::of(request, option::BLOCK1)?;
    let block = Block::of(request, option::BLOCK2)?;
    if request.code() != code::GET && block.is_some_and(|block| block.number() > 0) {
        // It would be done once for each block of its answer.
        return Err(problem!(code::BAD_OPTION, "only answers to GET come in blocks"));
    }
    Ok(())
}

/// The Block1 option of a request whose body has to come at once.
fn only_block(request: &Message<'_>) -> Result<Option<Block>, Problem> {
    let block = Block::of(request, option::BLOCK1)?;
    if block.is_some_and(|block| block.more || block.number() > 0) {
        return Err(problem!(code::BAD_OPTION, "no blocks here", "send the body in one message"));
    }
    Ok(block)
}

/// The part of the answer that is asked for. Answers to other methods than GET are short, and sent whole.
fn requested_block(request: &Message<'_>) -> Option<Block> {
    Block::of(request, option::BLOCK2).ok().flatten().filter(|_| request.code() == code::GET)
}
