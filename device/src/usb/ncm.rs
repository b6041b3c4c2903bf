//! The network function: Ethernet frames between USB's transfers and the network stack.
//!
//! embassy-usb has a runner of its own for that. It writes a frame of up to 2 kB into a buffer of the MTU, and panics at a
//! longer one, which any host may send; and it does not count.

use embassy_futures::{select::select, yield_now};
use embassy_net_driver_channel::{Runner, RxRunner, StateRunner, TxRunner, driver::LinkState};
use embassy_usb::{
    class::cdc_ncm::{CdcNcmClass, Receiver, Sender},
    driver::Driver,
};

use super::Counters;

/// An Ethernet header, and the least MTU that IPv6 allows (RFC 8200 section 5): CoAP's datagrams are shorter.
pub(super) const MTU: usize = 14 + 1280;
/// No frame of a host is longer: embassy-usb asks for transfers of at most so many bytes.
const LONGEST: usize = 2048;

pub(super) struct Network<'d, D: Driver<'d>> {
    sender: Sender<'d, D>,
    receiver: Receiver<'d, D>,
    frames: Runner<'d, MTU>,
    counters: &'d Counters,
}

impl<'d, D: Driver<'d>> Network<'d, D> {
    pub(super) fn new(class: CdcNcmClass<'d, D>, frames: Runner<'d, MTU>, counters: &'d Counters) -> Self {
        let (sender, receiver) = class.split();
        Network { sender, receiver, frames, counters }
    }

    /// Carries frames for ever.
    pub(super) async fn run(self) {
        let Network { sender, receiver, frames, counters } = self;
        let (state, to_stack, from_stack) = frames.split();
        select(carry_in(receiver, state, to_stack, counters), carry_out(sender, from_stack, counters)).await;
    }
}

async fn carry_in<'d, D: Driver<'d>>(
    mut receiver: Receiver<'d, D>,
    state: StateRunner<'d>,
    mut stack: RxRunner<'d, MTU>,
    counters: &Counters,
) {
    let mut frame = [0; LONGEST];
    loop {
        state.set_link_state(LinkState::Down);
        if receiver.wait_connection().await.is_err() {
            yield_now().await;
            continue;
        }
        state.set_link_state(LinkState::Up);
        // It ends when the host switches the function off, or pulls it out.
        while let Ok(len) = receiver.read_packet(&mut frame).await {
            let frame = frame.get(..len).unwrap_or_default();
            match stack.rx_buf().await.get_mut(..len) {
                Some(room) => {
                    room.copy_from_slice(frame);
                    stack.rx_done(len);
                }
                None => Counters::count(&counters.long_frames),
            }
        }
        Counters::count(&counters.broken_transfers);
        yield_now().await;
    }
}

async fn carry_out<'d, D: Driver<'d>>(mut sender: Sender<'d, D>, mut stack: TxRunner<'d, MTU>, counters: &Counters) {
    loop {
        let frame = stack.tx_buf().await;
        if sender.write_packet(frame).await.is_err() {
            Counters::count(&counters.broken_transfers);
        }
        stack.tx_done();
    }
}
