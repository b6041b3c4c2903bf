//! The device: what each resource does, once the request is plain and its sender known.

mod slot_requests;
mod value_requests;

use cbor_schemas::{
    ClaimPolicy, Condition, DeviceId, DeviceInfo, Features, KeyOrigin, Limits, ListMode, Method, PrivateCoseKey,
    Profile, RekeyRequest, RekeyResponse, SlotContents, SlotState, Watermarks,
};
use coap_numbers::code;
use embedded_storage::nor_flash::NorFlash;
use protocol::key::{PreparedKey, PrivateKey, PublicKey};
use rand_core::CryptoRngCore;
use subtle::ConstantTimeEq as _;

use crate::{
    BODY_LEN, DATAGRAM_LEN, Decimal, LIST_KEYS,
    answer::Answer,
    authz::{Anchor, Grant, Grants, Verifier},
    identity::{HardwareSecret, Identity},
    lifecycle::{Refusal, Request, Role, State, decide},
    offer::{ANCHORED_LEN, anchor_alone},
    peers,
    problem::Problem,
    resources::{ProductResource, RESOURCES, Resource, Target, content_format},
    store::{
        self, Contents, Digest, FaultReason, KeyBytes, Layout, LayoutError, NewKey, Opened, Scratch, Slot, Snapshot,
        Store,
    },
    values::{Value, Values},
};

/// How long somebody counts as present, in milliseconds.
const PRESENCE_MS: u64 = 30_000;

/// What a firmware decides about its device.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// The device ID, from the hardware.
    pub device: DeviceId,
    /// Name and version of the firmware, at most 32 bytes.
    pub firmware: &'static str,
    /// Who may claim the device while nobody owns it.
    pub claim_policy: ClaimPolicy,
    /// Whether whoever holds the device's button down may empty the owner slot: the way out for an owner who lost the keys,
    /// and for a thief.
    pub reset_by_presence: bool,
    /// How slow the device is: milliseconds for one P-256 operation.
    pub operation_ms: u32,
    /// Whether the owner may inject a key, which the owner then knows too: to restore the device's key after an erase.
    pub takes_keys: bool,
}

/// What the device asks of the board it runs on.
pub trait Board {
    /// The product's own resources, at most 256. None unless it says otherwise.
    const RESOURCES: &'static [ProductResource] = &[];
    /// Values that the owner may give to the product, at most 256. None unless it says otherwise.
    const VALUES: &'static [Value] = &[];

    /// The secret of a board that has one: then the first key after each erase is the same. None unless it says otherwise.
    fn hardware_secret(&mut self) -> Option<HardwareSecret> {
        None
    }

    /// Makes itself noticed: blinks for a few seconds, or whatever the product has. Returns at once.
    fn identify(&mut self);

    /// Takes notice of the values that the owner gave: at each start, and whenever they change or are gone.
    fn configure(&mut self, values: &Values<'_>) {
        let _ = values;
    }

    /// Serves a request to one of [`RESOURCES`](Self::RESOURCES) by somebody who may make it. `body` is whole.
    ///
    /// # Errors
    /// What the requester is told; nothing was changed then.
    fn serve(&mut self, path: &str, method: Method, body: &[u8], answer: &mut Answer) -> Result<(), Problem> {
        let _ = (path, method, body, answer);
        Err(Problem::NOT_SUPPORTED)
    }
}

/// A commissionable device over the flash `F`, with random numbers from `R`, on the board `B`. It is made without a look into
/// the flash, so that it can be opened where it lies: [`open`](Self::open) has that.
pub struct Device<F, R, B> {
    config: Config,
    board: B,
    rng: R,
    storage: Storage<F>,
    /// The state that was taken over last.
    seen: Seen,
    /// For the next handshake.
    ephemeral: PreparedKey,
    grants: Grants,
    nonce: [u8; 8],
    /// Until when whoever held the button down counts as present, in milliseconds since the start.
    present_until: Option<u64>,
    /// A key or a slot was changed since the last [`Device::take_change`].
    changed: bool,
}

/// Storage, and what is known of what is in it.
struct Storage<F> {
    store: Store<F>,
    /// `None` in the condition `fault`: then nothing else here counts.
    identity: Option<Identity>,
    factory: Option<Held>,
    owner: Option<Held>,
}

