//! What embassy-usb sees: an `embassy_usb_driver::Driver` as of any USB controller.

use std::task::Poll;

use embassy_usb_driver::{
    self as usb, Direction, EndpointAddress, EndpointAllocError, EndpointError, EndpointInfo, EndpointType, Event,
    Unsupported,
};

use crate::{
    bus::{Endpoint, Shared, poll},
    wire::Status,
};

/// A USB controller in software. It has 15 endpoints in each direction, of any type but isochronous.
pub struct Driver {
    bus: Shared,
}

impl Driver {
    pub(crate) fn new(bus: Shared) -> Self {
        Self { bus }
    }

    fn allocate(
        &mut self,
        direction: Direction,
        ep_type: EndpointType,
        address: Option<EndpointAddress>,
        max_packet_size: u16,
        interval_ms: u8,
    ) -> Result<EndpointInfo, EndpointAllocError> {
        if matches!(ep_type, EndpointType::Isochronous | EndpointType::Control) || max_packet_size == 0 {
            return Err(EndpointAllocError);
        }
        let mut bus = self.bus.lock();
        let is_free = |address: &EndpointAddress| {
            let fits = address.direction() == direction && (1..16).contains(&address.index());
            fits && !bus.endpoints.contains_key(&u8::from(*address))
        };
        let addr = match address {
            Some(address) => Some(address).filter(is_free),
            None => (1..16).map(|index| EndpointAddress::from_parts(index, direction)).find(is_free),
        };
        let info = EndpointInfo { addr: addr.ok_or(EndpointAllocError)?, ep_type, max_packet_size, interval_ms };
        bus.endpoints.insert(info.addr.into(), Endpoint::new(info));
        Ok(info)
    }
}

impl<'d> usb::Driver<'d> for Driver {
    type EndpointOut = EndpointOut;
    type EndpointIn = EndpointIn;
    type ControlPipe = ControlPipe;
    type Bus = UsbBus;

    fn alloc_endpoint_out(
        &mut self,
        ep_type: EndpointType,
        ep_addr: Option<EndpointAddress>,
        max_packet_size: u16,
        interval_ms: u8,
    ) -> Result<EndpointOut, EndpointAllocError> {
        let info = self.allocate(Direction::Out, ep_type, ep_addr, max_packet_size, interval_ms)?;
        Ok(EndpointOut { bus: self.bus.clone(), info })
    }

    fn alloc_endpoint_in(
        &mut self,
        ep_type: EndpointType,
        ep_addr: Option<EndpointAddress>,
        max_packet_size: u16,
        interval_ms: u8,
    ) -> Result<EndpointIn, EndpointAllocError> {
        let info = self.allocate(Direction::In, ep_type, ep_addr, max_packet_size, interval_ms)?;
        Ok(EndpointIn { bus: self.bus.clone(), info })
    }

    fn start(self, control_max_packet_size: u16) -> (UsbBus, ControlPipe) {
        (UsbBus { bus: self.bus.clone() }, ControlPipe { bus: self.bus, max_packet_size: control_max_packet_size })
    }
}

/// What happens to the whole device.
pub struct UsbBus {
    bus: Shared,
}

impl usb::Bus for UsbBus {
    async fn enable(&mut self) {}

    async fn disable(&mut self) {}

    async fn poll(&mut self) -> Event {
        poll(&self.bus, |bus, context| bus.poll_event(context)).await
    }

    fn endpoint_set_enabled(&mut self, ep_addr: EndpointAddress, enabled: bool) {
        self.bus.lock().set_enabled(ep_addr.into(), enabled);
    }

    fn endpoint_set_stalled(&mut self, ep_addr: EndpointAddress, stalled: bool) {
        self.bus.lock().set_halted(ep_addr.into(), stalled);
    }

    fn endpoint_is_stalled(&mut self, ep_addr: EndpointAddress) -> bool {
        self.bus.lock().endpoints.get(&ep_addr.into()).is_some_and(|endpoint| endpoint.is_halted)
    }

    /// USB/IP has no word for it.
    async fn remote_wakeup(&mut self) -> Result<(), Unsupported> {
        Err(Unsupported)
    }
}

/// Bytes from the host.
pub struct EndpointOut {
    bus: Shared,
    info: EndpointInfo,
}

impl usb::Endpoint for EndpointOut {
    fn info(&self) -> &EndpointInfo {
        &self.info
    }

    async fn wait_enabled(&mut self) {
        poll(&self.bus, |bus, context| bus.poll_enabled(self.info.addr.into(), context)).await;
    }
}

impl usb::EndpointOut for EndpointOut {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, EndpointError> {
        poll(&self.bus, |bus, context| bus.poll_read(self.info.addr.into(), buf, context)).await
    }
}

/// Bytes to the host.
pub struct EndpointIn {
    bus: Shared,
    info: EndpointInfo,
}

impl usb::Endpoint for EndpointIn {
    fn info(&self) -> &EndpointInfo {
        &self.info
    }

    async fn wait_enabled(&mut self) {
        poll(&self.bus, |bus, context| bus.poll_enabled(self.info.addr.into(), context)).await;
    }
}

impl usb::EndpointIn for EndpointIn {
    async fn write(&mut self, buf: &[u8]) -> Result<(), EndpointError> {
        poll(&self.bus, |bus, context| bus.poll_write(self.info.addr.into(), buf, context)).await
    }
}

/// Endpoint 0.
pub struct ControlPipe {
    bus: Shared,
    max_packet_size: u16,
}

impl usb::ControlPipe for ControlPipe {
    fn max_packet_size(&self) -> usize {
        self.max_packet_size.into()
    }

    async fn setup(&mut self) -> [u8; 8] {
        poll(&self.bus, |bus, context| bus.poll_setup(context)).await
    }

    async fn data_out(&mut self, buf: &mut [u8], _first: bool, _last: bool) -> Result<usize, EndpointError> {
        poll(&self.bus, |bus, _| Poll::Ready(bus.data_out(buf))).await
    }

    async fn data_in(&mut self, data: &[u8], _first: bool, last: bool) -> Result<(), EndpointError> {
        poll(&self.bus, |bus, _| Poll::Ready(bus.data_in(data, last))).await
    }

    async fn accept(&mut self) {
        self.bus.lock().end(Status::Done);
    }

    async fn reject(&mut self) {
        self.bus.lock().end(Status::Stalled);
    }

    async fn accept_set_address(&mut self, _addr: u8) {
        self.bus.lock().end(Status::Done);
    }
}
