use cortex_m::{interrupt::InterruptNumber, peripheral::NVIC};

/// An interrupt by its number.
#[derive(Clone, Copy)]
pub(crate) struct Line(pub(crate) u16);

// SAFETY: the number is the board's own, of an interrupt that its NVIC has, and does not change.
unsafe impl InterruptNumber for Line {
    fn number(self) -> u16 {
        self.0
    }
}

/// Lets an interrupt through.
pub(crate) fn enable(line: Line) {
    // SAFETY: called once, before the executor runs; no critical section relies on this interrupt being masked.
    unsafe { NVIC::unmask(line) }
}
