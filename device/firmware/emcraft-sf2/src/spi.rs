//! SPI 0 of the SmartFusion2's microcontroller subsystem, polled.

const BASE: usize = 0x4000_1000;
const CONTROL: usize = 0x00;
const FRAME_SIZE: usize = 0x04;
const STATUS: usize = 0x08;
const RECEIVED: usize = 0x10;
const TRANSMIT: usize = 0x14;
const SLAVE_SELECT: usize = 0x1C;

const ENABLE: u32 = 1 << 0;
const MASTER: u32 = 1 << 1;
/// Chip select stays active until all frames that [`CONTROL`] counts have been transferred.
const SELECT_FOR_ALL_FRAMES: u32 = 1 << 26;
const FRAME_COUNT: u32 = 8;
const NOTHING_RECEIVED: u32 = 0x40;

/// The bus, with the flash chip at slave select 0.
pub(crate) struct Spi(());

impl Spi {
    /// Turns the controller on. To be called once.
    pub(crate) fn start() -> Self {
        write(FRAME_SIZE, 8);
        Spi(())
    }

    /// Sends `command`, then `data`, then reads `answer`, all under one chip select; 65535 bytes at most together.
    pub(crate) fn transfer(&mut self, command: &[u8], data: &[u8], answer: &mut [u8]) {
        let frames = command.len() + data.len() + answer.len();
        write(CONTROL, ENABLE | MASTER | SELECT_FOR_ALL_FRAMES | ((frames as u32 & 0xFFFF) << FRAME_COUNT));
        write(SLAVE_SELECT, 1);
        for byte in command.iter().chain(data) {
            exchange(*byte);
        }
        for byte in answer {
            *byte = exchange(0);
        }
        write(SLAVE_SELECT, 0);
    }
}

fn exchange(byte: u8) -> u8 {
    write(TRANSMIT, byte.into());
    while read(STATUS) & NOTHING_RECEIVED != 0 {}
    read(RECEIVED) as u8
}

fn read(register: usize) -> u32 {
    // SAFETY: the address is that of a register of SPI 0, which nothing else in this firmware uses.
    unsafe { ((BASE + register) as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: the same.
    unsafe { ((BASE + register) as *mut u32).write_volatile(value) }
}
