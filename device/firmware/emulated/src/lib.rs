//! What the boards that QEMU emulates share: an executor, the time, an interrupt-driven UART, and the page through which
//! the emulator gives them a unique number and a seed.
//!
//! # Never for a real board
//! A seed from outside is no source of random numbers: whoever chooses it knows the key. So this crate, and nothing else,
//! has such a generator, and real boards do not depend on it: a test reads cargo's graph. It would not link there either:
//! the page ([`page`]) is a symbol that only the `memory.x` of emulated boards define.
#![no_std]

pub mod executor;
mod interrupt;
pub mod led;
pub mod page;
mod time;
pub mod uart;

pub use time::{Cycles, start as start_time};
