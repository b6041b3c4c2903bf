//! The 16550 of the SmartFusion2's microcontroller subsystem (MMUART 0): registers four bytes apart.

use firmware_emulated::uart::Registers;

const BASE: usize = 0x4000_0000;
/// Receive and transmit; interrupt enable; FIFO control (write) and interrupt identification (read); line control; modem
/// control; line status.
const DATA: usize = 0x00;
const INTERRUPT_ENABLE: usize = 0x04;
const FIFO_CONTROL: usize = 0x08;
const LINE_CONTROL: usize = 0x0C;
const LINE_STATUS: usize = 0x14;

/// Divisor latch access: then 0x00 and 0x04 are the divisor.
const DIVISOR_LATCH: u32 = 0x80;
const EIGHT_BITS: u32 = 3;
const FIFO_ENABLE_AND_CLEAR: u32 = 7;
const ON_RECEIVED_AND_ON_SENT: u32 = 3;
const DATA_READY: u32 = 0x01;
const TRANSMITTER_EMPTY: u32 = 0x20;

/// The registers of MMUART 0.
pub(crate) struct Uart16550;

impl Uart16550 {
    fn read(register: usize) -> u32 {
        // SAFETY: the address is that of a register of MMUART 0, which nothing else in this firmware uses.
        unsafe { ((BASE + register) as *const u32).read_volatile() }
    }

    fn write(register: usize, value: u32) {
        // SAFETY: the same.
        unsafe { ((BASE + register) as *mut u32).write_volatile(value) }
    }
}

impl Registers for Uart16550 {
    fn start(&mut self) {
        // QEMU's divisor is that of 115200 Hz.
        Self::write(LINE_CONTROL, DIVISOR_LATCH | EIGHT_BITS);
        Self::write(DATA, 1);
        Self::write(INTERRUPT_ENABLE, 0);
        Self::write(LINE_CONTROL, EIGHT_BITS);
        Self::write(FIFO_CONTROL, FIFO_ENABLE_AND_CLEAR);
        Self::write(INTERRUPT_ENABLE, ON_RECEIVED_AND_ON_SENT);
    }

    fn acknowledge(&mut self) {
        // Reading the interrupt identification ends "transmitter empty"; "received" ends when all was read.
        Self::read(FIFO_CONTROL);
    }

    fn receive(&mut self) -> Option<u8> {
        (Self::read(LINE_STATUS) & DATA_READY != 0).then(|| Self::read(DATA) as u8)
    }

    fn send(&mut self, byte: u8) -> bool {
        let has_room = Self::read(LINE_STATUS) & TRANSMITTER_EMPTY != 0;
        if has_room {
            Self::write(DATA, byte.into());
        }
        has_room
    }
}
