//! The wire between the device's stack and its host: transfers that wait, and the packets that they are made of.
//!
//! Both sides are synchronous here. The stack's side polls and leaves a waker; the host's side takes answers out of the
//! outbox.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use embassy_usb_driver::{EndpointError, EndpointInfo, Event, Speed};
use tokio::sync::Notify;

use crate::wire::{self, Status, Submit};

/// Most transfers of a host that wait at a time; Linux' drivers of a composite device have some 50.
const MAX_PENDING: usize = 512;
/// Most bytes that all of them have.
const MAX_PENDING_BYTES: usize = 8 << 20;
/// Answers that may wait for a host to read them before nothing more is read of it.
const MAX_ANSWERS: usize = 64;

/// The wire, as both sides hold it.
#[derive(Clone)]
pub(crate) struct Shared {
    bus: Arc<Mutex<Bus>>,
    /// Something was put into, or taken out of, the outbox.
    answers: Arc<Notify>,
}

pub(crate) struct Bus {
    pub(crate) speed: Speed,
    pub(crate) endpoints: BTreeMap<u8, Endpoint>,
    /// Control transfers that the stack has not begun.
    control: VecDeque<Control>,
    /// The one that it has.
    current: Option<Control>,
    control_waker: Option<Waker>,
    events: VecDeque<Event>,
    events_waker: Option<Waker>,
    outbox: VecDeque<Vec<u8>>,
    pub(crate) is_attached: bool,
}

/// An endpoint other than 0.
pub(crate) struct Endpoint {
    pub(crate) info: EndpointInfo,
    pub(crate) is_enabled: bool,
    pub(crate) is_halted: bool,
    waiting: VecDeque<Transfer>,
    /// IN: the packet that waits for the host, as in the memory of a real controller.
    packet: Option<Vec<u8>>,
    waker: Option<Waker>,
}

/// A transfer that has begun.
struct Transfer {
    submit: Submit,
    /// OUT: how many bytes the device has.
    taken: usize,
}

/// A control transfer.
struct Control {
    asked_by: Asker,
    setup: [u8; 8],
    /// IN: what the device has answered so far. OUT: the data stage.
    data: Vec<u8>,
    /// OUT: how many bytes the device has.
    taken: usize,
}

/// Who gets the answer to a control transfer.
enum Asker {
    /// The host.
    Host(Submit),
    /// The port itself.
    Port(tokio::sync::oneshot::Sender<Option<Vec<u8>>>),
    /// Nobody.
    Nobody,
}

impl Shared {
    pub(crate) fn new(speed: Speed) -> Self {
        let bus = Bus {
            speed,
            endpoints: BTreeMap::new(),
            control: VecDeque::new(),
            current: None,
            control_waker: None,
            events: VecDeque::new(),
            events_waker: None,
            outbox: VecDeque::new(),
            is_attached: false,
        };
        Self { bus: Arc::new(Mutex::new(bus)), answers: Arc::new(Notify::new()) }
    }

    /// The bus, for a moment. What it holds is right at any time, so a panic elsewhere does not matter.
    pub(crate) fn lock(&self) -> Locked<'_> {
        let bus = self.bus.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { answers_before: bus.outbox.len(), bus, answers: &self.answers }
    }

    /// Waits for an answer to the host.
    pub(crate) async fn next_answer(&self) -> Vec<u8> {
        self.until(|bus| bus.outbox.pop_front()).await
    }

    /// Waits until the host has read enough of the answers.
    pub(crate) async fn has_room(&self) {
        self.until(|bus| (bus.outbox.len() < MAX_ANSWERS).then_some(())).await;
    }

    async fn until<T>(&self, mut there: impl FnMut(&mut Bus) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.answers.notified());
            changed.as_mut().enable();
            if let Some(found) = there(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

/// The bus while it is held. When it is let go, and there are more or fewer answers, whoever waits for that looks again.
pub(crate) struct Locked<'a> {
    bus: MutexGuard<'a, Bus>,
    answers_before: usize,
    answers: &'a Notify,
}

impl std::ops::Deref for Locked<'_> {
    type Target = Bus;

    fn deref(&self) -> &Bus {
        &self.bus
    }
}

impl std::ops::DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Bus {
        &mut self.bus
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if self.bus.outbox.len() != self.answers_before {
            self.answers.notify_waiters();
        }
    }
}