/// What is compared to find out whether a commit changed a key, a slot or the values.
#[derive(PartialEq, Eq)]
struct Seen {
    generation: u32,
    claim_counter: u32,
    factory: Option<Digest>,
    owner: Option<Digest>,
    values: Option<Digest>,
}

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// The key that EDHOC proved; `None` without security.
    pub key: Option<PublicKey>,
    /// The number of the session; 0 without security.
    pub session: u32,
}

/// What the device list makes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It belongs to one of "my devices".
    Mine,
    /// It belonged to one, and must not be believed.
    Revoked,
    /// Neither.
    Unknown,
}

/// What is known of a slot that is not empty.
#[derive(Debug, Clone, Copy)]
struct Held {
    anchor: PublicKey,
    certified: bool,
}

impl<F: NorFlash, R: CryptoRngCore, B: Board> Device<F, R, B> {
    /// A device that has not looked into its flash yet. Until it has, it is at fault.
    #[inline(always)]
    pub const fn new(config: Config, flash: F, layout: Layout, board: B, rng: R) -> Self {
        Device {
            config,
            board,
            rng,
            storage: Storage { store: Store::new(flash, layout), identity: None, factory: None, owner: None },
            seen: Seen::NOTHING,
            ephemeral: PreparedKey::new(),
            grants: Grants::new(),
            nonce: [0; 8],
            present_until: None,
            changed: false,
        }
    }

    /// Opens the storage, completes what a power cut interrupted, and makes a key at the first start. Once, before anything is
    /// asked of the device. Returns why the storage is at fault, if it is: the device says so at `/comm`, and serves nothing
    /// else.
    ///
    /// # Errors
    /// The layout does not fit the flash.
    #[inline(never)]
    pub fn open(&mut self) -> Result<Option<FaultReason>, LayoutError> {
        let opened = self.reload()?;
        self.seen = Seen::of(self.storage.store.snapshot());
        self.rng.fill_bytes(&mut self.nonce);
        self.configure_board();
        Ok(match opened {
            Opened::Fault(reason) => Some(reason),
            Opened::Ready | Opened::NeedsKey => None,
        })
    }

