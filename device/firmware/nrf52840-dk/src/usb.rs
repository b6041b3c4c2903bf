//! The commissionable device on the nRF52840 DK: the chip's own USB socket, storage at the end of the internal flash.
#![no_std]
#![no_main]

mod board;

use device_board::ActiveLow;
use embassy_executor::Spawner;
use embassy_nrf::{
    bind_interrupts,
    gpio::{Input, Level, Output, OutputDrive, Pull},
    mode::Blocking,
    nvmc::Nvmc,
    peripherals::USBD,
    rng::Rng,
    usb::{
        self, Driver,
        vbus_detect::{self, HardwareVbusDetect},
    },
};
use firmware::{Address, Led, Place, config, run_usb};

use board::LAYOUT;

static PLACE: Place<Address, Nvmc<'static>, Rng<'static, Blocking>> = Place::new();

bind_interrupts!(struct Interrupts {
    USBD => usb::InterruptHandler<USBD>;
    CLOCK_POWER => vbus_detect::InterruptHandler;
});

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    let board = board::init();
    let Some(device) = board::id() else { return };
    let rng = Rng::new_blocking(board.RNG);
    rng.set_bias_correction(true);
    let config = config(device, concat!("nrf52840-dk-usb ", env!("CARGO_PKG_VERSION")), 30);
    let Some(server) = PLACE.start(config, Led, Nvmc::new(board.NVMC), LAYOUT, rng) else { return };
    let port = Driver::new(board.USBD, Interrupts, HardwareVbusDetect::new(Interrupts));
    let button = ActiveLow(Input::new(board.P0_11, Pull::Up));
    let led = ActiveLow(Output::new(board.P0_13, Level::High, OutputDrive::Standard));
    run_usb(server, port, button, led, "nRF52840 DK").await;
}
