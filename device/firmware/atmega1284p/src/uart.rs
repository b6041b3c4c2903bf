//! USART0, 115200 8N1 at 16 MHz: received by interrupt into a ring of 256 bytes, sent by waiting.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::registers::{UBRR0H, UBRR0L, UCSR0A, UCSR0B, UCSR0C, UDR0, sleep_until};

const U2X: u8 = 1;
const UDRE: u8 = 5;
const TXEN: u8 = 3;
const RXEN: u8 = 4;
const RXCIE: u8 = 7;

// One index written by the interrupt, the other by everybody else; each wraps by itself. What does not fit is lost, and
// with it the frame, by its checksum.
static RING: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];
static WRITTEN: AtomicU8 = AtomicU8::new(0);
static READ: AtomicU8 = AtomicU8::new(0);

pub(crate) fn start() {
    UCSR0A.write(1 << U2X);
    UBRR0H.write(0);
    // 16 MHz / 8 / 17 = 117647 bit/s: 2.1 % more than 115200.
    UBRR0L.write(16);
    UCSR0C.write(0b110); // 8N1
    UCSR0B.write(1 << RXEN | 1 << TXEN | 1 << RXCIE);
}

/// Waits for a byte.
pub(crate) fn receive() -> u8 {
    let at = READ.load(Relaxed);
    sleep_until(|| at != WRITTEN.load(Relaxed));
    let byte = RING.get(usize::from(at)).map_or(0, |place| place.load(Relaxed));
    READ.store(at.wrapping_add(1), Relaxed);
    byte
}

pub(crate) fn send(bytes: &[u8]) {
    for byte in bytes {
        while !UCSR0A.has(UDRE) {}
        UDR0.write(*byte);
    }
}

/// A byte was received.
fn take() {
    let byte = UDR0.read();
    let at = WRITTEN.load(Relaxed);
    let next = at.wrapping_add(1);
    if next != READ.load(Relaxed) {
        if let Some(place) = RING.get(usize::from(at)) {
            place.store(byte, Relaxed);
        }
        WRITTEN.store(next, Relaxed);
    }
}

/// USART0 receive complete.
// SAFETY: avr-libc's table of vectors has this name for it.
#[unsafe(no_mangle)]
extern "avr-interrupt" fn __vector_20() {
    take();
}
