//! The device: what each resource does, once the request is plain and its sender known.

mod slot_requests;
mod value_requests;

use core::fmt::Write;

use cbor_schemas::{
    ClaimPolicy, Condition, DeviceId, DeviceInfo, Features, KeyOrigin, Limits, ListMode, Method, PrivateCoseKey,
    Profile, RekeyRequest, RekeyResponse, SlotContents, SlotState, Watermarks,
};
use coap_numbers::code;
use embedded_storage::nor_flash::NorFlash;
use protocol::key::{PreparedKey, PrivateKey, PublicKey};
use rand_core::CryptoRngCore;

use crate::{
    BODY_LEN, DATAGRAM_LEN, LIST_KEYS,
    answer::Answer,
    authz::{Anchor, Grant, Grants, Verifier},
    identity::{HardwareSecret, Identity},
    lifecycle::{Refusal, Request, Role, State, decide},
    offer::{ANCHORED_LEN, anchor_alone},
    peers,
    problem::Problem,
    resources::{ProductResource, RESOURCES, Resource, Target, content_format},
    store::{self, Layout, LayoutError, Need, NewKey, Opened, Scratch, Slot, Snapshot, Store},
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

/// A commissionable device over the flash `F`, with random numbers from `R`, on the board `B`.
pub struct Device<F, R, B> {
    config: Config,
    board: B,
    rng: R,
    /// `None` in the condition `fault`.
    whole: Option<Whole<F>>,
    /// For the next handshake.
    ephemeral: PreparedKey,
    grants: Grants,
    nonce: [u8; 8],
    /// Until when whoever held the button down counts as present, in milliseconds since the start.
    present_until: Option<u64>,
    /// A key or a slot was changed since the last [`Device::take_change`].
    changed: bool,
}

/// Storage that is whole, and what is in it.
struct Whole<F> {
    store: Store<F>,
    identity: Identity,
    snapshot: Snapshot,
    factory: Option<Held>,
    owner: Option<Held>,
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
    /// Opens the storage, completes what a power cut interrupted, and makes a key at the first start.
    ///
    /// # Errors
    /// `layout` does not fit the flash. Damaged storage is no error: the device says so at `/comm`, and serves nothing
    /// else.
    pub fn start(config: Config, flash: F, layout: Layout, mut board: B, mut rng: R) -> Result<Self, LayoutError> {
        let (store, opened) = Store::open(flash, layout)?;
        let whole = Whole::new(store, opened, |need| due(need, &config, &mut board, &mut rng));
        let mut nonce = [0; 8];
        rng.fill_bytes(&mut nonce);
        let (ephemeral, grants) = (PreparedKey::new(), Grants::new());
        let mut device =
            Device { config, board, rng, whole, ephemeral, grants, nonce, present_until: None, changed: false };
        device.configure_board();
        Ok(device)
    }

    /// What the device says of itself: the answer to `GET /comm`, and the report line.
    pub fn info(&self) -> DeviceInfo<'static> {
        let state = self.state();
        let snapshot = self.whole.as_ref().map(|whole| &whole.snapshot);
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
        self.whole.as_ref().map(|whole| whole.identity.key.public())
    }

    /// The device's private key, for a client of other devices; `None` in the condition `fault`.
    pub fn private_key(&self) -> Option<&PrivateKey> {
        self.whole.as_ref().map(|whole| &whole.identity.key)
    }

    /// The device's private key, and what gives the ephemeral key of a handshake.
    pub(crate) fn handshake_keys(&mut self) -> Option<(&PrivateKey, impl FnOnce() -> PrivateKey)> {
        let (own, ephemeral, rng) = (&self.whole.as_ref()?.identity.key, &mut self.ephemeral, &mut self.rng);
        Some((own, || ephemeral.take(rng)))
    }

    /// Whether there is something to [`prepare`](Self::prepare).
    pub(crate) fn is_unprepared(&self) -> bool {
        self.whole.is_some() && self.ephemeral.public().is_none()
    }

    /// Makes the ephemeral key of the next handshake: a scalar multiplication.
    pub(crate) fn prepare(&mut self) {
        self.ephemeral.prepare(&mut self.rng);
    }

    /// Wipes it.
    pub(crate) fn discard_prepared(&mut self) {
        self.ephemeral.discard();
    }

    pub(crate) fn rng(&mut self) -> &mut R {
        &mut self.rng
    }

    pub(crate) fn is_owned(&self) -> bool {
        self.whole.as_ref().is_some_and(|whole| whole.owner.is_some())
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
            (Resource::Info, _) => {
                let info = self.info();
                answer.set_body(code::CONTENT, content_format::CBOR, |out| info.encode(out))
            }
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
        let condition = if self.whole.is_some() { Condition::Ok } else { Condition::Fault };
        let whole = self.whole.as_ref();
        State {
            condition,
            claim_policy: self.config.claim_policy,
            factory: slot_state(whole.and_then(|whole| whole.factory)),
            owner: slot_state(whole.and_then(|whole| whole.owner)),
            claim_counter: whole.map_or(0, |whole| whole.snapshot.claim_counter),
            generation: whole.map_or(0, |whole| whole.snapshot.generation),
            injected: whole.is_some_and(|whole| whole.snapshot.key_origin == KeyOrigin::Injected),
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
        self.whole.as_ref()?.snapshot.list.map(|list| list.mode)
    }

    /// `None` if the flash does not tell.
    fn is_listed(&mut self, key: &PublicKey) -> Option<bool> {
        self.whole.as_mut()?.store.is_listed(key.x()).ok()
    }

    fn whole(&mut self) -> Result<&mut Whole<F>, Problem> {
        self.whole.as_mut().ok_or(Refusal::Fault.into())
    }

    fn accept_token(
        &mut self,
        token: &[u8],
        take_allowance: &mut dyn FnMut() -> Result<(), Problem>,
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        let (device, nonce, list_mode) = (self.config.device, self.nonce, self.list_mode());
        let whole = self.whole()?;
        let anchors = whole.anchors();
        let own_key = *whole.identity.key.public();
        let verifier = Verifier { anchors: &anchors, device, own_key, nonce, list_mode };
        let grant = verifier.accept(token, take_allowance)?;
        let slot = if grant.role == Role::Factory { Slot::Factory } else { Slot::Owner };
        let advanced = self.whole()?.store.advance_watermark(slot, grant.issued_at);
        self.committed(advanced)?;
        self.grants.insert(grant);
        answer.set(code::CREATED);
        Ok(())
    }

    fn show_peers(&mut self, code: u8, answer: &mut Answer) -> Result<(), Problem> {
        let view = peers::view(self.whole()?.snapshot.list.as_ref());
        answer.set_body(code, content_format::CBOR, |out| view.encode(out))
    }

    fn write_peers(&mut self, body: &[u8], answer: &mut Answer) -> Result<(), Problem> {
        let whole = self.whole()?;
        let owner = whole.owner.ok_or(Refusal::WrongState)?.anchor;
        let checked = peers::check(body, &owner)?;
        if let Some(list) = peers::supersede(checked.list, whole.snapshot.list.as_ref())? {
            let written = whole.store.set_list(list, checked.claims.keys.iter(), checked.claims.issued_at);
            self.committed(written)?;
            self.grants.apply_list(list.mode, list.min_iat);
        }
        self.show_peers(code::CHANGED, answer)
    }

    fn rekey(&mut self, body: &[u8], role: Role, answer: &mut Answer) -> Result<(), Problem> {
        let request = RekeyRequest::decode(body).map_err(|_| Problem::malformed("not a rekey request"))?;
        let identity = match request.injected {
            Some(key) => self.take_key(key, role)?,
            None => Identity::generate(&mut self.rng),
        };
        let whole = self.whole()?;
        // The same key again is what somebody sends whose answer got lost.
        if identity.key.public() != whole.identity.key.public() {
            let (mut factory, mut owner) = ([0; ANCHORED_LEN], [0; ANCHORED_LEN]);
            let owner = whole.owner.map(|held| anchor_alone(&held.anchor, &mut owner)).transpose()?;
            let new = whole.new_key(&identity, &mut factory)?;
            let rekeyed = whole.store.rekey(&new, owner);
            self.committed(rekeyed)?;
        }
        let whole = self.whole()?;
        let response =
            RekeyResponse { key: whole.identity.key.public().cose_key(), generation: whole.snapshot.generation };
        answer.set_body(code::CHANGED, content_format::CBOR, |out| response.encode(out))
    }

    /// The key that the owner injects.
    fn take_key(&mut self, key: PrivateCoseKey, role: Role) -> Result<Identity, Problem> {
        // Whatever is refused from here on is wiped with it.
        let identity = Identity::injected(key).map_err(|_| Problem::malformed("not a pair of keys"))?;
        if !self.config.takes_keys {
            return Err(Problem::new(code::FORBIDDEN, "injected keys are not allowed by this firmware"));
        }
        decide(&self.state(), role, Request::Inject)?;
        let anchors = self.whole()?.anchors();
        if anchors.iter().any(|anchor| anchor.key == *identity.key.public()) {
            return Err(Problem::malformed("the key is an issuer's"));
        }
        Ok(identity)
    }

    fn reset(&mut self, answer: &mut Answer) -> Result<(), Problem> {
        let identity = self.state().injected.then(|| Identity::generate(&mut self.rng));
        let whole = self.whole()?;
        let mut factory = [0; ANCHORED_LEN];
        let new = identity.as_ref().map(|identity| whole.new_key(identity, &mut factory)).transpose()?;
        let reset = whole.store.reset(new);
        self.committed(reset)?;
        answer.set(code::CHANGED);
        Ok(())
    }

    /// Takes over what a commit left in flash, be it done or not: a commit can fail and have taken effect.
    fn committed(&mut self, commit: Result<Snapshot, store::Error>) -> Result<(), Problem> {
        let Ok(snapshot) = commit else {
            self.reopen();
            return Err(Problem::STORAGE);
        };
        match &mut self.whole {
            // The store has read all of it back, the key among it, which is the same: no reason to compute it again.
            Some(whole) if whole.snapshot.generation == snapshot.generation => {
                let before = core::mem::replace(&mut whole.snapshot, snapshot);
                let slots_changed = whole.differs_from(&before);
                if slots_changed && whole.read_slots().is_err() {
                    self.whole = None;
                }
                self.changed(slots_changed);
                if slots_changed || before.values != snapshot.values {
                    self.configure_board();
                }
            }
            _ => self.reopen(),
        }
        Ok(())
    }

    /// Finds out anew what is in flash.
    fn reopen(&mut self) {
        let Some(Whole { mut store, snapshot: before, .. }) = self.whole.take() else { return };
        let opened = store.reload();
        let Device { config, board, rng, .. } = self;
        self.whole = Whole::new(store, opened, |need| due(need, config, board, rng));
        self.changed(self.whole.as_ref().is_none_or(|whole| whole.differs_from(&before)));
        self.configure_board();
    }

    /// Takes note of whether a key or a slot was changed: presence was for that.
    fn changed(&mut self, is_changed: bool) {
        self.changed |= is_changed;
        self.present_until.take_if(|_| self.changed);
    }
}

impl<F: NorFlash> Whole<F> {
    /// What was opened, with a new key if one is due; `None` if the storage is not whole.
    fn new(mut store: Store<F>, mut opened: Opened, make: impl FnOnce(Need) -> Identity) -> Option<Self> {
        if let Opened::NeedsKey(need) = opened {
            let identity = make(need);
            // Whether that worked is what the next look at the flash tells.
            let _ = store.provide_key(identity.key.as_bytes(), identity.origin);
            opened = store.reload();
        }
        let Opened::Ready { snapshot, key } = opened else { return None };
        let key = PrivateKey::from_bytes(key.as_bytes()).ok()?;
        let identity = Identity { key, origin: snapshot.key_origin };
        let mut whole = Whole { store, identity, snapshot, factory: None, owner: None };
        whole.read_slots().ok()?;
        Some(whole)
    }

    /// Reads both slots. An error means that their contents are not what any version of us wrote.
    fn read_slots(&mut self) -> Result<(), Problem> {
        self.factory = held(&mut self.store, Slot::Factory)?;
        self.owner = held(&mut self.store, Slot::Owner)?;
        Ok(())
    }

    /// What storage needs for another key: the factory slot loses its certificate, which is about the old one.
    fn new_key<'a>(&self, identity: &'a Identity, factory: &'a mut [u8; ANCHORED_LEN]) -> Result<NewKey<'a>, Problem> {
        let factory = self.factory.map(|held| anchor_alone(&held.anchor, factory)).transpose()?;
        Ok(NewKey { key: identity.key.as_bytes(), origin: identity.origin, factory })
    }

    fn anchors(&self) -> heapless::Vec<Anchor, 2> {
        let anchor =
            |held: Option<Held>, role, watermark, min_iat| Some(Anchor { key: held?.anchor, role, watermark, min_iat });
        let Watermarks { factory, owner } = self.snapshot.watermarks;
        let min_iat = self.snapshot.list.map_or(0, |list| list.min_iat);
        let anchors =
            [anchor(self.owner, Role::Owner, owner, min_iat), anchor(self.factory, Role::Factory, factory, 0)];
        anchors.into_iter().flatten().collect()
    }

    /// Whether key or slots are others than in `other`.
    fn differs_from(&self, other: &Snapshot) -> bool {
        let Snapshot { generation, claim_counter, factory, owner, .. } = self.snapshot;
        (generation, claim_counter) != (other.generation, other.claim_counter)
            || (factory, owner) != (other.factory, other.owner)
    }
}

/// The key that storage asks for.
fn due(need: Need, config: &Config, board: &mut impl Board, rng: &mut impl CryptoRngCore) -> Identity {
    match need {
        Need::FirstStart => Identity::first(board.hardware_secret(), &config.device, rng),
        Need::Rekey => Identity::generate(rng),
    }
}

fn held<F: NorFlash>(store: &mut Store<F>, slot: Slot) -> Result<Option<Held>, Problem> {
    let mut scratch = Scratch::new();
    let Some(bytes) = store.slot(slot, &mut scratch).map_err(|_| Problem::STORAGE)? else { return Ok(None) };
    let contents = SlotContents::decode(bytes).map_err(|_| Problem::STORAGE)?;
    let anchor = PublicKey::from_cose(&contents.anchor).map_err(|_| Problem::STORAGE)?;
    Ok(Some(Held { anchor, certified: contents.certificate.is_some() }))
}

fn slot_state(held: Option<Held>) -> SlotState {
    match held {
        None => SlotState::Empty,
        Some(Held { certified: false, .. }) => SlotState::Anchored,
        Some(Held { certified: true, .. }) => SlotState::Certified,
    }
}

/// The link-format document (RFC 6690).
fn discovery(product: &[ProductResource], values: &[Value], answer: &mut Answer) -> Result<(), Problem> {
    let mut links = heapless::String::<{ crate::answer::BODY_LEN }>::new();
    let own = RESOURCES.iter().map(|entry| (entry.path, entry.attributes));
    for (path, attributes) in own.chain(product.iter().map(|resource| (resource.path, resource.attributes))) {
        let Some(attributes) = attributes else { continue };
        let comma = if links.is_empty() { "" } else { "," };
        write!(links, "{comma}<{path}>;{attributes}").map_err(|_| Problem::DOES_NOT_FIT)?;
    }
    for value in values {
        let Value { path, max_len, .. } = value;
        write!(links, ",<{path}>;rt=\"comm.slot\";ct=42;sz={max_len}").map_err(|_| Problem::DOES_NOT_FIT)?;
    }
    answer.set_body(code::CONTENT, content_format::LINK_FORMAT, |out| {
        out.get_mut(..links.len()).ok_or(Problem::STORAGE)?.copy_from_slice(links.as_bytes());
        Ok::<_, Problem>(links.len())
    })
}
