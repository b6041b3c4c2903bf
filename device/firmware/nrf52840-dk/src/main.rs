//! The commissionable device on the nRF52840 DK: UART over the debugger's USB, storage at the end of the internal flash.
#![no_std]
#![no_main]

mod board;

use device_board::ActiveLow;
use embassy_executor::Spawner;
use embassy_nrf::{
    bind_interrupts,
    buffered_uarte::{BufferedUarte, InterruptHandler},
    gpio::{Input, Level, Output, OutputDrive, Pull},
    mode::Blocking,
    nvmc::Nvmc,
    peripherals::UARTE0,
    rng::Rng,
    uarte,
};
use firmware::{Led, Place, config, run};

use board::LAYOUT;

static PLACE: Place<(), Nvmc<'static>, Rng<'static, Blocking>> = Place::new();

bind_interrupts!(struct Interrupts {
    UARTE0 => InterruptHandler<UARTE0>;
});

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    let board = board::init();
    let Some(device) = board::id() else { return };
    let rng = Rng::new_blocking(board.RNG);
    rng.set_bias_correction(true);
    // The processor stands still while a page is erased, 85 ms or 980 bytes. Reception goes on, into one half of the buffer
    // and then into the other.
    let (mut received, mut to_send) = ([0; 4096], [0; 256]);
    let port = BufferedUarte::new(
        board.UARTE0,
        board.TIMER1,
        board.PPI_CH0,
        board.PPI_CH1,
        board.PPI_GROUP0,
        board.P0_08,
        board.P0_06,
        Interrupts,
        uarte::Config::default(),
        &mut received,
        &mut to_send,
    );
    let config = config(device, concat!("nrf52840-dk ", env!("CARGO_PKG_VERSION")), 30);
    let Some(server) = PLACE.start(config, Led, Nvmc::new(board.NVMC), LAYOUT, rng) else { return };
    let button = ActiveLow(Input::new(board.P0_11, Pull::Up));
    let led = ActiveLow(Output::new(board.P0_13, Level::High, OutputDrive::Standard));
    run(server, port, button, led).await;
}