/// The host's side.
impl Bus {
    /// Gives the device power, and a reset. False if another host has it.
    pub(crate) fn attach(&mut self) -> bool {
        if self.is_attached {
            return false;
        }
        self.is_attached = true;
        self.outbox.clear();
        self.event(Event::PowerDetected);
        self.reset();
        true
    }

    /// Takes the device's power; whatever waits is gone.
    pub(crate) fn detach(&mut self) {
        self.is_attached = false;
        self.control.clear();
        self.current = None;
        for endpoint in self.endpoints.values_mut() {
            endpoint.waiting.clear();
            endpoint.set_enabled(false);
        }
        self.outbox.clear();
        self.event(Event::PowerRemoved);
        wake(&mut self.control_waker);
    }

    /// A bus reset. Linux' virtual host controller answers SET_ADDRESS itself, so the stack gets one from here: without
    /// an address it would not take a configuration.
    pub(crate) fn reset(&mut self) {
        const SET_ADDRESS_1: [u8; 8] = [0x00, 5, 1, 0, 0, 0, 0, 0];
        self.event(Event::Reset);
        self.ask(Control { asked_by: Asker::Nobody, setup: SET_ADDRESS_1, data: Vec::new(), taken: 0 });
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.events.push_back(event);
        wake(&mut self.events_waker);
    }

    /// Asks the device for a descriptor, as a host does; [`None`] is its refusal.
    pub(crate) fn descriptor(&mut self, kind: u8, length: u16) -> tokio::sync::oneshot::Receiver<Option<Vec<u8>>> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let [low, high] = length.to_le_bytes();
        let setup = [0x80, 6, 0, kind, 0, 0, low, high];
        self.ask(Control { asked_by: Asker::Port(answer), setup, data: Vec::new(), taken: 0 });
        answered
    }

    /// Takes a transfer of the host.
    pub(crate) fn submit(&mut self, submit: Submit) {
        let room = self.pending_bytes().saturating_add(submit.length) <= MAX_PENDING_BYTES;
        if !room || self.pending() >= MAX_PENDING {
            return self.refuse(&submit, Status::NoMemory);
        }
        if submit.endpoint == 0 {
            let (setup, data) = (submit.setup, Vec::new());
            return self.ask(Control { asked_by: Asker::Host(submit), setup, data, taken: 0 });
        }
        let address = submit.endpoint | if submit.is_in { 0x80 } else { 0 };
        match self.endpoints.get_mut(&address) {
            None => self.refuse(&submit, Status::Stalled),
            Some(endpoint) if endpoint.is_halted => self.refuse(&submit, Status::Stalled),
            Some(endpoint) if !endpoint.is_enabled => self.refuse(&submit, Status::NoAnswer),
            Some(endpoint) => {
                endpoint.waiting.push_back(Transfer { submit, taken: 0 });
                wake(&mut endpoint.waker);
                self.fill(address);
            }
        }
    }

    /// Takes a transfer back, if it has not ended.
    pub(crate) fn unlink(&mut self, sequence: u32, victim: u32) {
        let is_victim = |control: &Control| matches!(&control.asked_by, Asker::Host(it) if it.sequence == victim);
        let before = self.pending();
        for endpoint in self.endpoints.values_mut() {
            endpoint.waiting.retain(|transfer| transfer.submit.sequence != victim);
        }
        self.control.retain(|control| !is_victim(control));
        // The stack finds out at its next step.
        self.current.take_if(|control| is_victim(control));
        wake(&mut self.control_waker);
        let found = self.pending() < before;
        self.outbox.push_back(wire::unlinked(sequence, found));
    }

    fn pending(&self) -> usize {
        let waiting: usize = self.endpoints.values().map(|endpoint| endpoint.waiting.len()).sum();
        waiting + self.control.len() + usize::from(self.current.is_some())
    }

    fn pending_bytes(&self) -> usize {
        let transfers = self.endpoints.values().flat_map(|endpoint| &endpoint.waiting).map(|it| &it.submit);
        let controls = self.control.iter().chain(&self.current).filter_map(|control| match &control.asked_by {
            Asker::Host(submit) => Some(submit),
            Asker::Port(_) | Asker::Nobody => None,
        });
        transfers.chain(controls).map(|submit| submit.length).sum()
    }

    fn refuse(&mut self, submit: &Submit, status: Status) {
        self.outbox.push_back(wire::submitted(submit.sequence, status, 0, &[]));
    }

    fn ask(&mut self, control: Control) {
        self.control.push_back(control);
        wake(&mut self.control_waker);
    }
}