    /// What the device says of itself: the answer to `GET /comm`, and the report line.
    pub fn info(&self) -> DeviceInfo<'static> {
        let state = self.state();
        let snapshot = self.storage.state();
        DeviceInfo {
            device: self.config.device,
            credential: self.own_key().map(|key| key.cose_key()),
            generation: state.generation,
            key_origin: snapshot.map_or(KeyOrigin::Generated, |snapshot| snapshot.key_origin),
            factory: state.factory,
            owner: state.owner,
            claim_policy: state.claim_policy,
            claim_counter: state.claim_counter,
            watermarks: snapshot.map_or(Watermarks { factory: None, owner: None }, |snapshot| snapshot.watermarks),
            nonce: self.nonce,
            firmware: self.config.firmware,
            profile: Profile::Full,
            limits: Limits { datagram: DATAGRAM_LEN as u16, body: BODY_LEN as u16, list_keys: LIST_KEYS },
            operation_ms: self.config.operation_ms,
            condition: state.condition,
            features: Features::NONE,
        }
    }

    /// The device's key; `None` in the condition `fault`.
    pub fn own_key(&self) -> Option<&PublicKey> {
        self.storage.identity.as_ref().map(|identity| identity.key.public())
    }

    /// The device's private key, for a client of other devices; `None` in the condition `fault`.
    pub fn private_key(&self) -> Option<&PrivateKey> {
        self.storage.identity.as_ref().map(|identity| &identity.key)
    }

    /// The device's private key, and what gives the ephemeral key of a handshake.
    pub(crate) fn handshake_keys(&mut self) -> Option<(&PrivateKey, impl FnOnce() -> PrivateKey)> {
        let (own, ephemeral, rng) = (&self.storage.identity.as_ref()?.key, &mut self.ephemeral, &mut self.rng);
        Some((own, || ephemeral.take(rng)))
    }

    /// Whether there is something to [`prepare`](Self::prepare).
    pub(crate) fn is_unprepared(&self) -> bool {
        self.storage.identity.is_some() && self.ephemeral.public().is_none()
    }

    /// Makes the ephemeral key of the next handshake: a scalar multiplication.
    pub(crate) fn prepare(&mut self) {
        self.ephemeral.prepare(&mut self.rng);
    }

    /// Wipes it.
    pub(crate) fn discard_prepared(&mut self) {
        self.ephemeral.discard();
    }

    /// The device ID.
    pub const fn id(&self) -> &DeviceId {
        &self.config.device
    }

    /// The random number generator, for whatever else on the board needs one.
    pub const fn rng(&mut self) -> &mut R {
        &mut self.rng
    }

    pub(crate) fn is_owned(&self) -> bool {
        self.storage.whole().is_some_and(|whole| whole.owner.is_some())
    }

    pub(crate) fn grants(&mut self) -> &mut Grants {
        &mut self.grants
    }

    /// Whether `key` belongs to a station with a token.
    pub(crate) fn is_station(&self, key: &PublicKey) -> bool {
        self.grants.is_station(key)
    }

    /// Whether a key or a slot was changed since this was last asked: then all contexts and tokens end once the answer is
    /// under way.
    pub(crate) fn take_change(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    /// Somebody is at the device, and has shown it by a long press of its button at `now`, in milliseconds since the start.
    /// For 30 seconds this serves for one act of those that ask for presence.
    pub fn note_presence(&mut self, now: u64) {
        self.present_until = Some(now.saturating_add(PRESENCE_MS));
    }

    /// Whether `caller` may send such a request at all, before its body is looked at: in which role.
    pub(crate) fn permit(
        &mut self,
        target: &Target,
        method: Method,
        caller: &Caller,
        now: u64,
    ) -> Result<Role, Problem> {
        self.present_until.take_if(|until| now >= *until);
        let role = self.role(caller, target.path(), method);
        let request = match (target.resource(), method) {
            (Resource::Core, _) => Request::Discover,
            (Resource::Edhoc, _) => Request::Authenticate,
            (Resource::AuthzInfo, _) => Request::PresentToken,
            (Resource::Info, _) => Request::ReadInfo,
            (Resource::Factory | Resource::Owner, Method::Get) => Request::ReadSlotState,
            (Resource::Factory, _) => Request::BeginFactoryWrite,
            (Resource::Owner, _) => Request::BeginOwnerWrite,
            (Resource::Peers, Method::Get) => Request::ReadPeers,
            (Resource::Peers, _) => Request::WritePeers,
            (Resource::Identify, _) => Request::Identify,
            (Resource::Rekey, _) => Request::Rekey,
            (Resource::Reset, _) => Request::Reset,
            (Resource::Value(_), Method::Get) => Request::ReadValue,
            (Resource::Value(_), _) => Request::WriteValue,
            (Resource::Product(_), _) => {
                let Target::Product(_, resource) = target else { return Err(Problem::NOT_SUPPORTED) };
                let access = resource.methods.iter().find(|(its, _)| *its == method);
                access.map(|(_, access)| Request::Use(*access)).ok_or(Problem::NOT_SUPPORTED)?
            }
        };
        decide(&self.state(), role, request)?;
        Ok(role)
    }

    /// Serves a request that `role` was permitted, in the same step, with the whole of its body. The rules are asked again
    /// only where the body says what the request is. EDHOC is the server's own. `take_allowance` is asked before a
    /// signature is verified for whoever likes.
    // None of what this calls is inlined: each takes the stack that it needs, and not that of all others.
    pub(crate) fn serve(
        &mut self,
        target: &Target,
        method: Method,
        body: &[u8],
        role: Role,
        take_allowance: &mut dyn FnMut() -> Result<(), Problem>,
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        match (target.resource(), method) {
            (Resource::Core, _) => discovery(B::RESOURCES, B::VALUES, answer),
            (Resource::Info, _) => self.show_info(answer),
            (Resource::AuthzInfo, _) => self.accept_token(body, take_allowance, answer),
            (Resource::Factory, Method::Get) => {
                self.show_slot(Slot::Factory, Request::ReadFactoryContents, role, answer)
            }
            (Resource::Factory, _) => self.write_factory(body, role, answer),
            (Resource::Owner, Method::Get) => self.show_slot(Slot::Owner, Request::ReadOwnerContents, role, answer),
            (Resource::Owner, _) => self.write_owner(body, role, answer),
            (Resource::Peers, Method::Get) => self.show_peers(code::CONTENT, answer),
            (Resource::Peers, _) => self.write_peers(body, answer),
            (Resource::Value(at), _) => {
                let value = B::VALUES.get(usize::from(at)).ok_or(Problem::NOT_SUPPORTED)?;
                match method {
                    Method::Get => self.show_value(value, answer),
                    _ => self.write_value(at.into(), value, body, answer),
                }
            }
            (Resource::Product(_), _) => {
                answer.set(code::CHANGED);
                self.board.serve(target.path(), method, body, answer)
            }
            (Resource::Identify, _) => {
                self.board.identify();
                answer.set(code::CHANGED);
                Ok(())
            }
            (Resource::Rekey, _) => self.rekey(body, role, answer),
            (Resource::Reset, _) => self.reset(answer),
            (Resource::Edhoc, _) => Err(Problem::UNAUTHORIZED),
        }
    }

    fn state(&self) -> State {
        let (whole, snapshot) = (self.storage.whole(), self.storage.state());
        State {
            condition: if whole.is_some() { Condition::Ok } else { Condition::Fault },
            claim_policy: self.config.claim_policy,
            factory: slot_state(whole.and_then(|whole| whole.factory.as_ref())),
            owner: slot_state(whole.and_then(|whole| whole.owner.as_ref())),
            claim_counter: snapshot.map_or(0, |snapshot| snapshot.claim_counter),
            generation: snapshot.map_or(0, |snapshot| snapshot.generation),
            injected: snapshot.is_some_and(|snapshot| snapshot.key_origin == KeyOrigin::Injected),
            present: self.present_until.is_some(),
            reset_by_presence: self.config.reset_by_presence,
        }
    }

    /// Who makes a request. Revocation is looked up before any grant.
    fn role(&mut self, caller: &Caller, path: &str, method: Method) -> Role {
        let Some(key) = &caller.key else { return Role::Anyone };
        let covers = |grant: &&Grant| grant.scope.is_some_and(|scope| scope.allows(path, method));
        let station = self.grants.of(key).filter(covers).map(|grant| grant.role);
        match (station, self.list_mode()) {
            // The list says nothing of stations then.
            (Some(role), None | Some(ListMode::Members)) => role,
            (station, _) => match self.standing(key) {
                Standing::Revoked => Role::Stranger,
                Standing::Mine => station.unwrap_or(Role::Peer),
                Standing::Unknown => station.unwrap_or(Role::Stranger),
            },
        }
    }

    /// Whether a key that was proved is one of "my devices", by the device list and the certificates presented since the
    /// last start. This is what an application asks that has other doors than CoAP.
    pub fn is_my_device(&mut self, key: &PublicKey) -> bool {
        self.standing(key) == Standing::Mine
    }

    /// What the device list says of a key. If it cannot be read, nobody is let in by it.
    fn standing(&mut self, key: &PublicKey) -> Standing {
        let is_certified = self.grants.of(key).is_some_and(|grant| grant.role == Role::Peer);
        match self.list_mode() {
            Some(ListMode::Members) if self.is_listed(key) == Some(true) => Standing::Mine,
            Some(ListMode::Revoked) if self.is_listed(key) != Some(false) => Standing::Revoked,
            Some(ListMode::Revoked) if is_certified => Standing::Mine,
            _ => Standing::Unknown,
        }
    }

    fn list_mode(&self) -> Option<ListMode> {
        self.storage.state()?.list.as_ref().map(|list| list.mode)
    }

    /// `None` if the flash does not tell.
    fn is_listed(&mut self, key: &PublicKey) -> Option<bool> {
        self.whole().ok()?.store.is_listed(key.x()).ok()
    }

    fn whole(&mut self) -> Result<&mut Storage<F>, Problem> {
        if self.storage.identity.is_some() { Ok(&mut self.storage) } else { Err(Refusal::Fault.into()) }
    }

    #[inline(never)]
    fn accept_token(
        &mut self,
        token: &[u8],
        take_allowance: &mut dyn FnMut() -> Result<(), Problem>,
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        let (device, nonce, list_mode) = (self.config.device, self.nonce, self.list_mode());
        let whole = self.whole()?;
        let anchors = whole.anchors();
        let own_key = *whole.own_key()?;
        let verifier = Verifier { anchors: &anchors, device, own_key, nonce, list_mode };
        let grant = verifier.accept(token, take_allowance)?;
        let slot = if grant.role == Role::Factory { Slot::Factory } else { Slot::Owner };
        let advanced = self.whole()?.store.advance_watermark(slot, grant.issued_at);
        self.committed(advanced, None)?;
        self.grants.insert(&grant);
        answer.set(code::CREATED);
        Ok(())
    }

    #[inline(never)]
    fn show_info(&self, answer: &mut Answer) -> Result<(), Problem> {
        let info = self.info();
        answer.set_body(code::CONTENT, content_format::CBOR, |out| info.encode(out))
    }

    #[inline(never)]
    fn show_peers(&mut self, code: u8, answer: &mut Answer) -> Result<(), Problem> {
        let view = peers::view(self.whole()?.store.snapshot().list.as_ref());
        answer.set_body(code, content_format::CBOR, |out| view.encode(out))
    }

    #[inline(never)]
    fn write_peers(&mut self, body: &[u8], answer: &mut Answer) -> Result<(), Problem> {
        let whole = self.whole()?;
        let owner = whole.owner.as_ref().ok_or(Refusal::WrongState)?.anchor;
        let checked = peers::check(body, &owner)?;
        if let Some(list) = peers::supersede(checked.list, whole.store.snapshot().list.as_ref())? {
            let written = whole.store.set_list(&list, checked.claims.keys.iter(), checked.claims.issued_at);
            self.committed(written, None)?;
            self.grants.apply_list(list.mode, list.min_iat);
        }
        self.show_peers(code::CHANGED, answer)
    }

    #[inline(never)]
    fn rekey(&mut self, body: &[u8], role: Role, answer: &mut Answer) -> Result<(), Problem> {
        let request = RekeyRequest::decode(body)
            .map_err(|_| problem!(code::BAD_REQUEST, "malformed request", "not a rekey request"))?;
        let identity = match request.injected {
            Some(key) => self.take_key(key, role)?,
            None => Identity::generate(&mut self.rng),
        };
        let whole = self.whole()?;
        // The same key again is what somebody sends whose answer got lost.
        if identity.key.public() != whole.own_key()? {
            let rekeyed = whole.rekey(&identity)?;
            self.committed(rekeyed, Some(identity))?;
        }
        let whole = self.whole()?;
        let response =
            RekeyResponse { key: whole.own_key()?.cose_key(), generation: whole.store.snapshot().generation };
        answer.set_body(code::CHANGED, content_format::CBOR, |out| response.encode(out))
    }

    /// The key that the owner injects.
    fn take_key(&mut self, key: PrivateCoseKey, role: Role) -> Result<Identity, Problem> {
        // Whatever is refused from here on is wiped with it.
        let identity = Identity::injected(key)
            .map_err(|_| problem!(code::BAD_REQUEST, "malformed request", "not a pair of keys"))?;
        if !self.config.takes_keys {
            return Err(problem!(code::FORBIDDEN, "injected keys are not allowed by this firmware"));
        }
        decide(&self.state(), role, Request::Inject)?;
        let anchors = self.whole()?.anchors();
        if anchors.iter().any(|anchor| anchor.key == *identity.key.public()) {
            return Err(problem!(code::BAD_REQUEST, "malformed request", "the key is an issuer's"));
        }
        Ok(identity)
    }

    #[inline(never)]
    fn reset(&mut self, answer: &mut Answer) -> Result<(), Problem> {
        let identity = self.state().injected.then(|| Identity::generate(&mut self.rng));
        let reset = self.whole()?.reset(identity.as_ref())?;
        self.committed(reset, identity)?;
        answer.set(code::CHANGED);
        Ok(())
    }

    /// Takes over what a commit left in flash, be it done or not: a commit can fail and have taken effect. A commit that was
    /// to bring another key has its `identity`.
    #[inline(never)]
    fn committed(&mut self, commit: Result<(), store::Error>, identity: Option<Identity>) -> Result<(), Problem> {
        let generation = self.seen.generation;
        let reopened = match commit {
            // The store has read all of it back, the key among it, which is the same.
            Ok(()) if self.storage.store.snapshot().generation == generation => false,
            Ok(()) => {
                self.storage.identity = identity.or(self.storage.identity.take());
                true
            }
            Err(_) => true,
        };
        if reopened {
            // A layout that fitted at the start fits.
            let _ = self.reload();
        }
        let now = Seen::of(self.storage.store.snapshot());
        let before = core::mem::replace(&mut self.seen, now);
        let is_whole = self.storage.identity.is_some();
        let slots_changed = !is_whole || !self.seen.has_slots_of(&before);
        if slots_changed && !reopened && self.storage.read_slots().is_err() {
            self.storage.identity = None;
        }
        self.changed(slots_changed);
        if slots_changed || self.seen.values != before.values {
            self.configure_board();
        }
        commit.map_err(|_| Problem::STORAGE)
    }

    /// Finds out anew what is in flash. A key that is in RAM already is not computed again.
    fn reload(&mut self) -> Result<Opened, LayoutError> {
        let Device { config, board, rng, storage, .. } = self;
        let mut key = KeyBytes::new();
        let mut opened = storage.store.open(&mut key)?;
        if opened == Opened::NeedsKey {
            let identity = Identity::first(board.hardware_secret(), &config.device, rng);
            // Whether that worked is what the next look at the flash tells.
            let _ = storage.store.provide_key(identity.key.as_bytes(), identity.origin);
            storage.identity = Some(identity);
            opened = storage.store.open(&mut key)?;
        }
        if opened != Opened::Ready || storage.take_over(&key).is_err() {
            storage.identity = None;
        }
        Ok(opened)
    }

    /// Takes note of whether a key or a slot was changed: presence was for that.
    fn changed(&mut self, is_changed: bool) {
        self.changed |= is_changed;
        self.present_until.take_if(|_| self.changed);
    }
}

