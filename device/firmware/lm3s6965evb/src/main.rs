//! The commissionable device on `lm3s6965evb`, which QEMU emulates with a Cortex-M3, or with a Cortex-M0 or M4 in its place,
//! for measuring: it tells in its log what a key cost, and what each datagram did. Its storage is RAM.
//!
//! With `-icount shift=0` an instruction takes a nanosecond, so a microsecond here is a thousand instructions.
#![no_std]
#![no_main]

mod uart;

use core::cell::RefCell;

use cortex_m_rt::{entry, exception};
use device::{
    flash::RamFlash,
    store::Layout,
    transport::serial::Serial,
    transport::{Service, serve},
};
use embassy_futures::select::select;
use embassy_time::Instant;
use firmware::{Led, Place, config, console, device_id, now_ms, prepare, start_log};
use firmware_emulated::{
    page::Generator,
    uart::{Uart, on_interrupt},
};
use protocol::{
    curve,
    key::{PrivateKey, PublicKey},
};
use static_cell::ConstStaticCell;

use crate::uart::Pl011;

const HERTZ: u32 = 50_000_000;
/// The interrupt of UART 0.
const UART: u16 = 5;
/// Run-mode clock configuration: bits 23 to 26 divide the PLL's 200 MHz, bit 22 uses the divisor.
const CLOCK_CONFIGURATION: usize = 0x400F_E060;

/// As little flash as the storage takes: twelve pages of 1 KiB.
type Flash = RamFlash<&'static mut [u8; 12 * 1024], 4, 1024>;
static CELLS: ConstStaticCell<[u8; 12 * 1024]> = ConstStaticCell::new([0; 12 * 1024]);
static PLACE: Place<(), Flash, Generator> = Place::new();

/// Making a key takes longer than this, and looking whether one is to be made does not.
const PREPARED_US: u64 = 100;

/// Tells how long the device takes for each datagram.
struct Metered<'s, S>(&'s RefCell<S>);

impl<A, S: Service<A>> Service<A> for Metered<'_, S> {
    fn handle(&mut self, from: A, datagram: &mut [u8], now: u64, out: &mut [u8]) -> Option<usize> {
        let (before, received) = (Instant::now(), datagram.len());
        let answered = self.0.try_borrow_mut().ok()?.handle(from, datagram, now, out);
        let took = before.elapsed().as_micros();
        log::info!("cost: {received} bytes in, {} bytes out, {took} us", answered.unwrap_or(0));
        answered
    }

    fn prepare(&mut self, now: u64) -> Option<u64> {
        let before = Instant::now();
        let again = self.0.try_borrow_mut().ok()?.prepare(now);
        let took = before.elapsed().as_micros();
        // It has nothing to do most of the time.
        if took >= PREPARED_US {
            log::info!("cost: prepared, {took} us");
        }
        again
    }
}

/// What a peer's x takes: its point is found, and multiplied by the scalar. Whether that worked.
fn agree(own: &PrivateKey, peer: &PublicKey) -> bool {
    let secret = curve::point_of(peer.x()).and_then(|point| curve::shared_secret(own.as_bytes(), &point));
    core::hint::black_box(secret).is_some()
}

#[embassy_executor::task]
async fn commissioning(uid: [u8; 8], mut rng: Generator) {
    let Some(device) = device_id("lm3s", &uid) else { return };
    start_log();
    let before = Instant::now();
    let key = PrivateKey::generate(&mut rng);
    log::info!("cost: key generation, {} us", before.elapsed().as_micros());
    let before = Instant::now();
    let agreed = agree(&key, key.public());
    log::info!("cost: one ECDH, {} us", before.elapsed().as_micros());
    if !agreed {
        return;
    }

    let config = config(device, concat!("lm3s6965evb ", env!("CARGO_PKG_VERSION")), 100);
    let (flash, layout) = (Flash::erased(CELLS.take()), Layout::smallest::<Flash>(0));
    let Some(server) = PLACE.start(config, Led, flash, layout, rng) else { return };
    let server = RefCell::new(Metered(server));
    let mut serial = Serial::new(Uart::start(Pl011, UART), ());
    select(serve(&server, &mut serial, now_ms, console::next_line), prepare(&server)).await;
}

#[entry]
fn main() -> ! {
    let clock = CLOCK_CONFIGURATION as *mut u32;
    // SAFETY: the register is that of the clock, and nothing runs yet that depends on it.
    unsafe { clock.write_volatile((clock.read_volatile() & !(0xF << 23)) | (3 << 23) | (1 << 22)) };
    firmware_emulated::start(HERTZ, |spawner, uid, rng| {
        if let Ok(task) = commissioning(uid, rng) {
            spawner.spawn(task);
        }
    })
}

#[exception]
unsafe fn DefaultHandler(number: i16) {
    if number == UART as i16 {
        on_interrupt(&mut Pl011);
    }
}
