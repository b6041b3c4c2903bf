//! The commissionable device on the Raspberry Pi Pico: UART on two pins, storage at the end of the flash chip.
#![no_std]
#![no_main]

mod board;

use embassy_executor::Spawner;
use embassy_rp::{
    bind_interrupts,
    config::Config,
    flash::Flash,
    gpio::{Level, Output},
    pac,
    peripherals::UART0,
    uart::{self, BufferedInterruptHandler, BufferedUart},
};
use firmware::{Led, NoButton, Place, config, device_id, refuse, run};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use board::{Chip, LAYOUT, NO_UID, seed, uid};

static PLACE: Place<(), Chip, ChaCha20Rng> = Place::new();

bind_interrupts!(struct Interrupts {
    UART0_IRQ => BufferedInterruptHandler<UART0>;
});

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    let board = embassy_rp::init(Config::default());
    let (mut to_send, mut received) = ([0; 256], [0; 2048]);
    let port = BufferedUart::new(
        board.UART0,
        board.PIN_0,
        board.PIN_1,
        Interrupts,
        &mut to_send,
        &mut received,
        uart::Config::default(),
    );
    // Nothing connected is an idle line.
    pac::PADS_BANK0.gpio(1).modify(|w| w.set_pue(true));
    let mut flash = Flash::new_blocking(board.FLASH);
    let Some(device) = uid(&mut flash).and_then(|uid| device_id("pico", &uid)) else { refuse(port, NO_UID).await };
    let seed = match seed() {
        Ok(seed) => seed,
        Err(unhealthy) => refuse(port, unhealthy.as_str()).await,
    };
    let config = config(device, concat!("rpi-pico ", env!("CARGO_PKG_VERSION")), 200);
    let rng = ChaCha20Rng::from_seed(*seed);
    let Some(server) = PLACE.start(config, Led, flash, LAYOUT, rng) else { return };
    run(server, port, NoButton, Output::new(board.PIN_25, Level::Low)).await;
}