impl Seen {
    const NOTHING: Self = Seen { generation: 0, claim_counter: 0, factory: None, owner: None, values: None };

    fn of(snapshot: &Snapshot) -> Self {
        let digest = |contents: &Option<Contents>| contents.as_ref().map(|contents| contents.digest);
        Seen {
            generation: snapshot.generation,
            claim_counter: snapshot.claim_counter,
            factory: digest(&snapshot.factory),
            owner: digest(&snapshot.owner),
            values: digest(&snapshot.values),
        }
    }

    /// Whether key and slots are the same.
    fn has_slots_of(&self, other: &Seen) -> bool {
        (self.generation, self.claim_counter) == (other.generation, other.claim_counter)
            && (&self.factory, &self.owner) == (&other.factory, &other.owner)
    }
}

impl<F> Storage<F> {
    /// `None` in the condition `fault`.
    fn whole(&self) -> Option<&Self> {
        self.identity.is_some().then_some(self)
    }
}

impl<F: NorFlash> Storage<F> {
    /// `None` in the condition `fault`.
    fn state(&self) -> Option<&Snapshot> {
        self.whole().map(|whole| whole.store.snapshot())
    }

    fn own_key(&self) -> Result<&PublicKey, Problem> {
        self.identity.as_ref().map(|identity| identity.key.public()).ok_or(Refusal::Fault.into())
    }