/// The device's side: events and endpoints.
impl Bus {
    pub(crate) fn poll_event(&mut self, context: &Context<'_>) -> Poll<Event> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => wait(&mut self.events_waker, context),
        }
    }

    pub(crate) fn set_enabled(&mut self, address: u8, enabled: bool) {
        let Some(endpoint) = self.endpoints.get_mut(&address) else { return };
        endpoint.set_enabled(enabled);
        self.end_all(address, Status::Shutdown);
    }

    pub(crate) fn set_halted(&mut self, address: u8, halted: bool) {
        let Some(endpoint) = self.endpoints.get_mut(&address) else { return };
        endpoint.is_halted = halted;
        endpoint.packet = None;
        wake(&mut endpoint.waker);
        if halted {
            self.end_all(address, Status::Stalled);
        }
    }

    fn end_all(&mut self, address: u8, status: Status) {
        let Some(endpoint) = self.endpoints.get_mut(&address) else { return };
        for transfer in std::mem::take(&mut endpoint.waiting) {
            self.refuse(&transfer.submit, status);
        }
    }

    /// Takes the next packet of the host: at most one of the endpoint's size.
    pub(crate) fn poll_read(
        &mut self,
        address: u8,
        buffer: &mut [u8],
        context: &Context<'_>,
    ) -> Poll<Result<usize, EndpointError>> {
        let Some(endpoint) = self.endpoints.get_mut(&address) else { return Poll::Ready(Err(EndpointError::Disabled)) };
        if !endpoint.is_enabled {
            return Poll::Ready(Err(EndpointError::Disabled));
        }
        let size = usize::from(endpoint.info.max_packet_size);
        let Some(transfer) = endpoint.waiting.front_mut() else { return wait(&mut endpoint.waker, context) };
        let Submit { sequence, length, wants_zero_packet, .. } = transfer.submit;
        let rest = transfer.submit.data.get(transfer.taken..).unwrap_or_default();
        let packet = rest.get(..size).unwrap_or(rest);
        let Some(room) = buffer.get_mut(..packet.len()) else { return Poll::Ready(Err(EndpointError::BufferOverflow)) };
        room.copy_from_slice(packet);
        let read = packet.len();
        transfer.taken += read;
        // A transfer that fills its last packet ends there, or with an empty one if the host wants that.
        if transfer.taken == length && (read < size || !wants_zero_packet) {
            endpoint.waiting.pop_front();
            self.outbox.push_back(wire::submitted(sequence, Status::Done, length, &[]));
        }
        Poll::Ready(Ok(read))
    }

    /// Gives the host a packet, as soon as it has taken the one before.
    pub(crate) fn poll_write(
        &mut self,
        address: u8,
        packet: &[u8],
        context: &Context<'_>,
    ) -> Poll<Result<(), EndpointError>> {
        let Some(endpoint) = self.endpoints.get_mut(&address) else { return Poll::Ready(Err(EndpointError::Disabled)) };
        if packet.len() > usize::from(endpoint.info.max_packet_size) {
            return Poll::Ready(Err(EndpointError::BufferOverflow));
        }
        if !endpoint.is_enabled {
            return Poll::Ready(Err(EndpointError::Disabled));
        }
        if endpoint.packet.is_some() {
            return wait(&mut endpoint.waker, context);
        }
        endpoint.packet = Some(packet.to_vec());
        self.fill(address);
        Poll::Ready(Ok(()))
    }

    /// Waits until the host has enabled the endpoint.
    pub(crate) fn poll_enabled(&mut self, address: u8, context: &Context<'_>) -> Poll<()> {
        match self.endpoints.get_mut(&address) {
            Some(endpoint) if !endpoint.is_enabled => wait(&mut endpoint.waker, context),
            _ => Poll::Ready(()),
        }
    }

    /// Moves the packet of an IN endpoint into the transfer that waits for it. A short packet ends the transfer.
    fn fill(&mut self, address: u8) {
        let Some(endpoint) = self.endpoints.get_mut(&address) else { return };
        let Some(transfer) = endpoint.waiting.front_mut().filter(|transfer| transfer.submit.is_in) else { return };
        let Some(packet) = endpoint.packet.take() else { return };
        wake(&mut endpoint.waker);
        let Submit { sequence, length, .. } = transfer.submit;
        let fits = transfer.submit.data.len() + packet.len() <= length;
        if fits {
            transfer.submit.data.extend_from_slice(&packet);
        }
        let filled = transfer.submit.data.len() == length;
        if !fits || filled || packet.len() < usize::from(endpoint.info.max_packet_size) {
            let status = if fits { Status::Done } else { Status::Overflow };
            let data = std::mem::take(&mut transfer.submit.data);
            endpoint.waiting.pop_front();
            self.outbox.push_back(wire::submitted(sequence, status, data.len(), &data));
        }
    }
}

