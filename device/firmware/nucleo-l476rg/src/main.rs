//! The commissionable device on the NUCLEO-L476RG: UART over the debugger's USB, storage at the end of the internal flash.
#![no_std]
#![no_main]

use cortex_m::peripheral::SCB;
use cortex_m_rt::exception;
use device::store::Layout;
use device_board::ActiveLow;
use embassy_executor::Spawner;
use embassy_stm32::{
    Config, bind_interrupts,
    flash::{self, Flash},
    gpio::{Input, Level, Output, Pull, Speed},
    pac, peripherals, rcc,
    rng::{self, Rng},
    uid::uid,
    usart::{self, BufferedUart},
};
use firmware::{Led, Place, SEND_LEN, device_id, link_layout, run};

bind_interrupts!(struct Interrupts {
    RNG => rng::InterruptHandler<peripherals::RNG>;
    USART2 => usart::BufferedInterruptHandler<peripherals::USART2>;
});

type Chip = Flash<'static, flash::Blocking>;

const LAYOUT: Layout = Layout::smallest::<Chip>(0xF_A800);
link_layout!(LAYOUT);

static PLACE: Place<(), Chip, Rng<'static, peripherals::RNG>> = Place::new();

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    let mut config = Config::default();
    // 16 MHz * 18: 72 MHz for the processor, 48 MHz for the random number generator.
    config.rcc.hsi = true;
    config.rcc.pll = Some(rcc::Pll {
        source: rcc::PllSource::HSI,
        prediv: rcc::PllPreDiv::DIV1,
        mul: rcc::PllMul::MUL18,
        divp: None,
        divq: Some(rcc::PllQDiv::DIV6),
        divr: Some(rcc::PllRDiv::DIV4),
    });
    config.rcc.sys = rcc::Sysclk::PLL1_R;
    config.rcc.mux.clk48sel = rcc::mux::Clk48sel::PLL1_Q;
    let board = embassy_stm32::init(config);
    // The cache keeps what was in a page before it was erased.
    pac::FLASH.acr().modify(|w| w.set_dcen(false));

    let Some(device) = device_id("l476", &uid()) else { return };
    // Whoever waits for room to send is not woken by this driver, so there always is enough.
    let (mut to_send, mut received) = ([0; SEND_LEN], [0; 2048]);
    let Ok(port) = BufferedUart::new(
        board.USART2,
        board.PA3,
        board.PA2,
        &mut to_send,
        &mut received,
        Interrupts,
        usart::Config::default(),
    ) else {
        return;
    };
    let config = firmware::config(device, concat!("nucleo-l476rg ", env!("CARGO_PKG_VERSION")), 30);
    let (flash, rng) = (Flash::new_blocking(board.FLASH), Rng::new(board.RNG, Interrupts));
    let Some(server) = PLACE.start(config, Led, flash, LAYOUT, rng) else { return };
    // The blue one.
    let button = ActiveLow(Input::new(board.PC13, Pull::None));
    run(server, port, button, Output::new(board.PA5, Level::Low, Speed::Low)).await;
}

/// A word of flash whose bits contradict its error correction code: programming it was cut short. In the storage that is
/// nothing special, since every image has a digest.
#[exception]
unsafe fn NonMaskableInt() {
    let code = pac::FLASH.eccr().read();
    if !code.eccd() || !code.bk_ecc() {
        // In the image, or something else.
        SCB::sys_reset();
    }
    // Writing the flag back clears it.
    pac::FLASH.eccr().write_value(code);
}