    /// Takes over what was opened: the private key, unless it is the one in RAM, and the slots.
    fn take_over(&mut self, key: &KeyBytes) -> Result<(), Problem> {
        let origin = self.store.snapshot().key_origin;
        match &mut self.identity {
            Some(identity) if bool::from(identity.key.as_bytes().ct_eq(key.as_bytes())) => identity.origin = origin,
            identity => {
                let key = PrivateKey::from_bytes(key.as_bytes()).map_err(|_| Problem::STORAGE)?;
                *identity = Some(Identity { key, origin });
            }
        }
        self.read_slots()
    }

    /// Reads both slots. An error means that their contents are not what any version of us wrote.
    fn read_slots(&mut self) -> Result<(), Problem> {
        read_slot(&mut self.store, Slot::Factory, &mut self.factory)?;
        read_slot(&mut self.store, Slot::Owner, &mut self.owner)
    }

    fn rekey(&mut self, identity: &Identity) -> Result<Result<(), store::Error>, Problem> {
        let (mut factory, mut owner) = ([0; ANCHORED_LEN], [0; ANCHORED_LEN]);
        let owner = self.owner.as_ref().map(|held| anchor_alone(&held.anchor, &mut owner)).transpose()?;
        let new = self.new_key(identity, &mut factory)?;
        Ok(self.store.rekey(&new, owner))
    }