/// The device's side: endpoint 0.
impl Bus {
    /// Takes the next SETUP packet. A transfer that the stack has not ended, though it was the last, is ended.
    pub(crate) fn poll_setup(&mut self, context: &Context<'_>) -> Poll<[u8; 8]> {
        if let Some(unfinished) = &self.current {
            // embassy-usb says nothing to a request for no bytes at all.
            let is_empty = unfinished.is_in() && unfinished.wanted() == 0;
            self.end(if is_empty { Status::Done } else { Status::Stalled });
        }
        match self.control.pop_front() {
            Some(control) => Poll::Ready(self.current.insert(control).setup),
            None => wait(&mut self.control_waker, context),
        }
    }

    /// A packet of the data stage to the device.
    pub(crate) fn data_out(&mut self, buffer: &mut [u8]) -> Result<usize, EndpointError> {
        let Some(Control { asked_by: Asker::Host(submit), taken, .. }) = &mut self.current else {
            return Err(EndpointError::Disabled);
        };
        let rest = submit.data.get(*taken..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        for (place, byte) in buffer.iter_mut().zip(rest) {
            *place = *byte;
        }
        *taken += length;
        Ok(length)
    }

    /// A packet of the data stage to the host.
    pub(crate) fn data_in(&mut self, packet: &[u8], is_last: bool) -> Result<(), EndpointError> {
        let control = self.current.as_mut().ok_or(EndpointError::Disabled)?;
        control.data.extend_from_slice(packet);
        if is_last {
            self.end(Status::Done);
        }
        Ok(())
    }

    /// Ends the transfer that the stack has.
    pub(crate) fn end(&mut self, status: Status) {
        let Some(control) = self.current.take() else { return };
        let (is_in, wanted) = (control.is_in(), control.wanted());
        let Control { asked_by, mut data, taken, .. } = control;
        data.truncate(wanted);
        let is_done = status == Status::Done;
        match asked_by {
            Asker::Host(submit) if is_in && is_done => {
                self.outbox.push_back(wire::submitted(submit.sequence, status, data.len(), &data));
            }
            Asker::Host(submit) => {
                let actual = if is_done { taken } else { 0 };
                self.outbox.push_back(wire::submitted(submit.sequence, status, actual, &[]));
            }
            // The port may have lost patience.
            Asker::Port(answer) => drop(answer.send(is_done.then_some(data))),
            Asker::Nobody => {}
        }
    }
}

impl Endpoint {
    pub(crate) fn new(info: EndpointInfo) -> Self {
        let (is_enabled, is_halted, packet, waker) = (false, false, None, None);
        Self { info, is_enabled, is_halted, waiting: VecDeque::new(), packet, waker }
    }

    fn set_enabled(&mut self, enabled: bool) {
        (self.is_enabled, self.is_halted, self.packet) = (enabled, false, None);
        wake(&mut self.waker);
    }
}

impl Control {
    fn is_in(&self) -> bool {
        let [kind, ..] = self.setup;
        kind & 0x80 != 0
    }

    /// How many bytes of an answer fit: by the SETUP packet, and by the transfer that it came in.
    fn wanted(&self) -> usize {
        let [.., low, high] = self.setup;
        let by_setup = usize::from(u16::from_le_bytes([low, high]));
        match &self.asked_by {
            Asker::Host(submit) => by_setup.min(submit.length),
            Asker::Port(_) | Asker::Nobody => by_setup,
        }
    }
}

/// Polls what is on the other side of a lock.
pub(crate) async fn poll<T>(shared: &Shared, mut step: impl FnMut(&mut Bus, &Context<'_>) -> Poll<T>) -> T {
    poll_fn(|context| step(&mut shared.lock(), context)).await
}

fn wait<T>(waker: &mut Option<Waker>, context: &Context<'_>) -> Poll<T> {
    match waker {
        Some(waker) => waker.clone_from(context.waker()),
        None => *waker = Some(context.waker().clone()),
    }
    Poll::Pending
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
