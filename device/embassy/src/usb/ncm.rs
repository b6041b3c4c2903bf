//! The network function: Ethernet frames between USB's transfers and the network stack.
//!
//! embassy-usb has a runner of its own for that, which (in 0.6) panics at frames that any host may send, and does not count.
//! Here a frame that is longer than the MTU is dropped.

use embassy_futures::{select::select, yield_now};
use embassy_net_driver_channel::{Runner, RxRunner, StateRunner, TxRunner, driver::LinkState};
use embassy_usb::{
    class::cdc_ncm::{CdcNcmClass, Receiver, Sender},
    driver::Driver,
};

use super::{
    counted::{Counted, NTB_LEN},
    counters::Counters,
};
use crate::udp::PORT;

/// An Ethernet header, and the least MTU that IPv6 allows (RFC 8200 section 5): CoAP's datagrams are shorter.
pub(super) const MTU: usize = 14 + 1280;

pub(super) struct Network<'d, D: Driver<'d>> {
    sender: Sender<'d, Counted<'d, D>>,
    receiver: Receiver<'d, Counted<'d, D>>,
    frames: Runner<'d, MTU>,
    counters: &'d Counters,
}

impl<'d, D: Driver<'d>> Network<'d, D> {
    pub(super) fn new(class: CdcNcmClass<'d, Counted<'d, D>>, frames: Runner<'d, MTU>, counters: &'d Counters) -> Self {
        let (sender, receiver) = class.split();
        Network { sender, receiver, frames, counters }
    }

    /// Carries frames for ever.
    pub(super) async fn run(self) {
        let Network { sender, receiver, frames, counters } = self;
        let (state, to_stack, from_stack) = frames.split();
        select(carry_in(receiver, state, to_stack, counters), carry_out(sender, from_stack)).await;
    }
}

async fn carry_in<'d, D: Driver<'d>>(
    mut receiver: Receiver<'d, Counted<'d, D>>,
    state: StateRunner<'d>,
    mut stack: RxRunner<'d, MTU>,
    counters: &Counters,
) {
    let mut frame = [0; NTB_LEN];
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
            counters.carried();
            if len > MTU {
                Counters::count(&counters.long_frames);
            } else if !is_for_us(frame) {
                Counters::count(&counters.foreign_frames);
            } else if let Some(room) = stack.rx_buf().await.get_mut(..len) {
                room.copy_from_slice(frame);
                stack.rx_done(len);
            }
        }
        Counters::count(&counters.broken_transfers);
        yield_now().await;
    }
}

async fn carry_out<'d, D: Driver<'d>>(mut sender: Sender<'d, Counted<'d, D>>, mut stack: TxRunner<'d, MTU>) {
    loop {
        let frame = stack.tx_buf().await;
        // Where the host is away, it is lost, as frames may be.
        let _ = sender.write_packet(frame).await;
        stack.tx_done();
    }
}

/// Whether a frame is for CoAP on link-local addresses, or what IPv6 needs for that. Nothing else reaches the stack.
fn is_for_us(frame: &[u8]) -> bool {
    const IPV6: u16 = 0x86dd;
    const LINK_LOCAL: [u8; 8] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0];
    // The queries of multicast listener discovery come behind hop-by-hop options (RFC 3810 section 5).
    const HOP_BY_HOP: u8 = 0;
    const UDP: u8 = 17;
    const ICMPV6: u8 = 58;
    const ECHO_REQUEST: u8 = 128;
    const NEIGHBOUR_SOLICITATION: u8 = 135;
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

    let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..)?.first_chunk().copied()?));
    word(12) == Some(IPV6)
        && match frame.get(20) {
            Some(&UDP) => frame.get(22..30) == Some(&LINK_LOCAL) && word(56) == Some(PORT),
            Some(&ICMPV6) => {
                matches!(frame.get(54), Some(&(ECHO_REQUEST | NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT)))
            }
            Some(&HOP_BY_HOP) => true,
            _ => false,
        }
}
