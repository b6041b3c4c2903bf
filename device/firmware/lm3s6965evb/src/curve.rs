//! P-256 as the firmware of this processor computes it, and nothing else: answers requests that come over UART 0, so that a
//! host can hold it against vectors.
//!
//! | request | answer |
//! |---|---|
//! | `1`, scalar | its point |
//! | `2`, x | the point with an even y |
//! | `3`, scalar, point | the x-coordinate of their product |
//! | `4`, point, digest, signature | nothing: the signature is right |
//!
//! Numbers have 32 bytes, big-endian, points and signatures two of them. Before an answer there is a byte: 1, or 0 where there is
//! no answer. It takes no interrupts and knows no secrets of anybody.
#![no_std]
#![no_main]

mod uart;

use cortex_m_rt::entry;
// What is done after a panic.
use firmware as _;
use firmware_emulated::uart::Registers as _;
use protocol::curve::{Number, Point, point_of, public_key, shared_secret, verifies};

use crate::uart::Pl011;

#[entry]
fn main() -> ! {
    let mut uart = Pl011;
    uart.start();
    loop {
        match number_of::<1>() {
            [b'1'] => answer(public_key(&number_of()).map(both)),
            [b'2'] => answer(point_of(&number_of()).map(both)),
            [b'3'] => answer(shared_secret(&number_of(), &point()).map(|x| [x])),
            [b'4'] => {
                let (key, digest, signature) = (point(), number_of(), number_of());
                answer(verifies(&key, &digest, &signature).then_some([]));
            }
            _ => {}
        }
    }
}

/// Waits for so many bytes.
fn number_of<const LEN: usize>() -> [u8; LEN] {
    core::array::from_fn(|_| {
        loop {
            if let Some(byte) = Pl011.receive() {
                return byte;
            }
        }
    })
}

fn point() -> Point {
    Point { x: number_of(), y: number_of() }
}

fn both(point: Point) -> [Number; 2] {
    [point.x, point.y]
}

fn answer<const LEN: usize>(numbers: Option<[Number; LEN]>) {
    send(numbers.is_some().into());
    numbers.iter().flatten().flatten().for_each(|byte| send(*byte));
}

fn send(byte: u8) {
    while !Pl011.send(byte) {}
}
