//! USART0, 115200 8N1 at 16 MHz: received by interrupt into a ring of 256 bytes, sent by waiting.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use crate::registers::{
    TCCR1B, TCNT1H, TCNT1L, TIFR1, TIMSK1, UBRR0H, UBRR0L, UCSR0A, UCSR0B, UCSR0C, UDR0, sleep_until,
};

const U2X: u8 = 1;
const UDRE: u8 = 5;
const TXEN: u8 = 3;
const RXEN: u8 = 4;
const RXCIE: u8 = 7;
const TOIE: u8 = 0;
const TOV: u8 = 0;

// One index written by the interrupt, the other by everybody else; each wraps by itself. What does not fit is lost, and
// with it the frame, by its checksum.
static RING: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];
static WRITTEN: AtomicU8 = AtomicU8::new(0);
static READ: AtomicU8 = AtomicU8::new(0);

/// Whether the time to wait for a byte is over.
static IS_OVER: AtomicBool = AtomicBool::new(false);

pub(crate) fn start() {
    UCSR0A.write(1 << U2X);
    UBRR0H.write(0);
    // 16 MHz / 8 / 17 = 117647 bit/s: 2.1 % more than 115200.
    UBRR0L.write(16);
    UCSR0C.write(0b110); // 8N1
    UCSR0B.write(1 << RXEN | 1 << TXEN | 1 << RXCIE);
}

/// Waits for a byte.
pub fn receive() -> u8 {
    sleep_until(is_there);
    take_out()
}

/// Waits for a byte, but no longer than 4 s: until a timer of 16 bits has counted crystal cycles, 1024 at a time.
pub fn receive_soon() -> Option<u8> {
    IS_OVER.store(false, Relaxed);
    TCNT1H.write(0);
    TCNT1L.write(0);
    // One from when the timer was in use for something else.
    TIFR1.write(1 << TOV);
    TCCR1B.write(0b101);
    TIMSK1.write(1 << TOIE);
    sleep_until(|| is_there() || IS_OVER.load(Relaxed));
    TIMSK1.write(0);
    TCCR1B.write(0);
    is_there().then(take_out)
}

fn is_there() -> bool {
    READ.load(Relaxed) != WRITTEN.load(Relaxed)
}

fn take_out() -> u8 {
    let at = READ.load(Relaxed);
    let byte = RING.get(usize::from(at)).map_or(0, |place| place.load(Relaxed));
    READ.store(at.wrapping_add(1), Relaxed);
    byte
}

/// Sends.
pub fn send(bytes: &[u8]) {
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

/// Timer 1 overflow.
// SAFETY: avr-libc's table of vectors has this name for it.
#[unsafe(no_mangle)]
extern "avr-interrupt" fn __vector_15() {
    IS_OVER.store(true, Relaxed);
}
