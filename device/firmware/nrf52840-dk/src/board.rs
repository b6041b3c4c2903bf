//! What is the same for the UART and for USB: clocks, storage at the end of the internal flash, and the device ID.

use cbor_schemas::DeviceId;
use device::store::Layout;
use embassy_nrf::{
    Peripherals,
    config::{Config, HfclkSource},
    nvmc::Nvmc,
    pac,
};
use firmware::{device_id, link_layout};

pub(crate) const LAYOUT: Layout = Layout::smallest::<Nvmc<'static>>(0xF_6000);
link_layout!(LAYOUT);

pub(crate) fn init() -> Peripherals {
    let mut config = Config::default();
    // The internal oscillator may be off by more than a UART bears, and USB does not run by it.
    config.hfclk_source = HfclkSource::ExternalXtal;
    let board = embassy_nrf::init(config);
    // Of code only, so that it does not matter to the storage.
    pac::NVMC.icachecnf().write(|w| w.set_cacheen(true));
    board
}

pub(crate) fn id() -> Option<DeviceId> {
    let uid = [pac::FICR.deviceid(1).read(), pac::FICR.deviceid(0).read()].map(u32::to_be_bytes);
    device_id("nrf52840dk", uid.as_flattened())
}
