//! The commissionable device on the Raspberry Pi Pico: its own USB socket, storage at the end of the flash chip. A UART on
//! two pins says why, if the board must not be a device.
#![no_std]
#![no_main]

mod board;

use embassy_executor::Spawner;
use embassy_rp::{
    Peri, bind_interrupts,
    config::Config,
    flash::Flash,
    gpio::{Level, Output},
    peripherals::{PIN_0, PIN_1, UART0, USB},
    uart::{self, BufferedInterruptHandler, BufferedUart},
    usb,
};
use firmware::{Address, Led, NoButton, Place, config, device_id, refuse, run_usb};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use board::{Chip, LAYOUT, NO_UID, seed, uid};

static PLACE: Place<Address, Chip, ChaCha20Rng> = Place::new();

bind_interrupts!(struct Interrupts {
    UART0_IRQ => BufferedInterruptHandler<UART0>;
    USBCTRL_IRQ => usb::InterruptHandler<USB>;
});

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    let board = embassy_rp::init(Config::default());
    let mut flash = Flash::new_blocking(board.FLASH);
    let Some(device) = uid(&mut flash).and_then(|uid| device_id("pico", &uid)) else {
        return say(board.UART0, board.PIN_0, board.PIN_1, NO_UID).await;
    };
    let seed = match seed() {
        Ok(seed) => seed,
        Err(unhealthy) => return say(board.UART0, board.PIN_0, board.PIN_1, unhealthy.as_str()).await,
    };
    let config = config(device, concat!("rpi-pico-usb ", env!("CARGO_PKG_VERSION")), 200);
    let rng = ChaCha20Rng::from_seed(*seed);
    let Some(server) = PLACE.start(config, Led, flash, LAYOUT, rng) else { return };
    let port = usb::Driver::new(board.USB, Interrupts);
    let led = Output::new(board.PIN_25, Level::Low);
    run_usb(server, port, NoButton, led, "Raspberry Pi Pico").await;
}

async fn say(uart: Peri<'static, UART0>, tx: Peri<'static, PIN_0>, rx: Peri<'static, PIN_1>, why: &str) {
    let (mut to_send, mut received) = ([0; 256], [0; 32]);
    refuse(BufferedUart::new(uart, tx, rx, Interrupts, &mut to_send, &mut received, uart::Config::default()), why).await
}
