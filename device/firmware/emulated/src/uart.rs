//! One interrupt-driven UART as embedded-io-async, over the registers of the board's kind.

use core::{cell::RefCell, convert::Infallible, future::poll_fn, task::Poll};

use critical_section::Mutex;
use embassy_sync::waitqueue::AtomicWaker;
use embedded_io_async::{ErrorType, Read, Write};
use heapless::Deque;

use crate::interrupt::{self, Line};

/// Bytes that wait for being read. What comes on top is lost, as on any UART.
const RECEIVED: usize = 256;

static QUEUE: Mutex<RefCell<Deque<u8, RECEIVED>>> = Mutex::new(RefCell::new(Deque::new()));
static READER: AtomicWaker = AtomicWaker::new();
static WRITER: AtomicWaker = AtomicWaker::new();

/// What a kind of UART can do.
pub trait Registers {
    /// Sets 115200 8N1, and lets it interrupt when it has received and when it can send.
    fn start(&mut self);

    /// Takes note of an interrupt.
    fn acknowledge(&mut self);

    /// Takes a byte that was received.
    fn receive(&mut self) -> Option<u8>;

    /// Sends a byte; false if there is no room.
    fn send(&mut self, byte: u8) -> bool;
}

/// The board's UART.
pub struct Uart<R> {
    registers: R,
}

impl<R: Registers> Uart<R> {
    /// Starts the UART with the interrupt `number`. The board's handler of that calls [`on_interrupt`].
    pub fn start(mut registers: R, number: u16) -> Self {
        registers.start();
        interrupt::enable(Line(number));
        Uart { registers }
    }
}

/// Moves on what was received, and wakes whoever waits.
pub fn on_interrupt(registers: &mut impl Registers) {
    registers.acknowledge();
    critical_section::with(|section| {
        let mut queue = QUEUE.borrow_ref_mut(section);
        while let Some(byte) = registers.receive() {
            let _ = queue.push_back(byte);
        }
    });
    READER.wake();
    WRITER.wake();
}

impl<R> ErrorType for Uart<R> {
    type Error = Infallible;
}

impl<R: Registers> Read for Uart<R> {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        poll_fn(|context| {
            READER.register(context.waker());
            critical_section::with(|section| {
                let mut queue = QUEUE.borrow_ref_mut(section);
                let mut len = 0;
                for (place, byte) in bytes.iter_mut().zip(core::iter::from_fn(|| queue.pop_front())) {
                    *place = byte;
                    len += 1;
                }
                if len == 0 && !bytes.is_empty() { Poll::Pending } else { Poll::Ready(Ok(len)) }
            })
        })
        .await
    }
}

impl<R: Registers> Write for Uart<R> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        poll_fn(|context| {
            WRITER.register(context.waker());
            let sent = bytes.iter().take_while(|byte| self.registers.send(**byte)).count();
            if sent == 0 && !bytes.is_empty() { Poll::Pending } else { Poll::Ready(Ok(sent)) }
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
