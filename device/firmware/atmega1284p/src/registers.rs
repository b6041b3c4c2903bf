//! The registers of the ATmega1284P that are used here (data sheet 8272, "Register Summary").

use core::{
    arch::asm,
    ptr::{read_volatile, write_volatile},
};

/// An 8-bit register.
#[derive(Clone, Copy)]
pub(crate) struct Register(u16);

pub(crate) const TIFR1: Register = Register(0x36);
pub(crate) const EECR: Register = Register(0x3f);
pub(crate) const EEDR: Register = Register(0x40);
pub(crate) const EEARL: Register = Register(0x41);
pub(crate) const EEARH: Register = Register(0x42);
pub(crate) const SMCR: Register = Register(0x53);
pub(crate) const TIMSK1: Register = Register(0x6f);
pub(crate) const TCCR1B: Register = Register(0x81);
pub(crate) const TCNT1L: Register = Register(0x84);
pub(crate) const TCNT1H: Register = Register(0x85);
pub(crate) const UCSR0A: Register = Register(0xc0);
pub(crate) const UCSR0B: Register = Register(0xc1);
pub(crate) const UCSR0C: Register = Register(0xc2);
pub(crate) const UBRR0L: Register = Register(0xc4);
pub(crate) const UBRR0H: Register = Register(0xc5);
pub(crate) const UDR0: Register = Register(0xc6);

impl Register {
    pub(crate) fn read(self) -> u8 {
        // SAFETY: the constants above are the addresses of registers, and reading these breaks nothing that Rust relies on.
        unsafe { read_volatile(self.0 as *const u8) }
    }

    pub(crate) fn write(self, value: u8) {
        // SAFETY: as above; none of them moves memory around.
        unsafe { write_volatile(self.0 as *mut u8, value) }
    }

    pub(crate) fn has(self, bit: u8) -> bool {
        self.read() & 1 << bit != 0
    }
}

pub(crate) fn enable_interrupts() {
    // SAFETY: the handlers of the interrupts that are switched on exist, and share nothing but atomics.
    unsafe { asm!("sei") }
}

/// Sleeps, in idle mode, until an interrupt has brought something about: the UART and the timers go on.
pub(crate) fn sleep_until(mut is_there: impl FnMut() -> bool) {
    SMCR.write(1);
    loop {
        // SAFETY: interrupts are on again soon.
        unsafe { asm!("cli") }
        if is_there() {
            break;
        }
        // SAFETY: sleeping changes no memory. An interrupt that is pending comes after the instruction behind `sei`, so it
        // wakes from this sleep.
        unsafe { asm!("sei", "sleep") }
    }
    SMCR.write(0);
    enable_interrupts();
}

/// Starts to program the byte that EEAR and EEDR name: within four cycles after the permission, or it does not happen.
pub(crate) fn program_eeprom(mode: u8) {
    // SAFETY: EECR is at 0x1f of the I/O space, SREG at 0x3f; interrupts are on again afterwards if they were.
    unsafe {
        asm!(
            "in {sreg}, 0x3f",
            "cli",
            "out 0x1f, {permission}",
            "sbi 0x1f, 1",
            "out 0x3f, {sreg}",
            sreg = out(reg) _,
            permission = in(reg) mode | 1 << 2,
        );
    }
}

/// Lets the watchdog interrupt every 16 ms, or stops it.
pub(crate) fn watchdog(is_on: bool) {
    let mode: u8 = if is_on { 1 << 6 } else { 0 };
    // SAFETY: WDTCSR is at 0x60. It takes a new mode within four cycles after the permission; `wdr` keeps it from firing.
    unsafe {
        asm!(
            "in {sreg}, 0x3f",
            "cli",
            "wdr",
            "sts 0x60, {permission}",
            "sts 0x60, {mode}",
            "out 0x3f, {sreg}",
            sreg = out(reg) _,
            permission = in(reg) 1_u8 << 4 | 1 << 3,
            mode = in(reg) mode,
        );
    }
}
