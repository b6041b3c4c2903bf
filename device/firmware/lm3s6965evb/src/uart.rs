//! The PL011 of the Stellaris (UART 0).

use firmware_emulated::uart::Registers;

const BASE: usize = 0x4000_C000;
const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const INTEGER_DIVISOR: usize = 0x24;
const LINE_CONTROL: usize = 0x2C;
const CONTROL: usize = 0x30;
const INTERRUPT_MASK: usize = 0x38;
const INTERRUPT_CLEAR: usize = 0x44;
/// Run-mode clock gating: UART 0 is bit 0.
const CLOCK_GATING: usize = 0x400F_E104;

const RECEIVE_EMPTY: u32 = 0x10;
const TRANSMIT_FULL: u32 = 0x20;
const ENABLE_BOTH_WAYS: u32 = 0x301;
const EIGHT_BITS_AND_FIFOS: u32 = 0x70;
/// On received, on sent, on a pause while there is something in the FIFO.
const INTERRUPTS: u32 = 0x10 | 0x20 | 0x40;

/// The registers of UART 0.
pub(crate) struct Pl011;

fn read(address: usize) -> u32 {
    // SAFETY: the address is that of UART 0 or of its clock, which nothing else in this firmware uses.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: usize, value: u32) {
    // SAFETY: the same.
    unsafe { (address as *mut u32).write_volatile(value) }
}

impl Registers for Pl011 {
    fn start(&mut self) {
        write(CLOCK_GATING, read(CLOCK_GATING) | 1);
        // 50 MHz / (16 * 27) is 115741 baud, 0.5 % too fast. QEMU does not look at it.
        write(BASE + INTEGER_DIVISOR, 27);
        write(BASE + LINE_CONTROL, EIGHT_BITS_AND_FIFOS);
        write(BASE + CONTROL, ENABLE_BOTH_WAYS);
        write(BASE + INTERRUPT_MASK, INTERRUPTS);
    }

    fn acknowledge(&mut self) {
        write(BASE + INTERRUPT_CLEAR, 0x7FF);
    }

    fn receive(&mut self) -> Option<u8> {
        (read(BASE + FLAGS) & RECEIVE_EMPTY == 0).then(|| read(BASE + DATA) as u8)
    }

    fn send(&mut self, byte: u8) -> bool {
        let has_room = read(BASE + FLAGS) & TRANSMIT_FULL == 0;
        if has_room {
            write(BASE + DATA, byte.into());
        }
        has_room
    }
}
