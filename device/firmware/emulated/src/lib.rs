//! What the boards that QEMU emulates share: an executor, the time, an interrupt-driven UART, and the page through which
//! the emulator gives them a unique number and a seed.
//!
//! # Never for a real board
//! A seed from outside is no source of random numbers: whoever chooses it knows the key. So this crate, and nothing else,
//! has such a generator, and real boards do not depend on it: a test reads cargo's graph. It would not link there either:
//! the page ([`page`]) is a symbol that only the `memory.x` of emulated boards define.
#![no_std]

mod executor;
mod interrupt;
pub mod led;
pub mod page;
mod time;
pub mod uart;

use embassy_executor::Spawner;

use crate::page::Generator;

/// Starts time and executor of a processor at `hertz`, a multiple of 1000, and hands the board's unique number and
/// generator to `spawn`. Without a page from the emulator there is no randomness, and nothing is started.
pub fn start(hertz: u32, spawn: impl FnOnce(Spawner, [u8; 8], Generator)) -> ! {
    if let (Some((uid, rng)), Some(peripherals)) = (page::take(), cortex_m::Peripherals::take()) {
        time::start(peripherals.SYST, hertz);
        executor::run(|spawner| spawn(spawner, uid, rng))
    }
    loop {
        cortex_m::asm::wfi();
    }
}
