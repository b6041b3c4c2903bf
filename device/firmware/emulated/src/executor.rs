//! An executor that sleeps under QEMU.
//!
//! Embassy's own waits with WFE, which QEMU returns from at once: an idle device would take a whole core of the host, and
//! instruction counting would crawl. This one masks interrupts and waits with WFI.

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::{Spawner, raw::Executor};
use static_cell::StaticCell;

static PENDED: AtomicBool = AtomicBool::new(false);

/// Called by tasks that become ready.
#[unsafe(export_name = "__pender")]
fn pend(_context: *mut ()) {
    PENDED.store(true, Ordering::Release);
}

/// Runs what `spawn` spawns, for ever.
pub(crate) fn run(spawn: impl FnOnce(Spawner)) -> ! {
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    let executor: &'static Executor = EXECUTOR.init(Executor::new(core::ptr::null_mut()));
    spawn(executor.spawner());
    loop {
        // SAFETY: `poll` runs here only, and not from within itself.
        unsafe { executor.poll() };
        cortex_m::interrupt::disable();
        // An interrupt that comes now waits, and ends WFI all the same. So nothing is lost between these two, which some
        // processors cannot do in one.
        let is_pended = PENDED.load(Ordering::Acquire);
        PENDED.store(false, Ordering::Release);
        if !is_pended {
            cortex_m::asm::wfi();
        }
        // SAFETY: no critical section is open here.
        unsafe { cortex_m::interrupt::enable() };
    }
}
