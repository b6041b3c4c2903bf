//! A driver whose refusals are counted: what embassy-usb drops, it drops without a word.

use embassy_usb::driver::{
    ControlPipe, Driver, Endpoint, EndpointAddress, EndpointAllocError, EndpointError, EndpointInfo, EndpointOut,
    EndpointType,
};

use super::counters::Counters;

/// Bytes of a transfer block of the network function at most; embassy-usb asks the host for that (CDC NCM 1.0, section
/// 6.2.1).
pub(super) const NTB_LEN: usize = 2048;
/// The serial function's data comes first, the network's second.
const OF_NETWORK: u8 = 2;

/// The board's driver.
pub(super) struct Counted<'d, D> {
    driver: D,
    counters: &'d Counters,
    outs: u8,
}

impl<'d, D> Counted<'d, D> {
    pub(super) const fn new(driver: D, counters: &'d Counters) -> Self {
        Counted { driver, counters, outs: 0 }
    }
}

impl<'d, D: Driver<'d>> Driver<'d> for Counted<'d, D> {
    type EndpointOut = Out<'d, D::EndpointOut>;
    type EndpointIn = D::EndpointIn;
    type ControlPipe = Requests<'d, D::ControlPipe>;
    type Bus = D::Bus;

    fn alloc_endpoint_out(
        &mut self,
        kind: EndpointType,
        address: Option<EndpointAddress>,
        max_packet_size: u16,
        interval_ms: u8,
    ) -> Result<Self::EndpointOut, EndpointAllocError> {
        let endpoint = self.driver.alloc_endpoint_out(kind, address, max_packet_size, interval_ms)?;
        self.outs = self.outs.saturating_add(1);
        Ok(Out { endpoint, of_network: (self.outs == OF_NETWORK).then_some(self.counters), len: 0 })
    }

    fn alloc_endpoint_in(
        &mut self,
        kind: EndpointType,
        address: Option<EndpointAddress>,
        max_packet_size: u16,
        interval_ms: u8,
    ) -> Result<Self::EndpointIn, EndpointAllocError> {
        self.driver.alloc_endpoint_in(kind, address, max_packet_size, interval_ms)
    }

    fn start(self, control_max_packet_size: u16) -> (Self::Bus, Self::ControlPipe) {
        let (bus, pipe) = self.driver.start(control_max_packet_size);
        (bus, Requests { pipe, counters: self.counters })
    }
}

/// An endpoint from the host. Each transfer block of the network function counts as dropped when its last packet is read;
/// [`Counters::carried`] takes that back when a frame comes out of it.
pub(super) struct Out<'d, E> {
    endpoint: E,
    of_network: Option<&'d Counters>,
    /// Bytes of the block so far.
    len: usize,
}

impl<E: Endpoint> Endpoint for Out<'_, E> {
    fn info(&self) -> &EndpointInfo {
        self.endpoint.info()
    }

    async fn wait_enabled(&mut self) {
        self.endpoint.wait_enabled().await;
    }
}

impl<E: EndpointOut> EndpointOut for Out<'_, E> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, EndpointError> {
        let read = self.endpoint.read(buf).await;
        let Some(counters) = self.of_network else { return read };
        let ended = match &read {
            Ok(len) => {
                self.len = self.len.saturating_add(*len);
                *len < usize::from(self.info().max_packet_size) || self.len >= NTB_LEN
            }
            // It broke off.
            Err(_) => true,
        };
        if ended && core::mem::take(&mut self.len) > 0 && read.is_ok() {
            Counters::count(&counters.malformed_transfers);
        }
        read
    }
}

/// The control pipe.
pub(super) struct Requests<'d, P> {
    pipe: P,
    counters: &'d Counters,
}

impl<P: ControlPipe> ControlPipe for Requests<'_, P> {
    fn max_packet_size(&self) -> usize {
        self.pipe.max_packet_size()
    }

    async fn setup(&mut self) -> [u8; 8] {
        self.pipe.setup().await
    }

    async fn data_out(&mut self, buf: &mut [u8], first: bool, last: bool) -> Result<usize, EndpointError> {
        self.pipe.data_out(buf, first, last).await
    }

    async fn data_in(&mut self, data: &[u8], first: bool, last: bool) -> Result<(), EndpointError> {
        self.pipe.data_in(data, first, last).await
    }

    async fn accept(&mut self) {
        self.pipe.accept().await;
    }

    async fn reject(&mut self) {
        Counters::count(&self.counters.refused_requests);
        self.pipe.reject().await;
    }

    async fn accept_set_address(&mut self, address: u8) {
        self.pipe.accept_set_address(address).await;
    }
}
