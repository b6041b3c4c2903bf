//! The commissionable device on `emcraft-sf2`, a Cortex-M3 that QEMU emulates, with its storage in SPI NOR flash that the
//! host keeps in a file.
#![no_std]
#![no_main]

mod spi;
mod spi_nor;
mod uart;

use cortex_m_rt::{entry, exception};
use device::store::Layout;
use firmware::{Led, NoButton, Place, SharedServer, config, device_id, run};
use firmware_emulated::{
    led::NoLed,
    page::Generator,
    start,
    uart::{Uart, on_interrupt},
};

use crate::{spi::Spi, spi_nor::SpiNor, uart::Uart16550};

/// What QEMU lets the processor run at.
const HERTZ: u32 = 142_000_000;
/// The interrupt of UART 0.
const UART: u16 = 10;

static PLACE: Place<(), SpiNor, Generator> = Place::new();

#[embassy_executor::task]
async fn commissioning(server: &'static SharedServer<(), SpiNor, Generator, Led>) {
    run(server, Uart::start(Uart16550, UART), NoButton, NoLed).await;
}

#[entry]
fn main() -> ! {
    start(HERTZ, |spawner, uid, rng| {
        let Some(device) = device_id("sf2", &uid) else { return };
        let config = config(device, concat!("emcraft-sf2 ", env!("CARGO_PKG_VERSION")), 50);
        let flash = SpiNor::new(Spi::start());
        let Some(server) = PLACE.start(config, Led, flash, Layout::smallest::<SpiNor>(0), rng) else { return };
        if let Ok(task) = commissioning(server) {
            spawner.spawn(task);
        }
    })
}

#[exception]
unsafe fn DefaultHandler(number: i16) {
    if number == UART as i16 {
        on_interrupt(&mut Uart16550);
    }
}