    fn reset(&mut self, identity: Option<&Identity>) -> Result<Result<(), store::Error>, Problem> {
        let mut factory = [0; ANCHORED_LEN];
        let new = identity.map(|identity| self.new_key(identity, &mut factory)).transpose()?;
        Ok(self.store.reset(new.as_ref()))
    }

    /// What storage needs for another key: the factory slot loses its certificate, which is about the old one.
    fn new_key<'a>(&self, identity: &'a Identity, factory: &'a mut [u8; ANCHORED_LEN]) -> Result<NewKey<'a>, Problem> {
        let factory = self.factory.as_ref().map(|held| anchor_alone(&held.anchor, factory)).transpose()?;
        Ok(NewKey { key: identity.key.as_bytes(), origin: identity.origin, factory })
    }

    fn anchors(&self) -> heapless::Vec<Anchor, 2> {
        let Snapshot { watermarks, list, .. } = self.store.snapshot();
        let min_iat = list.as_ref().map_or(0, |list| list.min_iat);
        let mut anchors = heapless::Vec::new();
        for (held, role, watermark, min_iat) in [
            (&self.owner, Role::Owner, watermarks.owner, min_iat),
            (&self.factory, Role::Factory, watermarks.factory, 0),
        ] {
            let Some(held) = held else { continue };
            // There are as many places as slots.
            let _ = anchors.push(Anchor { key: held.anchor, role, watermark, min_iat });
        }
        anchors
    }
}

