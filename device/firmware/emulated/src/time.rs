//! embassy-time over SysTick: an interrupt each millisecond, microseconds by the counter.

use core::{
    cell::{Cell, RefCell},
    task::Waker,
};

use cortex_m::peripheral::{SCB, SYST, syst::SystClkSource};
use cortex_m_rt::exception;
use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

struct SysTick {
    /// Cycles of a millisecond.
    cycles: Mutex<Cell<u32>>,
    milliseconds: Mutex<Cell<u64>>,
    /// The newest time that was told: it never goes backwards.
    told: Mutex<Cell<u64>>,
    queue: Mutex<RefCell<Queue>>,
    next: Mutex<Cell<u64>>,
}

embassy_time_driver::time_driver_impl!(static DRIVER: SysTick = SysTick {
    cycles: Mutex::new(Cell::new(1)),
    milliseconds: Mutex::new(Cell::new(0)),
    told: Mutex::new(Cell::new(0)),
    queue: Mutex::new(RefCell::new(Queue::new())),
    next: Mutex::new(Cell::new(u64::MAX)),
});

/// Lets the time begin. The processor runs at `hertz`, a multiple of 1000.
pub(crate) fn start(mut timer: SYST, hertz: u32) {
    let cycles = hertz / 1000;
    critical_section::with(|section| DRIVER.cycles.borrow(section).set(cycles));
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(cycles.saturating_sub(1));
    timer.clear_current();
    timer.enable_interrupt();
    timer.enable_counter();
}

impl SysTick {
    fn microseconds(&self, section: CriticalSection<'_>) -> u64 {
        let cycles = self.cycles.borrow(section).get();
        let mut milliseconds = self.milliseconds.borrow(section).get();
        let mut left = SYST::get_current();
        if SCB::is_pendst_pending() {
            // It wrapped around, and the interrupt waits for the end of this critical section.
            milliseconds = milliseconds.saturating_add(1);
            left = SYST::get_current();
        }
        let passed = u64::from(cycles.saturating_sub(1).saturating_sub(left));
        let part = passed.saturating_mul(1000).checked_div(cycles.into()).unwrap_or(0);
        let told = self.told.borrow(section);
        told.set(told.get().max(milliseconds.saturating_mul(1000).saturating_add(part)));
        told.get()
    }

    fn wake_due(&self, section: CriticalSection<'_>) {
        let now = self.microseconds(section);
        if now >= self.next.borrow(section).get() {
            let next = self.queue.borrow_ref_mut(section).next_expiration(now);
            self.next.borrow(section).set(next);
        }
    }
}

impl Driver for SysTick {
    fn now(&self) -> u64 {
        critical_section::with(|section| self.microseconds(section))
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|section| {
            let mut queue = self.queue.borrow_ref_mut(section);
            if queue.schedule_wake(at, waker) {
                let next = queue.next_expiration(self.microseconds(section));
                self.next.borrow(section).set(next);
            }
        });
    }
}

#[exception]
fn SysTick() {
    critical_section::with(|section| {
        let milliseconds = DRIVER.milliseconds.borrow(section);
        milliseconds.set(milliseconds.get().saturating_add(1));
        DRIVER.wake_due(section);
    });
}
