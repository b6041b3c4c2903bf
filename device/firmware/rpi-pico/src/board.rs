//! What is the same for the UART and for USB: the flash chip, its unique number, and a seed.

use device::store::Layout;
use device_board::entropy::{self, Unhealthy};
use embassy_rp::{
    flash::{self, Flash},
    pac::{self, rosc::vals::Div},
    peripherals::FLASH,
};
use embassy_time::{Duration, block_for};
use firmware::link_layout;
use zeroize::Zeroizing;

pub(crate) type Chip = Flash<'static, FLASH, flash::Blocking, { 2 << 20 }>;

pub(crate) const LAYOUT: Layout = Layout::smallest::<Chip>(0x1F_6000);
link_layout!(LAYOUT);

/// What a board says whose flash chip is another one.
pub(crate) const NO_UID: &str = "the flash chip has no unique number that is known to be one";

/// Between two raw bits of the ring oscillator.
const SPACING: Duration = Duration::from_micros(100);

/// The unique number of the flash chip. Winbond's have one of 8 bytes; others have none, or a longer one.
pub(crate) fn uid(flash: &mut Chip) -> Option<[u8; 8]> {
    const WINBOND: u32 = 0xEF;
    let mut uid = [0; 8];
    let maker = flash.blocking_jedec_id().ok()? >> 16;
    flash.blocking_unique_id(&mut uid).ok()?;
    (maker == WINBOND).then_some(uid)
}

/// A seed from the ring oscillator, which clocks nothing else.
pub(crate) fn seed() -> Result<Zeroizing<[u8; 32]>, Unhealthy> {
    // The faster it runs, the more jitter there is between two samples: divide by one.
    pac::ROSC.div().write(|w| w.set_div(Div(Div::PASS.0 + 1)));
    entropy::seed(|| {
        block_for(SPACING);
        pac::ROSC.randombit().read().randombit()
    })
}