#[inline(never)]
fn read_slot<F: NorFlash>(store: &mut Store<F>, slot: Slot, held: &mut Option<Held>) -> Result<(), Problem> {
    let mut scratch = Scratch::new();
    *held = None;
    if let Some(bytes) = store.slot(slot, &mut scratch).map_err(|_| Problem::STORAGE)? {
        let contents = SlotContents::decode(bytes).map_err(|_| Problem::STORAGE)?;
        let anchor = PublicKey::from_cose(&contents.anchor).map_err(|_| Problem::STORAGE)?;
        *held = Some(Held { anchor, certified: contents.certificate.is_some() });
    }
    Ok(())
}

fn slot_state(held: Option<&Held>) -> SlotState {
    match held {
        None => SlotState::Empty,
        Some(Held { certified: false, .. }) => SlotState::Anchored,
        Some(Held { certified: true, .. }) => SlotState::Certified,
    }
}

fn push(text: &mut heapless::String<{ crate::answer::BODY_LEN }>, pieces: &[&str]) -> Result<(), Problem> {
    pieces.iter().try_for_each(|piece| text.push_str(piece)).map_err(|_| Problem::DOES_NOT_FIT)
}

/// The link-format document (RFC 6690).
#[inline(never)]
fn discovery(product: &[ProductResource], values: &[Value], answer: &mut Answer) -> Result<(), Problem> {
    let mut links = heapless::String::<{ crate::answer::BODY_LEN }>::new();
    let own = RESOURCES.iter().map(|entry| (entry.path, entry.attributes));
    for (path, attributes) in own.chain(product.iter().map(|resource| (resource.path, resource.attributes))) {
        let Some(attributes) = attributes else { continue };
        let comma = if links.is_empty() { "" } else { "," };
        push(&mut links, &[comma, "<", path, ">;", attributes])?;
    }
    for value in values {
        let Value { path, max_len, .. } = value;
        let size = Decimal::new((*max_len).into());
        push(&mut links, &[",<", path, ">;rt=\"comm.slot\";ct=42;sz=", size.as_str()])?;
    }
    answer.set_body(code::CONTENT, content_format::LINK_FORMAT, |out| {
        out.get_mut(..links.len()).ok_or(Problem::STORAGE)?.copy_from_slice(links.as_bytes());
        Ok::<_, Problem>(links.len())
    })
}
