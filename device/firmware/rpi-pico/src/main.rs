//! The commissionable device on the Raspberry Pi Pico: UART on two pins, storage at the end of the flash chip.
#![no_std]
#![no_main]

use device::store::Layout;
use device_board::{
    Words,
    entropy::{self, Unhealthy},
};
use embassy_executor::Spawner;
use embassy_rp::{
    bind_interrupts,
    config::Config,
    flash::{self, Flash},
    gpio::{Level, Output},
    pac::{self, rosc::vals::Div},
    peripherals::{FLASH, UART0},
    uart::{self, BufferedInterruptHandler, BufferedUart},
};
use embassy_time::{Duration, block_for};
use firmware::{Hardware, device_id, link_layout, refuse, run};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

bind_interrupts!(struct Interrupts {
    UART0_IRQ => BufferedInterruptHandler<UART0>;
});

type Chip = Flash<'static, FLASH, flash::Blocking, { 2 << 20 }>;

const LAYOUT: Layout = Layout::smallest::<Words<Chip>>(0x1F_A000);
link_layout!(LAYOUT);

/// Between two raw bits of the ring oscillator.
const SPACING: Duration = Duration::from_micros(100);

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
    let Some(device) = uid(&mut flash).and_then(|uid| device_id("pico", &uid)) else {
        refuse(port, "the flash chip has no unique number that is known to be one").await
    };
    let seed = match seed() {
        Ok(seed) => seed,
        Err(unhealthy) => refuse(port, unhealthy).await,
    };
    let hardware = Hardware {
        device,
        flash: Words(flash),
        layout: LAYOUT,
        rng: ChaCha20Rng::from_seed(*seed),
        port,
        led: Output::new(board.PIN_25, Level::Low),
        operation_ms: 400,
    };
    run(hardware, concat!("rpi-pico ", env!("CARGO_PKG_VERSION"))).await;
}

/// The unique number of the flash chip. Winbond's have one of 8 bytes; others have none, or a longer one.
fn uid(flash: &mut Chip) -> Option<[u8; 8]> {
    const WINBOND: u32 = 0xEF;
    let mut uid = [0; 8];
    let maker = flash.blocking_jedec_id().ok()? >> 16;
    flash.blocking_unique_id(&mut uid).ok()?;
    (maker == WINBOND).then_some(uid)
}

/// A seed from the ring oscillator, which clocks nothing else.
fn seed() -> Result<Zeroizing<[u8; 32]>, Unhealthy> {
    // The faster it runs, the more jitter there is between two samples: divide by one.
    pac::ROSC.div().write(|w| w.set_div(Div(Div::PASS.0 + 1)));
    entropy::seed(|| {
        block_for(SPACING);
        pac::ROSC.randombit().read().randombit()
    })
}
